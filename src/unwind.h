/* unwind: the C stack of the calling thread, by the compiler's unwinder.

   The unwinder is the library that C++ exceptions use.  It reads its tables
   without asking whether they are there: a damaged stack may make it fault, so
   whoever calls it in a handler has a way back (mem.h). */

#ifndef FAULTHANDLER_UNWIND_H
#define FAULTHANDLER_UNWIND_H

#include "cpu.h"
#include "platform.h"

#include <unwind.h>

/* A frame: where it was left, and its lowest address, which is where the next
   newer one ends.  Stacks are aligned, so the lowest bits of sp are free. */
struct unwind_frame {
    uintptr_t pc;               /* 0: behind the first frame of the thread */
    uintptr_t sp;               /* and, in its lowest bits: */
#define UNWIND_INTERRUPTED 1u       /* by a signal: pc was not executed yet */
#define UNWIND_AFTER_GAP 2u         /* newer frames may be missing */
#define UNWIND_BITS 7u
};

struct unwind {
    struct unwind_frame *frames;
    size_t count, max;
    uintptr_t fp;               /* the last frame's frame pointer */
};

/* The functions of the library.  Opened when arming: linked to, it would be
   loaded by every import.  All are there, or unwind_walk is NULL.  Written by
   unwind_init() with the GIL held, read by handlers. */
static _Unwind_Reason_Code (*unwind_walk)(_Unwind_Trace_Fn, void *);
static _Unwind_Word (*unwind_pc)(struct _Unwind_Context *, int *);
static _Unwind_Word (*unwind_cfa)(struct _Unwind_Context *);
static _Unwind_Word (*unwind_register)(struct _Unwind_Context *, int);
static void *(*unwind_function)(void *);

static _Unwind_Reason_Code
unwind_on_frame(struct _Unwind_Context *context, void *argument)
{
    struct unwind *u = argument;
    int interrupted = 0;
    if (u->count == u->max) {
        return _URC_END_OF_STACK;
    }
    struct unwind_frame *frame = &u->frames[u->count++];
    frame->pc = (uintptr_t)unwind_pc(context, &interrupted);
    frame->sp = ((uintptr_t)unwind_cfa(context) & ~(uintptr_t)UNWIND_BITS)
                | (interrupted ? UNWIND_INTERRUPTED : 0);
    u->fp = (uintptr_t)unwind_register(context, CPU_FP_NUMBER);
    return _URC_NO_REASON;
}

/* Where the C library's code is.  Written by unwind_init(), like the functions
   above. */
static struct platform_code unwind_libc;

/* Find the object of the C library: the one that has pthread_create(). */
static int
unwind_on_object(struct dl_phdr_info *object, size_t size, void *function)
{
    struct platform_code all = {UINTPTR_MAX, 0};
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + part->p_vaddr;
        uintptr_t end = start + part->p_memsz;
        if (part->p_type == PT_LOAD) {
            all.start = start < all.start ? start : all.start;
            all.end = end > all.end ? end : all.end;
        }
    }
    if ((uintptr_t)function < all.start || (uintptr_t)function >= all.end) {
        return 0;
    }
    unwind_libc = all;
    return 1;
}

/* Is the last frame of a walk the thread's first one?  musl has no unwind
   tables: a walk ends at its function that calls main() or the thread's, and
   where a signal interrupted it. */
static bool
unwind_is_first(const struct unwind_frame *frame)
{
    return !(frame->sp & UNWIND_INTERRUPTED)
           && frame->pc >= unwind_libc.start && frame->pc < unwind_libc.end
           && unwind_function((void *)frame->pc) == NULL;
}

/* Note the frames of the calling thread's C stack, the newest first; none
   where they cannot be had.  After a fault on the way, `count` frames are
   noted. */
static void
unwind_stack(struct unwind *u)
{
    u->count = 0;
    if (unwind_walk == NULL) {
        return;
    }
    unwind_walk(unwind_on_frame, u);
    if (u->count > 1 && u->count < u->max
        && unwind_is_first(&u->frames[u->count - 1])) {
        u->frames[u->count] = u->frames[u->count - 1];
        u->frames[u->count++].pc = 0;
    }
}

/* Addresses only, and the place of the last one. */
struct unwind_list {
    void **pcs;
    size_t count, max;
    uintptr_t sp;
};

static _Unwind_Reason_Code
unwind_on_address(struct _Unwind_Context *context, void *argument)
{
    struct unwind_list *list = argument;
    int interrupted = 0;
    void *pc = (void *)(uintptr_t)unwind_pc(context, &interrupted);
    uintptr_t sp = (uintptr_t)unwind_cfa(context);
    bool stands = list->count > 0 && list->pcs[list->count - 1] == pc
                  && list->sp == sp;
    if (list->count == list->max || pc == NULL || stands) {
        return _URC_END_OF_STACK;
    }
    list->pcs[list->count++] = pc;
    list->sp = sp;
    return _URC_NO_REASON;
}

/* Note where the frames of the calling thread were left, the newest first.
   Returns how many there are, 0 where they cannot be had. */
static size_t
unwind_addresses(void **pcs, size_t n)
{
    struct unwind_list list = {.pcs = pcs, .max = n};
    if (unwind_walk != NULL) {
        unwind_walk(unwind_on_address, &list);
    }
    return list.count;
}

/* Return where the function begins that an address is in, as the unwinder's
   tables say, or 0.  A part that the compiler put elsewhere counts as a
   function. */
static uintptr_t
unwind_find_function(uintptr_t pc)
{
    return unwind_walk == NULL ? 0 : (uintptr_t)unwind_function((void *)pc);
}

/* Load the unwinder, and let it make its tables, which it does at its first
   use.  Called when arming, never in a handler. */
static void
unwind_init(void)
{
    void *pcs[2];
    void *library = unwind_walk != NULL ? NULL
                    : dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return;
    }
    platform_list_objects(unwind_on_object,
                          dlsym(RTLD_DEFAULT, "pthread_create"));
    *(void **)&unwind_pc = dlsym(library, "_Unwind_GetIPInfo");
    *(void **)&unwind_cfa = dlsym(library, "_Unwind_GetCFA");
    *(void **)&unwind_register = dlsym(library, "_Unwind_GetGR");
    *(void **)&unwind_function = dlsym(library,
                                       "_Unwind_FindEnclosingFunction");
    if (unwind_pc != NULL && unwind_cfa != NULL && unwind_register != NULL
        && unwind_function != NULL) {
        *(void **)&unwind_walk = dlsym(library, "_Unwind_Backtrace");
    }
    unwind_addresses(pcs, 2);
}

#endif
