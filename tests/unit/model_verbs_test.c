/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The table of operations: every cell is tried, against what stands here, and every refusal is
 * worded with names and without anything left open.
 */
#include "model/verbs.h"

#include "model_vm.h"

#include <string.h>

#define STATES "unknown up paused down migrating saving_state powering_down suspended"
#define HOLDS "taking deleting changing shutdown power held silent"

/* clang-format off */
static const struct {
    const char *states;     /* in which it is possible */
    const char *conditions; /* that forbid it */
    const char *job_key;    /* oVirt's for an open job, where it is another one */
} wanted[VERB_LAST] = {
    [VERB_SNAPSHOT_CREATE]          = { "up paused down", "no-disk unmanaged " HOLDS " preview bad-disk busy-disk foreign" },
    [VERB_SNAPSHOT_CREATE_MEMORY]   = { "up paused",      "no-disk unmanaged " HOLDS " preview bad-disk busy-disk foreign" },
    [VERB_SNAPSHOT_CREATE_QUIESCED] = { "up",             "no-disk unmanaged " HOLDS " preview bad-disk busy-disk foreign no-agent" },
    [VERB_SNAPSHOT_DELETE]          = { "up paused down", "no-disk unmanaged active locked " HOLDS " preview busy-disk foreign" },
    [VERB_SNAPSHOT_PLAN]                     = { "up paused down", "no-disk unmanaged active locked " HOLDS " preview" },
    [VERB_SNAPSHOT_RENAME]          = { "up paused down migrating saving_state powering_down suspended", "no-disk unmanaged active locked " HOLDS },
    [VERB_SNAPSHOT_PREVIEW]                  = { "down",           "no-disk unmanaged active locked " HOLDS " preview unusable busy-disk foreign" },
    [VERB_SNAPSHOT_COMMIT]                   = { "down",           "no-disk unmanaged " HOLDS " no-preview busy-disk foreign" },
    [VERB_SNAPSHOT_UNDO]                     = { "down",           "no-disk unmanaged " HOLDS " no-preview busy-disk foreign" },
    [VERB_SNAPSHOT_RESTORE]                  = { "down",           "no-disk unmanaged active locked " HOLDS " preview unusable busy-disk foreign" },
    [VERB_SNAPSHOT_CLONE]                    = { "up paused down saving_state powering_down suspended", "no-disk unmanaged active locked " HOLDS " preview unusable no-config config-only" },
    [VERB_VM_CLONE]                 = { "down",           "no-disk unmanaged " HOLDS " preview busy-disk foreign" },
    [VERB_VM_START]                 = { "paused down suspended", "taking changing power held silent" },
    [VERB_VM_STOP]                  = { "up paused powering_down suspended", "power held silent" },
    [VERB_VM_SHUTDOWN]              = { "up", "power held silent" },
    [VERB_VM_REBOOT]                = { "up", "power held silent" },
    [VERB_VM_RESET]                 = { "up paused", "power held silent" },
    [VERB_VM_SUSPEND]                  = { "up paused",             HOLDS " preview busy-disk foreign", "VM_CANNOT_SUSPENDE_HAS_RUNNING_TASKS" },
    [VERB_VM_FREEZE]                = { "up",             "taking changing power held silent no-agent" },
    [VERB_VM_THAW]                  = { "up",             "taking changing power held silent no-agent" },
    [VERB_VM_UPDATE]                = { "up paused down suspended", "taking changing power held silent" },
    [VERB_VM_RENAME]                = { "down",           HOLDS " foreign" },
    [VERB_VM_REMOVE]                = { "down",           HOLDS " preview foreign" },
    [VERB_DOCTOR]                   = { "up paused down suspended", HOLDS " foreign" },
    [VERB_JOB_CANCEL]               = { STATES,           "job-others job-ended job-late" },
    [VERB_JOB_RESUME]               = { STATES,           "job-others job-ended job-runs" },
};

