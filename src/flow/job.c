/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Jobs as users see them: one document made of a flow's row, its children's rows and what the
 * agents said last of their operations.
 */
#include "flow/external.h"
#include "flow/job_view.h"

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

const char *
job_row_status(const FlowRow *row, bool open)
{
    if (open || row->ended == 0)
        return "started";
    if (row->error_word == NULL)
        return "finished";
    return g_str_equal(row->error_word, "cancelled") ? "aborted" : "failed";
}

/* ---- steps ---- */

/* Where the agent is that was asked to do it; nothing if none was, or its host is gone. */
static void
put_execution_host(Manager *m, const FlowRow *row, json_t *step)
{
    const char *key, *name = NULL;
    json_t *call;

    json_object_foreach (row->data, key, call)
        if (name == NULL && json_text(call, "op") != NULL)
            name = json_text(call, "host");
    const Host *host = host_by_name(m, name);
    if (host == NULL)
        return;
    WITH_LOCK(&m->lock);
    g_autofree char *id = host_id_locked(host);
    json_put_text(step, "host_id", id);
    json_put_text(step, "host_name", name);
}

static json_t *
step_to_json(Manager *m, const FlowRow *row, bool open, int done, size_t number)
{
    json_t *step =
        json_pack("{s:s, s:s, s:I, s:I, s:i, s:i}", "id", row->id, "status",
                  job_row_status(row, open), "start_time", (json_int_t)row->created, "end_time",
                  (json_int_t)(open ? 0 : row->ended), "progress", done, "number", (int)number);

    json_put_text(step, "description", row->description);
    put_execution_host(m, row, step);
    return step;
}

static json_t *
steps_to_json(const View *view, int job_percent)
{
    json_t *steps = json_array();
    const json_t *runs = json_object_get(view->row->data, "runs");

    if (runs == NULL) {
        json_array_append_new(steps,
                              step_to_json(view->manager, view->row, view->open, job_percent, 0));
        return steps;
    }
    for (guint i = 0; i < view->children->len; i++) {
        const FlowRow *child = view->children->pdata[i];
        g_auto(Progress) progress = { 0 };

        progress_of_run(view, child->params, child, &progress);
        json_array_append_new(
            steps,
            step_to_json(
                view->manager, child, false,
                progress_percent(&progress, child->ended != 0 && child->error_word == NULL), i));
    }
    return steps;
}

/* ---- the document ---- */

static const char *
single_call(const FlowRow *row)
{
    static const struct {
        const char *kind, *call;
    } calls[] = { { "rename-snapshot", "rename" }, { "preview-snapshot", "preview" },
                  { "commit-snapshot", "commit" }, { "restore-snapshot", "commit" },
                  { "undo-snapshot", "undo" },     { "doctor", "doctor" },
                  { "import", "import" },          { "clone-vm", "clone" },
                  { "remove-vm", "remove" } };

    for (size_t i = 0; i < G_N_ELEMENTS(calls); i++)
        if (g_str_equal(row->kind, calls[i].kind))
            return calls[i].call;
    return g_str_has_suffix(row->kind, "-vm") ? "power" : "create";
}

/* Of the first disk that has paused, or of the job's own operation. */
static void
put_attention(json_t *job, const View *view, const json_t *disks)
{
    g_autofree char *own = view->open ? attention_of_row(view->manager, view->row) : NULL;
    const char *text = own;

    for (size_t i = 0; i < json_array_size(disks) && text == NULL; i++)
        text = json_text(json_array_get(disks, i), "attention");
    json_put_text(job, "attention", text);
}

/* Why a VM's definition did not go back with its disks; NULL = it did. */
static const char *
configuration_kept(const FlowRow *row)
{
    static const char *const calls[] = { "preview", "undo" };

    for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
        const char *why = json_text(call_result(row->data, calls[i]), "configuration_kept");
        if (why != NULL)
            return why;
    }
    return NULL;
}

