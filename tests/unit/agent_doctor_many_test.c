/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor beside more than one thing: several classes at once, a preview, a merge that runs, a
 * VM that libvirt has lost, a stop at every fault point.
 */
#include "doctor_damage.h"
#include "storage/salvage.h"

/* Among others. */
static void
expect_one_of(Host *host, Diagnosis class, Finding **ret_finding)
{
    g_autoptr(json_t) answer = ask(host);
    size_t i;
    json_t *json;

    json_array_foreach (json_object_get(answer, "findings"), i, json)
        if (*ret_finding == NULL && g_str_equal(json_text(json, "class"), diagnosis_word(class)))
            *ret_finding = finding_from_json(json, NULL);
    if (*ret_finding == NULL) {
        autolibc char *text = json_dumps(answer, JSON_INDENT(1));
        g_error("no %s among %s", diagnosis_word(class), text);
    }
}

static void
wait_for_manifest(Host *host)
{
    g_autofree char *file = path_of(host, ".livemerge/vms/" FAKE_VM ".json");
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    while (!g_file_test(file, G_FILE_TEST_EXISTS) && g_get_monotonic_time() < until)
        g_usleep(1000);
    g_assert_true(g_file_test(file, G_FILE_TEST_EXISTS));
}

/* Its snapshots are lost with it; their volumes are found again, and adopted. */
static void
test_bad_manifest(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(Finding) finding = NULL;
    g_autofree char *tried = id_new(), *undo = id_new(), *first = id_new(), *second = id_new();
    g_autofree char *copy = NULL;

    host_make(&host);
    make_bad_manifest(&host);
    expect(&host, DIAG_BAD_MANIFEST, &finding);
    g_assert_cmpint(finding->fix_kind, ==, FIX_ASKED);
    check_mended(fix(&host, tried, DIAG_BAD_MANIFEST));
    wait_for_manifest(&host);
    json_decref(operate(&host, undo, "doctor-undo", "undo", json_string(tried)));
    expect(&host, DIAG_BAD_MANIFEST, NULL);
    check_mended(fix(&host, first, DIAG_BAD_MANIFEST));
    copy = g_strdup_printf("%s/.livemerge/undo/%s/manifest.json", host.dir, first);
    g_assert_true(g_file_test(copy, G_FILE_TEST_EXISTS));
    wait_for_manifest(&host);
    expect(&host, DIAG_FOREIGN_OVERLAY, NULL);
    check_mended(fix(&host, second, DIAG_LAST));
    expect(&host, DIAG_LAST, NULL);
}

/* What a recorded operation was about nobody knows: while it is recorded its files are let alone.
 */
static void
test_record_and_file(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *first = id_new(), *second = id_new();

    host_make(&host);
    make_orphan(&host);
    make_left_record(&host);
    expect(&host, DIAG_LEFTOVER_RECORD, NULL);
    check_mended(fix(&host, first, DIAG_LAST));
    expect(&host, DIAG_ORPHAN_VOLUME, NULL);
    check_mended(fix(&host, second, DIAG_LAST));
    expect(&host, DIAG_LAST, NULL);
}

/* Orphans that stand on each other go all; and so do those of several classes at once. */
static void
test_many(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *id = id_new(), *undo = id_new();

    host_make(&host);
    make_orphan(&host);
    g_free(image(host.dir, "web.8f8e7d6c.qcow2", MIB, "web.9f8e7d6c.qcow2", "qcow2"));
    make_build(&host);
    make_absolute(&host);
    make_record(&host);
    g_autoptr(json_t) before = ask(&host);
    g_assert_cmpuint(json_array_size(json_object_get(before, "findings")), ==, 5);
    g_autoptr(json_t) result = fix(&host, id, DIAG_LAST);
    expect(&host, DIAG_LAST, NULL);
    g_autoptr(json_t) undone = operate(&host, undo, "doctor-undo", "undo", json_string(id));
    g_assert_cmpint(json_number(undone, "undone"), ==, 5);
    g_autoptr(json_t) after = ask(&host);
    g_assert_true(
        json_equal(json_object_get(before, "findings"), json_object_get(after, "findings")));
}

/* A preview has left the newest line beside the chain, and the manifest that says so is lost: it is
 * nobody's, as far as anything tells. It stays, unless it is named. */
