/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/domain.h"

#include "base/text.h"
#include "storage/files.h"
#include "storage/stored.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

void
domain_free(Domain *domain)
{
    if (domain == NULL)
        return;
    g_free(domain->id);
    g_free(domain->name);
    g_free(domain->path);
    stored_memory_free(domain->memory);
    lease_free(domain->lease);
    g_free(domain);
}

char *
domain_vms_dir(const Domain *domain)
{
    return g_build_filename(domain->path, DOMAIN_FOLDER, "vms", NULL);
}

char *
domain_trash_dir(const Domain *domain)
{
    return g_build_filename(domain->path, DOMAIN_FOLDER, "trash", NULL);
}

static char *
description_file(const char *dir)
{
    return g_build_filename(dir, DOMAIN_FOLDER, "domain.json", NULL);
}

char *
domain_vm_file(const Domain *domain, const char *vm_id, const char *suffix, GError **error)
{
    if (!id_is_valid(vm_id)) { /* it becomes a file name */
        error_set(error, ERR_INVALID, "'%s' is not the id of a VM", vm_id != NULL ? vm_id : "");
        return NULL;
    }
    return g_strdup_printf("%s/%s/vms/%s.%s", domain->path, DOMAIN_FOLDER, vm_id, suffix);
}

/* ---- opening */

static char *
description_checksum(const json_t *json)
{
    g_autofree char *text =
        g_strdup_printf("%" G_GINT64_FORMAT " %s %s", json_number(json, "format"),
                        json_text(json, "id"), json_text(json, "name"));

    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}

#define HELP                                                                                \
    "nothing in that directory is touched. Put it back from a backup, or move it away and " \
    "restart "                                                                              \
    "the agent, which makes a new one; manifests and volumes stay as they are"

/* What domain.json says: a valid id, and a format that this version knows. The first ones had no
 * checksum. */
static json_t *
parse_description(const char *file, const char *text, size_t length, GError **error)
{
    json_error_t why;
    g_autoptr(json_t) json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    int64_t format = json_number(json, "format");
    const char *wanted = json_text(json, "checksum");

    if (json == NULL) {
        error_set(error, ERR_CORRUPT, "%s is damaged (line %d: %s): " HELP, file, why.line,
                  why.text);
        return NULL;
    }
    if (format < 1 || !id_is_valid(json_text(json, "id"))) {
        error_set(error, ERR_CORRUPT, "%s is damaged (it has no format or no valid id): " HELP,
                  file);
        return NULL;
    }
    if (format > DOMAIN_FORMAT) {
        error_set(error, ERR_REFUSED,
                  "the storage domain of %s has format %" G_GINT64_FORMAT
                  ", this version knows formats up to %d; use the version that made it",
                  file, format, DOMAIN_FORMAT);
        return NULL;
    }
    g_autofree char *found = description_checksum(json);
    if (wanted != NULL && !g_str_equal(wanted, found)) {
        error_set(error, ERR_CORRUPT, "%s is damaged (its checksum does not fit): " HELP, file);
        return NULL;
    }
    return g_steal_pointer(&json);
}

/* NULL without error if there is none. */
static json_t *
read_description(const char *dir, GError **error)
{
    g_autofree char *file = description_file(dir);
    g_autofree char *text = NULL;
    size_t length = 0;

    if (!file_read(file, &text, &length, error) || text == NULL)
        return NULL;
    return parse_description(file, text, length, error);
}

