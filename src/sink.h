/* sink: a file argument, turned into a place that a report can be written to.

   The GIL is held. */

#ifndef FAULTHANDLER_SINK_H
#define FAULTHANDLER_SINK_H

#include "out.h"
#include "platform.h"
#include "request.h"

/* What a module object owns: the file objects that it was given, kept alive
   while they are in use, as the standard library's module does. */
struct module_state {
    PyObject *fatal_file;
    PyObject *later_file;
    PyObject *user_files[NSIG];
};

/* Is this a file that is duplicated?  Not a pipe or socket: its reader would not
   see the end when the program closes it.  Nor a device, but for terminals and
   those like /dev/null. */
static bool
sink_is_duplicated(const struct platform_file *file)
{
    return out_is_plain(file) || out_is_terminal(file);
}

/* Make a sink of a descriptor.  One that is not open is accepted, as the
   standard library's module does, and means nowhere. */
static void
sink_from_descriptor(int fd, bool is_stderr, struct sink *sink)
{
    memset(sink, 0, offsetof(struct sink, folder));
    sink->copy = -1;
    sink->given = fd;
    if (platform_identify(fd, &sink->file) < 0) {
        sink->kind = SINK_NOWHERE;
        return;
    }
    sink->kind = is_stderr ? SINK_STDERR
                 : sink_is_duplicated(&sink->file) ? SINK_COPY : SINK_NUMBER;
    if (sink->kind == SINK_COPY) {
        sink->copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }
}

/* Close our duplicate, unless somebody closed it and has its number now. */
static void
sink_close(struct sink *sink)
{
    struct platform_file now;
    if (sink->kind == SINK_COPY && out_is_file(sink->copy, sink, &now)) {
        close(sink->copy);
    }
    sink->kind = SINK_NOWHERE;
}

/* An argument as a C int, with the newest release's words on every version.
   Returns 0, or -1 with an exception. */
static int
sink_parse_int(PyObject *argument, int *value)
{
    int overflow;
    PyObject *index = PyNumber_Index(argument);
    if (index == NULL) {
        return -1;
    }
    long number = PyLong_AsLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow != 0 || number > INT_MAX || number < INT_MIN) {
        PyErr_SetString(PyExc_OverflowError,
                        "Python int too large to convert to C int");
        return -1;
    }
    *value = (int)number;
    return 0;
}

/* The descriptor of an int argument.  Returns -1 with an exception. */
static int
sink_int_descriptor(PyObject *file)
{
    int fd;
    if (sink_parse_int(file, &fd) < 0) {
        return -1;
    }
    if (PyBool_Check(file)
        && PyErr_WarnEx(PyExc_RuntimeWarning,
                        "bool is used as a file descriptor", 1) < 0) {
        return -1;
    }
    if (fd < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "file is not a valid file descriptor");
        return -1;
    }
    return fd;
}

/* The descriptor of an object with fileno(), which is flushed first so that
   the report stands where it belongs.  Returns -1 with an exception. */
static int
sink_object_descriptor(PyObject *file)
{
    PyObject *number = PyObject_CallMethod(file, "fileno", NULL);
    if (number == NULL) {
        return -1;
    }
    long fd = PyLong_Check(number) ? PyLong_AsLong(number) : -1;
    Py_DECREF(number);
    if (fd < 0 || fd >= INT_MAX) {
        PyErr_SetString(PyExc_RuntimeError,
                        "file.fileno() is not a valid file descriptor");
        return -1;
    }
    PyObject *flushed = PyObject_CallMethod(file, "flush", NULL);
    if (flushed == NULL) {
        PyErr_Clear();          /* it may be of no use; the number is */
    }
    Py_XDECREF(flushed);
    return (int)fd;
}

/* Is this argument a path?  An object that is a file and has a path too is a
   file, as it is for the standard library's module. */
static bool
sink_is_path(PyObject *file)
{
    return PyUnicode_Check(file) || PyBytes_Check(file)
           || (PyObject_HasAttrString((PyObject *)Py_TYPE(file), "__fspath__")
               && !PyObject_HasAttrString(file, "fileno"));
}

/* Undo %% in a folder's name, which can hold no other code: it has to be there
   now.  Returns -1 with an exception. */
static int
sink_fill_folder(char *folder)
{
    char *to = folder;
    for (const char *from = folder; *from != '\0'; from++) {
        if (*from == '%' && *++from != '%') {
            PyErr_SetString(PyExc_ValueError,
                            "file: the folder's name can have no % but %%");
            return -1;
        }
        *to++ = *from;
    }
    *to = '\0';
    return 0;
}

/* How long a file's name gets at the most, -1 with an exception if it has a
   code that is not known. */
static int
sink_name_length(const char *name)
{
    int n = 0;
    for (; *name != '\0' && n < PATH_MAX; name++) {
        n++;
        if (*name == '%' && *++name != '%') {
            if (*name != 'p' && *name != 't') {
                PyErr_SetString(PyExc_ValueError,
                                "file: after % must come p, t or %");
                return -1;
            }
            n += 10;            /* digits, until the year 5138 */
        }
    }
    return n;
}

