/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * malloc() for the whole program: one piece of memory at one place, so that it can be saved and
 * put back (state.c). Chunks of a class are handed out again, last freed first; there is one
 * thread, so there are no locks.
 */
#include "state.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define PLACE ((char *)UINT64_C(0x100000000000))
#define BYTES (UINT64_C(4) << 30)
#define SMALL 1024 /* up to here a class each 16 bytes, then four in each doubling */
#define CLASSES (SMALL / 16 + 1 + 4 * 22)

/* Before each chunk */
typedef struct {
    uint32_t class, offset; /* offset: of what was handed out from its chunk's begin */
    uint64_t unused;
} Header;

typedef struct {
    char *next; /* nothing was ever handed out from here on */
    void *free[CLASSES];
} Heap;

static Heap *const heap = (Heap *)(void *)PLACE;
static bool ready;

static unsigned
class_of(size_t n)
{
    if (n <= SMALL)
        return (unsigned)((n + 15) / 16);
    unsigned log = 63 - (unsigned)__builtin_clzll(n - 1);
    return SMALL / 16 + 1 + 4 * (log - 10) + (unsigned)((n - 1) >> (log - 2) & 3);
}

static size_t
size_of(unsigned class)
{
    if (class <= SMALL / 16)
        return class * UINT64_C(16);
    unsigned above = class - SMALL / 16 - 1;
    return (UINT64_C(5) + above % 4) << (above / 4 + 8);
}

static void
prepare(void)
{
    void *at = mmap(PLACE, BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    if (at != PLACE)
        abort();
    heap->next = PLACE + (sizeof *heap + 63) / 64 * 64;
    ready = true;
}

static Header *
header_of(void *p)
{
    return (Header *)p - 1;
}

static void *
allocate(size_t n)
{
    if (!ready)
        prepare();
    unsigned class = class_of(n);
    char *chunk = heap->free[class];
    if (chunk != NULL) {
        memcpy(&heap->free[class], chunk + sizeof(Header), sizeof(void *));
        return chunk + sizeof(Header);
    }
    chunk = heap->next;
    if (n > BYTES / 2 || chunk + sizeof(Header) + size_of(class) > PLACE + BYTES) {
        errno = ENOMEM;
        return NULL;
    }
    heap->next += sizeof(Header) + size_of(class);
    *(Header *)(void *)chunk = (Header){ class, sizeof(Header), 0 };
    return chunk + sizeof(Header);
}

void *
malloc(size_t n)
{
    return allocate(n);
}

void
free(void *p)
{
    if (p == NULL)
        return;
    char *chunk = (char *)p - header_of(p)->offset;
    unsigned class = header_of(p)->class;
    *(Header *)(void *)chunk = (Header){ class, sizeof(Header), 0 };
    memcpy(chunk + sizeof(Header), &heap->free[class], sizeof(void *));
    heap->free[class] = chunk;
}

size_t
malloc_usable_size(void *p)
{
    return p == NULL ? 0 : size_of(header_of(p)->class) + sizeof(Header) - header_of(p)->offset;
}

void *
calloc(size_t n, size_t size)
{
    size_t bytes;
    void *p = __builtin_mul_overflow(n, size, &bytes) ? NULL : allocate(bytes);

    return p != NULL ? memset(p, 0, bytes) : NULL;
}

void *
realloc(void *p, size_t n)
{
    size_t room = malloc_usable_size(p);
    void *other;

    if (p != NULL && n <= room)
        return p;
    other = allocate(n);
    if (other == NULL || p == NULL)
        return other;
    memcpy(other, p, room);
    free(p);
    return other;
}

void *
aligned_alloc(size_t alignment, size_t n)
{
    char *p = alignment <= sizeof(Header) ? allocate(n) : allocate(n + alignment);

    if (p == NULL || alignment <= sizeof(Header))
        return p;
    char *aligned = (char *)(((uintptr_t)p + alignment - 1) / alignment * alignment);
    unsigned class = header_of(p)->class;
    uint32_t offset = (uint32_t)(aligned - p) + (uint32_t)sizeof(Header);
    *header_of(aligned) = (Header){ class, offset, 0 };
    return aligned;
}

void *
memalign(size_t alignment, size_t n)
{
    return aligned_alloc(alignment, n);
}

int
posix_memalign(void **ret, size_t alignment, size_t n)
{
    *ret = aligned_alloc(alignment, n);
    return *ret != NULL ? 0 : ENOMEM;
}

void
heap_bounds(char **ret_from, char **ret_to)
{
    *ret_from = PLACE;
    *ret_to = heap->next;
}
