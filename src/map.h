/* map: the mappings of this process, read from /proc.

   Works in a signal handler: it opens the file, reads it once from start to
   end and closes it.  Nothing is kept, and nothing is allocated.  Other
   threads may change the map meanwhile: then a mapping is missing or old. */

#ifndef FAULTHANDLER_MAP_H
#define FAULTHANDLER_MAP_H

#include "cpu.h"
#include "out.h"
#include "platform.h"

/* A path is cut at this many characters. */
#define MAP_PATH_MAX 200

/* One mapping.  `can` says what is allowed there; of CPU_UNKNOWN it says
   false. */
struct map_entry {
    uintptr_t start, end;       /* end 0: there is none */
    bool can[CPU_EXECUTE + 1];
    char path[MAP_PATH_MAX + 2];        /* one more: it is cut */
};

/* The file while it is read.  The kernel gives a page at most per call. */
struct map {
    int fd;
    size_t at, size;
    char text[4096];
};

/* Return the next character, or -1 at the end. */
static int
map_char(struct map *map)
{
    if (map->at == map->size) {
        ssize_t got = read(map->fd, map->text, sizeof map->text);
        if (got <= 0) {
            return -1;
        }
        map->at = 0;
        map->size = (size_t)got;
    }
    return (unsigned char)map->text[map->at++];
}

/* Read a hexadecimal number and the character after it. */
static uintptr_t
map_number(struct map *map)
{
    uintptr_t value = 0;
    for (;;) {
        int c = map_char(map);
        if (c >= '0' && c <= '9') {
            value = value * 16 + (uintptr_t)(c - '0');
        }
        else if (c >= 'a' && c <= 'f') {
            value = value * 16 + (uintptr_t)(c - 'a' + 10);
        }
        else {
            return value;
        }
    }
}

/* Read one line: start-end rwxp offset device inode path.  Returns false at
   the end of the map. */
static bool
map_next(struct map *map, struct map_entry *m)
{
    int c = ' ', spaces = 0;
    size_t n = 0;
    m->start = map_number(map);
    m->end = map_number(map);
    m->can[CPU_UNKNOWN] = false;
    m->can[CPU_READ] = map_char(map) == 'r';
    m->can[CPU_WRITE] = map_char(map) == 'w';
    m->can[CPU_EXECUTE] = map_char(map) == 'x';
    while (c >= 0 && c != '\n') {
        c = map_char(map);
        spaces += c == ' ';     /* the path is behind the fourth */
        if (spaces >= 4 && c > '\n' && (c != ' ' || n > 0)
            && n <= MAP_PATH_MAX) {
            m->path[n++] = (char)c;
        }
    }
    m->path[n] = '\0';
    return c == '\n' && m->start < m->end;
}

static bool
map_holds(const struct map_entry *m, uintptr_t address)
{
    return m->start <= address && address < m->end;
}

/* May this be a stack?  Stacks are memory of no file. */
static bool
map_is_like_stack(const struct map_entry *m)
{
    return m->can[CPU_READ] && m->can[CPU_WRITE] && m->path[0] != '/';
}

static void
map_write_path(struct out *o, const struct map_entry *m)
{
    for (size_t i = 0; m->path[i] != '\0' && i < MAP_PATH_MAX; i++) {
        out_escaped(o, (unsigned char)m->path[i]);
    }
    out_text(o, strlen(m->path) > MAP_PATH_MAX ? "..." : "");
}

/* Write what may be done with the memory, and the mapping's name. */
static void
map_write_memory(struct out *o, const struct map_entry *m)
{
    static const char *const kinds[] = {
        "inaccessible", "readable", "writable", "readable and writable",
        "executable", "readable and executable", "writable and executable",
        "readable, writable and executable",
    };
    out_text(o, kinds[m->can[CPU_READ] + 2 * m->can[CPU_WRITE]
                      + 4 * m->can[CPU_EXECUTE]]);
    out_text(o, " memory");
    if (m->path[0] != '\0') {
        out_text(o, m->path[0] == '[' ? ", " : " of ");
        map_write_path(o, m);
    }
}

/* The calling thread's stack: high is 0 while it is not known. */
struct map_stack {
    uintptr_t low, high;
    uintptr_t below;            /* where the next mapping below begins that may
                                   be a stack */
    bool is_main;               /* the kernel's: it grows when needed */
};

/* How much of a thread's data may lie above pthread_self(), and how far below
   its stack the stack pointer may be: no frame is larger than that. */
#define MAP_THREAD_DATA 4096
#define MAP_FRAME_MAX ((uintptr_t)256 << 20)

/* Note the calling thread's stack if it is in this mapping, and the stack
   pointer is in it or not far below.  A thread's own data, where
   pthread_self() points, lie at the upper end of its stack.  The main thread's
   lie below its stack, which the kernel names. */
static void
map_note_stack(struct map_stack *stack, const struct map_entry *m,
               uintptr_t sp, uintptr_t below)
{
    uintptr_t self = (uintptr_t)pthread_self();
    uintptr_t end = self - self % MAP_THREAD_DATA + MAP_THREAD_DATA;
    bool own = map_holds(m, self);
    if (sp < m->end && sp + MAP_FRAME_MAX >= m->start
        && (own || (stack->high == 0 && strcmp(m->path, "[stack]") == 0))) {
        *stack = (struct map_stack) {
            .low = m->start, .high = own && end < m->end ? end : m->end,
            .below = below, .is_main = !own,
        };
    }
}

/* Find the mappings that hold these addresses, and the calling thread's stack,
   in one pass.  What is not found stays as it is.  Returns false where there
   is no /proc.  The map is read now and not noted when a thread starts: that
   would cost every thread of a healthy process, and would miss threads that
   others start.  Not /proc/self: it has no memory once the main thread has
   ended. */
static bool
map_find(const uintptr_t *addresses, struct map_entry *found, size_t count,
         uintptr_t sp, struct map_stack *stack)
{
    struct map map;
    struct map_entry m;
    uintptr_t below = 0;
    map.at = map.size = 0;
    map.fd = platform_open("/proc/thread-self/maps");
    if (map.fd < 0) {
        return false;
    }
    while (map_next(&map, &m)) {
        for (size_t i = 0; i < count; i++) {
            if (map_holds(&m, addresses[i])) {
                found[i] = m;
            }
        }
        map_note_stack(stack, &m, sp, below);
        below = map_is_like_stack(&m) ? m.start : below;
    }
    close(map.fd);
    return true;
}

#endif
