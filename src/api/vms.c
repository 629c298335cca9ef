/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * VMs, and the document at the root of the API.
 */
#include "api/access.h"
#include "api/media.h"
#include "base/clock.h"

#include <string.h>

/* ---- documents ---- */

static void
put_display(json_t *doc, const Vm *vm)
{
    /* libgovirt drops a VM without a display type */
    json_object_set_new(doc, "display",
                        json_pack("{s:s, s:i, s:b, s:b}", "type",
                                  g_strcmp0(vm->graphics, "spice") == 0 ? "spice" : "vnc",
                                  "monitors", 1, "allow_override", 0, "smartcard_enabled", 0));
    display_put(json_object_get(doc, "display"), vm);
}

static void
put_configuration(json_t *doc, const Vm *vm)
{
    json_object_set_new(doc, "cpu",
                        json_pack("{s:s, s:{s:i, s:i, s:i}}", "architecture", "x86_64", "topology",
                                  "sockets", (int)MAX(vm->vcpus, 1), "cores", 1, "threads", 1));
    doc_number(doc, "memory", vm->memory);
    json_object_set_new(doc, "memory_policy",
                        json_pack("{s:b, s:I, s:I}", "ballooning", vm->ballooning, "guaranteed",
                                  (json_int_t)vm->memory, "max", (json_int_t)vm->memory));
    json_object_set_new(
        doc, "os",
        json_pack("{s:s, s:{s:{s:[s]}}}", "type", "other", "boot", "devices", "device", "hd"));
    json_object_set_new(doc, "bios", json_pack("{s:{s:b}}", "boot_menu", "enabled", 0));
    doc_text(json_object_get(doc, "bios"), "type", vm->firmware);
    json_object_set_new(doc, "high_availability",
                        json_pack("{s:b, s:i}", "enabled", 0, "priority", 1));
    json_object_set_new(doc, "usb", json_pack("{s:b}", "enabled", 0));
    doc_flag(doc, "delete_protected", false);
    doc_flag(doc, "next_run_configuration_exists", false);
    doc_flag(doc, "stateless", false);
    doc_text(doc, "type", "server");
    put_display(doc, vm);
}

static bool
has_unusable_snapshot(const Vm *vm)
{
    for (guint i = 0; i < vm->snapshots->len; i++)
        if (snapshot_is_unusable(vm->snapshots->pdata[i]))
            return true;
    return false;
}

/* What a list of VMs shows of their chains, without the disks. */
static void
put_chains(json_t *doc, const Vm *vm)
{
    uint64_t bytes = 0;
    guint depth = 0;

    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        depth = MAX(depth, disk->volumes->len);
        for (guint j = 0; j < disk->volumes->len; j++)
            bytes += ((const Volume *)disk->volumes->pdata[j])->allocated;
    }
    doc_number(doc, "snapshot_count", vm->snapshots->len);
    doc_number(doc, "chain_depth", depth);
    doc_number(doc, "chain_bytes", bytes);
}

static bool
is_running(const Vm *vm)
{
    return vm->state == VM_UP || vm->state == VM_PAUSED || vm->state == VM_MIGRATING ||
           vm->state == VM_SAVING || vm->state == VM_POWERING_DOWN;
}

static void
put_links(json_t *doc, const char *id)
{
    static const char *const links[] = {
        "snapshots", "diskattachments", "nics",    "graphicsconsoles", "cdroms",
        "numanodes", "statistics",      "tags",    "permissions",      "applications",
        "watchdogs", "hostdevices",     "backups", "checkpoints"
    };

    for (size_t i = 0; i < G_N_ELEMENTS(links); i++)
        doc_link(doc, links[i], "/vms/%s/%s", id, links[i]);
}

static void
put_actions(json_t *doc, const char *id)
{
    static const char *const actions[] = {
        "start",        "stop",   "shutdown",          "reboot",          "reset",
        "suspend",      "ticket", "removesnapshots",   "previewsnapshot", "commitsnapshot",
        "undosnapshot", "clone",  "freezefilesystems", "thawfilesystems"
    };

    for (size_t i = 0; i < G_N_ELEMENTS(actions); i++)
        doc_action(doc, actions[i], "/vms/%s/%s", id, actions[i]);
}

/* What is the same for all, or nearly so. */
static void
put_surroundings(json_t *doc)
{
    g_autofree char *cluster = cluster_id();

    doc_ref(doc, "cluster", cluster, "/clusters/%s", cluster);
    doc_text(json_object_get(doc, "cluster"), "name", "Default");
    doc_ref(doc, "template", API_NIL_ID, "/templates/" API_NIL_ID);
    doc_text(json_object_get(doc, "template"), "name", "Blank");
    doc_ref(doc, "original_template", API_NIL_ID, "/templates/" API_NIL_ID);
}

