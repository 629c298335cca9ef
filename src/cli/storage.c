/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge storage list|import
 */
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/table.h"
#include "cli/wait.h"

/* "" of what could not be asked */
static char *
bytes_or_none(const json_t *domain, const char *key)
{
    return doc_at(domain, key) != NULL ? size_text(doc_bytes(domain, key)) : g_strdup("");
}

bool
storage_list(Cli *cli, GError **error)
{
    g_autoptr(json_t) doc = remote_get(cli, "storagedomains", error);
    g_autoptr(Table) table = table_new("ID", ">FREE", ">USED", "PATH", NULL);
    size_t i;
    json_t *domain;

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    json_array_foreach ((json_t *)doc_items(doc, NULL, "storage_domain"), i, domain) {
        g_autofree char *id = short_id(doc_text(domain, "id"));
        g_autofree char *free = bytes_or_none(domain, "available");
        g_autofree char *used = bytes_or_none(domain, "used");
        table_row(table, id, free, used, doc_text(domain, "storage.path"));
    }
    if (table_rows(table) == 0) {
        cli_say(cli, "There are no storage domains: no VM has a disk that is managed.");
        return true;
    }
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
    return true;
}

/* ---- import: the summary ---- */

static size_t
count(const json_t *vm, const char *outer, const char *inner)
{
    return json_array_size(doc_items(vm, outer, inner));
}

static void
add_words(GString *text, size_t n, const char *one, const char *many)
{
    if (n > 0)
        g_string_append_printf(text, "%s%zu %s", text->len > 0 ? ", " : "", n, n == 1 ? one : many);
}

/* What is unfinished of this VM. */
static char *
unfinished(const json_t *vm)
{
    GString *text = g_string_new(NULL);

    add_words(text, count(vm, "operations", "operation"), "operation under way",
              "operations under way");
    add_words(text, count(vm, "adopted_snapshots", "snapshot"), "snapshot without a manifest",
              "snapshots without a manifest");
    add_words(text, count(vm, "leftover_volumes", "volume"), "merged volume to delete",
              "merged volumes to delete");
    add_words(text, count(vm, "merged_snapshots", "snapshot"), "merged snapshot to forget",
              "merged snapshots to forget");
    if (text->len > 0 && doc_bool(vm, "held"))
        g_string_append(text, " (a job of this manager ends it)");
    return g_string_free(text, FALSE);
}

static char *
number(const json_t *vm, const char *key)
{
    return g_strdup_printf("%.0f", doc_number(vm, key, 0));
}

static void
print_vms(Cli *cli, const json_t *import)
{
    g_autoptr(Table) table =
        table_new("VM", "HOST", "STATUS", ">DISKS", ">VOLUMES", ">SNAPSHOTS", "UNFINISHED", NULL);
    size_t i;
    json_t *vm;

    json_array_foreach ((json_t *)doc_items(import, "vms", "vm"), i, vm) {
        g_autofree char *disks = number(vm, "disk_count"), *volumes = number(vm, "volume_count"),
                        *snapshots = number(vm, "snapshot_count"), *rest = unfinished(vm);
        table_row(table, doc_text(vm, "name"), doc_text(vm, "host"), doc_text(vm, "status"), disks,
                  volumes, snapshots, rest);
    }
    if (table_rows(table) == 0)
        return;
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
}

static void
print_doubts(Cli *cli, const json_t *import)
{
    g_autoptr(Table) table = table_new("IN DOUBT", "WHY", "WHAT DECIDES", NULL);
    size_t i;
    json_t *doubt;

    json_array_foreach ((json_t *)doc_items(import, "doubts", "doubt"), i, doubt) {
        const char *name = doc_text(doubt, "vm.name"), *id = doc_text(doubt, "vm.id");
        table_row(table,
                  *name != '\0' ? name
                  : *id != '\0' ? id
                                : doc_text(doubt, "file"),
                  doc_text(doubt, "why"), doc_text(doubt, "command"));
    }
    if (table_rows(table) == 0)
        return;
    g_autofree char *text = table_text(table, cli->io->out_width);
    fprintf(cli->io->out, "\n%s", text);
}

