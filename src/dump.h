/* dump: write a traceback now.

   The GIL is held. */

#ifndef FAULTHANDLER_DUMP_H
#define FAULTHANDLER_DUMP_H

#include "mem.h"
#include "out.h"
#include "platform.h"
#include "report.h"
#include "request.h"
#include "sink.h"
#include "unwind.h"

/* Kept: a mapping of one's own costs more than the dump.  It is made when
   another dump is using this one. */
static struct report_memory dump_memory;
static atomic_bool dump_memory_used;

static struct report_memory *
dump_take_memory(void)
{
    if (!atomic_exchange(&dump_memory_used, true)) {
        return &dump_memory;
    }
    void *memory = mmap(NULL, sizeof dump_memory, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        PyErr_NoMemory();
        return NULL;
    }
    return memory;
}

static void
dump_give_memory(struct report_memory *memory)
{
    if (memory == &dump_memory) {
        atomic_store(&dump_memory_used, false);
    }
    else {
        munmap(memory, sizeof *memory);
    }
}

/* A report that the program asked for.  It is made with the GIL held, when
   the threads stand still, and written with the GIL released, so that the
   reader of a pipe may be another thread of this process. */
static int
dump_report(const struct request *request, enum report_kind kind,
            uintptr_t from)
{
    struct mem_session session;
    struct report r;
    struct report_memory *memory = dump_take_memory();
    if (memory == NULL) {
        return -1;
    }
    memset(&r, 0, sizeof r);
    report_use_memory(&r, memory);
    r.out.own = memory->text;
    r.request = request;
    r.kind = kind;
    r.from = from;
    mem_begin(&session);
    report_write(&r);
    Py_BEGIN_ALLOW_THREADS
    bool mine = report_enter();
    report_finish(&r);
    if (mine) {
        report_leave();
    }
    Py_END_ALLOW_THREADS
    mem_end(&session);
    if (r.out.text != memory->text) {
        munmap(r.out.text, r.out.size);
    }
    dump_give_memory(memory);
    return 0;
}

PyDoc_STRVAR(dump_traceback_doc,
"dump_traceback($module, /, file=None, all_threads=True, *,\n"
"               max_threads=100)\n"
"--\n"
"\n"
"Write the traceback of all threads, or of this one, to file.\n"
"\n"
"file is an object with fileno(), a descriptor, a path, or None for\n"
"sys.stderr.  At most max_threads threads are shown (0: 100), this one\n"
"always.  Returns None.  Raises what enable() raises for file, and\n"
"MemoryError.");

static PyObject *
dump_traceback(PyObject *module, PyObject *args,
                            PyObject *kwargs)
{
    static char *names[] = {"file", "all_threads", "max_threads", NULL};
    PyObject *file = NULL, *keep;
    int all_threads = 1;
    Py_ssize_t max_threads = 100;
    struct request request = {0};
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Op$n:dump_traceback",
                                     names, &file, &all_threads,
                                     &max_threads)
        || sink_resolve(file, &request.sink, &keep) < 0) {
        return NULL;
    }
    request.all_threads = all_threads;
    request.max_threads = request_max_threads(max_threads);
    int result = dump_report(&request, REPORT_DUMP, 0);
    sink_close(&request.sink);
    Py_XDECREF(keep);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(dump_c_stack_doc,
"dump_c_stack($module, /, file=None)\n"
"--\n"
"\n"
"Write the C stack of this thread to file: 128 frames, then the count of\n"
"the rest.\n"
"\n"
"file is an object with fileno(), a descriptor, a path, or None for\n"
"sys.stderr.  Returns None.  Raises what enable() raises for file, and\n"
"MemoryError.");

static PyObject *
dump_c_stack(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"file", NULL};
    PyObject *file = NULL, *keep;
    struct request request = {.c_stack = true};
    (void)module;
    uintptr_t from = (uintptr_t)__builtin_return_address(0);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:dump_c_stack", names,
                                     &file)
        || sink_resolve(file, &request.sink, &keep) < 0) {
        return NULL;
    }
    unwind_init();
    int result = dump_report(&request, REPORT_C_STACK, from);
    sink_close(&request.sink);
    Py_XDECREF(keep);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

#endif
