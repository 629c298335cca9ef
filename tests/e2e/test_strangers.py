# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody else's virsh at the worst moment: an internal snapshot is taken. No snapshot of anybody vanishes."""

import os
import signal

import pytest

from lm import Site, pattern_is, run, wait_for
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


def internal(site, one):
    theirs(site, one)


def while_stopped(site, one, point, begin, deed):
    """The agent stands at that point meanwhile."""
    site.agent.restart(faults=f"{point}=stop@1")
    site.wait_ready()
    one.wait_status("up")
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
