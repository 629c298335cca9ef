/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One VM as libvirt, the qcow2 headers and its manifest together show it (inventory.c).
 */
#include "agent/inventory.h"
#include "agent/lost_merge.h"

#include "base/text.h"
#include "qcow2/qcow2.h"

#include <unistd.h>

/* ---- one disk ---- */

char *
agent_why_not_managed(const HvDisk *disk)
{
    if (g_str_equal(disk->type, "network"))
        return g_strdup_printf("it is a network disk%s%s%s; only files are managed",
                               disk->protocol != NULL ? " (" : "",
                               disk->protocol != NULL ? disk->protocol : "",
                               disk->protocol != NULL ? ")" : "");
    if (!g_str_equal(disk->type, "file"))
        return g_strdup_printf("it is a %s disk; only files are managed", disk->type);
    if (disk->source == NULL)
        return g_strdup("it has no source");
    if (g_strcmp0(disk->device, "disk") != 0)
        return g_strdup_printf("it is a %s", disk->device);
    if (g_strcmp0(disk->format, "qcow2") != 0 && g_strcmp0(disk->format, "raw") != 0)
        return g_strdup_printf("its format is %s; only qcow2 and raw are managed",
                               disk->format != NULL ? disk->format : "not given in the definition");
    if (disk->shareable)
        return g_strdup("it is shareable");
    if (disk->transient)
        return g_strdup("it is transient");
    return NULL;
}

static bool
is_same_path(const char *a, const char *b)
{
    if (g_str_equal(a, b))
        return true;
    autolibc char *x = realpath(a, NULL);
    autolibc char *y = realpath(b, NULL);
    return g_strcmp0(x, y) == 0;
}

/* Does libvirt's view of a running VM's chain agree with the headers? */
static char *
compare_chains(const HvDisk *disk, GPtrArray *layers)
{
    unsigned n = disk->backing != NULL ? disk->backing->len : 0;

    if (disk->backing == NULL || (n == 0 && !disk->backing_terminated))
        return NULL; /* it says nothing */
    for (unsigned i = 0; i < n && i + 1 < layers->len; i++) {
        Qcow2Layer *layer = layers->pdata[layers->len - 2 - i];
        if (!is_same_path(disk->backing->pdata[i], layer->path))
            return g_strdup_printf("libvirt says that it stands on %s, the qcow2 headers say %s; "
                                   "nothing is done to it until they agree",
                                   (char *)disk->backing->pdata[i], layer->path);
    }
    if (n + 1 != layers->len)
        return g_strdup_printf("libvirt says its chain has %u volumes, the qcow2 headers say %u; "
                               "nothing is done to it until they agree",
                               n + 1, layers->len);
    return NULL;
}

Volume *
agent_known_volume(const Disk *known, const char *path)
{
    Volume *volume = known != NULL ? disk_volume_by_path(known, path) : NULL;

    return volume != NULL || known == NULL ? volume : disk_branch_by_path(known, path);
}

static bool
shares_volume(const Disk *disk, GPtrArray *layers)
{
    for (guint k = 0; k < layers->len; k++)
        if (agent_known_volume(disk, ((Qcow2Layer *)layers->pdata[k])->path) != NULL)
            return true;
    return false;
}

/* Which disk of the manifest is this? Two disks may stand on one template: first the one of the
 * same name, and none twice. */
static Disk *
known_disk(const Vm *stored, const char *target, GPtrArray *layers, const Vm *built)
{
    Disk *same = stored != NULL ? vm_disk(stored, target) : NULL;

    if (same != NULL && shares_volume(same, layers) && vm_disk(built, same->id) == NULL)
        return same;
    for (guint i = 0; stored != NULL && i < stored->disks->len; i++) {
        Disk *disk = stored->disks->pdata[i];
        if (shares_volume(disk, layers) && vm_disk(built, disk->id) == NULL)
            return disk;
    }
    return NULL;
}

/* Where the leaf that we knew is now; -1 = not in the chain. What is above it and new to us was put
 * there by somebody else: our own operations write the manifest before they end. */
