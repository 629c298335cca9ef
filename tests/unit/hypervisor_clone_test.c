/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One definition made out of another: what must differ does, and nothing else.
 */
#include "hypervisor/hypervisor.h"

#include <string.h>

#define ID "99999999-2222-3333-4444-555555555555"

static const char source[] =
    "<domain type='kvm' id='7'><name>web</name>"
    "<uuid>11111111-2222-3333-4444-555555555555</uuid>"
    "<genid>aaaaaaaa-2222-3333-4444-555555555555</genid>"
    "<memory unit='KiB'>1048576</memory><vcpu>2</vcpu>"
    "<sysinfo type='smbios'><system><entry name='serial'>s1</entry>"
    "<entry name='uuid'>11111111-2222-3333-4444-555555555555</entry></system></sysinfo>"
    "<os><type arch='x86_64' machine='q35'>hvm</type>"
    "<nvram template='/usr/share/OVMF_VARS.fd'>/nvram/web_VARS.fd</nvram></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/v/web.img'/>"
    "<backingStore type='file'><source file='/v/old'/></backingStore>"
    "<target dev='vda' bus='virtio'/></disk>"
    "<disk type='file' device='disk'><source file='/v/data.qcow2'/>"
    "<target dev='vdb' bus='virtio'/></disk>"
    "<disk type='file' device='disk'><source file='/v/doc.img'/><target dev='vdc'/><readonly/>"
    "</disk>"
    "<disk type='file' device='cdrom'><source file='/iso'/><target dev='sda'/></disk>"
    "<interface type='network'><mac address='52:54:00:11:22:33'/><source network='default' "
    "portid='x'/><target dev='vnet3'/><model type='virtio'/></interface>"
    "<interface type='hostdev'><mac address='52:54:00:11:22:34'/></interface>"
    "<graphics type='vnc' port='5901' autoport='no' websocket='5701'/>"
    "<hostdev mode='subsystem' type='pci'/>"
    "<serial type='unix'><source mode='bind' path='/run/web.sock'/><log file='/log/web'/></serial>"
    "<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console>"
    "<channel type='unix'><source mode='bind' "
    "path='/var/lib/libvirt/qemu/channel/target/domain-7-web/org.qemu.guest_agent.0'/>"
    "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    "<channel type='unix'><source mode='connect' path='/run/server'/></channel>"
    "<vsock><cid auto='no' address='5'/></vsock>"
    "</devices></domain>";

static const char *const targets[] = { "vda" }, *const sources[] = { "/v/twin-vda.qcow2" };
static const HvClone twin = { .id = ID,
                              .name = "twin <&>",
                              .targets = targets,
                              .sources = sources,
                              .n = 1,
                              .nvram = "/nvram/twin_VARS.1.fd" };

static void
has(const char *xml, const char *part)
{
    if (strstr(xml, part) == NULL)
        g_error("%s is not in %s", part, xml);
}

static void
has_not(const char *xml, const char *part)
{
    if (strstr(xml, part) != NULL)
        g_error("%s is in %s", part, xml);
}

static char *
edit(const char *present, const HvClone *clone, GPtrArray *left)
{
    g_autoptr(GError) error = NULL;
    char *xml = hv_edit_clone(source, present, clone, left, &error);

    g_assert_no_error(error);
    return xml;
}

static void
test_own(void)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *xml = edit(NULL, &twin, left);
    g_autoptr(HvDomain) domain = hv_domain_new();
    g_autoptr(GPtrArray) disks = NULL;

    g_assert_true(hv_parse_domain(xml, domain, &disks, NULL));
    g_assert_cmpstr(domain->id, ==, ID);
    g_assert_cmpstr(domain->name, ==, "twin <&>");
    g_assert_cmpstr(domain->nvram, ==, "/nvram/twin_VARS.1.fd");
    has(xml, "<genid/>");
    has(xml, "<entry name=\"uuid\">" ID "</entry>");
    has(xml, "<entry name=\"serial\">s1</entry>");
    has(xml, "template=\"/usr/share/OVMF_VARS.fd\"");
    has_not(xml, "11111111-2222");
    has_not(xml, "id=\"7\"");
    has_not(xml, "<mac ");
    has_not(xml, "vnet3");
    has_not(xml, "portid");
    has(xml, "<model type=\"virtio\"/>");
}

