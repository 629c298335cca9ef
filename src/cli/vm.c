/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge vm list|show
 */
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/host.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/table.h"

static const char *
host_of(const json_t *vm)
{
    const char *host = doc_text(vm, "host.name");

    return *host != '\0'              ? host
           : *doc_text(vm, "host.id") ? doc_text(vm, "host.id")
                                      : doc_text(vm, "host");
}

bool
vm_list(Cli *cli, GError **error)
{
    g_autoptr(json_t) doc = remote_get(cli, "vms", error);
    g_autoptr(Table) table =
        table_new("NAME", "STATUS", "HOST", ">SNAPSHOTS", "ID", "NOT MANAGED BECAUSE", NULL);
    bool all_known = true;
    size_t i;
    json_t *vm;

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    json_array_foreach ((json_t *)doc_items(doc, NULL, "vm"), i, vm) {
        all_known = all_known && !g_str_equal(doc_text(vm, "status"), "unknown");
        double count = doc_number(vm, "snapshot_count", -1);
        g_autofree char *snapshots = count >= 0 ? g_strdup_printf("%.0f", count) : g_strdup("");
        table_row(table, doc_text(vm, "name"), doc_text(vm, "status"), host_of(vm), snapshots,
                  doc_text(vm, "id"), doc_text(vm, "unmanaged"));
    }
    if (table_rows(table) == 0)
        cli_say(cli, "There are no virtual machines.");
    else {
        g_autofree char *text = table_text(table, cli->io->out_width);
        fputs(text, cli->io->out);
    }
    if (!all_known || table_rows(table) == 0)
        host_say_silent(cli);
    return true;
}

static void
add_volumes(Table *table, const json_t *volumes, const char *disk)
{
    size_t i;
    json_t *volume;

    json_array_foreach ((json_t *)volumes, i, volume) {
        g_autofree char *id = short_id(doc_text(volume, "id"));
        g_autofree char *size = size_text(doc_bytes(volume, "virtual_size"));
        g_autofree char *used = size_text(doc_bytes(volume, "allocated"));
        table_row(table, disk, id, doc_text(volume, "format"), size, used,
                  doc_text(volume, "path"));
    }
}

/* What a preview has left standing follows the chain that it left. */
static void
print_volumes(Cli *cli, const json_t *disks)
{
    g_autoptr(Table) table =
        table_new("DISK", "VOLUME", "FORMAT", ">SIZE", ">ALLOCATED", "PATH", NULL);
    size_t i;
    json_t *disk;

    json_array_foreach ((json_t *)disks, i, disk) {
        const char *target = doc_text(disk, "logical_name");
        const char *name = *target != '\0' ? target : doc_text(disk, "name");
        g_autofree char *beside = g_strdup_printf("%s (beside)", name);
        add_volumes(table, doc_items(disk, "volumes", "volume"), name);
        add_volumes(table, doc_items(disk, "branches", "branch"), beside);
    }
    if (table_rows(table) == 0)
        return;
    g_autofree char *text = table_text(table, cli->io->out_width);
    fprintf(cli->io->out, "\nVolumes, base first:\n%s", text);
}

static void
print_disks(Cli *cli, const json_t *disks)
{
    g_autoptr(Table) table =
        table_new("DISK", "NAME", ">SIZE", ">ALLOCATED", ">VOLUMES", "STATUS", "ID", NULL);
    size_t i;
    json_t *disk;

    json_array_foreach ((json_t *)disks, i, disk) {
        g_autofree char *size = size_text(doc_bytes(disk, "provisioned_size"));
        g_autofree char *used =
            size_text(doc_bytes(disk, "total_size") > 0 ? doc_bytes(disk, "total_size")
                                                        : doc_bytes(disk, "actual_size"));
        g_autofree char *volumes =
            g_strdup_printf("%zu", json_array_size(doc_items(disk, "volumes", "volume")));
        table_row(table, doc_text(disk, "logical_name"), doc_text(disk, "name"), size, used,
                  volumes, doc_text(disk, "status"), doc_text(disk, "id"));
    }
    if (table_rows(table) == 0)
        return;
    g_autofree char *text = table_text(table, cli->io->out_width);
    fprintf(cli->io->out, "\n%s", text);
}

/* What is not said of each. */
static void
print_words(Table *table, const json_t *vm)
{
    static const struct {
        const char *member, *title;
    } words[] = { { "description", "Description" },
                  { "comment", "Comment" },
                  { "foreign_job", "Under way, and not livemerge's" },
                  { "unmanaged", "Not managed because" } };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
        if (*doc_text(vm, words[i].member) != '\0')
            table_row(table, words[i].title, doc_text(vm, words[i].member));
    if (*doc_text(vm, "fqdn") != '\0')
        table_row(table, "Guest's name", doc_text(vm, "fqdn"));
    if (json_is_true(json_object_get(vm, "frozen")))
        table_row(table, "File systems", "frozen (livemerge vm thaw)");
}

static void
print_vm(Cli *cli, const json_t *vm)
{
    g_autoptr(Table) table = table_new("", "", NULL);
    double count = doc_number(vm, "snapshot_count", -1);

    table_row(table, "Name", doc_text(vm, "name"));
    table_row(table, "Id", doc_text(vm, "id"));
    table_row(table, "Status", doc_text(vm, "status"));
    if (*host_of(vm) != '\0')
        table_row(table, "Host", host_of(vm));
    if (count >= 0) {
        g_autofree char *text = g_strdup_printf("%.0f", count);
        table_row(table, "Snapshots", text);
    }
    print_words(table, vm);
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
}

bool
vm_show(Cli *cli, GError **error)
{
    g_autoptr(json_t) found = resolve_vm(cli, option_arg(cli->options, 0), error);

    if (found == NULL)
        return false;
    g_autofree char *path = remote_path("vms/%s", doc_text(found, "id"));
    g_autoptr(json_t) vm = remote_get(cli, path, error);
    if (vm == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, vm);
        return true;
    }
    g_autoptr(json_t) disks = vm_disks(cli, vm, error);
    if (disks == NULL)
        return false;
    print_vm(cli, vm);
    print_disks(cli, disks);
    print_volumes(cli, disks);
    host_say_silent_of(cli, vm);
    return true;
}
