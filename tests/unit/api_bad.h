/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For api_bad_input_test.c: any route of the table over TCP, by users of each role, and what is
 * right of every answer.
 */
#pragma once

#include "api/openapi.h"
#include "api_tcp.h"
#include "base/log.h"

#define NIL "00000000-0000-4000-8000-00000000dead"
#define API "/ovirt-engine/api/"
#define XML_TYPE "Content-Type: application/xml\r\n"
#define JSON_TYPE "Content-Type: application/json\r\n"

static World world;
static unsigned port;
static char *administrator, *viewer, *nobody; /* header lines */

static char *job_id, *step_id; /* of another program */

/* ---- one request ---- */

/* What is there of each kind; the caller frees it. */
static inline char *
real_id(const char *kind)
{
    static const char *const ids[][2] = { { "vms", VM_ID },
                                          { "snapshots", SNAP_1 },
                                          { "disks", DISK_A },
                                          { "diskattachments", DISK_A },
                                          { "disksnapshots",
                                            "44444444-0000-4000-8000-000000000001" },
                                          { "users", "victim" },
                                          { "graphicsconsoles", "564e43" },
                                          { "hosts", "aaaaaaaa-0000-4000-8000-000000000001" },
                                          { "templates", API_NIL_ID },
                                          { "tags", API_NIL_ID },
                                          { "options", "VdcVersion" },
                                          { "events", "1" } };

    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++)
        if (g_str_equal(ids[i][0], kind))
            return g_strdup(ids[i][1]);
    return g_str_equal(kind, "jobs")             ? g_strdup(job_id)
           : g_str_equal(kind, "steps")          ? g_strdup(step_id)
           : g_str_equal(kind, "statistics")     ? derived_id("statistic", "memory.installed")
           : g_str_equal(kind, "clusters")       ? cluster_id()
           : g_str_equal(kind, "datacenters")    ? data_center_id()
           : g_str_equal(kind, "storagedomains") ? storage_domain_id_of("/images")
                                                 : g_strdup(NIL);
}

/* The star-th star (from 0) stands for id, the others for what is there. */
static inline char *
path_of(const Route *route, int star, const char *id)
{
    g_auto(GStrv) words = g_strsplit(route->path, "/", -1);

    for (int i = 0, n = 0; words[i] != NULL; i++) {
        if (!g_str_equal(words[i], "*"))
            continue;
        char *put = n++ == star ? g_strdup(id) : real_id(words[i - 1]);
        g_free(words[i]);
        words[i] = put;
    }
    g_autofree char *joined = g_strjoinv("/", words);
    return g_strconcat(API, joined, NULL);
}

static inline int
stars_of(const Route *route)
{
    int n = 0;

    for (const char *p = route->path; *p != '\0'; p++)
        n += *p == '*';
    return n;
}

/* No answer, whatever its status, may be kept, guessed at or run by a browser. */
static inline void
check_safe(const Heard *heard, const char *what)
{
    g_autofree char *cache = NULL, *sniff = NULL, *policy = NULL;

    heard_header(heard, "cache-control", &cache);
    heard_header(heard, "x-content-type-options", &sniff);
    heard_header(heard, "content-security-policy", &policy);
    if (g_strcmp0(cache, "no-store") != 0 || g_strcmp0(sniff, "nosniff") != 0 || policy == NULL ||
        strstr(policy, "frame-ancestors 'none'") == NULL)
        g_error("%s: its headers are not safe:\n%s", what, heard->head);
}

/* names: must stand in the fault; NULL = anything that is not empty. */
static inline void
check_fault(const Heard *heard, const char *what, const char *names)
{
    g_autofree char *type = NULL;
    const char *detail = strstr(heard->body->str, "detail");

    heard_header(heard, "content-type", &type);
    if (type == NULL || (strstr(type, "xml") == NULL && strstr(type, "json") == NULL) ||
        detail == NULL || strstr(heard->body->str, "reason") == NULL ||
        !g_utf8_validate(heard->body->str, (gssize)heard->body->len, NULL))
        g_error("%s: no fault:\n%s\n%s", what, heard->head, heard->body->str);
    if (names != NULL && strstr(detail, names) == NULL)
        g_error("%s: the fault does not name '%s':\n%s", what, names, heard->body->str);
}

