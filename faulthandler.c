/* faulthandler: the Python traceback of a process that dies of a signal.

   Importing the module arms handlers for SIGSEGV, SIGFPE, SIGBUS, SIGILL
   and SIGABRT.  When one of them comes, the handler writes the traceback of
   every Python thread to standard error, puts the previous action back and
   sends the same signal, with the same siginfo, to the same thread.

   Three promises, in this order:

   1. Never make it worse.  A healthy process is not killed, not hung, and
      nothing is written where nobody asked for it.  A dying one dies as it
      would have died without us.
   2. Always a report.  What is damaged is marked, the rest is printed.
   3. The most important first: what happened, where in Python, the rest.

   The laws of the crash half, the rooms from src/platform.h to src/stack.h:

   - It calls only what POSIX lists as async-signal-safe, or a bare system
     call.  No allocation, no lock, no stdio, no reference count.
   - It never follows a pointer that it did not make: mem_read() copies, or
     fails.  What was read may still be nonsense, so every number is checked
     and every loop has an end.
   - It never waits without a bound.  A poorer report beats a hang.
   - Threads run while they are looked at.  An aligned word is read whole; it
     may be stale.  A stack that changed under our feet is read again.
   - Code that cannot keep these laws, libbacktrace, runs in a child process
     that may fault, loop or be killed (src/symbol.h).

   The map.  Each room is a file whose name is the prefix of its functions.
   It uses only what stands above it.  Signal handlers are called on_*.  Above
   the line they may call all that does not say otherwise; below it, functions
   called on_*, and what stands before enable() in this file.

   src/platform.h   what the kernel and the C library offer
   src/cpu.h        the registers at a fault: cpu_x86_64.h or cpu_aarch64.h
   src/unwind.h     the C stack of the calling thread
   src/cpython.h    the questions asked of CPython, and the answers of each
                    version, cpython/3.8.h to cpython/3.15.h
   src/mem.h        copy n bytes or fail, never a fault
   src/child.h      a function run in a copy of this process
   src/out.h        one buffer, whole lines, bounded waiting
   src/str.h        a str object, as ASCII
   src/exception.h  the exceptions of a thread
   src/code.h       code objects: names and lines
   src/frame.h      one Python stack
   src/thread.h     all threads, and which one is ours
   src/task.h       what a thread or task is about: context
   src/map.h        the mappings of this process
   src/fault.h      the signal table, and why one came
   src/native.h     C frames, and the object files that they are in
   src/register.h   the registers at the fault, and what each one holds
   src/symbol.h     the function, file and line of a C frame
   src/mixed.h      C and Python frames in one stack
   src/request.h    what a report shows, and where it goes
   src/modules.h    the extension modules that were imported
   src/inject.h     a fault in a report, for tests
   src/report.h     one report at a time: its order, its steps
   src/chain.h      who had a signal before us, and how it gets it
   src/stack.h      alternate stacks
                    ---- the GIL is held below, except in on_* ----
   src/sink.h       a file argument becomes a place to write to
   src/option.h     what enable() asks for, by arguments and environment
   src/dump.h       dump_traceback, dump_c_stack
   src/later.h      dump_traceback_later
   src/user.h       register, unregister
   src/selftest.h   the comparison with the interpreter's own words at import
   faulthandler.c   the handler, enable, disable, crashes, the module
*/

#include "src/platform.h"
#include "src/cpu.h"
#include "src/unwind.h"
#include "src/cpython.h"
#include "src/mem.h"
#include "src/child.h"
#include "src/out.h"
#include "src/str.h"
#include "src/exception.h"
#include "src/code.h"
#include "src/frame.h"
#include "src/thread.h"
#include "src/task.h"
#include "src/map.h"
#include "src/fault.h"
#include "src/native.h"
#include "src/register.h"
#include "src/symbol.h"
#include "src/mixed.h"
#include "src/request.h"
#include "src/modules.h"
#include "src/inject.h"
#include "src/report.h"
#include "src/chain.h"
#include "src/stack.h"

/* ---- the GIL is held, except in on_* and where a function says so ---- */

#include "src/sink.h"
#include "src/option.h"
#include "src/dump.h"
#include "src/later.h"
#include "src/user.h"
#include "src/selftest.h"

