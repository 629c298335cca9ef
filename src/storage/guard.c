/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/guard.h"

#include "base/text.h"
#include "qcow2/qcow2.h"
#include "storage/domain.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- finding the manifest ---- */

void
guard_manifest_clear(GuardManifest *manifest)
{
    vm_free(manifest->vm);
    g_free(manifest->file);
    g_free(manifest->domain.path);
    memset(manifest, 0, sizeof *manifest);
}

/* Takes the manifest of this directory, if there is one, and none newer was found before. */
static bool
consider(const char *dir, const char *vm_id, GuardManifest *best, GError **error)
{
    const Domain here = { .path = (char *)dir };
    g_autofree char *file = domain_vm_file(&here, vm_id, "json", NULL);
    struct stat st;

    if (file == NULL)
        return true;
    if (stat(file, &st) < 0)
        return !storage_is_away(errno) ||
               error_set_errno(error, "looking for the manifest %s", file);
    if (best->file != NULL && !file_is_newer(&st, &best->st))
        return true;
    guard_manifest_clear(best);
    best->file = g_steal_pointer(&file);
    best->st = st;
    best->domain.path = g_strdup(dir);
    return true;
}

static bool
walk_up(const char *path, const char *vm_id, GuardManifest *best, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);

    for (;;) {
        if (!consider(dir, vm_id, best, error))
            return false;
        if (strcmp(dir, "/") == 0 || strcmp(dir, ".") == 0)
            return true;
        char *above = g_path_get_dirname(dir);
        g_free(dir);
        dir = above;
    }
}

bool
guard_find(const char *vm_id, const char *const *sources, GuardManifest *ret_manifest,
           GError **error)
{
    memset(ret_manifest, 0, sizeof *ret_manifest);
    for (; *sources != NULL; sources++) {
        /* a link's own directory, and that of the file it leads to: either may be the domain */
        g_autofree char *by_dir = path_resolve_dir(*sources);
        autolibc char *real = realpath(*sources, NULL);
        if (real == NULL && storage_is_away(errno))
            return error_set_errno(error, "looking for %s", *sources);
        if ((by_dir != NULL && !walk_up(by_dir, vm_id, ret_manifest, error)) ||
            (real != NULL && g_strcmp0(real, by_dir) != 0 &&
             !walk_up(real, vm_id, ret_manifest, error)))
            return false;
    }
    return true;
}