static int
known_leaf(const Disk *known, GPtrArray *layers)
{
    const Volume *leaf = known != NULL ? disk_leaf(known) : NULL;

    for (guint i = 0; leaf != NULL && i < layers->len; i++)
        if (g_str_equal(((Qcow2Layer *)layers->pdata[i])->path, leaf->path))
            return (int)i;
    return -1;
}

void
agent_fill_volumes(Disk *disk, const Disk *known, GPtrArray *layers)
{
    int leaf = known_leaf(known, layers);

    for (guint i = 0; i < layers->len; i++) {
        Qcow2Layer *layer = layers->pdata[i];
        Volume *old = agent_known_volume(known, layer->path);
        g_autofree char *fresh = old == NULL ? id_new() : NULL;
        Volume *volume = volume_new(old != NULL ? old->id : fresh, layer->path, layer->format,
                                    layer->virtual_size);
        volume->allocated = layer->allocated;
        volume->read_only = access(layer->path, W_OK) != 0;
        volume->internal_snapshots =
            layer->header != NULL && (layer->header->features & QCOW2_INTERNAL_SNAPSHOTS) != 0;
        volume->bitmaps = layer->header != NULL && (layer->header->features & QCOW2_BITMAPS) != 0;
        volume->foreign = old != NULL ? old->foreign : leaf >= 0 && (int)i > leaf;
        volume->seen = g_strdup(old != NULL ? old->seen : NULL);
        g_ptr_array_add(disk->volumes, volume);
    }
}

static void
keep_beside(Disk *disk, const GPtrArray *volumes)
{
    for (guint i = 0; i < volumes->len; i++) {
        const Volume *volume = volumes->pdata[i];

        if (disk_volume_by_path(disk, volume->path) != NULL)
            continue;
        Volume *copy = volume_copy(volume);
        copy->allocated = volume_allocated(copy->path);
        g_ptr_array_add(disk->branches, copy);
    }
}

/* While a preview lasts, what is not in the chain is of the other line: the old one, or, if
 * somebody has started the VM from that, the one that is tried. */
static void
keep_branches(Disk *disk, const Disk *known, const Vm *stored)
{
    if (known == NULL || preview_disk(stored->preview, known->id) == NULL)
        return;
    keep_beside(disk, known->volumes);
    keep_beside(disk, known->branches);
}
/* The chain of a disk, or the reason why it cannot be managed. *ret_domain: where the disk lies. */
static GPtrArray *
read_chain(Agent *agent, AgentVm *entry, const HvDomain *hv, const HvDisk *disk,
           Domain **ret_domain, char **ret_why)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) layers = NULL;

    if ((*ret_why = agent_why_not_managed(disk)) != NULL)
        return NULL;
    if (access(disk->source, F_OK) != 0) {
        *ret_why = g_strdup_printf("%s: %s", disk->source, g_strerror(errno));
        return NULL;
    }
    *ret_domain = agent_domain(agent, disk->source, true, &error);
    if (*ret_domain != NULL)
        layers = qcow2_chain_walk(disk->source, disk->format, (*ret_domain)->path, &error);
    if (layers == NULL) {
        *ret_why = g_strdup(error->message);
        return NULL;
    }
    /* while one of our jobs ends, the two change one after the other */
    if (hv->instance != NULL && disk->mirror_job == NULL && !agent_is_busy(agent, entry) &&
        (*ret_why = compare_chains(disk, layers)) != NULL)
        return NULL;
    for (guint i = 0; i < layers->len; i++) {
        Qcow2Layer *layer = layers->pdata[i];
        if (!g_utf8_validate(layer->path, -1, NULL)) { /* it could be put into no journal */
            *ret_why = g_strdup("the name of one of its volumes is not UTF-8");
            return NULL;
        }
        if (layer->header != NULL &&
            (layer->header->features & (QCOW2_CORRUPT | QCOW2_UNKNOWN_INCOMPATIBLE)) != 0) {
            *ret_why = g_strdup_printf("%s is marked corrupt or has unknown features", layer->path);
            return NULL;
        }
    }
    return g_steal_pointer(&layers);
}
/* ---- the whole VM ---- */

