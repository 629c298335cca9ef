# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VM stops, or runs again, in the middle of a delete: the delete goes on and ends well, cold or
live, and nothing that was written is lost."""


import pytest

from lm import Disk, Site, check_image, items, pattern_is, run, verify_acked, wait_for

MIB = 48
LIMIT = ("--bandwidth", "8")
STRATEGIES = [("commit", "s2"), ("commit-active", "s3"), ("copy", "s3")]
IDS = [row[0] for row in STRATEGIES]


@pytest.fixture(scope="module")
def site():
    """An installation on XFS, so that graft can be had too."""
    with Site("xfs") as whole:
        yield whole


@pytest.fixture
def slow(site, vm):  # pylint: disable=redefined-outer-name
    """48 MiB in the volume of s3 and again, others, in the leaf: seconds of work at 8 MiB/s."""
    one = vm().snap("s1", "s2")
    site.host.write(one.name, 0, "0", f"{MIB}M", 7)
    one.snap("s3")
    site.host.write(one.name, 0, "8M", f"{MIB}M", 8)
    return one


def content_is_right(one):
    leaf = one.chain()[-1]
    assert pattern_is(leaf, "0", "8M", 7, share=True), "what s3 holds is lost"
    assert pattern_is(leaf, "8M", f"{MIB}M", 8, share=True), "what the leaf held is lost"


def begin(one, strategy, name):
    """Begins the delete and waits until data move."""
    job = one.begin_delete(name, options=(*LIMIT, "--strategy", strategy))
    wait_for(lambda: one.job(job).get("progress", {}).get("bytes_done", 0) > 4 << 20, 30, "data move",
             every=0.02)
    return job


def finish(site, one, job, gone, status):  # pylint: disable=redefined-outer-name
    done = one.wait_job(job, timeout=90)
    assert one.names() == [name for name in ("s1", "s2", "s3") if name != gone]
    assert len(one.chain()) == 3
    one.wait_status(status)
    content_is_right(one)
    assert set(one.files()) == set(one.chain()), "files were left behind"
    assert site.host.leaf(one.name, "vda") == site.host.leaf(one.name, "vda", inactive=True)
    if status == "down":
        for image in one.chain():
            run("qemu-img", "check", "-q", image)
        site.host.virsh("start", one.name)
        one.wait_status("up")
        content_is_right(one)
    return items(done, "disks", "disk")[0]


@pytest.mark.parametrize("strategy,name", STRATEGIES, ids=IDS)
def test_power_off(site, slow, strategy, name):  # pylint: disable=redefined-outer-name
    job = begin(slow, strategy, name)
    site.host.virsh("destroy", slow.name)
    disk = finish(site, slow, job, name, "down")
    assert disk["strategy"] == ("copy" if strategy == "copy" else "cold-commit"), disk


@pytest.mark.parametrize("strategy,name", STRATEGIES, ids=IDS)
def test_shutdown_from_inside(site, vm, strategy, name):  # pylint: disable=redefined-outer-name
    """The guest writes to the last moment and powers itself off; what it was promised is there, and the
    delete ends well."""
    one = vm([Disk("96M")], guest=True)
    one.guest.start_stream("vda", pace_us=500)
    for snapshot in ("s1", "s2"):
        one.guest.wait_acked(50)
        one.snap(snapshot)
    site.host.write(one.name, 0, "20M", f"{MIB}M", 7)
    one.snap("s3")
    site.host.write(one.name, 0, "20M", f"{MIB}M", 8)
    job = begin(one, strategy, name)
    acked = one.guest.acked()
    assert acked > 100
    one.guest.command("p")
    wait_for(lambda: site.host.state(one.name) == "shut off", 30, "the guest powers itself off")
    done = one.wait_job(job, timeout=90)
    assert items(done, "disks", "disk")[0]["strategy"] == ("copy" if strategy == "copy" else "cold-commit")
    one.wait_status("down")
    chain = one.chain()
    assert len(chain) == 3 and set(one.files()) == set(chain), (chain, one.files())
    for path in chain:
        check_image(path)
    verify_acked(chain[-1], one.guest.streams["vda"], site.work.path)
    assert pattern_is(chain[-1], "20M", f"{MIB}M", 8)


def start_when_it_may(site, one):  # pylint: disable=redefined-outer-name
    """QEMU's locks refuse the start while the storage daemon works."""
    def started():
        site.host.virsh("start", one.name, check=False)
        return site.host.state(one.name) == "running"

    wait_for(started, 60, "the VM runs again", every=0.1)


@pytest.mark.parametrize("strategy,name", STRATEGIES, ids=IDS)
def test_power_cycle(site, slow, strategy, name):  # pylint: disable=redefined-outer-name
    job = begin(slow, strategy, name)
    site.host.virsh("destroy", slow.name)
    start_when_it_may(site, slow)
    disk = finish(site, slow, job, name, "up")
    assert disk["strategy"] in (strategy, "cold-commit"), disk


@pytest.mark.parametrize("strategy,name", STRATEGIES[:2], ids=IDS[:2])
def test_start_of_a_vm_that_is_off(site, slow, strategy, name):  # pylint: disable=redefined-outer-name
    """The locks refuse it while the merge goes on; afterwards it starts on what is left."""
    site.host.virsh("destroy", slow.name)
    slow.wait_status("down")
    job = begin(slow, "cold-commit", name)
    start_when_it_may(site, slow)
    assert finish(site, slow, job, name, "up")["strategy"] in (strategy, "cold-commit")


GRAFT_POINTS = ["agent.merge.before-record", "agent.graft.before-seal", "agent.graft.after-seal",
                "agent.graft.built", "agent.merge.before-start", "agent.merge.after-start",
                "agent.pivot.before-suspend", "agent.pivot.suspended", "agent.pivot.before-manifest",
                "agent.pivot.after-manifest"]


def start(site, one):
    site.host.virsh("start", one.name, check=False)
    return site.host.virsh("domstate", one.name) == "running"


@pytest.mark.parametrize("again", [False, True], ids=["off", "cycled"])
@pytest.mark.parametrize("point", GRAFT_POINTS)
def test_graft(site, slow, point, again):  # pylint: disable=redefined-outer-name
    """A graft is too quick to be caught: the agent dies in the middle, and finds the VM off, or in
    another life."""
    site.agent.restart(faults=f"{point}=die@1")
    site.wait_ready()
    job = slow.begin_delete("s3", options=("--strategy", "graft"))
    site.agent.wait_dead()
    site.host.virsh("destroy", slow.name)
    if again:
        # in the middle of a pivot the guard lets it start once the agent has decided which leaf
        site.host.virsh("start", slow.name, check=point != "agent.pivot.before-manifest")
    site.mend()
    if again and site.host.virsh("domstate", slow.name) != "running":
        wait_for(lambda: start(site, slow), 20, "the guard lets the VM start", every=0.2)
    disk = finish(site, slow, job, "s3", "up" if again else "down")
    assert disk["strategy"] == "graft", disk
