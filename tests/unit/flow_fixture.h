/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What flow_test.c stands on: a manager with its database and a fake agent, and short words for
 * deeds and waits. A wait that takes too long says what it waited for.
 */
#pragma once

#include "fake_agent.h"

#include "../lib/folder.h"
#include "base/fault.h"
#include "base/text.h"
#include "flow/core.h"

#define S(n) "00000000-0000-4000-8000-00000000000" #n
#define PATIENCE_MS 20000

typedef struct {
    char *dir;
    FakeAgent *agent;
    Store *store;
    Manager *manager;
} Fixture;

static inline void
start_manager(Fixture *f)
{
    HostConfig host = { .name = "host1", .address = f->agent->address };
    g_autoptr(GError) error = NULL;

    f->manager = manager_new(f->store, &host, 1, &error);
    g_assert_no_error(error);
}

static inline void
stop_manager(Fixture *f)
{
    int64_t begin = g_get_monotonic_time();

    g_clear_pointer(&f->manager, manager_free);
    g_assert_cmpint(g_get_monotonic_time() - begin, <, POLL_MS * 800); /* it waits for no poll */
}

/* Waits until the host's answer is there: the test cannot know when that is, but it can ask. */
static inline void
wait_for_host(Fixture *f, bool up)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    for (;;) {
        g_autoptr(GPtrArray) hosts = manager_hosts(f->manager);
        const HostInfo *info = hosts->pdata[0];
        if (info->up == up)
            return;
        if (g_get_monotonic_time() > until)
            g_error("host1 is not %s: %s", up ? "up" : "down", info->problem);
        g_usleep(1000);
    }
}

static inline void
open_store(Fixture *f)
{
    g_autofree char *file = g_build_filename(f->dir, "manager.db", NULL);
    g_autoptr(GError) error = NULL;

    f->store = store_open(file, &error);
    g_assert_no_error(error);
}

static inline void
set_up_quiet(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("livemerge-flow-XXXXXX", NULL);
    f->agent = fake_new(f->dir);
    open_store(f);
}

static inline void
set_up(Fixture *f, gconstpointer data)
{
    set_up_quiet(f, data);
    start_manager(f);
    wait_for_host(f, true);
}

static inline void
tear_down(Fixture *f, gconstpointer data)
{
    stop_manager(f);
    g_clear_pointer(&f->store, store_close);
    g_clear_pointer(&f->agent, fake_free);
    tree_remove(f->dir);
    g_clear_pointer(&f->dir, g_free);
}

static inline void
restart_manager(Fixture *f)
{
    stop_manager(f);
    store_close(f->store);
    open_store(f);
    start_manager(f);
}

/* ---- deeds in short ---- */

static inline char *
begin_remove_by(Fixture *f, const char *const *ids, const char *disk, Strategy strategy,
                GError **error)
{
    SnapshotsRemove what = { .vm_id = FAKE_VM,
                             .snapshot_ids = ids,
                             .disk = disk,
                             .strategy = strategy,
                             .verify = VERIFY_NONE,
                             .correlation_id = "corr",
                             .user = "admin" };

    return manager_snapshots_remove(f->manager, &what, error);
}

static inline char *
begin_remove_of(Fixture *f, const char *const *ids, const char *disk, GError **error)
{
    return begin_remove_by(f, ids, disk, STRATEGY_AUTO, error);
}

static inline char *
begin_remove(Fixture *f, const char *a, const char *b)
{
    const char *ids[] = { a, b, NULL };
    g_autoptr(GError) error = NULL;
    char *job = begin_remove_of(f, ids, NULL, &error);

    g_assert_no_error(error);
    return job;
}

static inline char *
begin_create(Fixture *f, const char *name, GError **error)
{
    SnapshotCreate what = { .vm_id = FAKE_VM, .name = name, .user = "admin", .snapshot_id = S(9) };

    return manager_snapshot_create(f->manager, &what, NULL, error);
}

static inline json_t *
job_document(Fixture *f, const char *job)
{
    g_autoptr(GError) error = NULL;
    json_t *doc = manager_job(f->manager, job, &error);

    g_assert_no_error(error);
    return doc;
}

static inline json_t *
wait_for_end(Fixture *f, const char *job)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;
    json_t *doc = job_document(f, job);

    while (g_str_equal(json_text(doc, "status"), "started")) {
        g_autoptr(GError) error = NULL;
        int64_t rev = json_number(doc, "rev");
        if (g_get_monotonic_time() > until)
            g_error("job %s does not end: %s; the agent did: %s", job,
                    json_dumps(doc, JSON_INDENT(1)), f->agent->log->str);
        json_decref(doc);
        doc = manager_job_wait(f->manager, job, rev, 0, 1000, &error);
        g_assert_no_error(error);
    }
    return doc;
}

