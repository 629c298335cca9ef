/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What hosts told about their VMs. The database keeps a copy, so that a manager that starts
 * knows the VMs (in state unknown) before their hosts answer. What becomes another while a guest
 * just runs is no reason to write it: that goes along with what is, and the host tells it again.
 * Nor is it written as long as a job is at the VM, and changes it again: its end is (flow.c).
 */
#include "flow/core.h"

#include "base/clock.h"
#include "base/log.h"

typedef struct {
    Vm *vm;         /* NULL = it is gone */
    int64_t ticket; /* of the question that this answers */
    char *tag;      /* of the answer (wire.h); NULL = it has none */
    bool unkept;    /* the database does not know it yet */
    Vm *kept;       /* as the database knows it; NULL = it does not */
    bool keeping;   /* somebody writes it, and will look whether it has changed meanwhile */
} Entry;

void
inventory_entry_free(void *entry_)
{
    Entry *entry = entry_;

    vm_free(entry->vm);
    g_free(entry->tag);
    vm_free(entry->kept);
    g_free(entry);
}

int64_t
inventory_ticket(Manager *m)
{
    WITH_LOCK(&m->lock);
    return ++m->tickets;
}

char *
inventory_host_of(Manager *m, const char *vm_id)
{
    WITH_LOCK(&m->lock);
    Entry *entry = g_hash_table_lookup(m->vms, vm_id);

    return entry != NULL && entry->vm != NULL ? g_strdup(entry->vm->host) : NULL;
}

static bool
host_is_up(Manager *m, const char *name)
{
    const Host *host = host_by_name(m, name);

    return host != NULL && host->up;
}

/* A VM that two hosts know (it moved, or is defined on both) belongs to the one that runs it. */
static bool
belongs(Manager *m, const Entry *entry, const Vm *vm)
{
    return entry->vm == NULL || g_strcmp0(entry->vm->host, vm->host) == 0 || vm->instance != NULL ||
           entry->vm->instance == NULL || !host_is_up(m, entry->vm->host);
}

/* What was told by a host that does not answer now says nothing about the VM's state. */
static Vm *
shown_locked(Manager *m, const Entry *entry)
{
    if (host_is_up(m, entry->vm->host))
        return vm_share(entry->vm);
    Vm *vm = vm_copy(entry->vm);
    vm->state = VM_UNKNOWN;
    return vm;
}

void
inventory_host_changed_locked(const Host *host)
{
    Manager *m = host->manager;
    GHashTableIter iter;
    const char *id;
    const Entry *entry;

    m->revision++;
    g_hash_table_iter_init(&iter, m->vms);
    while (g_hash_table_iter_next(&iter, (void **)&id, (void **)&entry))
        if (entry->vm != NULL && g_strcmp0(entry->vm->host, host->name) == 0)
            news_vm_locked(m, id);
}

/* What is known here alone. A VM that we have never seen was made before its oldest snapshot. */
static void
put_times(const Entry *entry, Vm *vm)
{
    const Vm *before = entry->vm;
    const Snapshot *oldest = vm->snapshots->len > 0 ? vm->snapshots->pdata[0] : NULL;
    int64_t now = clock_wall_ms();

    if (vm->created == 0 && before != NULL)
        vm->created = before->created;
    if (vm->created == 0)
        vm->created = oldest != NULL ? MIN(oldest->date, now) : now;
    if (vm->started == 0 && before != NULL)
        vm->started = before->started;
    bool moved = before != NULL && vm->instance != NULL && g_strcmp0(before->host, vm->host) != 0;
    if (before != NULL && before->instance != NULL && !moved &&
        g_strcmp0(before->instance, vm->instance) != 0)
        vm->stopped = now;
    else if (before != NULL)
        vm->stopped = before->stopped; /* of that no host tells */
}

/* *vm gets its times, and is shared from then on. *ret_turned: it was off and runs, or the other
 * way round. */
