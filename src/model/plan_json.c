/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/plan_cost.h"

static void
put_costs(json_t *json, const PlanOption *costs)
{
    json_object_set_new(json, "bytes_read", json_integer((json_int_t)costs->bytes_read));
    json_object_set_new(json, "bytes_written", json_integer((json_int_t)costs->bytes_written));
    json_object_set_new(json, "space_peak", json_integer((json_int_t)costs->space_peak));
    json_object_set_new(json, "space_freed", json_integer((json_int_t)costs->space_freed));
    json_object_set_new(json, "seconds", json_real(costs->seconds));
    json_object_set_new(json, "pauses", json_integer((json_int_t)costs->pauses));
    json_object_set_new(json, "pause_ms", json_real(costs->pause_ms));
}

static json_t *
option_to_json(const PlanOption *option)
{
    json_t *json = json_pack("{s:s, s:b}", "strategy", strategy_word(option->strategy), "possible",
                             option->blocker == NULL);

    json_put_text(json, "why", option->blocker);
    if (option->space_missing > 0)
        json_object_set_new(json, "space_missing", json_integer((json_int_t)option->space_missing));
    if (option->seconds > 0) /* else the strategy does not fit at all */
        put_costs(json, option);
    return json;
}

static const PlanDisk *
disk_of(const Plan *plan, const char *disk_id)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        if (g_strcmp0(disk->disk_id, disk_id) == 0)
            return disk;
    }
    return NULL;
}

static void
put_volumes(json_t *json, const Run *run, const Vm *vm)
{
    const Disk *disk = vm_disk(vm, run->disk_id);
    json_t *volumes = json_array();

    for (unsigned i = run->base_index; i <= run->top_index; i++) {
        const Volume *volume = disk->volumes->pdata[i];
        json_t *entry = json_object();
        json_put_text(entry, "id", volume->id);
        json_put_text(entry, "path", volume->path);
        json_array_append_new(volumes, entry);
    }
    json_object_set_new(json, "volumes", volumes);
}

/* A list of texts; a path can be any bytes. */
static void
put_list(json_t *json, const char *key, char *const *list)
{
    json_t *array;

    if (list == NULL)
        return;
    array = json_array();
    for (; *list != NULL; list++) {
        g_autofree char *text = g_utf8_make_valid(*list, -1);
        json_array_append_new(array, json_string(text));
    }
    json_object_set_new(json, key, array);
}

static json_t *
run_to_json(const Plan *plan, const Run *run, const Vm *vm)
{
    const PlanDisk *disk = disk_of(plan, run->disk_id);
    const PlanOption *chosen = run_chosen(run);
    json_t *options = json_array();
    json_t *json = json_object();

    json_put_text(json, "disk_id", run->disk_id);
    json_put_text(json, "target", run->target);
    json_put_text(json, "base", run->base);
    json_put_text(json, "top", run->top);
    json_put_text(json, "strategy", strategy_word(chosen->strategy));
    json_object_set_new(json, "has_leaf", json_boolean(run->has_leaf));
    json_object_set_new(json, "exact", json_boolean(disk != NULL && disk->exact));
    put_volumes(json, run, vm);
    put_list(json, "remove", run->removed);
    put_list(json, "kept", run->kept);
    put_costs(json, chosen);
    for (guint i = 0; i < run->options->len; i++)
        json_array_append_new(options, option_to_json(run->options->pdata[i]));
    json_object_set_new(json, "options", options);
    return json;
}

/* ---- totals ---- */

/* The runs of the disk, one after another. */
static PlanOption *
total_of_disk(const Plan *plan, const char *disk_id)
{
    g_autoptr(GPtrArray) chosen = g_ptr_array_new();

    for (guint i = 0; i < plan->runs->len; i++) {
        const Run *run = plan->runs->pdata[i];
        if (g_strcmp0(run->disk_id, disk_id) == 0)
            g_ptr_array_add(chosen, run->options->pdata[0]);
    }
    return plan_option_sum(chosen, plan->wanted);
}

/* Disks go side by side, so their needs of space add up. Their times add up, too: those on one
 * storage share its speed, and that one storage should have all disks of a VM is the rule. */
static void
put_totals(json_t *json, const Plan *plan)
{
    PlanOption total = { 0 };
    json_t *totals = json_object();

    for (guint i = 0; i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        PlanOption *one = total_of_disk(plan, disk->disk_id);

        total.bytes_read += one->bytes_read;
        total.bytes_written += one->bytes_written;
        total.space_peak += one->space_peak;
        total.space_freed += one->space_freed;
        total.seconds += one->seconds;
        total.pauses += one->pauses;
        total.pause_ms = MAX(total.pause_ms, one->pause_ms);
        plan_option_free(one);
    }
    put_costs(totals, &total);
    json_object_set_new(json, "totals", totals);
}

json_t *
plan_to_json(const Plan *plan, const Vm *vm)
{
    g_autoptr(GError) why = NULL;
    bool possible = plan_possible(plan, vm, &why), exact = true;
    json_t *runs = json_array();
    json_t *json = json_pack("{s:b, s:s, s:s}", "possible", possible, "wanted",
                             strategy_word(plan->wanted), "verify", verify_word(plan->verify));

    if (!possible) {
        json_put_text(json, "why", why->message);
        json_put_text(json, "code", error_word(why));
    }
    for (guint i = 0; i < plan->disks->len; i++)
        exact = exact && ((const PlanDisk *)plan->disks->pdata[i])->exact;
    json_object_set_new(json, "exact", json_boolean(exact));
    put_totals(json, plan);
    for (guint i = 0; i < plan->runs->len; i++)
        json_array_append_new(runs, run_to_json(plan, plan->runs->pdata[i], vm));
    json_object_set_new(json, "runs", runs);
    return json;
}
