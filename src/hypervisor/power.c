/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Starting and stopping a VM.
 */
#include "hypervisor/connection.h"

#include <libvirt/virterror.h>

/* Who was not let in does not know: a libvirtd that is killed in the last moment of a start comes
 * back with the guest paused, and lets nobody in (seen with libvirt 9.0). */
static bool
is_on(virDomainPtr domain, const GError *why)
{
    return !g_error_matches(why, ERR, ERR_BUSY) && virDomainIsActive(domain) == 1;
}

bool
power_start(Hypervisor *hv, const char *vm_id, bool paused, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autoptr(GError) why = NULL;

    if (domain == NULL)
        return false;
    if (virDomainCreateWithFlags(domain, paused ? VIR_DOMAIN_START_PAUSED : 0) == 0)
        return true;
    libvirt_refused(domain, &why, "starting it");
    if (is_on(domain, why))
        return true; /* somebody else was faster */
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
power_restore(Hypervisor *hv, const char *vm_id, const char *memory, const char *const *targets,
              const char *const *sources, const char *const *formats, unsigned n, bool paused,
              GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    virConnectPtr connect = domain != NULL ? virDomainGetConnect(domain) : NULL;
    g_autofree char *edited = NULL;
    g_autoptr(GError) why = NULL;

    if (domain == NULL)
        return false;
    autolibc char *xml =
        virDomainSaveImageGetXMLDesc(connect, memory, VIR_DOMAIN_SAVE_IMAGE_XML_SECURE);
    if (xml == NULL)
        return libvirt_refused(domain, error, "reading the memory in %s", memory);
    /* what is in there names the volumes of that day */
    if ((edited = hv_edit_sources(xml, targets, sources, formats, n, error)) == NULL)
        return false;
    if (virDomainRestoreFlags(connect, memory, edited,
                              paused ? VIR_DOMAIN_SAVE_PAUSED : VIR_DOMAIN_SAVE_RUNNING) == 0)
        return true;
    libvirt_refused(domain, &why, "going on from the memory in %s", memory);
    if (is_on(domain, why))
        return true; /* somebody else was faster */
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static int
ask(virDomainPtr domain, HvPower how, const char **ret_doing)
{
    switch (how) {
    case HV_POWER_OFF:
        *ret_doing = "powering it off";
        return virDomainDestroyFlags(domain, VIR_DOMAIN_DESTROY_DEFAULT);
    case HV_POWER_SHUTDOWN:
        *ret_doing = "asking it to shut down";
        return virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_DEFAULT);
    case HV_POWER_REBOOT:
        *ret_doing = "asking it to reboot";
        return virDomainReboot(domain, VIR_DOMAIN_REBOOT_DEFAULT);
    case HV_POWER_RESET:
        *ret_doing = "resetting it";
        return virDomainReset(domain, 0);
    case HV_POWER_SAVE:
        *ret_doing = "saving its memory";
        return virDomainManagedSave(domain, 0);
    case HV_POWER_FORGET:
        *ret_doing = "throwing away its saved memory";
        return virDomainManagedSaveRemove(domain, 0);
    }
    g_assert_not_reached();
}

bool
power_ask(Hypervisor *hv, const char *vm_id, HvPower how, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    const char *doing = NULL;

    if (domain == NULL)
        return false;
    return ask(domain, how, &doing) >= 0 || libvirt_refused(domain, error, "%s", doing);
}
