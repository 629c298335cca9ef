/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A storage domain for a test, and what lies in it.
 */
#pragma once

#include "../lib/folder.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/text.h"
#include "qcow2/qcow2.h"
#include "storage/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define VM_ID "11111111-2222-3333-4444-555555555555"
#define VM_ID2 "99999999-2222-3333-4444-555555555555"
#define MIB (1U << 20)

/* A directory that goes with the test, and the domain in it. */
typedef struct {
    char *dir;
    Domain *domain;
} Place;

static inline void
place_clear(Place *place)
{
    domain_free(place->domain);
    tree_remove(place->dir);
    g_free(place->dir);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_clear)

static inline Place
place_make(void)
{
    g_autoptr(GError) error = NULL;
    Place place = { .dir = g_dir_make_tmp("livemerge-storage-XXXXXX", &error) };

    g_assert_no_error(error);
    place.domain = domain_open(place.dir, NULL, &error);
    g_assert_no_error(error);
    return place;
}

static inline char *
at(const Place *place, const char *name)
{
    return g_build_filename(place->domain->path, name, NULL);
}

static inline void
put(const Place *place, const char *name, const char *bytes, gssize length)
{
    g_autofree char *path = at(place, name);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(path, bytes, length, &error);
    g_assert_no_error(error);
}

static inline bool
exists(const Place *place, const char *name)
{
    g_autofree char *path = at(place, name);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static inline int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a directory of the domain, sorted, with blanks between. */
static inline char *
listing(const Place *place, const char *name)
{
    g_autofree char *path = at(place, name);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *entry;

    while (dir != NULL && (entry = g_dir_read_name(dir)) != NULL)
        g_ptr_array_add(names, g_strdup(entry));
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return g_strjoinv(" ", (char **)names->pdata);
}
