/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/preview.c and branch_end.c on a hypervisor in memory with real qcow2 files,
 * stopped at every fault point: the VM stands on one line or the other, wholly, with what it had
 * there; the start guard knows which; nothing is lost of the line that stays.
 */
#include "agent/doctor.h"
#include "agent/inventory.h"
#include "storage/guard.h"
#include "two_disk_host.h"

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define OP2 "bbbbbbbb-0000-4000-8000-000000000002"
#define OP3 "cccccccc-0000-4000-8000-000000000003"
#define CONFIG "<domain>then</domain>" /* of each snapshot; now it is "<domain/>" */

static void
host_make(Host *host)
{
    host_make_with(host, CONFIG);
}

/* As if vdb had been added later. */
static void
take_from_snapshot_3(Host *host)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
    g_autoptr(Vm) vm = stored_vm(host, FAKE_VM);

    g_ptr_array_set_size(vm_snapshot(vm, SNAP(3))->disks, 1);
    g_assert_true(manifest_save(domain, vm, &error));
}

static json_t *
of_snapshot(const char *snapshot_id)
{
    return json_pack("{s:s}", "snapshot_id", snapshot_id);
}

/* ---- looking */

static char *
leaf_of(Host *host, unsigned disk)
{
    WITH_LOCK(&host->fake.lock);

    return g_strdup(host->fake.disks[disk].stored);
}

/* What the guest would see, if it started now: the content of that layer of both disks. */
static void
assert_stands_on(Host *host, unsigned layer)
{
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_autofree char *leaf = leaf_of(host, i);
        MUST(host->disks, "qemu-img compare -q -f qcow2 -F raw %s %c.%u.gold", leaf, 'a' + (int)i,
             layer);
    }
}

/* The guard lets the VM start from where it stands; on the other line, it does not. */
static void
assert_guarded(Host *host, const char *const *other)
{
    g_autofree char *a = leaf_of(host, 0), *b = leaf_of(host, 1);
    const char *sources[] = { a, b, NULL };
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_true(guard_load(FAKE_VM, sources, &manifest, &error));
    for (unsigned i = 0; i < 2; i++) {
        g_auto(GuardFinding) finding = { 0 };
        guard_look(&manifest, i == 0 ? "vda" : "vdb", sources[i], "qcow2", &finding);
        g_assert_cmpint(finding.verdict, ==, GUARD_FINE);
    }
    for (; other != NULL && *other != NULL; other++) {
        g_autofree char *path = in(host->disks, *other);
        g_auto(GuardFinding) finding = { 0 };
        guard_look(&manifest, **other == 'a' ? "vda" : "vdb", path, "qcow2", &finding);
        if (finding.verdict != GUARD_STALE)
            g_error("the VM could start from %s", path);
        g_assert_cmpstr(finding.leaf, ==, **other == 'a' ? a : b);
    }
}

static unsigned
images_in(Host *host)
{
    g_autoptr(GDir) dir = g_dir_open(host->disks, 0, NULL);
    const char *name;
    unsigned n = 0;

    while ((name = g_dir_read_name(dir)) != NULL)
        n += !g_str_has_prefix(name, ".") && !g_str_has_suffix(name, ".gold");
    return n;
}

static json_t *
ask_doctor(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    for (;;) {
        json_t *answer = NULL;
        g_autoptr(GError) error = NULL;
        g_assert_true(doctor_answer(host->agent, NULL, &answer, &error));
        g_assert_no_error(error);
        if (json_array_size(json_object_get(answer, "busy")) == 0)
            return answer;
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        json_decref(answer);
        g_usleep(2000);
    }
}

/* The doctor finds nothing: what a preview leaves beside the chain is no orphan. The trash is being
 * emptied. */
static void
assert_sound(Host *host)
{
    doctor_grace_s = 0;
    g_autoptr(json_t) answer = ask_doctor(host);
    json_t *findings = json_object_get(answer, "findings");

    for (size_t i = 0; i < json_array_size(findings); i++) {
        const json_t *finding = json_array_get(findings, i);
        if (!g_str_equal(json_text(finding, "class"), "leftover-trash"))
            g_error("the doctor finds: %s", json_text(finding, "text"));
    }
}

