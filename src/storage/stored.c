/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/stored.h"

#include "base/text.h"
#include "storage/files.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

size_t stored_keep_least = (size_t)16 << 10;
#define KEEP_MOST ((size_t)1 << 20) /* text of all together; the VMs take about as much again */

/* A text that was understood, and what it says. */
typedef struct StoredText {
    gatomicrefcount users;
    char *file, *text;
    size_t length;
    Vm *vm;
} StoredText;

/* Which file it is. Whoever writes a manifest makes a new one. */
typedef struct {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec written;
} Stamp;

struct StoredMemory {
    GMutex lock;
    GQueue kept;        /* of StoredText, the one used last first */
    size_t bytes;       /* of text */
    GHashTable *synced; /* file → Stamp */
};

static void
text_leave(void *p)
{
    StoredText *text = p;

    if (!g_atomic_ref_count_dec(&text->users))
        return;
    g_free(text->file);
    g_free(text->text);
    vm_free(text->vm);
    g_free(text);
}

static StoredText *
text_use(StoredText *text)
{
    g_atomic_ref_count_inc(&text->users);
    return text;
}

/* One user: the caller. */
static StoredText *
text_new(const Domain *domain, const char *file, char *take_text, size_t length, Vm *take_vm)
{
    StoredText *text = g_new0(StoredText, 1);

    g_free(take_vm->home);
    take_vm->home = g_strdup(domain->path);
    g_atomic_ref_count_init(&text->users);
    text->file = g_strdup(file);
    text->text = take_text;
    text->length = length;
    text->vm = take_vm;
    return text;
}

void
stored_clear(Stored *stored)
{
    g_clear_pointer(&stored->text, text_leave);
    stored->vm = NULL;
}

Vm *
stored_share_vm(Stored *stored)
{
    Vm *vm = vm_share(stored->text->vm);

    stored_clear(stored);
    return vm;
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
    g_queue_clear_full(&memory->kept, text_leave);
    g_hash_table_unref(memory->synced);
    g_mutex_clear(&memory->lock);
    g_free(memory);
}

/* ---- texts; the lock is held */

static void
drop(StoredMemory *memory, GList *link)
{
    StoredText *text = link->data;

    memory->bytes -= text->length;
    g_queue_delete_link(&memory->kept, link);
    text_leave(text);
}

static GList *
find(StoredMemory *memory, const char *file)
{
    for (GList *link = memory->kept.head; link != NULL; link = link->next)
        if (g_str_equal(((const StoredText *)link->data)->file, file))
            return link;
    return NULL;
}

/* ---- the same, for the reader */

static bool
is_kept(const Domain *domain, size_t length)
{
    return domain->memory != NULL && length >= stored_keep_least && length <= KEEP_MOST;
}

/* What exactly this text says; NULL = not known. */
static StoredText *
recall(const Domain *domain, const char *file, const char *text, size_t length)
{
    if (!is_kept(domain, length))
        return NULL;
    WITH_LOCK(&domain->memory->lock);
    GList *link = find(domain->memory, file);
    StoredText *known = link != NULL ? link->data : NULL;

    if (known == NULL)
        return NULL;
    if (known->length != length || memcmp(known->text, text, length) != 0) {
        drop(domain->memory, link);
        return NULL;
    }
    g_queue_unlink(&domain->memory->kept, link);
    g_queue_push_head_link(&domain->memory->kept, link);
    return text_use(known);
}

static void
keep(const Domain *domain, StoredText *text)
{
    StoredMemory *memory = domain->memory;

    if (!is_kept(domain, text->length))
        return;
    WITH_LOCK(&memory->lock);
    GList *old = find(memory, text->file); /* or another thread was as quick */

    if (old != NULL)
        drop(memory, old);
    g_queue_push_head(&memory->kept, text_use(text));
    memory->bytes += text->length;
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
check(const char *file, const json_t *json, GError **error)
{
    const json_t *vm = json_object_get(json, "vm");
    const char *wanted = json_text(json, "checksum");
    int64_t format = json_number(json, "livemerge");
    g_autofree char *found = NULL;

    if (format > MANIFEST_FORMAT)
        return error_set(error, ERR_REFUSED,
                         "the manifest %s has format %" G_GINT64_FORMAT
                         ", this version knows formats up to %d; use the version that wrote it",
                         file, format, MANIFEST_FORMAT);
    if (format != MANIFEST_FORMAT || wanted == NULL || !json_is_object(vm))
        return error_set(error, ERR_CORRUPT,
                         "the manifest %s is damaged (parts of it are missing): " HELP, file);
    found = stored_checksum(vm);
    if (!g_str_equal(found, wanted) ||
        json_number(json, "generation") != json_number(vm, "generation"))
        return error_set(
            error, ERR_CORRUPT,
            "the manifest %s is damaged (its checksum is %s, its content has %s): " HELP, file,
            wanted, found);
    return true;
}

static Vm *
parse(const char *file, const char *text, size_t length, GError **error)
{
    json_error_t why;
    g_autoptr(json_t) json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);

    if (json == NULL) {
        error_set(error, ERR_CORRUPT, "the manifest %s is damaged (line %d: %s): " HELP, file,
                  why.line, why.text);
        return NULL;
    }
    if (!check(file, json, error))
        return NULL;
    Vm *vm = vm_from_json(json_object_get(json, "vm"), error);
    if (vm == NULL)
        g_prefix_error(error, "the manifest %s: ", file);
    return vm;
}

bool
stored_read(const Domain *domain, const char *file, Stored *ret_stored, GError **error)
{
    g_autofree char *text = NULL;
    size_t length = 0;

    if (!file_read(file, &text, &length, error))
        return false;
    if (text == NULL)
        return true;
    StoredText *known = recall(domain, file, text, length);
    if (known == NULL) {
        Vm *vm = parse(file, text, length, error);
        if (vm == NULL)
            return false;
        known = text_new(domain, file, g_steal_pointer(&text), length, vm);
        keep(domain, known);
    }
    *ret_stored = (Stored){ known->vm, known };
    return true;
}

void
stored_note(const Domain *domain, const char *file, const char *text, const json_t *vm)
{
    size_t length = strlen(text);
    Vm *says = is_kept(domain, length) ? vm_from_json(vm, NULL) : NULL;

    if (says == NULL)
        return;
    StoredText *known = text_new(domain, file, g_strdup(text), length, says);
    keep(domain, known);
    text_leave(known);
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
