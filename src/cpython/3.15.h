/* CPython 3.15: a sentinel in the thread state ends each stack.  Module
   objects have another layout, and need no definition. */

#ifndef FAULTHANDLER_CPYTHON_3_15_H
#define FAULTHANDLER_CPYTHON_3_15_H

#include "from_3.14.h"

#define CPYTHON_MODULE_DEF (sizeof(PyObject) + 9 * sizeof(void *))
#define CPYTHON_MODULE_DEF_FLAG (sizeof(PyObject) + 4 * sizeof(void *))

/* What CPython's faulthandler prints. */
#define CPYTHON_HIDES_LIBRARY_SUBMODULES true

/* What it publishes of itself at the head of _PyRuntime, up to the last field
   that is used.  The names are CPython's. */
struct cpython_published {
    char cookie[8];
    uint64_t version, free_threaded, skipped_1[3];
    struct {
        uint64_t size, id, next, threads_head, threads_main, gc, skipped[10];
    } interpreter_state;
    struct {
        uint64_t size, prev, next, interp, current_frame, skipped_1[3];
        uint64_t thread_id, native_thread_id, skipped_2[6];
    } thread_state;
    uint64_t skipped_2;
    struct {
        uint64_t size, previous, executable, instr_ptr, localsplus, owner;
        uint64_t skipped[2];
    } interpreter_frame;
    uint64_t skipped_3[47];
    struct { uint64_t size, collecting; } gc;
};

#endif
