/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Manifests and domain.json, spoiled in every way: what is read is what was written, or it is
 * refused with a reason that names the file, and nobody overwrites it.
 */
#include "storage/storage.h"

#include "base/fault.h"
#include "base/text.h"

#include "../lib/image_tools.h"
#include "../lib/small_fs.h"

#include <sys/stat.h>

#define VM "11111111-2222-3333-4444-555555555555"

static Vm *
make_vm(void)
{
    Vm *vm = vm_new(VM, "web");
    Disk *disk = disk_new("22222222-2222-3333-4444-555555555555", "vda");

    g_ptr_array_add(disk->volumes,
                    volume_new("33333333-2222-3333-4444-555555555555", "/d/a.qcow2", "qcow2", MIB));
    g_ptr_array_add(vm->disks, disk);
    return vm;
}

/* What the record says, as a text; NULL with an error. */
static char *
read_manifest(const char *folder, GError **error)
{
    g_autoptr(Domain) domain = domain_open(folder, NULL, error);
    g_autoptr(Vm) vm = domain != NULL ? manifest_load(domain, VM, error) : NULL;
    g_autoptr(json_t) json = vm != NULL ? vm_to_json(vm) : NULL;

    return json != NULL ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}

static char *
read_description(const char *folder, GError **error)
{
    g_autoptr(Domain) domain = domain_open(folder, NULL, error);

    return domain != NULL ? g_strdup_printf("%s %s", domain->id, domain->name) : NULL;
}

static bool
write_manifest(const char *folder, GError **error)
{
    static int64_t generation = 1000;
    g_autoptr(Domain) domain = domain_open(folder, NULL, error);
    g_autoptr(Vm) vm = make_vm();

    vm->generation = generation += 10;
    vm->vcpus = g_random_int_range(1, 10000); /* something new */
    return domain != NULL && manifest_save(domain, vm, error);
}

typedef struct {
    const char *file;
    char *(*read)(const char *folder, GError **error);
    bool (*write)(const char *folder, GError **error);
} Record;

static bool
write_description(const char *folder, GError **error)
{
    g_autoptr(Domain) domain = domain_open(folder, "other", error);

    return domain != NULL;
}

static const Record records[] = {
    { ".livemerge/vms/" VM ".json", read_manifest, write_manifest },
    { ".livemerge/domain.json", read_description, write_description },
};

static void
make(const char *folder)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(folder, NULL, &error);
    g_autoptr(Vm) vm = make_vm();

    g_assert_no_error(error);
    g_assert_true(manifest_save(domain, vm, &error));
}

static void
put(const char *path, const char *bytes, gsize length)
{
    autofd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(write(fd, bytes, length), ==, (gssize)length);
}

/* False: refused, and still as it was after somebody wanted to write. */
static bool
try_bytes(const Record *record, const char *folder, const char *bytes, gsize length,
          const char *wanted)
{
    g_autofree char *path = in(folder, record->file), *after = NULL;
    g_autoptr(GError) error = NULL;
    gsize size = 0;

    put(path, bytes, length);
    autolibc char *got = record->read(folder, &error);
    if (got != NULL) {
        g_assert_cmpstr(got, ==, wanted);
        return true;
    }
    g_assert_true(error->code == ERR_CORRUPT || error->code == ERR_REFUSED);
    g_assert_nonnull(strstr(error->message, path));
    g_assert_false(record->write(folder, NULL));
    g_assert_true(g_file_get_contents(path, &after, &size, NULL));
    g_assert_cmpmem(after, size, bytes, length);
    return false;
}

/* Each bit, each length. */
static void
test_spoiled(const void *data)
{
    const Record *record = data;
    FOLDER(folder);
    gsize length = 0;
    unsigned refused = 0;

    make(folder);
    g_autofree char *path = in(folder, record->file), *bytes = NULL;
    autolibc char *wanted = record->read(folder, NULL);
    g_assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    for (gsize i = 0; i < length * 8; i++) {
        bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << (i % 8)));
        refused += !try_bytes(record, folder, bytes, length, wanted);
        bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << (i % 8)));
    }
    for (gsize cut = 0; cut < length; cut++)
        g_assert_false(try_bytes(record, folder, bytes, cut, wanted));
    g_assert_true(try_bytes(record, folder, bytes, length, wanted));
    g_test_message("%s: %zu bits, %u refused, the rest as written; %zu lengths", record->file,
                   length * 8, refused, length);
}

/* How fast a storage is has no checksum: estimates stay finite, and nothing else depends on it. */
static void
test_spoiled_rates(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_open(folder, NULL, NULL);
    g_autofree char *file = in(folder, ".livemerge/rates.json"), *bytes = NULL;
    Rates rates;
    gsize length = 0;

    g_assert_true(rates_load(domain, &rates, NULL));
    g_assert_true(rates_add(&rates, RATE_COPY, 3e9, 2));
    g_assert_true(rates_save(domain, &rates, NULL));
    g_assert_true(g_file_get_contents(file, &bytes, &length, NULL));
    for (gsize i = 0; i < length * 9; i++) {
        g_autoptr(GError) error = NULL;
        spoil(file, bytes, length, i);
        if (!rates_load(domain, &rates, &error))
            g_assert_nonnull(strstr(error->message, file));
        for (int rate = 0; rate < RATE_LAST; rate++)
            g_assert_true(rates.value[rate] >= 1 && rates.value[rate] <= 1e13);
    }
}

