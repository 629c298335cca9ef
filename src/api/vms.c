/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * VMs, and the document at the root of the API.
 */
#include "api/routes.h"
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
}

static void
put_configuration(json_t *doc, const Vm *vm)
{
    json_object_set_new(doc, "cpu",
                        json_pack("{s:s, s:{s:i, s:i, s:i}}", "architecture", "x86_64", "topology",
                                  "sockets", (int)MAX(vm->vcpus, 1), "cores", 1, "threads", 1));
    doc_number(doc, "memory", vm->memory);
    json_object_set_new(
        doc, "os",
        json_pack("{s:s, s:{s:{s:[s]}}}", "type", "other", "boot", "devices", "device", "hd"));
    json_object_set_new(doc, "bios", json_pack("{s:{s:b}}", "boot_menu", "enabled", 0));
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
        "snapshots",   "diskattachments", "nics",       "graphicsconsoles",
        "cdroms",      "numanodes",       "statistics", "tags",
        "permissions", "applications",    "watchdogs",  "hostdevices"
    };

    for (size_t i = 0; i < G_N_ELEMENTS(links); i++)
        doc_link(doc, links[i], "/vms/%s/%s", id, links[i]);
}

static void
put_actions(json_t *doc, const char *id)
{
    static const char *const actions[] = { "start",           "stop",
                                           "shutdown",        "reboot",
                                           "reset",           "suspend",
                                           "removesnapshots", "previewsnapshot",
                                           "commitsnapshot",  "undosnapshot" };

    for (size_t i = 0; i < G_N_ELEMENTS(actions); i++)
        doc_action(doc, actions[i], "/vms/%s/%s", id, actions[i]);
}

json_t *
vm_document(const Vm *vm, const char *status, const char *host_id)
{
    json_t *doc = doc_new(vm->id, "/vms/%s", vm->id);
    g_autofree char *cluster = cluster_id();

    put_actions(doc, vm->id);
    doc_text(doc, "name", vm->name);
    put_links(doc, vm->id);
    doc_text(doc, "status", status != NULL ? status : vm_state_word(vm->state));
    doc_text(doc, "status_detail", vm->state_detail);
    doc_text(doc, "unmanaged", vm->unmanaged);
    if (has_unusable_snapshot(vm))
        doc_flag(doc, "has_illegal_images", true);
    put_configuration(doc, vm);
    doc_ref(doc, "cluster", cluster, "/clusters/%s", cluster);
    doc_text(json_object_get(doc, "cluster"), "name", "Default");
    if (host_id != NULL && is_running(vm)) {
        doc_ref(doc, "host", host_id, "/hosts/%s", host_id);
        doc_text(json_object_get(doc, "host"), "name", vm->host);
    }
    doc_ref(doc, "template", API_NIL_ID, "/templates/" API_NIL_ID);
    doc_ref(doc, "original_template", API_NIL_ID, "/templates/" API_NIL_ID);
    return doc;
}

/* ---- what follow= asks for ---- */

/* "snapshots" in "disk_attachments.disk,snapshots"; names are compared without case and "_" */
static bool
follows(const char *follow, const char *wanted)
{
    g_auto(GStrv) paths = g_strsplit(follow != NULL ? follow : "", ",", -1);

    for (char **path = paths; *path != NULL; path++) {
        g_autoptr(GString) squeezed = g_string_new(g_strstrip(*path));
        g_string_replace(squeezed, "_", "", 0);
        g_string_ascii_down(squeezed);
        if (g_str_has_prefix(squeezed->str, wanted) &&
            strchr(".", squeezed->str[strlen(wanted)]) != NULL)
            return true;
    }
    return false;
}

static json_t *
attachment_list(const Vm *vm, bool with_disks)
{
    json_t *list = json_array();

    for (guint i = 0; i < vm->disks->len; i++) {
        json_t *doc = disk_attachment_document(vm, vm->disks->pdata[i]);
        if (with_disks)
            json_object_set_new(doc, "disk", disk_document(vm, vm->disks->pdata[i]));
        json_array_append_new(list, doc);
    }
    return list;
}

static void
put_followed(json_t *doc, Call *call, const Vm *vm)
{
    const char *follow = call_query(call, "follow");

    if (follows(follow, "diskattachments"))
        json_object_set_new(doc, "disk_attachments",
                            doc_list("disk_attachment",
                                     attachment_list(vm, follows(follow, "diskattachments.disk"))));
    if (follows(follow, "snapshots"))
        json_object_set_new(doc, "snapshots",
                            doc_list("snapshot", snapshot_documents(call->manager, vm->id)));
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

bool
get_vms(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) vms = manager_vms(call->manager);
    g_autoptr(GPtrArray) hosts = manager_hosts(call->manager);
    json_t *list = json_array();

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        g_autofree char *status = manager_vm_status(call->manager, vm);
        json_t *doc = vm_document(vm, status, host_id_of(hosts, vm->host));
        put_followed(doc, call, vm);
        put_operations(doc, call, vm);
        json_array_append_new(list, doc);
    }
    return reply_list(call, reply, "vm", list, error);
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
    put_followed(reply->body, call, vm);
    put_operations(reply->body, call, vm);
    return true;
}

bool
get_attachments(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    const char *follow = call_query(call, "follow");

    if (vm == NULL)
        return false;
    reply->body = doc_list("disk_attachment", attachment_list(vm, follows(follow, "disk")));
    return true;
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
    if (follows(call_query(call, "follow"), "disk"))
        json_object_set_new(reply->body, "disk", disk_document(vm, disk));
    return true;
}

/* Collections that a VM has none of. */
bool
get_nothing(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);

    if (vm == NULL)
        return false;
    reply->body = json_object();
    return true;
}

/* ---- the root ---- */

static void
put_root_links(json_t *doc)
{
    static const char *const searched[] = { "vms",   "clusters",       "datacenters", "disks",
                                            "hosts", "storagedomains", "templates" };

    for (size_t i = 0; i < G_N_ELEMENTS(searched); i++) {
        g_autofree char *rel = g_strconcat(searched[i], "/search", NULL);
        doc_link(doc, searched[i], "/%s", searched[i]);
        /* libgovirt cuts at "{query}": the href must end so */
        doc_link(doc, rel, "/%s?search={query}", searched[i]);
    }
    doc_link(doc, "events", "/events");
    doc_link(doc, "events/search", "/events;from={event_id}?search={query}");
    doc_link(doc, "jobs", "/jobs");
}

static json_t *
count(guint active, guint total)
{
    return json_pack("{s:i, s:i}", "active", (int)active, "total", (int)total);
}

static json_t *
summary(Manager *manager)
{
    g_autoptr(GPtrArray) vms = manager_vms(manager);
    g_autoptr(GPtrArray) hosts = manager_hosts(manager);
    guint running = 0, up = 0;

    for (guint i = 0; i < vms->len; i++)
        running += is_running(vms->pdata[i]) ? 1 : 0;
    for (guint i = 0; i < hosts->len; i++)
        up += ((const HostInfo *)hosts->pdata[i])->up ? 1 : 0;
    return json_pack("{s:o, s:o}", "hosts", count(up, hosts->len), "vms", count(running, vms->len));
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
    json_object_set_new(doc, "summary", summary(call->manager));
    doc_time(doc, "time", clock_wall_ms());
    reply->body = doc;
    return true;
}
