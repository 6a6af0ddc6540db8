/* native: the C frames of a thread, and the objects that they are in.

   Finds the frames, names them by the dynamic symbols of loaded objects, and
   lists the objects.  Asks the loader for nothing that takes its lock. */

#ifndef FAULTHANDLER_NATIVE_H
#define FAULTHANDLER_NATIVE_H

#include "child.h"
#include "cpu.h"
#include "mem.h"
#include "out.h"
#include "platform.h"
#include "unwind.h"

/* Frames that are shown, and frames that are noted.  A stack of 8 MiB that
   overflowed may have as many as NATIVE_MAX. */
#define NATIVE_SHOWN 128
#define NATIVE_MAX (512 * 1024)
#define NATIVE_SYMBOLS 32

/* How long the loader's lock is waited for. */
#define NATIVE_LOCK_NS INT64_C(1000000000)

/* What stands at the end of a stack that was not read whole. */
#define NATIVE_CUT "  <the rest of the C stack cannot be read>\n"
#define NATIVE_HELD \
    "  <no more of the C stack: another thread holds the loader's lock>\n"

/* The path that the program was started from, noted at import.  Not
   program_invocation_name, whose memory many programs overwrite to change
   what ps shows. */
static char native_program[PATH_MAX];

/* Called once, at import. */
static void
native_init(void)
{
    (void)!readlink("/proc/self/exe", native_program,
                    sizeof native_program - 1);
}

struct native_object {
    uintptr_t record;           /* the loader's */
    const char *path;           /* in the loader's memory */
    bool is_program;
    uintptr_t base, start;
    uintptr_t symbols, names;
    size_t count, names_size;
};

/* Find the dynamic symbols of a loaded object.  Their number is not told: all
   linkers put one of these tables behind them. */
static void
native_read_dynamic(struct native_object *object, uintptr_t dynamic)
{
    uintptr_t tables[4] = {0}, end = UINTPTR_MAX;
    for (size_t i = 0; i < 256; i++) {
        ElfW(Dyn) entry;
        if (mem_read(&entry, dynamic + i * sizeof entry, sizeof entry) < 0
            || entry.d_tag == DT_NULL) {
            break;
        }
        uintptr_t value = entry.d_un.d_ptr, at = value;
        if (value < object->base) {
            at += object->base;     /* not relocated: the vdso's, or musl's */
        }
        switch (entry.d_tag) {
        case DT_SYMTAB: object->symbols = at; break;
        case DT_STRSZ: object->names_size = value; break;
        case DT_STRTAB: object->names = tables[0] = at; break;
        case DT_GNU_HASH: tables[1] = at; break;
        case DT_HASH: tables[2] = at; break;
        case DT_VERSYM: tables[3] = at; break;
        default: break;
        }
    }
    for (size_t i = 0; i < 4; i++) {
        end = tables[i] > object->symbols && tables[i] < end ? tables[i] : end;
    }
    object->count = end == UINTPTR_MAX ? 0
                    : (end - object->symbols) / sizeof(ElfW(Sym));
}

/* Read the header of the i-th segment of the object that is mapped at start.
   Returns false behind the last one. */
static bool
native_segment(uintptr_t start, size_t i, ElfW(Phdr) *part)
{
    ElfW(Ehdr) head;
    return mem_read(&head, start, sizeof head) == 0
           && memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 && i < head.e_phnum
           && mem_read(part, start + head.e_phoff + i * sizeof *part,
                       sizeof *part) == 0;
}

/* Return whether an address is in a segment of this object, and in *start
   where its mapping begins. */
static bool
native_holds(const struct link_map *map, uintptr_t pc, uintptr_t *start)
{
    ElfW(Phdr) part;
    /* A program that is not to be moved has no address there. */
    *start = map->l_addr != 0 ? map->l_addr
             : getauxval(AT_PHDR) - sizeof(ElfW(Ehdr));
    for (size_t i = 0; native_segment(*start, i, &part); i++) {
        if (part.p_type == PT_LOAD
            && pc - map->l_addr - part.p_vaddr < part.p_memsz) {
            return true;
        }
    }
    return false;
}

/* Return the loader's record of the object that holds an address, 0 if there
   is none, and in *start where its mapping begins. */
static uintptr_t
native_find_record(uintptr_t pc, uintptr_t *start)
{
    uintptr_t record = 0;
    if (platform_find_object(pc, &record, start)) {
        return record;
    }
    /* Another thread may change the list: then a name is missing. */
    struct mem_chain chain = {0};
    struct link_map map;
    record = platform_loader.program;
    while (record != 0 && mem_chain_step(&chain, record) == 0
           && mem_read(&map, record, sizeof map) == 0) {
        if (native_holds(&map, pc, start)) {
            return record;
        }
        record = (uintptr_t)map.l_next;
    }
    return 0;
}

