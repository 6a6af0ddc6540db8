/* thread: all threads of all interpreters, and which one is ours.

   Everything here may run inside a signal handler, between mem_begin() and
   mem_end().  No lock is taken: the lists may change while they are read. */

#ifndef FAULTHANDLER_THREAD_H
#define FAULTHANDLER_THREAD_H

#include "cpython.h"
#include "frame.h"
#include "mem.h"
#include "out.h"
#include "platform.h"
#include "str.h"

/* One report can list as many threads, whatever max_threads says. */
#define THREAD_LIST_MAX 4096
#define THREAD_RETRIES 3

/* A usual thread's block fits into as much room in the buffer: there it can be
   taken back and read again. */
#define THREAD_BLOCK_ROOM (16 * 1024)

struct thread {
    uintptr_t at, interp;
    uintptr_t ident;            /* pthread_self(), as in Thread.ident */
    pid_t native;               /* the kernel's number, 0 if not known */
};

/* The threads of all interpreters, as they were linked at one moment. */
struct thread_list {
    size_t count;
    bool damaged;               /* a link could not be followed */
    bool full;                  /* there were more than fit */
    uintptr_t threads[THREAD_LIST_MAX];
    uintptr_t interps[THREAD_LIST_MAX];
};

/* Read a thread state.  Returns -1 if it cannot be read. */
static int
thread_read(uintptr_t at, struct thread *t)
{
    t->at = at;
    t->native = 0;
    if (CPYTHON_TSTATE_NATIVE != CPYTHON_UNKNOWN) {
        uintptr_t native;
        if (mem_word(at + CPYTHON_TSTATE_NATIVE, &native) < 0) {
            return -1;
        }
        t->native = native <= INT_MAX ? (pid_t)native : 0;
    }
    return mem_word(at + offsetof(PyThreadState, interp), &t->interp) < 0
           || mem_word(at + offsetof(PyThreadState, thread_id),
                       &t->ident) < 0 ? -1 : 0;
}

static bool
thread_is_listed(const struct thread_list *list, uintptr_t at)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->threads[i] == at) {
            return true;
        }
    }
    return false;
}

/* Append a state.  Returns -1, and notes why, if there is no room, if the list
   led back to it, or if it names another interpreter: it was freed while we
   came to it. */
static int
thread_list_append(struct thread_list *list, uintptr_t interp, uintptr_t at)
{
    uintptr_t owner;
    if (list->count == THREAD_LIST_MAX) {
        list->full = true;
        return -1;
    }
    if (thread_is_listed(list, at)
        || mem_word(at + offsetof(PyThreadState, interp), &owner) < 0
        || owner != interp) {
        list->damaged = true;
        return -1;
    }
    list->threads[list->count] = at;
    list->interps[list->count++] = interp;
    return 0;
}

/* Append one interpreter's threads, as far as the links lead. */
static void
thread_list_interpreter(struct thread_list *list, uintptr_t interp)
{
    uintptr_t at;
    int result = mem_word(interp + CPYTHON_INTERP_THREADS, &at);
    while (result == 0 && at != 0) {
        if (thread_list_append(list, interp, at) < 0) {
            return;
        }
        result = mem_word(at + offsetof(PyThreadState, next), &at);
    }
    list->damaged |= result < 0;
}

/* List the threads of one interpreter, then those of all others. */
static void
thread_list_once(struct thread_list *list, uintptr_t first)
{
    list->count = 0;
    list->damaged = list->full = false;
    for (int others = 0; others <= 1; others++) {
        struct mem_chain chain = {0};
        uintptr_t interp = (uintptr_t)PyInterpreterState_Head();
        while (interp != 0) {
            if ((interp == first) != others) {
                thread_list_interpreter(list, interp);
            }
            if (mem_chain_step(&chain, interp) < 0
                || mem_word(interp + CPYTHON_INTERP_NEXT, &interp) < 0) {
                list->damaged = true;
                break;
            }
        }
    }
}

/* List all threads, those of one interpreter first.  A list that changed while
   it was read is read again. */
static void
thread_list_fill(struct thread_list *list, uintptr_t first)
{
    int tries = 0;
    do {
        thread_list_once(list, first);
    } while (list->damaged && tries++ < THREAD_RETRIES);
}

/* Read a thread state, and return whether it says that it is the calling
   thread's. */
static bool
thread_is_mine(uintptr_t at, struct thread *t)
{
    return at != 0 && thread_read(at, t) == 0
           && t->ident == (uintptr_t)pthread_self();
}

/* Find the calling thread's state.  Returns false in a thread that Python does
   not know.  CPython has two answers, and neither is enough: 3.8 to 3.11 say
   who holds the GIL, 3.12 and newer forget the thread's own state after a
   subinterpreter, and another thread may have freed the state.  So an answer
   must be in the list.  A state that another thread made has that one's
   identity: it counts where both answers agree.  Else a state in the list may
   be this thread's, or one in each of several interpreters: one that has
   frames comes first. */
