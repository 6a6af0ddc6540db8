/* chain: who had a fatal signal before us, and how it gets it.

   Everything may run inside a signal handler, except functions that say that
   they need state_lock (request.h).  This room never reports.

   The states of one signal:

     not armed <----- disable() ------- armed <--------------------------+
         |                               ^ |                             |
         +---------- enable() -----------+ | the signal comes            |
                                           v                             |
                                       reported                          |
                                           |  who had it before us?      |
             +-----------------------------+---------------+             |
             | the default action          | SIG_IGN       | a handler   |
             v                             |               v             |
      SIG_DFL is put in place              |         it is called        |
      ("dying"), the handler               |               |             |
      returns                              |               | it returns  |
             |          |                  +---------------+------------>+
             v          | the process survives                           |
        the process     +----------------------------------------------->+
           dies

   - A fault comes again by itself when the handler returns, with the same
     siginfo and registers.  What was sent, or told of afterwards, is queued
     again with its siginfo.  Faults are not queued: valgrind takes a queued
     one for its own.
   - The process survives what was sent where it is process 1 of a namespace,
     or where a debugger discards the signal.  It is armed again at once.
     Where a debugger repairs a fault the default action stays in place until
     enable() is called or another signal is reported.
   - An older handler may repair faults, as a Java machine does.  Once it was
     called for a fault, it is asked before each report ("asked").  If it
     restores the default action, it has given up: we are armed again, the
     fault comes again, and we report it.

   Our handler calls the older one.  We do not install it for a moment: another
   thread's signal would then reach it without us, and nobody might install
   ours again. */

#ifndef FAULTHANDLER_CHAIN_H
#define FAULTHANDLER_CHAIN_H

#include "cpu.h"
#include "fault.h"
#include "mem.h"
#include "platform.h"

/* One signal's state.  The slots, older and armed are written under
   state_lock.  A slot in use is never written.  Handlers may set older to
   NULL, and set or clear asked and dying. */
struct chain {
    struct sigaction slots[2];
    /* Who had it before us.  NULL: the default action.  Also after
       SA_RESETHAND, or when it gave up. */
    _Atomic(const struct sigaction *) older;
    atomic_bool armed;          /* our handler was installed */
    atomic_bool asked;          /* the older handler may repair faults */
    atomic_bool dying;          /* SIG_DFL is in place for a process to die */
};

static struct chain chain_states[FAULT_COUNT];
#define CHAIN_END (chain_states + FAULT_COUNT)

static struct chain *
chain_find(int signum)
{
    return &chain_states[fault_find(signum) - fault_signals];
}

static int
chain_signum(const struct chain *chain)
{
    return fault_signals[chain - chain_states].signum;
}

/* Is the action a handler?  Look at the address only, as the kernel does:
   SA_RESETHAND sets it to SIG_DFL and leaves the flags. */
static bool
chain_is_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* Install a handler, keep what was there.  Returns -1 with errno. */
static int
chain_install(int signum, void (*handler)(int, siginfo_t *, void *),
              int flags, struct sigaction *previous)
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
chain_restore(int signum, void (*handler)(int, siginfo_t *, void *),
              const struct sigaction *previous)
{
    if (platform_handler_is(signum, handler)) {
        sigaction(signum, previous, NULL);
    }
}

/* Return what is to happen after us: the older action, or the default one. */
static struct sigaction
chain_older(const struct chain *chain)
{
    const struct sigaction *older = atomic_load(&chain->older);
    return older != NULL ? *older
                         : (struct sigaction) {.sa_handler = SIG_DFL};
}

/* Install our handler.  If the process survives, interrupted system calls are
   restarted, unless the older handler was installed without SA_RESTART.
   Returns -1 with errno. */
static int
chain_install_ours(const struct chain *chain)
{
    struct sigaction older = chain_older(chain);
    int restart = chain_is_handler(&older) ? older.sa_flags & SA_RESTART
                                           : SA_RESTART;
    return chain_install(chain_signum(chain), mem_fatal_handler,
                         SA_ONSTACK | restart, NULL);
}

