/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/base: errors, configuration, names and sizes, the clock, lock files.
 */
#include "../lib/folder.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/error.h"
#include "base/lockfile.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* ---- errors */

static void
test_error_words(void)
{
    for (int code = 0; code < ERR_LAST; code++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(error_set(&error, (ErrorCode)code, "text %d", code));
        g_assert_cmpint(error_code_from_word(error_word(error)), ==, code);
        g_assert_cmpint(error_http_status(error), >=, 400);
    }
    g_assert_cmpint(error_code_from_word("from the future"), ==, ERR_INTERNAL);
    g_assert_cmpint(error_code_from_word(NULL), ==, ERR_INTERNAL);
    g_assert_false(error_set(NULL, ERR_BUSY, "nobody listens"));
}

static void
test_error_table(void)
{
    /* clang-format off */
    static const struct { ErrorCode code; int http; bool again; } rows[] = {
        { ERR_NOT_FOUND, 404, false }, { ERR_REFUSED, 409, false }, { ERR_BUSY, 409, true },
        { ERR_UNREACHABLE, 503, true }, { ERR_NO_SPACE, 507, false }, { ERR_CANCELLED, 409, false },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        error_set(&error, rows[i].code, "x");
        g_assert_cmpint(error_http_status(error), ==, rows[i].http);
        g_assert_cmpint(error_may_retry(error), ==, rows[i].again);
    }
    g_autoptr(GError) foreign = g_error_new(G_FILE_ERROR, G_FILE_ERROR_NOENT, "x");
    g_assert_cmpint(error_http_status(foreign), ==, 500);
    g_assert_false(error_may_retry(foreign));
    g_assert_cmpstr(error_word(foreign), ==, "internal");
}

static void
test_error_errno(void)
{
    /* clang-format off */
    static const struct { int number; ErrorCode code; } rows[] = {
        { ENOSPC, ERR_NO_SPACE }, { EDQUOT, ERR_NO_SPACE }, { EIO, ERR_STORAGE }, { EACCES, ERR_STORAGE },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        errno = rows[i].number;
        g_assert_false(error_set_errno(&error, "writing %s", "/x"));
        g_assert_error(error, ERR, (int)rows[i].code);
        g_assert_true(g_str_has_prefix(error->message, "writing /x: "));
        g_assert_cmpint(errno, ==, rows[i].number);
    }
}

static bool
fails_in_context(bool fail, GError **error)
{
    ERROR_CONTEXT(error, "merging");

    return fail ? error_set(error, ERR_BUSY, "busy") : true;
}

static void
test_error_context(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(fails_in_context(false, &error));
    g_assert_no_error(error);
    g_assert_false(fails_in_context(true, &error));
    g_assert_cmpstr(error->message, ==, "merging: busy");
    g_assert_false(fails_in_context(true, NULL));
}

/* ---- configuration */

/* clang-format off */
static const ConfigKey keys[] = {
    { "main",   "name",  "default", "a name" },
    { "main",   "flag",  "no",      "a flag" },
    { "main",   "size",  "10",      "a number" },
    { "main",   "unset", NULL,      "no default" },
    { "host *", "url",   NULL,      "where it is" },
    { NULL },
};
/* clang-format on */

typedef struct {
    char *dir;
    char *file;
} Folder;

static void
folder_clear(Folder *folder)
{
    tree_remove(folder->dir);
    g_free(folder->dir);
    g_free(folder->file);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Folder, folder_clear)

static Folder
folder_make(void)
{
    g_autoptr(GError) error = NULL;
    Folder folder = { .dir = g_dir_make_tmp("livemerge-base-XXXXXX", &error) };

    g_assert_no_error(error);
    folder.file = g_build_filename(folder.dir, "a.conf", NULL);
    return folder;
}

static void
put(const Folder *folder, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(folder->dir, name, NULL);
    g_autofree char *dir = g_path_get_dirname(path);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_file_set_contents(path, text, -1, &error);
    g_assert_no_error(error);
}

