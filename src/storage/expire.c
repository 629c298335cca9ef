/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What was kept for a person goes when its time is over.
 */
#include "base/clock.h"
#include "base/text.h"
#include "qcow2/qcow2.h"
#include "storage/domain.h"
#include "storage/files.h"
#include "storage/salvage.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLAUSIBLE_S INT64_C(1704067200) /* 2024 */

/* A clock that was not set when a file came says nothing of its age: its time begins now, which
 * changing its mode to what it is notes. */
static bool
is_over(const char *path, int64_t since_s, int64_t before_s)
{
    struct stat st;

    if (since_s >= PLAUSIBLE_S)
        return since_s < before_s;
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
        (void)!chmod(path, st.st_mode & 07777);
    return false;
}

/* The names of all backing files that are not where a header says, without directories: the trash
 * knows no more of a file. NULL = error. */
static GHashTable *
missing_names(const Domain *domain, GError **error)
{
    g_autoptr(GPtrArray) files = domain_files(domain, error);
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; files != NULL && i < files->len; i++) {
        const StoredFile *file = files->pdata[i];
        g_autoptr(Qcow2Header) header = file->is_qcow2 ? qcow2_header_read(file->path, NULL) : NULL;
        if (header == NULL || header->backing_file == NULL)
            continue;
        g_autofree char *below = qcow2_backing_path(file->path, header->backing_file, NULL);
        if (below == NULL || access(below, F_OK) != 0)
            g_hash_table_add(names, g_path_get_basename(header->backing_file));
    }
    return files != NULL ? g_steal_pointer(&names) : NULL;
}

static bool
expire_files(const Domain *domain, int64_t before_s, Expired *expired, GError **error)
{
    g_autoptr(GPtrArray) list = trash_list(domain, error);
    g_autoptr(GHashTable) missing = NULL;

    for (guint i = 0; list != NULL && i < list->len; i++) {
        const TrashEntry *entry = list->pdata[i];
        if (!entry->kept || !is_over(entry->path, entry->changed, before_s))
            continue;
        if (missing == NULL && (missing = missing_names(domain, error)) == NULL)
            return false;
        if (g_hash_table_contains(missing, entry->name))
            continue; /* the doctor puts it back */
        if (unlink(entry->path) < 0 && errno != ENOENT)
            return error_set_errno(error, "removing %s", entry->path);
        expired->files++;
        expired->bytes += entry->allocated;
    }
    return list != NULL;
}

static bool
remove_folder(const char *path, GError **error)
{
    g_autoptr(GDir) entries = g_dir_open(path, 0, NULL);
    const char *name;

    while (entries != NULL && (name = g_dir_read_name(entries)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        if (unlink(file) < 0 && errno != ENOENT)
            return error_set_errno(error, "removing %s", file);
    }
    return rmdir(path) == 0 || errno == ENOENT || error_set_errno(error, "removing %s", path);
}

static bool
is_needed(GPtrArray *trash, const char *op_id)
{
    for (guint i = 0; i < trash->len; i++) {
        const TrashEntry *entry = trash->pdata[i];
        if (entry->kept && g_str_equal(entry->op_id, op_id))
            return true;
    }
    return false;
}

/* An undo goes when the files that it would put back are gone. */
static bool
expire_undo(const Domain *domain, int64_t before_s, Expired *expired, GError **error)
{
    g_autofree char *all = g_build_filename(domain->path, DOMAIN_FOLDER, "undo", NULL);
    g_autoptr(GPtrArray) trash = trash_list(domain, error);
    g_autoptr(GDir) entries = g_dir_open(all, 0, NULL);
    const char *name;

    while (trash != NULL && entries != NULL && (name = g_dir_read_name(entries)) != NULL) {
        g_autofree char *path = g_build_filename(all, name, NULL);
        g_autofree char *list = g_build_filename(path, "undo.json", NULL);
        struct stat st;

        if (!id_is_valid(name) || is_needed(trash, name) ||
            (lstat(list, &st) < 0 && lstat(path, &st) < 0) ||
            !is_over(list, st.st_ctim.tv_sec, before_s))
            continue;
        if (!remove_folder(path, error))
            return false;
        expired->undos++;
    }
    return trash != NULL;
}

bool
trash_expire(const Domain *domain, unsigned days, Expired *ret_expired, GError **error)
{
    int64_t before_s = clock_wall_ms() / 1000 - (int64_t)days * 24 * 3600;

    memset(ret_expired, 0, sizeof *ret_expired);
    return domain_is_there(domain, error) && expire_files(domain, before_s, ret_expired, error) &&
           expire_undo(domain, before_s, ret_expired, error);
}