static inline int
try_bytes(const char *method, const char *path, const char *headers, const char *body, size_t size,
          int wanted, const char *names)
{
    g_autofree char *head = raw_head(method, path, headers, size);
    g_autofree char *what = g_strdup_printf("%s %s", method, path);
    g_auto(Heard) heard = { 0 };
    autofd int fd = raw_dial(port);

    raw_say(fd, head, strlen(head));
    raw_say(fd, body, size);
    raw_hear(fd, &heard);
    if (heard.status == 0)
        g_error("%s: the server hung up", what);
    check_safe(&heard, what);
    if (wanted != 0 && heard.status != wanted)
        g_error("%s: %d, wanted %d:\n%s", what, heard.status, wanted, heard.body->str);
    if (heard.status >= 400)
        check_fault(&heard, what, names);
    return heard.status;
}

static inline int
attempt(const char *method, const char *path, const char *headers, const char *body, int wanted,
        const char *names)
{
    return try_bytes(method, path, headers, body, strlen(body), wanted, names);
}

static inline bool
takes_body(const Route *route)
{
    return route->body_root != NULL;
}

static inline char *
as_administrator(const char *more)
{
    return g_strconcat(administrator, more, NULL);
}

/* ---- what is said of a route ---- */

static inline const Note *
note_of(const Route *route)
{
    const Note *note = note_of_route(route);

    if (note == NULL)
        g_error("%s %s has no note", route->method, route->path);
    return note;
}

static inline const SchemaRow *
schema_of(const char *name)
{
    const SchemaRow *row = schema_find(name);

    if (row == NULL)
        g_error("there is no schema %s", name);
    return row;
}

/* ---- begin ---- */

static inline char *
sign_in(const char *name)
{
    g_autofree char *form = g_strdup_printf(
        "grant_type=password&scope=ovirt-app-api&username=%s&password=sesame+open", name);
    static const char *const headers[] = { "Accept: application/json",
                                           "Content-Type: application/x-www-form-urlencoded",
                                           NULL };

    call(&world, "POST", g_strdup("/ovirt-engine/sso/oauth/token"), headers, form);
    g_assert_cmpint(world.answer.status, ==, 200);
    return g_strdup_printf("Authorization: Bearer %s\r\n", json_text(world.doc, "access_token"));
}

static inline void
add_user(const char *name, const char *role)
{
    g_autofree char *body = g_strdup_printf(
        "{\"user_name\":\"%s\",\"role\":\"%s\",\"password\":\"sesame open\"}", name, role);

    json_call(&world, "POST", PATH("/users"), body, 201);
}

static inline void
add_job(void)
{
    json_call(&world, "POST", PATH("/jobs"), "{\"description\":\"backing up\"}", 201);
    job_id = g_strdup(json_text(world.doc, "id"));
    json_call(&world, "POST", PATH("/jobs/%s/steps", job_id),
              "{\"description\":\"copying\",\"type\":\"executing\"}", 201);
    step_id = g_strdup(json_text(world.doc, "id"));
}

static inline void
begin(void)
{
    static const char *const people[][2] = { { "boss", "administrator" },
                                             { "guest", "viewer" },
                                             { "nil", "none" },
                                             { "victim", "viewer" } };

    world_start(&world);
    port = raw_port(&world);
    for (size_t i = 0; i < G_N_ELEMENTS(people); i++)
        add_user(people[i][0], people[i][1]);
    administrator = sign_in("boss");
    viewer = sign_in("guest");
    nobody = sign_in("nil");
    add_job();
}

static inline void
end(void)
{
    char **const all[] = { &administrator, &viewer, &nobody, &job_id, &step_id };

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        g_clear_pointer(all[i], g_free);
    world_stop(&world);
}
