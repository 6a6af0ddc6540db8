/* Crashes in bad places: locks held, little stack, a child of vfork(), the
   end of the process; and what looks around once Python has ended. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

void
crash(void)
{
    *(volatile int *)8 = 1;
}

/* malloc() finds its own data damaged, and aborts with its lock held. */
void
corrupt_heap(void)
{
    char *volatile last = malloc(24);

    for (int i = 0; i < 4000; i++)
        last = malloc(40000);
    memset(last + 40000, 0x41, 64);
    for (int i = 0; i < 10; i++)
        last = malloc(100000);
}

static void *
load(void *path)
{
    dlopen(path, RTLD_NOW);
    return NULL;
}

/* Another thread holds the loader's lock, in a library's constructor, which
   says so. */
void
load_in_thread(const char *path)
{
    char number[20], byte;
    pthread_t thread;
    int begun[2];

    if (pipe(begun) < 0)
        abort();
    snprintf(number, sizeof number, "%d", begun[1]);
    setenv("BEGUN", number, 1);
    pthread_create(&thread, NULL, load, strdup(path));
    if (read(begun[0], &byte, 1) != 1)
        abort();
}

/* The child shares our memory. Returns the signal that it died of. */
int
crash_in_vfork(void)
{
    int status = 0;
    pid_t pid = vfork();

    if (pid == 0) {
        crash();
        _exit(1);
    }
    waitpid(pid, &status, 0);
    return WTERMSIG(status);
}

static volatile int at_unload, go;

void
crash_later(void)
{
    while (!go)
        usleep(1000);
    crash();
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

/* The stack pointer is lost: a push faults. */
void
lose_stack(unsigned long value)
{
#if defined(__x86_64__)
    __asm__ volatile ("mov %0, %%rsp; push %%rax; ud2" : : "r"(value));
#else
    __asm__ volatile ("mov sp, %0; str x0, [sp]; .inst 0" : : "r"(value));
#endif
}

static volatile size_t room;

static void
on_signal(int signum)
{
    volatile char *used = alloca(room + 1);

    (void)signum;
    used[0] = 1;
    crash();
}

/* The handler of this signal crashes, after so many bytes of its stack. */
void
install_crasher(int signum, int flags, size_t used)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};

    room = used;
    sigaction(signum, &action, NULL);
}

/* At the end: has every other thread ended, or does it within 50 s? */
void
count_threads(void)
{
    struct stat task;

    for (int i = 0; i < 5000; i++) {
        if (stat("/proc/self/task", &task) == 0 && task.st_nlink == 3)
            _exit(7);
        usleep(10000);
    }
}
