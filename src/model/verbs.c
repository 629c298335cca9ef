/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/verbs.h"

#define UNREACHABLE "its host does not answer, so its state is not known; try again when it is back"
#define MIGRATING "it is migrating; wait until it runs on its new host"
#define SAVING "its state is being saved; wait until that has ended"
#define POWERING_DOWN "it is shutting down; wait until it is down"
#define SUSPENDED_CREATE \
    "it is suspended, and its saved memory belongs to the present leaves; resume it first"
#define SUSPENDED_DELETE \
    "it is suspended, and its saved memory image needs the present leaves; resume it first"
#define NOT_RUNNING "the VM is not running; a snapshot without memory is possible"

/* clang-format off */
static const char *const reasons[VERB_LAST][VM_STATE_LAST] = {
    [VERB_SNAPSHOT_CREATE] = {
        [VM_UNKNOWN]       = UNREACHABLE,
        [VM_UP]            = NULL,
        [VM_PAUSED]        = NULL,
        [VM_DOWN]          = NULL,
        [VM_MIGRATING]     = MIGRATING,
        [VM_SAVING]        = SAVING,
        [VM_POWERING_DOWN] = POWERING_DOWN,
        [VM_SUSPENDED]     = SUSPENDED_CREATE,
    },
    [VERB_SNAPSHOT_CREATE_MEMORY] = {
        [VM_UNKNOWN]       = UNREACHABLE,
        [VM_UP]            = NULL,
        [VM_PAUSED]        = NULL,
        [VM_DOWN]          = NOT_RUNNING,
        [VM_MIGRATING]     = MIGRATING,
        [VM_SAVING]        = SAVING,
        [VM_POWERING_DOWN] = POWERING_DOWN,
        [VM_SUSPENDED]     = SUSPENDED_CREATE,
    },
    [VERB_SNAPSHOT_DELETE] = {
        [VM_UNKNOWN]       = UNREACHABLE,
        [VM_UP]            = NULL,
        [VM_PAUSED]        = NULL,
        [VM_DOWN]          = NULL,
        [VM_MIGRATING]     = MIGRATING,
        [VM_SAVING]        = SAVING,
        [VM_POWERING_DOWN] = POWERING_DOWN,
        [VM_SUSPENDED]     = SUSPENDED_DELETE,
    },
    [VERB_SNAPSHOT_RENAME] = {
        [VM_UNKNOWN]       = UNREACHABLE,
        [VM_UP]            = NULL,
        [VM_PAUSED]        = NULL,
        [VM_DOWN]          = NULL,
        [VM_MIGRATING]     = NULL,
        [VM_SAVING]        = NULL,
        [VM_POWERING_DOWN] = NULL,
        [VM_SUSPENDED]     = NULL,
    },
    /* what needs a VM that is off looks again */
    [VERB_DOCTOR] = {
        [VM_UNKNOWN]       = UNREACHABLE,
        [VM_UP]            = NULL,
        [VM_PAUSED]        = NULL,
        [VM_DOWN]          = NULL,
        [VM_MIGRATING]     = MIGRATING,
        [VM_SAVING]        = SAVING,
        [VM_POWERING_DOWN] = POWERING_DOWN,
        [VM_SUSPENDED]     = NULL,
    },
};

static const char *const words[VERB_LAST] = {
    [VERB_SNAPSHOT_CREATE]        = "create a snapshot of",
    [VERB_SNAPSHOT_CREATE_MEMORY] = "create a snapshot with memory of",
    [VERB_SNAPSHOT_DELETE]        = "delete a snapshot of",
    [VERB_SNAPSHOT_RENAME]        = "rename a snapshot of",
    [VERB_DOCTOR]                 = "mend",
};
/* clang-format on */

const char *
verb_word(Verb verb)
{
    return verb < VERB_LAST ? words[verb] : "work on";
}

const char *
verb_state_reason(Verb verb, VmState state)
{
    if (verb >= VERB_LAST || state >= VM_STATE_LAST)
        return "this version does not know what was asked for, or the state of the VM";
    return reasons[verb][state];
}

static bool
say_busy(const char *asked, const VerbContext *context, GError **error)
{
    const char *id = context->busy_job_id;

    if (id == NULL)
        return error_set(error, ERR_BUSY, "%s: it is held by another operation (%s); wait for it",
                         asked, context->busy_job);
    return error_set(error, ERR_BUSY,
                     "%s: it is held by job %s (%s); wait for it or cancel it: "
                     "livemerge job cancel %s",
                     asked, id, context->busy_job, id);
}

bool
verb_allowed(Verb verb, const Vm *vm, const VerbContext *context, GError **error)
{
    const char *reason = verb_state_reason(verb, vm->state);
    g_autofree char *asked = g_strdup_printf("cannot %s VM '%s'", verb_word(verb), vm->name);

    if (vm->unmanaged != NULL && verb != VERB_DOCTOR)
        return error_set(error, ERR_REFUSED, "%s: %s", asked, vm->unmanaged);
    /* before the state: it is often our own operation that brought the VM there */
    if (context != NULL && context->busy_job != NULL)
        return say_busy(asked, context, error);
    if (reason != NULL)
        return error_set(error, vm->state == VM_UNKNOWN ? ERR_UNREACHABLE : ERR_REFUSED, "%s: %s",
                         asked, reason);
    /* a new name touches no disk */
    if (context != NULL && context->foreign_job != NULL && verb != VERB_SNAPSHOT_RENAME)
        return error_set(error, ERR_BUSY,
                         "%s: a %s that livemerge did not start is under way; wait until it has "
                         "ended",
                         asked, context->foreign_job);
    return true;
}
