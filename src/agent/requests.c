/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the manager asks: one table (wire/wire.h has the meaning of each).
 */
#include "agent/clone.h"
#include "agent/doctor.h"
#include "agent/import.h"
#include "agent/operation.h"
#include "agent/starting.h"
#include "agent/survey.h"

#include "base/text.h"

static bool
ready(Agent *agent, GError **error)
{
    WITH_LOCK(&agent->lock);

    return agent->loaded ||
           error_set(error, ERR_UNREACHABLE,
                     "the agent has not yet seen the host's VMs (is libvirtd running?)");
}

/* NULL: nothing is known. */
static json_t *
host_json(Hypervisor *hv)
{
    g_auto(HvHost) host = { 0 };

    if (hv->ops->host == NULL || !hv->ops->host(hv, &host, NULL))
        return NULL;
    json_t *doc = json_pack("{s:I, s:i, s:i, s:i, s:i}", "memory", (json_int_t)host.memory,
                            "sockets", (int)host.sockets, "cores", (int)host.cores, "threads",
                            (int)host.threads, "mhz", (int)host.mhz);
    json_put_text(doc, "cpu", host.cpu);
    json_put_text(doc, "libvirt", host.libvirt);
    return doc;
}

static bool
hello(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
      GError **error)
{
    Agent *agent = self;

    *ret_json = json_pack("{s:s, s:s, s:s, s:b}", "name", g_get_host_name(), "version",
                          LIVEMERGE_VERSION, "agent_id", journal_agent_id(agent->journal),
                          "connected", (int)agent->hv->ops->is_connected(agent->hv));
    json_t *host = host_json(agent->hv);
    if (host != NULL)
        json_object_set_new(*ret_json, "host", host);
    return true;
}

/* NULL: it is not here. known: the tag of what the asker was told last. */
static json_t *
vm_answer(Agent *agent, const char *id, const char *known)
{
    g_autofree char *tag = NULL;
    g_autoptr(Vm) vm = agent_vm_told(agent, id, known, &tag);

    if (vm == NULL)
        return tag != NULL ? json_pack("{s:s, s:b}", "tag", tag, "unchanged", 1) : NULL;
    json_t *doc = vm_to_json(vm);
    json_put_text(doc, "tag", tag);
    return doc;
}

static bool
get_vms(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
        GError **error)
{
    Agent *agent = self;
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    const AgentVm *unseen = NULL;
    json_t *list;
    GHashTableIter it;
    void *key, *entry;

    if (!ready(agent, error))
        return false;
    g_mutex_lock(&agent->lock);
    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, &key, &entry)) {
        g_ptr_array_add(ids, g_strdup(key));
        if (!((const AgentVm *)entry)->looked)
            unseen = entry;
    }
    g_mutex_unlock(&agent->lock);
    /* one that is left out is taken for gone */
    if (unseen != NULL && !agent->hv->ops->is_connected(agent->hv))
        return error_set(error, ERR_UNREACHABLE,
                         "the agent has not yet seen VM %s (is libvirtd running?)", unseen->id);

    list = json_array();
    for (guint i = 0; i < ids->len; i++) {
        json_t *doc = vm_answer(agent, ids->pdata[i], NULL);
        if (doc != NULL)
            json_array_append_new(list, doc);
    }
    *ret_json = json_pack("{s:o}", "vms", list);
    return true;
}

/* What the headers of the whole domain say besides has no tag. */
static json_t *
vm_with_users(Agent *agent, const char *id)
{
    g_autoptr(Vm) vm = vm_unshare(agent_vm_shown(agent, id));

    if (vm == NULL)
        return NULL;
    agent_find_users(agent, vm);
    return vm_to_json(vm);
}

static bool
get_vm(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
       GError **error)
{
    Agent *agent = self;
    const char *fresh = http_query(request, "fresh");
    const char *users = http_query(request, "users");
    const char *known = http_query(request, "known");
    AgentVm *entry = agent_entry(agent, id, false);

    if (!ready(agent, error))
        return false;
    if (entry != NULL && fresh != NULL && g_str_equal(fresh, "1")) {
        WITH_LOCK(&entry->lock);
        if (!agent_look_closely(agent, entry, error))
            return false;
    }
    bool find_users = users != NULL && g_str_equal(users, "1");
    if (find_users && !outside_look_again(agent, error))
        return false;
    *ret_json = find_users ? vm_with_users(agent, id) : vm_answer(agent, id, known);
    if (*ret_json == NULL) {
        WITH_LOCK(&agent->lock);
        return agent_no_vm(entry, id, error);
    }
    return true;
}

static bool
plan_vm(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
        GError **error)
{
    return ready(self, error) && survey_plan(self, id, body, ret_json, error);
}

static bool
clone_vm(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
         GError **error)
{
    return ready(self, error) && clone_ask(self, request, id, body, ret_json, error);
}

/* Not journaled: a password is written down nowhere, and one that is set twice does no harm. */
static bool
post_ticket(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
            GError **error)
{
    Agent *agent = self;
    AgentVm *entry = agent_entry(agent, id, false);
    const char *value = json_text(body, "value");
    int64_t seconds = json_number(body, "expiry");

    if (!ready(agent, error))
        return false;
    if (entry == NULL)
        return error_set(error, ERR_NOT_FOUND, "no VM %s on this host", id);
    if (value == NULL || *value == '\0' || seconds <= 0 || seconds > G_MAXINT32)
        return error_set(error, ERR_INVALID, "the request lacks 'value' or 'expiry'");
    if (agent->hv->ops->ticket == NULL)
        return error_set(error, ERR_UNSUPPORTED, "displays have no tickets here");
    WITH_LOCK(&entry->lock);
    return agent->hv->ops->ticket(agent->hv, id, value, (unsigned)seconds, error);
}

