/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/plan.h"

#include "base/text.h"
#include "cli/doc.h"
#include "cli/table.h"

#include <math.h>
#include <string.h>

/* ---- cells: "" where nothing is known ---- */

static char *
bytes_cell(const json_t *costs, const char *key)
{
    double bytes = doc_number(costs, key, NAN);
    g_autofree char *size = size_text((uint64_t)(isfinite(bytes) ? fabs(bytes) : 0));

    return isfinite(bytes) ? g_strdup_printf("%s%s", bytes < 0 ? "-" : "", size) : g_strdup("");
}

static char *
seconds_cell(const json_t *costs)
{
    double seconds = doc_number(costs, "seconds", -1);

    return seconds >= 0 ? seconds_text(seconds) : g_strdup("");
}

/* "2 x 30 ms" */
static char *
pauses_cell(const json_t *costs)
{
    double n = doc_number(costs, "pauses", -1);
    g_autofree char *each = seconds_text(doc_number(costs, "pause_ms", 0) / 1000);

    if (n < 0)
        return g_strdup("");
    return n > 0 ? g_strdup_printf("%.0f x %s", n, each) : g_strdup("none");
}

static char *
volume_name(const json_t *volume)
{
    return g_path_get_basename(doc_text(volume, "path"));
}

/* "base.qcow2 ← a.qcow2 ← b.qcow2", or "base.qcow2 ← … ← top.qcow2 (12 volumes)" */
static char *
chain_cell(const json_t *run, bool utf8)
{
    const json_t *volumes = doc_items(run, "volumes", "volume");
    size_t n = json_array_size(volumes);
    const char *arrow = utf8 ? " \u2190 " : " <- ";
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < n; i++) {
        g_autofree char *name = volume_name(json_array_get(volumes, i));
        bool left_out = n > 3 && i > 0 && i + 1 < n;
        if (left_out && i > 1)
            continue;
        g_string_append_printf(text, "%s%s", i > 0 ? arrow : "",
                               !left_out ? name
                               : utf8    ? "\u2026"
                                         : "...");
    }
    if (n > 3)
        g_string_append_printf(text, " (%zu volumes)", n);
    return g_string_free(text, FALSE);
}

static const char *
run_disk(const json_t *run)
{
    const char *name = doc_text(run, "disk.name");

    return *name != '\0' ? name : doc_text(run, "disk.id");
}

/* Of the strategy that was chosen; NULL = it is possible. */
static const char *
run_blocker(const json_t *run)
{
    const json_t *chosen = json_array_get(doc_items(run, "options", "option"), 0);

    if (chosen == NULL || doc_bool(chosen, "possible"))
        return NULL;
    return doc_text(chosen, "why");
}

/* ---- the plan ---- */

typedef struct {
    char *written, *peak, *freed, *time, *pauses;
} Cells;

static void
cells_clear(Cells *cells)
{
    g_free(cells->written);
    g_free(cells->peak);
    g_free(cells->freed);
    g_free(cells->time);
    g_free(cells->pauses);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Cells, cells_clear)

static Cells
cells_of(const json_t *costs)
{
    return (Cells){ .written = bytes_cell(costs, "bytes_written"),
                    .peak = bytes_cell(costs, "space_peak"),
                    .freed = bytes_cell(costs, "space_freed"),
                    .time = seconds_cell(costs),
                    .pauses = pauses_cell(costs) };
}

static char *
runs_text(const json_t *plan, unsigned width, bool utf8)
{
    g_autoptr(Table) table = table_new("DISK", "STRATEGY", ">COPIES", ">EXTRA SPACE", ">FREED",
                                       ">TIME", ">PAUSES", "MERGES", NULL);
    g_auto(Cells) total = cells_of(doc_at(plan, "totals"));
    size_t i;
    json_t *run;

    json_array_foreach ((json_t *)doc_items(plan, "runs", "run"), i, run) {
        bool blocked = run_blocker(run) != NULL;
        g_auto(Cells) cells = cells_of(blocked ? NULL : run);
        g_autofree char *chain = chain_cell(run, utf8);
        table_row(table, run_disk(run), blocked ? "none" : doc_text(run, "strategy"), cells.written,
                  cells.peak, cells.freed, cells.time, cells.pauses, chain);
    }
    if (table_rows(table) == 0)
        return g_strdup("No disk has to be merged; only the snapshots' entries go.\n");
    if (doc_bool(plan, "possible"))
        table_row(table, "total", "", total.written, total.peak, total.freed, total.time,
                  total.pauses, "");
    return table_text(table, width);
}

