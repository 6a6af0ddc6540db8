/* CPython 3.8: frames are objects, linked from the thread state.  A frame's
   offset counts bytes.  The collector's flag is in the runtime. */

#ifndef FAULTHANDLER_CPYTHON_3_8_H
#define FAULTHANDLER_CPYTHON_3_8_H

#include "../platform.h"
#include <frameobject.h>

/* Interpreters and threads. */
#define CPYTHON_INTERP_NEXT 0
#define CPYTHON_INTERP_ID 16
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
#define CPYTHON_FRAME_UNIT 1
#define CPYTHON_FRAME_LINENO offsetof(PyFrameObject, f_lineno)
#define CPYTHON_FRAME_TRACE offsetof(PyFrameObject, f_trace)
#define CPYTHON_FRAME_OWNER CPYTHON_UNKNOWN
#define CPYTHON_FRAME_ENTRY CPYTHON_UNKNOWN
#define CPYTHON_FRAME_TAGS 0
#define CPYTHON_OWNER_MAX 0             /* no shims */

/* Code objects. */
#define CPYTHON_CODE_SIZE sizeof(PyCodeObject)
#define CPYTHON_CODE_COPIES CPYTHON_UNKNOWN
#define CPYTHON_CODE_TRACEABLE CPYTHON_UNKNOWN
#define CPYTHON_LINES CPYTHON_LINES_38
#define CPYTHON_LINE_TABLE offsetof(PyCodeObject, co_lnotab)

/* Dicts and modules. */
#define CPYTHON_KEYS_LOG2 0
#define CPYTHON_MODULE_DEF (sizeof(PyObject) + sizeof(PyObject *))
#define CPYTHON_MODULE_DEF_FLAG CPYTHON_UNKNOWN

/* The collector's flag, where the measured releases have it. */
#define CPYTHON_COLLECTING(interp) ((void)(interp), \
                                    (uintptr_t)_PyRuntime + 544)

/* What its own faulthandler prints. */
#define CPYTHON_FPE_TITLE "Floating point exception"
#define CPYTHON_MARKS_DEEP true
#define CPYTHON_LISTS_MODULES false
#define CPYTHON_HIDES_SUBMODULES false
#define CPYTHON_TELLS_COLLECTOR false
#define CPYTHON_NAMES_THREADS false
#define CPYTHON_C_STACK_DEFAULT_TEXT "False"

/* It has no slots but those that all versions have. */
#define CPYTHON_MODULE_SLOTS

/* Calls. */
#define CPYTHON_ATTACHED_THREAD() _PyThreadState_UncheckedGet()
#define CPYTHON_IS_FINALIZING() _Py_IsFinalizing()
#define CPYTHON_WRITE_UNRAISABLE(function) \
    _PyErr_WriteUnraisableMsg("in thread started by", function)
#define CPYTHON_REFCOUNT(head) \
    ((head)->ob_refcnt > INT32_MAX ? -1 : (int64_t)(head)->ob_refcnt)

/* It publishes nothing of itself. */
#define CPYTHON_PUBLISHES 0

#endif
