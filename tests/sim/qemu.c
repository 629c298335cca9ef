/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * QEMU: the block graph with its locks, the guest that writes, and QEMU's life. Its jobs are in
 * qemu_job.c.
 */
#include "qemu.h"
#include "vfs_parts.h"

#include <string.h>

SimVm vm;

static void
node_unref(void *node)
{
    g_free(node);
}

static Node *
node_open(const char *path, bool raw)
{
    Node *node = g_new0(Node, 1);

    g_strlcpy(node->path, path, sizeof node->path);
    if (image_at(vfs_find(path), path, raw, &node->image))
        return node;
    g_free(node);
    return NULL;
}

void
graph_clear(SimDisk *disk)
{
    if (disk->graph == NULL)
        disk->graph = g_ptr_array_new_with_free_func(node_unref);
    g_ptr_array_set_size(disk->graph, 0);
}

bool
graph_open(SimDisk *disk, const char *leaf, const GPtrArray *said, char *ret_why)
{
    char path[256];
    bool raw = g_str_has_suffix(leaf, ".raw");

    graph_clear(disk);
    g_strlcpy(path, leaf, sizeof path);
    while (*path != '\0') {
        Node *node = node_open(path, raw);
        if (node == NULL) {
            g_snprintf(ret_why, 128, "%s: cannot be opened", path);
            return false;
        }
        g_ptr_array_add(disk->graph, node);
        raw = node->image.backing_raw;
        if (said != NULL && said->len == 0)
            break; /* an empty <backingStore/> ends it */
        /* what libvirt says, as far as it does, goes before what the header says */
        bool is_said = said != NULL && disk->graph->len - 1 < said->len;
        g_strlcpy(path, is_said ? said->pdata[disk->graph->len - 1] : node->image.backing,
                  sizeof path);
    }
    return true;
}

Node *
graph_find(SimDisk *disk, const char *path, guint *ret_index)
{
    for (guint i = 0; i < disk->graph->len; i++) {
        Node *node = disk->graph->pdata[i];
        if (strcmp(node->path, path) != 0)
            continue;
        if (ret_index != NULL)
            *ret_index = i;
        return node;
    }
    return NULL;
}

SimDisk *
qemu_disk(const char *target)
{
    for (unsigned i = 0; i < vm.n_disks; i++)
        if (strcmp(vm.disks[i].target, target) == 0)
            return &vm.disks[i];
    return NULL;
}

/* ---- image locks: bytes 100 + N for a permission in use, 200 + N for one that is not shared ----
 */

enum { READ, WRITE, RESIZE = 3 };

static bool
is_free(VfsNode *node, bool writes)
{
    return vfs_lock_conflict(node, &vm, 200 + READ, 201 + READ, true) == NULL &&
           (!writes || vfs_lock_conflict(node, &vm, 200 + WRITE, 201 + WRITE, true) == NULL) &&
           vfs_lock_conflict(node, &vm, 100 + WRITE, 101 + WRITE, true) == NULL;
}

static void
lock_one(VfsNode *node, bool writes)
{
    vfs_lock(node, P_QEMU, &vm, 100 + READ, 101 + READ, false);
    if (writes)
        vfs_lock(node, P_QEMU, &vm, 100 + WRITE, 101 + WRITE, false);
    vfs_lock(node, P_QEMU, &vm, 200 + WRITE, 201 + WRITE, false);
    vfs_lock(node, P_QEMU, &vm, 200 + RESIZE, 201 + RESIZE, false);
}

/* Has QEMU a node of its own that writes to it? */
static bool
is_written(const SimDisk *disk, guint i)
{
    const Node *node = disk->graph->pdata[i];

    return i == 0 || node->kept_open ||
           (disk->job.type != HV_JOB_NONE && strcmp(disk->job.base, node->path) == 0);
}

bool
qemu_can_open_below(const char *path)
{
    char broken[128];
    g_autoptr(GArray) chain = image_chain(path, g_str_has_suffix(path, ".raw"), broken);

    for (guint k = 1; chain != NULL && k < chain->len; k++) {
        const VfsNode *file = g_array_index(chain, Image, k).node;
        for (unsigned d = 0; d < vm.n_disks; d++) {
            const SimDisk *disk = &vm.disks[d];
            for (guint i = 0; i < disk->graph->len; i++)
                if (((Node *)disk->graph->pdata[i])->image.node == file && is_written(disk, i))
                    return false;
            if (disk->left_open != NULL && disk->left_open->len > 0 &&
                disk->left_open->pdata[0] == file)
                return false;
        }
    }
    return chain != NULL;
}

