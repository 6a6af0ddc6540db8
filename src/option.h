/* option: what a call of enable() asks for.

   Its arguments; where they are not given, the options of PYTHONFAULTHANDLER;
   where there is neither, the defaults.  Nothing here runs in a handler.  The
   GIL is held, or on a free-threaded build the thread attached. */

#ifndef FAULTHANDLER_OPTION_H
#define FAULTHANDLER_OPTION_H

#include "cpython.h"
#include "request.h"
#include "sink.h"

/* The arguments of enable(), in this order. */
enum option_index {
    OPTION_FILE, OPTION_ALL_THREADS, OPTION_C_STACK, OPTION_MAX_THREADS,
    OPTION_DETAILS, OPTION_COPY, OPTION_ARGUMENTS
};
static char *option_names[] = {"file", "all_threads", "c_stack",
                               "max_threads", "details", "copy", NULL};

/* A call of enable(). */
struct option_call {
    PyObject *options;          /* a new dict: those of PYTHONFAULTHANDLER */
    PyObject *values[OPTION_ARGUMENTS];     /* borrowed; NULL: the default */
    bool given[OPTION_ARGUMENTS];       /* by the call itself */
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

/* Collect the arguments: those of the call, then the options.  Returns 0, or
   -1 with an exception. */
static int
option_collect(struct option_call *call, PyObject *args, PyObject *kwargs)
{
    PyObject **v = call->values;
    memset(call, 0, sizeof *call);
    call->plain = true;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO$OOO:enable",
                                     option_names, &v[0], &v[1], &v[2], &v[3],
                                     &v[4], &v[5])
        || (call->options = option_get_options()) == NULL) {
        return -1;
    }
    for (int i = 0; i < OPTION_ARGUMENTS; i++) {
        call->given[i] = v[i] != NULL;
        if (v[i] == NULL) {
            v[i] = PyDict_GetItemString(call->options, option_names[i]);
        }
        call->plain &= v[i] == NULL;
    }
    return 0;
}

/* Read the truth of an argument, if there is one.  Returns -1 with an
   exception. */
static int
option_parse_truth(PyObject *value, bool *truth)
{
    int is_true = value == NULL ? *truth : PyObject_IsTrue(value);
    *truth = is_true > 0;
    return is_true < 0 ? -1 : 0;
}

static int
option_parse_c_stack(PyObject *value, struct request *request)
{
    request->mixed = value != NULL && PyUnicode_Check(value);
    if (request->mixed
        && PyUnicode_CompareWithASCIIString(value, "mixed") != 0) {
        PyErr_Format(PyExc_ValueError, "c_stack must be False, True or "
                     "'mixed', not %R", value);
        return -1;
    }
    request->c_stack = CPYTHON_C_STACK_DEFAULT;
    return option_parse_truth(value, &request->c_stack);
}

static int
option_parse_max_threads(PyObject *value, struct request *request)
{
    Py_ssize_t number = 100;
    if (value != NULL) {
        PyObject *index = PyNumber_Index(value);
        number = index == NULL ? -1 : PyLong_AsSsize_t(index);
        Py_XDECREF(index);
    }
    request->max_threads = request_max_threads(number);
    return number == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Parse the arguments that are no files.  Returns -1 with an exception. */
static int
option_parse(struct option_call *call)
{
    struct request *request = &call->request;
    PyObject **v = call->values;
    request->all_threads = true;
    return option_parse_truth(v[OPTION_ALL_THREADS], &request->all_threads) < 0
           || option_parse_c_stack(v[OPTION_C_STACK], request) < 0
           || option_parse_max_threads(v[OPTION_MAX_THREADS], request) < 0
           || option_parse_truth(v[OPTION_DETAILS], &request->details) < 0
           ? -1 : 0;
}

/* Make a place of a file argument.  A path of the environment was good at
   start-up; where it is not any more the program's own call does not fail by
   it.  Returns 1, 0 for such a path, or -1 with an exception. */
static int
option_find_place(struct option_call *call, enum option_index which,
                  struct sink *sink, PyObject **keep)
{
    if (sink_resolve(call->values[which], option_names[which], sink,
                     keep) == 0) {
        return 1;
    }
    sink->kind = SINK_NOWHERE;
    if (call->given[which] || !PyErr_ExceptionMatches(PyExc_OSError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* Find the places of the report: the default is standard error and no copy.
   Returns 0, or -1 with an exception and nothing open. */
static int
option_find_places(struct option_call *call)
{
    struct request *request = &call->request;
    PyObject *copy = call->values[OPTION_COPY];
    int found = option_find_place(call, OPTION_FILE, &request->sink,
                                  &call->keep_file);
    if (found < 0 || (found == 0 && sink_resolve(NULL, "file", &request->sink,
                                                 &call->keep_file) < 0)) {
        return -1;
    }
    if (copy == NULL || copy == Py_None) {
        return 0;
    }
    found = option_find_place(call, OPTION_COPY, &request->copy,
                              &call->keep_copy);
    if (found < 0) {
        sink_close(&request->sink);
        Py_CLEAR(call->keep_file);
        return -1;
    }
    if (found > 0) {
        Py_BEGIN_ALLOW_THREADS
        sink_note_servers(request);
        Py_END_ALLOW_THREADS
    }
    return 0;
}

/* Read a whole call.  Returns 0, or -1 with an exception and nothing open. */
static int
option_read(struct option_call *call, PyObject *args, PyObject *kwargs)
{
    int result = option_collect(call, args, kwargs) == 0
                 && option_parse(call) == 0
                 && option_find_places(call) == 0 ? 0 : -1;
    Py_CLEAR(call->options);
    return result;
}

#endif
