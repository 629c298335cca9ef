# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of libvirtd, and of everything, at moments that are no fault point, while a guest writes to two disks: the
delete is finished, and nothing that the guest wrote is lost. At the fault points: test_crash_points.py."""

import os
import signal
import time
import xml.etree.ElementTree as ET

import pytest

from lm import Site, ext4_disk, wait_for
from lm.crash import is_stopped
from lm.qmp import Qmp


@pytest.fixture(scope="module")
def site():
    """With some storage that can share blocks, for graft."""
    with Site(beside={"x": "xfs"}) as whole:
        yield whole


@pytest.fixture(autouse=True)
def everything_runs_again(site):
    yield
    site.mend()


def writing_vm(vm, **options):
    """A guest that writes to two disks, with three snapshots."""
    one = vm(2, guest=True, **options)
    for disk in ("vda", "vdb"):
        one.guest.start_stream(disk, pace_us=500)
    for name in ("s1", "s2", "s3"):
        one.guest.wait_acked(60)
        one.snap(name)
    one.guest.wait_acked(60)
    return one


def finish(one, job_id, gone):
    """The job ends well by itself; the guest was never harmed; nothing is lost or left."""
    one.wait_job(job_id, timeout=60)
    one.wait_status("up")
    one.guest.wait_acked(60)
    assert one.names() == [name for name in ("s1", "s2", "s3") if name != gone]
    one.power_off_and_verify()


LIBVIRTD_MOMENTS = ["before the merge is asked for", "merging, and back late", "ready", "pivoting"]


@pytest.mark.parametrize("moment", LIBVIRTD_MOMENTS)
def test_libvirtd_dies(site, vm, moment):
    one = writing_vm(vm)
    qemu = site.host.qemu_pid(one.name)
    name = "s1" if moment.startswith("merging") else "s3"
    options = ["--bandwidth", "1"] if moment.startswith("merging") else []
    if moment == "before the merge is asked for":
        site.host.kill9()
        job_id = one.begin_delete(name)
        site.host.start()
    else:
        job_id = one.begin_delete(name, options=options)
        if moment == "ready":
            wait_for(lambda: "<mirror" in site.host.virsh("dumpxml", one.name) or ended(one, job_id), 20,
                     "the mirror stands", every=0.001)
        elif moment == "pivoting":
            wait_for(lambda: site.host.state(one.name) == "paused" or ended(one, job_id), 20,
                     "the guest is suspended for the pivot", every=0.001)
        else:
            wait_for(lambda: site.host.virsh("blockjob", one.name, "vda", check=False) or
                     ended(one, job_id), 20, "libvirt has the job", every=0.001)
        site.host.kill9()
        if moment.endswith("late"):
            one.guest.wait_acked(500)
        site.host.start()
    if moment in ("ready", "pivoting"):
        finish_what_libvirt_forgot(site, one, job_id, qemu)
    else:
        finish(one, job_id, name)


def ended(one, job_id):
    return one.job(job_id)["status"] != "started"


def finish_what_libvirt_forgot(site, one, job_id, qemu):
    """libvirtd was killed about a pivot, by the delete of s3. Ordinarily the job ends well by itself. But libvirtd may
    have forgotten the pivot, which the job says: then it ends when the VM was powered off; or the whole VM, which it
    takes for off where livemerge's hook is not: then when QEMU has ended (docs/merge.md). Nothing is lost, whichever it is."""
    wait_for(lambda: site.host.state(one.name) in ("running", "shut off"), 20, "the guest is not left suspended")
    lost = site.host.state(one.name) == "shut off"
    assert not lost or site.host.guard is None, "with the hook libvirtd takes every VM back"
    if not lost:
        one.guest.wait_acked(200)
    wait_for(lambda: ended(one, job_id) or
             ("its QEMU runs" if lost else "power the VM off") in one.job(job_id).get("waiting_for", ""), 30,
             f"the delete has ended, or says what it waits for (lost: {lost})")
    if ended(one, job_id) and not lost:
        finish(one, job_id, "s3")
        return
    if not ended(one, job_id):
        site.cli("snapshot", "create", one.name, "now", code=4)
    if lost:
        for stream in one.guest.streams.values():
            stream.running = False
        os.kill(qemu, signal.SIGKILL)
    else:
        for disk in ("vda", "vdb"):
            one.guest.stop_stream(disk)
        site.host.virsh("destroy", one.name)
    one.wait_job(job_id)
    assert one.names() == ["s1", "s2"]
    one.power_off_and_verify(leaks=lost)


def test_all_three_at_once(site, vm):
    one = writing_vm(vm)
    job_id = one.begin_delete("s2", options=["--bandwidth", "1"])
    wait_for(lambda: one.job(job_id).get("step"), 20, "it has begun")
    site.manager.kill9()
    site.agent.kill9()
    site.host.kill9()
    one.guest.wait_acked(200)  # the guest does not care
    site.host.start()
    site.agent.start()
    site.manager.start()
    site.wait_ready()
    finish(one, job_id, "s2")


