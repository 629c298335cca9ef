/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is done with records rather than disks: new names, the doctor's fixes, and taking over from
 * a manager that was lost.
 */
#include "flows.h"
#include "lines.h"

#include "base/text.h"
#include "qcow2/qcow2.h"

#include <string.h>

#define SNAPSHOT "00000001-0000-4000-9000-000000000000"

/* What libvirt may lose or refuse, said of its own definition. */
#define DEFINITION_LIES (LIE_DEFINITION | LIE_REFUSES | LIE_WRONG_ERROR)

/* ---- a snapshot's name, and what people say of a VM ---- */

static char *
ask_rename(Manager *manager, GError **error)
{
    return manager_snapshot_rename(manager, vm.id, SNAPSHOT, "renamed", NULL, NULL, error);
}

static bool
is_renamed(void)
{
    return lines_snapshot_is_called(SNAPSHOT, "renamed");
}

static void
renamed(bool done)
{
    if (done && !is_renamed())
        world_wrong("a snapshot was renamed, but the manifest does not say so");
}

static char *
ask_describe(Manager *manager, GError **error)
{
    return manager_vm_update(
        manager, &(VmUpdate){ .vm_id = vm.id, .description = "what it is for", .comment = "ours" },
        error);
}

static bool
is_described(void)
{
    return strcmp(vm.texts.description, "what it is for") == 0 &&
           strcmp(vm.texts.title, "ours") == 0;
}

static void
described(bool done)
{
    if (done && !is_described() && (plan.lies & DEFINITION_LIES) == 0)
        world_wrong("a VM was described, but libvirt does not say so");
}

void
run_rename(void)
{
    static const JobStep steps[] = {
        { ask_rename, is_renamed, NULL, 0, NULL, renamed },
        { ask_describe, is_described, NULL, 0, NULL, described },
        { NULL },
    };

    run_jobs(steps);
}

/* ---- a VM's name: it must be off ---- */

static char *
ask_update(Manager *manager, GError **error)
{
    return manager_vm_update(
        manager, &(VmUpdate){ .vm_id = vm.id, .name = "blog", .description = "what it is for" },
        error);
}

static bool
is_updated(void)
{
    return strcmp(vm.texts.name, "blog") == 0 &&
           strcmp(vm.texts.description, "what it is for") == 0;
}

/* Somebody starts it meanwhile. */
static void
update_begins(void)
{
    flow_note_life();
    vm.wanted = true;
}

static void
updated(bool done)
{
    if (!done || (plan.lies & DEFINITION_LIES) != 0)
        return;
    if (!is_updated())
        world_wrong("a VM was renamed, but libvirt does not say so");
    if (!lines_vm_is_called("blog"))
        world_wrong("a VM was renamed, but its manifest does not say so");
}

void
run_update(void)
{
    static const JobStep steps[] = {
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { ask_update, is_updated, flow_is_off, 0, update_begins, updated },
        { NULL },
    };

    run_jobs(steps);
}

/* ---- the doctor ---- */

#define ORPHAN HOME "/weba.0badc0de.qcow2" /* empty: the rest of a snapshot, say */

static bool ill, nothing_to_undo;
/* of an import */
static enum { MANAGER_KNOWS, MANAGER_GOES, MANAGER_IS_NEW } manager_state;

void
flow_records_reset(void)
{
    flow_lost_reset();
    ill = nothing_to_undo = false;
    manager_state = MANAGER_KNOWS;
}

static bool
is_the_doctors(void)
{
    return plan.flow->run == run_doctor || plan.flow->run == run_doctor_undo;
}

void
flow_make_files(void)
{
    g_autofree char *base = g_path_get_basename(vm.disks[0].volumes[0]);
    g_autoptr(GError) error = NULL;

    vm.guest_agent = plan.flow->run == run_freeze;
    if (!is_the_doctors())
        return;
    if (!qcow2_create(ORPHAN, vm.clusters * CLUSTER_BYTES, base, "qcow2", 0600, -1, -1, &error))
        g_error("%s", error->message);
    VfsNode *node = vfs_find(ORPHAN);
    node->mtime_ns -= 600 * INT64_C(1000000000); /* nobody is just making it */
    node->ctime_ns -= 600 * INT64_C(1000000000);
    vfs_sync(node);
}

/* Somebody's script restores an old definition. */
static void
fall_ill(void)
{
    if (ill)
        return;
    ill = true;
    g_strlcpy(vm.disks[0].defined, vm.disks[0].volumes[1], sizeof vm.disks[0].defined);
    g_strlcpy(vm.disks[0].defined_durable, vm.disks[0].defined, sizeof vm.disks[0].defined);
}

/* A file that is of the future by a clock that was set back might be one that is just made. (What
 * has yet to come must not tell: schedules branch off before it.) */
