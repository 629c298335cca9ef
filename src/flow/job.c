/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Jobs as users see them: one document made of a flow's row, its children's rows and what the
 * agents said last of their operations.
 */
#include "flow/agent_call.h"

typedef struct {
    Manager *manager;
    const FlowRow *row;
    GPtrArray *children; /* of FlowRow, may be empty */
    bool open;
    int64_t change;
    char *waiting_for;
} View;

static void
view_clear(View *view)
{
    g_free(view->waiting_for);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(View, view_clear)

/* What memory knows. Called before the rows are read: a flow that is gone from memory has its end
 * in the database. */
static View
view_of(Manager *m, const char *job_id)
{
    View view = { .manager = m };
    WITH_LOCK(&m->lock);
    const Flow *flow = g_hash_table_lookup(m->flows, job_id);
    GHashTableIter iter;
    const Flow *child;

    if (flow == NULL)
        return view;
    view.open = true;
    view.change = flow->change;
    view.waiting_for = g_strdup(flow->waiting_for);
    g_hash_table_iter_init(&iter, m->flows);
    while (view.waiting_for == NULL && g_hash_table_iter_next(&iter, NULL, (void **)&child))
        if (child->waiting_for != NULL && g_strcmp0(child->row->parent, job_id) == 0)
            view.waiting_for =
                g_strdup_printf("%s: %s", child->row->description, child->waiting_for);
    return view;
}

static const char *
row_status(const FlowRow *row, bool open)
{
    if (open || row->ended == 0)
        return "started";
    if (row->error_word == NULL)
        return "finished";
    return g_str_equal(row->error_word, "cancelled") ? "aborted" : "failed";
}

/* ---- progress ---- */

typedef struct {
    int64_t done, total;
    double rate;
    int64_t eta; /* s; -1 = unknown */
    char *phase;
    char *waiting_for; /* why the agent cannot go on just now */
} Progress;

static void
progress_clear(Progress *progress)
{
    g_free(progress->phase);
    g_free(progress->waiting_for);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Progress, progress_clear)

static double
json_real_or_int(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* What the agent said last of the call, as far as it goes. */
static void
read_progress(Manager *m, const FlowRow *row, const char *key, Progress *progress)
{
    const char *id = call_operation(row->data, key);
    g_autoptr(json_t) doc = id != NULL ? seen_doc(m, id) : NULL;
    const json_t *told = json_object_get(doc, "progress");

    progress->eta = -1;
    if (told == NULL)
        return;
    progress->done = json_number(told, "bytes_done");
    progress->total = json_number(told, "bytes_total");
    progress->rate = json_real_or_int(told, "rate");
    if (json_object_get(told, "eta") != NULL)
        progress->eta = (int64_t)json_real_or_int(told, "eta");
    progress->phase = g_strdup(json_text(told, "phase"));
    progress->waiting_for = g_strdup(json_text(doc, "waiting_for"));
}

static int
percent(const Progress *progress, bool finished)
{
    if (finished)
        return 100;
    if (progress->total <= 0)
        return 0;
    return (int)CLAMP(100.0 * (double)progress->done / (double)progress->total, 0, 99);
}

static json_t *
progress_to_json(const Progress *progress, bool finished)
{
    return json_pack("{s:i, s:I, s:I, s:I, s:I}", "percent", percent(progress, finished),
                     "bytes_done", (json_int_t)progress->done, "bytes_total",
                     (json_int_t)progress->total, "rate",
                     (json_int_t)(finished ? 0 : progress->rate), "eta",
                     (json_int_t)(finished ? 0 : progress->eta));
}

static void
progress_add(Progress *sum, const Progress *part)
{
    sum->done += part->done;
    sum->total += part->total;
    sum->rate += part->rate;
    sum->eta = MAX(sum->eta, part->eta); /* disks go side by side */
    if (sum->waiting_for == NULL)
        sum->waiting_for = g_strdup(part->waiting_for);
}

/* ---- disks of a removal ---- */

static const FlowRow *
run_child(const View *view, size_t number)
{
    for (guint i = 0; i < view->children->len; i++) {
        const FlowRow *child = view->children->pdata[i];
        if (json_number(child->params, "number") == (int64_t)number)
            return child;
    }
    return NULL;
}

static void
append_all(json_t *to, const json_t *from)
{
    if (json_is_array(from))
        json_array_extend(to, (json_t *)from);
}

/* Progress of one run: exact where it is done, told while it runs, planned before. */
static void
run_progress(const View *view, const json_t *run, const FlowRow *child, Progress *ret)
{
    const json_t *result = child != NULL ? call_result(child->data, "merge") : NULL;

    ret->eta = -1;
    if (child != NULL && result == NULL)
        read_progress(view->manager, child, "merge", ret);
    if (result != NULL)
        ret->done = ret->total = json_number(result, "bytes_copied");
    else if (ret->total == 0)
        ret->total = json_number(run, "bytes");
}

static const char *
run_status(const View *view, const FlowRow *child)
{
    if (child != NULL)
        return row_status(child, false);
    return view->open ? "waiting" : "aborted";
}

/* The disk's status: the worst of its runs' that says something. */
static const char *
worse(const char *a, const char *b)
{
    static const char *const order[] = { "failed", "aborted", "started", "waiting", "finished" };

    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
        if (g_strcmp0(a, order[i]) == 0 || g_strcmp0(b, order[i]) == 0)
            return order[i];
    return "waiting";
}

static void
disk_add_strategy(json_t *disk, const char *strategy)
{
    const char *old = json_text(disk, "strategy");
    g_autofree char *joined = NULL;

    if (strategy == NULL || (old != NULL && strstr(old, strategy) != NULL &&
                             (strlen(old) == strlen(strategy) || strstr(old, ", ") != NULL)))
        return;
    joined = old != NULL ? g_strdup_printf("%s, %s", old, strategy) : g_strdup(strategy);
    json_object_set_new(disk, "strategy", json_string(joined));
}

static void
disk_add_run(const View *view, json_t *disk, const json_t *run, Progress *sum)
{
    const FlowRow *child = run_child(view, (size_t)json_number(run, "number"));
    const json_t *result = child != NULL ? call_result(child->data, "merge") : NULL;
    const char *strategy = json_text(result, "strategy");
    g_auto(Progress) progress = { 0 };

    run_progress(view, run, child, &progress);
    progress_add(sum, &progress);
    json_object_set_new(disk, "bytes_copied",
                        json_integer(json_number(disk, "bytes_copied") + progress.done));
    json_object_set_new(disk, "bytes_total",
                        json_integer(json_number(disk, "bytes_total") + progress.total));
    json_object_set_new(
        disk, "seconds",
        json_real(json_real_or_int(disk, "seconds") + json_real_or_int(result, "seconds")));
    append_all(json_object_get(disk, "pauses"), json_object_get(result, "pauses"));
    disk_add_strategy(disk, strategy != NULL ? strategy : json_text(run, "strategy"));
    json_object_set_new(disk, "status",
                        json_string(worse(json_text(disk, "status"), run_status(view, child))));
    if (child == NULL)
        return;
    append_all(json_object_get(disk, "volumes_removed"),
               json_object_get(call_result(child->data, "delete"), "volumes_removed"));
    json_put_text(disk, "error", child->error_text);
    if (child->ended == 0)
        json_put_text(disk, "phase", progress.phase != NULL ? progress.phase : child->step);
}

static json_t *
disk_of_run(json_t *disks, const json_t *run)
{
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk)
        if (g_strcmp0(json_text(disk, "id"), json_text(run, "disk_id")) == 0)
            return disk;
    disk = json_pack("{s:s, s:s, s:I, s:I, s:f, s:[], s:[]}", "id", json_text(run, "disk_id"),
                     "name", json_text(run, "target"), "bytes_copied", (json_int_t)0, "bytes_total",
                     (json_int_t)0, "seconds", 0.0, "pauses", "volumes_removed");
    json_array_append_new(disks, disk);
    return disk;
}

static json_t *
disks_to_json(const View *view, Progress *sum)
{
    json_t *disks = json_array(), *run;
    size_t i;

    json_array_foreach (json_object_get(view->row->data, "runs"), i, run)
        disk_add_run(view, disk_of_run(disks, run), run, sum);
    return disks;
}

/* ---- steps ---- */

static json_t *
step_to_json(const FlowRow *row, bool open, int done, size_t number)
{
    json_t *step =
        json_pack("{s:s, s:s, s:I, s:I, s:i, s:i}", "id", row->id, "status", row_status(row, open),
                  "start_time", (json_int_t)row->created, "end_time",
                  (json_int_t)(open ? 0 : row->ended), "progress", done, "number", (int)number);

    json_put_text(step, "description", row->description);
    return step;
}

static json_t *
steps_to_json(const View *view, int job_percent)
{
    json_t *steps = json_array();
    const json_t *runs = json_object_get(view->row->data, "runs");

    if (runs == NULL) {
        json_array_append_new(steps, step_to_json(view->row, view->open, job_percent, 0));
        return steps;
    }
    for (guint i = 0; i < view->children->len; i++) {
        const FlowRow *child = view->children->pdata[i];
        g_auto(Progress) progress = { 0 };

        run_progress(view, child->params, child, &progress);
        json_array_append_new(
            steps,
            step_to_json(child, false,
                         percent(&progress, child->ended != 0 && child->error_word == NULL), i));
    }
    return steps;
}

/* ---- the document ---- */

static const char *
single_call(const FlowRow *row)
{
    return g_str_equal(row->kind, "rename-snapshot") ? "rename" : "create";
}

static json_t *
job_to_json(const View *view)
{
    const FlowRow *row = view->row;
    const char *status = row_status(row, view->open);
    bool finished = g_str_equal(status, "finished");
    g_auto(Progress) sum = { .eta = -1 };
    json_t *disks = disks_to_json(view, &sum);
    json_t *job =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:b}", "id", row->id, "kind",
                  row->kind, "vm_id", row->vm_id, "status", status, "step", row->step, "start_time",
                  (json_int_t)row->created, "end_time", (json_int_t)(view->open ? 0 : row->ended),
                  "last_updated", (json_int_t)row->updated, "disks", disks, "cancel", row->cancel);

    if (json_object_get(row->data, "runs") == NULL) {
        read_progress(view->manager, row, single_call(row), &sum);
        json_object_set(job, "result", (json_t *)call_result(row->data, single_call(row)));
    }
    json_object_set_new(job, "progress", progress_to_json(&sum, finished));
    json_object_set_new(job, "steps", steps_to_json(view, percent(&sum, finished)));
    json_object_set(job, "snapshots", json_object_get(row->params, "snapshots"));
    json_object_set(job, "names", json_object_get(row->params, "names"));
    json_put_text(job, "vm_name", json_text(row->params, "vm_name"));
    json_put_text(job, "user", json_text(row->params, "user"));
    json_put_text(job, "description", row->description);
    json_put_text(job, "correlation_id", row->correlation_id);
    json_put_text(job, "waiting_for",
                  view->waiting_for != NULL ? view->waiting_for : sum.waiting_for);
    json_put_text(job, "error", row->error_text);
    json_put_text(job, "error_code", row->error_word);
    json_object_set_new(job, "rev", json_integer(view->open ? view->change : row->updated));
    return job;
}

