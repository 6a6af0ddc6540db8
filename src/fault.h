/* fault: the fatal signals, and why one came.

   fault_write_cause() writes the cause in words, from what the kernel says:
   the signal, its code, the processor's exception, and what is mapped at the
   address.  Called in a handler, between mem_begin() and mem_end(). */

#ifndef FAULTHANDLER_FAULT_H
#define FAULTHANDLER_FAULT_H

#include "cpu.h"
#include "cpython.h"
#include "map.h"
#include "mem.h"
#include "out.h"
#include "platform.h"

/* The fatal signals, in the order in which they are armed. */
static const struct fault_signal {
    int signum;
    const char *title;
    const char *library_title;  /* the running Python's; NULL: the same */
} fault_signals[] = {
    {.signum = SIGBUS, .title = "Bus error"},
    {.signum = SIGILL, .title = "Illegal instruction"},
    {.signum = SIGFPE, .title = "Floating point exception",
     .library_title = CPYTHON_FPE_TITLE},
    {.signum = SIGABRT, .title = "Aborted"},
    {.signum = SIGSEGV, .title = "Segmentation fault"},
};
#define FAULT_COUNT (sizeof fault_signals / sizeof *fault_signals)

static const struct fault_signal *
fault_find(int signum)
{
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        if (fault_signals[i].signum == signum) {
            return &fault_signals[i];
        }
    }
    return NULL;
}

/* Did this thread cause the signal by what it was doing?  The kernel sends
   faults; abort() sends the signal to its own process. */
static bool
fault_is_synchronous(const siginfo_t *info)
{
    return info->si_code > 0
           || (info->si_signo == SIGABRT && info->si_code == SI_TKILL
               && info->si_pid == getpid());
}

/* Does a fault come again when the handler returns?  Not one that the kernel
   tells of afterwards: SEGV_MTEAERR and BUS_MCEERR_AO. */
static bool
fault_comes_again(const siginfo_t *info)
{
    bool afterwards = (info->si_signo == SIGSEGV && info->si_code == 8)
                      || (info->si_signo == SIGBUS && info->si_code == 5);
    return info->si_code > 0 && !afterwards;
}

/* The code of Py_FatalError() and its relatives.  They print a traceback
   before they call abort(). */
static struct platform_code fault_printers[4];
#define FAULT_PRINTERS (sizeof fault_printers / sizeof *fault_printers)

/* The code of abort(). */
static struct platform_code fault_abort;

/* abort() was seen at word 9 to 35 above the stack pointer, its caller not far
   above. */
#define FAULT_SCAN_WORDS 128

/* Read the words at the top of the stack.  Returns how many there are.  The
   kernel copies them: valgrind complains of words that were never written. */
static size_t
fault_read_stack(uintptr_t sp, uintptr_t words[FAULT_SCAN_WORDS])
{
    size_t n = FAULT_SCAN_WORDS;
    while (n > 0
           && platform_read_self(getpid(), words, (void *)sp,
                                 n * sizeof *words) < 0
           && mem_read(words, sp, n * sizeof *words) < 0) {
        n /= 2;
    }
    return n;
}

/* Does the stack hold a return address of one of these functions?  A scan of
   the words, not an unwinding.  It is right for functions that never return:
   an old call cannot have left such an address behind. */
static bool
fault_is_inside(const void *context, const struct platform_code *ranges,
                size_t count)
{
    uintptr_t words[FAULT_SCAN_WORDS];
    size_t n = fault_read_stack(cpu_get_place(context).sp, words);
    for (size_t i = 0; i < n; i++) {
        uintptr_t word = cpu_return_address(words[i]);
        for (size_t j = 0; j < count; j++) {
            /* The call may be the last instruction: then it returns to the
               first address after the function. */
            if (word > ranges[j].start && word <= ranges[j].end) {
                return true;
            }
        }
    }
    return false;
}

/* Has the interpreter reported this abort() itself? */
static bool
fault_was_reported(const void *context)
{
    return fault_is_inside(context, fault_printers, FAULT_PRINTERS);
}

/* Is the instruction one of abort()'s own?  Where the signal that it raises
   does not kill, as in process 1, it ends the process by a fault. */
static bool
fault_ends_abort(const void *context)
{
    uintptr_t pc = cpu_get_place(context).pc;
    return pc >= fault_abort.start && pc < fault_abort.end;
}

/* Has this thread called abort()?  The siginfo does not tell: it is the same
   when another thread sends the signal. */
static bool
fault_has_aborted(const void *context)
{
    return fault_abort.start == 0 || fault_is_inside(context, &fault_abort, 1);
}

