/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libvirt's own records of snapshots, which our merges do not keep right: read, forgotten, put
 * back.
 */
#include "hypervisor/connection.h"
#include "hypervisor/xml.h"

#include <libvirt/virterror.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomainSnapshot, virDomainSnapshotFree)

void
hv_snapshot_record_free(HvSnapshotRecord *record)
{
    if (record == NULL)
        return;
    g_free(record->name);
    g_free(record->parent);
    g_free(record->description);
    g_ptr_array_unref(record->targets);
    g_ptr_array_unref(record->files);
    g_free(record->xml);
    g_free(record);
}

static void
read_disk(xmlNode *node, HvSnapshotRecord *record)
{
    char *target = xml_attr(node, "name"), *file = xml_attr(xml_child(node, "source"), "file");

    if (!xml_attr_is(node, "snapshot", "external") || target == NULL || file == NULL) {
        record->external = record->external || xml_attr_is(node, "snapshot", "external");
        g_free(target);
        g_free(file);
        return;
    }
    record->external = true;
    g_ptr_array_add(record->targets, target);
    g_ptr_array_add(record->files, file);
}

HvSnapshotRecord *
hv_parse_snapshot(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_read(xml, "domainsnapshot", error);
    g_autoptr(HvSnapshotRecord) record = NULL;

    if (doc == NULL)
        return NULL;
    xmlNode *root = xmlDocGetRootElement(doc);
    g_autofree char *created = xml_text(xml_child(root, "creationTime"));
    record = g_new0(HvSnapshotRecord, 1);
    record->targets = g_ptr_array_new_with_free_func(g_free);
    record->files = g_ptr_array_new_with_free_func(g_free);
    record->name = xml_text(xml_child(root, "name"));
    record->parent = xml_text(xml_child(xml_child(root, "parent"), "name"));
    record->description = xml_text(xml_child(root, "description"));
    record->created = created != NULL ? g_ascii_strtoll(created, NULL, 10) * 1000 : 0;
    record->xml = g_strdup(xml);
    for (xmlNode *disk = xml_child(xml_child(root, "disks"), "disk"); disk != NULL;
         disk = xml_next(disk, "disk"))
        read_disk(disk, record);
    if (record->name == NULL) {
        error_set(error, ERR_CORRUPT, "a snapshot of libvirt's has no name");
        return NULL;
    }
    return g_steal_pointer(&record);
}

static HvSnapshotRecord *
read_record(virDomainPtr domain, virDomainSnapshotPtr snapshot, GError **error)
{
    autolibc char *xml = virDomainSnapshotGetXMLDesc(snapshot, 0);

    if (xml == NULL) {
        libvirt_refused(domain, error, "reading libvirt's record of a snapshot");
        return NULL;
    }
    HvSnapshotRecord *record = hv_parse_snapshot(xml, error);
    if (record != NULL)
        record->current = virDomainSnapshotIsCurrent(snapshot, 0) == 1;
    return record;
}

GPtrArray *
snapshot_records(Hypervisor *hv, const char *vm_id, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autoptr(GPtrArray) records =
        g_ptr_array_new_with_free_func((GDestroyNotify)hv_snapshot_record_free);
    autolibc virDomainSnapshotPtr *list = NULL;
    bool ok = true;

    if (domain == NULL)
        return NULL;
    int n = virDomainListAllSnapshots(domain, &list, VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL);
    if (n < 0) {
        libvirt_refused(domain, error, "listing libvirt's records of snapshots");
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        HvSnapshotRecord *record = ok ? read_record(domain, list[i], error) : NULL;
        ok = ok && record != NULL;
        if (record != NULL)
            g_ptr_array_add(records, record);
        virDomainSnapshotFree(list[i]);
    }
    return ok ? g_steal_pointer(&records) : NULL;
}

bool
snapshot_record_forget(Hypervisor *hv, const char *vm_id, const char *name, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autoptr(virDomainSnapshot) snapshot = NULL;

    if (domain == NULL)
        return false;
    snapshot = virDomainSnapshotLookupByName(domain, name, 0);
    if (snapshot == NULL)
        return libvirt_error_is(VIR_ERR_NO_DOMAIN_SNAPSHOT, NULL) ||
               libvirt_refused(domain, error, "looking for libvirt's record of snapshot %s", name);
    return virDomainSnapshotDelete(snapshot, VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY) == 0 ||
           libvirt_refused(domain, error, "removing libvirt's record of snapshot %s", name);
}

bool
snapshot_record_restore(Hypervisor *hv, const char *vm_id, const char *xml, bool current,
                        GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    unsigned flags =
        VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | (current ? VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT : 0);

    if (domain == NULL)
        return false;
    g_autoptr(virDomainSnapshot) snapshot = virDomainSnapshotCreateXML(domain, xml, flags);
    return snapshot != NULL ||
           libvirt_refused(domain, error, "putting libvirt's record of a snapshot back");
}
