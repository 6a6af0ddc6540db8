/* sink: a file argument, turned into a place that a report can be written to.

   Nothing here runs in a handler.  The GIL is held, or on a free-threaded
   build the thread attached: every object that is used is owned.
   `argument` is the name of the argument, for messages: "file" or "copy". */

#ifndef FAULTHANDLER_SINK_H
#define FAULTHANDLER_SINK_H

#include "out.h"
#include "platform.h"
#include "request.h"

/* What a module object owns: the file objects that it was given, kept alive
   while they are in use, as the standard library's module does.  Each pointer
   is only ever exchanged, by sink_keep(). */
struct module_state {
    PyObject *fatal_file;
    PyObject *fatal_copy;
    PyObject *later_file;
    PyObject *user_files[NSIG];
};

/* Make a sink of a descriptor.  One that is not open is accepted, as the
   standard library's module does, and means nowhere.  Plain files, terminals
   and devices like /dev/null are duplicated.  Pipes and sockets are not: their
   reader would not see the end when the program closes them. */
static void
sink_from_descriptor(int fd, bool is_stderr, struct sink *sink)
{
    memset(sink, 0, offsetof(struct sink, folder));
    sink->copy = -1;
    sink->given = fd;
    if (fstat(fd, &sink->file) < 0) {
        sink->kind = SINK_NOWHERE;
        return;
    }
    sink->kind = is_stderr ? SINK_STDERR : SINK_NUMBER;
    if (!is_stderr && (out_is_plain(&sink->file)
                       || out_is_terminal(&sink->file))) {
        sink->kind = SINK_COPY;
        sink->copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }
}

/* Close our duplicate, unless somebody closed it and has its number now. */
static void
sink_close(struct sink *sink)
{
    struct stat now;
    if (sink->kind == SINK_COPY && out_is_file(sink->copy, sink, &now)) {
        close(sink->copy);
    }
    sink->kind = SINK_NOWHERE;
}

/* Close both places of a request. */
static void
sink_close_all(struct request *request)
{
    sink_close(&request->sink);
    sink_close(&request->copy);
}

/* Note which of two places are on a file system with a server, which may be
   dead when there is something to write: they come last.  No GIL. */
static void
sink_note_servers(struct request *request)
{
    struct sink *both[] = {&request->sink, &request->copy};
    for (size_t i = 0; i < 2; i++) {
        struct sink *sink = both[i];
        int fd = sink->kind == SINK_PATH ? out_open_folder(sink->folder)
                 : sink->kind == SINK_COPY ? sink->copy : STDERR_FILENO;
        sink->remote = platform_is_remote(fd);
        if (sink->kind == SINK_PATH && fd >= 0) {
            close(fd);
        }
    }
}

/* Turn an argument into a C int, with the newest release's messages on every
   version.  Returns 0, or -1 with an exception. */
static int
sink_parse_int(PyObject *number, int *value)
{
    Py_ssize_t wide = PyNumber_AsSsize_t(number, NULL);
    if (wide == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (wide > INT_MAX || wide < INT_MIN) {
        PyErr_SetString(PyExc_OverflowError,
                        "Python int too large to convert to C int");
        return -1;
    }
    *value = (int)wide;
    return 0;
}

/* Return the descriptor that an int is, or -1 with an exception. */
static int
sink_int_descriptor(PyObject *file, const char *argument)
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
        PyErr_Format(PyExc_ValueError, "%s is not a valid file descriptor",
                     argument);
        return -1;
    }
    return fd;
}

/* Return the descriptor of an object with fileno(), or -1 with an exception.
   The object is flushed first, so that the report stands where it belongs. */
static int
sink_object_descriptor(PyObject *file, const char *argument)
{
    PyObject *number = PyObject_CallMethod(file, "fileno", NULL);
    if (number == NULL) {
        return -1;
    }
    long fd = PyLong_Check(number) ? PyLong_AsLong(number) : -1;
    Py_DECREF(number);
    if (fd < 0 || fd >= INT_MAX) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s.fileno() is not a valid file descriptor", argument);
        return -1;
    }
    PyObject *flushed = PyObject_CallMethod(file, "flush", NULL);
    if (flushed == NULL) {
        PyErr_Clear();          /* the number is good nevertheless */
    }
    Py_XDECREF(flushed);
    return (int)fd;
}

/* Is this argument a path?  An object that has both fileno() and a path is a
   file, as it is for the standard library's module. */
static bool
sink_is_path(PyObject *file)
{
    return PyUnicode_Check(file) || PyBytes_Check(file)
           || (PyObject_HasAttrString((PyObject *)Py_TYPE(file), "__fspath__")
               && !PyObject_HasAttrString(file, "fileno"));
}

/* Split a path into the sink's folder, which is taken as it is, and the file's
   name, which may have codes.  Returns 0, an error number, or -1 with an
   exception. */
