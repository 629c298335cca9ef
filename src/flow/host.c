/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A host, and what its agent is asked. Who hears the news is in host_follow.c.
 */
#include "flow/agent_call.h"

#include "base/log.h"
#include "base/text.h"

Host *
host_new(Manager *m, const HostConfig *config, GError **error)
{
    g_autofree Host *host = g_new0(Host, 1);

    host->client = wire_client_new(config->address, config->ca_file, error);
    if (host->client == NULL) {
        g_prefix_error(error, "host '%s': ", config->name);
        return NULL;
    }
    wire_client_set_epoch(host->client, m->epoch);
    host->manager = m;
    host->name = g_strdup(config->name);
    host->address = g_strdup(config->address);
    host->problem = g_strdup("not asked yet");
    host->look_at = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->missed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->ended = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_cond_init(&host->wake);
    return g_steal_pointer(&host);
}

void
host_free(Host *host)
{
    if (host == NULL)
        return;
    wire_client_free(host->client);
    g_hash_table_unref(host->look_at);
    g_hash_table_unref(host->missed);
    g_hash_table_unref(host->ended);
    g_cond_clear(&host->wake);
    g_free(host->name);
    g_free(host->address);
    g_free(host->agent_id);
    json_decref(host->facts);
    g_free(host->problem);
    g_free(host);
}

Host *
host_by_name(Manager *m, const char *name)
{
    for (guint i = 0; name != NULL && i < m->hosts->len; i++) {
        Host *host = m->hosts->pdata[i];
        if (g_str_equal(host->name, name))
            return host;
    }
    return NULL;
}

bool
host_mark_down(Host *host, const char *problem)
{
    Manager *m = host->manager;
    WITH_LOCK(&m->lock);
    bool was_up = host->up;

    host->up = host->connected = false;
    host->was_asked = true;
    g_free(host->problem);
    host->problem = g_strdup(problem);
    inventory_host_changed_locked(host);
    return was_up;
}

bool
host_taken_over(Host *host, const GError *why, GError **error)
{
    g_autofree char *problem =
        g_strdup_printf("another manager has taken over: %s; if that manager is lost for ever: "
                        "livemerge storage import --take-over",
                        why->message);

    if (host_mark_down(host, problem))
        log_warn("host %s: %s; this manager does nothing there any more", host->name, problem);
    return error_set(error, ERR_UNREACHABLE, "host '%s': %s", host->name, problem);
}

bool
host_call(Host *host, const char *method, const char *path, const json_t *body, json_t **ret_json,
          GError **error)
{
    return host_call_within(host, CALL_MS, method, path, body, ret_json, error);
}

bool
host_call_within(Host *host, unsigned timeout_ms, const char *method, const char *path,
                 const json_t *body, json_t **ret_json, GError **error)
{
    Manager *m = host->manager;
    g_autoptr(GError) why = NULL;

    g_mutex_lock(&m->lock);
    if (m->stopping)
        error_set(&why, ERR_UNREACHABLE, "the manager is stopping");
    else if (!host->up)
        error_set(&why, ERR_UNREACHABLE, "host '%s' does not answer: %s", host->name,
                  host->problem);
    g_mutex_unlock(&m->lock);
    if (why == NULL &&
        wire_call_within(host->client, timeout_ms, method, path, body, ret_json, &why))
        return true;
    if (g_error_matches(why, ERR, ERR_STALE_EPOCH))
        return host_taken_over(host, why, error);
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
host_look_at_all(Host *host, GError **error)
{
    int64_t ticket = inventory_ticket(host->manager);
    g_autoptr(json_t) answer = NULL;

    return wire_call(host->client, "GET", "/v1/vms", NULL, &answer, error) &&
           inventory_put_all(host, json_object_get(answer, "vms"), ticket, error);
}

static bool
is_running(const json_t *operation)
{
    return g_strcmp0(json_text(operation, "state"), "running") == 0;
}

static void
acknowledge(Host *host, const json_t *operation)
{
    g_autofree char *path = g_strdup_printf("/v1/operations/%s/ack", json_text(operation, "id"));
    g_autoptr(json_t) nothing = NULL;

    wire_call(host->client, "POST", path, NULL, &nothing, NULL);
}

bool
host_look_at_operations(Host *host, json_t *strange, GError **error)
{
    g_autoptr(json_t) answer = NULL;
    size_t i;
    json_t *operation;

    if (!wire_call(host->client, "GET", "/v1/operations", NULL, &answer, error))
        return false;
    json_array_foreach (json_object_get(answer, "operations"), i, operation) {
        if (!id_is_valid(json_text(operation, "id")) ||
            seen_operation(host->manager, operation, true))
            continue;
        if (!is_running(operation))
            acknowledge(host, operation);
        else if (strange != NULL)
            json_array_append(strange, operation);
    }
    return true;
}

GHashTable *
host_acknowledge_ended(Host *host, GHashTable *before)
{
    g_autoptr(GHashTable) ended = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(json_t) answer = NULL;
    size_t i;
    json_t *operation;

    if (!host_call(host, "GET", "/v1/operations", NULL, &answer, NULL))
        return NULL;
    json_array_foreach (json_object_get(answer, "operations"), i, operation) {
        const char *id = json_text(operation, "id");

        if (!id_is_valid(id) || is_running(operation) || seen_knows(host->manager, id))
            continue;
        g_hash_table_add(ended, g_strdup(id));
        if (before == NULL || g_hash_table_contains(before, id))
            acknowledge(host, operation);
    }
    return g_steal_pointer(&ended);
}

void
host_acknowledge_again(Host *host)
{
    g_autoptr(GHashTable) ended = host_acknowledge_ended(host, NULL);
}
