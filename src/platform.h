/* platform: what the kernel and the C library offer, under one name each.

   System calls, the loader's list, clocks, timers, files.
   The only place that asks which C library this is.  What a newer kernel or
   library has is asked for at run time, so that a module runs on an older
   system than the one it was built on, and misses nothing on a newer one.
   Everything here may run inside a signal handler, except what says when it
   is called. */

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
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef __linux__
#  error "faulthandler needs Linux"
#endif
/* Set by setup.py where the library and its header are there. */
#if FAULTHANDLER_LIBBACKTRACE
#  include <backtrace.h>
#endif

/* The loaded objects, as the loader lists them.  Where libbacktrace is linked,
   the linker gives the usual name to what libbacktrace is told instead. */
#if FAULTHANDLER_LIBBACKTRACE
int __real_dl_iterate_phdr(int (*)(struct dl_phdr_info *, size_t, void *),
                           void *);
#  define platform_list_objects __real_dl_iterate_phdr
#else
#  define platform_list_objects dl_iterate_phdr
#endif

/* Newer than the headers that this may be compiled with. */
#ifndef AT_MINSIGSTKSZ
#  define AT_MINSIGSTKSZ 51
#endif
#ifndef SYS_close_range
#  define SYS_close_range 436
#endif
#ifndef RWF_NOWAIT
#  define RWF_NOWAIT 8
#endif

/* A variable of each thread.  The initial-exec model makes it a plain load:
   with the default model glibc allocates it when a thread first touches it,
   which may be in a handler.  Other libraries allocate it with the thread, and
   refuse to load a module with this model. */
#ifdef __GLIBC__
#  define THREAD_LOCAL \
    static __thread __attribute__((tls_model("initial-exec")))
#else
#  define THREAD_LOCAL static __thread
#endif

/* Functions whose undefined behaviour or data race is the point: a copy of
   memory that may be gone, a crash on purpose. */
#define UNSANITIZED \
    __attribute__((no_sanitize("address", "undefined", "thread"), noinline))

/* The calling thread's id.  A system call each time: a cached one would be
   the parent's in a forked child. */
static pid_t
platform_thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* Has this thread of ours ended?  Also true of a thread of another process: a
   vfork() child shares our memory, and what it claimed there stays claimed. */
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

static void
platform_sleep(int64_t nanoseconds)
{
    struct timespec t = {.tv_sec = (time_t)(nanoseconds / 1000000000),
                         .tv_nsec = (long)(nanoseconds % 1000000000)};
    nanosleep(&t, NULL);
}

/* Have the kernel copy n bytes of our own memory.  Returns 0, or -1 with errno
   if not all of it could be read. */
static int
platform_read_self(pid_t pid, void *dst, const void *src, size_t n)
{
    struct iovec to = {.iov_base = dst, .iov_len = n};
    struct iovec from = {.iov_base = (void *)(uintptr_t)src, .iov_len = n};
    ssize_t got = process_vm_readv(pid, &to, 1, &from, 1, 0);
    return got == (ssize_t)n ? 0 : -1;
}

/* Is this the handler of a signal now? */
static bool
platform_handler_is(int signum, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction now;
    return sigaction(signum, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO)
           && now.sa_sigaction == handler;
}

/* Send a signal with this siginfo to the calling thread; it comes once the
   signal is unblocked.  Not raise(): it makes its own siginfo.  Not kill(): it
   may pick the main thread. */
static int
platform_queue_signal(int signum, siginfo_t *info)
{
    return (int)syscall(SYS_rt_tgsigqueueinfo, getpid(),
                        platform_thread_id(), signum, info);
}

/* What _dl_find_object() of glibc 2.35 fills in.  It has room for what newer
   versions append. */
struct platform_found {
    unsigned long long flags;
    void *start, *end;
    struct link_map *record;
    void *rest[28];
};

/* What platform_init() looked up; constant after that. */
static struct {
    int (*find)(void *, struct platform_found *);   /* NULL: older */
    uintptr_t program;          /* the first record of its list, or 0 */
} platform_loader;

/* Look up what is not in every C library.  Called when the module is
   imported. */