static FlowRow *
job_row(Manager *m, const char *id, GError **error)
{
    g_autoptr(FlowRow) row = NULL;

    if (!gate_enter(m, error))
        return NULL;
    row = store_flow_get(m->store, id, error);
    gate_leave(m);
    if (row != NULL && row->parent != NULL) {
        error_set(error, ERR_NOT_FOUND, "%s is a step of job %s, not a job", id, row->parent);
        return NULL;
    }
    return g_steal_pointer(&row);
}

json_t *
manager_job(Manager *m, const char *id, GError **error)
{
    g_auto(View) view = view_of(m, id);
    g_autoptr(FlowRow) row = job_row(m, id, error);
    g_autoptr(GPtrArray) children = row != NULL ? flow_children(m, id, error) : NULL;

    if (children == NULL)
        return NULL;
    view.row = row;
    view.children = children;
    return job_to_json(&view);
}

static GPtrArray *
all_rows(Manager *m, GError **error)
{
    GPtrArray *rows;

    if (!gate_enter(m, error))
        return NULL;
    rows = store_flow_list(m->store, false, NULL, NULL, error);
    gate_leave(m);
    return rows;
}

static GHashTable *
rows_by_parent(const GPtrArray *rows)
{
    GHashTable *by_parent =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)g_ptr_array_unref);

    for (guint i = 0; i < rows->len; i++) {
        FlowRow *row = rows->pdata[i];
        const char *key = row->parent != NULL ? row->parent : row->id;
        GPtrArray *family = g_hash_table_lookup(by_parent, key);
        if (family == NULL) {
            family = g_ptr_array_new();
            g_hash_table_insert(by_parent, (void *)key, family);
        }
        if (row->parent != NULL)
            g_ptr_array_add(family, row);
    }
    return by_parent;
}

