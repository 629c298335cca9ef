/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/model: JSON both ways, what a merge does to chains and snapshots, and every cell of
 * the verb table. The planner's are in model_plan_test.c and model_cost_test.c.
 */
#include "model/shape.h"
#include "model_vm.h"

#include <string.h>

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
    vm->display_address = g_strdup("192.0.2.5");
    vm->display_port = 5900;
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
    snapshot->comment = g_strdup("before the update");
    snapshot->record = g_strdup("virsh's");
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

/* Of the configuration alone is only what was taken so and holds one: nothing else is believed to
 * have lost nothing. It is written where it is so, and old files stay as they are. */
static void
test_config_only(void)
{
    static const struct {
        const char *members;
        bool config_only;
    } rows[] = {
        { "'config_only':true,'config':'<domain/>'", true },
        { "'config_only':true,'config':'<domain/>','disks':[]", true },
        { "'config':'<domain/>','disks':[]", false },
        { "'config_only':false,'config':'<domain/>'", false },
        { "'config_only':true", false },
        { "'config_only':true,'config':'<domain/>','disks':[{'disk_id':'d','volume_id':'v'}]",
          false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = g_strdup_printf(
            "{'id':'v','name':'web','snapshots':[{'id':'s','name':'n',%s}]}", rows[i].members);
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) json = json_loads(g_strdelimit(text, "'", '"'), 0, NULL);
        g_autoptr(Vm) vm = vm_from_json(json, &error);
        g_assert_no_error(error);
        Snapshot *snapshot = vm_snapshot(vm, "s");
        g_autoptr(json_t) again = vm_to_json(vm);
        const json_t *written = json_array_get(json_object_get(again, "snapshots"), 0);

        g_test_message("%s", text);
        g_assert_cmpint(snapshot_is_config_only(snapshot), ==, rows[i].config_only);
        g_assert_cmpint(json_object_get(written, "config_only") != NULL, ==, rows[i].config_only);
        g_ptr_array_set_size(snapshot->disks, 0); /* all is merged away */
        g_assert_cmpint(snapshot_is_config_only(snapshot), ==, rows[i].config_only);
        vm_add_snapshot_disk(snapshot, "d", "v");
        g_ptr_array_set_size(snapshot->disks, 0);
        g_assert_false(snapshot_is_config_only(snapshot));
    }
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
        "agent_connected ballooning created disks display_address display_port display_tls_port "
        "generation graphics "
        "home host id instance leftovers memory name "
        "operations "
        "snapshots started state state_detail stopped unmanaged vcpus | boot branches bus busy "
        "copies_on_read id "
        "read_only target "
        "unmanaged "
        "volumes | allocated bitmaps foreign format id internal_snapshots path read_only used_by "
        "virtual_size | comment "
        "config date disks id "
        "memory memory_size name parent quiesced record | disk_id unusable volume_id | base "
        "disk_id id "
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

/* What vm_equal() says is what their JSON would. */
static void
assert_differ(const Vm *a, const Vm *b)
{
    g_autoptr(json_t) one = vm_to_json(a);
    g_autoptr(json_t) other = vm_to_json(b);

    g_assert_false(json_equal(one, other));
    g_assert_false(vm_equal(a, b));
    g_assert_false(vm_equal(b, a));
}

static void
test_equal(void)
{
    g_autoptr(Vm) vm = make_full_vm();

    for (unsigned i = 0; i < 8; i++) {
        g_autoptr(Vm) other = vm_copy(vm);
        Disk *disk = other->disks->pdata[0];
        Snapshot *snapshot = other->snapshots->pdata[0];
        g_assert_true(vm_equal(vm, other));
        if (i == 0)
            g_clear_pointer(&other->name, g_free);
        else if (i == 1)
            other->state = vm->state == VM_UP ? VM_DOWN : VM_UP;
        else if (i == 2)
            ((Volume *)disk->volumes->pdata[0])->allocated++;
        else if (i == 3)
            g_ptr_array_remove_index(disk->volumes, disk->volumes->len - 1);
        else if (i == 4)
            snapshot->date++;
        else if (i == 5)
            ((SnapshotDisk *)snapshot->disks->pdata[0])->unusable ^= true;
        else if (i == 6)
            other->vcpus++;
        else if (other->preview != NULL)
            other->preview->memory ^= true;
        else
            other->preview = shape_new(&preview_shape);
        assert_differ(vm, other);
    }
    g_assert_true(vm_equal(NULL, NULL));
    g_assert_false(vm_equal(vm, NULL));
    g_assert_false(vm_equal(NULL, vm));
}

/* What passes by itself is in no manifest, and no reason to write one. */
static void
test_lasting(void)
{
    g_autoptr(Vm) vm = make_full_vm();
    g_autoptr(Vm) other = vm_copy(vm);
    Volume *volume = disk_volume(vm_disk(other, "d1"), "v0");

    other->state = VM_PAUSED;
    g_clear_pointer(&other->instance, g_free);
    volume->allocated++;
    g_assert_true(vm_lasting_equal(vm, other));
    g_assert_false(vm_kept_equal(vm, other));
    g_autoptr(json_t) one = vm_to_stored_json(vm);
    g_autoptr(json_t) same = vm_to_stored_json(other);
    g_assert_true(json_equal(one, same));
    g_assert_null(json_object_get(one, "state"));
    g_assert_null(json_object_get(one, "home"));

    /* in the manifest, but nothing of the VM */
    other->generation++;
    g_free(volume->seen);
    volume->seen = g_strdup("otherwise");
    g_assert_true(vm_lasting_equal(vm, other));
    g_autoptr(json_t) later = vm_to_stored_json(other);
    g_assert_false(json_equal(one, later));

    volume->read_only ^= true;
    g_assert_false(vm_lasting_equal(vm, other));
}

/* A manager need not write down what becomes another while a guest just runs. */
static void
test_kept(void)
{
    g_autoptr(Vm) vm = make_full_vm();
    g_autoptr(Vm) other = vm_copy(vm);

    disk_volume(vm_disk(other, "d1"), "v0")->allocated++;
    g_assert_false(vm_equal(vm, other));
    g_assert_true(vm_kept_equal(vm, other));
    g_assert_false(vm_kept_equal(NULL, other));
    other->generation++;
    g_assert_false(vm_kept_equal(vm, other));
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

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/model/config-only", test_config_only);
    g_test_add_func("/vm/json/round-trip", test_json_round_trip);
    g_test_add_func("/vm/json/names", test_json_names);
    g_test_add_func("/vm/json/refuses", test_json_refuses);
    g_test_add_func("/vm/json/not-utf8", test_json_not_utf8);
    g_test_add_func("/vm/copy", test_copy);
    g_test_add_func("/vm/equal", test_equal);
    g_test_add_func("/vm/lasting", test_lasting);
    g_test_add_func("/vm/kept", test_kept);
    g_test_add_func("/vm/look-ups", test_look_ups);
    g_test_add_func("/vm/state-words", test_state_words);
    g_test_add_func("/vm/apply-merge", test_apply_merge);
    g_test_add_func("/vm/apply-merge/refuses", test_apply_merge_refuses);
    g_test_add_func("/vm/apply-merge/grows-base", test_apply_merge_grows_base);
    return g_test_run();
}
