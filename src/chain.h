/* chain: who had a signal before us, and how it is raised again. */

#ifndef FAULTHANDLER_CHAIN_H
#define FAULTHANDLER_CHAIN_H

#include "platform.h"

/* Is the action a handler?  The kernel looks at the address alone: with
   SA_RESETHAND the flags stay as they were. */
static bool
sig_is_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* Install a handler, keep what was there.  Returns -1 with errno. */
static int
sig_install(int signum, void (*handler)(int, siginfo_t *, void *), int flags,
            struct sigaction *previous)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = flags | SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    return sigaction(signum, &action, previous);
}

/* Put back what was there, if the action is still ours: a handler that came
   after us may rely on being there. */
static void
sig_restore(int signum, void (*handler)(int, siginfo_t *, void *),
            const struct sigaction *previous)
{
    if (platform_handler_is(signum, handler)) {
        sigaction(signum, previous, NULL);
    }
}

/* May run inside a handler.  Send the same signal to this thread again: it
   comes when the handler returns, at the instruction that it interrupted.
   Blocked until then, also where a newer handler with SA_NODEFER called
   ours.  Returns -1 if it could not be sent. */
static int
sig_send_again(int signum, siginfo_t *info)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signum);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    return platform_queue_signal(signum, info);
}

/* May run inside a handler, as its last act.  Put the action back and send
   the signal again.  The next handler, the parent and the core then see what
   we saw. */
static void
sig_reraise(int signum, siginfo_t *info, const struct sigaction *action)
{
    sigaction(signum, action, NULL);
    if (sig_send_again(signum, info) < 0
        && (info->si_code <= 0 || signum == SIGABRT)) {
        syscall(SYS_tgkill, getpid(), platform_thread_id(), signum);
    }
    /* Where it could not be sent, a fault comes again by itself. */
}

#endif
