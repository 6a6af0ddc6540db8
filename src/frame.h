/* frame: one thread's Python stack, from the newest frame to the oldest. */

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

struct frame {
    uintptr_t at, previous, code;
    uintptr_t instr;            /* address, 3.11+; offset before */
    intptr_t depth;             /* of its locals and values, 3.11+; or -1 */
    int owner;
    int traced_line;            /* known by the tracer, else 0; before 3.11 */
    bool runs;                  /* is being evaluated; before 3.11 */
    bool entry;                 /* its evaluation loop's first; before 3.12 */
};

/* The fields of a frame object, up to 3.10.  Its offset counts code units in
   3.10, bytes before; its line is the tracer's. */
static void
frame_read_object(struct frame *f, const char *raw)
{
    int offset, line;
    bool units = LAYOUT_LINES == LAYOUT_LINES_310;
    memcpy(&offset, raw + layout.frame_instr, sizeof offset);
    memcpy(&line, raw + LAYOUT_FRAME_LINENO, sizeof line);
    f->instr = (uintptr_t)((intptr_t)offset * (units && offset > 0 ? 2 : 1));
    f->owner = 0;
    f->entry = true;
    f->runs = raw[LAYOUT_FRAME_STATE] == LAYOUT_FRAME_RUNS;
    /* So does one that waits for its tracer, which has a line. */
    if (LAYOUT_FRAME_DEPTH != 0 && line == 0) {
        memcpy(&offset, raw + LAYOUT_FRAME_DEPTH, sizeof offset);
        f->runs = f->runs && (offset < 0 || f->previous != 0);
        f->entry = offset < 0;
    }
    if (units || code_field(raw, LAYOUT_FRAME_TRACE) != 0) {
        f->traced_line = line;
    }
}

/* Read the frame at an address.  Returns -1 if it cannot be read. */
static int
frame_read(uintptr_t at, struct frame *f)
{
    union {
        PyObject object;
        char bytes[LAYOUT_FRAME_SIZE];
    } raw;
    if (at % sizeof at != 0 || mem_read(&raw, at, sizeof raw) < 0) {
        return -1;
    }
    f->at = at;
    f->previous = code_field(raw.bytes, layout.frame_previous);
    f->code = layout_untag(code_field(raw.bytes, layout.frame_code));
    f->traced_line = 0;
    if (LAYOUT_FRAME_OBJECTS) {
        frame_read_object(f, raw.bytes);
        if (Py_TYPE(&raw.object) != &PyFrame_Type) {
            f->code = 0;
            f->owner = -1;
        }
        return 0;
    }
    f->instr = code_field(raw.bytes, layout.frame_instr);
    f->owner = raw.bytes[layout.frame_owner];
    f->entry = LAYOUT_FRAME_ENTRY != 0 && raw.bytes[LAYOUT_FRAME_ENTRY] == 1;
    f->depth = layout_frame_depth(at, code_field(raw.bytes,
                                                 LAYOUT_FRAME_TOP));
    return 0;
}

/* Where the frame is in its code, in bytes. */
static intptr_t
frame_offset(const struct frame *f, const struct code *c)
{
    return (intptr_t)(f->instr - c->start);
}

/* The frame's line, CODE_NO_LINE if it has none. */
static int
frame_line(const struct frame *f, const struct code *c)
{
    return f->traced_line > 0 ? f->traced_line
                              : code_line(c, frame_offset(f, c));
}

/* Is it an entry into the evaluation loop, not Python code? */
static bool
frame_is_shim(const struct frame *f)
{
    return f->owner >= LAYOUT_OWNER_SHIM && f->owner <= LAYOUT_OWNER_MAX;
}

/* Has it not begun its body yet?  The traceback module hides such frames,
   and the trampoline of a specialised __init__ is one for ever. */
static bool
frame_is_incomplete(const struct frame *f, const struct code *c)
{
    intptr_t offset = frame_offset(f, c);
    return c->first_traceable > 0 && f->owner != LAYOUT_OWNER_GENERATOR
           && offset >= -2 && offset < c->first_traceable;
}

/* The newest frame of a thread state, 0 if it has none.  Returns -1 if the
   thread state cannot be read. */
static int
frame_newest(uintptr_t tstate, uintptr_t *frame)
{
    if (mem_word(tstate + layout.tstate_frame, frame) < 0) {
        return -1;
    }
    if (LAYOUT_HAS_CFRAME && *frame != 0) {
        return mem_word(*frame + LAYOUT_CFRAME_FRAME, frame);
    }
    return 0;
}

/* The frames of a thread that were not passed yet, by where they lie, 3.11+.
   Each chunk's frames begin at base; a base of 0 means that none is left. */
struct frame_stack {
    uintptr_t previous;         /* the chunk below */
    uintptr_t base, top, limit;
};

static void
frame_stack_open(struct frame_stack *s, uintptr_t chunk)
{
    struct layout_chunk head;
    memset(s, 0, sizeof *s);
    if (chunk % sizeof chunk == 0 && mem_read(&head, chunk, sizeof head) == 0
        && head.size < SIZE_MAX / 4 && head.top < head.size) {
        /* The first word of the first chunk is not used. */
        s->base = chunk + sizeof head
                  + (head.previous == 0 ? sizeof chunk : 0);
        s->top = chunk + sizeof head + head.top * sizeof chunk;
        s->limit = chunk + head.size;
        s->previous = head.previous;
    }
}

