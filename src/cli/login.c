/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge login|logout
 */
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/token.h"

#define TOKEN_PATH "/ovirt-engine/sso/oauth/token"
#define LOGOUT_PATH "/ovirt-engine/services/sso-logout"
#define SCOPE "ovirt-app-api livemerge-program"
#define DEFAULT_USER "admin"

/* From here on the address of the argument counts. */
static bool
take_address(Cli *cli, GError **error)
{
    const char *word = option_arg(cli->options, 0);

    if (!g_str_has_prefix(word, "https://") && !g_str_has_prefix(word, "http://") &&
        !g_str_has_prefix(word, "unix:/"))
        return error_set(error, ERR_INVALID,
                         "'%s' is no address: write https://HOST:PORT (the local socket needs no "
                         "sign-in)",
                         word);
    g_free(cli->address);
    cli->address = token_address(word);
    return true;
}

static char *
form(const char *const pairs[][2])
{
    GString *text = g_string_new(NULL);

    for (; (*pairs)[0] != NULL; pairs++) {
        g_string_append_printf(text, "%s%s=", text->len > 0 ? "&" : "", (*pairs)[0]);
        g_string_append_uri_escaped(text, (*pairs)[1], NULL, FALSE);
    }
    return g_string_free(text, FALSE);
}

static char *
absolute(const char *file)
{
    return file != NULL ? g_canonicalize_filename(file, NULL) : NULL;
}

bool
login(Cli *cli, GError **error)
{
    const char *user = option_text(cli->options, OPT_USER);

    if (!take_address(cli, error))
        return false;
    user = user != NULL ? user : DEFAULT_USER;
    g_autofree char *safe = escape_text(user, false);
    g_autofree char *prompt = g_strdup_printf("Password of %s at %s", safe, cli->address);
    g_autofree char *password = ask_password(cli, prompt, error);
    if (password == NULL)
        return false;
    const char *const pairs[][2] = { { "grant_type", "password" },
                                     { "scope", SCOPE },
                                     { "username", user },
                                     { "password", password },
                                     { NULL, NULL } };
    g_autofree char *body = form(pairs);
    g_autoptr(json_t) doc = remote_form(cli, TOKEN_PATH, body, error);
    if (doc == NULL)
        return false;
    g_auto(TokenEntry) entry = { g_strdup(doc_text(doc, "access_token")), g_strdup(user),
                                 absolute(option_text(cli->options, OPT_CA)) };
    if (!token_save(cli->address, &entry, error))
        return false;
    cli_say(cli, "Signed in at %s as %s, for 30 days.", cli->address, user);
    return true;
}

bool
logout(Cli *cli, GError **error)
{
    g_auto(TokenEntry) entry = { 0 };

    if (!take_address(cli, error) || !token_load(cli->address, &entry, error))
        return false;
    if (entry.token == NULL) {
        cli_say(cli, "Nobody is signed in at %s.", cli->address);
        return true;
    }
    const char *const pairs[][2] = { { "scope", SCOPE }, { "token", entry.token }, { NULL, NULL } };
    g_autofree char *body = form(pairs);
    g_autoptr(json_t) doc = remote_form(cli, LOGOUT_PATH, body, error);
    if (doc == NULL || !token_forget(cli->address, error))
        return false;
    cli_say(cli, "Signed out at %s.", cli->address);
    return true;
}
