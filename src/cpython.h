/* cpython: the questions asked of CPython, answered once per version. */

#ifndef FAULTHANDLER_CPYTHON_H
#define FAULTHANDLER_CPYTHON_H

#include "platform.h"

/* What differs between CPython versions, asked once.  Public structs give
   their offsets at compile time; _PyInterpreterFrame is internal, so its few
   fields are mirrored.  The interpreter's own accessors, and on 3.13+ its
   table of debug offsets, have the last word at import.  Nothing here is
   trusted before module_self_test() has compared a whole walk. */

#define LAYOUT_UNKNOWN SIZE_MAX

extern char _PyRuntime[] __attribute__((weak));

static struct {
    size_t interp_next, interp_id, interp_threads;
    size_t interp_collecting;       /* int, 1 while the collector works */
    size_t tstate_next, tstate_interp, tstate_frame;
    size_t tstate_ident, tstate_native;
    size_t frame_code, frame_previous, frame_instr, frame_owner;
    bool frames_known;              /* the self-test agreed */
} layout = {
    .interp_collecting = LAYOUT_UNKNOWN,
    .tstate_next = offsetof(PyThreadState, next),
    .tstate_interp = offsetof(PyThreadState, interp),
    .tstate_ident = offsetof(PyThreadState, thread_id),
#if PY_VERSION_HEX >= 0x030B0000
    .tstate_native = offsetof(PyThreadState, native_thread_id),
#else
    .tstate_native = LAYOUT_UNKNOWN,
#endif
#if PY_VERSION_HEX >= 0x030D0000
    .tstate_frame = offsetof(PyThreadState, current_frame),
#elif PY_VERSION_HEX >= 0x030B0000
    .tstate_frame = offsetof(PyThreadState, cframe),
#else
    .tstate_frame = offsetof(PyThreadState, frame),
#endif
#if PY_VERSION_HEX >= 0x030E0000
    .frame_code = 0, .frame_previous = 8, .frame_instr = 56,
    .frame_owner = 74,
#elif PY_VERSION_HEX >= 0x030C0000
    .frame_code = 0, .frame_previous = 8, .frame_instr = 56,
    .frame_owner = 70,
#elif PY_VERSION_HEX >= 0x030B0000
    .frame_code = 32, .frame_previous = 48, .frame_instr = 56,
    .frame_owner = 69,
#else
    .frame_code = offsetof(PyFrameObject, f_code),
    .frame_previous = offsetof(PyFrameObject, f_back),
    .frame_instr = offsetof(PyFrameObject, f_lasti),
    .frame_owner = LAYOUT_UNKNOWN,
#endif
};

/* The formats of line tables, by the release that brought them. */
enum { LAYOUT_LINES_38, LAYOUT_LINES_310, LAYOUT_LINES_311 };

/* From 3.11 frames are no objects, and instructions stand in the code object
   itself; before, a frame holds an offset, and the tracer's line. */
#if PY_VERSION_HEX >= 0x030B0000
#  define LAYOUT_FRAME_OBJECTS 0
#  define LAYOUT_FRAME_SIZE 80
#  define LAYOUT_FRAME_LINENO 0
#  define LAYOUT_FRAME_TRACE 0
#  define LAYOUT_CODE_START offsetof(PyCodeObject, co_code_adaptive)
#  define LAYOUT_CODE_SIZE offsetof(PyCodeObject, co_code_adaptive)
#  define LAYOUT_CODE_TRACEABLE offsetof(PyCodeObject, _co_firsttraceable)
#  define LAYOUT_LINES LAYOUT_LINES_311
#  define LAYOUT_LINE_TABLE offsetof(PyCodeObject, co_linetable)
#else
#  define LAYOUT_FRAME_OBJECTS 1
#  define LAYOUT_FRAME_SIZE offsetof(PyFrameObject, f_localsplus)
#  define LAYOUT_FRAME_LINENO offsetof(PyFrameObject, f_lineno)
#  define LAYOUT_FRAME_TRACE offsetof(PyFrameObject, f_trace)
#  define LAYOUT_CODE_START 0
#  define LAYOUT_CODE_SIZE sizeof(PyCodeObject)
#  define LAYOUT_CODE_TRACEABLE 0
#  if PY_VERSION_HEX >= 0x030A0000
#    define LAYOUT_LINES LAYOUT_LINES_310
#    define LAYOUT_LINE_TABLE offsetof(PyCodeObject, co_linetable)
#  else
#    define LAYOUT_LINES LAYOUT_LINES_38
#    define LAYOUT_LINE_TABLE offsetof(PyCodeObject, co_lnotab)
#  endif
#endif