/* ==== Fatal signals ====

   What a crash runs through, here and in the rooms:

     on_fatal_signal()          the kernel calls it
       fatal_handle()
         chain_asks_first()     does an older handler repair such faults?
         fatal_take_turn()      of threads that crash together one reports
         fatal_report_once()    not what Py_FatalError() has reported itself
           fatal_report()
             report_write()     title, threads, C stack, registers
         fatal_hand_on()        to who had the signal before us
           chain_end()          nobody: it kills when we return
*/

/* What a crash prints.  Two slots, so that the one in use is never written:
   filled under state_lock, read by handlers. */
static struct request fatal_requests[2];
static _Atomic(struct request *) fatal_request;     /* NULL: disarmed */
static pid_t fatal_pid;                             /* of this process */

/* Of the thread whose turn it is. */
static struct report_memory fatal_memory;
static struct sigaction fatal_survivor_before;

/* No process sends this one: the report's timer does, and what tells that the
   process has survived.  Its own action is put back afterwards. */
#define FATAL_SIGNAL SIGRTMAX

#define FATAL_TIMER_MS 6500                 /* for all steps but the writing */
#define FATAL_TIMER_AGAIN_MS 250
#define FATAL_WAIT_NS INT64_C(12000000000)  /* for another thread's report */
#define FATAL_POLL_NS 5000000
#define FATAL_READERS_NS INT64_C(2000000000)    /* for dumps, to disarm */

/* ---- One report ---- */

/* The report takes too long.  Leave the step that it is in. */
CPU_HANDLER static void
on_fatal_timer(int signum, siginfo_t *info, void *context)
{
    struct mem_session *session = mem_here;
    (void)signum, (void)context;
    if (session != NULL && session->step != NULL
        && platform_timer_is_ours(info)) {
        session->late = true;
        siglongjmp(*session->step, 1);
    }
}

/* Start the timer that bounds a report, and keep the action that its signal
   had.  It fires again and again, since it also breaks the flush that follows.
   Returns false where it cannot be had: the report has no such bound. */
