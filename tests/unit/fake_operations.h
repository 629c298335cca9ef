/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The operations of fake_agent.h: what it keeps, does to its VM and says of that, and what a test
 * tells it to hold, to fail or to forget.
 */
#pragma once

#include "base/cleanup.h"
#include "model/plan.h"
#include "model/vm.h"
#include "wire/wire.h"

#include <glib/gstdio.h>
#include <string.h>

#define FAKE_VM "11111111-1111-4111-8111-111111111111"

typedef struct {
    char *id;
    json_t *body;
    const char *state; /* "running", "done", "failed", "cancelled" */
    const char *error_word;
    char *error_text;
    json_t *result;
    char *attention; /* it has paused; NULL = not */
    int64_t bytes_done, bytes_total;
} FakeOperation;

typedef struct {
    char *dir;
    char *address;
    HttpServer *server;
    GMutex lock;
    GCond changed;
    Vm *vm;
    GPtrArray *operations; /* of FakeOperation */
    GHashTable *tombstones, *ended_jobs;
    GPtrArray *lines; /* every event line since the begin */
    int64_t highest_epoch;
    const char *agent_id; /* of its journal */
    /* how to misbehave */
    const char *hold;      /* operations of this kind do not end by themselves */
    const char *fail_disk; /* merges of this disk (target) fail */
    const char *fail_kind; /* operations of this kind fail */
    bool mismatch;         /* and that because the content check found a difference */
    bool plan_slow;        /* questions for a plan get no answer while this is set */
    const char *plan_code; /* questions for a plan are answered with this error */
    int lose_answers;      /* so many POST /operations are done, but answered with 500 */
    int drop_requests;     /* so many are not done, and answered with 500 */
    int busy_answers;      /* so many are refused as busy */
    int drop_acks;         /* so many acknowledgements are not heard, and answered with 500 */
    bool refuse;           /* all are refused */
    bool deaf;             /* no events */
    const char *life;      /* begins the tags of what is told of the VM; NULL = there are none */
    const char *leftover;  /* an import finds this file to delete; NULL = nothing */
    /* what it saw */
    unsigned begun, acknowledged, cancels, hellos, lists, plans, resumes;
    unsigned told, unchanged; /* answers about the VM alone: all of it, and that it is as it was */
    Vm *told_vm;              /* of the last tag */
    unsigned tag;
    GString *log; /* "merge vda 1..2;" for each deed, in order */
} FakeAgent;

static void G_GNUC_UNUSED
fake_say(FakeAgent *a, json_t *take_event)
{
    char *text = json_dumps(take_event, JSON_COMPACT);

    if (!a->deaf)
        g_ptr_array_add(a->lines, g_strconcat(text, "\n", NULL));
    free(text);
    json_decref(take_event);
    g_cond_broadcast(&a->changed);
}

static json_t *
fake_operation_json(const FakeOperation *op)
{
    bool merges = g_strcmp0(json_text(op->body, "kind"), "merge") == 0; /* others say no phase */
    json_t *doc =
        json_pack("{s:s, s:O, s:O, s:s, s:s, s:{s:s, s:I, s:I, s:i, s:i}}", "id", op->id, "kind",
                  json_object_get(op->body, "kind"), "vm_id", json_object_get(op->body, "vm_id"),
                  "state", op->state, "step", "x", "progress", "phase",
                  merges ? "copying" : "waiting", "bytes_done", (json_int_t)op->bytes_done,
                  "bytes_total", (json_int_t)op->bytes_total, "rate", 10, "eta", 5);

    if (op->error_word != NULL)
        json_object_set_new(
            doc, "error",
            json_pack("{s:s, s:s}", "code", op->error_word, "message", op->error_text));
    if (op->result != NULL)
        json_object_set(doc, "result", op->result);
    if (op->attention != NULL)
        json_object_set_new(doc, "attention",
                            json_pack("{s:s, s:s}", "kind", "space", "message", op->attention));
    return doc;
}

static void
fake_operation_free(void *op_)
{
    FakeOperation *op = op_;

    g_free(op->id);
    g_free(op->error_text);
    g_free(op->attention);
    json_decref(op->body);
    json_decref(op->result);
    g_free(op);
}

static FakeOperation *
fake_find(FakeAgent *a, const char *id)
{
    for (guint i = 0; i < a->operations->len; i++)
        if (g_str_equal(((FakeOperation *)a->operations->pdata[i])->id, id))
            return a->operations->pdata[i];
    return NULL;
}

/* ---- the deeds ---- */

