/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/verify.h"

#include "agent/merge.h"
#include "agent/space.h"
#include "agent/verify_work.h"
#include "base/fault.h"
#include "base/log.h"
#include "model/plan.h"

#define PATIENCE_US (100 * 1000) /* a check of maps alone mostly ends in that time */
#define POLL_MS 50

/* ---- what is to be compared ---- */

static Verify
wanted(const Operation *op)
{
    Verify verify = VERIFY_EXTENTS;

    verify_from_word(op_text(op, "verify"), &verify, NULL); /* asked for in merge_params() */
    return verify;
}

static json_t *
groups_of(const Operation *op)
{
    return json_object_get(op->row.data, "groups");
}

static bool
is_below(GPtrArray *layers, guint n, const json_t *paths)
{
    for (guint i = 0; i < n; i++)
        if (i >= layers->len || g_strcmp0(((Qcow2Layer *)layers->pdata[i])->path,
                                          json_string_value(json_array_get(paths, i))) != 0)
            return false;
    return true;
}

/* Each new volume against what it was built of, and (full) all together against the old chain. */
static VerifyWork *
plan_built(Operation *op, GError **error)
{
    const json_t *before = json_object_get(op->row.data, "before"),
                 *after = json_object_get(op->row.data, "after");
    const char *leaf = json_string_value(json_array_get(before, json_array_size(before) - 1));
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(leaf, "qcow2", NULL, error);
    g_autoptr(VerifyWork) work = verify_work_new(false);
    json_t *group, *volume;
    size_t i, k;

    if (layers == NULL)
        return NULL;
    guint first = (guint)(json_array_size(after) - json_array_size(groups_of(op))), old = first;
    uint64_t size = ((Qcow2Layer *)layers->pdata[layers->len - 1])->virtual_size;
    if (!is_below(layers, first, before)) {
        error_set(error, ERR_REFUSED,
                  "disk %s: what stands below the merged volumes is not what did when the merge "
                  "began: the chain of %s has changed",
                  op_data(op, "target"), leaf);
        return NULL;
    }
    Comparison *links = verify_work_add(work, COMPARE_LINKS, size);
    verify_work_layers(work, links->a, layers, 0, first);
    json_array_foreach (groups_of(op), i, group) {
        bool last = i + 1 == json_array_size(groups_of(op));
        verify_work_source(work, links->a, json_text(group, "dest"), "qcow2");
        old += (guint)json_array_size(json_object_get(group, "volumes"));
        if (json_array_size(json_object_get(group, "volumes")) == 0)
            continue; /* the leaf alone: the block copy brings all it holds */
        Comparison *map = verify_work_add(work, COMPARE_MAP, last ? size : 0);
        map->maps_only = !merge_is(op, "graft");
        verify_work_source(work, map->b, json_text(group, "dest"), "qcow2");
        json_array_foreach (json_object_get(group, "volumes"), k, volume)
            verify_work_source(work, map->a, json_text(volume, "path"),
                               json_text(volume, "format"));
    }
    if (wanted(op) == VERIFY_FULL && old > 0 && old <= layers->len) {
        Comparison *all = verify_work_add(work, COMPARE_CONTENT, size);
        verify_work_layers(work, all->a, layers, 0, old);
        g_array_append_vals(all->b, links->a->data, links->a->len);
    }
    return g_steal_pointer(&work);
}

/* The headers of the volumes that were merged are as they were: from the old top down through the
 * base. */
