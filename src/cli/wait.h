/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Waiting for a job. Whatever happens to us, the job goes on in the manager: Ctrl-C says how to
 * watch it and ends the program with exit code 5; --timeout does the same; a manager that is away
 * for a while is waited for.
 */
#pragma once

#include "cli/cli.h"

/* Follows the job to its end with progress. Returns its last document; not ended only if --timeout
 * has come (then it was said, and exit_code is 5). NULL = error. */
json_t *wait_job(Cli *cli, const char *job_id, GError **error);
/* A job that ended otherwise than well is an error with its reason (exit code 1). */
bool job_judge(Cli *cli, const json_t *job, GError **error);
/* Prints how a job ended (or its JSON), and judges it. */
bool job_report(Cli *cli, const json_t *job, GError **error);
/* Asks the manager for something that begins a job, and follows that unless told not to: then its
 * id is printed, else done_text, or JSON. take_body may be NULL. */
bool job_carry_out(Cli *cli, const char *method, const char *path, json_t *take_body,
                   const char *done_text, GError **error);
/* --timeout as a clock_mono_us() time; G_MAXINT64 = none */
int64_t wait_deadline(const Cli *cli);
