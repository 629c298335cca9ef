/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Sessions and tokens over TCP, as an attacker would try them: cookies, what ends a sign-in, and
 * who may end whose.
 */
#include "api/access.h"
#include "api_tcp.h"
#include "base/log.h"

#define PASSWORD "sesame open"
#define ADMIN_ROLE "administrator"

static World world;

/* ---- speaking ---- */

static Heard
ask(const char *method, const char *path, const char *headers, const char *body)
{
    Heard heard = { 0 };
    autofd int fd = raw_dial(raw_port(&world));
    g_autofree char *all = g_strconcat("Content-Type: application/json\r\n"
                                       "Accept: application/json\r\n",
                                       headers, NULL);
    g_autofree char *head = raw_head(method, path, all, strlen(body));

    raw_say(fd, head, strlen(head));
    raw_say(fd, body, strlen(body));
    raw_hear(fd, &heard);
    return heard;
}

static int
status(const char *method, const char *path, const char *headers)
{
    g_auto(Heard) heard = ask(method, path, headers, "");

    return heard.status;
}

static json_t *
document(const char *path, const char *headers)
{
    g_auto(Heard) heard = ask("GET", path, headers, "");

    if (heard.status != 200)
        g_error("GET %s: %d %s", path, heard.status, heard.body->str);
    return parse(heard.body->str);
}

static void
add_user(const char *name, const char *role)
{
    g_autofree char *body = g_strdup_printf(
        "{\"user_name\":\"%s\",\"role\":\"%s\",\"password\":\"" PASSWORD "\"}", name, role);

    json_call(&world, "POST", PATH("/users"), body, 201);
}

static void
remove_user(const char *name)
{
    json_call(&world, "DELETE", PATH("/users/%s", name), NULL, 200);
}

/* Signs in as the page does. The headers of its requests; *ret_cookie: as it was given */
static char *
page_of(const char *name, const char *headers, char **ret_cookie)
{
    g_autofree char *body =
        g_strdup_printf("{\"username\":\"%s\",\"password\":\"" PASSWORD "\"}", name);
    g_auto(Heard) heard = ask("POST", "/session", headers, body);
    char *cookie;

    if (heard.status != 200)
        g_error("POST /session: %d %s", heard.status, heard.body->str);
    g_assert_nonnull(heard_header(&heard, "set-cookie", &cookie));
    char *all = g_strdup_printf("Cookie: %.*s\r\n" PAGE_HEADER ": 1\r\n", (int)strcspn(cookie, ";"),
                                cookie);
    if (ret_cookie != NULL)
        *ret_cookie = g_steal_pointer(&cookie);
    g_free(cookie);
    return all;
}

static char *
token_of(const char *name)
{
    g_autofree char *path = g_strdup_printf(
        "/ovirt-engine/sso/oauth/token?grant_type=password&scope=ovirt-app-api&username=%s&"
        "password=sesame%%20open",
        name);
    g_auto(Heard) heard = ask("POST", path, "", "");

    if (heard.status != 200)
        g_error("POST %s: %d %s", path, heard.status, heard.body->str);
    g_autoptr(json_t) doc = parse(heard.body->str);
    return g_strdup_printf("Authorization: Bearer %s\r\n", json_text(doc, "access_token"));
}

/* ---- the cookie ---- */

/* No script sees it and no other site's page sends it; Secure would keep it from plain HTTP, which
 * is for the machine itself. */
static void
test_cookie(void)
{
    g_autofree char *cookie = NULL;

    add_user("eve", "viewer");
    g_autofree char *page = page_of("eve", "", &cookie);
    g_assert_nonnull(strstr(cookie, "; Path=/; HttpOnly; SameSite=Strict"));
    g_assert_null(strstr(cookie, "Secure"));
    g_assert_cmpint(status("GET", API_ROOT "/vms", page), ==, 200);
    remove_user("eve");
}

/* A cookie that an attacker has planted is never the one that its victim signs in with; and whoever
 * signs in again in the same browser leaves nothing behind. */
static void
test_fixation(void)
{
    g_autofree char *given = NULL;

    add_user("eve", "viewer");
    g_autofree char *first = page_of(
        "eve", "Cookie: " COOKIE "=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n", &given);
    g_assert_null(strstr(given, "AAAAAAAAAA"));
    g_autofree char *second = page_of("eve", first, NULL);
    g_assert_cmpstr(first, !=, second);
    g_assert_cmpint(status("GET", "/session", first), ==, 401);
    g_assert_cmpint(status("GET", "/session", second), ==, 200);
    /* but a sign-in that fails takes nothing away */
    g_auto(Heard) wrong =
        ask("POST", "/session", second, "{\"username\":\"eve\",\"password\":\"not that one\"}");
    g_assert_cmpint(wrong.status, ==, 401);
    g_assert_cmpint(status("GET", "/session", second), ==, 200);
    remove_user("eve");
}

