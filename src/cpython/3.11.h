/* CPython 3.11: frames are no objects any more.  The thread state leads to a
   struct on the C stack of the newest evaluation loop, and that to the newest
   frame; each such struct leads to the one before.  The first frame of a loop
   is marked. */

#ifndef FAULTHANDLER_CPYTHON_3_11_H
#define FAULTHANDLER_CPYTHON_3_11_H

#include "from_3.11.h"
#include "to_3.12.h"

/* Interpreters and threads. */
#define CPYTHON_INTERP_ID 48
#define CPYTHON_INTERP_THREADS 16
#define CPYTHON_TSTATE_FRAME offsetof(PyThreadState, cframe)
#define CPYTHON_TSTATE_NATIVE offsetof(PyThreadState, native_thread_id)
#define CPYTHON_TSTATE_RAISED offsetof(PyThreadState, curexc_value)
#define CPYTHON_TSTATE_RAISED_TYPE offsetof(PyThreadState, curexc_type)
#define CPYTHON_CFRAME_FRAME offsetof(_PyCFrame, current_frame)
#define CPYTHON_CFRAME_PREVIOUS offsetof(_PyCFrame, previous)

/* Frames. */
#define CPYTHON_FRAME_SIZE 72
#define CPYTHON_FRAME_CODE 32
#define CPYTHON_FRAME_PREVIOUS 48
#define CPYTHON_FRAME_INSTR 56
#define CPYTHON_FRAME_OWNER 69
#define CPYTHON_FRAME_ENTRY 68
#define CPYTHON_OWNER_MAX 0

/* Checked at import by cpython_check_collector(). */
#define CPYTHON_COLLECTING(interp) ((interp) + 848)

#define CPYTHON_MODULE_SLOTS

#define CPYTHON_REFCOUNT(head) \
    ((head)->ob_refcnt > INT32_MAX ? -1 : (int64_t)(head)->ob_refcnt)

#endif
