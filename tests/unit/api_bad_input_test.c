/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Bad input: one table of what can be wrong, each tried on every row of the routes table that it
 * concerns, over TCP. The status is as docs/api.md says, and a fault names what is wrong. A new
 * route is tried as soon as it is in the table, and what is to be known of it comes from its note
 * and its schema: without them the test fails. Nothing here may begin a job.
 */
#include "api_bad_members.h"

#define BODY_MAX (1 << 20)

/* ---- which routes ---- */

static bool
any(const Route *route)
{
    return true;
}

/* What everybody who is signed in may have says nothing to who has no role. */
static bool
needs_a_role(const Route *route)
{
    return route->right >= RIGHT_READ;
}

static bool
has_ids(const Route *route)
{
    return stars_of(route) > 0;
}

static bool
has_numbers(const Route *route)
{
    return takes_body(route) || note_of(route)->query != NULL;
}

/* ---- who asks ---- */

static void
no_credentials(const Route *route, const char *path)
{
    attempt(route->method, path, "", "", route->right == RIGHT_PUBLIC ? 200 : 401,
            route->right == RIGHT_PUBLIC ? NULL : "sign in");
}

/* A viewer is told what he lacks; who may see nothing is not told that it is there. */
static void
wrong_role(const Route *route, const char *path)
{
    if (route->right > RIGHT_READ)
        attempt(route->method, path, viewer, "", 403, right_word(route->right));
    int status = attempt(route->method, path, nobody, "", 0, NULL);
    if (status != 403 && status != 404)
        g_error("%s %s tells somebody without a role: %d", route->method, path, status);
}

/* ---- ids ---- */

/* What an empty body lacks may be told first. */
static void
try_id(const Route *route, int star, const char *id, int wanted)
{
    g_autofree char *path = path_of(route, star, id);
    g_autofree char *headers = as_administrator(takes_body(route) ? JSON_TYPE : "");
    int status = attempt(route->method, path, headers, takes_body(route) ? "{}" : "", 0, NULL);

    if (status != wanted && !(takes_body(route) && status == 400))
        g_error("%s %s: %d, wanted %d", route->method, path, status, wanted);
}

static void
malformed_id(const Route *route, const char *path)
{
    static const struct {
        const char *id;
        int status; /* 400: that is no path at all */
    } bad[] = { { "x", 404 },
                { "..%2f..%2fetc", 404 },
                { "%3Cscript%3E", 404 },
                { "99999999999999999999999", 404 },
                { "%00x", 400 },
                { "%ff%fe", 400 } };
    g_autofree char *long_id = g_strnfill(2000, 'a');

    for (int star = 0; star < stars_of(route); star++) {
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
            try_id(route, star, bad[i].id, bad[i].status);
        try_id(route, star, long_id, 404);
    }
}

static void
unknown_id(const Route *route, const char *path)
{
    for (int star = 0; star < stars_of(route); star++)
        try_id(route, star, NIL, 404);
}

/* ---- bodies that are none ---- */

typedef struct {
    const char *type, *body;
    size_t size; /* 0 = its strlen */
    int status;
    const char *names; /* in the fault; NULL = anything */
} Sent;

static void
send_all(const Route *route, const char *path, const Sent *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g_autofree char *type = g_strdup_printf("Content-Type: %s\r\n", rows[i].type);
        g_autofree char *headers = as_administrator(type);
        size_t size = rows[i].size > 0 ? rows[i].size : strlen(rows[i].body);
        try_bytes(route->method, path, headers, rows[i].body, size, rows[i].status, rows[i].names);
    }
}

#define SEND_ALL(route, path, rows) send_all(route, path, rows, G_N_ELEMENTS(rows))

/* The first member without which it makes no sense; NULL = there is none. */
static char *
needed_member(const Route *route)
{
    const SchemaRow *first = schema_of(note_of(route)->takes);

    for (const SchemaRow *row = first; row->member != NULL; row++) {
        if (row != first && row->schema != NULL)
            return NULL;
        if (g_str_has_suffix(row->member, "!"))
            return g_strndup(row->member, strlen(row->member) - 1);
    }
    return NULL;
}

/* Where nothing is needed it would be a whole request: of something that is not there. */
static void
empty_body(const Route *route, const char *path)
{
    g_autofree char *needed = needed_member(route);
    g_autofree char *nowhere = path_of(route, 0, NIL);
    g_autofree char *element = g_strdup_printf("<%s/>", route->body_root);
    const bool any_status = needed == NULL && !has_ids(route);
    const int status = needed != NULL ? 400 : any_status ? 0 : 404;
    const Sent rows[] = { { "application/json", "", 0, status, needed },
                          { "application/json", "{}", 0, status, needed },
                          { "application/xml", element, 0, status, needed } };

    SEND_ALL(route, needed != NULL ? path : nowhere, rows);
}

