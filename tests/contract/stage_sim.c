/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stage_sim.h"

#include "qcow2/qcow2.h"
#include "sim/libvirt.h"

#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define LONGEST_US (30 * 60 * G_TIME_SPAN_SECOND)
#define MOST_FILES 8 /* of a disk, whose content tells worlds apart */

Stage stage;
const char *const stage_word = "the simulator";
const bool stage_is_real;
static const Flow no_flow = { .name = "contract", .disks = 1, .depth = STAGE_DEPTH };

void
__wrap_log_write(GLogLevelFlags level, const char *vm_id, const char *op, const char *format, ...)
{
    (void)level;
    (void)vm_id;
    (void)op;
    (void)format;
}

void
stage_init(void)
{
    json_object_seed(1);
}

void
stage_exit(void)
{
}

/* ---- the set-up ---- */

static void
make_volume(SimDisk *disk, unsigned d, unsigned i)
{
    static const unsigned held[STAGE_DEPTH] = { 0x0f, 0x06, 0x0c };
    char name[8], below[16];
    g_autoptr(GError) error = NULL;
    Image image;

    g_snprintf(name, sizeof name, "%c%u", 'a' + d, i);
    g_snprintf(below, sizeof below, "%c%u.qcow2", 'a' + d, i - 1);
    g_autofree char *path = stage_path(name);
    if (!qcow2_create(path, stage.bytes, i > 0 ? below : NULL, i > 0 ? "qcow2" : NULL, 0600, -1, -1,
                      &error))
        g_error("%s", error->message);
    g_assert(image_at(vfs_find(path), path, false, &image));
    for (unsigned c = 0; c < STAGE_CLUSTERS; c++) {
        if ((held[i] >> c & 1) == 0)
            continue;
        image_put(&image, c, i * 16 + c + 1);
        disk->acked[c] = i * 16 + c + 1;
    }
    image_flush(&image);
    vfs_sync(image.node);
    g_strlcpy(disk->defined, path, sizeof disk->defined);
    g_strlcpy(disk->defined_durable, path, sizeof disk->defined_durable);
}

static void
make_stage(unsigned disks)
{
    memset(vm.disks, 0, sizeof vm.disks);
    g_strlcpy(vm.id, "12345678-1234-4234-8234-123456789abc", sizeof vm.id);
    g_strlcpy(vm.texts.name, "web", sizeof vm.texts.name);
    vm.n_disks = disks;
    vm.clusters = STAGE_CLUSTERS;
    vm.runs = vm.paused = vm.starting = vm.in_hook = vm.user_paused = vm.libvirtd = false;
    vm.wanted = vm.saving = false;
    vm.there = true;
    memset(&vm.saved, 0, sizeof vm.saved);
    vm.lost = vm.found_again = false;
    vm.late_end_us = 0;
    vm.adds_nodes = vm.left_nodes = vm.passed_left = 0;
    vm.n_adds_below = vm.n_left_below = 0;
    vm.flushes_until_us = 0;
    vm.life = vm.config = vm.config_durable = 0;
    for (unsigned d = 0; d < disks; d++) {
        graph_clear(&vm.disks[d]);
        g_snprintf(vm.disks[d].target, sizeof vm.disks[d].target, "vd%c", 'a' + d);
        for (unsigned i = 0; i < STAGE_DEPTH; i++)
            make_volume(&vm.disks[d], d, i);
    }
}

static struct {
    void (*body)(void *);
    void *data;
    bool done;
    int64_t until_us;
} play;

static void
play_main(void *data)
{
    g_autoptr(GError) error = NULL;

    (void)data;
    make_stage(stage.disks);
    vm.libvirtd = true;
    stage.hv = libvirt_client_new(stage_event, NULL);
    while (!stage.hv->ops->is_connected(stage.hv))
        fiber_sleep_us(1000);
    if (!stage_start(&error))
        g_error("the simulator's VM does not start: %s", error->message);
    play.body(play.data);
    play.done = true;
}

static unsigned
lies_of(uint64_t seed)
{
    return (seed % 2 == 0 ? LIE_FORGETS : 0) | (seed % 3 == 0 ? LIE_LOSES_VM : 0) |
           (seed % 5 < 2 ? LIE_NO_MIRROR : 0);
}