/* Another host may make it in the same moment: then its id is the one. */
static bool
make_description(const char *dir, const char *name, GError **error)
{
    g_autoptr(json_t) json = json_object();
    g_autoptr(GError) problem = NULL;
    g_autofree char *file = description_file(dir);
    g_autofree char *id = id_new();
    autolibc char *text = NULL;

    json_object_set_new(json, "format", json_integer(DOMAIN_FORMAT));
    json_put_text(json, "id", id);
    json_put_text(json, "name", name);
    g_autofree char *checksum = description_checksum(json);
    json_put_text(json, "checksum", checksum);
    text = json_dumps(json, JSON_INDENT(2));
    if (file_create(file, text, &problem) || g_error_matches(problem, ERR, ERR_EXISTS))
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static json_t *
read_or_make_description(const char *dir, const char *name, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *last = g_path_get_basename(dir);
    json_t *json = read_description(dir, &problem);

    if (json == NULL && problem == NULL &&
        make_description(dir, name != NULL ? name : last, &problem))
        json = read_description(dir, &problem);
    if (json == NULL && problem == NULL)
        error_set(&problem, ERR_STORAGE,
                  "the description of storage domain %s vanished as soon as "
                  "it was made",
                  dir);
    if (json == NULL)
        g_propagate_error(error, g_steal_pointer(&problem));
    return json;
}

static bool
make_folders(const char *dir, GError **error)
{
    g_autofree char *folder = g_build_filename(dir, DOMAIN_FOLDER, NULL);
    g_autofree char *vms = g_build_filename(folder, "vms", NULL);
    g_autofree char *trash = g_build_filename(folder, "trash", NULL);

    if (!dir_make(folder, error) || !dir_make(vms, error) || !dir_make(trash, error))
        return false;
    files_sweep(folder);
    files_sweep(vms);
    return true;
}

static Lease *
lease_of(const Domain *domain)
{
    g_autofree char *folder = g_build_filename(domain->path, DOMAIN_FOLDER, NULL);
    g_autofree char *what = g_strdup_printf("storage domain '%s' (%s)", domain->name, domain->path);

    return lease_local_new(folder, what);
}

static bool
has_no_manifest(const Domain *domain)
{
    g_auto(GStrv) ids = manifest_list(domain, NULL);

    return ids != NULL && *ids == NULL;
}

Domain *
domain_open(const char *path, const char *name, GError **error)
{
    autolibc char *real = realpath(path, NULL);
    g_autoptr(json_t) json = NULL;
    const char *stored_name;
    Domain *domain;

    if (real == NULL) {
        error_set(error, errno == ENOENT ? ERR_NOT_FOUND : ERR_STORAGE,
                  "storage domain %s: %s; is the storage mounted?", path, g_strerror(errno));
        return NULL;
    }
    if (!g_file_test(real, G_FILE_TEST_IS_DIR)) {
        error_set(error, ERR_STORAGE, "storage domain %s is not a directory", path);
        return NULL;
    }
    if (!make_folders(real, error))
        return NULL;
    json = read_or_make_description(real, name, error);
    if (json == NULL)
        return NULL;
    stored_name = json_text(json, "name");
    domain = g_new0(Domain, 1);
    domain->id = g_strdup(json_text(json, "id"));
    domain->path = g_strdup(real);
    domain->memory = stored_memory_new();
    domain->name = name != NULL || stored_name != NULL ? g_strdup(name != NULL ? name : stored_name)
                                                       : g_path_get_basename(real);
    domain->lease = lease_of(domain);
    domain->empty = has_no_manifest(domain);
    return domain;
}

bool
domain_is_there(const Domain *domain, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) json = read_description(domain->path, &problem);

    if (problem != NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    if (json == NULL)
        return error_set(error, ERR_STORAGE,
                         "storage domain %s (%s) is not there any more; is the storage mounted?",
                         domain->name, domain->path);
    if (g_strcmp0(json_text(json, "id"), domain->id) != 0)
        return error_set(error, ERR_STORAGE,
                         "%s now holds another storage domain (%s) than the one that was opened "
                         "(%s), and nothing is done there: if it was mounted after the agent was "
                         "started, restart the agent (systemctl restart livemerge-agent)",
                         domain->path, json_text(json, "id"), domain->id);
    return true;
}

bool
domain_is_another(const Domain *domain)
{
    g_autoptr(json_t) json = read_description(domain->path, NULL);

    return json != NULL && g_strcmp0(json_text(json, "id"), domain->id) != 0;
}

/* ---- looking */

bool
domain_space(const Domain *domain, uint64_t *ret_free, uint64_t *ret_total, GError **error)
{
    struct statvfs st;
    uint64_t room = 0, total = 0;

    if (domain->space != NULL)
        domain->space(domain, &room, &total);
    else if (statvfs(domain->path, &st) < 0)
        return error_set_errno(error, "asking for the space of storage domain %s", domain->path);
    else {
        room = (uint64_t)st.f_bavail * st.f_frsize;
        total = (uint64_t)st.f_blocks * st.f_frsize;
    }
    if (ret_free != NULL)
        *ret_free = room;
    if (ret_total != NULL)
        *ret_total = total;
    return true;
}

char *
domain_holder(const Domain *domain)
{
    g_autofree char *folder = g_build_filename(domain->path, DOMAIN_FOLDER, NULL);

    return lease_local_holder(folder);
}

uint64_t
domain_reserve(const Domain *domain, uint64_t total)
{
    return MIN(total / 20, UINT64_C(1) << 30);
}

char *
path_resolve_dir(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    autolibc char *real = realpath(dir, NULL);

    return real != NULL ? g_build_filename(real, name, NULL) : NULL;
}

bool
path_is_under(const char *path, const char *dir)
{
    size_t length = strlen(dir);

    if (g_str_equal(dir, "/"))
        return path[0] == '/' && path[1] != '\0';
    return strncmp(path, dir, length) == 0 && path[length] == '/' && path[length + 1] != '\0';
}

bool
storage_is_away(int why)
{
    return why == EIO || why == ESTALE || why == ETIMEDOUT || why == ENOTCONN || why == EREMOTEIO;
}

bool
domain_holds(const Domain *domain, const char *path)
{
    autolibc char *real = realpath(path, NULL);
    g_autofree char *by_dir = NULL;

    if (real != NULL)
        return path_is_under(real, domain->path);
    if (errno != ENOENT)
        return false;
    by_dir = path_resolve_dir(path);
    return by_dir != NULL && path_is_under(by_dir, domain->path);
}
