/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the tests of the doctor stand on: an agent with a VM of three volumes and a snapshot, on a
 * hypervisor in memory that also has libvirt's records of snapshots; and how the doctor is asked.
 */
#pragma once

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

static inline HvSnapshotRecord *
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

static inline GPtrArray *
fake_records(Hypervisor *hv, const char *vm_id, GError **error)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)hv_snapshot_record_free);

    if (libvirt.name != NULL)
        g_ptr_array_add(list, record_new());
    return list;
}

static inline bool
fake_record_forget(Hypervisor *hv, const char *vm_id, const char *name, GError **error)
{
    g_assert_cmpstr(name, ==, libvirt.name);
    g_clear_pointer(&libvirt.name, g_free);
    return true;
}

static inline bool
fake_record_restore(Hypervisor *hv, const char *vm_id, const char *xml, bool current,
                    GError **error)
{
    g_autoptr(HvSnapshotRecord) record = hv_parse_snapshot(xml, error);

    g_assert_nonnull(record);
    fake_set(&libvirt.name, record->name);
    return true;
}

static inline HvDomain *
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
static inline bool
redefine_without_backing(Hypervisor *hv, const char *vm_id, const char *const *targets,
                         const char *const *sources, const char *const *formats, unsigned n,
                         GError **error)
{
    g_clear_pointer(&libvirt.stored_backing, g_ptr_array_unref);
    return fake_redefine(hv, vm_id, targets, sources, formats, n, error);
}

/* ---- the host ---- */

static inline char *
path_of(const Host *host, const char *name)
{
    return g_build_filename(host->dir, name, NULL);
}

static inline void
look(Host *host)
{
    g_autoptr(GError) error = NULL;
    WITH_LOCK(&host->entry->lock);

    g_assert_true(agent_look(host->agent, host->entry, &error));
    g_assert_no_error(error);
}

static inline void
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

static inline Vm *
manifest(Host *host)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *any = path_of(host, "x");
    Vm *vm = manifest_load(agent_domain(host->agent, any, false, NULL), FAKE_VM, &error);

    g_assert_no_error(error);
    return vm;
}

static inline void
save(Host *host, Vm *vm)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *any = path_of(host, "x");

    manifest_save(agent_domain(host->agent, any, false, NULL), vm, &error);
    g_assert_no_error(error);
}

/* A snapshot of the instant when the middle volume was the leaf. The base is a template. */
static inline void
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

static inline void
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

static inline void
agent_end(Host *host)
{
    g_mutex_lock(&host->fake.lock);
    host->fake.away = true;
    g_mutex_unlock(&host->fake.lock);
    agent_free(g_steal_pointer(&host->agent));
}

static inline void
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

static inline json_t *
ask(Host *host)
{
    g_autoptr(GError) error = NULL;
    json_t *answer = NULL;

    doctor_answer(host->agent, FAKE_VM, &answer, &error);
    g_assert_no_error(error);
    return answer;
}

/* Exactly this is found, or nothing (DIAG_LAST). *ret_finding (may be NULL) is the caller's. */
static inline void
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

/* Begins an operation and waits for its end, which nobody acknowledges. */
static inline json_t *
end_of_unacknowledged(Host *host, json_t *body)
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
    return op;
}

/* Begins an operation and waits for its end; the result. */
static inline json_t *
operate_with(Host *host, json_t *body)
{
    json_t *op = end_of_unacknowledged(host, body);

    if (!g_str_equal(json_text(op, "state"), "done")) {
        autolibc char *text = json_dumps(op, JSON_INDENT(1));
        g_error("%s", text);
    }
    json_t *result = json_incref(json_object_get(op, "result"));
    json_decref(op);
    operation_ack(host->agent, json_text(body, "id"), NULL);
    return result;
}

static inline json_t *
operate(Host *host, const char *id, const char *kind, const char *key, json_t *take_value)
{
    g_autoptr(json_t) body = json_pack("{s:s, s:s, s:s, s:o}", "id", id, "kind", kind, "vm_id",
                                       FAKE_VM, key, take_value);

    return operate_with(host, body);
}

static inline json_t *
fix(Host *host, const char *id, Diagnosis class)
{
    return operate(host, id, "doctor-fix", "classes",
                   class == DIAG_LAST ? json_array() : json_pack("[s]", diagnosis_word(class)));
}

static inline void
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
