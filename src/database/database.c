/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "database/database.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };

/* ---- the checksum of a row: FNV-1a, in which no change of a single byte goes unseen ---- */

static uint64_t
add_bytes(uint64_t sum, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < length; i++)
        sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static void
row_sum(sqlite3_context *context, int n, sqlite3_value **values)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);

    for (int i = 0; i < n; i++) {
        bool null = sqlite3_value_type(values[i]) == SQLITE_NULL;
        /* a number as its text; a text as it stands, which _text() would copy to terminate it.
         * The length first: for it SQLite may move a text */
        int32_t length = null ? -1 : sqlite3_value_bytes(values[i]);
        const void *text = null ? NULL : sqlite3_value_blob(values[i]);

        sum = add_bytes(sum, &length, sizeof length);
        if (text != NULL && length > 0)
            sum = add_bytes(sum, text, (size_t)length);
    }
    sqlite3_result_int64(context, (int64_t)sum);
}

/* ---- errors ---- */

bool
database_error(sqlite3 *db, const char *file, const char *what, GError **error)
{
    int code = sqlite3_errcode(db), os = sqlite3_system_errno(db);
    const char *why = sqlite3_errmsg(db);

    if (code == SQLITE_FULL || (code == SQLITE_IOERR && (os == ENOSPC || os == EDQUOT)))
        return error_set(error, ERR_NO_SPACE,
                         "the file system of %s %s is full: nothing was changed; free some space "
                         "there",
                         what, file);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return error_set(error, ERR_CORRUPT, "%s %s is damaged: %s", what, file, why);
    if (code == SQLITE_READONLY)
        return error_set(error, ERR_STORAGE,
                         "%s %s cannot be written (%s): is its file system mounted read-only?",
                         what, file, why);
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return error_set(error, ERR_BUSY, "another program holds %s %s", what, file);
    return error_set(error, ERR_STORAGE, "%s %s: %s", what, file, why);
}

/* ---- opening ---- */

static bool
check_place(const char *path, const char *what, const struct stat *st, GError **error)
{
    if (!S_ISREG(st->st_mode))
        return error_set(error, ERR_REFUSED,
                         "%s: %s is %s and not a file; it was not touched: move it away, and put "
                         "back the file if there was one",
                         what, path,
                         S_ISLNK(st->st_mode)    ? "a symbolic link"
                         : S_ISDIR(st->st_mode)  ? "a directory"
                         : S_ISFIFO(st->st_mode) ? "a pipe"
                                                 : "something else");
    if (st->st_uid != geteuid())
        return error_set(error, ERR_REFUSED,
                         "%s: %s belongs to user %u; it was not read: if nobody has tampered with "
                         "it, chown it to user %u",
                         what, path, st->st_uid, geteuid());
    if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return error_set(error, ERR_REFUSED,
                         "%s: %s may be written by others (mode %04o); it was not read: if nobody "
                         "has tampered with it, chmod 600 it",
                         what, path, st->st_mode & 07777);
    return true;
}

typedef struct {
    bool there;
    bool log; /* committed rows that are not in the file yet */
} Found;

static bool
look(const char *file, const char *what, Found *ret_found, GError **error)
{
    off_t size = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path = g_strconcat(file, suffixes[i], NULL);
        struct stat st;

        if (lstat(path, &st) < 0) {
            if (errno == ENOENT)
                continue;
            return error_set_errno(error, "%s: looking at %s", what, path);
        }
        if (!check_place(path, what, &st, error))
            return false;
        if (i == 0) {
            ret_found->there = true;
            size = st.st_size;
        }
        ret_found->log = ret_found->log || (i == 1 && st.st_size > 0);
    }
    /* SQLite would throw the log away */
    if (ret_found->log && size == 0)
        return error_set(error, ERR_CORRUPT, "%s %s is %s, but its log %s-wal is there", what, file,
                         ret_found->there ? "empty" : "gone", file);
    return true;
}

