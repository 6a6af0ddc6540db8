/* out: the text of a report, and its way to a file.

   One buffer, whole lines, and waiting that is bounded.  Never allocates but
   by mmap(), never takes a lock. */

#ifndef FAULTHANDLER_OUT_H
#define FAULTHANDLER_OUT_H

#include "child.h"
#include "platform.h"

/* A place that a report can go to.  A path is kept as text: a descriptor of
   its folder would be closed by a program that makes a daemon of itself,
   and would still mean a folder that was removed and made again. */
struct sink {
    enum {
        SINK_NOWHERE,
        SINK_STDERR,            /* descriptor 2, redirected or not */
        SINK_COPY,              /* our duplicate of a file or terminal */
        SINK_NUMBER,            /* a pipe or socket: never duplicated for
                                   long, so that its reader sees the end */
        SINK_PATH,              /* a file that each report opens */
    } kind;
    int copy;                   /* our duplicate, SINK_COPY */
    int given;                  /* the descriptor that was given */
    bool remote;                /* its file system has a server: may hang */
    struct stat file;           /* what the descriptor meant */
    char folder[PATH_MAX];      /* SINK_PATH: absolute, no symbolic links */
    char name[NAME_MAX + 1];    /* of the file, with %p, %t and %% in it */
};

/* A line never exceeds OUT_LINE_MAX: names are cut at 500 characters of at
   most 10 bytes each. */
#define OUT_NAME_MAX 500
#define OUT_LINE_MAX (2 * OUT_NAME_MAX * 10 + 256)
#define OUT_SIZE (64 * 1024)

/* How long a report may take, and how many slices of time a place may take
   nothing, of a cancelled report fewer.  Slices are counted, not time: while
   the process is stopped its reader may be stopped too. */
#define OUT_TOTAL_NS INT64_C(6000000000)
#define OUT_SLICE_MS 50
#define OUT_STALL_SLICES 40
#define OUT_CANCEL_SLICES 6
#define OUT_REMOTE_TRIES 1000   /* 2 ms each */

/* How a descriptor is written to without blocking for good.  O_NONBLOCK is
   no choice: it belongs to the open file, which others share. */
enum out_way {
    OUT_PLAIN,                  /* never waits long: files, /dev/null, and */
                                /* what we opened anew: terminals, pipes */
    OUT_SOCKET,                 /* send(MSG_DONTWAIT) */
    OUT_SMALL,                  /* after poll(), no more than is free then */
};

/* One place of a report, and how far the report got there. */
struct out_place {
    const struct sink *sink;    /* NULL: there is none */
    int fd;                     /* valid once opened */
    bool opened;                /* opened and way are set */
    bool mine;                  /* fd is to be closed with the report */
    bool busy;                  /* still set: the timer broke a write */
    bool begun;                 /* something was written */
    bool failed;                /* given up */
    enum out_way way;
    struct stat file;           /* what fd means */
    size_t sent;                /* how much of the buffer */
};

#define OUT_PLACES 2

/* The text of one report, on its way.  Only the thread that writes the report
   uses it. */
struct out {
    char *text;
    size_t size, used;
    size_t flushes;             /* changes when text was sent or taken back */
    const char *own;            /* the first text, where it may grow */
    struct out_place places[OUT_PLACES];
    const atomic_bool *cancelled;
    int64_t deadline;           /* of the whole report */
};

static void
out_char(struct out *o, char c)
{
    if (o->used < o->size) {
        o->text[o->used++] = c;
    }
}

static void
out_bytes(struct out *o, const char *text, size_t n)
{
    size_t room = o->size - o->used;
    n = n < room ? n : room;
    memcpy(o->text + o->used, text, n);
    o->used += n;
}

static void
out_text(struct out *o, const char *text)
{
    out_bytes(o, text, strlen(text));
}

static void
out_decimal(struct out *o, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
    } while (value /= 10);
    out_bytes(o, digits + at, sizeof digits - at);
}

/* Is this descriptor still the file that the sink means? */
static bool
out_is_file(int fd, const struct sink *sink, struct stat *now)
{
    return fstat(fd, now) == 0 && platform_is_same(now, &sink->file);
}

/* Is descriptor 2 standard error?  It may have been redirected since: that is
   followed.  Or closed, and the next file that was opened got the number, and
   perhaps the inode of one that was deleted: Python opens files close-on-exec,
   which standard error never is. */
