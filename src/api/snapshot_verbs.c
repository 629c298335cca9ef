/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is done to snapshots: take, rename, delete one, delete several.
 */
#include "api/media.h"
#include "api/snapshots.h"
#include "base/clock.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

#define RENAME_WAIT_MS 3000

/* ---- taking one ---- */

static bool
read_description(const Call *call, Reply *reply, char **ret_name, GError **error)
{
    if (!body_text(call->body, "description", ret_name, error))
        return false;
    if (*ret_name == NULL || **ret_name == '\0') {
        reply->reason = "Incomplete parameters";
        return error_set(error, ERR_INVALID, "Snapshot [description] required for %s",
                         call->sub_id != NULL ? "doUpdate" : "doAdd");
    }
    return name_check("the snapshot's description", *ret_name, error);
}

/* The id or name inside {"disk":{"id"}}, {"id"}, {"disk":{"name"}} or {"disk":"vda"} */
static bool
read_disk_word(const json_t *holder, char **ret_word, GError **error)
{
    const json_t *disk = json_object_get(holder, "disk");
    const json_t *from = json_is_object(disk) ? disk : holder;

    if (json_is_string(disk)) {
        *ret_word = g_strdup(json_string_value(disk));
        return true;
    }
    if (json_object_get(from, "image_id") != NULL)
        return error_set(error, ERR_INVALID,
                         "the image_id of a new volume cannot be chosen; leave it out");
    if (!body_text(from, "id", ret_word, error))
        return false;
    return *ret_word != NULL || body_text(from, "name", ret_word, error);
}

static bool
add_disk(const Vm *vm, const char *word, GPtrArray *ids, GError **error)
{
    const Disk *disk = disk_find(vm, word);

    if (disk == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, word);
    for (guint i = 0; i < ids->len; i++)
        if (g_str_equal(ids->pdata[i], disk->id))
            return error_set(error, ERR_INVALID, "disk '%s' is named twice", disk->target);
    g_ptr_array_add(ids, g_strdup(disk->id));
    return true;
}

/* NULL in *ret_ids = all disks; else a NULL-terminated array, an empty one = the configuration
 * alone */
static bool
read_disks(const Call *call, const Vm *vm, GPtrArray **ret_ids, GError **error)
{
    g_autoptr(json_t) list = NULL;
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    json_t *attachment;
    size_t i;

    if (!body_list(call->body, "disk_attachments", "disk_attachment", &list, error))
        return false;
    if (list == NULL)
        return true;
    json_array_foreach (list, i, attachment) {
        g_autofree char *word = NULL;
        if (!read_disk_word(attachment, &word, error))
            return false;
        if (word == NULL)
            return error_set(error, ERR_INVALID, "disk_attachment %zu names no disk", i + 1);
        if (!add_disk(vm, word, ids, error))
            return false;
    }
    g_ptr_array_add(ids, NULL);
    *ret_ids = g_steal_pointer(&ids);
    return true;
}

static bool
read_quiesce(const Call *call, char **ret_quiesce, GError **error)
{
    if (!body_text(call->body, "quiesce", ret_quiesce, error))
        return false;
    const char *word = *ret_quiesce;
    if (word == NULL || g_str_equal(word, "no") || g_str_equal(word, "auto") ||
        g_str_equal(word, "require"))
        return true;
    return error_set(error, ERR_INVALID, "quiesce is no, auto or require, not '%.40s'", word);
}

/* Memory fits the disks of its instant: left out, a snapshot without any has none. */
static bool
choose_memory(const Call *call, const GPtrArray *disks, bool *memory, GError **error)
{
    bool none = disks != NULL && disks->pdata[0] == NULL;

    const json_t *asked = json_object_get(call->body, "persist_memorystate");

    if (!none || asked == NULL || json_is_null(asked)) {
        *memory = *memory && !none;
        return true;
    }
    return !*memory ||
           error_set(error, ERR_INVALID,
                     "persist_memorystate is true, but disk_attachments is empty: a snapshot of "
                     "the configuration alone holds no memory. Leave one of them out");
}

/* As GET will show it in a moment. */
static json_t *
taken_document(const Vm *vm, const char *id, const SnapshotCreate *what, const char *job_id)
{
    g_autoptr(Snapshot) snapshot = snapshot_new(id, what->name, clock_wall_ms());
    snapshot->config_only = what->disks != NULL && *what->disks == NULL;
    json_t *doc = snapshot_document(vm, snapshot, true);

    doc_flag(doc, "persist_memorystate", what->memory);
    doc_ref(doc, "job", job_id, "/jobs/%s", job_id);
    return doc;
}

