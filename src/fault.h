/* fault: the fatal signals, and why one came. */

#ifndef FAULTHANDLER_FAULT_H
#define FAULTHANDLER_FAULT_H

#include "cpu.h"
#include "cpython.h"
#include "decode.h"
#include "map.h"
#include "mem.h"
#include "out.h"
#include "platform.h"

/* The fatal signals, in the order in which they are armed. */
static struct fault_signal {
    const int signum;
    const char *const title;            /* the report of 1.0 */
    const char *const library_title;    /* the running Python's */
    bool armed;                 /* our handler was installed */
    atomic_bool given_back;     /* it handed the signal to its predecessor */
    atomic_int giver;           /* the thread in which it did */
    atomic_bool handed;         /* ... and the older handler is to come */
    atomic_uintptr_t caller;    /* the frame that calls it, */
    atomic_int calls;           /* and the thread */
    struct sigaction previous;
} fault_signals[] = {
    {.signum = SIGBUS, .title = "Bus error",
     .library_title = "Bus error"},
    {.signum = SIGILL, .title = "Illegal instruction",
     .library_title = "Illegal instruction"},
    {.signum = SIGFPE, .title = "Floating point exception",
     .library_title = LAYOUT_FPE_TITLE},
    {.signum = SIGABRT, .title = "Aborted",
     .library_title = "Aborted"},
    {.signum = SIGSEGV, .title = "Segmentation fault",
     .library_title = "Segmentation fault"},
};
#define FAULT_COUNT (sizeof fault_signals / sizeof *fault_signals)

static struct fault_signal *
fault_find(int signum)
{
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        if (fault_signals[i].signum == signum) {
            return &fault_signals[i];
        }
    }
    return NULL;
}

/* Did this thread cause the signal by what it was just doing?  Faults come
   from the kernel; abort() sends to itself. */
static bool
fault_is_synchronous(const siginfo_t *info)
{
    return info->si_code > 0
           || (info->si_signo == SIGABRT && info->si_code == SI_TKILL
               && info->si_pid == getpid());
}

/* The code of Py_FatalError() and its kin, which print a traceback of their
   own before they call abort(). */
static struct platform_code fault_printers[4];
#define FAULT_PRINTERS (sizeof fault_printers / sizeof *fault_printers)
#define FAULT_SCAN_WORDS 1024

/* That of abort(). */
static struct platform_code fault_abort;

/* Does the stack hold a return into one of n functions?  A scan, not an
   unwinding: it is to be right about calls that never return and leave no
   stale addresses behind. */
static bool
fault_is_inside(const void *context, const struct platform_code *ranges,
                size_t n)
{
    uintptr_t word, sp = cpu_get_place(context).sp;
    for (size_t i = 0; i < FAULT_SCAN_WORDS; i++) {
        if (mem_word(sp + i * sizeof word, &word) < 0) {
            return false;
        }
        for (size_t j = 0; j < n; j++) {
            /* The call is the last instruction: its return address may be
               the first one behind the function. */
            if (word > ranges[j].start && word <= ranges[j].end) {
                return true;
            }
        }
    }
    return false;
}

/* Has the interpreter printed this abort()? */
static bool
fault_was_reported(const void *context)
{
    return fault_is_inside(context, fault_printers, FAULT_PRINTERS);
}

/* Has this thread called abort()?  Another thread that sends the signal leaves
   the same siginfo. */
static bool
fault_has_aborted(const void *context)
{
    return fault_abort.start == 0 || fault_is_inside(context, &fault_abort, 1);
}

/* What the si_code of a signal says.  By number: not every C library has all
   the names.  Signal 0 stands for any. */
