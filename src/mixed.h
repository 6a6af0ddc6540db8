/* mixed: the C stack of a crash with the Python frames in it. */

#ifndef FAULTHANDLER_MIXED_H
#define FAULTHANDLER_MIXED_H

#include "cpu.h"
#include "cpython.h"
#include "frame.h"
#include "mem.h"
#include "native.h"
#include "out.h"
#include "platform.h"
#include "symbol.h"
#include "unwind.h"

/* Python frames among the C frames.  Each evaluation loop keeps something on
   the C stack that its Python frames lead to: until 3.9 nothing, then a struct
   in the list of such structs, and from 3.12 on the shim behind its frames.
   The C frame that this lies in is the loop's, whatever the symbols are and
   however the compiler has cut the function into parts.  Before 3.10 loops
   are told by their code; each runs one frame. */

#define MIXED_NEWEST 100
#define MIXED_OLDEST 28
#define MIXED_STATES 8
#define MIXED_GAP "  <C frames may be missing here>\n"

/* The code of the evaluation loop; where the part of it begins that called
   enable(), which Debian's compiler puts elsewhere. */
static struct platform_code mixed_loop;
static uintptr_t mixed_loop_part;

/* A crash's C stack.  As many frames as fit into the usual stack of 8 MiB:
   where it overflowed, they are small. */
#define MIXED_MAX (512 * 1024)
#define MIXED_FEW (4 * 1024)

static struct unwind_frame *mixed_frames;      /* mapped at the crash, or */
static struct unwind_frame mixed_few[MIXED_FEW];

struct mixed {
    struct out *o;
    struct frame_memory *lines;
    const struct unwind_frame *frames;
    size_t count, max;          /* of the C frames */
    bool nowhere;               /* the fault was a call of what is no code, */
    uintptr_t target;           /* to be shown above the frames */
    bool whole;                 /* the frames go to the thread's start */
    bool full;                  /* there are more than were stored */
    uintptr_t fp;               /* the frame pointer at their end */
    bool newborn;               /* the first frame's loop has no frame yet */
    size_t unplaced;            /* frames, where no loop can be told */
    uintptr_t loop_size;        /* of its C frame, where loops are missed */
    uintptr_t told_pc;          /* the last one that was looked at, */
    bool told;                  /* and whether it is in the loop */
    size_t shown;               /* lines that came before this one, */
    size_t total;               /* and of all; 0: they are being counted */
    size_t strays;              /* loops whose frames are not known */
    size_t lost;                /* frames whose loop was not found */
    bool writes;                /* not before all is counted and looked up */
    struct symbol_lookup symbols;
    struct native_seen *seen;
    size_t wanted_count;
    struct native_frame wanted[MIXED_NEWEST + MIXED_OLDEST];
    size_t states;
    struct frame_loops loops[MIXED_STATES];
};

static struct mixed mixed_now;

/* Is the next frame one of those that are written? */
static bool
mixed_shows(struct mixed *m)
{
    size_t i = m->shown++;
    size_t max = MIXED_NEWEST + MIXED_OLDEST;
    if (m->total <= max) {
        return i < m->total;
    }
    if (i == MIXED_NEWEST && m->writes) {
        out_room(m->o, OUT_LINE_MAX);
        out_text(m->o, "  ... ");
        out_decimal(m->o, m->total - max);
        out_text(m->o, m->full ? " or more" : "");
        out_text(m->o, " frames not shown ...\n");
    }
    return i < MIXED_NEWEST
           || (i >= m->total - MIXED_OLDEST && i < m->total);
}

/* A C frame that is shown: noted to be looked up with the others, or
   written. */
static void
mixed_c(struct mixed *m, uintptr_t pc, bool is_return)
{
    struct native_frame frame = {pc, is_return};
    if (!mixed_shows(m)) {
        return;
    }
    if (m->writes) {
        native_see(m->seen, pc);
        symbol_write_lines(m->o, &m->symbols, &frame);
    }
    else {
        m->wanted[m->wanted_count++] = frame;
    }
}

/* The Python frames of a loop. */
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

/* The size of a C frame, 0 if it is not known. */
static uintptr_t
mixed_size(const struct mixed *m, size_t i)
{
    const uintptr_t mask = ~(uintptr_t)UNWIND_BITS;
    return i + 1 < m->count ? (m->frames[i + 1].sp & mask)
                              - (m->frames[i].sp & mask) : 0;
}

