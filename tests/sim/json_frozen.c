/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json_tree.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Larger than what heap_collect() looks through for addresses */
#define ROOM ((size_t)128 << 20)
#define LONGEST ((size_t)256 << 10)
#define GROWS 64 /* a tree is at most so many times as long as its text: of [[],[],[]] forty */
#define TEXTS 256
#define DUMPS 64
#define SHORTS 512
#define SHORT 128

typedef struct {
    uint64_t hash;
    size_t length, flags;
    const char *text; /* NULL = none */
    json_t *json;
} Text;

typedef struct {
    const json_t *frozen; /* NULL = none */
    size_t flags, bytes;
    const char *text;
} Dump;

bool json_freezes;
static char *place, *next; /* place: of all frozen trees, texts and dumps; NULL = none are kept */
static Text texts[TEXTS];
static Dump dumps[DUMPS];
static JsonText *shorts[SHORTS];

void
json_freeze_texts(void)
{
    place = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    g_assert(place != MAP_FAILED);
    madvise(place, ROOM, MADV_HUGEPAGE);
    next = place;
    json_names = json_frozen_room(JSON_NAMES * sizeof *json_names);
}

void *
json_frozen_room(size_t bytes)
{
    char *at = next;

    next += (bytes + 15) / 16 * 16;
    g_assert(next <= place + ROOM);
    return at;
}

bool
json_is_frozen(const void *at)
{
    return (const char *)at >= place && (const char *)at < next;
}

static bool
has_room(size_t bytes)
{
    return place != NULL && bytes < (size_t)(place + ROOM - next);
}

/* ---- texts ---- */

static inline uint64_t
stir(uint64_t h, const char *text)
{
    uint64_t word;

    memcpy(&word, text, sizeof word);
    h = (h ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
    return h ^ h >> 29;
}

static uint64_t
hash_of(const char *text, size_t length, size_t flags)
{
    uint64_t h = length ^ flags << 32, other = 0;
    size_t at = 0;

    for (; at + 16 <= length; at += 16) { /* two that do not wait for each other */
        h = stir(h, text + at);
        other = stir(other, text + at + 8);
    }
    char rest[16] = "";
    json_copy_few(rest, text + at, length % 16);
    h = stir(h, rest) ^ stir(other, rest + 8);
    return h ^ h >> 32;
}

static uint64_t last_hash; /* of the text that json_recall() did not know */

json_t *
json_recall(const char *text, size_t length, size_t flags)
{
    if (place == NULL || length > LONGEST)
        return NULL;
    last_hash = hash_of(text, length, flags);
    const Text *known = &texts[last_hash % TEXTS];
    if (known->text == NULL || known->hash != last_hash || known->length != length ||
        known->flags != flags || memcmp(known->text, text, length) != 0)
        return NULL;
    return json_like(known->json);
}

bool
json_freeze_begin(size_t length)
{
    json_freezes = length <= LONGEST && has_room((GROWS + 1) * length + 4096);
    return json_freezes;
}

json_t *
json_freeze_end(const char *text, size_t length, size_t flags, json_t *json)
{
    json_freezes = false;
    if (json == NULL)
        return NULL;
    char *copy = json_frozen_room(length + 1);
    memcpy(copy, text, length);
    texts[last_hash % TEXTS] = (Text){ last_hash, length, flags, copy, json };
    return json_like(json);
}

json_t *
json_frozen_text(const char *text, size_t length, bool plain)
{
    if (place == NULL || length > SHORT || json_freezes)
        return NULL;
    JsonText **known = &shorts[hash_of(text, length, 0) % SHORTS];
    if (*known != NULL && (*known)->length == length && memcmp((*known)->text, text, length) == 0)
        return &(*known)->json;
    if (!has_room(sizeof(JsonText) + SHORT + 16))
        return NULL;
    json_freezes = true;
    *known = (JsonText *)json_text_new(text, length, plain);
    json_freezes = false;
    return &(*known)->json;
}

/* ---- what is like a frozen one ---- */

static json_t *
like_object(const JsonObject *frozen)
{
    JsonObject *object = malloc(sizeof *object);

    g_assert(object != NULL);
    *object = (JsonObject){
        .json = { JSON_OBJECT, 1 }, .size = frozen->size, .like = frozen, .slots = frozen->slots
    };
    return &object->json;
}

static json_t *
like_array(const JsonArray *frozen)
{
    JsonArray *array = malloc(sizeof *array);

    g_assert(array != NULL);
    *array = (JsonArray){ .json = { JSON_ARRAY, 1 }, .size = frozen->size, .like = frozen };
    return &array->json;
}

json_t *
json_like(const json_t *frozen)
{
    if (json_is_object(frozen))
        return like_object((const JsonObject *)frozen);
    if (json_is_array(frozen))
        return like_array((const JsonArray *)frozen);
    return (json_t *)frozen; /* it cannot be changed */
}

void
json_melt_object(JsonObject *object)
{
    const JsonObject *frozen = object->like;
    json_t **own = object->own;

    if (frozen == NULL)
        return;
    object->like = NULL;
    object->own = NULL;
    object->size = object->slots = 0;
    for (const JsonMember *m = frozen->first; m != NULL; m = m->next) {
        bool is_own = own != NULL && json_is_compound(m->value) && own[m->slot] != NULL;
        JsonName name = json_name_of(m);
        json_append_member(&object->json, &name, is_own ? own[m->slot] : json_like(m->value));
    }
    free(own);
}

void
json_melt_array(JsonArray *array)
{
    const JsonArray *frozen = array->like;
    json_t **own = array->items;

    if (frozen == NULL)
        return;
    array->like = NULL;
    array->room = array->size;
    array->items = malloc(MAX(array->room, 1) * sizeof *array->items);
    g_assert(array->items != NULL);
    for (size_t i = 0; i < array->size; i++)
        array->items[i] = own != NULL && own[i] != NULL ? own[i] : json_like(frozen->items[i]);
    free(own);
}

/* ---- what was written ---- */

static Dump *
dump_of(const json_t *frozen, size_t flags)
{
    return &dumps[((uintptr_t)frozen / 16 + flags) % DUMPS];
}

const char *
json_recall_dump(const json_t *frozen, size_t flags, size_t *ret_bytes)
{
    const Dump *known = dump_of(frozen, flags);

    if (known->frozen != frozen || known->flags != flags)
        return NULL;
    *ret_bytes = known->bytes;
    return known->text;
}

void
json_keep_dump(const json_t *frozen, size_t flags, const char *text, size_t bytes)
{
    if (!has_room(bytes + 16))
        return;
    char *copy = json_frozen_room(bytes);
    memcpy(copy, text, bytes);
    *dump_of(frozen, flags) = (Dump){ frozen, flags, bytes, copy };
}
