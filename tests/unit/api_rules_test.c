/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The rules that break oVirt's clients when they are missed, each under its number; and what stands
 * beside them: follow, searches, collections that hold nothing.
 */
#include "api_raw.h"

#include <netinet/in.h>

static World world;
static const char *const xml[] = { "Accept: application/xml", NULL };

/* Over TCP, where one must sign in; the connection is closed after the answer. */
static char *
remote(World *w, const char *head, const char *body)
{
    const char *where = strstr(api_server_where(w->server), "127.0.0.1:");
    unsigned long port = strtoul(where + strlen("127.0.0.1:"), NULL, 10);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    autofd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autofree char *bytes =
        g_strdup_printf("%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: "
                        "application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\n%s",
                        head, strlen(body), body);

    return talk(fd, (struct sockaddr *)&address, sizeof address, bytes);
}

#define HEAD_OF(path)                                                                        \
    "GET /ovirt-engine/api" path " HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\n" \
    "Content-Length: 17\r\n"

static void
test_rule_1_get_with_a_body(void)
{
    static const char *const paths[] = { "", "/vms", "/hosts", "/datacenters" };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        call(&world, "GET", PATH("%s", paths[i]), xml, "<action></action>");
        g_assert_cmpint(world.answer.status, ==, 200);
    }
    g_autofree char *said =
        raw(&world, HEAD_OF("/vms") "Connection: close\r\n\r\n<action></action>");
    g_assert_nonnull(strstr(said, "200 OK"));
}

static void
test_rule_2_the_body_never_comes(void)
{
    gint64 begin = g_get_monotonic_time();
    g_autofree char *said = raw(&world, HEAD_OF("/vms") "\r\n");

    g_assert_nonnull(strstr(said, "200 OK"));
    g_assert_nonnull(strstr(said, "Connection: close"));
    /* it would have 30 s */
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 15 * G_TIME_SPAN_SECOND);
}

/* libgovirt does not send a password before it was asked for one in this way. */
static void
test_rule_3_the_challenge(void)
{
    g_autofree char *said = remote(&world, "GET /ovirt-engine/api", "");

    g_assert_nonnull(strstr(said, " 401 "));
    g_assert_nonnull(strstr(said, "\r\nWWW-Authenticate: Basic realm=\"RESTAPI\"\r\n"));
    g_assert_nonnull(strstr(said, "<fault>"));
}

static void
test_rule_4_root_without_redirect(void)
{
    static const char *const paths[] = { "", "/", "/v4", "/v4/" };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        call(&world, "GET", PATH("%s", paths[i]), xml, NULL);
        g_assert_cmpint(world.answer.status, ==, 200);
        g_assert_nonnull(strstr(world.answer.body, "<product_info>"));
    }
}

static void
test_rule_6_content_type_of_every_body(void)
{
    static const char *const paths[] = { "", "/vms", "/vms/unknown", "/nothing",
                                         "/vms?search=x%3D" };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        call(&world, "GET", g_strconcat("/ovirt-engine/api", paths[i], NULL), xml, NULL);
        g_assert_cmpstr(world.answer.content_type, ==, "application/xml;charset=UTF-8");
        if (world.answer.status != 200)
            g_assert_nonnull(strstr(world.answer.body, "<fault>"));
    }
}

/* GET, PUT and DELETE are answered with exactly 200 if they are not refused, POST with 200, 201 or
 * 202; nothing else is a success to the SDK. */
