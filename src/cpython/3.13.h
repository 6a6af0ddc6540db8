/* CPython 3.13: the interpreter publishes where its fields are. */

#ifndef FAULTHANDLER_CPYTHON_3_13_H
#define FAULTHANDLER_CPYTHON_3_13_H

#include "from_3.13.h"

#ifdef Py_GIL_DISABLED
#  error "faulthandler supports free-threaded CPython from 3.14 on"
#endif

/* Frames, code objects, modules. */
#define CPYTHON_FRAME_SIZE 72
#define CPYTHON_FRAME_TAGS 0
#define CPYTHON_OWNER_MAX 3             /* FRAME_OWNED_BY_CSTACK */
#define CPYTHON_CODE_COPIES CPYTHON_UNKNOWN
#define CPYTHON_MODULE_DEF (sizeof(PyObject) + sizeof(PyObject *))
#define CPYTHON_MODULE_DEF_FLAG CPYTHON_UNKNOWN

/* What CPython's faulthandler prints. */
#define CPYTHON_HIDES_LIBRARY_SUBMODULES false
#define CPYTHON_PRINTS_THREAD_NAMES false
#define CPYTHON_C_STACK_DEFAULT_TEXT "False"

#define CPYTHON_MODULE_SLOTS \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},

#define CPYTHON_REFCOUNT(head) (int64_t)(head)->ob_refcnt

/* What it publishes of itself at the head of _PyRuntime, up to the last field
   that is used.  The names are CPython's. */
struct cpython_published {
    char cookie[8];
    uint64_t version, free_threaded, skipped_1[3];
    struct {
        uint64_t size, id, next, threads_head, gc, skipped[8];
    } interpreter_state;
    struct {
        uint64_t size, prev, next, interp, current_frame, thread_id;
        uint64_t native_thread_id, skipped[2];
    } thread_state;
    struct {
        uint64_t size, previous, executable, instr_ptr, localsplus, owner;
    } interpreter_frame;
    uint64_t skipped_2[37];
    struct { uint64_t size, collecting; } gc;
};

#endif
