/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/model/branch.c: a VM before, in and after a preview, as text: the chain, what stands
 * beside it, the snapshots, what is left over.
 */
#include "model/verbs.h"
#include "model_vm.h"

static void
add_ids(GString *text, const GPtrArray *volumes)
{
    for (guint i = 0; i < volumes->len; i++)
        g_string_append_printf(text, " %s", ((const Volume *)volumes->pdata[i])->id);
}

static char *
vm_text(const Vm *vm)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        g_string_append_printf(text, "%s:", disk->target);
        add_ids(text, disk->volumes);
        g_string_append(text, " |");
        add_ids(text, disk->branches);
        g_string_append(text, "; ");
    }
    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        g_string_append_printf(text, "%s<%s ", snapshot->id,
                               snapshot->parent != NULL ? snapshot->parent : "");
    }
    for (guint i = 0; i < vm->leftovers->len; i++)
        g_string_append_printf(text, "%s%s", i == 0 ? "; " : " ",
                               ((const Leftover *)vm->leftovers->pdata[i])->path);
    return g_string_free(text, FALSE);
}

#define ASSERT_VM(vm, wanted)                  \
    do {                                       \
        g_autofree char *vm_now = vm_text(vm); \
        g_assert_cmpstr(vm_now, ==, wanted);   \
    } while (0)

/* v0 (s0) <- v1 (s1, with memory) <- v2 (s2) <- v3, each snapshot grown out of the one before */
static Vm *
grown_vm(void)
{
    Vm *vm = make_vm(4);

    vm->state = VM_DOWN;
    for (guint i = 1; i < vm->snapshots->len; i++)
        ((Snapshot *)vm->snapshots->pdata[i])->parent =
            g_strdup(((Snapshot *)vm->snapshots->pdata[i - 1])->id);
    vm_snapshot(vm, "s1")->memory = g_strdup("/dom/s1.memory");
    return vm;
}

static void
begin(Vm *vm, const char *snapshot_id)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_autoptr(GPtrArray) leaves = g_ptr_array_new_with_free_func((GDestroyNotify)volume_free);
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        g_autofree char *id = g_strdup_printf("%s-try", disk->target);
        g_autofree char *path = g_strdup_printf("/dom/%s.qcow2", id);
        if (snapshot_disk(vm_snapshot(vm, snapshot_id), disk->id) == NULL)
            continue;
        g_ptr_array_add(disks, vm->disks->pdata[i]);
        g_ptr_array_add(leaves, volume_new(id, path, "qcow2", 1 << 20));
    }
    vm_begin_preview(vm, snapshot_id, 5000, disks, leaves, &error);
    g_assert_no_error(error);
}

static void
test_undo(void)
{
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    begin(vm, "s0");
    ASSERT_VM(vm, "vda: v0 vda-try | v1 v2 v3; s0< s1<s0 s2<s1 ");
    g_assert_nonnull(disk_any_volume(vm->disks->pdata[0], "v2"));
    g_assert_true(vm_undo_preview(vm, left, &error));
    ASSERT_VM(vm, "vda: v0 v1 v2 v3 |; s0< s1<s0 s2<s1 ; /dom/vda-try.qcow2");
    g_assert_cmpuint(left->len, ==, 1);
    g_assert_null(vm->preview);
    g_assert_true(vm_undo_preview(vm, left, &error)); /* a repeat */
    g_assert_cmpuint(left->len, ==, 1);
}

static void
test_commit(void)
{
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    begin(vm, "s0");
    g_assert_true(vm_commit_preview(vm, left, &error));
    ASSERT_VM(vm, "vda: v0 vda-try |; s0< ; /dom/s1.memory /dom/v1.qcow2 /dom/v2.qcow2 "
                  "/dom/v3.qcow2");
    g_assert_cmpuint(left->len, ==, 4);
}

/* The newest snapshot: only the old leaf goes. */
static void
test_commit_newest(void)
{
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    begin(vm, "s2");
    ASSERT_VM(vm, "vda: v0 v1 v2 vda-try | v3; s0< s1<s0 s2<s1 ");
    g_assert_true(vm_commit_preview(vm, left, &error));
    ASSERT_VM(vm, "vda: v0 v1 v2 vda-try |; s0< s1<s0 s2<s1 ; /dom/v3.qcow2");
}

/* Only one disk goes back: a newer snapshot of both loses that disk, and its memory, not the other
 * one. */
static void
test_one_disk_of_two(void)
{
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_autoptr(GPtrArray) leaves = g_ptr_array_new_with_free_func((GDestroyNotify)volume_free);
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    add_second_disk(vm);
    vm_add_snapshot_disk(vm_snapshot(vm, "s1"), "d2", "w0");
    g_ptr_array_add(disks, vm_disk(vm, "vda"));
    g_ptr_array_add(leaves, volume_new("try", "/dom/try.qcow2", "qcow2", 1 << 20));
    g_assert_true(vm_begin_preview(vm, "s0", 1, disks, leaves, &error));
    g_assert_true(vm_commit_preview(vm, left, &error));
    ASSERT_VM(vm, "vda: v0 try |; vdb: w0 w1 |; s0< s1<s0 ; /dom/s1.memory /dom/v1.qcow2 "
                  "/dom/v2.qcow2 /dom/v3.qcow2");
    g_assert_cmpuint(vm_snapshot(vm, "s1")->disks->len, ==, 1);
    g_assert_null(vm_snapshot(vm, "s1")->memory);
}

