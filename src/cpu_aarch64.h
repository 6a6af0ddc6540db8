/* cpu_aarch64: src/cpu.h for 64-bit Arm. */

#ifndef FAULTHANDLER_CPU_AARCH64_H
#define FAULTHANDLER_CPU_AARCH64_H

#include "platform.h"

#define CPU_CODE_BYTES 4
#define CPU_HANDLER

/* The kernel does not tell the exception: the signal and its code say all. */
enum {
    CPU_TRAP_OPCODE = -2, CPU_TRAP_STACK = -3, CPU_TRAP_PROTECTION = -4,
    CPU_TRAP_ALIGNMENT = -5
};

/* The registers, as gdb's "info registers" lists them. */
static const char *const cpu_registers[] = {
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
    "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21",
    "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp", "pc",
    "pstate",
};
#define CPU_GENERAL (sizeof cpu_registers / sizeof *cpu_registers - 1)
#define CPU_LINK 30             /* x30, where the last call returns to */

static const char *
cpu_register_name(size_t i)
{
    return cpu_registers[i];
}

static uintptr_t
cpu_register(const void *context, size_t i)
{
    const mcontext_t *m = &((const ucontext_t *)context)->uc_mcontext;
    switch (CPU_GENERAL - i) {
    case 0: return (uintptr_t)m->pstate;
    case 1: return (uintptr_t)m->pc;
    case 2: return (uintptr_t)m->sp;
    default: return (uintptr_t)m->regs[i];
    }
}

static struct cpu_place
cpu_get_place(const void *context)
{
    const mcontext_t *m = &((const ucontext_t *)context)->uc_mcontext;
    return (struct cpu_place) {
        .pc = (uintptr_t)m->pc,
        .sp = (uintptr_t)m->sp,
    };
}

/* Change the place.  The unwinder then starts there, and so does the thread if
   the handler returns: put the old place back before that. */
static void
cpu_set_place(void *context, struct cpu_place place)
{
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    m->pc = place.pc;
    m->sp = place.sp;
}

/* The syndrome of the last fault, which the kernel puts among the records
   behind the registers; 0 if there is none. */
static uint64_t
cpu_syndrome(const mcontext_t *m)
{
    const uint32_t magic = 0x45535201;          /* "ESR" */
    const unsigned char *record = (const unsigned char *)m->__reserved;
    const unsigned char *end = record + sizeof m->__reserved;
    struct { uint32_t magic, size; uint64_t value; } head;
    while (record + sizeof head <= end) {
        memcpy(&head, record, sizeof head);
        if (head.magic == magic) {
            return head.value;
        }
        if (head.magic == 0 || head.size < 8
            || head.size > (size_t)(end - record)) {
            break;
        }
        record += head.size;
    }
    return 0;
}

/* Classes of exceptions: a fetched instruction, a misaligned pc, data. */
enum { CPU_CLASS_FETCH = 0x20, CPU_CLASS_PC = 0x22, CPU_CLASS_DATA = 0x24 };

/* What was tried is told by the class of the exception. */
static void
cpu_get_fault(const void *context, struct cpu_fault *fault)
{
    const mcontext_t *m = &((const ucontext_t *)context)->uc_mcontext;
    const uint64_t syndrome = cpu_syndrome(m), is_write = 1 << 6;
    const uint64_t is_cache = 1 << 8;   /* maintenance, always a "write" */
    const unsigned class = (unsigned)(syndrome >> 26) & 0x3f;
    fault->trap = -1;
    fault->error = syndrome;
    fault->access = class == CPU_CLASS_FETCH || class == CPU_CLASS_PC
                    ? CPU_EXECUTE
                    : class != CPU_CLASS_DATA || syndrome & is_cache
                    ? CPU_UNKNOWN
                    : syndrome & is_write ? CPU_WRITE : CPU_READ;
    /* Of a misaligned pc the kernel tells no address. */
    fault->address = class == CPU_CLASS_PC ? (uintptr_t)m->pc
                                           : (uintptr_t)m->fault_address;
}

/* The name of the instruction that is defined to be undefined, if the code
   begins with it, else NULL. */
static const char *
cpu_undefined_name(const uint8_t *code, size_t n)
{
    return n >= 4 && code[2] == 0 && code[3] == 0 ? "udf" : NULL;
}

/* Find the base and the index register of the operand in memory: their places
   in cpu_registers, -1 for none.  All loads and stores have them in the same
   bits, but for those of SVE and SME, of which none is named.  Instructions
   that copy memory have two operands: none is named.  Checked against objdump.
   */
static void
cpu_operand_registers(const uint8_t *code, size_t n, int *base, int *index)
{
    uint32_t word = 0;
    *base = *index = -1;
    memcpy(&word, code, n < sizeof word ? 0 : sizeof word);
    const bool is_access = (word & 0x0a000000) == 0x08000000;
    const bool by_pc = (word & 0x3b000000) == 0x18000000;
    const bool copies = (word & 0x3b200c00) == 0x19000400;
    if (!is_access || by_pc || copies) {
        return;
    }
    const bool has_index = (word & 0x3b200c00) == 0x38200800;
    const int number = word >> 16 & 31;
    *base = word >> 5 & 31;                     /* 31 is sp */
    *index = has_index && number != 31 ? number : -1;   /* 31 is zero */
}

/* Execute the undefined instruction.  Not __builtin_trap(): that is a
   breakpoint here. */
static inline void
cpu_undefined(void)
{
    __asm__ volatile (".inst 0");
}

/* The upper byte of a program's address is ignored.  Bits 52 to 55 are 0, even
   where the kernel gives out more than 48 bits; in the kernel's half all upper
   bits are 1.  An address that failed authentication is neither. */
static bool
cpu_is_canonical(uintptr_t address)
{
    return (address >> 52 & 0xf) == 0 || address >> 52 == 0xfff;
}

/* A return address as it is found in memory may be signed.  The instruction
   that takes the signature off (xpaclri) is a hint: older processors pass it
   over. */
static inline uintptr_t
cpu_return_address(uintptr_t word)
{
    register uintptr_t address __asm__("x30") = word;
    __asm__ volatile ("hint #7" : "+r" (address));
    return address;
}

static inline uintptr_t
cpu_link(const void *context)
{
    const mcontext_t *m = &((const ucontext_t *)context)->uc_mcontext;
    return cpu_return_address((uintptr_t)m->regs[CPU_LINK]);
}

static void
cpu_clear_flags(void)
{
}

/* Call a function on another stack, which ends at `top`.  It keeps a frame
   pointer: the unwinder needs one to get back to the first stack. */
__attribute__((noinline)) static void
cpu_call_on(char *top, void (*function)(void *), void *argument)
{
    register void *first __asm__("x0") = argument;
    __asm__ volatile (
        "mov x19, sp\n\t"
        "mov sp, %[top]\n\t"
        "blr %[function]\n\t"
        "mov sp, x19"
        : "+r" (first)
        : [top] "r" (top), [function] "r" (function),
          "r" (__builtin_frame_address(0))
        : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
          "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x30",
          "memory", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7",
          "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17",
          "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26",
          "v27", "v28", "v29", "v30", "v31");
}

#endif