static bool
out_is_standard_error(const struct sink *sink, struct stat *now)
{
    if (out_is_file(STDERR_FILENO, sink, now) && !S_ISREG(now->st_mode)) {
        return true;
    }
    int flags = fcntl(STDERR_FILENO, F_GETFD);
    return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* The name of a sink's file: %p is the process that writes, in a forked
   child the child, %t the time, %% a percent sign.  The longest one fits:
   sink_split_path() saw to it. */
static void
out_file_name(const struct sink *sink, char name[NAME_MAX + 1])
{
    struct timespec now;
    struct out o = {.text = name, .size = NAME_MAX};
    for (const char *c = sink->name; *c != '\0'; c++) {
        if (*c == '%' && *++c != '%') {
            clock_gettime(CLOCK_REALTIME, &now);
            out_decimal(&o, *c == 'p' ? (uint64_t)getpid()
                                      : (uint64_t)now.tv_sec);
        }
        else {
            out_char(&o, *c);
        }
    }
    name[o.used] = '\0';
}

/* Open an absolute path's folder, part by part, none of which may be a
   symbolic link.  Returns a descriptor to open files in, or -1 with errno. */
static int
out_open_folder(const char *path)
{
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    char part[NAME_MAX + 1];
    int folder = open("/", flags);
    while (folder >= 0 && *path == '/' && path[1] != '\0') {
        size_t n = 0;
        for (path++; *path != '/' && *path != '\0' && n < NAME_MAX; path++) {
            part[n++] = *path;
        }
        part[n] = '\0';
        int above = folder;
        folder = openat(above, part, flags);
        int error = errno;
        close(above);
        errno = error;
    }
    return folder;
}

/* May a report be appended to a file that was there?  In a folder of others,
   or one that they may write to, they plant files: a second name of a file
   that they want damaged, or a file of theirs that they can read. */
static bool
out_may_append(const struct stat *folder, const struct stat *file)
{
    bool shared = (folder->st_mode & (S_IWGRP | S_IWOTH)) != 0
                  || (folder->st_uid != geteuid() && folder->st_uid != 0);
    return (S_ISREG(file->st_mode) || S_ISFIFO(file->st_mode)
            || S_ISCHR(file->st_mode))
           && (!shared || (file->st_uid == geteuid() && file->st_nlink == 1));
}

/* Open a sink's file in its folder, made for this user alone if it is not
   there.  Never waits for a reader.  Returns -1 if it cannot be. */
static int
out_open_file(const struct sink *sink, int folder)
{
    const int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK
                      | O_NOCTTY | O_CLOEXEC;
    struct stat around, file;
    char name[NAME_MAX + 1];
    out_file_name(sink, name);
    int fd = openat(folder, name, flags | O_CREAT | O_EXCL, 0600);
    if (fd >= 0 || errno != EEXIST) {
        return fd;
    }
    fd = openat(folder, name, flags);
    if (fd >= 0 && (fstat(folder, &around) < 0 || fstat(fd, &file) < 0
                    || !out_may_append(&around, &file))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Open a sink's folder and file.  Descriptors of the folder hold the three
   lowest numbers meanwhile: the file must not become a standard descriptor
   that is closed, to which others write.  Returns -1 with errno. */
static int
out_open_both(const void *argument)
{
    const struct sink *sink = argument;
    int held[STDERR_FILENO + 1];
    int folder = out_open_folder(sink->folder);
    if (folder < 0) {
        return -1;
    }
    for (int i = 0; i <= STDERR_FILENO; i++) {
        held[i] = fcntl(folder, F_DUPFD_CLOEXEC, STDIN_FILENO);
    }
    int fd = out_open_file(sink, folder);
    int error = errno;
    for (int i = 0; i <= STDERR_FILENO; i++) {
        close(held[i]);
    }
    close(folder);
    errno = error;
    return fd;
}

/* Is it a terminal?  Told by its number: isatty() would ask the driver.  Not
   5:2, which makes a new terminal whenever it is opened. */
static bool
out_is_terminal(const struct stat *file)
{
    unsigned driver = major(file->st_rdev);
    return S_ISCHR(file->st_mode)
           && (driver == 4 || (driver == 5 && minor(file->st_rdev) != 2)
               || (driver >= 136 && driver <= 143));
}

/* Is it a file that a write never waits for long? */
static bool
out_is_plain(const struct stat *file)
{
    return S_ISREG(file->st_mode) || S_ISBLK(file->st_mode)
           || (S_ISCHR(file->st_mode)
               && major(file->st_rdev) == 1);           /* /dev/null */
}

/* Use a descriptor that is to be closed with the report.  Returns false if
   there is none. */
static bool
out_own(struct out_place *p, int fd)
{
    if (fd < 0) {
        return false;
    }
    if (p->mine) {
        close(p->fd);
    }
    p->fd = fd;
    p->mine = true;
    return true;
}

/* Choose the way.  A terminal or pipe is opened anew, so that O_NONBLOCK is
   ours alone; that fails where /proc is not there, and for a pipe of another
   user.  That one and a socket are duplicated: another thread may close the
   number meanwhile, and open its own file. */
static void
out_choose_way(struct out_place *p)
{
    char path[PLATFORM_PROC_PATH];
    p->way = out_is_plain(&p->file) ? OUT_PLAIN : OUT_SMALL;
    platform_proc_path(path, "/proc/thread-self/fd/", (unsigned)p->fd, "");
    if (S_ISSOCK(p->file.st_mode)) {
        p->way = OUT_SOCKET;
        out_own(p, fcntl(p->fd, F_DUPFD_CLOEXEC, 3));
    }
    else if ((S_ISFIFO(p->file.st_mode) || out_is_terminal(&p->file))
             && out_own(p, open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY
                                      | O_CLOEXEC))) {
        p->way = OUT_PLAIN;
    }
    else if (S_ISFIFO(p->file.st_mode)) {
        out_own(p, fcntl(p->fd, F_DUPFD_CLOEXEC, 3));
    }
}

/* Find the descriptor of a place.  Returns -1 when there is none (any more):
   nowhere is better than somebody else's file. */
static int
out_descriptor(struct out_place *p)
{
    const struct sink *sink = p->sink;
    switch (sink->kind) {
    case SINK_STDERR:
        return out_is_standard_error(sink, &p->file) ? STDERR_FILENO : -1;
    case SINK_COPY:
        return out_is_file(sink->copy, sink, &p->file) ? sink->copy
               : out_is_file(sink->given, sink, &p->file) ? sink->given : -1;
    case SINK_NUMBER:
        return out_is_file(sink->given, sink, &p->file) ? sink->given : -1;
    case SINK_PATH:
        /* Programs die of having no descriptor left. */
        return out_own(p, platform_open_lifted(out_open_both, sink))
               && fstat(p->fd, &p->file) == 0 ? p->fd : -1;
    default:
        return -1;
    }
}

/* Does the place's descriptor still mean its file?  A program may close all
   that it has. */
static bool
out_is_open(const struct out_place *p)
{
    struct stat now;
    return fstat(p->fd, &now) == 0 && platform_is_same(&now, &p->file);
}

/* Open a place, or see that it still is. */
static bool
out_open(struct out_place *p)
{
    if (p->opened) {
        return out_is_open(p);
    }
    p->opened = true;
    p->fd = out_descriptor(p);
    if (p->fd < 0) {
        return false;
    }
    out_choose_way(p);
    /* The number may have changed before it was duplicated. */
    return !p->mine || out_is_open(p);
}

/* The report is written: close what was opened for it. */
static void
out_close(struct out *o)
{
    for (size_t i = 0; i < OUT_PLACES; i++) {
        struct out_place *p = &o->places[i];
        if (p->opened && p->mine && out_is_open(p)) {
            close(p->fd);
        }
        p->opened = p->mine = false;
    }
}

/* Write some of n bytes.  Returns what was taken, or -1 with errno.  A pipe
   that poll() called writable may have been filled by others since: from Linux
   6.4 on the kernel takes what needs no waiting. */
static ssize_t
out_write_some(struct out_place *p, const char *text, size_t n)
{
    bool is_pipe = S_ISFIFO(p->file.st_mode);
    size_t small = is_pipe ? PIPE_BUF : 512;
    if (p->way == OUT_SOCKET) {
        return send(p->fd, text, n, MSG_DONTWAIT);
    }
    if (p->way == OUT_SMALL && is_pipe) {
        ssize_t put = platform_write_nowait(p->fd, text, n);
        if (put >= 0 || errno == EAGAIN || errno == EINTR
            || errno == EPIPE) {
            return put;
        }
    }
    return write(p->fd, text, p->way == OUT_SMALL && n > small ? small : n);
}

/* Was the report cancelled before anything of it was written here?  What has
   begun is written to its end, as long as somebody reads it. */
static bool
out_is_unwanted(const struct out *o, const struct out_place *p)
{
    return o->cancelled != NULL && *o->cancelled && !p->begun;
}

/* Wait until a place takes bytes.  Returns false when it does not for too
   long, when the time is over, when the report was cancelled, or when the
   descriptor means something else by now. */
static bool
out_wait(struct out *o, struct out_place *p)
{
    for (int slices = 0; slices < OUT_STALL_SLICES; slices++) {
        struct pollfd poller = {.fd = p->fd, .events = POLLOUT};
        bool over = platform_now() >= o->deadline
                    || (o->cancelled != NULL && *o->cancelled
                        && slices >= OUT_CANCEL_SLICES);
        /* A place that is ready is taken also when the time is over. */
        int ready = poll(&poller, 1, over ? 0 : OUT_SLICE_MS);
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            /* An error is write()'s to report. */
            return !out_is_unwanted(o, p) && out_is_open(p);
        }
        if (over) {
            return false;
        }
    }
    return false;
}

/* Write all of the buffer to one place, or give the place up. */
static void
out_write_all(struct out *o, struct out_place *p)
{
    while (p->sent < o->used && !p->failed) {
        if (p->way == OUT_SMALL && !out_wait(o, p)) {
            p->failed = true;
            return;
        }
        ssize_t put = out_write_some(p, o->text + p->sent,
                                     o->used - p->sent);
        if (put > 0) {
            p->sent += (size_t)put;
            p->begun = true;
        }
        else if (put < 0 && errno == EAGAIN) {
            p->failed = !out_wait(o, p);
        }
        else if (put == 0 || errno != EINTR || platform_now() > o->deadline) {
            p->failed = true;
        }
    }
}

/* Take back the signals that our writes caused, which come with an error: of a
   closed pipe, a full quota of bytes, a terminal in the background.  They are
   blocked during a report, and would change how the process dies. */
static void
out_take_back(const sigset_t *before)
{
    static const int ours[] = {SIGPIPE, SIGXFSZ, SIGTTOU};
    const struct timespec now = {0, 0};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (sigismember(before, ours[i]) == 0) {
            sigset_t one;
            sigemptyset(&one);
            sigaddset(&one, ours[i]);
            sigtimedwait(&one, NULL, &now);
        }
    }
}