static bool
may_stay(void)
{
    return world_was_hit_by(FAULT_CLOCK);
}

bool
flow_is_kept(const char *path)
{
    if (flow_lost_is_kept(path))
        return true;
    if (!is_the_doctors())
        return false;
    if (strcmp(path, ORPHAN) == 0)
        return may_stay();
    return strstr(path, "/.livemerge/undo/") != NULL ||
           (strstr(path, "/.livemerge/trash/keep.") != NULL &&
            g_str_has_suffix(path, ".weba.0badc0de.qcow2"));
}

static char *
ask_fix(Manager *manager, GError **error)
{
    return manager_doctor_fix(manager, &(DoctorFix){ .vm_id = vm.id }, error);
}

/* What libvirt has refused to mend, say. Who is told nothing of a VM yet asks again. */
static bool
finds_now(Manager *manager)
{
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;
    size_t i;
    json_t *finding;

    while (!manager_doctor(manager, vm.id, &answer, &error) ||
           json_array_size(json_object_get(answer, "busy")) > 0 ||
           json_array_size(json_object_get(answer, "unread")) > 0) {
        world_trace("the doctor cannot say: %s", error != NULL ? error->message : "busy");
        g_clear_error(&error);
        g_clear_pointer(&answer, json_decref);
        fiber_sleep_us(G_TIME_SPAN_SECOND);
    }
    json_array_foreach (json_object_get(answer, "findings"), i, finding) {
        world_trace("found: %s: %s", json_text(finding, "class"), json_text(finding, "text"));
        if (strcmp(json_text(finding, "can_fix"), "yes") == 0 ||
            (strcmp(json_text(finding, "severity"), "error") == 0 &&
             !stranger_is_told(json_text(finding, "text"))))
            return true;
    }
    return false;
}

/* Nothing is said of a file that is young: perhaps since a move to the trash was taken back. */
bool
flow_finds_more(Manager *manager)
{
    if (finds_now(manager))
        return true;
    if (world_is_untouched() && plan.flow->run == run_doctor)
        return false;
    fiber_sleep_us(31 * G_TIME_SPAN_SECOND);
    return finds_now(manager);
}

/* What the VM runs on: its leaf, or what somebody else has put on it. */
static bool
names_leaf(void)
{
    const SimDisk *disk = &vm.disks[0];
    const char *leaf = disk->volumes[plan.flow->depth - 1];

    if (world_was_hit_by(FAULT_STRANGER) && disk->graph->len > 0)
        leaf = ((Node *)disk->graph->pdata[0])->path;
    return strcmp(disk->defined, leaf) == 0 || (!vm.runs && stranger_is_theirs(disk->defined));
}

static bool
is_mended(void)
{
    return (vfs_find(ORPHAN) == NULL || may_stay()) && names_leaf();
}

static void
mended(bool done)
{
    if (done && vfs_find(ORPHAN) != NULL && !may_stay())
        world_wrong("the doctor has mended all, and a volume of nobody is there");
    if (done && !is_mended() && (plan.lies & LIE_DEFINITION) == 0)
        world_wrong("the doctor has mended all, and the definition names %s", vm.disks[0].defined);
}

/* ---- and what it has mended is undone, and mended once more ---- */

/* Of the newest fix. */
static char *
ask_undo(Manager *manager, GError **error)
{
    g_autoptr(json_t) jobs = manager_jobs(manager, false, NULL);
    size_t i;
    json_t *job;

    json_array_foreach (jobs, i, job) {
        const char *undo = json_text(json_object_get(job, "result"), "undo");
        if (undo != NULL)
            return manager_doctor_fix(manager, &(DoctorFix){ .vm_id = vm.id, .undo = undo }, error);
    }
    nothing_to_undo = true; /* the agent had put it right itself */
    error_set(error, ERR_BUSY, "nothing was mended");
    return NULL;
}

static bool
is_needless_to_undo(void)
{
    return nothing_to_undo;
}

/* What somebody may want back is never lost, whoever dies. */
static bool
orphan_is_somewhere(void)
{
    g_auto(GStrv) files = vfs_list(HOME);

    for (char **file = files; *file != NULL; file++)
        if (strcmp(*file, ORPHAN) == 0 || (strstr(*file, "/.livemerge/trash/keep.") != NULL &&
                                           g_str_has_suffix(*file, ".weba.0badc0de.qcow2")))
            return true;
    return false;
}

static void
undone(bool done)
{
    if (!orphan_is_somewhere())
        world_wrong("the doctor has lost a volume");
    if (done && world_is_untouched() &&
        (vfs_find(ORPHAN) == NULL || strcmp(vm.disks[0].defined, vm.disks[0].volumes[1]) != 0))
        world_wrong("what the doctor has mended was undone, and is not as it was");
}

