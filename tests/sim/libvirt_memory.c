/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Memory that is saved beside a snapshot, and a VM that goes on from it. libvirt writes the file
 * while the VM runs on, at last with the VM suspended, marks it as whole, and lets QEMU switch to
 * the overlays then. It makes nothing durable.
 */
#include "libvirt.h"
#include "lines.h"

#include <string.h>

#define PARTIAL UINT64_C(0x5061727469616c21)
#define WHOLE UINT64_C(0x57686f6c65212121)

/* A page of its own for each disk: what the guest knows of it. */
typedef struct {
    uint64_t whole;
    uint64_t knows[MAX_CLUSTERS];
} Page;

static void
write_mark(VfsNode *node, uint64_t mark)
{
    vfs_write(node, &mark, sizeof mark, 0);
}

static VfsNode *
make_file(const char *path)
{
    const char *name;
    VfsNode *dir = vfs_parent(path, &name), *node = vfs_find(path);

    if (node == NULL) {
        node = vfs_node_new(false);
        vfs_link(dir, name, node);
    }
    vfs_truncate(node, 0);
    return node;
}

static void
write_memory(VfsNode *node)
{
    for (unsigned i = 0; i < vm.n_disks; i++) {
        Page page = { .whole = WHOLE };
        memcpy(page.knows, vm.disks[i].acked, sizeof page.knows);
        vfs_write(node, &page, sizeof page, (uint64_t)VFS_PAGE * (i + 1));
    }
}

static bool
read_page(const char *path, unsigned disk, Page *ret_page)
{
    VfsNode *node = vfs_find(path);

    memset(ret_page, 0, sizeof *ret_page);
    return node != NULL &&
           vfs_read(node, ret_page, sizeof *ret_page, (uint64_t)VFS_PAGE * (disk + 1)) ==
               sizeof *ret_page &&
           ret_page->whole == WHOLE;
}

/* What libvirt itself would notice. */
static bool
is_marked(const char *path)
{
    VfsNode *node = vfs_find(path);
    uint64_t mark = 0;

    return node != NULL && vfs_read(node, &mark, sizeof mark, 0) == sizeof mark && mark == WHOLE;
}

bool
libvirt_memory_is_whole(const char *path)
{
    Page page;

    for (unsigned i = 0; i < vm.n_disks; i++)
        if (!read_page(path, i, &page))
            return false;
    return is_marked(path);
}

/* The guest goes on: the disks must be what it knows of them. */
static void
check_memory(const char *path)
{
    for (unsigned i = 0; i < vm.n_disks; i++) {
        Page page;
        if (!read_page(path, i, &page)) {
            world_wrong("the VM goes on from %s, which is damaged", path);
            return;
        }
        for (unsigned c = 0; c < vm.clusters; c++)
            if (check_read(&vm.disks[i], c) != page.knows[c]) {
                world_wrong("the VM goes on from %s, which knows %" G_GUINT64_FORMAT
                            " in cluster %u of disk %s, and reads %" G_GUINT64_FORMAT,
                            path, page.knows[c], c, vm.disks[i].target,
                            check_read(&vm.disks[i], c));
                return;
            }
    }
}

/* ---- a snapshot with memory ---- */

static bool
is_alive(const char *what, unsigned life, GError **error)
{
    fiber_point(what);
    return (vm.runs && vm.life == life) ||
           error_set(error, ERR_HYPERVISOR, "domain is not running");
}

static bool
save(const char *path, GError **error)
{
    unsigned life = vm.life;

    if (storage_error() != 0 || storage_is_full())
        return error_set(error, ERR_HYPERVISOR, "Unable to write to '%s'", path);
    VfsNode *node = make_file(path);
    write_mark(node, PARTIAL);
    if (!is_alive("libvirt saves the memory", life, error))
        return false;
    fiber_sleep_us((int64_t)fiber_below(100000));
    if (!is_alive("the VM is suspended for its memory", life, error))
        return false;
    qemu_suspend();
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    write_memory(node);
    if (!is_alive("libvirt marks the memory as whole", life, error))
        return false;
    write_mark(node, WHOLE);
    return is_alive("libvirt has saved the memory", life, error);
}

static void
remove_file(const char *path)
{
    const char *name;
    VfsNode *dir = vfs_parent(path, &name);

    if (vfs_find(path) != NULL)
        vfs_unlink(dir, name);
}

bool
libvirt_with_memory(Call *call, bool (*switch_disks)(Call *call, GError **error), GError **error)
{
    unsigned life = vm.life;

    if (libvirt_has_job())
        return error_set(error, ERR_BUSY, "domain has active block job");
    if (vm.saving)
        return error_set(error, ERR_BUSY, "another job holds the domain");
    vm.saving = true;
    vm.saved = (SavedMemory){ .paused = vm.paused };
    bool ok = save(call->memory, error) && switch_disks(call, error);
    bool lives = vm.runs && vm.life == life;
    if (!ok || !lives)
        remove_file(call->memory);
    if (lives && !vm.saved.paused)
        qemu_resume();
    vm.saving = false;
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return ok;
}

/* ---- going on ---- */

static bool
do_restore(Call *call, GError **error)
{
    const char *sources[MAX_DISKS] = { NULL };

    fiber_point("libvirt reads the memory");
    if (!is_marked(call->memory))
        return error_set(error, ERR_HYPERVISOR, "save image %s is incomplete", call->memory);
    for (unsigned i = 0; i < vm.n_disks; i++)
        for (unsigned k = 0; k < call->n; k++)
            if (strcmp(call->targets[k], vm.disks[i].target) == 0)
                sources[i] = call->sources[k];
    for (unsigned i = 0; i < vm.n_disks; i++)
        if (sources[i] == NULL)
            return error_set(error, ERR_HYPERVISOR, "disk %s is not given", vm.disks[i].target);
    if (!libvirt_start_on(call, sources, error))
        return false;
    world_trace("the VM goes on from %s", call->memory);
    check_memory(call->memory);
    return true;
}

bool
libvirt_op_restore(Hypervisor *hv, const char *vm_id, const char *memory,
                   const char *const *targets, const char *const *sources,
                   const char *const *formats, unsigned n, bool paused, GError **error)
{
    Call call = { .func = do_restore, .memory = g_strdup(memory), .n = n, .paused = paused };
    g_autoptr(GError) why = NULL;

    (void)vm_id;
    (void)formats;
    libvirt_name_disks(&call, targets, sources, n);
    if (libvirt_do((Client *)hv, "restore", &call, &why))
        return true;
    if (vm.libvirtd && libvirt_sees_vm())
        return true; /* as power.c: somebody else was faster */
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}
