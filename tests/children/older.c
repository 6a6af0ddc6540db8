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

typedef void (*handler)(int, siginfo_t *, void *);

static struct sigaction before;     /* the handler of the last install() */
static handler installed;
static sigjmp_buf way_out;
static char *page;
static volatile int calls, lies, is_open;
int loud;                           /* on_newer() tells of each call */

/* Say what it was told, and exit. */
static void
on_exit_42(int signum, siginfo_t *info, void *context)
{
    char line[200];
    int size;
    void *pc = NULL;

#ifdef __x86_64__
    pc = (void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    pc = (void *)((ucontext_t *)context)->uc_mcontext.pc;
#endif
    if (info->si_code > 0)
        size = snprintf(line, sizeof line, "signal %d code %d at %p%s",
                        signum, info->si_code, info->si_addr,
                        info->si_addr == pc ? " which is the pc" : "");
    else
        size = snprintf(line, sizeof line, "signal %d code %d from %s",
                        signum, info->si_code,
                        info->si_pid == getpid() ? "itself" : "another");
    size += snprintf(line + size, sizeof line - (size_t)size,
                     " in thread %ld\n", syscall(SYS_gettid));
    if (write(1, line, (size_t)size) < 0)
        _exit(43);
    _exit(42);
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

static void
on_repair(int signum, siginfo_t *info, void *context)
{
    (void)context;
    if (repair(info) < 0)
        signal(signum, SIG_DFL);
}

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

/* Calls it for what it cannot repair. */
static void
on_chain(int signum, siginfo_t *info, void *context)
{
    if (repair(info) < 0)
        before.sa_sigaction(signum, info, context);
}

/* Puts it back for what it cannot repair. */
static void
on_restore(int signum, siginfo_t *info, void *context)
{
    (void)context;
    if (repair(info) < 0)
        sigaction(signum, &before, NULL);
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
    void (*plain)(int);     /* the handler, or NULL */
    handler detailed;       /* one with SA_SIGINFO */
} KINDS[] = {
    {"exit", NULL, on_exit_42}, {"note", NULL, on_note},
    {"repair", NULL, on_repair}, {"retire", NULL, on_retire},
    {"newer", NULL, on_newer}, {"chain", NULL, on_chain},
    {"restore", NULL, on_restore}, {"jump", NULL, on_jump},
    {"plain", on_plain, NULL}, {"abort", on_abort, NULL},
    {"unblock", on_unblock, NULL},
};

int
install(const char *kind, int signum, int flags)
{
    struct sigaction action = {.sa_flags = flags};

    size_t i = 0;

    while (strcmp(kind, KINDS[i].name) != 0)
        i++;
    if (KINDS[i].plain != NULL)
        action.sa_handler = KINDS[i].plain;
    else {
        action.sa_sigaction = KINDS[i].detailed;
        action.sa_flags |= SA_SIGINFO;
    }
    installed = action.sa_sigaction;
    return sigaction(signum, &action, &before);
}

int
is_installed(int signum)
{
    struct sigaction action;

    sigaction(signum, NULL, &action);
    return action.sa_sigaction == installed;
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