static void
test_rule_5_exact_status_codes(void)
{
    World *w = &world;
    unsigned tried = 0;

    for (const Route *route = api_routes; route->method != NULL; route++) {
        g_auto(GStrv) words = g_strsplit(route->path, "*", -1);
        g_autofree char *path = g_strjoinv(VM_ID, words);
        if (!g_str_equal(route->method, "GET") || route->handler == get_event_stream)
            continue;
        call(w, "GET", PATH("/%s", path), xml, NULL);
        if (w->answer.status != 200 && w->answer.status != 404)
            g_error("GET %s: %d %s", path, w->answer.status, w->answer.body);
        tried++;
    }
    g_assert_cmpuint(tried, >, 60);
    json_call(w, "POST", PATH("/users"), "{\"user_name\":\"bob\",\"role\":\"viewer\"}", 201);
    json_call(w, "PUT", PATH("/users/bob"), "{\"password\":\"correct horse battery\"}", 200);
    g_autofree char *token = remote(w, "POST /ovirt-engine/sso/oauth/token",
                                    "grant_type=password&scope=ovirt-app-api&username=bob%"
                                    "40internal&password=correct+horse+battery");
    g_assert_nonnull(strstr(token, " 200 "));
    json_call(w, "DELETE", PATH("/users/bob?async=true"), NULL, 200);
    json_call(w, "DELETE", PATH("/users/bob"), NULL, 404);
}

static void
check_hrefs(const json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_array(value)) {
        json_array_foreach ((json_t *)value, i, member)
            check_hrefs(member);
        return;
    }
    if (!json_is_object(value))
        return;
    if (json_text(value, "href") != NULL)
        g_assert_true(g_str_has_prefix(json_text(value, "href"), "/ovirt-engine/api/"));
    json_object_foreach ((json_t *)value, key, member)
        check_hrefs(member);
}

/* Both on the same address as the API, both JSON; signing out has no "error". */
static void
test_rule_7_tokens(void)
{
    World *w = &world;

    json_call(w, "POST", PATH("/users"), "{\"user_name\":\"eve\",\"role\":\"viewer\"}", 201);
    json_call(w, "PUT", PATH("/users/eve"), "{\"password\":\"correct horse battery\"}", 200);
    g_autofree char *refused =
        remote(w, "POST /ovirt-engine/sso/oauth/token",
               "grant_type=password&scope=ovirt-app-api&username=eve%40internal&password=wrong");
    g_assert_nonnull(strstr(refused, " 400 "));
    g_autoptr(json_t) why = parse(strstr(refused, "\r\n\r\n") + 4);
    assert_at(why, "error_code", "\"access_denied\"");
    g_assert_nonnull(json_text(why, "error"));
    g_autofree char *said = remote(w, "POST /ovirt-engine/sso/oauth/token",
                                   "grant_type=password&scope=ovirt-app-api&username=eve%"
                                   "40internal&password=correct+horse+battery");
    g_assert_nonnull(strstr(said, " 200 "));
    g_assert_nonnull(strstr(said, "\r\nContent-Type: application/json"));
    g_autoptr(json_t) answer = parse(strstr(said, "\r\n\r\n") + 4);
    g_assert_cmpstr(json_text(answer, "token_type"), ==, "bearer");
    g_assert_cmpstr(json_text(answer, "exp"), !=, NULL); /* a text */
    const char *token = json_text(answer, "access_token");
    g_autofree char *head =
        g_strdup_printf("GET /ovirt-engine/api/vms HTTP/1.1\r\nAuthorization: Bearer %s\r\n"
                        "Host: x\r\nConnection: close\r\n\r\n",
                        token);
    g_autofree char *served = raw(w, head);
    g_assert_nonnull(strstr(served, " 200 "));
    g_autofree char *form = g_strdup_printf("scope=ovirt-app-api&token=%s", token);
    g_autofree char *ended = remote(w, "POST /ovirt-engine/services/sso-logout", form);
    g_assert_nonnull(strstr(ended, " 200 "));
    g_assert_nonnull(strstr(ended, "\r\nContent-Type: application/json"));
    g_assert_cmpstr(strstr(ended, "\r\n\r\n") + 4, ==, "{}\n");
    g_autofree char *late = raw(w, head);
    g_assert_nonnull(strstr(late, " 401 "));
    json_call(w, "DELETE", PATH("/users/eve"), NULL, 200);
}

static void
test_rule_8_hrefs_are_paths(void)
{
    static const char *const paths[] = { "",      "/vms",    "/disks",          "/hosts",
                                         "/jobs", "/events", "/storagedomains", "/datacenters",
                                         "/tags" };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        json_call(&world, "GET", PATH("%s", paths[i]), NULL, 200);
        check_hrefs(world.doc);
    }
}

