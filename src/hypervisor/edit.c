/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Edits a domain definition: new sources, no <backingStore>. A stale <backingStore> would win over
 * the qcow2 header at the next start; an empty one ends the chain and the guest would read
 * zeros. Without any, libvirt reads the headers.
 */
#include "hypervisor/edit.h"
#include "hypervisor/hypervisor.h"
#include "hypervisor/xml.h"

void
edit_remove(xmlNode *node)
{
    xmlNode *before = node->prev;

    if (before != NULL && xmlIsBlankNode(before)) {
        xmlUnlinkNode(before);
        xmlFreeNode(before);
    }
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

bool
edit_remove_backing(xmlNode *disk)
{
    bool changed = false;

    for (xmlNode *found = xml_child(disk, "backingStore"); found != NULL;
         found = xml_child(disk, "backingStore")) {
        edit_remove(found);
        changed = true;
    }
    return changed;
}

/* A block device may get a file as its leaf, and back: the type follows the path. */
static bool
set_source(xmlNode *disk, const char *path)
{
    const char *type = g_str_has_prefix(path, "/dev/") ? "block" : "file";
    const char *attribute = g_str_has_prefix(path, "/dev/") ? "dev" : "file";
    xmlNode *source = xml_child(disk, "source");

    if (xml_attr_is(disk, "type", type) && xml_attr_is(source, attribute, path))
        return false;
    xml_set(disk, "type", type);
    xmlUnsetProp(source, BAD_CAST "file");
    xmlUnsetProp(source, BAD_CAST "dev");
    xml_set(source, attribute, path);
    return true;
}

static bool
set_format(xmlNode *disk, const char *format)
{
    xmlNode *driver = xml_child(disk, "driver");

    if (driver != NULL && xml_attr_is(driver, "type", format))
        return false;
    if (driver == NULL) {
        driver = xmlNewNode(NULL, BAD_CAST "driver");
        xml_set(driver, "name", "qemu");
        xmlNode *first = xml_child(disk, NULL);
        if (first != NULL)
            xmlAddPrevSibling(first, driver);
        else
            xmlAddChild(disk, driver);
    }
    xml_set(driver, "type", format);
    return true;
}

bool
edit_disk(xmlNode *disk, const char *target, const char *source, const char *format, bool *changed,
          GError **error)
{
    bool is_path = xml_attr_is(disk, "type", "file") || xml_attr_is(disk, "type", "block");

    if (!is_path || xml_child(disk, "source") == NULL)
        return error_set(error, ERR_INVALID,
                         "disk %s of the definition has no file or block device that could be "
                         "replaced by %s",
                         target, source);
    *changed |= set_source(disk, source);
    *changed |= set_format(disk, format);
    return true;
}

char *
edit_sources(const char *xml, const char *const *targets, const char *const *sources,
             const char *const *formats, unsigned n, bool *ret_changed, GError **error)
{
    bool changed = false;
    g_autoptr(xmlDoc) doc = xml_read(xml, "domain", error);
    if (doc == NULL)
        return NULL;
    xmlNode *devices = xml_child(xmlDocGetRootElement(doc), "devices");

    for (xmlNode *disk = xml_child(devices, "disk"); disk != NULL; disk = xml_next(disk, "disk"))
        changed |= edit_remove_backing(disk);
    for (unsigned i = 0; i < n; i++) {
        xmlNode *disk = xml_disk(devices, targets[i]);
        if (disk == NULL) {
            error_set(error, ERR_NOT_FOUND, "the definition has no disk %s", targets[i]);
            return NULL;
        }
        if (!edit_disk(disk, targets[i], sources[i], formats[i], &changed, error))
            return NULL;
    }
    if (ret_changed != NULL)
        *ret_changed = changed;
    return xml_write(doc);
}

char *
hv_edit_sources(const char *xml, const char *const *targets, const char *const *sources,
                const char *const *formats, unsigned n, GError **error)
{
    return edit_sources(xml, targets, sources, formats, n, NULL, error);
}
