/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reading other resources inside of a request, and follow=: what a document links to, or refers to,
 * is put in its place.
 *
 *     follow=disk_attachments.disk,cluster
 *
 * A name is that of a link ("rel"), of a member with an href, or of a collection of such members;
 * names are compared in lower case and without "_". One that no document of this kind can have is
 * an error.
 */
#include "api/access.h"

#include <string.h>

#define MOST_NAMES 8 /* of one path */
/* Of one request. A value takes about 150 bytes until it is sent: collections that are followed
 * from each other's members grow by multiplication. */
#define MOST_READS 10000
#define MOST_VALUES 600000

/* ---- reading ---- */

char **
path_segments(const char *path)
{
    g_auto(GStrv) words = g_strsplit(path, "/", -1);
    g_autoptr(GPtrArray) segments = g_ptr_array_new_with_free_func(g_free);

    for (char **word = words; *word != NULL; word++)
        if (**word != '\0')
            g_ptr_array_add(segments, g_strdup(*word));
    g_ptr_array_add(segments, NULL);
    return (char **)g_ptr_array_steal(segments, NULL);
}

bool
api_read(const Call *from, const char *path, const char **ret_root, json_t **ret_body,
         GError **error)
{
    g_auto(GStrv) segments = path_segments(path);
    g_autoptr(GHashTable) query = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(json_t) nothing = json_object();
    const char *ids[2] = { NULL, NULL };
    const Route *route = route_find("GET", segments, ids);
    Reply reply = { .status = 200 };
    Call call = *from;

    if (route == NULL)
        return error_set(error, ERR_NOT_FOUND, "nothing is at %s%s", API_ROOT, path);
    if (!access_check(from->manager, from->who, route, ids, error))
        return false;
    call.path = path;
    call.id = ids[0];
    call.sub_id = ids[1];
    call.query = query;
    call.body = nothing;
    call.in_body = false;
    call.wants_stream = false;
    call.last_event_id = NULL;
    if (!route->handler(&call, &reply, error)) {
        json_decref(reply.body);
        return false;
    }
    g_free(reply.job_id);
    *ret_root = reply.root != NULL ? reply.root : route->root;
    *ret_body = reply.body;
    return true;
}

bool
call_parent(const Call *call, GError **error)
{
    const char *end = strrchr(call->path, '/');
    g_autofree char *parent = g_strndup(call->path, end != NULL ? (gsize)(end - call->path) : 0);
    g_autoptr(json_t) doc = NULL;
    const char *root;

    return api_read(call, parent, &root, &doc, error);
}

bool
get_nothing(Call *call, Reply *reply, GError **error)
{
    if (!call_parent(call, error))
        return false;
    reply->body = json_object();
    return true;
}

/* ---- following ---- */

typedef struct {
    const Call *call;
    unsigned reads;
    size_t values; /* of all that was read */
} Follow;

