/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge doctor: shows what is wrong, mends it if asked to, takes that back again.
 *
 * Exits 0 if nothing was found, or all that was found is mended, by whomever; 1 if something is
 * left, or if a VM, a host or a storage domain was not looked at.
 */
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/table.h"
#include "cli/wait.h"
#include "model/diagnosis.h"

#include <string.h>

/* ---- what was found ---- */

static bool
is_class_wanted(const Cli *cli, const json_t *finding)
{
    const GPtrArray *classes = cli->options->values[OPT_CLASS];

    for (guint i = 0; classes != NULL && i < classes->len; i++)
        if (g_str_equal(classes->pdata[i], doc_text(finding, "class")))
            return true;
    return classes == NULL;
}

/* Would --fix, with the options given, mend it? */
static bool
will_be_fixed(const Cli *cli, const json_t *finding)
{
    const char *can = doc_text(finding, "can_fix");

    return is_class_wanted(cli, finding) &&
           (g_str_equal(can, "yes") ||
            (g_str_equal(can, "asked") && option_given(cli->options, OPT_CLASS)));
}

/* The sentence, and what can be done about it. */
static char *
finding_text(const json_t *finding)
{
    const char *fix = doc_text(finding, "fix"), *help = doc_text(finding, "help"),
               *why = doc_text(finding, "why");

    return g_strdup_printf("%s.%s%s%s%s%s%s", doc_text(finding, "text"),
                           *fix != '\0' ? " A fix " : "", fix, *fix != '\0' ? "." : "",
                           *why != '\0'    ? " It was left: "
                           : *help != '\0' ? " What helps: "
                                           : "",
                           *why != '\0' ? why : help, *why != '\0' || *help != '\0' ? "." : "");
}

static void
print_findings(Cli *cli, const json_t *findings)
{
    g_autoptr(Table) table = table_new("SEVERITY", "CLASS", "VM", "DISK", "FIX", "WHAT", NULL);
    size_t i;
    json_t *finding;

    json_array_foreach ((json_t *)findings, i, finding) {
        g_autofree char *text = finding_text(finding);
        const char *state = doc_text(finding, "state");
        table_row(table, doc_text(finding, "severity"), doc_text(finding, "class"),
                  doc_text(finding, "vm.name"), doc_text(finding, "disk"),
                  *state != '\0' ? state : doc_text(finding, "can_fix"), text);
    }
    if (table_rows(table) == 0)
        return;
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
}

/* Who was not looked at, and why; true = all were looked at. */
static bool
say_unseen(Cli *cli, const json_t *answer)
{
    const json_t *busy = doc_items(answer, "busy_vms", "vm"),
                 *silent = doc_items(answer, "silent_hosts", "host"),
                 *unread = doc_items(answer, "unread", "storage");
    size_t i;
    json_t *item;

    json_array_foreach ((json_t *)busy, i, item) {
        cli_say(cli, "VM '%s' was not looked at: %s.", doc_text(item, "name"),
                doc_text(item, "why"));
    }
    json_array_foreach ((json_t *)silent, i, item) {
        cli_say(cli, "Host '%s' was not looked at: %s.", doc_text(item, "name"),
                doc_text(item, "why"));
    }
    json_array_foreach ((json_t *)unread, i, item) {
        cli_say(cli, "The storage %s of host '%s' was not looked at: %s.", doc_text(item, "path"),
                doc_text(item, "host"), doc_text(item, "why"));
    }
    return json_array_size(busy) == 0 && json_array_size(silent) == 0 &&
           json_array_size(unread) == 0;
}

static void
say_kept(Cli *cli, const json_t *answer)
{
    uint64_t files = doc_bytes(answer, "kept.files");
    g_autofree char *size = size_text(doc_bytes(answer, "kept.bytes"));

    if (files > 0)
        cli_say(cli,
                "Fixes keep %" G_GUINT64_FORMAT " files (%s) in the trash of their storage domains "
                "(DIR/.livemerge/trash/keep.*) for a while (trash_keep_days of agent.conf).",
                files, size);
}

/* Those of the classes that were asked for. */
static json_t *
chosen_findings(const Cli *cli, const json_t *answer)
{
    json_t *chosen = json_array(), *finding;
    size_t i;

    json_array_foreach ((json_t *)doc_items(answer, "findings", "finding"), i, finding) {
        if (is_class_wanted(cli, finding))
            json_array_append(chosen, finding);
    }
    return chosen;
}

