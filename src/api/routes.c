/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/routes.h"

#include "api/access.h"
#include "api/gzip.h"
#include "api/media.h"
#include "base/log.h"
#include "base/text.h"

#include <string.h>

/* clang-format off */
const Route api_routes[] = {
    { "GET",    "",                                         RIGHT_SIGNED_IN,  "api",              get_api },
    { "GET",    "openapi.json",                             RIGHT_PUBLIC,     "openapi",          get_openapi },
    { "GET",    "vms",                                      RIGHT_SIGNED_IN,  "vms",              get_vms, NULL, true },
    { "GET",    "vms/*",                                    RIGHT_READ,       "vm",               get_vm, NULL, true },
    { "POST",   "vms/*/start",                              RIGHT_OPERATE,    "action",           post_vm_start, "action" },
    { "POST",   "vms/*/stop",                               RIGHT_OPERATE,    "action",           post_vm_stop, "action" },
    { "POST",   "vms/*/shutdown",                           RIGHT_OPERATE,    "action",           post_vm_shutdown, "action" },
    { "POST",   "vms/*/reboot",                             RIGHT_OPERATE,    "action",           post_vm_reboot, "action" },
    { "POST",   "vms/*/reset",                              RIGHT_OPERATE,    "action",           post_vm_reset, "action" },
    { "POST",   "vms/*/suspend",                            RIGHT_OPERATE,    "action",           post_vm_suspend, "action" },
    { "GET",    "vms/*/diskattachments",                    RIGHT_READ,       "disk_attachments", get_attachments, NULL, true },
    { "GET",    "vms/*/diskattachments/*",                  RIGHT_READ,       "disk_attachment",  get_attachment, NULL, true },
    { "GET",    "vms/*/snapshots",                          RIGHT_READ,       "snapshots",        get_snapshots },
    { "POST",   "vms/*/snapshots",                          RIGHT_OPERATE,    "snapshot",         post_snapshots, "snapshot" },
    { "GET",    "vms/*/snapshots/*",                        RIGHT_READ,       "snapshot",         get_snapshot },
    { "PUT",    "vms/*/snapshots/*",                        RIGHT_OPERATE,    "snapshot",         put_snapshot, "snapshot" },
    { "DELETE", "vms/*/snapshots/*",                        RIGHT_OPERATE,    "action",           delete_snapshot },
    { "GET",    "vms/*/snapshots/*/disks",                  RIGHT_READ,       "disks",            get_snapshot_disks },
    { "GET",    "vms/*/snapshots/*/nics",                   RIGHT_READ,       "nics",             get_nothing },
    { "GET",    "vms/*/snapshots/*/cdroms",                 RIGHT_READ,       "cdroms",           get_nothing },
    { "POST",   "vms/*/removesnapshots",                    RIGHT_OPERATE,    "action",           post_removesnapshots, "action" },
    { "POST",   "vms/*/previewsnapshot",                    RIGHT_OPERATE,    "action",           post_previewsnapshot, "action" },
    { "POST",   "vms/*/commitsnapshot",                     RIGHT_OPERATE,    "action",           post_commitsnapshot, "action" },
    { "POST",   "vms/*/undosnapshot",                       RIGHT_OPERATE,    "action",           post_undosnapshot, "action" },
    { "POST",   "vms/*/snapshots/*/restore",                RIGHT_OPERATE,    "action",           post_restore, "action" },
    { "GET",    "vms/*/doctor",                             RIGHT_READ,       "doctor",           get_vm_doctor },
    { "POST",   "vms/*/doctor",                             RIGHT_ADMINISTER, "action",           post_vm_doctor, "action" },
    { "GET",    "doctor",                                   RIGHT_READ,       "doctor",           get_doctor },
    /* what clients ask for on their way and can do without */
    { "GET",    "vms/*/nics",                               RIGHT_READ,       "nics",             get_nothing },
    { "GET",    "vms/*/graphicsconsoles",                   RIGHT_READ,       "graphics_consoles", get_consoles },
    { "GET",    "vms/*/graphicsconsoles/*",                 RIGHT_READ,       "graphics_console", get_console },
    { "POST",   "vms/*/graphicsconsoles/*/ticket",          RIGHT_OPERATE,    "action",           post_console_ticket, "action" },
    { "POST",   "vms/*/graphicsconsoles/*/remoteviewerconnectionfile", RIGHT_OPERATE, "action",   post_viewer_file, "action" },
    { "POST",   "vms/*/ticket",                             RIGHT_OPERATE,    "action",           post_vm_ticket, "action" },
    { "GET",    "vms/*/cdroms",                             RIGHT_READ,       "cdroms",           get_nothing },
    { "GET",    "vms/*/numanodes",                          RIGHT_READ,       "vm_numa_nodes",    get_nothing },
    { "GET",    "vms/*/statistics",                         RIGHT_READ,       "statistics",       get_vm_statistics },
    { "GET",    "vms/*/statistics/*",                       RIGHT_READ,       "statistic",        get_vm_statistic },
    { "GET",    "vms/*/tags",                               RIGHT_READ,       "tags",             get_nothing },
    { "GET",    "vms/*/permissions",                        RIGHT_READ,       "permissions",      get_nothing },
    { "GET",    "vms/*/applications",                       RIGHT_READ,       "applications",     get_nothing },
    { "GET",    "vms/*/watchdogs",                          RIGHT_READ,       "watchdogs",        get_nothing },
    { "GET",    "vms/*/hostdevices",                        RIGHT_READ,       "host_devices",     get_nothing },
    { "GET",    "vms/*/backups",                            RIGHT_READ,       "backups",          get_nothing },
    { "GET",    "vms/*/checkpoints",                        RIGHT_READ,       "checkpoints",      get_nothing },
    { "GET",    "vms/*/diskattachments/*/permissions",      RIGHT_READ,       "permissions",  get_nothing },
    { "GET",    "hosts/*/statistics",                       RIGHT_SIGNED_IN,  "statistics",       get_nothing },
    { "GET",    "hosts/*/nics",                             RIGHT_SIGNED_IN,  "host_nics",        get_nothing },
    { "GET",    "hosts/*/vms",                              RIGHT_SIGNED_IN,  "vms",              get_host_vms },
    { "GET",    "hosts/*/tags",                             RIGHT_SIGNED_IN,  "tags",             get_nothing },
    { "GET",    "clusters/*/networks",                      RIGHT_SIGNED_IN,  "networks",         get_nothing },
    { "GET",    "clusters/*/hosts",                         RIGHT_SIGNED_IN,  "hosts",            get_hosts },
    { "GET",    "clusters/*/permissions",                   RIGHT_SIGNED_IN,  "permissions",      get_nothing },
    { "GET",    "datacenters/*/clusters",                   RIGHT_SIGNED_IN,  "clusters",         get_clusters },
    { "GET",    "datacenters/*/networks",                   RIGHT_SIGNED_IN,  "networks",         get_nothing },
    { "GET",    "datacenters/*/permissions",                RIGHT_SIGNED_IN,  "permissions",      get_nothing },
    { "GET",    "disks/*/permissions",                      RIGHT_READ,       "permissions",      get_nothing },
    { "GET",    "disks/*/statistics",                       RIGHT_READ,       "statistics",       get_nothing },
    { "GET",    "disks/*/disksnapshots",                    RIGHT_READ,       "disk_snapshots",   get_disk_snapshots },
    { "GET",    "disks/*/disksnapshots/*",                  RIGHT_READ,       "disk_snapshot",    get_disk_snapshot },
    { "GET",    "storagedomains/*/disks",                   RIGHT_SIGNED_IN,  "disks",            get_domain_disks },
    { "GET",    "storagedomains/*/vms",                     RIGHT_SIGNED_IN,  "vms",              get_domain_vms },
    { "GET",    "storagedomains/*/disksnapshots",           RIGHT_READ,       "disk_snapshots",   get_domain_disk_snapshots },
    { "GET",    "storagedomains/*/diskprofiles",            RIGHT_SIGNED_IN,  "disk_profiles",    get_nothing },
    { "GET",    "storagedomains/*/templates",               RIGHT_SIGNED_IN,  "templates",        get_nothing },
    { "GET",    "storagedomains/*/files",                   RIGHT_SIGNED_IN,  "files",            get_nothing },
    { "GET",    "storagedomains/*/images",                  RIGHT_SIGNED_IN,  "images",           get_nothing },
    { "GET",    "storagedomains/*/storageconnections",      RIGHT_SIGNED_IN,  "storage_connections", get_nothing },
    { "GET",    "storagedomains/*/permissions",             RIGHT_SIGNED_IN,  "permissions",      get_nothing },
    { "GET",    "templates/*/diskattachments",              RIGHT_SIGNED_IN,  "disk_attachments", get_nothing },
    { "GET",    "templates/*/nics",                         RIGHT_SIGNED_IN,  "nics",             get_nothing },
    { "GET",    "templates/*/permissions",                  RIGHT_SIGNED_IN,  "permissions",      get_nothing },
    { "GET",    "networks",                                 RIGHT_SIGNED_IN,  "networks",         get_none },
    { "GET",    "vnicprofiles",                             RIGHT_SIGNED_IN,  "vnic_profiles",    get_none },
    { "GET",    "diskprofiles",                             RIGHT_SIGNED_IN,  "disk_profiles",    get_none },
    { "GET",    "vmpools",                                  RIGHT_SIGNED_IN,  "vm_pools",         get_none },
    { "GET",    "instancetypes",                            RIGHT_SIGNED_IN,  "instance_types",   get_none },
    { "GET",    "imagetransfers",                           RIGHT_SIGNED_IN,  "image_transfers",  get_none },
    { "GET",    "storageconnections",                       RIGHT_SIGNED_IN,  "storage_connections", get_none },
    { "GET",    "tags",                                     RIGHT_SIGNED_IN,  "tags",             get_tags },
    { "GET",    "tags/*",                                   RIGHT_SIGNED_IN,  "tag",              get_tag },
    { "GET",    "disks",                                    RIGHT_SIGNED_IN,  "disks",            get_disks, NULL, true },
    { "GET",    "disks/*",                                  RIGHT_READ,       "disk",             get_disk, NULL, true },
    { "GET",    "jobs",                                     RIGHT_SIGNED_IN,  "jobs",             get_jobs },
    { "GET",    "jobs/*",                                   RIGHT_READ,       "job",              get_job },
    { "GET",    "jobs/*/steps",                             RIGHT_READ,       "steps",            get_steps },
    { "GET",    "jobs/*/steps/*",                           RIGHT_READ,       "step",             get_step },
    { "POST",   "jobs/*/cancel",                            RIGHT_OPERATE,    "action",           post_job_cancel, "action" },
    { "POST",   "jobs/*/resume",                            RIGHT_OPERATE,    "action",           post_job_resume, "action" },
    { "GET",    "events",                                   RIGHT_SIGNED_IN,  "events",           get_events },
    { "GET",    "events/stream",                            RIGHT_READ,       "events",           get_event_stream },
    { "POST",   "events",                                   RIGHT_OPERATE,    "event",            post_event, "event" },
    { "GET",    "events/*",                                 RIGHT_READ,       "event",            get_event },
    { "GET",    "hosts",                                    RIGHT_SIGNED_IN,  "hosts",            get_hosts },
    { "GET",    "hosts/*",                                  RIGHT_SIGNED_IN,  "host",             get_host },
    { "GET",    "clusters",                                 RIGHT_SIGNED_IN,  "clusters",         get_clusters },
    { "GET",    "clusters/*",                               RIGHT_SIGNED_IN,  "cluster",          get_cluster },
    { "GET",    "datacenters",                              RIGHT_SIGNED_IN,  "data_centers",     get_datacenters },
    { "GET",    "datacenters/*",                            RIGHT_SIGNED_IN,  "data_center",      get_datacenter },
    { "GET",    "datacenters/*/storagedomains",             RIGHT_SIGNED_IN,  "storage_domains",  get_datacenter_storagedomains },
    { "GET",    "datacenters/*/storagedomains/*",           RIGHT_SIGNED_IN,  "storage_domain",   get_datacenter_storagedomain },
    { "GET",    "storagedomains",                           RIGHT_SIGNED_IN,  "storage_domains",  get_storagedomains },
    { "GET",    "storagedomains/*",                         RIGHT_SIGNED_IN,  "storage_domain",   get_storagedomain },
    { "POST",   "storagedomains/import",                    RIGHT_ADMINISTER, "action",           post_import, "action" },
    { "GET",    "templates",                                RIGHT_SIGNED_IN,  "templates",        get_templates },
    { "GET",    "templates/*",                              RIGHT_SIGNED_IN,  "template",         get_template },
    { "GET",    "users",                                    RIGHT_ADMINISTER, "users",            get_users },
    { "POST",   "users",                                    RIGHT_ADMINISTER, "user",             post_users, "user" },
    { "GET",    "users/*",                                  RIGHT_ADMINISTER, "user",             get_user },
    { "PUT",    "users/*",                                  RIGHT_ADMINISTER, "user",             put_user, "user" },
    { "DELETE", "users/*",                                  RIGHT_ADMINISTER, "action",           delete_user },
    { NULL },
};
/* clang-format on */

