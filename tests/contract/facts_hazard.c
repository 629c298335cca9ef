/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The hazards: what libvirt loses when it dies, and what it does not check.
 */
#include "facts.h"

#include <libvirt/virterror.h>
#include <string.h>

/* ---- H2: a pivot of which libvirt does not know ---- */

/* libvirtd dies in a pivot, QEMU after it. */
static void
pivot_and_die(Run *run, bool guest_writes)
{
    must(run, "active a a0", "ok");
    must(run, "ready a", "yes");
    must(run, "write a 5", "ok");
    must(run, "flush a", "ok");
    must(run, "ready a", "yes");
    begin_and_wait(run, "pivot a");
    must(run, "kill-libvirtd", "ok");
    g_autofree char *leaf = qemu_leaf();
    if (guest_writes && strcmp(leaf, "a0.qcow2") == 0) {
        must(run, "write a 3", "ok");
        must(run, "flush a", "ok");
    }
    must(run, "kill-qemu", "ok");
    must(run, "answer", "*");
    must(run, "start-libvirtd", "ok");
    must(run, "connected", "connected");
    must(run, "off", "off");
    must(run, "look a", "off def=a2|off def=a0");
    if (run->wrong == NULL && strcmp(leaf, "a0.qcow2") == 0) {
        g_autofree char *look = ops_do(&run->ops, "look a");
        run->shown = strcmp(look, "off def=a2") == 0;
    }
}

static void
h2_lost_pivot(Run *run)
{
    pivot_and_die(run, true);
    if (run->shown)
        must(run, "content a2", "differs");
}

static void
h2_paused_pivot(Run *run)
{
    pivot_and_die(run, false);
    must(run, "content a2", "same");
    if (run->shown) /* QEMU had pivoted: the base is as good */
        must(run, "content a0", "same");
}

/* ---- H3: a snapshot of which libvirt does not know ---- */

static void
h3_lost_snapshot(Run *run)
{
    must(run, "overlay a3 a2", "ok");
    must(run, "begin snapshot a3", "begun");
    kill_libvirtd_when("a3.qcow2");
    must(run, "answer", "*");
    must(run, "start-libvirtd", "ok");
    must(run, "connected", "connected");
    g_autofree char *leaf = qemu_leaf();
    g_autofree char *look = ops_do(&run->ops, "look a");
    is_so(run, strcmp(leaf, "a3.qcow2") == 0 || strstr(look, "live=a2") != NULL,
          "libvirt names an overlay that QEMU does not have");
    if (strcmp(leaf, "a3.qcow2") != 0 || strstr(look, "live=a2") == NULL)
        return;
    run->shown = true;
    must(run, "overlay a4 a3", "ok");
    must(run, "snapshot a4", "hypervisor");
    must(run, "commit a a0 a1", "hypervisor");
    must(run, "write a 5", "ok");
    must(run, "flush a", "ok");
    must(run, "content a3", "same");
    must(run, "content a2", "differs");
    must(run, "redefine a3", "ok"); /* the repair */
    must(run, "destroy", "ok");
    must(run, "off", "off");
    must(run, "start", "ok");
    must(run, "look a", "paused live=a3>a2>a1>a0 def=a3");
    must(run, "content a3", "same");
}

/* ---- H4: a stale <backingStore> beats the header ---- */

/* Past libvirt, which is dead: all jobs of QEMU run on at full speed. */
static void
full_speed(void)
{
    g_autoptr(json_t) jobs = real_qmp("query-block-jobs", NULL);
    size_t i;
    json_t *job;

    json_array_foreach (jobs, i, job) {
        const char *id = json_string_value(json_object_get(job, "device"));
        json_t *arguments = json_pack("{s:s, s:i}", "device", id, "speed", 0);
        json_decref(real_qmp("block-job-set-speed", arguments));
    }
}

static void
commit_behind_libvirt(Run *run)
{
    must(run, "overlay a3 a2", "ok");
    must(run, "snapshot a3", "ok");
    must(run, "overlay a4 a3", "ok");
    must(run, "snapshot a4", "ok");
    must(run, "write a 1", "ok");
    must(run, "commit a a1 a3 slow", "ok");
    must(run, "kill-libvirtd", "ok");
    full_speed();
    for (unsigned i = 0; i < 5000 && run->wrong == NULL; i++) {
        g_autofree char *headers = ops_do(&run->ops, "headers a4");
        if (strcmp(headers, "a4>a1>a0") == 0)
            break;
        g_usleep(2000);
    }
    must(run, "headers a4", "a4>a1>a0");
}

