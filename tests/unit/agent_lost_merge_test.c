/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A commit of the middle into the base that by the headers is done, beside a lost journal
 * (src/agent/lost_merge.h): the middle may hold the only copy of what was not flushed (H13). It
 * stays in the manifest, and where it is; the start is refused; the doctor puts the header back, or
 * believes it while the QEMU that did it lives.
 */
#include "agent/starting.h"
#include "doctor_damage.h"

static void
record_instance(Host *host, const char *instance)
{
    g_autoptr(Vm) vm = manifest(host);
    OperationRecord *record = vm->operations->pdata[0];

    fake_set(&record->instance, instance);
    save(host, vm);
}

/* Which QEMU did it, if it lives: the one that runs now, another, none is known. */
static void
make_lost_merge(Host *host, bool running, const char *instance)
{
    write_data(host, MIDDLE);
    record_merge(host, "commit", 0, 1);
    record_instance(host, instance);
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -b " BASE " -F qcow2 " LEAF);
    look(host);
    if (running)
        fake_power_on(&host->fake);
}

static char *
backing_of_leaf(Host *host)
{
    g_autofree char *leaf = path_of(host, LEAF);
    g_autoptr(Qcow2Header) header = qcow2_header_read(leaf, NULL);

    g_assert_nonnull(header);
    return g_strdup(header->backing_file);
}

static void
expect_backing(Host *host, const char *wanted)
{
    g_autofree char *backing = backing_of_leaf(host);

    g_assert_cmpstr(backing, ==, wanted);
}

static void
expect_volumes(Host *host, guint n, const char *busy)
{
    g_autoptr(Vm) stored = manifest(host);
    g_autoptr(Vm) shown = agent_vm_shown(host->agent, FAKE_VM);

    g_assert_cmpuint(vm_disk(stored, "vda")->volumes->len, ==, n);
    g_assert_cmpuint(vm_disk(shown, "vda")->volumes->len, ==, n);
    g_assert_cmpstr(vm_disk(shown, "vda")->busy, ==, busy);
}

static void
expect_refused_start(Host *host, const char *help)
{
    g_autofree char *leaf = path_of(host, LEAF);
    g_autoptr(json_t) body = json_pack("{s:[{s:s, s:s, s:s}]}", "disks", "target", "vda", "source",
                                       leaf, "format", "qcow2");
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    starting_ask(host->agent, NULL, FAKE_VM, body, &answer, &error);
    if (help == NULL)
        g_assert_no_error(error);
    else
        assert_refused(error, ERR_REFUSED, help);
}

static json_t *
end_of(Host *host, json_t *body)
{
    json_t *op = end_of_unacknowledged(host, body);

    operation_ack(host->agent, json_text(body, "id"), NULL);
    return op;
}

static void
expect_kept_from_deletion(Host *host)
{
    g_autofree char *middle = path_of(host, MIDDLE), *id = id_new();
    g_autoptr(json_t) body = json_pack("{s:s, s:s, s:s, s:[s]}", "id", id, "kind", "delete-volumes",
                                       "vm_id", FAKE_VM, "volumes", middle);
    g_autoptr(json_t) op = end_of(host, body);

    g_assert_cmpstr(json_text(op, "state"), ==, "failed");
    g_assert_nonnull(strstr(json_text(json_object_get(op, "error"), "message"), "manifest"));
    g_assert_true(g_file_test(middle, G_FILE_TEST_EXISTS));
}

/* The VM is off: whoever asks for it gets the header put back. */
static void
test_off(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(Finding) finding = NULL;
    g_autofree char *plain = id_new(), *fixed = id_new(), *undo = id_new();

    host_make(&host);
    make_lost_merge(&host, false, NULL);
    expect_volumes(&host, 3, DISK_LOST_MERGE);
    expect_refused_start(&host, "livemerge doctor web1 --fix --class leftover-record");
    expect_kept_from_deletion(&host);
    expect(&host, DIAG_LEFTOVER_RECORD, &finding);
    g_assert_cmpint(finding->fix_kind, ==, FIX_ASKED);
    g_assert_nonnull(strstr(finding->text, MIDDLE " holds all"));
    json_decref(fix(&host, plain, DIAG_LAST));
    expect_backing(&host, BASE);

    check_mended(fix(&host, fixed, DIAG_LEFTOVER_RECORD));
    expect_backing(&host, MIDDLE);
    expect(&host, DIAG_LAST, NULL);
    expect_volumes(&host, 3, NULL);
    expect_refused_start(&host, NULL);

    json_decref(operate(&host, undo, "doctor-undo", "undo", json_string(fixed)));
    expect_backing(&host, BASE);
    expect(&host, DIAG_LEFTOVER_RECORD, NULL);
    expect_volumes(&host, 3, DISK_LOST_MERGE);
}

/* The manifest has changed since, so the record does not return: without it nobody would know what
 * the volume is worth. */
