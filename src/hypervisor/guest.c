/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the guest's agent tells of the guest.
 */
#include "hypervisor/connection.h"

char *
guest_name(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);

    if (domain == NULL)
        return NULL;
    /* the time-out belongs to libvirt's record of the domain: others must find the default again */
    if (virDomainAgentSetResponseTimeout(domain, (int)CLAMP(budget_s, 1, 3600), 0) < 0) {
        libvirt_refused(domain, error, "limiting the guest agent's time");
        return NULL;
    }
    autolibc char *name = virDomainGetHostname(domain, VIR_DOMAIN_GET_HOSTNAME_AGENT);
    if (name == NULL)
        libvirt_refused(domain, error, "asking the guest for its name");
    virDomainAgentSetResponseTimeout(domain, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_DEFAULT, 0);
    return g_strdup(name);
}
