/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: the files of storage domains. Which of them has nobody?
 *
 * "Somebody" is generous: every definition of every VM of the host with all that stands below it,
 * every manifest of the domain (of other hosts' VMs too), every path that an operation mentions,
 * libvirt's records of snapshots. Only files that can be told to be a VM's are reported: they stand
 * on a volume of it, or have a name that we give.
 */
#include "agent/doctor.h"

#include "base/clock.h"
#include "base/text.h"
#include "qcow2/build.h"
#include "storage/salvage.h"

#include <string.h>
#include <sys/stat.h>

typedef struct {
    char *vm_id, *vm_name, *target;
    GPtrArray *stems; /* of char*: of the names of its files: DIR/web */
    bool running;
} Owner;

typedef struct {
    Agent *agent;
    GHashTable *used;   /* "dev:ino" or path → Owner, or NULL: by somebody */
    GHashTable *leaves; /* "dev:ino" → Owner: the leaves of disks */
    GHashTable *left;   /* "dev:ino" → Owner: what its manifest says a merge left behind */
    GPtrArray *owners;  /* of Owner */
    GPtrArray *findings;
} Search;

static void
owner_free(void *p)
{
    Owner *owner = p;

    g_free(owner->vm_id);
    g_free(owner->vm_name);
    g_free(owner->target);
    g_ptr_array_unref(owner->stems);
    g_free(owner);
}

static void
search_clear(Search *search)
{
    g_hash_table_unref(search->used);
    g_hash_table_unref(search->leaves);
    g_hash_table_unref(search->left);
    g_ptr_array_unref(search->owners);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Search, search_clear)

/* ---- who has what ---- */

static char *
key_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT,
                                                  (uint64_t)st.st_dev, (uint64_t)st.st_ino)
                                : g_strdup(path);
}

static char *
key_of_file(const StoredFile *file)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, file->device, file->inode);
}

static void
note_used(Search *search, const char *path, Owner *owner)
{
    g_autofree char *key = path != NULL ? key_of(path) : NULL;

    if (key != NULL && g_hash_table_lookup(search->used, key) == NULL)
        g_hash_table_insert(search->used, g_steal_pointer(&key), owner);
}

static char *
stem_of(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    g_autoptr(GRegex) tail =
        g_regex_new("(\\.[0-9a-f]{8,36})?\\.(qcow2|img|raw|q|qcow)$", 0, 0, NULL);
    g_autofree char *stem = g_regex_replace(tail, name, -1, 0, "", 0, NULL);

    return g_build_filename(dir, stem, NULL);
}

static void
add_stem(Owner *owner, const char *path)
{
    g_autofree char *stem = stem_of(path);

    for (guint i = 0; i < owner->stems->len; i++)
        if (g_str_equal(owner->stems->pdata[i], stem))
            return;
    g_ptr_array_add(owner->stems, g_steal_pointer(&stem));
}

static Owner *
owner_new(Search *search, const HvDomain *hv, const HvDisk *disk)
{
    Owner *owner = g_new0(Owner, 1);

    owner->vm_id = g_strdup(hv->id);
    owner->vm_name = g_strdup(hv->name);
    owner->target = g_strdup(disk->target);
    owner->stems = g_ptr_array_new_with_free_func(g_free);
    owner->running = hv->instance != NULL;
    g_ptr_array_add(search->owners, owner);
    return owner;
}

static void
note_disk(Search *search, const HvDomain *hv, const HvDisk *disk)
{
    if (disk->source == NULL)
        return;
    Owner *owner = owner_new(search, hv, disk);
    g_autoptr(GPtrArray) links = chain_links(disk->source, disk->format);

    note_used(search, disk->source, owner);
    note_used(search, disk->mirror_path, owner);
    g_hash_table_insert(search->leaves, key_of(disk->source), owner);
    for (guint i = 0; i < links->len; i++) {
        note_used(search, ((ChainLink *)links->pdata[i])->path, owner);
        add_stem(owner, ((ChainLink *)links->pdata[i])->path);
    }
    for (guint i = 0; disk->backing != NULL && i < disk->backing->len; i++)
        note_used(search, disk->backing->pdata[i], owner);
}

