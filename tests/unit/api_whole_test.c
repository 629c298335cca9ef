/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The whole of the API over a local socket, with a real manager and an agent that the test plays.
 */
#include "api/xml.h"
#include "api_world.h"
#include "base/log.h"

#include <string.h>

static void
check_reading(World *w)
{
    static const char *const xml[] = { "Accept: application/xml", NULL };
    static const char *const html[] = { "Accept: text/html", NULL };
    static const char *const version[] = { "Version: 3", NULL };
    static const char *const origin[] = { "Origin: https://example.org", NULL };

    call(w, "GET", PATH(""), NULL, NULL);
    g_assert_cmpint(w->answer.status, ==, 200);
    g_assert_cmpstr(w->answer.content_type, ==, "application/xml;charset=UTF-8");
    g_assert_nonnull(strstr(w->answer.body, "href=\"/ovirt-engine/api/vms?search={query}\" "
                                            "rel=\"vms/search\"")
                         ?: strstr(w->answer.body,
                                   "rel=\"vms/search\" "
                                   "href=\"/ovirt-engine/api/vms?search={query}\""));
    json_call(w, "GET", PATH("/"), NULL, 200);
    assert_at(w->doc, "product_info.version.minor", "5");
    assert_at(w->doc, "product_info.name", "\"livemerge\"");
    call(w, "GET", PATH("/v4/vms/"), xml, NULL);
    g_assert_cmpint(w->answer.status, ==, 200);
    g_assert_nonnull(strstr(w->answer.body, "<vms><vm id=\"" VM_ID "\""));
    call(w, "GET", PATH("/vms"), xml, "<action></action>"); /* libgovirt */
    g_assert_cmpint(w->answer.status, ==, 200);
    call(w, "HEAD", PATH("/vms"), xml, NULL);
    g_assert_cmpint(w->answer.status, ==, 200);

    call(w, "GET", PATH("/vms"), html, NULL);
    g_assert_cmpint(w->answer.status, ==, 406);
    call(w, "GET", PATH("/vms"), version, NULL);
    g_assert_cmpint(w->answer.status, ==, 400);
    call(w, "GET", PATH("/vms"), origin, NULL);
    g_assert_cmpint(w->answer.status, ==, 403);
    json_call(w, "GET", PATH("/v3/vms"), NULL, 400);
    json_call(w, "GET", g_strdup("/elsewhere"), NULL, 404);
    assert_at(w->doc, "reason", "\"Operation Failed\"");
    json_call(w, "GET", g_strdup("/ovirt-engine/apix"), NULL, 404);
    json_call(w, "GET", PATH("/nothing"), NULL, 404);
    json_call(w, "DELETE", PATH("/vms"), NULL, 405);
    json_call(w, "PUT", PATH("/jobs"), "{}", 405);
    json_call(w, "GET", PATH("/vms?search=colour%%3Dred"), NULL, 400);
    json_call(w, "GET", PATH("/vms?search=name%%3D%%22web1%%22&case_sensitive=true&follow="), NULL,
              200);
    assert_at(w->doc, "vm.0.name", "\"web1\"");
    assert_at(w->doc, "vm.1", NULL);
    json_call(w, "GET", PATH("/vms;max=0?search=name=web1"), NULL, 200);
    assert_at(w->doc, "vm", "[]");
    json_call(w, "GET", PATH("/vms?max=x"), NULL, 400);
    json_call(w, "GET", PATH("/vms?follow=disk_attachments.disk,snapshots"), NULL, 200);
    assert_at(w->doc, "vm.0.disk_attachments.disk_attachment.0.disk.name", "\"web1_vda\"");
    assert_at(w->doc, "vm.0.snapshots.snapshot.1.description", "\"before update\"");
}

/* An action is there for POST alone. */
static void
check_served(World *w, const char *href)
{
    static const char *const headers[] = { "Accept: application/json", NULL };

    call(w, "GET", g_strdup(href), headers, NULL);
    if (w->answer.status != 200 &&
        (w->answer.status != 405 || strstr(w->answer.body, "possible: POST") == NULL))
        g_error("%s: %d: %s", href, w->answer.status, w->answer.body);
}

