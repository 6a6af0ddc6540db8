/* No limit of the module's is reached, however slow the machine is.  The time
   that a process waits in poll() or nanosleep() does not pass on its clock; a
   poll() waits as long as it takes; there are no timers.  $WITH_SLEEPS: sleeps
   count; $WITH_TIMERS: there are timers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long (*next)(long, ...);     /* the C library's syscall() */
static long waited;                 /* nanoseconds */
static int with_sleeps, with_timers;
volatile int polls;                 /* how often a thread began to wait */

__attribute__((constructor)) static void
begin(void)
{
    next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    with_sleeps = getenv("WITH_SLEEPS") != NULL;
    with_timers = getenv("WITH_TIMERS") != NULL;
}

static long
now(void)
{
    struct timespec t;

    next(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

int
clock_gettime(clockid_t clock, struct timespec *t)
{
    if (next == NULL)
        begin();
    if (clock != CLOCK_MONOTONIC)
        return (int)next(SYS_clock_gettime, clock, t);
    long n = now() - __atomic_load_n(&waited, __ATOMIC_SEQ_CST);
    t->tv_sec = n / 1000000000;
    t->tv_nsec = n % 1000000000;
    return 0;
}

int
poll(struct pollfd *fds, nfds_t count, int timeout)
{
    static const struct timespec at_once;
    long began = now();
    int ready;

    polls++;
    ready = ppoll(fds, count, timeout != 0 ? NULL : &at_once, NULL);

    __atomic_add_fetch(&waited, now() - began, __ATOMIC_SEQ_CST);
    return ready;
}

int
nanosleep(const struct timespec *time, struct timespec *rest)
{
    long began = now();
    int result = (int)next(SYS_nanosleep, time, rest);

    if (!with_sleeps)
        __atomic_add_fetch(&waited, now() - began, __ATOMIC_SEQ_CST);
    return result;
}

long
syscall(long number, ...)
{
    long a[6];
    va_list list;

    if (number == SYS_timer_create && !with_timers) {
        errno = EPERM;
        return -1;
    }
    va_start(list, number);
    for (size_t i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (next == NULL)
        begin();
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
