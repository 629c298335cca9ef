/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/storage: domains, manifests that are torn, flipped, stopped and out of space, rates.
 */
#include "storage_place.h"

#include <sched.h>
#include <sys/mount.h>
#include <utime.h>

/* ---- domains */

static void
test_domain_open(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *last = g_path_get_basename(place.dir);
    g_autoptr(Domain) again = domain_open(place.dir, NULL, &error);
    g_autoptr(Domain) named = domain_open(place.dir, "gold", &error);
    g_autofree char *slash = g_strconcat(place.dir, "/./", NULL);
    g_autoptr(Domain) other_name = domain_open(slash, NULL, &error);
    struct stat st;

    g_assert_no_error(error);
    g_assert_true(id_is_valid(place.domain->id));
    g_assert_cmpstr(place.domain->id, ==, again->id);
    g_assert_cmpstr(place.domain->id, ==, named->id);
    g_assert_cmpstr(place.domain->name, ==, last);
    g_assert_cmpstr(named->name, ==, "gold");
    g_assert_cmpstr(other_name->path, ==, place.domain->path);
    g_autofree char *folder = at(&place, ".livemerge");
    g_assert_cmpint(stat(folder, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0700);
    g_autofree char *names = listing(&place, ".livemerge");
    g_assert_cmpstr(names, ==, "domain.json trash vms");
}

static void
test_domain_refuses(void)
{
    /* clang-format off */
    static const struct { const char *text; ErrorCode code; } rows[] = {
        { "",                                                                    ERR_CORRUPT },
        { "{",                                                                   ERR_CORRUPT },
        { "[]",                                                                  ERR_CORRUPT },
        { "{\"format\": 1}",                                                     ERR_CORRUPT },
        { "{\"format\": 1, \"id\": \"x\"}",                                      ERR_CORRUPT },
        { "{\"format\": 0, \"id\": \"" VM_ID "\", \"name\": \"x\"}",             ERR_CORRUPT },
        { "{\"format\": 2, \"id\": \"" VM_ID "\", \"name\": \"x\"}",             ERR_REFUSED },
        { "{\"format\": 1, \"id\": \"" VM_ID "\", \"name\": \"x\"}",             ERR_LAST },
    };
    /* clang-format on */
    g_auto(Place) place = place_make();

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        put(&place, ".livemerge/domain.json", rows[i].text, -1);
        g_autoptr(Domain) domain = domain_open(place.dir, NULL, &error);
        if (rows[i].code == ERR_LAST) {
            g_assert_no_error(error);
            g_assert_cmpstr(domain->name, ==, "x");
            continue;
        }
        g_assert_null(domain);
        g_assert_error(error, ERR, (int)rows[i].code);
        g_assert_nonnull(strstr(error->message, place.dir));
    }
}