static const struct fault_code {
    int signum, code;
    const char *name, *words;
} fault_codes[] = {
    {SIGSEGV, 1, "SEGV_MAPERR", "nothing is mapped there"},
    {SIGSEGV, 2, "SEGV_ACCERR", "that is not allowed there"},
    {SIGSEGV, 3, "SEGV_BNDERR", "it is out of the object's bounds"},
    {SIGSEGV, 4, "SEGV_PKUERR", "its protection key forbids it"},
    {SIGSEGV, 5, "SEGV_ACCADI", "memory tagging is not enabled there"},
    {SIGSEGV, 6, "SEGV_ADIDERR", "a wrong memory tag, noticed later"},
    {SIGSEGV, 7, "SEGV_ADIPERR", "a wrong memory tag"},
    {SIGSEGV, 8, "SEGV_MTEAERR", "a wrong memory tag, noticed later"},
    {SIGSEGV, 9, "SEGV_MTESERR", "a wrong memory tag"},
    {SIGSEGV, 10, "SEGV_CPERR",
     "the return address or the jump's target was tampered with"},
    {SIGBUS, 1, "BUS_ADRALN", "the address is not aligned"},
    {SIGBUS, 2, "BUS_ADRERR", "there is no memory behind it"},
    {SIGBUS, 3, "BUS_OBJERR", "the hardware of this object failed"},
    {SIGBUS, 4, "BUS_MCEERR_AR", "the machine's memory is broken there"},
    {SIGBUS, 5, "BUS_MCEERR_AO",
     "the machine's memory is broken there, found before it was used"},
    {SIGFPE, 1, "FPE_INTDIV", "integer division by zero or overflow"},
    {SIGFPE, 2, "FPE_INTOVF", "integer overflow"},
    {SIGFPE, 3, "FPE_FLTDIV", "floating point division by zero"},
    {SIGFPE, 4, "FPE_FLTOVF", "floating point overflow"},
    {SIGFPE, 5, "FPE_FLTUND", "floating point underflow"},
    {SIGFPE, 6, "FPE_FLTRES", "inexact floating point result"},
    {SIGFPE, 7, "FPE_FLTINV", "invalid floating point operation"},
    {SIGFPE, 8, "FPE_FLTSUB", "subscript out of range"},
    {SIGFPE, 9, "FPE_DECOVF", "decimal overflow"},
    {SIGFPE, 10, "FPE_DECDIV", "decimal division by zero"},
    {SIGFPE, 11, "FPE_DECERR", "decimal packed number is not valid"},
    {SIGFPE, 12, "FPE_INVASC", "invalid digit"},
    {SIGFPE, 13, "FPE_INVDEC", "invalid decimal digit"},
    {SIGFPE, 14, "FPE_FLTUNK", "floating point exception, not told which"},
    {SIGFPE, 15, "FPE_CONDTRAP", "trap on a condition"},
    {SIGILL, 1, "ILL_ILLOPC", "illegal opcode"},
    {SIGILL, 2, "ILL_ILLOPN", "illegal operand"},
    {SIGILL, 3, "ILL_ILLADR", "illegal addressing mode"},
    {SIGILL, 4, "ILL_ILLTRP", "illegal trap"},
    {SIGILL, 5, "ILL_PRVOPC", "privileged opcode"},
    {SIGILL, 6, "ILL_PRVREG", "privileged register"},
    {SIGILL, 7, "ILL_COPROC", "coprocessor error"},
    {SIGILL, 8, "ILL_BADSTK", "error of the register stack"},
    {SIGILL, 9, "ILL_BADIADDR", "instruction at an impossible address"},
    {SIGILL, 10, "ILL_BREAK", "illegal break"},
    {SIGILL, 11, "ILL_BNDMOD", "bundle was changed while it ran"},
    {0, 0x80, "SI_KERNEL", "sent by the kernel"},
    {0, 0, "SI_USER", " with kill()"},
    {0, -1, "SI_QUEUE", " with sigqueue()"},
    {0, -2, "SI_TIMER", "a timer of this process has run out"},
    {0, -3, "SI_MESGQ", ", as a message came into a queue"},
    {0, -4, "SI_ASYNCIO", ", as asynchronous input or output was done"},
    {0, -5, "SI_SIGIO", "a file is ready for input or output"},
    {0, -6, "SI_TKILL", " with tgkill()"},
    {0, -7, "SI_DETHREAD", "execve() ended the process's other threads"},
    {0, -60, "SI_ASYNCNL", ", as a name was looked up"},
};

static const struct fault_code *
fault_find_code(const siginfo_t *info)
{
    for (size_t i = 0; i < sizeof fault_codes / sizeof *fault_codes; i++) {
        const struct fault_code *c = &fault_codes[i];
        if (c->code == info->si_code
            && (c->signum == info->si_signo || c->signum == 0)) {
            return c;
        }
    }
    return NULL;
}

