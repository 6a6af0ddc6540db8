/* child: run a function in a copy of this process, which may fault or hang.

   The copy has the memory of this process and only the calling thread.  It
   answers in a shared mapping; all else that it writes is lost.  The parent
   waits for it, with a limit. */

#ifndef FAULTHANDLER_CHILD_H
#define FAULTHANDLER_CHILD_H

#include "mem.h"
#include "platform.h"

#define CHILD_POLL_NS 300000
#define CHILD_END_NS 200000000

/* The exit status of every child.  proot ends with the last status that it
   has seen when its program dies of a signal: 255 is what it ends with when
   there was none. */
#define CHILD_STATUS 255

/* Copying the page tables of 1 GiB of small pages was seen to take 23 to
   65 ms.  A process that was ever larger than this gets no child. */
#define CHILD_COPIED_KIB (32 * 1024 * 1024)

/* Return whether copying this process is cheap. */
static bool
child_is_cheap(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > 0
           && usage.ru_maxrss <= CHILD_COPIED_KIB;
}

/* Copy this process, and go on in both, on the same stack.  Not fork(), which
   runs handlers and takes locks.  The child's end sends no signal, and only a
   wait for such children (__WALL) reaps it.  Returns 0 in the child, else its
   process id, or -1 where there can be none. */
static pid_t
child_copy(void)
{
    return child_is_cheap() ? (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0) : -1;
}

/* Return whether a child has ended; then it is reaped. */
static bool
child_has_ended(pid_t pid)
{
    return waitpid(pid, NULL, WNOHANG | __WALL) != 0;
}

/* Close all descriptors but one, or all if it is -1, where the child may hang:
   the readers of our pipes would not see their end. */
static void
child_close_all_but(int fd)
{
    if (fd > 0) {
        syscall(SYS_close_range, 0, (unsigned)fd - 1, 0);
    }
    if (syscall(SYS_close_range, (unsigned)(fd + 1), UINT_MAX, 0) < 0) {
        for (int i = 0; i < 1024; i++) {        /* before Linux 5.9 */
            if (i != fd) {
                close(i);
            }
        }
    }
}

/* Start a child that calls a function on another stack.  Returns what
   child_copy() does. */
static pid_t
child_start(int (*run)(void *), char *stack, size_t size, void *argument)
{
    return child_is_cheap() ? clone(run, stack + size, 0, argument) : -1;
}

/* Wait until a child has ended, or until this time of platform_now().  Returns
   whether it has ended. */
static bool
child_await(pid_t pid, int64_t until)
{
    bool ended = child_has_ended(pid);
    while (!ended && platform_now() < until) {
        platform_sleep(CHILD_POLL_NS);
        ended = child_has_ended(pid);
    }
    return ended;
}

/* End a child and reap it.  Returns false if that takes too long: it may be
   stuck in the kernel, closing a file. */
static bool
child_end(pid_t pid)
{
    if (child_has_ended(pid)) {
        return true;
    }
    kill(pid, SIGKILL);
    return child_await(pid, platform_now() + CHILD_END_NS);
}

/* ---- in the child ---- */

/* A fault.  The kernel would write it to its log. */
UNSANITIZED static void
on_child_fault(int signum)
{
    (void)signum;
    _exit(CHILD_STATUS);
}

/* Open a file.  Where there are no descriptors left the child closes its own,
   which are copies. */
static int
child_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 && errno == EMFILE) {
        child_close_all_but(-1);
        fd = open(path, flags | O_CLOEXEC);
    }
    return fd;
}

/* Limit the child to this much memory beyond what it has.  Where memory is
   short, the kernel ends the child before its parent. */
static void
child_limit_memory(size_t more)
{
    struct rlimit limit;
    char text[32] = "";
    int fd = child_open("/proc/self/statm", O_RDONLY);
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0
        && getrlimit(RLIMIT_AS, &limit) == 0) {
        uint64_t bytes = platform_number(text) * getauxval(AT_PAGESZ) + more;
        limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
        setrlimit(RLIMIT_AS, &limit);
    }
    close(fd);
    fd = child_open("/proc/self/oom_score_adj", O_WRONLY);
    (void)!write(fd, "1000", 4);
    close(fd);
}

/* Called first in a child.  A fault ends it, without a core.  So does the end
   of its parent, or more than cpu_seconds of work. */
static void
child_begin(pid_t parent, rlim_t cpu_seconds, size_t more_memory)
{
    struct sigaction action = {.sa_handler = on_child_fault};
    struct rlimit limit = {cpu_seconds, cpu_seconds};
    action.sa_flags = SA_ONSTACK;
    for (size_t i = 0; i < sizeof mem_faults / sizeof *mem_faults; i++) {
        sigaction(mem_faults[i], &action, NULL);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) {
        _exit(CHILD_STATUS);
    }
    setrlimit(RLIMIT_CPU, &limit);
    child_limit_memory(more_memory);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

#endif
