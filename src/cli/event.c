/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge event list|follow
 */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/table.h"
#include "cli/wait.h"

#define LONG_POLL_S 10

static uint64_t
event_id(const json_t *event)
{
    return doc_bytes(event, "id");
}

/* The i-th in the order of time: lists come newest first, long polls oldest first. */
static const json_t *
event_at(const json_t *events, size_t i)
{
    size_t last = json_array_size(events) - 1;
    bool newest_first =
        event_id(json_array_get(events, 0)) > event_id(json_array_get(events, last));

    return json_array_get(events, newest_first ? last - i : i);
}

static void
add_event(Table *table, const json_t *event)
{
    g_autofree char *time = date_text(doc_text(event, "time"));

    table_row(table, time, doc_text(event, "severity"), doc_text(event, "vm.name"),
              doc_text(event, "description"));
}

bool
event_list(Cli *cli, GError **error)
{
    uint64_t max = option_number(cli->options, OPT_MAX, 50);
    uint64_t from = option_number(cli->options, OPT_FROM, 0);
    g_autofree char *path =
        g_strdup_printf("events?max=%" G_GUINT64_FORMAT "&from=%" G_GUINT64_FORMAT, max, from);
    g_autoptr(json_t) doc = remote_get(cli, path, error);
    g_autoptr(Table) table = table_new("TIME", "SEVERITY", "VM", "DESCRIPTION", NULL);

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    const json_t *events = doc_items(doc, NULL, "event");
    for (size_t i = 0; i < json_array_size(events); i++)
        add_event(table, event_at(events, i));
    if (table_rows(table) == 0) {
        cli_say(cli, "There are no events.");
        return true;
    }
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
    return true;
}

static void
print_event(Cli *cli, const json_t *event)
{
    if (option_given(cli->options, OPT_JSON)) {
        autolibc char *line = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(15));
        fprintf(cli->io->out, "%s\n", line);
        return;
    }
    g_autofree char *time = date_text(doc_text(event, "time"));
    g_autofree char *severity = escape_text(doc_text(event, "severity"), false);
    g_autofree char *text = escape_text(doc_text(event, "description"), false);
    fprintf(cli->io->out, "%s  %-8s  %s\n", time, severity, text);
}

/* Prints the events of the document that are newer than from, oldest first; returns the newest. */
static uint64_t
print_new(Cli *cli, const json_t *doc, uint64_t from)
{
    const json_t *events = doc_items(doc, NULL, "event");

    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = event_at(events, i);
        if (event_id(event) <= from)
            continue;
        print_event(cli, event);
        from = event_id(event);
    }
    fflush(cli->io->out);
    return from;
}

static bool
newest_id(Cli *cli, uint64_t *ret_id, GError **error)
{
    g_autoptr(json_t) doc = remote_get(cli, "events?max=1", error);

    if (doc == NULL)
        return false;
    *ret_id = event_id(json_array_get(doc_items(doc, NULL, "event"), 0));
    return true;
}

bool
event_follow(Cli *cli, GError **error)
{
    int64_t deadline = wait_deadline(cli);
    uint64_t from = option_number(cli->options, OPT_FROM, 0);

    if (!option_given(cli->options, OPT_FROM) && !newest_id(cli, &from, error))
        return false;
    while (clock_mono_us() < deadline) {
        int64_t asked = clock_mono_us();
        int64_t left_s = (deadline - asked) / G_USEC_PER_SEC;
        int wait_s = (int)CLAMP(left_s, 1, LONG_POLL_S);
        g_autofree char *path =
            g_strdup_printf("events?from=%" G_GUINT64_FORMAT "&wait=%d", from, wait_s);
        g_autoptr(json_t) doc =
            remote_get_patiently(cli, path, (unsigned)(wait_s + 10) * 1000, deadline, error);
        if (doc == NULL)
            return false;
        uint64_t newest = print_new(cli, doc, from);
        /* A manager that does not hold the call back must not make us spin. */
        if (newest == from && clock_mono_us() - asked < 100000)
            g_usleep(200000);
        from = newest;
    }
    return true;
}
