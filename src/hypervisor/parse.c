/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Domain XML, live or inactive, becomes HvDomain and HvDisk.
 */
#include "hypervisor/hypervisor.h"
#include "hypervisor/xml.h"

void
hv_disk_free(HvDisk *disk)
{
    if (disk == NULL)
        return;
    g_free(disk->target);
    g_free(disk->alias);
    g_free(disk->bus);
    g_free(disk->device);
    g_free(disk->type);
    g_free(disk->format);
    g_free(disk->source);
    g_free(disk->protocol);
    g_free(disk->pool);
    g_free(disk->pool_volume);
    g_free(disk->pool_file);
    if (disk->backing != NULL)
        g_ptr_array_unref(disk->backing);
    g_free(disk->mirror_job);
    g_free(disk->mirror_path);
    g_free(disk->mirror_format);
    g_free(disk->mirror_ready);
    g_free(disk->hidden_leaf);
    g_free(disk);
}

void
hv_disk_take_leaf(HvDisk *disk, char *take_path)
{
    g_free(disk->source);
    disk->source = take_path;
    g_clear_pointer(&disk->backing, g_ptr_array_unref);
    disk->backing_terminated = false;
    disk->lost_pivot = true;
}

HvDomain *
hv_domain_new(void)
{
    return g_new0(HvDomain, 1);
}

HvDomain *
hv_domain_share(HvDomain *domain)
{
    g_atomic_int_inc(&domain->shared);
    return domain;
}

void
hv_domain_free(HvDomain *domain)
{
    if (domain == NULL || g_atomic_int_add(&domain->shared, -1) > 0)
        return;
    g_free(domain->id);
    g_free(domain->name);
    g_free(domain->state_detail);
    g_free(domain->instance);
    g_free(domain->description);
    g_free(domain->title);
    g_free(domain->firmware);
    g_free(domain->foreign_job);
    g_free(domain->graphics);
    g_free(domain->display_listen);
    g_free(domain->tpm_or_passthrough);
    g_free(domain->nvram);
    if (domain->disks != NULL)
        g_ptr_array_unref(domain->disks);
    if (domain->inactive != NULL)
        g_ptr_array_unref(domain->inactive);
    g_free(domain->xml);
    g_free(domain->inactive_xml);
    g_free(domain);
}

void
hv_host_clear(HvHost *host)
{
    g_free(host->cpu);
    g_free(host->libvirt);
}

const char *
hv_why_unknown(const HvDomain *domain)
{
    if (g_strcmp0(domain->state_detail, "mended") == 0)
        return "libvirt takes it for off, but its QEMU runs (libvirtd was killed and could not "
               "read its note of the VM, which has been mended). Nothing is lost. Restart libvirtd "
               "(systemctl restart libvirtd), which disturbs no VM and takes this one back";
    return "libvirt takes it for off, but its QEMU runs (libvirtd was killed and has lost it). "
           "Nothing is lost. Shut it down from inside, or end that process; then start it again";
}

