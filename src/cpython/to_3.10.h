/* What holds up to CPython 3.10: frames are objects, linked from the thread
   state. */

#ifndef FAULTHANDLER_CPYTHON_TO_3_10_H
#define FAULTHANDLER_CPYTHON_TO_3_10_H

#include "to_3.12.h"
#include <frameobject.h>

/* Interpreters and threads. */
#define CPYTHON_INTERP_THREADS 8
#define CPYTHON_TSTATE_FRAME offsetof(PyThreadState, frame)
#define CPYTHON_TSTATE_NATIVE CPYTHON_UNKNOWN
#define CPYTHON_TSTATE_RAISED offsetof(PyThreadState, curexc_value)
#define CPYTHON_TSTATE_RAISED_TYPE offsetof(PyThreadState, curexc_type)
#define CPYTHON_CFRAME_FRAME CPYTHON_UNKNOWN
#define CPYTHON_CFRAME_PREVIOUS CPYTHON_UNKNOWN

/* Frames. */
#define CPYTHON_FRAME_OBJECTS 1
#define CPYTHON_FRAME_SIZE offsetof(PyFrameObject, f_localsplus)
#define CPYTHON_FRAME_CODE offsetof(PyFrameObject, f_code)
#define CPYTHON_FRAME_PREVIOUS offsetof(PyFrameObject, f_back)
#define CPYTHON_FRAME_INSTR offsetof(PyFrameObject, f_lasti)
#define CPYTHON_FRAME_LINENO offsetof(PyFrameObject, f_lineno)
#define CPYTHON_FRAME_TRACE offsetof(PyFrameObject, f_trace)
#define CPYTHON_FRAME_OWNER CPYTHON_UNKNOWN
#define CPYTHON_FRAME_ENTRY CPYTHON_UNKNOWN
#define CPYTHON_OWNER_MAX 0

/* Code objects and dicts. */
#define CPYTHON_CODE_SIZE sizeof(PyCodeObject)
#define CPYTHON_CODE_TRACEABLE CPYTHON_UNKNOWN
#define CPYTHON_KEYS_LOG2 0

#define CPYTHON_MODULE_SLOTS

#define CPYTHON_REFCOUNT(head) \
    ((head)->ob_refcnt > INT32_MAX ? -1 : (int64_t)(head)->ob_refcnt)

#endif
