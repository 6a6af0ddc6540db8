/* What holds from CPython 3.14 on: references from frames carry tags in their
   low bits.  Two kinds of entries into the evaluation loop are frames.  In
   free-threaded builds each thread runs its own copy of the instructions. */

#ifndef FAULTHANDLER_CPYTHON_FROM_3_14_H
#define FAULTHANDLER_CPYTHON_FROM_3_14_H

#include "from_3.13.h"

/* Frames and code objects. */
#define CPYTHON_FRAME_SIZE 80
#define CPYTHON_FRAME_TAGS 3
#define CPYTHON_OWNER_MAX 4             /* 3.14's FRAME_OWNED_BY_CSTACK */
#ifdef Py_GIL_DISABLED
#  define CPYTHON_CODE_COPIES offsetof(PyCodeObject, co_tlbc)
#else
#  define CPYTHON_CODE_COPIES CPYTHON_UNKNOWN
#endif

/* What CPython's faulthandler prints. */
#define CPYTHON_PRINTS_THREAD_NAMES true
#define CPYTHON_C_STACK_DEFAULT_TEXT "True"

#define CPYTHON_MODULE_SLOTS \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, \
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},

#ifdef Py_GIL_DISABLED
/* A deferred count has 2**60 more, less one. */
#  define CPYTHON_REFCOUNT(head) \
    ((int64_t)(head)->ob_ref_local + ((head)->ob_ref_shared >> 2) \
     - ((head)->ob_ref_shared >> 61 > 0 ? PY_SSIZE_T_MAX / 8 : 0))
#else
#  define CPYTHON_REFCOUNT(head) \
    ((head)->ob_overflow != 0 ? -1 : (int64_t)(head)->ob_refcnt)
#endif

#endif