static void
put_locked(Manager *m, Vm **vm_, const char *tag, int64_t ticket, bool *ret_turned)
{
    Entry *entry = g_hash_table_lookup(m->vms, (*vm_)->id);

    if (entry == NULL) {
        entry = g_new0(Entry, 1);
        g_hash_table_insert(m->vms, g_strdup((*vm_)->id), entry);
    }
    if (ticket < entry->ticket || !belongs(m, entry, *vm_))
        return;
    entry->ticket = ticket;
    g_free(entry->tag);
    entry->tag = g_strdup(tag);
    if (*vm_ == entry->vm)
        return;
    Vm *vm = *vm_ = vm_unshare(*vm_);
    put_times(entry, vm);
    if (vm_equal(entry->vm, vm))
        return;
    entry->unkept = entry->unkept || !vm_kept_equal(entry->vm, vm);
    *ret_turned = entry->vm != NULL && (entry->vm->instance == NULL) != (vm->instance == NULL);
    vm_free(entry->vm);
    entry->vm = vm_share(vm);
    news_vm_locked(m, vm->id);
}

static bool
remember(Manager *m, const char *vm_id, const char *host, const json_t *doc)
{
    g_autoptr(GError) error = NULL;
    bool kept;

    if (!gate_enter(m, NULL))
        return false;
    kept = doc != NULL ? store_vm_put(m->store, vm_id, host, doc, &error)
                       : store_vm_remove(m->store, vm_id, &error);
    if (!kept)
        log_vm_warn(vm_id, NULL,
                    "what is known of VM %s was not kept: %s; its host will tell again", vm_id,
                    error->message);
    gate_leave(m);
    return kept;
}

/* As it was told, with what is known here alone */
static json_t *
doc_of(const Vm *vm, const json_t *told)
{
    json_t *doc = told != NULL ? json_deep_copy(told) : vm_to_json(vm);

    json_object_del(doc, "tag");
    json_object_set_new(doc, "created", json_integer(vm->created));
    json_object_set_new(doc, "started", json_integer(vm->started));
    json_object_set_new(doc, "stopped", json_integer(vm->stopped));
    return doc;
}

/* A job at it will change it again. But where it is, its flow must find when it is resumed; and
 * that it was turned on or off is told once. */
static bool
is_kept_later(Manager *m, const Entry *entry)
{
    const Vm *vm = entry->vm, *kept = entry->kept;
    GHashTableIter iter;
    const Flow *flow;

    if (vm == NULL || kept == NULL || g_strcmp0(vm->host, kept->host) != 0 ||
        g_strcmp0(vm->instance, kept->instance) != 0 || g_strcmp0(vm->name, kept->name) != 0)
        return false;
    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        if (flow->row->parent == NULL && g_str_equal(flow->row->vm_id, vm->id))
            return true;
    return false;
}

/* Is it to be written now, and by the caller? Then as *ret_vm; NULL = it is gone. */
static bool
take_unkept(Manager *m, const char *vm_id, Vm **ret_vm)
{
    WITH_LOCK(&m->lock);
    Entry *entry = g_hash_table_lookup(m->vms, vm_id);

    if (entry == NULL || !entry->unkept || entry->keeping || is_kept_later(m, entry))
        return false;
    *ret_vm = entry->vm != NULL ? vm_share(entry->vm) : NULL;
    entry->unkept = false;
    entry->keeping = true;
    return true;
}

static void
note_kept(Manager *m, const char *vm_id, Vm *vm, bool kept)
{
    WITH_LOCK(&m->lock);
    Entry *entry = g_hash_table_lookup(m->vms, vm_id);

    entry->keeping = false;
    entry->unkept = entry->unkept || !kept;
    if (kept) {
        vm_free(entry->kept);
        entry->kept = vm != NULL ? vm_share(vm) : NULL;
    }
}

/* told: what told_vm was read from; NULL = it was known. */
static void
keep(Manager *m, const char *vm_id, const char *host, const Vm *told_vm, const json_t *told)
{
    bool kept = true;
    Vm *take = NULL;

    while (kept && take_unkept(m, vm_id, &take)) {
        g_autoptr(Vm) vm = g_steal_pointer(&take);
        g_autoptr(json_t) doc = vm != NULL ? doc_of(vm, vm == told_vm ? told : NULL) : NULL;

        kept = remember(m, vm_id, vm != NULL ? vm->host : host, doc);
        note_kept(m, vm_id, vm, kept);
    }
}

void
inventory_keep(Manager *m, const char *vm_id)
{
    keep(m, vm_id, NULL, NULL, NULL);
}

