/* CPython 3.11: frames are no objects any more.  The thread state leads to a
   struct on the C stack of the newest evaluation loop, and that to the newest
   frame; each such struct leads to the one before.  The first frame of a loop
   is marked. */

#ifndef FAULTHANDLER_CPYTHON_3_11_H
#define FAULTHANDLER_CPYTHON_3_11_H

#include "../platform.h"

/* Interpreters and threads. */
#define CPYTHON_INTERP_NEXT 0
#define CPYTHON_INTERP_ID 48
#define CPYTHON_INTERP_THREADS 16
#define CPYTHON_TSTATE_FRAME offsetof(PyThreadState, cframe)
#define CPYTHON_TSTATE_NATIVE offsetof(PyThreadState, native_thread_id)
#define CPYTHON_TSTATE_RAISED offsetof(PyThreadState, curexc_value)
#define CPYTHON_TSTATE_RAISED_TYPE offsetof(PyThreadState, curexc_type)
#define CPYTHON_CFRAME_FRAME offsetof(_PyCFrame, current_frame)
#define CPYTHON_CFRAME_PREVIOUS offsetof(_PyCFrame, previous)

/* Frames: struct _PyInterpreterFrame, which is internal. */
#define CPYTHON_FRAME_OBJECTS 0
#define CPYTHON_FRAME_SIZE 72
#define CPYTHON_FRAME_CODE 32
#define CPYTHON_FRAME_PREVIOUS 48
#define CPYTHON_FRAME_INSTR 56
#define CPYTHON_FRAME_UNIT 1
#define CPYTHON_FRAME_LINENO CPYTHON_UNKNOWN
#define CPYTHON_FRAME_TRACE CPYTHON_UNKNOWN
#define CPYTHON_FRAME_OWNER 69
#define CPYTHON_FRAME_ENTRY 68
#define CPYTHON_FRAME_TAGS 0
#define CPYTHON_OWNER_MAX 0             /* no shims */

/* Code objects: the instructions follow the head. */
#define CPYTHON_CODE_SIZE offsetof(PyCodeObject, co_code_adaptive)
#define CPYTHON_CODE_COPIES CPYTHON_UNKNOWN
#define CPYTHON_CODE_TRACEABLE offsetof(PyCodeObject, _co_firsttraceable)
#define CPYTHON_LINES CPYTHON_LINES_311
#define CPYTHON_LINE_TABLE offsetof(PyCodeObject, co_linetable)

/* Dicts and modules. */
#define CPYTHON_KEYS_LOG2 1
#define CPYTHON_MODULE_DEF (sizeof(PyObject) + sizeof(PyObject *))
#define CPYTHON_MODULE_DEF_FLAG CPYTHON_UNKNOWN

/* The collector's flag, where the measured releases have it. */
#define CPYTHON_COLLECTING(interp) ((interp) + 848)

/* What its own faulthandler prints. */
#define CPYTHON_FPE_TITLE "Floating point exception"
#define CPYTHON_MARKS_DEEP true
#define CPYTHON_LISTS_MODULES true
#define CPYTHON_HIDES_SUBMODULES false
#define CPYTHON_TELLS_COLLECTOR true
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
