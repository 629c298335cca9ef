/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge snapshot delete, and livemerge plan, which asks for the same without doing it.
 */
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/plan.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/snapshot.h"
#include "cli/wait.h"

/* The snapshots that the arguments mean, each once. */
static json_t *
chosen_snapshots(Cli *cli, const json_t *vm, const json_t *snapshots, GError **error)
{
    g_autoptr(json_t) chosen = json_array();

    for (guint i = 1; i < cli->options->args->len; i++) {
        g_autoptr(json_t) snapshot =
            resolve_snapshot(cli, vm, snapshots, option_arg(cli->options, i), error);
        bool known = false;
        size_t j;
        json_t *other;
        if (snapshot == NULL)
            return NULL;
        json_array_foreach (chosen, j, other)
            known = known || json_equal(other, snapshot);
        if (!known)
            json_array_append(chosen, snapshot);
    }
    return g_steal_pointer(&chosen);
}

static char *
names_text(const json_t *chosen)
{
    GString *names = g_string_new(NULL);
    size_t i;
    json_t *snapshot;

    json_array_foreach ((json_t *)chosen, i, snapshot) {
        g_autofree char *name = escape_text(doc_text(snapshot, "description"), false);
        g_string_append_printf(names, "%s'%s'", i > 0 ? ", " : "", name);
    }
    return g_string_free(names, FALSE);
}

static bool
confirm_delete(Cli *cli, const json_t *vm, const json_t *chosen, GError **error)
{
    size_t n = json_array_size(chosen);
    g_autofree char *names = names_text(chosen);
    g_autofree char *name = escape_text(doc_text(vm, "name"), false);
    g_autofree char *question =
        g_strdup_printf("Delete %s %s of VM '%s'? There will be no way back to %s.",
                        n > 1 ? "snapshots" : "snapshot", names, name, n > 1 ? "them" : "it");

    return cli_confirm(cli, question, error);
}

static json_t *
delete_body(Cli *cli, const json_t *vm, const json_t *chosen, GError **error)
{
    const Options *o = cli->options;
    g_autoptr(json_t) ids = json_array();
    size_t i;
    json_t *snapshot;

    json_array_foreach ((json_t *)chosen, i, snapshot)
        json_array_append_new(ids, json_pack("{s:s}", "id", doc_text(snapshot, "id")));
    g_autoptr(json_t) body = json_pack("{s:{s:O}}", "snapshots", "snapshot", ids);
    if (option_given(o, OPT_STRATEGY))
        json_object_set_new(body, "strategy", json_string(option_text(o, OPT_STRATEGY)));
    if (option_given(o, OPT_VERIFY))
        json_object_set_new(body, "verify", json_string(option_text(o, OPT_VERIFY)));
    if (option_given(o, OPT_BANDWIDTH))
        json_object_set_new(body, "bandwidth",
                            json_integer((json_int_t)option_number(o, OPT_BANDWIDTH, 0)));
    if (option_given(o, OPT_DISK)) {
        g_autoptr(json_t) disk = resolve_disk(cli, vm, option_text(o, OPT_DISK), error);
        if (disk == NULL)
            return NULL;
        json_object_set_new(body, "disk", json_pack("{s:s}", "id", doc_text(disk, "id")));
    }
    return g_steal_pointer(&body);
}

/* Asks for the delete, or only (dry) for its plan; the answer. */
static json_t *
request_delete(Cli *cli, bool dry, GError **error)
{
    g_autoptr(json_t) vm = NULL;
    g_autoptr(json_t) snapshots = NULL;

    if (!snapshot_load(cli, &vm, &snapshots, error))
        return NULL;
    g_autoptr(json_t) chosen = chosen_snapshots(cli, vm, snapshots, error);
    g_autoptr(json_t) body = chosen != NULL ? delete_body(cli, vm, chosen, error) : NULL;
    if (body == NULL || (!dry && !confirm_delete(cli, vm, chosen, error)))
        return NULL;
    if (dry)
        json_object_set_new(body, "dry_run", json_true());
    g_autofree char *path = remote_path("vms/%s/removesnapshots", doc_text(vm, "id"));
    return remote_send(cli, "POST", path, body, error);
}

bool
plan_show(Cli *cli, GError **error)
{
    bool all = option_given(cli->options, OPT_ALL_OPTIONS);
    g_autoptr(json_t) plan = request_delete(cli, true, error);

    if (plan == NULL)
        return false;
    /* a manager that does not know dry runs has begun it: say so, whatever else */
    if (doc_at(plan, "possible") == NULL)
        return error_set(error, ERR_INTERNAL,
                         "the manager was asked for a plan and answers with something else%s%s",
                         *doc_text(plan, "job.id") != '\0' ? ": it has begun job " : "",
                         doc_text(plan, "job.id"));
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, plan);
    } else {
        g_autofree char *text = plan_text(plan, cli->io->out_width, cli->io->utf8, all);
        fputs(text, cli->io->out);
    }
    cli->exit_code = doc_bool(plan, "possible") ? EXIT_DONE : EXIT_FAILED;
    return true;
}

static bool
accepted_delete(Cli *cli, const char *job_id, GError **error)
{
    cli_say(cli, "The manager accepted it as job %s.", job_id);
    if (!option_given(cli->options, OPT_JSON)) {
        fprintf(cli->io->out, "%s\n", job_id);
        return true;
    }
    g_autofree char *path = remote_path("jobs/%s", job_id);
    g_autoptr(json_t) job = remote_get(cli, path, error);
    if (job != NULL)
        cli_print_json(cli, job);
    return job != NULL;
}

bool
snapshot_delete(Cli *cli, GError **error)
{
    if (option_given(cli->options, OPT_DRY_RUN))
        return plan_show(cli, error);
    if (!option_given(cli->options, OPT_YES) && !cli->io->in_terminal)
        return cli_confirm(cli, "", error); /* says so before anything is looked up */
    g_autoptr(json_t) accepted = request_delete(cli, false, error);
    if (accepted == NULL)
        return false;
    const char *job_id = doc_text(accepted, "job.id");
    if (*job_id == '\0')
        return error_set(error, ERR_INTERNAL,
                         "the manager accepted the delete but named no job; 'livemerge job list' "
                         "shows how it goes");
    if (!option_waits(cli->options))
        return accepted_delete(cli, job_id, error);

    g_autoptr(json_t) job = wait_job(cli, job_id, error);
    return job != NULL && job_report(cli, job, error);
}
