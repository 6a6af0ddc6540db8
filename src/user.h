/* user: write a traceback whenever a signal comes.

   The functions called on_* run in handlers.  In the others the GIL is
   held, or on a free-threaded build the thread attached. */

#ifndef FAULTHANDLER_USER_H
#define FAULTHANDLER_USER_H

#include "chain.h"
#include "cpu.h"
#include "fault.h"
#include "mem.h"
#include "out.h"
#include "platform.h"
#include "report.h"
#include "request.h"
#include "sink.h"
#include "stack.h"

/* What a signal prints, and whether the older handler is called then. */
struct user_request {
    struct request request;
    bool chain;
};

/* The signals that are registered.  All is written under state_lock;
   handlers read it.  A new request goes into the slot that is not active.
   A handler may still write a report from that slot: its file is closed,
   and the slot free, only when the door was had.  previous is set before
   the handler is installed; the handler itself changes it where it was to
   be used once. */
static struct user_signal {
    _Atomic(struct user_request *) active;      /* NULL: not registered */
    struct user_request slots[2];
    struct sigaction previous;
} user_signals[NSIG];

/* Of the handler that has the door. */
static struct report_memory user_memory;

/* How long it may take to say that there is no report. */
#define USER_SKIP_NS INT64_C(2000000000)
#define USER_SKIPPED "<traceback skipped: another report is being written>\n"

/* Say that there is no report, since another one takes too long.  Its buffer
   is not ours to use. */
static void
on_user_skip(const struct request *request)
{
    char text[] = USER_SKIPPED;
    struct out o = {
        .text = text, .size = sizeof text, .used = sizeof text - 1,
        .places = {{.sink = &request->sink}},
        .deadline = platform_now() + USER_SKIP_NS,
    };
    out_flush(&o);
    out_close(&o);
}

/* Write the report. */
__attribute__((noinline)) static void
on_user_report(void *argument)
{
    const struct request *request = argument;
    struct mem_session session;
    struct report r;
    mem_begin(&session);
    if (!report_enter()) {
        on_user_skip(request);
    }
    else {
        memset(&r, 0, sizeof r);
        report_use_memory(&r, &user_memory);
        r.request = request;
        r.kind = REPORT_USER;
        report_write(&r);
        report_finish(&r);
        report_leave();
    }
    mem_end(&session);
}

/* Let the default action happen, then install our handler again: the action
   may have stopped the process only for a while. */
static void
on_user_chain_default(int signum, const struct sigaction *previous)
{
    struct sigaction ours;
    sigset_t one, mask;
    sigemptyset(&one);
    sigaddset(&one, signum);
    sigaction(signum, previous, &ours);
    syscall(SYS_tgkill, getpid(), platform_thread_id(), signum);
    pthread_sigmask(SIG_UNBLOCK, &one, &mask);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    sigaction(signum, &ours, NULL);
}

/* Let happen what would have happened without us. */
static void
on_user_chain(int signum, siginfo_t *info, void *context,
              struct user_signal *user)
{
    struct sigaction previous = user->previous;
    if (previous.sa_handler == SIG_IGN) {
        return;
    }
    if (previous.sa_handler == SIG_DFL) {
        on_user_chain_default(signum, &previous);
        return;
    }
    if (previous.sa_flags & (int)SA_RESETHAND) {
        user->previous.sa_flags &= ~SA_SIGINFO;
        user->previous.sa_handler = SIG_DFL;
    }
    chain_call_older(&previous, signum, info, context);
}

/* Stands in the link of the signal's ucontext while the older handler runs.
   That handler may chain to ours, where ours was registered again above it.
   Not a thread-local variable: an older handler that leaves by a jump would
   leave that set, while the kernel writes each signal's ucontext anew. */
static ucontext_t user_chained;

/* The handler of registered signals. */
CPU_HANDLER static void
on_user_signal(int signum, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    struct user_signal *user = &user_signals[signum];
    struct user_request *request = atomic_load(&user->active);
    ucontext_t *uc = context, *link = uc->uc_link;
    if (link == &user_chained) {
        return;
    }
    if (request != NULL && !stack_is_small(context)) {
        on_user_report(&request->request);
    }
    else if (request != NULL
             && !stack_call_on_spare(&stack_user_spare, on_user_report,
                                     &request->request)) {
        on_user_skip(&request->request);
    }
    errno = saved_errno;
    if (request != NULL && request->chain) {
        uc->uc_link = &user_chained;
        on_user_chain(signum, info, context, user);
        uc->uc_link = link;
    }
}

/* Return the number of a signal that can be registered, or -1 with an
   exception. */
static int
user_parse_signal(PyObject *argument)
{
    int signum;
    if (sink_parse_int(argument, &signum) < 0) {
        return -1;
    }
    if (fault_find(signum) != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "signal %d cannot be registered, use enable() instead",
                     signum);
        return -1;
    }
    if (signum < 1 || signum >= NSIG) {
        PyErr_SetString(PyExc_ValueError, "signal number out of range");
        return -1;
    }
    return signum;
}

/* Return the flags of our handler.  With chain they are the older
   handler's: it decides whether system calls are restarted, on which stack
   it runs and what it may interrupt. */
static int
user_flags(const struct sigaction *previous, bool chain)
{
    if (chain && chain_is_handler(previous)) {
        return previous->sa_flags & (SA_RESTART | SA_ONSTACK | SA_NODEFER
                                     | SA_NOCLDSTOP | SA_NOCLDWAIT);
    }
    return SA_RESTART | SA_ONSTACK;
}

