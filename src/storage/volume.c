/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fault.h"
#include "storage/domain.h"
#include "storage/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool
file_is_newer(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec > b->st_mtim.tv_sec
                                                  : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

bool
file_is_same(const char *a, const char *b)
{
    struct stat x, y;

    return strcmp(a, b) == 0 ||
           (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

char *
volume_look_of(const struct stat *st)
{
    return g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT ".%09ld", (int64_t)st->st_size,
                           (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

char *
volume_look(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? volume_look_of(&st) : NULL;
}

uint64_t
volume_allocated(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

bool
volume_sync_data(const char *path, GError **error)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fsync(fd) < 0)
        return error_set_errno(error, "syncing %s", path);
    return true;
}

bool
volume_sync(const char *path, GError **error)
{
    return volume_sync_data(path, error) && dir_sync_of(path, error);
}

/* ---- the trash: OP.N.NAME, or keep.OP.N.NAME */

#define KEEP "keep."

static bool
check_op_id(const char *op_id, GError **error)
{
    if (op_id == NULL || *op_id == '\0' || strpbrk(op_id, "./") != NULL)
        return error_set(error, ERR_INVALID, "'%s' is not the id of an operation",
                         op_id != NULL ? op_id : "");
    return true;
}

/* Is this entry of the trash the operation's, and (if name is given) was that its name? */
static bool
is_ours(const char *entry, const char *op_id, const char *name)
{
    size_t length = strlen(op_id);
    char *end = NULL;

    if (strncmp(entry, op_id, length) != 0 || entry[length] != '.' ||
        !g_ascii_isdigit(entry[length + 1]))
        return false;
    (void)g_ascii_strtoull(entry + length + 1, &end, 10);
    return *end == '.' && (name == NULL || g_str_equal(end + 1, name));
}

/* An empty trash needs no lease: it is taken for the first entry. */
static bool
throw_away(const Domain *domain, const char *trash, const char *entry, LeaseHold *hold,
           GError **error)
{
    g_autofree char *path = g_build_filename(trash, entry, NULL);

    if (hold->lease == NULL && !lease_hold(domain->lease, LEASE_BUDGET_MS, hold, error))
        return false;
    return lease_check(hold, error) &&
           (unlink(path) == 0 || errno == ENOENT || error_set_errno(error, "removing %s", path));
}

/* op_id NULL: all but what is kept. */
static bool
empty_trash(const Domain *domain, const char *trash, const char *op_id, const char *name,
            GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(GDir) entries = g_dir_open(trash, 0, &problem);
    g_auto(LeaseHold) hold = { 0 };
    const char *entry;

    if (entries == NULL)
        return error_set(error, ERR_STORAGE, "%s; is the storage mounted?", problem->message);
    while ((entry = g_dir_read_name(entries)) != NULL) {
        bool goes = op_id != NULL ? is_ours(entry, op_id, name) : !g_str_has_prefix(entry, KEEP);
        if (goes && !throw_away(domain, trash, entry, &hold, error))
            return false;
    }
    return true;
}

static bool
trash_remove(const Domain *domain, const char *op_id, const char *name, GError **error)
{
    g_autofree char *trash = domain_trash_dir(domain);

    return empty_trash(domain, trash, op_id, name, error) && dir_sync(trash, error);
}

bool
trash_sweep(const Domain *domain, GError **error)
{
    g_autofree char *trash = domain_trash_dir(domain);

    return empty_trash(domain, trash, NULL, NULL, error);
}

bool
trash_empty(const Domain *domain, const char *op_id, GError **error)
{
    return check_op_id(op_id, error) && trash_remove(domain, op_id, NULL, error);
}

/* A name in the trash that is not taken. */
static char *
trash_name(const Domain *domain, const char *op_id, const char *name, bool keep)
{
    g_autofree char *trash = domain_trash_dir(domain);

    for (unsigned n = 0;; n++) {
        g_autofree char *path =
            g_strdup_printf("%s/%s%s.%u.%s", trash, keep ? KEEP : "", op_id, n, name);
        struct stat st;
        if (lstat(path, &st) < 0)
            return g_steal_pointer(&path);
    }
}

/* ---- deleting */

/* The file's real place, or NULL: it cannot be a volume of this domain. */
static char *
volume_place(const Domain *domain, const char *path, GError **error)
{
    g_autofree char *place = path_resolve_dir(path);
    g_autofree char *folder = g_build_filename(domain->path, DOMAIN_FOLDER, NULL);

    if (place == NULL) {
        error_set(error, ERR_STORAGE, "the directory of %s is not there; nothing was deleted",
                  path);
        return NULL;
    }
    if (!path_is_under(place, domain->path) || path_is_under(place, folder)) {
        error_set(error, ERR_REFUSED, "%s is not a volume of storage domain %s; it was not deleted",
                  path, domain->path);
        return NULL;
    }
    return g_steal_pointer(&place);
}

static bool
check_unused(const Domain *domain, const char *place, GError **error)
{
    g_autofree char *user = NULL;

    if (!volume_find_user(domain, place, NULL, &user, error)) {
        g_prefix_error(error, "nothing was deleted: ");
        return false;
    }
    if (user != NULL)
        return error_set(error, ERR_REFUSED,
                         "%s was not deleted: %s still names it as its backing file", place, user);
    return true;
}

static bool
sync_move(const Domain *domain, const char *place, GError **error)
{
    g_autofree char *trash = domain_trash_dir(domain);

    return dir_sync_of(place, error) && dir_sync(trash, error);
}

/* True also when the trash lies on another file system and the file is not to be kept. */
static bool
move_to_trash(const Domain *domain, const char *op_id, const char *place, bool keep,
              const LeaseHold *hold, GError **error)
{
    g_autofree char *name = g_path_get_basename(place);
    g_autofree char *trash = domain_trash_dir(domain);
    g_autofree char *target = trash_name(domain, op_id, name, keep);
    bool moved;

    if (!fault_point("volume.before-trash", error) || !lease_check(hold, error))
        return false;
    moved = rename(place, target) == 0;
    if (!moved && errno == EXDEV && !keep)
        moved = unlink(place) == 0;
    if (!moved)
        return error_set_errno(error, "moving %s to %s", place, target);
    return sync_move(domain, place, error) && fault_point("volume.after-trash", error);
}

bool
volume_delete(const Domain *domain, const char *op_id, const char *path, TrashWhat what,
              GError **error)
{
    g_autofree char *place = NULL;
    g_autofree char *name = g_path_get_basename(path);
    g_auto(LeaseHold) hold = { 0 };
    struct stat st;

    if (!check_op_id(op_id, error) || !domain_is_there(domain, error))
        return false;
    place = volume_place(domain, path, error);
    if (place == NULL || !lease_hold(domain->lease, LEASE_BUDGET_MS, &hold, error))
        return false;
    if (lstat(place, &st) == 0) {
        if (!S_ISREG(st.st_mode))
            return error_set(error, ERR_REFUSED, "%s is not a regular file; it was not deleted",
                             place);
        if (!check_unused(domain, place, error) ||
            !move_to_trash(domain, op_id, place, what == TRASH_KEEP, &hold, error))
            return false;
    } else if (errno != ENOENT) {
        return error_set_errno(error, "looking at %s", place);
    } else if (!sync_move(domain, place, error)) {
        return false; /* an earlier try may have died before it did that: the name could come back
                       */
    }
    return what != TRASH_EMPTY || trash_remove(domain, op_id, name, error);
}

bool
volume_unlink(const char *const *paths, GError **error)
{
    const char *last = NULL;

    for (; *paths != NULL; paths++) {
        last = *paths;
        if (unlink(last) < 0 && errno != ENOENT)
            return error_set_errno(error, "removing %s", last);
    }
    return last == NULL ||
           dir_sync_of(last, error); /* one that is gone may have been so only just */
}