void
qemu_relock(void)
{
    vfs_unlock_all(&vm);
    for (unsigned d = 0; d < vm.n_disks; d++) {
        SimDisk *disk = &vm.disks[d];
        for (guint i = 0; i < disk->graph->len; i++) {
            Node *node = disk->graph->pdata[i];
            lock_one(node->image.node, is_written(disk, i));
        }
        if (disk->job.type == HV_JOB_COPY && vfs_find(disk->job.base) != NULL)
            lock_one(vfs_find(disk->job.base), true);
        for (guint i = 0; disk->left_open != NULL && i < disk->left_open->len; i++)
            lock_one(disk->left_open->pdata[i], i == 0);
    }
}

void
qemu_leave_open(SimDisk *disk, guint n)
{
    if (disk->left_open == NULL)
        disk->left_open = g_ptr_array_new();
    for (guint i = 0; i < n; i++)
        g_ptr_array_add(disk->left_open, ((Node *)disk->graph->pdata[i])->image.node);
}

void
qemu_close_left(SimDisk *disk)
{
    if (disk->left_open == NULL || disk->left_open->len == 0)
        return;
    g_ptr_array_set_size(disk->left_open, 0);
    if (vm.runs)
        qemu_relock();
}

void
qemu_keep_base_open(SimDisk *disk)
{
    if (!vm.runs)
        return;
    ((Node *)disk->graph->pdata[disk->graph->len - 1])->kept_open = true;
    qemu_relock();
}

/* ---- the guest ---- */

#define BUSY_WRITES 60

/* Written and flushed: the guest is told so. */
static void
acknowledge(SimDisk *disk, unsigned cluster)
{
    image_flush(&((Node *)disk->graph->pdata[0])->image);
    disk->acked[cluster] = disk->pending[cluster];
    disk->pending[cluster] = 0;
}

/* A guest's writes wait for a storage that is away or full. False: it was suspended meanwhile. */
static bool
guest_waits(void)
{
    while (!storage_is_well())
        fiber_sleep_us(100000);
    return !vm.paused;
}

static void
guest_write(SimDisk *disk)
{
    unsigned cluster = (unsigned)fiber_below(vm.clusters);
    uint64_t version = ++vm.versions;

    if (disk->pending[cluster] != 0)
        return;
    if (!guest_waits())
        return;
    if (disk->pivoted && !check_pivoted(disk))
        return;
    disk->pending[cluster] = version;
    image_put(&((Node *)disk->graph->pdata[0])->image, cluster, version);
    disk->job.dirty |= UINT64_C(1) << cluster;
    fiber_point("guest wrote");
    guest_waits();
    if (disk->pending[cluster] == version)
        acknowledge(disk, cluster);
}

void
qemu_drain(void)
{
    for (unsigned d = 0; d < vm.n_disks; d++)
        for (unsigned c = 0; c < vm.clusters; c++)
            if (vm.disks[d].pending[c] != 0)
                acknowledge(&vm.disks[d], c);
}

static void
guest(void *data)
{
    bool trusts = false; /* what it has read */

    (void)data;
    for (unsigned n = 0;; n++) {
        int64_t pause = n < BUSY_WRITES ? (int64_t)fiber_below(20000) : 2000000;
        fiber_sleep_us(1 + pause);
        if (vm.paused || vm.frozen || (!trusts && !guest_waits()))
            continue;
        if (!trusts)
            qemu_drain();
        trusts = true;
        guest_write(&vm.disks[fiber_below(vm.n_disks)]);
    }
}

/* A job that waits for its bandwidth does one more piece then, or is just too late for it. */
bool
qemu_wake_limited(void)
{
    bool any = false;

    for (unsigned d = 0; d < vm.n_disks; d++) {
        Job *job = &vm.disks[d].job;
        any |= job->type == HV_JOB_COMMIT;
        if (job->type == HV_JOB_NONE || job->bandwidth == 0 || !fiber_chance(70))
            continue;
        job->woken = true;
        fiber_wake(job, true);
    }
    return any;
}

/* All images are flushed one after the other, and a commit that ends while its base is dies of it,
 * with all of QEMU: internal_commit(). */
void
qemu_suspend(void)
{
    unsigned life = vm.life;

    (void)storage_error(); /* while it hangs, so does QEMU */
    if (!vm.runs || vm.life != life)
        return; /* and has died of something else */
    qemu_drain();
    bool commits = !vm.paused && qemu_wake_limited();
    vm.paused = true;
    if (!commits || (plan.lies & LIE_QEMU_DIES) == 0)
        return;
    vm.flushes_until_us = fiber_now_us() + (int64_t)fiber_below(3000);
    while (vm.runs && fiber_now_us() < vm.flushes_until_us)
        fiber_sleep_us(100);
}

