/* task: what a thread says that it is about. */

#ifndef FAULTHANDLER_TASK_H
#define FAULTHANDLER_TASK_H

#include "platform.h"
#include "thread.h"

/* A note is changed by its own thread only, without a lock: the sequence tells
   a reader, who may be a handler in another thread or in the middle of this
   one's change, that it is odd or not what it was. */

THREAD_LOCAL struct thread_context *context_mine;

static pthread_key_t context_key;
static bool context_key_made;
static atomic_int context_free;             /* notes that nobody has */

/* Set the text of a note, None for no text. */
static void
context_write(struct thread_context *note, PyObject *text, Py_ssize_t length)
{
    unsigned sequence = atomic_load_explicit(&note->sequence,
                                             memory_order_relaxed) | 1;
    atomic_store_explicit(&note->sequence, sequence, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    note->width = 0;
    if (text != Py_None) {
        note->cut = length > THREAD_CONTEXT_MAX;
        note->length = (uint16_t)(note->cut ? THREAD_CONTEXT_MAX : length);
        note->width = (uint8_t)PyUnicode_KIND(text);
        memcpy(note->text, PyUnicode_DATA(text),
               (size_t)note->length * note->width);
    }
    atomic_store_explicit(&note->sequence, sequence + 1,
                          memory_order_release);
}

/* A thread ends: its note is the next one's. */
static void
context_on_exit(void *argument)
{
    struct thread_context *note = argument;
    context_mine = NULL;
    context_write(note, Py_None, 0);
    atomic_store(&note->ident, 0);
    atomic_fetch_add(&context_free, 1);
}

/* A child of fork() has this thread only.  Another one of it may get the
   identity of one that is gone. */
static void
context_after_fork(void)
{
    struct thread_context *note = atomic_load(&thread_contexts);
    int count = 0;
    for (; note != NULL; note = note->next) {
        if (note != context_mine) {
            atomic_store(&note->ident, 0);
            note->width = 0;
            count++;
        }
    }
    atomic_store(&context_free, count);
}

/* Find a note that is free, or make one.  Returns NULL if there is no
   memory. */
static struct thread_context *
context_take(void)
{
    uintptr_t self = (uintptr_t)pthread_self();
    struct thread_context *note = NULL;
    if (atomic_load(&context_free) > 0) {
        note = atomic_load(&thread_contexts);
    }
    for (; note != NULL; note = note->next) {
        uintptr_t nobody = 0;
        if (atomic_compare_exchange_strong(&note->ident, &nobody, self)) {
            atomic_fetch_sub(&context_free, 1);
            return note;
        }
    }
    note = PyMem_RawCalloc(1, sizeof *note);
    if (note != NULL) {
        atomic_init(&note->ident, self);
        note->next = atomic_load(&thread_contexts);
        while (!atomic_compare_exchange_weak(&thread_contexts, &note->next,
                                             note)) {
        }
    }
    return note;
}

/* Give the calling thread a note.  Returns -1 with an exception. */
static int
context_begin(void)
{
    struct thread_context *note = context_key_made ? context_take() : NULL;
    if (note == NULL || pthread_setspecific(context_key, note) != 0) {
        if (note != NULL) {
            context_on_exit(note);
        }
        PyErr_NoMemory();
        return -1;
    }
    context_mine = note;
    return 0;
}

PyDoc_STRVAR(faulthandler_context_doc,
"context($module, text, /)\n"
"--\n"
"\n"
"Say what this thread is about; returns what it said before, or None.\n"
"\n"
"text is a str of which the first 200 characters are kept: a request's id,\n"
"the name of a test.  A report with details shows it with this thread until\n"
"another call changes it; None takes it away.  Raises TypeError for\n"
"anything else, and MemoryError.");

static PyObject *
faulthandler_context(PyObject *module, PyObject *text)
{
    PyObject *before = Py_None;
    (void)module;
    if (text != Py_None && !PyUnicode_Check(text)) {
        return PyErr_Format(PyExc_TypeError, "context() argument must be str "
                            "or None, not %.100s", Py_TYPE(text)->tp_name);
    }
    Py_ssize_t length = text == Py_None ? 0 : PyUnicode_GetLength(text);
    if (length < 0 || (context_mine == NULL && context_begin() < 0)) {
        return NULL;
    }
    struct thread_context *note = context_mine;
    if (note->width == 0) {
        Py_INCREF(before);
    }
    else {
        before = PyUnicode_FromKindAndData(note->width, note->text,
                                           note->length);
    }
    if (before != NULL) {
        context_write(note, text, length);
    }
    return before;
}

#endif
