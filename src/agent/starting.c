/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/starting.h"

#include "agent/lost_merge.h"
#include "agent/merge.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "storage/guard.h"

#include <errno.h>
#include <unistd.h>

#define BUDGET_MS 9000     /* the hook waits 10 s */
#define START_LOCK_MS 1000 /* a delete that asks libvirt for this domain waits for us in turn */
#define ENTRY_LOCK_MS 300  /* and so may whoever works on the VM */
#define ON_PURPOSE                                                                       \
    "To go back on purpose, give the VM a new overlay of the old file: qemu-img create " \
    "-f qcow2 -b OLD -F FORMAT NEW"

/* ---- what is asked ---- */

typedef struct {
    json_t *disks; /* borrowed */
    GPtrArray *sources;
} Asked;

static bool
read_asked(const json_t *body, Asked *asked, GError **error)
{
    size_t i;
    json_t *disk;

    asked->disks = json_object_get(body, "disks");
    if (!json_is_array(asked->disks))
        return error_set(error, ERR_INVALID, "the request lacks 'disks'");
    json_array_foreach (asked->disks, i, disk) {
        const char *source = json_text(disk, "source");
        if (json_text(disk, "target") == NULL || source == NULL || !g_path_is_absolute(source))
            return error_set(error, ERR_INVALID, "disk %zu lacks 'target', or an absolute 'source'",
                             i);
        g_ptr_array_add(asked->sources, (char *)source);
    }
    g_ptr_array_add(asked->sources, NULL);
    return true;
}

/* ---- the operations of the VM ---- */

static bool
try_lock(GMutex *lock, unsigned budget_ms)
{
    int64_t until = clock_mono_us() + (int64_t)budget_ms * 1000;

    while (!g_mutex_trylock(lock)) {
        if (clock_mono_us() > until)
            return false;
        g_usleep(1000);
    }
    return true;
}

/* A pivot that its operation has yet to conclude. With nobody at work on the VM the manifest tells
 * the leaf, if the guest stood still from then on. */
static bool
pivot_is_open(Agent *agent, AgentVm *entry, bool quiet, GError **error)
{
    WITH_LOCK(&agent->lock);

    for (guint i = 0; i < entry->operations->len; i++) {
        const Operation *op = entry->operations->pdata[i];
        const json_t *pivoting = json_object_get(op->row.data, "pivoting");
        if (pivoting == NULL || (quiet && json_flag(pivoting, "suspended")))
            continue;
        error_set(error, ERR_REFUSED,
                  "a merge of disk %s of VM '%s' was changing its leaf and is being concluded; no "
                  "data are lost, try again in a moment",
                  op_data(op, "target"), entry->vm != NULL ? entry->vm->name : entry->id);
        return true;
    }
    return false;
}

/* A clone reads what the VM would write, and one that is being removed must not run. */
static bool
is_taken(Agent *agent, AgentVm *entry, GError **error)
{
    WITH_LOCK(&agent->lock);

    for (guint i = 0; i < entry->operations->len; i++) {
        const Operation *op = entry->operations->pdata[i];
        bool removes = op->kind->steps == vm_remove_steps;
        bool clones = op->kind->steps == clone_steps && op_text(op, "snapshot_id") == NULL;
        if (operation_ended(op) || (!removes && !clones))
            continue;
        error_set(error, ERR_REFUSED, "VM '%s' is being %s; %s",
                  entry->vm != NULL ? entry->vm->name : entry->id,
                  removes ? "removed" : "cloned as it is now",
                  removes ? "it cannot be started any more"
                          : "nothing is lost: start it when that has ended, or cancel that job");
        return true;
    }
    return false;
}

/* Merges and snapshots know themselves what the definition must name. */
static bool
is_decided_elsewhere(Agent *agent, const AgentVm *entry)
{
    WITH_LOCK(&agent->lock);

    for (guint i = 0; i < entry->operations->len; i++) {
        const Operation *op = entry->operations->pdata[i];
        if (op->kind->beside == BESIDE_NONE || op->kind->steps == merge_steps)
            return true;
    }
    return false;
}

/* ---- the judgement ---- */

/* As guard_load(), but what the agent has read before is not parsed again. */
static bool
load_manifest(Agent *agent, const char *vm_id, const GPtrArray *sources, GuardManifest *manifest,
              GError **error)
{
    if (!guard_find(vm_id, (const char *const *)sources->pdata, manifest, error))
        return false;
    const Domain *domain =
        manifest->file != NULL ? agent_domain_at(agent, manifest->domain.path) : NULL;
    if (domain != NULL)
        manifest->domain.memory = domain->memory;
    return guard_read(vm_id, manifest, error);
}