static void
wrong_root(const Route *route, const char *path)
{
    static const Sent rows[] = { { "application/xml", "<wheels/>", 0, 400, "wheels" },
                                 { "application/json", "[1]", 0, 400, "object" },
                                 { "application/json", "\"x\"", 0, 400, NULL },
                                 { "application/xml", "{}", 0, 400, NULL },
                                 { "application/json", "<action/>", 0, 400, "JSON" },
                                 { "text/plain", "hello", 0, 415, "text/plain" } };

    SEND_ALL(route, path, rows);
}

static void
cut_off(const Route *route, const char *path)
{
    static const Sent rows[] = { { "application/xml", "<action><async>tr", 0, 400, NULL },
                                 { "application/json", "{\"a\":", 0, 400, "JSON" } };

    SEND_ALL(route, path, rows);
}

static void
bomb(const Route *route, const char *path)
{
    static const char entities[] = "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
                                   "<!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>"
                                   "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'>]><action>"
                                   "<async>&c;</async></action>";
    g_autofree char *deep = g_strnfill(4000, '[');
    g_autofree char *nested = g_strconcat("{\"a\":", deep, NULL);
    const Sent rows[] = { { "application/xml", entities, 0, 400, "DOCTYPE" },
                          { "application/json", nested, 0, 400, "JSON" } };

    SEND_ALL(route, path, rows);
}

/* With a GET, which nobody reads, it is refused as well. */
static void
too_large(const Route *route, const char *path)
{
    g_autofree char *large = g_strnfill(BODY_MAX + 1, ' ');
    const Sent rows[] = { { "application/json", large, BODY_MAX + 1, 413, NULL } };

    SEND_ALL(route, path, rows);
}

static void
invalid_text(const Route *route, const char *path)
{
    static const Sent rows[] = { { "application/xml", "<action>\xff\xfe</action>", 0, 400, NULL },
                                 { "application/xml", "<action>\0</action>", 18, 400, NULL },
                                 { "application/json", "{\"a\":\"\xff\xfe\"}", 0, 400, NULL },
                                 { "application/json", "{\"a\":\"\0\"}", 9, 400, NULL } };

    SEND_ALL(route, path, rows);
}

/* ---- members ---- */

static void
another_kind(const Route *route, const char *path)
{
    try_members(route, ANOTHER_KIND);
}

static void
huge_number(const Route *route, const char *path)
{
    static const Sent rows[] = { { "application/json", "{\"a\":1e999}", 0, 400, NULL },
                                 { "application/json", "{\"a\":99999999999999999999999}", 0, 400,
                                   NULL } };

    try_parameters(route);
    if (!takes_body(route))
        return;
    SEND_ALL(route, path, rows);
    try_members(route, TOO_LARGE);
}

static void
member_twice(const Route *route, const char *path)
{
    static const Sent rows[] = { { "application/json", "{\"mine\":1,\"mine\":2}", 0, 400,
                                   "mine" } };

    SEND_ALL(route, path, rows);
    try_members(route, TWICE);
}

/* oVirt's clients send whole documents: what is not known is not looked at. */
static void
unknown_member(const Route *route, const char *path)
{
    g_autofree char *nowhere = path_of(route, 0, NIL);
    g_autofree char *headers = as_administrator(JSON_TYPE);
    int without = attempt(route->method, nowhere, headers, "{}", 0, NULL);
    int with = attempt(route->method, nowhere, headers, "{\"wheels\": {\"n\": [4]}}", 0, NULL);

    if (with != without)
        g_error("%s %s: %d with an unknown member, %d without", route->method, nowhere, with,
                without);
}

/* ---- connections ---- */

static unsigned
threads(void)
{
    g_autoptr(GDir) tasks = g_dir_open("/proc/self/task", 0, NULL);
    unsigned n = 0;

    while (g_dir_read_name(tasks) != NULL)
        n++;
    return n;
}

static int
say_half(const Route *route)
{
    g_autofree char *path = path_of(route, -1, NULL);
    g_autofree char *headers = as_administrator(XML_TYPE);
    g_autofree char *head = raw_head(route->method, path, headers, strlen("<wheels></wheels>"));
    int fd = raw_dial(port);

    raw_say(fd, head, strlen(head));
    raw_say(fd, "<wheels>", strlen("<wheels>"));
    return fd;
}

static void
hear_late(int fd)
{
    g_auto(Heard) heard = { 0 };

    raw_say(fd, "</wheels>", strlen("</wheels>"));
    raw_hear(fd, &heard);
    g_assert_cmpint(heard.status, ==, 400);
    check_fault(&heard, "a slow body", "wheels");
    close(fd);
}

/* Ten clients at each route stop in the middle of a body: they hold no thread, and nobody waits for
 * them. */
