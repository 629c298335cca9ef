/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: what the agents find, and a fix (or its undo) as a job, so that the VM is held
 * meanwhile.
 */
#include "flow/agent_call.h"

/* ---- asking ---- */

static json_t *
host_up_or_null(Host *host, char **ret_problem)
{
    WITH_LOCK(&host->manager->lock);

    if (host->up)
        return NULL;
    *ret_problem = g_strdup(host->problem != NULL ? host->problem : "it does not answer");
    return json_pack("{s:s, s:s}", "name", host->name, "why", *ret_problem);
}

static void
add_numbers(json_t *sum, const json_t *told)
{
    static const char *const keys[] = { "files", "bytes" };

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        json_object_set_new(sum, keys[i],
                            json_integer(json_number(sum, keys[i]) + json_number(told, keys[i])));
}

static void
take_answer(const Host *host, const json_t *answer, json_t *all)
{
    size_t i;
    json_t *item;

    json_array_foreach (json_object_get(answer, "findings"), i, item) {
        json_t *finding = json_deep_copy(item);
        json_object_set_new(finding, "host", json_string(host->name));
        json_array_append_new(json_object_get(all, "findings"), finding);
    }
    json_array_foreach (json_object_get(answer, "busy"), i, item) {
        json_t *busy = json_deep_copy(item);
        g_autoptr(Vm) vm = manager_vm(host->manager, json_text(item, "vm_id"), NULL);
        if (vm != NULL)
            json_object_set_new(busy, "vm", json_string(vm->name));
        json_array_append_new(json_object_get(all, "busy"), busy);
    }
    json_array_foreach (json_object_get(answer, "unread"), i, item) {
        json_t *unread = json_deep_copy(item);
        json_object_set_new(unread, "host", json_string(host->name));
        json_array_append_new(json_object_get(all, "unread"), unread);
    }
    add_numbers(json_object_get(all, "kept"), json_object_get(answer, "kept"));
}

static bool
ask(Host *host, const char *vm_id, json_t *all, GError **error)
{
    g_autofree char *path =
        vm_id != NULL ? g_strdup_printf("/v1/doctor?vm=%s", vm_id) : g_strdup("/v1/doctor");
    g_autoptr(json_t) answer = NULL;

    host_acknowledge_again(host);
    if (!host_call_within(host, PLAN_MS, "GET", path, NULL, &answer, error))
        return false;
    if (!json_is_array(json_object_get(answer, "findings")))
        return error_set(
            error, ERR_CORRUPT,
            "the agent of host '%s' was asked what is wrong and answers something else",
            host->name);
    take_answer(host, answer, all);
    return true;
}

static void
ask_or_say(Host *host, json_t *all)
{
    g_autofree char *problem = NULL;
    g_autoptr(GError) why = NULL;
    json_t *silent = host_up_or_null(host, &problem);

    if (silent == NULL && !ask(host, NULL, all, &why))
        silent = json_pack("{s:s, s:s}", "name", host->name, "why", why->message);
    if (silent != NULL)
        json_array_append_new(json_object_get(all, "silent"), silent);
}

bool
manager_doctor(Manager *m, const char *vm_id, json_t **ret_answer, GError **error)
{
    g_autoptr(json_t) all = json_pack("{s:[], s:[], s:[], s:[], s:{s:i, s:i}}", "findings", "busy",
                                      "silent", "unread", "kept", "files", 0, "bytes", 0);

    if (vm_id != NULL) {
        g_autoptr(Vm) vm = manager_vm(m, vm_id, error);
        Host *host = vm != NULL ? host_by_name(m, vm->host) : NULL;
        if (vm == NULL)
            return false;
        if (host == NULL)
            return error_set(error, ERR_UNREACHABLE, "VM '%s' is on no host that is configured",
                             vm->name);
        if (!ask(host, vm->id, all, error))
            return false;
    } else {
        for (guint i = 0; i < m->hosts->len; i++)
            ask_or_say(m->hosts->pdata[i], all);
    }
    *ret_answer = g_steal_pointer(&all);
    return true;
}

/* ---- mending ---- */

static json_t *
body_of(const Flow *flow)
{
    const char *undo = flow_param(flow, "undo");
    json_t *classes = json_object_get(flow->row->params, "classes");

    if (undo != NULL)
        return json_pack("{s:s, s:s}", "kind", "doctor-undo", "undo", undo);
    return json_pack("{s:s, s:O}", "kind", "doctor-fix", "classes", classes);
}

const OneCall doctor_call = { "doctor", body_of, NULL };
