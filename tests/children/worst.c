/* Ways to crash where little works. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int at_unload, at_key;
static volatile int go;

__attribute__((noinline)) void
crash(void)
{
    *(volatile int *)8 = 1;
}

void on_unload(int kind) { at_unload = kind; }

__attribute__((destructor)) static void
unload(void)
{
    if (at_unload == 1)
        crash();
    if (at_unload == 2) {
        go = 1;
        sleep(20);
    }
}

void
crash_later(void)
{
    while (!go)
        usleep(1000);
    crash();
}

static void at_end(void) { crash(); }
void at_exit_of_c(void) { atexit(at_end); }
static void key_end(void *p) { (void)p; crash(); }

void
at_thread_end(void)
{
    pthread_key_t key;

    pthread_key_create(&key, key_end);
    pthread_setspecific(key, &at_key);
}

/* The stack pointer is lost: a push faults. */
void
lose_stack(unsigned long value)
{
#if defined(__x86_64__)
    __asm__ volatile ("mov %0, %%rsp; push %%rax; ud2" : : "r"(value));
#else
    __asm__ volatile ("mov sp, %0; str x0, [sp]" : : "r"(value));
#endif
}

void
crash_inside_alternate_stack(long above)
{
    stack_t now;

    sigaltstack(0, &now);
#if defined(__x86_64__)
    unsigned long sp = (unsigned long)now.ss_sp + now.ss_size - above;
    __asm__ volatile ("mov %0, %%rsp; movl $1, 8" : : "r"(sp & ~15ul));
#endif
    crash();
}

unsigned long
forbidden(void)
{
    return (unsigned long)mmap(0, 65536, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 32768;
}

/* A child of fork, without the handlers of pthread_atfork(). */
int
crash_in_raw_fork(void)
{
    int status = -1;
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

    if (pid == 0) {
        crash();
        _exit(1);
    }
    waitpid(pid, &status, 0);
    return status;
}

static void *
thread(void *function)
{
    ((void (*)(void))function)();
    return NULL;
}

/* A thread that Python does not know, with a stack of so many bytes. */
void
in_thread(void (*function)(void), size_t size)
{
    pthread_t t;
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, size);
    if (pthread_create(&t, &attributes, thread, (void *)function))
        _exit(98);
    pthread_join(t, NULL);
}

static volatile size_t room;

static void
on_signal(int signum)
{
    volatile char *used = __builtin_alloca(room + 1);

    (void)signum;
    used[0] = 1;
    crash();
}

void
install_crasher(int signum, int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};

    sigaction(signum, &action, NULL);
}

/* Crash in a handler that runs on the alternate stack. */
void
crash_on_alternate_stack(size_t used)
{
    room = used;
    install_crasher(SIGUSR2, SA_ONSTACK);
    raise(SIGUSR2);
}