static void
platform_init(void)
{
    void *program = dlopen(NULL, RTLD_LAZY);
    struct link_map *map = NULL;
    if (program != NULL && dlinfo(program, RTLD_DI_LINKMAP, &map) == 0) {
        platform_loader.program = (uintptr_t)map;
    }
#ifndef FAULTHANDLER_TEST_OLD_LOADER
    *(void **)&platform_loader.find = dlsym(RTLD_DEFAULT, "_dl_find_object");
#endif
}

/* Find the object that holds an address: the loader's record, and where its
   mapping begins.  Returns false if there is none, or if the loader has no
   function for that.  Not dladdr(): it takes the loader's lock, and waits for
   another thread's dlopen(). */
static bool
platform_find_object(uintptr_t pc, uintptr_t *record, uintptr_t *start)
{
    struct platform_found found;
    if (platform_loader.find == NULL
        || platform_loader.find((void *)pc, &found) != 0) {
        return false;
    }
    *record = (uintptr_t)found.record;
    *start = (uintptr_t)found.start;
    return true;
}

/* Does the unwinder find its tables without the loader's lock?  It uses the
   same function.  Where there is none it waits for another thread's dlopen(),
   for ever if that thread does not run on. */
static inline bool
platform_unwinds_without_lock(void)
{
    return platform_loader.find != NULL;
}

/* The code of an exported function, all 0 if it is not known. */
struct platform_code {
    uintptr_t start, end;
};

#ifdef __GLIBC__
static uintptr_t
platform_find_end(void *function)
{
    Dl_info info;
    ElfW(Sym) *symbol = NULL;
    if (!dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT)
        || symbol == NULL || info.dli_saddr != function) {
        return 0;
    }
    return (uintptr_t)function + symbol->st_size;
}
#else
/* Find the first address that is not in the function any more. */
static uintptr_t
platform_find_end(void *function)
{
    const uintptr_t start = (uintptr_t)function;
    uintptr_t in = 0, out = 1 << 20;
    Dl_info info;
    while (out - in > 1) {
        uintptr_t at = in + (out - in) / 2;
        bool holds = dladdr((void *)(start + at), &info)
                     && info.dli_saddr == function;
        in = holds ? at : in;
        out = holds ? out : at;
    }
    return start + out;
}
#endif

/* Takes the loader's lock: called when the module is imported. */
static struct platform_code
platform_find_code(const char *name)
{
    void *function = dlsym(RTLD_DEFAULT, name);
    uintptr_t end = function == NULL ? 0 : platform_find_end(function);
    return end == 0 ? (struct platform_code) {0, 0}
                    : (struct platform_code) {(uintptr_t)function, end};
}

/* What the signals of our timers carry.  Others may use the same signal. */
static char platform_timer_mark;

static bool
platform_timer_is_ours(const siginfo_t *info)
{
    return info->si_code == SI_TIMER && info->si_ptr == &platform_timer_mark;
}

/* Start a timer that sends signum to the calling thread.  Made when it is
   needed: a child of fork() has none of its parent's timers.  Returns 0, or -1
   with errno. */
static int
platform_timer_start(int *timer, int signum, int64_t first_ms,
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
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, timer) < 0) {
        return -1;
    }
    const int64_t when[] = {            /* seconds and nanoseconds */
        every_ms / 1000, every_ms % 1000 * 1000000,
        first_ms / 1000, first_ms % 1000 * 1000000,
    };
    return (int)syscall(SYS_timer_settime, *timer, 0, when, NULL);
}

static void
platform_timer_stop(int timer)
{
    syscall(SYS_timer_delete, timer);
}

/* Are these the same file?  The inode of a deleted one may be used again, but
   not while we have a duplicate. */
static bool
platform_is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino
           && (a->st_mode & S_IFMT) == (b->st_mode & S_IFMT);
}

/* Write some of n bytes where that needs no waiting.  Returns what write()
   does; EOPNOTSUPP, ENOSYS or what a sandbox says where the kernel cannot. */
static ssize_t
platform_write_nowait(int fd, const char *text, size_t n)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = n};
    return (ssize_t)syscall(SYS_pwritev2, fd, &part, 1L, -1L, -1L,
                            RWF_NOWAIT);
}