def test_power_loss_while_merging(site, vm):
    """Everything dies, QEMU too. After the boot the VM starts on the right leaf."""
    one = writing_vm(vm)
    job_id = one.begin_delete("s3")
    site.host.down(purge=False)
    site.agent.kill9()
    streams = dict(one.guest.streams)
    site.host.up()
    site.agent.start()
    site.wait_ready()
    one.wait_status("down")
    wait_for(lambda: ended(one, job_id), 60, "the job ends")
    for stream in streams.values():
        stream.running = False
    site.host.virsh("start", one.name)
    one.wait_status("up")
    one.guest.connect()
    one.power_off_and_verify(leaks=True)


@pytest.mark.parametrize("daemon", ["agent", "manager"])
def test_sigterm_is_quick_and_harmless(site, vm, daemon):
    one = writing_vm(vm)
    job_id = one.begin_delete("s1", options=["--bandwidth", "1"])
    wait_for(lambda: one.job(job_id).get("step"), 20, "it has begun")
    took = getattr(site, daemon).stop()
    assert took < 10, f"it took {took:.2f} s to end: systemd would have killed it"
    one.guest.wait_acked(50)
    getattr(site, daemon).start()
    site.wait_ready()
    finish(one, job_id, "s1")


@pytest.mark.parametrize("attempt", range(2))
def test_libvirtd_forgets_a_pivot(site, vm, attempt):
    """It is killed just after it has sent the pivot. It may never show what QEMU has done: the guest goes on all the
    same, and the delete ends when the VM was powered off, at the latest. Without the hook it may even take the VM for
    off: then nothing is done until QEMU has ended. Nothing is lost."""
    one = writing_vm(vm)
    libvirtd, qemu = site.host.libvirtd_pid(), site.host.qemu_pid(one.name)
    status = site.host.run_path(f"libvirt/qemu/{one.name}.xml")
    job_id = one.begin_delete("s3", options=("--strategy", "commit-active"))
    wait_for(lambda: "ready='pivot'" in status.read_text(encoding="utf-8") or ended(one, job_id), 20,
             "libvirt has written down that it pivots", every=0.0002)
    time.sleep(attempt * 0.003)  # not for luck: another place each time
    os.kill(libvirtd, signal.SIGKILL)
    site.host.start()
    finish_what_libvirt_forgot(site, one, job_id, qemu)


def mirrors(note):
    """{target: mirror} of what libvirt has noted of a VM."""
    disks = ET.fromstring(note).findall("domain/devices/disk")
    return {disk.find("target").get("dev"): disk.find("mirror") for disk in disks if disk.find("mirror") is not None}


def as_killed_at_its_end(note, target, mirror=True):
    """What libvirt 9.0 leaves if it is killed while it notes the end of this disk's mirror; the next one refuses it.
    Without mirror: if it was killed when it had just begun the job, too, and had not noted where to."""
    root = ET.fromstring(note)
    disk, = [d for d in root.findall("domain/devices/disk") if d.find("target").get("dev") == target]
    if mirror:
        disk.find("mirror").attrib.pop("ready")
        disk.find("mirror").set("job", "")
    else:
        disk.remove(disk.find("mirror"))
    job, = [j for j in root.findall("blockjobs/blockjob") if j.find("disk").get("dst") == target]
    job.attrib.update(state="pivoting", newstate="completed")
    return ET.tostring(root, encoding="unicode")


@pytest.mark.parametrize("strategy,hook,mirror",
                         [("commit-active", True, True), ("commit-active", False, True), ("commit-active", True, False),
                          ("copy", True, False), ("graft", True, False)],
                         ids=["mended by the hook", "by the agent", "a pivot without a trace",
                              "a copy without a trace", "a graft without a trace"])
def test_libvirtd_refuses_its_own_note(site, vm, strategy, hook, mirror):
    """Killed at the worst instant of a pivot, it would come back without the VM. It is mended before it reads that;
    without livemerge's hook by the agent, and a restart of libvirtd takes the VM back. Or it knows nothing of the
    pivot at all and shows the old leaf, which no guest may go on to write past."""
    one = writing_vm(vm, **({"directory": site.work / "x" / "v"} if strategy == "graft" else {}))
    qemu = site.host.qemu_pid(one.name)
    status = site.host.run_path(f"libvirt/qemu/{one.name}.xml")
    script = site.host.directory / "etc" / "hooks" / "daemon.d" / "livemerge"
    site.agent.restart(faults="agent.pivot.suspended=stop@1,agent.pivot.before-manifest=stop@1")
    site.wait_ready()
    one.wait_status("up")
    job_id = one.begin_delete("s3", options=("--strategy", strategy))
    wait_for(lambda: is_stopped(site.agent), 60, "the agent stops in the pause")
    before = status.read_text(encoding="utf-8")
    os.kill(site.agent.pid, signal.SIGCONT)
    wait_for(lambda: len(mirrors(status.read_text(encoding="utf-8"))) < len(mirrors(before)) and
             is_stopped(site.agent), 60, "the agent stops after the pivot")
    pivoted, = mirrors(before).keys() - mirrors(status.read_text(encoding="utf-8")).keys()
    site.host.kill9()
    status.write_text(as_killed_at_its_end(before, pivoted, mirror), encoding="utf-8")
    text = script.read_text(encoding="utf-8") if script.exists() else None
    if not hook and text:
        script.unlink()
    try:
        site.host.start()
        os.kill(site.agent.pid, signal.SIGCONT)
        if not (hook and text):
            assert site.host.state(one.name) == "shut off"  # libvirt believes so
            wait_for(lambda: "Restart libvirtd" in site.cli("vm", "show", one.name).out, 20, "it is said what helps")
            wait_for(lambda: "Restart libvirtd" in one.job(job_id).get("waiting_for", ""), 20, "the job says it, too")
            site.host.stop()
            site.host.start()
    finally:
        if text and not script.exists():
            script.write_text(text, encoding="utf-8")
            script.chmod(0o755)
    wait_for(lambda: site.host.state(one.name) == "running", 20, "the guest goes on")
    assert site.host.qemu_pid(one.name) == qemu
    finish_what_libvirt_forgot(site, one, job_id, qemu)


