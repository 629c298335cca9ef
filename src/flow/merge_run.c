/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One run of one disk: its volumes become one, the others are deleted.
 *
 * params: a run of the agent's plan (disk_id, target, base, top, strategy, volumes: [{id, path}] as
 * they are before the merge, base first, remove, kept, what it would cost), bandwidth, verify,
 * host, vm_name, user, number. data: the calls "merge" and "delete", instance, volumes_left,
 * attention.
 */
#include "base/text.h"
#include "flow/agent_call.h"

#include <string.h>

#define MERGE "merge"
#define DELETE "delete"

static StepState
begin_check(void *self, GError **error)
{
    return call_begin_check(self, MERGE, error);
}

static bool
begin_act(void *self, GError **error)
{
    Flow *flow = self;
    const json_t *params = flow->row->params;
    json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "kind", "merge", "disk_id",
                             json_text(params, "disk_id"), "base", json_text(params, "base"), "top",
                             json_text(params, "top"), "strategy", json_text(params, "strategy"),
                             "bandwidth", (json_int_t)json_number(params, "bandwidth"));

    json_object_set(body, "remove", json_object_get(params, "remove")); /* graft and copy only */
    json_object_set(body, "verify", json_object_get(params, "verify"));
    return call_begin_act(flow, MERGE, body, error);
}

/* The agent's word is lost, the chain is not: the next step reads it. */
static StepState
resolve_will_tell(Flow *flow, GError **error)
{
    (void)flow;
    (void)error;
    return STEP_DONE;
}

static StepState
wait_check(void *self, GError **error)
{
    Flow *flow = self;
    g_autoptr(GError) why = NULL;
    StepState state = call_wait_or(flow, MERGE, resolve_will_tell, &why);

    if (!attention_tell(flow, MERGE, error) ||
        (state == STEP_FAILED && !mismatch_tell(flow, MERGE, why, error)))
        return STEP_UNKNOWN; /* a person must hear of it */
    if (why != NULL)
        g_propagate_error(error, g_steal_pointer(&why));
    return state;
}

/* Do new volumes take the place of all of the run? */
static bool
makes_new_volumes(const Flow *flow)
{
    const char *strategy = json_text(call_result(flow->row->data, MERGE), "strategy");

    if (strategy == NULL)
        strategy = flow_param(flow, "strategy");
    return g_str_equal(strategy, "copy") || g_str_equal(strategy, "graft");
}

/* The first volume of the run that should be gone from the chain and is not; NULL = merged. */
static const char *
still_there(const Flow *flow, const Disk *disk)
{
    size_t i;
    json_t *volume;

    json_array_foreach (json_object_get(flow->row->params, "volumes"), i, volume) {
        if (i == 0 && !makes_new_volumes(flow))
            continue; /* a backward merge keeps the base */
        if (disk_volume(disk, json_text(volume, "id")) != NULL)
            return json_text(volume, "path");
    }
    return NULL;
}

/* Do others stand on it, so that it stays? */
static bool
is_kept(const Flow *flow, const json_t *path)
{
    json_t *kept;
    size_t i;

    json_array_foreach (json_object_get(flow->row->params, "kept"), i, kept)
        if (json_equal(kept, path))
            return true;
    return false;
}

/* Files to delete: what the agent said, or if that was lost, those of the run that are gone from
 * the chain. The agent looks again before it deletes any. */
static json_t *
volumes_left(const Flow *flow)
{
    json_t *told = json_object_get(call_result(flow->row->data, MERGE), "volumes_left");
    json_t *paths = json_array(), *volume;
    size_t i;

    if (json_is_array(told)) {
        json_decref(paths);
        return json_deep_copy(told);
    }
    json_array_foreach (json_object_get(flow->row->params, "volumes"), i, volume) {
        json_t *path = json_object_get(volume, "path");
        if ((i > 0 || makes_new_volumes(flow)) && !is_kept(flow, path))
            json_array_append(paths, path);
    }
    return paths;
}

