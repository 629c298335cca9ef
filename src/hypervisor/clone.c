/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Makes one domain definition out of another, so that both VMs can run on one host side by side.
 * What belongs to one VM alone is made anew where libvirt or we can do that (MAC addresses, ports,
 * sockets), and else left out and told.
 */
#include "hypervisor/edit.h"
#include "hypervisor/hypervisor.h"

#include <string.h>

#define NAME_BYTES 64

char *
hv_file_name(const char *name)
{
    char *file = g_strndup(name, NAME_BYTES);

    for (char *at = file; *at != '\0'; at++)
        if (!g_ascii_isalnum(*at) && (strchr("._-", *at) == NULL || (*at == '.' && at == file)))
            *at = '-';
    return file;
}

static void
set_text(xmlNode *parent, const char *name, const char *text)
{
    xmlNode *node = xml_child(parent, name);

    if (node == NULL)
        node = xmlNewChild(parent, NULL, BAD_CAST name, NULL);
    xmlNodeSetContent(node, NULL);
    xmlAddChild(node, xmlNewText(BAD_CAST text)); /* escaped when it is written */
}

static void
unset(xmlNode *node, const char *name)
{
    if (node != NULL)
        xmlUnsetProp(node, BAD_CAST name);
}

static void
remove_children(xmlNode *node, const char *name)
{
    for (xmlNode *child = xml_child(node, name); child != NULL; child = xml_child(node, name))
        edit_remove(child);
}

static void
leave_out(GPtrArray *left, xmlNode *node, char *take_what)
{
    g_ptr_array_add(left, take_what);
    edit_remove(node);
}

/* ---- the machine ---- */

static void
edit_uuid_of_sysinfo(xmlNode *root, const char *id)
{
    xmlNode *system = xml_child(xml_child(root, "sysinfo"), "system");

    /* libvirt insists that it is that of the VM */
    for (xmlNode *entry = xml_child(system, "entry"); entry != NULL;
         entry = xml_next(entry, "entry"))
        if (xml_attr_is(entry, "name", "uuid"))
            xmlNodeSetContent(entry, BAD_CAST id);
}

static void
edit_nvram(xmlNode *root, const char *path)
{
    xmlNode *os = xml_child(root, "os"), *nvram = xml_child(os, "nvram");
    xmlNode *source = xml_child(nvram, "source");

    if (nvram == NULL)
        return;
    if (source != NULL && path != NULL)
        xml_set(source, "file", path);
    else if (source != NULL)
        edit_remove(source);
    else if (path != NULL)
        set_text(os, "nvram", path);
    else
        xmlNodeSetContent(nvram, NULL); /* libvirt makes one of the template */
}

static void
edit_identity(xmlNode *root, const HvClone *clone)
{
    xmlNode *genid = xml_child(root, "genid");

    unset(root, "id");
    set_text(root, "name", clone->name);
    set_text(root, "uuid", clone->id);
    if (genid != NULL)
        xmlNodeSetContent(genid, NULL); /* another generation, for guests that look at it */
    edit_uuid_of_sysinfo(root, clone->id);
    edit_nvram(root, clone->nvram);
}

/* ---- disks ---- */

static int
index_of(const HvClone *clone, const char *target)
{
    for (unsigned i = 0; target != NULL && i < clone->n; i++)
        if (strcmp(clone->targets[i], target) == 0)
            return (int)i;
    return -1;
}

/* Both VMs may have it at once. */
static bool
can_be_shared(xmlNode *disk)
{
    return xml_child(disk, "readonly") != NULL || xml_child(disk, "shareable") != NULL ||
           xml_attr_is(disk, "device", "cdrom");
}

static bool
edit_one_disk(xmlNode *disk, const HvClone *clone, unsigned *found, GPtrArray *left, GError **error)
{
    g_autofree char *target = xml_attr(xml_child(disk, "target"), "dev");
    int i = index_of(clone, target);
    bool changed = false;

    edit_remove_backing(disk);
    remove_children(disk, "mirror");
    if (i < 0 && can_be_shared(disk))
        return true;
    if (i < 0) {
        leave_out(left, disk, g_strdup_printf("disk %s", target != NULL ? target : "(unnamed)"));
        return true;
    }
    ++*found;
    remove_children(disk, "transient");
    return edit_disk(disk, clone->targets[i], clone->sources[i], "qcow2", &changed, error);
}

static bool
edit_disks(xmlNode *devices, const HvClone *clone, GPtrArray *left, GError **error)
{
    unsigned found = 0;

    for (xmlNode *disk = xml_child(devices, "disk"), *next; disk != NULL; disk = next) {
        next = xml_next(disk, "disk");
        if (!edit_one_disk(disk, clone, &found, left, error))
            return false;
    }
    return found == clone->n ||
           error_set(error, ERR_REFUSED,
                     "the definition has only %u of the %u disks that are cloned (a disk got "
                     "another target since?)",
                     found, clone->n);
}

/* ---- what belongs to one VM ---- */

/* clang-format off */
static const struct {
    const char *element, *child; /* child NULL: the element's own attribute */
    const char *attribute, *value; /* attribute NULL: any */
    const char *what;
} belongings[] = {
    { "hostdev",   NULL,      NULL,    NULL,          "a passed-through device of the host" },
    { "interface", NULL,      "type",  "hostdev",     "a passed-through network device" },
    { "memory",    NULL,      "model", "nvdimm",      "an NVDIMM, whose file both VMs would write" },
    { "memory",    NULL,      "model", "virtio-pmem", "persistent memory, whose file both VMs would write" },
    { "tpm",       "backend", "type",  "passthrough", "the TPM of the host" },
};
/* clang-format on */

