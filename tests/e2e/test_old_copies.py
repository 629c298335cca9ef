# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a backup brings back is older than the world: nothing that has ended is done again, nothing is shown that is not."""

import os
import shutil
import signal

import pytest

from lm import items, pattern_is, qemu_img, wait_for


@pytest.fixture(autouse=True)
def everything_runs_again(site):
    yield
    site.mend()


def is_stopped(daemon):
    with open(f"/proc/{daemon.pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


def newest_job(site):
    return items(site.rest.json("GET", "/jobs"), "job")[0]


def bring_back(daemon, copy):
    daemon.stop()
    state = daemon.directory / "state"
    shutil.rmtree(state)
    shutil.copytree(copy, state)
    daemon.start()


def test_job_that_has_ended_is_not_done_again(site, vm):
    """A backup was made just when a user powered a VM off. It was started since; then the backup is brought back."""
    one = vm()
    copy = site.work / "copy"
    site.manager.restart(faults="flow.before-call=stop@1")
    site.wait_ready()
    one.wait_status("up")
    with site.cli.spawn("vm", "stop", one.name, "-y") as asked:
        wait_for(lambda: is_stopped(site.manager), 20, "the manager is about to ask the agent")
        shutil.copytree(site.manager.directory / "state", copy)
        os.kill(site.manager.pid, signal.SIGCONT)
        assert asked.wait(60) == 0
    one.wait_status("down")
    site.cli("vm", "start", one.name)
    bring_back(site.manager, copy)
    site.wait_ready()
    wait_for(lambda: newest_job(site)["status"] != "started", 40, "the job ends")
    assert newest_job(site)["status"] == "failed" and "has ended already" in newest_job(site)["error"], newest_job(site)
    assert site.host.state(one.name) == "running"


def nothing_is_under_way(site, one):
    wait_for(lambda: "Nothing wrong" in site.cli("doctor", one.name, code=None).err, 40,
             lambda: f"the doctor looks, and finds nothing: {site.cli('doctor', one.name, code=None)}")


@pytest.mark.parametrize("then, runs", [("cancelled", True), ("finished", False)])
def test_merge_that_has_ended_is_not_done_again(site, vm, then, runs):
    """The agent's journal is brought back, from while a merge was under way: it was cancelled since, and the snapshot
    stays; or it has ended, and what was built then is the VM's disk by now. Nothing holds the VM."""
    one = vm().layers("s1")
    site.host.write(one.name, 0, "16M", "4M", 9)
    one.snap("s2")
    if not runs:
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    copy = site.work / f"copy-{then}"
    job = one.begin_delete("s2", options=["--strategy", "copy", "--bandwidth", "1"])
    wait_for(lambda: one.job(job).get("progress", {}).get("bytes_done", 0) > 1 << 20, 30, "data move")
    os.kill(site.agent.pid, signal.SIGSTOP)
    shutil.copytree(site.agent.directory / "state", copy)
    os.kill(site.agent.pid, signal.SIGCONT)
    if then == "cancelled":
        site.cli("job", "cancel", job)
    one.wait_job(job, "aborted" if then == "cancelled" else "finished")
    before = (one.names(), one.chain(), one.files())
    bring_back(site.agent, copy)
    site.wait_ready()
    nothing_is_under_way(site, one)
    assert "is an old copy" in site.agent.tail()
    assert (one.names(), one.chain(), one.files()) == before
    assert pattern_is(one.chain()[-1], "16M", "4M", 9, share=runs)
    one.expect_layers(2)


def test_clone_that_is_used_is_not_built_again(site, vm):
    """The same, from while a VM was cloned: the clone is a VM like others since, and nobody takes its disks away."""
    one = vm().layers("s1")
    copy = site.work / "copy-clone"
    site.agent.restart(faults="agent.clone.before-build=stop@1")
    site.wait_ready()
    one.wait_status("up")
    with site.cli.spawn("vm", "clone", one.name, "a-clone", "--snapshot", "s1", "--copy") as asked:
        wait_for(lambda: is_stopped(site.agent), 20, "the agent is about to build")
        shutil.copytree(site.agent.directory / "state", copy)
        os.kill(site.agent.pid, signal.SIGCONT)
        assert asked.wait(60) == 0
    clone = site.host.chain("a-clone", "vda", inactive=True)
    files = [(path, os.stat(path).st_ino) for path in clone]
    bring_back(site.agent, copy)
    site.wait_ready()
    nothing_is_under_way(site, one)
    assert "is an old copy" in site.agent.tail()
    assert [(path, os.stat(path).st_ino) for path in clone] == files
    assert pattern_is(clone[-1], "0M", "1M", 1)
    site.cli("vm", "remove", "a-clone", "-y")


def test_vm_that_was_made_anew_is_not_removed(site, vm):
    """The agent's journal is brought back, from just before a VM was removed: one of the same id has been defined since."""
    one = vm(start=False)
    xml = site.work / "removed.xml"
    xml.write_text(site.host.virsh("dumpxml", "--inactive", one.name), encoding="utf-8")
    leaf = site.host.leaf(one.name, "vda", inactive=True)
    copy = site.work / "copy-remove"
    site.agent.restart(faults="agent.remove.before-undefine=stop@1")
    site.wait_ready()
    one.wait_status("down")
    with site.cli.spawn("vm", "remove", one.name, "-y") as asked:
        wait_for(lambda: is_stopped(site.agent), 20, "the agent is about to undefine it")
        shutil.copytree(site.agent.directory / "state", copy)
        os.kill(site.agent.pid, signal.SIGCONT)
        assert asked.wait(60) == 0
    one.directory.mkdir(exist_ok=True)
    qemu_img("create", "-q", "-f", "qcow2", leaf, "64M")
    site.host.virsh("define", xml)
    one.wait_status("down")
    bring_back(site.agent, copy)
    site.wait_ready()
    wait_for(lambda: "is an old copy" in site.agent.tail(), 20, lambda: f"it is noticed:\n{site.agent.tail()}")
    nothing_is_under_way(site, one)
    assert os.path.exists(leaf) and one.name in site.host.virsh("list", "--all", "--name").split()


def copy_in(site, one, point, *asked):
    """What is asked of the command line is done; the copy of the agent's state is from its fault point."""
    copy = site.work / f"copy-{one.name}"
    site.agent.restart(faults=f"{point}=stop@1")
    site.wait_ready()
    wait_for(lambda: one.document()["status"] in ("up", "down"), 20, "it is seen")
    with site.cli.spawn(*asked) as doing:
        wait_for(lambda: is_stopped(site.agent), 20, f"the agent is at {point}")
        shutil.copytree(site.agent.directory / "state", copy)
        os.kill(site.agent.pid, signal.SIGCONT)
        assert doing.wait(60) == 0
    return copy


def off(site, one):
    if site.host.state(one.name) == "running":
        site.host.virsh("destroy", one.name)
    one.wait_status("down")


def is_as_before(site, one, copy):
    """Brought back, the copy changes nothing."""
    def state():
        return (one.names(), site.host.chain(one.name, "vda", inactive=True), one.files(), site.host.state(one.name),
                one.document()["status"])

    before = state()
    bring_back(site.agent, copy)
    site.wait_ready()
    nothing_is_under_way(site, one)
    assert state() == before, site.agent.tail()


@pytest.mark.parametrize("point", ["before-create", "before-switch"])
@pytest.mark.parametrize("runs", [True, False], ids=["up", "off"])
def test_snapshot_that_was_taken_is_not_undone(site, vm, runs, point):
    """What was its empty new volume then is a part of the chain, on which another one stands, since."""
    one = vm()
    if not runs:
        off(site, one)
    copy = copy_in(site, one, f"agent.snapshot.{point}", "snapshot", "create", one.name, "s1")
    one.snap("s2")
    is_as_before(site, one, copy)


def test_snapshot_that_was_taken_is_not_undone_beside_a_preview(site, vm):
    """What was its empty new volume then is the line that the preview has left, with all that was written last."""
    one = vm().layers("s1")
    copy = copy_in(site, one, "agent.snapshot.before-create", "snapshot", "create", one.name, "s2")
    site.host.write(one.name, 0, "20M", "1M", 9)
    off(site, one)
    site.cli("snapshot", "preview", one.name, "s1")
    is_as_before(site, one, copy)
    site.cli("snapshot", "undo", one.name, "-y")
    assert pattern_is(one.chain()[-1], "20M", "1M", 9)


@pytest.mark.parametrize("point", ["before-create", "before-manifest", "after-manifest"])
@pytest.mark.parametrize("then", ["commit", "undo"])
def test_preview_that_has_ended_is_not_begun_again(site, vm, then, point):
    """Its leaf is the VM's since, empty or not, with a snapshot on it; or was thrown away."""
    one = vm().layers("s1", "s2")
    off(site, one)
    copy = copy_in(site, one, f"agent.preview.{point}", "snapshot", "preview", one.name, "s1")
    site.cli("snapshot", then, one.name, "-y")
    if then == "commit":
        one.snap("s3")
    is_as_before(site, one, copy)


@pytest.mark.parametrize("point", ["before-manifest", "after-manifest"])
@pytest.mark.parametrize("end", ["commit", "undo"])
def test_end_of_a_preview_does_not_end_the_next(site, vm, end, point):
    """The same snapshot is tried once more, and what is written there is nothing that an old journal may judge."""
    one = vm().layers("s1", "s2")
    off(site, one)
    site.cli("snapshot", "preview", one.name, "s1")
    copy = copy_in(site, one, f"agent.branch.{point}", "snapshot", end, one.name, "-y")
    site.cli("snapshot", "preview", one.name, "s1")
    is_as_before(site, one, copy)
    site.cli("snapshot", "undo", one.name, "-y")  # it lasts