/* Somebody started the VM from its old leaf: the inventory shows that as its chain. */
static void
test_back_already(void)
{
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    begin(vm, "s1");
    Disk *disk = vm->disks->pdata[0];
    Volume *tried = g_ptr_array_steal_index(disk->volumes, 2);
    while (disk->branches->len > 0)
        g_ptr_array_add(disk->volumes, g_ptr_array_steal_index(disk->branches, 0));
    g_ptr_array_add(disk->branches, tried);
    g_assert_false(vm_commit_preview(vm, left, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_clear_error(&error);
    g_assert_cmpuint(left->len, ==, 0);
    g_assert_true(vm_undo_preview(vm, left, &error));
    ASSERT_VM(vm, "vda: v0 v1 v2 v3 |; s0< s1<s0 s2<s1 ; /dom/vda-try.qcow2");
}

/* What somebody else has put on top of the preview is not thrown away. */
static void
test_foreign_overlay(void)
{
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    begin(vm, "s1");
    g_ptr_array_add(((Disk *)vm->disks->pdata[0])->volumes,
                    volume_new("x", "/dom/x.qcow2", "qcow2", 1 << 20));
    g_assert_false(vm_undo_preview(vm, left, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_assert_nonnull(strstr(error->message, "/dom/x.qcow2"));
    g_assert_nonnull(vm->preview);
    g_clear_error(&error);
    g_assert_true(vm_commit_preview(vm, left, &error));
    ASSERT_VM(vm, "vda: v0 v1 vda-try x |; s0< s1<s0 ; /dom/v2.qcow2 /dom/v3.qcow2");
}

static void
test_refused(void)
{
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_autoptr(GPtrArray) leaves = g_ptr_array_new();
    g_autoptr(GError) error = NULL;

    g_assert_false(vm_begin_preview(vm, "nope", 1, disks, leaves, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    add_second_disk(vm);
    g_ptr_array_add(disks, vm_disk(vm, "vdb"));
    g_assert_false(vm_begin_preview(vm, "s1", 1, disks, leaves, &error)); /* has no vdb */
    g_assert_error(error, ERR, ERR_REFUSED);
    g_assert_null(vm->preview);
}

static void
test_json(void)
{
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(GError) error = NULL;

    begin(vm, "s1");
    g_autoptr(json_t) json = vm_to_json(vm);
    g_autoptr(Vm) back = vm_from_json(json, &error);
    g_assert_no_error(error);
    g_autoptr(Vm) copy = vm_copy(back);
    ASSERT_VM(copy, "vda: v0 v1 vda-try | v2 v3; s0< s1<s0 s2<s1 ");
    g_assert_cmpstr(copy->preview->snapshot, ==, "s1");
    g_assert_cmpint(copy->preview->date, ==, 5000);
    g_assert_cmpstr(preview_disk(copy->preview, "d1")->old_leaf, ==, "v3");
    g_assert_null(preview_disk(NULL, "d1"));
    json_object_del(json_object_get(json, "preview"), "snapshot");
    g_autoptr(Vm) none = vm_from_json(json, &error);
    g_assert_null(none);
    g_assert_error(error, ERR, ERR_CORRUPT);
}

/* Which verbs a preview stops, and which need one. */
static void
test_verbs(void)
{
    static const struct {
        Verb verb;
        bool without, within;
    } rows[] = {
        { VERB_SNAPSHOT_CREATE, true, false },  { VERB_SNAPSHOT_DELETE, true, false },
        { VERB_SNAPSHOT_RENAME, true, true },   { VERB_SNAPSHOT_PREVIEW, true, false },
        { VERB_SNAPSHOT_RESTORE, true, false }, { VERB_SNAPSHOT_COMMIT, false, true },
        { VERB_SNAPSHOT_UNDO, false, true },    { VERB_DOCTOR, true, true },
    };
    g_autoptr(Vm) vm = grown_vm();
    g_autoptr(Vm) tried = grown_vm();

    begin(tried, "s1");
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL, other = NULL;
        g_assert_true(verb_allowed(rows[i].verb, vm, NULL, &error) == rows[i].without);
        g_assert_true(verb_allowed(rows[i].verb, tried, NULL, &other) == rows[i].within);
        if (!rows[i].without)
            g_assert_error(error, ERR, ERR_INVALID);
        if (!rows[i].within)
            g_assert_error(other, ERR, ERR_REFUSED);
        if (!rows[i].within) /* what helps is said */
            g_assert_nonnull(strstr(other->message, "livemerge snapshot undo web1"));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/branch/undo", test_undo);
    g_test_add_func("/branch/commit", test_commit);
    g_test_add_func("/branch/commit-newest", test_commit_newest);
    g_test_add_func("/branch/one-disk-of-two", test_one_disk_of_two);
    g_test_add_func("/branch/back-already", test_back_already);
    g_test_add_func("/branch/foreign-overlay", test_foreign_overlay);
    g_test_add_func("/branch/refused", test_refused);
    g_test_add_func("/branch/json", test_json);
    g_test_add_func("/branch/verbs", test_verbs);
    return g_test_run();
}
