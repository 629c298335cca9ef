/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/stored.h"

#include "base/text.h"
#include "storage/files.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

size_t stored_keep_least = (size_t)16 << 10;
#define KEEP_MOST ((size_t)1 << 20) /* text of all together; parsed it takes four times that */

/* A text that was understood, and what it says. */
typedef struct {
    char *file, *text;
    size_t length;
    json_t *json;
} Kept;

/* Which file it is. Whoever writes a manifest makes a new one. */
typedef struct {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec written;
} Stamp;

struct StoredMemory {
    GMutex lock;
    GQueue kept;        /* of Kept, the one used last first */
    size_t bytes;       /* of text */
    GHashTable *synced; /* file → Stamp */
};

static void
kept_free(void *p)
{
    Kept *kept = p;

    g_free(kept->file);
    g_free(kept->text);
    json_decref(kept->json);
    g_free(kept);
}

StoredMemory *
stored_memory_new(void)
{
    StoredMemory *memory = g_new0(StoredMemory, 1);

    g_mutex_init(&memory->lock);
    g_queue_init(&memory->kept);
    memory->synced = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return memory;
}

void
stored_memory_free(StoredMemory *memory)
{
    if (memory == NULL)
        return;
    g_queue_clear_full(&memory->kept, kept_free);
    g_hash_table_unref(memory->synced);
    g_mutex_clear(&memory->lock);
    g_free(memory);
}

/* ---- texts; the lock is held */

static void
drop(StoredMemory *memory, GList *link)
{
    Kept *kept = link->data;

    memory->bytes -= kept->length;
    g_queue_delete_link(&memory->kept, link);
    kept_free(kept);
}

static GList *
find(StoredMemory *memory, const char *file)
{
    for (GList *link = memory->kept.head; link != NULL; link = link->next)
        if (g_str_equal(((const Kept *)link->data)->file, file))
            return link;
    return NULL;
}

/* ---- the same, for the reader */

/* What exactly this text says; NULL = not known. */
static json_t *
recall(const Domain *domain, const char *file, const char *text, size_t length)
{
    if (domain->memory == NULL || length < stored_keep_least)
        return NULL;
    WITH_LOCK(&domain->memory->lock);
    GList *link = find(domain->memory, file);
    Kept *kept = link != NULL ? link->data : NULL;

    if (kept == NULL)
        return NULL;
    if (kept->length != length || memcmp(kept->text, text, length) != 0) {
        drop(domain->memory, link);
        return NULL;
    }
    g_queue_unlink(&domain->memory->kept, link);
    g_queue_push_head_link(&domain->memory->kept, link);
    return json_incref(kept->json); /* jansson counts atomically */
}

static void
keep(const Domain *domain, const char *file, char **take_text, size_t length, json_t *json)
{
    StoredMemory *memory = domain->memory;

    if (memory == NULL || length < stored_keep_least || length > KEEP_MOST)
        return;
    WITH_LOCK(&memory->lock);
    GList *old = find(memory, file); /* another thread was as quick */
    Kept *kept = g_new0(Kept, 1);

    if (old != NULL)
        drop(memory, old);
    *kept = (Kept){ g_strdup(file), g_steal_pointer(take_text), length, json_incref(json) };
    g_queue_push_head(&memory->kept, kept);
    memory->bytes += length;
    while (memory->bytes > KEEP_MOST)
        drop(memory, memory->kept.tail);
}

/* ---- reading */

char *
stored_checksum(const json_t *vm)
{
    autolibc char *text = json_dumps(vm, JSON_COMPACT | JSON_SORT_KEYS);

    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}

#define HELP                                                                                     \
    "it is not overwritten. Put it back from a backup, or let the doctor keep a copy and write " \
    "it "                                                                                        \
    "anew from the volumes (livemerge doctor VM --fix --class bad-manifest)"

static bool
check(const char *file, const Stored *stored, GError **error)
{
    const char *wanted = json_text(stored->json, "checksum");
    int64_t format = json_number(stored->json, "livemerge");
    g_autofree char *found = NULL;

    if (format > MANIFEST_FORMAT)
        return error_set(error, ERR_REFUSED,
                         "the manifest %s has format %" G_GINT64_FORMAT
                         ", this version knows formats up to %d; use the version that wrote it",
                         file, format, MANIFEST_FORMAT);
    if (format != MANIFEST_FORMAT || wanted == NULL || !json_is_object(stored->vm))
        return error_set(error, ERR_CORRUPT,
                         "the manifest %s is damaged (parts of it are missing): " HELP, file);
    found = stored_checksum(stored->vm);
    if (!g_str_equal(found, wanted) ||
        json_number(stored->json, "generation") != stored->generation)
        return error_set(
            error, ERR_CORRUPT,
            "the manifest %s is damaged (its checksum is %s, its content has %s): " HELP, file,
            wanted, found);
    return true;
}

static void
stored_set(Stored *stored, json_t *take_json)
{
    stored->json = take_json;
    stored->vm = json_object_get(take_json, "vm");
    stored->generation = json_number(stored->vm, "generation");
}

bool
stored_read(const Domain *domain, const char *file, Stored *ret_stored, GError **error)
{
    g_auto(Stored) stored = { 0 };
    g_autofree char *text = NULL;
    size_t length = 0;
    json_error_t why;

    if (!file_read(file, &text, &length, error))
        return false;
    if (text == NULL)
        return true;
    json_t *known = recall(domain, file, text, length);
    if (known != NULL) {
        stored_set(ret_stored, known);
        return true;
    }
    stored_set(&stored, json_loadb(text, length, JSON_REJECT_DUPLICATES, &why));
    if (stored.json == NULL)
        return error_set(error, ERR_CORRUPT, "the manifest %s is damaged (line %d: %s): " HELP,
                         file, why.line, why.text);
    if (!check(file, &stored, error))
        return false;
    keep(domain, file, &text, length, stored.json);
    *ret_stored = stored;
    stored.json = NULL; /* handed over */
    return true;
}

/* ---- on disk */

static Stamp
stamp_of(const struct stat *st)
{
    return (Stamp){ st->st_dev, st->st_ino, st->st_size, st->st_mtim };
}

static bool
was_synced(StoredMemory *memory, const char *file, const Stamp *stamp)
{
    if (memory == NULL)
        return false;
    WITH_LOCK(&memory->lock);
    const Stamp *known = g_hash_table_lookup(memory->synced, file);

    return known != NULL && known->device == stamp->device && known->inode == stamp->inode &&
           known->size == stamp->size && known->written.tv_sec == stamp->written.tv_sec &&
           known->written.tv_nsec == stamp->written.tv_nsec;
}

static void
note_synced(StoredMemory *memory, const char *file, const Stamp *stamp)
{
    if (memory == NULL)
        return;
    WITH_LOCK(&memory->lock);

    g_hash_table_replace(memory->synced, g_strdup(file), g_memdup2(stamp, sizeof *stamp));
}

bool
stored_sync(const Domain *domain, const char *file, GError **error)
{
    autofd int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, "syncing %s", file);
    Stamp stamp = stamp_of(&st);
    if (was_synced(domain->memory, file, &stamp))
        return true;
    if (fsync(fd) < 0)
        return error_set_errno(error, "syncing %s", file);
    if (!dir_sync_of(file, error))
        return false;
    note_synced(domain->memory, file, &stamp);
    return true;
}

void
stored_is_synced(const Domain *domain, const char *file)
{
    struct stat st;

    if (lstat(file, &st) < 0)
        return;
    Stamp stamp = stamp_of(&st);
    note_synced(domain->memory, file, &stamp);
}
