/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the manager counts, for GET /metrics: how jobs and merges ended, and how things are now.
 */
#include "flow/measure.h"

#include "flow/agent_call.h"
#include "flow/job_view.h"

static const double seconds_buckets[] = {
    0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 0
};
static const double pause_buckets[] = { 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 0 };

/* clang-format off */
static const MeterKind counted[] = {
    { "livemerge_jobs_ended_total", "counter", "Jobs that have ended, by kind and result.", NULL },
    { "livemerge_job_seconds", "histogram", "How long jobs took, by kind.", seconds_buckets },
    { "livemerge_merges_total", "counter", "Merges of one run of a disk that have ended, by strategy and result.", NULL },
    { "livemerge_merge_seconds_total", "counter", "Seconds that merges took; with the bytes: the rate.", NULL },
    { "livemerge_merge_planned_seconds_total", "counter", "Seconds that their plans had said.", NULL },
    { "livemerge_merge_bytes_total", "counter", "Bytes that merges copied, shared or wrote.", NULL },
    { "livemerge_pause_seconds", "histogram", "How long guests stood still, by why.", pause_buckets },
    { NULL },
};

static const MeterKind current[] = {
    { "livemerge_host_up", "gauge", "Does the host's agent answer?", NULL },
    { "livemerge_host_libvirt_up", "gauge", "And its libvirt?", NULL },
    { "livemerge_vms", "gauge", "Virtual machines, by host and status.", NULL },
    { "livemerge_chain_volumes", "gauge", "Volumes in a disk's chain.", NULL },
    { "livemerge_chain_bytes", "gauge", "Bytes that a disk's chain takes.", NULL },
    { "livemerge_snapshots", "gauge", "Snapshots of a virtual machine.", NULL },
    { "livemerge_snapshots_unusable", "gauge", "Of these, how many can only be deleted.", NULL },
    { "livemerge_snapshot_oldest_timestamp_seconds", "gauge", "When its oldest snapshot was taken.", NULL },
    { "livemerge_snapshot_newest_timestamp_seconds", "gauge", "When its newest snapshot was taken.", NULL },
    { "livemerge_jobs", "gauge", "Open jobs, by kind and state: running, waiting for somebody, paused.", NULL },
    { NULL },
};
/* clang-format on */

Meter *
measure_new(void)
{
    return meter_new(counted);
}

/* ---- what has ended ---- */

static double
real_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void
count_bytes(Meter *meter, const char *strategy, const json_t *result)
{
    static const char *const keys[] = { "copied", "shared", "written" };

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *key = g_strconcat("bytes_", keys[i], NULL);
        meter_add(meter, "livemerge_merge_bytes_total", real_of(result, key), "strategy", strategy,
                  "how", keys[i], NULL);
    }
}

static void
count_pauses(Meter *meter, const json_t *result)
{
    json_t *pause;
    size_t i;

    json_array_foreach (json_object_get(result, "pauses"), i, pause)
        meter_add(meter, "livemerge_pause_seconds", real_of(pause, "milliseconds") / 1000, "kind",
                  json_text(pause, "kind"), NULL);
}

static void
count_merge(Meter *meter, const FlowRow *row)
{
    const json_t *result = call_result(row->data, "merge");
    const char *strategy = json_text(result, "strategy");

    if (strategy == NULL)
        strategy = json_text(row->params, "strategy");
    meter_add(meter, "livemerge_merges_total", 1, "strategy", strategy, "result",
              job_row_status(row, false), NULL);
    if (result == NULL)
        return;
    meter_add(meter, "livemerge_merge_seconds_total", real_of(result, "seconds"), "strategy",
              strategy, NULL);
    meter_add(meter, "livemerge_merge_planned_seconds_total", real_of(row->params, "seconds"),
              "strategy", strategy, NULL);
    count_bytes(meter, strategy, result);
    count_pauses(meter, result);
}

