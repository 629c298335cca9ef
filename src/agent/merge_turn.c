/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging while the VM stops, or starts again.
 *
 * Before the switch the old leaf is the truth in either life, so nothing is lost by it: what was
 * merged until then is done once more, or the rest of it, in the way that fits.
 *
 *   commit, commit-active  ◄─►  cold-commit    a commit only wrote into the base what the volumes
 *                                              above hold all the same
 *   graft, copy                                what was built of volumes that nothing writes stays
 *
 * A VM that is off cannot be started while a storage daemon has its images: QEMU's image locks see
 * to that. libvirt's hook asks before (merge_make_way()): the daemon ends, and the merge waits for
 * the VM to run.
 */
#include "agent/merge.h"

#include "agent/verify.h"
#include "base/clock.h"
#include "base/log.h"

#include <sys/stat.h>

static void
has_started(Operation *op)
{
    WITH_WAY(op);

    op->entry->starting_until_us = 0;
}

/* What the base took is taken once more, and checked then. */
static void
turn_commit(Operation *op, bool off)
{
    const char *live = merge_has_leaf(op) ? "commit-active" : "commit";

    op_remember(op, "strategy", json_string(off ? "cold-commit" : live));
    op_remember(op, "checked", NULL);
}

StepState
merge_turn(Operation *op, const HvDomain *hv)
{
    MergeScratch *scratch = merge_scratch(op);
    bool off = hv->instance == NULL;

    build_stop(op);
    verify_stop(op);
    if (!off)
        has_started(op);
    op_remember(op, "instance", off ? NULL : json_string(hv->instance));
    op_remember(op, "completed", NULL);
    op_remember(op, "switching", NULL);
    op_remember(op, "pivoting", NULL); /* that life is over */
    scratch->job_gone_us = 0;
    scratch->job_first_total = 0;
    g_clear_pointer(&scratch->work, g_free);
    scratch->daemon_deaths = 0;
    if (merge_is_forward(op))
        graft_turn(op);
    else
        turn_commit(op, off);
    log_vm_info(op->row.vm_id, op->row.id, "VM %s %s: the merge of its disk %s goes on (%s)",
                hv->name, off ? "is off" : "runs", op_data(op, "target"), op_data(op, "strategy"));
    return STEP_BACK;
}

StepState
merge_follow(Operation *op, const HvDomain *hv, GError **error)
{
    switch (merge_life(op, hv, error)) {
    case LIFE_UNCLEAR:
        return STEP_UNKNOWN;
    case LIFE_OTHER:
        return merge_turn(op, hv);
    case LIFE_SAME:
    default:
        return STEP_DONE;
    }
}

bool
merge_excuse(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = NULL;

    if (error == NULL || *error == NULL || error_may_retry(*error))
        return false;
    hv = op_hv(op, NULL);
    if (hv != NULL && merge_life(op, hv, NULL) != LIFE_SAME)
        (*error)->code = ERR_BUSY;
    return false;
}

/* ---- did anybody write the leaf? ---- */

static json_t *
look_at_leaf(const Operation *op)
{
    struct stat st;

    if (stat(merge_old_leaf(op), &st) < 0)
        return NULL;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "dev", (json_int_t)st.st_dev, "ino",
                     (json_int_t)st.st_ino, "size", (json_int_t)st.st_size, "mtime",
                     (json_int_t)st.st_mtim.tv_sec, "mtime_ns", (json_int_t)st.st_mtim.tv_nsec,
                     "ctime", (json_int_t)st.st_ctim.tv_sec, "ctime_ns",
                     (json_int_t)st.st_ctim.tv_nsec);
}

bool
merge_note_leaf(Operation *op, GError **error)
{
    /* its times, too, must outlive the host's power: nobody has written it by losing that */
    if (!volume_sync_data(merge_old_leaf(op), error))
        return false;
    json_t *seen = look_at_leaf(op);
    if (seen == NULL)
        return error_set_errno(error, "%s", merge_old_leaf(op));
    op_remember(op, "leaf_seen", seen);
    return true;
}

bool
merge_leaf_changed(const Operation *op)
{
    json_t *seen = json_object_get(op->row.data, "leaf_seen");
    g_autoptr(json_t) now = look_at_leaf(op);

    return seen != NULL && !json_equal(seen, now);
}

/* ---- making way ---- */

bool
merge_may_be_cold(Operation *op, GError **error)
{
    WITH_WAY(op);

    if (merge_scratch(op)->stray_in_way && g_atomic_int_get(&op->agent->strays) != 0)
        return error_set(error, ERR_BUSY,
                         "VM %s: the storage daemon of a merge that the agent's journal has lost "
                         "still holds a volume of disk %s, it seems; the merge goes on when that "
                         "has ended, which it does once its storage answers",
                         op->row.vm_id, op_data(op, "target"));
    return clock_mono_us() >= op->entry->starting_until_us ||
           error_set(error, ERR_BUSY,
                     "VM %s is being started; the merge of disk %s goes on when it runs",
                     op->row.vm_id, op_data(op, "target"));
}

/* Of the merges of this VM: they may end, and be freed, at any time. */
static char **
merges_of(Agent *agent, AgentVm *entry)
{
    GPtrArray *ids = g_ptr_array_new();
    WITH_LOCK(&agent->lock);

    for (guint i = 0; i < entry->operations->len; i++) {
        const Operation *op = entry->operations->pdata[i];
        if (op->kind->steps == merge_steps)
            g_ptr_array_add(ids, g_strdup(op->row.id));
    }
    g_ptr_array_add(ids, NULL);
    return (char **)g_ptr_array_free(ids, FALSE);
}

/* Of a VM that we have suspended a person must hear, and it may be one that libvirtd has lost. */
bool
merge_leave(Operation *op, GError **error)
{
    if (json_object_get(op->row.data, "pivoting") != NULL)
        return error_set(error, ERR_BUSY, "its pivot is not concluded");
    autofd_close(&op->entry->image_lock);
    op->entry->image_lock = -1;
    return cold_stop(op, error);
}

bool
merge_make_way(Agent *agent, AgentVm *entry, unsigned budget_ms, GError **error)
{
    g_auto(GStrv) ids = merges_of(agent, entry);
    int64_t until = clock_mono_us() + (int64_t)budget_ms * 1000;
    WITH_LOCK(&entry->way_lock);

    if (*ids == NULL)
        return true;
    entry->starting_until_us = clock_mono_us() + MAKE_WAY_S * G_TIME_SPAN_SECOND;
    /* a switch in the middle sees that the VM has started, and which leaf it has */
    autofd_close(&entry->image_lock);
    entry->image_lock = -1;
    for (char **id = ids; *id != NULL; id++) {
        int64_t left = (until - clock_mono_us()) / 1000;
        if (!cold_end(agent, *id, left > 0 ? (int)left : 1, error))
            return false;
    }
    return true;
}
