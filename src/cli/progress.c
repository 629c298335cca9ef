/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/progress.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/doc.h"
#include "cli/table.h"

#include <string.h>

#define LINE_EVERY_US INT64_C(5000000)
#define BAR_CELLS 24

bool
job_ended(const json_t *job)
{
    static const char *const open[] = { "started", "unknown", "", NULL };

    return !g_strv_contains(open, doc_text(job, "status"));
}

bool
job_finished_well(const json_t *job)
{
    return g_str_equal(doc_text(job, "status"), "finished");
}

const char *
job_error(const json_t *job)
{
    const char *const paths[] = { "error", "error.detail", "error.text", "error.reason",
                                  "fault.detail" };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++)
        if (*doc_text(job, paths[i]) != '\0')
            return doc_text(job, paths[i]);
    return "";
}

static const char *
disk_name(const json_t *disk)
{
    const char *name = doc_text(disk, "name");

    return *name != '\0' ? name : doc_text(disk, "id");
}

/* The phases that mean something to a person; the steps in between are one word. */
static const char *
phase_word(const char *phase)
{
    static const char *const begin[] = { "plan", "begin", "waiting", "wait", NULL };
    static const char *const end[] = {
        "merged", "resolve", "delete", "deleted", "acknowledge", NULL
    };

    if (g_strv_contains(begin, phase))
        return "starting";
    return g_strv_contains(end, phase) ? "finishing" : phase;
}

char *
progress_phases(const json_t *job)
{
    g_autoptr(GString) text = g_string_new(NULL);
    size_t i;
    json_t *disk;

    json_array_foreach ((json_t *)doc_items(job, "disks", "disk"), i, disk) {
        bool paused = g_str_equal(doc_text(disk, "status"), "paused");
        const char *phase = paused ? "paused" : doc_text(disk, "phase");
        if (*phase == '\0')
            phase = doc_text(disk, "status");
        if (*phase != '\0')
            g_string_append_printf(text, "%s%s: %s", text->len > 0 ? ", " : "", disk_name(disk),
                                   phase_word(phase));
    }
    return escape_text(text->str, false);
}

/* "1.2 GiB of 3.0 GiB", what is known of it */
static char *
bytes_text(const json_t *job)
{
    uint64_t total = doc_bytes(job, "progress.bytes_total");
    g_autofree char *done = size_text(doc_bytes(job, "progress.bytes_done"));
    g_autofree char *all = size_text(total);

    return total > 0 ? g_strdup_printf("%s of %s", done, all) : g_strdup("");
}

static int
percent(const json_t *job)
{
    double value = doc_number(job, "progress.percent", job_finished_well(job) ? 100 : 0);

    return (int)CLAMP(value, 0, 100);
}

static char *
numbers_text(const json_t *job, const char *gap)
{
    GString *text = g_string_new(NULL);
    g_autofree char *bytes = bytes_text(job);
    g_autofree char *rate = size_text(doc_bytes(job, "progress.rate"));
    g_autofree char *eta = duration_text(doc_number(job, "progress.eta", -1));

    g_string_append_printf(text, "%3d %%", percent(job));
    if (*bytes != '\0')
        g_string_append_printf(text, "%s%s", gap, bytes);
    if (doc_bytes(job, "progress.rate") > 0 && !job_ended(job))
        g_string_append_printf(text, "%s%s/s", gap, rate);
    if (*eta != '\0' && !job_ended(job))
        g_string_append_printf(text, "%sETA %s", gap, eta);
    return g_string_free(text, FALSE);
}

char *
progress_line(const json_t *job)
{
    g_autofree char *numbers = numbers_text(job, ", ");
    g_autofree char *phases = progress_phases(job);

    return g_strdup_printf("%s%s%s", g_strchug(numbers), *phases != '\0' ? "; " : "", phases);
}

/* Cut to the width, so that the line can be redrawn in place. */
static void
cut(GString *text, unsigned width)
{
    unsigned used = 0;

    for (char *p = text->str; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        used += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
        if (used > width) {
            g_string_truncate(text, (gsize)(p - text->str));
            return;
        }
    }
}

char *
progress_bar(const json_t *job, unsigned width, bool utf8)
{
    GString *text = g_string_new(utf8 ? "▕" : "[");
    g_autofree char *numbers = numbers_text(job, "  ");
    g_autofree char *phases = progress_phases(job);
    int full = percent(job) * BAR_CELLS / 100;

    for (int i = 0; i < BAR_CELLS; i++)
        g_string_append(text, i < full ? (utf8 ? "█" : "#") : (utf8 ? "░" : "."));
    g_string_append_printf(text, "%s %s", utf8 ? "▏" : "]", numbers);
    if (*phases != '\0')
        g_string_append_printf(text, "  %s", phases);
    cut(text, width > 1 ? width - 1 : 79);
    return g_string_free(text, FALSE);
}

/* A job that has paused itself says so once, with what can be done. */
static void
show_attention(Cli *cli, Progress *progress, const json_t *job)
{
    const char *why = doc_text(job, "attention");
    const char *told = progress->attention != NULL ? progress->attention : "";

    if (g_str_equal(why, told))
        return;
    if (*why != '\0') {
        g_autofree char *resume = cli_command(cli, "job resume %s", doc_text(job, "id"));
        g_autofree char *cancel = cli_command(cli, "job cancel %s", doc_text(job, "id"));
        cli_say(cli, "The job has paused: %s\nTo go on: %s\nTo give it up: %s", why, resume,
                cancel);
    } else if (!job_ended(job)) {
        cli_say(cli, "The job goes on.");
    }
    g_free(progress->attention);
    progress->attention = g_strdup(why);
}

void
progress_show(Cli *cli, Progress *progress, const json_t *job)
{
    int64_t now = clock_mono_us();
    g_autofree char *phases = progress_phases(job);

    show_attention(cli, progress, job);
    if (cli->io->err_terminal) {
        unsigned width = cli->io->err_width;
        g_autofree char *bar = progress_bar(job, width > 0 ? width : 80, cli->io->utf8);
        fprintf(cli->io->err, "\r%s\033[K", bar);
        fflush(cli->io->err);
        cli->bar_drawn = true;
        return;
    }
    if (*phases == '\0' && progress->shown_us == 0)
        progress->shown_us = now; /* nothing to say of it yet; most such jobs end at once */
    if (g_strcmp0(phases, progress->phases != NULL ? progress->phases : "") == 0 &&
        now - progress->shown_us < LINE_EVERY_US)
        return;
    g_autofree char *line = progress_line(job);
    cli_say(cli, "%s", line);
    g_free(progress->phases);
    progress->phases = g_steal_pointer(&phases);
    progress->shown_us = now;
}

void
progress_end(Cli *cli, Progress *progress)
{
    if (cli->bar_drawn)
        fputc('\n', cli->io->err);
    cli->bar_drawn = false;
    g_clear_pointer(&progress->phases, g_free);
    g_clear_pointer(&progress->attention, g_free);
}

/* The longest pause of the guest, "" if there was none */
static char *
longest_pause(const json_t *disk)
{
    double longest = -1;
    size_t i;
    json_t *pause;

    json_array_foreach ((json_t *)doc_items(disk, "pauses", "pause"), i, pause)
        longest = MAX(longest, doc_number(pause, "milliseconds", 0));
    return longest >= 0 ? seconds_text(longest / 1000) : g_strdup("");
}

char *
job_disks_text(const json_t *job, unsigned width)
{
    g_autoptr(Table) table = table_new("DISK", "STRATEGY", ">COPIED", ">TIME", ">LONGEST PAUSE",
                                       ">VOLUMES REMOVED", "STATUS", NULL);
    size_t i;
    json_t *disk;

    json_array_foreach ((json_t *)doc_items(job, "disks", "disk"), i, disk) {
        const json_t *removed = doc_items(disk, "volumes_removed", "volume");
        const char *problem = job_error(disk);
        double seconds = doc_number(disk, "seconds", -1);
        g_autofree char *copied = size_text(doc_bytes(disk, "bytes_copied"));
        g_autofree char *time = seconds >= 0 ? seconds_text(seconds) : g_strdup("");
        g_autofree char *pause = longest_pause(disk);
        g_autofree char *volumes = g_strdup_printf("%zu", json_array_size(removed));
        table_row(table, disk_name(disk), doc_text(disk, "strategy"), copied, time, pause, volumes,
                  *problem != '\0' ? problem : doc_text(disk, "status"));
    }
    return table_rows(table) > 0 ? table_text(table, width) : g_strdup("");
}