/* What the si_code of a signal says.  Codes are given by number: not every C
   library has all the names.  Signal 0 means any. */
static const struct fault_code {
    int signum, code;
    const char *name, *words;
} fault_codes[] = {
    {SIGSEGV, 1, "SEGV_MAPERR", "nothing is mapped there"},
    {SIGSEGV, 2, "SEGV_ACCERR", "that is not allowed there"},
    {SIGSEGV, 4, "SEGV_PKUERR", "its protection key forbids it"},
    {SIGSEGV, 8, "SEGV_MTEAERR", "a wrong memory tag, noticed later"},
    {SIGSEGV, 9, "SEGV_MTESERR", "a wrong memory tag"},
    {SIGSEGV, 10, "SEGV_CPERR",
     "the return address or the jump's target was tampered with"},
    {SIGBUS, 1, "BUS_ADRALN", "the address is not aligned"},
    {SIGBUS, 2, "BUS_ADRERR", "there is no memory behind it"},
    {SIGBUS, 4, "BUS_MCEERR_AR", "the machine's memory is broken there"},
    {SIGFPE, 1, "FPE_INTDIV", "integer division by zero or overflow"},
    {SIGFPE, 3, "FPE_FLTDIV", "floating point division by zero"},
    {SIGFPE, 4, "FPE_FLTOVF", "floating point overflow"},
    {SIGFPE, 5, "FPE_FLTUND", "floating point underflow"},
    {SIGFPE, 6, "FPE_FLTRES", "inexact floating point result"},
    {SIGFPE, 7, "FPE_FLTINV", "invalid floating point operation"},
    {SIGFPE, 14, "FPE_FLTUNK", "floating point exception, not told which"},
    {SIGILL, 1, "ILL_ILLOPC", "illegal opcode"},
    {SIGILL, 2, "ILL_ILLOPN", "illegal operand"},
    {SIGILL, 5, "ILL_PRVOPC", "privileged opcode"},
    {0, 0x80, "SI_KERNEL", "sent by the kernel"},
    {0, 0, "SI_USER", " with kill()"},
    {0, -1, "SI_QUEUE", " with sigqueue()"},
    {0, -2, "SI_TIMER", "a timer of this process has run out"},
    {0, -5, "SI_SIGIO", "a file is ready for input or output"},
    {0, -6, "SI_TKILL", " with tgkill()"},
};

/* Return the row of a signal's code, one without a name if there is none. */
static const struct fault_code *
fault_find_code(const siginfo_t *info)
{
    static const struct fault_code unknown = {
        .words = "the kernel says no more",
    };
    for (size_t i = 0; i < sizeof fault_codes / sizeof *fault_codes; i++) {
        const struct fault_code *c = &fault_codes[i];
        if (c->code == info->si_code
            && (c->signum == info->si_signo || c->signum == 0)) {
            return c;
        }
    }
    return &unknown;
}

static void
fault_write_signed(struct out *o, int value)
{
    out_text(o, value < 0 ? "-" : "");
    out_decimal(o, value < 0 ? 0u - (unsigned)value : (unsigned)value);
}

/* End a line with the name of the code, or its number. */
static void
fault_end(struct out *o, const siginfo_t *info)
{
    const char *name = fault_find_code(info)->name;
    out_text(o, name != NULL ? " (" : " (si_code ");
    if (name != NULL) {
        out_text(o, name);
    }
    else {
        fault_write_signed(o, info->si_code);
    }
    out_text(o, ")\n");
}

/* ---- Fill patterns ------------------------------------------------------ */

/* What allocators fill memory with, byte by byte, to make its misuse visible.
   Only CPython's own are named: others use the rest for several purposes. */
static const struct fault_pattern {
    uint8_t byte;
    const char *holds;          /* what the memory was */
    const char *likely;         /* how a program gets to use it, or NULL */
} fault_patterns[] = {
    {0xdd, "freed memory", "a use after free"},
    {0xcd, "memory that was not written yet",
     "a use too early, or after free"},
    {0xfd, "the ends of a block", "a use past its end, or after free"},
    {0xa5, NULL, NULL}, {0x5a, NULL, NULL},             /* jemalloc */
    {0xd0, NULL, NULL}, {0xdf, NULL, NULL}, {0xde, NULL, NULL}, /* mimalloc */
    {0xbe, NULL, NULL},                                 /* AddressSanitizer */
};
#define FAULT_PATTERN_MAX 65536

/* Find the pattern that a value is, or is near to: then the value was read
   from such memory, and something was added.  *offset is that.  Returns NULL
   if there is none. */
