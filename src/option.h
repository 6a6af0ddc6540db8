/* option: what a call asks for.

   The arguments of enable(); where they are not given, the options of
   PYTHONFAULTHANDLER; where there is neither, the defaults.  And how the
   arguments that several functions have are read.  Nothing here runs in a
   handler.  The GIL is held, or on a free-threaded build the thread
   attached. */

#ifndef FAULTHANDLER_OPTION_H
#define FAULTHANDLER_OPTION_H

#include "cpython.h"
#include "request.h"
#include "sink.h"

/* ---- Arguments that several functions have ---- */

/* What is shown where no argument says more. */
#define OPTION_DEFAULTS {.all_threads = true, .max_threads = 100}

/* Read the truth of an argument: a converter of PyArg_Parse*(), which returns
   0 with an exception. */
static int
option_truth(PyObject *value, void *truth)
{
    int is_true = PyObject_IsTrue(value);
    *(bool *)truth = is_true > 0;
    return is_true >= 0;
}

/* Read how many threads are shown: 0 is the default, as in 3.15. */
static int
option_max_threads(PyObject *value, void *max_threads)
{
    Py_ssize_t n = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    *(size_t *)max_threads = n == 0 ? 100 : n < 0 ? 1 : (size_t)n;
    return !(n == -1 && PyErr_Occurred());
}

/* ---- A call of enable() ---- */

struct option_call {
    PyObject *file, *copy;      /* borrowed; NULL: the default */
    bool option_file, option_copy;      /* of the environment, not the call */
    bool plain;                 /* neither arguments nor options */
    PyObject *keep_file, *keep_copy;    /* new references, or NULL */
    struct request request;
};

/* Return the options of PYTHONFAULTHANDLER, a new dict, or NULL with an
   exception.  The module that has read them keeps them; a Python that was
   started without it has none. */
static PyObject *
option_get_options(void)
{
    PyObject *reader = PyDict_GetItemString(PyImport_GetModuleDict(),
                                            "_faulthandler_precedence");
    PyObject *options = reader == NULL ? NULL
                        : PyObject_GetAttrString(reader, "options");
    PyErr_Clear();
    PyObject *copy = options != NULL && PyDict_Check(options)
                     ? PyDict_Copy(options) : PyDict_New();
    Py_XDECREF(options);
    return copy;
}

/* Read c_stack: a truth, or "mixed". */
static int
option_c_stack(PyObject *value, void *argument)
{
    struct request *request = argument;
    request->mixed = PyUnicode_Check(value);
    if (request->mixed
        && PyUnicode_CompareWithASCIIString(value, "mixed") != 0) {
        PyErr_Format(PyExc_ValueError, "c_stack must be False, True or "
                     "'mixed', not %R", value);
        return 0;
    }
    return option_truth(value, &request->c_stack);
}

/* Make a place of a file argument.  A path of the environment was good at
   start-up; where it is not any more the program's own call does not fail by
   it: then the place is the default.  Returns 0, or -1 with an exception. */
static int
option_find_place(PyObject *file, const char *argument, bool is_option,
                  struct sink *sink, PyObject **keep)
{
    if (sink_resolve(file, argument, sink, keep) == 0) {
        return 0;
    }
    sink->kind = SINK_NOWHERE;
    if (!is_option || !PyErr_ExceptionMatches(PyExc_OSError)) {
        return -1;
    }
    PyErr_Clear();
    return strcmp(argument, "copy") == 0 ? 0 : sink_resolve(NULL, argument,
                                                            sink, keep);
}

/* Find the places of the report: the default is standard error and no copy.
   Returns 0, or -1 with an exception and nothing open. */
static int
option_find_places(struct option_call *call)
{
    struct request *request = &call->request;
    if (option_find_place(call->file, "file", call->option_file,
                          &request->sink, &call->keep_file) < 0) {
        return -1;
    }
    if (call->copy == NULL || call->copy == Py_None) {
        return 0;
    }
    if (option_find_place(call->copy, "copy", call->option_copy,
                          &request->copy, &call->keep_copy) < 0) {
        sink_close(&request->sink);
        Py_CLEAR(call->keep_file);
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    sink_note_servers(request);
    Py_END_ALLOW_THREADS
    return 0;
}

/* Read arguments.  What they do not say stays as it is.  Returns false with an
   exception. */
static bool
option_parse(struct option_call *call, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"file", "all_threads", "c_stack", "max_threads",
                            "details", "copy", NULL};
    struct request *r = &call->request;
    return PyArg_ParseTupleAndKeywords(
        args, kwargs, "|OO&O&$O&O&O:enable", names, &call->file, option_truth,
        &r->all_threads, option_c_stack, r, option_max_threads,
        &r->max_threads, option_truth, &r->details, &call->copy);
}

/* Read a whole call: the options, then the arguments.  Returns 0, or -1 with
   an exception and nothing open. */
static int
option_read(struct option_call *call, PyObject *args, PyObject *kwargs)
{
    PyObject *options = option_get_options(), *none = PyTuple_New(0);
    int result = -1;
    *call = (struct option_call) {.request = OPTION_DEFAULTS};
    call->request.c_stack = CPYTHON_C_STACK_DEFAULT;
    if (options != NULL && none != NULL && option_parse(call, none, options)) {
        PyObject *file = call->file, *copy = call->copy;
        call->file = call->copy = NULL;
        call->plain = PyTuple_GET_SIZE(args) + PyDict_Size(options) == 0
                      && (kwargs == NULL || PyDict_Size(kwargs) == 0);
        result = option_parse(call, args, kwargs) ? 0 : -1;
        call->option_file = file != NULL && call->file == NULL;
        call->option_copy = copy != NULL && call->copy == NULL;
        call->file = call->option_file ? file : call->file;
        call->copy = call->option_copy ? copy : call->copy;
        result = result == 0 ? option_find_places(call) : -1;
    }
    Py_XDECREF(options);
    Py_XDECREF(none);
    return result;
}

#endif