static void
write_leaf(Host *host, unsigned disk, unsigned value)
{
    g_autofree char *leaf = leaf_of(host, disk);

    MUST(host->disks, "qemu-io -f qcow2 -c 'write -P %u 512k 64k' %s", value, leaf);
}

static bool
is_leased(Host *host)
{
    Lease *lease = ((const Domain *)host->agent->domains->pdata[0])->lease;
    WITH_LOCK(&lease->lock);

    return lease->users > 0;
}

/* A thread empties it, with the lease of the agent's storage domain in its hands. */
static void
wait_for_trash(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    g_autofree char *trash = g_build_filename(host->disks, ".livemerge", "trash", NULL);

    for (bool busy = true; busy; g_usleep(1000)) {
        g_autoptr(GDir) dir = g_dir_open(trash, 0, NULL);
        busy = (dir != NULL && g_dir_read_name(dir) != NULL) || is_leased(host);
        g_assert_cmpint(g_get_monotonic_time(), <, until);
    }
}

static void
delete_left(Host *host, const char *id, const json_t *ended)
{
    json_t *left = json_object_get(json_object_get(ended, "result"), "volumes_left");

    g_assert_true(json_is_array(left));
    DO(host, id, "delete-volumes", json_pack("{s:O}", "volumes", left), "done");
    wait_for_trash(host);
}

/* ---- one after another */

static const char *const old_line[] = { "a.3.q", "b.3.q", "a.2.q", "a.1.q", NULL };

static void
test_undo(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(1)), "done");
    assert_stands_on(&host, 0);
    assert_guarded(&host, old_line);
    assert_sound(&host);
    g_assert_cmpuint(images_in(&host), ==, 11);
    write_leaf(&host, 0, 99); /* the guest tries something */
    agent_end(&host);
    agent_begin(&host);
    assert_sound(&host);
    g_autofree char *tried = leaf_of(&host, 0);
    g_autoptr(json_t) undone =
        do_operation(&host, OP2, "snapshot-undo", of_snapshot(SNAP(1)), "done");
    assert_stands_on(&host, 3);
    delete_left(&host, OP3, undone);
    assert_stands_on(&host, 3);
    assert_guarded(&host, NULL);
    g_assert_cmpuint(images_in(&host), ==, 9);
    g_assert_false(g_file_test(tried, G_FILE_TEST_EXISTS));
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_cmpuint(vm->snapshots->len, ==, 3);
    g_assert_cmpuint(vm->leftovers->len, ==, 0);
    assert_sound(&host);
}

static void
test_commit(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(1)), "done");
    g_autoptr(json_t) kept =
        do_operation(&host, OP2, "snapshot-commit", of_snapshot(SNAP(1)), "done");
    assert_guarded(&host, old_line); /* leftovers by now */
    delete_left(&host, OP3, kept);
    assert_stands_on(&host, 0);
    /* a.0.q, b.0.q and a leaf for each: the memory of snapshot 3 is gone, too */
    g_assert_cmpuint(images_in(&host), ==, 4);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_cmpuint(vm->snapshots->len, ==, 1);
    g_assert_cmpuint(vm->leftovers->len, ==, 0);
    g_assert_null(vm->preview);
    assert_sound(&host);
}

static void
assert_fails(Host *host, const char *id, const char *kind, json_t *take_params, const char *wanted)
{
    g_autoptr(json_t) json = do_operation(host, id, kind, take_params, "failed");
    const char *text = json_text(json_object_get(json, "error"), "message");

    if (strstr(text, wanted) == NULL)
        g_error("the message lacks \"%s\": %s", wanted, text);
    assert_stands_on(host, 3);
    g_assert_cmpuint(images_in(host), ==, 9);
}

