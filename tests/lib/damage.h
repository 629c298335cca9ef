/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For tests that spoil a SQLite file of ours in every way: what is opened after that must be what
 * was written, or be refused and left as it was, or be set aside as it was, with nothing in the new
 * one that was not in the old one.
 */
#pragma once

#include "base/error.h"
#include "base/log.h"

#include "image_tools.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    const char *tests; /* how their names begin: "/journal" */
    const char *name;  /* of the file */
    /* Opens and closes it; *ret_aside: where the damaged one went. */
    bool (*try)(const char *file, char **ret_aside, GError **error);
    const char *dump; /* SQL whose first column are the lines that matter */
    /* Adds the rows of these numbers, to below, to the file, which is made if it is not there. */
    void (*write)(const char *file, unsigned from, unsigned to);
} Kind;

/* A sound file, in memory. */
typedef struct {
    char *bytes[2]; /* the file, its log (may be NULL) */
    gsize length[2];
    GPtrArray *states; /* dumps that may be found in it; the last is the newest */
} Sound;

static const char *const parts[] = { "", "-wal" };

static inline void
sound_clear(Sound *sound)
{
    g_free(sound->bytes[0]);
    g_free(sound->bytes[1]);
    g_ptr_array_unref(sound->states);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Sound, sound_clear)

static inline char *
dump_of(const Kind *kind, const char *file)
{
    g_autoptr(GString) text = g_string_new(NULL);
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;

    g_assert_cmpint(sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, NULL), ==, SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    g_assert_cmpint(sqlite3_prepare_v2(db, kind->dump, -1, &s, NULL), ==, SQLITE_OK);
    while (sqlite3_step(s) == SQLITE_ROW)
        g_string_append_printf(text, "%s\n", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    sqlite3_close(db);
    return g_strdup(text->str);
}

static inline void
sound_take(Sound *sound, const char *file)
{
    for (int i = 0; i < 2; i++) {
        g_autofree char *path = g_strconcat(file, parts[i], NULL);
        g_clear_pointer(&sound->bytes[i], g_free);
        if (g_file_test(path, G_FILE_TEST_EXISTS))
            g_assert_true(g_file_get_contents(path, &sound->bytes[i], &sound->length[i], NULL));
    }
}

static inline void
put(const char *path, const char *bytes, gsize length)
{
    autofd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(write(fd, bytes, length), ==, (gssize)length);
}

static inline void
assert_same_bytes(const char *path, const char *bytes, gsize length, const char *label)
{
    g_autofree char *now = NULL;
    gsize size = 0;

    if (!g_file_get_contents(path, &now, &size, NULL) || size != length ||
        memcmp(now, bytes, length) != 0)
        g_error("%s: %s is not as it was", label, path);
}

static inline bool
has_line(const char *text, const char *line)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    return g_strv_contains((const char *const *)lines, line);
}

static inline void
assert_proved(const Sound *sound, const char *now, const char *label)
{
    g_auto(GStrv) lines = g_strsplit(now, "\n", -1);

    for (char **line = lines; *line != NULL; line++) {
        bool known = false;
        for (guint i = 0; i < sound->states->len; i++)
            known = known || has_line(sound->states->pdata[i], *line);
        if (!known)
            g_error("%s: this was never written: %s", label, *line);
    }
}

typedef struct {
    unsigned cases, good, refused, aside;
} Tally;

/* The file as spoiled is tried; it and its log are the bytes given (NULL = not there). */
static inline void
try_spoiled(const Kind *kind, const Sound *sound, const char *folder, char *const *bytes,
            const gsize *length, const char *label, Tally *tally)
{
    g_autofree char *file = g_build_filename(folder, kind->name, NULL);
    g_autofree char *aside = NULL;
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 2; i++) {
        g_autofree char *path = g_strconcat(file, parts[i], NULL);
        if (bytes[i] != NULL)
            put(path, bytes[i], length[i]);
    }
    bool opened = kind->try(file, &aside, &error);
    const char *kept = aside != NULL ? aside : file;
    for (int i = 0; i < 2 && (!opened || aside != NULL); i++) {
        g_autofree char *path = g_strconcat(kept, parts[i], NULL);
        if (bytes[i] != NULL)
            assert_same_bytes(path, bytes[i], length[i], label);
    }
    if (!opened && strstr(error->message, file) == NULL)
        g_error("%s: the file is not named: %s", label, error->message);
    g_autofree char *now = opened ? dump_of(kind, file) : NULL;
    bool written = false;
    for (guint i = 0; now != NULL && aside == NULL && i < sound->states->len; i++)
        written = written || g_str_equal(sound->states->pdata[i], now);
    if (now != NULL && aside == NULL && !written)
        g_error("%s: believed:\n%s", label, now);
    if (aside != NULL)
        assert_proved(sound, now, label);
    tally->cases++;
    *(!opened ? &tally->refused : aside != NULL ? &tally->aside : &tally->good) += 1;

    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_unlink(path);
    }
}

