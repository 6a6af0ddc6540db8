/* CPython 3.12: each evaluation loop puts a shim, a frame without code, on the
   C stack.  Its oldest Python frame links to the shim.  The thread state leads
   to a _PyCFrame, and that to the newest frame. */

#ifndef FAULTHANDLER_CPYTHON_3_12_H
#define FAULTHANDLER_CPYTHON_3_12_H

#include "from_3.11.h"
#include "to_3.12.h"

/* Interpreters and threads. */
#define CPYTHON_INTERP_ID 8
#define CPYTHON_INTERP_THREADS 72
#define CPYTHON_TSTATE_FRAME offsetof(PyThreadState, cframe)
#define CPYTHON_TSTATE_NATIVE offsetof(PyThreadState, native_thread_id)
#define CPYTHON_TSTATE_RAISED offsetof(PyThreadState, current_exception)
#define CPYTHON_TSTATE_RAISED_TYPE CPYTHON_UNKNOWN
#define CPYTHON_CFRAME_FRAME offsetof(_PyCFrame, current_frame)
#define CPYTHON_CFRAME_PREVIOUS CPYTHON_UNKNOWN     /* shims mark the loops */

/* Frames. */
#define CPYTHON_FRAME_SIZE 72
#define CPYTHON_FRAME_CODE 0
#define CPYTHON_FRAME_PREVIOUS 8
#define CPYTHON_FRAME_INSTR 56
#define CPYTHON_FRAME_OWNER 70
#define CPYTHON_FRAME_ENTRY CPYTHON_UNKNOWN
#define CPYTHON_OWNER_MAX 3             /* FRAME_OWNED_BY_CSTACK */

/* Checked at import by cpython_check_collector(). */
#define CPYTHON_COLLECTING(interp) ((interp) + 312)

#define CPYTHON_MODULE_SLOTS \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},

#define CPYTHON_REFCOUNT(head) (int64_t)(head)->ob_refcnt

#endif
