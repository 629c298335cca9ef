/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the doctor (src/agent/doctor*.c) on a hypervisor in memory with real qcow2 files: each
 * class is made, found (and nothing else), mended, not found any more, and undone. A healthy VM
 * gives nothing, also while a merge runs.
 */
#include "agent/doctor.h"
#include "agent_on_fake.h"
#include "base/fault.h"
#include "base/text.h"
#include "qcow2/build.h"

#include <glib/gstdio.h>

#define BASE "web.qcow2"
#define MIDDLE "web.1a2b3c4d.qcow2"
#define LEAF "web.2b3c4d5e.qcow2"

typedef struct {
    char *folder, *dir;
    Fake fake; /* first of what the hypervisor's functions see */
    Agent *agent;
    AgentVm *entry;
} Host;

/* What the fake has not: libvirt's records, and names of backing files. One VM at a time. */
static struct {
    char *name, *target, *file; /* a record; NULL = none */
    GPtrArray *stored_backing, *live_backing;
} libvirt;

static HypervisorOps ops;

static HvSnapshotRecord *
record_new(void)
{
    g_autofree char *xml =
        g_strdup_printf("<domainsnapshot><name>%s</name><description>as it was</description>"
                        "<creationTime>1700000000</creationTime><disks><disk "
                        "name='%s' snapshot='external'><source file='%s'/></disk><disk name='vdb' "
                        "snapshot='no'/></disks></domainsnapshot>",
                        libvirt.name, libvirt.target, libvirt.file);
    g_autoptr(GError) error = NULL;
    HvSnapshotRecord *record = hv_parse_snapshot(xml, &error);

    g_assert_no_error(error);
    return record;
}

static GPtrArray *
fake_records(Hypervisor *hv, const char *vm_id, GError **error)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)hv_snapshot_record_free);

    if (libvirt.name != NULL)
        g_ptr_array_add(list, record_new());
    return list;
}

static bool
fake_record_forget(Hypervisor *hv, const char *vm_id, const char *name, GError **error)
{
    g_assert_cmpstr(name, ==, libvirt.name);
    g_clear_pointer(&libvirt.name, g_free);
    return true;
}

static bool
fake_record_restore(Hypervisor *hv, const char *vm_id, const char *xml, bool current,
                    GError **error)
{
    g_autoptr(HvSnapshotRecord) record = hv_parse_snapshot(xml, error);

    g_assert_nonnull(record);
    fake_set(&libvirt.name, record->name);
    return true;
}

static HvDomain *
look_with_backing(Hypervisor *hv, const char *vm_id, GError **error)
{
    HvDomain *domain = fake_look(hv, vm_id, error);

    if (domain != NULL && libvirt.stored_backing != NULL) {
        HvDisk *disk = domain->inactive->pdata[0];
        disk->backing = g_ptr_array_ref(libvirt.stored_backing);
        disk->backing_terminated = true;
    }
    if (domain != NULL && libvirt.live_backing != NULL) {
        HvDisk *disk = domain->disks->pdata[0];
        disk->backing = g_ptr_array_ref(libvirt.live_backing);
        disk->backing_terminated = true;
    }
    return domain;
}

/* As libvirt's: no <backingStore> is left. */
static bool
redefine_without_backing(Hypervisor *hv, const char *vm_id, const char *const *targets,
                         const char *const *sources, const char *const *formats, unsigned n,
                         GError **error)
{
    g_clear_pointer(&libvirt.stored_backing, g_ptr_array_unref);
    return fake_redefine(hv, vm_id, targets, sources, formats, n, error);
}

/* ---- the host ---- */

static char *
path_of(const Host *host, const char *name)
{
    return g_build_filename(host->dir, name, NULL);
}

static void
look(Host *host)
{
    g_autoptr(GError) error = NULL;
    WITH_LOCK(&host->entry->lock);

    g_assert_true(agent_look(host->agent, host->entry, &error));
    g_assert_no_error(error);
}

