/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * graft and copy: the step "prefill". The new volumes are built out of what nothing writes, by
 * sharing blocks or by copying, in a thread of its own: copying takes as long as it takes, and the
 * VM is to be looked at meanwhile.
 *
 * The thread shares nothing with the operation but its progress. Killed, the build begins again;
 * what was finished by then is thrown away, and so is what a turn of the VM made stale. An old
 * volume is only read.
 */
#include "agent/merge.h"

#include "agent/built.h"
#include "agent/survey.h"
#include "base/clock.h"
#include "base/fault.h"
#include "qcow2/build.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sys/stat.h>

#define NAP_US (20 * 1000)
#define POLL_MS 1000
#define FAILURES_MAX 3

struct Builder {
    Operation *op; /* for its progress and cancel, which its lock guards */
    GThread *thread;
    json_t *groups; /* those of the operation, with what is built marked */
    char *below, *below_format;
    uint64_t leaf_size, limit;
    int uid, gid;
    bool share;
    int drop, ended; /* atomic */
    int hold;        /* atomic: there is no room, it stands still */
    /* of the thread until it has ended */
    int64_t began_us;
    uint64_t before, to_come; /* of the progress: the groups before and after this one */
    uint64_t expected;        /* of this one, while its sources are being looked at */
    Qcow2Built sum;
    bool was_held;
    GError *error;
};

void
builder_free(Builder *builder)
{
    if (builder == NULL)
        return;
    g_atomic_int_set(&builder->drop, 1);
    if (builder->thread != NULL)
        g_thread_join(builder->thread);
    g_clear_error(&builder->error);
    json_decref(builder->groups);
    g_free(builder->below);
    g_free(builder->below_format);
    g_free(builder);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Builder, builder_free)

void
build_stop(Operation *op)
{
    g_clear_pointer(&merge_scratch(op)->builder, builder_free);
}

/* ---- in the thread ---- */

static bool
is_wanted(Builder *b)
{
    return operation_is_wanted(b->op) && g_atomic_int_get(&b->drop) == 0;
}

/* Waits while there is no room; that time does not count for the limit. */
static bool
keep_space(Builder *b)
{
    int64_t from = clock_mono_us();
    bool wanted = is_wanted(b), told = false;

    while (wanted && g_atomic_int_get(&b->hold) != 0) {
        if (!told)
            operation_phase(b->op, "paused"); /* go_on() may have said otherwise just before */
        told = true;
        b->was_held = true;
        g_usleep(NAP_US);
        wanted = is_wanted(b);
        b->began_us += clock_mono_us() - from;
        from = clock_mono_us();
    }
    return wanted;
}

/* Waits until so many bytes are due by the limit. */
static bool
keep_rate(Builder *b, uint64_t done)
{
    bool wanted = keep_space(b);

    if (b->share || b->limit == 0)
        return wanted;
    int64_t due = b->began_us + (int64_t)((double)done / (double)b->limit * 1e6);
    for (int64_t now = clock_mono_us(); wanted && now < due; now = clock_mono_us()) {
        g_usleep((gulong)MIN(due - now, NAP_US));
        wanted = is_wanted(b);
    }
    return wanted;
}

static bool
go_on(uint64_t done, uint64_t total, void *data)
{
    Builder *b = data;
    bool held = g_atomic_int_get(&b->hold) != 0;

    operation_progress(b->op,
                       b->share ? "sharing"
                       : held   ? "paused"
                                : "copying",
                       b->before + done, b->before + MAX(total, b->expected) + b->to_come);
    return keep_rate(b, b->before + done);
}

/* A run is as large as its top; only the new leaf must be as large as the one it replaces. */
static bool
build_group(Builder *b, const json_t *group, const char *below, const char *below_format,
            uint64_t size, GError **error)
{
    unsigned n = 0;
    g_autofree Qcow2Source *sources = sources_of(json_object_get(group, "volumes"), &n);
    const char *dest = json_text(group, "dest");
    g_autofree char *backing = below != NULL ? relative_name(dest, below) : NULL;
    Qcow2Built built = { 0 };

    if (n == 0) /* the leaf alone: a job brings all it holds */
        return qcow2_create(dest, size, backing, below_format, 0600, b->uid, b->gid, error);
    Qcow2Build build = { .layers = sources,
                         .n = n,
                         .dest = dest,
                         .backing = backing,
                         .backing_format = backing != NULL ? below_format : NULL,
                         .virtual_size = size,
                         .mode = 0600,
                         .uid = b->uid,
                         .gid = b->gid,
                         .share = b->share,
                         .must_share = b->share,
                         .progress = go_on,
                         .data = b };
    if (!qcow2_build(&build, &built, error))
        return false;
    b->before += built_add(&b->sum, &built);
    return true;
}

