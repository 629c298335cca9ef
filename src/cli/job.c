/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge job list|show|watch|cancel|resume
 */
#include "base/clock.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/table.h"
#include "cli/wait.h"

/* How long it took, or takes so far. */
static char *
job_time(const json_t *job)
{
    g_autofree char *now = clock_iso8601(clock_wall_ms());
    const char *end = doc_text(job, "end_time");
    double seconds = seconds_between(doc_text(job, "start_time"), *end != '\0' ? end : now);

    return seconds >= 0 && seconds < 60 ? seconds_text(seconds) : duration_text(seconds);
}

static char *
job_percent(const json_t *job)
{
    double percent = doc_number(job, "progress.percent", -1);

    return percent >= 0 ? g_strdup_printf("%.0f %%", percent) : g_strdup("");
}

/* What came of each disk, and how that compares with the plan. */
static char *
accounts_text(const Cli *cli, const json_t *job)
{
    g_autofree char *disks = job_disks_text(job, cli->io->out_width);
    g_autofree char *plan = plan_and_outcome_text(job, cli->io->out_width);

    return g_strconcat(disks, *plan != '\0' ? "\n" : "", plan, NULL);
}

bool
job_report(Cli *cli, const json_t *job, GError **error)
{
    g_autofree char *accounts = accounts_text(cli, job);

    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, job);
    else if (job_ended(job))
        fputs(accounts, cli->io->out);
    if (!job_ended(job))
        return true; /* wait_job() said so */
    if (!job_judge(cli, job, error))
        return false;
    g_autofree char *time = job_time(job);
    cli_say(cli, "Done%s%s: %s", *time != '\0' ? " in " : "", time, doc_text(job, "description"));
    return true;
}

bool
job_list(Cli *cli, GError **error)
{
    g_autoptr(json_t) doc = remote_get(cli, "jobs", error);
    g_autoptr(Table) table =
        table_new("ID", "STATUS", ">DONE", ">TIME", "STARTED", "VM", "DESCRIPTION", NULL);
    size_t i;
    json_t *job;

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    json_array_foreach ((json_t *)doc_items(doc, NULL, "job"), i, job) {
        g_autofree char *id = short_id(doc_text(job, "id"));
        g_autofree char *percent = job_percent(job);
        g_autofree char *time = job_time(job);
        g_autofree char *start = date_text(doc_text(job, "start_time"));
        table_row(table, id, doc_text(job, "status"), percent, time, start,
                  doc_text(job, "vm.name"), doc_text(job, "description"));
    }
    if (table_rows(table) == 0) {
        cli_say(cli, "There are no jobs.");
        return true;
    }
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
    return true;
}

static void
print_job(Cli *cli, const json_t *job)
{
    g_autoptr(Table) table = table_new("", "", NULL);
    g_autofree char *start = date_text(doc_text(job, "start_time"));
    g_autofree char *time = job_time(job);
    g_autofree char *progress = progress_line(job);
    const char *const more[][2] = {
        { "VM", doc_text(job, "vm.name") },
        { "Step", doc_text(job, "step") },
        { "Waits for", doc_text(job, "waiting_for") },
        { "Paused", doc_text(job, "attention") },
        { "Error", job_error(job) },
    };

    table_row(table, "Job", doc_text(job, "id"));
    table_row(table, "Description", doc_text(job, "description"));
    table_row(table, "Status", doc_text(job, "status"));
    table_row(table, "Started", start);
    table_row(table, "Time", time);
    table_row(table, "Progress", progress);
    for (size_t i = 0; i < G_N_ELEMENTS(more); i++)
        if (*more[i][1] != '\0')
            table_row(table, more[i][0], more[i][1]);
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
}