static uintptr_t
native_record(uintptr_t pc)
{
    uintptr_t start;
    return native_find_record(pc, &start);
}

/* Find the object that holds an address.  Returns -1 if there is none. */
static int
native_find_object(uintptr_t pc, struct native_object *object)
{
    struct link_map map;
    char first = '?';           /* of a name that cannot be read */
    memset(object, 0, sizeof *object);
    object->record = native_find_record(pc, &object->start);
    if (mem_read(&map, object->record, sizeof map) < 0) {
        return -1;
    }
    mem_read(&first, (uintptr_t)map.l_name, 1);
    /* Two objects may have no name: the program, and the vdso with musl. */
    object->is_program = first == '\0'
                         && object->record == platform_loader.program;
    object->path = object->is_program ? program_invocation_name
                   : first != '\0' ? map.l_name : "linux-vdso.so.1";
    object->base = map.l_addr;
    native_read_dynamic(object, (uintptr_t)map.l_ld);
    return 0;
}

/* Find the symbol that covers an address, the one that dladdr() would name.
   Returns the address of its name, 0 if there is none. */
static uintptr_t
native_find_symbol(const struct native_object *object, uintptr_t pc,
                   uintptr_t *start)
{
    const uintptr_t offset = pc - object->base;
    ElfW(Sym) block[NATIVE_SYMBOLS];
    uintptr_t name = 0, best = 0;
    for (size_t i = 0, n; i < object->count; i += n) {
        n = object->count - i < NATIVE_SYMBOLS ? object->count - i
                                               : NATIVE_SYMBOLS;
        if (mem_read(block, object->symbols + i * sizeof *block,
                     n * sizeof *block) < 0) {
            break;
        }
        for (const ElfW(Sym) *s = block; s < block + n; s++) {
            if (offset - s->st_value < s->st_size && s->st_value >= best
                && s->st_shndx != SHN_UNDEF
                && ELF64_ST_TYPE(s->st_info) != STT_TLS
                && s->st_name < object->names_size) {
                best = s->st_value;
                name = object->names + s->st_name;
            }
        }
    }
    *start = object->base + best;
    return name;
}

/* Write a C string that may be anywhere: "..." for what is over OUT_NAME_MAX
   bytes, "???" where there is none. */
static void
native_write_name(struct out *o, uintptr_t at)
{
    char c = '\0';
    size_t i = 0;
    while (mem_read(&c, at + i, 1) == 0 && c != '\0') {
        if (i++ == OUT_NAME_MAX) {
            out_text(o, "...");
            return;
        }
        out_escaped(o, (unsigned char)c);
    }
    out_text(o, i == 0 ? "???" : "");
}

/* The objects that a report's C frames are in. */
#define NATIVE_SEEN_MAX 64

struct native_seen {
    size_t count;
    uintptr_t records[NATIVE_SEEN_MAX];
    uintptr_t pcs[NATIVE_SEEN_MAX];     /* an address in each */
};

/* Note the object of a frame, once. */
static void
native_see(struct native_seen *seen, const struct native_object *object,
           uintptr_t pc)
{
    size_t i = 0;
    while (i < seen->count && seen->records[i] != object->record) {
        i++;
    }
    if (i == seen->count && i < NATIVE_SEEN_MAX) {
        seen->records[i] = object->record;
        seen->pcs[i] = pc;
        seen->count++;
    }
}

/* Write one C frame as the standard library's module does. */
static void
native_write_frame(struct out *o, uintptr_t pc, struct native_seen *seen)
{
    struct native_object object;
    out_room(o, OUT_LINE_MAX);
    if (native_find_object(pc, &object) < 0) {
        out_text(o, "  Binary file '<unknown>' [0x");
    }
    else {
        uintptr_t start;
        uintptr_t name = native_find_symbol(&object, pc, &start);
        native_see(seen, &object, pc);
        out_text(o, "  Binary file \"");
        native_write_name(o, (uintptr_t)object.path);
        out_char(o, '"');
        if (name != 0 || object.base != 0) {
            out_text(o, ", at ");
            if (name != 0) {
                native_write_name(o, name);
            }
            out_text(o, "+0x");
            out_hex(o, pc - (name != 0 ? start : object.base), 1);
        }
        out_text(o, " [0x");
    }
    out_hex(o, pc, 1);
    out_text(o, "]\n");
}

