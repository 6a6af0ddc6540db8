/* A poll() that counts its calls, in which a thread stands still as long as it
   is held: this time does not pass on the clock.  And in which the reader of a
   pipe reads late: in the child, while the clock stands still elsewhere, so
   that it reads in time on a busy machine too. */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

volatile int polls, hold, held;
volatile int hold_sleeps, sleeping;     /* the same for nanosleep() */

static const struct timespec at_once;
static struct pollfd source = {.fd = -1, .events = POLLIN};
static long now, when, still;
static long lost;               /* nanoseconds that it was held */

static long
clock_now(void)
{
    struct timespec t;

    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Read this descriptor so many milliseconds from now, and pass it on.  In the
   first poll() stand still for so many. */
void
read_later(int fd, int milliseconds, int standstill)
{
    source.fd = fd;
    when = milliseconds;
    still = standstill;
}

static void
read_all(void)
{
    static char text[1 << 20];
    ssize_t size;

    while (ppoll(&source, 1, &at_once, NULL) > 0
           && (size = read(source.fd, text, sizeof text)) > 0)
        if (write(1, text, (size_t)size) < 0 || write(1, "|", 1) < 0)
            _exit(43);
}

int
clock_gettime(clockid_t clock, struct timespec *time)
{
    long n = 1000000000000000 + now * 1000000;

    if (source.fd < 0 && clock != CLOCK_MONOTONIC)
        return (int)syscall(SYS_clock_gettime, clock, time);
    if (source.fd < 0)
        n = clock_now() - lost;
    time->tv_sec = n / 1000000000;
    time->tv_nsec = n % 1000000000;
    return 0;
}

int
nanosleep(const struct timespec *time, struct timespec *rest)
{
    static const struct timespec shortly = {0, 1000000};

    while (hold_sleeps) {
        sleeping = 1;
        syscall(SYS_nanosleep, &shortly, NULL);
    }
    return (int)syscall(SYS_nanosleep, time, rest);
}

int
poll(struct pollfd *fds, nfds_t count, int timeout)
{
    struct timespec wait = {timeout / 1000, timeout % 1000 * 1000000L};
    long began = clock_now();
    int ready;

    polls++;
    while (hold) {
        held = 1;
        usleep(1000);
    }
    if (held)
        lost += clock_now() - began;
    if (source.fd < 0)
        return ppoll(fds, count, timeout < 0 ? NULL : &wait, NULL);
    ready = ppoll(fds, count, &at_once, NULL);
    if (ready != 0)
        return ready;
    now += timeout + still;
    still = 0;
    if (now >= when)
        read_all();
    return ppoll(fds, count, &at_once, NULL);
}