static uint64_t
bytes_of_group(const json_t *group)
{
    uint64_t bytes = 0;
    size_t i;
    json_t *volume;

    json_array_foreach (json_object_get(group, "volumes"), i, volume)
        bytes += volume_allocated(json_text(volume, "path"));
    return bytes;
}

static bool
build_all(Builder *b, GError **error)
{
    const char *below = b->below, *format = b->below_format;
    size_t i;
    json_t *group;

    json_array_foreach (b->groups, i, group) {
        bool last = i + 1 == json_array_size(b->groups), built = json_flag(group, "built");
        b->expected = built ? 0 : bytes_of_group(group);
        b->to_come -= MIN(b->to_come, b->expected);
        if (!built && (!build_group(b, group, below, format, last ? b->leaf_size : 0, error) ||
                       !fault_point("agent.graft.built", error)))
            return false;
        json_object_set_new(group, "built", json_true());
        below = json_text(group, "dest");
        format = "qcow2";
    }
    return true;
}

static void *
build_thread(void *data)
{
    Builder *b = data;
    g_autofree char *vm_id = g_strdup(b->op->row.vm_id);

    b->began_us = clock_mono_us();
    build_all(b, &b->error);
    b->began_us = clock_mono_us() - b->began_us; /* from here on: how long it took */
    g_atomic_int_set(&b->ended, 1);
    agent_kick(b->op->agent, vm_id);
    return NULL;
}

/* ---- the step ---- */

StepState
build_still_off(Operation *op, StepState otherwise, GError **error)
{
    g_autoptr(HvDomain) hv = NULL;

    if (!merge_is_cold(op) || !graft_leaf_is_built(op))
        return otherwise;
    hv = op_hv(op, error);
    if (hv == NULL)
        return STEP_UNKNOWN;
    StepState life = merge_follow(op, hv, error);
    if (life != STEP_DONE)
        return life;
    if (!merge_flag(op, "prefilled") || !merge_leaf_changed(op))
        return otherwise;
    graft_forget_top(op);
    return STEP_BACK;
}

static void
add_bytes(Operation *op, const char *key, uint64_t bytes)
{
    op_remember(op, key, json_integer(json_number(op->row.data, key) + (json_int_t)bytes));
}

static StepState
take_over(Operation *op, GError **error)
{
    g_autoptr(Builder) b = g_steal_pointer(&merge_scratch(op)->builder);

    add_bytes(op, "shared", b->sum.bytes_shared);
    add_bytes(op, "copied", b->sum.bytes_copied);
    add_bytes(op, "written", b->sum.bytes_written);
    op_remember(op, "bytes", json_integer(json_number(op->row.data, "copied")));
    op_remember(op, "groups", json_incref(b->groups));
    double seconds = (double)b->began_us / 1e6; /* of what was limited or held it says nothing */
    if (b->share)
        survey_learn(op->agent, merge_new_leaf(op), RATE_SHARE, b->sum.share_calls, seconds);
    else if (b->limit == 0 && !b->was_held)
        survey_learn(op->agent, merge_new_leaf(op), RATE_COPY, (double)b->sum.bytes_copied,
                     seconds);
    if (b->error == NULL) {
        op_remember(op, "prefilled", json_integer((json_int_t)b->before));
        return STEP_DONE;
    }
    /* the death of an agent is no failure of the build: so they are counted here */
    bool again = agent_stopping(op->agent) ||
                 (error_may_retry(b->error) && ++merge_scratch(op)->build_failures < FAILURES_MAX);
    g_propagate_error(error, g_steal_pointer(&b->error));
    return again ? STEP_UNKNOWN : STEP_FAILED;
}

static bool
limit_build(Operation *op, uint64_t limit, void *builder, GError **error)
{
    Builder *b = builder;

    g_atomic_int_set(&b->hold, limit == SPACE_HOLD);
    return true;
}

static void
watch_space(Operation *op, Builder *b)
{
    bool held = g_atomic_int_get(&b->hold) != 0;
    uint64_t left;

    g_mutex_lock(&op->agent->lock);
    left = op->bytes_total - MIN(op->bytes_done, op->bytes_total);
    g_mutex_unlock(&op->agent->lock);
    merge_watch_space(op, left, held ? SPACE_HOLD : b->limit, limit_build, b);
}

