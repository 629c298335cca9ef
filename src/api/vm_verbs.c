/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Making VMs out of others and removing them: POST vms (from a snapshot, as oVirt's clients send
 * it), clone, DELETE.
 */
#include "api/media.h"
#include "api/routes.h"

#include <string.h>

/* ---- what both ways of cloning read ---- */

typedef struct {
    char *name, *snapshot_id, *strategy;
    json_t *places; /* {disk id: directory} */
} Words;

static void
words_clear(Words *words)
{
    g_free(words->name);
    g_free(words->snapshot_id);
    g_free(words->strategy);
    json_decref(words->places);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Words, words_clear)

static bool
is_strategy(const char *word, GError **error)
{
    return word == NULL || g_str_equal(word, "auto") || g_str_equal(word, "share") ||
           g_str_equal(word, "copy") ||
           error_set(error, ERR_INVALID, "strategy is auto, share or copy, not '%.40s'", word);
}

/* Is it one that a clone has? */
static bool
is_cloned(const Vm *vm, const Words *words, const Disk *disk)
{
    const Snapshot *snapshot =
        words->snapshot_id != NULL ? vm_snapshot(vm, words->snapshot_id) : NULL;

    return disk_is_managed(disk) && !disk->read_only &&
           (snapshot == NULL || snapshot_disk(snapshot, disk->id) != NULL);
}

/* disk: NULL = all of them */
static bool
read_place(Call *call, const Vm *vm, const Disk *disk, const json_t *domain, Words *words,
           GError **error)
{
    g_autofree char *id = NULL, *name = NULL, *directory = NULL;

    if (!body_text(domain, "id", &id, error) || !body_text(domain, "name", &name, error))
        return false;
    if (id == NULL && name == NULL)
        return true;
    directory = storage_domain_directory(call, id, name, error);
    if (directory == NULL) {
        call->in_body = false; /* 404, as oVirt answers */
        return false;
    }
    if (words->places == NULL)
        words->places = json_object();
    for (guint i = 0; disk == NULL && i < vm->disks->len; i++)
        if (is_cloned(vm, words, vm->disks->pdata[i]))
            json_object_set_new(words->places, ((const Disk *)vm->disks->pdata[i])->id,
                                json_string(directory));
    if (disk != NULL)
        json_object_set_new(words->places, disk->id, json_string(directory));
    return true;
}

/* By its id, or by that of an image of it: the snapshot's, or any other. NULL = there is none. */
static const Disk *
disk_of_attachment(const Vm *vm, const char *id, const char *image_id)
{
    const Disk *found = id != NULL ? disk_find(vm, id) : NULL;

    for (guint i = 0; found == NULL && image_id != NULL && i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        for (guint k = 0; k < disk->volumes->len; k++)
            if (g_str_equal(((const Volume *)disk->volumes->pdata[k])->id, image_id))
                found = disk;
    }
    return found;
}

static bool
read_attachment(Call *call, const Vm *vm, const json_t *attachment, Words *words, GError **error)
{
    const json_t *disk = json_object_get(attachment, "disk");
    g_autofree char *id = NULL, *own_id = NULL, *image_id = NULL;
    g_autoptr(json_t) domains = NULL;

    if (!body_text(disk, "id", &id, error) || !body_text(attachment, "id", &own_id, error) ||
        !body_text(disk, "image_id", &image_id, error) ||
        !body_list(disk, "storage_domains", "storage_domain", &domains, error))
        return false;
    if (json_array_size(domains) == 0)
        return true;
    const Disk *found = disk_of_attachment(vm, id != NULL ? id : own_id, image_id);
    if (found == NULL)
        return error_set(error, ERR_INVALID,
                         "disk_attachments: VM '%s' has no disk with the id or image_id '%.40s'",
                         vm->name,
                         id != NULL         ? id
                         : image_id != NULL ? image_id
                                            : "");
    return read_place(call, vm, found, json_array_get(domains, 0), words, error);
}