/* Where SQLite would take a wrong bit for a newer format, or for one that must not be written. */
static bool
check_header(const char *file, const char *what, GError **error)
{
    autofd int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    unsigned char header[48];

    if (fd < 0)
        return error_set_errno(error, "opening %s %s", what, file);
    if (pread(fd, header, sizeof header, 0) != sizeof header)
        return true; /* SQLite says what it is */
    bool known = header[18] >= 1 && header[18] <= 2 && header[19] >= 1 && header[19] <= 2 &&
                 header[44] == 0 && header[45] == 0 && header[46] == 0 && header[47] <= 4;
    return known || error_set(error, ERR_CORRUPT,
                              "%s %s is damaged: its header is of no known form", what, file);
}

/* ---- the log: SQLite takes it up to the first frame whose sum is wrong, as after a power loss.
   But each commit is synced before the next one begins: only the last one can be torn. ---- */

#define FRAME_HEAD 24

static uint32_t
be32(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void
log_sum(const unsigned char *at, size_t length, bool big, uint32_t *sum)
{
    for (size_t i = 0; i + 8 <= length; i += 8) {
        uint32_t a = be32(at + i), b = be32(at + i + 4);
        sum[0] += (big ? a : GUINT32_SWAP_LE_BE(a)) + sum[1];
        sum[1] += (big ? b : GUINT32_SWAP_LE_BE(b)) + sum[0];
    }
}

/* Commits that are whole; and those after the first damaged frame. */
static bool
log_is_sound(const unsigned char *log, size_t length)
{
    bool big = be32(log) == 0x377f0683;
    size_t frame = FRAME_HEAD + be32(log + 8);
    uint32_t sum[2] = { 0, 0 };
    unsigned commits_after = 0, frames_after_commit = 0;
    bool good = true;

    log_sum(log, 24, big, sum);
    if ((!big && be32(log) != 0x377f0682) || be32(log + 8) < 512 || sum[0] != be32(log + 24) ||
        sum[1] != be32(log + 28))
        return false;
    for (const unsigned char *at = log + 32; at + frame <= log + length; at += frame) {
        bool salted = memcmp(at + 8, log + 16, 8) == 0;
        if (good) {
            log_sum(at, 8, big, sum);
            log_sum(at + FRAME_HEAD, frame - FRAME_HEAD, big, sum);
            good = salted && sum[0] == be32(at + 16) && sum[1] == be32(at + 20);
        }
        if (good || !salted)
            continue;
        frames_after_commit += commits_after > 0;
        commits_after += be32(at + 4) != 0;
    }
    return frames_after_commit == 0;
}

static bool
check_log(const char *file, const char *what, GError **error)
{
    g_autofree char *path = g_strconcat(file, "-wal", NULL);
    g_autofree char *log = NULL;
    gsize length = 0;

    if (!g_file_get_contents(path, &log, &length, NULL) || length <= 32)
        return true;
    return log_is_sound((const unsigned char *)log, length) ||
           error_set(error, ERR_CORRUPT,
                     "%s %s is damaged: its log %s is, and what was committed last is in there",
                     what, file, path);
}

static bool
make_file(const char *file, const char *what, GError **error)
{
    /* SQLite's own files beside it get the mode of this one */
    autofd int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd >= 0 || error_set_errno(error, "making %s %s", what, file);
}

static bool
check_whole(sqlite3 *db, const char *file, const char *what, GError **error)
{
    DatabaseStatement *s = NULL;
    bool whole = false;

    if (sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        database_error(db, file, what, error);
    else if (g_strcmp0((const char *)sqlite3_column_text(s, 0), "ok") == 0)
        whole = true;
    else {
        g_autofree char *why = g_strdup((const char *)sqlite3_column_text(s, 0));
        error_set(error, ERR_CORRUPT, "%s %s is damaged: %s", what, file,
                  why != NULL ? g_strdelimit(why, "\n", ' ') : "it cannot be checked");
    }
    sqlite3_finalize(s);
    return whole;
}

int64_t
database_number(sqlite3 *db, const char *file, const char *what, const char *sql, GError **error)
{
    DatabaseStatement *s = NULL;
    int64_t number = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
        database_error(db, file, what, error);
    else if ((number = sqlite3_column_int64(s, 0)) < 0)
        error_set(error, ERR_CORRUPT, "%s %s is damaged: its header says %" G_GINT64_FORMAT, what,
                  file, number);
    sqlite3_finalize(s);
    return MAX(number, -1);
}

/* ---- the seal: a sum of version and schema, which have no row of their own ---- */

/* Never 0, which is what a file has that was not sealed, and never one bit away from it. */
#define SEAL_SQL                                                                                 \
    "SELECT (row_sum((SELECT user_version FROM pragma_user_version), group_concat(type || name " \
    "|| tbl_name || ifnull(sql, ''), ';')) & 0x3ffffffc) | 0x40000003 FROM sqlite_schema"

static bool
check_seal(sqlite3 *db, const char *file, const char *what, GError **error)
{
    int64_t seal = database_number(db, file, what, "PRAGMA application_id", error);
    int64_t found = seal > 0 ? database_number(db, file, what, SEAL_SQL, error) : seal;

    if (seal < 0 || found < 0)
        return false;
    return seal == found ||
           error_set(error, ERR_CORRUPT,
                     "%s %s is damaged: its tables are not those that were made", what, file);
}

bool
database_seal(sqlite3 *db, const char *file, const char *what, GError **error)
{
    int64_t seal = database_number(db, file, what, SEAL_SQL, error);
    g_autofree char *sql = g_strdup_printf("PRAGMA application_id = %" G_GINT64_FORMAT, seal);

    return seal > 0 && (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ||
                        database_error(db, file, what, error));
}

static sqlite3 *
connect_to(const char *file, const char *what, GError **error)
{
    g_autoptr(DatabaseHandle) db = NULL;

    if (sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL) !=
        SQLITE_OK) {
        error_set(error, ERR_STORAGE, "opening %s %s: %s", what, file, sqlite3_errmsg(db));
        return NULL;
    }
    sqlite3_busy_timeout(db, 5000);
    /* what is not believed yet is not written: also not when it is closed */
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_create_function(db, "row_sum", -1,
                            SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, NULL, row_sum,
                            NULL, NULL);
    sqlite3_exec(db, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;", NULL, NULL, NULL);
    return g_steal_pointer(&db);
}

sqlite3 *
database_open(const char *file, const char *what, GError **error)
{
    Found found = { 0 };
    g_autoptr(DatabaseHandle) db = NULL;

    if (!look(file, what, &found, error) || (found.log && !check_log(file, what, error)) ||
        !(found.there ? check_header(file, what, error) : make_file(file, what, error)) ||
        (db = connect_to(file, what, error)) == NULL)
        return NULL;
    if (sqlite3_db_readonly(db, "main") == 1) {
        error_set(error, ERR_STORAGE,
                  "%s %s can only be read: is its file system mounted read-only?", what, file);
        return NULL;
    }
    int64_t pages = database_number(db, file, what, "PRAGMA page_count", error);
    if (pages < 0)
        return NULL;
    if (found.there && pages == 0) {
        error_set(error, ERR_CORRUPT, "%s %s is empty", what, file);
        return NULL;
    }
    return check_whole(db, file, what, error) && check_seal(db, file, what, error)
               ? g_steal_pointer(&db)
               : NULL;
}

bool
database_use(sqlite3 *db, const char *file, const char *what, GError **error)
{
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return sqlite3_exec(db,
                        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                        "PRAGMA cache_size = -1024; PRAGMA journal_size_limit = 4194304;",
                        NULL, NULL, NULL) == SQLITE_OK ||
           database_error(db, file, what, error);
}

/* ---- what is damaged ---- */

static char *
free_name(const char *file)
{
    g_autoptr(GDateTime) now = g_date_time_new_from_unix_utc(clock_wall_ms() / 1000);
    g_autofree char *date = g_date_time_format(now, "%Y%m%d-%H%M%S");

    for (unsigned n = 1;; n++) {
        g_autofree char *number = n > 1 ? g_strdup_printf("-%u", n) : g_strdup("");
        g_autofree char *name = g_strdup_printf("%s.damaged-%s%s", file, date, number);
        bool taken = false;

        for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
            g_autofree char *path = g_strconcat(name, suffixes[i], NULL);
            struct stat st;
            taken = taken || lstat(path, &st) == 0;
        }
        if (!taken)
            return g_steal_pointer(&name);
    }
}

/* The file first: without its log it could look sound. */
static int damage_signal;

void
database_signal_damage(int signal_number)
{
    g_atomic_int_set(&damage_signal, signal_number);
}

void
database_note_damage(char **damage, const GError *problem)
{
    if (!g_error_matches(problem, ERR, ERR_CORRUPT) || *damage != NULL)
        return;
    g_atomic_pointer_set(damage, g_strdup(problem->message));
    if (g_atomic_int_get(&damage_signal) != 0)
        kill(getpid(), g_atomic_int_get(&damage_signal));
}

char *
database_set_aside(const char *file, GError **error)
{
    g_autofree char *name = free_name(file);
    g_autofree char *dir = g_path_get_dirname(file);

    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *from = g_strconcat(file, suffixes[i], NULL);
        g_autofree char *to = g_strconcat(name, suffixes[i], NULL);

        if (rename(from, to) < 0 && errno != ENOENT) {
            error_set_errno(error, "setting the damaged %s aside as %s", from, to);
            return NULL;
        }
    }
    autofd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0) {
        error_set_errno(error, "syncing the directory %s", dir);
        return NULL;
    }
    return g_steal_pointer(&name);
}

