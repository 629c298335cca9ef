/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Every function of the hypervisor seam on a real VM, if LIVEMERGE_TEST_URI is set. Two more need
 * help from outside:
 *     LIVEMERGE_TEST_SMALL_DIR  a directory on a file system of about 16 MiB: a job that fails
 *     LIVEMERGE_TEST_RESTART    a shell command that kills libvirtd and starts it again
 */
#include "real_vm.h"

#include <glib/gstdio.h>

static void
real_look(Real *r)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_autofree char *job = NULL;

    g_assert_no_error(error);
    g_assert_cmpint(domain->state, ==, VM_PAUSED);
    g_assert_null(domain->state_detail);
    g_assert_true(domain->persistent);
    g_assert_false(domain->has_managed_save);
    g_assert_false(domain->agent_connected);
    g_assert_nonnull(domain->instance);
    g_assert_cmpint(ABS(domain->started - g_get_real_time() / 1000), <, 10 * 60 * 1000);
    g_assert_cmpuint(domain->memory, ==, 32 << 20);
    g_assert_cmpuint(domain->disks->len, ==, 3);
    g_assert_cmpuint(domain->inactive->len, ==, 3);
    g_assert_null(strstr(domain->xml, "secret"));
    g_auto(GStrv) ids = r->ops->list(r->hv, &error);
    g_assert_no_error(error);
    g_assert_true(g_strv_contains((const char *const *)ids, r->id));
    MUST(r->ops->foreign_job(r->hv, r->id, &job, must));
    g_assert_null(job);
    MUST(r->ops->job_cancel(r->hv, r->id, "vda", must));
}

