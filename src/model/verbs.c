/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Asks the table of verbs_table.c, and words what it says.
 */
#include "model/verbs.h"
#include "base/text.h"

#include <string.h>

static const VerbContext nothing_known = { 0 };

static const struct {
    const char *name;
    Subject subject;
    const char *words;
} verbs[VERB_LAST] = {
#define X(verb, name, subject, words) [verb] = { name, subject, words },
    VERB_TABLE(X)
#undef X
};

static const char *const condition_texts[CONDITION_LAST] = {
#define X(condition, refusal, text) [condition] = text,
    CONDITION_TABLE(X)
#undef X
};

const char *
verb_name(Verb verb)
{
    return verbs[verb].name;
}

const char *
verb_word(Verb verb)
{
    return verbs[verb].words;
}

Subject
verb_subject(Verb verb)
{
    return verbs[verb].subject;
}

const char *
condition_text(Condition condition)
{
    return condition_texts[condition];
}

Verb
verb_of_create(bool memory, const char *quiesce)
{
    if (memory)
        return VERB_SNAPSHOT_CREATE_MEMORY;
    return g_strcmp0(quiesce, "require") == 0 ? VERB_SNAPSHOT_CREATE_QUIESCED
                                              : VERB_SNAPSHOT_CREATE;
}

/* ---- what is so ---- */

static bool
is_held(const VerbContext *c, Hold hold)
{
    return c->busy_job_id != NULL && c->hold == hold;
}

static bool
holds_of_vm(Condition condition, const Vm *vm, const VerbContext *c)
{
    if (vm == NULL)
        return false;
    if (condition == COND_NO_DISK)
        return vm->disks->len == 0 &&
               (vm->unmanaged == NULL || g_str_equal(vm->unmanaged, VM_NO_DISK));
    if (condition == COND_UNMANAGED)
        return vm->unmanaged != NULL;
    return !vm->agent_connected; /* COND_NO_AGENT */
}

static bool
holds(Condition condition, const Vm *vm, const VerbContext *c)
{
    switch (condition) {
    case COND_NO_DISK:
    case COND_UNMANAGED:
    case COND_NO_AGENT:
        return holds_of_vm(condition, vm, c);
    case COND_ACTIVE:
        return c->active;
    case COND_LOCKED:
        return c->locked && c->busy_job_id != NULL;
    case COND_TAKING:
        return is_held(c, HOLD_TAKING);
    case COND_DELETING:
        return is_held(c, HOLD_DELETING);
    case COND_CHANGING:
        return is_held(c, HOLD_SNAPSHOTS);
    case COND_SHUTDOWN:
        return is_held(c, HOLD_SHUTDOWN);
    case COND_POWER:
        return is_held(c, HOLD_POWER);
    case COND_HELD:
        return is_held(c, HOLD_OTHER);
    case COND_SILENT:
        return c->host_problem != NULL;
    case COND_PREVIEW:
        return c->preview != NULL;
    case COND_NO_PREVIEW: /* of one that cannot be looked at that is not known */
        return c->preview == NULL && (vm == NULL || vm->state != VM_UNKNOWN);
    case COND_UNUSABLE:
        return c->snapshot != NULL && snapshot_is_unusable(c->snapshot);
    case COND_NO_CONFIG:
        return c->snapshot != NULL && c->snapshot->config == NULL;
    case COND_CONFIG_ONLY:
        return c->snapshot != NULL && snapshot_is_config_only(c->snapshot);
    case COND_DISK_UNMANAGED:
        return c->bad_disk != NULL;
    case COND_DISK_BUSY:
        return c->busy_disk != NULL;
    case COND_FOREIGN:
        return c->foreign_job != NULL;
    case COND_JOB_OTHERS:
        return c->job_others;
    case COND_JOB_ENDED:
        return c->job_ended;
    case COND_JOB_LATE:
        return c->job_late;
    case COND_JOB_RUNS:
        return !c->job_paused;
    case COND_STATE:
    case CONDITION_LAST:
        break;
    }
    return false;
}

/* Its state is not known although its host answers: that says why. */
static void
say_what_is_known(const Vm *vm, const VerbContext *c, Refusal *refusal)
{
    if (vm->state != VM_UNKNOWN || vm->unmanaged == NULL || c->host_problem != NULL)
        return;
    refusal->why = "{unmanaged}";
    refusal->help = "";
}

/* The first that refuses; false = none does. */
static bool
find_refusal(Verb verb, const Vm *vm, const VerbContext *c, Refusal *ret_refusal)
{
    for (Condition condition = 0; condition < CONDITION_LAST; condition++) {
        if (condition == COND_STATE && vm != NULL &&
            verb_state_refuses(verb, vm->state, ret_refusal)) {
            say_what_is_known(vm, c, ret_refusal);
            return true;
        }
        if (verb_condition_refuses(verb, condition, ret_refusal) && holds(condition, vm, c))
            return true;
    }
    return false;
}

/* ---- in words ---- */

static char *
disk_why(const Disk *disk)
{
    return g_strdup(disk == NULL              ? NULL
                    : disk->unmanaged != NULL ? disk->unmanaged
                                              : "it is read-only");
}

