/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libvirtd: the functions of hypervisor/hypervisor.h on the simulated QEMU.
 *
 * A call that changes something is done by a fiber of libvirtd, so it goes on when its caller dies.
 * What libvirtd knows of a running VM is in its memory (live), in its status file, and in the
 * persistent definition, which it writes one after the other; killed in between, it comes back
 * with the status file and does not look at QEMU's graph, only at its jobs.
 */
#include "world.h"

#include "hook/hook.h"

#include <string.h>

#define DELAY_US 1000

typedef struct {
    Hypervisor hypervisor; /* must be first */
    HvEventFunc each;
    void *data;
    bool connected, told; /* told: CONNECTED was sent */
    GQueue events;        /* of Event */
} Client;

typedef struct {
    HvEventKind kind;
    HvJobStatus status;
    char disk[8];
    int64_t at_us;
} Event;

typedef struct Call {
    bool (*func)(struct Call *call, GError **error);
    SimDisk *disk;
    const char *base, *top;
    uint64_t bandwidth;
    HvJobType type;
    const HvSnapshotDisk *disks;
    const char *memory;
    const char *const *targets, *const *sources;
    unsigned n;
    bool done, ok;
    GError *error;
} Call;

static Client *client; /* the agent's */
static GPtrArray *calls;
static unsigned busy_answers;

/* ---- events ---- */

static void
send_event(HvEventKind kind, const char *disk, HvJobStatus status)
{
    if (client == NULL || !client->connected || !vm.libvirtd || world_lies(LIE_LOST_EVENTS, 30))
        return;
    Event *event = g_new0(Event, 1);
    event->kind = kind;
    event->status = status;
    event->at_us = fiber_now_us() + 100 +
                   (world_lies(LIE_LATE_EVENTS, 40) ? (int64_t)fiber_below(2000000) : 0);
    g_strlcpy(event->disk, disk != NULL ? disk : "", sizeof event->disk);
    g_queue_push_tail(&client->events, event);
    fiber_wake(client, true);
}

static void
deliver(Client *self, const Event *event)
{
    HvEvent hv = { .kind = event->kind, .vm_id = vm.id, .job_status = event->status };

    if (event->kind == HV_EVENT_BLOCK_JOB)
        hv.disk = event->disk;
    if (event->status == HV_JOB_FAILED)
        hv.reason = "No luck";
    fiber_point("event of libvirt");
    self->each(&hv, self->data);
}

/* A fiber of the agent, as libvirt's event thread is. */
static void
client_loop(void *data)
{
    Client *self = data;

    for (;;) {
        if (vm.libvirtd && !self->connected) {
            fiber_sleep_us(5000 + (int64_t)fiber_below(100000));
            if (!vm.libvirtd)
                continue;
            self->connected = true;
            self->each(&(HvEvent){ .kind = HV_EVENT_CONNECTED }, self->data);
        } else if (!vm.libvirtd && self->connected) {
            self->connected = false;
            g_queue_clear_full(&self->events, g_free);
            self->each(&(HvEvent){ .kind = HV_EVENT_DISCONNECTED }, self->data);
        }
        Event *event = g_queue_peek_head(&self->events);
        if (event == NULL) {
            fiber_wait_on(self, vm.libvirtd && self->connected ? -1 : fiber_now_us() + 100000);
        } else if (event->at_us > fiber_now_us()) {
            fiber_wait_on(self, event->at_us);
        } else {
            g_queue_pop_head(&self->events);
            deliver(self, event);
            g_free(event);
        }
    }
}

void
libvirt_client_died(void)
{
    client = NULL; /* its heap is lost */
}

/* ---- asking ---- */

static bool
unreachable(GError **error)
{
    return error_set(error, ERR_UNREACHABLE, "libvirt is not connected");
}

static bool
reach(Client *self, const char *what, GError **error)
{
    fiber_point(what);
    while (vm.in_hook && vm.libvirtd)
        fiber_sleep_us(2000); /* libvirt holds the domain while its hook runs */
    if (!vm.libvirtd || !self->connected)
        return unreachable(error);
    return true;
}

static bool
op_is_connected(Hypervisor *hv)
{
    return ((Client *)hv)->connected;
}

static char **
op_list(Hypervisor *hv, GError **error)
{
    if (!reach((Client *)hv, "libvirt list", error))
        return NULL;
    char *ids[] = { vm.id, NULL };
    return g_strdupv(ids);
}