/* A merge whose journal was lost: what became of its volumes is decided with its record. */
static bool
is_recorded(const Vm *vm, const Disk *disk)
{
    for (guint i = 0; i < vm->operations->len; i++)
        if (g_strcmp0(((const OperationRecord *)vm->operations->pdata[i])->disk_id, disk->id) == 0)
            return true;
    return false;
}

static void
take_over_snapshots(Vm *vm, const Vm *stored, bool busy)
{
    vm_take_records(vm, stored);
    if (busy)
        return; /* the operation knows what becomes of its volumes */
    for (guint i = vm->leftovers->len; i > 0; i--)
        if (access(((Leftover *)vm->leftovers->pdata[i - 1])->path, F_OK) != 0 && errno == ENOENT)
            g_ptr_array_remove_index(vm->leftovers, i - 1);
    /* a snapshot whose volume left the chain, or is written by the VM, restores nothing */
    for (guint i = 0; i < vm->snapshots->len; i++) {
        Snapshot *snapshot = vm->snapshots->pdata[i];
        for (guint k = 0; k < snapshot->disks->len; k++) {
            SnapshotDisk *sd = snapshot->disks->pdata[k];
            Disk *disk = vm_disk(vm, sd->disk_id);
            if (disk != NULL && disk_is_managed(disk) &&
                disk_any_volume(disk, sd->volume_id) == NULL && !is_recorded(vm, disk))
                sd->unusable = true;
        }
    }
}

static void
disk_view_free(void *p)
{
    DiskView *view = p;

    if (view->layers != NULL)
        g_ptr_array_unref(view->layers);
    g_free(view->why);
    g_free(view);
}

/* A disk that cannot be read just now is the one that was shown, or each look would be news. */
static char *
shown_id(Agent *agent, const AgentVm *entry, const char *target)
{
    WITH_LOCK(&agent->lock);
    const Disk *shown = entry->vm != NULL ? vm_disk(entry->vm, target) : NULL;

    return shown != NULL ? g_strdup(shown->id) : id_new();
}

/* A volume that no manifest could take up yet is the one that was shown, too. */
static void
keep_shown_ids(Agent *agent, const AgentVm *entry, Disk *disk, const Disk *known)
{
    for (guint i = 0; i < disk->volumes->len; i++) {
        Volume *volume = disk->volumes->pdata[i];
        if (agent_known_volume(known, volume->path) != NULL)
            continue;
        WITH_LOCK(&agent->lock);
        const Disk *shown = entry->vm != NULL ? vm_disk(entry->vm, disk->id) : NULL;
        const Volume *same = agent_known_volume(shown, volume->path);
        if (same != NULL)
            text_replace(&volume->id, same->id);
    }
}

static Disk *
build_disk(Agent *agent, const AgentVm *entry, const HvDisk *hv_disk, DiskView *view,
           const Vm *stored, const Vm *built)
{
    LostMerge lost;
    const Disk *known = view->layers != NULL
                            ? known_disk(stored, hv_disk->target, view->layers, built)
                        : stored != NULL ? vm_disk(stored, hv_disk->target)
                                         : NULL;
    g_autofree char *fresh = known != NULL          ? NULL
                             : view->layers != NULL ? id_new()
                                                    : shown_id(agent, entry, hv_disk->target);
    Disk *disk = disk_new(known != NULL ? known->id : fresh, hv_disk->target);

    disk->bus = g_strdup(hv_disk->bus);
    disk->read_only = hv_disk->read_only;
    disk->copies_on_read = hv_disk->copies_on_read;
    disk->boot = built->disks->len == 0;
    if (view->layers != NULL) {
        agent_fill_volumes(disk, known, view->layers);
        keep_shown_ids(agent, entry, disk, known);
        if (known != NULL && lost_merge_find(agent, stored, known, view->layers, &lost))
            lost_merge_show(&lost, disk, built->instance);
        keep_branches(disk, known, stored);
        return disk;
    }
    disk->unmanaged = g_steal_pointer(&view->why);
    /* keep what the manifest knows of it, or its snapshots would lose their volumes */
    for (guint i = 0; known != NULL && i < known->volumes->len; i++)
        g_ptr_array_add(disk->volumes, volume_copy(known->volumes->pdata[i]));
    keep_branches(disk, known, stored);
    return disk;
}