/* The frames from an address up were passed. */
static void
frame_stack_pass(struct frame_stack *s, uintptr_t at)
{
    s->top = at;
    if (at == s->base) {
        frame_stack_open(s, s->previous);
    }
}

/* Pass the frames down to the one at an address.  Returns -1 if it is not in
   the stack, or was passed. */
static int
frame_stack_find(struct frame_stack *s, uintptr_t at)
{
    struct frame_stack below = *s;
    struct mem_chain chain = {0, 0, 0};
    while (below.base != 0 && (at < below.base || at >= below.top)) {
        if (mem_chain_step(&chain, below.previous) < 0) {
            return -1;
        }
        frame_stack_open(&below, below.previous);
    }
    if (below.base == 0) {
        return -1;
    }
    *s = below;
    frame_stack_pass(s, at);
    return 0;
}

/* Find the frame right under those that were passed: the one that ends where
   they begin.  Returns -1 if there is none. */
static int
frame_stack_below(const struct frame_stack *s, struct frame *f,
                  struct code *c)
{
    for (uintptr_t at = s->top; at > s->base; ) {
        at -= sizeof at;
        if (frame_read(at, f) == 0 && f->owner == LAYOUT_OWNER_THREAD
            && code_read(f->code, c) == 0 && at + c->frame_size == s->top) {
            return 0;
        }
    }
    return -1;
}

#define FRAME_KNOWN 64

/* A walk down a stack, frame by frame, hiding what traceback hides. */
struct frame_walk {
    uintptr_t tstate, next;
    struct frame frame;
    struct code code;           /* code.at is 0 where there is none */
    struct mem_chain chain;
    int strangers;              /* frames in a row without a code object */
    bool bridges;               /* links are checked, and bridged */
    bool bridged;               /* this frame was found behind a bad link */
    bool direct;                /* the last one was not called from C, 3.11+ */
    uintptr_t last;             /* the last one that is no shim */
    uintptr_t landing;          /* where the links lead to: already checked */
    struct frame_stack stack;   /* 3.11+ */
    uintptr_t c_stack;          /* the C stack, as far as it is searched */
    uintptr_t c_stack_end;
    uintptr_t found;            /* up to 3.10: where the last one was found */
    uintptr_t objects;          /* and where small objects are */
    bool suspect;               /* up to 3.10: the links lead astray */
    size_t seen_count;
    uintptr_t known[FRAME_KNOWN];   /* words that are nothing new */
    uintptr_t seen[FRAME_MAX];  /* the last ones */
};

enum frame_walk_result { FRAME_WALK_ON, FRAME_WALK_END, FRAME_WALK_CUT };

static enum frame_walk_result
frame_walk_begin(struct frame_walk *w, uintptr_t tstate)
{
    memset(w, 0, offsetof(struct frame_walk, seen));
    w->tstate = tstate;
    return frame_newest(tstate, &w->next) < 0 ? FRAME_WALK_CUT
                                              : FRAME_WALK_ON;
}

static bool
frame_was_seen(const struct frame_walk *w, uintptr_t at)
{
    for (size_t i = 0; i < w->seen_count && i < FRAME_MAX; i++) {
        if (w->seen[i] == at) {
            return true;
        }
    }
    return false;
}

/* How far the C stack is searched, how far from its end for the oldest frame
   object, and how many links are followed to put them in order. */
#define FRAME_SCAN_BYTES (8 * 1024 * 1024)
#define FRAME_OLDEST_BYTES (64 * 1024)
#define FRAME_OLDEST_TRIES 4
#define FRAME_SCAN_LINKS (4 * 1024 * 1024)

/* The words of a piece of memory that may be pointers, one by one.  The piece
   may begin before what can be read, and end behind it. */
struct frame_words {
    uintptr_t at, end;          /* of the next block */
    bool begun;
    size_t used, filled;
    uintptr_t block[64];
};

static void
frame_words_open(struct frame_words *words, uintptr_t at, uintptr_t end)
{
    words->at = at;
    words->end = end;
    words->begun = false;
    words->used = words->filled = 0;
}

/* The next pointer without its tag, 0 at the end. */
static uintptr_t
frame_words_next(struct frame_words *words)
{
    for (;;) {
        while (words->used < words->filled) {
            uintptr_t word = layout_untag(words->block[words->used++]);
            if (word >= 4096 && word % sizeof word == 0) {
                return word;
            }
        }
        if (words->at >= words->end) {
            return 0;
        }
        size_t n = words->end - words->at;
        n = n < sizeof words->block ? n : sizeof words->block;
        words->used = words->filled = 0;
        if (mem_read(words->block, words->at, n) == 0) {
            words->filled = n / sizeof *words->block;
            words->begun = true;
        }
        else if (words->begun) {
            return 0;
        }
        words->at += n;
    }
}

/* Does the chain of frame objects from one lead to another? */
static bool
frame_leads_to(uintptr_t from, uintptr_t to, size_t *links)
{
    struct mem_chain chain = {0, 0, 0};
    while (from != to) {
        if (from == 0 || *links == 0 || mem_chain_step(&chain, from) < 0
            || mem_word(from + layout.frame_previous, &from) < 0) {
            return false;
        }
        --*links;
    }
    return true;
}