/* 3.11 and 3.12 keep the frame in a struct on the C stack. */
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030D0000
#  define LAYOUT_HAS_CFRAME 1
#  define LAYOUT_CFRAME_FRAME offsetof(_PyCFrame, current_frame)
#else
#  define LAYOUT_HAS_CFRAME 0
#  define LAYOUT_CFRAME_FRAME 0
#endif

/* In 3.10 and 3.11 each evaluation loop has one, and links it. */
#if PY_VERSION_HEX >= 0x030A0000 && PY_VERSION_HEX < 0x030C0000
#  define LAYOUT_TSTATE_LOOP offsetof(PyThreadState, cframe)
#  if PY_VERSION_HEX >= 0x030B0000
#    define LAYOUT_LOOP_PREVIOUS offsetof(_PyCFrame, previous)
#  else
#    define LAYOUT_LOOP_PREVIOUS offsetof(CFrame, previous)
#  endif
#else
#  define LAYOUT_TSTATE_LOOP 0
#  define LAYOUT_LOOP_PREVIOUS 0
#endif

/* How one tells where an evaluation loop's frames end: until 3.10 it has just
   one, in 3.11 the frame that was its first is marked, and later a shim on
   the C stack stands behind it. */
#define LAYOUT_LOOP_PLACES (PY_VERSION_HEX >= 0x030A0000)
#define LAYOUT_LOOP_SHIMS (PY_VERSION_HEX >= 0x030C0000)
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000
#  define LAYOUT_FRAME_ENTRY 68
#else
#  define LAYOUT_FRAME_ENTRY 0
#endif

/* Frames of these owners are not Python code: entries into the evaluation
   loop, and 3.15's sentinel at the end of a stack. */
#define LAYOUT_OWNER_GENERATOR 1
#define LAYOUT_OWNER_SHIM 3
#define LAYOUT_OWNER_MAX 4

/* A thread keeps the exceptions that are being handled in a chain, and one
   that is on its way to a handler by itself; until 3.11 as a type and
   anything to make an exception of. */
#define LAYOUT_TSTATE_HANDLED offsetof(PyThreadState, exc_info)
#define LAYOUT_HANDLED_VALUE offsetof(_PyErr_StackItem, exc_value)
#define LAYOUT_HANDLED_PREVIOUS offsetof(_PyErr_StackItem, previous_item)
#if PY_VERSION_HEX >= 0x030C0000
#  define LAYOUT_TSTATE_RAISED offsetof(PyThreadState, current_exception)
#  define LAYOUT_TSTATE_RAISED_TYPE 0
#else
#  define LAYOUT_TSTATE_RAISED offsetof(PyThreadState, curexc_value)
#  define LAYOUT_TSTATE_RAISED_TYPE offsetof(PyThreadState, curexc_type)
#endif

/* Where a module object keeps its definition. */
struct layout_module {
    PyObject ob_base;
    PyObject *md_dict;
#if PY_VERSION_HEX >= 0x030F0000
    void *md_state;
    PyObject *md_weaklist;
    PyObject *md_name;
    bool md_token_is_def;
    Py_ssize_t md_state_size;
    void *md_state_traverse, *md_state_clear, *md_state_free;
#endif
    void *md_def;
};

static uintptr_t
layout_module_def(const struct layout_module *m)
{
#if PY_VERSION_HEX >= 0x030F0000
    return m->md_token_is_def ? (uintptr_t)m->md_def : 0;
#else
    return (uintptr_t)m->md_def;
#endif
}

