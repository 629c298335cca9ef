/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Every row of the routes table, whatever it will hold: who may use it, and in which words. The
 * real server on a local socket, spoken to in bytes. What is sent to it is in api_bad_input_test.c.
 */
#include "api/access.h"
#include "api/xml.h"
#include "api_tcp.h"
#include "base/log.h"

#include <sys/socket.h>
#include <sys/un.h>

#define OTHER_VM "11111111-0000-4000-8000-0000000000ff"

static World world;

/* ---- speaking ---- */

static int
connect_to(const World *w)
{
    struct sockaddr_un where = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = 20 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autofree char *path = g_build_filename(w->dir, "api", NULL);

    g_strlcpy(where.sun_path, path, sizeof where.sun_path);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&where, sizeof where), ==, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static char *
hear_all(int fd)
{
    GString *heard = g_string_new(NULL);
    char part[8192];
    ssize_t size;

    while ((size = read(fd, part, sizeof part)) > 0)
        g_string_append_len(heard, part, size);
    return g_string_free(heard, FALSE);
}

/* headers: lines with \r\n, or "" */
static char *
exchange(const char *method, const char *path, const char *headers)
{
    autofd int fd = connect_to(&world);
    g_autofree char *head = g_strdup_printf(
        "%s " API_ROOT "%s%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", method,
        *path != '\0' ? "/" : "", path, headers);

    raw_say(fd, head, strlen(head));
    return hear_all(fd);
}

/* ---- what is right of every answer ---- */

static int
status_of(const char *said)
{
    return g_str_has_prefix(said, "HTTP/1.1 ") ? atoi(said + strlen("HTTP/1.1 ")) : 0;
}

static const char *
body_of(const char *said)
{
    const char *end = strstr(said, "\r\n\r\n");

    return end != NULL ? end + 4 : "";
}

static void
assert_safe_headers(const char *said, const char *what)
{
    static const char *const wanted[] = { "\r\nCache-Control: no-store\r\n",
                                          "\r\nX-Content-Type-Options: nosniff\r\n",
                                          "\r\nContent-Security-Policy: " };

    for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++)
        if (strstr(said, wanted[i]) == NULL)
            g_error("%s: the answer lacks%sin\n%.600s", what, wanted[i], said);
}

/* The fault says why; "names" is in it. */
static void
assert_fault(const char *said, int status, const char *names, const char *what)
{
    const char *body = body_of(said);

    if (status_of(said) != status)
        g_error("%s: wanted %d, and the server said\n%.800s", what, status, said);
    assert_safe_headers(said, what);
    if (strstr(body, "detail") == NULL || strstr(body, "fault") == NULL)
        g_error("%s: no fault is in\n%.800s", what, said);
    if (names != NULL && strstr(body, names) == NULL)
        g_error("%s: the fault should name %s, and says\n%.800s", what, names, body);
}

/* ---- the routes ---- */

/* The path of a route with these in the place of its stars. */
static char *
path_with(const Route *route, const char *first, const char *second)
{
    g_auto(GStrv) words = g_strsplit(route->path, "/", -1);
    unsigned n = 0;

    for (char **word = words; *word != NULL; word++)
        if (g_str_equal(*word, "*")) {
            g_free(*word);
            *word = g_strdup(n++ == 0 ? first : second);
        }
    return g_strjoinv("/", words);
}

static const char *
id_for(const Route *route)
{
    return g_str_has_prefix(route->path, "vms/")     ? VM_ID
           : g_str_has_prefix(route->path, "disks/") ? DISK_A
                                                     : "x";
}

/* ---- rights ---- */

typedef struct {
    const char *words;
    Role everywhere, on_vm;
} Caller;

static Who *
who_new(const Caller *person)
{
    Who *who = who_local("alice@internal", person->everywhere);

    if (person->on_vm != ROLE_NONE) {
        who->vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_hash_table_insert(who->vms, g_strdup(VM_ID), GINT_TO_POINTER(person->on_vm));
    }
    return who;
}

static bool
is_of_a_vm(const Route *route)
{
    static const char *const owned[] = { "vms/*", "disks/*", "jobs/*", "events/*" };

    for (size_t i = 0; i < G_N_ELEMENTS(owned); i++)
        if (g_str_has_prefix(route->path, owned[i]))
            return true;
    return false;
}

/* 0 = yes; else the status of the refusal */
static int
wanted_refusal(const Route *route, const Caller *person)
{
    static const Role needs[] = { [RIGHT_PUBLIC] = ROLE_NONE,
                                  [RIGHT_SIGNED_IN] = ROLE_NONE,
                                  [RIGHT_READ] = ROLE_VIEWER,
                                  [RIGHT_OPERATE] = ROLE_OPERATOR,
                                  [RIGHT_ADMINISTER] = ROLE_ADMINISTRATOR,
                                  [RIGHT_OWN] = ROLE_ADMINISTRATOR };
    bool known = g_str_has_prefix(route->path, "vms/*") || g_str_has_prefix(route->path, "disks/*");
    Role role = person->everywhere;

    if (is_of_a_vm(route) && known)
        role = MAX(role, person->on_vm);
    if (role >= needs[route->right])
        return 0;
    return is_of_a_vm(route) && role == ROLE_NONE ? 404 : 403;
}

