/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/salvage.h"

#include "base/text.h"
#include "storage/domain.h"
#include "storage/files.h"
#include "storage/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- files */

static void
stored_file_free(void *p)
{
    StoredFile *file = p;

    g_free(file->path);
    g_free(file);
}

static bool
has_magic(const char *path)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    char magic[4];

    return fd >= 0 && pread(fd, magic, sizeof magic, 0) == sizeof magic &&
           memcmp(magic, "QFI\xfb", sizeof magic) == 0;
}

static StoredFile *
stored_file_new(const FTSENT *entry)
{
    StoredFile *file = g_new0(StoredFile, 1);
    const struct stat *st = entry->fts_statp;

    file->path = g_strdup(entry->fts_path);
    file->device = st->st_dev;
    file->inode = st->st_ino;
    file->allocated = (uint64_t)st->st_blocks * 512;
    file->changed = st->st_ctim.tv_sec;
    file->is_qcow2 = has_magic(entry->fts_path);
    return file;
}

GPtrArray *
domain_files(const Domain *domain, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(stored_file_free);
    char *const roots[] = { domain->path, NULL };
    FTSENT *entry;

    if (!domain_is_there(domain, error))
        return NULL;
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (walk == NULL) {
        error_set_errno(error, "reading storage domain %s", domain->path);
        return NULL;
    }
    while ((errno = 0, entry = fts_read(walk)) != NULL) {
        if (entry->fts_info == FTS_D && entry->fts_level == 1 &&
            g_str_equal(entry->fts_name, DOMAIN_FOLDER))
            fts_set(walk, entry, FTS_SKIP);
        else if (entry->fts_info == FTS_F)
            g_ptr_array_add(files, stored_file_new(entry));
    }
    bool whole = errno == 0 || error_set_errno(error, "reading storage domain %s", domain->path);
    fts_close(walk);
    return whole ? g_steal_pointer(&files) : NULL;
}

/* ---- trash: OP.N.NAME, or keep.OP.N.NAME (volume.c) */

#define KEEP "keep."

static void
trash_entry_free(void *p)
{
    TrashEntry *entry = p;

    g_free(entry->path);
    g_free(entry->op_id);
    g_free(entry->name);
    g_free(entry);
}

static TrashEntry *
read_entry(const char *trash, const char *text)
{
    bool kept = g_str_has_prefix(text, KEEP);
    const char *own = text + (kept ? strlen(KEEP) : 0);
    g_auto(GStrv) parts = g_strsplit(own, ".", 3);
    g_autofree char *path = g_build_filename(trash, text, NULL);
    struct stat st;

    if (g_strv_length(parts) != 3 || *parts[0] == '\0' ||
        strspn(parts[1], "0123456789") != strlen(parts[1]) || lstat(path, &st) < 0 ||
        !S_ISREG(st.st_mode))
        return NULL;
    TrashEntry *entry = g_new0(TrashEntry, 1);
    entry->path = g_steal_pointer(&path);
    entry->op_id = g_strdup(parts[0]);
    entry->name = g_strdup(parts[2]);
    entry->kept = kept;
    entry->allocated = (uint64_t)st.st_blocks * 512;
    entry->changed = st.st_ctim.tv_sec;
    return entry;
}

GPtrArray *
trash_list(const Domain *domain, GError **error)
{
    g_autofree char *trash = domain_trash_dir(domain);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(trash_entry_free);
    g_autoptr(GError) problem = NULL;
    g_autoptr(GDir) entries = g_dir_open(trash, 0, &problem);
    const char *name;

    if (entries == NULL) {
        error_set(error, ERR_STORAGE, "%s; is the storage mounted?", problem->message);
        return NULL;
    }
    while ((name = g_dir_read_name(entries)) != NULL) {
        TrashEntry *entry = read_entry(trash, name);
        if (entry != NULL)
            g_ptr_array_add(list, entry);
    }
    return g_steal_pointer(&list);
}

