/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A libvirtd that is killed while it notes the end of a mirror leaves <mirror job=''> behind, which
 * the next one refuses to read ("unknown mirror job type ''", seen with libvirt 9.0): it takes the
 * VM for off while its QEMU runs. With the job's name put back, and that it was pivoting, it takes
 * the VM as one whose pivot it has forgotten, which domain.c knows how to read.
 */
#include "hypervisor/status.h"

#include "base/cleanup.h"
#include "hypervisor/hypervisor.h"
#include "hypervisor/xml.h"

#include <string.h>

/* The job of this disk as the same note has it elsewhere: both words are libvirt's own. */
static char *
job_of(xmlNode *root, const char *target)
{
    xmlNode *row = xml_child(xml_child(root, "blockjobs"), "blockjob");

    for (; row != NULL; row = xml_next(row, "blockjob")) {
        if (!xml_attr_is(xml_child(row, "disk"), "dst", target))
            continue;
        if (xml_attr_is(row, "type", "copy") || xml_attr_is(row, "type", "active-commit"))
            return xml_attr(row, "type");
    }
    return g_strdup("active-commit");
}

static bool
mend_disk(xmlNode *root, xmlNode *disk)
{
    xmlNode *mirror = xml_child(disk, "mirror");
    g_autofree char *target = xml_attr(xml_child(disk, "target"), "dev");

    if (mirror == NULL || target == NULL || !xml_attr_is(mirror, "job", ""))
        return false;
    g_autofree char *job = job_of(root, target);
    xml_set(mirror, "job", job);
    if (!xml_attr_is(mirror, "ready", "abort"))
        xml_set(mirror, "ready", "pivot");
    return true;
}

char *
hv_mend_status(const char *xml, GError **error)
{
    bool changed = false;
    g_autoptr(xmlDoc) doc = xml_read(xml, "domstatus", error);

    if (doc == NULL)
        return NULL;
    xmlNode *root = xmlDocGetRootElement(doc);
    xmlNode *disk = xml_child(xml_child(xml_child(root, "domain"), "devices"), "disk");
    for (; disk != NULL; disk = xml_next(disk, "disk"))
        changed |= mend_disk(root, disk);
    return changed ? xml_write(doc) : g_strdup(xml);
}

/* The note is as good as new, or it is not touched. *ret_mended: it was not. */
static bool
mend_file(const char *path, bool *ret_mended, GError **error)
{
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    g_autoptr(GError) problem = NULL;

    *ret_mended = false;
    if (!g_file_get_contents(path, &before, NULL, &problem))
        return error_set(error, ERR_STORAGE, "%s", problem->message);
    if ((after = hv_mend_status(before, error)) == NULL) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    if (strcmp(before, after) == 0)
        return true;
    if (!g_file_set_contents_full(path, after, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &problem))
        return error_set(error, ERR_STORAGE, "%s", problem->message);
    *ret_mended = true;
    return true;
}

void
hv_mend_status_files(const char *folder, HvMendFunc each, void *data)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autoptr(GError) error = NULL;
        bool mended = false;
        if (!g_str_has_suffix(name, ".xml"))
            continue;
        if (!mend_file(path, &mended, &error) || mended)
            each(path, error, data);
    }
}

/* Seen as its QEMU sees it: the agent may have another view of the file system. */
bool
status_mend_lost(const char *name, const char *instance)
{
    unsigned pid = (unsigned)g_ascii_strtoull(instance, NULL, 10);
    g_autofree char *path = g_strdup_printf("/proc/%u/root" HV_STATUS_DIR "/%s.xml", pid, name);
    bool mended = false;

    return mend_file(path, &mended, NULL);
}