static void
test_refused(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    take_from_snapshot_3(&host);
    assert_fails(&host, OP, "snapshot-commit", of_snapshot(SNAP(1)), "does not preview");
    assert_fails(&host, OP2, "snapshot-undo", of_snapshot(SNAP(1)), "does not preview");
    assert_fails(&host, OP3, "snapshot-preview", of_snapshot(SNAP(3)), "nothing of disk vdb");
    assert_fails(&host, SNAP(6), "snapshot-preview", of_snapshot(SNAP(9)), "no snapshot");
    host.fake.running = true;
    assert_fails(&host, SNAP(7), "snapshot-preview", of_snapshot(SNAP(1)), "shut it down");
}

/* The leaf lies behind a symbolic link: "../a.0.q" as seen from there is another file. What would
 * not be read as it is meant is not stood upon. */
static void
test_link(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    agent_end(&host);
    MUST(host.disks, "mkdir -p deep/down");
    MUST(host.disks, "ln -s deep/down link");
    MUST(host.disks, "qemu-img create -q -f qcow2 -b %s/a.3.q -F qcow2 deep/down/a.4.q",
         host.disks);
    g_autofree char *leaf = in(host.disks, "link/a.4.q");
    fake_set(&host.fake.disks[0].stored, leaf);
    agent_begin(&host);
    g_autoptr(json_t) json =
        do_operation(&host, OP, "snapshot-preview", of_snapshot(SNAP(1)), "failed");
    g_autofree char *now = leaf_of(&host, 0);
    g_assert_cmpstr(now, ==, leaf);
    assert_stands_on(&host, 3);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_null(vm->preview);
    g_assert_cmpuint(vm->operations->len, ==, 0);
    g_autofree char *left = must(host.disks, "find . -name '*.aaaaaaaa.qcow2'");
    g_assert_cmpstr(left, ==, "");
}

/* With the disk named, one that the snapshot does not have goes on from what it has. */
static void
test_one_disk(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    take_from_snapshot_3(&host);
    g_autoptr(Vm) before = stored_vm(&host, FAKE_VM);
    json_t *params = of_snapshot(SNAP(3));
    json_object_set_new(params, "disks", json_pack("[s]", vm_disk(before, "vda")->id));
    DO(&host, OP, "snapshot-preview", params, "done");
    g_autofree char *b = leaf_of(&host, 1), *wanted = in(host.disks, "b.3.q");
    g_assert_cmpstr(b, ==, wanted);
    g_autofree char *a = leaf_of(&host, 0);
    MUST(host.disks, "qemu-img compare -q -f qcow2 -F raw %s a.2.gold", a);
}

/* A start goes on from the memory, until anything was written. */
static void
test_memory(void)
{
    g_auto(Host) host = { 0 };
    json_t *params = of_snapshot(SNAP(3));

    host_make(&host);
    json_object_set_new(params, "memory", json_true());
    DO(&host, OP, "snapshot-preview", params, "done");
    DO(&host, OP2, "vm-start", json_object(), "done");
    g_assert_true(g_str_has_suffix(host.fake.restored, "/a.2.memory"));
    for (unsigned i = 0; i < FAKE_DISKS; i++)
        g_assert_cmpstr(host.fake.disks[i].live, ==, host.fake.disks[i].stored);
    *host.fake.restored = '\0';
    fake_power_off(&host.fake);
    host.fake.saved = true; /* what was saved later is what it goes on from */
    DO(&host, SNAP(5), "vm-start", json_object(), "done");
    g_assert_cmpstr(host.fake.restored, ==, "");
    fake_power_off(&host.fake);
    write_leaf(&host, 1, 99);
    DO(&host, OP3, "vm-start", json_object(), "done");
    g_assert_cmpstr(host.fake.restored, ==, "");
    g_assert_true(host.fake.running);
}

/* A look of the agent while nothing is under way, which writes down what it sees. */
static void
look(Host *host)
{
    AgentVm *entry = agent_entry(host->agent, FAKE_VM, false);
    g_autoptr(GMutexLocker) here G_GNUC_UNUSED = g_mutex_locker_new(&entry->lock);
    g_autoptr(GError) error = NULL;

    g_assert_false(agent_is_busy(host->agent, entry));
    g_assert_true(agent_look(host->agent, entry, &error));
}

