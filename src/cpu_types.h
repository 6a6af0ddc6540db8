/* cpu_types: what every processor's file fills in.

   Included by src/cpu_x86_64.h and its siblings.  Everyone else includes
   src/cpu.h, which chooses one of them. */

#ifndef FAULTHANDLER_CPU_TYPES_H
#define FAULTHANDLER_CPU_TYPES_H

#include "platform.h"

/* Where a thread was interrupted: the instruction, the stack, the frame. */
struct cpu_place {
    uintptr_t pc, sp, fp;
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

#endif
