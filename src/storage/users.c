/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who stands on a volume: one walk through a storage domain, which reads the header of every qcow2
 * file in it.
 */
#include "base/folder.h"
#include "qcow2/qcow2.h"
#include "storage/domain.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <string.h>
#include <sys/stat.h>

static const char qcow2_magic[4] = { 'Q', 'F', 'I', '\xfb' };

/* A file by what it is or by where it is: links make two names of one file, and a file that
 * is gone has only a name. */
typedef struct {
    char *path; /* directory resolved; NULL = no such directory, or the file exists */
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
    ret_identity->path = exists ? NULL : path_resolve_dir(path);
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

/* ---- what is looked for */

/* A VolumeUsers, its files known by what they are */
typedef struct {
    GArray *wanted, *ignored; /* of Identity */
    char **users;
} Set;

typedef struct {
    const Domain *domain;
    Set *sets;
    unsigned n;
    unsigned open; /* files without a user so far */
    Folder folder;
    GError *problem;
} Search;

static GArray *
identities_new(void)
{
    GArray *list = g_array_new(FALSE, TRUE, sizeof(Identity));

    g_array_set_clear_func(list, (GDestroyNotify)identity_clear);
    return list;
}

static void
search_clear(Search *search)
{
    for (unsigned i = 0; i < search->n; i++) {
        g_array_unref(search->sets[i].wanted);
        g_array_unref(search->sets[i].ignored);
    }
    g_free(search->sets);
    folder_clear(&search->folder);
    g_clear_error(&search->problem);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Search, search_clear)

/* Of these also the name: the file may go while we walk. */
static bool
add_wanted(Search *search, Set *set, const char *path, GError **error)
{
    g_array_set_size(set->wanted, set->wanted->len + 1);
    Identity *identity = &g_array_index(set->wanted, Identity, set->wanted->len - 1);
    if (!identity_of(path, identity, error))
        return false;
    if (identity->path == NULL)
        identity->path = folder_resolve(&search->folder, path);
    search->open++;
    return true;
}

/* What cannot be looked at is not ignored. */
static void
add_ignored(Set *set, const char *path)
{
    Identity identity = { 0 };

    if (identity_of(path, &identity, NULL))
        g_array_append_val(set->ignored, identity);
}

static bool
search_init(Search *search, const Domain *domain, const VolumeUsers *sets, unsigned n,
            GError **error)
{
    search->domain = domain;
    search->sets = g_new0(Set, n);
    for (unsigned i = 0; i < n; i++) {
        Set *set = &search->sets[i];
        *set = (Set){ identities_new(), identities_new(), sets[i].users };
        search->n = i + 1;
        for (const char *const *path = sets[i].paths; *path != NULL; path++)
            if (!add_wanted(search, set, *path, error))
                return false;
        for (const char *const *path = sets[i].ignore; path != NULL && *path != NULL; path++)
            add_ignored(set, *path);
    }
    return true;
}

static bool
has(const GArray *identities, const Identity *file)
{
    for (guint i = 0; i < identities->len; i++)
        if (is_same_file(&g_array_index(identities, Identity, i), file))
            return true;
    return false;
}

/* Does what this file stands on matter to anybody? The one that is asked about may be damaged. */
static bool
matters(const Search *search, const Identity *self)
{
    for (unsigned i = 0; i < search->n; i++) {
        const Set *set = &search->sets[i];
        bool only_itself = set->wanted->len == 1 && has(set->wanted, self);

        if (!only_itself && !has(set->ignored, self))
            return true;
    }
    return false;
}

/* "path" stands on "named". */
static void
note_user(Search *search, const char *path, const Identity *self, const Identity *named)
{
    for (unsigned i = 0; i < search->n; i++) {
        Set *set = &search->sets[i];

        if (has(set->ignored, self))
            continue;
        for (guint k = 0; k < set->wanted->len; k++) {
            const Identity *wanted = &g_array_index(set->wanted, Identity, k);
            if (set->users[k] != NULL || !is_same_file(named, wanted) || is_same_file(self, wanted))
                continue;
            set->users[k] = g_strdup(path);
            search->open--;
        }
    }
}

/* ---- the walk */

/* *ret_fd stays -1 without error if it vanished, or is no regular file. */
static bool
open_file(const char *path, int *ret_fd, struct stat *ret_st, GError **error)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0 || fstat(fd, ret_st) < 0)
        return error_set_errno(error, "opening %s", path);
    if (S_ISREG(ret_st->st_mode))
        *ret_fd = steal_fd(&fd);
    return true;
}

