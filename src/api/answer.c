/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * From a request to its answer: its route, the right to it, its body, the handler; answers that are
 * kept, and answers that wait.
 */
#include "api/access.h"
#include "api/audit.h"
#include "api/exchange.h"
#include "api/gzip.h"
#include "api/metrics.h"
#include "base/clock.h"

#include <string.h>

#define AWAIT_MS 60000 /* what a client would rather poll for */

/* ---- the route ---- */

/* NULL with an error: 404, or 405 with the header Allow; and NULL without one: OPTIONS has been
 * answered. */
static const Route *
find_route(Exchange *x, const char *ids[2], GError **error)
{
    const Route *found = route_find(g_str_equal(x->http->method, "HEAD") ? "GET" : x->http->method,
                                    x->segments, ids);

    if (found != NULL)
        return found;
    g_autofree char *allow = route_methods(x->segments);
    if (*allow == '\0') {
        error_set(error, ERR_NOT_FOUND, "nothing is at %s", x->http->path);
        return NULL;
    }
    if (!http_response_allow(x->http, x->response, allow))
        error_set(error, ERR_METHOD, "%s is not possible on %s; possible: %s", x->http->method,
                  x->http->path, allow);
    return NULL;
}

static bool
is_action(const Route *route)
{
    return g_str_equal(route->method, "POST") && g_str_equal(route->root, "action");
}

/* Ids anywhere in it in lower case, as those of the path. */
static void
fold_ids(json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;

    json_array_foreach (value, i, member)
        fold_ids(member);
    json_object_foreach (value, key, member) {
        const char *text = json_string_value(member);
        if (text != NULL && g_str_has_suffix(key, "id") && g_uuid_string_is_valid(text)) {
            g_autofree char *lower = g_ascii_strdown(text, -1);
            json_string_set(member, lower);
        }
        fold_ids(member);
    }
}

static bool
check_coding(const HttpRequest *http, GError **error)
{
    const char *coding = http_header(http, "Content-Encoding");

    return coding == NULL || *coding == '\0' || g_ascii_strcasecmp(coding, "identity") == 0 ||
           error_set(error, ERR_MEDIA,
                     "Content-Encoding '%.40s' is not unpacked; send the body as it is", coding);
}

static json_t *
read_body(const Route *route, const HttpRequest *http, GError **error)
{
    Media media;

    if (route->body_root == NULL || http->body_size == 0)
        return json_object(); /* libgovirt sends bodies with GET: nobody looks at them */
    if (!check_coding(http, error) ||
        !media_of_body(http_header(http, "Content-Type"), &media, error))
        return NULL;
    g_autoptr(json_t) body =
        media_read(media, route->body_root, http->body, http->body_size, error);
    bool async; /* looked at when it is too late to say no */
    if (body == NULL || !body_flag(body, "async", &async, error))
        return NULL;
    fold_ids(body);
    return g_steal_pointer(&body);
}

/* Two names of the same header: libraries let a client set the second one only. */
static const char *
expectation(const HttpRequest *http)
{
    const char *expect = http_header(http, "X-Ovirt-Expect");

    return expect != NULL ? expect : http_header(http, "Expect");
}

static Call
make_call(Api *api, const Exchange *x, const Who *who, const char *const ids[2], const char *path,
          const json_t *body)
{
    return (Call){ .manager = api->manager,
                   .people = api->people,
                   .certificate = api->certificate,
                   .who = who,
                   .stopping = &api->stopping,
                   .path = path,
                   .expect = expectation(x->http),
                   .id = ids[0],
                   .sub_id = ids[1],
                   .query = x->query,
                   .body = body,
                   .user = who->name,
                   .peer = x->http->peer,
                   .correlation_id = x->correlation_id,
                   .hub = api->hub,
                   .wants_stream = x->wants_stream,
                   .last_event_id = http_header(x->http, "Last-Event-ID") };
}

/* problem: NULL if all went well. Takes what the reply holds. */
static void
put_reply(Exchange *x, const Call *call, const Route *route, Reply *reply, const GError *problem)
{
    if (problem == NULL && reply->only_json)
        x->media = MEDIA_JSON;
    if (problem != NULL) {
        int status = error_http_status(problem);
        exchange_fault(x, status == 404 && call->in_body ? 400 : status, reply->reason, problem);
    } else if (!reply->streams) {
        exchange_answer(x, reply->status, reply->root != NULL ? reply->root : route->root,
                        reply->body);
    }
    g_clear_pointer(&reply->body, json_decref);
    g_clear_pointer(&reply->job_id, g_free);
}

/* ---- an answer that waits: without a thread (http.h) ---- */

typedef struct {
    Api *api;
    const Route *route;
    Who *who;
    const char *ids[2]; /* of x */
    json_t *body;
    Exchange x;
    Reply reply;
    int64_t began_us, until_us;
} Later;

