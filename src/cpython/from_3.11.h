/* What holds from CPython 3.11 on: frames are structs, _PyInterpreterFrame,
   which is internal.  The instructions follow the head of a code object. */

#ifndef FAULTHANDLER_CPYTHON_FROM_3_11_H
#define FAULTHANDLER_CPYTHON_FROM_3_11_H

#include "../platform.h"

/* Frames. */
#define CPYTHON_FRAME_OBJECTS 0
#define CPYTHON_FRAME_UNIT 1
#define CPYTHON_FRAME_LINENO CPYTHON_UNKNOWN
#define CPYTHON_FRAME_TRACE CPYTHON_UNKNOWN

/* Code objects and dicts. */
#define CPYTHON_CODE_SIZE offsetof(PyCodeObject, co_code_adaptive)
#define CPYTHON_CODE_TRACEABLE offsetof(PyCodeObject, _co_firsttraceable)
#define CPYTHON_LINE_FORMAT CPYTHON_LINES_311
#define CPYTHON_LINE_TABLE offsetof(PyCodeObject, co_linetable)
#define CPYTHON_KEYS_LOG2 1

/* What CPython's faulthandler prints. */
#define CPYTHON_LISTS_MODULES true
#define CPYTHON_TELLS_COLLECTOR true

#endif