/* brief: what tells one VM of a list from another, a tenth of the whole. */
static json_t *
document_of(const Vm *vm, const char *status, const char *host_id, bool brief)
{
    json_t *doc = doc_new(vm->id, "/vms/%s", vm->id);

    if (!brief)
        put_actions(doc, vm->id);
    doc_text(doc, "name", vm->name);
    doc_text(doc, "description", vm->description);
    doc_text(doc, "comment", vm->comment);
    if (!brief)
        put_links(doc, vm->id);
    doc_text(doc, "status", status != NULL ? status : vm_state_word(vm->state));
    doc_text(doc, "status_detail", vm->state_detail);
    doc_text(doc, "unmanaged", vm->unmanaged);
    if (has_unusable_snapshot(vm))
        doc_flag(doc, "has_illegal_images", true);
    put_chains(doc, vm);
    doc_time(doc, "creation_time", vm->created);
    doc_time(doc, "start_time", vm->started);
    doc_time(doc, "stop_time", vm->stopped);
    doc_text(doc, "fqdn", vm->fqdn);
    doc_text(doc, "foreign_job", vm->foreign_job);
    if (vm->frozen != NULL)
        doc_flag(doc, "frozen", true);
    if (host_id != NULL && is_running(vm)) {
        doc_ref(doc, "host", host_id, "/hosts/%s", host_id);
        doc_text(json_object_get(doc, "host"), "name", vm->host);
    }
    if (!brief) {
        put_configuration(doc, vm);
        put_surroundings(doc);
    }
    return doc;
}

json_t *
vm_document(const Vm *vm, const char *status, const char *host_id)
{
    return document_of(vm, status, host_id, false);
}

/* What can be done now, and why not, if it was asked for. */
static void
put_operations(json_t *doc, Call *call, const Vm *vm)
{
    if (call_wants_operations(call))
        json_object_set_new(
            doc, "operations",
            doc_list("operation", manager_operations(call->manager, vm, SUBJECT_VM, NULL)));
}

static json_t *
attachment_list(const Vm *vm)
{
    json_t *list = json_array();

    for (guint i = 0; i < vm->disks->len; i++)
        json_array_append_new(list, disk_attachment_document(vm, vm->disks->pdata[i]));
    return list;
}

/* ---- handlers ---- */

static char *
host_id_of(GPtrArray *hosts, const char *name)
{
    for (guint i = 0; i < hosts->len; i++) {
        const HostInfo *host = hosts->pdata[i];
        if (g_strcmp0(host->name, name) == 0)
            return host->id;
    }
    return NULL;
}

/* Names of the storage domains of its disks: only for who searches for VMs by them. */
static json_t *
storage_names(const Vm *vm)
{
    json_t *names = json_array();

    for (guint i = 0; i < vm->disks->len; i++) {
        const Volume *leaf = disk_leaf(vm->disks->pdata[i]);
        g_autofree char *name = leaf != NULL ? g_path_get_dirname(leaf->path) : NULL;
        if (name != NULL)
            json_array_append_new(names, json_string(name));
    }
    return names;
}

static bool
searches_storage(const Call *call)
{
    const char *search = call_query(call, "search");
    g_autofree char *lower = search != NULL ? g_ascii_strdown(search, -1) : NULL;

    return lower != NULL && strstr(lower, "storage") != NULL;
}

bool
get_vms(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) vms = manager_vms(call->manager);
    g_autoptr(GPtrArray) hosts = manager_hosts(call->manager);
    bool by_storage = searches_storage(call);
    bool brief = flag_from_text(g_hash_table_lookup(call->query, "brief"), false);

    if (brief && call_query(call, "search") != NULL)
        return error_set(error, ERR_INVALID,
                         "'brief' leaves out what 'search' looks at: ask for one of them");
    json_t *list = json_array(), *beside = json_array();

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        g_autofree char *status = manager_vm_status(call->manager, vm);
        json_t *doc = document_of(vm, status, host_id_of(hosts, vm->host), brief);
        put_operations(doc, call, vm);
        if (by_storage)
            json_array_append_new(beside, json_pack("{s:o}", "storage", storage_names(vm)));
        json_array_append_new(list, doc);
    }
    return reply_list_beside(call, reply, "vm", list, beside, error);
}

bool
get_vm(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) hosts = manager_hosts(call->manager);
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);

    if (vm == NULL)
        return false;
    g_autofree char *status = manager_vm_status(call->manager, vm);
    reply->body = vm_document(vm, status, host_id_of(hosts, vm->host));
    put_operations(reply->body, call, vm);
    return true;
}

