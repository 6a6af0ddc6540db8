/* decode: one instruction of x86-64, as far as it tells which memory it was
   about to use. */

#ifndef FAULTHANDLER_DECODE_H
#define FAULTHANDLER_DECODE_H

#include "cpu.h"
#include "mem.h"

#define FAULT_IS_X86_64 (CPU_TRAP_PAGE == 14)

/* What the processor said of a fault, and its general registers as
   instructions number them. */
#define FAULT_REGISTERS (FAULT_IS_X86_64 ? 16 : CPU_GENERAL)

struct fault_state {
    int trap;
    enum cpu_access access;
    uintptr_t address;
    uintptr_t registers[CPU_GENERAL + 1];
};

/* The place of a register in the list of all. */
static size_t
fault_register(size_t number)
{
    static const uint8_t x86_64[] = {0, 2, 3, 1, 7, 6, 4, 5};
    return FAULT_IS_X86_64 && number < sizeof x86_64 ? x86_64[number]
                                                     : number;
}

static const char *
fault_register_name(size_t number)
{
    return cpu_register_name(fault_register(number));
}

static void
fault_get_state(const void *context, struct fault_state *state)
{
    struct cpu_fault fault;
    cpu_get_fault(context, &fault);
    state->trap = fault.trap;
    state->access = fault.access;
    state->address = fault.address;
    for (size_t i = 0; i < FAULT_REGISTERS; i++) {
        state->registers[i] = cpu_register(context, fault_register(i));
    }
}

/* Is this no address at all?  Of several bytes the last may be the one that is
   not. */
static bool
fault_is_odd(uintptr_t address)
{
    return !cpu_is_canonical(address) || !cpu_is_canonical(address + 7);
}

/* An instruction of x86-64, as far as it tells which memory it was about to
   use.  Decoded where the kernel knows no address: an address that is not
   canonical, a division. */
#define FAULT_CODE_MAX CPU_CODE_BYTES
struct fault_instruction {
    uint8_t code[FAULT_CODE_MAX];
    size_t length, at;          /* bytes that could be read, and were used */
    unsigned rex;               /* the bits of REX, or of VEX and EVEX */
    bool has_rex, narrow, short_address, vector, evex;
    uint8_t segment;            /* its prefix, or 0 */
    unsigned map;               /* 0, or of the opcodes after 0F, 0F38, 0F3A */
    uint8_t opcode;
    unsigned reg;               /* the operand that only a register can be */
    bool in_memory;             /* the other one */
    uintptr_t address;
    int base, index;            /* registers; -1: none */
};

/* The bytes at an address: as many as can be read. */
static size_t
fault_read_code(uint8_t code[FAULT_CODE_MAX], uintptr_t pc)
{
    size_t n = FAULT_CODE_MAX;
    if (mem_read(code, pc, n) < 0) {
        n = 0;
        while (n < FAULT_CODE_MAX && mem_read(code + n, pc + n, 1) == 0) {
            n++;
        }
    }
    return n;
}

/* The next n bytes as a number with a sign.  Past the end they are 0, and at
   is larger than length. */
static int64_t
fault_code_next(struct fault_instruction *in, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++, in->at++) {
        uint64_t byte = in->at < in->length ? in->code[in->at] : 0;
        value |= byte << (8 * i);
    }
    unsigned unused = 64 - 8 * (unsigned)n;
    return n == 0 ? 0 : (int64_t)(value << unused) >> unused;
}

static uint8_t
fault_code_byte(struct fault_instruction *in)
{
    return (uint8_t)fault_code_next(in, 1);
}

/* Read what stands before the opcode, and the opcode.  Returns -1 for what
   is not known. */
