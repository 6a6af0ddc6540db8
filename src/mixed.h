/* mixed: the C stack of a crash with the Python frames in it, from 3.11 on.

   Each evaluation loop keeps something on the C stack that its Python frames
   lead to: in 3.11 a struct in a list of such structs, later the shim behind
   its frames.  The C frame that this lies in is the loop's, whatever the
   symbols are, and however the compiler has cut the function into parts. */

#ifndef FAULTHANDLER_MIXED_H
#define FAULTHANDLER_MIXED_H

#include "frame.h"
#include "native.h"
#include "out.h"
#include "platform.h"
#include "symbol.h"
#include "unwind.h"

/* The newest lines that are shown of a deep stack, and the oldest. */
#define MIXED_NEWEST 100
#define MIXED_OLDEST (NATIVE_SHOWN - MIXED_NEWEST)
#define MIXED_STATES 8

#define MIXED_TITLE "C and Python stack (most recent call first):\n"
#define MIXED_LOST "  <these Python frames are not found in the C stack>\n"

struct mixed {
    struct out *o;
    struct frame_memory *lines;
    struct native_seen *seen;
    const struct native_stack *stack;
    size_t shown;               /* lines that came before this one, */
    size_t total;               /* and of all; 0: they are being counted */
    bool writes;                /* not before all is counted and looked up */
    size_t states;              /* several interpreters may share the stack */
    struct frame_loops loops[MIXED_STATES];
};

static struct mixed mixed_now;

/* Is the next line one of those that are shown? */
static bool
mixed_shows(struct mixed *m)
{
    size_t i = m->shown++;
    if (m->total <= NATIVE_SHOWN) {
        return i < m->total;
    }
    if (i == MIXED_NEWEST && m->writes) {
        out_hidden(m->o, m->total - NATIVE_SHOWN);
    }
    return i < MIXED_NEWEST
           || (i >= m->total - MIXED_OLDEST && i < m->total);
}

/* Ask for a C frame to be looked up with the others, or write it. */
static void
mixed_native(struct mixed *m, const struct unwind_frame *frame)
{
    if (!mixed_shows(m)) {
        return;
    }
    if (m->writes) {
        symbol_write(m->o, frame, m->seen);
    }
    else {
        symbol_ask(frame);
    }
}

/* Count or write the Python frames of a loop. */
static void
mixed_python(struct mixed *m, struct frame_loops *loop)
{
    struct frame_walk *w = &loop->start;
    for (size_t i = 0; i < loop->shown; i++) {
        if (frame_walk_next(w) != FRAME_WALK_ON) {
            return;
        }
        if (mixed_shows(m) && m->writes) {
            frame_write(m->o, &w->frame, &w->code, m->lines);
        }
    }
}

static void
mixed_mark(struct mixed *m, const char *mark)
{
    if (m->writes) {
        out_room(m->o, OUT_LINE_MAX);
        out_text(m->o, mark);
    }
}

/* Return the loop that a C frame is, or NULL.  The last frame is none: where
   it ends is not known. */
static struct frame_loops *
mixed_find(struct mixed *m, size_t i)
{
    const struct unwind_frame *frame = &m->stack->frames[i];
    for (size_t j = 0; j < m->states && i + 1 < m->stack->count; j++) {
        struct frame_loops *loop = &m->loops[j];
        if (loop->result == FRAME_WALK_ON && loop->place >= frame[0].sp
            && loop->place < frame[1].sp) {
            return loop;
        }
    }
    return NULL;
}

/* Write the frames of a loop that belongs to no C frame.  From 3.15 on each
   stack ends with such a loop, which has no frame to show. */
static void
mixed_lost(struct mixed *m, struct frame_loops *loop, bool *marked)
{
    if (loop->shown > 0 && !*marked) {
        mixed_mark(m, MIXED_LOST);
        *marked = true;
    }
    mixed_python(m, loop);
}

/* What is left of the Python stacks follows the C stack. */
static void
mixed_rest(struct mixed *m)
{
    bool marked = m->stack->mark != NULL;
    mixed_mark(m, marked ? m->stack->mark : "");
    for (size_t i = 0; i < m->states; i++) {
        struct frame_loops *loop = &m->loops[i];
        for (; loop->result == FRAME_WALK_ON; frame_loops_next(loop)) {
            mixed_lost(m, loop, &marked);
        }
        if (loop->result == FRAME_WALK_CUT) {
            mixed_lost(m, loop, &marked);
            mixed_mark(m, FRAME_CUT);
        }
    }
}

/* Go through the two stacks as one, from the newest frame on.  The first C
   frame is shown even if it is an evaluation loop: it is what crashed. */
static void
mixed_pass(struct mixed *m, const uintptr_t *states)
{
    m->shown = 0;
    for (size_t i = 0; i < m->states; i++) {
        m->loops[i].shown = 0;
        frame_loops_begin(&m->loops[i], states[i]);
    }
    for (size_t i = 0; i < m->stack->count; i++) {
        struct frame_loops *loop = mixed_find(m, i);
        if (loop == NULL || loop->shown == 0 || i == 0) {
            mixed_native(m, &m->stack->frames[i]);
        }
        if (loop != NULL) {
            mixed_python(m, loop);
            frame_loops_next(loop);
        }
    }
    mixed_rest(m);
}

/* Write a C stack with the Python frames of these thread states in it.  One at
   a time: that of a fatal report. */
static void
mixed_write(struct out *o, const struct native_stack *stack,
            const uintptr_t *states, size_t count, struct frame_memory *lines,
            int64_t until, struct native_seen *seen)
{
    struct mixed *m = &mixed_now;
    m->o = o;
    m->lines = lines;
    m->seen = seen;
    m->stack = stack;
    m->states = count < MIXED_STATES ? count : MIXED_STATES;
    m->total = 0;
    m->writes = false;
    mixed_pass(m, states);      /* counts */
    m->total = m->shown;
    symbol_forget();
    mixed_pass(m, states);      /* asks */
    if (!out_has_failed(o)) {
        symbol_look_up(until);
    }
    m->writes = true;
    mixed_pass(m, states);
}

#endif
