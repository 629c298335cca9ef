/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging while the VM is off: a block-commit job in a qemu-storage-daemon of our own.
 *
 * The daemon outlives the agent (it holds QEMU's image locks, so that the VM cannot start beneath
 * it) and is found again by its socket, whose name is made from the operation's id. It is told the
 * whole graph explicitly: nothing is probed.
 *
 *   cold-commit   the chain; an internal commit relinks the header of the volume above by itself
 *   graft, copy   that were begun while the VM ran: the new volumes, and on top of them the old
 *                 leaf, whose header says otherwise and is not changed
 *
 * A commit of the leaf becomes ready, is completed, and then the definition is pointed at the
 * volume that took it (cold_switch.c). Until then the definition names the old leaf, whose content
 * is the same at every instant.
 */
#include "agent/merge.h"

#include "agent/qmp.h"
#include "base/clock.h"
#include "qcow2/build.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>

#define JOB "merge"
#define END_MS 10000

#define DEATHS_MAX 3

static Qmp *
connect_daemon(const Operation *op, GError **error)
{
    g_autofree char *path = cold_socket_path(op->agent, op->row.id);

    return qmp_open(path, error);
}

/* True if it is known: then *ret_qmp is NULL if there is no daemon. One that does not answer may
 * still be merging. */
