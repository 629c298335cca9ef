/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: one VM. What libvirt's definitions, its block jobs and its records of snapshots say,
 * what the manifest says, and whether that is what the headers say.
 */
#include "agent/doctor.h"
#include "agent/relink.h"

#include "base/text.h"
#include "storage/guard.h"

#include <stdlib.h>
#include <string.h>

static const ChainLook *
chain_of(const Patient *patient, const char *target)
{
    for (guint i = 0; i < patient->chains->len; i++) {
        const ChainLook *look = patient->chains->pdata[i];
        if (g_strcmp0(look->hv->target, target) == 0)
            return look;
    }
    return NULL;
}

static bool
has_finding(const Patient *patient, const char *target, Severity at_least)
{
    for (guint i = 0; i < patient->findings->len; i++) {
        const Finding *finding = patient->findings->pdata[i];
        if (g_strcmp0(finding->vm_id, patient->hv->id) == 0 &&
            g_strcmp0(finding->disk, target) == 0 && diagnosis_severity(finding->class) >= at_least)
            return true;
    }
    return false;
}

/* Is it known which volumes this disk has? Where something is broken no more is said of it. */
static bool
is_sound(const Patient *patient, const ChainLook *look)
{
    return look->whole && !has_finding(patient, look->hv->target, SEVERITY_ERROR);
}

static bool
same_path(const char *a, const char *b)
{
    autolibc char *x = realpath(a, NULL);
    autolibc char *y = realpath(b, NULL);

    return g_strcmp0(a, b) == 0 || (x != NULL && g_strcmp0(x, y) == 0);
}

/* ---- libvirt's definitions ---- */

/* Do the names that a definition gives below a disk agree with the headers? */
static bool
backing_agrees(const HvDisk *disk, GPtrArray *links)
{
    guint n = disk->backing != NULL ? disk->backing->len : 0;

    for (guint i = 0; i < n; i++)
        if (i + 1 >= links->len ||
            !same_path(disk->backing->pdata[i], ((ChainLink *)links->pdata[i + 1])->path))
            return false;
    return disk->backing == NULL || !disk->backing_terminated || n + 1 == links->len;
}

static void
look_at_live(const Patient *patient, const ChainLook *look)
{
    if (look->hv->mirror_job != NULL || !is_sound(patient, look) ||
        backing_agrees(look->hv, look->links))
        return;
    Finding *finding =
        doctor_find(patient, DIAG_CHAIN_MISMATCH, look->hv->target, look->hv->source);
    finding_say(finding,
                "VM '%s', disk %s: libvirt says of the running VM that it has %u volumes, the "
                "headers say %u, from %s down; nothing is done to the disk until they agree",
                patient->hv->name, look->hv->target, look->hv->backing->len + 1, look->links->len,
                look->hv->source);
    for (guint i = 0; i < look->links->len; i++) {
        const char *below = NULL, *path = ((ChainLink *)look->links->pdata[i])->path;
        if (!relink_is_needed(look->hv, path, &below))
            continue;
        finding_say(finding,
                    "VM '%s', disk %s: it runs on %s and reads %s below that, but its header names "
                    "a volume further down: after its next start what was written there would be "
                    "missing. Do not power it off before this is corrected",
                    patient->hv->name, look->hv->target, path, below);
        finding_can(finding, FIX_SAFE, "has QEMU write into the header what it reads");
        return;
    }
    finding_help(finding,
                 "if no merge of somebody else's is just ending, power the VM off and on again: "
                 "the headers tell the truth");
}

static bool
is_file_disk(const HvDisk *disk)
{
    return g_strcmp0(disk->device, "disk") == 0 && g_strcmp0(disk->type, "file") == 0 &&
           disk->source != NULL;
}

static void
look_at_stored(const Patient *patient, const HvDisk *stored)
{
    const ChainLook *live = chain_of(patient, stored->target);
    bool running = patient->hv->instance != NULL;
    Finding *finding;

    if (!is_file_disk(stored) || live == NULL || live->hv->mirror_job != NULL ||
        !is_sound(patient, live))
        return;
    if (running && !same_path(stored->source, live->hv->source)) {
        finding = doctor_find(patient, DIAG_STALE_DEFINITION, stored->target, live->hv->source);
        finding_say(finding,
                    "VM '%s', disk %s: it runs on %s, but its persistent definition names %s: its "
                    "next start would lose what was written since",
                    patient->hv->name, stored->target, live->hv->source, stored->source);
    } else if (!backing_agrees(stored, live->links)) {
        finding = doctor_find(patient, DIAG_STALE_DEFINITION, stored->target, live->hv->source);
        finding_say(finding,
                    "VM '%s', disk %s: its persistent definition lists other backing files than "
                    "the qcow2 headers, and libvirt would believe the definition at the next start",
                    patient->hv->name, stored->target);
    } else {
        return;
    }
    finding_can(finding, FIX_SAFE,
                "the definition names %s, and leaves the rest of the chain to the headers",
                live->hv->source);
}

