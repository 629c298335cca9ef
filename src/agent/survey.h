/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The facts for the planner (model/plan.h): what the volumes hold, what the storage can do and how
 * fast it was.
 *
 * Promise: nothing is changed, nothing waits for long, and what could not be found out in time is
 * an upper bound. What was read of volumes is kept in memory as long as they stay as they are (by
 * device, inode, size and times), within SURVEY_BYTES, and until nobody asked for SURVEY_KEEP_MS.
 *
 * Ownership: the Agent has one Survey. Threads: any; a thread of its own, which only lives while
 * there is something to forget or to write down, waits for that.
 */
#pragma once

#include "agent/agent.h"
#include "model/plan.h"
#include "qcow2/allocation.h"

#define SURVEY_BYTES ((size_t)16 << 20)
#define SURVEY_KEEP_MS 60000

/* The operation's half of POST /v1/vms/ID/plan (wire/wire.h): looks at the VM, plans. */
bool survey_plan(Agent *agent, const char *vm_id, const json_t *body, json_t **ret_json,
                 GError **error);
/* Fills in the facts of every disk of the plan (from plan_new()). */
void survey_fill(Agent *agent, const Vm *vm, Plan *plan);
/* Something went so fast on the storage domain that holds "path". Returns at once; what is learned
 * is written down a little later. Call it without agent->lock. */
void survey_learn(Agent *agent, const char *path, Rate rate, double amount, double seconds);

/* ---- survey_cache.c, and for its tests */
typedef struct Survey Survey;
Survey *survey_new(size_t bytes_max, unsigned keep_ms);
void survey_free(Survey *survey);

typedef struct {
    Allocation *allocation;
    uint64_t device;
    bool no_cow; /* btrfs shares blocks only between files that agree in this */
} SurveyVolume;
static inline void
survey_volume_clear(SurveyVolume *volume)
{
    g_clear_pointer(&volume->allocation, allocation_unref);
}
/* From memory if the file is as it was then. Reads until g_get_monotonic_time() is deadline_us:
 * then it is not exact. */
bool survey_volume(Survey *survey, const char *path, const char *format, int64_t deadline_us,
                   SurveyVolume *ret_volume, GError **error);
typedef struct {
    unsigned volumes, reads; /* kept now; read so far */
    size_t bytes;
} SurveyState;
SurveyState survey_state(Survey *survey);
Rates survey_rates(Survey *survey, const Domain *domain);
void survey_note(Survey *survey, const Domain *domain, Rate rate, double amount, double seconds);
