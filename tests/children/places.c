/* Crashes in bad places: locks held, no memory, a child of vfork(); and what
   looks around once Python has ended. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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
        *(volatile int *)8 = 1;
        _exit(1);
    }
    waitpid(pid, &status, 0);
    return WTERMSIG(status);
}

/* At the end: has every other thread ended, or does it within 5 s? */
void
count_threads(void)
{
    struct stat task;

    for (int i = 0; i < 500; i++) {
        if (stat("/proc/self/task", &task) == 0 && task.st_nlink == 3)
            _exit(7);
        usleep(10000);
    }
}
