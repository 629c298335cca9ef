/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cloning: the step "build", in a thread of its own. It shares nothing with the operation but its
 * progress and cancel. Killed, it begins again; what it had copied by then is removed first.
 */
#include "agent/clone.h"

#include "agent/built.h"
#include "agent/space.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"
#include "qcow2/build.h"

#include <string.h>
#include <sys/stat.h>

#define POLL_MS 1000
#define FAILURES_MAX 3
#define NAP_US (20 * 1000)
/* How often the thread itself looks at the free space: in time, and in bytes */
#define LOOK_US (250 * 1000)
#define LOOK_BYTES (UINT64_C(16) << 20)

typedef struct {
    Operation *op; /* for its progress and cancel, which its lock guards */
    GThread *thread;
    json_t *disks;
    GArray *locks; /* of int: nobody can start the VM that is read */
    bool share;
    int drop, ended; /* atomic */
    int hold;        /* atomic: there is no room, it stands still; the worker takes it away */
    int at;          /* atomic: which disk is being built */
    uint64_t floor;  /* what must stay free; agent->lock */
    /* of the thread until it has ended */
    uint64_t before, to_come; /* of the progress */
    const Domain *domain;     /* that the present disk goes to */
    int64_t looked_us;
    uint64_t looked_at; /* so many bytes were done then */
    Qcow2Built sum;
    GError *error;
} Builder;

typedef struct {
    Builder *builder;
    unsigned failures;
    SpacePace pace;
    int watched; /* the disk whose storage was looked at last */
} Scratch;

static void
builder_free(Builder *builder)
{
    if (builder == NULL)
        return;
    g_atomic_int_set(&builder->drop, 1);
    if (builder->thread != NULL)
        g_thread_join(builder->thread);
    for (guint i = 0; i < builder->locks->len; i++)
        autofd_close(&g_array_index(builder->locks, int, i));
    g_array_unref(builder->locks);
    g_clear_error(&builder->error);
    json_decref(builder->disks);
    g_free(builder);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Builder, builder_free)

static Scratch *
scratch_of(Operation *op)
{
    if (op->scratch == NULL)
        op->scratch = g_new0(Scratch, 1);
    return op->scratch;
}

void
clone_build_stop(Operation *op)
{
    g_clear_pointer(&scratch_of(op)->builder, builder_free);
    space_watch_end(op);
}

void
clone_scratch_free(void *scratch)
{
    builder_free(((Scratch *)scratch)->builder);
    g_free(scratch);
}

/* ---- in the thread ---- */

static bool
is_wanted(Builder *b)
{
    return operation_is_wanted(b->op) && g_atomic_int_get(&b->drop) == 0;
}

static uint64_t
floor_of(Builder *b)
{
    WITH_LOCK(&b->op->agent->lock);

    return b->floor;
}

/* The thread looks itself, for the worker may be late: what guests need comes first. The worker
 * then tells people, and says when it goes on. */
static bool
has_room(Builder *b, uint64_t done)
{
    uint64_t room = 0;

    if (b->share || (clock_mono_us() - b->looked_us < LOOK_US && done - b->looked_at < LOOK_BYTES))
        return true;
    b->looked_us = clock_mono_us();
    b->looked_at = done;
    if (!domain_space(b->domain, &room, NULL, NULL) || room >= floor_of(b))
        return true;
    g_atomic_int_set(&b->hold, 1);
    agent_kick(b->op->agent, b->op->row.vm_id);
    return false;
}

static bool
go_on(uint64_t done, uint64_t total, void *data)
{
    Builder *b = data;
    uint64_t whole = b->before + total + b->to_come;
    bool told = false;

    operation_progress(b->op, b->share ? "sharing" : "copying", b->before + done, whole);
    /* while it only reads what is to be copied, there is no total */
    while (is_wanted(b) &&
           (g_atomic_int_get(&b->hold) != 0 || (total > 0 && !has_room(b, b->before + done)))) {
        if (!told)
            operation_phase(b->op, "paused"); /* whatever was said last */
        told = true;
        g_usleep(NAP_US);
    }
    return is_wanted(b);
}

