/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/survey.h"
#include "agent/verify.h"

#include "base/log.h"

#include <sys/statvfs.h>

#define LEAST_BYTES 64e6 /* what a rate is learnt from, unless it took long */
#define LEAST_CALLS 2000
#define LEAST_SECONDS 1.0
#define BUDGET_US (5 * G_TIME_SPAN_SECOND) /* for reading maps, for one plan */

/* A disk of the plan, and what its volumes hold */
typedef struct {
    Agent *agent;
    const Vm *vm;
    const Disk *disk;
    PlanDisk *on;
    unsigned first;        /* the lowest volume that takes part */
    SurveyVolume *volumes; /* of the whole chain; those below first are empty */
    Allocation **layers;   /* the same; NULL = could not be read */
    uint64_t block;        /* of the file system */
    char **unreadable;     /* the same; why they could not be read */
} Look;

static void
look_clear(Look *look)
{
    for (guint i = 0; i < look->disk->volumes->len; i++) {
        survey_volume_clear(&look->volumes[i]);
        g_free(look->unreadable[i]);
    }
    g_free(look->volumes);
    g_free(look->layers);
    g_free(look->unreadable);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Look, look_clear)

static const Volume *
volume_at(const Look *look, unsigned index)
{
    return look->disk->volumes->pdata[index];
}

static PlanGroup *
group_at(const Look *look, guint index)
{
    return look->on->groups->pdata[index];
}

static bool
has_leaf(const Look *look, const PlanGroup *group)
{
    return group->top + 1 == look->disk->volumes->len;
}

/* ---- the volumes */

/* True if all are known wholly. */
static bool
read_volumes(Look *look, int64_t deadline_us)
{
    bool exact = true;

    for (unsigned i = look->first; i < look->disk->volumes->len; i++) {
        const Volume *volume = volume_at(look, i);
        g_autoptr(GError) error = NULL;

        if (!survey_volume(look->agent->survey, volume->path, volume->format, deadline_us,
                           &look->volumes[i], &error)) {
            log_debug("VM %s, disk %s: %s; its plan is made of upper bounds", look->vm->name,
                      look->disk->target, error->message);
            look->unreadable[i] = g_strdup(error->message);
            exact = false;
            continue;
        }
        look->layers[i] = look->volumes[i].allocation;
        exact = exact && look->layers[i]->exact;
    }
    return exact;
}

/* A VM that runs keeps its leaf marked as dirty, and may change it under our eyes. */
static char *
uncarried_feature(const Look *look, const PlanGroup *group)
{
    for (unsigned i = group->base; i <= group->top; i++) {
        const Allocation *layer = look->layers[i];
        bool in_use = look->vm->state != VM_DOWN && i + 1 == look->disk->volumes->len;
        const char *why =
            layer != NULL ? qcow2_uncarried(layer->features & ~(in_use ? QCOW2_DIRTY : 0U)) : NULL;

        if (why != NULL)
            return g_strdup_printf("%s %s", layer->path, why);
        if (layer == NULL && !in_use) /* the writer would meet the same */
            return g_strdup(look->unreadable[i]);
    }
    return NULL;
}

/* The merge would meet the same before it begins. */
static char *
unread_volume(const Look *look, const PlanGroup *group)
{
    g_autoptr(GError) why = NULL;

    return verify_can_read(look->disk, group->top, &why) ? NULL : g_strdup(why->message);
}

/* ---- the groups */

/* What one build does of volumes [base..top], on what is below them. */
static void
sum_up(const Look *look, unsigned base, unsigned top, uint64_t size, AllocationSum *sum)
{
    uint64_t below = base > 0 ? volume_at(look, base - 1)->virtual_size : 0;

    allocation_sum(look->layers + base, top - base + 1, size, below, look->block, sum);
}

static void
fill_group(const Look *look, PlanGroup *group)
{
    bool with_leaf = has_leaf(look, group);
    g_auto(AllocationSum) sum = { 0 };

    sum_up(look, group->base, group->top, 0, &sum);
    group->all = sum.all;
    group->pieces = sum.pieces;
    /* compressed data are unpacked, so they are written even where all else is shared */
    group->metadata = sum.metadata + (look->on->can_share ? sum.packed : 0);
    /* QEMU's commit of an internal run writes out zeros; that of a leaf, a mirror, does not */
    group->upper = sum.upper + (with_leaf ? 0 : sum.upper_zero);
    group->grow = sum.grow + (with_leaf ? 0 : sum.grow_zero);
    if (sum.refusal != NULL && group->uncarried == NULL)
        group->uncarried = g_strdup(sum.refusal);
    group->leaf = group->below = group->below_pieces = 0;
    if (!with_leaf)
        return;
    group->leaf = sum.top;
    if (group->base == group->top)
        return;
    g_auto(AllocationSum) rest = { 0 };
    sum_up(look, group->base, group->top - 1, look->layers[group->top]->virtual_size, &rest);
    group->below = rest.all;
    group->below_pieces = rest.pieces;
}

/* ---- the storage */

/* One file system, files that are alike, and clusters that are blocks of it: the writer of new
 * volumes needs all that. They lie in one storage domain, or the disk would not be managed. */
static bool
can_share(const Look *look, Domain *domain)
{
    const SurveyVolume *leaf = &look->volumes[look->disk->volumes->len - 1];

    for (unsigned i = look->first; i < look->disk->volumes->len; i++) {
        const SurveyVolume *volume = &look->volumes[i];

        if (volume->allocation == NULL || leaf->allocation == NULL) /* refused anyway */
            continue;
        if (volume->device != leaf->device || volume->no_cow != leaf->no_cow ||
            (!volume->allocation->raw && UINT64_C(1) << volume->allocation->bits < look->block))
            return false;
    }
    return domain_can_share(domain);
}