static VmState
state_now(void)
{
    if (vm.starting)
        return VM_UP; /* no instance yet */
    return !vm.runs ? VM_DOWN : vm.paused ? VM_PAUSED : VM_UP;
}

static GPtrArray *
copy_backing(const GPtrArray *from)
{
    GPtrArray *to = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; from != NULL && i < from->len; i++)
        g_ptr_array_add(to, g_strdup(from->pdata[i]));
    return to;
}

static HvDisk *
disk_new_of(const SimDisk *disk, const char *source)
{
    HvDisk *hv = g_new0(HvDisk, 1);

    hv->target = g_strdup(disk->target);
    hv->bus = g_strdup("virtio");
    hv->device = g_strdup("disk");
    hv->type = g_strdup("file");
    hv->format = g_strdup(g_str_has_suffix(source, ".raw") ? "raw" : "qcow2");
    hv->source = g_strdup(source);
    return hv;
}

static HvDisk *
live_disk(const SimDisk *disk)
{
    const View *view = &disk->live;
    HvDisk *hv = disk_new_of(disk, view->source);

    hv->backing = copy_backing(view->backing);
    hv->backing_terminated = true;
    if (*view->mirror_path == '\0')
        return hv;
    hv->mirror_job = g_strdup(view->mirror_job);
    hv->mirror_path = g_strdup(view->mirror_path);
    hv->mirror_ready = *view->mirror_ready != '\0' ? g_strdup(view->mirror_ready) : NULL;
    return hv;
}

static HvDisk *
defined_disk(const SimDisk *disk)
{
    HvDisk *hv = disk_new_of(disk, disk->defined);

    if (disk->defined_backing != NULL)
        hv->backing = copy_backing(disk->defined_backing);
    return hv;
}

static HvDomain *
op_look(Hypervisor *hv, const char *vm_id, GError **error)
{
    if (!reach((Client *)hv, "libvirt look", error))
        return NULL;
    if (strcmp(vm_id, vm.id) != 0) {
        error_set(error, ERR_NOT_FOUND, "no domain %s", vm_id);
        return NULL;
    }
    HvDomain *domain = hv_domain_new();
    domain->id = g_strdup(vm.id);
    domain->name = g_strdup(vm.name);
    domain->state = state_now();
    domain->persistent = true;
    domain->memory = 1 << 28;
    domain->vcpus = 1;
    domain->instance = vm.runs ? g_strdup(vm.instance) : NULL;
    domain->xml = g_strdup("<domain/>");
    domain->inactive_xml = g_strdup("<domain/>");
    if (domain->disks == NULL)
        domain->disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    if (domain->inactive == NULL)
        domain->inactive = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    for (unsigned i = 0; i < vm.n_disks && !mutant_is_blind(); i++) {
        g_ptr_array_add(domain->disks,
                        vm.runs ? live_disk(&vm.disks[i]) : defined_disk(&vm.disks[i]));
        g_ptr_array_add(domain->inactive, defined_disk(&vm.disks[i]));
    }
    return domain;
}

static bool
op_foreign_job(Hypervisor *hv, const char *vm_id, char **ret_job, GError **error)
{
    (void)vm_id;
    *ret_job = NULL;
    return reach((Client *)hv, "libvirt job info", error);
}

static bool
op_job_look(Hypervisor *hv, const char *vm_id, const char *target, HvJob *ret_job, GError **error)
{
    SimDisk *disk = qemu_disk(target);

    (void)vm_id;
    *ret_job = (HvJob){ .type = HV_JOB_NONE };
    if (!reach((Client *)hv, "libvirt block job info", error))
        return false;
    if (disk == NULL)
        return error_set(error, ERR_HYPERVISOR, "no disk %s", target);
    const Job *job = &disk->job;
    if (!vm.runs || job->type == HV_JOB_NONE || job->state == JOB_CONCLUDED)
        return true;
    if (fiber_now_us() - job->began_us < 200000 && world_lies(LIE_NO_JOB, 20))
        return true;
    *ret_job = (HvJob){ .type = job->type,
                        .current = job->current,
                        .end = job->end,
                        .bandwidth = job->bandwidth };
    return true;
}

/* ---- doing ---- */

static void
run_call(void *data)
{
    Call *call = data;

    fiber_sleep_us(DELAY_US);
    while (vm.in_hook)
        fiber_sleep_us(2000);
    if (world_lies(LIE_REFUSES, 5))
        error_set(&call->error, fiber_chance(50) ? ERR_HYPERVISOR : ERR_BUSY, "no, says libvirt");
    else
        call->ok = call->func(call, &call->error);
    bool lost = world_lies(LIE_ERROR, 10), wrong = world_lies(LIE_WRONG_ERROR, 10);
    if (call->ok && (lost || wrong)) {
        world_trace("an error is answered though it was done");
        call->ok = false;
        error_set(&call->error, wrong ? ERR_HYPERVISOR : ERR_UNREACHABLE,
                  "an error for a deed that was done");
    }
    call->done = true;
    fiber_wake(call, true);
}

/* The call belongs to libvirtd: it is never freed, since the caller may die. */
static bool
do_call(Client *self, const char *what, const Call *wanted, GError **error)
{
    if (!reach(self, what, error))
        return false;
    Call *call = g_new0(Call, 1);
    *call = *wanted;
    g_ptr_array_add(calls, call);
    fiber_start(P_LIBVIRTD, what, run_call, call);
    while (!call->done)
        fiber_wait_on(call, -1);
    fiber_point("answer of libvirt");
    if (call->error != NULL)
        g_propagate_error(error, call->error);
    world_trace("libvirt: %s: %s", what, call->ok ? "done" : (*error)->message);
    return call->ok;
}

static bool
needs_running(GError **error)
{
    return vm.runs || error_set(error, ERR_HYPERVISOR, "domain is not running");
}

static void
save_status(SimDisk *disk)
{
    View *from = &disk->live, *to = &disk->status;

    if (to->backing != NULL)
        g_ptr_array_unref(to->backing);
    *to = *from;
    to->backing = copy_backing(from->backing);
}

static void
show_graph(SimDisk *disk)
{
    View *view = &disk->live;

    g_strlcpy(view->source, ((Node *)disk->graph->pdata[0])->path, sizeof view->source);
    if (view->backing != NULL)
        g_ptr_array_unref(view->backing);
    view->backing = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 1; i < disk->graph->len; i++)
        g_ptr_array_add(view->backing, g_strdup(((Node *)disk->graph->pdata[i])->path));
}

static void
show_no_mirror(SimDisk *disk)
{
    *disk->live.mirror_job = *disk->live.mirror_path = *disk->live.mirror_ready = '\0';
}

static void
define(SimDisk *disk, const char *source)
{
    if (strcmp(disk->defined, source) == 0 && disk->defined_backing == NULL)
        return;
    if (fiber_now_us() - disk->defined_us > 5 * G_TIME_SPAN_SECOND)
        g_strlcpy(disk->defined_durable, disk->defined, sizeof disk->defined_durable);
    disk->defined_us = fiber_now_us();
    g_strlcpy(disk->defined, source, sizeof disk->defined);
    if (disk->defined_backing != NULL)
        g_ptr_array_unref(disk->defined_backing);
    disk->defined_backing = NULL;
    world_trace("the definition of %s names %s", disk->target, source);
}

/* libvirt knows of a job that has ended: the views follow, and it is dismissed. */
static void
conclude_job(SimDisk *disk)
{
    HvJobType type = disk->job.type;
    HvJobStatus outcome = disk->job.outcome;
    unsigned life = vm.life;

    if (type == HV_JOB_NONE || disk->job.state != JOB_CONCLUDED)
        return;
    if (disk->concluding)
        return;
    disk->concluding = true;
    show_no_mirror(disk);
    if (outcome == HV_JOB_COMPLETED)
        show_graph(disk);
    if ((plan.lies & LIE_FORGETS) != 0)
        qemu_dismiss(disk);
    fiber_point("libvirt saves its status");
    if (!vm.runs || vm.life != life)
        return;
    save_status(disk);
    qemu_dismiss(disk);
    disk->concluding = false;
    fiber_point("libvirt saves the definition");
    if (outcome == HV_JOB_COMPLETED && type != HV_JOB_COMMIT && vm.runs && vm.life == life)
        define(disk, disk->live.source);
    send_event(HV_EVENT_BLOCK_JOB, disk->target, outcome);
}

typedef struct {
    SimDisk *disk;
    HvJobStatus status;
    unsigned life;
} JobEvent;

static void
handle_job_event(void *data)
{
    JobEvent *event = data;
    SimDisk *disk = event->disk;

    fiber_sleep_us(200 + (int64_t)fiber_below(5000)); /* libvirt lags */
    if (!vm.runs || vm.life != event->life)
        return;
    if (event->status != HV_JOB_READY) {
        conclude_job(disk);
    } else if (*disk->live.mirror_path != '\0' && disk->job.state == JOB_READY) {
        g_strlcpy(disk->live.mirror_ready, "yes", sizeof disk->live.mirror_ready);
        save_status(disk);
        send_event(HV_EVENT_BLOCK_JOB, disk->target, HV_JOB_READY);
    }
}

void
libvirt_job_event(SimDisk *disk, HvJobStatus status)
{
    if (!vm.libvirtd)
        return;
    JobEvent *event = g_new0(JobEvent, 1);
    *event = (JobEvent){ disk, status, vm.life };
    fiber_start(P_LIBVIRTD, "job event", handle_job_event, event);
}

void
libvirt_vm_stopped(void)
{
    for (unsigned i = 0; i < vm.n_disks; i++) {
        show_no_mirror(&vm.disks[i]);
        vm.disks[i].concluding = false;
    }
    send_event(HV_EVENT_DOMAIN, NULL, 0);
}

static bool
do_job(Call *call, GError **error)
{
    SimDisk *disk = call->disk;
    const char *top = call->top;

    if (!needs_running(error))
        return false;
    if (disk->job.type != HV_JOB_NONE)
        return error_set(error, ERR_BUSY, "disk '%s' already in active block job", disk->target);
    const Node *leaf = disk->graph->pdata[0];
    if (strcmp(disk->live.source, leaf->path) != 0)
        return error_set(error, ERR_HYPERVISOR, "could not find base image");
    if (call->type != HV_JOB_COPY && (graph_find(disk, call->base, NULL) == NULL ||
                                      (top != NULL && graph_find(disk, top, NULL) == NULL)))
        return error_set(error, ERR_HYPERVISOR, "could not find image in chain");
    if (call->type == HV_JOB_COPY && vfs_find(call->base) == NULL)
        return error_set(error, ERR_HYPERVISOR, "missing existing file");
    /* first in the status file, then in QEMU */
    if (call->type != HV_JOB_COMMIT) {
        g_strlcpy(disk->live.mirror_path, call->base, sizeof disk->live.mirror_path);
        g_strlcpy(disk->live.mirror_job,
                  call->type == HV_JOB_COPY ? "copy" : "active-commit",
                  sizeof disk->live.mirror_job);
    }
    save_status(disk);
    fiber_point("libvirt has saved its status");
    if (!needs_running(error))
        return false;
    qemu_job_start(disk, call->type, call->base, top);
    disk->job.bandwidth = call->bandwidth;
    fiber_point("libvirt has started the job");
    return true;
}

static SimDisk *
find_disk(const char *target, GError **error)
{
    SimDisk *disk = qemu_disk(target);

    if (disk == NULL)
        error_set(error, ERR_HYPERVISOR, "no disk %s", target);
    return disk;
}

static bool
op_commit_start(Hypervisor *hv, const char *vm_id, const char *target, const char *base,
                const char *top, uint64_t bandwidth, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL &&
           do_call((Client *)hv, top != NULL ? "commit" : "active commit",
                   &(Call){ .func = do_job,
                            .disk = disk,
                            .type = top != NULL ? HV_JOB_COMMIT : HV_JOB_ACTIVE_COMMIT,
                            .base = g_strdup(base),
                            .top = g_strdup(top),
                            .bandwidth = bandwidth },
                   error);
}

static bool
op_copy_start(Hypervisor *hv, const char *vm_id, const char *target, const char *dest, bool shallow,
              uint64_t bandwidth, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    g_assert(shallow);
    return disk != NULL && do_call((Client *)hv, "copy",
                                   &(Call){ .func = do_job,
                                            .disk = disk,
                                            .type = HV_JOB_COPY,
                                            .base = g_strdup(dest),
                                            .bandwidth = bandwidth },
                                   error);
}

static bool
do_set_bandwidth(Call *call, GError **error)
{
    Job *job = &call->disk->job;

    if (!needs_running(error))
        return false;
    if (job->type == HV_JOB_NONE || job->state == JOB_CONCLUDED)
        return error_set(error, ERR_HYPERVISOR, "no active block job");
    job->bandwidth = call->bandwidth;
    fiber_wake(job, true);
    return true;
}

static bool
op_set_bandwidth(Hypervisor *hv, const char *vm_id, const char *target, uint64_t bandwidth,
                 GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL &&
           do_call((Client *)hv, "set speed",
                   &(Call){ .func = do_set_bandwidth, .disk = disk, .bandwidth = bandwidth },
                   error);
}

/* Waits for QEMU to have ended the job, and does what follows. */
static bool
end_of_job(SimDisk *disk, unsigned number, unsigned life, GError **error)
{
    while (vm.runs && vm.life == life && disk->job.number == number &&
           disk->job.state != JOB_CONCLUDED)
        fiber_wait_on(&disk->job, fiber_now_us() + 1000);
    if (!vm.runs || vm.life != life)
        return error_set(error, ERR_HYPERVISOR, "domain is not running");
    if (disk->job.number == number)
        conclude_job(disk);
    while (disk->concluding && vm.runs && vm.life == life)
        fiber_sleep_us(100);
    return true;
}

static bool
do_cancel(Call *call, GError **error)
{
    Job *job = &call->disk->job;
    unsigned number = job->number;

    if (!needs_running(error))
        return false;
    if (job->type == HV_JOB_NONE)
        return true;
    job->cancel = true;
    fiber_wake(job, true);
    return end_of_job(call->disk, number, vm.life, error);
}

static bool
op_cancel(Hypervisor *hv, const char *vm_id, const char *target, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL && do_call((Client *)hv, "cancel the job",
                                   &(Call){ .func = do_cancel, .disk = disk }, error);
}

static bool
do_pivot(Call *call, GError **error)
{
    SimDisk *disk = call->disk;
    Job *job = &disk->job;
    unsigned number = job->number, life = vm.life;

    if (!needs_running(error))
        return false;
    if (job->type == HV_JOB_NONE)
        return error_set(error, ERR_HYPERVISOR, "no active block job");
    if (strcmp(disk->live.mirror_ready, "yes") != 0 || (world_lies(LIE_BUSY, 30) && busy_answers++ < 20))
        return error_set(error, ERR_BUSY, "not ready for pivot yet");
    g_strlcpy(disk->live.mirror_ready, "pivot", sizeof disk->live.mirror_ready);
    save_status(disk);
    fiber_point("libvirt pivots");
    if (job->number != number)
        return error_set(error, ERR_HYPERVISOR, "the block job is gone");
    job->pivot = true;
    fiber_wake(job, true);
    if (!end_of_job(disk, number, life, error))
        return false;
    fiber_point("libvirt has pivoted");
    return true;
}

static bool
op_pivot(Hypervisor *hv, const char *vm_id, const char *target, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL &&
           do_call((Client *)hv, "pivot", &(Call){ .func = do_pivot, .disk = disk }, error);
}

