/* selftest: do our own walks agree with what the interpreter says of itself?

   Runs once, when the module is imported, with the GIL held or the thread
   attached.  Where it fails, reports say that frames cannot be read on this
   build instead of guessing. */

#ifndef FAULTHANDLER_SELFTEST_H
#define FAULTHANDLER_SELFTEST_H

#include "code.h"
#include "cpython.h"
#include "frame.h"
#include "mem.h"
#include "out.h"
#include "platform.h"
#include "str.h"
#include "thread.h"

#include <semaphore.h>

/* As many frames of a stack are compared. */
#define SELFTEST_FRAMES 32

/* In free-threaded builds each thread runs its own copy of the instructions,
   so the importing thread tells nothing of the others: start one.  Elsewhere
   all threads are read alike, and a thread in every process would cost more
   than it tells: some programs may have only one when they call unshare(). */
#ifndef SELFTEST_STARTS_THREAD
#  define SELFTEST_STARTS_THREAD (CPYTHON_CODE_COPIES != CPYTHON_UNKNOWN)
#endif

/* Return whether our walk found the code object and the line of a frame
   object. */
static bool
selftest_frame_agrees(PyObject *frame, const struct frame_walk *w)
{
    PyObject *code = PyObject_GetAttrString(frame, "f_code");
    PyObject *line = PyObject_GetAttrString(frame, "f_lineno");
    int ours = frame_line(&w->frame, &w->code);
    bool agrees = code != NULL && line != NULL
                  && w->code.at == (uintptr_t)code;
    if (agrees && line == Py_None) {
        agrees = ours == CODE_NO_LINE;
    }
    else if (agrees) {
        agrees = PyLong_AsLong(line) == ours;
    }
    Py_XDECREF(code);
    Py_XDECREF(line);
    return agrees;
}

/* Return whether we read the name of a frame object's function as it is. */
static bool
selftest_name_agrees(PyObject *frame, const struct frame_walk *w)
{
    char text[512];
    struct out o = {.text = text, .size = sizeof text};
    PyObject *code = PyObject_GetAttrString(frame, "f_code");
    PyObject *name = code == NULL ? NULL
                     : PyObject_GetAttrString(code, "co_name");
    const char *expected = name == NULL ? NULL : PyUnicode_AsUTF8(name);
    bool agrees = expected != NULL && str_write(&o, w->code.name) == 0;
    if (agrees && strlen(expected) < 40 && PyUnicode_IS_ASCII(name)) {
        agrees = o.used == strlen(expected)
                 && memcmp(text, expected, o.used) == 0;
    }
    Py_XDECREF(code);
    Py_XDECREF(name);
    return agrees;
}

/* Return whether a walk came to the last link.  A report marks an end that is
   no entry into an evaluation loop, but frames that other tools made, as
   Nuitka does, may have such an end. */
static bool
selftest_is_end(const struct frame_walk *w, enum frame_walk_result result)
{
    return result != FRAME_WALK_ON && w->next == 0;
}

/* Walk a thread's stack as a handler would, and compare it with the frame
   objects from this one on. */
static bool
selftest_walk_agrees(uintptr_t tstate, PyObject *frame)
{
    struct frame_walk w;
    enum frame_walk_result result = frame_walk_begin(&w, tstate);
    bool agrees = frame != NULL;
    Py_XINCREF(frame);
    for (int i = 0; agrees && i < SELFTEST_FRAMES; i++) {
        if (result == FRAME_WALK_ON) {
            result = frame_walk_next(&w);
        }
        if (frame == NULL || frame == Py_None || result != FRAME_WALK_ON) {
            agrees = frame == Py_None && selftest_is_end(&w, result);
            break;
        }
        agrees = selftest_frame_agrees(frame, &w)
                 && selftest_name_agrees(frame, &w);
        PyObject *back = PyObject_GetAttrString(frame, "f_back");
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    PyErr_Clear();
    return agrees;
}

/* Return whether another thread of this interpreter, if there is one, has a
   stack that we read to its end.  It stands still while we have the GIL. */
static bool
selftest_other_agrees(const struct thread_list *list,
                      const struct thread *mine)
{
    struct frame_walk w = {.next = 0};      /* where there is no thread */
    struct thread t;
    enum frame_walk_result result = FRAME_WALK_END;
    for (size_t i = 0; i < list->count && result != FRAME_WALK_ON; i++) {
        if (list->threads[i] != mine->at && list->interps[i] == mine->interp
            && thread_read(list->threads[i], &t) == 0) {
            result = frame_walk_begin(&w, t.at);
            result = result == FRAME_WALK_ON ? frame_walk_next(&w) : result;
        }
    }
    while (result == FRAME_WALK_ON) {
        if (w.code.at == 0) {
            return false;
        }
        result = frame_walk_next(&w);
    }
    return selftest_is_end(&w, result);
}

/* Compare our own stack, find our own thread, read another one. */
static bool
selftest_threads_agree(void)
{
    struct mem_session session;
    struct thread t;
    const PyThreadState *mine = PyThreadState_Get();
    struct thread_list *list = PyMem_RawMalloc(sizeof *list);
    bool agrees = false;
    if (list != NULL) {
        mem_begin(&session);
        thread_list_fill(list, 0);
        /* Importing a module always has frames: those of the import system. */
        agrees = !list->damaged && thread_find_current(list, &t)
                 && t.at == (uintptr_t)mine
                 && t.interp == (uintptr_t)mine->interp
                 && selftest_walk_agrees((uintptr_t)mine,
                                         (PyObject *)PyEval_GetFrame())
                 && (SELFTEST_STARTS_THREAD
                     || selftest_other_agrees(list, &t));
        mem_end(&session);
    }
    PyMem_RawFree(list);
    return agrees;
}

/* A second thread, which calls a function of Python and then waits. */
struct selftest_thread {
    PyInterpreterState *interp;
    PyObject *function;         /* calls its argument */
    PyThreadState *state;
    PyObject *frame;            /* that it waits in, or NULL if it ended */
    sem_t waits, ends;
};

static void
selftest_wait(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0 && errno == EINTR) {
    }
}