/* End a line with the name of the code, or its number. */
static void
fault_end(struct out *o, const siginfo_t *info)
{
    const struct fault_code *code = fault_find_code(info);
    out_text(o, " (");
    if (code != NULL) {
        out_text(o, code->name);
    }
    else {
        out_text(o, info->si_code < 0 ? "si_code -" : "si_code ");
        out_decimal(o, info->si_code < 0 ? 0u - (unsigned)info->si_code
                                         : (unsigned)info->si_code);
    }
    out_text(o, ")\n");
}

/* Can it be the stack of anything?  No file is. */
static bool
fault_is_like_stack(const struct fault_mapping *m)
{
    return m->can[CPU_READ] && m->can[CPU_WRITE]
           && m->path[0] != '/';
}

/* What is known of a fault that has an address, and of the memory around. */
struct fault_place {
    uintptr_t address, pc, sp;
    enum cpu_access access;
    struct fault_mapping at;    /* where the address is */
    uintptr_t next;             /* the next one above that may be a stack */
    uintptr_t low, high;        /* this thread's stack, 0: not known */
    bool main_stack;
    bool sp_elsewhere;          /* in another one that may be a stack */
};

/* How much of a thread's data may lie above pthread_self(), and how far below
   its stack a stack pointer is looked for after a fork. */
#define FAULT_THREAD_DATA 4096
#define FAULT_NEAR ((uintptr_t)1 << 20)

/* Note the stack of the calling thread.  A thread's own data stand at the
   upper end of its stack; of the main thread's, which the kernel names, they
   do not.  In the child of another thread's fork, that thread is the main
   one, on its own stack. */
static void
fault_note_stack(struct fault_place *p, const struct fault_mapping *m)
{
    uintptr_t self = (uintptr_t)pthread_self();
    bool is_main = platform_thread_id() == getpid();
    if (m->start <= self && self < m->end
        && (!is_main || (p->sp + FAULT_NEAR > m->start && p->sp < m->end))) {
        uintptr_t end = self + FAULT_THREAD_DATA;
        end -= end % FAULT_THREAD_DATA;
        p->low = m->start;
        p->high = end < m->end ? end : m->end;
    }
    else if (is_main && p->low == 0 && strcmp(m->path, "[stack]") == 0) {
        p->low = m->start;
        p->high = m->end;
        p->main_stack = true;
    }
}

/* Look the addresses up, in one pass.  The map is read when it is needed, not
   noted when a thread starts: that would cost each thread of a healthy
   process, miss those that others start, and grow old.  Not /proc/self: it
   has no memory when the main thread has ended. */
static void
fault_read_map(struct fault_place *p, uintptr_t alternate)
{
    struct fault_map_reader r;
    struct fault_mapping m;
    uintptr_t sp_start = 0;     /* of the mapping that sp is in */
    r.at = r.size = 0;
    r.text[0] = '\0';
    r.fd = platform_open("/proc/thread-self/maps");
    if (r.fd < 0) {
        return;
    }
    while (fault_map_next(&r, &m)) {
        bool like_stack = fault_is_like_stack(&m);
        bool is_alternate = m.start <= alternate && alternate < m.end;
        if (m.start <= p->address && p->address < m.end) {
            p->at = m;
        }
        if (p->next == 0 && m.start > p->address && like_stack
            && !is_alternate) {
            p->next = m.start;
        }
        if (m.start <= p->sp && p->sp < m.end && like_stack) {
            sp_start = m.start;
        }
        fault_note_stack(p, &m);
    }
    close(r.fd);
    p->sp_elsewhere = sp_start != 0 && sp_start != p->low;
}

/* An access this far below the stack pointer still belongs to the frame, and
   a frame is not larger than that. */
#define FAULT_RED_ZONE 256
#define FAULT_FRAME_MAX ((uintptr_t)256 << 20)
#define FAULT_ALTERNATE_BELOW (64 * 1024)
#define FAULT_PROLOGUE 512

/* Is the guard a part of the stack's mapping?  So it is from glibc 2.42 on,
   made by madvise(): the map says that the access is allowed. */
