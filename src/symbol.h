/* symbol: function, file and line of C frames, looked up in a child.

   symbol_ask() for each frame of a report, then symbol_look_up() once, after
   what stands above the frames was flushed, then symbol_write() for each.
   One lookup at a time: that of a fatal report. */

#ifndef FAULTHANDLER_SYMBOL_H
#define FAULTHANDLER_SYMBOL_H

#include "child.h"
#include "mem.h"
#include "native.h"
#include "out.h"
#include "platform.h"
#include "unwind.h"

/* The address to look a frame up by.  A return address belongs to the call in
   front of it, which may be the last instruction of its function. */
static uintptr_t
symbol_address(const struct unwind_frame *frame)
{
    return frame->pc - (frame->is_return ? 1 : 0);
}

/* Write one line of a frame.  Text that is not there has the address 0. */
static void
symbol_write_line(struct out *o, uintptr_t file, int number,
                  uintptr_t function, const struct native_object *object,
                  uintptr_t pc)
{
    out_room(o, OUT_LINE_MAX);
    out_text(o, file != 0 ? "  C File \"" : "  C File ");
    native_write_name(o, file);
    out_text(o, file != 0 ? "\", line " : ", line ");
    if (number > 0) {
        out_decimal(o, (uint64_t)number);
    }
    else {
        out_text(o, "???");
    }
    out_text(o, " in ");
    native_write_name(o, function);
    out_text(o, " (");
    if (object->path != NULL) {
        native_write_name(o, native_base_name(native_path(object)));
    }
    out_text(o, object->path != NULL ? "+0x" : "0x");
    out_hex(o, pc - object->base, object->path != NULL ? 1 : 16);
    out_text(o, ")\n");
}

#if FAULTHANDLER_LIBBACKTRACE
/* Function, file and line come from libbacktrace, which reads the debug data
   of objects: of any size, of any age, damaged perhaps.  It runs in a child,
   which may fault, loop, or use up its stack and its memory: what it has not
   answered by then is lost, no more.  A handler cannot promise that: a jump
   out of a fault leaves half-written data, a loop needs a timer, and endless
   recursion needs a stack with a guard.

   The lookup does not ask the loader, whose lock another thread may hold: it
   looks at one object at a time, which __wrap_dl_iterate_phdr() names.  It
   takes no lock and does not use malloc(): setup.py sees to that.  To find
   and call the demangler takes both, and may wait for ever in the child, so it
   comes last.

   Where there can be no child (a sandbox, no memory, too many processes), and
   for frames without an answer, the names are those of the dynamic symbols. */
#define SYMBOL_LOOKUP_NS INT64_C(5000000000)
#define SYMBOL_DEMANGLE_NS INT64_C(2000000000)
#define SYMBOL_CHILD_MEMORY (size_t)INT64_C(3000000000)
#define SYMBOL_LINES 1024
#define SYMBOL_NAME_MAX 4000
#define SYMBOL_TEXT (256 * 1024)

/* The question.  The child has a copy of it. */
static struct {
    struct unwind_frame frames[NATIVE_SHOWN];
    struct native_object objects[NATIVE_SHOWN];        /* of each frame */
    size_t frame_count;
    pid_t parent, child;        /* 0: there is none */
} symbol_question;

/* One line of the answer. */
struct symbol_line {
    uint32_t frame;
    uint32_t file, function;    /* where in the text, 0: not known */
    int32_t number;
};

/* The answer, in memory that the child shares with us.  A damaged child may
   write anything here: it is checked when it is read. */
struct symbol_found {
    atomic_bool searched;       /* all is found: demangling is left */
    atomic_size_t line_count;
    size_t text_used;
    struct symbol_line lines[SYMBOL_LINES];
    char text[SYMBOL_TEXT];
};

static struct symbol_found *symbol_answer;      /* NULL: nothing was found */

/* The child's stack.  8 to 11 KiB of it were seen in use, with 500 bytes more
   for each level of nested debug data. */
static char symbol_stack[512 * 1024] __attribute__((aligned(16)));

/* ---- in the child ---- */

/* The frame whose lines are being collected, and how many lines there are,
   with its. */
static uint32_t symbol_frame;
static size_t symbol_count;

/* Keep a string.  Returns where it is in the text, 0 if there is no room. */
static uint32_t
symbol_keep_text(const char *text)
{
    struct symbol_found *found = symbol_answer;
    size_t n = text == NULL ? 0 : strnlen(text, SYMBOL_NAME_MAX);
    size_t at = found->text_used;
    if (n == 0 || at > SYMBOL_TEXT - SYMBOL_NAME_MAX - 2) {
        return 0;
    }
    memcpy(found->text + at, text, n);
    found->text[at + n] = '\0';
    found->text_used = at + n + 1;
    return (uint32_t)at;
}

