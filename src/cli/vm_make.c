/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge vm clone|remove
 */
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/wait.h"

/* Which snapshot --snapshot means; *ret_snapshot NULL = none is named. */
static bool
chosen_snapshot(Cli *cli, const json_t *vm, json_t **ret_snapshot, GError **error)
{
    const char *word = option_text(cli->options, OPT_SNAPSHOT);

    if (word == NULL)
        return true;
    g_autofree char *path = remote_path("vms/%s/snapshots", doc_text(vm, "id"));
    g_autoptr(json_t) snapshots = remote_get(cli, path, error);
    if (snapshots == NULL)
        return false;
    *ret_snapshot = resolve_snapshot(cli, vm, snapshots, word, error);
    return *ret_snapshot != NULL;
}

/* What the new VM does not have of the old one. */
static void
say_left_out(Cli *cli, const json_t *job)
{
    const json_t *reasons = doc_items(job, "left_out", "reason");
    size_t i;
    json_t *reason;

    json_array_foreach ((json_t *)reasons, i, reason)
        cli_say(cli, "It has not: %s", json_string_value(reason));
}

static bool
wait_for_clone(Cli *cli, const char *job_id, const char *clone_id, GError **error)
{
    g_autoptr(json_t) job = wait_job(cli, job_id, error);

    if (job == NULL || !job_judge(cli, job, error))
        return false;
    if (cli->exit_code != EXIT_DONE)
        return true;
    say_left_out(cli, job);
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, job);
    else
        fprintf(cli->io->out, "%s\n", clone_id);
    return true;
}

bool
vm_clone(Cli *cli, GError **error)
{
    g_autoptr(json_t) vm = resolve_vm(cli, option_arg(cli->options, 0), error);
    g_autoptr(json_t) snapshot = NULL;

    if (vm == NULL || !chosen_snapshot(cli, vm, &snapshot, error))
        return false;
    g_autoptr(json_t) body =
        json_pack("{s:{s:s}, s:b}", "vm", "name", option_arg(cli->options, 1), "async", 1);
    if (body == NULL)
        return error_set(error, ERR_INVALID, "the name is not valid UTF-8");
    if (snapshot != NULL)
        json_object_set_new(body, "snapshot", json_pack("{s:s}", "id", doc_text(snapshot, "id")));
    if (option_given(cli->options, OPT_COPY))
        json_object_set_new(body, "strategy", json_string("copy"));
    if (option_given(cli->options, OPT_STORAGE)) { /* as the shell completes it */
        g_autofree char *dir =
            g_canonicalize_filename(option_text(cli->options, OPT_STORAGE), NULL);
        json_object_set_new(body, "storage_domain", json_pack("{s:s}", "name", dir));
    }
    g_autofree char *path = remote_path("vms/%s/clone", doc_text(vm, "id"));
    g_autoptr(json_t) accepted = remote_send(cli, "POST", path, body, error);
    if (accepted == NULL)
        return false;
    if (option_waits(cli->options))
        return wait_for_clone(cli, doc_text(accepted, "job.id"), doc_text(accepted, "vm.id"),
                              error);
    cli_say(cli, "The manager accepted it as job %s.", doc_text(accepted, "job.id"));
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, accepted);
    else
        fprintf(cli->io->out, "%s\n", doc_text(accepted, "job.id"));
    return true;
}

bool
vm_remove(Cli *cli, GError **error)
{
    bool keep = option_given(cli->options, OPT_KEEP_DISKS);

    if (!cli_can_ask(cli, error))
        return false;
    g_autoptr(json_t) vm = resolve_vm(cli, option_arg(cli->options, 0), error);
    if (vm == NULL)
        return false;
    g_autofree char *name = escape_text(doc_text(vm, "name"), false);
    g_autofree char *question = g_strdup_printf(
        keep ? "Remove VM '%s'? Its disks stay, as files."
             : "Remove VM '%s' with its disks and snapshots? There will be no way back.",
        name);
    if (!cli_confirm(cli, question, error))
        return false;
    g_autofree char *plain = remote_path("vms/%s", doc_text(vm, "id"));
    g_autofree char *path = g_strconcat(plain, keep ? "?detach_only=true" : "", NULL);
    g_autofree char *text = g_strdup_printf("VM '%s' is removed.", doc_text(vm, "name"));
    return job_carry_out(cli, "DELETE", path, NULL, text, error);
}
