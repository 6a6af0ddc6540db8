/* platform: what the kernel and the C library offer, under one name each.

   System calls, clocks, timers, child processes, files, threads by number.
   Everything here may run inside a signal handler, except what says that it
   runs when the module is armed. */

#ifndef FAULTHANDLER_PLATFORM_H
#define FAULTHANDLER_PLATFORM_H


/* Fortified longjmp() refuses to leave an alternate stack for a frame that
   is "above" it, which is what a recovered read does. */
#undef _FORTIFY_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

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

/* The first record of the loader's list, to be searched where the loader has
   no such function; 0 where it has, or where the list is not known. */
static uintptr_t
platform_first_object(void)
{
#if defined(__GLIBC__) && !HAVE_DL_FIND_OBJECT
    return (uintptr_t)_r_debug.r_map;
#else
    return 0;
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

#endif
