/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Block jobs. libvirt allows one a disk.
 */
#include "hypervisor/connection.h"
#include "hypervisor/xml.h"

#include <libvirt/virterror.h>

/* Relative names in the headers stay relative where libvirt can keep them, so that a domain's
 * directory can be moved. An active commit writes no header. */
bool
jobs_commit_start(Hypervisor *hv, const char *vm_id, const char *disk, const char *base,
                  const char *top, uint64_t bandwidth, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    unsigned flags = VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES;
    unsigned kind = top == NULL ? VIR_DOMAIN_BLOCK_COMMIT_ACTIVE : VIR_DOMAIN_BLOCK_COMMIT_RELATIVE;

    if (domain == NULL)
        return false;
    events_forget_reason((Libvirt *)hv, vm_id, disk);
    int rc = virDomainBlockCommit(domain, disk, base, top, bandwidth, flags | kind);
    if (rc < 0 && top != NULL &&
        libvirt_error_is(VIR_ERR_OPERATION_INVALID, "can't keep relative backing relationship"))
        rc = virDomainBlockCommit(domain, disk, base, top, bandwidth, flags);
    return rc == 0 || libvirt_refused(domain, error, "disk %s: starting to commit %s into %s", disk,
                                      top != NULL ? top : "its leaf", base);
}

static char *
copy_xml(const char *dest)
{
    g_autoptr(xmlDoc) doc = xmlNewDoc(BAD_CAST "1.0");
    xmlNode *disk = xmlNewNode(NULL, BAD_CAST "disk");

    xmlDocSetRootElement(doc, disk);
    xml_set(disk, "type", "file");
    xml_set(xmlNewChild(disk, NULL, BAD_CAST "driver", NULL), "type", "qcow2");
    xml_set(xmlNewChild(disk, NULL, BAD_CAST "source", NULL), "file", dest);
    return xml_write(doc);
}

bool
jobs_copy_start(Hypervisor *hv, const char *vm_id, const char *disk, const char *dest, bool shallow,
                uint64_t bandwidth, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autofree char *xml = copy_xml(dest);
    unsigned flags = VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB |
                     (shallow ? VIR_DOMAIN_BLOCK_COPY_SHALLOW : 0);
    virTypedParameter limit = { .field = VIR_DOMAIN_BLOCK_COPY_BANDWIDTH,
                                .type = VIR_TYPED_PARAM_ULLONG,
                                .value.ul = bandwidth };

    if (domain == NULL)
        return false;
    events_forget_reason((Libvirt *)hv, vm_id, disk);
    return virDomainBlockCopy(domain, disk, xml, &limit, bandwidth != 0 ? 1 : 0, flags) == 0 ||
           libvirt_refused(domain, error, "disk %s: starting to copy it to %s", disk, dest);
}

static HvJobType
job_type(int type)
{
    switch (type) {
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT:
        return HV_JOB_COMMIT;
    case VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT:
        return HV_JOB_ACTIVE_COMMIT;
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
        return HV_JOB_COPY;
    case VIR_DOMAIN_BLOCK_JOB_TYPE_PULL:
        return HV_JOB_PULL;
    default:
        return HV_JOB_OTHER;
    }
}

bool
jobs_look(Hypervisor *hv, const char *vm_id, const char *disk, HvJob *ret_job, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autoptr(GError) why = NULL;
    virDomainBlockJobInfo info = { 0 };

    if (domain == NULL)
        return false;
    int found =
        virDomainGetBlockJobInfo(domain, disk, &info, VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES);
    if (found < 0) {
        libvirt_refused(domain, &why, "disk %s: asking for its block job", disk);
        if (!libvirt_is_off(domain)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        found = 0; /* jobs end with the process */
    }
    *ret_job = (HvJob){ .type = HV_JOB_NONE };
    if (found > 0)
        *ret_job = (HvJob){ .type = job_type(info.type),
                            .current = info.cur,
                            .end = info.end,
                            .bandwidth = info.bandwidth };
    return true;
}

bool
jobs_set_bandwidth(Hypervisor *hv, const char *vm_id, const char *disk, uint64_t bandwidth,
                   GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);

    if (domain == NULL)
        return false;
    return virDomainBlockJobSetSpeed(domain, disk, bandwidth,
                                     VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES) == 0 ||
           libvirt_refused(domain, error, "disk %s: limiting its block job", disk);
}

bool
jobs_cancel(Hypervisor *hv, const char *vm_id, const char *disk, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autoptr(GError) why = NULL;
    HvJob job = { 0 };

    if (domain == NULL)
        return false;
    if (virDomainBlockJobAbort(domain, disk, 0) == 0)
        return true;
    libvirt_refused(domain, &why, "disk %s: cancelling its block job", disk);
    if (jobs_look(hv, vm_id, disk, &job, NULL) && job.type == HV_JOB_NONE)
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
jobs_pivot(Hypervisor *hv, const char *vm_id, const char *disk, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);

    if (domain == NULL)
        return false;
    return virDomainBlockJobAbort(domain, disk, VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) == 0 ||
           libvirt_refused(domain, error, "disk %s: pivoting to the new leaf", disk);
}
