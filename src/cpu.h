/* cpu: the state of the processor at a fault.

   Where a thread was interrupted, its registers by name, and what the
   processor said of the access. */

#ifndef FAULTHANDLER_CPU_H
#define FAULTHANDLER_CPU_H

#include "platform.h"

/* Where a thread was interrupted, its stack and its frame pointer. */
struct platform_place {
    uintptr_t pc, sp, fp;
};

static struct platform_place
platform_get_place(const void *context)
{
    const ucontext_t *uc = context;
#if defined(__x86_64__)
    return (struct platform_place) {
        (uintptr_t)uc->uc_mcontext.gregs[REG_RIP],
        (uintptr_t)uc->uc_mcontext.gregs[REG_RSP],
        (uintptr_t)uc->uc_mcontext.gregs[REG_RBP],
    };
#elif defined(__aarch64__)
    return (struct platform_place) {
        (uintptr_t)uc->uc_mcontext.pc, (uintptr_t)uc->uc_mcontext.sp,
        (uintptr_t)uc->uc_mcontext.regs[29],
    };
#else
    (void)uc;
    return (struct platform_place) {0, 0, 0};
#endif
}

/* Change it.  The unwinder then starts there, and so would the thread: to be
   put back before the handler returns. */
static void
platform_set_place(void *context, struct platform_place place)
{
    ucontext_t *uc = context;
#if defined(__x86_64__)
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)place.pc;
    uc->uc_mcontext.gregs[REG_RSP] = (greg_t)place.sp;
    uc->uc_mcontext.gregs[REG_RBP] = (greg_t)place.fp;
#elif defined(__aarch64__)
    uc->uc_mcontext.pc = place.pc;
    uc->uc_mcontext.sp = place.sp;
    uc->uc_mcontext.regs[29] = place.fp;
#else
    (void)uc, (void)place;
#endif
}

/* What the processor said of a fault: the number of its exception, what was
   tried at which address, and the general registers as instructions number
   them.  Of a signal that was sent, what it said last. */
enum platform_access {
    PLATFORM_UNKNOWN, PLATFORM_READ, PLATFORM_WRITE, PLATFORM_EXECUTE
};

#if defined(__x86_64__)
#  define PLATFORM_IS_X86_64 true
#  define PLATFORM_REGISTERS 16
#elif defined(__aarch64__)
#  define PLATFORM_IS_X86_64 false
#  define PLATFORM_REGISTERS 31
#else
#  define PLATFORM_IS_X86_64 false
#  define PLATFORM_REGISTERS 1
#endif

struct platform_fault {
    int trap;                   /* -1 where the kernel does not tell */
    enum platform_access access;
    uintptr_t address;
    uintptr_t registers[PLATFORM_REGISTERS];
};

static void
platform_get_fault(const void *context, struct platform_fault *fault)
{
    const ucontext_t *uc = context;
    memset(fault, 0, sizeof *fault);
    fault->trap = -1;
#if defined(__x86_64__)
    static const int order[] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
        REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14,
        REG_R15,
    };
    const greg_t *gregs = uc->uc_mcontext.gregs;
    for (size_t i = 0; i < PLATFORM_REGISTERS; i++) {
        fault->registers[i] = (uintptr_t)gregs[order[i]];
    }
    fault->trap = (int)gregs[REG_TRAPNO];
    fault->address = (uintptr_t)gregs[REG_CR2];
    if (fault->trap == 14) {
        fault->access = gregs[REG_ERR] & 16 ? PLATFORM_EXECUTE
                        : gregs[REG_ERR] & 2 ? PLATFORM_WRITE : PLATFORM_READ;
    }
#elif defined(__aarch64__)
    for (size_t i = 0; i < PLATFORM_REGISTERS; i++) {
        fault->registers[i] = (uintptr_t)uc->uc_mcontext.regs[i];
    }
    fault->address = (uintptr_t)uc->uc_mcontext.fault_address;
    const unsigned char *record =
        (const unsigned char *)uc->uc_mcontext.__reserved;
    const unsigned char *end = record + sizeof uc->uc_mcontext.__reserved;
    struct { uint32_t magic, size; uint64_t value; } head;
    while (record + sizeof head <= end) {
        memcpy(&head, record, sizeof head);
        if (head.magic == 0 || head.size < 8) {
            break;
        }
        if (head.magic == 0x45535201) {         /* the syndrome register */
            unsigned kind = (unsigned)(head.value >> 26) & 63;
            fault->access = kind == 0x20 ? PLATFORM_EXECUTE
                            : kind != 0x24 ? PLATFORM_UNKNOWN
                            : head.value & 64 ? PLATFORM_WRITE : PLATFORM_READ;
        }
        record += head.size;
    }
#else
    (void)uc;
#endif
}

/* The name of a general register. */
static const char *
platform_register_name(size_t number)
{
#if defined(__x86_64__)
    static const char *const names[] = {
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9",
        "r10", "r11", "r12", "r13", "r14", "r15",
    };
#elif defined(__aarch64__)
    static const char *const names[] = {
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10",
        "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20",
        "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
    };
#else
    static const char *const names[] = {"?"};
#endif
    return names[number];
}

/* A handler starts with the flags of what it interrupted.  The one that makes
   misaligned reads faults is not for us. */
static void
platform_clear_flags(void)
{
#if defined(__x86_64__)
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64()
                                   & ~(uint64_t)0x40000);
#endif
}

/* Call a function on another stack, which grows down from top.  Returns false
   where we do not know how.  It keeps a frame pointer, to be unwound by. */
__attribute__((noinline)) static bool
platform_call_on(char *top, void (*function)(void *), void *argument)
{
#if defined(__x86_64__)
    __asm__ volatile (
        "movq %%rsp, %%r12\n\t"
        "movq %[top], %%rsp\n\t"
        "callq *%[function]\n\t"
        "movq %%r12, %%rsp"
        : "+D" (argument), [function] "+a" (function), [top] "+d" (top)
        : "r" (__builtin_frame_address(0))
        : "rcx", "rsi", "r8", "r9", "r10", "r11", "r12", "memory", "cc",
          "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
          "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
          "xmm15");
    return true;
#else
    (void)top, (void)function, (void)argument;
    return false;
#endif
}

#endif
