# SPDX-License-Identifier: LGPL-2.1-or-later
"""The strategy graft on file systems that share blocks: no data are moved, nothing that exists is changed,
and nothing that the guest writes meanwhile is lost."""


import pytest

from lm import Disk, Site, items, pattern_is, run

NAMES = ["s1", "s2", "s3"]
GRAFT = ("--strategy", "graft")


@pytest.fixture(scope="module", params=["xfs", "btrfs"])
def site(request):
    """An installation whose volumes lie on a file system of that type, mounted before the host comes up."""
    with Site(request.param) as whole:
        yield whole


def grafted(job, disks=1, strategy="graft"):
    accounts = items(job, "disks", "disk")
    assert job["status"] == "finished" and len(accounts) == disks, job
    for disk in accounts:
        assert disk["strategy"] == strategy, disk
        assert items(disk, "volumes_removed", "volume"), disk
    return accounts


@pytest.mark.parametrize("state", ["up", "paused"])
@pytest.mark.parametrize("doomed", [["s1"], ["s3"], ["s1", "s3"], NAMES], ids="+".join)
def test_any_set(site, vm, doomed, state):  # pylint: disable=redefined-outer-name
    one = vm(2, paused=state == "paused")
    one.layers(*NAMES, disks=2)
    grafted(one.delete(*doomed, options=GRAFT), 2)
    assert one.names() == [name for name in NAMES if name not in doomed]
    for target in ("vda", "vdb"):
        assert len(one.chain(target)) == 4 - len(doomed)
        assert site.host.leaf(one.name, target) == site.host.leaf(one.name, target, inactive=True)
    one.wait_status(state)
    one.expect_layers(4, disks=2)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    one.expect_layers(4, disks=2)


@pytest.mark.parametrize("strategy", ["graft", "copy"])
@pytest.mark.parametrize("doomed", [["s1"], ["s3"], ["s1", "s3"], NAMES], ids="+".join)
def test_any_set_while_off(site, vm, doomed, strategy):  # pylint: disable=redefined-outer-name
    one = vm(2)
    one.layers(*NAMES, disks=2)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    grafted(one.delete(*doomed, options=("--strategy", strategy)), 2, strategy)
    assert one.names() == [name for name in NAMES if name not in doomed]
    for target in ("vda", "vdb"):
        assert len(one.chain(target)) == 4 - len(doomed)
    one.expect_layers(4, disks=2)
    site.host.virsh("start", one.name)
    one.wait_status("up")
    one.expect_layers(4, disks=2)


@pytest.mark.parametrize("point", ["agent.graft.built", "agent.cold.before-redefine",
                                   "agent.cold.after-redefine", "agent.cold.after-manifest",
                                   "agent.merge.settled"])
def test_agent_dies_while_off(site, vm, point):  # pylint: disable=redefined-outer-name
    one = vm().layers("s1", "s2")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    site.agent.restart(faults=f"{point}=die@1")
    site.wait_ready()
    job = one.begin_delete("s1", "s2", options=GRAFT)
    site.agent.wait_dead()
    site.mend()
    grafted(one.wait_job(job))
    assert len(one.chain()) == 1
    one.expect_layers(3)


@pytest.mark.parametrize("strategy", ["graft", "copy"])
@pytest.mark.parametrize("state", ["up", "down"])
def test_others_stand_on_the_old_volumes(site, vm, state, strategy):  # pylint: disable=redefined-outer-name
    """What somebody stands on stays where it is, and what that stands on."""
    one = vm().layers(*NAMES)
    old = one.chain()
    clone = one.directory / "clone.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", old[1], "-F", "qcow2", clone)
    if state == "down":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    job = one.delete("s1", "s2", options=("--strategy", strategy))
    assert job["status"] == "finished", job
    assert items(job, "disks", "disk")[0]["strategy"] == strategy
    assert len(one.chain()) == 2 and not set(one.chain()) & set(old)
    assert set(one.files()) == {*one.chain(), old[0], old[1], str(clone)}
    for image, count in ((one.chain()[-1], 4), (one.chain()[0], 3), (clone, 2)):
        for i in range(count):
            assert pattern_is(image, f"{i}M", "1M", i + 1, share=True), (image, i)


def test_a_full_leaf_is_sealed(site, vm):  # pylint: disable=redefined-outer-name
    """A leaf with much data is not copied: its blocks are shared too."""
    one = vm([Disk("256M")]).layers("s1", "s2")
    site.host.write(one.name, 0, "100M", "64M", 9)
    assert pattern_is(one.chain()[-1], "100M", "64M", 9, share=True)
    disk, = grafted(one.delete("s1", "s2", options=GRAFT))
    assert disk["bytes_copied"] < 1 << 20, disk
    assert len(one.chain()) == 1
    one.expect_layers(3)
    assert pattern_is(one.chain()[-1], "100M", "64M", 9, share=True)


def test_guest_writes_all_the_while(site, vm):  # pylint: disable=redefined-outer-name
    one = vm(2, guest=True)
    for disk in ("vda", "vdb"):
        one.guest.start_stream(disk, pace_us=500)
    for name in NAMES:
        one.guest.wait_acked(200)
        one.snap(name)
    one.guest.wait_acked(200)
    grafted(one.delete("s2", options=GRAFT), 2)
    one.guest.wait_acked(200)
    grafted(one.delete("s1", "s3", options=GRAFT), 2)
    one.guest.wait_acked(200)
    assert one.names() == []
    assert one.power_off_and_verify() > 1000


@pytest.mark.parametrize("point", ["agent.graft.before-seal", "agent.graft.after-seal", "agent.graft.built",
                                   "agent.merge.after-start", "agent.pivot.suspended",
                                   "agent.pivot.before-manifest", "agent.merge.settled"])
def test_agent_dies(site, vm, point):  # pylint: disable=redefined-outer-name
    one = vm([Disk("256M")]).layers("s1", "s2")
    site.host.write(one.name, 0, "100M", "64M", 9)
    site.agent.restart(faults=f"{point}=die@1")
    site.wait_ready()
    job = one.begin_delete("s1", "s2", options=GRAFT)
    site.agent.wait_dead()
    site.mend()
    grafted(one.wait_job(job))
    one.wait_status("up")
    one.expect_layers(3)
    assert pattern_is(one.chain()[-1], "100M", "64M", 9, share=True)


def test_copy_on_read(site, vm):  # pylint: disable=redefined-outer-name
    """QEMU keeps what a block copy has replaced open, if the disk has this filter: no job waits for that."""
    directory = site.work / "v" / "filtered"
    directory.mkdir()
    run("qemu-img", "create", "-q", "-f", "qcow2", directory / "x.qcow2", "64M")
    one = vm([Disk(xml="<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' copy_on_read='on'/>"
                       f"<source file='{directory}/x.qcow2'/><target dev='vda' bus='virtio'/></disk>")],
             directory=directory).layers(*NAMES)
    for strategy in ("graft", "copy"):
        assert "copy_on_read" in site.cli("snapshot", "delete", one.name, "s1", "-y", "--strategy", strategy, code=4).err
    one.delete("s1")
    one.delete("s3")
    one.expect_layers(4)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    grafted(one.delete("s2", options=GRAFT))
    one.expect_layers(4)
