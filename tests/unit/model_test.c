/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/model: JSON both ways, what a merge does to chains and snapshots, the planner
 * (rows), and every cell of the verb table.
 */
#include "model/plan.h"
#include "model/verbs.h"
#include "model/vm.h"

#include <string.h>

#define VM_ID "11111111-2222-3333-4444-555555555555"

/* A VM with disk d1 (vda), volumes v0..v<n-1> of i+1 MiB in use, snapshot s<i> on v<i> for all
 * but the leaf. */
static Vm *
make_vm(unsigned volumes)
{
    Vm *vm = vm_new(VM_ID, "web1");
    Disk *disk = disk_new("d1", "vda");

    vm->state = VM_UP;
    g_ptr_array_add(vm->disks, disk);
    for (unsigned i = 0; i < volumes; i++) {
        g_autofree char *id = g_strdup_printf("v%u", i);
        g_autofree char *path = g_strdup_printf("/dom/%s.qcow2", id);
        Volume *volume = volume_new(id, path, "qcow2", 1 << 30);
        volume->allocated = (i + 1) << 20;
        g_ptr_array_add(disk->volumes, volume);
        if (i + 1 < volumes) {
            g_autofree char *snapshot_id = g_strdup_printf("s%u", i);
            Snapshot *snapshot = snapshot_new(snapshot_id, snapshot_id, 1000 + i);
            vm_add_snapshot_disk(snapshot, "d1", id);
            g_ptr_array_add(vm->snapshots, snapshot);
        }
    }
    return vm;
}

static void
add_second_disk(Vm *vm)
{
    Disk *disk = disk_new("d2", "vdb");

    g_ptr_array_add(vm->disks, disk);
    g_ptr_array_add(disk->volumes, volume_new("w0", "/dom/w0.raw", "raw", 1 << 20));
    g_ptr_array_add(disk->volumes, volume_new("w1", "/dom/w1.qcow2", "qcow2", 1 << 20));
    vm_add_snapshot_disk(vm_snapshot(vm, "s0"), "d2", "w0");
}

/* ---- vm */

static Vm *
make_full_vm(void)
{
    Vm *vm = make_vm(3);
    Snapshot *snapshot = vm_snapshot(vm, "s1");
    OperationRecord *record = g_new0(OperationRecord, 1);
    Volume *volume = disk_volume(vm_disk(vm, "d1"), "v0");
    SnapshotDisk *entry = snapshot_disk(snapshot, "d1");

    vm->host = g_strdup("h1");
    vm->state_detail = g_strdup("eio");
    vm->instance = g_strdup("12.34");
    vm->home = g_strdup("/dom");
    vm->memory = 1ULL << 33;
    vm->vcpus = 4;
    vm->agent_connected = true;
    vm->graphics = g_strdup("vnc");
    vm->generation = 77;
    vm->unmanaged = g_strdup("has a shared disk");
    vm_disk(vm, "d1")->bus = g_strdup("virtio");
    vm_disk(vm, "d1")->boot = true;
    vm_disk(vm, "d1")->read_only = true;
    vm_disk(vm, "d1")->unmanaged = g_strdup("why not");
    vm_disk(vm, "d1")->busy = g_strdup("a block job (copy)");
    volume->read_only = true;
    volume->used_by = g_strdup("VM web2");
    volume->virtual_size = (1ULL << 62) + 1; /* more than a double holds */
    snapshot->parent = g_strdup("s0");
    snapshot->date = 1769862896789;
    snapshot->memory = g_strdup("/dom/m");
    snapshot->memory_size = 4096;
    snapshot->quiesced = true;
    snapshot->config = g_strdup("<domain name='\xc3\xa4 \"x\"'/>\n");
    entry->unusable = true;
    record->id = g_strdup("op1");
    record->kind = g_strdup("delete");
    record->disk_id = g_strdup("d1");
    record->base = g_strdup("v0");
    record->top = g_strdup("v1");
    record->strategy = g_strdup("commit");
    g_ptr_array_add(vm->operations, record);
    return vm;
}

static char *
text_of(const Vm *vm)
{
    g_autoptr(json_t) json = vm_to_json(vm);

    return json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
}