StepState
build_check(void *self, GError **error)
{
    Operation *op = self;
    Builder *b = merge_scratch(op)->builder;

    if (!merge_is_forward(op) || merge_flag(op, "prefilled"))
        return STEP_DONE;
    if (b != NULL && g_atomic_int_get(&b->ended) != 0)
        return take_over(op, error);
    op->poll_ms = POLL_MS; /* the thread wakes us at its end */
    if (b != NULL && !b->share)
        watch_space(op, b);
    return build_still_off(op, b != NULL ? STEP_RUNNING : STEP_TODO, error);
}

/* What an earlier try left, also under the name of what is half built: since then the VM may have
 * started, and nothing is built of its leaf. Nobody stands on it: the chain is as before. */
static bool
clear_place(const json_t *groups, uint64_t *ret_bytes, GError **error)
{
    size_t i;
    json_t *group;

    json_array_foreach (groups, i, group) {
        const char *dest = json_text(group, "dest");
        if (json_flag(group, "built"))
            continue;
        *ret_bytes += bytes_of_group(group);
        if (volume_is_open(dest))
            return error_set(error, ERR_BUSY, "the unfinished %s is open in a QEMU", dest);
        g_autofree char *unfinished = qcow2_build_name(dest);
        if ((g_unlink(dest) < 0 && errno != ENOENT) ||
            (g_unlink(unfinished) < 0 && errno != ENOENT))
            return error_set_errno(error, "removing the unfinished %s", dest);
    }
    return true;
}

static Builder *
builder_new(Operation *op, GPtrArray *layers, const struct stat *owner)
{
    Builder *b = g_new0(Builder, 1);
    json_t *groups = json_object_get(op->row.data, "groups");
    size_t below =
        json_array_size(json_object_get(op->row.data, "after")) - json_array_size(groups);

    b->op = op;
    b->groups = json_deep_copy(groups);
    b->leaf_size = ((Qcow2Layer *)layers->pdata[layers->len - 1])->virtual_size;
    b->limit = (uint64_t)json_number(op->row.params, "bandwidth");
    b->uid = (int)owner->st_uid;
    b->gid = (int)owner->st_gid;
    b->share = merge_is(op, "graft");
    if (below > 0) {
        const Qcow2Layer *layer = layers->pdata[below - 1];
        b->below = g_strdup(layer->path);
        b->below_format = g_strdup(layer->format);
    }
    return b;
}

/* In this order: whoever starts the VM after the look changes what is noted. */
static bool
leaf_is_quiet(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = NULL;

    if (!merge_note_leaf(op, error) || (hv = op_hv(op, error)) == NULL)
        return false;
    switch (merge_life(op, hv, error)) {
    case LIFE_SAME:
        return true;
    case LIFE_OTHER:
        return error_set(error, ERR_BUSY, "VM '%s' has started", hv->name);
    case LIFE_UNCLEAR:
    default:
        return false;
    }
}

/* The disk was made larger in the very moment of the seal (overlay_refit() came before), and T has
 * cut off its end: T is committed into the old leaf again, which still has it. */
static bool
seal_cuts_nothing(const Operation *op, const GPtrArray *layers, GError **error)
{
    guint n = layers->len;

    if (!merge_flag(op, "sealed") || n < 2)
        return true;
    const Qcow2Layer *leaf = layers->pdata[n - 2], *seal = layers->pdata[n - 1];
    return seal->virtual_size >= leaf->virtual_size ||
           error_set(
               error, ERR_REFUSED,
               "disk %s was made larger just as its volume was sealed: %s is smaller than %s. "
               "No data are lost, and the end of the disk comes back; delete the snapshot "
               "again",
               op_data(op, "target"), seal->path, leaf->path);
}

bool
build_act(void *self, GError **error)
{
    Operation *op = self;
    const char *leaf = merge_old_leaf(op);
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(leaf, "qcow2", NULL, error);
    g_autoptr(Builder) b = NULL;
    struct stat owner;

    if (layers == NULL || !seal_cuts_nothing(op, layers, error))
        return false;
    if (stat(leaf, &owner) < 0)
        return error_set_errno(error, "%s", leaf);
    b = builder_new(op, layers, &owner);
    if (!clear_place(b->groups, &b->to_come, error))
        return false;
    if (!graft_leaf_is_built(op))
        b->to_come += volume_allocated(leaf);
    else if (merge_is_cold(op) && !leaf_is_quiet(op, error))
        return false;
    b->thread = g_thread_new("build", build_thread, b);
    merge_scratch(op)->builder = g_steal_pointer(&b);
    return true;
}