/* ---- the request taken apart ---- */

typedef struct {
    const HttpRequest *http;
    HttpResponse *response;
    Media media;       /* of the answer */
    bool wants_stream; /* besides what media says */
    bool may_action;   /* a failure is told as a failed action */
    char **segments;   /* of the path below API_ROOT */
    GHashTable *query;
    char *correlation_id;
} Exchange;

static void
exchange_clear(Exchange *x)
{
    g_strfreev(x->segments);
    if (x->query != NULL)
        g_hash_table_unref(x->query);
    g_free(x->correlation_id);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Exchange, exchange_clear)

static char *
form_decode(const char *text)
{
    g_autofree char *spaced = g_strdelimit(g_strdup(text), "+", ' ');
    char *plain = g_uri_unescape_string(spaced, NULL);

    return plain != NULL && g_utf8_validate(plain, -1, NULL) ? plain : (g_free(plain), NULL);
}

/* The first one wins. */
static void
take_parameter(GHashTable *into, const char *pair, bool decode)
{
    const char *equals = strchr(pair, '=');
    g_autofree char *raw_name =
        equals != NULL ? g_strndup(pair, (gsize)(equals - pair)) : g_strdup(pair);
    const char *raw_value = equals != NULL ? equals + 1 : "";
    char *name = decode ? form_decode(raw_name) : g_strdup(raw_name);
    char *value = decode ? form_decode(raw_value) : g_strdup(raw_value);

    if (name != NULL && value != NULL && *name != '\0' && !g_hash_table_contains(into, name)) {
        g_hash_table_insert(into, name, value);
        return;
    }
    g_free(name);
    g_free(value);
}

