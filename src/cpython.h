/* cpython: the questions asked of CPython.

   src/cpython/ has a file for each version.  Each of them answers the same
   questions.  What holds from a version on, or up to one, is in the files
   from_* and to_* that they include.  No other room asks for the version.

   Public structs give their offsets at compile time.  A few internal ones are
   written down in the version's file.  From 3.13 on the interpreter publishes
   offsets of its own.  We prefer the published ones: a micro release may move
   a field.  Frames are not read before the self-test has passed
   (src/selftest.h).  The other answers are checked by bounds only.

   The questions.  Each name begins with CPYTHON_.  A field is an offset.

   PUBLISHES                  does the interpreter publish offsets?
   INTERP_NEXT, INTERP_ID     fields of an interpreter: the next one, its id,
   INTERP_THREADS             its first thread state
   TSTATE_FRAME               fields of a thread: what leads to its frames,
   TSTATE_NATIVE              the kernel's number of the thread,
   TSTATE_RAISED              the exception that is being raised,
   TSTATE_RAISED_TYPE         its type, where the value may still be missing
   CFRAME_FRAME               fields of a _PyCFrame: the newest frame,
   CFRAME_PREVIOUS            the _PyCFrame of the loop before
   FRAME_OBJECTS              are all frames Python objects?
   FRAME_SIZE                 how many bytes of a frame are read
   FRAME_CODE, FRAME_PREVIOUS fields of a frame: its code, who called it,
   FRAME_INSTR                the instruction: an address, or in frame objects
                              an offset in the code,
   FRAME_LINENO, FRAME_TRACE  the line, which holds where the tracer is not 0,
   FRAME_OWNER, FRAME_ENTRY   who owns it, whether a loop begins with it
   FRAME_UNIT                 how many bytes FRAME_INSTR counts as one
   FRAME_TAGS                 the bits of FRAME_CODE that are not the address
   OWNER_MAX                  the largest owner of a shim; 0: there are none
   CODE_SIZE                  how long is the head of a code object?
   CODE_TRACEABLE             fields of a code object: where its body begins,
   CODE_COPIES, LINE_TABLE    the threads' copies, the table of its lines
   LINE_FORMAT                how that is encoded: CPYTHON_LINES_*
   KEYS_LOG2                  does a dict's table tell sizes as logarithms?
   MODULE_DEF                 fields of a module: its definition, or a token,
   MODULE_DEF_FLAG            and the byte that says that it is a definition
   MODULE_SLOTS               slots of our module that not all versions know;
                              its state is the process's, under state_lock
   COLLECTING                 where the flag is that is 1 during a collection
   REFCOUNT                   an object's reference count; -1: it is none
   ATTACHED_THREAD            this thread's state, if it is attached
   IS_FINALIZING              is the interpreter coming to its end?
   WRITE_UNRAISABLE           print the exception that has ended a thread

   What does CPython's faulthandler print?

   FPE_TITLE                  the title of SIGFPE
   LISTS_MODULES              does it list extension modules?
   HIDES_LIBRARY_SUBMODULES   without those inside the library's packages?
   TELLS_COLLECTOR            does it say "Garbage-collecting"?
   PRINTS_DOTS                does "  ..." end a stack of more than 100 frames?
   PRINTS_THREAD_NAMES        does it print the names of threads?
   C_STACK_DEFAULT_TEXT       the default of c_stack, for the docstring */

#ifndef FAULTHANDLER_CPYTHON_H
#define FAULTHANDLER_CPYTHON_H

#include "platform.h"

/* The field is not there, or is not needed. */
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

/* The default of c_stack as a bool.  The text is for the docstring. */
#define CPYTHON_C_STACK_DEFAULT (CPYTHON_C_STACK_DEFAULT_TEXT[0] == 'T')

/* For the test of a failed self-test. */
#ifdef FAULTHANDLER_TEST_BAD_LAYOUT
#  undef CPYTHON_FRAME_CODE
#  define CPYTHON_FRAME_CODE 16
#endif

/* Written at import only; read by everyone. */
static struct {
    bool collecting_known;      /* where the collector's flag is */
    bool frames_known;          /* the self-test agreed */
} cpython;

/* ---- Dicts ---- */

/* The kinds of a dict's table, from 3.11 on.  All keys of the last two are
   str. */
enum { CPYTHON_KEYS_GENERAL, CPYTHON_KEYS_UNICODE, CPYTHON_KEYS_SPLIT };

/* 2 to this power is more entries than any dict has. */
#define CPYTHON_DICT_LOG2_MAX 40

/* The table behind a dict, up to its indices.  The union holds the size of the
   index table: a number, from 3.11 on a power of two. */
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

/* Find where a dict's entries begin and the size of one.  An entry is hash,
   key, value, or key, value.  `key` is the key's offset; the value follows it.
   Returns -1 when the table makes no sense. */
static int
cpython_dict_entries(uintptr_t keys, const struct cpython_keys *k,
                     uintptr_t *entries, size_t *size, size_t *key)
{
    const Py_ssize_t max = (Py_ssize_t)1 << CPYTHON_DICT_LOG2_MAX;
    bool hashes = true;         /* an entry has the key's hash */
    uintptr_t bytes;            /* of the indices */
    if (CPYTHON_KEYS_LOG2) {
        if (k->dk_log2_index_bytes > CPYTHON_DICT_LOG2_MAX
            || k->dk_kind > CPYTHON_KEYS_SPLIT) {
            return -1;
        }
        bytes = (uintptr_t)1 << k->dk_log2_index_bytes;
        hashes = k->dk_kind == CPYTHON_KEYS_GENERAL;
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

/* ---- What is found out at import ---- */

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
    (void)cpython_check_collector;      /* not used here */
    const size_t last = CPYTHON_FRAME_SIZE - sizeof(uintptr_t);
    /* CPython's cookie at the start of _PyRuntime. */
    if (_PyRuntime != NULL && memcmp(_PyRuntime, "xdebugpy", 8) == 0) {
        memcpy(&cpython_published, _PyRuntime, sizeof cpython_published);
        cpython.collecting_known = true;
    }
    /* We copy CPYTHON_FRAME_SIZE bytes.  A larger offset would read our own
       memory behind the copy.  Where all are 0 the self-test fails. */
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
