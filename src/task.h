/* task: what a thread or task is about, as faulthandler.context says it.

   A context variable, so that it follows what contexts follow: asyncio tasks,
   asyncio.to_thread(), greenlets.  Reports find its value in the thread state,
   at crash time and by mem_read() only.  A context keeps its variables in a
   tree, a hash array mapped trie, of three kinds of nodes:

       thread state -> context -> trie -> node -> node -> the value

   Each level takes five bits of the variable's hash.  In a bitmap node the
   bits say which children there are, and an array node has room for all 32.
   A third kind, for variables of equal hashes, is not read: the context is
   then ???.  Nodes never change once they are made; of a running thread they
   may be freed. */

#ifndef FAULTHANDLER_TASK_H
#define FAULTHANDLER_TASK_H

#include "mem.h"
#include "out.h"
#include "platform.h"
#include "str.h"
#include "thread.h"

#define TASK_NAME "faulthandler.context"
#define TASK_VALUE_MAX 200      /* characters that are shown */
#define TASK_LEVELS 7           /* of five bits, the last one of two */

/* The same in all versions so far. */
#define TASK_CONTEXT_VARS (sizeof(PyObject) + sizeof(void *))
#define TASK_TRIE_ROOT sizeof(PyObject)
#define TASK_ARRAY_CHILDREN sizeof(PyObject)
#define TASK_BITMAP_BITS sizeof(PyVarObject)
#define TASK_PAIRS (sizeof(PyVarObject) + sizeof(void *))

/* The variable of one interpreter.  Made when the interpreter imports the
   module, and never freed: a handler may be looking.  Of an interpreter that
   ended it stays, until another one gets its address. */
struct task_variable {
    struct task_variable *next;
    uintptr_t interp, at;
    uint32_t hash;              /* as the trie uses it */
};

static _Atomic(struct task_variable *) task_variables;

/* Find an interpreter's variable.  Returns NULL if it has none. */
static struct task_variable *
task_find_variable(uintptr_t interp)
{
    struct task_variable *v = atomic_load(&task_variables);
    while (v != NULL && v->interp != interp) {
        v = v->next;
    }
    return v;
}

/* Take one step down from *node.  Returns 1 with the value when it was found,
   0 with the next node, or with 0 where there is none, -1 if the node cannot
   be read. */
static int
task_step(uintptr_t *node, const struct task_variable *v, int level,
          uintptr_t *value)
{
    uintptr_t type, name, pair[2], at = *node + TASK_PAIRS;
    char kind[6];               /* types are not exported, but have names */
    uint32_t bits, place = v->hash >> 5 * level & 31;
    if (mem_word(*node + offsetof(PyObject, ob_type), &type) < 0
        || mem_word(type + offsetof(PyTypeObject, tp_name), &name) < 0
        || mem_read(kind, name, sizeof kind) < 0) {
        return -1;
    }
    if (memcmp(kind, "hamt_array_node", sizeof kind) == 0) {
        return mem_word(*node + TASK_ARRAY_CHILDREN + place * sizeof *node,
                        node);
    }
    if (memcmp(kind, "hamt_bitmap_node", sizeof kind) != 0
        || mem_read(&bits, *node + TASK_BITMAP_BITS, sizeof bits) < 0) {
        return -1;
    }
    *node = 0;
    if (!(bits >> place & 1)) {
        return 0;
    }
    /* A pair for each bit that is set. */
    for (uint32_t below = 0; below < place; below++) {
        at += (bits >> below & 1) * sizeof pair;
    }
    if (mem_read(pair, at, sizeof pair) < 0) {
        return -1;
    }
    *value = pair[1];
    *node = pair[0] == 0 ? pair[1] : 0;
    return pair[0] == v->at;
}

/* Find the value of a thread's variable.  Returns 1, 0 if it has none, -1 if
   it cannot be read. */
