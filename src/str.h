/* str: write str objects and the names of types as ASCII text.

   Everything here may run inside a signal handler, between mem_begin() and
   mem_end().  What cannot be read writes nothing. */

#ifndef FAULTHANDLER_STR_H
#define FAULTHANDLER_STR_H

#include "mem.h"
#include "out.h"

#define STR_BLOCK 256

/* Where the characters of a str are, how many, and how wide. */
struct str {
    uintptr_t data;
    Py_ssize_t length;
    size_t width;
};

/* Return whether a type is str, or a subclass of it. */
static bool
str_is_subclass(uintptr_t type)
{
    uintptr_t flags;
    return mem_word(type + offsetof(PyTypeObject, tp_flags), &flags) == 0
           && (flags & Py_TPFLAGS_UNICODE_SUBCLASS);
}

/* Return whether a zero follows the last character.  If none does, the length
   is damaged. */
static bool
str_ends(const struct str *s)
{
    uint32_t end = 0;
    return s->length < PY_SSIZE_T_MAX / 4
           && mem_read(&end, s->data + (size_t)s->length * s->width,
                       s->width) == 0
           && end == 0;
}

/* Find the characters of a str object: behind its head, or elsewhere if it is
   of a subclass.  Returns -1 if there is no str at this address. */
static int
str_read(uintptr_t at, struct str *s)
{
    PyASCIIObject head;
    if (at % sizeof at != 0 || mem_read(&head, at, sizeof head) < 0) {
        return -1;
    }
    uintptr_t type = (uintptr_t)Py_TYPE((PyObject *)&head);
    if (type != (uintptr_t)&PyUnicode_Type
        && (head.state.compact || !str_is_subclass(type))) {
        return -1;
    }
    s->length = head.length;
    s->width = head.state.kind;
    s->data = at + (head.state.ascii ? sizeof(PyASCIIObject)
                                     : sizeof(PyCompactUnicodeObject));
    if (s->length < 0 || (s->width != 1 && s->width != 2 && s->width != 4)
        || (head.state.ascii && s->width != 1)
        || (!head.state.compact
            && mem_word(at + offsetof(PyUnicodeObject, data), &s->data) < 0)) {
        return -1;
    }
    return str_ends(s) ? 0 : -1;
}

/* Write characters that were read. */
static void
str_write_block(struct out *o, const void *block, size_t n, size_t width)
{
    const uint8_t *one = block;
    const uint16_t *two = block;
    const uint32_t *four = block;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = width == 1 ? one[i] : width == 2 ? two[i] : four[i];
        out_escaped(o, c);
    }
}

/* Write at most max characters of a str object.  Returns -1, with nothing
   written, if there is no str at this address or it cannot be read. */
static int
str_write_start(struct out *o, uintptr_t at, size_t max)
{
    struct str s;
    size_t start = o->used;
    if (str_read(at, &s) < 0) {
        return -1;
    }
    bool cut = (size_t)s.length > max;
    size_t left = cut ? max : (size_t)s.length;
    while (left > 0) {
        uint32_t block[STR_BLOCK / sizeof(uint32_t)];
        size_t n = STR_BLOCK / s.width < left ? STR_BLOCK / s.width : left;
        if (mem_read(block, s.data, n * s.width) < 0) {
            o->used = start;
            return -1;
        }
        str_write_block(o, block, n, s.width);
        s.data += n * s.width;
        left -= n;
    }
    out_text(o, cut ? "..." : "");
    return 0;
}

static int
str_write(struct out *o, uintptr_t at)
{
    return str_write_start(o, at, OUT_NAME_MAX);
}

/* Decode one character of UTF-8.  A byte that begins none stands for itself.
   Returns the number of bytes. */
static size_t
str_decode(const unsigned char *text, uint32_t *c)
{
    size_t n = text[0] < 0xc2 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3
               : text[0] < 0xf5 ? 4 : 1;
    uint32_t value = n == 1 ? text[0] : text[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            *c = text[0];
            return 1;
        }
        value = value << 6 | (text[i] & 0x3f);
    }
    *c = value;
    return n;
}

/* As many characters are shown of a type's name. */
#define STR_TYPE_MAX 100

/* Write the name of a type, as it calls itself.  Returns -1, with nothing
   written, if it cannot be read or is empty. */
static int
str_write_type(struct out *o, uintptr_t type)
{
    uintptr_t name;
    unsigned char text[STR_TYPE_MAX + 1];
    size_t n = 0;
    if (mem_word(type + offsetof(PyTypeObject, tp_name), &name) < 0) {
        return -1;
    }
    do {
        if (mem_read(text + n, name + n, 1) < 0) {
            return -1;
        }
    } while (text[n] != '\0' && ++n < STR_TYPE_MAX);
    text[n] = '\0';
    for (size_t i = 0; i < n; ) {
        uint32_t c;
        i += str_decode(text + i, &c);
        out_escaped(o, c);
    }
    out_text(o, n == STR_TYPE_MAX ? "..." : "");
    return n == 0 ? -1 : 0;
}

#endif