static void
real_internal_commit(Real *r)
{
    g_autofree char *base = in_dir(r, "base-a"), *top = in_dir(r, "s1-a");
    HvJob job = { 0 };

    MUST(r->ops->commit_start(r->hv, r->id, "vda", base, top, 1 << 20, must));
    MUST(r->ops->job_look(r->hv, r->id, "vda", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_COMMIT);
    g_assert_cmpuint(job.bandwidth, ==, 1 << 20);
    g_assert_cmpuint(job.end, >, 0);
    g_autoptr(GError) busy = NULL;
    g_assert_false(r->ops->commit_start(r->hv, r->id, "vda", base, top, 0, &busy));
    g_assert_error(busy, ERR, ERR_BUSY);
    g_test_message("%s", busy->message);
    MUST(r->ops->job_set_bandwidth(r->hv, r->id, "vda", 0, must));
    wait_job(r, "vda", HV_JOB_COMPLETED);
    MUST(r->ops->job_look(r->hv, r->id, "vda", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_NONE);
    check_chain(r, "vda", "s2-a base-a");
    run(r->dir, "qemu-img info -U s2-a | grep -qx 'backing file: base-a'"); /* still relative */
}

static void
real_active_commit(Real *r)
{
    g_autofree char *base = in_dir(r, "base-a");
    g_autoptr(GError) error_early = NULL;
    HvJob job = { 0 };

    write_to(r, "ua-a", "write -P 4 40M 20M");
    MUST(r->ops->commit_start(r->hv, r->id, "vda", base, NULL, 1 << 20, must));
    g_assert_false(r->ops->job_pivot(r->hv, r->id, "vda", &error_early));
    g_assert_error(error_early, ERR, ERR_BUSY); /* not ready yet */
    MUST(r->ops->job_set_bandwidth(r->hv, r->id, "vda", 0, must));
    wait_job(r, "vda", HV_JOB_READY);
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, NULL);
    g_assert_cmpstr(hv_domain_disk(domain, "vda")->mirror_job, ==, "active-commit");
    g_assert_cmpstr(hv_domain_disk(domain, "vda")->mirror_path, ==, base);
    g_assert_cmpstr(hv_domain_disk(domain, "vda")->mirror_ready, ==, "yes");
    g_assert_null(hv_domain_disk(domain, "vdb")->mirror_job);

    MUST(r->ops->resume(r->hv, r->id, must));
    MUST(r->ops->resume(r->hv, r->id, must)); /* repeated: the same */
    g_assert_cmpint(state_of(r), ==, VM_UP);
    MUST(r->ops->suspend(r->hv, r->id, must));
    MUST(r->ops->suspend(r->hv, r->id, must));
    g_assert_cmpint(state_of(r), ==, VM_PAUSED);
    MUST(r->ops->job_look(r->hv, r->id, "vda", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_ACTIVE_COMMIT);
    g_assert_cmpuint(job.current, ==, job.end);
    MUST(r->ops->job_pivot(r->hv, r->id, "vda", must));
    wait_job(r, "vda", HV_JOB_COMPLETED);
    check_chain(r, "vda", "base-a");
    MUST(r->ops->resume(r->hv, r->id, must));
}

static void
real_copy(Real *r)
{
    g_autofree char *dest = in_dir(r, "copy-b");
    HvJob job = { 0 };

    /* s2-b stands on s1-b: copy what s2-b holds, onto s1-b again */
    run(r->dir, "umask 077; qemu-img create -q -f qcow2 -b s1-b -F qcow2 copy-b");
    MUST(r->ops->copy_start(r->hv, r->id, "vdb", dest, true, 4 << 20, must));
    MUST(r->ops->job_look(r->hv, r->id, "vdb", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_COPY);
    g_assert_cmpuint(job.bandwidth, ==, 4 << 20);
    MUST(r->ops->job_cancel(r->hv, r->id, "vdb", must));
    wait_job(r, "vdb", HV_JOB_CANCELED);
    check_chain(r, "vdb", "s2-b s1-b base-b");

    run(r->dir, "qemu-img create -q -f qcow2 -b s1-b -F qcow2 copy-b");
    MUST(r->ops->copy_start(r->hv, r->id, "vdb", dest, true, 0, must));
    wait_job(r, "vdb", HV_JOB_READY);
    MUST(r->ops->suspend(r->hv, r->id, must));
    MUST(r->ops->job_pivot(r->hv, r->id, "vdb", must));
    wait_job(r, "vdb", HV_JOB_COMPLETED);
    MUST(r->ops->resume(r->hv, r->id, must));
    check_chain(r, "vdb", "copy-b s1-b base-b");
}

/* A copy onto an image of another size fails in QEMU, with a reason that libvirt does not tell. */
static void
real_failure(Real *r)
{
    g_autofree char *dest = in_dir(r, "wrong-b");

    run(r->dir, "umask 077; qemu-img create -q -f qcow2 wrong-b 16M");
    MUST(r->ops->copy_start(r->hv, r->id, "vdb", dest, false, 0, must));
    g_autoptr(Seen) seen = next_event(r, HV_EVENT_BLOCK_JOB, "vdb");
    g_assert_cmpint(seen->status, ==, HV_JOB_FAILED);
    g_assert_cmpstr(seen->reason, ==, "Source and target image have different sizes");
    check_chain(r, "vdb", "copy-b s1-b base-b");
}

static void
real_snapshot_refused(Real *r)
{
    g_autofree char *missing = in_dir(r, "missing");
    HvSnapshotDisk row = { "vda", missing };
    g_autoptr(GError) error = NULL;

    g_assert_false(r->ops->snapshot(r->hv, r->id, &row, 1, NULL, &error));
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_test_message("%s", error->message);
    g_clear_error(&error);
    row.target = "vdz";
    g_assert_false(r->ops->snapshot(r->hv, r->id, &row, 1, NULL, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    row = (HvSnapshotDisk){ "vda", missing, missing };
    g_assert_false(r->ops->snapshot(r->hv, r->id, &row, 1, NULL, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    check_chain(r, "vda", "base-a");
}

static void
real_redefine(Real *r)
{
    const char *target = "vdb", *format = "qcow2";
    g_autofree char *other = in_dir(r, "it's & <b>");
    g_autoptr(GError) error = NULL;

    MUST(r->ops->redefine(r->hv, r->id, &target, (const char *const *)&other, &format, 1, must));
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_assert_no_error(error);
    g_assert_null(strstr(domain->inactive_xml, "<backingStore"));
    g_assert_cmpstr(((HvDisk *)domain->inactive->pdata[1])->source, ==, other);
    g_assert_true(g_str_has_suffix(hv_domain_disk(domain, "vdb")->source, "/copy-b"));
    autolibc char *secure =
        virDomainGetXMLDesc(r->vm, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
    g_assert_nonnull(strstr(secure, "secret")); /* the password is still there */
    target = "vdz";
    g_assert_false(
        r->ops->redefine(r->hv, r->id, &target, (const char *const *)&other, &format, 1, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

/* While a backup runs, whatever changes the VM would block for 30 s. */
static void
real_foreign_job(Real *r)
{
    g_autofree char *job = NULL;
    g_autofree char *xml = g_strdup_printf(
        "<domainbackup mode='pull'><server transport='unix' socket='%s/nbd'/><disks>"
        "<disk name='vda' backup='yes' type='file'><scratch file='%s/scratch'/></disk>"
        "<disk name='vdb' backup='no'/></disks></domainbackup>",
        r->dir, r->dir);

    if (virDomainBackupBegin(r->vm, xml, NULL, 0) < 0)
        g_error("no backup begins: %s", virGetLastErrorMessage());
    MUST(r->ops->foreign_job(r->hv, r->id, &job, must));
    g_assert_cmpstr(job, ==, "backup");
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, NULL);
    g_assert_cmpint(domain->state, ==, VM_UP);
    g_assert_cmpstr(domain->foreign_job, ==, "backup");
    g_assert_cmpint(virDomainAbortJob(r->vm), ==, 0);
}

static void
assert_described(Real *r, const char *name, const char *description, const char *title)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);

    g_assert_no_error(error);
    if (name != NULL)
        g_assert_cmpstr(domain->name, ==, name);
    g_assert_cmpstr(domain->description, ==, description);
    g_assert_cmpstr(domain->title, ==, title);
}

static void
real_describe(Real *r)
{
    g_autoptr(GError) error = NULL;
    g_auto(HvHost) host = { 0 };

    MUST(r->ops->describe(r->hv, r->id, "two\nlines & <more>", "it's one", must));
    assert_described(r, NULL, "two\nlines & <more>", "it's one");
    MUST(r->ops->describe(r->hv, r->id, "", "it's one", must));
    assert_described(r, NULL, NULL, "it's one");
    g_assert_false(r->ops->rename(r->hv, r->id, "shop", &error)); /* it runs */
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_test_message("%s", error->message);
    MUST(r->ops->host(r->hv, &host, must));
    g_assert_cmpuint(host.memory, >, 64 << 20);
    g_assert_cmpuint(host.sockets * host.cores * host.threads, >, 0);
    g_assert_nonnull(host.libvirt);
}

static void
real_agent(Real *r)
{
    g_autoptr(GError) error = NULL;
    gint64 start = g_get_monotonic_time();

    g_assert_false(r->ops->freeze(r->hv, r->id, 1, &error)); /* no guest, no agent */
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_test_message("%s", error->message);
    g_clear_error(&error);
    g_assert_false(r->ops->thaw(r->hv, r->id, 1, &error));
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 12 * G_USEC_PER_SEC);
}

static void
real_managed_save(Real *r)
{
    g_assert_cmpint(virDomainManagedSave(r->vm, 0), ==, 0);
    g_assert_cmpint(state_of(r), ==, VM_SUSPENDED);
    g_assert_cmpint(virDomainManagedSaveRemove(r->vm, 0), ==, 0);
    g_assert_cmpint(state_of(r), ==, VM_DOWN);
    g_assert_cmpint(virDomainCreateWithFlags(r->vm, VIR_DOMAIN_START_PAUSED), ==, 0);
}

static void
real_off(Real *r)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job_word = NULL;
    HvJob job = { .type = HV_JOB_COPY };

    g_assert_cmpint(virDomainDestroy(r->vm), ==, 0);
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_assert_no_error(error);
    g_assert_cmpint(domain->state, ==, VM_DOWN);
    g_assert_null(domain->instance);
    g_assert_cmpuint(domain->disks->len, ==, 3);
    g_assert_cmpstr(domain->xml, ==, domain->inactive_xml);
    MUST(r->ops->job_look(r->hv, r->id, "vda", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_NONE);
    MUST(r->ops->job_cancel(r->hv, r->id, "vda", must));
    MUST(r->ops->foreign_job(r->hv, r->id, &job_word, must));
    g_assert_null(job_word);
    g_assert_false(r->ops->suspend(r->hv, r->id, &error));
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_clear_error(&error);
    g_autofree char *other = g_strconcat(domain->name, "-shop", NULL);
    MUST(r->ops->rename(r->hv, r->id, other, must));
    assert_described(r, other, NULL, "it's one");
    MUST(r->ops->describe(r->hv, r->id, "off", "", must));
    assert_described(r, other, "off", NULL);
    g_assert_cmpint(virDomainUndefine(r->vm), ==, 0);
    g_assert_null(r->ops->look(r->hv, r->id, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

static void
test_real(void)
{
    Real r;

    real_open(&r);
    real_look(&r);
    snapshot_both(&r, "s1", "base", NULL);
    write_to(&r, "ua-a", "write -P 3 4M 20M");
    write_to(&r, "ua-b", "write -P 5 4M 20M");
    g_autofree char *memory = in_dir(&r, "memory");
    /* a VM that was paused before stays in QEMU's state "postmigrate" after this: its images are
     * inactive and refuse commits and writes until it runs again */
    MUST(r.ops->resume(r.hv, r.id, must));
    snapshot_both(&r, "s2", "s1", memory);
    g_assert_true(g_file_test(memory, G_FILE_TEST_EXISTS));
    g_assert_cmpint(state_of(&r), ==, VM_UP); /* as it was */
    MUST(r.ops->suspend(r.hv, r.id, must));
    write_to(&r, "ua-b", "write -P 6 8M 20M");
    check_chain(&r, "vda", "s2-a s1-a base-a");
    check_chain(&r, "vdb", "s2-b s1-b base-b");
    real_internal_commit(&r);
    real_active_commit(&r);
    real_copy(&r);
    real_failure(&r);
    real_snapshot_refused(&r);
    real_foreign_job(&r);
    real_describe(&r);
    real_agent(&r);
    real_managed_save(&r);
    real_redefine(&r);
    real_off(&r);
    run(r.dir, "qemu-io -f qcow2 -c 'read -P 3 4M 20M' -c 'read -P 4 40M 20M' base-a");
    run(r.dir, "qemu-io -f qcow2 -c 'read -P 5 4M 4M' -c 'read -P 6 8M 20M' copy-b");
    run(r.dir, "for i in base-a copy-b s1-b base-b; do qemu-img check -q $i; done");
    real_close(&r);
}

/* The base has no room for what the leaf holds. */
static void
test_real_full(void)
{
    Real r;

    real_open(&r);
    g_autofree char *dest = g_build_filename(g_getenv("LIVEMERGE_TEST_SMALL_DIR"), r.id, NULL);
    g_autofree char *create = g_strdup_printf("qemu-img create -q -f qcow2 '%s' 64M", dest);
    write_to(&r, "ua-a", "write -P 3 0 60M");
    run(NULL, create);
    MUST(r.ops->copy_start(r.hv, r.id, "vda", dest, false, 0, must));
    g_autoptr(Seen) seen = next_event(&r, HV_EVENT_BLOCK_JOB, "vda");
    g_assert_cmpint(seen->status, ==, HV_JOB_FAILED);
    g_assert_cmpstr(seen->reason, ==, "No space left on device");
    check_chain(&r, "vda", "base-a");
    g_assert_cmpint(g_unlink(dest), ==, 0);
    real_close(&r);
}

static void
test_real_restart(void)
{
    Real r;

    real_open(&r);
    virDomainFree(r.vm);
    virConnectClose(r.conn);
    g_autoptr(HvDomain) before = r.ops->look(r.hv, r.id, NULL);
    run(NULL, g_getenv("LIVEMERGE_TEST_RESTART"));
    seen_free(next_event(&r, HV_EVENT_DISCONNECTED, NULL));
    seen_free(next_event(&r, HV_EVENT_CONNECTED, NULL));

    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) after = r.ops->look(r.hv, r.id, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(after->instance, ==, before->instance); /* QEMU lived on */
    r.conn = virConnectOpen(g_getenv("LIVEMERGE_TEST_URI"));
    r.vm = virDomainLookupByUUIDString(r.conn, r.id);
    g_assert_nonnull(r.vm);
    snapshot_both(&r, "s1", "base", NULL);
    g_autofree char *base = in_dir(&r, "base-a");
    MUST(r.ops->commit_start(r.hv, r.id, "vda", base, NULL, 0, must));
    wait_job(&r, "vda", HV_JOB_READY); /* events were registered again */
    MUST(r.ops->job_cancel(r.hv, r.id, "vda", must));
    wait_job(&r, "vda", HV_JOB_CANCELED);
    real_close(&r);
}

static void
test_nowhere(void)
{
    g_test_skip("LIVEMERGE_TEST_URI names no hypervisor");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_getenv("LIVEMERGE_TEST_URI") == NULL) {
        g_test_add_func("/hypervisor/real", test_nowhere);
    } else {
        g_test_add_func("/hypervisor/real", test_real);
        if (g_getenv("LIVEMERGE_TEST_SMALL_DIR") != NULL)
            g_test_add_func("/hypervisor/real/full", test_real_full);
        if (g_getenv("LIVEMERGE_TEST_RESTART") != NULL)
            g_test_add_func("/hypervisor/real/restart", test_real_restart);
    }
    return g_test_run();
}