static void
test_json_round_trip(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_full_vm();
    g_autoptr(json_t) json = vm_to_json(vm);
    g_autoptr(Vm) back = vm_from_json(json, &error);
    autolibc char *before = text_of(vm);

    g_assert_no_error(error);
    autolibc char *after = text_of(back);
    g_assert_cmpstr(before, ==, after);

    /* not only the same text: the values are where they belong */
    g_assert_cmpuint(disk_volume(vm_disk(back, "vda"), "v0")->virtual_size, ==, (1ULL << 62) + 1);
    g_assert_cmpstr(disk_volume(vm_disk(back, "vda"), "v0")->used_by, ==, "VM web2");
    g_assert_cmpint(vm_snapshot(back, "s1")->date, ==, 1769862896789);
    g_assert_true(snapshot_disk(vm_snapshot(back, "s1"), "d1")->unusable);
    g_assert_true(vm_snapshot(back, "s1")->quiesced);
    g_assert_cmpint(back->state, ==, VM_UP);
    g_assert_cmpint(back->generation, ==, 77);
    g_assert_cmpuint(back->vcpus, ==, 4);
    g_assert_cmpstr(vm_operation(back, "op1")->strategy, ==, "commit");
    g_assert_null(vm_snapshot(back, "s0")->memory);
}

/* Every member of the structs is in the JSON: its name in vm.h, and nothing else. */
static void
test_json_names(void)
{
    static const char wanted[] =
        "agent_connected disks generation graphics home host id instance memory name operations "
        "snapshots state state_detail unmanaged vcpus | boot bus busy id read_only target "
        "unmanaged "
        "volumes | allocated format id path read_only used_by virtual_size | config date disks id "
        "memory memory_size name parent quiesced | disk_id unusable volume_id | base disk_id id "
        "kind strategy top";
    g_autoptr(Vm) vm = make_full_vm();
    g_autoptr(json_t) json = vm_to_json(vm);
    json_t *disk = json_array_get(json_object_get(json, "disks"), 0);
    json_t *snapshot = json_array_get(json_object_get(json, "snapshots"), 1);
    json_t *objects[] = {
        json,
        disk,
        json_array_get(json_object_get(disk, "volumes"), 0),
        snapshot,
        json_array_get(json_object_get(snapshot, "disks"), 0),
        json_array_get(json_object_get(json, "operations"), 0),
    };
    g_autoptr(GString) found = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(objects); i++) {
        g_autoptr(GList) names = NULL;
        const char *key;
        json_t *value;
        json_object_foreach (objects[i], key, value)
            names = g_list_insert_sorted(names, (void *)key, (GCompareFunc)strcmp);
        if (i > 0)
            g_string_append(found, " | ");
        for (GList *l = names; l != NULL; l = l->next)
            g_string_append_printf(found, "%s%s", l == names ? "" : " ", (char *)l->data);
    }
    g_assert_cmpstr(found->str, ==, wanted);
}

