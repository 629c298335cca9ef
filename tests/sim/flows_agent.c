/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is asked of the agent itself, as the manager would.
 */
#include "flows.h"

#include "base/text.h"

#include <string.h>

#define BUDGET_US (30 * G_TIME_SPAN_SECOND)

/* ---- one operation of the agent ---- */

static bool
is_final(const GError *error)
{
    return !g_error_matches(error, ERR, ERR_UNREACHABLE) &&
           !g_error_matches(error, ERR, ERR_TIMEOUT) && !g_error_matches(error, ERR, ERR_BUSY);
}

/* Asks until there is an answer; NULL = a refusal. */
static json_t *
ask(const char *method, const char *path, const json_t *body, bool patient)
{
    unsigned refused = 0;

    for (unsigned n = 0;; n++) {
        g_autoptr(GError) error = NULL;
        json_t *json = NULL;
        if (wire_ask(method, path, "", body, BUDGET_US, &json, &error))
            return json != NULL ? json : json_object();
        if (is_final(error) && !(patient && n < 100)) {
            world_trace("%s %s: %s", method, path, error->message);
            return NULL;
        }
        flow_rest(100000, &refused);
    }
}

json_t *
ask_vm_json(void)
{
    g_autofree char *path = g_strdup_printf("/v1/vms/%s", vm.id);

    return ask("GET", path, NULL, true);
}

char *
ask_begin(const char *kind, json_t *take_params)
{
    g_autoptr(json_t) body = take_params, answer = NULL;
    char *id = id_new();

    json_object_set_new(body, "id", json_string(id));
    json_object_set_new(body, "kind", json_string(kind));
    json_object_set_new(body, "vm_id", json_string(vm.id));
    answer = ask("POST", "/v1/operations", body, false);
    if (answer != NULL) {
        world_trace("operation %s begins: %s", kind, id);
        return id;
    }
    g_free(id);
    return NULL;
}

/* Its last state; it is acknowledged then. NULL: the agent says that there is none. */
json_t *
ask_follow(const char *id)
{
    g_autofree char *path = g_strdup_printf("/v1/operations/%s", id);
    g_autofree char *ack = g_strdup_printf("/v1/operations/%s/ack", id);
    g_autoptr(json_t) first = NULL;

    for (unsigned n = 0;; n++) {
        /* what takes so long after a fault waits for something */
        fiber_sleep_us((50000 + (int64_t)fiber_below(100000)) * (n > 20 && world_is_hit() ? 8 : 1));
        g_autoptr(json_t) now = ask("GET", path, NULL, false);
        if (now == NULL) {
            world_wrong("operation %s is unknown, though it was begun", id);
            return NULL;
        }
        if (strcmp(json_text(now, "state"), "running") == 0) {
            if (first != NULL)
                world_wrong("operation %s ended and runs again", id);
            continue;
        }
        if (first == NULL) {
            first = json_incref(now);
            if (fiber_chance(50))
                continue; /* look once more: an outcome never changes */
        }
        if (strcmp(json_text(first, "state"), json_text(now, "state")) != 0)
            world_wrong("operation %s was %s and is %s", id, json_text(first, "state"),
                        json_text(now, "state"));
        world_trace("operation %s is %s", id, json_text(now, "state"));
        json_t *acked = ask("POST", ack, NULL, false);
        if (acked == NULL)
            world_wrong("operation %s cannot be acknowledged", id);
        json_decref(acked);
        return g_steal_pointer(&now);
    }
}

/* ---- merging at the agent ---- */

static const char *
volume_of(const json_t *disk, size_t index)
{
    return json_text(json_array_get(json_object_get(disk, "volumes"), index), "id");
}

static char *
begin_merge(const json_t *disk, size_t base, size_t top, const char *strategy)
{
    g_autoptr(json_t) remove = json_array();

    for (size_t i = base; i < top; i++)
        json_array_append_new(remove, json_string(volume_of(disk, i)));
    return ask_begin("merge", json_pack("{s:s, s:s, s:s, s:s, s:i, s:O, s:s}", "disk_id",
                                        json_text(disk, "id"), "base", volume_of(disk, base), "top",
                                        volume_of(disk, top), "strategy", strategy, "bandwidth", 0,
                                        "remove", remove, "verify", "extents"));
}

