/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Every route's methods and media types as HTTP demands; and what other programs report: events,
 * and jobs of their own.
 */
#include "api_raw.h"

static World world;
static const char *const xml[] = { "Accept: application/xml", NULL };

static bool
allows(const char *allow, const char *method)
{
    g_auto(GStrv) words = g_strsplit(allow, ", ", -1);

    return g_strv_contains((const char *const *)words, method);
}

static void
check_methods(World *w, const Route *route, const char *path)
{
    static const char *const methods[] = { "GET", "POST", "PUT", "DELETE", "PATCH", "TRACE" };
    g_auto(GStrv) words = g_strsplit(route->path, "*", -1);
    g_autofree char *real = g_strjoinv("x", words);
    g_auto(GStrv) segments = path_segments(real);
    const char *ids[2];
    g_autofree char *options = g_strdup_printf("OPTIONS /ovirt-engine/api/%s HTTP/1.1\r\nHost: x"
                                               "\r\nConnection: close\r\n\r\n",
                                               path);
    g_autofree char *said = raw(w, options);
    const char *allow = strstr(said, "\r\nAllow: ");
    g_autofree char *list =
        allow != NULL ? g_strndup(allow + 9, strcspn(allow + 9, "\r")) : g_strdup("");

    g_assert_nonnull(strstr(said, " 200 "));
    for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
        bool there = route_find(methods[i], segments, ids) != NULL;
        if (allows(list, methods[i]) != there)
            g_error("%s: %s of Allow: %s", path, methods[i], list);
        if (there)
            continue;
        call(w, methods[i], PATH("/%s", path), xml, NULL);
        if (w->answer.status != 405)
            g_error("%s %s: %d", methods[i], path, w->answer.status);
    }
}

/* Each route: wrong methods, an answer that nobody can write, a body that nobody can read. */
static void
test_every_route_as_http_demands(void)
{
    static const char *const html[] = { "Accept: text/html", NULL };
    static const char *const plain[] = { "Content-Type: text/plain", NULL };
    World *w = &world;

    for (const Route *route = api_routes; route->method != NULL; route++) {
        g_auto(GStrv) words = g_strsplit(route->path, "*", -1);
        g_autofree char *path = g_strjoinv(VM_ID, words);
        call(w, route->method, PATH("/%s", path), html, NULL);
        if (w->answer.status != 406)
            g_error("%s %s, text/html wanted: %d", route->method, path, w->answer.status);
        if (route->body_root != NULL)
            call(w, route->method, PATH("/%s", path), plain, "x");
        if (route->body_root != NULL && w->answer.status != 415)
            g_error("%s %s, text sent: %d", route->method, path, w->answer.status);
        check_methods(w, route, path);
    }
    call(w, "GET", PATH("/wheels"), xml, NULL);
    g_assert_cmpint(w->answer.status, ==, 404);
    g_autofree char *head = raw(w, "HEAD /ovirt-engine/api HTTP/1.1\r\nHost: x\r\n"
                                   "Connection: close\r\n\r\n");
    g_assert_nonnull(strstr(head, " 200 "));
    g_assert_nonnull(strstr(head, "\r\nLink: </ovirt-engine/api/vms>; rel=\"vms\""));
    g_assert_cmpstr(strstr(head, "\r\n\r\n"), ==, "\r\n\r\n");
}

static void
test_events_of_others(void)
{
    World *w = &world;

    json_call(w, "POST", PATH("/events"),
              "{\"custom_id\":5,\"description\":\"disk is hot\",\"origin\":\"nagios\","
              "\"severity\":\"warning\",\"vm\":{\"id\":\"" VM_ID "\"}}",
              201);
    assert_at(w->doc, "code", "9802");
    assert_at(w->doc, "origin", "\"nagios\"");
    assert_at(w->doc, "custom_id", "5");
    assert_at(w->doc, "vm.name", "\"web1\"");
    json_call(w, "POST", PATH("/events"), "{\"description\":\"x\"}", 400);
    assert_at(w->doc, "reason", "\"Incomplete parameters\"");
    json_call(w, "POST", PATH("/events"),
              "{\"custom_id\":5,\"description\":\"x\",\"origin\":\"o\",\"severity\":\"loud\"}",
              400);
    json_call(
        w, "POST", PATH("/events"),
        "{\"custom_id\":\"five\",\"description\":\"x\",\"origin\":\"o\",\"severity\":\"alert\"}",
        400);
}