static bool
has_magic(int fd, const char *path, bool *ret_magic, GError **error)
{
    char magic[sizeof qcow2_magic];
    ssize_t n = pread(fd, magic, sizeof magic, 0);

    if (n < 0)
        return error_set_errno(error, "reading %s", path);
    *ret_magic = n == sizeof magic && memcmp(magic, qcow2_magic, sizeof magic) == 0;
    return true;
}

/* NULL without error: it stands on nothing that matters. */
static char *
backing_of(const Search *search, int fd, const struct stat *st, const char *path, GError **error)
{
    const Identity self = { .exists = true, .dev = st->st_dev, .ino = st->st_ino };
    g_autoptr(Qcow2Header) header = NULL;
    bool magic = false;

    if (!matters(search, &self) || !has_magic(fd, path, &magic, error) || !magic)
        return NULL;
    header = qcow2_header_of(fd, st, path, error);
    return header != NULL && header->backing_file != NULL
               ? qcow2_backing_path(path, header->backing_file, error)
               : NULL;
}

static bool
check_candidate(Search *search, const char *path, GError **error)
{
    autofd int fd = -1;
    struct stat st;
    g_autoptr(GError) problem = NULL;
    g_autofree char *backing = NULL;
    g_auto(Identity) named = { 0 };

    if (!open_file(path, &fd, &st, error))
        return false;
    if (fd >= 0)
        backing = backing_of(search, fd, &st, path, &problem);
    if (problem != NULL && g_file_test(path, G_FILE_TEST_EXISTS)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    if (backing == NULL)
        return true; /* or another operation deleted it just now */
    if (!identity_of(backing, &named, error))
        return false;
    note_user(search, path, &(const Identity){ .exists = true, .dev = st.st_dev, .ino = st.st_ino },
              &named);
    return true;
}

static bool
visit(Search *search, FTS *walk, FTSENT *entry, GError **error)
{
    switch (entry->fts_info) {
    case FTS_D:
        if (entry->fts_level == 1 && g_str_equal(entry->fts_name, DOMAIN_FOLDER))
            fts_set(walk, entry, FTS_SKIP);
        return true;
    case FTS_F:
        return check_candidate(search, entry->fts_path, error);
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        errno = entry->fts_errno;
        if (errno == ENOENT && entry->fts_level > 0)
            return true; /* it went away while we walked */
        return error_set_errno(error, "reading %s in storage domain %s", entry->fts_path,
                               search->domain->path);
    default:
        return true; /* links, FIFOs, devices, the way back up */
    }
}

/* Goes on after a file that cannot be understood: who was found is certain all the same. */
static void
walk_domain(Search *search)
{
    char *const roots[] = { search->domain->path, NULL };
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);

    if (walk == NULL) {
        error_set_errno(&search->problem, "reading storage domain %s", search->domain->path);
        return;
    }
    while (search->open > 0) {
        g_autoptr(GError) problem = NULL;

        errno = 0;
        FTSENT *entry = fts_read(walk);
        if (entry == NULL && errno != 0)
            error_set_errno(&problem, "reading storage domain %s", search->domain->path);
        if (entry != NULL)
            visit(search, walk, entry, &problem);
        if (problem != NULL && search->problem == NULL)
            search->problem = g_steal_pointer(&problem);
        if (entry == NULL)
            break;
    }
    fts_close(walk);
}

static bool
find_users(const Domain *domain, const VolumeUsers *sets, unsigned n, GError **error)
{
    g_auto(Search) search = { 0 };

    if (!domain_is_there(domain, error) || !search_init(&search, domain, sets, n, error))
        return false;
    walk_domain(&search);
    if (search.problem == NULL || search.open == 0)
        return true;
    g_propagate_error(error, g_steal_pointer(&search.problem));
    return false;
}

/* Always worth another try: the unreadable file may be one that is just being made. */
static bool
cannot_tell(const char *what, const GError *problem, GError **error)
{
    return error_set(error, ERR_STORAGE, "cannot tell whether anything stands on %s: %s", what,
                     problem->message);
}

bool
volume_find_users(const Domain *domain, const VolumeUsers *sets, unsigned n, GError **error)
{
    g_autoptr(GError) problem = NULL;

    return find_users(domain, sets, n, &problem) || cannot_tell("the volumes", problem, error);
}

bool
volume_find_user(const Domain *domain, const char *path, const char *const *ignore, char **ret_user,
                 GError **error)
{
    const char *const paths[] = { path, NULL };
    g_autofree char *user = NULL;
    VolumeUsers set = { paths, ignore, &user };
    g_autoptr(GError) problem = NULL;

    if (!find_users(domain, &set, 1, &problem))
        return cannot_tell(path, problem, error);
    *ret_user = g_steal_pointer(&user);
    return true;
}
