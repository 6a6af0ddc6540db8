/* What holds up to CPython 3.12: nothing is published. */

#ifndef FAULTHANDLER_CPYTHON_TO_3_12_H
#define FAULTHANDLER_CPYTHON_TO_3_12_H

#include "../platform.h"

#define CPYTHON_PUBLISHES 0

/* Interpreters, frames, code objects, modules. */
#define CPYTHON_INTERP_NEXT 0
#define CPYTHON_FRAME_TAGS 0
#define CPYTHON_CODE_COPIES CPYTHON_UNKNOWN
#define CPYTHON_MODULE_DEF (sizeof(PyObject) + sizeof(PyObject *))
#define CPYTHON_MODULE_DEF_FLAG CPYTHON_UNKNOWN

/* What CPython's faulthandler prints. */
#define CPYTHON_FPE_TITLE "Floating point exception"
#define CPYTHON_PRINTS_DOTS true
#define CPYTHON_HIDES_LIBRARY_SUBMODULES false
#define CPYTHON_PRINTS_THREAD_NAMES false
#define CPYTHON_C_STACK_DEFAULT_TEXT "False"

/* Calls. */
#define CPYTHON_ATTACHED_THREAD() _PyThreadState_UncheckedGet()
#define CPYTHON_IS_FINALIZING() _Py_IsFinalizing()
#define CPYTHON_WRITE_UNRAISABLE(function) \
    _PyErr_WriteUnraisableMsg("in thread started by", function)

#endif
