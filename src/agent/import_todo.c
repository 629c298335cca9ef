/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/import.h"

#include "base/text.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* ---- lost snapshots: what the names of the files tell */

/* DIR/web.1a2b3c4d.qcow2 on DIR/web.qcow2, or on another one of that row: the part in the middle
 * begins the id of the snapshot that was taken (new_file_name()). NULL: no name of ours. */
static char *
mark_of(const char *below, const char *overlay)
{
    g_autofree char *stem = file_stem(below);
    size_t length = strlen(stem);
    g_autoptr(GMatchInfo) match = NULL;
    g_autoptr(GRegex) ours = g_regex_new(
        "^\\.([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8})\\.qcow2$", 0, 0, NULL);

    if (strncmp(overlay, stem, length) != 0 || !g_regex_match(ours, overlay + length, 0, &match))
        return NULL;
    return g_match_info_fetch(match, 1);
}

/* The rest of the id is lost: it is made so that it comes out the same each time. */
static char *
id_of_mark(const Vm *vm, const char *mark)
{
    g_autofree char *words = g_strconcat(vm->id, ":", mark, NULL);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, words, -1);

    if (id_is_valid(mark))
        return g_strdup(mark);
    for (guint i = 0; i < vm->snapshots->len; i++) { /* it is known on another disk */
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        if (g_str_has_prefix(snapshot->id, mark))
            return g_strdup(snapshot->id);
    }
    return g_strdup_printf("%s-%.4s-5%.3s-8%.3s-%.12s", mark, sum, sum + 4, sum + 7, sum + 10);
}

/* When it was taken: its overlay was made then. Of a copy of the file only the last write to the
 * volume below is left to tell. */
static int64_t
date_of(const char *below, const char *overlay)
{
    struct statx made, written;

    if (statx(AT_FDCWD, overlay, 0, STATX_BTIME | STATX_MTIME, &made) < 0)
        return 0;
    if ((made.stx_mask & STATX_BTIME) != 0 && made.stx_btime.tv_sec <= made.stx_mtime.tv_sec)
        return made.stx_btime.tv_sec * 1000 + made.stx_btime.tv_nsec / 1000000;
    if (statx(AT_FDCWD, below, 0, STATX_MTIME, &written) < 0)
        return 0;
    return written.stx_mtime.tv_sec * 1000 + written.stx_mtime.tv_nsec / 1000000;
}

static json_t *
entry_of(json_t *adopt, const char *id)
{
    size_t i;
    json_t *entry;

    json_array_foreach (adopt, i, entry)
        if (g_strcmp0(json_text(entry, "id"), id) == 0)
            return entry;
    return NULL;
}

static json_t *
entry_new(const Vm *vm, const char *id, const char *mark, const Volume *below,
          const Volume *overlay)
{
    const Snapshot *known = vm_snapshot(vm, id);
    g_autofree char *stem = file_stem(overlay->path);
    g_autofree char *name = g_strdup_printf("recovered %.8s", mark);
    g_autofree char *memory = g_strdup_printf("%s.%s.memory", stem, mark);
    json_t *entry =
        json_pack("{s:s, s:s, s:I, s:[]}", "id", id, "name", known != NULL ? known->name : name,
                  "date", (json_int_t)date_of(below->path, overlay->path), "disks");

    if (g_file_test(memory, G_FILE_TEST_IS_REGULAR))
        json_put_text(entry, "memory", memory);
    return entry;
}

static void
find_lost(const Vm *vm, const Disk *disk, json_t *adopt)
{
    for (guint i = 0; i + 1 < disk->volumes->len; i++) {
        const Volume *below = disk->volumes->pdata[i], *overlay = disk->volumes->pdata[i + 1];
        g_autofree char *mark = mark_of(below->path, overlay->path);
        g_autofree char *id = mark != NULL ? id_of_mark(vm, mark) : NULL;
        const Snapshot *known = id != NULL ? vm_snapshot(vm, id) : NULL;
        json_t *entry;

        if (id == NULL || vm_snapshot_owns(vm, disk->id, below->id) ||
            (known != NULL && snapshot_disk(known, disk->id) != NULL))
            continue;
        entry = entry_of(adopt, id);
        if (entry == NULL) {
            entry = entry_new(vm, id, mark, below, overlay);
            json_array_append_new(adopt, entry);
        }
        json_array_append_new(json_object_get(entry, "disks"),
                              json_pack("{s:s, s:s}", "disk_id", disk->id, "volume_id", below->id));
    }
}

/* ---- unfinished deletes */

static json_t *
leftovers_of(const Vm *vm)
{
    json_t *paths = json_array();

    for (guint i = 0; i < vm->leftovers->len; i++)
        json_array_append_new(paths, json_string(((Leftover *)vm->leftovers->pdata[i])->path));
    return paths;
}

static json_t *
merged_away(const Vm *vm)
{
    json_t *list = json_array();

    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        if (snapshot_has_lost_all(snapshot))
            json_array_append_new(
                list, json_pack("{s:s, s:s}", "id", snapshot->id, "name", snapshot->name));
    }
    return list;
}

json_t *
import_todo(const Vm *vm)
{
    json_t *adopt = json_array();

    for (guint i = 0; i < vm->disks->len; i++)
        if (disk_is_managed(vm->disks->pdata[i]))
            find_lost(vm, vm->disks->pdata[i], adopt);
    return json_pack("{s:o, s:o, s:o}", "adopt", adopt, "delete", leftovers_of(vm), "forget",
                     merged_away(vm));
}

bool
import_is_needed(const json_t *todo)
{
    return json_array_size(json_object_get(todo, "adopt")) > 0 ||
           json_array_size(json_object_get(todo, "delete")) > 0 ||
           json_array_size(json_object_get(todo, "forget")) > 0;
}

/* ---- adopting */

static Snapshot *
snapshot_of(Vm *vm, const json_t *entry)
{
    Snapshot *snapshot = vm_snapshot(vm, json_text(entry, "id"));
    const json_t *first = json_array_get(json_object_get(entry, "disks"), 0);
    const char *memory = json_text(entry, "memory");
    struct stat st;

    if (snapshot != NULL)
        return snapshot;
    snapshot =
        snapshot_new(json_text(entry, "id"), json_text(entry, "name"), json_number(entry, "date"));
    if (memory != NULL && stat(memory, &st) == 0) {
        snapshot->memory = g_strdup(memory);
        snapshot->memory_size = (uint64_t)st.st_size;
    }
    vm_insert_snapshot(vm, snapshot, json_text(first, "disk_id"), json_text(first, "volume_id"));
    return snapshot;
}

void
import_adopt(Vm *vm, const json_t *adopt)
{
    for (size_t i = 0; i < json_array_size(adopt); i++) {
        const json_t *entry = json_array_get(adopt, i), *disks = json_object_get(entry, "disks");
        Snapshot *snapshot = snapshot_of(vm, entry);

        for (size_t k = 0; k < json_array_size(disks); k++) {
            const json_t *part = json_array_get(disks, k);
            const char *disk_id = json_text(part, "disk_id");
            const Disk *disk = vm_disk(vm, disk_id);
            int at = disk != NULL ? disk_volume_index(disk, json_text(part, "volume_id")) : -1;

            if (at < 0 || snapshot_disk(snapshot, disk_id) != NULL)
                continue;
            vm_add_snapshot_disk(snapshot, disk_id, json_text(part, "volume_id"));
            ((Volume *)disk->volumes->pdata[at + 1])->foreign = false;
        }
    }
}