/* told: what it was read from; NULL = it was known. */
static void
put(Host *host, Vm **vm, const json_t *told, const char *tag, int64_t ticket)
{
    Manager *m = host->manager;
    bool turned = false;

    g_mutex_lock(&m->lock);
    put_locked(m, vm, tag, ticket, &turned);
    g_mutex_unlock(&m->lock);
    keep(m, (*vm)->id, host->name, *vm, told);
    if (turned)
        event_vm_turned(m, *vm);
}

void
inventory_remove(Host *host, const char *vm_id, int64_t ticket)
{
    Manager *m = host->manager;

    g_mutex_lock(&m->lock);
    Entry *entry = g_hash_table_lookup(m->vms, vm_id);
    bool ours = entry != NULL && entry->vm != NULL && ticket >= entry->ticket &&
                g_strcmp0(entry->vm->host, host->name) == 0;
    if (ours) {
        entry->ticket = ticket; /* the entry stays: an older answer must not bring the VM back */
        g_clear_pointer(&entry->tag, g_free);
        g_clear_pointer(&entry->vm, vm_free);
        entry->unkept = true;
        news_vm_locked(m, vm_id);
    }
    g_mutex_unlock(&m->lock);
    if (ours)
        keep(m, vm_id, host->name, NULL, NULL);
}

/* What this host told of it last, and the tag of that; NULL = nothing that has one. */
static Vm *
told_last(Host *host, const char *vm_id, char **ret_tag)
{
    WITH_LOCK(&host->manager->lock);
    const Entry *entry = g_hash_table_lookup(host->manager->vms, vm_id);

    if (entry == NULL || entry->vm == NULL || entry->tag == NULL ||
        g_strcmp0(entry->vm->host, host->name) != 0)
        return NULL;
    *ret_tag = g_strdup(entry->tag);
    return vm_share(entry->vm);
}

Vm *
inventory_put(Host *host, const json_t *told, int64_t ticket, GError **error)
{
    const char *tag = json_text(told, "tag"), *id = json_text(told, "id");
    g_autofree char *last_tag = NULL;
    Vm *vm = tag != NULL && id != NULL ? told_last(host, id, &last_tag) : NULL;

    if (g_strcmp0(tag, last_tag) == 0 && vm != NULL) { /* the same again */
        put(host, &vm, NULL, tag, ticket);
        return vm;
    }
    vm_free(vm);
    vm = vm_from_json(told, error);
    if (vm == NULL)
        return NULL;
    g_free(vm->host);
    vm->host = g_strdup(host->name);
    put(host, &vm, told, tag, ticket);
    return vm;
}

/* That it would tell the same again, which is as good as that. */
static bool
is_unchanged(const json_t *answer, const char *tag)
{
    return tag != NULL && json_flag(answer, "unchanged") &&
           g_strcmp0(json_text(answer, "tag"), tag) == 0;
}

Vm *
inventory_ask(Host *host, const char *vm_id, bool fresh, unsigned timeout_ms, GError **error)
{
    g_autofree char *tag = NULL;
    int64_t ticket = inventory_ticket(host->manager);
    g_autoptr(Vm) known = told_last(host, vm_id, &tag);
    g_autofree char *escaped = tag != NULL ? g_uri_escape_string(tag, NULL, false) : NULL;
    g_autofree char *path = g_strconcat("/v1/vms/", vm_id, fresh ? "?fresh=1" : "",
                                        tag == NULL ? NULL
                                        : fresh     ? "&known="
                                                    : "?known=",
                                        escaped, NULL);
    g_autoptr(json_t) doc = NULL;
    g_autoptr(GError) why = NULL;

    if (host_call_within(host, timeout_ms, "GET", path, NULL, &doc, &why)) {
        if (!is_unchanged(doc, tag))
            return inventory_put(host, doc, ticket, error);
        put(host, &known, NULL, tag, ticket);
        return g_steal_pointer(&known);
    }
    if (g_error_matches(why, ERR, ERR_NOT_FOUND))
        inventory_remove(host, vm_id, ticket);
    g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}

static GPtrArray *
ids_of_host(Host *host)
{
    Manager *m = host->manager;
    GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    Entry *entry;

    g_hash_table_iter_init(&iter, m->vms);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&entry))
        if (entry->vm != NULL && g_strcmp0(entry->vm->host, host->name) == 0)
            g_ptr_array_add(ids, g_strdup(entry->vm->id));
    return ids;
}