static void
h4_stale_backing(Run *run)
{
    commit_behind_libvirt(run);
    must(run, "flush a", "ok");
    must(run, "kill-qemu", "ok");
    must(run, "start-libvirtd", "ok");
    must(run, "connected", "connected");
    must(run, "off", "off");
    must(run, "look a", "off def=a4>a3>a2");
    must(run, "start", "ok");
    must(run, "look a", "paused live=a4>a3>a2>a1>a0 def=a4>a3>a2");
    must(run, "destroy", "ok");
    must(run, "off", "off");
    must(run, "remove a3", "ok");
    must(run, "start", "hypervisor");
    must(run, "redefine", "ok"); /* the repair: no <backingStore> at all */
    must(run, "start", "ok");
    must(run, "look a", "paused live=a4>a1>a0 def=a4");
    must(run, "content a4", "same");
}

/* An empty <backingStore/> ends the chain, whatever the header says. */
static void
h4_terminator(Run *run)
{
    must(run, "destroy", "ok");
    must(run, "off", "off");
    autolibc char *xml = virDomainGetXMLDesc(real_domain(), VIR_DOMAIN_XML_INACTIVE);
    const char *end = xml != NULL ? strstr(xml, "<target dev='vda'") : NULL;
    if (!is_so(run, end != NULL, "the definition has no vda"))
        return;
    g_autofree char *edited = g_strdup_printf("%.*s<backingStore/>%s", (int)(end - xml), xml, end);
    g_autoptr(virDomain) defined = virDomainDefineXML(real_conn(), edited);
    is_so(run, defined != NULL, "it cannot be defined");
    must(run, "start", "ok");
    must(run, "look a", "paused live=a2 def=a2"); /* a1 and a0 read as zeros */
    must(run, "redefine", "ok");
    must(run, "destroy", "ok");
    must(run, "off", "off");
    must(run, "start", "ok");
    must(run, "look a", "paused live=a2>a1>a0 def=a2");
}

/* ---- H5, H6: snapshots ---- */

static void
h5_reuse_unchecked(Run *run)
{
    must(run, "overlay a3 a0", "ok"); /* not the leaf! */
    must(run, "snapshot a3", "ok");
    must(run, "look a", "paused live=a3>a2>a1>a0 def=a3>a2");
    must(run, "headers a3", "a3>a0");
    must(run, "content a3", "differs"); /* what a power cycle would show */
}

static void
h5_reuse_smaller(Run *run)
{
    is_so(run, real_shell("qemu-img create -q -f qcow2 -b a2.qcow2 -F qcow2 a3.qcow2 1M", NULL),
          "no smaller overlay");
    must(run, "snapshot a3", "ok");
    must(run, "look a", "paused live=a3>a2>a1>a0 def=a3>a2");
}

static void
h6_all_disks(Run *run)
{
    g_autofree char *path = stage_path("a3");
    g_autofree char *xml =
        g_strdup_printf("<domainsnapshot><name>s</name><disks><disk name='vda' snapshot='external'>"
                        "<driver type='qcow2'/><source file='%s'/></disk></disks></domainsnapshot>",
                        path);

    virDomainSnapshotPtr taken = virDomainSnapshotCreateXML(
        real_domain(), xml,
        VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA);
    if (is_so(run, taken != NULL, "no snapshot"))
        virDomainSnapshotFree(taken);
    g_autofree char *look = ops_do(&run->ops, "look b");
    is_so(run, strstr(look, "live=b2>") == NULL, "disk b, which was not listed, has no overlay");
}

/* ---- a pivot, and libvirtd comes back without the VM ---- */

/* libvirtd, killed while it notes the end of a mirror, has a status file with <mirror job=''>,
 * which it refuses to read: QEMU runs on, and libvirt says that the VM is off. */
static void
h9_vm_is_lost(Run *run)
{
    must(run, "active a a0", "ok");
    must(run, "ready a", "yes");
    begin_and_wait(run, "pivot a");
    must(run, "kill-libvirtd", "ok");
    must(run, "answer", "*");
    must(run, "start-libvirtd", "ok");
    must(run, "connected", "connected");
    g_autofree char *word = ops_do(&run->ops, "look a");
    if (!g_str_has_prefix(word, "lost"))
        return;
    run->shown = true;
    pid_t pid = real_qemu_pid();
    is_so(run, pid > 0, "the VM is lost, and QEMU does not run");
    must(run, "look a", "lost def=a2|lost def=a0");
    must(run, "write a 5", "ok");
    must(run, "start", "hypervisor"); /* QEMU's locks on the images hold it back */
    if (pid > 0)
        real_kill(pid);
    must(run, "start", "ok");
}