static void
test_json_refuses(void)
{
    /* clang-format off */
    static const struct { const char *json, *say; /* NULL = accepted */ } rows[] = {
        { "{'id':'x','name':'n'}",                                     NULL },
        { "{'id':'x','name':'n','state':'up','from_the_future':[1]}",  NULL },
        { "{'id':'x','name':'n','disks':[{'id':'d','target':'vda','volumes':[{'id':'v','path':'/v','format':'raw'}]}]}", NULL },
        { "[]",                                                        "not a JSON object" },
        { "{'name':'n'}",                                              "'id' is missing" },
        { "{'id':'','name':'n'}",                                      "'id' is missing" },
        { "{'id':7,'name':'n'}",                                       "'id' is not text" },
        { "{'id':'x'}",                                                "'name' is missing" },
        { "{'id':'x','name':'n','state':'flying'}",                    "unknown state 'flying'" },
        { "{'id':'x','name':'n','state':3}",                           "unknown state" },
        { "{'id':'x','name':'n','vcpus':-1}",                          "'vcpus'" },
        { "{'id':'x','name':'n','vcpus':4294967296}",                  "'vcpus'" },
        { "{'id':'x','name':'n','memory':-1}",                         "'memory'" },
        { "{'id':'x','name':'n','memory':1.5}",                        "'memory'" },
        { "{'id':'x','name':'n','agent_connected':1}",                 "neither true nor false" },
        { "{'id':'x','name':'n','disks':{}}",                          "'disks' is not a list" },
        { "{'id':'x','name':'n','disks':[7]}",                         "disk: is not a JSON object" },
        { "{'id':'x','name':'n','disks':[{'target':'vda'}]}",          "disk: 'id' is missing" },
        { "{'id':'x','name':'n','disks':[{'id':'d'}]}",                "disk: 'target' is missing" },
        { "{'id':'x','name':'n','disks':[{'id':'d','target':'vda','volumes':[{'id':'v','path':'/v','format':'vmdk'}]}]}", "neither qcow2 nor raw" },
        { "{'id':'x','name':'n','disks':[{'id':'d','target':'vda','volumes':[{'id':'v','format':'raw'}]}]}", "volume: 'path' is missing" },
        { "{'id':'x','name':'n','snapshots':[{'name':'a'}]}",          "snapshot: 'id' is missing" },
        { "{'id':'x','name':'n','snapshots':[{'id':'a','disks':[{'disk_id':'d'}]}]}", "'volume_id' is missing" },
        { "{'id':'x','name':'n','operations':[{'id':'a'}]}",           "operation: 'kind' is missing" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = g_strdelimit(g_strdup(rows[i].json), "'", '"');
        g_autoptr(json_t) json = json_loads(text, 0, NULL);
        g_autoptr(Vm) vm = vm_from_json(json, &error);

        g_test_message("row %zu: %s", i, text);
        g_assert_nonnull(json);
        if (rows[i].say == NULL) {
            g_assert_no_error(error);
            g_assert_nonnull(vm);
            continue;
        }
        g_assert_null(vm);
        g_assert_error(error, ERR, ERR_CORRUPT);
        g_assert_nonnull(strstr(error->message, rows[i].say));
    }
}

/* A file name can be any bytes; the member must not silently be absent. */
static void
test_json_not_utf8(void)
{
    g_autoptr(json_t) json = json_object();

    json_put_text(json, "path", "/dom/\xff.qcow2");
    json_put_text(json, "none", NULL);
    g_assert_nonnull(json_text(json, "path"));
    g_assert_cmpuint(json_object_size(json), ==, 1);
    g_assert_null(json_text(json, "none"));
    g_assert_cmpint(json_number(json, "none"), ==, 0);
    g_assert_false(json_flag(json, "none"));
}

static void
test_copy(void)
{
    g_autoptr(Vm) vm = make_full_vm();
    g_autoptr(Vm) copy = vm_copy(vm);
    autolibc char *before = text_of(vm);
    autolibc char *same = text_of(copy);
    g_autoptr(Volume) volume = volume_copy(disk_leaf(vm_disk(vm, "d1")));

    g_assert_cmpstr(before, ==, same);
    g_assert_cmpstr(volume->path, ==, "/dom/v2.qcow2");
    g_ptr_array_remove_index(vm_disk(copy, "d1")->volumes, 0);
    g_ptr_array_set_size(copy->snapshots, 0);
    autolibc char *after = text_of(vm);
    g_assert_cmpstr(before, ==, after);
    g_assert_null(vm_copy(NULL));
}

static void
test_look_ups(void)
{
    g_autoptr(Vm) vm = make_vm(3);
    Disk *disk = vm_disk(vm, "vda");

    g_assert_true(disk == vm_disk(vm, "d1"));
    g_assert_null(vm_disk(vm, "vdz"));
    g_assert_null(vm_disk(vm, NULL));
    g_assert_null(vm_snapshot(vm, "s9"));
    g_assert_null(vm_operation(vm, "op"));
    g_assert_cmpint(disk_volume_index(disk, "v2"), ==, 2);
    g_assert_cmpint(disk_volume_index(disk, "v3"), ==, -1);
    g_assert_cmpint(disk_volume_index(disk, NULL), ==, -1);
    g_assert_cmpstr(disk_volume_by_path(disk, "/dom/v1.qcow2")->id, ==, "v1");
    g_assert_null(disk_volume_by_path(disk, "/dom/none"));
    g_assert_cmpstr(disk_leaf(disk)->id, ==, "v2");
    g_assert_true(disk_is_managed(disk));
    disk->read_only = true;
    g_assert_false(disk_is_managed(disk));
    disk->read_only = false;
    g_ptr_array_set_size(disk->volumes, 0);
    g_assert_null(disk_leaf(disk));
    g_assert_false(disk_is_managed(disk));
}

static void
test_state_words(void)
{
    for (int state = 0; state < VM_STATE_LAST; state++)
        g_assert_cmpint(vm_state_from_word(vm_state_word((VmState)state)), ==, state);
    g_assert_cmpint(vm_state_from_word("flying"), ==, VM_UNKNOWN);
    g_assert_cmpint(vm_state_from_word(NULL), ==, VM_UNKNOWN);
}

/* ---- merges: "v0 v3 | s0=v0 s2=v2" */

static char *
shape_of(const Vm *vm)
{
    GString *text = g_string_new(NULL);
    const Disk *disk = vm->disks->pdata[0];

    for (guint i = 0; i < disk->volumes->len; i++)
        g_string_append_printf(text, "%s ", ((Volume *)disk->volumes->pdata[i])->id);
    g_string_append(text, "|");
    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        const SnapshotDisk *entry = snapshot_disk(snapshot, "d1");
        if (entry != NULL)
            g_string_append_printf(text, " %s=%s", snapshot->id, entry->volume_id);
    }
    return g_string_free(text, FALSE);
}