void
qemu_freeze(bool on)
{
    if (on)
        qemu_drain();
    vm.frozen = on;
}

void
qemu_resume(void)
{
    vm.paused = false;
}

/* ---- life and death ---- */

void
qemu_take_leaves(const char *const *sources)
{
    for (unsigned i = 0; i < vm.n_disks; i++)
        g_strlcpy(vm.disks[i].starting, sources != NULL ? sources[i] : vm.disks[i].defined,
                  sizeof vm.disks[i].starting);
}

bool
qemu_start(bool restored, char *ret_why)
{
    if (vm.runs) {
        world_wrong("the VM was started twice");
        return false;
    }
    if (storage_error() != 0) {
        g_strlcpy(ret_why, "the storage cannot be read", 128);
        return false;
    }
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        bool says_backing = !restored && strcmp(disk->starting, disk->defined) == 0;
        if (!graph_open(disk, disk->starting, says_backing ? disk->defined_backing : NULL, ret_why))
            return false;
        for (guint k = 0; k < disk->graph->len; k++) {
            Node *node = disk->graph->pdata[k];
            if (!is_free(node->image.node, k == 0)) {
                g_snprintf(ret_why, 128, "%s: Failed to get \"write\" lock", node->path);
                return false;
            }
        }
    }
    check_start();
    vm.runs = true;
    vm.paused = vm.frozen = false;
    vm.life++;
    g_snprintf(vm.instance, sizeof vm.instance, "%u.%u", 5000 + vm.life, vm.life * 77);
    for (unsigned i = 0; i < vm.n_disks; i++) {
        memset(&vm.disks[i].job, 0, sizeof(Job));
        vm.disks[i].pivoted = false;
    }
    qemu_relock();
    if (!plan.no_guest)
        fiber_start(P_QEMU, "guest", guest, NULL);
    return true;
}

void
qemu_died(void)
{
    if (!vm.runs)
        return;
    vm.runs = vm.lost = false;
    vm.adds_nodes = vm.left_nodes = vm.passed_left = 0;
    vm.n_adds_below = vm.n_left_below = 0;
    vm.flushes_until_us = 0;
    stranger_qemu_died();
    for (unsigned i = 0; i < vm.n_disks; i++) {
        graph_clear(&vm.disks[i]);
        qemu_close_left(&vm.disks[i]);
        memset(&vm.disks[i].job, 0, sizeof(Job));
    }
    vfs_unlock_all(&vm);
    vfs_writer_died();
    libvirt_vm_stopped();
    fibers_kill(P_QEMU);
}

/* Has QEMU kept nothing in its caches that a death now would lose? */
static bool
is_flushed(void)
{
    for (unsigned d = 0; d < vm.n_disks; d++)
        for (unsigned c = 0; c < vm.clusters; c++)
            if (vm.disks[d].pending[c] != 0)
                return false;
    for (guint i = 0; i < vfs_nodes->len; i++) {
        const VfsNode *node = vfs_nodes->pdata[i];
        if (node->writes != NULL && node->writes->len > 0)
            return false;
    }
    return true;
}

/* A guest that is suspended, or waits for its disk, is powered off. */
bool
qemu_shutdown_is_death(void)
{
    return !vm.runs || vm.paused || !storage_is_well() || is_flushed();
}

void
qemu_shut_down(void)
{
    if (!qemu_shutdown_is_death()) {
        qemu_drain();
        for (guint i = 0; i < vfs_nodes->len; i++) {
            VfsNode *node = vfs_nodes->pdata[i];
            if (node->writes != NULL && node->writes->len > 0)
                vfs_sync_data(node);
        }
    }
    qemu_died();
}

/* ---- snapshots: all disks in one transaction ---- */

bool
qemu_snapshot(const HvSnapshotDisk *disks, unsigned n)
{
    if (storage_error() != 0)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (vfs_find(disks[i].overlay) == NULL)
            return false;
    qemu_drain();
    qemu_wake_limited();
    for (unsigned i = 0; i < n; i++) {
        SimDisk *disk = qemu_disk(disks[i].target);
        Node *old = disk->graph->pdata[0], *fresh = node_open(disks[i].overlay, false);
        if (fresh == NULL)
            return false;
        image_flush(&old->image);
        g_ptr_array_insert(disk->graph, 0, fresh);
    }
    qemu_relock();
    return true;
}
