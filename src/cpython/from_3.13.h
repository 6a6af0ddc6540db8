/* What holds from CPython 3.13 on: the thread state leads to the newest frame.
   The interpreter publishes where its fields are: each version's file has the
   struct, cpython_published. */

#ifndef FAULTHANDLER_CPYTHON_FROM_3_13_H
#define FAULTHANDLER_CPYTHON_FROM_3_13_H

#include "from_3.11.h"

#define CPYTHON_PUBLISHES 1

/* Interpreters and threads. */
#define CPYTHON_INTERP_NEXT cpython_published.interpreter_state.next
#define CPYTHON_INTERP_ID cpython_published.interpreter_state.id
#define CPYTHON_INTERP_THREADS cpython_published.interpreter_state.threads_head
#define CPYTHON_TSTATE_FRAME cpython_published.thread_state.current_frame
#define CPYTHON_TSTATE_NATIVE \
    cpython_published.thread_state.native_thread_id
#define CPYTHON_TSTATE_RAISED offsetof(PyThreadState, current_exception)
#define CPYTHON_TSTATE_RAISED_TYPE CPYTHON_UNKNOWN
#define CPYTHON_CFRAME_FRAME CPYTHON_UNKNOWN
#define CPYTHON_CFRAME_PREVIOUS CPYTHON_UNKNOWN

/* Frames. */
#define CPYTHON_FRAME_CODE cpython_published.interpreter_frame.executable
#define CPYTHON_FRAME_PREVIOUS cpython_published.interpreter_frame.previous
#define CPYTHON_FRAME_INSTR cpython_published.interpreter_frame.instr_ptr
#define CPYTHON_FRAME_OWNER cpython_published.interpreter_frame.owner
#define CPYTHON_FRAME_ENTRY CPYTHON_UNKNOWN

/* The collector's flag. */
#define CPYTHON_COLLECTING(interp) \
    ((interp) + cpython_published.interpreter_state.gc \
     + cpython_published.gc.collecting)

/* What CPython's faulthandler prints. */
#define CPYTHON_FPE_TITLE "Floating-point exception"
#define CPYTHON_PRINTS_DOTS false

/* Calls. */
#define CPYTHON_ATTACHED_THREAD() PyThreadState_GetUnchecked()
#define CPYTHON_IS_FINALIZING() Py_IsFinalizing()
#define CPYTHON_WRITE_UNRAISABLE(function) \
    PyErr_FormatUnraisable("Exception ignored in thread started by %R", \
                           function)

#endif
