/* Threads that meet, and crash at the same moment. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static struct timespec when;
static int arrived;

int here(void) { return __atomic_load_n(&arrived, __ATOMIC_SEQ_CST); }

static void
crash(int kind)
{
    switch (kind) {
    case 1: raise(SIGFPE); break;
    case 2: __builtin_trap();
    case 3: abort();
    case 4: raise(SIGBUS); break;
    default: *(volatile int *)8 = 1;
    }
    for (;;)
        pause();
}

void
prepare(int count)
{
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
}

void
meet(int kind)
{
    __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
        clock_gettime(CLOCK_MONOTONIC, &when);
        when.tv_sec += (when.tv_nsec + 1000000) / 1000000000;
        when.tv_nsec = (when.tv_nsec + 1000000) % 1000000000;
    }
    pthread_barrier_wait(&barrier);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
    crash(kind);
}

static void *
member(void *kind)
{
    meet((int)(long)kind);
    return NULL;
}

/* This thread and count - 1 that Python does not know. */
void
crowd(int count, int mixed)
{
    pthread_t thread;

    for (int i = 1; i < count; i++)
        pthread_create(&thread, NULL, member, (void *)(long)(mixed * i % 5));
    meet(0);
}