static bool
find_at(const char *path, Qmp **ret_qmp, GError **error)
{
    g_autoptr(GError) problem = NULL;

    *ret_qmp = qmp_open(path, &problem);
    if (*ret_qmp != NULL || g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static bool
find_daemon(const Operation *op, Qmp **ret_qmp, GError **error)
{
    g_autofree char *path = cold_socket_path(op->agent, op->row.id);

    return find_at(path, ret_qmp, error);
}

bool
cold_is_running(Operation *op)
{
    g_autoptr(Qmp) qmp = NULL;

    return !find_daemon(op, &qmp, NULL) || qmp != NULL;
}

/* ---- start ---- */

static bool
spawn(const Operation *op, GError **error)
{
    g_autofree char *path = cold_socket_path(op->agent, op->row.id);
    g_autofree char *chardev = g_strdup_printf("socket,id=m,path=%s,server=on,wait=off", path);
    g_autoptr(GSubprocess) process = NULL;
    g_autoptr(GError) problem = NULL;

    if (g_unlink(path) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing the stale %s", path);
    /* --daemonize: it returns when the socket listens */
    process = g_subprocess_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE, &problem, "qemu-storage-daemon",
                               "--chardev", chardev, "--monitor", "chardev=m", "--daemonize", NULL);
    if (process == NULL || !g_subprocess_wait_check(process, NULL, &problem)) /* killed? again */
        return error_set(error, process == NULL ? ERR_HYPERVISOR : ERR_BUSY,
                         "qemu-storage-daemon could not be started: %s", problem->message);
    return true;
}

/* The volume, as a node of the same name as its number, on the node below. */
static bool
add_node(Qmp *qmp, guint i, const char *path, const char *format, GError **error)
{
    g_autofree char *node = g_strdup_printf("v%u", i);
    g_autofree char *below = i > 0 ? g_strdup_printf("v%u", i - 1) : NULL;
    json_t *arguments =
        json_pack("{s:s, s:s, s:b, s:s, s:{s:s, s:s}}", "driver", format, "node-name", node,
                  "read-only", 1, "discard", "unmap", "file", "driver", "file", "filename", path);

    if (g_str_equal(format, "qcow2"))
        json_object_set_new(arguments, "backing", below != NULL ? json_string(below) : json_null());
    return qmp_call(qmp, "blockdev-add", arguments, NULL, error);
}

/* What the daemon has open, base first, and which of it is committed into which. */
typedef struct {
    GPtrArray *layers; /* of Qcow2Layer */
    const char *leaf;  /* graft, copy: the old leaf stands on top of them; else NULL */
    guint base, top;   /* numbers of nodes */
    guint n;
} Graph;

static void
graph_clear(Graph *graph)
{
    g_clear_pointer(&graph->layers, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Graph, graph_clear)

static bool
find_node(const Graph *graph, const char *path, guint *ret_at)
{
    for (guint i = 0; i < graph->layers->len; i++)
        if (g_strcmp0(((Qcow2Layer *)graph->layers->pdata[i])->path, path) == 0) {
            *ret_at = i;
            return true;
        }
    return false;
}

static bool
make_graph(Operation *op, Graph *graph, GError **error)
{
    const char *base = merge_run_base(op), *top = merge_run_top(op);
    bool forward = merge_is_forward(op);

    graph->layers =
        qcow2_chain_walk(forward ? merge_new_leaf(op) : merge_old_leaf(op), "qcow2", NULL, error);
    if (graph->layers == NULL)
        return false;
    graph->n = graph->layers->len;
    if (forward) {
        graph->leaf = merge_old_leaf(op);
        graph->base = graph->n - 1;
        graph->top = graph->n++;
        return true;
    }
    return (find_node(graph, base, &graph->base) && find_node(graph, top, &graph->top)) ||
           error_set(error, ERR_REFUSED,
                     "disk %s: %s and %s are not both in its chain any more; nothing was changed",
                     op_data(op, "target"), base, top);
}

static bool
add_nodes(const Graph *graph, Qmp *qmp, GError **error)
{
    for (guint i = 0; i < graph->layers->len; i++) {
        const Qcow2Layer *layer = graph->layers->pdata[i];
        if (!add_node(qmp, i, layer->path, layer->format, error))
            return false;
    }
    return graph->leaf == NULL || add_node(qmp, graph->layers->len, graph->leaf, "qcow2", error);
}

static bool
start_job(Operation *op, const Graph *graph, Qmp *qmp, GError **error)
{
    int64_t limit = json_number(op->row.params, "bandwidth");
    g_autofree char *base = g_strdup_printf("v%u", graph->base);
    g_autofree char *top = g_strdup_printf("v%u", graph->top);
    g_autofree char *device = g_strdup_printf("v%u", graph->n - 1);
    json_t *arguments =
        json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "job-id", JOB, "device", device, "top-node",
                  top, "base-node", base, "auto-dismiss", 0, "auto-finalize", 1);

    if (limit > 0)
        json_object_set_new(arguments, "speed", json_integer(limit));
    if (graph->top + 1 < graph->n) {
        g_autofree char *name =
            relative_name(((Qcow2Layer *)graph->layers->pdata[graph->top + 1])->path,
                          ((Qcow2Layer *)graph->layers->pdata[graph->base])->path);
        json_object_set_new(arguments, "backing-file", json_string(name));
    }
    return qmp_call(qmp, "block-commit", arguments, NULL, error);
}

/* Of a VM that is off it can be resized at any time before the daemon has the volumes. */
static bool
fits(const Operation *op, const Graph *graph, GError **error)
{
    const Qcow2Layer *base = graph->layers->pdata[graph->base];
    const Qcow2Layer *top = graph->leaf == NULL ? graph->layers->pdata[graph->top] : NULL;

    return top == NULL || top->virtual_size >= base->virtual_size ||
           error_set(error, ERR_REFUSED,
                     "disk %s: %s was made smaller than its base %s meanwhile, whose end would be "
                     "read again; nothing was changed, ask for auto",
                     op_data(op, "target"), top->path, base->path);
}

/* Beside what the guest sees: an internal snapshot can be taken of a VM that is off at any time
 * before the daemon has the volumes, and what libvirt does with bitmaps at a commit the daemon does
 * not. */
static bool
carries_all(const Operation *op, const Graph *graph, GError **error)
{
    for (guint i = graph->base + 1; graph->leaf == NULL && i <= graph->top; i++) {
        const Qcow2Layer *layer = graph->layers->pdata[i];
        unsigned lost = layer->header->features & (QCOW2_INTERNAL_SNAPSHOTS | QCOW2_BITMAPS);
        if (lost != 0)
            return error_set(error, ERR_REFUSED,
                             "disk %s: %s %s and would go with it; nothing was changed",
                             op_data(op, "target"), layer->path, qcow2_uncarried(lost));
    }
    return true;
}

/* While the way is held: merge_make_way() finds the daemon whole, or none. */
static bool
start_daemon(Operation *op, GError **error)
{
    g_auto(Graph) graph = { 0 };
    g_autoptr(Qmp) qmp = NULL;
    WITH_WAY(op);

    if (clock_mono_us() < op->entry->starting_until_us)
        return error_set(error, ERR_BUSY, "VM %s is being started", op->row.vm_id);
    return make_graph(op, &graph, error) && fits(op, &graph, error) &&
           carries_all(op, &graph, error) && spawn(op, error) &&
           (qmp = connect_daemon(op, error)) != NULL && add_nodes(&graph, qmp, error) &&
           start_job(op, &graph, qmp, error);
}

bool
cold_start(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = NULL;

    /* a daemon without a job, of an agent that died on the way here, goes first */
    if (!cold_stop(op, error))
        return false;
    bool strays = g_atomic_int_get(&op->agent->strays) != 0;
    bool ok = start_daemon(op, error);
    if (!ok && strays && error != NULL)
        (*error)->code = ERR_BUSY; /* their locks, perhaps: they go (merge_may_be_cold()) */
    merge_scratch(op)->stray_in_way = !ok && strays;
    /* from here on QEMU's locks keep the VM from starting: was it still off? */
    if (ok && (hv = op_hv(op, error)) == NULL)
        ok = false;
    if (ok && (hv->instance != NULL || hv->state != VM_DOWN))
        ok = error_set(error, ERR_BUSY, "VM '%s' has started", hv->name);
    if (!ok)
        cold_stop(op, NULL);
    return ok;
}

/* ---- how it goes ---- */

/* *ret_status is owned; NULL = no such job */
static bool
look_at_job(Qmp *qmp, char **ret_status, char **ret_error, uint64_t *ret_done, uint64_t *ret_total,
            GError **error)
{
    g_autoptr(json_t) jobs = NULL;
    size_t i;
    json_t *job;

    *ret_status = NULL;
    *ret_error = NULL;
    if (!qmp_call(qmp, "query-jobs", NULL, &jobs, error))
        return false;
    json_array_foreach (jobs, i, job) {
        if (g_strcmp0(json_text(job, "id"), JOB) != 0)
            continue;
        *ret_status = g_strdup(json_text(job, "status"));
        *ret_error = g_strdup(json_text(job, "error"));
        *ret_done = (uint64_t)json_number(job, "current-progress");
        *ret_total = (uint64_t)json_number(job, "total-progress");
    }
    return true;
}

static void
show(Operation *op, uint64_t done, uint64_t total)
{
    const WorkMap *work = merge_scratch(op)->work;

    if (merge_has_leaf(op))
        merge_show_job(op, done, total);
    else if (work != NULL)
        operation_progress(op, space_phase(op), work_below(work, done), work->total);
}

/* It was killed, or had ended its job and nobody knows, or made way for a VM that starts. */
static StepState
daemon_is_gone(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);
    ChainState state;

    if (hv == NULL || !merge_chain_state(op, hv, &state, error))
        return STEP_UNKNOWN;
    if (state == CHAIN_AFTER)
        return STEP_DONE;
    StepState life = merge_follow(op, hv, error);
    if (life != STEP_DONE)
        return life;
    if (!merge_may_be_cold(op, error))
        return STEP_UNKNOWN;
    if (merge_scratch(op)->daemon_deaths++ < DEATHS_MAX)
        return STEP_BACK; /* once more */
    error_set(error, ERR_HYPERVISOR,
              "VM '%s', disk %s: the storage daemon that merged it died again and again. No data "
              "were lost: its chain is as before",
              hv->name, op_data(op, "target"));
    return STEP_FAILED;
}

StepState
cold_has_job(Operation *op, GError **error)
{
    g_autoptr(Qmp) qmp = NULL;
    g_autofree char *status = NULL;
    g_autofree char *problem = NULL;
    uint64_t done = 0, total = 0;

    if (!find_daemon(op, &qmp, error) ||
        (qmp != NULL && !look_at_job(qmp, &status, &problem, &done, &total, error)))
        return STEP_UNKNOWN;
    return status != NULL ? STEP_DONE : STEP_TODO;
}

bool
cold_has_concluded(Operation *op)
{
    g_autoptr(Qmp) qmp = NULL;
    g_autofree char *status = NULL;
    g_autofree char *problem = NULL;
    uint64_t done = 0, total = 0;

    return find_daemon(op, &qmp, NULL) && qmp != NULL &&
           look_at_job(qmp, &status, &problem, &done, &total, NULL) &&
           g_strcmp0(status, "concluded") == 0;
}

static bool
limit_job(Operation *op, uint64_t limit, void *qmp, GError **error)
{
    return qmp_call(qmp, "block-job-set-speed",
                    json_pack("{s:s, s:I}", "device", JOB, "speed", (json_int_t)limit), NULL,
                    error);
}

static void
space_watch_cold(Operation *op, Qmp *qmp, uint64_t done, uint64_t total)
{
    const WorkMap *work = merge_scratch(op)->work;
    uint64_t left = merge_has_leaf(op) || work == NULL ? total - MIN(done, total)
                                                       : work->total - work_below(work, done);
    g_autoptr(json_t) jobs = NULL;

    if (qmp_call(qmp, "query-block-jobs", NULL, &jobs, NULL))
        merge_watch_space(op, left, (uint64_t)json_number(json_array_get(jobs, 0), "speed"),
                          limit_job, qmp);
}

StepState
cold_look(Operation *op, GError **error)
{
    g_autoptr(Qmp) qmp = NULL;
    g_autofree char *status = NULL;
    g_autofree char *problem = NULL;
    uint64_t done = 0, total = 0;

    if (!find_daemon(op, &qmp, error))
        return STEP_UNKNOWN;
    if (qmp == NULL)
        return daemon_is_gone(op, error);
    if (!look_at_job(qmp, &status, &problem, &done, &total, error))
        return STEP_UNKNOWN;
    if (problem != NULL) {
        if (!merge_may_be_cold(op, error)) /* it was ended for that */
            return STEP_UNKNOWN;
        error_set(error, ERR_HYPERVISOR,
                  "disk %s: the merge failed: %s. No data were lost: the chain is as before",
                  op_data(op, "target"), problem);
        return STEP_FAILED;
    }
    if (status == NULL)
        return daemon_is_gone(op, error);
    show(op, done, total);
    if (g_str_equal(status, "running"))
        space_watch_cold(op, qmp, done, total);
    if (g_str_equal(status, "concluded") || g_str_equal(status, "ready"))
        return STEP_DONE;
    op->poll_ms = 20;
    return STEP_RUNNING;
}

/* ---- the end ---- */

/* Cancels a job that still runs (the chain stays as it was), and dismisses it. */
static bool
end_job(Qmp *qmp, int budget_ms, GError **error)
{
    int64_t until = clock_mono_us() + (int64_t)budget_ms * 1000;
    bool cancelled = false;

    for (;;) {
        g_autofree char *status = NULL;
        g_autofree char *problem = NULL;
        uint64_t done = 0, total = 0;
        if (!look_at_job(qmp, &status, &problem, &done, &total, error))
            return false;
        if (status == NULL)
            return true;
        if (g_str_equal(status, "concluded"))
            return qmp_call(qmp, "job-dismiss", json_pack("{s:s}", "id", JOB), NULL, error);
        g_autoptr(GError) refusal = NULL;
        cancelled =
            cancelled || qmp_call(qmp, "job-cancel", json_pack("{s:s}", "id", JOB), NULL, &refusal);
        /* refused: it has concluded since it was looked at */
        if (!cancelled && !g_error_matches(refusal, ERR, ERR_HYPERVISOR)) {
            g_propagate_error(error, g_steal_pointer(&refusal));
            return false;
        }
        if (clock_mono_us() > until)
            return error_set(error, ERR_TIMEOUT, "the storage daemon's merge does not end");
        g_usleep(1000);
    }
}

bool
cold_complete(Operation *op, GError **error)
{
    g_autoptr(Qmp) qmp = NULL;
    int64_t until = clock_mono_us() + 30 * G_TIME_SPAN_SECOND;
    bool asked = false;

    /* the daemon died, or had ended its job and nobody wrote that down: the same once more, which
     * finds everything copied */
    switch (cold_has_job(op, error)) {
    case STEP_TODO:
        if (!cold_start(op, error))
            return false;
        break;
    case STEP_DONE:
        break;
    case STEP_RUNNING:
    case STEP_FAILED:
    case STEP_UNKNOWN:
    case STEP_BACK:
    default:
        return false;
    }
    qmp = connect_daemon(op, error);
    while (qmp != NULL) {
        g_autofree char *status = NULL;
        g_autofree char *problem = NULL;
        uint64_t done = 0, total = 0;
        if (!look_at_job(qmp, &status, &problem, &done, &total, error))
            return false;
        if (problem != NULL || status == NULL)
            return error_set(error, ERR_HYPERVISOR, "disk %s: the merge failed: %s",
                             op_data(op, "target"), problem != NULL ? problem : "its job is gone");
        if (g_str_equal(status, "concluded"))
            return end_job(qmp, END_MS, error) && qmp_quit(qmp, END_MS, error);
        if (g_str_equal(status, "ready") && !asked) {
            if (!qmp_call(qmp, "job-complete", json_pack("{s:s}", "id", JOB), NULL, error))
                return false;
            asked = true;
        }
        if (clock_mono_us() > until)
            return error_set(error, ERR_TIMEOUT, "disk %s: the merge does not conclude",
                             op_data(op, "target"));
        g_usleep(1000);
    }
    return false;
}

/* NULL: there is none, but perhaps its socket. */
static bool
end_found(Qmp *qmp, const char *path, int budget_ms, GError **error)
{
    /* a job that is not dismissed keeps QEMU 7.2's storage daemon from quitting, for ever */
    if (qmp != NULL && (!end_job(qmp, budget_ms, error) || !qmp_quit(qmp, budget_ms, error)))
        return false;
    g_unlink(path);
    return true;
}

bool
cold_end_stray(const char *path, bool *ret_was_one, GError **error)
{
    g_autoptr(Qmp) qmp = NULL;

    *ret_was_one = false;
    if (!find_at(path, &qmp, error))
        return false;
    if (qmp != NULL && !qmp_is_spawned(qmp, path))
        return true; /* whatever it is: none of ours */
    *ret_was_one = qmp != NULL;
    return end_found(qmp, path, END_MS, error);
}

bool
cold_end(Agent *agent, const char *op_id, int budget_ms, GError **error)
{
    g_autofree char *path = cold_socket_path(agent, op_id);
    g_autoptr(Qmp) qmp = NULL;

    return find_at(path, &qmp, error) && end_found(qmp, path, budget_ms, error);
}

bool
cold_stop(Operation *op, GError **error)
{
    return cold_end(op->agent, op->row.id, END_MS, error);
}
