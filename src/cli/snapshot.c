/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge snapshot create|list|show|rename
 */
#include "cli/snapshot.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/host.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/table.h"
#include "cli/tree.h"
#include "cli/wait.h"

#include <string.h>

bool
snapshot_load(Cli *cli, json_t **ret_vm, json_t **ret_snapshots, GError **error)
{
    g_autoptr(json_t) vm = resolve_vm(cli, option_arg(cli->options, 0), error);

    if (vm == NULL)
        return false;
    g_autofree char *path = remote_path("vms/%s/snapshots", doc_text(vm, "id"));
    *ret_snapshots = remote_get(cli, path, error);
    if (*ret_snapshots == NULL)
        return false;
    *ret_vm = g_steal_pointer(&vm);
    return true;
}

static json_t *
get_snapshot(Cli *cli, const json_t *vm, const json_t *snapshot, GError **error)
{
    g_autofree char *path =
        remote_path("vms/%s/snapshots/%s", doc_text(vm, "id"), doc_text(snapshot, "id"));

    return remote_get(cli, path, error);
}

bool
snapshot_list(Cli *cli, GError **error)
{
    g_autoptr(json_t) vm = NULL;
    g_autoptr(json_t) doc = NULL;

    if (!snapshot_load(cli, &vm, &doc, error))
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    g_autofree char *text =
        tree_text(doc_items(doc, NULL, "snapshot"), cli->io->out_width, cli->io->utf8);
    fputs(text, cli->io->out);
    if (*doc_text(vm, "unmanaged") != '\0') /* its storage may be away, and its snapshots with it */
        cli_say(cli, "VM '%s' is not managed now, and snapshots may be missing here: %s",
                doc_text(vm, "name"), doc_text(vm, "unmanaged"));
    host_say_silent_of(cli, vm);
    return true;
}

static const char *
parent_name(const json_t *snapshots, const json_t *snapshot)
{
    const char *id = doc_text(snapshot, "parent.id");
    size_t i;
    json_t *other;

    json_array_foreach ((json_t *)doc_items(snapshots, NULL, "snapshot"), i, other)
        if (*id != '\0' && g_str_equal(doc_text(other, "id"), id))
            return doc_text(other, "description");
    return "none";
}

static void
print_snapshot(Cli *cli, const json_t *snapshots, const json_t *s)
{
    g_autoptr(Table) table = table_new("", "", NULL);
    g_autofree char *date = date_text(doc_text(s, "date"));
    g_autofree char *age = age_text(doc_text(s, "date"));
    g_autofree char *when = *age != '\0' ? g_strdup_printf("%s (%s)", date, age) : g_strdup(date);
    g_autofree char *size = size_text(doc_bytes(s, "size"));

    table_row(table, "Name", doc_text(s, "description"));
    table_row(table, "Id", doc_text(s, "id"));
    if (*doc_text(s, "comment") != '\0')
        table_row(table, "Comment", doc_text(s, "comment"));
    table_row(table, "Date", when);
    table_row(table, "Type", doc_text(s, "snapshot_type"));
    table_row(table, "Status", doc_text(s, "snapshot_status"));
    table_row(table, "Grew out of", parent_name(snapshots, s));
    table_row(table, "Memory", doc_bool(s, "persist_memorystate") ? "saved" : "not saved");
    if (doc_bool(s, "configuration_only"))
        table_row(table, "Disks", "none: it holds the configuration alone");
    if (doc_at(s, "size") != NULL)
        table_row(table, "Size", size);
    if (*doc_text(s, "unusable") != '\0')
        table_row(table, "Unusable because", doc_text(s, "unusable"));
    else if (doc_bool(s, "unusable"))
        table_row(table, "Usable", "no: a merge into it has begun, it can only be deleted");
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
}

bool
snapshot_show(Cli *cli, GError **error)
{
    g_autoptr(json_t) vm = NULL;
    g_autoptr(json_t) snapshots = NULL;

    if (!snapshot_load(cli, &vm, &snapshots, error))
        return false;
    g_autoptr(json_t) found =
        resolve_snapshot(cli, vm, snapshots, option_arg(cli->options, 1), error);
    g_autoptr(json_t) doc = found != NULL ? get_snapshot(cli, vm, found, error) : NULL;
    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, doc);
    else
        print_snapshot(cli, snapshots, doc);
    return true;
}

/* {"disk_attachment":[{"disk":{"id"}}]} for the --disk options; NULL = error */
static json_t *
chosen_disks(Cli *cli, const json_t *vm, GError **error)
{
    const GPtrArray *words = cli->options->values[OPT_DISK];
    g_autoptr(json_t) list = json_array();

    for (guint i = 0; i < words->len; i++) {
        g_autoptr(json_t) disk = resolve_disk(cli, vm, words->pdata[i], error);
        if (disk == NULL)
            return NULL;
        json_array_append_new(list, json_pack("{s:{s:s}}", "disk", "id", doc_text(disk, "id")));
    }
    return json_pack("{s:O}", "disk_attachment", list);
}