static StepState
resolve_check(void *self, GError **error)
{
    Flow *flow = self;
    bool lost = call_result(flow->row->data, MERGE) == NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(Vm) vm = flow_look_at_vm(flow, &why);
    const Disk *disk;
    const char *left;

    if (vm == NULL) {
        bool gone = g_error_matches(why, ERR, ERR_NOT_FOUND);
        g_propagate_error(error, g_steal_pointer(&why));
        return gone ? STEP_FAILED : STEP_UNKNOWN;
    }
    disk = vm_disk(vm, flow_param(flow, "disk_id"));
    if (vm->state == VM_UNKNOWN || disk == NULL || disk->volumes->len == 0) {
        error_set(error, ERR_UNREACHABLE, "the chain of disk %s of VM '%s' cannot be read now",
                  flow_param(flow, "target"), vm->name);
        return STEP_UNKNOWN;
    }
    left = still_there(flow, disk);
    if (left != NULL && lost && g_strcmp0(disk->busy, DISK_LOST_MERGE) == 0) {
        g_autofree char *reason = disk_busy_reason(vm, disk);
        error_set(error, ERR_GONE, "disk %s of VM '%s': %s", disk->target, vm->name, reason);
        return STEP_FAILED;
    }
    if (left != NULL && lost && disk->busy && !flow->machine.cancel) {
        g_autofree char *name = shell_word(vm->name);
        error_set(
            error, ERR_BUSY,
            "the agent of VM '%s' lost its journal while disk %s was being merged, and a block "
            "job is still at it: its end will tell. livemerge doctor %s says how to end it",
            vm->name, disk->target, name);
        return STEP_UNKNOWN;
    }
    if (left != NULL) {
        g_autofree char *word = lost ? call_why_lost(flow, MERGE, vm)
                                     : g_strdup("the agent says that the merge is done");
        error_set(error, lost ? ERR_GONE : ERR_CORRUPT,
                  "%s, but %s is still in the chain of disk %s of VM '%s': nothing was deleted; "
                  "delete the snapshot again to retry",
                  word, left, flow_param(flow, "target"), vm->name);
        return STEP_FAILED;
    }
    /* the chain was read from this QEMU; the agent compares before it deletes */
    json_object_set_new(flow->row->data, "instance",
                        vm->instance != NULL ? json_string(vm->instance) : json_null());
    json_object_set_new(flow->row->data, "volumes_left", volumes_left(flow));
    return STEP_DONE;
}

static bool
nothing_left(const Flow *flow)
{
    return json_array_size(json_object_get(flow->row->data, "volumes_left")) == 0;
}

static StepState
delete_check(void *self, GError **error)
{
    Flow *flow = self;

    if (nothing_left(flow))
        return STEP_DONE;
    flow->machine.cancel = false; /* too late for it: the merge is done */
    return call_begin_check(flow, DELETE, error);
}

static bool
delete_act(void *self, GError **error)
{
    Flow *flow = self;
    json_t *body = json_pack("{s:s, s:s, s:O}", "kind", "delete-volumes", "disk_id",
                             flow_param(flow, "disk_id"), "volumes",
                             json_object_get(flow->row->data, "volumes_left"));

    json_put_text(body, "instance", json_text(flow->row->data, "instance"));
    return call_begin_act(flow, DELETE, body, error);
}

/* The agent looks again at each file before it deletes it. */
static StepState
delete_again(Flow *flow, GError **error)
{
    (void)error;
    call_again(flow, DELETE);
    return STEP_BACK;
}

static StepState
deleted_check(void *self, GError **error)
{
    Flow *flow = self;

    if (nothing_left(flow))
        return STEP_DONE;
    flow->machine.cancel = false;
    return call_wait_or(flow, DELETE, delete_again, error);
}

/* Where a run ends. The agent is told when that is durable (flow.c). */
static StepState
acknowledge_check(void *self, GError **error)
{
    (void)self;
    (void)error;
    return STEP_DONE;
}

/* Merge one run. Once the merge is done there is no way back; if the files then cannot be
 * deleted the run has failed with them left over, and the chain is whole.
 *
 *   begin ─► wait ─► resolve ─► delete ─► deleted ─► acknowledge ─► (end)
 *     │        │        │          │         │
 *     └────────┴────────┴──────────┴─────────┴─────► give-up ─────► (end)
 */
/* clang-format off */
const Step merge_run_steps[] = {
    /* step           check              act         tries cancel if it failed next */
    { "begin",        begin_check,       begin_act,  0,    false, "give-up",   NULL     },
    { "wait",         wait_check,        NULL,       0,    false, "give-up",   NULL     },
    { "resolve",      resolve_check,     NULL,       0,    false, "give-up",   NULL     },
    { "delete",       delete_check,      delete_act, 0,    false, "give-up",   NULL     },
    { "deleted",      deleted_check,     NULL,       0,    false, "give-up",   NULL,    "delete" },
    { "acknowledge",  acknowledge_check, NULL,       0,    false, NULL,        STEP_END },
    { "give-up",      acknowledge_check, NULL,       0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */
