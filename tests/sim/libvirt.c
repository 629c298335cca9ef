/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt.h"

#include <string.h>

#define DELAY_US 1000
#define ASK_US 50 /* a question's way: after a few, events that were sent before have come, too */

typedef struct {
    HvEventKind kind;
    HvJobStatus status;
    char disk[8], vm_id[40];
    int64_t at_us;
} Event;

static Client *client; /* the agent's */
GPtrArray *libvirt_calls;

/* As after a start: what libvirt says of the VM is what its definition and the headers say. */
void
libvirt_show_vm(void)
{
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        memset(&disk->live, 0, sizeof disk->live);
        memset(&disk->status, 0, sizeof disk->status);
        libvirt_show_graph(disk);
        disk->live_is_read = disk->mirror_is_read = false;
        libvirt_save_status(disk);
    }
}

/* ---- events ---- */

static void
send_of(const char *vm_id, HvEventKind kind, const char *disk, HvJobStatus status)
{
    if (client == NULL || !client->connected || !vm.libvirtd || world_lies(LIE_LOST_EVENTS, 30))
        return;
    Event *event = g_new0(Event, 1);
    event->kind = kind;
    event->status = status;
    event->at_us = fiber_now_us() + 100 +
                   (world_lies(LIE_LATE_EVENTS, 40) ? (int64_t)fiber_below(2000000) : 0);
    g_strlcpy(event->disk, disk != NULL ? disk : "", sizeof event->disk);
    g_strlcpy(event->vm_id, vm_id, sizeof event->vm_id);
    bool overtakes = world_lies(LIE_REORDER, 30);
    g_queue_insert_before(&client->events, overtakes ? client->events.head : NULL, event);
    fiber_wake(client, true);
}

void
libvirt_send(HvEventKind kind, const char *disk, HvJobStatus status)
{
    send_of(vm.id, kind, disk, status);
}

void
libvirt_send_domain(const char *vm_id)
{
    send_of(vm_id, HV_EVENT_DOMAIN, NULL, 0);
}

static void
deliver(Client *self, const Event *event)
{
    HvEvent hv = { .kind = event->kind, .vm_id = event->vm_id, .job_status = event->status };

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
ask(Client *self, const char *what, GError **error)
{
    if (plan.no_guest)
        fiber_sleep_us(ASK_US);
    return reach(self, what, error);
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
    char *ids[3] = { NULL };
    unsigned n = 0;
    if (vm.there)
        ids[n++] = vm.id;
    if (second.there)
        ids[n++] = second.id;
    return g_strdupv(ids);
}

static VmState
state_now(void)
{
    if (vm.starting)
        return VM_UP; /* no instance yet */
    if (vm.runs && vm.lost)
        return VM_UNKNOWN; /* libvirt says off; domain.c looks at the processes, too */
    if (!vm.runs)
        return vm.saved.there && !vm.saved.half ? VM_SUSPENDED : VM_DOWN;
    if (!vm.paused)
        return VM_UP; /* also while its memory is written beside a snapshot */
    return vm.saving ? VM_SAVING : VM_PAUSED;
}

GPtrArray *
libvirt_copy_backing(const GPtrArray *from)
{
    GPtrArray *to = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; from != NULL && i < from->len; i++)
        g_ptr_array_add(to, g_strdup(from->pdata[i]));
    return to;
}

static const char *
format_of(const char *path)
{
    return g_str_has_suffix(path, ".raw") ? "raw" : "qcow2";
}

HvDisk *
libvirt_disk(const SimDisk *disk, const char *source)
{
    HvDisk *hv = g_new0(HvDisk, 1);

    hv->target = g_strdup(disk->target);
    hv->bus = g_strdup("virtio");
    hv->device = g_strdup("disk");
    hv->type = g_strdup("file");
    hv->format = g_strdup(format_of(source));
    hv->source = g_strdup(source);
    return hv;
}

/* The seam's promise, as domain.c keeps it: a mirror without a job is what a killed libvirtd
 * remembers of one, and QEMU knows which leaf it writes. */
static void
correct_lost_pivot(const SimDisk *disk, HvDisk *hv)
{
    bool ends =
        g_strcmp0(hv->mirror_ready, "pivot") == 0 || g_strcmp0(hv->mirror_ready, "abort") == 0;
    const char *leaf = ((Node *)disk->graph->pdata[0])->path;
    bool pivoted = g_str_equal(leaf, hv->mirror_path);

    if ((!ends && g_strcmp0(hv->mirror_ready, "yes") != 0) || disk->job.type != HV_JOB_NONE ||
        (!pivoted && !ends))
        return;
    if (pivoted) {
        g_free(hv->source);
        g_free(hv->format);
        hv->source = g_strdup(leaf);
        hv->format = g_strdup(hv->mirror_format);
        g_clear_pointer(&hv->backing, g_ptr_array_unref);
        hv->backing_terminated = false;
    }
    g_clear_pointer(&hv->mirror_job, g_free);
    g_clear_pointer(&hv->mirror_path, g_free);
    g_clear_pointer(&hv->mirror_ready, g_free);
    hv->lost_pivot = true;
}

/* The same where it remembers nothing: who stands on what libvirt takes for the leaf is shown
 * beside it, see HvDisk. */
static void
correct_traceless(const SimDisk *disk, HvDisk *hv)
{
    const Node *leaf = disk->graph->len > 0 ? disk->graph->pdata[0] : NULL;

    if (leaf == NULL || disk->job.type != HV_JOB_NONE || g_str_equal(leaf->path, hv->source))
        return;
    if (graph_find((SimDisk *)disk, hv->source, NULL) != NULL)
        hv->hidden_leaf = g_strdup(leaf->path);
    else
        hv_disk_take_leaf(hv, g_strdup(leaf->path));
}

static HvDisk *
live_disk(const SimDisk *disk)
{
    const View *view = &disk->live;
    HvDisk *hv = libvirt_disk(disk, view->source);

    hv->backing = libvirt_copy_backing(view->backing);
    hv->backing_terminated = true;
    if (*view->mirror_path == '\0') {
        correct_traceless(disk, hv);
        return hv;
    }
    hv->mirror_job = g_strdup(view->mirror_job);
    hv->mirror_path = g_strdup(view->mirror_path);
    hv->mirror_format = g_strdup(format_of(view->mirror_path));
    hv->mirror_ready = *view->mirror_ready != '\0' ? g_strdup(view->mirror_ready) : NULL;
    correct_lost_pivot(disk, hv);
    return hv;
}

HvDisk *
libvirt_defined_disk(const SimDisk *disk)
{
    HvDisk *hv = libvirt_disk(disk, disk->defined);

    if (disk->defined_backing != NULL)
        hv->backing = libvirt_copy_backing(disk->defined_backing);
    return hv;
}

HvDisk *
libvirt_starting_disk(const SimDisk *disk, bool restored)
{
    if (!restored && strcmp(disk->starting, disk->defined) == 0)
        return libvirt_defined_disk(disk);
    return libvirt_disk(disk, disk->starting);
}

/* As domain.c does it: the next libvirtd will know the VM again. */
static bool
mend_lost(void)
{
    bool mended = false;

    for (unsigned i = 0; i < vm.n_disks; i++) {
        View *status = &vm.disks[i].status;
        if (*status->mirror_path == '\0')
            continue;
        mended = true;
        if (*status->mirror_job != '\0')
            continue;
        g_strlcpy(status->mirror_job, "active-commit", sizeof status->mirror_job);
        if (strcmp(status->mirror_ready, "abort") != 0)
            g_strlcpy(status->mirror_ready, "pivot", sizeof status->mirror_ready);
    }
    return mended;
}

/* While it notes how a job has ended, it lets nobody look. */
static void
wait_for_notes(void)
{
    for (unsigned i = 0; i < vm.n_disks; i++)
        while (vm.disks[i].noting && vm.libvirtd && vm.runs)
            fiber_sleep_us(100);
}

/* Definition and live XML are asked for one after the other: a job can end in between. */
static GPtrArray *
look_at_definition(void)
{
    GPtrArray *disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    bool has_job = false;

    wait_for_notes();
    for (unsigned i = 0; i < vm.n_disks && !mutant_is_blind(); i++) {
        g_ptr_array_add(disks, libvirt_defined_disk(&vm.disks[i]));
        has_job |= vm.disks[i].job.type != HV_JOB_NONE;
    }
    if (has_job && plan.no_guest && fiber_chance(30)) {
        fiber_sleep_us((int64_t)fiber_below(500));
        wait_for_notes();
    }
    return disks;
}

static HvDisk *
shown_disk(const SimDisk *disk)
{
    if (libvirt_sees_vm())
        return live_disk(disk);
    return vm.starting ? libvirt_starting_disk(disk, false) : libvirt_defined_disk(disk);
}

static HvDomain *
op_look(Hypervisor *hv, const char *vm_id, GError **error)
{
    if (!ask((Client *)hv, "libvirt look", error))
        return NULL;
    if (libvirt_is_other(vm_id))
        return libvirt_look_at_other();
    if (strcmp(vm_id, vm.id) != 0 || !vm.there) {
        error_set(error, ERR_NOT_FOUND, "no domain %s", vm_id);
        return NULL;
    }
    g_autoptr(GPtrArray) defined = look_at_definition();
    if (!vm.libvirtd) {
        unreachable(error);
        return NULL;
    }
    if (libvirt_sees_vm() && !vm.saving)
        vm.saved.there = false; /* as domain.c */
    HvDomain *domain = hv_domain_new();
    domain->id = g_strdup(vm.id);
    domain->name = g_strdup(vm.texts.name);
    domain->description = g_strdup(*vm.texts.description != '\0' ? vm.texts.description : NULL);
    domain->title = g_strdup(*vm.texts.title != '\0' ? vm.texts.title : NULL);
    domain->state = state_now();
    if (domain->state == VM_UNKNOWN)
        domain->state_detail = g_strdup(mend_lost() ? "mended" : "lost");
    domain->persistent = true;
    domain->has_managed_save = domain->state == VM_SUSPENDED;
    domain->memory = 1 << 28;
    domain->vcpus = 1;
    domain->agent_connected = vm.guest_agent && libvirt_sees_vm();
    domain->instance = libvirt_sees_vm() ? g_strdup(vm.instance) : NULL;
    domain->xml = g_strdup_printf("<domain>%u</domain>", vm.config);
    domain->inactive_xml = g_strdup(domain->xml);
    if (domain->disks == NULL)
        domain->disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    if (domain->inactive != NULL)
        g_ptr_array_unref(domain->inactive);
    domain->inactive = g_steal_pointer(&defined);
    for (unsigned i = 0; i < vm.n_disks && !mutant_is_blind(); i++)
        g_ptr_array_add(domain->disks, shown_disk(&vm.disks[i]));
    return domain;
}

static bool
op_foreign_job(Hypervisor *hv, const char *vm_id, char **ret_job, GError **error)
{
    *ret_job = NULL;
    if (!reach((Client *)hv, "libvirt job info", error))
        return false;
    *ret_job = vm.saving && !libvirt_is_other(vm_id) ? g_strdup("save") : NULL;
    return true;
}

static bool
op_job_look(Hypervisor *hv, const char *vm_id, const char *target, HvJob *ret_job, GError **error)
{
    SimDisk *disk = qemu_disk(target);

    *ret_job = (HvJob){ .type = HV_JOB_NONE };
    if (!ask((Client *)hv, "libvirt block job info", error))
        return false;
    if (libvirt_is_other(vm_id))
        return true;
    if (disk == NULL)
        return error_set(error, ERR_HYPERVISOR, "no disk %s", target);
    const Job *job = &disk->job;
    if (!libvirt_sees_vm() || job->type == HV_JOB_NONE || job->state == JOB_CONCLUDED)
        return true;
    if (fiber_now_us() - job->began_us < 200000 && world_lies(LIE_NO_JOB, 20))
        return true;
    *ret_job = (HvJob){
        .type = job->type, .current = job->current, .end = job->end, .bandwidth = job->bandwidth
    };
    return true;
}

/* ---- doing ---- */

/* Two that change the VM wait for each other. Those of the agent do so by themselves. */
static bool
libvirt_is_at(const Call *call)
{
    for (guint i = 0; i < libvirt_calls->len; i++) {
        const Call *other = libvirt_calls->pdata[i];
        if (other->begun && !other->done && (other->stranger || call->stranger))
            return true;
    }
    return false;
}

void
libvirt_run_call(void *data)
{
    Call *call = data;

    fiber_sleep_us(DELAY_US);
    while (vm.in_hook || (vm.saving && !call->beside) || libvirt_is_at(call))
        fiber_sleep_us(2000);
    call->begun = true;
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

bool
libvirt_do(Client *self, const char *what, const Call *wanted, GError **error)
{
    if (!reach(self, what, error))
        return false;
    Call *call = g_new0(Call, 1);
    *call = *wanted;
    g_ptr_array_add(libvirt_calls, call);
    fiber_start(P_LIBVIRTD, what, libvirt_run_call, call);
    while (!call->done)
        fiber_wait_on(call, -1);
    fiber_point("answer of libvirt");
    world_trace("libvirt: %s: %s", what, call->ok ? "done" : call->error->message);
    if (call->error != NULL)
        g_propagate_error(error, call->error);
    return call->ok;
}

/* ---- the client ---- */

static void
op_free(Hypervisor *hv)
{
    (void)hv;
    client = NULL;
}

Hypervisor *
libvirt_client_new(HvEventFunc each, void *data)
{
    static HypervisorOps ops;

    ops = libvirt_doing;
    ops.free = op_free;
    ops.is_connected = op_is_connected;
    ops.list = op_list;
    ops.look = op_look;
    ops.foreign_job = op_foreign_job;
    ops.job_look = op_job_look;

    client = g_new0(Client, 1);
    client->hypervisor.ops = &ops;
    client->each = each;
    client->data = data;
    g_queue_init(&client->events);
    fiber_start(fiber_process(), "hv events", client_loop, client);
    return &client->hypervisor;
}

void
libvirt_broke(void)
{
    if (client != NULL)
        fiber_wake(client, true);
}