static void
agent_begin(Host *host)
{
    g_autofree char *state = in(host->folder, "s");
    const char *const names[] = { "d", NULL }, *const paths[] = { host->dir, NULL };
    const AgentOptions options = { .state_dir = state,
                                   .storage_names = names,
                                   .storage_paths = paths,
                                   .pivot_budget_ms = 1000,
                                   .quiesce_budget_s = 1 };

    host->agent = agent_on(&host->fake, &options);
    host->entry = agent_entry(host->agent, FAKE_VM, false);
}

static Vm *
manifest(Host *host)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *any = path_of(host, "x");
    Vm *vm = manifest_load(agent_domain(host->agent, any, false, NULL), FAKE_VM, &error);

    g_assert_no_error(error);
    return vm;
}

static void
save(Host *host, Vm *vm)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *any = path_of(host, "x");

    manifest_save(agent_domain(host->agent, any, false, NULL), vm, &error);
    g_assert_no_error(error);
}

/* A snapshot of the instant when the middle volume was the leaf. The base is a template. */
static void
add_snapshot(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);
    g_autofree char *id = id_new();
    Snapshot *snapshot = snapshot_new(id, "monday", 1);
    const Disk *disk = vm_disk(vm, "vda");

    vm_add_snapshot_disk(snapshot, disk->id, ((Volume *)disk->volumes->pdata[1])->id);
    g_ptr_array_add(vm->snapshots, snapshot);
    save(host, vm);
    look(host);
}

static void
host_make(Host *host)
{
    g_autoptr(GError) error = NULL;
    const char *below = NULL;

    host->folder = folder_new();
    MUST(host->folder, "mkdir -m 700 s d");
    host->dir = in(host->folder, "d");
    ops = fake_ops;
    ops.look = look_with_backing;
    ops.redefine = redefine_without_backing;
    ops.snapshot_records = fake_records;
    ops.snapshot_record_forget = fake_record_forget;
    ops.snapshot_record_restore = fake_record_restore;
    host->fake.hv.ops = &ops;
    g_mutex_init(&host->fake.lock);
    static const char *const names[] = { BASE, MIDDLE, LEAF };
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_free(image(host->dir, names[i], MIB, below, below != NULL ? "qcow2" : NULL));
        below = names[i];
    }
    g_free(image(host->dir, "data.qcow2", MIB, NULL, NULL));
    g_strlcpy(host->fake.disks[0].target, "vda", 4);
    g_strlcpy(host->fake.disks[1].target, "vdb", 4);
    host->fake.disks[0].stored = path_of(host, LEAF);
    host->fake.disks[1].stored = path_of(host, "data.qcow2");
    for (guint i = 0; i < 2; i++)
        host->fake.disks[i].live = g_strdup(host->fake.disks[i].stored);
    agent_begin(host);
    add_snapshot(host);
}

static void
agent_end(Host *host)
{
    g_mutex_lock(&host->fake.lock);
    host->fake.away = true;
    g_mutex_unlock(&host->fake.lock);
    agent_free(g_steal_pointer(&host->agent));
}

