/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A job's progress on stderr: one line redrawn on a terminal, else one line for each change of
 * phase or every five seconds. And what a job says when it has ended.
 */
#pragma once

#include "cli/cli.h"

typedef struct {
    char *phases; /* as last shown */
    int64_t shown_us;
    char *attention; /* why the job has paused itself, as last told */
} Progress;

void progress_show(Cli *cli, Progress *progress, const json_t *job);
/* Leaves the bar's line as it is and goes to the next one. */
void progress_end(Cli *cli, Progress *progress);

/* Pure; the caller frees them. */
char *progress_bar(const json_t *job, unsigned width, bool utf8);
char *progress_line(const json_t *job);
char *progress_phases(const json_t *job); /* "vda: commit, vdb: pivot" */
/* The table at the end of a delete: disk, strategy, copied, time, longest pause, volumes removed;
 * "" if the job has no disks. */
char *job_disks_text(const json_t *job, unsigned width);
/* Has it ended? */
bool job_ended(const json_t *job);
bool job_finished_well(const json_t *job);
const char *job_error(const json_t *job); /* "" = none; borrowed */