/* In the order of precedence, without the state. */
static const struct { const char *word; ErrorCode code; const char *key, *says; } causes[CONDITION_LAST] = {
    [COND_NO_DISK]        = { "no-disk",    ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_HAS_NO_DISKS", "no disk" },
    [COND_UNMANAGED]      = { "unmanaged",  ERR_REFUSED,     "ACTION_TYPE_FAILED_DISK_SNAPSHOT_NOT_SUPPORTED", "all on tape" },
    [COND_ACTIVE]         = { "active",     ERR_REFUSED,     NULL, "which the VM runs on" },
    [COND_LOCKED]         = { "locked",     ERR_BUSY,        "ACTION_TYPE_FAILED_VM_IS_DURING_SNAPSHOT", "locked by job j1 (deleting a); wait for it or cancel it: livemerge job cancel j1" },
    [COND_TAKING]         = { "taking",     ERR_BUSY,        "ACTION_TYPE_FAILED_SNAPSHOT_IS_BEING_TAKEN_FOR_VM", "job cancel j1" },
    [COND_DELETING]       = { "deleting",   ERR_BUSY,        "ACTION_TYPE_FAILED_VM_IS_DURING_SNAPSHOT", "held by job j1 (deleting a)" },
    [COND_CHANGING]       = { "changing",   ERR_BUSY,        "ACTION_TYPE_FAILED_VM_IS_DURING_SNAPSHOT", "held by job j1 (deleting a)" },
    [COND_SHUTDOWN]       = { "shutdown",   ERR_BUSY,        "ACTION_TYPE_FAILED_OBJECT_LOCKED", "held by job j1 (deleting a)" },
    [COND_POWER]          = { "power",      ERR_BUSY,        "ACTION_TYPE_FAILED_OBJECT_LOCKED", "held by job j1 (deleting a)" },
    [COND_HELD]           = { "held",       ERR_BUSY,        "ACTION_TYPE_FAILED_OBJECT_LOCKED", "held by job j1 (deleting a)" },
    [COND_SILENT]         = { "silent",     ERR_UNREACHABLE, "ACTION_TYPE_FAILED_VM_STATUS_ILLEGAL", "its host 'h1' does not answer (no route)" },
    [COND_STATE]          = { "state",      ERR_REFUSED,     NULL, "" },
    [COND_PREVIEW]        = { "preview",    ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IN_PREVIEW", "snapshot 'older' is being previewed" },
    [COND_NO_PREVIEW]     = { "no-preview", ERR_INVALID,     "ACTION_TYPE_FAILED_VM_SNAPSHOT_NOT_IN_PREVIEW", "no snapshot" },
    [COND_UNUSABLE]       = { "unusable",   ERR_REFUSED,     "ACTION_TYPE_FAILED_DISKS_ILLEGAL", "livemerge snapshot delete web1 s0" },
    [COND_NO_CONFIG]      = { "no-config",  ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_SNAPSHOT_HAS_NO_CONFIGURATION", "definition" },
    [COND_CONFIG_ONLY]    = { "config-only", ERR_REFUSED,    "ACTION_TYPE_FAILED_VM_HAS_NO_DISKS", "holds the configuration alone" },
    [COND_DISK_UNMANAGED] = { "bad-disk",   ERR_REFUSED,     "ACTION_TYPE_FAILED_DISK_SNAPSHOT_NOT_SUPPORTED", "disk vda can have no snapshots: a cable" },
    [COND_DISK_BUSY]      = { "busy-disk",  ERR_REFUSED,     "ACTION_TYPE_FAILED_DISKS_LOCKED", "virsh blockjob web1 vda --abort" },
    [COND_FOREIGN]        = { "foreign",    ERR_BUSY,        "ACTION_TYPE_FAILED_VM_IS_DURING_BACKUP", "a backup that livemerge did not start" },
    [COND_NO_AGENT]       = { "no-agent",   ERR_REFUSED,     NULL, "guest agent" },
    [COND_JOB_OTHERS]     = { "job-others", ERR_REFUSED,     NULL, "it is another program's" },
    [COND_JOB_ENDED]      = { "job-ended",  ERR_REFUSED,     NULL, "job j2 (renaming b): it has already ended" },
    [COND_JOB_LATE]       = { "job-late",   ERR_REFUSED,     NULL, "it is at 'forget' and cannot be cancelled any more" },
    [COND_JOB_RUNS]       = { "job-runs",   ERR_REFUSED,     NULL, "livemerge job show j2" },
};

/* oVirt has one word for every wrong state with these. */
static const struct { Verb verb; const char *key; } state_keys[] = {
    { VERB_SNAPSHOT_DELETE, "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN_OR_UP" },
    { VERB_SNAPSHOT_PLAN,            "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN_OR_UP" },
    { VERB_SNAPSHOT_PREVIEW,         "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN" },
    { VERB_SNAPSHOT_COMMIT,          "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN" },
    { VERB_SNAPSHOT_UNDO,            "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN" },
    { VERB_SNAPSHOT_RESTORE,         "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN" },
    { VERB_VM_CLONE,                 "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN" },
    { VERB_VM_FREEZE,                "ACTION_TYPE_FAILED_VM_STATUS_ILLEGAL" },
    { VERB_VM_THAW,                  "ACTION_TYPE_FAILED_VM_STATUS_ILLEGAL" },
};
/* clang-format on */

static bool
has_word(const char *words, const char *word)
{
    g_auto(GStrv) list = g_strsplit(words, " ", -1);

    return g_strv_contains((const char *const *)list, word);
}

/* ---- a VM of which nothing is in the way ---- */

typedef struct {
    Vm *vm;
    VerbContext context;
} Case;

static Case
case_new(Verb verb)
{
    Case c = { .vm = make_vm(3) };
    g_auto(GStrv) states = g_strsplit(wanted[verb].states, " ", -1);
    Snapshot *snapshot = c.vm->snapshots->pdata[0];

    snapshot->config = g_strdup("<domain/>");
    c.vm->state = vm_state_from_word(states[0]);
    c.vm->host = g_strdup("h1");
    c.vm->agent_connected = true;
    c.context.snapshot = verb_subject(verb) == SUBJECT_SNAPSHOT ? snapshot : NULL;
    c.context.job_id = "j2";
    c.context.job = "renaming b";
    c.context.job_step = "forget";
    c.context.job_paused = true;
    if (verb == VERB_SNAPSHOT_COMMIT || verb == VERB_SNAPSHOT_UNDO)
        c.context.preview = "older";
    return c;
}

static void
case_clear(Case *c)
{
    vm_free(c->vm);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Case, case_clear)

static void
hold(Case *c, Hold kind, bool locked)
{
    c->context.busy_job_id = "j1";
    c->context.busy_job = "deleting a";
    c->context.hold = kind;
    c->context.locked = locked;
}

static void
of_config_alone(Snapshot *snapshot)
{
    g_ptr_array_set_size(snapshot->disks, 0);
    snapshot->config_only = true;
}

static void
of_vm(Case *c, Condition condition)
{
    Disk *disk = c->vm->disks->pdata[0];

    if (condition == COND_NO_DISK)
        g_ptr_array_set_size(c->vm->disks, 0);
    else if (condition == COND_UNMANAGED)
        c->vm->unmanaged = g_strdup("all on tape");
    else if (condition == COND_NO_AGENT)
        c->vm->agent_connected = false;
    else if (condition == COND_UNUSABLE)
        ((SnapshotDisk *)((Snapshot *)c->vm->snapshots->pdata[0])->disks->pdata[0])->unusable =
            true;
    else if (condition == COND_NO_CONFIG)
        g_clear_pointer(&((Snapshot *)c->vm->snapshots->pdata[0])->config, g_free);
    else if (condition == COND_CONFIG_ONLY)
        of_config_alone(c->vm->snapshots->pdata[0]);
    else if (condition == COND_DISK_UNMANAGED)
        disk->unmanaged = g_strdup("a cable");
    else if (condition == COND_DISK_BUSY)
        disk->busy = g_strdup("a block job (copy)");
}

/* Makes it so. */
static void
apply(Case *c, Condition condition)
{
    static const Hold holds[CONDITION_LAST] = {
        [COND_LOCKED] = HOLD_DELETING,   [COND_TAKING] = HOLD_TAKING,
        [COND_DELETING] = HOLD_DELETING, [COND_CHANGING] = HOLD_SNAPSHOTS,
        [COND_SHUTDOWN] = HOLD_SHUTDOWN, [COND_POWER] = HOLD_POWER,
        [COND_HELD] = HOLD_OTHER
    };

    if (condition >= COND_LOCKED && condition <= COND_HELD)
        hold(c, holds[condition], condition == COND_LOCKED);
    of_vm(c, condition);
    if (condition == COND_ACTIVE) {
        c->context.active = true;
        c->context.snapshot = NULL;
    }
    if (condition == COND_SILENT)
        c->context.host_problem = "no route";
    if (condition == COND_PREVIEW || condition == COND_NO_PREVIEW)
        c->context.preview = condition == COND_PREVIEW ? "older" : NULL;
    if (condition == COND_DISK_UNMANAGED)
        c->context.bad_disk = c->vm->disks->pdata[0];
    if (condition == COND_DISK_BUSY)
        c->context.busy_disk = c->vm->disks->pdata[0];
    if (condition == COND_FOREIGN)
        c->context.foreign_job = "backup";
    c->context.job_others = condition == COND_JOB_OTHERS;
    c->context.job_ended = condition == COND_JOB_ENDED;
    c->context.job_late = condition == COND_JOB_LATE;
    c->context.job_paused = condition != COND_JOB_RUNS;
}

/* ---- every cell ---- */

/* What was refused is worded: names, nothing left open, and the same for programs. */
static void
check_words(Verb verb, const Case *c, const GError *error)
{
    const ErrorReason *reason = error_reason(error);
    g_autoptr(json_t) answer = verb_answer(verb, error);
    const char *name = verb_subject(verb) == SUBJECT_JOB ? "job j2" : "VM 'web1'";

    g_assert_true(g_str_has_prefix(error->message, "cannot "));
    g_assert_nonnull(strstr(error->message, verb_word(verb)));
    g_assert_nonnull(strstr(error->message, name));
    g_assert_null(strchr(error->message, '{'));
    g_assert_null(strchr(error->message, '?'));
    g_assert_nonnull(strstr(error->message, reason->why));
    g_assert_true(reason->help == NULL || g_str_has_suffix(error->message, reason->help));
    g_assert_cmpstr(json_text(answer, "name"), ==, verb_name(verb));
    g_assert_false(json_flag(answer, "possible"));
    g_assert_cmpstr(json_text(answer, "code"), ==, error_word(error));
    g_assert_cmpstr(json_text(answer, "key"), ==, reason->key);
    g_assert_cmpstr(json_text(answer, "why"), ==, reason->why);
    g_assert_cmpstr(json_text(answer, "help"), ==, reason->help);
    g_assert_cmpstr(json_text(answer, "job_id"), ==, reason->job_id);
}

static void
try_cell(Verb verb, const Case *c, bool possible, ErrorCode code, const char *key, const char *says)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(verb_allowed(verb, c->vm, &c->context, &error), ==, possible);
    if (possible) {
        g_autoptr(json_t) answer = verb_answer(verb, NULL);
        g_assert_no_error(error);
        g_assert_true(json_flag(answer, "possible"));
        g_assert_cmpuint(json_object_size(answer), ==, 2);
        return;
    }
    g_test_message("%s", error->message);
    g_assert_error(error, ERR, (int)code);
    if (key != NULL)
        g_assert_cmpstr(error_reason(error)->key, ==, key);
    if (strstr(error->message, says) == NULL)
        g_error("'%s' does not say '%s'", error->message, says);
    check_words(verb, c, error);
}

static const char *
state_key(Verb verb)
{
    for (size_t i = 0; i < G_N_ELEMENTS(state_keys); i++)
        if (state_keys[i].verb == verb)
            return state_keys[i].key;
    return NULL;
}

static void
test_every_state(void)
{
    for (Verb verb = 0; verb < VERB_LAST; verb++) {
        for (VmState state = 0; state < VM_STATE_LAST; state++) {
            g_auto(Case) c = case_new(verb);
            g_autoptr(GError) error = NULL;
            bool possible = has_word(wanted[verb].states, vm_state_word(state));

            g_test_message("%s, %s", verb_name(verb), vm_state_word(state));
            c.vm->state = state;
            try_cell(verb, &c, possible, state == VM_UNKNOWN ? ERR_UNREACHABLE : ERR_REFUSED,
                     state_key(verb), "");
            g_assert_cmpint(verb_state_allowed(verb, c.vm, &error), ==, possible);
        }
    }
}

/* A condition that says nothing of what the verb is about: its cell must be empty. */
static bool
is_of_another(Verb verb, Condition condition)
{
    bool of_snapshot = condition == COND_ACTIVE || condition == COND_LOCKED ||
                       condition == COND_UNUSABLE || condition == COND_NO_CONFIG ||
                       condition == COND_CONFIG_ONLY;
    Refusal refusal;
    bool another = (of_snapshot && verb_subject(verb) != SUBJECT_SNAPSHOT) ||
                   (condition >= COND_JOB_OTHERS && verb_subject(verb) != SUBJECT_JOB) ||
                   condition == COND_STATE;

    g_assert_true(!another || !verb_condition_refuses(verb, condition, &refusal));
    return another;
}

static void
test_every_condition(void)
{
    for (Verb verb = 0; verb < VERB_LAST; verb++) {
        for (Condition condition = 0; condition < CONDITION_LAST; condition++) {
            g_auto(Case) c = case_new(verb);
            const char *word = causes[condition].word;

            if (is_of_another(verb, condition))
                continue;
            g_test_message("%s, %s", verb_name(verb), word);
            bool goes_back = verb == VERB_SNAPSHOT_PREVIEW || verb == VERB_SNAPSHOT_RESTORE;
            ErrorCode code = condition == COND_ACTIVE && goes_back ? ERR_INVALID /* oVirt: 400 */
                                                                   : causes[condition].code;
            bool of_job = condition >= COND_TAKING && condition <= COND_HELD;
            apply(&c, condition);
            try_cell(verb, &c, !has_word(wanted[verb].conditions, word), code,
                     of_job && wanted[verb].job_key != NULL ? wanted[verb].job_key
                                                            : causes[condition].key,
                     causes[condition].says);
        }
    }
}

/* Of two that both refuse, the one that comes first is told. */
static void
test_precedence(void)
{
    for (Condition first = 0; first < COND_JOB_OTHERS; first++) {
        for (Condition later = first + 1; later < COND_JOB_OTHERS; later++) {
            g_auto(Case) c = case_new(VERB_SNAPSHOT_DELETE);
            g_autoptr(GError) error = NULL;
            Refusal refusal;

            if (!verb_condition_refuses(VERB_SNAPSHOT_DELETE, first, &refusal) ||
                (later > COND_LOCKED && later <= COND_HELD) || later == COND_DISK_UNMANAGED ||
                first == COND_NO_DISK)
                continue;
            apply(&c, later);
            apply(&c, first);
            if (first < COND_STATE)
                c.vm->state = VM_SAVING;
            g_assert_false(verb_allowed(VERB_SNAPSHOT_DELETE, c.vm, &c.context, &error));
            g_test_message("%s and %s: %s", causes[first].word, causes[later].word, error->message);
            g_assert_error(error, ERR, (int)causes[first].code);
            g_assert_nonnull(strstr(error->message, causes[first].says));
        }
    }
}

/* Nobody shuts a VM down for an end of a preview that there is not; of one that nobody could look
 * at that is not known. */
static void
test_no_preview_at_all(void)
{
    static const struct {
        VmState state;
        const char *says;
    } rows[] = {
        { VM_UP, "no snapshot of it is being previewed" },
        { VM_DOWN, "no snapshot of it is being previewed" },
        { VM_UNKNOWN, "its state is not known" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Case) c = case_new(VERB_SNAPSHOT_UNDO);
        g_autoptr(GError) error = NULL;

        c.context.preview = NULL;
        c.vm->state = rows[i].state;
        g_assert_false(verb_allowed(VERB_SNAPSHOT_UNDO, c.vm, &c.context, &error));
        if (strstr(error->message, rows[i].says) == NULL)
            g_error("'%s' does not say '%s'", error->message, rows[i].says);
    }
}

/* A command that helps is copied as it stands. */
static void
test_quoted(void)
{
    g_auto(Case) c = case_new(VERB_SNAPSHOT_PREVIEW);
    g_autoptr(GError) error = NULL;

    g_free(c.vm->name);
    c.vm->name = g_strdup("two words");
    c.vm->state = VM_UP;
    g_assert_false(verb_allowed(VERB_SNAPSHOT_PREVIEW, c.vm, &c.context, &error));
    g_assert_cmpstr(error->message, ==,
                    "cannot preview snapshot 's0' of VM 'two words': it is not off; shut it down "
                    "first: livemerge vm shutdown 'two words'");
}

/* The whole of one message: as people read it. */
static void
test_messages(void)
{
    static const struct {
        Verb verb;
        Condition condition;
        const char *message;
    } rows[] = {
        { VERB_SNAPSHOT_CREATE, COND_TAKING,
          "cannot create a snapshot of VM 'web1': it is held by job j1 (deleting a); wait for it "
          "or cancel it: livemerge job cancel j1" },
        { VERB_SNAPSHOT_DELETE, COND_LOCKED,
          "cannot delete snapshot 's0' of VM 'web1': it is locked by job j1 (deleting a); wait "
          "for it or cancel it: livemerge job cancel j1" },
        { VERB_SNAPSHOT_PREVIEW, COND_ACTIVE,
          "cannot preview the active snapshot of VM 'web1': it is the active snapshot, which the "
          "VM runs on; name another one" },
        { VERB_SNAPSHOT_COMMIT, COND_NO_PREVIEW,
          "cannot commit the preview of VM 'web1': no snapshot of it is being previewed; preview "
          "one first" },
        { VERB_JOB_CANCEL, COND_JOB_LATE,
          "cannot cancel job j2 (renaming b): it is at 'forget' and cannot be cancelled any "
          "more; it ends by itself" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Case) c = case_new(rows[i].verb);
        g_autoptr(GError) error = NULL;

        apply(&c, rows[i].condition);
        g_assert_false(verb_allowed(rows[i].verb, c.vm, &c.context, &error));
        g_assert_cmpstr(error->message, ==, rows[i].message);
    }
}

/* Its host answers, and says why the state of the VM is not known: that is told, not silence. */
static void
test_unknown_but_told(void)
{
    g_auto(Case) c = case_new(VERB_VM_START);
    g_autoptr(GError) told = NULL;
    g_autoptr(GError) silent = NULL;

    c.vm->state = VM_UNKNOWN;
    g_free(c.vm->unmanaged);
    c.vm->unmanaged = g_strdup("its QEMU runs");
    g_assert_false(verb_allowed(VERB_VM_START, c.vm, &c.context, &told));
    g_assert_error(told, ERR, ERR_UNREACHABLE);
    g_assert_cmpstr(told->message, ==, "cannot start VM 'web1': its QEMU runs");
    c.context.host_problem = "no answer yet";
    g_assert_false(verb_allowed(VERB_VM_START, c.vm, &c.context, &silent));
    g_assert_null(strstr(silent->message, "QEMU"));
}

static void
test_create_verbs(void)
{
    g_assert_cmpint(verb_of_create(true, "require"), ==, VERB_SNAPSHOT_CREATE_MEMORY);
    g_assert_cmpint(verb_of_create(false, "require"), ==, VERB_SNAPSHOT_CREATE_QUIESCED);
    g_assert_cmpint(verb_of_create(false, "auto"), ==, VERB_SNAPSHOT_CREATE);
    g_assert_cmpint(verb_of_create(false, NULL), ==, VERB_SNAPSHOT_CREATE);
}

/* What an error carries goes with it wherever it is handed on. */
static void
test_reason_travels(void)
{
    g_auto(Case) c = case_new(VERB_SNAPSHOT_DELETE);
    g_autoptr(GError) error = NULL, copy = NULL, handed_on = NULL;

    apply(&c, COND_LOCKED);
    g_assert_false(verb_allowed(VERB_SNAPSHOT_DELETE, c.vm, &c.context, &error));
    copy = g_error_copy(error);
    g_propagate_prefixed_error(&handed_on, g_steal_pointer(&error), "well: ");
    g_assert_cmpstr(error_reason(copy)->key, ==, "ACTION_TYPE_FAILED_VM_IS_DURING_SNAPSHOT");
    g_assert_cmpstr(error_reason(copy)->job_id, ==, "j1");
    g_assert_cmpstr(error_reason(handed_on)->why, ==, error_reason(copy)->why);
    g_assert_cmpstr(error_reason(handed_on)->help, ==, error_reason(copy)->help);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/verbs/every-state", test_every_state);
    g_test_add_func("/verbs/every-condition", test_every_condition);
    g_test_add_func("/verbs/precedence", test_precedence);
    g_test_add_func("/verbs/no-preview-at-all", test_no_preview_at_all);
    g_test_add_func("/verbs/quoted", test_quoted);
    g_test_add_func("/verbs/messages", test_messages);
    g_test_add_func("/verbs/unknown-but-told", test_unknown_but_told);
    g_test_add_func("/verbs/create", test_create_verbs);
    g_test_add_func("/verbs/reason-travels", test_reason_travels);
    return g_test_run();
}