/* Is this address in a C frame, which is not the last one? */
static bool
mixed_holds(const struct unwind_frame *frame, uintptr_t place)
{
    return place >= (frame->sp & ~(uintptr_t)UNWIND_BITS)
           && place < (frame[1].sp & ~(uintptr_t)UNWIND_BITS);
}

/* Is this C frame an evaluation loop, by its code, or by the size of its frame
   where the code is in a part that is not known? */
static bool
mixed_is_loop(struct mixed *m, size_t i)
{
    const struct unwind_frame *frame = &m->frames[i];
    uintptr_t pc = frame->pc - (frame->sp & UNWIND_INTERRUPTED ? 0 : 1);
    if (pc != m->told_pc) {
        m->told_pc = pc;
        m->told = (pc >= mixed_loop.start && pc < mixed_loop.end)
                  || (mixed_loop_part != 0
                      && unwind_find_function(pc) == mixed_loop_part);
    }
    return m->told
           || (m->loop_size != 0 && mixed_size(m, i) == m->loop_size
               && native_record(pc) == native_record(mixed_loop.start));
}

/* The loop that a C frame is, NULL if it is none.  Several thread states may
   have theirs on one C stack: that of a subinterpreter comes first. */
static struct frame_loops *
mixed_find(struct mixed *m, size_t i)
{
    const struct unwind_frame *frame = &m->frames[i];
    for (size_t j = 0; j < m->states; j++) {
        struct frame_loops *loop = &m->loops[j];
        if (loop->result != FRAME_WALK_ON) {
            continue;
        }
        if (!(!CPYTHON_FRAME_OBJECTS) && mixed_is_loop(m, i)) {
            return i == 0 && m->newborn ? NULL : loop;
        }
        if (i + 1 < m->count && mixed_holds(frame, loop->place)) {
            return loop;
        }
    }
    return NULL;
}

/* One C frame, or what it runs.  The first one's line is what crashed, and is
   shown even if that is an evaluation loop. */
static void
mixed_frame(struct mixed *m, size_t i)
{
    const struct unwind_frame *frame = &m->frames[i];
    struct frame_loops *loop = mixed_find(m, i);
    if (frame->sp & UNWIND_AFTER_GAP && mixed_shows(m) && m->writes) {
        out_room(m->o, OUT_LINE_MAX);
        out_text(m->o, MIXED_GAP);
    }
    if (loop == NULL || loop->shown == 0 || (i == 0 && !m->nowhere)) {
        mixed_c(m, frame->pc, !(frame->sp & UNWIND_INTERRUPTED));
    }
    if (loop != NULL) {
        mixed_python(m, loop);
        frame_loops_next(loop);
    }
    else if (i > 0 && mixed_is_loop(m, i)) {
        m->strays++;
    }
}

/* Python frames whose loop was not found.  Where the C stack was cut, theirs
   are behind the cut. */
static void
mixed_rest(struct mixed *m)
{
    if (!m->whole && m->writes) {
        out_room(m->o, OUT_LINE_MAX);
        out_text(m->o, "  <the rest of the C stack cannot be read>\n");
    }
    for (size_t i = 0; i < m->states; i++) {
        struct frame_loops *loop = &m->loops[i];
        for (; loop->result == FRAME_WALK_ON; frame_loops_next(loop)) {
            if (m->whole) {
                m->lost += loop->shown;
            }
            else {
                mixed_python(m, loop);
            }
        }
        m->lost += loop->result == FRAME_WALK_CUT ? loop->shown : 0;
    }
}

/* Go through the two stacks as one, from the newest frame on. */
static void
mixed_pass(struct mixed *m, const uintptr_t *states)
{
    for (size_t i = 0; i < m->states; i++) {
        frame_loops_begin(&m->loops[i], states[i]);
    }
    m->shown = m->strays = m->lost = 0;
    if (m->nowhere) {
        mixed_c(m, m->target, false);
    }
    for (size_t i = 0; i < m->count && m->frames[i].pc != 0; i++) {
        mixed_frame(m, i);
    }
    mixed_rest(m);
}

/* How many C frames are loops.  Notes the size of the first one. */
static size_t
mixed_count_loops(struct mixed *m, uintptr_t *size)
{
    size_t loops = 0;
    for (size_t i = 0; i < m->count && m->frames[i].pc != 0; i++) {
        if (mixed_is_loop(m, i)) {
            *size = *size == 0 ? mixed_size(m, i) : *size;
            loops++;
        }
    }
    return loops;
}