static bool
fake_is_removed(const FakeOperation *op, const Volume *volume)
{
    json_t *remove = json_object_get(op->body, "remove"), *id;
    size_t i;

    json_array_foreach (remove, i, id)
        if (g_strcmp0(json_string_value(id), volume->id) == 0)
            return true;
    return remove == NULL; /* of a run by itself: all */
}

/* New volumes instead of low..high; what belongs together becomes one. */
static void
fake_replace(FakeAgent *a, const FakeOperation *op, Disk *disk, int low, int high)
{
    g_autoptr(GPtrArray) old = g_ptr_array_new_with_free_func((GDestroyNotify)volume_free);

    for (int i = 0; i <= (int)disk->volumes->len - 1; i++)
        g_ptr_array_add(old, volume_copy(disk->volumes->pdata[i]));
    for (int base = low, top; base <= high; base = top + 1) {
        g_autofree char *id = g_strdup_printf("%s-new-%d", disk->target, base);
        g_autofree char *path = g_strdup_printf("/%s.qcow2", id);
        g_autoptr(Volume) volume = volume_new(id, path, "qcow2", 1 << 20);
        g_autoptr(GError) error = NULL;

        for (top = base; top < high && fake_is_removed(op, old->pdata[top]);)
            top++;
        g_assert_true(vm_apply_merge(a->vm, disk->id, ((Volume *)old->pdata[base])->id,
                                     ((Volume *)old->pdata[top])->id, volume, &error));
        g_assert_no_error(error);
    }
}

static json_t *
fake_merge(FakeAgent *a, const FakeOperation *op)
{
    const char *strategy = json_text(op->body, "strategy");
    bool forward = g_str_equal(strategy, "copy") || g_str_equal(strategy, "graft");
    Disk *disk = vm_disk(a->vm, json_text(op->body, "disk_id"));
    const char *base = json_text(op->body, "base"), *top = json_text(op->body, "top");
    int low = disk_volume_index(disk, base), high = disk_volume_index(disk, top);
    json_t *left = json_array();
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(low, >=, 0); /* a run is merged once only */
    g_assert_cmpint(high, >, low);
    for (int i = forward ? low : low + 1; i <= high; i++)
        json_array_append_new(left, json_string(((Volume *)disk->volumes->pdata[i])->path));
    g_string_append_printf(a->log, "merge %s %s..%s;", disk->target, base, top);
    if (forward)
        fake_replace(a, op, disk, low, high);
    else
        g_assert_true(vm_apply_merge(a->vm, disk->id, base, top, NULL, &error));
    g_assert_no_error(error);
    return json_pack("{s:O, s:i, s:i, s:f, s:[{s:s, s:i}], s:O, s:o, s:s}", "strategy",
                     json_object_get(op->body, "strategy"), "bytes_copied", 1000, "bytes_written",
                     1100, "seconds", 0.5, "pauses", "kind", "pivot", "milliseconds", 20,
                     "verified", json_object_get(op->body, "verify"), "volumes_left", left,
                     "instance", a->vm->instance);
}

static json_t *
fake_delete_volumes(FakeAgent *a, const FakeOperation *op)
{
    const Disk *disk = vm_disk(a->vm, json_text(op->body, "disk_id"));
    json_t *volumes = json_object_get(op->body, "volumes"), *path;
    size_t i;

    g_assert_cmpstr(json_text(op->body, "instance"), ==, disk != NULL ? a->vm->instance : NULL);
    g_assert_cmpuint(json_array_size(volumes), >, 0);
    g_string_append_printf(a->log, "delete %s", disk != NULL ? disk->target : "all");
    json_array_foreach (volumes, i, path) {
        /* never one that a chain needs */
        for (guint k = 0; k < a->vm->disks->len; k++)
            g_assert_null(disk_volume_by_path(a->vm->disks->pdata[k], json_string_value(path)));
        vm_remove_leftover(a->vm, json_string_value(path));
        g_string_append_printf(a->log, " %s", json_string_value(path));
    }
    g_string_append(a->log, ";");
    return json_pack("{s:O}", "volumes_removed", volumes);
}

static json_t *
fake_create(FakeAgent *a, const FakeOperation *op)
{
    Snapshot *snapshot =
        snapshot_new(json_text(op->body, "snapshot_id"), json_text(op->body, "name"), 1000);
    const json_t *asked = json_object_get(op->body, "disks");

    g_assert_null(vm_snapshot(a->vm, snapshot->id));
    snapshot->config_only = asked != NULL && json_array_size(asked) == 0;
    snapshot->config = g_strdup("<domain/>");
    g_string_append_printf(a->log, "create %s%s;", snapshot->name,
                           snapshot->config_only ? " without disks" : "");
    for (guint i = 0; !snapshot->config_only && i < a->vm->disks->len; i++) {
        Disk *disk = a->vm->disks->pdata[i];
        g_autofree char *id = g_strdup_printf("%s-%u", disk->target, disk->volumes->len);
        g_autofree char *path = g_strdup_printf("/%s.qcow2", id);
        vm_add_snapshot_disk(snapshot, disk->id, disk_leaf(disk)->id);
        g_ptr_array_add(disk->volumes, volume_new(id, path, "qcow2", 1 << 20));
    }
    g_ptr_array_add(a->vm->snapshots, snapshot);
    return json_pack("{s:b, s:i, s:[]}", "quiesced", 1, "memory_size", 0, "pauses");
}

