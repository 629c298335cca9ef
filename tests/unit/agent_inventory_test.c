/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the agent finds of a VM: whose block jobs, who stands on its volumes, which disk is which.
 */
#include "chain_host.h"

/* Somebody else's block job is seen, also one that the definition does not show. */
static void
test_foreign_block_jobs(void)
{
    static const struct {
        HvJobType job;
        const char *busy;
    } rows[] = { { HV_JOB_NONE, NULL },
                 { HV_JOB_COPY, "a block job (copy)" },
                 { HV_JOB_ACTIVE_COMMIT, "a block job (active-commit)" },
                 { HV_JOB_PULL, "a block job (pull)" } };
    g_autoptr(Host) host = host_new(true);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_mutex_lock(&host->fake.lock);
        host->fake.disks[1].job = rows[i].job;
        g_mutex_unlock(&host->fake.lock);
        g_autoptr(Vm) vm = look_closely(host);
        g_assert_cmpstr(vm_disk(vm, "vda")->busy, ==, NULL);
        g_assert_cmpstr(vm_disk(vm, "vdb")->busy, ==, rows[i].busy);
    }
}

/* A file that no VM has stands on a volume. Those of the chain itself do not count. */
static void
test_users_without_vm(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *clone = in(host->disks, "clone.q"),
                    *wanted = g_strconcat("file ", clone, NULL);

    MUST(host->disks, "qemu-img create -q -f qcow2 -b a.1.q -F qcow2 clone.q");
    g_autoptr(Vm) vm = look_closely(host);
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        for (guint k = 0; k < disk->volumes->len; k++)
            g_assert_cmpstr(((Volume *)disk->volumes->pdata[k])->used_by, ==,
                            i == 0 && k == 1 ? wanted : NULL);
    }
}

/* Two disks of one VM on one template are two disks. */
static void
test_shared_template(void)
{
    g_autoptr(Host) host = host_new(false);
    g_autoptr(GError) error = NULL;

    agent_end(host);
    g_autofree char *dot = in(host->disks, ".livemerge/vms/" FAKE_VM ".json");
    g_assert_cmpint(g_unlink(dot), ==, 0);
    MUST(host->disks, "qemu-img create -q -f qcow2 -b a.q -F qcow2 c.q");
    g_autofree char *c = in(host->disks, "c.q");
    fake_set(&host->fake.disks[1].stored, c);
    for (unsigned i = 0; i < 2; i++) { /* the second look has the manifest of the first */
        agent_begin(host);
        g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);
        g_assert_cmpstr(vm_disk(vm, "vda")->id, !=, vm_disk(vm, "vdb")->id);
        agent_end(host);
    }
}

/* The first disk lies where nothing of ours can be: no manifest is missed there. */
static void
test_first_disk_elsewhere(void)
{
    g_autoptr(Host) host = host_new(false);

    agent_end(host);
    g_autofree char *manifest = in(host->disks, ".livemerge/vms/" FAKE_VM ".json");
    g_assert_cmpint(g_unlink(manifest), ==, 0);
    fake_set(&host->fake.disks[0].stored, "/proc/version");
    agent_begin(host);
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);
    g_assert_cmpstr(vm->unmanaged, ==, NULL);
    g_assert_nonnull(vm->home);
    g_assert_true(disk_is_managed(vm_disk(vm, "vdb")));
    g_assert_false(disk_is_managed(vm_disk(vm, "vda")));
    agent_end(host);
}

static char *
tag_of(Host *host)
{
    char *tag = NULL;
    g_autoptr(Vm) vm = look_closely(host);
    g_autoptr(Vm) told = agent_vm_told(host->agent, FAKE_VM, NULL, &tag);

    g_assert_nonnull(told);
    return tag;
}

/* Publishes another VM with this file as its only disk, or without any. */
static void
use_by_another(Host *host, const char *name, const char *path)
{
    AgentVm *entry = agent_entry(host->agent, "22222222-2222-4222-8222-222222222222", true);
    Vm *vm = vm_new(entry->id, name);
    Disk *disk = disk_new("d", "vda");
    WITH_LOCK(&host->agent->lock);

    if (path != NULL)
        g_ptr_array_add(disk->volumes, volume_new("v", path, "qcow2", MIB));
    g_ptr_array_add(vm->disks, disk);
    vm_free(entry->vm);
    entry->vm = vm;
}

/* The tag of what is told is another one exactly if that is. */
static void
test_tag(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *file = in(host->disks, "a.1.q"), *life = g_strdup(host->agent->life);
    g_autofree char *first = tag_of(host), *same = tag_of(host);

    g_assert_nonnull(first);
    g_assert_cmpstr(first, ==, same);
    g_autofree char *none = NULL, *known = NULL;
    g_assert_null(agent_vm_told(host->agent, "33333333-3333-4333-8333-333333333333", first, &none));
    g_assert_null(none);
    g_assert_null(agent_vm_told(host->agent, FAKE_VM, first, &known));
    g_assert_cmpstr(known, ==, first);

    MUST(host->disks, "qemu-io -f qcow2 -c 'write 512k 256k' a.3.q");
    g_autofree char *grown = tag_of(host);
    g_assert_cmpstr(grown, !=, first);

    /* nothing of the VM itself is another */
    use_by_another(host, "web2", file);
    g_autofree char *used = tag_of(host), *still = tag_of(host);
    g_assert_cmpstr(used, !=, grown);
    g_assert_cmpstr(used, ==, still);
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);
    g_assert_cmpstr(disk_volume_by_path(vm_disk(vm, "vda"), file)->used_by, ==, "VM web2");
    use_by_another(host, "web3", file);
    g_autofree char *renamed = tag_of(host);
    g_assert_cmpstr(renamed, !=, used);
    use_by_another(host, "web3", NULL);
    g_autofree char *unused = tag_of(host);
    g_assert_cmpstr(unused, !=, renamed);
    g_assert_cmpstr(unused, !=, grown); /* it may be asked for by who heard of neither */

    agent_end(host);
    agent_begin(host);
    g_assert_cmpstr(host->agent->life, !=, life);
    g_autofree char *again = tag_of(host);
    g_assert_true(g_str_has_prefix(again, host->agent->life));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make();
    g_test_add_func("/inventory/foreign-block-jobs", test_foreign_block_jobs);
    g_test_add_func("/inventory/users-without-vm", test_users_without_vm);
    g_test_add_func("/inventory/shared-template", test_shared_template);
    g_test_add_func("/inventory/first-disk-elsewhere", test_first_disk_elsewhere);
    g_test_add_func("/inventory/tag", test_tag);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
