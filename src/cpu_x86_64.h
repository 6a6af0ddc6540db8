/* cpu_x86_64: src/cpu.h for x86-64. */

#ifndef FAULTHANDLER_CPU_X86_64_H
#define FAULTHANDLER_CPU_X86_64_H

#include "platform.h"

#define CPU_CODE_BYTES 15
/* qemu-user 7.2 enters handlers with a stack that is not aligned to 16 bytes:
   each handler aligns its own. */
#define CPU_HANDLER __attribute__((force_align_arg_pointer))

/* The processor's exceptions, by its own numbers. */
enum {
    CPU_TRAP_OPCODE = 6, CPU_TRAP_STACK = 12, CPU_TRAP_PROTECTION = 13,
    CPU_TRAP_PAGE = 14, CPU_TRAP_ALIGNMENT = 17
};

/* The registers, as gdb's "info registers" lists them. */
static const struct {
    const char *name;
    int index;                  /* in gregs */
} cpu_registers[] = {
    {"rax", REG_RAX}, {"rbx", REG_RBX}, {"rcx", REG_RCX}, {"rdx", REG_RDX},
    {"rsi", REG_RSI}, {"rdi", REG_RDI}, {"rbp", REG_RBP}, {"rsp", REG_RSP},
    {"r8", REG_R8}, {"r9", REG_R9}, {"r10", REG_R10}, {"r11", REG_R11},
    {"r12", REG_R12}, {"r13", REG_R13}, {"r14", REG_R14}, {"r15", REG_R15},
    {"rip", REG_RIP}, {"eflags", REG_EFL},
};
#define CPU_GENERAL (sizeof cpu_registers / sizeof *cpu_registers - 1)

static const char *
cpu_register_name(size_t i)
{
    return cpu_registers[i].name;
}

static uintptr_t
cpu_register(const void *context, size_t i)
{
    const ucontext_t *uc = context;
    return (uintptr_t)uc->uc_mcontext.gregs[cpu_registers[i].index];
}

static struct cpu_place
cpu_get_place(const void *context)
{
    const greg_t *gregs = ((const ucontext_t *)context)->uc_mcontext.gregs;
    return (struct cpu_place) {
        .pc = (uintptr_t)gregs[REG_RIP],
        .sp = (uintptr_t)gregs[REG_RSP],
    };
}

/* Change the place.  The unwinder then starts there, and so does the thread if
   the handler returns: put the old place back before that. */
static void
cpu_set_place(void *context, struct cpu_place place)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    gregs[REG_RIP] = (greg_t)place.pc;
    gregs[REG_RSP] = (greg_t)place.sp;
}

/* Bits of a page fault's error code: a write, the fetch of an instruction. */
enum { CPU_ERROR_WRITE = 2, CPU_ERROR_FETCH = 16 };

static void
cpu_get_fault(const void *context, struct cpu_fault *fault)
{
    const greg_t *gregs = ((const ucontext_t *)context)->uc_mcontext.gregs;
    fault->trap = (int)gregs[REG_TRAPNO];
    fault->error = (uint64_t)gregs[REG_ERR];
    fault->address = (uintptr_t)gregs[REG_CR2];
    fault->access = CPU_UNKNOWN;
    if (fault->trap == CPU_TRAP_PAGE) {
        fault->access = fault->error & CPU_ERROR_FETCH ? CPU_EXECUTE
                        : fault->error & CPU_ERROR_WRITE ? CPU_WRITE
                        : CPU_READ;
    }
}

/* The name of the instruction that is defined to be undefined, if the code
   begins with it, else NULL.  Compilers put it where code must not get to. */
static const char *
cpu_undefined_name(const uint8_t *code, size_t n)
{
    return n >= 2 && code[0] == 0x0f && code[1] == 0x0b ? "ud2" : NULL;
}

/* Opcodes before a ModRM byte, which names the operands: a bit for each, 16 to
   a word.  First those of one byte, then those after 0x0f. */