bool
inventory_put_all(Host *host, const json_t *docs, int64_t ticket, GError **error)
{
    g_autoptr(GPtrArray) known = ids_of_host(host);
    g_autoptr(GHashTable) told = g_hash_table_new(g_str_hash, g_str_equal);
    size_t i;
    json_t *doc;

    json_array_foreach (docs, i, doc) {
        g_autoptr(GError) why = NULL;
        g_autoptr(Vm) vm = inventory_put(host, doc, ticket, &why);

        /* one VM that cannot be read must not hide the others */
        if (vm == NULL)
            log_warn("host %s tells of a VM what cannot be understood: %s, ignoring", host->name,
                     why->message);
        if (json_text(doc, "id") != NULL)
            g_hash_table_add(told, (void *)json_text(doc, "id"));
    }
    for (guint k = 0; k < known->len; k++)
        if (!g_hash_table_contains(told, known->pdata[k]))
            inventory_remove(host, known->pdata[k], ticket);
    return json_is_array(docs) ||
           error_set(error, ERR_CORRUPT, "host %s does not answer with a list of VMs", host->name);
}

static void
load_one(const char *vm_id, const char *host, const json_t *doc, void *data)
{
    Manager *m = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = vm_from_json(doc, &error);
    bool turned;

    if (vm == NULL) {
        log_vm_warn(vm_id, NULL, "VM %s of the database: %s, ignoring", vm_id, error->message);
        return;
    }
    g_free(vm->host);
    vm->host = g_strdup(host);
    put_locked(m, &vm, NULL, 0, &turned);
    Entry *entry = g_hash_table_lookup(m->vms, vm->id);
    entry->unkept = false;
    vm_free(entry->kept);
    entry->kept = vm_share(entry->vm);
}

bool
inventory_load(Manager *m, GError **error)
{
    return store_vm_each(m->store, load_one, m, error);
}

static int
by_name(const void *a, const void *b)
{
    const Vm *const *x = a, *const *y = b;
    int order = g_strcmp0((*x)->name, (*y)->name);

    return order != 0 ? order : g_strcmp0((*x)->id, (*y)->id);
}

/* VMs that are being made, and that no host tells of yet. */
static Vm *
being_made_locked(Manager *m, const Flow *flow)
{
    const char *id = flow_param(flow, "clone_id");
    const Entry *entry = id != NULL ? g_hash_table_lookup(m->vms, id) : NULL;
    const Entry *source = g_hash_table_lookup(m->vms, flow->row->vm_id);

    if (id == NULL || (entry != NULL && entry->vm != NULL))
        return NULL;
    return flow_vm_being_made(flow, source != NULL ? source->vm : NULL);
}

static Vm *
find_being_made_locked(Manager *m, const char *id_or_name)
{
    GHashTableIter iter;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow)) {
        g_autoptr(Vm) vm = being_made_locked(m, flow);
        if (vm != NULL && (g_str_equal(vm->id, id_or_name) || g_str_equal(vm->name, id_or_name)))
            return g_steal_pointer(&vm);
    }
    return NULL;
}

GPtrArray *
manager_vms(Manager *m)
{
    GPtrArray *vms = g_ptr_array_new_with_free_func((GDestroyNotify)vm_free);
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    Entry *entry;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->vms);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&entry))
        if (entry->vm != NULL)
            g_ptr_array_add(vms, shown_locked(m, entry));
    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow)) {
        Vm *vm = being_made_locked(m, flow);
        if (vm != NULL)
            g_ptr_array_add(vms, vm);
    }
    g_ptr_array_sort(vms, by_name);
    return vms;
}

Vm *
manager_vm(Manager *m, const char *id_or_name, GError **error)
{
    WITH_LOCK(&m->lock);
    Entry *entry = g_hash_table_lookup(m->vms, id_or_name);
    GHashTableIter iter;

    if (entry != NULL && entry->vm != NULL)
        return shown_locked(m, entry);
    g_hash_table_iter_init(&iter, m->vms);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&entry))
        if (entry->vm != NULL && g_str_equal(entry->vm->name, id_or_name))
            return shown_locked(m, entry);
    Vm *made = find_being_made_locked(m, id_or_name);
    if (made == NULL)
        error_set(error, ERR_NOT_FOUND, "there is no VM '%s'", id_or_name);
    return made;
}