static bool
fault_is_inner_guard(const struct fault_place *p)
{
    const struct fault_mapping *at = &p->at;
    return at->end != 0 && at->start == p->low
           && at->can[p->access == CPU_UNKNOWN
                      ? CPU_WRITE : p->access];
}

/* Was a large frame made right before, that begins on this thread's stack?
   Looks back for the instruction, sub $size,%rsp.  One of a small frame is
   another function's end of the search, and so is a ret. */
static bool
fault_made_frame(const struct fault_place *p)
{
    uint8_t code[FAULT_PROLOGUE + 7] = {0};
    size_t n = FAULT_IS_X86_64 ? FAULT_PROLOGUE : 0;
    while (n >= 16 && mem_read(code, p->pc - n, n) < 0) {
        n /= 2;
    }
    for (size_t i = n < 16 ? 0 : n; i-- > 0;) {
        const uint8_t *at = code + i;
        if (at[0] == 0xc3
            || (at[0] == 0x48 && at[1] == 0x83 && at[2] == 0xec)) {
            return false;
        }
        if (at[0] == 0x48 && at[1] == 0x81 && at[2] == 0xec) {
            int32_t size;
            memcpy(&size, at + 3, sizeof size);
            uintptr_t begin = p->sp + (uintptr_t)size;
            return size > 0 && p->low < begin && begin < p->high;
        }
    }
    return false;
}

/* Has the stack of this thread overflowed?  Then the access was below the
   stack, but not below the frame that was to be made there.  Of a large frame,
   which may reach over the guard and more, it is known where it begins, or
   nothing else that may be a stack lies in between: the stack of a coroutine
   that is full is not this thread's.  The frame pointer does not tell: in
   optimised code it may be an older frame's. */
static bool
fault_overflowed(const struct fault_place *p, const stack_t *alternate)
{
    uintptr_t other = (uintptr_t)alternate->ss_sp;
    if (p->low == 0 || p->address + FAULT_RED_ZONE < p->sp
        || p->sp >= p->high || p->sp + FAULT_FRAME_MAX < p->low) {
        return false;
    }
    if (p->address >= p->low) {
        return fault_is_inner_guard(p);
    }
    if (fault_made_frame(p)) {
        return true;
    }
    bool on_other = other != 0 && p->sp + FAULT_ALTERNATE_BELOW > other
                    && p->sp < other + alternate->ss_size;
    return p->next == p->low && !p->sp_elsewhere && !on_other;
}

/* How large the stack was: without the guard, and of the main thread, which
   gets its stack as it needs it, what it could have got. */
static uintptr_t
fault_stack_size(const struct fault_place *p)
{
    uintptr_t low = p->low, page = 4096;
    struct rlimit limit;
    char byte;
    if (p->main_stack && getrlimit(RLIMIT_STACK, &limit) == 0
        && limit.rlim_cur < p->high && p->address < p->high - limit.rlim_cur) {
        return (uintptr_t)limit.rlim_cur;
    }
    if (p->address >= low) {
        low = p->address / page * page;     /* of several threads' stacks */
    }
    const uintptr_t first = low;
    while (low < p->high && low < first + 256 * page
           && mem_read(&byte, low, 1) < 0) {
        low += page;
    }
    return p->high - low;
}

static const char *
fault_access_word(enum cpu_access access)
{
    static const char *const words[] = {
        "accessing", "reading", "writing", "executing",
    };
    return words[access];
}

/* Addresses this near to 0 belong to no memory: an unprivileged program can
   map none below 64 KiB.  They are NULL and something added, or taken off. */
#define FAULT_NULL_MAX 65536

/* Write an address and what can be told from the number alone. */
static void
fault_write_address(struct out *o, enum cpu_access access,
                    uintptr_t address)
{
    out_text(o, "  ");
    out_text(o, fault_access_word(access));
    out_text(o, " address ");
    out_address(o, address);
    if (address < FAULT_NULL_MAX) {
        out_text(o, " (a NULL pointer");
        if (address > 0) {
            out_text(o, " plus ");
            out_decimal(o, address);
        }
        out_char(o, ')');
    }
    else if (0 - address <= FAULT_NULL_MAX) {
        out_text(o, " (a NULL pointer minus ");
        out_decimal(o, 0 - address);
        out_char(o, ')');
    }
    else if (address > UINTPTR_MAX / 2 && !fault_is_odd(address)) {
        out_text(o, " (the kernel's part of the addresses)");
    }
}

