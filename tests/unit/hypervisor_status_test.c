/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What libvirt has noted of a VM that runs: only what it would refuse is mended.
 */
#include "hypervisor/connection.h"
#include "hypervisor/status.h"

#include "base/cleanup.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define HEAD                                                                                      \
    "<domstatus state='paused' reason='user' pid='7'><monitor path='/m' type='unix'/><blockjobs " \
    "active='yes'>"
#define JOB(type, disk) "<blockjob name='j' type='" type "'><disk dst='" disk "'/></blockjob>"
#define MIDDLE "</blockjobs><domain type='kvm'><name>web</name><devices>"
#define DISK(target, mirror)                                                                  \
    "<disk type='file'><source file='/new'/><mirror type='file' " mirror "><source file='/o'" \
    "/></mirror><target dev='" target "'/></disk>"
#define TAIL "</devices></domain></domstatus>"

static void
test_texts(void)
{
    /* as the killed one left it, and as the next one reads it */
    static const char *const rows[][2] = {
        /* as libvirt 9.0 was seen to leave it */
        { HEAD JOB("active-commit", "vda") MIDDLE DISK("vda", "job=''") TAIL,
          "job=\"active-commit\" ready=\"pivot\"" },
        { HEAD JOB("copy", "vda") MIDDLE DISK("vda", "job=''") TAIL,
          "job=\"copy\" ready=\"pivot\"" },
        { HEAD JOB("copy", "vdb") MIDDLE DISK("vda", "job=''") TAIL,
          "job=\"active-commit\" ready=\"pivot\"" },
        { HEAD JOB("commit", "vda") MIDDLE DISK("vda", "job=''") TAIL,
          "job=\"active-commit\" ready=\"pivot\"" },
        { HEAD MIDDLE DISK("vda", "job='copy' ready='yes'") DISK("vdb", "job=''") TAIL,
          "job=\"copy\" ready=\"yes\"/job=\"active-commit\" ready=\"pivot\"" },
        { HEAD MIDDLE DISK("vda", "job='' ready='abort'") TAIL,
          "job=\"active-commit\" ready=\"abort\"" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *mended = hv_mend_status(rows[i][0], &error);
        g_assert_no_error(error);
        g_assert_null(strstr(mended, "job=\"\""));
        g_assert_nonnull(strstr(mended, "<monitor path=\"/m\" type=\"unix\"/>"));
        g_auto(GStrv) wanted = g_strsplit(rows[i][1], "/", -1);
        for (char **text = wanted; *text != NULL; text++)
            if (strstr(mended, *text) == NULL)
                g_error("row %zu: '%s' is not in %s", i, *text, mended);
        g_autofree char *again = hv_mend_status(mended, &error);
        g_assert_cmpstr(again, ==, mended);
    }
}

static void
test_left_alone(void)
{
    static const char *const rows[] = {
        HEAD JOB("copy", "vda") MIDDLE DISK("vda", "job='copy' ready='pivot'") TAIL,
        HEAD JOB("commit", "vda") MIDDLE DISK("vda", "job='active-commit'") TAIL,
        HEAD MIDDLE "<disk><target dev='vda'/></disk><disk/>" TAIL,
        HEAD MIDDLE "<disk><mirror job=''/></disk>" TAIL, /* whose? */
        "<domstatus/>",
    };
    static const char *const bad[] = { "", "<domstatus", "<domain><mirror job=''/></domain>" };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *same = hv_mend_status(rows[i], &error);
        g_assert_no_error(error);
        g_assert_cmpstr(same, ==, rows[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(hv_mend_status(bad[i], &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
    }
}

/* ---- a folder of them ---- */

static void
note(const char *path, const GError *error, void *data)
{
    g_autofree char *name = g_path_get_basename(path);

    g_string_append_printf(data, "%s:%s ", name, error != NULL ? "bad" : "mended");
}

static void
put(const char *folder, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void
test_folder(void)
{
    g_autofree char *folder = g_dir_make_tmp("lm-status-XXXXXX", NULL);
    g_autofree char *lost = g_build_filename(folder, "lost.xml", NULL);
    g_autoptr(GString) said = g_string_new(NULL);
    const char *const names[] = { "lost.xml", "fine.xml", "bad.xml", "lost.pid" };
    GStatBuf now;

    put(folder, "lost.xml", HEAD MIDDLE DISK("vda", "job=''") TAIL);
    put(folder, "lost.pid", HEAD MIDDLE DISK("vda", "job=''") TAIL);
    put(folder, "fine.xml", HEAD MIDDLE TAIL);
    hv_mend_status_files(folder, note, said);
    g_assert_cmpstr(said->str, ==, "lost.xml:mended ");
    g_assert_cmpint(g_stat(lost, &now), ==, 0);
    g_assert_cmpint(now.st_mode & 07777, ==, 0600);

    put(folder, "bad.xml", "<domstatus");
    g_string_truncate(said, 0);
    hv_mend_status_files(folder, note, said);
    g_assert_cmpstr(said->str, ==, "bad.xml:bad ");

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(folder, names[i], NULL);
        g_assert_cmpint(g_unlink(path), ==, 0); /* and nothing else is there */
    }
    g_assert_cmpint(g_rmdir(folder), ==, 0);
    g_string_truncate(said, 0);
    hv_mend_status_files(folder, note, said); /* no libvirt here */
    g_assert_cmpstr(said->str, ==, "");
}

static void
test_no_note(void)
{
    g_autofree char *self = g_strdup_printf("%d.1", (int)getpid());

    g_assert_false(status_mend_lost("lm-test-there-is-no-such-vm", self));
    g_assert_false(status_mend_lost("web", "0.0"));
}

#define BELOW(file, image) "'backing-image': {'filename': '" file "'" image "}"
#define DEVICE(qdev, file, image)                                                                \
    "{'device': '', 'qdev': '" qdev "', 'inserted': {'file': '" file "', 'image': {'filename': " \
    "'" file "'" image "}}}"
#define REPLY(devices) "{'return': [" devices "]}"
#define VIRTIO "/machine/peripheral/virtio-disk0/virtio-backend"
#define AS_NODE                                                                          \
    "json:{\\\"driver\\\": \\\"qcow2\\\", \\\"file\\\": {\\\"driver\\\": \\\"file\\\", " \
    "\\\"filename\\\": \\\"/v/old\\\"}}"

/* the same of a long chain: cut off in the middle of a name */
#define CUT                                                                                    \
    "json:{\\\"backing\\\": {\\\"driver\\\": \\\"qcow2\\\", \\\"file\\\": {\\\"filename\\\": " \
    "\\\"/v/b"
#define LONG(node, below)                                                                          \
    "{'qdev': '" VIRTIO "', 'inserted': {'file': '" CUT "', 'node-name': '" node "', 'image': "    \
    "{'filename': '" CUT "', 'full-backing-filename': '" below "', 'backing-image': {'filename': " \
    "'" CUT "', 'full-backing-filename': '/v/base', 'backing-image': {'filename': '/v/base'}}}}}"
#define NODE(name, file) "{'node-name': '" name "', 'file': '" file "'}"

static char *
with_quotes(const char *text)
{
    g_auto(GStrv) parts = text != NULL ? g_strsplit(text, "'", -1) : NULL;

    return parts != NULL ? g_strjoinv("\"", parts) : NULL;
}

/* QEMU's own word of its leaf, where libvirt takes /v/old for it. */
static void
test_leaf(void)
{
    static const struct {
        const char *reply, *leaf;
        bool above;
        const char *nodes;
    } rows[] = {
        { REPLY(DEVICE(VIRTIO, "/v/old", ", " BELOW("/v/base", ""))), "/v/old", false },
        { REPLY(DEVICE(VIRTIO, "/v/base", "")), "/v/base", false }, /* a commit has pivoted */
        { REPLY(DEVICE(VIRTIO, "/v/copy", ", " BELOW("/v/base", ""))), "/v/copy", false },
        { REPLY(DEVICE(VIRTIO, "/v/new", ", " BELOW("/v/old", ", " BELOW("/v/base", "")))),
          "/v/new", true },
        { REPLY(DEVICE(VIRTIO, "/v/new", ", " BELOW("/v/between", ", " BELOW("/v/old", "")))),
          "/v/new", true },
        { REPLY(DEVICE(VIRTIO, "/v/new", ", " BELOW(AS_NODE, ""))), "/v/new", true },
        { REPLY(DEVICE("ide0-0-0", "/v/cd", "") ", " DEVICE(VIRTIO, "/v/copy", "")), "/v/copy",
          false },
        { REPLY(DEVICE("virtio-disk1", "/v/copy", "")), NULL, false },
        { REPLY("{'device': '', 'qdev': '" VIRTIO "'}"), NULL, false },
        { "{'error': {}}", NULL, false },
        { "", NULL, false },
        { REPLY(LONG("libvirt-7-format", "/v/between")), NULL, false, "ask" },
        { REPLY(LONG("libvirt-7-format", "/v/between")), "/v/old", false,
          REPLY(NODE("libvirt-7-format", CUT) ", " NODE("libvirt-7-storage", "/v/old")) },
        { REPLY(LONG("libvirt-9-format", "/v/old")), "/v/new", true,
          REPLY(NODE("libvirt-7-storage", "/v/old") ", " NODE("libvirt-9-storage", "/v/new")) },
        { REPLY(LONG("libvirt-7-format", "/v/x")), NULL, false, REPLY(NODE("other", "/v/old")) },
        { REPLY(LONG("root", "/v/x")), NULL, false, REPLY(NODE("root", CUT)) },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *reply = with_quotes(rows[i].reply);
        bool above = false, cut = false, to_ask = g_strcmp0(rows[i].nodes, "ask") == 0;
        g_autofree char *nodes = to_ask ? NULL : with_quotes(rows[i].nodes);
        g_autofree char *leaf =
            monitor_find_leaf(reply, nodes, "virtio-disk0", "/v/old", &above, &cut);
        if (g_strcmp0(leaf, rows[i].leaf) != 0 || above != rows[i].above || cut != to_ask)
            g_error("row %zu: %s, %s, %s", i, leaf, above ? "above" : "not above",
                    cut ? "cut off" : "whole");
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hypervisor/status/texts", test_texts);
    g_test_add_func("/hypervisor/status/left-alone", test_left_alone);
    g_test_add_func("/hypervisor/status/folder", test_folder);
    g_test_add_func("/hypervisor/status/no-note", test_no_note);
    g_test_add_func("/hypervisor/status/leaf", test_leaf);
    return g_test_run();
}