bool
post_snapshots(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    g_autofree char *name = NULL, *quiesce = NULL, *snapshot_id = NULL;
    g_autoptr(GPtrArray) disks = NULL;
    bool memory = true; /* as oVirt: of a VM that runs; see choose_memory() */

    if (vm == NULL)
        return false;
    call->in_body = true;
    if (!read_description(call, reply, &name, error) ||
        !body_flag(call->body, "persist_memorystate", &memory, error) ||
        !read_quiesce(call, &quiesce, error) || !read_disks(call, vm, &disks, error) ||
        !choose_memory(call, disks, &memory, error))
        return false;
    SnapshotCreate what = { .vm_id = vm->id,
                            .name = name,
                            .disks = disks != NULL ? (const char *const *)disks->pdata : NULL,
                            .memory = memory && vm->state != VM_DOWN, /* nothing to save */
                            .quiesce = quiesce,
                            .correlation_id = call->correlation_id,
                            .user = call->user };
    g_autofree char *job_id = manager_snapshot_create(call->manager, &what, &snapshot_id, error);
    if (job_id == NULL)
        return false;
    reply->status = 201;
    reply->body = taken_document(vm, snapshot_id, &what, job_id);
    reply->job_id = g_steal_pointer(&job_id);
    return true;
}

/* ---- renaming ---- */

bool
put_snapshot(Call *call, Reply *reply, GError **error)
{
    g_auto(SnapshotList) loaded = { 0 };
    g_autofree char *name = NULL;

    if (!snapshot_list_load(call->manager, call->id, &loaded, error))
        return false;
    g_autofree char *active = active_snapshot_id(loaded.vm);
    int i = snapshot_list_index(&loaded, call->sub_id);
    VerbContext asked = { .active = g_str_equal(active, call->sub_id) };
    if (asked.active)
        return manager_allowed(call->manager, VERB_SNAPSHOT_RENAME, loaded.vm, &asked, error);
    if (i < 0)
        return snapshot_list_unknown(&loaded, call->sub_id, error);
    call->in_body = true;
    if (!read_description(call, reply, &name, error))
        return false;
    g_autofree char *job_id = manager_snapshot_rename(
        call->manager, loaded.vm->id, call->sub_id, name, call->correlation_id, call->user, error);
    if (job_id == NULL)
        return false;
    reply->body = snapshot_document(loaded.vm, loaded.vm->snapshots->pdata[i], false);
    doc_text(reply->body, "description", name);
    doc_ref(reply->body, "job", job_id, "/jobs/%s", job_id);
    reply->job_id = g_steal_pointer(&job_id);
    reply->waits = reply->told = true;
    reply->wait_ms = RENAME_WAIT_MS;
    return true;
}

/* ---- deleting ---- */

static bool
read_bandwidth(const char *text, uint64_t *ret_bytes, GError **error)
{
    char *end = NULL;
    double mib = text != NULL ? g_ascii_strtod(text, &end) : 0;

    if (text != NULL && (end == text || *end != '\0' || !isfinite(mib) || mib < 0 || mib > 1048576))
        return error_set(error, ERR_INVALID,
                         "bandwidth is in MiB a second, from 0 (no limit) to 1048576, not '%.40s'",
                         text);
    *ret_bytes = (uint64_t)(mib * 1048576);
    return true;
}

/* The words that both forms of delete have; NULL = not given. */
typedef struct {
    const char *strategy, *verify, *bandwidth, *disk;
    bool dry_run;
} DeleteWords;

static bool
read_delete(const Vm *vm, const DeleteWords *words, SnapshotsRemove *what, GError **error)
{
    const Disk *disk = words->disk != NULL ? disk_find(vm, words->disk) : NULL;

    if (words->disk != NULL && disk == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, words->disk);
    what->disk = disk != NULL ? disk->id : NULL;
    return strategy_from_word(words->strategy != NULL ? words->strategy : "auto", &what->strategy,
                              error) &&
           verify_from_word(words->verify, &what->verify, error) &&
           read_bandwidth(words->bandwidth, &what->bandwidth, error);
}

static bool
reply_plan(Call *call, Reply *reply, const Vm *vm, const SnapshotsRemove *what, GError **error)
{
    g_autoptr(json_t) plan = NULL;

    if (!manager_plan(call->manager, what, &plan, error))
        return false;
    reply->root = "plan";
    reply->body = plan_document(vm, what->snapshot_ids, plan);
    return true;
}

static bool
begin_delete(Call *call, Reply *reply, const Vm *vm, const char *const *ids,
             const DeleteWords *words, GError **error)
{
    SnapshotsRemove what = { .vm_id = vm->id,
                             .snapshot_ids = ids,
                             .correlation_id = call->correlation_id,
                             .user = call->user };

    if (!read_delete(vm, words, &what, error))
        return false;
    if (words->dry_run)
        return reply_plan(call, reply, vm, &what, error);
    g_autofree char *job_id = manager_snapshots_remove(call->manager, &what, error);
    if (job_id == NULL)
        return false;
    reply_job(reply, job_id);
    return true;
}

