/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What was mended is taken back some days later, when the VM has gone on: an undo puts nothing in
 * danger that was not so when it was mended, and takes nothing from anybody that is newer.
 */
#include "doctor_damage.h"

/* Mends it; the operation's id is the caller's. */
static char *
mended(Host *host, Diagnosis class)
{
    char *id = id_new();

    check_mended(fix(host, id, class));
    expect(host, DIAG_LAST, NULL);
    return id;
}

/* Nothing of it was undone, and the only reason says so. */
static void
stays(Host *host, const char *fix_id, const char *word)
{
    g_autofree char *id = id_new();
    g_autoptr(json_t) result = operate(host, id, "doctor-undo", "undo", json_string(fix_id));
    const char *why = json_string_value(json_array_get(json_object_get(result, "left"), 0));

    g_assert_cmpint(json_number(result, "undone"), ==, 0);
    g_assert_cmpuint(json_array_size(json_object_get(result, "left")), ==, 1);
    if (strstr(why, word) == NULL)
        g_error("'%s' is not in: %s", word, why);
}

static char *
backing_of(Host *host, const char *name)
{
    g_autofree char *path = path_of(host, name);
    g_autoptr(GError) error = NULL;
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, &error);

    g_assert_no_error(error);
    return g_strdup(header->backing_file);
}

/* ---- headers ---- */

/* Its backing file was merged away since, or another one is below it now. */
static void
test_backing_is_another(void)
{
    g_auto(Host) host = { 0 };

    need_qemu();
    host_make(&host);
    make_absolute(&host);
    g_autofree char *id = mended(&host, DIAG_ABSOLUTE_PATH);
    MUST(host.dir, "cp " BASE " web.0a2b3c4d.qcow2");
    MUST(host.dir, "qemu-img rebase -q -u -f qcow2 -F qcow2 -b web.0a2b3c4d.qcow2 " MIDDLE);
    MUST(host.dir, "rm " BASE);
    stays(&host, id, "web.0a2b3c4d.qcow2");
    g_autofree char *backing = backing_of(&host, MIDDLE);
    g_assert_cmpstr(backing, ==, "web.0a2b3c4d.qcow2");
}

static void
test_backing_of_a_vm_that_runs(void)
{
    g_auto(Host) host = { 0 };

    need_qemu();
    host_make(&host);
    make_absolute(&host);
    g_autofree char *id = mended(&host, DIAG_ABSOLUTE_PATH);
    g_mutex_lock(&host.fake.lock);
    fake_power_on(&host.fake);
    g_mutex_unlock(&host.fake.lock);
    stays(&host, id, "not off");
    g_autofree char *backing = backing_of(&host, MIDDLE);
    g_assert_cmpstr(backing, ==, BASE);
}

/* ---- the definition ---- */

static void
set_leaf(Host *host, const char *live, const char *stored)
{
    g_autofree char *a = path_of(host, live), *b = path_of(host, stored);
    WITH_LOCK(&host->fake.lock);

    fake_set(&host->fake.disks[0].live, a);
    fake_set(&host->fake.disks[0].stored, b);
}

/* It would start from an old leaf. */
static void
test_definition_of_a_vm_that_is_off(const void *saved)
{
    g_auto(Host) host = { 0 };

    need_qemu();
    host_make(&host);
    make_stale_definition(&host);
    g_autofree char *id = mended(&host, DIAG_STALE_DEFINITION);
    g_mutex_lock(&host.fake.lock);
    fake_power_off(&host.fake);
    host.fake.saved = saved != NULL;
    g_mutex_unlock(&host.fake.lock);
    stays(&host, id, "does not run");
    g_autofree char *leaf = path_of(&host, LEAF);
    g_assert_cmpstr(host.fake.disks[0].stored, ==, leaf);
}

static void
test_definition_is_another(void)
{
    g_auto(Host) host = { 0 };

    need_qemu();
    host_make(&host);
    make_stale_definition(&host);
    g_autofree char *id = mended(&host, DIAG_STALE_DEFINITION);
    g_free(image(host.dir, "web.3c4d5e6f.qcow2", MIB, LEAF, "qcow2"));
    set_leaf(&host, "web.3c4d5e6f.qcow2", "web.3c4d5e6f.qcow2");
    stays(&host, id, "web.3c4d5e6f.qcow2");
    g_autofree char *leaf = path_of(&host, "web.3c4d5e6f.qcow2");
    g_assert_cmpstr(host.fake.disks[0].stored, ==, leaf);
}

/* ---- the manifest ---- */

/* As a snapshot that somebody takes has it in the end. */
static void
take_tuesday(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);
    g_autofree char *id = id_new();
    Snapshot *snapshot = snapshot_new(id, "tuesday", 2);
    const Disk *disk = vm_disk(vm, "vda");

    vm_add_snapshot_disk(snapshot, disk->id, ((Volume *)disk->volumes->pdata[0])->id);
    g_ptr_array_add(vm->snapshots, snapshot);
    save(host, vm);
    look(host);
}

static void
has_tuesday(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);
    const Snapshot *last = vm->snapshots->pdata[vm->snapshots->len - 1];

    g_assert_cmpstr(last->name, ==, "tuesday");
}

static void
test_snapshot_since(const void *data)
{
    static const struct {
        void (*make)(Host *);
        Diagnosis class;
    } rows[] = { { make_left_record, DIAG_LEFTOVER_RECORD },
                 { make_stale_manifest, DIAG_STALE_MANIFEST } };
    g_auto(Host) host = { 0 };
    size_t i = GPOINTER_TO_SIZE(data);

    need_qemu();
    host_make(&host);
    rows[i].make(&host);
    g_autofree char *id = mended(&host, rows[i].class);
    take_tuesday(&host);
    stays(&host, id, "changed since");
    has_tuesday(&host);
}