static void
test_undo_too_late(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *fixed = id_new(), *undo = id_new(), *snapshot = id_new();

    host_make(&host);
    make_lost_merge(&host, false, NULL);
    check_mended(fix(&host, fixed, DIAG_LEFTOVER_RECORD));
    g_autoptr(Vm) vm = manifest(&host);
    const Disk *disk = vm_disk(vm, "vda");
    Snapshot *tuesday = snapshot_new(snapshot, "tuesday", 2);
    vm_add_snapshot_disk(tuesday, disk->id, ((Volume *)disk->volumes->pdata[0])->id);
    g_ptr_array_add(vm->snapshots, tuesday);
    save(&host, vm);
    g_autoptr(json_t) undone = operate(&host, undo, "doctor-undo", "undo", json_string(fixed));
    g_assert_cmpuint(json_array_size(json_object_get(undone, "left")), ==, 2);
    expect_backing(&host, MIDDLE);
    expect_volumes(&host, 3, NULL);
}

/* It was started since, by another QEMU: nothing can be done before it is off. */
static void
test_runs(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(Finding) finding = NULL;
    g_autofree char *id = id_new();

    host_make(&host);
    make_lost_merge(&host, true, "1.1");
    look(&host);
    expect_volumes(&host, 3, DISK_LOST_MERGE);
    expect(&host, DIAG_LEFTOVER_RECORD, &finding);
    g_assert_cmpint(finding->fix_kind, ==, FIX_NONE);
    g_assert_nonnull(strstr(finding->help, "power the VM off"));
    json_decref(fix(&host, id, DIAG_LEFTOVER_RECORD));
    expect_backing(&host, BASE);
    expect_kept_from_deletion(&host);
}

/* The QEMU that did it lives: it has flushed all. */
static void
test_lives(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(Finding) finding = NULL;
    g_autofree char *id = id_new(), *instance = NULL;

    host_make(&host);
    fake_power_on(&host.fake);
    g_autoptr(HvDomain) hv = host.agent->hv->ops->look(host.agent->hv, FAKE_VM, NULL);
    instance = g_strdup(hv->instance);
    host.fake.running = false;
    make_lost_merge(&host, false, instance);
    host.fake.running = true;
    expect(&host, DIAG_LEFTOVER_RECORD, &finding);
    g_assert_cmpint(finding->fix_kind, ==, FIX_SAFE);
    check_mended(fix(&host, id, DIAG_LEFTOVER_RECORD));
    expect_backing(&host, BASE);
    expect_volumes(&host, 2, NULL);
    g_autoptr(Vm) vm = manifest(&host);
    g_assert_cmpuint(vm->leftovers->len, ==, 1);
    g_assert_cmpuint(vm->operations->len, ==, 0);
}

/* The journal has it, but it has ended without a word (its VM was undefined, say): it decides
 * nothing any more. */
static void
test_ended(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *id = id_new(), *nobody = id_new();

    host_make(&host);
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", id, "kind", "snapshot-rename", "vm_id",
                  FAKE_VM, "snapshot_id", nobody, "name", "friday");
    g_autoptr(json_t) op = end_of_unacknowledged(&host, body);
    g_assert_cmpstr(json_text(op, "state"), ==, "failed");
    write_data(&host, MIDDLE);
    record_merge(&host, "commit", 0, 1);
    g_autoptr(Vm) vm = manifest(&host);
    fake_set(&((OperationRecord *)vm->operations->pdata[0])->id, id);
    save(&host, vm);
    MUST(host.dir, "qemu-img rebase -q -u -f qcow2 -b " BASE " -F qcow2 " LEAF);
    look(&host);
    expect_volumes(&host, 3, DISK_LOST_MERGE);
}

/* Killed at each point of the fix, and begun again. */
static void
test_stop_anywhere(void)
{
    for (int n = 0;; n++) {
        g_auto(Host) host = { 0 };
        g_autofree char *id = id_new();

        host_make(&host);
        make_lost_merge(&host, false, NULL);
        fault_arm(n);
        json_decref(fix(&host, id, DIAG_LEFTOVER_RECORD));
        bool fired = fault_fired();
        fault_arm(-1);
        expect_backing(&host, MIDDLE);
        expect(&host, DIAG_LAST, NULL);
        if (!fired)
            break;
        g_assert_cmpint(n, <, 200);
    }
}

/* Its volumes are gone: they were deleted when all was flushed, and it is settled. */
static void
test_gone(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *id = id_new();

    host_make(&host);
    make_lost_merge(&host, false, NULL);
    MUST(host.dir, "rm " MIDDLE);
    look(&host);
    expect_volumes(&host, 2, NULL);
    check_mended(fix(&host, id, DIAG_LEFTOVER_RECORD));
    expect(&host, DIAG_LAST, NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    doctor_grace_s = 0;
    g_test_add_func("/lost-merge/off", test_off);
    g_test_add_func("/lost-merge/undo-too-late", test_undo_too_late);
    g_test_add_func("/lost-merge/runs", test_runs);
    g_test_add_func("/lost-merge/lives", test_lives);
    g_test_add_func("/lost-merge/ended", test_ended);
    g_test_add_func("/lost-merge/stop-anywhere", test_stop_anywhere);
    g_test_add_func("/lost-merge/gone", test_gone);
    return g_test_run();
}
