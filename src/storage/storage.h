/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Storage domains: directories with volumes, manifests and a trash.
 *
 *     DIR/.livemerge/domain.json          id, name, format version
 *     DIR/.livemerge/vms/<vm-id>.json     one manifest a VM (merge.md section 7)
 *     DIR/.livemerge/vms/<vm-id>.lock     the VM's start lock
 *     DIR/.livemerge/trash/<op-id>.<n>.<name>  volumes on their way out
 *     DIR/.livemerge/rates.json           how fast merges were there
 *     DIR/.livemerge/lease.lock, lease.json  who deletes and repairs there (lease.h)
 *
 * Promise: a manifest is written whole or not at all (temporary name, fsync, rename, fsync of the
 * directory), carries a generation that only grows and a checksum. A full disk, a crash or a kill
 * at any instant leaves the old one readable. No volume is unlinked that any header in the domain
 * names. What deletes or brings back holds the domain's lease (lease.h), and looks that it still
 * does right before it acts.
 *
 * Ownership: a Domain is freed with domain_free(). Threads: a Domain may be used by several
 * threads; two writers of one manifest must hold its VM (the agent does). Errors: ERR_STORAGE,
 * ERR_NO_SPACE, ERR_CORRUPT (names the file), ERR_NOT_FOUND, ERR_REFUSED.
 */
#pragma once

#include "model/rates.h"
#include "model/vm.h"
#include "storage/lease.h"

#define DOMAIN_FORMAT 1

typedef enum { SHARING_UNKNOWN, SHARING_YES, SHARING_NO } Sharing;

typedef struct StoredMemory StoredMemory; /* stored.c */

typedef struct Domain {
    char *id;        /* UUID */
    char *name;      /* last component of the path, or as configured */
    char *path;      /* absolute, realpath */
    Sharing sharing; /* ask domain_can_share() */
    /* tests: asked by domain_space() instead of statvfs(2); NULL = not */
    void (*space)(const struct Domain *domain, uint64_t *ret_free, uint64_t *ret_total);
    StoredMemory *memory; /* of manifests that were read; NULL = none */
    Lease *lease;         /* who deletes and repairs there */
    int empty; /* atomic: it had no manifest when it was opened, and no VM was seen there since */
} Domain;

void domain_free(Domain *domain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Domain, domain_free)

/* Opens DIR as a storage domain; if it is none yet, makes it one (creates .livemerge 0700).
 * A domain of a newer format is refused. */
Domain *domain_open(const char *path, const char *name, GError **error);
/* Is another one than this in its place? Storage that was mounted since, say, or unmounted. What
 * cannot be asked is not. */
bool domain_is_another(const Domain *domain);
/* bytes; both may be NULL */
bool domain_space(const Domain *domain, uint64_t *ret_free, uint64_t *ret_total, GError **error);
/* Can its files share blocks (FICLONERANGE: XFS, btrfs, NFS 4.2 ...)? Tried once with temporary
 * files. */
bool domain_can_share(Domain *domain);
/* Who deletes there, or did so last, as the lease's record names him; NULL = nobody yet, or it
 * cannot be read. The caller frees it. */
char *domain_holder(const Domain *domain);
/* Bytes that nobody should use up on purpose, so that guests can go on writing: 5 %, at most 1 GiB.
 */
uint64_t domain_reserve(const Domain *domain, uint64_t total);
/* How fast it was (rates.c): DIR/.livemerge/rates.json, which may be lost at any time. Always
 * filled in, with the guesses if there is none; false with an error if there is one that cannot be
 * read. Another host may write it too: the last one wins. */
bool rates_load(const Domain *domain, Rates *ret_rates, GError **error);
bool rates_save(const Domain *domain, const Rates *rates, GError **error);
/* By errno of a call on a file: the storage does not answer, which says nothing of what is there.
 */
bool storage_is_away(int why);
/* Does the file lie under the domain, symlinks resolved (of its directory, if the file is not
 * there)? */
bool domain_holds(const Domain *domain, const char *path);

/* ---- manifests (manifest.c) */

/* The manifest is vm_to_stored_json(), wrapped as {"livemerge": 1, "generation": N, "checksum":
 * "sha256 hex of the compact, key-sorted vm", "written": ms, "vm": {...}}. The vm has the
 * generation in it too, so the checksum covers it. */
/* NULL without error if there is none. A damaged one: ERR_CORRUPT that names the file. A storage
 * domain that is not there any more (unmounted) is ERR_STORAGE, not "none". Sets vm->home. */