static bool
thread_find_current(const struct thread_list *list, struct thread *t)
{
    const uintptr_t answers[] = {
        (uintptr_t)CPYTHON_ATTACHED_THREAD(),
        (uintptr_t)PyGILState_GetThisThreadState(),
    };
    for (size_t i = 0; i < 2; i++) {
        if (thread_is_mine(answers[i], t)
            && (list->damaged || list->full
                || thread_is_listed(list, answers[i]))) {
            return true;
        }
    }
    if (answers[0] == answers[1] && thread_is_listed(list, answers[0])
        && thread_read(answers[0], t) == 0) {
        return true;
    }
    bool found = false;
    for (size_t i = 0; i < list->count; i++) {
        struct thread mine;
        uintptr_t frame = 0;
        if (thread_is_mine(list->threads[i], &mine)
            && (!found || (frame_newest(mine.at, &frame) == 0 && frame))) {
            *t = mine;
            found = true;
        }
    }
    return found;
}

/* Return whether a state has no frames and is no thread of its own.  A new
   thread has the identity 0, or up to 3.11 its creator's.  Creating a
   subinterpreter leaves such a state behind, too. */
static bool
thread_is_shadow(const struct thread_list *list, size_t i,
                 const struct thread *t)
{
    struct frame_walk w;
    struct thread other;
    enum frame_walk_result result = frame_walk_begin(&w, t->at);
    if (result == FRAME_WALK_ON) {
        result = frame_walk_next(&w);
    }
    if (t->ident == 0) {
        return result != FRAME_WALK_ON || w.code.at == 0;
    }
    if (!cpython.frames_known || result != FRAME_WALK_END) {
        return false;
    }
    for (size_t j = 0; j < list->count; j++) {
        if (j != i && thread_read(list->threads[j], &other) == 0
            && other.ident == t->ident) {
            return true;
        }
    }
    return false;
}

/* Return whether the garbage collector works in this thread's interpreter. */
static bool
thread_is_collecting(const struct thread *t)
{
    int collecting = 0;
    return cpython.collecting_known
           && mem_read(&collecting, CPYTHON_COLLECTING(t->interp),
                       sizeof collecting) == 0
           && collecting == 1;
}

/* Write " [name]".  The report of 1.0 is ASCII.  The standard library's module
   writes names as they are; here control characters are escaped all the same,
   because they could forge lines. */
static void
thread_write_name(struct out *o, const char *name, bool ascii_only)
{
    const unsigned char *text = (const unsigned char *)name;
    out_text(o, " [");
    while (*text != '\0') {
        uint32_t c;
        size_t n = str_decode(text, &c);
        if (c >= 0x80 && !ascii_only) {
            out_bytes(o, (const char *)text, n);
        }
        else {
            out_escaped(o, c);
        }
        text += n;
    }
    out_char(o, ']');
}

/* What a thread that Python starts notes of itself, above its alternate stack:
   its name, as Python knows it.  The key leads to it. */
#define THREAD_NAME_SIZE 128
struct thread_note {
    char name[THREAD_NAME_SIZE];        /* UTF-8; "": not known */
};
static pthread_key_t thread_note_key;
static bool thread_note_key_made;

/* Return the calling thread's note, or NULL. */
static struct thread_note *
thread_own_note(void)
{
    return thread_note_key_made ? pthread_getspecific(thread_note_key) : NULL;
}

/* Write the name of the calling thread, if it has one.  The whole name was
   noted when the thread started; the kernel keeps 15 bytes, and Python tells
   it from 3.14 on.  Where the kernel has another name, that one is newer. */
static void
thread_write_own_name(struct out *o)
{
    const struct thread_note *note = thread_own_note();
    const char *name = note != NULL ? note->name : "";
    char kernel[32], program[32];
    platform_thread_name(platform_thread_id(), kernel);
    platform_thread_name(getpid(), program);
    if (strcmp(kernel, program) != 0 && strncmp(name, kernel, 15) != 0) {
        name = kernel;
    }
    else if (name[0] == '\0' && platform_thread_id() == getpid()
             && PyGILState_GetThisThreadState() != NULL) {
        name = "MainThread";
    }
    if (name[0] != '\0') {
        thread_write_name(o, name, true);
    }
}

/* Write a thread's header.  program is the name that threads have by default,
   which is not shown.  It is NULL in the standard library's report, which
   shows the names that the running Python shows. */
static void
thread_write_header(struct out *o, const char *title, uintptr_t ident,
                    pid_t native, const char *program)
{
    char name[32] = "";
    out_room(o, OUT_LINE_MAX);
    out_text(o, title);
    out_text(o, " 0x");
    out_hex(o, ident, 2 * (int)sizeof(long));
    if (native != 0 && (program != NULL || CPYTHON_PRINTS_THREAD_NAMES)) {
        platform_thread_name(native, name);
    }
    if (name[0] != '\0' && (program == NULL || strcmp(name, program) != 0)) {
        thread_write_name(o, name, program != NULL);
    }
    out_text(o, " (most recent call first):\n");
}

/* Write the stack of a thread that may be running.  A stack that changed while
   it was read is taken back and read again. */
static void
thread_write_stack(struct out *o, uintptr_t at, bool show_oldest,
                   int retries, struct frame_memory *m)
{
    size_t start = o->used, flushes = o->flushes;
    while (!frame_write_stack(o, at, show_oldest, m) && retries-- > 0
           && o->flushes == flushes) {
        o->used = start;
        flushes = ++o->flushes;     /* what was taken back is forgotten */
    }
}

#endif
