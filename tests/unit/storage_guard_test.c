/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/storage/guard.c: which file may a VM that is off be started from, by its manifest,
 * the headers, and the record of what was under way.
 */
#include "../lib/image_tools.h"
#include "storage/guard.h"

#include <sys/stat.h>

#define VM_ID "11111111-2222-3333-4444-555555555555"
#define OP "aaaaaaaa-0000-4000-8000-000000000001"

/* A VM with disk vda: base.qcow2 <- web.1.qcow2 <- web.2.qcow2 in a storage domain, and files that
 * a test may find there besides. */
typedef struct {
    char *folder;
    Domain *domain;
    Vm *vm;
    Disk *disk;
} World;

static const char *const chain[] = { "web.qcow2", "web.1.qcow2", "web.2.qcow2" };

static void
world_clear(World *world)
{
    domain_free(world->domain);
    vm_free(world->vm);
    folder_remove(&world->folder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)

static char *
file_in(const World *world, const char *name)
{
    return name[0] == '/' ? g_strdup(name) : in(world->domain->path, name);
}

static void
overlay(const World *world, const char *name, const char *backing)
{
    g_autofree char *path =
        image(world->domain->path, name, MIB, backing, backing != NULL ? "qcow2" : NULL);
    g_assert_nonnull(path);
}

static void
write_data(const World *world, const char *name)
{
    MUST(world->domain->path, "qemu-io -f qcow2 -c 'write -P 7 0 64k' %s", name);
}

static void
save(World *world)
{
    g_autoptr(GError) error = NULL;

    manifest_save(world->domain, world->vm, &error);
    g_assert_no_error(error);
}

static void
world_make(World *world)
{
    g_autoptr(GError) error = NULL;

    world->folder = folder_new();
    world->domain = domain_open(world->folder, NULL, &error);
    g_assert_no_error(error);
    world->vm = vm_new(VM_ID, "web");
    world->disk = disk_new("d1", "vda");
    g_ptr_array_add(world->vm->disks, world->disk);
    for (guint i = 0; i < G_N_ELEMENTS(chain); i++) {
        g_autofree char *path = file_in(world, chain[i]);
        g_autofree char *id = g_strdup_printf("v%u", i);
        overlay(world, chain[i], i > 0 ? chain[i - 1] : NULL);
        g_ptr_array_add(world->disk->volumes, volume_new(id, path, "qcow2", MIB));
    }
    save(world);
}

static void
record(World *world, const char *kind, const char *base, const char *top)
{
    OperationRecord *one = g_new0(OperationRecord, 1);

    one->id = g_strdup(OP);
    one->kind = g_strdup(kind);
    one->disk_id = base != NULL ? g_strdup("d1") : NULL;
    one->base = g_strdup(base);
    one->top = g_strdup(top);
    g_ptr_array_add(world->vm->operations, one);
}

/* The file's time, in seconds after the manifest's. */
static void
set_time(const World *world, const char *name, int after)
{
    g_autofree char *path = file_in(world, name);
    g_autofree char *manifest =
        g_strdup_printf("%s/.livemerge/vms/" VM_ID ".json", world->domain->path);
    struct stat st;

    g_assert_cmpint(stat(manifest, &st), ==, 0);
    struct timespec times[] = { st.st_mtim, st.st_mtim };
    times[1].tv_sec += after;
    g_assert_cmpint(utimensat(AT_FDCWD, path, times, 0), ==, 0);
}

static void
look_as(const World *world, const char *target, const char *source, GuardFinding *ret_finding)
{
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *path = file_in(world, source);
    const char *const sources[] = { path, disk_leaf(world->disk)->path, NULL };

    g_assert_true(guard_load(VM_ID, sources, &manifest, &error));
    g_assert_no_error(error);
    g_assert_nonnull(manifest.vm);
    guard_look(&manifest, target, path, "qcow2", ret_finding);
}

/* leaf: the file that the finding must name; NULL = none */
static void
expect(const World *world, const char *what, const char *source, GuardVerdict verdict,
       const char *leaf)
{
    static const char *const words[] = { "fine", "stale", "undecided" };
    g_auto(GuardFinding) finding = { 0 };
    g_autofree char *path = leaf != NULL ? file_in(world, leaf) : NULL;

    look_as(world, "vda", source, &finding);
    if (finding.verdict != verdict)
        g_error("%s: starting from %s is %s, but should be %s: %s", what, source,
                words[finding.verdict], words[verdict],
                finding.reason != NULL ? finding.reason : "no reason");
    g_assert_cmpstr(finding.leaf, ==, path);
    g_assert_true((finding.reason != NULL) == (verdict != GUARD_FINE));
    if (finding.reason != NULL) {
        g_assert_nonnull(strstr(finding.reason, "vda"));
        g_assert_nonnull(strstr(finding.reason, "'web'"));
        g_assert_nonnull(strstr(finding.reason, source));
    }
}

/* ---- no operation recorded ---- */

static void
test_plain(void)
{
    g_auto(World) world = { 0 };

    world_make(&world);
    set_time(&world, chain[2], -10); /* that the leaf is older says nothing */
    expect(&world, "the leaf", chain[2], GUARD_FINE, NULL);
    expect(&world, "a lower one", chain[1], GUARD_STALE, chain[2]);
    expect(&world, "the base", chain[0], GUARD_STALE, chain[2]);
    expect(&world, "another file", "/nonexistent/x.qcow2", GUARD_FINE, NULL);
    expect(&world, "a file beside the leaf that is gone", "web.8.qcow2", GUARD_STALE, chain[2]);
    overlay(&world, "web.9.qcow2", chain[2]);
    expect(&world, "an overlay of somebody else", "web.9.qcow2", GUARD_FINE, NULL);
    g_autofree char *overlaid = file_in(&world, "web.9.qcow2");
    vm_add_leftover(world.vm, overlaid);
    vm_add_leftover(world.vm, overlaid);
    save(&world);
    expect(&world, "the old leaf that a merge left", "web.9.qcow2", GUARD_STALE, chain[2]);
    vm_remove_leftover(world.vm, overlaid);
    save(&world);
    expect(&world, "no leftover any more", "web.9.qcow2", GUARD_FINE, NULL);
    overlay(&world, "branch.qcow2", chain[0]);
    expect(&world, "back on purpose", "branch.qcow2", GUARD_FINE, NULL);
}

/* A volume below was written after the manifest: somebody merged with other tools. */
static void
test_written_behind(void)
{
    g_auto(World) world = { 0 };

    world_make(&world);
    set_time(&world, chain[0], 10);
    expect(&world, "merged by somebody else", chain[0], GUARD_FINE, NULL);
    expect(&world, "and the one between", chain[1], GUARD_STALE, chain[2]);
    set_time(&world, chain[0], -20);
    expect(&world, "merged after the clock was set back", chain[0], GUARD_FINE, NULL);
    save(&world);
    expect(&world, "and nothing was news to the manifest", chain[0], GUARD_FINE, NULL);
    vm_add_leftover(world.vm, "/nonexistent/x.qcow2");
    save(&world);
    expect(&world, "before the manifest was written", chain[0], GUARD_STALE, chain[2]);
    write_data(&world, chain[0]);
    expect(&world, "after it", chain[0], GUARD_FINE, NULL);
}

/* The VM wrote its old leaf when the clock was ahead; then it was set back, and a snapshot taken.
 */
static void
test_clock_was_set_back(void)
{
    g_auto(World) world = { 0 };
    g_autofree char *path = NULL;

    world_make(&world);
    path = file_in(&world, "web.3.qcow2");
    set_time(&world, chain[2], 3600);
    overlay(&world, "web.3.qcow2", chain[2]);
    g_ptr_array_add(world.disk->volumes, volume_new("v3", path, "qcow2", MIB));
    save(&world);
    write_data(&world, "web.3.qcow2");
    expect(&world, "the old leaf", chain[2], GUARD_STALE, "web.3.qcow2");
    expect(&world, "the new one", "web.3.qcow2", GUARD_FINE, NULL);
}

static const char *
seen(const World *world, Vm **vm, guint at)
{
    g_autoptr(GError) error = NULL;

    vm_free(*vm);
    *vm = manifest_load(world->domain, VM_ID, &error);
    g_assert_no_error(error);
    return ((const Volume *)vm_disk(*vm, "d1")->volumes->pdata[at])->seen;
}

/* What is below a leaf is noted, but not while a merge may write it. */
static void
test_seen(void)
{
    g_auto(World) world = { 0 };
    g_autoptr(Vm) vm = NULL;

    world_make(&world);
    for (guint i = 0; i < 2; i++) {
        g_autofree char *path = file_in(&world, chain[i]);
        g_autofree char *now = volume_look(path);
        g_assert_cmpstr(seen(&world, &vm, i), ==, now);
    }
    g_assert_null(seen(&world, &vm, 2));
    record(&world, "merge", "v0", "v1");
    save(&world);
    g_assert_null(seen(&world, &vm, 0));
    g_ptr_array_set_size(world.vm->operations, 0);
    write_data(&world, chain[0]);
    save(&world);
    expect(&world, "what we wrote ourselves", chain[0], GUARD_STALE, chain[2]);
    g_assert_null(volume_look(world.folder)); /* no regular file */
}

/* The manifest does not fit what is there any more. */
static void
test_manifest_is_old(void)
{
    g_auto(World) world = { 0 };
    g_autofree char *leaf = NULL;

    world_make(&world);
    leaf = file_in(&world, chain[2]);
    MUST(world.domain->path, "qemu-img rebase -u -b '' %s", chain[2]);
    expect(&world, "the leaf stands on nothing", chain[0], GUARD_FINE, NULL);
    poke(leaf, 0, 4, 0);
    expect(&world, "the leaf cannot be read", chain[0], GUARD_UNDECIDED, NULL);
    g_assert_cmpint(unlink(leaf), ==, 0);
    expect(&world, "the leaf is gone", chain[0], GUARD_FINE, NULL);
}

/* The same file under another name, another target, a disk that is only read. */
static void
test_names(void)
{
    g_auto(World) world = { 0 };
    g_auto(GuardFinding) renamed = { 0 }, read_only = { 0 };
    g_autofree char *link_path = NULL;
    g_autofree char *folder_link = NULL;

    world_make(&world);
    link_path = file_in(&world, "link.qcow2");
    g_assert_cmpint(symlink(chain[2], link_path), ==, 0);
    expect(&world, "a link to the leaf", "link.qcow2", GUARD_FINE, NULL);
    g_assert_cmpint(unlink(link_path), ==, 0);
    g_assert_cmpint(symlink(chain[0], link_path), ==, 0);
    expect(&world, "a link to the base", "link.qcow2", GUARD_STALE, chain[2]);
    look_as(&world, "sda", chain[0], &renamed);
    g_assert_cmpint(renamed.verdict, ==, GUARD_STALE);
    world.disk->read_only = true;
    save(&world);
    look_as(&world, "vda", chain[0], &read_only);
    g_assert_cmpint(read_only.verdict, ==, GUARD_FINE);
}

/* Two disks on one template: each has its own leaf, also when their names are exchanged. */
static void
test_template(void)
{
    g_auto(World) world = { 0 };
    Disk *second = disk_new("d2", "vdb");

    world_make(&world);
    for (guint i = 0; i < 2; i++) {
        g_autofree char *path = file_in(&world, i == 0 ? chain[0] : "second.qcow2");
        g_autofree char *id = g_strdup_printf("w%u", i);
        g_ptr_array_add(second->volumes, volume_new(id, path, "qcow2", MIB));
    }
    overlay(&world, "second.qcow2", chain[0]);
    g_ptr_array_add(world.vm->disks, second);
    save(&world);
    static const struct {
        const char *target, *source;
        GuardVerdict verdict;
    } rows[] = {
        { "vda", "web.2.qcow2", GUARD_FINE },  { "vdb", "second.qcow2", GUARD_FINE },
        { "vdb", "web.2.qcow2", GUARD_FINE },  { "vda", "second.qcow2", GUARD_FINE },
        { "vda", "web.1.qcow2", GUARD_STALE }, { "vdb", "web.1.qcow2", GUARD_STALE },
        { "vdb", "web.qcow2", GUARD_STALE },   { "vdc", "web.qcow2", GUARD_STALE },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(GuardFinding) finding = { 0 };
        look_as(&world, rows[i].target, rows[i].source, &finding);
        g_assert_cmpint(finding.verdict, ==, rows[i].verdict);
    }
}

/* ---- a merge is recorded ---- */

/* Before the new leaf is in the manifest. */
static void
test_merge_before(void)
{
    g_auto(World) world = { 0 };

    world_make(&world);
    record(&world, "merge", "v0", "v2");
    save(&world);
    set_time(&world, chain[0], 10); /* it is being written: that means nothing here */
    expect(&world, "the old leaf", chain[2], GUARD_FINE, NULL);
    expect(&world, "its base, pivoted to", chain[0], GUARD_UNDECIDED, chain[2]);
    overlay(&world, "web.new.qcow2", NULL);
    expect(&world, "a new volume, pivoted to", "web.new.qcow2", GUARD_UNDECIDED, chain[2]);
    overlay(&world, "web.seal.qcow2", chain[2]);
    expect(&world, "the old leaf is sealed", "web.seal.qcow2", GUARD_FINE, NULL);
    expect(&world, "sealed, and nothing written", chain[2], GUARD_FINE, NULL);
    write_data(&world, "web.seal.qcow2");
    expect(&world, "sealed, and the definition is old", chain[2], GUARD_STALE, "web.seal.qcow2");
    expect(&world, "sealed, and written", "web.seal.qcow2", GUARD_FINE, NULL);
}

/* The manifest names the new leaf, the definition may not. */
static void
test_merge_after(void)
{
    g_auto(World) world = { 0 };
    g_autoptr(GError) error = NULL;

    world_make(&world);
    write_data(&world, chain[2]);
    record(&world, "merge", "v0", "v2");
    g_assert_true(vm_apply_merge(world.vm, "d1", "v0", "v2", NULL, &error));
    save(&world);
    expect(&world, "the new leaf", chain[0], GUARD_FINE, NULL);
    expect(&world, "the old leaf", chain[2], GUARD_UNDECIDED, chain[0]);
    expect(&world, "merged away", chain[1], GUARD_UNDECIDED, chain[0]);
    /* concluded: the definition was mended before the record went */
    g_ptr_array_set_size(world.vm->operations, 0);
    save(&world);
    expect(&world, "concluded", chain[0], GUARD_FINE, NULL);
}

/* An internal run: the leaf is not touched. */
static void
test_merge_internal(void)
{
    g_auto(World) world = { 0 };

    world_make(&world);
    record(&world, "merge", "v0", "v1");
    save(&world);
    expect(&world, "the leaf", chain[2], GUARD_FINE, NULL);
    expect(&world, "a lower one", chain[1], GUARD_UNDECIDED, chain[2]);
    /* H13: perhaps before the base was flushed */
    MUST(world.domain->path, "qemu-img rebase -u -b %s -F qcow2 %s", chain[0], chain[2]);
    expect(&world, "the header is rewritten, and the end not recorded", chain[2], GUARD_UNDECIDED,
           chain[2]);
    MUST(world.domain->path, "mv %s away", chain[0]);
    expect(&world, "the same, and the chain cannot be read just now", chain[2], GUARD_UNDECIDED,
           chain[2]);
    MUST(world.domain->path, "mv away %s", chain[0]);
    g_ptr_array_set_size(world.vm->operations, 0);
    save(&world);
    expect(&world, "somebody else has merged it", chain[2], GUARD_FINE, NULL);
}

/* A definition that lost a power cut, and an internal merge further below: the leaf is the newest,
 * whatever becomes of the merge. */
static void
test_above_merge(void)
{
    g_auto(World) world = { 0 };
    g_auto(GuardFinding) finding = { 0 };

    world_make(&world);
    overlay(&world, "web.3.qcow2", chain[2]);
    g_autofree char *leaf = file_in(&world, "web.3.qcow2");
    g_ptr_array_add(world.disk->volumes, volume_new("v3", leaf, "qcow2", MIB));
    record(&world, "merge", "v0", "v1");
    save(&world);
    expect(&world, "above what is merged", chain[2], GUARD_STALE, "web.3.qcow2");
    expect(&world, "in what is merged", chain[1], GUARD_UNDECIDED, "web.3.qcow2");
    look_as(&world, "vda", chain[2], &finding);
    g_assert_true(finding.surely);
}

/* ---- a snapshot is recorded ---- */

static void
test_snapshot(void)
{
    g_auto(World) world = { 0 };

    world_make(&world);
    record(&world, "snapshot-create", NULL, NULL);
    save(&world);
    expect(&world, "nothing made", chain[2], GUARD_FINE, NULL);
    overlay(&world, "web.12345678.qcow2", chain[2]);
    expect(&world, "prepared", chain[2], GUARD_FINE, NULL);
    expect(&world, "switched", "web.12345678.qcow2", GUARD_FINE, NULL);
    expect(&world, "an old one", chain[1], GUARD_STALE, chain[2]);
    write_data(&world, "web.12345678.qcow2");
    expect(&world, "written, and the definition is old", chain[2], GUARD_STALE,
           "web.12345678.qcow2");
    expect(&world, "written", "web.12345678.qcow2", GUARD_FINE, NULL);
    /* without a record it is a clone of somebody: none of our business */
    g_ptr_array_set_size(world.vm->operations, 0);
    save(&world);
    expect(&world, "a clone", chain[2], GUARD_FINE, NULL);
}

/* ---- finding the manifest ---- */

static void
test_load(void)
{
    g_auto(World) world = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *deep = NULL;
    g_autofree char *file = NULL;

    world_make(&world);
    deep = file_in(&world, "a/b/web.qcow2");
    file = g_strdup_printf("%s/.livemerge/vms/" VM_ID ".json", world.domain->path);
    MUST(world.domain->path, "mkdir -p a/b/.livemerge/vms");

    const char *const below[] = { deep, NULL };
    g_auto(GuardManifest) found = { 0 };
    g_assert_true(guard_load(VM_ID, below, &found, &error));
    g_assert_cmpstr(found.file, ==, file);
    g_assert_cmpstr(found.vm->name, ==, "web");
    g_assert_cmpstr(found.domain.path, ==, world.domain->path);

    /* one that was kept until the domain above was configured */
    MUST(world.domain->path, "cp %s a/b/.livemerge/vms/", file);
    MUST(world.domain->path, "touch -d '2001-01-01' a/b/.livemerge/vms/" VM_ID ".json");
    guard_manifest_clear(&found);
    g_assert_true(guard_load(VM_ID, below, &found, &error));
    g_assert_cmpstr(found.file, ==, file);

    /* none, and nothing is made */
    const char *const elsewhere[] = { "/nonexistent/a/web.qcow2", "relative.qcow2", NULL };
    guard_manifest_clear(&found);
    g_assert_true(guard_load(VM_ID, elsewhere, &found, &error));
    g_assert_null(found.vm);
    g_assert_true(guard_load("99999999-2222-3333-4444-555555555555", below, &found, &error));
    g_assert_null(found.vm);
    g_assert_true(guard_load("../../etc/passwd", below, &found, &error));
    g_assert_null(found.vm);
    guard_look(&found, "vda", deep, NULL, &(GuardFinding){ 0 });
}

static void
test_load_damaged(void)
{
    static const char *const contents[] = { "", "{", "{\"livemerge\": 1}", "[]",
                                            "{\"livemerge\": 99}" };
    g_auto(World) world = { 0 };

    world_make(&world);
    g_autofree char *leaf = file_in(&world, chain[2]);
    g_autofree char *file = g_strdup_printf("%s/.livemerge/vms/" VM_ID ".json", world.domain->path);
    const char *const sources[] = { leaf, NULL };
    for (size_t i = 0; i < G_N_ELEMENTS(contents); i++) {
        g_auto(GuardManifest) found = { 0 };
        g_autoptr(GError) error = NULL;
        g_assert_true(g_file_set_contents(file, contents[i], -1, NULL));
        g_assert_false(guard_load(VM_ID, sources, &found, &error));
        g_assert_nonnull(strstr(error->message, file));
        g_assert_null(found.vm);
        g_assert_cmpstr(found.file, ==, file);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    g_test_add_func("/guard/plain", test_plain);
    g_test_add_func("/guard/written-behind", test_written_behind);
    g_test_add_func("/guard/clock-was-set-back", test_clock_was_set_back);
    g_test_add_func("/guard/seen", test_seen);
    g_test_add_func("/guard/manifest-is-old", test_manifest_is_old);
    g_test_add_func("/guard/names", test_names);
    g_test_add_func("/guard/template", test_template);
    g_test_add_func("/guard/merge-before", test_merge_before);
    g_test_add_func("/guard/merge-after", test_merge_after);
    g_test_add_func("/guard/merge-internal", test_merge_internal);
    g_test_add_func("/guard/above-merge", test_above_merge);
    g_test_add_func("/guard/snapshot", test_snapshot);
    g_test_add_func("/guard/load", test_load);
    g_test_add_func("/guard/load-damaged", test_load_damaged);
    return g_test_run();
}