static void
test_manifest_is_lost_in_preview(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(Finding) finding = NULL;
    g_autofree char *preview = id_new(), *plain = id_new(), *line = NULL, *record = NULL;

    host_make(&host);
    line = path_of(&host, LEAF);
    record = path_of(&host, ".livemerge/vms/" FAKE_VM ".json");
    write_data(&host, LEAF);
    g_autoptr(Vm) vm = manifest(&host);
    g_autoptr(json_t) body = json_pack(
        "{s:s, s:s, s:s, s:s, s:[s]}", "id", preview, "kind", "snapshot-preview", "vm_id", FAKE_VM,
        "snapshot_id", ((Snapshot *)vm->snapshots->pdata[0])->id, "disks", vm_disk(vm, "vda")->id);
    json_decref(operate_with(&host, body));
    agent_end(&host);
    g_assert_cmpint(g_unlink(record), ==, 0);
    agent_begin(&host);
    expect_one_of(&host, DIAG_ORPHAN_VOLUME, &finding);
    g_assert_cmpstr(finding->file, ==, line);
    g_assert_cmpint(finding->fix_kind, ==, FIX_ASKED);
    g_assert_nonnull(strstr(finding->fix, "manifest was lost"));
    json_decref(fix(&host, plain, DIAG_LAST));
    g_assert_true(g_file_test(line, G_FILE_TEST_EXISTS));
}

static unsigned
busy_with(Host *host)
{
    g_autoptr(json_t) answer = ask(host);

    g_assert_cmpuint(json_array_size(json_object_get(answer, "findings")), ==, 0);
    return (unsigned)json_array_size(json_object_get(answer, "busy"));
}

/* libvirt takes it for off, on an old leaf perhaps; its QEMU runs: nothing is judged by that, and
 * no file of it is touched. */
static void
test_lost_by_libvirt(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    make_orphan(&host);
    make_absolute(&host);
    g_mutex_lock(&host.fake.lock);
    host.fake.running = host.fake.lost = true;
    g_mutex_unlock(&host.fake.lock);
    g_autoptr(json_t) answer = ask(&host);
    const json_t *busy = json_array_get(json_object_get(answer, "busy"), 0);
    g_assert_cmpuint(json_array_size(json_object_get(answer, "findings")), ==, 0);
    g_assert_nonnull(strstr(json_text(busy, "why"), "its QEMU runs"));
}

/* While one of our own merges runs nothing is said, and nothing is begun beside it. */
static void
test_while_merging(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *id = id_new(), *other = id_new();
    g_autoptr(GError) error = NULL;
    json_t *op = NULL;
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    host_make(&host);
    fake_power_on(&host.fake);
    look(&host);
    host.fake.endless = true;
    g_autoptr(Vm) vm = manifest(&host);
    const Disk *disk = vm_disk(vm, "vda");
    g_autoptr(json_t) body = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "id", id, "kind", "merge", "vm_id", FAKE_VM,
        "disk_id", disk->id, "base", ((Volume *)disk->volumes->pdata[0])->id, "top",
        ((Volume *)disk->volumes->pdata[1])->id, "strategy", "commit", "bandwidth", 0);
    g_assert_true(operation_begin(host.agent, body, &op, &error));
    g_assert_no_error(error);
    json_decref(op);
    while (host.fake.disks[0].job == HV_JOB_NONE && g_get_monotonic_time() < until) {
        g_assert_cmpuint(busy_with(&host), ==, 1);
        g_usleep(1000);
    }
    g_assert_cmpint(host.fake.disks[0].job, ==, HV_JOB_COMMIT);
    g_assert_cmpuint(busy_with(&host), ==, 1);
    g_autoptr(json_t) second =
        json_pack("{s:s, s:s, s:s}", "id", other, "kind", "doctor-fix", "vm_id", FAKE_VM);
    g_assert_false(operation_begin(host.agent, second, &op, &error));
    g_assert_error(error, ERR, ERR_BUSY);
}

/* Stopped at every fault point in turn; a repeat must end as if nothing had happened. */
static void
test_stop_anywhere(void)
{
    for (int n = 0;; n++) {
        g_auto(Host) host = { 0 };
        g_autofree char *id = id_new();
        host_make(&host);
        make_orphan(&host);
        make_overlay_of_others(&host);
        make_build(&host);
        fault_arm(n);
        json_decref(fix(&host, id, DIAG_LAST));
        bool fired = fault_fired();
        fault_arm(-1);
        expect(&host, DIAG_LAST, NULL);
        backup_is_adopted(&host);
        if (!fired)
            break;
        g_assert_cmpint(n, <, 200);
    }
}

static void
test_refuses(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *id = id_new(), *other = id_new();
    g_autoptr(GError) error = NULL;
    json_t *op = NULL, *answer = NULL;

    host_make(&host);
    g_autoptr(json_t) bad = json_pack("{s:s, s:s, s:s, s:[s]}", "id", id, "kind", "doctor-fix",
                                      "vm_id", FAKE_VM, "classes", "headache");
    g_assert_false(operation_begin(host.agent, bad, &op, &error));
    assert_refused(error, ERR_INVALID, "headache");
    g_clear_error(&error);
    g_assert_false(doctor_answer(host.agent, other, &answer, &error));
    assert_refused(error, ERR_NOT_FOUND, other);
}