static bool
do_suspend(Call *call, GError **error)
{
    (void)call;
    if (!needs_running(error))
        return false;
    if (plan.mutant != MUTANT_NO_SUSPEND)
        qemu_suspend();
    fiber_point("the VM is suspended");
    send_event(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

static bool
op_suspend(Hypervisor *hv, const char *vm_id, GError **error)
{
    (void)vm_id;
    return do_call((Client *)hv, "suspend", &(Call){ .func = do_suspend }, error);
}

static bool
do_resume(Call *call, GError **error)
{
    (void)call;
    if (!needs_running(error))
        return false;
    if (vm.user_paused && vm.paused)
        world_wrong("a VM that its user had suspended was resumed");
    qemu_resume();
    fiber_point("the VM is resumed");
    send_event(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

static bool
op_resume(Hypervisor *hv, const char *vm_id, GError **error)
{
    (void)vm_id;
    return do_call((Client *)hv, "resume", &(Call){ .func = do_resume }, error);
}

static bool
do_snapshot(Call *call, GError **error)
{
    unsigned life = vm.life;

    if (!needs_running(error))
        return false;
    for (unsigned i = 0; i < call->n; i++) {
        SimDisk *disk = qemu_disk(call->disks[i].target);
        if (disk == NULL || vfs_find(call->disks[i].overlay) == NULL)
            return error_set(error, ERR_HYPERVISOR, "missing existing file");
        if (disk->job.type != HV_JOB_NONE)
            return error_set(error, ERR_BUSY, "disk already in active block job");
        if (strcmp(((Node *)disk->graph->pdata[0])->path, disk->live.source) != 0)
            return error_set(error, ERR_HYPERVISOR, "Duplicate nodes");
    }
    fiber_point("libvirt takes the snapshot");
    if (!needs_running(error))
        return false;
    if (!qemu_snapshot(call->disks, call->n))
        return error_set(error, ERR_HYPERVISOR, "the transaction failed");
    fiber_point("QEMU has switched to the overlays");
    if (!vm.runs || vm.life != life)
        return error_set(error, ERR_HYPERVISOR, "domain is not running");
    for (unsigned i = 0; i < call->n; i++) {
        show_graph(qemu_disk(call->disks[i].target));
        save_status(qemu_disk(call->disks[i].target));
    }
    fiber_point("libvirt saves the definition");
    for (unsigned i = 0; i < call->n; i++)
        define(qemu_disk(call->disks[i].target), call->disks[i].overlay);
    return true;
}

static bool
op_snapshot(Hypervisor *hv, const char *vm_id, const HvSnapshotDisk *disks, unsigned n,
            const char *memory, GError **error)
{
    HvSnapshotDisk *copy = g_new0(HvSnapshotDisk, n);
    unsigned kept = 0;

    (void)vm_id;
    (void)memory;
    for (unsigned i = 0; i < n; i++)
        if (disks[i].overlay != NULL)
            copy[kept++] = (HvSnapshotDisk){ g_strdup(disks[i].target),
                                             g_strdup(disks[i].overlay) };
    return do_call((Client *)hv, "snapshot",
                   &(Call){ .func = do_snapshot, .disks = copy, .n = kept }, error);
}

static bool
op_freeze(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    (void)hv;
    (void)vm_id;
    (void)budget_s;
    return error_set(error, ERR_HYPERVISOR, "there is no guest agent");
}

static bool
do_redefine(Call *call, GError **error)
{
    (void)error;
    fiber_point("libvirt is about to redefine");
    for (unsigned i = 0; i < call->n; i++)
        define(qemu_disk(call->targets[i]), call->sources[i]);
    for (unsigned i = 0; i < vm.n_disks; i++)
        define(&vm.disks[i], vm.disks[i].defined);
    send_event(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

static bool
op_redefine(Hypervisor *hv, const char *vm_id, const char *const *targets,
            const char *const *sources, const char *const *formats, unsigned n, GError **error)
{
    char **t = g_new0(char *, n + 1), **s = g_new0(char *, n + 1);

    (void)vm_id;
    (void)formats;
    for (unsigned i = 0; i < n; i++) {
        t[i] = g_strdup(targets[i]);
        s[i] = g_strdup(sources[i]);
    }
    return do_call((Client *)hv, "redefine",
                   &(Call){ .func = do_redefine,
                            .targets = (const char *const *)t,
                            .sources = (const char *const *)s,
                            .n = n },
                   error);
}

static void
op_free(Hypervisor *hv)
{
    (void)hv;
    client = NULL;
}

Hypervisor *
libvirt_client_new(HvEventFunc each, void *data)
{
    static const HypervisorOps ops = {
        .free = op_free,
        .is_connected = op_is_connected,
        .list = op_list,
        .look = op_look,
        .foreign_job = op_foreign_job,
        .snapshot = op_snapshot,
        .freeze = op_freeze,
        .thaw = op_freeze,
        .commit_start = op_commit_start,
        .copy_start = op_copy_start,
        .job_look = op_job_look,
        .job_set_bandwidth = op_set_bandwidth,
        .job_cancel = op_cancel,
        .job_pivot = op_pivot,
        .suspend = op_suspend,
        .resume = op_resume,
        .redefine = op_redefine,
    };

    client = g_new0(Client, 1);
    client->hypervisor.ops = &ops;
    client->each = each;
    client->data = data;
    g_queue_init(&client->events);
    fiber_start(fiber_process(), "hv events", client_loop, client);
    return &client->hypervisor;
}

/* ---- starting the VM ---- */

static bool
ask_the_hook(char *ret_why)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    g_autofree char *path = g_strdup_printf("/v1/vms/%s/starting", vm.id);
    g_autoptr(GError) error = NULL;
    g_autofree char *refusal = NULL;

    for (unsigned i = 0; i < vm.n_disks; i++)
        g_ptr_array_add(disks, defined_disk(&vm.disks[i]));
    g_autoptr(json_t) question = hook_question(disks);
    if (wire_ask("POST", path, "", question, 10 * G_TIME_SPAN_SECOND, NULL, &error))
        return true;
    if (g_error_matches(error, ERR, ERR_REFUSED))
        refusal = g_strdup(error->message);
    else
        refusal = hook_judge(vm.id, question, NULL);
    if (refusal == NULL)
        return true;
    g_strlcpy(ret_why, refusal, 128);
    return false;
}

static bool
do_start(Call *call, GError **error)
{
    char why[128] = "";

    (void)call;
    if (vm.runs || vm.starting)
        return error_set(error, ERR_BUSY, "domain is already running");
    vm.starting = vm.in_hook = true;
    fiber_point("libvirt asks its hook");
    bool ok = ask_the_hook(why);
    vm.in_hook = false;
    if (!ok) {
        vm.starting = false;
        return error_set(error, ERR_REFUSED, "%s", why);
    }
    fiber_point("libvirt starts QEMU");
    ok = qemu_start(why);
    vm.starting = false;
    if (!ok)
        return error_set(error, ERR_HYPERVISOR, "%s", why);
    for (unsigned i = 0; i < vm.n_disks; i++) {
        show_no_mirror(&vm.disks[i]);
        show_graph(&vm.disks[i]);
        save_status(&vm.disks[i]);
    }
    send_event(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

bool
libvirt_start_vm(char *ret_why)
{
    if (!vm.libvirtd) {
        g_strlcpy(ret_why, "libvirtd does not run", 128);
        return false;
    }
    Call *call = g_new0(Call, 1);
    call->func = do_start;
    g_ptr_array_add(calls, call);
    fiber_start(P_LIBVIRTD, "start", run_call, call);
    while (!call->done)
        fiber_wait_on(call, -1);
    if (call->error != NULL)
        g_strlcpy(ret_why, call->error->message, 128);
    return call->ok;
}

/* ---- libvirtd's own life ---- */

void
libvirtd_died(void)
{
    if (!vm.libvirtd)
        return;
    vm.libvirtd = vm.starting = vm.in_hook = false;
    for (guint i = 0; i < calls->len; i++) {
        Call *call = calls->pdata[i];
        if (call->done)
            continue;
        call->done = true;
        error_set(&call->error, ERR_UNREACHABLE, "the connection to libvirt broke");
        fiber_wake(call, true);
    }
    if (client != NULL)
        fiber_wake(client, true);
    vfs_process_died(P_LIBVIRTD);
    fibers_kill(P_LIBVIRTD);
}

/* It comes back with what its status files say, and finds QEMU's jobs again a little later. */
static void
reconnect(void *data)
{
    (void)data;
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        View saved = disk->status;
        saved.backing = copy_backing(disk->status.backing);
        if (disk->live.backing != NULL)
            g_ptr_array_unref(disk->live.backing);
        disk->live = saved;
        disk->concluding = false;
        if (disk->job.state == JOB_CONCLUDED && *disk->live.mirror_path != '\0')
            *disk->live.mirror_job = '\0';
        if (!vm.runs)
            show_no_mirror(disk);
    }
    vm.libvirtd = true;
    fiber_sleep_us(1000 + (int64_t)fiber_below(30000));
    for (unsigned i = 0; i < vm.n_disks && vm.runs; i++) {
        SimDisk *disk = &vm.disks[i];
        if (disk->job.type == HV_JOB_NONE)
            show_no_mirror(disk);
        else if (disk->job.state == JOB_CONCLUDED)
            conclude_job(disk);
        else if (disk->job.state == JOB_READY && *disk->live.mirror_path != '\0')
            g_strlcpy(disk->live.mirror_ready, "yes", sizeof disk->live.mirror_ready);
    }
}

void
libvirtd_start(void)
{
    if (!vm.libvirtd)
        fiber_start(P_LIBVIRTD, "reconnect", reconnect, NULL);
}

void
libvirt_reset(void)
{
    if (calls == NULL)
        calls = g_ptr_array_new();
    g_ptr_array_set_size(calls, 0);
    client = NULL;
    busy_answers = 0;
}