/* Take a path apart.  Returns 0, an error number, or -1 with an exception. */
static int
sink_split_path(const char *path, struct sink *sink)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t n = (size_t)(name - path);
    if (*path == '\0') {
        return ENOENT;
    }
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return EISDIR;
    }
    int longest = sink_name_length(name);
    if (longest < 0) {
        return -1;
    }
    if (longest > NAME_MAX || strlen(name) > NAME_MAX
        || n >= sizeof sink->folder) {
        return ENAMETOOLONG;
    }
    memcpy(sink->folder, path, n);
    strcpy(sink->folder + n, n == 0 ? "." : "");
    strcpy(sink->name, name);
    return sink_fill_folder(sink->folder);
}

/* Could a report be written there now?  Returns 0 or an error number. */
static int
sink_try_folder(const struct sink *sink, int folder)
{
    struct platform_file around, file;
    char name[NAME_MAX + 1];
    bool writable = faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) == 0;
    int error = writable ? 0 : errno;
    bool varies = strchr(sink->name, '%') != NULL;
    out_file_name(sink, name);
    int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? error : errno;
    }
    if (platform_identify(folder, &around) < 0
        || platform_identify(fd, &file) < 0) {
        error = errno;
    }
    else if (S_ISLNK(file.mode) || S_ISDIR(file.mode)) {
        error = S_ISLNK(file.mode) ? ELOOP : EISDIR;
    }
    else if (!out_may_append(&around, &file)) {
        error = EPERM;
    }
    else if (faccessat(folder, name, W_OK, AT_EACCESS) < 0) {
        error = errno;
    }
    else if (!varies) {
        error = 0;              /* there, so the folder need not be written */
    }
    close(fd);
    return error;
}

/* Make a folder's path absolute and free of symbolic links, as it is now, and
   see that a file can be written there.  Returns 0 or an error number. */
static int
sink_pin_folder(struct sink *sink)
{
    char resolved[PATH_MAX];
    if (realpath(sink->folder, resolved) == NULL) {
        return errno;
    }
    strcpy(sink->folder, resolved);
    int folder = out_open_folder(sink->folder);
    if (folder < 0) {
        return errno;
    }
    int error = sink_try_folder(sink, folder);
    close(folder);
    return error;
}

/* Make a sink of a path.  Nothing is opened before there is something to
   write, but what would stand in the way now is told now.  Returns -1 with an
   exception. */
static int
sink_from_path(PyObject *file, struct sink *sink)
{
    PyObject *bytes = NULL, *path = PyOS_FSPath(file);
    int error = -1;
    memset(sink, 0, offsetof(struct sink, folder));
    sink->kind = SINK_PATH;
    if (path != NULL && PyUnicode_Check(path)) {
        bytes = PyUnicode_EncodeFSDefault(path);
    }
    else if (path != NULL) {
        Py_INCREF(path);
        bytes = path;
    }
    const char *text = bytes == NULL ? NULL : PyBytes_AS_STRING(bytes);
    if (text != NULL && strlen(text) != (size_t)PyBytes_GET_SIZE(bytes)) {
        PyErr_SetString(PyExc_ValueError, "file: embedded null byte");
    }
    else if (text != NULL) {
        error = sink_split_path(text, sink);
    }
    if (error == 0) {
        Py_BEGIN_ALLOW_THREADS
        error = sink_pin_folder(sink);
        Py_END_ALLOW_THREADS
    }
    if (error > 0) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    }
    Py_XDECREF(bytes);
    Py_XDECREF(path);
    return error == 0 ? 0 : -1;
}

/* Make a sink of a file argument; NULL and None mean sys.stderr as it is
   now.  *keep gets a new reference to what is to be kept alive, or NULL.
   Returns -1 with an exception. */
static int
sink_resolve(PyObject *file, struct sink *sink, PyObject **keep)
{
    bool is_default = file == NULL || file == Py_None;
    int fd;
    *keep = NULL;
    if (is_default) {
        file = PySys_GetObject("stderr");
        if (file == NULL || file == Py_None) {
            PyErr_SetString(PyExc_RuntimeError,
                            file == NULL ? "lost sys.stderr"
                                         : "sys.stderr is None");
            return -1;
        }
    }
    if (!is_default && sink_is_path(file)) {
        return sink_from_path(file, sink);
    }
    if (PyLong_Check(file)) {
        fd = sink_int_descriptor(file);
    }
    else {
        Py_INCREF(file);        /* fileno() may replace sys.stderr */
        fd = sink_object_descriptor(file);
        *keep = file;
    }
    if (fd < 0) {
        Py_CLEAR(*keep);
        return -1;
    }
    sink_from_descriptor(fd, is_default && fd == STDERR_FILENO, sink);
    return 0;
}

/* Keep a file object in place of the one before it.  Steals the reference. */
static void
sink_keep(PyObject **slot, PyObject *file)
{
    PyObject *before = *slot;
    *slot = file;
    Py_XDECREF(before);
}

/* Standard error for a report that nobody configured: descriptor 2, unless it
   was closed at start-up.  Python then leaves sys.__stderr__ None, and what
   has the number now is somebody's file.  Never fails. */
static void
sink_standard_error(struct sink *sink)
{
    PyObject *file = PySys_GetObject("__stderr__");
    memset(sink, 0, offsetof(struct sink, folder));
    if (file != NULL && file != Py_None) {
        sink_from_descriptor(STDERR_FILENO, true, sink);
    }
}

#endif