static json_t *
fake_rename(FakeAgent *a, const FakeOperation *op)
{
    Snapshot *snapshot = vm_snapshot(a->vm, json_text(op->body, "snapshot_id"));

    g_assert_nonnull(snapshot);
    g_string_append_printf(a->log, "rename %s;", snapshot->name);
    g_free(snapshot->name);
    snapshot->name = g_strdup(json_text(op->body, "name"));
    return json_object();
}

static json_t *
fake_forget(FakeAgent *a, const FakeOperation *op)
{
    json_t *list = json_object_get(op->body, "snapshots");

    for (size_t i = 0; i < json_array_size(list); i++) {
        Snapshot *snapshot = vm_snapshot(a->vm, json_string_value(json_array_get(list, i)));
        if (snapshot == NULL)
            continue;
        g_string_append_printf(a->log, "forget %s;", snapshot->name);
        g_assert_cmpuint(snapshot->disks->len, ==, 0);
        g_ptr_array_remove(a->vm->snapshots, snapshot);
    }
    return json_object();
}

/* What it was asked for is done, whatever it is. */
static json_t *
fake_doctor(FakeAgent *a, const FakeOperation *op)
{
    const char *kind = json_text(op->body, "kind"), *undo = json_text(op->body, "undo");
    const char *class = json_string_value(json_array_get(json_object_get(op->body, "classes"), 0));

    g_string_append_printf(a->log, "%s %s;", kind, undo != NULL ? undo : class);
    if (undo != NULL)
        return json_pack("{s:i, s:[]}", "undone", 1, "left");
    return json_pack("{s:[{s:s, s:s}], s:s}", "findings", "class", class, "state", "mended", "undo",
                     op->id);
}

/* A guest obeys nobody: it goes on after a shutdown until the test says otherwise. */
static json_t *
fake_power(FakeAgent *a, const FakeOperation *op)
{
    const char *kind = json_text(op->body, "kind"), *how = json_text(op->body, "how");
    bool on = g_str_equal(kind, "vm-start"), save = g_str_equal(kind, "vm-suspend");

    g_string_append_printf(a->log, "%s %s;", kind, how != NULL ? how : "");
    if (on || save || g_strcmp0(how, "off") == 0) {
        g_free(a->vm->instance);
        a->vm->instance = on ? g_strdup("43.4712") : NULL;
        a->vm->state = on ? VM_UP : save ? VM_SUSPENDED : VM_DOWN;
    }
    return json_object();
}

static json_t *
fake_update(FakeAgent *a, const FakeOperation *op)
{
    const char *name = json_text(op->body, "name");
    const char *description = json_text(op->body, "description");

    g_string_append_printf(a->log, "vm-update %s;", name != NULL ? name : description);
    if (name != NULL) {
        g_free(a->vm->name);
        a->vm->name = g_strdup(name);
    }
    if (description != NULL) {
        g_free(a->vm->description);
        a->vm->description = g_strdup(description);
    }
    return json_object();
}

static json_t *
fake_left(const GPtrArray *left)
{
    json_t *list = json_array();

    for (guint i = 0; i < left->len; i++)
        json_array_append_new(list, json_string(left->pdata[i]));
    return json_pack("{s:o}", "volumes_left", list);
}

