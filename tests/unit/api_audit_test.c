/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What people change without a job, and what they are refused, is told by an event.
 */
#include "api/audit.h"
#include "api_world.h"
#include "base/log.h"

static World world;

/* The newest event says so, of this user, with this correlation id. */
static void
assert_told(const char *text, const char *severity, const char *user)
{
    json_call(&world, "GET", PATH("/events?max=1"), NULL, 200);
    const json_t *event = at(world.doc, "event.0");
    const char *said = json_text(event, "description");

    if (said == NULL || strstr(said, text) == NULL)
        g_error("the newest event says '%s', wanted '%s'", said, text);
    g_assert_cmpstr(json_text(event, "severity"), ==, severity);
    g_assert_cmpstr(json_text(event, "correlation_id"), ==, "audit-1");
    g_assert_nonnull(strstr(said, user));
}

static void
change(const char *method, char *path, const char *body, int status)
{
    static const char *const headers[] = { "Accept: application/json",
                                           "Content-Type: application/json",
                                           "Correlation-Id: audit-1", NULL };

    call(&world, method, path, headers, body);
    if (world.answer.status != status)
        g_error("%s: %d, wanted %d: %s", method, world.answer.status, status, world.answer.body);
}

static void
test_users(void)
{
    change("POST", PATH("/users"), "{\"user_name\":\"alice\",\"role\":\"viewer\"}", 201);
    assert_told("User 'alice' was added with the role viewer", "normal", "root@local");
    change("PUT", PATH("/users/alice"), "{\"role\":\"operator\"}", 200);
    assert_told("The role of user 'alice' is operator now", "normal", "root@local");
    change("PUT", PATH("/users/alice"), "{\"password\":\"a long enough one\"}", 200);
    assert_told("The password of user 'alice' was changed", "normal", "root@local");
    change("PUT", PATH("/users/alice"),
           "{\"vm_roles\":{\"vm_role\":[{\"vm\":{\"id\":\"" VM_ID "\"},\"role\":\"operator\"}]}}",
           200);
    assert_told("The role of user 'alice' for VM 'web1' is operator now", "normal", "root@local");
    change("DELETE", PATH("/users/alice"), NULL, 200);
    assert_told("User 'alice' was removed", "normal", "root@local");
}

/* By the user himself, who signs in over the local socket, too; a wrong old password is told. */
static void
test_own_password(void)
{
    static const char *const as_alice[] = { "Accept: application/json",
                                            "Content-Type: application/json",
                                            "Correlation-Id: audit-1",
                                            "Authorization: Basic YWxpY2U6c2VzYW1lIG9wZW4=", NULL };
#define OWN PATH("/users/alice/password")

    change("POST", PATH("/users"),
           "{\"user_name\":\"alice\",\"role\":\"none\",\"password\":\"sesame open\"}", 201);
    change("POST", OWN, "{\"old_password\":\"sesame open\",\"password\":\"open sesame\"}", 403);
    call(&world, "GET", PATH("/users/alice"), as_alice, NULL);
    g_assert_cmpint(world.answer.status, ==, 200);
    call(&world, "POST", OWN, as_alice,
         "{\"old_password\":\"wrong one\",\"password\":\"open sesame\"}");
    g_assert_cmpint(world.answer.status, ==, 403);
    g_assert_nonnull(strstr(world.answer.body, "old_password"));
    assert_told("User 'alice@internal' failed to change the own password from local: the old one "
                "was wrong",
                "warning", "alice@internal");
    call(&world, "POST", OWN, as_alice,
         "{\"old_password\":\"sesame open\",\"password\":\"open sesame\"}");
    g_assert_cmpint(world.answer.status, ==, 200);
    assert_told("The password of user 'alice' was changed by the user, from local", "normal",
                "alice@internal");
    call(&world, "GET", PATH("/users/alice"), as_alice, NULL);
    g_assert_cmpint(world.answer.status, ==, 401);
    change("DELETE", PATH("/users/alice"), NULL, 200);
}

/* A change that fails tells of no change. */
static void
test_nothing_changed(void)
{
    json_call(&world, "GET", PATH("/events?max=1"), NULL, 200);
    g_autofree char *newest = g_strdup(json_text(at(world.doc, "event.0"), "id"));

    change("PUT", PATH("/users/nobody"), "{\"role\":\"operator\"}", 404);
    change("DELETE", PATH("/users/nobody"), NULL, 404);
    change("POST", PATH("/jobs/x/cancel"), "{}", 404);
    json_call(&world, "GET", PATH("/events?max=1"), NULL, 200);
    g_assert_cmpstr(json_text(at(world.doc, "event.0"), "id"), ==, newest);
}

static void
refuse(Api *api, const Who *who)
{
    HttpRequest request = { .method = "POST",
                            .path = API_ROOT "/vms/" VM_ID "/start",
                            .raw_path = API_ROOT "/vms/" VM_ID "/start",
                            .query = "correlation_id=audit-1",
                            .body = "",
                            .peer = "local" };
    HttpResponse response = { 0 };

    api_answer(api, who, &request, &response);
    g_assert_cmpint(response.status, ==, 403);
    http_response_clear(&response);
}

static void
test_refused(void)
{
    Audit *audit = audit_new();
    Cache *cache = cache_new(world.manager);
    Api api = { .manager = world.manager, .cache = cache, .audit = audit };
    g_autoptr(Who) viewer = who_local("eve@internal", ROLE_VIEWER);

    refuse(&api, viewer);
    assert_told("User 'eve@internal' has not the right to POST " API_ROOT "/vms/" VM_ID "/start",
                "warning", "eve@internal");
    for (int i = 0; i < 50; i++)
        refuse(&api, viewer);
    assert_told("More of it is not told for a minute", "warning", "eve@internal");
    json_call(&world, "GET", PATH("/events?search=severity=warning"), NULL, 200);
    g_assert_cmpuint(json_array_size(at(world.doc, "event")), ==, 10);
    cache_free(cache);
    audit_free(audit);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_audit_test");
    world_start(&world);
    g_test_add_func("/api/audit/users", test_users);
    g_test_add_func("/api/audit/nothing-changed", test_nothing_changed);
    g_test_add_func("/api/audit/refused", test_refused);
    g_test_add_func("/api/audit/own-password", test_own_password);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
