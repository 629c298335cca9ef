/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the doctor asks of a storage domain: its files, its trash, and a place for what is needed to
 * undo a fix.
 *
 *     DIR/.livemerge/undo/<op-id>/NAME     as it was before the fix <op-id>
 *     DIR/.livemerge/undo/<op-id>/undo.json  {"livemerge": 1, "checksum": as a manifest's, "fix":
 *                                          {"vm_id", "undo": the list of what was done}}
 *
 * Promise: nothing here removes a file, but for trash_purge() and trash_expire(). Ownership:
 * results belong to the caller. Threads: any. Errors: ERR_STORAGE, ERR_NO_SPACE, ERR_EXISTS,
 * ERR_NOT_FOUND, ERR_INVALID; ERR_CORRUPT, ERR_REFUSED of what was kept.
 */
#pragma once

#include "storage/storage.h"

/* A regular file below the domain, .livemerge excluded, symbolic links not followed. */
typedef struct {
    char *path;
    uint64_t device, inode;
    uint64_t allocated;
    int64_t changed; /* s since 1970: when its inode last changed */
    bool is_qcow2;   /* it has the magic */
} StoredFile;
GPtrArray *domain_files(const Domain *domain, GError **error);

typedef struct {
    char *path;  /* in the trash */
    char *op_id; /* who put it there */
    char *name;  /* that it had */
    bool kept;   /* a person may want it back: only trash_expire() removes it */
    uint64_t allocated;
    int64_t changed;
} TrashEntry;
/* What is no deletion of ours is left out. */
GPtrArray *trash_list(const Domain *domain, GError **error);
/* Finishes one deletion that was begun: unlinks the entry, which must not be kept. */
bool trash_purge(const Domain *domain, const char *path, GError **error);
/* Puts the entry of the trash at this place, where nothing may be. Already there: true. */
bool trash_restore(const Domain *domain, const char *entry, const char *path, GError **error);
/* Unlinks what was kept in the trash for longer than this, and what was needed to undo a fix whose
 * files are gone. A kept file whose name a header misses stays. (expire.c) */
typedef struct {
    unsigned files, undos;
    uint64_t bytes;
} Expired;
bool trash_expire(const Domain *domain, unsigned days, Expired *ret_expired, GError **error);
/* The kept entry of this operation that came from this path; NULL = none. */
char *trash_kept(const Domain *domain, const char *op_id, const char *path);

/* Durable when it returns true. A file that is there already stays: a repeat must not write what
 * the first try has changed. replace: it does not. */
bool undo_put(const Domain *domain, const char *op_id, const char *name, const char *text,
              bool replace, GError **error);
/* NULL without error: there is none. */
char *undo_get(const Domain *domain, const char *op_id, const char *name, GError **error);
/* The list of what the fix has done to this VM: replaced, and had back. NULL without error: there
 * is none. One that is damaged, or of another VM, is never believed. */
bool undo_put_list(const Domain *domain, const char *op_id, const char *vm_id, json_t *list,
                   GError **error);
json_t *undo_get_list(const Domain *domain, const char *op_id, const char *vm_id, GError **error);
/* The VM's manifest, damaged or not, is kept as it is; false in *ret_kept: there is none. Then it
 * may be replaced, or removed. The first one kept stays. */
bool undo_keep_manifest(const Domain *domain, const char *op_id, const char *vm_id, bool *ret_kept,
                        GError **error);
/* Makes the kept one the VM's manifest again. */
bool undo_return_manifest(const Domain *domain, const char *op_id, const char *vm_id,
                          GError **error);
