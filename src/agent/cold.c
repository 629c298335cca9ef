/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging while the VM is off: a block-commit job in a qemu-storage-daemon of our own.
 *
 * The daemon outlives the agent (it holds QEMU's image locks, so that the VM cannot start beneath
 * it) and is found again by its socket, whose name is made from the operation's id. It is told the
 * whole chain explicitly: nothing is probed. An internal commit relinks the header of the volume
 * above by itself; a commit of the leaf becomes ready, is completed, and then the definition is
 * pointed at the base. Until then the definition names the old leaf, whose content is the same at
 * every instant.
 */
#include "agent/merge.h"

#include "agent/qmp.h"
#include "base/fault.h"
#include "base/log.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>

#define JOB "merge"

static char *
socket_path(const Operation *op)
{
    return g_strdup_printf("%s/cold-%.8s.sock", op->agent->run_dir, op->row.id);
}

static Qmp *
connect_daemon(const Operation *op, GError **error)
{
    g_autofree char *path = socket_path(op);

    return qmp_open(path, error);
}

/* True if it is known: then *ret_qmp is NULL if there is no daemon. One that does not answer may
 * still be merging. */
static bool
find_daemon(const Operation *op, Qmp **ret_qmp, GError **error)
{
    g_autoptr(GError) problem = NULL;

    *ret_qmp = connect_daemon(op, &problem);
    if (*ret_qmp != NULL || g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
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
    g_autofree char *path = socket_path(op);
    g_autofree char *chardev = g_strdup_printf("socket,id=m,path=%s,server=on,wait=off", path);
    g_autoptr(GSubprocess) process = NULL;
    g_autoptr(GError) problem = NULL;

    if (g_unlink(path) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing the stale %s", path);
    /* --daemonize: it returns when the socket listens */
    process = g_subprocess_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE, &problem, "qemu-storage-daemon",
                               "--chardev", chardev, "--monitor", "chardev=m", "--daemonize", NULL);
    if (process == NULL || !g_subprocess_wait_check(process, NULL, &problem))
        return error_set(error, ERR_HYPERVISOR, "qemu-storage-daemon could not be started: %s",
                         problem->message);
    return true;
}

static bool
add_layer(Qmp *qmp, unsigned i, const Qcow2Layer *layer, GError **error)
{
    g_autofree char *node = g_strdup_printf("v%u", i);
    g_autofree char *below = i > 0 ? g_strdup_printf("v%u", i - 1) : NULL;
    json_t *arguments = json_pack("{s:s, s:s, s:b, s:s, s:{s:s, s:s}}", "driver", layer->format,
                                  "node-name", node, "read-only", 1, "discard", "unmap", "file",
                                  "driver", "file", "filename", layer->path);

    if (g_str_equal(layer->format, "qcow2"))
        json_object_set_new(arguments, "backing", below != NULL ? json_string(below) : json_null());
    return qmp_call(qmp, "blockdev-add", arguments, NULL, error);
}

static bool
start_job(Operation *op, Qmp *qmp, GPtrArray *layers, GError **error)
{
    json_t *run = json_object_get(op->row.data, "run");
    const char *base = json_string_value(json_array_get(run, 0)),
               *top = json_string_value(json_array_get(run, json_array_size(run) - 1));
    int64_t limit = json_number(op->row.params, "bandwidth");
    g_autofree char *base_node = NULL;
    g_autofree char *top_node = NULL;
    g_autofree char *leaf_node = g_strdup_printf("v%u", layers->len - 1);
    const char *above = NULL;

    for (guint i = 0; i < layers->len; i++) {
        const char *path = ((Qcow2Layer *)layers->pdata[i])->path;
        if (g_str_equal(path, base))
            base_node = g_strdup_printf("v%u", i);
        if (g_str_equal(path, top)) {
            top_node = g_strdup_printf("v%u", i);
            above = i + 1 < layers->len ? ((Qcow2Layer *)layers->pdata[i + 1])->path : NULL;
        }
    }
    if (base_node == NULL || top_node == NULL)
        return error_set(error, ERR_REFUSED, "disk %s: the chain has changed",
                         op_data(op, "target"));
    json_t *arguments =
        json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "job-id", JOB, "device", leaf_node, "top-node",
                  top_node, "base-node", base_node, "auto-dismiss", 0, "auto-finalize", 1);
    if (limit > 0)
        json_object_set_new(arguments, "speed", json_integer(limit));
    if (above != NULL) {
        g_autofree char *name = relative_name(above, base);
        json_object_set_new(arguments, "backing-file", json_string(name));
    }
    return qmp_call(qmp, "block-commit", arguments, NULL, error);
}

bool
cold_start(Operation *op, GError **error)
{
    json_t *before = json_object_get(op->row.data, "before");
    const char *leaf = json_string_value(json_array_get(before, json_array_size(before) - 1));
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(leaf, "qcow2", NULL, error);
    g_autoptr(Qmp) qmp = NULL;
    g_autoptr(HvDomain) hv = NULL;

    /* a daemon without a job, of an agent that died on the way here, goes first */
    if (layers == NULL || !cold_stop(op, error) || !spawn(op, error) ||
        (qmp = connect_daemon(op, error)) == NULL)
        return false;
    bool ok = true;
    for (guint i = 0; ok && i < layers->len; i++)
        ok = add_layer(qmp, i, layers->pdata[i], error);
    ok = ok && start_job(op, qmp, layers, error);
    /* from here on QEMU's locks keep the VM from starting: was it still off? */
    if (ok && (hv = op_hv(op, error)) == NULL)
        ok = false;
    if (ok && hv->instance != NULL)
        ok = error_set(error, ERR_REFUSED, "VM '%s' has started: nothing was merged, delete again",
                       hv->name);
    g_clear_pointer(&qmp, qmp_close); /* the monitor serves one at a time */
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
    if (merge_has_leaf(op)) {
        operation_progress(op, "copying", done, total);
        op_remember(op, "bytes", json_integer((json_int_t)total));
    } else if (merge_scratch(op)->work != NULL) {
        operation_progress(op, "copying", work_below(merge_scratch(op)->work, done),
                           merge_scratch(op)->work->total);
    }
}

