/* report: the one door, the order and the steps of a report. */

#ifndef FAULTHANDLER_REPORT_H
#define FAULTHANDLER_REPORT_H

#include "cpu.h"
#include "cpython.h"
#include "exception.h"
#include "fault.h"
#include "frame.h"
#include "inject.h"
#include "mem.h"
#include "mixed.h"
#include "modules.h"
#include "native.h"
#include "out.h"
#include "platform.h"
#include "register.h"
#include "request.h"
#include "task.h"
#include "thread.h"

/* How often one report asks for the door while another is being written, 1 ms
   apart.  Not a time: while the process is stopped the other one stands still
   as well. */
#define REPORT_DOOR_TRIES 2500

/* The module's version as a number, and the running Python's as text, noted
   at import. */
#define FAULTHANDLER_VERSION 0x100
static char report_python[32];

enum report_kind {
    REPORT_FATAL, REPORT_USER, REPORT_LATER, REPORT_DUMP, REPORT_C_STACK,
    REPORT_DETAILS              /* what is missing in Py_FatalError()'s */
};

/* The memory of one report: static, or allocated before it is needed. */
struct report_memory {
    char text[OUT_SIZE];
    struct thread_list list;
    struct frame_memory lines;
};

struct report {
    struct out out;
    struct report_memory *memory;
    const struct request *request;
    enum report_kind kind;
    bool has_door;              /* it was entered for this report */
    const char *title;          /* a line of its own, or NULL */
    uintptr_t interp;           /* whose threads come first, 0: ours */
    bool has_current;
    struct thread current;
    uintptr_t shown_interp;     /* whose threads are being listed */
    char program[32];           /* the process's name */
    uintptr_t from;             /* where the C stack starts, or */
    void *context;              /* the registers at the fault */
    struct cpu_place place;     /* that were there first */
    const siginfo_t *info;      /* of a fatal signal */
    struct native_stack stack;
    struct native_seen seen;    /* objects of the C frames */
};

static void
report_flush(struct report *r)
{
    out_flush(&r->out);
}

/* Send what there is before something risky.  A place that may hang gets
   all of the report at its end. */
static void
report_hurry(struct report *r)
{
    out_send_all(&r->out, false);
}

/* Run a step of a report, which has room for a line, with a way back: a fault
   inside it, or the timer, leaves a mark, and the next step runs. */
static void
report_step(struct report *r, void (*step)(struct report *), const char *what)
{
    sigjmp_buf here;
    struct mem_session *session = mem_here;
    bool sends = step == report_flush || step == report_hurry;
    if (session->late && !sends) {
        return;
    }
    if (sigsetjmp(here, 0) == 0) {
        session->recover = session->step = &here;
        atomic_signal_fence(memory_order_seq_cst);
        inject_fault(what);
        out_room(&r->out, OUT_LINE_MAX);
        step(r);
        atomic_signal_fence(memory_order_seq_cst);
    }
    else {
        mem_here = session;
        mem_unblock_faults();
        out_drop_line(&r->out);
        r->out.flushes++;       /* what was dropped is not there to repeat */
        out_room(&r->out, OUT_LINE_MAX);
        out_text(&r->out, session->late ? "  <out of time in the "
                                        : "  <fault in the ");
        out_text(&r->out, what);
        out_text(&r->out, ">\n");
    }
    session->recover = session->step = NULL;
}

static void
report_title(struct report *r)
{
    if (r->kind == REPORT_DETAILS) {
        out_char(&r->out, '\n');    /* the interpreter's report is above */
        return;
    }
    if (r->kind == REPORT_FATAL) {
        out_text(&r->out, "Fatal Python error: ");
        out_text(&r->out, r->title);
        out_text(&r->out, r->request->details ? "\n" : "\n\n");
    }
    else if (r->title != NULL) {
        out_text(&r->out, r->title);
    }
}

static void
report_list_threads(struct report *r)
{
    if (r->request->original) {
        platform_thread_name(getpid(), r->program);
    }
    thread_list_fill(&r->memory->list, r->interp);
}

/* Find out who we are.  The threads of our own interpreter come first.  A dump
   shows the current thread always: in the last one's place where the list is
   full, at the end of a list with a damaged link. */
