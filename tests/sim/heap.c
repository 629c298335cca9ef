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
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define SMALL 1024 /* up to here a class each 16 bytes, then four in each doubling */
#define CLASSES (SMALL / 16 + 1 + 4 * 22)

/* Before each chunk */
typedef struct {
    uint16_t class, shares; /* shares: how often it must be freed before it is */
    uint32_t offset;        /* of what was handed out from its chunk's begin */
    uint64_t state;         /* of a text: mark_of(); while heap_collect() works; else 0 */
} Header;

typedef struct {
    char *next; /* nothing was ever handed out from here on */
    void *free[CLASSES];
} Heap;

static Heap *const heap = (Heap *)(void *)PLACE;
static bool ready;
/* What lies below was there when the heap began anew, and stays: a page that is written to is saved
 * with each world, and would be for a count or for a place in a list. */
static char *old_end = PLACE;

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
    madvise(at, BYTES, MADV_HUGEPAGE);
    heap->next = PLACE + (sizeof *heap + 63) / 64 * 64;
    ready = true;
}

static Header *
header_of(void *p)
{
    return (Header *)p - 1;
}

/* Where nothing was before: rare, so it is out of the way. */
__attribute__((noinline)) static void *
new_chunk(size_t n)
{
    if (!ready)
        prepare();
    unsigned class = class_of(n);
    char *chunk = heap->next;
    if (n > BYTES / 2 || chunk + sizeof(Header) + size_of(class) > PLACE + BYTES) {
        errno = ENOMEM;
        return NULL;
    }
    heap->next += sizeof(Header) + size_of(class);
    *(Header *)(void *)chunk = (Header){ (uint16_t) class, 0, sizeof(Header), 0 };
    return chunk + sizeof(Header);
}

static inline void *
allocate(size_t n)
{
    unsigned class = class_of(n);
    char *chunk = ready ? heap->free[class] : NULL;

    if (chunk == NULL)
        return new_chunk(n);
    memcpy(&heap->free[class], chunk + sizeof(Header), sizeof(void *));
    /* the next one's begin will be read and written, and is mostly in no near cache */
    __builtin_prefetch((char *)heap->free[class] + sizeof(Header), 1);
    return chunk + sizeof(Header);
}

void *
malloc(size_t n)
{
    return allocate(n);
}

static bool
is_ours(const void *p)
{
    return (uintptr_t)p - (uintptr_t)PLACE < BYTES;
}

static void
give_back(Header *header)
{
    char *chunk = (char *)(header + 1) - header->offset;
    unsigned class = header->class;

    header->state = 0;
    memcpy(chunk + sizeof(Header), &heap->free[class], sizeof(void *));
    heap->free[class] = chunk;
}

void
free(void *p)
{
    if (!is_ours(p) || (char *)p < old_end) /* NULL, or of a frozen tree: texts.c */
        return;
    if (header_of(p)->shares > 0)
        header_of(p)->shares--;
    else
        give_back(header_of(p));
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

    if (p != NULL && n <= room && header_of(p)->shares == 0)
        return p;
    other = allocate(n);
    if (other == NULL || p == NULL)
        return other;
    memcpy(other, p, MIN(room, n));
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
    *header_of(aligned) = (Header){ (uint16_t) class, 0, offset, 0 };
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

/* ---- texts that nobody changes ---- */

/* Nothing else has it there: not what stands before a part of a text, nor an old chunk's begin. */
static uint64_t
mark_of(const char *text)
{
    return (uintptr_t)text ^ UINT64_C(0x9E3779B97F4A7C15);
}

char *
heap_text(const char *text)
{
    if (is_ours(text) && (uintptr_t)text % sizeof(Header) == 0 &&
        header_of((char *)text)->state == mark_of(text) &&
        header_of((char *)text)->shares < UINT16_MAX) {
        if (text >= old_end)
            header_of((char *)text)->shares++;
        return (char *)text;
    }
    size_t n = strlen(text) + 1;
    char *copy = allocate(n);
    if (copy == NULL)
        abort();
    header_of(copy)->state = mark_of(copy);
    return memcpy(copy, text, n);
}

/* ---- for who saves it ---- */

#define LARGE 4096
#define HUGE_PAGE (UINT64_C(2) << 20)
#define MOST_HOLES 256

/* Not qsort(), which may use the heap */
static void
sort(char **holes, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        char *one = holes[i];
        size_t k = i;
        for (; k > 0 && holes[k - 1] > one; k--)
            holes[k] = holes[k - 1];
        holes[k] = one;
    }
}