static void
slow_bodies(void)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));

    attempt("GET", API "vms", administrator, "", 200, NULL);
    unsigned before = threads();
    for (const Route *route = api_routes; route->method != NULL; route++) {
        for (int i = 0; takes_body(route) && i < 10; i++) {
            int fd = say_half(route);
            g_array_append_val(fds, fd);
        }
    }
    gint64 began = g_get_monotonic_time();
    attempt("GET", API "vms", administrator, "", 200, NULL);
    /* they have 30 s */
    g_assert_cmpint(g_get_monotonic_time() - began, <, 15 * G_TIME_SPAN_SECOND);
    g_assert_cmpuint(fds->len, >, 200);
    g_assert_cmpuint(threads(), <=, before + 2);
    for (guint i = 0; i < fds->len; i++)
        hear_late(g_array_index(fds, int, i));
}

/* Who has said all and will say no more hears the answer, or the end: libmicrohttpd takes him for
 * one who went away if it sees that before the answer is there. Never anything else, and nobody is
 * kept waiting. That who has said only half is cut after the time-out is a test of http; here he
 * goes away. */
static void
half_closed(const Route *route, const char *path)
{
    g_autofree char *headers = as_administrator(XML_TYPE);
    const char *body = takes_body(route) ? "<wheels/>" : "";
    g_autofree char *nowhere = path_of(route, 0, NIL);
    g_autofree char *head = raw_head(route->method, nowhere, headers, strlen(body));
    g_auto(Heard) heard = { 0 };
    autofd int fd = raw_dial(port);

    raw_say(fd, head, strlen(head));
    raw_say(fd, body, strlen(body));
    shutdown(fd, SHUT_WR);
    raw_hear(fd, &heard);
    if (heard.status != 0 && heard.status != 200 && heard.status != 404 &&
        !(takes_body(route) && heard.status == 400))
        g_error("%s %s, half-closed: %d", route->method, nowhere, heard.status);
    if (!takes_body(route))
        return;
    autofd int half = say_half(route);
    shutdown(half, SHUT_WR);
}

/* ---- the table ---- */

/* clang-format off */
static const struct {
    const char *input;
    bool (*concerns)(const Route *route);
    void (*attempt)(const Route *route, const char *path); /* path: of what is there */
} inputs[] = {
    { "no-credentials",         any,          no_credentials },
    { "wrong-role",             needs_a_role, wrong_role },
    { "malformed-id",           has_ids,      malformed_id },
    { "unknown-id",             has_ids,      unknown_id },
    { "empty-body",             takes_body,   empty_body },
    { "wrong-root",             takes_body,   wrong_root },
    { "cut-off",                takes_body,   cut_off },
    { "bomb",                   takes_body,   bomb },
    { "too-large",              takes_body,   too_large },
    { "invalid-text",           takes_body,   invalid_text },
    { "member-of-another-kind", takes_body,   another_kind },
    { "member-twice",           takes_body,   member_twice },
    { "unknown-member",         takes_body,   unknown_member },
    { "huge-number",            has_numbers,  huge_number },
    { "half-closed",            any,          half_closed },
    { "slow-body",              takes_body,   NULL }, /* all at once */
};
/* clang-format on */

static void
test_input(gconstpointer data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    unsigned tried = 0;

    if (inputs[i].attempt == NULL) {
        slow_bodies();
        return;
    }
    for (const Route *route = api_routes; route->method != NULL; route++) {
        g_autofree char *path = path_of(route, -1, NULL);
        note_of(route); /* a route of which nothing is said cannot be tried */
        if (!inputs[i].concerns(route))
            continue;
        inputs[i].attempt(route, path);
        tried++;
    }
    g_assert_cmpuint(tried, >, 25);
}

/* Only what this test itself has made is there. */
static void
test_nothing_begun(void)
{
    json_call(&world, "GET", PATH("/jobs"), NULL, 200);
    assert_at(world.doc, "job.0.external", "true");
    assert_at(world.doc, "job.0.status", "\"started\"");
    assert_at(world.doc, "job.1", NULL);
    json_call(&world, "GET", PATH("/jobs/%s/steps", job_id), NULL, 200);
    assert_at(world.doc, "step.0.status", "\"started\"");
    assert_at(world.doc, "step.1", NULL);
    json_call(&world, "GET", PATH("/vms"), NULL, 200);
    assert_at(world.doc, "vm.0.status", "\"up\"");
    assert_at(world.doc, "vm.1", NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_bad_input_test");
    begin();
    for (size_t i = 0; i < G_N_ELEMENTS(inputs); i++) {
        g_autofree char *name = g_strdup_printf("/api/bad-input/%s", inputs[i].input);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_input);
    }
    g_test_add_func("/api/bad-input/nothing-begun", test_nothing_begun);
    int failed = g_test_run();
    end();
    return failed;
}