static int
sink_split_path(const char *path, const char *argument, struct sink *sink)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t n = (size_t)(name - path), longest = strlen(name);
    if (*path == '\0') {
        return ENOENT;
    }
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return EISDIR;
    }
    for (const char *c = strchr(name, '%'); c != NULL;
         c = strchr(c + 2, '%')) {
        if (c[1] != 'p' && c[1] != 't' && c[1] != '%') {
            PyErr_Format(PyExc_ValueError,
                         "%s: after %% must come p, t or %%", argument);
            return -1;
        }
        longest += 8;           /* two characters become ten, until 2286 */
    }
    if (longest > NAME_MAX || n >= sizeof sink->folder) {
        return ENAMETOOLONG;
    }
    memcpy(sink->folder, path, n);
    strcpy(sink->folder + n, n == 0 ? "." : "");
    strcpy(sink->name, name);
    return 0;
}

/* Try whether a report could be written into the folder now.  Returns 0 or an
   error number. */
static int
sink_try_folder(const struct sink *sink, int folder)
{
    struct stat around, file;
    char name[NAME_MAX + 1];
    out_file_name(sink, name);
    int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        bool is_new = errno == ENOENT
                      && faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) == 0;
        return is_new ? 0 : errno;
    }
    int error = fstat(folder, &around) < 0 || fstat(fd, &file) < 0 ? errno
                : S_ISLNK(file.st_mode) ? ELOOP
                : S_ISDIR(file.st_mode) ? EISDIR
                : !out_may_append(&around, &file) ? EPERM
                : faccessat(folder, name, W_OK, AT_EACCESS) < 0 ? errno : 0;
    close(fd);
    return error;
}

/* Make a folder's path absolute and free of symbolic links, as it is now, and
   try whether a file can be written there.  Returns 0 or an error number. */
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

/* Make a sink of a path.  The file is opened only when there is something to
   write; what would prevent that now is an exception now.  Returns 0 or -1. */
static int
sink_from_path(PyObject *file, const char *argument, struct sink *sink)
{
    PyObject *bytes, *path = PyOS_FSPath(file);
    int error = -1;
    memset(sink, 0, offsetof(struct sink, folder));
    sink->kind = SINK_PATH;
    if (path != NULL && PyUnicode_FSConverter(path, &bytes)) {
        error = sink_split_path(PyBytes_AS_STRING(bytes), argument, sink);
        Py_DECREF(bytes);
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
    Py_XDECREF(path);
    return error == 0 ? 0 : -1;
}

/* Return an attribute of sys, a new reference, or NULL without an exception.
   Not PySys_GetObject(): nobody owns what it returns. */
static PyObject *
sink_get_sys(const char *name)
{
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *value = sys == NULL ? NULL : PyObject_GetAttrString(sys, name);
    Py_XDECREF(sys);
    PyErr_Clear();
    return value;
}

/* Return sys.stderr, a new reference, or NULL with an exception. */
static PyObject *
sink_get_stderr(void)
{
    PyObject *file = sink_get_sys("stderr");
    if (file == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "lost sys.stderr");
    }
    else if (file == Py_None) {
        PyErr_SetString(PyExc_RuntimeError, "sys.stderr is None");
        Py_CLEAR(file);
    }
    return file;
}

/* Make a sink of an argument; NULL and None mean sys.stderr as it is now.
   *keep gets a new reference to what is to be kept alive, or NULL.
   Returns 0, or -1 with an exception. */
static int
sink_resolve(PyObject *file, const char *argument, struct sink *sink,
             PyObject **keep)
{
    bool is_default = file == NULL || file == Py_None;
    *keep = NULL;
    if (!is_default && sink_is_path(file)) {
        return sink_from_path(file, argument, sink);
    }
    if (is_default && (file = sink_get_stderr()) == NULL) {
        return -1;
    }
    if (!is_default) {
        Py_INCREF(file);
    }
    int fd = PyLong_Check(file) ? sink_int_descriptor(file, argument)
                                : sink_object_descriptor(file, argument);
    if (fd < 0) {
        Py_DECREF(file);
        return -1;
    }
    sink_from_descriptor(fd, is_default && fd == STDERR_FILENO, sink);
    *keep = file;
    return 0;
}

/* Keep a file object in place of the one before it.  Takes the reference
   over. */
static void
sink_keep(PyObject **slot, PyObject *file)
{
    PyObject *before = __atomic_exchange_n(slot, file, __ATOMIC_ACQ_REL);
    Py_XDECREF(before);
}

/* Make a sink of standard error for the report that importing arms: descriptor
   2, unless it was closed at start-up.  Then sys.__stderr__ is None, and what
   has the number now is another file.  Never fails. */
static void
sink_standard_error(struct sink *sink)
{
    PyObject *file = sink_get_sys("__stderr__");
    memset(sink, 0, offsetof(struct sink, folder));
    if (file != NULL && file != Py_None) {
        sink_from_descriptor(STDERR_FILENO, true, sink);
    }
    Py_XDECREF(file);
}

#endif
