/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "state.h"

#include "fiber.h"

#include <link.h>
#include <string.h>
#include <sys/mman.h>

#define ROOM (UINT64_C(1) << 30) /* only what is used is ever backed by memory */
#define MAX_PIECES 512

typedef struct {
    char *from;
    size_t length;
} Piece;

struct State {
    unsigned n_pieces;
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

/* ---- saving ---- */

State *
state_new(void)
{
    State *state = mmap(NULL, ROOM, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    g_assert(state != MAP_FAILED);
    if (n_variables == 0)
        dl_iterate_phdr(add_object, NULL);
    return state;
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

void
state_save(State *state)
{
    state->n_pieces = 0;
    state->bytes = 0;
    heap_each_piece(save_piece, state);
    for (unsigned i = 0; i < n_variables; i++)
        save_piece(variables[i].from, variables[i].from + variables[i].length, state);
    fibers_each_stack(save_piece, state);
}

void
state_restore(const State *state)
{
    const char *copy = state->copies;

    for (unsigned i = 0; i < state->n_pieces; i++) {
        memcpy(state->pieces[i].from, copy, state->pieces[i].length);
        copy += state->pieces[i].length;
    }
}

size_t
state_bytes(const State *state)
{
    return state->bytes;
}