static int
symbol_on_line(void *data, uintptr_t pc, const char *file, int number,
               const char *function)
{
    (void)data, (void)pc;
    if ((file != NULL || function != NULL) && symbol_count < SYMBOL_LINES) {
        symbol_answer->lines[symbol_count++] = (struct symbol_line) {
            .frame = symbol_frame, .file = symbol_keep_text(file),
            .function = symbol_keep_text(function), .number = number,
        };
    }
    return 0;
}

/* The symbol table's answer, for what the debug data does not say. */
static void
symbol_on_symbol(void *data, uintptr_t pc, const char *name, uintptr_t value,
                 uintptr_t size)
{
    struct symbol_line *lines = symbol_answer->lines;
    (void)value, (void)size;
    if (symbol_count == atomic_load(&symbol_answer->line_count)) {
        symbol_on_line(data, pc, NULL, 0, name);
    }
    else if (lines[symbol_count - 1].function == 0) {
        lines[symbol_count - 1].function = symbol_keep_text(name);
    }
}

static void
symbol_on_error(void *data, const char *message, int number)
{
    (void)data, (void)message, (void)number;
}

/* The object that libbacktrace asks for. */
static struct dl_phdr_info symbol_object_info;

int __wrap_dl_iterate_phdr(int (*)(struct dl_phdr_info *, size_t, void *),
                           void *) __attribute__((visibility("hidden")));

int
__wrap_dl_iterate_phdr(int (*callback)(struct dl_phdr_info *, size_t, void *),
                       void *data)
{
    return callback(&symbol_object_info, sizeof symbol_object_info, data);
}

/* Open a file, if it begins as the object in memory does: it may have been
   replaced since it was loaded.  Its build-id is near its beginning. */
static int
symbol_open(const struct native_object *object)
{
    char block[4096];
    struct stat st;
    const char *path = object->is_program ? "/proc/self/exe" : object->path;
    /* Not to wait for a FIFO's writer. */
    int fd = child_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return -1;
    }
    ssize_t n = pread(fd, block, sizeof block, 0);
    return n > 0 && memcmp(block, (const void *)object->start, (size_t)n) == 0
           ? fd : -1;
}

/* Look up one frame. */
static void
symbol_search_frame(struct backtrace_state *state, size_t i)
{
    uintptr_t pc = symbol_address(&symbol_question.frames[i]);
    symbol_frame = (uint32_t)i;
    backtrace_pcinfo(state, pc, symbol_on_line, symbol_on_error, NULL);
    backtrace_syminfo(state, pc, symbol_on_symbol, symbol_on_error, NULL);
    atomic_store(&symbol_answer->line_count, symbol_count);
}

/* Look up all frames of this one's object, and forget that it is theirs. */
static void
symbol_search_object(size_t first)
{
    struct native_object *objects = symbol_question.objects;
    const struct native_object object = objects[first];
    char path[PLATFORM_PROC_PATH];
    int fd = symbol_open(&object);
    if (fd < 0) {
        return;
    }
    platform_proc_path(path, "/proc/self/fd/", (unsigned)fd, "");
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)object.start;
    symbol_object_info = (struct dl_phdr_info) {
        .dlpi_addr = object.base, .dlpi_name = "",
        .dlpi_phdr = (const ElfW(Phdr) *)(object.start + head->e_phoff),
        .dlpi_phnum = head->e_phnum,
    };
    struct backtrace_state *state = backtrace_create_state(
        path, 0, symbol_on_error, NULL);
    for (size_t i = first; state != NULL && i < symbol_question.frame_count;
         i++) {
        if (objects[i].start == object.start) {
            symbol_search_frame(state, i);
            objects[i].start = 0;
        }
    }
    close(fd);
}

typedef char *symbol_demangler(const char *, char *, size_t *, int *);

/* Return the C++ library's demangler, NULL where that library is not loaded.
   Found anew for each report: most programs load it after they have called
   enable(). */
static symbol_demangler *
symbol_find_demangler(void)
{
    void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL) {
        library = dlopen("libc++abi.so.1", RTLD_LAZY | RTLD_NOLOAD);
    }
    return library == NULL ? NULL
           : (symbol_demangler *)dlsym(library, "__cxa_demangle");
}

/* Demangle the names of C++ functions.  What cannot be demangled stays. */
static void
symbol_demangle(void)
{
    symbol_demangler *demangle = NULL;
    for (size_t i = 0; i < symbol_count; i++) {
        struct symbol_line *line = &symbol_answer->lines[i];
        const char *name = symbol_answer->text + line->function;
        if (name[0] != '_' || name[1] != 'Z') {
            continue;
        }
        if (demangle == NULL && (demangle = symbol_find_demangler()) == NULL) {
            return;
        }
        int status;
        uint32_t at = symbol_keep_text(demangle(name, NULL, NULL, &status));
        line->function = at != 0 ? at : line->function;
    }
}