static void
test_disks(void)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *xml = edit(NULL, &twin, left);
    g_autoptr(GPtrArray) disks = NULL;

    g_assert_true(hv_parse_domain(xml, NULL, &disks, NULL));
    g_assert_cmpuint(disks->len, ==, 3);
    const HvDisk *first = disks->pdata[0];
    g_assert_cmpstr(first->source, ==, "/v/twin-vda.qcow2");
    g_assert_cmpstr(first->format, ==, "qcow2");
    has_not(xml, "backingStore");
    g_assert_cmpstr(((HvDisk *)disks->pdata[1])->target, ==, "vdc");
    g_assert_cmpstr(((HvDisk *)disks->pdata[2])->target, ==, "sda");
    /* what it does not have is told */
    g_assert_cmpuint(left->len, ==, 3);
    g_assert_cmpstr(left->pdata[0], ==, "disk vdb");
    has_not(xml, "hostdev");
}

static void
test_side_by_side(void)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *xml = edit(NULL, &twin, left);

    has(xml, "autoport=\"yes\"");
    has(xml, "websocket=\"-1\"");
    has_not(xml, "5901");
    has(xml, "path=\"/run/web.sock.twin----\"");
    has(xml, "file=\"/log/web.twin----\"");
    has_not(xml, "/dev/pts");
    has_not(xml, "channel/target");
    has(xml, "org.qemu.guest_agent.0");
    has(xml, "path=\"/run/server\"");
    has(xml, "<cid auto=\"yes\"/>");
}

/* A display with a password does not become one without. */
static void
test_password(void)
{
    static const char present[] =
        "<domain><devices><graphics type='spice' passwd='no'/>"
        "<graphics type='vnc' passwd='secret' passwdValidTo='2030-01-01T00:00:00'/></devices>"
        "</domain>";
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *xml = edit(present, &twin, left);

    has(xml, "passwd=\"secret\"");
    has(xml, "passwdValidTo=\"2030-01-01T00:00:00\"");
}

static void
test_nvram_anew(void)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    HvClone without = twin;
    without.nvram = NULL;
    g_autofree char *xml = edit(NULL, &without, left);

    has(xml, "<nvram template=\"/usr/share/OVMF_VARS.fd\"/>");
    has_not(xml, "web_VARS");
}

static void
test_refused(void)
{
    static const char *const two[] = { "vda", "vdz" }, *const files[] = { "/a", "/b" };
    const HvClone clone = { .id = ID, .name = "x", .targets = two, .sources = files, .n = 2 };
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    g_assert_null(hv_edit_clone(source, NULL, &clone, left, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_clear_error(&error);
    g_assert_null(hv_edit_clone("<network/>", NULL, &clone, left, &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
}

static void
test_file_names(void)
{
    static const struct {
        const char *name, *file;
    } rows[] = { { "web", "web" },
                 { "a:b c/d", "a-b-c-d" },
                 { ".hidden", "-hidden" },
                 { "v1.2_x-y", "v1.2_x-y" },
                 { "\303\244", "--" } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *file = hv_file_name(rows[i].name);
        g_assert_cmpstr(file, ==, rows[i].file);
    }
    g_autofree char *name = g_strnfill(255, 'n');
    g_autofree char *file = hv_file_name(name);
    g_assert_cmpuint(strlen(file), ==, 64);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/clone/own", test_own);
    g_test_add_func("/clone/disks", test_disks);
    g_test_add_func("/clone/side-by-side", test_side_by_side);
    g_test_add_func("/clone/password", test_password);
    g_test_add_func("/clone/nvram-anew", test_nvram_anew);
    g_test_add_func("/clone/refused", test_refused);
    g_test_add_func("/clone/file-names", test_file_names);
    return g_test_run();
}
