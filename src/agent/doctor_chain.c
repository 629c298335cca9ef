/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: the chain of one disk, as its headers tell it. A walk that goes on where
 * qcow2_chain_walk() refuses, since it is to say what is wrong and where.
 */
#include "agent/doctor.h"

#include "base/text.h"
#include "qcow2/bitmaps.h"
#include "storage/salvage.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static void
chain_link_free(void *p)
{
    ChainLink *link = p;

    g_free(link->path);
    g_free(link->format);
    qcow2_header_free(link->header);
    g_free(link);
}

/* NULL: there is no such file, or it cannot be seen. */
static ChainLink *
chain_link_new(const char *path, const char *format, char **ret_away)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        if (storage_is_away(errno) && *ret_away == NULL)
            *ret_away = g_strdup(path);
        return NULL;
    }
    ChainLink *link = g_new0(ChainLink, 1);
    link->path = g_strdup(path);
    link->format = g_strdup(format);
    link->device = st.st_dev;
    link->inode = st.st_ino;
    link->size = ((uint64_t)st.st_size + 511) / 512 * 512;
    /* a format that is not told is looked at as qcow2 to go on, and said to be missing */
    if (g_strcmp0(format, "raw") != 0)
        link->header = qcow2_header_read(path, NULL);
    if (link->header != NULL)
        link->size = link->header->virtual_size;
    return link;
}

static bool
has_link(GPtrArray *links, const ChainLink *other)
{
    for (guint i = 0; i < links->len; i++) {
        const ChainLink *link = links->pdata[i];
        if (link->device == other->device && link->inode == other->inode)
            return true;
    }
    return false;
}

GPtrArray *
chain_links(const char *leaf, const char *format, char **ret_away)
{
    GPtrArray *links = g_ptr_array_new_with_free_func(chain_link_free);
    g_autofree char *path = g_strdup(leaf);

    while (path != NULL && links->len < QCOW2_MAX_DEPTH) {
        ChainLink *link = chain_link_new(path, format, ret_away);
        if (link == NULL)
            break;
        if (has_link(links, link)) {
            chain_link_free(link);
            break;
        }
        g_ptr_array_add(links, link);
        g_clear_pointer(&path, g_free);
        if (link->header != NULL && link->header->backing_file != NULL)
            path = qcow2_backing_path(link->path, link->header->backing_file, NULL);
        format = link->header != NULL ? link->header->backing_format : NULL;
    }
    return links;
}

ChainLook *
chain_look_new(const Patient *patient, const HvDisk *disk)
{
    ChainLook *look = g_new0(ChainLook, 1);
    const Domain *domain = agent_domain(patient->agent, disk->source, false, NULL);
    g_autoptr(GPtrArray) layers =
        qcow2_chain_walk(disk->source, disk->format, domain != NULL ? domain->path : NULL, NULL);

    look->hv = disk;
    look->links = chain_links(disk->source, disk->format, &look->away);
    look->whole = layers != NULL && layers->len == look->links->len;
    return look;
}

void
chain_look_free(void *p)
{
    ChainLook *look = p;

    g_ptr_array_unref(look->links);
    g_free(look->away);
    g_free(look);
}

const ChainLink *
chain_link(const ChainLook *look, const char *path)
{
    struct stat st;

    if (path == NULL || stat(path, &st) < 0)
        return NULL;
    for (guint i = 0; i < look->links->len; i++) {
        const ChainLink *link = look->links->pdata[i];
        if (link->device == st.st_dev && link->inode == st.st_ino)
            return link;
    }
    return NULL;
}

bool
doctor_is_off(const HvDomain *hv)
{
    return hv->instance == NULL && hv->state == VM_DOWN;
}

/* ---- what is said ---- */

/* What the manifest says of a volume: it was told by whoever named it once. */
static const char *
recorded_format(const Patient *patient, const char *path)
{
    for (guint i = 0; patient->stored != NULL && i < patient->stored->disks->len; i++) {
        Disk *disk = patient->stored->disks->pdata[i];
        const Volume *volume = disk_volume_by_path(disk, path);
        if (volume != NULL)
            return volume->format;
    }
    return NULL;
}