static void
report_find_current(struct report *r)
{
    struct thread_list *list = &r->memory->list;
    r->has_current = thread_find_current(list, &r->current);
    if (!r->has_current) {
        return;
    }
    if (r->interp == 0 && list->count > 0
        && r->current.interp != list->interps[0]) {
        r->interp = r->current.interp;
        thread_list_fill(list, r->interp);
    }
    if (!thread_is_listed(list, r->current.at)) {
        list->damaged |= !list->full;
        size_t at = list->count < THREAD_LIST_MAX ? list->count++
                                                  : list->count - 1;
        list->threads[at] = r->current.at;
        list->interps[at] = r->current.interp;
    }
}

/* Why the process dies. */
static void
report_cause(struct report *r)
{
    fault_write_cause(&r->out, r->info, r->context);
}

/* Which thread of which process it was, of which Python, and when.  A timeout
   comes from a thread of ours, which is of no interest. */
static void
report_origin(struct report *r)
{
    struct out *o = &r->out;
    int64_t age = platform_age();
    struct timespec utc;
    out_text(o, "  ");
    if (r->kind != REPORT_LATER) {
        out_text(o, "thread ");
        out_decimal(o, (uint64_t)platform_thread_id());
        thread_write_own_name(o);
        out_text(o, " of ");
    }
    out_text(o, "process ");
    out_decimal(o, (uint64_t)getpid());
    out_text(o, ", CPython ");
    out_text(o, report_python);
    out_text(o, ", ");
    clock_gettime(CLOCK_REALTIME, &utc);
    out_utc(o, (uint64_t)utc.tv_sec);
    if (age >= 0) {
        int64_t tenths = age / 100000000;
        out_text(o, ", up ");
        out_decimal(o, (uint64_t)tenths / 10);
        out_char(o, '.');
        out_decimal(o, (uint64_t)tenths % 10);
        out_text(o, " s");
    }
    out_char(o, '\n');
}

/* What the thread that dies is about. */
static void
report_context(struct report *r)
{
    if (r->has_current) {
        task_write_context(&r->out, &r->current);
    }
}

/* The exceptions of the thread that dies. */
static void
report_exceptions(struct report *r)
{
    if (r->has_current) {
        exception_write(&r->out, r->current.at);
    }
}

/* Write the number of an interpreter, between two texts. */
static void
report_interpreter(struct out *o, const char *before, uintptr_t interp,
                   const char *after)
{
    int64_t id;
    out_text(o, before);
    if (mem_read(&id, interp + CPYTHON_INTERP_ID, sizeof id) == 0) {
        out_decimal(o, (uint64_t)id);
    }
    else {
        out_text(o, "???");
    }
    out_text(o, after);
}

/* What else the interpreter was about. */
static void
report_activities(struct report *r)
{
    if (r->has_current && thread_is_collecting(&r->current)) {
        out_text(&r->out, "  the garbage collector is at work\n");
    }
    if (r->has_current
        && r->current.interp != (uintptr_t)PyInterpreterState_Main()) {
        report_interpreter(&r->out, "  in interpreter ", r->current.interp,
                           ", which is not the main one\n");
    }
    out_text(&r->out,
             CPYTHON_IS_FINALIZING() ? "  Python is being finalized\n"
             : Py_IsInitialized() ? ""
             : "  Python is not initialized, or no longer\n");
}

/* An empty line after the details. */
static void
report_end_details(struct report *r)
{
    out_char(&r->out, '\n');
}

/* Write the frames of a thread.  Only a fatal report shows both ends of deep
   stacks: the others are what the running Python's module would print. */
static void
report_stack(struct report *r, const struct thread *t, int retries)
{
    thread_write_stack(&r->out, t->at, r->kind == REPORT_FATAL, retries,
                       &r->memory->lines);
}

static void
report_collecting(struct report *r, const struct thread *t)
{
    if ((r->request->original || CPYTHON_TELLS_COLLECTOR)
        && thread_is_collecting(t)) {
        out_text(&r->out, "  Garbage-collecting\n");
    }
}

/* The calling thread's block, the first of a fatal report. */
static void
report_current(struct report *r)
{
    const struct request *request = r->request;
    if (request->original) {
        out_text(&r->out, "Traceback (most recent call first):\n");
    }
    else if (!request->all_threads) {
        out_text(&r->out, "Stack (most recent call first):\n");
    }
    else {
        thread_write_header(&r->out, "Current thread",
                            (uintptr_t)pthread_self(), platform_thread_id(),
                            NULL);
    }
    if (!r->has_current) {
        out_text(&r->out, cpython.frames_known ? FRAME_NONE
                                              : FRAME_UNREADABLE);
        return;
    }
    if (request->details && r->kind != REPORT_FATAL) {
        task_write_context(&r->out, &r->current);
    }
    if (request->original || request->all_threads) {
        report_collecting(r, &r->current);
    }
    report_stack(r, &r->current, 0);
}