static void
host_clear(Host *host)
{
    agent_end(host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        fake_job_clear(&host->fake.disks[i]);
        g_free(host->fake.disks[i].live);
        g_free(host->fake.disks[i].stored);
    }
    g_clear_pointer(&libvirt.name, g_free);
    g_clear_pointer(&libvirt.target, g_free);
    g_clear_pointer(&libvirt.file, g_free);
    g_clear_pointer(&libvirt.stored_backing, g_ptr_array_unref);
    g_clear_pointer(&libvirt.live_backing, g_ptr_array_unref);
    g_mutex_clear(&host->fake.lock);
    g_free(host->dir);
    folder_remove(&host->folder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

/* ---- asking ---- */

static json_t *
ask(Host *host)
{
    g_autoptr(GError) error = NULL;
    json_t *answer = NULL;

    doctor_answer(host->agent, FAKE_VM, &answer, &error);
    g_assert_no_error(error);
    return answer;
}

/* Exactly this is found, or nothing (DIAG_LAST). *ret_finding (may be NULL) is the caller's. */
static void
expect(Host *host, Diagnosis class, Finding **ret_finding)
{
    g_autoptr(json_t) answer = ask(host);
    json_t *list = json_object_get(answer, "findings");
    size_t wanted = class == DIAG_LAST ? 0 : 1;
    g_autoptr(GError) error = NULL;

    if (json_array_size(list) != wanted ||
        (wanted == 1 &&
         g_strcmp0(json_text(json_array_get(list, 0), "class"), diagnosis_word(class)) != 0)) {
        autolibc char *text = json_dumps(answer, JSON_INDENT(1));
        g_error("wanted %s, found %s", class == DIAG_LAST ? "nothing" : diagnosis_word(class),
                text);
    }
    if (wanted == 1) {
        g_autoptr(Finding) finding = finding_from_json(json_array_get(list, 0), &error);
        g_assert_no_error(error);
        g_assert_nonnull(finding->text);
        g_assert_true(finding->fix != NULL || finding->help != NULL);
        if (ret_finding != NULL)
            *ret_finding = g_steal_pointer(&finding);
    }
}

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

/* Begins an operation and waits for its end; the result. */
static json_t *
operate_with(Host *host, json_t *body)
{
    const char *id = json_text(body, "id");
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    g_autoptr(GError) error = NULL;
    json_t *op = NULL;

    operation_begin(host->agent, body, &op, &error);
    g_assert_no_error(error);
    while (g_str_equal(json_text(op, "state"), "running") && g_get_monotonic_time() < until) {
        json_decref(op);
        g_usleep(1000);
        operation_get(host->agent, id, &op, &error);
        g_assert_no_error(error);
    }
    if (!g_str_equal(json_text(op, "state"), "done")) {
        autolibc char *text = json_dumps(op, JSON_INDENT(1));
        g_error("%s", text);
    }
    json_t *result = json_incref(json_object_get(op, "result"));
    json_decref(op);
    operation_ack(host->agent, id, NULL);
    return result;
}

static json_t *
operate(Host *host, const char *id, const char *kind, const char *key, json_t *take_value)
{
    g_autoptr(json_t) body = json_pack("{s:s, s:s, s:s, s:o}", "id", id, "kind", kind, "vm_id",
                                       FAKE_VM, key, take_value);

    return operate_with(host, body);
}

static json_t *
fix(Host *host, const char *id, Diagnosis class)
{
    return operate(host, id, "doctor-fix", "classes",
                   class == DIAG_LAST ? json_array() : json_pack("[s]", diagnosis_word(class)));
}

/* ---- what is made ---- */

static void
write_data(Host *host, const char *name)
{
    MUST(host->dir, "qemu-io -f qcow2 -c 'write -q -P 7 64k 64k' %s", name);
}

static void
make_orphan(Host *host)
{
    g_free(image(host->dir, "web.9f8e7d6c.qcow2", MIB, MIDDLE, "qcow2"));
}

/* It may be the newest of a line of which a manifest that was lost has told. */
static void
make_orphan_line(Host *host)
{
    make_orphan(host);
    write_data(host, "web.9f8e7d6c.qcow2");
}

static void
make_orphan_empty(Host *host)
{
    g_free(image(host->dir, "clone-of-web.qcow2", MIB, BASE, "qcow2"));
}

static void
make_orphan_with_data(Host *host)
{
    make_orphan_empty(host);
    write_data(host, "clone-of-web.qcow2");
}

static void
make_orphan_memory(Host *host)
{
    MUST(host->dir, "cp " BASE " web.9f8e7d6c.memory");
    MUST(host->dir, "truncate -s 4096 web.9f8e7d6c.memory");
}

/* A merge into the base has left its volumes, which stand on what is the leaf now. */
static void
make_left_by_merge(Host *host)
{
    g_autoptr(Vm) vm = NULL;
    g_autofree char *middle = path_of(host, MIDDLE), *leaf = path_of(host, LEAF);

    write_data(host, MIDDLE);
    g_free(host->fake.disks[0].stored);
    host->fake.disks[0].stored = path_of(host, BASE);
    fake_power_on(&host->fake);
    look(host);
    vm = manifest(host);
    g_ptr_array_set_size(vm->snapshots, 0);
    vm_add_leftover(vm, middle);
    save(host, vm);
    g_assert_cmpint(g_unlink(leaf), ==, 0);
}

static void
make_missing(Host *host)
{
    MUST(host->dir, "mv " BASE " ../elsewhere");
}

static void
make_missing_in_trash(Host *host)
{
    MUST(host->dir,
         "mv " BASE " .livemerge/trash/keep.aaaaaaaa-0000-4000-8000-00000000000f.0." BASE);
}

static void
make_missing_leaf(Host *host)
{
    MUST(host->dir, "mv " LEAF " ../elsewhere");
}

static void
make_loop(Host *host)
{
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -F qcow2 -b " LEAF " " BASE);
}

static void
make_no_format(Host *host)
{
    MUST(host->dir, "rm " MIDDLE);
    g_free(image_naming(host->dir, MIDDLE, BASE, NULL));
}

static void
make_wrong_format(Host *host)
{
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -F raw -b " BASE " " MIDDLE);
}

static void
make_absolute(Host *host)
{
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -F qcow2 -b %s/" BASE " " MIDDLE, host->dir);
}

static void
make_outside(Host *host)
{
    MUST(host->dir, "cp " BASE " ../outside.qcow2");
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -F qcow2 -b ../outside.qcow2 " MIDDLE);
}

static void
make_shrunk(Host *host)
{
    MUST(host->dir, "rm " LEAF);
    g_free(image(host->dir, LEAF, MIB / 2, MIDDLE, "qcow2"));
}

static void
make_damaged(Host *host)
{
    g_autofree char *leaf = path_of(host, LEAF);

    poke(leaf, 0, 4, 0);
}

static void
make_corrupt(Host *host)
{
    g_autofree char *leaf = path_of(host, LEAF);

    poke(leaf, 72, 8, 2);
}

static void
make_stale_leaf(Host *host)
{
    g_free(host->fake.disks[0].stored);
    host->fake.disks[0].stored = path_of(host, MIDDLE);
}

/* It was started from there, and the agent saw it running. */
static void
make_runs_on_stale(Host *host)
{
    write_data(host, LEAF);
    make_stale_leaf(host);
    fake_power_on(&host->fake);
    look(host);
}

static void
make_stale_definition(Host *host)
{
    fake_power_on(&host->fake);
    make_stale_leaf(host);
}

static void
make_stale_backing(Host *host)
{
    libvirt.stored_backing = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(libvirt.stored_backing, path_of(host, BASE));
}

static void
make_mismatch(Host *host)
{
    fake_power_on(&host->fake);
    libvirt.live_backing = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(libvirt.live_backing, path_of(host, BASE));
}

static void
make_mirror(Host *host)
{
    g_autofree char *base = path_of(host, BASE);

    fake_power_on(&host->fake);
    g_assert_true(fake_commit_start(&host->fake.hv, FAKE_VM, "vda", base, NULL, 0, NULL));
}

static void
make_commit(Host *host)
{
    g_autofree char *base = path_of(host, BASE);
    g_autofree char *top = path_of(host, MIDDLE);

    fake_power_on(&host->fake);
    host->fake.endless = true;
    g_assert_true(fake_commit_start(&host->fake.hv, FAKE_VM, "vda", base, top, 0, NULL));
}

static uint32_t
number_at(const char *bytes, size_t at)
{
    uint32_t big;

    memcpy(&big, bytes + at, sizeof big);
    return GUINT32_FROM_BE(big);
}

/* As a QEMU that was killed leaves it. */
static void
make_bitmap(Host *host)
{
    g_autofree char *leaf = path_of(host, LEAF);
    g_autofree char *bytes = NULL;
    size_t length = 0, at;

    MUST(host->dir, "qemu-img bitmap --add -f qcow2 " LEAF " backup-1");
    g_assert_true(g_file_get_contents(leaf, &bytes, &length, NULL));
    for (at = number_at(bytes, 100); number_at(bytes, at) != 0x23852875;)
        at += 8 + (number_at(bytes, at + 4) + 7) / 8 * 8;
    poke(leaf, number_at(bytes, at + 8 + 20) + 12, 4, 1);
}

static void
use_overlay(Host *host)
{
    g_free(host->fake.disks[0].stored);
    g_free(host->fake.disks[0].live);
    host->fake.disks[0].stored = path_of(host, "web.backup");
    host->fake.disks[0].live = path_of(host, "web.backup");
}

/* As "virsh snapshot-create --disk-only" does it, and without an event. */
static void
make_overlay_of_others(Host *host)
{
    fake_power_on(&host->fake);
    g_free(image(host->dir, "web.backup", MIB, LEAF, "qcow2"));
    use_overlay(host);
}

/* The same, and the agent has looked since. */
static void
make_overlay_seen(Host *host)
{
    make_overlay_of_others(host);
    look(host);
}

static void
make_overlay_with_record(Host *host)
{
    make_overlay_of_others(host);
    libvirt.name = g_strdup("before update");
    libvirt.target = g_strdup("vda");
    libvirt.file = path_of(host, "web.backup");
}

static void
make_record(Host *host)
{
    libvirt.name = g_strdup("gone");
    libvirt.target = g_strdup("vda");
    libvirt.file = path_of(host, "web.gone");
}

static void
make_trash(Host *host)
{
    MUST(host->dir, "cp " BASE " .livemerge/trash/aaaaaaaa-0000-4000-8000-00000000000f.0.x.qcow2");
}

static void
make_build(Host *host)
{
    MUST(host->dir, "truncate -s 65536 " QCOW2_BUILD_PREFIX "0011223344556677");
}

/* Somebody flattened the middle volume. */
static void
make_stale_manifest(Host *host)
{
    MUST(host->dir, "qemu-img rebase -q -f qcow2 -b '' " MIDDLE);
}

static void
make_bad_manifest(Host *host)
{
    g_autofree char *file = path_of(host, ".livemerge/vms/" FAKE_VM ".json");

    poke_text(file, 100, "garbage", 7);
}

static void
record_merge(Host *host, const char *strategy, guint base, guint top)
{
    g_autoptr(Vm) vm = manifest(host);
    const Disk *disk = vm_disk(vm, "vda");
    OperationRecord *record = g_new0(OperationRecord, 1);

    record->id = id_new();
    record->kind = g_strdup("merge");
    record->strategy = g_strdup(strategy);
    record->disk_id = g_strdup(disk->id);
    record->base = g_strdup(((Volume *)disk->volumes->pdata[base])->id);
    record->top = g_strdup(((Volume *)disk->volumes->pdata[top])->id);
    g_ptr_array_add(vm->operations, record);
    save(host, vm);
}

static void
make_left_record(Host *host)
{
    record_merge(host, "commit-active", 1, 2);
    fake_power_on(&host->fake);
}

/* The merge of the middle into the base was done, and the journal was lost before it was settled.
 */
static void
make_left_record_of_done(Host *host)
{
    record_merge(host, "commit", 0, 1);
    MUST(host->dir, "qemu-img rebase -u -f qcow2 -b " BASE " -F qcow2 " LEAF);
    MUST(host->dir, "rm " MIDDLE);
    look(host); /* while it is off, so that nothing is done by itself */
    fake_power_on(&host->fake);
}

static void
make_lost(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);
    g_autofree char *id = id_new(), *volume = id_new();
    Snapshot *snapshot = snapshot_new(id, "tuesday", 2);

    vm_add_snapshot_disk(snapshot, vm_disk(vm, "vda")->id, volume);
    g_ptr_array_add(vm->snapshots, snapshot);
    save(host, vm);
}

static void
make_lost_memory(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);

    ((Snapshot *)vm->snapshots->pdata[0])->memory = path_of(host, "web.1a2b3c4d.memory");
    save(host, vm);
}

