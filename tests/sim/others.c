/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The other VM, which is off: what it holds, and that it keeps it.
 */
#include "world.h"

#include "qcow2/qcow2.h"

#include <string.h>

#define PATH HOME "/second.qcow2"

static uint64_t wanted[MAX_DISKS][MAX_CLUSTERS];

void
other_reset(void)
{
    memset(&second, 0, sizeof second);
    memset(wanted, 0, sizeof wanted);
}

/* It stands on volume n of the VM's first disk. */
void
other_make(unsigned n)
{
    g_autofree char *below = g_path_get_basename(vm.disks[0].volumes[n]);
    g_autoptr(GError) error = NULL;
    Image image;

    if (!qcow2_create(PATH, vm.clusters * CLUSTER_BYTES, below, "qcow2", 0600, -1, -1, &error))
        g_error("%s", error->message);
    g_assert(image_at(vfs_find(PATH), PATH, false, &image));
    memcpy(wanted[0], vm.disks[0].content[n], sizeof wanted[0]);
    wanted[0][1] = ++vm.versions;
    image_put(&image, 1, wanted[0][1]);
    image_flush(&image);
    vfs_sync(image.node);
    g_strlcpy(second.id, "87654321-1234-4234-8234-123456789abc", sizeof second.id);
    g_strlcpy(second.name, "other", sizeof second.name);
    g_strlcpy(second.targets[0], "vda", sizeof second.targets[0]);
    g_strlcpy(second.sources[0], PATH, sizeof second.sources[0]);
    second.n_disks = 1;
    second.there = true;
}

void
other_expect(int snapshot)
{
    for (unsigned i = 0; i < vm.n_disks; i++)
        memcpy(wanted[i], snapshot >= 0 ? vm.disks[i].content[snapshot] : vm.disks[i].acked,
               sizeof wanted[i]);
}

static void
check_disk(unsigned i, const char *when)
{
    char broken[128];
    g_autoptr(GArray) chain =
        image_chain(second.sources[i], g_str_has_suffix(second.sources[i], ".raw"), broken);

    if (chain == NULL) {
        world_wrong("%s: VM '%s', disk %s: %s is missing or damaged", when, second.name,
                    second.targets[i], broken);
        return;
    }
    for (unsigned c = 0; c < vm.clusters; c++)
        if (image_chain_get(chain, c) != wanted[i][c]) {
            world_wrong("%s: VM '%s', disk %s: cluster %u reads %" G_GUINT64_FORMAT
                        ", and should be %" G_GUINT64_FORMAT,
                        when, second.name, second.targets[i], c, image_chain_get(chain, c),
                        wanted[i][c]);
            return;
        }
}

static void
check_disks(const char *when)
{
    for (unsigned i = 0; second.there && i < second.n_disks; i++)
        check_disk(i, when);
}

/* It is whole, and stands on nothing of the first one. */
void
check_cloned(void)
{
    if (second.n_disks != vm.n_disks)
        world_wrong("the clone has %u disks, not %u", second.n_disks, vm.n_disks);
    check_disks("the clone is defined");
    for (unsigned i = 0; i < second.n_disks; i++) {
        Image image;
        if (image_at(vfs_find(second.sources[i]), second.sources[i], false, &image) &&
            *image.backing != '\0')
            world_wrong("the clone's disk %s stands on %s", second.targets[i], image.backing);
    }
}

void
check_other(GHashTable *names)
{
    char broken[128];

    check_disks("at the end");
    for (unsigned i = 0; second.there && i < second.n_disks; i++) {
        g_autoptr(GArray) chain = image_chain(second.sources[i], false, broken);
        for (guint k = 0; chain != NULL && k < chain->len; k++)
            g_hash_table_add(names, vfs_name_of(g_array_index(chain, Image, k).node));
    }
}