static void
take_parameters(GHashTable *into, const char *text, const char *separator, bool decode)
{
    g_auto(GStrv) pairs = g_strsplit(text, separator, -1);

    for (char **pair = pairs; *pair != NULL; pair++)
        take_parameter(into, *pair, decode);
}

/* Cuts ";max=2" off the last segment. */
static void
take_matrix(Exchange *x)
{
    guint n = g_strv_length(x->segments);
    char *matrix = n > 0 ? strchr(x->segments[n - 1], ';') : NULL;

    if (matrix == NULL)
        return;
    *matrix = '\0';
    take_parameters(x->query, matrix + 1, ";", false);
}

static bool
is_version(const char *segment)
{
    return segment[0] == 'v' && g_ascii_isdigit(segment[1]) &&
           strspn(segment + 1, "0123456789") == strlen(segment + 1);
}

/* Fills segments with what stands below API_ROOT[/v4], without empty ones. */
static bool
split_path(Exchange *x, GError **error)
{
    const char *path = x->http->path;

    if (!g_str_has_prefix(path, API_ROOT) ||
        (path[strlen(API_ROOT)] != '\0' && strchr("/;", path[strlen(API_ROOT)]) == NULL))
        return error_set(error, ERR_NOT_FOUND, "nothing is at %s; the API is at " API_ROOT, path);
    g_auto(GStrv) segments = path_segments(path + strlen(API_ROOT));
    bool versioned = *segments != NULL && is_version(*segments);
    if (versioned && !g_str_equal(*segments, "v4"))
        return error_set(error, ERR_INVALID, "API version '%s' is not served; 4 is", *segments);
    g_strfreev(x->segments);
    x->segments = g_strdupv(segments + (versioned ? 1 : 0));
    return true;
}

