/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The table of verbs.h. Whoever builds an operation sets its two rows here; model_verbs_test.c
 * tries every cell, and 'make docs' writes docs/states.md anew.
 */
#include "model/verbs.h"

/* clang-format off */
/*    refusal          error            oVirt's key                                              why it is so, what helps */
#define REFUSAL_TABLE(X) \
    X(REF_UNKNOWN,     ERR_UNREACHABLE, "ACTION_TYPE_FAILED_VM_STATUS_ILLEGAL",                "its host does not answer, so its state is not known", "try again when it is back") \
    X(REF_MIGRATING,   ERR_REFUSED,     "ACTION_TYPE_FAILED_MIGRATION_IN_PROGRESS",            "it is migrating", "wait until it runs on its new host") \
    X(REF_SAVING,      ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_SAVING_RESTORING",           "its state is being saved", "wait until that has ended") \
    X(REF_ENDING,      ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_STATUS_ILLEGAL",                "it is shutting down", "wait until it is down") \
    X(REF_SUSPENDED,   ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_STATUS_ILLEGAL",                "it is suspended, and its saved memory belongs to the present leaves", "resume it first") \
    X(REF_ASLEEP,      ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_RUNNING",                "it is suspended", "start it: it goes on where it was") \
    X(REF_NO_MEMORY,   ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_RUNNING",                "the VM is not running", "a snapshot without memory is possible") \
    X(REF_NO_GUEST,    ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_UP",                     "its guest does not run, so nothing can freeze its file systems", "quiesce=auto takes the snapshot without") \
    X(REF_OFF,         ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_RUNNING",                "it is not running", "nothing needs to be done") \
    X(REF_NOT_UP,      ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_UP",                     "it is not running", "start it first") \
    X(REF_PAUSED,      ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_UP",                     "it is paused, so its guest would not hear of it", "resume it first, or power it off") \
    X(REF_ALREADY,     ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_UP",                     "it is suspended already", "nothing needs to be done") \
    X(REF_RUNNING,     ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_RUNNING",                    "it is running already", "nothing needs to be done") \
    X(REF_REMOVE_UP,   ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_RUNNING",                    "it is not off", "shut it down first: livemerge vm shutdown {vm}") \
    X(REF_NOT_DOWN,    ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN",                   "it is not off", "shut it down first: livemerge vm shutdown {vm}") \
    X(REF_CLONE_OFF,   ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN",                   "it is not off, and what it writes would change meanwhile", "take a snapshot of it and clone that: livemerge vm clone {vm} NAME --snapshot SNAPSHOT") \
    X(REF_UNMANAGED,   ERR_REFUSED,     "ACTION_TYPE_FAILED_DISK_SNAPSHOT_NOT_SUPPORTED",      "{unmanaged}", "") \
    X(REF_NO_DISK,     ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_HAS_NO_DISKS",                  "it has no disk that can have snapshots", "attach one") \
    X(REF_ACTIVE,      ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_SNAPSHOT_TYPE_NOT_REGULAR",     "it is the active snapshot, which the VM runs on", "name another one") \
    X(REF_ACTIVE_PREV, ERR_INVALID,     "CANNOT_PREVIEW_ACTIVE_SNAPSHOT",                      "it is the active snapshot, which the VM runs on", "name another one") \
    X(REF_LOCKED,      ERR_BUSY,        "ACTION_TYPE_FAILED_VM_IS_DURING_SNAPSHOT",            "it is locked by job {job_id} ({job})", "wait for it or cancel it: livemerge job cancel {job_id}") \
    X(REF_TAKING,      ERR_BUSY,        "ACTION_TYPE_FAILED_SNAPSHOT_IS_BEING_TAKEN_FOR_VM",   "it is held by job {job_id} ({job})", "wait for it or cancel it: livemerge job cancel {job_id}") \
    X(REF_SNAPSHOTS,   ERR_BUSY,        "ACTION_TYPE_FAILED_VM_IS_DURING_SNAPSHOT",            "it is held by job {job_id} ({job})", "wait for it or cancel it: livemerge job cancel {job_id}") \
    X(REF_HELD,        ERR_BUSY,        "ACTION_TYPE_FAILED_OBJECT_LOCKED",                    "it is held by job {job_id} ({job})", "wait for it or cancel it: livemerge job cancel {job_id}") \
    X(REF_TASKS,       ERR_BUSY,        "VM_CANNOT_SUSPENDE_HAS_RUNNING_TASKS",                "it is held by job {job_id} ({job})", "wait for it or cancel it: livemerge job cancel {job_id}") \
    X(REF_SILENT,      ERR_UNREACHABLE, "ACTION_TYPE_FAILED_VM_STATUS_ILLEGAL",                "its host '{host}' does not answer ({problem}), and nothing was begun", "see to livemerge-agent there, and try again when it answers") \
    X(REF_PREVIEW,     ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_IN_PREVIEW",                    "snapshot '{preview}' is being previewed", "keep that (livemerge snapshot commit {vm}) or go back (livemerge snapshot undo {vm}) first") \
    X(REF_NO_PREVIEW,  ERR_INVALID,     "ACTION_TYPE_FAILED_VM_SNAPSHOT_NOT_IN_PREVIEW",       "no snapshot of it is being previewed", "preview one first") \
    X(REF_UNUSABLE,    ERR_REFUSED,     "ACTION_TYPE_FAILED_DISKS_ILLEGAL",                    "it is unusable, because its deletion has begun", "finish that: livemerge snapshot delete {vm} {snapshot}") \
    X(REF_NO_CONFIG,   ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_SNAPSHOT_HAS_NO_CONFIGURATION", "no definition of the VM was kept with it", "name another one") \
    X(REF_CONFIG_ONLY, ERR_REFUSED,     "ACTION_TYPE_FAILED_VM_HAS_NO_DISKS",                  "it holds the configuration alone, so the new VM would have no disk", "clone another one, or the VM itself when it is off") \
    X(REF_BAD_DISK,    ERR_REFUSED,     "ACTION_TYPE_FAILED_DISK_SNAPSHOT_NOT_SUPPORTED",      "disk {disk} can have no snapshots: {disk_why}", "name the disks without it") \
    X(REF_BUSY_DISK,   ERR_REFUSED,     "ACTION_TYPE_FAILED_DISKS_LOCKED",                     "disk {disk}: {disk_busy}", "") \
    X(REF_FOREIGN,     ERR_BUSY,        "ACTION_TYPE_FAILED_VM_IS_DURING_BACKUP",              "a {foreign} that livemerge did not start is under way", "wait until it has ended") \
    X(REF_NO_AGENT,    ERR_REFUSED,     "",                                                    "its guest agent does not answer, so nothing can freeze its file systems", "quiesce=auto takes the snapshot without") \
    X(REF_DEAF,        ERR_REFUSED,     "",                                                    "its guest agent does not answer, and nothing else can freeze or thaw its file systems", "see to it that qemu-guest-agent runs in the guest") \
    X(REF_JOB_OTHERS,  ERR_REFUSED,     "",                                                    "it is another program's", "that program alone can stop it") \
    X(REF_JOB_ENDED,   ERR_REFUSED,     "",                                                    "it has already ended", "nothing needs to be done") \
    X(REF_JOB_LATE,    ERR_REFUSED,     "",                                                    "it is at '{step}' and cannot be cancelled any more", "it ends by itself") \
    X(REF_JOB_RUNS,    ERR_REFUSED,     "",                                                    "it has not paused, and there is nothing to resume", "'livemerge job show {job_id}' tells how it goes")
