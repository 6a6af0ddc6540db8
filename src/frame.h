/* frame: one thread's Python stack, from the newest frame to the oldest.

   Everything here may run inside a signal handler, between mem_begin() and
   mem_end().  The thread may be running: what is read may be torn. */

#ifndef FAULTHANDLER_FRAME_H
#define FAULTHANDLER_FRAME_H

#include "code.h"
#include "cpython.h"
#include "mem.h"
#include "out.h"
#include "str.h"

/* The newest frames that are shown of a deep stack, and the oldest. */
#define FRAME_NEWEST 90
#define FRAME_OLDEST 10
#define FRAME_MAX (FRAME_NEWEST + FRAME_OLDEST)

/* A chain of this many frames in a row without a readable code object is no
   Python stack. */
#define FRAME_STRANGERS_MAX 4

/* Who owns a frame, from 3.11 on.  Owners from SHIM to CPYTHON_OWNER_MAX have
   no Python code. */
enum { FRAME_OWNER_GENERATOR = 1, FRAME_OWNER_SHIM = 3 };

struct frame {
    uintptr_t at, previous, code;
    uintptr_t instr;            /* from 3.11 an address, before an offset */
    int owner;
    int traced_line;            /* the tracer's, up to 3.10; else 0 */
    bool entry;                 /* an evaluation loop may begin with it */
};

/* Read the fields of a frame object, up to 3.10.  Its line is the tracer's. */
static void
frame_read_object(struct frame *f, const char *raw)
{
    intptr_t offset = code_int(raw, CPYTHON_FRAME_INSTR);
    f->instr = (uintptr_t)(offset * CPYTHON_FRAME_UNIT);
    if (code_field(raw, CPYTHON_FRAME_TRACE) != 0) {
        f->traced_line = code_int(raw, CPYTHON_FRAME_LINENO);
    }
}

/* Return whether a frame of this owner is an entry into the evaluation loop
   and not Python code. */
static bool
frame_is_shim(const struct frame *f)
{
    return f->owner >= FRAME_OWNER_SHIM && f->owner <= CPYTHON_OWNER_MAX;
}

/* Read the frame at an address.  Returns -1 if it cannot be read. */
static int
frame_read(uintptr_t at, struct frame *f)
{
    union {
        PyObject object;
        char bytes[CPYTHON_FRAME_SIZE];
    } raw;
    if (at % sizeof at != 0 || mem_read(&raw, at, sizeof raw) < 0) {
        return -1;
    }
    f->at = at;
    f->previous = code_field(raw.bytes, CPYTHON_FRAME_PREVIOUS);
    f->code = code_field(raw.bytes, CPYTHON_FRAME_CODE)
              & ~(uintptr_t)CPYTHON_FRAME_TAGS;
    f->owner = f->traced_line = 0;
    if (CPYTHON_FRAME_OBJECTS) {
        frame_read_object(f, raw.bytes);
        f->entry = Py_TYPE(&raw.object) == &PyFrame_Type;
        f->code = f->entry ? f->code : 0;
        return 0;
    }
    f->instr = code_field(raw.bytes, CPYTHON_FRAME_INSTR);
    f->owner = raw.bytes[CPYTHON_FRAME_OWNER];
    f->entry = CPYTHON_FRAME_ENTRY != CPYTHON_UNKNOWN
               ? raw.bytes[CPYTHON_FRAME_ENTRY] == 1
               : frame_is_shim(f);
    return 0;
}

/* Return the frame's line, or CODE_NO_LINE if it has none. */
static int
frame_line(const struct frame *f, const struct code *c)
{
    return f->traced_line > 0 ? f->traced_line
                              : code_line(c, code_offset(c, f->instr));
}

/* Return whether the frame has not begun its body yet.  The traceback module
   hides such frames.  The trampoline of a specialised __init__ is one. */
static bool
frame_is_incomplete(const struct frame *f, const struct code *c)
{
    intptr_t offset = code_offset(c, f->instr);
    return c->first_traceable > 0 && f->owner != FRAME_OWNER_GENERATOR
           && offset >= -2 && offset < c->first_traceable;
}