/* What the agent does to its manifest; none of it twice. */
static json_t *
fake_branch(FakeAgent *a, const FakeOperation *op)
{
    const char *kind = json_text(op->body, "kind"), *id = json_text(op->body, "snapshot_id");
    g_autoptr(GPtrArray) leaves = g_ptr_array_new_with_free_func((GDestroyNotify)volume_free);
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    bool ok;

    g_string_append_printf(a->log, "%s %s%s;", kind, vm_snapshot(a->vm, id)->name,
                           json_flag(op->body, "memory") ? " memory" : "");
    for (guint i = 0; i < a->vm->disks->len; i++) {
        g_autofree char *leaf = g_strdup_printf("%s-try", ((Disk *)a->vm->disks->pdata[i])->target);
        g_autofree char *path = g_strdup_printf("/%s.qcow2", leaf);
        g_ptr_array_add(leaves, volume_new(leaf, path, "qcow2", 1 << 20));
    }
    g_assert_cmpint(a->vm->preview == NULL, ==, g_str_equal(kind, "snapshot-preview"));
    ok = g_str_equal(kind, "snapshot-preview")
             ? vm_begin_preview(a->vm, id, 1000, a->vm->disks, leaves, &error)
         : g_str_equal(kind, "snapshot-commit") ? vm_commit_preview(a->vm, left, &error)
                                                : vm_undo_preview(a->vm, left, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
    return fake_left(left);
}

static bool
fake_fails(const FakeAgent *a, const FakeOperation *op)
{
    const Disk *disk = json_text(op->body, "disk_id") != NULL
                           ? vm_disk(a->vm, json_text(op->body, "disk_id"))
                           : NULL;

    if (g_strcmp0(a->fail_kind, json_text(op->body, "kind")) == 0)
        return true;
    return a->fail_disk != NULL && disk != NULL && g_str_equal(disk->target, a->fail_disk) &&
           g_str_equal(json_text(op->body, "kind"), "merge");
}

static void
fake_execute(FakeAgent *a, FakeOperation *op)
{
    const char *kind = json_text(op->body, "kind");

    if (fake_fails(a, op)) {
        op->state = "failed";
        op->error_word = a->mismatch ? "corrupt" : "storage";
        op->error_text = g_strdup(a->mismatch ? "block 7 differs; all volumes are kept, the new "
                                                "one is at /quarantine/x"
                                              : "input/output error on the mirror");
        if (a->mismatch)
            op->result = json_pack("{s:b}", "mismatch", 1);
    } else {
        op->state = "done";
        op->bytes_done = op->bytes_total;
        op->result = g_str_equal(kind, "merge")             ? fake_merge(a, op)
                     : g_str_equal(kind, "delete-volumes")  ? fake_delete_volumes(a, op)
                     : g_str_equal(kind, "snapshot-create") ? fake_create(a, op)
                     : g_str_equal(kind, "snapshot-rename") ? fake_rename(a, op)
                     : g_str_has_prefix(kind, "doctor-")    ? fake_doctor(a, op)
                     : g_str_equal(kind, "snapshot-preview") ||
                             g_str_equal(kind, "snapshot-commit") ||
                             g_str_equal(kind, "snapshot-undo")
                         ? fake_branch(a, op)
                     : g_str_equal(kind, "vm-update") ? fake_update(a, op)
                     : g_str_has_prefix(kind, "vm-")  ? fake_power(a, op)
                                                      : fake_forget(a, op);
    }
    g_clear_pointer(&op->attention, g_free);
    fake_say(a, json_pack("{s:s, s:s}", "event", "vm", "vm_id", FAKE_VM));
    fake_say(a,
             json_pack("{s:s, s:o}", "event", "operation", "operation", fake_operation_json(op)));
}

/* Ends what was held; returns how many. */
static unsigned G_GNUC_UNUSED
fake_finish_held(FakeAgent *a)
{
    WITH_LOCK(&a->lock);
    unsigned n = 0;

    a->hold = NULL;
    for (guint i = 0; i < a->operations->len; i++) {
        FakeOperation *op = a->operations->pdata[i];
        if (!g_str_equal(op->state, "running"))
            continue;
        fake_execute(a, op);
        n++;
    }
    return n;
}

static void
fake_say_operation(FakeAgent *a, const FakeOperation *op)
{
    fake_say(a,
             json_pack("{s:s, s:o}", "event", "operation", "operation", fake_operation_json(op)));
}

/* All that runs pauses itself with this reason, or (NULL) goes on. Lock held. */
static void G_GNUC_UNUSED
fake_pause_locked(FakeAgent *a, const char *why)
{
    for (guint i = 0; i < a->operations->len; i++) {
        FakeOperation *op = a->operations->pdata[i];
        if (!g_str_equal(op->state, "running"))
            continue;
        g_free(op->attention);
        op->attention = g_strdup(why);
        fake_say_operation(a, op);
    }
}

static void G_GNUC_UNUSED
fake_pause(FakeAgent *a, const char *why)
{
    WITH_LOCK(&a->lock);

    fake_pause_locked(a, why);
}

/* Its journal was damaged: the next one knows nothing. */
static void G_GNUC_UNUSED
fake_lose_journal(FakeAgent *a)
{
    WITH_LOCK(&a->lock);

    g_ptr_array_set_size(a->operations, 0);
    a->agent_id = "88888888-8888-4888-8888-888888888888";
}