/* Before 3.10, may the k-th loop be taken for the k-th frame's?  There may be
   more loops: the newest has no frame yet, or the oldest are of a greenlet
   that does not run.  There may be fewer, where the compiler has split the
   function: then all C frames of that size must make up for it. */
static bool
mixed_agrees(struct mixed *m, const uintptr_t *states)
{
    uintptr_t size = 0;
    size_t frames = 0, loops = mixed_count_loops(m, &size);
    for (size_t i = 0; i < m->states; i++) {
        struct frame_loops *loop = &m->loops[i];
        for (frame_loops_begin(loop, states[i]); loop->result == FRAME_WALK_ON;
             frame_loops_next(loop)) {
            frames++;
        }
    }
    if (m->whole && loops < frames) {
        m->loop_size = size;
        bool agrees = mixed_count_loops(m, &size) == frames;
        m->unplaced = agrees ? 0 : frames;
        return agrees;
    }
    m->newborn = !m->nowhere && m->whole && loops == frames + 1;
    return true;
}

/* Unwind, with a way back from a fault: what was overwritten may lead
   anywhere. */
static void
mixed_walk(struct unwind *u)
{
    sigjmp_buf here;
    sigjmp_buf *outer = mem_here->recover;
    if (sigsetjmp(here, 0) == 0) {
        mem_here->recover = &here;
        atomic_signal_fence(memory_order_seq_cst);
        unwind_stack(u);
        atomic_signal_fence(memory_order_seq_cst);
    }
    else {
        mem_unblock_faults();
    }
    mem_here->recover = outer;
}

/* Unwind the stack, and take the frames from a place on to be those from the
   first-th on: what the handler itself put on the stack is left out.  Returns
   how many there are, 0 if the place is not met. */
static size_t
mixed_collect(struct mixed *m, size_t first, uintptr_t pc)
{
    static struct unwind u;
    struct unwind_frame *frames = mixed_frames + first;
    size_t skip = 0;
    u.frames = frames;
    u.max = m->max - first;
    mixed_walk(&u);
    m->full = u.count == u.max;
    m->fp = u.fp;
    while (skip < u.count && frames[skip].pc != pc) {
        skip++;
    }
    memmove(frames, frames + skip, (u.count - skip) * sizeof *frames);
    return u.count - skip;
}

/* Where the next evaluation loop is that lies behind a stack pointer, 0 if
   there is none. */
static uintptr_t
mixed_next_place(struct mixed *m, uintptr_t sp)
{
    uintptr_t next = 0;
    for (size_t i = 0; i < m->states; i++) {
        struct frame_loops *loop = &m->loops[i];
        while (loop->result == FRAME_WALK_ON && loop->place < sp) {
            frame_loops_next(loop);
        }
        if (loop->result == FRAME_WALK_ON
            && (next == 0 || loop->place < next)) {
            next = loop->place;
        }
    }
    return next;
}

/* How far a return address is searched for, how many are tried, and how often
   that is done. */
#define MIXED_SEARCH (256 * 1024)
#define MIXED_TRIES 64
#define MIXED_GAPS 16

/* Go on from a place, if that is in the frame of the evaluation loop that
   holds an address. */
static bool
mixed_go_on(struct mixed *m, void *context,
                 struct cpu_place place, uintptr_t loop)
{
    const struct unwind_frame *last = &m->frames[m->count];
    cpu_set_place(context, place);
    size_t count = mixed_collect(m, m->count, place.pc);
    if (count < 2 || !mixed_holds(last, loop)) {
        return false;
    }
    mixed_frames[m->count].sp = place.sp | UNWIND_AFTER_GAP;
    m->count += count;
    m->whole = m->frames[m->count - 1].pc == 0;
    return true;
}

/* Go on behind a frame that cannot be unwound: what a JIT compiler made, or
   where the stack was overwritten.  The next evaluation loop is known to lie
   behind it, and what it called will return there: the word on the stack from
   which one comes into its frame is that return address.  Its frame pointer
   is in the chain of those that were saved, or right under the return address.
   Returns whether it was found; the context's place was changed. */