static bool
is_lost_merge(Agent *agent, const GuardManifest *manifest, const char *target)
{
    const Disk *disk = vm_disk(manifest->vm, target);
    LostMerge lost;

    return disk != NULL && lost_merge_find(agent, manifest->vm, disk, NULL, &lost);
}

static bool
judge_disk(Agent *agent, AgentVm *entry, const GuardManifest *manifest, const json_t *disk,
           GError **error)
{
    g_auto(GuardFinding) finding = { 0 };
    const char *help = "the definition is being corrected: start the VM again in a moment";

    guard_look(manifest, json_text(disk, "target"), json_text(disk, "source"),
               json_text(disk, "format"), &finding);
    if (finding.verdict == GUARD_FINE)
        return true;
    if (entry != NULL && !finding.surely && is_decided_elsewhere(agent, entry))
        help = "the operation that is under way decides it: start the VM again in a moment";
    else if (finding.leaf == NULL)
        help = "mend that file first";
    else if (is_lost_merge(agent, manifest, json_text(disk, "target"))) {
        g_autofree char *name = shell_word(manifest->vm->name);
        return error_set(error, ERR_REFUSED,
                         "%s, for the agent's journal was lost. Nothing is lost; what helps: "
                         "livemerge doctor %s --fix --class leftover-record",
                         finding.reason, name);
    }
    return error_set(error, ERR_REFUSED, "%s. Nothing is lost; %s. " ON_PURPOSE, finding.reason,
                     help);
}

/* True without a manifest->vm: it starts unguarded. */
static bool
load(Agent *agent, const char *id, const Asked *asked, GuardManifest *manifest, GError **error)
{
    g_autoptr(GError) problem = NULL;

    guard_manifest_clear(manifest);
    if (load_manifest(agent, id, asked->sources, manifest, &problem))
        return true;
    if (g_error_matches(problem, ERR, ERR_STORAGE))
        return error_set(error, ERR_REFUSED,
                         "VM %s: %s. From which of its volumes it may start is not known; "
                         "nothing is lost: start it again when its storage answers",
                         id, problem->message);
    log_vm_warn(id, NULL, "VM %s starts unguarded: %s", id, problem->message);
    return true;
}

static bool
judge(Agent *agent, AgentVm *entry, const char *id, const Asked *asked, GError **error)
{
    g_auto(GuardManifest) manifest = { 0 };
    autofd int lock = -1;
    size_t i;
    json_t *disk;

    if (!load(agent, id, asked, &manifest, error))
        return false;
    if (manifest.vm == NULL)
        return true;
    /* held by a delete: it looks at the VM again before it removes anything, so if it does not end
     * in time, that look waits for this start and not this start for it */
    lock = vm_start_lock(&manifest.domain, id, START_LOCK_MS, NULL);
    /* whoever held it may have written another one */
    if (!load(agent, id, asked, &manifest, error))
        return false;
    if (manifest.vm == NULL)
        return true;
    json_array_foreach (asked->disks, i, disk)
        if (!judge_disk(agent, entry, &manifest, disk, error))
            return false;
    return true;
}

static bool
judge_quietly(Agent *agent, AgentVm *entry, const char *id, const Asked *asked, GError **error)
{
    if (entry == NULL)
        return judge(agent, NULL, id, asked, error);
    bool lent = g_atomic_int_get(&entry->starting) != 0; /* the start is our own */
    bool quiet = lent || try_lock(&entry->lock, ENTRY_LOCK_MS);
    bool ok = !is_taken(agent, entry, error) && !pivot_is_open(agent, entry, quiet, error) &&
              merge_before_start(agent, entry, quiet, error) &&
              judge(agent, entry, id, asked, error);
    if (quiet && !lent)
        g_mutex_unlock(&entry->lock);
    return ok;
}

bool
starting_ask(void *self, const HttpRequest *request, const char *id, json_t *body,
             json_t **ret_json, GError **error)
{
    Agent *agent = self;
    AgentVm *entry = agent_entry(agent, id, false);
    g_autoptr(GPtrArray) sources = g_ptr_array_new();
    Asked asked = { .sources = sources };
    g_autoptr(GError) problem = NULL;

    if (!read_asked(body, &asked, error))
        return false;
    if ((entry == NULL ||
         merge_make_way(agent, entry, BUDGET_MS - START_LOCK_MS - ENTRY_LOCK_MS, &problem)) &&
        judge_quietly(agent, entry, id, &asked, &problem))
        return true;
    log_vm_warn(id, NULL, "the start of VM %s is refused: %s", id, problem->message);
    agent_queue_refresh(agent, id); /* mends the definition, if no operation does */
    agent_kick(agent, id);
    return error_set(error, ERR_REFUSED, "%s", problem->message);
}