/* Is an open file on a file system that asks a server, which may be dead?  A
   write to it may then hang for ever.  Asks the server: not for handlers. */
static bool
platform_is_remote(int fd)
{
    static const uint32_t remote[] = {
        0x6969,                 /* NFS */
        0x517B, 0xFF534D42, 0xFE534D42,         /* SMB, CIFS, SMB 2 */
        0x65735546,             /* FUSE */
        0x01021997,             /* 9p */
        0x00C36400,             /* Ceph */
        0x5346414F, 0x6B414653, /* AFS, kAFS */
        0x0BD00BD0,             /* Lustre */
        0x47504653,             /* GPFS */
    };
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof remote / sizeof *remote; i++) {
        if ((uint32_t)fs.f_type == remote[i]) {
            return true;
        }
    }
    return false;
}

/* Make the path of a file of /proc that has a number in it. */
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

/* Call a function that opens a file; if the process has no descriptor left,
   call it again with the limit lifted for that moment.  The limit belongs to
   all threads, so one thread at a time lifts it; another one fails.  Returns
   what the function does: a descriptor, or -1 with errno. */
static int
platform_open_lifted(int (*function)(const void *), const void *argument)
{
    static atomic_bool lifted;
    struct rlimit before;
    int fd = function(argument);
    if (fd >= 0 || errno != EMFILE || atomic_exchange(&lifted, true)) {
        return fd;
    }
    if (getrlimit(RLIMIT_NOFILE, &before) == 0) {
        struct rlimit more = {before.rlim_max, before.rlim_max};
        setrlimit(RLIMIT_NOFILE, &more);
        fd = function(argument);
        int error = errno;
        setrlimit(RLIMIT_NOFILE, &before);
        errno = error;
    }
    atomic_store(&lifted, false);
    return fd;
}

static int
platform_open_to_read(const void *path)
{
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Open a file for reading, also if the process has no descriptor left.
   Returns what open() does. */
static int
platform_open(const char *path)
{
    return platform_open_lifted(platform_open_to_read, path);
}

/* Read a small file.  Returns how many bytes, or -1. */
static ssize_t
platform_read_file(const char *path, char *text, size_t n)
{
    int fd = platform_open(path);
    ssize_t got = fd < 0 ? -1 : read(fd, text, n);
    if (fd >= 0) {
        close(fd);
    }
    return got;
}

/* Return the decimal number that a text begins with. */
static uint64_t
platform_number(const char *text)
{
    uint64_t number = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        number = 10 * number + (uint64_t)(*text - '0');
    }
    return number;
}

/* The 22nd field of /proc/self/stat: when the process started, in ticks since
   the machine did.  The second field, the name, is in parentheses and may
   hold anything.  Returns false if it is not there. */
static bool
platform_start_ticks(uint64_t *ticks)
{
    char text[512] = "";
    platform_read_file("/proc/self/stat", text, sizeof text - 1);
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    *ticks = at == NULL ? 0 : platform_number(at + 1);
    return at != NULL;
}

/* Return for how many nanoseconds this process has run.  Asked each time: a
   forked child has an age of its own.  Returns less than 0 where /proc does
   not tell, or where it and the clock disagree, which a library that fakes
   the time causes. */
#define PLATFORM_AGE_MAX (INT64_C(10) * 365 * 86400 * 1000000000)

static int64_t
platform_age(void)
{
    uint64_t ticks, hz = getauxval(AT_CLKTCK);
    struct timespec t;
    if (!platform_start_ticks(&ticks) || hz == 0
        || ticks / hz > INT64_MAX / 2000000000
        || clock_gettime(CLOCK_BOOTTIME, &t) < 0) {
        return -1;
    }
    int64_t start = (int64_t)(ticks / hz * 1000000000
                              + ticks % hz * (1000000000 / hz));
    int64_t age = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - start;
    return age < PLATFORM_AGE_MAX ? age : -1;
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
    char path[PLATFORM_PROC_PATH];
    platform_proc_path(path, "/proc/self/task/", (unsigned)tid, "/comm");
    ssize_t got = platform_read_file(path, name, 31);
    if (got > 0 && name[got - 1] == '\n') {
        got--;
    }
    name[got > 0 ? got : 0] = '\0';
}

#endif
