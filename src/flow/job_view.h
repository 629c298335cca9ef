/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of job.c and job_disks.c: what a job's document is made of.
 */
#pragma once

#include "flow/agent_call.h"

typedef struct {
    Manager *manager;
    const FlowRow *row;
    GPtrArray *children; /* of FlowRow, may be empty */
    bool open;
    int64_t change;
    char *waiting_for;
} View;

typedef struct {
    int64_t done, total;
    double rate;
    int64_t eta; /* s; -1 = unknown */
    char *phase;
    char *waiting_for; /* why the agent cannot go on just now */
} Progress;

void progress_clear(Progress *progress);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Progress, progress_clear)
/* What the agent said last of the call, as far as it goes. */
void progress_read(Manager *m, const FlowRow *row, const char *key, Progress *progress);
/* Of one run: exact where it is done, told while it runs, planned before. child may be NULL. */
void progress_of_run(const View *view, const json_t *run, const FlowRow *child, Progress *ret);
int progress_percent(const Progress *progress, bool finished);
json_t *progress_to_json(const Progress *progress, bool finished);

/* "started", "finished", "failed", "aborted" */
const char *job_row_status(const FlowRow *row, bool open);
/* The disks of a removal; their progress is added to sum. */
json_t *job_disks(const View *view, Progress *sum);