static bool
mixed_resume(struct mixed *m, void *context)
{
    uintptr_t sp = m->frames[m->count - 1].sp & ~(uintptr_t)UNWIND_BITS;
    uintptr_t loop = mixed_next_place(m, sp);
    uintptr_t code = native_record(mixed_loop.start);
    struct cpu_place kept = {0, 0, m->fp};
    uintptr_t fp;
    int tries = 0;
    for (uintptr_t at = sp; at < loop && at - sp < MIXED_SEARCH
         && tries < MIXED_TRIES; at += sizeof at) {
        if (mem_word(at, &kept.pc) < 0) {
            continue;
        }
        kept.pc = cpu_return_address(kept.pc);
        if (native_record(kept.pc) != code) {
            continue;
        }
        tries++;
        if (CPU_FRAME_RECORDS) {
            /* The caller's frame begins where its saved pointer says. */
            if (mem_word(at - sizeof at, &kept.fp) == 0) {
                kept.sp = kept.fp;
                if (mixed_go_on(m, context, kept, loop)) {
                    return true;
                }
            }
            continue;
        }
        kept.sp = at + sizeof at;
        while (kept.fp <= at && mem_word(kept.fp, &fp) == 0 && fp > kept.fp) {
            kept.fp = fp;
        }
        struct cpu_place pushed = kept;
        if (mixed_go_on(m, context, kept, loop)
            || (mem_word(at - sizeof at, &pushed.fp) == 0
                && mixed_go_on(m, context, pushed, loop))) {
            return true;
        }
    }
    return false;
}

/* Find the C frames of a crash. */
static void
mixed_unwind(struct mixed *m, void *context, const uintptr_t *states)
{
    struct cpu_place place = cpu_get_place(context);
    if (mixed_frames == NULL) {
        void *memory = mmap(NULL, MIXED_MAX * sizeof *mixed_frames,
                            PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                            0);
        mixed_frames = memory == MAP_FAILED ? mixed_few : memory;
    }
    m->max = mixed_frames == mixed_few ? MIXED_FEW : MIXED_MAX;
    m->frames = mixed_frames;
    m->count = mixed_collect(m, 0, place.pc);
    if (m->count == 0) {
        mixed_frames[0] = (struct unwind_frame) {place.pc, place.sp};
        m->count = 1;
    }
    mixed_frames[0].sp = (place.sp & ~(uintptr_t)UNWIND_BITS)
                          | (m->nowhere ? 0 : UNWIND_INTERRUPTED);
    m->whole = mixed_frames[m->count - 1].pc == 0;
    for (size_t i = 0; i < m->states; i++) {
        frame_loops_begin(&m->loops[i], states[i]);
    }
    int gaps = (!CPYTHON_FRAME_OBJECTS) && mem_here->way == MEM_DIRECT
               ? MIXED_GAPS : 0;
    while (!m->whole && !m->full && gaps-- > 0
           && mixed_resume(m, context)) {
    }
}

/* Write the crashing thread's C frames from the fault on, with the Python
   frames of its states in them. */
static void
mixed_write(struct out *o, void *context, const uintptr_t *states,
                   size_t count, struct frame_memory *lines, int64_t until,
                   struct native_seen *seen)
{
    struct mixed *m = &mixed_now;
    memset(m, 0, sizeof *m);
    m->o = o;
    m->lines = lines;
    m->seen = seen;
    m->target = cpu_get_place(context).pc;
    m->nowhere = native_leave_nowhere(context);
    m->states = count < MIXED_STATES ? count : MIXED_STATES;
    mixed_unwind(m, context, states);
    if (!(!CPYTHON_FRAME_OBJECTS) && !mixed_agrees(m, states)) {
        m->states = 0;
    }
    mixed_pass(m, states);
    m->total = m->shown;
    mixed_pass(m, states);
    if (!o->failed) {
        symbol_look_up(&m->symbols, m->wanted, m->wanted_count, until);
    }
    m->writes = true;
    mixed_pass(m, states);
    if (m->shown != m->total) {
        out_room(o, OUT_LINE_MAX);
        out_text(o, MIXED_GAP);    /* a frame changed meanwhile */
    }
    m->lost += m->unplaced;
    if (m->strays > 0 || m->lost > 0) {
        out_room(o, OUT_LINE_MAX);
        out_text(o, "  <not matched: ");
        out_decimal(o, m->strays);
        out_text(o, " evaluation loops, ");
        out_decimal(o, m->lost);
        out_text(o, " Python frames>\n");
    }
}

#endif