static bool
read_attachments(Call *call, const Vm *vm, Words *words, GError **error)
{
    g_autoptr(json_t) list = NULL;
    size_t i;
    json_t *attachment;

    if (!body_list(call->body, "disk_attachments", "disk_attachment", &list, error))
        return false;
    json_array_foreach (list, i, attachment)
        if (!read_attachment(call, vm, attachment, words, error))
            return false;
    return true;
}

/* A new VM is nobody's: who may do this to one VM alone could not even see what he has made. */
static bool
may_make(const Call *call, GError **error)
{
    return role_has(call->who->role, RIGHT_OPERATE) ||
           error_set(error, ERR_FORBIDDEN,
                     "%s may not do this: a clone is a new VM, which needs the role 'operator' for "
                     "all VMs, not for one",
                     call->who->name);
}

static char *
begin(Call *call, const Vm *vm, const Words *words, char **ret_clone_id, GError **error)
{
    const VmClone what = { .vm_id = vm->id,
                           .name = words->name,
                           .snapshot_id = words->snapshot_id,
                           .strategy = words->strategy,
                           .places = words->places,
                           .correlation_id = call->correlation_id,
                           .user = call->user };

    if (!is_strategy(words->strategy, error))
        return NULL;
    if (words->snapshot_id != NULL && vm_snapshot(vm, words->snapshot_id) == NULL) {
        g_autofree char *active = active_snapshot_id(vm);
        VerbContext asked = { .active = g_str_equal(active, words->snapshot_id) };
        if (!asked.active || manager_allowed(call->manager, VERB_SNAPSHOT_CLONE, vm, &asked, error))
            error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot '%.40s'", vm->name,
                      words->snapshot_id);
        return NULL;
    }
    return manager_vm_clone(call->manager, &what, ret_clone_id, error);
}

static bool
incomplete(Reply *reply, const char *what, GError **error)
{
    reply->reason = "Incomplete parameters";
    return error_set(error, ERR_INVALID, "%s", what);
}

/* Of what there is one alone nothing else can be asked for: 404, too. */
static bool
names_the_one(Call *call, const json_t *holder, const char *key, const char *id, const char *name,
              GError **error)
{
    const json_t *reference = json_object_get(holder, key);
    g_autofree char *asked_id = NULL, *asked_name = NULL;

    if (!body_text(reference, "id", &asked_id, error) ||
        !body_text(reference, "name", &asked_name, error))
        return false;
    if ((asked_id == NULL || g_str_equal(asked_id, id)) &&
        (asked_name == NULL || g_str_equal(asked_name, name)))
        return true;
    call->in_body = false;
    return error_set(error, ERR_NOT_FOUND, "%s: there is no '%.100s', only '%s'", key,
                     asked_id != NULL && !g_str_equal(asked_id, id) ? asked_id : asked_name, name);
}

static bool
read_home(Call *call, const json_t *vm, GError **error)
{
    g_autofree char *cluster = cluster_id();

    return names_the_one(call, vm, "cluster", cluster, "Default", error) &&
           names_the_one(call, vm, "template", API_NIL_ID, "Blank", error);
}

/* ---- POST vms ---- */

static Vm *
vm_of_snapshot(const Call *call, const char *snapshot_id, GError **error)
{
    g_autoptr(GPtrArray) vms = manager_vms(call->manager);

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        g_autofree char *active = active_snapshot_id(vm);
        if (vm_snapshot(vm, snapshot_id) != NULL || g_str_equal(active, snapshot_id))
            return vm_copy(vm);
    }
    error_set(error, ERR_NOT_FOUND, "no VM has a snapshot '%.40s'", snapshot_id);
    return NULL;
}