/* Only characters that are safe in logs, headers and searches; at most 36. */
static char *
clean_correlation_id(const char *text)
{
    GString *clean = g_string_new(NULL);

    for (const char *p = text != NULL ? text : ""; *p != '\0' && clean->len < 36; p++)
        if (g_ascii_isalnum(*p) || *p == '_' || *p == '-')
            g_string_append_c(clean, *p);
    if (clean->len == 0) {
        g_autofree char *id = id_new();
        g_string_assign(clean, id);
    }
    return g_string_free(clean, FALSE);
}

/* ---- the answer ---- */

static void
put_answer(Exchange *x, int status, const char *root, const json_t *doc)
{
    HttpResponse *response = x->response;

    response->status = status;
    response->body = media_write(x->media, root, doc);
    response->body_size = strlen(response->body);
    response->content_type = g_strdup(media_type(x->media));
}

static void
put_fault(Exchange *x, int status, const char *reason, const GError *problem)
{
    g_autofree char *valid = g_utf8_make_valid(problem->message, -1);
    g_autofree char *detail = reason != NULL ? g_strdup(valid) : g_strdup_printf("[%s]", valid);
    json_t *fault =
        json_pack("{s:s, s:s, s:s}", "detail", detail, "reason",
                  reason != NULL ? reason : "Operation Failed", "code", error_word(problem));
    const ErrorReason *refusal = error_reason(problem);

    doc_text(fault, "key", refusal->key);
    doc_text(fault, "why", refusal->why);
    doc_text(fault, "help", refusal->help);
    if (refusal->job_id != NULL)
        doc_ref(fault, "job", refusal->job_id, "/jobs/%s", refusal->job_id);
    g_autoptr(json_t) doc =
        x->may_action ? json_pack("{s:o, s:s}", "fault", fault, "status", "failed") : fault;

    if (status >= 500)
        log_warn("%s %s: %s", x->http->method, x->http->path, problem->message);
    put_answer(x, status, x->may_action ? "action" : "fault", doc);
}