static void
leave_belongings(xmlNode *devices, GPtrArray *left)
{
    for (size_t i = 0; i < G_N_ELEMENTS(belongings); i++)
        for (xmlNode *node = xml_child(devices, belongings[i].element), *next; node != NULL;
             node = next) {
            next = xml_next(node, belongings[i].element);
            xmlNode *at = belongings[i].child != NULL ? xml_child(node, belongings[i].child) : node;
            if (belongings[i].attribute == NULL ||
                xml_attr_is(at, belongings[i].attribute, belongings[i].value))
                leave_out(left, node, g_strdup(belongings[i].what));
        }
}

static void
edit_interfaces(xmlNode *devices)
{
    for (xmlNode *node = xml_child(devices, "interface"); node != NULL;
         node = xml_next(node, "interface")) {
        xmlNode *target = xml_child(node, "target");

        remove_children(node, "mac"); /* libvirt gives it another */
        if (target != NULL && !xml_attr_is(target, "managed", "no"))
            edit_remove(target);
        unset(xml_child(node, "source"), "portid");
        unset(xml_child(xml_child(node, "virtualport"), "parameters"), "interfaceid");
    }
}

static xmlNode *
same_display(xmlNode *present, xmlNode *graphics)
{
    g_autofree char *type = xml_attr(graphics, "type");
    xmlNode *node = xml_child(xml_child(present, "devices"), "graphics");

    while (node != NULL && !xml_attr_is(node, "type", type))
        node = xml_next(node, "graphics");
    return node;
}

/* A display that had a password must not be without. */
static void
copy_password(xmlNode *from, xmlNode *to)
{
    static const char *const names[] = { "passwd", "passwdValidTo", "connected" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *value = xml_attr(from, names[i]);
        if (value != NULL)
            xml_set(to, names[i], value);
    }
}

static void
edit_displays(xmlNode *devices, xmlNode *present)
{
    for (xmlNode *node = xml_child(devices, "graphics"); node != NULL;
         node = xml_next(node, "graphics")) {
        g_autofree char *port = xml_attr(node, "port");

        copy_password(same_display(present, node), node);
        if (port != NULL &&
            (xml_attr_is(node, "type", "vnc") || xml_attr_is(node, "type", "spice")))
            xml_set(node, "autoport", "yes");
        unset(node, "port");
        unset(node, "tlsPort");
        unset(node, "socket");
        if (!xml_attr_is(node, "websocket", NULL))
            xml_set(node, "websocket", "-1"); /* any that is free */
        for (xmlNode *listen = xml_child(node, "listen"); listen != NULL;
             listen = xml_next(listen, "listen"))
            unset(listen, "socket");
    }
}

static void
edit_vsock(xmlNode *devices)
{
    xmlNode *cid = xml_child(xml_child(devices, "vsock"), "cid");

    if (cid == NULL)
        return;
    xml_set(cid, "auto", "yes");
    unset(cid, "address");
}

/* ---- character devices ---- */

static void
rename_path(xmlNode *node, const char *attribute, const char *suffix)
{
    g_autofree char *path = xml_attr(node, attribute);
    g_autofree char *other = path != NULL ? g_strdup_printf("%s.%s", path, suffix) : NULL;

    if (other != NULL)
        xml_set(node, attribute, other);
}

static void
edit_character_device(xmlNode *device, const char *suffix)
{
    xmlNode *source = xml_child(device, "source");
    g_autofree char *path = xml_attr(source, "path");

    if (xml_attr_is(device, "type", "pty")) {
        unset(device, "tty");
        unset(source, "path");
    } else if (xml_attr_is(device, "type", "unix") && path != NULL &&
               strstr(path, "/channel/target/") != NULL) {
        edit_remove(source); /* libvirt names it after the VM */
    } else if ((xml_attr_is(device, "type", "unix") && xml_attr_is(source, "mode", "bind")) ||
               xml_attr_is(device, "type", "file")) {
        rename_path(source, "path", suffix);
    }
    rename_path(xml_child(device, "log"), "file", suffix);
}

static void
edit_character_devices(xmlNode *devices, const char *name)
{
    static const char *const kinds[] = { "serial", "parallel", "console", "channel" };
    g_autofree char *suffix = hv_file_name(name);

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        for (xmlNode *node = xml_child(devices, kinds[i]); node != NULL;
             node = xml_next(node, kinds[i]))
            edit_character_device(node, suffix);
}

char *
hv_edit_clone(const char *xml, const char *present, const HvClone *clone, GPtrArray *left,
              GError **error)
{
    g_autoptr(xmlDoc) doc = xml_read(xml, "domain", error);
    g_autoptr(xmlDoc) now =
        doc != NULL && present != NULL ? xml_read(present, "domain", error) : NULL;
    if (doc == NULL || (present != NULL && now == NULL))
        return NULL;
    xmlNode *root = xmlDocGetRootElement(doc), *devices = xml_child(root, "devices");

    edit_identity(root, clone);
    if (!edit_disks(devices, clone, left, error))
        return NULL;
    leave_belongings(devices, left);
    edit_interfaces(devices);
    edit_displays(devices, now != NULL ? xmlDocGetRootElement(now) : NULL);
    edit_vsock(devices);
    edit_character_devices(devices, clone->name);
    return xml_write(doc);
}
