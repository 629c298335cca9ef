/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Somebody else takes snapshots of the running VM's first disk: virsh snapshot-create-as
 * --disk-only. Of theirs libvirt loses what it loses of ours: killed between QEMU's switch and the
 * definition, it, or the host, forgets the overlay, and the next start is from the volume below.
 * Ours is found again by whoever asked for it; of theirs nobody knows, and what the guest wrote to
 * it is lost by right, unless a definition or a manifest had come to name it. The doctor tells of
 * the file.
 */
#include "libvirt.h"
#include "lines.h"

#include "qcow2/qcow2.h"

#include <string.h>
#include <unistd.h>

#define MOST 8 /* as many as faults */
#define MOMENT_US 20000

typedef struct {
    char path[64];
    bool switched;                /* QEMU is */
    bool defined;                 /* a definition has come to name it */
    bool taken;                   /* libvirt has said so */
    bool lost;                    /* and what was written to it */
    int64_t overwritten_us;       /* when the definition ceased to name it; 0 = it did not */
    Line line;                    /* that it was taken on */
    uint64_t acked[MAX_CLUSTERS]; /* at that instant */
} Theirs;

static Theirs theirs[MOST];
static unsigned n_theirs;
static int64_t died_us; /* the last QEMU did */

void
stranger_reset(void)
{
    if (n_theirs > 0)
        memset(theirs, 0, sizeof theirs);
    n_theirs = 0;
    died_us = 0;
}

static Theirs *
find(const char *path)
{
    for (unsigned i = 0; i < n_theirs; i++)
        if (strcmp(theirs[i].path, path) == 0)
            return &theirs[i];
    return NULL;
}

/* Ours on top of it is called after it. */
bool
stranger_is_theirs(const char *path)
{
    const char *name = strstr(path, "/theirs");

    return name != NULL &&
           strcmp(name + strlen("/theirs") + strspn(name + strlen("/theirs"), "0123456789"),
                  ".qcow2") == 0;
}

bool
stranger_was_here(void)
{
    for (unsigned i = 0; i < n_theirs; i++)
        if (theirs[i].switched || vfs_find(theirs[i].path) != NULL)
            return true;
    return false;
}

bool
stranger_stands_on(const char *path, const char *leaf)
{
    char broken[128];
    g_autoptr(GArray) chain = stranger_is_theirs(path) ? image_chain(path, false, broken) : NULL;
    guint i = 0;

    while (chain != NULL && i + 1 < chain->len &&
           stranger_is_theirs(g_array_index(chain, Image, i).backing))
        i++;
    return chain != NULL && g_strcmp0(g_array_index(chain, Image, i).backing, leaf) == 0;
}

/* ---- what libvirt loses of it ---- */

bool
stranger_fits(const SimDisk *disk, const char *overlay)
{
    Image image;

    return image_at(vfs_find(overlay), overlay, false, &image) &&
           strcmp(image.backing, disk->live.source) == 0;
}

void
stranger_switched(const SimDisk *disk, const char *overlay)
{
    Theirs *one = find(overlay);

    one->switched = true;
    one->line = lines_now();
    memcpy(one->acked, disk->acked, sizeof one->acked);
}

/* By the headers */
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

/* Between the agent's last look and its correction of the definition theirs can come; the next look
 * shows that, and it is put right at once. Only if QEMU dies in that very moment nobody can. */
void
stranger_defined(const SimDisk *disk)
{
    for (unsigned i = 0; disk == &vm.disks[0] && i < n_theirs; i++) {
        Theirs *one = &theirs[i];
        if (names(disk->defined, one->path)) {
            one->defined = true;
            one->overwritten_us = 0;
        } else if (one->defined && one->overwritten_us == 0) {
            one->overwritten_us = fiber_now_us();
            one->defined = vm.runs || one->overwritten_us - died_us > MOMENT_US;
        }
    }
}

/* Not withstood yet: theirs comes between a look and our own snapshot, whose overlay's header skips
 * it therefore, and QEMU or libvirtd dies before the agent has had QEMU write into that what it
 * reads. Here QEMU has. */
void
stranger_spare(void)
{
    GPtrArray *graph = vm.disks[0].graph;

    for (guint i = 0; n_theirs > 0 && i + 1 < graph->len; i++) {
        Node *node = graph->pdata[i], *below = graph->pdata[i + 1];
        if (!stranger_is_theirs(below->path) || strcmp(node->image.backing, below->path) == 0)
            continue;
        world_trace("%s comes to stand on %s by its header", node->path, below->path);
        image_set_backing(&node->image, strrchr(below->path, '/') + 1, false);
        image_flush(&node->image);
    }
}

void
stranger_qemu_died(void)
{
    stranger_spare();
    died_us = fiber_now_us();
    for (unsigned i = 0; i < n_theirs; i++)
        if (theirs[i].overwritten_us != 0 && died_us - theirs[i].overwritten_us < MOMENT_US)
            theirs[i].defined = false;
}

void
stranger_definition_lost(const SimDisk *disk)
{
    for (unsigned i = 0; disk == &vm.disks[0] && i < n_theirs; i++)
        if (theirs[i].defined && !names(disk->defined, theirs[i].path))
            theirs[i].defined = theirs[i].taken = false;
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

bool
stranger_is_left(const char *path)
{
    for (unsigned i = 0; i < n_theirs; i++)
        if ((!theirs[i].taken || theirs[i].lost) &&
            (strcmp(theirs[i].path, path) == 0 || names(theirs[i].path, path)))
            return true;
    return false;
}

bool
stranger_is_told(const char *text)
{
    for (unsigned i = 0; i < n_theirs; i++)
        if (theirs[i].lost && strstr(text, theirs[i].path) != NULL)
            return true;
    return false;
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