/* ---- the table ---- */

/* Fills ids with what the stars stand for. */
static bool
path_matches(const char *pattern, char *const *segments, const char *ids[2])
{
    g_auto(GStrv) words = g_strsplit(pattern, "/", -1);
    unsigned n = 0;

    if (*pattern == '\0')
        return *segments == NULL;
    for (char **word = words; *word != NULL; word++, segments++) {
        if (*segments == NULL)
            return false;
        if (g_str_equal(*word, "*") && n < 2)
            ids[n++] = *segments;
        else if (!g_str_equal(*word, *segments))
            return false;
    }
    return *segments == NULL;
}

static const char *
effective_method(const char *method)
{
    return g_str_equal(method, "HEAD") ? "GET" : method;
}

const Route *
route_find(const char *method, char *const *segments, const char *ids[2])
{
    for (const Route *route = api_routes; route->method != NULL; route++) {
        const char *found[2] = { NULL, NULL };
        if (g_str_equal(route->method, method) && path_matches(route->path, segments, found)) {
            ids[0] = found[0];
            ids[1] = found[1];
            return route;
        }
    }
    return NULL;
}

/* NULL with an error: 404, or 405 with the header Allow. */
static const Route *
find_route(Exchange *x, const char *ids[2], GError **error)
{
    g_autoptr(GString) allow = g_string_new(NULL);
    const char *method = effective_method(x->http->method);

    const Route *found = route_find(method, x->segments, ids);
    if (found != NULL)
        return found;
    for (const Route *route = api_routes; route->method != NULL; route++) {
        const char *unused[2] = { NULL, NULL };
        if (!path_matches(route->path, x->segments, unused))
            continue;
        g_string_append_printf(allow, "%s%s", allow->len > 0 ? ", " : "", route->method);
        if (g_str_equal(route->method, "GET"))
            g_string_append(allow, ", HEAD");
    }
    if (allow->len == 0) {
        error_set(error, ERR_NOT_FOUND, "nothing is at %s", x->http->path);
        return NULL;
    }
    http_response_header(x->response, "Allow", allow->str);
    error_set(error, ERR_METHOD, "%s is not possible on %s; possible: %s", x->http->method,
              x->http->path, allow->str);
    return NULL;
}

