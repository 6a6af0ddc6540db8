/* later: the watchdog, which writes a traceback after a time.

   Nothing here runs in a handler.  The GIL is held, except where a function
   says so and in the watchdog's own thread, which never takes it. */

#ifndef FAULTHANDLER_LATER_H
#define FAULTHANDLER_LATER_H

#include "mem.h"
#include "option.h"
#include "out.h"
#include "platform.h"
#include "report.h"
#include "request.h"
#include "sink.h"

/* cancel_dump_traceback_later() waits this long for the thread to end. */
#define LATER_JOIN_NS INT64_C(900000000)

/* The longest interval, 73 years: the time of any clock plus it fits. */
#define LATER_MAX_US (INT64_MAX / 4000)

/* One watchdog.  Its thread owns it, and frees it at its end.  Filled in
   before the thread starts; afterwards others change cancelled, and only it
   the memory. */
struct later_job {
    atomic_bool cancelled;      /* set under later_lock; read without it */
    bool repeat, exit;
    int64_t interval;           /* nanoseconds */
    char title[64];
    uintptr_t interp;           /* the one that armed it: shown first */
    struct request request;
    struct report_memory memory;
};

/* The watchdog that is armed, or NULL.  One that is stuck in a write may still
   run when the next one is armed.  Under later_lock, which nobody holds for
   long. */
static struct later_job *later_current;
static pthread_mutex_t later_lock;
static pthread_cond_t later_changed;    /* one was cancelled or has ended */

static void
later_init(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&later_lock, NULL);
    pthread_cond_init(&later_changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void
later_free(struct later_job *job)
{
    sink_close(&job->request.sink);
    munmap(job, sizeof *job);
}

/* Forget the watchdog in a child of fork(), where it has no thread: close its
   file, which nobody else does. */
static void
later_forget(void)
{
    if (later_current != NULL) {
        later_free(later_current);
        later_current = NULL;
    }
    later_init();
}

/* Wait until something changes, or until a time, with the lock held. */
static void
later_wait(int64_t until)
{
    struct timespec t = {.tv_sec = (time_t)(until / 1000000000),
                         .tv_nsec = (long)(until % 1000000000)};
    pthread_cond_timedwait(&later_changed, &later_lock, &t);
}

/* Write the report.  The GIL is not held: the threads run meanwhile. */
static void
later_report(struct later_job *job)
{
    struct mem_session session;
    struct report r = {
        .memory = &job->memory, .request = &job->request,
        .kind = REPORT_LATER, .title = job->title, .interp = job->interp,
        .out.cancelled = &job->cancelled,
    };
    mem_begin(&session);
    r.has_door = report_enter();
    report_write(&r);
    report_finish(&r);
    mem_end(&session);
    if (job->exit && !job->cancelled) {
        _exit(1);
    }
}

/* The end of a job, also of one whose thread could not be started. */
static void
later_end(struct later_job *job)
{
    pthread_mutex_lock(&later_lock);
    if (later_current == job) {
        later_current = NULL;
    }
    pthread_cond_broadcast(&later_changed);
    pthread_mutex_unlock(&later_lock);
    later_free(job);
}

/* The watchdog's thread.  All signals are blocked in it. */
static void *
later_run(void *argument)
{
    struct later_job *job = argument;
    int64_t due = platform_now();
    pthread_mutex_lock(&later_lock);
    do {
        due += job->interval;
        while (!job->cancelled && platform_now() < due) {
            later_wait(due);
        }
        if (!job->cancelled) {
            pthread_mutex_unlock(&later_lock);
            later_report(job);
            pthread_mutex_lock(&later_lock);
        }
        /* A report that took longer than the interval skips its turns. */
        int64_t now = platform_now();
        due = due + job->interval < now ? now : due;
    } while (job->repeat && !job->cancelled);
    pthread_mutex_unlock(&later_lock);
    later_end(job);
    return NULL;
}

/* Put a watchdog, or NULL, in place of the current one.  Tell that to end, and
   wait for it, but not for long: where it is stuck in a write it ends by
   itself.  The GIL is not held. */
static void
later_replace(struct later_job *next)
{
    int64_t until = platform_now() + LATER_JOIN_NS;
    pthread_mutex_lock(&later_lock);
    while (later_current != NULL) {
        later_current->cancelled = true;
        pthread_cond_broadcast(&later_changed);
        if (platform_now() >= until) {
            break;
        }
        later_wait(until);
    }
    later_current = next;
    pthread_mutex_unlock(&later_lock);
}

/* Format the title, "Timeout (0:00:05)!" and the end of the line, with
   microseconds where there are any. */
static void
later_format_title(struct later_job *job, int64_t microseconds)
{
    long long s = microseconds / 1000000;
    char fraction[16] = "";
    if (microseconds % 1000000 != 0) {
        PyOS_snprintf(fraction, sizeof fraction, ".%06d",
                      (int)(microseconds % 1000000));
    }
    PyOS_snprintf(job->title, sizeof job->title,
                  "Timeout (%lld:%02d:%02d%s)!\n", s / 3600,
                  (int)(s / 60 % 60), (int)(s % 60), fraction);
}

/* Make a job, which takes the request's sink over.  Returns NULL if there
   is no memory.  A mapping: its memory is touched only where it is used. */
static struct later_job *
later_new_job(const struct request *request, int64_t microseconds)
{
    struct later_job *job = mmap(NULL, sizeof *job, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (job == MAP_FAILED) {
        return NULL;
    }
    job->interval = 1000 * (microseconds < LATER_MAX_US ? microseconds
                                                        : LATER_MAX_US);
    job->interp = (uintptr_t)PyThreadState_Get()->interp;
    job->request = *request;
    later_format_title(job, microseconds);
    return job;
}

/* Start the job's thread, whose stack has the usual size: the thread-local
   variables of all libraries are on it, too.  Returns an error number.  The
   GIL is not held. */
static int
later_start(struct later_job *job)
{
    pthread_t thread;
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    int error = pthread_create(&thread, NULL, later_run, job);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (error == 0) {
        pthread_detach(thread);
    }
    return error;
}

/* Turn a timeout in seconds into microseconds, or -1 with an exception.
   Rounded up twice, as Python does, since the title shows them: 1.07 is
   1.070001. */
static int64_t
later_parse_timeout(PyObject *timeout)
{
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError,
                        "Invalid value NaN (not a number)");
        return -1;
    }
    double nanoseconds = ceil(seconds * 1e9);
    if (!(fabs(nanoseconds) < 0x1p63)) {
        PyErr_SetString(PyExc_OverflowError,
                        "timestamp out of range for C PyTime_t");
        return -1;
    }
    if (seconds <= 0.0) {
        PyErr_SetString(PyExc_ValueError, "timeout must be greater than 0");
        return -1;
    }
    int64_t whole = (int64_t)nanoseconds;
    return whole / 1000 + (whole % 1000 != 0);
}