/* Write the path of a mapping. */
static void
fault_write_path(struct out *o, const struct fault_mapping *m)
{
    for (size_t i = 0; m->path[i] != '\0' && i < FAULT_PATH_MAX; i++) {
        out_escaped(o, (unsigned char)m->path[i]);
    }
    out_text(o, strlen(m->path) > FAULT_PATH_MAX ? "..." : "");
}

/* The mapping is there, but it allows other things than what was tried. */
static void
fault_write_mapping(struct out *o, const struct fault_mapping *m,
                    enum cpu_access access)
{
    static const char *const allowed[] = {
        "allows no access", "allows only reading", "allows only writing",
        "allows only reading and writing", "allows only executing",
        "allows only reading and executing",
        "allows only writing and executing",
        "allows reading, writing and executing",
    };
    out_text(o, "the mapping ");
    if (m->path[0] != '\0') {
        out_text(o, m->path[0] == '[' ? "" : "of ");
        fault_write_path(o, m);
        out_char(o, ' ');
    }
    if (m->can[access]) {
        out_text(o, "allows it, but not this page");
        return;
    }
    out_text(o, allowed[m->can[CPU_READ] + 2 * m->can[CPU_WRITE]
                        + 4 * m->can[CPU_EXECUTE]]);
}

/* A file behind a mapping ends before the address, or has no memory for it:
   the kernel gives both the same code. */
static void
fault_write_file(struct out *o, const struct fault_place *p)
{
    const struct fault_mapping *m = &p->at;
    uint64_t size, offset = m->offset + (p->address - m->start);
    int known = platform_file_size(m->path, m->inode, &size);
    out_text(o, known == 0 && offset < size ? "inside" : "past the end of");
    out_text(o, " the mapped file ");
    fault_write_path(o, m);
    if (known < 0) {
        out_text(o, ", or no memory for it is left");
    }
    else if (offset < size) {
        out_text(o, ", no memory for it is left, or it cannot be read");
    }
}

/* Write what is wrong with an address. */
static void
fault_write_reason(struct out *o, const siginfo_t *info,
                   const struct fault_place *p)
{
    const struct fault_code *code = fault_find_code(info);
    bool segv = info->si_signo == SIGSEGV;
    if (p->at.end != 0 && segv && info->si_code <= 2) {
        fault_write_mapping(o, &p->at, p->access);
    }
    else if (!segv && info->si_code == 2 && p->at.path[0] == '/') {
        fault_write_file(o, p);
    }
    else {
        out_text(o, code != NULL ? code->words : "the kernel says no more");
    }
    if (segv && info->si_code == 4) {
        out_text(o, ", number ");
        out_decimal(o, (uint64_t)info->si_pkey);
    }
}

/* What CPython's debug allocator fills memory with.  Windows' debug heap and
   CPython up to 3.7 know 0xdb. */
static const struct {
    uint8_t byte;
    const char *words;
} fault_patterns[] = {
    {0xdd, "freed memory: likely a use after free"},
    {0xdb, "freed memory: likely a use after free"},
    {0xcd, "memory that was not written yet: likely a use too early, or after"
     " free"},
    {0xfd, "the ends of a block: likely a use past its end, or after free"},
};
#define FAULT_PATTERN_MAX 65536

/* Is a value one of the patterns, or near to it?  Then it was read from such
   memory, and something was added.  Writes a line that says so. */
static bool
fault_write_pattern(struct out *o, const char *name, uintptr_t value)
{
    for (size_t i = 0; i < sizeof fault_patterns / sizeof *fault_patterns;
         i++) {
        uintptr_t pattern = UINTPTR_MAX / 255 * fault_patterns[i].byte;
        if (value - pattern + FAULT_PATTERN_MAX <= 2 * FAULT_PATTERN_MAX) {
            out_text(o, name == NULL ? "  the address" : "  register ");
            out_text(o, name == NULL ? "" : name);
            out_text(o, " is ");
            out_address(o, value);
            out_text(o, value == pattern ? ", with which CPython fills "
                                         : ", near that with which CPython"
                                           " fills ");
            out_text(o, fault_patterns[i].words);
            out_char(o, '\n');
            return true;
        }
    }
    return false;
}

