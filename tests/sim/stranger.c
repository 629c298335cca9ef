/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Somebody else takes snapshots of the running VM's first disk: virsh snapshot-create-as
 * --disk-only. Of theirs libvirt loses what it loses of ours: killed between QEMU's switch and the
 * definition, it, or the host, forgets the overlay, and the next start is from the volume below.
 * Ours is found again by whoever asked for it; of theirs nobody knows, and what the guest wrote to
 * it is lost by right, unless a definition or a manifest had come to name it.
 */
#include "libvirt.h"
#include "lines.h"

#include "qcow2/qcow2.h"

#include <string.h>
#include <unistd.h>

#define MOST 8 /* as many as faults */

typedef struct {
    char path[64];
    bool switched;                /* QEMU is */
    bool defined;                 /* a definition has come to name it */
    bool taken;                   /* libvirt has said so */
    bool lost;                    /* and what was written to it */
    Line line;                    /* that it was taken on */
    uint64_t acked[MAX_CLUSTERS]; /* at that instant */
} Theirs;

static Theirs theirs[MOST];
static unsigned n_theirs;

void
stranger_reset(void)
{
    if (n_theirs > 0)
        memset(theirs, 0, sizeof theirs);
    n_theirs = 0;
}

static Theirs *
find(const char *path)
{
    for (unsigned i = 0; i < n_theirs; i++)
        if (strcmp(theirs[i].path, path) == 0)
            return &theirs[i];
    return NULL;
}

bool
stranger_is_theirs(const char *path)
{
    return strstr(path, "/theirs") != NULL;
}

bool
stranger_is_left(const char *path)
{
    const Theirs *one = find(path);

    return one != NULL && (!one->taken || one->lost);
}

/* ---- what libvirt loses of it ---- */

void
stranger_switched(const SimDisk *disk, const char *overlay)
{
    Theirs *one = find(overlay);

    one->switched = true;
    one->line = lines_now();
    memcpy(one->acked, disk->acked, sizeof one->acked);
}

static bool
names(const char *leaf, const char *path)
{
    char broken[128];
    const VfsNode *node = vfs_find(path);
    g_autoptr(GArray) chain = image_chain(leaf, g_str_has_suffix(leaf, ".raw"), broken);

    for (guint i = 0; node != NULL && chain != NULL && i < chain->len; i++)
        if (g_array_index(chain, Image, i).node == node)
            return true;
    return false;
}

void
stranger_defined(const SimDisk *disk)
{
    for (unsigned i = 0; disk == &vm.disks[0] && i < n_theirs; i++)
        theirs[i].defined = theirs[i].defined || names(disk->defined, theirs[i].path);
}

void
stranger_definition_lost(const SimDisk *disk)
{
    for (unsigned i = 0; disk == &vm.disks[0] && i < n_theirs; i++)
        theirs[i].defined = theirs[i].defined && names(disk->defined, theirs[i].path);
}

/* Does it read as it did then? */
static bool
is_as_then(const Theirs *one)
{
    for (unsigned c = 0; c < vm.clusters; c++)
        if (check_read(&vm.disks[0], c) != one->acked[c])
            return false;
    return true;
}

/* The lowest that is lost takes those above it with it. */
void
stranger_start(void)
{
    for (unsigned i = 0; i < n_theirs; i++) {
        Theirs *one = &theirs[i];
        if (!one->switched || one->defined || one->lost ||
            graph_find(&vm.disks[0], one->path, NULL) != NULL || lines_is_known(one->path) ||
            !is_as_then(one))
            continue;
        world_trace("libvirt has lost %s, and what was written to it", one->path);
        for (unsigned k = i; k < n_theirs; k++)
            theirs[k].lost = theirs[k].lost || theirs[k].line == one->line;
        lines_take(one->line, &vm.disks[0], one->acked);
    }
}

/* ---- the snapshot ---- */

/* As libvirt does it: the overlay is made by itself, on whatever the disk is on then. */
static bool
do_stranger(Call *call, GError **error)
{
    HvSnapshotDisk *one = g_new0(HvSnapshotDisk, 1); /* as all of a call it is never freed */
    char *path = NULL;
    SimDisk *disk = &vm.disks[0];

    if (!libvirt_needs_running(error))
        return false;
    for (unsigned n = 0; path == NULL || vfs_find(path) != NULL || find(path) != NULL; n++)
        path = g_strdup_printf(HOME "/theirs%u.qcow2", n);
    g_autofree char *below = g_path_get_basename(disk->live.source);
    g_assert(n_theirs < MOST);
    g_strlcpy(theirs[n_theirs++].path, path, sizeof theirs->path);
    if (!qcow2_create(path, vm.clusters * CLUSTER_BYTES, below,
                      g_str_has_suffix(below, ".raw") ? "raw" : "qcow2", 0600, -1, -1, error))
        return false;
    *one = (HvSnapshotDisk){ .target = disk->target, .overlay = path };
    call->disks = one;
    call->n = 1;
    bool ok = libvirt_switch_disks(call, error);
    libvirt_save_all_status();
    find(path)->taken = ok;
    if (!ok)
        unlink(path);
    return ok;
}

void
stranger_comes(void)
{
    Call *call;

    if (!vm.libvirtd)
        return;
    call = g_new0(Call, 1);
    call->func = do_stranger;
    call->stranger = true;
    g_ptr_array_add(libvirt_calls, call);
    fiber_start(P_LIBVIRTD, "virsh", libvirt_run_call, call);
}