static int
fault_read_opcode(struct fault_instruction *in)
{
    uint8_t b = fault_code_byte(in);
    while (b == 0x66 || b == 0x67 || (b >= 0x64 && b <= 0x65) || b == 0xf0
           || b == 0xf2 || b == 0xf3 || (b & 0xe7) == 0x26) {
        in->narrow |= b == 0x66;
        in->short_address |= b == 0x67;
        in->segment = b == 0x64 || b == 0x65 ? b : in->segment;
        b = fault_code_byte(in);
    }
    if ((b & 0xf0) == 0x40) {
        in->has_rex = true;
        in->rex = b & 15;
        b = fault_code_byte(in);
    }
    if (b == 0xc4 || b == 0xc5 || b == 0x62) {
        /* The bits that extend registers are inverted here. */
        uint8_t first = fault_code_byte(in);
        in->vector = true;
        in->evex = b == 0x62;
        in->map = b == 0xc5 ? 1 : first & (b == 0x62 ? 7 : 31);
        in->rex = ~(unsigned)first >> 5 & (b == 0xc5 ? 4 : 7);
        if (b == 0xc4 || b == 0x62) {
            fault_code_next(in, b == 0x62 ? 2 : 1);
        }
        b = fault_code_byte(in);
    }
    else if (b == 0x0f) {
        in->map = 1;
        b = fault_code_byte(in);
        if (b == 0x38 || b == 0x3a) {
            in->map = b == 0x38 ? 2 : 3;
            b = fault_code_byte(in);
        }
    }
    in->opcode = b;
    return in->map <= 3 && b != 0xd5 && in->at <= in->length ? 0 : -1;
}

/* Is the opcode followed by a byte that names the operands? */
static bool
fault_has_operands(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    if (in->map == 0) {
        return (b < 0x40 && (b & 7) < 4) || b == 0x63 || b == 0x69
               || b == 0x6b || (b >= 0x80 && b <= 0x8f) || b == 0xc0
               || b == 0xc1 || b == 0xc6 || b == 0xc7
               || (b >= 0xd0 && b <= 0xd3) || (b >= 0xd8 && b <= 0xdf)
               || b == 0xf6 || b == 0xf7 || b == 0xfe || b == 0xff;
    }
    return in->map > 1
           || !((b >= 0x05 && b <= 0x0b) || (b >= 0x30 && b <= 0x37)
                || b == 0x0e || b == 0x77 || (b >= 0x80 && b <= 0x8f)
                || (b & 0xf7) == 0xa0 || (b & 0xf7) == 0xa1
                || (b & 0xf7) == 0xa2 || (b >= 0xc8 && b <= 0xcf));
}

/* How many bytes of a constant stand behind the operands? */
static size_t
fault_constant_size(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    if (in->map == 0) {
        bool tests = (b | 1) == 0xf7 && (in->reg & 7) < 2;
        bool large = b == 0x69 || b == 0x81 || b == 0xc7;
        bool small = b == 0x6b || b == 0x80 || b == 0x83 || b == 0xc0
                     || b == 0xc1 || b == 0xc6;
        return large || (tests && b == 0xf7)
               ? (in->narrow && !(in->rex & 8) ? 2 : 4) : small || tests;
    }
    return in->map == 3
           || (in->map == 1
               && ((b >= 0x70 && b <= 0x73) || (b & 0xf7) == 0xa4
                   || b == 0xba || b == 0xc2 || (b >= 0xc4 && b <= 0xc6)));
}

/* Read the byte that names the operands, and find out where the one that may
   be in memory is.  Returns -1 where that is not known. */
static int
fault_read_operands(struct fault_instruction *in, uintptr_t pc,
                    const uintptr_t *registers)
{
    uint8_t b = fault_code_byte(in);
    unsigned mode = b >> 6, low = b & 7;
    in->reg = (b >> 3 & 7) | (in->rex & 4) << 1;
    in->base = (int)(low | (in->rex & 1) << 3);
    if (mode == 3) {
        return in->at <= in->length ? 0 : -1;
    }
    in->in_memory = true;
    if (low == 4) {
        uint8_t sib = fault_code_byte(in);
        unsigned index = (sib >> 3 & 7) | (in->rex & 2) << 2;
        in->base = (int)((sib & 7) | (in->rex & 1) << 3);
        if (index != 4) {
            in->index = (int)index;
            in->address = registers[index] << (sib >> 6);
        }
        low = sib & 7;
    }
    bool relative = mode == 0 && (b & 7) == 5;
    bool wide = mode == 2 || (mode == 0 && low == 5);
    if (mode == 0 && low == 5) {
        in->base = -1;
    }
    in->address += (uintptr_t)fault_code_next(in, wide ? 4
                                                  : mode == 1 ? 1 : 0);
    in->address += in->base >= 0 ? registers[in->base] : 0;
    /* Counted from the instruction's end. */
    in->address += relative ? pc + in->at + fault_constant_size(in) : 0;
    in->address &= in->short_address ? 0xffffffff : UINTPTR_MAX;
    in->address += in->segment == 0x64 ? (uintptr_t)pthread_self() : 0;
    /* Not known: what the other segment starts at, the scale of EVEX's short
       displacements, indices in vectors. */
    bool gathers = in->vector && in->map == 2
                   && ((in->opcode & 0xfc) == 0x90
                       || (in->opcode & 0xfc) == 0xa0);
    return in->at > in->length || in->segment == 0x65
           || (in->evex && mode == 1) || gathers ? -1 : 0;
}