static void
test_apply_merge(void)
{
    /* clang-format off */
    static const struct { const char *base, *top, *replacement, *wanted; } rows[] = {
        { "v0", "v1", NULL, "v0 v2 v3 v4 | s1=v0 s2=v2 s3=v3" },
        { "v1", "v3", NULL, "v0 v1 v4 | s0=v0 s3=v1" },
        { "v3", "v4", NULL, "v0 v1 v2 v3 | s0=v0 s1=v1 s2=v2" },
        { "v0", "v4", NULL, "v0 |" },
        { "v2", "v2", NULL, "v0 v1 v2 v3 v4 | s0=v0 s1=v1 s2=v2 s3=v3" },
        { "v3", "v4", "n",  "v0 v1 v2 n | s0=v0 s1=v1 s2=v2" },
        { "v0", "v4", "n",  "n |" },
        { "v4", "v4", "n",  "v0 v1 v2 v3 n | s0=v0 s1=v1 s2=v2 s3=v3" },
        { "v1", "v2", "n",  "v0 n v3 v4 | s0=v0 s2=n s3=v3" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_vm(5);
        g_autoptr(Volume) replacement = volume_new("n", "/dom/n.qcow2", "qcow2", 1 << 30);

        for (int turn = 0; turn < 2; turn++) { /* repeating changes nothing */
            bool done = vm_apply_merge(vm, "d1", rows[i].base, rows[i].top,
                                       rows[i].replacement != NULL ? replacement : NULL, &error);
            g_autofree char *found = shape_of(vm);
            g_assert_no_error(error);
            g_assert_true(done);
            g_assert_cmpstr(found, ==, rows[i].wanted);
        }
    }
}

static void
test_apply_merge_refuses(void)
{
    /* clang-format off */
    static const struct { const char *disk, *base, *top; ErrorCode code; } rows[] = {
        { "d9", "v0", "v1", ERR_NOT_FOUND },
        { "d1", "x",  "v1", ERR_NOT_FOUND },
        { "d1", "x",  "y",  ERR_NOT_FOUND },
        { "d1", "v2", "v1", ERR_INVALID },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_vm(3);

        g_assert_false(vm_apply_merge(vm, rows[i].disk, rows[i].base, rows[i].top, NULL, &error));
        g_assert_error(error, ERR, (int)rows[i].code);
        g_autofree char *found = shape_of(vm);
        g_assert_cmpstr(found, ==, "v0 v1 v2 | s0=v0 s1=v1");
    }
}

static void
test_apply_merge_grows_base(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm(3);
    Disk *disk = vm_disk(vm, "d1");

    disk_volume(disk, "v1")->virtual_size = 5ULL << 30;
    g_assert_true(vm_apply_merge(vm, "d1", "v0", "v1", NULL, &error));
    g_assert_cmpuint(disk_volume(disk, "v0")->virtual_size, ==, 5ULL << 30);
}

/* ---- the planner */

static char *
text_of_runs(const GPtrArray *runs)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < runs->len; i++) {
        const Run *run = runs->pdata[i];
        g_string_append_printf(text, "%s%s[%s..%s] %s %" G_GUINT64_FORMAT, i > 0 ? "; " : "",
                               run->target, run->base, run->top, strategy_word(run->strategy),
                               run->bytes >> 20);
        g_assert_cmpint(run->has_leaf, ==,
                        run->strategy == STRATEGY_COMMIT_ACTIVE || run->strategy == STRATEGY_COPY ||
                            (run->strategy == STRATEGY_COLD_COMMIT && run->top_index == 5));
    }
    return g_string_free(text, FALSE);
}

/* What is special about the VM of a row */
enum {
    PAUSED = 1 << 0,
    DOWN = 1 << 1,
    V0_USED = 1 << 2,
    V0_READ_ONLY = 1 << 3,
    V1_USED = 1 << 4,
    V4_USED = 1 << 5,
    V0_RAW = 1 << 6,
    MIGRATING = 1 << 7,
    UNKNOWN = 1 << 8,
    S0_ON_LEAF = 1 << 9,
    S0_LOST = 1 << 10,
    S1_WITHOUT_DISK = 1 << 11,
    S1_ON_V0 = 1 << 12,
    UNMANAGED = 1 << 13,
    READ_ONLY_DISK = 1 << 14,
    V4_READ_ONLY = 1 << 15,
    BUSY = 1 << 16,
};

