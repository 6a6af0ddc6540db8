/* C functions between Python functions, and ways to crash in them. */
#include <Python.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <stdio.h>

static PyObject *callback;

/* Frames that the compiler must keep. */
#define KEPT __attribute__((noinline, noclone))

static KEPT int
read_word(const int *at)
{
    int word = *(const volatile int *)at;
    return word + 1;
}

static PyObject *
check_read(PyObject *module, PyObject *at)
{
    int word = read_word((const int *)PyLong_AsSize_t(at));
    return PyLong_FromLong(word);
}

static KEPT PyObject *
call_deep(PyObject *function, long depth)
{
    PyObject *result = depth > 0 ? call_deep(function, depth - 1)
                                 : PyObject_CallFunction(function, NULL);
    __asm__ volatile ("" : : "r" (result) : "memory");
    return result;
}

static PyObject *
check_call(PyObject *module, PyObject *args)
{
    PyObject *function;
    long depth;
    if (!PyArg_ParseTuple(args, "Ol", &function, &depth)) {
        return NULL;
    }
    return call_deep(function, depth);
}

static KEPT int
compare(const void *a, const void *b)
{
    PyObject *result = PyObject_CallFunction(callback, "ii", *(const int *)a,
                                             *(const int *)b);
    long value = PyLong_AsLong(result);
    Py_XDECREF(result);
    return (int)value;
}

static PyObject *
check_sort(PyObject *module, PyObject *function)
{
    int numbers[] = {3, 1, 2};
    callback = function;
    qsort(numbers, 3, sizeof *numbers, compare);
    return PyLong_FromLong(numbers[0]);
}

static KEPT int
divide(volatile int *by)
{
    return 7 / *by;
}

static PyObject *
check_divide(PyObject *module, PyObject *nothing)
{
    volatile int zero = 0;
    return PyLong_FromLong(divide(&zero));
}

static PyObject *
check_trap(PyObject *module, PyObject *nothing)
{
    __builtin_trap();
}

static PyObject *
check_abort(PyObject *module, PyObject *nothing)
{
    void (*volatile function)(void) = abort;
    function();
    Py_RETURN_NONE;
}

static PyObject *
check_past_end(PyObject *module, PyObject *nothing)
{
    FILE *file = tmpfile();
    char *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
    return PyLong_FromLong(read_word((const int *)page));
}

static PyObject *
check_jump(PyObject *module, PyObject *at)
{
    PyObject *(*function)(void) = (PyObject *(*)(void))PyLong_AsSize_t(at);
    PyObject *result = function();
    return PyUnicode_FromFormat("%R", result);
}

/* A frame evaluator of one's own, PEP 523. */
PyAPI_FUNC(void) _PyInterpreterState_SetEvalFrameFunc(
    PyInterpreterState *,
    PyObject *(*)(PyThreadState *, struct _PyInterpreterFrame *, int));
static KEPT PyObject *
evaluate(PyThreadState *state, struct _PyInterpreterFrame *frame, int thrown)
{
    PyObject *result = _PyEval_EvalFrameDefault(state, frame, thrown);
    __asm__ volatile ("" : : "r" (result) : "memory");
    return result;
}

static PyObject *
check_evaluate(PyObject *module, PyObject *nothing)
{
    _PyInterpreterState_SetEvalFrameFunc(PyThreadState_Get()->interp,
                                         evaluate);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"read", check_read, METH_O, NULL},
    {"call", check_call, METH_VARARGS, NULL},
    {"sort", check_sort, METH_O, NULL},
    {"divide", check_divide, METH_NOARGS, NULL},
    {"trap", check_trap, METH_NOARGS, NULL},
    {"abort", check_abort, METH_NOARGS, NULL},
    {"past_end", check_past_end, METH_NOARGS, NULL},
    {"jump", check_jump, METH_O, NULL},
    {"evaluate", check_evaluate, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "mixedcheck", .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit_mixedcheck(void)
{
    return PyModule_Create(&definition);
}