HvDisk *
hv_disk_find(const GPtrArray *disks, const char *target)
{
    for (unsigned i = 0; disks != NULL && i < disks->len; i++) {
        HvDisk *disk = disks->pdata[i];
        if (g_strcmp0(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

HvDisk *
hv_domain_disk(const HvDomain *domain, const char *target)
{
    return hv_disk_find(domain->disks, target);
}

const char *
hv_disk_file(const HvDisk *disk)
{
    return disk->source != NULL ? disk->source : disk->pool_file;
}

/* "file" and "dev" are paths; anything else has none. */
static char *
source_path(xmlNode *source)
{
    char *path = xml_attr(source, "file");

    return path != NULL ? path : xml_attr(source, "dev");
}

/* A layer that is not a path still counts in the chain: name it so that nobody takes it for one. */
static char *
backing_name(xmlNode *source)
{
    char *path = source_path(source);
    if (path != NULL)
        return path;
    g_autofree char *protocol = xml_attr(source, "protocol");
    g_autofree char *name = xml_attr(source, "name");

    return g_strdup_printf("%s:%s", protocol != NULL ? protocol : "unknown",
                           name != NULL ? name : "");
}

static void
read_backing(xmlNode *node, HvDisk *disk)
{
    xmlNode *layer = xml_child(node, "backingStore");

    if (layer == NULL)
        return;
    disk->backing = g_ptr_array_new_with_free_func(g_free);
    for (; layer != NULL; layer = xml_child(layer, "backingStore")) {
        xmlNode *source = xml_child(layer, "source");
        if (source == NULL) {
            disk->backing_terminated = true;
            return;
        }
        g_ptr_array_add(disk->backing, backing_name(source));
    }
}

static void
read_mirror(xmlNode *mirror, HvDisk *disk)
{
    if (mirror == NULL)
        return;
    disk->mirror_job = xml_attr(mirror, "job");
    if (disk->mirror_job == NULL)
        disk->mirror_job = g_strdup("");
    disk->mirror_path = source_path(xml_child(mirror, "source"));
    disk->mirror_format = xml_attr(xml_child(mirror, "format"), "type");
    disk->mirror_ready = xml_attr(mirror, "ready");
}

static HvDisk *
read_disk(xmlNode *node)
{
    HvDisk *disk = g_new0(HvDisk, 1);
    xmlNode *target = xml_child(node, "target");

    disk->target = xml_attr(target, "dev");
    disk->alias = xml_attr(xml_child(node, "alias"), "name");
    disk->bus = xml_attr(target, "bus");
    disk->device = xml_attr(node, "device");
    if (disk->device == NULL)
        disk->device = g_strdup("disk"); /* libvirt's default */
    disk->type = xml_attr(node, "type");
    disk->format = xml_attr(xml_child(node, "driver"), "type");
    disk->source = source_path(xml_child(node, "source"));
    disk->protocol = xml_attr(xml_child(node, "source"), "protocol");
    disk->pool = xml_attr(xml_child(node, "source"), "pool");
    disk->pool_volume = xml_attr(xml_child(node, "source"), "volume");
    disk->read_only = xml_child(node, "readonly") != NULL;
    disk->shareable = xml_child(node, "shareable") != NULL;
    disk->transient = xml_child(node, "transient") != NULL;
    disk->copies_on_read = xml_attr_is(xml_child(node, "driver"), "copy_on_read", "on");
    read_backing(node, disk);
    read_mirror(xml_child(node, "mirror"), disk);
    return disk;
}

static bool
read_disks(xmlNode *devices, const char *vm, GPtrArray **ret_disks, GError **error)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);

    for (xmlNode *node = xml_child(devices, "disk"); node != NULL; node = xml_next(node, "disk")) {
        HvDisk *disk = read_disk(node);
        g_ptr_array_add(disks, disk);
        if (disk->target == NULL)
            return error_set(error, ERR_CORRUPT, "VM '%s': a disk in its XML has no target", vm);
    }
    *ret_disks = g_steal_pointer(&disks);
    return true;
}

static uint64_t
read_memory(xmlNode *node)
{
    /* clang-format off */
    static const struct { const char *unit; uint64_t bytes; } units[] = {
        { "b", 1 }, { "bytes", 1 }, { "KB", 1000 }, { "k", 1024 }, { "KiB", 1024 },
        { "MB", 1000000 }, { "M", 1 << 20 }, { "MiB", 1 << 20 },
        { "GB", 1000000000 }, { "G", 1 << 30 }, { "GiB", 1 << 30 },
        { "TB", 1000000000000 }, { "T", 1ULL << 40 }, { "TiB", 1ULL << 40 },
    };
    /* clang-format on */
    g_autofree char *text = xml_text(node);
    g_autofree char *unit = xml_attr(node, "unit");
    uint64_t factor = 1024;

    for (size_t i = 0; unit != NULL && i < G_N_ELEMENTS(units); i++)
        if (strcmp(unit, units[i].unit) == 0)
            factor = units[i].bytes;
    return text != NULL ? g_ascii_strtoull(g_strstrip(text), NULL, 10) * factor : 0;
}

static bool
read_agent_connected(xmlNode *devices)
{
    for (xmlNode *node = xml_child(devices, "channel"); node != NULL;
         node = xml_next(node, "channel")) {
        xmlNode *target = xml_child(node, "target");
        if (xml_attr_is(target, "name", "org.qemu.guest_agent.0"))
            return xml_attr_is(target, "state", "connected");
    }
    return false;
}

/* What QEMU cannot write into a memory image, or we would not dare to. */
static char *
read_memory_blocker(xmlNode *devices)
{
    if (xml_child(devices, "tpm") != NULL)
        return g_strdup("a TPM");
    if (xml_child(devices, "hostdev") != NULL)
        return g_strdup("a passed-through device");
    for (xmlNode *node = xml_child(devices, "interface"); node != NULL;
         node = xml_next(node, "interface"))
        if (xml_attr_is(node, "type", "hostdev"))
            return g_strdup("a passed-through network device");
    for (xmlNode *node = xml_child(devices, "filesystem"); node != NULL;
         node = xml_next(node, "filesystem"))
        if (xml_attr_is(xml_child(node, "driver"), "type", "virtiofs"))
            return g_strdup("a shared directory (virtiofs)");
    return NULL;
}

static char *
read_nvram(xmlNode *nvram)
{
    xmlNode *source = xml_child(nvram, "source");
    char *path = source != NULL ? xml_attr(source, "file") : xml_text(nvram);

    if (path != NULL && !g_path_is_absolute(g_strstrip(path)))
        g_clear_pointer(&path, g_free);
    return path;
}

static unsigned
read_port(xmlNode *graphics, const char *name)
{
    g_autofree char *text = xml_attr(graphics, name);
    gint64 port = 0;

    if (text == NULL || !g_ascii_string_to_signed(text, 10, 1, 65535, &port, NULL))
        return 0; /* -1: not told yet */
    return (unsigned)port;
}

static void
read_display(xmlNode *graphics, HvDomain *domain)
{
    g_free(domain->graphics);
    g_free(domain->display_listen);
    domain->graphics = xml_attr(graphics, "type");
    domain->display_listen = xml_attr(graphics, "listen");
    domain->display_port = graphics != NULL ? read_port(graphics, "port") : 0;
    domain->display_tls_port = graphics != NULL ? read_port(graphics, "tlsPort") : 0;
}

/* In oVirt's words; NULL where it has none. */
static char *
read_firmware(xmlNode *os)
{
    g_autofree char *machine = xml_attr(xml_child(os, "type"), "machine");
    xmlNode *loader = xml_child(os, "loader");
    bool uefi = xml_attr_is(os, "firmware", "efi") || xml_attr_is(loader, "type", "pflash");

    if (machine == NULL)
        return NULL;
    if (strstr(machine, "q35") != NULL)
        return g_strdup(!uefi                                  ? "q35_sea_bios"
                        : xml_attr_is(loader, "secure", "yes") ? "q35_secure_boot"
                                                               : "q35_ovmf");
    bool i440fx = g_str_has_prefix(machine, "pc-") || g_str_equal(machine, "pc");
    return i440fx && !uefi ? g_strdup("i440fx_sea_bios") : NULL;
}

/* What people and oVirt's clients want to know of it, and nothing here depends on. */
static void
read_manner(xmlNode *root, HvDomain *domain)
{
    xmlNode *balloon = xml_child(xml_child(root, "devices"), "memballoon");

    g_free(domain->description);
    g_free(domain->title);
    g_free(domain->firmware);
    domain->description = xml_text(xml_child(root, "description"));
    domain->title = xml_text(xml_child(root, "title"));
    domain->firmware = read_firmware(xml_child(root, "os"));
    domain->ballooning = balloon != NULL && !xml_attr_is(balloon, "model", "none");
}

static void
read_domain(xmlNode *root, HvDomain *domain)
{
    xmlNode *devices = xml_child(root, "devices");
    g_autofree char *vcpus = xml_text(xml_child(root, "vcpu"));

    g_free(domain->id);
    g_free(domain->name);
    g_free(domain->tpm_or_passthrough);
    domain->id = xml_text(xml_child(root, "uuid"));
    domain->name = xml_text(xml_child(root, "name"));
    domain->memory = read_memory(xml_child(root, "memory"));
    domain->vcpus = vcpus != NULL ? (unsigned)g_ascii_strtoull(g_strstrip(vcpus), NULL, 10) : 1;
    domain->agent_connected = read_agent_connected(devices);
    read_display(xml_child(devices, "graphics"), domain);
    read_manner(root, domain);
    domain->tpm_or_passthrough = read_memory_blocker(devices);
    g_free(domain->nvram);
    domain->nvram = read_nvram(xml_child(xml_child(root, "os"), "nvram"));
}

bool
hv_parse_domain(const char *xml, HvDomain *domain, GPtrArray **ret_disks, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_read(xml, "domain", error);
    if (doc == NULL)
        return false;
    xmlNode *root = xmlDocGetRootElement(doc);
    g_autofree char *name = xml_text(xml_child(root, "name"));

    if (name == NULL || xml_child(root, "uuid") == NULL)
        return error_set(error, ERR_CORRUPT, "the domain XML has no name or no uuid");
    if (!read_disks(xml_child(root, "devices"), name, ret_disks, error))
        return false;
    if (domain != NULL)
        read_domain(root, domain);
    return true;
}
