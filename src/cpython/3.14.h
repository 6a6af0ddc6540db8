/* CPython 3.14: references from frames carry tags in their low bits.  Two
   kinds of entries into the evaluation loop are frames.  In free-threaded
   builds each thread runs its own copy of the instructions. */

#ifndef FAULTHANDLER_CPYTHON_3_14_H
#define FAULTHANDLER_CPYTHON_3_14_H

#include "../platform.h"

/* Interpreters, as they publish it, and threads. */
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

/* Frames: struct _PyInterpreterFrame, as published but for its size. */
#define CPYTHON_FRAME_OBJECTS 0
#define CPYTHON_FRAME_SIZE 80
#define CPYTHON_FRAME_CODE cpython_published.interpreter_frame.executable
#define CPYTHON_FRAME_PREVIOUS cpython_published.interpreter_frame.previous
#define CPYTHON_FRAME_INSTR cpython_published.interpreter_frame.instr_ptr
#define CPYTHON_FRAME_UNIT 1
#define CPYTHON_FRAME_LINENO CPYTHON_UNKNOWN
#define CPYTHON_FRAME_TRACE CPYTHON_UNKNOWN
#define CPYTHON_FRAME_ENTRY CPYTHON_UNKNOWN
#define CPYTHON_FRAME_TAGS 3
#define CPYTHON_FRAME_OWNER cpython_published.interpreter_frame.owner
#define CPYTHON_OWNER_MAX 4
#ifdef Py_GIL_DISABLED
#  define CPYTHON_CODE_COPIES offsetof(PyCodeObject, co_tlbc)
#else
#  define CPYTHON_CODE_COPIES CPYTHON_UNKNOWN
#endif

/* Code objects: the instructions follow the head. */
#define CPYTHON_CODE_SIZE offsetof(PyCodeObject, co_code_adaptive)
#define CPYTHON_CODE_TRACEABLE offsetof(PyCodeObject, _co_firsttraceable)
#define CPYTHON_LINES CPYTHON_LINES_311
#define CPYTHON_LINE_TABLE offsetof(PyCodeObject, co_linetable)

/* Dicts and modules. */
#define CPYTHON_KEYS_LOG2 1
#define CPYTHON_MODULE_DEF (sizeof(PyObject) + sizeof(PyObject *))
#define CPYTHON_MODULE_DEF_FLAG CPYTHON_UNKNOWN

/* The collector's flag is published. */
#define CPYTHON_COLLECTING(interp) \
    ((interp) + cpython_published.interpreter_state.gc \
     + cpython_published.gc.collecting)

/* What its own faulthandler prints. */
#define CPYTHON_FPE_TITLE "Floating-point exception"
#define CPYTHON_MARKS_DEEP false
#define CPYTHON_LISTS_MODULES true
#define CPYTHON_HIDES_SUBMODULES false
#define CPYTHON_TELLS_COLLECTOR true
#define CPYTHON_NAMES_THREADS true
#define CPYTHON_C_STACK_DEFAULT_TEXT "True"

/* Interpreters with a GIL of their own may import the module: its state is the
   process's, and guarded.  It does not need the GIL. */
#define CPYTHON_MODULE_SLOTS \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, \
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},

/* Calls. */
#define CPYTHON_ATTACHED_THREAD() PyThreadState_GetUnchecked()
#define CPYTHON_IS_FINALIZING() Py_IsFinalizing()
#define CPYTHON_WRITE_UNRAISABLE(function) \
    PyErr_FormatUnraisable("Exception ignored in thread started by %R", \
                           function)
#ifdef Py_GIL_DISABLED
/* A deferred count has 2**60 more, less one. */
#  define CPYTHON_REFCOUNT(head) \
    ((int64_t)(head)->ob_ref_local + ((head)->ob_ref_shared >> 2) \
     - ((head)->ob_ref_shared >> 61 > 0 ? PY_SSIZE_T_MAX / 8 : 0))
#else
#  define CPYTHON_REFCOUNT(head) \
    ((head)->ob_overflow != 0 ? -1 : (int64_t)(head)->ob_refcnt)
#endif

/* What it publishes of itself at the head of _PyRuntime, up to the last field
   that is used.  The names are CPython's. */
#define CPYTHON_PUBLISHES 1
struct cpython_published {
    char cookie[8];
    uint64_t version, free_threaded, skipped_1[3];
    struct {
        uint64_t size, id, next, threads_head, threads_main, gc, skipped[10];
    } interpreter_state;
    struct {
        uint64_t size, prev, next, interp, current_frame, thread_id;
        uint64_t native_thread_id, skipped[2];
    } thread_state;
    struct {
        uint64_t size, previous, executable, instr_ptr, localsplus, owner;
        uint64_t skipped[2];
    } interpreter_frame;
    uint64_t skipped_2[42];
    struct { uint64_t size, collecting; } gc;
};

#endif
