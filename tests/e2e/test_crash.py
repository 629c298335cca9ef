# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of the agent, the manager and libvirtd while snapshots are taken and deleted: after a
restart the work is finished, or undone, and nothing that the guest wrote is lost."""

import os
import signal
import time

import pytest

from lm import wait_for

# Fault points of the agent: the delete during which they are passed.
AGENT_POINTS = [
    ("agent.merge.before-start", "s1"),
    ("agent.merge.after-start", "s2"),
    ("agent.pivot.suspended", "s3"),
    ("agent.pivot.before-manifest", "s3"),
    ("agent.pivot.after-manifest", "s3"),
    ("volume.before-trash", "s2"),
    ("volume.after-trash", "s2"),
]
MANAGER_POINTS = [
    ("flow.before-save@2", "s1"),
    ("flow.after-save@2", "s2"),
    ("flow.before-call@1", "s3"),
    ("flow.after-call@1", "s3"),
    ("flow.after-call@3", "s2"),
]
SNAPSHOT_POINTS = ["agent.snapshot.before-create", "agent.snapshot.before-switch",
                   "agent.snapshot.after-switch", "agent.snapshot.before-manifest"]


@pytest.fixture(autouse=True)
def everything_runs_again(site):
    yield
    site.mend()
    for daemon in (site.agent, site.manager):
        if "LIVEMERGE_FAULTS" in open(f"/proc/{daemon.pid}/environ", encoding="latin1").read():
            daemon.restart()
    site.wait_ready()


def writing_vm(vm):
    """A guest that writes to two disks, with three snapshots."""
    one = vm(2, guest=True)
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


@pytest.mark.parametrize("point,name", AGENT_POINTS, ids=[row[0] for row in AGENT_POINTS])
def test_agent_dies(site, vm, point, name):
    one = writing_vm(vm)
    site.agent.stop()
    site.agent.start(faults=f"{point}=die@1")
    site.wait_ready()
    one.wait_status("up")
    job_id = one.begin_delete(name)
    assert site.agent.wait_dead(30) == -9, "the fault point was to kill it"
    site.agent.start()
    finish(one, job_id, name)


@pytest.mark.parametrize("point,name", MANAGER_POINTS, ids=[row[0] for row in MANAGER_POINTS])
def test_manager_dies(site, vm, point, name):
    one = writing_vm(vm)
    site.manager.stop()
    fault, nth = point.split("@")
    site.manager.start(faults=f"{fault}=die@{nth}")
    site.wait_ready()
    one.wait_status("up")
    # it may die before it has answered; then the intent is stored, or was never taken
    client = site.cli.spawn("snapshot", "delete", one.name, name, "-y", "--no-wait")
    assert site.manager.wait_dead(30) == -9, "the fault point was to kill it"
    client.communicate()
    site.manager.start()
    site.wait_ready()
    one.wait_status("up")
    jobs = [j for j in site.rest.json("GET", "/jobs")["job"] if name in j["description"] or
            j.get("vm", {}).get("id") == one.id]
    deletes = [j for j in jobs if "emov" in j["description"] or "elet" in j["description"]]
    job_id = deletes[0]["id"] if deletes else one.begin_delete(name)
    finish(one, job_id, name)


LIBVIRTD_MOMENTS = ["before the merge is asked for", "merging", "merging, and back late", "ready",
                    "pivoting"]


@pytest.mark.parametrize("moment", LIBVIRTD_MOMENTS)
def test_libvirtd_dies(site, vm, moment):
    one = writing_vm(vm)
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
    finish(one, job_id, name)


def ended(one, job_id):
    return one.job(job_id)["status"] != "started"


@pytest.mark.parametrize("point", SNAPSHOT_POINTS)
def test_agent_dies_while_creating(site, vm, point):
    """The snapshot is there wholly or not at all, and the next one works."""
    one = writing_vm(vm)
    site.agent.stop()
    site.agent.start(faults=f"{point}=die@1")
    site.wait_ready()
    one.wait_status("up")
    client = site.cli.spawn("snapshot", "create", one.name, "s4")
    assert site.agent.wait_dead(30) == -9, "the fault point was to kill it"
    site.agent.start()
    client.communicate(timeout=60)
    assert client.returncode in (0, 1), client.returncode
    names = one.names()
    assert names[:3] == ["s1", "s2", "s3"]
    assert ("s4" in names) == (client.returncode == 0)
    assert {len(one.chain(t)) for t in ("vda", "vdb")} == {len(names) + 1}
    one.snap("s5")
    one.guest.wait_acked(60)
    one.power_off_and_verify()


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
    wait_for(lambda: one.job(job_id)["status"] == "started", 5, "it is accepted")
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
    assert took < 1.0, f"it took {took:.2f} s to end"
    one.guest.wait_acked(50)
    getattr(site, daemon).start()
    site.wait_ready()
    finish(one, job_id, "s1")


@pytest.mark.parametrize("attempt", range(4))
def test_libvirtd_forgets_a_pivot(site, vm, attempt):
    """It is killed just after it has sent the pivot, and may never show what QEMU has done: the guest goes on all
    the same, nothing is lost, and the delete ends when the VM was powered off, at the latest."""
    one = writing_vm(vm)
    pid, status = site.host.libvirtd_pid(), site.host.run_path(f"libvirt/qemu/{one.name}.xml")
    job_id = one.begin_delete("s3", options=("--strategy", "commit-active"))
    wait_for(lambda: "ready='pivot'" in status.read_text(encoding="utf-8") or ended(one, job_id), 20,
             "libvirt has written down that it pivots", every=0.0002)
    time.sleep(attempt * 0.002)  # not for luck: another place each time
    os.kill(pid, signal.SIGKILL)
    site.host.start()
    wait_for(lambda: site.host.state(one.name) == "running", 20, "the guest is not left suspended")
    one.guest.wait_acked(200)
    wait_for(lambda: ended(one, job_id) or "power the VM off" in one.job(job_id).get("waiting_for", ""), 30,
             "the delete has ended, or says what it waits for")
    if not ended(one, job_id):
        assert one.names() == ["s1", "s2", "s3"]
        refused = site.cli("snapshot", "create", one.name, "now", code=4)
        assert "power" in refused.err or "job" in refused.err, refused
        for disk in ("vda", "vdb"):
            one.guest.stop_stream(disk)
        site.host.virsh("destroy", one.name)
    one.wait_job(job_id)
    assert one.names() == ["s1", "s2"]
    one.power_off_and_verify()