static void
test_config_defaults(void)
{
    g_auto(Folder) folder = folder_make();
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = config_load(folder.file, false, keys, &error);
    bool flag = true;
    gint64 size = 0;

    g_assert_no_error(error);
    g_assert_cmpstr(config_get(config, "main", "name"), ==, "default");
    g_assert_null(config_get(config, "main", "unset"));
    g_assert_true(config_get_bool(config, "main", "flag", &flag, &error));
    g_assert_false(flag);
    g_assert_true(config_get_number(config, "main", "size", 0, 10, &size, &error));
    g_assert_cmpint(size, ==, 10);
    g_assert_null(config_load(folder.file, true, keys, &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_assert_nonnull(strstr(error->message, folder.file));
}

static void
test_config_drop_ins(void)
{
    g_auto(Folder) folder = folder_make();
    g_autoptr(GError) error = NULL;

    put(&folder, "a.conf", "[main]\nname = main file\nsize = 1\n[host b]\nurl = x\n");
    put(&folder, "a.conf.d/20-later.conf", "[main]\nname=twenty\n");
    put(&folder, "a.conf.d/10-first.conf", "[main]\nname=ten\nflag=ON\n[host a]\nurl=https://a\n");
    put(&folder, "a.conf.d/30-backup.conf~", "[nonsense]\n");
    g_autoptr(Config) config = config_load(folder.file, true, keys, &error);
    g_assert_no_error(error);

    bool flag = false;
    g_assert_cmpstr(config_get(config, "main", "name"), ==, "twenty");
    g_assert_cmpstr(config_get(config, "main", "size"), ==, "1");
    g_assert_true(config_get_bool(config, "main", "flag", &flag, &error));
    g_assert_true(flag);
    g_assert_cmpstr(config_get(config, "host a", "url"), ==, "https://a");
    g_assert_null(config_get(config, "host zzz", "url"));
    g_auto(GStrv) names = config_names(config, "host");
    g_autofree char *joined = g_strjoinv(",", names);
    g_assert_cmpstr(joined, ==, "a,b");
}

static void
test_config_refuses(void)
{
    /* clang-format off */
    static const struct { const char *file, *text, *say; } rows[] = {
        { "a.conf",          "[main]\nnmae = x\n",  "unknown key 'nmae' in [main]" },
        { "a.conf",          "[mian]\nname = x\n",  "unknown section [mian]" },
        { "a.conf",          "[host ]\nurl = x\n",  "unknown section" },
        { "a.conf",          "[host a]\nurk = x\n", "unknown key 'urk' in [host a]" },
        { "a.conf",          "name = x\n",          "" },
        { "a.conf.d/1.conf", "[main]\nnmae = x\n",  "unknown key 'nmae' in [main]" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Folder) folder = folder_make();
        g_autoptr(GError) error = NULL;

        put(&folder, rows[i].file, rows[i].text);
        g_assert_null(config_load(folder.file, false, keys, &error));
        g_assert_error(error, ERR, ERR_INVALID);
        g_test_message("row %zu: %s", i, error->message);
        g_assert_nonnull(strstr(error->message, rows[i].file));
        g_assert_nonnull(strstr(error->message, rows[i].say));
    }
}

static void
test_config_values(void)
{
    /* clang-format off */
    static const struct { const char *flag; int wanted; /* -1 = refused */ } flags[] = {
        { "yes", 1 }, { "TRUE", 1 }, { "1", 1 }, { "off", 0 }, { "No", 0 }, { "0", 0 }, { "maybe", -1 }, { "", -1 }, { "yess", -1 },
    };
    static const struct { const char *size; int wanted; } sizes[] = {
        { "0", 0 }, { "100", 100 }, { "101", -1 }, { "-1", -1 }, { "1k", -1 }, { "", -1 }, { "99999999999999999999", -1 },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(flags) + G_N_ELEMENTS(sizes); i++) {
        g_auto(Folder) folder = folder_make();
        g_autoptr(GError) error = NULL;
        bool is_flag = i < G_N_ELEMENTS(flags);
        size_t k = i - (is_flag ? 0 : G_N_ELEMENTS(flags));
        const char *value = is_flag ? flags[k].flag : sizes[k].size;
        int wanted = is_flag ? flags[k].wanted : sizes[k].wanted;
        g_autofree char *text =
            g_strdup_printf("[main]\n%s = %s\n", is_flag ? "flag" : "size", value);
        bool flag = false;
        gint64 size = 0;

        put(&folder, "a.conf", text);
        g_autoptr(Config) config = config_load(folder.file, true, keys, &error);
        g_assert_no_error(error);
        bool good = is_flag ? config_get_bool(config, "main", "flag", &flag, &error)
                            : config_get_number(config, "main", "size", 0, 100, &size, &error);
        g_test_message("'%s'", value);
        g_assert_cmpint(good, ==, wanted >= 0);
        if (good)
            g_assert_cmpint(is_flag ? flag : size, ==, wanted);
        else
            g_assert_nonnull(strstr(error->message, is_flag ? "[main] flag" : "[main] size"));
    }
}

/* ---- clock */

/* These two stay for the rest of the process, so they get their own. */
static void
test_seams(void)
{
    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    clock_fake(1769862896789);
    clock_fake_advance(1000);
    g_assert_cmpint(clock_wall_ms(), ==, 1769862897789);
    int64_t before = clock_mono_us();
    clock_fake_advance(3);
    g_assert_cmpint(clock_mono_us() - before, ==, 3000);
    g_autofree char *iso = clock_iso8601(1769862896789);
    g_assert_cmpstr(iso, ==, "2026-01-31T12:34:56.789Z");

    id_seed(7);
    g_autofree char *one = id_new();
    id_seed(7);
    g_autofree char *same = id_new();
    g_autofree char *next = id_new();
    g_assert_cmpstr(one, ==, same);
    g_assert_cmpstr(one, !=, next);
    g_assert_true(id_is_valid(one));
}

/* ---- lock files */

static void
test_lockfile(void)
{
    g_auto(Folder) folder = folder_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *pid = g_strdup_printf("pid %d", (int)getpid());
    int first = lockfile_take(folder.file, "agent", &error);

    g_assert_no_error(error);
    g_assert_cmpint(lockfile_take(folder.file, "agent", &error), ==, -1);
    g_assert_error(error, ERR, ERR_BUSY);
    g_assert_nonnull(strstr(error->message, folder.file));
    g_assert_nonnull(strstr(error->message, pid));
    g_clear_error(&error);

    int64_t begun = clock_mono_us();
    g_assert_cmpint(lockfile_wait(folder.file, "agent", 30, &error), ==, -1);
    g_assert_error(error, ERR, ERR_BUSY);
    g_assert_cmpint(clock_mono_us() - begun, >=, 30000);
    g_clear_error(&error);

    close(first);
    autofd int again = lockfile_wait(folder.file, "agent", 0, &error);
    g_assert_no_error(error);
    g_assert_cmpint(again, >=, 0);
}

static void
test_lockfile_errors(void)
{
    g_auto(Folder) folder = folder_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *below = g_build_filename(folder.dir, "none", "x", NULL);

    g_assert_cmpint(lockfile_wait(below, "agent", 10000, &error), ==, -1); /* does not wait */
    g_assert_error(error, ERR, ERR_STORAGE);
    g_clear_error(&error);
    g_assert_cmpint(symlink("/dev/null", folder.file), ==, 0);
    g_assert_cmpint(lockfile_take(folder.file, "agent", &error), ==, -1);
    g_assert_error(error, ERR, ERR_STORAGE);
}

/* The kernel gives the lock back, however its holder dies. */
static void
test_lockfile_death(void)
{
    g_auto(Folder) folder = folder_make();
    g_autoptr(GError) error = NULL;
    int pipe_fds[2];
    char byte = 0;

    g_assert_cmpint(pipe(pipe_fds), ==, 0);
    autofd int from_child = pipe_fds[0];
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        byte = lockfile_take(folder.file, "agent", NULL) >= 0;
        if (write(pipe_fds[1], &byte, 1) == 1)
            pause();
        _exit(1);
    }
    close(pipe_fds[1]);
    g_assert_cmpint(read(from_child, &byte, 1), ==, 1);
    int early = lockfile_take(folder.file, "agent", &error);
    kill(child, SIGKILL);
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);

    g_assert_cmpint(byte, ==, 1);
    g_assert_cmpint(early, ==, -1);
    g_assert_error(error, ERR, ERR_BUSY);
    g_clear_error(&error);
    autofd int late = lockfile_take(folder.file, "agent", &error);
    g_assert_no_error(error);
    g_assert_cmpint(late, >=, 0);
}

