/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the tests of the API stand on: one VM as a document, and the whole server on a local
 * socket, with a real manager and an agent that the test plays.
 */
#pragma once

#include "api/api.h"
#include "api/routes.h"
#include "api_agent.h"

#include <glib/gstdio.h>
#include <string.h>

#define VM_ID "11111111-0000-4000-8000-000000000001"
#define DISK_A "22222222-0000-4000-8000-00000000000a"
#define DISK_B "22222222-0000-4000-8000-00000000000b"
#define SNAP_1 "33333333-0000-4000-8000-000000000001"
#define SNAP_2 "33333333-0000-4000-8000-000000000002"

static inline json_t *
parse(const char *text)
{
    json_error_t problem;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, &problem);

    if (value == NULL)
        g_error("the test's own JSON: %s: %s", problem.text, text);
    return value;
}

static inline Volume *
add_volume(Disk *disk, const char *id, const char *path, const char *format, uint64_t allocated)
{
    Volume *volume = volume_new(id, path, format, 1 << 30);

    volume->allocated = allocated;
    g_ptr_array_add(disk->volumes, volume);
    return volume;
}

/* One VM: vda with two volumes, vdb that is not managed, snapshot one. */
static inline Vm *
sample_vm(void)
{
    Vm *vm = vm_new(VM_ID, "web1");
    Disk *a = disk_new(DISK_A, "vda"), *b = disk_new(DISK_B, "vdb");
    Snapshot *one = snapshot_new(SNAP_1, "before update", 1700000000123);

    vm->state = VM_UP;
    vm->instance = g_strdup("1.2");
    vm->memory = 1 << 30;
    vm->vcpus = 2;
    a->bus = g_strdup("virtio");
    a->boot = true;
    add_volume(a, "44444444-0000-4000-8000-000000000001", "/images/base.qcow2", "qcow2", 100);
    add_volume(a, "44444444-0000-4000-8000-000000000002", "/images/top.qcow2", "qcow2", 30);
    b->unmanaged = g_strdup("network disk");
    g_ptr_array_add(vm->disks, a);
    g_ptr_array_add(vm->disks, b);
    vm_add_snapshot_disk(one, DISK_A, "44444444-0000-4000-8000-000000000001");
    g_ptr_array_add(vm->snapshots, one);
    return vm;
}

static inline const json_t *
at(const json_t *doc, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, ".", -1);

    for (char **name = names; *name != NULL && doc != NULL; name++)
        doc = g_ascii_isdigit(**name) ? json_array_get(doc, (size_t)atoi(*name))
                                      : json_object_get(doc, *name);
    return doc;
}

static inline void
assert_at(const json_t *doc, const char *path, const char *wanted)
{
    const json_t *value = at(doc, path);
    autolibc char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    autolibc char *all = json_dumps(doc, JSON_INDENT(1));

    if (g_strcmp0(text, wanted) != 0)
        g_error("%s is %s, wanted %s, in\n%s", path, text, wanted, all);
}

typedef struct {
    char *dir;
    Store *store;
    Agent *agent;
    Manager *manager;
    ApiServer *server;
    HttpClient *client;
    HttpAnswer answer;
    json_t *doc;
} World;

#define PATH(...) (g_strdup_printf("/ovirt-engine/api" __VA_ARGS__))

static inline void
call(World *w, const char *method, char *take_path, const char *const *headers, const char *body)
{
    g_autofree char *path = take_path;
    g_autoptr(GError) error = NULL;

    http_answer_clear(&w->answer);
    memset(&w->answer, 0, sizeof w->answer);
    g_clear_pointer(&w->doc, json_decref);
    if (!http_call(w->client, method, path, headers, body, body != NULL ? strlen(body) : 0, 20000,
                   &w->answer, &error))
        g_error("%s %s: %s", method, path, error->message);
    if (g_strcmp0(w->answer.content_type, "application/json") == 0)
        w->doc = parse(w->answer.body);
}

static const char *const json_headers[] = { "Accept: application/json",
                                            "Content-Type: application/json", NULL };

static inline void
json_call(World *w, const char *method, char *take_path, const char *body, int status)
{
    g_autofree char *path = g_strdup(take_path);

    call(w, method, take_path, json_headers, body);
    if (w->answer.status != status)
        g_error("%s %s %s: %d, wanted %d:\n%s", method, path, body != NULL ? body : "",
                w->answer.status, status, w->answer.body);
}

static inline void
world_start_with(World *w, const Vm *vm)
{
    g_autoptr(GError) error = NULL;

    w->dir = g_dir_make_tmp("livemerge-api-XXXXXX", NULL);
    g_autofree char *database = g_build_filename(w->dir, "manager.db", NULL);
    g_autofree char *agent_at = g_strconcat("unix:", w->dir, "/agent", NULL);
    g_autofree char *socket = g_build_filename(w->dir, "api", NULL);
    g_autofree char *api_at = g_strconcat("unix:", socket, NULL);
    HostConfig host = { "h1", agent_at, NULL };
    ApiOptions options = { .listen = "127.0.0.1:0", .socket = socket, .state_dir = w->dir };

    w->agent = agent_start(agent_at, vm);
    w->store = store_open(database, &error);
    g_assert_no_error(error);
    w->manager = manager_new(w->store, &host, 1, &error);
    g_assert_no_error(error);
    w->server = api_server_start(w->manager, &options, &error);
    g_assert_no_error(error);
    w->client = http_client_new(api_at, NULL, false, &error);
    g_assert_no_error(error);
    for (int i = 0; i < 2000; i++) { /* until the agent has told */
        json_call(w, "GET", PATH("/vms"), NULL, 200);
        /* "unknown" until the host has told all: what is begun before that is refused (503) */
        if (g_strcmp0(json_text(at(w->doc, "vm.0"), "status"), "up") == 0)
            return;
        g_usleep(10000);
    }
    g_error("the manager did not hear of the agent's VM within 20 s");
}

static inline void
world_start(World *w)
{
    g_autoptr(Vm) vm = sample_vm();

    world_start_with(w, vm);
}

static inline void
remove_all(const char *dir)
{
    g_autoptr(GDir) open = g_dir_open(dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(open)) != NULL) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        g_unlink(path);
    }
    g_rmdir(dir);
}

static inline void
world_stop(World *w)
{
    gint64 start = g_get_monotonic_time();

    http_client_free(w->client);
    api_server_stop(w->server);
    manager_free(w->manager);
    /* who waits has 10 s or more */
    g_assert_cmpint(g_get_monotonic_time() - start, <, 8 * G_TIME_SPAN_SECOND);
    store_close(w->store);
    agent_stop(w->agent);
    http_answer_clear(&w->answer);
    json_decref(w->doc);
    remove_all(w->dir);
    g_free(w->dir);
}
