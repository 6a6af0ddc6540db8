/* mem: copy bytes from an address that may be anything, or fail.

   mem_read() is the only way in which crash code looks at the interpreter.
   It works between mem_begin() and mem_end(), in a handler or outside, and
   reads in one of three ways:

   direct   a plain copy; a fault in it comes to our SIGSEGV or SIGBUS handler,
            which jumps back.  A few nanoseconds, needs our handlers.
   kernel   process_vm_readv() on ourselves.  Half a microsecond.
   pipe     write() to a pipe, which fails with EFAULT.  Where a sandbox
            forbids the former.

   Not msync() or mincore(): they accept pages that cannot be read. */

#ifndef FAULTHANDLER_MEM_H
#define FAULTHANDLER_MEM_H

#include "platform.h"

enum mem_way { MEM_NONE, MEM_DIRECT, MEM_KERNEL, MEM_PIPE };

/* One dump of one thread.  Dumps nest: a user's signal comes during
   dump_traceback(), a crash during either.  Each one then restores the outer
   one. */
struct mem_session {
    struct mem_session *outer;
    sigjmp_buf *recover;        /* where our fault handler jumps to */
    sigjmp_buf *step;           /* the step of the report, for the timer */
    enum mem_way way;
    bool late;                  /* the timer has rung */
    pid_t pid;
    int pipe[2];
    sigset_t mask;              /* to be restored at the end */
};

/* This thread's innermost session.  Handlers of the same thread read it. */
THREAD_LOCAL struct mem_session *mem_here;

/* Our handler of faults, which must be in place for MEM_DIRECT.  Set once, at
   import, before any handler is installed. */
static void (*mem_fatal_handler)(int, siginfo_t *, void *);

/* Who relies on our handlers, and who wants to remove them.  Written by every
   thread that dumps or disarms, and by handlers; the order of these two words
   is what counts, so they are read and written in sequence (seq_cst): a dump
   counts itself and then looks at closed, disable() closes and then looks at
   users.  One of them sees the other. */
static struct {
    atomic_int users;           /* dumps in MEM_DIRECT */
    atomic_int closed;          /* calls of disable() that wait for them */
} mem_direct;

/* A child of fork() has none of the threads that dumped or disarmed. */
static void
mem_after_fork(void)
{
    atomic_store(&mem_direct.users, 0);
    atomic_store(&mem_direct.closed, 0);
}

/* The signals of faults.  They stay unblocked while we read: the kernel kills
   a process that faults with the signal blocked. */
static const int mem_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

/* Unblock the signals of faults.  A handler that is left by a jump leaves its
   signal blocked. */
static void
mem_unblock_faults(void)
{
    sigset_t faults;
    sigemptyset(&faults);
    for (size_t i = 0; i < sizeof mem_faults / sizeof *mem_faults; i++) {
        sigaddset(&faults, mem_faults[i]);
    }
    pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
}

/* Block all signals but those of faults. */
static void
mem_block_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
    mem_unblock_faults();
}

/* Copy through a pipe. */
static int
mem_read_pipe(void *dst, const void *src, size_t n)
{
    char *to = dst;
    const char *from = src;
    while (n > 0) {
        size_t part = n < 4096 ? n : 4096;
        ssize_t put = write(mem_here->pipe[1], from, part);
        if (put <= 0 || read(mem_here->pipe[0], to, (size_t)put) != put) {
            return -1;
        }
        to += put;
        from += put;
        n -= (size_t)put;
    }
    return 0;
}

/* Copy word by word.  Not memcpy(): a sanitizer checks its arguments, and a
   vector load of a word that changes may be torn. */
UNSANITIZED static void
mem_copy(void *dst, const void *src, size_t n)
{
    typedef uintptr_t __attribute__((may_alias, aligned(1))) word;
    word *to = dst;
    const volatile word *from = src;
    size_t words = n / sizeof *to;
    for (size_t i = 0; i < words; i++) {
        to[i] = from[i];
    }
    char *to_rest = (char *)(to + words);
    const volatile char *from_rest = (const volatile char *)(from + words);
    for (size_t i = 0; i < n % sizeof *to; i++) {
        to_rest[i] = from_rest[i];
    }
    /* The next read sees memory that is no older.  Readers rely on it: they
       read a word again to know that what they read in between belongs
       together. */
    atomic_thread_fence(memory_order_acquire);
}

/* Copy under the protection of our SIGSEGV and SIGBUS handlers, which jump
   back here.  sigsetjmp(…, 0) saves no mask: 3 ns instead of 130. */
