/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * SQLite databases in memory that outlive their program, as files do: the connection of a program
 * that was killed is rolled back and given to the next one that opens that file. What was committed
 * is durable (the product asks for synchronous=FULL).
 */
#include "world.h"

#include <sqlite3.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name

typedef struct {
    char *file;
    sqlite3 *db;
    unsigned process;
    bool has_function; /* the product's own */
    unsigned set;      /* of settings[] */
} Database;

static GPtrArray *databases;

static Database *
database_of(const sqlite3 *db)
{
    for (guint i = 0; databases != NULL && i < databases->len; i++)
        if (((Database *)databases->pdata[i])->db == db)
            return databases->pdata[i];
    return NULL;
}

/* SQL's clock is ours, too. */
static void
unix_epoch(sqlite3_context *context, int n, sqlite3_value **values)
{
    (void)n;
    (void)values;
    sqlite3_result_int64(context, fiber_wall_us() / 1000000);
}

int REAL(sqlite3_create_function)(sqlite3 *db, const char *name, int n, int flags, void *data,
                                  void (*func)(sqlite3_context *, int, sqlite3_value **),
                                  void (*step)(sqlite3_context *, int, sqlite3_value **),
                                  void (*final)(sqlite3_context *));
int REAL(sqlite3_open_v2)(const char *file, sqlite3 **db, int flags, const char *vfs);
int REAL(sqlite3_exec)(sqlite3 *db, const char *sql, int (*each)(void *, int, char **, char **),
                       void *data, char **message);
int
WRAP(sqlite3_open_v2)(const char *file, sqlite3 **db, int flags, const char *vfs)
{
    (void)flags;
    (void)vfs;
    fiber_point("database is opened");
    if (databases == NULL)
        databases = g_ptr_array_new();
    for (guint i = 0; i < databases->len; i++) {
        Database *known = databases->pdata[i];
        if (strcmp(known->file, file) != 0)
            continue;
        known->process = fiber_process();
        *db = known->db;
        return SQLITE_OK;
    }
    Database *fresh = g_new0(Database, 1);
    int code = REAL(sqlite3_open_v2)(
        ":memory:", &fresh->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
        NULL);
    /* long rows fit into a page, as on a real file; and Debian's SQLite, unless it is told
     * otherwise, fills with zeros what is deleted. Nothing is rolled back: roll_back() */
    REAL(sqlite3_exec)
    (fresh->db, "PRAGMA page_size = 4096; PRAGMA secure_delete = OFF; PRAGMA journal_mode = OFF",
     NULL, NULL, NULL);
    fresh->file = g_strdup(file);
    fresh->process = fiber_process();
    REAL(sqlite3_create_function)
    (fresh->db, "unixepoch", 0, SQLITE_UTF8 | SQLITE_INNOCUOUS, NULL, unix_epoch, NULL, NULL);
    g_ptr_array_add(databases, fresh);
    *db = fresh->db;
    return code;
}

static uint64_t
sum_add(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
    return sum ^ sum >> 29;
}

/* The product's row_sum(), which goes byte by byte, and over numbers as texts. */
static void
quick_sum(sqlite3_context *context, int n, sqlite3_value **values)
{
    uint64_t sum = UINT64_C(0x9E3779B97F4A7C15);

    for (int i = 0; i < n; i++) {
        int type = sqlite3_value_type(values[i]);
        bool number = type == SQLITE_INTEGER;
        const char *text = number ? NULL : sqlite3_value_blob(values[i]); /* NULL stays NULL */
        size_t length = text != NULL ? (size_t)sqlite3_value_bytes(values[i]) : 0;

        sum = sum_add(sum, (uint64_t)type << 32 | length);
        if (number)
            sum = sum_add(sum, (uint64_t)sqlite3_value_int64(values[i]));
        for (size_t at = 0; at < length; at += 8) {
            uint64_t word = 0;
            if (at + 8 <= length)
                memcpy(&word, text + at, 8);
            else
                memcpy(&word, text + at, length - at);
            sum = sum_add(sum, word);
        }
    }
    sqlite3_result_int64(context, (int64_t)sum);
}

/* A function that is made again, a pragma or an option would have SQLite parse all statements and
 * the schema again. */
int
WRAP(sqlite3_create_function)(sqlite3 *db, const char *name, int n, int flags, void *data,
                              void (*func)(sqlite3_context *, int, sqlite3_value **),
                              void (*step)(sqlite3_context *, int, sqlite3_value **),
                              void (*final)(sqlite3_context *))
{
    Database *database = database_of(db);

    if (database != NULL && database->has_function)
        return SQLITE_OK;
    if (database != NULL)
        database->has_function = true;
    if (strcmp(name, "row_sum") == 0)
        func = quick_sum;
    return REAL(sqlite3_create_function)(db, name, n, flags, data, func, step, final);
}

