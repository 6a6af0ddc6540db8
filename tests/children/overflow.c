/* Overflows of the stack by frames of each size, and what is none. */
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define KIB(n) ((size_t)(n) << 10)
#define GUARD ((size_t)getpagesize())

#define RECURSE(name, size) \
    __attribute__((noinline)) int name(int depth) \
    { \
        volatile char frame[size]; \
        frame[0] = (char)depth; \
        frame[size - 1] = 1; \
        int below = name(depth + 1); \
        return below + frame[0] + frame[size - 1]; \
    }
RECURSE(small, 64)
RECURSE(page, 4096)
RECURSE(large, 65536)
RECURSE(larger, KIB(1024))
RECURSE(largest, KIB(20480))

__attribute__((noinline)) int
push(int unused)
{
    (void)unused;
    for (;;) {
        __asm__ volatile("" :: "r"(alloca(16)) : "memory");
        *(volatile char *)alloca(16) = 1;
    }
}

/* What is no overflow of the thread's stack. */

__attribute__((noinline)) int
near(int offset)
{
    pthread_attr_t attributes;
    void *low;
    size_t size;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &low, &size);
    return *(volatile char *)((char *)low + offset);
}

static void
overflow_here(void)
{
    small(0);
}

static void
run_on(char *stack, size_t size, void (*function)(void))
{
    static ucontext_t before, inside;
    getcontext(&inside);
    inside.uc_stack = (stack_t){.ss_sp = stack, .ss_size = size};
    inside.uc_link = &before;
    makecontext(&inside, function, 0);
    swapcontext(&before, &inside);
}

int
coroutine(int unused)
{
    char *memory = mmap(NULL, GUARD + KIB(252), PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)unused;
    mprotect(memory + GUARD, KIB(252), PROT_READ | PROT_WRITE);
    run_on(memory + GUARD, KIB(252), overflow_here);
    return 0;
}

static void
on_signal(int signum)
{
    small(signum);
}

int
alternate(int unused)
{
    struct sigaction action = {.sa_handler = on_signal,
                               .sa_flags = SA_ONSTACK};
    (void)unused;
    sigaction(SIGUSR1, &action, NULL);
    return raise(SIGUSR1);
}

/* A thread whose stack has a neighbour: from above the stack, forbidden
   memory, another stack, forbidden memory. */

static char *base;

static void
write_upwards(void)
{
    static volatile char *at;
    volatile char here = 0;
    for (at = &here;;) {
        *++at = 1;
    }
}

__attribute__((noinline)) static int
reach_over(int unused)
{
    volatile char frame[KIB(1800)];
    frame[0] = (char)unused;
    return frame[unused];
}

static void *
beside(void *argument)
{
    int kind = *(int *)argument;
    char *other = base + KIB(2560);
    size_t size = KIB(512) - GUARD;
    stack_t handler = {.ss_sp = malloc(KIB(128)), .ss_size = KIB(128)};
    if (kind == 1)
        handler = (stack_t){.ss_sp = other, .ss_size = size};
    sigaltstack(&handler, NULL);
    if (kind == 1)
        alternate(0);
    else if (kind == 2)
        reach_over(0);
    else
        run_on(other, size, kind == 0 ? overflow_here : write_upwards);
    return NULL;
}

int
neighbour(int kind)
{
    pthread_attr_t attributes;
    pthread_t thread;
    base = mmap(NULL, KIB(4096), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0);
    mprotect(base + KIB(3072), KIB(1024), PROT_READ | PROT_WRITE);
    mprotect(base + KIB(2560), KIB(512) - GUARD, PROT_READ | PROT_WRITE);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, base + KIB(3072), KIB(1024));
    pthread_create(&thread, &attributes, beside, &kind);
    return pthread_join(thread, NULL);
}
