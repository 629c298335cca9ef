/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/options.h"
#include "model/diagnosis.h"
#include "model/plan.h"

static const char *const quiesce_words[] = { "no", "auto", "require", NULL };
#define X(strategy, word) word,
static const char *const strategy_words[] = { STRATEGY_TABLE(X) NULL };
static const char *const verify_words[] = { VERIFY_TABLE(X) NULL };
#undef X
#define X(class, word, severity, text) word,
static const char *const class_words[] = { DIAGNOSIS_TABLE(X) NULL };
#undef X

/* clang-format off */
const OptionRow option_rows[OPT_LAST] = {
    [OPT_CONNECT]   = { "connect",   0,   VALUE_TEXT,   "ADDRESS", NULL,
                        "the manager: unix:PATH, https://HOST:PORT or http://HOST:PORT" },
    [OPT_CA]        = { "ca",        0,   VALUE_FILE,   "FILE",    NULL,
                        "PEM file of the authority to trust for https besides the system's" },
    [OPT_INSECURE]  = { "insecure",  0,   VALUE_NONE,   NULL,      NULL,
                        "do not verify the manager's certificate" },
    [OPT_JSON]      = { "json",      0,   VALUE_NONE,   NULL,      NULL,
                        "print the API's JSON document instead of text" },
    [OPT_WAIT]      = { "wait",      0,   VALUE_NONE,   NULL,      NULL,
                        "wait until the job has ended (creating and deleting do by default)" },
    [OPT_NO_WAIT]   = { "no-wait",   0,   VALUE_NONE,   NULL,      NULL,
                        "return once the job was accepted, and print its id" },
    [OPT_TIMEOUT]   = { "timeout",   0,   VALUE_NUMBER, "SECONDS", NULL,
                        "stop waiting after this time (exit code 5); the job goes on" },
    [OPT_YES]       = { "yes",       'y', VALUE_NONE,   NULL,      NULL,
                        "do not ask before deleting" },
    [OPT_HELP]      = { "help",      'h', VALUE_NONE,   NULL,      NULL,
                        "show help for the command" },
    [OPT_VERSION]   = { "version",   0,   VALUE_NONE,   NULL,      NULL,
                        "show the version" },
    [OPT_MEMORY]    = { "memory",    0,   VALUE_NONE,   NULL,      NULL,
                        "save the memory of the running VM as well; preview, restore: 'vm start' goes on from it" },
    [OPT_QUIESCE]   = { "quiesce",   0,   VALUE_CHOICE, "MODE",    quiesce_words,
                        "freeze the guest's file systems: no, auto (if its agent answers), require" },
    [OPT_DISK]      = { "disk",      0,   VALUE_DISK,   "DISK",    NULL,
                        "only this disk (id, name or target like vda); create: may be repeated" },
    [OPT_STRATEGY]  = { "strategy",  0,   VALUE_CHOICE, "WORD",    strategy_words,
                        "how to merge; the default auto takes the cheapest safe way" },
    [OPT_BANDWIDTH] = { "bandwidth", 0,   VALUE_NUMBER, "MIB",     NULL,
                        "at most this many MiB a second for each disk" },
    [OPT_VERIFY]    = { "verify",    0,   VALUE_CHOICE, "HOW",     verify_words,
                        "check before old volumes go: extents (default: their maps), none, full" },
    [OPT_DRY_RUN]   = { "dry-run",   'n', VALUE_NONE,   NULL,      NULL,
                        "only show what would be done; a delete: as 'livemerge plan' does" },
    [OPT_ALL_OPTIONS] = { "all-options", 0, VALUE_NONE, NULL,      NULL,
                        "also every strategy that was not chosen, and why not" },
    [OPT_MAX]       = { "max",       0,   VALUE_NUMBER, "COUNT",   NULL,
                        "at most this many events, the newest ones (50)" },
    [OPT_FROM]      = { "from",      0,   VALUE_NUMBER, "ID",      NULL,
                        "only events after the one with this id" },
    [OPT_FIX]       = { "fix",       0,   VALUE_NONE,   NULL,      NULL,
                        "mend what can be mended without risk; asks first" },
    [OPT_CLASS]     = { "class",     0,   VALUE_CHOICE, "CLASS",   class_words,
                        "only findings of this class; may be repeated" },
    [OPT_UNDO]      = { "undo",      0,   VALUE_TEXT,   "JOB",     NULL,
                        "take back what this job has mended" },
    [OPT_TAKE_OVER] = { "take-over", 0,   VALUE_NONE,   NULL,      NULL,
                        "hosts that obey another manager, lost for ever, obey this one; asks first" },
    [OPT_PAUSED]    = { "paused",    0,   VALUE_NONE,   NULL,      NULL,
                        "the guest does not run yet; start the VM again to let it" },
    [OPT_USER]      = { "user",      0,   VALUE_TEXT,   "NAME",    NULL,
                        "login: who signs in (admin); session: of whom (yourself)" },
    [OPT_VM]        = { "vm",        0,   VALUE_TEXT,   "VM",      NULL,
                        "the role holds for this VM only" },
    [OPT_SNAPSHOT]  = { "snapshot",  0,   VALUE_TEXT,   "SNAPSHOT", NULL,
                        "clone this snapshot, also of a running VM" },
    [OPT_COPY]      = { "copy",      0,   VALUE_NONE,   NULL,      NULL,
                        "copy all data, also where the storage could share the blocks" },
    [OPT_STORAGE]   = { "storage",   0,   VALUE_FILE,   "DIRECTORY", NULL,
                        "the disks lie in this storage domain, not beside those of the source" },
    [OPT_KEEP_DISKS] = { "keep-disks", 0, VALUE_NONE,   NULL,      NULL,
                        "only the VM goes; its disks stay as files" },
    [OPT_OTHERS]    = { "others",    0,   VALUE_NONE,   NULL,      NULL,
                        "all sessions and tokens but the one in use" },
};

