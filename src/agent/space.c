/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/space.h"

#include "agent/merge.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"

/* How often to look: a fast disk takes more between two looks than a small reserve */
#define CALM_MS 250
#define NEAR_MS 50
#define NEAR (UINT64_C(512) << 20)

typedef struct {
    const Domain *domain;
    uint64_t room, reserve; /* free bytes now; and how many should stay free */
    uint64_t floor;         /* where it stands still */
    uint64_t left;
} Look;

bool
space_is_held(const Operation *op)
{
    return json_object_get(op->row.data, "attention") != NULL;
}

const char *
space_phase(const Operation *op)
{
    return space_is_held(op) ? "paused" : "copying";
}

/* The file that grows. */
static const char *
growing(const Operation *op)
{
    return merge_is_forward(op)
               ? op_data(op, "dest")
               : json_string_value(json_array_get(json_object_get(op->row.data, "run"), 0));
}

/* Somebody who begins with less than the reserve, or goes on with it, may use half of it. */
static uint64_t
floor_for(const Look *look)
{
    return look->room < look->reserve ? look->room / 2 : look->reserve;
}

static void
set_floor(Operation *op, uint64_t bytes)
{
    op_remember(op, "space_floor", json_integer((json_int_t)bytes));
}

static bool
take_look(Operation *op, uint64_t left, Look *look)
{
    uint64_t total = 0;

    look->left = left;
    look->domain = agent_domain(op->agent, growing(op), false, NULL);
    if (look->domain == NULL || !domain_space(look->domain, &look->room, &total, NULL))
        return false;
    look->reserve = domain_reserve(look->domain, total);
    if (json_object_get(op->row.data, "space_floor") == NULL ||
        (!space_is_held(op) && look->room >= 2 * look->reserve))
        set_floor(op, floor_for(look));
    look->floor = (uint64_t)json_number(op->row.data, "space_floor");
    return true;
}

static bool
has_room_again(const Look *look)
{
    return look->room >= 2 * look->floor || look->room >= look->floor + look->left;
}

static uint64_t
users_limit(const Operation *op)
{
    return (uint64_t)json_number(op->row.params, "bandwidth");
}

/* ---- standing still ---- */

static void
show_attention(Operation *op, const Look *look)
{
    g_autofree char *room = size_text(look->room), *floor = size_text(look->floor),
                    *left = size_text(look->left);
    g_autofree char *text = g_strdup_printf(
        "disk %s: the merge has paused, storage domain %s (%s) is nearly full: %s are free, %s "
        "are kept in reserve, up to %s are still to be copied. Nothing is lost. It goes on when "
        "there is room again; to go on at once: livemerge job resume, or cancel it",
        op_data(op, "target"), look->domain->name, look->domain->path, room, floor, left);

    op_remember(op, "attention", json_pack("{s:s, s:s}", "kind", "space", "message", text));
}

static void
not_now(Operation *op, const GError *error)
{
    log_vm_info(op->row.vm_id, op->row.id, "disk %s: %s; it is tried again", op_data(op, "target"),
                error->message);
}

/* First it is written down, then done: whoever finds it written sees that it is done. */
static void
hold(Operation *op, const Look *look, SpaceLimit set_limit, void *data)
{
    g_autoptr(GError) error = NULL;
    bool news = !space_is_held(op);

    merge_scratch(op)->job_began_us = 0; /* nothing can be learnt of its speed any more */
    if (news) {
        operation_phase(op, "paused");
        show_attention(op, look);
        operation_phase(op, "paused"); /* who is told of it sees both */
        log_vm_warn(op->row.vm_id, op->row.id, "%s",
                    json_text(json_object_get(op->row.data, "attention"), "message"));
    }
    if ((news && !operation_save(op, &error)) || !fault_point("agent.space.before-hold", &error) ||
        !set_limit(op, SPACE_HOLD, data, &error) || !fault_point("agent.space.held", &error))
        not_now(op, error);
}

static void
go_on(Operation *op, const Look *look, SpaceLimit set_limit, void *data)
{
    g_autoptr(GError) error = NULL;

    if (!set_limit(op, users_limit(op), data, &error)) {
        not_now(op, error);
        return;
    }
    op_remember(op, "attention", NULL);
    set_floor(op, floor_for(look));
    /* not saved: it is found standing still again, and goes on as now */
    if (!fault_point("agent.space.before-release", &error) || !operation_save(op, &error) ||
        !operation_resumed(op, &error))
        not_now(op, error);
    log_vm_info(op->row.vm_id, op->row.id, "disk %s: the merge goes on", op_data(op, "target"));
    operation_phase(op, space_phase(op));
}

static bool
person_says_go_on(Operation *op)
{
    WITH_LOCK(&op->agent->lock);

    return op->row.resume;
}

static void
act_on(Operation *op, const Look *look, bool resume, uint64_t now, SpaceLimit set_limit, void *data)
{
    if (!space_is_held(op)) {
        if (look->room < look->floor && look->left > 0)
            hold(op, look, set_limit, data);
        return;
    }
    if (resume || has_room_again(look)) {
        go_on(op, look, set_limit, data);
        return;
    }
    show_attention(op, look);
    if (now != SPACE_HOLD)
        hold(op, look, set_limit, data);
}

static unsigned
look_every_ms(const MergeScratch *scratch)
{
    return scratch->space_near ? NEAR_MS : CALM_MS;
}

void
space_watch(Operation *op, uint64_t left, uint64_t now, SpaceLimit set_limit, void *data)
{
    MergeScratch *scratch = merge_scratch(op);
    bool resume = space_is_held(op) && person_says_go_on(op);
    Look look = { 0 };

    op->poll_ms = MIN(op->poll_ms, look_every_ms(scratch));
    if (!resume && clock_mono_us() < scratch->space_due_us)
        return;
    if (take_look(op, left, &look))
        act_on(op, &look, resume, now, set_limit, data);
    scratch->space_near = !space_is_held(op) && look.room < look.floor + NEAR;
    op->poll_ms = MIN(op->poll_ms, look_every_ms(scratch));
    scratch->space_due_us = clock_mono_us() + (int64_t)look_every_ms(scratch) * 1000;
}

static bool
limit_job(Operation *op, uint64_t limit, void *unused, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    return hv->ops->job_set_bandwidth(hv, op->row.vm_id, op_data(op, "target"), limit, error);
}

/* An internal commit tells the offset that it has reached, the others bytes. */
static uint64_t
left_of(Operation *op, const HvJob *job)
{
    const WorkMap *work = merge_scratch(op)->work;

    if (job->type == HV_JOB_COMMIT && work != NULL)
        return work->total - work_below(work, job->current);
    return job->end - MIN(job->current, job->end);
}

void
space_watch_job(Operation *op, const HvJob *job)
{
    space_watch(op, left_of(op, job), job->bandwidth, limit_job, NULL);
}

void
space_watch_end(Operation *op)
{
    if (space_is_held(op))
        op_remember(op, "attention", NULL);
    operation_notice(op, NULL);
}

/* ---- the guest ---- */

void
space_show_guest(Operation *op, const HvDomain *hv)
{
    g_autofree char *text = NULL;

    if (hv->state == VM_PAUSED &&
        (g_strcmp0(hv->state_detail, "enospc") == 0 || g_strcmp0(hv->state_detail, "eio") == 0))
        text = g_strdup_printf(
            "VM '%s' is suspended: one of its writes failed (%s). The merge goes on. When the "
            "cause is gone (free space on its storage), resume it: virsh resume %s",
            hv->name, hv->state_detail, hv->name);
    operation_notice(op, text);
}
