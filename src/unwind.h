/* unwind: the C stack of the calling thread, by the compiler's unwinder.

   The unwinder is the library that C++ exceptions use.  It reads its tables
   without asking whether they are there: a damaged stack may make it fault, so
   whoever calls it in a handler has a way back (native.h). */

#ifndef FAULTHANDLER_UNWIND_H
#define FAULTHANDLER_UNWIND_H

#include "platform.h"

#include <unwind.h>

/* A frame: where it was left, and its lowest address, which is where the next
   newer one ends. */
struct unwind_frame {
    uintptr_t pc, sp;
    bool is_return;             /* pc follows a call; else a signal came */
};

struct unwind {
    struct unwind_frame *frames;
    size_t count, max;
    bool whole;                 /* the thread's first frame was reached */
};

/* The functions of the library.  Opened when arming: linked to, it would be
   loaded by every import.  All are there, or unwind_walk is NULL.  Written by
   unwind_init(), which any thread may call, and read by handlers: unwind_walk
   is stored last, with release order, and read first. */
typedef _Unwind_Reason_Code unwind_walk_function(_Unwind_Trace_Fn, void *);
static _Atomic(unwind_walk_function *) unwind_walk;
static _Unwind_Word (*unwind_pc)(struct _Unwind_Context *, int *);
static _Unwind_Word (*unwind_cfa)(struct _Unwind_Context *);
static void *(*unwind_function)(void *);

static _Unwind_Reason_Code
unwind_on_frame(struct _Unwind_Context *context, void *argument)
{
    struct unwind *u = argument;
    int interrupted = 0;
    struct unwind_frame frame = {
        .pc = (uintptr_t)unwind_pc(context, &interrupted),
        .sp = (uintptr_t)unwind_cfa(context),
        .is_return = !interrupted,
    };
    const struct unwind_frame *last = u->frames + u->count;
    u->whole = frame.pc == 0;   /* behind the first frame of the thread */
    if (u->count == u->max || u->whole
        || (u->count > 0 && last[-1].pc == frame.pc
            && last[-1].sp == frame.sp)) {
        return _URC_END_OF_STACK;
    }
    u->frames[u->count++] = frame;
    return _URC_NO_REASON;
}

/* Note the frames of the calling thread's C stack, the newest first; none
   where they cannot be had.  After a fault on the way, `count` frames are
   noted. */
static void
unwind_stack(struct unwind *u)
{
    unwind_walk_function *walk = atomic_load(&unwind_walk);
    if (walk != NULL) {
        walk(unwind_on_frame, u);
    }
}

/* Load the unwinder, and let it make its tables, which it does at its first
   use.  Called when arming, never in a handler. */
static void
unwind_init(void)
{
    struct unwind_frame frames[2];
    struct unwind u = {.frames = frames, .max = 2};
    void *library = atomic_load(&unwind_walk) != NULL ? NULL
                    : dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return;
    }
    *(void **)&unwind_pc = dlsym(library, "_Unwind_GetIPInfo");
    *(void **)&unwind_cfa = dlsym(library, "_Unwind_GetCFA");
    *(void **)&unwind_function = dlsym(library,
                                       "_Unwind_FindEnclosingFunction");
    if (unwind_pc != NULL && unwind_cfa != NULL && unwind_function != NULL) {
        void *walk = dlsym(library, "_Unwind_Backtrace");
        atomic_store(&unwind_walk, (unwind_walk_function *)walk);
    }
    unwind_stack(&u);
}

#endif
