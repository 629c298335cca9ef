/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An agent without a hypervisor, for tests of the manager: one VM in memory behind the real wire
 * on a unix socket. It keeps the protocol (idempotent ids, tombstones, outcomes until they are
 * acknowledged, epochs), counts what it is asked, and can be told to misbehave.
 */
#pragma once

#include "fake_operations.h"

/* ---- the calls ---- */

static bool
fake_hello(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
           GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);

    a->hellos++;
    *ret = json_pack("{s:s, s:s, s:s, s:I, s:b}", "name", "fake", "version", "1", "agent_id",
                     a->agent_id, "epoch", (json_int_t)a->highest_epoch, "connected", 1);
    return true;
}

/* Lock held: the tag of what is told of the VM now; NULL = it has none. */
static char *
fake_tag(FakeAgent *a)
{
    if (a->life == NULL)
        return NULL;
    if (!vm_equal(a->told_vm, a->vm)) {
        vm_free(a->told_vm);
        a->told_vm = vm_copy(a->vm);
        a->tag++;
    }
    return g_strdup_printf("%s.%u", a->life, a->tag);
}

static json_t *
fake_vm_json(FakeAgent *a)
{
    g_autofree char *tag = fake_tag(a);
    json_t *doc = vm_to_json(a->vm);

    json_put_text(doc, "tag", tag);
    return doc;
}

static bool
fake_vms(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
         GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);

    a->lists++;
    *ret =
        a->vm != NULL ? json_pack("{s:[o]}", "vms", fake_vm_json(a)) : json_pack("{s:[]}", "vms");
    return true;
}

static bool
fake_vm(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
        GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);

    if (a->vm == NULL || !g_str_equal(id, FAKE_VM))
        return error_set(error, ERR_NOT_FOUND, "no VM %s", id);
    g_autofree char *tag = fake_tag(a);
    bool unchanged = tag != NULL && g_strcmp0(tag, http_query(request, "known")) == 0;
    a->unchanged += unchanged;
    a->told += !unchanged;
    *ret = unchanged ? json_pack("{s:s, s:b}", "tag", tag, "unchanged", 1) : fake_vm_json(a);
    return true;
}

/* As the real one, but with figures that the VM alone tells. */
static bool
fake_plan(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
          GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    Strategy strategy = STRATEGY_AUTO;
    Verify verify = VERIFY_EXTENTS;
    size_t i;
    json_t *snapshot;

    a->plans++;
    while (a->plan_slow)
        g_cond_wait_until(&a->changed, &a->lock, g_get_monotonic_time() + 20000);
    if (a->plan_code != NULL)
        return error_set(error, error_code_from_word(a->plan_code), "no plan today");
    if (a->vm == NULL || !g_str_equal(id, FAKE_VM))
        return error_set(error, ERR_NOT_FOUND, "no VM %s", id);
    json_array_foreach (json_object_get(body, "snapshots"), i, snapshot)
        g_ptr_array_add(ids, (void *)json_string_value(snapshot));
    g_ptr_array_add(ids, NULL);
    if (!strategy_from_word(json_text(body, "strategy"), &strategy, error) ||
        !verify_from_word(json_text(body, "verify"), &verify, error))
        return false;
    g_autoptr(Plan) plan = plan_new(a->vm, (const char *const *)ids->pdata, json_text(body, "disk"),
                                    strategy, verify, error);
    if (plan == NULL)
        return false;
    plan_guess(plan, a->vm);
    plan_choose(plan, a->vm);
    *ret = json_pack("{s:o, s:o}", "vm", vm_to_json(a->vm), "plan", plan_to_json(plan, a->vm));
    return true;
}