static const struct fault_pattern *
fault_find_pattern(uintptr_t value, int *offset)
{
    for (size_t i = 0; i < sizeof fault_patterns / sizeof *fault_patterns;
         i++) {
        uintptr_t pattern = UINTPTR_MAX / 255 * fault_patterns[i].byte;
        if (value - pattern + FAULT_PATTERN_MAX <= 2 * FAULT_PATTERN_MAX) {
            *offset = (int)(intptr_t)(value - pattern);
            return &fault_patterns[i];
        }
    }
    return NULL;
}

/* Write what a value that allocators fill memory with means. */
static void
fault_write_pattern(struct out *o, const struct fault_pattern *p, int offset)
{
    out_text(o, p->holds != NULL ? p->holds : "a fill pattern");
    out_text(o, p->holds != NULL ? " (CPython's debug allocator)" : "");
    if (offset != 0) {
        out_text(o, offset < 0 ? " minus " : " plus ");
        out_decimal(o, (uint64_t)(offset < 0 ? -offset : offset));
    }
}

/* ---- A fault whose address is known ------------------------------------- */

/* What is known of the address, and of the memory around. */
struct fault_place {
    uintptr_t address, sp;
    enum cpu_access access;
    struct map_entry at[2];     /* the mappings that hold these */
    struct map_stack stack;     /* this thread's */
};

/* Functions use memory at most this far below the stack pointer. */
#define FAULT_RED_ZONE 256

/* Has this thread's stack overflowed?  The access must be below the stack, but
   not below the frame that sp shows.  A large frame may reach far below the
   guard: it counts if nothing that may be another stack lies between.  So the
   full stack of a coroutine or of a handler is not taken for the thread's. */
static bool
fault_overflowed(const struct fault_place *p)
{
    uintptr_t low = p->stack.low;
    if (p->stack.high == 0 || p->address + FAULT_RED_ZONE < p->sp) {
        return false;
    }
    if (p->address < low) {
        bool sp_elsewhere = p->at[1].end != 0 && map_is_like_stack(&p->at[1])
                            && p->at[1].start != low;
        return p->address >= p->stack.below && !sp_elsewhere;
    }
    /* glibc 2.42 and newer make the guard by madvise(): it is inside the
       stack's mapping, and the map says that the access is allowed. */
    return map_holds(&p->at[0], low)
           && p->at[0].can[p->access == CPU_UNKNOWN ? CPU_WRITE : p->access];
}

/* Return how large the stack was, without its guard.  The main thread's grows
   as it is used: its size is what it may grow to. */
static uintptr_t
fault_stack_size(const struct fault_place *p)
{
    const uintptr_t page = 4096, low = p->stack.low, high = p->stack.high;
    struct rlimit limit;
    if (p->stack.is_main && getrlimit(RLIMIT_STACK, &limit) == 0
        && limit.rlim_cur < high && p->address < high - limit.rlim_cur) {
        return (uintptr_t)limit.rlim_cur;
    }
    /* From glibc 2.42 on the guard is a page of the mapping. */
    char byte;
    uintptr_t first = p->address < low ? low : p->address / page * page;
    if (mem_read(&byte, first, 1) < 0) {
        first += page;
    }
    return high - first;
}

static const char *const fault_access_words[] = {
    "accessing", "reading", "writing", "executing",
};

/* No program may map memory below 64 KiB.  Addresses this near to 0 are NULL
   and something added or taken off. */
#define FAULT_NULL_MAX 65536

/* Write an address, and what the number alone tells. */
static void
fault_write_address(struct out *o, enum cpu_access access, uintptr_t address)
{
    out_text(o, fault_access_words[access]);
    out_text(o, " address ");
    out_address(o, address);
    if (address + FAULT_NULL_MAX < 2 * FAULT_NULL_MAX) {
        bool minus = address > FAULT_NULL_MAX;
        out_text(o, " (a NULL pointer");
        if (address != 0) {
            out_text(o, minus ? " minus " : " plus ");
            out_decimal(o, minus ? 0 - address : address);
        }
        out_char(o, ')');
    }
    else if (address > UINTPTR_MAX / 2 && cpu_is_canonical(address)) {
        out_text(o, " (the kernel's part of the addresses)");
    }
}

/* Write what is wrong with an address.  The kernel gives the same code for one
   past the end of a mapped file and for memory that is used up. */
