/* cpu: the registers of an interrupted thread, and what the processor said.

   The only place that asks which processor this is.  Each cpu_NAME.h has the
   same names:

   cpu_get_place, cpu_set_place    pc, sp, fp of a ucontext_t
   cpu_get_fault                   trap number, access, address
   CPU_TRAP_*                      numbers of traps; below -1: not known here
   CPU_REGISTERS                   how many, in gdb's order; pc, flags last
   CPU_GENERAL                     how many come before the flags
   cpu_register_name, cpu_register the name and the value of one
   CPU_FP_NUMBER                   DWARF's number of the frame pointer
   CPU_CODE_BYTES                  how many bytes one instruction may have
   cpu_undefined_name              the instruction that is never valid
   cpu_undefined                   execute it; return if there is none
   cpu_operand_registers           which registers make an operand's address
   cpu_is_canonical                can this be an address at all?
   cpu_return_address              without the signature that some add
   cpu_link                        where the last call returns to, or 0
   CPU_FRAME_RECORDS               is the return address beside the saved fp,
                                   at the lower end of the frame?
   CPU_HANDLER                     what a signal handler's definition needs
   cpu_clear_flags                 flags that a handler must not inherit
   cpu_call_on                     call a function on another stack

   A new processor is a new file with these names, and a line below. */

#ifndef FAULTHANDLER_CPU_H
#define FAULTHANDLER_CPU_H

#if defined(__x86_64__) && defined(__LP64__)
#  include "cpu_x86_64.h"
#elif defined(__aarch64__) && defined(__LP64__)
#  include "cpu_aarch64.h"
#else
#  include "cpu_other.h"
#endif

#endif