static void
later_free(void *data)
{
    Later *later = data;

    exchange_clear(&later->x);
    who_free(later->who);
    json_decref(later->body);
    json_decref(later->reply.body);
    g_free(later->reply.job_id);
    g_free(later);
}

static bool
has_come(const Later *later)
{
    Manager *m = later->api->manager;
    const Awaited *awaited = &later->reply.awaited;

    switch (awaited->what) {
    case FOR_JOB:
        return manager_job_rev(m, later->ids[0]) != awaited->than;
    case FOR_JOB_END:
        return manager_job_rev(m, later->ids[0]) == -1;
    case FOR_CHANGE:
        return manager_revision(m) != awaited->than;
    case FOR_EVENT:
        return manager_last_event(m) > awaited->than;
    case FOR_NOTHING:
        break;
    }
    return !manager_job_works(m, later->reply.job_id);
}

static bool
is_time(void *data)
{
    const Later *later = data;

    return g_atomic_int_get(&later->api->stopping) != 0 || clock_mono_us() >= later->until_us ||
           has_come(later);
}

static void run_handler(Api *api, Exchange *x, const Who *who, const Route *route,
                        const char *const ids[2], const json_t *body, int64_t began_us);

/* He has waited, and may be somebody else by now: with another role, or signed out. */
static bool
may_still(Later *later, GError **error)
{
    Who *now = people_again(later->api->people, later->who);

    if (now == NULL)
        return error_set(error, ERR_SIGN_IN, "the sign-in of %s has ended meanwhile; sign in again",
                         later->who->name);
    who_free(later->who);
    later->who = now;
    return access_check(later->api->manager, now, later->route, later->ids, error);
}

/* One that waited for news looks again, and may wait once more. */
static void
answer_later(const HttpRequest *request, void *data, HttpResponse *response)
{
    Later *later = data;
    g_autoptr(GError) problem = NULL;

    later->x.response = response;
    later->reply.http = response;
    if (!may_still(later, &problem)) {
        exchange_fault(&later->x, error_http_status(problem), NULL, problem);
        access_challenge(request, problem, response);
    } else if (later->reply.awaited.what != FOR_NOTHING) {
        run_handler(later->api, &later->x, later->who, later->route, later->ids, later->body,
                    later->began_us);
    } else {
        g_autofree char *path = g_strjoinv("/", later->x.segments);
        Call call = make_call(later->api, &later->x, later->who, later->ids, path, later->body);
        reply_when_ended(&call, &later->reply, later->route->method, &problem);
        put_reply(&later->x, &call, later->route, &later->reply, problem);
    }
    if (response->is_time == NULL)
        metrics_count(later->api->meter, request, response, later->began_us);
}

/* Takes what the exchange and the reply hold. */
static void
put_later(Api *api, Exchange *x, const Call *call, const Route *route, const Reply *reply)
{
    Later *later = g_new0(Later, 1);
    unsigned wait_ms = reply->wait_ms > 0 ? reply->wait_ms : AWAIT_MS;

    *later = (Later){ .api = api,
                      .route = route,
                      .who = who_copy(call->who),
                      .ids = { call->id, call->sub_id },
                      .body = json_incref((json_t *)call->body),
                      .x = *x,
                      .reply = *reply,
                      .began_us = call->began_us,
                      .until_us = reply->awaited.what != FOR_NOTHING
                                      ? reply->awaited.until_us
                                      : call->began_us + (int64_t)wait_ms * 1000 };
    x->segments = NULL;
    x->query = NULL;
    x->correlation_id = NULL;
    x->response->is_time = is_time;
    x->response->later = answer_later;
    x->response->stream_data = later;
    x->response->stream_free = later_free;
}

/* What is linked and was asked for, too. */
static bool
add_followed(Call *call, const Route *route, const Reply *reply, GError **error)
{
    if (reply->streams || !g_str_equal(route->method, "GET") || call_query(call, "follow") == NULL)
        return true;
    call->in_body = true; /* a wrong name is a wrong request */
    return follow_all(call, reply->body, error);
}

static bool
must_wait(const Call *call, const Reply *reply)
{
    return reply->awaited.what != FOR_NOTHING ||
           (reply->job_id != NULL && call_wants_to_wait(call, reply->waits));
}

static void
run_handler(Api *api, Exchange *x, const Who *who, const Route *route, const char *const ids[2],
            const json_t *body, int64_t began_us)
{
    g_autoptr(GError) problem = NULL;
    Reply reply = { .status = 200, .http = x->response };
    g_autofree char *path = g_strjoinv("/", x->segments);
    Call call = make_call(api, x, who, ids, path, body);

    call.began_us = began_us;
    if (route->handler(&call, &reply, &problem) && must_wait(&call, &reply)) {
        put_later(api, x, &call, route, &reply);
        return;
    }
    if (problem == NULL)
        add_followed(&call, route, &reply, &problem);
    put_reply(x, &call, route, &reply, problem);
}

