/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A ticket for a VM's display: asked of its host at once. It is no job, and is written down
 * nowhere.
 */
#include "flow/core.h"

#define EVENT_TICKET 164

bool
manager_vm_ticket(Manager *m, const char *vm_id, const char *password, unsigned seconds,
                  const char *correlation_id, const char *user, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(m, vm_id, error);
    Host *host = vm != NULL ? host_by_name(m, vm->host) : NULL;
    g_autoptr(json_t) body = json_pack("{s:s, s:i}", "value", password, "expiry", (int)seconds);
    g_autoptr(json_t) answer = NULL;

    if (vm == NULL)
        return false;
    if (host == NULL)
        return error_set(error, ERR_UNREACHABLE, "VM '%s' is on no host that is configured",
                         vm->name);
    g_autofree char *path = g_strdup_printf("/v1/vms/%s/ticket", vm->id);
    if (!host_call(host, "POST", path, body, &answer, error))
        return false;
    manager_event(m, EVENT_TICKET, "normal", vm->id, NULL, NULL, correlation_id, user,
                  "User %s initiated console session for VM '%s'", user != NULL ? user : "SYSTEM",
                  vm->name);
    return true;
}
