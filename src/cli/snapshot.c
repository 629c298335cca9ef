/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge snapshot create|list|show|delete|rename
 */
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/table.h"
#include "cli/tree.h"
#include "cli/wait.h"

#include <string.h>

/* The VM that the first argument means, and its snapshots. */
static bool
load_vm(Cli *cli, json_t **ret_vm, json_t **ret_snapshots, GError **error)
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

    if (!load_vm(cli, &vm, &doc, error))
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    g_autofree char *text =
        tree_text(doc_items(doc, NULL, "snapshot"), cli->io->out_width, cli->io->utf8);
    fputs(text, cli->io->out);
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
    table_row(table, "Date", when);
    table_row(table, "Type", doc_text(s, "snapshot_type"));
    table_row(table, "Status", doc_text(s, "snapshot_status"));
    table_row(table, "Grew out of", parent_name(snapshots, s));
    table_row(table, "Memory", doc_bool(s, "persist_memorystate") ? "saved" : "not saved");
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

    if (!load_vm(cli, &vm, &snapshots, error))
        return false;
    g_autoptr(json_t) found = resolve_snapshot(vm, snapshots, option_arg(cli->options, 1), error);
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

bool
snapshot_create(Cli *cli, GError **error)
{
    const char *name = option_arg(cli->options, 1);

    if (!name_check("the snapshot's name", name, error))
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

    if (!name_check("the new name", name, error) || !load_vm(cli, &vm, &snapshots, error))
        return false;
    g_autoptr(json_t) old = resolve_snapshot(vm, snapshots, option_arg(cli->options, 1), error);
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

/* The snapshots that the arguments mean, each once. */
static json_t *
chosen_snapshots(Cli *cli, const json_t *vm, const json_t *snapshots, GError **error)
{
    g_autoptr(json_t) chosen = json_array();

    for (guint i = 1; i < cli->options->args->len; i++) {
        g_autoptr(json_t) snapshot =
            resolve_snapshot(vm, snapshots, option_arg(cli->options, i), error);
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

static json_t *
begin_delete(Cli *cli, GError **error)
{
    g_autoptr(json_t) vm = NULL;
    g_autoptr(json_t) snapshots = NULL;

    if (!load_vm(cli, &vm, &snapshots, error))
        return NULL;
    g_autoptr(json_t) chosen = chosen_snapshots(cli, vm, snapshots, error);
    g_autoptr(json_t) body = chosen != NULL ? delete_body(cli, vm, chosen, error) : NULL;
    if (body == NULL || !confirm_delete(cli, vm, chosen, error))
        return NULL;
    g_autofree char *path = remote_path("vms/%s/removesnapshots", doc_text(vm, "id"));
    return remote_send(cli, "POST", path, body, error);
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
    if (!option_given(cli->options, OPT_YES) && !cli->io->in_terminal)
        return cli_confirm(cli, "", error); /* says so before anything is looked up */
    g_autoptr(json_t) accepted = begin_delete(cli, error);
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