/* The table behind a dict, up to its indices. */
struct layout_keys {
    Py_ssize_t dk_refcnt;
#if PY_VERSION_HEX >= 0x030B0000
    uint8_t dk_log2_size, dk_log2_index_bytes, dk_kind;
    uint32_t dk_version;
#else
    Py_ssize_t dk_size;
    void *dk_lookup;
#endif
    Py_ssize_t dk_usable;
    Py_ssize_t dk_nentries;
};

/* What the running Python's own module says, where it changed. */
#if PY_VERSION_HEX >= 0x030D0000
#  define LAYOUT_FPE_TITLE "Floating-point exception"
#else
#  define LAYOUT_FPE_TITLE "Floating point exception"
#endif
#define LAYOUT_MARKS_DEEP (PY_VERSION_HEX < 0x030D0000)
#define LAYOUT_LISTS_MODULES (PY_VERSION_HEX >= 0x030A0000)
#define LAYOUT_NAMES_THREADS (PY_VERSION_HEX >= 0x030E0000)
#define LAYOUT_TELLS_COLLECTOR (PY_VERSION_HEX >= 0x030A0000)
#define LAYOUT_HIDES_SUBMODULES (PY_VERSION_HEX >= 0x030F0000)
#if PY_VERSION_HEX >= 0x030E0000
#  define LAYOUT_C_STACK_DEFAULT true
#  define LAYOUT_C_STACK_DEFAULT_TEXT "True"
#else
#  define LAYOUT_C_STACK_DEFAULT false
#  define LAYOUT_C_STACK_DEFAULT_TEXT "False"
#endif

/* Interpreters with a GIL of their own may import the module: its state is
   the process's, and guarded. */
#if PY_VERSION_HEX >= 0x030C0000
#  define LAYOUT_MODULE_SLOTS \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#  define LAYOUT_MODULE_SLOTS
#endif

/* The thread state of the calling thread, or of somebody else: see
   thread_find_current(), which checks. */
static PyThreadState *
layout_attached_thread(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

/* Is Python being finalised?  A bare load. */
static bool
layout_is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* Return an object's reference count from a copy of its head, or -1 if it is
   one that no live object can have.  Immortal objects have more than
   INT32_MAX. */
static int64_t
cpython_refcount(const PyObject *head)
{
#if defined(Py_GIL_DISABLED)
    int64_t shared = head->ob_ref_shared >> 2;
    return shared + head->ob_ref_local;
#elif PY_VERSION_HEX >= 0x030E0000
    return head->ob_overflow != 0 ? -1 : (int64_t)head->ob_refcnt;
#else
    const int64_t max = PY_VERSION_HEX >= 0x030C0000 ? UINT32_MAX : INT32_MAX;
    return head->ob_refcnt < 0 || head->ob_refcnt > max ? -1
           : head->ob_refcnt;
#endif
}

/* Fold the tag bits of 3.14+'s stack references away. */
static uintptr_t
layout_untag(uintptr_t reference)
{
#if PY_VERSION_HEX >= 0x030E0000
    return reference & ~(uintptr_t)3;
#else
    return reference;
#endif
}

/* Where a dict's entries begin, their size and where key and value stand in
   one.  Returns -1 when the table makes no sense. */
static int
layout_dict_entries(uintptr_t keys, const struct layout_keys *k,
                    uintptr_t *entries, size_t *size, size_t *key)
{
    uintptr_t indices = keys + sizeof *k;
#if PY_VERSION_HEX >= 0x030B0000
    if (k->dk_log2_index_bytes > 40 || k->dk_kind > 2) {
        return -1;
    }
    *entries = indices + ((uintptr_t)1 << k->dk_log2_index_bytes);
    *size = k->dk_kind == 0 ? 3 * sizeof(void *) : 2 * sizeof(void *);
    *key = k->dk_kind == 0 ? sizeof(void *) : 0;
#else
    if (k->dk_size < 1 || k->dk_size > (Py_ssize_t)1 << 40) {
        return -1;
    }
    size_t width = k->dk_size <= 0xff ? 1 : k->dk_size <= 0xffff ? 2
                   : k->dk_size <= 0xffffffff ? 4 : 8;
    *entries = indices + (uintptr_t)k->dk_size * width;
    *size = 3 * sizeof(void *);
    *key = sizeof(void *);
#endif
    return k->dk_nentries >= 0 ? 0 : -1;
}

/* Report an exception that ends a thread, in _thread's own words. */
static void
layout_write_unraisable(PyObject *function)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyErr_FormatUnraisable("Exception ignored in thread started by %R",
                           function);
#else
    _PyErr_WriteUnraisableMsg("in thread started by", function);
#endif
}

