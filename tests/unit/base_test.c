/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/base: errors, configuration, the steps engine (stopped at every fault point),
 * fault points by name, names and sizes, the clock, lock files.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/lockfile.h"
#include "base/log.h"
#include "base/steps.h"
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
remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *below = g_build_filename(path, name, NULL);
        remove_tree(below);
    }
    g_remove(path);
}

static void
folder_clear(Folder *folder)
{
    remove_tree(folder->dir);
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

/* ---- the steps engine: a toy merge in a toy world that outlives the program */

typedef struct {
    /* the world */
    bool locked, copied, deleted;
    unsigned copies;
    /* what was saved */
    char *step, *error_word, *error_text;
    unsigned tried;
    bool cancel;
    /* the program */
    Machine *machine;
    /* how the world behaves */
    bool blind;           /* check of "copy" cannot tell */
    ErrorCode copy_fails; /* ERR_LAST = it works */
    bool delete_fails;
    bool save_fails;
} World;

static bool
save(void *self, GError **error)
{
    World *w = self;

    if (w->save_fails)
        return error_set(error, ERR_NO_SPACE, "the database is full");
    if (!fault_point("toy.before-save", error))
        return false;
    g_free(w->step);
    g_free(w->error_word);
    g_free(w->error_text);
    w->step = g_strdup(w->machine->step);
    w->tried = w->machine->tried;
    w->cancel = w->machine->cancel;
    w->error_word = g_strdup(w->machine->error_word);
    w->error_text = g_strdup(w->machine->error_text);
    return fault_point("toy.after-save", error);
}

/* Saved before acting: whatever acts must find itself in what was saved. */
static void
assert_saved(const World *w, const char *step)
{
    g_assert_cmpstr(w->step, ==, step);
    g_assert_cmpuint(w->tried, ==, w->machine->tried);
    g_assert_cmpuint(w->tried, >, 0);
}

static StepState
lock_state(void *self, GError **error)
{
    return ((World *)self)->locked ? STEP_DONE : STEP_TODO;
}

static bool
lock_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "lock");
    if (!fault_point("toy.before-lock", error))
        return false;
    w->locked = true;
    return fault_point("toy.after-lock", error);
}

static StepState
copy_state(void *self, GError **error)
{
    World *w = self;

    if (w->blind) {
        error_set(error, ERR_UNREACHABLE, "the host does not answer");
        return STEP_UNKNOWN;
    }
    return w->copied ? STEP_DONE : STEP_TODO;
}

static bool
copy_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "copy");
    w->copies++;
    if (w->copy_fails != ERR_LAST)
        return error_set(error, w->copy_fails, "no copy today");
    if (!fault_point("toy.before-copy", error))
        return false;
    w->copied = true;
    return fault_point("toy.after-copy", error);
}

static StepState
delete_state(void *self, GError **error)
{
    return ((World *)self)->deleted ? STEP_DONE : STEP_TODO;
}

static bool
delete_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "delete");
    g_assert_true(w->copied); /* never before the copy */
    if (w->delete_fails)
        return error_set(error, ERR_REFUSED, "somebody stands on it");
    w->deleted = true;
    return fault_point("toy.after-delete", error);
}

static StepState
unlock_state(void *self, GError **error)
{
    return ((World *)self)->locked ? STEP_TODO : STEP_DONE;
}

static bool
unlock_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "unlock");
    w->locked = false;
    return fault_point("toy.after-unlock", error);
}

/* clang-format off */
static const Step toy[] = {
    { "lock",   lock_state,   lock_act,   0, true,  "unlock", NULL },
    { "copy",   copy_state,   copy_act,   3, true,  "unlock", NULL },
    { "delete", delete_state, delete_act, 0, false, NULL,     NULL },
    { "unlock", unlock_state, unlock_act, 0, false, NULL,     STEP_END },
    { NULL },
};
/* clang-format on */

