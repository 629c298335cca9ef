/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Block jobs: what is promised of a base and a leaf, and when.
 */
#include "facts.h"

#include <libvirt/virterror.h>
#include <string.h>

static void
h7_base_is_spoilt(Run *run)
{
    unsigned before[STAGE_CLUSTERS], after[STAGE_CLUSTERS];
    bool changed = false;

    is_so(run, stage_read("a0", before), "a0 cannot be read");
    must(run, "commit a a0 a1 slow", "ok");
    for (unsigned i = 0; i < 500 && !changed && run->wrong == NULL; i++) {
        g_usleep(2000);
        changed = stage_read("a0", after) && memcmp(before, after, sizeof before) != 0;
    }
    must(run, "cancel a", "ok");
    is_so(run, changed, "a commit that was cancelled has left its base as it was");
    must(run, "look a", "paused live=a2>a1>a0 def=a2");
    must(run, "content a2", "same");
}

/* What the guest flushes is durable in the leaf; in the mirror only when it has ended. */
static void
flush_to_the_source_only(Run *run)
{
    must(run, "active a a0", "ok");
    must(run, "ready a", "yes");
    for (unsigned c = 0; c < STAGE_CLUSTERS; c++) {
        g_autofree char *line = g_strdup_printf("write a %u", c);
        must(run, line, "ok");
    }
    must(run, "flush a", "ok");
    must(run, "ready a", "yes");
    must(run, "kill-qemu", "ok");
    must(run, "off", "off");
    must(run, "content a2", "same");
    g_autofree char *base = ops_do(&run->ops, "content a0");
    run->shown = strcmp(base, "differs") == 0;
}

/* "all is copied" comes before "ready for pivot" */
static void
end_is_not_ready(Run *run)
{
    HvJob job = { 0 };

    must(run, "active a a0", "ok");
    for (unsigned i = 0; i < 20000 && run->wrong == NULL; i++) {
        if (!stage.hv->ops->job_look(stage.hv, stage.vm_id, "vda", &job, NULL))
            continue;
        if (job.end > 0 && job.current == job.end)
            break;
    }
    g_autofree char *answer = ops_do(&run->ops, "pivot a");
    run->shown = strcmp(answer, "busy") == 0;
    is_so(run, ops_is_one_of(answer, "ok|busy"), "neither pivoted nor busy");
    must(run, "ready a", "yes|none");
    must(run, "pivot a", run->shown ? "ok" : "hypervisor");
    must(run, "look a", "paused live=a0 def=a0");
}

static int
last_code(void)
{
    const virError *last = virGetLastError();

    return last != NULL ? last->code : 0;
}

/* The numbers that connection.c turns into ERR_BUSY and ERR_NOT_FOUND */
static void
error_numbers(Run *run)
{
    g_autofree char *base = stage_path("a0"), *top = stage_path("a1");

    must(run, "active a a0 slow", "ok");
    is_so(run,
          virDomainBlockJobAbort(real_domain(), "vda", VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) < 0 &&
              last_code() == VIR_ERR_BLOCK_COPY_ACTIVE,
          "a pivot that comes too early is not error 83");
    is_so(run,
          virDomainBlockCommit(real_domain(), "vda", base, top, 0, 0) < 0 &&
              (last_code() == VIR_ERR_BLOCK_COPY_ACTIVE ||
               strstr(virGetLastErrorMessage(), "already in active block job") != NULL),
          "a second job is not error 83");
    must(run, "cancel a", "ok");
    is_so(run,
          virDomainLookupByUUIDString(real_conn(), "87654321-1234-4234-8234-123456789abc") ==
                  NULL &&
              last_code() == VIR_ERR_NO_DOMAIN,
          "an unknown domain is not error 42");
    must(run, "destroy", "ok");
    virDomainBlockJobInfo info;
    is_so(run,
          virDomainGetBlockJobInfo(real_domain(), "vda", &info, 0) < 0 &&
              last_code() == VIR_ERR_OPERATION_INVALID,
          "a job of a VM that is off is not error 55");
}

/* Those that were missed do not come later; READY comes again or does not. */
static void
events_are_lost(Run *run)
{
    must(run, "active a a0", "ok");
    must(run, "event a", "ready");
    must(run, "kill-libvirtd", "ok");
    must(run, "start-libvirtd", "ok");
    must(run, "connected", "connected");
    must(run, "ready a", "yes");
    must(run, "write a 1", "ok");
    must(run, "ready a", "yes");
    must(run, "events", "a:ready|a:ready a:ready");
    must(run, "pivot a", "ok");
    must(run, "event a", "ready|completed");
}