/* Find the offset that an accessor reads.  PyInterpreterState_ThreadHead and
   its kin are bare loads, so a fake struct whose words hold their own
   offsets makes them tell.  Exact, where a search for a known pointer would
   guess. */
static size_t
layout_probe(const uintptr_t *fake, size_t words, uintptr_t answer)
{
    size_t at = (size_t)(answer - (uintptr_t)fake);
    return at < words * sizeof *fake ? at : LAYOUT_UNKNOWN;
}

#define LAYOUT_FAKE_WORDS 4096

static int
layout_probe_interpreter(void)
{
    uintptr_t *fake = PyMem_RawMalloc(LAYOUT_FAKE_WORDS * sizeof *fake);
    if (fake == NULL) {
        return -1;
    }
    for (size_t i = 0; i < LAYOUT_FAKE_WORDS; i++) {
        fake[i] = (uintptr_t)(fake + i);
    }
    PyInterpreterState *interp = (PyInterpreterState *)fake;
    layout.interp_next = layout_probe(fake, LAYOUT_FAKE_WORDS,
        (uintptr_t)PyInterpreterState_Next(interp));
    layout.interp_threads = layout_probe(fake, LAYOUT_FAKE_WORDS,
        (uintptr_t)PyInterpreterState_ThreadHead(interp));
    layout.interp_id = layout_probe(fake, LAYOUT_FAKE_WORDS,
        (uintptr_t)PyInterpreterState_GetID(interp));
    PyMem_RawFree(fake);
    return 0;
}

#if PY_VERSION_HEX >= 0x030D0000
/* Positions in _Py_DebugOffsets, as words. */
static const struct {
    size_t next, id, threads, gc, collecting;
    size_t tstate_next, tstate_interp, tstate_frame, ident, native;
    size_t previous, code, instr, owner, gen_frame;
} layout_words =
#  if PY_VERSION_HEX >= 0x030F0000
    {8, 7, 9, 11, 95, 24, 25, 26, 30, 31, 40, 41, 42, 44, 101};
#  elif PY_VERSION_HEX >= 0x030E0000
    {8, 7, 9, 11, 82, 24, 25, 26, 27, 28, 32, 33, 34, 36, 85};
#  else
    {8, 7, 9, 10, 72, 21, 22, 23, 24, 25, 29, 30, 31, 33, 0};
#  endif

/* Take the interpreter's word for what it publishes: a micro release may
   have moved a field since we were built. */
static void
layout_read_debug_offsets(void)
{
    uint64_t words[103];
    if (_PyRuntime == NULL || memcmp(_PyRuntime, "xdebugpy", 8) != 0) {
        return;
    }
    memcpy(words, _PyRuntime, sizeof words);
    if (words[1] >> 16 != PY_VERSION_HEX >> 16) {
        return;
    }
    layout.interp_next = words[layout_words.next];
    layout.interp_id = words[layout_words.id];
    layout.interp_threads = words[layout_words.threads];
    layout.interp_collecting = words[layout_words.gc]
                               + words[layout_words.collecting];
    layout.tstate_next = words[layout_words.tstate_next];
    layout.tstate_interp = words[layout_words.tstate_interp];
    layout.tstate_frame = words[layout_words.tstate_frame];
    layout.tstate_ident = words[layout_words.ident];
    layout.tstate_native = words[layout_words.native];
    layout.frame_previous = words[layout_words.previous];
    layout.frame_code = words[layout_words.code];
    layout.frame_instr = words[layout_words.instr];
    layout.frame_owner = words[layout_words.owner];
    const size_t last = LAYOUT_FRAME_SIZE - sizeof(uintptr_t);
    if (layout.frame_owner >= LAYOUT_FRAME_SIZE || layout.frame_code > last
        || layout.frame_previous > last || layout.frame_instr > last) {
        /* Another table than we know: the self-test is to fail. */
        layout.frame_owner = layout.frame_code = 0;
        layout.frame_previous = layout.frame_instr = 0;
    }
}
#else
static void
layout_read_debug_offsets(void)
{
}