/* Kept as it is now, the snapshot's memory is gone on from once, and only from there. */
static void
test_restored_memory(void)
{
    g_auto(Host) host = { 0 };
    json_t *params = of_snapshot(SNAP(3));

    host_make(&host);
    json_object_set_new(params, "memory", json_true());
    DO(&host, OP, "snapshot-preview", params, "done");
    DO(&host, OP2, "snapshot-commit", of_snapshot(SNAP(3)), "done");
    look(&host);
    DO(&host, SNAP(5), "vm-start", json_object(), "done");
    g_assert_true(g_str_has_suffix(host.fake.restored, "/a.2.memory"));
    *host.fake.restored = '\0';
    fake_power_off(&host.fake);
    DO(&host, OP3, "vm-start", json_object(), "done");
    g_assert_cmpstr(host.fake.restored, ==, "");
}

/* Memory, CPUs and devices are those of the snapshot, and after an undo what they were. */
static void
test_configuration(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    g_assert_cmpstr(host.fake.config, ==, CONFIG);
    DO(&host, OP2, "snapshot-undo", of_snapshot(SNAP(2)), "done");
    g_assert_cmpstr(host.fake.config, ==, "<domain/>");
    g_autofree char *leaf = leaf_of(&host, 0);
    g_assert_true(g_str_has_suffix(leaf, "/a.3.q"));
}

/* What libvirt does not take any more does not keep the disks from going back. */
static void
test_configuration_is_refused(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    host.fake.refuse_configs = true;
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    g_assert_null(host.fake.config);
    g_autofree char *tried = leaf_of(&host, 0);
    g_assert_false(g_str_has_suffix(tried, "/a.3.q"));
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_nonnull(vm->preview);
}

static void
test_no_memory(void)
{
    g_auto(Host) host = { 0 };
    json_t *params = of_snapshot(SNAP(1));

    host_make(&host);
    json_object_set_new(params, "memory", json_true());
    assert_fails(&host, OP, "snapshot-preview", params, "has no memory");
}

/* The host loses its power, and libvirt the definition that it had just written. */
static void
test_definition_is_lost(void)
{
    g_auto(Host) host = { 0 };
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    g_autofree char *tried = leaf_of(&host, 0), *old = in(host.disks, "a.3.q");
    g_mutex_lock(&host.fake.lock);
    fake_set(&host.fake.disks[0].stored, old);
    g_mutex_unlock(&host.fake.lock);
    agent_queue_refresh(host.agent, FAKE_VM);
    for (g_autofree char *now = leaf_of(&host, 0); strcmp(now, tried) != 0;) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(2000);
        g_free(now);
        now = leaf_of(&host, 0);
    }
    assert_stands_on(&host, 1);
}

/* Somebody starts it from its old leaf past the guard: the preview is what stands beside then, and
 * undo takes it away. */
static void
test_started_from_old_leaf(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    agent_end(&host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_autofree char *old = in(host.disks, i == 0 ? "a.3.q" : "b.3.q");
        fake_set(&host.fake.disks[i].stored, old);
    }
    fake_power_on(&host.fake);
    agent_begin(&host);
    g_autoptr(Vm) vm = agent_vm_copy(host.agent, FAKE_VM);
    g_assert_cmpuint(vm_disk(vm, "vda")->volumes->len, ==, 4);
    g_assert_cmpuint(vm_disk(vm, "vda")->branches->len, ==, 1);
    g_assert_false(snapshot_is_unusable(vm_snapshot(vm, SNAP(2))));
    fake_power_off(&host.fake);
    g_autoptr(json_t) undone =
        do_operation(&host, OP2, "snapshot-undo", of_snapshot(SNAP(2)), "done");
    delete_left(&host, OP3, undone);
    assert_stands_on(&host, 3);
    g_assert_cmpuint(images_in(&host), ==, 9);
    assert_sound(&host);
}