def test_libvirtd_takes_a_cancel_for_a_pivot(site, vm):
    """Killed just as it has asked QEMU to cancel a commit that was ready, it comes back with the base as the VM's leaf,
    also in the definition, and QEMU writes the old one (docs/reliability.md). Nobody believes it."""
    one = vm(1, guest=True, monitor=True)
    qmp = Qmp(site.host, one.name)
    one.guest.start_stream("vda", pace_us=500)
    for name in ("s1", "s2"):
        one.guest.wait_acked(60)
        one.snap(name)
    leaf = site.host.leaf(one.name, "vda")
    site.agent.restart(faults="agent.pivot.before-suspend=stop@1")
    site.wait_ready()
    one.wait_status("up")
    job_id = one.begin_delete("s2", options=("--strategy", "commit-active"))
    wait_for(lambda: is_stopped(site.agent), 60, "the agent stops before the pivot")
    site.host.kill9()
    job, = qmp("query-block-jobs")
    qmp(("block-job-cancel", {"device": job["device"]}))
    wait_for(lambda: [job["status"] for job in qmp("query-block-jobs")] == ["concluded"], 20, "QEMU has ended the job")
    site.host.start()
    wait_for(lambda: site.host.leaf(one.name, "vda") != leaf, 20, "libvirt shows the base as the leaf")
    assert list(qmp.leaves().values()) == [leaf]
    one.guest.wait_acked(60)
    os.kill(site.agent.pid, signal.SIGCONT)
    one.wait_job(job_id, status="failed")
    one.guest.wait_acked(60)
    assert one.names() == ["s1", "s2"]
    refused = site.cli("snapshot", "create", one.name, "now", code=4)
    assert "Power the VM off" in refused.err, refused
    one.guest.stop_stream("vda")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    wait_for(lambda: site.host.leaf(one.name, "vda", inactive=True) == leaf, 20, "the definition names the leaf again")
    one.power_off_and_verify(leaks=True)


@pytest.mark.parametrize("daemon", ["agent", "manager"])
def test_a_broken_connection_kills_nobody(site, daemon):
    """libvirtd, or whoever was at the other end, has just died: SIGPIPE is ignored."""
    with open(f"/proc/{getattr(site, daemon).pid}/status", encoding="utf-8") as file:
        ignored = next(line.split()[1] for line in file if line.startswith("SigIgn:"))
    assert int(ignored, 16) >> (signal.SIGPIPE - 1) & 1


FROZEN = [("before-switch", "agent"), ("after-switch", "libvirtd")]


@pytest.mark.parametrize("point,victim", FROZEN)
def test_a_frozen_guest_is_thawed(site, vm, point, victim):
    """Its file systems stand still while a quiesced snapshot is taken; nobody's death leaves them so."""
    one = vm([ext4_disk(site.work / f"{point}-{victim}")], agent=True, guest=True, cmdline="agentfs=vda")
    wait_for(lambda: site.host.xml(one.name).find("devices/channel/target").get("state") == "connected", 30,
             "the guest agent is connected")
    site.agent.restart(faults=f"agent.snapshot.{point}=stop@1")
    site.wait_ready()
    one.wait_status("up")
    client = site.cli.spawn("snapshot", "create", one.name, "s1", "--quiesce", "require")
    wait_for(lambda: is_stopped(site.agent), 60, f"the agent stops at {point}")
    one.guest.heard("FROZEN 0", 10)
    if victim == "agent":
        site.agent.kill9()
    else:
        site.host.kill9()
        os.kill(site.agent.pid, signal.SIGCONT)
    site.mend()
    one.guest.heard("THAWED 0", 60)
    client.communicate(timeout=60)
    assert one.names() == (["s1"] if client.returncode == 0 else [])
    assert len(one.chain()) == len(one.names()) + 1
    one.snap("s2", options=["--quiesce", "require"])
