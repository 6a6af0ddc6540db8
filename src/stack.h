/* stack: alternate stacks, one for each thread that Python starts.

   A handler that runs because the stack is full needs another one.  Each
   thread that Python starts after the import gets one: a wrapper around
   _thread's start functions gives it.  The thread that imports or enables
   gets one, too.

   Handlers call only the functions of the spare stacks.  The others run
   outside handlers. */

#ifndef FAULTHANDLER_STACK_H
#define FAULTHANDLER_STACK_H

#include "cpu.h"
#include "mem.h"
#include "platform.h"
#include "thread.h"

/* What the handlers need of their stack, beyond what the kernel puts there:
   tools/callgraph bounds it at 20 KiB; the rest is for unwinding. */
#define STACK_NEED (64 * 1024)

/* Forbidden memory above a slab.  A thread's own stack often lies right above
   it.  A function with a large frame can jump over the guard page of that
   stack.  It must then fault, and not write into the slab. */
#define STACK_ABOVE (1024 * 1024)

/* ---- Slabs ---- */

/* A mapping for each stack would use up two or three of the 65,530 that a
   process may have.  So 64 stacks share one, a slab.

     forbidden page | guard page, stack | guard page, stack | ... | forbidden

   From Linux 6.13 on the guard pages cost no mapping.  On older kernels a
   stack that overflows writes into the one below, which is most likely idle.
   A slab is never given back.  The stacks of ended threads are used again. */
#define STACK_SLABS 1024
#define STACK_PER_SLAB 64       /* the bits of `free` */
#ifndef MADV_GUARD_INSTALL
#  define MADV_GUARD_INSTALL 102
#endif

/* Bit n of free: stack n is nobody's.  A slab is published by its base; the
   bits are set after that.  Any thread changes both.  There is no lock: a
   forked child could inherit it locked. */
struct stack_slab {
    _Atomic(char *) base;       /* NULL: not mapped */
    atomic_uint_fast64_t free;
};
static struct stack_slab stack_slabs[STACK_SLABS];

/* In bytes. */
static size_t stack_page;
static size_t stack_room;       /* a stack, with its thread_note on top */
static size_t stack_step;       /* a guard page and stack_room */
static size_t stack_size;       /* a stack without the note */

/* The lowest address of a stack. */
static char *
stack_address(const struct stack_slab *slab, size_t n)
{
    return atomic_load(&slab->base) + n * stack_step + stack_page;
}

/* Take a stack of a slab.  Returns NULL if all are taken. */
static char *
stack_take_from(struct stack_slab *slab)
{
    uint_fast64_t free = atomic_load(&slab->free);
    while (free != 0) {
        if (atomic_compare_exchange_weak(&slab->free, &free,
                                         free & (free - 1))) {
            return stack_address(slab, (size_t)__builtin_ctzll(free));
        }
    }
    return NULL;
}

/* Map a slab, unless another thread is faster.  Returns -1 if there is none.
   Where RLIMIT_AS is set, more slabs than one take at most one sixteenth of
   it: threads' own stacks need the rest. */
