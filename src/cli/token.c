/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/token.h"
#include "cli/doc.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

void
token_entry_clear(TokenEntry *entry)
{
    g_clear_pointer(&entry->token, g_free);
    g_clear_pointer(&entry->user, g_free);
    g_clear_pointer(&entry->ca, g_free);
}

char *
token_address(const char *text)
{
    const char *host = strstr(text, "://");

    if (host == NULL)
        return g_strdup(text);
    return g_strndup(text, (gsize)(host - text) + 3 + strcspn(host + 3, "/"));
}

static char *
file_name(void)
{
    return g_build_filename(g_get_user_config_dir(), "livemerge", "tokens.json", NULL);
}

/* {} if there is no file. NULL = error. */
static json_t *
read_file(const char *file, GError **error)
{
    struct stat about;
    json_error_t why;
    g_autoptr(json_t) all = NULL;

    if (stat(file, &about) < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? json_object()
                   : (error_set_errno(error, "looking at %s", file), NULL);
    if ((about.st_mode & 077) != 0 || (about.st_uid != geteuid() && about.st_uid != 0)) {
        error_set(error, ERR_REFUSED,
                  "%s holds tokens, and others may read or change it: chmod 600 %s", file, file);
        return NULL;
    }
    all = json_load_file(file, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(all)) {
        error_set(error, ERR_CORRUPT, "%s is damaged (%s): remove it and sign in again", file,
                  all == NULL ? why.text : "it is no JSON object");
        return NULL;
    }
    return g_steal_pointer(&all);
}

static bool
write_file(const char *file, const json_t *all, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(file);
    autolibc char *text = json_dumps(all, JSON_INDENT(2));
    g_autoptr(GError) why = NULL;

    if (g_mkdir_with_parents(folder, 0700) < 0)
        return error_set_errno(error, "making the folder %s", folder);
    return g_file_set_contents_full(file, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &why) ||
           error_set(error, ERR_STORAGE, "writing %s: %s", file, why->message);
}

static char *
member(const json_t *entry, const char *name)
{
    const char *text = doc_text(entry, name);

    return *text != '\0' ? g_strdup(text) : NULL;
}

bool
token_load(const char *address, TokenEntry *ret_entry, GError **error)
{
    const char *given = g_getenv("LIVEMERGE_TOKEN");
    g_autofree char *file = file_name();
    g_autofree char *key = token_address(address);
    bool has_token = given != NULL && *given != '\0';
    bool local = g_str_has_prefix(address, "unix:"); /* the kernel says there who asks */
    g_autoptr(json_t) all = local ? json_object() : read_file(file, has_token ? NULL : error);
    const json_t *entry = json_object_get(all, key);

    if (all == NULL && !has_token)
        return false;
    ret_entry->token = has_token ? g_strdup(given) : member(entry, "token");
    ret_entry->user = member(entry, "user");
    ret_entry->ca = member(entry, "ca");
    return true;
}

bool
token_save(const char *address, const TokenEntry *entry, GError **error)
{
    g_autofree char *file = file_name();
    g_autofree char *key = token_address(address);
    g_autoptr(json_t) all = read_file(file, error);

    if (all == NULL)
        return false;
    json_object_set_new(
        all, key,
        json_pack("{s:s, s:s, s:s*}", "token", entry->token, "user", entry->user, "ca", entry->ca));
    return write_file(file, all, error);
}

bool
token_forget(const char *address, GError **error)
{
    g_autofree char *file = file_name();
    g_autofree char *key = token_address(address);
    g_autoptr(json_t) all = read_file(file, error);

    if (all == NULL)
        return false;
    return json_object_del(all, key) < 0 || write_file(file, all, error);
}
