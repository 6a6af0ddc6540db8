/* install(): a handler of SIGSEGV of this kind, with these flags. It repairs
   the page that touch() faults on; seal() takes the page away again. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char *page;
static struct sigaction before;
static volatile int calls, lies, is_open;

static void
repair(void)
{
    calls++;
    is_open = 1;
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

/* Is it ours to repair? A fault that the kernel made has a code over 0. */
static int
is_ours(const siginfo_t *info)
{
    char *at = info->si_addr;

    lies += info->si_code <= 0;
    return at >= page && at < page + 4096;
}

static void
plain(int signum)
{
    int saved_errno = errno;

    if (is_open)
        signal(signum, SIG_DFL);
    else
        repair();
    errno = saved_errno;
}

static void
detailed(int signum, siginfo_t *info, void *context)
{
    (void)context;
    if (is_ours(info))
        repair();
    else
        signal(signum, SIG_DFL);
}

/* Calls the handler before it for any other fault. */
static void
calling(int signum, siginfo_t *info, void *context)
{
    if (is_ours(info))
        repair();
    else if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(signum, info, context);
    else
        sigaction(signum, &before, NULL);
}

/* Puts the handler before it back for any other fault. */
static void
restoring(int signum, siginfo_t *info, void *context)
{
    (void)context;
    if (is_ours(info))
        repair();
    else
        sigaction(signum, &before, NULL);
}

void
install(const char *kind, int flags)
{
    struct sigaction action = {.sa_flags = flags | SA_SIGINFO};

    if (page == NULL)
        page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0);
    if (strcmp(kind, "plain") == 0) {
        action.sa_handler = plain;
        action.sa_flags = flags;
    }
    else
        action.sa_sigaction = strcmp(kind, "detailed") == 0 ? detailed
                              : strcmp(kind, "calling") == 0 ? calling
                              : restoring;
    sigaction(SIGSEGV, &action, &before);
}

int touch(void) { errno = 77; page[100] = 1; return errno; }

void
seal(void)
{
    is_open = 0;
    mprotect(page, 4096, PROT_NONE);
}

int called(void) { return calls; }
int lied(void) { return lies; }
void crash(void) { *(volatile int *)8 = 1; }
