/* dump: write a traceback now.

   Nothing here runs in a handler.  The GIL is held, or on a free-threaded
   build the thread attached: other threads may dump at the same time. */

#ifndef FAULTHANDLER_DUMP_H
#define FAULTHANDLER_DUMP_H

#include "mem.h"
#include "option.h"
#include "out.h"
#include "platform.h"
#include "report.h"
#include "request.h"
#include "sink.h"
#include "unwind.h"

/* The memory of one dump, kept: a mapping of its own costs more than the dump.
   Whoever sets dump_memory_used owns it; others make a mapping. */
static struct report_memory dump_memory;
static atomic_bool dump_memory_used;

/* Return memory for a report, or NULL with an exception. */
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

/* Write a report.  It is made with the GIL held, when the threads stand
   still, and written with the GIL released: the reader of a pipe may be
   another thread of this process. */
static void
dump_report(const struct request *request, enum report_kind kind,
            uintptr_t from, struct report_memory *memory)
{
    struct mem_session session;
    struct report r = {
        .memory = memory, .request = request, .kind = kind, .from = from,
    };
    mem_begin(&session);
    report_write(&r);
    Py_BEGIN_ALLOW_THREADS
    r.has_door = report_enter();
    report_finish(&r);
    Py_END_ALLOW_THREADS
    mem_end(&session);
    if (r.out.text != memory->text) {
        munmap(r.out.text, r.out.size);
    }
}

/* Write a report to a file argument.  Returns None, or NULL with an
   exception. */
static PyObject *
dump_to(PyObject *file, struct request *request, enum report_kind kind,
        uintptr_t from)
{
    PyObject *keep;
    if (sink_resolve(file, "file", &request->sink, &keep) < 0) {
        return NULL;
    }
    struct report_memory *memory = dump_take_memory();
    if (memory != NULL) {
        dump_report(request, kind, from, memory);
        dump_give_memory(memory);
    }
    sink_close(&request->sink);
    Py_XDECREF(keep);
    if (memory == NULL) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(dump_traceback_doc,
"dump_traceback($module, /, file=None, all_threads=True, *,\n"
"               max_threads=100, details=False)\n"
"--\n"
"\n"
"Write the traceback of all threads, or of this one, to file.\n"
"\n"
"file and max_threads: as for enable(); this thread is always shown.  With\n"
"details, the first line says which thread of which process it is, and\n"
"when, and each thread has a line with its context, where one is set.\n"
"Returns None.  Raises what enable() raises for file, and MemoryError.");

static PyObject *
dump_traceback(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"file", "all_threads", "max_threads", "details",
                            NULL};
    PyObject *file = NULL;
    struct request request = OPTION_DEFAULTS;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "|OO&$O&O&:dump_traceback", names, &file,
                                     option_truth, &request.all_threads,
                                     option_max_threads, &request.max_threads,
                                     option_truth, &request.details)) {
        return NULL;
    }
    return dump_to(file, &request, REPORT_DUMP, 0);
}

PyDoc_STRVAR(dump_c_stack_doc,
"dump_c_stack($module, /, file=None)\n"
"--\n"
"\n"
"Write the C stack of this thread to file: 128 frames, then the count of\n"
"the rest.\n"
"\n"
"file: as for enable().  Returns None.  Raises what enable() raises for\n"
"file, and MemoryError.");

static PyObject *
dump_c_stack(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"file", NULL};
    PyObject *file = NULL;
    struct request request = {.c_stack = true};
    (void)module;
    uintptr_t from = (uintptr_t)__builtin_return_address(0);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:dump_c_stack", names,
                                     &file)) {
        return NULL;
    }
    unwind_init();
    return dump_to(file, &request, REPORT_C_STACK, from);
}

#endif