/* Is this place the file that the other one writes to?  Standard error may be
   redirected to the file of the copy: one report is enough there. */
static bool
out_is_twice(const struct out *o, const struct out_place *p)
{
    const struct out_place *other = &o->places[p == &o->places[0]];
    return other->sink != NULL && other->opened && !other->failed
           && platform_is_same(&other->file, &p->file);
}

/* Open a place and write to it, or give it up. */
static void
out_send_here(struct out *o, struct out_place *p)
{
    sigset_t before;
    p->failed = !out_open(p) || out_is_twice(o, p);
    if (!p->failed) {
        sigpending(&before);
        out_write_all(o, p);
        if (p->failed) {
            out_take_back(&before);
        }
    }
}

/* Send to a place whose server may be dead, from a copy of this process:
   nothing can break what the kernel waits for there.  A copy that does not end
   is left behind. */
static void
out_send_remote(struct out *o, struct out_place *p)
{
    const struct sink *sink = p->sink;
    pid_t child = child_copy();
    if (child < 0) {
        out_send_here(o, p);
        return;
    }
    if (child == 0) {
        child_close_all_but(sink->kind == SINK_COPY ? sink->copy
                               : sink->kind == SINK_STDERR ? STDERR_FILENO
                               : -1);
        out_send_here(o, p);
        _exit(CHILD_STATUS);
    }
    for (int i = 0; !child_has_ended(child); i++) {
        if (i >= OUT_REMOTE_TRIES) {
            p->failed = true;
            return;
        }
        platform_sleep(2000000);
    }
    p->sent = o->used;
    p->begun = true;
}

