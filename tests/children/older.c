/* Handlers that were there before ours: one says what it was told and exits,
   others make the page readable and return. */
#define _GNU_SOURCE
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

static int at_exit;

static void
on_signal(int signum, siginfo_t *info, void *context)
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

static int
handle(int signum, void (*handler)(int, siginfo_t *, void *), int flags,
       struct sigaction *before)
{
    struct sigaction action = {0};

    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    return sigaction(signum, &action, before);
}

int
install(int signum)
{
    return handle(signum, on_signal, 0, NULL);
}

int
is_installed(int signum)
{
    struct sigaction action;

    sigaction(signum, NULL, &action);
    return action.sa_sigaction == on_signal;
}

static int
repair(const siginfo_t *info)
{
    return mprotect((void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095),
                    4096, PROT_READ);
}

static void
on_repair(int signum, siginfo_t *info, void *context)
{
    (void)context;
    if (repair(info) < 0)
        signal(signum, SIG_DFL);
}

int
is_repairing(void)
{
    struct sigaction action;

    sigaction(SIGSEGV, NULL, &action);
    return action.sa_sigaction == on_repair;
}

int
install_repair(void)
{
    return handle(SIGSEGV, on_repair, 0, NULL);
}

static struct sigaction chained;

static void
on_newer(int signum, siginfo_t *info, void *context)
{
    chained.sa_sigaction(signum, info, context);
}

int
install_newer_for(int signum)
{
    return handle(signum, on_newer, SA_ONSTACK, &chained);
}

int
install_newer(void)
{
    return install_newer_for(SIGSEGV);
}

static void
on_chaining(int signum, siginfo_t *info, void *context)
{
    if (repair(info) < 0)
        chained.sa_sigaction(signum, info, context);
}

int
install_chaining(void)
{
    return handle(SIGSEGV, on_chaining, SA_ONSTACK, &chained);
}

int
remove_newer(void)
{
    return sigaction(SIGSEGV, &chained, NULL);
}

static void
on_retire(int signum, siginfo_t *info, void *context)
{
    static int count;

    on_repair(signum, info, context);
    if (++count == 2)
        signal(signum, SIG_DFL);
}

int
install_retiring(void)
{
    return handle(SIGSEGV, on_retire, 0, NULL);
}

static sigjmp_buf way_out;

static void
on_jump(int signum, siginfo_t *info, void *context)
{
    (void)signum, (void)info, (void)context;
    siglongjmp(way_out, 1);
}

int
install_jumping(void)
{
    return handle(SIGSEGV, on_jump, SA_ONSTACK, NULL);
}

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

void
crash_at_exit(void)
{
    at_exit = 1;
}

__attribute__((destructor)) static void
finish(void)
{
    if (at_exit)
        *(volatile int *)at_exit = 0;
}
