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

/* Walk a thread's stack as a handler would, and compare it with the frame
   objects from this one on.  A report marks an end that is no entry into an
   evaluation loop, but frames that other tools made, as Nuitka does, may have
   such an end. */
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
            agrees = frame == Py_None && result != FRAME_WALK_ON
                     && w.next == 0;
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

/* Find our own thread and compare its stack. */
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
                 && selftest_walk_agrees(t.at, (PyObject *)PyEval_GetFrame());
        mem_end(&session);
    }
    PyMem_RawFree(list);
    return agrees;
}

#endif