/* Read a thread state of the list.  Returns -1 if it is none any more. */
static int
report_read_thread(const struct thread_list *list, size_t i, struct thread *t)
{
    return thread_read(list->threads[i], t) == 0
           && t->interp == list->interps[i] ? 0 : -1;
}

/* Write one thread of the list.  Returns false, with nothing written, for one
   that has ended since the list was made, whose memory may be something else;
   and for one that has not begun, or begins now: it had its creator's
   number. */
static bool
report_thread(struct report *r, size_t i, bool is_current, bool first)
{
    const struct thread_list *list = &r->memory->list;
    struct thread t, again;
    if (report_read_thread(list, i, &t) < 0
        || (!is_current && thread_is_shadow(list, i, &t))
        || report_read_thread(list, i, &again) < 0 || again.ident != t.ident) {
        return false;
    }
    out_room(&r->out, THREAD_BLOCK_ROOM);
    out_text(&r->out, first ? "" : "\n");
    if (t.interp != r->shown_interp) {
        r->shown_interp = t.interp;
        report_interpreter(&r->out, "Interpreter ", t.interp, ":\n\n");
    }
    thread_write_header(&r->out, is_current ? "Current thread" : "Thread",
                        t.ident, t.native,
                        r->request->original ? r->program : NULL);
    if (r->request->details) {
        task_write_context(&r->out, &t);
    }
    if (is_current) {
        report_collecting(r, &t);
    }
    report_stack(r, &t, is_current ? 0 : THREAD_RETRIES);
    return true;
}

/* The threads of the list, up to max_threads of them.  In a fatal report the
   current one was shown; in the others it keeps its place in the list, and
   is shown all the same where it would be cut off. */
static void
report_threads(struct report *r)
{
    const struct thread_list *list = &r->memory->list;
    size_t max = r->request->max_threads;
    size_t shown = r->kind == REPORT_FATAL ? 1 : 0;
    bool cut = list->full;
    r->shown_interp = list->count > 0 ? list->interps[0] : 0;
    for (size_t i = 0; i < list->count; i++) {
        bool is_current = r->has_current && list->threads[i] == r->current.at;
        if (is_current && r->kind == REPORT_FATAL) {
            continue;
        }
        if (shown >= max && !is_current) {
            cut = true;
            continue;
        }
        shown += report_thread(r, i, is_current, shown == 0);
    }
    out_room(&r->out, OUT_LINE_MAX);
    out_text(&r->out, cut ? "\n...\n" : "");
    out_text(&r->out, list->damaged
             ? "  <the rest of the threads cannot be read>\n" : "");
}

static void
report_modules(struct report *r)
{
    modules_write(&r->out);
}

static void
report_c_stack(struct report *r)
{
    out_text(&r->out, r->kind == REPORT_FATAL ? "\n" NATIVE_TITLE
                                              : NATIVE_TITLE);
    native_unwind(&r->stack, r->context, r->from);
    native_write_stack(&r->out, &r->stack, &r->seen);
}

/* The thread states with frames on this C stack: that of the interpreter that
   runs, and those that it was called from. */
static size_t
report_find_states(const struct report *r, uintptr_t *states)
{
    const struct thread_list *list = &r->memory->list;
    size_t count = 0;
    if (!r->has_current) {
        return 0;
    }
    states[count++] = r->current.at;
    for (size_t i = 0; i < list->count && count < MIXED_STATES; i++) {
        struct thread t;
        uintptr_t frame, at = list->threads[i];
        if (at != r->current.at && thread_is_mine(at, &t)
            && frame_newest(at, &frame) == 0 && frame != 0) {
            states[count++] = at;
        }
    }
    return count;
}

static void
report_mixed_stack(struct report *r)
{
    uintptr_t states[MIXED_STATES] = {0};
    bool mixes = !CPYTHON_FRAME_OBJECTS && cpython.frames_known;
    size_t count = mixes ? report_find_states(r, states) : 0;
    out_text(&r->out, mixes ? "\n" MIXED_TITLE : "\n" NATIVE_TITLE);
    native_unwind(&r->stack, r->context, 0);
    mixed_write(&r->out, &r->stack, states, count, &r->memory->lines,
                r->out.deadline, &r->seen);
}