static void
test_rule_9_vm_documents(void)
{
    World *w = &world;

    json_call(w, "GET", PATH("/vms/" VM_ID), NULL, 200);
    assert_at(w->doc, "display.type", "\"vnc\"");
    g_assert_nonnull(at(w->doc, "cpu"));
    g_assert_nonnull(at(w->doc, "os.boot.devices.device"));
    assert_at(w->doc, "description", NULL);
    assert_at(w->doc, "instance_type", NULL);
    g_autofree char *cluster = g_strdup(json_text(at(w->doc, "cluster"), "href"));
    g_autofree char *actions = json_dumps(at(w->doc, "actions"), 0);
    g_assert_nonnull(strstr(actions, "\"start\""));
    g_assert_nonnull(strstr(actions, "\"stop\""));
    json_call(w, "GET", g_steal_pointer(&cluster), NULL, 200);
    assert_at(w->doc, "name", "\"Default\"");
}

static void
test_rule_10_snapshot_none(void)
{
    json_call(&world, "GET", PATH("/vms/" VM_ID "/snapshots/None"), NULL, 404);
}

static void
test_rule_11_the_active_snapshot(void)
{
    World *w = &world;

    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots"), NULL, 200);
    assert_at(w->doc, "snapshot.0.snapshot_type", "\"active\"");
    assert_at(w->doc, "snapshot.0.vm", NULL);
    assert_at(w->doc, "snapshot.0.link", NULL);
    assert_at(w->doc, "snapshot.1.vm.name", "\"web1\"");
}

static void
test_media_and_methods(void)
{
    static const char *const html[] = { "Accept: text/html", NULL };
    static const char *const form[] = { "Content-Type: text/plain", NULL };
    World *w = &world;

    call(w, "HEAD", PATH("/vms"), xml, NULL);
    g_assert_cmpint(w->answer.status, ==, 200);
    call(w, "GET", PATH("/vms"), html, NULL);
    g_assert_cmpint(w->answer.status, ==, 406);
    call(w, "POST", PATH("/vms/" VM_ID "/start"), form, "x");
    g_assert_cmpint(w->answer.status, ==, 415);
    g_autofree char *said = raw(w, "PUT /ovirt-engine/api/hosts HTTP/1.1\r\nHost: x\r\n"
                                   "Content-Length: 0\r\nConnection: close\r\n\r\n");
    g_assert_nonnull(strstr(said, " 405 "));
    g_assert_nonnull(strstr(said, "Allow: GET, HEAD"));
}

static void
test_follow(void)
{
    World *w = &world;

    json_call(w, "GET",
              PATH("/vms/" VM_ID "?follow=disk_attachments.disk,cluster.datacenter,snapshots"),
              NULL, 200);
    assert_at(w->doc, "disk_attachments.disk_attachment.0.disk.name", "\"web1_vda\"");
    assert_at(w->doc, "cluster.data_center.status", "\"up\"");
    assert_at(w->doc, "snapshots.snapshot.1.description", "\"before update\"");
    json_call(w, "GET", PATH("/vms?follow=Disk_Attachments"), NULL, 200);
    g_assert_nonnull(at(w->doc, "vm.0.disk_attachments.disk_attachment.1"));
    json_call(w, "GET", PATH("/disks?follow=storage_domains,vms.cluster"), NULL, 200);
    assert_at(w->doc, "disk.0.storage_domains.storage_domain.0.type", "\"data\"");
    assert_at(w->doc, "disk.0.vms.vm.0.cluster.version.major", "4");
    json_call(w, "GET", PATH("/vms/" VM_ID "?follow="), NULL, 200); /* means: absent */
    json_call(w, "GET", PATH("/vms/" VM_ID "?follow=host.cluster"), NULL, 200);
    json_call(w, "GET", PATH("/vms/" VM_ID "?follow=wheels"), NULL, 400);
    json_call(w, "GET", PATH("/vms/" VM_ID "?follow=cluster.wheels"), NULL, 400);
    json_call(w, "GET", PATH("/vms/" VM_ID "?follow=a..b"), NULL, 400);
}