static void
check_right(const Route *route, const Caller *person)
{
    g_autoptr(Who) who = who_new(person);
    const char *ids[2] = { id_for(route), "x" };
    g_autoptr(GError) problem = NULL;
    bool may = access_check(world.manager, who, route, ids, &problem);
    int wanted = wanted_refusal(route, person);
    int got = may ? 0 : error_http_status(problem);

    if (got != wanted)
        g_error("%s %s by %s: access says %d (%s), wanted %d (0 = may)", route->method, route->path,
                person->words, got, problem != NULL ? problem->message : "", wanted);
}

static void
test_rights(void)
{
    static const Caller people[] = {
        { "nobody", ROLE_NONE, ROLE_NONE },
        { "a viewer", ROLE_VIEWER, ROLE_NONE },
        { "an operator", ROLE_OPERATOR, ROLE_NONE },
        { "an administrator", ROLE_ADMINISTRATOR, ROLE_NONE },
        { "a viewer of the VM", ROLE_NONE, ROLE_VIEWER },
        { "an operator of the VM", ROLE_NONE, ROLE_OPERATOR },
        { "an administrator of the VM", ROLE_NONE, ROLE_ADMINISTRATOR },
        { "a viewer who operates the VM", ROLE_VIEWER, ROLE_OPERATOR },
    };

    for (const Route *route = api_routes; route->method != NULL; route++)
        for (size_t i = 0; i < G_N_ELEMENTS(people); i++)
            check_right(route, &people[i]);
}

/* Whatever the role: the user whom the path names may do what is his own, and no more than that. */
static void
test_own(void)
{
    unsigned own = 0;

    for (const Route *route = api_routes; route->method != NULL; route++)
        for (int i = 0; i < 2 && g_str_has_prefix(route->path, "users/*"); i++) {
            g_autoptr(Who) who = who_local("alice@internal", ROLE_NONE);
            const char *ids[2] = { i == 0 ? "alice" : "alice@internal", "x" };
            who->user = g_strdup("alice");
            bool may = access_check(world.manager, who, route, ids, NULL);
            if (may != (route->right == RIGHT_OWN))
                g_error("%s %s by the user %s: %d", route->method, route->path, ids[0], may);
            own += may;
        }
    g_assert_cmpuint(own, >, 0);
}

/* ---- no credentials, and those of others ---- */

static void
test_credentials(void)
{
    static const struct {
        const char *words, *headers;
        int status;
    } cases[] = {
        { "an unknown token", "Authorization: Bearer nonsense\r\n", 401 },
        { "no user name", "Authorization: Basic !!!\r\n", 401 },
        { "another scheme", "Authorization: Digest x\r\n", 401 },
        { "an unknown session", "Cookie: " COOKIE "=nonsense\r\n" PAGE_HEADER ": 1\r\n", 401 },
        { "another web page", "Origin: https://evil.example\r\n", 403 },
    };

    for (const Route *route = api_routes; route->method != NULL; route++)
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
            g_autofree char *path = path_with(route, id_for(route), "x");
            g_autofree char *what =
                g_strdup_printf("%s /%s with %s", route->method, path, cases[i].words);
            g_autofree char *said = exchange(route->method, path, cases[i].headers);
            assert_fault(said, cases[i].status, NULL, what);
        }
}

/* A page of somebody else cannot make the browser send the header. */
static void
test_cookie_alone(void)
{
    for (const Route *route = api_routes; route->method != NULL; route++) {
        if (g_str_equal(route->method, "GET"))
            continue;
        g_autofree char *path = path_with(route, id_for(route), "x");
        g_autofree char *said = exchange(route->method, path, "Cookie: " COOKIE "=nonsense\r\n");
        assert_fault(said, 403, PAGE_HEADER, path);
    }
}

/* ---- methods and media ---- */

static void
test_methods_and_media(void)
{
    for (const Route *route = api_routes; route->method != NULL; route++) {
        g_autofree char *path = path_with(route, id_for(route), "x");
        g_autofree char *said = exchange("PATCH", path, "");
        g_autofree char *allow = g_strdup_printf("\r\nAllow: ");

        assert_fault(said, 405, NULL, path);
        const char *allowed = strstr(said, allow);
        if (allowed == NULL || strstr(allowed, route->method) == NULL)
            g_error("PATCH /%s: Allow should name %s in\n%.600s", path, route->method, said);
        g_autofree char *other = exchange(route->method, path, "Accept: image/png\r\n");
        assert_fault(other, 406, NULL, path);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_every_route_test");
    world_start(&world);
#define TEST(name, function) g_test_add_func("/api/every-route/" name, function)
    TEST("rights", test_rights);
    TEST("own", test_own);
    TEST("credentials", test_credentials);
    TEST("cookie-alone", test_cookie_alone);
    TEST("methods-and-media", test_methods_and_media);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