static json_t *
job_to_json(const View *view)
{
    const FlowRow *row = view->row;
    if (external_is(row))
        return external_job_to_json(row, view->children);
    const char *status = job_row_status(row, view->open);
    bool finished = g_str_equal(status, "finished");
    g_auto(Progress) sum = { .eta = -1 };
    json_t *disks = job_disks(view, &sum);
    json_t *job =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:b}", "id", row->id, "kind",
                  row->kind, "vm_id", row->vm_id, "status", status, "step", row->step, "start_time",
                  (json_int_t)row->created, "end_time", (json_int_t)(view->open ? 0 : row->ended),
                  "last_updated", (json_int_t)row->updated, "disks", disks, "cancel", row->cancel);

    if (json_object_get(row->data, "runs") == NULL) {
        progress_read(view->manager, row, single_call(row), &sum);
        json_object_set(job, "result", (json_t *)call_result(row->data, single_call(row)));
    }
    json_object_set_new(job, "progress", progress_to_json(&sum, finished));
    json_object_set_new(job, "steps", steps_to_json(view, progress_percent(&sum, finished)));
    json_object_set(job, "snapshots", json_object_get(row->params, "snapshots"));
    json_object_set(job, "names", json_object_get(row->params, "names"));
    json_put_text(job, "vm_name", json_text(row->params, "vm_name"));
    json_put_text(job, "user", json_text(row->params, "user"));
    json_put_text(job, "description", row->description);
    json_put_text(job, "correlation_id", row->correlation_id);
    json_put_text(job, "waiting_for",
                  view->waiting_for != NULL ? view->waiting_for : sum.waiting_for);
    put_attention(job, view, disks);
    json_put_text(job, "configuration_kept", configuration_kept(row));
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

/* What is one operation of the agent has none, and the database is not asked. */
static GPtrArray *
children_of(Manager *m, const FlowRow *row, GError **error)
{
    const FlowKind *kind = flow_kind(row->kind);

    return kind != NULL && kind->call != NULL ? g_ptr_array_new()
                                              : flow_children(m, row->id, error);
}

json_t *
manager_job(Manager *m, const char *id, GError **error)
{
    g_auto(View) view = view_of(m, id);
    g_autoptr(FlowRow) row = job_row(m, id, error);
    g_autoptr(GPtrArray) children = row != NULL ? children_of(m, row, error) : NULL;

    if (children == NULL)
        return NULL;
    view.row = row;
    view.children = children;
    return job_to_json(&view);
}

