# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged records under the real programs: journal, database, manifest, description. Nothing of them is believed,
nothing is lost: what is damaged is kept aside, and the rest is found again."""

import json
import os
import signal
import socket
import sqlite3
import threading

import pytest

from lm import items, lasting, pattern_is, wait_for
from lm.crash import storage_daemons


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


class Stranger:
    """Listens where a storage daemon of the agent's could, and speaks QMP: it must not be told to end."""

    def __init__(self, path):
        self.said = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            peer = self.listener.accept()[0]  # the thread ends with the tests
            with peer, peer.makefile("rw") as lines:
                print('{"QMP": {"version": {}, "capabilities": []}}', file=lines, flush=True)
                for line in lines:
                    request = json.loads(line)
                    self.said.append(request["execute"])
                    print(json.dumps({"return": {}, "id": request["id"]}), file=lines, flush=True)


@pytest.mark.parametrize("answers", [True, False], ids=["", "hangs"])
def test_storage_daemon_of_a_lost_journal(site, vm, answers):
    """It outlives the agent, and no operation knows it any more: the agent ends it, once it answers; who only has the
    name of its socket is left alone. Then the VM starts, and nothing is lost."""
    one = vm().layers("s1")
    site.host.write(one.name, 0, "16M", "36M", 9)  # more than it merges until it is ended
    one.snap("s2")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    job = one.begin_delete("s1", options=["--bandwidth", "1"])
    wait_for(lambda: one.job(job).get("progress", {}).get("bytes_done", 0) > 1 << 20, 30, "data move")
    kill(site.agent)
    (daemon,) = storage_daemons(site.agent)
    if not answers:
        os.kill(daemon, signal.SIGSTOP)
    for suffix in ("", "-wal", "-shm"):
        (state(site.agent) / f"journal.db{suffix}").unlink(missing_ok=True)
    stranger = Stranger(state(site.agent) / f"cold-{os.urandom(4).hex()}.sock")
    site.agent.start()
    site.wait_ready()
    if not answers:
        wait_for(lambda: "it is asked again until it ends" in site.agent.tail(200), 30, "it is said")
        assert storage_daemons(site.agent) == [daemon]
        assert '"write" lock' in one.virsh_start().stderr
        os.kill(daemon, signal.SIGCONT)
    wait_for(lambda: not storage_daemons(site.agent), 40, f"it is ended:\n{site.agent.tail()}")
    assert "that the journal has lost was ended" in site.agent.tail(200)
    wait_for(lambda: one.job(job)["status"] != "started", 40, f"the job ends: {one.job(job)}")
    one.virsh_start(check=True)
    one.wait_status("up")
    wait_for(lambda: one.names() == ["s2"] or site.cli("snapshot", "delete", one.name, "s1", "-y", code=None).code == 0,
             30, "the delete can be had again")
    assert set(stranger.said) == {"qmp_capabilities"}, stranger.said
    assert one.names() == ["s2"] and len(one.chain()) == 2
    assert pattern_is(one.chain()[-1], "16M", "36M", 9, share=True)
    one.expect_layers(2)


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