/* "" = not at all */
static char *
in_trash(const Domain *domain, const char *path, unsigned *ret_n)
{
    g_autoptr(GPtrArray) list = domain != NULL ? trash_list(domain, NULL) : NULL;
    g_autofree char *name = g_path_get_basename(path);
    char *found = NULL;

    *ret_n = 0;
    for (guint i = 0; list != NULL && i < list->len; i++) {
        const TrashEntry *entry = list->pdata[i];
        if (!g_str_equal(entry->name, name) || (*ret_n)++ > 0)
            continue;
        found = g_strdup(entry->path);
    }
    return found;
}

static void
say_missing(const Patient *patient, const ChainLook *look, const char *from, const char *path)
{
    const char *target = look->hv->target;
    Finding *finding = doctor_find(patient, DIAG_MISSING_PARENT, target, path);
    unsigned n = 0;
    g_autofree char *kept = in_trash(agent_domain(patient->agent, path, false, NULL), path, &n);

    if (from != NULL)
        finding_say(finding,
                    "VM '%s', disk %s: %s stands on %s, which does not exist: without it the disk "
                    "cannot be read",
                    patient->hv->name, target, from, path);
    else
        finding_say(finding, "VM '%s': the volume %s of disk %s does not exist", patient->hv->name,
                    path, target);
    g_autofree char *file = from != NULL ? shell_word(from) : NULL,
                    *name = shell_word(patient->hv->name);
    if (n == 1)
        finding_can(finding, FIX_SAFE, "puts it back from the trash, where it is %s", kept);
    else if (from != NULL)
        finding_help(finding,
                     "find that very file (%s) and put it there. If it has moved: qemu-img rebase "
                     "-u -b NEWPATH -F FORMAT %s, while the VM is off",
                     n > 1 ? "the trash has several of that name" : "a backup, another directory",
                     file);
    else
        finding_help(finding,
                     "find that very file and put it there, or take the disk out of the "
                     "VM: virsh edit %s",
                     name);
}

static void
look_for_next(const Patient *patient, const ChainLook *look, const ChainLink *link)
{
    const Qcow2Header *header = link->header;
    g_autoptr(GError) problem = NULL;
    g_autofree char *path = qcow2_backing_path(link->path, header->backing_file, &problem);

    if (path == NULL) {
        Finding *finding = doctor_find(patient, DIAG_OUTSIDE_PATH, look->hv->target, link->path);
        finding_say(finding, "VM '%s', disk %s: %s", patient->hv->name, look->hv->target,
                    problem->message);
        finding_help(finding, "nothing is done to the disk; a chain of plain files can be managed");
        return;
    }
    const ChainLink *next = chain_link(look, path);
    if (next == NULL && doctor_is_missing(patient, path)) {
        say_missing(patient, look, link->path, path);
        return;
    }
    guint at = 0, below = 0;
    if (next == NULL || !g_ptr_array_find(look->links, next, &below) ||
        !g_ptr_array_find(look->links, link, &at) || below > at)
        return;
    Finding *finding = doctor_find(patient, DIAG_LOOP, look->hv->target, link->path);
    finding_say(finding,
                "VM '%s', disk %s: %s stands on %s, which stands on it again: the disk cannot be "
                "opened",
                patient->hv->name, look->hv->target, link->path, path);
    finding_help(finding,
                 "find out which of the two names the wrong file, and correct that one: qemu-img "
                 "rebase -u -b RIGHT -F FORMAT FILE, while the VM is off");
}

static bool
can_rewrite(const Patient *patient, Finding *finding, const ChainLink *link)
{
    if (doctor_is_off(patient->hv) && !volume_is_open(link->path))
        return true;
    finding_help(finding, "it can be corrected while VM '%s' is off", patient->hv->name);
    return false;
}

