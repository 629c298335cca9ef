/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/resolve.h"
#include "base/text.h"
#include "cli/doc.h"
#include "cli/remote.h"

#include <string.h>

static bool
name_fits(const ResolveKind *kind, const json_t *item, const char *word, bool exact)
{
    const char *names[] = { doc_text(item, kind->name),
                            kind->other_name != NULL ? doc_text(item, kind->other_name) : "" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (exact ? g_str_equal(names[i], word) : g_str_has_prefix(names[i], word))
            return true;
    return false;
}

typedef enum { BY_ID, BY_NAME, BY_PREFIX, WAYS } Way;

static bool
fits(const ResolveKind *kind, const json_t *item, const char *word, Way way)
{
    if (way == BY_ID)
        return g_ascii_strcasecmp(doc_text(item, "id"), word) == 0;
    if (way == BY_NAME)
        return name_fits(kind, item, word, true);
    if (g_str_equal(doc_text(item, "snapshot_type"), "active"))
        return false;
    return g_str_has_prefix(doc_text(item, "id"), word) || name_fits(kind, item, word, false);
}

static void
set_ambiguous(const ResolveKind *kind, const GPtrArray *found, const char *word, GError **error)
{
    g_autoptr(GString) list = g_string_new(NULL);

    for (guint i = 0; i < found->len; i++) {
        const json_t *item = found->pdata[i];
        g_autofree char *name = escape_text(doc_text(item, kind->name), false);
        g_autofree char *date = date_text(doc_text(item, "date"));
        g_string_append_printf(list, "\n  %s  %s%s%s", doc_text(item, "id"), name,
                               *date != '\0' ? "  " : "", date);
    }
    g_autofree char *shown = escape_text(word, false);
    error_set(error, ERR_INVALID, "'%s' fits %u %ss; say more of the name or id:%s", shown,
              found->len, kind->kind, list->str);
}

json_t *
resolve_word(const ResolveKind *kind, const json_t *items, const char *word, GError **error)
{
    g_autofree char *shown = escape_text(word, false);

    if (*word == '\0') {
        error_set(error, ERR_INVALID, "the name of the %s is empty", kind->kind);
        return NULL;
    }
    for (Way way = BY_ID; way < WAYS; way++) {
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        size_t i;
        json_t *item;

        json_array_foreach ((json_t *)items, i, item)
            if (fits(kind, item, word, way))
                g_ptr_array_add(found, item);
        if (found->len == 1)
            return json_incref(found->pdata[0]);
        if (found->len > 1) {
            set_ambiguous(kind, found, word, error);
            return NULL;
        }
    }
    error_set(error, ERR_NOT_FOUND, "there is no %s '%s'; what there is: %s", kind->kind, shown,
              kind->list);
    return NULL;
}

json_t *
resolve_vm(Cli *cli, const char *word, GError **error)
{
    g_autofree char *list = cli_command(cli, "vm list");
    ResolveKind kind = { "VM", "name", NULL, list };
    g_autoptr(json_t) doc = remote_get(cli, "vms", error);

    return doc != NULL ? resolve_word(&kind, doc_items(doc, NULL, "vm"), word, error) : NULL;
}

json_t *
resolve_snapshot(const Cli *cli, const json_t *vm, const json_t *snapshots, const char *word,
                 GError **error)
{
    g_autofree char *name = shell_word(doc_text(vm, "name"));
    g_autofree char *list = cli_command(cli, "snapshot list %s", name);
    ResolveKind kind = { "snapshot", "description", NULL, list };

    return resolve_word(&kind, doc_items(snapshots, NULL, "snapshot"), word, error);
}

json_t *
resolve_job(Cli *cli, const char *word, GError **error)
{
    g_autofree char *list = cli_command(cli, "job list");
    ResolveKind kind = { "job", "id", NULL, list };

    if (id_is_valid(word)) {
        g_autofree char *path = remote_path("jobs/%s", word);
        return remote_get(cli, path, error);
    }
    g_autoptr(json_t) doc = remote_get(cli, "jobs", error);
    return doc != NULL ? resolve_word(&kind, doc_items(doc, NULL, "job"), word, error) : NULL;
}

json_t *
vm_disks(Cli *cli, const json_t *vm, GError **error)
{
    g_autofree char *path = remote_path("vms/%s/diskattachments", doc_text(vm, "id"));
    g_autoptr(json_t) attachments = remote_get(cli, path, error);
    g_autoptr(json_t) disks = json_array();
    size_t i;
    json_t *attachment;

    if (attachments == NULL)
        return NULL;
    json_array_foreach ((json_t *)doc_items(attachments, NULL, "disk_attachment"), i, attachment) {
        const char *id = doc_text(attachment, "disk.id");
        g_autofree char *disk_path = remote_path("disks/%s", *id ? id : doc_text(attachment, "id"));
        g_autoptr(json_t) disk = remote_get(cli, disk_path, error);
        if (disk == NULL)
            return NULL;
        const char *target = doc_text(attachment, "logical_name");
        target = g_str_has_prefix(target, "/dev/") ? target + strlen("/dev/") : target;
        json_object_set_new(disk, "logical_name", json_string(target));
        json_array_append(disks, disk);
    }
    return g_steal_pointer(&disks);
}

json_t *
resolve_disk(Cli *cli, const json_t *vm, const char *word, GError **error)
{
    g_autoptr(json_t) disks = vm_disks(cli, vm, error);
    g_autofree char *name = shell_word(doc_text(vm, "name"));
    g_autofree char *list = cli_command(cli, "vm show %s", name);
    ResolveKind kind = { "disk", "name", "logical_name", list };

    return disks != NULL ? resolve_word(&kind, disks, word, error) : NULL;
}
