/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A disk can be a volume of one of libvirt's storage pools: its definition names both, and the file
 * libvirt alone knows.
 */
#include "hypervisor/connection.h"
#include "hypervisor/xml.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStoragePool, virStoragePoolFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageVol, virStorageVolFree)

/* What a pool that is not active, or has not been refreshed since the file came, does not list. */
static char *
file_in_target(virStoragePoolPtr pool, const char *name)
{
    autolibc char *xml = virStoragePoolGetXMLDesc(pool, 0);
    g_autoptr(xmlDoc) doc = xml != NULL ? xml_read(xml, "pool", NULL) : NULL;
    xmlNode *root = doc != NULL ? xmlDocGetRootElement(doc) : NULL;
    g_autofree char *folder =
        root != NULL ? xml_text(xml_child(xml_child(root, "target"), "path")) : NULL;

    return folder != NULL ? g_build_filename(folder, name, NULL) : NULL;
}

static char *
pool_file(virConnectPtr conn, const char *pool_name, const char *name)
{
    g_autoptr(virStoragePool) pool = virStoragePoolLookupByName(conn, pool_name);
    g_autoptr(virStorageVol) volume = pool != NULL ? virStorageVolLookupByName(pool, name) : NULL;
    autolibc char *path = volume != NULL ? virStorageVolGetPath(volume) : NULL;

    if (path != NULL)
        return g_strdup(path);
    return pool != NULL ? file_in_target(pool, name) : NULL;
}

void
pool_files_find(virConnectPtr conn, const GPtrArray *disks)
{
    for (guint i = 0; i < disks->len; i++) {
        HvDisk *disk = disks->pdata[i];
        if (disk->pool != NULL && disk->pool_volume != NULL && disk->pool_file == NULL)
            disk->pool_file = pool_file(conn, disk->pool, disk->pool_volume);
    }
}
