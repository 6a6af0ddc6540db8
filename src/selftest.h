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
#include "str.h"
#include "thread.h"

/* As many frames of a stack are compared. */
#define SELFTEST_FRAMES 32

/* In free-threaded builds each thread runs its own copy of the instructions,
   so the importing thread tells nothing of the others: start one.  Elsewhere
   all threads are read alike, and a thread in every process would cost more
   than it tells: some programs may have only one when they call unshare(). */
#ifndef SELFTEST_STARTS_THREAD
#  define SELFTEST_STARTS_THREAD (CPYTHON_CODE_COPIES != CPYTHON_UNKNOWN)
#endif

/* Return whether our walk found the code object, the line and the name that a
   frame object tells. */
static bool
selftest_frame_agrees(PyObject *frame, const struct frame_walk *w)
{
    struct str s;
    PyObject *code = PyObject_GetAttrString(frame, "f_code");
    PyObject *name = code == NULL ? NULL
                     : PyObject_GetAttrString(code, "co_name");
    bool agrees = name != NULL && w->code.at == (uintptr_t)code
                  && w->code.name == (uintptr_t)name
                  && str_read(w->code.name, &s) == 0
                  && s.data == (uintptr_t)PyUnicode_DATA(name)
                  && s.length == PyUnicode_GET_LENGTH(name)
                  && frame_line(&w->frame, &w->code)
                     == PyFrame_GetLineNumber((PyFrameObject *)frame);
    Py_XDECREF(name);
    Py_XDECREF(code);
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
        agrees = selftest_frame_agrees(frame, &w);
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

/* A program that starts a thread, which waits in a function of Python. */
static const char selftest_program[] =
    "import _thread, sys\n"
    "waits, ends = _thread.allocate_lock(), _thread.allocate_lock()\n"
    "waits.acquire(), ends.acquire()\n"
    "def wait():\n"
    "    waits.release(), ends.acquire()\n"
    "thread = _thread.start_joinable_thread(wait, daemon=True)\n"
    "waits.acquire()\n"
    "frame = sys._current_frames()[thread.ident]\n";

/* Start a second thread and compare its stack while it waits.  Where none can
   be started there is nothing to disagree. */
static bool
selftest_second_agrees(struct thread_list *list)
{
    PyObject *names = PyDict_New();
    PyObject *result = names == NULL ? NULL
                       : PyRun_String(selftest_program, Py_file_input, names,
                                      names);
    bool agrees = true;
    if (result != NULL) {
        PyObject *thread = PyDict_GetItemString(names, "thread");
        PyObject *ident = PyObject_GetAttrString(thread, "ident");
        uintptr_t number = ident == NULL ? 0 : PyLong_AsUnsignedLong(ident);
        struct mem_session session;
        struct thread t = {.ident = 0};
        mem_begin(&session);
        thread_list_fill(list, 0);
        for (size_t i = 0; i < list->count && t.ident != number; i++) {
            thread_read(list->threads[i], &t);
        }
        agrees = t.ident == number
                 && selftest_walk_agrees(
                     t.at, PyDict_GetItemString(names, "frame"));
        mem_end(&session);
        Py_XDECREF(ident);
        Py_XDECREF(PyRun_String("ends.release(), thread.join()",
                                Py_eval_input, names, names));
    }
    PyErr_Clear();
    Py_XDECREF(result);
    Py_XDECREF(names);
    return agrees;
}

/* Compare our own stack, find our own thread, read another one. */
static bool
selftest_agrees(void)
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
        agrees = agrees
                 && (!SELFTEST_STARTS_THREAD || selftest_second_agrees(list));
    }
    PyMem_RawFree(list);
    return agrees;
}

#endif
