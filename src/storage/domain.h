/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Names inside a storage domain. Used inside storage/ only. The caller frees what is returned.
 */
#pragma once

#include "storage/storage.h"

#define DOMAIN_FOLDER ".livemerge"

/* How long to wait for the lease of a domain: whoever has it needs it for single deeds. */
#define LEASE_BUDGET_MS 500

/* DIR/.livemerge/vms */
char *domain_vms_dir(const Domain *domain);
char *domain_trash_dir(const Domain *domain);
/* DIR/.livemerge/vms/ID.SUFFIX; NULL with ERR_INVALID if the id is no UUID */
char *domain_vm_file(const Domain *domain, const char *vm_id, const char *suffix, GError **error);
/* Is this still the domain that was opened? False with ERR_STORAGE when, say, it was unmounted
 * and an empty mount point is in its place: there, "no such file" would be a lie. */
bool domain_is_there(const Domain *domain, GError **error);
/* The path with the symbolic links of its directory resolved, but not the file's own. NULL if
 * the directory is not there. */
char *path_resolve_dir(const char *path);
/* Does the resolved path lie under the resolved directory? */
bool path_is_under(const char *path, const char *dir);