static int
stack_add_slab(struct stack_slab *slab)
{
    size_t stacks = STACK_PER_SLAB * stack_step;
    size_t size = stack_page + stacks + STACK_ABOVE;
    size_t count = (size_t)(slab - stack_slabs) + 1;
    char *others = NULL;        /* what another thread mapped meanwhile */
    struct rlimit limit;
    if (count > 1 && getrlimit(RLIMIT_AS, &limit) == 0
        && count * size > limit.rlim_cur / 16) {
        return -1;
    }
    char *low = mmap(NULL, size, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (low == MAP_FAILED) {
        return -1;
    }
    char *base = low + stack_page;
    if (mprotect(base, stacks, PROT_READ | PROT_WRITE) < 0
        || !atomic_compare_exchange_strong(&slab->base, &others, base)) {
        munmap(low, size);
        return others == NULL ? -1 : 0;
    }
    madvise(base, stacks, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < stacks; at += stack_step) {
        madvise(base + at, stack_page, MADV_GUARD_INSTALL);
    }
    atomic_store(&slab->free, UINT64_MAX);
    return 0;
}

/* Take a stack.  Returns NULL if there is none to be had. */
static char *
stack_take(void)
{
    char *stack = NULL;
    for (size_t i = 0; i < STACK_SLABS && stack == NULL; i++) {
        struct stack_slab *slab = &stack_slabs[i];
        if (atomic_load(&slab->base) == NULL && stack_add_slab(slab) < 0) {
            break;
        }
        stack = stack_take_from(slab);
    }
    return stack;
}

/* Give a stack back.  The first slab keeps its memory.  The others give it
   back to the kernel. */
static void
stack_give(char *stack)
{
    for (size_t i = 0; i < STACK_SLABS; i++) {
        struct stack_slab *slab = &stack_slabs[i];
        char *base = atomic_load(&slab->base);
        if (base == NULL) {
            return;
        }
        size_t n = (size_t)(stack - base) / stack_step;
        if (stack >= base && n < STACK_PER_SLAB) {
            if (i > 0) {
                madvise(stack, stack_room, MADV_DONTNEED);
            }
            atomic_fetch_or(&slab->free, UINT64_C(1) << n);
            return;
        }
    }
}

/* ---- The stack of a thread ---- */

/* For a handler that runs on a small alternate stack of somebody else.  Mapped
   at import.  One for crashes and one for signals of register(): a crash may
   come while the other is in use. */
enum stack_use { STACK_FATAL, STACK_USER, STACK_USES };
static char *stack_spares[STACK_USES];
static atomic_bool stack_spare_used[STACK_USES];

/* The destructor of thread_note_key: a thread ends.  Take its alternate stack
   away, if it is still ours. */
static void
stack_thread_ends(void *note)
{
    char *base = (char *)note - stack_size;
    stack_t now, off = {.ss_flags = SS_DISABLE};
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == base) {
        sigaltstack(&off, NULL);
    }
    stack_give(base);
}

/* Give the calling thread an alternate stack, unless it has one.  Another
   owner's is never replaced, not even the builtin module's small one: a
   report is then written on a spare stack.  A thread without an alternate
   stack cannot report an overflow. */
static void
stack_install(void)
{
    stack_t now;
    if (!thread_note_key_made || sigaltstack(NULL, &now) < 0
        || !(now.ss_flags & SS_DISABLE)) {
        return;
    }
    /* thread.h: the key leads to the note on top of the stack.  Where there is
       one, somebody has disabled our stack.  Both are still there. */
    char *note = pthread_getspecific(thread_note_key);
    char *base = note != NULL ? note - stack_size : stack_take();
    if (base == NULL) {
        return;
    }
    if (note == NULL) {
        note = memset(base + stack_size, 0, sizeof(struct thread_note));
        if (pthread_setspecific(thread_note_key, note) != 0) {
            stack_give(base);
            return;
        }
    }
    stack_t ours = {.ss_sp = base, .ss_size = stack_size};
    sigaltstack(&ours, NULL);
}

/* Called once, at import: the sizes, the spare stacks, the key. */
static void
stack_init(void)
{
    size_t need = getauxval(AT_MINSIGSTKSZ) + STACK_NEED
                  + sizeof(struct thread_note);
    stack_page = (size_t)sysconf(_SC_PAGESIZE);
    stack_room = (need + stack_page - 1) / stack_page * stack_page;
    stack_step = stack_page + stack_room;
    stack_size = stack_room - sizeof(struct thread_note);
    stack_spares[STACK_FATAL] = stack_take();
    stack_spares[STACK_USER] = stack_take();
    thread_note_key_made = pthread_key_create(&thread_note_key,
                                              stack_thread_ends) == 0;
}

/* In a forked child: its one thread has its stack, the spare ones are free,
   and so are those of the threads that it does not have. */
