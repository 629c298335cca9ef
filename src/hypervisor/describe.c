/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What people call a VM, and what its host is.
 */
#include "hypervisor/connection.h"

#include <libvirt/virterror.h>
#include <string.h>

/* ---- the VM ---- */

bool
domain_rename(Hypervisor *hv, const char *vm_id, const char *name, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autoptr(GError) why = NULL;

    if (domain == NULL)
        return false;
    bool done = virDomainRename(domain, name, 0) == 0 ||
                libvirt_refused(domain, &why, "giving it the name '%s'", name);
    libvirt_forget_domain((Libvirt *)hv, vm_id); /* it knows the old one */
    if (why != NULL)
        g_propagate_error(error, g_steal_pointer(&why));
    return done;
}

static bool
set_text(virDomainPtr domain, int which, const char *text, const char *doing, GError **error)
{
    unsigned flags = VIR_DOMAIN_AFFECT_CONFIG;

    if (virDomainIsActive(domain) == 1)
        flags |= VIR_DOMAIN_AFFECT_LIVE;
    return virDomainSetMetadata(domain, which, *text != '\0' ? text : NULL, NULL, NULL, flags) ==
               0 ||
           libvirt_refused(domain, error, "%s", doing);
}

bool
domain_describe(Hypervisor *hv, const char *vm_id, const char *description, const char *title,
                GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);

    return domain != NULL &&
           set_text(domain, VIR_DOMAIN_METADATA_DESCRIPTION, description,
                    "changing its description", error) &&
           set_text(domain, VIR_DOMAIN_METADATA_TITLE, title,
                    "changing its comment (libvirt's title)", error);
}

/* ---- the host ---- */

/* Of the first processor; the others are mostly the same. */
static char *
cpu_name(void)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL))
        return NULL;
    const char *line = strstr(text, "model name");
    const char *name = line != NULL ? strchr(line, ':') : NULL;
    if (name == NULL)
        return NULL;
    char *cut = g_strndup(name + 1, strcspn(name + 1, "\n"));
    return g_strstrip(cut);
}

static char *
libvirt_version(virConnectPtr conn)
{
    unsigned long n = 0;

    if (virConnectGetLibVersion(conn, &n) < 0)
        return NULL;
    return g_strdup_printf("%lu.%lu.%lu", n / 1000000, n / 1000 % 1000, n % 1000);
}

bool
host_look(Hypervisor *hv, HvHost *ret_host, GError **error)
{
    g_autoptr(virConnect) conn = libvirt_conn((Libvirt *)hv, error);
    virNodeInfo info = { 0 };

    if (conn == NULL)
        return false;
    if (virNodeGetInfo(conn, &info) < 0)
        return error_set(error, ERR_HYPERVISOR, "asking what the host is: %s",
                         virGetLastErrorMessage());
    *ret_host = (HvHost){ .cpu = cpu_name(),
                          .memory = (uint64_t)info.memory * 1024,
                          .sockets = info.nodes * info.sockets,
                          .cores = info.cores,
                          .threads = info.threads,
                          .mhz = info.mhz,
                          .libvirt = libvirt_version(conn) };
    return true;
}