/* Where the collector's flag was found on the releases that were measured;
   layout_calibrate_collector() tries it before it is used. */
#  if PY_VERSION_HEX >= 0x030C0000
#    define LAYOUT_COLLECTING 312
#  elif PY_VERSION_HEX >= 0x030B0000
#    define LAYOUT_COLLECTING 848
#  elif PY_VERSION_HEX >= 0x03090000
#    define LAYOUT_COLLECTING 816
#  else
#    define LAYOUT_COLLECTING 544
#  endif
#endif

/* The address of the flag that is 1 while the collector works. 3.8 keeps it
   in the runtime, later ones in the interpreter. */
static uintptr_t
layout_collecting_at(uintptr_t interp)
{
    if (layout.interp_collecting == LAYOUT_UNKNOWN) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x03090000
    return interp + layout.interp_collecting;
#else
    (void)interp;
    return (uintptr_t)_PyRuntime + layout.interp_collecting;
#endif
}

#if PY_VERSION_HEX < 0x030D0000
static int layout_seen_collecting;

/* A collector callback that looks at the flag while the collector works. */
static PyObject *
layout_on_collect(PyObject *at, PyObject *args)
{
    (void)args;
    const int *flag = PyLong_AsVoidPtr(at);
    if (flag != NULL) {
        layout_seen_collecting |= *flag;
    }
    PyErr_Clear();
    Py_RETURN_NONE;
}

static PyMethodDef layout_on_collect_def = {
    "faulthandler_calibrate", layout_on_collect, METH_VARARGS, NULL
};

/* Append the callback to gc.callbacks, collect the youngest generation, take
   the callback out again. */
static int
layout_watch_collection(const int *flag)
{
    PyObject *gc = NULL, *callbacks = NULL, *self = NULL, *callback = NULL;
    PyObject *done = NULL;
    int result = -1;
    gc = PyImport_ImportModule("gc");
    if (gc && (callbacks = PyObject_GetAttrString(gc, "callbacks"))
        && PyList_Check(callbacks)
        && (self = PyLong_FromVoidPtr((void *)(uintptr_t)flag))
        && (callback = PyCFunction_New(&layout_on_collect_def, self))
        && PyList_Append(callbacks, callback) == 0) {
        done = PyObject_CallMethod(gc, "collect", "i", 0);
        Py_ssize_t at = PySequence_Index(callbacks, callback);
        result = at >= 0 && done != NULL
                 ? PySequence_DelItem(callbacks, at) : -1;
    }
    Py_XDECREF(done);
    Py_XDECREF(callback);
    Py_XDECREF(self);
    Py_XDECREF(callbacks);
    Py_XDECREF(gc);
    return result;
}

/* Accept the expected place of the flag only if it reads 0, 1 during a
   collection, and 0 again. */
static void
layout_calibrate_collector(void)
{
    layout.interp_collecting = LAYOUT_COLLECTING;
    uintptr_t interp = (uintptr_t)PyThreadState_Get()->interp;
    const volatile int *flag =
        (const volatile int *)layout_collecting_at(interp);
    layout_seen_collecting = 0;
    bool good = *flag == 0
                && layout_watch_collection((const int *)(uintptr_t)flag) == 0
                && layout_seen_collecting == 1 && *flag == 0;
    PyErr_Clear();
    if (!good) {
        layout.interp_collecting = LAYOUT_UNKNOWN;
    }
}
#else
static void
layout_calibrate_collector(void)
{
}
#endif

/* Fill the table.  GIL held. */
static int
layout_init(void)
{
    if (layout_probe_interpreter() < 0) {
        return -1;
    }
    layout_read_debug_offsets();
    layout_calibrate_collector();
#ifdef FAULTHANDLER_TEST_BAD_LAYOUT
    layout.frame_code = 16;
#endif
    return 0;
}

#endif
