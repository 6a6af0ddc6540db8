/* faulthandler: the Python traceback of a process that dies of a signal.

   Importing the module arms handlers for SIGSEGV, SIGFPE, SIGBUS, SIGILL
   and SIGABRT.  When one of them comes, the handler writes the traceback of
   every Python thread to standard error, puts the previous action back and
   sends the same signal, with the same siginfo, to the same thread.

   Three promises, in this order:

   1. Never make it worse.  A healthy process is not killed, not hung, and
      nothing is written where nobody asked for it.  A dying one dies as it
      would have died without us.
   2. Always a report.  What is damaged is marked, the rest is printed.
   3. The most important first: what happened, where in Python, the rest.

   The laws of the crash half, everything between the two bright lines:

   - It calls only what POSIX lists as async-signal-safe, or a bare system
     call.  No allocation, no lock, no stdio, no reference count.
   - It never follows a pointer that it did not make: mem_read() copies, or
     fails.  What was read may still be nonsense, so every number is checked
     and every loop has an end.
   - It never waits without a bound.  A poorer report beats a hang.
   - Threads run while they are looked at.  An aligned word is read whole; it
     may be stale.  A stack that changed under our feet is read again.
   - Code that cannot keep these laws, libbacktrace, runs in a child process
     that may fault, loop or be killed (section 11).

   The map.  Each section uses only what stands above it, the prefix of a
   name tells the section, and handlers are called on_*.

    1. Platform            includes, feature tests, what Linux adds to POSIX
    2. CPython layouts     layout_   the questions we ask CPython
    3. State               what is armed, and who may write it
    4. Memory              mem_      copy n bytes or fail, never a fault
    5. Output              out_      one buffer, whole lines, bounded waiting
    6. Strings             str_      a str object, as ASCII
    7. Code objects        code_     name, file and line
    8. Frames              frame_    one Python stack
    9. Threads             thread_   all of them, and which one is ours
   10. Fault               fault_    the signal table, and why one came
   11. C stack             native_   C frames and their symbols
   12. Extension modules   modules_  the list of sys.modules
   13. Report              report_   the one door
   14. Signals             sig_      install, restore, re-raise
   15. Alternate stacks    stack_    one for each thread that Python starts
   16. File arguments      file_     object, descriptor or path to a sink
   17. Fatal signals       fatal_    the handler, enable, disable
   18. Dump now            dump_     dump_traceback, dump_c_stack
   19. Watchdog            later_    dump_traceback_later
   20. User signals        user_     register, unregister
   21. Contexts            context_  context()
   22. Crash on purpose    crash_    sigsegv and its kin
   23. Module              module_   self-test, table, exec, free
*/

/* ==== 1. Platform ==== */

/* Fortified longjmp() refuses to leave an alternate stack for a frame that
   is "above" it, which is what a recovered read does. */
#undef _FORTIFY_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#if PY_VERSION_HEX < 0x030B0000
#  include <frameobject.h>
#endif

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef __linux__
#  error "faulthandler needs Linux"
#endif
#if PY_VERSION_HEX < 0x03080000
#  error "faulthandler needs CPython 3.8 or newer"
#endif
#ifdef Py_GIL_DISABLED
#  error "faulthandler does not support free-threaded CPython"
#endif
#if __has_include(<execinfo.h>)
#  include <execinfo.h>
#  define HAVE_BACKTRACE 1
#endif
#if __has_include(<unwind.h>)
#  include <unwind.h>
#  define HAVE_UNWIND 1
#endif
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#  if __GLIBC_PREREQ(2, 35) && !FAULTHANDLER_TEST_OLD_LOADER
#    define HAVE_DL_FIND_OBJECT 1
#  endif
#endif
/* Set by setup.py where the library and its header are there. */
#if FAULTHANDLER_LIBBACKTRACE
#  include <backtrace.h>
#endif

/* The loaded objects, asked of the loader.  Where libbacktrace is there the
   linker gives the usual name to what it is told instead. */
#if FAULTHANDLER_LIBBACKTRACE
int __real_dl_iterate_phdr(int (*)(struct dl_phdr_info *, size_t, void *),
                           void *);
#  define platform_list_objects __real_dl_iterate_phdr
#else
#  define platform_list_objects dl_iterate_phdr
#endif
#ifndef AT_MINSIGSTKSZ
#  define AT_MINSIGSTKSZ 51
#endif
#ifndef SYS_openat2
#  define SYS_openat2 437
#endif
#ifndef RWF_NOWAIT
#  define RWF_NOWAIT 8
#endif

/* The initial-exec model makes a thread-local variable a plain load: the
   default model allocates on a thread's first touch, in a handler. */
#define THREAD_LOCAL \
    static __thread __attribute__((tls_model("initial-exec")))

/* Functions whose undefined behaviour is the point: a copy of memory that
   may be gone, a crash on purpose. */
#define UNSANITIZED \
    __attribute__((no_sanitize("address", "undefined"), noinline))

/* The calling thread's id.  A system call each time: a cached one would be
   the parent's in a forked child. */
static pid_t
platform_thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* Has this thread of ours ended?  Also true of a thread of another process:
   a vfork() child shares our memory, and leaves its claims in it. */
static bool
platform_thread_is_gone(pid_t tid)
{
    return syscall(SYS_tgkill, getpid(), tid, 0) < 0 && errno == ESRCH;
}

/* Nanoseconds of a clock that never jumps. */
static int64_t
platform_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* How long it has been since then.  Of a time that this thread stood still, on
   a busy machine or in a stopped process, little is counted: what it waits for
   stood still as well. */
#define PLATFORM_STILL_NS 100000000

static int64_t
platform_waited(int64_t since)
{
    int64_t took = platform_now() - since;
    return took < PLATFORM_STILL_NS ? took : PLATFORM_STILL_NS;
}

static void
platform_sleep(int64_t nanoseconds)
{
    struct timespec t = {.tv_sec = (time_t)(nanoseconds / 1000000000),
                         .tv_nsec = (long)(nanoseconds % 1000000000)};
    nanosleep(&t, NULL);
}

/* Copy n bytes of our own memory with the kernel's eyes.  Returns 0, or -1
   with errno when not all of it could be read. */
static int
platform_read_self(pid_t pid, void *dst, const void *src, size_t n)
{
    struct iovec to = {.iov_base = dst, .iov_len = n};
    struct iovec from = {.iov_base = (void *)(uintptr_t)src, .iov_len = n};
    ssize_t got = process_vm_readv(pid, &to, 1, &from, 1, 0);
    return got == (ssize_t)n ? 0 : -1;
}

/* Is this the handler of a signal at the moment? */
static bool
platform_handler_is(int signum, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction now;
    return sigaction(signum, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO)
           && now.sa_sigaction == handler;
}

/* Send a signal with this very siginfo to the calling thread, to be
   delivered once it is unblocked.  Not raise(): it makes a siginfo of its
   own.  Not kill(): it may pick the main thread. */
static int
platform_queue_signal(int signum, siginfo_t *info)
{
    return (int)syscall(SYS_rt_tgsigqueueinfo, getpid(),
                        platform_thread_id(), signum, info);
}

/* Where a thread was interrupted, its stack and its frame pointer. */
struct platform_place {
    uintptr_t pc, sp, fp;
};

static struct platform_place
platform_get_place(const void *context)
{
    const ucontext_t *uc = context;
#if defined(__x86_64__)
    return (struct platform_place) {
        (uintptr_t)uc->uc_mcontext.gregs[REG_RIP],
        (uintptr_t)uc->uc_mcontext.gregs[REG_RSP],
        (uintptr_t)uc->uc_mcontext.gregs[REG_RBP],
    };
#elif defined(__aarch64__)
    return (struct platform_place) {
        (uintptr_t)uc->uc_mcontext.pc, (uintptr_t)uc->uc_mcontext.sp,
        (uintptr_t)uc->uc_mcontext.regs[29],
    };
#else
    (void)uc;
    return (struct platform_place) {0, 0, 0};
#endif
}

/* Change it.  The unwinder then starts there, and so would the thread: to be
   put back before the handler returns. */
static void
platform_set_place(void *context, struct platform_place place)
{
    ucontext_t *uc = context;
#if defined(__x86_64__)
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)place.pc;
    uc->uc_mcontext.gregs[REG_RSP] = (greg_t)place.sp;
    uc->uc_mcontext.gregs[REG_RBP] = (greg_t)place.fp;
#elif defined(__aarch64__)
    uc->uc_mcontext.pc = place.pc;
    uc->uc_mcontext.sp = place.sp;
    uc->uc_mcontext.regs[29] = place.fp;
#else
    (void)uc, (void)place;
#endif
}

/* What the processor said of a fault: the number of its exception, what was
   tried at which address, and the general registers as instructions number
   them.  Of a signal that was sent, what it said last. */
enum platform_access {
    PLATFORM_UNKNOWN, PLATFORM_READ, PLATFORM_WRITE, PLATFORM_EXECUTE
};

#if defined(__x86_64__)
#  define PLATFORM_IS_X86_64 true
#  define PLATFORM_REGISTERS 16
#elif defined(__aarch64__)
#  define PLATFORM_IS_X86_64 false
#  define PLATFORM_REGISTERS 31
#else
#  define PLATFORM_IS_X86_64 false
#  define PLATFORM_REGISTERS 1
#endif

struct platform_fault {
    int trap;                   /* -1 where the kernel does not tell */
    enum platform_access access;
    uintptr_t address;
    uintptr_t registers[PLATFORM_REGISTERS];
};

static void
platform_get_fault(const void *context, struct platform_fault *fault)
{
    const ucontext_t *uc = context;
    memset(fault, 0, sizeof *fault);
    fault->trap = -1;
#if defined(__x86_64__)
    static const int order[] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
        REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14,
        REG_R15,
    };
    const greg_t *gregs = uc->uc_mcontext.gregs;
    for (size_t i = 0; i < PLATFORM_REGISTERS; i++) {
        fault->registers[i] = (uintptr_t)gregs[order[i]];
    }
    fault->trap = (int)gregs[REG_TRAPNO];
    fault->address = (uintptr_t)gregs[REG_CR2];
    if (fault->trap == 14) {
        fault->access = gregs[REG_ERR] & 16 ? PLATFORM_EXECUTE
                        : gregs[REG_ERR] & 2 ? PLATFORM_WRITE : PLATFORM_READ;
    }
#elif defined(__aarch64__)
    for (size_t i = 0; i < PLATFORM_REGISTERS; i++) {
        fault->registers[i] = (uintptr_t)uc->uc_mcontext.regs[i];
    }
    fault->address = (uintptr_t)uc->uc_mcontext.fault_address;
    const unsigned char *record =
        (const unsigned char *)uc->uc_mcontext.__reserved;
    const unsigned char *end = record + sizeof uc->uc_mcontext.__reserved;
    struct { uint32_t magic, size; uint64_t value; } head;
    while (record + sizeof head <= end) {
        memcpy(&head, record, sizeof head);
        if (head.magic == 0 || head.size < 8) {
            break;
        }
        if (head.magic == 0x45535201) {         /* the syndrome register */
            unsigned kind = (unsigned)(head.value >> 26) & 63;
            fault->access = kind == 0x20 ? PLATFORM_EXECUTE
                            : kind != 0x24 ? PLATFORM_UNKNOWN
                            : head.value & 64 ? PLATFORM_WRITE : PLATFORM_READ;
        }
        record += head.size;
    }
#else
    (void)uc;
#endif
}

/* The name of a general register. */
static const char *
platform_register_name(size_t number)
{
#if defined(__x86_64__)
    static const char *const names[] = {
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9",
        "r10", "r11", "r12", "r13", "r14", "r15",
    };
#elif defined(__aarch64__)
    static const char *const names[] = {
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10",
        "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20",
        "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
    };
#else
    static const char *const names[] = {"?"};
#endif
    return names[number];
}

/* A handler starts with the flags of what it interrupted.  The one that makes
   misaligned reads faults is not for us. */
static void
platform_clear_flags(void)
{
#if defined(__x86_64__)
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64()
                                   & ~(uint64_t)0x40000);
#endif
}

/* Call a function on another stack, which grows down from top.  Returns false
   where we do not know how.  It keeps a frame pointer, to be unwound by. */
__attribute__((noinline)) static bool
platform_call_on(char *top, void (*function)(void *), void *argument)
{
#if defined(__x86_64__)
    __asm__ volatile (
        "movq %%rsp, %%r12\n\t"
        "movq %[top], %%rsp\n\t"
        "callq *%[function]\n\t"
        "movq %%r12, %%rsp"
        : "+D" (argument), [function] "+a" (function), [top] "+d" (top)
        : "r" (__builtin_frame_address(0))
        : "rcx", "rsi", "r8", "r9", "r10", "r11", "r12", "memory", "cc",
          "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
          "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
          "xmm15");
    return true;
#else
    (void)top, (void)function, (void)argument;
    return false;
#endif
}

/* Load what backtrace() needs, which its first call does by dlopen(); a later
   one, in a handler, only unwinds. */
static void
platform_backtrace_init(void)
{
#if HAVE_BACKTRACE
    void *pcs[2];
    backtrace(pcs, 2);
#endif
}

/* The return addresses on the calling thread's stack, the newest first.
   Returns how many there are, 0 where they cannot be had. */
static size_t
platform_backtrace(void **pcs, int n)
{
#if HAVE_BACKTRACE
    int count = backtrace(pcs, n);
    return count > 0 ? (size_t)count : 0;
#else
    (void)pcs, (void)n;
    return 0;
#endif
}

/* One frame of a C stack: where it was left, and its lowest address, which is
   where the one before it ends. */
struct platform_frame {
    uintptr_t pc;               /* 0: behind the first frame of the thread */
    uintptr_t sp;               /* and, in its lowest bits: */
#define PLATFORM_INTERRUPTED 1u    /* by a signal: pc was not executed yet */
#define PLATFORM_AFTER_GAP 2u      /* newer frames may be missing */
#define PLATFORM_BITS 7u
};

struct platform_unwinding {
    struct platform_frame *frames;
    size_t count, max;
    uintptr_t fp;               /* the last one's frame pointer register */
};

#if HAVE_UNWIND
/* The library that backtrace() uses, which does not tell the addresses of the
   frames.  Opened when arming: linked to, it would be loaded by every
   import. */
static _Unwind_Reason_Code (*platform_walk)(_Unwind_Trace_Fn, void *);
static _Unwind_Word (*platform_walk_pc)(struct _Unwind_Context *, int *);
static _Unwind_Word (*platform_walk_sp)(struct _Unwind_Context *);
static _Unwind_Word (*platform_walk_register)(struct _Unwind_Context *, int);
static void *(*platform_walk_function)(void *);

/* The frame pointer, as DWARF numbers registers. */
#if defined(__aarch64__)
#  define PLATFORM_FP 29
#else
#  define PLATFORM_FP 6
#endif

static _Unwind_Reason_Code
platform_on_frame(struct _Unwind_Context *context, void *argument)
{
    struct platform_unwinding *u = argument;
    int interrupted = 0;
    if (u->count == u->max) {
        return _URC_END_OF_STACK;
    }
    struct platform_frame *frame = &u->frames[u->count++];
    frame->pc = (uintptr_t)platform_walk_pc(context, &interrupted);
    frame->sp = ((uintptr_t)platform_walk_sp(context)
                 & ~(uintptr_t)PLATFORM_BITS)
                | (interrupted ? PLATFORM_INTERRUPTED : 0);
    u->fp = (uintptr_t)platform_walk_register(context, PLATFORM_FP);
    return _URC_NO_REASON;
}
#endif

static void
platform_unwind_init(void)
{
    platform_backtrace_init();
#if HAVE_UNWIND
    void *library = platform_walk != NULL ? NULL
                    : dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        *(void **)&platform_walk_pc = dlsym(library, "_Unwind_GetIPInfo");
        *(void **)&platform_walk_sp = dlsym(library, "_Unwind_GetCFA");
        *(void **)&platform_walk_register = dlsym(library, "_Unwind_GetGR");
        *(void **)&platform_walk_function =
            dlsym(library, "_Unwind_FindEnclosingFunction");
        *(void **)&platform_walk = dlsym(library, "_Unwind_Backtrace");
    }
    if (platform_walk_pc == NULL || platform_walk_sp == NULL
        || platform_walk_register == NULL || platform_walk_function == NULL) {
        platform_walk = NULL;
    }
#endif
}

/* Note the frames of the calling thread's C stack, the newest first; none
   where they cannot be had.  May fault where the stack was overwritten: the
   frames before that are noted then. */
static void
platform_unwind(struct platform_unwinding *u)
{
    u->count = 0;
#if HAVE_UNWIND
    if (platform_walk != NULL) {
        platform_walk(platform_on_frame, u);
    }
#endif
}

/* Where the function begins that an address is in, as the unwinder's tables
   say; 0 if it is in none.  A part that the compiler put elsewhere counts as a
   function. */
static uintptr_t
platform_find_start(uintptr_t pc)
{
#if HAVE_UNWIND
    return platform_walk == NULL ? 0
           : (uintptr_t)platform_walk_function((void *)pc);
#else
    (void)pc;
    return 0;
#endif
}

/* The code of an exported function, all 0 if it is not known. */
struct platform_code {
    uintptr_t start, end;
};

static struct platform_code
platform_find_code(const char *name)
{
    Dl_info info;
    ElfW(Sym) *symbol = NULL;
    void *function = dlsym(RTLD_DEFAULT, name);
    if (function == NULL
        || !dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT)
        || symbol == NULL || info.dli_saddr != function) {
        return (struct platform_code) {0, 0};
    }
    return (struct platform_code) {
        (uintptr_t)function, (uintptr_t)function + symbol->st_size,
    };
}

/* Find the object that holds an address: the loader's record, and where its
   mapping begins.  Returns false if there is none, or if the loader has no
   function for that.  Not dladdr(): it takes the loader's lock, and waits for
   another thread's dlopen(). */
static bool
platform_find_object(uintptr_t pc, uintptr_t *record, uintptr_t *start)
{
#if HAVE_DL_FIND_OBJECT
    struct dl_find_object found;
    if (_dl_find_object((void *)pc, &found) == 0) {
        *record = (uintptr_t)found.dlfo_link_map;
        *start = (uintptr_t)found.dlfo_map_start;
        return true;
    }
#else
    (void)pc, (void)record, (void)start;
#endif
    return false;
}

/* The first record of the loader's list, 0 where it is not known. */
static uintptr_t
platform_all_objects(void)
{
#if defined(__GLIBC__)
    return (uintptr_t)_r_debug.r_map;
#else
    return 0;
#endif
}

/* The same, to be searched where the loader has no such function; 0 where it
   has. */
static uintptr_t
platform_first_object(void)
{
#if HAVE_DL_FIND_OBJECT
    return 0;
#else
    return platform_all_objects();
#endif
}

/* Where the headers of the program's segments are. */
static uintptr_t
platform_program_headers(void)
{
    return (uintptr_t)getauxval(AT_PHDR);
}

#if FAULTHANDLER_LIBBACKTRACE
/* Is a copy of this process made soon?  2 MiB of page tables, which map 1 GiB
   of small pages, were seen to take 23 to 65 ms. */
#define PLATFORM_COPIED_KIB (64 * 1024)

static bool
platform_is_copied_soon(void)
{
    static const char name[] = "\nVmPTE:";
    char text[4096] = "";
    uint64_t kib = 0;
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    for (ssize_t i = 0; i + (ssize_t)sizeof name < n; i++) {
        if (memcmp(text + i, name, sizeof name - 1) == 0) {
            const char *c = text + i + sizeof name - 1;
            for (; *c == ' ' || *c == '\t'; c++) {
            }
            for (; *c >= '0' && *c <= '9'; c++) {
                kib = 10 * kib + (uint64_t)(*c - '0');
            }
        }
    }
    /* Not known: a page of 4 KiB takes 8 bytes. */
    struct rusage usage;
    if (kib == 0 && getrusage(RUSAGE_SELF, &usage) == 0) {
        kib = (uint64_t)usage.ru_maxrss / 512;
    }
    return kib > 0 && kib <= PLATFORM_COPIED_KIB;
}

/* Run a function in a process of its own: a copy of this one, with the calling
   thread alone, on another stack.  Not fork(), which runs handlers and takes
   locks.  The child's end sends no signal, and only a wait for such children
   (__WALL) reaps it.  Returns its process id, -1 where there can be none. */
static pid_t
platform_spawn(int (*run)(void *), char *stack, size_t size, void *argument)
{
    return platform_is_copied_soon() ? clone(run, stack + size, 0, argument)
                                     : -1;
}

/* Has a child ended?  It is reaped by that. */
static bool
platform_child_has_ended(pid_t pid)
{
    return waitpid(pid, NULL, WNOHANG | __WALL) != 0;
}

/* A fault in a child.  Not left to the kernel, which logs it. */
UNSANITIZED static void
on_child_fault(int signum)
{
    (void)signum;
    _exit(1);
}

/* Open a file in a child.  Where there are no descriptors left it closes some
   of its own, which are copies. */
static int
platform_child_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 && errno == EMFILE) {
        for (int i = 0; i < 8; i++) {
            close(i);
        }
        fd = open(path, flags | O_CLOEXEC);
    }
    return fd;
}

/* Allow this much memory on top of what there is, no less and no more.  Where
   it is short, the kernel is to end the child and not us. */
static void
platform_child_limit_memory(size_t more)
{
    struct rlimit limit;
    char text[32] = "";
    uint64_t pages = 0;
    int fd = platform_child_open("/proc/self/statm", O_RDONLY);
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0
        && getrlimit(RLIMIT_AS, &limit) == 0) {
        for (const char *c = text; *c >= '0' && *c <= '9'; c++) {
            pages = 10 * pages + (uint64_t)(*c - '0');
        }
        uint64_t bytes = pages * getauxval(AT_PAGESZ) + more;
        limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
        setrlimit(RLIMIT_AS, &limit);
    }
    close(fd);
    fd = platform_child_open("/proc/self/oom_score_adj", O_WRONLY);
    (void)!write(fd, "1000", 4);
    close(fd);
}

/* First in such a child.  A fault ends it, without a core; so does its
   parent's end, and much work. */
static void
platform_child_begin(pid_t parent, rlim_t cpu_seconds, size_t more_memory)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_handler = on_child_fault};
    struct rlimit limit = {cpu_seconds, cpu_seconds};
    action.sa_flags = SA_ONSTACK;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        sigaction(faults[i], &action, NULL);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) {
        _exit(1);
    }
    setrlimit(RLIMIT_CPU, &limit);
    platform_child_limit_memory(more_memory);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
#endif

/* The upper end of the main thread's stack, 0 where it is not known. */
extern void *__libc_stack_end __attribute__((weak));

static uintptr_t
platform_main_stack_end(void)
{
    return &__libc_stack_end == NULL ? 0 : (uintptr_t)__libc_stack_end;
}

/* What the signals of our timers carry: others may use the same signal. */
static char platform_timer_mark;

static bool
platform_timer_is_ours(const siginfo_t *info)
{
    return info->si_code == SI_TIMER && info->si_ptr == &platform_timer_mark;
}

/* A timer that sends signum to the calling thread.  Made when it is needed:
   one that was made before a fork does not exist in the child. */
static int
platform_timer_start(timer_t *timer, int signum, int64_t first_ms,
                     int64_t every_ms)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signum;
    event.sigev_value.sival_ptr = &platform_timer_mark;
#ifdef sigev_notify_thread_id
    event.sigev_notify_thread_id = platform_thread_id();
#else
    event._sigev_un._tid = platform_thread_id();
#endif
    int id;
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id) < 0) {
        return -1;
    }
    struct itimerspec when = {
        .it_value = {first_ms / 1000, first_ms % 1000 * 1000000},
        .it_interval = {every_ms / 1000, every_ms % 1000 * 1000000},
    };
    memcpy(timer, &id, sizeof id);
    return (int)syscall(SYS_timer_settime, id, 0, &when, NULL);
}

static void
platform_timer_stop(timer_t timer)
{
    int id;
    memcpy(&id, &timer, sizeof id);
    syscall(SYS_timer_delete, id);
}

/* What tells a file from all others, and what kind of file it is.  A deleted
   file's inode number may be given to the next one; its birth time is not. */
struct platform_file {
    uint64_t device, inode;
    int64_t born_s, born_ns;    /* 0 where the file system does not know */
    mode_t mode;
    uid_t owner;
    uint64_t links;             /* how many names it has */
    unsigned driver, unit;      /* of a device: its major, minor number */
};

/* Identify an open file.  Returns -1 with errno. */
static int
platform_identify(int fd, struct platform_file *file)
{
    struct statx x;
    struct stat st;
    memset(file, 0, sizeof *file);
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME,
              &x) == 0) {
        file->device = (uint64_t)x.stx_dev_major << 32 | x.stx_dev_minor;
        file->inode = x.stx_ino;
        if (x.stx_mask & STATX_BTIME) {
            file->born_s = x.stx_btime.tv_sec;
            file->born_ns = x.stx_btime.tv_nsec;
        }
        file->mode = x.stx_mode;
        file->owner = x.stx_uid;
        file->links = x.stx_nlink;
        file->driver = x.stx_rdev_major;
        file->unit = x.stx_rdev_minor;
        return 0;
    }
    if (errno == EBADF || fstat(fd, &st) < 0) {
        return -1;              /* else an older kernel, or a sandbox */
    }
    file->device = (uint64_t)major(st.st_dev) << 32 | minor(st.st_dev);
    file->inode = st.st_ino;
    file->mode = st.st_mode;
    file->owner = st.st_uid;
    file->links = st.st_nlink;
    file->driver = major(st.st_rdev);
    file->unit = minor(st.st_rdev);
    return 0;
}

static bool
platform_is_same(const struct platform_file *a, const struct platform_file *b)
{
    return a->device == b->device && a->inode == b->inode
           && a->born_s == b->born_s && a->born_ns == b->born_ns;
}

/* The path of a file of /proc that has a number in it. */
#define PLATFORM_PROC_PATH 64

static void
platform_proc_path(char path[PLATFORM_PROC_PATH], const char *before,
                   unsigned number, const char *after)
{
    char digits[12];
    size_t at = strlen(before), n = 0;
    memcpy(path, before, at);
    do {
        digits[n++] = (char)('0' + number % 10);
    } while (number /= 10);
    while (n > 0) {
        path[at++] = digits[--n];
    }
    memcpy(path + at, after, strlen(after) + 1);
}

/* Open it.  Returns what open() does. */
static int
platform_open_proc(const char *before, unsigned number, const char *after,
                   int flags)
{
    char path[PLATFORM_PROC_PATH];
    platform_proc_path(path, before, number, after);
    return open(path, flags | O_CLOEXEC);
}

/* Open a file for reading, also in a process that has no descriptor left: its
   limit is lifted for that moment.  Returns what open() does. */
static int
platform_open(const char *path)
{
    struct rlimit limit;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == EMFILE && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        struct rlimit more = {limit.rlim_max, limit.rlim_max};
        setrlimit(RLIMIT_NOFILE, &more);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return fd;
}

/* The size of a file, if it can be had without waiting for a disk or a
   server, and if it is still the one that is meant.  Returns 0, or -1. */
static int
platform_file_size(const char *path, uint64_t inode, uint64_t *size)
{
    const struct { uint64_t flags, mode, resolve; } how = {
        O_PATH | O_CLOEXEC, 0, 0x20             /* only what is cached */
    };
    struct statx x;
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    int result = fd < 0 ? -1
                 : statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
                         STATX_SIZE | STATX_INO, &x);
    if (fd >= 0) {
        close(fd);
    }
    if (result < 0 || x.stx_ino != inode) {
        return -1;
    }
    *size = x.stx_size;
    return 0;
}

/* When this process started: nanoseconds since the machine did, and those of
   now.  Asked each time: a forked child has its own.  Returns -1 where /proc
   does not tell. */
static int
platform_age(int64_t *start, int64_t *now)
{
    char text[512];
    int fd = platform_open("/proc/self/stat");
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (fd >= 0) {
        close(fd);
    }
    /* The 22nd field, in ticks.  The second one, the name, is in parentheses
       and may hold anything. */
    ssize_t at = got;
    while (at > 0 && text[at - 1] != ')') {
        at--;
    }
    for (int field = 2; at > 0 && field < 22; field++) {
        while (at < got && text[at] != ' ') {
            at++;
        }
        at++;
    }
    uint64_t ticks = 0;
    ssize_t first = at;
    while (at > 0 && at < got && text[at] >= '0' && text[at] <= '9') {
        ticks = 10 * ticks + (uint64_t)(text[at++] - '0');
    }
    struct timespec t;
    unsigned long hz = getauxval(AT_CLKTCK);
    if (at <= first || hz == 0 || ticks / hz > INT64_MAX / 2000000000
        || clock_gettime(CLOCK_BOOTTIME, &t) < 0) {
        return -1;
    }
    *start = (int64_t)(ticks / hz * 1000000000
                       + ticks % hz * (1000000000 / hz));
    *now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    return 0;
}

/* The name of a thread of this process, "" when it cannot be had.  Not
   pthread_getname_np(): it touches a pthread_t that may be gone. */
static void
platform_thread_name(pid_t tid, char name[32])
{
    name[0] = '\0';
    if (tid == platform_thread_id()) {
        prctl(PR_GET_NAME, name, 0, 0, 0);
        name[16] = '\0';
        return;
    }
    int fd = platform_open_proc("/proc/self/task/", (unsigned)tid, "/comm",
                                O_RDONLY);
    if (fd < 0) {
        return;
    }
    ssize_t got = read(fd, name, 31);
    close(fd);
    if (got > 0 && name[got - 1] == '\n') {
        got--;
    }
    name[got > 0 ? got : 0] = '\0';
}

/* A test build injects one fault into the step of a report that the
   environment names: FAULTHANDLER_TEST_STEP is its name,
   FAULTHANDLER_TEST_HOW one of read, divide, illegal, abort, hang, sleep. */
#ifdef FAULTHANDLER_TEST
UNSANITIZED static void
platform_test_step(const char *what)
{
    const char *step = getenv("FAULTHANDLER_TEST_STEP");
    const char *how = getenv("FAULTHANDLER_TEST_HOW");
    volatile int *volatile nowhere = NULL;
    volatile int one = 1, zero = 0;
    static bool done;
    if (done || step == NULL || how == NULL || strcmp(step, what) != 0) {
        return;
    }
    done = true;
    switch (how[0]) {
    case 'r': *nowhere = 1; break;
    case 'd': one = one / zero; break;
    case 'i': __builtin_trap(); break;
    case 'a': abort(); break;
    case 'h': for (;;) { zero = 0; } break;
    default: pause(); break;
    }
}
#else
#  define platform_test_step(what) ((void)(what))
#endif

/* ==== 2. CPython layouts ==== */

/* What differs between CPython versions, asked once.  Public structs give
   their offsets at compile time; _PyInterpreterFrame is internal, so its few
   fields are mirrored.  The interpreter's own accessors, and on 3.13+ its
   table of debug offsets, have the last word at import.  Nothing here is
   trusted before module_self_test() has compared a whole walk. */

#define LAYOUT_UNKNOWN SIZE_MAX

extern char _PyRuntime[] __attribute__((weak));

static struct {
    size_t interp_next, interp_id, interp_threads;
    size_t interp_collecting;       /* int, 1 while the collector works */
    size_t tstate_next, tstate_prev, tstate_interp, tstate_frame;
    size_t tstate_ident, tstate_native;
    size_t frame_code, frame_previous, frame_instr, frame_owner;
    size_t gen_frame, gen_state;    /* of a generator, from 3.11 */
    bool frames_known;              /* the self-test agreed */
} layout = {
    .interp_collecting = LAYOUT_UNKNOWN,
    .tstate_next = offsetof(PyThreadState, next),
    .tstate_prev = offsetof(PyThreadState, prev),
    .tstate_interp = offsetof(PyThreadState, interp),
    .tstate_ident = offsetof(PyThreadState, thread_id),
#if PY_VERSION_HEX >= 0x030B0000
    .tstate_native = offsetof(PyThreadState, native_thread_id),
#else
    .tstate_native = LAYOUT_UNKNOWN,
#endif
#if PY_VERSION_HEX >= 0x030D0000
    .tstate_frame = offsetof(PyThreadState, current_frame),
#elif PY_VERSION_HEX >= 0x030B0000
    .tstate_frame = offsetof(PyThreadState, cframe),
#else
    .tstate_frame = offsetof(PyThreadState, frame),
#endif
#if PY_VERSION_HEX >= 0x030E0000
    .frame_code = 0, .frame_previous = 8, .frame_instr = 56,
    .frame_owner = 74,
#elif PY_VERSION_HEX >= 0x030C0000
    .frame_code = 0, .frame_previous = 8, .frame_instr = 56,
    .frame_owner = 70,
#elif PY_VERSION_HEX >= 0x030B0000
    .frame_code = 32, .frame_previous = 48, .frame_instr = 56,
    .frame_owner = 69,
#else
    .frame_code = offsetof(PyFrameObject, f_code),
    .frame_previous = offsetof(PyFrameObject, f_back),
    .frame_instr = offsetof(PyFrameObject, f_lasti),
    .frame_owner = LAYOUT_UNKNOWN,
#endif
#if PY_VERSION_HEX >= 0x030E0000
    .gen_frame = 72, .gen_state = 67,
#elif PY_VERSION_HEX >= 0x030B0000
    .gen_frame = offsetof(PyGenObject, gi_iframe),
    .gen_state = offsetof(PyGenObject, gi_frame_state),
#endif
};

/* The formats of line tables, by the release that brought them. */
enum { LAYOUT_LINES_38, LAYOUT_LINES_310, LAYOUT_LINES_311 };

/* From 3.11 frames are no objects, and instructions stand in the code object
   itself; before, a frame holds an offset, and the tracer's line. */
#if PY_VERSION_HEX >= 0x030B0000
#  define LAYOUT_FRAME_OBJECTS 0
#  define LAYOUT_FRAME_SIZE 80
#  define LAYOUT_FRAME_LINENO 0
#  define LAYOUT_FRAME_TRACE 0
#  define LAYOUT_CODE_START offsetof(PyCodeObject, co_code_adaptive)
#  define LAYOUT_CODE_SIZE offsetof(PyCodeObject, co_code_adaptive)
#  define LAYOUT_CODE_TRACEABLE offsetof(PyCodeObject, _co_firsttraceable)
#  define LAYOUT_LINES LAYOUT_LINES_311
#  define LAYOUT_LINE_TABLE offsetof(PyCodeObject, co_linetable)
#else
#  define LAYOUT_FRAME_OBJECTS 1
#  define LAYOUT_FRAME_SIZE offsetof(PyFrameObject, f_localsplus)
#  define LAYOUT_FRAME_LINENO offsetof(PyFrameObject, f_lineno)
#  define LAYOUT_FRAME_TRACE offsetof(PyFrameObject, f_trace)
#  define LAYOUT_CODE_START 0
#  define LAYOUT_CODE_SIZE sizeof(PyCodeObject)
#  define LAYOUT_CODE_TRACEABLE 0
#  if PY_VERSION_HEX >= 0x030A0000
#    define LAYOUT_LINES LAYOUT_LINES_310
#    define LAYOUT_LINE_TABLE offsetof(PyCodeObject, co_linetable)
#  else
#    define LAYOUT_LINES LAYOUT_LINES_38
#    define LAYOUT_LINE_TABLE offsetof(PyCodeObject, co_lnotab)
#  endif
#endif

/* 3.11 and 3.12 keep the frame in a struct on the C stack. */
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030D0000
#  define LAYOUT_HAS_CFRAME 1
#  define LAYOUT_CFRAME_FRAME offsetof(_PyCFrame, current_frame)
#else
#  define LAYOUT_HAS_CFRAME 0
#  define LAYOUT_CFRAME_FRAME 0
#endif

/* In 3.10 and 3.11 each evaluation loop has one, and links it. */
#if PY_VERSION_HEX >= 0x030A0000 && PY_VERSION_HEX < 0x030C0000
#  define LAYOUT_TSTATE_LOOP offsetof(PyThreadState, cframe)
#  if PY_VERSION_HEX >= 0x030B0000
#    define LAYOUT_LOOP_PREVIOUS offsetof(_PyCFrame, previous)
#  else
#    define LAYOUT_LOOP_PREVIOUS offsetof(CFrame, previous)
#  endif
#else
#  define LAYOUT_TSTATE_LOOP 0
#  define LAYOUT_LOOP_PREVIOUS 0
#endif

/* How one tells where an evaluation loop's frames end: until 3.10 it has just
   one, in 3.11 the frame that was its first is marked, and later a shim on
   the C stack stands behind it. */
#define LAYOUT_LOOP_PLACES (PY_VERSION_HEX >= 0x030A0000)
#define LAYOUT_LOOP_SHIMS (PY_VERSION_HEX >= 0x030C0000)
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000
#  define LAYOUT_FRAME_ENTRY 68
#else
#  define LAYOUT_FRAME_ENTRY 0
#endif

/* From 3.11 a thread's frames lie right upon each other in chunks of memory,
   each as large as its code object says; only those of generators do not.
   Before, the evaluation loop keeps them on the C stack, and marks them. */
#if PY_VERSION_HEX >= 0x030B0000
#  define LAYOUT_TSTATE_CHUNK offsetof(PyThreadState, datastack_chunk)
#  define LAYOUT_TSTATE_TOP offsetof(PyThreadState, datastack_top)
#  define LAYOUT_CODE_LOCALS offsetof(PyCodeObject, co_nlocalsplus)
#  define LAYOUT_FRAME_HEAD (PY_VERSION_HEX >= 0x030E0000 ? 80 : 72)
#  define LAYOUT_FRAME_TOP 64
#  define LAYOUT_FRAME_STATE 0
#  define LAYOUT_GEN_RUNS (PY_VERSION_HEX >= 0x030F0000 ? 4 : 0)
#else
#  define LAYOUT_TSTATE_CHUNK 0
#  define LAYOUT_TSTATE_TOP 0
#  define LAYOUT_CODE_LOCALS 0
#  define LAYOUT_FRAME_HEAD 0
#  define LAYOUT_FRAME_TOP 0
#  define LAYOUT_GEN_RUNS 0
#  if PY_VERSION_HEX >= 0x030A0000
#    define LAYOUT_FRAME_STATE offsetof(PyFrameObject, f_state)
#    define LAYOUT_FRAME_RUNS 0
#  else
#    define LAYOUT_FRAME_STATE offsetof(PyFrameObject, f_executing)
#    define LAYOUT_FRAME_RUNS 1
#  endif
#endif
#ifndef LAYOUT_FRAME_RUNS
#  define LAYOUT_FRAME_RUNS 0
#endif

/* In 3.10 a generator that is closed or thrown into, and hands it on to the
   one that it delegates to, is marked as if it were being evaluated; but its
   frame keeps the depth of its stack. */
#if PY_VERSION_HEX >= 0x030A0000 && PY_VERSION_HEX < 0x030B0000
#  define LAYOUT_FRAME_DEPTH offsetof(PyFrameObject, f_stackdepth)
#else
#  define LAYOUT_FRAME_DEPTH 0
#endif

/* The head of a chunk: the one below, bytes, and words in use while there is
   one above. */
struct layout_chunk {
    uintptr_t previous;
    size_t size, top;
};

/* Frames of these owners are not Python code: entries into the evaluation
   loop, and 3.15's sentinel at the end of a stack. */
#define LAYOUT_OWNER_THREAD 0
#define LAYOUT_OWNER_GENERATOR 1
#define LAYOUT_OWNER_SHIM 3
#define LAYOUT_OWNER_MAX 4

/* A thread keeps the exceptions that are being handled in a chain, and one
   that is on its way to a handler by itself; until 3.11 as a type and
   anything to make an exception of. */
#define LAYOUT_TSTATE_HANDLED offsetof(PyThreadState, exc_info)
#define LAYOUT_HANDLED_VALUE offsetof(_PyErr_StackItem, exc_value)
#define LAYOUT_HANDLED_PREVIOUS offsetof(_PyErr_StackItem, previous_item)
#if PY_VERSION_HEX >= 0x030C0000
#  define LAYOUT_TSTATE_RAISED offsetof(PyThreadState, current_exception)
#  define LAYOUT_TSTATE_RAISED_TYPE 0
#else
#  define LAYOUT_TSTATE_RAISED offsetof(PyThreadState, curexc_value)
#  define LAYOUT_TSTATE_RAISED_TYPE offsetof(PyThreadState, curexc_type)
#endif

/* Where a module object keeps its definition. */
struct layout_module {
    PyObject ob_base;
    PyObject *md_dict;
#if PY_VERSION_HEX >= 0x030F0000
    void *md_state;
    PyObject *md_weaklist;
    PyObject *md_name;
    bool md_token_is_def;
    Py_ssize_t md_state_size;
    void *md_state_traverse, *md_state_clear, *md_state_free;
#endif
    void *md_def;
};

static uintptr_t
layout_module_def(const struct layout_module *m)
{
#if PY_VERSION_HEX >= 0x030F0000
    return m->md_token_is_def ? (uintptr_t)m->md_def : 0;
#else
    return (uintptr_t)m->md_def;
#endif
}

/* The table behind a dict, up to its indices. */
struct layout_keys {
    Py_ssize_t dk_refcnt;
#if PY_VERSION_HEX >= 0x030B0000
    uint8_t dk_log2_size, dk_log2_index_bytes, dk_kind;
    uint32_t dk_version;
#else
    Py_ssize_t dk_size;
    void *dk_lookup;
#endif
    Py_ssize_t dk_usable;
    Py_ssize_t dk_nentries;
};

/* What the running Python's own module says, where it changed. */
#if PY_VERSION_HEX >= 0x030D0000
#  define LAYOUT_FPE_TITLE "Floating-point exception"
#else
#  define LAYOUT_FPE_TITLE "Floating point exception"
#endif
#define LAYOUT_MARKS_DEEP (PY_VERSION_HEX < 0x030D0000)
#define LAYOUT_LISTS_MODULES (PY_VERSION_HEX >= 0x030A0000)
#define LAYOUT_NAMES_THREADS (PY_VERSION_HEX >= 0x030E0000)
#define LAYOUT_TELLS_COLLECTOR (PY_VERSION_HEX >= 0x030A0000)
#define LAYOUT_HIDES_SUBMODULES (PY_VERSION_HEX >= 0x030F0000)
#if PY_VERSION_HEX >= 0x030E0000
#  define LAYOUT_C_STACK_DEFAULT true
#  define LAYOUT_C_STACK_DEFAULT_TEXT "True"
#else
#  define LAYOUT_C_STACK_DEFAULT false
#  define LAYOUT_C_STACK_DEFAULT_TEXT "False"
#endif

/* Interpreters with a GIL of their own may import the module: its state is
   the process's, and guarded. */
#if PY_VERSION_HEX >= 0x030C0000
#  define LAYOUT_MODULE_SLOTS \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#  define LAYOUT_MODULE_SLOTS
#endif

/* The thread state of the calling thread, or of somebody else: see
   thread_find_current(), which checks. */
static PyThreadState *
layout_attached_thread(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

/* How many words of a frame's locals and value stack are in use, -1 where only
   the evaluation loop knows: up to 3.13, while the frame runs or waits for C.
   top is the head's word for it. */
static intptr_t
layout_frame_depth(uintptr_t frame, uintptr_t top)
{
#if PY_VERSION_HEX >= 0x030E0000
    return top == 0 ? -1 : ((intptr_t)(top - frame) - LAYOUT_FRAME_HEAD)
                           / (intptr_t)sizeof top;
#else
    (void)frame;
    return (int)top;
#endif
}

#define LAYOUT_KEEPS_DEPTH (PY_VERSION_HEX >= 0x030E0000)

/* Is Python being finalised?  A bare load. */
static bool
layout_is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* Fold the tag bits of 3.14+'s stack references away. */
static uintptr_t
layout_untag(uintptr_t reference)
{
#if PY_VERSION_HEX >= 0x030E0000
    return reference & ~(uintptr_t)3;
#else
    return reference;
#endif
}

/* Where a dict's entries begin, their size and where key and value stand in
   one.  Returns -1 when the table makes no sense. */
static int
layout_dict_entries(uintptr_t keys, const struct layout_keys *k,
                    uintptr_t *entries, size_t *size, size_t *key)
{
    uintptr_t indices = keys + sizeof *k;
#if PY_VERSION_HEX >= 0x030B0000
    if (k->dk_log2_index_bytes > 40 || k->dk_kind > 2) {
        return -1;
    }
    *entries = indices + ((uintptr_t)1 << k->dk_log2_index_bytes);
    *size = k->dk_kind == 0 ? 3 * sizeof(void *) : 2 * sizeof(void *);
    *key = k->dk_kind == 0 ? sizeof(void *) : 0;
#else
    if (k->dk_size < 1 || k->dk_size > (Py_ssize_t)1 << 40) {
        return -1;
    }
    size_t width = k->dk_size <= 0xff ? 1 : k->dk_size <= 0xffff ? 2
                   : k->dk_size <= 0xffffffff ? 4 : 8;
    *entries = indices + (uintptr_t)k->dk_size * width;
    *size = 3 * sizeof(void *);
    *key = sizeof(void *);
#endif
    return k->dk_nentries >= 0 ? 0 : -1;
}

/* Report an exception that ends a thread, in _thread's own words. */
static void
layout_write_unraisable(PyObject *function)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyErr_FormatUnraisable("Exception ignored in thread started by %R",
                           function);
#else
    _PyErr_WriteUnraisableMsg("in thread started by", function);
#endif
}

/* Find the offset that an accessor reads.  PyInterpreterState_ThreadHead and
   its kin are bare loads, so a fake struct whose words hold their own
   offsets makes them tell.  Exact, where a search for a known pointer would
   guess. */
static size_t
layout_probe(const uintptr_t *fake, size_t words, uintptr_t answer)
{
    size_t at = (size_t)(answer - (uintptr_t)fake);
    return at < words * sizeof *fake ? at : LAYOUT_UNKNOWN;
}

#define LAYOUT_FAKE_WORDS 4096

static int
layout_probe_interpreter(void)
{
    uintptr_t *fake = PyMem_RawMalloc(LAYOUT_FAKE_WORDS * sizeof *fake);
    if (fake == NULL) {
        return -1;
    }
    for (size_t i = 0; i < LAYOUT_FAKE_WORDS; i++) {
        fake[i] = (uintptr_t)(fake + i);
    }
    PyInterpreterState *interp = (PyInterpreterState *)fake;
    layout.interp_next = layout_probe(fake, LAYOUT_FAKE_WORDS,
        (uintptr_t)PyInterpreterState_Next(interp));
    layout.interp_threads = layout_probe(fake, LAYOUT_FAKE_WORDS,
        (uintptr_t)PyInterpreterState_ThreadHead(interp));
    layout.interp_id = layout_probe(fake, LAYOUT_FAKE_WORDS,
        (uintptr_t)PyInterpreterState_GetID(interp));
    PyMem_RawFree(fake);
    return 0;
}

#if PY_VERSION_HEX >= 0x030D0000
/* Positions in _Py_DebugOffsets, as words. */
static const struct {
    size_t next, id, threads, gc, collecting;
    size_t tstate_next, tstate_interp, tstate_frame, ident, native;
    size_t previous, code, instr, owner, gen_frame;
} layout_words =
#  if PY_VERSION_HEX >= 0x030F0000
    {8, 7, 9, 11, 95, 24, 25, 26, 30, 31, 40, 41, 42, 44, 101};
#  elif PY_VERSION_HEX >= 0x030E0000
    {8, 7, 9, 11, 82, 24, 25, 26, 27, 28, 32, 33, 34, 36, 85};
#  else
    {8, 7, 9, 10, 72, 21, 22, 23, 24, 25, 29, 30, 31, 33, 0};
#  endif

/* Take the interpreter's word for what it publishes: a micro release may
   have moved a field since we were built. */
static void
layout_read_debug_offsets(void)
{
    uint64_t words[103];
    if (_PyRuntime == NULL || memcmp(_PyRuntime, "xdebugpy", 8) != 0) {
        return;
    }
    memcpy(words, _PyRuntime, sizeof words);
    if (words[1] >> 16 != PY_VERSION_HEX >> 16) {
        return;
    }
    layout.interp_next = words[layout_words.next];
    layout.interp_id = words[layout_words.id];
    layout.interp_threads = words[layout_words.threads];
    layout.interp_collecting = words[layout_words.gc]
                               + words[layout_words.collecting];
    layout.tstate_next = words[layout_words.tstate_next];
    layout.tstate_interp = words[layout_words.tstate_interp];
    layout.tstate_frame = words[layout_words.tstate_frame];
    layout.tstate_ident = words[layout_words.ident];
    layout.tstate_native = words[layout_words.native];
    layout.frame_previous = words[layout_words.previous];
    layout.frame_code = words[layout_words.code];
    layout.frame_instr = words[layout_words.instr];
    layout.frame_owner = words[layout_words.owner];
    if (layout_words.gen_frame != 0) {
        layout.gen_frame = words[layout_words.gen_frame];
        layout.gen_state = words[layout_words.gen_frame + 1];
    }
    const size_t last = LAYOUT_FRAME_SIZE - sizeof(uintptr_t);
    if (layout.frame_owner >= LAYOUT_FRAME_SIZE || layout.frame_code > last
        || layout.frame_previous > last || layout.frame_instr > last) {
        /* Another table than we know: the self-test is to fail. */
        layout.frame_owner = layout.frame_code = 0;
        layout.frame_previous = layout.frame_instr = 0;
    }
}
#else
static void
layout_read_debug_offsets(void)
{
}

/* Where the collector's flag was found on the releases that were measured;
   layout_calibrate_collector() tries it before it is used. */
#  if PY_VERSION_HEX >= 0x030C0000
#    define LAYOUT_COLLECTING 312
#  elif PY_VERSION_HEX >= 0x030B0000
#    define LAYOUT_COLLECTING 848
#  elif PY_VERSION_HEX >= 0x03090000
#    define LAYOUT_COLLECTING 816
#  else
#    define LAYOUT_COLLECTING 544
#  endif
#endif

/* The address of the flag that is 1 while the collector works. 3.8 keeps it
   in the runtime, later ones in the interpreter. */
static uintptr_t
layout_collecting_at(uintptr_t interp)
{
    if (layout.interp_collecting == LAYOUT_UNKNOWN) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x03090000
    return interp + layout.interp_collecting;
#else
    (void)interp;
    return (uintptr_t)_PyRuntime + layout.interp_collecting;
#endif
}

#if PY_VERSION_HEX < 0x030D0000
static int layout_seen_collecting;

/* A collector callback that looks at the flag while the collector works. */
static PyObject *
layout_on_collect(PyObject *at, PyObject *args)
{
    (void)args;
    const int *flag = PyLong_AsVoidPtr(at);
    if (flag != NULL) {
        layout_seen_collecting |= *flag;
    }
    PyErr_Clear();
    Py_RETURN_NONE;
}

static PyMethodDef layout_on_collect_def = {
    "faulthandler_calibrate", layout_on_collect, METH_VARARGS, NULL
};

/* Append the callback to gc.callbacks, collect the youngest generation, take
   the callback out again. */
static int
layout_watch_collection(const int *flag)
{
    PyObject *gc = NULL, *callbacks = NULL, *self = NULL, *callback = NULL;
    PyObject *done = NULL;
    int result = -1;
    gc = PyImport_ImportModule("gc");
    if (gc && (callbacks = PyObject_GetAttrString(gc, "callbacks"))
        && PyList_Check(callbacks)
        && (self = PyLong_FromVoidPtr((void *)(uintptr_t)flag))
        && (callback = PyCFunction_New(&layout_on_collect_def, self))
        && PyList_Append(callbacks, callback) == 0) {
        done = PyObject_CallMethod(gc, "collect", "i", 0);
        Py_ssize_t at = PySequence_Index(callbacks, callback);
        result = at >= 0 && done != NULL
                 ? PySequence_DelItem(callbacks, at) : -1;
    }
    Py_XDECREF(done);
    Py_XDECREF(callback);
    Py_XDECREF(self);
    Py_XDECREF(callbacks);
    Py_XDECREF(gc);
    return result;
}

/* Accept the expected place of the flag only if it reads 0, 1 during a
   collection, and 0 again. */
static void
layout_calibrate_collector(void)
{
    layout.interp_collecting = LAYOUT_COLLECTING;
    uintptr_t interp = (uintptr_t)PyThreadState_Get()->interp;
    const volatile int *flag =
        (const volatile int *)layout_collecting_at(interp);
    layout_seen_collecting = 0;
    bool good = *flag == 0
                && layout_watch_collection((const int *)(uintptr_t)flag) == 0
                && layout_seen_collecting == 1 && *flag == 0;
    PyErr_Clear();
    if (!good) {
        layout.interp_collecting = LAYOUT_UNKNOWN;
    }
}
#else
static void
layout_calibrate_collector(void)
{
}
#endif

/* Fill the table.  GIL held. */
static int
layout_init(void)
{
    if (layout_probe_interpreter() < 0) {
        return -1;
    }
    layout_read_debug_offsets();
    layout_calibrate_collector();
#ifdef FAULTHANDLER_TEST_BAD_LAYOUT
    layout.frame_code = 16;
#endif
    return 0;
}

/* ==== 3. State ==== */

/* Handlers read it at any moment.  The Python half writes it holding
   state_lock, which no handler ever takes, and publishes with one atomic
   store what it has completely filled in. */
static pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER;

/* A place that a report goes to.  The descriptor is our own duplicate; the
   file's identity tells whether its number still means that file.  A path is
   kept as text: a descriptor of its folder would be closed by a program that
   makes a daemon of itself, and would still mean a folder that was removed
   and made again. */
struct sink {
    enum { SINK_NOWHERE, SINK_STDERR, SINK_COPY, SINK_PATH } kind;
    int copy;                   /* our duplicate, SINK_COPY */
    int given;                  /* the number it was duplicated from */
    struct platform_file file;
    char folder[PATH_MAX];      /* SINK_PATH: absolute, no symbolic links */
    char name[NAME_MAX + 1];    /* of the file, with %p, %t and %% in it */
};

/* What a report shows, and where it goes. */
struct request {
    struct sink sink;
    bool original;              /* the report of 1.0, not the library's */
    bool all_threads;
    bool c_stack;
    bool mixed;                 /* with the Python frames in it */
    bool details;               /* why it died, in which thread */
    size_t max_threads;
};

/* Fatal signals.  Two slots, so that the one in use is never written. */
static struct request fatal_requests[2];
static _Atomic(struct request *) fatal_request;     /* NULL: disarmed */
static atomic_int fatal_claim;                      /* thread that reports */
static pid_t fatal_pid;                             /* of this process */

/* One writer at a time, over all kinds of reports. */
static atomic_int report_door;

/* ---- may run inside a signal handler -------------------------------- */

/* ==== 4. Memory ==== */

/* What this thread is doing with memory that may be gone.  Nested dumps (a
   user's signal during dump_traceback(), a crash during either) save and
   restore the outer one's. */
enum mem_way { MEM_NONE, MEM_DIRECT, MEM_KERNEL, MEM_PIPE };

struct mem_session {
    struct mem_session *outer;
    sigjmp_buf *recover;        /* where our fault handler jumps to */
    sigjmp_buf *step;           /* the step of the report, for the timer */
    enum mem_way way;
    bool late;                  /* the timer has rung */
    pid_t pid;
    int pipe[2];
    sigset_t mask;              /* to be restored at the end */
};

THREAD_LOCAL struct mem_session *mem_here;

/* The action that must be in place for MEM_DIRECT: ours. */
static void (*mem_handler)(int, siginfo_t *, void *);

/* Dumps that rely on our handlers.  disable() lets no new one begin, and waits
   until these are done. */
static atomic_int mem_direct_users;
static atomic_bool mem_direct_closed;

/* The signals that a nested fault raises.  A blocked one would be silent
   death. */
static const int mem_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
#define MEM_FAULTS (sizeof mem_faults / sizeof *mem_faults)

/* Block all signals but those of faults. */
static void
mem_block_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < MEM_FAULTS; i++) {
        sigdelset(&all, mem_faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &all, before);
}

/* Our handler was left by a jump, with the fault's signal still blocked. */
static void
mem_unblock_faults(void)
{
    sigset_t faults;
    sigemptyset(&faults);
    for (size_t i = 0; i < MEM_FAULTS; i++) {
        sigaddset(&faults, mem_faults[i]);
    }
    pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
}

/* Copy through a pipe: write() answers EFAULT where memory is bad. */
static int
mem_read_pipe(void *dst, const void *src, size_t n)
{
    char *to = dst;
    const char *from = src;
    while (n > 0) {
        size_t part = n < 4096 ? n : 4096;
        ssize_t put = write(mem_here->pipe[1], from, part);
        if (put <= 0 || read(mem_here->pipe[0], to, (size_t)put) != put) {
            return -1;
        }
        to += put;
        from += put;
        n -= (size_t)put;
    }
    return 0;
}

/* Copy word by word.  Not memcpy(): a sanitizer checks its arguments, and a
   vector load of a word that changes may be torn. */
UNSANITIZED static void
mem_copy(void *dst, const void *src, size_t n)
{
    typedef uintptr_t __attribute__((may_alias, aligned(1))) word;
    word *to = dst;
    const volatile word *from = src;
    size_t words = n / sizeof *to;
    for (size_t i = 0; i < words; i++) {
        to[i] = from[i];
    }
    char *to_rest = (char *)(to + words);
    const volatile char *from_rest = (const volatile char *)(from + words);
    for (size_t i = 0; i < n % sizeof *to; i++) {
        to_rest[i] = from_rest[i];
    }
}

/* Copy under the protection of our SIGSEGV and SIGBUS handlers, which jump
   back here.  sigsetjmp(…, 0) saves no mask: 3 ns instead of 130. */
static int
mem_read_direct(void *dst, const void *src, size_t n)
{
    sigjmp_buf here;
    sigjmp_buf *outer = mem_here->recover;
    if (sigsetjmp(here, 0) != 0) {
        mem_here->recover = outer;
        mem_unblock_faults();
        return -1;
    }
    mem_here->recover = &here;
    atomic_signal_fence(memory_order_seq_cst);
    mem_copy(dst, src, n);
    atomic_signal_fence(memory_order_seq_cst);
    mem_here->recover = outer;
    return 0;
}

/* Copy n bytes from src, an address that may be anything, to dst.  Returns 0,
   or -1 if any of them cannot be read.  The only way that crash code looks
   at the interpreter.  Between mem_begin() and mem_end() only. */
static int
mem_read(void *dst, uintptr_t src, size_t n)
{
    const void *from = (const void *)src;
    if (src < 4096 || src + n < src) {
        return -1;              /* NULL and its fields: spare the fault */
    }
    switch (mem_here->way) {
    case MEM_DIRECT:
        return mem_read_direct(dst, from, n);
    case MEM_KERNEL:
        return platform_read_self(mem_here->pid, dst, from, n);
    case MEM_PIPE:
        return mem_read_pipe(dst, from, n);
    default:
        return -1;
    }
}

/* Read one aligned word. */
static int
mem_word(uintptr_t at, uintptr_t *value)
{
    return at % sizeof at == 0 ? mem_read(value, at, sizeof *value) : -1;
}

/* A guard for walks along links.  Keeps one node to compare with, replaced at
   every power of two: a cycle of any length meets it after at most three
   times its length. */
struct mem_chain {
    uintptr_t mark;
    size_t steps, limit;
};

/* Note the next node.  Returns -1 when it closes a cycle, or is one too many
   for any machine. */
static int
mem_chain_step(struct mem_chain *chain, uintptr_t node)
{
    if (node == chain->mark || chain->steps > 100000000) {
        return -1;
    }
    if (chain->steps++ >= chain->limit) {
        chain->limit = 2 * chain->limit + 1;
        chain->mark = node;
    }
    return 0;
}

/* Is mem_read() to be done by the kernel?  Newer container profiles refuse
   it, so it is tried each time on a word that is there. */
static enum mem_way
mem_choose_indirect(struct mem_session *s)
{
    int known = 1, copy = 0;
    if (platform_read_self(s->pid, &copy, &known, sizeof copy) == 0) {
        return MEM_KERNEL;
    }
    /* Made for this dump only: a pipe that is kept would be shared with a
       forked child, and its bytes with it. */
    return pipe2(s->pipe, O_CLOEXEC | O_NONBLOCK) == 0 ? MEM_PIPE : MEM_NONE;
}

/* Does this handler run on an alternate stack with no room for a second signal
   frame?  Other runtimes give their threads 8 KiB. */
#define MEM_STACK_MIN (24 * 1024)

static bool
mem_stack_is_small(void)
{
    stack_t now;
    return sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_ONSTACK)
           && now.ss_size < MEM_STACK_MIN;
}

/* Start reading.  Direct copies need our handlers; they are counted, so that
   disable() does not take them away from under us.  Until mem_end() this
   thread takes no signal but faults: no foreign handler runs inside a
   recovery, and no second report inside the first. */
static void
mem_begin(struct mem_session *s)
{
    s->outer = mem_here;
    s->recover = s->step = NULL;
    s->late = false;
    s->pid = getpid();
    s->pipe[0] = s->pipe[1] = -1;
    atomic_fetch_add(&mem_direct_users, 1);
    if (!atomic_load(&mem_direct_closed) && !mem_stack_is_small()
        && platform_handler_is(SIGSEGV, mem_handler)
        && platform_handler_is(SIGBUS, mem_handler)) {
        s->way = MEM_DIRECT;
    }
    else {
        atomic_fetch_sub(&mem_direct_users, 1);
        s->way = mem_choose_indirect(s);
    }
    mem_here = s;
    mem_block_signals(&s->mask);
}

static void
mem_end(struct mem_session *s)
{
    pthread_sigmask(SIG_SETMASK, &s->mask, NULL);
    mem_here = s->outer;
    if (s->way == MEM_DIRECT) {
        atomic_fetch_sub(&mem_direct_users, 1);
    }
    if (s->pipe[0] >= 0) {
        close(s->pipe[0]);
        close(s->pipe[1]);
    }
}

/* ==== 5. Output ==== */

/* One buffer per report, flushed at the ends of lines and, where the report
   fits, once.  A line never exceeds OUT_LINE_MAX: names are cut at 500
   characters of at most 10 bytes each. */
#define OUT_NAME_MAX 500
#define OUT_LINE_MAX (2 * OUT_NAME_MAX * 10 + 256)
#define OUT_SIZE (64 * 1024)

/* How long a sink may take nothing, and how long a report may take. */
#define OUT_STALL_NS INT64_C(2000000000)
#define OUT_TOTAL_NS INT64_C(6000000000)
#define OUT_CANCEL_NS INT64_C(300000000)
#define OUT_SLICE_NS INT64_C(50000000)

/* How a descriptor is written to without blocking for good.  O_NONBLOCK is
   no choice: it belongs to the open file, which others share. */
enum out_way {
    OUT_PLAIN,                  /* files and /dev/null: never wait long */
    OUT_NOWAIT,                 /* pwritev2(RWF_NOWAIT): pipes, Linux 6.4 */
    OUT_SOCKET,                 /* send(MSG_DONTWAIT) */
    OUT_REOPENED,               /* terminals, older pipes: our own open file */
    OUT_SMALL,                  /* after poll(), no more than a pipe takes */
};

struct out {
    char *text;
    size_t size, used;
    size_t sent;                /* the timer may break a flush */
    size_t flushes;             /* changes when offsets into text die */
    const char *own;            /* the first text, where it may grow */
    bool failed;                /* the sink was given up */
    bool opened;                /* its path was, for this report: */
    int fd;                     /* -1 if it cannot be */
    struct platform_file file;
    const struct sink *sink;
    const atomic_bool *cancelled;
    int64_t deadline;           /* of the whole report */
};

static void
out_char(struct out *o, char c)
{
    if (o->used < o->size) {
        o->text[o->used++] = c;
    }
}

static void
out_bytes(struct out *o, const char *text, size_t n)
{
    size_t room = o->size - o->used;
    n = n < room ? n : room;
    memcpy(o->text + o->used, text, n);
    o->used += n;
}

static void
out_text(struct out *o, const char *text)
{
    out_bytes(o, text, strlen(text));
}

static void
out_decimal(struct out *o, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
    } while (value /= 10);
    out_bytes(o, digits + at, sizeof digits - at);
}

/* Is this descriptor still the file that the sink means? */
static bool
out_is_file(int fd, const struct sink *sink, struct platform_file *now)
{
    return platform_identify(fd, now) == 0
           && platform_is_same(now, &sink->file);
}

/* Is descriptor 2 standard error?  It may have been redirected since: that is
   followed.  Or closed, and the next file that was opened got the number:
   Python opens files close-on-exec, which standard error never is. */
static bool
out_is_standard_error(const struct sink *sink, struct platform_file *now)
{
    if (out_is_file(STDERR_FILENO, sink, now)) {
        return true;
    }
    int flags = fcntl(STDERR_FILENO, F_GETFD);
    return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* The name of a sink's file: %p is the process that writes, in a forked
   child the child, %t the time, %% a percent sign.  The longest one fits:
   file_name_length() saw to it. */
static void
out_file_name(const struct sink *sink, char name[NAME_MAX + 1])
{
    struct timespec now;
    struct out o = {.text = name, .size = NAME_MAX};
    for (const char *c = sink->name; *c != '\0'; c++) {
        if (*c == '%' && *++c != '%') {
            clock_gettime(CLOCK_REALTIME, &now);
            out_decimal(&o, *c == 'p' ? (uint64_t)getpid()
                                      : (uint64_t)now.tv_sec);
        }
        else {
            out_char(&o, *c);
        }
    }
    name[o.used] = '\0';
}

/* Open an absolute path's folder, part by part, none of which may be a
   symbolic link.  Returns a descriptor to open files in, or -1 with errno. */
static int
out_open_folder(const char *path)
{
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    char part[NAME_MAX + 1];
    int folder = open("/", flags);
    while (folder >= 0 && *path == '/' && path[1] != '\0') {
        size_t n = 0;
        for (path++; *path != '/' && *path != '\0' && n < NAME_MAX; path++) {
            part[n++] = *path;
        }
        part[n] = '\0';
        int above = folder;
        folder = openat(above, part, flags);
        int error = errno;
        close(above);
        errno = error;
    }
    return folder;
}

/* May a report be appended to a file that was there?  A directory for
   everybody is where others plant files: a second name of a file that they
   want damaged, or a file of theirs that they can read. */
static bool
out_may_append(const struct platform_file *folder,
               const struct platform_file *file)
{
    if (!S_ISREG(file->mode) && !S_ISFIFO(file->mode)
        && !S_ISCHR(file->mode)) {
        return false;
    }
    return !(folder->mode & S_IWOTH)
           || (file->owner == geteuid() && file->links == 1);
}

/* Open a sink's file in its folder, made for this user alone if it is not
   there.  Never waits for a reader.  Returns -1 if it cannot be. */
static int
out_open_file(const struct sink *sink, int folder)
{
    const int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK
                      | O_NOCTTY | O_CLOEXEC;
    struct platform_file around, file;
    char name[NAME_MAX + 1];
    out_file_name(sink, name);
    int fd = openat(folder, name, flags | O_CREAT | O_EXCL, 0600);
    if (fd >= 0 || errno != EEXIST) {
        return fd;
    }
    fd = openat(folder, name, flags);
    if (fd >= 0 && (platform_identify(folder, &around) < 0
                    || platform_identify(fd, &file) < 0
                    || !out_may_append(&around, &file))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Open a sink's folder and file.  Not as a standard descriptor that happens to
   be closed: what others write there is not for the report, so the folder
   holds these meanwhile.  Returns -1 with errno. */
static int
out_open_both(const struct sink *sink)
{
    int held[STDERR_FILENO + 2], n = 0;
    int folder = out_open_folder(sink->folder);
    if (folder < 0) {
        return -1;
    }
    do {
        held[n] = fcntl(folder, F_DUPFD_CLOEXEC, STDIN_FILENO);
    } while (held[n] >= 0 && held[n++] <= STDERR_FILENO
             && n <= STDERR_FILENO + 1);
    int fd = out_open_file(sink, folder);
    int error = errno;
    while (n > 0) {
        close(held[--n]);
    }
    close(folder);
    errno = error;
    return fd;
}

/* Open a sink's file.  A program that ran out of descriptors may die of it: it
   is then allowed more, as long as the file is being opened. */
static int
out_open_path(const struct sink *sink)
{
    struct rlimit before;
    int fd = out_open_both(sink);
    if (fd >= 0 || errno != EMFILE
        || getrlimit(RLIMIT_NOFILE, &before) < 0) {
        return fd;
    }
    struct rlimit more = {before.rlim_max, before.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &more) == 0) {
        fd = out_open_both(sink);
        setrlimit(RLIMIT_NOFILE, &before);
    }
    return fd;
}

/* The descriptor of a report's own file, which the first piece opens. */
static int
out_path_descriptor(struct out *o, struct platform_file *now)
{
    if (!o->opened) {
        o->fd = out_open_path(o->sink);
        o->opened = true;
        if (platform_identify(o->fd, &o->file) < 0) {
            o->fd = -1;
        }
    }
    return platform_identify(o->fd, now) == 0
           && platform_is_same(now, &o->file) ? o->fd : -1;
}

/* The last piece is written. */
static void
out_close(struct out *o)
{
    struct platform_file now;
    if (o->opened && platform_identify(o->fd, &now) == 0
        && platform_is_same(&now, &o->file)) {
        close(o->fd);
    }
    o->opened = false;
}

/* The descriptor of a report's sink and what kind of file it is, -1 when there
   is none (any more): nowhere is better than somebody else's file. */
static int
out_descriptor(struct out *o, struct platform_file *now)
{
    const struct sink *sink = o->sink;
    switch (sink->kind) {
    case SINK_STDERR:
        return out_is_standard_error(sink, now) ? STDERR_FILENO : -1;
    case SINK_COPY:
        return out_is_file(sink->copy, sink, now) ? sink->copy
               : out_is_file(sink->given, sink, now) ? sink->given : -1;
    case SINK_PATH:
        return out_path_descriptor(o, now);
    default:
        return -1;
    }
}

/* Open the same file anew, so that O_NONBLOCK is ours alone.  Fails for
   sockets, and where /proc is not there or forbids it. */
static int
out_reopen(int fd)
{
    return platform_open_proc("/proc/self/fd/", (unsigned)fd, "",
                              O_WRONLY | O_NONBLOCK | O_NOCTTY);
}

/* Is it a terminal?  Told by its number: isatty() would ask the driver.  Not
   5:2, which makes a new terminal whenever it is opened. */
static bool
out_is_terminal(const struct platform_file *file)
{
    return S_ISCHR(file->mode)
           && (file->driver == 4 || (file->driver == 5 && file->unit != 2)
               || (file->driver >= 136 && file->driver <= 143));
}

/* Choose the way, and replace *fd where it has to be reopened. */
static enum out_way
out_choose_way(int *fd, const struct platform_file *file)
{
    if (S_ISREG(file->mode) || S_ISBLK(file->mode)
        || (S_ISCHR(file->mode) && file->driver == 1)) {
        return OUT_PLAIN;       /* 1: /dev/null, /dev/full and such */
    }
    if (S_ISSOCK(file->mode)) {
        return OUT_SOCKET;
    }
    if (S_ISFIFO(file->mode)) {
        return OUT_NOWAIT;
    }
    int mine = out_is_terminal(file) ? out_reopen(*fd) : -1;
    if (mine < 0) {
        return OUT_SMALL;
    }
    *fd = mine;
    return OUT_REOPENED;
}

/* Write some of n bytes.  Returns what was taken, or -1 with errno. */
static ssize_t
out_write_some(int *fd, enum out_way *way, const char *text, size_t n)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = n};
    ssize_t put;
    switch (*way) {
    case OUT_NOWAIT:
        put = pwritev2(*fd, &part, 1, -1, RWF_NOWAIT);
        if (put >= 0 || errno == EAGAIN || errno == EINTR
            || errno == EPIPE) {
            return put;
        }
        /* Too old a kernel, or a sandbox, which may say anything. */
        int mine = out_reopen(*fd);
        *way = mine < 0 ? OUT_SMALL : OUT_REOPENED;
        *fd = mine < 0 ? *fd : mine;
        return out_write_some(fd, way, text, n);
    case OUT_SOCKET:
        return send(*fd, text, n, MSG_DONTWAIT);
    case OUT_SMALL:
        return write(*fd, text, n < 512 ? n : 512);
    default:
        return write(*fd, text, n);
    }
}

/* Cancelled: nothing more is written, but of a report that has begun the
   rest, as long as somebody reads it. */
static bool
out_is_cancelled(const struct out *o)
{
    return o->cancelled != NULL && *o->cancelled;
}

/* Nothing of it was written, and nothing is to be. */
static bool
out_is_unwanted(const struct out *o)
{
    return out_is_cancelled(o) && o->sent == 0;
}

/* Wait until the descriptor takes bytes.  Returns false when it did not for
   OUT_STALL_NS, when the report is out of time, or when it was cancelled: in
   slices, within one of which that is noticed. */
static bool
out_wait(struct out *o, int fd)
{
    int64_t waited = 0;
    for (;;) {
        struct pollfd poller = {.fd = fd, .events = POLLOUT};
        int64_t begin = platform_now(), left = OUT_STALL_NS - waited;
        left = left < o->deadline - begin ? left : o->deadline - begin;
        /* A sink that is ready is taken also when the time is over. */
        int64_t slice = left <= 0 ? 0
                        : left < OUT_SLICE_NS ? left : OUT_SLICE_NS;
        int ready = poll(&poller, 1, (int)((slice + 999999) / 1000000));
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return true;        /* an error is write()'s to report */
        }
        if (left <= 0
            || (out_is_cancelled(o) && waited > OUT_CANCEL_NS)) {
            return false;
        }
        waited += platform_waited(begin);
    }
}

/* Wait, and see that the number still means the same file: while we waited
   another thread may have closed it and opened its own. */
static bool
out_wait_for(struct out *o, int fd, const struct platform_file *file)
{
    struct platform_file now;
    return out_wait(o, fd) && !out_is_unwanted(o)
           && platform_identify(fd, &now) == 0
           && platform_is_same(&now, file);
}

/* How much to send at once: all, or whole lines of what a packet holds. */
static size_t
out_part(const struct out *o, size_t limit)
{
    size_t left = o->used - o->sent;
    if (left <= limit) {
        return left;
    }
    size_t n = limit;
    while (n > 1 && o->text[o->sent + n - 1] != '\n') {
        n--;
    }
    return n > 1 ? n : limit;
}

/* Write all of it, or give the sink up. */
static void
out_write_all(struct out *o, int fd, const struct platform_file *file)
{
    int original = fd;
    size_t limit = SIZE_MAX;
    enum out_way way = out_choose_way(&fd, file);
    while (o->sent < o->used && !o->failed) {
        if (way == OUT_SMALL && !out_wait_for(o, fd, file)) {
            o->failed = true;
            break;
        }
        size_t n = out_part(o, limit);
        ssize_t put = out_write_some(&fd, &way, o->text + o->sent, n);
        if (put > 0) {
            o->sent += (size_t)put;
        }
        else if (put < 0 && errno == EAGAIN) {
            o->failed = !out_wait_for(o, fd, file);
        }
        else if (put < 0 && errno == EMSGSIZE && n > 512) {
            limit = n / 2;
        }
        else if (put == 0 || errno != EINTR || platform_now() > o->deadline) {
            o->failed = true;
        }
    }
    if (fd != original) {
        close(fd);
    }
}

/* A closed pipe, a full quota of bytes or a background terminal answer with
   a signal that would change how the process dies.  They are blocked during
   a report; the ones that we caused, which come with an error, are taken
   back. */
static void
out_take_back(const sigset_t *before)
{
    static const int ours[] = {SIGPIPE, SIGXFSZ, SIGTTOU};
    const struct timespec now = {0, 0};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (sigismember(before, ours[i]) == 0) {
            sigset_t one;
            sigemptyset(&one);
            sigaddset(&one, ours[i]);
            sigtimedwait(&one, NULL, &now);
        }
    }
}

/* Send the buffer on its way. */
static void
out_flush(struct out *o)
{
    struct platform_file file;
    o->failed |= out_is_unwanted(o);
    int fd = o->failed || o->sent == o->used ? -1
             : out_descriptor(o, &file);
    if (fd >= 0) {
        sigset_t before;
        sigpending(&before);
        out_write_all(o, fd, &file);
        if (o->failed) {
            out_take_back(&before);
        }
    }
    o->flushes++;
    o->used = o->sent = 0;
}

/* Double a buffer: a mapping takes the first one's place, then grows.
   Returns -1 if there is no more memory. */
static int
out_grow(struct out *o)
{
    size_t size = 2 * o->size;
    char *text = o->text == o->own
        ? mmap(NULL, size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        : mremap(o->text, o->size, size, MREMAP_MAYMOVE);
    if (text == MAP_FAILED) {
        return -1;
    }
    if (o->text == o->own) {
        memcpy(text, o->text, o->used);
    }
    o->text = text;
    o->size = size;
    return 0;
}

/* Make room for one line: more memory where there may be more, else a flush
   of the whole lines before it.  At the start of lines only. */
static void
out_room(struct out *o, size_t n)
{
    if (o->size - o->used >= n) {
        return;
    }
    if (o->own != NULL && out_grow(o) == 0) {
        return;
    }
    out_flush(o);
}

/* With leading zeros. */
static void
out_digits(struct out *o, uint64_t value, int width)
{
    uint64_t least = 1;
    while (--width > 0) {
        least *= 10;
        if (value < least) {
            out_char(o, '0');
        }
    }
    out_decimal(o, value);
}

/* Seconds since 1970 as 2026-11-22T07:10:11Z.  Our own calendar: gmtime()
   takes a lock.  It counts in years from March on, so that the leap day is
   the last one, and in eras of 400 years, which are all of one length. */
static void
out_utc(struct out *o, int64_t seconds)
{
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        days--;
        rest += 86400;
    }
    days += 719468;             /* since 0000-03-01 */
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day = days - era * 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    int64_t month = (5 * day + 2) / 153;        /* 0 is March */
    day -= (153 * month + 2) / 5;
    year += era * 400 + (month >= 10);
    out_digits(o, (uint64_t)(year < 0 ? 0 : year), 4);
    out_char(o, '-');
    out_digits(o, (uint64_t)(month < 10 ? month + 3 : month - 9), 2);
    out_char(o, '-');
    out_digits(o, (uint64_t)day + 1, 2);
    out_char(o, 'T');
    out_digits(o, (uint64_t)rest / 3600, 2);
    out_char(o, ':');
    out_digits(o, (uint64_t)rest / 60 % 60, 2);
    out_char(o, ':');
    out_digits(o, (uint64_t)rest % 60, 2);
    out_char(o, 'Z');
}

/* For the tests: the calendar, over more times than there can be crashes. */
#ifdef FAULTHANDLER_TEST
__attribute__((visibility("default"))) size_t
faulthandler_test_utc(int64_t seconds, char *text, size_t size)
{
    struct out o = {.text = text, .size = size};
    out_utc(&o, seconds);
    return o.used;
}
#endif

/* Lower case hex, with at least width digits. */
static void
out_hex(struct out *o, uint64_t value, int width)
{
    int digits = 1;
    while (digits < 16 && value >> (4 * digits)) {
        digits++;
    }
    for (int i = digits > width ? digits : width; i-- > 0;) {
        out_char(o, "0123456789abcdef"[value >> (4 * i) & 15]);
    }
}

/* An address: 0x and all its digits. */
static void
out_address(struct out *o, uintptr_t address)
{
    out_text(o, "0x");
    out_hex(o, address, 2 * (int)sizeof address);
}

/* A character as ASCII: itself, \xhh, \uhhhh or \Uhhhhhhhh. */
static void
out_escaped(struct out *o, uint32_t c)
{
    if (c >= ' ' && c <= '~') {
        out_char(o, (char)c);
    }
    else if (c <= 0xff) {
        out_text(o, "\\x");
        out_hex(o, c, 2);
    }
    else if (c <= 0xffff) {
        out_text(o, "\\u");
        out_hex(o, c, 4);
    }
    else {
        out_text(o, "\\U");
        out_hex(o, c, 8);
    }
}

/* Forget what was written since the last end of line. */
static void
out_drop_line(struct out *o)
{
    while (o->used > 0 && o->text[o->used - 1] != '\n') {
        o->used--;
    }
}

/* ==== 6. Strings ==== */

#define STR_BLOCK 256

/* Where the characters of a str are, how many, and how wide. */
struct str {
    uintptr_t data;
    Py_ssize_t length;
    size_t width;
};

/* Is this a subclass of str? */
static bool
str_is_subclass(uintptr_t type)
{
    uintptr_t flags;
    return mem_word(type + offsetof(PyTypeObject, tp_flags), &flags) == 0
           && (flags & Py_TPFLAGS_UNICODE_SUBCLASS);
}

/* Find a str object's characters, which one of a subclass keeps elsewhere.
   Returns -1 if it is not one. */
static int
str_read(uintptr_t at, struct str *s)
{
    PyCompactUnicodeObject head;
    memset(&head, 0, sizeof head);
    if (at % sizeof at != 0
        || mem_read(&head, at, sizeof(PyASCIIObject)) < 0) {
        return -1;
    }
    const PyASCIIObject *ascii = (const PyASCIIObject *)&head;
    uintptr_t type = (uintptr_t)Py_TYPE((PyObject *)&head);
    if (type != (uintptr_t)&PyUnicode_Type
        && (ascii->state.compact || !str_is_subclass(type))) {
        return -1;
    }
    s->length = ascii->length;
    s->width = ascii->state.kind;
    s->data = at + sizeof(PyASCIIObject);
    if (s->length < 0 || (s->width != 1 && s->width != 2 && s->width != 4)
        || (ascii->state.ascii && s->width != 1)) {
        return -1;
    }
    if (!ascii->state.compact) {
        return mem_word(at + offsetof(PyUnicodeObject, data), &s->data);
    }
    if (!ascii->state.ascii) {
        s->data = at + sizeof(PyCompactUnicodeObject);
    }
    return 0;
}

/* Write a run of characters, all of which were read. */
static void
str_write_block(struct out *o, const void *block, size_t n, size_t width)
{
    const uint8_t *one = block;
    const uint16_t *two = block;
    const uint32_t *four = block;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = width == 1 ? one[i] : width == 2 ? two[i] : four[i];
        out_escaped(o, c);
    }
}

/* Does a str that is cut end where it says?  Behind its characters stands a
   zero: a damaged length would show what lies behind them. */
static bool
str_ends(const struct str *s)
{
    uint32_t end = 0;
    return s->length < PY_SSIZE_T_MAX / 4
           && mem_read(&end, s->data + (size_t)s->length * s->width,
                       s->width) == 0
           && end == 0;
}

/* Write a str object as ASCII, at most max characters of it.  Returns -1,
   with nothing written, if it is none or cannot be read. */
static int
str_write_start(struct out *o, uintptr_t at, size_t max)
{
    struct str s;
    size_t start = o->used;
    if (str_read(at, &s) < 0) {
        return -1;
    }
    bool cut = (size_t)s.length > max;
    size_t left = cut ? max : (size_t)s.length;
    bool good = !cut || str_ends(&s);
    while (good && left > 0) {
        /* With the last block comes the zero. */
        uint32_t block[STR_BLOCK / sizeof(uint32_t) + 1];
        size_t n = STR_BLOCK / s.width < left ? STR_BLOCK / s.width : left;
        size_t ends = n == left && !cut ? 1 : 0;
        uint32_t zero = 0;
        good = mem_read(block, s.data, (n + ends) * s.width) == 0;
        memcpy(&zero, (char *)block + n * s.width, ends * s.width);
        good = good && zero == 0;
        if (good) {
            str_write_block(o, block, n, s.width);
            s.data += n * s.width;
            left -= n;
        }
    }
    if (!good) {
        o->used = start;
        return -1;
    }
    out_text(o, cut ? "..." : "");
    return 0;
}

static int
str_write(struct out *o, uintptr_t at)
{
    return str_write_start(o, at, OUT_NAME_MAX);
}

/* ==== 7. Code objects ==== */

#define CODE_NO_LINE (-1)

/* What a report needs of a code object. */
struct code {
    uintptr_t at;
    uintptr_t name, filename, line_table;
    int first_line;
    intptr_t first_traceable;   /* bytes; earlier is not yet in the body */
    uintptr_t start;            /* of the instructions, 3.11+ */
    intptr_t length;            /* of the instructions, in bytes */
    uintptr_t frame_size;       /* bytes in the data stack, 3.11+ */
    int locals, stack_size;     /* words in a frame, 3.11+ */
};

static uintptr_t
code_field(const char *head, size_t offset)
{
    uintptr_t value;
    memcpy(&value, head + offset, sizeof value);
    return value;
}

static int
code_int(const char *head, size_t offset)
{
    int value;
    memcpy(&value, head + offset, sizeof value);
    return value;
}

/* Read a code object.  Returns -1 if there is none at this address. */
static int
code_read(uintptr_t at, struct code *c)
{
    union {
        PyObject object;
        char bytes[LAYOUT_CODE_SIZE];
    } head;
    if (at % sizeof at != 0 || mem_read(&head, at, sizeof head) < 0
        || Py_TYPE(&head.object) != &PyCode_Type) {
        return -1;
    }
    c->at = at;
    c->name = code_field(head.bytes, offsetof(PyCodeObject, co_name));
    c->filename = code_field(head.bytes, offsetof(PyCodeObject, co_filename));
    c->line_table = code_field(head.bytes, LAYOUT_LINE_TABLE);
    c->first_line = code_int(head.bytes,
                             offsetof(PyCodeObject, co_firstlineno));
    c->first_traceable = 0;
    c->start = 0;
    c->length = INT_MAX;
    c->frame_size = 0;
    c->locals = c->stack_size = 0;
    if (LAYOUT_CODE_START != 0) {
        c->first_traceable = 2 * (intptr_t)code_int(head.bytes,
                                                    LAYOUT_CODE_TRACEABLE);
        c->locals = code_int(head.bytes, LAYOUT_CODE_LOCALS);
        c->stack_size = code_int(head.bytes,
                                 offsetof(PyCodeObject, co_stacksize));
        c->frame_size = LAYOUT_FRAME_HEAD + sizeof(uintptr_t)
            * ((uintptr_t)c->locals + (uintptr_t)c->stack_size);
        c->start = at + LAYOUT_CODE_START;
        c->length = 2 * (intptr_t)code_field(head.bytes,
                                             offsetof(PyVarObject, ob_size));
    }
    return 0;
}

/* A line table, read a block at a time. */
struct code_table {
    uintptr_t at;               /* of the next block */
    size_t left;                /* bytes behind the block */
    size_t used, filled;
    uint8_t block[256];
};

static int
code_table_open(struct code_table *t, uintptr_t bytes)
{
    PyVarObject head;
    if (bytes % sizeof bytes != 0 || mem_read(&head, bytes, sizeof head) < 0
        || Py_TYPE((PyObject *)&head) != &PyBytes_Type
        || head.ob_size < 0 || head.ob_size > INT_MAX) {
        return -1;
    }
    t->at = bytes + offsetof(PyBytesObject, ob_sval);
    t->left = (size_t)head.ob_size;
    t->used = t->filled = 0;
    return 0;
}

/* The next byte, -1 at the end, or where it cannot be read and behind. */
static int
code_table_next(struct code_table *t)
{
    if (t->used == t->filled) {
        size_t n = t->left < sizeof t->block ? t->left : sizeof t->block;
        if (n == 0 || mem_read(t->block, t->at, n) < 0) {
            t->at = 0;
            return -1;
        }
        t->at += n;
        t->left -= n;
        t->used = 0;
        t->filled = n;
    }
    return t->block[t->used++];
}

/* A number in groups of six bits, the least significant first.  Returns -1
   if it does not end, or has more groups than an int can hold. */
static int64_t
code_table_varint(struct code_table *t)
{
    int64_t value = 0;
    for (int shift = 0; shift < 36; shift += 6) {
        int byte = code_table_next(t);
        if (byte < 0 || byte & 0x80) {
            return -1;
        }
        value |= (int64_t)(byte & 0x3f) << shift;
        if (!(byte & 0x40)) {
            return value;
        }
    }
    return -1;
}

/* 3.11+: entries of a head byte and operands.  The head says how many code
   units it covers and how its line follows from the one before. */
static int
code_find_line_311(struct code_table *t, int first_line, intptr_t offset)
{
    int64_t line = first_line;
    intptr_t end = 0;
    int head = code_table_next(t);
    while (head >= 0x80) {
        int kind = head >> 3 & 15;
        end += 2 * ((head & 7) + 1);
        if (kind == 13 || kind == 14) {
            int64_t delta = code_table_varint(t);
            if (delta < 0) {
                return CODE_NO_LINE;
            }
            line += delta & 1 ? -(delta >> 1) : delta >> 1;
        }
        else if (kind >= 10 && kind <= 12) {
            line += kind - 10;
        }
        if (offset < end) {
            return kind == 15 || line < 0 || line > INT_MAX
                   ? CODE_NO_LINE : (int)line;
        }
        do {
            head = code_table_next(t);
        } while (head >= 0 && head < 0x80);
    }
    return CODE_NO_LINE;
}

/* 3.10: pairs of (bytes covered, signed line delta); -128 means no line. */
static int
code_find_line_310(struct code_table *t, int first_line, intptr_t offset)
{
    int64_t line = first_line;
    intptr_t end = 0;
    for (;;) {
        int covered = code_table_next(t), delta = code_table_next(t);
        if (covered < 0 || delta < 0) {
            return CODE_NO_LINE;
        }
        end += covered;
        if ((int8_t)delta != -128) {
            line += (int8_t)delta;
        }
        if (offset < end) {
            return (int8_t)delta == -128 || line < 0 || line > INT_MAX
                   ? CODE_NO_LINE : (int)line;
        }
    }
}

/* 3.8, 3.9: pairs of (bytes since the last pair, signed line delta). */
static int
code_find_line_38(struct code_table *t, int first_line, intptr_t offset)
{
    int64_t line = first_line;
    intptr_t at = 0;
    for (;;) {
        int step = code_table_next(t), delta = code_table_next(t);
        at += step;
        if ((step < 0 || delta < 0) && t->left > 0) {
            return CODE_NO_LINE;        /* not the end: unreadable */
        }
        if (step < 0 || delta < 0 || at > offset) {
            return line < 0 || line > INT_MAX ? CODE_NO_LINE : (int)line;
        }
        line += (int8_t)delta;
    }
}

/* The line of the instruction at a byte offset, CODE_NO_LINE if it has none
   or the table makes no sense.  Before the first instruction it is the line
   of the definition. */
static int
code_line(const struct code *c, intptr_t offset)
{
    struct code_table t;
    if (offset < 0) {
        return offset >= -2 ? c->first_line : CODE_NO_LINE;
    }
    if (offset >= c->length || code_table_open(&t, c->line_table) < 0) {
        return CODE_NO_LINE;
    }
    switch (LAYOUT_LINES) {
    case LAYOUT_LINES_311:
        return code_find_line_311(&t, c->first_line, offset);
    case LAYOUT_LINES_310:
        return code_find_line_310(&t, c->first_line, offset);
    default:
        return code_find_line_38(&t, c->first_line, offset);
    }
}

/* ==== 8. Frames ==== */

/* The newest frames that are shown of a deep stack, and the oldest. */
#define FRAME_NEWEST 90
#define FRAME_OLDEST 10
#define FRAME_MAX (FRAME_NEWEST + FRAME_OLDEST)

/* A chain of this many frames in a row without a readable code object is no
   Python stack. */
#define FRAME_STRANGERS_MAX 4

struct frame {
    uintptr_t at, previous, code;
    uintptr_t instr;            /* address, 3.11+; offset before */
    intptr_t depth;             /* of its locals and values, 3.11+; or -1 */
    int owner;
    int traced_line;            /* known by the tracer, else 0; before 3.11 */
    bool runs;                  /* is being evaluated; before 3.11 */
    bool entry;                 /* its evaluation loop's first; before 3.12 */
};

/* The fields of a frame object, up to 3.10.  Its offset counts code units in
   3.10, bytes before; its line is the tracer's. */
static void
frame_read_object(struct frame *f, const char *raw)
{
    int offset, line;
    bool units = LAYOUT_LINES == LAYOUT_LINES_310;
    memcpy(&offset, raw + layout.frame_instr, sizeof offset);
    memcpy(&line, raw + LAYOUT_FRAME_LINENO, sizeof line);
    f->instr = (uintptr_t)((intptr_t)offset * (units && offset > 0 ? 2 : 1));
    f->owner = 0;
    f->entry = true;
    f->runs = raw[LAYOUT_FRAME_STATE] == LAYOUT_FRAME_RUNS;
    /* So does one that waits for its tracer, which has a line. */
    if (LAYOUT_FRAME_DEPTH != 0 && line == 0) {
        memcpy(&offset, raw + LAYOUT_FRAME_DEPTH, sizeof offset);
        f->runs = f->runs && (offset < 0 || f->previous != 0);
        f->entry = offset < 0;
    }
    if (units || code_field(raw, LAYOUT_FRAME_TRACE) != 0) {
        f->traced_line = line;
    }
}

/* Read the frame at an address.  Returns -1 if it cannot be read. */
static int
frame_read(uintptr_t at, struct frame *f)
{
    union {
        PyObject object;
        char bytes[LAYOUT_FRAME_SIZE];
    } raw;
    if (at % sizeof at != 0 || mem_read(&raw, at, sizeof raw) < 0) {
        return -1;
    }
    f->at = at;
    f->previous = code_field(raw.bytes, layout.frame_previous);
    f->code = layout_untag(code_field(raw.bytes, layout.frame_code));
    f->traced_line = 0;
    if (LAYOUT_FRAME_OBJECTS) {
        frame_read_object(f, raw.bytes);
        if (Py_TYPE(&raw.object) != &PyFrame_Type) {
            f->code = 0;
            f->owner = -1;
        }
        return 0;
    }
    f->instr = code_field(raw.bytes, layout.frame_instr);
    f->owner = raw.bytes[layout.frame_owner];
    f->entry = LAYOUT_FRAME_ENTRY != 0 && raw.bytes[LAYOUT_FRAME_ENTRY] == 1;
    f->depth = layout_frame_depth(at, code_field(raw.bytes,
                                                 LAYOUT_FRAME_TOP));
    return 0;
}

/* Where the frame is in its code, in bytes. */
static intptr_t
frame_offset(const struct frame *f, const struct code *c)
{
    return (intptr_t)(f->instr - c->start);
}

/* The frame's line, CODE_NO_LINE if it has none. */
static int
frame_line(const struct frame *f, const struct code *c)
{
    return f->traced_line > 0 ? f->traced_line
                              : code_line(c, frame_offset(f, c));
}

/* Is it an entry into the evaluation loop, not Python code? */
static bool
frame_is_shim(const struct frame *f)
{
    return f->owner >= LAYOUT_OWNER_SHIM && f->owner <= LAYOUT_OWNER_MAX;
}

/* Has it not begun its body yet?  The traceback module hides such frames,
   and the trampoline of a specialised __init__ is one for ever. */
static bool
frame_is_incomplete(const struct frame *f, const struct code *c)
{
    intptr_t offset = frame_offset(f, c);
    return c->first_traceable > 0 && f->owner != LAYOUT_OWNER_GENERATOR
           && offset >= -2 && offset < c->first_traceable;
}

/* The newest frame of a thread state, 0 if it has none.  Returns -1 if the
   thread state cannot be read. */
static int
frame_newest(uintptr_t tstate, uintptr_t *frame)
{
    if (mem_word(tstate + layout.tstate_frame, frame) < 0) {
        return -1;
    }
    if (LAYOUT_HAS_CFRAME && *frame != 0) {
        return mem_word(*frame + LAYOUT_CFRAME_FRAME, frame);
    }
    return 0;
}

/* The frames of a thread that were not passed yet, by where they lie, 3.11+.
   Each chunk's frames begin at base; a base of 0 means that none is left. */
struct frame_stack {
    uintptr_t previous;         /* the chunk below */
    uintptr_t base, top, limit;
};

static void
frame_stack_open(struct frame_stack *s, uintptr_t chunk)
{
    struct layout_chunk head;
    memset(s, 0, sizeof *s);
    if (chunk % sizeof chunk == 0 && mem_read(&head, chunk, sizeof head) == 0
        && head.size < SIZE_MAX / 4 && head.top < head.size) {
        /* The first word of the first chunk is not used. */
        s->base = chunk + sizeof head
                  + (head.previous == 0 ? sizeof chunk : 0);
        s->top = chunk + sizeof head + head.top * sizeof chunk;
        s->limit = chunk + head.size;
        s->previous = head.previous;
    }
}

/* The frames from an address up were passed. */
static void
frame_stack_pass(struct frame_stack *s, uintptr_t at)
{
    s->top = at;
    if (at == s->base) {
        frame_stack_open(s, s->previous);
    }
}

/* Pass the frames down to the one at an address.  Returns -1 if it is not in
   the stack, or was passed. */
static int
frame_stack_find(struct frame_stack *s, uintptr_t at)
{
    struct frame_stack below = *s;
    struct mem_chain chain = {0, 0, 0};
    while (below.base != 0 && (at < below.base || at >= below.top)) {
        if (mem_chain_step(&chain, below.previous) < 0) {
            return -1;
        }
        frame_stack_open(&below, below.previous);
    }
    if (below.base == 0) {
        return -1;
    }
    *s = below;
    frame_stack_pass(s, at);
    return 0;
}

/* Find the frame right under those that were passed: the one that ends where
   they begin.  Returns -1 if there is none. */
static int
frame_stack_below(const struct frame_stack *s, struct frame *f,
                  struct code *c)
{
    for (uintptr_t at = s->top; at > s->base; ) {
        at -= sizeof at;
        if (frame_read(at, f) == 0 && f->owner == LAYOUT_OWNER_THREAD
            && code_read(f->code, c) == 0 && at + c->frame_size == s->top) {
            return 0;
        }
    }
    return -1;
}

#define FRAME_KNOWN 64

/* A walk down a stack, frame by frame, hiding what traceback hides. */
struct frame_walk {
    uintptr_t tstate, next;
    struct frame frame;
    struct code code;           /* code.at is 0 where there is none */
    struct mem_chain chain;
    int strangers;              /* frames in a row without a code object */
    bool bridges;               /* links are checked, and bridged */
    bool bridged;               /* this frame was found behind a bad link */
    bool direct;                /* the last one was not called from C, 3.11+ */
    uintptr_t last;             /* the last one that is no shim */
    uintptr_t landing;          /* where the links lead to: already checked */
    struct frame_stack stack;   /* 3.11+ */
    uintptr_t c_stack;          /* the C stack, as far as it is searched */
    uintptr_t c_stack_end;
    uintptr_t found;            /* up to 3.10: where the last one was found */
    uintptr_t objects;          /* and where small objects are */
    bool suspect;               /* up to 3.10: the links lead astray */
    size_t seen_count;
    uintptr_t known[FRAME_KNOWN];   /* words that are nothing new */
    uintptr_t seen[FRAME_MAX];  /* the last ones */
};

enum frame_walk_result { FRAME_WALK_ON, FRAME_WALK_END, FRAME_WALK_CUT };

static enum frame_walk_result
frame_walk_begin(struct frame_walk *w, uintptr_t tstate)
{
    memset(w, 0, offsetof(struct frame_walk, seen));
    w->tstate = tstate;
    return frame_newest(tstate, &w->next) < 0 ? FRAME_WALK_CUT
                                              : FRAME_WALK_ON;
}

static bool
frame_was_seen(const struct frame_walk *w, uintptr_t at)
{
    for (size_t i = 0; i < w->seen_count && i < FRAME_MAX; i++) {
        if (w->seen[i] == at) {
            return true;
        }
    }
    return false;
}

/* How far the C stack is searched, how far from its end for the oldest frame
   object, and how many links are followed to put them in order. */
#define FRAME_SCAN_BYTES (8 * 1024 * 1024)
#define FRAME_OLDEST_BYTES (64 * 1024)
#define FRAME_OLDEST_TRIES 4
#define FRAME_SCAN_LINKS (4 * 1024 * 1024)

/* The words of a piece of memory that may be pointers, one by one.  The piece
   may begin before what can be read, and end behind it. */
struct frame_words {
    uintptr_t at, end;          /* of the next block */
    bool begun;
    size_t used, filled;
    uintptr_t block[64];
};

static void
frame_words_open(struct frame_words *words, uintptr_t at, uintptr_t end)
{
    words->at = at;
    words->end = end;
    words->begun = false;
    words->used = words->filled = 0;
}

/* The next pointer without its tag, 0 at the end. */
static uintptr_t
frame_words_next(struct frame_words *words)
{
    for (;;) {
        while (words->used < words->filled) {
            uintptr_t word = layout_untag(words->block[words->used++]);
            if (word >= 4096 && word % sizeof word == 0) {
                return word;
            }
        }
        if (words->at >= words->end) {
            return 0;
        }
        size_t n = words->end - words->at;
        n = n < sizeof words->block ? n : sizeof words->block;
        words->used = words->filled = 0;
        if (mem_read(words->block, words->at, n) == 0) {
            words->filled = n / sizeof *words->block;
            words->begun = true;
        }
        else if (words->begun) {
            return 0;
        }
        words->at += n;
    }
}

/* Does the chain of frame objects from one lead to another? */
static bool
frame_leads_to(uintptr_t from, uintptr_t to, size_t *links)
{
    struct mem_chain chain = {0, 0, 0};
    while (from != to) {
        if (from == 0 || *links == 0 || mem_chain_step(&chain, from) < 0
            || mem_word(from + layout.frame_previous, &from) < 0) {
            return false;
        }
        --*links;
    }
    return true;
}

/* Is there a frame object at this address that is being evaluated? */
static bool
frame_runs(uintptr_t at)
{
    struct frame f;
    struct code c;
    uintptr_t type;
    return mem_word(at + offsetof(PyObject, ob_type), &type) == 0
           && type == (uintptr_t)&PyFrame_Type
           && frame_read(at, &f) == 0 && f.owner == 0 && f.runs
           && code_read(f.code, &c) == 0;
}

/* Is this frame, or frame object, in the stack of a thread state? */
static bool
frame_is_of(uintptr_t tstate, uintptr_t at)
{
    uintptr_t first;
    size_t steps = FRAME_SCAN_LINKS;
    struct frame_stack s;
    if (LAYOUT_FRAME_OBJECTS) {
        return frame_newest(tstate, &first) == 0
               && frame_leads_to(first, at, &steps);
    }
    if (mem_word(tstate + LAYOUT_TSTATE_CHUNK, &first) < 0) {
        return false;
    }
    frame_stack_open(&s, first);
    s.top = s.limit;
    return frame_stack_find(&s, at) == 0;
}

/* Is it in the stack of one of the states that a link leads to? */
static bool
frame_is_of_any(uintptr_t tstate, size_t link, uintptr_t but, uintptr_t at)
{
    struct mem_chain chain = {0, 0, 0};
    while (tstate != 0 && mem_chain_step(&chain, tstate) == 0) {
        if (tstate != but && frame_is_of(tstate, at)) {
            return true;
        }
        if (mem_word(tstate + link, &tstate) < 0) {
            return false;
        }
    }
    return false;
}

/* Does this frame, or frame object, belong to another thread state: of
   another thread, or of another interpreter that this one runs in? */
static bool
frame_is_foreign(const struct frame_walk *w, uintptr_t at)
{
    struct mem_chain chain = {0, 0, 0};
    uintptr_t states, interp = (uintptr_t)PyInterpreterState_Head();
    if (frame_is_of_any(w->tstate, layout.tstate_prev, w->tstate, at)
        || frame_is_of_any(w->tstate, layout.tstate_next, w->tstate, at)) {
        return true;
    }
    while (interp != 0 && mem_chain_step(&chain, interp) == 0
           && mem_word(interp + layout.interp_threads, &states) == 0) {
        if (frame_is_of_any(states, layout.tstate_next, w->tstate, at)) {
            return true;
        }
        if (mem_word(interp + layout.interp_next, &interp) < 0) {
            return false;
        }
    }
    return false;
}

/* pthread_self() of the main thread, 0 if it did not import the module. */
static uintptr_t frame_main_ident;

/* Where is the thread's C stack?  glibc's pthread_t is at the upper end of it,
   but for the main thread. */
static void
frame_find_c_stack(struct frame_walk *w, uintptr_t tstate, uintptr_t sp)
{
    uintptr_t ends[] = {0, platform_main_stack_end()};
    if (mem_word(tstate + layout.tstate_ident, &ends[0]) < 0) {
        ends[0] = 0;
    }
    w->c_stack = sp / sizeof sp * sizeof sp;
    w->c_stack_end = sp + FRAME_SCAN_BYTES;
    for (size_t i = 0; sp != 0 && i < 2; i++) {
        if (ends[i] - sp < w->c_stack_end - sp) {
            w->c_stack_end = ends[i];
        }
    }
    if (sp == 0) {
        /* As far as it goes: below a small one there may be another's. */
        uintptr_t word, page = 4096;
        w->c_stack_end = ends[0] == frame_main_ident ? ends[1] : ends[0];
        w->c_stack = w->c_stack_end;
        while (w->c_stack_end - w->c_stack < FRAME_SCAN_BYTES / 8
               && mem_word(w->c_stack - page, &word) == 0) {
            w->c_stack -= page;
        }
    }
}

/* Is this word worth a try?  A bad one costs a fault, so what lies far from
   the thread state, a frame and a code object is not looked at, and what may
   be the end of a mapping is looked at with the kernel's eyes. */
#define FRAME_REACH ((uintptr_t)1 << 36)

static bool
frame_is_near(uintptr_t at, uintptr_t other)
{
    return at - other + FRAME_REACH <= 2 * FRAME_REACH;
}

static bool
frame_may_begin_page(uintptr_t at)
{
    uintptr_t type;
    const void *place = (const void *)(at + offsetof(PyObject, ob_type));
    return platform_read_self(mem_here->pid, &type, place, sizeof type) == 0
           && type == (uintptr_t)&PyFrame_Type;
}

static bool
frame_is_likely(const struct frame_walk *w, uintptr_t at, uintptr_t frame)
{
    return at % 16 == 0
           && (frame_is_near(at, frame) || frame_is_near(at, w->tstate)
               || frame_is_near(at, w->objects))
           && at - w->c_stack >= w->c_stack_end - w->c_stack
           && (at % 4096 != 0 || frame_may_begin_page(at));
}

/* Has greenlet been loaded, by the paths of the shared objects? */
static bool
frame_has_greenlets(void)
{
    static const char word[] = "greenlet";
    struct mem_chain chain = {0, 0, 0};
    struct link_map map;
    uintptr_t at = platform_all_objects();
    for (; at != 0; at = (uintptr_t)map.l_next) {
        if (mem_chain_step(&chain, at) < 0
            || mem_read(&map, at, sizeof map) < 0) {
            return false;
        }
        size_t matched = 0;
        char c = '\1';
        for (uintptr_t name = (uintptr_t)map.l_name;
             c != '\0' && mem_read(&c, name, 1) == 0; name++) {
            matched = c == word[matched] ? matched + 1 : c == word[0];
            if (word[matched] == '\0') {
                return true;
            }
        }
    }
    return false;
}

/* Do the links not lead to the oldest frame object that the C stack holds, but
   for those of another interpreter that runs this one?  It is near the end.
   A greenlet's do not: behind its oldest frame there are those of the one that
   started it. */
static bool
frame_is_astray(const struct frame_walk *w)
{
    uintptr_t block[64], newest, last = 0;
    size_t links = FRAME_SCAN_LINKS, tries = 0;
    if (frame_newest(w->tstate, &newest) < 0) {
        return true;
    }
    for (size_t n = 1; n <= FRAME_OLDEST_BYTES / sizeof block; n++) {
        if (w->c_stack_end - w->c_stack < n * sizeof block
            || mem_read(block, w->c_stack_end - n * sizeof block,
                        sizeof block) < 0) {
            return false;
        }
        for (size_t i = sizeof block / sizeof *block; i-- > 0; ) {
            if (block[i] == last || !frame_is_likely(w, block[i], newest)
                || !frame_runs(block[i])) {
                continue;
            }
            last = block[i];
            if (frame_leads_to(newest, last, &links)
                || ++tries == FRAME_OLDEST_TRIES) {
                return false;
            }
            if (!frame_is_foreign(w, last)) {
                return links > 0 && !frame_has_greenlets();
            }
        }
    }
    return false;
}

/* Find the newest frame object behind the last one that was seen, by the
   pointers that the evaluation loop left on the C stack: one that does not
   lead to the last one, and leads to the others. */
static int
frame_scan(struct frame_walk *w)
{
    struct frame_words words;
    uintptr_t at, best = 0, rejected = 0;
    uintptr_t last = w->seen_count == 0 ? 1 : w->last;
    size_t links = FRAME_SCAN_LINKS;
    frame_words_open(&words, w->c_stack, w->c_stack_end);
    while (links > 0 && (at = frame_words_next(&words)) != 0) {
        if (at == best || at == rejected || !frame_runs(at)) {
            continue;
        }
        if (!frame_leads_to(at, last, &links)
            && (best == 0 || frame_leads_to(at, best, &links))
            && !frame_is_foreign(w, at)) {
            best = at;
        }
        else {
            rejected = at;
        }
    }
    return best != 0 && frame_read(best, &w->frame) == 0
           && code_read(w->frame.code, &w->code) == 0 ? 0 : -1;
}

/* Does a link to a frame object pass over another one?  Then that one is found
   on the C stack before the one that the link leads to. */
static bool
frame_passes_over(struct frame_walk *w)
{
    struct frame_words words;
    uintptr_t at, newest, to = w->frame.at;
    size_t links = FRAME_SCAN_LINKS;
    if (w->found == 0 || w->seen_count >= FRAME_MAX
        || frame_newest(w->tstate, &newest) < 0) {
        return false;
    }
    frame_words_open(&words, w->found, w->c_stack_end);
    while ((at = frame_words_next(&words)) != 0) {
        uintptr_t *known = &w->known[at / 16 % FRAME_KNOWN];
        if (at == to) {
            /* The block is looked at again: the next one may be in it. */
            w->found = words.at - words.filled * sizeof at
                       + (words.used - 1) * sizeof at;
            *known = at;
            return false;
        }
        if (at != *known && frame_is_likely(w, at, to)) {
            *known = at;
            if (frame_runs(at) && !frame_was_seen(w, at)
                && !frame_leads_to(newest, at, &links) && links > 0
                && !frame_is_foreign(w, at)) {
                return true;
            }
        }
    }
    return false;
}

/* Read the frame of the generator, coroutine or asynchronous generator at
   this address.  Returns -1 if there is none, or it does not run. */
static int
frame_of_generator(uintptr_t at, struct frame *f)
{
    uintptr_t type;
    char state;
    return mem_word(at + offsetof(PyObject, ob_type), &type) == 0
           && (type == (uintptr_t)&PyGen_Type
               || type == (uintptr_t)&PyCoro_Type
               || type == (uintptr_t)&PyAsyncGen_Type)
           && mem_read(&state, at + layout.gen_state, 1) == 0
           && state == LAYOUT_GEN_RUNS
           && frame_read(at + layout.gen_frame, f) == 0
           && f->owner == LAYOUT_OWNER_GENERATOR ? 0 : -1;
}

/* Was this frame called from that one, perhaps from C? */
static bool
frame_is_called_by(struct frame f, uintptr_t caller)
{
    struct mem_chain chain = {0, 0, 0};
    while (f.previous != caller) {
        if (mem_chain_step(&chain, f.at) < 0 || frame_read(f.previous, &f) < 0
            || !frame_is_shim(&f)) {
            return false;
        }
    }
    return true;
}

/* Find, among some words, the generator that a frame runs: one whose frame
   was called by it, and was not passed. */
static int
frame_find_generator(const struct frame_walk *w, struct frame_words *words,
                     uintptr_t caller, struct frame *found)
{
    uintptr_t at;
    while ((at = frame_words_next(words)) != 0) {
        if (at + layout.gen_frame != w->last
            && frame_of_generator(at, found) == 0
            && !frame_was_seen(w, found->at)
            && frame_is_called_by(*found, caller)) {
            return 0;
        }
    }
    return -1;
}

/* Find the generator that a frame runs among its values, where it lies while
   it is iterated over, awaited, or passed to a C function. */
static int
frame_find_value(const struct frame_walk *w, const struct frame *f,
                 const struct code *c, struct frame *found)
{
    struct frame_words words;
    intptr_t depth = f->depth < 0 ? c->locals + c->stack_size : f->depth;
    if (depth <= c->locals || depth > c->locals + c->stack_size) {
        return -1;
    }
    uintptr_t values = f->at + LAYOUT_FRAME_HEAD;
    frame_words_open(&words, values + sizeof values * (uintptr_t)c->locals,
                     values + sizeof values * (uintptr_t)depth);
    return frame_find_generator(w, &words, f->at, found);
}

/* Go from a frame to the newest of the generators that it runs, in each other.
   C functions that run one keep it on the C stack.  Returns -1 if there is
   none. */
static int
frame_climb(const struct frame_walk *w, struct frame *f, struct code *c,
            bool c_stack)
{
    struct mem_chain chain = {0, 0, 0};
    struct frame_words words;
    struct frame found;
    struct code code;
    int result = -1;
    for (;;) {
        frame_words_open(&words, w->c_stack, w->c_stack_end);
        if ((frame_find_value(w, f, c, &found) < 0
             && (!c_stack
                 || frame_find_generator(w, &words, f->at, &found) < 0))
            || mem_chain_step(&chain, found.at) < 0
            || code_read(found.code, &code) < 0) {
            return result;
        }
        *f = found;
        *c = code;
        result = 0;
    }
}

/* Find the newest frame behind the last one: the first one of the data stack
   that was not passed, or a generator that it runs. */
static int
frame_find_behind(const struct frame_walk *w, struct frame *f, struct code *c,
                  uintptr_t *landing)
{
    if (frame_stack_below(&w->stack, f, c) < 0) {
        return -1;
    }
    *landing = f->at;
    frame_climb(w, f, c, true);
    return 0;
}

/* Follow shims and generators' frames to the frame of a data stack.  Returns
   -1 if they do not lead there, 1 if they are the end of a stack. */
static int
frame_land(struct frame *f)
{
    struct mem_chain chain = {0, 0, 0};
    while (frame_is_shim(f) || f->owner == LAYOUT_OWNER_GENERATOR) {
        if (f->previous == 0) {
            return 1;
        }
        if (mem_chain_step(&chain, f->at) < 0
            || frame_read(f->previous, f) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Is the top of the data stack damaged?  Then frames lie above it. */
static bool
frame_top_is_wrong(uintptr_t tstate, const struct frame_stack *s,
                   uintptr_t top)
{
    struct frame f;
    uintptr_t newest;
    return frame_newest(tstate, &newest) == 0 && frame_read(newest, &f) == 0
           && frame_land(&f) == 0 && f.at >= top && f.at < s->limit;
}

/* Look behind damaged links from now on: for a crash only, when the thread
   does not run.  sp is its stack pointer, 0 where it is not known.  Returns
   -1 if there is nothing to be found. */
static int
frame_bridge_begin(struct frame_walk *w, uintptr_t tstate, uintptr_t sp)
{
    uintptr_t chunk, top, newest;
    frame_find_c_stack(w, tstate, sp);
    if (LAYOUT_FRAME_OBJECTS) {
        if (frame_newest(tstate, &newest) < 0
            || mem_word(newest + layout.frame_code, &w->objects) < 0) {
            w->objects = 0;
        }
        w->bridges = w->c_stack < w->c_stack_end;
        w->suspect = w->bridges && frame_is_astray(w);
    }
    else if (mem_word(tstate + LAYOUT_TSTATE_CHUNK, &chunk) == 0
             && mem_word(tstate + LAYOUT_TSTATE_TOP, &top) == 0) {
        frame_stack_open(&w->stack, chunk);
        if (top >= w->stack.base && top <= w->stack.limit
            && !frame_top_is_wrong(tstate, &w->stack, top)) {
            frame_stack_pass(&w->stack, top);
            w->bridges = w->stack.base != 0;
        }
    }
    if (w->bridges && frame_newest(tstate, &w->next) < 0) {
        w->next = 1;            /* a link that leads nowhere */
    }
    return w->bridges ? 0 : -1;
}

/* Find the frame behind a link that leads nowhere, to what is no frame, or
   past frames that are in use.  Where there is none, the link is taken as it
   is. */
static enum frame_walk_result
frame_bridge(struct frame_walk *w, enum frame_walk_result result)
{
    struct frame f;
    struct code c;
    if (LAYOUT_FRAME_OBJECTS) {
        uintptr_t at = result == FRAME_WALK_ON ? w->frame.at : 0;
        w->bridges = false;     /* once: what it finds must be new */
        if (frame_scan(w) < 0) {
            return w->seen_count == 0 || result == FRAME_WALK_END
                   ? result : FRAME_WALK_CUT;
        }
        w->bridged = w->frame.at != at;
        return FRAME_WALK_ON;
    }
    if (w->stack.base == 0) {
        return result == FRAME_WALK_END ? result : FRAME_WALK_CUT;
    }
    if (frame_find_behind(w, &f, &c, &w->landing) < 0) {
        return result;
    }
    if (result != FRAME_WALK_ON || f.at != w->frame.at) {
        w->bridged = true;
        w->frame = f;
        w->code = c;
    }
    if (f.at == w->landing) {
        frame_stack_pass(&w->stack, f.at);
        w->landing = 0;
    }
    return FRAME_WALK_ON;
}

/* Is this frame of the data stack in use?  One that has not begun, or has
   ended and whose locals are being freed, has no values.  The trampoline of a
   specialised __init__ has one, but no line. */
static bool
frame_is_used(const struct frame *f, const struct code *c)
{
    return (f->depth == -1 || (f->depth > c->locals
                               && f->depth <= c->locals + c->stack_size))
           && frame_line(f, c) >= 0;
}

/* Does a link to a frame of the data stack pass over another one that is in
   use?  Calls within the evaluation loop lie side by side.  Between others
   one frame may lie that has just ended. */
static bool
frame_skips(const struct frame_walk *w, const struct frame *to)
{
    struct frame_stack s = w->stack;
    struct frame f;
    struct code c;
    if (code_read(to->code, &c) < 0 || to->at + c.frame_size == s.top) {
        return false;
    }
    while (s.base != 0 && frame_stack_below(&s, &f, &c) == 0
           && f.at != to->at) {
        size_t links = FRAME_SCAN_LINKS;
        if ((w->direct && to->at == w->frame.at)
            || (frame_is_used(&f, &c)
                && frame_leads_to(f.at, to->at, &links))) {
            return true;
        }
        frame_stack_pass(&s, f.at);
    }
    return false;
}

/* Is a generator's frame the next one, though a link behind it is damaged?
   Then the frame that is found there knows the generator; or, where that link
   leads nowhere, a C function. */
static bool
frame_is_ours(const struct frame_walk *w, uintptr_t at, bool leads_nowhere)
{
    struct frame_words words;
    struct frame f;
    struct code c;
    uintptr_t word, landing, generator = at - layout.gen_frame;
    if (frame_find_behind(w, &f, &c, &landing) == 0) {
        frame_words_open(&words, f.at, f.at + c.frame_size);
        while ((word = frame_words_next(&words)) != 0) {
            if (word == generator) {
                return true;
            }
        }
    }
    frame_words_open(&words, w->c_stack, w->c_stack_end);
    while (leads_nowhere && (word = frame_words_next(&words)) != 0) {
        if (word == generator) {
            return true;
        }
    }
    return false;
}

/* Does a frame that is reached say that another one than the last one was
   called from it: that it waits for C though the last one was not called from
   there, or that a generator runs? */
static bool
frame_calls_other(const struct frame_walk *w)
{
    struct frame f;
    if (w->code.at == 0 || w->frame.depth == w->code.locals) {
        return false;
    }
    if (frame_find_value(w, &w->frame, &w->code, &f) < 0) {
        return w->direct && w->frame.depth == -1;
    }
    struct code c;
    if (w->direct || code_read(f.code, &c) < 0) {
        return w->direct;
    }
    frame_climb(w, &f, &c, false);
    return f.depth == -1
           || (LAYOUT_KEEPS_DEPTH && frame_is_used(&f, &c)
               && !(w->last == 0 && f.previous == w->frame.at));
}

/* May the frame that a link names be there?  A shim, which is not shown, may
   lie anywhere; a generator's frame too, but it leads to this thread's data
   stack, or ends it. */
static bool
frame_is_next(struct frame_walk *w)
{
    if (frame_is_shim(&w->frame)) {
        return true;
    }
    if (frame_calls_other(w)) {
        return false;
    }
    if (w->landing == 0
        && (w->code.at == 0 || w->frame.owner != LAYOUT_OWNER_THREAD
            || w->frame.at + w->code.frame_size != w->stack.top)) {
        struct frame f = w->frame;
        struct frame_stack s = w->stack;
        struct code c;
        int found = frame_land(&f);
        bool is_in_stack = found == 0 && frame_stack_find(&s, f.at) == 0;
        if (is_in_stack && !frame_skips(w, &f)) {
            w->landing = f.at;
        }
        else if (w->stack.base != 0 || found < 0) {
            return w->frame.owner == LAYOUT_OWNER_GENERATOR
                   && frame_is_ours(w, w->frame.at, !is_in_stack);
        }
        else {
            /* A greenlet's stack may go on in its parent's. */
            return found == 1 || (code_read(f.code, &c) == 0
                                  && !frame_is_foreign(w, f.at));
        }
    }
    if (w->frame.owner == LAYOUT_OWNER_GENERATOR) {
        return true;
    }
    w->landing = 0;
    return frame_stack_find(&w->stack, w->frame.at) == 0;
}

/* May a link lead to what was found there? */
static bool
frame_is_sound(struct frame_walk *w, enum frame_walk_result result)
{
    if (result == FRAME_WALK_END) {
        return LAYOUT_FRAME_OBJECTS ? w->seen_count > 0 && !w->suspect
                                    : w->stack.base == 0;
    }
    if (result != FRAME_WALK_ON || frame_was_seen(w, w->frame.at)) {
        return false;
    }
    if (LAYOUT_FRAME_OBJECTS) {
        return w->frame.owner == 0
               && !(w->suspect && frame_is_foreign(w, w->frame.at))
               && !frame_passes_over(w);
    }
    return frame_is_next(w);
}

/* Read the frame that the last one names, and its code object. */
static enum frame_walk_result
frame_follow(struct frame_walk *w)
{
    if (w->next == 0) {
        return FRAME_WALK_END;
    }
    if (mem_chain_step(&w->chain, w->next) < 0
        || frame_read(w->next, &w->frame) < 0) {
        return FRAME_WALK_CUT;
    }
    /* In a recursion the code object is known. */
    if (!frame_is_shim(&w->frame)
        && (w->code.at != w->frame.code || w->code.at == 0)
        && code_read(w->frame.code, &w->code) < 0) {
        w->code.at = 0;
    }
    return FRAME_WALK_ON;
}

/* Go to the next frame, and tell whether it is one that is shown. */
static enum frame_walk_result
frame_walk_step(struct frame_walk *w, bool *shown)
{
    struct mem_chain chain = w->chain;
    enum frame_walk_result result = frame_follow(w);
    if (w->bridges && !frame_is_sound(w, result)) {
        uintptr_t at = result == FRAME_WALK_ON ? w->frame.at : 0;
        result = frame_bridge(w, result);
        if (result == FRAME_WALK_ON && w->frame.at != at) {
            /* What was refused may come later. */
            w->chain = chain;
            result = mem_chain_step(&w->chain, w->frame.at) < 0
                     ? FRAME_WALK_CUT : FRAME_WALK_ON;
        }
    }
    if (result != FRAME_WALK_ON) {
        return result;
    }
    w->next = w->frame.previous;
    w->seen[w->seen_count++ % FRAME_MAX] = w->frame.at;
    *shown = !frame_is_shim(&w->frame);
    w->direct = w->frame.owner == LAYOUT_OWNER_THREAD && !w->frame.entry;
    if (*shown) {
        w->last = w->frame.at;
    }
    if (*shown && w->code.at == 0) {
        return ++w->strangers > FRAME_STRANGERS_MAX ? FRAME_WALK_CUT
                                                    : FRAME_WALK_ON;
    }
    if (*shown) {
        w->strangers = 0;
        *shown = !frame_is_incomplete(&w->frame, &w->code);
    }
    return FRAME_WALK_ON;
}

/* Go to the next frame that is shown. */
static enum frame_walk_result
frame_walk_next(struct frame_walk *w)
{
    enum frame_walk_result result;
    bool shown = false;
    do {
        result = frame_walk_step(w, &shown);
    } while (result == FRAME_WALK_ON && !shown);
    return result;
}

/* The evaluation loops of a thread state, the newest first.  Links are taken
   as they are: a loop has the frames that it runs, or is not found. */
struct frame_loops {
    struct frame_walk walk;     /* behind the last frame of this loop */
    struct frame_walk start;    /* before its first */
    size_t shown;               /* of its frames */
    uintptr_t place;            /* in its C frame; 0: not known */
    uintptr_t link;             /* the next loop's place, 3.10 and 3.11 */
    enum frame_walk_result result;    /* FRAME_WALK_ON: there is a loop */
};

/* Is the frame that was reached this loop's first?  A generator that is thrown
   into, and hands it on, has none, though in 3.11 it is marked: the next loop
   then has another newest frame than the one behind it. */
static bool
frame_loops_is_first(const struct frame_loops *l)
{
    uintptr_t loop, newest;
    if (!l->walk.frame.entry || !LAYOUT_HAS_CFRAME || l->link == 0
        || l->walk.frame.owner != LAYOUT_OWNER_GENERATOR) {
        return l->walk.frame.entry;
    }
    return mem_word(l->link + LAYOUT_LOOP_PREVIOUS, &loop) < 0
           || mem_word(loop + LAYOUT_CFRAME_FRAME, &newest) < 0
           || newest == l->walk.next;
}

/* Go to the next loop. */
static void
frame_loops_next(struct frame_loops *l)
{
    bool shown = false, any = false, last = false;
    l->start = l->walk;
    l->place = l->link;
    l->shown = 0;
    while (!last
           && (l->result = frame_walk_step(&l->walk, &shown))
              == FRAME_WALK_ON) {
        any = true;
        l->shown += shown;
        last = LAYOUT_LOOP_SHIMS ? frame_is_shim(&l->walk.frame)
                                 : frame_loops_is_first(l);
    }
    if (LAYOUT_LOOP_SHIMS) {
        l->place = last ? l->walk.frame.at : 0;
    }
    else if (l->link != 0
             && mem_word(l->link + LAYOUT_LOOP_PREVIOUS, &l->link) < 0) {
        l->link = 0;
    }
    if (l->result == FRAME_WALK_END && any) {
        l->result = FRAME_WALK_ON;
    }
}

/* Go to the first one. */
static void
frame_loops_begin(struct frame_loops *l, uintptr_t tstate)
{
    l->link = 0;
    l->result = frame_walk_begin(&l->walk, tstate);
    if (LAYOUT_TSTATE_LOOP != 0
        && mem_word(tstate + LAYOUT_TSTATE_LOOP, &l->link) < 0) {
        l->link = 0;
    }
    if (l->result == FRAME_WALK_ON) {
        frame_loops_next(l);
    }
}

/* Lines already in the buffer that later frames repeat: recursion, and threads
   that wait in the same place.  A line is known by all that it was made of,
   so that another code object at the same address is not taken for it. */
#define FRAME_LINES 128

struct frame_line {
    uintptr_t code, instr, name, filename, line_table;
    int traced_line;
    uint32_t at, length;        /* in the buffer; a length of 0: none */
};

struct frame_memory {
    size_t flushes;
    uintptr_t filename;         /* the last one, and where it stands */
    size_t name, name_length;
    bool unknown;               /* a ??? was written: it may have changed */
    struct frame_line lines[FRAME_LINES];
};

/* Forget what no longer stands in the buffer. */
static void
frame_memory_check(struct frame_memory *m, const struct out *o)
{
    if (m->flushes != o->flushes) {
        memset(m->lines, 0, sizeof m->lines);
        m->name_length = 0;
        m->flushes = o->flushes;
    }
}

/* The place where a frame's line is kept, filled in but for what it is kept
   for; *known tells whether that is there. */
static struct frame_line *
frame_memory_find(struct frame_memory *m, const struct frame *f,
                  const struct code *c, bool *known)
{
    struct frame_line *line =
        &m->lines[(f->instr / 2 + c->at / 64) % FRAME_LINES];
    *known = line->length > 0 && line->code == c->at
             && line->instr == f->instr && line->name == c->name
             && line->filename == c->filename
             && line->line_table == c->line_table
             && line->traced_line == f->traced_line;
    if (!*known) {
        *line = (struct frame_line) {
            c->at, f->instr, c->name, c->filename, c->line_table,
            f->traced_line, 0, 0,
        };
    }
    return line;
}

/* A file name with its quotes, or ???. */
static void
frame_write_filename(struct out *o, uintptr_t filename,
                     struct frame_memory *m)
{
    size_t start = o->used;
    if (filename == m->filename && m->name_length > 0) {
        out_bytes(o, o->text + m->name, m->name_length);
        return;
    }
    out_char(o, '"');
    if (str_write(o, filename) < 0) {
        o->used = start;
        out_text(o, "???");
        m->unknown = true;
        return;
    }
    out_char(o, '"');
    m->filename = filename;
    m->name = start;
    m->name_length = o->used - start;
}

/* One line of a traceback. */
static void
frame_write(struct out *o, const struct frame *f, const struct code *c,
            struct frame_memory *m)
{
    out_room(o, OUT_LINE_MAX);
    if (c->at == 0) {
        out_text(o, "  File ???, line ??? in ???\n");
        m->unknown = true;
        return;
    }
    bool known;
    frame_memory_check(m, o);
    struct frame_line *kept = frame_memory_find(m, f, c, &known);
    if (known) {
        out_bytes(o, o->text + kept->at, kept->length);
        return;
    }
    size_t start = o->used;
    out_text(o, "  File ");
    frame_write_filename(o, c->filename, m);
    out_text(o, ", line ");
    int line = frame_line(f, c);
    if (line >= 0) {
        out_decimal(o, (uint64_t)line);
    }
    else {
        out_text(o, "???");
        m->unknown = true;
    }
    out_text(o, " in ");
    if (str_write(o, c->name) < 0) {
        out_text(o, "???");
        m->unknown = true;
    }
    out_char(o, '\n');
    kept->at = (uint32_t)start;
    kept->length = (uint32_t)(o->used - start);
}

/* The oldest frames of a stack that is too deep to be shown whole. */
struct frame_ring {
    size_t count;
    struct frame frames[FRAME_OLDEST];
};

static void
frame_write_ring(struct out *o, const struct frame_ring *ring,
                 struct frame_memory *m)
{
    if (ring->count > FRAME_OLDEST) {
        out_room(o, OUT_LINE_MAX);
        out_text(o, "  ... ");
        out_decimal(o, ring->count - FRAME_OLDEST);
        out_text(o, " frames not shown ...\n");
    }
    size_t first = ring->count > FRAME_OLDEST ? ring->count - FRAME_OLDEST
                                              : 0;
    for (size_t i = first; i < ring->count; i++) {
        const struct frame *f = &ring->frames[i % FRAME_OLDEST];
        struct code c;
        if (code_read(f->code, &c) < 0) {
            c.at = 0;
        }
        frame_write(o, f, &c, m);
    }
}

#define FRAME_UNREADABLE "  <Python frames cannot be read on this build>\n"
#define FRAME_CUT "  <the rest of the stack cannot be read>\n"
#define FRAME_NONE "  <no Python frame>\n"
#define FRAME_GAP "  <a damaged link: frames may be missing here>\n"

/* Do links of a crashed thread that look sound pass over frame objects?  Only
   a search of its C stack tells, which takes longer than the report. */
static bool
frame_some_passed_over(uintptr_t tstate, uintptr_t sp)
{
    struct frame_walk w;
    frame_walk_begin(&w, tstate);
    if (!layout.frames_known || sp == 0
        || frame_bridge_begin(&w, tstate, sp) < 0 || w.suspect
        || frame_has_greenlets()) {
        return false;
    }
    w.found = w.c_stack;
    while (w.seen_count < FRAME_MAX && frame_follow(&w) == FRAME_WALK_ON
           && w.frame.owner == 0 && !frame_was_seen(&w, w.frame.at)) {
        if (frame_passes_over(&w)) {
            return true;
        }
        w.next = w.frame.previous;
        w.last = w.seen[w.seen_count++] = w.frame.at;
    }
    return false;
}

/* Write a thread's Python stack, the newest frame first.  Of more than 100
   frames: 90, a count, the 10 oldest; or, as the standard library's module
   does, 100 and "  ...".  Returns false if it was cut short, or
   has something unknown in it: in a thread that runs, it may be known now. */
static bool
frame_write_stack(struct out *o, uintptr_t tstate, bool show_oldest,
                  uintptr_t sp, bool again, struct frame_memory *m)
{
    struct frame_walk w;
    struct frame_ring ring;
    m->unknown = false;
    ring.count = 0;
    size_t shown = 0;
    size_t newest = show_oldest ? FRAME_NEWEST : FRAME_MAX;
    out_room(o, OUT_LINE_MAX);
    if (!layout.frames_known) {
        out_text(o, FRAME_UNREADABLE);
        return true;
    }
    enum frame_walk_result result = frame_walk_begin(&w, tstate);
    if (show_oldest && frame_bridge_begin(&w, tstate, sp) == 0) {
        result = FRAME_WALK_ON;
        w.found = again ? w.c_stack : 0;
        if (again && frame_scan(&w) == 0 && w.frame.at != w.next) {
            w.next = w.frame.at;
            w.bridged = true;
        }
    }
    while (result == FRAME_WALK_ON
           && (result = frame_walk_next(&w)) == FRAME_WALK_ON) {
        if (w.bridged) {
            out_room(o, OUT_LINE_MAX);
            out_text(o, shown < newest ? FRAME_GAP : "");
            w.bridged = false;
            m->unknown = true;  /* or the thread runs, and has moved */
        }
        if (shown++ < newest) {
            frame_write(o, &w.frame, &w.code, m);
        }
        else if (show_oldest) {
            ring.frames[ring.count++ % FRAME_OLDEST] = w.frame;
        }
        else {
            out_text(o, LAYOUT_MARKS_DEEP ? "  ...\n" : "");
            return !m->unknown;
        }
    }
    frame_write_ring(o, &ring, m);
    out_room(o, OUT_LINE_MAX);
    out_text(o, result == FRAME_WALK_CUT ? FRAME_CUT
                : shown == 0 ? FRAME_NONE : "");
    return result != FRAME_WALK_CUT && !m->unknown;
}

/* ==== 9. Threads ==== */

/* As many threads as one report can list, whatever max_threads says. */
#define THREAD_LIST_MAX 4096
#define THREAD_RETRIES 3

/* Room that keeps a usual thread's block together in the buffer, so that it
   can be taken back and read again. */
#define THREAD_BLOCK_ROOM (16 * 1024)

struct thread {
    uintptr_t at, interp;
    uintptr_t ident;            /* pthread_self(), as in Thread.ident */
    pid_t native;               /* the kernel's number, 0 if not known */
};

/* The threads of all interpreters, as they were linked at one moment. */
struct thread_list {
    size_t count;
    bool damaged;               /* a link could not be followed */
    bool full;                  /* there were more than fit */
    bool checked;               /* a state may be met a second time */
    uintptr_t threads[THREAD_LIST_MAX];
    uintptr_t interps[THREAD_LIST_MAX];
    bool odd[THREAD_LIST_MAX];  /* linked, but names another interpreter */
};

/* The state of the thread that imported the module: usually the main thread,
   the last of the list.  May have been freed since. */
static uintptr_t thread_importer;

/* Read a thread state.  Returns -1 if it cannot be read. */
static int
thread_read(uintptr_t at, struct thread *t)
{
    t->at = at;
    t->native = 0;
    if (layout.tstate_native != LAYOUT_UNKNOWN) {
        uintptr_t native;
        if (mem_word(at + layout.tstate_native, &native) < 0) {
            return -1;
        }
        t->native = native <= INT_MAX ? (pid_t)native : 0;
    }
    return mem_word(at + layout.tstate_interp, &t->interp) < 0
           || mem_word(at + layout.tstate_ident, &t->ident) < 0 ? -1 : 0;
}

static bool
thread_is_listed(const struct thread_list *list, uintptr_t at)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->threads[i] == at) {
            return true;
        }
    }
    return false;
}

/* Append a state.  Returns -1, and says why, if it cannot be one of this
   interpreter: freed while we came to it, or met before.  A state that is
   linked both ways is one even where it names another interpreter. */
static int
thread_list_append(struct thread_list *list, uintptr_t interp, uintptr_t at,
                   bool linked)
{
    uintptr_t owner;
    if (list->count == THREAD_LIST_MAX) {
        list->full = true;
        return -1;
    }
    if (mem_word(at + layout.tstate_interp, &owner) < 0
        || (owner != interp && !linked)
        || (list->checked && thread_is_listed(list, at))) {
        list->damaged = true;
        return -1;
    }
    list->threads[list->count] = at;
    list->interps[list->count] = interp;
    list->odd[list->count++] = owner != interp;
    return 0;
}

/* The list has a cycle, which was found only after a few rounds: keep each
   state once. */
static void
thread_list_unique(struct thread_list *list)
{
    size_t count = list->count;
    list->count = 0;
    list->checked = true;
    for (size_t i = 0; i < count; i++) {
        if (!thread_is_listed(list, list->threads[i])) {
            list->threads[list->count] = list->threads[i];
            list->interps[list->count] = list->interps[i];
            list->odd[list->count++] = list->odd[i];
        }
    }
}

/* Does this state's link lead to that one? */
static bool
thread_is_neighbour(uintptr_t at, uintptr_t to, size_t link)
{
    uintptr_t word;
    return at != 0 && mem_word(at + link, &word) == 0 && word == to;
}

/* Append the states from one on, along next or prev.  The other link must
   lead back, or the state name its interpreter. */
static void
thread_list_follow(struct thread_list *list, uintptr_t interp, uintptr_t from,
                   uintptr_t at, size_t link)
{
    size_t other = link == layout.tstate_next ? layout.tstate_prev
                                              : layout.tstate_next;
    struct mem_chain chain = {0, 0, 0};
    while (at != 0) {
        uintptr_t back;
        if (mem_chain_step(&chain, at) < 0) {
            list->damaged = true;
            thread_list_unique(list);
            return;
        }
        if (mem_word(at + other, &back) < 0) {
            back = from;
        }
        bool linked = from != 0 && back == from;
        if (back != from && thread_is_neighbour(back, at, link)) {
            list->damaged = true;       /* one was passed over */
        }
        if (thread_list_append(list, interp, at, linked) < 0) {
            return;
        }
        from = at;
        if (mem_word(at + link, &at) < 0) {
            list->damaged = true;
            return;
        }
    }
}

/* The list is broken: go on from the states that are known otherwise, in both
   directions, to where it was left. */
static void
thread_list_bridge(struct thread_list *list, uintptr_t interp)
{
    const uintptr_t known[] = {
        (uintptr_t)layout_attached_thread(),
        (uintptr_t)PyGILState_GetThisThreadState(), thread_importer,
    };
    list->checked = true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uintptr_t owner, next, prev;
        if (known[i] == 0
            || mem_word(known[i] + layout.tstate_interp, &owner) < 0
            || owner != interp
            || mem_word(known[i] + layout.tstate_next, &next) < 0
            || mem_word(known[i] + layout.tstate_prev, &prev) < 0) {
            continue;
        }
        if (!thread_is_listed(list, known[i])) {
            thread_list_append(list, interp, known[i], false);
        }
        thread_list_follow(list, interp, known[i], prev, layout.tstate_prev);
        thread_list_follow(list, interp, known[i], next, layout.tstate_next);
    }
}

/* Append one interpreter's threads. */
static void
thread_list_interpreter(struct thread_list *list, uintptr_t interp)
{
    uintptr_t head = 0;
    if (mem_word(interp + layout.interp_threads, &head) < 0) {
        list->damaged = true;
    }
    thread_list_follow(list, interp, 0, head, layout.tstate_next);
    if (list->damaged || head == 0) {
        thread_list_bridge(list, interp);
    }
}

/* Is this interpreter linked, or may it be behind a damaged link?  The one
   that armed a watchdog may have ended, and its memory be something else. */
static bool
thread_may_be_interpreter(uintptr_t wanted)
{
    struct mem_chain chain = {0, 0, 0};
    uintptr_t interp = (uintptr_t)PyInterpreterState_Head();
    while (interp != 0 && interp != wanted
           && mem_chain_step(&chain, interp) == 0
           && mem_word(interp + layout.interp_next, &interp) == 0) {
    }
    return interp != 0;
}

/* List all threads, those of one interpreter first.  No lock is taken: the
   lists may change meanwhile, then they are read again. */
static void
thread_list_fill(struct thread_list *list, uintptr_t first)
{
    if (first != 0 && !thread_may_be_interpreter(first)) {
        first = 0;
    }
    for (int tries = 0; tries <= THREAD_RETRIES; tries++) {
        struct mem_chain chain = {0, 0, 0};
        uintptr_t head = (uintptr_t)PyInterpreterState_Head();
        uintptr_t interp = head;
        bool cut = false;
        list->count = 0;
        list->damaged = list->full = list->checked = false;
        if (first != 0) {
            thread_list_interpreter(list, first);
            cut = list->damaged;
        }
        while (interp != 0) {
            if (mem_chain_step(&chain, interp) < 0) {
                cut = true;
                break;
            }
            list->damaged = false;
            if (interp != first) {
                thread_list_interpreter(list, interp);
                cut |= list->damaged;
            }
            if (mem_word(interp + layout.interp_next, &interp) < 0) {
                cut = true;
                break;
            }
        }
        list->damaged = cut;
        if (!cut) {
            return;
        }
    }
}

/* Is this state the calling thread's, as far as it tells itself? */
static bool
thread_is_mine(uintptr_t at, struct thread *t)
{
    return at != 0 && thread_read(at, t) == 0
           && t->ident == (uintptr_t)pthread_self();
}

/* Find the calling thread's state.  3.8 to 3.11 know only who holds the GIL,
   3.12+ lose the thread's own state after a subinterpreter, and a state may
   have been freed by another thread: every answer is checked against the
   list, or against the other one.  Returns false in a thread that Python
   does not know. */
static bool
thread_find_current(const struct thread_list *list, struct thread *t)
{
    uintptr_t candidates[] = {
        (uintptr_t)layout_attached_thread(),
        (uintptr_t)PyGILState_GetThisThreadState(),
    };
    for (size_t i = 0; i < 2; i++) {
        if (thread_is_mine(candidates[i], t)
            && (list->damaged || list->full
                || thread_is_listed(list, candidates[i]))) {
            return true;
        }
    }
    if (candidates[0] != 0 && candidates[0] == candidates[1]
        && thread_read(candidates[0], t) == 0) {
        return true;
    }
    /* One thread may own a state in several interpreters: prefer the one
       that has frames. */
    bool found = false;
    for (size_t i = 0; i < list->count; i++) {
        struct thread mine;
        uintptr_t frame = 0;
        if (thread_is_mine(list->threads[i], &mine)
            && (!found || (frame_newest(mine.at, &frame) == 0 && frame))) {
            *t = mine;
            found = true;
        }
    }
    return found;
}

/* Is this a state without frames that is no thread of its own?  A new one has
   no number yet, or until 3.11 its creator's; and creating a subinterpreter
   leaves one behind. */
static bool
thread_is_shadow(const struct thread_list *list, size_t i,
                 const struct thread *t)
{
    struct frame_walk w;
    struct thread other;
    enum frame_walk_result result = frame_walk_begin(&w, t->at);
    if (result == FRAME_WALK_ON) {
        result = frame_walk_next(&w);
    }
    if (t->ident == 0) {
        return result != FRAME_WALK_ON || w.code.at == 0;
    }
    if (!layout.frames_known || result != FRAME_WALK_END) {
        return false;
    }
    for (size_t j = 0; j < list->count; j++) {
        if (j != i && thread_read(list->threads[j], &other) == 0
            && other.ident == t->ident) {
            return true;
        }
    }
    return false;
}

/* Is the garbage collector at work in this thread's interpreter? */
static bool
thread_is_collecting(const struct thread *t)
{
    int collecting = 0;
    uintptr_t at = layout_collecting_at(t->interp);
    return at != 0 && mem_read(&collecting, at, sizeof collecting) == 0
           && collecting == 1;
}

/* Decode one character of UTF-8; a byte that is none stands for itself.
   Returns how many bytes it took. */
static size_t
thread_decode(const unsigned char *text, uint32_t *c)
{
    size_t n = text[0] < 0xc2 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3
               : text[0] < 0xf5 ? 4 : 1;
    uint32_t value = n == 1 ? text[0] : text[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            *c = text[0];
            return 1;
        }
        value = value << 6 | (text[i] & 0x3f);
    }
    *c = value;
    return n;
}

/* How much is shown of a type's name and of an exception's message. */
#define THREAD_TYPE_MAX 100
#define THREAD_MESSAGE_MAX 200

/* Write the name of a type, as it calls itself.  Returns -1, with nothing
   written, if this is no type that can be read. */
static int
thread_write_type(struct out *o, uintptr_t type)
{
    uintptr_t name, flags, size;
    unsigned char text[THREAD_TYPE_MAX + 1];
    size_t n = 0;
    if (mem_word(type + offsetof(PyTypeObject, tp_name), &name) < 0
        || mem_word(type + offsetof(PyTypeObject, tp_flags), &flags) < 0
        || mem_word(type + offsetof(PyTypeObject, tp_basicsize), &size) < 0
        || !(flags & Py_TPFLAGS_BASE_EXC_SUBCLASS)
        || size < sizeof(PyBaseExceptionObject)) {
        return -1;
    }
    do {
        if (mem_read(text + n, name + n, 1) < 0) {
            return -1;
        }
    } while (text[n] != '\0' && ++n < THREAD_TYPE_MAX);
    text[n] = '\0';
    for (size_t i = 0; i < n; ) {
        uint32_t c;
        i += thread_decode(text + i, &c);
        out_escaped(o, c);
    }
    out_text(o, n == THREAD_TYPE_MAX ? "..." : "");
    return n == 0 ? -1 : 0;
}

/* Is it a str, or can that not be told? */
static bool
thread_may_be_str(uintptr_t at)
{
    uintptr_t type;
    return at != 0
           && (mem_word(at + offsetof(PyObject, ob_type), &type) < 0
               || type == (uintptr_t)&PyUnicode_Type
               || str_is_subclass(type));
}

/* The message of an exception: the first of its arguments, or the second where
   the first is a number, as OSError has it.  0 if there is none.  Returns -1
   if they cannot be read. */
static int
thread_find_message(uintptr_t exception, uintptr_t *message)
{
    uintptr_t args, items[2] = {0, 0};
    PyVarObject head;
    *message = 0;
    if (mem_word(exception + offsetof(PyBaseExceptionObject, args),
                 &args) < 0
        || (args != 0 && mem_read(&head, args, sizeof head) < 0)) {
        return -1;
    }
    if (args == 0 || head.ob_base.ob_type != &PyTuple_Type
        || head.ob_size < 1) {
        return 0;
    }
    if (mem_read(items, args + offsetof(PyTupleObject, ob_item),
                 head.ob_size > 1 ? sizeof items : sizeof *items) < 0) {
        return -1;
    }
    *message = items[thread_may_be_str(items[0]) ? 0 : 1];
    return 0;
}

/* Write a line about an exception: its type, and its message where that is a
   str.  The value may be what an exception is still to be made of, of this
   type. */
static void
thread_write_exception(struct out *o, const char *what, uintptr_t type,
                       uintptr_t value)
{
    uintptr_t own = 0, message = value;
    int found = 0;
    out_room(o, OUT_LINE_MAX);
    out_text(o, what);
    mem_word(value + offsetof(PyObject, ob_type), &own);
    if (thread_write_type(o, own) == 0) {
        found = thread_find_message(value, &message);
    }
    else if (thread_write_type(o, type) < 0) {
        out_text(o, "???");
        message = 0;
    }
    if (found < 0 || thread_may_be_str(message)) {
        out_text(o, ": ");
        if (found < 0
            || str_write_start(o, message, THREAD_MESSAGE_MAX) < 0) {
            out_text(o, "???");
        }
    }
    out_char(o, '\n');
}

/* The exception that a thread is handling, the last of those that a handler of
   another has met; 0 if there is none.  Returns -1 if that cannot be read. */
static int
thread_find_handled(const struct thread *t, uintptr_t *value)
{
    struct mem_chain chain = {0, 0, 0};
    uintptr_t item;
    *value = 0;
    if (mem_word(t->at + LAYOUT_TSTATE_HANDLED, &item) < 0) {
        return -1;
    }
    while (item != 0 && (*value == 0 || *value == (uintptr_t)Py_None)) {
        if (mem_chain_step(&chain, item) < 0
            || mem_word(item + LAYOUT_HANDLED_VALUE, value) < 0
            || mem_word(item + LAYOUT_HANDLED_PREVIOUS, &item) < 0) {
            return -1;
        }
    }
    *value = *value == (uintptr_t)Py_None ? 0 : *value;
    return 0;
}

/* Write the exceptions of a thread: the one that it is handling, and the one
   on its way to a handler. */
static void
thread_write_exceptions(struct out *o, const struct thread *t)
{
    uintptr_t value = 0, type = 0;
    if (thread_find_handled(t, &value) < 0) {
        out_text(o, "  handling ???\n");
    }
    else if (value != 0) {
        thread_write_exception(o, "  handling ", 0, value);
    }
    value = 0;
    if (mem_word(t->at + LAYOUT_TSTATE_RAISED, &value) < 0
        || (LAYOUT_TSTATE_RAISED_TYPE != 0
            && mem_word(t->at + LAYOUT_TSTATE_RAISED_TYPE, &type) < 0)) {
        out_text(o, "  raising ???\n");
    }
    else if (value != 0 || type != 0) {
        thread_write_exception(o, "  raising ", type, value);
    }
}

/* Write " [name]".  The report of 1.0 is ASCII; the standard library's module
   writes names as they are, of which only control characters, that would
   forge lines, are escaped here. */
static void
thread_write_name(struct out *o, const char *name, bool ascii_only)
{
    const unsigned char *text = (const unsigned char *)name;
    out_text(o, " [");
    while (*text != '\0') {
        uint32_t c;
        size_t n = thread_decode(text, &c);
        if (c >= 0x80 && !ascii_only) {
            out_bytes(o, (const char *)text, n);
        }
        else {
            out_escaped(o, c);
        }
        text += n;
    }
    out_char(o, ']');
}

/* What a thread that Python starts notes of itself, above its alternate stack:
   its name, as Python knows it.  The key leads to it. */
#define THREAD_NAME_SIZE 128
struct thread_note {
    char name[THREAD_NAME_SIZE];        /* UTF-8; "": not known */
};
static pthread_key_t thread_note_key;
static bool thread_note_key_made;

/* The name of the calling thread, "" where it has none.  Only from 3.14 on
   does Python tell the kernel, which keeps 15 bytes of it: the whole name
   was noted when the thread started.  A name that was given to the kernel
   since is newer. */
static void
thread_get_name(char name[THREAD_NAME_SIZE])
{
    const struct thread_note *note = thread_note_key_made
                                     ? pthread_getspecific(thread_note_key)
                                     : NULL;
    char kernel[32], program[32];
    pid_t self = platform_thread_id();
    platform_thread_name(self, kernel);
    platform_thread_name(getpid(), program);
    bool is_default = kernel[0] == '\0' || strcmp(kernel, program) == 0;
    const char *best = is_default ? "" : kernel;
    if (note != NULL && note->name[0] != '\0'
        && (is_default || strncmp(note->name, kernel, 15) == 0)) {
        best = note->name;
    }
    else if (self == getpid() && PyGILState_GetThisThreadState() != NULL) {
        best = "MainThread";
    }
    size_t n = strlen(best);
    memcpy(name, best, n < THREAD_NAME_SIZE ? n : THREAD_NAME_SIZE - 1);
    name[n < THREAD_NAME_SIZE ? n : THREAD_NAME_SIZE - 1] = '\0';
}

/* What context() says of a thread.  Made when a thread first says something,
   given to another one when it ends, never freed: a handler may be looking.
   The text is kept as it is in a str, not escaped: that would cost more than
   the call may, and make it hard to give back. */
#define THREAD_CONTEXT_MAX 200
#define THREAD_CONTEXT_TRIES 10

struct thread_context {
    struct thread_context *next;        /* of all that were ever made */
    atomic_uintptr_t ident;     /* whose it is, as in Thread.ident; 0: free */
    atomic_uint sequence;       /* odd while the text is being changed */
    uint8_t width;              /* bytes a character, 0: no text */
    bool cut;                   /* the text was longer */
    uint16_t length;
    uint32_t text[THREAD_CONTEXT_MAX];
};

static _Atomic(struct thread_context *) thread_contexts;

/* Find the note of the thread with this identity.  Returns 0 if there is
   none. */
static uintptr_t
thread_find_context(uintptr_t ident)
{
    struct mem_chain chain = {0, 0, 0};
    uintptr_t owner, at = (uintptr_t)atomic_load(&thread_contexts);
    while (at != 0 && ident != 0 && mem_chain_step(&chain, at) == 0
           && mem_word(at + offsetof(struct thread_context, ident),
                       &owner) == 0) {
        if (owner == ident) {
            return at;
        }
        if (mem_word(at + offsetof(struct thread_context, next), &at) < 0) {
            return 0;
        }
    }
    return 0;
}

/* Copy a note that may be changing.  Returns -1 if it did not hold still: its
   thread was stopped in the middle of a change, or died there. */
static int
thread_read_context(uintptr_t at, struct thread_context *note)
{
    const uintptr_t sequence = at + offsetof(struct thread_context, sequence);
    for (int i = 0; i < THREAD_CONTEXT_TRIES; i++) {
        unsigned before = 1, after;
        if (i > 0) {
            platform_sleep(20000);
        }
        if (mem_read(&before, sequence, sizeof before) < 0) {
            return -1;
        }
        atomic_thread_fence(memory_order_acquire);
        if (mem_read(note, at, sizeof *note) < 0) {
            return -1;
        }
        atomic_thread_fence(memory_order_acquire);
        if (before % 2 == 0
            && mem_read(&after, sequence, sizeof after) == 0
            && after == before) {
            return 0;
        }
    }
    return -1;
}

/* Write the line with what a thread said of itself, if it did. */
static void
thread_write_context(struct out *o, uintptr_t ident)
{
    struct thread_context note;
    uintptr_t at = thread_find_context(ident);
    bool good = at != 0 && thread_read_context(at, &note) == 0;
    if (at == 0 || (good && (note.width == 0 || note.length == 0
                             || note.ident != ident))) {
        return;                 /* the last: its thread has just ended */
    }
    out_room(o, OUT_LINE_MAX);
    out_text(o, "  context: ");
    if (good && note.length <= THREAD_CONTEXT_MAX && note.width <= 4) {
        str_write_block(o, note.text, note.length, note.width);
        out_text(o, note.cut ? "..." : "");
    }
    else {
        out_text(o, "???");
    }
    out_char(o, '\n');
}

/* Write a thread's header.  program is the name that threads have by default,
   which is no news; NULL in the standard library's report, which shows what
   the running Python shows. */
static void
thread_write_header(struct out *o, const char *title, uintptr_t ident,
                    pid_t native, const char *program)
{
    char name[32] = "";
    out_room(o, OUT_LINE_MAX);
    out_text(o, title);
    out_text(o, " 0x");
    out_hex(o, ident, 2 * (int)sizeof(long));
    if (native != 0 && (program != NULL || LAYOUT_NAMES_THREADS)) {
        platform_thread_name(native, name);
    }
    if (name[0] != '\0' && (program == NULL || strcmp(name, program) != 0)) {
        thread_write_name(o, name, program != NULL);
    }
    out_text(o, " (most recent call first):\n");
}

/* Write the stack of a thread that may be running: what changed while it was
   read is taken back and read again. */
static void
thread_write_stack(struct out *o, uintptr_t at, bool show_oldest,
                   uintptr_t sp, int retries, struct frame_memory *m)
{
    size_t start = o->used, flushes = o->flushes;
    while (!frame_write_stack(o, at, show_oldest, sp, false, m)
           && retries-- > 0
           && o->flushes == flushes) {
        o->used = start;
        flushes = ++o->flushes;     /* what was taken back is forgotten */
    }
}

/* ==== 10. Fault ==== */

/* The fatal signals, in the order in which they are armed. */
static struct fault_signal {
    const int signum;
    const char *const title;            /* the report of 1.0 */
    const char *const library_title;    /* the running Python's */
    bool armed;                 /* our handler was installed */
    atomic_bool given_back;     /* it handed the signal to its predecessor */
    atomic_int giver;           /* the thread in which it did */
    atomic_bool handed;         /* ... and the older handler is to come */
    atomic_uintptr_t caller;    /* the frame that calls it, */
    atomic_int calls;           /* and the thread */
    struct sigaction previous;
} fault_signals[] = {
    {.signum = SIGBUS, .title = "Bus error",
     .library_title = "Bus error"},
    {.signum = SIGILL, .title = "Illegal instruction",
     .library_title = "Illegal instruction"},
    {.signum = SIGFPE, .title = "Floating point exception",
     .library_title = LAYOUT_FPE_TITLE},
    {.signum = SIGABRT, .title = "Aborted",
     .library_title = "Aborted"},
    {.signum = SIGSEGV, .title = "Segmentation fault",
     .library_title = "Segmentation fault"},
};
#define FAULT_COUNT (sizeof fault_signals / sizeof *fault_signals)

static struct fault_signal *
fault_find(int signum)
{
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        if (fault_signals[i].signum == signum) {
            return &fault_signals[i];
        }
    }
    return NULL;
}

/* Did this thread cause the signal by what it was just doing?  Faults come
   from the kernel; abort() sends to itself. */
static bool
fault_is_synchronous(const siginfo_t *info)
{
    return info->si_code > 0
           || (info->si_signo == SIGABRT && info->si_code == SI_TKILL
               && info->si_pid == getpid());
}

/* The code of Py_FatalError() and its kin, which print a traceback of their
   own before they call abort(). */
static struct platform_code fault_printers[4];
#define FAULT_PRINTERS (sizeof fault_printers / sizeof *fault_printers)
#define FAULT_SCAN_WORDS 1024

/* That of abort(). */
static struct platform_code fault_abort;

/* Does the stack hold a return into one of n functions?  A scan, not an
   unwinding: it is to be right about calls that never return and leave no
   stale addresses behind. */
static bool
fault_is_inside(const void *context, const struct platform_code *ranges,
                size_t n)
{
    uintptr_t word, sp = platform_get_place(context).sp;
    for (size_t i = 0; i < FAULT_SCAN_WORDS; i++) {
        if (mem_word(sp + i * sizeof word, &word) < 0) {
            return false;
        }
        for (size_t j = 0; j < n; j++) {
            /* The call is the last instruction: its return address may be
               the first one behind the function. */
            if (word > ranges[j].start && word <= ranges[j].end) {
                return true;
            }
        }
    }
    return false;
}

/* Has the interpreter printed this abort()? */
static bool
fault_was_reported(const void *context)
{
    return fault_is_inside(context, fault_printers, FAULT_PRINTERS);
}

/* Has this thread called abort()?  Another thread that sends the signal leaves
   the same siginfo. */
static bool
fault_has_aborted(const void *context)
{
    return fault_abort.start == 0 || fault_is_inside(context, &fault_abort, 1);
}

/* What the si_code of a signal says.  By number: not every C library has all
   the names.  Signal 0 stands for any. */
static const struct fault_code {
    int signum, code;
    const char *name, *words;
} fault_codes[] = {
    {SIGSEGV, 1, "SEGV_MAPERR", "nothing is mapped there"},
    {SIGSEGV, 2, "SEGV_ACCERR", "that is not allowed there"},
    {SIGSEGV, 3, "SEGV_BNDERR", "it is out of the object's bounds"},
    {SIGSEGV, 4, "SEGV_PKUERR", "its protection key forbids it"},
    {SIGSEGV, 5, "SEGV_ACCADI", "memory tagging is not enabled there"},
    {SIGSEGV, 6, "SEGV_ADIDERR", "a wrong memory tag, noticed later"},
    {SIGSEGV, 7, "SEGV_ADIPERR", "a wrong memory tag"},
    {SIGSEGV, 8, "SEGV_MTEAERR", "a wrong memory tag, noticed later"},
    {SIGSEGV, 9, "SEGV_MTESERR", "a wrong memory tag"},
    {SIGSEGV, 10, "SEGV_CPERR",
     "the return address or the jump's target was tampered with"},
    {SIGBUS, 1, "BUS_ADRALN", "the address is not aligned"},
    {SIGBUS, 2, "BUS_ADRERR", "there is no memory behind it"},
    {SIGBUS, 3, "BUS_OBJERR", "the hardware of this object failed"},
    {SIGBUS, 4, "BUS_MCEERR_AR", "the machine's memory is broken there"},
    {SIGBUS, 5, "BUS_MCEERR_AO",
     "the machine's memory is broken there, found before it was used"},
    {SIGFPE, 1, "FPE_INTDIV", "integer division by zero or overflow"},
    {SIGFPE, 2, "FPE_INTOVF", "integer overflow"},
    {SIGFPE, 3, "FPE_FLTDIV", "floating point division by zero"},
    {SIGFPE, 4, "FPE_FLTOVF", "floating point overflow"},
    {SIGFPE, 5, "FPE_FLTUND", "floating point underflow"},
    {SIGFPE, 6, "FPE_FLTRES", "inexact floating point result"},
    {SIGFPE, 7, "FPE_FLTINV", "invalid floating point operation"},
    {SIGFPE, 8, "FPE_FLTSUB", "subscript out of range"},
    {SIGFPE, 9, "FPE_DECOVF", "decimal overflow"},
    {SIGFPE, 10, "FPE_DECDIV", "decimal division by zero"},
    {SIGFPE, 11, "FPE_DECERR", "decimal packed number is not valid"},
    {SIGFPE, 12, "FPE_INVASC", "invalid digit"},
    {SIGFPE, 13, "FPE_INVDEC", "invalid decimal digit"},
    {SIGFPE, 14, "FPE_FLTUNK", "floating point exception, not told which"},
    {SIGFPE, 15, "FPE_CONDTRAP", "trap on a condition"},
    {SIGILL, 1, "ILL_ILLOPC", "illegal opcode"},
    {SIGILL, 2, "ILL_ILLOPN", "illegal operand"},
    {SIGILL, 3, "ILL_ILLADR", "illegal addressing mode"},
    {SIGILL, 4, "ILL_ILLTRP", "illegal trap"},
    {SIGILL, 5, "ILL_PRVOPC", "privileged opcode"},
    {SIGILL, 6, "ILL_PRVREG", "privileged register"},
    {SIGILL, 7, "ILL_COPROC", "coprocessor error"},
    {SIGILL, 8, "ILL_BADSTK", "error of the register stack"},
    {SIGILL, 9, "ILL_BADIADDR", "instruction at an impossible address"},
    {SIGILL, 10, "ILL_BREAK", "illegal break"},
    {SIGILL, 11, "ILL_BNDMOD", "bundle was changed while it ran"},
    {0, 0x80, "SI_KERNEL", "sent by the kernel"},
    {0, 0, "SI_USER", " with kill()"},
    {0, -1, "SI_QUEUE", " with sigqueue()"},
    {0, -2, "SI_TIMER", "a timer of this process has run out"},
    {0, -3, "SI_MESGQ", ", as a message came into a queue"},
    {0, -4, "SI_ASYNCIO", ", as asynchronous input or output was done"},
    {0, -5, "SI_SIGIO", "a file is ready for input or output"},
    {0, -6, "SI_TKILL", " with tgkill()"},
    {0, -7, "SI_DETHREAD", "execve() ended the process's other threads"},
    {0, -60, "SI_ASYNCNL", ", as a name was looked up"},
};

static const struct fault_code *
fault_find_code(const siginfo_t *info)
{
    for (size_t i = 0; i < sizeof fault_codes / sizeof *fault_codes; i++) {
        const struct fault_code *c = &fault_codes[i];
        if (c->code == info->si_code
            && (c->signum == info->si_signo || c->signum == 0)) {
            return c;
        }
    }
    return NULL;
}

/* End a line with the name of the code, or its number. */
static void
fault_end(struct out *o, const siginfo_t *info)
{
    const struct fault_code *code = fault_find_code(info);
    out_text(o, " (");
    if (code != NULL) {
        out_text(o, code->name);
    }
    else {
        out_text(o, info->si_code < 0 ? "si_code -" : "si_code ");
        out_decimal(o, info->si_code < 0 ? 0u - (unsigned)info->si_code
                                         : (unsigned)info->si_code);
    }
    out_text(o, ")\n");
}

/* A line of the process's memory map. */
#define FAULT_PATH_MAX 200
struct fault_mapping {
    uintptr_t start, end;       /* end 0: there is none */
    bool can[PLATFORM_EXECUTE + 1];
    uint64_t offset, inode;
    char path[FAULT_PATH_MAX + 2];      /* one more: it is cut */
};

struct fault_map_reader {
    int fd;
    size_t at, size;
    char text[1024];
};

/* The next character of the map, -1 at its end. */
static int
fault_map_char(struct fault_map_reader *r)
{
    if (r->at == r->size) {
        ssize_t got = read(r->fd, r->text, sizeof r->text);
        if (got <= 0) {
            return -1;
        }
        r->at = 0;
        r->size = (size_t)got;
    }
    return (unsigned char)r->text[r->at++];
}

/* Read a number and the character behind it. */
static uint64_t
fault_map_number(struct fault_map_reader *r, unsigned base)
{
    uint64_t value = 0;
    for (;;) {
        int c = fault_map_char(r);
        if (c >= '0' && c <= '9') {
            value = value * base + (uint64_t)(c - '0');
        }
        else if (base == 16 && c >= 'a' && c <= 'f') {
            value = value * base + (uint64_t)(c - 'a' + 10);
        }
        else {
            return value;
        }
    }
}

/* Read one line: start-end rwxp offset device inode path.  Returns false at
   the end. */
static bool
fault_map_next(struct fault_map_reader *r, struct fault_mapping *m)
{
    m->start = (uintptr_t)fault_map_number(r, 16);
    m->end = (uintptr_t)fault_map_number(r, 16);
    m->can[PLATFORM_UNKNOWN] = false;
    m->can[PLATFORM_READ] = fault_map_char(r) == 'r';
    m->can[PLATFORM_WRITE] = fault_map_char(r) == 'w';
    m->can[PLATFORM_EXECUTE] = fault_map_char(r) == 'x';
    fault_map_char(r);
    fault_map_char(r);
    m->offset = fault_map_number(r, 16);
    fault_map_number(r, 16);    /* the device */
    fault_map_number(r, 16);
    m->inode = fault_map_number(r, 10);
    int c = r->at > 0 ? r->text[r->at - 1] : -1;
    size_t n = 0;
    while (c >= 0 && c != '\n') {
        c = fault_map_char(r);
        if (c > '\n' && (c != ' ' || n > 0) && n <= FAULT_PATH_MAX) {
            m->path[n++] = (char)c;
        }
    }
    m->path[n] = '\0';
    return c == '\n' && m->start < m->end;
}

/* Can it be the stack of anything?  No file is. */
static bool
fault_is_like_stack(const struct fault_mapping *m)
{
    return m->can[PLATFORM_READ] && m->can[PLATFORM_WRITE]
           && m->path[0] != '/';
}

/* What is known of a fault that has an address, and of the memory around. */
struct fault_place {
    uintptr_t address, pc, sp;
    enum platform_access access;
    struct fault_mapping at;    /* where the address is */
    uintptr_t next;             /* the next one above that may be a stack */
    uintptr_t low, high;        /* this thread's stack, 0: not known */
    bool main_stack;
    bool sp_elsewhere;          /* in another one that may be a stack */
};

/* How much of a thread's data may lie above pthread_self(), and how far below
   its stack a stack pointer is looked for after a fork. */
#define FAULT_THREAD_DATA 4096
#define FAULT_NEAR ((uintptr_t)1 << 20)

/* Note the stack of the calling thread.  A thread's own data stand at the
   upper end of its stack; of the main thread's, which the kernel names, they
   do not.  In the child of another thread's fork, that thread is the main
   one, on its own stack. */
static void
fault_note_stack(struct fault_place *p, const struct fault_mapping *m)
{
    uintptr_t self = (uintptr_t)pthread_self();
    bool is_main = platform_thread_id() == getpid();
    if (m->start <= self && self < m->end
        && (!is_main || (p->sp + FAULT_NEAR > m->start && p->sp < m->end))) {
        uintptr_t end = self + FAULT_THREAD_DATA;
        end -= end % FAULT_THREAD_DATA;
        p->low = m->start;
        p->high = end < m->end ? end : m->end;
    }
    else if (is_main && p->low == 0 && strcmp(m->path, "[stack]") == 0) {
        p->low = m->start;
        p->high = m->end;
        p->main_stack = true;
    }
}

/* Look the addresses up, in one pass.  The map is read when it is needed, not
   noted when a thread starts: that would cost each thread of a healthy
   process, miss those that others start, and grow old.  Not /proc/self: it
   has no memory when the main thread has ended. */
static void
fault_read_map(struct fault_place *p, uintptr_t alternate)
{
    struct fault_map_reader r;
    struct fault_mapping m;
    uintptr_t sp_start = 0;     /* of the mapping that sp is in */
    r.at = r.size = 0;
    r.text[0] = '\0';
    r.fd = platform_open("/proc/thread-self/maps");
    if (r.fd < 0) {
        return;
    }
    while (fault_map_next(&r, &m)) {
        bool like_stack = fault_is_like_stack(&m);
        bool is_alternate = m.start <= alternate && alternate < m.end;
        if (m.start <= p->address && p->address < m.end) {
            p->at = m;
        }
        if (p->next == 0 && m.start > p->address && like_stack
            && !is_alternate) {
            p->next = m.start;
        }
        if (m.start <= p->sp && p->sp < m.end && like_stack) {
            sp_start = m.start;
        }
        fault_note_stack(p, &m);
    }
    close(r.fd);
    p->sp_elsewhere = sp_start != 0 && sp_start != p->low;
}

/* An access this far below the stack pointer still belongs to the frame, and
   a frame is not larger than that. */
#define FAULT_RED_ZONE 256
#define FAULT_FRAME_MAX ((uintptr_t)256 << 20)
#define FAULT_ALTERNATE_BELOW (64 * 1024)
#define FAULT_PROLOGUE 512

/* Is the guard a part of the stack's mapping?  So it is from glibc 2.42 on,
   made by madvise(): the map says that the access is allowed. */
static bool
fault_is_inner_guard(const struct fault_place *p)
{
    const struct fault_mapping *at = &p->at;
    return at->end != 0 && at->start == p->low
           && at->can[p->access == PLATFORM_UNKNOWN
                      ? PLATFORM_WRITE : p->access];
}

/* Was a large frame made right before, that begins on this thread's stack?
   Looks back for the instruction, sub $size,%rsp.  One of a small frame is
   another function's end of the search, and so is a ret. */
static bool
fault_made_frame(const struct fault_place *p)
{
    uint8_t code[FAULT_PROLOGUE + 7] = {0};
    size_t n = PLATFORM_IS_X86_64 ? FAULT_PROLOGUE : 0;
    while (n >= 16 && mem_read(code, p->pc - n, n) < 0) {
        n /= 2;
    }
    for (size_t i = n < 16 ? 0 : n; i-- > 0;) {
        const uint8_t *at = code + i;
        if (at[0] == 0xc3
            || (at[0] == 0x48 && at[1] == 0x83 && at[2] == 0xec)) {
            return false;
        }
        if (at[0] == 0x48 && at[1] == 0x81 && at[2] == 0xec) {
            int32_t size;
            memcpy(&size, at + 3, sizeof size);
            uintptr_t begin = p->sp + (uintptr_t)size;
            return size > 0 && p->low < begin && begin < p->high;
        }
    }
    return false;
}

/* Has the stack of this thread overflowed?  Then the access was below the
   stack, but not below the frame that was to be made there.  Of a large frame,
   which may reach over the guard and more, it is known where it begins, or
   nothing else that may be a stack lies in between: the stack of a coroutine
   that is full is not this thread's.  The frame pointer does not tell: in
   optimised code it may be an older frame's. */
static bool
fault_overflowed(const struct fault_place *p, const stack_t *alternate)
{
    uintptr_t other = (uintptr_t)alternate->ss_sp;
    if (p->low == 0 || p->address + FAULT_RED_ZONE < p->sp
        || p->sp >= p->high || p->sp + FAULT_FRAME_MAX < p->low) {
        return false;
    }
    if (p->address >= p->low) {
        return fault_is_inner_guard(p);
    }
    if (fault_made_frame(p)) {
        return true;
    }
    bool on_other = other != 0 && p->sp + FAULT_ALTERNATE_BELOW > other
                    && p->sp < other + alternate->ss_size;
    return p->next == p->low && !p->sp_elsewhere && !on_other;
}

/* How large the stack was: without the guard, and of the main thread, which
   gets its stack as it needs it, what it could have got. */
static uintptr_t
fault_stack_size(const struct fault_place *p)
{
    uintptr_t low = p->low, page = 4096;
    struct rlimit limit;
    char byte;
    if (p->main_stack && getrlimit(RLIMIT_STACK, &limit) == 0
        && limit.rlim_cur < p->high && p->address < p->high - limit.rlim_cur) {
        return (uintptr_t)limit.rlim_cur;
    }
    if (p->address >= low) {
        low = p->address / page * page;     /* of several threads' stacks */
    }
    const uintptr_t first = low;
    while (low < p->high && low < first + 256 * page
           && mem_read(&byte, low, 1) < 0) {
        low += page;
    }
    return p->high - low;
}

static const char *
fault_access_word(enum platform_access access)
{
    static const char *const words[] = {
        "accessing", "reading", "writing", "executing",
    };
    return words[access];
}

/* Is this no address at all?  All bits above the 47th must be equal to it.
   Of several bytes the last may be the one that is not. */
static bool
fault_is_odd(uintptr_t address)
{
    uint64_t last = (uint64_t)address + 7;
    return PLATFORM_IS_X86_64
           && ((uint64_t)((int64_t)((uint64_t)address << 16) >> 16) != address
               || (uint64_t)((int64_t)(last << 16) >> 16) != last);
}

/* Addresses this near to 0 belong to no memory: an unprivileged program can
   map none below 64 KiB.  They are NULL and something added, or taken off. */
#define FAULT_NULL_MAX 65536

/* Write an address and what can be told from the number alone. */
static void
fault_write_address(struct out *o, enum platform_access access,
                    uintptr_t address)
{
    out_text(o, "  ");
    out_text(o, fault_access_word(access));
    out_text(o, " address ");
    out_address(o, address);
    if (address < FAULT_NULL_MAX) {
        out_text(o, " (a NULL pointer");
        if (address > 0) {
            out_text(o, " plus ");
            out_decimal(o, address);
        }
        out_char(o, ')');
    }
    else if (0 - address <= FAULT_NULL_MAX) {
        out_text(o, " (a NULL pointer minus ");
        out_decimal(o, 0 - address);
        out_char(o, ')');
    }
    else if (address > UINTPTR_MAX / 2 && !fault_is_odd(address)) {
        out_text(o, " (the kernel's part of the addresses)");
    }
}

/* Write the path of a mapping. */
static void
fault_write_path(struct out *o, const struct fault_mapping *m)
{
    for (size_t i = 0; m->path[i] != '\0' && i < FAULT_PATH_MAX; i++) {
        out_escaped(o, (unsigned char)m->path[i]);
    }
    out_text(o, strlen(m->path) > FAULT_PATH_MAX ? "..." : "");
}

/* The mapping is there, but it allows other things than what was tried. */
static void
fault_write_mapping(struct out *o, const struct fault_mapping *m,
                    enum platform_access access)
{
    static const char *const allowed[] = {
        "allows no access", "allows only reading", "allows only writing",
        "allows only reading and writing", "allows only executing",
        "allows only reading and executing",
        "allows only writing and executing",
        "allows reading, writing and executing",
    };
    out_text(o, "the mapping ");
    if (m->path[0] != '\0') {
        out_text(o, m->path[0] == '[' ? "" : "of ");
        fault_write_path(o, m);
        out_char(o, ' ');
    }
    if (m->can[access]) {
        out_text(o, "allows it, but not this page");
        return;
    }
    out_text(o, allowed[m->can[PLATFORM_READ] + 2 * m->can[PLATFORM_WRITE]
                        + 4 * m->can[PLATFORM_EXECUTE]]);
}

/* A file behind a mapping ends before the address, or has no memory for it:
   the kernel gives both the same code. */
static void
fault_write_file(struct out *o, const struct fault_place *p)
{
    const struct fault_mapping *m = &p->at;
    uint64_t size, offset = m->offset + (p->address - m->start);
    int known = platform_file_size(m->path, m->inode, &size);
    out_text(o, known == 0 && offset < size ? "inside" : "past the end of");
    out_text(o, " the mapped file ");
    fault_write_path(o, m);
    if (known < 0) {
        out_text(o, ", or no memory for it is left");
    }
    else if (offset < size) {
        out_text(o, ", no memory for it is left, or it cannot be read");
    }
}

/* Write what is wrong with an address. */
static void
fault_write_reason(struct out *o, const siginfo_t *info,
                   const struct fault_place *p)
{
    const struct fault_code *code = fault_find_code(info);
    bool segv = info->si_signo == SIGSEGV;
    if (p->at.end != 0 && segv && info->si_code <= 2) {
        fault_write_mapping(o, &p->at, p->access);
    }
    else if (!segv && info->si_code == 2 && p->at.path[0] == '/') {
        fault_write_file(o, p);
    }
    else {
        out_text(o, code != NULL ? code->words : "the kernel says no more");
    }
    if (segv && info->si_code == 4) {
        out_text(o, ", number ");
        out_decimal(o, (uint64_t)info->si_pkey);
    }
}

/* Exceptions of the processor, by its numbers. */
enum {
    FAULT_TRAP_DIVISION = 0, FAULT_TRAP_OPCODE = 6, FAULT_TRAP_STACK = 12,
    FAULT_TRAP_PROTECTION = 13, FAULT_TRAP_ALIGNMENT = 17
};

/* An instruction of x86-64, as far as it tells which memory it was about to
   use.  Decoded where the kernel knows no address: an address that is not
   canonical, a division. */
#define FAULT_CODE_MAX 15
struct fault_instruction {
    uint8_t code[FAULT_CODE_MAX];
    size_t length, at;          /* bytes that could be read, and were used */
    unsigned rex;               /* the bits of REX, or of VEX and EVEX */
    bool has_rex, narrow, short_address, vector, evex;
    uint8_t segment;            /* its prefix, or 0 */
    unsigned map;               /* 0, or of the opcodes after 0F, 0F38, 0F3A */
    uint8_t opcode;
    unsigned reg;               /* the operand that only a register can be */
    bool in_memory;             /* the other one */
    uintptr_t address;
    int base, index;            /* registers; -1: none */
};

/* The bytes at an address: as many as can be read. */
static size_t
fault_read_code(uint8_t code[FAULT_CODE_MAX], uintptr_t pc)
{
    size_t n = FAULT_CODE_MAX;
    if (mem_read(code, pc, n) < 0) {
        n = 0;
        while (n < FAULT_CODE_MAX && mem_read(code + n, pc + n, 1) == 0) {
            n++;
        }
    }
    return n;
}

/* The next n bytes as a number with a sign.  Past the end they are 0, and at
   is larger than length. */
static int64_t
fault_code_next(struct fault_instruction *in, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++, in->at++) {
        uint64_t byte = in->at < in->length ? in->code[in->at] : 0;
        value |= byte << (8 * i);
    }
    unsigned unused = 64 - 8 * (unsigned)n;
    return n == 0 ? 0 : (int64_t)(value << unused) >> unused;
}

static uint8_t
fault_code_byte(struct fault_instruction *in)
{
    return (uint8_t)fault_code_next(in, 1);
}

/* Read what stands before the opcode, and the opcode.  Returns -1 for what
   is not known. */
static int
fault_read_opcode(struct fault_instruction *in)
{
    uint8_t b = fault_code_byte(in);
    while (b == 0x66 || b == 0x67 || (b >= 0x64 && b <= 0x65) || b == 0xf0
           || b == 0xf2 || b == 0xf3 || (b & 0xe7) == 0x26) {
        in->narrow |= b == 0x66;
        in->short_address |= b == 0x67;
        in->segment = b == 0x64 || b == 0x65 ? b : in->segment;
        b = fault_code_byte(in);
    }
    if ((b & 0xf0) == 0x40) {
        in->has_rex = true;
        in->rex = b & 15;
        b = fault_code_byte(in);
    }
    if (b == 0xc4 || b == 0xc5 || b == 0x62) {
        /* The bits that extend registers are inverted here. */
        uint8_t first = fault_code_byte(in);
        in->vector = true;
        in->evex = b == 0x62;
        in->map = b == 0xc5 ? 1 : first & (b == 0x62 ? 7 : 31);
        in->rex = ~(unsigned)first >> 5 & (b == 0xc5 ? 4 : 7);
        if (b == 0xc4 || b == 0x62) {
            fault_code_next(in, b == 0x62 ? 2 : 1);
        }
        b = fault_code_byte(in);
    }
    else if (b == 0x0f) {
        in->map = 1;
        b = fault_code_byte(in);
        if (b == 0x38 || b == 0x3a) {
            in->map = b == 0x38 ? 2 : 3;
            b = fault_code_byte(in);
        }
    }
    in->opcode = b;
    return in->map <= 3 && b != 0xd5 && in->at <= in->length ? 0 : -1;
}

/* Is the opcode followed by a byte that names the operands? */
static bool
fault_has_operands(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    if (in->map == 0) {
        return (b < 0x40 && (b & 7) < 4) || b == 0x63 || b == 0x69
               || b == 0x6b || (b >= 0x80 && b <= 0x8f) || b == 0xc0
               || b == 0xc1 || b == 0xc6 || b == 0xc7
               || (b >= 0xd0 && b <= 0xd3) || (b >= 0xd8 && b <= 0xdf)
               || b == 0xf6 || b == 0xf7 || b == 0xfe || b == 0xff;
    }
    return in->map > 1
           || !((b >= 0x05 && b <= 0x0b) || (b >= 0x30 && b <= 0x37)
                || b == 0x0e || b == 0x77 || (b >= 0x80 && b <= 0x8f)
                || (b & 0xf7) == 0xa0 || (b & 0xf7) == 0xa1
                || (b & 0xf7) == 0xa2 || (b >= 0xc8 && b <= 0xcf));
}

/* How many bytes of a constant stand behind the operands? */
static size_t
fault_constant_size(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    if (in->map == 0) {
        bool tests = (b | 1) == 0xf7 && (in->reg & 7) < 2;
        bool large = b == 0x69 || b == 0x81 || b == 0xc7;
        bool small = b == 0x6b || b == 0x80 || b == 0x83 || b == 0xc0
                     || b == 0xc1 || b == 0xc6;
        return large || (tests && b == 0xf7)
               ? (in->narrow && !(in->rex & 8) ? 2 : 4) : small || tests;
    }
    return in->map == 3
           || (in->map == 1
               && ((b >= 0x70 && b <= 0x73) || (b & 0xf7) == 0xa4
                   || b == 0xba || b == 0xc2 || (b >= 0xc4 && b <= 0xc6)));
}

/* Read the byte that names the operands, and find out where the one that may
   be in memory is.  Returns -1 where that is not known. */
static int
fault_read_operands(struct fault_instruction *in, uintptr_t pc,
                    const uintptr_t *registers)
{
    uint8_t b = fault_code_byte(in);
    unsigned mode = b >> 6, low = b & 7;
    in->reg = (b >> 3 & 7) | (in->rex & 4) << 1;
    in->base = (int)(low | (in->rex & 1) << 3);
    if (mode == 3) {
        return in->at <= in->length ? 0 : -1;
    }
    in->in_memory = true;
    if (low == 4) {
        uint8_t sib = fault_code_byte(in);
        unsigned index = (sib >> 3 & 7) | (in->rex & 2) << 2;
        in->base = (int)((sib & 7) | (in->rex & 1) << 3);
        if (index != 4) {
            in->index = (int)index;
            in->address = registers[index] << (sib >> 6);
        }
        low = sib & 7;
    }
    bool relative = mode == 0 && (b & 7) == 5;
    bool wide = mode == 2 || (mode == 0 && low == 5);
    if (mode == 0 && low == 5) {
        in->base = -1;
    }
    in->address += (uintptr_t)fault_code_next(in, wide ? 4
                                                  : mode == 1 ? 1 : 0);
    in->address += in->base >= 0 ? registers[in->base] : 0;
    /* Counted from the instruction's end. */
    in->address += relative ? pc + in->at + fault_constant_size(in) : 0;
    in->address &= in->short_address ? 0xffffffff : UINTPTR_MAX;
    in->address += in->segment == 0x64 ? (uintptr_t)pthread_self() : 0;
    /* Not known: what the other segment starts at, the scale of EVEX's short
       displacements, indices in vectors. */
    bool gathers = in->vector && in->map == 2
                   && ((in->opcode & 0xfc) == 0x90
                       || (in->opcode & 0xfc) == 0xa0);
    return in->at > in->length || in->segment == 0x65
           || (in->evex && mode == 1) || gathers ? -1 : 0;
}

/* Decode the instruction that was interrupted.  Returns -1 where it is not
   known. */
static int
fault_decode(struct fault_instruction *in, uintptr_t pc,
             const uintptr_t *registers)
{
    memset(in, 0, sizeof *in);
    in->base = in->index = -1;
    in->length = PLATFORM_IS_X86_64 ? fault_read_code(in->code, pc) : 0;
    if (in->length == 0 || fault_read_opcode(in) < 0) {
        return -1;
    }
    return fault_has_operands(in)
           ? fault_read_operands(in, pc, registers) : 0;
}

/* What a division's processor exception meant: it is the same for a divisor
   of 0 and for a quotient that does not fit. */
static const char *
fault_divisor(const struct fault_instruction *in, const uintptr_t *registers)
{
    uint64_t value = 0;
    if (in->map != 0 || (in->opcode | 1) != 0xf7 || (in->reg & 6) != 6) {
        return NULL;
    }
    size_t size = in->opcode == 0xf6 ? 1 : in->rex & 8 ? 8
                  : in->narrow ? 2 : 4;
    if (in->in_memory) {
        if (mem_read(&value, in->address, size) < 0) {
            return NULL;
        }
    }
    else if (size == 1 && !in->has_rex && in->base >= 4) {
        value = registers[in->base - 4] >> 8;       /* ah, ch, dh, bh */
    }
    else {
        value = registers[in->base];
    }
    value &= size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * size) - 1;
    return value == 0 ? "integer division by zero"
                      : "integer division overflow, the quotient does not fit";
}

/* Does the instruction write to its operand in memory?  Not known of those
   where it depends on more than the opcode. */
static enum platform_access
fault_operand_access(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    unsigned reg = in->reg & 7;
    bool writes = false;
    if (in->map > 1 || (in->map == 0 && b >= 0xd8 && b <= 0xdf)
        || (in->map == 1 && (b == 0x7e || b == 0xae || b == 0xc7))) {
        return PLATFORM_UNKNOWN;
    }
    if (in->map == 1) {
        writes = b == 0x11 || b == 0x13 || b == 0x17 || b == 0x29
                 || b == 0x2b || b == 0x7f || b == 0xd6 || b == 0xe7
                 || b == 0xc3 || (b >= 0x90 && b <= 0x9f)
                 || (b & 0xf6) == 0xa4 || b == 0xab || b == 0xb3 || b == 0xbb
                 || (b == 0xba && reg > 4) || (b & 0xfe) == 0xb0
                 || (b & 0xfe) == 0xc0;
    }
    else if (b < 0x40) {
        writes = (b & 7) < 2 && b < 0x38;
    }
    else {
        writes = (b >= 0x80 && b <= 0x83 && reg != 7)
                 || (b >= 0x86 && b <= 0x89) || b == 0x8c || b == 0x8f
                 || b == 0xc0 || b == 0xc1 || b == 0xc6 || b == 0xc7
                 || (b >= 0xd0 && b <= 0xd3)
                 || ((b | 1) == 0xf7 && (reg == 2 || reg == 3))
                 || ((b | 1) == 0xff && reg < 2);
    }
    return writes ? PLATFORM_WRITE : PLATFORM_READ;
}

/* Where the instruction was about to go that is no address.  Its operand, the
   string that it works on, the stack, or what it jumps to. */
struct fault_odd {
    uintptr_t address;
    enum platform_access access;
    int registers[2];           /* that it comes from; -1: none */
};

static bool
fault_note_odd(struct fault_odd *odd, uintptr_t address,
               enum platform_access access, int base, int index)
{
    if (!fault_is_odd(address)) {
        return false;
    }
    *odd = (struct fault_odd) {address, access, {base, index}};
    return true;
}

/* What an instruction without operands uses: strings, the stack. */
static bool
fault_find_implicit(const struct fault_instruction *in,
                    const uintptr_t *registers, struct fault_odd *odd)
{
    uint8_t b = in->opcode;
    uintptr_t sp = registers[4], target;
    if (b >= 0xa0 && b <= 0xa3 && in->at + sizeof target <= in->length) {
        memcpy(&target, in->code + in->at, sizeof target);
        return fault_note_odd(odd, target, b < 0xa2 ? PLATFORM_READ
                                                    : PLATFORM_WRITE, -1, -1);
    }
    if ((b >= 0xa4 && b <= 0xa7) || (b >= 0xaa && b <= 0xaf)) {
        bool reads_di = (b & 0xfe) == 0xa6 || (b & 0xfe) == 0xae;
        bool uses_si = b < 0xa8 || (b & 0xfe) == 0xac;
        bool uses_di = (b & 0xfe) != 0xac;
        return (uses_di
                && fault_note_odd(odd, registers[7],
                                  reads_di ? PLATFORM_READ : PLATFORM_WRITE,
                                  7, -1))
               || (uses_si && fault_note_odd(odd, registers[6], PLATFORM_READ,
                                             6, -1));
    }
    if (b == 0xc2 || b == 0xc3) {
        return fault_note_odd(odd, sp, PLATFORM_READ, 4, -1)
               || (mem_word(sp, &target) == 0
                   && fault_note_odd(odd, target, PLATFORM_EXECUTE, -1, -1));
    }
    bool pushes = (b & 0xf8) == 0x50 || b == 0x68 || b == 0x6a || b == 0x9c
                  || b == 0xe8;
    bool pops = (b & 0xf8) == 0x58 || b == 0x9d;
    return (pushes && fault_note_odd(odd, sp - 8, PLATFORM_WRITE, 4, -1))
           || (pops && fault_note_odd(odd, sp, PLATFORM_READ, 4, -1))
           || (b == 0xc9 && fault_note_odd(odd, registers[5], PLATFORM_READ,
                                           5, -1));
}

static bool
fault_find_odd(const struct fault_instruction *in, const uintptr_t *registers,
               uintptr_t pc, struct fault_odd *odd)
{
    unsigned what = in->reg & 7;
    uintptr_t target = in->base >= 0 ? registers[in->base] : 0;
    if (fault_note_odd(odd, pc, PLATFORM_EXECUTE, -1, -1)) {
        return true;
    }
    if (in->in_memory
        && fault_note_odd(odd, in->address, fault_operand_access(in),
                          in->base, in->index)) {
        return true;
    }
    if (in->map != 0) {
        return false;
    }
    if (in->opcode == 0xff && (what == 2 || what == 4)) {
        bool known = !in->in_memory || mem_word(in->address, &target) == 0;
        return known && fault_note_odd(odd, target, PLATFORM_EXECUTE,
                                       in->in_memory ? -1 : in->base, -1);
    }
    if (in->opcode == 0xff && what == 6) {
        return fault_note_odd(odd, registers[4] - 8, PLATFORM_WRITE, 4, -1);
    }
    return fault_find_implicit(in, registers, odd);
}

/* Is this an instruction that only the kernel may use? */
static bool
fault_is_privileged(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    if (in->map == 1) {
        return b <= 0x01 || (b >= 0x06 && b <= 0x09)
               || (b >= 0x20 && b <= 0x23) || (b >= 0x30 && b <= 0x35);
    }
    return in->map == 0
           && (b == 0xf4 || b == 0xfa || b == 0xfb || b == 0xcd
               || (b >= 0x6c && b <= 0x6f) || (b >= 0xe4 && b <= 0xe7)
               || (b >= 0xec && b <= 0xef));
}

/* Does it move vectors to or from an address that must be aligned, and is
   not? */
static bool
fault_is_misaligned(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    bool aligned_move = b == 0x28 || b == 0x29 || b == 0x2b || b == 0x6f
                        || b == 0x7f || b == 0xe7;
    if (!in->in_memory || in->map == 0) {
        return false;
    }
    if (in->vector) {
        return in->address % 64 != 0 && in->map == 1 && aligned_move;
    }
    return in->address % 16 != 0
           && (in->map > 1 || aligned_move || (b >= 0x51 && b <= 0x76)
               || b == 0x14 || b == 0x15 || b == 0xae || b == 0xc2
               || b == 0xc6 || b == 0xc7 || b >= 0xd0);
}

/* What CPython's debug allocator fills memory with.  Windows' debug heap and
   CPython up to 3.7 know 0xdb. */
static const struct {
    uint8_t byte;
    const char *words;
} fault_patterns[] = {
    {0xdd, "freed memory: likely a use after free"},
    {0xdb, "freed memory: likely a use after free"},
    {0xcd, "memory that was not written yet: likely a use too early, or after"
     " free"},
    {0xfd, "the ends of a block: likely a use past its end, or after free"},
};
#define FAULT_PATTERN_MAX 65536

/* Is a value one of the patterns, or near to it?  Then it was read from such
   memory, and something was added.  Writes a line that says so. */
static bool
fault_write_pattern(struct out *o, const char *name, uintptr_t value)
{
    for (size_t i = 0; i < sizeof fault_patterns / sizeof *fault_patterns;
         i++) {
        uintptr_t pattern = UINTPTR_MAX / 255 * fault_patterns[i].byte;
        if (value - pattern + FAULT_PATTERN_MAX <= 2 * FAULT_PATTERN_MAX) {
            out_text(o, name == NULL ? "  the address" : "  register ");
            out_text(o, name == NULL ? "" : name);
            out_text(o, " is ");
            out_address(o, value);
            out_text(o, value == pattern ? ", with which CPython fills "
                                         : ", near that with which CPython"
                                           " fills ");
            out_text(o, fault_patterns[i].words);
            out_char(o, '\n');
            return true;
        }
    }
    return false;
}

/* Did the address come from a register that holds a pattern?  On processors
   that take any number for an address; some ignore its upper byte. */
static void
fault_write_origin(struct out *o, const struct platform_fault *f,
                   uintptr_t address)
{
    for (size_t i = 0; !PLATFORM_IS_X86_64 && i < PLATFORM_REGISTERS; i++) {
        uintptr_t offset = address - f->registers[i] + FAULT_PATTERN_MAX;
        if ((offset & (UINTPTR_MAX >> 8)) <= 2 * FAULT_PATTERN_MAX
            && fault_write_pattern(o, platform_register_name(i),
                                   f->registers[i])) {
            return;
        }
    }
}

/* A fault at an address that the kernel told. */
static void
fault_write_memory(struct out *o, const siginfo_t *info, const void *context,
                   const struct platform_fault *f)
{
    const ucontext_t *uc = context;
    struct fault_place p;
    stack_t alternate = uc->uc_stack;
    memset(&p, 0, sizeof p);
    p.address = (uintptr_t)info->si_addr;
    p.pc = platform_get_place(context).pc;
    p.sp = platform_get_place(context).sp;
    p.access = f->address == p.address ? f->access : PLATFORM_UNKNOWN;
    if (alternate.ss_flags & SS_DISABLE) {
        alternate.ss_sp = NULL;
    }
    fault_read_map(&p, (uintptr_t)alternate.ss_sp);
    if (info->si_signo == SIGSEGV && info->si_code <= 2
        && fault_overflowed(&p, &alternate)) {
        out_text(o, "  The stack of this thread overflowed (");
        out_decimal(o, fault_stack_size(&p) / 1024);
        out_text(o, " KiB, address ");
        out_address(o, p.address);
        out_text(o, "): ");
        out_text(o, fault_access_word(p.access));
        out_text(o, " below its end");
    }
    else if (info->si_signo == SIGSEGV && p.address == 0
             && (info->si_code == 8 || info->si_code == 10)) {
        out_text(o, "  ");      /* the kernel tells no address */
        fault_write_reason(o, info, &p);
    }
    else {
        fault_write_address(o, p.access, p.address);
        out_text(o, ": ");
        fault_write_reason(o, info, &p);
    }
    fault_end(o, info);
    fault_write_origin(o, f, p.address);
}

/* Write bytes of code, in hex. */
static void
fault_write_code(struct out *o, uintptr_t pc)
{
    uint8_t code[FAULT_CODE_MAX];
    size_t n = fault_read_code(code, pc);
    for (size_t i = 0; i < n; i++) {
        out_text(o, i == 0 ? "" : " ");
        out_hex(o, code[i], 2);
    }
    if (PLATFORM_IS_X86_64 && n >= 2 && code[0] == 0x0f && code[1] == 0x0b) {
        out_text(o, " (ud2, by which compilers mark what must not be"
                    " reached)");
    }
    out_text(o, n == 0 ? "???" : "");
    out_text(o, " at address ");
    out_address(o, pc);
}

/* The processor refused an instruction, and the kernel says no address:
   si_addr is 0, which is no NULL pointer. */
static void
fault_write_refused(struct out *o, const siginfo_t *info,
                    const struct platform_fault *f, uintptr_t pc)
{
    struct fault_instruction in;
    struct fault_odd odd = {0, PLATFORM_UNKNOWN, {-1, -1}};
    bool decoded = fault_decode(&in, pc, f->registers) == 0;
    bool found = fault_find_odd(&in, f->registers, pc, &odd)
                 && (decoded || odd.access == PLATFORM_EXECUTE);
    if (found) {
        fault_write_address(o, odd.access, odd.address);
        out_text(o, ": a non-canonical address, no memory can be there");
    }
    else if (decoded && (f->trap == FAULT_TRAP_ALIGNMENT
                         ? in.in_memory : fault_is_misaligned(&in))) {
        fault_write_address(o, fault_operand_access(&in), in.address);
        out_text(o, ": this instruction needs an aligned address");
    }
    else if (decoded && fault_is_privileged(&in)) {
        out_text(o, "  an instruction that only the kernel may use: ");
        fault_write_code(o, pc);
    }
    else {
        out_text(o, f->trap == FAULT_TRAP_ALIGNMENT
                    ? "  an address that is not aligned: "
                    : "  a non-canonical address, or an instruction that is"
                      " not allowed: ");
        fault_write_code(o, pc);
    }
    fault_end(o, info);
    bool told = false;
    for (size_t i = 0; i < 2 && found && !told; i++) {
        if (odd.registers[i] >= 0) {
            size_t number = (size_t)odd.registers[i];
            told = fault_write_pattern(o, platform_register_name(number),
                                       f->registers[number]);
        }
    }
    if (found && !told) {
        fault_write_pattern(o, NULL, odd.address);
    }
    for (size_t i = 0; i < PLATFORM_REGISTERS && !decoded && !told; i++) {
        told = fault_write_pattern(o, platform_register_name(i),
                                   f->registers[i]);
    }
}

/* Write who sent a signal. */
static void
fault_write_sender(struct out *o, const siginfo_t *info, const void *context)
{
    const struct fault_code *code = fault_find_code(info);
    const char *words = code != NULL ? code->words : "";
    bool own = info->si_pid == getpid();
    out_text(o, "  ");
    if (code != NULL && (code->code == -2 || code->code == -5
                         || code->code == -7)) {
        out_text(o, words);
        fault_end(o, info);
        return;
    }
    if (own && info->si_signo == SIGABRT && info->si_code == SI_TKILL
        && fault_is_inside(context, &fault_abort, 1)) {
        out_text(o, fault_was_reported(context)
                    ? "abort() was called by Py_FatalError()"
                    : "abort() was called");
        fault_end(o, info);
        return;
    }
    if (own) {
        out_text(o, "sent by this process");
        words = info->si_code == SI_TKILL ? " with raise() or pthread_kill()"
                                          : words;
    }
    else {
        /* A process that has no number here is not in our namespace. */
        out_text(o, info->si_pid == 0 ? "sent by a process from outside, "
                    : "sent by process ");
        if (info->si_pid != 0) {
            out_decimal(o, (uint64_t)info->si_pid);
            out_char(o, ' ');
        }
        out_text(o, "of user ");
        out_decimal(o, info->si_uid);
    }
    out_text(o, words);
    if (info->si_code == SI_QUEUE) {
        int value = info->si_value.sival_int;
        out_text(o, value < 0 ? ", value -" : ", value ");
        out_decimal(o, value < 0 ? 0u - (unsigned)value : (unsigned)value);
    }
    fault_end(o, info);
}

/* Write why the signal came, in words, a line or two. */
static void
fault_write_cause(struct out *o, const siginfo_t *info, const void *context)
{
    const struct fault_code *code = fault_find_code(info);
    const char *words = code != NULL ? code->words
                                     : "the kernel says no more";
    struct fault_instruction in;
    struct platform_fault f;
    uintptr_t pc = platform_get_place(context).pc;
    platform_get_fault(context, &f);
    bool is_memory = info->si_signo == SIGSEGV || info->si_signo == SIGBUS;
    if (info->si_code <= 0) {
        fault_write_sender(o, info, context);
        return;
    }
    if (is_memory && PLATFORM_IS_X86_64
        && (info->si_code == SI_KERNEL
            ? f.trap == FAULT_TRAP_STACK || f.trap == FAULT_TRAP_PROTECTION
            : info->si_addr == NULL && f.trap == FAULT_TRAP_ALIGNMENT)) {
        fault_write_refused(o, info, &f, pc);
        return;
    }
    if (is_memory && info->si_code != SI_KERNEL) {
        fault_write_memory(o, info, context, &f);
        return;
    }
    out_text(o, "  ");
    if (info->si_signo == SIGFPE && info->si_code == FPE_INTDIV
        && f.trap == FAULT_TRAP_DIVISION
        && fault_decode(&in, pc, f.registers) == 0) {
        const char *known = fault_divisor(&in, f.registers);
        words = known != NULL ? known : words;
    }
    if (info->si_signo == SIGILL && info->si_code != SI_KERNEL) {
        out_text(o, f.trap == FAULT_TRAP_OPCODE ? "illegal opcode" : words);
        out_text(o, ": ");
        fault_write_code(o, (uintptr_t)info->si_addr);
    }
    else {
        out_text(o, words);
    }
    fault_end(o, info);
}

/* ==== 11. C stack ==== */

/* Frames that are shown, and that are counted. */
#define NATIVE_SHOWN 128
#define NATIVE_MAX (64 * 1024)
#define NATIVE_SYMBOLS 64

struct native_object {
    const char *path;           /* in the loader's memory */
    bool is_program;
    uintptr_t base, start;
    uintptr_t symbols, names;
    size_t count, names_size;
};

/* Count a GNU hash table's symbols: the last chain ends with a set bit. */
static size_t
native_count_gnu(uintptr_t at)
{
    uint32_t head[4], last = 0, hash;
    if (mem_read(head, at, sizeof head) < 0 || head[0] > 1 << 24
        || head[2] > 1 << 24) {
        return 0;
    }
    uintptr_t buckets = at + sizeof head + head[2] * sizeof(ElfW(Addr));
    for (uint32_t i = 0; i < head[0]; i++) {
        uint32_t bucket;
        if (mem_read(&bucket, buckets + i * sizeof bucket, 4) < 0) {
            return 0;
        }
        last = bucket > last ? bucket : last;
    }
    if (last < head[1]) {
        return head[1];
    }
    uintptr_t chains = buckets + head[0] * sizeof(uint32_t);
    do {
        if (mem_read(&hash, chains + (last - head[1]) * sizeof hash, 4) < 0) {
            return 0;
        }
        last++;
    } while (!(hash & 1) && last < 1 << 24);
    return last;
}

/* Find the dynamic symbols of a loaded object. */
static void
native_read_dynamic(struct native_object *object, uintptr_t dynamic)
{
    uintptr_t gnu_hash = 0, hash = 0;
    for (int i = 0; i < 256; i++) {
        ElfW(Dyn) entry;
        if (mem_read(&entry, dynamic + (size_t)i * sizeof entry,
                     sizeof entry) < 0
            || entry.d_tag == DT_NULL) {
            break;
        }
        uintptr_t value = entry.d_un.d_ptr, at = value;
        if (value < object->base) {
            at += object->base;     /* not relocated: the vdso's, or musl's */
        }
        switch (entry.d_tag) {
        case DT_SYMTAB: object->symbols = at; break;
        case DT_STRTAB: object->names = at; break;
        case DT_STRSZ: object->names_size = value; break;
        case DT_GNU_HASH: gnu_hash = at; break;
        case DT_HASH: hash = at; break;
        default: break;
        }
    }
    uint32_t sizes[2];
    if (gnu_hash != 0) {
        object->count = native_count_gnu(gnu_hash);
    }
    else if (hash != 0 && mem_read(sizes, hash, sizeof sizes) == 0) {
        object->count = sizes[1];
    }
}

/* Is an address in a segment of this object?  Says also where its mapping
   begins. */
static bool
native_holds(const struct link_map *map, uintptr_t pc, uintptr_t *start)
{
    ElfW(Ehdr) head;
    ElfW(Phdr) part;
    /* A program that is not to be moved has no address there. */
    *start = map->l_addr != 0 ? map->l_addr
                              : platform_program_headers() - sizeof head;
    if (mem_read(&head, *start, sizeof head) < 0
        || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) {
        return false;
    }
    for (size_t i = 0; i < head.e_phnum; i++) {
        if (mem_read(&part, *start + head.e_phoff + i * sizeof part,
                     sizeof part) < 0) {
            return false;
        }
        if (part.p_type == PT_LOAD
            && pc - map->l_addr - part.p_vaddr < part.p_memsz) {
            return true;
        }
    }
    return false;
}

/* The loader's record of the object that holds an address, 0 if there is
   none, and where its mapping begins. */
static uintptr_t
native_find_record(uintptr_t pc, uintptr_t *start)
{
    uintptr_t record = 0;
    if (platform_find_object(pc, &record, start)) {
        return record;
    }
    /* The list may change under our feet: then a name is missing. */
    struct mem_chain chain = {0};
    struct link_map map;
    record = platform_first_object();
    while (record != 0 && mem_chain_step(&chain, record) == 0
           && mem_read(&map, record, sizeof map) == 0) {
        if (native_holds(&map, pc, start)) {
            return record;
        }
        record = (uintptr_t)map.l_next;
    }
    return 0;
}

static uintptr_t
native_record(uintptr_t pc)
{
    uintptr_t start;
    return native_find_record(pc, &start);
}

/* Find the object that holds an address.  Returns -1 if there is none. */
static int
native_find_object(uintptr_t pc, struct native_object *object)
{
    struct link_map map;
    char first = '\0';
    memset(object, 0, sizeof *object);
    uintptr_t record = native_find_record(pc, &object->start);
    if (mem_read(&map, record, sizeof map) < 0) {
        return -1;
    }
    bool known = mem_read(&first, (uintptr_t)map.l_name, 1) == 0;
    object->is_program = known && first == '\0';
    object->path = object->is_program ? program_invocation_name
                   : known ? map.l_name : "";
    object->base = map.l_addr;
    native_read_dynamic(object, (uintptr_t)map.l_ld);
    return 0;
}

/* Find the symbol that covers an address, the one dladdr() would name.
   Returns the address of its name, 0 if there is none. */
static uintptr_t
native_find_symbol(const struct native_object *object, uintptr_t pc,
                   uintptr_t *start)
{
    uintptr_t name = 0;
    *start = 0;
    for (size_t i = 0; i < object->count; i += NATIVE_SYMBOLS) {
        ElfW(Sym) block[NATIVE_SYMBOLS];
        size_t n = object->count - i < NATIVE_SYMBOLS ? object->count - i
                                                      : NATIVE_SYMBOLS;
        if (mem_read(block, object->symbols + i * sizeof *block,
                     n * sizeof *block) < 0) {
            return name;
        }
        for (size_t j = 0; j < n; j++) {
            const ElfW(Sym) *s = &block[j];
            uintptr_t at = object->base + s->st_value;
            bool covers = pc >= at && pc < at + s->st_size;
            if (s->st_shndx != SHN_UNDEF && covers && at >= *start
                && ELF64_ST_TYPE(s->st_info) != STT_TLS
                && s->st_name < object->names_size) {
                *start = at;
                name = object->names + s->st_name;
            }
        }
    }
    return name;
}

/* Write a C string that may be anywhere, at most OUT_NAME_MAX bytes. */
static void
native_write_string(struct out *o, uintptr_t at)
{
    char c;
    for (int i = 0; i < OUT_NAME_MAX; i++) {
        if (mem_read(&c, at + (size_t)i, 1) < 0 || c == '\0') {
            return;
        }
        out_escaped(o, (unsigned char)c);
    }
}

/* The objects that a report's C frames are in. */
#define NATIVE_SEEN_MAX 64

struct native_seen {
    size_t count;
    uintptr_t records[NATIVE_SEEN_MAX];
    uintptr_t pcs[NATIVE_SEEN_MAX];     /* an address in each */
};

/* Note the object of a frame. */
static void
native_see(struct native_seen *seen, uintptr_t pc)
{
    uintptr_t record = native_record(pc);
    size_t i = 0;
    while (record != 0 && i < seen->count && seen->records[i] != record) {
        i++;
    }
    if (record != 0 && i == seen->count && i < NATIVE_SEEN_MAX) {
        seen->records[i] = record;
        seen->pcs[i] = pc;
        seen->count++;
    }
}

/* Write one C frame as the standard library's module does. */
static void
native_write_frame(struct out *o, uintptr_t pc, struct native_seen *seen)
{
    struct native_object object;
    out_room(o, OUT_LINE_MAX);
    native_see(seen, pc);
    if (native_find_object(pc, &object) < 0) {
        out_text(o, "  Binary file '<unknown>' [0x");
    }
    else {
        uintptr_t start;
        uintptr_t name = native_find_symbol(&object, pc, &start);
        out_text(o, "  Binary file \"");
        native_write_string(o, (uintptr_t)object.path);
        out_char(o, '"');
        if (name != 0 || object.base != 0) {
            out_text(o, ", at ");
            if (name != 0) {
                native_write_string(o, name);
            }
            out_text(o, "+0x");
            out_hex(o, pc - (name != 0 ? start : object.base), 1);
        }
        out_text(o, " [0x");
    }
    out_hex(o, pc, 1);
    out_text(o, "]\n");
}

/* A C frame.  A return address belongs to the call in front of it, which may
   be the last instruction of its function. */
struct native_frame {
    uintptr_t pc;
    bool is_return;
};

/* What a lookup of frames has found. */
struct native_symbols {
    struct native_found *found;         /* NULL: nothing */
};

#if FAULTHANDLER_LIBBACKTRACE
/* Function, file and line come from libbacktrace, which reads the debug data
   of objects: of any size, of any age, damaged perhaps.  It runs in a child
   process, which may fault, loop, or use up its stack and its memory: all
   that is lost is the answers about one object.  No place inside a handler
   could promise that.  A jump out of a fault would leave behind whatever it
   wrote before, and mapped; a loop is only ended by a timer; and endless
   recursion needs a stack with a guard.  What is damaged in us is so in the
   child too, which therefore relies on nothing but what the answers need.

   It never asks the loader, whose lock another thread may hold: it looks at
   one object at a time, which __wrap_dl_iterate_phdr() names.  It takes no
   lock and does not use malloc(): setup.py sees to that.

   Where there can be no child (a sandbox, no memory, too many processes)
   the names are those of the dynamic symbols. */
#define NATIVE_LOOKUP_NS INT64_C(5000000000)
#define NATIVE_FIRST_SHARE 5
#define NATIVE_CHILD_MEMORY (size_t)INT64_C(3000000000)
#define NATIVE_POLL_NS 300000
#define NATIVE_REAP_POLLS 600
#define NATIVE_FRAMES 256
#define NATIVE_OBJECTS 64
#define NATIVE_LINES 1024
#define NATIVE_TEXT (256 * 1024)

/* An object whose frames are to be looked up. */
struct native_source {
    uintptr_t record;           /* the loader's */
    const char *path;           /* NULL: the program */
    uintptr_t base, start;
    enum { NATIVE_WAITS, NATIVE_IS_SLOW, NATIVE_IS_DONE } state;
};

/* The question.  The child has a copy of it. */
static struct {
    struct native_frame frames[NATIVE_FRAMES];
    size_t source_of[NATIVE_FRAMES];
    size_t frame_count;
    struct native_source sources[NATIVE_OBJECTS];
    size_t source_count;
    pid_t parent, child;        /* 0: there is none */
} native_question;

/* One line of the answer. */
struct native_line {
    uint32_t frame;
    uint32_t file, function;    /* where in the text, 0: not known */
    int32_t number;
};

/* The answer, in memory that the child shares with us.  What it says is read
   as carefully as everything else. */
struct native_found {
    atomic_size_t source;       /* the one that is being looked up */
    atomic_size_t line_count;
    size_t text_used;
    bool is_done[NATIVE_FRAMES];
    struct native_line lines[NATIVE_LINES];
    char text[NATIVE_TEXT];
};

/* The child's stack.  8 to 11 KiB of it were seen in use, with 500 bytes more
   for each level of nested debug data. */
static char native_stack[512 * 1024] __attribute__((aligned(16)));

/* ---- in the child ---- */

/* The frame whose lines are being collected. */
struct native_search {
    struct native_found *found;
    uint32_t frame;
    size_t count;               /* of all lines, with this frame's */
};

/* Keep a string.  Returns where it is in the text, 0 if there is no room. */
static uint32_t
native_keep_text(struct native_found *found, const char *text)
{
    size_t n = text == NULL ? 0 : strnlen(text, OUT_NAME_MAX + 1);
    size_t at = found->text_used;
    if (n == 0 || at > NATIVE_TEXT - OUT_NAME_MAX - 2) {
        return 0;
    }
    memcpy(found->text + at, text, n);
    found->text[at + n] = '\0';
    found->text_used = at + n + 1;
    return (uint32_t)at;
}

static int
native_on_line(void *data, uintptr_t pc, const char *file, int number,
               const char *function)
{
    struct native_search *search = data;
    (void)pc;
    if ((file != NULL || function != NULL) && search->count < NATIVE_LINES) {
        search->found->lines[search->count++] = (struct native_line) {
            .frame = search->frame,
            .file = native_keep_text(search->found, file),
            .function = native_keep_text(search->found, function),
            .number = number,
        };
    }
    return 0;
}

/* The symbol table's answer, for what the debug data does not say. */
static void
native_on_symbol(void *data, uintptr_t pc, const char *name, uintptr_t value,
                 uintptr_t size)
{
    struct native_search *search = data;
    (void)value, (void)size;
    if (search->count == atomic_load(&search->found->line_count)) {
        native_on_line(data, pc, NULL, 0, name);
    }
    else if (search->found->lines[search->count - 1].function == 0) {
        search->found->lines[search->count - 1].function =
            native_keep_text(search->found, name);
    }
}

static void
native_on_error(void *data, const char *message, int number)
{
    (void)data, (void)message, (void)number;
}

/* The object that libbacktrace asks for. */
static struct dl_phdr_info native_object_info;

int __wrap_dl_iterate_phdr(int (*)(struct dl_phdr_info *, size_t, void *),
                           void *) __attribute__((visibility("hidden")));

int
__wrap_dl_iterate_phdr(int (*callback)(struct dl_phdr_info *, size_t, void *),
                       void *data)
{
    return callback(&native_object_info, sizeof native_object_info, data);
}

/* Open a file, if it begins as the object in memory does: it may have been
   replaced since it was loaded.  Its build-id is near its beginning. */
static int
native_open(const struct native_source *source)
{
    char block[4096];
    struct stat st;
    const char *path = source->path == NULL ? "/proc/self/exe" : source->path;
    /* Not to wait for a FIFO's writer. */
    int fd = platform_child_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return -1;
    }
    ssize_t n = pread(fd, block, sizeof block, 0);
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)source->start;
    const ElfW(Phdr) *load = (const ElfW(Phdr) *)(source->start
                                                  + head->e_phoff);
    for (int i = 0; i < head->e_phnum; i++) {
        if (load[i].p_type == PT_LOAD && load[i].p_offset == 0) {
            size_t size = load[i].p_filesz;
            size = size < sizeof block ? size : sizeof block;
            return n >= (ssize_t)size && memcmp(block, head, size) == 0
                   ? fd : -1;
        }
    }
    return -1;
}

/* Look up one frame. */
static void
native_search_frame(struct backtrace_state *state, struct native_found *found,
                    size_t i)
{
    const struct native_frame *frame = &native_question.frames[i];
    uintptr_t pc = frame->pc - (frame->is_return ? 1 : 0);
    struct native_search search = {
        .found = found, .frame = (uint32_t)i,
        .count = atomic_load(&found->line_count),
    };
    backtrace_pcinfo(state, pc, native_on_line, native_on_error, &search);
    backtrace_syminfo(state, pc, native_on_symbol, native_on_error, &search);
    found->is_done[i] = true;
    atomic_store(&found->line_count, search.count);
}

/* Look up the frames of one object. */
static void
native_search_source(struct native_found *found, size_t at)
{
    const struct native_source *source = &native_question.sources[at];
    char path[PLATFORM_PROC_PATH];
    int fd = native_open(source);
    if (fd < 0) {
        return;
    }
    platform_proc_path(path, "/proc/self/fd/", (unsigned)fd, "");
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)source->start;
    native_object_info = (struct dl_phdr_info) {
        .dlpi_addr = source->base, .dlpi_name = "",
        .dlpi_phdr = (const ElfW(Phdr) *)(source->start + head->e_phoff),
        .dlpi_phnum = head->e_phnum,
    };
    struct backtrace_state *state = backtrace_create_state(
        path, 0, native_on_error, NULL);
    for (size_t i = 0; state != NULL && i < native_question.frame_count;
         i++) {
        if (native_question.source_of[i] == at && !found->is_done[i]) {
            native_search_frame(state, found, i);
        }
    }
    close(fd);
}

/* The child's life. */
static int
native_search(void *argument)
{
    struct native_found *found = argument;
    mem_here = NULL;
    platform_child_begin(native_question.parent,
                         NATIVE_LOOKUP_NS / 1000000000 + 1,
                         NATIVE_CHILD_MEMORY);
    for (size_t i = atomic_load(&found->source);
         i < native_question.source_count; i++) {
        atomic_store(&found->source, i);
        if (native_question.sources[i].state == NATIVE_WAITS) {
            native_search_source(found, i);
        }
    }
    atomic_store(&found->source, native_question.source_count);
    return 0;
}

/* ---- in the parent ---- */

/* End the child, and reap it if it goes soon: it may be stuck in the kernel,
   closing a file. */
static void
native_end_child(void)
{
    pid_t child = native_question.child;
    bool ended = child <= 0 || platform_child_has_ended(child);
    if (!ended) {
        kill(child, SIGKILL);
    }
    for (int i = 0; i < NATIVE_REAP_POLLS && !ended; i++) {
        platform_sleep(NATIVE_POLL_NS);
        ended = platform_child_has_ended(child);
    }
    if (ended) {
        native_question.child = 0;
    }
}

/* Wait until the child has no more to do, or has ended, or took for one object
   more than its share of the time that was left.  Returns the object that it
   was at. */
static size_t
native_await_child(const struct native_found *found, int64_t share,
                   int64_t until)
{
    size_t at = atomic_load(&found->source), seen = at;
    int64_t now = platform_now(), end = now + (until - now) / share;
    while (at < native_question.source_count && now < end) {
        platform_sleep(NATIVE_POLL_NS);
        if (platform_child_has_ended(native_question.child)) {
            native_question.child = 0;
            return atomic_load(&found->source);
        }
        at = atomic_load(&found->source);
        now = platform_now();
        end = at == seen ? end : now + (until - now) / share;
        seen = at;
    }
    return at;
}

/* Let children look up the objects that wait.  One that ends the child, or
   that takes more than its share of the time, is left out by the next. */
static void
native_take_turns(struct native_found *found, int64_t share, int64_t until)
{
    struct native_source *sources = native_question.sources;
    const size_t count = native_question.source_count;
    for (size_t i = 0; i < count && platform_now() < until; i++) {
        if (sources[i].state != NATIVE_WAITS) {
            continue;
        }
        atomic_store(&found->source, i);
        pid_t child = platform_spawn(native_search, native_stack,
                                     sizeof native_stack, found);
        if (child < 0) {
            return;
        }
        native_question.child = child;
        size_t at = native_await_child(found, share, until);
        bool is_slow = native_question.child != 0;
        native_end_child();
        for (; i < count && i < at; i++) {
            sources[i].state = NATIVE_IS_DONE;
        }
        if (i < count) {
            sources[i].state = is_slow ? NATIVE_IS_SLOW : NATIVE_IS_DONE;
        }
    }
}

/* Note which object a frame is in. */
static void
native_ask(const struct native_frame *frame)
{
    struct native_object object;
    uintptr_t pc = frame->pc - (frame->is_return ? 1 : 0);
    uintptr_t record = native_record(pc);
    struct native_source *sources = native_question.sources;
    size_t i = 0;
    while (i < native_question.source_count && sources[i].record != record) {
        i++;
    }
    if (native_question.frame_count == NATIVE_FRAMES
        || i == NATIVE_OBJECTS || record == 0) {
        return;
    }
    if (i == native_question.source_count) {
        if (native_find_object(pc, &object) < 0 || object.start == 0) {
            return;
        }
        native_question.source_count++;
        sources[i] = (struct native_source) {
            .record = record, .base = object.base, .start = object.start,
            .path = object.is_program ? NULL : object.path,
        };
    }
    native_question.source_of[native_question.frame_count] = i;
    native_question.frames[native_question.frame_count++] = *frame;
}
#endif

/* Look up function, file and line of frames: of NATIVE_FRAMES at most, in
   NATIVE_LOOKUP_NS at most, and not beyond a moment of platform_now().  To be
   done once for all frames of a report, and after what stands above them was
   flushed.  native_forget() gives back what it takes. */
static void
native_look_up(struct native_symbols *symbols,
               const struct native_frame *frames, size_t count, int64_t until)
{
    symbols->found = NULL;
#if FAULTHANDLER_LIBBACKTRACE
    native_end_child();         /* an earlier report's, if it ended late */
    int64_t limit = platform_now() + NATIVE_LOOKUP_NS;
    struct native_found *found = mmap(NULL, sizeof *found,
                                      PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) {
        return;
    }
    symbols->found = found;
    found->text_used = 1;       /* 0 means none */
    native_question.frame_count = native_question.source_count = 0;
    native_question.parent = getpid();
    for (size_t i = 0; i < count; i++) {
        native_ask(&frames[i]);
    }
    until = until < limit ? until : limit;
    native_take_turns(found, NATIVE_FIRST_SHARE, until);
    for (size_t i = 0; i < native_question.source_count; i++) {
        struct native_source *source = &native_question.sources[i];
        source->state = source->state == NATIVE_IS_SLOW ? NATIVE_WAITS
                                                        : NATIVE_IS_DONE;
    }
    native_take_turns(found, 1, until);
#else
    (void)frames, (void)count, (void)until;
#endif
}

static void
native_forget(struct native_symbols *symbols)
{
#if FAULTHANDLER_LIBBACKTRACE
    native_end_child();         /* the timer may have broken the lookup */
    if (symbols->found != NULL) {
        munmap(symbols->found, sizeof *symbols->found);
    }
#endif
    symbols->found = NULL;
}

/* The path that the program was started from.  Not program_invocation_name,
   whose memory many programs overwrite to change what ps shows. */
static uintptr_t
native_program(void)
{
    static const char deleted[] = " (deleted)";     /* the kernel's words */
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) {
        return (uintptr_t)program_invocation_name;
    }
    const size_t size = sizeof deleted - 1, end = (size_t)n;
    if (end > size && memcmp(path + end - size, deleted, size) == 0) {
        path[end - size] = '\0';
    }
    path[end] = '\0';
    return (uintptr_t)path;
}

/* The path of an object's file, and of its last part. */
static uintptr_t
native_path(const struct native_object *object)
{
    return object->is_program ? native_program() : (uintptr_t)object->path;
}

static uintptr_t
native_base_name(uintptr_t path)
{
    uintptr_t base = path;
    char c;
    for (uintptr_t at = path; at - path < PATH_MAX
         && mem_read(&c, at, 1) == 0 && c != '\0'; at++) {
        base = c == '/' ? at + 1 : base;
    }
    return base;
}

/* Write a C string, "..." for what is over OUT_NAME_MAX bytes, or "???" if
   there is none. */
static void
native_write_name(struct out *o, uintptr_t at)
{
    char c = '\0';
    size_t i = 0;
    while (mem_read(&c, at + i, 1) == 0 && c != '\0') {
        if (i++ == OUT_NAME_MAX) {
            out_text(o, "...");
            return;
        }
        out_escaped(o, (unsigned char)c);
    }
    out_text(o, i == 0 ? "???" : "");
}

/* Write where a frame is in its object, the end of its line. */
static void
native_write_offset(struct out *o, const struct native_object *object,
                    uintptr_t pc)
{
    out_text(o, " (");
    if (object->path != NULL) {
        native_write_name(o, native_base_name(native_path(object)));
        out_text(o, "+0x");
        out_hex(o, pc - object->base, 1);
    }
    else {
        out_text(o, "0x");
        out_hex(o, pc, 16);
    }
    out_text(o, ")\n");
}

/* Write one line of a frame.  Text that is not there has the address 0. */
static void
native_write_line(struct out *o, uintptr_t file, int number,
                  uintptr_t function, const struct native_object *object,
                  uintptr_t pc)
{
    out_room(o, OUT_LINE_MAX);
    out_text(o, "  C File ");
    out_text(o, file != 0 ? "\"" : "");
    native_write_name(o, file);
    out_text(o, file != 0 ? "\", line " : ", line ");
    if (number > 0) {
        out_decimal(o, (uint64_t)number);
    }
    else {
        out_text(o, "???");
    }
    out_text(o, " in ");
    native_write_name(o, function);
    native_write_offset(o, object, pc);
}

/* Write the lines that a lookup found.  Returns how many. */
static size_t
native_write_found(struct out *o, const struct native_symbols *symbols,
                   const struct native_frame *frame,
                   const struct native_object *object)
{
    size_t written = 0;
#if FAULTHANDLER_LIBBACKTRACE
    const struct native_found *found = symbols->found;
    const uintptr_t text = found == NULL ? 0 : (uintptr_t)found->text;
    const struct native_frame *known = native_question.frames;
    size_t index = 0, count = found == NULL ? 0 : native_question.frame_count;
    while (index < count && (known[index].pc != frame->pc
                             || known[index].is_return != frame->is_return)) {
        index++;
    }
    count = index == count ? 0 : atomic_load(&found->line_count);
    for (size_t i = 0; i < count && i < NATIVE_LINES; i++) {
        struct native_line line = found->lines[i];
        if (line.frame == index && line.file < NATIVE_TEXT
            && line.function < NATIVE_TEXT) {
            native_write_line(o, line.file != 0 ? text + line.file : 0,
                              line.number,
                              line.function != 0 ? text + line.function : 0,
                              object, frame->pc);
            written++;
        }
    }
#else
    (void)o, (void)symbols, (void)frame, (void)object;
#endif
    return written;
}

/* Write a frame: a line for each function that was inlined there, the
   innermost first, then one for the function that it was inlined into, all
   with the same address.  Without a lookup, or if that found nothing, one
   line with the name that the dynamic symbols give. */
static void
native_write_lines(struct out *o, const struct native_symbols *symbols,
                   const struct native_frame *frame)
{
    struct native_object object;
    uintptr_t start, name = 0, pc = frame->pc - (frame->is_return ? 1 : 0);
    bool known = native_find_object(pc, &object) == 0;
    if (native_write_found(o, symbols, frame, &object) > 0) {
        return;
    }
    if (known) {
        name = native_find_symbol(&object, pc, &start);
    }
    native_write_line(o, 0, 0, name, &object, frame->pc);
}

#define NATIVE_TITLE \
    "Current thread's C stack trace (most recent call first):\n"

/* Write the calling thread's C stack from a given address on: the faulting
   instruction, or a return address.  What the handler itself put on the
   stack is not shown. */
static void
native_write_stack(struct out *o, uintptr_t from, void **pcs,
                   struct native_seen *seen)
{
    size_t first = 0, count = platform_backtrace(pcs, NATIVE_MAX);
    while (first < count && (uintptr_t)pcs[first] != from) {
        first++;
    }
    if (first == count) {
        native_write_frame(o, from, seen);
        out_room(o, OUT_LINE_MAX);
        out_text(o, "  <the rest of the C stack cannot be read>\n");
        return;
    }
    size_t end = count - first > NATIVE_SHOWN ? first + NATIVE_SHOWN : count;
    for (size_t i = first; i < end; i++) {
        native_write_frame(o, (uintptr_t)pcs[i], seen);
    }
    if (end < count) {
        out_room(o, OUT_LINE_MAX);
        out_text(o, "  ... ");
        out_decimal(o, count - end);
        out_text(o, count == NATIVE_MAX ? " or more" : "");
        out_text(o, " frames not shown ...\n");
    }
}

/* After a call through a bad pointer there is no code to unwind from: the
   caller's address is at the stack pointer.  Go there.  Returns whether that
   was so; the caller of this function puts the place back. */
static bool
native_leave_nowhere(void *context)
{
    struct platform_place place = platform_get_place(context);
    uintptr_t caller;
    if (native_record(place.pc) != 0 || mem_word(place.sp, &caller) < 0
        || native_record(caller) == 0) {
        return false;
    }
    place.pc = caller;
    place.sp += sizeof caller;
    platform_set_place(context, place);
    return true;
}

/* Write the C stack of a fault. */
static void
native_write_fault(struct out *o, void *context, void **pcs,
                   struct native_seen *seen)
{
    uintptr_t pc = platform_get_place(context).pc;
    if (native_leave_nowhere(context)) {
        native_write_frame(o, pc, seen);
    }
    native_write_stack(o, platform_get_place(context).pc, pcs, seen);
}

/* Write the build-id that a segment of notes holds.  Returns whether there is
   one. */
static bool
native_write_note(struct out *o, uintptr_t at, size_t size, size_t align)
{
    uintptr_t end = at + size;
    ElfW(Nhdr) note;
    char name[4];
    uint8_t id[64];
    align = align == 8 ? 8 : 4;
    while (size <= 1 << 16 && end - at <= size
           && mem_read(&note, at, sizeof note) == 0) {
        uintptr_t text = at + sizeof note;
        uintptr_t data = at + (sizeof note + note.n_namesz + align - 1)
                              / align * align;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof name
            && note.n_descsz > 0 && note.n_descsz <= sizeof id
            && mem_read(name, text, sizeof name) == 0
            && memcmp(name, "GNU", sizeof name) == 0
            && mem_read(id, data, note.n_descsz) == 0) {
            for (size_t i = 0; i < note.n_descsz; i++) {
                out_hex(o, id[i], 2);
            }
            return true;
        }
        at = data + (note.n_descsz + align - 1) / align * align;
    }
    return false;
}

/* Write an object's build-id. */
static void
native_write_build_id(struct out *o, const struct native_object *object)
{
    ElfW(Ehdr) head;
    ElfW(Phdr) part;
    if (mem_read(&head, object->start, sizeof head) < 0
        || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) {
        head.e_phnum = 0;
    }
    for (size_t i = 0; i < head.e_phnum; i++) {
        if (mem_read(&part, object->start + head.e_phoff + i * sizeof part,
                     sizeof part) < 0) {
            break;
        }
        if (part.p_type == PT_NOTE
            && native_write_note(o, object->base + part.p_vaddr,
                                 part.p_memsz, part.p_align)) {
            return;
        }
    }
    out_text(o, "???");
}

/* List the objects that C frames are in, so that symbols can be found later,
   elsewhere.  An address minus the one shown here is an address in the file,
   as the frames show it. */
static void
native_write_seen(struct out *o, const struct native_seen *seen)
{
    if (seen->count == 0) {
        return;
    }
    out_room(o, OUT_LINE_MAX);
    out_text(o, "\nShared objects:\n");
    for (size_t i = 0; i < seen->count; i++) {
        struct native_object object;
        if (native_find_object(seen->pcs[i], &object) == 0) {
            out_room(o, OUT_LINE_MAX);
            out_text(o, "  \"");
            native_write_name(o, native_path(&object));
            out_text(o, "\" at 0x");
            out_hex(o, object.base, 16);
            out_text(o, ", build-id ");
            native_write_build_id(o, &object);
            out_char(o, '\n');
        }
    }
}

/* Python frames among the C frames.  Each evaluation loop keeps something on
   the C stack that its Python frames lead to: until 3.9 nothing, then a struct
   in the list of such structs, and from 3.12 on the shim behind its frames.
   The C frame that this lies in is the loop's, whatever the symbols are and
   however the compiler has cut the function into parts.  Before 3.10 loops
   are told by their code; each runs one frame. */

#define NATIVE_MIX_NEWEST 100
#define NATIVE_MIX_OLDEST 28
#define NATIVE_MIX_STATES 8
#define NATIVE_MIX_GAP "  <C frames may be missing here>\n"

/* The code of the evaluation loop; where the part of it begins that called
   enable(), which Debian's compiler puts elsewhere. */
static struct platform_code native_loop;
static uintptr_t native_loop_part;

/* A crash's C stack.  As many frames as fit into the usual stack of 8 MiB:
   where it overflowed, they are small. */
#define NATIVE_MIX_MAX (512 * 1024)
#define NATIVE_MIX_FEW (4 * 1024)

static struct platform_frame *native_frames;    /* mapped at the crash, or */
static struct platform_frame native_few[NATIVE_MIX_FEW];

struct native_mix {
    struct out *o;
    struct frame_memory *lines;
    const struct platform_frame *frames;
    size_t count, max;          /* of the C frames */
    bool nowhere;               /* the fault was a call of what is no code, */
    uintptr_t target;           /* to be shown above the frames */
    bool whole;                 /* the frames go to the thread's start */
    bool full;                  /* there are more than were stored */
    uintptr_t fp;               /* the frame pointer at their end */
    bool newborn;               /* the first frame's loop has no frame yet */
    size_t unplaced;            /* frames, where no loop can be told */
    uintptr_t loop_size;        /* of its C frame, where loops are missed */
    uintptr_t told_pc;          /* the last one that was looked at, */
    bool told;                  /* and whether it is in the loop */
    size_t shown;               /* lines that came before this one, */
    size_t total;               /* and of all; 0: they are being counted */
    size_t strays;              /* loops whose frames are not known */
    size_t lost;                /* frames whose loop was not found */
    bool writes;                /* not before all is counted and looked up */
    struct native_symbols symbols;
    struct native_seen *seen;
    size_t wanted_count;
    struct native_frame wanted[NATIVE_MIX_NEWEST + NATIVE_MIX_OLDEST];
    size_t states;
    struct frame_loops loops[NATIVE_MIX_STATES];
};

static struct native_mix native_mixed;

/* Is the next frame one of those that are written? */
static bool
native_mix_shows(struct native_mix *m)
{
    size_t i = m->shown++;
    size_t max = NATIVE_MIX_NEWEST + NATIVE_MIX_OLDEST;
    if (m->total <= max) {
        return i < m->total;
    }
    if (i == NATIVE_MIX_NEWEST && m->writes) {
        out_room(m->o, OUT_LINE_MAX);
        out_text(m->o, "  ... ");
        out_decimal(m->o, m->total - max);
        out_text(m->o, m->full ? " or more" : "");
        out_text(m->o, " frames not shown ...\n");
    }
    return i < NATIVE_MIX_NEWEST
           || (i >= m->total - NATIVE_MIX_OLDEST && i < m->total);
}

/* A C frame that is shown: noted to be looked up with the others, or
   written. */
static void
native_mix_c(struct native_mix *m, uintptr_t pc, bool is_return)
{
    struct native_frame frame = {pc, is_return};
    if (!native_mix_shows(m)) {
        return;
    }
    if (m->writes) {
        native_see(m->seen, pc);
        native_write_lines(m->o, &m->symbols, &frame);
    }
    else {
        m->wanted[m->wanted_count++] = frame;
    }
}

/* The Python frames of a loop. */
static void
native_mix_python(struct native_mix *m, struct frame_loops *loop)
{
    struct frame_walk *w = &loop->start;
    for (size_t i = 0; i < loop->shown; i++) {
        if (frame_walk_next(w) != FRAME_WALK_ON) {
            return;
        }
        if (native_mix_shows(m) && m->writes) {
            frame_write(m->o, &w->frame, &w->code, m->lines);
        }
    }
}

/* The size of a C frame, 0 if it is not known. */
static uintptr_t
native_mix_size(const struct native_mix *m, size_t i)
{
    const uintptr_t mask = ~(uintptr_t)PLATFORM_BITS;
    return i + 1 < m->count ? (m->frames[i + 1].sp & mask)
                              - (m->frames[i].sp & mask) : 0;
}

/* Is this address in a C frame, which is not the last one? */
static bool
native_mix_holds(const struct platform_frame *frame, uintptr_t place)
{
    return place >= (frame->sp & ~(uintptr_t)PLATFORM_BITS)
           && place < (frame[1].sp & ~(uintptr_t)PLATFORM_BITS);
}

/* Is this C frame an evaluation loop, by its code, or by the size of its frame
   where the code is in a part that is not known? */
static bool
native_mix_is_loop(struct native_mix *m, size_t i)
{
    const struct platform_frame *frame = &m->frames[i];
    uintptr_t pc = frame->pc - (frame->sp & PLATFORM_INTERRUPTED ? 0 : 1);
    if (pc != m->told_pc) {
        m->told_pc = pc;
        m->told = (pc >= native_loop.start && pc < native_loop.end)
                  || (native_loop_part != 0
                      && platform_find_start(pc) == native_loop_part);
    }
    return m->told
           || (m->loop_size != 0 && native_mix_size(m, i) == m->loop_size
               && native_record(pc) == native_record(native_loop.start));
}

/* The loop that a C frame is, NULL if it is none.  Several thread states may
   have theirs on one C stack: that of a subinterpreter comes first. */
static struct frame_loops *
native_mix_find(struct native_mix *m, size_t i)
{
    const struct platform_frame *frame = &m->frames[i];
    for (size_t j = 0; j < m->states; j++) {
        struct frame_loops *loop = &m->loops[j];
        if (loop->result != FRAME_WALK_ON) {
            continue;
        }
        if (!LAYOUT_LOOP_PLACES && native_mix_is_loop(m, i)) {
            return i == 0 && m->newborn ? NULL : loop;
        }
        if (i + 1 < m->count && native_mix_holds(frame, loop->place)) {
            return loop;
        }
    }
    return NULL;
}

/* One C frame, or what it runs.  The first one's line is what crashed, and is
   shown even if that is an evaluation loop. */
static void
native_mix_frame(struct native_mix *m, size_t i)
{
    const struct platform_frame *frame = &m->frames[i];
    struct frame_loops *loop = native_mix_find(m, i);
    if (frame->sp & PLATFORM_AFTER_GAP && native_mix_shows(m) && m->writes) {
        out_room(m->o, OUT_LINE_MAX);
        out_text(m->o, NATIVE_MIX_GAP);
    }
    if (loop == NULL || loop->shown == 0 || (i == 0 && !m->nowhere)) {
        native_mix_c(m, frame->pc, !(frame->sp & PLATFORM_INTERRUPTED));
    }
    if (loop != NULL) {
        native_mix_python(m, loop);
        frame_loops_next(loop);
    }
    else if (i > 0 && native_mix_is_loop(m, i)) {
        m->strays++;
    }
}

/* Python frames whose loop was not found.  Where the C stack was cut, theirs
   are behind the cut. */
static void
native_mix_rest(struct native_mix *m)
{
    if (!m->whole && m->writes) {
        out_room(m->o, OUT_LINE_MAX);
        out_text(m->o, "  <the rest of the C stack cannot be read>\n");
    }
    for (size_t i = 0; i < m->states; i++) {
        struct frame_loops *loop = &m->loops[i];
        for (; loop->result == FRAME_WALK_ON; frame_loops_next(loop)) {
            if (m->whole) {
                m->lost += loop->shown;
            }
            else {
                native_mix_python(m, loop);
            }
        }
        m->lost += loop->result == FRAME_WALK_CUT ? loop->shown : 0;
    }
}

/* Go through the two stacks as one, from the newest frame on. */
static void
native_mix_pass(struct native_mix *m, const uintptr_t *states)
{
    for (size_t i = 0; i < m->states; i++) {
        frame_loops_begin(&m->loops[i], states[i]);
    }
    m->shown = m->strays = m->lost = 0;
    if (m->nowhere) {
        native_mix_c(m, m->target, false);
    }
    for (size_t i = 0; i < m->count && m->frames[i].pc != 0; i++) {
        native_mix_frame(m, i);
    }
    native_mix_rest(m);
}

/* How many C frames are loops.  Notes the size of the first one. */
static size_t
native_mix_count_loops(struct native_mix *m, uintptr_t *size)
{
    size_t loops = 0;
    for (size_t i = 0; i < m->count && m->frames[i].pc != 0; i++) {
        if (native_mix_is_loop(m, i)) {
            *size = *size == 0 ? native_mix_size(m, i) : *size;
            loops++;
        }
    }
    return loops;
}

/* Before 3.10, may the k-th loop be taken for the k-th frame's?  There may be
   more loops: the newest has no frame yet, or the oldest are of a greenlet
   that does not run.  There may be fewer, where the compiler has split the
   function: then all C frames of that size must make up for it. */
static bool
native_mix_agrees(struct native_mix *m, const uintptr_t *states)
{
    uintptr_t size = 0;
    size_t frames = 0, loops = native_mix_count_loops(m, &size);
    for (size_t i = 0; i < m->states; i++) {
        struct frame_loops *loop = &m->loops[i];
        for (frame_loops_begin(loop, states[i]); loop->result == FRAME_WALK_ON;
             frame_loops_next(loop)) {
            frames++;
        }
    }
    if (m->whole && loops < frames) {
        m->loop_size = size;
        bool agrees = native_mix_count_loops(m, &size) == frames;
        m->unplaced = agrees ? 0 : frames;
        return agrees;
    }
    m->newborn = !m->nowhere && m->whole && loops == frames + 1;
    return true;
}

/* Unwind, with a way back from a fault: what was overwritten may lead
   anywhere. */
static void
native_mix_walk(struct platform_unwinding *u)
{
    sigjmp_buf here;
    sigjmp_buf *outer = mem_here->recover;
    if (sigsetjmp(here, 0) == 0) {
        mem_here->recover = &here;
        atomic_signal_fence(memory_order_seq_cst);
        platform_unwind(u);
        atomic_signal_fence(memory_order_seq_cst);
    }
    else {
        mem_unblock_faults();
    }
    mem_here->recover = outer;
}

/* Unwind the stack, and take the frames from a place on to be those from the
   first-th on: what the handler itself put on the stack is left out.  Returns
   how many there are, 0 if the place is not met. */
static size_t
native_mix_collect(struct native_mix *m, size_t first, uintptr_t pc)
{
    static struct platform_unwinding u;
    struct platform_frame *frames = native_frames + first;
    size_t skip = 0;
    u.frames = frames;
    u.max = m->max - first;
    native_mix_walk(&u);
    m->full = u.count == u.max;
    m->fp = u.fp;
    while (skip < u.count && frames[skip].pc != pc) {
        skip++;
    }
    memmove(frames, frames + skip, (u.count - skip) * sizeof *frames);
    return u.count - skip;
}

/* Where the next evaluation loop is that lies behind a stack pointer, 0 if
   there is none. */
static uintptr_t
native_mix_next_place(struct native_mix *m, uintptr_t sp)
{
    uintptr_t next = 0;
    for (size_t i = 0; i < m->states; i++) {
        struct frame_loops *loop = &m->loops[i];
        while (loop->result == FRAME_WALK_ON && loop->place < sp) {
            frame_loops_next(loop);
        }
        if (loop->result == FRAME_WALK_ON
            && (next == 0 || loop->place < next)) {
            next = loop->place;
        }
    }
    return next;
}

/* How far a return address is searched for, how many are tried, and how often
   that is done. */
#define NATIVE_MIX_SEARCH (256 * 1024)
#define NATIVE_MIX_TRIES 64
#define NATIVE_MIX_GAPS 16

/* Go on from a place, if that is in the frame of the evaluation loop that
   holds an address. */
static bool
native_mix_go_on(struct native_mix *m, void *context,
                 struct platform_place place, uintptr_t loop)
{
    const struct platform_frame *last = &m->frames[m->count];
    platform_set_place(context, place);
    size_t count = native_mix_collect(m, m->count, place.pc);
    if (count < 2 || !native_mix_holds(last, loop)) {
        return false;
    }
    native_frames[m->count].sp = place.sp | PLATFORM_AFTER_GAP;
    m->count += count;
    m->whole = m->frames[m->count - 1].pc == 0;
    return true;
}

/* Go on behind a frame that cannot be unwound: what a JIT compiler made, or
   where the stack was overwritten.  The next evaluation loop is known to lie
   behind it, and what it called will return there: the word on the stack from
   which one comes into its frame is that return address.  Its frame pointer
   is in the chain of those that were saved, or right under the return address.
   Returns whether it was found; the context's place was changed. */
static bool
native_mix_resume(struct native_mix *m, void *context)
{
    uintptr_t sp = m->frames[m->count - 1].sp & ~(uintptr_t)PLATFORM_BITS;
    uintptr_t loop = native_mix_next_place(m, sp);
    uintptr_t code = native_record(native_loop.start);
    struct platform_place kept = {0, 0, m->fp};
    uintptr_t fp;
    int tries = 0;
    for (uintptr_t at = sp; at < loop && at - sp < NATIVE_MIX_SEARCH
         && tries < NATIVE_MIX_TRIES; at += sizeof at) {
        if (mem_word(at, &kept.pc) < 0
            || native_record(kept.pc) != code) {
            continue;
        }
        tries++;
        kept.sp = at + sizeof at;
        while (kept.fp <= at && mem_word(kept.fp, &fp) == 0 && fp > kept.fp) {
            kept.fp = fp;
        }
        struct platform_place pushed = kept;
        if (native_mix_go_on(m, context, kept, loop)
            || (mem_word(at - sizeof at, &pushed.fp) == 0
                && native_mix_go_on(m, context, pushed, loop))) {
            return true;
        }
    }
    return false;
}

/* Find the C frames of a crash. */
static void
native_mix_unwind(struct native_mix *m, void *context, const uintptr_t *states)
{
    struct platform_place place = platform_get_place(context);
    if (native_frames == NULL) {
        void *memory = mmap(NULL, NATIVE_MIX_MAX * sizeof *native_frames,
                            PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                            0);
        native_frames = memory == MAP_FAILED ? native_few : memory;
    }
    m->max = native_frames == native_few ? NATIVE_MIX_FEW : NATIVE_MIX_MAX;
    m->frames = native_frames;
    m->count = native_mix_collect(m, 0, place.pc);
    if (m->count == 0) {
        native_frames[0] = (struct platform_frame) {place.pc, place.sp};
        m->count = 1;
    }
    native_frames[0].sp = (place.sp & ~(uintptr_t)PLATFORM_BITS)
                          | (m->nowhere ? 0 : PLATFORM_INTERRUPTED);
    m->whole = native_frames[m->count - 1].pc == 0;
    for (size_t i = 0; i < m->states; i++) {
        frame_loops_begin(&m->loops[i], states[i]);
    }
    int gaps = LAYOUT_LOOP_PLACES && mem_here->way == MEM_DIRECT
               ? NATIVE_MIX_GAPS : 0;
    while (!m->whole && !m->full && gaps-- > 0
           && native_mix_resume(m, context)) {
    }
}

/* Write the crashing thread's C frames from the fault on, with the Python
   frames of its states in them. */
static void
native_write_mixed(struct out *o, void *context, const uintptr_t *states,
                   size_t count, struct frame_memory *lines, int64_t until,
                   struct native_seen *seen)
{
    struct native_mix *m = &native_mixed;
    memset(m, 0, sizeof *m);
    m->o = o;
    m->lines = lines;
    m->seen = seen;
    m->target = platform_get_place(context).pc;
    m->nowhere = native_leave_nowhere(context);
    m->states = count < NATIVE_MIX_STATES ? count : NATIVE_MIX_STATES;
    native_mix_unwind(m, context, states);
    if (!LAYOUT_LOOP_PLACES && !native_mix_agrees(m, states)) {
        m->states = 0;
    }
    native_mix_pass(m, states);
    m->total = m->shown;
    native_mix_pass(m, states);
    if (!o->failed) {
        native_look_up(&m->symbols, m->wanted, m->wanted_count, until);
    }
    m->writes = true;
    native_mix_pass(m, states);
    if (m->shown != m->total) {
        out_room(o, OUT_LINE_MAX);
        out_text(o, NATIVE_MIX_GAP);    /* a frame changed meanwhile */
    }
    m->lost += m->unplaced;
    if (m->strays > 0 || m->lost > 0) {
        out_room(o, OUT_LINE_MAX);
        out_text(o, "  <not matched: ");
        out_decimal(o, m->strays);
        out_text(o, " evaluation loops, ");
        out_decimal(o, m->lost);
        out_text(o, " Python frames>\n");
    }
}

/* ==== 12. Extension modules ==== */

/* The main interpreter's sys.modules, and the names of the standard library's
   modules, sorted.  Noted when a report that needs them is armed. */
#define MODULES_NAME_SIZE 32
static uintptr_t modules_dict;
static char modules_library[512][MODULES_NAME_SIZE];
static size_t modules_library_count;

/* Is this str the name of a standard library module, or from 3.15 of one
   inside its packages? */
static bool
modules_is_library(uintptr_t key)
{
    char name[MODULES_NAME_SIZE];
    struct str s;
    if (str_read(key, &s) < 0 || s.width != 1) {
        return false;
    }
    size_t n = s.length < MODULES_NAME_SIZE - 1 ? (size_t)s.length
                                                : MODULES_NAME_SIZE - 1;
    if (mem_read(name, s.data, n) < 0) {
        return false;
    }
    name[n] = '\0';
    if (LAYOUT_HIDES_SUBMODULES) {
        name[strcspn(name, ".")] = '\0';
    }
    size_t low = 0, high = modules_library_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(modules_library[middle], name);
        if (order == 0) {
            return true;
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return false;
}

/* Is it a module object, or one of a subclass? */
static bool
modules_is_module(const PyObject *object)
{
    uintptr_t type = (uintptr_t)Py_TYPE(object);
    for (int depth = 0; depth < 8 && type != 0; depth++) {
        if (type == (uintptr_t)&PyModule_Type) {
            return true;
        }
        if (mem_word(type + offsetof(PyTypeObject, tp_base), &type) < 0) {
            return false;
        }
    }
    return false;
}

/* Is it a module made in C, one whose definition has methods? */
static bool
modules_is_extension(uintptr_t at)
{
    struct layout_module module;
    uintptr_t methods;
    return at % sizeof at == 0
           && mem_read(&module, at, sizeof module) == 0
           && modules_is_module(&module.ob_base)
           && layout_module_def(&module) != 0
           && mem_word(layout_module_def(&module)
                       + offsetof(PyModuleDef, m_methods), &methods) == 0
           && methods != 0;
}

/* Write the names of the extension modules that are not Python's own. */
static void
modules_write(struct out *o)
{
    PyDictObject dict;
    struct layout_keys keys;
    uintptr_t entries;
    size_t size, key_at, count = 0;
    /* At the end of Python it is gone. */
    const char *unreadable = layout_is_finalizing() || !Py_IsInitialized()
                             ? "" : "\nExtension modules: ???\n";
    if (modules_dict == 0) {
        return;
    }
    if (mem_read(&dict, modules_dict, sizeof dict) < 0
        || (Py_TYPE((PyObject *)&dict) == &PyDict_Type
            && mem_read(&keys, (uintptr_t)dict.ma_keys, sizeof keys) < 0)) {
        out_text(o, unreadable);
        return;
    }
    if (Py_TYPE((PyObject *)&dict) != &PyDict_Type
        || layout_dict_entries((uintptr_t)dict.ma_keys, &keys, &entries,
                               &size, &key_at) < 0) {
        return;                 /* Python has ended */
    }
    for (size_t i = 0; i < (size_t)keys.dk_nentries; i++) {
        uintptr_t pair[2];      /* key and value */
        if (mem_read(pair, entries + i * size + key_at, sizeof pair) < 0) {
            out_text(o, count == 0 ? unreadable : ", ???\n");
            return;
        }
        if (pair[0] == 0 || pair[1] == 0 || modules_is_library(pair[0])
            || !modules_is_extension(pair[1])) {
            continue;
        }
        if (o->size - o->used < OUT_LINE_MAX) {
            out_flush(o);       /* one long line: the exception */
        }
        out_text(o, count++ == 0 ? "\nExtension modules: " : ", ");
        if (str_write(o, pair[0]) < 0) {
            out_text(o, "???");
        }
    }
    if (count > 0) {
        out_text(o, " (total: ");
        out_decimal(o, count);
        out_text(o, ")\n");
    }
}

/* ==== 13. Report ==== */

/* How long one report waits for another that is being written. */
#define REPORT_DOOR_NS INT64_C(2500000000)

/* The module's version as a number, and the running Python's as text, noted
   at import. */
#define FAULTHANDLER_VERSION 0x100
static char report_python[32];

enum report_kind {
    REPORT_FATAL, REPORT_USER, REPORT_LATER, REPORT_DUMP, REPORT_C_STACK,
    REPORT_DETAILS              /* what is missing in Py_FatalError()'s */
};

struct report {
    struct out out;
    const struct request *request;
    enum report_kind kind;
    const char *title;          /* a line of its own, or NULL */
    uintptr_t interp;           /* whose threads come first, 0: ours */
    bool has_current;
    struct thread current;
    uintptr_t shown_interp;     /* whose threads are being listed */
    char program[32];           /* the process's name */
    uintptr_t from;             /* where the C stack starts, or */
    void *context;              /* the place of the fault */
    const siginfo_t *info;      /* of a fatal signal */
    struct thread_list *list;
    struct frame_memory *lines;
    void **pcs;                 /* NATIVE_MAX of them */
    struct native_seen seen;    /* objects of the C frames */
};

static void
report_flush(struct report *r)
{
    out_flush(&r->out);
}

/* Run a step of a report with a way back: a fault inside it, or the timer,
   leaves a mark, and the next step runs. */
static void
report_step(struct report *r, void (*step)(struct report *), const char *what)
{
    sigjmp_buf here;
    struct mem_session *session = mem_here;
    sigjmp_buf *outer = session->recover;
    sigjmp_buf *outer_step = session->step;
    if (session->late && step != report_flush) {
        return;
    }
    if (sigsetjmp(here, 0) == 0) {
        session->recover = session->step = &here;
        atomic_signal_fence(memory_order_seq_cst);
        platform_test_step(what);
        step(r);
        atomic_signal_fence(memory_order_seq_cst);
    }
    else {
        mem_here = session;
        mem_unblock_faults();
        out_drop_line(&r->out);
        r->out.flushes++;       /* what was dropped is not there to repeat */
        out_room(&r->out, OUT_LINE_MAX);
        out_text(&r->out, session->late ? "  <out of time in the "
                                        : "  <fault in the ");
        out_text(&r->out, what);
        out_text(&r->out, ">\n");
    }
    session->recover = outer;
    session->step = outer_step;
}

static void
report_title(struct report *r)
{
    if (r->kind == REPORT_DETAILS) {
        out_char(&r->out, '\n');    /* the interpreter's report is above */
        return;
    }
    if (r->kind == REPORT_FATAL) {
        out_text(&r->out, "Fatal Python error: ");
        out_text(&r->out, r->title);
        out_text(&r->out, r->request->details ? "\n" : "\n\n");
    }
    else if (r->title != NULL) {
        out_text(&r->out, r->title);
    }
}

static void
report_list_threads(struct report *r)
{
    if (r->request->original) {
        platform_thread_name(getpid(), r->program);
    }
    thread_list_fill(r->list, r->interp);
}

/* In a list that is full the current thread takes the last one's place: a dump
   always shows it. */
static void
report_list_current(struct report *r)
{
    struct thread_list *list = r->list;
    size_t last = list->count - 1;
    if (r->has_current && list->full && r->kind != REPORT_FATAL
        && !thread_is_listed(list, r->current.at)) {
        list->threads[last] = r->current.at;
        list->interps[last] = r->current.interp;
        list->odd[last] = false;
    }
}

/* Find out who we are.  The threads of our own interpreter come first. */
static void
report_find_current(struct report *r)
{
    const struct thread_list *list = r->list;
    r->has_current = thread_find_current(list, &r->current);
    report_list_current(r);
    for (size_t i = 0; r->has_current && i < list->count; i++) {
        if (list->threads[i] == r->current.at && r->interp == 0
            && list->interps[i] != list->interps[0]) {
            r->interp = list->interps[i];
            thread_list_fill(r->list, r->interp);
            report_list_current(r);
        }
    }
}

/* Why the process dies. */
static void
report_cause(struct report *r)
{
    out_room(&r->out, OUT_LINE_MAX);
    fault_write_cause(&r->out, r->info, r->context);
}

/* What the thread that dies said it is about. */
static void
report_note(struct report *r)
{
    thread_write_context(&r->out, (uintptr_t)pthread_self());
}

/* Which thread of which process it was, of which Python, and when. */
static void
report_context(struct report *r)
{
    struct out *o = &r->out;
    int64_t start, now;
    struct timespec utc;
    char name[THREAD_NAME_SIZE];
    out_room(o, OUT_LINE_MAX);
    out_text(o, "  thread ");
    out_decimal(o, (uint64_t)platform_thread_id());
    thread_get_name(name);
    if (name[0] != '\0') {
        thread_write_name(o, name, true);
    }
    out_text(o, " of process ");
    out_decimal(o, (uint64_t)getpid());
    out_text(o, ", CPython ");
    out_text(o, report_python);
    out_text(o, ", ");
    clock_gettime(CLOCK_REALTIME, &utc);
    out_utc(o, utc.tv_sec);
    if (platform_age(&start, &now) == 0) {
        int64_t tenths = now > start ? (now - start) / 100000000 : 0;
        out_text(o, ", up ");
        out_decimal(o, (uint64_t)tenths / 10);
        out_char(o, '.');
        out_decimal(o, (uint64_t)tenths % 10);
        out_text(o, " s");
    }
    out_text(o, ", faulthandler ");
    out_decimal(o, FAULTHANDLER_VERSION >> 8);
    out_char(o, '.');
    out_decimal(o, FAULTHANDLER_VERSION & 255);
    out_char(o, '\n');
}

/* The exceptions of the thread that dies. */
static void
report_exceptions(struct report *r)
{
    if (r->has_current) {
        thread_write_exceptions(&r->out, &r->current);
    }
}

/* What else the interpreter was about. */
static void
report_activities(struct report *r)
{
    struct out *o = &r->out;
    uintptr_t main = (uintptr_t)PyInterpreterState_Main();
    out_room(o, OUT_LINE_MAX);
    if (r->has_current && thread_is_collecting(&r->current)) {
        out_text(o, "  the garbage collector is at work\n");
    }
    int64_t id = -1;
    if (r->has_current && r->current.interp != main
        && mem_read(&id, r->current.interp + layout.interp_id,
                    sizeof id) == 0) {
        out_text(o, "  in interpreter ");
        out_decimal(o, (uint64_t)id);
        out_text(o, ", which is not the main one\n");
    }
    if (layout_is_finalizing()) {
        out_text(o, "  Python is being finalized\n");
    }
    else if (!Py_IsInitialized()) {
        out_text(o, "  Python is not initialized, or no longer\n");
    }
}

/* Does a fatal report show the ends of deep stacks?  The others are what the
   running Python's module would print. */
static bool
report_shows_oldest(const struct report *r)
{
    return r->kind == REPORT_FATAL;
}

static void
report_collecting(struct report *r, const struct thread *t)
{
    if ((r->request->original || LAYOUT_TELLS_COLLECTOR)
        && thread_is_collecting(t)) {
        out_text(&r->out, "  Garbage-collecting\n");
    }
}

/* The calling thread's block, the first of a fatal report. */
static void
report_current(struct report *r)
{
    const struct request *request = r->request;
    if (request->original) {
        out_text(&r->out, "Traceback (most recent call first):\n");
    }
    else if (!request->all_threads) {
        out_text(&r->out, "Stack (most recent call first):\n");
    }
    else {
        thread_write_header(&r->out, "Current thread",
                            (uintptr_t)pthread_self(), platform_thread_id(),
                            NULL);
    }
    if (!r->has_current) {
        out_text(&r->out, layout.frames_known ? FRAME_NONE
                                              : FRAME_UNREADABLE);
        return;
    }
    if (request->original || request->all_threads) {
        report_collecting(r, &r->current);
    }
    uintptr_t sp = r->context == NULL ? 0 : platform_get_place(r->context).sp;
    thread_write_stack(&r->out, r->current.at, report_shows_oldest(r), sp, 0,
                       r->lines);
}

/* Read a thread state of the list.  Returns -1 if it is none any more. */
static int
report_read_thread(const struct report *r, size_t i, struct thread *t)
{
    return thread_read(r->list->threads[i], t) == 0
           && (t->interp == r->list->interps[i] || r->list->odd[i]) ? 0 : -1;
}

/* One thread of the list.  It may have ended since the list was made, and its
   memory be something else; or it has not begun.  Then it is left out.  One
   that begins meanwhile had its creator's number: it is read again. */
static bool
report_thread(struct report *r, size_t i, bool first)
{
    struct thread t;
    uintptr_t before;
    int tries = 0;
    bool is_current = r->has_current && r->list->threads[i] == r->current.at;
    if (report_read_thread(r, i, &t) < 0) {
        return false;
    }
    do {
        before = t.ident;
        if ((!is_current && thread_is_shadow(r->list, i, &t))
            || report_read_thread(r, i, &t) < 0) {
            return false;
        }
    } while (t.ident != before && tries++ < THREAD_RETRIES);
    out_room(&r->out, THREAD_BLOCK_ROOM);
    if (r->list->interps[i] != r->shown_interp) {
        int64_t id = -1;
        r->shown_interp = r->list->interps[i];
        mem_read(&id, r->list->interps[i] + layout.interp_id, sizeof id);
        out_text(&r->out, first ? "Interpreter " : "\nInterpreter ");
        out_decimal(&r->out, (uint64_t)id);
        out_text(&r->out, ":\n");
        first = false;
    }
    if (!first) {
        out_char(&r->out, '\n');
    }
    thread_write_header(&r->out, is_current ? "Current thread" : "Thread",
                        t.ident, t.native,
                        r->request->original ? r->program : NULL);
    if (r->request->details) {
        thread_write_context(&r->out, t.ident);
    }
    if (is_current) {
        report_collecting(r, &t);
    }
    thread_write_stack(&r->out, t.at, report_shows_oldest(r), 0,
                       is_current ? 0 : THREAD_RETRIES, r->lines);
    return true;
}

/* The threads of the list, up to max_threads of them.  In a fatal report the
   current one was shown; in the others it keeps its place in the list, and
   is shown all the same where it would be cut off. */
static void
report_threads(struct report *r)
{
    size_t max = r->request->max_threads;
    size_t shown = r->kind == REPORT_FATAL ? 1 : 0;
    bool cut = r->list->full;
    r->shown_interp = r->list->count > 0 ? r->list->interps[0] : 0;
    for (size_t i = 0; i < r->list->count; i++) {
        bool is_current = r->has_current
                          && r->list->threads[i] == r->current.at;
        if (is_current && r->kind == REPORT_FATAL) {
            continue;
        }
        if (shown >= max && !is_current) {
            cut = true;
            continue;
        }
        if (report_thread(r, i, shown == 0)) {
            shown++;
        }
    }
    if (cut) {
        out_room(&r->out, OUT_LINE_MAX);
        out_text(&r->out, "\n...\n");
    }
}

static void
report_thread_marks(struct report *r)
{
    out_room(&r->out, OUT_LINE_MAX);
    if (r->list->damaged) {
        out_text(&r->out, "  <the rest of the threads cannot be read>\n");
    }
}

/* Up to 3.10, where only a long search finds frames that a damaged link passes
   over: the report is out, search, and write the stack again if need be. */
static void
report_missing_frames(struct report *r)
{
    uintptr_t sp = r->context == NULL ? 0 : platform_get_place(r->context).sp;
    if (r->has_current && frame_some_passed_over(r->current.at, sp)) {
        out_room(&r->out, OUT_LINE_MAX);
        out_text(&r->out, "\nTraceback (most recent call first):\n");
        frame_write_stack(&r->out, r->current.at, true, sp, true, r->lines);
    }
}

static void
report_modules(struct report *r)
{
    out_room(&r->out, OUT_LINE_MAX);
    modules_write(&r->out);
}

static void
report_c_stack(struct report *r)
{
    out_room(&r->out, OUT_LINE_MAX);
    if (r->kind == REPORT_FATAL) {
        out_char(&r->out, '\n');
    }
    out_text(&r->out, NATIVE_TITLE);
    if (r->context != NULL) {
        native_write_fault(&r->out, r->context, r->pcs, &r->seen);
    }
    else {
        native_write_stack(&r->out, r->from, r->pcs, &r->seen);
    }
}

/* The thread states with frames on this C stack: that of the interpreter that
   runs, and those that it was called from. */
static size_t
report_find_states(const struct report *r, uintptr_t *states)
{
    size_t count = 0;
    if (r->has_current) {
        states[count++] = r->current.at;
    }
    for (size_t i = 0; i < r->list->count && count < NATIVE_MIX_STATES; i++) {
        struct thread t;
        uintptr_t frame;
        uintptr_t at = r->list->threads[i];
        if (r->has_current && at != r->current.at && thread_is_mine(at, &t)
            && frame_newest(at, &frame) == 0 && frame != 0) {
            states[count++] = at;
        }
    }
    return layout.frames_known ? count : 0;
}

static void
report_mixed_stack(struct report *r)
{
    uintptr_t states[NATIVE_MIX_STATES];
    size_t count = report_find_states(r, states);
    out_room(&r->out, OUT_LINE_MAX);
    out_text(&r->out, "\nTraceback (most recent call first):\n");
    native_write_mixed(&r->out, r->context, states, count, r->lines,
                       r->out.deadline, &r->seen);
}

/* The objects that the C stack's frames are in. */
static void
report_objects(struct report *r)
{
    native_write_seen(&r->out, &r->seen);
}

/* Send what is left.  Where that failed in the middle, once more. */
static void
report_finish(struct report *r)
{
    report_step(r, report_flush, "output");
    if (r->out.used > 0) {
        report_step(r, report_flush, "output");
    }
    out_close(&r->out);
}

/* Write a report into its buffer, step by step, the riskiest last.  The
   caller finishes it. */
static void
report_write(struct report *r)
{
    const struct request *request = r->request;
    r->out.used = r->out.sent = 0;
    r->out.flushes = 1;
    r->lines->flushes = 0;      /* of an earlier report */
    r->out.failed = false;
    r->out.deadline = platform_now() + OUT_TOTAL_NS;
    r->out.sink = &request->sink;
    r->has_current = false;
    r->list->count = 0;
    r->list->full = false;
    r->list->damaged = true;    /* until it is whole */
    if (r->kind == REPORT_C_STACK) {
        report_step(r, report_c_stack, "C stack");
        return;
    }
    report_step(r, report_title, "title");
    if (request->details) {
        report_step(r, report_cause, "cause");
        report_step(r, report_context, "context");
        report_step(r, report_note, "note");
    }
    report_step(r, report_list_threads, "list of threads");
    report_step(r, report_find_current, "search for the thread");
    if (request->details) {
        report_step(r, report_exceptions, "exceptions");
        report_step(r, report_activities, "activities");
    }
    if (r->kind == REPORT_DETAILS) {
        return;
    }
    if (request->details) {
        out_char(&r->out, '\n');
    }
    if (r->kind == REPORT_FATAL || !request->all_threads) {
        report_step(r, report_current, "traceback");
    }
    if (request->all_threads) {
        report_step(r, report_threads, "threads");
        report_step(r, report_thread_marks, "threads");
    }
    if (r->kind != REPORT_FATAL) {
        return;
    }
    if (!request->original && LAYOUT_LISTS_MODULES) {
        report_step(r, report_modules, "extension modules");
    }
    if (request->c_stack) {
        /* Unwinding is the riskiest: what we have goes out first. */
        struct platform_place place = platform_get_place(r->context);
        report_step(r, report_flush, "output");
        report_step(r, request->mixed ? report_mixed_stack : report_c_stack,
                    "C stack");
        native_forget(&native_mixed.symbols);   /* also of a broken lookup */
        platform_set_place(r->context, place);  /* the unwinder was led on */
        if (request->details) {
            report_step(r, report_objects, "list of shared objects");
        }
    }
    if (LAYOUT_FRAME_OBJECTS) {
        report_step(r, report_flush, "output");
        report_step(r, report_missing_frames, "search for frames");
    }
}

/* Take the right to write, so that reports do not mix.  Returns false if
   another one kept it for too long, or if it is this thread's own, which a
   signal interrupted. */
static bool
report_enter(void)
{
    int64_t waited = 0;
    int self = platform_thread_id();
    for (;;) {
        int64_t begin = platform_now();
        int holder = 0;
        if (atomic_compare_exchange_strong(&report_door, &holder, self)) {
            return true;
        }
        if (holder == self || waited > REPORT_DOOR_NS) {
            return false;
        }
        if (platform_thread_is_gone(holder)) {
            atomic_compare_exchange_strong(&report_door, &holder, 0);
            continue;
        }
        platform_sleep(1000000);
        waited += platform_waited(begin);
    }
}

static void
report_leave(void)
{
    int self = platform_thread_id();
    atomic_compare_exchange_strong(&report_door, &self, 0);
}

/* The memory of one report: static, or allocated before it is needed. */
struct report_memory {
    char text[OUT_SIZE];
    struct thread_list list;
    struct frame_memory lines;
    void *pcs[NATIVE_MAX];
};

static void
report_use_memory(struct report *r, struct report_memory *memory)
{
    r->out.text = memory->text;
    r->out.size = sizeof memory->text;
    r->list = &memory->list;
    r->lines = &memory->lines;
    r->pcs = memory->pcs;
}

/* ---- the GIL is held, except in on_* and where a function says so ---- */

/* ==== 14. Signals ==== */

/* Is the action a handler?  The kernel looks at the address alone: with
   SA_RESETHAND the flags stay as they were. */
static bool
sig_is_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* Install a handler, keep what was there.  Returns -1 with errno. */
static int
sig_install(int signum, void (*handler)(int, siginfo_t *, void *), int flags,
            struct sigaction *previous)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = flags | SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    return sigaction(signum, &action, previous);
}

/* Put back what was there, if the action is still ours: a handler that came
   after us may rely on being there. */
static void
sig_restore(int signum, void (*handler)(int, siginfo_t *, void *),
            const struct sigaction *previous)
{
    if (platform_handler_is(signum, handler)) {
        sigaction(signum, previous, NULL);
    }
}

/* May run inside a handler.  Send the same signal to this thread again: it
   comes when the handler returns, at the instruction that it interrupted.
   Blocked until then, also where a newer handler with SA_NODEFER called
   ours.  Returns -1 if it could not be sent. */
static int
sig_send_again(int signum, siginfo_t *info)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signum);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    return platform_queue_signal(signum, info);
}

/* May run inside a handler, as its last act.  Put the action back and send
   the signal again.  The next handler, the parent and the core then see what
   we saw. */
static void
sig_reraise(int signum, siginfo_t *info, const struct sigaction *action)
{
    sigaction(signum, action, NULL);
    if (sig_send_again(signum, info) < 0
        && (info->si_code <= 0 || signum == SIGABRT)) {
        syscall(SYS_tgkill, getpid(), platform_thread_id(), signum);
    }
    /* Where it could not be sent, a fault comes again by itself. */
}

/* ==== 15. Alternate stacks ==== */

/* A handler that runs because the stack is full needs another one.  Each
   thread that Python starts after the import gets it, by a wrapper around
   _thread's start functions; so does the thread that imports or enables. */

/* What the handlers need of their stack, beyond what the kernel puts there:
   .ci/callgraph.py bounds it at 12 KiB; the rest is for unwinding. */
#define STACK_NEED (64 * 1024)

/* Forbidden memory above: what is mapped first often lies right below the
   thread's own stack, and a large frame that reaches over the guard of that
   one must not come to rest here. */
#define STACK_ABOVE (1024 * 1024)

/* Stacks of ended threads, for the next ones. */
#define STACK_POOL_SIZE 16
static _Atomic(char *) stack_pool[STACK_POOL_SIZE];

static size_t stack_page, stack_room;
static size_t stack_size;       /* the room without the thread's note */

/* For a handler that finds itself on another owner's stack, too small for a
   report.  Mapped at the start, touched only then. */
struct stack_spare {
    atomic_int thread;          /* who is on it, 0: nobody */
    char *base;
};
static struct stack_spare stack_fatal_spare, stack_user_spare;

/* Map a stack between forbidden memory.  Returns NULL if there is none. */
static char *
stack_map(void)
{
    size_t size = stack_page + stack_room + STACK_ABOVE;
    char *guard = mmap(NULL, size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (guard == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(guard + stack_page, stack_room,
                 PROT_READ | PROT_WRITE) < 0) {
        munmap(guard, size);
        return NULL;
    }
    return guard + stack_page;
}

static char *
stack_take(void)
{
    for (int i = 0; i < STACK_POOL_SIZE; i++) {
        char *base = atomic_load(&stack_pool[i]);
        if (base != NULL
            && atomic_compare_exchange_strong(&stack_pool[i], &base, NULL)) {
            return base;
        }
    }
    return stack_map();
}

static void
stack_give(char *base)
{
    for (int i = 0; i < STACK_POOL_SIZE; i++) {
        char *empty = NULL;
        if (atomic_compare_exchange_strong(&stack_pool[i], &empty, base)) {
            return;
        }
    }
    munmap(base - stack_page, stack_page + stack_room + STACK_ABOVE);
}

/* A thread ends: take its alternate stack away, if it is still ours. */
static void
stack_on_exit(void *note)
{
    char *base = (char *)note - stack_size;
    stack_t now, off = {.ss_flags = SS_DISABLE};
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == base) {
        sigaltstack(&off, NULL);
    }
    stack_give(base);
}

/* Does a segment hold this description of a stack? */
static bool
stack_is_noted(uintptr_t at, uintptr_t end, const stack_t *stack)
{
    const size_t align = _Alignof(stack_t);
    at = (at + align - 1) / align * align;
    for (; at + sizeof *stack <= end; at += align) {
        const stack_t *note = (const stack_t *)at;
        if (note->ss_sp == stack->ss_sp && note->ss_flags == stack->ss_flags
            && note->ss_size == stack->ss_size) {
            return true;
        }
    }
    return false;
}

/* For each loaded object: is it noted where the interpreter has its statics?
   Returns 0 for all other objects, else 1 or 2 for no or yes. */
static int
stack_search(struct dl_phdr_info *object, size_t size, void *stack)
{
    const uintptr_t code = (uintptr_t)PyMem_Malloc;
    bool interpreter = false, noted = false;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        interpreter |= part->p_type == PT_LOAD
                       && code - object->dlpi_addr - part->p_vaddr
                          < part->p_memsz;
    }
    for (int i = 0; interpreter && i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t at = object->dlpi_addr + part->p_vaddr;
        noted |= part->p_type == PT_LOAD && (part->p_flags & PF_W)
                 && stack_is_noted(at, at + part->p_memsz, stack);
    }
    return interpreter ? 1 + noted : 0;
}

/* Is this the builtin module's alternate stack?  It gives the main thread
   one, in 3.8 always, later when it is armed at start-up, and leaves it
   there: small, and without a guard page.  Not told by its size, which others
   take as well: the builtin keeps what it gave to sigaltstack(). */
static bool
stack_is_builtin(stack_t *stack)
{
    return platform_list_objects(stack_search, stack) == 2;
}

/* Give the calling thread an alternate stack, unless it has one: another
   owner's is never replaced.  Without one, a stack overflow goes unreported;
   everything else works. */
static void
stack_install(void)
{
    stack_t now;
    if (!thread_note_key_made || sigaltstack(NULL, &now) < 0
        || !(now.ss_flags & SS_DISABLE || stack_is_builtin(&now))) {
        return;
    }
    /* Somebody may have switched it off: then it is still there. */
    char *note = pthread_getspecific(thread_note_key);
    char *base = note != NULL ? note - stack_size : stack_take();
    stack_t ours = {.ss_sp = base, .ss_size = stack_size};
    if (note != NULL) {
        sigaltstack(&ours, NULL);
        return;
    }
    if (base == NULL) {
        return;
    }
    memset(base + stack_size, 0, sizeof(struct thread_note));
    if (pthread_setspecific(thread_note_key, base + stack_size) != 0) {
        stack_give(base);
    }
    else if (sigaltstack(&ours, NULL) < 0) {
        pthread_setspecific(thread_note_key, NULL);
        stack_give(base);
    }
}

static void
stack_init(void)
{
    size_t need = getauxval(AT_MINSIGSTKSZ) + STACK_NEED
                  + sizeof(struct thread_note);
    stack_page = (size_t)sysconf(_SC_PAGESIZE);
    stack_room = (need + stack_page - 1) / stack_page * stack_page;
    stack_size = stack_room - sizeof(struct thread_note);
    stack_fatal_spare.base = stack_map();
    stack_user_spare.base = stack_map();
    thread_note_key_made = pthread_key_create(&thread_note_key,
                                              stack_on_exit) == 0;
}

/* Note the name of a thread that the threading module starts: its function is
   Thread._bootstrap, of the thread's object.  No code of a user runs. */
static void
stack_note_name(PyObject *function)
{
    struct thread_note *note = pthread_getspecific(thread_note_key);
    if (note == NULL || !PyMethod_Check(function)
        || !PyFunction_Check(PyMethod_GET_FUNCTION(function))) {
        return;
    }
    PyFunctionObject *bootstrap =
        (PyFunctionObject *)PyMethod_GET_FUNCTION(function);
    if (PyUnicode_CompareWithASCIIString(bootstrap->func_name,
                                         "_bootstrap") != 0) {
        return;
    }
    PyObject *key = PyUnicode_FromString("_name");
    PyObject *name = key == NULL ? NULL : PyObject_GenericGetAttr(
        PyMethod_GET_SELF(function), key);
    const char *text = name != NULL && PyUnicode_CheckExact(name)
                       ? PyUnicode_AsUTF8(name) : NULL;
    if (text != NULL) {
        strncpy(note->name, text, sizeof note->name - 1);
    }
    PyErr_Clear();
    Py_XDECREF(name);
    Py_XDECREF(key);
}

/* May run inside a handler.  Does it run on an alternate stack that has too
   little room left for a report? */
static bool
stack_is_small(const void *context)
{
    const stack_t *now = &((const ucontext_t *)context)->uc_stack;
    char here;
    uintptr_t room = (uintptr_t)&here - (uintptr_t)now->ss_sp;
    return room < MEM_STACK_MIN && room < now->ss_size;
}

/* What is to be called on another stack. */
struct stack_call {
    void (*function)(void *);
    void *argument;
    stack_t stack;
};

/* Already there.  A nested fault is to come to this stack, too.  When the
   handler returns the kernel puts the old one back. */
static void
stack_on_spare(void *argument)
{
    struct stack_call *call = argument;
    sigaltstack(&call->stack, NULL);
    call->function(call->argument);
}

/* May run inside a handler, with little stack.  Call a function on a spare
   stack.  Returns false, and has not called it, if that cannot be had. */
static bool
stack_call_on_spare(struct stack_spare *spare, void (*function)(void *),
                    void *argument)
{
    struct stack_call call = {
        function, argument, {.ss_sp = spare->base, .ss_size = stack_size},
    };
    int nobody = 0;
    if (spare->base == NULL
        || !atomic_compare_exchange_strong(&spare->thread, &nobody,
                                           platform_thread_id())) {
        return false;
    }
    bool called = platform_call_on(spare->base + stack_size / 16 * 16,
                                   stack_on_spare, &call);
    atomic_store(&spare->thread, 0);
    return called;
}

/* The first function of a thread.  An exception ends the thread here, as it
   would have in _thread, so that the message names the thread's function. */
static PyObject *
stack_run_thread(PyObject *function, PyObject *args, PyObject *kwargs)
{
    stack_install();
    stack_note_name(function);
    PyObject *result = PyObject_Call(function, args, kwargs);
    if (result != NULL) {
        return result;
    }
    if (PyErr_ExceptionMatches(PyExc_SystemExit)) {
        PyErr_Clear();
    }
    else {
        layout_write_unraisable(function);
    }
    Py_RETURN_NONE;
}

static PyMethodDef stack_run_thread_def = {
    "run", (PyCFunction)(void (*)(void))stack_run_thread,
    METH_VARARGS | METH_KEYWORDS, NULL
};

/* The arguments of a start function, with the first one wrapped.  What is not
   callable stays as it is, to be refused.  Returns NULL with an exception. */
static PyObject *
stack_wrap_function(PyObject *args)
{
    if (PyTuple_GET_SIZE(args) < 1
        || !PyCallable_Check(PyTuple_GET_ITEM(args, 0))) {
        Py_INCREF(args);
        return args;
    }
    PyObject *run = PyCFunction_New(&stack_run_thread_def,
                                    PyTuple_GET_ITEM(args, 0));
    PyObject *wrapped = run == NULL ? NULL
                        : PyTuple_New(PyTuple_GET_SIZE(args));
    if (wrapped == NULL) {
        Py_XDECREF(run);
        return NULL;
    }
    PyTuple_SET_ITEM(wrapped, 0, run);
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(args); i++) {
        Py_INCREF(PyTuple_GET_ITEM(args, i));
        PyTuple_SET_ITEM(wrapped, i, PyTuple_GET_ITEM(args, i));
    }
    return wrapped;
}

/* The interpreter's start functions: start_new_thread() and its older name
   take no keywords, start_joinable_thread() of 3.13+ does. */
static PyCFunction stack_start_plain;
static PyCFunctionWithKeywords stack_start_joinable;

static PyObject *
stack_call_plain(PyObject *module, PyObject *args)
{
    PyObject *wrapped = stack_wrap_function(args);
    PyObject *result = wrapped == NULL ? NULL
                       : stack_start_plain(module, wrapped);
    Py_XDECREF(wrapped);
    return result;
}

static PyObject *
stack_call_joinable(PyObject *module, PyObject *args, PyObject *kwargs)
{
    PyObject *wrapped = stack_wrap_function(args);
    PyObject *result = wrapped == NULL ? NULL
                       : stack_start_joinable(module, wrapped, kwargs);
    Py_XDECREF(wrapped);
    return result;
}

/* Put ours in the place of one, if it is called as we know it. */
static void
stack_wrap_starter(PyMethodDef *def)
{
    PyCFunction joinable =
        (PyCFunction)(void (*)(void))stack_call_joinable;
    bool is_plain = strcmp(def->ml_name, "start_new_thread") == 0
                    || strcmp(def->ml_name, "start_new") == 0;
    bool is_joinable = strcmp(def->ml_name, "start_joinable_thread") == 0;
    if (is_plain && def->ml_flags == METH_VARARGS
        && def->ml_meth != stack_call_plain
        && (stack_start_plain == NULL || stack_start_plain == def->ml_meth)) {
        stack_start_plain = def->ml_meth;
        def->ml_meth = stack_call_plain;
    }
    else if (is_joinable && def->ml_flags == (METH_VARARGS | METH_KEYWORDS)
             && def->ml_meth != joinable) {
        stack_start_joinable =
            (PyCFunctionWithKeywords)(void (*)(void))def->ml_meth;
        def->ml_meth = joinable;
    }
}

/* Wrap the interpreter's start functions, in the table of _thread's methods:
   threading, gevent and others keep copies of the function objects, or have
   put their own in the module.  Returns -1 with an exception. */
static int
stack_wrap_starters(void)
{
    PyObject *thread = PyImport_ImportModule("_thread");
    if (thread == NULL) {
        return -1;
    }
    PyModuleDef *module = PyModule_Check(thread) ? PyModule_GetDef(thread)
                                                 : NULL;
    PyMethodDef *def = module == NULL ? NULL : module->m_methods;
    while (def != NULL && def->ml_name != NULL) {
        stack_wrap_starter(def++);
    }
    PyErr_Clear();
    Py_DECREF(thread);
    return 0;
}

/* ==== 16. File arguments ==== */

/* What a module object owns: the file objects that it was given, kept alive
   while they are in use, as the standard library's module does. */
struct module_state {
    PyObject *fatal_file;
    PyObject *later_file;
    PyObject *user_files[NSIG];
};

/* Make a sink of a descriptor.  An open one is duplicated; one that is not
   open is accepted, as the standard library's module does, and means
   nowhere. */
static void
file_make_sink(int fd, bool is_stderr, struct sink *sink)
{
    memset(sink, 0, offsetof(struct sink, folder));
    sink->copy = -1;
    sink->given = fd;
    if (platform_identify(fd, &sink->file) < 0) {
        sink->kind = SINK_NOWHERE;
        return;
    }
    sink->kind = is_stderr ? SINK_STDERR : SINK_COPY;
    if (!is_stderr) {
        sink->copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }
}

/* Close our duplicate, unless somebody closed it and has its number now. */
static void
file_close_sink(struct sink *sink)
{
    struct platform_file now;
    if (sink->kind == SINK_COPY && out_is_file(sink->copy, sink, &now)) {
        close(sink->copy);
    }
    sink->kind = SINK_NOWHERE;
}

/* An argument as a C int, with the newest release's words on every version.
   Returns 0, or -1 with an exception. */
static int
file_parse_int(PyObject *argument, int *value)
{
    int overflow;
    PyObject *index = PyNumber_Index(argument);
    if (index == NULL) {
        return -1;
    }
    long number = PyLong_AsLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow != 0 || number > INT_MAX || number < INT_MIN) {
        PyErr_SetString(PyExc_OverflowError,
                        "Python int too large to convert to C int");
        return -1;
    }
    *value = (int)number;
    return 0;
}

/* The descriptor of an int argument.  Returns -1 with an exception. */
static int
file_from_int(PyObject *file)
{
    int fd;
    if (file_parse_int(file, &fd) < 0) {
        return -1;
    }
    if (PyBool_Check(file)
        && PyErr_WarnEx(PyExc_RuntimeWarning,
                        "bool is used as a file descriptor", 1) < 0) {
        return -1;
    }
    if (fd < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "file is not a valid file descriptor");
        return -1;
    }
    return fd;
}

/* The descriptor of an object with fileno(), which is flushed first so that
   the report stands where it belongs.  Returns -1 with an exception. */
static int
file_from_object(PyObject *file)
{
    PyObject *number = PyObject_CallMethod(file, "fileno", NULL);
    if (number == NULL) {
        return -1;
    }
    long fd = PyLong_Check(number) ? PyLong_AsLong(number) : -1;
    Py_DECREF(number);
    if (fd < 0 || fd >= INT_MAX) {
        PyErr_SetString(PyExc_RuntimeError,
                        "file.fileno() is not a valid file descriptor");
        return -1;
    }
    PyObject *flushed = PyObject_CallMethod(file, "flush", NULL);
    if (flushed == NULL) {
        PyErr_Clear();          /* it may be of no use; the number is */
    }
    Py_XDECREF(flushed);
    return (int)fd;
}

/* Is this argument a path?  An object that is a file and has a path too is a
   file, as it is for the standard library's module. */
static bool
file_is_path(PyObject *file)
{
    return PyUnicode_Check(file) || PyBytes_Check(file)
           || (PyObject_HasAttrString((PyObject *)Py_TYPE(file), "__fspath__")
               && !PyObject_HasAttrString(file, "fileno"));
}

/* Undo %% in a folder's name, which can hold no other code: it has to be there
   now.  Returns -1 with an exception. */
static int
file_fill_folder(char *folder)
{
    char *to = folder;
    for (const char *from = folder; *from != '\0'; from++) {
        if (*from == '%' && *++from != '%') {
            PyErr_SetString(PyExc_ValueError,
                            "file: the folder's name can have no % but %%");
            return -1;
        }
        *to++ = *from;
    }
    *to = '\0';
    return 0;
}

/* How long a file's name gets at the most, -1 with an exception if it has a
   code that is not known. */
static int
file_name_length(const char *name)
{
    int n = 0;
    for (; *name != '\0' && n < PATH_MAX; name++) {
        n++;
        if (*name == '%' && *++name != '%') {
            if (*name != 'p' && *name != 't') {
                PyErr_SetString(PyExc_ValueError,
                                "file: after % must come p, t or %");
                return -1;
            }
            n += 10;            /* digits, until the year 5138 */
        }
    }
    return n;
}

/* Take a path apart.  Returns 0, an error number, or -1 with an exception. */
static int
file_split_path(const char *path, struct sink *sink)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t n = (size_t)(name - path);
    if (*path == '\0') {
        return ENOENT;
    }
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return EISDIR;
    }
    int longest = file_name_length(name);
    if (longest < 0) {
        return -1;
    }
    if (longest > NAME_MAX || strlen(name) > NAME_MAX
        || n >= sizeof sink->folder) {
        return ENAMETOOLONG;
    }
    memcpy(sink->folder, path, n);
    strcpy(sink->folder + n, n == 0 ? "." : "");
    strcpy(sink->name, name);
    return file_fill_folder(sink->folder);
}

/* Could a report be written there now?  Returns 0 or an error number. */
static int
file_try_folder(const struct sink *sink, int folder)
{
    struct platform_file around, file;
    char name[NAME_MAX + 1];
    bool writable = faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) == 0;
    int error = writable ? 0 : errno;
    bool varies = strchr(sink->name, '%') != NULL;
    out_file_name(sink, name);
    int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? error : errno;
    }
    if (platform_identify(folder, &around) < 0
        || platform_identify(fd, &file) < 0) {
        error = errno;
    }
    else if (S_ISLNK(file.mode) || S_ISDIR(file.mode)) {
        error = S_ISLNK(file.mode) ? ELOOP : EISDIR;
    }
    else if (!out_may_append(&around, &file)) {
        error = EPERM;
    }
    else if (faccessat(folder, name, W_OK, AT_EACCESS) < 0) {
        error = errno;
    }
    else if (!varies) {
        error = 0;              /* there, so the folder need not be written */
    }
    close(fd);
    return error;
}

/* Make a folder's path absolute and free of symbolic links, as it is now, and
   see that a file can be written there.  Returns 0 or an error number. */
static int
file_pin_folder(struct sink *sink)
{
    char resolved[PATH_MAX];
    if (realpath(sink->folder, resolved) == NULL) {
        return errno;
    }
    strcpy(sink->folder, resolved);
    int folder = out_open_folder(sink->folder);
    if (folder < 0) {
        return errno;
    }
    int error = file_try_folder(sink, folder);
    close(folder);
    return error;
}

/* Make a sink of a path.  Nothing is opened before there is something to
   write, but what would stand in the way now is told now.  Returns -1 with an
   exception. */
static int
file_from_path(PyObject *file, struct sink *sink)
{
    PyObject *bytes = NULL, *path = PyOS_FSPath(file);
    int error = -1;
    memset(sink, 0, offsetof(struct sink, folder));
    sink->kind = SINK_PATH;
    if (path != NULL && PyUnicode_Check(path)) {
        bytes = PyUnicode_EncodeFSDefault(path);
    }
    else if (path != NULL) {
        Py_INCREF(path);
        bytes = path;
    }
    const char *text = bytes == NULL ? NULL : PyBytes_AS_STRING(bytes);
    if (text != NULL && strlen(text) != (size_t)PyBytes_GET_SIZE(bytes)) {
        PyErr_SetString(PyExc_ValueError, "file: embedded null byte");
    }
    else if (text != NULL) {
        error = file_split_path(text, sink);
    }
    if (error == 0) {
        Py_BEGIN_ALLOW_THREADS
        error = file_pin_folder(sink);
        Py_END_ALLOW_THREADS
    }
    if (error > 0) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    }
    Py_XDECREF(bytes);
    Py_XDECREF(path);
    return error == 0 ? 0 : -1;
}

/* Make a sink of a file argument; NULL and None mean sys.stderr as it is
   now.  *keep gets a new reference to what is to be kept alive, or NULL.
   Returns -1 with an exception. */
static int
file_resolve(PyObject *file, struct sink *sink, PyObject **keep)
{
    bool is_default = file == NULL || file == Py_None;
    int fd;
    *keep = NULL;
    if (is_default) {
        file = PySys_GetObject("stderr");
        if (file == NULL || file == Py_None) {
            PyErr_SetString(PyExc_RuntimeError,
                            file == NULL ? "lost sys.stderr"
                                         : "sys.stderr is None");
            return -1;
        }
    }
    if (!is_default && file_is_path(file)) {
        return file_from_path(file, sink);
    }
    if (PyLong_Check(file)) {
        fd = file_from_int(file);
    }
    else {
        Py_INCREF(file);        /* fileno() may replace sys.stderr */
        fd = file_from_object(file);
        *keep = file;
    }
    if (fd < 0) {
        Py_CLEAR(*keep);
        return -1;
    }
    file_make_sink(fd, is_default && fd == STDERR_FILENO, sink);
    return 0;
}

/* Keep a file object in place of the one before it.  Steals the reference. */
static void
file_keep(PyObject **slot, PyObject *file)
{
    PyObject *before = *slot;
    *slot = file;
    Py_XDECREF(before);
}

/* Standard error for a report that nobody configured: descriptor 2, unless it
   was closed at start-up.  Python then leaves sys.__stderr__ None, and what
   has the number now is somebody's file.  Never fails. */
static void
file_standard_error(struct sink *sink)
{
    PyObject *file = PySys_GetObject("__stderr__");
    memset(sink, 0, offsetof(struct sink, folder));
    if (file != NULL && file != Py_None) {
        file_make_sink(STDERR_FILENO, true, sink);
    }
}

/* Threads to be shown: 0 means the default, as in 3.15. */
static size_t
file_max_threads(Py_ssize_t max_threads)
{
    return max_threads == 0 ? 100 : max_threads < 0 ? 1 : (size_t)max_threads;
}

/* ==== 17. Fatal signals ==== */

#define FATAL_TIMER_SIGNAL SIGRTMAX
#define FATAL_TIMER_MS 6500
#define FATAL_TIMER_AGAIN_MS 250
#define FATAL_WAIT_NS INT64_C(12000000000)
#define FATAL_POLL_NS 5000000

static struct report_memory fatal_memory;

/* The report takes too long.  Leave the step that it is in. */
static void
on_fatal_timer(int signum, siginfo_t *info, void *context)
{
    struct mem_session *session = mem_here;
    (void)signum, (void)context;
    if (session != NULL && session->step != NULL
        && platform_timer_is_ours(info)) {
        session->late = true;
        siglongjmp(*session->step, 1);
    }
}

/* The timer that bounds a report, and the action that its signal had. */
struct fatal_timer {
    bool running;
    timer_t id;
    struct sigaction before;
};

static void
fatal_timer_start(struct fatal_timer *timer)
{
    /* Again and again: the timer also breaks the flush that follows. */
    struct sigaction action = {.sa_sigaction = on_fatal_timer};
    sigset_t one;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(FATAL_TIMER_SIGNAL, &action, &timer->before);
    timer->running = platform_timer_start(&timer->id, FATAL_TIMER_SIGNAL,
                                          FATAL_TIMER_MS,
                                          FATAL_TIMER_AGAIN_MS) == 0;
    sigemptyset(&one);
    sigaddset(&one, FATAL_TIMER_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

static void
fatal_timer_stop(struct fatal_timer *timer)
{
    if (timer->running) {
        platform_timer_stop(timer->id);
    }
    sigaction(FATAL_TIMER_SIGNAL, &timer->before, NULL);
}

/* Write the report of a crash, on a timer. */
static void
fatal_report(const struct fault_signal *fault, const struct request *request,
             enum report_kind kind, const siginfo_t *info, void *context)
{
    struct platform_place place = platform_get_place(context);
    struct fatal_timer timer;
    struct report r;
    memset(&r, 0, sizeof r);
    report_use_memory(&r, &fatal_memory);
    r.request = request;
    r.kind = kind;
    r.title = request->original ? fault->title : fault->library_title;
    r.info = info;
    r.context = context;
    bool mine = report_enter();
    fatal_timer_start(&timer);
    report_write(&r);
    report_finish(&r);
    fatal_timer_stop(&timer);
    platform_set_place(context, place);
    if (mine) {
        report_leave();
    }
}

/* Does the frame that called the older handler stand above this place?  On one
   stack: a handler that was left by a jump leaves its frame. */
static bool
fatal_is_below_caller(struct fault_signal *fault, const void *context,
                      uintptr_t sp)
{
    const ucontext_t *uc = context;
    struct sigaction there;
    const stack_t *alternate = &uc->uc_stack;
    uintptr_t caller = atomic_load(&fault->caller);
    uintptr_t base = (uintptr_t)alternate->ss_sp;
    return sp < caller && (sp - base < alternate->ss_size)
                          == (caller - base < alternate->ss_size)
           && platform_read_self(getpid(), &there, (void *)caller,
                                 sizeof there) == 0
           && there.sa_sigaction == fault->previous.sa_sigaction
           && there.sa_flags == fault->previous.sa_flags;
}

/* Does a signal come from inside the handler that was there before ours, to
   which this thread has handed a fault?  That may have unblocked the fault's
   signal; but then the frame that called it still stands above. */
static bool
fatal_is_inside(struct fault_signal *fault, const void *context)
{
    const ucontext_t *uc = context;
    if (!atomic_load(&fault->given_back)
        || atomic_load(&fault->giver) != platform_thread_id()) {
        return false;
    }
    return sigismember(&uc->uc_sigmask, fault->signum) == 1
           || fatal_is_below_caller(fault, context,
                                    platform_get_place(context).sp);
}

/* Is it the older handler that calls ours, as the one before it?  It was
   installed after us, and we were armed again. */
static bool
fatal_is_called(struct fault_signal *fault, const void *context)
{
    char here;
    return atomic_load(&fault->given_back)
           && atomic_load(&fault->calls) == platform_thread_id()
           && fatal_is_below_caller(fault, context, (uintptr_t)&here);
}

/* The same for abort(), of any fault.  A JVM ends so. */
static bool
fatal_is_inside_older(const void *context)
{
    bool inside = false;
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        inside |= fault_signals[i].signum != SIGABRT
                  && fatal_is_inside(&fault_signals[i], context);
    }
    return inside;
}

/* Report, if we are armed and nobody else did. */
static void
fatal_report_once(const struct fault_signal *fault, const siginfo_t *info,
                  void *context)
{
    const struct request *request = atomic_load(&fatal_request);
    struct mem_session session;
    mem_begin(&session);
    bool aborts = fault->signum == SIGABRT && fault_is_synchronous(info);
    bool printed = aborts && fault_was_reported(context);
    bool reported = printed || (aborts && fatal_is_inside_older(context));
    if (request != NULL && !reported) {
        fatal_report(fault, request, REPORT_FATAL, info, context);
    }
    else if (request != NULL && printed && request->details) {
        fatal_report(fault, request, REPORT_DETAILS, info, context);
    }
    mem_end(&session);
}

/* Take the turn to report.  Of threads that crash together one reports, the
   others wait for the process to die, or for their turn if it lives on.
   Returns false if this thread has the turn already, or waited too long. */
static bool
fatal_take_turn(void)
{
    int self = platform_thread_id();
    int64_t until = platform_now() + FATAL_WAIT_NS;
    for (;;) {
        int owner = 0;
        if (atomic_compare_exchange_strong(&fatal_claim, &owner, self)) {
            return true;
        }
        if (owner == self || platform_now() > until) {
            return false;
        }
        if (platform_thread_is_gone(owner)) {
            atomic_compare_exchange_strong(&fatal_claim, &owner, 0);
            continue;
        }
        platform_sleep(FATAL_POLL_NS);
    }
}

static void on_older_signal(int signum, siginfo_t *info, void *context);

/* The action that a signal is handed to.  An older handler that wants to stay
   is called by ours. */
static struct sigaction
fatal_next(const struct fault_signal *fault)
{
    struct sigaction next = fault->previous;
    if (sig_is_handler(&next) && !(next.sa_flags & (int)SA_RESETHAND)) {
        next.sa_flags |= SA_SIGINFO;
        next.sa_sigaction = on_older_signal;
    }
    return next;
}

/* A signal that came, and whether it is this thread's turn to report. */
struct fatal_signal {
    int signum;
    siginfo_t *info;
    void *context;
    bool called;                /* by the older handler, to be the last */
    bool turn;
};

/* Report it, and hand it back.  Not in the handler itself, which may have very
   little stack. */
__attribute__((noinline)) static void
fatal_handle(void *argument)
{
    const struct fatal_signal *came = argument;
    struct fault_signal *fault = fault_find(came->signum);
    siginfo_t *info = came->info;
    /* The handler that was there before ours may hand the signal back: then
       there is nobody left to ask.  If it raised it, it is no new crash. */
    int self = platform_thread_id();
    bool was_given = atomic_load(&fault->given_back);
    bool back = was_given && atomic_load(&fault->giver) == self;
    bool raised = back && info->si_code == SI_TKILL
                  && info->si_pid == getpid();
    if (came->turn && !raised && !(back && came->called)) {
        fatal_report_once(fault, info, came->context);
    }
    struct sigaction next = fatal_next(fault);
    if (back || came->called) {
        next.sa_flags = 0;
        next.sa_handler = SIG_DFL;
    }
    atomic_store(&fault->giver, self);
    atomic_store(&fault->given_back, true);
    atomic_store(&fault->handed, true);
    sig_reraise(came->signum, info, &next);
    bool dies = next.sa_handler == SIG_DFL;
    /* In a vfork() child this memory is the parent's, which lives on. */
    bool borrowed = getpid() != fatal_pid;
    if (borrowed) {
        atomic_store(&fault->given_back, was_given);
    }
    if (came->turn && (borrowed || !dies)) {
        atomic_store(&fatal_claim, 0);
    }
}

/* Was a signal caused by what this thread was just doing?  In a report that
   is told from an abort() that another thread wants. */
static bool
fatal_is_own(const struct mem_session *session, const siginfo_t *info,
             const void *context)
{
    return fault_is_synchronous(info)
           && (session == NULL || info->si_signo != SIGABRT
               || fault_has_aborted(context));
}

/* The handler of all fatal signals. */
static void
on_fatal_signal(int signum, siginfo_t *info, void *context)
{
    platform_clear_flags();
    int saved_errno = errno;
    struct mem_session *session = mem_here;
    bool own = fatal_is_own(session, info, context);
    /* A vfork() child that was killed in its report left its session here. */
    if (session != NULL && session->recover != NULL
        && own && session->pid == getpid()) {
        siglongjmp(*session->recover, 1);
    }
    bool called = fatal_is_called(fault_find(signum), context);
    struct fatal_signal came = {signum, info, context, called,
                                fatal_take_turn()};
    if (!came.turn && !own
        && atomic_load(&fatal_claim) == platform_thread_id()) {
        errno = saved_errno;
        return;                 /* sent to us while we report: we die anyway */
    }
    if (came.turn && info->si_code > 0 && !called
        && platform_handler_is(signum, on_older_signal)) {
        /* Reported while we waited: the fault comes again, to the older. */
        atomic_store(&fatal_claim, 0);
        errno = saved_errno;
        return;
    }
    if (!came.turn || !stack_is_small(context)
        || !stack_call_on_spare(&stack_fatal_spare, fatal_handle, &came)) {
        fatal_handle(&came);
    }
    errno = saved_errno;
}

/* Call the older handler, as the kernel would have. */
static void
fatal_call_older(const struct sigaction *older, int signum, siginfo_t *info,
                 void *context)
{
    if (older->sa_flags & SA_SIGINFO) {
        older->sa_sigaction(signum, info, context);
    }
    else {
        older->sa_handler(signum);
    }
}

/* The older handler's turn, on the stack and with the mask that it asked for.
   Where it repairs and returns it uses the signal as a tool, as a JVM does:
   from now on it is asked first, and what it repairs is not reported.  Where
   it puts another action in its place it gives up: then it is our turn. */
static void
on_older_signal(int signum, siginfo_t *info, void *context)
{
    struct mem_session *session = mem_here;
    struct fault_signal *fault = fault_find(signum);
    struct sigaction older = fault->previous, then, now;
    sigset_t pending;
    if (session != NULL && session->recover != NULL
        && fatal_is_own(session, info, context)
        && session->pid == getpid()) {
        siglongjmp(*session->recover, 1);
    }
    bool reported = atomic_exchange(&fault->handed, false)
                    && atomic_load(&fault->giver) == platform_thread_id();
    bool nested = !reported && fatal_is_inside(fault, context);
    if (!nested) {
        atomic_store(&fault->giver, reported ? platform_thread_id() : 0);
        atomic_store(&fault->calls, platform_thread_id());
        atomic_store(&fault->caller, (uintptr_t)&older);
    }
    sigaction(signum, NULL, &then);
    fatal_call_older(&older, signum, info, context);
    int saved_errno = errno;
    if (!nested) {
        atomic_store(&fault->giver, 0);
        atomic_store(&fault->caller, 0);
    }
    sigaction(signum, NULL, &now);
    bool left = now.sa_sigaction != then.sa_sigaction
                && now.sa_sigaction != on_older_signal
                && now.sa_sigaction != on_fatal_signal
                && atomic_load(&fatal_claim) != platform_thread_id()
                && atomic_load(&fatal_request) != NULL;
    if (left && now.sa_sigaction == older.sa_sigaction) {
        now = fatal_next(fault);        /* it wants to stay, and says so */
        sigaction(signum, &now, NULL);
    }
    else if (left && !reported && !nested) {
        fault->previous = now;
        atomic_store(&fault->given_back, false);
        sig_install(signum, on_fatal_signal, SA_ONSTACK, NULL);
        /* A fault that it left comes again.  What it raised is here. */
        if (sigpending(&pending) == 0 && sigismember(&pending, signum) == 1) {
            on_fatal_signal(signum, info, context);
        }
    }
    errno = saved_errno;
}

/* Is our handler to be installed?  Not where it is, nor where a handler that
   came after us may chain to it; but where somebody has set the default. */
static bool
fatal_is_due(const struct fault_signal *fault)
{
    struct sigaction now;
    if (!fault->armed) {
        return true;
    }
    if (sigaction(fault->signum, NULL, &now) < 0) {
        return false;
    }
    if (atomic_load(&fault->given_back)
        && (now.sa_sigaction == on_older_signal
            || now.sa_sigaction == fault->previous.sa_sigaction)) {
        return true;
    }
    return !sig_is_handler(&now);
}

/* Install the handlers that are not installed.  Returns -1 with errno, and
   nothing changed, if one cannot be. */
static int
fatal_install(void)
{
    bool fresh[FAULT_COUNT] = {false};
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        struct fault_signal *fault = &fault_signals[i];
        if (!fatal_is_due(fault)) {
            continue;
        }
        /* Known before it can be needed. */
        if (!platform_handler_is(fault->signum, on_older_signal)
            && !platform_handler_is(fault->signum, on_fatal_signal)) {
            sigaction(fault->signum, NULL, &fault->previous);
        }
        atomic_store(&fault->given_back, false);
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_fatal_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        if (sigaction(fault->signum, &action, NULL) < 0) {
            int error = errno;
            while (i-- > 0) {
                if (fresh[i]) {
                    sigaction(fault_signals[i].signum,
                              &fault_signals[i].previous, NULL);
                    fault_signals[i].armed = false;
                }
            }
            errno = error;
            return -1;
        }
        fresh[i] = fault->armed = true;
    }
    return 0;
}

/* The slot that is not in use. */
static struct request *
fatal_slot(void)
{
    return &fatal_requests[atomic_load(&fatal_request) == &fatal_requests[0]];
}

/* Wait until the crash that is being reported by another thread is over, which
   for most processes means: for ever. */
static void
fatal_wait_crash(void)
{
    int64_t until = platform_now() + FATAL_WAIT_NS;
    int owner;
    Py_BEGIN_ALLOW_THREADS
    while ((owner = atomic_load(&fatal_claim)) != 0
           && owner != platform_thread_id() && !platform_thread_is_gone(owner)
           && platform_now() < until) {
        platform_sleep(FATAL_POLL_NS);
    }
    Py_END_ALLOW_THREADS
}

/* Arm, or change what armed handlers do: fill the slot that is not in use,
   install, publish.  Takes the request's sink over.  Returns -1 with errno
   and the sink closed. */
static int
fatal_arm(struct request *request)
{
    pthread_mutex_lock(&state_lock);
    if (fatal_slot()->sink.kind != SINK_NOWHERE) {
        /* Left open for a crash, which may still be reported from it. */
        pthread_mutex_unlock(&state_lock);
        fatal_wait_crash();
        pthread_mutex_lock(&state_lock);
    }
    struct request *before = atomic_load(&fatal_request);
    struct request *slot = fatal_slot();
    file_close_sink(&slot->sink);
    *slot = *request;
    int result = fatal_install();
    int error = errno;
    if (result == 0) {
        atomic_store(&fatal_request, slot);
        if (before != NULL && atomic_load(&fatal_claim) == 0) {
            file_close_sink(&before->sink);
        }
    }
    else {
        file_close_sink(&slot->sink);
    }
    pthread_mutex_unlock(&state_lock);
    errno = error;
    return result;
}

/* Wait until no dump relies on our handlers, but not for long.  Returns
   whether none does. */
static bool
fatal_wait_readers(void)
{
    int64_t until = platform_now() + OUT_STALL_NS;
    atomic_store(&mem_direct_closed, true);
    Py_BEGIN_ALLOW_THREADS
    while (atomic_load(&mem_direct_users) > 0 && platform_now() < until) {
        platform_sleep(200000);
    }
    Py_END_ALLOW_THREADS
    return atomic_load(&mem_direct_users) == 0;
}

/* Disarm.  Returns whether it was armed. */
static bool
fatal_disarm(void)
{
    pthread_mutex_lock(&state_lock);
    struct request *request = atomic_exchange(&fatal_request, NULL);
    /* A crash that is being reported needs both, file and handlers. */
    bool crashing = atomic_load(&fatal_claim) != 0;
    if (request != NULL && !crashing) {
        file_close_sink(&request->sink);
    }
    pthread_mutex_unlock(&state_lock);
    if (request == NULL) {
        return false;
    }
    /* Handlers that a dump relies on stay: disarmed, they hand every signal to
       the action that was there before. */
    bool idle = fatal_wait_readers() && !crashing;
    pthread_mutex_lock(&state_lock);
    for (size_t i = 0; idle && i < FAULT_COUNT; i++) {
        struct fault_signal *fault = &fault_signals[i];
        if (fault->armed && atomic_load(&fatal_request) == NULL) {
            sig_restore(fault->signum, on_fatal_signal, &fault->previous);
            sig_restore(fault->signum, on_older_signal, &fault->previous);
            fault->armed = false;
        }
    }
    atomic_store(&mem_direct_closed, false);
    pthread_mutex_unlock(&state_lock);
    return true;
}

static int
fatal_compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Note where sys.modules is, and what is the standard library's in it.  Names
   that are too long to be one of its are left out. */
static void
fatal_note_modules(void)
{
    PyObject *names = PySys_GetObject("stdlib_module_names");
    PyObject *iterator = names == NULL ? NULL : PyObject_GetIter(names);
    PyObject *name;
    size_t count = 0;
    const size_t max = sizeof modules_library / sizeof *modules_library;
    char (*sorted)[MODULES_NAME_SIZE] = PyMem_RawMalloc(
        sizeof modules_library);
    while (sorted != NULL && iterator != NULL && count < max
           && (name = PyIter_Next(iterator)) != NULL) {
        const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name)
                                                 : NULL;
        if (text != NULL && strlen(text) < MODULES_NAME_SIZE) {
            strcpy(sorted[count++], text);
        }
        Py_DECREF(name);
    }
    Py_XDECREF(iterator);
    PyErr_Clear();
    if (sorted != NULL) {
        qsort(sorted, count, sizeof *sorted, fatal_compare_names);
        pthread_mutex_lock(&state_lock);
        memcpy(modules_library, sorted, count * sizeof *sorted);
        modules_library_count = count;
        if (PyThreadState_Get()->interp == PyInterpreterState_Main()) {
            modules_dict = (uintptr_t)PyImport_GetModuleDict();
        }
        pthread_mutex_unlock(&state_lock);
    }
    PyMem_RawFree(sorted);
}

/* Arm with the report of 1.0, on standard error.  What importing does. */
static int
fatal_arm_original(const struct sink *sink)
{
    struct request request = {
        .sink = *sink, .original = true, .all_threads = true,
        .max_threads = 100,
    };
    stack_install();
    return fatal_arm(&request);
}

/* The options of PYTHONFAULTHANDLER are the defaults of what a call of
   enable() does not give.  The module that read them keeps them as a dict; it
   is not there in a Python that was started without it.  Returns a new dict
   of keywords, or NULL with an exception. */
static PyObject *
fatal_add_options(PyObject *args, PyObject *kwargs)
{
    static const char *const positional[] = {"file", "all_threads",
                                             "c_stack"};
    PyObject *reader = PyDict_GetItemString(PyImport_GetModuleDict(),
                                            "_faulthandler_precedence");
    PyObject *options = reader == NULL ? NULL
                        : PyObject_GetAttrString(reader, "options");
    PyErr_Clear();
    PyObject *all = options != NULL && PyDict_Check(options)
                    ? PyDict_Copy(options) : PyDict_New();
    Py_XDECREF(options);
    for (Py_ssize_t i = 0; all != NULL && i < PyTuple_GET_SIZE(args)
         && i < 3; i++) {
        if (PyDict_DelItemString(all, positional[i]) < 0) {
            PyErr_Clear();      /* that one was not an option */
        }
    }
    if (all != NULL && kwargs != NULL && PyDict_Update(all, kwargs) < 0) {
        Py_CLEAR(all);
    }
    return all;
}

PyDoc_STRVAR(faulthandler_enable_doc,
"enable($module, /, file=None, all_threads=True,\n"
"       c_stack=" LAYOUT_C_STACK_DEFAULT_TEXT ", *,\n"
"       max_threads=100, details=False)\n"
"--\n"
"\n"
"Arm the handlers of fatal signals; returns None.\n"
"\n"
"Called without arguments, a crash prints the report of faulthandler 1.0\n"
"to sys.stderr, which is what importing the module does.  Called with any\n"
"argument, it prints that of the standard library's module to file: an\n"
"object with fileno(), a descriptor, a path, or None for sys.stderr.\n"
"all_threads says whether the other threads are shown, at most max_threads\n"
"of them (0: 100), c_stack whether the C stack is: False, True, or\n"
"\"mixed\" for one traceback of C and Python frames.  With details, the\n"
"lines under the title say what was wrong, and in which thread of which\n"
"process.\n"
"\n"
"The file of a path is opened when there is something to write.  A new one\n"
"can be read by this user only; to one that is there the report is\n"
"appended.  In the file's name %p becomes the process id, %t the time in\n"
"seconds since 1970, %% a percent sign.  The folder must be there and take\n"
"new files; the file must not be a symbolic link, nor, in a folder that\n"
"everybody can write, somebody else's.\n"
"\n"
"Options in the environment variable PYTHONFAULTHANDLER are the defaults of\n"
"these arguments.\n"
"\n"
"Raises RuntimeError if sys.stderr is None, ValueError for a negative\n"
"descriptor, another c_stack or another %, what file.fileno() raises, and\n"
"OSError if no file can be written at the path, or if a handler cannot be\n"
"installed.");

/* Load the unwinder, and learn which part of the evaluation loop calls
   functions: from the call that arms. */
static void
fatal_learn_loop(void)
{
    static struct platform_frame frames[32];
    static struct frame_loops loops;
    struct platform_unwinding u = {.frames = frames, .max = 32};
    struct mem_session session;
    platform_unwind_init();
    if (!layout.frames_known || !LAYOUT_LOOP_PLACES) {
        return;
    }
    mem_begin(&session);
    frame_loops_begin(&loops, (uintptr_t)PyThreadState_Get());
    platform_unwind(&u);
    for (size_t i = 0; i + 1 < u.count; i++) {
        if (loops.result == FRAME_WALK_ON
            && native_mix_holds(&frames[i], loops.place)) {
            native_loop_part = platform_find_start(frames[i].pc - 1);
        }
    }
    mem_end(&session);
}

/* What c_stack= asks for.  Returns -1 with an exception. */
static int
fatal_parse_c_stack(PyObject *argument, struct request *request)
{
    if (argument != NULL && PyUnicode_Check(argument)) {
        if (PyUnicode_CompareWithASCIIString(argument, "mixed") != 0) {
            PyErr_Format(PyExc_ValueError, "c_stack must be False, True or "
                         "'mixed', not %R", argument);
            return -1;
        }
        request->c_stack = request->mixed = true;
        return 0;
    }
    int truth = argument == NULL ? LAYOUT_C_STACK_DEFAULT
                                 : PyObject_IsTrue(argument);
    request->c_stack = truth > 0;
    return truth < 0 ? -1 : 0;
}

/* The sink of enable().  A path from the environment that was good at start-up
   and is not any more does not make the program's own call fail: then it is
   standard error. */
static int
fatal_resolve(PyObject *file, bool is_option, struct sink *sink,
              PyObject **keep)
{
    if (file_resolve(file, sink, keep) == 0) {
        return 0;
    }
    if (!is_option || !PyErr_ExceptionMatches(PyExc_OSError)) {
        return -1;
    }
    PyErr_Clear();
    return file_resolve(NULL, sink, keep);
}

static PyObject *
faulthandler_enable(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"file", "all_threads", "c_stack", "max_threads",
                            "details", NULL};
    struct module_state *state = PyModule_GetState(module);
    PyObject *file = NULL, *c_stack = NULL, *keep;
    struct request request = {.original = false};
    int all_threads = 1, details = 0;
    Py_ssize_t max_threads = 100;
    struct sink sink;
    PyObject *all = fatal_add_options(args, kwargs);
    bool is_option = PyTuple_GET_SIZE(args) == 0
                     && (kwargs == NULL
                         || PyDict_GetItemString(kwargs, "file") == NULL);
    if (all == NULL
        || !PyArg_ParseTupleAndKeywords(args, all, "|OpO$np:enable", names,
                                        &file, &all_threads, &c_stack,
                                        &max_threads, &details)
        || fatal_parse_c_stack(c_stack, &request) < 0
        || fatal_resolve(file, is_option, &sink, &keep) < 0) {
        Py_XDECREF(all);
        return NULL;
    }
    bool plain = PyTuple_GET_SIZE(args) == 0 && PyDict_GET_SIZE(all) == 0;
    Py_DECREF(all);
    int result;
    if (plain) {
        result = fatal_arm_original(&sink);
    }
    else {
        request.sink = sink;
        request.all_threads = all_threads;
        request.max_threads = file_max_threads(max_threads);
        request.details = details;
        if (request.mixed) {
            fatal_learn_loop();
        }
        else if (request.c_stack) {
            platform_backtrace_init();
        }
        fatal_note_modules();
        stack_install();
        result = fatal_arm(&request);
    }
    if (result < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_XDECREF(keep);
        return NULL;
    }
    file_keep(&state->fatal_file, keep);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler_disable_doc,
"disable($module, /)\n"
"--\n"
"\n"
"Disarm the handlers of fatal signals; returns whether they were armed.\n"
"\n"
"What was there before is put back, except where somebody else has\n"
"installed a handler since.");

static PyObject *
faulthandler_disable(PyObject *module, PyObject *args)
{
    struct module_state *state = PyModule_GetState(module);
    (void)args;
    bool was_armed = fatal_disarm();
    file_keep(&state->fatal_file, NULL);
    return PyBool_FromLong(was_armed);
}

PyDoc_STRVAR(faulthandler_isenabled_doc,
"isenabled($module, /)\n"
"--\n"
"\n"
"Return whether the handlers of fatal signals are armed.\n"
"\n"
"The name of faulthandler 1.0 for is_enabled().");

PyDoc_STRVAR(faulthandler_is_enabled_doc,
"is_enabled($module, /)\n"
"--\n"
"\n"
"Return whether the handlers of fatal signals are armed.");

static PyObject *
faulthandler_is_enabled(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    return PyBool_FromLong(atomic_load(&fatal_request) != NULL);
}

/* ==== 18. Dump now ==== */

/* Kept: a mapping of one's own costs more than the dump.  It is made when
   another dump is using this one. */
static struct report_memory dump_memory;
static atomic_bool dump_memory_used;

static struct report_memory *
dump_take_memory(void)
{
    if (!atomic_exchange(&dump_memory_used, true)) {
        return &dump_memory;
    }
    void *memory = mmap(NULL, sizeof dump_memory, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        PyErr_NoMemory();
        return NULL;
    }
    return memory;
}

static void
dump_give_memory(struct report_memory *memory)
{
    if (memory == &dump_memory) {
        atomic_store(&dump_memory_used, false);
    }
    else {
        munmap(memory, sizeof *memory);
    }
}

/* A report that the program asked for.  It is made with the GIL held, when
   the threads stand still, and written with the GIL released, so that the
   reader of a pipe may be another thread of this process. */
static int
dump_report(const struct request *request, enum report_kind kind,
            uintptr_t from)
{
    struct mem_session session;
    struct report r;
    struct report_memory *memory = dump_take_memory();
    if (memory == NULL) {
        return -1;
    }
    memset(&r, 0, sizeof r);
    report_use_memory(&r, memory);
    r.out.own = memory->text;
    r.request = request;
    r.kind = kind;
    r.from = from;
    mem_begin(&session);
    report_write(&r);
    Py_BEGIN_ALLOW_THREADS
    bool mine = report_enter();
    report_finish(&r);
    if (mine) {
        report_leave();
    }
    Py_END_ALLOW_THREADS
    mem_end(&session);
    if (r.out.text != memory->text) {
        munmap(r.out.text, r.out.size);
    }
    dump_give_memory(memory);
    return 0;
}

PyDoc_STRVAR(faulthandler_dump_traceback_doc,
"dump_traceback($module, /, file=None, all_threads=True, *,\n"
"               max_threads=100)\n"
"--\n"
"\n"
"Write the traceback of all threads, or of this one, to file.\n"
"\n"
"file is an object with fileno(), a descriptor, a path, or None for\n"
"sys.stderr.  At most max_threads threads are shown (0: 100), this one\n"
"always.  Returns None.  Raises what enable() raises for file, and\n"
"MemoryError.");

static PyObject *
faulthandler_dump_traceback(PyObject *module, PyObject *args,
                            PyObject *kwargs)
{
    static char *names[] = {"file", "all_threads", "max_threads", NULL};
    PyObject *file = NULL, *keep;
    int all_threads = 1;
    Py_ssize_t max_threads = 100;
    struct request request = {0};
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Op$n:dump_traceback",
                                     names, &file, &all_threads,
                                     &max_threads)
        || file_resolve(file, &request.sink, &keep) < 0) {
        return NULL;
    }
    request.all_threads = all_threads;
    request.max_threads = file_max_threads(max_threads);
    int result = dump_report(&request, REPORT_DUMP, 0);
    file_close_sink(&request.sink);
    Py_XDECREF(keep);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler_dump_c_stack_doc,
"dump_c_stack($module, /, file=None)\n"
"--\n"
"\n"
"Write the C stack of this thread to file: 128 frames, then the count of\n"
"the rest.\n"
"\n"
"file is an object with fileno(), a descriptor, a path, or None for\n"
"sys.stderr.  Returns None.  Raises what enable() raises for file, and\n"
"MemoryError.");

static PyObject *
faulthandler_dump_c_stack(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"file", NULL};
    PyObject *file = NULL, *keep;
    struct request request = {.c_stack = true};
    (void)module;
    uintptr_t from = (uintptr_t)__builtin_return_address(0);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:dump_c_stack", names,
                                     &file)
        || file_resolve(file, &request.sink, &keep) < 0) {
        return NULL;
    }
    platform_backtrace_init();
    int result = dump_report(&request, REPORT_C_STACK, from);
    file_close_sink(&request.sink);
    Py_XDECREF(keep);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ==== 19. Watchdog ==== */

/* cancel_dump_traceback_later() waits this long for the thread to end. */
#define LATER_JOIN_NS INT64_C(900000000)

/* The least size of its stack.  The usual one has room for the thread-local
   variables of all libraries, which are on it too. */
#define LATER_STACK_SIZE (256 * 1024)

/* 73 years: later than any clock gets when it is added to. */
#define LATER_MAX_US (INT64_MAX / 4000)

/* One armed watchdog.  Shared by its thread and by who armed it; the last
   one frees it, so that neither has to wait for the other. */
struct later_job {
    atomic_int owners;
    atomic_bool cancelled;
    bool repeat, exit, done;
    int64_t interval;
    char title[64];
    uintptr_t interp;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct request request;
    struct report_memory memory;
};

static struct later_job *later_current;     /* written under state_lock */

static void
later_release(struct later_job *job)
{
    if (atomic_fetch_sub(&job->owners, 1) == 1) {
        file_close_sink(&job->request.sink);
        pthread_cond_destroy(&job->changed);
        pthread_mutex_destroy(&job->lock);
        munmap(job, sizeof *job);
    }
}

/* In a child of fork(), whose watchdog has no thread: nobody else closes its
   file. */
static void
later_forget(void)
{
    struct later_job *job = later_current;
    later_current = NULL;
    if (job != NULL) {
        file_close_sink(&job->request.sink);
        munmap(job, sizeof *job);
    }
}

/* Wait on the job's condition until a time, with its lock held. */
static void
later_wait(struct later_job *job, int64_t until)
{
    struct timespec t = {.tv_sec = (time_t)(until / 1000000000),
                         .tv_nsec = (long)(until % 1000000000)};
    pthread_cond_timedwait(&job->changed, &job->lock, &t);
}

/* Write the report.  No GIL: the threads run meanwhile. */
static void
later_report(struct later_job *job)
{
    struct mem_session session;
    struct report r;
    memset(&r, 0, sizeof r);
    report_use_memory(&r, &job->memory);
    r.out.cancelled = &job->cancelled;
    r.request = &job->request;
    r.kind = REPORT_LATER;
    r.title = job->title;
    r.interp = job->interp;
    mem_begin(&session);
    bool mine = report_enter();
    report_write(&r);
    report_finish(&r);
    if (mine) {
        report_leave();
    }
    mem_end(&session);
    if (job->exit && !job->cancelled) {
        _exit(1);
    }
}

/* The watchdog's thread.  All signals are blocked in it. */
static void *
later_run(void *argument)
{
    struct later_job *job = argument;
    int64_t due = platform_now();
    pthread_mutex_lock(&job->lock);
    do {
        due += job->interval;
        while (!job->cancelled && platform_now() < due) {
            later_wait(job, due);
        }
        if (!job->cancelled) {
            pthread_mutex_unlock(&job->lock);
            later_report(job);
            pthread_mutex_lock(&job->lock);
        }
        /* A report that took longer than the interval skips its turns. */
        int64_t now = platform_now();
        due = due + job->interval < now ? now : due;
    } while (job->repeat && !job->cancelled);
    job->done = true;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    later_release(job);
    return NULL;
}

/* Put a watchdog, or NULL, in place of the current one.  Tell that to end, and
   wait for it, but not for long: where it is stuck in a write it ends by
   itself, on its own duplicate of the file.  No GIL. */
static void
later_replace(struct later_job *next)
{
    pthread_mutex_lock(&state_lock);
    struct later_job *job = later_current;
    later_current = next;
    pthread_mutex_unlock(&state_lock);
    if (job == NULL) {
        return;
    }
    int64_t until = platform_now() + LATER_JOIN_NS;
    pthread_mutex_lock(&job->lock);
    job->cancelled = true;
    pthread_cond_broadcast(&job->changed);
    while (!job->done && platform_now() < until) {
        later_wait(job, until);
    }
    pthread_mutex_unlock(&job->lock);
    later_release(job);
}

/* Allocate a job.  A mapping: its memory is touched only where it is used. */
static struct later_job *
later_new_job(void)
{
    pthread_condattr_t attributes;
    struct later_job *job = mmap(NULL, sizeof *job, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (job == MAP_FAILED) {
        return NULL;
    }
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    job->owners = 2;
    return job;
}

/* Start the job's thread.  Returns an error number. */
static int
later_start(struct later_job *job)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, mask;
    size_t size = 0;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_getstacksize(&attributes, &size);
    if (size < LATER_STACK_SIZE) {
        pthread_attr_setstacksize(&attributes, LATER_STACK_SIZE);
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    error = pthread_create(&thread, &attributes, later_run, job);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/* "Timeout (0:00:05)!" and the end of the line; with microseconds where
   there are any. */
static void
later_format_title(struct later_job *job, int64_t microseconds)
{
    int64_t s = microseconds / 1000000, us = microseconds % 1000000;
    int n = PyOS_snprintf(job->title, sizeof job->title,
                          "Timeout (%lld:%02d:%02d", (long long)(s / 3600),
                          (int)(s / 60 % 60), (int)(s % 60));
    if (us != 0) {
        n += PyOS_snprintf(job->title + n, sizeof job->title - (size_t)n,
                           ".%06d", (int)us);
    }
    PyOS_snprintf(job->title + n, sizeof job->title - (size_t)n, ")!\n");
}

/* A timeout in seconds as microseconds, rounded up twice as Python does, since
   the title tells them: 1.07 is 1.070001.  Returns -1 with an exception. */
static int64_t
later_parse_timeout(PyObject *timeout)
{
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError,
                        "Invalid value NaN (not a number)");
        return -1;
    }
    double nanoseconds = ceil(seconds * 1e9);
    if (!(fabs(nanoseconds) < 0x1p63)) {
        PyErr_SetString(PyExc_OverflowError,
                        "timestamp out of range for C PyTime_t");
        return -1;
    }
    if (seconds <= 0.0) {
        PyErr_SetString(PyExc_ValueError, "timeout must be greater than 0");
        return -1;
    }
    int64_t whole = (int64_t)nanoseconds;
    return whole / 1000 + (whole % 1000 != 0);
}

PyDoc_STRVAR(faulthandler_dump_traceback_later_doc,
"dump_traceback_later($module, /, timeout, repeat=False, file=None,\n"
"                     exit=False, *, max_threads=100)\n"
"--\n"
"\n"
"Write the traceback of all threads to file in timeout seconds.\n"
"\n"
"repeat: again every timeout seconds, until cancelled.  exit: leave with\n"
"_exit(1) after the first report.  A call replaces the one before it.  file\n"
"is an object with fileno(), a descriptor, a path, which each report opens\n"
"anew, or None for sys.stderr.  Returns None.  Raises ValueError if timeout\n"
"is not positive, OverflowError if it is too large, RuntimeError if no\n"
"thread can be started, and what enable() raises for file.");

static PyObject *
faulthandler_dump_traceback_later(PyObject *module, PyObject *args,
                                  PyObject *kwargs)
{
    static char *names[] = {"timeout", "repeat", "file", "exit",
                            "max_threads", NULL};
    struct module_state *state = PyModule_GetState(module);
    PyObject *timeout, *file = NULL, *keep;
    int repeat = 0, exit_after = 0;
    Py_ssize_t max_threads = 100;
    struct sink sink;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "O|pOp$n:dump_traceback_later", names,
                                     &timeout, &repeat, &file, &exit_after,
                                     &max_threads)) {
        return NULL;
    }
    int64_t microseconds = later_parse_timeout(timeout);
    if (microseconds < 0 || file_resolve(file, &sink, &keep) < 0) {
        return NULL;
    }
    struct later_job *job = later_new_job();
    if (job == NULL) {
        file_close_sink(&sink);
        Py_XDECREF(keep);
        return PyErr_NoMemory();
    }
    job->repeat = repeat;
    job->exit = exit_after;
    job->interval = 1000 * (microseconds < LATER_MAX_US ? microseconds
                                                        : LATER_MAX_US);
    job->interp = (uintptr_t)PyThreadState_Get()->interp;
    job->request.sink = sink;
    job->request.all_threads = true;
    job->request.max_threads = file_max_threads(max_threads);
    later_format_title(job, microseconds);
    int error = later_start(job);
    if (error != 0) {
        job->owners = 1;
        later_release(job);
        Py_XDECREF(keep);
        PyErr_Format(PyExc_RuntimeError, "unable to start watchdog thread: %s",
                     strerror(error));
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    later_replace(job);
    Py_END_ALLOW_THREADS
    file_keep(&state->later_file, keep);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler_cancel_dump_traceback_later_doc,
"cancel_dump_traceback_later($module, /)\n"
"--\n"
"\n"
"Cancel the last call of dump_traceback_later(), if there is one; returns\n"
"None, within a second.");

static PyObject *
faulthandler_cancel_dump_traceback_later(PyObject *module, PyObject *args)
{
    struct module_state *state = PyModule_GetState(module);
    (void)args;
    Py_BEGIN_ALLOW_THREADS
    later_replace(NULL);
    Py_END_ALLOW_THREADS
    file_keep(&state->later_file, NULL);
    Py_RETURN_NONE;
}

/* ==== 20. User signals ==== */

/* What a signal prints.  Two slots a signal, so that the one in use is never
   written. */
struct user_request {
    struct request request;
    bool chain;
};

static struct user_signal {
    _Atomic(struct user_request *) active;      /* NULL: not registered */
    struct user_request slots[2];
    struct sigaction previous;
} user_signals[NSIG];

static struct report_memory user_memory;

#define USER_SKIPPED "<traceback skipped: another report is being written>\n"

/* Say that there is no report, since another one takes too long.  Its buffer
   is not ours to use. */
static void
user_skip(const struct request *request)
{
    char text[] = USER_SKIPPED;
    struct out o = {
        .text = text, .size = sizeof text, .used = sizeof text - 1,
        .sink = &request->sink, .deadline = platform_now() + OUT_STALL_NS,
    };
    out_flush(&o);
    out_close(&o);
}

/* Write the report. */
__attribute__((noinline)) static void
user_report(void *argument)
{
    const struct request *request = argument;
    struct mem_session session;
    struct report r;
    mem_begin(&session);
    if (!report_enter()) {
        user_skip(request);
    }
    else {
        memset(&r, 0, sizeof r);
        report_use_memory(&r, &user_memory);
        r.request = request;
        r.kind = REPORT_USER;
        report_write(&r);
        report_finish(&r);
        report_leave();
    }
    mem_end(&session);
}

/* Let the default action happen, then be there again: it may have stopped
   the process only for a while. */
static void
user_chain_default(int signum, const struct sigaction *previous)
{
    struct sigaction ours;
    sigset_t one, mask;
    sigemptyset(&one);
    sigaddset(&one, signum);
    sigaction(signum, previous, &ours);
    syscall(SYS_tgkill, getpid(), platform_thread_id(), signum);
    pthread_sigmask(SIG_UNBLOCK, &one, &mask);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    sigaction(signum, &ours, NULL);
}

/* Call the handler that was there before, as the kernel would have. */
static void
user_chain(int signum, siginfo_t *info, void *context,
           struct user_signal *user)
{
    struct sigaction previous = user->previous;
    sigset_t mask;
    if (previous.sa_handler == SIG_IGN) {
        return;
    }
    if (previous.sa_handler == SIG_DFL) {
        user_chain_default(signum, &previous);
        return;
    }
    if (previous.sa_flags & (int)SA_RESETHAND) {
        user->previous.sa_flags &= ~SA_SIGINFO;
        user->previous.sa_handler = SIG_DFL;
    }
    pthread_sigmask(SIG_BLOCK, &previous.sa_mask, &mask);
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(signum, info, context);
    }
    else {
        previous.sa_handler(signum);
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* Whose handler before ours is being called, in which frame: that handler may
   be one that chains to ours, registered again above it. */
struct user_chained {
    int signum;
    const void *context;
    uintptr_t frame;
};
THREAD_LOCAL struct user_chained user_chained;

/* The handler of registered signals. */
static void
on_user_signal(int signum, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    struct user_signal *user = &user_signals[signum];
    struct user_request *request = atomic_load(&user->active);
    struct user_chained outer = user_chained;
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    if (outer.signum == signum && outer.context == context
        && frame < outer.frame) {
        return;
    }
    if (request != NULL && !stack_is_small(context)) {
        user_report(&request->request);
    }
    else if (request != NULL
             && !stack_call_on_spare(&stack_user_spare, user_report,
                                     &request->request)) {
        user_skip(&request->request);
    }
    errno = saved_errno;
    if (request != NULL && request->chain) {
        user_chained = (struct user_chained) {signum, context, frame};
        user_chain(signum, info, context, user);
        user_chained = outer;
    }
}

/* The number of a signal that can be registered.  Returns -1 with an
   exception. */
static int
user_parse_signal(PyObject *argument)
{
    int signum;
    if (file_parse_int(argument, &signum) < 0) {
        return -1;
    }
    if (fault_find(signum) != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "signal %d cannot be registered, use enable() instead",
                     signum);
        return -1;
    }
    if (signum < 1 || signum >= NSIG) {
        PyErr_SetString(PyExc_ValueError, "signal number out of range");
        return -1;
    }
    return signum;
}

/* The flags of our handler.  With chain the other handler decides whether
   system calls are restarted, on which stack it runs and what it may
   interrupt: it must find what it asked for. */
static int
user_flags(const struct sigaction *previous, bool chain)
{
    if (chain && sig_is_handler(previous)) {
        return previous->sa_flags & (SA_RESTART | SA_ONSTACK | SA_NODEFER
                                     | SA_NOCLDSTOP | SA_NOCLDWAIT);
    }
    return SA_RESTART | SA_ONSTACK;
}

/* Close the files of the slots that are not in use.  A handler in another
   thread may be writing to one: reports of user signals hold the door.  Where
   it is not to be had for long, the file stays open until the next call:
   better than a report in the file that gets its number. */
static void
user_close_sinks(struct user_signal *user)
{
    struct mem_session session;
    Py_BEGIN_ALLOW_THREADS
    mem_begin(&session);        /* no signal of our own meanwhile */
    if (report_enter()) {
        /* Not to wait: its holder may be a handler that waits for us. */
        if (pthread_mutex_trylock(&state_lock) == 0) {
            for (size_t i = 0; i < 2; i++) {
                if (&user->slots[i] != atomic_load(&user->active)) {
                    file_close_sink(&user->slots[i].request.sink);
                }
            }
            pthread_mutex_unlock(&state_lock);
        }
        report_leave();
    }
    mem_end(&session);
    Py_END_ALLOW_THREADS
}

/* Fill the slot that is not in use, publish it, install the handler.
   Returns -1 with errno. */
static int
user_arm(int signum, struct user_request *request)
{
    struct user_signal *user = &user_signals[signum];
    pthread_mutex_lock(&state_lock);
    struct user_request *before = atomic_load(&user->active);
    struct user_request *slot = &user->slots[before == &user->slots[0]];
    int result = 0, error = 0;
    /* The last file of this slot is still being written to, as long as a
       report may take. */
    for (int tries = 0; tries < 3 && slot->request.sink.kind != SINK_NOWHERE;
         tries++) {
        pthread_mutex_unlock(&state_lock);
        user_close_sinks(user);
        pthread_mutex_lock(&state_lock);
        before = atomic_load(&user->active);
        slot = &user->slots[before == &user->slots[0]];
    }
    *slot = *request;
    if (before == NULL) {
        result = sigaction(signum, NULL, &user->previous);
    }
    if (result == 0 && (before == NULL
                        || platform_handler_is(signum, on_user_signal))) {
        result = sig_install(signum, on_user_signal,
                             user_flags(&user->previous, request->chain),
                             NULL);
    }
    error = errno;
    if (result == 0) {
        atomic_store(&user->active, slot);
    }
    pthread_mutex_unlock(&state_lock);
    if (result < 0) {
        file_close_sink(&slot->request.sink);
    }
    else if (before != NULL) {
        user_close_sinks(user);
    }
    errno = error;
    return result;
}

PyDoc_STRVAR(faulthandler_register_doc,
"register($module, /, signum, file=None, all_threads=True, chain=False, *,\n"
"         max_threads=100)\n"
"--\n"
"\n"
"Write the traceback of all threads, or of the one that gets it, to file\n"
"whenever the signal signum comes.\n"
"\n"
"file is an object with fileno(), a descriptor, a path, which each report\n"
"opens anew, or None for sys.stderr.  chain: then call the handler that was\n"
"there before.  Where that is the default action, it happens: for most\n"
"signals the process ends.  Returns None.  Raises RuntimeError for the\n"
"signals that enable() arms, ValueError if signum is out of range, OSError\n"
"if it cannot be handled, and what enable() raises for file.");

static PyObject *
faulthandler_register(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"signum", "file", "all_threads", "chain",
                            "max_threads", NULL};
    struct module_state *state = PyModule_GetState(module);
    PyObject *number, *file = NULL, *keep;
    int signum, all_threads = 1, chain = 0;
    Py_ssize_t max_threads = 100;
    struct sink sink;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Opp$n:register", names,
                                     &number, &file, &all_threads, &chain,
                                     &max_threads)
        || (signum = user_parse_signal(number)) < 0
        || file_resolve(file, &sink, &keep) < 0) {
        return NULL;
    }
    struct user_request request = {
        .request = {.sink = sink, .all_threads = all_threads,
                    .max_threads = file_max_threads(max_threads)},
        .chain = chain,
    };
    if (user_arm(signum, &request) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_XDECREF(keep);
        return NULL;
    }
    file_keep(&state->user_files[signum], keep);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler_unregister_doc,
"unregister($module, signum, /)\n"
"--\n"
"\n"
"Take back register(signum); returns whether it was registered.\n"
"\n"
"Raises RuntimeError for the signals that enable() arms, and ValueError if\n"
"signum is out of range.");

static PyObject *
faulthandler_unregister(PyObject *module, PyObject *number)
{
    struct module_state *state = PyModule_GetState(module);
    int signum = user_parse_signal(number);
    if (signum < 0) {
        return NULL;
    }
    struct user_signal *user = &user_signals[signum];
    pthread_mutex_lock(&state_lock);
    struct user_request *active = atomic_load(&user->active);
    if (active != NULL) {
        sig_restore(signum, on_user_signal, &user->previous);
        atomic_store(&user->active, NULL);
    }
    pthread_mutex_unlock(&state_lock);
    if (active != NULL) {
        user_close_sinks(user);
    }
    file_keep(&state->user_files[signum], NULL);
    return PyBool_FromLong(active != NULL);
}

/* ==== 21. Contexts ==== */

/* A note is changed by its own thread only, without a lock: the sequence tells
   a reader, who may be a handler in another thread or in the middle of this
   one's change, that it is odd or not what it was. */

THREAD_LOCAL struct thread_context *context_mine;

static pthread_key_t context_key;
static bool context_key_made;
static atomic_int context_free;             /* notes that nobody has */

/* Set the text of a note, None for no text. */
static void
context_write(struct thread_context *note, PyObject *text, Py_ssize_t length)
{
    unsigned sequence = atomic_load_explicit(&note->sequence,
                                             memory_order_relaxed) | 1;
    atomic_store_explicit(&note->sequence, sequence, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    note->width = 0;
    if (text != Py_None) {
        note->cut = length > THREAD_CONTEXT_MAX;
        note->length = (uint16_t)(note->cut ? THREAD_CONTEXT_MAX : length);
        note->width = (uint8_t)PyUnicode_KIND(text);
        memcpy(note->text, PyUnicode_DATA(text),
               (size_t)note->length * note->width);
    }
    atomic_store_explicit(&note->sequence, sequence + 1,
                          memory_order_release);
}

/* A thread ends: its note is the next one's. */
static void
context_on_exit(void *argument)
{
    struct thread_context *note = argument;
    context_mine = NULL;
    context_write(note, Py_None, 0);
    atomic_store(&note->ident, 0);
    atomic_fetch_add(&context_free, 1);
}

/* A child of fork() has this thread only.  Another one of it may get the
   identity of one that is gone. */
static void
context_after_fork(void)
{
    struct thread_context *note = atomic_load(&thread_contexts);
    int count = 0;
    for (; note != NULL; note = note->next) {
        if (note != context_mine) {
            atomic_store(&note->ident, 0);
            note->width = 0;
            count++;
        }
    }
    atomic_store(&context_free, count);
}

/* Find a note that is free, or make one.  Returns NULL if there is no
   memory. */
static struct thread_context *
context_take(void)
{
    uintptr_t self = (uintptr_t)pthread_self();
    struct thread_context *note = NULL;
    if (atomic_load(&context_free) > 0) {
        note = atomic_load(&thread_contexts);
    }
    for (; note != NULL; note = note->next) {
        uintptr_t nobody = 0;
        if (atomic_compare_exchange_strong(&note->ident, &nobody, self)) {
            atomic_fetch_sub(&context_free, 1);
            return note;
        }
    }
    note = PyMem_RawCalloc(1, sizeof *note);
    if (note != NULL) {
        atomic_init(&note->ident, self);
        note->next = atomic_load(&thread_contexts);
        while (!atomic_compare_exchange_weak(&thread_contexts, &note->next,
                                             note)) {
        }
    }
    return note;
}

/* Give the calling thread a note.  Returns -1 with an exception. */
static int
context_begin(void)
{
    struct thread_context *note = context_key_made ? context_take() : NULL;
    if (note == NULL || pthread_setspecific(context_key, note) != 0) {
        if (note != NULL) {
            context_on_exit(note);
        }
        PyErr_NoMemory();
        return -1;
    }
    context_mine = note;
    return 0;
}

PyDoc_STRVAR(faulthandler_context_doc,
"context($module, text, /)\n"
"--\n"
"\n"
"Say what this thread is about; returns what it said before, or None.\n"
"\n"
"text is a str of which the first 200 characters are kept: a request's id,\n"
"the name of a test.  A report with details shows it with this thread until\n"
"another call changes it; None takes it away.  Raises TypeError for\n"
"anything else, and MemoryError.");

static PyObject *
faulthandler_context(PyObject *module, PyObject *text)
{
    PyObject *before = Py_None;
    (void)module;
    if (text != Py_None && !PyUnicode_Check(text)) {
        return PyErr_Format(PyExc_TypeError, "context() argument must be str "
                            "or None, not %.100s", Py_TYPE(text)->tp_name);
    }
    Py_ssize_t length = text == Py_None ? 0 : PyUnicode_GetLength(text);
    if (length < 0 || (context_mine == NULL && context_begin() < 0)) {
        return NULL;
    }
    struct thread_context *note = context_mine;
    if (note->width == 0) {
        Py_INCREF(before);
    }
    else {
        before = PyUnicode_FromKindAndData(note->width, note->text,
                                           note->length);
    }
    if (before != NULL) {
        context_write(note, text, length);
    }
    return before;
}

/* ==== 22. Crash on purpose ==== */

UNSANITIZED static void
crash_read_null(void)
{
    volatile int *volatile nowhere = NULL;
    (void)*nowhere;
}

UNSANITIZED static int
crash_divide(void)
{
    volatile int one = 1, zero = 0;
    volatile int result = one / zero;
    /* Where the processor does not mind. */
    raise(SIGFPE);
    return result;
}

#define CRASH_STACK_MAX (100 * 1024 * 1024)

/* Recurse until the stack ends.  Returns how much of it there was, if it is
   larger than expected. */
UNSANITIZED static uintptr_t
crash_recurse(uintptr_t start, size_t *depth)
{
    volatile char frame[4096];
    uintptr_t here = (uintptr_t)frame;
    uintptr_t used = start > here ? start - here : here - start;
    frame[0] = (char)++*depth;
    if (used > CRASH_STACK_MAX) {
        return used;
    }
    return crash_recurse(start, depth) + (frame[0] == 1);
}

static PyObject *
crash_sigsegv(int release_gil)
{
    if (release_gil) {
        Py_BEGIN_ALLOW_THREADS
        crash_read_null();
        Py_END_ALLOW_THREADS
    }
    else {
        crash_read_null();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler_sigsegv_doc,
"sigsegv($module, /, release_gil=False)\n"
"--\n"
"\n"
"Crash with SIGSEGV: read the address 0, without the GIL if release_gil.");

static PyObject *
faulthandler_sigsegv(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"release_gil", NULL};
    int release_gil = 0;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:sigsegv", names,
                                     &release_gil)) {
        return NULL;
    }
    return crash_sigsegv(release_gil);
}

PyDoc_STRVAR(faulthandler__sigsegv_doc,
"_sigsegv($module, release_gil=False, /)\n"
"--\n"
"\n"
"Crash with SIGSEGV.  The standard library's name for sigsegv().");

static PyObject *
faulthandler__sigsegv(PyObject *module, PyObject *args)
{
    int release_gil = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "|p:_sigsegv", &release_gil)) {
        return NULL;
    }
    return crash_sigsegv(release_gil);
}

PyDoc_STRVAR(faulthandler__read_null_doc,
"_read_null($module, /)\n"
"--\n"
"\n"
"Crash with SIGSEGV: read the address 0.");

static PyObject *
faulthandler__read_null(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    crash_read_null();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler_sigfpe_doc,
"sigfpe($module, /)\n"
"--\n"
"\n"
"Crash with SIGFPE: divide by zero.");

PyDoc_STRVAR(faulthandler__sigfpe_doc,
"_sigfpe($module, /)\n"
"--\n"
"\n"
"Crash with SIGFPE.  The standard library's name for sigfpe().");

static PyObject *
faulthandler_sigfpe(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    return PyLong_FromLong(crash_divide());
}

PyDoc_STRVAR(faulthandler_sigbus_doc,
"sigbus($module, /)\n"
"--\n"
"\n"
"Crash with SIGBUS: raise it in this thread.");

static PyObject *
faulthandler_sigbus(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    raise(SIGBUS);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler_sigill_doc,
"sigill($module, /)\n"
"--\n"
"\n"
"Crash with SIGILL: raise it in this thread.");

static PyObject *
faulthandler_sigill(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    raise(SIGILL);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler__sigabrt_doc,
"_sigabrt($module, /)\n"
"--\n"
"\n"
"Crash with SIGABRT: call abort().");

static PyObject *
faulthandler__sigabrt(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    abort();
}

PyDoc_STRVAR(faulthandler__stack_overflow_doc,
"_stack_overflow($module, /)\n"
"--\n"
"\n"
"Crash with SIGSEGV: call a function until the stack is full.\n"
"\n"
"Raises RuntimeError if it takes more than 100 MiB.");

static PyObject *
faulthandler__stack_overflow(PyObject *module, PyObject *args)
{
    size_t depth = 0;
    char here;
    (void)module, (void)args;
    uintptr_t used = crash_recurse((uintptr_t)&here, &depth);
    PyErr_Format(PyExc_RuntimeError,
                 "unable to raise a stack overflow (allocated %zu bytes "
                 "on the stack, %zu recursive calls)",
                 (size_t)used, depth);
    return NULL;
}

PyDoc_STRVAR(faulthandler__fatal_error_doc,
"_fatal_error($module, message, release_gil=False, /)\n"
"--\n"
"\n"
"Crash with SIGABRT: call Py_FatalError() with a message of bytes, without\n"
"the GIL if release_gil.");

/* Up to 3.9 test suites look for the name of this function in the message. */
static PyObject *
faulthandler_fatal_error_py(PyObject *module, PyObject *args)
{
    const char *message;
    int release_gil = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "y|p:_fatal_error", &message,
                          &release_gil)) {
        return NULL;
    }
    if (release_gil) {
        PyEval_SaveThread();
    }
    Py_FatalError(message);
}

/* The name appears in Py_FatalError()'s message, where test suites look for
   it. */
static void *
faulthandler_fatal_error_thread(void *unused)
{
    (void)unused;
    Py_FatalError("in new thread");
}

PyDoc_STRVAR(faulthandler__fatal_error_c_thread_doc,
"_fatal_error_c_thread($module, /)\n"
"--\n"
"\n"
"Crash with SIGABRT: call Py_FatalError() in a thread that Python does not\n"
"know.");

static PyObject *
faulthandler__fatal_error_c_thread(PyObject *module, PyObject *args)
{
    pthread_t thread;
    (void)module, (void)args;
    int error = pthread_create(&thread, NULL,
                               faulthandler_fatal_error_thread, NULL);
    if (error != 0) {
        PyErr_Format(PyExc_RuntimeError, "unable to start the thread: %s",
                     strerror(error));
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* ==== 23. Module ==== */


#define MODULE_TEST_FRAMES 32

static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER;
static bool module_at_exit_set;

/* A child of fork() has one thread, and none of the claims of the others. */
static void
module_after_fork(void)
{
    pthread_mutex_init(&state_lock, NULL);
    pthread_mutex_init(&module_lock, NULL);
    later_forget();
    atomic_store(&report_door, 0);
    atomic_store(&fatal_claim, 0);
    fatal_pid = getpid();
    atomic_store(&mem_direct_users, 0);
    atomic_store(&mem_direct_closed, false);
    atomic_store(&dump_memory_used, false);
    atomic_store(&stack_fatal_spare.thread, 0);
    atomic_store(&stack_user_spare.thread, 0);
    context_after_fork();
}

/* Does our walk find the code object and the line of a frame object? */
static bool
module_frame_agrees(PyObject *frame, const struct frame_walk *w)
{
    PyObject *code = PyObject_GetAttrString(frame, "f_code");
    PyObject *line = PyObject_GetAttrString(frame, "f_lineno");
    int ours = frame_line(&w->frame, &w->code);
    bool agrees = code != NULL && line != NULL
                  && w->code.at == (uintptr_t)code;
    if (agrees && line == Py_None) {
        agrees = ours == CODE_NO_LINE;
    }
    else if (agrees) {
        agrees = PyLong_AsLong(line) == ours;
    }
    Py_XDECREF(code);
    Py_XDECREF(line);
    return agrees;
}

/* Does our reading of a code object's name give the name? */
static bool
module_name_agrees(PyObject *frame, const struct frame_walk *w)
{
    char text[512];
    struct out o = {.text = text, .size = sizeof text};
    PyObject *code = PyObject_GetAttrString(frame, "f_code");
    PyObject *name = code == NULL ? NULL
                     : PyObject_GetAttrString(code, "co_name");
    const char *expected = name == NULL ? NULL : PyUnicode_AsUTF8(name);
    bool agrees = expected != NULL && str_write(&o, w->code.name) == 0;
    if (agrees && strlen(expected) < 40 && PyUnicode_IS_ASCII(name)) {
        agrees = o.used == strlen(expected)
                 && memcmp(text, expected, o.used) == 0;
    }
    Py_XDECREF(code);
    Py_XDECREF(name);
    return agrees;
}

/* Walk our own stack as a handler would, and compare it with what the
   interpreter says of itself.  Importing a module always has frames: those
   of the import system. */
static bool
module_walk_agrees(void)
{
    struct frame_walk w;
    PyObject *frame = (PyObject *)PyEval_GetFrame();
    enum frame_walk_result result = frame_walk_begin(&w,
                                              (uintptr_t)PyThreadState_Get());
    bool agrees = frame != NULL;
    Py_XINCREF(frame);
    for (int i = 0; agrees && i < MODULE_TEST_FRAMES; i++) {
        if (result == FRAME_WALK_ON) {
            result = frame_walk_next(&w);
        }
        if (frame == NULL || frame == Py_None || result != FRAME_WALK_ON) {
            agrees = frame == Py_None && result == FRAME_WALK_END;
            break;
        }
        agrees = module_frame_agrees(frame, &w)
                 && module_name_agrees(frame, &w);
        PyObject *back = PyObject_GetAttrString(frame, "f_back");
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    PyErr_Clear();
    return agrees;
}

/* Is our own thread among those that we find? */
static bool
module_threads_agree(struct thread_list *list)
{
    struct thread t;
    thread_list_fill(list, 0);
    return !list->damaged && thread_find_current(list, &t)
           && t.at == (uintptr_t)PyThreadState_Get()
           && t.interp == (uintptr_t)PyThreadState_Get()->interp;
}

static bool
module_self_test(void)
{
    struct mem_session session;
    bool agrees = false;
    struct thread_list *list = PyMem_RawMalloc(sizeof *list);
    if (list != NULL) {
        mem_begin(&session);
        agrees = module_threads_agree(list) && module_walk_agrees();
        mem_end(&session);
    }
    PyMem_RawFree(list);
    return agrees;
}

/* Note the code of the functions that print a traceback and abort. */
static void
module_note_printers(void)
{
    static const char *const names[FAULT_PRINTERS] = {
        "Py_FatalError", "_Py_FatalErrorFunc", "_Py_FatalErrorFormat",
        "_Py_FatalRefcountErrorFunc",
    };
    for (size_t i = 0; i < FAULT_PRINTERS; i++) {
        fault_printers[i] = platform_find_code(names[i]);
    }
    fault_abort = platform_find_code("abort");
}

/* What is done once a process, under the GIL of whoever comes first. */
static int
module_init_process(void)
{
    static bool done;
    int result = 0;
    /* Interpreters with GILs of their own may come at the same time. */
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&module_lock);
    Py_END_ALLOW_THREADS
    if (!done && layout_init() < 0) {
        PyErr_NoMemory();
        result = -1;
    }
    else if (!done) {
        mem_handler = on_fatal_signal;
        fatal_pid = getpid();
        strncpy(report_python, Py_GetVersion(), sizeof report_python - 1);
        report_python[strcspn(report_python, " ")] = '\0';
        stack_init();
        context_key_made = pthread_key_create(&context_key,
                                              context_on_exit) == 0;
        pthread_atfork(NULL, NULL, module_after_fork);
        module_note_printers();
        native_loop = platform_find_code("_PyEval_EvalFrameDefault");
        done = true;
    }
    pthread_mutex_unlock(&module_lock);
    return result;
}

/* The watchdog must not outlive the interpreter that it looks at. */
static void
module_at_exit(void)
{
    module_at_exit_set = false;
    later_replace(NULL);
}


/* Importing arms, unless something has: the settings of an earlier enable()
   stay. */
static int
module_exec(PyObject *module)
{
    struct sink sink;
    if (module_init_process() < 0
        || PyModule_AddIntConstant(module, "version",
                                   FAULTHANDLER_VERSION) < 0) {
        return -1;
    }
    if (!module_at_exit_set
        && PyThreadState_Get()->interp == PyInterpreterState_Main()) {
        module_at_exit_set = Py_AtExit(module_at_exit) == 0;
    }
    if (atomic_load(&fatal_request) == NULL) {
        file_standard_error(&sink);
        if (fatal_arm_original(&sink) < 0) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
    }
    if (!layout.frames_known) {
        thread_importer = (uintptr_t)PyThreadState_Get();
        if (platform_thread_id() == getpid()) {
            frame_main_ident = (uintptr_t)pthread_self();
        }
        layout.frames_known = module_self_test();
    }
    return stack_wrap_starters();
}

/* 3.8 calls these before there is a state. */
static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = PyModule_GetState(module);
    if (state == NULL) {
        return 0;
    }
    Py_VISIT(state->fatal_file);
    Py_VISIT(state->later_file);
    for (int i = 0; i < NSIG; i++) {
        Py_VISIT(state->user_files[i]);
    }
    return 0;
}

static int
module_clear(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    if (state == NULL) {
        return 0;
    }
    Py_CLEAR(state->fatal_file);
    Py_CLEAR(state->later_file);
    for (int i = 0; i < NSIG; i++) {
        Py_CLEAR(state->user_files[i]);
    }
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

#define MODULE_KEYWORDS(name) \
    {#name, (PyCFunction)(void (*)(void))faulthandler_##name, \
     METH_VARARGS | METH_KEYWORDS, faulthandler_##name##_doc}
#define MODULE_POSITIONAL(name) \
    {#name, faulthandler_##name, METH_VARARGS, faulthandler_##name##_doc}
#define MODULE_PLAIN(name, function) \
    {#name, faulthandler_##function, METH_NOARGS, faulthandler_##name##_doc}

static PyMethodDef module_methods[] = {
    MODULE_KEYWORDS(enable),
    MODULE_PLAIN(disable, disable),
    MODULE_PLAIN(isenabled, is_enabled),
    MODULE_PLAIN(is_enabled, is_enabled),
    MODULE_KEYWORDS(dump_traceback),
    MODULE_KEYWORDS(dump_c_stack),
    MODULE_KEYWORDS(dump_traceback_later),
    MODULE_PLAIN(cancel_dump_traceback_later, cancel_dump_traceback_later),
    MODULE_KEYWORDS(register),
    {"unregister", faulthandler_unregister, METH_O,
     faulthandler_unregister_doc},
    {"context", faulthandler_context, METH_O, faulthandler_context_doc},
    MODULE_KEYWORDS(sigsegv),
    MODULE_PLAIN(sigfpe, sigfpe),
    MODULE_PLAIN(sigbus, sigbus),
    MODULE_PLAIN(sigill, sigill),
    MODULE_POSITIONAL(_sigsegv),
    MODULE_PLAIN(_sigfpe, sigfpe),
    MODULE_PLAIN(_sigabrt, _sigabrt),
    MODULE_PLAIN(_read_null, _read_null),
    MODULE_PLAIN(_stack_overflow, _stack_overflow),
    {"_fatal_error", faulthandler_fatal_error_py, METH_VARARGS,
     faulthandler__fatal_error_doc},
    MODULE_PLAIN(_fatal_error_c_thread, _fatal_error_c_thread),
    {NULL, NULL, 0, NULL}
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
    LAYOUT_MODULE_SLOTS
    {0, NULL}
};

PyDoc_STRVAR(module_doc,
"Print the Python traceback when the process dies of a signal.\n"
"\n"
"Importing the module arms it: a segmentation fault, a floating point\n"
"exception, a bus error, an illegal instruction or an abort then writes the\n"
"traceback of all threads to standard error before the process dies.");

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "faulthandler",
    .m_doc = module_doc,
    .m_size = sizeof(struct module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

/* All else is hidden; 3.8's PyMODINIT_FUNC does not say that this is not. */
__attribute__((visibility("default"))) PyMODINIT_FUNC
PyInit_faulthandler(void)
{
    return PyModuleDef_Init(&module_def);
}