/* What the child does. */
static int
symbol_search(void *unused)
{
    (void)unused;
    mem_here = NULL;
    child_begin(symbol_question.parent, SYMBOL_LOOKUP_NS / 1000000000 + 1,
                SYMBOL_CHILD_MEMORY);
    for (size_t i = 0; i < symbol_question.frame_count; i++) {
        if (symbol_question.objects[i].start != 0) {
            symbol_search_object(i);
        }
    }
    atomic_store(&symbol_answer->searched, true);
    symbol_demangle();
    return CHILD_STATUS;
}

/* ---- in the parent ---- */

/* Wait until the child has ended, or takes too long; then end it. */
static void
symbol_await_child(int64_t until)
{
    const pid_t child = symbol_question.child;
    bool ended = false;
    while (!ended && !atomic_load(&symbol_answer->searched)
           && platform_now() < until) {
        ended = child_await(child, platform_now() + CHILD_POLL_NS);
    }
    int64_t last = platform_now() + SYMBOL_DEMANGLE_NS;
    if (ended || child_await(child, last < until ? last : until)
        || child_end(child)) {
        symbol_question.child = 0;
    }
}

/* Note a frame that is in an object. */
static void
symbol_ask(const struct unwind_frame *frame)
{
    const size_t n = symbol_question.frame_count;
    struct native_object *object = &symbol_question.objects[n];
    if (n < NATIVE_SHOWN
        && native_find_object(symbol_address(frame), object) == 0
        && object->start != 0) {
        symbol_question.frames[n] = *frame;
        symbol_question.frame_count++;
    }
}

/* Look up the frames that were asked for, until this time of
   platform_now(). */
static void
symbol_look_up(int64_t until)
{
    int64_t limit = platform_now() + SYMBOL_LOOKUP_NS;
    struct symbol_found *found = mmap(NULL, sizeof *found,
                                      PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) {
        return;
    }
    symbol_answer = found;
    found->text_used = 1;       /* 0 means none */
    symbol_question.parent = getpid();
    pid_t child = child_start(symbol_search, symbol_stack,
                              sizeof symbol_stack, NULL);
    if (child > 0) {
        symbol_question.child = child;
        symbol_await_child(until < limit ? until : limit);
    }
}

/* Forget what was asked and answered.  Done before and after a report: the
   timer may break a lookup at any place. */
static void
symbol_forget(void)
{
    if (symbol_question.child != 0 && child_end(symbol_question.child)) {
        symbol_question.child = 0;
    }
    if (symbol_answer != NULL) {
        munmap(symbol_answer, sizeof *symbol_answer);
    }
    symbol_answer = NULL;
    symbol_question.frame_count = 0;
}

/* Write the lines that the lookup found for a frame.  Returns how many. */
static size_t
symbol_write_found(struct out *o, const struct unwind_frame *frame,
                   const struct native_object *object)
{
    const struct symbol_found *found = symbol_answer;
    const struct unwind_frame *known = symbol_question.frames;
    size_t written = 0, index = 0, count = symbol_question.frame_count;
    while (index < count && (known[index].pc != frame->pc
                             || known[index].is_return != frame->is_return)) {
        index++;
    }
    count = found == NULL || index == count ? 0
            : atomic_load(&found->line_count);
    for (size_t i = 0; i < count && i < SYMBOL_LINES; i++) {
        const struct symbol_line line = found->lines[i];
        if (line.frame == index && line.file < SYMBOL_TEXT
            && line.function < SYMBOL_TEXT) {
            const uintptr_t text = (uintptr_t)found->text;
            symbol_write_line(o, line.file != 0 ? text + line.file : 0,
                              line.number,
                              line.function != 0 ? text + line.function : 0,
                              object, frame->pc);
            written++;
        }
    }
    return written;
}
#else
#  define symbol_ask(frame) ((void)(frame))
#  define symbol_look_up(until) ((void)(until))
#  define symbol_forget() ((void)0)
#  define symbol_write_found(o, frame, object) (0)
#endif

/* Write a frame: a line for each function that was inlined there, the
   innermost first, then one for the function that it was inlined into, all
   with the same address.  Without a lookup, or if that found nothing, one
   line with the name that the dynamic symbols give. */
static void
symbol_write(struct out *o, const struct unwind_frame *frame,
             struct native_seen *seen)
{
    struct native_object object;
    uintptr_t start, pc = symbol_address(frame);
    bool known = native_find_object(pc, &object) == 0;
    if (known) {
        native_see(seen, &object, pc);
    }
    if (symbol_write_found(o, frame, &object) > 0) {
        return;
    }
    symbol_write_line(o, 0, 0,
                      known ? native_find_symbol(&object, pc, &start) : 0,
                      &object, frame->pc);
}

#endif