static inline void
try_flip(const Kind *kind, const Sound *sound, const char *folder, int part, gsize at, unsigned bit,
         Tally *tally)
{
    g_autofree char *label =
        g_strdup_printf("%s%s, bit %u of byte %zu", kind->name, parts[part], bit, at);

    sound->bytes[part][at] = (char)(sound->bytes[part][at] ^ (1 << bit));
    try_spoiled(kind, sound, folder, sound->bytes, sound->length, label, tally);
    sound->bytes[part][at] = (char)(sound->bytes[part][at] ^ (1 << bit));
}

static inline void
try_cut(const Kind *kind, const Sound *sound, const char *folder, int part, gsize length,
        Tally *tally)
{
    g_autofree char *label = g_strdup_printf("%s%s cut at %zu", kind->name, parts[part], length);
    gsize lengths[2] = { sound->length[0], sound->length[1] };

    lengths[part] = length;
    try_spoiled(kind, sound, folder, sound->bytes, lengths, label, tally);
}

static inline void
shell(const char *folder, const char *command)
{
    char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-ec" }, (char *)command, NULL };

    g_assert_cmpint(run(folder, argv, NULL), ==, 0);
}

/* SQL of somebody who does not know our sums */
static inline void
edit(const char *file, const char *sql)
{
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(file, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

/* What is not a file of ours: it is refused and left alone (told: a part of the reason), or set
 * aside (NULL). */
typedef struct {
    const char *name;
    const char *command; /* of the shell; F is the file; may be NULL */
    const char *sql;     /* may be NULL */
    const char *told;
} Stranger;

static inline void
try_stranger(const Kind *kind, const Stranger *stranger, const char *folder)
{
    g_autofree char *file = g_build_filename(folder, kind->name, NULL);
    g_autofree char *list =
        g_strdup_printf("stat -c '%%n %%F %%s %%a' %s; test ! -f %s || sha256sum %s", kind->name,
                        kind->name, kind->name);
    g_autofree char *before = NULL, *after = NULL, *aside = NULL;
    g_autoptr(GError) error = NULL;
    char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-ec" }, list, NULL };

    if (stranger->sql != NULL)
        edit(file, stranger->sql);
    if (stranger->command != NULL) {
        g_autofree char *command = g_strdup_printf("F=%s; %s", kind->name, stranger->command);
        shell(folder, command);
    }
    run(folder, argv, &before);
    bool opened = kind->try(file, &aside, &error);
    if (stranger->told == NULL) {
        g_assert_no_error(error);
        g_assert_nonnull(aside);
        return;
    }
    g_assert_false(opened);
    g_assert_nonnull(strstr(error->message, file));
    if (strstr(error->message, stranger->told) == NULL)
        g_error("%s: %s", stranger->name, error->message);
    run(folder, argv, &after);
    g_assert_cmpstr(before, ==, after);
}

/* clang-format off */
#define STRANGERS                                                                                 \
    { "link", "mv $F real; ln -s real $F", NULL, "symbolic link" },                               \
    { "directory", "rm $F; mkdir $F", NULL, "directory" },                                        \
    { "pipe", "rm $F; mkfifo $F", NULL, "pipe" },                                                 \
    { "log-is-a-link", "ln -s /etc/passwd $F-wal", NULL, "-wal is a symbolic link" },             \
    { "log-is-a-pipe", "mkfifo $F-wal", NULL, "-wal is a pipe" },                                 \
    { "written-by-others", "chmod 666 $F", NULL, "chmod 600" },                                   \
    { "newer", NULL, "PRAGMA user_version=77; PRAGMA application_id=0", "newer" },                \
    { "empty", ": > $F", NULL, NULL },                                                            \
    { "gone-but-its-log", "rm $F; echo x > $F-wal", NULL, NULL },                                 \
    { "a-letter", "echo 'dear reader' > $F", NULL, NULL },                                        \
    { "version-flipped", NULL, "PRAGMA user_version=1", NULL }
/* clang-format on */

static inline void
try_owned_by_others(const Kind *kind)
{
    QUICK_FOLDER(folder);
    g_autofree char *file = g_build_filename(folder, kind->name, NULL), *aside = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(kind->try(file, &aside, NULL));
    if (chown(file, 4242, 4242) != 0) {
        g_test_skip("no right to give files away");
        return;
    }
    g_assert_false(kind->try(file, &aside, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_assert_nonnull(strstr(error->message, file));
    g_assert_nonnull(strstr(error->message, "belongs to user 4242"));
}

/* In a child with mounts of its own: 0 = as promised. */
static inline int
open_read_only(const Kind *kind, const char *folder, bool damaged)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = in(folder, kind->name), *aside = NULL;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=2m") != 0)
        return 77;
    if (!kind->try(file, &aside, NULL))
        return 3;
    if (damaged)
        put(file, "nonsense", 8);
    if (mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0)
        return 77;
    if (kind->try(file, &aside, &error))
        return 1;
    return strstr(error->message, file) == NULL || strstr(error->message, "ead-only") == NULL ? 2
                                                                                              : 0;
}

static inline void
try_read_only(const Kind *kind, bool damaged)
{
    FOLDER(folder);
    pid_t child = fork();
    int status = 0;

    if (child == 0)
        _exit(open_read_only(kind, folder, damaged));
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        g_test_skip("no right to mount");
    else
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

static inline void
tell(const char *what, const Tally *tally)
{
    g_test_message("%s: %u cases: %u as written, %u refused, %u set aside", what, tally->cases,
                   tally->good, tally->refused, tally->aside);
}

/* Every byte of the header, the beginning of every page, some hundred anywhere. */
static inline void
spoil_bits(const Kind *kind, const Sound *sound, int part, gsize page, gsize header)
{
    QUICK_FOLDER(folder);
    g_autoptr(GRand) random = g_rand_new_with_seed(4711);
    gsize length = sound->length[part];
    Tally tally = { 0 };

    for (gsize at = 0; at < header; at++)
        for (unsigned bit = (unsigned)at % 3; bit < 8; bit += 3)
            try_flip(kind, sound, folder, part, at, bit, &tally);
    for (gsize start = 0; start < length; start += page)
        for (gsize at = start; at < MIN(start + 12, length); at++)
            try_flip(kind, sound, folder, part, at, (unsigned)(at % 8), &tally);
    for (unsigned i = 0; i < 200; i++)
        try_flip(kind, sound, folder, part, (gsize)g_rand_int_range(random, 0, (gint32)length),
                 (unsigned)g_rand_int_range(random, 0, 8), &tally);
    tell("bits", &tally);
    g_assert_cmpuint(tally.aside, >, 0);
}

static inline void
spoil_length(const Kind *kind, const Sound *sound, int part, gsize page)
{
    QUICK_FOLDER(folder);
    Tally tally = { 0 };

    for (gsize length = 0; length < sound->length[part]; length++)
        if (length < 100 || length % 509 == 0 || length % page < 2 || length % page > page - 2)
            try_cut(kind, sound, folder, part, length, &tally);
    tell("lengths", &tally);
    g_assert_cmpuint(tally.aside + tally.good, >, 0);
}

/* ---- what is tried with either ---- */

static const Kind *tried; /* by all tests of the program */

static inline void
make_file(Sound *sound)
{
    QUICK_FOLDER(folder);
    g_autofree char *file = in(folder, tried->name);

    sound->states = g_ptr_array_new_with_free_func(g_free);
    tried->write(file, 0, 12);
    sound_take(sound, file);
    g_ptr_array_add(sound->states, dump_of(tried, file));
    g_assert_null(sound->bytes[1]); /* it was written into the file */
}

static inline void
test_bits(const void *data)
{
    g_auto(Sound) sound = { 0 };

    make_file(&sound);
    spoil_bits(tried, &sound, 0, 4096, 100);
}

static inline void
test_lengths(const void *data)
{
    g_auto(Sound) sound = { 0 };

    make_file(&sound);
    spoil_length(tried, &sound, 0, 4096);
}

static inline void
test_stranger(const void *stranger)
{
    QUICK_FOLDER(folder);
    g_autofree char *file = in(folder, tried->name);

    tried->write(file, 1, 2);
    try_stranger(tried, stranger, folder);
}

static inline void
test_owned_by_others(const void *data)
{
    try_owned_by_others(tried);
}

static inline void
test_read_only(const void *damaged)
{
    try_read_only(tried, damaged != NULL);
}

static inline void
add_test(const char *name, const void *data, GTestDataFunc test)
{
    g_autofree char *path = g_strconcat(tried->tests, name, NULL);

    g_test_add_data_func(path, data, test);
}

static inline void
damage_tests(const Kind *kind, const Stranger *strangers, size_t n)
{
    tried = kind;
    add_test("/bits", NULL, test_bits);
    add_test("/lengths", NULL, test_lengths);
    add_test("/owned-by-others", NULL, test_owned_by_others);
    for (size_t i = 0; i < n; i++) {
        g_autofree char *name = g_strconcat("/stranger/", strangers[i].name, NULL);
        add_test(name, &strangers[i], test_stranger);
    }
    add_test("/read-only", NULL, test_read_only);
    add_test("/read-only-and-damaged", "", test_read_only);
}