PyDoc_STRVAR(later_dump_traceback_doc,
"dump_traceback_later($module, /, timeout, repeat=False, file=None,\n"
"                     exit=False, *, max_threads=100, details=False)\n"
"--\n"
"\n"
"Write the traceback of all threads to file in timeout seconds.\n"
"\n"
"repeat: again every timeout seconds, until cancelled.  exit: leave with\n"
"_exit(1) after the first report.  A call replaces the one before it.  file\n"
"and max_threads: as for enable(); each report opens a path anew.  With\n"
"details, a line under the title says which process it is, and when, and\n"
"each thread has a line with its context, where one is set.\n"
"Returns None.  Raises ValueError if timeout is not positive, OverflowError\n"
"if it is too large, RuntimeError if no thread can be started, and what\n"
"enable() raises for file.");

static PyObject *
later_dump_traceback(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", "repeat", "file", "exit",
                            "max_threads", "details", NULL};
    struct module_state *state = PyModule_GetState(module);
    struct request request = OPTION_DEFAULTS;
    PyObject *timeout, *file = NULL, *keep;
    int repeat = 0, exit_after = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "O|pOp$O&O&:dump_traceback_later", names,
                                     &timeout, &repeat, &file, &exit_after,
                                     option_max_threads, &request.max_threads,
                                     option_truth, &request.details)) {
        return NULL;
    }
    int64_t microseconds = later_parse_timeout(timeout);
    if (microseconds < 0
        || sink_resolve(file, "file", &request.sink, &keep) < 0) {
        return NULL;
    }
    struct later_job *job = later_new_job(&request, microseconds);
    if (job == NULL) {
        sink_close(&request.sink);
        Py_XDECREF(keep);
        return PyErr_NoMemory();
    }
    job->repeat = repeat;
    job->exit = exit_after;
    int error;
    /* Started without the GIL: the thread that has it may never give it
       back, which is what the watchdog is for. */
    Py_BEGIN_ALLOW_THREADS
    later_replace(job);
    error = later_start(job);
    Py_END_ALLOW_THREADS
    if (error != 0) {
        later_end(job);
        Py_XDECREF(keep);
        PyErr_Format(PyExc_RuntimeError, "unable to start watchdog thread: %s",
                     strerror(error));
        return NULL;
    }
    sink_keep(&state->later_file, keep);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(later_cancel_doc,
"cancel_dump_traceback_later($module, /)\n"
"--\n"
"\n"
"Cancel the last call of dump_traceback_later(), if there is one.\n"
"\n"
"Returns None, within a second.");

static PyObject *
later_cancel(PyObject *module, PyObject *args)
{
    struct module_state *state = PyModule_GetState(module);
    (void)args;
    Py_BEGIN_ALLOW_THREADS
    later_replace(NULL);
    Py_END_ALLOW_THREADS
    sink_keep(&state->later_file, NULL);
    Py_RETURN_NONE;
}

#endif