/* Decode the instruction that was interrupted.  Returns -1 where it is not
   known. */
static int
fault_decode(struct fault_instruction *in, uintptr_t pc,
             const uintptr_t *registers)
{
    memset(in, 0, sizeof *in);
    in->base = in->index = -1;
    in->length = FAULT_IS_X86_64 ? fault_read_code(in->code, pc) : 0;
    if (in->length == 0 || fault_read_opcode(in) < 0) {
        return -1;
    }
    return fault_has_operands(in)
           ? fault_read_operands(in, pc, registers) : 0;
}

/* What a division's processor exception meant: it is the same for a divisor
   of 0 and for a quotient that does not fit. */
static const char *
fault_divisor(const struct fault_instruction *in, const uintptr_t *registers)
{
    uint64_t value = 0;
    if (in->map != 0 || (in->opcode | 1) != 0xf7 || (in->reg & 6) != 6) {
        return NULL;
    }
    size_t size = in->opcode == 0xf6 ? 1 : in->rex & 8 ? 8
                  : in->narrow ? 2 : 4;
    if (in->in_memory) {
        if (mem_read(&value, in->address, size) < 0) {
            return NULL;
        }
    }
    else if (size == 1 && !in->has_rex && in->base >= 4) {
        value = registers[in->base - 4] >> 8;       /* ah, ch, dh, bh */
    }
    else {
        value = registers[in->base];
    }
    value &= size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * size) - 1;
    return value == 0 ? "integer division by zero"
                      : "integer division overflow, the quotient does not fit";
}

/* Does the instruction write to its operand in memory?  Not known of those
   where it depends on more than the opcode. */
static enum cpu_access
fault_operand_access(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    unsigned reg = in->reg & 7;
    bool writes = false;
    if (in->map > 1 || (in->map == 0 && b >= 0xd8 && b <= 0xdf)
        || (in->map == 1 && (b == 0x7e || b == 0xae || b == 0xc7))) {
        return CPU_UNKNOWN;
    }
    if (in->map == 1) {
        writes = b == 0x11 || b == 0x13 || b == 0x17 || b == 0x29
                 || b == 0x2b || b == 0x7f || b == 0xd6 || b == 0xe7
                 || b == 0xc3 || (b >= 0x90 && b <= 0x9f)
                 || (b & 0xf6) == 0xa4 || b == 0xab || b == 0xb3 || b == 0xbb
                 || (b == 0xba && reg > 4) || (b & 0xfe) == 0xb0
                 || (b & 0xfe) == 0xc0;
    }
    else if (b < 0x40) {
        writes = (b & 7) < 2 && b < 0x38;
    }
    else {
        writes = (b >= 0x80 && b <= 0x83 && reg != 7)
                 || (b >= 0x86 && b <= 0x89) || b == 0x8c || b == 0x8f
                 || b == 0xc0 || b == 0xc1 || b == 0xc6 || b == 0xc7
                 || (b >= 0xd0 && b <= 0xd3)
                 || ((b | 1) == 0xf7 && (reg == 2 || reg == 3))
                 || ((b | 1) == 0xff && reg < 2);
    }
    return writes ? CPU_WRITE : CPU_READ;
}

/* Where the instruction was about to go that is no address.  Its operand, the
   string that it works on, the stack, or what it jumps to. */
struct fault_odd {
    uintptr_t address;
    enum cpu_access access;
    int registers[2];           /* that it comes from; -1: none */
};

static bool
fault_note_odd(struct fault_odd *odd, uintptr_t address,
               enum cpu_access access, int base, int index)
{
    if (!fault_is_odd(address)) {
        return false;
    }
    *odd = (struct fault_odd) {address, access, {base, index}};
    return true;
}