/* ---- sessions ---- */

#define SESSIONS(name) API_ROOT "/users/" name "/sessions"

static void
test_sessions(void)
{
    add_user("eve", "none");
    add_user("mallory", "operator");
    add_user("chief", ADMIN_ROLE);
    g_autofree char *page = page_of("eve", "", NULL), *token = token_of("eve");
    g_autofree char *mallory = token_of("mallory"), *chief = token_of("chief");
    g_autoptr(json_t) own = document(SESSIONS("eve"), page);

    g_assert_cmpuint(json_array_size(at(own, "session")), ==, 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *one = json_array_get(at(own, "session"), i);
        bool browser = g_str_equal(json_text(one, "kind"), "browser");
        g_assert_true(json_is_boolean(at(one, "current")));
        g_assert_cmpint(json_is_true(at(one, "current")), ==, browser);
        g_assert_cmpstr(json_text(one, "address"), ==, "127.0.0.1");
        g_autoptr(json_t) alone = document(json_text(one, "href"), chief);
        g_assert_cmpstr(json_text(alone, "id"), ==, json_text(one, "id"));
    }
    /* nobody else's business */
    g_autofree char *one = g_strconcat(
        SESSIONS("eve") "/", json_text(json_array_get(at(own, "session"), 0), "id"), NULL);
    g_assert_cmpint(status("GET", SESSIONS("eve"), mallory), ==, 403);
    g_assert_cmpint(status("GET", SESSIONS("nobody"), mallory), ==, 403);
    g_assert_cmpint(status("DELETE", SESSIONS("eve"), mallory), ==, 403);
    g_assert_cmpint(status("DELETE", one, mallory), ==, 403);
    g_assert_cmpint(status("GET", SESSIONS("nobody"), chief), ==, 404);
    /* an id is good for its own user only, and no token is one */
    g_autofree char *others = g_strdup(strrchr(one, '/'));
    g_autofree char *wrong = g_strconcat(SESSIONS("mallory"), others, NULL);
    g_assert_cmpint(status("DELETE", wrong, mallory), ==, 404);
    g_autofree char *forged = g_strdup_printf("Authorization: Bearer %s\r\n", others + 1);
    g_assert_cmpint(status("GET", SESSIONS("eve"), forged), ==, 401);

    g_assert_cmpint(status("DELETE", SESSIONS("eve"), page), ==, 200);
    g_assert_cmpint(status("GET", API_ROOT, token), ==, 401);
    g_assert_cmpint(status("GET", API_ROOT, page), ==, 200);
    json_call(&world, "GET", PATH("/events?max=1"), NULL, 200);
    g_assert_nonnull(strstr(json_text(at(world.doc, "event.0"), "description"),
                            "1 session of user 'eve' was ended from 127.0.0.1"));
    g_assert_cmpint(status("DELETE", SESSIONS("eve"), chief), ==, 200);
    g_assert_cmpint(status("GET", API_ROOT, page), ==, 401);
    g_assert_cmpint(status("GET", API_ROOT, chief), ==, 200);
    remove_user("eve");
    remove_user("mallory");
    remove_user("chief");
}

/* ---- locked ---- */