static json_t *
create_body(Cli *cli, const json_t *vm, const char *name, GError **error)
{
    const Options *o = cli->options;
    g_autoptr(json_t) body = json_pack("{s:s, s:b}", "description", name, "persist_memorystate",
                                       option_given(o, OPT_MEMORY));

    if (option_given(o, OPT_QUIESCE))
        json_object_set_new(body, "quiesce", json_string(option_text(o, OPT_QUIESCE)));
    if (option_given(o, OPT_CONFIG_ONLY))
        json_object_set_new(body, "disk_attachments", json_pack("{s:[]}", "disk_attachment"));
    if (option_given(o, OPT_DISK)) {
        json_t *disks = chosen_disks(cli, vm, error);
        if (disks == NULL)
            return NULL;
        json_object_set_new(body, "disk_attachments", disks);
    }
    return g_steal_pointer(&body);
}

/* The manager took a request about one snapshot: wait for its job as asked, and show the
 * snapshot as it is then. */
static bool
finish_snapshot(Cli *cli, const json_t *vm, const json_t *accepted, const char *done_text,
                GError **error)
{
    const char *job_id = doc_text(accepted, "job.id");
    bool json = option_given(cli->options, OPT_JSON);
    g_autoptr(json_t) job = NULL;
    g_autoptr(json_t) final = NULL;

    if (*job_id != '\0' && option_waits(cli->options)) {
        job = wait_job(cli, job_id, error);
        if (job == NULL || !job_judge(cli, job, error))
            return false;
        final = get_snapshot(cli, vm, accepted, error);
        if (final == NULL)
            return false;
    }
    if (json)
        cli_print_json(cli, final != NULL ? final : accepted);
    if (*job_id != '\0' && !option_waits(cli->options)) {
        cli_say(cli, "The manager accepted it as job %s.", job_id);
        if (!json)
            fprintf(cli->io->out, "%s\n", job_id);
        return true;
    }
    if (cli->exit_code == EXIT_DONE)
        cli_say(cli, "%s", done_text);
    if (!json)
        fprintf(cli->io->out, "%s\n", doc_text(accepted, "id"));
    return true;
}

/* Memory fits the disks of its instant; a guest that is frozen, too. */
static bool
check_config_only(const Options *o, GError **error)
{
    const char *other = option_given(o, OPT_DISK)     ? "--disk"
                        : option_given(o, OPT_MEMORY) ? "--memory"
                        : g_strcmp0(option_text(o, OPT_QUIESCE), "require") == 0
                            ? "--quiesce=require"
                            : NULL;

    return !option_given(o, OPT_CONFIG_ONLY) || other == NULL ||
           error_set(error, ERR_INVALID,
                     "--config-only takes no disk, so %s cannot go with it; leave one of them out",
                     other);
}

bool
snapshot_create(Cli *cli, GError **error)
{
    const char *name = option_arg(cli->options, 1);

    if (!name_check("the snapshot's name", name, error) || !check_config_only(cli->options, error))
        return false;
    g_autoptr(json_t) vm = resolve_vm(cli, option_arg(cli->options, 0), error);
    g_autoptr(json_t) body = vm != NULL ? create_body(cli, vm, name, error) : NULL;
    if (body == NULL)
        return false;
    g_autofree char *path = remote_path("vms/%s/snapshots", doc_text(vm, "id"));
    g_autoptr(json_t) accepted = remote_send(cli, "POST", path, body, error);
    if (accepted == NULL)
        return false;
    g_autofree char *text =
        g_strdup_printf("Snapshot '%s' of VM '%s' is taken.", name, doc_text(vm, "name"));
    return finish_snapshot(cli, vm, accepted, text, error);
}

bool
snapshot_rename(Cli *cli, GError **error)
{
    const char *name = option_arg(cli->options, 2);
    g_autoptr(json_t) vm = NULL;
    g_autoptr(json_t) snapshots = NULL;

    if (!name_check("the new name", name, error) || !snapshot_load(cli, &vm, &snapshots, error))
        return false;
    g_autoptr(json_t) old =
        resolve_snapshot(cli, vm, snapshots, option_arg(cli->options, 1), error);
    if (old == NULL)
        return false;
    g_autofree char *path =
        remote_path("vms/%s/snapshots/%s", doc_text(vm, "id"), doc_text(old, "id"));
    g_autoptr(json_t) body = json_pack("{s:s}", "description", name);
    g_autoptr(json_t) accepted = remote_send(cli, "PUT", path, body, error);
    if (accepted == NULL)
        return false;
    g_autofree char *text =
        g_strdup_printf("Snapshot '%s' is now called '%s'.", doc_text(old, "description"), name);
    return finish_snapshot(cli, vm, accepted, text, error);
}