static void
stack_after_fork(void)
{
    char *note = (char *)thread_own_note();
    char *own = note == NULL ? NULL : note - stack_size;
    atomic_store(&stack_spare_used[STACK_FATAL], false);
    atomic_store(&stack_spare_used[STACK_USER], false);
    for (size_t i = 0; i < STACK_SLABS; i++) {
        struct stack_slab *slab = &stack_slabs[i];
        if (atomic_load(&slab->base) == NULL) {
            return;
        }
        uint64_t free = UINT64_MAX;
        for (size_t n = 0; n < STACK_PER_SLAB; n++) {
            char *stack = stack_address(slab, n);
            if (stack == stack_spares[STACK_FATAL]
                || stack == stack_spares[STACK_USER] || stack == own) {
                free &= ~(UINT64_C(1) << n);
            }
        }
        atomic_store(&slab->free, free);
    }
}

/* ---- The spare stack ---- */

/* May run inside a handler.  Does it run on an alternate stack that has too
   little room left for a report?  It runs on it if room < ss_size. */
static bool
stack_is_small(const void *context)
{
    const stack_t *now = &((const ucontext_t *)context)->uc_stack;
    char here;
    uintptr_t room = (uintptr_t)&here - (uintptr_t)now->ss_sp;
    return room < mem_stack_min() && room < now->ss_size;
}

/* What is to be called on another stack. */
struct stack_call {
    void (*function)(void *);
    void *argument;
    stack_t stack;
};

/* Runs on the spare stack.  Makes it the alternate stack, so that a nested
   fault comes here, too.  The kernel restores the old one when the handler
   returns. */
static void
stack_on_spare(void *argument)
{
    struct stack_call *call = argument;
    sigaltstack(&call->stack, NULL);
    call->function(call->argument);
}

/* May run inside a handler, with little stack.  Call a function on a spare
   stack.  Returns false, and has not called it, if that cannot be had, or if
   another thread uses it. */
static bool
stack_call_on_spare(enum stack_use use, void (*function)(void *),
                    void *argument)
{
    char *spare = stack_spares[use];
    struct stack_call call = {
        function, argument, {.ss_sp = spare, .ss_size = stack_size},
    };
    if (spare == NULL || atomic_exchange(&stack_spare_used[use], true)) {
        return false;
    }
    /* The stack pointer must be a multiple of 16. */
    cpu_call_on(spare + stack_size / 16 * 16, stack_on_spare, &call);
    atomic_store(&stack_spare_used[use], false);
    return true;
}

/* ---- The start functions of _thread ---- */

/* Note the name of a thread that the threading module starts.  Its function is
   the bound method Thread._bootstrap.  The attribute is read without running
   the user's code. */
static void
stack_note_name(PyObject *function)
{
    struct thread_note *note = thread_own_note();
    if (note == NULL || !PyMethod_Check(function)
        || !PyFunction_Check(PyMethod_GET_FUNCTION(function))) {
        return;
    }
    PyFunctionObject *bootstrap =
        (PyFunctionObject *)PyMethod_GET_FUNCTION(function);
    if (PyUnicode_CompareWithASCIIString(bootstrap->func_name,
                                         "_bootstrap") != 0) {
        return;
    }
    PyObject *key = PyUnicode_FromString("_name");
    PyObject *name = key == NULL ? NULL : PyObject_GenericGetAttr(
        PyMethod_GET_SELF(function), key);
    const char *text = name != NULL && PyUnicode_CheckExact(name)
                       ? PyUnicode_AsUTF8(name) : NULL;
    if (text != NULL) {
        strncpy(note->name, text, sizeof note->name - 1);
    }
    PyErr_Clear();
    Py_XDECREF(name);
    Py_XDECREF(key);
}

/* The first function of a thread.  It catches the exception here: _thread
   would name our wrapper in its message, and not the thread's function. */
static PyObject *
stack_run_thread(PyObject *function, PyObject *args, PyObject *kwargs)
{
    stack_install();
    stack_note_name(function);
    PyObject *result = PyObject_Call(function, args, kwargs);
    if (result != NULL) {
        return result;
    }
    if (PyErr_ExceptionMatches(PyExc_SystemExit)) {
        PyErr_Clear();
    }
    else {
        CPYTHON_WRITE_UNRAISABLE(function);
    }
    Py_RETURN_NONE;
}

static PyMethodDef stack_run_thread_def = {
    "run", (PyCFunction)(void (*)(void))stack_run_thread,
    METH_VARARGS | METH_KEYWORDS, NULL
};