/* ---- stopped anywhere */

typedef enum { RESTART, CANCEL, POWER_ON, SWEEPS } Sweep;

static void
wait_for_fault_or_end(Host *host, const char *id)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    bool running = true;

    while (running && !fault_fired() && g_get_monotonic_time() < until) {
        g_autoptr(json_t) json = NULL;
        running = operation_get(host->agent, id, &json, NULL) &&
                  g_str_equal(json_text(json, "state"), "running");
        g_usleep(200);
    }
}

/* As libvirt would start it: from the definition, if the guard allows that. */
static void
try_to_start(Host *host)
{
    g_autofree char *a = leaf_of(host, 0), *b = leaf_of(host, 1);
    const char *sources[] = { a, b, NULL };
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GError) error = NULL;
    bool fine = true;

    g_assert_true(guard_load(FAKE_VM, sources, &manifest, &error));
    for (unsigned i = 0; i < 2; i++) {
        g_auto(GuardFinding) finding = { 0 };
        guard_look(&manifest, i == 0 ? "vda" : "vdb", sources[i], "qcow2", &finding);
        fine = fine && finding.verdict == GUARD_FINE;
    }
    if (fine)
        fake_power_on(&host->fake);
}

/* Where it stands must be one of the two lines, on both disks, with all its data. */
static unsigned
layer_now(Host *host, unsigned low)
{
    g_autofree char *leaf = leaf_of(host, 0);
    g_autofree char *old = in(host->disks, "a.3.q");
    unsigned layer = g_str_equal(leaf, old) ? 3 : low;

    assert_stands_on(host, layer);
    return layer;
}

/* Stops the agent at its n-th fault point in this operation; false when there is none any more. */
static bool
stop_at(const char *kind, Sweep sweep, int n)
{
    g_auto(Host) host = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;
    bool preview = g_str_equal(kind, "snapshot-preview");

    host_make(&host);
    if (!preview)
        DO(&host, OP3, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    fault_arm(n);
    operation_start(&host, OP, kind, of_snapshot(SNAP(2)), &error);
    wait_for_fault_or_end(&host, OP);
    bool fired = fault_fired();
    agent_end(&host);
    fault_arm(-1);
    if (sweep == POWER_ON)
        try_to_start(&host);
    agent_begin(&host);
    if (sweep == CANCEL)
        operation_cancel(host.agent, OP, &answer, NULL);
    if (sweep == POWER_ON) {
        g_usleep(50000); /* it looks at the VM while that runs */
        g_mutex_lock(&host.fake.lock);
        fake_power_off(&host.fake);
        g_mutex_unlock(&host.fake.lock);
        agent_kick(host.agent, FAKE_VM);
    }
    g_autoptr(json_t) ended = operation_wait(&host, OP);
    operation_ack(host.agent, OP, NULL);
    operation_ack(host.agent, OP3, NULL); /* again: the fault may have hit the first */
    const char *state = ended != NULL ? json_text(ended, "state") : "unknown";
    unsigned layer = layer_now(&host, 1);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);

    g_test_message("%s, stopped at point %d: %s, on layer %u", kind, n, state, layer);
    assert_guarded(&host, NULL);
    if (g_str_equal(state, "done"))
        g_assert_cmpuint(layer, ==, g_str_equal(kind, "snapshot-undo") ? 3 : 1);
    else
        g_assert_cmpuint(layer, ==, preview ? 3 : 1);
    if (sweep == RESTART && ended != NULL)
        g_assert_cmpstr(state, ==, "done");
    if (sweep == RESTART) /* else somebody may have started it before it went back */
        g_assert_cmpstr(host.fake.config, ==, layer == 1 ? CONFIG : preview ? NULL : "<domain/>");
    g_assert_cmpuint(vm->operations->len, ==, 0);
    if (preview && layer == 3)
        g_assert_cmpuint(images_in(&host), ==, 9);
    bool ends = !preview && g_str_equal(state, "done");
    if (ends && sweep == RESTART)
        delete_left(&host, OP2, ended);
    if (!ends || sweep == RESTART) /* else what is to be deleted is still there */
        assert_sound(&host);
    return fired;
}