static bool
read_new_vm(Call *call, Reply *reply, Words *words, GError **error)
{
    g_autoptr(json_t) snapshots = NULL;

    if (!body_text(call->body, "name", &words->name, error) ||
        !body_text(call->body, "strategy", &words->strategy, error) ||
        !body_list(call->body, "snapshots", "snapshot", &snapshots, error) ||
        !read_home(call, call->body, error))
        return false;
    if (words->name == NULL || *words->name == '\0')
        return incomplete(reply, "Vm [name] required for add", error);
    if (json_array_size(snapshots) != 1)
        return incomplete(reply,
                          "Vm [snapshots] required for add: a VM can only be made out of one "
                          "snapshot of another one",
                          error);
    if (!body_text(json_array_get(snapshots, 0), "id", &words->snapshot_id, error))
        return false;
    return words->snapshot_id != NULL ||
           incomplete(reply, "Vm [snapshots.snapshot.id] required for add", error);
}

bool
post_vms(Call *call, Reply *reply, GError **error)
{
    g_auto(Words) words = { 0 };
    g_autofree char *clone_id = NULL, *job_id = NULL;
    g_autoptr(Vm) vm = NULL, made = NULL;

    call->in_body = true;
    if (!read_new_vm(call, reply, &words, error) ||
        (vm = vm_of_snapshot(call, words.snapshot_id, error)) == NULL ||
        !read_attachments(call, vm, &words, error) ||
        (job_id = begin(call, vm, &words, &clone_id, error)) == NULL ||
        (made = manager_vm(call->manager, clone_id, error)) == NULL)
        return false;
    reply->status = 201;
    reply->body = vm_document(made, "image_locked", NULL);
    doc_ref(reply->body, "job", job_id, "/jobs/%s", job_id);
    reply->job_id = g_steal_pointer(&job_id);
    return true;
}

/* ---- clone ---- */

static bool
read_clone(Call *call, Reply *reply, const Vm *vm, Words *words, GError **error)
{
    bool discard = true;

    if (!body_text(json_object_get(call->body, "vm"), "name", &words->name, error) ||
        !body_text(json_object_get(call->body, "snapshot"), "id", &words->snapshot_id, error) ||
        !body_text(call->body, "strategy", &words->strategy, error) ||
        !body_flag(call->body, "discard_snapshots", &discard, error) ||
        !read_home(call, json_object_get(call->body, "vm"), error) ||
        !read_place(call, vm, NULL, json_object_get(call->body, "storage_domain"), words, error))
        return false;
    if (words->name == NULL || *words->name == '\0')
        return incomplete(reply, "Action [vm.name] required for clone", error);
    return discard || error_set(error, ERR_INVALID,
                                "discard_snapshots: a clone has no snapshots of its source");
}

bool
post_vm_clone(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    g_auto(Words) words = { 0 };
    g_autofree char *clone_id = NULL, *job_id = NULL;

    if (vm == NULL || !may_make(call, error))
        return false;
    call->in_body = true;
    if (!read_clone(call, reply, vm, &words, error) ||
        (job_id = begin(call, vm, &words, &clone_id, error)) == NULL)
        return false;
    reply_job(reply, job_id);
    doc_ref(reply->body, "vm", clone_id, "/vms/%s", clone_id);
    doc_text(json_object_get(reply->body, "vm"), "name", words.name);
    return true;
}

/* ---- removing ---- */

/* A word that is none must not delete the disks of who wanted to keep them. */
static bool
read_detach(const Call *call, bool *ret_detach, GError **error)
{
    const char *text = g_hash_table_lookup(call->query, "detach_only");

    if (flag_from_text(text, true) != flag_from_text(text, false) && text != NULL)
        return error_set(error, ERR_INVALID, "'detach_only' must be true or false, not '%.40s'",
                         text);
    *ret_detach = flag_from_text(text, false);
    return true;
}

bool
delete_vm(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    VmRemove what = { .correlation_id = call->correlation_id, .user = call->user };

    if (vm == NULL)
        return false;
    call->in_body = true; /* the parameters, here */
    if (!read_detach(call, &what.keep_disks, error))
        return false;
    what.vm_id = vm->id;
    g_autofree char *job_id = manager_vm_remove(call->manager, &what, error);
    if (job_id == NULL)
        return false;
    reply_job(reply, job_id);
    return true;
}
