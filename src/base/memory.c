/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/memory.h"

#include <glib.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef struct {
    uintptr_t start, end;
    bool from_file_and_read_only;
} Mapping;

/* A line of /proc/self/smaps: the head of a mapping, or one of its numbers. */
static void
take_line(const char *line, Mapping *current)
{
    uintptr_t start, end;
    char access[8], path[2] = "";
    unsigned long anonymous;

    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s %*s %*s %*s %1s", &start, &end, access, path) >=
        3) {
        current->start = start;
        current->end = end;
        current->from_file_and_read_only = access[1] != 'w' && path[0] == '/';
        return;
    }
    /* pages that were written once (relocations) have no copy on disk: leave the whole mapping */
    if (sscanf(line, "Anonymous: %lu kB", &anonymous) == 1 && anonymous == 0 &&
        current->from_file_and_read_only)
        madvise((void *)current->start, current->end - current->start, MADV_DONTNEED);
}

void
memory_trim(void)
{
    g_autofree char *maps = NULL;
    Mapping current = { 0 };

    malloc_trim(0);
    if (!g_file_get_contents("/proc/self/smaps", &maps, NULL, NULL))
        return;
    for (char *line = maps, *next; line != NULL && *line != '\0'; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        take_line(line, &current);
    }
}