static void
test_domain_missing(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *none = at(&place, "none");
    g_autofree char *file = at(&place, "file");

    g_assert_null(domain_open(none, NULL, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    put(&place, "file", "x", 1);
    g_assert_null(domain_open(file, NULL, &error));
    g_assert_error(error, ERR, ERR_STORAGE);
}

static gpointer
open_in_thread(gpointer dir)
{
    g_autoptr(GError) error = NULL;
    Domain *domain = domain_open(dir, NULL, &error);

    g_assert_no_error(error);
    return domain;
}

/* Several hosts find a new directory in the same moment: they agree on one id. */
static void
test_domain_made_by_many(void)
{
    for (int round = 0; round < 10; round++) {
        g_autofree char *dir = g_dir_make_tmp("livemerge-storage-XXXXXX", NULL);
        GThread *threads[6];
        g_autofree char *id = NULL;

        for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
            threads[i] = g_thread_new("opener", open_in_thread, dir);
        for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
            g_autoptr(Domain) domain = g_thread_join(threads[i]);
            if (id == NULL)
                id = g_strdup(domain->id);
            g_assert_cmpstr(domain->id, ==, id);
        }
        tree_remove(dir);
    }
}

static void
test_domain_holds(void)
{
    /* clang-format off */
    static const struct { const char *path; bool holds; } rows[] = {
        { "a",              true },   { "sub/b",         true },
        { "not-yet",        true },   { "sub/not-yet",   true },
        { "none/not-yet",   false },  { ".",             false },
        { "../x",           false },  { "sub/../../x",   false },
        { "inside/b",       true },   { "outside/passwd", false },
        { "dangling",       true },   { "sub/../a",      true },
    };
    /* clang-format on */
    g_auto(Place) place = place_make();
    g_autofree char *sub = at(&place, "sub");
    g_autofree char *inside = at(&place, "inside");
    g_autofree char *outside = at(&place, "outside");
    g_autofree char *sibling = g_strconcat(place.domain->path, "-sibling/a", NULL);
    uint64_t space = 0, total = 0;

    g_assert_cmpint(mkdir(sub, 0700), ==, 0);
    g_assert_cmpint(symlink("sub", inside), ==, 0);
    g_assert_cmpint(symlink("/etc", outside), ==, 0);
    put(&place, "a", "", 0);
    put(&place, "sub/b", "", 0);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strconcat(place.dir, "/", rows[i].path, NULL);
        g_test_message("%s", rows[i].path);
        g_assert_cmpint(domain_holds(place.domain, path), ==, rows[i].holds);
    }
    g_assert_false(domain_holds(place.domain, sibling));
    g_assert_true(domain_space(place.domain, &space, &total, NULL));
    g_assert_cmpuint(total, >, 0);
    g_assert_cmpuint(space, <=, total);
    g_assert_true(domain_space(place.domain, NULL, NULL, NULL));
}

/* ---- manifests */

static Vm *
make_vm(const char *snapshot_name)
{
    Vm *vm = vm_new(VM_ID, "web1");
    Disk *disk = disk_new("d1", "vda");
    Snapshot *snapshot = snapshot_new("s1", snapshot_name, 1769862896789);

    g_ptr_array_add(vm->disks, disk);
    g_ptr_array_add(disk->volumes, volume_new("v0", "/dom/v0.raw", "raw", MIB));
    g_ptr_array_add(disk->volumes, volume_new("v1", "/dom/v1.qcow2", "qcow2", MIB));
    vm_add_snapshot_disk(snapshot, "d1", "v0");
    snapshot->config = g_strdup("<domain>\n  <name>web1</name>\n</domain>\n");
    g_ptr_array_add(vm->snapshots, snapshot);
    return vm;
}

static const char *
stored_name(const Vm *vm)
{
    return vm_snapshot(vm, "s1")->name;
}

static void
save(const Place *place, Vm *vm)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(manifest_save(place->domain, vm, &error));
    g_assert_no_error(error);
}

static Vm *
load(const Place *place)
{
    g_autoptr(GError) error = NULL;
    Vm *vm = manifest_load(place->domain, VM_ID, &error);

    g_assert_no_error(error);
    g_assert_nonnull(vm);
    return vm;
}

static void
rename_snapshot(Vm *vm, const char *name)
{
    Snapshot *snapshot = vm_snapshot(vm, "s1");

    g_free(snapshot->name);
    snapshot->name = g_strdup(name);
}

static char *
lasting_text(const Vm *vm)
{
    g_autoptr(json_t) json = vm_to_json(vm);
    autolibc char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);

    return g_strdup(text);
}