/* ---- not our file ---- */

typedef struct {
    const char *name, *command; /* F is the file */
    ErrorCode code;
    const char *told;
} Stranger;

static const Stranger strangers[] = {
    { "link", "mv $F real; ln -s ../../real $F", ERR_CORRUPT, "symbolic link" },
    { "directory", "rm $F; mkdir $F", ERR_CORRUPT, "not a regular file" },
    { "pipe", "rm $F; mkfifo $F", ERR_CORRUPT, "not a regular file" },
    { "huge", "truncate -s 65M $F", ERR_CORRUPT, "64 MiB" },
    { "others-may-write", "chmod 606 $F", ERR_REFUSED, "chmod 600" },
    { "of-somebody-else", "chown 4242 $F", ERR_REFUSED, "belongs to user 4242" },
    { "newer",
      "sed -i -e 's/\"livemerge\": 1/\"livemerge\": 2/' -e 's/\"format\": 1/\"format\": 2/' $F",
      ERR_REFUSED, "use the version that" },
};

static void
test_stranger(const void *data)
{
    const Stranger *stranger = data;

    if (strstr(stranger->command, "chown") != NULL && geteuid() != 0) {
        g_test_skip("no right to give files away");
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(records); i++) {
        FOLDER(folder);
        g_autofree char *path = in(folder, records[i].file);
        g_autofree char *command = g_strdup_printf("F=%s; %s", records[i].file, stranger->command);
        g_autofree char *list =
            g_strdup_printf("stat -c '%%F %%s %%a %%Y %%i' %s", records[i].file);
        char *argv[] = { (char[]){ "sh" }, (char[]){ "-ec" }, command, NULL };
        g_autofree char *before = NULL, *after = NULL;
        g_autoptr(GError) error = NULL;

        make(folder);
        g_assert_cmpint(run(folder, argv, NULL), ==, 0);
        argv[2] = list;
        run(folder, argv, &before);
        g_assert_null(records[i].read(folder, &error));
        if (strstr(error->message, path) == NULL || strstr(error->message, stranger->told) == NULL)
            g_error("%s: %s", stranger->name, error->message);
        g_assert_error(error, ERR, (int)stranger->code);
        g_assert_false(records[i].write(folder, NULL));
        run(folder, argv, &after);
        g_assert_cmpstr(before, ==, after);
    }
}

/* ---- file systems that take nothing ---- */

static int
read_only(const char *folder)
{
    g_autoptr(GError) error = NULL;

    make(folder);
    autolibc char *wanted = read_manifest(folder, NULL);
    if (mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0)
        return 77;
    /* what is there is read, nothing is written */
    autolibc char *got = read_manifest(folder, &error);
    if (g_strcmp0(got, wanted) != 0)
        return 1;
    if (write_manifest(folder, &error) || strstr(error->message, "ead-only") == NULL ||
        strstr(error->message, VM ".json") == NULL)
        return 2;
    return 0;
}

/* As much room as it takes, block by block: at each step something else does not fit. */
static int
full(const char *folder)
{
    g_autofree char *ballast = in(folder, "ballast");
    unsigned failed = 0;

    make(folder);
    for (unsigned files = 0; files < 4; files++) {
        autolibc char *before = read_manifest(folder, NULL);
        g_autoptr(GError) error = NULL;
        autofd int fd = open(ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        static const char block[4096];
        while (write(fd, block, sizeof block) > 0)
            ;
        struct stat st;
        if (fstat(fd, &st) != 0 || ftruncate(fd, st.st_size - (off_t)files * 4096) != 0)
            return 1;
        bool saved = write_manifest(folder, &error);
        autolibc char *after = read_manifest(folder, NULL);
        if (after == NULL || (!saved && g_strcmp0(before, after) != 0))
            return 2;
        if (!saved && (!g_error_matches(error, ERR, ERR_NO_SPACE) ||
                       strstr(error->message, VM ".json") == NULL))
            return 3;
        failed += !saved;
        if (unlink(ballast) != 0)
            return 4;
    }
    return failed > 0 ? 0 : 5;
}

static void
test_small(const void *data)
{
    FOLDER(folder);

    is_fine_on_small(folder, data != NULL ? full : read_only);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/records/manifest", &records[0], test_spoiled);
    g_test_add_data_func("/records/description", &records[1], test_spoiled);
    g_test_add_func("/records/rates", test_spoiled_rates);
    for (size_t i = 0; i < G_N_ELEMENTS(strangers); i++) {
        g_autofree char *name = g_strdup_printf("/records/stranger/%s", strangers[i].name);
        g_test_add_data_func(name, &strangers[i], test_stranger);
    }
    g_test_add_data_func("/records/read-only", NULL, test_small);
    g_test_add_data_func("/records/full", "", test_small);
    return g_test_run();
}