/* Did the address come from a register that holds a pattern?  On processors
   that take any number for an address; some ignore its upper byte. */
static void
fault_write_origin(struct out *o, const struct fault_state *f,
                   uintptr_t address)
{
    for (size_t i = 0; !FAULT_IS_X86_64 && i < FAULT_REGISTERS; i++) {
        uintptr_t offset = address - f->registers[i] + FAULT_PATTERN_MAX;
        if ((offset & (UINTPTR_MAX >> 8)) <= 2 * FAULT_PATTERN_MAX
            && fault_write_pattern(o, fault_register_name(i),
                                   f->registers[i])) {
            return;
        }
    }
}

/* A fault at an address that the kernel told. */
static void
fault_write_memory(struct out *o, const siginfo_t *info, const void *context,
                   const struct fault_state *f)
{
    const ucontext_t *uc = context;
    struct fault_place p;
    stack_t alternate = uc->uc_stack;
    memset(&p, 0, sizeof p);
    p.address = (uintptr_t)info->si_addr;
    p.pc = cpu_get_place(context).pc;
    p.sp = cpu_get_place(context).sp;
    p.access = f->address == p.address ? f->access : CPU_UNKNOWN;
    if (alternate.ss_flags & SS_DISABLE) {
        alternate.ss_sp = NULL;
    }
    fault_read_map(&p, (uintptr_t)alternate.ss_sp);
    if (info->si_signo == SIGSEGV && info->si_code <= 2
        && fault_overflowed(&p, &alternate)) {
        out_text(o, "  The stack of this thread overflowed (");
        out_decimal(o, fault_stack_size(&p) / 1024);
        out_text(o, " KiB, address ");
        out_address(o, p.address);
        out_text(o, "): ");
        out_text(o, fault_access_word(p.access));
        out_text(o, " below its end");
    }
    else if (info->si_signo == SIGSEGV && p.address == 0
             && (info->si_code == 8 || info->si_code == 10)) {
        out_text(o, "  ");      /* the kernel tells no address */
        fault_write_reason(o, info, &p);
    }
    else {
        fault_write_address(o, p.access, p.address);
        out_text(o, ": ");
        fault_write_reason(o, info, &p);
    }
    fault_end(o, info);
    fault_write_origin(o, f, p.address);
}

/* Write bytes of code, in hex. */
static void
fault_write_code(struct out *o, uintptr_t pc)
{
    uint8_t code[FAULT_CODE_MAX];
    size_t n = fault_read_code(code, pc);
    for (size_t i = 0; i < n; i++) {
        out_text(o, i == 0 ? "" : " ");
        out_hex(o, code[i], 2);
    }
    const char *name = cpu_undefined_name(code, n);
    if (name != NULL) {
        out_text(o, " (");
        out_text(o, name);
        out_text(o, ", by which compilers mark what must not be reached)");
    }
    out_text(o, n == 0 ? "???" : "");
    out_text(o, " at address ");
    out_address(o, pc);
}

/* The processor refused an instruction, and the kernel says no address:
   si_addr is 0, which is no NULL pointer. */
static void
fault_write_refused(struct out *o, const siginfo_t *info,
                    const struct fault_state *f, uintptr_t pc)
{
    struct fault_instruction in;
    struct fault_odd odd = {0, CPU_UNKNOWN, {-1, -1}};
    bool decoded = fault_decode(&in, pc, f->registers) == 0;
    bool found = fault_find_odd(&in, f->registers, pc, &odd)
                 && (decoded || odd.access == CPU_EXECUTE);
    if (found) {
        fault_write_address(o, odd.access, odd.address);
        out_text(o, ": a non-canonical address, no memory can be there");
    }
    else if (decoded && (f->trap == CPU_TRAP_ALIGNMENT
                         ? in.in_memory : fault_is_misaligned(&in))) {
        fault_write_address(o, fault_operand_access(&in), in.address);
        out_text(o, ": this instruction needs an aligned address");
    }
    else if (decoded && fault_is_privileged(&in)) {
        out_text(o, "  an instruction that only the kernel may use: ");
        fault_write_code(o, pc);
    }
    else {
        out_text(o, f->trap == CPU_TRAP_ALIGNMENT
                    ? "  an address that is not aligned: "
                    : "  a non-canonical address, or an instruction that is"
                      " not allowed: ");
        fault_write_code(o, pc);
    }
    fault_end(o, info);
    bool told = false;
    for (size_t i = 0; i < 2 && found && !told; i++) {
        if (odd.registers[i] >= 0) {
            size_t number = (size_t)odd.registers[i];
            told = fault_write_pattern(o, fault_register_name(number),
                                       f->registers[number]);
        }
    }
    if (found && !told) {
        fault_write_pattern(o, NULL, odd.address);
    }
    for (size_t i = 0; i < FAULT_REGISTERS && !decoded && !told; i++) {
        told = fault_write_pattern(o, fault_register_name(i),
                                   f->registers[i]);
    }
}