static void
look_at_leaf(const Patient *patient, const GuardManifest *manifest, const HvDisk *disk)
{
    g_auto(GuardFinding) stale = { 0 };

    guard_look(manifest, disk->target, disk->source, disk->format, &stale);
    if (stale.verdict == GUARD_FINE || doctor_has_lost_merge(patient, disk->target))
        return; /* of that its record tells */
    Finding *finding = doctor_find(patient, DIAG_STALE_LEAF, disk->target, disk->source);
    finding_say(finding, "%s", stale.reason);
    if (stale.verdict == GUARD_STALE && stale.leaf != NULL)
        finding_can(finding, FIX_SAFE, "the definition names %s", stale.leaf);
    else
        finding_help(finding,
                     "make that file readable again; the VM's start is refused until then");
}

static void
look_at_leaves(const Patient *patient)
{
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GPtrArray) sources = g_ptr_array_new();
    g_autoptr(GError) problem = NULL;

    for (guint i = 0; i < patient->chains->len; i++)
        g_ptr_array_add(sources, ((ChainLook *)patient->chains->pdata[i])->hv->source);
    g_ptr_array_add(sources, NULL);
    if (!guard_load(patient->hv->id, (const char *const *)sources->pdata, &manifest, &problem)) {
        if (patient->stored != NULL) /* it could be read a moment ago */
            g_string_assign(patient->away, problem->message);
        return;
    }
    if (manifest.vm == NULL)
        return;
    for (guint i = 0; i < patient->chains->len; i++)
        look_at_leaf(patient, &manifest, ((ChainLook *)patient->chains->pdata[i])->hv);
}

void
doctor_look_definition(const Patient *patient)
{
    if (doctor_is_off(patient->hv))
        look_at_leaves(patient);
    for (guint i = 0; patient->hv->instance != NULL && i < patient->chains->len; i++)
        look_at_live(patient, patient->chains->pdata[i]);
    for (guint i = 0; patient->hv->inactive != NULL && i < patient->hv->inactive->len; i++)
        look_at_stored(patient, patient->hv->inactive->pdata[i]);
}

/* ---- block jobs ---- */

static void
look_at_job(const Patient *patient, const ChainLook *look)
{
    static const char *const words[] = {
        [HV_JOB_NONE] = "job",
        [HV_JOB_COMMIT] = "commit",
        [HV_JOB_ACTIVE_COMMIT] = "commit of the leaf",
        [HV_JOB_COPY] = "copy",
        [HV_JOB_PULL] = "pull",
        [HV_JOB_OTHER] = "job",
    };
    Hypervisor *hv = patient->agent->hv;
    const char *target = look->hv->target;
    bool mirror = look->hv->mirror_job != NULL;
    HvJob job = { .type = HV_JOB_NONE };

    if (!hv->ops->job_look(hv, patient->hv->id, target, &job, NULL) ||
        (job.type == HV_JOB_NONE && !mirror))
        return;
    bool lost = doctor_is_lost_merge(patient, target);
    Finding *finding = doctor_find(patient, DIAG_FOREIGN_JOB, target, look->hv->mirror_path);
    finding_say(finding,
                "VM '%s', disk %s: a block job (%s) runs%s%s that %s; nothing is done to the disk "
                "until it is gone",
                patient->hv->name, target, words[job.type], mirror ? ", mirroring to " : "",
                !mirror                         ? ""
                : look->hv->mirror_path != NULL ? look->hv->mirror_path
                                                : "somewhere else",
                lost ? "is of a merge whose journal was lost" : "livemerge did not begin");
    if (mirror)
        finding_can(finding, lost ? FIX_SAFE : FIX_ASKED,
                    "ends it; the VM stays on %s, and nothing of it is lost", look->hv->source);
    else {
        g_autofree char *name = shell_word(patient->hv->name);
        finding_help(finding, "it ends by itself; or end it: virsh blockjob %s %s --abort", name,
                     target);
    }
}

void
doctor_look_jobs(const Patient *patient)
{
    for (guint i = 0; patient->hv->instance != NULL && i < patient->chains->len; i++)
        look_at_job(patient, patient->chains->pdata[i]);
}