/* A word that is none must not make a real delete of what was meant as a question. */
static bool
query_dry_run(const Call *call, bool *ret_dry_run, GError **error)
{
    const char *text = g_hash_table_lookup(call->query, "dry_run");

    if (flag_from_text(text, true) != flag_from_text(text, false) && text != NULL)
        return error_set(error, ERR_INVALID, "'dry_run' must be true or false, not '%.40s'", text);
    *ret_dry_run = flag_from_text(text, false);
    return true;
}

/* Is there, is regular, and nobody holds it. */
static bool
check_deletable(Call *call, const SnapshotList *loaded, const char *snapshot_id, GError **error)
{
    const Vm *vm = loaded->vm;
    g_autofree char *active = active_snapshot_id(vm);
    int i = snapshot_list_index(loaded, snapshot_id);
    VerbContext asked = { .active = g_str_equal(active, snapshot_id),
                          .snapshot = i >= 0 ? vm->snapshots->pdata[i] : NULL };

    if (!asked.active && i < 0)
        return snapshot_list_unknown(loaded, snapshot_id, error);
    if (!asked.active && !snapshot_list_locked(loaded, call->manager, (guint)i))
        return true;
    return manager_allowed(call->manager, VERB_SNAPSHOT_DELETE, vm, &asked, error);
}

bool
delete_snapshot(Call *call, Reply *reply, GError **error)
{
    g_auto(SnapshotList) loaded = { 0 };
    const char *ids[] = { call->sub_id, NULL };
    DeleteWords words = { .strategy = call_query(call, "strategy"),
                          .verify = call_query(call, "verify"),
                          .bandwidth = call_query(call, "bandwidth"),
                          .disk = call_query(call, "disk") };

    if (!snapshot_list_load(call->manager, call->id, &loaded, error) ||
        !check_deletable(call, &loaded, call->sub_id, error))
        return false;
    call->in_body = true; /* the parameters, here */
    return query_dry_run(call, &words.dry_run, error) &&
           begin_delete(call, reply, loaded.vm, ids, &words, error);
}

/* A NULL-terminated array of ids, each there, none twice; NULL = error */
static GPtrArray *
read_snapshot_ids(Call *call, const SnapshotList *loaded, GError **error)
{
    g_autoptr(json_t) list = NULL;
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    json_t *member;
    size_t i;

    if (!body_list(call->body, "snapshots", "snapshot", &list, error))
        return NULL;
    json_array_foreach (list, i, member) {
        char *id = NULL;
        if (!body_text(member, "id", &id, error))
            return NULL;
        if (id == NULL || g_ptr_array_find_with_equal_func(ids, id, g_str_equal, NULL)) {
            error_set(error, ERR_INVALID,
                      id == NULL ? "a snapshot has no id%s" : "snapshot '%s' is named twice",
                      id == NULL ? "" : id);
            g_free(id);
            return NULL;
        }
        g_ptr_array_add(ids, id);
        if (!check_deletable(call, loaded, id, error))
            return NULL;
    }
    if (ids->len == 0) {
        error_set(error, ERR_INVALID, "no snapshot is named; snapshots must hold at least one");
        return NULL;
    }
    g_ptr_array_add(ids, NULL);
    return g_steal_pointer(&ids);
}

bool
post_removesnapshots(Call *call, Reply *reply, GError **error)
{
    g_auto(SnapshotList) loaded = { 0 };
    g_autofree char *strategy = NULL, *verify = NULL, *bandwidth = NULL, *disk = NULL;
    DeleteWords words = { 0 };

    if (!snapshot_list_load(call->manager, call->id, &loaded, error))
        return false;
    call->in_body = true;
    g_autoptr(GPtrArray) ids = read_snapshot_ids(call, &loaded, error);
    if (ids == NULL || !body_text(call->body, "strategy", &strategy, error) ||
        !body_text(call->body, "verify", &verify, error) ||
        !body_flag(call->body, "dry_run", &words.dry_run, error) ||
        !body_text(call->body, "bandwidth", &bandwidth, error) ||
        (json_object_get(call->body, "disk") != NULL && !read_disk_word(call->body, &disk, error)))
        return false;
    words.strategy = strategy;
    words.verify = verify;
    words.bandwidth = bandwidth;
    words.disk = disk;
    return begin_delete(call, reply, loaded.vm, (const char *const *)ids->pdata, &words, error);
}
