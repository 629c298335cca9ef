/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Events, newest first as oVirt has them; oldest first for one who follows them (from and wait).
 */
#include "api/routes.h"

#include "api/search.h"

#include <string.h>

#define LONGEST_WAIT_S 60
#define WAIT_SLICE_MS 200

/* "5 nagios" of one that another program has reported. */
static void
put_origin(json_t *doc, const EventRow *row)
{
    bool external = row->code >= 9801 && row->code <= 9804 && row->about != NULL;
    char *rest = NULL;
    gint64 custom_id = external ? g_ascii_strtoll(row->about, &rest, 10) : -1;

    json_object_set_new(doc, "custom_id", json_integer(custom_id));
    doc_text(doc, "origin", external ? rest + strspn(rest, " ") : "livemerge");
}

json_t *
event_document(const EventRow *row)
{
    g_autofree char *id = g_strdup_printf("%" G_GINT64_FORMAT, (gint64)row->id);
    json_t *doc = doc_new(id, "/events/%s", id);

    doc_text(doc, "description", row->text);
    json_object_set_new(doc, "code", json_integer(row->code));
    doc_text(doc, "correlation_id", row->correlation_id);
    put_origin(doc, row);
    json_object_set_new(doc, "flood_rate", json_integer(0));
    json_object_set_new(doc, "index", json_integer((json_int_t)row->id));
    doc_text(doc, "severity", row->severity);
    doc_time(doc, "time", row->time);
    if (row->user != NULL)
        json_object_set_new(doc, "user", json_pack("{s:s}", "name", row->user));
    if (row->vm_id != NULL) {
        doc_ref(doc, "vm", row->vm_id, "/vms/%s", row->vm_id);
        doc_text(json_object_get(doc, "vm"), "name", row->vm_name);
    }
    if (row->snapshot_id != NULL && row->vm_id != NULL)
        doc_ref(doc, "snapshot", row->snapshot_id, "/vms/%s/snapshots/%s", row->vm_id,
                row->snapshot_id);
    if (row->job_id != NULL)
        doc_ref(doc, "job", row->job_id, "/jobs/%s", row->job_id);
    return doc;
}

static void
wait_for_event(const Call *call, int64_t from, int64_t wait_s)
{
    for (int64_t ms = 0; ms < wait_s * 1000 && g_atomic_int_get(call->stopping) == 0;
         ms += WAIT_SLICE_MS)
        if (manager_event_wait(call->manager, from, WAIT_SLICE_MS))
            return;
}

/* The header is that of a client that comes again, and newer than what its URL says. */
static bool
read_place(const Call *call, int64_t *ret_from, GError **error)
{
    gint64 id;

    if (call->last_event_id == NULL || *call->last_event_id == '\0')
        return call_number(call, "from", -1, G_MAXINT64, -1, ret_from, error);
    if (!g_ascii_string_to_signed(call->last_event_id, 10, 0, G_MAXINT64, &id, NULL))
        return error_set(error, ERR_INVALID, "header Last-Event-ID: '%.40s' is no event's index",
                         call->last_event_id);
    *ret_from = id;
    return true;
}

bool
get_event_stream(Call *call, Reply *reply, GError **error)
{
    unsigned tell;
    int64_t from = -1;

    if (call->who->role < ROLE_VIEWER)
        return error_set(error, ERR_FORBIDDEN,
                         "a stream tells of all VMs, and %s may see only some: ask for events with "
                         "'from' and 'wait'",
                         call->user);
    reply->streams = tell_from_text(call_query(call, "types"), &tell, error) &&
                     read_place(call, &from, error) &&
                     hub_answer(call->hub, tell, from, reply->http, error);
    return reply->streams;
}

bool
get_events(Call *call, Reply *reply, GError **error)
{
    int64_t from, wait_s, max;
    bool follows = call_query(call, "from") != NULL && call_query(call, "wait") != NULL;

    if (call->wants_stream)
        return get_event_stream(call, reply, error);
    if (!call_number(call, "from", -1, G_MAXINT64, 0, &from, error) ||
        !call_number(call, "wait", 0, LONGEST_WAIT_S, 0, &wait_s, error) ||
        !call_number(call, "max", G_MININT32, G_MAXINT32, -1, &max, error))
        return false;
    if (follows)
        wait_for_event(call, from, wait_s);
    /* what is searched or partly hidden must be seen whole; else the database counts */
    bool whole = call_query(call, "search") != NULL || call->who->role < ROLE_VIEWER;
    int limit = whole ? -1 : (int)max;
    g_autoptr(GPtrArray) rows =
        store_event_list(manager_store(call->manager), from, limit, follows, error);
    if (rows == NULL)
        return false;
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++)
        json_array_append_new(list, event_document(rows->pdata[i]));
    return reply_list(call, reply, "event", list, error);
}

bool
get_event(Call *call, Reply *reply, GError **error)
{
    gint64 id;

    if (!g_ascii_string_to_signed(call->id, 10, 1, G_MAXINT64, &id, NULL))
        return error_set(error, ERR_NOT_FOUND, "there is no event '%s'", call->id);
    g_autoptr(GPtrArray) rows =
        store_event_list(manager_store(call->manager), id - 1, 1, true, error);
    if (rows == NULL)
        return false;
    if (rows->len == 0 || ((const EventRow *)rows->pdata[0])->id != id)
        return error_set(error, ERR_NOT_FOUND, "there is no event '%s'", call->id);
    reply->body = event_document(rows->pdata[0]);
    return true;
}
