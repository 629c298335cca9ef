/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Paths and parameters as they come over the wire: percent-encoded, with matrix parameters, in
 * upper case, or broken. What cannot be read is refused: a search that is taken for none finds
 * everything.
 */
#include "api_raw.h"

static World world;

static void
test_paths(void)
{
    static const struct {
        const char *path;
        int status;
    } rows[] = {
        { "/vms/web1", 200 },
        { "/vms/%77eb1", 200 },
        { "//vms//web1/", 200 },
        { "/vms/web1;current", 200 },
        { "/vms;max=1/web1", 200 }, /* of the last segment alone anything is read */
        { ";x=1/vms/web1", 200 },
        { ";x=1/v4;y/vms;z/web1;max", 200 },
        /* what is encoded belongs to the name */
        { "/vms/web1%3Bold", 404 },
        { "/vms/web1%3bold", 404 },
        { "/vms%2fweb1", 404 },
        { "/vms/web1%2Fsnapshots", 404 },
        { "/VMS", 404 },
        { "/vms/%00", 400 },
        { "/vms/%ff", 400 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        json_call(&world, "GET", g_strconcat("/ovirt-engine/api", rows[i].path, NULL), NULL,
                  rows[i].status);
    json_call(&world, "DELETE", PATH("/vms/web1%%3Bold?detail=x"), NULL, 404);
}

/* oVirt's are compared as numbers. */
static void
test_upper_case_ids(void)
{
    g_autofree char *disk = g_ascii_strup(DISK_A, -1);
    g_autofree char *body =
        g_strdup_printf("{\"description\": \"x\", \"disk_attachments\": "
                        "{\"disk_attachment\": [{\"disk\": {\"id\": \"%s\"}}]}}",
                        disk);
    World *w = &world;

    json_call(w, "GET", PATH("/disks/%s", disk), NULL, 200);
    assert_at(w->doc, "id", "\"" DISK_A "\"");
    json_call(w, "GET", PATH("/vms/" VM_ID "/diskattachments/%s", disk), NULL, 200);
    json_call(w, "GET", PATH("/disks?search=id%%3D%s", disk), NULL, 200);
    g_assert_nonnull(at(w->doc, "disk.0"));
    json_call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), body, 201);
}

