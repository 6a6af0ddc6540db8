/* cpython: the questions asked of CPython.

   src/cpython/ has a file for each version.  All of them define the same
   names, CPYTHON_*: where a field is, how a table is read, what the version's
   own faulthandler prints.  No other room asks for the version.

   Public structs give their offsets at compile time.  A few internal ones are
   written down in the version's file.  From 3.13 on the interpreter publishes
   offsets of its own, which come first.  Nothing here is trusted before the
   self-test has compared whole stacks (src/selftest.h). */

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

/* Offsets that are known only at import.  Written once, by cpython_init(),
   under the lock of the module's initialisation; read by everyone. */
struct cpython_layout {
    size_t interp_next, interp_id, interp_threads;
    size_t interp_collecting;       /* int, where it is published */
    size_t tstate_next, tstate_interp, tstate_frame;
    size_t tstate_ident, tstate_native;
    size_t frame_code, frame_previous, frame_instr, frame_owner;
    bool collecting_known;
    bool frames_known;              /* the self-test agreed */
};

static struct cpython_layout cpython = {
    .interp_next = CPYTHON_UNKNOWN,
    .interp_id = CPYTHON_UNKNOWN,
    .interp_threads = CPYTHON_UNKNOWN,
    .interp_collecting = CPYTHON_UNKNOWN,
    .tstate_next = offsetof(PyThreadState, next),
    .tstate_interp = offsetof(PyThreadState, interp),
    .tstate_frame = CPYTHON_TSTATE_FRAME,
    .tstate_ident = offsetof(PyThreadState, thread_id),
    .tstate_native = CPYTHON_TSTATE_NATIVE,
    .frame_code = CPYTHON_FRAME_CODE,
    .frame_previous = CPYTHON_FRAME_PREVIOUS,
    .frame_instr = CPYTHON_FRAME_INSTR,
    .frame_owner = CPYTHON_FRAME_OWNER,
};

/* Remove the tags of a reference from a frame. */
static uintptr_t
cpython_untag(uintptr_t reference)
{
    return reference & ~(uintptr_t)CPYTHON_FRAME_TAGS;
}

/* Return the reference count of an object whose head was copied, or -1 if no
   live object can have it.  Immortal objects have more than INT32_MAX. */
static inline int64_t
cpython_refcount(const PyObject *head)
{
    int64_t count = CPYTHON_REFCOUNT(head);
    return count < 0 || count > 2 * (int64_t)UINT32_MAX ? -1 : count;
}

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

/* ---- What the interpreter publishes ---- */

extern char _PyRuntime[] __attribute__((weak));

/* Return whether published offsets are within a frame.  A table that is not
   the one that this version's file describes has others. */
static bool
cpython_is_sane(const struct cpython_layout *l)
{
    const size_t last = CPYTHON_FRAME_SIZE - sizeof(uintptr_t);
    return l->frame_code <= last && l->frame_previous <= last
           && l->frame_instr <= last && l->frame_owner < CPYTHON_FRAME_SIZE;
}

/* Take the interpreter's word for what it publishes: a micro release may have
   moved a field since we were built.  Returns -1 with an exception if the
   interpreter has another object head than the one that we were built for. */
static int
cpython_read_published(void)
{
#if CPYTHON_PUBLISHES
    struct cpython_published p;
    struct cpython_layout l = cpython;
#ifdef Py_GIL_DISABLED
    const uint64_t free_threaded = 1;
#else
    const uint64_t free_threaded = 0;
#endif
    if (_PyRuntime == NULL || memcmp(_PyRuntime, "xdebugpy", 8) != 0) {
        return 0;
    }
    memcpy(&p, _PyRuntime, sizeof p);
    if (p.version >> 16 != PY_VERSION_HEX >> 16) {
        return 0;
    }
    if (p.free_threaded != free_threaded) {
        PyErr_SetString(PyExc_ImportError, free_threaded
                        ? "faulthandler was built for a free-threaded Python"
                        : "faulthandler was built for a Python with the GIL");
        return -1;
    }
    l.interp_next = p.interpreter_state.next;
    l.interp_id = p.interpreter_state.id;
    l.interp_threads = p.interpreter_state.threads_head;
    l.interp_collecting = p.interpreter_state.gc + p.gc.collecting;
    l.tstate_next = p.thread_state.next;
    l.tstate_interp = p.thread_state.interp;
    l.tstate_frame = p.thread_state.current_frame;
    l.tstate_ident = p.thread_state.thread_id;
    l.tstate_native = p.thread_state.native_thread_id;
    l.frame_code = p.interpreter_frame.executable;
    l.frame_previous = p.interpreter_frame.previous;
    l.frame_instr = p.interpreter_frame.instr_ptr;
    l.frame_owner = p.interpreter_frame.owner;
    l.collecting_known = true;
    if (cpython_is_sane(&l)) {
        cpython = l;
    }
#else
    (void)cpython_is_sane;
#endif
    return 0;
}