/* Every path that a document names is served. */
static void
check_links(World *w)
{
    static const char *const starts[] = {
        "",
        "/vms/" VM_ID,
        "/vms/" VM_ID "/snapshots/" SNAP_1,
        "/hosts",
        "/disks",
        "/templates",
        "/storagedomains",
        "/datacenters",
        "/clusters",
        "/events",
        "/jobs",
        "/vms/" VM_ID "/diskattachments",
    };
    unsigned links = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
        json_call(w, "GET", PATH("%s", starts[i]), NULL, 200);
        g_autofree char *text = g_strdup(w->answer.body);
        g_autoptr(GRegex) regex = g_regex_new("\"href\": ?\"(/[^\"{;]*[^\"{;=?])\"", 0, 0, NULL);
        g_autoptr(GMatchInfo) match = NULL;
        g_regex_match(regex, text, 0, &match);
        for (; g_match_info_matches(match); g_match_info_next(match, NULL)) {
            g_autofree char *href = g_match_info_fetch(match, 1);
            if (strstr(href, "?") != NULL)
                continue;
            check_served(w, href);
            links++;
        }
    }
    g_assert_cmpuint(links, >, 100);
}

static void
check_snapshots_listed(World *w)
{
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots"), NULL, 200);
    assert_at(w->doc, "snapshot.0.snapshot_type", "\"active\"");
    assert_at(w->doc, "snapshot.1.id", "\"" SNAP_1 "\"");
    assert_at(w->doc, "snapshot.2", NULL);
    g_autofree char *active = g_strdup(json_text(at(w->doc, "snapshot.0"), "id"));
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/%s", active), NULL, 200);
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/%s", active), NULL, 409);
    json_call(w, "PUT", PATH("/vms/" VM_ID "/snapshots/%s", active), "{\"description\":\"x\"}",
              409);
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/None"), NULL, 404);
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/" SNAP_2), NULL, 404);
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/" SNAP_2), NULL, 404);
    json_call(w, "GET", PATH("/vms/" SNAP_2 "/snapshots"), NULL, 404);
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/" SNAP_1 "/disks"), NULL, 200);
    assert_at(w->doc, "disk.0.id", "\"" DISK_A "\"");
}