void *
database_open_or_anew(const char *file, void *(*open)(const char *file, GError **error),
                      char **ret_aside, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *aside = NULL;
    void *opened = open(file, &problem);

    *ret_aside = NULL;
    if (opened != NULL)
        return opened;
    if (!g_error_matches(problem, ERR, ERR_CORRUPT)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
    if ((aside = database_set_aside(file, error)) == NULL || (opened = open(file, error)) == NULL)
        return NULL;
    log_warn("%s. It was set aside as %s", problem->message, aside);
    *ret_aside = g_steal_pointer(&aside);
    return opened;
}

static unsigned
copy_rows(sqlite3_stmt *from, sqlite3_stmt *to)
{
    unsigned rows = 0;

    while (sqlite3_step(from) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(from); i++)
            sqlite3_bind_value(to, i + 1, sqlite3_column_value(from, i));
        rows += sqlite3_step(to) == SQLITE_DONE;
        sqlite3_reset(to);
    }
    return rows;
}

/* From both ends: a damaged page hides what lies behind it. */
unsigned
database_salvage(sqlite3 *db, const char *damaged, const char *select, const char *insert)
{
    static const char *const orders[] = { "ORDER BY rowid", "ORDER BY rowid DESC" };
    /* without its log the file tells what was, and no longer is */
    g_autoptr(DatabaseHandle) old =
        check_log(damaged, "", NULL) ? connect_to(damaged, "the damaged file", NULL) : NULL;
    g_autoptr(DatabaseStatement) to = NULL;
    unsigned rows = 0;

    if (old == NULL || sqlite3_prepare_v2(db, insert, -1, &to, NULL) != SQLITE_OK)
        return 0;
    for (size_t i = 0; i < G_N_ELEMENTS(orders); i++) {
        g_autofree char *sql = g_strdup_printf("%s %s", select, orders[i]);
        g_autoptr(DatabaseStatement) from = NULL;

        if (sqlite3_prepare_v2(old, sql, -1, &from, NULL) == SQLITE_OK)
            rows += copy_rows(from, to);
    }
    return rows;
}
