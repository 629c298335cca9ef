/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A VM's definition goes back to what it was once. Disks are the exception: which there are, and
 * where they lie, is not taken from the past.
 */
#include "hypervisor/hypervisor.h"
#include "hypervisor/xml.h"

#include <string.h>

static void
drop(xmlNode *node)
{
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

static xmlNode *
copy_into(xmlNode *parent, xmlNode *node)
{
    xmlNode *copy = xmlDocCopyNode(node, parent->doc, 1);

    xmlAddChild(parent, copy);
    return copy;
}

/* The children of this name are those of the other one, or none. */
static void
take_children(xmlNode *to, xmlNode *from, const char *name)
{
    for (xmlNode *old = xml_child(to, name); old != NULL; old = xml_child(to, name))
        drop(old);
    for (xmlNode *node = xml_child(from, name); node != NULL; node = xml_next(node, name))
        copy_into(to, node);
}

static void
take_attribute(xmlNode *to, xmlNode *from, const char *name)
{
    g_autofree char *value = xml_attr(from, name);

    if (value != NULL)
        xml_set(to, name, value);
    else
        xmlUnsetProp(to, BAD_CAST name);
}

/* CDs and floppies are what was in the drive. */
static bool
holds_data(xmlNode *disk)
{
    return !xml_attr_is(disk, "device", "cdrom") && !xml_attr_is(disk, "device", "floppy");
}

static xmlNode *
same_disk(xmlNode *devices, xmlNode *disk)
{
    g_autofree char *target = xml_attr(xml_child(disk, "target"), "dev");
    xmlNode *found = xml_child(devices, "disk");

    while (found != NULL &&
           !(holds_data(found) && xml_attr_is(xml_child(found, "target"), "dev", target)))
        found = xml_next(found, "disk");
    return found;
}

/* Bus and address as they were, the content where it is now. */
static void
take_content(xmlNode *disk, xmlNode *now)
{
    static const char *const children[] = { "source", "auth", "encryption", "backingStore",
                                            "mirror" };
    xmlNode *driver = xml_child(disk, "driver"), *driver_now = xml_child(now, "driver");

    take_attribute(disk, now, "type");
    for (size_t i = 0; i < G_N_ELEMENTS(children); i++)
        take_children(disk, now, children[i]);
    if (driver != NULL && driver_now != NULL)
        take_attribute(driver, driver_now, "type");
    else
        take_children(disk, now, "driver");
}

/* A disk that came later has no place among the devices of then: libvirt gives it one. */
static void
add_disk(xmlNode *devices, xmlNode *now)
{
    static const char *const places[] = { "address", "boot" };
    xmlNode *copy = copy_into(devices, now);

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++)
        for (xmlNode *old = xml_child(copy, places[i]); old != NULL;
             old = xml_child(copy, places[i]))
            drop(old);
}

static void
take_disks(xmlNode *devices, xmlNode *devices_now)
{
    xmlNode *next;

    for (xmlNode *now = xml_child(devices_now, "disk"); now != NULL; now = xml_next(now, "disk"))
        if (holds_data(now) && same_disk(devices, now) == NULL)
            add_disk(devices, now);
    for (xmlNode *disk = xml_child(devices, "disk"); disk != NULL; disk = next) {
        xmlNode *now = same_disk(devices_now, disk);
        next = xml_next(disk, "disk");
        if (holds_data(disk) && now == NULL)
            drop(disk);
        else if (holds_data(disk))
            take_content(disk, now);
    }
}

/* What was kept of a definition has no passwords. */
static void
take_passwords(xmlNode *devices, xmlNode *devices_now)
{
    for (xmlNode *display = xml_child(devices, "graphics"); display != NULL;
         display = xml_next(display, "graphics")) {
        g_autofree char *type = xml_attr(display, "type");
        xmlNode *now = xml_child(devices_now, "graphics");
        while (now != NULL && !xml_attr_is(now, "type", type))
            now = xml_next(now, "graphics");
        if (now == NULL)
            continue;
        take_attribute(display, now, "passwd");
        take_attribute(display, now, "passwdValidTo");
    }
}

char *
hv_edit_config(const char *xml, const char *config, GError **error)
{
    /* what says which VM it is, and what others have noted of it */
    static const char *const ours[] = { "name", "uuid", "metadata", "title", "description" };
    g_autoptr(xmlDoc) now = xml_read(xml, "domain", error);
    g_autoptr(xmlDoc) then = now != NULL ? xml_read(config, "domain", error) : NULL;

    if (then == NULL)
        return NULL;
    xmlNode *root = xmlDocGetRootElement(then), *root_now = xmlDocGetRootElement(now);
    xmlNode *devices = xml_child(root, "devices"), *devices_now = xml_child(root_now, "devices");
    if (devices == NULL || devices_now == NULL) {
        error_set(error, ERR_CORRUPT, "a definition has no devices");
        return NULL;
    }
    xmlUnsetProp(root, BAD_CAST "id");
    for (size_t i = 0; i < G_N_ELEMENTS(ours); i++)
        take_children(root, root_now, ours[i]);
    take_disks(devices, devices_now);
    take_passwords(devices, devices_now);
    return xml_write(then);
}