/* Who was not asked; true = nobody. */
static bool
say_silent(Cli *cli, const json_t *import)
{
    const json_t *silent = doc_items(import, "silent_hosts", "host");
    size_t i;
    json_t *host;

    json_array_foreach ((json_t *)silent, i, host) {
        cli_say(cli, "Host '%s' was not asked: %s.", doc_text(host, "name"), doc_text(host, "why"));
    }
    return json_array_size(silent) == 0;
}

/* ---- import: the jobs ---- */

static void
say_left(Cli *cli, const json_t *job)
{
    size_t i;
    json_t *left;

    json_array_foreach ((json_t *)doc_items(job, "imported", "left"), i, left) {
        cli_say(cli, "Not deleted: %s", doc_text(left, "why"));
    }
}

/* The job of one VM to its end; its document takes the place of the reference. */
static bool
wait_vm(Cli *cli, json_t *vm, GError **error)
{
    const char *id = doc_text(vm, "job.id");
    g_autoptr(GError) why = NULL;
    json_t *job;

    if (*id == '\0')
        return true;
    job = wait_job(cli, id, error);
    if (job == NULL)
        return false;
    say_left(cli, job);
    if (!job_judge(cli, job, &why)) {
        cli_say(cli, "VM '%s': %s", doc_text(vm, "name"), why->message);
        cli->exit_code = EXIT_FAILED;
    }
    json_object_set_new(vm, "job", job);
    return true;
}

static bool
wait_all(Cli *cli, const json_t *import, GError **error)
{
    size_t i;
    json_t *vm;

    json_array_foreach ((json_t *)doc_items(import, "vms", "vm"), i, vm) {
        if (!wait_vm(cli, vm, error))
            return false;
    }
    return true;
}

static json_t *
request(Cli *cli)
{
    const char *dir = option_arg(cli->options, 0);
    json_t *body = json_pack("{s:b, s:b}", "dry_run", (int)option_given(cli->options, OPT_DRY_RUN),
                             "take_over", (int)option_given(cli->options, OPT_TAKE_OVER));

    if (dir != NULL) {
        g_autofree char *path = g_canonicalize_filename(dir, NULL);
        json_object_set_new(body, "path", json_string(path));
    }
    return body;
}

static char *
total(const json_t *import, const char *key, const char *word)
{
    double n = doc_number(import, key, 0);

    return g_strdup_printf("%.0f %s%s", n, word, n == 1 ? "" : "s");
}

static void
say_totals(Cli *cli, const json_t *import)
{
    g_autofree char *vms = total(import, "totals.vm_count", "VM"),
                    *snapshots = total(import, "totals.snapshot_count", "snapshot"),
                    *volumes = total(import, "totals.volume_count", "volume");

    cli_say(cli, "%s: %s, %s, %s; in doubt: %.0f.",
            doc_bool(import, "dry_run") ? "Nothing was changed" : "Imported", vms, snapshots,
            volumes, doc_number(import, "totals.doubt_count", 0));
}

bool
storage_import(Cli *cli, GError **error)
{
    g_autoptr(json_t) body = request(cli);
    g_autoptr(json_t) answer = NULL;
    const json_t *import;

    if (option_given(cli->options, OPT_TAKE_OVER) &&
        !cli_confirm(cli,
                     "Is the manager that the hosts obey now lost for ever? It would be locked out "
                     "of them. Take over?",
                     error))
        return false;
    answer = remote_send(cli, "POST", "storagedomains/import", body, error);
    if (answer == NULL)
        return false;
    import = doc_at(answer, "import");
    if (!option_given(cli->options, OPT_JSON)) {
        print_vms(cli, import);
        print_doubts(cli, import);
    }
    bool all_asked = say_silent(cli, import);
    if (option_waits(cli->options) && !wait_all(cli, import, error))
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, import);
    say_totals(cli, import);
    if (!all_asked && cli->exit_code == EXIT_DONE)
        cli->exit_code = EXIT_FAILED;
    return true;
}