/* What the second thread's function calls.  self is the thread's address. */
static PyObject *
selftest_call(PyObject *self, PyObject *args)
{
    struct selftest_thread *t = PyLong_AsVoidPtr(self);
    (void)args;
    if (t == NULL) {
        return NULL;
    }
    t->frame = (PyObject *)PyEval_GetFrame();
    Py_XINCREF(t->frame);
    Py_BEGIN_ALLOW_THREADS
    sem_post(&t->waits);
    selftest_wait(&t->ends);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef selftest_call_def = {
    "faulthandler_self_test", selftest_call, METH_NOARGS, NULL
};

static void *
selftest_run(void *argument)
{
    struct selftest_thread *t = argument;
    t->state = PyThreadState_New(t->interp);
    if (t->state != NULL) {
        PyEval_AcquireThread(t->state);
        PyObject *self = PyLong_FromVoidPtr(t);
        PyObject *call = self == NULL ? NULL
                         : PyCFunction_New(&selftest_call_def, self);
        PyObject *result = call == NULL ? NULL
            : PyObject_CallFunctionObjArgs(t->function, call, NULL);
        Py_XDECREF(result);
        Py_XDECREF(call);
        Py_XDECREF(self);
        PyErr_Clear();
        PyThreadState_Clear(t->state);
        PyThreadState_DeleteCurrent();
    }
    sem_post(&t->waits);        /* where it never came to wait */
    return NULL;
}

/* Start a thread that takes no signals.  Returns -1 if there can be none. */
static int
selftest_start(struct selftest_thread *t, pthread_t *thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, selftest_run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? 0 : -1;
}

/* Start a second thread, and compare its stack while it waits.  Where none can
   be started there is nothing to disagree. */
static bool
selftest_second_agrees(void)
{
    struct selftest_thread t = {.interp = PyThreadState_Get()->interp};
    struct mem_session session;
    pthread_t thread;
    bool agrees = true;
    PyObject *import = PyImport_ImportModule("_frozen_importlib");
    t.function = import == NULL ? NULL
        : PyObject_GetAttrString(import, "_call_with_frames_removed");
    sem_init(&t.waits, 0, 0);
    sem_init(&t.ends, 0, 0);
    if (t.function != NULL && selftest_start(&t, &thread) == 0) {
        Py_BEGIN_ALLOW_THREADS
        selftest_wait(&t.waits);
        Py_END_ALLOW_THREADS
        if (t.frame != NULL) {
            mem_begin(&session);
            agrees = selftest_walk_agrees((uintptr_t)t.state, t.frame);
            mem_end(&session);
        }
        Py_BEGIN_ALLOW_THREADS
        sem_post(&t.ends);
        pthread_join(thread, NULL);
        Py_END_ALLOW_THREADS
    }
    sem_destroy(&t.waits);
    sem_destroy(&t.ends);
    Py_XDECREF(t.frame);
    Py_XDECREF(t.function);
    Py_XDECREF(import);
    PyErr_Clear();
    return agrees;
}

static bool
selftest_agrees(void)
{
    return selftest_threads_agree()
           && (!SELFTEST_STARTS_THREAD || selftest_second_agrees());
}

#endif
