# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manager is lost with its database: a new one finds every VM and every snapshot as they were, ends
what was under way, and leaves nothing behind. And one agent at a time deletes in a storage domain."""

import json
import os
import shutil
import signal
import sqlite3

import pytest

from lm import Agent, Cli, Host, Manager, items, lasting, wait_for
from lm.host import make_domain


@pytest.fixture(autouse=True)
def everything_runs_again(site):
    yield
    site.mend()


def lose_manager(site):
    """It dies, and its database with it; a new one begins."""
    if site.manager.process is not None:
        site.manager.kill9()
    for file in (site.manager.directory / "state").glob("manager.db*"):
        file.unlink()
    site.manager.start()
    site.wait_ready()


def listing(site, vm):
    return site.cli("snapshot", "list", vm.name, "--json").out


def imported(site, *args, code=0):
    return site.cli("storage", "import", "--json", *args, code=code).json


def entry(summary, vm):
    return next(v for v in items(summary, "vms", "vm") if v["name"] == vm.name)


def test_identical_listing(site, vm):
    """Running with memory, off, renamed, two disks; and nothing is left to do."""
    runs = vm(2).layers("one", "two", disks=2)
    runs.snap("with memory", options=["--memory"])
    runs.snap("only vda", options=["--disk", "vda"])
    site.cli("snapshot", "rename", runs.name, "one", "first of all")
    off = vm(1, start=False)
    off.snap("cold")
    before = [listing(site, one) for one in (runs, off)]
    disks = [lasting(site.cli("vm", "show", one.name, "--json").json) for one in (runs, off)]
    lose_manager(site)
    for one, status in ((runs, "up"), (off, "down")):
        one.wait_status(status)

    plan = imported(site, "-n")
    assert plan["dry_run"] and not items(plan, "doubts", "doubt"), plan
    assert entry(plan, runs)["snapshot_count"] == 4 and entry(plan, runs)["volume_count"] == 9, plan
    done = imported(site)
    assert "job" not in entry(done, runs) and "job" not in entry(done, off), done
    assert [listing(site, one) for one in (runs, off)] == before
    assert [lasting(site.cli("vm", "show", one.name, "--json").json) for one in (runs, off)] == disks
    text = site.cli("storage", "import", off.directory)
    assert off.name in text.out and runs.name not in text.out and "Imported: 1 VM, " in text.err
    assert str(off.directory) in site.cli("storage", "list").out


def tree(text):
    """What a listing says, without sizes, which a merge changes: {id: (name, date, memory, status, parent)}."""
    return {s["id"]: (s["description"], s["date"], s["persist_memorystate"], s["snapshot_status"],
                      s.get("unusable"), s.get("parent", {}).get("id"))
            for s in items(json.loads(text), "snapshot") if s["snapshot_type"] == "regular"}


def without(snapshots, name):
    """The same after this snapshot was deleted."""
    gone, (_, _, _, _, _, parent) = next((i, s) for i, s in snapshots.items() if s[0] == name)
    return {i: s[:5] + (parent if s[5] == gone else s[5],) for i, s in snapshots.items() if i != gone}


MANAGER_STAGES = [  # where the manager dies for ever, whether the VM runs, and whether the delete is done in the end
    ("flow.before-call@1", True, False),  # nobody was asked to merge
    ("flow.after-call@1", True, True),    # the merge runs
    ("flow.before-call@2", True, True),   # merged; the files are still there
    ("flow.after-call@2", True, True),
    ("flow.before-call@3", True, True),   # the files are gone; the snapshot is still in the tree
    ("flow.after-call@3", True, True),
    ("flow.after-call@1", False, True),
    ("flow.before-call@2", False, True),
]


@pytest.mark.parametrize("point,runs,done", MANAGER_STAGES,
                         ids=[row[0] + ("" if row[1] else "-off") for row in MANAGER_STAGES])
def test_delete_under_way(site, vm, point, runs, done):
    one = vm(1).layers("one", "two", "three")
    if not runs:
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    before = tree(listing(site, one))
    fault, nth = point.split("@")
    site.manager.restart(faults=f"{fault}=die@{nth}")
    site.wait_ready()
    one.wait_status("up" if runs else "down")
    client = site.cli.spawn("snapshot", "delete", one.name, "three", "-y", "--no-wait")
    assert site.manager.wait_dead(30) == -9, "the fault point was to kill it"
    client.communicate()
    lose_manager(site)
    one.wait_status("up" if runs else "down")

    if not done:
        assert tree(listing(site, one)) == before
    summary = imported(site)
    assert not items(summary, "doubts", "doubt"), summary
    assert tree(listing(site, one)) == (without(before, "three") if done else before)
    assert "job" not in entry(imported(site, "-n"), one), "something is left to do"
    wait_for(lambda: "Nothing wrong" in site.cli("doctor", one.name, code=None).err, 10, "the doctor finds nothing")
    one.expect_layers(4)


def test_merge_goes_on(site, vm):
    """A slow merge: the import waits for its end, without a word of the lost manager; a second one that is
    cancelled is taken back."""
    one = vm(1).layers("one", "two")
    site.host.write(one.name, 0, "16M", "24M", 9)
    before = tree(listing(site, one))
    one.begin_delete("two", options=["--bandwidth", "1"])
    wait_for(lambda: "<mirror" in site.host.virsh("dumpxml", one.name), 10, "the merge runs")
    lose_manager(site)
    plan = imported(site, "-n")
    assert items(entry(plan, one), "operations", "operation")[0]["kind"] == "merge", plan
    job = entry(imported(site, "--no-wait"), one)["job"]["id"]
    assert "lost manager" in wait_for(lambda: one.job(job).get("waiting_for"), 10, "the job says what it waits for")
    assert "held" in site.cli("snapshot", "delete", one.name, "one", "-y", code=4).err
    site.cli("job", "cancel", job)
    one.wait_job(job, "aborted")
    assert tree(listing(site, one)).keys() == before.keys()
    one.begin_delete("two", options=["--bandwidth", "4"])
    wait_for(lambda: "<mirror" in site.host.virsh("dumpxml", one.name), 10, "the merge runs")
    lose_manager(site)
    imported(site)
    assert set(tree(listing(site, one))) == set(without(before, "two"))
    one.expect_layers(3)


def stopped_agent(site, change):
    """Changes something while nobody looks."""
    site.agent.stop()
    change()
    site.agent.start()
    site.wait_ready()


def test_manifest_is_lost(site, vm):
    """With it went the names; ids, dates, disks and memory are told by files and headers."""
    one = vm(2).layers("one", "two", disks=2)
    one.snap("three", options=["--memory"])
    before = tree(listing(site, one))
    stopped_agent(site, lambda: shutil.rmtree(one.directory / ".livemerge"))
    one.wait_status("up")
    assert one.names() == []
    found = items(entry(imported(site, "-n"), one), "adopted_snapshots", "snapshot")
    assert [s["id"][:8] for s in found] == [i[:8] for i in before], found
    assert one.names() == []
    summary = imported(site)
    assert not items(summary, "doubts", "doubt"), summary
    after = tree(listing(site, one))
    assert [i[:8] for i in after] == [i[:8] for i in before]
    assert [s[0] for s in after.values()] == [f"recovered {i[:8]}" for i in before]
    assert [s[2] for s in after.values()] == [False, False, True]
    assert [s[1][:16] for s in after.values()] == [s[1][:16] for s in before.values()], "dates"
    assert "job" not in entry(imported(site, "-n"), one)
    one.delete(one.names()[1])
    one.delete(*one.names())
    one.expect_layers(3, disks=2)


def test_manifest_is_older(site, vm):
    """A backup of it came back: a snapshot and a merge happened that it does not know."""
    one = vm(1).layers("one", "two")
    manifest = one.directory / ".livemerge" / "vms" / f"{one.id}.json"
    old = manifest.read_bytes()
    site.host.write(one.name, 0, "2M", "1M", 3)
    one.snap("three")
    three = one.snapshots()["three"]["id"]
    one.delete("one")
    stopped_agent(site, lambda: manifest.write_bytes(old))
    one.wait_status("up")
    summary = imported(site)
    assert one.names() == ["one", "two", f"recovered {three[:8]}"], summary
    lost = [d for d in items(summary, "doubts", "doubt") if d.get("vm", {}).get("id") == one.id]
    assert len(lost) == 1 and "snapshot 'two'" in lost[0]["why"] and "'one'" in lost[0]["why"], summary
    site.cli("snapshot", "delete", *lost[0]["command"].replace("'", "").split()[3:], "-y")
    assert one.names() == ["one", f"recovered {three[:8]}"]
    one.delete("one")
    one.expect_layers(3)


def test_damaged_and_homeless_manifests(site, vm):
    """What cannot be decided is said, with the command that decides it."""
    one, other = vm(1).layers("one"), vm(1, start=False)
    other.snap("kept")
    manifest = one.directory / ".livemerge" / "vms" / f"{one.id}.json"
    stopped_agent(site, lambda: manifest.write_text("{", encoding="utf-8"))
    xml = site.host.virsh("dumpxml", other.name, "--inactive")
    site.host.virsh("undefine", other.name)
    wait_for(lambda: other.document() is None, 10, "the VM is gone")
    doubts = {d["vm"]["id"]: d for d in items(imported(site), "doubts", "doubt")}
    assert "bad-manifest" in doubts[one.id]["command"], doubts
    assert other.id in doubts[other.id]["command"] and "virsh define" in doubts[other.id]["command"]
    assert manifest.read_text(encoding="utf-8") == "{", "it was overwritten"
    file = site.work / "again.xml"
    file.write_text(xml, encoding="utf-8")
    site.host.virsh("define", str(file))
    other.wait_status("down")
    assert other.names() == ["kept"]
    assert other.id not in [d["vm"]["id"] for d in items(imported(site), "doubts", "doubt")]


def test_clock_is_behind(site, vm):
    """The lost manager's epoch is higher than any that the new one comes to by itself: only on demand it
    takes over."""
    one = vm(1, start=False)
    one.snap("one")
    before = listing(site, one)

    def raise_epoch():
        with sqlite3.connect(site.agent.directory / "state" / "journal.db") as db:
            db.execute("UPDATE meta SET value='99000000000' WHERE key='epoch'")

    site.manager.stop()
    site.agent.stop()
    raise_epoch()
    site.agent.start()
    site.manager.start()
    wait_for(lambda: "take-over" in site.cli("storage", "import", code=1).err, 10, "the host obeys another one")
    assert "-y" in site.cli("storage", "import", "--take-over", code=2).err
    summary = imported(site, "--take-over", "-y")
    assert entry(summary, one)["snapshot_count"] == 1
    assert listing(site, one) == before
    site.manager.restart()
    site.wait_ready()
    one.snap("two")
    assert any(e["code"] == 30005 for e in items(site.rest.json("GET", "/events"), "event"))


def test_one_agent_at_a_time_deletes(site, vm):
    """Another agent with its own libvirt and state has a VM in the same directory. While the first one
    stands still in the middle of a delete, the other waits and says for whom; then it goes on."""
    one = vm(1).layers("one")
    host = Host("B", site.work / "h2").up()
    agent = Agent(site.work / "agent2", host.uri)
    manager = Manager(site.work / "manager2", {"B": agent.address})
    try:
        make_domain(host, "neighbour", one.directory, start=False, guest=False)
        agent.start()
        manager.start()
        cli = Cli(manager.address)
        wait_for(lambda: cli("snapshot", "create", "neighbour", "n1"), 20, "the second agent works")
        site.agent.restart(faults="agent.delete.before-unlink=stop@1")
        site.wait_ready()
        one.wait_status("up")
        job = one.begin_delete("one")
        wait_for(lambda: stat_of(site.agent.pid) == "T", 20, "the first agent stands still")
        second = cli("snapshot", "delete", "neighbour", "n1", "-y", "--no-wait", "--json").json["id"]
        told = wait_for(lambda: waits_for(cli, second), 20, "the second one says why it waits")
        assert f"process {site.agent.pid} of host" in told and str(one.directory) in told, told
        assert cli("job", "show", second, "--json").json["status"] == "started"
        os.kill(site.agent.pid, signal.SIGCONT)
        one.wait_job(job)
        assert cli("job", "watch", second).code == 0
        assert "n1" not in cli("snapshot", "list", "neighbour").out
    finally:
        if site.agent.process is not None:
            os.kill(site.agent.pid, signal.SIGCONT)
        manager.stop()
        agent.stop()
        host.remove("neighbour")
        host.down()
    site.agent.restart()
    site.wait_ready()


def stat_of(pid):
    with open(f"/proc/{pid}/stat", encoding="latin1") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def waits_for(cli, job):
    text = cli("job", "show", job, "--json").json.get("waiting_for", "")
    return text if "lease" in text else None