void
stage_begin(unsigned disks, uint64_t seed, void (*body)(void *), void *data)
{
    other_reset();
    plan = (Schedule){ .flow = &no_flow, .seed = seed, .lies = lies_of(seed), .no_guest = true };
    fibers_reset(seed);
    fiber_on_point = NULL;
    vfs_reset();
    vfs_on_name_gone = NULL;
    vfs_make(HOME, true);
    libvirt_reset();
    wire_reset();
    mutants_reset();
    faults_reset();
    world_agent = NULL;
    stage.disks = disks;
    stage.bytes = STAGE_CLUSTERS * CLUSTER_BYTES;
    g_strlcpy(stage.dir, HOME, sizeof stage.dir);
    g_strlcpy(stage.vm_id, "12345678-1234-4234-8234-123456789abc", sizeof stage.vm_id);
    play.body = body;
    play.data = data;
    play.done = false;
    play.until_us = fiber_now_us() + LONGEST_US;
    fiber_start(P_AGENT, "contract", play_main, NULL);
}

bool
stage_go_on(const bool *stops)
{
    while (!play.done && !*stops && fiber_now_us() < play.until_us &&
           fibers_run(fiber_now_us() + 20000))
        ;
    if (!play.done && !*stops) {
        g_autofree char *state = fibers_state();
        g_error("the simulator stands still:\n%s", state);
    }
    return !play.done;
}

void
stage_choose(uint64_t chance)
{
    fiber_reseed(chance);
    plan.lies = ((chance & 1) != 0 ? LIE_FORGETS : 0) | ((chance & 2) != 0 ? LIE_LOSES_VM : 0) |
                ((chance & 4) != 0 ? LIE_NO_MIRROR : 0) | (chance % 10 == 8 ? LIE_QEMU_DIES : 0);
}

void
stage_run(unsigned disks, uint64_t seed, void (*body)(void *), void *data)
{
    static const bool never;

    stage_begin(disks, seed, body, data);
    stage_go_on(&never);
}

/* ---- kinds of worlds ---- */