static const uint16_t cpu_modrm[2][16] = {
    {0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0, 0, 0x0a08, 0,
     0xffff, 0, 0, 0, 0x00c3, 0xff0f, 0, 0xc0c0},
    {0xa00f, 0xffff, 0xff00, 0, 0xffff, 0xffff, 0xffff, 0xff7f,
     0, 0xffff, 0xf838, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff},
};

/* Find the base and the index register of the operand in memory, or the
   register that a jump or a call goes through: their places in cpu_registers,
   -1 for none.  Only what names registers is decoded.  Of instructions that
   name them otherwise, on strings or with vectors of indexes, none is found.
   Checked against objdump. */
static void
cpu_operand_registers(const uint8_t *code, size_t n, int *base, int *index)
{
    static const int order[] = {        /* by the numbers in instructions */
        0, 2, 3, 1, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15,
    };
    uint8_t bytes[CPU_CODE_BYTES + 8] = {0}, *p = bytes;
    unsigned rex = 0, map = 0;
    *base = *index = -1;
    memcpy(bytes, code, n);
    /* Prefixes; not the one of short addresses. */
    p += strspn((char *)p, "\x26\x2e\x36\x3e\x64\x65\x66\xf0\xf2\xf3");
    if ((*p & 0xf0) == 0x40) {
        rex = *p++;
    }
    if (*p == 0x62 || *p == 0xc4) {     /* EVEX, VEX */
        map = p[1] & 7;
        rex = ~(unsigned)p[1] >> 5;
        p += *p == 0x62 ? 4 : 3;
    }
    else if (*p == 0xc5 || *p == 0x0f) {        /* the short VEX, or none */
        map = *p == 0x0f && (p[1] | 2) == 0x3a ? 2 : 1;
        p += *p == 0xc5 ? 2 : map;
    }
    const unsigned mode = p[1] >> 6, kind = p[1] >> 3 & 7, low = p[1] & 7;
    const bool has_sib = mode != 3 && low == 4;
    const unsigned first = has_sib ? p[2] & 7 : low;
    const unsigned second = (p[2] >> 3 & 7u) + (rex & 2 ? 8 : 0);
    bool known = map < 2 ? cpu_modrm[map][*p >> 4] >> (*p & 15) & 1
                 : (*p & 0xfc) != 0x90 && (*p & 0xfc) != 0xa0;
    bool is_jump = map == 0 && *p == 0xff && (kind == 2 || kind == 4);
    if (known && p + 2 + has_sib <= bytes + n) {
        *base = (mode == 3 ? is_jump : mode != 0 || first != 5)
                ? order[first + (rex & 1 ? 8 : 0)] : -1;
        *index = has_sib && second != 4 ? order[second] : -1;
    }
}

/* Execute the undefined instruction. */
static inline void
cpu_undefined(void)
{
    __asm__ volatile ("ud2");
}

/* Bits 48 to 63 of an address repeat bit 47. */
static bool
cpu_is_canonical(uintptr_t address)
{
    return (uintptr_t)((intptr_t)(address << 16) >> 16) == address;
}

static inline uintptr_t
cpu_return_address(uintptr_t word)
{
    return word;
}

/* A call pushes the return address: no register holds it. */
static inline uintptr_t
cpu_link(const void *context)
{
    (void)context;
    return 0;
}

/* A handler starts with the flags of what it interrupted.  Clear the one that
   makes a misaligned read a fault. */
static void
cpu_clear_flags(void)
{
    const uint64_t alignment_check = 0x40000;
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64()
                                   & ~alignment_check);
}

/* Call a function on another stack, which ends at `top`.  It keeps a frame
   pointer: the unwinder needs one to get back to the first stack. */
__attribute__((noinline)) static void
cpu_call_on(char *top, void (*function)(void *), void *argument)
{
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
}

#endif