static void
test_locked(void)
{
    add_user("eve", "operator");
    add_user("chief", ADMIN_ROLE);
    g_autofree char *page = page_of("eve", "", NULL), *token = token_of("eve");
    g_autofree char *chief = token_of("chief");
    g_auto(Heard) own = ask("PUT", API_ROOT "/users/chief", chief, "{\"locked\":true}");
    g_assert_cmpint(own.status, ==, 409);
    g_assert_nonnull(strstr(own.body->str, "yourself"));
    g_auto(Heard) bad = ask("PUT", API_ROOT "/users/eve", chief, "{\"locked\":\"maybe\"}");
    g_assert_cmpint(bad.status, ==, 400);
    g_assert_nonnull(strstr(bad.body->str, "locked"));
    g_auto(Heard) eve = ask("PUT", API_ROOT "/users/chief", token, "{\"locked\":true}");
    g_assert_cmpint(eve.status, ==, 403);
    /* null and a document without it leave it as it is */
    g_auto(Heard) done = ask("PUT", API_ROOT "/users/eve", chief, "{\"locked\":true}");
    g_assert_cmpint(done.status, ==, 200);
    g_auto(Heard) null = ask("PUT", API_ROOT "/users/eve", chief, "{\"locked\":null}");
    g_autoptr(json_t) after = parse(null.body->str);
    g_assert_true(json_is_true(at(after, "locked")));
    assert_at(after, "tokens", "0");
    g_assert_cmpint(status("GET", API_ROOT, page), ==, 401);
    g_assert_cmpint(status("GET", API_ROOT, token), ==, 401);
    g_auto(Heard) again =
        ask("POST", "/session", "", "{\"username\":\"eve\",\"password\":\"" PASSWORD "\"}");
    g_assert_cmpint(again.status, ==, 401);
    g_assert_nonnull(strstr(again.body->str, "locked"));
    static const char *const said[] = { "User 'eve' failed to log in",
                                        "User 'eve' was locked, and signed out everywhere" };
    json_call(&world, "GET", PATH("/events?max=2"), NULL, 200);
    for (size_t i = 0; i < G_N_ELEMENTS(said); i++) {
        const json_t *event = json_array_get(at(world.doc, "event"), i);
        g_assert_true(g_str_has_prefix(json_text(event, "description"), said[i]));
    }
    g_auto(Heard) undone = ask("PUT", API_ROOT "/users/eve", chief, "{\"locked\":false}");
    g_assert_cmpint(undone.status, ==, 200);
    g_autofree char *fresh = token_of("eve");
    g_assert_cmpint(status("GET", API_ROOT, fresh), ==, 200);
    g_assert_cmpint(status("GET", API_ROOT, token), ==, 401);
    remove_user("eve");
    remove_user("chief");
}

/* Signing in and out, in oVirt's words: whence, and the id of the session as it is listed. */
static void
test_login_events(void)
{
    add_user("eve", "viewer");
    g_auto(Heard) in = ask("POST", "/session", "Correlation-Id: knock-1\r\n",
                           "{\"username\":\"eve\",\"password\":\"" PASSWORD "\"}");
    char *cookie = NULL;
    g_assert_nonnull(heard_header(&in, "set-cookie", &cookie));
    g_autofree char *page = g_strdup_printf("Cookie: %.*s\r\n" PAGE_HEADER ": 1\r\n",
                                            (int)strcspn(cookie, ";"), cookie);
    g_free(cookie);
    g_autoptr(json_t) own = document(SESSIONS("eve"), page);
    g_autofree char *id = g_strdup(json_text(at(own, "session.0"), "id"));
    g_autofree char *came = g_strdup_printf(
        "User eve@internal connecting from '127.0.0.1' using session '%s' logged in.", id);
    g_autofree char *went = g_strdup_printf(
        "User eve@internal connected from '127.0.0.1' using session '%s' logged out.", id);
    json_call(&world, "GET", PATH("/events?search=correlation_id%%3Dknock-1"), NULL, 200);
    g_assert_cmpstr(json_text(at(world.doc, "event.0"), "description"), ==, came);
    assert_at(world.doc, "event.0.code", "30");
    assert_at(world.doc, "event.0.user.id", "\"eve\"");
    g_assert_cmpint(status("DELETE", "/session", page), ==, 200);
    json_call(&world, "GET", PATH("/events?max=1"), NULL, 200);
    g_assert_cmpstr(json_text(at(world.doc, "event.0"), "description"), ==, went);
    assert_at(world.doc, "event.0.code", "31");
    remove_user("eve");
}

/* ---- what nobody in particular may see ---- */

/* The id of a member of the collection; "x" = it has none */
static char *
id_in(const char *collection)
{
    const char *key;
    json_t *members;

    call(&world, "GET", PATH("/%s", collection), json_headers, NULL);
    json_object_foreach (world.doc, key, members)
        if (json_array_size(members) > 0)
            return g_strdup(json_text(json_array_get(members, 0), "id"));
    return g_strdup("x");
}

/* The route's path with what there is of it: VMs, disks, hosts, storage domains. */
static char *
real_path(const Route *route)
{
    g_auto(GStrv) words = g_strsplit(route->path, "/", -1);

    for (char **word = words; *word != NULL; word++)
        if (g_str_equal(*word, "*")) {
            g_free(*word);
            *word = word == words + 1 ? id_in(words[0]) : g_strdup(SNAP_1);
        }
    return g_strjoinv("/", words);
}

/* Whoever has signed in and has no role finds no word of a VM, wherever he looks; and what he looks
 * at is there. */