static void
check_bad_requests(World *w)
{
    g_autofree char *long_name = g_strnfill(4096, 'n');
    g_autofree char *long_body = g_strdup_printf("{\"description\":\"%s\"}", long_name);
    const struct {
        const char *method, *path, *body;
        int status;
        const char *says;
    } rows[] = {
        { "POST", "/snapshots", "{}", 400, "Snapshot [description] required for doAdd" },
        { "POST", "/snapshots", "{\"description\":\"\"}", 400, "required" },
        { "POST", "/snapshots", "{\"description\":[\"a\",\"b\"]}", 400, "more than once" },
        { "POST", "/snapshots", "{\"description\":\"a\\nb\"}", 400, "control character" },
        { "POST", "/snapshots", long_body, 400, "4096 bytes" },
        { "POST", "/snapshots", "{\"description\":\"a\",\"persist_memorystate\":\"x\"}", 400,
          "true or false" },
        { "POST", "/snapshots", "{\"description\":\"a\",\"quiesce\":\"x\"}", 400, "quiesce" },
        { "POST", "/snapshots",
          "{\"description\":\"a\",\"disk_attachments\":{\"disk_attachment\":[{\"disk\":"
          "{\"id\":\"vdz\"}}]}}",
          400, "no disk 'vdz'" },
        { "POST", "/snapshots",
          "{\"description\":\"a\",\"disk_attachments\":[{\"id\":\"" DISK_A "\"},{\"disk\":"
          "{\"name\":\"vda\"}}]}",
          400, "named twice" },
        { "POST", "/snapshots", "{\"description\":\"a\",\"disk_attachments\":[{}]}", 400,
          "names no disk" },
        { "POST", "/snapshots",
          "{\"description\":\"a\",\"disk_attachments\":{},\"persist_memorystate\":true}", 400,
          "persist_memorystate is true" },
        { "POST", "/snapshots",
          "{\"description\":\"a\",\"disk_attachments\":[],\"quiesce\":\"require\"}", 400,
          "quiesce is require" },
        { "POST", "/snapshots", "{\"description\":\"a\"", 400, "JSON line 1" },
        { "PUT", "/snapshots/" SNAP_1, "{}", 400, "required" },
        { "PUT", "/snapshots/" SNAP_2, "{\"description\":\"a\"}", 404, SNAP_2 },
        { "POST", "/removesnapshots", "{}", 400, "no snapshot is named" },
        { "POST", "/removesnapshots", "{\"snapshots\":{\"snapshot\":[{}]}}", 400, "no id" },
        { "POST", "/removesnapshots", "{\"snapshots\":[{\"id\":\"" SNAP_2 "\"}]}", 400, SNAP_2 },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"},{\"id\":\"" SNAP_1 "\"}]}", 400, "named twice" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"strategy\":\"fast\"}", 400, "commit-active" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"bandwidth\":\"-1\"}", 400, "bandwidth" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"bandwidth\":\"1x\"}", 400, "bandwidth" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"disk\":{\"id\":\"vdz\"}}", 400, "vdz" },
        { "DELETE", "/snapshots/" SNAP_1 "?strategy=fast", NULL, 400, "commit-active" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"verify\":\"maybe\"}", 400, "extents" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"dry_run\":\"maybe\"}", 400, "dry_run" },
        { "POST", "/removesnapshots", "{\"snapshots\":[{\"id\":\"" SNAP_2 "\"}],\"dry_run\":true}",
          400, SNAP_2 },
        { "DELETE", "/snapshots/" SNAP_1 "?disk=vdz", NULL, 400, "vdz" },
        { "DELETE", "/snapshots/" SNAP_1 "?verify=maybe", NULL, 400, "extents" },
        { "DELETE", "/snapshots/" SNAP_1 "?dry_run=maybe", NULL, 400, "dry_run" },
        { "DELETE", "/snapshots/" SNAP_2 "?dry_run=true", NULL, 404, SNAP_2 },
        { "DELETE", "/snapshots/" SNAP_1 "?bandwidth=nan", NULL, 400, "bandwidth" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_call(w, rows[i].method, PATH("/vms/" VM_ID "%s", rows[i].path), rows[i].body,
                  rows[i].status);
        if (strstr(w->answer.body, rows[i].says) == NULL)
            g_error("%s %s %.80s: '%s' does not say '%s'", rows[i].method, rows[i].path,
                    rows[i].body, w->answer.body, rows[i].says);
        bool action = g_str_equal(rows[i].path, "/removesnapshots");
        assert_at(w->doc, "status", action ? "\"failed\"" : NULL);
    }
    json_call(w, "GET", PATH("/jobs"), NULL, 200);
    assert_at(w->doc, "job", "[]"); /* none of them began anything */
}

static void
check_media(World *w)
{
    static const char *const form[] = { "Content-Type: application/x-www-form-urlencoded", NULL };
    static const char *const none[] = { "Content-Type:", NULL };
    static const char doctype[] = "<!DOCTYPE a [<!ENTITY x \"y\">]><snapshot/>";

    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), form, "description=x");
    g_assert_cmpint(w->answer.status, ==, 415);
    g_assert_nonnull(strstr(w->answer.body, "<fault><detail>["));
    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), none, doctype);
    g_assert_cmpint(w->answer.status, ==, 400);
    g_assert_nonnull(strstr(w->answer.body, "DOCTYPE"));
    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), none, "<snap/>");
    g_assert_cmpint(w->answer.status, ==, 400);
    call(w, "POST", PATH("/vms/" VM_ID "/removesnapshots"), none, "<action/>");
    g_assert_cmpint(w->answer.status, ==, 400);
    g_assert_nonnull(strstr(w->answer.body, "<action><fault><detail>["));
    g_assert_nonnull(strstr(w->answer.body, "</fault><status>failed</status></action>"));
    /* refused by the HTTP server, before a handler */
    g_autofree char *large = g_strnfill(2 << 20, 'x');
    json_call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), large, 413);
    assert_at(w->doc, "code", "\"too-large\"");
    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), NULL, large);
    g_assert_cmpint(w->answer.status, ==, 413);
    g_assert_nonnull(strstr(w->answer.body, "<fault><detail>[the request"));
}

