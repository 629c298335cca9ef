/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The lease of one host. The lock says who has it; the record beside it says who that is, and
 * carries the number. The record is a file of its own, since it is replaced as a whole.
 *
 * Whoever finds himself in the record as the last holder has the same number again: nobody else had
 * the lease since, or he would have written his own. So a host alone writes the record once.
 */
#include "storage/lease.h"

#include "base/clock.h"
#include "base/lockfile.h"
#include "base/text.h"
#include "storage/files.h"

#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    Lease lease;
    char *what;
    char *lock_file, *record_file;
    char *self; /* no other process, now or later, has this one */
    int fd;     /* the lock; -1 = not held */
    int lost;   /* atomic */
} Local;

/* ---- the record */

/* An empty one if there is none, or if it is damaged: it says nothing then. */
static bool
read_record(const Local *local, json_t **ret_record, GError **error)
{
    g_autofree char *text = NULL;
    size_t length = 0;

    if (!file_read(local->record_file, &text, &length, error))
        return false;
    *ret_record = text != NULL ? json_loadb(text, length, 0, NULL) : NULL;
    if (*ret_record == NULL)
        *ret_record = json_object();
    return true;
}

static const char *
text_of(const json_t *record, const char *key)
{
    return json_string_value(json_object_get(record, key));
}

static int64_t
token_of(const json_t *record)
{
    return json_integer_value(json_object_get(record, "token"));
}

static bool
is_ours(const Local *local, const json_t *record)
{
    return token_of(record) > 0 && g_strcmp0(text_of(record, "id"), local->self) == 0;
}

/* Above all numbers before it, also if the record was lost: at least the time in milliseconds. */
static bool
write_record(const Local *local, const json_t *old, int64_t *ret_token, GError **error)
{
    int64_t now_ms = clock_wall_ms(), last = MIN(token_of(old), INT64_MAX - 1);
    int64_t token = MAX(last + 1, now_ms);
    g_autofree char *holder =
        g_strdup_printf("process %d of host %s", (int)getpid(), g_get_host_name());
    g_autoptr(json_t) record =
        json_pack("{s:I, s:s, s:s, s:I}", "token", (json_int_t)token, "holder", holder, "id",
                  local->self, "since", (json_int_t)now_ms);
    autolibc char *text = json_dumps(record, JSON_INDENT(2));

    if (text == NULL)
        return error_set(error, ERR_INTERNAL, "the name of this host is not UTF-8");
    *ret_token = token;
    return file_put(local->record_file, text, error);
}

/* ---- the lock */

static bool
say_busy(const Local *local, GError **error)
{
    g_autoptr(json_t) record = NULL;
    const char *holder;

    if (!read_record(local, &record, error))
        return false;
    holder = text_of(record, "holder");
    return error_set(
        error, ERR_BUSY,
        "%s: %s holds the lease for deleting and repairing there (number %" G_GINT64_FORMAT
        "); it is free when that has ended what it does; if it hangs, end that process",
        local->what, holder != NULL ? holder : "another process", token_of(record));
}

static bool
acquire(Lease *lease, unsigned budget_ms, int64_t *ret_token, GError **error)
{
    Local *local = (Local *)lease;
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) record = NULL;
    autofd int fd = lockfile_wait(local->lock_file, local->what, budget_ms, &problem);

    if (fd < 0 && g_error_matches(problem, ERR, ERR_BUSY))
        return say_busy(local, error);
    if (fd < 0)
        return error_set(error, ERR_STORAGE, "%s; is the storage mounted?", problem->message);
    if (!read_record(local, &record, error))
        return false;
    *ret_token = token_of(record);
    if (!is_ours(local, record) && !write_record(local, record, ret_token, error))
        return false;
    g_atomic_int_set(&local->lost, 0);
    local->fd = steal_fd(&fd);
    return true;
}

static void
release(Lease *lease)
{
    Local *local = (Local *)lease;

    autofd_close(&local->fd);
    local->fd = -1;
}

/* Somebody who removes the file of a lock lets another one take it. */
static bool
lock_is_in_place(const Local *local)
{
    struct stat ours, there;

    return fstat(local->fd, &ours) == 0 && stat(local->lock_file, &there) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

static bool
check(Lease *lease, int64_t token, GError **error)
{
    Local *local = (Local *)lease;
    g_autoptr(json_t) record = NULL;

    if (!read_record(local, &record, error))
        return false;
    if (g_atomic_int_get(&local->lost) == 0 && is_ours(local, record) &&
        token_of(record) == token && lock_is_in_place(local))
        return true;
    g_atomic_int_set(&local->lost, 1);
    return error_set(error, ERR_BUSY,
                     "%s: the lease for deleting and repairing there (number %" G_GINT64_FORMAT
                     ") is lost, %s has it now (number %" G_GINT64_FORMAT
                     "); nothing more was done, it is tried again",
                     local->what, token,
                     text_of(record, "holder") != NULL ? text_of(record, "holder") : "nobody",
                     token_of(record));
}

static bool
lost(Lease *lease)
{
    return g_atomic_int_get(&((Local *)lease)->lost) != 0;
}

static void
local_free(Lease *lease)
{
    Local *local = (Local *)lease;

    release(lease);
    g_free(local->what);
    g_free(local->lock_file);
    g_free(local->record_file);
    g_free(local->self);
    g_free(local);
}

Lease *
lease_local_new(const char *folder, const char *what)
{
    static const LeaseOps ops = { acquire, release, check, lost, local_free };
    Local *local = g_new0(Local, 1);

    lease_init(&local->lease, &ops);
    local->what = g_strdup(what);
    local->lock_file = g_build_filename(folder, "lease.lock", NULL);
    local->record_file = g_build_filename(folder, "lease.json", NULL);
    local->self = id_new();
    local->fd = -1;
    return &local->lease;
}

char *
lease_local_holder(const char *folder)
{
    g_autofree char *record_file = g_build_filename(folder, "lease.json", NULL);
    const Local local = { .record_file = record_file };
    g_autoptr(json_t) record = NULL;

    return read_record(&local, &record, NULL) ? g_strdup(text_of(record, "holder")) : NULL;
}
