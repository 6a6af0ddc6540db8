/* code: code objects: their names, and the line of an instruction.

   Everything here may run inside a signal handler, between mem_begin() and
   mem_end(). */

#ifndef FAULTHANDLER_CODE_H
#define FAULTHANDLER_CODE_H

#include "cpython.h"
#include "mem.h"

#define CODE_NO_LINE (-1)

/* What a report needs of a code object. */
struct code {
    uintptr_t at;
    uintptr_t name, filename, line_table;
    int first_line;
    intptr_t first_traceable;   /* offset in bytes where the body begins */
    uintptr_t start;            /* of the instructions, from 3.11 on */
    uintptr_t copies;           /* of them, in free-threaded builds; or 0 */
    intptr_t length;            /* of the instructions, in bytes */
};

static uintptr_t
code_field(const char *head, size_t offset)
{
    uintptr_t value;
    memcpy(&value, head + offset, sizeof value);
    return value;
}

static int
code_int(const char *head, size_t offset)
{
    int value;
    memcpy(&value, head + offset, sizeof value);
    return value;
}

/* Read a code object.  Returns -1 if there is none at this address. */
static int
code_read(uintptr_t at, struct code *c)
{
    union {
        PyObject object;
        char bytes[CPYTHON_CODE_SIZE];
    } head;
    if (at % sizeof at != 0 || mem_read(&head, at, sizeof head) < 0
        || Py_TYPE(&head.object) != &PyCode_Type) {
        return -1;
    }
    c->at = at;
    c->name = code_field(head.bytes, offsetof(PyCodeObject, co_name));
    c->filename = code_field(head.bytes, offsetof(PyCodeObject, co_filename));
    c->line_table = code_field(head.bytes, CPYTHON_LINE_TABLE);
    c->first_line = code_int(head.bytes,
                             offsetof(PyCodeObject, co_firstlineno));
    c->first_traceable = 0;
    c->start = c->copies = 0;
    c->length = INT_MAX;
    if (!CPYTHON_FRAME_OBJECTS) {
        uintptr_t units = code_field(head.bytes,
                                     offsetof(PyVarObject, ob_size));
        c->first_traceable = 2 * (intptr_t)code_int(head.bytes,
                                                    CPYTHON_CODE_TRACEABLE);
        c->start = at + CPYTHON_CODE_SIZE;
        c->length = units <= INT_MAX / 2 ? 2 * (intptr_t)units : 0;
    }
    if (CPYTHON_CODE_COPIES != CPYTHON_UNKNOWN) {
        c->copies = code_field(head.bytes, CPYTHON_CODE_COPIES);
    }
    return 0;
}

/* A line table, read a block at a time. */
struct code_table {
    uintptr_t at;               /* of the next block */
    size_t left;                /* bytes behind the block */
    size_t used, filled;
    uint8_t block[256];
};

static int
code_table_open(struct code_table *t, uintptr_t bytes)
{
    PyVarObject head;
    if (bytes % sizeof bytes != 0 || mem_read(&head, bytes, sizeof head) < 0
        || Py_TYPE((PyObject *)&head) != &PyBytes_Type
        || head.ob_size < 0 || head.ob_size > INT_MAX) {
        return -1;
    }
    t->at = bytes + offsetof(PyBytesObject, ob_sval);
    t->left = (size_t)head.ob_size;
    t->used = t->filled = 0;
    return 0;
}

/* Return the next byte, or -1 at the end and where it cannot be read. */
static int
code_table_next(struct code_table *t)
{
    if (t->used == t->filled) {
        size_t n = t->left < sizeof t->block ? t->left : sizeof t->block;
        if (n == 0 || mem_read(t->block, t->at, n) < 0) {
            t->at = 0;
            return -1;
        }
        t->at += n;
        t->left -= n;
        t->used = 0;
        t->filled = n;
    }
    return t->block[t->used++];
}

/* Return a number that is stored in groups of six bits, the least significant
   first, or -1 if it does not end or has more groups than an int can hold. */
static int64_t
code_table_varint(struct code_table *t)
{
    int64_t value = 0;
    for (int shift = 0; shift < 36; shift += 6) {
        int byte = code_table_next(t);
        if (byte < 0 || byte & 0x80) {
            return -1;
        }
        value |= (int64_t)(byte & 0x3f) << shift;
        if (!(byte & 0x40)) {
            return value;
        }
    }
    return -1;
}