/* Write who sent a signal. */
static void
fault_write_sender(struct out *o, const siginfo_t *info, const void *context)
{
    const struct fault_code *code = fault_find_code(info);
    const char *words = code != NULL ? code->words : "";
    bool own = info->si_pid == getpid();
    out_text(o, "  ");
    if (code != NULL && (code->code == -2 || code->code == -5
                         || code->code == -7)) {
        out_text(o, words);
        fault_end(o, info);
        return;
    }
    if (own && info->si_signo == SIGABRT && info->si_code == SI_TKILL
        && fault_is_inside(context, &fault_abort, 1)) {
        out_text(o, fault_was_reported(context)
                    ? "abort() was called by Py_FatalError()"
                    : "abort() was called");
        fault_end(o, info);
        return;
    }
    if (own) {
        out_text(o, "sent by this process");
        words = info->si_code == SI_TKILL ? " with raise() or pthread_kill()"
                                          : words;
    }
    else {
        /* A process that has no number here is not in our namespace. */
        out_text(o, info->si_pid == 0 ? "sent by a process from outside, "
                    : "sent by process ");
        if (info->si_pid != 0) {
            out_decimal(o, (uint64_t)info->si_pid);
            out_char(o, ' ');
        }
        out_text(o, "of user ");
        out_decimal(o, info->si_uid);
    }
    out_text(o, words);
    if (info->si_code == SI_QUEUE) {
        int value = info->si_value.sival_int;
        out_text(o, value < 0 ? ", value -" : ", value ");
        out_decimal(o, value < 0 ? 0u - (unsigned)value : (unsigned)value);
    }
    fault_end(o, info);
}

/* Write why the signal came, in words, a line or two. */
static void
fault_write_cause(struct out *o, const siginfo_t *info, const void *context)
{
    const struct fault_code *code = fault_find_code(info);
    const char *words = code != NULL ? code->words
                                     : "the kernel says no more";
    struct fault_instruction in;
    struct fault_state f;
    uintptr_t pc = cpu_get_place(context).pc;
    fault_get_state(context, &f);
    bool is_memory = info->si_signo == SIGSEGV || info->si_signo == SIGBUS;
    if (info->si_code <= 0) {
        fault_write_sender(o, info, context);
        return;
    }
    if (is_memory && FAULT_IS_X86_64
        && (info->si_code == SI_KERNEL
            ? f.trap == CPU_TRAP_STACK || f.trap == CPU_TRAP_PROTECTION
            : info->si_addr == NULL && f.trap == CPU_TRAP_ALIGNMENT)) {
        fault_write_refused(o, info, &f, pc);
        return;
    }
    if (is_memory && info->si_code != SI_KERNEL) {
        fault_write_memory(o, info, context, &f);
        return;
    }
    out_text(o, "  ");
    if (info->si_signo == SIGFPE && info->si_code == FPE_INTDIV
        && f.trap == CPU_TRAP_DIVISION
        && fault_decode(&in, pc, f.registers) == 0) {
        const char *known = fault_divisor(&in, f.registers);
        words = known != NULL ? known : words;
    }
    if (info->si_signo == SIGILL && info->si_code != SI_KERNEL) {
        out_text(o, f.trap == CPU_TRAP_OPCODE ? "illegal opcode" : words);
        out_text(o, ": ");
        fault_write_code(o, (uintptr_t)info->si_addr);
    }
    else {
        out_text(o, words);
    }
    fault_end(o, info);
}

#endif