static void
no_event_at_the_end_of_qemu(Run *run)
{
    must(run, "commit a a0 a1 slow", "ok");
    must(run, "destroy", "ok");
    must(run, "off", "off");
    must(run, "start", "ok");
    must(run, "job a", "none"); /* and no job is taken up again */
    must(run, "events", "none yet");
    must(run, "look a", "paused live=a2>a1>a0 def=a2");
}

/* Cancelled when it was READY, the copy is what the disk was then. */
static void
cancelled_copy_is_complete(Run *run)
{
    must(run, "overlay a3 a1", "ok");
    must(run, "copy a a3", "ok");
    must(run, "ready a", "yes");
    must(run, "write a 5", "ok");
    must(run, "flush a", "ok");
    must(run, "ready a", "yes");
    g_usleep(50000); /* its next round */
    must(run, "cancel a", "ok");
    must(run, "content a3", "same|differs");
    must(run, "look a", "paused live=a2>a1>a0 def=a2");
    must(run, "content a2", "same");
}

static void
no_persistent_copy(Run *run)
{
    g_autofree char *path = stage_path("a3");
    g_autofree char *xml =
        g_strdup_printf("<disk type='file'><driver type='qcow2'/><source file='%s'/></disk>", path);

    must(run, "overlay a3 a1", "ok");
    is_so(run,
          virDomainBlockCopy(real_domain(), "vda", xml, NULL, 0,
                             VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | VIR_DOMAIN_BLOCK_COPY_SHALLOW) < 0 &&
              last_code() == VIR_ERR_OPERATION_INVALID,
          "a persistent domain is copied without TRANSIENT_JOB");
}

/* The commit of a run whose headers are relative writes a relative one. */
static void
relative_stays(Run *run)
{
    g_autofree char *info = NULL;

    must(run, "commit a a0 a1", "ok");
    must(run, "event a", "completed");
    is_so(
        run,
        real_shell("qemu-img info -U a2.qcow2 | grep '^backing file: a0.qcow2 *\\((actual.*\\)*$'",
                   &info),
        "the header of a2 does not name a0 by a relative name");
}

static void
instance_survives(Run *run)
{
    g_autoptr(HvDomain) before = stage.hv->ops->look(stage.hv, stage.vm_id, NULL);

    must(run, "kill-libvirtd", "ok");
    must(run, "start-libvirtd", "ok");
    must(run, "connected", "connected");
    g_autoptr(HvDomain) after = stage.hv->ops->look(stage.hv, stage.vm_id, NULL);
    is_so(run, g_strcmp0(before->instance, after->instance) == 0, "it is another instance");
    must(run, "destroy", "ok");
    must(run, "start", "ok");
    g_autoptr(HvDomain) again = stage.hv->ops->look(stage.hv, stage.vm_id, NULL);
    is_so(run, g_strcmp0(before->instance, again->instance) != 0, "it is the same instance");
}

const Fact job_facts[] = {
    { "H7/a cancelled commit spoils its base", "merge_record.c: volumes of a run are marked before",
      .body = h7_base_is_spoilt },
    { "jobs/a flush reaches the leaf only", "recovery: after QEMU's death a READY base is not used",
      .rounds = 4, .body = flush_to_the_source_only },
    { "jobs/all copied is not ready",
      "transfer: READY is an event or the XML's word, not cur == end", .rounds = 6,
      .body = end_is_not_ready },
    { "jobs/error numbers", "connection.c: 83 is ERR_BUSY, 42 is ERR_NOT_FOUND",
      .body = error_numbers },
    { "events/READY may come twice or not again", "events only wake; what is so is asked for",
      .body = events_are_lost },
    { "events/none at the end of QEMU", "recovery: a job that is gone says nothing",
      .body = no_event_at_the_end_of_qemu },
    { "jobs/a cancelled copy leaves the VM alone", "graft: undo",
      .body = cancelled_copy_is_complete },
    { "jobs/a copy is transient", "jobs.c: TRANSIENT_JOB", .body = no_persistent_copy },
    { "jobs/relative names stay", "jobs.c: RELATIVE, so that a domain can be moved",
      .body = relative_stays },
    { "instance/is QEMU's life", "merge_same_instance(): libvirtd's death is not QEMU's",
      .body = instance_survives },
    { NULL },
};