bool
guard_read(const char *vm_id, GuardManifest *manifest, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (manifest->file == NULL)
        return true;
    manifest->vm = manifest_look(&manifest->domain, vm_id, &problem);
    if (problem == NULL)
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

bool
guard_load(const char *vm_id, const char *const *sources, GuardManifest *ret_manifest,
           GError **error)
{
    return guard_find(vm_id, sources, ret_manifest, error) &&
           guard_read(vm_id, ret_manifest, error);
}

/* ---- which volume is it? ---- */

static int
index_of(const Disk *disk, const char *source)
{
    for (guint i = 0; i < disk->volumes->len; i++)
        if (file_is_same(((Volume *)disk->volumes->pdata[i])->path, source))
            return (int)i;
    return -1;
}

/* Beside the chain: the VM tries a snapshot, and this is of the line that it has left. */
static bool
is_on_branch(const Disk *disk, const char *source)
{
    for (guint i = 0; i < disk->branches->len; i++)
        if (file_is_same(((Volume *)disk->branches->pdata[i])->path, source))
            return true;
    return false;
}

typedef enum { STANDS_NO, STANDS_YES, STANDS_UNKNOWN } Stands;

/* Does the chain that begins with this file hold the other one, by the headers? */
static Stands
stands_on(const char *path, const char *format, const char *lower)
{
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(path, format, NULL, NULL);

    if (layers == NULL)
        return STANDS_UNKNOWN;
    for (guint i = 0; i < layers->len; i++)
        if (file_is_same(((Qcow2Layer *)layers->pdata[i])->path, lower))
            return STANDS_YES;
    return STANDS_NO;
}

static bool
stop_at_data(const Extent *extent, void *found)
{
    *(bool *)found = extent->kind != EXTENT_HOLE;
    return extent->kind == EXTENT_HOLE;
}

/* An overlay of the leaf that the manifest does not know, with data in it: QEMU switched to it (for
 * a snapshot, or for a graft) and nobody could write that down any more (H3). */
static char *
newer_overlay(const Disk *disk, const Volume *leaf)
{
    g_autofree char *folder = g_path_get_dirname(leaf->path);
    g_autofree char *own = g_path_get_basename(leaf->path);
    g_autoptr(GDir) entries = g_dir_open(folder, 0, NULL);
    size_t stem = strcspn(own, "."); /* new files of ours begin with it (new_file_name()) */
    const char *name;

    while (entries != NULL && (name = g_dir_read_name(entries)) != NULL) {
        if (strncmp(name, own, stem) != 0 || !g_str_has_suffix(name, ".qcow2"))
            continue;
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *backing = qcow2_backing_of(path);
        bool data = false;
        if (backing == NULL || !file_is_same(backing, leaf->path) || index_of(disk, path) >= 0)
            continue;
        if (!qcow2_map(path, "qcow2", stop_at_data, &data, NULL) || data)
            return g_steal_pointer(&path); /* what cannot be read might hold data */
    }
    return NULL;
}

/* ---- the judgement ---- */

typedef struct {
    const GuardManifest *manifest;
    const Disk *disk;
    const Volume *leaf;
    const OperationRecord *record; /* that may be changing this disk's leaf; NULL = none */
    const char *target, *source, *format;
} Case;

static void G_GNUC_PRINTF(5, 6) say(GuardFinding *finding, GuardVerdict verdict, const char *leaf,
                                    const char *leaf_format, const char *reason, ...)
{
    va_list args;

    va_start(args, reason);
    finding->verdict = verdict;
    finding->leaf = g_strdup(leaf);
    finding->format = g_strdup(leaf != NULL ? leaf_format : NULL);
    finding->reason = g_strdup_vprintf(reason, args);
    va_end(args);
}

static void
say_stale(const Case *c, GuardFinding *finding, const char *leaf, const char *leaf_format)
{
    say(finding, GUARD_STALE, leaf, leaf_format,
        "the definition of VM '%s' names %s for disk %s, but its newest data are in %s: starting "
        "would lose them",
        c->manifest->vm->name, c->source, c->target, leaf);
}

static void
say_undecided(const Case *c, GuardFinding *finding)
{
    say(finding, GUARD_UNDECIDED, c->leaf->path, c->leaf->format,
        "disk %s of VM '%s' is not decided: operation %s (%s) was under way, the definition names "
        "%s and the manifest %s",
        c->target, c->manifest->vm->name, c->record->id, c->record->kind, c->source, c->leaf->path);
}

/* To go on from the old line while the preview stands would make both half of a VM. */
static void
say_other_line(const Case *c, GuardFinding *finding)
{
    const Vm *vm = c->manifest->vm;
    const Snapshot *tried = vm->preview != NULL ? vm_snapshot(vm, vm->preview->snapshot) : NULL;
    g_autofree char *name = shell_word(vm->name);

    say(finding, GUARD_STALE, c->leaf->path, c->leaf->format,
        "VM '%s' previews snapshot '%s' on %s, but its definition names %s for disk %s, which is "
        "of the line that it has left (to go back to it: livemerge snapshot undo %s)",
        vm->name, tried != NULL ? tried->name : "?", c->leaf->path, c->source, c->target, name);
}

/* Does the file look other than when the manifest was written? Then somebody else wrote into it: we
 * write the manifest last. Which of two times is later says nothing, for a clock can be set back.
 */
static bool
written_behind_our_back(const Volume *lower)
{
    g_autofree char *now = lower->seen != NULL ? volume_look(lower->path) : NULL;

    return now != NULL && !g_str_equal(now, lower->seen);
}

/* The source is another volume of the chain, and no operation of this disk is recorded. */
static void
look_at_lower(const Case *c, const Volume *lower, GuardFinding *finding)
{
    if (access(c->leaf->path, F_OK) != 0 || written_behind_our_back(lower))
        return; /* the chain was changed without us: the manifest is what is old */
    switch (stands_on(c->leaf->path, c->leaf->format, c->source)) {
    case STANDS_NO:
        return;
    case STANDS_YES:
        say_stale(c, finding, c->leaf->path, c->leaf->format);
        return;
    case STANDS_UNKNOWN:
    default:
        say(finding, GUARD_UNDECIDED, NULL, NULL,
            "the definition of VM '%s' names %s for disk %s, its manifest %s, whose chain cannot "
            "be read",
            c->manifest->vm->name, c->source, c->target, c->leaf->path);
    }
}

/* The recorded operation has not given the disk its new leaf. The volumes that a merge takes away
 * leave the manifest when the new leaf enters it; a snapshot ends its record with that. */
static bool
is_before(const Case *c)
{
    return c->record->disk_id == NULL ||
           (c->record->top != NULL && disk_volume(c->disk, c->record->top) != NULL);
}

/* The recorded merge takes away volumes below the source alone: the leaf is the newest, whatever
 * becomes of it. */
static bool
is_above_run(const Case *c, int index)
{
    const Volume *top = c->record->top != NULL ? disk_volume(c->disk, c->record->top) : NULL;
    int at = top != NULL ? index_of(c->disk, top->path) : -1;

    return at >= 0 && index > at;
}

/* A merge of this disk is recorded, and the source is not the manifest's leaf. */
static void
look_at_merge(const Case *c, int index, GuardFinding *finding)
{
    if (is_above_run(c, index)) {
        look_at_lower(c, c->disk->volumes->pdata[index], finding);
        finding->surely = finding->verdict == GUARD_STALE;
        return;
    }
    if (index < 0 && is_before(c) && stands_on(c->source, c->format, c->leaf->path) == STANDS_YES)
        return; /* the VM was switched to an overlay of the leaf; what is below is as it was */
    say_undecided(c, finding);
}

/* A merge is recorded that has not ended, but the volumes that it takes away are not below the leaf
 * any more, by the headers: QEMU rewrites those before all that it copied is flushed (H13). */
static bool
skips_run(const Case *c)
{
    const Volume *top;

    if (c->record == NULL || c->record->disk_id == NULL || c->record->top == NULL)
        return false;
    top = disk_volume(c->disk, c->record->top);
    /* nor from a chain that cannot be read just now */
    return top != NULL && top != c->leaf &&
           stands_on(c->source, c->format, top->path) != STANDS_YES;
}

/* A merge has taken the file out of the chain: whatever stands on what, its data are old. */
static bool
is_leftover(const Case *c)
{
    for (guint i = 0; i < c->manifest->vm->leftovers->len; i++)
        if (file_is_same(((Leftover *)c->manifest->vm->leftovers->pdata[i])->path, c->source))
            return true;
    return false;
}

/* The host lost power after an old leaf was deleted, and the change of the definition with it. */
static bool
is_gone(const Case *c)
{
    g_autofree char *folder = g_path_get_dirname(c->source);
    g_autofree char *own = g_path_get_dirname(c->leaf->path);

    return g_str_equal(folder, own) && access(c->source, F_OK) != 0 && errno == ENOENT &&
           access(c->leaf->path, F_OK) == 0;
}

static void
look_at_case(const Case *c, GuardFinding *finding)
{
    int index = index_of(c->disk, c->source);

    if (index >= 0 && (guint)index + 1 == c->disk->volumes->len) {
        g_autofree char *overlay =
            c->record != NULL && is_before(c) ? newer_overlay(c->disk, c->leaf) : NULL;
        if (overlay != NULL)
            say_stale(c, finding, overlay, "qcow2");
        else if (skips_run(c))
            say(finding, GUARD_UNDECIDED, c->leaf->path, c->leaf->format,
                "disk %s (%s) of VM '%s' is not decided: operation %s (%s) was under way, and "
                "whether all of what it merged was flushed is not known",
                c->target, c->source, c->manifest->vm->name, c->record->id, c->record->kind);
        return;
    }
    if (index < 0 && is_on_branch(c->disk, c->source))
        say_other_line(c, finding);
    else if (index < 0 && (is_leftover(c) || is_gone(c)))
        say_stale(c, finding, c->leaf->path, c->leaf->format);
    else if (c->record != NULL && c->record->disk_id != NULL)
        look_at_merge(c, index, finding);
    else if (index >= 0)
        look_at_lower(c, c->disk->volumes->pdata[index], finding);
}

static const OperationRecord *
record_of(const Vm *vm, const Disk *disk)
{
    for (guint i = 0; i < vm->operations->len; i++) {
        const OperationRecord *record = vm->operations->pdata[i];
        if (record->disk_id == NULL || g_strcmp0(record->disk_id, disk->id) == 0)
            return record;
    }
    return NULL;
}

/* Targets can be renamed and two disks can stand on one template: the disk of this name, unless the
 * file belongs to another one. */
static const Disk *
disk_of(const Vm *vm, const char *target, const char *source)
{
    const Disk *named = vm_disk(vm, target);

    if (named != NULL && (index_of(named, source) >= 0 || is_on_branch(named, source)))
        return named;
    for (guint i = 0; i < vm->disks->len; i++)
        if (index_of(vm->disks->pdata[i], source) >= 0 || is_on_branch(vm->disks->pdata[i], source))
            return vm->disks->pdata[i];
    return named;
}

void
guard_look(const GuardManifest *manifest, const char *target, const char *source,
           const char *format, GuardFinding *ret_finding)
{
    memset(ret_finding, 0, sizeof *ret_finding);
    if (manifest->vm == NULL)
        return;
    const Disk *disk = disk_of(manifest->vm, target, source);
    if (disk == NULL || disk->read_only || disk_leaf(disk) == NULL)
        return;
    const Case c = { .manifest = manifest,
                     .disk = disk,
                     .leaf = disk_leaf(disk),
                     .record = record_of(manifest->vm, disk),
                     .target = target,
                     .source = source,
                     .format = format != NULL ? format : "qcow2" };
    look_at_case(&c, ret_finding);
}

void
guard_finding_clear(GuardFinding *finding)
{
    g_free(finding->leaf);
    g_free(finding->format);
    g_free(finding->reason);
    memset(finding, 0, sizeof *finding);
}