/* ---- libvirt's records of snapshots ---- */

const HvSnapshotRecord *
doctor_record_of(GPtrArray *records, const char *target, const char *file)
{
    for (guint i = 0; records != NULL && i < records->len; i++) {
        const HvSnapshotRecord *record = records->pdata[i];
        for (guint k = 0; k < record->files->len; k++)
            if (g_strcmp0(record->targets->pdata[k], target) == 0 &&
                same_path(record->files->pdata[k], file))
                return record;
    }
    return NULL;
}

static void
look_at_record(const Patient *patient, const HvSnapshotRecord *record)
{
    for (guint i = 0; i < record->files->len; i++) {
        const char *target = record->targets->pdata[i], *file = record->files->pdata[i];
        const ChainLook *look = chain_of(patient, target);
        bool exists = !doctor_is_missing(patient, file);

        if (look != NULL && (!is_sound(patient, look) || chain_link(look, file) != NULL))
            continue;
        Finding *finding = doctor_find(patient, DIAG_LIBVIRT_SNAPSHOT, target, record->name);
        g_autofree char *vm = shell_word(patient->hv->name), *name = shell_word(record->name);
        finding_say(finding,
                    "VM '%s': libvirt still has a record of its snapshot '%s', whose volume %s of "
                    "disk %s %s: virsh cannot use it any more, and it stands in the way of others",
                    patient->hv->name, record->name, file, target,
                    exists ? "is not part of the disk any more" : "does not exist any more");
        finding_can(finding, exists ? FIX_ASKED : FIX_SAFE,
                    "removes the record alone (virsh snapshot-delete %s %s --metadata); no file is "
                    "touched",
                    vm, name);
        return;
    }
}

void
doctor_look_records(const Patient *patient)
{
    for (guint i = 0; i < patient->records->len; i++)
        look_at_record(patient, patient->records->pdata[i]);
}

/* ---- the manifest ---- */

static const ChainLink *
from_base(const ChainLook *look, guint i)
{
    return look->links->pdata[look->links->len - 1 - i];
}

/* Are the volumes as recorded the lower part of the chain, at least? What is on top of them is
 * another matter (look_at_boundary()). */
static bool
begins_with(const ChainLook *look, const Disk *disk)
{
    if (disk->volumes->len > look->links->len)
        return false;
    for (guint i = 0; i < disk->volumes->len; i++)
        if (!same_path(((Volume *)disk->volumes->pdata[i])->path, from_base(look, i)->path))
            return false;
    return disk->volumes->len > 0;
}

static void
look_at_disk(const Patient *patient, const Disk *disk)
{
    const ChainLook *look = chain_of(patient, disk->target);

    if (look == NULL || !is_sound(patient, look) || look->hv->mirror_job != NULL ||
        begins_with(look, disk) || doctor_has_lost_merge(patient, disk->target))
        return;
    Finding *finding = doctor_find(patient, DIAG_STALE_MANIFEST, disk->target, NULL);
    finding_say(finding,
                "VM '%s', disk %s: the manifest lists %u volumes, the headers %u, and they are not "
                "the same: somebody changed the chain with other tools",
                patient->hv->name, disk->target, disk->volumes->len, look->links->len);
    finding_can(finding, FIX_SAFE, "writes the manifest anew from the headers");
}

static bool
snapshot_is_lost(const Patient *patient, const Snapshot *snapshot, const char **ret_target)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const SnapshotDisk *sd = snapshot->disks->pdata[i];
        const Disk *disk = vm_disk(patient->stored, sd->disk_id);
        const Volume *volume = disk != NULL ? disk_any_volume(disk, sd->volume_id) : NULL;
        const ChainLook *look = disk != NULL ? chain_of(patient, disk->target) : NULL;
        if (look == NULL || !is_sound(patient, look) || !begins_with(look, disk) ||
            doctor_is_lost_merge(patient, disk->target))
            continue; /* nobody can tell now */
        *ret_target = disk->target;
        if (volume == NULL)
            return true;
    }
    *ret_target = NULL;
    return snapshot_has_lost_all(snapshot);
}

