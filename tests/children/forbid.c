/* A malloc() before the C library's that can refuse to be called, crash, or
   never return. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int crash_inside, forbidden;
volatile int heap_is_stuck;

static void
enter(void)
{
    static const char text[] = "malloc() in the handler\n";

    if (forbidden)
        _exit(write(2, text, sizeof text - 1) < 0 ? 98 : 99);
    while (heap_is_stuck)
        pause();
    pthread_mutex_lock(&lock);
    if (crash_inside)
        *(volatile int *)8 = 1;
}

/* Call a function of the C library under the lock. */
#define LOCKED(call) \
    enter(); \
    void *p = call; \
    pthread_mutex_unlock(&lock); \
    return p

void *malloc(size_t n) { LOCKED(__libc_malloc(n)); }
void *calloc(size_t n, size_t m) { LOCKED(__libc_calloc(n, m)); }
void *realloc(void *old, size_t n) { LOCKED(__libc_realloc(old, n)); }

void
free(void *p)
{
    if (p == NULL)
        return;
    enter();
    __libc_free(p);
    pthread_mutex_unlock(&lock);
}

void
crash_in_malloc(void)
{
    crash_inside = 1;
    free(malloc(7777));
}

void
crash_without_malloc(void)
{
    forbidden = 1;
    *(volatile int *)8 = 1;
}
