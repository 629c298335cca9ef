/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * In which storage domain is a VM's manifest (inventory.c)? Its disks may lie in several, and one
 * of them be away.
 */
#include "agent/inventory.h"

#include "base/text.h"

/* The disk is not there, and with it perhaps the manifest: whoever began another one on the storage
 * of the next disk would have two, and in each snapshots that the other does not know. */
static char *
why_home_is_not_known(const HvDomain *hv, const HvDisk *disk, const char *why)
{
    g_autofree char *name = shell_word(hv->name);

    return g_strdup_printf(
        "disk %s: %s; is its storage mounted? What is known of the VM may lie "
        "there, so nothing is done to it. If that disk is gone for ever, take it "
        "out of the VM: virsh detach-disk %s %s --config",
        disk->target, why, name, disk->target);
}

static bool
has_chain(const GPtrArray *views)
{
    for (guint i = 0; i < views->len; i++)
        if (((const DiskView *)views->pdata[i])->layers != NULL)
            return true;
    return false;
}

typedef struct {
    Domain *first;         /* of the first disk that can be managed */
    const HvDisk *missing; /* before that */
    const char *why_missing;
    const Domain *missing_domain; /* NULL = nobody knows */
    const Domain *asked;
} HomeSearch;

/* No: its file is there, in a folder that is no storage domain and cannot become one. */
static bool
may_hide_manifest(const HvDisk *disk)
{
    g_autofree char *folder = g_path_get_dirname(disk->source);
    g_autofree char *mark = g_build_filename(folder, ".livemerge", NULL);

    return access(disk->source, F_OK) != 0 || access(mark, F_OK) == 0;
}

/* Is the manifest where this disk lies? False with an error if that cannot be read. */
static bool
ask_home(Agent *agent, const AgentVm *entry, const HvDisk *disk, const DiskView *view,
         HomeSearch *search, Domain **ret_home, Vm **ret_stored, GError **error)
{
    bool there = view->domain != NULL;
    Domain *domain = there ? view->domain : agent_domain(agent, disk->source, false, NULL);
    g_autoptr(GError) problem = NULL;

    if (domain != NULL && domain != search->asked)
        *ret_stored = manifest_look(domain, entry->id, &problem);
    search->asked = domain;
    if (*ret_stored != NULL) {
        *ret_home = domain;
    } else if (there && problem != NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    } else if (!there && search->missing == NULL && may_hide_manifest(disk)) {
        search->missing = disk;
        search->why_missing = view->why;
        search->missing_domain = domain;
    } else if (view->layers != NULL && search->first == NULL) {
        search->first = domain;
    }
    return true;
}

bool
agent_find_home(Agent *agent, const AgentVm *entry, const HvDomain *hv, const GPtrArray *views,
                Domain **ret_home, Vm **ret_stored, char **ret_why, GError **error)
{
    HomeSearch search = { 0 };

    if (!has_chain(views))
        return true;
    for (guint i = 0; i < hv->disks->len && *ret_home == NULL; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        const DiskView *view = views->pdata[i];
        g_autofree char *never = agent_why_not_managed(disk);
        if (never != NULL)
            continue;
        if (search.missing != NULL && search.first == NULL && view->domain != NULL &&
            view->domain != search.missing_domain) {
            *ret_why = why_home_is_not_known(hv, search.missing, search.why_missing);
            return true;
        }
        if (!ask_home(agent, entry, disk, view, &search, ret_home, ret_stored, error))
            return false;
    }
    if (*ret_home == NULL)
        *ret_home = search.first;
    return true;
}
