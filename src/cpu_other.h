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
    CPU_TRAP_OPCODE = -2, CPU_TRAP_STACK = -3, CPU_TRAP_PROTECTION = -4,
    CPU_TRAP_ALIGNMENT = -5
};

/* Macros that use their arguments. */
#define cpu_register_name(i) ((void)(i), "?")
#define cpu_register(context, i) \
    ((void)(context), (void)(i), (uintptr_t)0)
#define cpu_get_place(context) \
    ((void)(context), (struct cpu_place) {0, 0, 0})
#define cpu_set_place(context, place) ((void)(context), (void)(place))
#define cpu_get_fault(context, fault) \
    ((void)(context), (void)(*(fault) = (struct cpu_fault) {.trap = -1}))
#define cpu_undefined_name(code, n) \
    ((void)(code), (void)(n), (const char *)NULL)
#define cpu_operand_registers(code, n, base, index) \
    ((void)(code), (void)(n), (void)(*(base) = *(index) = -1))
#define cpu_undefined() ((void)0)
#define cpu_is_canonical(address) ((void)(address), true)
#define cpu_return_address(word) (word)
#define cpu_link(context) ((void)(context), (uintptr_t)0)
#define cpu_clear_flags() ((void)0)
#define cpu_call_on(top, function, argument) \
    ((void)(top), (void)(function), (void)(argument), false)

#endif