static bool
is_action(const Route *route)
{
    return g_str_equal(route->method, "POST") && g_str_equal(route->root, "action");
}

static json_t *
read_body(const Route *route, const HttpRequest *http, GError **error)
{
    Media media;

    if (route->body_root == NULL || http->body_size == 0)
        return json_object(); /* libgovirt sends bodies with GET: nobody looks at them */
    if (!media_of_body(http_header(http, "Content-Type"), &media, error))
        return NULL;
    return media_read(media, route->body_root, http->body, http->body_size, error);
}

/* Two names of the same header: libraries let a client set the second one only. */
static const char *
expectation(const HttpRequest *http)
{
    const char *expect = http_header(http, "X-Ovirt-Expect");

    return expect != NULL ? expect : http_header(http, "Expect");
}

/* What the request asks for besides the handler's own work. */
static bool
finish(Call *call, const Route *route, Reply *reply, GError **error)
{
    if (reply->job_id != NULL && call_wants_to_wait(call, reply->waits) &&
        !reply_await(call, reply, g_str_equal(route->method, "DELETE"), error))
        return false;
    if (reply->streams || !g_str_equal(route->method, "GET") || call_query(call, "follow") == NULL)
        return true;
    call->in_body = true; /* a wrong name is a wrong request */
    return follow_all(call, reply->body, error);
}

