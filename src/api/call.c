/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What handlers share: parameters, lists, jobs.
 */
#include "api/access.h"
#include "api/media.h"
#include "api/routes.h"
#include "api/search.h"

#include <string.h>

const char *
call_query(const Call *call, const char *name)
{
    const char *value = g_hash_table_lookup(call->query, name);

    return value != NULL && *value != '\0' ? value : NULL;
}

bool
call_number(const Call *call, const char *name, int64_t low, int64_t high, int64_t fallback,
            int64_t *ret_number, GError **error)
{
    const char *text = call_query(call, name);
    gint64 number = fallback;

    if (text != NULL && !g_ascii_string_to_signed(text, 10, low, high, &number, NULL))
        return error_set(error, ERR_INVALID,
                         "parameter '%s': '%.40s' is not a whole number from %" G_GINT64_FORMAT
                         " to %" G_GINT64_FORMAT,
                         name, text, (gint64)low, (gint64)high);
    *ret_number = number;
    return true;
}

bool
call_wants_operations(const Call *call)
{
    return flag_from_text(g_hash_table_lookup(call->query, "operations"), false);
}

bool
reply_list(Call *call, Reply *reply, const char *key, json_t *members, GError **error)
{
    return reply_list_beside(call, reply, key, members, json_array(), error);
}

bool
reply_list_beside(Call *call, Reply *reply, const char *key, json_t *members, json_t *beside,
                  GError **error)
{
    g_autoptr(json_t) owned = members;
    g_autoptr(json_t) owned_beside = beside;
    const char *text = call_query(call, "search");
    bool exact = flag_from_text(g_hash_table_lookup(call->query, "case_sensitive"), false);
    int64_t max = -1;

    if (!call_number(call, "max", G_MININT32, G_MAXINT32, -1, &max, error))
        return false;
    g_autoptr(Search) search = search_parse(key, text != NULL ? text : "", exact, error);
    if (search == NULL)
        return false;
    for (size_t i = json_array_size(owned); i-- > 0;) {
        if (access_sees(call->who, key, json_array_get(owned, i)))
            continue;
        json_array_remove(owned, i);
        json_array_remove(owned_beside, i);
    }
    reply->body = doc_list(key, search_apply(search, owned, owned_beside, max));
    return true;
}

bool
reply_part(Call *call, Reply *reply, const char *key, json_t *members, GError **error)
{
    g_autoptr(json_t) owned = members;
    int64_t max = -1;

    if (!call_number(call, "max", G_MININT32, G_MAXINT32, -1, &max, error))
        return false;
    while (max >= 0 && (int64_t)json_array_size(owned) > max)
        json_array_remove(owned, json_array_size(owned) - 1);
    reply->body = doc_list(key, g_steal_pointer(&owned));
    return true;
}

void
reply_job(Reply *reply, const char *job_id)
{
    reply->body = json_object();
    doc_ref(reply->body, "job", job_id, "/jobs/%s", job_id);
    doc_text(reply->body, "status", "complete");
    reply->job_id = g_strdup(job_id);
}

/* Mostly only "false" asks for it: absent or true, the answer may come before the end. */
bool
call_wants_to_wait(const Call *call, bool waits)
{
    const char *query = g_hash_table_lookup(call->query, "async");
    bool async = flag_from_text(query, !waits);

    if (call->expect != NULL && strstr(call->expect, "201-created") != NULL)
        return true;
    if (query != NULL && !flag_from_text(query, true))
        return true;
    return !body_flag(call->body, "async", &async, NULL) || !async;
}

/* The object that was made, as it is now. */
static bool
read_again(const Call *call, Reply *reply, GError **error)
{
    const char *href = json_text(reply->body, "href"), *root;
    json_t *now = NULL;

    if (href == NULL)
        return true;
    g_autofree char *path = g_strdup(href + strlen(API_ROOT));
    if (!api_read(call, path, &root, &now, error))
        return false;
    json_decref(reply->body);
    reply->body = now;
    return true;
}

bool
reply_when_ended(const Call *call, Reply *reply, const char *method, GError **error)
{
    bool done = false;

    if (!manager_job_await(call->manager, reply->job_id, 0, &done, error))
        return false;
    if (reply->told)
        return true;
    if (done)
        return read_again(call, reply, error);
    if (json_text(reply->body, "href") == NULL) /* an action, not an object with a status */
        json_object_set_new(reply->body, "status", json_string("in_progress"));
    if (g_str_equal(method, "POST")) /* of others clients take anything but 200 for a failure */
        reply->status = 202;
    return true;
}
