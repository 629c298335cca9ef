/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fault.h"
#include "qcow2/qcow2.h"
#include "storage/domain.h"
#include "storage/files.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char qcow2_magic[4] = { 'Q', 'F', 'I', '\xfb' };

/* A file by what it is and by where it is: links make two names of one file, and a file that
 * is gone has only a name. */
typedef struct {
    char *path; /* directory resolved; NULL = no such directory */
    bool exists;
    dev_t dev;
    ino_t ino;
} Identity;

static void
identity_clear(Identity *identity)
{
    g_free(identity->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Identity, identity_clear)

static bool
identity_of(const char *path, Identity *ret_identity, GError **error)
{
    struct stat st;
    bool exists = stat(path, &st) == 0;

    if (!exists && errno != ENOENT && errno != ENOTDIR)
        return error_set_errno(error, "looking at %s", path);
    ret_identity->path = path_resolve_dir(path);
    ret_identity->exists = exists;
    ret_identity->dev = exists ? st.st_dev : 0;
    ret_identity->ino = exists ? st.st_ino : 0;
    return true;
}

static bool
is_same_file(const Identity *a, const Identity *b)
{
    if (a->exists && b->exists)
        return a->dev == b->dev && a->ino == b->ino;
    return a->path != NULL && g_strcmp0(a->path, b->path) == 0;
}

/* ---- who uses a volume */

static bool
is_ignored(const Identity *file, const char *const *ignore)
{
    for (; ignore != NULL && *ignore != NULL; ignore++) {
        g_auto(Identity) other = { 0 };
        if (identity_of(*ignore, &other, NULL) && is_same_file(file, &other))
            return true;
    }
    return false;
}

/* Reads four bytes. A file that vanished is none, anything else that cannot be read is an error. */
static bool
has_magic(const char *path, bool *ret_magic, GError **error)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    char magic[sizeof qcow2_magic];
    ssize_t n;

    *ret_magic = false;
    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, "opening %s", path);
    if (!S_ISREG(st.st_mode))
        return true;
    n = pread(fd, magic, sizeof magic, 0);
    if (n < 0)
        return error_set_errno(error, "reading %s", path);
    *ret_magic = n == sizeof magic && memcmp(magic, qcow2_magic, sizeof magic) == 0;
    return true;
}

/* Does this file name the wanted one as its backing file? */
static bool
check_candidate(const char *path, const Identity *wanted, const char *const *ignore, bool *ret_uses,
                GError **error)
{
    g_autoptr(Qcow2Header) header = NULL;
    g_autofree char *backing = NULL;
    g_auto(Identity) self = { 0 };
    g_auto(Identity) named = { 0 };
    bool magic = false;

    *ret_uses = false;
    if (!has_magic(path, &magic, error))
        return false;
    if (!magic)
        return true;
    if (!identity_of(path, &self, error))
        return false;
    if (is_same_file(&self, wanted) || is_ignored(&self, ignore))
        return true;
    header = qcow2_header_read(path, error);
    if (header == NULL && !g_file_test(path, G_FILE_TEST_EXISTS)) {
        g_clear_error(error); /* another operation deleted it just now */
        return true;
    }
    if (header == NULL)
        return false;
    if (header->backing_file == NULL)
        return true;
    backing = qcow2_backing_path(path, header->backing_file, error);
    if (backing == NULL || !identity_of(backing, &named, error))
        return false;
    *ret_uses = is_same_file(&named, wanted);
    return true;
}

/* One entry of the walk. ret_user is set when the wanted file is used. */
static bool
visit(FTS *walk, FTSENT *entry, const Domain *domain, const Identity *wanted,
      const char *const *ignore, char **ret_user, GError **error)
{
    bool uses = false;

    switch (entry->fts_info) {
    case FTS_D:
        if (entry->fts_level == 1 && g_str_equal(entry->fts_name, DOMAIN_FOLDER))
            fts_set(walk, entry, FTS_SKIP);
        return true;
    case FTS_F:
        if (!check_candidate(entry->fts_path, wanted, ignore, &uses, error))
            return false;
        if (uses)
            *ret_user = g_strdup(entry->fts_path);
        return true;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        errno = entry->fts_errno;
        if (errno == ENOENT && entry->fts_level > 0)
            return true; /* it went away while we walked */
        return error_set_errno(error, "reading %s in storage domain %s", entry->fts_path,
                               domain->path);
    default:
        return true; /* links, FIFOs, devices, the way back up */
    }
}

