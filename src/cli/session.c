/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge session list|end
 */
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/table.h"

/* Whose: --user, else who asks. The caller frees it; NULL = error. */
static char *
whose(Cli *cli, GError **error)
{
    const char *name = option_text(cli->options, OPT_USER);

    if (name != NULL)
        return g_strdup(name);
    g_autoptr(json_t) me = remote_session(cli, error);
    if (me == NULL)
        return NULL;
    if (*doc_text(me, "name") != '\0')
        return g_strdup(doc_text(me, "name"));
    error_set(error, ERR_INVALID,
              "you are %s here, without a session: name the user whose are meant: --user NAME",
              doc_text(me, "user"));
    return NULL;
}

static void
add_session(Table *table, const json_t *session)
{
    g_autofree char *made = date_text(doc_text(session, "created"));
    g_autofree char *used = date_text(doc_text(session, "last_used"));
    g_autofree char *ends = date_text(doc_text(session, "expires"));

    table_row(table, doc_text(session, "id"), doc_text(session, "kind"), made, used,
              doc_text(session, "address"), ends, doc_bool(session, "current") ? "this one" : "");
}

bool
session_list(Cli *cli, GError **error)
{
    g_autofree char *name = whose(cli, error);
    g_autofree char *path = name != NULL ? remote_path("users/%s/sessions", name) : NULL;
    g_autoptr(json_t) doc = path != NULL ? remote_get(cli, path, error) : NULL;
    g_autoptr(Table) table =
        table_new("ID", "KIND", "MADE", "LAST USED", "FROM", "ENDS IF NOT USED", "", NULL);
    size_t i;
    json_t *session;

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    json_array_foreach ((json_t *)doc_items(doc, NULL, "session"), i, session)
        add_session(table, session);
    if (table_rows(table) == 0) {
        cli_say(cli, "%s is signed in nowhere.", name);
        return true;
    }
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
    return true;
}

static bool
end_one(Cli *cli, const char *name, const char *word, GError **error)
{
    g_autofree char *list = cli_command(cli, "session list --user %s", name);
    ResolveKind kind = { "session", "id", NULL, list };
    g_autofree char *all = remote_path("users/%s/sessions", name);
    g_autoptr(json_t) doc = remote_get(cli, all, error);
    g_autoptr(json_t) session =
        doc != NULL ? resolve_word(&kind, doc_items(doc, NULL, "session"), word, error) : NULL;

    if (session == NULL)
        return false;
    g_autofree char *path = remote_path("users/%s/sessions/%s", name, doc_text(session, "id"));
    g_autoptr(json_t) done = remote_send(cli, "DELETE", path, NULL, error);
    if (done == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, done);
    else
        cli_say(cli, "Session %s of %s has ended%s.", doc_text(session, "id"), name,
                doc_bool(session, "current") ? "; it was this one: sign in again" : "");
    return true;
}

static bool
end_others(Cli *cli, const char *name, GError **error)
{
    g_autofree char *path = remote_path("users/%s/sessions", name);
    g_autoptr(json_t) done = remote_send(cli, "DELETE", path, NULL, error);

    if (done == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, done);
    else
        cli_say(cli, "All sessions and tokens of %s have ended, but the one that asked.", name);
    return true;
}

bool
session_end(Cli *cli, GError **error)
{
    const char *word = option_arg(cli->options, 0);
    bool others = option_given(cli->options, OPT_OTHERS);

    if ((word != NULL) == others)
        return error_set(error, ERR_INVALID,
                         "name one session, or all but the one in use with --others; what there "
                         "is: livemerge session list");
    g_autofree char *name = whose(cli, error);
    if (name == NULL)
        return false;
    return others ? end_others(cli, name, error) : end_one(cli, name, word, error);
}