static Vm *
make_special_vm(unsigned special)
{
    Vm *vm = make_vm(6);
    Disk *disk = vm_disk(vm, "d1");
    SnapshotDisk *s0 = snapshot_disk(vm_snapshot(vm, "s0"), "d1");
    SnapshotDisk *s1 = snapshot_disk(vm_snapshot(vm, "s1"), "d1");
    static const struct {
        unsigned bit;
        VmState state;
    } states[] = { { PAUSED, VM_PAUSED },
                   { DOWN, VM_DOWN },
                   { MIGRATING, VM_MIGRATING },
                   { UNKNOWN, VM_UNKNOWN } };

    for (size_t i = 0; i < G_N_ELEMENTS(states); i++)
        if (special & states[i].bit)
            vm->state = states[i].state;
    if (special & V0_USED)
        disk_volume(disk, "v0")->used_by = g_strdup("VM web2");
    if (special & V1_USED)
        disk_volume(disk, "v1")->used_by = g_strdup("file /x/y.qcow2");
    if (special & V4_USED)
        disk_volume(disk, "v4")->used_by = g_strdup("VM web3");
    disk_volume(disk, "v0")->read_only = special & V0_READ_ONLY;
    disk_volume(disk, "v4")->read_only = special & V4_READ_ONLY;
    if (special & V0_RAW) {
        g_free(disk_volume(disk, "v0")->format);
        disk_volume(disk, "v0")->format = g_strdup("raw");
    }
    g_free(s0->volume_id);
    s0->volume_id = g_strdup(special & S0_ON_LEAF ? "v5" : special & S0_LOST ? "lost" : "v0");
    if (special & S1_ON_V0) {
        g_free(s1->volume_id);
        s1->volume_id = g_strdup("v0");
    }
    if (special & S1_WITHOUT_DISK)
        g_ptr_array_set_size(vm_snapshot(vm, "s1")->disks, 0);
    if (special & UNMANAGED)
        disk->unmanaged = g_strdup("it is shared by several VMs");
    disk->read_only = special & READ_ONLY_DISK;
    if (special & BUSY)
        disk->busy = g_strdup("a block job (copy)");
    return vm;
}