static void
test_nothing_of_vms(void)
{
    static const char *const secrets[] = { VM_ID,        "web1",          DISK_A,   SNAP_1,
                                           "base.qcow2", "before update", "/images" };
    unsigned looked = 0;

    add_user("eve", "none");
    g_autofree char *token = token_of("eve");
    for (const Route *route = api_routes; route->method != NULL; route++) {
        if (!g_str_equal(route->method, "GET") || route->handler == get_event_stream ||
            route->handler == get_openapi) /* its examples are nobody's */
            continue;
        g_autofree char *path = real_path(route);
        g_autofree char *url = g_strconcat(API_ROOT "/", path, NULL);
        g_auto(Heard) heard = ask("GET", url, token, "");
        for (size_t i = 0; i < G_N_ELEMENTS(secrets); i++)
            if (strstr(heard.body->str, secrets[i]) != NULL && strstr(url, secrets[i]) == NULL)
                g_error("GET %s tells nobody of %s: %s", url, secrets[i], heard.body->str);
        looked += heard.status == 200;
    }
    g_assert_cmpuint(looked, >, 40);
    g_auto(Heard) heard = ask("GET", API_ROOT, token, "Accept: application/json\r\n");
    g_assert_nonnull(strstr(heard.body->str, "\"vms\":{\"active\":0,\"total\":0}"));
    remove_user("eve");
}

/* ---- what ends a sign-in while a request waits ---- */

static void
end_by_role(void)
{
    json_call(&world, "PUT", PATH("/users/eve"), "{\"role\":\"none\"}", 200);
}

static void
end_by_password(void)
{
    json_call(&world, "PUT", PATH("/users/eve"), "{\"password\":\"quite another\"}", 200);
}

static void
end_by_lock(void)
{
    json_call(&world, "PUT", PATH("/users/eve"), "{\"locked\":true}", 200);
}

static void
end_by_session(void)
{
    json_call(&world, "DELETE", PATH("/users/eve/sessions"), NULL, 200);
}

static void
end_by_removal(void)
{
    remove_user("eve");
}

/* The manager has seen the token used, and what came with it has been looked at. */
static void
wait_until_used(void)
{
    int64_t until = g_get_monotonic_time() + 40 * G_TIME_SPAN_SECOND;
    const json_t *session;

    do {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        json_call(&world, "GET", PATH("/users/eve/sessions"), NULL, 200);
        session = at(world.doc, "session.0");
    } while (g_str_equal(json_text(session, "last_used"), json_text(session, "created")));
    for (int i = 0; i < 5; i++)
        json_call(&world, "GET", PATH("/users/eve/sessions"), NULL, 200);
}

/* A long poll is answered with the rights of that moment, not of when it began: each of these is an
 * event, for which it waits. */
static void
test_long_poll(void)
{
    static const struct {
        void (*end)(void);
        int status;
        const char *says;
    } rows[] = { { end_by_role, 200, "\"event\":[]" },
                 { end_by_session, 401, "sign-in" },
                 { end_by_password, 401, "sign-in" },
                 { end_by_lock, 401, "sign-in" },
                 { end_by_removal, 401, "sign-in" } };

    add_user("eve", "viewer");
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_call(&world, "PUT", PATH("/users/eve"),
                  "{\"role\":\"viewer\",\"locked\":false,\"password\":\"" PASSWORD "\"}", 200);
        g_autofree char *token = token_of("eve");
        g_auto(Heard) heard = { 0 };
        json_call(&world, "GET", PATH("/events?max=1"), NULL, 200);
        g_autofree char *path = g_strdup_printf(API_ROOT "/events?wait=60&from=%s",
                                                json_text(at(world.doc, "event.0"), "id"));
        g_autofree char *headers = g_strconcat("Accept: application/json\r\n", token, NULL);
        g_autofree char *head = raw_head("GET", path, headers, 0);
        autofd int fd = raw_dial(raw_port(&world));
        g_usleep(2000); /* the token's times are in milliseconds */
        raw_say(fd, head, strlen(head));
        wait_until_used();
        rows[i].end();
        raw_hear(fd, &heard);
        if (heard.status != rows[i].status || strstr(heard.body->str, rows[i].says) == NULL)
            g_error("row %zu: %d %s", i, heard.status, heard.body->str);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_people_test");
    world_start(&world);
    g_test_add_func("/api/people/cookie", test_cookie);
    g_test_add_func("/api/people/fixation", test_fixation);
    g_test_add_func("/api/people/sessions", test_sessions);
    g_test_add_func("/api/people/locked", test_locked);
    g_test_add_func("/api/people/login-events", test_login_events);
    g_test_add_func("/api/people/nothing-of-vms", test_nothing_of_vms);
    g_test_add_func("/api/people/long-poll", test_long_poll);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
