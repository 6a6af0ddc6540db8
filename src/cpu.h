/* cpu: the registers of an interrupted thread, and what the processor said.

   The only place that asks which processor this is.  Each cpu_NAME.h, included
   behind what all of them fill in, has the same names:

   cpu_get_place, cpu_set_place    pc, sp of a ucontext_t
   cpu_get_fault                   trap number, access, address
   CPU_TRAP_*                      numbers of traps; below -1: not known here
   cpu_register_name, cpu_register the name and the value of one, in gdb's
                                   order; pc and the flags are the last
   CPU_GENERAL                     how many come before the flags
   CPU_CODE_BYTES                  how many bytes one instruction may have
   cpu_undefined_name              the instruction that is never valid
   cpu_undefined                   execute it
   cpu_operand_registers           which registers make an operand's address
   cpu_is_canonical                can this be an address at all?
   cpu_return_address              without the signature that some add
   cpu_link                        where the last call returns to, or 0
   CPU_HANDLER                     what a signal handler's definition needs
   cpu_clear_flags                 flags that a handler must not inherit
   cpu_call_on                     call a function on another stack

   A new processor is a new file with these names, and a line below. */

#ifndef FAULTHANDLER_CPU_H
#define FAULTHANDLER_CPU_H

#include "platform.h"

/* Where a thread was interrupted: the instruction, the stack. */
struct cpu_place {
    uintptr_t pc, sp;
};

/* What an instruction tried to do with memory. */
enum cpu_access { CPU_UNKNOWN, CPU_READ, CPU_WRITE, CPU_EXECUTE };

/* What the processor said of a fault.  After a signal that was sent these are
   the words of an older fault, or none. */
struct cpu_fault {
    int trap;                   /* one of CPU_TRAP_*, -1: not told */
    uint64_t error;             /* the error code or syndrome, 0: not told */
    enum cpu_access access;
    uintptr_t address;
};

#if defined(__x86_64__) && defined(__LP64__)
#  include "cpu_x86_64.h"
#elif defined(__aarch64__) && defined(__LP64__)
#  include "cpu_aarch64.h"
#else
#  error "faulthandler needs x86-64 or aarch64, with 64 bits"
#endif

#endif
