/* modules: the extension modules that were imported.

   modules_note() runs when a report that needs them is armed, with the GIL.
   All else may run inside a signal handler. */

#ifndef FAULTHANDLER_MODULES_H
#define FAULTHANDLER_MODULES_H

#include "cpython.h"
#include "mem.h"
#include "out.h"
#include "platform.h"
#include "request.h"
#include "str.h"

/* The main interpreter's sys.modules, and the names of the standard library's
   modules, which are all short.  Written by modules_note() under state_lock,
   read by handlers. */
#define MODULES_NAME_SIZE 32
#define MODULES_NAMES_MAX 512
static uintptr_t modules_dict;
static char modules_library[MODULES_NAMES_MAX][MODULES_NAME_SIZE];
static size_t modules_library_count;

/* Return whether this str is the name of a module of the standard library, or
   from 3.15 on of one inside its packages. */
static bool
modules_is_library(uintptr_t key)
{
    char name[MODULES_NAME_SIZE] = "";
    struct str s;
    if (str_read(key, &s) < 0 || s.width != 1) {
        return false;
    }
    size_t n = s.length < MODULES_NAME_SIZE - 1 ? (size_t)s.length
                                                : MODULES_NAME_SIZE - 1;
    if (mem_read(name, s.data, n) < 0) {
        return false;
    }
    if (CPYTHON_HIDES_LIBRARY_SUBMODULES) {
        name[strcspn(name, ".")] = '\0';
    }
    for (size_t i = 0; i < modules_library_count; i++) {
        if (strcmp(modules_library[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Return whether an object is a module, or of a subclass. */
static bool
modules_is_module(const PyObject *object)
{
    uintptr_t type = (uintptr_t)Py_TYPE(object);
    for (int depth = 0; depth < 8 && type != 0; depth++) {
        if (type == (uintptr_t)&PyModule_Type) {
            return true;
        }
        if (mem_word(type + offsetof(PyTypeObject, tp_base), &type) < 0) {
            return false;
        }
    }
    return false;
}

/* Return whether a module was made in C: its definition has methods. */
static bool
modules_is_extension(uintptr_t at)
{
    PyObject head;
    uintptr_t definition, methods;
    char has_definition = 1;
    if (at % sizeof at != 0 || mem_read(&head, at, sizeof head) < 0
        || !modules_is_module(&head)
        || mem_word(at + CPYTHON_MODULE_DEF, &definition) < 0
        || (CPYTHON_MODULE_DEF_FLAG != CPYTHON_UNKNOWN
            && mem_read(&has_definition, at + CPYTHON_MODULE_DEF_FLAG,
                        1) < 0)) {
        return false;
    }
    return has_definition != 0 && definition != 0
           && mem_word(definition + offsetof(PyModuleDef, m_methods),
                       &methods) == 0
           && methods != 0;
}

/* Write the names of the extension modules that are not Python's own. */
static void
modules_write(struct out *o)
{
    PyDictObject dict;
    struct cpython_keys keys;
    uintptr_t entries;
    size_t size, key_at, count = 0;
    /* At the end of Python it is gone. */
    const char *unreadable = CPYTHON_IS_FINALIZING() || !Py_IsInitialized()
                             ? "" : "\nExtension modules: ???\n";
    if (modules_dict == 0) {
        return;
    }
    if (mem_read(&dict, modules_dict, sizeof dict) < 0
        || (Py_TYPE((PyObject *)&dict) == &PyDict_Type
            && mem_read(&keys, (uintptr_t)dict.ma_keys, sizeof keys) < 0)) {
        out_text(o, unreadable);
        return;
    }
    if (Py_TYPE((PyObject *)&dict) != &PyDict_Type
        || cpython_dict_entries((uintptr_t)dict.ma_keys, &keys, &entries,
                               &size, &key_at) < 0) {
        return;                 /* Python has ended */
    }
    for (size_t i = 0; i < (size_t)keys.dk_nentries; i++) {
        uintptr_t pair[2];      /* key and value */
        if (mem_read(pair, entries + i * size + key_at, sizeof pair) < 0) {
            out_text(o, count == 0 ? unreadable : ", ???\n");
            return;
        }
        if (pair[0] == 0 || !modules_is_extension(pair[1])
            || modules_is_library(pair[0])) {
            continue;
        }
        out_room(o, OUT_LINE_MAX);      /* in one long line: the exception */
        out_text(o, count++ == 0 ? "\nExtension modules: " : ", ");
        if (str_write(o, pair[0]) < 0) {
            out_text(o, "???");
        }
    }
    if (count > 0) {
        out_text(o, " (total: ");
        out_decimal(o, count);
        out_text(o, ")\n");
    }
}

/* Note where sys.modules is, and the names of the standard library's
   modules. */
static void
modules_note(void)
{
    PyObject *names = PySys_GetObject("stdlib_module_names");
    PyObject *iterator = names == NULL ? NULL : PyObject_GetIter(names);
    PyObject *name;
    size_t count = 0;
    char (*texts)[MODULES_NAME_SIZE] = PyMem_RawMalloc(sizeof modules_library);
    while (texts != NULL && iterator != NULL && count < MODULES_NAMES_MAX
           && (name = PyIter_Next(iterator)) != NULL) {
        const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name)
                                                 : NULL;
        if (text != NULL && strlen(text) < MODULES_NAME_SIZE) {
            strcpy(texts[count++], text);
        }
        Py_DECREF(name);
    }
    Py_XDECREF(iterator);
    PyErr_Clear();
    pthread_mutex_lock(&state_lock);
    if (texts != NULL) {
        memcpy(modules_library, texts, count * sizeof *texts);
        modules_library_count = count;
    }
    if (PyThreadState_Get()->interp == PyInterpreterState_Main()) {
        modules_dict = (uintptr_t)PyImport_GetModuleDict();
    }
    pthread_mutex_unlock(&state_lock);
    PyMem_RawFree(texts);
}

#endif
