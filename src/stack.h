/* stack: alternate stacks, one for each thread that Python starts. */

#ifndef FAULTHANDLER_STACK_H
#define FAULTHANDLER_STACK_H

#include "cpu.h"
#include "mem.h"
#include "platform.h"
#include "thread.h"

/* A handler that runs because the stack is full needs another one.  Each
   thread that Python starts after the import gets it, by a wrapper around
   _thread's start functions; so does the thread that imports or enables. */

/* What the handlers need of their stack, beyond what the kernel puts there:
   .ci/callgraph.py bounds it at 12 KiB; the rest is for unwinding. */
#define STACK_NEED (64 * 1024)

/* Forbidden memory above: what is mapped first often lies right below the
   thread's own stack, and a large frame that reaches over the guard of that
   one must not come to rest here. */
#define STACK_ABOVE (1024 * 1024)

/* Stacks of ended threads, for the next ones. */
#define STACK_POOL_SIZE 16
static _Atomic(char *) stack_pool[STACK_POOL_SIZE];

static size_t stack_page, stack_room;
static size_t stack_size;       /* the room without the thread's note */

/* For a handler that finds itself on another owner's stack, too small for a
   report.  Mapped at the start, touched only then. */
struct stack_spare {
    atomic_int thread;          /* who is on it, 0: nobody */
    char *base;
};
static struct stack_spare stack_fatal_spare, stack_user_spare;

/* Map a stack between forbidden memory.  Returns NULL if there is none. */
static char *
stack_map(void)
{
    size_t size = stack_page + stack_room + STACK_ABOVE;
    char *guard = mmap(NULL, size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (guard == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(guard + stack_page, stack_room,
                 PROT_READ | PROT_WRITE) < 0) {
        munmap(guard, size);
        return NULL;
    }
    return guard + stack_page;
}

static char *
stack_take(void)
{
    for (int i = 0; i < STACK_POOL_SIZE; i++) {
        char *base = atomic_load(&stack_pool[i]);
        if (base != NULL
            && atomic_compare_exchange_strong(&stack_pool[i], &base, NULL)) {
            return base;
        }
    }
    return stack_map();
}

static void
stack_give(char *base)
{
    for (int i = 0; i < STACK_POOL_SIZE; i++) {
        char *empty = NULL;
        if (atomic_compare_exchange_strong(&stack_pool[i], &empty, base)) {
            return;
        }
    }
    munmap(base - stack_page, stack_page + stack_room + STACK_ABOVE);
}

/* A thread ends: take its alternate stack away, if it is still ours. */
static void
stack_on_exit(void *note)
{
    char *base = (char *)note - stack_size;
    stack_t now, off = {.ss_flags = SS_DISABLE};
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == base) {
        sigaltstack(&off, NULL);
    }
    stack_give(base);
}

/* Does a segment hold this description of a stack? */
static bool
stack_is_noted(uintptr_t at, uintptr_t end, const stack_t *stack)
{
    const size_t align = _Alignof(stack_t);
    at = (at + align - 1) / align * align;
    for (; at + sizeof *stack <= end; at += align) {
        const stack_t *note = (const stack_t *)at;
        if (note->ss_sp == stack->ss_sp && note->ss_flags == stack->ss_flags
            && note->ss_size == stack->ss_size) {
            return true;
        }
    }
    return false;
}

/* For each loaded object: is it noted where the interpreter has its statics?
   Returns 0 for all other objects, else 1 or 2 for no or yes. */
static int
stack_search(struct dl_phdr_info *object, size_t size, void *stack)
{
    const uintptr_t code = (uintptr_t)PyMem_Malloc;
    bool interpreter = false, noted = false;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        interpreter |= part->p_type == PT_LOAD
                       && code - object->dlpi_addr - part->p_vaddr
                          < part->p_memsz;
    }
    for (int i = 0; interpreter && i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t at = object->dlpi_addr + part->p_vaddr;
        noted |= part->p_type == PT_LOAD && (part->p_flags & PF_W)
                 && stack_is_noted(at, at + part->p_memsz, stack);
    }
    return interpreter ? 1 + noted : 0;
}

/* Is this the builtin module's alternate stack?  It gives the main thread
   one, in 3.8 always, later when it is armed at start-up, and leaves it
   there: small, and without a guard page.  Not told by its size, which others
   take as well: the builtin keeps what it gave to sigaltstack(). */
static bool
stack_is_builtin(stack_t *stack)
{
    return platform_list_objects(stack_search, stack) == 2;
}

/* Give the calling thread an alternate stack, unless it has one: another
   owner's is never replaced.  Without one, a stack overflow goes unreported;
   everything else works. */