static void
fill_storage(Look *look)
{
    const char *leaf = disk_leaf(look->disk)->path;
    Domain *domain = agent_domain(look->agent, leaf, false, NULL);
    uint64_t free_bytes = 0, total = 0;
    struct statvfs fs;

    look->block = statvfs(leaf, &fs) == 0 && fs.f_bsize <= 65536 ? fs.f_bsize : 4096;
    if (domain == NULL)
        return;
    g_free(look->on->storage);
    look->on->storage = g_strdup(domain->path);
    look->on->can_share = can_share(look, domain);
    look->on->rates = survey_rates(look->agent->survey, domain);
    if (domain_space(domain, &free_bytes, &total, NULL)) {
        uint64_t reserve = domain_reserve(domain, total);
        look->on->free = free_bytes > reserve ? free_bytes - reserve : 0;
    }
}

static void
fill_disk(Agent *agent, const Vm *vm, PlanDisk *on, Verify verify, int64_t deadline_us)
{
    g_auto(Look) look = { .agent = agent, .vm = vm, .disk = vm_disk(vm, on->disk_id), .on = on };
    guint n = look.disk->volumes->len;

    look.first = group_at(&look, 0)->base;
    look.volumes = g_new0(SurveyVolume, n);
    look.layers = g_new0(Allocation *, n);
    look.unreadable = g_new0(char *, n);
    on->exact = read_volumes(&look, deadline_us);
    fill_storage(&look);
    for (guint i = 0; i < on->groups->len; i++) {
        PlanGroup *group = group_at(&look, i);

        g_free(group->uncarried);
        group->uncarried = uncarried_feature(&look, group);
        g_free(group->unread);
        group->unread = verify == VERIFY_FULL ? unread_volume(&look, group) : NULL;
        if (on->exact)
            fill_group(&look, group);
    }
}

void
survey_fill(Agent *agent, const Vm *vm, Plan *plan)
{
    int64_t deadline_us = g_get_monotonic_time() + BUDGET_US;

    plan_guess(plan, vm); /* what cannot be found out stays so */
    for (guint i = 0; i < plan->disks->len; i++)
        fill_disk(agent, vm, plan->disks->pdata[i], plan->verify, deadline_us);
}

void
survey_learn(Agent *agent, const char *path, Rate rate, double amount, double seconds)
{
    /* of a small job the fixed cost is most: it says nothing of large ones */
    bool large = amount >= (rate == RATE_SHARE ? LEAST_CALLS : LEAST_BYTES);
    Domain *domain =
        large || seconds >= LEAST_SECONDS ? agent_domain(agent, path, false, NULL) : NULL;

    if (domain != NULL)
        survey_note(agent->survey, domain, rate, amount, seconds);
}

/* ---- the whole request */

typedef struct {
    GPtrArray *snapshots; /* of borrowed ids, NULL-terminated */
    const char *disk;
    Strategy strategy;
    Verify verify;
} Request;

static bool
optional_text(const json_t *body, const char *key, const char **ret_text, GError **error)
{
    json_t *value = json_object_get(body, key);

    *ret_text = json_string_value(value);
    return value == NULL || json_is_null(value) || *ret_text != NULL ||
           error_set(error, ERR_INVALID, "'%s' must be a text", key);
}

static bool
parse(const json_t *body, Request *request, GError **error)
{
    json_t *list = json_object_get(body, "snapshots"), *id;
    const char *strategy = NULL, *verify = NULL;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) == 0)
        return error_set(error, ERR_INVALID, "'snapshots' must be a list of ids");
    json_array_foreach (list, i, id) {
        if (!json_is_string(id))
            return error_set(error, ERR_INVALID, "'snapshots' must be a list of ids");
        g_ptr_array_add(request->snapshots, (void *)json_string_value(id));
    }
    g_ptr_array_add(request->snapshots, NULL);
    return optional_text(body, "disk", &request->disk, error) &&
           optional_text(body, "strategy", &strategy, error) &&
           optional_text(body, "verify", &verify, error) &&
           strategy_from_word(strategy != NULL ? strategy : "auto", &request->strategy, error) &&
           verify_from_word(verify, &request->verify, error);
}

static bool
look_closely(Agent *agent, const char *vm_id, GError **error)
{
    AgentVm *entry = agent_entry(agent, vm_id, false);

    if (entry == NULL)
        return true;
    WITH_LOCK(&entry->lock);
    return agent_look_closely(agent, entry, error);
}

bool
survey_plan(Agent *agent, const char *vm_id, const json_t *body, json_t **ret_json, GError **error)
{
    g_autoptr(GPtrArray) snapshots = g_ptr_array_new();
    Request request = { .snapshots = snapshots };
    g_autoptr(Vm) vm = NULL;
    g_autoptr(Plan) plan = NULL;

    if (!parse(body, &request, error) || !look_closely(agent, vm_id, error) ||
        !outside_look_again(agent, error))
        return false;
    vm = vm_unshare(agent_vm_shown(agent, vm_id));
    if (vm == NULL)
        return error_set(error, ERR_NOT_FOUND, "no VM %s on this host", vm_id);
    agent_find_users(agent, vm);
    plan = plan_new(vm, (const char *const *)snapshots->pdata, request.disk, request.strategy,
                    request.verify, error);
    if (plan == NULL)
        return false;
    survey_fill(agent, vm, plan);
    plan_choose(plan, vm);
    *ret_json = json_pack("{s:o, s:o}", "vm", vm_to_json(vm), "plan", plan_to_json(plan, vm));
    return true;
}