void
measure_ended(Meter *meter, const FlowRow *row)
{
    if (row->ended == 0)
        return;
    if (g_str_equal(row->kind, "merge-run"))
        count_merge(meter, row);
    if (row->parent != NULL)
        return;
    if (g_str_equal(row->kind, "create-snapshot"))
        count_pauses(meter, call_result(row->data, "create"));
    meter_add(meter, "livemerge_jobs_ended_total", 1, "kind", row->kind, "result",
              job_row_status(row, false), NULL);
    meter_add(meter, "livemerge_job_seconds", (double)(row->ended - row->created) / 1000, "kind",
              row->kind, NULL);
}

/* ---- how it is now ---- */

static void
measure_disks(Meter *now, const Vm *vm)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        double bytes = 0;

        if (!disk_is_managed(disk))
            continue;
        for (guint v = 0; v < disk->volumes->len; v++)
            bytes += (double)((const Volume *)disk->volumes->pdata[v])->allocated;
        meter_add(now, "livemerge_chain_volumes", disk->volumes->len, "host", vm->host, "vm",
                  vm->name, "disk", disk->target, NULL);
        meter_add(now, "livemerge_chain_bytes", bytes, "host", vm->host, "vm", vm->name, "disk",
                  disk->target, NULL);
    }
}

static void
measure_snapshots(Meter *now, const Vm *vm)
{
    int64_t oldest = G_MAXINT64, newest = 0;
    unsigned unusable = 0;

    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        oldest = MIN(oldest, snapshot->date);
        newest = MAX(newest, snapshot->date);
        unusable += snapshot_is_unusable(snapshot);
    }
    meter_add(now, "livemerge_snapshots", vm->snapshots->len, "host", vm->host, "vm", vm->name,
              NULL);
    meter_add(now, "livemerge_snapshots_unusable", unusable, "host", vm->host, "vm", vm->name,
              NULL);
    if (vm->snapshots->len == 0)
        return;
    meter_add(now, "livemerge_snapshot_oldest_timestamp_seconds", (double)oldest / 1000, "host",
              vm->host, "vm", vm->name, NULL);
    meter_add(now, "livemerge_snapshot_newest_timestamp_seconds", (double)newest / 1000, "host",
              vm->host, "vm", vm->name, NULL);
}

static void
measure_vms(Manager *m, Meter *now)
{
    g_autoptr(GPtrArray) vms = manager_vms(m);

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        meter_add(now, "livemerge_vms", 1, "host", vm->host, "status", vm_state_word(vm->state),
                  NULL);
        measure_disks(now, vm);
        measure_snapshots(now, vm);
    }
}

static void
measure_hosts(Manager *m, Meter *now)
{
    g_autoptr(GPtrArray) hosts = manager_hosts(m);

    for (guint i = 0; i < hosts->len; i++) {
        const HostInfo *host = hosts->pdata[i];
        meter_add(now, "livemerge_host_up", host->up, "host", host->name, NULL);
        meter_add(now, "livemerge_host_libvirt_up", host->up && host->connected, "host", host->name,
                  NULL);
    }
}

static bool
measure_jobs(Manager *m, Meter *now, GError **error)
{
    g_autoptr(json_t) jobs = manager_jobs(m, true, error);
    json_t *job;
    size_t i;

    if (jobs == NULL)
        return false;
    json_array_foreach (jobs, i, job) {
        const char *state = json_text(job, "attention") != NULL     ? "paused"
                            : json_text(job, "waiting_for") != NULL ? "waiting"
                                                                    : "running";
        meter_add(now, "livemerge_jobs", 1, "kind", json_text(job, "kind"), "state", state, NULL);
    }
    return true;
}

bool
manager_measure(Manager *m, GString *into, GError **error)
{
    g_autoptr(Meter) now = meter_new(current);

    measure_hosts(m, now);
    measure_vms(m, now);
    if (!measure_jobs(m, now, error))
        return false;
    meter_write(m->meter, into);
    meter_write(now, into);
    return true;
}