/* The format is told by who names the file, never guessed by looking at what the guest may have
 * written; but it may be seen to be impossible. */
static void
look_at_format(const Patient *patient, const ChainLook *look, const ChainLink *link)
{
    const char *named = link->header->backing_format, *target = look->hv->target;
    g_autofree char *path = qcow2_backing_path(link->path, link->header->backing_file, NULL);
    g_autoptr(GError) problem = NULL;

    if (path == NULL || !g_file_test(path, G_FILE_TEST_EXISTS))
        return;
    const char *known = recorded_format(patient, path);
    g_autoptr(Qcow2Header) below = qcow2_header_read(path, NULL);
    bool missing = named == NULL, wrong = false;
    if (!missing && g_str_equal(named, "qcow2"))
        wrong = below == NULL && g_strcmp0(known, "raw") == 0;
    else if (!missing && g_str_equal(named, "raw"))
        wrong = below != NULL;
    if (!missing && !wrong)
        return;
    Finding *finding = doctor_find(patient, DIAG_BACKING_FORMAT, target, link->path);
    if (missing)
        finding_say(finding,
                    "VM '%s', disk %s: the header of %s does not say of which format its backing "
                    "file %s is; guessing it is unsafe, so nothing is done to the disk",
                    patient->hv->name, target, link->path, path);
    else
        finding_say(finding,
                    "VM '%s', disk %s: the header of %s says that its backing file %s is %s, but "
                    "it looks like %s",
                    patient->hv->name, target, link->path, path, named,
                    below != NULL ? "qcow2" : "raw");
    bool sure = known != NULL && g_str_equal(known, "qcow2") == (below != NULL);
    if (!sure)
        finding_help(finding,
                     "if you know the format (raw or qcow2), say it while the VM is off: qemu-img "
                     "rebase -u -b %s -F FORMAT %s",
                     link->header->backing_file, link->path);
    else if (can_rewrite(patient, finding, link))
        finding_can(finding, FIX_SAFE, "writes %s, which the manifest recorded, into the header",
                    known);
}

static void
look_at_place(const Patient *patient, const ChainLook *look, const ChainLink *link)
{
    const char *target = look->hv->target;
    g_autofree char *path = qcow2_backing_path(link->path, link->header->backing_file, NULL);
    const Domain *domain = agent_domain(patient->agent, look->hv->source, false, NULL);

    if (path == NULL)
        return;
    if (domain != NULL && !domain_holds(domain, path)) {
        Finding *finding = doctor_find(patient, DIAG_OUTSIDE_PATH, target, link->path);
        finding_say(finding,
                    "VM '%s', disk %s: %s stands on %s, which lies outside the storage domain %s: "
                    "nothing is done to the disk",
                    patient->hv->name, target, link->path, path, domain->path);
        finding_help(finding, "configure a storage domain that holds both ([storage NAME] path=)");
        return;
    }
    if (!g_path_is_absolute(link->header->backing_file) || !look->whole)
        return;
    Finding *finding = doctor_find(patient, DIAG_ABSOLUTE_PATH, target, link->path);
    finding_say(finding,
                "VM '%s', disk %s: %s names its backing file by the absolute path %s: the chain "
                "breaks when the directory is moved, or mounted elsewhere",
                patient->hv->name, target, link->path, path);
    if (can_rewrite(patient, finding, link))
        finding_can(finding, FIX_SAFE, "writes the relative path into the header");
}

static void
look_at_size(const Patient *patient, const ChainLook *look, const ChainLink *link,
             const ChainLink *below)
{
    if (link->size >= below->size)
        return;
    Finding *finding = doctor_find(patient, DIAG_SIZE_SHRINK, look->hv->target, link->path);
    finding_say(
        finding,
        "VM '%s', disk %s: %s has %" G_GUINT64_FORMAT " bytes, %s below it %" G_GUINT64_FORMAT
        ": the guest cannot see the end of its disk",
        patient->hv->name, look->hv->target, link->path, link->size, below->path, below->size);
    finding_help(finding,
                 "if nobody made it smaller on purpose, do not let the guest write: what lay "
                 "beyond is still in %s. Take a new overlay of that in the right size: qemu-img "
                 "create -f qcow2 -b %s -F %s NEW",
                 below->path, below->path, below->format != NULL ? below->format : "FORMAT");
}

