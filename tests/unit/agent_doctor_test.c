/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the doctor (src/agent/doctor*.c) on a hypervisor in memory with real qcow2 files: each
 * class is made, found (and nothing else), mended, not found any more, and undone. A healthy VM
 * gives nothing.
 */
#include "doctor_damage.h"

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
test_class(const void *data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    g_auto(Host) host = { 0 };
    g_autoptr(Finding) finding = NULL, again = NULL;
    g_autofree char *fix_id = id_new(), *undo_id = id_new(), *plain_id = id_new();

    need_qemu();
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

/* Names of snapshots have spaces, and a word of one may be another's. */
static void
test_help_can_be_copied(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(Finding) finding = NULL;

    need_qemu();
    host_make(&host);
    make_lost(&host);
    expect(&host, DIAG_LOST_SNAPSHOT, &finding);
    g_test_message("%s", finding->help);
    g_assert_true(g_str_has_prefix(finding->help, "delete it: livemerge snapshot delete "));
    g_assert_true(id_is_valid(strrchr(finding->help, ' ') + 1));
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
    g_test_add_func("/doctor/help-can-be-copied", test_help_can_be_copied);
    return g_test_run();
}