/* What a delete would be, in XML and JSON; nothing is begun. */
static void
check_plan(World *w)
{
    static const char *const xml[] = { "Content-Type: application/xml", NULL };

    call(w, "POST", PATH("/vms/" VM_ID "/removesnapshots"), xml,
         "<action><snapshots><snapshot id=\"" SNAP_1 "\"/></snapshots><dry_run>true</dry_run>"
         "</action>");
    if (w->answer.status != 200)
        g_error("plan: %d %s", w->answer.status, w->answer.body);
    static const char *const parts[] = { "<plan><vm ",
                                         "<name>web1</name>",
                                         "<possible>true</possible>",
                                         "<exact>false</exact>",
                                         "<totals><bytes_read>",
                                         "<runs><run><disk ",
                                         "<name>vda</name>",
                                         "<volumes><volume id=\"",
                                         "</path></volume>",
                                         "<options><option><strategy>",
                                         "<wanted>auto</wanted>",
                                         "<verify>extents</verify>",
                                         "<space_peak>" };
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
        if (strstr(w->answer.body, parts[i]) == NULL)
            g_error("the plan does not hold %s: %s", parts[i], w->answer.body);

    json_call(w, "DELETE",
              PATH("/vms/" VM_ID "/snapshots/" SNAP_1 "?dry_run&strategy=cold-commit&disk=vda"),
              NULL, 200);
    assert_at(w->doc, "possible", "false");
    assert_at(w->doc, "code", "\"refused\"");
    assert_at(w->doc, "wanted", "\"cold-commit\"");
    assert_at(w->doc, "runs.run.0.disk.id", "\"" DISK_A "\"");
    assert_at(w->doc, "runs.run.0.disk.name", "\"vda\"");
    assert_at(w->doc, "runs.run.0.target", NULL);
    assert_at(w->doc, "snapshots.snapshot.0.id", "\"" SNAP_1 "\"");
    g_assert_nonnull(strstr(w->answer.body, "\"why\""));
    json_call(w, "POST", PATH("/vms/" VM_ID "/removesnapshots"),
              "{\"snapshots\":[{\"id\":\"" SNAP_1
              "\"}],\"dry_run\":true,\"verify\":\"none\",\"disk\":{\"id\":\"" DISK_A "\"}}",
              200);
    assert_at(w->doc, "possible", "true");
    assert_at(w->doc, "verify", "\"none\"");
    json_call(w, "GET", PATH("/jobs"), NULL, 200);
    assert_at(w->doc, "job", "[]");
}

static void
check_doctor(World *w)
{
    json_call(w, "GET", PATH("/doctor"), NULL, 200);
    assert_at(w->doc, "findings.finding.0.class", "\"orphan-volume\"");
    assert_at(w->doc, "findings.finding.0.vm.id", "\"other\"");
    assert_at(w->doc, "findings.finding.0.vm_id", NULL);
    assert_at(w->doc, "busy_vms.vm.0.why", "\"a merge\"");
    assert_at(w->doc, "silent_hosts.host", "[]");
    assert_at(w->doc, "kept.files", "1");
    json_call(w, "GET", PATH("/vms/" VM_ID "/doctor"), NULL, 200);
    assert_at(w->doc, "findings.finding.0.vm.id", "\"" VM_ID "\"");
    json_call(w, "GET", PATH("/vms/nobody/doctor"), NULL, 404);
    call(w, "GET", PATH("/doctor"), NULL, NULL);
    g_assert_nonnull(strstr(w->answer.body, "<doctor><findings><finding><vm "));
    g_assert_nonnull(strstr(w->answer.body, "<silent_hosts/>"));

    static const char *const bad[] = {
        "{\"classes\":{\"class\":[{\"name\":\"headache\"}]}}",
        "{\"classes\":{\"class\":[{\"name\":\"loop\"}]},\"undo\":\"x\"}",
        "{\"undo\":\"nonsense\"}",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        json_call(w, "POST", PATH("/vms/" VM_ID "/doctor"), bad[i], 400);
        assert_at(w->doc, "status", "\"failed\"");
    }
    json_call(w, "GET", PATH("/jobs"), NULL, 200);
    assert_at(w->doc, "job", "[]");
}

