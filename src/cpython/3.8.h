/* CPython 3.8: a frame's offset counts bytes.  The collector's flag is in the
   runtime. */

#ifndef FAULTHANDLER_CPYTHON_3_8_H
#define FAULTHANDLER_CPYTHON_3_8_H

#include "to_3.10.h"

#define CPYTHON_INTERP_ID 16

/* Frames and code objects. */
#define CPYTHON_FRAME_UNIT 1
#define CPYTHON_LINE_FORMAT CPYTHON_LINES_38
#define CPYTHON_LINE_TABLE offsetof(PyCodeObject, co_lnotab)

/* Checked at import by cpython_check_collector(). */
#define CPYTHON_COLLECTING(interp) ((void)(interp), \
                                    (uintptr_t)_PyRuntime + 544)

/* What CPython's faulthandler prints. */
#define CPYTHON_LISTS_MODULES false
#define CPYTHON_TELLS_COLLECTOR false

#endif
