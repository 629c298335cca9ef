/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * QEMU: the block graph, its jobs, and the guest that writes.
 *
 * As QEMU 7.2 does it: an internal commit rewrites the header above, flushes its base as that is
 * made read-only again (H13), and is then gone from the graph; a mirror copies in the background,
 * so what the guest writes and flushes is in the leaf only until the next round; a pivot stops the
 * guest's writes, copies the rest, flushes and switches. A job that has ended stays until libvirt
 * dismisses it.
 */
#include "vfs_parts.h"
#include "world.h"

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

static bool
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

static void
relock(void)
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

/* What a pivot has left stays open until libvirt has it closed. */
static void
leave_open(SimDisk *disk, guint n)
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
        relock();
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

/* What is under way ends before anything else happens. */
static void
drain(void)
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
            drain();
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
    drain();
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
        drain();
    vm.frozen = on;
}

void
qemu_resume(void)
{
    vm.paused = false;
}

/* ---- life and death ---- */

bool
qemu_start(const char *const *sources, char *ret_why)
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
        if (!graph_open(disk, sources != NULL ? sources[i] : disk->defined,
                        sources != NULL ? NULL : disk->defined_backing, ret_why))
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
    relock();
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
        drain();
        for (guint i = 0; i < vfs_nodes->len; i++) {
            VfsNode *node = vfs_nodes->pdata[i];
            if (node->writes != NULL && node->writes->len > 0)
                vfs_sync_data(node);
        }
    }
    qemu_died();
}

/* ---- jobs ---- */

static void
job_end(SimDisk *disk, HvJobStatus outcome)
{
    /* seen of QEMU 7.2: the base of an active commit that was cancelled stays open for writing */
    Node *base = graph_find(disk, disk->job.base, NULL);
    if (base != NULL && outcome != HV_JOB_COMPLETED && disk->job.type == HV_JOB_ACTIVE_COMMIT)
        base->kept_open = true;
    disk->job.state = JOB_CONCLUDED;
    disk->concluded = disk->job.number;
    disk->job.outcome = outcome;
    disk->job.dirty = 0;
    relock();
    fiber_wake(&disk->job, true);
    libvirt_job_event(disk, outcome);
}

void
qemu_dismiss(SimDisk *disk)
{
    memset(&disk->job, 0, sizeof(Job));
    relock();
}

/* False: somebody cancelled it, or it fails. */
static bool
job_goes_on(SimDisk *disk, unsigned number)
{
    bool trouble = storage_error() != 0 || storage_is_full(); /* may wait */

    if (disk->job.number != number)
        return false;
    if (disk->job.cancel) {
        job_end(disk, HV_JOB_CANCELED);
        return false;
    }
    if (trouble || world_lies(LIE_JOB_FAILS, 4)) {
        world_trace("the job of %s fails", disk->target);
        job_end(disk, HV_JOB_FAILED);
        return false;
    }
    return true;
}

/* It begins at the latest when the VM is suspended. */
static void
wait_to_begin(SimDisk *disk)
{
    int64_t until = fiber_now_us() + disk->job.late_us;

    while (!disk->job.woken && fiber_now_us() < until)
        fiber_wait_on(&disk->job, until);
}

/* The first piece at a new speed goes at once. */
static void
pace(SimDisk *disk)
{
    uint64_t limit = disk->job.bandwidth;

    fiber_point("job copies");
    disk->job.woken = false;
    if (limit > 0 && disk->job.moved > 0) {
        int64_t us = (int64_t)(CLUSTER_BYTES * 1000000 / limit);
        int64_t until = fiber_now_us() + MIN(us, 3600 * G_TIME_SPAN_SECOND);
        while (disk->job.bandwidth == limit && !disk->job.cancel && !disk->job.woken &&
               fiber_now_us() < until)
            fiber_wait_on(&disk->job, until);
        if (disk->job.bandwidth != limit)
            fiber_sleep_us(disk->job.late_us);
    }
}