/* Find the newest frame of a thread state, 0 if it has none.  Returns -1 if
   the thread state cannot be read. */
static int
frame_newest(uintptr_t tstate, uintptr_t *frame)
{
    if (mem_word(tstate + CPYTHON_TSTATE_FRAME, frame) < 0) {
        return -1;
    }
    if (CPYTHON_CFRAME_FRAME != CPYTHON_UNKNOWN && *frame != 0) {
        return mem_word(*frame + CPYTHON_CFRAME_FRAME, frame);
    }
    return 0;
}

/* A short cycle is found before its frames are shown again, unless a slot is
   taken by another frame; then, and if it is long, a few rounds later. */
#define FRAME_SEEN 128

/* A walk down a stack, from the newest frame to the oldest.  It hides what the
   traceback module hides.  A link that leads nowhere, or back, ends it: the
   report then marks that the rest is missing. */
struct frame_walk {
    uintptr_t next;
    struct frame frame;
    struct code code;           /* code.at is 0 where there is none */
    struct mem_chain chain;
    int strangers;              /* frames in a row without a code object */
    uintptr_t seen[FRAME_SEEN]; /* frames, each in a slot by its address */
};

enum frame_walk_result { FRAME_WALK_ON, FRAME_WALK_END, FRAME_WALK_CUT };

static enum frame_walk_result
frame_walk_begin(struct frame_walk *w, uintptr_t tstate)
{
    memset(w, 0, sizeof *w);
    return frame_newest(tstate, &w->next) < 0 ? FRAME_WALK_CUT
                                              : FRAME_WALK_ON;
}

/* Go to the next frame, and tell whether it is one that is shown.  Only an
   entry into an evaluation loop can be the oldest frame: a link of 0 behind
   another one is damaged. */
static enum frame_walk_result
frame_walk_step(struct frame_walk *w, bool *shown)
{
    struct frame *f = &w->frame;
    uintptr_t *seen = &w->seen[w->next / 16 % FRAME_SEEN];
    if (w->next == 0) {
        return w->chain.steps == 0 || f->entry ? FRAME_WALK_END
                                               : FRAME_WALK_CUT;
    }
    if (w->next == *seen || mem_chain_step(&w->chain, w->next) < 0
        || frame_read(w->next, f) < 0) {
        return FRAME_WALK_CUT;
    }
    w->next = f->previous;
    *seen = f->at;
    *shown = !frame_is_shim(f);
    if (!*shown) {
        return FRAME_WALK_ON;
    }
    /* In a recursion the code object is known. */
    if ((w->code.at != f->code || f->code == 0)
        && code_read(f->code, &w->code) < 0) {
        w->code.at = 0;
        return ++w->strangers > FRAME_STRANGERS_MAX ? FRAME_WALK_CUT
                                                    : FRAME_WALK_ON;
    }
    w->strangers = 0;
    *shown = !frame_is_incomplete(f, &w->code);
    return FRAME_WALK_ON;
}

/* Go to the next frame that is shown. */
static enum frame_walk_result
frame_walk_next(struct frame_walk *w)
{
    enum frame_walk_result result;
    bool shown = false;
    do {
        result = frame_walk_step(w, &shown);
    } while (result == FRAME_WALK_ON && !shown);
    return result;
}

/* The evaluation loops of a thread state, the newest first, from 3.11 on.  A
   loop has the frames that it runs. */
struct frame_loops {
    struct frame_walk walk;     /* behind the last frame of this loop */
    struct frame_walk start;    /* before its first */
    size_t shown;               /* of its frames */
    uintptr_t place;            /* in its C frame; 0: not known */
    uintptr_t link;             /* the next loop's place, 3.11 */
    enum frame_walk_result result;    /* FRAME_WALK_ON: there is a loop */
};

/* Return whether the frame that was reached is its loop's first.  In 3.11 a
   generator that is thrown into, and passes it to the one that it delegates
   to, has no loop and is marked all the same: the next loop then has another
   newest frame than the one behind it. */
