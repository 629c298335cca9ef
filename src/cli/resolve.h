/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What does the user mean by this word? An id, else a name, else a prefix of either that fits
 * one thing only. What is exact always wins over prefixes.
 *
 * Errors: ERR_NOT_FOUND; ERR_INVALID that lists the candidates when several fit.
 */
#pragma once

#include "cli/cli.h"

typedef struct {
    const char *kind;       /* "VM", "snapshot", "disk", "job" */
    const char *name;       /* member with the name: "name", "description" */
    const char *other_name; /* a second one, "logical_name"; NULL = none */
    const char *list;       /* the command that lists them */
} ResolveKind;

/* Pure: an item of the array (a new reference). An active snapshot is never meant by a prefix. */
json_t *resolve_word(const ResolveKind *kind, const json_t *items, const char *word,
                     GError **error);

/* These ask the manager. */
json_t *resolve_vm(Cli *cli, const char *word, GError **error);
/* From a snapshots document of that VM. */
json_t *resolve_snapshot(const Cli *cli, const json_t *vm, const json_t *snapshots,
                         const char *word, GError **error);
json_t *resolve_job(Cli *cli, const char *word, GError **error);
/* The disk's document. */
json_t *resolve_disk(Cli *cli, const json_t *vm, const char *word, GError **error);
/* The VM's disks: array of disk documents, each with its attachment's "logical_name". */
json_t *vm_disks(Cli *cli, const json_t *vm, GError **error);