static StepState
daemon_is_gone(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);
    ChainState state;

    if (hv == NULL || !merge_chain_state(op, hv, &state, error))
        return STEP_UNKNOWN;
    if (state == CHAIN_AFTER)
        return STEP_DONE;
    error_set(error, ERR_HYPERVISOR,
              "VM '%s', disk %s: the storage daemon that merged it is gone. No data were lost: its "
              "chain is as "
              "before; delete the snapshot again",
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
        error_set(error, ERR_HYPERVISOR,
                  "disk %s: the merge failed: %s. No data were lost: the chain is as before",
                  op_data(op, "target"), problem);
        return STEP_FAILED;
    }
    if (status == NULL)
        return daemon_is_gone(op, error);
    show(op, done, total);
    if (g_str_equal(status, "concluded") || g_str_equal(status, "ready"))
        return STEP_DONE;
    op->poll_ms = 20;
    return STEP_RUNNING;
}

/* ---- the leaf takes part ---- */

StepState
cold_pivot_check(Operation *op, GError **error)
{
    if (!merge_has_leaf(op) || json_object_get(op->row.data, "pivoted") != NULL)
        return STEP_DONE;
    return STEP_TODO;
}

/* Cancels a job that still runs (the chain stays as it was), and dismisses it. */
static bool
end_job(Operation *op, Qmp *qmp, GError **error)
{
    int64_t until = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
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
        if (!cancelled && !qmp_call(qmp, "job-cancel", json_pack("{s:s}", "id", JOB), NULL, error))
            return false;
        cancelled = true;
        if (g_get_monotonic_time() > until)
            return error_set(error, ERR_TIMEOUT, "disk %s: the merge does not end",
                             op_data(op, "target"));
        g_usleep(1000);
    }
}

static bool
complete(Operation *op, GError **error)
{
    g_autoptr(Qmp) qmp = NULL;
    int64_t until = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;
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
            return end_job(op, qmp, error) && qmp_quit(qmp, 10000, error);
        if (g_str_equal(status, "ready") && !asked) {
            if (!qmp_call(qmp, "job-complete", json_pack("{s:s}", "id", JOB), NULL, error))
                return false;
            asked = true;
        }
        if (g_get_monotonic_time() > until)
            return error_set(error, ERR_TIMEOUT, "disk %s: the merge does not conclude",
                             op_data(op, "target"));
        g_usleep(1000);
    }
    return false;
}

static bool
point_at(Operation *op, const char *path, const char *format, GError **error)
{
    const char *targets[] = { op_data(op, "target") }, *sources[] = { path },
               *formats[] = { format };
    Hypervisor *hv = op->agent->hv;

    return hv->ops->redefine(hv, op->row.vm_id, targets, sources, formats, 1, error);
}

bool
cold_pivot(Operation *op, GError **error)
{
    json_t *before = json_object_get(op->row.data, "before");
    const char *old_leaf = json_string_value(json_array_get(before, json_array_size(before) - 1));
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;

    if (json_object_get(op->row.data, "completed") == NULL) {
        if (!complete(op, error))
            return false;
        op_remember(op, "completed", json_true());
        if (!volume_sync(merge_new_leaf(op), error) || !operation_save(op, error))
            return false;
    }
    if ((hv = op_hv(op, error)) == NULL || !merge_chain_state(op, hv, &state, error))
        return false;
    if (hv->instance == NULL && state == CHAIN_BEFORE &&
        (!fault_point("agent.cold.before-redefine", error) ||
         !point_at(op, merge_new_leaf(op), op_data(op, "base_format"), error)))
        return false;
    g_clear_pointer(&hv, hv_domain_free);
    if ((hv = op_hv(op, error)) == NULL || !merge_chain_state(op, hv, &state, error))
        return false;
    if (state == CHAIN_BEFORE) {
        /* it was started on its old leaf in between: that leaf is the truth now */
        point_at(op, old_leaf, "qcow2", NULL);
        return error_set(
            error, ERR_REFUSED,
            "VM '%s' was started while disk %s was being merged; it runs on its old chain, nothing "
            "was lost: delete the snapshot again",
            hv->name, op_data(op, "target"));
    }
    if (!merge_save_chain(op, false, error))
        return false;
    op_remember(op, "pivoted", json_true());
    return operation_save(op, error);
}

/* ---- the end ---- */

bool
cold_stop(Operation *op, GError **error)
{
    g_autoptr(Qmp) qmp = NULL;
    g_autofree char *path = socket_path(op);

    if (!find_daemon(op, &qmp, error))
        return false;
    if (qmp == NULL) {
        g_unlink(path);
        return true;
    }
    /* a job that is not dismissed keeps QEMU 7.2's storage daemon from quitting, for ever */
    if (!end_job(op, qmp, error) || !qmp_quit(qmp, 10000, error))
        return false;
    g_unlink(path);
    return true;
}