static bool
walk_domain(const Domain *domain, const Identity *wanted, const char *const *ignore,
            char **ret_user, GError **error)
{
    char *const roots[] = { domain->path, NULL };
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    bool good = true;

    if (walk == NULL)
        return error_set_errno(error, "reading storage domain %s", domain->path);
    while (good && *ret_user == NULL) {
        errno = 0;
        FTSENT *entry = fts_read(walk);
        if (entry == NULL) {
            if (errno != 0)
                good = error_set_errno(error, "reading storage domain %s", domain->path);
            break;
        }
        good = visit(walk, entry, domain, wanted, ignore, ret_user, error);
    }
    fts_close(walk);
    return good;
}

bool
volume_find_user(const Domain *domain, const char *path, const char *const *ignore, char **ret_user,
                 GError **error)
{
    g_auto(Identity) wanted = { 0 };
    g_autofree char *user = NULL;
    g_autoptr(GError) problem = NULL;

    /* always worth another try: the unreadable file may be one that is just being made */
    if (!domain_is_there(domain, &problem) || !identity_of(path, &wanted, &problem) ||
        !walk_domain(domain, &wanted, ignore, &user, &problem))
        return error_set(error, ERR_STORAGE, "cannot tell whether anything stands on %s: %s", path,
                         problem->message);
    *ret_user = g_steal_pointer(&user);
    return true;
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

static bool
trash_remove(const Domain *domain, const char *op_id, const char *name, GError **error)
{
    g_autofree char *trash = domain_trash_dir(domain);
    g_autoptr(GError) problem = NULL;
    g_autoptr(GDir) entries = g_dir_open(trash, 0, &problem);
    const char *entry;

    if (entries == NULL)
        return error_set(error, ERR_STORAGE, "%s; is the storage mounted?", problem->message);
    while ((entry = g_dir_read_name(entries)) != NULL) {
        g_autofree char *path = g_build_filename(trash, entry, NULL);
        if (is_ours(entry, op_id, name) && unlink(path) < 0 && errno != ENOENT)
            return error_set_errno(error, "removing %s", path);
    }
    return dir_sync(trash, error);
}

bool
trash_sweep(const Domain *domain, GError **error)
{
    g_autofree char *trash = domain_trash_dir(domain);
    g_autoptr(GError) problem = NULL;
    g_autoptr(GDir) entries = g_dir_open(trash, 0, &problem);
    const char *entry;

    if (entries == NULL)
        return error_set(error, ERR_STORAGE, "%s; is the storage mounted?", problem->message);
    while ((entry = g_dir_read_name(entries)) != NULL) {
        g_autofree char *path = g_build_filename(trash, entry, NULL);
        if (!g_str_has_prefix(entry, KEEP) && unlink(path) < 0 && errno != ENOENT)
            return error_set_errno(error, "removing %s", path);
    }
    return true;
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

/* True also when the trash lies on another file system and the file is not to be kept. */
static bool
move_to_trash(const Domain *domain, const char *op_id, const char *place, bool keep, GError **error)
{
    g_autofree char *name = g_path_get_basename(place);
    g_autofree char *trash = domain_trash_dir(domain);
    g_autofree char *target = trash_name(domain, op_id, name, keep);
    bool moved;

    if (!fault_point("volume.before-trash", error))
        return false;
    moved = rename(place, target) == 0;
    if (!moved && errno == EXDEV && !keep)
        moved = unlink(place) == 0;
    if (!moved)
        return error_set_errno(error, "moving %s to %s", place, target);
    return dir_sync_of(place, error) && dir_sync(trash, error) &&
           fault_point("volume.after-trash", error);
}

bool
volume_delete(const Domain *domain, const char *op_id, const char *path, TrashWhat what,
              GError **error)
{
    g_autofree char *place = NULL;
    g_autofree char *name = g_path_get_basename(path);
    struct stat st;

    if (!check_op_id(op_id, error) || !domain_is_there(domain, error))
        return false;
    place = volume_place(domain, path, error);
    if (place == NULL)
        return false;
    if (lstat(place, &st) == 0) {
        if (!S_ISREG(st.st_mode))
            return error_set(error, ERR_REFUSED, "%s is not a regular file; it was not deleted",
                             place);
        if (!check_unused(domain, place, error) ||
            !move_to_trash(domain, op_id, place, what == TRASH_KEEP, error))
            return false;
    } else if (errno != ENOENT) {
        return error_set_errno(error, "looking at %s", place);
    }
    return what != TRASH_EMPTY || trash_remove(domain, op_id, name, error);
}
