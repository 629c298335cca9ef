/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A definition that goes back to what it was (src/hypervisor/edit_config.c), and what is read of it
 * for people.
 */
#include "hypervisor/hypervisor.h"

#include <string.h>

#define NOW                                                                                 \
    "<domain type='kvm'><name>renamed</name><uuid>u</uuid><metadata><a/></metadata>"        \
    "<title>now</title><description>of now</description>"                                   \
    "<memory unit='KiB'>4096</memory><vcpu>4</vcpu><devices>"                               \
    "<disk type='block' device='disk'><driver name='qemu' type='raw'/>"                     \
    "<source dev='/dev/vg/now'/><target dev='vda' bus='virtio'/><address slot='9'/></disk>" \
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"                    \
    "<source file='/vm/new'/><target dev='vdb' bus='virtio'/><boot order='1'/>"             \
    "<address slot='3'/></disk>"                                                            \
    "<disk type='file' device='cdrom'><source file='/iso/now'/><target dev='sda'/></disk>"  \
    "<interface type='user'/><graphics type='vnc' passwd='secret' passwdValidTo='soon'/>"   \
    "</devices></domain>"
#define THEN                                                                                   \
    "<domain type='kvm' id='7'><name>web</name><uuid>u</uuid><memory unit='KiB'>1024</memory>" \
    "<title>then</title>"                                                                      \
    "<vcpu>1</vcpu><devices>"                                                                  \
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>"          \
    "<source file='/vm/then'><privateData/></source><backingStore type='file'/>"               \
    "<target dev='vda' bus='scsi'/><boot order='1'/><address slot='3'/></disk>"                \
    "<disk type='file' device='disk'><source file='/vm/gone'/><target dev='vdc'/></disk>"      \
    "<disk type='file' device='cdrom'><source file='/iso/then'/><target dev='sda'/></disk>"    \
    "<graphics type='vnc' listen='::1'/><rng model='virtio'/></devices></domain>"

static void
has(const char *text, const char *part, bool wanted)
{
    if ((strstr(text, part) != NULL) != wanted)
        g_error("'%s' is %s in %s", part, wanted ? "not" : "still", text);
}

static void
test_goes_back(void)
{
    static const char *const kept[] = { "<name>renamed</name>", "<a/>",
                                        "\"/dev/vg/now\"",      "\"/vm/new\"",
                                        "passwd=\"secret\"",    "passwdValidTo=\"soon\"",
                                        "<title>now</title>",   "of now" };
    static const char *const back[] = { ">1024</memory>", "<vcpu>1</vcpu>", "bus=\"scsi\"",
                                        "cache=\"none\"", "\"/iso/then\"",  "listen=\"::1\"",
                                        "<rng " };
    static const char *const gone[] = { "/vm/then", "/vm/gone", "<interface",
                                        "/iso/now", " id=",     "slot=\"9\"" };
    g_autoptr(GError) error = NULL;
    g_autofree char *edited = hv_edit_config(NOW, THEN, &error);

    g_assert_no_error(error);
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++)
        has(edited, kept[i], true);
    for (size_t i = 0; i < G_N_ELEMENTS(back); i++)
        has(edited, back[i], true);
    for (size_t i = 0; i < G_N_ELEMENTS(gone); i++)
        has(edited, gone[i], false);
    /* what came later has no place, and does not boot first */
    const char *later = strstr(edited, "/vm/new");
    g_autofree char *disk = g_strndup(later, (gsize)(strstr(later, "</disk>") - later));
    has(disk, "<address", false);
    has(disk, "<boot", false);
    /* the leaf is put in as into any definition */
    const char *target = "vda", *source = "/vm/leaf", *format = "qcow2";
    g_autofree char *leaf = hv_edit_sources(edited, &target, &source, &format, 1, &error);
    g_assert_no_error(error);
    has(leaf, "<source file=\"/vm/leaf\"/>", true);
    has(leaf, "<backingStore", false);
    /* twice is once */
    g_autofree char *again = hv_edit_config(edited, THEN, &error);
    g_assert_cmpstr(again, ==, edited);
}

static void
test_bad(void)
{
    static const char *const bad[] = { "", "<domain", "<network/>",
                                       "<domain><name>a</name></domain>",
                                       "<!DOCTYPE x [<!ENTITY e 'x'>]><domain>&e;</domain>" };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(hv_edit_config(NOW, bad[i], &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
    }
}

/* Words for people, and oVirt's for the firmware. */
static void
test_manner(void)
{
    static const struct {
        const char *os, *word;
    } rows[] = {
        { "<os><type machine='pc-q35-7.2'>hvm</type></os>", "q35_sea_bios" },
        { "<os firmware='efi'><type machine='q35'>hvm</type></os>", "q35_ovmf" },
        { "<os><type machine='pc-q35-7.2'>hvm</type><loader type='pflash'>x</loader></os>",
          "q35_ovmf" },
        { "<os firmware='efi'><type machine='q35'>hvm</type><loader secure='yes'/></os>",
          "q35_secure_boot" },
        { "<os><type machine='pc-i440fx-7.2'>hvm</type></os>", "i440fx_sea_bios" },
        { "<os firmware='efi'><type machine='pc'>hvm</type></os>", NULL },
        { "<os><type machine='microvm'>hvm</type></os>", NULL },
        { "", NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *xml = g_strdup_printf(
            "<domain><name>web</name><uuid>u</uuid><description>a&amp;b</description>%s<devices>"
            "<memballoon model='%s'/></devices></domain>",
            rows[i].os, i % 2 == 0 ? "virtio" : "none");
        g_autoptr(HvDomain) domain = hv_domain_new();
        g_autoptr(GError) error = NULL;
        g_assert_true(hv_parse_domain(xml, domain, &domain->disks, &error));
        g_assert_no_error(error);
        g_assert_cmpstr(domain->firmware, ==, rows[i].word);
        g_assert_cmpstr(domain->description, ==, "a&b");
        g_assert_null(domain->title);
        g_assert_cmpint(domain->ballooning, ==, i % 2 == 0);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hypervisor/config/goes-back", test_goes_back);
    g_test_add_func("/hypervisor/config/bad", test_bad);
    g_test_add_func("/hypervisor/config/manner", test_manner);
    return g_test_run();
}