/* Return the address of the path of an object's file. */
static uintptr_t
native_path(const struct native_object *object)
{
    return !object->is_program ? (uintptr_t)object->path
           : (uintptr_t)(native_program[0] != '\0' ? native_program
                         : program_invocation_name);
}

/* Return the address of a path's last part. */
static uintptr_t
native_base_name(uintptr_t path)
{
    uintptr_t base = path;
    char c;
    for (uintptr_t at = path; at - path < PATH_MAX
         && mem_read(&c, at, 1) == 0 && c != '\0'; at++) {
        base = c == '/' ? at + 1 : base;
    }
    return base;
}

#define NATIVE_TITLE \
    "Current thread's C stack trace (most recent call first):\n"

/* The C stack of the calling thread. */
struct native_stack {
    struct unwind_frame *frames;        /* in a mapping, or NULL */
    size_t count;
    const char *mark;           /* a line for its end; NULL: it is whole */
};
#define NATIVE_BYTES (NATIVE_MAX * sizeof(struct unwind_frame))

/* Make room for the frames.  Where there is none, the stack cannot be read. */
static bool
native_open(struct native_stack *s)
{
    void *memory = mmap(NULL, NATIVE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *s = (struct native_stack) {.mark = NATIVE_CUT};
    s->frames = memory == MAP_FAILED ? NULL : memory;
    return s->frames != NULL;
}

static void
native_close(struct native_stack *s)
{
    if (s->frames != NULL) {
        munmap(s->frames, NATIVE_BYTES);
    }
    s->frames = NULL;
}

static int
native_on_object(struct dl_phdr_info *info, size_t size, void *argument)
{
    (void)info, (void)size, (void)argument;
    return 1;
}

/* Run in a child: take the loader's lock, and give it back. */
static int
native_take_lock(void *argument)
{
    const pid_t *parent = argument;
    mem_here = NULL;
    child_begin(*parent, 1, 0);
    platform_list_objects(native_on_object, NULL);
    return CHILD_STATUS;
}

/* Return whether another thread holds the loader's lock, for which the
   unwinder would wait.  Only a copy of this process can try: in it that
   thread, which would give the lock back, does not exist. */
__attribute__((noinline)) static bool
native_loader_is_held(void)
{
    if (platform_unwinds_without_lock()) {
        return false;
    }
    char stack[4 * 1024] __attribute__((aligned(16)));
    pid_t parent = getpid();
    pid_t child = child_start(native_take_lock, stack, sizeof stack, &parent);
    if (child < 0 || child_await(child, platform_now() + NATIVE_LOCK_NS)) {
        return false;
    }
    child_end(child);
    return true;
}

/* Is the last frame of a walk the thread's first one?  musl has no unwind
   tables: a walk ends at its function that calls main() or the thread's, and
   where a signal interrupted it. */
static bool
native_is_first(const struct unwind_frame *frame)
{
    return frame->is_return && unwind_function((void *)frame->pc) == NULL
           && native_record(frame->pc)
              == native_record((uintptr_t)&sigaltstack);
}

/* Unwind, with a way back from a fault: a damaged stack may lead anywhere. */
__attribute__((noinline)) static void
native_walk(struct unwind *u)
{
    sigjmp_buf here;
    sigjmp_buf *outer = mem_here->recover;
    if (sigsetjmp(here, 0) == 0) {
        mem_here->recover = &here;
        atomic_signal_fence(memory_order_seq_cst);
        unwind_stack(u);
        if (!u->whole && u->count > 1 && u->count < u->max) {
            u->whole = native_is_first(&u->frames[u->count - 1]);
        }
        atomic_signal_fence(memory_order_seq_cst);
    }
    else {
        mem_unblock_faults();
    }
    mem_here->recover = outer;
}

/* The ends of this module in memory, which the linker knows. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

/* Is this address in our own code? */
static bool
native_is_ours(uintptr_t pc)
{
    return pc >= (uintptr_t)__ehdr_start && pc < (uintptr_t)_end;
}

/* Add the frames from a place on: the faulting instruction, or a return
   address.  What the handler called stands before it and is left out.  Frames
   of this module are left out, too, but for the first: it crashed. */
static void
native_add_frames(struct native_stack *s, uintptr_t pc, uintptr_t sp,
                  bool is_return)
{
    struct unwind_frame *frames = s->frames;
    struct unwind u = {
        .frames = frames + s->count, .max = NATIVE_MAX - s->count,
    };
    size_t first = s->count;
    s->mark = NATIVE_HELD;
    if (!native_loader_is_held()) {
        native_walk(&u);
        s->mark = u.whole ? NULL : NATIVE_CUT;
    }
    size_t end = first + u.count;
    while (first < end && frames[first].pc != pc) {
        first++;
    }
    if (first == end) {
        s->mark = s->mark == NULL ? NATIVE_CUT : s->mark;
    }
    frames[s->count++] = (struct unwind_frame) {pc, sp, is_return};
    for (size_t i = first + 1; i < end; i++) {
        if (!native_is_ours(frames[i].pc)) {
            frames[s->count++] = frames[i];
        }
    }
}

/* After a call through a bad pointer there is no code to unwind from.  The
   caller's address is in the link register, or at the stack pointer.  Change
   the registers as if the caller had been interrupted.  Returns whether that
   was done; the report puts the old place back. */
static bool
native_leave_nowhere(void *context)
{
    struct cpu_place place = cpu_get_place(context);
    uintptr_t caller = cpu_link(context);
    if (native_record(place.pc) != 0) {
        return false;
    }
    if (caller == 0) {
        if (mem_word(place.sp, &caller) < 0) {
            return false;
        }
        place.sp += sizeof caller;
    }
    if (native_record(caller) == 0) {
        return false;
    }
    place.pc = caller;
    cpu_set_place(context, place);
    return true;
}

/* Note the C stack of a fault, or, without a context, the C stack from a
   return address on.  native_close() forgets it. */
static void
native_unwind(struct native_stack *s, void *context, uintptr_t from)
{
    if (!native_open(s)) {
        return;
    }
    if (context == NULL) {
        native_add_frames(s, from, 0, true);
        return;
    }
    struct cpu_place place = cpu_get_place(context);
    bool left = native_leave_nowhere(context);
    if (left) {
        s->frames[s->count++] = (struct unwind_frame) {
            place.pc, place.sp, false,
        };
        place = cpu_get_place(context);
    }
    native_add_frames(s, place.pc, place.sp, left);
}

/* Write a C stack as the standard library's module does. */
static void
native_write_stack(struct out *o, const struct native_stack *s,
                   struct native_seen *seen)
{
    for (size_t i = 0; i < s->count && i < NATIVE_SHOWN; i++) {
        native_write_frame(o, s->frames[i].pc, seen);
    }
    if (s->count > NATIVE_SHOWN) {
        out_hidden(o, s->count - NATIVE_SHOWN);
    }
    out_room(o, OUT_LINE_MAX);
    out_text(o, s->mark != NULL ? s->mark : "");
}

/* Write the build-id that a segment of notes holds.  Returns whether there is
   one.  Notes begin at multiples of 4. */
static bool
native_write_note(struct out *o, uintptr_t at, size_t size)
{
    struct { uint32_t name_size, size, type; char name[4]; } note;
    uint8_t id[64];
    size = size < 1 << 16 ? size : 1 << 16;
    for (uintptr_t end = at + size; at < end; at += 4) {
        if (mem_read(&note, at, sizeof note) < 0) {
            return false;
        }
        if (note.type == NT_GNU_BUILD_ID && note.name_size == sizeof note.name
            && memcmp(note.name, "GNU", sizeof note.name) == 0
            && note.size > 0 && note.size <= sizeof id
            && mem_read(id, at + sizeof note, note.size) == 0) {
            for (size_t i = 0; i < note.size; i++) {
                out_hex(o, id[i], 2);
            }
            return true;
        }
    }
    return false;
}

/* Write an object's build-id. */
static void
native_write_build_id(struct out *o, const struct native_object *object)
{
    ElfW(Phdr) part;
    for (size_t i = 0; native_segment(object->start, i, &part); i++) {
        if (part.p_type == PT_NOTE
            && native_write_note(o, object->base + part.p_vaddr,
                                 part.p_memsz)) {
            return;
        }
    }
    out_text(o, "???");
}

/* List the objects that C frames are in, so that symbols can be looked up
   later, on another machine.  An address minus the one shown here is an
   address in the file, as the frames show it. */
static void
native_write_seen(struct out *o, const struct native_seen *seen)
{
    if (seen->count == 0) {
        return;
    }
    out_room(o, OUT_LINE_MAX);
    out_text(o, "\nShared objects:\n");
    for (size_t i = 0; i < seen->count; i++) {
        struct native_object object;
        if (native_find_object(seen->pcs[i], &object) == 0) {
            out_room(o, OUT_LINE_MAX);
            out_text(o, "  \"");
            native_write_name(o, native_path(&object));
            out_text(o, "\" at 0x");
            out_hex(o, object.base, 16);
            out_text(o, ", build-id ");
            native_write_build_id(o, &object);
            out_char(o, '\n');
        }
    }
}

#endif