static void
fault_write_reason(struct out *o, const siginfo_t *info,
                   const struct fault_place *p)
{
    const struct map_entry *at = &p->at[0];
    bool segv = info->si_signo == SIGSEGV;
    if (at->end != 0 && segv && info->si_code <= 2) {
        out_text(o, "that is ");
        map_write_memory(o, at);
        out_text(o, at->can[p->access] ? ", but not this page" : "");
    }
    else if (!segv && info->si_code == 2 && at->path[0] == '/') {
        out_text(o, "past the end of the mapped file ");
        map_write_path(o, at);
        out_text(o, ", or there is no room for it left");
    }
    else {
        out_text(o, fault_find_code(info)->words);
    }
}

/* Write the cause of a fault at an address that the kernel gave. */
static void
fault_write_memory(struct out *o, const siginfo_t *info, const void *context,
                   const struct cpu_fault *f)
{
    struct fault_place p;
    memset(&p, 0, sizeof p);
    p.address = (uintptr_t)info->si_addr;
    p.sp = cpu_get_place(context).sp;
    p.access = f->address == p.address ? f->access : CPU_UNKNOWN;
    map_find((const uintptr_t[]) {p.address, p.sp}, p.at, 2, p.sp, &p.stack);
    bool segv = info->si_signo == SIGSEGV;
    if (segv && info->si_code <= 2 && fault_overflowed(&p)) {
        out_text(o, "The stack of this thread overflowed (");
        out_decimal(o, fault_stack_size(&p) / 1024);
        out_text(o, " KiB, address ");
        out_address(o, p.address);
        out_text(o, "): ");
        out_text(o, fault_access_words[p.access]);
        out_text(o, " below its end");
    }
    else if (segv && info->si_code > 2 && p.address == 0) {
        out_text(o, fault_find_code(info)->words);    /* there is no address */
    }
    else {
        fault_write_address(o, p.access, p.address);
        out_text(o, ": ");
        fault_write_reason(o, info, &p);
    }
}

/* ---- An instruction that the processor refused -------------------------- */

/* Did the processor refuse the instruction itself, so that the kernel gives no
   address?  si_addr is 0 then, but that is no NULL pointer. */
static bool
fault_is_refused(const siginfo_t *info, const struct cpu_fault *f)
{
    bool memory = info->si_signo == SIGSEGV || info->si_signo == SIGBUS;
    return memory && (
        info->si_code == SI_KERNEL
        ? f->trap == CPU_TRAP_STACK || f->trap == CPU_TRAP_PROTECTION
        : info->si_code > 0 && info->si_addr == NULL
          && f->trap == CPU_TRAP_ALIGNMENT);
}

/* Read the bytes of the instruction at pc, as many as can be read. */
static size_t
fault_read_code(uint8_t code[CPU_CODE_BYTES], uintptr_t pc)
{
    size_t n = 0;
    while (n < CPU_CODE_BYTES && mem_read(code + n, pc + n, 1) == 0) {
        n++;
    }
    return n;
}

/* Find the registers that the instruction at the fault makes its address of,
   base and index.  -1 for none, and if it was not the instruction's access to
   its operand that failed. */
static void
fault_find_operand(const siginfo_t *info, const void *context, int found[2])
{
    struct cpu_place place = cpu_get_place(context);
    struct cpu_fault f;
    uint8_t code[CPU_CODE_BYTES];
    cpu_get_fault(context, &f);
    bool is_page = (f.access == CPU_READ || f.access == CPU_WRITE)
                   && info->si_code > 0 && info->si_code != SI_KERNEL
                   && info->si_addr == (void *)f.address;
    /* Instructions that also push may have failed there. */
    bool is_push = is_page && place.sp - f.address <= sizeof place.sp;
    found[0] = found[1] = -1;
    if ((is_page || fault_is_refused(info, &f)) && !is_push) {
        size_t n = fault_read_code(code, place.pc);
        cpu_operand_registers(code, n, &found[0], &found[1]);
    }
}

/* What the processor's exception means. */
static const char *
fault_exception_words(const struct cpu_fault *f)
{
    return f->trap == CPU_TRAP_ALIGNMENT ? "an address that is not aligned"
           : f->trap == CPU_TRAP_STACK
           ? "a non-canonical address, by the stack or frame pointer"
           : f->error != 0
           ? "a segment or an interrupt that only the kernel may use"
           : "an address that is not canonical, or not aligned as the"
             " instruction needs, or an instruction that only the kernel may"
             " use";
}

/* Write the cause where the processor refused an instruction.  A register of
   its operand that holds no address tells more than the exception. */