/* Send one place what it does not have yet.  It is given up where the timer
   had to break a write to it. */
static void
out_send(struct out *o, struct out_place *p)
{
    p->failed |= p->busy || out_is_unwanted(o, p);
    if (p->failed || p->sent == o->used) {
        return;
    }
    p->busy = true;
    if (p->sink->remote) {
        out_send_remote(o, p);
    }
    else {
        out_send_here(o, p);
    }
    p->busy = false;
}

/* Send the buffer on its way, to a place that may hang last. */
static void
out_send_all(struct out *o, bool remote_too)
{
    for (int remote = 0; remote <= remote_too; remote++) {
        for (size_t i = 0; i < OUT_PLACES; i++) {
            struct out_place *p = &o->places[i];
            if (p->sink != NULL && p->sink->remote == remote) {
                out_send(o, p);
            }
        }
    }
    o->flushes++;
}

/* Send the buffer to every place, and begin it anew. */
static void
out_flush(struct out *o)
{
    out_send_all(o, true);
    o->used = 0;
    for (size_t i = 0; i < OUT_PLACES; i++) {
        o->places[i].sent = 0;
    }
}

/* Does nobody take the report any more? */
static bool
out_has_failed(const struct out *o)
{
    bool failed = true;
    for (size_t i = 0; i < OUT_PLACES; i++) {
        failed &= o->places[i].sink == NULL || o->places[i].failed;
    }
    return failed;
}