static void
test_searches(void)
{
    static const struct {
        const char *path;
        int found; /* -1 = 400 */
    } rows[] = {
        { "/vms?search=name%3Dweb1+and+cluster%3DDefault+and+datacenter%3Ddefault", 1 },
        { "/vms?search=storage.name%3D%22/images%22", 1 },
        { "/vms?search=(storage%3Delsewhere+or+tag%3Dx)+and+(web*)", 0 },
        { "/vms?search=tag!%3Dx", 1 },
        { "/vms;max=0", 0 },
        { "/vms;max=1?search=name%3Dweb*", 1 },
        { "/vms?search=name%3Dweb*+page+2&max=1", 0 },
        { "/disks?search=name%3Dweb1_vda+and+Storage.name%3D%22/images%22+and+vm_names%3Dweb1", 1 },
        { "/disks?search=disk_type%3Dlun", 0 },
        { "/datacenters?search=storage%3D/images", 1 },
        { "/datacenters?search=(storage%3Dnone)+or+nothing", 0 },
        { "/templates?search=name%3DBlank+and+datacenter%3DDefault", 1 },
        { "/templates?search=vm.name%3Dx", 0 },
        { "/clusters?search=datacenter%3DDefault", 1 },
        { "/storagedomains?search=name%3D%22*%22", 3 },
        { "/storagedomains?search=status%3Dactive", 3 },
        { "/storagedomains?search=status!%3Dactive", 0 },
        { "/storagedomains?search=(status%3Dup+or+status%3Dactive)+and+name%3D/"
          "images+sortby+status",
          1 },
        { "/vms?search=has_illegal_images%3Dfalse", 1 },
        { "/vms?search=has_illegal_images%3Dtrue", 0 },
        { "/vms?search=memory+%3E+1", 1 },
        { "/vms?search=memory+%3E+1GB", 0 },
        { "/vms?search=memory+%3C+1GB", 0 },
        { "/networks?search=name%3Dovirtmgmt", 0 },
        { "/events?search=usrname%3Dnobody+and+event_host%3Dh1", 0 },
        /* where nobody searches, max counts all the same */
        { "/vms/" VM_ID "/snapshots?search=wheels%3D4", 2 },
        { "/vms/" VM_ID "/snapshots?max=1", 1 },
        { "/vms/" VM_ID "/snapshots;max=1", 1 },
        { "/vms/" VM_ID "/snapshots?max=-1", 2 },
        { "/vms/" VM_ID "/diskattachments?max=0", 0 },
        { "/vms/" VM_ID "/snapshots?max=many", -1 },
        { "/vms?search=wheels%3D4", -1 },
        { "/networks?search=wheels%3D4", -1 },
        { "/jobs?search=name%3Dx", -1 },
        { "/jobs?search=vm.id%3Dnobody+and+vm%3Dx", 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_call(&world, "GET", g_strconcat("/ovirt-engine/api", rows[i].path, NULL), NULL,
                  rows[i].found < 0 ? 400 : 200);
        const json_t *list = json_object_iter_value(json_object_iter(world.doc));
        if (rows[i].found >= 0 && (int)json_array_size(list) != rows[i].found)
            g_error("%s: %s", rows[i].path, world.answer.body);
        g_assert_null(strstr(world.answer.body, "\"~"));
    }
}

static void
test_parts(void)
{
    World *w = &world;

    json_call(w, "GET", PATH("/disks/" DISK_A "/disksnapshots"), NULL, 200);
    assert_at(w->doc, "disk_snapshot.0.snapshot.id", "\"" SNAP_1 "\"");
    assert_at(w->doc, "disk_snapshot.0.parent", NULL);
    assert_at(w->doc, "disk_snapshot.1", NULL); /* the leaf is none */
    json_call(w, "GET", PATH("/disks/" DISK_A "/disksnapshots?include_active=true"), NULL, 200);
    g_assert_nonnull(at(w->doc, "disk_snapshot.1.parent.href"));
    check_hrefs(w->doc);
    g_autofree char *below = g_strdup(json_text(at(w->doc, "disk_snapshot.1.parent"), "href"));
    json_call(w, "GET", g_steal_pointer(&below), NULL, 200);
    assert_at(w->doc, "image_id", "\"44444444-0000-4000-8000-000000000001\"");
    json_call(w, "GET", PATH("/disks/" DISK_A "/disksnapshots/x"), NULL, 404);

    json_call(w, "GET", PATH("/storagedomains"), NULL, 200);
    g_autofree char *domain = g_strdup(json_text(at(w->doc, "storage_domain.0"), "id"));
    assert_at(w->doc, "storage_domain.0.available", "7000000000");
    assert_at(w->doc, "storage_domain.0.used", "3000000000");
    assert_at(w->doc, "storage_domain.0.shares_blocks", "true");
    assert_at(w->doc, "storage_domain.0.holder", "\"process 7 of host A\"");
    json_call(w, "GET", PATH("/storagedomains/%s/disks", domain), NULL, 200);
    assert_at(w->doc, "disk.0.id", "\"" DISK_A "\"");
    json_call(w, "GET", PATH("/storagedomains/%s/vms", domain), NULL, 200);
    assert_at(w->doc, "vm.0.name", "\"web1\"");
    json_call(w, "GET", PATH("/storagedomains/%s/disksnapshots", domain), NULL, 200);
    assert_at(w->doc, "disk_snapshot.0.disk.id", "\"" DISK_A "\"");
    json_call(w, "GET", PATH("/storagedomains/%s/vms?unregistered=true", domain), NULL, 200);
    assert_at(w->doc, "vm.0", NULL);
    json_call(w, "GET", PATH("/storagedomains/%s?follow=disks", domain), NULL, 200);
    assert_at(w->doc, "status", NULL); /* it is attached */
    assert_at(w->doc, "disks.disk.0.id", "\"" DISK_A "\"");
    json_call(w, "GET", PATH("/datacenters"), NULL, 200);
    g_autofree char *center = g_strdup(json_text(at(w->doc, "data_center.0"), "id"));
    json_call(w, "GET", PATH("/datacenters/%s/storagedomains/%s", center, domain), NULL, 200);
    assert_at(w->doc, "status", "\"active\"");
    json_call(w, "GET", PATH("/storagedomains/x/disks"), NULL, 404);
    json_call(w, "GET", PATH("/storagedomains/x/files"), NULL, 404);
    json_call(w, "GET", PATH("/hosts/x/vms"), NULL, 404);
    json_call(w, "GET", PATH("/hosts"), NULL, 200);
    json_call(w, "GET", PATH("/hosts/%s/vms", json_text(at(w->doc, "host.0"), "id")), NULL, 200);
    assert_at(w->doc, "vm.0.name", "\"web1\"");
    json_call(w, "GET", PATH("/vms/" VM_ID "/statistics"), NULL, 200);
    assert_at(w->doc, "statistic.0.values.value.0.datum", "1073741824");
}

static void
begin_anew(void)
{
    g_autoptr(Vm) vm = sample_vm();

    ((Snapshot *)vm->snapshots->pdata[0])->config = g_strdup("<domain/>");
    world_stop(&world);
    memset(&world, 0, sizeof world);
    world_start_with(&world, vm);
}

static void *
end_create(void *data)
{
    World *w = data;
    g_autofree char *op = agent_wait_operation(w->agent, "snapshot-create");
    g_autoptr(Vm) vm = sample_vm();
    json_t *body = json_object_get(w->agent->operations, op);

    g_ptr_array_add(vm->snapshots,
                    snapshot_new(json_text(body, "snapshot_id"), "waited for", 1700000001000));
    agent_end_operation(w->agent, op, vm);
    return NULL;
}

static void
test_expect_created(void)
{
    static const char *const headers[] = { "Accept: application/json",
                                           "Content-Type: application/json",
                                           "X-Ovirt-Expect: 201-created", NULL };
    GThread *thread;

    begin_anew();
    thread = g_thread_new("agent", end_create, &world);
    call(&world, "POST", PATH("/vms/" VM_ID "/snapshots"), headers,
         "{\"description\":\"waited for\",\"persist_memorystate\":false}");
    g_thread_join(thread);
    g_assert_cmpint(world.answer.status, ==, 201);
    assert_at(world.doc, "snapshot_status", "\"ok\"");
    json_call(&world, "GET", PATH("/jobs?max=1"), NULL, 200);
    g_autofree char *job = g_strdup(json_text(at(world.doc, "job.0"), "href"));
    json_call(&world, "GET", g_strconcat(job, "/steps?follow=execution_host", NULL), NULL, 200);
    assert_at(world.doc, "step.0.execution_host.name", "\"h1\"");
    assert_at(world.doc, "step.0.execution_host.type", "\"rhel\"");
}

/* Before the answer to what changes something, what it changes is locked; and what it makes can be
 * got at once, or clients find nothing where they believe something to be. Nobody ends the jobs
 * here. */
static void
test_rule_12_locked_before_the_answer(void)
{
    World *w = &world;

    begin_anew();
    json_call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), "{\"description\":\"x\"}", 201);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    g_autofree char *made = g_strdup(json_text(w->doc, "href"));
    json_call(w, "GET", g_steal_pointer(&made), NULL, 200);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    assert_at(w->doc, "snapshot_type", "\"regular\"");
    json_call(w, "GET", PATH("/disks/" DISK_A), NULL, 200);
    assert_at(w->doc, "status", "\"locked\"");

    begin_anew();
    json_call(w, "GET", PATH("/disks/" DISK_A), NULL, 200);
    assert_at(w->doc, "status", "\"ok\"");
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/" SNAP_1), NULL, 200);
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/" SNAP_1), NULL, 200);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/" SNAP_1 "/disks"), NULL, 200);
    assert_at(w->doc, "disk.0.status", "\"locked\"");

    begin_anew();
    json_call(w, "POST", PATH("/vms"),
              "{\"name\":\"twin\",\"snapshots\":{\"snapshot\":[{\"id\":\"" SNAP_1 "\"}]}}", 201);
    assert_at(w->doc, "status", "\"image_locked\"");
    made = g_strdup(json_text(w->doc, "href"));
    json_call(w, "GET", g_steal_pointer(&made), NULL, 200);
    assert_at(w->doc, "status", "\"image_locked\"");
    json_call(w, "GET", PATH("/vms?search=name%%3Dtwin"), NULL, 200);
    assert_at(w->doc, "vm.0.status", "\"image_locked\"");

    begin_anew();
    json_call(w, "POST", PATH("/vms/" VM_ID "/stop?async=true"), "{}", 200);
    json_call(w, "GET", PATH("/vms/" VM_ID), NULL, 200);
    assert_at(w->doc, "status", "\"powering_down\"");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    world_start(&world);