static bool
post_operation(void *self, const HttpRequest *request, const char *id, json_t *body,
               json_t **ret_json, GError **error)
{
    return ready(self, error) && operation_begin(self, body, ret_json, error);
}

static bool
get_operations(void *self, const HttpRequest *request, const char *id, json_t *body,
               json_t **ret_json, GError **error)
{
    *ret_json = operations_to_json(self);
    return true;
}

static bool
get_operation(void *self, const HttpRequest *request, const char *id, json_t *body,
              json_t **ret_json, GError **error)
{
    if (!id_is_valid(id))
        return error_set(error, ERR_INVALID, "operation id '%s' is not a UUID", id);
    return operation_get(self, id, ret_json, error);
}

static bool
cancel_operation(void *self, const HttpRequest *request, const char *id, json_t *body,
                 json_t **ret_json, GError **error)
{
    return operation_cancel(self, id, ret_json, error);
}

static bool
resume_operation(void *self, const HttpRequest *request, const char *id, json_t *body,
                 json_t **ret_json, GError **error)
{
    return operation_resume(self, id, ret_json, error);
}

static bool
ack_operation(void *self, const HttpRequest *request, const char *id, json_t *body,
              json_t **ret_json, GError **error)
{
    *ret_json = json_object();
    return operation_ack(self, id, error);
}

/* Domains stay until the agent ends; a storage that hangs must not hold the agent's lock. */
static Domain *
nth_domain(Agent *agent, guint n)
{
    WITH_LOCK(&agent->lock);

    return n < agent->domains->len ? agent->domains->pdata[n] : NULL;
}

static json_t *
storage_json(Domain *domain)
{
    g_autofree char *holder = domain_holder(domain);
    json_t *doc =
        json_pack("{s:s, s:s, s:s}", "id", domain->id, "name", domain->name, "path", domain->path);
    uint64_t room = 0, total = 0;
    bool shares = domain_can_share(domain);

    if (domain_space(domain, &room, &total, NULL)) {
        json_object_set_new(doc, "available", json_integer((json_int_t)room));
        json_object_set_new(doc, "used", json_integer((json_int_t)(total - room)));
    }
    if (shares || domain->sharing == SHARING_NO)
        json_object_set_new(doc, "shares_blocks", json_boolean(shares));
    if (holder != NULL)
        json_object_set_new(doc, "holder", json_string(holder));
    return doc;
}

static bool
get_storage(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
            GError **error)
{
    Agent *agent = self;
    json_t *list = json_array();
    Domain *domain;

    for (guint i = 0; (domain = nth_domain(agent, i)) != NULL; i++)
        json_array_append_new(list, storage_json(domain));
    *ret_json = json_pack("{s:o}", "domains", list);
    return true;
}

static bool
get_doctor(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
           GError **error)
{
    return ready(self, error) && doctor_answer(self, http_query(request, "vm"), ret_json, error);
}

static bool
post_import(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
            GError **error)
{
    return ready(self, error) && import_answer(self, body, ret_json, error);
}

static bool
get_epoch(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
          GError **error)
{
    Agent *agent = self;
    int64_t highest = 0;

    if (!journal_highest_epoch(agent->journal, &highest, error))
        return false;
    *ret_json = json_pack("{s:I}", "epoch", (json_int_t)highest);
    return true;
}

/* clang-format off */
static const WireRoute routes[] = {
    { "GET",  "/v1/hello",                hello },
    { "GET",  "/v1/vms",                  get_vms },
    { "GET",  "/v1/vms/ID",               get_vm },
    { "POST", "/v1/vms/ID/plan",          plan_vm },
    { "POST", "/v1/vms/ID/clone",         clone_vm },
    { "POST", "/v1/vms/ID/ticket",        post_ticket },
    { "POST", "/v1/operations",           post_operation },
    { "GET",  "/v1/operations",           get_operations },
    { "GET",  "/v1/operations/ID",        get_operation },
    { "POST", "/v1/operations/ID/cancel", cancel_operation },
    { "POST", "/v1/operations/ID/resume", resume_operation },
    { "POST", "/v1/operations/ID/ack",    ack_operation },
    { "GET",  "/v1/storage",              get_storage },
    { "GET",  "/v1/doctor",               get_doctor },
    { "POST", "/v1/import",               post_import },
    { NULL },
};
/* clang-format on */

/* The hook serves no manager: it has no epoch. Nor has who asks for it. */
/* clang-format off */
static const WireRoute free_routes[] = {
    { "POST", "/v1/vms/ID/starting", starting_ask },
    { "GET",  "/v1/epoch",           get_epoch },
    { NULL },
};
/* clang-format on */

static bool
epoch_ok(void *self, int64_t epoch, GError **error)
{
    Agent *agent = self;

    return journal_epoch(agent->journal, epoch, error);
}

static void
serve_events(Agent *agent, const HttpRequest *request, HttpResponse *response)
{
    g_autoptr(GError) error = NULL;
    int64_t epoch = 0;

    if (!wire_request_epoch(request, &epoch, &error) || !epoch_ok(agent, epoch, &error))
        wire_answer_error(response, error);
    else
        event_hub_stream(agent->events, response);
}

void
agent_serve(const HttpRequest *request, HttpResponse *response, void *data)
{
    Agent *agent = data;

    if (g_str_equal(request->path, "/v1/events") && g_str_equal(request->method, "GET")) {
        serve_events(agent, request, response);
        return;
    }
    if (g_str_equal(request->path, "/v1/epoch") || (g_str_has_prefix(request->path, "/v1/vms/") &&
                                                    g_str_has_suffix(request->path, "/starting")))
        wire_serve(free_routes, agent, NULL, request, response);
    else
        wire_serve(routes, agent, epoch_ok, request, response);
}