static bool
note_domain(Search *search, const char *vm_id, GError **error)
{
    Hypervisor *hv = search->agent->hv;
    g_autoptr(GError) problem = NULL;
    g_autoptr(HvDomain) domain = hv->ops->look(hv, vm_id, &problem);
    g_autoptr(GPtrArray) records = NULL;

    if (domain == NULL && g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return true; /* it has just gone; its files are looked at another time */
    if (domain == NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    for (guint i = 0; i < domain->disks->len; i++)
        note_disk(search, domain, domain->disks->pdata[i]);
    for (guint i = 0; domain->inactive != NULL && i < domain->inactive->len; i++)
        note_disk(search, domain, domain->inactive->pdata[i]);
    if (hv->ops->snapshot_records == NULL)
        return true;
    records = hv->ops->snapshot_records(hv, vm_id, error);
    for (guint i = 0; records != NULL && i < records->len; i++) {
        const HvSnapshotRecord *record = records->pdata[i];
        for (guint k = 0; k < record->files->len; k++)
            note_used(search, record->files->pdata[k], NULL);
    }
    return records != NULL;
}

static void
note_paths(Search *search, json_t *json)
{
    const char *key, *text = json_string_value(json);
    json_t *value;
    size_t i;

    if (text != NULL && g_path_is_absolute(text))
        note_used(search, text, NULL);
    json_object_foreach (json, key, value)
        note_paths(search, value);
    json_array_foreach (json, i, value)
        note_paths(search, value);
}

static void
note_operations(Search *search)
{
    WITH_LOCK(&search->agent->lock);
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, search->agent->operations);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        const Operation *op = value;
        if (g_str_has_prefix(op->row.kind, "doctor-"))
            continue;
        note_paths(search, op->row.params);
        note_paths(search, op->row.data);
    }
}

static Owner *
owner_by_id(const Search *search, const char *vm_id)
{
    for (guint i = 0; i < search->owners->len; i++)
        if (g_str_equal(((Owner *)search->owners->pdata[i])->vm_id, vm_id))
            return search->owners->pdata[i];
    return NULL;
}

static void
note_vm(Search *search, const Vm *vm)
{
    Owner *owner = owner_by_id(search, vm->id);

    for (guint i = 0; owner != NULL && i < vm->leftovers->len; i++)
        g_hash_table_insert(search->left, key_of(((Leftover *)vm->leftovers->pdata[i])->path),
                            owner);
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        for (guint k = 0; k < disk->volumes->len; k++)
            note_used(search, ((Volume *)disk->volumes->pdata[k])->path, NULL);
    }
    for (guint i = 0; i < vm->snapshots->len; i++)
        note_used(search, ((Snapshot *)vm->snapshots->pdata[i])->memory, NULL);
}

/* Of a manifest that cannot be read nobody knows what it names. */
static bool
note_manifests(Search *search, const Domain *domain, GError **error)
{
    g_auto(GStrv) ids = manifest_list(domain, error);

    for (char **id = ids; ids != NULL && *id != NULL; id++) {
        g_autoptr(GError) problem = NULL;
        g_autoptr(Vm) vm = manifest_load(domain, *id, &problem);
        if (vm != NULL)
            note_vm(search, vm);
        if (problem != NULL) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
    }
    return ids != NULL;
}

static bool
note_everybody(Search *search, GError **error)
{
    Hypervisor *hv = search->agent->hv;
    g_auto(GStrv) ids = hv->ops->list(hv, error);

    for (char **id = ids; ids != NULL && *id != NULL; id++)
        if (!note_domain(search, *id, error))
            return false;
    note_operations(search);
    return ids != NULL;
}

/* ---- judging ---- */

static bool
is_young(int64_t changed)
{
    return clock_wall_ms() / 1000 - changed < doctor_grace_s;
}

/* DIR/web.1a2b3c4d.qcow2 of DIR/web.qcow2: new_file_name() */
static bool
is_named_after(const char *path, const char *stem)
{
    size_t length = strlen(stem);

    return strncmp(path, stem, length) == 0 &&
           g_regex_match_simple("^\\.[0-9a-f]{8}([0-9a-f-]{28})?\\.(qcow2|memory)$", path + length,
                                0, 0);
}

static const Owner *
owner_by_name(const Search *search, const char *path)
{
    for (guint i = 0; i < search->owners->len; i++) {
        const Owner *owner = search->owners->pdata[i];
        for (guint k = 0; k < owner->stems->len; k++)
            if (is_named_after(path, owner->stems->pdata[k]))
                return owner;
    }
    return NULL;
}

static char *
backing_of(const char *path)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, NULL);

    return header != NULL && header->backing_file != NULL
               ? qcow2_backing_path(path, header->backing_file, NULL)
               : NULL;
}

static Finding *
find_file(Search *search, Diagnosis class, const Owner *owner, const char *path)
{
    Finding *finding = finding_new(class, owner->vm_id, owner->vm_name, owner->target, path);

    g_ptr_array_add(search->findings, finding);
    return finding;
}