static void
test_plan(void)
{
    /* clang-format off */
    static const struct {
        const char *snapshots;
        unsigned special;
        Strategy strategy;
        const char *wanted; /* the runs; or what the error says */
        ErrorCode code;     /* ERR_LAST = no error */
    } rows[] = {
        /* runs */
        { "",            0, STRATEGY_AUTO, "", ERR_LAST },
        { "s0",          0, STRATEGY_AUTO, "vda[v0..v1] commit 2", ERR_LAST },
        { "s0 s0",       0, STRATEGY_AUTO, "vda[v0..v1] commit 2", ERR_LAST },
        { "s4",          0, STRATEGY_AUTO, "vda[v4..v5] commit-active 6", ERR_LAST },
        { "s2 s1",       0, STRATEGY_AUTO, "vda[v1..v3] commit 7", ERR_LAST },
        { "s0 s2",       0, STRATEGY_AUTO, "vda[v0..v1] commit 2; vda[v2..v3] commit 4", ERR_LAST },
        { "s0 s1 s3 s4", 0, STRATEGY_AUTO, "vda[v0..v2] commit 5; vda[v3..v5] commit-active 11", ERR_LAST },
        { "s0 s1 s2 s3 s4", 0, STRATEGY_AUTO, "vda[v0..v5] commit-active 20", ERR_LAST },
        { "s0 s1 s2", S1_WITHOUT_DISK, STRATEGY_AUTO, "vda[v0..v1] commit 2; vda[v2..v3] commit 4", ERR_LAST },
        { "s1",       S1_WITHOUT_DISK, STRATEGY_AUTO, "", ERR_LAST },
        { "s0 s1",       S1_ON_V0, STRATEGY_AUTO, "vda[v0..v1] commit 2", ERR_LAST },
        { "s0",          V0_RAW, STRATEGY_AUTO, "vda[v0..v1] commit 2", ERR_LAST },
        { "s0",          PAUSED, STRATEGY_AUTO, "vda[v0..v1] commit 2", ERR_LAST },
        { "s4",          PAUSED, STRATEGY_AUTO, "vda[v4..v5] commit-active 6", ERR_LAST },
        /* forced, VM up */
        { "s4",          0, STRATEGY_COMMIT, "vda[v4..v5] commit-active 6", ERR_LAST },
        { "s4",          0, STRATEGY_COMMIT_ACTIVE, "vda[v4..v5] commit-active 6", ERR_LAST },
        { "s4",          0, STRATEGY_COPY, "vda[v4..v5] copy 11", ERR_LAST },
        { "s0",          0, STRATEGY_COMMIT, "vda[v0..v1] commit 2", ERR_LAST },
        { "s0",          0, STRATEGY_COMMIT_ACTIVE, "needs a run that holds the leaf", ERR_REFUSED },
        { "s0",          0, STRATEGY_COPY, "copy needs a run that holds the leaf", ERR_REFUSED },
        { "s0",          0, STRATEGY_COLD_COMMIT, "needs a VM that is down", ERR_REFUSED },
        /* VM down */
        { "s0",          DOWN, STRATEGY_AUTO, "vda[v0..v1] cold-commit 2", ERR_LAST },
        { "s0 s4",       DOWN, STRATEGY_COMMIT, "vda[v0..v1] cold-commit 2; vda[v4..v5] cold-commit 6", ERR_LAST },
        { "s0",          DOWN, STRATEGY_COLD_COMMIT, "vda[v0..v1] cold-commit 2", ERR_LAST },
        { "s4",          DOWN, STRATEGY_COMMIT_ACTIVE, "needs a running VM", ERR_REFUSED },
        { "s4",          DOWN, STRATEGY_COPY, "needs a running VM", ERR_REFUSED },
        { "s0",          DOWN | V0_USED, STRATEGY_AUTO, "VM web2 stands on its base", ERR_REFUSED },
        { "s0",          DOWN | V0_READ_ONLY, STRATEGY_AUTO, "is read-only", ERR_REFUSED },
        { "s4",          DOWN | V4_READ_ONLY, STRATEGY_AUTO, "while the VM runs (strategy copy)", ERR_REFUSED },
        /* a base that must not change */
        { "s0 s1 s2 s3 s4", V0_USED, STRATEGY_AUTO, "vda[v0..v5] copy 21", ERR_LAST },
        { "s0 s1 s2 s3 s4", V0_USED, STRATEGY_COPY, "vda[v0..v5] copy 21", ERR_LAST },
        { "s0 s1 s2 s3 s4", V0_READ_ONLY, STRATEGY_AUTO, "vda[v0..v5] copy 21", ERR_LAST },
        { "s4",          V4_READ_ONLY, STRATEGY_AUTO, "vda[v4..v5] copy 11", ERR_LAST },
        { "s4",          V0_USED, STRATEGY_AUTO, "vda[v4..v5] commit-active 6", ERR_LAST },
        { "s0 s1 s2 s3 s4", V0_USED, STRATEGY_COMMIT, "VM web2 stands on its base /dom/v0.qcow2", ERR_REFUSED },
        { "s0 s1 s2 s3 s4", V0_READ_ONLY, STRATEGY_COMMIT_ACTIVE, "/dom/v0.qcow2 is read-only", ERR_REFUSED },
        { "s0",          V0_USED, STRATEGY_AUTO, "VM web2 stands on its base /dom/v0.qcow2", ERR_REFUSED },
        { "s0",          V0_READ_ONLY, STRATEGY_AUTO, "can be written", ERR_REFUSED },
        /* a file that would vanish, or a chain above that others read through */
        { "s0",          V1_USED, STRATEGY_AUTO, "file /x/y.qcow2 stands on /dom/v1.qcow2", ERR_REFUSED },
        { "s0 s1 s2 s3 s4", V1_USED, STRATEGY_COPY, "file /x/y.qcow2 stands on /dom/v1.qcow2", ERR_REFUSED },
        { "s0",          V1_USED | DOWN, STRATEGY_AUTO, "file /x/y.qcow2 stands on /dom/v1.qcow2", ERR_REFUSED },
        { "s0",          V4_USED, STRATEGY_AUTO, "VM web3 stands on /dom/v4.qcow2", ERR_REFUSED },
        { "s4",          V4_USED, STRATEGY_AUTO, "vda[v4..v5] copy 11", ERR_LAST },
        { "s4",          V1_USED, STRATEGY_AUTO, "vda[v4..v5] commit-active 6", ERR_LAST },
        /* what cannot be planned */
        { "s0 nine",     0, STRATEGY_AUTO, "no snapshot 'nine'", ERR_NOT_FOUND },
        { "s0",          MIGRATING, STRATEGY_AUTO, "migrating", ERR_REFUSED },
        { "s0",          UNKNOWN, STRATEGY_AUTO, "does not answer", ERR_UNREACHABLE },
        { "s0",          S0_ON_LEAF, STRATEGY_AUTO, "recorded on the leaf /dom/v5.qcow2", ERR_REFUSED },
        { "s0",          S0_LOST, STRATEGY_AUTO, "volume lost of snapshot 's0'", ERR_REFUSED },
        { "s0",          S1_ON_V0, STRATEGY_AUTO, "delete both together", ERR_REFUSED },
        { "s0",          UNMANAGED, STRATEGY_AUTO, "it is shared by several VMs", ERR_REFUSED },
        { "s0",          READ_ONLY_DISK, STRATEGY_AUTO, "read-only", ERR_REFUSED },
        { "s0",          BUSY, STRATEGY_AUTO, "virsh blockjob web1 vda --abort", ERR_REFUSED },
        { "s1",          BUSY | S1_WITHOUT_DISK, STRATEGY_AUTO, "", ERR_LAST },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_special_vm(rows[i].special);
        g_auto(GStrv) ids =
            *rows[i].snapshots != '\0' ? g_strsplit(rows[i].snapshots, " ", -1) : g_new0(char *, 1);
        g_autoptr(GPtrArray) runs =
            plan_runs(vm, (const char *const *)ids, NULL, rows[i].strategy, &error);

        g_test_message("row %zu: %s, %s, special %x: %s", i, rows[i].snapshots,
                       strategy_word(rows[i].strategy), rows[i].special,
                       error != NULL ? error->message : "planned");
        if (rows[i].code == ERR_LAST) {
            g_assert_no_error(error);
            g_autofree char *found = text_of_runs(runs);
            g_assert_cmpstr(found, ==, rows[i].wanted);
            continue;
        }
        g_assert_null(runs);
        g_assert_error(error, ERR, (int)rows[i].code);
        g_assert_nonnull(strstr(error->message, "web1"));
        g_assert_nonnull(strstr(error->message, rows[i].wanted));
    }
}

static void
test_plan_disks(void)
{
    static const char *const ids[] = { "s0", NULL };
    /* clang-format off */
    static const struct { const char *disk, *wanted; } rows[] = {
        { NULL,  "vda[v0..v1] commit 2; vdb[w0..w1] commit-active 0" },
        { "vda", "vda[v0..v1] commit 2" },
        { "d2",  "vdb[w0..w1] commit-active 0" },
    };
    /* clang-format on */
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm(3);

    add_second_disk(vm);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) runs = plan_runs(vm, ids, rows[i].disk, STRATEGY_AUTO, &error);
        g_assert_no_error(error);
        g_autofree char *found = text_of_runs(runs);
        g_assert_cmpstr(found, ==, rows[i].wanted);
    }
    g_assert_null(plan_runs(vm, ids, "vdz", STRATEGY_AUTO, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "vdz"));
}

/* Planning and recording every subset of snapshots: no more to plan, the chain has as many
 * volumes as boundaries are left, and the snapshots that stay still have the data they had. */
static void
test_every_subset(void)
{
    for (unsigned set = 0; set < 1 << 5; set++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_vm(6);
        g_autoptr(GPtrArray) ids = g_ptr_array_new();
        Disk *disk = vm_disk(vm, "d1");

        for (guint i = 0; i < 5; i++)
            if (set & (1U << i))
                g_ptr_array_add(ids, ((Snapshot *)vm->snapshots->pdata[i])->id);
        g_ptr_array_add(ids, NULL);
        const char *const *names = (const char *const *)ids->pdata;
        g_autoptr(GPtrArray) runs = plan_runs(vm, names, NULL, STRATEGY_AUTO, &error);
        g_assert_no_error(error);
        for (guint i = 0; i < runs->len; i++) {
            const Run *run = runs->pdata[i];
            g_assert_true(vm_apply_merge(vm, run->disk_id, run->base, run->top, NULL, &error));
        }
        g_assert_cmpuint(disk->volumes->len, ==, 6 - (ids->len - 1));
        for (guint i = 0, next = 0; i < 5; i++) { /* those that stay: v-th volume, in order */
            const SnapshotDisk *entry = snapshot_disk(vm->snapshots->pdata[i], "d1");
            g_assert_cmpint(entry == NULL, ==, (set & (1U << i)) != 0);
            if (entry != NULL)
                g_assert_cmpint(disk_volume_index(disk, entry->volume_id), ==, (int)next++);
        }
        g_autoptr(GPtrArray) again = plan_runs(vm, names, NULL, STRATEGY_AUTO, &error);
        g_assert_cmpuint(again->len, ==, 0);
    }
}

