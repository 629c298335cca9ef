/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Delete snapshots: merge the runs that the planner found, then let the agent forget them.
 *
 * params: snapshots, names, disk, strategy, bandwidth, host, vm_name, user. data: runs (the plan:
 * each is the params of a child of kind merge-run), chosen: [snapshot ids] to forget, and the call
 * "forget".
 */
#include "flow/agent_call.h"

static json_t *
run_volumes(const Vm *vm, const Run *run)
{
    const Disk *disk = vm_disk(vm, run->disk_id);
    json_t *volumes = json_array();

    for (unsigned i = run->base_index; i <= run->top_index && i < disk->volumes->len; i++) {
        const Volume *volume = disk->volumes->pdata[i];
        json_array_append_new(volumes,
                              json_pack("{s:s, s:s}", "id", volume->id, "path", volume->path));
    }
    return volumes;
}

/* The list entry[key], made if it is not there. */
static json_t *
list_of(json_t *entry, const char *key)
{
    if (json_object_get(entry, key) == NULL)
        json_object_set_new(entry, key, json_array());
    return json_object_get(entry, key);
}

static json_t *
plan_to_json(const Flow *flow, const Vm *vm, const GPtrArray *runs)
{
    json_t *plan = json_array();

    for (guint i = 0; i < runs->len; i++) {
        const Run *run = runs->pdata[i];
        json_t *entry = json_pack(
            "{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:o}", "number", (int)i, "disk_id",
            run->disk_id, "target", run->target, "base", run->base, "top", run->top, "strategy",
            strategy_word(run->strategy), "bytes", (json_int_t)run->bytes, "bandwidth",
            (json_int_t)json_number(flow->row->params, "bandwidth"), "host", vm->host, "volumes",
            run_volumes(vm, run));
        for (char **id = run->removed; id != NULL && *id != NULL; id++)
            json_array_append_new(list_of(entry, "remove"), json_string(*id));
        json_array_append_new(plan, entry);
    }
    return plan;
}

static StepState
unknown_if_retry(const GError *why)
{
    return error_may_retry(why) ? STEP_UNKNOWN : STEP_FAILED;
}

static StepState
plan(Flow *flow, GError **error)
{
    const json_t *params = flow->row->params;
    g_autoptr(GError) why = NULL;
    g_autoptr(Vm) vm = flow_look_at_users(flow, &why);
    g_autoptr(GPtrArray) ids = g_ptr_array_new(), runs = NULL;
    Strategy strategy = STRATEGY_AUTO;
    VerbContext context = { 0 };
    size_t i;
    json_t *id;

    if (vm == NULL) {
        bool gone = g_error_matches(why, ERR, ERR_NOT_FOUND);
        g_propagate_error(error, g_steal_pointer(&why));
        return gone ? STEP_FAILED : STEP_UNKNOWN; /* not knowing is not failing */
    }
    json_array_foreach (json_object_get(params, "snapshots"), i, id)
        g_ptr_array_add(ids, (void *)json_string_value(id));
    g_ptr_array_add(ids, NULL);
    if (!verb_allowed(VERB_SNAPSHOT_DELETE, vm, &context, &why) ||
        !strategy_from_word(json_text(params, "strategy"), &strategy, &why) ||
        (runs = plan_runs(vm, (const char *const *)ids->pdata, json_text(params, "disk"), strategy,
                          &why)) == NULL) {
        StepState state = unknown_if_retry(why);
        g_propagate_error(error, g_steal_pointer(&why));
        return state;
    }
    json_object_set_new(flow->row->data, "runs", plan_to_json(flow, vm, runs));
    return STEP_DONE;
}

static StepState
plan_check(void *self, GError **error)
{
    Flow *flow = self;

    return json_object_get(flow->row->data, "runs") != NULL ? STEP_DONE : plan(flow, error);
}

/* ---- merge: the children ---- */

static const FlowRow *
child_of_run(const GPtrArray *children, int64_t number)
{
    for (guint i = 0; i < children->len; i++) {
        const FlowRow *child = children->pdata[i];
        if (json_number(child->params, "number") == number)
            return child;
    }
    return NULL;
}

static bool
is_running(const FlowRow *child)
{
    return child != NULL && *child->step != '\0';
}

static bool
is_merged(const FlowRow *child)
{
    return child != NULL && *child->step == '\0' && child->error_word == NULL;
}

/* Runs of one disk go one after another, lowest first; disks go side by side. A disk that
 * failed stops there and does not stop the others. */
static bool
may_start(const json_t *runs, const GPtrArray *children, size_t number)
{
    const char *disk = json_text(json_array_get(runs, number), "disk_id");

    if (child_of_run(children, (int64_t)number) != NULL)
        return false;
    for (size_t i = 0; i < number; i++)
        if (g_strcmp0(json_text(json_array_get(runs, i), "disk_id"), disk) == 0 &&
            !is_merged(child_of_run(children, (int64_t)i)))
            return false;
    return true;
}

typedef struct {
    unsigned startable, running, merged;
} Count;

static Count
count_runs(const json_t *runs, const GPtrArray *children)
{
    Count count = { 0 };

    for (size_t i = 0; i < json_array_size(runs); i++) {
        const FlowRow *child = child_of_run(children, (int64_t)i);
        count.startable += may_start(runs, children, i);
        count.running += is_running(child);
        count.merged += is_merged(child);
    }
    return count;
}

static void
add_target(GString *targets, const char *target)
{
    if (targets->len > 0 && g_str_has_suffix(targets->str, target))
        return; /* runs of one disk follow each other */
    g_string_append_printf(targets, "%s%s", targets->len > 0 ? ", " : "", target);
}