/* ---- an answer that is kept ---- */

/* It begins as gzip's files do, and none of our documents does. */
static bool
is_packed(GBytes *answer)
{
    gsize size;
    const guint8 *data = g_bytes_get_data(answer, &size);

    return size > 1 && data[0] == 0x1f && data[1] == 0x8b;
}

static void
put_kept(Exchange *x, GBytes *take_answer)
{
    http_response_header(x->response, "Vary", "Accept, Accept-Encoding");
    if (is_packed(take_answer))
        http_response_header(x->response, "Content-Encoding", "gzip");
    x->response->status = 200;
    x->response->shared = take_answer;
    x->response->content_type = g_strdup(media_type(x->media));
}

/* Who may see only some VMs gets his answers made for him; and what is followed can be anything. */
static bool
may_keep(const Exchange *x, const Who *who)
{
    return who->role >= ROLE_VIEWER && !g_hash_table_contains(x->query, "follow");
}

/* Is it there already? Else it is made, and kept. */
static void
run_kept(Api *api, Exchange *x, const Who *who, const Route *route, const char *const ids[2],
         const json_t *body)
{
    bool pack = gzip_accepted(http_header(x->http, "Accept-Encoding"));
    g_autofree char *key =
        g_strdup_printf("%d %d %d\n%s\n%s", (int)who->role, (int)x->media, pack, x->http->raw_path,
                        x->http->query != NULL ? x->http->query : "");
    CacheTurn *turn = NULL;
    GBytes *answer = cache_begin(api->cache, key, &turn);

    if (answer != NULL) {
        put_kept(x, answer);
        return;
    }
    run_handler(api, x, who, route, ids, body, clock_mono_us());
    if (x->response->status != 200) {
        cache_end(api->cache, turn, NULL);
        return;
    }
    answer = g_bytes_new_take(x->response->body, x->response->body_size);
    x->response->body = NULL;
    g_clear_pointer(&x->response->content_type, g_free);
    GBytes *packed = pack ? gzip_pack(answer) : NULL;
    if (packed != NULL) {
        g_bytes_unref(answer);
        answer = packed;
    }
    cache_end(api->cache, turn, answer);
    put_kept(x, answer);
}

/* ---- the whole ---- */

static bool
may_stream(const Route *route)
{
    return route->handler == get_events || route->handler == get_event_stream;
}

static bool
check_version(const HttpRequest *http, GError **error)
{
    const char *version = http_header(http, "Version");

    if (version == NULL || *version == '\0' || g_str_equal(version, "4"))
        return true;
    return error_set(error, ERR_INVALID, "API version '%.20s' is not served; 4 is", version);
}

/* NULL with an error, or without one: it has been answered. */
static const Route *
route_of(Exchange *x, const char *ids[2], GError **error)
{
    const Route *route = exchange_split(x, error) ? find_route(x, ids, error) : NULL;

    if (!x->acceptable && !(x->wants_stream && route != NULL && may_stream(route))) {
        g_autoptr(GError) problem = NULL;
        g_clear_error(error);
        error_set(&problem, ERR_MEDIA, "the answer can be application/xml or application/json");
        exchange_fault(x, 406, NULL, problem);
        return NULL;
    }
    return route;
}

void
api_answer(Api *api, const Who *who, const HttpRequest *request, HttpResponse *response)
{
    g_auto(Exchange) x = { 0 };
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) body = NULL;
    const char *ids[2] = { NULL, NULL };

    exchange_open(&x, request, response);
    const Route *route = route_of(&x, ids, &problem);
    if (route != NULL) {
        x.may_action = is_action(route);
        if (access_check(api->manager, who, route, ids, &problem) &&
            check_version(request, &problem))
            body = read_body(route, request, &problem);
        if (g_error_matches(problem, ERR, ERR_FORBIDDEN) && !g_str_equal(route->method, "GET"))
            audit_refused(api->audit, api->manager, who, route->method, request->path,
                          x.correlation_id);
    }
    if (problem != NULL)
        exchange_fault(&x, error_http_status(problem), NULL, problem);
    else if (route != NULL && route->kept && may_keep(&x, who))
        run_kept(api, &x, who, route, ids, body);
    else if (route != NULL)
        run_handler(api, &x, who, route, ids, body, clock_mono_us());
}

void
api_refuse(const HttpRequest *request, const GError *problem, HttpResponse *response)
{
    g_auto(Exchange) x = { .http = request, .response = response };

    if (!media_accept(http_header_list(request, "Accept"), &x.media))
        x.media = MEDIA_XML;
    exchange_fault(&x, error_http_status(problem), NULL, problem);
}
