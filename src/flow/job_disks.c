/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The disks of a job that removes snapshots: how far each is, and what was planned beside what
 * was done.
 */
#include "flow/job_view.h"

/* ---- progress ---- */

void
progress_clear(Progress *progress)
{
    g_free(progress->phase);
    g_free(progress->waiting_for);
}

static double
real(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

void
progress_read(Manager *m, const FlowRow *row, const char *key, Progress *progress)
{
    const char *id = call_operation(row->data, key);
    g_autoptr(json_t) doc = id != NULL ? seen_doc(m, id) : NULL;
    const json_t *told = json_object_get(doc, "progress");

    progress->eta = -1;
    g_free(progress->waiting_for);
    progress->waiting_for = g_strdup(json_text(doc, "waiting_for"));
    if (told == NULL)
        return;
    progress->done = json_number(told, "bytes_done");
    progress->total = json_number(told, "bytes_total");
    progress->rate = real(told, "rate");
    if (json_object_get(told, "eta") != NULL)
        progress->eta = (int64_t)real(told, "eta");
    g_free(progress->phase);
    progress->phase = g_strdup(json_text(told, "phase"));
}

int
progress_percent(const Progress *progress, bool finished)
{
    if (finished)
        return 100;
    if (progress->total <= 0)
        return 0;
    return (int)CLAMP(100.0 * (double)progress->done / (double)progress->total, 0, 99);
}

json_t *
progress_to_json(const Progress *progress, bool finished)
{
    return json_pack("{s:i, s:I, s:I, s:I, s:I}", "percent", progress_percent(progress, finished),
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

void
progress_of_run(const View *view, const json_t *run, const FlowRow *child, Progress *ret)
{
    const json_t *result = child != NULL ? call_result(child->data, "merge") : NULL;

    ret->eta = -1;
    if (child != NULL)
        progress_read(view->manager, child, result == NULL ? "merge" : "delete", ret);
    if (result != NULL) { /* what is deleted says no phase of its own: the flow's step is it */
        g_clear_pointer(&ret->phase, g_free);
        ret->done = ret->total = json_number(result, "bytes_copied");
    } else if (ret->total == 0)
        ret->total = json_number(run, "bytes_written");
}

/* Why the run has paused itself; NULL = it has not. The caller frees it. */
static char *
run_attention(const View *view, const FlowRow *child)
{
    return child != NULL && child->ended == 0 ? attention_of_row(view->manager, child) : NULL;
}

static const char *
run_status(const View *view, const FlowRow *child, bool paused)
{
    if (paused)
        return "paused";
    if (child != NULL)
        return job_row_status(child, false);
    return view->open ? "waiting" : "aborted";
}

/* The disk's status: the worst of its runs' that says something. */
static const char *
worse(const char *a, const char *b)
{
    static const char *const order[] = { "failed",  "aborted", "paused",
                                         "started", "waiting", "finished" };

    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
        if (g_strcmp0(a, order[i]) == 0 || g_strcmp0(b, order[i]) == 0)
            return order[i];
    return "waiting";
}

/* ---- planned and done: runs of one disk go one after another ---- */

/* to[key], a list of words: each once */
static void
add_word(json_t *to, const char *key, const char *word)
{
    const char *old = json_text(to, key);
    g_auto(GStrv) words = old != NULL ? g_strsplit(old, ", ", -1) : NULL;
    g_autofree char *joined = NULL;

    if (word == NULL || (words != NULL && g_strv_contains((const char *const *)words, word)))
        return;
    joined = old != NULL ? g_strdup_printf("%s, %s", old, word) : g_strdup(word);
    json_object_set_new(to, key, json_string(joined));
}

/* Stays away as long as nobody has told it. */
static void
add_number(json_t *to, const char *key, const json_t *from)
{
    if (json_is_number(json_object_get(from, key)))
        json_object_set_new(to, key, json_integer(json_number(to, key) + json_number(from, key)));
}

static void
add_seconds(json_t *to, const json_t *from)
{
    json_object_set_new(to, "seconds", json_real(real(to, "seconds") + real(from, "seconds")));
}

static void
add_longest(json_t *to, const char *key, double value)
{
    json_object_set_new(to, key, json_real(MAX(real(to, key), value)));
}

static void
add_planned(json_t *plan, const json_t *run)
{
    /* what the runs before it have freed is there for this one */
    int64_t peak = json_number(run, "space_peak") - json_number(plan, "space_freed");

    json_object_set_new(plan, "space_peak",
                        json_integer(MAX(json_number(plan, "space_peak"), peak)));
    add_word(plan, "strategy", json_text(run, "strategy"));
    add_number(plan, "bytes_read", run);
    add_number(plan, "bytes_written", run);
    add_number(plan, "space_freed", run);
    add_seconds(plan, run);
    add_number(plan, "pauses", run);
    add_longest(plan, "pause_ms", real(run, "pause_ms"));
}

static void
add_outcome(json_t *outcome, const json_t *result)
{
    const json_t *pauses = json_object_get(result, "pauses"), *pause;
    int64_t n = json_number(outcome, "pauses") + (int64_t)json_array_size(pauses);
    size_t i;

    add_word(outcome, "strategy", json_text(result, "strategy"));
    add_number(outcome, "bytes_copied", result);
    add_number(outcome, "bytes_shared", result);
    add_number(outcome, "bytes_written", result);
    add_number(outcome, "space_freed", result);
    add_seconds(outcome, result);
    json_object_set_new(outcome, "pauses", json_integer(n));
    json_array_foreach ((json_t *)pauses, i, pause)
        add_longest(outcome, "pause_ms", real(pause, "milliseconds"));
    add_word(outcome, "verified", json_text(result, "verified"));
}

/* ---- a disk ---- */

/* disk[key], an object made when it is asked for */
static json_t *
part_of(json_t *disk, const char *key)
{
    if (json_object_get(disk, key) == NULL)
        json_object_set_new(disk, key, json_object());
    return json_object_get(disk, key);
}

static void
disk_add_progress(json_t *disk, const Progress *progress)
{
    json_object_set_new(disk, "bytes_copied",
                        json_integer(json_number(disk, "bytes_copied") + progress->done));
    json_object_set_new(disk, "bytes_total",
                        json_integer(json_number(disk, "bytes_total") + progress->total));
}

static void
disk_add_child(json_t *disk, const FlowRow *child, const Progress *progress)
{
    append_all(json_object_get(disk, "volumes_removed"),
               json_object_get(call_result(child->data, "delete"), "volumes_removed"));
    json_put_text(disk, "error", child->error_text);
    if (child->ended == 0)
        json_put_text(disk, "phase", progress->phase != NULL ? progress->phase : child->step);
}

static void
disk_add_run(const View *view, json_t *disk, const json_t *run, Progress *sum)
{
    const FlowRow *child = run_child(view, (size_t)json_number(run, "number"));
    const json_t *result = child != NULL ? call_result(child->data, "merge") : NULL;
    const char *strategy = json_text(result, "strategy");
    g_autofree char *attention = run_attention(view, child);
    const char *status = run_status(view, child, attention != NULL);
    g_auto(Progress) progress = { 0 };

    progress_of_run(view, run, child, &progress);
    progress_add(sum, &progress);
    disk_add_progress(disk, &progress);
    add_seconds(disk, result);
    append_all(json_object_get(disk, "pauses"), json_object_get(result, "pauses"));
    add_word(disk, "strategy", strategy != NULL ? strategy : json_text(run, "strategy"));
    json_object_set_new(disk, "status", json_string(worse(json_text(disk, "status"), status)));
    json_put_text(disk, "attention", attention);
    add_planned(part_of(disk, "plan"), run);
    if (result != NULL)
        add_outcome(part_of(disk, "outcome"), result);
    if (child != NULL)
        disk_add_child(disk, child, &progress);
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

json_t *
job_disks(const View *view, Progress *sum)
{
    json_t *disks = json_array(), *run;
    size_t i;

    json_array_foreach (json_object_get(view->row->data, "runs"), i, run)
        disk_add_run(view, disk_of_run(disks, run), run, sum);
    return disks;
}