/* ---- mending ---- */

static char *
begin(Cli *cli, const char *vm_id, const json_t *body, GError **error)
{
    g_autofree char *path = remote_path("vms/%s/doctor", vm_id);
    g_autoptr(json_t) accepted = remote_send(cli, "POST", path, body, error);

    if (accepted == NULL)
        return NULL;
    if (*doc_text(accepted, "job.id") == '\0') {
        error_set(error, ERR_INTERNAL, "the manager accepted it but named no job");
        return NULL;
    }
    return g_strdup(doc_text(accepted, "job.id"));
}

/* Begins a job and waits for its end, unless nobody waits; its document. */
static json_t *
run_job(Cli *cli, const char *vm_id, const json_t *body, GError **error)
{
    g_autofree char *id = begin(cli, vm_id, body, error);
    g_autoptr(json_t) job = NULL;

    if (id == NULL)
        return NULL;
    if (!option_waits(cli->options)) {
        cli_say(cli, "The manager accepted it as job %s.", id);
        if (!option_given(cli->options, OPT_JSON))
            fprintf(cli->io->out, "%s\n", id);
        return json_pack("{s:s}", "id", id);
    }
    job = wait_job(cli, id, error);
    if (job == NULL || !job_judge(cli, job, error))
        return NULL;
    return g_steal_pointer(&job);
}

static json_t *
fix_body(const Cli *cli)
{
    const GPtrArray *classes = cli->options->values[OPT_CLASS];
    json_t *list = json_array();

    for (guint i = 0; classes != NULL && i < classes->len; i++)
        json_array_append_new(list, json_pack("{s:s}", "name", (char *)classes->pdata[i]));
    return json_pack("{s:{s:o}}", "classes", "class", list);
}

/* Ids of VMs that have something that will be mended, each once. */
static GPtrArray *
vms_to_fix(const Cli *cli, const json_t *findings, unsigned *ret_n)
{
    GPtrArray *ids = g_ptr_array_new();
    size_t i;
    json_t *finding;

    *ret_n = 0;
    json_array_foreach ((json_t *)findings, i, finding) {
        const char *id = doc_text(finding, "vm.id");
        if (!will_be_fixed(cli, finding) || *id == '\0')
            continue;
        (*ret_n)++;
        if (!g_ptr_array_find_with_equal_func(ids, id, g_str_equal, NULL))
            g_ptr_array_add(ids, (char *)id);
    }
    return ids;
}

/* What became of them, and how that is taken back. */
static size_t
report_fix(Cli *cli, const json_t *job)
{
    const json_t *findings = doc_items(job, "findings", "finding");
    size_t i, mended = 0;
    json_t *finding;

    json_array_foreach ((json_t *)findings, i, finding) {
        mended += g_str_equal(doc_text(finding, "state"), "mended");
    }
    if (!option_given(cli->options, OPT_JSON))
        print_findings(cli, findings);
    if (mended > 0) {
        g_autofree char *name = shell_word(doc_text(job, "vm.name"));
        g_autofree char *undo = cli_command(cli, "doctor %s --undo %s", name, doc_text(job, "id"));
        cli_say(cli, "To undo it: %s", undo);
    }
    return mended;
}

static bool
confirm_fix(Cli *cli, unsigned n, GError **error)
{
    g_autofree char *question =
        g_strdup_printf("Mend %u %s? Files are moved to the trash, not deleted.", n,
                        n == 1 ? "of these" : "of these findings");

    return cli_confirm(cli, question, error);
}

static bool
fix_all(Cli *cli, const json_t *findings, json_t *jobs, size_t *ret_mended, GError **error)
{
    unsigned n = 0;
    g_autoptr(GPtrArray) ids = vms_to_fix(cli, findings, &n);
    g_autoptr(json_t) body = fix_body(cli);

    if (json_array_size(findings) == 0) { /* of what was looked at */
        cli_say(cli, "Nothing was mended.");
        return true;
    }
    if (n == 0) {
        cli_say(cli, "None of it can be mended%s.",
                option_given(cli->options, OPT_CLASS) ? "" : " without naming its --class");
        return true;
    }
    if (!confirm_fix(cli, n, error))
        return false;
    for (guint i = 0; i < ids->len; i++) {
        g_autoptr(json_t) job = run_job(cli, ids->pdata[i], body, error);
        if (job == NULL)
            return false;
        if (option_waits(cli->options))
            *ret_mended += report_fix(cli, job);
        json_array_append(jobs, job);
    }
    return true;
}