/* ---- a mirror of which libvirt has kept the job alone ---- */

/* At the moment when QEMU has a job: libvirt has saved one, and its mirror perhaps not. */
static void
kill_libvirtd_when_job(void)
{
    int64_t until = g_get_monotonic_time() + 5 * G_TIME_SPAN_SECOND;

    while (g_get_monotonic_time() < until) {
        g_autoptr(json_t) jobs = real_qmp("query-block-jobs", NULL);
        if (json_array_size(jobs) > 0)
            break;
    }
    stage_kill_libvirtd();
}

/* libvirtd, killed in the begin of an active commit, comes back with its job and without its
 * mirror; when that job is cancelled it dies of it. */
static void
h11_mirror_is_forgotten(Run *run)
{
    must(run, "begin active a a0 slow", "begun");
    kill_libvirtd_when_job();
    must(run, "answer", "*");
    must(run, "start-libvirtd", "ok");
    must(run, "connected", "connected");
    g_autofree char *look = ops_do(&run->ops, "look a"), *job = ops_do(&run->ops, "job a");
    if (strcmp(job, "active-commit slow") != 0 || strstr(look, "mirror=") != NULL)
        return;
    run->shown = true;
    must(run, "active a a0 slow", "busy|hypervisor"); /* no second one */
    must(run, "cancel a", "unreachable");
    must(run, "connected not", "not connected");
    must(run, "write a 3", "ok"); /* the VM runs on */
    must(run, "flush a", "ok");
    must(run, "kill-libvirtd", "ok");
    must(run, "start-libvirtd", "ok");
    must(run, "connected", "connected");
    must(run, "job a", "none"); /* QEMU had been asked before */
    must(run, "look a", "paused live=a2>a1>a0 def=a2");
    must(run, "content a2", "same");
}

/* ---- a VM that is suspended as a commit ends ---- */

/* A commit of which one cluster is left, and that waits for its bandwidth: a suspend wakes it. */
static void
h12_suspended_beside_a_commit(Run *run)
{
    g_autofree char *word = NULL;

    must(run, "resume", "ok");
    must(run, "commit a a0 a1 slow", "ok");
    for (unsigned i = 0; i < 6 && run->wrong == NULL && g_strcmp0(word, "hypervisor") != 0; i++) {
        g_free(word);
        word = ops_do(&run->ops, "suspend");
        if (strcmp(word, "ok") == 0)
            must(run, "resume", "ok");
    }
    if (g_strcmp0(word, "ok") == 0)
        return;
    run->shown = true;
    must(run, "off", "off"); /* by itself */
    must(run, "look a", "off def=a2");
    must(run, "headers a2", "a2>a1>a0"); /* and nothing is lost */
    must(run, "content a2", "same");
    must(run, "start", "ok");
    must(run, "look a", "paused live=a2>a1>a0 def=a2");
}

const Fact hazard_facts[] = {
    { "H2/a pivot is lost", "pivot.c: the VM stands still until manifest and definition are right",
      .rounds = 8, .body = h2_lost_pivot },
    { "H2/a paused pivot is safe", "pivot.c: suspended, either leaf is the right one", .rounds = 8,
      .body = h2_paused_pivot },
    { "H3/a snapshot is lost", "create: the overlay is looked at after a restart, not the XML",
      .rounds = 10, .body = h3_lost_snapshot },
    { "H4/a stale backingStore beats the header", "merge_settle.c: redefine without any",
      .body = h4_stale_backing },
    { "H4/an empty backingStore ends the chain", "edit.c: it is never kept",
      .body = h4_terminator },
    { "H5/an overlay is not looked at", "create: we look at it ourselves",
      .body = h5_reuse_unchecked },
    { "H5/a smaller overlay is taken", "create: sizes are compared by us",
      .body = h5_reuse_smaller },
    { "H6/disks that are not listed get overlays", "snapshot.c: every disk is listed", .disks = 2,
      .body = h6_all_disks },
    { "H9/a VM that runs is lost by libvirt",
      "recovery: \"off\" does not prove that QEMU is gone; "
      "its image locks do",
      .rounds = 10, .body = h9_vm_is_lost },
    { "H11/a mirror is forgotten, its job is not",
      "jobs.c: what libvirt shows no mirror of may be a job; libvirtd may die of a cancel",
      .rounds = 10, .body = h11_mirror_is_forgotten },
    { "H12/QEMU dies when it is suspended as a commit ends",
      "deed.c, pivot.c: nobody is suspended beside a commit", .rounds = 25,
      .body = h12_suspended_beside_a_commit },
    { NULL },
};