static void
print_steps(Cli *cli, const json_t *steps)
{
    g_autoptr(Table) table = table_new(">STEP", "STATUS", ">TIME", "DESCRIPTION", NULL);
    size_t i;
    json_t *step;

    json_array_foreach ((json_t *)doc_items(steps, NULL, "step"), i, step) {
        g_autofree char *number = g_strdup_printf("%.0f", doc_number(step, "number", (double)i));
        g_autofree char *time = job_time(step);
        table_row(table, number, doc_text(step, "status"), time, doc_text(step, "description"));
    }
    if (table_rows(table) == 0)
        return;
    g_autofree char *text = table_text(table, cli->io->out_width);
    fprintf(cli->io->out, "\n%s", text);
}

bool
job_show(Cli *cli, GError **error)
{
    g_autoptr(json_t) found = resolve_job(cli, option_arg(cli->options, 0), error);

    if (found == NULL)
        return false;
    g_autofree char *path = remote_path("jobs/%s", doc_text(found, "id"));
    g_autofree char *steps_path = g_strconcat(path, "/steps", NULL);
    g_autoptr(json_t) job = remote_get(cli, path, error);
    if (job == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, job);
        return true;
    }
    g_autoptr(json_t) steps = remote_get(cli, steps_path, error);
    if (steps == NULL)
        return false;
    g_autofree char *accounts = accounts_text(cli, job);
    print_job(cli, job);
    if (*accounts != '\0')
        fprintf(cli->io->out, "\n%s", accounts);
    print_steps(cli, steps);
    return true;
}

bool
job_watch(Cli *cli, GError **error)
{
    g_autoptr(json_t) found = resolve_job(cli, option_arg(cli->options, 0), error);
    g_autoptr(json_t) job = found != NULL ? wait_job(cli, doc_text(found, "id"), error) : NULL;

    return job != NULL && job_report(cli, job, error);
}

/* Cancelling waits only if asked to; then its success is that the job did not finish. */
static bool
watch_cancelled(Cli *cli, const char *job_id, GError **error)
{
    g_autoptr(json_t) job = wait_job(cli, job_id, error);

    if (job == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, job);
    if (job_finished_well(job)) {
        cli->error_exit = EXIT_FAILED;
        return error_set(error, ERR_REFUSED, "job %s finished before it could be cancelled",
                         job_id);
    }
    if (job_ended(job))
        cli_say(cli, "Job %s has ended: %s.", job_id, doc_text(job, "status"));
    return true;
}

/* POSTs the verb to the job that the first argument means; returns its id. */
static char *
tell_job(Cli *cli, const char *verb, GError **error)
{
    g_autoptr(json_t) job = resolve_job(cli, option_arg(cli->options, 0), error);

    if (job == NULL)
        return NULL;
    const char *id = doc_text(job, "id");
    g_autofree char *job_path = remote_path("jobs/%s", id);
    g_autofree char *path = g_strconcat(job_path, "/", verb, NULL);
    g_autoptr(json_t) nothing = json_object();
    g_autoptr(json_t) answer = remote_send(cli, "POST", path, nothing, error);
    return answer != NULL ? g_strdup(id) : NULL;
}

/* The job as it is now, for a program that does not wait. */
static bool
print_if_json(Cli *cli, const char *id, GError **error)
{
    if (!option_given(cli->options, OPT_JSON))
        return true;
    g_autofree char *path = remote_path("jobs/%s", id);
    g_autoptr(json_t) now = remote_get(cli, path, error);
    if (now == NULL)
        return false;
    cli_print_json(cli, now);
    return true;
}

bool
job_cancel(Cli *cli, GError **error)
{
    g_autofree char *id = tell_job(cli, "cancel", error);

    if (id == NULL)
        return false;
    cli_say(cli, "Job %s is asked to stop.", id);
    return option_given(cli->options, OPT_WAIT) ? watch_cancelled(cli, id, error)
                                                : print_if_json(cli, id, error);
}

bool
job_resume(Cli *cli, GError **error)
{
    g_autofree char *id = tell_job(cli, "resume", error);

    if (id == NULL)
        return false;
    cli_say(cli, "Job %s goes on.", id);
    if (!option_given(cli->options, OPT_WAIT))
        return print_if_json(cli, id, error);
    g_autoptr(json_t) ended = wait_job(cli, id, error);
    return ended != NULL && job_report(cli, ended, error);
}