bool
trash_purge(const Domain *domain, const char *path, GError **error)
{
    g_autofree char *trash = domain_trash_dir(domain);
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    g_auto(LeaseHold) hold = { 0 };

    if (!g_str_equal(trash, folder) || g_str_has_prefix(name, KEEP))
        return error_set(error, ERR_REFUSED, "%s is not a deletion that was begun", path);
    if (!lease_hold(domain->lease, LEASE_BUDGET_MS, &hold, error) || !lease_check(&hold, error))
        return false;
    return unlink(path) == 0 || errno == ENOENT || error_set_errno(error, "removing %s", path);
}

/* Never over a file that exists; NFS has no such rename, but hard links. */
static int
move_to_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    return link(from, to) == 0 ? unlink(from) : -1;
}

bool
trash_restore(const Domain *domain, const char *entry, const char *path, GError **error)
{
    g_autofree char *trash = domain_trash_dir(domain);
    g_autofree char *folder = g_path_get_dirname(entry);
    g_auto(LeaseHold) hold = { 0 };

    if (!g_str_equal(trash, folder) || !domain_holds(domain, path))
        return error_set(error, ERR_REFUSED, "%s does not belong to storage domain %s", path,
                         domain->path);
    if (!lease_hold(domain->lease, LEASE_BUDGET_MS, &hold, error) || !lease_check(&hold, error))
        return false;
    if (move_to_new(entry, path) == 0)
        return dir_sync_of(path, error) && dir_sync(trash, error);
    if (errno == ENOENT && g_file_test(path, G_FILE_TEST_EXISTS))
        return dir_sync_of(path, error) && dir_sync(trash, error); /* by an earlier try */
    if (errno == EEXIST)
        return error_set(error, ERR_EXISTS, "%s is there already; %s stays where it is", path,
                         entry);
    return error_set_errno(error, "moving %s to %s", entry, path);
}

char *
trash_kept(const Domain *domain, const char *op_id, const char *path)
{
    g_autoptr(GPtrArray) list = trash_list(domain, NULL);
    g_autofree char *name = g_path_get_basename(path);

    for (guint i = 0; list != NULL && i < list->len; i++) {
        const TrashEntry *entry = list->pdata[i];
        if (entry->kept && g_str_equal(entry->op_id, op_id) && g_str_equal(entry->name, name))
            return g_strdup(entry->path);
    }
    return NULL;
}

/* ---- undo */

static char *
undo_dir(const Domain *domain, const char *op_id, GError **error)
{
    if (!id_is_valid(op_id)) { /* it becomes a file name */
        error_set(error, ERR_INVALID, "'%s' is not the id of an operation",
                  op_id != NULL ? op_id : "");
        return NULL;
    }
    return g_build_filename(domain->path, DOMAIN_FOLDER, "undo", op_id, NULL);
}

bool
undo_put(const Domain *domain, const char *op_id, const char *name, const char *text, bool replace,
         GError **error)
{
    g_autofree char *dir = undo_dir(domain, op_id, error);
    g_autofree char *all = g_build_filename(domain->path, DOMAIN_FOLDER, "undo", NULL);
    g_autofree char *path = dir != NULL ? g_build_filename(dir, name, NULL) : NULL;

    if (dir == NULL || !domain_is_there(domain, error) || !dir_make(all, error) ||
        !dir_make(dir, error))
        return false;
    if (!replace && g_file_test(path, G_FILE_TEST_EXISTS))
        return true;
    return file_replace(path, text, NULL, error);
}

char *
undo_get(const Domain *domain, const char *op_id, const char *name, GError **error)
{
    g_autofree char *dir = undo_dir(domain, op_id, error);
    g_autofree char *path = dir != NULL ? g_build_filename(dir, name, NULL) : NULL;
    g_autofree char *text = NULL;
    size_t length = 0;

    if (path == NULL || !file_read(path, &text, &length, error))
        return NULL;
    return g_steal_pointer(&text);
}