/* Stops at the n-th point; true when the definition names the new leaf and the operation is not at
 * its end. */
static bool
stop_after_define(Host *host, int n)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *old = NULL, *now = NULL;

    host_make(host);
    fault_arm(n);
    operation_start(host, OP, "snapshot-preview", of_snapshot(SNAP(2)), &error);
    wait_for_fault_or_end(host, OP);
    g_assert_true(fault_fired());
    agent_end(host);
    fault_arm(-1);
    old = in(host->disks, "a.3.q");
    now = leaf_of(host, 0);
    return !g_str_equal(now, old);
}

/* As after an error of libvirt for a deed that was done. */
static void
let_it_be_taken_back(Host *host)
{
    g_autofree char *file = g_build_filename(host->state, "journal.db", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(Journal) journal = journal_open(file, &error);
    g_assert_no_error(error);
    g_autoptr(GPtrArray) rows = journal_load(journal, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rows->len, ==, 1);
    JournalRow *row = rows->pdata[0];

    g_free(row->step);
    g_free(row->error_word);
    g_free(row->error_text);
    row->step = g_strdup("undo");
    row->error_word = g_strdup("hypervisor");
    row->error_text = g_strdup("the definition was not written");
    g_assert_true(journal_update(journal, row, &error));
}

/* What the guest has written on the new leaf is not thrown away, and nothing waits for ever. */
static void
test_started_before_it_is_taken_back(void)
{
    bool found = false;

    for (int n = 0; !found; n++) {
        g_auto(Host) host = { 0 };
        found = stop_after_define(&host, n);
        if (!found)
            continue;
        let_it_be_taken_back(&host);
        write_leaf(&host, 0, 99);
        fake_power_on(&host.fake);
        agent_begin(&host);
        g_autoptr(json_t) ended = operation_wait(&host, OP);
        g_assert_cmpstr(json_text(ended, "state"), ==, "done");
        g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
        g_assert_nonnull(vm->preview);
        g_assert_cmpuint(vm->operations->len, ==, 0);
        g_autofree char *leaf = leaf_of(&host, 0);
        g_assert_true(g_file_test(leaf, G_FILE_TEST_EXISTS));
    }
}

static void
test_stop_anywhere(gconstpointer kind)
{
    for (Sweep sweep = RESTART; sweep < SWEEPS; sweep++)
        for (int n = 0; stop_at(kind, sweep, n); n++)
            ;
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!have_qemu())
        return 0;
    template_make(4);
    g_test_add_func("/branch/undo", test_undo);
    g_test_add_func("/branch/commit", test_commit);
    g_test_add_func("/branch/refused", test_refused);
    g_test_add_func("/branch/one-disk", test_one_disk);
    g_test_add_func("/branch/link", test_link);
    g_test_add_func("/branch/memory", test_memory);
    g_test_add_func("/branch/restored-memory", test_restored_memory);
    g_test_add_func("/branch/configuration", test_configuration);
    g_test_add_func("/branch/configuration-is-refused", test_configuration_is_refused);
    g_test_add_func("/branch/no-memory", test_no_memory);
    g_test_add_func("/branch/definition-is-lost", test_definition_is_lost);
    g_test_add_func("/branch/started-from-old-leaf", test_started_from_old_leaf);
    g_test_add_func("/branch/started-before-it-is-taken-back",
                    test_started_before_it_is_taken_back);
    g_test_add_data_func("/branch/stop-anywhere/preview", "snapshot-preview", test_stop_anywhere);
    g_test_add_data_func("/branch/stop-anywhere/commit", "snapshot-commit", test_stop_anywhere);
    g_test_add_data_func("/branch/stop-anywhere/undo", "snapshot-undo", test_stop_anywhere);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
