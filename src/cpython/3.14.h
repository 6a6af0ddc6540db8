/* CPython 3.14: module objects are those of the versions before. */

#ifndef FAULTHANDLER_CPYTHON_3_14_H
#define FAULTHANDLER_CPYTHON_3_14_H

#include "from_3.14.h"

#define CPYTHON_MODULE_DEF (sizeof(PyObject) + sizeof(PyObject *))
#define CPYTHON_MODULE_DEF_FLAG CPYTHON_UNKNOWN

/* What CPython's faulthandler prints. */
#define CPYTHON_HIDES_LIBRARY_SUBMODULES false

/* What it publishes of itself at the head of _PyRuntime, up to the last field
   that is used.  The names are CPython's. */
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
