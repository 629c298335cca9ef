/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "state.h"

#include "fiber.h"

#include <link.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define ROOM (UINT64_C(1) << 30) /* only what is used is ever backed by memory */
#define MAX_PIECES 4096
#define PAGE 4096
#define PART 256        /* compared at once */
#define MAX_PAGES 16384 /* of the heap that are watched */

typedef struct {
    char *from;
    size_t length;
} Piece;

struct State {
    unsigned n_pieces;
    unsigned n_written; /* pages of the begin: how many were by then */
    size_t bytes;
    Piece pieces[MAX_PIECES];
    char copies[];
};

/* ---- variables ---- */

static Piece variables[64];
static unsigned n_variables;

/* Those whose variables change while a schedule runs; of the program itself the name is "". */
static bool
is_saved(const char *name)
{
    static const char *const names[] = { "libglib-", "libgobject-", "libjansson", "libsqlite3" };

    if (*name == '\0')
        return true;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (strstr(name, names[i]) != NULL)
            return true;
    return false;
}

static int
add_object(struct dl_phdr_info *info, size_t size, void *data)
{
    uintptr_t protected_to = 0;

    (void)size;
    (void)data;
    if (!is_saved(info->dlpi_name))
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO)
            protected_to = info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t from = MAX(part->p_vaddr, protected_to), to = part->p_vaddr + part->p_memsz;
        if (part->p_type != PT_LOAD || (part->p_flags & PF_W) == 0 || from >= to)
            continue;
        g_assert(n_variables < G_N_ELEMENTS(variables));
        variables[n_variables++] = (Piece){ (char *)info->dlpi_addr + from, to - from };
    }
    return 0;
}

/* ---- the heap's pages at the begin ---- */

/* In memory of its own, which is not put back */
typedef struct {
    size_t n;    /* pages */
    char *above; /* what was allocated later */
    unsigned n_written;
    uint32_t written[MAX_PAGES]; /* since then, in that order */
    bool is_written[MAX_PAGES];
    char signal_stack[64 * 1024];
    char copies[MAX_PAGES][PAGE]; /* as they were */
} Begin;

static Begin *begin;

static char *
page_at(size_t number)
{
    return heap_begin() + number * PAGE;
}

/* The first write to a page */
static void
on_write(int number, siginfo_t *info, void *context)
{
    const char *at = info->si_addr;
    bool is_ours = at >= page_at(0) && at < page_at(begin->n);
    size_t page = is_ours ? (size_t)(at - page_at(0)) / PAGE : 0;

    (void)context;
    if (!is_ours || begin->is_written[page]) {
        signal(number, SIG_DFL); /* it comes again, and kills */
        return;
    }
    begin->is_written[page] = true;
    begin->written[begin->n_written++] = (uint32_t)page;
    mprotect(page_at(page), PAGE, PROT_READ | PROT_WRITE);
}

void
state_begin(void)
{
    const struct sigaction action = { .sa_sigaction = on_write,
                                      .sa_flags = SA_SIGINFO | SA_ONSTACK };

    begin = mmap(NULL, sizeof *begin, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert(begin != MAP_FAILED);
    const stack_t stack = { .ss_sp = begin->signal_stack, .ss_size = sizeof begin->signal_stack };
    begin->n = ((size_t)(heap_end() - heap_begin()) + PAGE - 1) / PAGE;
    g_assert(begin->n <= MAX_PAGES);
    heap_begin_anew();
    begin->above = heap_end();
    memcpy(begin->copies, heap_begin(), begin->n * PAGE);
    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
    mprotect(heap_begin(), begin->n * PAGE, PROT_READ);
}

/* ---- saving ---- */

static State *
new_state(int pages)
{
    State *state = mmap(NULL, ROOM, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    g_assert(state != MAP_FAILED);
    madvise(state, ROOM, pages);
    if (n_variables == 0)
        dl_iterate_phdr(add_object, NULL);
    return state;
}

State *
state_new(void)
{
    return new_state(MADV_HUGEPAGE);
}

State *
state_new_small(void)
{
    return new_state(MADV_NOHUGEPAGE);
}

static void
save_piece(char *from, char *to, void *data)
{
    State *state = data;
    Piece piece = { from, (size_t)(to - from) };

    g_assert(state->n_pieces < MAX_PIECES && state->bytes + piece.length < ROOM / 2);
    memcpy(state->copies + state->bytes, from, piece.length);
    state->bytes += piece.length;
    state->pieces[state->n_pieces++] = piece;
}

static void
save_written(State *state)
{
    for (size_t i = 0; i < begin->n; i++) {
        size_t from = i;
        while (i < begin->n && begin->is_written[i])
            i++;
        if (i > from)
            save_piece(page_at(from), page_at(i), state);
    }
    state->n_written = begin->n_written;
}

void
state_save(State *state)
{
    g_assert(begin != NULL);
    state->n_pieces = 0;
    state->bytes = 0;
    save_written(state);
    heap_each_piece(begin->above, save_piece, state);
    for (unsigned i = 0; i < n_variables; i++)
        save_piece(variables[i].from, variables[i].from + variables[i].length, state);
    fibers_each_stack(save_piece, state);
}

/* Most of it is as it was: what is only read need not be written back from the caches. */
static void
put_back(char *to, const char *from, size_t n)
{
    for (size_t at = 0; at < n; at += PART) {
        size_t part = MIN(PART, n - at);
        if (memcmp(to + at, from + at, part) != 0)
            memmove(to + at, from + at, part); /* as in page_read() */
    }
}

void
state_restore(const State *state)
{
    const char *copy = state->copies;

    for (unsigned i = 0; i < state->n_pieces; i++) {
        put_back(state->pieces[i].from, copy, state->pieces[i].length);
        copy += state->pieces[i].length;
    }
    for (unsigned i = state->n_written; i < begin->n_written; i++) {
        uint32_t page = begin->written[i];
        memcpy(page_at(page), begin->copies[page], PAGE);
    }
}

size_t
state_bytes(const State *state)
{
    return state->bytes;
}