static void
look_at_bitmaps(const Patient *patient, const ChainLook *look, const ChainLink *link)
{
    g_auto(GStrv) names = NULL;

    if (!doctor_is_off(patient->hv) || volume_is_open(link->path))
        return; /* in use is what they should be */
    names = qcow2_stale_bitmaps(link->path, NULL);
    if (names == NULL || *names == NULL)
        return;
    g_autofree char *all = g_strjoinv(", ", names);
    Finding *finding = doctor_find(patient, DIAG_STALE_BITMAP, look->hv->target, link->path);
    finding_say(finding,
                "VM '%s', disk %s: %s has dirty bitmaps that were not closed (%s): no backup can "
                "use them, and some merges are refused because of them",
                patient->hv->name, look->hv->target, link->path, all);
    finding_can(finding, FIX_SAFE,
                "removes them; the next backup must be a full one, as it must be now");
}

/* It could not be read when the chain was looked at: now all is well, but what is below is not
 * known. */
static void
note_unread(const Patient *patient, const char *path)
{
    if (patient->away->len == 0)
        g_string_printf(patient->away, "its storage could not be read: %s", path);
}

/* Without a header: raw, or not what it is said to be. */
static void
look_at_bare(const Patient *patient, const ChainLook *look, const ChainLink *link)
{
    g_autoptr(GError) problem = NULL;

    if (g_strcmp0(link->format, "qcow2") != 0 ||
        (link != look->links->pdata[0] &&
         g_strcmp0(recorded_format(patient, link->path), "raw") == 0))
        return; /* the last is said of the header that names it */
    qcow2_header_free(qcow2_header_read(link->path, &problem));
    if (problem == NULL) {
        note_unread(patient, link->path);
        return;
    }
    Finding *finding = doctor_find(patient, DIAG_DAMAGED_VOLUME, look->hv->target, link->path);
    finding_say(finding, "VM '%s', disk %s: %s", patient->hv->name, look->hv->target,
                problem->message);
    g_autofree char *file = shell_word(link->path);
    finding_help(finding,
                 "do not start the VM; copy the file, then look at it: qemu-img check %s. A backup "
                 "of that volume helps",
                 file);
}

static void
look_at_link(const Patient *patient, const ChainLook *look, guint i)
{
    const ChainLink *link = look->links->pdata[i];

    if (link->header == NULL) {
        look_at_bare(patient, look, link);
        return;
    }
    if ((link->header->features & QCOW2_CORRUPT) != 0) {
        Finding *finding = doctor_find(patient, DIAG_DAMAGED_VOLUME, look->hv->target, link->path);
        finding_say(finding, "VM '%s', disk %s: QEMU marked %s as corrupt", patient->hv->name,
                    look->hv->target, link->path);
        g_autofree char *file = shell_word(link->path);
        finding_help(finding, "copy the file, then: qemu-img check -r all %s, while the VM is off",
                     file);
    }
    look_at_bitmaps(patient, look, link);
    if (link->header->backing_file == NULL)
        return;
    look_for_next(patient, look, link);
    look_at_format(patient, look, link);
    look_at_place(patient, look, link);
    if (i + 1 < look->links->len)
        look_at_size(patient, look, link, look->links->pdata[i + 1]);
}

void
doctor_look_chain(const Patient *patient, const ChainLook *look)
{
    if (look->links->len == 0 && doctor_is_missing(patient, look->hv->source))
        say_missing(patient, look, NULL, look->hv->source);
    for (guint i = 0; i < look->links->len; i++)
        look_at_link(patient, look, i);
    if (look->away != NULL)
        note_unread(patient, look->away);
}
