/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/space.h"

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
take_look(Operation *op, const SpaceWatch *watch, Look *look)
{
    uint64_t total = 0;

    look->left = watch->left;
    look->domain = agent_domain(op->agent, watch->growing, false, NULL);
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

/* ---- standing still ---- */

static void
show_attention(Operation *op, const SpaceWatch *watch, const Look *look)
{
    g_autofree char *room = size_text(look->room), *floor = size_text(look->floor),
                    *left = size_text(look->left);
    g_autofree char *text = g_strdup_printf(
        "disk %s: the %s has paused, storage domain %s (%s) is nearly full: %s are free, %s "
        "are kept in reserve, up to %s are still to be copied. Nothing is lost. It goes on when "
        "there is room again; to go on at once: livemerge job resume, or cancel it",
        watch->target, watch->what, look->domain->name, look->domain->path, room, floor, left);

    op_remember(op, "attention", json_pack("{s:s, s:s}", "kind", "space", "message", text));
}

static void
not_now(Operation *op, const SpaceWatch *watch, const GError *error)
{
    log_vm_info(op->row.vm_id, op->row.id, "disk %s: %s; it is tried again", watch->target,
                error->message);
}

static bool
tell_limit(Operation *op, const SpaceWatch *watch, uint64_t limit, GError **error)
{
    return watch->set_limit == NULL || watch->set_limit(op, limit, watch->data, error);
}

/* First it is written down, then done: whoever finds it written sees that it is done. */
static void
hold(Operation *op, const SpaceWatch *watch, const Look *look)
{
    g_autoptr(GError) error = NULL;
    bool news = !space_is_held(op);

    if (news) {
        operation_phase(op, "paused");
        show_attention(op, watch, look);
        operation_phase(op, "paused"); /* who is told of it sees both */
        log_vm_warn(op->row.vm_id, op->row.id, "%s",
                    json_text(json_object_get(op->row.data, "attention"), "message"));
    }
    if ((news && !operation_save(op, &error)) || !fault_point("agent.space.before-hold", &error) ||
        !tell_limit(op, watch, SPACE_HOLD, &error) || !fault_point("agent.space.held", &error))
        not_now(op, watch, error);
}

static void
go_on(Operation *op, const SpaceWatch *watch, const Look *look)
{
    g_autoptr(GError) error = NULL;

    if (!tell_limit(op, watch, watch->limit, &error)) {
        not_now(op, watch, error);
        return;
    }
    op_remember(op, "attention", NULL);
    set_floor(op, floor_for(look));
    /* not saved: it is found standing still again, and goes on as now */
    if (!fault_point("agent.space.before-release", &error) || !operation_save(op, &error) ||
        !operation_resumed(op, &error))
        not_now(op, watch, error);
    log_vm_info(op->row.vm_id, op->row.id, "disk %s: the %s goes on", watch->target, watch->what);
    operation_phase(op, space_phase(op));
}

static bool
person_says_go_on(Operation *op)
{
    WITH_LOCK(&op->agent->lock);

    return op->row.resume;
}

static void
act_on(Operation *op, const SpaceWatch *watch, const Look *look, bool resume)
{
    if (!space_is_held(op)) {
        if (look->room < look->floor && look->left > 0)
            hold(op, watch, look);
        return;
    }
    if (resume || has_room_again(look)) {
        go_on(op, watch, look);
        return;
    }
    show_attention(op, watch, look);
    if (watch->now != SPACE_HOLD)
        hold(op, watch, look);
}

static unsigned
look_every_ms(const SpacePace *pace)
{
    return pace->near ? NEAR_MS : CALM_MS;
}

void
space_watch(Operation *op, const SpaceWatch *watch)
{
    SpacePace *pace = watch->pace;
    bool resume = space_is_held(op) && person_says_go_on(op);
    Look look = { 0 };

    op->poll_ms = MIN(op->poll_ms, look_every_ms(pace));
    if (!resume && clock_mono_us() < pace->due_us)
        return;
    if (take_look(op, watch, &look))
        act_on(op, watch, &look, resume);
    pace->near = !space_is_held(op) && look.room < look.floor + NEAR;
    op->poll_ms = MIN(op->poll_ms, look_every_ms(pace));
    pace->due_us = clock_mono_us() + (int64_t)look_every_ms(pace) * 1000;
}

void
space_watch_end(Operation *op)
{
    if (space_is_held(op))
        op_remember(op, "attention", NULL);
    operation_notice(op, NULL);
}