/* Waits until the agent has begun so many operations. */
static inline void
wait_for_begun(Fixture *f, unsigned n)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    for (;;) {
        g_mutex_lock(&f->agent->lock);
        unsigned begun = f->agent->begun;
        g_mutex_unlock(&f->agent->lock);
        if (begun >= n)
            return;
        if (g_get_monotonic_time() > until)
            g_error("the agent began %u operations, not %u", begun, n);
        g_usleep(1000);
    }
}

/* Waits until the manager knows that both disks are being merged. */
static inline void
wait_for_copying(Fixture *f, const char *job)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;
    unsigned copying = 0;

    while (copying < 2) {
        g_autoptr(json_t) doc = job_document(f, job);
        size_t i;
        json_t *disk;

        copying = 0;
        json_array_foreach (json_object_get(doc, "disks"), i, disk)
            copying += g_strcmp0(json_text(disk, "phase"), "copying") == 0;
        if (g_get_monotonic_time() > until)
            g_error("disks are not merged: %s", json_dumps(doc, JSON_INDENT(1)));
        g_usleep(1000);
    }
}

/* Waits until the job's first disk has this status; the job's document. */
static inline json_t *
wait_for_disk(Fixture *f, const char *job, const char *status)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    for (;;) {
        g_autoptr(json_t) doc = job_document(f, job);
        const json_t *disk = json_array_get(json_object_get(doc, "disks"), 0);
        if (g_strcmp0(json_text(disk, "status"), status) == 0)
            return g_steal_pointer(&doc);
        if (g_get_monotonic_time() > until)
            g_error("the disk is not %s: %s", status, json_dumps(doc, JSON_INDENT(1)));
        g_usleep(1000);
    }
}

/* The codes of all events, oldest first: "1 342 356". */
static inline char *
event_codes(Fixture *f)
{
    g_autoptr(GPtrArray) rows = store_event_list(f->store, 0, -1, true, NULL);
    GString *codes = g_string_new(NULL);

    for (guint i = 0; i < rows->len; i++)
        g_string_append_printf(codes, "%s%d", i > 0 ? " " : "", ((EventRow *)rows->pdata[i])->code);
    return g_string_free(codes, FALSE);
}

/* Waits until an event of this code was written so many times. */
static inline void
wait_for_event(Fixture *f, int code, unsigned wanted)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    for (;;) {
        g_autoptr(GPtrArray) rows = store_event_list(f->store, 0, -1, true, NULL);
        unsigned n = 0;
        for (guint i = 0; i < rows->len; i++)
            n += ((EventRow *)rows->pdata[i])->code == code;
        if (n == wanted)
            return;
        if (g_get_monotonic_time() > until)
            g_error("event %d was written %u times, not %u", code, n, wanted);
        g_usleep(1000);
    }
}

static inline char *
event_text(Fixture *f, int code)
{
    g_autoptr(GPtrArray) rows = store_event_list(f->store, 0, -1, true, NULL);

    for (guint i = 0; i < rows->len; i++)
        if (((EventRow *)rows->pdata[i])->code == code)
            return g_strdup(((EventRow *)rows->pdata[i])->text);
    return NULL;
}

#define ASSERT_EVENTS(f, wanted)                  \
    do {                                          \
        g_autofree char *codes_ = event_codes(f); \
        g_assert_cmpstr(codes_, ==, wanted);      \
    } while (0)

#define ASSERT_EVENT_TEXT(f, code, wanted)            \
    do {                                              \
        g_autofree char *text_ = event_text(f, code); \
        g_assert_cmpstr(text_, ==, wanted);           \
    } while (0)

static inline void
assert_log_has(Fixture *f, const char *deed, unsigned wanted)
{
    unsigned n = 0;

    for (const char *at = f->agent->log->str; (at = strstr(at, deed)) != NULL; at++)
        n++;
    if (n != wanted)
        g_error("the agent did '%s' %u times, not %u: %s", deed, n, wanted, f->agent->log->str);
}

static inline unsigned
open_operations(Fixture *f)
{
    WITH_LOCK(&f->agent->lock);
    return f->agent->operations->len;
}

/* The agent is told to forget the outcomes a moment after the job has ended. */
static inline void
wait_for_acknowledged(Fixture *f)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    while (open_operations(f) > 0) {
        if (g_get_monotonic_time() > until)
            g_error("%u operations were never acknowledged: %s", open_operations(f),
                    f->agent->log->str);
        g_usleep(1000);
    }
}

/* Until the armed fault has struck the manager, or the job has ended without. Has it struck? */
static inline bool
wait_for_fault(Fixture *f, const char *job)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;
    bool fired = false;

    while (!fired) {
        g_autoptr(json_t) now = job_document(f, job);
        fired = fault_fired();
        if (!g_str_equal(json_text(now, "status"), "started"))
            break;
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(200);
    }
    fired = fired || fault_fired();
    fault_arm(-1);
    return fired;
}
