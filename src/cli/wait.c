/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/wait.h"
#include "base/clock.h"
#include "cli/doc.h"
#include "cli/progress.h"
#include "cli/remote.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define LONG_POLL_S 5
#define PACE_MS 100 /* between two pictures of the progress; the end is told at once */

/* For the signal handler: what to say, prepared because it may only call write(). */
static char interrupt_text[1024];
static size_t interrupt_size;
static int interrupt_fd;

static void
on_interrupt(int sig)
{
    ssize_t ignored = write(interrupt_fd, interrupt_text, interrupt_size);

    (void)ignored;
    _exit(EXIT_STILL_RUNNING);
}

static void
catch_interrupt(Cli *cli, const char *job_id, struct sigaction *ret_old)
{
    struct sigaction action = { .sa_handler = on_interrupt };
    g_autofree char *command = cli_command(cli, "job watch %s", job_id);

    g_snprintf(interrupt_text, sizeof interrupt_text,
               "\nInterrupted; the job goes on. To watch it: %s\n", command);
    interrupt_size = strlen(interrupt_text);
    interrupt_fd = fileno(cli->io->err) >= 0 ? fileno(cli->io->err) : STDERR_FILENO;
    sigaction(SIGINT, &action, ret_old);
}

int64_t
wait_deadline(const Cli *cli)
{
    if (!option_given(cli->options, OPT_TIMEOUT))
        return G_MAXINT64;
    return clock_mono_us() + (int64_t)option_number(cli->options, OPT_TIMEOUT, 0) * G_USEC_PER_SEC;
}

/* One long poll: returns when the document is newer than rev, or after some seconds. */
static json_t *
next_document(Cli *cli, const char *job_id, int64_t rev, int64_t deadline, GError **error)
{
    int64_t left_s = (deadline - clock_mono_us()) / G_USEC_PER_SEC;
    int wait_s = rev < 0 ? 0 : (int)CLAMP(left_s, 1, LONG_POLL_S);
    g_autofree char *base = remote_path("jobs/%s", job_id);
    g_autofree char *path = rev < 0 ? g_strdup(base)
                                    : g_strdup_printf("%s?wait=%d&rev=%" G_GINT64_FORMAT "&pace=%d",
                                                      base, wait_s, rev, PACE_MS);

    return remote_get_patiently(cli, path, (unsigned)(wait_s + 10) * 1000, deadline, error);
}

static json_t *
follow(Cli *cli, Progress *progress, const char *job_id, GError **error)
{
    int64_t deadline = wait_deadline(cli);

    for (int64_t rev = -1;;) {
        int64_t asked = clock_mono_us();
        g_autoptr(json_t) job = next_document(cli, job_id, rev, deadline, error);
        if (job == NULL)
            return NULL;
        bool news = rev < 0 || (int64_t)doc_number(job, "rev", 0) != rev;

        progress_show(cli, progress, job);
        if (job_ended(job))
            return g_steal_pointer(&job);
        if (clock_mono_us() >= deadline) {
            cli->exit_code = EXIT_STILL_RUNNING;
            return g_steal_pointer(&job);
        }
        /* A manager that does not hold the call back must not make us spin. */
        if (!news && clock_mono_us() - asked < 100000)
            g_usleep(200000);
        rev = (int64_t)doc_number(job, "rev", 0);
    }
}

json_t *
wait_job(Cli *cli, const char *job_id, GError **error)
{
    Progress progress = { 0 };
    struct sigaction old;
    g_autofree char *command = cli_command(cli, "job watch %s", job_id);

    catch_interrupt(cli, job_id, &old);
    json_t *job = follow(cli, &progress, job_id, error);
    progress_end(cli, &progress);
    sigaction(SIGINT, &old, NULL);

    if (job != NULL && !job_ended(job))
        cli_say(cli, "Time is up; the job goes on. To watch it: %s", command);
    if (job == NULL && error != NULL &&
        (g_error_matches(*error, ERR, ERR_UNREACHABLE) ||
         g_error_matches(*error, ERR, ERR_TIMEOUT))) {
        cli->error_exit = EXIT_STILL_RUNNING;
        g_prefix_error(error,
                       "gave up waiting for the job, which goes on (to watch it: %s): ", command);
    }
    return job;
}

bool
job_judge(Cli *cli, const json_t *job, GError **error)
{
    bool aborted = g_str_equal(doc_text(job, "status"), "aborted");
    const char *why = job_error(job);

    if (!job_ended(job) || job_finished_well(job))
        return true;
    cli->error_exit = EXIT_FAILED; /* whatever the reason: it was tried */
    return error_set(error, aborted ? ERR_CANCELLED : ERR_INTERNAL, "job %s %s%s%s",
                     doc_text(job, "id"), aborted ? "was cancelled" : "failed",
                     *why != '\0' ? ": " : "", why);
}

bool
job_carry_out(Cli *cli, const char *method, const char *path, json_t *take_body,
              const char *done_text, GError **error)
{
    g_autoptr(json_t) body = take_body;

    if (body != NULL) /* the manager answers as soon as the job is stored */
        json_object_set_new(body, "async", json_true());
    g_autoptr(json_t) accepted = remote_send(cli, method, path, body, error);
    if (accepted == NULL)
        return false;
    const char *job_id = doc_text(accepted, "job.id");
    bool json = option_given(cli->options, OPT_JSON);
    if (!option_waits(cli->options)) {
        cli_say(cli, "The manager accepted it as job %s.", job_id);
        if (json)
            cli_print_json(cli, accepted);
        else
            fprintf(cli->io->out, "%s\n", job_id);
        return true;
    }
    g_autoptr(json_t) job = wait_job(cli, job_id, error);
    if (job == NULL || !job_judge(cli, job, error))
        return false;
    if (json)
        cli_print_json(cli, job);
    else if (cli->exit_code == EXIT_DONE)
        fprintf(cli->io->out, "%s\n", done_text);
    return true;
}