/* A snapshot is taken: locked at once, found at once, ok when the agent is done. */
static void
check_create(World *w)
{
    static const char *const headers[] = { "Accept: application/json",
                                           "Content-Type: application/xml",
                                           "Correlation-Id: test/one two-3", NULL };
    g_autoptr(Vm) vm = sample_vm();

    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), headers,
         "<snapshot><description>two \xc3\xbc</description><disk_attachments><disk_attachment>"
         "<disk id=\"" DISK_A "\"/></disk_attachment></disk_attachments></snapshot>");
    if (w->answer.status != 201)
        g_error("creating: %d %s", w->answer.status, w->answer.body);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    assert_at(w->doc, "persist_memorystate", "true"); /* nothing was said, and the VM runs */
    assert_at(w->doc, "vm.name", "\"web1\"");
    g_autofree char *id = g_strdup(json_text(w->doc, "id"));
    g_autofree char *job = g_strdup(json_text(at(w->doc, "job"), "id"));
    g_assert_true(g_uuid_string_is_valid(id));

    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/%s", id), NULL, 200);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    assert_at(w->doc, "description", "\"two ü\"");
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots"), NULL, 200);
    g_assert_cmpstr(json_text(at(w->doc, "snapshot.2"), "id"), ==, id);
    assert_at(w->doc, "snapshot.0.parent.id", "\"" SNAP_1 "\"");
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/%s", id), NULL, 409);
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/" SNAP_1), NULL, 409);
    json_call(w, "GET", PATH("/jobs?search=correlation_id=testonetwo-3"), NULL, 200);
    g_assert_cmpstr(json_text(at(w->doc, "job.0"), "id"), ==, job);
    assert_at(w->doc, "job.0.status", "\"started\"");

    g_autofree char *operation = agent_wait_operation(w->agent, "snapshot-create");
    add_volume(vm_disk(vm, "vda"), "44444444-0000-4000-8000-000000000003", "/images/3", "qcow2", 1);
    Snapshot *two = snapshot_new(id, "two ü", 1700000002000);
    two->parent = g_strdup(SNAP_1);
    vm_add_snapshot_disk(two, DISK_A, "44444444-0000-4000-8000-000000000002");
    g_ptr_array_add(vm->snapshots, two);
    vm->generation++;
    agent_end_operation(w->agent, operation, vm);

    json_call(w, "GET", PATH("/jobs/%s", job), NULL, 200);
    while (g_strcmp0(json_text(w->doc, "status"), "started") == 0)
        json_call(w, "GET",
                  PATH("/jobs/%s?wait=30&pace=30000&rev=%" G_GINT64_FORMAT, job,
                       (gint64)json_number(w->doc, "rev")),
                  NULL, 200);
    assert_at(w->doc, "status", "\"finished\"");
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/%s", id), NULL, 200);
    assert_at(w->doc, "snapshot_status", "\"ok\"");
    assert_at(w->doc, "parent.id", "\"" SNAP_1 "\"");
    assert_at(w->doc, "size", "30");
}