/* ---- mending ---- */

typedef struct {
    GPtrArray *targets, *sources, *formats;
    bool undecided; /* an operation is under way that decides of which leaf a disk is */
} Edit;

static void
edit_clear(Edit *edit)
{
    g_ptr_array_unref(edit->targets);
    g_ptr_array_unref(edit->sources);
    g_ptr_array_unref(edit->formats);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Edit, edit_clear)

static bool
is_guarded(const HvDisk *disk)
{
    return g_strcmp0(disk->device, "disk") == 0 && g_strcmp0(disk->type, "file") == 0 &&
           disk->source != NULL && g_path_is_absolute(disk->source) && !disk->read_only;
}

/* No operation needs a definition that names a file which is gone: it only hides the disk. */
static bool
is_gone(const HvDisk *disk)
{
    return access(disk->source, F_OK) != 0 && errno == ENOENT;
}

static bool
note_disk(const GuardManifest *manifest, const HvDomain *hv, const HvDisk *disk, Edit *edit,
          GError **error)
{
    g_auto(GuardFinding) finding = { 0 };

    guard_look(manifest, disk->target, disk->source, disk->format, &finding);
    if (finding.verdict == GUARD_FINE ||
        (edit->undecided && !finding.surely && (finding.verdict != GUARD_STALE || !is_gone(disk))))
        return true;
    if (finding.leaf == NULL)
        return error_set(error, ERR_REFUSED, "%s. Nothing is done to it", finding.reason);
    if (g_strcmp0(finding.leaf, disk->source) == 0)
        return true; /* it is named already; what stands below it, its operation knows */
    log_vm_warn(hv->id, NULL, "%s. The definition is corrected to %s. " ON_PURPOSE, finding.reason,
                finding.leaf);
    g_ptr_array_add(edit->targets, g_strdup(disk->target));
    g_ptr_array_add(edit->sources, g_steal_pointer(&finding.leaf));
    g_ptr_array_add(edit->formats, g_steal_pointer(&finding.format));
    return true;
}

static bool
find_stale(Agent *agent, AgentVm *entry, const HvDomain *hv, Edit *edit, GError **error)
{
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GPtrArray) sources = g_ptr_array_new();

    for (guint i = 0; i < hv->disks->len; i++)
        if (is_guarded(hv->disks->pdata[i]))
            g_ptr_array_add(sources, ((HvDisk *)hv->disks->pdata[i])->source);
    g_ptr_array_add(sources, NULL);
    /* one that cannot be read is told by who reads it for its content */
    if (!load_manifest(agent, entry->id, sources, &manifest, NULL) || manifest.vm == NULL)
        return true;
    for (guint i = 0; i < hv->disks->len; i++)
        if (is_guarded(hv->disks->pdata[i]) &&
            !note_disk(&manifest, hv, hv->disks->pdata[i], edit, error))
            return false;
    return true;
}

bool
starting_mend(Agent *agent, AgentVm *entry, HvDomain **hv, GError **error)
{
    g_auto(Edit)
        edit = { g_ptr_array_new_with_free_func(g_free), g_ptr_array_new_with_free_func(g_free),
                 g_ptr_array_new_with_free_func(g_free), is_decided_elsewhere(agent, entry) };

    /* while it starts it has no instance yet, but is not off either */
    bool off = (*hv)->state == VM_DOWN || (*hv)->state == VM_SUSPENDED;
    if (!off)
        return true;
    if (!find_stale(agent, entry, *hv, &edit, error))
        return false;
    if (edit.targets->len == 0)
        return true;
    if (!agent->hv->ops->redefine(agent->hv, entry->id, (const char *const *)edit.targets->pdata,
                                  (const char *const *)edit.sources->pdata,
                                  (const char *const *)edit.formats->pdata, edit.targets->len,
                                  error))
        return false;
    HvDomain *now = agent->hv->ops->look(agent->hv, entry->id, error);
    if (now == NULL)
        return false;
    hv_domain_free(*hv);
    *hv = now;
    return true;
}