static bool
frame_loops_is_first(const struct frame_loops *l)
{
    uintptr_t loop, newest;
    if (!l->walk.frame.entry || l->link == 0
        || l->walk.frame.owner != FRAME_OWNER_GENERATOR) {
        return l->walk.frame.entry;
    }
    return mem_word(l->link + CPYTHON_CFRAME_PREVIOUS, &loop) < 0
           || mem_word(loop + CPYTHON_CFRAME_FRAME, &newest) < 0
           || newest == l->walk.next;
}

/* Go to the next loop. */
static void
frame_loops_next(struct frame_loops *l)
{
    bool shown = false, any = false, last = false;
    l->start = l->walk;
    l->place = l->link;
    l->shown = 0;
    while (!last
           && (l->result = frame_walk_step(&l->walk, &shown))
              == FRAME_WALK_ON) {
        any = true;
        l->shown += shown;
        last = frame_loops_is_first(l);
    }
    if (CPYTHON_CFRAME_PREVIOUS == CPYTHON_UNKNOWN) {
        l->place = last ? l->walk.frame.at : 0;
    }
    else if (l->link != 0
             && mem_word(l->link + CPYTHON_CFRAME_PREVIOUS, &l->link) < 0) {
        l->link = 0;
    }
    if (l->result == FRAME_WALK_END && any) {
        l->result = FRAME_WALK_ON;
    }
}

/* Go to the first one. */
static void
frame_loops_begin(struct frame_loops *l, uintptr_t tstate)
{
    l->link = 0;
    l->result = frame_walk_begin(&l->walk, tstate);
    if (CPYTHON_CFRAME_PREVIOUS != CPYTHON_UNKNOWN
        && mem_word(tstate + CPYTHON_TSTATE_FRAME, &l->link) < 0) {
        l->link = 0;
    }
    if (l->result == FRAME_WALK_ON) {
        frame_loops_next(l);
    }
}

/* Lines that are in the buffer, for frames that repeat them: in a recursion,
   and in threads that wait in the same place.  A line is found by all that it
   was made of: another code object may have the same address later. */
#define FRAME_LINES 128

struct frame_line {
    uintptr_t made_of[6];
    size_t at, length;          /* in the buffer; a length of 0: none */
};

struct frame_memory {
    size_t flushes;
    uintptr_t filename;         /* the last one, and where it stands */
    size_t name, name_length;
    bool unknown;               /* a ??? was written in this stack */
    struct frame_line lines[FRAME_LINES];
};

/* Return the place where a frame's line is kept.  Its length is 0 if it is not
   there; then all but its place in the buffer is filled in.  All lines are
   forgotten when the buffer was sent. */
static struct frame_line *
frame_memory_find(struct frame_memory *m, const struct out *o,
                  const struct frame *f, const struct code *c)
{
    const uintptr_t made_of[] = {
        c->at, f->instr, c->name, c->filename, c->line_table,
        (uintptr_t)f->traced_line,
    };
    if (m->flushes != o->flushes) {
        memset(m->lines, 0, sizeof m->lines);
        m->name_length = 0;
        m->flushes = o->flushes;
    }
    struct frame_line *line =
        &m->lines[(f->instr / 2 + c->at / 64) % FRAME_LINES];
    if (memcmp(line->made_of, made_of, sizeof made_of) != 0) {
        memcpy(line->made_of, made_of, sizeof made_of);
        line->length = 0;
    }
    return line;
}

/* Write a str object, in quotes, or ???.  Returns whether it could be read. */
static bool
frame_write_str(struct out *o, uintptr_t at, const char *quote,
                struct frame_memory *m)
{
    size_t start = o->used;
    out_text(o, quote);
    if (str_write(o, at) < 0) {
        o->used = start;
        out_text(o, "???");
        m->unknown = true;
        return false;
    }
    out_text(o, quote);
    return true;
}

/* Write a file's name.  Most frames are in the file of the one before: that
   name is in the buffer. */
