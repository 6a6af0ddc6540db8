/* Handlers before and after ours, by their kind: install() puts one in place.
   touch() faults on a page that some of them repair; seal() takes the page
   away again. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static struct sigaction before;     /* the handler of the last install() */
static void *installed;
static sigjmp_buf way_out;
static char *page;
static volatile int calls, lies, is_open;
int loud;                           /* on_newer() tells of each call */

/* Say what it was told, and exit. */
static void
on_exit_42(int signum, siginfo_t *info, void *context)
{
    char line[200], where[100];
    void *pc = NULL;

#ifdef __x86_64__
    pc = (void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    pc = (void *)((ucontext_t *)context)->uc_mcontext.pc;
#endif
    if (info->si_code > 0)
        snprintf(where, sizeof where, "at %p%s", info->si_addr,
                 info->si_addr == pc ? " which is the pc" : "");
    else
        snprintf(where, sizeof where, "from %s",
                 info->si_pid == getpid() ? "itself" : "another");
    int size = snprintf(line, sizeof line, "signal %d code %d %s in thread"
                        " %ld\n", signum, info->si_code, where,
                        syscall(SYS_gettid));
    _exit(write(1, line, (size_t)size) < 0 ? 43 : 42);
}

/* Notes broken memory that nobody has used, BUS_MCEERR_AO. */
static void
on_note(int signum, siginfo_t *info, void *context)
{
    if (info->si_code != 5)
        on_exit_42(signum, info, context);
}

/* Make the page readable and writable. A fault has a code over 0. */
static int
repair(const siginfo_t *info)
{
    lies += info->si_code <= 0;
    if (mprotect((void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095), 4096,
                 PROT_READ | PROT_WRITE) < 0)
        return -1;
    calls++;
    return 0;
}

/* Handlers that differ in what they do where they cannot repair. */
#define REPAIRS(name, otherwise) \
    static void name(int signum, siginfo_t *info, void *context) \
    { \
        (void)context; \
        if (repair(info) < 0) \
            otherwise; \
    }
REPAIRS(on_repair, signal(signum, SIG_DFL))
REPAIRS(on_chain, before.sa_sigaction(signum, info, context))
REPAIRS(on_restore, sigaction(signum, &before, NULL))

/* One without SA_SIGINFO knows of one page only. */
static void
on_plain(int signum)
{
    if (is_open) {
        signal(signum, SIG_DFL);
        return;
    }
    calls++;
    is_open = 1;
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

/* Repairs two faults at the most. */
static void
on_retire(int signum, siginfo_t *info, void *context)
{
    on_repair(signum, info, context);
    if (calls == 2)
        signal(signum, SIG_DFL);
}

/* Calls the handler before it. */
static void
on_newer(int signum, siginfo_t *info, void *context)
{
    if (!loud || write(1, "newer\n", 6) == 6)
        before.sa_sigaction(signum, info, context);
}

static void
on_jump(int signum, siginfo_t *info, void *context)
{
    (void)signum, (void)info, (void)context;
    siglongjmp(way_out, 1);
}

static void
on_abort(int signum)
{
    (void)signum;
    abort();
}

/* A JVM unblocks the signal before. */
static void
on_unblock(int signum)
{
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, signum);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    abort();
}

static const struct {
    const char *name;
    void *run;
    int flags;
} KINDS[] = {
    {"exit", on_exit_42, SA_SIGINFO}, {"note", on_note, SA_SIGINFO},
    {"repair", on_repair, SA_SIGINFO}, {"retire", on_retire, SA_SIGINFO},
    {"newer", on_newer, SA_SIGINFO}, {"chain", on_chain, SA_SIGINFO},
    {"restore", on_restore, SA_SIGINFO}, {"jump", on_jump, SA_SIGINFO},
    {"plain", on_plain, 0}, {"abort", on_abort, 0}, {"unblock", on_unblock, 0},
};

int
install(const char *kind, int signum, int flags)
{
    size_t i = 0;

    while (strcmp(kind, KINDS[i].name) != 0)
        i++;
    installed = KINDS[i].run;
    struct sigaction action = {.sa_handler = installed,
                               .sa_flags = flags | KINDS[i].flags};
    return sigaction(signum, &action, &before);
}

int
is_installed(int signum)
{
    struct sigaction action;

    sigaction(signum, NULL, &action);
    return action.sa_handler == installed;
}

/* Put back what was there before the last install(). */
int
put_back(int signum)
{
    return sigaction(signum, &before, NULL);
}

void
seal(void)
{
    is_open = 0;
    if (page == NULL)
        page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0);
    mprotect(page, 4096, PROT_NONE);
}

/* Returns errno, which no handler has changed from 77. */
int
touch(void)
{
    if (page == NULL)
        seal();
    errno = 77;
    page[100] = 1;
    return errno;
}

int called(void) { return calls; }
int lied(void) { return lies; }
void crash(void) { *(volatile int *)8 = 1; }

/* Read there, and come back by a jump. */
int
jump_out(volatile int *address)
{
    if (sigsetjmp(way_out, 1) == 0)
        return *address;
    return 1;
}

/* Abort below a stack of ones: what a jump left behind there is gone. */
void
abort_deep(void)
{
    char used[65536];

    memset(used, 1, sizeof used);
    __asm__ volatile ("" : : "r"(used) : "memory");
    abort();
}