static void
look_at_snapshot(const Patient *patient, const Snapshot *snapshot)
{
    const char *target = NULL;
    Finding *finding;

    if (snapshot_is_lost(patient, snapshot, &target)) {
        finding = doctor_find(patient, DIAG_LOST_SNAPSHOT, target, snapshot->id);
        finding_say(finding,
                    "VM '%s': the volume of its snapshot '%s' was merged or taken away by other "
                    "tools; the snapshot can no longer be gone back to",
                    patient->hv->name, snapshot->name);
        g_autofree char *name = shell_word(patient->hv->name);
        finding_help(finding, "delete it: livemerge snapshot delete %s %s", name, snapshot->id);
    } else if (snapshot->memory != NULL && doctor_is_missing(patient, snapshot->memory)) {
        finding = doctor_find(patient, DIAG_LOST_SNAPSHOT, NULL, snapshot->memory);
        finding_say(finding,
                    "VM '%s': the memory of its snapshot '%s', %s, does not exist; its disks are "
                    "as they were",
                    patient->hv->name, snapshot->name, snapshot->memory);
        finding_help(finding, "find that file and put it there");
    }
}

static void
say_bad_manifest(const Patient *patient, const GError *problem)
{
    Finding *finding = doctor_find(patient, DIAG_BAD_MANIFEST, NULL, NULL);

    finding_say(finding, "VM '%s': %s; nothing is done to the VM", patient->hv->name,
                problem->message);
    if (g_error_matches(problem, ERR, ERR_CORRUPT))
        finding_can(finding, FIX_ASKED,
                    "keeps a copy, and writes it anew from the headers: the names of its snapshots "
                    "are lost, their volumes are found again as foreign-overlay");
}

void
doctor_look_manifest(const Patient *patient)
{
    if (patient->problem != NULL && patient->away->len == 0)
        say_bad_manifest(patient, patient->problem);
    if (patient->stored == NULL)
        return;
    for (guint i = 0; i < patient->stored->operations->len; i++)
        doctor_look_operation(patient, patient->stored->operations->pdata[i]);
    for (guint i = 0; i < patient->stored->disks->len; i++)
        look_at_disk(patient, patient->stored->disks->pdata[i]);
    for (guint i = 0; i < patient->stored->snapshots->len; i++)
        look_at_snapshot(patient, patient->stored->snapshots->pdata[i]);
}

/* ---- volumes without a snapshot ---- */

/* A volume that others stand on too, or that cannot be written, is a template. So is a base, as
 * long as nothing says otherwise: it is how most VMs are made. */
static bool
is_foreign(const Patient *patient, const Disk *disk, const ChainLook *look, guint i)
{
    const char *below = from_base(look, i)->path, *above = from_base(look, i + 1)->path;
    const Volume *volume = disk_volume_by_path(disk, below),
                 *overlay = disk_volume_by_path(disk, above);
    g_autofree char *user = agent_user_of(patient->agent, patient->hv->id, below, true);

    if (volume != NULL && vm_snapshot_owns(patient->stored, disk->id, volume->id))
        return false;
    if (overlay == NULL || overlay->foreign ||
        doctor_record_of(patient->records, disk->target, above) != NULL)
        return true;
    return i > 0 && user == NULL && volume != NULL && !volume->read_only;
}

static void
look_at_boundary(const Patient *patient, const Disk *disk, const ChainLook *look, guint i)
{
    const char *above = from_base(look, i + 1)->path;
    const HvSnapshotRecord *record = doctor_record_of(patient->records, disk->target, above);

    if (!is_foreign(patient, disk, look, i))
        return;
    Finding *finding = doctor_find(patient, DIAG_FOREIGN_OVERLAY, disk->target, above);
    if (record != NULL)
        finding_say(finding,
                    "VM '%s', disk %s: %s was made by libvirt's snapshot '%s' and belongs to no "
                    "snapshot of livemerge's",
                    patient->hv->name, disk->target, above, record->name);
    else
        finding_say(finding,
                    "VM '%s', disk %s: %s was put into the chain by somebody else (virsh, a backup "
                    "tool, a script) and belongs to no snapshot: nothing ever merges it",
                    patient->hv->name, disk->target, above);
    finding_can(finding, FIX_SAFE,
                "adopts it: the VM gets a snapshot of that instant, which can be deleted (merged) "
                "like any other");
}

void
doctor_look_overlays(const Patient *patient)
{
    for (guint k = 0; patient->stored != NULL && k < patient->stored->disks->len; k++) {
        const Disk *disk = patient->stored->disks->pdata[k];
        const ChainLook *look = chain_of(patient, disk->target);
        if (look == NULL || !is_sound(patient, look) || look->hv->mirror_job != NULL ||
            !begins_with(look, disk))
            continue;
        for (guint i = 0; i + 1 < look->links->len; i++)
            look_at_boundary(patient, disk, look, i);
    }
}
