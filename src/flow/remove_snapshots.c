/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Delete snapshots: merge the runs that the agent's plan has, then let the agent forget them.
 *
 * params: snapshots, names, disk, strategy, verify, bandwidth, host, vm_name, user. data: plan (as
 * the agent told it), runs (each is the params of a child of kind merge-run), chosen: [snapshot
 * ids] to forget, and the call "forget".
 */
#include "flow/agent_call.h"

/* What came of a question, or of a plan: not knowing is not failing. */
static StepState
not_planned(GError *take_why, GError **error)
{
    StepState state = error_may_retry(take_why) ? STEP_UNKNOWN : STEP_FAILED;

    g_propagate_error(error, take_why);
    return state;
}

static StepState
plan(Flow *flow, GError **error)
{
    const json_t *params = flow->row->params;
    Host *host = flow_host(flow, error);
    g_autoptr(GError) why = NULL;
    g_autoptr(Vm) vm = NULL;
    g_autoptr(json_t) told = NULL;
    VerbContext context = { 0 };

    if (host == NULL)
        return STEP_UNKNOWN;
    if (!agent_plan_ask(host, flow->row->vm_id, params, PLAN_MS, &vm, &told, &why))
        return not_planned(g_steal_pointer(&why), error);
    json_object_set(flow->row->data, "plan", told);
    if (!verb_allowed(VERB_SNAPSHOT_DELETE, vm, &context, &why) || !agent_plan_judge(told, &why))
        return not_planned(g_steal_pointer(&why), error);
    json_object_set_new(flow->row->data, "runs", agent_plan_runs(told, params, host->name));
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