/* Is there a frame object at this address that is being evaluated? */
static bool
frame_runs(uintptr_t at)
{
    struct frame f;
    struct code c;
    uintptr_t type;
    return mem_word(at + offsetof(PyObject, ob_type), &type) == 0
           && type == (uintptr_t)&PyFrame_Type
           && frame_read(at, &f) == 0 && f.owner == 0 && f.runs
           && code_read(f.code, &c) == 0;
}

/* Is this frame, or frame object, in the stack of a thread state? */
static bool
frame_is_of(uintptr_t tstate, uintptr_t at)
{
    uintptr_t first;
    size_t steps = FRAME_SCAN_LINKS;
    struct frame_stack s;
    if (LAYOUT_FRAME_OBJECTS) {
        return frame_newest(tstate, &first) == 0
               && frame_leads_to(first, at, &steps);
    }
    if (mem_word(tstate + LAYOUT_TSTATE_CHUNK, &first) < 0) {
        return false;
    }
    frame_stack_open(&s, first);
    s.top = s.limit;
    return frame_stack_find(&s, at) == 0;
}

/* Is it in the stack of one of the states that a link leads to? */
static bool
frame_is_of_any(uintptr_t tstate, size_t link, uintptr_t but, uintptr_t at)
{
    struct mem_chain chain = {0, 0, 0};
    while (tstate != 0 && mem_chain_step(&chain, tstate) == 0) {
        if (tstate != but && frame_is_of(tstate, at)) {
            return true;
        }
        if (mem_word(tstate + link, &tstate) < 0) {
            return false;
        }
    }
    return false;
}

/* Does this frame, or frame object, belong to another thread state: of
   another thread, or of another interpreter that this one runs in? */
static bool
frame_is_foreign(const struct frame_walk *w, uintptr_t at)
{
    struct mem_chain chain = {0, 0, 0};
    uintptr_t states, interp = (uintptr_t)PyInterpreterState_Head();
    if (frame_is_of_any(w->tstate, layout.tstate_prev, w->tstate, at)
        || frame_is_of_any(w->tstate, layout.tstate_next, w->tstate, at)) {
        return true;
    }
    while (interp != 0 && mem_chain_step(&chain, interp) == 0
           && mem_word(interp + layout.interp_threads, &states) == 0) {
        if (frame_is_of_any(states, layout.tstate_next, w->tstate, at)) {
            return true;
        }
        if (mem_word(interp + layout.interp_next, &interp) < 0) {
            return false;
        }
    }
    return false;
}

/* pthread_self() of the main thread, 0 if it did not import the module. */
static uintptr_t frame_main_ident;

/* Where is the thread's C stack?  glibc's pthread_t is at the upper end of it,
   but for the main thread. */
static void
frame_find_c_stack(struct frame_walk *w, uintptr_t tstate, uintptr_t sp)
{
    uintptr_t ends[] = {0, platform_main_stack_end()};
    if (mem_word(tstate + layout.tstate_ident, &ends[0]) < 0) {
        ends[0] = 0;
    }
    w->c_stack = sp / sizeof sp * sizeof sp;
    w->c_stack_end = sp + FRAME_SCAN_BYTES;
    for (size_t i = 0; sp != 0 && i < 2; i++) {
        if (ends[i] - sp < w->c_stack_end - sp) {
            w->c_stack_end = ends[i];
        }
    }
    if (sp == 0) {
        /* As far as it goes: below a small one there may be another's. */
        uintptr_t word, page = 4096;
        w->c_stack_end = ends[0] == frame_main_ident ? ends[1] : ends[0];
        w->c_stack = w->c_stack_end;
        while (w->c_stack_end - w->c_stack < FRAME_SCAN_BYTES / 8
               && mem_word(w->c_stack - page, &word) == 0) {
            w->c_stack -= page;
        }
    }
}

/* Is this word worth a try?  A bad one costs a fault, so what lies far from
   the thread state, a frame and a code object is not looked at, and what may
   be the end of a mapping is looked at with the kernel's eyes. */
#define FRAME_REACH ((uintptr_t)1 << 36)

static bool
frame_is_near(uintptr_t at, uintptr_t other)
{
    return at - other + FRAME_REACH <= 2 * FRAME_REACH;
}

static bool
frame_may_begin_page(uintptr_t at)
{
    uintptr_t type;
    const void *place = (const void *)(at + offsetof(PyObject, ob_type));
    return platform_read_self(mem_here->pid, &type, place, sizeof type) == 0
           && type == (uintptr_t)&PyFrame_Type;
}

static bool
frame_is_likely(const struct frame_walk *w, uintptr_t at, uintptr_t frame)
{
    return at % 16 == 0
           && (frame_is_near(at, frame) || frame_is_near(at, w->tstate)
               || frame_is_near(at, w->objects))
           && at - w->c_stack >= w->c_stack_end - w->c_stack
           && (at % 4096 != 0 || frame_may_begin_page(at));
}

/* Has greenlet been loaded, by the paths of the shared objects? */
static bool
frame_has_greenlets(void)
{
    static const char word[] = "greenlet";
    struct mem_chain chain = {0, 0, 0};
    struct link_map map;
    uintptr_t at = platform_all_objects();
    for (; at != 0; at = (uintptr_t)map.l_next) {
        if (mem_chain_step(&chain, at) < 0
            || mem_read(&map, at, sizeof map) < 0) {
            return false;
        }
        size_t matched = 0;
        char c = '\1';
        for (uintptr_t name = (uintptr_t)map.l_name;
             c != '\0' && mem_read(&c, name, 1) == 0; name++) {
            matched = c == word[matched] ? matched + 1 : c == word[0];
            if (word[matched] == '\0') {
                return true;
            }
        }
    }
    return false;
}

/* Do the links not lead to the oldest frame object that the C stack holds, but
   for those of another interpreter that runs this one?  It is near the end.
   A greenlet's do not: behind its oldest frame there are those of the one that
   started it. */
static bool
frame_is_astray(const struct frame_walk *w)
{
    uintptr_t block[64], newest, last = 0;
    size_t links = FRAME_SCAN_LINKS, tries = 0;
    if (frame_newest(w->tstate, &newest) < 0) {
        return true;
    }
    for (size_t n = 1; n <= FRAME_OLDEST_BYTES / sizeof block; n++) {
        if (w->c_stack_end - w->c_stack < n * sizeof block
            || mem_read(block, w->c_stack_end - n * sizeof block,
                        sizeof block) < 0) {
            return false;
        }
        for (size_t i = sizeof block / sizeof *block; i-- > 0; ) {
            if (block[i] == last || !frame_is_likely(w, block[i], newest)
                || !frame_runs(block[i])) {
                continue;
            }
            last = block[i];
            if (frame_leads_to(newest, last, &links)
                || ++tries == FRAME_OLDEST_TRIES) {
                return false;
            }
            if (!frame_is_foreign(w, last)) {
                return links > 0 && !frame_has_greenlets();
            }
        }
    }
    return false;
}

/* Find the newest frame object behind the last one that was seen, by the
   pointers that the evaluation loop left on the C stack: one that does not
   lead to the last one, and leads to the others. */
static int
frame_scan(struct frame_walk *w)
{
    struct frame_words words;
    uintptr_t at, best = 0, rejected = 0;
    uintptr_t last = w->seen_count == 0 ? 1 : w->last;
    size_t links = FRAME_SCAN_LINKS;
    frame_words_open(&words, w->c_stack, w->c_stack_end);
    while (links > 0 && (at = frame_words_next(&words)) != 0) {
        if (at == best || at == rejected || !frame_runs(at)) {
            continue;
        }
        if (!frame_leads_to(at, last, &links)
            && (best == 0 || frame_leads_to(at, best, &links))
            && !frame_is_foreign(w, at)) {
            best = at;
        }
        else {
            rejected = at;
        }
    }
    return best != 0 && frame_read(best, &w->frame) == 0
           && code_read(w->frame.code, &w->code) == 0 ? 0 : -1;
}

/* Does a link to a frame object pass over another one?  Then that one is found
   on the C stack before the one that the link leads to. */
static bool
frame_passes_over(struct frame_walk *w)
{
    struct frame_words words;
    uintptr_t at, newest, to = w->frame.at;
    size_t links = FRAME_SCAN_LINKS;
    if (w->found == 0 || w->seen_count >= FRAME_MAX
        || frame_newest(w->tstate, &newest) < 0) {
        return false;
    }
    frame_words_open(&words, w->found, w->c_stack_end);
    while ((at = frame_words_next(&words)) != 0) {
        uintptr_t *known = &w->known[at / 16 % FRAME_KNOWN];
        if (at == to) {
            /* The block is looked at again: the next one may be in it. */
            w->found = words.at - words.filled * sizeof at
                       + (words.used - 1) * sizeof at;
            *known = at;
            return false;
        }
        if (at != *known && frame_is_likely(w, at, to)) {
            *known = at;
            if (frame_runs(at) && !frame_was_seen(w, at)
                && !frame_leads_to(newest, at, &links) && links > 0
                && !frame_is_foreign(w, at)) {
                return true;
            }
        }
    }
    return false;
}

/* Read the frame of the generator, coroutine or asynchronous generator at
   this address.  Returns -1 if there is none, or it does not run. */
static int
frame_of_generator(uintptr_t at, struct frame *f)
{
    uintptr_t type;
    char state;
    return mem_word(at + offsetof(PyObject, ob_type), &type) == 0
           && (type == (uintptr_t)&PyGen_Type
               || type == (uintptr_t)&PyCoro_Type
               || type == (uintptr_t)&PyAsyncGen_Type)
           && mem_read(&state, at + layout.gen_state, 1) == 0
           && state == LAYOUT_GEN_RUNS
           && frame_read(at + layout.gen_frame, f) == 0
           && f->owner == LAYOUT_OWNER_GENERATOR ? 0 : -1;
}

/* Was this frame called from that one, perhaps from C? */
static bool
frame_is_called_by(struct frame f, uintptr_t caller)
{
    struct mem_chain chain = {0, 0, 0};
    while (f.previous != caller) {
        if (mem_chain_step(&chain, f.at) < 0 || frame_read(f.previous, &f) < 0
            || !frame_is_shim(&f)) {
            return false;
        }
    }
    return true;
}

/* Find, among some words, the generator that a frame runs: one whose frame
   was called by it, and was not passed. */