Vm *manifest_load(const Domain *domain, const char *vm_id, GError **error);
/* The same, shared: for who does not change it. */
Vm *manifest_look(const Domain *domain, const char *vm_id, GError **error);
/* Writes vm with generation vm->generation + 1; on success sets vm->generation to it. Of each
 * volume below a leaf it notes what the file looks like (volume->seen), which is durable then: who
 * writes into it later is told by that (guard.h), whatever the clocks say. Of a disk for which an
 * operation is recorded it notes nothing: its volumes may be written. Refused (ERR_REFUSED) if the
 * stored generation is higher than vm->generation: somebody else wrote it. If nothing but the
 * generation and those looks would change, nothing is written, and vm->generation becomes the
 * stored one if that is higher. A damaged manifest is not overwritten (ERR_CORRUPT). */
bool manifest_save(const Domain *domain, Vm *vm, GError **error);
/* What manifest_load() has read is durable: who put it there may have died before it was, and a
 * power loss would take it back. Costs little if it was seen to be before. */
bool manifest_sync(const Domain *domain, const char *vm_id, GError **error);
bool manifest_remove(const Domain *domain, const char *vm_id, GError **error);
/* ids of all VMs with a manifest; g_strfreev() */
char **manifest_list(const Domain *domain, GError **error);

/* ---- volumes (users.c, volume.c) */

/* Who names this file as its backing file, among all regular files below the domain (each opened
 * as qcow2 header only if it has the magic; subdirectories included, .livemerge excluded, symbolic
 * links not followed)? ret_user: NULL = nobody, else the path of the first one found. Files in
 * "ignore" (NULL-terminated, may be NULL) do not count. If nobody was found, what cannot be
 * read or understood is an error (always ERR_STORAGE, so it may be tried again): not knowing is not
 * "nobody". Hard and
 * symbolic links to the file are recognised as the file. */
bool volume_find_user(const Domain *domain, const char *path, const char *const *ignore,
                      char **ret_user, GError **error);
/* The same for several files at once, in one walk through the domain: users[i] (owned by the
 * caller) is who names paths[i], or NULL. False with an error if some file could not be understood;
 * what was found beside it is filled in all the same. */
typedef struct {
    const char *const *paths;  /* NULL-terminated, like ignore */
    const char *const *ignore; /* may be NULL */
    char **users;              /* as many as paths, all NULL before */
} VolumeUsers;
bool volume_find_users(const Domain *domain, const VolumeUsers *sets, unsigned n, GError **error);
/* Its size and when it was last written, to be compared with what it looked like before. NULL: it
 * is no regular file, or cannot be seen. The caller frees it. */
char *volume_look(const char *path);
struct stat;
/* By the time of its last change: no proof, for a clock can be set back. */
bool file_is_newer(const struct stat *a, const struct stat *b);
/* Two names of one file, or the same name. */
bool file_is_same(const char *a, const char *b);
char *volume_look_of(const struct stat *st); /* the same, of any file that was seen */
/* Bytes that are allocated to a file; 0 if it cannot be seen. */
uint64_t volume_allocated(const char *path);
/* fsync of a file and its directory */
bool volume_sync(const char *path, GError **error);
/* fsync of the file alone: its name did not change */
bool volume_sync_data(const char *path, GError **error);
/* Unlinks files of one directory that nobody refers to, those that are there, and syncs the
 * directory. paths: NULL-terminated. */
bool volume_unlink(const char *const *paths, GError **error);
/* Deletes a volume by merge.md section 5, the storage half: reads all headers again
 * (volume_find_user), refuses with ERR_REFUSED if anything names it, renames it into the trash as
 * <op_id>.<n>.<name>, fsyncs both directories, unlinks if keep is false. A file that is already
 * gone (this is a repeat): true, and what the trash has of it goes too if keep is false. Only
 * regular files of the domain; a symbolic link is refused, give its target. op_id: no dots or
 * slashes. */
typedef enum {
    TRASH_EMPTY, /* unlink it at once */
    TRASH_LATER, /* leave that to trash_sweep() */
    TRASH_KEEP,  /* a person may want it back */
} TrashWhat;
bool volume_delete(const Domain *domain, const char *op_id, const char *path, TrashWhat what,
                   GError **error);
/* Unlinks whatever deletes left in the trash of the domain, but for what was put there to be kept:
 * for a start after a crash, and for a thread of its own, since unlinking a large file takes a
 * while. ERR_BUSY: somebody else holds the lease, and will do it himself. */
bool trash_sweep(const Domain *domain, GError **error);
/* Unlinks what the trash holds for this operation (a repeat after a crash). */
bool trash_empty(const Domain *domain, const char *op_id, GError **error);

/* ---- locks (lock.c, image_lock.c) */

/* The VM's start lock: held around deletes, and by the start guard. Returns an fd to close,
 * -1 = ERR_BUSY after budget_ms. */
int vm_start_lock(const Domain *domain, const char *vm_id, unsigned budget_ms, GError **error);
/* As long as the returned fd is open, no QEMU can open this image for writing: not the VM, not
 * qemu-img. ERR_BUSY: some QEMU has. Reading it is as before. -1 = error. */
int image_lock(const char *path, GError **error);
/* Does a QEMU have it open for writing? False also if it cannot be told. */
bool image_is_written(const char *path);