/* It stands on what a running VM writes. */
static void
say_above_leaf(Search *search, const Owner *owner, const StoredFile *file, const char *backing)
{
    Finding *finding = find_file(search, DIAG_STALE_LEAF, owner, file->path);

    if (volume_is_open(file->path)) {
        finding_say(finding,
                    "VM '%s', disk %s: libvirt says that it runs on %s, but a QEMU has %s open, "
                    "which stands on that (libvirtd was killed while it took a snapshot?)",
                    owner->vm_name, owner->target, backing, file->path);
        finding_help(finding,
                     "nothing is lost: power the VM off (a reboot from inside is not enough), and "
                     "let its definition name %s before it starts: virsh edit %s",
                     file->path, owner->vm_name);
        return;
    }
    finding_say(finding,
                "VM '%s', disk %s: it writes %s, on which %s stands, with data in it: either the "
                "VM was started from a stale definition and its newer data are in that file, or it "
                "is a copy that somebody made, which is void now",
                owner->vm_name, owner->target, backing, file->path);
    finding_help(finding,
                 "only a person can tell. To go on from %s: power the VM off and let its "
                 "definition name it; if nobody needs it, move it away",
                 file->path);
}

static void
say_orphan(Search *search, const Owner *owner, const StoredFile *file, const char *backing,
           bool ours)
{
    bool data = !file->is_qcow2 || volume_holds_data(file->path);
    g_autofree char *size = size_text(file->allocated);
    Finding *finding = find_file(search, DIAG_ORPHAN_VOLUME, owner, file->path);

    finding_say(finding, "VM '%s': %s (%s%s) belongs to no VM and no snapshot%s%s", owner->vm_name,
                file->path, size, data ? "" : ", empty", backing != NULL ? "; it stands on " : "",
                backing != NULL ? backing : "");
    if (volume_is_open(file->path))
        finding_help(finding, "some process has it open: wait until that has ended");
    else if (ours)
        finding_can(finding, FIX_SAFE, "moves it to the trash, to be kept there");
    else if (!data)
        finding_can(finding, FIX_ASKED, "moves it to the trash, to be kept there");
    else
        finding_help(finding,
                     "it has no name of ours and holds data: if nobody needs it, move it away; to "
                     "go on from it, let a VM's definition name it");
}

/* The owner of what the file stands on, whatever is between. */
static const Owner *
owner_below(const Search *search, const char *path, char **ret_backing, bool *ret_leaf)
{
    g_autofree char *at = backing_of(path);
    const Owner *owner = NULL;

    *ret_leaf = false;
    *ret_backing = g_strdup(at);
    for (unsigned depth = 0; at != NULL && owner == NULL && depth < QCOW2_MAX_DEPTH; depth++) {
        g_autofree char *key = key_of(at);
        owner = g_hash_table_lookup(search->used, key);
        *ret_leaf = depth == 0 && g_hash_table_contains(search->leaves, key);
        char *next = backing_of(at);
        g_free(at);
        at = next;
    }
    return owner;
}

static void
look_at_file(Search *search, const StoredFile *file)
{
    g_autofree char *key = key_of_file(file);
    g_autofree char *backing = NULL;
    bool on_leaf = false;

    if (is_young(file->changed) || g_hash_table_contains(search->used, key))
        return;
    const Owner *left = g_hash_table_lookup(search->left, key);
    const Owner *named = left != NULL ? left : owner_by_name(search, file->path);
    if (!file->is_qcow2 && named == NULL)
        return;
    const Owner *below =
        file->is_qcow2 ? owner_below(search, file->path, &backing, &on_leaf) : NULL;
    const Owner *owner = below != NULL ? below : named;
    if (owner == NULL)
        return;
    /* what a merge of ours has left is older than the leaf, whatever it stands on */
    bool may_be_newer =
        left == NULL && on_leaf && (volume_is_open(file->path) || volume_holds_data(file->path));
    if (may_be_newer && owner->running)
        say_above_leaf(search, owner, file, backing);
    else
        say_orphan(search, owner, file, backing, named != NULL && !may_be_newer);
}

/* ---- debris that is of no VM: any VM of the domain stands for it ---- */

static const Owner *
owner_in(const Search *search, const Domain *domain)
{
    const Owner *best = NULL;

    for (guint i = 0; i < search->owners->len; i++) {
        const Owner *owner = search->owners->pdata[i];
        g_autoptr(Vm) vm = agent_vm_copy(search->agent, owner->vm_id);
        if (vm != NULL && g_strcmp0(vm->home, domain->path) == 0 &&
            (best == NULL || strcmp(owner->vm_id, best->vm_id) < 0))
            best = owner;
    }
    return best;
}

static Finding *
find_debris(Search *search, Diagnosis class, const Owner *owner, const char *path)
{
    Finding *finding = finding_new(class, owner != NULL ? owner->vm_id : NULL,
                                   owner != NULL ? owner->vm_name : NULL, NULL, path);

    g_ptr_array_add(search->findings, finding);
    return finding;
}