static int
mem_read_direct(void *dst, const void *src, size_t n)
{
    sigjmp_buf here;
    sigjmp_buf *outer = mem_here->recover;
    if (sigsetjmp(here, 0) != 0) {
        mem_here->recover = outer;
        mem_unblock_faults();
        return -1;
    }
    mem_here->recover = &here;
    atomic_signal_fence(memory_order_seq_cst);
    mem_copy(dst, src, n);
    atomic_signal_fence(memory_order_seq_cst);
    mem_here->recover = outer;
    return 0;
}

/* Copy n bytes from src, an address that may be anything, to dst.  Returns 0,
   or -1 if any of them cannot be read. */
static int
mem_read(void *dst, uintptr_t src, size_t n)
{
    const void *from = (const void *)src;
    if (src < 4096 || src + n < src) {
        return -1;              /* NULL and its fields: no need to fault */
    }
    switch (mem_here->way) {
    case MEM_DIRECT:
        return mem_read_direct(dst, from, n);
    case MEM_KERNEL:
        return platform_read_self(mem_here->pid, dst, from, n);
    case MEM_PIPE:
        return mem_read_pipe(dst, from, n);
    default:
        return -1;
    }
}

/* Read one aligned word. */
static int
mem_word(uintptr_t at, uintptr_t *value)
{
    return at % sizeof at == 0 ? mem_read(value, at, sizeof *value) : -1;
}

/* A guard for walks along links.  It keeps one node to compare with and
   replaces it at every power of two, so a cycle of any length meets it after
   at most three times its length (Brent's algorithm). */
struct mem_chain {
    uintptr_t mark;
    size_t steps;
};

/* More nodes than any machine has. */
#define MEM_CHAIN_MAX 100000000

/* Note the next node.  Returns -1 if it closes a cycle, or is one too many. */
static int
mem_chain_step(struct mem_chain *chain, uintptr_t node)
{
    if (node == chain->mark || chain->steps > MEM_CHAIN_MAX) {
        return -1;
    }
    chain->steps++;
    if ((chain->steps & (chain->steps - 1)) == 0) {
        chain->mark = node;
    }
    return 0;
}

/* Choose between kernel and pipe.  Newer container profiles refuse the first,
   so it is tried each time, on a word that is there.  The pipe is made for
   this session only: one that is kept would be shared with a forked child, and
   its bytes with it. */
static enum mem_way
mem_choose_indirect(struct mem_session *s)
{
    int known = 1, copy = 0;
    if (platform_read_self(s->pid, &copy, &known, sizeof copy) == 0) {
        return MEM_KERNEL;
    }
    return pipe2(s->pipe, O_CLOEXEC | O_NONBLOCK) == 0 ? MEM_PIPE : MEM_NONE;
}

/* What a report needs of the alternate stack (tools/callgraph measures it),
   and two signal frames: the second one is of a fault inside the report.
   Other runtimes give their threads 8 KiB.  The kernel tells the size of a
   frame: more than 4 KiB with large vector registers. */
#define MEM_STACK_NEED (20 * 1024)
#define MEM_FRAME_USUAL 4096

static size_t
mem_stack_min(void)
{
    size_t frame = getauxval(AT_MINSIGSTKSZ);
    return MEM_STACK_NEED
           + 2 * (frame > MEM_FRAME_USUAL ? frame : MEM_FRAME_USUAL);
}

/* Does this handler run on an alternate stack without that room? */
static bool
mem_stack_is_small(void)
{
    stack_t now;
    return sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_ONSTACK)
           && now.ss_size < mem_stack_min();
}

/* Start reading.  Direct copies need our handlers, and are counted so that
   disable() does not take them away meanwhile.  Until mem_end() this thread
   takes no signal but faults: no foreign handler runs inside a recovery, and
   no second report inside the first. */
static void
mem_begin(struct mem_session *s)
{
    s->outer = mem_here;
    s->recover = s->step = NULL;
    s->late = false;
    s->pid = getpid();
    s->pipe[0] = s->pipe[1] = -1;
    atomic_fetch_add(&mem_direct.users, 1);
    if (atomic_load(&mem_direct.closed) == 0 && !mem_stack_is_small()
        && platform_handler_is(SIGSEGV, mem_fatal_handler)
        && platform_handler_is(SIGBUS, mem_fatal_handler)) {
        s->way = MEM_DIRECT;
    }
    else {
        atomic_fetch_sub(&mem_direct.users, 1);
        s->way = mem_choose_indirect(s);
    }
    mem_here = s;
    mem_block_signals(&s->mask);
}

static void
mem_end(struct mem_session *s)
{
    pthread_sigmask(SIG_SETMASK, &s->mask, NULL);
    mem_here = s->outer;
    if (s->way == MEM_DIRECT) {
        atomic_fetch_sub(&mem_direct.users, 1);
    }
    if (s->pipe[0] >= 0) {
        close(s->pipe[0]);
        close(s->pipe[1]);
    }
}

#endif
