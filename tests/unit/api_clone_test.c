/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cloning by the API: what is sent by oVirt's clients, where the disks are to go, a clone that has
 * paused.
 */
#include "api_world.h"

#define IMAGE_A1 "44444444-0000-4000-8000-000000000001" /* vda's volume of the snapshot */

static World world;

static Vm *
vm_with_definition(void)
{
    Vm *vm = sample_vm();

    ((Snapshot *)vm->snapshots->pdata[0])->config = g_strdup("<domain/>");
    return vm;
}

/* Its places, as the agent was asked for them; the clone is given up. */
static json_t *
places_of_clone(const char *job)
{
    g_autofree char *operation = agent_wait_operation(world.agent, "clone");
    g_autoptr(Vm) vm = vm_with_definition();
    json_t *places;

    g_mutex_lock(&world.agent->lock);
    places = json_deep_copy(
        json_object_get(json_object_get(world.agent->operations, operation), "places"));
    g_mutex_unlock(&world.agent->lock);
    agent_end_operation(world.agent, operation, vm);
    do
        json_call(&world, "GET", PATH("/jobs/%s?wait=30&pace=30000", job), NULL, 200);
    while (g_strcmp0(json_text(world.doc, "status"), "started") == 0);
    return places;
}

static char *
domain_id(const char *name)
{
    json_t *domain;
    size_t i;

    json_call(&world, "GET", PATH("/storagedomains"), NULL, 200);
    json_array_foreach (at(world.doc, "storage_domain"), i, domain)
        if (g_strcmp0(json_text(domain, "name"), name) == 0)
            return g_strdup(json_text(domain, "id"));
    g_error("there is no storage domain '%s'", name);
}

#define NEW_VM "{\"name\":\"twin\",\"snapshots\":{\"snapshot\":[{\"id\":\"" SNAP_1 "\"}]}"

