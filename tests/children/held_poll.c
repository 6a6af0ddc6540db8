/* A poll() that counts its calls, and in which a thread stands still as long
   as it is held. */
#define _GNU_SOURCE
#include <poll.h>
#include <unistd.h>

volatile int polls, hold, held;

int
poll(struct pollfd *fds, nfds_t count, int timeout)
{
    struct timespec wait = {timeout / 1000, timeout % 1000 * 1000000L};

    polls++;
    if (hold) {
        held = 1;
        while (hold)
            usleep(1000);
    }
    return ppoll(fds, count, timeout < 0 ? NULL : &wait, NULL);
}
