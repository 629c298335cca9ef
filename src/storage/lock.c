/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/lockfile.h"
#include "storage/domain.h"

int
vm_start_lock(const Domain *domain, const char *vm_id, unsigned budget_ms, GError **error)
{
    g_autofree char *file = domain_vm_file(domain, vm_id, "lock", error);
    g_autofree char *what = NULL;

    if (file == NULL)
        return -1;
    what = g_strdup_printf("start lock of VM %s", vm_id);
    return lockfile_wait(file, what, budget_ms, error);
}
