/* map: the mappings of this process, read from /proc. */

#ifndef FAULTHANDLER_MAP_H
#define FAULTHANDLER_MAP_H

#include "cpu.h"
#include "platform.h"

/* A line of the process's memory map. */
#define FAULT_PATH_MAX 200
struct fault_mapping {
    uintptr_t start, end;       /* end 0: there is none */
    bool can[CPU_EXECUTE + 1];
    uint64_t offset, inode;
    char path[FAULT_PATH_MAX + 2];      /* one more: it is cut */
};

struct fault_map_reader {
    int fd;
    size_t at, size;
    char text[1024];
};

/* The next character of the map, -1 at its end. */
static int
fault_map_char(struct fault_map_reader *r)
{
    if (r->at == r->size) {
        ssize_t got = read(r->fd, r->text, sizeof r->text);
        if (got <= 0) {
            return -1;
        }
        r->at = 0;
        r->size = (size_t)got;
    }
    return (unsigned char)r->text[r->at++];
}

/* Read a number and the character behind it. */
static uint64_t
fault_map_number(struct fault_map_reader *r, unsigned base)
{
    uint64_t value = 0;
    for (;;) {
        int c = fault_map_char(r);
        if (c >= '0' && c <= '9') {
            value = value * base + (uint64_t)(c - '0');
        }
        else if (base == 16 && c >= 'a' && c <= 'f') {
            value = value * base + (uint64_t)(c - 'a' + 10);
        }
        else {
            return value;
        }
    }
}

/* Read one line: start-end rwxp offset device inode path.  Returns false at
   the end. */
static bool
fault_map_next(struct fault_map_reader *r, struct fault_mapping *m)
{
    m->start = (uintptr_t)fault_map_number(r, 16);
    m->end = (uintptr_t)fault_map_number(r, 16);
    m->can[CPU_UNKNOWN] = false;
    m->can[CPU_READ] = fault_map_char(r) == 'r';
    m->can[CPU_WRITE] = fault_map_char(r) == 'w';
    m->can[CPU_EXECUTE] = fault_map_char(r) == 'x';
    fault_map_char(r);
    fault_map_char(r);
    m->offset = fault_map_number(r, 16);
    fault_map_number(r, 16);    /* the device */
    fault_map_number(r, 16);
    m->inode = fault_map_number(r, 10);
    int c = r->at > 0 ? r->text[r->at - 1] : -1;
    size_t n = 0;
    while (c >= 0 && c != '\n') {
        c = fault_map_char(r);
        if (c > '\n' && (c != ' ' || n > 0) && n <= FAULT_PATH_MAX) {
            m->path[n++] = (char)c;
        }
    }
    m->path[n] = '\0';
    return c == '\n' && m->start < m->end;
}

#endif
