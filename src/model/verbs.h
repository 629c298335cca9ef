/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who may do what in which state: one table, operation × VM state, and the conditions
 * that block an operation (oVirt's validation rules as far as these verbs exist).
 * The manager asks before it begins a flow; the agent asks again before it begins a deed.
 */
#pragma once

#include "model/vm.h"

typedef enum {
    VERB_SNAPSHOT_CREATE,
    VERB_SNAPSHOT_CREATE_MEMORY,
    VERB_SNAPSHOT_DELETE,
    VERB_SNAPSHOT_RENAME,
    VERB_DOCTOR, /* also where a VM is unmanaged: that may be what is mended */
    VERB_LAST,
} Verb;

/* What is known besides the VM itself. */
typedef struct {
    const char *busy_job; /* description of the operation that holds the VM; NULL = none */
    const char *busy_job_id;
    const char *foreign_job; /* "migration", "backup", "block job on vda"; NULL = none */
} VerbContext;

const char *verb_word(Verb verb); /* "create a snapshot of" */
/* May this be done now? False with ERR_REFUSED, ERR_BUSY (held by an operation) or
 * ERR_UNREACHABLE (host state unknown) and a message: what blocks, who holds it, what frees it. */
bool verb_allowed(Verb verb, const Vm *vm, const VerbContext *context, GError **error);
/* The bare table, for documentation and the test that tries every cell: NULL = allowed. */
const char *verb_state_reason(Verb verb, VmState state);
