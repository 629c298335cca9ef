/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: the files of storage domains. Which of them has nobody (doctor_owners.h)? Only files
 * that can be told to be a VM's are reported: they stand on a volume of it, or have a name that we
 * give.
 */
#include "agent/doctor_owners.h"

#include "base/clock.h"
#include "base/text.h"
#include "qcow2/build.h"
#include "storage/salvage.h"

#include <string.h>
#include <sys/stat.h>

typedef struct {
    Owners owners;
    GPtrArray *findings;   /* borrowed */
    const Operation *self; /* a fix; NULL */
    GPtrArray *unknown;    /* of Domain, borrowed: what their manifests name is not known */
} Search;

static void
search_clear(Search *search)
{
    owners_clear(&search->owners);
    g_ptr_array_unref(search->unknown);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Search, search_clear)

static char *
key_of_file(const StoredFile *file)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, file->device, file->inode);
}

/* ---- judging ---- */

static bool
is_young(int64_t changed)
{
    return clock_wall_ms() / 1000 - changed < doctor_grace_s;
}

/* Somebody may just be making it; but a move to the trash that a power loss took back is as young.
 */
static bool
is_just_made(const Search *search, const StoredFile *file)
{
    bool begun = search->self != NULL && doctor_has_begun(search->self, file->path);

    return !begun && is_young(file->changed);
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
    for (guint i = 0; i < search->owners.list->len; i++) {
        const Owner *owner = search->owners.list->pdata[i];
        for (guint k = 0; k < owner->stems->len; k++)
            if (is_named_after(path, owner->stems->pdata[k]))
                return owner;
    }
    return NULL;
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
        g_autofree char *name = shell_word(owner->vm_name);
        finding_help(finding,
                     "nothing is lost: power the VM off (a reboot from inside is not enough), and "
                     "let its definition name %s before it starts: virsh edit %s",
                     file->path, name);
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

/* ours: it has a name that we give. But a name proves nothing: of a line that a preview has left,
 * or of saved memory, only the manifest knows, and that may be lost. What a merge has left, and
 * what holds nothing, is needed by nobody. */
static void
say_orphan(Search *search, const Owner *owner, const StoredFile *file, const char *backing,
           bool ours, bool left)
{
    bool data = !file->is_qcow2 || volume_holds_data(file->path);
    g_autofree char *size = size_text(file->allocated);
    Finding *finding = find_file(search, DIAG_ORPHAN_VOLUME, owner, file->path);

    finding_say(finding, "VM '%s': %s (%s%s) belongs to no VM and no snapshot%s%s", owner->vm_name,
                file->path, size, data ? "" : ", empty", backing != NULL ? "; it stands on " : "",
                backing != NULL ? backing : "");
    if (volume_is_open(file->path))
        finding_help(finding, "some process has it open: wait until that has ended");
    else if (left || (ours && !data))
        finding_can(finding, FIX_SAFE, "moves it to the trash, to be kept there");
    else if (ours)
        finding_can(finding, FIX_ASKED,
                    "moves it to the trash, to be kept there. It holds data: if the VM's manifest "
                    "was lost it may be of a line or a snapshot of which nobody else knows");
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
    g_autofree char *at = qcow2_backing_of(path);
    const Owner *owner = NULL;

    *ret_leaf = false;
    *ret_backing = g_strdup(at);
    for (unsigned depth = 0; at != NULL && owner == NULL && depth < QCOW2_MAX_DEPTH; depth++) {
        g_autofree char *key = owners_key(at);
        owner = g_hash_table_lookup(search->owners.used, key);
        *ret_leaf = depth == 0 && g_hash_table_contains(search->owners.leaves, key);
        char *next = qcow2_backing_of(at);
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

    if (is_just_made(search, file) || g_hash_table_contains(search->owners.used, key))
        return;
    const Owner *left = g_hash_table_lookup(search->owners.left, key);
    const Owner *named = left != NULL ? left : owner_by_name(search, file->path);
    if (!file->is_qcow2 && named == NULL)
        return;
    const Owner *below =
        file->is_qcow2 ? owner_below(search, file->path, &backing, &on_leaf) : NULL;
    const Owner *owner = below != NULL ? below : named;
    if (owner == NULL || owner->undecided)
        return;
    /* what a merge of ours has left is older than the leaf, whatever it stands on */
    bool may_be_newer =
        left == NULL && on_leaf && (volume_is_open(file->path) || volume_holds_data(file->path));
    if (may_be_newer && owner->running)
        say_above_leaf(search, owner, file, backing);
    else
        say_orphan(search, owner, file, backing, named != NULL && !may_be_newer, left != NULL);
}

/* ---- debris that is of no VM: any VM of the domain stands for it ---- */

static const Owner *
owner_in(const Search *search, const Domain *domain)
{
    const Owner *best = NULL;

    for (guint i = 0; i < search->owners.list->len; i++) {
        const Owner *owner = search->owners.list->pdata[i];
        if ((best == NULL || strcmp(owner->vm_id, best->vm_id) < 0) &&
            owner_is_at_home(&search->owners, owner, domain))
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
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        const Operation *op = value;
        bool builds = op->kind->steps == merge_steps || op->kind->steps == clone_steps;
        if (builds && !operation_ended(op))
            return true;
    }
    return false;
}

static void
look_at_build(Search *search, const Owner *owner, const StoredFile *file)
{
    g_autofree char *name = g_path_get_basename(file->path);

    if (!g_str_has_prefix(name, QCOW2_BUILD_PREFIX) || is_just_made(search, file) ||
        anybody_builds(search->owners.agent) || volume_is_open(file->path))
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

/* A storage domain as it was listed. */
typedef struct {
    const Domain *domain;
    GPtrArray *files; /* of StoredFile */
    GPtrArray *trash; /* of TrashEntry */
} Listing;

static void
listing_free(void *p)
{
    Listing *listing = p;

    if (listing->files != NULL)
        g_ptr_array_unref(listing->files);
    if (listing->trash != NULL)
        g_ptr_array_unref(listing->trash);
    g_free(listing);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Listing, listing_free)

static void
look_at_listing(Search *search, const Listing *listing)
{
    const Owner *owner = owner_in(search, listing->domain);

    for (guint i = 0; i < listing->trash->len; i++)
        look_at_trash(search, owner, listing->trash->pdata[i]);
    for (guint i = 0; i < listing->files->len; i++)
        look_at_build(search, owner, listing->files->pdata[i]);
    if (g_ptr_array_find(search->unknown, listing->domain, NULL))
        return;
    for (guint i = 0; i < listing->files->len; i++)
        look_at_file(search, listing->files->pdata[i]);
}

static bool
list_domain(Agent *agent, const Domain *domain, GPtrArray *listings, GError **error)
{
    g_autoptr(Listing) listing = g_new0(Listing, 1);

    listing->domain = domain;
    if ((listing->files = domain_files(domain, error)) == NULL ||
        (listing->trash = trash_list(domain, error)) == NULL)
        return false;
    for (guint i = listing->files->len; i > 0; i--) { /* a domain within this one has its own */
        const StoredFile *file = listing->files->pdata[i - 1];
        if (agent_domain(agent, file->path, false, NULL) != domain)
            g_ptr_array_remove_index_fast(listing->files, i - 1);
    }
    g_ptr_array_add(listings, g_steal_pointer(&listing));
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

/* False: that is an error. What went away with its last VM is no matter. */
static bool
may_be_unread(const Domain *domain, bool used, json_t *unread, GError *take_problem, GError **error)
{
    g_autoptr(GError) problem = take_problem;

    if (unread == NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    if (used)
        json_array_append_new(
            unread, json_pack("{s:s, s:s}", "path", domain->path, "why", problem->message));
    return true;
}

static bool
list_all(Search *search, const char *vm_id, GPtrArray *listings, json_t *unread, GError **error)
{
    Agent *agent = search->owners.agent;

    for (guint i = 0;; i++) {
        GError *problem = NULL;

        g_mutex_lock(&agent->lock);
        const Domain *domain = i < agent->domains->len ? agent->domains->pdata[i] : NULL;
        g_mutex_unlock(&agent->lock);
        if (domain == NULL)
            return true;
        bool used = is_used_by(agent, domain, vm_id);
        if ((vm_id != NULL && !used) || list_domain(agent, domain, listings, &problem))
            continue;
        g_ptr_array_add(search->unknown, (void *)domain);
        if (!may_be_unread(domain, used, unread, problem, error))
            return false;
    }
}

/* Of all before any file is judged: a VM has one manifest, and files in several domains. One that
 * is damaged is said of its VM; until that is mended nobody knows what is an orphan. */
static bool
note_manifests(Search *search, const char *vm_id, GPtrArray *listings, json_t *unread,
               GError **error)
{
    for (guint i = 0; i < listings->len; i++) {
        const Domain *domain = ((const Listing *)listings->pdata[i])->domain;
        GError *problem = NULL;

        if (owners_note_manifests(&search->owners, domain, &problem))
            continue;
        g_ptr_array_add(search->unknown, (void *)domain);
        if (!g_error_matches(problem, ERR, ERR_STORAGE))
            g_error_free(problem);
        else if (!may_be_unread(domain, is_used_by(search->owners.agent, domain, vm_id), unread,
                                problem, error))
            return false;
    }
    for (guint i = 0; i < search->unknown->len; i++)
        owners_note_unknown(&search->owners, search->unknown->pdata[i]);
    return true;
}

bool
doctor_look_files(Agent *agent, const char *vm_id, const Operation *self, GPtrArray *findings,
                  json_t *unread, GError **error)
{
    g_autoptr(GPtrArray) listings = g_ptr_array_new_with_free_func(listing_free);
    g_auto(Search) search = { .findings = findings, .self = self, .unknown = g_ptr_array_new() };

    owners_init(&search.owners, agent);
    if (!list_all(&search, vm_id, listings, unread, error))
        return false;
    /* in this order: what was made since is in no list, and what is in a list has its owner by now
     */
    if (listings->len > 0 && (!owners_note_everybody(&search.owners, error) ||
                              !note_manifests(&search, vm_id, listings, unread, error)))
        return false;
    for (guint i = 0; i < listings->len; i++)
        look_at_listing(&search, listings->pdata[i]);
    return true;
}
