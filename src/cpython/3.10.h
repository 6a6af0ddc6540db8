/* CPython 3.10: a frame's offset counts code units of two bytes.  A new line
   table. */

#ifndef FAULTHANDLER_CPYTHON_3_10_H
#define FAULTHANDLER_CPYTHON_3_10_H

#include "to_3.10.h"

#define CPYTHON_INTERP_ID 24

/* Frames and code objects. */
#define CPYTHON_FRAME_UNIT 2
#define CPYTHON_LINE_FORMAT CPYTHON_LINES_310
#define CPYTHON_LINE_TABLE offsetof(PyCodeObject, co_linetable)

/* Checked at import by cpython_check_collector(). */
#define CPYTHON_COLLECTING(interp) ((interp) + 816)

/* What CPython's faulthandler prints. */
#define CPYTHON_LISTS_MODULES true
#define CPYTHON_TELLS_COLLECTOR true

#endif
