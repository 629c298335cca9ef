/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A password for a running VM's display, for a while.
 */
#include "hypervisor/connection.h"
#include "hypervisor/xml.h"

#include <libvirt/virterror.h>

/* libvirt reads it as UTC. */
static char *
valid_to(unsigned seconds)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autoptr(GDateTime) then = g_date_time_add_seconds(now, seconds);

    return g_date_time_format(then, "%Y-%m-%dT%H:%M:%S");
}

static char *
element_text(xmlDoc *doc, xmlNode *node)
{
    xmlBuffer *buffer = xmlBufferCreate();
    char *text;

    xmlNodeDump(buffer, doc, node, 0, 0);
    text = g_strdup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}

static bool
set_password(virDomainPtr domain, xmlDoc *doc, xmlNode *graphics, const char *password,
             unsigned seconds, GError **error)
{
    g_autofree char *until = valid_to(seconds);

    xml_set(graphics, "passwd", password);
    xml_set(graphics, "passwdValidTo", until);
    g_autofree char *text = element_text(doc, graphics);
    return virDomainUpdateDeviceFlags(domain, text, VIR_DOMAIN_AFFECT_LIVE) == 0 ||
           libvirt_refused(domain, error,
                           "setting the password of its display (possible if its definition "
                           "gives it one: <graphics passwd='...'>)");
}

bool
ticket_set(Hypervisor *hv, const char *vm_id, const char *password, unsigned seconds,
           GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);

    if (domain == NULL)
        return false;
    if (libvirt_is_off(domain))
        return error_set(error, ERR_REFUSED, "VM '%s' does not run, so its display is off",
                         virDomainGetName(domain));
    autolibc char *xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_SECURE);
    if (xml == NULL)
        return libvirt_refused(domain, error, "reading its display");
    g_autoptr(xmlDoc) doc = xml_read(xml, "domain", error);
    if (doc == NULL)
        return false;
    xmlNode *graphics = xml_child(xml_child(xmlDocGetRootElement(doc), "devices"), "graphics");
    if (graphics == NULL)
        return error_set(error, ERR_REFUSED, "VM '%s' has no display", virDomainGetName(domain));
    return set_password(domain, doc, graphics, password, seconds, error);
}