static bool
anybody_builds(Agent *agent)
{
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, agent->operations);
    while (g_hash_table_iter_next(&it, NULL, &value))
        if (!operation_ended(value) && g_str_equal(((Operation *)value)->row.kind, "merge"))
            return true;
    return false;
}

static void
look_at_build(Search *search, const Owner *owner, const StoredFile *file)
{
    g_autofree char *name = g_path_get_basename(file->path);

    if (!g_str_has_prefix(name, QCOW2_BUILD_PREFIX) || is_young(file->changed) ||
        anybody_builds(search->agent) || volume_is_open(file->path))
        return;
    Finding *finding = find_debris(search, DIAG_LEFTOVER_BUILD, owner, file->path);
    finding_say(finding, "%s is a half built volume: the agent that wrote it was killed",
                file->path);
    if (owner != NULL)
        finding_can(finding, FIX_SAFE, "moves it to the trash, to be kept there");
}

static void
look_at_trash(Search *search, const Owner *owner, const TrashEntry *entry)
{
    g_autofree char *size = size_text(entry->allocated);

    if (entry->kept || is_young(entry->changed))
        return;
    Finding *finding = find_debris(search, DIAG_LEFTOVER_TRASH, owner, entry->path);
    finding_say(finding, "%s (%s) was deleted, but still takes its space", entry->path, size);
    if (owner != NULL)
        finding_can(finding, FIX_ASKED,
                    "finishes the deletion (as the agent's next start does); it cannot be undone");
}

static bool
look_at_domain(Search *search, const Domain *domain, GError **error)
{
    g_autoptr(GPtrArray) files = domain_files(domain, error);
    g_autoptr(GPtrArray) trash = files != NULL ? trash_list(domain, error) : NULL;

    /* after the files were listed: who was made since is in none of them, who was there is named */
    if (trash == NULL || !note_everybody(search, error))
        return false;
    const Owner *owner = owner_in(search, domain);
    for (guint i = 0; i < trash->len; i++)
        look_at_trash(search, owner, trash->pdata[i]);
    for (guint i = files->len; i > 0; i--) /* a domain within this one has its own */
        if (agent_domain(search->agent, ((StoredFile *)files->pdata[i - 1])->path, false, NULL) !=
            domain)
            g_ptr_array_remove_index_fast(files, i - 1);
    for (guint i = 0; i < files->len; i++)
        look_at_build(search, owner, files->pdata[i]);
    if (!note_manifests(search, domain, NULL))
        return true; /* said of its VM; until then nobody knows what is an orphan */
    for (guint i = 0; i < files->len; i++)
        look_at_file(search, files->pdata[i]);
    return true;
}

/* Has a VM (NULL: any VM of the host) files there? */
static bool
is_used_by(Agent *agent, const Domain *domain, const char *vm_id)
{
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        const AgentVm *entry = value;
        if (entry->vm == NULL || (vm_id != NULL && !g_str_equal(vm_id, entry->id)))
            continue;
        if (g_strcmp0(entry->vm->home, domain->path) == 0)
            return true;
        for (guint i = 0; i < entry->vm->disks->len; i++) {
            const Volume *leaf = disk_leaf(entry->vm->disks->pdata[i]);
            if (leaf != NULL && domain_holds(domain, leaf->path))
                return true;
        }
    }
    return false;
}

static bool
look_into(Agent *agent, const Domain *domain, GPtrArray *findings, GError **error)
{
    g_auto(Search) search = {
        .agent = agent,
        .used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .leaves = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .left = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .owners = g_ptr_array_new_with_free_func(owner_free),
        .findings = findings,
    };

    return look_at_domain(&search, domain, error);
}

bool
doctor_look_files(Agent *agent, const char *vm_id, GPtrArray *findings, json_t *unread,
                  GError **error)
{
    for (guint i = 0;; i++) {
        g_autoptr(GError) problem = NULL;

        g_mutex_lock(&agent->lock);
        const Domain *domain = i < agent->domains->len ? agent->domains->pdata[i] : NULL;
        g_mutex_unlock(&agent->lock);
        if (domain == NULL)
            return true;
        bool used = is_used_by(agent, domain, vm_id);
        if ((vm_id != NULL && !used) || look_into(agent, domain, findings, &problem))
            continue;
        if (!g_error_matches(problem, ERR, ERR_STORAGE) || unread == NULL) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        if (used) /* what went away with its last VM is no matter */
            json_array_append_new(
                unread, json_pack("{s:s, s:s}", "path", domain->path, "why", problem->message));
    }
}