/* ---- Calling the older handler ---- */

/* A call of an older handler by ours, on the stack of the thread. */
struct chain_call {
    /* Points to itself during the call.  Another value: a longjmp() left the
       call, and the memory was used again. */
    const struct chain_call *self;
    int signum;
    const void *context;
    bool reported;              /* there is a report of this signal */
    bool ended;                 /* it has called ours, which ended the chain */
};
THREAD_LOCAL struct chain_call *chain_here;

/* Return the older handler's call that this signal came out of, or NULL.
   Either the older handler calls ours, with the same context, from a frame
   below its own; or the signal interrupted it.  After a longjmp() the struct
   may be overwritten, or its stack unmapped: so it is probed first.  A
   sanitizer would object to reading it. */
UNSANITIZED static struct chain_call *
chain_inside(const void *context, const void *our_frame)
{
    const stack_t *alternate = &((const ucontext_t *)context)->uc_stack;
    struct chain_call *call = chain_here;
    uintptr_t at = (uintptr_t)call, base = (uintptr_t)alternate->ss_sp;
    uintptr_t sp = cpu_get_place(context).sp;
    struct chain_call copy;     /* only a probe */
    /* Other errors mean that a sandbox forbids the probe. */
    if (call == NULL
        || (platform_read_self(getpid(), &copy, call, sizeof copy) < 0
            && errno == EFAULT)
        || call->self != call) {
        return NULL;
    }
    bool same_stack = (sp - base < alternate->ss_size)
                      == (at - base < alternate->ss_size);
    bool inside = context == call->context ? (uintptr_t)our_frame < at
                                           : same_stack && sp < at;
    return inside ? call : NULL;
}

/* Call an older handler as the kernel would have, with the mask that it asked
   for. */