static void
fault_write_refused(struct out *o, const void *context,
                    const struct cpu_fault *f, const int registers[2])
{
    for (size_t i = 0; i < 2; i++) {
        size_t number = (size_t)registers[i];
        if (registers[i] >= 0 && f->trap != CPU_TRAP_ALIGNMENT
            && !cpu_is_canonical(cpu_register(context, number))) {
            out_text(o, "accessing memory through register ");
            out_text(o, cpu_register_name(number));
            out_text(o, ", ");
            out_address(o, cpu_register(context, number));
            out_text(o, ": a non-canonical address, no memory can be there");
            return;
        }
    }
    out_text(o, fault_exception_words(f));
}

/* Write a line for each of these registers, of which the address was made, if
   it holds one of CPython's patterns. */
static void
fault_write_patterns(struct out *o, const void *context,
                     const int registers[3])
{
    int offset;
    for (size_t i = 0; i < 3; i++) {
        size_t number = (size_t)registers[i];
        uintptr_t value = registers[i] < 0 ? 0 : cpu_register(context, number);
        const struct fault_pattern *p = fault_find_pattern(value, &offset);
        if (p != NULL && p->likely != NULL) {
            out_text(o, "  register ");
            out_text(o, cpu_register_name(number));
            out_text(o, " is ");
            out_address(o, value);
            out_text(o, ", ");
            fault_write_pattern(o, p, offset);
            out_text(o, ": likely ");
            out_text(o, p->likely);
            out_char(o, '\n');
        }
    }
}

/* Write the cause of an illegal instruction. */
static void
fault_write_illegal(struct out *o, const siginfo_t *info,
                    const struct cpu_fault *f)
{
    uintptr_t pc = (uintptr_t)info->si_addr;
    uint8_t code[CPU_CODE_BYTES];
    const char *name = cpu_undefined_name(code, fault_read_code(code, pc));
    out_text(o, f->trap == CPU_TRAP_OPCODE ? "illegal opcode"
                                           : fault_find_code(info)->words);
    if (name != NULL) {
        out_text(o, " (");
        out_text(o, name);
        out_text(o, ", by which compilers mark what must not be reached)");
    }
    out_text(o, " at address ");
    out_address(o, pc);
}

/* ---- A signal that was sent --------------------------------------------- */

/* Write which process sent the signal.  One of another namespace has the
   number 0. */
static void
fault_write_process(struct out *o, const siginfo_t *info)
{
    if (info->si_pid == getpid()) {
        out_text(o, "sent by this process");
        return;
    }
    if (info->si_pid == 0) {
        out_text(o, "sent by a process from outside, ");
    }
    else {
        out_text(o, "sent by process ");
        out_decimal(o, (uint64_t)info->si_pid);
        out_char(o, ' ');
    }
    out_text(o, "of user ");
    out_decimal(o, info->si_uid);
}

/* Write who sent a signal, and how. */
static void
fault_write_sender(struct out *o, const siginfo_t *info, const void *context)
{
    const struct fault_code *code = fault_find_code(info);
    bool own_tkill = info->si_code == SI_TKILL && info->si_pid == getpid();
    if (own_tkill && info->si_signo == SIGABRT
        && fault_is_inside(context, &fault_abort, 1)) {
        out_text(o, "abort() was called");
        out_text(o, fault_was_reported(context) ? " by Py_FatalError()" : "");
        return;
    }
    if (info->si_code != SI_TIMER && info->si_code != SI_SIGIO) {
        fault_write_process(o, info);
    }
    out_text(o, own_tkill ? " with raise() or pthread_kill()"
                : code->name != NULL ? code->words : "");
    if (info->si_code == SI_QUEUE) {
        out_text(o, ", value ");
        fault_write_signed(o, info->si_value.sival_int);
    }
}

/* Write why the signal came: a line, or more. */
static void
fault_write_cause(struct out *o, const siginfo_t *info, const void *context)
{
    bool memory = info->si_signo == SIGSEGV || info->si_signo == SIGBUS;
    struct cpu_fault f;
    int registers[3];
    cpu_get_fault(context, &f);
    fault_find_operand(info, context, registers);
    registers[2] = f.access == CPU_EXECUTE ? (int)CPU_GENERAL - 1 : -1;
    out_text(o, "  ");
    if (info->si_code <= 0) {
        fault_write_sender(o, info, context);
    }
    else if (fault_is_refused(info, &f)) {
        fault_write_refused(o, context, &f, registers);
    }
    else if (memory && info->si_code != SI_KERNEL) {
        fault_write_memory(o, info, context, &f);
    }
    else if (info->si_signo == SIGILL && info->si_code != SI_KERNEL) {
        fault_write_illegal(o, info, &f);
    }
    else {
        out_text(o, fault_find_code(info)->words);
    }
    fault_end(o, info);
    if (memory && info->si_code > 0) {
        fault_write_patterns(o, context, registers);
    }
}

#endif