/* Double a buffer: a mapping takes the first one's place, then grows.
   Returns -1 if there is no more memory. */
static int
out_grow(struct out *o)
{
    size_t size = 2 * o->size;
    char *text = o->text == o->own
        ? mmap(NULL, size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        : mremap(o->text, o->size, size, MREMAP_MAYMOVE);
    if (text == MAP_FAILED) {
        return -1;
    }
    if (o->text == o->own) {
        memcpy(text, o->text, o->used);
    }
    o->text = text;
    o->size = size;
    return 0;
}

/* Make room for one line: more memory where there may be more, else a flush
   of the whole lines before it.  At the start of lines only. */
static void
out_room(struct out *o, size_t n)
{
    if (o->size - o->used >= n) {
        return;
    }
    if (o->own != NULL && out_grow(o) == 0) {
        return;
    }
    out_flush(o);
}

/* Write how many frames of a stack, or lines of a mixed one, are left out. */
static void
out_hidden(struct out *o, size_t count)
{
    out_room(o, OUT_LINE_MAX);
    out_text(o, "  ... ");
    out_decimal(o, count);
    out_text(o, " frames not shown ...\n");
}

/* Two digits, and what comes before them. */
static void
out_two(struct out *o, const char *before, uint64_t value)
{
    out_text(o, before);
    out_text(o, value < 10 ? "0" : "");
    out_decimal(o, value);
}

/* Seconds since 1970 as 2026-11-22T07:10:11Z.  Our own calendar: gmtime()
   takes a lock.  The years begin in March, so that a leap day ends one. */
static void
out_utc(struct out *o, uint64_t seconds)
{
    uint64_t days = seconds / 86400 + 719468;   /* since March of the year 0 */
    uint64_t century = (4 * days + 3) / 146097;
    days -= 146097 * century / 4;
    uint64_t year = (4 * days + 3) / 1461;
    days -= 1461 * year / 4;
    uint64_t month = (5 * days + 2) / 153;      /* 0: March */
    days -= (153 * month + 2) / 5;
    out_decimal(o, 100 * century + year + (month >= 10));
    out_two(o, "-", (month + 2) % 12 + 1);
    out_two(o, "-", days + 1);
    out_two(o, "T", seconds / 3600 % 24);
    out_two(o, ":", seconds / 60 % 60);
    out_two(o, ":", seconds % 60);
    out_char(o, 'Z');
}

/* Lower case hex, with at least width digits. */
static void
out_hex(struct out *o, uint64_t value, int width)
{
    int digits = 1;
    while (digits < 16 && value >> (4 * digits)) {
        digits++;
    }
    for (int i = digits > width ? digits : width; i-- > 0;) {
        out_char(o, "0123456789abcdef"[value >> (4 * i) & 15]);
    }
}

/* An address: 0x and all its digits. */
static void
out_address(struct out *o, uintptr_t address)
{
    out_text(o, "0x");
    out_hex(o, address, 2 * (int)sizeof address);
}

/* A character as ASCII: itself, \xhh, \uhhhh or \Uhhhhhhhh. */
static void
out_escaped(struct out *o, uint32_t c)
{
    if (c >= ' ' && c <= '~') {
        out_char(o, (char)c);
    }
    else if (c <= 0xff) {
        out_text(o, "\\x");
        out_hex(o, c, 2);
    }
    else if (c <= 0xffff) {
        out_text(o, "\\u");
        out_hex(o, c, 4);
    }
    else {
        out_text(o, "\\U");
        out_hex(o, c, 8);
    }
}

/* Forget what was written since the last end of line. */
static void
out_drop_line(struct out *o)
{
    while (o->used > 0 && o->text[o->used - 1] != '\n') {
        o->used--;
    }
}

#endif