static int
task_find_value(const struct thread *t, const struct task_variable *v,
                uintptr_t *value)
{
    uintptr_t context, type, trie, node;
    if (mem_word(t->at + offsetof(PyThreadState, context), &context) < 0) {
        return -1;
    }
    if (context == 0) {
        return 0;
    }
    if (mem_word(context + offsetof(PyObject, ob_type), &type) < 0
        || type != (uintptr_t)&PyContext_Type
        || mem_word(context + TASK_CONTEXT_VARS, &trie) < 0
        || mem_word(trie + TASK_TRIE_ROOT, &node) < 0) {
        return -1;
    }
    for (int level = 0; level < TASK_LEVELS; level++) {
        int found = task_step(&node, v, level, value);
        if (found != 0 || node == 0) {
            return found;
        }
    }
    return -1;
}

/* Write a value: a str, else the name of its type.  Returns -1 if it cannot be
   read. */
static int
task_write_value(struct out *o, uintptr_t value)
{
    uintptr_t type;
    if (mem_word(value + offsetof(PyObject, ob_type), &type) < 0) {
        return -1;
    }
    if (str_is_subclass(type)) {
        return str_write_start(o, value, TASK_VALUE_MAX);
    }
    out_char(o, '<');
    int result = str_write_type(o, type);
    out_char(o, '>');
    return result;
}

/* Write the line of a thread's context.  None where the variable was not set,
   or is None or "". */
static void
task_write_context(struct out *o, const struct thread *t)
{
    const struct task_variable *v = task_find_variable(t->interp);
    uintptr_t value = 0, after;
    int found = v == NULL ? 0 : task_find_value(t, v, &value);
    if (found == 0 || (found > 0 && value == (uintptr_t)Py_None)) {
        return;
    }
    out_room(o, OUT_LINE_MAX);
    size_t start = o->used;
    out_text(o, "  context: ");
    size_t text = o->used;
    /* A thread that runs may have changed its context meanwhile: the value may
       have been freed, and be another's by then. */
    if (found < 0 || task_write_value(o, value) < 0
        || task_find_value(t, v, &after) <= 0 || after != value) {
        o->used = text;
        out_text(o, "???");
    }
    if (o->used == text) {
        o->used = start;
        return;
    }
    out_char(o, '\n');
}

/* ---- The interpreter may be asked below: importing ---------------------- */

/* Note an interpreter's variable where handlers find it.  Returns -1 if there
   is no memory. */
static int
task_publish(uintptr_t interp, PyObject *variable, Py_hash_t hash)
{
    struct task_variable *v = task_find_variable(interp);
    uint32_t folded = (uint32_t)hash ^ (uint32_t)((uint64_t)hash >> 32);
    bool fresh = v == NULL;
    if (fresh && (v = PyMem_RawCalloc(1, sizeof *v)) == NULL) {
        return -1;
    }
    v->interp = interp;
    v->at = (uintptr_t)variable;
    v->hash = folded == UINT32_MAX ? UINT32_MAX - 1 : folded;
    if (fresh) {
        v->next = atomic_load(&task_variables);
        while (!atomic_compare_exchange_weak(&task_variables, &v->next, v)) {
        }
    }
    return 0;
}

/* Return the interpreter's variable, a new reference, or NULL with an
   exception.  Made once: its dict keeps it until the interpreter ends, also
   where the module is imported again. */
static PyObject *
task_variable(void)
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    PyObject *dict = PyInterpreterState_GetDict(interp);
    PyObject *variable = dict == NULL ? NULL
                         : PyDict_GetItemString(dict, TASK_NAME);
    if (variable != NULL) {
        Py_INCREF(variable);
        return variable;
    }
    variable = PyContextVar_New(TASK_NAME, Py_None);
    Py_hash_t hash = variable == NULL ? -1 : PyObject_Hash(variable);
    if (hash == -1) {
        Py_CLEAR(variable);
    }
    else if (dict == NULL
             || PyDict_SetItemString(dict, TASK_NAME, variable) < 0
             || task_publish((uintptr_t)interp, variable, hash) < 0) {
        Py_CLEAR(variable);
        PyErr_NoMemory();
    }
    return variable;
}

#endif