static int
frame_find_generator(const struct frame_walk *w, struct frame_words *words,
                     uintptr_t caller, struct frame *found)
{
    uintptr_t at;
    while ((at = frame_words_next(words)) != 0) {
        if (at + layout.gen_frame != w->last
            && frame_of_generator(at, found) == 0
            && !frame_was_seen(w, found->at)
            && frame_is_called_by(*found, caller)) {
            return 0;
        }
    }
    return -1;
}

/* Find the generator that a frame runs among its values, where it lies while
   it is iterated over, awaited, or passed to a C function. */
static int
frame_find_value(const struct frame_walk *w, const struct frame *f,
                 const struct code *c, struct frame *found)
{
    struct frame_words words;
    intptr_t depth = f->depth < 0 ? c->locals + c->stack_size : f->depth;
    if (depth <= c->locals || depth > c->locals + c->stack_size) {
        return -1;
    }
    uintptr_t values = f->at + LAYOUT_FRAME_HEAD;
    frame_words_open(&words, values + sizeof values * (uintptr_t)c->locals,
                     values + sizeof values * (uintptr_t)depth);
    return frame_find_generator(w, &words, f->at, found);
}

/* Go from a frame to the newest of the generators that it runs, in each other.
   C functions that run one keep it on the C stack.  Returns -1 if there is
   none. */
static int
frame_climb(const struct frame_walk *w, struct frame *f, struct code *c,
            bool c_stack)
{
    struct mem_chain chain = {0, 0, 0};
    struct frame_words words;
    struct frame found;
    struct code code;
    int result = -1;
    for (;;) {
        frame_words_open(&words, w->c_stack, w->c_stack_end);
        if ((frame_find_value(w, f, c, &found) < 0
             && (!c_stack
                 || frame_find_generator(w, &words, f->at, &found) < 0))
            || mem_chain_step(&chain, found.at) < 0
            || code_read(found.code, &code) < 0) {
            return result;
        }
        *f = found;
        *c = code;
        result = 0;
    }
}

/* Find the newest frame behind the last one: the first one of the data stack
   that was not passed, or a generator that it runs. */
static int
frame_find_behind(const struct frame_walk *w, struct frame *f, struct code *c,
                  uintptr_t *landing)
{
    if (frame_stack_below(&w->stack, f, c) < 0) {
        return -1;
    }
    *landing = f->at;
    frame_climb(w, f, c, true);
    return 0;
}

/* Follow shims and generators' frames to the frame of a data stack.  Returns
   -1 if they do not lead there, 1 if they are the end of a stack. */