static void
test_jobs_of_others(void)
{
    World *w = &world;

    json_call(w, "POST", PATH("/jobs"), "{}", 400);
    assert_at(w->doc, "reason", "\"Incomplete parameters\"");
    call(w, "POST", PATH("/jobs?correlation_id=backup-1"), xml,
         "<job><auto_cleared>false</auto_cleared><description>backing up</description>"
         "<external>true</external><status>started</status></job>"); /* as the SDK prints it */
    g_assert_cmpint(w->answer.status, ==, 201);
    json_call(w, "GET", PATH("/jobs?search=correlation_id%%3Dbackup-1"), NULL, 200);
    assert_at(w->doc, "job.0.external", "true");
    assert_at(w->doc, "job.0.auto_cleared", "false");
    assert_at(w->doc, "job.0.status", "\"started\"");
    g_assert_nonnull(at(w->doc, "job.0.owner.id"));
    g_autofree char *job = g_strdup(json_text(at(w->doc, "job.0"), "id"));

    json_call(w, "POST", PATH("/jobs/%s/steps", job), "{\"description\":\"x\"}", 400);
    json_call(w, "POST", PATH("/jobs/%s/steps", job),
              "{\"description\":\"x\",\"type\":\"dancing\"}", 400);
    json_call(w, "POST", PATH("/jobs/%s/steps", job),
              "{\"description\":\"x\",\"type\":\"unknown\",\"parent_step\":{\"id\":\"y\"}}", 400);
    json_call(w, "POST", PATH("/jobs/%s/steps", job),
              "{\"description\":\"copying\",\"type\":\"unknown\",\"status\":\"started\"}", 201);
    assert_at(w->doc, "type", "\"unknown\"");
    g_autofree char *one = g_strdup(json_text(w->doc, "id"));
    g_autofree char *below = g_strdup_printf(
        "{\"description\":\"checking\",\"type\":\"executing\",\"parent_step\":{\"id\":\"%s\"}}",
        one);
    json_call(w, "POST", PATH("/jobs/%s/steps", job), below, 201);
    g_assert_nonnull(at(w->doc, "parent_step.href"));
    json_call(w, "POST", PATH("/jobs/%s/steps/%s/end", job, one), "{\"succeeded\":false}", 200);
    json_call(w, "POST", PATH("/jobs/%s/steps/%s/end", job, one), "{}", 409);
    json_call(w, "GET", PATH("/jobs/%s/steps", job), NULL, 200);
    assert_at(w->doc, "step.0.status", "\"failed\"");
    assert_at(w->doc, "step.1.status", "\"started\"");

    json_call(w, "POST", PATH("/jobs/%s/cancel", job), "{}", 409);
    gint64 began = g_get_monotonic_time();
    json_call(w, "GET", PATH("/jobs/%s", job), NULL, 200);
    json_int_t rev = json_integer_value(at(w->doc, "rev"));
    json_call(w, "GET", PATH("/jobs/%s?wait=1&rev=%lld", job, (long long)rev), NULL, 200);
    g_assert_cmpint(g_get_monotonic_time() - began, >=, G_TIME_SPAN_SECOND);
    json_call(w, "POST", PATH("/jobs/%s/clear", job), "{}", 200);
    json_call(w, "POST", PATH("/jobs/%s/end", job), "{\"force\":true,\"succeeded\":true}", 200);
    json_call(w, "GET", PATH("/jobs/%s?follow=steps", job), NULL, 200);
    assert_at(w->doc, "status", "\"finished\"");
    assert_at(w->doc, "auto_cleared", "true");
    assert_at(w->doc, "steps.step.1.status", "\"finished\""); /* it ended with the job */
    json_call(w, "POST", PATH("/jobs/%s/steps", job),
              "{\"description\":\"late\",\"type\":\"executing\"}", 409);
    json_call(w, "POST", PATH("/jobs/%s/end", job), "{}", 409);
    json_call(w, "POST", PATH("/jobs/" VM_ID "/end"), "{}", 404);
}

/* A manager that starts again does not take them for its own work. */
static void
test_jobs_of_others_stay(void)
{
    World *w = &world;
    HostConfig host = { "h2", "unix:/nonexistent", NULL };
    g_autoptr(GError) error = NULL;

    json_call(w, "POST", PATH("/jobs"), "{\"description\":\"slow\"}", 201);
    g_autofree char *id = g_strdup(json_text(w->doc, "id"));
    Manager *again = manager_new(w->store, &host, 1, &error);
    g_assert_no_error(error);
    g_autoptr(json_t) job = manager_job(again, id, &error);
    g_assert_no_error(error);
    assert_at(job, "status", "\"started\"");
    assert_at(job, "waiting_for", NULL);
    g_assert_true(manager_external_end(again, id, true, &error));
    manager_free(again);
    json_call(w, "GET", PATH("/jobs/%s", id), NULL, 200);
    assert_at(w->doc, "status", "\"finished\"");
}

static void
test_options(void)
{
    World *w = &world;

    json_call(w, "GET", PATH("/options/LiveMergeEnabled"), NULL, 200);
    assert_at(w->doc, "values.system_option_value.0.value", "\"true\"");
    json_call(w, "GET", PATH("/options/SupportedClusterLevels?version=4.7"), NULL, 200);
    assert_at(w->doc, "values.system_option_value.0.version", "\"4.7\"");
    json_call(w, "GET", PATH("/options/SupportedClusterLevels?version=3.6"), NULL, 200);
    assert_at(w->doc, "values.system_option_value.0", NULL);
    json_call(w, "GET", PATH("/options/Wheels"), NULL, 404);
    call(w, "GET", PATH("/options/LiveMergeEnabled"), xml, NULL);
    g_assert_nonnull(strstr(w->answer.body, "<values><system_option_value><value>true</value>"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    world_start(&world);
#define TEST(path, function) g_test_add_func("/api/outside/" path, function)
    TEST("every-route-as-http-demands", test_every_route_as_http_demands);
    TEST("events", test_events_of_others);
    TEST("jobs", test_jobs_of_others);
    TEST("jobs-stay", test_jobs_of_others_stay);
    TEST("options", test_options);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