static VerifyWork *
plan_commit(Operation *op, GError **error)
{
    const char *base = merge_run_base(op), *top = merge_run_top(op);
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(top, "qcow2", NULL, error);
    g_autoptr(VerifyWork) work = verify_work_new(merge_flag(op, "instance"));
    guint at = 0;

    if (layers == NULL)
        return NULL;
    while (at < layers->len && !g_str_equal(((Qcow2Layer *)layers->pdata[at])->path, base))
        at++;
    if (at + 1 >= layers->len) {
        error_set(error, ERR_CORRUPT, "%s does not stand on %s any more", top, base);
        return NULL;
    }
    uint64_t size = ((Qcow2Layer *)layers->pdata[layers->len - 1])->virtual_size;
    Comparison *maps = verify_work_add(work, COMPARE_COMMIT, size);
    verify_work_layers(work, maps->a, layers, at + 1, layers->len);
    verify_work_layers(work, maps->b, layers, at, at + 1);
    if (wanted(op) == VERIFY_FULL) {
        Comparison *all = verify_work_add(work, COMPARE_CONTENT, size);
        verify_work_layers(work, all->a, layers, 0, layers->len);
        verify_work_layers(work, all->b, layers, 0, at + 1);
    }
    return g_steal_pointer(&work);
}

bool
verify_can_read(const Disk *disk, unsigned top, GError **error)
{
    const unsigned unreadable =
        QCOW2_EXTERNAL_DATA | QCOW2_EXTENDED_L2 | QCOW2_UNKNOWN_INCOMPATIBLE | QCOW2_ENCRYPTED;

    for (unsigned i = 0; i <= top; i++) {
        const Volume *volume = disk->volumes->pdata[i];
        g_autoptr(Qcow2Header) header = NULL;
        if (g_strcmp0(volume->format, "qcow2") != 0)
            continue;
        header = qcow2_header_read(volume->path, error);
        if (header == NULL)
            return false;
        if ((header->features & unreadable) != 0)
            return error_set(error, ERR_REFUSED,
                             "volume %s cannot be compared (it is encrypted, keeps its data in "
                             "another file, or has extended L2 entries or features that are "
                             "unknown here); nothing was changed, ask for the check 'extents'",
                             volume->path);
    }
    return true;
}

bool
verify_is_possible(Operation *op, const Disk *disk, unsigned top, const char *strategy,
                   GError **error)
{
    if (wanted(op) != VERIFY_FULL)
        return true;
    if (g_str_equal(strategy, "commit-active"))
        return error_set(error, ERR_REFUSED,
                         "disk %s: what a running VM writes into its leaf cannot be compared with "
                         "the base that it is merged into; nothing was changed, ask for the check "
                         "'extents', or delete while the VM is off",
                         disk->target);
    if (verify_can_read(disk, top, error))
        return true;
    g_prefix_error(error, "disk %s: ", disk->target);
    return false;
}

/* ---- the outcome ---- */

bool
verify_found_mismatch(const Operation *op)
{
    return op_data(op, "mismatch") != NULL;
}

static void
tell_result(Operation *op, const char *word, const Qcow2Compared *compared)
{
    op_result(op, "verified", json_string(word));
    op_result(op, "bytes_compared", json_integer((json_int_t)compared->bytes_compared));
    op_result(op, "bytes_same_blocks", json_integer((json_int_t)compared->bytes_same_blocks));
    op_remember(op, "checked", json_string(word));
    op_remember(op, "unreadable", NULL);
}

static char *
vm_name(Operation *op)
{
    g_autoptr(Vm) vm = agent_vm_published(op->agent, op->row.vm_id);

    return g_strdup(vm != NULL && vm->name != NULL ? vm->name : op->row.vm_id);
}

static StepState
conclude(Operation *op, GError *take_problem, const Qcow2Compared *compared, GError **error)
{
    g_autoptr(GError) problem = take_problem;

    if (problem == NULL) {
        tell_result(op, verify_word(wanted(op)), compared);
        return STEP_DONE;
    }
    if (g_error_matches(problem, ERR, ERR_CORRUPT)) {
        if (merge_is_cold(op) && merge_has_leaf(op) && merge_leaf_changed(op))
            return STEP_DONE; /* the VM was started and wrote: the next step sees that too */
        op_remember(op, "mismatch", json_string(problem->message));
        op_result(op, "mismatch", json_true());
        op_result(op, "verified", json_string(verify_word(wanted(op))));
        return STEP_TODO;
    }
    if (g_error_matches(problem, ERR, ERR_UNSUPPORTED)) {
        /* "full" was refused before it began; maps that cannot be read are no difference */
        static const Qcow2Compared nothing;
        log_vm_info(op->row.vm_id, op->row.id, "not checked: %s", problem->message);
        tell_result(op, "none", &nothing);
        return STEP_DONE;
    }
    bool news = !merge_flag(op, "unreadable");
    op_remember(op, "unreadable", json_string(problem->message));
    if (news)
        operation_save(op, NULL); /* for a cancel that comes after a crash */
    g_propagate_error(error, g_steal_pointer(&problem));
    return STEP_UNKNOWN;
}