static bool
fake_begin(void *self, const HttpRequest *request, const char *no_id, json_t *body, json_t **ret,
           GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);
    const char *id = json_text(body, "id"), *kind = json_text(body, "kind");
    FakeOperation *op = fake_find(a, id);

    if (a->drop_requests > 0 && a->drop_requests-- > 0)
        return error_set(error, ERR_INTERNAL, "the request fell on the floor");
    if (a->busy_answers > 0 && a->busy_answers-- > 0)
        return error_set(error, ERR_BUSY, "the VM is held");
    if (a->refuse)
        return error_set(error, ERR_REFUSED, "the volume is used by somebody else");
    if (g_hash_table_contains(a->tombstones, id))
        return error_set(error, ERR_GONE, "operation %s was given up", id);
    g_assert_nonnull(json_text(body, "job"));
    if (op == NULL && g_hash_table_contains(a->ended_jobs, json_text(body, "job")))
        return error_set(error, ERR_REFUSED, "job %s has ended", json_text(body, "job"));
    if (op == NULL) {
        op = g_new0(FakeOperation, 1);
        op->id = g_strdup(id);
        op->body = json_deep_copy(body);
        op->state = "running";
        op->bytes_total = 1000;
        g_ptr_array_add(a->operations, op);
        a->begun++;
        if (g_strcmp0(a->hold, kind) != 0)
            fake_execute(a, op);
    }
    *ret = fake_operation_json(op);
    if (a->lose_answers > 0 && a->lose_answers-- > 0) {
        g_clear_pointer(ret, json_decref);
        return error_set(error, ERR_INTERNAL, "it is done, but nobody will know");
    }
    return true;
}

static bool
fake_get(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
         GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);
    FakeOperation *op = fake_find(a, id);

    if (op == NULL) {
        g_hash_table_add(a->tombstones, g_strdup(id));
        return error_set(error, ERR_NOT_FOUND, "no operation %s", id);
    }
    *ret = fake_operation_json(op);
    return true;
}

static bool
fake_list(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
          GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);
    json_t *list = json_array();

    for (guint i = 0; i < a->operations->len; i++)
        json_array_append_new(list, fake_operation_json(a->operations->pdata[i]));
    *ret = json_pack("{s:o}", "operations", list);
    return true;
}

static bool
fake_cancel(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
            GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);
    FakeOperation *op = fake_find(a, id);

    if (op == NULL)
        return error_set(error, ERR_NOT_FOUND, "no operation %s", id);
    a->cancels++;
    if (g_str_equal(op->state, "running")) {
        op->state = "cancelled";
        g_clear_pointer(&op->attention, g_free);
        fake_say(
            a, json_pack("{s:s, s:o}", "event", "operation", "operation", fake_operation_json(op)));
    }
    *ret = fake_operation_json(op);
    return true;
}

static bool
fake_resume(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
            GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);
    FakeOperation *op = fake_find(a, id);

    if (op == NULL)
        return error_set(error, ERR_NOT_FOUND, "no operation %s", id);
    a->resumes++;
    g_clear_pointer(&op->attention, g_free);
    fake_say_operation(a, op);
    *ret = fake_operation_json(op);
    return true;
}

static bool
fake_ack(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
         GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);
    FakeOperation *op = fake_find(a, id);

    if (a->drop_acks > 0 && a->drop_acks-- > 0)
        return error_set(error, ERR_INTERNAL, "the acknowledgement fell on the floor");
    if (op != NULL) {
        g_assert_cmpstr(op->state, !=, "running");
        a->acknowledged++;
        g_ptr_array_remove(a->operations, op);
    } else {
        g_hash_table_add(a->ended_jobs, g_strdup(id));
    }
    *ret = json_object();
    return true;
}

static bool
fake_epoch_ok(void *self, int64_t epoch, GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);

    if (epoch < a->highest_epoch)
        return error_set(error, ERR_STALE_EPOCH, "epoch %" G_GINT64_FORMAT " is over", epoch);
    a->highest_epoch = epoch;
    return true;
}

