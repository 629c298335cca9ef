# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody else's virsh at the worst moment: a snapshot of its own comes between livemerge's look and its deed, or an
internal one is taken. Nothing that the guest wrote is cut off, and no snapshot of anybody vanishes."""

import hashlib
import os
import signal
import subprocess

import pytest

from lm import Site, items, pattern_is, run, wait_for
from lm.crash import is_stopped


@pytest.fixture(scope="module")
def site():
    """Its storage can share blocks."""
    whole = Site("xfs")
    try:
        yield whole.up()
    finally:
        whole.down()


@pytest.fixture(autouse=True)
def goes_on(site):  # pylint: disable=redefined-outer-name
    """A test that fails leaves no agent that is stopped."""
    yield
    os.kill(site.agent.pid, signal.SIGCONT)


def theirs(site, one, *options):
    site.host.virsh("snapshot-create-as", one.name, "theirs", *options)


def external(site, one):
    """And the guest writes there."""
    theirs(site, one, "--disk-only", "--diskspec", f"vda,file={one.directory}/theirs.qcow2")
    site.host.write(one.name, 0, "45M", "1M", 45)


def internal(site, one):
    theirs(site, one)


def while_stopped(site, one, point, begin, deed, state="up"):
    # pylint: disable=too-many-arguments,too-many-positional-arguments
    """The agent stands at that point meanwhile."""
    site.agent.restart(faults=f"{point}=stop@1")
    site.wait_ready()
    one.wait_status(state)
    told = begin()
    wait_for(lambda: is_stopped(site.agent), 60, f"the agent stops at {point}")
    deed(site, one)
    os.kill(site.agent.pid, signal.SIGCONT)
    return told


def holds_internal(path):
    return "theirs" in run("qemu-img", "snapshot", "-U", "-l", path).stdout


def expect_all(site, one):
    """After the next start, too, when the headers alone count."""
    site.host.write(one.name, 0, "50M", "1M", 50)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    one.virsh_start(check=True)
    leaf = one.chain()[-1]
    for offset, length, pattern in ((0, 1, 1), (1, 1, 2), (2, 1, 3), (20, 16, 9), (45, 1, 45), (50, 1, 50)):
        assert pattern_is(leaf, f"{offset}M", f"{length}M", pattern, share=True), f"{offset}M is lost: {one.chain()}"


def layers(site, vm):
    """With a leaf that is worth a seal."""
    one = vm().layers("s1", "s2")
    site.host.write(one.name, 0, "20M", "16M", 9)
    return one


@pytest.mark.parametrize("point", ["before-switch", "after-switch"])
def test_a_snapshot_beside_ours(site, vm, point):  # pylint: disable=redefined-outer-name
    """Before: libvirt would put our overlay on theirs, whatever its header says. After: the disk is on ours all the
    same."""
    one = layers(site, vm)
    job = while_stopped(site, one, f"agent.snapshot.{point}",
                        lambda: site.cli("snapshot", "create", one.name, "s3", "--no-wait", "--json").json,
                        external)
    wait_for(lambda: one.snapshots().get("s3", {}).get("snapshot_status") != "locked", 30, lambda: f"it ends: {job}")
    assert ("s3" in one.names()) == (point == "after-switch")
    assert f"{one.directory}/theirs.qcow2" in one.chain()
    expect_all(site, one)


@pytest.mark.parametrize("point", ["before-seal", "after-seal"])
def test_a_snapshot_beside_a_seal(site, vm, point):  # pylint: disable=redefined-outer-name
    one = layers(site, vm)
    job = while_stopped(site, one, f"agent.graft.{point}",
                        lambda: one.begin_delete("s1", options=("--strategy", "graft")), external)
    site.cli("job", "cancel", job, code=None)  # it would wait until theirs is gone
    wait_for(lambda: one.job(job)["status"] != "started", 30, lambda: f"the job ends: {one.job(job)}")
    assert one.job(job)["status"] != "finished"
    assert f"{one.directory}/theirs.qcow2" in one.chain()
    expect_all(site, one)


def test_a_snapshot_of_what_is_written_elsewhere(site, vm):  # pylint: disable=redefined-outer-name
    """By libvirt it is off."""
    one = vm().layers("s1")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    leaf = one.chain()[-1]
    with subprocess.Popen(["qemu-io", "-f", "qcow2", leaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdin.write(b"write -P 9 5M 1M\nflush\n")
        writer.stdin.flush()
        writer.stdout.readline()
        refused = site.cli("snapshot", "create", one.name, "s2", code=None)
        assert refused.code != 0 and leaf in refused.err, refused
        writer.communicate(b"quit\n", timeout=60)
    assert one.chain()[-1] == leaf
    one.snap("s2")
    assert pattern_is(one.chain()[-1], "5M", "1M", 9)


@pytest.mark.parametrize("strategy,point", [("graft", "agent.graft.after-seal"), ("graft", "agent.graft.built"),
                                            ("copy", "agent.merge.before-start")])
def test_an_internal_snapshot_on_the_way(site, vm, strategy, point):  # pylint: disable=redefined-outer-name
    one = layers(site, vm)
    job = while_stopped(site, one, point, lambda: one.begin_delete("s1", options=("--strategy", strategy)), internal)
    wait_for(lambda: one.job(job)["status"] != "started", 60, lambda: f"the job ends: {one.job(job)}")
    assert any(holds_internal(path) for path in one.chain()), f"the internal snapshot went with its file: {one.chain()}"
    site.host.write(one.name, 0, "45M", "1M", 45)
    expect_all(site, one)


@pytest.mark.parametrize("strategy", ["auto", "commit"])
@pytest.mark.parametrize("state", ["up", "down"])
def test_an_internal_snapshot_in_what_would_go(site, vm, strategy, state):  # pylint: disable=redefined-outer-name
    one = layers(site, vm)
    internal(site, one)
    one.snap("s3")
    if state == "down":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    holder = one.chain()[2]
    assert holds_internal(holder)
    refused = site.cli("snapshot", "delete", one.name, "s2", "-y", "--strategy", strategy, code=4)
    assert holder in refused.err and "internal snapshot" in refused.err, refused
    assert holds_internal(holder) and one.names() == ["s1", "s2", "s3"]
    one.delete("s3")  # the base of a commit keeps what it holds
    assert holds_internal(holder)



def in_the_very_moment(site, one):
    """What virsh does when its snapshot comes between libvirt's last answer to the agent and the agent's own call:
    which is made here, since the agent is stopped."""
    overlay = max(one.directory.glob("*.qcow2"), key=lambda path: path.stat().st_ctime_ns)
    external(site, one)
    site.host.virsh("snapshot-create-as", one.name, "ours", "--no-metadata", "--disk-only", "--reuse-external",
                    "--atomic", "--diskspec", f"vda,file={overlay}")


def test_a_snapshot_under_ours(site, vm):  # pylint: disable=redefined-outer-name
    """Our overlay stands on theirs, and its header must say so before the VM is started again."""
    one = layers(site, vm)
    job = while_stopped(site, one, "agent.snapshot.before-switch",
                        lambda: site.cli("snapshot", "create", one.name, "s3", "--no-wait", "--json").json,
                        in_the_very_moment)
    wait_for(lambda: one.snapshots().get("s3", {}).get("snapshot_status") == "ok", 30, lambda: f"it ends: {job}")
    assert one.chain()[-2] == f"{one.directory}/theirs.qcow2"
    assert one.names() == ["s1", "s2", "s3"]
    expect_all(site, one)
    one.delete("s3")
    expect_all(site, one)


def test_a_snapshot_under_a_seal(site, vm):  # pylint: disable=redefined-outer-name
    one = layers(site, vm)
    job = while_stopped(site, one, "agent.graft.before-seal",
                        lambda: one.begin_delete("s1", options=("--strategy", "graft")), in_the_very_moment)
    wait_for(lambda: f"{one.directory}/theirs.qcow2" in one.chain(), 30,
             lambda: f"its header is put right: {one.job(job)}")
    site.cli("job", "cancel", job, code=None)
    wait_for(lambda: one.job(job)["status"] != "started", 30, lambda: f"the job ends: {one.job(job)}")
    assert f"{one.directory}/theirs.qcow2" in one.chain()
    expect_all(site, one)


def test_the_doctor_finds_what_a_header_skips(site, vm):  # pylint: disable=redefined-outer-name
    """Made without the agent: by a script that creates its overlay too early."""
    one = layers(site, vm)
    overlay, leaf = one.directory / "mine.qcow2", one.chain()[-1]
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", leaf, "-F", "qcow2", overlay)
    external(site, one)
    site.host.virsh("snapshot-create-as", one.name, "mine", "--no-metadata", "--disk-only", "--reuse-external",
                    "--atomic", "--diskspec", f"vda,file={overlay}")
    wait_for(lambda: "chain-mismatch" in site.cli("doctor", one.name, code=None).out, 30, "the doctor sees it")
    said = site.cli("doctor", one.name, "--fix", "-y", code=None)
    assert one.chain()[-2:] == [f"{one.directory}/theirs.qcow2", str(overlay)], said
    assert "chain-mismatch" not in site.cli("doctor", one.name, code=None).out
    expect_all(site, one)


def test_a_snapshot_before_ours_of_a_vm_that_is_off_by_then(site, vm):  # pylint: disable=redefined-outer-name
    """The agent is killed before its own; it finds a VM that stands on another volume when it is back."""
    one = layers(site, vm)
    site.agent.restart(faults="agent.snapshot.before-switch=die@1")
    site.wait_ready()
    one.wait_status("up")
    site.cli("snapshot", "create", one.name, "s3", "--no-wait")
    site.agent.wait_dead()
    job = items(site.rest.json("GET", "/jobs"), "job")[0]["id"]
    external(site, one)
    site.host.virsh("destroy", one.name)
    site.agent.start()
    wait_for(lambda: one.job(job)["status"] != "started", 60, lambda: f"the job ends: {one.job(job)}")
    one.virsh_start(check=True)
    assert f"{one.directory}/theirs.qcow2" in one.chain(), "what the guest has written is cut off"
    expect_all(site, one)


def killed_in_a_preview(site, one, point, verb):
    """The agent dies in that of a VM that is off; meanwhile somebody starts it, and takes a snapshot. The job's id."""
    site.agent.restart(faults=f"{point}=die@1")
    site.wait_ready()
    one.wait_status("down")
    site.cli("snapshot", verb, one.name, *(["s1"] if verb == "preview" else ["-y"]), "--no-wait")
    site.agent.wait_dead()
    job = items(site.rest.json("GET", "/jobs"), "job")[0]["id"]
    one.virsh_start(check=True)
    external(site, one)
    return job