#define CREATE_OPTIONS (OPTION(OPT_MEMORY) | OPTION(OPT_QUIESCE) | OPTION(OPT_DISK))
#define MERGE_OPTIONS (OPTION(OPT_STRATEGY) | OPTION(OPT_VERIFY) | OPTION(OPT_DISK))
#define PLAN_OPTIONS (MERGE_OPTIONS | OPTION(OPT_ALL_OPTIONS))
#define DELETE_OPTIONS (MERGE_OPTIONS | OPTION(OPT_BANDWIDTH) | OPTION(OPT_DRY_RUN))

const Command commands[] = {
    { "vm", "list", "", 0, vm_list, "list the virtual machines",
      "VMs whose disks cannot be managed are listed with the reason." },
    { "vm", "show", "v", 0, vm_show, "show a VM, its disks and their volumes", NULL },
    { "vm", "start", "v", OPTION(OPT_PAUSED), vm_start,
      "start a VM, resume one that is paused, wake one that is suspended", NULL },
    { "vm", "stop", "v", 0, vm_stop, "power a VM off, as if its plug was pulled",
      "What the guest has not written to its disks is lost; so is the memory of a suspended VM." },
    { "vm", "shutdown", "v", 0, vm_shutdown, "ask the guest to shut down, and wait until it is off",
      "The guest has five minutes; \"vm stop\" may end the wait at any time." },
    { "vm", "reboot", "v", 0, vm_reboot, "ask the guest to reboot", NULL },
    { "vm", "reset", "v", 0, vm_reset, "reset a VM, as its button would", NULL },
    { "vm", "suspend", "v", 0, vm_suspend, "save a VM's memory and switch it off",
      "\"vm start\" lets it go on where it was." },
    { "vm", "freeze", "v", 0, vm_freeze, "freeze the guest's file systems, until \"vm thaw\"",
      "For what others do with the storage. Snapshots that are taken meanwhile leave them frozen." },
    { "vm", "thaw", "v", 0, vm_thaw, "thaw the guest's file systems", NULL },
    { "vm", "rename", "vn", 0, vm_rename, "give a VM that is off another name", NULL },
    { "vm", "describe", "vn", 0, vm_describe, "set a VM's description; \"\" takes it away", NULL },
    { "vm", "clone", "vn", OPTION(OPT_SNAPSHOT) | OPTION(OPT_COPY) | OPTION(OPT_STORAGE), vm_clone,
      "make a new VM that is like a VM that is off, or like a snapshot",
      "The new VM has disks, MAC addresses and an id of its own, and no snapshots. Prints its id." },
    { "vm", "remove", "v", OPTION(OPT_KEEP_DISKS), vm_remove,
      "remove a VM that is off, with its disks and snapshots",
      "What other VMs stand on stays. Asks first; without a terminal -y is needed." },
    { "snapshot", "create", "vn", CREATE_OPTIONS, snapshot_create,
      "take a snapshot of a running, paused or stopped VM",
      "Prints the id of the snapshot (with --no-wait: of the job)." },
    { "snapshot", "list", "v", 0, snapshot_list, "show the snapshots of a VM as a tree",
      "Each line grew out of the one above it on the same level; an indented group\n"
      "branches off the line above the group. \"you are here\" is what the VM writes to." },
    { "snapshot", "show", "vs", 0, snapshot_show, "show one snapshot", NULL },
    { "snapshot", "delete", "vS", DELETE_OPTIONS, snapshot_delete,
      "delete snapshots, merging their data, while the VM runs",
      "The VM's present state and all other snapshots keep their content. Several snapshots\n"
      "are deleted in one operation. Asks first; without a terminal -y is needed." },
    { "snapshot", "rename", "vsn", 0, snapshot_rename, "give a snapshot another name", NULL },
    { "snapshot", "preview", "vs", OPTION(OPT_DISK) | OPTION(OPT_MEMORY), snapshot_preview,
      "try a snapshot on a VM that is off; nothing is lost",
      "The VM gets a new volume above the snapshot's and can be started from it; what it was stays\n"
      "beside it. \"commit\" keeps the preview, \"undo\" goes back." },
    { "snapshot", "commit", "v", 0, snapshot_commit,
      "keep what the VM previews; what it was before is deleted",
      "Newer snapshots go, too. Asks first; without a terminal -y is needed." },
    { "snapshot", "undo", "v", 0, snapshot_undo,
      "go back from a preview; what the VM wrote in it is deleted",
      "Asks first; without a terminal -y is needed." },
    { "snapshot", "restore", "vs", OPTION(OPT_DISK) | OPTION(OPT_MEMORY), snapshot_restore,
      "make a VM that is off what it was at a snapshot: preview and commit in one",
      "Its present state and all newer snapshots are deleted. The snapshot stays. Asks first; without\n"
      "a terminal -y is needed." },
    { "plan", NULL, "vS", PLAN_OPTIONS, plan_show,
      "show what deleting snapshots would do; nothing is changed",
      "For each row of volumes that would become one: the strategy, what is copied, the room that\n"
      "it needs meanwhile and frees in the end, time and pauses. Exits 0 if it is possible, else 1." },
    { "storage", "list", "", 0, storage_list, "list the storage domains: directories with volumes",
      NULL },
    { "storage", "import", "d", OPTION(OPT_DRY_RUN) | OPTION(OPT_TAKE_OVER), storage_import,
      "take over the VMs of storage whose manager was lost",
      "VMs, snapshots and their state come from the manifests and headers there; each VM is looked\n"
      "at as if its QEMU had crashed. What the lost manager had under way is finished or taken back.\n"
      "Without a directory all storage domains of the hosts. What only you can decide is listed with\n"
      "the command that does it." },
    { "job", "list", "", 0, job_list, "list the jobs, newest first", NULL },
    { "job", "show", "j", 0, job_show, "show a job, its disks and its steps", NULL },
    { "job", "watch", "j", 0, job_watch, "show a job's progress until it has ended",
      "Exits 0 if the job finished, 1 if it failed or was cancelled." },
    { "job", "cancel", "j", 0, job_cancel, "cancel a job",
      "What is past its point of no return is finished all the same." },
    { "job", "resume", "j", 0, job_resume, "go on with a job that has paused itself",
      "A job pauses when it needs somebody, for instance when the storage is nearly full." },
    { "event", "list", "", OPTION(OPT_MAX) | OPTION(OPT_FROM), event_list,
      "list what happened, oldest first", NULL },
    { "event", "follow", "", OPTION(OPT_FROM), event_follow, "print events as they happen",
      "With --json each event is one line. Ends with Ctrl-C or after --timeout." },
    { "doctor", NULL, "V", OPTION(OPT_FIX) | OPTION(OPT_CLASS) | OPTION(OPT_UNDO), doctor_show,
      "find what is wrong with VMs and their volumes, and mend it",
      "Compares manifests, libvirt and the headers of the volumes; changes nothing without --fix.\n"
      "A fix \"asked\" is done only if its --class is named, one \"no\" never. Exits 0 if nothing\n"
      "is wrong or all is mended, else 1." },
    { "user", "list", "", 0, user_list, "list the users and their roles", NULL },
    { "user", "add", "nr", 0, user_add, "add a user",
      "Asks for the password; without a terminal it is a line of standard input. Roles: viewer sees\n"
      "everything, operator takes and deletes snapshots too, administrator may do all, none sees only\n"
      "VMs with a role of their own." },
    { "user", "passwd", "U", 0, user_passwd,
      "set a user's password, or change your own, which ends the other sessions",
      "Asks for the new one; without USER, and for your own name, first for the present one, too.\n"
      "Without a terminal each is a line of standard input." },
    { "user", "role", "ur", OPTION(OPT_VM), user_role, "give a user another role", NULL },
    { "user", "remove", "u", 0, user_remove, "remove a user", NULL },
    { "session", "list", "", OPTION(OPT_USER), session_list,
      "list where a user is signed in: pages, programs, tokens",
      "Yours; for administrators with --user anybody's. No token is shown." },
    { "session", "end", "i", OPTION(OPT_USER) | OPTION(OPT_OTHERS), session_end,
      "end a session or token, or all others", "What was done with it goes on; its streams end." },
    { "certificate", "show", "", 0, certificate_show,
      "show the TLS certificate that the manager's clients get, and when it ends", NULL },
    { "certificate", "renew", "", 0, certificate_renew,
      "make it anew, or take what its files hold by now",
      "Its own one is made anew by the same authority, which clients trust already. Of one of yours\n"
      "(tls_cert) the files are read again: replace them before." },
    { "login", NULL, "a", OPTION(OPT_USER), login, "sign in at a manager of another machine",
      "Asks for the password; without a terminal it is a line of standard input. Keeps a token for 30\n"
      "days, and the --ca, for this address: later commands name it with --connect." },
    { "logout", NULL, "a", 0, logout, "sign out again, and forget the token", NULL },
    { "version", NULL, "", 0, version_show, "show the version of this program and of the manager",
      NULL },
    { "help", NULL, "w", 0, help_show, "show help: help [NOUN [VERB]]", NULL },
    { NULL },
};
/* clang-format on */
