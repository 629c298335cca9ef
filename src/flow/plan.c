/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The plan of a removal. The agent makes it, because only it sees the files; the manager keeps the
 * JSON as it was told, shows it, and gives each run of it to a child.
 */
#include "flow/core.h"

static json_t *
question(const json_t *params)
{
    static const char *const members[] = { "snapshots", "disk", "strategy", "verify" };
    json_t *body = json_object();

    for (unsigned i = 0; i < G_N_ELEMENTS(members); i++)
        if (json_object_get(params, members[i]) != NULL)
            json_object_set(body, members[i], json_object_get(params, members[i]));
    return body;
}

static bool
is_run(const json_t *run)
{
    static const char *const texts[] = { "disk_id", "target", "base", "top", "strategy" };

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        if (json_text(run, texts[i]) == NULL)
            return false;
    return json_is_array(json_object_get(run, "volumes"));
}

static bool
is_plan(const json_t *plan)
{
    const json_t *runs = json_object_get(plan, "runs");

    for (size_t i = 0; i < json_array_size(runs); i++)
        if (!is_run(json_array_get(runs, i)))
            return false;
    return json_is_array(runs) && json_is_boolean(json_object_get(plan, "possible"));
}

/* ---- a limit of the user's: the agent's times know nothing of it ---- */

static double
slow_down(json_t *cost, double limit)
{
    double told = json_number_value(json_object_get(cost, "seconds"));
    double least = (double)json_number(cost, "bytes_written") / limit;

    if (least > told && json_object_get(cost, "seconds") != NULL)
        json_object_set_new(cost, "seconds", json_real(least));
    return MAX(told, least);
}

/* The limit is of each disk; disks go side by side, the runs of one after another. */
static void
slow_down_all(json_t *plan, double limit)
{
    g_autoptr(json_t) disks = json_object();
    json_t *run, *option, *totals = json_object_get(plan, "totals");
    double longest = json_number_value(json_object_get(totals, "seconds"));
    size_t i, k;

    if (limit <= 0)
        return;
    json_array_foreach (json_object_get(plan, "runs"), i, run) {
        const char *disk = json_text(run, "disk_id");
        double seconds = json_number_value(json_object_get(disks, disk)) + slow_down(run, limit);
        json_object_set_new(disks, disk, json_real(seconds));
        longest = MAX(longest, seconds);
        json_array_foreach (json_object_get(run, "options"), k, option)
            slow_down(option, limit);
    }
    if (json_object_get(totals, "seconds") != NULL)
        json_object_set_new(totals, "seconds", json_real(longest));
}

bool
agent_plan_ask(Host *host, const char *vm_id, const json_t *params, unsigned timeout_ms,
               Vm **ret_vm, json_t **ret_plan, GError **error)
{
    g_autofree char *path = g_strdup_printf("/v1/vms/%s/plan", vm_id);
    int64_t ticket = inventory_ticket(host->manager);
    g_autoptr(json_t) body = question(params), answer = NULL;
    Vm *vm;

    if (!host_call_within(host, timeout_ms, "POST", path, body, &answer, error))
        return false;
    if (!is_plan(json_object_get(answer, "plan")))
        return error_set(error, ERR_CORRUPT,
                         "the agent of host '%s' was asked for a plan and answers something else",
                         host->name);
    vm = inventory_put(host, json_object_get(answer, "vm"), ticket, error);
    if (vm == NULL)
        return false;
    slow_down_all(json_object_get(answer, "plan"), (double)json_number(params, "bandwidth"));
    *ret_vm = vm;
    *ret_plan = json_incref(json_object_get(answer, "plan"));
    return true;
}

bool
agent_plan_judge(const json_t *plan, GError **error)
{
    const char *code = json_text(plan, "code"), *why = json_text(plan, "why");

    return json_flag(plan, "possible") ||
           error_set(error, code != NULL ? error_code_from_word(code) : ERR_REFUSED, "%s",
                     why != NULL ? why : "it is not possible, and the agent gives no reason");
}

json_t *
agent_plan_runs(const json_t *plan, const json_t *params, const char *host)
{
    static const char *const same[] = { "bandwidth", "verify", "vm_name", "user" };
    json_t *runs = json_deep_copy(json_object_get(plan, "runs")), *run;
    size_t i;

    json_array_foreach (runs, i, run) {
        json_object_del(run, "options"); /* what was not chosen stays with the plan */
        json_object_set_new(run, "number", json_integer((json_int_t)i));
        json_object_set_new(run, "host", json_string(host));
        for (unsigned k = 0; k < G_N_ELEMENTS(same); k++)
            if (json_object_get(params, same[k]) != NULL)
                json_object_set(run, same[k], json_object_get(params, same[k]));
    }
    return runs;
}