/* ---- afterwards ---- */

static void
in_trash(Host *host)
{
    g_autoptr(json_t) answer = ask(host);

    g_assert_cmpint(json_number(json_object_get(answer, "kept"), "files"), ==, 1);
}

static void
leaf_is_defined(Host *host)
{
    g_autofree char *leaf = path_of(host, LEAF);

    g_assert_cmpstr(host->fake.disks[0].stored, ==, leaf);
    g_assert_null(libvirt.stored_backing);
}

static void
monday_is_unusable(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);
    const Snapshot *snapshot = vm->snapshots->pdata[0];

    g_assert_true(((SnapshotDisk *)snapshot->disks->pdata[0])->unusable);
    g_assert_cmpuint(vm->operations->len, ==, 0);
}

/* What stood on the middle stands on the base. */
static void
monday_is_settled(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);
    const Disk *disk = vm_disk(vm, "vda");
    const Snapshot *monday = vm->snapshots->pdata[0];
    const SnapshotDisk *sd = snapshot_disk(monday, disk->id);

    g_assert_cmpuint(vm->operations->len, ==, 0);
    g_assert_cmpuint(disk->volumes->len, ==, 2);
    g_assert_cmpstr(sd->volume_id, ==, ((Volume *)disk->volumes->pdata[0])->id);
    g_assert_false(sd->unusable);
}