def test_a_snapshot_on_a_preview_that_is_not_noted(site, vm):  # pylint: disable=redefined-outer-name
    """It has begun, whatever stands on it."""
    one = layers(site, vm)
    site.host.virsh("destroy", one.name)
    job = killed_in_a_preview(site, one, "agent.preview.after-define", "preview")
    site.agent.start()
    one.wait_job(job)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    refused = site.cli("snapshot", "undo", one.name, "-y", code=None)
    assert refused.code != 0 and "put on top of the preview by somebody else" in refused.err, refused
    site.cli("snapshot", "commit", one.name, "-y")
    one.virsh_start(check=True)
    assert one.chain()[-1] == f"{one.directory}/theirs.qcow2"
    assert pattern_is(one.chain()[-1], "45M", "1M", 45, share=True)


def test_a_snapshot_on_a_preview_that_is_committed(site, vm):  # pylint: disable=redefined-outer-name
    """The VM is off again before anybody has looked at it."""
    one = layers(site, vm)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    site.cli("snapshot", "preview", one.name, "s1")
    job = killed_in_a_preview(site, one, "agent.branch.before-manifest", "commit")
    site.host.virsh("destroy", one.name)
    site.agent.start()
    one.wait_job(job)
    one.virsh_start(check=True)
    assert one.chain()[-1] == f"{one.directory}/theirs.qcow2", "what the guest has written is cut off"
    assert pattern_is(one.chain()[-1], "45M", "1M", 45, share=True)


