/* out: the text of a report, and its way to a file.

   One buffer, whole lines, and waiting that is bounded.  Never allocates but
   by mmap(), never takes a lock. */

#ifndef FAULTHANDLER_OUT_H
#define FAULTHANDLER_OUT_H

#include "platform.h"
#include "mem.h"

/* A place that a report goes to.  The descriptor is our own duplicate; the
   file's identity tells whether its number still means that file.  A path is
   kept as text: a descriptor of its folder would be closed by a program that
   makes a daemon of itself, and would still mean a folder that was removed
   and made again. */
struct sink {
    enum { SINK_NOWHERE, SINK_STDERR, SINK_COPY, SINK_PATH } kind;
    int copy;                   /* our duplicate, SINK_COPY */
    int given;                  /* the number it was duplicated from */
    struct platform_file file;
    char folder[PATH_MAX];      /* SINK_PATH: absolute, no symbolic links */
    char name[NAME_MAX + 1];    /* of the file, with %p, %t and %% in it */
};

/* One buffer per report, flushed at the ends of lines and, where the report
   fits, once.  A line never exceeds OUT_LINE_MAX: names are cut at 500
   characters of at most 10 bytes each. */
#define OUT_NAME_MAX 500
#define OUT_LINE_MAX (2 * OUT_NAME_MAX * 10 + 256)
#define OUT_SIZE (64 * 1024)

/* How long a sink may take nothing, and how long a report may take. */
#define OUT_STALL_NS INT64_C(2000000000)
#define OUT_TOTAL_NS INT64_C(6000000000)
#define OUT_CANCEL_NS INT64_C(300000000)
#define OUT_SLICE_NS INT64_C(50000000)

/* How a descriptor is written to without blocking for good.  O_NONBLOCK is
   no choice: it belongs to the open file, which others share. */
enum out_way {
    OUT_PLAIN,                  /* files and /dev/null: never wait long */
    OUT_NOWAIT,                 /* pwritev2(RWF_NOWAIT): pipes, Linux 6.4 */
    OUT_SOCKET,                 /* send(MSG_DONTWAIT) */
    OUT_REOPENED,               /* terminals, older pipes: our own open file */
    OUT_SMALL,                  /* after poll(), no more than a pipe takes */
};