/* What a real file would need. */
int
WRAP(sqlite3_db_config)(sqlite3 *db, int what, ...)
{
    (void)db;
    (void)what;
    return SQLITE_OK;
}

/* Statements are kept, parsed, from one use to the next: parsing them is much of the time. */
typedef struct {
    sqlite3_stmt *s;
    bool used;
} Kept;
typedef struct {
    const sqlite3 *db;
    char *sql;
} Text;
static GHashTable *kept;         /* Text → GPtrArray of Kept */
static GHashTable *by_statement; /* sqlite3_stmt → Kept; never walked */

/* Most texts are the program's own constants: known by where they are, they need not be read. */
static struct {
    const sqlite3 *db;
    const char *sql;
    GPtrArray *list;
} constants[512];

static bool
is_constant(const char *sql)
{
    extern const char etext[], edata[]; /* the linker's */

    return sql >= etext && sql < edata;
}

static guint
text_hash(gconstpointer p)
{
    const Text *text = p;
    size_t length = strlen(text->sql);
    uint64_t h = (uintptr_t)text->db ^ length;

    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = 0;
        memcpy(&word, text->sql + at, MIN(8, length - at));
        h = (h ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
        h ^= h >> 29;
    }
    return (guint)h;
}

static gboolean
text_equal(gconstpointer a, gconstpointer b)
{
    const Text *one = a, *other = b;

    return one->db == other->db && strcmp(one->sql, other->sql) == 0;
}

/* In memory nothing is ever damaged, and the checks are long; damage is for store_damage_test and
 * agent_journal_test. What reads the seal within a transaction makes it. */
static const char *
easier(sqlite3 *db, const char *sql)
{
    static const char seal[] = "SELECT (row_sum((SELECT user_version";

    if (strcmp(sql, "PRAGMA integrity_check(1)") == 0)
        return "SELECT 'ok'";
    if (strncmp(sql, seal, sizeof seal - 1) == 0 && sqlite3_get_autocommit(db))
        return "PRAGMA application_id";
    return sql;
}

static GPtrArray *
kept_of(const sqlite3 *db, const char *sql)
{
    const Text key = { db, (char *)sql };

    if (kept == NULL) {
        kept = g_hash_table_new(text_hash, text_equal);
        by_statement = g_hash_table_new(NULL, NULL);
    }
    GPtrArray *list = g_hash_table_lookup(kept, &key);
    if (list == NULL) {
        Text *own = g_new(Text, 1);
        *own = (Text){ db, g_strdup(sql) };
        list = g_ptr_array_new();
        g_hash_table_insert(kept, own, list);
    }
    return list;
}

static GPtrArray *
kept_of_constant(const sqlite3 *db, const char *sql)
{
    size_t slot = ((uintptr_t)sql ^ (uintptr_t)db >> 5) * UINT64_C(0x9E3779B97F4A7C15) >> 55;

    if (constants[slot].db != db || constants[slot].sql != sql) {
        constants[slot].list = kept_of(db, sql);
        constants[slot].db = db;
        constants[slot].sql = sql;
    }
    return constants[slot].list;
}

int REAL(sqlite3_prepare_v2)(sqlite3 *db, const char *sql, int length, sqlite3_stmt **s,
                             const char **tail);
int
WRAP(sqlite3_prepare_v2)(sqlite3 *db, const char *sql, int length, sqlite3_stmt **s,
                         const char **tail)
{
    const char *text = easier(db, sql);
    GPtrArray *list = is_constant(text) ? kept_of_constant(db, text) : kept_of(db, text);

    for (guint i = 0; i < list->len; i++) {
        Kept *one = list->pdata[i];
        if (one->used)
            continue;
        one->used = true;
        *s = one->s;
        return SQLITE_OK;
    }
    int code = REAL(sqlite3_prepare_v2)(db, text, length, s, tail);
    if (code != SQLITE_OK || *s == NULL)
        return code;
    Kept *fresh = g_new0(Kept, 1);
    *fresh = (Kept){ *s, true };
    g_ptr_array_add(list, fresh);
    g_hash_table_insert(by_statement, *s, fresh);
    return code;
}