static void
job_is_ended(Host *host)
{
    g_assert_cmpuint(host->fake.cancels, ==, 1);
    monday_is_unusable(host);
}

static void
is_adopted(Host *host, const char *name)
{
    g_autoptr(Vm) vm = manifest(host);
    const Disk *disk = vm_disk(vm, "vda");
    const Snapshot *monday = vm->snapshots->pdata[0], *adopted = vm->snapshots->pdata[1];

    g_assert_cmpuint(vm->snapshots->len, ==, 2);
    g_assert_cmpstr(adopted->name, ==, name);
    g_assert_cmpstr(adopted->parent, ==, monday->id);
    g_assert_cmpint(adopted->date, >, 1600000000000);
    g_assert_cmpuint(disk->volumes->len, ==, 4);
    g_assert_cmpstr(((SnapshotDisk *)adopted->disks->pdata[0])->volume_id, ==,
                    ((Volume *)disk->volumes->pdata[2])->id);
}

static void
backup_is_adopted(Host *host)
{
    is_adopted(host, "backup");
}

static void
record_is_adopted(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);
    const Snapshot *adopted = vm->snapshots->pdata[1];

    is_adopted(host, "before update");
    g_assert_cmpint(adopted->date, ==, 1700000000000);
    g_assert_cmpstr(adopted->comment, ==, "as it was");
    g_assert_cmpstr(adopted->record, ==, "before update");
}