static int
frame_land(struct frame *f)
{
    struct mem_chain chain = {0, 0, 0};
    while (frame_is_shim(f) || f->owner == LAYOUT_OWNER_GENERATOR) {
        if (f->previous == 0) {
            return 1;
        }
        if (mem_chain_step(&chain, f->at) < 0
            || frame_read(f->previous, f) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Is the top of the data stack damaged?  Then frames lie above it. */
static bool
frame_top_is_wrong(uintptr_t tstate, const struct frame_stack *s,
                   uintptr_t top)
{
    struct frame f;
    uintptr_t newest;
    return frame_newest(tstate, &newest) == 0 && frame_read(newest, &f) == 0
           && frame_land(&f) == 0 && f.at >= top && f.at < s->limit;
}

/* Look behind damaged links from now on: for a crash only, when the thread
   does not run.  sp is its stack pointer, 0 where it is not known.  Returns
   -1 if there is nothing to be found. */
static int
frame_bridge_begin(struct frame_walk *w, uintptr_t tstate, uintptr_t sp)
{
    uintptr_t chunk, top, newest;
    frame_find_c_stack(w, tstate, sp);
    if (LAYOUT_FRAME_OBJECTS) {
        if (frame_newest(tstate, &newest) < 0
            || mem_word(newest + layout.frame_code, &w->objects) < 0) {
            w->objects = 0;
        }
        w->bridges = w->c_stack < w->c_stack_end;
        w->suspect = w->bridges && frame_is_astray(w);
    }
    else if (mem_word(tstate + LAYOUT_TSTATE_CHUNK, &chunk) == 0
             && mem_word(tstate + LAYOUT_TSTATE_TOP, &top) == 0) {
        frame_stack_open(&w->stack, chunk);
        if (top >= w->stack.base && top <= w->stack.limit
            && !frame_top_is_wrong(tstate, &w->stack, top)) {
            frame_stack_pass(&w->stack, top);
            w->bridges = w->stack.base != 0;
        }
    }
    if (w->bridges && frame_newest(tstate, &w->next) < 0) {
        w->next = 1;            /* a link that leads nowhere */
    }
    return w->bridges ? 0 : -1;
}

/* Find the frame behind a link that leads nowhere, to what is no frame, or
   past frames that are in use.  Where there is none, the link is taken as it
   is. */
static enum frame_walk_result
frame_bridge(struct frame_walk *w, enum frame_walk_result result)
{
    struct frame f;
    struct code c;
    if (LAYOUT_FRAME_OBJECTS) {
        uintptr_t at = result == FRAME_WALK_ON ? w->frame.at : 0;
        w->bridges = false;     /* once: what it finds must be new */
        if (frame_scan(w) < 0) {
            return w->seen_count == 0 || result == FRAME_WALK_END
                   ? result : FRAME_WALK_CUT;
        }
        w->bridged = w->frame.at != at;
        return FRAME_WALK_ON;
    }
    if (w->stack.base == 0) {
        return result == FRAME_WALK_END ? result : FRAME_WALK_CUT;
    }
    if (frame_find_behind(w, &f, &c, &w->landing) < 0) {
        return result;
    }
    if (result != FRAME_WALK_ON || f.at != w->frame.at) {
        w->bridged = true;
        w->frame = f;
        w->code = c;
    }
    if (f.at == w->landing) {
        frame_stack_pass(&w->stack, f.at);
        w->landing = 0;
    }
    return FRAME_WALK_ON;
}

/* Is this frame of the data stack in use?  One that has not begun, or has
   ended and whose locals are being freed, has no values.  The trampoline of a
   specialised __init__ has one, but no line. */
static bool
frame_is_used(const struct frame *f, const struct code *c)
{
    return (f->depth == -1 || (f->depth > c->locals
                               && f->depth <= c->locals + c->stack_size))
           && frame_line(f, c) >= 0;
}

/* Does a link to a frame of the data stack pass over another one that is in
   use?  Calls within the evaluation loop lie side by side.  Between others
   one frame may lie that has just ended. */
static bool
frame_skips(const struct frame_walk *w, const struct frame *to)
{
    struct frame_stack s = w->stack;
    struct frame f;
    struct code c;
    if (code_read(to->code, &c) < 0 || to->at + c.frame_size == s.top) {
        return false;
    }
    while (s.base != 0 && frame_stack_below(&s, &f, &c) == 0
           && f.at != to->at) {
        size_t links = FRAME_SCAN_LINKS;
        if ((w->direct && to->at == w->frame.at)
            || (frame_is_used(&f, &c)
                && frame_leads_to(f.at, to->at, &links))) {
            return true;
        }
        frame_stack_pass(&s, f.at);
    }
    return false;
}

/* Is a generator's frame the next one, though a link behind it is damaged?
   Then the frame that is found there knows the generator; or, where that link
   leads nowhere, a C function. */
static bool
frame_is_ours(const struct frame_walk *w, uintptr_t at, bool leads_nowhere)
{
    struct frame_words words;
    struct frame f;
    struct code c;
    uintptr_t word, landing, generator = at - layout.gen_frame;
    if (frame_find_behind(w, &f, &c, &landing) == 0) {
        frame_words_open(&words, f.at, f.at + c.frame_size);
        while ((word = frame_words_next(&words)) != 0) {
            if (word == generator) {
                return true;
            }
        }
    }
    frame_words_open(&words, w->c_stack, w->c_stack_end);
    while (leads_nowhere && (word = frame_words_next(&words)) != 0) {
        if (word == generator) {
            return true;
        }
    }
    return false;
}

/* Does a frame that is reached say that another one than the last one was
   called from it: that it waits for C though the last one was not called from
   there, or that a generator runs? */
static bool
frame_calls_other(const struct frame_walk *w)
{
    struct frame f;
    if (w->code.at == 0 || w->frame.depth == w->code.locals) {
        return false;
    }
    if (frame_find_value(w, &w->frame, &w->code, &f) < 0) {
        return w->direct && w->frame.depth == -1;
    }
    struct code c;
    if (w->direct || code_read(f.code, &c) < 0) {
        return w->direct;
    }
    frame_climb(w, &f, &c, false);
    return f.depth == -1
           || (LAYOUT_KEEPS_DEPTH && frame_is_used(&f, &c)
               && !(w->last == 0 && f.previous == w->frame.at));
}

/* May the frame that a link names be there?  A shim, which is not shown, may
   lie anywhere; a generator's frame too, but it leads to this thread's data
   stack, or ends it. */
static bool
frame_is_next(struct frame_walk *w)
{
    if (frame_is_shim(&w->frame)) {
        return true;
    }
    if (frame_calls_other(w)) {
        return false;
    }
    if (w->landing == 0
        && (w->code.at == 0 || w->frame.owner != LAYOUT_OWNER_THREAD
            || w->frame.at + w->code.frame_size != w->stack.top)) {
        struct frame f = w->frame;
        struct frame_stack s = w->stack;
        struct code c;
        int found = frame_land(&f);
        bool is_in_stack = found == 0 && frame_stack_find(&s, f.at) == 0;
        if (is_in_stack && !frame_skips(w, &f)) {
            w->landing = f.at;
        }
        else if (w->stack.base != 0 || found < 0) {
            return w->frame.owner == LAYOUT_OWNER_GENERATOR
                   && frame_is_ours(w, w->frame.at, !is_in_stack);
        }
        else {
            /* A greenlet's stack may go on in its parent's. */
            return found == 1 || (code_read(f.code, &c) == 0
                                  && !frame_is_foreign(w, f.at));
        }
    }
    if (w->frame.owner == LAYOUT_OWNER_GENERATOR) {
        return true;
    }
    w->landing = 0;
    return frame_stack_find(&w->stack, w->frame.at) == 0;
}

/* May a link lead to what was found there? */
static bool
frame_is_sound(struct frame_walk *w, enum frame_walk_result result)
{
    if (result == FRAME_WALK_END) {
        return LAYOUT_FRAME_OBJECTS ? w->seen_count > 0 && !w->suspect
                                    : w->stack.base == 0;
    }
    if (result != FRAME_WALK_ON || frame_was_seen(w, w->frame.at)) {
        return false;
    }
    if (LAYOUT_FRAME_OBJECTS) {
        return w->frame.owner == 0
               && !(w->suspect && frame_is_foreign(w, w->frame.at))
               && !frame_passes_over(w);
    }
    return frame_is_next(w);
}

/* Read the frame that the last one names, and its code object. */
static enum frame_walk_result
frame_follow(struct frame_walk *w)
{
    if (w->next == 0) {
        return FRAME_WALK_END;
    }
    if (mem_chain_step(&w->chain, w->next) < 0
        || frame_read(w->next, &w->frame) < 0) {
        return FRAME_WALK_CUT;
    }
    /* In a recursion the code object is known. */
    if (!frame_is_shim(&w->frame)
        && (w->code.at != w->frame.code || w->code.at == 0)
        && code_read(w->frame.code, &w->code) < 0) {
        w->code.at = 0;
    }
    return FRAME_WALK_ON;
}

/* Go to the next frame, and tell whether it is one that is shown. */
static enum frame_walk_result
frame_walk_step(struct frame_walk *w, bool *shown)
{
    struct mem_chain chain = w->chain;
    enum frame_walk_result result = frame_follow(w);
    if (w->bridges && !frame_is_sound(w, result)) {
        uintptr_t at = result == FRAME_WALK_ON ? w->frame.at : 0;
        result = frame_bridge(w, result);
        if (result == FRAME_WALK_ON && w->frame.at != at) {
            /* What was refused may come later. */
            w->chain = chain;
            result = mem_chain_step(&w->chain, w->frame.at) < 0
                     ? FRAME_WALK_CUT : FRAME_WALK_ON;
        }
    }
    if (result != FRAME_WALK_ON) {
        return result;
    }
    w->next = w->frame.previous;
    w->seen[w->seen_count++ % FRAME_MAX] = w->frame.at;
    *shown = !frame_is_shim(&w->frame);
    w->direct = w->frame.owner == LAYOUT_OWNER_THREAD && !w->frame.entry;
    if (*shown) {
        w->last = w->frame.at;
    }
    if (*shown && w->code.at == 0) {
        return ++w->strangers > FRAME_STRANGERS_MAX ? FRAME_WALK_CUT
                                                    : FRAME_WALK_ON;
    }
    if (*shown) {
        w->strangers = 0;
        *shown = !frame_is_incomplete(&w->frame, &w->code);
    }
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

/* The evaluation loops of a thread state, the newest first.  Links are taken
   as they are: a loop has the frames that it runs, or is not found. */
struct frame_loops {
    struct frame_walk walk;     /* behind the last frame of this loop */
    struct frame_walk start;    /* before its first */
    size_t shown;               /* of its frames */
    uintptr_t place;            /* in its C frame; 0: not known */
    uintptr_t link;             /* the next loop's place, 3.10 and 3.11 */
    enum frame_walk_result result;    /* FRAME_WALK_ON: there is a loop */
};

/* Is the frame that was reached this loop's first?  A generator that is thrown
   into, and hands it on, has none, though in 3.11 it is marked: the next loop
   then has another newest frame than the one behind it. */
static bool
frame_loops_is_first(const struct frame_loops *l)
{
    uintptr_t loop, newest;
    if (!l->walk.frame.entry || !LAYOUT_HAS_CFRAME || l->link == 0
        || l->walk.frame.owner != LAYOUT_OWNER_GENERATOR) {
        return l->walk.frame.entry;
    }
    return mem_word(l->link + LAYOUT_LOOP_PREVIOUS, &loop) < 0
           || mem_word(loop + LAYOUT_CFRAME_FRAME, &newest) < 0
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
        last = LAYOUT_LOOP_SHIMS ? frame_is_shim(&l->walk.frame)
                                 : frame_loops_is_first(l);
    }
    if (LAYOUT_LOOP_SHIMS) {
        l->place = last ? l->walk.frame.at : 0;
    }
    else if (l->link != 0
             && mem_word(l->link + LAYOUT_LOOP_PREVIOUS, &l->link) < 0) {
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
    if (LAYOUT_TSTATE_LOOP != 0
        && mem_word(tstate + LAYOUT_TSTATE_LOOP, &l->link) < 0) {
        l->link = 0;
    }
    if (l->result == FRAME_WALK_ON) {
        frame_loops_next(l);
    }
}

/* Lines already in the buffer that later frames repeat: recursion, and threads
   that wait in the same place.  A line is known by all that it was made of,
   so that another code object at the same address is not taken for it. */
#define FRAME_LINES 128

struct frame_line {
    uintptr_t code, instr, name, filename, line_table;
    int traced_line;
    uint32_t at, length;        /* in the buffer; a length of 0: none */
};

struct frame_memory {
    size_t flushes;
    uintptr_t filename;         /* the last one, and where it stands */
    size_t name, name_length;
    bool unknown;               /* a ??? was written: it may have changed */
    struct frame_line lines[FRAME_LINES];
};

/* Forget what no longer stands in the buffer. */
static void
frame_memory_check(struct frame_memory *m, const struct out *o)
{
    if (m->flushes != o->flushes) {
        memset(m->lines, 0, sizeof m->lines);
        m->name_length = 0;
        m->flushes = o->flushes;
    }
}

/* The place where a frame's line is kept, filled in but for what it is kept
   for; *known tells whether that is there. */
static struct frame_line *
frame_memory_find(struct frame_memory *m, const struct frame *f,
                  const struct code *c, bool *known)
{
    struct frame_line *line =
        &m->lines[(f->instr / 2 + c->at / 64) % FRAME_LINES];
    *known = line->length > 0 && line->code == c->at
             && line->instr == f->instr && line->name == c->name
             && line->filename == c->filename
             && line->line_table == c->line_table
             && line->traced_line == f->traced_line;
    if (!*known) {
        *line = (struct frame_line) {
            c->at, f->instr, c->name, c->filename, c->line_table,
            f->traced_line, 0, 0,
        };
    }
    return line;
}

/* A file name with its quotes, or ???. */
static void
frame_write_filename(struct out *o, uintptr_t filename,
                     struct frame_memory *m)
{
    size_t start = o->used;
    if (filename == m->filename && m->name_length > 0) {
        out_bytes(o, o->text + m->name, m->name_length);
        return;
    }
    out_char(o, '"');
    if (str_write(o, filename) < 0) {
        o->used = start;
        out_text(o, "???");
        m->unknown = true;
        return;
    }
    out_char(o, '"');
    m->filename = filename;
    m->name = start;
    m->name_length = o->used - start;
}

/* One line of a traceback. */
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
    bool known;
    frame_memory_check(m, o);
    struct frame_line *kept = frame_memory_find(m, f, c, &known);
    if (known) {
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
    if (str_write(o, c->name) < 0) {
        out_text(o, "???");
        m->unknown = true;
    }
    out_char(o, '\n');
    kept->at = (uint32_t)start;
    kept->length = (uint32_t)(o->used - start);
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
    if (ring->count > FRAME_OLDEST) {
        out_room(o, OUT_LINE_MAX);
        out_text(o, "  ... ");
        out_decimal(o, ring->count - FRAME_OLDEST);
        out_text(o, " frames not shown ...\n");
    }
    size_t first = ring->count > FRAME_OLDEST ? ring->count - FRAME_OLDEST
                                              : 0;
    for (size_t i = first; i < ring->count; i++) {
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
#define FRAME_GAP "  <a damaged link: frames may be missing here>\n"

/* Do links of a crashed thread that look sound pass over frame objects?  Only
   a search of its C stack tells, which takes longer than the report. */
static bool
frame_some_passed_over(uintptr_t tstate, uintptr_t sp)
{
    struct frame_walk w;
    frame_walk_begin(&w, tstate);
    if (!layout.frames_known || sp == 0
        || frame_bridge_begin(&w, tstate, sp) < 0 || w.suspect
        || frame_has_greenlets()) {
        return false;
    }
    w.found = w.c_stack;
    while (w.seen_count < FRAME_MAX && frame_follow(&w) == FRAME_WALK_ON
           && w.frame.owner == 0 && !frame_was_seen(&w, w.frame.at)) {
        if (frame_passes_over(&w)) {
            return true;
        }
        w.next = w.frame.previous;
        w.last = w.seen[w.seen_count++] = w.frame.at;
    }
    return false;
}

/* Write a thread's Python stack, the newest frame first.  Of more than 100
   frames: 90, a count, the 10 oldest; or, as the standard library's module
   does, 100 and "  ...".  Returns false if it was cut short, or
   has something unknown in it: in a thread that runs, it may be known now. */
static bool
frame_write_stack(struct out *o, uintptr_t tstate, bool show_oldest,
                  uintptr_t sp, bool again, struct frame_memory *m)
{
    struct frame_walk w;
    struct frame_ring ring;
    m->unknown = false;
    ring.count = 0;
    size_t shown = 0;
    size_t newest = show_oldest ? FRAME_NEWEST : FRAME_MAX;
    out_room(o, OUT_LINE_MAX);
    if (!layout.frames_known) {
        out_text(o, FRAME_UNREADABLE);
        return true;
    }
    enum frame_walk_result result = frame_walk_begin(&w, tstate);
    if (show_oldest && frame_bridge_begin(&w, tstate, sp) == 0) {
        result = FRAME_WALK_ON;
        w.found = again ? w.c_stack : 0;
        if (again && frame_scan(&w) == 0 && w.frame.at != w.next) {
            w.next = w.frame.at;
            w.bridged = true;
        }
    }
    while (result == FRAME_WALK_ON
           && (result = frame_walk_next(&w)) == FRAME_WALK_ON) {
        if (w.bridged) {
            out_room(o, OUT_LINE_MAX);
            out_text(o, shown < newest ? FRAME_GAP : "");
            w.bridged = false;
            m->unknown = true;  /* or the thread runs, and has moved */
        }
        if (shown++ < newest) {
            frame_write(o, &w.frame, &w.code, m);
        }
        else if (show_oldest) {
            ring.frames[ring.count++ % FRAME_OLDEST] = w.frame;
        }
        else {
            out_text(o, LAYOUT_MARKS_DEEP ? "  ...\n" : "");
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