void
heap_begin_anew(void)
{
    memset(heap->free, 0, sizeof heap->free);
    heap->next = (char *)(((uintptr_t)heap->next + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    old_end = heap->next;
}

char *
heap_begin(void)
{
    return PLACE;
}

char *
heap_end(void)
{
    return heap->next;
}

void
heap_each_piece(char *from, void (*each)(char *from, char *to, void *data), void *data)
{
    char *holes[MOST_HOLES];
    size_t n = 0;

    for (unsigned class = class_of(LARGE); class < CLASSES; class ++)
        for (char *chunk = heap->free[class]; chunk != NULL && n < MOST_HOLES;) {
            if (chunk >= from)
                holes[n++] = chunk;
            memcpy(&chunk, chunk + sizeof(Header), sizeof chunk);
        }
    sort(holes, n);
    for (size_t i = 0; i < n; i++) {
        const Header *chunk = (const Header *)(const void *)holes[i];
        each(from, holes[i] + sizeof(Header) + sizeof(void *), data);
        from = holes[i] + sizeof(Header) + size_of(chunk->class);
    }
    each(from, heap->next, data);
}

/* ---- what nobody has any more ---- */

enum { IN_USE, IS_FREE, IS_FOUND };

static Header **chunks; /* all, by address */
static size_t n_chunks;
static Header **found; /* not looked into yet */
static size_t n_found;

static size_t
bytes_of(const Header *chunk)
{
    return sizeof(Header) + size_of(chunk->class);
}

/* The chunk that an address lies in; NULL = none */
static Header *
chunk_at(const char *address)
{
    size_t from = 0, to = n_chunks;

    while (from < to) {
        size_t middle = (from + to) / 2;
        if ((const char *)chunks[middle] + bytes_of(chunks[middle]) <= address)
            from = middle + 1;
        else
            to = middle;
    }
    return from < n_chunks && (const char *)chunks[from] <= address ? chunks[from] : NULL;
}

/* Whatever looks like an address is one. */
static void
look_into(const char *from, const char *to)
{
    for (; from + sizeof(char *) <= to; from += sizeof(char *)) {
        char *address;
        memcpy(&address, from, sizeof address);
        Header *chunk = address >= PLACE && address < heap->next ? chunk_at(address) : NULL;
        if (chunk == NULL || chunk->state != IN_USE)
            continue;
        chunk->state = IS_FOUND;
        found[n_found++] = chunk;
    }
}

/* Variables of the program and of all libraries, and main()'s stack. What is large is heap, fibers'
 * stacks or saved. */
static void
look_into_mappings(const char *maps)
{
    for (const char *line = maps; line != NULL && *line != '\0';) {
        char *at;
        uintptr_t from = strtoull(line, &at, 16), to = strtoull(at + 1, &at, 16);
        if (strncmp(at, " rw-p", 5) == 0 && to - from < BYTES / 64 && (char *)from != PLACE)
            look_into((const char *)from, (const char *)to);
        line = strchr(line, '\n');
        line += line != NULL;
    }
}

static void
list_chunks(void)
{
    char *at = PLACE + (sizeof *heap + 63) / 64 * 64;

    for (n_chunks = 0; at < heap->next; at += bytes_of(chunks[n_chunks++])) {
        chunks[n_chunks] = (Header *)(void *)at;
        chunks[n_chunks]->state = IN_USE;
    }
    for (unsigned class = 0; class < CLASSES; class ++)
        for (char *chunk = heap->free[class]; chunk != NULL;) {
            ((Header *)(void *)chunk)->state = IS_FREE;
            memcpy(&chunk, chunk + sizeof(Header), sizeof chunk);
        }
}

/* From the last to the first, so that the first are handed out first. */
static void
free_what_is_left(void)
{
    bool last = true;

    memset(heap->free, 0, sizeof heap->free);
    for (size_t i = n_chunks; i > 0; i--) {
        Header *chunk = chunks[i - 1];
        bool in_use = chunk->state == IS_FOUND;
        last = last && !in_use;
        chunk->state = 0;
        if (!in_use)
            chunk->shares = 0;
        if (last)
            heap->next = (char *)chunk;
        else if (!in_use)
            give_back(chunk);
    }
}

__attribute__((noinline)) void
heap_collect(const char *maps)
{
    size_t room = (size_t)(heap->next - PLACE) / sizeof(Header) * sizeof(Header *);
    char *own = mmap(NULL, 2 * room, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (own == MAP_FAILED)
        abort();
    __builtin_unwind_init(); /* registers onto the stack */
    chunks = (Header **)(void *)own;
    found = (Header **)(void *)(own + room);
    list_chunks();
    look_into_mappings(maps);
    while (n_found > 0) {
        const Header *chunk = found[--n_found];
        look_into((const char *)(chunk + 1), (const char *)chunk + bytes_of(chunk));
    }
    free_what_is_left();
    munmap(own, 2 * room);
}