static void
chain_is_read(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);

    g_assert_cmpuint(vm_disk(vm, "vda")->volumes->len, ==, 2);
    g_assert_cmpuint(vm->snapshots->len, ==, 1);
}

/* ---- the table ---- */

/* clang-format off */
static const struct {
    const char *name;
    void (*make)(Host *);
    Diagnosis class;
    FixKind fix;
    void (*mended)(Host *); /* what is so then; NULL */
    bool undo;              /* does an undo bring it back? */
} rows[] = {
    { "orphan",            make_orphan,              DIAG_ORPHAN_VOLUME,    FIX_SAFE,  in_trash,           true },
    { "orphan-line",       make_orphan_line,         DIAG_ORPHAN_VOLUME,    FIX_ASKED, in_trash,           true },
    { "orphan-empty",      make_orphan_empty,        DIAG_ORPHAN_VOLUME,    FIX_ASKED, in_trash,           true },
    { "orphan-with-data",  make_orphan_with_data,    DIAG_ORPHAN_VOLUME,    FIX_NONE,  NULL,               false },
    { "orphan-memory",     make_orphan_memory,       DIAG_ORPHAN_VOLUME,    FIX_ASKED, in_trash,           true },
    { "left-by-merge", make_left_by_merge, DIAG_ORPHAN_VOLUME, FIX_SAFE, in_trash, true },
    { "missing-parent",    make_missing,             DIAG_MISSING_PARENT,   FIX_NONE,  NULL,               false },
    { "missing-in-trash",  make_missing_in_trash,    DIAG_MISSING_PARENT,   FIX_SAFE,  NULL,               false },
    { "missing-leaf",      make_missing_leaf,        DIAG_MISSING_PARENT,   FIX_NONE,  NULL,               false },
    { "loop",              make_loop,                DIAG_LOOP,             FIX_NONE,  NULL,               false },
    { "no-format",         make_no_format,           DIAG_BACKING_FORMAT,   FIX_SAFE,  NULL,               false },
    { "wrong-format",      make_wrong_format,        DIAG_BACKING_FORMAT,   FIX_SAFE,  NULL,               true },
    { "absolute-path",     make_absolute,            DIAG_ABSOLUTE_PATH,    FIX_SAFE,  NULL,               true },
    { "outside-path",      make_outside,             DIAG_OUTSIDE_PATH,     FIX_NONE,  NULL,               false },
    { "size-shrink",       make_shrunk,              DIAG_SIZE_SHRINK,      FIX_NONE,  NULL,               false },
    { "damaged",           make_damaged,             DIAG_DAMAGED_VOLUME,   FIX_NONE,  NULL,               false },
    { "corrupt",           make_corrupt,             DIAG_DAMAGED_VOLUME,   FIX_NONE,  NULL,               false },
    { "stale-leaf",        make_stale_leaf,          DIAG_STALE_LEAF,       FIX_SAFE,  leaf_is_defined,    false },
    { "runs-on-stale",     make_runs_on_stale,       DIAG_STALE_LEAF,       FIX_NONE,  NULL,               false },
    { "stale-definition",  make_stale_definition,    DIAG_STALE_DEFINITION, FIX_SAFE,  leaf_is_defined,    true },
    { "stale-backing",     make_stale_backing,       DIAG_STALE_DEFINITION, FIX_SAFE,  leaf_is_defined,    false },
    { "chain-mismatch",    make_mismatch,            DIAG_CHAIN_MISMATCH,   FIX_NONE,  NULL,               false },
    { "mirror",            make_mirror,              DIAG_FOREIGN_JOB,      FIX_ASKED, job_is_ended,       false },
    { "commit",            make_commit,              DIAG_FOREIGN_JOB,      FIX_NONE,  NULL,               false },
    { "bitmap",            make_bitmap,              DIAG_STALE_BITMAP,     FIX_SAFE,  NULL,               false },
    { "overlay",           make_overlay_of_others,   DIAG_FOREIGN_OVERLAY,  FIX_SAFE,  backup_is_adopted,  true },
    { "overlay-seen",      make_overlay_seen,        DIAG_FOREIGN_OVERLAY,  FIX_SAFE,  backup_is_adopted,  true },
    { "overlay-record",    make_overlay_with_record, DIAG_FOREIGN_OVERLAY,  FIX_SAFE,  record_is_adopted,  true },
    { "libvirt-snapshot",  make_record,              DIAG_LIBVIRT_SNAPSHOT, FIX_SAFE,  NULL,               true },
    { "trash",             make_trash,               DIAG_LEFTOVER_TRASH,   FIX_ASKED, NULL,               false },
    { "build",             make_build,               DIAG_LEFTOVER_BUILD,   FIX_SAFE,  in_trash,           true },
    { "stale-manifest",    make_stale_manifest,      DIAG_STALE_MANIFEST,   FIX_SAFE,  chain_is_read,      false },
    { "left-record",       make_left_record,         DIAG_LEFTOVER_RECORD,  FIX_SAFE,  monday_is_unusable, true },
    { "left-record-of-done", make_left_record_of_done, DIAG_LEFTOVER_RECORD, FIX_SAFE, monday_is_settled,  true },
    { "lost-snapshot",     make_lost,                DIAG_LOST_SNAPSHOT,    FIX_NONE,  NULL,               false },
    { "lost-memory",       make_lost_memory,         DIAG_LOST_SNAPSHOT,    FIX_NONE,  NULL,               false },
};
/* clang-format on */