static const char *
last_part(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* Has the run of this commit something to be copied there? */
static bool
run_holds(SimDisk *disk, unsigned cluster)
{
    guint base = 0, top = 0;
    uint64_t value;

    if (graph_find(disk, disk->job.base, &base) == NULL ||
        graph_find(disk, disk->job.top, &top) == NULL)
        return false;
    while (top < base && !image_value(&((Node *)disk->graph->pdata[top])->image, cluster, &value))
        top++;
    return top < base;
}

static void
internal_commit(void *data)
{
    SimDisk *disk = data;
    unsigned number = disk->job.number;
    guint base = 0, top = 0;

    disk->job.end = vm.clusters * CLUSTER_BYTES;
    wait_to_begin(disk);
    for (unsigned c = 0; c < vm.clusters; c++) {
        if (run_holds(disk, c))
            pace(disk);
        if (!job_goes_on(disk, number))
            return;
        if (graph_find(disk, disk->job.base, &base) == NULL ||
            graph_find(disk, disk->job.top, &top) == NULL)
            return;
        for (guint i = top; i < base; i++) {
            uint64_t value;
            if (!image_value(&((Node *)disk->graph->pdata[i])->image, c, &value))
                continue;
            image_put(&((Node *)disk->graph->pdata[base])->image, c, value);
            disk->job.moved++;
            break;
        }
        disk->job.current = (c + 1) * CLUSTER_BYTES;
    }
    Node *bottom = graph_find(disk, disk->job.base, &base);
    graph_find(disk, disk->job.top, &top);
    fiber_point("commit is about to rewrite the header");
    if (fiber_now_us() < vm.flushes_until_us)
        qemu_died(); /* H12 */
    Node *above = disk->graph->pdata[top - 1];
    image_set_backing(&above->image, last_part(disk->job.base), bottom->image.raw);
    image_at(above->image.node, above->path, false, &above->image);
    fiber_point("commit has rewritten the header");
    image_flush(&bottom->image); /* H13: as it is made read-only again */
    g_ptr_array_remove_range(disk->graph, top, base - top);
    job_end(disk, HV_JOB_COMPLETED);
}

static void
mirror_one(SimDisk *disk, Image *target)
{
    unsigned cluster = (unsigned)__builtin_ctzll(disk->job.dirty);
    uint64_t value;

    disk->job.dirty &= ~(UINT64_C(1) << cluster);
    for (guint i = 0; i < disk->graph->len; i++) {
        if (!image_value(&((Node *)disk->graph->pdata[i])->image, cluster, &value))
            continue;
        image_put(target, cluster, value);
        disk->job.moved++;
        break;
    }
    disk->job.current += CLUSTER_BYTES;
    disk->job.end = MAX(disk->job.end, disk->job.current);
}

static uint64_t
allocated_above(SimDisk *disk, guint end)
{
    uint64_t mask = 0, value;

    for (unsigned c = 0; c < vm.clusters; c++)
        for (guint i = 0; i < end; i++)
            if (image_value(&((Node *)disk->graph->pdata[i])->image, c, &value))
                mask |= UINT64_C(1) << c;
    return mask;
}

static void
pivot(SimDisk *disk, Image *target)
{
    guint base = 0;
    char why[128];

    drain();
    while (disk->job.dirty != 0)
        mirror_one(disk, target);
    image_flush(target);
    if (disk->job.type == HV_JOB_ACTIVE_COMMIT) {
        graph_find(disk, disk->job.base, &base);
        leave_open(disk, base);
        g_ptr_array_remove_range(disk->graph, 0, base);
    } else {
        g_autoptr(GPtrArray) nothing = g_ptr_array_new();
        leave_open(disk, 1);
        graph_open(disk, disk->job.base, disk->job.alone ? nothing : NULL, why);
    }
    disk->pivoted = true;
    job_end(disk, HV_JOB_COMPLETED);
}

static void
mirror_is_ready(SimDisk *disk)
{
    disk->job.state = JOB_READY;
    disk->job.was_ready = true;
    libvirt_job_event(disk, HV_JOB_READY);
}

static void
mirror(void *data)
{
    SimDisk *disk = data;
    unsigned number = disk->job.number;
    Image target;
    guint base = 1;

    if (!image_at(vfs_find(disk->job.base), disk->job.base,
                  g_str_has_suffix(disk->job.base, ".raw"), &target)) {
        job_end(disk, HV_JOB_FAILED);
        return;
    }
    if (disk->job.type == HV_JOB_ACTIVE_COMMIT)
        graph_find(disk, disk->job.base, &base);
    wait_to_begin(disk);
    fiber_point("mirror begins");
    if (!job_goes_on(disk, number))
        return;
    disk->job.dirty |= allocated_above(disk, base);
    for (;;) {
        uint64_t lag = (uint64_t)__builtin_popcountll(disk->job.dirty) * CLUSTER_BYTES;
        disk->job.end = disk->job.current + lag;
        if (disk->job.dirty == 0 && disk->job.state == JOB_RUNS) {
            image_flush(&target);
            fiber_point("all is copied, and the mirror not ready yet");
            if (plan.no_guest && fiber_chance(30)) /* flushing takes its time */
                fiber_sleep_us((int64_t)fiber_below(5000));
            if (!job_goes_on(disk, number))
                return;
            if (disk->job.dirty == 0)
                mirror_is_ready(disk);
        }
        if (disk->job.pivot && disk->job.state == JOB_READY) {
            pivot(disk, &target);
            return;
        }
        if (disk->job.dirty == 0)
            fiber_wait_on(&disk->job, fiber_now_us() + 3000);
        else
            pace(disk);
        if (!job_goes_on(disk, number))
            return;
        if (disk->job.dirty != 0)
            mirror_one(disk, &target);
    }
}

void
qemu_job_start(SimDisk *disk, HvJobType type, const char *base, const char *top)
{
    static unsigned numbers;
    uint64_t bandwidth = disk->job.bandwidth;

    memset(&disk->job, 0, sizeof(Job));
    disk->job.type = type;
    disk->job.state = JOB_RUNS;
    disk->job.alone = type == HV_JOB_COPY && disk->graph->len == 1;
    disk->job.number = ++numbers;
    disk->job.began_us = fiber_now_us();
    disk->job.bandwidth = bandwidth;
    g_strlcpy(disk->job.base, base, sizeof disk->job.base);
    g_strlcpy(disk->job.top, top != NULL ? top : "", sizeof disk->job.top);
    relock();
    disk->job.late_us = fiber_chance(30) ? (int64_t)fiber_below(50000) : 0;
    fiber_start(P_QEMU, "job", type == HV_JOB_COMMIT ? internal_commit : mirror, disk);
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
    drain();
    vm.frozen_at_switch = vm.frozen;
    qemu_wake_limited();
    for (unsigned i = 0; i < n; i++) {
        SimDisk *disk = qemu_disk(disks[i].target);
        Node *old = disk->graph->pdata[0], *fresh = node_open(disks[i].overlay, false);
        if (fresh == NULL)
            return false;
        image_flush(&old->image);
        g_ptr_array_insert(disk->graph, 0, fresh);
    }
    relock();
    return true;
}