static void
stack_install(void)
{
    stack_t now;
    if (!thread_note_key_made || sigaltstack(NULL, &now) < 0
        || !(now.ss_flags & SS_DISABLE || stack_is_builtin(&now))) {
        return;
    }
    /* Somebody may have switched it off: then it is still there. */
    char *note = pthread_getspecific(thread_note_key);
    char *base = note != NULL ? note - stack_size : stack_take();
    stack_t ours = {.ss_sp = base, .ss_size = stack_size};
    if (note != NULL) {
        sigaltstack(&ours, NULL);
        return;
    }
    if (base == NULL) {
        return;
    }
    memset(base + stack_size, 0, sizeof(struct thread_note));
    if (pthread_setspecific(thread_note_key, base + stack_size) != 0) {
        stack_give(base);
    }
    else if (sigaltstack(&ours, NULL) < 0) {
        pthread_setspecific(thread_note_key, NULL);
        stack_give(base);
    }
}

static void
stack_init(void)
{
    size_t need = getauxval(AT_MINSIGSTKSZ) + STACK_NEED
                  + sizeof(struct thread_note);
    stack_page = (size_t)sysconf(_SC_PAGESIZE);
    stack_room = (need + stack_page - 1) / stack_page * stack_page;
    stack_size = stack_room - sizeof(struct thread_note);
    stack_fatal_spare.base = stack_map();
    stack_user_spare.base = stack_map();
    thread_note_key_made = pthread_key_create(&thread_note_key,
                                              stack_on_exit) == 0;
}

/* Note the name of a thread that the threading module starts: its function is
   Thread._bootstrap, of the thread's object.  No code of a user runs. */
static void
stack_note_name(PyObject *function)
{
    struct thread_note *note = pthread_getspecific(thread_note_key);
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

/* May run inside a handler.  Does it run on an alternate stack that has too
   little room left for a report? */
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

/* Already there.  A nested fault is to come to this stack, too.  When the
   handler returns the kernel puts the old one back. */
static void
stack_on_spare(void *argument)
{
    struct stack_call *call = argument;
    sigaltstack(&call->stack, NULL);
    call->function(call->argument);
}

/* May run inside a handler, with little stack.  Call a function on a spare
   stack.  Returns false, and has not called it, if that cannot be had. */
static bool
stack_call_on_spare(struct stack_spare *spare, void (*function)(void *),
                    void *argument)
{
    struct stack_call call = {
        function, argument, {.ss_sp = spare->base, .ss_size = stack_size},
    };
    int nobody = 0;
    if (spare->base == NULL
        || !atomic_compare_exchange_strong(&spare->thread, &nobody,
                                           platform_thread_id())) {
        return false;
    }
    bool called = cpu_call_on(spare->base + stack_size / 16 * 16,
                                   stack_on_spare, &call);
    atomic_store(&spare->thread, 0);
    return called;
}

/* The first function of a thread.  An exception ends the thread here, as it
   would have in _thread, so that the message names the thread's function. */
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

/* The arguments of a start function, with the first one wrapped.  What is not
   callable stays as it is, to be refused.  Returns NULL with an exception. */
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

/* The interpreter's start functions: start_new_thread() and its older name
   take no keywords, start_joinable_thread() of 3.13+ does. */
static PyCFunction stack_start_plain;
static PyCFunctionWithKeywords stack_start_joinable;

static PyObject *
stack_call_plain(PyObject *module, PyObject *args)
{
    PyObject *wrapped = stack_wrap_function(args);
    PyObject *result = wrapped == NULL ? NULL
                       : stack_start_plain(module, wrapped);
    Py_XDECREF(wrapped);
    return result;
}

static PyObject *
stack_call_joinable(PyObject *module, PyObject *args, PyObject *kwargs)
{
    PyObject *wrapped = stack_wrap_function(args);
    PyObject *result = wrapped == NULL ? NULL
                       : stack_start_joinable(module, wrapped, kwargs);
    Py_XDECREF(wrapped);
    return result;
}

/* Put ours in the place of one, if it is called as we know it. */
static void
stack_wrap_starter(PyMethodDef *def)
{
    PyCFunction joinable =
        (PyCFunction)(void (*)(void))stack_call_joinable;
    bool is_plain = strcmp(def->ml_name, "start_new_thread") == 0
                    || strcmp(def->ml_name, "start_new") == 0;
    bool is_joinable = strcmp(def->ml_name, "start_joinable_thread") == 0;
    if (is_plain && def->ml_flags == METH_VARARGS
        && def->ml_meth != stack_call_plain
        && (stack_start_plain == NULL || stack_start_plain == def->ml_meth)) {
        stack_start_plain = def->ml_meth;
        def->ml_meth = stack_call_plain;
    }
    else if (is_joinable && def->ml_flags == (METH_VARARGS | METH_KEYWORDS)
             && def->ml_meth != joinable) {
        stack_start_joinable =
            (PyCFunctionWithKeywords)(void (*)(void))def->ml_meth;
        def->ml_meth = joinable;
    }
}

/* Wrap the interpreter's start functions, in the table of _thread's methods:
   threading, gevent and others keep copies of the function objects, or have
   put their own in the module.  Returns -1 with an exception. */
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
    while (def != NULL && def->ml_name != NULL) {
        stack_wrap_starter(def++);
    }
    PyErr_Clear();
    Py_DECREF(thread);
    return 0;
}

#endif