/* What tells that a volume was written: its size and the time of the last write. */
static char *
stamps_of(const json_t *volumes, GError **error)
{
    g_autoptr(GString) stamps = g_string_new(NULL);
    size_t i;
    json_t *volume;

    json_array_foreach ((json_t *)volumes, i, volume) {
        struct stat st;
        if (stat(json_text(volume, "path"), &st) < 0) {
            error_set_errno(error, "%s", json_text(volume, "path"));
            return NULL;
        }
        g_autofree char *look = volume_look_of(&st);
        g_string_append_printf(stamps, "%s\n", look);
    }
    return g_string_free(g_steal_pointer(&stamps), FALSE);
}

static bool
build_volume(Builder *b, const json_t *disk, GError **error)
{
    unsigned n = 0;
    g_autofree Qcow2Source *layers = sources_of(json_object_get(disk, "volumes"), &n);
    Qcow2Built built = { 0 };
    struct stat owner;

    if (stat(layers[n - 1].path, &owner) < 0)
        return error_set_errno(error, "%s", layers[n - 1].path);
    Qcow2Build build = { .layers = layers,
                         .n = n,
                         .dest = json_text(disk, "dest"),
                         .mode = 0600,
                         .uid = (int)owner.st_uid,
                         .gid = (int)owner.st_gid,
                         .share = b->share,
                         .progress = go_on,
                         .data = b };
    if (!qcow2_build(&build, &built, error))
        return false;
    b->before += built_add(&b->sum, &built);
    return qcow2_check_sound(build.dest, error);
}

static bool
build_disk(Builder *b, const json_t *disk, GError **error)
{
    const json_t *volumes = json_object_get(disk, "volumes");
    g_autofree char *before = stamps_of(volumes, error), *after = NULL;

    if (before == NULL || !build_volume(b, disk, error) ||
        (after = stamps_of(volumes, error)) == NULL)
        return false;
    return g_str_equal(before, after) ||
           error_set(error, ERR_REFUSED,
                     "a volume of disk %s was written while it was cloned, by something that is "
                     "not livemerge; the clone is thrown away, the VM itself is as it was",
                     json_text(disk, "target"));
}

static bool
build_all(Builder *b, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (b->disks, i, disk) {
        uint64_t size = (uint64_t)json_number(disk, "bytes");
        b->to_come -= MIN(b->to_come, size);
        g_atomic_int_set(&b->at, (int)i);
        b->domain = agent_domain(b->op->agent, json_text(disk, "dest"), false, error);
        if (b->domain == NULL || !build_disk(b, disk, error) ||
            !fault_point("agent.clone.built", error))
            return false;
    }
    return true;
}

static void *
build_thread(void *data)
{
    Builder *b = data;
    g_autofree char *vm_id = g_strdup(b->op->row.vm_id);

    build_all(b, &b->error);
    g_atomic_int_set(&b->ended, 1);
    agent_kick(b->op->agent, vm_id);
    return NULL;
}

/* ---- the step ---- */

static StepState
take_over(Operation *op, GError **error)
{
    Scratch *scratch = scratch_of(op);
    g_autoptr(Builder) b = g_steal_pointer(&scratch->builder);

    if (b->error == NULL) {
        op_result(op, "strategy", json_string(b->share ? "share" : "copy"));
        op_result(op, "bytes_shared", json_integer((json_int_t)b->sum.bytes_shared));
        op_result(op, "bytes_copied", json_integer((json_int_t)b->sum.bytes_copied));
        op_result(op, "bytes_written", json_integer((json_int_t)b->sum.bytes_written));
        op_remember(op, "built", json_true());
        return STEP_DONE;
    }
    /* the death of an agent is no failure of the build: so they are counted here */
    bool again = agent_stopping(op->agent) ||
                 (error_may_retry(b->error) && ++scratch->failures < FAILURES_MAX);
    g_propagate_error(error, g_steal_pointer(&b->error));
    return again ? STEP_UNKNOWN : STEP_FAILED;
}

static uint64_t
bytes_left(Operation *op)
{
    WITH_LOCK(&op->agent->lock);

    return op->bytes_total - MIN(op->bytes_done, op->bytes_total);
}