static void
run_handler(Api *api, Exchange *x, const Who *who, const Route *route, const char *ids[2],
            const json_t *body)
{
    g_autoptr(GError) problem = NULL;
    Reply reply = { .status = 200 };
    g_autofree char *path = g_strjoinv("/", x->segments);
    Call call = { .manager = api->manager,
                  .people = api->people,
                  .who = who,
                  .stopping = &api->stopping,
                  .path = path,
                  .expect = expectation(x->http),
                  .id = ids[0],
                  .sub_id = ids[1],
                  .query = x->query,
                  .body = body,
                  .user = who->name,
                  .correlation_id = x->correlation_id,
                  .hub = api->hub,
                  .wants_stream = x->wants_stream,
                  .last_event_id = http_header(x->http, "Last-Event-ID") };

    reply.http = x->response;
    if (route->handler(&call, &reply, &problem) && finish(&call, route, &reply, &problem)) {
        if (reply.streams)
            return;
        if (reply.only_json)
            x->media = MEDIA_JSON;
        put_answer(x, reply.status, reply.root != NULL ? reply.root : route->root, reply.body);
    } else {
        int status = error_http_status(problem);
        put_fault(x, status == 404 && call.in_body ? 400 : status, reply.reason, problem);
    }
    json_decref(reply.body);
    g_free(reply.job_id);
}

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
run_kept(Api *api, Exchange *x, const Who *who, const Route *route, const char *ids[2],
         const json_t *body)
{
    bool pack = gzip_accepted(http_header(x->http, "Accept-Encoding"));
    g_autofree char *key =
        g_strdup_printf("%d %d %d\n%s\n%s", (int)who->role, (int)x->media, pack, x->http->path,
                        x->http->query != NULL ? x->http->query : "");
    CacheMark mark = cache_mark(api->cache); /* before anything is looked at */
    GBytes *answer = cache_get(api->cache, key);

    if (answer != NULL) {
        put_kept(x, answer);
        return;
    }
    run_handler(api, x, who, route, ids, body);
    if (x->response->status != 200)
        return;
    answer = g_bytes_new_take(x->response->body, x->response->body_size);
    x->response->body = NULL;
    g_clear_pointer(&x->response->content_type, g_free);
    GBytes *packed = pack ? gzip_pack(answer) : NULL;
    if (packed != NULL) {
        g_bytes_unref(answer);
        answer = packed;
    }
    cache_put(api->cache, key, mark, answer);
    put_kept(x, answer);
}

/* Is there something that we can write? */
static bool
take_accept(Exchange *x)
{
    const char *accept = http_header(x->http, "Accept");
    bool acceptable = media_accept(accept, &x->media);

    x->wants_stream = accept != NULL && strstr(accept, "text/event-stream") != NULL;
    if (!acceptable)
        x->media = x->wants_stream ? MEDIA_JSON : MEDIA_XML;
    return acceptable;
}

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

void
api_answer(Api *api, const Who *who, const HttpRequest *request, HttpResponse *response)
{
    g_auto(Exchange) x = { .http = request, .response = response };
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) body = NULL;
    const Route *route = NULL;
    const char *ids[2] = { NULL, NULL };

    x.query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    take_parameters(x.query, request->query != NULL ? request->query : "", "&", true);
    const char *sent_id = http_header(request, "Correlation-Id");
    x.correlation_id = clean_correlation_id(
        sent_id != NULL ? sent_id : g_hash_table_lookup(x.query, "correlation_id"));
    http_response_header(response, "Correlation-Id", x.correlation_id);

    bool acceptable = take_accept(&x);
    if (split_path(&x, &problem)) {
        take_matrix(&x);
        route = find_route(&x, ids, &problem);
    }
    if (!acceptable && !(x.wants_stream && route != NULL && may_stream(route))) {
        g_clear_error(&problem);
        error_set(&problem, ERR_MEDIA, "the answer can be application/xml or application/json");
        put_fault(&x, 406, NULL, problem);
        return;
    }
    if (route != NULL) {
        x.may_action = is_action(route);
        if (access_check(api->manager, who, route, ids, &problem) &&
            check_version(request, &problem))
            body = read_body(route, request, &problem);
    }
    if (problem != NULL)
        put_fault(&x, error_http_status(problem), NULL, problem);
    else if (route != NULL && route->kept && may_keep(&x, who))
        run_kept(api, &x, who, route, ids, body);
    else if (route != NULL)
        run_handler(api, &x, who, route, ids, body);
}

void
api_refuse(const HttpRequest *request, const GError *problem, HttpResponse *response)
{
    g_auto(Exchange) x = { .http = request, .response = response };

    if (!media_accept(http_header(request, "Accept"), &x.media))
        x.media = MEDIA_XML;
    put_fault(&x, error_http_status(problem), NULL, problem);
}