/* One that listens everywhere is at this host. */
static void
note_display(Vm *vm, const HvDomain *hv)
{
    const char *listen = hv->display_listen;
    bool everywhere = listen == NULL || g_str_equal(listen, "0.0.0.0") || g_str_equal(listen, "::");

    vm->display_port = hv->display_port;
    vm->display_tls_port = hv->display_tls_port;
    if (hv->display_port != 0 || hv->display_tls_port != 0)
        vm->display_address = g_strdup(everywhere ? g_get_host_name() : listen);
}

/* Computed anew it would be some milliseconds later each time, and each look news. */
static int64_t
started_of(Agent *agent, const AgentVm *entry, const HvDomain *hv)
{
    WITH_LOCK(&agent->lock);
    const Vm *shown = entry->vm;
    bool same = shown != NULL && shown->started != 0 && hv->instance != NULL &&
                g_strcmp0(shown->instance, hv->instance) == 0;

    return same ? shown->started : hv->started;
}

static void
note_manner(Agent *agent, const AgentVm *entry, const HvDomain *hv, Vm *vm)
{
    vm->description = g_strdup(hv->description);
    vm->comment = g_strdup(hv->title);
    vm->firmware = g_strdup(hv->firmware);
    vm->memory = hv->memory;
    vm->vcpus = hv->vcpus;
    vm->ballooning = hv->ballooning;
    vm->started = started_of(agent, entry, hv);
    vm->agent_connected = hv->agent_connected;
    vm->graphics = g_strdup(hv->graphics);
    if (hv->instance != NULL)
        note_display(vm, hv);
}

Vm *
agent_build_vm(Agent *agent, AgentVm *entry, const HvDomain *hv, Domain **ret_home, GError **error)
{
    g_autoptr(Vm) vm = vm_new(hv->id, hv->name);
    g_autoptr(Vm) stored = NULL;
    g_autoptr(GPtrArray) views = g_ptr_array_new_with_free_func(disk_view_free);
    g_autofree char *not_known = NULL;
    GString *reasons = g_string_new(NULL);

    *ret_home = NULL;
    vm->state = hv->state;
    vm->state_detail = g_strdup(hv->state_detail);
    vm->instance = g_strdup(hv->instance);
    note_manner(agent, entry, hv, vm);
    agent_note_guest(agent, entry, hv, vm);
    for (guint i = 0; i < hv->disks->len; i++) {
        DiskView *view = g_new0(DiskView, 1);
        const HvDisk *disk = hv->disks->pdata[i];
        g_ptr_array_add(views, view);
        view->layers = read_chain(agent, entry, hv, disk, &view->domain, &view->why);
        if (view->layers == NULL && g_strcmp0(disk->device, "disk") == 0)
            g_string_append_printf(reasons, "%s%s: %s", reasons->len > 0 ? "; " : "", disk->target,
                                   view->why);
    }
    g_autofree char *all_reasons = g_string_free(reasons, FALSE);

    if (!agent_find_home(agent, entry, hv, views, ret_home, &stored, &not_known, error))
        return NULL;
    for (guint i = 0; i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        if (g_strcmp0(disk->device, "disk") == 0)
            g_ptr_array_add(vm->disks, build_disk(agent, entry, disk, views->pdata[i], stored, vm));
    }
    if (not_known != NULL)
        vm->unmanaged = g_steal_pointer(&not_known);
    else if (*ret_home == NULL)
        vm->unmanaged = *all_reasons != '\0'
                            ? g_strdup_printf("no disk can be managed: %s", all_reasons)
                            : g_strdup(VM_NO_DISK);
    else
        vm->home = g_strdup((*ret_home)->path);
    if (stored != NULL)
        take_over_snapshots(vm, stored, agent_is_busy(agent, entry));
    if (stored != NULL && freeze_note_holds(entry, stored, hv))
        vm->frozen = g_strdup(stored->frozen);
    return g_steal_pointer(&vm);
}
