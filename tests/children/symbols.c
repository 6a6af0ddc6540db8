/* Crashes for test_symbol.py, and what it does to lookups. */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

static inline __attribute__((always_inline)) int
inner(volatile int *p)
{
    return *p;                                  /* line 12 */
}

static __attribute__((noinline)) int
outer(volatile int *p)
{
    return inner(p) + 1;                        /* line 18 */
}

int
boom(volatile int *p)
{
    return outer(p) + 2;                        /* line 24 */
}

__attribute__((noinline, noreturn)) void
never_returns(volatile int *p)
{
    *p = 1;                                     /* line 30 */
    __builtin_trap();
}

void
ends_with_call(volatile int *p)
{
    never_returns(p);                           /* line 37 */
}

static sem_t held;

static int
on_object(struct dl_phdr_info *info, size_t size, void *data)
{
    sem_post(&held);
    for (;;)
        pause();
}

static void *
hold(void *argument)
{
    dl_iterate_phdr(on_object, 0);
    return 0;
}

/* Another thread takes the loader's lock, and keeps it. */
int
hold_loader(void)
{
    pthread_t thread;

    sem_init(&held, 0, 0);
    if (pthread_create(&thread, 0, hold, 0) != 0)
        return -1;
    while (sem_wait(&held) != 0)
        ;
    return 0;
}
