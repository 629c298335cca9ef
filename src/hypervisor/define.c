/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Defining a VM after another one, and undefining.
 */
#include "hypervisor/connection.h"

#include <libvirt/virterror.h>

bool
define_clone(Hypervisor *hv, const char *vm_id, const HvClone *clone, GPtrArray *left,
             GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);

    if (domain == NULL)
        return false;
    autolibc char *present =
        virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
    if (present == NULL)
        return libvirt_refused(domain, error, "reading its definition");
    g_autofree char *xml =
        hv_edit_clone(clone->xml != NULL ? clone->xml : present, present, clone, left, error);
    if (xml == NULL) {
        g_prefix_error(error, "VM '%s' (%s): ", virDomainGetName(domain), vm_id);
        return false;
    }
    g_autoptr(virDomain) defined = virDomainDefineXMLFlags(virDomainGetConnect(domain), xml, 0);
    return defined != NULL || libvirt_refused(domain, error, "defining '%s' after it", clone->name);
}

bool
define_undo(Hypervisor *hv, const char *vm_id, bool all, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, &why);
    unsigned flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                     VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;

    flags |= all ? VIR_DOMAIN_UNDEFINE_NVRAM | VIR_DOMAIN_UNDEFINE_TPM
                 : VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | VIR_DOMAIN_UNDEFINE_KEEP_TPM;
    if (domain != NULL) {
        int active = virDomainIsActive(domain);
        if (active == 1) /* undefined, it would live on as a transient one */
            return error_set(error, ERR_REFUSED, "VM '%s' (%s) is not off; it was not removed",
                             virDomainGetName(domain), vm_id);
        if (active < 0)
            libvirt_refused(domain, &why, "asking whether it runs");
        else if (virDomainUndefineFlags(domain, flags) == 0)
            libvirt_forget_domain((Libvirt *)hv, vm_id);
        else
            libvirt_refused(domain, &why, "removing its definition");
    }
    if (why == NULL || g_error_matches(why, ERR, ERR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}