/* What an instruction without operands uses: strings, the stack. */
static bool
fault_find_implicit(const struct fault_instruction *in,
                    const uintptr_t *registers, struct fault_odd *odd)
{
    uint8_t b = in->opcode;
    uintptr_t sp = registers[4], target;
    if (b >= 0xa0 && b <= 0xa3 && in->at + sizeof target <= in->length) {
        memcpy(&target, in->code + in->at, sizeof target);
        return fault_note_odd(odd, target, b < 0xa2 ? CPU_READ
                                                    : CPU_WRITE, -1, -1);
    }
    if ((b >= 0xa4 && b <= 0xa7) || (b >= 0xaa && b <= 0xaf)) {
        bool reads_di = (b & 0xfe) == 0xa6 || (b & 0xfe) == 0xae;
        bool uses_si = b < 0xa8 || (b & 0xfe) == 0xac;
        bool uses_di = (b & 0xfe) != 0xac;
        return (uses_di
                && fault_note_odd(odd, registers[7],
                                  reads_di ? CPU_READ : CPU_WRITE,
                                  7, -1))
               || (uses_si && fault_note_odd(odd, registers[6], CPU_READ,
                                             6, -1));
    }
    if (b == 0xc2 || b == 0xc3) {
        return fault_note_odd(odd, sp, CPU_READ, 4, -1)
               || (mem_word(sp, &target) == 0
                   && fault_note_odd(odd, target, CPU_EXECUTE, -1, -1));
    }
    bool pushes = (b & 0xf8) == 0x50 || b == 0x68 || b == 0x6a || b == 0x9c
                  || b == 0xe8;
    bool pops = (b & 0xf8) == 0x58 || b == 0x9d;
    return (pushes && fault_note_odd(odd, sp - 8, CPU_WRITE, 4, -1))
           || (pops && fault_note_odd(odd, sp, CPU_READ, 4, -1))
           || (b == 0xc9 && fault_note_odd(odd, registers[5], CPU_READ,
                                           5, -1));
}

static bool
fault_find_odd(const struct fault_instruction *in, const uintptr_t *registers,
               uintptr_t pc, struct fault_odd *odd)
{
    unsigned what = in->reg & 7;
    uintptr_t target = in->base >= 0 ? registers[in->base] : 0;
    if (fault_note_odd(odd, pc, CPU_EXECUTE, -1, -1)) {
        return true;
    }
    if (in->in_memory
        && fault_note_odd(odd, in->address, fault_operand_access(in),
                          in->base, in->index)) {
        return true;
    }
    if (in->map != 0) {
        return false;
    }
    if (in->opcode == 0xff && (what == 2 || what == 4)) {
        bool known = !in->in_memory || mem_word(in->address, &target) == 0;
        return known && fault_note_odd(odd, target, CPU_EXECUTE,
                                       in->in_memory ? -1 : in->base, -1);
    }
    if (in->opcode == 0xff && what == 6) {
        return fault_note_odd(odd, registers[4] - 8, CPU_WRITE, 4, -1);
    }
    return fault_find_implicit(in, registers, odd);
}

/* Is this an instruction that only the kernel may use? */
static bool
fault_is_privileged(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    if (in->map == 1) {
        return b <= 0x01 || (b >= 0x06 && b <= 0x09)
               || (b >= 0x20 && b <= 0x23) || (b >= 0x30 && b <= 0x35);
    }
    return in->map == 0
           && (b == 0xf4 || b == 0xfa || b == 0xfb || b == 0xcd
               || (b >= 0x6c && b <= 0x6f) || (b >= 0xe4 && b <= 0xe7)
               || (b >= 0xec && b <= 0xef));
}

/* Does it move vectors to or from an address that must be aligned, and is
   not? */
static bool
fault_is_misaligned(const struct fault_instruction *in)
{
    uint8_t b = in->opcode;
    bool aligned_move = b == 0x28 || b == 0x29 || b == 0x2b || b == 0x6f
                        || b == 0x7f || b == 0xe7;
    if (!in->in_memory || in->map == 0) {
        return false;
    }
    if (in->vector) {
        return in->address % 64 != 0 && in->map == 1 && aligned_move;
    }
    return in->address % 16 != 0
           && (in->map > 1 || aligned_move || (b >= 0x51 && b <= 0x76)
               || b == 0x14 || b == 0x15 || b == 0xae || b == 0xc2
               || b == 0xc6 || b == 0xc7 || b >= 0xd0);
}

#endif