/* Each run under its own title, with every strategy that was thought of for it. */
static void
append_options(GString *text, const json_t *run, unsigned width, bool utf8)
{
    g_autoptr(Table) table = table_new("OPTION", ">COPIES", ">EXTRA SPACE", ">FREED", ">TIME",
                                       ">PAUSES", "VERDICT", NULL);
    g_autofree char *disk = escape_text(run_disk(run), false), *chain = chain_cell(run, utf8);
    g_autofree char *safe = escape_text(chain, false);
    size_t i;
    json_t *option;

    json_array_foreach ((json_t *)doc_items(run, "options", "option"), i, option) {
        bool possible = doc_bool(option, "possible");
        g_auto(Cells) cells = cells_of(option);
        table_row(table, doc_text(option, "strategy"), cells.written, cells.peak, cells.freed,
                  cells.time, cells.pauses,
                  !possible ? doc_text(option, "why")
                  : i == 0  ? "chosen"
                            : "possible");
    }
    g_autofree char *rows = table_text(table, width);
    g_string_append_printf(text, "\n%s: %s\n%s", disk, safe, rows);
}

static void
append_sentence(GString *text, const char *before, const char *sentence)
{
    g_autofree char *safe = escape_text(sentence, false);

    g_string_append_printf(text, "%s%s%s\n", before, safe, g_str_has_suffix(safe, ".") ? "" : ".");
}

/* The plan's own reason names VM and disk; those of other disks follow if it does not tell them. */
static void
append_blockers(GString *text, const json_t *plan)
{
    const char *why = doc_text(plan, "why");
    size_t i;
    json_t *run;

    append_sentence(text, "Not possible: ", why);
    json_array_foreach ((json_t *)doc_items(plan, "runs", "run"), i, run) {
        const char *blocker = run_blocker(run);
        if (blocker == NULL || *blocker == '\0' || strstr(why, blocker) != NULL)
            continue;
        g_autofree char *name = escape_text(run_disk(run), false);
        g_autofree char *before = g_strdup_printf("Disk %s: ", name);
        append_sentence(text, before, blocker);
    }
}

/* What is not touched although it takes part. */
static void
append_kept(GString *text, const json_t *plan)
{
    size_t i, k;
    json_t *run, *path;

    json_array_foreach ((json_t *)doc_items(plan, "runs", "run"), i, run) {
        json_array_foreach ((json_t *)doc_items(run, "kept", "path"), k, path) {
            g_autofree char *safe = escape_text(json_string_value(path), false);
            g_string_append_printf(text, "%s stays: others stand on it.\n", safe);
        }
    }
}

char *
plan_text(const json_t *plan, unsigned width, bool utf8, bool all)
{
    GString *text = g_string_new(NULL);
    g_autofree char *runs = runs_text(plan, width, utf8);
    size_t i;
    json_t *run;

    g_string_append(text, runs);
    json_array_foreach ((json_t *)(all ? doc_items(plan, "runs", "run") : NULL), i, run) {
        append_options(text, run, width, utf8);
    }
    g_string_append_c(text, '\n');
    append_kept(text, plan);
    if (!doc_bool(plan, "possible"))
        append_blockers(text, plan);
    else if (!doc_bool(plan, "exact") && json_array_size(doc_items(plan, "runs", "run")) > 0)
        g_string_append(text, "The figures are upper bounds.\n");
    if (text->str[text->len - 2] == '\n')
        g_string_truncate(text, text->len - 1);
    return g_string_free(text, FALSE);
}

/* ---- planned and done ---- */

static void
outcome_row(Table *table, const char *disk, const char *what, const json_t *account)
{
    g_auto(Cells) cells = cells_of(account);
    const char *key = doc_at(account, "bytes_written") != NULL ? "bytes_written" : "bytes_copied";
    g_autofree char *written = bytes_cell(account, key);

    table_row(table, disk, what, doc_text(account, "strategy"), written, cells.freed, cells.time,
              cells.pauses, doc_text(account, "verified"));
}

char *
plan_and_outcome_text(const json_t *job, unsigned width)
{
    g_autoptr(Table) table = table_new("DISK", "", "STRATEGY", ">WRITTEN", ">FREED", ">TIME",
                                       ">PAUSES", "CHECKED", NULL);
    size_t i;
    json_t *disk;

    json_array_foreach ((json_t *)doc_items(job, "disks", "disk"), i, disk) {
        const char *name =
            *doc_text(disk, "name") != '\0' ? doc_text(disk, "name") : doc_text(disk, "id");
        if (doc_at(disk, "plan") == NULL)
            continue;
        outcome_row(table, name, "planned", doc_at(disk, "plan"));
        if (doc_at(disk, "outcome") != NULL)
            outcome_row(table, name, "done", doc_at(disk, "outcome"));
    }
    return table_rows(table) > 0 ? table_text(table, width) : g_strdup("");
}