static bool
fatal_timer_start(int *timer, struct sigaction *before)
{
    sigset_t one;
    if (chain_install(FATAL_SIGNAL, on_fatal_timer, SA_ONSTACK | SA_NODEFER,
                      before) < 0) {
        return false;
    }
    if (platform_timer_start(timer, FATAL_SIGNAL, FATAL_TIMER_MS,
                             FATAL_TIMER_AGAIN_MS) < 0) {
        sigaction(FATAL_SIGNAL, before, NULL);
        return false;
    }
    sigemptyset(&one);
    sigaddset(&one, FATAL_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    return true;
}

/* Write the report of a crash, on a timer. */
static void
fatal_report(const struct request *request, enum report_kind kind,
             const siginfo_t *info, void *context)
{
    const struct fault_signal *fault = fault_find(info->si_signo);
    struct cpu_place place = cpu_get_place(context);
    struct sigaction before;
    int timer;
    struct report r = {
        .memory = &fatal_memory, .request = request, .kind = kind,
        .title = request->original || fault->library_title == NULL
                 ? fault->title : fault->library_title,
        .info = info, .context = context,
    };
    r.has_door = report_enter();
    bool timed = fatal_timer_start(&timer, &before);
    report_write(&r);
    report_finish(&r);
    if (timed) {
        platform_timer_stop(timer);
        sigaction(FATAL_SIGNAL, &before, NULL);
    }
    cpu_set_place(context, place);
}

/* A signal that came. */
struct fatal_signal {
    siginfo_t *info;
    void *context;
};

/* Report a signal, if we are armed and nobody has reported it.  Of what
   Py_FatalError() has printed itself only the details are missing.  Not
   inlined in the handler, which may have very little stack. */
__attribute__((noinline)) static void
fatal_report_once(void *argument)
{
    const struct fatal_signal *came = argument;
    const struct request *request = atomic_load(&fatal_request);
    const siginfo_t *info = came->info;
    struct mem_session session;
    mem_begin(&session);
    bool printed = info->si_signo == SIGABRT && fault_is_synchronous(info)
                   && fault_was_reported(came->context);
    bool known = printed || (info->si_code > 0
                             && fault_ends_abort(came->context));
    if (request != NULL && !known) {
        fatal_report(request, REPORT_FATAL, info, came->context);
    }
    else if (request != NULL && printed && request->details) {
        fatal_report(request, REPORT_DETAILS, info, came->context);
    }
    mem_end(&session);
}

/* ---- Whose turn it is ---- */

/* Of threads that crash together one reports, the others wait for the process
   to die.  Read and written as one word, by handlers. */
struct fatal_turn {
    pid_t thread;               /* whose turn it is, 0: nobody's */
    uint32_t left;              /* when its handler returned for the process
                                   to die, in milliseconds; 0: not yet */
};
static _Atomic(struct fatal_turn) fatal_turn;
#define FATAL_NOBODY ((struct fatal_turn) {0, 0})

/* A process that lives so long after it was to die will not die. */
#define FATAL_DEATH_MS 1000

/* Is a turn over?  The thread is gone, or the process has survived. */
static bool
fatal_turn_is_over(struct fatal_turn turn)
{
    uint32_t waited = (uint32_t)(platform_now() / 1000000) - turn.left;
    return turn.thread == 0 || platform_thread_is_gone(turn.thread)
           || (turn.left != 0 && waited > FATAL_DEATH_MS
               && waited < UINT32_MAX / 2);
}

static bool
fatal_is_our_turn(void)
{
    struct fatal_turn turn = atomic_load(&fatal_turn);
    return turn.thread == platform_thread_id();
}

/* Is another thread's crash being reported, or about to end the process? */
static bool
fatal_others_turn(void)
{
    struct fatal_turn turn = atomic_load(&fatal_turn);
    return turn.thread != platform_thread_id() && !fatal_turn_is_over(turn);
}

/* Take the turn to report.  Returns false if this thread has it already, or
   waited too long. */
static bool
fatal_take_turn(void)
{
    pid_t self = platform_thread_id();
    int64_t until = platform_now() + FATAL_WAIT_NS;
    for (;;) {
        struct fatal_turn turn = atomic_load(&fatal_turn), ours = {self, 0};
        bool survived = turn.left != 0;
        bool own = turn.thread == self;
        if ((own && survived) || fatal_turn_is_over(turn)) {
            if (!atomic_compare_exchange_strong(&fatal_turn, &turn, ours)) {
                continue;
            }
            if (survived) {
                chain_revive();
            }
            return true;
        }
        if (own || platform_now() > until) {
            return false;
        }
        platform_sleep(FATAL_POLL_NS);
    }
}

/* ---- The handler ---- */

/* The process has survived the signal that was to kill it: arm again.  Not
   where somebody else sends this one while the process is dying. */
CPU_HANDLER static void
on_fatal_survivor(int signum, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    (void)info, (void)context;
    if (fatal_is_our_turn()) {
        sigaction(signum, &fatal_survivor_before, NULL);
        chain_revive();
        atomic_store(&fatal_turn, FATAL_NOBODY);
    }
    errno = saved_errno;
}

/* What kills the process was sent, and waits until our handler returns.  Send
   one more signal, which the kernel delivers after all others: whoever gets
   that has survived.  Not where it is blocked: it would wait for ever. */
static void
fatal_send_survivor(const void *context)
{
    sigset_t one;
    if (sigismember(&((const ucontext_t *)context)->uc_sigmask,
                    FATAL_SIGNAL) == 1) {
        return;
    }
    sigemptyset(&one);
    sigaddset(&one, FATAL_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    if (chain_install(FATAL_SIGNAL, on_fatal_survivor,
                      SA_ONSTACK | SA_RESTART, &fatal_survivor_before) == 0) {
        syscall(SYS_tgkill, getpid(), platform_thread_id(), FATAL_SIGNAL);
    }
}

/* Let the process die of a signal when our handler returns.  In a vfork()
   child the memory is the parent's, which lives on and is armed. */
static void
fatal_end(struct chain *chain, const struct fatal_signal *came, bool turn)
{
    bool borrowed = getpid() != fatal_pid;
    bool sent = chain_end(chain, came->info);
    if (borrowed) {
        atomic_store(&chain->dying, false);
    }
    if (turn) {
        struct fatal_turn left = {
            platform_thread_id(), (uint32_t)(platform_now() / 1000000) | 1,
        };
        atomic_store(&fatal_turn, borrowed ? FATAL_NOBODY : left);
    }
    if (turn && sent && !borrowed) {
        fatal_send_survivor(came->context);
    }
}

/* Hand a signal on, as the last act.  An older handler that has called ours is
   not called again: the chain ends here. */
static void
fatal_hand_on(struct chain *chain, const struct fatal_signal *came,
              struct chain_call *inside, bool turn)
{
    struct sigaction older = chain_older(chain);
    bool last = inside != NULL && inside->signum == came->info->si_signo;
    bool handled = chain_is_handler(&older) && !last;
    bool ignored = older.sa_handler == SIG_IGN
                   && !fault_comes_again(came->info);
    if (last) {
        inside->ended = true;
    }
    else if (turn && (handled || ignored)) {
        atomic_store(&fatal_turn, FATAL_NOBODY);
    }
    if (handled) {
        chain_pass(chain, &older, inside, true, came->info, came->context);
    }
    else if (last || !ignored) {
        fatal_end(chain, came, turn);
    }
}

/* Report a signal, and hand it on; or ask the older handler first. */
static void
fatal_handle(struct fatal_signal *came, struct chain_call *inside, bool own)
{
    struct chain *chain = chain_find(came->info->si_signo);
    bool reported = inside != NULL && inside->reported;
    bool turn = false;
    bool asks = inside == NULL && chain_asks_first(chain, came->info);
    if (!reported && !asks) {
        turn = fatal_take_turn();
        if (!turn && !own && fatal_is_our_turn()) {
            return;             /* sent to us while we report: we die anyway */
        }
    }
    /* Asked now?  Then another thread's fault was repaired while we waited. */
    if (!reported && inside == NULL && chain_asks_first(chain, came->info)) {
        struct sigaction older = chain_older(chain);
        if (turn) {
            atomic_store(&fatal_turn, FATAL_NOBODY);
        }
        chain_pass(chain, &older, inside, false, came->info, came->context);
        return;
    }
    if (turn && (!stack_is_small(came->context)
                 || !stack_call_on_spare(STACK_FATAL, fatal_report_once,
                                         came))) {
        fatal_report_once(came);
    }
    fatal_hand_on(chain, came, inside, turn);
}

/* Was a signal caused by what this thread was just doing?  In a report that
   is told from an abort() that another thread wants. */
static bool
fatal_is_own(const struct mem_session *session, const siginfo_t *info,
             const void *context)
{
    return fault_is_synchronous(info)
           && (session == NULL || info->si_signo != SIGABRT
               || fault_has_aborted(context));
}

/* The handler of all fatal signals. */
CPU_HANDLER static void
on_fatal_signal(int signum, siginfo_t *info, void *context)
{
    cpu_clear_flags();
    int saved_errno = errno;
    struct mem_session *session = mem_here;
    struct fatal_signal came = {info, context};
    bool own = fatal_is_own(session, info, context);
    (void)signum;
    /* A vfork() child that was killed in its report left its session here. */
    if (session != NULL && session->recover != NULL
        && own && session->pid == getpid()) {
        siglongjmp(*session->recover, 1);
    }
    fatal_handle(&came, chain_inside(context, __builtin_frame_address(0)),
                 own);
    errno = saved_errno;
}

/* ==== enable(), disable(), isenabled(): the GIL is held ==== */

/* Arm, or change what armed handlers do: fill the slot that is not in use,
   install, publish.  Takes the request's sink over.  Returns -1 with errno
   and the sink closed. */
static int
fatal_arm(struct request *request)
{
    int64_t until = platform_now() + FATAL_WAIT_NS;
    stack_install();
    /* A crash may still read the slot, and must not meet our handler again:
       most processes do not live longer than this wait. */
    Py_BEGIN_ALLOW_THREADS
    while (fatal_others_turn() && platform_now() < until) {
        platform_sleep(FATAL_POLL_NS);
    }
    Py_END_ALLOW_THREADS
    pthread_mutex_lock(&state_lock);
    struct request *before = atomic_load(&fatal_request);
    struct request *slot = &fatal_requests[before == &fatal_requests[0]];
    sink_close_all(slot);
    *slot = *request;
    int result = chain_arm(false);
    int error = errno;
    if (result == 0) {
        atomic_store(&fatal_request, slot);
        if (before != NULL && !fatal_others_turn()) {
            sink_close_all(before);
        }
    }
    else {
        sink_close_all(slot);
    }
    pthread_mutex_unlock(&state_lock);
    errno = error;
    return result;
}

/* Wait until no dump relies on our handlers, but not for long.  Returns
   whether none does. */
static bool
fatal_wait_readers(void)
{
    int64_t until = platform_now() + FATAL_READERS_NS;
    atomic_fetch_add(&mem_direct.closed, 1);
    Py_BEGIN_ALLOW_THREADS
    while (atomic_load(&mem_direct.users) > 0 && platform_now() < until) {
        platform_sleep(200000);
    }
    Py_END_ALLOW_THREADS
    return atomic_load(&mem_direct.users) == 0;
}

/* Disarm.  Returns whether it was armed. */
static bool
fatal_disarm(void)
{
    pthread_mutex_lock(&state_lock);
    struct request *request = atomic_exchange(&fatal_request, NULL);
    /* A crash that is being reported needs both, file and handlers. */
    bool crashing = fatal_others_turn();
    if (request != NULL && !crashing) {
        sink_close_all(request);
    }
    pthread_mutex_unlock(&state_lock);
    if (request == NULL) {
        return false;
    }
    /* Handlers that a dump relies on stay: disarmed, they hand every signal to
       the action that was there before. */
    bool idle = fatal_wait_readers() && !crashing;
    pthread_mutex_lock(&state_lock);
    if (idle && atomic_load(&fatal_request) == NULL) {
        chain_disarm(false);
    }
    atomic_fetch_sub(&mem_direct.closed, 1);
    pthread_mutex_unlock(&state_lock);
    return true;
}

/* Did the last disable() take away the report of 1.0? */
static atomic_bool fatal_took_original;

/* Arm with the report of 1.0, as importing does.  Returns -1 with errno. */
static int
fatal_arm_original(struct request *request)
{
    request->original = request->all_threads = true;
    request->c_stack = false;
    request->max_threads = 100;
    return fatal_arm(request);
}

PyDoc_STRVAR(faulthandler_enable_doc,
"enable($module, /, file=None, all_threads=True,\n"
"       c_stack=" CPYTHON_C_STACK_DEFAULT_TEXT ", *,\n"
"       max_threads=100, details=False, copy=None)\n"
"--\n"
"\n"
"Arm the handlers of fatal signals; returns None.\n"
"\n"
"A crash then writes the standard library's report to file: an object with\n"
"fileno(), a descriptor, a path, or None for sys.stderr.  all_threads: all\n"
"threads are shown, at most max_threads of them (0: 100).  c_stack: the C\n"
"stack is shown, or with \"mixed\" one stack of C and Python frames (before\n"
"Python 3.11: of C frames), with function, file and line.\n"
"details: lines under the title say what was wrong, in which thread of\n"
"which process, and when, and threads show their context.  copy: a second\n"
"place that gets the same bytes, given like file; None for none.\n"
"\n"
"Called without arguments after disable(), it brings back what disable()\n"
"took away: the report of faulthandler 1.0 where importing had armed it,\n"
"else the standard library's.\n"
"\n"
"The file of a path is opened when there is something to write.  A new one\n"
"can be read by this user only; to one that is there the report is\n"
"appended.  In the file's name %p becomes the process id, %t the time in\n"
"seconds since 1970, %% a percent sign.  The folder must be there and take\n"
"new files.  The file must not be a symbolic link; in a folder that belongs\n"
"to another user, or that others can write, it must belong to this user and\n"
"have one name.\n"
"\n"
"Options in the environment variable PYTHONFAULTHANDLER are the defaults of\n"
"these arguments.\n"
"\n"
"Raises RuntimeError if sys.stderr is None, ValueError for a negative\n"
"descriptor, another c_stack or another %, what file.fileno() raises, and\n"
"OSError if no file can be written at the path, or if a handler cannot be\n"
"installed.");

static PyObject *
faulthandler_enable(PyObject *module, PyObject *args, PyObject *kwargs)
{
    struct module_state *state = PyModule_GetState(module);
    struct option_call call;
    if (option_read(&call, args, kwargs) < 0) {
        return NULL;
    }
    bool original = call.plain && atomic_load(&fatal_request) == NULL
                    && atomic_load(&fatal_took_original);
    if (!original && call.request.c_stack) {
        unwind_init();
    }
    if (!original) {
        modules_note();
    }
    if ((original ? fatal_arm_original(&call.request)
                  : fatal_arm(&call.request)) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_XDECREF(call.keep_file);
        Py_XDECREF(call.keep_copy);
        return NULL;
    }
    sink_keep(&state->fatal_file, call.keep_file);
    sink_keep(&state->fatal_copy, call.keep_copy);
    Py_RETURN_NONE;
}

static PyObject *
faulthandler_disable(PyObject *module, PyObject *args)
{
    struct module_state *state = PyModule_GetState(module);
    (void)args;
    const struct request *request = atomic_load(&fatal_request);
    if (request != NULL) {
        atomic_store(&fatal_took_original, request->original);
    }
    bool was_armed = fatal_disarm();
    sink_keep(&state->fatal_file, NULL);
    sink_keep(&state->fatal_copy, NULL);
    return PyBool_FromLong(was_armed);
}

static PyObject *
faulthandler_is_enabled(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    return PyBool_FromLong(atomic_load(&fatal_request) != NULL);
}

/* ==== Crashing on purpose ==== */

UNSANITIZED static void
crash_read_null(void)
{
    volatile int *volatile nowhere = NULL;
    (void)*nowhere;
}

/* Read behind the end of a mapped file. */
UNSANITIZED static void
crash_past_end(void)
{
    const size_t size = 4096;
    int fd = (int)syscall(SYS_memfd_create, "empty", 1u /* MFD_CLOEXEC */);
    volatile char *map = fd < 0 ? MAP_FAILED
                         : mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) {
        close(fd);
    }
    if (map != MAP_FAILED) {
        (void)*map;
        munmap((void *)(uintptr_t)map, size);
    }
}

#define CRASH_STACK_MAX (100 * 1024 * 1024)

/* Recurse until the stack ends.  Returns how much of it there was, if it is
   larger than expected. */
UNSANITIZED static uintptr_t
crash_recurse(uintptr_t start, size_t *depth)
{
    volatile char frame[4096];
    uintptr_t here = (uintptr_t)frame;
    uintptr_t used = start > here ? start - here : here - start;
    frame[0] = (char)++*depth;
    if (used > CRASH_STACK_MAX) {
        return used;
    }
    return crash_recurse(start, depth) + (frame[0] == 1);
}

static PyObject *
crash_sigsegv(PyObject *args, PyObject *kwargs, const char *format,
              char *name)
{
    char *names[] = {name, NULL};
    int release_gil = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names,
                                     &release_gil)) {
        return NULL;
    }
    PyThreadState *state = release_gil ? PyEval_SaveThread() : NULL;
    crash_read_null();
    if (state != NULL) {
        PyEval_RestoreThread(state);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(faulthandler_sigsegv_doc,
"sigsegv($module, /, release_gil=False)\n"
"--\n"
"\n"
"Crash with SIGSEGV: read the address 0, without the GIL if release_gil.");

static PyObject *
faulthandler_sigsegv(PyObject *module, PyObject *args, PyObject *kwargs)
{
    (void)module;
    return crash_sigsegv(args, kwargs, "|p:sigsegv", "release_gil");
}

static PyObject *
faulthandler__sigsegv(PyObject *module, PyObject *args)
{
    (void)module;
    return crash_sigsegv(args, NULL, "|p:_sigsegv", "");
}

static PyObject *
faulthandler__read_null(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    crash_read_null();
    Py_RETURN_NONE;
}

UNSANITIZED static PyObject *
faulthandler_sigfpe(PyObject *module, PyObject *args)
{
    volatile int one = 1, zero = 0;
    (void)module, (void)args;
    one /= zero;
    raise(SIGFPE);              /* some processors say that it is 0 */
    return PyLong_FromLong(one);
}

static PyObject *
faulthandler_sigbus(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    crash_past_end();
    raise(SIGBUS);              /* there was no file to be had */
    Py_RETURN_NONE;
}

static PyObject *
faulthandler_sigill(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    cpu_undefined();
    raise(SIGILL);              /* not known for this processor */
    Py_RETURN_NONE;
}

static PyObject *
faulthandler__sigabrt(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    abort();
}

static PyObject *
faulthandler__stack_overflow(PyObject *module, PyObject *args)
{
    size_t depth = 0;
    char here;
    (void)module, (void)args;
    uintptr_t used = crash_recurse((uintptr_t)&here, &depth);
    PyErr_Format(PyExc_RuntimeError,
                 "unable to raise a stack overflow (allocated %zu bytes "
                 "on the stack, %zu recursive calls)",
                 (size_t)used, depth);
    return NULL;
}

/* Up to 3.9 test suites look for the name of this function in the message. */
static PyObject *
faulthandler_fatal_error_py(PyObject *module, PyObject *args)
{
    const char *message;
    int release_gil = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "y|p:_fatal_error", &message,
                          &release_gil)) {
        return NULL;
    }
    if (release_gil) {
        PyEval_SaveThread();
    }
    Py_FatalError(message);
}