static void
test_manifest_round_trip(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm("one");
    Volume *volume = disk_leaf(vm_disk(vm, "d1"));

    g_assert_null(manifest_load(place.domain, VM_ID, &error)); /* there is none */
    g_assert_no_error(error);
    vm->state = VM_UP;
    vm->instance = g_strdup("1.2");
    vm->host = g_strdup("h");
    volume->allocated = 4096;
    save(&place, vm);
    g_assert_cmpint(vm->generation, ==, 1);

    g_autoptr(Vm) back = load(&place);
    g_assert_cmpint(back->generation, ==, 1);
    g_assert_cmpstr(back->home, ==, place.domain->path);
    g_assert_cmpstr(stored_name(back), ==, "one");
    g_assert_cmpint(back->state, ==, VM_UNKNOWN);
    g_assert_null(back->instance);
    g_assert_null(back->host);
    g_assert_cmpuint(disk_leaf(vm_disk(back, "d1"))->allocated, ==, 0);
    g_assert_cmpstr(vm_snapshot(back, "s1")->config, ==, vm_snapshot(vm, "s1")->config);
}

static ino_t
inode_of(const Place *place)
{
    g_autofree char *path = at(place, ".livemerge/vms/" VM_ID ".json");
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return st.st_ino;
}

static void
test_manifest_unchanged_is_not_written(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(Vm) vm = make_vm("one");

    save(&place, vm);
    ino_t before = inode_of(&place);
    vm->state = VM_PAUSED; /* passes by itself */
    disk_leaf(vm_disk(vm, "d1"))->allocated = 12345;
    save(&place, vm);
    g_assert_cmpuint(inode_of(&place), ==, before);
    g_assert_cmpint(vm->generation, ==, 1);
    rename_snapshot(vm, "two");
    save(&place, vm);
    g_assert_cmpuint(inode_of(&place), !=, before);
    g_assert_cmpint(vm->generation, ==, 2);
}

