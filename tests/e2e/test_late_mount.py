# SPDX-License-Identifier: LGPL-2.1-or-later
"""A storage domain that is mounted after the agent has started, or is away for a while: the agent notices by itself."""

import itertools
import os
import time

import pytest

from lm import Agent, Disk, Site, pattern_is, qemu_img, run, wait_for

GRACE_S = 31  # doctor_grace_s
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def site():
    whole = Site()
    (whole.work / "late").mkdir()
    Agent(whole.agent.directory, whole.host.uri, {"late": whole.work / "late"})  # its configuration
    with whole:
        yield whole


@pytest.fixture
def late(site):
    """The file system; the VMs are off, for libvirtd's own view of mounts does not change. Its file is another one each
    time: a host that another test makes just now keeps a copy of what is mounted, so that this one would come back
    with all that lay there, whatever was written over its file since."""
    image, where = site.work / f"late{next(numbers)}.img", site.work / "late"
    run("truncate", "-s", "128M", image)
    run("mkfs.ext4", "-q", "-F", image)

    class Late:
        path = where

        @staticmethod
        def mount():
            run("mount", "-o", "loop", image, where)

        @staticmethod
        def umount():
            wait_for(lambda: not where.is_mount() or run("umount", where), 20, f"{where} is not in use")

    yield Late
    site.agent.stop()
    Late.umount()
    site.agent.start()


def write(path, offset, pattern):
    run("qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {offset} 1M", path)


def vm_with_snapshots(site, vm, late, disks=1):
    """A VM that is off; MiB i of its first disk, which lies on the late storage, holds pattern i+1."""
    late.mount()
    site.agent.restart()
    site.wait_ready()
    path = late.path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    one = vm([Disk(path=str(path)), *[Disk() for _ in range(disks - 1)]], start=False)
    for i, name in enumerate(("s1", "s2", None)):
        write(site.host.leaf(one.name, "vda"), f"{i}M", i + 1)
        if name:
            one.snap(name)
    return one


def is_whole(one):
    leaf = one.site.host.leaf(one.name, "vda")
    return all(pattern_is(leaf, f"{i}M", "1M", i + 1) for i in range(3))


def test_mounted_late(site, vm, late):
    """The agent has made a storage domain of the empty mount point. That is forgotten when the real one is there:
    nobody restarts anything."""
    one = vm_with_snapshots(site, vm, late)
    chain = one.chain()
    site.agent.stop()
    late.umount()
    site.agent.start()
    site.wait_ready()
    wait_for(lambda: "No such file" in str(one.document()), 20, lambda: f"it is not managed: {one.document()}")
    late.mount()
    wait_for(lambda: one.names() == ["s1", "s2"], 30, lambda: f"its snapshots are seen: {one.names()}\n{site.agent.tail()}")
    one.delete("s1")
    assert one.names() == ["s2"] and is_whole(one)
    assert len(one.chain()) == len(chain) - 1
    assert set(late.path.glob("*.qcow2")) == {late.path / path.rsplit("/", 1)[1] for path in one.chain()}
    one.delete("s2")
    assert one.names() == [] and is_whole(one)


def test_unmounted_for_a_while(site, vm, late):
    """What then is below the mount point is not taken for it: nothing is made there, nothing is forgotten."""
    one = vm_with_snapshots(site, vm, late)
    late.umount()
    wait_for(lambda: site.cli("snapshot", "delete", one.name, "s1", "-y", code=None, timeout=20).code != 0, 20, "refused")
    assert not list((late.path / ".livemerge").glob("vms/*.json"))
    late.mount()
    wait_for(lambda: one.names() == ["s1", "s2"], 30, lambda: f"its snapshots are seen: {one.names()}\n{site.agent.tail()}")
    one.delete("s1")
    assert one.names() == ["s2"] and is_whole(one)


def test_first_of_two_storages_is_away(site, vm, late):
    """Its manifest lies there: none is begun on the other, in which a snapshot would be that is gone when it is back."""
    one = vm_with_snapshots(site, vm, late, disks=2)
    chain = site.host.chain(one.name, "vdb", inactive=True)
    late.umount()
    refused = site.cli("snapshot", "create", one.name, "s3", code=None)
    assert refused.code != 0 and "is its storage mounted?" in refused.err, refused
    site.agent.restart()  # which takes the mount point for a storage without anything
    site.wait_ready()
    refused = site.cli("snapshot", "create", one.name, "s3", code=None)
    assert refused.code != 0 and "is its storage mounted?" in refused.err, refused
    assert site.host.chain(one.name, "vdb", inactive=True) == chain
    assert not list(one.directory.glob(".livemerge/vms/*.json"))
    late.mount()
    wait_for(lambda: one.names() == ["s1", "s2"], 30, lambda: f"its snapshots are seen: {one.names()}\n{site.agent.tail()}")
    one.snap("s3")
    assert one.names() == ["s1", "s2", "s3"] and is_whole(one)


def test_nothing_is_orphaned_while_the_first_storage_is_away(site, vm, late):
    """That a preview has left a line on the second one stands in the manifest on the first."""
    one = vm_with_snapshots(site, vm, late, disks=2)
    old = site.host.leaf(one.name, "vdb", inactive=True)
    site.cli("snapshot", "preview", one.name, "s1")
    site.agent.stop()
    late.umount()
    site.agent.start()
    site.wait_ready()
    wait_for(lambda: time.time() - os.stat(old).st_ctime > GRACE_S, GRACE_S + 10, "the files are old enough to be judged")
    assert "orphan" not in site.cli("doctor", code=None).out
    late.mount()
    wait_for(lambda: one.names() == ["s1", "s2"], 30, "its snapshots are seen")
    site.cli("snapshot", "undo", one.name, "-y")
    assert site.host.leaf(one.name, "vdb", inactive=True) == old and is_whole(one)


def test_remove_while_one_of_two_storages_is_away(site, vm, late):
    """Its volumes there would be forgotten, and the disk that is there be gone."""
    one = vm_with_snapshots(site, vm, late, disks=2)
    late.umount()
    first = site.host.leaf(one.name, "vdb", inactive=True)
    refused = site.cli("vm", "remove", one.name, "-y", code=None)
    assert refused.code != 0 and "is its storage mounted?" in refused.err, refused
    assert os.path.exists(first) and one.name in site.host.virsh("list", "--all", "--name").split()
    late.mount()
    wait_for(lambda: one.names() == ["s1", "s2"], 30, "its snapshots are seen")
    removed = site.cli("vm", "remove", one.name, "-y")
    assert not list(late.path.glob("*.qcow2")) and not os.path.exists(first), removed