static void
test_strategy_words(void)
{
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < STRATEGY_LAST; i++) {
        Strategy strategy = STRATEGY_LAST;
        g_assert_true(strategy_from_word(strategy_word((Strategy)i), &strategy, &error));
        g_assert_cmpint(strategy, ==, i);
    }
    Strategy untouched = STRATEGY_COPY;
    g_assert_false(strategy_from_word("pull", &untouched, &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_assert_nonnull(
        strstr(error->message, "auto, commit, commit-active, copy, graft, cold-commit"));
    g_assert_cmpint(untouched, ==, STRATEGY_COPY);
}

/* ---- verbs */

static void
test_verb_table(void)
{
    /* clang-format off */
    static const char *const allowed[VERB_LAST] = { /* the states in which it is */
        [VERB_SNAPSHOT_CREATE]        = "up paused down",
        [VERB_SNAPSHOT_CREATE_MEMORY] = "up paused",
        [VERB_SNAPSHOT_DELETE]        = "up paused down",
        [VERB_SNAPSHOT_RENAME]        = "up paused down migrating saving_state powering_down suspended",
    };
    /* clang-format on */
    g_autoptr(Vm) vm = make_vm(1);

    for (int verb = 0; verb < VERB_LAST; verb++) {
        g_auto(GStrv) states = g_strsplit(allowed[verb], " ", -1);
        g_autofree char *start = g_strdup_printf("cannot %s VM 'web1': ", verb_word((Verb)verb));
        for (int state = 0; state < VM_STATE_LAST; state++) {
            g_autoptr(GError) error = NULL;
            const char *word = vm_state_word((VmState)state);
            bool may = g_strv_contains((const char *const *)states, word);

            g_test_message("%s, %s", verb_word((Verb)verb), word);
            vm->state = (VmState)state;
            g_assert_cmpint(verb_allowed((Verb)verb, vm, NULL, &error), ==, may);
            g_assert_cmpint(verb_state_reason((Verb)verb, vm->state) == NULL, ==, may);
            if (may) {
                g_assert_no_error(error);
                continue;
            }
            g_assert_error(error, ERR, (state == VM_UNKNOWN ? ERR_UNREACHABLE : ERR_REFUSED));
            g_assert_true(g_str_has_prefix(error->message, start));
        }
    }
    g_assert_nonnull(verb_state_reason(VERB_LAST, VM_UP));
    g_assert_nonnull(verb_state_reason(VERB_SNAPSHOT_CREATE, VM_STATE_LAST));
}

static void
test_verb_blockers(void)
{
    static const VerbContext busy = { .busy_job = "deleting snapshot a", .busy_job_id = "j1" };
    static const VerbContext foreign = { .foreign_job = "backup" };
    static const VerbContext free_vm = { 0 };
    /* clang-format off */
    static const struct { Verb verb; const VerbContext *context; const char *unmanaged; ErrorCode code; const char *say; } rows[] = {
        { VERB_SNAPSHOT_CREATE, &free_vm, NULL,     ERR_LAST,    NULL },
        { VERB_SNAPSHOT_CREATE, &busy,    NULL,     ERR_BUSY,    "cannot create a snapshot of VM 'web1': it is held by job j1 (deleting snapshot a); wait for it or cancel it: livemerge job cancel j1" },
        { VERB_SNAPSHOT_RENAME, &busy,    NULL,     ERR_BUSY,    "held by job j1" },
        { VERB_SNAPSHOT_DELETE, &foreign, NULL,     ERR_BUSY,    "a backup that livemerge did not start" },
        { VERB_SNAPSHOT_RENAME, &foreign, NULL,     ERR_LAST,    NULL },
        { VERB_SNAPSHOT_DELETE, &busy,    "no disk", ERR_REFUSED, "cannot delete a snapshot of VM 'web1': no disk" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_vm(2);

        vm->unmanaged = g_strdup(rows[i].unmanaged);
        bool may = verb_allowed(rows[i].verb, vm, rows[i].context, &error);
        g_test_message("row %zu: %s", i, error != NULL ? error->message : "allowed");
        g_assert_cmpint(may, ==, rows[i].code == ERR_LAST);
        if (may)
            continue;
        g_assert_error(error, ERR, (int)rows[i].code);
        g_assert_nonnull(strstr(error->message, rows[i].say));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/json/round-trip", test_json_round_trip);
    g_test_add_func("/vm/json/names", test_json_names);
    g_test_add_func("/vm/json/refuses", test_json_refuses);
    g_test_add_func("/vm/json/not-utf8", test_json_not_utf8);
    g_test_add_func("/vm/copy", test_copy);
    g_test_add_func("/vm/look-ups", test_look_ups);
    g_test_add_func("/vm/state-words", test_state_words);
    g_test_add_func("/vm/apply-merge", test_apply_merge);
    g_test_add_func("/vm/apply-merge/refuses", test_apply_merge_refuses);
    g_test_add_func("/vm/apply-merge/grows-base", test_apply_merge_grows_base);
    g_test_add_func("/plan/rows", test_plan);
    g_test_add_func("/plan/disks", test_plan_disks);
    g_test_add_func("/plan/every-subset", test_every_subset);
    g_test_add_func("/plan/strategy-words", test_strategy_words);
    g_test_add_func("/verbs/table", test_verb_table);
    g_test_add_func("/verbs/blockers", test_verb_blockers);
    return g_test_run();
}