/* Each disk may go to another storage domain. */
static void
watch_space(Operation *op, Builder *b)
{
    Scratch *scratch = scratch_of(op);
    int at = g_atomic_int_get(&b->at);
    const json_t *disk = json_array_get(json_object_get(op->row.data, "disks"), (size_t)at);
    bool stands = g_atomic_int_get(&b->hold) != 0;
    const SpaceWatch watch = { .pace = &scratch->pace,
                               .what = "clone",
                               .target = json_text(disk, "target"),
                               .growing = json_text(disk, "dest"),
                               .left = bytes_left(op),
                               .now = stands ? SPACE_HOLD : 0 };

    if (at != scratch->watched && !space_is_held(op))
        op_remember(op, "space_floor", NULL);
    if (at != scratch->watched || stands != space_is_held(op))
        scratch->pace.due_us = 0;
    scratch->watched = at;
    space_watch(op, &watch);
    g_mutex_lock(&op->agent->lock);
    b->floor = (uint64_t)json_number(op->row.data, "space_floor");
    g_mutex_unlock(&op->agent->lock);
    g_atomic_int_set(&b->hold, space_is_held(op));
}

StepState
clone_build_check(void *self, GError **error)
{
    Operation *op = self;
    Builder *b = scratch_of(op)->builder;

    if (json_object_get(op->row.data, "built") != NULL)
        return STEP_DONE;
    if (b != NULL && g_atomic_int_get(&b->ended) != 0)
        return take_over(op, error);
    op->poll_ms = POLL_MS; /* the thread wakes us at its end */
    if (b != NULL && !b->share)
        watch_space(op, b);
    return b != NULL ? STEP_RUNNING : STEP_TODO;
}

/* Who starts the VM now would change what is read. */
static bool
lock_leaves(Operation *op, Builder *b, GError **error)
{
    g_autoptr(HvDomain) hv = NULL;
    size_t i;
    json_t *disk;

    if (op_text(op, "snapshot_id") != NULL)
        return true;
    json_array_foreach (b->disks, i, disk) {
        const json_t *volumes = json_object_get(disk, "volumes");
        const json_t *leaf = json_array_get(volumes, json_array_size(volumes) - 1);
        int fd = image_lock(json_text(leaf, "path"), error);
        if (fd < 0)
            return false;
        g_array_append_val(b->locks, fd);
    }
    hv = op_hv(op, error);
    return hv != NULL &&
           (hv->state == VM_DOWN ||
            error_set(error, ERR_REFUSED, "VM '%s' was started: it is not cloned as it is now",
                      hv->name));
}

static Builder *
builder_new(Operation *op)
{
    Builder *b = g_new0(Builder, 1);
    size_t i;
    json_t *disk;

    b->op = op;
    b->disks = json_deep_copy(json_object_get(op->row.data, "disks"));
    b->locks = g_array_new(FALSE, FALSE, sizeof(int));
    b->share = json_flag(op->row.data, "share");
    json_array_foreach (b->disks, i, disk)
        b->to_come += (uint64_t)json_number(disk, "bytes");
    return b;
}

bool
clone_build_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(Builder) b = builder_new(op);

    if (!lock_leaves(op, b, error) || !clone_remove_volumes(op, error) ||
        !fault_point("agent.clone.before-build", error))
        return false;
    operation_progress(op, b->share ? "sharing" : space_phase(op), 0, b->to_come);
    if (!b->share)
        watch_space(op, b); /* from now on it is known what was free before */
    b->thread = g_thread_new("clone", build_thread, b);
    scratch_of(op)->builder = g_steal_pointer(&b);
    return true;
}

/* ---- taking back ---- */

bool
clone_remove_volumes(const Operation *op, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        const char *dest = json_text(disk, "dest");
        g_autofree char *half = qcow2_build_name(dest);
        if (volume_is_open(dest))
            return error_set(error, ERR_BUSY, "some process has the unfinished %s open", dest);
        if (!volume_unlink((const char *const[]){ dest, half, NULL }, error))
            return false;
    }
    return true;
}