static void
mended_again(bool done)
{
    mended(done);
    if (!orphan_is_somewhere())
        world_wrong("the doctor has lost a volume");
}

void
run_doctor_undo(void)
{
    static const JobStep steps[] = {
        { ask_fix, is_mended, NULL, 0, NULL, mended, flow_finds_more },
        { ask_undo, is_needless_to_undo, NULL, 0, NULL, undone },
        { ask_fix, is_mended, NULL, 0, NULL, mended_again, flow_finds_more },
        { NULL },
    };

    fall_ill();
    run_jobs(steps);
}

void
run_doctor(void)
{
    static const JobStep steps[] = {
        { ask_fix, is_mended, NULL, 0, NULL, mended, flow_finds_more },
        { NULL },
    };

    fall_ill();
    run_jobs(steps);
}

/* ---- import: the manager is lost in the middle of a delete, with all that it knew ---- */

static void
manager_goes(void)
{
    world_trace("the manager and its database are lost");
    manager_state = MANAGER_IS_NEW;
    do_fault(FAULT_MANAGER);
    sqlite_lose(MANAGER_DATABASE);
}

static void
begin_and_go(Manager *manager)
{
    while (manager_state != MANAGER_IS_NEW) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) jobs = manager_jobs(manager, true, NULL);
        g_autofree char *id =
            json_array_size(jobs) == 0 ? flow_ask_delete_newest(manager, &error) : NULL;
        if ((id != NULL || json_array_size(jobs) > 0) && manager_state == MANAGER_KNOWS) {
            manager_state = MANAGER_GOES;
            world_later((int64_t)fiber_below(2 * G_TIME_SPAN_SECOND), "end", manager_goes);
        }
        fiber_sleep_us(200000);
    }
}

/* Has it taken over all that there is? */
static bool
has_taken_over(Manager *manager)
{
    const StorageImport what = { .take_over = true };
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL, jobs = NULL;
    size_t i;
    json_t *entry;

    if (!manager_import(manager, &what, &answer, &error)) {
        world_trace("no import: %s", error->message);
        return false;
    }
    jobs = manager_jobs(manager, true, NULL);
    bool all = json_array_size(json_object_get(answer, "silent")) == 0 &&
               json_array_size(json_object_get(answer, "vms")) == 1 && json_array_size(jobs) == 0;
    /* that a snapshot is unusable since its delete was cancelled, say */
    json_array_foreach (json_object_get(answer, "doubtful"), i, entry)
        world_trace("in doubt: %s", json_text(entry, "why"));
    json_array_foreach (json_object_get(answer, "vms"), i, entry)
        all = all && json_object_get(entry, "job") == NULL && !json_flag(entry, "held") &&
              json_text(entry, "unmanaged") == NULL; /* its storage was away */
    return all;
}

/* What was taken over waits until what somebody else has put on the disk is gone. */
static void
cancel_what_waits(Manager *manager)
{
    g_autoptr(json_t) jobs = NULL;
    size_t i;
    json_t *job;

    if (!world_is_calm() || !world_was_hit_by(FAULT_STRANGER))
        return;
    jobs = manager_jobs(manager, true, NULL);
    json_array_foreach (jobs, i, job)
        (void)manager_job_cancel(manager, json_text(job, "id"), NULL);
}

/* What it lists is what the manifest says. */
static void
check_listing(Manager *manager)
{
    g_autoptr(Vm) known = manager_vm(manager, vm.id, NULL);

    for (guint i = 0; known != NULL && i < known->snapshots->len; i++) {
        const Snapshot *snapshot = known->snapshots->pdata[i];
        if (!lines_snapshot_is_called(snapshot->id, snapshot->name))
            world_wrong("a new manager lists a snapshot '%s', the manifest does not",
                        snapshot->name);
    }
    if (known == NULL)
        world_wrong("a new manager does not know the VM");
}

/* What an overlay of somebody else stands on that libvirt has lost is never deleted. */
static bool
never_takes_over(void)
{
    if (!world_was_hit_by(FAULT_STRANGER))
        world_wrong("the new manager never takes over");
    world_trace("the user gives up");
    return true;
}

void
run_import(void)
{
    Manager *manager = flow_open_manager();
    unsigned tries = 0;

    if (manager != NULL && manager_state != MANAGER_IS_NEW)
        begin_and_go(manager);
    while (manager != NULL && !has_taken_over(manager) && !world_is_wrong()) {
        if (world_is_calm() && ++tries > (world_was_hit_by(FAULT_STRANGER) ? 60 : 300) &&
            never_takes_over())
            break;
        cancel_what_waits(manager);
        fiber_sleep_us(G_TIME_SPAN_SECOND);
    }
    if (manager != NULL)
        check_listing(manager);
    flow_end();
}
