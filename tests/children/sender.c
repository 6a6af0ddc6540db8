/* send(pid, rate): send SIGUSR1 to a process and its threads, so many times
   a second, until it is gone. A third goes to the process as a whole. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOST 512

static int
list_threads(int pid, int *threads)
{
    char path[64];
    struct dirent *entry;
    int count = 0;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *folder = opendir(path);
    if (folder == NULL)
        return 0;
    while (count < MOST && (entry = readdir(folder)) != NULL)
        if (atoi(entry->d_name) > 0)
            threads[count++] = atoi(entry->d_name);
    closedir(folder);
    return count;
}

void
send_signals(int pid, int rate)
{
    int threads[MOST], count = 0;
    struct timespec pause = {0, 1000000000 / rate};

    for (long sent = 0; ; sent++) {
        if (sent % 10 == 0)
            count = list_threads(pid, threads);
        if (count == 0)
            return;
        if (sent % 3 == 0)
            kill(pid, SIGUSR1);
        else
            syscall(SYS_tgkill, pid, threads[rand() % count], SIGUSR1);
        nanosleep(&pause, NULL);
    }
}