/* 3.11+: entries of a head byte and operands.  The head says how many code
   units it covers and how its line follows from the one before. */
static int64_t
code_find_line_311(struct code_table *t, int first_line, intptr_t offset)
{
    int64_t line = first_line;
    intptr_t end = 0;
    int head = code_table_next(t);
    while (head >= 0x80) {
        int kind = head >> 3 & 15;
        end += 2 * ((head & 7) + 1);
        if (kind == 13 || kind == 14) {
            int64_t delta = code_table_varint(t);
            if (delta < 0) {
                return CODE_NO_LINE;
            }
            line += delta & 1 ? -(delta >> 1) : delta >> 1;
        }
        else if (kind >= 10 && kind <= 12) {
            line += kind - 10;
        }
        if (offset < end) {
            return kind == 15 ? CODE_NO_LINE : line;
        }
        do {
            head = code_table_next(t);
        } while (head >= 0 && head < 0x80);
    }
    return CODE_NO_LINE;
}

/* 3.10: pairs of (bytes covered, signed line delta); -128 means no line. */
static int64_t
code_find_line_310(struct code_table *t, int first_line, intptr_t offset)
{
    int64_t line = first_line;
    intptr_t end = 0;
    for (;;) {
        int covered = code_table_next(t), delta = code_table_next(t);
        if (covered < 0 || delta < 0) {
            return CODE_NO_LINE;
        }
        end += covered;
        if ((int8_t)delta != -128) {
            line += (int8_t)delta;
        }
        if (offset < end) {
            return (int8_t)delta == -128 ? CODE_NO_LINE : line;
        }
    }
}

/* 3.8, 3.9: pairs of (bytes since the last pair, signed line delta). */
static int64_t
code_find_line_38(struct code_table *t, int first_line, intptr_t offset)
{
    int64_t line = first_line;
    intptr_t at = 0;
    for (;;) {
        int step = code_table_next(t), delta = code_table_next(t);
        at += step;
        if ((step < 0 || delta < 0) && t->left > 0) {
            return CODE_NO_LINE;        /* not the end: unreadable */
        }
        if (step < 0 || delta < 0 || at > offset) {
            return line;
        }
        line += (int8_t)delta;
    }
}

/* More copies than any process has threads. */
#define CODE_COPIES_MAX 65536

/* Return where an instruction is in its code, in bytes.  In free-threaded
   builds each thread runs its own copy of the code, and the code object has an
   array of them: the right one contains the instruction. */
static intptr_t
code_offset(const struct code *c, uintptr_t instr)
{
    uintptr_t count = 0, block[64];
    const size_t size = sizeof block / sizeof *block;
    intptr_t offset = (intptr_t)(instr - c->start);
    if (c->copies == 0 || (offset >= -2 && offset < c->length)
        || mem_word(c->copies, &count) < 0 || count > CODE_COPIES_MAX) {
        return offset;
    }
    for (size_t i = 0; i < count; i++) {
        size_t left = count - i < size ? count - i : size;
        if (i % size == 0
            && mem_read(block, c->copies + (1 + i) * sizeof *block,
                        left * sizeof *block) < 0) {
            break;
        }
        if (instr - block[i % size] < (uintptr_t)c->length) {
            return (intptr_t)(instr - block[i % size]);
        }
    }
    return offset;
}

/* Return the line of the instruction at a byte offset, or CODE_NO_LINE if it
   has none or the table makes no sense.  Before the first instruction it is
   the line of the definition. */
static int
code_line(const struct code *c, intptr_t offset)
{
    struct code_table t;
    if (offset < 0) {
        return offset >= -2 ? c->first_line : CODE_NO_LINE;
    }
    if (offset >= c->length || code_table_open(&t, c->line_table) < 0) {
        return CODE_NO_LINE;
    }
    int64_t line =
        CPYTHON_LINE_FORMAT == CPYTHON_LINES_311
        ? code_find_line_311(&t, c->first_line, offset)
        : CPYTHON_LINE_FORMAT == CPYTHON_LINES_310
        ? code_find_line_310(&t, c->first_line, offset)
        : code_find_line_38(&t, c->first_line, offset);
    return line < 0 || line > INT_MAX ? CODE_NO_LINE : (int)line;
}

#endif
