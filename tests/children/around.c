/* Handlers around ours: a newer one that defers nothing and calls ours, an
   older one that aborts; and what looks around once Python has ended. */
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sigaction before;
static int unblocks;

static void
on_newer(int signum, siginfo_t *info, void *context)
{
    before.sa_sigaction(signum, info, context);
}

static void
on_older(int signum)
{
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, signum);
    if (unblocks)
        sigprocmask(SIG_UNBLOCK, &one, NULL);
    abort();
}

int
install_newer(int signum)
{
    struct sigaction action = {0};

    action.sa_sigaction = on_newer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    return sigaction(signum, &action, &before);
}

int
install_older(int signum, int flags)
{
    struct sigaction action = {0};

    unblocks = flags != 0;
    action.sa_flags = flags;
    action.sa_handler = on_older;
    return sigaction(signum, &action, NULL);
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
    return status;
}
