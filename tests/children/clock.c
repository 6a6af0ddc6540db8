/* CLOCK_BOOTTIME is off by $CLOCK_OFF seconds, CLOCK_REALTIME is clock_now. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

long clock_now = -1;            /* the true one */

int
clock_gettime(clockid_t clock, struct timespec *t)
{
    int result = (int)syscall(SYS_clock_gettime, clock, t);
    if (clock == CLOCK_BOOTTIME)
        t->tv_sec += atol(getenv("CLOCK_OFF"));
    if (clock == CLOCK_REALTIME && clock_now >= 0)
        t->tv_sec = clock_now;
    return result;
}