static void
frame_write_filename(struct out *o, uintptr_t filename,
                     struct frame_memory *m)
{
    size_t start = o->used;
    if (filename == m->filename && m->name_length > 0) {
        out_bytes(o, o->text + m->name, m->name_length);
        return;
    }
    bool known = frame_write_str(o, filename, "\"", m);
    m->filename = filename;
    m->name = start;
    m->name_length = known ? o->used - start : 0;
}

/* Write one line of a traceback. */
static void
frame_write(struct out *o, const struct frame *f, const struct code *c,
            struct frame_memory *m)
{
    out_room(o, OUT_LINE_MAX);
    if (c->at == 0) {
        out_text(o, "  File ???, line ??? in ???\n");
        m->unknown = true;
        return;
    }
    struct frame_line *kept = frame_memory_find(m, o, f, c);
    if (kept->length > 0) {
        out_bytes(o, o->text + kept->at, kept->length);
        return;
    }
    size_t start = o->used;
    out_text(o, "  File ");
    frame_write_filename(o, c->filename, m);
    out_text(o, ", line ");
    int line = frame_line(f, c);
    if (line >= 0) {
        out_decimal(o, (uint64_t)line);
    }
    else {
        out_text(o, "???");
        m->unknown = true;
    }
    out_text(o, " in ");
    frame_write_str(o, c->name, "", m);
    out_char(o, '\n');
    kept->at = start;
    kept->length = o->used - start;
}

/* The oldest frames of a stack that is too deep to be shown whole. */
struct frame_ring {
    size_t count;
    struct frame frames[FRAME_OLDEST];
};

static void
frame_write_ring(struct out *o, const struct frame_ring *ring,
                 struct frame_memory *m)
{
    size_t hidden = ring->count > FRAME_OLDEST ? ring->count - FRAME_OLDEST
                                               : 0;
    if (hidden > 0) {
        out_hidden(o, hidden);
    }
    for (size_t i = hidden; i < ring->count; i++) {
        const struct frame *f = &ring->frames[i % FRAME_OLDEST];
        struct code c;
        if (code_read(f->code, &c) < 0) {
            c.at = 0;
        }
        frame_write(o, f, &c, m);
    }
}

#define FRAME_UNREADABLE "  <Python frames cannot be read on this build>\n"
#define FRAME_CUT "  <the rest of the stack cannot be read>\n"
#define FRAME_NONE "  <no Python frame>\n"

/* Write a thread's Python stack, the newest frame first.  Of more than 100
   frames: 90, a count, the 10 oldest; or, as the standard library's module
   does, 100 and "  ...".  Returns false if it was cut short, or has something
   unknown in it: in a thread that runs, it may be known a moment later. */
static bool
frame_write_stack(struct out *o, uintptr_t tstate, bool show_oldest,
                  struct frame_memory *m)
{
    struct frame_walk w;
    struct frame_ring ring;
    m->unknown = false;
    ring.count = 0;
    size_t shown = 0;
    size_t newest = show_oldest ? FRAME_NEWEST : FRAME_MAX;
    out_room(o, OUT_LINE_MAX);
    if (!cpython.frames_known) {
        out_text(o, FRAME_UNREADABLE);
        return true;
    }
    enum frame_walk_result result = frame_walk_begin(&w, tstate);
    while (result == FRAME_WALK_ON
           && (result = frame_walk_next(&w)) == FRAME_WALK_ON) {
        if (shown++ < newest) {
            frame_write(o, &w.frame, &w.code, m);
        }
        else if (show_oldest) {
            ring.frames[ring.count++ % FRAME_OLDEST] = w.frame;
        }
        else {
            out_text(o, CPYTHON_PRINTS_DOTS ? "  ...\n" : "");
            return !m->unknown;
        }
    }
    frame_write_ring(o, &ring, m);
    out_room(o, OUT_LINE_MAX);
    out_text(o, result == FRAME_WALK_CUT ? FRAME_CUT
                : shown == 0 ? FRAME_NONE : "");
    return result != FRAME_WALK_CUT && !m->unknown;
}

#endif