static unsigned redefined;

static bool
count_redefined(Hypervisor *hv, const char *vm_id, const char *const *targets,
                const char *const *sources, const char *const *formats, unsigned n, GError **error)
{
    redefined = n;
    return redefine_without_backing(hv, vm_id, targets, sources, formats, n, error);
}

/* A VM can have more disks than anybody thinks: all of them get back what they had. */
static void
test_undo_of_many_disks(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *fixed = id_new(), *undo = id_new();
    g_autoptr(json_t) targets = json_array(), sources = json_array(), formats = json_array();
    g_autoptr(GError) error = NULL;

    host_make(&host);
    for (unsigned i = 0; i < 300; i++) {
        json_array_append_new(targets, json_string("vdb"));
        json_array_append_new(sources, json_string(host.fake.disks[1].stored));
        json_array_append_new(formats, json_string("qcow2"));
    }
    g_autoptr(json_t) list = json_pack("[{s:s, s:O, s:O, s:O}]", "what", "definition", "targets",
                                       targets, "sources", sources, "formats", formats);
    const Domain *domain = agent_domain(host.agent, host.fake.disks[1].stored, false, &error);
    g_assert_true(undo_put_list(domain, fixed, FAKE_VM, list, &error));
    ops.redefine = count_redefined;
    g_autoptr(json_t) undone = operate(&host, undo, "doctor-undo", "undo", json_string(fixed));
    g_assert_cmpint(json_number(undone, "undone"), ==, 1);
    g_assert_cmpuint(redefined, ==, 300);
}

/* ---- what was safe to mend when it was found is not so any more ---- */

static Host *changing;
static void (*change)(Host *host); /* NULL = it was done */

/* Asked for the first time after the findings were chosen, and before the first of them is mended.
 */
static HvDomain *
look_at_change(Hypervisor *hv, const char *vm_id, GError **error)
{
    const GPtrArray *operations = changing->entry->operations;
    const Operation *op = operations->len > 0 ? operations->pdata[0] : NULL;

    if (change != NULL && op != NULL && json_object_get(op->row.data, "findings") != NULL) {
        change(changing);
        change = NULL;
    }
    return look_with_backing(hv, vm_id, error);
}

static void
turn_off(Host *host)
{
    WITH_LOCK(&host->fake.lock);

    fake_power_off(&host->fake);
}

static void
fill_orphan(Host *host)
{
    write_data(host, "web.9f8e7d6c.qcow2");
}

static void
test_safe_no_more(void)
{
    static const struct {
        void (*make)(Host *host), (*change)(Host *host);
        Diagnosis class;
    } rows[] = { { make_left_record, turn_off, DIAG_LEFTOVER_RECORD },
                 { make_orphan, fill_orphan, DIAG_ORPHAN_VOLUME } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Host) host = { 0 };
        g_autoptr(Finding) finding = NULL;
        g_autofree char *id = id_new();
        g_autoptr(json_t) body =
            json_pack("{s:s, s:s, s:s, s:[s], s:b}", "id", id, "kind", "doctor-fix", "vm_id",
                      FAKE_VM, "classes", diagnosis_word(rows[i].class), "safe_only", 1);

        host_make(&host);
        rows[i].make(&host);
        expect(&host, rows[i].class, &finding);
        g_assert_cmpint(finding->fix_kind, ==, FIX_SAFE);
        changing = &host;
        change = rows[i].change;
        ops.look = look_at_change;
        g_autoptr(json_t) result = operate_with(&host, body);
        const json_t *told = json_array_get(json_object_get(result, "findings"), 0);
        g_assert_null(change);
        g_assert_cmpstr(json_text(told, "state"), ==, "left");
        g_assert_nonnull(strstr(json_text(told, "why"), "not safe any more"));
        expect(&host, rows[i].class, NULL);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    doctor_grace_s = 0;
    g_test_add_func("/doctor/bad-manifest", test_bad_manifest);
    g_test_add_func("/doctor/record-and-file", test_record_and_file);
    g_test_add_func("/doctor/many", test_many);
    g_test_add_func("/doctor/manifest-is-lost-in-preview", test_manifest_is_lost_in_preview);
    g_test_add_func("/doctor/lost-by-libvirt", test_lost_by_libvirt);
    g_test_add_func("/doctor/while-merging", test_while_merging);
    g_test_add_func("/doctor/stop-anywhere", test_stop_anywhere);
    g_test_add_func("/doctor/refuses", test_refuses);
    g_test_add_func("/doctor/safe-no-more", test_safe_no_more);
    g_test_add_func("/doctor/undo-of-many-disks", test_undo_of_many_disks);
    return g_test_run();
}