/* The agents mend some things unasked: what no job has mended may have been gone by then. */
static bool
nothing_is_left(Cli *cli, const char *path, bool *ret_none, GError **error)
{
    g_autoptr(json_t) answer = remote_get(cli, path, error);
    g_autoptr(json_t) left = answer != NULL ? chosen_findings(cli, answer) : NULL;

    if (answer == NULL)
        return false;
    *ret_none = json_array_size(left) == 0 && say_unseen(cli, answer);
    if (*ret_none)
        cli_say(cli, "What is not listed as mended was gone already: by now nothing is wrong any "
                     "more.");
    return true;
}

/* ---- the command ---- */

static bool
undo(Cli *cli, const json_t *vm, GError **error)
{
    g_autoptr(json_t) body = json_pack("{s:s}", "undo", option_text(cli->options, OPT_UNDO));
    g_autoptr(json_t) job = NULL;
    const json_t *left;
    size_t i;
    json_t *reason;

    if (vm == NULL)
        return error_set(error, ERR_INVALID, "--undo needs the VM: livemerge doctor VM --undo JOB");
    job = run_job(cli, doc_text(vm, "id"), body, error);
    if (job == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, job);
    left = doc_items(job, "left_undone", "reason");
    json_array_foreach ((json_t *)left, i, reason) {
        cli_say(cli, "Not undone: %s", json_string_value(reason));
    }
    if (option_waits(cli->options) && doc_number(job, "undone", 0) == 0 &&
        json_array_size(left) == 0)
        cli_say(cli, "Nothing was left to undo: it has been undone already.");
    else if (option_waits(cli->options))
        cli_say(cli, "%.0f of it undone.", doc_number(job, "undone", 0));
    if (json_array_size(left) > 0)
        cli->exit_code = EXIT_FAILED;
    return true;
}

bool
doctor_show(Cli *cli, GError **error)
{
    const char *word = option_arg(cli->options, 0);
    bool fix = option_given(cli->options, OPT_FIX);
    g_autoptr(json_t) vm = NULL, answer = NULL, findings = NULL;
    g_autoptr(json_t) fixed = json_pack("{s:[]}", "job");
    g_autofree char *path = NULL;
    bool none_left = false;
    size_t mended = 0;

    if (option_given(cli->options, OPT_UNDO) && (fix || option_given(cli->options, OPT_CLASS)))
        return error_set(error, ERR_INVALID,
                         "--undo takes back what a fix has mended, all of it: it goes with neither "
                         "--fix nor --class");
    if (fix && !option_given(cli->options, OPT_YES) && !cli->io->in_terminal)
        return cli_confirm(cli, "", error); /* says so before anything is looked up */
    if (word != NULL && (vm = resolve_vm(cli, word, error)) == NULL)
        return false;
    if (option_given(cli->options, OPT_UNDO))
        return undo(cli, vm, error);
    path = vm != NULL ? remote_path("vms/%s/doctor", doc_text(vm, "id")) : g_strdup("doctor");
    answer = remote_get(cli, path, error);
    if (answer == NULL)
        return false;
    findings = chosen_findings(cli, answer);
    if (option_given(cli->options, OPT_JSON) && !fix)
        cli_print_json(cli, answer);
    else if (!option_given(cli->options, OPT_JSON))
        print_findings(cli, findings);
    bool all_seen = say_unseen(cli, answer);
    say_kept(cli, answer);
    if (json_array_size(findings) == 0 && all_seen)
        cli_say(cli, "Nothing wrong was found.");
    else if (fix && !fix_all(cli, findings, json_object_get(fixed, "job"), &mended, error))
        return false;
    if (option_given(cli->options, OPT_JSON) && fix)
        cli_print_json(cli, fixed);
    if (fix && all_seen && option_waits(cli->options) && mended < json_array_size(findings) &&
        !nothing_is_left(cli, path, &none_left, error))
        return false;
    if (cli->exit_code == EXIT_DONE &&
        ((mended < json_array_size(findings) && !none_left) || !all_seen))
        cli->exit_code = EXIT_FAILED;
    return true;
}
