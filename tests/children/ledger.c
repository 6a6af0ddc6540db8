/* Preloaded into Python, keeps a table of the blocks that objects live in, from
   the first allocation on.  Another process reads it: it is the file "ledger".
   Only with the GIL. */

#include <Python.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define ENTRIES ((size_t)1 << 20)

/* size 0: the block was freed. */
static struct entry {
    uint64_t at, size;
} *table;
static PyMemAllocatorEx below;

/* Note a block that was given out, or with size 0 one that was freed. */
static void
note(void *block, size_t size)
{
    if (block == NULL) {
        return;
    }
    size_t i = ((uintptr_t)block >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 44;
    while (table[i].at != 0 && table[i].at != (uintptr_t)block) {
        i = (i + 1) % ENTRIES;
    }
    table[i].at = (uintptr_t)block;
    table[i].size = size;
}

static void *
on_malloc(void *unused, size_t size)
{
    void *block = below.malloc(below.ctx, size);
    (void)unused;
    note(block, size + 1);
    return block;
}

static void *
on_calloc(void *unused, size_t count, size_t size)
{
    void *block = below.calloc(below.ctx, count, size);
    (void)unused;
    note(block, count * size + 1);
    return block;
}

static void *
on_realloc(void *unused, void *old, size_t size)
{
    void *block = below.realloc(below.ctx, old, size);
    (void)unused;
    if (block != NULL) {
        note(old, 0);
        note(block, size + 1);
    }
    return block;
}

static void
on_free(void *unused, void *block)
{
    (void)unused;
    note(block, 0);
    below.free(below.ctx, block);
}

__attribute__((constructor)) static void
begin(void)
{
    PyMemAllocatorEx above = {NULL, on_malloc, on_calloc, on_realloc, on_free};
    int fd = open("ledger", O_RDWR | O_CLOEXEC);
    table = mmap(NULL, ENTRIES * sizeof *table, PROT_READ | PROT_WRITE,
                 MAP_SHARED, fd, 0);
    close(fd);
    if (table == MAP_FAILED) {
        abort();
    }
    if (getenv("LEDGER_DEBUG") != NULL) {
        PyMem_SetupDebugHooks();
    }
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &below);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &above);
}