static void
add_bytes(uint64_t *kind, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *kind = (*kind ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
}

static void
add_word(uint64_t *kind, const char *word)
{
    add_bytes(kind, word, strlen(word) + 1);
}

static void
add_paths(uint64_t *kind, const GPtrArray *paths)
{
    for (guint i = 0; paths != NULL && i < paths->len; i++)
        add_word(kind, paths->pdata[i]);
    add_word(kind, paths != NULL ? "." : "");
}

static void
add_view(uint64_t *kind, const View *view)
{
    const bool bits[] = { view->job_is_new, view->job_is_ready, view->job_aborts,
                          view->job_pivots };

    add_word(kind, view->source);
    add_paths(kind, view->backing);
    add_word(kind, view->mirror_job);
    add_word(kind, view->mirror_path);
    add_word(kind, view->mirror_ready);
    add_bytes(kind, bits, sizeof bits);
}

static void
add_disk(uint64_t *kind, const SimDisk *disk)
{
    const Job *now = &disk->job;
    const unsigned job[] = { now->type, now->state, now->outcome,
                             now->type != HV_JOB_NONE && now->bandwidth > 0 };
    const bool asked[] = { now->cancel, now->cancel_is_known, now->pivot, now->was_ready,
                           now->dirty == 0 };
    const bool bits[] = { disk->live_is_read,
                          disk->mirror_is_read,
                          disk->concluding,
                          disk->noting,
                          disk->notes.there,
                          disk->notes.told,
                          disk->left_open != NULL && disk->left_open->len > 0 };

    add_bytes(kind, job, sizeof job);
    add_bytes(kind, asked, sizeof asked);
    add_bytes(kind, bits, sizeof bits);
    for (guint i = 0; i < disk->graph->len; i++) {
        const Node *node = disk->graph->pdata[i];
        const bool written[] = { node->kept_open, node->image.node->writes != NULL &&
                                                      node->image.node->writes->len > 0 };
        add_word(kind, node->path);
        add_bytes(kind, written, sizeof written);
    }
    add_view(kind, &disk->live);
    add_view(kind, &disk->status);
    add_word(kind, disk->defined);
    add_paths(kind, disk->defined_backing);
}

/* Which of its files, with what is below them, hold what the guest has written: what QEMU had not
 * flushed shows when the VM starts from one of them. */
static void
add_whole(uint64_t *kind, const SimDisk *disk, char letter)
{
    for (unsigned n = 0; n < MOST_FILES; n++) {
        g_autofree char *name = g_strdup_printf("%c%u", letter, n);
        unsigned values[STAGE_CLUSTERS];
        bool whole = stage_read(name, values);
        for (unsigned c = 0; whole && c < STAGE_CLUSTERS; c++)
            whole = values[c] == disk->acked[c];
        add_bytes(kind, &whole, sizeof whole);
    }
}

/* The last call: one that was begun may be answered or not, as something dies. */
static void
add_call(uint64_t *kind)
{
    const Call *call = libvirt_calls->len > 0 ? libvirt_calls->pdata[libvirt_calls->len - 1] : NULL;
    const bool bits[] = { call != NULL && call->done, call != NULL && call->ok };

    add_bytes(kind, bits, sizeof bits);
}

uint64_t
stage_kind_now(void)
{
    const bool bits[] = { vm.runs, vm.paused, vm.lost, vm.libvirtd, vm.saving };
    const unsigned nodes[] = { vm.adds_nodes, vm.left_nodes, vm.passed_left, vm.n_left_below };
    uint64_t kind = UINT64_C(0xcbf29ce484222325);

    add_bytes(&kind, bits, sizeof bits);
    add_bytes(&kind, nodes, sizeof nodes);
    add_call(&kind);
    for (unsigned d = 0; d < vm.n_disks; d++)
        add_disk(&kind, &vm.disks[d]);
    return kind;
}

uint64_t
stage_kind(void)
{
    uint64_t kind = stage_kind_now();

    for (unsigned d = 0; d < vm.n_disks; d++)
        add_whole(&kind, &vm.disks[d], (char)('a' + d));
    return kind;
}

/* ---- what others do ---- */

static Node *
leaf_of(const char *target)
{
    SimDisk *disk = qemu_disk(target);

    return vm.runs && disk != NULL ? disk->graph->pdata[0] : NULL;
}

bool
stage_write(const char *target, unsigned cluster, unsigned value)
{
    Node *leaf = leaf_of(target);

    if (leaf == NULL)
        return false;
    SimDisk *disk = qemu_disk(target);
    image_put(&leaf->image, cluster, value);
    disk->acked[cluster] = value;
    disk->job.dirty |= UINT64_C(1) << cluster;
    fiber_point("QEMU wrote");
    return true;
}

bool
stage_flush(const char *target)
{
    Node *leaf = leaf_of(target);

    if (leaf != NULL)
        image_flush(&leaf->image);
    fiber_point("QEMU flushed");
    return leaf != NULL;
}

bool
stage_hurry(const char *target)
{
    Job *job = &qemu_disk(target)->job;

    if (!vm.runs || job->type == HV_JOB_NONE)
        return false;
    job->bandwidth = 0;
    fiber_wake(job, true);
    return true;
}

bool
stage_read(const char *leaf, unsigned values[STAGE_CLUSTERS])
{
    g_autofree char *path = stage_path(leaf);
    char broken[128];
    g_autoptr(GArray) chain = image_chain(path, g_str_has_suffix(path, ".raw"), broken);

    for (unsigned c = 0; chain != NULL && c < STAGE_CLUSTERS; c++)
        values[c] = (unsigned)image_chain_get(chain, c);
    return chain != NULL;
}

bool
stage_start(GError **error)
{
    char why[128] = "";

    if (!libvirt_start_vm(why))
        return error_set(error, ERR_HYPERVISOR, "%s", why);
    vm.paused = true;
    return true;
}

void
stage_destroy(void)
{
    if (vm.libvirtd && libvirt_sees_vm())
        qemu_died();
}

void
stage_kill_qemu(void)
{
    qemu_died();
}

void
stage_kill_libvirtd(void)
{
    libvirtd_died();
    fiber_sleep_us(1000);
}

void
stage_cancel_in_qemu(const char *target)
{
    Job *job = &qemu_disk(target)->job;

    job->cancel = true;
    fiber_wake(job, true);
    while (job->state != JOB_NONE && job->state != JOB_CONCLUDED)
        fiber_sleep_us(1000);
}

void
stage_forget_mirror(const char *target)
{
    View *status = &qemu_disk(target)->status;

    *status->mirror_job = *status->mirror_path = *status->mirror_ready = '\0';
}

void
stage_start_libvirtd(void)
{
    libvirtd_start();
    while (!vm.libvirtd)
        fiber_sleep_us(1000);
}
