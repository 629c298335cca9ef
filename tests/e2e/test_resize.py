# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk that was made larger or smaller: at its own time, or in the middle of what livemerge does with it. Nothing
that the guest wrote is cut off, and nothing that was cut off comes back."""

import json
import os
import signal

import pytest

from lm import Site, pattern_is, run, wait_for
from lm.crash import is_stopped


@pytest.fixture(scope="module")
def site():
    """Its storage can share blocks."""
    with Site("xfs") as whole:
        yield whole


@pytest.fixture(autouse=True)
def goes_on(site):  # pylint: disable=redefined-outer-name
    """A test that fails leaves no agent that is stopped."""
    yield
    os.kill(site.agent.pid, signal.SIGCONT)


def size(image):
    """In MiB."""
    return json.loads(run("qemu-img", "info", "-U", "--output=json", image).stdout)["virtual-size"] >> 20


# ---- larger, while it runs

def grow_at(site, one, point, begin):
    """The disk grows from 64 to 96 MiB, and the guest writes there, while the agent stands at that point."""
    site.agent.restart(faults=f"{point}=stop@1")
    site.wait_ready()
    one.wait_status("up")
    told = begin()
    wait_for(lambda: is_stopped(site.agent), 60, f"the agent stops at {point}")
    site.host.virsh("blockresize", one.name, "vda", "96M")
    site.host.write(one.name, 0, "80M", "1M", 77)
    os.kill(site.agent.pid, signal.SIGCONT)
    return told


def expect_grown(site, one):
    assert int(site.host.virsh("domblkinfo", one.name, "vda").split()[1]) >> 20 == 96, one.chain()
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    assert pattern_is(one.chain()[-1], "80M", "1M", 77)


@pytest.mark.parametrize("point", ["before-create", "before-switch"])
def test_grows_as_a_snapshot_is_taken(site, vm, point):  # pylint: disable=redefined-outer-name
    """libvirt takes a new volume as it is, also one that is smaller than the disk."""
    one = vm()
    grow_at(site, one, f"agent.snapshot.{point}",
            lambda: site.cli("snapshot", "create", one.name, "s1", "--no-wait"))
    wait_for(lambda: "s1" in one.snapshots() and one.snapshots()["s1"]["snapshot_status"] == "ok", 30, "there is s1")
    expect_grown(site, one)


@pytest.mark.parametrize("strategy,point", [
    ("graft", "agent.merge.before-record"), ("graft", "agent.graft.before-seal"),
    ("graft", "agent.graft.built"), ("copy", "agent.merge.before-start")])
def test_grows_as_snapshots_are_merged(site, vm, strategy, point):  # pylint: disable=redefined-outer-name
    one = vm().layers("s1", "s2")
    site.host.write(one.name, 0, "20M", "16M", 9)  # a leaf that is worth a seal
    job = grow_at(site, one, point, lambda: one.begin_delete("s1", "s2", options=("--strategy", strategy)))
    wait_for(lambda: one.job(job)["status"] != "started", 60, "the job ends")  # well, or refused: libvirt has a say
    expect_grown(site, one)
    assert pattern_is(one.chain()[-1], "20M", "16M", 9)


# ---- smaller, by a person who wants it so

def shrunk(site, one):
    """64 MiB, then 32, then (in s3's volume, and the leaf) 64 again: what lay beyond reads as zeros there."""
    site.host.write(one.name, 0, "1M", "1M", 3)
    site.host.write(one.name, 0, "40M", "1M", 7)
    one.snap("s1")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    run("qemu-img", "resize", "--shrink", one.chain()[-1], "32M")
    one.snap("s2")
    run("qemu-img", "resize", one.chain()[-1], "64M")
    one.snap("s3")


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("strategy,doomed", [("auto", ["s1"]), ("commit", ["s1"]), ("commit", ["s1", "s2"])])
def test_what_was_cut_off_stays_away(site, vm, strategy, doomed, state):  # pylint: disable=redefined-outer-name
    """A commit of a volume into a larger one leaves the end of that as it is, for those above to read."""
    one = vm()
    shrunk(site, one)
    if state == "up":
        site.host.virsh("start", one.name)
        one.wait_status("up")
    possible = strategy != "commit" or doomed == ["s1", "s2"]
    done = site.cli("snapshot", "delete", one.name, *doomed, "-y", "--strategy", strategy, code=0 if possible else None)
    assert possible or ("smaller" in done.err and one.names() == ["s1", "s2", "s3"]), done
    if state == "up":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    leaf = one.chain()[-1]
    assert size(leaf) == 64 and pattern_is(leaf, "1M", "1M", 3)
    assert pattern_is(leaf, "40M", "1M", 0), "data that the disk had lost came back"
    if not possible:
        assert pattern_is(one.chain()[0], "40M", "1M", 7)


def test_a_smaller_leaf_stays_small(site, vm):  # pylint: disable=redefined-outer-name
    one = vm()
    site.host.write(one.name, 0, "40M", "1M", 7)
    one.snap("s1")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    run("qemu-img", "resize", "--shrink", one.chain()[-1], "32M")
    site.host.virsh("start", one.name)
    one.wait_status("up")
    assert one.delete("s1")["status"] == "finished"
    assert size(one.chain()[-1]) == 32


def test_smaller_just_before_a_cold_commit(site, vm):  # pylint: disable=redefined-outer-name
    """Nobody has the volumes open until the storage daemon comes."""
    one = vm().layers("s1")
    site.host.write(one.name, 0, "40M", "1M", 7)
    one.snap("s2")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    site.agent.restart(faults="agent.merge.before-start=stop@1")
    site.wait_ready()
    one.wait_status("down")
    job = one.begin_delete("s2", options=("--strategy", "commit"))
    wait_for(lambda: is_stopped(site.agent), 60, "the agent stops before it starts the daemon")
    leaf = one.chain()[-1]
    run("qemu-img", "resize", "--shrink", leaf, "32M")
    os.kill(site.agent.pid, signal.SIGCONT)
    wait_for(lambda: one.job(job)["status"] != "started", 60, lambda: f"the job ends: {one.job(job)}")
    assert size(one.chain()[-1]) == 32, f"what was cut off is there again: {one.job(job)}"
    assert all(snapshot["snapshot_status"] == "ok" for snapshot in one.snapshots().values()), one.snapshots()
    one.delete("s2")
    assert size(one.chain()[-1]) == 32
    assert all(pattern_is(one.chain()[-1], f"{i}M", "1M", i + 1) for i in range(2))