#define TEST(path, function) g_test_add_func("/api/rules/" path, function)
    TEST("rule-1-get-with-a-body", test_rule_1_get_with_a_body);
    TEST("rule-2-the-body-never-comes", test_rule_2_the_body_never_comes);
    TEST("rule-3-the-challenge", test_rule_3_the_challenge);
    TEST("rule-4-root-without-redirect", test_rule_4_root_without_redirect);
    TEST("rule-5-exact-status-codes", test_rule_5_exact_status_codes);
    TEST("rule-6-content-type-of-every-body", test_rule_6_content_type_of_every_body);
    TEST("rule-7-tokens", test_rule_7_tokens);
    TEST("rule-8-hrefs-are-paths", test_rule_8_hrefs_are_paths);
    TEST("rule-9-vm-documents", test_rule_9_vm_documents);
    TEST("rule-10-snapshot-none", test_rule_10_snapshot_none);
    TEST("rule-11-the-active-snapshot", test_rule_11_the_active_snapshot);
    TEST("rule-12-locked-before-the-answer", test_rule_12_locked_before_the_answer);
    TEST("media-and-methods", test_media_and_methods);
    TEST("follow", test_follow);
    TEST("searches", test_searches);
    TEST("parts", test_parts);
    TEST("expect-created", test_expect_created);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
