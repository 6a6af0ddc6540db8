/* cpu_other: src/cpu.h for a processor that nobody has written a file for.

   Reports say which signal came and where Python was.  What needs registers
   is left out. */

#ifndef FAULTHANDLER_CPU_OTHER_H
#define FAULTHANDLER_CPU_OTHER_H

#include "cpu_types.h"

#define CPU_FP_NUMBER 0
#define CPU_CODE_BYTES 4
#define CPU_FRAME_RECORDS false
#define CPU_HANDLER
/* One, so that loops over them are loops. */
#define CPU_REGISTERS ((size_t)1)
#define CPU_GENERAL ((size_t)1)

enum {
    CPU_TRAP_DIVISION = -2, CPU_TRAP_OPCODE = -3, CPU_TRAP_STACK = -4,
    CPU_TRAP_PROTECTION = -5, CPU_TRAP_PAGE = -6, CPU_TRAP_ALIGNMENT = -7
};

static const char *
cpu_register_name(size_t i)
{
    (void)i;
    return "?";
}

static uintptr_t
cpu_register(const void *context, size_t i)
{
    (void)context, (void)i;
    return 0;
}

static struct cpu_place
cpu_get_place(const void *context)
{
    (void)context;
    return (struct cpu_place) {0, 0, 0};
}

static void
cpu_set_place(void *context, struct cpu_place place)
{
    (void)context, (void)place;
}

static void
cpu_get_fault(const void *context, struct cpu_fault *fault)
{
    (void)context;
    *fault = (struct cpu_fault) {.trap = -1};
}

static const char *
cpu_undefined_name(const uint8_t *code, size_t n)
{
    (void)code, (void)n;
    return NULL;
}

static void
cpu_operand_registers(const uint8_t *code, size_t n, int *base, int *index)
{
    (void)code, (void)n;
    *base = *index = -1;
}

static inline void
cpu_undefined(void)
{
}

static bool
cpu_is_canonical(uintptr_t address)
{
    (void)address;
    return true;
}

static inline uintptr_t
cpu_return_address(uintptr_t word)
{
    return word;
}

static inline uintptr_t
cpu_link(const void *context)
{
    (void)context;
    return 0;
}

static void
cpu_clear_flags(void)
{
}

static bool
cpu_call_on(char *top, void (*function)(void *), void *argument)
{
    (void)top, (void)function, (void)argument;
    return false;
}

#endif
