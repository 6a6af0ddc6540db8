/* cpython: the questions asked of CPython.

   src/cpython/ has a file for each version.  All of them define the same
   names, CPYTHON_*: where a field is, how a table is read, what the version's
   own faulthandler prints.  What holds from a version on, or up to one, is in
   the files from_* and to_* that they include.  No other room asks for the
   version.

   Public structs give their offsets at compile time.  A few internal ones are
   written down in the version's file.  From 3.13 on the interpreter publishes
   offsets of its own, which come first: a micro release may move a field.
   Nothing here is trusted before the self-test has compared whole stacks
   (src/selftest.h). */

#ifndef FAULTHANDLER_CPYTHON_H
#define FAULTHANDLER_CPYTHON_H

#include "platform.h"

/* The offset of a field that this version does not have. */
#define CPYTHON_UNKNOWN SIZE_MAX

/* The formats of line tables, by the release that brought them. */
enum { CPYTHON_LINES_38, CPYTHON_LINES_310, CPYTHON_LINES_311 };

#if PY_VERSION_HEX >= 0x03100000 && !defined(FAULTHANDLER_UNTESTED)
#  error "this CPython is newer than those that faulthandler was tested with: \
build with FAULTHANDLER_UNTESTED=1 to use it nevertheless"
#endif

#if PY_VERSION_HEX >= 0x030F0000
#  include "cpython/3.15.h"
#elif PY_VERSION_HEX >= 0x030E0000
#  include "cpython/3.14.h"
#elif PY_VERSION_HEX >= 0x030D0000
#  include "cpython/3.13.h"
#elif PY_VERSION_HEX >= 0x030C0000
#  include "cpython/3.12.h"
#elif PY_VERSION_HEX >= 0x030B0000
#  include "cpython/3.11.h"
#elif PY_VERSION_HEX >= 0x030A0000
#  include "cpython/3.10.h"
#elif PY_VERSION_HEX >= 0x03090000
#  include "cpython/3.9.h"
#elif PY_VERSION_HEX >= 0x03080000
#  include "cpython/3.8.h"
#else
#  error "faulthandler needs CPython 3.8 or newer"
#endif

#define CPYTHON_C_STACK_DEFAULT (CPYTHON_C_STACK_DEFAULT_TEXT[0] == 'T')

#ifdef FAULTHANDLER_TEST_BAD_LAYOUT
#  undef CPYTHON_FRAME_CODE
#  define CPYTHON_FRAME_CODE 16
#endif

/* What is found out at import, under the lock of the module's initialisation;
   read by everyone. */
static struct {
    bool collecting_known;      /* where the collector's flag is */
    bool frames_known;          /* the self-test agreed */
} cpython;

/* ---- Dicts ---- */

/* The table behind a dict, up to its indices.  The word in the middle says how
   large they are: as a number of them, or from 3.11 on as powers of two. */
struct cpython_keys {
    Py_ssize_t dk_refcnt;
    union {
        Py_ssize_t dk_size;
        struct { uint8_t dk_log2_size, dk_log2_index_bytes, dk_kind; };
    };
#if !CPYTHON_KEYS_LOG2
    void *dk_lookup;
#endif
    Py_ssize_t dk_usable;
    Py_ssize_t dk_nentries;
};

/* Find where a dict's entries begin, their size and where key and value stand
   in one.  Returns -1 when the table makes no sense. */
static int
cpython_dict_entries(uintptr_t keys, const struct cpython_keys *k,
                     uintptr_t *entries, size_t *size, size_t *key)
{
    const Py_ssize_t max = (Py_ssize_t)1 << 40;
    bool hashes = true;         /* an entry has the key's hash */
    uintptr_t bytes;            /* of the indices */
    if (CPYTHON_KEYS_LOG2) {
        if (k->dk_log2_index_bytes > 40 || k->dk_kind > 2) {
            return -1;
        }
        bytes = (uintptr_t)1 << k->dk_log2_index_bytes;
        hashes = k->dk_kind == 0;
    }
    else {
        if (k->dk_size < 1 || k->dk_size > max) {
            return -1;
        }
        bytes = (uintptr_t)k->dk_size
                * (k->dk_size <= 0xff ? 1 : k->dk_size <= 0xffff ? 2
                   : k->dk_size <= 0xffffffff ? 4 : 8);
    }
    *entries = keys + sizeof *k + bytes;
    *size = (hashes ? 3 : 2) * sizeof(void *);
    *key = hashes ? sizeof(void *) : 0;
    return k->dk_nentries >= 0 && k->dk_nentries <= max ? 0 : -1;
}

/* ---- The collector ---- */

extern char _PyRuntime[] __attribute__((weak));

#if CPYTHON_PUBLISHES
/* A copy of what the interpreter publishes. */
static struct cpython_published cpython_published;
#endif

/* Check the expected place of the flag that is 1 while the collector works,
   where it is not published: the pointer to gc.garbage must follow it. */
static void
cpython_check_collector(void)
{
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *garbage = gc == NULL ? NULL
                        : PyObject_GetAttrString(gc, "garbage");
    uintptr_t interp = (uintptr_t)PyThreadState_Get()->interp;
    uintptr_t words[2];         /* the flag and the list */
    memcpy(words, (const void *)CPYTHON_COLLECTING(interp), sizeof words);
    cpython.collecting_known = garbage != NULL
                               && words[1] == (uintptr_t)garbage;
    PyErr_Clear();
    Py_XDECREF(garbage);
    Py_XDECREF(gc);
}

/* Ask the interpreter at import, with the GIL held. */
static void
cpython_init(void)
{
#if CPYTHON_PUBLISHES
    (void)cpython_check_collector;
    const size_t last = CPYTHON_FRAME_SIZE - sizeof(uintptr_t);
    if (_PyRuntime != NULL && memcmp(_PyRuntime, "xdebugpy", 8) == 0) {
        memcpy(&cpython_published, _PyRuntime, sizeof cpython_published);
        cpython.collecting_known = true;
    }
    /* Frames are read whole: an offset behind their end would be ours.  Where
       all are 0 the self-test fails. */
    if (cpython_published.version >> 16 != PY_VERSION_HEX >> 16
        || CPYTHON_FRAME_CODE > last || CPYTHON_FRAME_PREVIOUS > last
        || CPYTHON_FRAME_INSTR > last
        || CPYTHON_FRAME_OWNER >= CPYTHON_FRAME_SIZE) {
        memset(&cpython_published, 0, sizeof cpython_published);
        cpython.collecting_known = false;
    }
#else
    cpython_check_collector();
#endif
}

#endif