/* Close the files of the slots that are not active.  A handler in another
   thread may be writing to one; it holds the door.  Where the door cannot
   be had for long, the file stays open until the next call: otherwise the
   report could go to another file that gets its number. */
static void
user_close_sinks(struct user_signal *user)
{
    struct mem_session session;
    Py_BEGIN_ALLOW_THREADS
    mem_begin(&session);        /* no signal of our own meanwhile */
    if (report_enter()) {
        /* Not a wait: a thread that holds it may be in a handler that waits
           for the door. */
        if (pthread_mutex_trylock(&state_lock) == 0) {
            for (size_t i = 0; i < 2; i++) {
                if (&user->slots[i] != atomic_load(&user->active)) {
                    sink_close(&user->slots[i].request.sink);
                }
            }
            pthread_mutex_unlock(&state_lock);
        }
        report_leave();
    }
    mem_end(&session);
    Py_END_ALLOW_THREADS
}

/* Fill the slot that is not in use, publish it, install the handler.
   Returns -1 with errno. */
static int
user_arm(int signum, struct user_request *request)
{
    struct user_signal *user = &user_signals[signum];
    pthread_mutex_lock(&state_lock);
    struct user_request *before = atomic_load(&user->active);
    struct user_request *slot = &user->slots[before == &user->slots[0]];
    int result = 0, error = 0;
    /* Its last file may still be written to, as long as a report takes. */
    for (int tries = 0; tries < 3 && slot->request.sink.kind != SINK_NOWHERE;
         tries++) {
        pthread_mutex_unlock(&state_lock);
        user_close_sinks(user);
        pthread_mutex_lock(&state_lock);
        before = atomic_load(&user->active);
        slot = &user->slots[before == &user->slots[0]];
    }
    *slot = *request;
    if (before == NULL) {
        result = sigaction(signum, NULL, &user->previous);
    }
    if (result == 0 && (before == NULL
                        || platform_handler_is(signum, on_user_signal))) {
        result = chain_install(signum, on_user_signal,
                               user_flags(&user->previous, request->chain),
                               NULL);
    }
    error = errno;
    if (result == 0) {
        atomic_store(&user->active, slot);
    }
    pthread_mutex_unlock(&state_lock);
    if (result < 0) {
        sink_close(&slot->request.sink);
    }
    else if (before != NULL) {
        user_close_sinks(user);
    }
    errno = error;
    return result;
}

PyDoc_STRVAR(user_register_doc,
"register($module, /, signum, file=None, all_threads=True, chain=False, *,\n"
"         max_threads=100, details=False)\n"
"--\n"
"\n"
"Write the traceback of all threads, or of the one that gets it, to file\n"
"whenever the signal signum comes.\n"
"\n"
"file is an object with fileno(), a descriptor, a path, which each report\n"
"opens anew, or None for sys.stderr.  At most max_threads threads are shown\n"
"(0: 100).  With details, the first line says which thread of which process\n"
"got the signal, and when, and each thread has a line with its context,\n"
"where one is set.  chain: then call the handler that was there before.\n"
"Where that is the default action, it happens: for most signals the process\n"
"ends.  Returns None.  Raises RuntimeError for the signals that enable()\n"
"arms, ValueError if signum is out of range, OSError if it cannot be\n"
"handled, and what enable() raises for file.");

static PyObject *
user_register(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"signum", "file", "all_threads", "chain",
                            "max_threads", "details", NULL};
    struct module_state *state = PyModule_GetState(module);
    PyObject *number, *file = NULL, *keep;
    int signum, all_threads = 1, chain = 0, details = 0;
    Py_ssize_t max_threads = 100;
    struct sink sink;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Opp$np:register", names,
                                     &number, &file, &all_threads, &chain,
                                     &max_threads, &details)
        || (signum = user_parse_signal(number)) < 0
        || sink_resolve(file, "file", &sink, &keep) < 0) {
        return NULL;
    }
    struct user_request request = {
        .request = {.sink = sink, .all_threads = all_threads,
                    .details = details,
                    .max_threads = request_max_threads(max_threads)},
        .chain = chain,
    };
    if (user_arm(signum, &request) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_XDECREF(keep);
        return NULL;
    }
    sink_keep(&state->user_files[signum], keep);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(user_unregister_doc,
"unregister($module, signum, /)\n"
"--\n"
"\n"
"Take back register(signum); returns whether it was registered.\n"
"\n"
"Raises RuntimeError for the signals that enable() arms, and ValueError if\n"
"signum is out of range.");

static PyObject *
user_unregister(PyObject *module, PyObject *number)
{
    struct module_state *state = PyModule_GetState(module);
    int signum = user_parse_signal(number);
    if (signum < 0) {
        return NULL;
    }
    struct user_signal *user = &user_signals[signum];
    pthread_mutex_lock(&state_lock);
    struct user_request *active = atomic_load(&user->active);
    if (active != NULL) {
        chain_restore(signum, on_user_signal, &user->previous);
        atomic_store(&user->active, NULL);
    }
    pthread_mutex_unlock(&state_lock);
    if (active != NULL) {
        user_close_sinks(user);
    }
    sink_keep(&state->user_files[signum], NULL);
    return PyBool_FromLong(active != NULL);
}

#endif
