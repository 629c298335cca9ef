/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge certificate show|renew
 */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/table.h"

static char *
names_text(const json_t *certificate)
{
    GString *text = g_string_new(NULL);
    size_t i;
    json_t *name;

    json_array_foreach ((json_t *)doc_items(certificate, "names", "name"), i, name)
        g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", json_string_value(name));
    return g_string_free(text, FALSE);
}

/* "2027-01-31 12:00:00, in 365 d" */
static char *
end_text(const json_t *certificate)
{
    g_autofree char *date = date_text(doc_text(certificate, "expires"));
    g_autofree char *now = clock_iso8601(clock_wall_ms());
    double left = seconds_between(now, doc_text(certificate, "expires"));

    return left < 0 ? g_strdup_printf("%s: it has ended", date)
                    : g_strdup_printf("%s, in %.0f d", date, left / 86400);
}

static char *
renewal_text(const json_t *certificate)
{
    if (doc_bool(certificate, "renewed_by_itself"))
        return g_strdup("by itself, 30 days before its end");
    return g_strdup_printf("not by itself: %s", doc_text(certificate, "why"));
}

static void
print(Cli *cli, const json_t *certificate)
{
    g_autoptr(Table) table = table_new("", "", NULL);
    g_autofree char *from = date_text(doc_text(certificate, "valid_from"));
    g_autofree char *ends = end_text(certificate), *names = names_text(certificate);
    g_autofree char *renewal = renewal_text(certificate);

    table_row(table, "Subject", doc_text(certificate, "subject"));
    table_row(table, "Names", names);
    table_row(table, "Issuer", doc_text(certificate, "issuer"));
    table_row(table, "Valid from", from);
    table_row(table, "Ends", ends);
    table_row(table, "Renewed", renewal);
    table_row(table, "File", doc_text(certificate, "file"));
    table_row(table, "Serial", doc_text(certificate, "serial"));
    table_row(table, "SHA-256", doc_text(certificate, "fingerprint"));
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
}

bool
certificate_show(Cli *cli, GError **error)
{
    g_autoptr(json_t) doc = remote_get(cli, "certificate", error);

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, doc);
    else
        print(cli, doc);
    return true;
}

bool
certificate_renew(Cli *cli, GError **error)
{
    g_autoptr(json_t) none = json_object();
    g_autoptr(json_t) doc = remote_send(cli, "POST", "certificate/renew", none, error);

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    cli_say(cli, "New connections get this certificate from now on; those that are open stay.");
    print(cli, doc_at(doc, "certificate"));
    return true;
}
