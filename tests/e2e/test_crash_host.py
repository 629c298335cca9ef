# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host is destroyed in the middle of a delete. That it is silent proves nothing; that an administrator takes it out
of the manager's configuration is his word that it is gone. Its VM starts on another host from the right leaf, the
delete is judged by the chain there, and no write is lost. (Storage that hosts share, and who fences them, is the
administrator's; livemerge does not move VMs.)"""

import os

import pytest

from lm import Manager, items, two_hosts, wait_for
from lm.crash import is_stopped


@pytest.fixture
def site():
    """Two hosts, A and B, which have the same directories."""
    with two_hosts() as both:
        yield both


def destroy(site):
    """Host A, with its agent, for ever: the site is B's from now on."""
    site.agent.kill9()
    site.host.down()
    site.host, site.agent = site.other.host, site.other.agent


def remove_what_is_left(one):
    """The copy that host A was making: the doctor tells of it when it is older than half a minute (agent_doctor_test)."""
    left = set(one.files()) - set(one.chain())
    assert len(left) <= 1, left
    for file in left:
        os.unlink(file)


@pytest.mark.parametrize("point", ["pivot.before-manifest", "delete.before-unlink"])
def test_a_host_is_destroyed(site, vm, point):
    one = vm().layers("s1", "s2")
    kept = site.work / "kept.xml"
    kept.write_text(site.host.virsh("dumpxml", "--inactive", one.name), encoding="utf-8")
    site.agent.restart(faults=f"agent.{point}=stop@1")
    site.wait_ready()
    one.wait_status("up")
    job = one.begin_delete("s2", options=("--strategy", "copy"))
    wait_for(lambda: is_stopped(site.agent), 60, f"the agent stops at {point}")
    if point.startswith("delete"):
        site.host.write(one.name, 0, "2M", "1M", 3)  # on the new leaf alone
    destroy(site)
    one.wait_status("unknown")
    wait_for(lambda: "waiting_for" in one.job(job), 30, "the job says what it waits for")
    site.host.virsh("define", kept)  # names the old leaf
    first = one.virsh_start()
    assert first.returncode == 0 or "Nothing is lost" in first.stderr, first
    if first.returncode != 0:
        assert point != "pivot.before-manifest", f"the old leaf is the truth: {first.stderr}"
        wait_for(lambda: one.virsh_start().returncode == 0, 20, "the definition is mended, and the VM starts")
    one.wait_status("up", 30)
    assert one.job(job)["status"] == "started", "a host that is silent may be alive"
    site.manager.stop()
    Manager(site.manager.directory, {"B": site.agent.address})
    site.manager.start()
    site.wait_ready()
    done = wait_for(lambda: one.job(job)["status"] != "started" and one.job(job), 60, "the job ends")
    if done["status"] == "finished":
        assert one.names() == ["s1"]
    else:
        assert point == "pivot.before-manifest" and "delete the snapshot again" in str(done), done
        one.delete("s2")
    one.wait_status("up")
    assert one.names() == ["s1"]
    found = items(site.cli("doctor", one.name, "--json", code=None).json, "findings", "finding")
    assert not found, f"the doctor found: {found}"
    remove_what_is_left(one)
    one.expect_layers(3)
