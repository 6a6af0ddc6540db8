/* inject: a fault inside a report, for tests.

   A build with FAULTHANDLER_TEST does what the environment says:
   FAULTHANDLER_TEST_STEP names a step of a report, FAULTHANDLER_TEST_HOW is
   one of read, divide, illegal, abort, hang, sleep. */

#ifndef FAULTHANDLER_INJECT_H
#define FAULTHANDLER_INJECT_H

#include "cpu.h"
#include "platform.h"

#ifdef FAULTHANDLER_TEST
UNSANITIZED static void
inject_fault(const char *what)
{
    const char *step = getenv("FAULTHANDLER_TEST_STEP");
    const char *how = getenv("FAULTHANDLER_TEST_HOW");
    volatile int *volatile nowhere = NULL;
    volatile int one = 1, zero = 0;
    static bool done;
    if (done || step == NULL || how == NULL || strcmp(step, what) != 0) {
        return;
    }
    done = true;
    switch (how[0]) {
    case 'r': *nowhere = 1; break;
    /* Some processors divide by zero without a fault. */
    case 'd': one = one / zero; cpu_undefined(); break;
    case 'i': cpu_undefined(); break;
    case 'a': abort(); break;
    case 'h': for (;;) { zero = 0; } break;
    default: pause(); break;
    }
}
#else
#  define inject_fault(what) ((void)(what))
#endif

#endif
