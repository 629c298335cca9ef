# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged records under the real programs: journal, database, manifest, description. Nothing of them is believed,
nothing is lost: what is damaged is kept aside, and the rest is found again."""

import json
import os
import sqlite3

import pytest

from lm import items, lasting, wait_for


@pytest.fixture(autouse=True)
def everything_runs_again(site):
    yield
    site.mend()


def state(daemon):
    return daemon.directory / "state"


def spoil(path, begin=0):
    """Every byte from there on is another one."""
    data = bytearray(path.read_bytes())
    data[begin:] = bytes(byte ^ 0x5a for byte in data[begin:])
    path.write_bytes(data)


def spoil_all(path):
    """And its log: a program that was killed leaves what it wrote last in there."""
    for each in (path, path.with_name(path.name + "-wal")):
        if each.exists():
            spoil(each)


def aside(path):
    """What was set aside in its place, without SQLite's own files beside it."""
    return [p for p in path.parent.glob(f"{path.name}.damaged-*") if not p.name.endswith(("-wal", "-shm"))]


def kill(daemon):
    daemon.kill9()
    daemon.process = None


def test_damaged_journal(site, vm):
    one = vm().layers("s1", "s2")
    journal = state(site.agent) / "journal.db"
    before = one.snapshots()
    site.agent.stop()
    spoil_all(journal)
    spoiled = journal.read_bytes()
    site.agent.start()
    site.wait_ready()
    assert [p.read_bytes() for p in aside(journal)] == [spoiled]
    assert "is damaged" in site.agent.tail(200) and str(journal) in site.agent.tail(200)
    one.wait_status("up")
    assert one.snapshots() == before
    one.delete("s1")
    one.expect_layers(3)


@pytest.mark.parametrize("name", ["s2", "s1"], ids=["leaf", "internal"])
def test_journal_lost_while_merging(site, vm, name):
    """Nobody knows any more what was under way: the manager says neither done nor failed before it has looked; the job
    that was left behind is ended, or ends; the VM runs on, and the delete can be had again."""
    one = vm().layers("s1", "s2")
    site.agent.restart(faults="agent.merge.after-start=die@1")
    site.wait_ready()
    one.wait_status("up")
    job = one.begin_delete(name, options=["--strategy", "commit"])
    site.agent.wait_dead(20)
    journal = state(site.agent) / "journal.db"
    known = set(aside(journal))
    spoil_all(journal)
    site.agent.start()
    site.wait_ready()
    assert len(set(aside(journal)) - known) == 1
    wait_for(lambda: one.job(job)["status"] != "started", 40, f"the job ends: {one.job(job)}\n{site.agent.tail()}")
    told = one.job(job)
    if told["status"] != "finished":
        assert "lost its journal" in json.dumps(told) or "nothing was" in json.dumps(told), told
    assert site.host.state(one.name) == "running"
    wait_for(lambda: site.host.virsh("blockjob", one.name, "vda") == "", 10, "no job is left")
    site.cli("doctor", one.name, "--fix", "-y", code=None)
    for left in one.names():
        site.cli("snapshot", "delete", one.name, left, "-y", code=None)
    wait_for(lambda: not one.names() or site.cli("snapshot", "delete", one.name, *one.names(), "-y", code=None).code == 0,
             30, "the rest can be deleted")
    assert one.names() == []
    site.cli("doctor", one.name, "--fix", "-y", code=None)
    assert len(one.chain()) <= 2
    one.expect_layers(3)


def test_damaged_database(site, vm):
    """The manager's: VMs and snapshots are what the manifests say."""
    one = vm(2).layers("s1", "s2", disks=2)
    database = state(site.manager) / "manager.db"
    before = (lasting(one.document()), one.snapshots())
    kill(site.manager)
    spoil_all(database)
    site.manager.start()
    site.wait_ready()
    one.wait_status("up")
    assert (lasting(one.document()), one.snapshots()) == before
    assert len(aside(database)) == 1
    events = items(site.rest.json("GET", "/events"), "event")
    assert [e["severity"] for e in events if str(e["code"]) == "30004"] == ["alert"], events
    one.delete("s2")
    one.expect_layers(3, disks=2)


def test_database_found_damaged_late(site, vm):
    """SQLite meets it only when it reads that page: the manager writes nothing more, says why, and ends; the next
    start goes on."""
    one = vm().layers("s1")
    database = state(site.manager) / "manager.db"
    known = set(aside(database))
    with sqlite3.connect(database) as other:  # what the manager has in memory is void
        other.execute("UPDATE note SET value = value")
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    spoil(database, 4096)
    site.cli("snapshot", "rename", one.name, "s1", "s2", code=None, timeout=30)
    assert site.manager.wait_dead(10) == 1
    assert str(database) in site.manager.tail() and "is damaged" in site.manager.tail()
    site.manager.process = None
    site.manager.start()
    site.wait_ready()
    one.wait_status("up")
    assert len(set(aside(database)) - known) == 1
    assert len(one.names()) == 1
    site.cli("snapshot", "rename", one.name, one.names()[0], "s3")
    assert one.names() == ["s3"]


def test_damaged_manifest(site, vm):
    one = vm().layers("s1", "s2")
    manifest = one.directory / ".livemerge" / "vms" / f"{one.id}.json"
    chain = one.chain()
    site.agent.stop()
    spoil(manifest, manifest.stat().st_size // 2)
    spoiled = manifest.read_bytes()
    site.agent.start()
    site.wait_ready()
    found = site.cli("doctor", one.name, "--json", code=1).out
    assert "bad-manifest" in found and str(manifest) in found and "--class bad-manifest" in found
    assert site.cli("snapshot", "create", one.name, "x", code=None).code != 0
    assert manifest.read_bytes() == spoiled, "it was overwritten"
    site.cli("doctor", one.name, "--fix", "-y", "--class", "bad-manifest", code=None)
    kept = list((one.directory / ".livemerge" / "undo").glob("*/manifest.json"))
    assert [p.read_bytes() for p in kept] == [spoiled]
    wait_for(lambda: manifest.exists() and json.loads(manifest.read_text())["vm"]["id"] == one.id, 10, "a new one")
    assert one.chain() == chain
    one.snap("after")
    one.expect_layers(3)


@pytest.mark.parametrize("how", ["garbage", "fifo", "writable"])
def test_description_of_a_domain(site, vm, how):
    """domain.json: nothing in that directory is touched, other VMs are not affected; put right, all is as before."""
    one, other = vm().layers("s1"), vm().layers("s1")
    description = one.directory / ".livemerge" / "domain.json"
    text = description.read_text()
    site.agent.stop()
    if how == "garbage":
        description.write_text(text[:len(text) // 2])
    elif how == "writable":
        description.chmod(0o666)
    else:
        description.unlink()
        os.mkfifo(description)
    files = one.files()
    site.agent.start()
    site.wait_ready()
    refused = site.cli("snapshot", "create", one.name, "x", code=None)
    assert refused.code != 0 and str(description) in refused.err + refused.out, refused
    assert one.files() == files
    other.delete("s1")
    description.unlink()
    description.write_text(text)
    description.chmod(0o600)
    site.agent.restart()
    site.wait_ready()
    one.wait_status("up")
    assert one.names() == ["s1"]
    one.delete("s1")
    one.expect_layers(2)
