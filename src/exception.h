/* exception: the exceptions of a thread: the one that it is handling, and the
   one that is on its way to a handler.

   Everything here may run inside a signal handler, between mem_begin() and
   mem_end(). */

#ifndef FAULTHANDLER_EXCEPTION_H
#define FAULTHANDLER_EXCEPTION_H

#include "cpython.h"
#include "mem.h"
#include "out.h"
#include "str.h"

/* As many characters of a message are shown. */
#define EXCEPTION_MESSAGE_MAX 200

/* Write the name of an exception's type.  Returns -1, with nothing written, if
   this is no such type. */
static int
exception_write_type(struct out *o, uintptr_t type)
{
    uintptr_t flags, size;
    if (mem_word(type + offsetof(PyTypeObject, tp_flags), &flags) < 0
        || mem_word(type + offsetof(PyTypeObject, tp_basicsize), &size) < 0
        || !(flags & Py_TPFLAGS_BASE_EXC_SUBCLASS)
        || size < sizeof(PyBaseExceptionObject)) {
        return -1;
    }
    return str_write_type(o, type);
}

/* Return whether an object is a str, or cannot be read. */
static bool
exception_may_be_str(uintptr_t at)
{
    uintptr_t type;
    return at != 0
           && (mem_word(at + offsetof(PyObject, ob_type), &type) < 0
               || str_is_subclass(type));
}

/* Find the message of an exception: its first argument, or the second where
   the first is no str, as in OSError; 0 if there is none.  Returns -1 if the
   arguments cannot be read. */
static int
exception_find_message(uintptr_t exception, uintptr_t *message)
{
    uintptr_t args, items[2] = {0, 0};
    PyVarObject head;
    *message = 0;
    if (mem_word(exception + offsetof(PyBaseExceptionObject, args),
                 &args) < 0
        || (args != 0 && mem_read(&head, args, sizeof head) < 0)) {
        return -1;
    }
    if (args == 0 || head.ob_base.ob_type != &PyTuple_Type
        || head.ob_size < 1) {
        return 0;
    }
    if (mem_read(items, args + offsetof(PyTupleObject, ob_item),
                 head.ob_size > 1 ? sizeof items : sizeof *items) < 0) {
        return -1;
    }
    *message = items[exception_may_be_str(items[0]) ? 0 : 1];
    return 0;
}

/* Write a line about an exception: its type, and its message where that is a
   str.  Up to 3.11 the value may be no exception yet, but the argument that
   one of this type will be made with. */
static void
exception_write_line(struct out *o, const char *what, uintptr_t type,
                     uintptr_t value)
{
    uintptr_t own = 0, message = value;
    int found = 0;
    out_room(o, OUT_LINE_MAX);
    out_text(o, what);
    mem_word(value + offsetof(PyObject, ob_type), &own);
    if (exception_write_type(o, own) == 0) {
        found = exception_find_message(value, &message);
    }
    else if (exception_write_type(o, type) < 0) {
        out_text(o, "???");
        message = 0;
    }
    if (found < 0 || exception_may_be_str(message)) {
        out_text(o, ": ");
        if (found < 0
            || str_write_start(o, message, EXCEPTION_MESSAGE_MAX) < 0) {
            out_text(o, "???");
        }
    }
    out_char(o, '\n');
}

/* Find the exception that a thread is handling, 0 if there is none.  Those of
   nested handlers are in a chain, the newest first; an entry without one is 0
   or None.  Returns -1 if the chain cannot be read. */
static int
exception_find_handled(uintptr_t tstate, uintptr_t *value)
{
    struct mem_chain chain = {0};
    uintptr_t item;
    *value = 0;
    if (mem_word(tstate + offsetof(PyThreadState, exc_info), &item) < 0) {
        return -1;
    }
    while (item != 0 && *value == 0) {
        if (mem_chain_step(&chain, item) < 0
            || mem_word(item + offsetof(_PyErr_StackItem, exc_value),
                        value) < 0
            || mem_word(item + offsetof(_PyErr_StackItem, previous_item),
                        &item) < 0) {
            return -1;
        }
        *value = *value == (uintptr_t)Py_None ? 0 : *value;
    }
    return 0;
}

/* Write the lines of a thread's exceptions. */
static void
exception_write(struct out *o, uintptr_t tstate)
{
    uintptr_t value = 0, type = 0;
    if (exception_find_handled(tstate, &value) < 0) {
        out_text(o, "  handling ???\n");
    }
    else if (value != 0) {
        exception_write_line(o, "  handling ", 0, value);
    }
    value = 0;
    if (mem_word(tstate + CPYTHON_TSTATE_RAISED, &value) < 0
        || (CPYTHON_TSTATE_RAISED_TYPE != CPYTHON_UNKNOWN
            && mem_word(tstate + CPYTHON_TSTATE_RAISED_TYPE, &type) < 0)) {
        out_text(o, "  raising ???\n");
    }
    else if (value != 0 || type != 0) {
        exception_write_line(o, "  raising ", type, value);
    }
}

#endif