#define UNDO_LIST "undo.json"
#define UNDO_FORMAT 1

bool
undo_put_list(const Domain *domain, const char *op_id, const char *vm_id, json_t *list,
              GError **error)
{
    g_autoptr(json_t) fix = json_pack("{s:s, s:O}", "vm_id", vm_id, "undo", list);
    g_autofree char *sum = stored_checksum(fix);
    g_autoptr(json_t) all =
        json_pack("{s:i, s:s, s:O}", "livemerge", UNDO_FORMAT, "checksum", sum, "fix", fix);
    autolibc char *text = json_dumps(all, JSON_INDENT(2));

    return undo_put(domain, op_id, UNDO_LIST, text, true, error);
}

/* NULL: what was kept is not what was written. */
static const json_t *
sound_fix(const json_t *all)
{
    const json_t *fix = json_object_get(all, "fix");
    g_autofree char *sum = json_is_object(fix) ? stored_checksum(fix) : NULL;

    return sum != NULL && json_number(all, "livemerge") == UNDO_FORMAT &&
                   g_strcmp0(sum, json_text(all, "checksum")) == 0
               ? fix
               : NULL;
}

json_t *
undo_get_list(const Domain *domain, const char *op_id, const char *vm_id, GError **error)
{
    g_autofree char *text = undo_get(domain, op_id, UNDO_LIST, error);
    g_autoptr(json_t) all = text != NULL ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const json_t *fix = sound_fix(all);

    if (text == NULL)
        return NULL;
    if (fix == NULL)
        error_set(error, ERR_CORRUPT,
                  "%s/" DOMAIN_FOLDER "/undo/%s/" UNDO_LIST
                  " is damaged: fix %s cannot be undone. What it has kept lies beside that file, "
                  "and in the trash",
                  domain->path, op_id, op_id);
    else if (g_strcmp0(json_text(fix, "vm_id"), vm_id) != 0)
        error_set(error, ERR_REFUSED, "fix %s was done to another VM (%s)", op_id,
                  json_text(fix, "vm_id"));
    else
        return json_incref(json_object_get(fix, "undo"));
    return NULL;
}

/* A manifest is replaced and never written in place: another name of it keeps it as it is. */
bool
undo_keep_manifest(const Domain *domain, const char *op_id, const char *vm_id, bool *ret_kept,
                   GError **error)
{
    g_autofree char *file = domain_vm_file(domain, vm_id, "json", error);
    g_autofree char *dir = undo_dir(domain, op_id, error);

    *ret_kept = false;
    if (file == NULL || dir == NULL || !undo_put(domain, op_id, "vm", vm_id, false, error))
        return false;
    g_autofree char *copy = g_build_filename(dir, "manifest.json", NULL);
    if (link(file, copy) < 0 && errno == ENOENT)
        return true; /* there is none */
    if (errno != EEXIST && !g_file_test(copy, G_FILE_TEST_EXISTS))
        return error_set_errno(error, "keeping a copy of %s", file);
    *ret_kept = true;
    return dir_sync(dir, error);
}

bool
undo_return_manifest(const Domain *domain, const char *op_id, const char *vm_id, GError **error)
{
    g_autofree char *file = domain_vm_file(domain, vm_id, "json", error);
    g_autofree char *dir = undo_dir(domain, op_id, error);
    g_auto(LeaseHold) hold = { 0 };

    if (file == NULL || dir == NULL || !lease_hold(domain->lease, LEASE_BUDGET_MS, &hold, error) ||
        !lease_check(&hold, error))
        return false;
    g_autofree char *copy = g_build_filename(dir, "manifest.json", NULL);
    g_autofree char *name = g_strdup_printf("%s.undo.livemerge-tmp", file);
    if (unlink(name) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing %s", name);
    if (link(copy, name) < 0 || rename(name, file) < 0)
        return error_set_errno(error, "putting the manifest %s back", file);
    unlink(name); /* rename() of two names of one file leaves both */
    return dir_sync_of(file, error);
}