/* The ids of flows that are open: asked for before the rows are read, as in view_of(). */
static GHashTable *
views_of_open(Manager *m)
{
    GHashTable *views = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    const char *id;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, (void **)&id, NULL))
        g_hash_table_add(views, g_strdup(id));
    return views;
}

json_t *
manager_jobs(Manager *m, GError **error)
{
    g_autoptr(GHashTable) open = views_of_open(m);
    g_autoptr(GPtrArray) rows = all_rows(m, error);
    g_autoptr(GHashTable) families = rows != NULL ? rows_by_parent(rows) : NULL;
    json_t *jobs;

    if (rows == NULL)
        return NULL;
    jobs = json_array();
    for (guint i = rows->len; i-- > 0;) {
        const FlowRow *row = rows->pdata[i];
        g_auto(View) view = { 0 };

        if (row->parent != NULL)
            continue;
        view = view_of(m, row->id);
        view.open = g_hash_table_contains(open, row->id);
        view.row = row;
        view.children = g_hash_table_lookup(families, row->id);
        json_array_append_new(jobs, job_to_json(&view));
    }
    return jobs;
}

json_t *
manager_job_wait(Manager *m, const char *id, int64_t rev, unsigned timeout_ms, GError **error)
{
    int64_t until = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;

    g_mutex_lock(&m->lock);
    for (;;) {
        const Flow *flow = g_hash_table_lookup(m->flows, id);
        if (flow == NULL || flow->change != rev || m->stopping ||
            !g_cond_wait_until(&m->changed, &m->lock, until))
            break;
    }
    g_mutex_unlock(&m->lock);
    return manager_job(m, id, error);
}

bool
manager_job_cancel(Manager *m, const char *id, GError **error)
{
    g_autoptr(FlowRow) row = job_row(m, id, error);
    const FlowKind *kind;

    if (row == NULL)
        return false;
    if (row->ended != 0)
        return error_set(error, ERR_REFUSED, "job %s has already ended", id);
    kind = flow_kind(row->kind);
    if (kind == NULL || kind->cancel_steps == NULL ||
        !g_strv_contains(kind->cancel_steps, row->step))
        return error_set(error, ERR_REFUSED,
                         "job %s (%s) cannot be cancelled any more: it is at '%s' and ends by "
                         "itself",
                         id, row->description, row->step);
    return flow_cancel(m, id, error);
}
