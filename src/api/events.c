/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Events, newest first as oVirt has them; oldest first for one who follows them (from and wait).
 */
#include "api/routes.h"

#include "api/search.h"
#include "base/clock.h"

#include <string.h>

#define LONGEST_WAIT_S 60

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

/* Where it was: a host, and with it the one cluster and data center. */
static void
put_place(json_t *doc, const EventRow *row)
{
    g_autofree char *cluster = cluster_id(), *center = data_center_id();

    if (row->host_id == NULL)
        return;
    doc_ref(doc, "host", row->host_id, "/hosts/%s", row->host_id);
    doc_text(json_object_get(doc, "host"), "name", row->host_name);
    doc_ref(doc, "cluster", cluster, "/clusters/%s", cluster);
    doc_text(json_object_get(doc, "cluster"), "name", "Default");
    doc_ref(doc, "data_center", center, "/datacenters/%s", center);
    doc_text(json_object_get(doc, "data_center"), "name", "Default");
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
    if (row->user != NULL) {
        doc_user(doc, "user", row->user);
        doc_text(json_object_get(doc, "user"), "name", row->user);
    }
    if (row->vm_id != NULL) {
        doc_ref(doc, "vm", row->vm_id, "/vms/%s", row->vm_id);
        doc_text(json_object_get(doc, "vm"), "name", row->vm_name);
    }
    if (row->snapshot_id != NULL && row->vm_id != NULL)
        doc_ref(doc, "snapshot", row->snapshot_id, "/vms/%s/snapshots/%s", row->vm_id,
                row->snapshot_id);
    put_place(doc, row);
    if (row->job_id != NULL)
        doc_ref(doc, "job", row->job_id, "/jobs/%s", row->job_id);
    return doc;
}

static bool
must_wait(const Call *call, int64_t from, int64_t wait_s)
{
    return manager_last_event(call->manager) <= from &&
           clock_mono_us() < call->began_us + wait_s * G_USEC_PER_SEC &&
           g_atomic_int_get(call->stopping) == 0;
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

    reply->streams = tell_from_text(call_query(call, "types"), &tell, error) &&
                     read_place(call, &from, error) &&
                     hub_answer(call->hub, call->who, tell, from, reply->http, error);
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
    if (follows && must_wait(call, from, wait_s)) {
        reply->awaited = (Awaited){ .what = FOR_EVENT,
                                    .than = from,
                                    .until_us = call->began_us + wait_s * G_USEC_PER_SEC };
        return true;
    }
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

/* The id in the path; 0 with an error for what can be none. */
static gint64
event_id(const Call *call, GError **error)
{
    gint64 id = 0;

    if (!g_ascii_string_to_signed(call->id, 10, 1, G_MAXINT64, &id, NULL))
        error_set(error, ERR_NOT_FOUND, "there is no event '%s'", call->id);
    return id;
}

bool
get_event(Call *call, Reply *reply, GError **error)
{
    gint64 id = event_id(call, error);
    g_autoptr(GPtrArray) rows =
        id != 0 ? store_event_list(manager_store(call->manager), id - 1, 1, true, error) : NULL;

    if (rows == NULL)
        return false;
    if (rows->len == 0 || ((const EventRow *)rows->pdata[0])->id != id)
        return error_set(error, ERR_NOT_FOUND, "there is no event '%s'", call->id);
    reply->body = event_document(rows->pdata[0]);
    return true;
}

bool
delete_event(Call *call, Reply *reply, GError **error)
{
    gint64 id = event_id(call, error);

    if (id == 0 ||
        !manager_event_remove(call->manager, id, call->correlation_id, call->user, error))
        return false;
    reply->body = json_pack("{s:s}", "status", "complete");
    return true;
}
