/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: the step "settle". The merge is done; the manifest, libvirt's definition and the result
 * say so, and which files are left over.
 */
#include "agent/merge.h"

#include "agent/verify.h"
#include "base/clock.h"
#include "base/fault.h"

#include <unistd.h>

StepState
merge_settle_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;

    if (vm == NULL)
        return STEP_UNKNOWN;
    if (op_is_recorded(op, vm) && !merge_has_leaf(op) && (hv = op_hv(op, error)) != NULL &&
        merge_is_before(op, hv)) {
        /* the end of the commit was lost with the host's power, or was put back */
        Life life = merge_life(op, hv, NULL);
        if (life == LIFE_OTHER)
            return merge_turn(op, hv);
        if (life == LIFE_SAME && !merge_is_forward(op)) {
            op_remember(op, "checked", NULL);
            return STEP_BACK;
        }
    }
    g_clear_pointer(&hv, hv_domain_free);
    if (op_is_recorded(op, vm) || !merge_is_synced(op))
        return STEP_TODO;
    if (merge_scratch(op)->settled)
        return STEP_DONE; /* the act has just looked at the rest */
    hv = op_hv(op, error);
    if (hv == NULL || !merge_chain_state(op, hv, &state, error))
        return STEP_UNKNOWN;
    if (state != CHAIN_AFTER || !op_definition_is_right(hv))
        return STEP_TODO;
    /* whoever put the manifest there may have died before it was durable */
    return manifest_save(home, vm, error) ? STEP_DONE : STEP_UNKNOWN;
}

bool
merge_is_synced(const Operation *op)
{
    return json_object_get(json_object_get(op->row.data, "result"), "volumes_left") != NULL;
}

/* A host that lost power after the pivot can come back with a definition that names the old leaf:
 * the VM is off then, and the manifest is the truth. */
bool
merge_is_done(Operation *op, const HvDomain *hv, GError **error)
{
    ChainState state;

    if (!merge_chain_state(op, hv, &state, error))
        return false;
    if (state == CHAIN_AFTER)
        return true;
    if (hv->instance != NULL || json_object_get(op->row.data, "pivoted") == NULL)
        return error_set(error, ERR_BUSY,
                         "VM '%s', disk %s: the merge has ended, but the VM shows the chain as it "
                         "was before%s",
                         hv->name, op_data(op, "target"),
                         hv->instance != NULL && merge_has_leaf(op)
                             ? "; if it was started on its old leaf, power it off: what it wrote "
                               "since is not in the merged one"
                             : "");
    const char *format = merge_is_forward(op) ? "qcow2" : op_data(op, "base_format");
    g_autoptr(HvDomain) now = NULL;
    return op_point_at(op, op_data(op, "target"), merge_new_leaf(op), format, error) &&
           (now = op_hv(op, error)) != NULL && merge_chain_state(op, now, &state, error) &&
           (state == CHAIN_AFTER ||
            error_set(error, ERR_BUSY, "VM '%s': its definition still names the old leaf",
                      now->name));
}

static json_t *
volumes_left(const Operation *op)
{
    json_t *run = json_object_get(op->row.data, "run"), *left = json_array();

    if (verify_found_mismatch(op))
        return left; /* nothing is to be deleted */
    for (size_t i = merge_is_forward(op) ? 0 : 1; i < json_array_size(run); i++)
        json_array_append(left, json_array_get(run, i));
    return left;
}

/* Others stand on it, or it cannot be written. */
static bool
must_stay(Operation *op, const char *path, const char *const *own, bool *ret_stay, GError **error)
{
    Domain *domain = agent_domain(op->agent, path, false, error);
    g_autofree char *user = NULL;
    g_autofree char *vm = NULL;

    if (domain == NULL || !volume_find_user(domain, path, own, &user, error))
        return false;
    vm = agent_user_of(op->agent, op->row.vm_id, path, true);
    *ret_stay = user != NULL || vm != NULL || access(path, W_OK) != 0;
    return true;
}

/* A graft or a copy leaves what others stand on where it is, with all below: that stands on it. */
static bool
keep_what_is_used(Operation *op, json_t *left, GError **error)
{
    g_autoptr(GPtrArray) own = g_ptr_array_new();
    size_t n = json_array_size(left);

    if (!merge_is_forward(op))
        return true;
    if (!outside_look_again(op->agent, error))
        return false;
    for (size_t i = 0; i < n; i++)
        g_ptr_array_add(own, (char *)json_string_value(json_array_get(left, i)));
    g_ptr_array_add(own, NULL);
    for (size_t i = n; i > 0; i--) {
        bool stays = false;
        if (!must_stay(op, own->pdata[i - 1], (const char *const *)own->pdata, &stays, error))
            return false;
        if (!stays)
            continue;
        for (; i > 0; i--)
            json_array_remove(left, 0);
        return true;
    }
    return true;
}

static void
tell_result(Operation *op, const HvDomain *hv, const json_t *left)
{
    int64_t bytes = json_number(op->row.data, "bytes");

    op_result(op, "strategy", json_string(op_data(op, "strategy")));
    op_result(op, "bytes_copied", json_integer(bytes));
    op_result(op, "bytes_shared", json_integer(json_number(op->row.data, "shared")));
    op_result(op, "bytes_written", json_integer(bytes + json_number(op->row.data, "written")));
    op_result(op, "seconds",
              json_real((double)(clock_wall_ms() - json_number(op->row.data, "began")) / 1000));
    op_result(op, "volumes_left", json_deep_copy(left));
    if (hv->instance != NULL)
        op_result(op, "instance", json_string(hv->instance));
}

bool
merge_settle_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    g_autoptr(json_t) left = volumes_left(op);

    if (hv == NULL || !merge_is_done(op, hv, error))
        return false;
    /* what the merged volume holds must be durable before anybody deletes another */
    if (!merge_sync_changed(op, error) || !keep_what_is_used(op, left, error) ||
        !op_mend_definition(op, hv, error) || (merge_is_cold(op) && !cold_stop(op, error)))
        return false;
    tell_result(op, hv, left);
    /* first the result: once the record is gone, nobody comes here again */
    if (!operation_save(op, error) || !merge_save_chain(op, true, error) ||
        !fault_point("agent.merge.settled", error))
        return false;
    operation_progress(op, "merged", (uint64_t)json_number(op->row.data, "bytes"),
                       (uint64_t)json_number(op->row.data, "bytes"));
    /* what is published follows at once: whoever asks next looks afresh, and the worker does at its
     * end */
    merge_scratch(op)->settled = true;
    return true;
}