static void
test_manifest_generation_goes_back(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) mine = make_vm("one");

    save(&place, mine);
    g_autoptr(Vm) theirs = load(&place);
    rename_snapshot(theirs, "theirs");
    save(&place, theirs);
    rename_snapshot(mine, "mine");
    g_assert_false(manifest_save(place.domain, mine, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_assert_nonnull(strstr(error->message, "web1"));
    g_assert_cmpint(mine->generation, ==, 1);

    g_autoptr(Vm) stored = load(&place);
    g_assert_cmpstr(stored_name(stored), ==, "theirs");
    /* who knows a higher generation than the stored one goes on from there */
    stored->generation = 40;
    rename_snapshot(stored, "later");
    save(&place, stored);
    g_assert_cmpint(stored->generation, ==, 41);
}

static void
assert_corrupt(const Place *place, const char *text, gsize length)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm("new");

    put(place, ".livemerge/vms/" VM_ID ".json", text, (gssize)length);
    g_assert_null(manifest_load(place->domain, VM_ID, &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
    g_assert_nonnull(strstr(error->message, VM_ID ".json"));
    g_clear_error(&error);
    /* nor is what is left of it overwritten */
    vm->generation = 1000;
    g_assert_false(manifest_save(place->domain, vm, &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
}

static char *
manifest_bytes(const Place *place, gsize *ret_length)
{
    g_autofree char *path = at(place, ".livemerge/vms/" VM_ID ".json");
    char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, ret_length, NULL));
    return text;
}

static void
test_manifest_torn(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(Vm) vm = make_vm("one");
    gsize length = 0;

    save(&place, vm);
    g_autofree char *text = manifest_bytes(&place, &length);
    g_assert_cmpuint(length, >, 500);
    for (gsize cut = 0; cut < length; cut += 7)
        assert_corrupt(&place, text, cut);
    assert_corrupt(&place, text, length - 1);
    for (gsize from = 100; from < length; from += 200) { /* a page that was never written */
        g_autofree char *hole = g_memdup2(text, length);
        memset(hole + from, 0, MIN(100, length - from));
        assert_corrupt(&place, hole, length);
    }
    /* the generation outside the checksum must be the one inside */
    char *outer = strstr(text, "\"generation\": 1");
    g_assert_nonnull(outer);
    outer[strlen("\"generation\": ")] = '9';
    assert_corrupt(&place, text, length);
}

/* A flipped bit is found, or it changes nothing that is read. */
static void
test_manifest_flipped(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(Vm) vm = make_vm("one");
    gsize length = 0;
    unsigned found = 0;

    save(&place, vm);
    g_autofree char *text = manifest_bytes(&place, &length);
    g_autoptr(Vm) good = load(&place);
    g_autofree char *wanted = lasting_text(good);
    for (gsize i = 0; i < length; i++) {
        g_autoptr(GError) error = NULL;

        text[i] ^= (char)(1 << (i % 8));
        put(&place, ".livemerge/vms/" VM_ID ".json", text, (gssize)length);
        g_autoptr(Vm) read = manifest_load(place.domain, VM_ID, &error);
        text[i] ^= (char)(1 << (i % 8));
        if (read == NULL) { /* "refused": the flip made it a newer format */
            g_assert_nonnull(error);
            g_assert_true(error->code == ERR_CORRUPT || error->code == ERR_REFUSED);
            g_assert_nonnull(strstr(error->message, VM_ID ".json"));
            found++;
            continue;
        }
        g_autofree char *got = lasting_text(read);
        g_assert_cmpstr(got, ==, wanted);
    }
    g_assert_cmpuint(found, >, length / 2);
}

static void
test_manifest_of_another(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm("one");
    g_autofree char *mine = at(&place, ".livemerge/vms/" VM_ID ".json");
    g_autofree char *other = at(&place, ".livemerge/vms/" VM_ID2 ".json");

    save(&place, vm);
    g_assert_cmpint(rename(mine, other), ==, 0);
    g_assert_null(manifest_load(place.domain, VM_ID2, &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
    g_clear_error(&error);
    g_assert_null(manifest_load(place.domain, "../domain", &error)); /* no way out of the folder */
    g_assert_error(error, ERR, ERR_INVALID);
    g_clear_error(&error);
    g_assert_cmpint(mkfifo(mine, 0600), ==, 0); /* must not be waited for */
    g_assert_null(manifest_load(place.domain, VM_ID, &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
}

/* Stopped at every point, the old or the new one is readable, and a repeat finishes. */
static void
test_manifest_stopped_anywhere(void)
{
    int n;

    for (n = 0; n < 100; n++) {
        g_auto(Place) place = place_make();
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_vm("old");

        save(&place, vm);
        rename_snapshot(vm, "new");
        fault_arm(n);
        bool saved = manifest_save(place.domain, vm, &error);
        bool fired = fault_fired();
        fault_arm(-1);
        if (!fired) {
            g_assert_true(saved);
            break;
        }
        g_assert_error(error, ERR, ERR_STOPPED);
        g_autoptr(Vm) between = load(&place);
        g_assert_cmpint(between->generation, ==, g_str_equal(stored_name(between), "old") ? 1 : 2);
        save(&place, vm);
        g_autoptr(Vm) after = load(&place);
        g_assert_cmpstr(stored_name(after), ==, "new");
        g_assert_cmpint(after->generation, ==, vm->generation);
        g_autofree char *names = listing(&place, ".livemerge/vms");
        g_assert_cmpstr(names, ==, VM_ID ".json");
    }
    g_assert_cmpint(n, ==, 2);
}

/* What was renamed but perhaps not durable is ours: what comes next is not refused. */
static void
test_manifest_goes_on_after_stop(void)
{
    for (int n = 0; n < 2; n++) {
        g_auto(Place) place = place_make();
        g_autoptr(Vm) vm = make_vm("old");

        save(&place, vm);
        rename_snapshot(vm, "new");
        fault_arm(n);
        g_assert_false(manifest_save(place.domain, vm, NULL));
        fault_arm(-1);
        rename_snapshot(vm, "newer");
        save(&place, vm);
        g_autoptr(Vm) after = load(&place);
        g_assert_cmpstr(stored_name(after), ==, "newer");
    }
}

/* Killed before the rename: the old one, and the litter goes when it is old. */
static void
test_manifest_killed(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm("old");
    int status = 0;

    save(&place, vm);
    rename_snapshot(vm, "new");
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        g_setenv("LIVEMERGE_FAULTS", "manifest.before-rename=die@1", TRUE);
        fault_init();
        manifest_save(place.domain, vm, NULL);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    g_autoptr(Vm) old = load(&place);
    g_assert_cmpstr(stored_name(old), ==, "old");
    g_auto(GStrv) ids = manifest_list(place.domain, &error);
    g_assert_cmpuint(g_strv_length(ids), ==, 1);

    g_autofree char *names = listing(&place, ".livemerge/vms");
    g_auto(GStrv) both = g_strsplit(names, " ", -1);
    g_assert_cmpuint(g_strv_length(both), ==, 2);
    g_autoptr(Domain) soon = domain_open(place.dir, NULL, &error);
    g_autofree char *folder = at(&place, ".livemerge/vms");
    g_autofree char *litter = g_build_filename(folder, both[1], NULL);
    g_assert_true(g_file_test(litter, G_FILE_TEST_EXISTS)); /* another host may be writing it */
    struct utimbuf long_ago = { .actime = 1000, .modtime = 1000 };
    g_assert_cmpint(utime(litter, &long_ago), ==, 0);
    g_autoptr(Domain) later = domain_open(place.dir, NULL, &error);
    g_assert_false(g_file_test(litter, G_FILE_TEST_EXISTS));
}

static void
test_manifest_list_and_remove(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) one = make_vm("one");
    g_autoptr(Vm) two = make_vm("two");

    g_free(two->id);
    two->id = g_strdup(VM_ID2);
    save(&place, two);
    save(&place, one);
    put(&place, ".livemerge/vms/notes.json", "", 0);
    put(&place, ".livemerge/vms/" VM_ID2 ".lock", "", 0);
    g_auto(GStrv) both = manifest_list(place.domain, &error);
    g_autofree char *text = g_strjoinv(" ", both);
    g_assert_cmpstr(text, ==, VM_ID " " VM_ID2);

    for (int turn = 0; turn < 2; turn++) { /* may be repeated */
        g_assert_true(manifest_remove(place.domain, VM_ID, &error));
        g_assert_no_error(error);
    }
    g_auto(GStrv) left = manifest_list(place.domain, &error);
    g_assert_cmpuint(g_strv_length(left), ==, 1);
    g_assert_cmpstr(left[0], ==, VM_ID2);
}

/* An empty mount point is not "no manifest", and not "the volume is gone". */
static void
test_unmounted(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(Vm) vm = make_vm("one");
    g_autofree char *folder = at(&place, ".livemerge");
    g_autofree char *volume = at(&place, "gone.qcow2");
    g_autofree char *user = NULL;
    GError *errors[6] = { NULL };

    save(&place, vm);
    tree_remove(folder);
    g_assert_null(manifest_load(place.domain, VM_ID, &errors[0]));
    g_assert_false(manifest_save(place.domain, vm, &errors[1]));
    g_assert_null(manifest_list(place.domain, &errors[2]));
    g_assert_false(manifest_remove(place.domain, VM_ID, &errors[3]));
    g_assert_false(volume_delete(place.domain, "op1", volume, TRASH_EMPTY, &errors[4]));
    g_assert_false(volume_find_user(place.domain, volume, NULL, &user, &errors[5]));
    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        g_assert_error(errors[i], ERR, ERR_STORAGE);
        g_assert_nonnull(strstr(errors[i]->message, "mounted"));
        g_clear_error(&errors[i]);
    }
}

/* ---- rates */

static void
assert_guesses(const Rates *rates)
{
    Rates guesses;

    rates_init(&guesses);
    for (int i = 0; i < RATE_LAST; i++) {
        g_assert_cmpfloat(rates->value[i], ==, guesses.value[i]);
        g_assert_cmpuint(rates->samples[i], ==, 0);
    }
}

static void
test_rates(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    Rates rates, back;

    g_assert_true(rates_load(place.domain, &rates, &error));
    assert_guesses(&rates);
    g_assert_true(rates_add(&rates, RATE_COPY, 3e9, 2));
    g_assert_true(rates_save(place.domain, &rates, &error));
    g_assert_true(rates_load(place.domain, &back, &error));
    g_assert_cmpfloat(back.value[RATE_COPY], ==, 1.5e9);
    g_assert_cmpuint(back.samples[RATE_COPY], ==, 1);
    g_assert_cmpuint(back.samples[RATE_SHARE], ==, 0);

    /* a damaged file is guesses again, and can be replaced */
    static const char *const texts[] = { "", "{", "[1]", "\"x\"", "{\"rates\": 3", "\xff\xfe" };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        put(&place, ".livemerge/rates.json", texts[i], -1);
        g_assert_false(rates_load(place.domain, &back, &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
        g_assert_nonnull(strstr(error->message, "rates.json"));
        g_clear_error(&error);
        assert_guesses(&back);
    }
    put(&place, ".livemerge/rates.json", "{\"rates\": {\"copy\": 7}}", -1);
    g_assert_true(rates_load(place.domain, &back, &error));
    assert_guesses(&back);
    g_assert_true(rates_save(place.domain, &rates, &error));
    g_assert_true(rates_load(place.domain, &back, &error));
    g_assert_cmpfloat(back.value[RATE_COPY], ==, 1.5e9);
    g_assert_cmpuint(domain_reserve(place.domain, 1000), ==, 50);
    g_assert_cmpuint(domain_reserve(place.domain, UINT64_C(1) << 40), ==, UINT64_C(1) << 30);
}

/* ---- a full disk */

/* A small tmpfs that only this process sees; false = we may not (no root). */
static bool
mount_small(const char *dir, const char *options)
{
    static bool own_namespace;

    if (!own_namespace &&
        (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)) {
        g_test_skip("needs root, to mount a small file system");
        return false;
    }
    own_namespace = true;
    g_assert_cmpint(mount("tmpfs", dir, "tmpfs", 0, options), ==, 0);
    return true;
}

/* Fills the disk but for so many pages. */
static void
fill_disk(const char *dir, long pages_left)
{
    g_autofree char *ballast = g_build_filename(dir, "ballast", NULL);
    autofd int fd = open(ballast, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char page[4096] = { 1 };
    off_t size = 0;

    while (write(fd, page, sizeof page) == (ssize_t)sizeof page)
        size += (off_t)sizeof page;
    g_assert_cmpint(errno, ==, ENOSPC);
    g_assert_cmpint(ftruncate(fd, MAX(size - pages_left * 4096, 0)), ==, 0);
}

static void
test_full_disk(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-full-XXXXXX", NULL);
    long pages;

    if (!mount_small(dir, "size=512k")) {
        g_rmdir(dir);
        return;
    }
    {
        g_autoptr(GError) error = NULL;
        Place place = { .dir = dir, .domain = domain_open(dir, NULL, &error) };
        g_autoptr(Domain) domain = place.domain;
        g_autoptr(Vm) vm = make_vm("old");
        g_autofree char *large = g_strnfill(20000, 'x'); /* several pages */

        g_assert_no_error(error);
        save(&place, vm);
        g_free(vm_snapshot(vm, "s1")->config);
        vm_snapshot(vm, "s1")->config = g_steal_pointer(&large);
        rename_snapshot(vm, "new");
        for (pages = 0; pages < 30; pages++) {
            g_autoptr(GError) full = NULL;

            fill_disk(dir, pages);
            if (manifest_save(domain, vm, &full))
                break;
            g_test_message("%ld pages left: %s", pages, full->message);
            g_assert_error(full, ERR, ERR_NO_SPACE);
            g_assert_nonnull(strstr(full->message, VM_ID ".json (what was there is untouched)"));
            g_assert_cmpint(vm->generation, ==, 1);
            g_autoptr(Vm) old = load(&place);
            g_assert_cmpstr(stored_name(old), ==, "old");
            g_autofree char *names = listing(&place, ".livemerge/vms");
            g_assert_cmpstr(names, ==, VM_ID ".json");
        }
        g_assert_cmpint(pages, >=, 5);
        g_assert_cmpint(pages, <, 30);
        g_autoptr(Vm) new_one = load(&place);
        g_assert_cmpstr(stored_name(new_one), ==, "new");
        g_assert_cmpint(new_one->generation, ==, 2);
    }
    g_assert_cmpint(umount(dir), ==, 0);
    g_rmdir(dir);
}

/* No inode left: neither a manifest, nor a lock, nor a new domain. */
static void
test_full_of_files(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-full-XXXXXX", NULL);

    if (!mount_small(dir, "size=512k,nr_inodes=20")) {
        g_rmdir(dir);
        return;
    }
    {
        g_autoptr(GError) error = NULL;
        Place place = { .dir = dir, .domain = domain_open(dir, NULL, &error) };
        g_autoptr(Domain) domain = place.domain;
        g_autoptr(Vm) vm = make_vm("old");
        g_autofree char *fresh = g_build_filename(dir, "fresh", NULL);

        g_assert_no_error(error);
        save(&place, vm);
        rename_snapshot(vm, "new");
        g_assert_cmpint(mkdir(fresh, 0700), ==, 0);
        for (int i = 0; i < 30; i++) {
            g_autofree char *path = g_strdup_printf("%s/%d", dir, i);
            autofd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            if (fd < 0)
                break;
        }
        g_assert_false(manifest_save(domain, vm, &error));
        g_assert_error(error, ERR, ERR_NO_SPACE);
        g_clear_error(&error);
        g_autoptr(Vm) old = load(&place);
        g_assert_cmpstr(stored_name(old), ==, "old");
        g_assert_cmpint(vm_start_lock(domain, VM_ID, 0, &error), ==, -1);
        g_assert_error(error, ERR, ERR_NO_SPACE);
        g_clear_error(&error);
        g_assert_null(domain_open(fresh, NULL, &error));
        g_assert_error(error, ERR, ERR_NO_SPACE);
        g_clear_error(&error);

        for (int i = 0; i < 5; i++) { /* room again: the half-made domain is finished */
            g_autofree char *path = g_strdup_printf("%s/%d", dir, i);
            g_unlink(path);
        }
        g_autoptr(Domain) made = domain_open(fresh, NULL, &error);
        g_assert_no_error(error);
        g_assert_nonnull(made);
    }
    g_assert_cmpint(umount(dir), ==, 0);
    g_rmdir(dir);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/open", test_domain_open);
    g_test_add_func("/domain/refuses", test_domain_refuses);
    g_test_add_func("/domain/missing", test_domain_missing);
    g_test_add_func("/domain/made-by-many", test_domain_made_by_many);
    g_test_add_func("/domain/holds", test_domain_holds);
    g_test_add_func("/manifest/round-trip", test_manifest_round_trip);
    g_test_add_func("/manifest/unchanged", test_manifest_unchanged_is_not_written);
    g_test_add_func("/manifest/generation-goes-back", test_manifest_generation_goes_back);
    g_test_add_func("/manifest/torn", test_manifest_torn);
    g_test_add_func("/manifest/flipped", test_manifest_flipped);
    g_test_add_func("/manifest/of-another", test_manifest_of_another);
    g_test_add_func("/manifest/stopped-anywhere", test_manifest_stopped_anywhere);
    g_test_add_func("/manifest/goes-on-after-stop", test_manifest_goes_on_after_stop);
    g_test_add_func("/manifest/killed", test_manifest_killed);
    g_test_add_func("/manifest/list-and-remove", test_manifest_list_and_remove);
    g_test_add_func("/unmounted", test_unmounted);
    g_test_add_func("/full/disk", test_full_disk);
    g_test_add_func("/full/of-files", test_full_of_files);
    g_test_add_func("/storage/rates", test_rates);
    return g_test_run();
}
