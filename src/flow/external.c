/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Jobs of other programs: shown beside ours, with steps of their own, and ended by who began them.
 * They are rows that no machine turns, and hold no VM.
 *
 * Whoever changes such a row holds the door: two who end the same thing come one after the other.
 */
#include "flow/external.h"

#define OPEN "open"
#define MOST_STEPS 1000

bool
external_is(const FlowRow *row)
{
    return g_str_equal(row->kind, EXTERNAL_JOB) || g_str_equal(row->kind, EXTERNAL_STEP);
}

static void
tell(Manager *m, const char *job_id)
{
    WITH_LOCK(&m->lock);
    news_job_locked(m, job_id);
}

static FlowRow *
row_new(const char *kind, const char *parent, const char *description, json_t *take_params)
{
    FlowRow *row = g_new0(FlowRow, 1);

    row->id = id_new();
    row->kind = g_strdup(kind);
    row->vm_id = g_strdup("");
    row->parent = g_strdup(parent);
    row->step = g_strdup(OPEN);
    row->description = g_strdup(description);
    row->params = take_params;
    row->data = json_object();
    return row;
}

static bool
insert(Manager *m, FlowRow *row, GError **error)
{
    if (!gate_enter(m, error))
        return false;
    bool stored = store_flow_insert(m->store, row, error);
    gate_leave(m);
    return stored;
}

static bool
update(Manager *m, FlowRow *row, GError **error)
{
    if (!gate_enter(m, error))
        return false;
    bool stored = store_flow_update(m->store, row, error);
    gate_leave(m);
    return stored;
}

/* One that another program has begun. */
static FlowRow *
find(Manager *m, const char *kind, const char *id, GError **error)
{
    g_autoptr(FlowRow) row = NULL;

    if (!gate_enter(m, error))
        return NULL;
    row = store_flow_get(m->store, id, error);
    gate_leave(m);
    if (row == NULL || g_str_equal(row->kind, kind))
        return g_steal_pointer(&row);
    if (g_str_equal(kind, EXTERNAL_JOB) && row->parent == NULL)
        error_set(error, ERR_REFUSED,
                  "job %s (%s) is livemerge's own: only jobs of other programs get steps, and an "
                  "end, from outside. What can be done is to give it up: livemerge job cancel %s",
                  id, row->description, id);
    else
        error_set(error, ERR_NOT_FOUND, "%s is no %s of another program", id,
                  g_str_equal(kind, EXTERNAL_JOB) ? "job" : "step");
    return NULL;
}

static bool
must_be_open(const FlowRow *row, const char *what, GError **error)
{
    return row->ended == 0 || error_set(error, ERR_REFUSED, "%s %s ('%s') has ended already", what,
                                        row->id, row->description);
}

static bool
end_row(Manager *m, FlowRow *row, bool succeeded, GError **error)
{
    g_free(row->step);
    row->step = g_strdup("");
    if (!succeeded) {
        g_free(row->error_word);
        g_free(row->error_text);
        row->error_word = g_strdup("failed");
        row->error_text = g_strdup("the program that began it said that it has failed");
    }
    return update(m, row, error);
}

char *
manager_external_begin(Manager *m, const ExternalJob *what, GError **error)
{
    WITH_LOCK(&m->door);
    g_autoptr(FlowRow) row =
        row_new(EXTERNAL_JOB, NULL, what->description,
                json_pack("{s:s*, s:b}", "user", what->user, "kept", !what->auto_cleared));

    row->correlation_id = g_strdup(what->correlation_id);
    if (!insert(m, row, error))
        return NULL;
    tell(m, row->id);
    return g_steal_pointer(&row->id);
}