/* The objects that the C stack's frames are in. */
static void
report_objects(struct report *r)
{
    native_write_seen(&r->out, &r->seen);
}

/* What the processor's registers held at the fault.  The unwinder may have
   changed them. */
static void
report_registers(struct report *r)
{
    cpu_set_place(r->context, r->place);
    register_write(&r->out, r->info, r->context);
}

/* Begin a report: nothing is written, nothing is known.  Only the buffer of a
   dump, which is not made in a handler, may grow. */
static void
report_begin(struct report *r)
{
    struct out *o = &r->out;
    struct report_memory *memory = r->memory;
    o->text = memory->text;
    o->size = sizeof memory->text;
    o->own = r->kind == REPORT_DUMP || r->kind == REPORT_C_STACK ? o->text
                                                                : NULL;
    o->flushes = 1;
    o->deadline = platform_now() + OUT_TOTAL_NS;
    o->places[0].sink = &r->request->sink;
    if (r->request->copy.kind != SINK_NOWHERE) {
        o->places[1].sink = &r->request->copy;
    }
    memory->lines.flushes = 0;      /* of an earlier report */
    memory->list.count = 0;
    memory->list.full = false;
    memory->list.damaged = true;    /* until it is whole */
    if (r->context != NULL) {
        r->place = cpu_get_place(r->context);
    }
}

/* Write a report into its buffer, step by step, the riskiest last.  The rest
   of r is 0.  The caller finishes it. */
static void
report_write(struct report *r)
{
    const struct request *request = r->request;
    bool all = request->all_threads, details = request->details;
    bool fatal = r->kind == REPORT_FATAL;
    bool missing = r->kind == REPORT_DETAILS;
    bool only_c = r->kind == REPORT_C_STACK;
    bool c_stack = fatal && request->c_stack;
    const struct {
        bool when;
        void (*step)(struct report *);
        const char *what;
    } steps[] = {
        {!only_c, report_title, "title"},
        {details && (fatal || missing), report_cause, "cause"},
        {details, report_origin, "origin"},
        {!only_c, report_list_threads, "list of threads"},
        {!only_c, report_find_current, "search for the thread"},
        {details && (fatal || missing), report_context, "context"},
        {details && (fatal || missing), report_exceptions, "exceptions"},
        {details && (fatal || missing), report_activities, "activities"},
        {details && !missing, report_end_details, "activities"},
        {!only_c && !missing && (fatal || !all), report_current, "traceback"},
        {!only_c && !missing && all, report_threads, "threads"},
        {fatal && !request->original && CPYTHON_LISTS_MODULES,
         report_modules, "extension modules"},
        /* Unwinding is the riskiest: what we have goes out first. */
        {c_stack, report_hurry, "output"},
        {c_stack && request->mixed, report_mixed_stack, "C stack"},
        {only_c || (c_stack && !request->mixed), report_c_stack, "C stack"},
        {c_stack && details, report_objects, "list of shared objects"},
        {fatal && details, report_registers, "registers"},
    };
    report_begin(r);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (steps[i].when) {
            report_step(r, steps[i].step, steps[i].what);
        }
    }
    /* Also where the step was broken off. */
    native_close(&r->stack);
    if (c_stack) {
        symbol_forget();
    }
}

/* Take the right to write, so that reports do not mix.  Returns false if
   another one kept it for too long, or if it is this thread's own, which a
   signal interrupted. */
static bool
report_enter(void)
{
    int self = platform_thread_id();
    for (int tries = 0; tries < REPORT_DOOR_TRIES; ) {
        int holder = 0;
        if (atomic_compare_exchange_strong(&report_door, &holder, self)) {
            return true;
        }
        if (holder == self) {
            return false;
        }
        if (platform_thread_is_gone(holder)) {
            atomic_compare_exchange_strong(&report_door, &holder, 0);
            continue;
        }
        platform_sleep(1000000);
        tries++;
    }
    return false;
}

static void
report_leave(void)
{
    int self = platform_thread_id();
    atomic_compare_exchange_strong(&report_door, &self, 0);
}

/* Send what is left, and let the next report in.  Where sending failed in the
   middle, once more. */
static void
report_finish(struct report *r)
{
    report_step(r, report_flush, "output");
    if (r->out.used > 0) {
        report_step(r, report_flush, "output");
    }
    out_close(&r->out);
    if (r->has_door) {
        report_leave();
    }
}

#endif