static void
chain_call_older(const struct sigaction *older, int signum, siginfo_t *info,
                 void *context)
{
    sigset_t one, mask;
    sigemptyset(&one);
    sigaddset(&one, signum);
    pthread_sigmask(SIG_BLOCK, &older->sa_mask, &mask);
    if (older->sa_flags & SA_NODEFER) {
        pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    }
    if (older->sa_flags & SA_SIGINFO) {
        older->sa_sigaction(signum, info, context);
    }
    else {
        older->sa_handler(signum);
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* After the older handler has returned: if it installed itself or the default
   action, install ours.  Not where the process is to die: it restored the
   default action, and raised the signal again or left a reported fault. */
static void
chain_take_back(struct chain *chain, const struct sigaction *older,
                const struct chain_call *call, const siginfo_t *info)
{
    struct sigaction now;
    sigset_t pending;
    sigemptyset(&pending);
    /* The chain has ended, the process is dying, or we are disarmed. */
    if (call->ended || atomic_load(&chain->dying)
        || !atomic_load(&chain->armed)
        || sigaction(call->signum, NULL, &now) < 0) {
        return;
    }
    if (now.sa_handler == SIG_DFL) {
        sigpending(&pending);
        if (call->reported && (fault_comes_again(info) || sigismember(
                                   &pending, call->signum) == 1)) {
            return;
        }
        atomic_store(&chain->older, NULL);
        chain_install_ours(chain);
    }
    else if (now.sa_sigaction == older->sa_sigaction) {
        chain_install_ours(chain);
    }
}

/* Hand the signal to the older handler.  It may leave by a jump. */
static void
chain_pass(struct chain *chain, const struct sigaction *older,
           const struct chain_call *inside, bool reported, siginfo_t *info,
           void *context)
{
    /* Unless we are inside it, a jump may have left it behind. */
    struct chain_call *outer = inside != NULL ? chain_here : NULL;
    struct chain_call call = {
        .self = &call, .signum = info->si_signo, .context = context,
        .reported = reported,
    };
    if (fault_comes_again(info)) {
        atomic_store(&chain->asked, true);
    }
    if (older->sa_flags & (int)SA_RESETHAND) {
        atomic_store(&chain->older, NULL);
    }
    chain_here = &call;
    chain_call_older(older, call.signum, info, context);
    chain_here = outer;
    call.self = NULL;
    chain_take_back(chain, older, &call, info);
}

/* Is the older handler asked before this signal is reported? */
static bool
chain_asks_first(const struct chain *chain, const siginfo_t *info)
{
    struct sigaction older = chain_older(chain);
    return fault_comes_again(info) && chain_is_handler(&older)
           && atomic_load(&chain->asked);
}

/* ---- The default action ---- */

/* The last act of a handler: let the default action happen when it returns,
   at the instruction that was interrupted.  A fault comes again by itself; all
   else is sent again, to this thread, and waits until then.
   Returns whether it was sent. */
static bool
chain_end(struct chain *chain, siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    bool sent = !fault_comes_again(info);
    atomic_store(&chain->dying, true);
    sigaction(info->si_signo, &action, NULL);
    if (sent && platform_queue_signal(info->si_signo, info) < 0) {
        /* The siginfo is lost. */
        syscall(SYS_tgkill, getpid(), platform_thread_id(), info->si_signo);
    }
    return sent;
}

/* The process was to die and did not: install our handlers again. */
static void
chain_revive(void)
{
    for (struct chain *chain = chain_states; chain < CHAIN_END; chain++) {
        if (atomic_exchange(&chain->dying, false)) {
            chain_install_ours(chain);
        }
    }
}

/* ---- Arming: under state_lock, except at the interpreter's end ---- */

/* Is our handler to be installed?  Where it never was, and where the action is
   now SIG_DFL or SIG_IGN.  Leave any other handler alone: it may call ours. */
static bool
chain_is_due(const struct chain *chain)
{
    struct sigaction now;
    return !atomic_load(&chain->armed)
           || (sigaction(chain_signum(chain), NULL, &now) == 0
               && !chain_is_handler(&now));
}

/* Install our handler.  The older action is stored before that: a signal may
   come at once.  Returns -1 with errno. */
static int
chain_arm_one(struct chain *chain)
{
    /* The slot that is not in use. */
    struct sigaction *slot = &chain->slots[atomic_load(&chain->older)
                                           == &chain->slots[0]];
    if (sigaction(chain_signum(chain), NULL, slot) < 0) {
        return -1;
    }
    if (slot->sa_sigaction != mem_fatal_handler
        && !atomic_load(&chain->dying)) {
        atomic_store(&chain->older, slot);
        atomic_store(&chain->asked, false);
    }
    atomic_store(&chain->dying, false);
    if (chain_install_ours(chain) < 0) {
        return -1;
    }
    atomic_store(&chain->armed, true);
    return 0;
}

/* Install the handlers that are missing; with given_back, only those that
   chain_disarm(true) took away.  Returns -1 with errno where a sandbox forbids
   it: then the first call fails already. */
static int
chain_arm(bool given_back)
{
    for (struct chain *chain = chain_states; chain < CHAIN_END; chain++) {
        bool due = given_back ? !atomic_load(&chain->armed)
                              : chain_is_due(chain);
        if (due && chain_arm_one(chain) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Put back what was there, if the action is still ours.  At the interpreter's
   end restore only real handlers and SIG_IGN.  Where the default action was,
   stay: later code may still crash.  Then this runs without state_lock, which
   a stopped thread may hold. */
static void
chain_disarm(bool at_end)
{
    for (struct chain *chain = chain_states; chain < CHAIN_END; chain++) {
        struct sigaction older = chain_older(chain);
        if ((!at_end || older.sa_handler != SIG_DFL)
            && atomic_exchange(&chain->armed, false)) {
            chain_restore(chain_signum(chain), mem_fatal_handler, &older);
        }
    }
}

#endif
