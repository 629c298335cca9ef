/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge snapshot preview|commit|undo|restore
 */
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/snapshot.h"
#include "cli/wait.h"

/* {"disk":[{"id"}]} for the --disk options; NULL = error */
static json_t *
disks_body(Cli *cli, const json_t *vm, GError **error)
{
    const GPtrArray *words = cli->options->values[OPT_DISK];
    g_autoptr(json_t) body = json_object();
    g_autoptr(json_t) list = json_array();

    for (guint i = 0; words != NULL && i < words->len; i++) {
        g_autoptr(json_t) disk = resolve_disk(cli, vm, words->pdata[i], error);
        if (disk == NULL)
            return NULL;
        json_array_append_new(list, json_pack("{s:s}", "id", doc_text(disk, "id")));
    }
    if (json_array_size(list) > 0)
        json_object_set_new(body, "disks", json_pack("{s:O}", "disk", list));
    return g_steal_pointer(&body);
}

static bool
ask_first(Cli *cli, const char *format, const json_t *vm, const char *snapshot, GError **error)
{
    g_autofree char *name = escape_text(doc_text(vm, "name"), false);
    g_autofree char *other = escape_text(snapshot, false);
    g_autoptr(GString) question = g_string_new(format);

    g_string_replace(question, "{vm}", name, 0);
    g_string_replace(question, "{snapshot}", other, 0);
    return cli_confirm(cli, question->str, error);
}

static const json_t *
previewed(const json_t *snapshots)
{
    size_t i;
    json_t *snapshot;

    json_array_foreach ((json_t *)doc_items(snapshots, NULL, "snapshot"), i, snapshot)
        if (g_str_equal(doc_text(snapshot, "snapshot_status"), "in_preview"))
            return snapshot;
    return NULL;
}

bool
snapshot_preview(Cli *cli, GError **error)
{
    g_autoptr(json_t) vm = NULL;
    g_autoptr(json_t) snapshots = NULL;

    if (!snapshot_load(cli, &vm, &snapshots, error))
        return false;
    g_autoptr(json_t) chosen =
        resolve_snapshot(cli, vm, snapshots, option_arg(cli->options, 1), error);
    json_t *body = chosen != NULL ? disks_body(cli, vm, error) : NULL;
    if (body == NULL)
        return false;
    json_object_set_new(body, "snapshot", json_pack("{s:s}", "id", doc_text(chosen, "id")));
    json_object_set_new(body, "restore_memory",
                        json_boolean(option_given(cli->options, OPT_MEMORY)));
    g_autofree char *path = remote_path("vms/%s/previewsnapshot", doc_text(vm, "id"));
    g_autofree char *text = g_strdup_printf("VM '%s' previews snapshot '%s': start it and look. "
                                            "Then keep it (livemerge snapshot commit) "
                                            "or go back (livemerge snapshot undo).",
                                            doc_text(vm, "name"), doc_text(chosen, "description"));
    return job_carry_out(cli, "POST", path, body, text, error);
}

bool
snapshot_restore(Cli *cli, GError **error)
{
    g_autoptr(json_t) vm = NULL;
    g_autoptr(json_t) snapshots = NULL;

    if (!cli_can_ask(cli, error) || !snapshot_load(cli, &vm, &snapshots, error))
        return false;
    g_autoptr(json_t) chosen =
        resolve_snapshot(cli, vm, snapshots, option_arg(cli->options, 1), error);
    json_t *body = chosen != NULL ? disks_body(cli, vm, error) : NULL;
    if (body == NULL)
        return false;
    if (!ask_first(cli,
                   doc_bool(chosen, "configuration_only")
                       ? "Give VM '{vm}' the configuration of snapshot '{snapshot}'? The present "
                         "one is given up; disks and snapshots stay as they are."
                       : "Restore VM '{vm}' to snapshot '{snapshot}'? Its present state and all "
                         "newer snapshots are deleted.",
                   vm, doc_text(chosen, "description"), error)) {
        json_decref(body);
        return false;
    }
    if (option_given(cli->options, OPT_MEMORY))
        json_object_set_new(body, "restore_memory", json_true());
    g_autofree char *path =
        remote_path("vms/%s/snapshots/%s/restore", doc_text(vm, "id"), doc_text(chosen, "id"));
    g_autofree char *text = g_strdup_printf(doc_bool(chosen, "configuration_only")
                                                ? "VM '%s' has the configuration of snapshot '%s'."
                                                : "VM '%s' is as it was at snapshot '%s'.",
                                            doc_text(vm, "name"), doc_text(chosen, "description"));
    return job_carry_out(cli, "POST", path, body, text, error);
}

/* question: of disks; alone: of the configuration alone */
static bool
end_preview(Cli *cli, const char *verb, const char *question, const char *alone, const char *done,
            GError **error)
{
    g_autoptr(json_t) vm = NULL;
    g_autoptr(json_t) snapshots = NULL;

    if (!cli_can_ask(cli, error) || !snapshot_load(cli, &vm, &snapshots, error))
        return false;
    const json_t *tried = previewed(snapshots);
    /* without a preview the manager says so */
    if (tried != NULL && !ask_first(cli, doc_bool(tried, "configuration_only") ? alone : question,
                                    vm, doc_text(tried, "description"), error))
        return false;
    g_autofree char *path = remote_path("vms/%s/%s", doc_text(vm, "id"), verb);
    g_autofree char *text = g_strdup_printf("VM '%s' %s.", doc_text(vm, "name"), done);
    return job_carry_out(cli, "POST", path, json_object(), text, error);
}

bool
snapshot_commit(Cli *cli, GError **error)
{
    return end_preview(
        cli, "commitsnapshot",
        "Keep the preview of snapshot '{snapshot}' of VM '{vm}'? What the VM was before "
        "and all newer snapshots are deleted.",
        "Keep the configuration of snapshot '{snapshot}' of VM '{vm}'? The one that it had before "
        "is given up; disks and snapshots stay as they are.",
        "goes on from the preview", error);
}

bool
snapshot_undo(Cli *cli, GError **error)
{
    return end_preview(
        cli, "undosnapshot",
        "Take VM '{vm}' back from the preview of snapshot '{snapshot}'? What it wrote "
        "in the preview is deleted.",
        "Give VM '{vm}' the configuration back that it had before the preview of snapshot "
        "'{snapshot}'? Disks and snapshots stay as they are.",
        "is as it was before the preview", error);
}