/* Whoever adds a class adds a row; a damaged manifest has a test of its own. */
static void
test_every_class(void)
{
    bool tried[DIAG_LAST] = { [DIAG_BAD_MANIFEST] = true };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        tried[rows[i].class] = true;
    for (int i = 0; i < DIAG_LAST; i++)
        if (!tried[i])
            g_error("no row makes '%s'", diagnosis_word((Diagnosis)i));
}

static void
check_mended(json_t *take_result)
{
    g_autoptr(json_t) result = take_result;
    json_t *list = json_object_get(result, "findings");

    if (json_array_size(list) != 1 ||
        g_strcmp0(json_text(json_array_get(list, 0), "state"), "mended") != 0) {
        autolibc char *text = json_dumps(result, JSON_INDENT(1));
        g_error("not mended: %s", text);
    }
}

static void
test_class(const void *data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    g_auto(Host) host = { 0 };
    g_autoptr(Finding) finding = NULL, again = NULL;
    g_autofree char *fix_id = id_new(), *undo_id = id_new(), *plain_id = id_new();

    if (!have_qemu())
        return;
    host_make(&host);
    expect(&host, DIAG_LAST, NULL);
    rows[i].make(&host);
    expect(&host, rows[i].class, &finding);
    g_test_message("%s", finding->text);
    g_assert_cmpint(finding->fix_kind, ==, rows[i].fix);
    if (rows[i].fix != FIX_SAFE) { /* nothing is done unless it is asked for by its name */
        g_autoptr(json_t) nothing = fix(&host, plain_id, DIAG_LAST);
        g_assert_cmpuint(json_array_size(json_object_get(nothing, "findings")), ==, 0);
        expect(&host, rows[i].class, NULL);
    }
    if (rows[i].fix == FIX_NONE)
        return;
    check_mended(fix(&host, fix_id, rows[i].fix == FIX_SAFE ? DIAG_LAST : rows[i].class));
    expect(&host, DIAG_LAST, NULL);
    if (rows[i].mended != NULL)
        rows[i].mended(&host);
    if (!rows[i].undo)
        return;
    json_decref(operate(&host, undo_id, "doctor-undo", "undo", json_string(fix_id)));
    expect(&host, rows[i].class, &again);
    g_assert_true(finding_same(finding, again));
    g_assert_cmpstr(finding->text, ==, again->text);
}

/* ---- more than one class ---- */

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

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    doctor_grace_s = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = g_strdup_printf("/doctor/class/%s", rows[i].name);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_class);
    }
    g_test_add_func("/doctor/every-class", test_every_class);
    g_test_add_func("/doctor/bad-manifest", test_bad_manifest);
    g_test_add_func("/doctor/record-and-file", test_record_and_file);
    g_test_add_func("/doctor/many", test_many);
    g_test_add_func("/doctor/manifest-is-lost-in-preview", test_manifest_is_lost_in_preview);
    g_test_add_func("/doctor/lost-by-libvirt", test_lost_by_libvirt);
    g_test_add_func("/doctor/while-merging", test_while_merging);
    g_test_add_func("/doctor/stop-anywhere", test_stop_anywhere);
    g_test_add_func("/doctor/refuses", test_refuses);
    return g_test_run();
}
