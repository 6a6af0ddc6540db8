/* user: write a traceback whenever a signal comes.

   The functions called on_* run in handlers.  In the others the GIL is
   held, or on a free-threaded build the thread attached. */

#ifndef FAULTHANDLER_USER_H
#define FAULTHANDLER_USER_H

#include "chain.h"
#include "cpu.h"
#include "fault.h"
#include "mem.h"
#include "option.h"
#include "out.h"
#include "platform.h"
#include "report.h"
#include "request.h"
#include "sink.h"
#include "stack.h"

/* The signals that are registered.  Who has the door (src/request.h) reads and
   writes a request, so that no handler meets one that is half written, or
   whose file was closed.  Only the line that says that there is no report is
   written without the door.  previous is set before the handler is
   installed. */
static struct user_signal {
    atomic_bool registered;
    atomic_bool chain;          /* the older handler is called, too */
    struct request request;
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
    struct report r = {
        .memory = &user_memory, .request = request, .kind = REPORT_USER,
    };
    mem_begin(&session);
    r.has_door = report_enter();
    if (r.has_door) {
        report_write(&r);
        report_finish(&r);
    }
    else {
        on_user_skip(request);
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
              const struct sigaction *previous)
{
    if (previous->sa_handler == SIG_DFL) {
        on_user_chain_default(signum, previous);
    }
    else if (previous->sa_handler != SIG_IGN) {
        chain_call_older(previous, signum, info, context);
    }
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
    ucontext_t *uc = context, *link = uc->uc_link;
    if (link == &user_chained || !atomic_load(&user->registered)) {
        return;
    }
    if (!stack_is_small(context)) {
        on_user_report(&user->request);
    }
    else if (!stack_call_on_spare(STACK_USER, on_user_report,
                                  &user->request)) {
        on_user_skip(&user->request);
    }
    errno = saved_errno;
    if (atomic_load(&user->chain)) {
        uc->uc_link = &user_chained;
        on_user_chain(signum, info, context, &user->previous);
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

/* Take the door, or return false where a report is stuck.  Another one takes
   6.5 s at the most, a try 2.5 s. */
static bool
user_enter(void)
{
    return report_enter() || report_enter() || report_enter();
}

/* Put a request in place of the one before it, and install the handler.
   Returns an error number.  The GIL is not held: the reader of a pipe may be
   a thread of this process. */
static int
user_arm(int signum, bool chain, const struct request *request)
{
    struct user_signal *user = &user_signals[signum];
    sigset_t mask;
    int error = EBUSY;
    mem_block_signals(&mask);   /* no report of our own meanwhile */
    if (user_enter()) {
        bool before = atomic_load(&user->registered);
        bool newer = before && !platform_handler_is(signum, on_user_signal);
        if (!before) {
            sigaction(signum, NULL, &user->previous);
        }
        int flags = user_flags(&user->previous, chain);
        error = newer || chain_install(signum, on_user_signal, flags,
                                       NULL) == 0 ? 0 : errno;
        if (error == 0) {
            atomic_store(&user->registered, false);
            sink_close(&user->request.sink);
            user->request = *request;
            atomic_store(&user->chain, chain);
            atomic_store(&user->registered, true);
        }
        report_leave();
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return error;
}

/* Put the older handler back, and close the file; where a report is stuck the
   next call of register() closes it.  Returns whether the signal was
   registered.  The GIL is not held. */
static bool
user_disarm(int signum)
{
    struct user_signal *user = &user_signals[signum];
    sigset_t mask;
    mem_block_signals(&mask);
    bool mine = user_enter();
    bool before = atomic_load(&user->registered);
    if (before) {
        chain_restore(signum, on_user_signal, &user->previous);
        atomic_store(&user->registered, false);
    }
    if (mine) {
        sink_close(&user->request.sink);
        report_leave();
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return before;
}

PyDoc_STRVAR(user_register_doc,
"register($module, /, signum, file=None, all_threads=True, chain=False, *,\n"
"         max_threads=100, details=False)\n"
"--\n"
"\n"
"Write the traceback of all threads, or of the one that gets it, to file\n"
"whenever the signal signum comes.\n"
"\n"
"file and max_threads: as for enable(); each report opens a path anew.  With\n"
"details, the first line says which thread of which process got the signal,\n"
"and when, and each thread has a line with its context, where one is set.\n"
"chain: then call the handler that was there before.  Where that is the\n"
"default action, it happens: for most signals the process ends.  Returns\n"
"None.  Raises RuntimeError for the signals that enable() arms, ValueError\n"
"if signum is out of range, OSError if it cannot be handled, and what\n"
"enable() raises for file.");

static PyObject *
user_register(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"signum", "file", "all_threads", "chain",
                            "max_threads", "details", NULL};
    struct module_state *state = PyModule_GetState(module);
    struct request request = OPTION_DEFAULTS;
    PyObject *number, *file = NULL, *keep;
    int signum, chain = 0, error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO&p$O&O&:register",
                                     names, &number, &file, option_truth,
                                     &request.all_threads, &chain,
                                     option_max_threads, &request.max_threads,
                                     option_truth, &request.details)
        || (signum = user_parse_signal(number)) < 0
        || sink_resolve(file, "file", &request.sink, &keep) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    error = user_arm(signum, chain, &request);
    Py_END_ALLOW_THREADS
    if (error != 0) {
        sink_close(&request.sink);
        Py_XDECREF(keep);
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
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
    bool before;
    if (signum < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    before = user_disarm(signum);
    Py_END_ALLOW_THREADS
    sink_keep(&state->user_files[signum], NULL);
    return PyBool_FromLong(before);
}

#endif