static void
test_parameters(void)
{
    static const struct {
        const char *query, *names; /* in the fault; NULL = it is good */
        int found;
    } rows[] = {
        { "?search=name%3Dweb1", NULL, 1 },
        { "?search=name%3Dw%2A", NULL, 1 },
        { "?search=nosuch", NULL, 0 },
        { "?search", NULL, 1 },
        { "?search=%", "search", 0 },
        { "?search=name%3D100%", "search", 0 },
        { "?search=%zz", "search", 0 },
        { "?search=%ff", "search", 0 },
        { "?search=%00", "search", 0 },
        { "?%zz=1", "%zz", 0 },
        { "?max=0&max=%", "max", 0 },
        { ";search=name%3Dnosuch", NULL, 0 },
        { ";search=%zz", "search", 0 },
        { ";max=0?max=1", NULL, 1 },
        { "/;max=0", NULL, 0 },
        { "/;x=y/", NULL, 1 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_call(&world, "GET", PATH("/vms%s", rows[i].query), NULL,
                  rows[i].names != NULL ? 400 : 200);
        if (rows[i].names != NULL) {
            g_assert_nonnull(strstr(world.answer.body, rows[i].names));
            continue;
        }
        if ((int)json_array_size(at(world.doc, "vm")) != rows[i].found)
            g_error("%s: %s", rows[i].query, world.answer.body);
    }
}

/* What one proxy and the next read differently is read by none. */
static void
test_framing(void)
{
#define START "POST /ovirt-engine/api/vms/x/start HTTP/1.1\r\n"
    static const struct {
        const char *bytes, *status;
    } rows[] = {
        { START "Host: x\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}",
          " 404 " },
        { START "Host: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
                "2\r\n{}\r\n0\r\n\r\n",
          " 404 " },
        { START "Host: x\r\nTransfer-Encoding: Chunked\r\nContent-Type: application/json\r\n\r\n"
                "2\r\n{}\r\n0\r\n\r\n",
          " 404 " },
        { START "Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
          " 400 " },
        { START "Host: x\r\nTransfer-Encoding: identity\r\n\r\n{}", " 400 " },
        { START "Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
                "2\r\n{}\r\n0\r\n\r\n",
          " 400 " },
        { START "Host: x\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}", " 400 " },
        { START "Host: x\r\nContent-Length: 2x\r\n\r\n{}", " 400 " },
        { START "Host: x\r\nHost: y\r\nContent-Length: 2\r\n\r\n{}", " 400 " },
        { START "Content-Length: 2\r\n\r\n{}", " 400 " },
        { "GET /ovirt-engine/api HTTP/1.1\r\n\r\n", " 400 " },
        { "GET /ovirt-engine/api HTTP/1.0\r\n\r\n", " 200 " },
        { "GET http://x/ovirt-engine/api HTTP/1.1\r\nHost: x\r\n\r\n", " 200 " },
        { "GET /ovirt-engine/api?a=http://x/y HTTP/1.1\r\nHost: x\r\n\r\n", " 200 " },
        { "GET /ovirt-engine/api/v ms HTTP/1.1\r\nHost: x\r\n\r\n", " 400 " },
        { "GET /ovirt-engine/api  HTTP/1.1\r\nHost: x\r\n\r\n", " 400 " },
        { "GET /ovirt-engine/api/vms?max=1\t HTTP/1.1\r\nHost: x\r\n\r\n", " 400 " },
        { START "Host: x\r\nContent-Length : 2\r\n\r\n{}", " 400 " },
        { START "Host: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", " 400 " },
        { START "Host: x\r\nFoo(bar: 2\r\n\r\n", " 400 " },
        { START "Host: x\r\nX_foo.bar~1: 2\r\n\r\n", " 404 " },
        { START "Host: x\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\n"
                "Content-Length: 2\r\n\r\n{}",
          " 400 " },
        { "GET /ovirt-engine/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
          "Authorization: Bearer y\r\n\r\n",
          " 400 " },
        { "GET /ovirt-engine/api HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n"
          "Accept: application/json\r\n\r\n",
          " 200 " },
        { "GET /ovirt-engine/api HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n", " 406 " },
        { "GET /ovirt-engine/api HTTP/1.1\r\nHost: x\r\nVersion:  4 \t\r\n\r\n", " 200 " },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *path = strchr(rows[i].bytes, '\n') + 1;
        g_autofree char *bytes = g_strdup_printf("%.*sConnection: close\r\n%s",
                                                 (int)(path - rows[i].bytes), rows[i].bytes, path);
        g_autofree char *said = raw(&world, bytes);
        if (strstr(said, rows[i].status) != said + strlen("HTTP/1.1"))
            g_error("wanted%sto\n%s\nand the server said\n%s", rows[i].status, bytes, said);
    }
}

/* Of the server itself, and of what is no route of the API. */
static void
test_options(void)
{
    static const struct {
        const char *target, *allow;
    } rows[] = {
        { "*", "GET, HEAD, POST, PUT, DELETE, OPTIONS" },
        { "/ovirt-engine/api", "GET, HEAD, OPTIONS" },
        { "/ovirt-engine/sso/oauth/token", "POST, OPTIONS" },
        { "/session", "GET, HEAD, POST, DELETE, OPTIONS" },
        { "/ca.crt", "GET, HEAD, OPTIONS" },
        { "/metrics", "GET, HEAD, OPTIONS" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *bytes = g_strdup_printf(
            "OPTIONS %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", rows[i].target);
        g_autofree char *wanted = g_strdup_printf("\r\nAllow: %s\r\n", rows[i].allow);
        g_autofree char *said = raw(&world, bytes);
        if (!g_str_has_prefix(said, "HTTP/1.1 200 ") || strstr(said, wanted) == NULL ||
            !g_str_has_suffix(said, "\r\n\r\n"))
            g_error("OPTIONS %s: %s", rows[i].target, said);
    }
    g_autofree char *said = raw(&world, "GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    g_assert_true(g_str_has_prefix(said, "HTTP/1.1 405 "));
    g_assert_nonnull(strstr(said, "<fault>"));
}

static void
test_packed_bodies(void)
{
    static const char *const packed[] = { "Content-Type: application/json",
                                          "Content-Encoding: gzip", NULL };
    static const char *const plain[] = { "Content-Type: application/json",
                                         "Content-Encoding: identity", NULL };

    call(&world, "POST", PATH("/vms/x/start"), packed, "{}");
    g_assert_cmpint(world.answer.status, ==, 415);
    g_assert_nonnull(strstr(world.answer.body, "gzip"));
    call(&world, "POST", PATH("/vms/x/start"), plain, "{}");
    g_assert_cmpint(world.answer.status, ==, 404);
}

/* A form that cannot be read is not one without parameters. */
static void
test_forms(void)
{
    static const char *const headers[] = { "Content-Type: application/x-www-form-urlencoded",
                                           NULL };
    static const char *const bad[] = { "100%25%", "%ff", "a%00b" };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *form = g_strconcat(
            "grant_type=password&scope=ovirt-app-api&username=x&password=", bad[i], NULL);
        call(&world, "POST", g_strdup("/ovirt-engine/sso/oauth/token"), headers, form);
        g_assert_cmpint(world.answer.status, ==, 400);
        assert_at(world.doc, "error_code", "\"invalid_request\"");
        g_assert_null(strstr(world.answer.body, "missing"));
        g_assert_nonnull(strstr(world.answer.body, "form"));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    world_start(&world);
#define TEST(path, function) g_test_add_func("/api/paths/" path, function)
    TEST("paths", test_paths);
    TEST("upper-case-ids", test_upper_case_ids);
    TEST("parameters", test_parameters);
    TEST("framing", test_framing);
    TEST("options", test_options);
    TEST("packed-bodies", test_packed_bodies);
    TEST("forms", test_forms);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
