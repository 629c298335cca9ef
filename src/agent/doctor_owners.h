/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: who has which file? Generous: every definition of every VM of the host with all that
 * stands below it, every manifest of the domain (of other hosts' VMs too), every path that an
 * operation mentions, libvirt's records of snapshots.
 *
 * Ownership: Owners owns all. Threads: whoever made it.
 */
#pragma once

#include "agent/doctor.h"

/* A disk of a VM */
typedef struct {
    char *vm_id, *vm_name, *target;
    GPtrArray *stems; /* of char*: of the names of its files: DIR/web */
    bool running;
    bool undecided; /* its manifest records operations: what is whose, they know; or libvirt has
                       lost it, and its QEMU runs */
} Owner;

typedef struct {
    Agent *agent;
    GHashTable *used;   /* key → Owner, or NULL: by somebody */
    GHashTable *leaves; /* key → Owner: the leaves of disks */
    GHashTable *left;   /* key → Owner: what its manifest says a merge left behind */
    GPtrArray *list;    /* of Owner */
    GPtrArray *away;    /* of char*: files of storages that do not answer */
} Owners;

void owners_init(Owners *owners, Agent *agent);
void owners_clear(Owners *owners);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Owners, owners_clear)

/* What a file is, whatever name it has: "dev:ino"; a path if it is not there. The caller frees it.
 */
char *owners_key(const char *path);
/* What libvirt and the operations name. */
bool owners_note_everybody(Owners *owners, GError **error);
/* What the manifests of the domain name, and what they say was left. One that cannot be read is an
 * error: nobody knows what it names. So is a file of the domain that is used and cannot be seen: it
 * would not be known again. */
bool owners_note_manifests(Owners *owners, const Domain *domain, GError **error);
/* Is the manifest of his VM there? */
bool owner_is_at_home(const Owners *owners, const Owner *owner, const Domain *domain);
/* Those whose manifest is there are undecided: it may name files in other domains. */
void owners_note_unknown(Owners *owners, const Domain *domain);