static void
delete_left(const json_t *disk, const json_t *merged)
{
    json_t *result = json_object_get(merged, "result"),
           *left = json_object_get(result, "volumes_left");

    if (json_array_size(left) == 0)
        return;
    for (;;) {
        json_t *params = json_pack("{s:s, s:O}", "disk_id", json_text(disk, "id"), "volumes", left);
        json_put_text(params, "instance", json_text(result, "instance"));
        g_autofree char *id = ask_begin("delete-volumes", params);
        if (id == NULL)
            return;
        g_autoptr(json_t) end = ask_follow(id);
        if (end == NULL || strcmp(json_text(end, "state"), "done") == 0)
            return;
        world_trace("delete-volumes: %s", json_text(json_object_get(end, "error"), "message"));
        if (world_is_calm())
            world_wrong("the volumes left over cannot be deleted: %s",
                        json_text(json_object_get(end, "error"), "message"));
        if (world_is_wrong())
            return;
        fiber_sleep_us(G_TIME_SPAN_SECOND);
    }
}

/* The same run on each disk, side by side. */
void
ask_merge_all(size_t base, size_t top, const char *strategy)
{
    g_autoptr(json_t) json = ask_vm_json();
    json_t *disks = json_object_get(json, "disks");
    char *ids[MAX_DISKS] = { NULL };

    for (size_t i = 0; i < json_array_size(disks); i++)
        ids[i] = begin_merge(json_array_get(disks, i), base, top, strategy);
    for (size_t i = 0; i < json_array_size(disks); i++) {
        g_autofree char *id = ids[i];
        g_autoptr(json_t) end = id != NULL ? ask_follow(id) : NULL;
        if (end == NULL)
            continue;
        if (strcmp(json_text(end, "state"), "done") == 0)
            delete_left(json_array_get(disks, i), end);
        else
            world_trace("merge: %s", json_text(json_object_get(end, "error"), "message"));
    }
}

static void
merge_all(size_t base, size_t top, const char *strategy)
{
    ask_merge_all(base, top, strategy);
    world_done();
}

void
run_commit_active(void)
{
    merge_all(0, 1, "commit-active");
}

void
run_commit(void)
{
    merge_all(0, 1, "commit");
}

void
run_copy(void)
{
    merge_all(0, 1, "copy");
}

void
run_graft(void)
{
    merge_all(0, 2, "graft");
}

void
run_cold(void)
{
    merge_all(0, 1, "cold-commit");
}

/* Somebody asks for a volume to be deleted that the VM stands on. */
void
run_delete_named(void)
{
    g_autoptr(json_t) json = ask_vm_json();
    const json_t *disk = json_array_get(json_object_get(json, "disks"), 0),
                 *base = json_array_get(json_object_get(disk, "volumes"), 0);
    g_autofree char *id =
        ask_begin("delete-volumes", json_pack("{s:s, s:[s]}", "disk_id", json_text(disk, "id"),
                                              "volumes", json_text(base, "path")));
    g_autoptr(json_t) end = id != NULL ? ask_follow(id) : NULL;

    if (end != NULL && strcmp(json_text(end, "state"), "done") == 0)
        world_wrong("a volume that the VM stands on was deleted");
    world_done();
}

void
run_create(void)
{
    g_autofree char *snapshot = id_new();
    g_autofree char *id = ask_begin(
        "snapshot-create", json_pack("{s:s, s:s}", "snapshot_id", snapshot, "name", "new"));
    g_autoptr(json_t) end = id != NULL ? ask_follow(id) : NULL;

    if (end != NULL && strcmp(json_text(end, "state"), "done") != 0)
        world_trace("snapshot-create: %s", json_text(json_object_get(end, "error"), "message"));
    world_done();
}
