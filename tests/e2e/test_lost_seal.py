# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirtd is killed as a graft seals the leaf: QEMU writes the new volume, libvirt names the old one for ever. Which
of the two is the newer one is told by what was seen; where that is in doubt a person decides, as he is told."""

import re
import subprocess

import pytest

from lm import Disk, Site, pattern_is, wait_for
from lm.qmp import Qmp


@pytest.fixture(scope="module")
def site():
    """Volumes that can share blocks, and a libvirt that asks nobody before it starts a VM."""
    whole = Site("xfs")
    whole.host.guard = None
    with whole:
        yield whole


@pytest.fixture(name="lost")
def lost_seal(site, vm, request):
    """A VM, the job that deletes its snapshots, and the file that only its QEMU knows as the leaf. The agent is dead."""
    directory = site.work / "v" / f"of {request.node.name}"  # a shell must not take it for several words
    one = vm([Disk("256M")], monitor=True, directory=directory).layers("s1", "s2")
    site.host.write(one.name, 0, "100M", "64M", 9)
    before, qmp = one.files(), Qmp(site.host, one.name)
    site.agent.restart(faults="agent.graft.before-seal=die@1")
    site.wait_ready()
    job = one.begin_delete("s1", "s2", options=("--strategy", "graft"))
    site.agent.wait_dead()
    seal, = set(one.files()) - set(before)
    leaf, = [block["inserted"]["node-name"] for block in qmp("query-block") if block.get("inserted")]
    qmp(("blockdev-add", {"node-name": "seal", "driver": "qcow2", "backing": None,
                          "file": {"driver": "file", "filename": seal}}),
        ("blockdev-snapshot", {"node": leaf, "overlay": "seal"}))
    qmp.io(0, "write -P 7 200M 1M", "flush")
    assert site.host.leaf(one.name, "vda") != seal == qmp.leaves()["virtio-disk0"]
    yield one, job, seal
    site.mend()


def waits(one, job, *words):
    def says():
        text = one.job(job).get("waiting_for", "")
        return text if all(word in text for word in words) else None

    return wait_for(says, 30, f"the job waits and says {words}")


def finish(site, one, job, pattern):
    one.wait_job(job)
    one.wait_status("down")
    leaf, = one.chain()
    assert site.host.leaf(one.name, "vda", inactive=True) == leaf
    assert pattern_is(leaf, "200M", "1M", pattern)
    assert pattern_is(leaf, "100M", "64M", 9)


def test_goes_on_from_the_new_volume(site, lost):
    one, job, seal = lost
    site.mend()
    waits(one, job, seal, "power the VM off")
    site.host.virsh("destroy", one.name)
    finish(site, one, job, 7)
    one.expect_layers(3)


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_started_from_the_old_volume(site, lost, seen):
    """The guest has written to both, and what it was told to be durable is removed from neither."""
    one, job, seal = lost
    if seen:
        site.mend()
        waits(one, job, seal, "power the VM off")
        site.agent.kill9()
    site.host.virsh("destroy", one.name)
    site.host.virsh("start", one.name)
    site.host.write(one.name, 0, "200M", "1M", 8)
    site.host.virsh("destroy", one.name)
    site.mend()
    text = waits(one, job, seal, "only a person can tell", "has been written since" if seen else "start guard")
    assert pattern_is(seal, "200M", "1M", 7)
    command = re.search(r"mv .*\.aside'?", text).group(0)
    subprocess.run(["sh", "-c", command], check=True)
    finish(site, one, job, 8)
    assert pattern_is(f"{seal}.aside", "200M", "1M", 7), "what it stands on is still there"


@pytest.mark.parametrize("started", [False, True], ids=["new", "both"])
def test_cancelled_while_it_waits(site, lost, started):
    """Somebody gives up the merge that waits for him: that decides nothing, so it waits and says the same until he has
    done as he is told. Then all is as before the merge, but for what the guest has written since."""
    one, job, seal = lost
    site.mend()
    waits(one, job, seal, "power the VM off")
    if started:
        site.agent.kill9()  # else it could be faster, and point the VM at the new volume
        site.host.virsh("destroy", one.name)
        site.host.virsh("start", one.name)
        site.host.write(one.name, 0, "200M", "1M", 8)
        site.host.virsh("destroy", one.name)
        site.mend()
        waits(one, job, seal, "only a person can tell")
    asked = site.cli("job", "cancel", job)
    assert asked.code == 0
    text = waits(one, job, seal, "only a person can tell" if started else "power the VM off")
    assert one.job(job)["status"] == "started"
    if started:
        assert pattern_is(seal, "200M", "1M", 7)
        subprocess.run(["sh", "-c", re.search(r"mv .*\.aside'?", text).group(0)], check=True)
    else:
        assert seal in one.files(), "its QEMU writes it"
        site.host.virsh("destroy", one.name)
    done = wait_for(lambda: one.job(job)["status"] != "started" and one.job(job), 60, "the job ends")
    assert done["status"] == "aborted", done
    one.wait_status("down")
    assert one.names() == ["s1", "s2"] and len(one.chain()) == 3
    kept = [f"{seal}.aside"] if started else []
    assert set(one.files()) == {*one.chain(), *kept}, "files were left behind"
    assert site.host.leaf(one.name, "vda", inactive=True) == one.chain()[-1]
    assert pattern_is(one.chain()[-1], "200M", "1M", 8 if started else 7)
    one.delete("s1", "s2")
    leaf, = one.chain()
    assert pattern_is(leaf, "200M", "1M", 8 if started else 7)
    assert pattern_is(leaf, "100M", "64M", 9)