int REAL(sqlite3_finalize)(sqlite3_stmt *s);
int
WRAP(sqlite3_finalize)(sqlite3_stmt *s)
{
    Kept *one = s != NULL ? g_hash_table_lookup(by_statement, s) : NULL;

    if (one == NULL)
        return REAL(sqlite3_finalize)(s);
    if (!one->used) /* nothing is written to it: its pages would have to be saved */
        return SQLITE_OK;
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    one->used = false;
    return SQLITE_OK;
}

static void
roll_back(sqlite3 *db)
{
    for (sqlite3_stmt *s = NULL; (s = sqlite3_next_stmt(db, s)) != NULL;)
        WRAP(sqlite3_finalize)(s);
    /* transactions of several statements make the tables, which happens before all schedules */
    g_assert(sqlite3_get_autocommit(db));
}

int
WRAP(sqlite3_close)(sqlite3 *db)
{
    if (db != NULL)
        roll_back(db);
    return SQLITE_OK;
}

/* A commit is a point before and, by the next one, after. What only reads is none. */
static void
before(sqlite3 *db, bool reads)
{
    if (!reads && fiber_inside())
        fiber_point("database writes");
    (void)db;
}

int REAL(sqlite3_step)(sqlite3_stmt *s);
int
WRAP(sqlite3_step)(sqlite3_stmt *s)
{
    if (!sqlite3_stmt_readonly(s)) {
        before(sqlite3_db_handle(s), false);
        int code = REAL(sqlite3_step)(s);
        if (fiber_inside())
            fiber_point("database has written");
        return code;
    }
    return REAL(sqlite3_step)(s);
}

/* What a connection keeps: so it is set once. */
static const char *const settings[] = { "PRAGMA trusted_schema", "PRAGMA journal_mode" };

/* A single statement, without an answer, that is not parsed anew each time */
static int
run_kept(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = NULL;
    int code = WRAP(sqlite3_prepare_v2)(db, sql, -1, &s, NULL);

    while (code == SQLITE_OK || code == SQLITE_ROW)
        code = REAL(sqlite3_step)(s);
    WRAP(sqlite3_finalize)(s);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

int
WRAP(sqlite3_exec)(sqlite3 *db, const char *sql, int (*each)(void *, int, char **, char **),
                   void *data, char **message)
{
    Database *database = database_of(db);

    before(db, strncmp(sql, "PRAGMA", 6) == 0 || strncmp(sql, "CREATE", 6) == 0);
    for (size_t i = 0; database != NULL && i < G_N_ELEMENTS(settings); i++) {
        if (!g_str_has_prefix(sql, settings[i]))
            continue;
        if ((database->set & 1U << i) != 0)
            return SQLITE_OK;
        database->set |= 1U << i;
    }
    if (strncmp(sql, "DELETE", 6) == 0 && each == NULL && strchr(sql, ';') == strrchr(sql, ';'))
        return run_kept(db, sql);
    return REAL(sqlite3_exec)(db, sql, each, data, message);
}

void
sqlite_process_died(unsigned process)
{
    for (guint i = 0; databases != NULL && i < databases->len; i++) {
        Database *database = databases->pdata[i];
        if (database->process == process)
            roll_back(database->db);
    }
}

/* As new: the tables stay, so that they need not be made for each schedule. */
static void
empty(const Database *database)
{
    g_autoptr(GPtrArray) tables = g_ptr_array_new_with_free_func(g_free);
    sqlite3_stmt *s = NULL;

    roll_back(database->db);
    WRAP(sqlite3_prepare_v2)
    (database->db, "SELECT name FROM sqlite_master WHERE type='table'", -1, &s, NULL);
    while (REAL(sqlite3_step)(s) == SQLITE_ROW)
        g_ptr_array_add(tables, g_strdup((const char *)sqlite3_column_text(s, 0)));
    WRAP(sqlite3_finalize)(s);
    /* twice: a trigger of one table may have filled another */
    for (guint k = 0; k < 2 * tables->len; k++) {
        g_autofree char *sql =
            g_strdup_printf("DELETE FROM %s", (char *)tables->pdata[k % tables->len]);
        REAL(sqlite3_exec)(database->db, sql, NULL, NULL, NULL);
    }
}

void
sqlite_lose(const char *file)
{
    for (guint i = 0; databases != NULL && i < databases->len; i++)
        if (strcmp(((Database *)databases->pdata[i])->file, file) == 0)
            empty(databases->pdata[i]);
}

void
sqlite_reset(void)
{
    for (guint i = 0; databases != NULL && i < databases->len; i++)
        empty(databases->pdata[i]);
}