static void
check_delete(World *w)
{
    json_call(w, "DELETE",
              PATH("/vms/" VM_ID "/snapshots/" SNAP_1 "?async=true&bandwidth=0.5&disk=vda"
                   "&dry_run=false&verify=none"),
              NULL, 200);
    assert_at(w->doc, "status", "\"complete\"");
    g_autofree char *job = g_strdup(json_text(at(w->doc, "job"), "id"));
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/" SNAP_1), NULL, 200);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    g_autofree char *operation = agent_wait_operation(w->agent, "merge");
    g_mutex_lock(&w->agent->lock);
    json_t *sent = json_object_get(w->agent->operations, operation);
    g_assert_cmpint(json_number(sent, "bandwidth"), ==, 524288);
    g_assert_cmpstr(json_text(sent, "disk_id"), ==, DISK_A);
    g_assert_cmpstr(json_text(sent, "verify"), ==, "none");
    g_mutex_unlock(&w->agent->lock);
    json_call(w, "GET", PATH("/jobs/%s/steps", job), NULL, 200);
    g_assert_nonnull(at(w->doc, "step.0.id"));
    g_autofree char *step = g_strdup(json_text(at(w->doc, "step.0"), "id"));
    json_call(w, "GET", PATH("/jobs/%s/steps/%s", job, step), NULL, 200);
    json_call(w, "GET", PATH("/jobs/%s/steps/x", job), NULL, 404);
    json_call(w, "GET", PATH("/jobs/x"), NULL, 404);
    json_call(w, "GET", PATH("/jobs/%s?wait=x", job), NULL, 400);
    json_call(w, "GET", PATH("/jobs/%s?wait=1&pace=x", job), NULL, 400);
    json_call(w, "GET", PATH("/jobs/%s?wait=1&pace=60001", job), NULL, 400);
    /* it has another rev than 0 at once, but that is told after the pace */
    int64_t asked = g_get_monotonic_time();
    json_call(w, "GET", PATH("/jobs/%s?wait=10&rev=0&pace=150", job), NULL, 200);
    assert_at(w->doc, "status", "\"started\"");
    g_assert_cmpint(g_get_monotonic_time() - asked, >=, 150000);
    json_call(w, "POST", PATH("/jobs/x/cancel"), "{}", 404);
    assert_at(w->doc, "status", "\"failed\"");
    json_call(w, "POST", PATH("/jobs/x/resume"), "{}", 404);
    json_call(w, "POST", PATH("/jobs/%s/resume", job), "{}", 409);
    agent_pause_operation(w->agent, operation, "3 GiB are missing");
    do
        json_call(w, "GET", PATH("/jobs/%s", job), NULL, 200);
    while (at(w->doc, "attention") == NULL);
    assert_at(w->doc, "attention", "\"3 GiB are missing\"");
    assert_at(w->doc, "disks.disk.0.status", "\"paused\"");
    assert_at(w->doc, "disks.disk.0.plan.bytes_written", "30");
    g_assert_nonnull(strstr(w->answer.body, "/resume\""));
    json_call(w, "POST", PATH("/jobs/%s/resume", job), "{}", 200);
    assert_at(w->doc, "status", "\"complete\"");
    json_call(w, "GET", PATH("/jobs/%s", job), NULL, 200);
    assert_at(w->doc, "attention", NULL);
}

static void
check_events(World *w)
{
    json_call(w, "GET", PATH("/events?max=1"), NULL, 200);
    gint64 newest = json_number(at(w->doc, "event.0"), "index");
    g_assert_cmpint(newest, >, 0);
    assert_at(w->doc, "event.1", NULL);
    json_call(w, "GET", PATH("/events?from=0&wait=1"), NULL, 200);
    g_assert_cmpint(json_number(at(w->doc, "event.0"), "index"), <, newest + 1);
    json_call(w, "GET", PATH("/events;from=%" G_GINT64_FORMAT "?search=severity>normal", newest),
              NULL, 200);
    assert_at(w->doc, "event", "[]");
    json_call(w, "GET", PATH("/events/%" G_GINT64_FORMAT, newest), NULL, 200);
    assert_at(w->doc, "origin", "\"livemerge\"");
    json_call(w, "GET", PATH("/events/0"), NULL, 404);
    json_call(w, "GET", PATH("/events/999999"), NULL, 404);
}

static void *
long_poll(void *data)
{
    World *w = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *address = g_strconcat("unix:", w->dir, "/api", NULL);
    g_autoptr(HttpClient) client = http_client_new(address, NULL, false, &error);
    g_auto(HttpAnswer) answer = { 0 };

    http_call(client, "GET", API_ROOT "/events?from=999999&wait=60", NULL, NULL, 0, 60000, &answer,
              &error);
    return NULL;
}

static void
test_whole(void)
{
    World w = { 0 };

    world_start(&w);
    check_reading(&w);
    check_links(&w);
    check_snapshots_listed(&w);
    check_media(&w);
    check_bad_requests(&w);
    check_plan(&w);
    check_doctor(&w);
    check_create(&w);
    check_delete(&w);
    check_events(&w);
    /* somebody who waits does not hold up the end (world_stop measures it) */
    GThread *waiter = g_thread_new("waiter", long_poll, &w);
    g_usleep(200000);
    world_stop(&w);
    g_thread_join(waiter);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_whole_test");
    xml_init();
    g_test_add_func("/api/whole", test_whole);
    return g_test_run();
}