static void
test_snapshot_since_bad_manifest(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *id = id_new(), *file = NULL;
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    need_qemu();
    host_make(&host);
    file = path_of(&host, ".livemerge/vms/" FAKE_VM ".json");
    make_bad_manifest(&host);
    check_mended(fix(&host, id, DIAG_BAD_MANIFEST));
    while (!g_file_test(file, G_FILE_TEST_EXISTS) && g_get_monotonic_time() < until)
        g_usleep(1000);
    take_tuesday(&host);
    stays(&host, id, "changed since");
    has_tuesday(&host);
}

/* What the job may have changed stays unusable: its end does not mend the volumes. */
static void
test_job_that_was_ended(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(Vm) vm = NULL;

    need_qemu();
    host_make(&host);
    make_mirror(&host);
    g_autofree char *id = mended(&host, DIAG_FOREIGN_JOB);
    stays(&host, id, "job was ended");
    vm = manifest(&host);
    const Snapshot *monday = vm->snapshots->pdata[0];
    g_assert_true(((SnapshotDisk *)monday->disks->pdata[0])->unusable);
}

/* clang-format off */
static const struct {
    const char *name;
    void (*make)(Host *);
    Diagnosis class;
} undoable[] = {
    { "record",           make_left_record,         DIAG_LEFTOVER_RECORD },
    { "record-of-done",   make_left_record_of_done, DIAG_LEFTOVER_RECORD },
    { "absolute-path",    make_absolute,            DIAG_ABSOLUTE_PATH },
    { "orphan",           make_orphan,              DIAG_ORPHAN_VOLUME },
    { "build",            make_build,               DIAG_LEFTOVER_BUILD },
    { "libvirt-snapshot", make_record,              DIAG_LIBVIRT_SNAPSHOT },
    { "overlay",          make_overlay_of_others,   DIAG_FOREIGN_OVERLAY },
    { "stale-definition", make_stale_definition,    DIAG_STALE_DEFINITION },
};
/* clang-format on */

/* Fixed, undone, fixed, undone: each time all of it; and an undo twice does no more than once. */
static void
test_again_and_again(const void *data)
{
    g_auto(Host) host = { 0 };
    size_t i = GPOINTER_TO_SIZE(data);

    need_qemu();
    host_make(&host);
    undoable[i].make(&host);
    for (int n = 0; n < 3; n++) {
        expect(&host, undoable[i].class, NULL);
        g_autofree char *id = mended(&host, undoable[i].class), *undo = id_new(), *twice = id_new();
        g_autoptr(json_t) first = operate(&host, undo, "doctor-undo", "undo", json_string(id));
        g_assert_cmpint(json_number(first, "undone"), ==, 1);
        expect(&host, undoable[i].class, NULL);
        g_autoptr(json_t) second = operate(&host, twice, "doctor-undo", "undo", json_string(id));
        g_assert_cmpint(json_number(second, "undone"), ==, 0); /* nothing was left to undo */
        g_assert_cmpuint(json_array_size(json_object_get(second, "left")), ==, 0);
        expect(&host, undoable[i].class, NULL);
    }
}

/* Fix and undo are stopped at every fault point in turn: each ends as if nothing had happened. */
static void
test_stop_anywhere(const void *data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    bool fired = true;

    need_qemu();
    for (int n = 0; fired; n++) {
        g_auto(Host) host = { 0 };
        g_autofree char *id = id_new(), *undo = id_new();
        host_make(&host);
        undoable[i].make(&host);
        fault_arm(n);
        json_decref(fix(&host, id, undoable[i].class));
        fired = fault_fired();
        fault_arm(-1);
        expect(&host, DIAG_LAST, NULL);
        fault_arm(n);
        g_autoptr(json_t) undone = operate(&host, undo, "doctor-undo", "undo", json_string(id));
        fired |= fault_fired();
        fault_arm(-1);
        g_assert_cmpuint(json_array_size(json_object_get(undone, "left")), ==, 0);
        expect(&host, undoable[i].class, NULL);
        g_assert_cmpint(n, <, 200);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    doctor_grace_s = 0;
    g_test_add_func("/doctor/undo/backing-is-another", test_backing_is_another);
    g_test_add_func("/doctor/undo/backing-of-a-vm-that-runs", test_backing_of_a_vm_that_runs);
    g_test_add_data_func("/doctor/undo/definition-of-a-vm-that-is-off", NULL,
                         test_definition_of_a_vm_that_is_off);
    g_test_add_data_func("/doctor/undo/definition-of-a-vm-that-is-saved", "saved",
                         test_definition_of_a_vm_that_is_off);
    g_test_add_func("/doctor/undo/definition-is-another", test_definition_is_another);
    g_test_add_data_func("/doctor/undo/snapshot-since/record", GSIZE_TO_POINTER(0),
                         test_snapshot_since);
    g_test_add_data_func("/doctor/undo/snapshot-since/manifest", GSIZE_TO_POINTER(1),
                         test_snapshot_since);
    g_test_add_func("/doctor/undo/snapshot-since/bad-manifest", test_snapshot_since_bad_manifest);
    g_test_add_func("/doctor/undo/job-that-was-ended", test_job_that_was_ended);
    for (size_t i = 0; i < G_N_ELEMENTS(undoable); i++) {
        g_autofree char *again =
            g_strdup_printf("/doctor/undo/again-and-again/%s", undoable[i].name);
        g_autofree char *stop = g_strdup_printf("/doctor/undo/stop-anywhere/%s", undoable[i].name);
        g_test_add_data_func(again, GSIZE_TO_POINTER(i), test_again_and_again);
        g_test_add_data_func(stop, GSIZE_TO_POINTER(i), test_stop_anywhere);
    }
    return g_test_run();
}