static bool
fake_findings(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
              GError **error)
{
    *ret = json_pack("{s:[{s:s, s:s, s:s, s:s}], s:[], s:[], s:{s:i, s:i}}", "findings", "class",
                     "orphan-volume", "severity", "notice", "vm_id", FAKE_VM, "vm", "web", "busy",
                     "unread", "kept", "files", 3, "bytes", 4096);
    return true;
}

static json_t *
fake_running(FakeAgent *a)
{
    json_t *list = json_array();

    for (guint i = 0; i < a->operations->len; i++) {
        const FakeOperation *op = a->operations->pdata[i];
        if (g_str_equal(op->state, "running"))
            json_array_append_new(list, json_pack("{s:s, s:O, s:s}", "id", op->id, "kind",
                                                  json_object_get(op->body, "kind"), "step", "x"));
    }
    return list;
}

static bool
fake_import(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
            GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);
    json_t *left = json_array();

    if (g_strcmp0(json_text(body, "path"), "/nowhere") == 0) {
        json_decref(left);
        return error_set(error, ERR_NOT_FOUND, "/nowhere is no directory of this host");
    }
    if (a->leftover != NULL)
        json_array_append_new(left, json_string(a->leftover));
    *ret = json_pack("{s:[{s:s, s:s, s:s, s:i, s:i, s:i, s:o, s:{s:[], s:o, s:[]}}], s:[{s:s, s:s, "
                     "s:s}], s:[]}",
                     "vms", "vm_id", FAKE_VM, "vm", "web", "state", "down", "disks", 2, "volumes",
                     6, "snapshots", 2, "running", fake_running(a), "todo", "adopt", "delete", left,
                     "forget", "doubtful", "vm_id", FAKE_VM, "why", "because", "command",
                     "livemerge doctor web", "domains");
    return true;
}

static bool
fake_epoch(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret,
           GError **error)
{
    FakeAgent *a = self;
    WITH_LOCK(&a->lock);

    *ret = json_pack("{s:I}", "epoch", (json_int_t)a->highest_epoch);
    return true;
}

static const WireRoute fake_free_routes[] = {
    { "GET", "/v1/epoch", fake_epoch },
    { NULL, NULL, NULL },
};

static const WireRoute fake_routes[] = {
    { "POST", "/v1/import", fake_import },
    { "GET", "/v1/doctor", fake_findings },
    { "GET", "/v1/hello", fake_hello },
    { "GET", "/v1/vms", fake_vms },
    { "GET", "/v1/vms/ID", fake_vm },
    { "POST", "/v1/vms/ID/plan", fake_plan },
    { "POST", "/v1/operations", fake_begin },
    { "GET", "/v1/operations", fake_list },
    { "GET", "/v1/operations/ID", fake_get },
    { "POST", "/v1/operations/ID/cancel", fake_cancel },
    { "POST", "/v1/operations/ID/resume", fake_resume },
    { "POST", "/v1/operations/ID/ack", fake_ack },
    { NULL, NULL, NULL },
};

/* ---- the stream ---- */

typedef struct {
    FakeAgent *agent;
    HttpServer *server;
    guint next;
    bool begun;
} FakeStream;

static ssize_t
fake_stream(void *data, char *buf, size_t max)
{
    FakeStream *stream = data;
    FakeAgent *a = stream->agent;
    WITH_LOCK(&a->lock);
    const char *line = "{\"event\":\"alive\"}\n";

    while (stream->begun && stream->next >= a->lines->len) {
        if (http_server_stopping(stream->server))
            return 0;
        g_cond_wait_until(&a->changed, &a->lock, g_get_monotonic_time() + 50000);
    }
    if (stream->begun)
        line = a->lines->pdata[stream->next++];
    stream->begun = true;
    g_assert_cmpuint(strlen(line), <=, max);
    memcpy(buf, line, strlen(line));
    return (ssize_t)strlen(line);
}