/* Begins to compare, or looks how it goes. TODO: there is a difference. */
static StepState
look(Operation *op, VerifyWork *(*plan)(Operation *, GError **), GError **error)
{
    MergeScratch *scratch = merge_scratch(op);
    int64_t until = g_get_monotonic_time();
    uint64_t done, total;
    Qcow2Compared compared = { 0 };
    GError *problem = NULL;

    if (scratch->verify == NULL) {
        if (!fault_point("agent.verify.before", error))
            return STEP_UNKNOWN;
        scratch->verify = plan(op, &problem);
        if (scratch->verify == NULL)
            return conclude(op, problem, &compared, error);
        verify_work_start(scratch->verify);
        until += PATIENCE_US;
    }
    g_assert(scratch->verify != NULL);
    if (!verify_work_wait(scratch->verify, until, &done, &total)) {
        operation_progress(op, "verifying", done, total);
        op->poll_ms = POLL_MS;
        return STEP_RUNNING;
    }
    problem = verify_work_result(scratch->verify, &compared);
    verify_stop(op);
    return conclude(op, problem, &compared, error);
}

void
verify_stop(Operation *op)
{
    g_clear_pointer(&merge_scratch(op)->verify, verify_work_free);
}

void
verify_give_up(Operation *op)
{
    space_watch_end(op);
    if (merge_flag(op, "unreadable")) /* as good as a difference: the old volumes stay */
        op_remember(op, "mismatch", json_string(op_data(op, "unreadable")));
    if (merge_scratch(op)->verify != NULL)
        op_result(op, "verified", json_string("none"));
    verify_stop(op);
}

void
verify_forget(Operation *op)
{
    verify_stop(op);
    op_remember(op, "checked", NULL);
    op_remember(op, "mismatch", NULL);
    WITH_LOCK(&op->agent->lock);
    json_object_del(json_object_get(op->row.data, "result"), "mismatch");
}

/* ---- verify-built ---- */

StepState
verify_built_check(void *self, GError **error)
{
    Operation *op = self;

    if (!merge_is_forward(op) || groups_of(op) == NULL || op_data(op, "checked") != NULL)
        return STEP_DONE;
    if (verify_found_mismatch(op)) {
        if (op_data(op, "set_aside") == NULL)
            return STEP_TODO;
        g_autofree char *name = vm_name(op);
        error_set(error, ERR_CORRUPT,
                  "VM '%s', disk %s: the new volumes are not the same as the old ones: %s. The VM "
                  "is on its old chain, of which nothing was changed or deleted; %s. Look at the "
                  "storage and its memory before you delete the snapshot again",
                  name, op_data(op, "target"), op_data(op, "mismatch"), op_data(op, "set_aside"));
        return STEP_FAILED;
    }
    if (wanted(op) == VERIFY_NONE) {
        static const Qcow2Compared nothing;
        tell_result(op, "none", &nothing);
        return STEP_DONE;
    }
    return look(op, plan_built, error);
}

/* The upper ones first: each names the one below. */
static bool
set_aside(Operation *op, Domain **ret_domain, GError **error)
{
    for (size_t i = json_array_size(groups_of(op)); i > 0; i--) {
        const char *dest = json_text(json_array_get(groups_of(op), i - 1), "dest");
        *ret_domain = agent_domain(op->agent, dest, false, error);
        if (*ret_domain == NULL || !volume_delete(*ret_domain, op->row.id, dest, TRASH_KEEP, error))
            return false;
    }
    return true;
}