/* Return the arguments of a start function, with the first one wrapped.  What
   is not callable stays as it is: the start function refuses it.  Returns NULL
   with an exception. */
static PyObject *
stack_wrap_function(PyObject *args)
{
    if (PyTuple_GET_SIZE(args) < 1
        || !PyCallable_Check(PyTuple_GET_ITEM(args, 0))) {
        Py_INCREF(args);
        return args;
    }
    PyObject *run = PyCFunction_New(&stack_run_thread_def,
                                    PyTuple_GET_ITEM(args, 0));
    PyObject *wrapped = run == NULL ? NULL
                        : PyTuple_New(PyTuple_GET_SIZE(args));
    if (wrapped == NULL) {
        Py_XDECREF(run);
        return NULL;
    }
    PyTuple_SET_ITEM(wrapped, 0, run);
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(args); i++) {
        Py_INCREF(PyTuple_GET_ITEM(args, i));
        PyTuple_SET_ITEM(wrapped, i, PyTuple_GET_ITEM(args, i));
    }
    return wrapped;
}

/* The original functions.  start_new_thread() and its older name take no
   keywords, start_joinable_thread() of 3.13+ does.  They are stored before
   ours are put into the table: other threads may be reading it. */
static _Atomic(PyCFunction) stack_real_new_thread, stack_real_joinable_thread;

static PyObject *
stack_start_new_thread(PyObject *module, PyObject *args)
{
    PyCFunction start = atomic_load(&stack_real_new_thread);
    PyObject *wrapped = stack_wrap_function(args);
    PyObject *result = wrapped == NULL ? NULL : start(module, wrapped);
    Py_XDECREF(wrapped);
    return result;
}

static PyObject *
stack_start_joinable_thread(PyObject *module, PyObject *args, PyObject *kwargs)
{
    PyCFunctionWithKeywords start = (PyCFunctionWithKeywords)(void (*)(void))
                                    atomic_load(&stack_real_joinable_thread);
    PyObject *wrapped = stack_wrap_function(args);
    PyObject *result = wrapped == NULL ? NULL : start(module, wrapped, kwargs);
    Py_XDECREF(wrapped);
    return result;
}

/* Replace one entry, if its calling convention is the one that we know.  If
   another module has wrapped ours, leave its entry: each would call the other
   without end. */
static void
stack_wrap_starter(PyMethodDef *def, const char *name, int flags,
                   PyCFunction ours, _Atomic(PyCFunction) *theirs)
{
    PyCFunction now = __atomic_load_n(&def->ml_meth, __ATOMIC_ACQUIRE);
    PyCFunction known = atomic_load(theirs);
    if (strcmp(def->ml_name, name) == 0 && def->ml_flags == flags
        && now != ours && (known == NULL || known == now)) {
        atomic_store(theirs, now);
        __atomic_store_n(&def->ml_meth, ours, __ATOMIC_RELEASE);
    }
}

/* Wrap the start functions in the table of _thread's methods, not in the
   module: threading, gevent and others keep copies of the function objects, or
   have put their own there.  Returns -1 with an exception. */
static int
stack_wrap_starters(void)
{
    PyObject *thread = PyImport_ImportModule("_thread");
    if (thread == NULL) {
        return -1;
    }
    PyModuleDef *module = PyModule_Check(thread) ? PyModule_GetDef(thread)
                                                 : NULL;
    PyMethodDef *def = module == NULL ? NULL : module->m_methods;
    for (; def != NULL && def->ml_name != NULL; def++) {
        stack_wrap_starter(def, "start_new_thread", METH_VARARGS,
                           stack_start_new_thread, &stack_real_new_thread);
        stack_wrap_starter(def, "start_new", METH_VARARGS,
                           stack_start_new_thread, &stack_real_new_thread);
        stack_wrap_starter(
            def, "start_joinable_thread", METH_VARARGS | METH_KEYWORDS,
            (PyCFunction)(void (*)(void))stack_start_joinable_thread,
            &stack_real_joinable_thread);
    }
    PyErr_Clear();              /* PyModule_GetDef() may have set one */
    Py_DECREF(thread);
    return 0;
}

#endif