/* The text with what stands for its {names}. VMs are named only where it is a command. */
static char *
fill_in(const char *text, const Vm *vm, const VerbContext *c)
{
    g_autofree char *vm_word = vm != NULL ? shell_word(vm->name) : NULL;
    const Disk *disk = c->bad_disk != NULL ? c->bad_disk : c->busy_disk;
    g_autofree char *bad = disk_why(c->bad_disk);
    g_autofree char *busy =
        c->busy_disk != NULL && vm != NULL ? disk_busy_reason(vm, c->busy_disk) : NULL;
    const struct {
        const char *name, *value;
    } values[] = {
        { "{vm}", vm_word },
        { "{unmanaged}", vm != NULL ? vm->unmanaged : NULL },
        { "{host}", vm != NULL ? vm->host : NULL },
        { "{problem}", c->host_problem },
        { "{job_id}", c->busy_job_id != NULL ? c->busy_job_id : c->job_id },
        { "{job}", c->busy_job },
        { "{step}", c->job_step },
        { "{preview}", c->preview },
        { "{snapshot}", c->snapshot != NULL ? c->snapshot->id : NULL },
        { "{foreign}", c->foreign_job },
        { "{disk}", disk != NULL ? disk->target : NULL },
        { "{disk_why}", bad },
        { "{disk_busy}", busy },
    };
    g_autoptr(GString) filled = g_string_new(NULL);

    for (const char *p = text; *p != '\0';) {
        size_t plain = strcspn(p, "{"), i = 0;
        g_string_append_len(filled, p, plain);
        p += plain;
        while (i < G_N_ELEMENTS(values) && !g_str_has_prefix(p, values[i].name))
            i++;
        if (i < G_N_ELEMENTS(values)) {
            g_string_append(filled, values[i].value != NULL ? values[i].value : "?");
            p += strlen(values[i].name);
        } else if (*p != '\0') {
            g_string_append_c(filled, *p++); /* a brace that is no name */
        }
    }
    return g_string_free(g_steal_pointer(&filled), FALSE);
}

/* "delete snapshot 'nightly' of VM 'web'" */
static char *
deed(Verb verb, const Vm *vm, const VerbContext *c)
{
    const char *words = verb_word(verb), *name = vm != NULL ? vm->name : "?";

    if (verb_subject(verb) == SUBJECT_JOB)
        return g_strdup_printf("%s job %s (%s)", words, c->job_id, c->job);
    if (verb_subject(verb) == SUBJECT_VM)
        return g_strdup_printf("%s VM '%s'", words, name);
    if (c->active)
        return g_strdup_printf("%s the active snapshot of VM '%s'", words, name);
    if (c->snapshot == NULL)
        return g_strdup_printf("%s a snapshot of VM '%s'", words, name);
    return g_strdup_printf("%s snapshot '%s' of VM '%s'", words, c->snapshot->name, name);
}

static char *
text_or_null(const char *text, const Vm *vm, const VerbContext *c)
{
    return *text != '\0' ? fill_in(text, vm, c) : NULL;
}

static void
say(Verb verb, const Vm *vm, const VerbContext *c, const Refusal *refusal, GError **error)
{
    g_autofree char *asked = deed(verb, vm, c), *why = fill_in(refusal->why, vm, c),
                    *help = text_or_null(refusal->help, vm, c);
    ErrorReason *reason;

    if (error == NULL)
        return;
    error_set(error, refusal->code, "cannot %s: %s%s%s", asked, why, help != NULL ? "; " : "",
              help != NULL ? help : "");
    reason = error_reason(*error);
    reason->key = *refusal->key != '\0' ? g_strdup(refusal->key) : NULL;
    reason->why = g_steal_pointer(&why);
    reason->help = g_steal_pointer(&help);
    reason->job_id = strstr(refusal->why, "{job_id}") != NULL ? g_strdup(c->busy_job_id) : NULL;
}

static const char *
previewed(const Vm *vm)
{
    const Snapshot *tried;

    if (vm == NULL || vm->preview == NULL)
        return NULL;
    tried = vm_snapshot(vm, vm->preview->snapshot);
    return tried != NULL ? tried->name : vm->preview->snapshot;
}

bool
verb_allowed(Verb verb, const Vm *vm, const VerbContext *context, GError **error)
{
    VerbContext c = context != NULL ? *context : nothing_known;
    Refusal refusal;

    if (c.preview == NULL)
        c.preview = previewed(vm);
    if (!find_refusal(verb, vm, &c, &refusal))
        return true;
    say(verb, vm, &c, &refusal, error);
    return false;
}

bool
verb_state_allowed(Verb verb, const Vm *vm, GError **error)
{
    Refusal refusal;

    if (!verb_state_refuses(verb, vm->state, &refusal))
        return true;
    say(verb, vm, &nothing_known, &refusal, error);
    return false;
}

json_t *
verb_answer(Verb verb, const GError *refusal)
{
    json_t *answer = json_pack("{s:s, s:b}", "name", verb_name(verb), "possible", refusal == NULL);
    const ErrorReason *reason;

    if (refusal == NULL)
        return answer;
    reason = error_reason(refusal);
    json_put_text(answer, "code", error_word(refusal));
    json_put_text(answer, "key", reason->key);
    json_put_text(answer, "why", reason->why);
    json_put_text(answer, "help", reason->help);
    json_put_text(answer, "job_id", reason->job_id);
    return answer;
}