/* clang-format on */

#define X(name, code, key, why, help) name,
enum { REF_NONE, REFUSAL_TABLE(X) REF_LAST };
#undef X

static const Refusal refusals[REF_LAST] = {
#define X(name, code, key, why, help) [name] = { code, key, why, help },
    REFUSAL_TABLE(X)
#undef X
};

/* ---- operation × state of the VM ---- */

/* clang-format off */
#define may        REF_NONE
#define UNKNOWN    REF_UNKNOWN
#define MIGRATING  REF_MIGRATING
#define SAVING     REF_SAVING
#define ENDING     REF_ENDING
#define SUSPENDED  REF_SUSPENDED
#define ASLEEP     REF_ASLEEP
#define OFF        REF_OFF
#define NOT_UP     REF_NOT_UP
#define NOT_DOWN   REF_NOT_DOWN
#define PAUSED     REF_PAUSED
#define RUNNING    REF_RUNNING

#define DOWN_OR_UP "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN_OR_UP"
#define NOT_DOWN_KEY "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN"
#define ILLEGAL_KEY "ACTION_TYPE_FAILED_VM_STATUS_ILLEGAL"

static const struct {
    unsigned char cell[VM_STATE_LAST];
    const char *key; /* that oVirt has for every wrong state with this operation; NULL = the refusal's own */
} states[VERB_LAST] = {
    /*                                    unknown  up        paused        down           migrating  saving_state powering_down suspended */
    [VERB_SNAPSHOT_CREATE]            = { { UNKNOWN, may,      may,          may,           MIGRATING, SAVING,      ENDING,       SUSPENDED } },
    [VERB_SNAPSHOT_CREATE_MEMORY]     = { { UNKNOWN, may,      may,          REF_NO_MEMORY, MIGRATING, SAVING,      ENDING,       SUSPENDED } },
    [VERB_SNAPSHOT_CREATE_QUIESCED]   = { { UNKNOWN, may,      REF_NO_GUEST, REF_NO_GUEST,  MIGRATING, SAVING,      ENDING,       SUSPENDED } },
    [VERB_SNAPSHOT_DELETE]            = { { UNKNOWN, may,      may,          may,           MIGRATING, SAVING,      ENDING,       SUSPENDED }, DOWN_OR_UP },
    [VERB_SNAPSHOT_PLAN]              = { { UNKNOWN, may,      may,          may,           MIGRATING, SAVING,      ENDING,       SUSPENDED }, DOWN_OR_UP },
    [VERB_SNAPSHOT_RENAME]            = { { UNKNOWN, may,      may,          may,           may,       may,         may,          may } },
    [VERB_SNAPSHOT_PREVIEW]           = { { UNKNOWN, NOT_DOWN, NOT_DOWN,     may,           MIGRATING, SAVING,      ENDING,       SUSPENDED }, NOT_DOWN_KEY },
    [VERB_SNAPSHOT_COMMIT]            = { { UNKNOWN, NOT_DOWN, NOT_DOWN,     may,           MIGRATING, SAVING,      ENDING,       SUSPENDED }, NOT_DOWN_KEY },
    [VERB_SNAPSHOT_UNDO]              = { { UNKNOWN, NOT_DOWN, NOT_DOWN,     may,           MIGRATING, SAVING,      ENDING,       SUSPENDED }, NOT_DOWN_KEY },
    [VERB_SNAPSHOT_RESTORE]           = { { UNKNOWN, NOT_DOWN, NOT_DOWN,     may,           MIGRATING, SAVING,      ENDING,       SUSPENDED }, NOT_DOWN_KEY },
    [VERB_SNAPSHOT_CLONE]             = { { UNKNOWN, may,      may,          may,           MIGRATING, may,         may,          may } },
    /* a running one is cloned from a snapshot */
    [VERB_VM_CLONE]                   = { { UNKNOWN, REF_CLONE_OFF, REF_CLONE_OFF, may,    MIGRATING, SAVING,      ENDING,       SUSPENDED }, NOT_DOWN_KEY },
    [VERB_VM_START]                   = { { UNKNOWN, RUNNING,  may,          may,           MIGRATING, SAVING,      ENDING,       may } },
    [VERB_VM_STOP]                    = { { UNKNOWN, may,      may,          OFF,           MIGRATING, SAVING,      may,          may } },
    [VERB_VM_SHUTDOWN]                = { { UNKNOWN, may,      PAUSED,       OFF,           MIGRATING, SAVING,      ENDING,       ASLEEP } },
    [VERB_VM_REBOOT]                  = { { UNKNOWN, may,      PAUSED,       NOT_UP,        MIGRATING, SAVING,      ENDING,       ASLEEP } },
    [VERB_VM_RESET]                   = { { UNKNOWN, may,      may,          NOT_UP,        MIGRATING, SAVING,      ENDING,       ASLEEP } },
    [VERB_VM_SUSPEND]                 = { { UNKNOWN, may,      may,          NOT_UP,        MIGRATING, SAVING,      ENDING,       REF_ALREADY } },
    [VERB_VM_FREEZE]                  = { { UNKNOWN, may,      PAUSED,       NOT_UP,        MIGRATING, SAVING,      ENDING,       ASLEEP }, ILLEGAL_KEY },
    [VERB_VM_THAW]                    = { { UNKNOWN, may,      PAUSED,       NOT_UP,        MIGRATING, SAVING,      ENDING,       ASLEEP }, ILLEGAL_KEY },
    [VERB_VM_UPDATE]                  = { { UNKNOWN, may,      may,          may,           MIGRATING, SAVING,      ENDING,       may } },
    [VERB_VM_RENAME]                  = { { UNKNOWN, NOT_DOWN, NOT_DOWN,     may,           MIGRATING, SAVING,      ENDING,       SUSPENDED } },
    [VERB_VM_REMOVE]                  = { { UNKNOWN, REF_REMOVE_UP, REF_REMOVE_UP, may,     MIGRATING, SAVING,      ENDING,       NOT_DOWN } },
    /* what needs a VM that is off looks again */
    [VERB_DOCTOR]                     = { { UNKNOWN, may,      may,          may,           MIGRATING, SAVING,      ENDING,       may } },
    /* jobs: the VM does not matter */
    [VERB_JOB_CANCEL]                 = { { may,     may,      may,          may,           may,       may,         may,          may } },
    [VERB_JOB_RESUME]                 = { { may,     may,      may,          may,           may,       may,         may,          may } },
};