/* ---- What its accessors tell ---- */

/* Find the offset that an accessor reads.  PyInterpreterState_ThreadHead and
   its kin are bare loads, so they tell the offset when they are given a fake
   struct whose words hold their own addresses. */
#define CPYTHON_FAKE_WORDS 4096

static size_t
cpython_probe(const uintptr_t *fake, uintptr_t answer)
{
    size_t at = (size_t)(answer - (uintptr_t)fake);
    return at < CPYTHON_FAKE_WORDS * sizeof *fake ? at : CPYTHON_UNKNOWN;
}

static int
cpython_probe_interpreter(void)
{
    uintptr_t *fake = PyMem_RawMalloc(CPYTHON_FAKE_WORDS * sizeof *fake);
    if (fake == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < CPYTHON_FAKE_WORDS; i++) {
        fake[i] = (uintptr_t)(fake + i);
    }
    PyInterpreterState *interp = (PyInterpreterState *)fake;
    cpython.interp_next = cpython_probe(
        fake, (uintptr_t)PyInterpreterState_Next(interp));
    cpython.interp_threads = cpython_probe(
        fake, (uintptr_t)PyInterpreterState_ThreadHead(interp));
    cpython.interp_id = cpython_probe(
        fake, (uintptr_t)PyInterpreterState_GetID(interp));
    PyMem_RawFree(fake);
    return 0;
}

/* ---- The collector ---- */

/* Return the address of the flag that is 1 while the collector works, or 0
   where it is not known. */
static uintptr_t
cpython_collecting_at(uintptr_t interp)
{
    return cpython.collecting_known ? CPYTHON_COLLECTING(interp) : 0;
}

/* Check the expected place of the flag where it is not published: the pointers
   to gc.garbage and gc.callbacks must follow it. */
static void
cpython_check_collector(void)
{
    PyObject *gc = PyImport_ImportModule("gc"), *garbage = NULL;
    PyObject *callbacks = NULL;
    uintptr_t words[3];         /* the flag and the two lists */
    if (gc != NULL) {
        garbage = PyObject_GetAttrString(gc, "garbage");
        callbacks = PyObject_GetAttrString(gc, "callbacks");
    }
    if (garbage != NULL && callbacks != NULL) {
        uintptr_t interp = (uintptr_t)PyThreadState_Get()->interp;
        memcpy(words, (const void *)CPYTHON_COLLECTING(interp), sizeof words);
        cpython.collecting_known = words[1] == (uintptr_t)garbage
                                   && words[2] == (uintptr_t)callbacks;
    }
    PyErr_Clear();
    Py_XDECREF(callbacks);
    Py_XDECREF(garbage);
    Py_XDECREF(gc);
}

/* Fill the table.  GIL held.  Returns -1 with an exception. */
static int
cpython_init(void)
{
    if (cpython_read_published() < 0) {
        return -1;
    }
    if (cpython.interp_next == CPYTHON_UNKNOWN
        && cpython_probe_interpreter() < 0) {
        return -1;
    }
    if (!CPYTHON_PUBLISHES) {
        cpython_check_collector();
    }
#ifdef FAULTHANDLER_TEST_BAD_LAYOUT
    cpython.frame_code = 16;
#endif
    return 0;
}

#endif