/* A storage domain that holds nothing yet is listed by what its host tells of it. */
static void
test_places(void)
{
    g_autofree char *id = domain_id("/image");
    const struct {
        const char *path;
        char *body;
        const char *place; /* of vda; NULL = where it was */
    } rows[] = {
        { "/vms", g_strdup(NEW_VM "}"), NULL },
        { "/vms",
          g_strdup_printf(NEW_VM
                          ",\"disk_attachments\":{\"disk_attachment\":[{\"disk\":{\"image_id\":"
                          "\"" IMAGE_A1 "\",\"storage_domains\":{\"storage_domain\":[{\"id\":"
                          "\"%s\"}]}}}]}}",
                          id),
          "/image" },
        { "/vms",
          g_strdup(NEW_VM ",\"disk_attachments\":{\"disk_attachment\":[{\"id\":\"" DISK_A
                          "\",\"disk\":{\"storage_domains\":{\"storage_domain\":[{\"name\":"
                          "\"/image\"}]}}}]}}"),
          "/image" },
        { "/vms/" VM_ID "/clone",
          g_strdup_printf("{\"vm\":{\"name\":\"twin\"},\"snapshot\":{\"id\":\"" SNAP_1
                          "\"},\"storage_domain\":{\"id\":\"%s\"}}",
                          id),
          "/image" },
        { "/vms/" VM_ID "/clone",
          g_strdup("{\"vm\":{\"name\":\"twin\"},\"snapshot\":{\"id\":\"" SNAP_1
                   "\"},\"storage_domain\":{\"name\":\"/images\"}}"),
          "/images" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *body = rows[i].body;
        bool adds = g_str_equal(rows[i].path, "/vms");
        json_call(&world, "POST", PATH("%s", rows[i].path), body, adds ? 201 : 200);
        g_autofree char *job = g_strdup(json_text(at(world.doc, "job"), "id"));
        g_autoptr(json_t) places = places_of_clone(job);
        g_assert_cmpstr(json_text(places, DISK_A), ==, rows[i].place);
        g_assert_cmpuint(json_object_size(places), ==, rows[i].place != NULL);
    }
}

static void
test_wrong_places(void)
{
    static const struct {
        const char *domains, *disk, *names;
        int status;
    } rows[] = {
        { "{\"name\":\"/nowhere\"}", "\"id\":\"" DISK_A "\"", "'/nowhere'", 404 },
        { "{\"id\":\"" VM_ID "\"}", "\"id\":\"" DISK_A "\"", VM_ID, 404 },
        { "{\"name\":\"/image\"}", "\"id\":\"" VM_ID "\"", VM_ID, 400 },
        { "{\"name\":\"/image\"}", "\"name\":\"x\"", "disk_attachments", 400 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *body = g_strdup_printf(
            NEW_VM ",\"disk_attachments\":{\"disk_attachment\":[{\"disk\":{%s,\"storage_domains\":"
                   "{\"storage_domain\":[%s]}}}]}}",
            rows[i].disk, rows[i].domains);
        json_call(&world, "POST", PATH("/vms"), body, rows[i].status);
        if (strstr(json_text(world.doc, "detail"), rows[i].names) == NULL)
            g_error("'%s' is not named: %s", rows[i].names, world.answer.body);
    }
    json_call(&world, "POST", PATH("/vms/" VM_ID "/clone"),
              "{\"vm\":{\"name\":\"twin\"},\"storage_domain\":{\"name\":\"/nowhere\"}}", 404);
}

/* Of refusals that are no state of the VM: oVirt's names for them, by which scripts tell them. */
static void
test_keys(void)
{
    HttpRequest nobody = { .method = "POST", .path = "/", .raw_path = "/", .query = "" };
    HttpResponse full = { 0 };
    g_autoptr(GError) problem = NULL;

    json_call(&world, "POST", PATH("/vms/" VM_ID "/clone"), "{\"vm\":{\"name\":\"web1\"}}", 409);
    assert_at(world.doc, "fault.key", "\"ACTION_TYPE_FAILED_NAME_ALREADY_USED\"");
    error_set(&problem, ERR_NO_SPACE, "full");
    api_refuse(&nobody, problem, &full);
    g_assert_nonnull(
        strstr(full.body, "<key>ACTION_TYPE_FAILED_DISK_SPACE_LOW_ON_STORAGE_DOMAIN</key>"));
    http_response_clear(&full);
}

/* There is one cluster and one template: whoever names another one is not given something else. */
static void
test_wrong_home(void)
{
    static const char *const wrong[] = { "\"cluster\":{\"name\":\"Production\"}",
                                         "\"cluster\":{\"id\":\"" VM_ID "\"}",
                                         "\"template\":{\"name\":\"Golden\"}",
                                         "\"template\":{\"id\":\"" VM_ID "\"}" };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *body = g_strdup_printf(NEW_VM ",%s}", wrong[i]);
        g_autofree char *action = g_strdup_printf(
            "{\"vm\":{\"name\":\"twin\",%s},\"snapshot\":{\"id\":\"" SNAP_1 "\"}}", wrong[i]);
        json_call(&world, "POST", PATH("/vms"), body, 404);
        g_assert_nonnull(strstr(json_text(world.doc, "detail"), i < 2 ? "cluster" : "template"));
        json_call(&world, "POST", PATH("/vms/" VM_ID "/clone"), action, 404);
    }
    json_call(&world, "GET", PATH("/jobs?search=status%%3Dstarted"), NULL, 200);
    assert_at(world.doc, "job.0", NULL);
}

/* The storage fills: the job says why it stands, and goes on when it is told to. */
static void
test_paused(void)
{
    json_call(&world, "POST", PATH("/vms"), NEW_VM "}", 201);
    g_autofree char *job = g_strdup(json_text(at(world.doc, "job"), "id"));
    g_autofree char *operation = agent_wait_operation(world.agent, "clone");
    json_call(&world, "POST", PATH("/jobs/%s/resume", job), "{}", 409);
    agent_pause_operation(world.agent, operation, "3 GiB are missing");
    do
        json_call(&world, "GET", PATH("/jobs/%s", job), NULL, 200);
    while (at(world.doc, "attention") == NULL);
    assert_at(world.doc, "attention", "\"3 GiB are missing\"");
    assert_at(world.doc, "status", "\"started\"");
    do
        json_call(&world, "GET", PATH("/events?max=1"), NULL, 200);
    while (json_number(at(world.doc, "event.0"), "code") != 30001);
    const char *text = json_text(at(world.doc, "event.0"), "description");
    g_assert_nonnull(strstr(text, "'twin'"));
    g_assert_nonnull(strstr(text, "3 GiB are missing"));
    g_assert_nonnull(strstr(text, job));
    json_call(&world, "POST", PATH("/jobs/%s/resume", job), "{}", 200);
    json_call(&world, "GET", PATH("/jobs/%s", job), NULL, 200);
    assert_at(world.doc, "attention", NULL);
    json_decref(places_of_clone(job));
}

/* Waits until the manager has seen it. */
static void
put_definition(void)
{
    g_autoptr(Vm) vm = vm_with_definition();
    bool seen = false;

    {
        WITH_LOCK(&world.agent->lock);
        json_decref(world.agent->vm);
        world.agent->vm = vm_to_json(vm);
        g_queue_push_tail(&world.agent->lines,
                          g_strdup("{\"event\": \"vm\", \"vm_id\": \"" VM_ID "\"}"));
        g_cond_broadcast(&world.agent->changed);
    }
    for (int i = 0; !seen && i < 2000; i++) {
        g_autoptr(Vm) told = manager_vm(world.manager, VM_ID, NULL);
        seen = ((Snapshot *)told->snapshots->pdata[0])->config != NULL;
        g_usleep(2000);
    }
    g_assert_true(seen);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    world_start(&world);
    put_definition();
    g_test_add_func("/api/clone/places", test_places);
    g_test_add_func("/api/clone/wrong-places", test_wrong_places);
    g_test_add_func("/api/clone/wrong-home", test_wrong_home);
    g_test_add_func("/api/clone/keys", test_keys);
    g_test_add_func("/api/clone/paused", test_paused);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