/* ---- operation × condition ---- */

#define o REF_NONE /* does not matter */
#define x REF_LAST /* refused, as CONDITION_TABLE has it */

static const unsigned char conditions[VERB_LAST][CONDITION_LAST] = {
    /*                                  no   un-  act-             lock- tak-       del-       chan-      shut-      pow-       held       si-  no pr state pre- unus- no   conf bad  busy for- no    job    job   job  job
     *                                  disk mngd ive              ed    ing        eting      ging       down       er                    lent eview       view able  conf only disk disk eign agent others ended late runs */
    [VERB_SNAPSHOT_CREATE]          = { x,   x,   o,               o,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    o,    o,   o,   x,   x,   x,   o,    o,     o,    o,   o },
    [VERB_SNAPSHOT_CREATE_MEMORY]   = { x,   x,   o,               o,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    o,    o,   o,   x,   x,   x,   o,    o,     o,    o,   o },
    [VERB_SNAPSHOT_CREATE_QUIESCED] = { x,   x,   o,               o,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    o,    o,   o,   x,   x,   x,   x,    o,     o,    o,   o },
    [VERB_SNAPSHOT_DELETE]          = { x,   x,   x,               x,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    o,    o,   o,   o,   x,   x,   o,    o,     o,    o,   o },
    /* what is in the way of the disks is told by the plan */
    [VERB_SNAPSHOT_PLAN]            = { x,   x,   x,               x,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    o,    o,   o,   o,   o,   o,   o,    o,     o,    o,   o },
    /* a new name touches no disk */
    [VERB_SNAPSHOT_RENAME]          = { x,   x,   x,               x,    x,         x,         x,         x,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    o,     o,    o,   o },
    [VERB_SNAPSHOT_PREVIEW]         = { x,   x,   REF_ACTIVE_PREV, x,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    x,    o,   o,   o,   x,   x,   o,    o,     o,    o,   o },
    [VERB_SNAPSHOT_COMMIT]          = { x,   x,   o,               o,    x,         x,         x,         x,         x,         x,         x,   x,    o,     o,    o,    o,   o,   o,   x,   x,   o,    o,     o,    o,   o },
    [VERB_SNAPSHOT_UNDO]            = { x,   x,   o,               o,    x,         x,         x,         x,         x,         x,         x,   x,    o,     o,    o,    o,   o,   o,   x,   x,   o,    o,     o,    o,   o },
    [VERB_SNAPSHOT_RESTORE]         = { x,   x,   REF_ACTIVE_PREV, x,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    x,    o,   o,   o,   x,   x,   o,    o,     o,    o,   o },
    [VERB_SNAPSHOT_CLONE]           = { x,   x,   x,               x,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    x,    x,   x,   o,   o,   o,   o,    o,     o,    o,   o },
    [VERB_VM_CLONE]                 = { x,   x,   o,               o,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    o,    o,   o,   o,   x,   x,   o,    o,     o,    o,   o },
    /* a merge goes on with a VM that starts, or stops */
    [VERB_VM_START]                 = { o,   o,   o,               o,    x,         o,         x,         o,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    o,     o,    o,   o },
    [VERB_VM_STOP]                  = { o,   o,   o,               o,    o,         o,         o,         o,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    o,     o,    o,   o },
    [VERB_VM_SHUTDOWN]              = { o,   o,   o,               o,    o,         o,         o,         o,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    o,     o,    o,   o },
    [VERB_VM_REBOOT]                = { o,   o,   o,               o,    o,         o,         o,         o,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    o,     o,    o,   o },
    [VERB_VM_RESET]                 = { o,   o,   o,               o,    o,         o,         o,         o,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    o,     o,    o,   o },
    [VERB_VM_SUSPEND]               = { o,   o,   o,               o,    REF_TASKS, REF_TASKS, REF_TASKS, REF_TASKS, REF_TASKS, REF_TASKS, x,   o,    o,     x,    o,    o,   o,   o,   x,   x,   o,    o,     o,    o,   o },
    /* beside a merge all goes on */
    [VERB_VM_FREEZE]                = { o,   o,   o,               o,    x,         o,         x,         o,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   REF_DEAF, o,  o,    o,   o },
    [VERB_VM_THAW]                  = { o,   o,   o,               o,    x,         o,         x,         o,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   REF_DEAF, o,  o,    o,   o },
    [VERB_VM_UPDATE]                = { o,   o,   o,               o,    x,         o,         x,         o,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    o,     o,    o,   o },
    [VERB_VM_RENAME]                = { o,   o,   o,               o,    x,         x,         x,         x,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   x,   o,    o,     o,    o,   o },
    [VERB_VM_REMOVE]                = { o,   o,   o,               o,    x,         x,         x,         x,         x,         x,         x,   o,    o,     x,    o,    o,   o,   o,   o,   x,   o,    o,     o,    o,   o },
    /* also where a VM is unmanaged: that may be what is mended */
    [VERB_DOCTOR]                   = { o,   o,   o,               o,    x,         x,         x,         x,         x,         x,         x,   o,    o,     o,    o,    o,   o,   o,   o,   x,   o,    o,     o,    o,   o },
    [VERB_JOB_CANCEL]               = { o,   o,   o,               o,    o,         o,         o,         o,         o,         o,         o,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    x,     x,    x,   o },
    [VERB_JOB_RESUME]               = { o,   o,   o,               o,    o,         o,         o,         o,         o,         o,         o,   o,    o,     o,    o,    o,   o,   o,   o,   o,   o,    x,     x,    o,   x },
};

static const unsigned char condition_refusals[CONDITION_LAST] = {
#define X(condition, refusal, text) [condition] = refusal,
    CONDITION_TABLE(X)
#undef X
};
/* clang-format on */

bool
verb_state_refuses(Verb verb, VmState state, Refusal *ret_refusal)
{
    unsigned char cell = states[verb].cell[state];

    *ret_refusal = refusals[cell];
    if (states[verb].key != NULL)
        ret_refusal->key = states[verb].key;
    return cell != REF_NONE;
}

bool
verb_condition_refuses(Verb verb, Condition condition, Refusal *ret_refusal)
{
    unsigned char cell = conditions[verb][condition];

    *ret_refusal = refusals[cell == x ? condition_refusals[condition] : cell];
    return cell != REF_NONE;
}