bool
get_attachments(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);

    if (vm == NULL)
        return false;
    return reply_part(call, reply, "disk_attachment", attachment_list(vm), error);
}

bool
get_attachment(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);

    if (vm == NULL)
        return false;
    const Disk *disk = disk_find(vm, call->sub_id);
    if (disk == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, call->sub_id);
    reply->body = disk_attachment_document(vm, disk);
    return true;
}

/* ---- the root ---- */

static void
put_root_links(json_t *doc)
{
    static const char *const searched[] = { "vms",       "clusters",       "datacenters",
                                            "disks",     "hosts",          "networks",
                                            "templates", "storagedomains", "instancetypes",
                                            "vmpools",   "users",          "groups" };
    static const char *const plain[] = { "jobs",         "tags",           "diskprofiles",
                                         "vnicprofiles", "imagetransfers", "storageconnections",
                                         "permissions",  "roles",          "domains" };

    for (size_t i = 0; i < G_N_ELEMENTS(searched); i++) {
        g_autofree char *rel = g_strconcat(searched[i], "/search", NULL);
        doc_link(doc, searched[i], "/%s", searched[i]);
        /* libgovirt cuts at "{query}": the href must end so */
        doc_link(doc, rel, "/%s?search={query}", searched[i]);
    }
    doc_link(doc, "events", "/events");
    doc_link(doc, "events/search", "/events;from={event_id}?search={query}");
    for (size_t i = 0; i < G_N_ELEMENTS(plain); i++)
        doc_link(doc, plain[i], "/%s", plain[i]);
}

/* The same as a header, for those who only ask HEAD. */
static void
put_link_header(HttpResponse *response, const json_t *doc)
{
    g_autoptr(GString) header = g_string_new(NULL);
    const json_t *links = json_object_get(doc, "link");
    json_t *link;
    size_t i;

    json_array_foreach (links, i, link)
        g_string_append_printf(header, "%s<%s>; rel=\"%s\"", i > 0 ? ", " : "",
                               json_text(link, "href"), json_text(link, "rel"));
    http_response_header(response, "Link", header->str);
}

static json_t *
count(guint active, guint total)
{
    return json_pack("{s:i, s:i}", "active", (int)active, "total", (int)total);
}

static json_t *
summary(const Call *call)
{
    Manager *manager = call->manager;
    g_autoptr(GPtrArray) vms = access_vms(manager, call->who);
    g_autoptr(GPtrArray) hosts = manager_hosts(manager);
    g_autoptr(GPtrArray) people = people_list(call->people);
    unsigned running = 0, up = 0, active, domains = storage_domain_count(call, &active);

    for (guint i = 0; i < vms->len; i++)
        running += is_running(vms->pdata[i]) ? 1 : 0;
    for (guint i = 0; i < hosts->len; i++)
        up += ((const HostInfo *)hosts->pdata[i])->up ? 1 : 0;
    return json_pack("{s:o, s:o, s:o, s:o}", "hosts", count(up, hosts->len), "storage_domains",
                     count(active, domains), "users", count(people->len, people->len), "vms",
                     count(running, vms->len));
}

/* Clients look at major and minor to know what the engine can do: we speak oVirt 4.5's API. The
 * full version says who really speaks. */
bool
get_api(Call *call, Reply *reply, GError **error)
{
    const char *instance = store_instance(manager_store(call->manager));
    json_t *doc = json_object();

    put_root_links(doc);
    json_object_set_new(doc, "product_info",
                        json_pack("{s:s, s:s, s:s, s:{s:s, s:i, s:i, s:i, s:i}}", "instance_id",
                                  instance != NULL ? instance : API_NIL_ID, "name", "livemerge",
                                  "vendor", "livemerge", "version", "full_version",
                                  "4.5.0-livemerge-" LIVEMERGE_VERSION, "major", 4, "minor", 5,
                                  "build", 0, "revision", 0));
    json_object_set_new(doc, "special_objects", json_object());
    doc_ref(json_object_get(doc, "special_objects"), "blank_template", API_NIL_ID,
            "/templates/" API_NIL_ID);
    doc_ref(json_object_get(doc, "special_objects"), "root_tag", API_NIL_ID, "/tags/" API_NIL_ID);
    json_object_set_new(doc, "summary", summary(call));
    doc_user(doc, "authenticated_user", call->user);
    doc_user(doc, "effective_user", call->user);
    doc_time(doc, "time", clock_wall_ms());
    if (reply->http != NULL)
        put_link_header(reply->http, doc);
    reply->body = doc;
    return true;
}