@pytest.mark.parametrize("doomed", ["s1", "s2"])
def test_an_internal_snapshot_before_a_cold_commit(site, vm, doomed):  # pylint: disable=redefined-outer-name
    """Nobody has the volumes open until the storage daemon comes."""
    one = vm().layers("s1", "s2")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    before = one.chain()
    holder = before[1 if doomed == "s1" else 2]
    job = while_stopped(site, one, "agent.merge.before-start",
                        lambda: one.begin_delete(doomed, options=("--strategy", "commit")),
                        lambda *_who: run("qemu-img", "snapshot", "-c", "theirs", holder), "down")
    wait_for(lambda: one.job(job)["status"] != "started", 60, lambda: f"the job ends: {one.job(job)}")
    assert os.path.exists(holder) and holds_internal(holder), one.job(job)
    assert one.chain() == before and one.names() == ["s1", "s2"]
    assert all(snapshot["snapshot_status"] == "ok" for snapshot in one.snapshots().values()), one.snapshots()
    run("qemu-img", "snapshot", "-d", "theirs", holder)
    one.delete(doomed)
    one.expect_layers(3)


@pytest.mark.parametrize("strategy", ["commit", "graft"])
@pytest.mark.parametrize("how", ["detached", "attached"])
def test_a_disk_that_the_definition_does_not_have(site, vm, how, strategy):  # pylint: disable=redefined-outer-name
    """It runs on; what is merged of any disk is settled all the same."""
    one = vm(2)
    if how == "detached":
        one.layers("s1", "s2", "s3", disks=2)
        site.host.virsh("detach-disk", one.name, "vdb", "--config")
    else:
        plugged = one.directory / "plugged.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", plugged, "64M")
        site.host.virsh("attach-disk", one.name, plugged, "vdc", "--subdriver", "qcow2", "--live")
        one.layers("s1", "s2", "s3", disks=2)
    one.delete("s1", options=("--strategy", strategy))
    one.delete("s3", options=("--strategy", strategy))
    for target in ("vda", "vdb"):
        assert len(one.chain(target)) == 2
        assert all(pattern_is(one.chain(target)[-1], f"{i}M", "1M", i + 1, share=True) for i in range(4))


@pytest.mark.parametrize("device", ["disk", "cdrom"])
def test_loop_device_over_a_volume(site, vm, device):
    """The definition of another VM names the device; what is behind it is the file, which is neither changed nor deleted."""
    one, other = vm().layers("s1", "s2"), vm(start=False)
    base = one.chain()[0]
    loop = run("losetup", "-f", "--show", "-r", base).stdout.strip()
    try:
        target, bus = ("vdc", "virtio") if device == "disk" else ("sdc", "sata")
        site.host.virsh("attach-disk", other.name, loop, target, "--sourcetype", "block", "--subdriver", "raw",
                        "--targetbus", bus, "--type", device, "--mode", "readonly", "--config")
        before = sha256(base)
        site.cli("snapshot", "delete", one.name, "s1", "-y", code=None, timeout=60)
        assert os.path.exists(base) and sha256(base) == before
        assert all(pattern_is(one.chain()[-1], f"{i}M", "1M", i + 1, share=True) for i in range(3))
    finally:
        run("losetup", "-d", loop)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