/* What a stranger types into a field of his is no second line of the log, nor moves a cursor. */
static void
test_log_is_one_line(void)
{
    autofd int kept = dup(STDERR_FILENO);
    char said[1000] = "";
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    autofd int from = fds[0];
    dup2(fds[1], STDERR_FILENO);
    log_warn("user '%s' could not sign in",
             "eve\n2026-01-01 livemerge-manager: all is well\x1b[2J\r");
    dup2(kept, STDERR_FILENO);
    close(fds[1]);
    g_assert_cmpint(read(from, said, sizeof said - 1), >, 0);
    g_assert_nonnull(
        strstr(said, "user 'eve 2026-01-01 livemerge-manager: all is well [2J ' could"));
    g_assert_cmpstr(strchr(said, '\n'), ==, "\n");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/words", test_error_words);
    g_test_add_func("/error/table", test_error_table);
    g_test_add_func("/error/errno", test_error_errno);
    g_test_add_func("/error/context", test_error_context);
    g_test_add_func("/config/defaults", test_config_defaults);
    g_test_add_func("/config/drop-ins", test_config_drop_ins);
    g_test_add_func("/config/refuses", test_config_refuses);
    g_test_add_func("/config/values", test_config_values);
    g_test_add_func("/seams", test_seams);
    g_test_add_func("/log/is-one-line", test_log_is_one_line);
    g_test_add_func("/lockfile/take", test_lockfile);
    g_test_add_func("/lockfile/errors", test_lockfile_errors);
    g_test_add_func("/lockfile/death", test_lockfile_death);
    return g_test_run();
}
