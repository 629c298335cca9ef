/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's store in a folder of its own, and rows for it.
 */
#pragma once

#include "../lib/folder.h"
#include "store/store.h"

typedef struct {
    char *dir;
    char *file;
    Store *store;
} Fixture;

static inline Store *
open_store(const char *file)
{
    g_autoptr(GError) error = NULL;
    Store *store = store_open(file, &error);

    g_assert_no_error(error);
    return store;
}

static inline void
set_up(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("livemerge-store-XXXXXX", NULL);
    f->file = g_build_filename(f->dir, "manager.db", NULL);
    f->store = open_store(f->file);
}

static inline void
tear_down(Fixture *f, gconstpointer data)
{
    store_close(f->store);
    tree_remove(f->dir);
    g_free(f->dir);
    g_free(f->file);
}

static inline void
reopen(Fixture *f)
{
    store_close(f->store);
    f->store = open_store(f->file);
}

static inline FlowRow *
flow_row(const char *id, const char *vm, const char *parent)
{
    FlowRow *row = g_new0(FlowRow, 1);

    row->id = g_strdup(id);
    row->kind = g_strdup("merge-run");
    row->vm_id = g_strdup(vm);
    row->parent = g_strdup(parent);
    row->step = g_strdup("begin");
    row->params = json_pack("{s:s}", "disk", "vda");
    row->data = json_object();
    row->correlation_id = g_strdup("corr");
    row->description = g_strdup("Merging \303\244 'vda'");
    return row;
}

static inline void
insert(Store *store, const char *id, const char *vm, const char *parent)
{
    g_autoptr(FlowRow) row = flow_row(id, vm, parent);
    g_autoptr(GError) error = NULL;

    g_assert_true(store_flow_insert(store, row, &error));
    g_assert_no_error(error);
    g_assert_cmpint(row->rev, ==, 1);
    g_assert_cmpint(row->created, >, 0);
}

static inline FlowRow *
get(Store *store, const char *id)
{
    g_autoptr(GError) error = NULL;
    FlowRow *row = store_flow_get(store, id, &error);

    g_assert_no_error(error);
    return row;
}

static inline int64_t
add_event_about(Store *store, int code, const char *job, const char *about, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(EventRow) row = g_new0(EventRow, 1);

    row->code = code;
    row->severity = g_strdup("normal");
    row->text = g_strdup(text);
    row->job_id = g_strdup(job);
    row->about = g_strdup(about);
    g_assert_true(store_event_add(store, row, &error));
    g_assert_no_error(error);
    g_assert_cmpint(row->time, >, 0);
    return row->id;
}

static inline int64_t
add_event(Store *store, int code, const char *job, const char *text)
{
    return add_event_about(store, code, job, NULL, text);
}

static inline char *
events(Store *store, int64_t from, int max, bool oldest_first)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = store_event_list(store, from, max, oldest_first, &error);
    GString *texts = g_string_new(NULL);

    g_assert_no_error(error);
    for (guint i = 0; i < rows->len; i++)
        g_string_append(texts, ((EventRow *)rows->pdata[i])->text);
    return g_string_free(texts, FALSE);
}

#define ASSERT_EVENTS(store, from, max, oldest, wanted)             \
    do {                                                            \
        g_autofree char *texts_ = events(store, from, max, oldest); \
        g_assert_cmpstr(texts_, ==, wanted);                        \
    } while (0)