struct out {
    char *text;
    size_t size, used;
    size_t sent;                /* the timer may break a flush */
    size_t flushes;             /* changes when offsets into text die */
    const char *own;            /* the first text, where it may grow */
    bool failed;                /* the sink was given up */
    bool opened;                /* its path was, for this report: */
    int fd;                     /* -1 if it cannot be */
    struct platform_file file;
    const struct sink *sink;
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
out_is_file(int fd, const struct sink *sink, struct platform_file *now)
{
    return platform_identify(fd, now) == 0
           && platform_is_same(now, &sink->file);
}

/* Is descriptor 2 standard error?  It may have been redirected since: that is
   followed.  Or closed, and the next file that was opened got the number:
   Python opens files close-on-exec, which standard error never is. */
static bool
out_is_standard_error(const struct sink *sink, struct platform_file *now)
{
    if (out_is_file(STDERR_FILENO, sink, now)) {
        return true;
    }
    int flags = fcntl(STDERR_FILENO, F_GETFD);
    return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* The name of a sink's file: %p is the process that writes, in a forked
   child the child, %t the time, %% a percent sign.  The longest one fits:
   sink_name_length() saw to it. */
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

/* May a report be appended to a file that was there?  A directory for
   everybody is where others plant files: a second name of a file that they
   want damaged, or a file of theirs that they can read. */
static bool
out_may_append(const struct platform_file *folder,
               const struct platform_file *file)
{
    if (!S_ISREG(file->mode) && !S_ISFIFO(file->mode)
        && !S_ISCHR(file->mode)) {
        return false;
    }
    return !(folder->mode & S_IWOTH)
           || (file->owner == geteuid() && file->links == 1);
}

/* Open a sink's file in its folder, made for this user alone if it is not
   there.  Never waits for a reader.  Returns -1 if it cannot be. */
static int
out_open_file(const struct sink *sink, int folder)
{
    const int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK
                      | O_NOCTTY | O_CLOEXEC;
    struct platform_file around, file;
    char name[NAME_MAX + 1];
    out_file_name(sink, name);
    int fd = openat(folder, name, flags | O_CREAT | O_EXCL, 0600);
    if (fd >= 0 || errno != EEXIST) {
        return fd;
    }
    fd = openat(folder, name, flags);
    if (fd >= 0 && (platform_identify(folder, &around) < 0
                    || platform_identify(fd, &file) < 0
                    || !out_may_append(&around, &file))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Open a sink's folder and file.  Not as a standard descriptor that happens to
   be closed: what others write there is not for the report, so the folder
   holds these meanwhile.  Returns -1 with errno. */
static int
out_open_both(const void *argument)
{
    const struct sink *sink = argument;
    int held[STDERR_FILENO + 2], n = 0;
    int folder = out_open_folder(sink->folder);
    if (folder < 0) {
        return -1;
    }
    do {
        held[n] = fcntl(folder, F_DUPFD_CLOEXEC, STDIN_FILENO);
    } while (held[n] >= 0 && held[n++] <= STDERR_FILENO
             && n <= STDERR_FILENO + 1);
    int fd = out_open_file(sink, folder);
    int error = errno;
    while (n > 0) {
        close(held[--n]);
    }
    close(folder);
    errno = error;
    return fd;
}

/* Open a sink's file, also if the process has no descriptor left: programs die
   of that. */
static int
out_open_path(const struct sink *sink)
{
    return platform_open_lifted(out_open_both, sink);
}

/* The descriptor of a report's own file, which the first piece opens. */
static int
out_path_descriptor(struct out *o, struct platform_file *now)
{
    if (!o->opened) {
        o->fd = out_open_path(o->sink);
        o->opened = true;
        if (platform_identify(o->fd, &o->file) < 0) {
            o->fd = -1;
        }
    }
    return platform_identify(o->fd, now) == 0
           && platform_is_same(now, &o->file) ? o->fd : -1;
}

/* The last piece is written. */
static void
out_close(struct out *o)
{
    struct platform_file now;
    if (o->opened && platform_identify(o->fd, &now) == 0
        && platform_is_same(&now, &o->file)) {
        close(o->fd);
    }
    o->opened = false;
}

/* The descriptor of a report's sink and what kind of file it is, -1 when there
   is none (any more): nowhere is better than somebody else's file. */
static int
out_descriptor(struct out *o, struct platform_file *now)
{
    const struct sink *sink = o->sink;
    switch (sink->kind) {
    case SINK_STDERR:
        return out_is_standard_error(sink, now) ? STDERR_FILENO : -1;
    case SINK_COPY:
        return out_is_file(sink->copy, sink, now) ? sink->copy
               : out_is_file(sink->given, sink, now) ? sink->given : -1;
    case SINK_PATH:
        return out_path_descriptor(o, now);
    default:
        return -1;
    }
}

/* Open the same file anew, so that O_NONBLOCK is ours alone.  Fails for
   sockets, and where /proc is not there or forbids it. */
static int
out_reopen(int fd)
{
    return platform_open_proc("/proc/self/fd/", (unsigned)fd, "",
                              O_WRONLY | O_NONBLOCK | O_NOCTTY);
}

/* Is it a terminal?  Told by its number: isatty() would ask the driver.  Not
   5:2, which makes a new terminal whenever it is opened. */
static bool
out_is_terminal(const struct platform_file *file)
{
    return S_ISCHR(file->mode)
           && (file->driver == 4 || (file->driver == 5 && file->unit != 2)
               || (file->driver >= 136 && file->driver <= 143));
}

/* Choose the way, and replace *fd where it has to be reopened. */
static enum out_way
out_choose_way(int *fd, const struct platform_file *file)
{
    if (S_ISREG(file->mode) || S_ISBLK(file->mode)
        || (S_ISCHR(file->mode) && file->driver == 1)) {
        return OUT_PLAIN;       /* 1: /dev/null, /dev/full and such */
    }
    if (S_ISSOCK(file->mode)) {
        return OUT_SOCKET;
    }
    if (S_ISFIFO(file->mode)) {
        return OUT_NOWAIT;
    }
    int mine = out_is_terminal(file) ? out_reopen(*fd) : -1;
    if (mine < 0) {
        return OUT_SMALL;
    }
    *fd = mine;
    return OUT_REOPENED;
}

/* Write some of n bytes.  Returns what was taken, or -1 with errno. */
static ssize_t
out_write_some(int *fd, enum out_way *way, const char *text, size_t n)
{
    ssize_t put;
    switch (*way) {
    case OUT_NOWAIT:
        put = platform_write_nowait(*fd, text, n);
        if (put >= 0 || errno == EAGAIN || errno == EINTR
            || errno == EPIPE) {
            return put;
        }
        /* Too old a kernel, or a sandbox, which may say anything. */
        int mine = out_reopen(*fd);
        *way = mine < 0 ? OUT_SMALL : OUT_REOPENED;
        *fd = mine < 0 ? *fd : mine;
        return out_write_some(fd, way, text, n);
    case OUT_SOCKET:
        return send(*fd, text, n, MSG_DONTWAIT);
    case OUT_SMALL:
        return write(*fd, text, n < 512 ? n : 512);
    default:
        return write(*fd, text, n);
    }
}

/* Cancelled: nothing more is written, but of a report that has begun the
   rest, as long as somebody reads it. */
static bool
out_is_cancelled(const struct out *o)
{
    return o->cancelled != NULL && *o->cancelled;
}

/* Nothing of it was written, and nothing is to be. */
static bool
out_is_unwanted(const struct out *o)
{
    return out_is_cancelled(o) && o->sent == 0;
}

/* Wait until the descriptor takes bytes.  Returns false when it did not for
   OUT_STALL_NS, when the report is out of time, or when it was cancelled: in
   slices, within one of which that is noticed. */
static bool
out_wait(struct out *o, int fd)
{
    int64_t waited = 0;
    for (;;) {
        struct pollfd poller = {.fd = fd, .events = POLLOUT};
        int64_t begin = platform_now(), left = OUT_STALL_NS - waited;
        left = left < o->deadline - begin ? left : o->deadline - begin;
        /* A sink that is ready is taken also when the time is over. */
        int64_t slice = left <= 0 ? 0
                        : left < OUT_SLICE_NS ? left : OUT_SLICE_NS;
        int ready = poll(&poller, 1, (int)((slice + 999999) / 1000000));
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return true;        /* an error is write()'s to report */
        }
        if (left <= 0
            || (out_is_cancelled(o) && waited > OUT_CANCEL_NS)) {
            return false;
        }
        waited += platform_waited(begin);
    }
}

/* Wait, and see that the number still means the same file: while we waited
   another thread may have closed it and opened its own. */
static bool
out_wait_for(struct out *o, int fd, const struct platform_file *file)
{
    struct platform_file now;
    return out_wait(o, fd) && !out_is_unwanted(o)
           && platform_identify(fd, &now) == 0
           && platform_is_same(&now, file);
}

/* How much to send at once: all, or whole lines of what a packet holds. */
static size_t
out_part(const struct out *o, size_t limit)
{
    size_t left = o->used - o->sent;
    if (left <= limit) {
        return left;
    }
    size_t n = limit;
    while (n > 1 && o->text[o->sent + n - 1] != '\n') {
        n--;
    }
    return n > 1 ? n : limit;
}

/* Write all of it, or give the sink up. */
static void
out_write_all(struct out *o, int fd, const struct platform_file *file)
{
    int original = fd;
    size_t limit = SIZE_MAX;
    enum out_way way = out_choose_way(&fd, file);
    while (o->sent < o->used && !o->failed) {
        if (way == OUT_SMALL && !out_wait_for(o, fd, file)) {
            o->failed = true;
            break;
        }
        size_t n = out_part(o, limit);
        ssize_t put = out_write_some(&fd, &way, o->text + o->sent, n);
        if (put > 0) {
            o->sent += (size_t)put;
        }
        else if (put < 0 && errno == EAGAIN) {
            o->failed = !out_wait_for(o, fd, file);
        }
        else if (put < 0 && errno == EMSGSIZE && n > 512) {
            limit = n / 2;
        }
        else if (put == 0 || errno != EINTR || platform_now() > o->deadline) {
            o->failed = true;
        }
    }
    if (fd != original) {
        close(fd);
    }
}

/* A closed pipe, a full quota of bytes or a background terminal answer with
   a signal that would change how the process dies.  They are blocked during
   a report; the ones that we caused, which come with an error, are taken
   back. */
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

/* Send the buffer on its way. */
static void
out_flush(struct out *o)
{
    struct platform_file file;
    o->failed |= out_is_unwanted(o);
    int fd = o->failed || o->sent == o->used ? -1
             : out_descriptor(o, &file);
    if (fd >= 0) {
        sigset_t before;
        sigpending(&before);
        out_write_all(o, fd, &file);
        if (o->failed) {
            out_take_back(&before);
        }
    }
    o->flushes++;
    o->used = o->sent = 0;
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

/* With leading zeros. */
static void
out_digits(struct out *o, uint64_t value, int width)
{
    uint64_t least = 1;
    while (--width > 0) {
        least *= 10;
        if (value < least) {
            out_char(o, '0');
        }
    }
    out_decimal(o, value);
}

/* Seconds since 1970 as 2026-11-22T07:10:11Z.  Our own calendar: gmtime()
   takes a lock.  It counts in years from March on, so that the leap day is
   the last one, and in eras of 400 years, which are all of one length. */
static void
out_utc(struct out *o, int64_t seconds)
{
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        days--;
        rest += 86400;
    }
    days += 719468;             /* since 0000-03-01 */
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day = days - era * 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    int64_t month = (5 * day + 2) / 153;        /* 0 is March */
    day -= (153 * month + 2) / 5;
    year += era * 400 + (month >= 10);
    out_digits(o, (uint64_t)(year < 0 ? 0 : year), 4);
    out_char(o, '-');
    out_digits(o, (uint64_t)(month < 10 ? month + 3 : month - 9), 2);
    out_char(o, '-');
    out_digits(o, (uint64_t)day + 1, 2);
    out_char(o, 'T');
    out_digits(o, (uint64_t)rest / 3600, 2);
    out_char(o, ':');
    out_digits(o, (uint64_t)rest / 60 % 60, 2);
    out_char(o, ':');
    out_digits(o, (uint64_t)rest % 60, 2);
    out_char(o, 'Z');
}

/* For the tests: the calendar, over more times than there can be crashes. */
#ifdef FAULTHANDLER_TEST
__attribute__((visibility("default"))) size_t
faulthandler_test_utc(int64_t seconds, char *text, size_t size)
{
    struct out o = {.text = text, .size = size};
    out_utc(&o, seconds);
    return o.used;
}
#endif

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