bool
verify_built_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(GError) problem = NULL;
    g_autofree char *text = NULL;
    Domain *domain = NULL;

    if (!fault_point("agent.verify.differs", error))
        return false;
    if (set_aside(op, &domain, &problem) && domain != NULL)
        text = g_strdup_printf("the new volumes are kept for inspection as "
                               "%s/.livemerge/trash/keep.%s.*",
                               domain->path, op->row.id);
    else if (problem != NULL && error_may_retry(problem) && op->machine.tried < 3)
        return error_set(error, (ErrorCode)problem->code, "%s", problem->message);
    else /* they go with the undo */
        text = g_strdup_printf("the new volumes could not be kept: %s",
                               problem != NULL ? problem->message : "there are none");
    op_remember(op, "set_aside", json_string(text));
    return operation_save(op, error) && fault_point("agent.verify.set-aside", error);
}

/* ---- verify ---- */

static void
commit_differs(Operation *op, GError **error)
{
    const json_t *run = json_object_get(op->row.data, "run");
    bool switched = !merge_has_leaf(op);
    g_autofree char *name = vm_name(op);
    g_autoptr(GString) kept = g_string_new(NULL);

    for (size_t i = 1; i < json_array_size(run); i++)
        g_string_append_printf(kept, "%s%s", i > 1 ? ", " : "",
                               json_string_value(json_array_get(run, i)));
    error_set(error, ERR_CORRUPT,
              "VM '%s', disk %s: the merged volume %s is not the same as what was merged into it: "
              "%s. %s Nothing was deleted: the old volumes stay as they are: %s",
              name, op_data(op, "target"), json_string_value(json_array_get(run, 0)),
              op_data(op, "mismatch"),
              switched ? "QEMU has switched to the merged volume already; power the VM off and "
                         "compare before it writes much more."
                       : "The VM is on its old chain.",
              kept->str);
}

/* Only now are the last data of the leaf in the base. */
static bool
must_complete(const Operation *op)
{
    return merge_is_cold(op) && merge_has_leaf(op) && !merge_flag(op, "completed") &&
           !merge_flag(op, "pivoted");
}

static StepState
if_same_life(Operation *op, StepState otherwise, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);

    if (hv == NULL)
        return STEP_UNKNOWN;
    StepState life = merge_follow(op, hv, error);
    return life == STEP_DONE ? otherwise : life;
}

/* What was merged below the leaf differs. Perhaps its QEMU died before it had flushed, which nobody
 * knew yet (merge_whole.c): then it is merged once more. */
static StepState
if_still_merged(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);
    ChainState state;

    if (hv != NULL && merge_chain_state(op, hv, &state, error)) {
        if (state == CHAIN_AFTER)
            return STEP_TODO;
        verify_forget(op);
        return STEP_DONE;
    }
    verify_forget(op);
    return STEP_UNKNOWN;
}

StepState
verify_check(void *self, GError **error)
{
    Operation *op = self;
    static const Qcow2Compared nothing;

    space_watch_end(op);

    if (merge_is_forward(op) || op_data(op, "checked") != NULL)
        return STEP_DONE;
    if (!verify_found_mismatch(op)) {
        if (wanted(op) == VERIFY_NONE || merge_is(op, "commit-active")) {
            tell_result(op, wanted(op) == VERIFY_NONE ? "none" : "job", &nothing);
            return STEP_DONE;
        }
        if (must_complete(op))
            return if_same_life(op, STEP_TODO, error);
        StepState state = look(op, plan_commit, error);
        if (state == STEP_TODO && !merge_has_leaf(op))
            state = if_still_merged(op, error);
        if (state != STEP_TODO)
            return state;
    }
    commit_differs(op, error);
    return STEP_FAILED;
}

bool
verify_act(void *self, GError **error)
{
    return cold_finish_job(self, error);
}