static char *
squeezed(const char *name)
{
    g_autoptr(GString) text = g_string_new(name);

    g_string_replace(text, "_", "", 0);
    g_string_ascii_down(text);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static bool
names_match(const char *name, const char *wanted)
{
    g_autofree char *text = squeezed(name);

    return g_str_equal(text, wanted);
}

/* Not every document has them, so that their absence says nothing. */
static bool
may_be_absent(const char *wanted)
{
    static const char *const names[] = { "host",       "vm",
                                         "vms",        "disks",
                                         "nics",       "cdroms",
                                         "parent",     "snapshot",
                                         "snapshots",  "job",
                                         "user",       "owner",
                                         "cluster",    "storagedomain",
                                         "disk",       "storagedomains",
                                         "datacenter", "diskprofile",
                                         NULL };

    return g_strv_contains(names, wanted);
}

static size_t
count_values(const json_t *value)
{
    size_t count = 1, i;
    const char *key;
    json_t *member;

    json_array_foreach ((json_t *)value, i, member)
        count += count_values(member);
    json_object_foreach ((json_t *)value, key, member)
        count += count_values(member);
    return count;
}

static bool
read_href(Follow *f, const char *href, const char **ret_root, json_t **ret_body, GError **error)
{
    if (!g_str_has_prefix(href, API_ROOT "/"))
        return error_set(error, ERR_INVALID, "follow: '%s' cannot be followed", href);
    if (f->reads++ >= MOST_READS || f->values >= MOST_VALUES)
        return error_set(
            error, ERR_INVALID,
            "follow: it leads to more than %d other resources, or to documents of more "
            "than %d values; ask for less at once",
            MOST_READS, MOST_VALUES);
    if (!api_read(f->call, href + strlen(API_ROOT), ret_root, ret_body, error))
        return false;
    f->values += count_values(*ret_body);
    return true;
}

/* What it leads to has gone in the meantime: the reference stays as it is. */
static bool
is_gone(GError **error)
{
    if (!g_error_matches(*error, ERR, ERR_NOT_FOUND))
        return false;
    g_clear_error(error);
    return true;
}

static bool follow_names(Follow *f, json_t *doc, char *const *names, bool *ret_known,
                         GError **error);

/* The members of a collection, or the one object. */
static bool
follow_rest(Follow *f, json_t *body, char *const *names, GError **error)
{
    json_t *first = json_object_iter_value(json_object_iter(body)), *member;
    bool known = false, collection = json_object_size(body) == 1 && json_is_array(first);
    size_t i;

    if (*names == NULL || json_object_size(body) == 0)
        return true;
    if (!collection) {
        if (!follow_names(f, body, names, &known, error))
            return false;
    } else {
        json_array_foreach (first, i, member) {
            if (!follow_names(f, member, names, &known, error))
                return false;
        }
        known = known || json_array_size(first) == 0;
    }
    return known || may_be_absent(*names) ||
           error_set(error, ERR_INVALID, "follow: there is no link '%s' here", *names);
}

static bool
follow_link(Follow *f, json_t *doc, char *const *names, bool *ret_known, GError **error)
{
    json_t *link;
    size_t i;

    json_array_foreach (json_object_get(doc, "link"), i, link) {
        const char *root = NULL;
        json_t *body = NULL;
        g_autoptr(GError) why = NULL;
        if (!names_match(json_text(link, "rel"), *names))
            continue;
        *ret_known = true;
        if (!read_href(f, json_text(link, "href"), &root, &body, &why)) {
            if (is_gone(&why))
                return true;
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        json_object_set_new(doc, root, body);
        return follow_rest(f, body, names + 1, error);
    }
    return true;
}

static bool
follow_reference(Follow *f, json_t *holder, const char *key, json_t *reference, char *const *rest,
                 GError **error)
{
    const char *root;
    g_autoptr(json_t) body = NULL;
    g_autoptr(GError) why = NULL;

    if (!read_href(f, json_text(reference, "href"), &root, &body, &why)) {
        if (is_gone(&why))
            return true;
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    json_object_clear(reference);
    json_object_update(reference, body);
    return follow_rest(f, reference, rest, error);
}

/* {"storage_domain": [{"href"}, ...]} */
static json_t *
references_in(json_t *value)
{
    json_t *first = json_object_iter_value(json_object_iter(value));
    bool list = json_object_size(value) == 1 && json_is_array(first);

    return list && json_text(json_array_get(first, 0), "href") != NULL ? first : NULL;
}

static bool
follow_member(Follow *f, json_t *doc, char *const *names, bool *ret_known, GError **error)
{
    const char *key;
    json_t *value, *member;
    size_t i;

    json_object_foreach (doc, key, value) {
        if (!names_match(key, *names) || !json_is_object(value))
            continue;
        *ret_known = true;
        if (json_text(value, "href") != NULL)
            return follow_reference(f, doc, key, value, names + 1, error);
        json_array_foreach (references_in(value), i, member) {
            if (!follow_reference(f, value, key, member, names + 1, error))
                return false;
        }
        return true;
    }
    return true;
}

static bool
follow_names(Follow *f, json_t *doc, char *const *names, bool *ret_known, GError **error)
{
    bool linked = false;

    if (!json_is_object(doc))
        return true;
    if (!follow_link(f, doc, names, &linked, error))
        return false;
    *ret_known = *ret_known || linked;
    return linked || follow_member(f, doc, names, ret_known, error);
}

bool
follow_all(const Call *call, json_t *body, GError **error)
{
    const char *text = call_query(call, "follow");
    g_auto(GStrv) paths = g_strsplit(text != NULL ? text : "", ",", -1);
    Follow follow = { .call = call };

    for (char **path = paths; *path != NULL; path++) {
        g_autofree char *plain = squeezed(g_strstrip(*path));
        g_auto(GStrv) names = g_strsplit(plain, ".", -1);
        if (*plain == '\0')
            continue;
        if (g_strv_length(names) > MOST_NAMES || g_strv_contains((const char *const *)names, ""))
            return error_set(error, ERR_INVALID, "follow: '%.60s' is no path of names", *path);
        if (!follow_rest(&follow, body, names, error))
            return false;
    }
    return true;
}