static void
world_clear(World *w)
{
    g_free(w->step);
    g_free(w->error_word);
    g_free(w->error_text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Machine, machine_clear)

/* The program starts: it knows what was saved, and nothing else. */
static void
start(Machine *m, World *w)
{
    g_autoptr(GError) error = NULL;

    *m = (Machine){ .self = w, .save = save };
    w->machine = m;
    g_assert_true(machine_init(m, toy, w->step, &error));
    m->tried = w->tried;
    m->cancel = w->cancel;
    m->error_word = g_strdup(w->error_word);
    m->error_text = g_strdup(w->error_text);
}

/* Turns until it ends (true), waits without hope, or a fault point fired and (if they kill) it
 * is dead. */
static bool
run(Machine *m, bool faults_kill)
{
    for (int turns = 0; turns < 50; turns++) {
        if (machine_turn(m) == TURN_ENDED)
            return true;
        if (faults_kill && fault_fired())
            return false;
    }
    return false;
}

static void
test_steps_table_is_sound(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(steps_check(toy, &error));
    g_assert_no_error(error);
}

static void
test_steps_table_refused(void)
{
    /* clang-format off */
    static const struct { Step table[3]; const char *say; } rows[] = {
        { { { "a", lock_state, lock_act }, { "a", lock_state, lock_act } },            "used twice" },
        { { { "", lock_state, lock_act } },                                            "empty" },
        { { { "a", NULL, lock_act } },                                                 "no check" },
        { { { "a", lock_state, lock_act, 0, false, "b", NULL } },                      "unknown 'b'" },
        { { { "a", lock_state, lock_act, 0, false, NULL, "c" } },                      "unknown 'c'" },
        { { { "a", lock_state, lock_act, 0, true, NULL, NULL } },                      "cancelled to nowhere" },
        { { { "a", lock_state, lock_act, 0, false, NULL, NULL, "d" } },                "unknown 'd'" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(steps_check(rows[i].table, &error));
        g_assert_error(error, ERR, ERR_INTERNAL);
        g_assert_nonnull(strstr(error->message, rows[i].say));
    }
}

/* Killed: killed at every fault point in turn, a restart must finish. Not killed: the
 * point is an error that the same program gets over. */
static void
sweep(bool faults_kill)
{
    int n;

    for (n = 0; n < 1000; n++) {
        g_auto(World) world = { .copy_fails = ERR_LAST };
        bool stopped;

        fault_arm(n);
        {
            g_auto(Machine) first = { 0 };
            start(&first, &world);
            stopped = !run(&first, faults_kill);
        }
        if (!fault_fired()) {
            g_assert_false(stopped);
            g_assert_cmpuint(world.copies, ==, 1);
            break;
        }
        fault_arm(-1);
        if (stopped) {
            g_auto(Machine) second = { 0 };
            start(&second, &world);
            g_assert_true(run(&second, true));
        }
        g_test_message("stopped at point %d, ended at step '%s'", n, world.step);
        g_assert_cmpstr(world.step, ==, STEP_END);
        g_assert_null(world.error_word);
        g_assert_true(world.copied && world.deleted && !world.locked);
        g_assert_cmpuint(world.copies, <=, 2);
    }
    fault_arm(-1);
    g_assert_cmpint(n, >, 15); /* it did stop at places */
    g_assert_cmpint(n, <, 1000);
}

static void
test_steps_survive_a_stop_anywhere(void)
{
    sweep(true);
}

static void
test_steps_get_over_an_error_anywhere(void)
{
    sweep(false);
}

/* A road that is closed in the middle: the other one is taken from the beginning, and which one it
 * is, is saved with the step. */
typedef struct {
    bool by_sea, saved_by_sea, closed, arrived, save_fails;
    unsigned departures, tried_at_departure;
    char *saved_step;
    Machine *machine;
} Journey;

static bool
journey_save(void *self, GError **error)
{
    Journey *j = self;

    if (j->save_fails)
        return error_set(error, ERR_STORAGE, "no ink");
    j->saved_by_sea = j->by_sea;
    g_free(j->saved_step);
    j->saved_step = g_strdup(j->machine->step);
    return true;
}

static StepState
depart_state(void *self, GError **error)
{
    Journey *j = self;

    return j->departures > (j->by_sea ? 1U : 0U) ? STEP_DONE : STEP_TODO;
}

static bool
depart_act(void *self, GError **error)
{
    Journey *j = self;

    j->tried_at_departure = j->machine->tried;
    j->departures++;
    return true;
}

static StepState
travel_state(void *self, GError **error)
{
    Journey *j = self;

    if (!j->closed || j->by_sea)
        return STEP_DONE;
    j->by_sea = true;
    return STEP_BACK;
}

static StepState
arrive_state(void *self, GError **error)
{
    return ((Journey *)self)->arrived ? STEP_DONE : STEP_TODO;
}

static bool
arrive_act(void *self, GError **error)
{
    ((Journey *)self)->arrived = true;
    return true;
}

/* clang-format off */
static const Step journey_steps[] = {
    { "depart", depart_state, depart_act, 1, false, NULL, NULL,     NULL     },
    { "travel", travel_state, NULL,       0, false, NULL, NULL,     "depart" },
    { "arrive", arrive_state, arrive_act, 0, false, NULL, STEP_END, NULL     },
    { NULL },
};
/* clang-format on */

static void
test_steps_back(void)
{
    Journey j = { .closed = true };
    g_auto(Machine) m = { .self = &j, .save = journey_save };
    g_autoptr(GError) error = NULL;

    j.machine = &m;
    g_assert_true(steps_check(journey_steps, &error));
    g_assert_true(machine_init(&m, journey_steps, NULL, &error));
    g_assert_cmpint(machine_turn(&m), ==, TURN_AGAIN); /* departs by land */
    g_assert_cmpint(machine_turn(&m), ==, TURN_AGAIN); /* has departed */
    g_assert_cmpstr(m.step, ==, "travel");

    /* it cannot be written down: nothing has happened, but what is remembered stays so */
    j.save_fails = true;
    g_assert_cmpint(machine_turn(&m), ==, TURN_WAIT);
    g_assert_cmpstr(m.step, ==, "travel");
    g_assert_false(j.saved_by_sea);
    j.save_fails = j.by_sea = false;

    g_assert_cmpint(machine_turn(&m), ==, TURN_AGAIN);
    g_assert_cmpstr(m.step, ==, "depart");
    g_assert_cmpstr(j.saved_step, ==, "depart");
    g_assert_true(j.saved_by_sea);
    while (machine_turn(&m) != TURN_ENDED)
        ;
    g_assert_true(j.arrived);
    g_assert_cmpuint(j.departures, ==, 2);
    g_assert_cmpuint(j.tried_at_departure, ==, 1); /* its one try is counted anew */
    g_assert_null(m.error_word);
    g_free(j.saved_step);
}

static void
test_steps_unknown_name(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(Machine) m = { 0 };

    g_assert_false(machine_init(&m, toy, "from-the-future", &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "from-the-future"));
}

static void
test_steps_saved_end(void)
{
    g_auto(World) world = { .copy_fails = ERR_LAST, .step = g_strdup(STEP_END) };
    g_auto(Machine) m = { 0 };

    start(&m, &world);
    g_assert_true(machine_ended(&m));
    g_assert_cmpint(machine_turn(&m), ==, TURN_ENDED);
    g_assert_false(machine_can_cancel(&m));
    g_assert_false(world.locked);
}

/* Not knowing is never failing: it waits for ever, longer each time, and says why. */
static void
test_steps_backoff(void)
{
    static const unsigned wanted[] = {
        50, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000
    };
    g_auto(World) world = { .copy_fails = ERR_LAST, .blind = true };
    g_auto(Machine) m = { 0 };

    start(&m, &world);
    while (g_strcmp0(m.step, "copy") != 0)
        machine_turn(&m);
    g_assert_cmpuint(machine_backoff_ms(&m), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++) {
        g_assert_cmpint(machine_turn(&m), ==, TURN_WAIT);
        g_assert_cmpuint(machine_backoff_ms(&m), ==, wanted[i]);
        g_assert_cmpstr(m.waiting_for, ==, "the host does not answer");
    }
    g_assert_cmpuint(world.copies, ==, 0);
    g_assert_false(machine_failed(&m));
    world.blind = false;
    g_assert_cmpint(machine_turn(&m), ==, TURN_AGAIN);
    g_assert_cmpuint(machine_backoff_ms(&m), ==, 0);
    g_assert_null(m.waiting_for);
    g_assert_true(run(&m, false));
}

static void
test_steps_cancel(void)
{
    /* clang-format off */
    static const struct { const char *at; bool can, copied, deleted; } rows[] = {
        { "lock",   true,  false, false },
        { "copy",   true,  false, false },
        { "delete", false, true,  true },
        { "unlock", false, true,  true },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(World) world = { .copy_fails = ERR_LAST };
        g_auto(Machine) m = { 0 };

        start(&m, &world);
        while (g_strcmp0(m.step, rows[i].at) != 0)
            machine_turn(&m);
        g_assert_cmpint(machine_can_cancel(&m), ==, rows[i].can);
        m.cancel = true;
        g_assert_true(run(&m, false));
        g_assert_cmpint(machine_failed(&m), ==, rows[i].can);
        g_assert_cmpstr(world.error_word, ==, rows[i].can ? "cancelled" : NULL);
        g_assert_cmpint(world.copied, ==, rows[i].copied);
        g_assert_cmpint(world.deleted, ==, rows[i].deleted);
        g_assert_false(world.locked);
    }
}

static void
test_steps_on_failed(void)
{
    /* clang-format off */
    static const struct { ErrorCode fails; unsigned copies; const char *word, *text; } rows[] = {
        { ERR_REFUSED,     1, "refused", "no copy today" },
        { ERR_NO_SPACE,    1, "no-space", "no copy today" },
        { ERR_UNREACHABLE, 3, "timeout", "step 'copy' used up its 3 tries: no copy today" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(World) world = { .copy_fails = rows[i].fails };
        g_auto(Machine) m = { 0 };

        start(&m, &world);
        g_assert_true(run(&m, false));
        g_assert_true(machine_failed(&m));
        g_assert_cmpuint(world.copies, ==, rows[i].copies);
        g_assert_cmpstr(world.error_word, ==, rows[i].word);
        g_assert_cmpstr(world.error_text, ==, rows[i].text);
        g_assert_false(world.locked);
        g_assert_false(world.deleted);
    }
}

/* The tries are counted over restarts: a program that dies in act() does not try for ever. */
static void
test_steps_tries_survive(void)
{
    g_auto(World) world = { .copy_fails = ERR_UNREACHABLE };

    for (int restarts = 0; restarts < 20 && g_strcmp0(world.step, STEP_END) != 0; restarts++) {
        g_auto(Machine) m = { 0 };
        start(&m, &world);
        while (machine_turn(&m) == TURN_AGAIN) /* it dies when it has to wait */
            continue;
    }
    g_assert_cmpstr(world.step, ==, STEP_END);
    g_assert_cmpuint(world.copies, ==, 3);
}

/* Where there is no way back it stays, says why, and goes on once it can. */
static void
test_steps_no_way_back(void)
{
    g_auto(World) world = { .copy_fails = ERR_LAST, .delete_fails = true };
    g_auto(Machine) m = { 0 };

    start(&m, &world);
    g_assert_false(run(&m, false));
    g_assert_cmpstr(m.step, ==, "delete");
    g_assert_cmpstr(m.waiting_for, ==, "somebody stands on it");
    g_assert_false(machine_failed(&m));
    world.delete_fails = false;
    g_assert_true(run(&m, false));
    g_assert_true(world.deleted);
}

static void
test_steps_first_failure_stays(void)
{
    g_autoptr(GError) one = g_error_new(ERR, ERR_REFUSED, "one");
    g_autoptr(GError) two = g_error_new(ERR, ERR_BUSY, "two");
    g_auto(Machine) m = { 0 };

    machine_note_failure(&m, one);
    machine_note_failure(&m, two);
    g_assert_cmpstr(m.error_word, ==, "refused");
    g_assert_cmpstr(m.error_text, ==, "one");
}

/* What cannot be saved is not done. */
static void
test_steps_save_fails(void)
{
    g_auto(World) world = { .copy_fails = ERR_LAST, .save_fails = true };
    g_auto(Machine) m = { 0 };

    start(&m, &world);
    g_assert_false(run(&m, false));
    g_assert_false(world.locked);
    g_assert_cmpstr(m.step, ==, "lock");
    g_assert_cmpuint(m.tried, ==, 0);
    g_assert_cmpstr(m.waiting_for, ==, "the database is full");
    world.save_fails = false;
    g_assert_true(run(&m, false));
}

/* ---- fault points by name: in a process of its own, the environment is read once */

static void
test_fault_names(void)
{
    g_autoptr(GError) error = NULL;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    g_setenv("LIVEMERGE_FAULTS", "a=error@2,b=error@1", TRUE);
    fault_init();
    g_assert_true(fault_point("a", &error));
    g_assert_true(fault_point("other", &error));
    g_assert_false(fault_point("a", &error));
    g_assert_error(error, ERR, ERR_STOPPED);
    g_clear_error(&error);
    g_assert_true(fault_point("a", &error));
    g_assert_false(fault_point("b", &error));
}

static void
test_fault_trace(void)
{
    g_autofree char *file = g_build_filename(g_get_tmp_dir(), "lm-trace-XXXXXX", NULL);
    g_autofree char *text = NULL;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    close(g_mkstemp(file));
    g_setenv("LIVEMERGE_FAULT_TRACE", file, TRUE);
    fault_init();
    g_assert_true(fault_point("a", NULL));
    g_assert_true(fault_point("b", NULL));
    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    unlink(file);
    g_assert_cmpstr(text, ==, "a\nb\n");
}

static void
test_fault_die(void)
{
    int status = 0;
    pid_t child = fork();

    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        g_setenv("LIVEMERGE_FAULTS", "x=die@1", TRUE);
        fault_init();
        fault_point("x", NULL);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- text and clock */

static void
test_names(void)
{
    g_autofree char *long_name = g_strnfill(255, 'x');
    g_autofree char *too_long = g_strnfill(256, 'x');
    /* clang-format off */
    const struct { const char *name, *say; /* NULL = good */ } rows[] = {
        { "a", NULL }, { "before the upgrade", NULL }, { "../etc/passwd", NULL }, { ".", NULL },
        { "\xc3\xa4\xf0\x9f\x92\xbe", NULL }, { long_name, NULL },
        { NULL, "is empty" }, { "", "is empty" }, { too_long, "256 bytes" }, { "a\xff", "not valid UTF-8" },
        { "\xc3", "not valid UTF-8" }, { "a\nb", "control character (byte 2)" }, { "\x7f", "control" }, { "x\xc2\x85", "control" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        bool good = name_check("the snapshot's name", rows[i].name, &error);

        g_test_message("row %zu: %s", i, error != NULL ? error->message : "good");
        g_assert_cmpint(good, ==, rows[i].say == NULL);
        if (good)
            continue;
        g_assert_error(error, ERR, ERR_INVALID);
        g_assert_true(g_str_has_prefix(error->message, "the snapshot's name "));
        g_assert_nonnull(strstr(error->message, rows[i].say));
    }
}

static void
test_ids(void)
{
    /* clang-format off */
    static const struct { const char *id; bool valid; } rows[] = {
        { "11111111-2222-3333-4444-55555555abcd", true }, { NULL, false }, { "", false }, { "x", false },
        { "11111111-2222-3333-4444-55555555abcg", false }, { "11111111-2222-3333-4444-55555555abcde", false },
        { "11111111222233334444555555555555", false }, { "../11111-2222-3333-4444-555555555555", false },
    };
    /* clang-format on */
    g_autofree char *one = id_new();
    g_autofree char *two = id_new();

    g_assert_true(id_is_valid(one));
    g_assert_cmpstr(one, !=, two);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpint(id_is_valid(rows[i].id), ==, rows[i].valid);
}

static void
test_sizes(void)
{
    /* clang-format off */
    static const struct { uint64_t bytes; const char *text; } rows[] = {
        { 0, "0 B" }, { 1023, "1023 B" }, { 1024, "1.0 KiB" }, { 1536, "1.5 KiB" }, { 12897484, "12.3 MiB" },
        { 1ULL << 40, "1.0 TiB" }, { UINT64_MAX, "16.0 EiB" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = size_text(rows[i].bytes);
        g_assert_cmpstr(text, ==, rows[i].text);
    }
    g_autofree char *short_time = seconds_text(0.035);
    g_autofree char *long_time = seconds_text(1.2);
    g_assert_cmpstr(short_time, ==, "35 ms");
    g_assert_cmpstr(long_time, ==, "1.2 s");
    text_replace(&short_time, short_time); /* itself */
    g_assert_cmpstr(short_time, ==, "35 ms");
    text_replace(&short_time, NULL);
    g_assert_null(short_time);
}

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
    g_test_add_func("/steps/table-is-sound", test_steps_table_is_sound);
    g_test_add_func("/steps/table-refused", test_steps_table_refused);
    g_test_add_func("/steps/survive-a-stop-anywhere", test_steps_survive_a_stop_anywhere);
    g_test_add_func("/steps/get-over-an-error-anywhere", test_steps_get_over_an_error_anywhere);
    g_test_add_func("/steps/back", test_steps_back);
    g_test_add_func("/steps/unknown-name", test_steps_unknown_name);
    g_test_add_func("/steps/saved-end", test_steps_saved_end);
    g_test_add_func("/steps/back-off", test_steps_backoff);
    g_test_add_func("/steps/cancel", test_steps_cancel);
    g_test_add_func("/steps/on-failed", test_steps_on_failed);
    g_test_add_func("/steps/tries-survive", test_steps_tries_survive);
    g_test_add_func("/steps/no-way-back", test_steps_no_way_back);
    g_test_add_func("/steps/first-failure-stays", test_steps_first_failure_stays);
    g_test_add_func("/steps/save-fails", test_steps_save_fails);
    g_test_add_func("/fault/names", test_fault_names);
    g_test_add_func("/fault/trace", test_fault_trace);
    g_test_add_func("/fault/die", test_fault_die);
    g_test_add_func("/text/names", test_names);
    g_test_add_func("/text/ids", test_ids);
    g_test_add_func("/text/sizes", test_sizes);
    g_test_add_func("/seams", test_seams);
    g_test_add_func("/log/is-one-line", test_log_is_one_line);
    g_test_add_func("/lockfile/take", test_lockfile);
    g_test_add_func("/lockfile/errors", test_lockfile_errors);
    g_test_add_func("/lockfile/death", test_lockfile_death);
    return g_test_run();
}