static GPtrArray *
all_rows(Manager *m, bool only_open, GError **error)
{
    GPtrArray *rows;

    if (!gate_enter(m, error))
        return NULL;
    rows = store_flow_list(m->store, only_open, NULL, NULL, error);
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
manager_jobs(Manager *m, bool only_open, GError **error)
{
    g_autoptr(GHashTable) open = views_of_open(m);
    g_autoptr(GPtrArray) rows = all_rows(m, only_open, error);
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

/* What is a flow of ours, and open, is none; so its row, which is read for its document, is not
 * read for this, too. */
static bool
is_open_external(Manager *m, const char *id)
{
    g_mutex_lock(&m->lock);
    bool ours = g_hash_table_contains(m->flows, id);
    g_mutex_unlock(&m->lock);
    g_autoptr(FlowRow) row = ours ? NULL : job_row(m, id, NULL);

    return row != NULL && external_is(row) && row->ended == 0;
}

json_t *
manager_job_wait(Manager *m, const char *id, int64_t rev, int64_t not_before_us,
                 unsigned timeout_ms, GError **error)
{
    int64_t until = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    bool external = is_open_external(m, id);

    g_mutex_lock(&m->lock);
    for (;;) {
        const Flow *flow = g_hash_table_lookup(m->flows, id);
        bool news = flow == NULL || flow->change != rev;
        int64_t now = g_get_monotonic_time();
        if ((flow == NULL && !external) || m->stopping || now >= until ||
            (news && !external && now >= not_before_us))
            break;
        g_cond_wait_until(&m->changed, &m->lock,
                          news && !external ? MIN(until, not_before_us) : until);
        if (external) /* whatever has changed: the caller looks */
            break;
    }
    g_mutex_unlock(&m->lock);
    return manager_job(m, id, error);
}

/* lock held: has it still to do what was asked for? */
static bool
is_at_work_locked(Manager *m, const char *id)
{
    const Flow *flow = g_hash_table_lookup(m->flows, id);

    return flow != NULL && !(flow->released && !g_str_equal(flow->step, "end"));
}

bool
manager_job_works(Manager *m, const char *id)
{
    WITH_LOCK(&m->lock);

    return is_at_work_locked(m, id) && !m->stopping;
}

int64_t
manager_job_rev(Manager *m, const char *id)
{
    WITH_LOCK(&m->lock);
    const Flow *flow = g_hash_table_lookup(m->flows, id);

    return flow != NULL ? flow->change : -1;
}

bool
manager_job_await(Manager *m, const char *id, unsigned timeout_ms, bool *ret_done, GError **error)
{
    int64_t until = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    g_autoptr(FlowRow) row = NULL;

    g_mutex_lock(&m->lock);
    while (is_at_work_locked(m, id) && !m->stopping)
        if (!g_cond_wait_until(&m->changed, &m->lock, until))
            break;
    *ret_done = !is_at_work_locked(m, id);
    g_mutex_unlock(&m->lock);
    row = job_row(m, id, error);
    if (row == NULL)
        return false;
    return row->error_word == NULL ||
           error_set(error, error_code_from_word(row->error_word), "%s", row->error_text);
}

/* ---- what can be done to it ---- */

static VerbContext
context_of(const FlowRow *row, bool paused)
{
    const FlowKind *kind = flow_kind(row->kind);

    return (VerbContext){ .job_id = row->id,
                          .job = row->description,
                          .job_step = row->step,
                          .job_others = external_is(row),
                          .job_ended = row->ended != 0,
                          .job_late = kind == NULL || kind->cancel_steps == NULL ||
                                      !g_strv_contains(kind->cancel_steps, row->step),
                          .job_paused = paused };
}

json_t *
manager_job_operations(Manager *m, const char *id, GError **error)
{
    g_autoptr(FlowRow) row = job_row(m, id, error);
    g_autoptr(json_t) job = row != NULL ? manager_job(m, row->id, error) : NULL;
    g_autoptr(GError) cancel = NULL, resume = NULL;

    if (job == NULL)
        return NULL;
    VerbContext context = context_of(row, json_text(job, "attention") != NULL);
    verb_allowed(VERB_JOB_CANCEL, NULL, &context, &cancel);
    verb_allowed(VERB_JOB_RESUME, NULL, &context, &resume);
    return json_pack("[o, o]", verb_answer(VERB_JOB_CANCEL, cancel),
                     verb_answer(VERB_JOB_RESUME, resume));
}

bool
manager_job_cancel(Manager *m, const char *id, GError **error)
{
    g_autoptr(FlowRow) row = job_row(m, id, error);

    if (row == NULL)
        return false;
    VerbContext context = context_of(row, false);
    return verb_allowed(VERB_JOB_CANCEL, NULL, &context, error) && flow_cancel(m, id, error);
}

bool
manager_job_resume(Manager *m, const char *id, GError **error)
{
    g_autoptr(FlowRow) row = job_row(m, id, error);
    g_autoptr(GPtrArray) rows = row != NULL ? flow_children(m, id, error) : NULL;
    unsigned resumed = 0;

    if (rows == NULL || (row->ended == 0 && !attention_resume(m, row, &resumed, error)))
        return false;
    for (guint i = 0; i < rows->len && row->ended == 0; i++)
        if (!attention_resume(m, rows->pdata[i], &resumed, error))
            return false;
    VerbContext context = context_of(row, resumed > 0);
    return verb_allowed(VERB_JOB_RESUME, NULL, &context, error);
}