/* The name appears in Py_FatalError()'s message, where test suites look for
   it. */
static void *
faulthandler_fatal_error_thread(void *unused)
{
    (void)unused;
    Py_FatalError("in new thread");
}

static PyObject *
faulthandler__fatal_error_c_thread(PyObject *module, PyObject *args)
{
    pthread_t thread;
    (void)module, (void)args;
    int error = pthread_create(&thread, NULL,
                               faulthandler_fatal_error_thread, NULL);
    if (error != 0) {
        PyErr_Format(PyExc_RuntimeError, "unable to start the thread: %s",
                     strerror(error));
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* ==== The module ==== */

static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool module_at_exit_set;

/* A child of fork() has one thread, and none of the claims of the others. */
static void
module_after_fork(void)
{
    pthread_mutex_init(&state_lock, NULL);
    pthread_mutex_init(&module_lock, NULL);
    later_forget();
    atomic_store(&report_door, 0);
    atomic_store(&fatal_turn, FATAL_NOBODY);
    fatal_pid = getpid();
    mem_after_fork();
    atomic_store(&dump_memory_used, false);
    stack_after_fork();
}

/* Note the code of the functions that print a traceback and abort. */
static void
module_note_printers(void)
{
    static const char *const names[FAULT_PRINTERS] = {
        "Py_FatalError", "_Py_FatalErrorFunc", "_Py_FatalErrorFormat",
        "_Py_FatalRefcountErrorFunc",
    };
    for (size_t i = 0; i < FAULT_PRINTERS; i++) {
        fault_printers[i] = platform_find_code(names[i]);
    }
    fault_abort = platform_find_code("abort");
}

/* What is done once a process, under the GIL of whoever comes first. */
static void
module_init_process(void)
{
    static bool done;
    /* Interpreters with GILs of their own may come at the same time.  Not
       state_lock, which is taken with the GIL held: here the GIL is taken with
       the lock held. */
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&module_lock);
    Py_END_ALLOW_THREADS
    if (!done) {
        platform_init();
        cpython_init();
        mem_fatal_handler = on_fatal_signal;
        fatal_pid = getpid();
        strncpy(report_python, Py_GetVersion(), sizeof report_python - 1);
        report_python[strcspn(report_python, " ")] = '\0';
        stack_init();
        later_init();
        pthread_atfork(NULL, NULL, module_after_fork);
        module_note_printers();
        native_init();
        done = true;
    }
    pthread_mutex_unlock(&module_lock);
}

/* The watchdog must not outlive the interpreter that it looks at.  A host that
   had handlers of its own gets them back. */
static void
module_at_exit(void)
{
    atomic_store(&module_at_exit_set, false);
    later_replace(NULL);
    chain_disarm(true);
}

/* Importing arms, unless something has: the settings of an earlier enable()
   stay, also those of the interpreter that has ended in this process. */
static int
module_exec(PyObject *module)
{
    struct request request;
    module_init_process();
    PyObject *context = task_variable();
    if (context == NULL || PyModule_AddIntConstant(module, "version",
                                                   FAULTHANDLER_VERSION) < 0
        || PyModule_AddObject(module, "context", context) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    /* Once for each life of the interpreter. */
    if (PyThreadState_Get()->interp == PyInterpreterState_Main()
        && !atomic_exchange(&module_at_exit_set, true)
        && Py_AtExit(module_at_exit) < 0) {
        atomic_store(&module_at_exit_set, false);
    }
    if (atomic_load(&fatal_request) == NULL) {
        memset(&request, 0, sizeof request);
        sink_standard_error(&request.sink);
        if (fatal_arm_original(&request) < 0) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
    }
    else {
        pthread_mutex_lock(&state_lock);
        chain_arm(true);
        pthread_mutex_unlock(&state_lock);
    }
    if (!cpython.frames_known) {
        cpython.frames_known = selftest_agrees();
    }
    return stack_wrap_starters();
}

/* The state is nothing but objects.  3.8 calls these before there is one. */
#define MODULE_OBJECTS (sizeof(struct module_state) / sizeof(PyObject *))

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    PyObject **objects = PyModule_GetState(module);
    for (size_t i = 0; objects != NULL && i < MODULE_OBJECTS; i++) {
        Py_VISIT(objects[i]);
    }
    return 0;
}

static int
module_clear(PyObject *module)
{
    PyObject **objects = PyModule_GetState(module);
    for (size_t i = 0; objects != NULL && i < MODULE_OBJECTS; i++) {
        Py_CLEAR(objects[i]);
    }
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

#define MODULE_KEYWORDS(name, function) \
    {#name, (PyCFunction)(void (*)(void))function, \
     METH_VARARGS | METH_KEYWORDS, function##_doc}
#define MODULE_PLAIN(name, function, doc) \
    {#name, faulthandler_##function, METH_NOARGS, \
     #name "($module, /)\n--\n\n" doc}

static PyMethodDef module_methods[] = {
    MODULE_KEYWORDS(enable, faulthandler_enable),
    MODULE_PLAIN(disable, disable,
        "Disarm the handlers of fatal signals; returns whether they were "
        "armed.\n\n"
        "What was there before is put back, except where somebody else has\n"
        "installed a handler since."),
    MODULE_PLAIN(isenabled, is_enabled,
        "Return whether the handlers of fatal signals are armed.\n\n"
        "The name of faulthandler 1.0 for is_enabled()."),
    MODULE_PLAIN(is_enabled, is_enabled,
        "Return whether the handlers of fatal signals are armed."),
    MODULE_KEYWORDS(dump_traceback, dump_traceback),
    MODULE_KEYWORDS(dump_c_stack, dump_c_stack),
    MODULE_KEYWORDS(dump_traceback_later, later_dump_traceback),
    {"cancel_dump_traceback_later", later_cancel, METH_NOARGS,
     later_cancel_doc},
    MODULE_KEYWORDS(register, user_register),
    {"unregister", user_unregister, METH_O, user_unregister_doc},
    MODULE_KEYWORDS(sigsegv, faulthandler_sigsegv),
    MODULE_PLAIN(sigfpe, sigfpe,
        "Crash with SIGFPE: divide by zero, or raise it where that is no "
        "fault."),
    MODULE_PLAIN(sigbus, sigbus,
        "Crash with SIGBUS: read behind the end of a mapped file."),
    MODULE_PLAIN(sigill, sigill,
        "Crash with SIGILL: execute an undefined instruction."),
    {"_sigsegv", faulthandler__sigsegv, METH_VARARGS,
     "_sigsegv($module, release_gil=False, /)\n--\n\n"
     "Crash with SIGSEGV.  The standard library's name for sigsegv()."},
    MODULE_PLAIN(_sigfpe, sigfpe,
        "Crash with SIGFPE.  The standard library's name for sigfpe()."),
    MODULE_PLAIN(_sigabrt, _sigabrt,
        "Crash with SIGABRT: call abort()."),
    MODULE_PLAIN(_read_null, _read_null,
        "Crash with SIGSEGV: read the address 0."),
    MODULE_PLAIN(_stack_overflow, _stack_overflow,
        "Crash with SIGSEGV: call a function until the stack is full.\n\n"
        "Raises RuntimeError if it takes more than 100 MiB."),
    {"_fatal_error", faulthandler_fatal_error_py, METH_VARARGS,
     "_fatal_error($module, message, release_gil=False, /)\n--\n\n"
     "Crash with SIGABRT: call Py_FatalError() with a message of bytes,\n"
     "without the GIL if release_gil."},
    MODULE_PLAIN(_fatal_error_c_thread, _fatal_error_c_thread,
        "Crash with SIGABRT: call Py_FatalError() in a thread that Python "
        "does\nnot know."),
    {NULL, NULL, 0, NULL}
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
    CPYTHON_MODULE_SLOTS
    {0, NULL}
};

PyDoc_STRVAR(module_doc,
"Print the Python traceback when the process dies of a signal.\n"
"\n"
"Importing the module arms it: a segmentation fault, a floating point\n"
"exception, a bus error, an illegal instruction or an abort then writes the\n"
"traceback of all threads to standard error before the process dies.");

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "faulthandler",
    .m_doc = module_doc,
    .m_size = sizeof(struct module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

/* All else is hidden; 3.8's PyMODINIT_FUNC does not say that this is not. */
__attribute__((visibility("default"))) PyMODINIT_FUNC
PyInit_faulthandler(void)
{
    return PyModuleDef_Init(&module_def);
}
