/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which volumes of a VM do files stand on that no VM has? One walk through each storage domain that
 * holds disks of the VM; all volumes of a disk lie in one.
 */
#include "agent/agent.h"

#include "base/log.h"

/* The volumes of one disk that are asked about */
typedef struct {
    const Domain *domain;
    GPtrArray *volumes;     /* of Volume, borrowed */
    GPtrArray *paths, *own; /* NULL-terminated; own: all of the disk, they do not count */
    char **users;
} Asked;

static void
asked_free(void *p)
{
    Asked *asked = p;

    for (guint i = 0; i < asked->volumes->len; i++)
        g_free(asked->users[i]);
    g_free(asked->users);
    g_ptr_array_unref(asked->volumes);
    g_ptr_array_unref(asked->paths);
    g_ptr_array_unref(asked->own);
    g_free(asked);
}

/* Nobody stands on a leaf; and who is known to use a volume need not be looked for. */
static Asked *
asked_new(const Disk *disk, const Domain *domain)
{
    Asked *asked = g_new0(Asked, 1);
    guint n = disk->volumes->len;

    asked->domain = domain;
    asked->volumes = g_ptr_array_new();
    asked->paths = g_ptr_array_new();
    asked->own = g_ptr_array_new();
    for (guint i = 0; i < n; i++) {
        Volume *volume = disk->volumes->pdata[i];

        g_ptr_array_add(asked->own, volume->path);
        if (i + 1 == n || volume->used_by != NULL)
            continue;
        g_ptr_array_add(asked->volumes, volume);
        g_ptr_array_add(asked->paths, volume->path);
    }
    g_ptr_array_add(asked->own, NULL);
    g_ptr_array_add(asked->paths, NULL);
    asked->users = g_new0(char *, asked->volumes->len + 1);
    return asked;
}

static void
ask(const Vm *vm, GPtrArray *list, const Domain *domain)
{
    g_autoptr(GArray) sets = g_array_new(FALSE, FALSE, sizeof(VolumeUsers));
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < list->len; i++) {
        const Asked *asked = list->pdata[i];
        VolumeUsers set = { (const char *const *)asked->paths->pdata,
                            (const char *const *)asked->own->pdata, asked->users };
        if (asked->domain == domain && asked->volumes->len > 0)
            g_array_append_val(sets, set);
    }
    /* whoever deletes asks again, and insists on an answer */
    if (sets->len > 0 &&
        !volume_find_users(domain, (const VolumeUsers *)(void *)sets->data, sets->len, &error))
        log_debug("VM %s: %s", vm->name, error->message);
}

static void
tell(const Asked *asked)
{
    for (guint k = 0; k < asked->volumes->len; k++)
        if (asked->users[k] != NULL)
            ((Volume *)asked->volumes->pdata[k])->used_by =
                g_strdup_printf("file %s", asked->users[k]);
}

static bool
has_operations(Agent *agent, const char *vm_id)
{
    WITH_LOCK(&agent->lock);
    const AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    return entry == NULL || entry->operations->len > 0;
}

void
agent_find_users(Agent *agent, Vm *vm)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(asked_free);
    g_autoptr(GPtrArray) domains = g_ptr_array_new();

    if (has_operations(agent, vm->id))
        return; /* the operation's own new volumes stand there */
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        Domain *domain =
            disk_is_managed(disk) ? agent_domain(agent, disk_leaf(disk)->path, false, NULL) : NULL;
        if (domain == NULL)
            continue;
        g_ptr_array_add(list, asked_new(disk, domain));
        if (!g_ptr_array_find(domains, domain, NULL))
            g_ptr_array_add(domains, domain);
    }
    for (guint i = 0; i < domains->len; i++)
        ask(vm, list, domains->pdata[i]);
    for (guint i = 0; i < list->len; i++)
        tell(list->pdata[i]);
}
