/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Manifests that are torn, flipped and stopped.
 */
#include "storage_manifest.h"

#include "storage/stored.h"

#include <utime.h>

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

/* What was read or written before is not parsed again: the file alone says what is stored. */
static void
test_manifest_remembered(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(Vm) vm = make_vm("one");
    size_t usual = stored_keep_least;

    stored_keep_least = 0;
    save(&place, vm);
    g_autoptr(Vm) first = load(&place);
    rename_snapshot(first, "only here");
    g_autoptr(Vm) second = load(&place);
    g_assert_cmpstr(stored_name(second), ==, "one");

    test_manifest_round_trip();
    test_manifest_unchanged_is_not_written();
    test_manifest_generation_goes_back();
    test_manifest_torn();
    test_manifest_flipped();
    test_manifest_of_another();
    test_manifest_stopped_anywhere();
    stored_keep_least = usual;
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/manifest/round-trip", test_manifest_round_trip);
    g_test_add_func("/manifest/unchanged", test_manifest_unchanged_is_not_written);
    g_test_add_func("/manifest/generation-goes-back", test_manifest_generation_goes_back);
    g_test_add_func("/manifest/torn", test_manifest_torn);
    g_test_add_func("/manifest/flipped", test_manifest_flipped);
    g_test_add_func("/manifest/of-another", test_manifest_of_another);
    g_test_add_func("/manifest/stopped-anywhere", test_manifest_stopped_anywhere);
    g_test_add_func("/manifest/goes-on-after-stop", test_manifest_goes_on_after_stop);
    g_test_add_func("/manifest/killed", test_manifest_killed);
    g_test_add_func("/manifest/remembered", test_manifest_remembered);
    g_test_add_func("/manifest/list-and-remove", test_manifest_list_and_remove);
    return g_test_run();
}
