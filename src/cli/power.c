/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge vm start|stop|shutdown|reboot|reset|suspend|freeze|thaw
 */
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/wait.h"

/* With --json as the VM is then; else the id of a job that nobody waits for. */
static bool
say_result(Cli *cli, const char *vm_id, const char *job_id, GError **error)
{
    if (option_given(cli->options, OPT_JSON)) {
        g_autofree char *path = remote_path("vms/%s", vm_id);
        g_autoptr(json_t) vm = remote_get(cli, path, error);
        if (vm == NULL)
            return false;
        cli_print_json(cli, vm);
        return true;
    }
    if (!option_waits(cli->options))
        fprintf(cli->io->out, "%s\n", job_id);
    return true;
}

static bool
wait_for_power(Cli *cli, const char *vm_name, const char *job_id, const char *done, GError **error)
{
    g_autoptr(json_t) job = wait_job(cli, job_id, error);

    if (job == NULL || !job_judge(cli, job, error))
        return false;
    if (job_ended(job))
        cli_say(cli, "VM %s %s.", vm_name, done);
    return true;
}

static bool
act(Cli *cli, const char *verb, const char *done, GError **error)
{
    g_autoptr(json_t) vm = resolve_vm(cli, option_arg(cli->options, 0), error);
    g_autoptr(json_t) body = json_pack("{s:b}", "async", 1); /* who waits, waits for the job */

    if (vm == NULL)
        return false;
    g_autofree char *path = remote_path("vms/%s/%s", doc_text(vm, "id"), verb);
    if (option_given(cli->options, OPT_PAUSED))
        json_object_set_new(body, "pause", json_true());
    g_autoptr(json_t) accepted = remote_send(cli, "POST", path, body, error);
    if (accepted == NULL)
        return false;
    const char *job_id = doc_text(accepted, "job.id");
    return (!option_waits(cli->options) ||
            wait_for_power(cli, doc_text(vm, "name"), job_id, done, error)) &&
           say_result(cli, doc_text(vm, "id"), job_id, error);
}

bool
vm_start(Cli *cli, GError **error)
{
    return act(cli, "start", "is started", error);
}

bool
vm_stop(Cli *cli, GError **error)
{
    return act(cli, "stop", "is off", error);
}

bool
vm_shutdown(Cli *cli, GError **error)
{
    return act(cli, "shutdown", "is off", error);
}

bool
vm_reboot(Cli *cli, GError **error)
{
    return act(cli, "reboot", "was asked to reboot", error);
}

bool
vm_reset(Cli *cli, GError **error)
{
    return act(cli, "reset", "was reset", error);
}

bool
vm_suspend(Cli *cli, GError **error)
{
    return act(cli, "suspend", "is suspended", error);
}

bool
vm_freeze(Cli *cli, GError **error)
{
    return act(cli, "freezefilesystems", "has frozen its file systems", error);
}

bool
vm_thaw(Cli *cli, GError **error)
{
    return act(cli, "thawfilesystems", "has thawed its file systems", error);
}
