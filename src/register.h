/* register: the processor's registers at a fault, and what each one holds.

   The last block of a fatal report with details.  It reads memory that may be
   anything: called in a handler, between mem_begin() and mem_end().  A line
   says what is there, not how it came to be.  A count of 0 is no proof that
   an object was freed.  Another count is none that it was not: whoever has a
   stale pointer counts it up again. */

#ifndef FAULTHANDLER_REGISTER_H
#define FAULTHANDLER_REGISTER_H

#include "cpu.h"
#include "cpython.h"
#include "fault.h"
#include "map.h"
#include "mem.h"
#include "native.h"
#include "out.h"
#include "str.h"

/* What the map says about the values, read in one pass. */
struct register_map {
    bool known;                 /* it could be read */
    struct map_stack stack;     /* of this thread */
    struct map_entry at[CPU_GENERAL];
};

/* ---- Python objects ----------------------------------------------------- */

#define REGISTER_SIZE_MAX ((Py_ssize_t)1 << 20)
#define REGISTER_WIDTH 6        /* "eflags", "pstate" */

/* Is there a type at this address: is its own type one, too, and does it look
   as if it was made ready? */
static bool
register_is_type(uintptr_t at)
{
    PyTypeObject type;
    uintptr_t meta, flags = 0;
    if (at % sizeof at != 0 || mem_read(&type, at, sizeof type) < 0) {
        return false;
    }
    meta = (uintptr_t)Py_TYPE((PyObject *)&type);
    return (meta == (uintptr_t)&PyType_Type
            || (mem_word(meta + offsetof(PyTypeObject, tp_flags), &flags) == 0
                && flags & Py_TPFLAGS_TYPE_SUBCLASS))
           && type.tp_flags & Py_TPFLAGS_READY
           && type.tp_basicsize >= (Py_ssize_t)sizeof(PyObject)
           && type.tp_basicsize <= REGISTER_SIZE_MAX;
}

/* Write an object's type and its reference count.  Returns false, with nothing
   written, if the memory at an address does not look like an object.  Compared
   with a record of all live objects, this was wrong for less than 1 in 1,000
   words of a heap. */
static bool
register_write_object(struct out *o, uintptr_t at)
{
    PyObject head;
    char byte;
    if (at % sizeof at != 0 || mem_read(&head, at, sizeof head) < 0) {
        return false;
    }
    int64_t count = CPYTHON_REFCOUNT(&head);
    /* From 3.12 on immortal objects have more than INT32_MAX.  A count that is
       an address is a link to the next free block. */
    if (count < 0 || count > 2 * (int64_t)UINT32_MAX
        || mem_read(&byte, (uintptr_t)count, 1) == 0
        || !register_is_type((uintptr_t)Py_TYPE(&head))
        || str_write_type(o, (uintptr_t)Py_TYPE(&head)) < 0) {
        return false;
    }
    if (count > INT32_MAX) {
        out_text(o, " object, immortal");
    }
    else {
        out_text(o, " object, reference count ");
        out_decimal(o, (uint64_t)count);
    }
    return true;
}

/* ---- What a value is ---------------------------------------------------- */

/* Write the file that was loaded at an address, and the symbol there.  Returns
   false, with nothing written, if none was. */
static bool
register_write_file(struct out *o, uintptr_t value)
{
    struct native_object object;
    uintptr_t start;
    if (native_find_object(value, &object) < 0) {
        return false;
    }
    native_write_name(o, native_base_name(native_path(&object)));
    out_text(o, "+0x");
    out_hex(o, value - object.base, 1);
    uintptr_t name = native_find_symbol(&object, value, &start);
    if (name != 0) {
        out_text(o, " (");
        native_write_name(o, name);
        if (value != start) {
            out_text(o, "+0x");
            out_hex(o, value - start, 1);
        }
        out_char(o, ')');
    }
    return true;
}

/* Write what register i holds.  0 says it by itself. */
static void
register_write_meaning(struct out *o, const struct register_map *r, size_t i,
                       uintptr_t value)
{
    int offset;
    const struct map_entry *m = &r->at[i];
    const struct fault_pattern *p = fault_find_pattern(value, &offset);
    if (value + FAULT_NULL_MAX < 2 * FAULT_NULL_MAX) {
        fault_write_signed(o, (int)(intptr_t)value);
    }
    else if (p != NULL) {
        fault_write_pattern(o, p, offset);
    }
    else if (!cpu_is_canonical(value)) {
        out_text(o, "not canonical");
    }
    else if (r->stack.low <= value && value < r->stack.high) {
        out_text(o, "this thread's stack");     /* no object lies there */
    }
    else if (register_write_object(o, value)
             || register_write_file(o, value)) {
        return;
    }
    else if (m->end != 0) {
        map_write_memory(o, m);
    }
    else {
        out_text(o, r->known ? "nothing mapped" : "???");
    }
}

/* ---- The block ---------------------------------------------------------- */

/* Begin a line: the name, as wide as the widest. */
static void
register_begin(struct out *o, const char *name)
{
    out_room(o, OUT_LINE_MAX);
    out_text(o, "  ");
    out_text(o, name);
    for (size_t n = strlen(name); n < REGISTER_WIDTH + 2; n++) {
        out_char(o, ' ');
    }
}

/* Write the flags, and the exception that the processor's own words are for;
   after a signal that was sent they are old. */
static void
register_write_flags(struct out *o, const siginfo_t *info,
                     const void *context)
{
    struct cpu_fault f;
    cpu_get_fault(context, &f);
    register_begin(o, cpu_register_name(CPU_GENERAL));
    out_address(o, cpu_register(context, CPU_GENERAL));
    if (info->si_code > 0 && f.trap >= 0) {
        out_text(o, "  trap ");
        out_decimal(o, (uint64_t)f.trap);
        out_text(o, ", error ");
        out_decimal(o, f.error);
    }
    out_char(o, '\n');
}

/* Write the bytes of the instruction.  It may be shorter. */
static void
register_write_code(struct out *o, const void *context)
{
    uint8_t code[CPU_CODE_BYTES];
    size_t n = fault_read_code(code, cpu_get_place(context).pc);
    register_begin(o, "code");
    for (size_t i = 0; i < n; i++) {
        out_text(o, i == 0 ? "" : " ");
        out_hex(o, code[i], 2);
    }
    out_text(o, n == 0 ? "???\n" : "\n");
}

/* Write the block. */
static void
register_write(struct out *o, const siginfo_t *info, const void *context)
{
    struct register_map r;
    int operand[2];
    uintptr_t values[CPU_GENERAL];
    for (size_t i = 0; i < CPU_GENERAL; i++) {
        values[i] = cpu_register(context, i);
    }
    fault_find_operand(info, context, operand);
    memset(&r, 0, sizeof r);
    r.known = map_find(values, r.at, CPU_GENERAL, cpu_get_place(context).sp,
                       &r.stack);
    out_room(o, OUT_LINE_MAX);
    out_text(o, "\nRegisters:\n");
    for (size_t i = 0; i < CPU_GENERAL; i++) {
        register_begin(o, cpu_register_name(i));
        out_address(o, values[i]);
        if (values[i] != 0) {
            out_text(o, "  ");
            register_write_meaning(o, &r, i, values[i]);
        }
        if ((int)i == operand[0] || (int)i == operand[1]) {
            out_text(o, "  <- the address");
        }
        out_char(o, '\n');
    }
    register_write_flags(o, info, context);
    register_write_code(o, context);
}

#endif