char *
manager_external_step(Manager *m, const char *job_id, const ExternalStep *what, GError **error)
{
    WITH_LOCK(&m->door);
    g_autoptr(FlowRow) job = find(m, EXTERNAL_JOB, job_id, error);
    g_autoptr(GPtrArray) others = job != NULL ? flow_children(m, job_id, error) : NULL;
    bool has_parent = what->parent == NULL;

    if (others == NULL || !must_be_open(job, "job", error))
        return NULL;
    for (guint i = 0; i < others->len; i++)
        has_parent |= g_strcmp0(((const FlowRow *)others->pdata[i])->id, what->parent) == 0;
    if (!has_parent) {
        error_set(error, ERR_INVALID, "job %s has no step %s", job_id, what->parent);
        return NULL;
    }
    if (others->len >= MOST_STEPS) {
        error_set(error, ERR_REFUSED, "job %s has %d steps already; no more are kept", job_id,
                  MOST_STEPS);
        return NULL;
    }
    g_autoptr(FlowRow) row =
        row_new(EXTERNAL_STEP, job_id, what->description,
                json_pack("{s:s, s:s*}", "type", what->type, "parent_step", what->parent));
    if (!insert(m, row, error) || !update(m, job, error)) /* the job's document has changed */
        return NULL;
    tell(m, job_id);
    return g_steal_pointer(&row->id);
}

bool
manager_external_end_step(Manager *m, const char *job_id, const char *step_id, bool succeeded,
                          GError **error)
{
    WITH_LOCK(&m->door);
    g_autoptr(FlowRow) job = find(m, EXTERNAL_JOB, job_id, error);
    g_autoptr(FlowRow) step = job != NULL ? find(m, EXTERNAL_STEP, step_id, error) : NULL;

    if (step == NULL)
        return false;
    if (g_strcmp0(step->parent, job_id) != 0)
        return error_set(error, ERR_NOT_FOUND, "job %s has no step %s", job_id, step_id);
    if (!must_be_open(step, "step", error) || !end_row(m, step, succeeded, error) ||
        !update(m, job, error))
        return false;
    tell(m, job_id);
    return true;
}

bool
manager_external_end(Manager *m, const char *job_id, bool succeeded, GError **error)
{
    WITH_LOCK(&m->door);
    g_autoptr(FlowRow) job = find(m, EXTERNAL_JOB, job_id, error);
    g_autoptr(GPtrArray) steps = job != NULL ? flow_children(m, job_id, error) : NULL;

    if (steps == NULL || !must_be_open(job, "job", error))
        return false;
    for (guint i = 0; i < steps->len; i++) {
        FlowRow *step = steps->pdata[i];
        if (step->ended == 0 && !end_row(m, step, succeeded, error))
            return false;
    }
    if (!end_row(m, job, succeeded, error)) /* last: who repeats this ends it all */
        return false;
    tell(m, job_id);
    return true;
}

bool
manager_external_clear(Manager *m, const char *job_id, GError **error)
{
    WITH_LOCK(&m->door);
    g_autoptr(FlowRow) job = find(m, EXTERNAL_JOB, job_id, error);

    if (job == NULL)
        return false;
    json_object_set_new(job->data, "cleared", json_true());
    if (!update(m, job, error))
        return false;
    tell(m, job_id);
    return true;
}

/* ---- in the job's document ---- */

static json_t *
step_to_json(const FlowRow *row, size_t number)
{
    json_t *step = json_pack("{s:s, s:s, s:I, s:I, s:i, s:b, s:s, s:s*}", "id", row->id, "status",
                             job_row_status(row, false), "start_time", (json_int_t)row->created,
                             "end_time", (json_int_t)row->ended, "number", (int)number, "external",
                             true, "type", json_text(row->params, "type"), "parent_step",
                             json_text(row->params, "parent_step"));

    json_put_text(step, "description", row->description);
    return step;
}

json_t *
external_job_to_json(const FlowRow *row, const GPtrArray *steps)
{
    bool kept = json_flag(row->params, "kept") && !json_flag(row->data, "cleared");
    json_t *list = json_array();
    json_t *job = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:b, s:o, s:I}", "id", row->id,
                            "kind", row->kind, "status", job_row_status(row, false), "start_time",
                            (json_int_t)row->created, "end_time", (json_int_t)row->ended,
                            "last_updated", (json_int_t)row->updated, "external", true,
                            "auto_cleared", !kept, "steps", list, "rev", (json_int_t)row->rev);

    for (guint i = 0; steps != NULL && i < steps->len; i++)
        json_array_append_new(list, step_to_json(steps->pdata[i], i));
    json_put_text(job, "user", json_text(row->params, "user"));
    json_put_text(job, "description", row->description);
    json_put_text(job, "correlation_id", row->correlation_id);
    json_put_text(job, "error", row->error_text);
    json_put_text(job, "error_code", row->error_word);
    return job;
}