static void
say_what_failed(const Flow *flow, const json_t *runs, const GPtrArray *children, GError **error)
{
    g_autoptr(GString) left = g_string_new(NULL), reasons = g_string_new(NULL);
    ErrorCode code = ERR_CANCELLED;
    size_t i;
    json_t *run;

    json_array_foreach (runs, i, run) {
        const FlowRow *child = child_of_run(children, (int64_t)i);
        if (is_merged(child))
            continue;
        add_target(left, json_text(run, "target"));
        if (child == NULL)
            continue;
        g_string_append_printf(reasons, "%sdisk %s: %s", reasons->len > 0 ? "; " : "",
                               json_text(run, "target"), child->error_text);
        if (code == ERR_CANCELLED) /* a real reason outdoes a cancel */
            code = error_code_from_word(child->error_word);
    }
    if (reasons->len == 0)
        g_string_append(reasons, "cancelled by the user");
    error_set(error, code,
              "%s. What was merged stays merged; the snapshot stays listed with %s: delete it "
              "again to retry",
              reasons->str, left->str);
    (void)flow;
}

static void
cancel_children(Flow *flow, const GPtrArray *children)
{
    for (guint i = 0; i < children->len; i++) {
        const FlowRow *child = children->pdata[i];
        if (is_running(child) && !child->cancel)
            flow_cancel(flow->manager, child->id, NULL); /* it may end meanwhile: as good */
    }
}

static StepState
merge_check(void *self, GError **error)
{
    Flow *flow = self;
    const json_t *runs = json_object_get(flow->row->data, "runs");
    g_autoptr(GPtrArray) children = flow_children(flow->manager, flow->row->id, error);
    Count count;

    if (children == NULL)
        return STEP_UNKNOWN;
    count = count_runs(runs, children);
    if (flow->machine.cancel)
        cancel_children(flow, children);
    else if (count.startable > 0)
        return STEP_TODO;
    if (count.running > 0)
        return STEP_RUNNING;
    if (count.merged == json_array_size(runs))
        return STEP_DONE;
    say_what_failed(flow, runs, children, error);
    return STEP_FAILED;
}

static bool
merge_act(void *self, GError **error)
{
    Flow *flow = self;
    json_t *runs = json_object_get(flow->row->data, "runs"), *run;
    g_autoptr(GPtrArray) children = flow_children(flow->manager, flow->row->id, error);
    size_t i;

    if (children == NULL)
        return false;
    json_array_foreach (runs, i, run) {
        FlowRow *row;

        if (!may_start(runs, children, i))
            continue;
        row = flow_row_new("merge-run", flow->row->vm_id, flow->row->id, json_deep_copy(run));
        row->correlation_id = g_strdup(flow->row->correlation_id);
        row->description = g_strdup_printf("Merging disk %s", json_text(run, "target"));
        if (!flow_begin(flow->manager, row, error))
            return false;
    }
    return true;
}

/* ---- forget: the entries and the memory volumes ---- */

#define FORGET "forget"

/* Which snapshots have nothing left to keep. */
static bool
choose_forgotten(Flow *flow, GError **error)
{
    g_autoptr(Vm) vm = flow_last_seen_vm(flow, error);
    json_t *chosen, *id;
    size_t i;

    if (vm == NULL)
        return false;
    chosen = json_array();
    json_array_foreach (json_object_get(flow->row->params, "snapshots"), i, id) {
        const Snapshot *snapshot = vm_snapshot(vm, json_string_value(id));
        bool other_disks =
            flow_param(flow, "disk") != NULL && snapshot != NULL && snapshot->disks->len > 0;
        if (snapshot != NULL && !other_disks)
            json_array_append(chosen, id);
    }
    json_object_set_new(flow->row->data, "chosen", chosen);
    return true;
}

/* The agent lost its journal: forgetting twice does no harm. */
static StepState
forget_again(Flow *flow, GError **error)
{
    json_object_del(flow->row->data, FORGET);
    return call_begin_check(flow, FORGET, error);
}

static StepState
forget_check(void *self, GError **error)
{
    Flow *flow = self;
    StepState state;

    flow->machine.cancel = false; /* all is merged: only the entries remain */
    if (json_object_get(flow->row->data, "chosen") == NULL && !choose_forgotten(flow, error))
        return STEP_UNKNOWN;
    if (json_array_size(json_object_get(flow->row->data, "chosen")) == 0 ||
        call_result(flow->row->data, FORGET) != NULL)
        return STEP_DONE;
    state = call_begin_check(flow, FORGET, error);
    if (state != STEP_DONE)
        return state;
    return call_wait_or(flow, FORGET, forget_again, error);
}

static bool
forget_act(void *self, GError **error)
{
    Flow *flow = self;

    return call_begin_act(flow, FORGET,
                          json_pack("{s:s, s:O}", "kind", "snapshot-forget", "snapshots",
                                    json_object_get(flow->row->data, "chosen")),
                          error);
}

/* Delete snapshots of a VM. The plan is saved before anything begins; each run of each disk is
 * merged by a child (merge_run.c); memory volumes go last, with the entries.
 *
 *   plan ─► merge ─► forget ─► end
 *     │       │        │        ▲
 *     └───────┴────────┴────────┘
 */
/* clang-format off */
const Step remove_snapshots_steps[] = {
    /* step      check          act         tries cancel if it failed next */
    { "plan",    plan_check,    NULL,       0,    true,  "end",       NULL     },
    { "merge",   merge_check,   merge_act,  0,    false, "end",       NULL     },
    { "forget",  forget_check,  forget_act, 0,    false, "end",       NULL     },
    { "end",     job_end_check, NULL,       0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */
