/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge user list|add|passwd|role|lock|unlock|remove
 */
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "cli/table.h"
#include "model/role.h"

/* "web1: operator, db: viewer" */
static char *
vm_roles_text(const json_t *user)
{
    GString *text = g_string_new(NULL);
    size_t i;
    json_t *row;

    json_array_foreach ((json_t *)doc_items(user, "vm_roles", "vm_role"), i, row) {
        const char *name = doc_text(row, "vm.name");
        g_string_append_printf(text, "%s%s: %s", i > 0 ? ", " : "",
                               *name != '\0' ? name : doc_text(row, "vm.id"),
                               doc_text(row, "role"));
    }
    return g_string_free(text, FALSE);
}

bool
user_list(Cli *cli, GError **error)
{
    g_autoptr(json_t) doc = remote_get(cli, "users", error);
    g_autoptr(Table) table = table_new("NAME", "ROLE", "PASSWORD", ">TOKENS", "ROLES OF VMS", NULL);
    size_t i;
    json_t *user;

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON)) {
        cli_print_json(cli, doc);
        return true;
    }
    json_array_foreach ((json_t *)doc_items(doc, NULL, "user"), i, user) {
        g_autofree char *tokens = g_strdup_printf("%.0f", doc_number(user, "tokens", 0));
        g_autofree char *roles = vm_roles_text(user);
        table_row(table, doc_text(user, "name"), doc_text(user, "role"),
                  doc_bool(user, "locked")               ? "locked"
                  : doc_at(user, "has_password") == NULL ? "pam"
                  : doc_bool(user, "has_password")       ? "set"
                                                         : "none",
                  tokens, roles);
    }
    g_autofree char *text = table_text(table, cli->io->out_width);
    fputs(text, cli->io->out);
    return true;
}

/* Prints the user's document with --json, else says the sentence. */
static bool
send_user(Cli *cli, const char *method, const char *path, const json_t *body, const char *sentence,
          GError **error)
{
    g_autoptr(json_t) doc = remote_send(cli, method, path, body, error);

    if (doc == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, doc);
    else
        cli_say(cli, "%s", sentence);
    return true;
}

static bool
check_role(const char *word, GError **error)
{
    Role role;

    return role_from_word(word, &role) ||
           error_set(error, ERR_INVALID,
                     "'%s' is no role; there are viewer, operator, administrator and none", word);
}

/* NULL without an error: it is none of the manager's business. */
static char *
ask_password_if_ours(Cli *cli, const json_t *me, const char *name, GError **error)
{
    return g_str_equal(doc_text(me, "passwords"), "pam") ? NULL
                                                         : ask_new_password(cli, name, error);
}

bool
user_add(Cli *cli, GError **error)
{
    const char *name = option_arg(cli->options, 0), *role = option_arg(cli->options, 1);
    g_autoptr(GError) problem = NULL;

    if (!check_role(role, error))
        return false;
    g_autoptr(json_t) me = remote_session(cli, error);
    if (me == NULL)
        return false;
    g_autofree char *password = ask_password_if_ours(cli, me, name, &problem);
    if (problem != NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s*}", "user_name", name, "role", role, "password", password);
    g_autofree char *sentence =
        g_strdup_printf("User %s was added (%s)%s.", name, role,
                        password == NULL ? "; the password is the system's, by PAM" : "");
    return send_user(cli, "POST", "users", body, sentence, error);
}

static bool
change_own_password(Cli *cli, const char *name, GError **error)
{
    g_autofree char *path = remote_path("users/%s/password", name);
    g_autofree char *prompt = g_strdup_printf("Present password of %s", name);
    g_autofree char *old = ask_password(cli, prompt, error);
    g_autofree char *password = old != NULL ? ask_new_password(cli, name, error) : NULL;

    if (password == NULL)
        return false;
    g_autoptr(json_t) body = json_pack("{s:s, s:s}", "old_password", old, "password", password);
    return send_user(cli, "POST", path, body,
                     "Your password was changed; your other tokens and sessions have ended.",
                     error);
}

/* "carol", "carol@internal" */
static bool
is_me(const json_t *me, const char *name)
{
    return *doc_text(me, "name") != '\0' &&
           (g_str_equal(doc_text(me, "name"), name) || g_str_equal(doc_text(me, "user"), name));
}

bool
user_passwd(Cli *cli, GError **error)
{
    const char *name = option_arg(cli->options, 0);
    g_autoptr(json_t) me = remote_session(cli, error);

    if (me == NULL)
        return false;
    if (g_str_equal(doc_text(me, "passwords"), "pam"))
        return error_set(error, ERR_REFUSED,
                         "passwords are the system's at this manager, by PAM: change it where the "
                         "account is kept (passwd, or its directory)");
    if (name == NULL && *doc_text(me, "name") == '\0')
        return error_set(error, ERR_INVALID,
                         "you are %s here, without a password: name the user whose is to be set",
                         doc_text(me, "user"));
    if (name == NULL || is_me(me, name))
        return change_own_password(cli, doc_text(me, "name"), error);
    g_autofree char *path = remote_path("users/%s", name);
    g_autoptr(json_t) known = remote_get(cli, path, error); /* before asking */
    g_autofree char *password = known != NULL ? ask_new_password(cli, name, error) : NULL;

    if (password == NULL)
        return false;
    g_autoptr(json_t) body = json_pack("{s:s}", "password", password);
    g_autofree char *sentence = g_strdup_printf(
        "The password of %s was set; tokens and sessions of that user have ended.", name);
    return send_user(cli, "PUT", path, body, sentence, error);
}

bool
user_role(Cli *cli, GError **error)
{
    const char *name = option_arg(cli->options, 0), *role = option_arg(cli->options, 1);
    const char *vm_word = option_text(cli->options, OPT_VM);
    g_autofree char *path = remote_path("users/%s", name);
    g_autofree char *sentence = NULL;
    g_autoptr(json_t) body = NULL;

    if (!check_role(role, error))
        return false;
    if (vm_word == NULL) {
        body = json_pack("{s:s}", "role", role);
        sentence = g_strdup_printf("%s has the role %s now.", name, role);
    } else {
        g_autoptr(json_t) vm = resolve_vm(cli, vm_word, error);
        if (vm == NULL)
            return false;
        body = json_pack("{s:{s:[{s:{s:s}, s:s}]}}", "vm_roles", "vm_role", "vm", "id",
                         doc_text(vm, "id"), "role", role);
        sentence =
            g_strdup_printf("%s has the role %s for VM %s now.", name, role, doc_text(vm, "name"));
    }
    return send_user(cli, "PUT", path, body, sentence, error);
}

static bool
set_locked(Cli *cli, bool locked, GError **error)
{
    const char *name = option_arg(cli->options, 0);
    g_autofree char *path = remote_path("users/%s", name);
    g_autoptr(json_t) body = json_pack("{s:b}", "locked", locked);
    g_autofree char *sentence = g_strconcat(
        name, locked ? " is locked, and signed out everywhere." : " may sign in again.", NULL);

    return send_user(cli, "PUT", path, body, sentence, error);
}

bool
user_lock(Cli *cli, GError **error)
{
    return set_locked(cli, true, error);
}

bool
user_unlock(Cli *cli, GError **error)
{
    return set_locked(cli, false, error);
}

bool
user_remove(Cli *cli, GError **error)
{
    const char *name = option_arg(cli->options, 0);
    g_autofree char *path = remote_path("users/%s", name);
    g_autofree char *safe = escape_text(name, false);
    g_autofree char *question =
        g_strdup_printf("Remove user %s, and end all tokens and sessions of that user?", safe);
    g_autofree char *sentence =
        g_strdup_printf("User %s was removed; tokens and sessions of that user have ended.", name);

    return cli_confirm(cli, question, error) &&
           send_user(cli, "DELETE", path, NULL, sentence, error);
}