static void
fake_handle(const HttpRequest *request, HttpResponse *response, void *data)
{
    FakeAgent *a = data;
    FakeStream *stream;

    if (g_str_equal(request->path, "/v1/epoch")) {
        wire_serve(fake_free_routes, a, NULL, request, response);
        return;
    }
    if (!g_str_equal(request->path, "/v1/events")) {
        wire_serve(fake_routes, a, fake_epoch_ok, request, response);
        return;
    }
    stream = g_new0(FakeStream, 1);
    stream->agent = a;
    stream->server = request->server;
    g_mutex_lock(&a->lock);
    stream->next = a->lines->len;
    g_mutex_unlock(&a->lock);
    response->status = 200;
    response->stream = fake_stream;
    response->stream_data = stream;
    response->stream_free = g_free;
}

/* ---- life ---- */

/* Two disks of five volumes vda-0 ... vda-4 (the leaf) and four snapshots s0 ... s3 that own
 * the volumes below it. */
static Vm *
fake_vm_new(void)
{
    Vm *vm = vm_new(FAKE_VM, "web1");

    vm->state = VM_UP;
    vm->instance = g_strdup("42.4711");
    vm->home = g_strdup("/");
    for (int i = 0; i < 4; i++) {
        g_autofree char *id = g_strdup_printf("00000000-0000-4000-8000-00000000000%d", i);
        g_autofree char *name = g_strdup_printf("s%d", i);
        g_ptr_array_add(vm->snapshots, snapshot_new(id, name, 1000 + i));
    }
    for (int d = 0; d < 2; d++) {
        g_autofree char *id = g_strdup_printf("d%d", d);
        Disk *disk = disk_new(id, d == 0 ? "vda" : "vdb");
        for (int i = 0; i < 5; i++) {
            g_autofree char *volume = g_strdup_printf("%s-%d", disk->target, i);
            g_autofree char *path = g_strdup_printf("/%s.qcow2", volume);
            Volume *v = volume_new(volume, path, "qcow2", UINT64_C(4) << 30);
            v->allocated = i % 2 != 0 ? 1 << 30 : 1 << 16; /* deleting s1, s3: commits are best */
            g_ptr_array_add(disk->volumes, v);
            if (i < 4)
                vm_add_snapshot_disk(vm->snapshots->pdata[i], disk->id, volume);
        }
        g_ptr_array_add(vm->disks, disk);
    }
    return vm;
}

static void
fake_start(FakeAgent *a)
{
    HttpServerOptions options = { .address = a->address };
    g_autoptr(GError) error = NULL;

    a->server = http_server_start(&options, fake_handle, a, &error);
    g_assert_no_error(error);
}

static void
fake_stop(FakeAgent *a)
{
    g_clear_pointer(&a->server, http_server_stop);
}

static FakeAgent *G_GNUC_UNUSED
fake_new(const char *dir)
{
    FakeAgent *a = g_new0(FakeAgent, 1);

    a->dir = g_strdup(dir);
    a->address = g_strdup_printf("unix:%s/agent.sock", dir);
    g_mutex_init(&a->lock);
    g_cond_init(&a->changed);
    a->vm = fake_vm_new();
    a->operations = g_ptr_array_new_with_free_func(fake_operation_free);
    a->tombstones = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    a->ended_jobs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    a->lines = g_ptr_array_new_with_free_func(g_free);
    a->log = g_string_new(NULL);
    a->agent_id = "99999999-9999-4999-8999-999999999999";
    fake_start(a);
    return a;
}

static void G_GNUC_UNUSED
fake_free(FakeAgent *a)
{
    fake_stop(a);
    vm_free(a->told_vm);
    vm_free(a->vm);
    g_ptr_array_unref(a->operations);
    g_hash_table_unref(a->tombstones);
    g_hash_table_unref(a->ended_jobs);
    g_ptr_array_unref(a->lines);
    g_string_free(a->log, TRUE);
    g_mutex_clear(&a->lock);
    g_cond_clear(&a->changed);
    g_free(a->address);
    g_free(a->dir);
    g_free(a);
}
