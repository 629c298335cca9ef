# SPDX-License-Identifier: LGPL-2.1-or-later
"""Creating snapshots: on a VM in each state, of some disks, with memory, quiesced; and when it fails."""

import json
import os
import re
import shutil

import pytest

from lm import Disk, ext4_disk, items, pattern_is, qemu_img, run, wait_for
from lm.host import LVHOST


def overlay_is_ours(path):
    """Created by us: 0600, backing name relative and its format explicit."""
    assert os.stat(path).st_mode & 0o777 == 0o600
    info = json.loads(qemu_img("info", "-U", "--output=json", path).stdout)
    assert "/" not in info["backing-filename"], info["backing-filename"]
    assert info["backing-filename-format"] in ("qcow2", "raw")
    return info


@pytest.mark.parametrize("state", ["up", "paused", "down"])
def test_in_each_state(site, vm, state):
    one = vm(2, start=state != "down", paused=state == "paused")
    if state != "down":
        site.host.write(one.name, 0, "0", "1M", 1)
    created = site.cli.json("snapshot", "create", one.name, "s1")
    assert created["description"] == "s1" and created["snapshot_status"] == "ok"
    assert created["snapshot_type"] == "regular" and created["persist_memorystate"] is False
    one.wait_status(state)
    for target in ("vda", "vdb"):
        chain = one.chain(target)
        assert len(chain) == 2
        assert overlay_is_ours(chain[1])["virtual-size"] == 64 << 20
        assert site.host.leaf(one.name, target, inactive=True) == chain[1], "the definition is stale"
    if state == "down":
        site.host.virsh("start", one.name)
        one.wait_status("up")
    site.host.write(one.name, 0, "1M", "1M", 2)
    base = one.chain()[0]
    assert not pattern_is(base, "1M", "1M", 2, share=True), "the write went into the snapshot"


def test_some_disks(site, vm):
    one = vm(3)
    one.snap("s1", options=["--disk", "vda", "--disk", "vdc"])
    assert [len(one.chain(t)) for t in ("vda", "vdb", "vdc")] == [2, 1, 2]
    disks = items(site.rest.json("GET", f"/vms/{one.id}/snapshots/{one.snapshots()['s1']['id']}/disks"), "disk")
    assert len(disks) == 2


def test_while_the_guest_writes_to_two_disks(site, vm):
    one = vm(2, guest=True)
    for disk in ("vda", "vdb"):
        one.guest.start_stream(disk, pace_us=500)
    for name in ("a", "b", "c"):
        one.guest.wait_acked(50)
        one.snap(name)
    one.guest.wait_acked(50)
    assert one.names() == ["a", "b", "c"]
    assert one.power_off_and_verify() > 300


def test_with_memory(site, vm):
    one = vm(guest=True)
    one.guest.start_stream("vda")
    created = site.cli.json("snapshot", "create", one.name, "s1", "--memory")
    assert created["persist_memorystate"] is True
    one.guest.wait_acked(20)
    chain = one.chain()
    memory = [f for f in one.files() if f not in chain]
    assert len(memory) == 1 and os.path.getsize(memory[0]) > 1 << 20
    with open(memory[0], "rb") as file:
        assert b"LibvirtQemudSave" in file.read(64)
    one.delete("s1")
    one.power_off_and_verify()  # the memory volume is gone too, or it complains


def test_memory_of_a_stopped_vm(site, vm):
    """There is none to save; as in oVirt the snapshot is taken without, and says so."""
    one = vm(start=False)
    created = site.cli.json("snapshot", "create", one.name, "s1", "--memory")
    assert created["persist_memorystate"] is False
    assert one.files() == sorted(one.chain())


# ---- quiescing

def needs_recovery(image, scratch):
    """Would ext4 have to replay its journal? Not if it was frozen."""
    raw = scratch / "look.raw"
    try:
        qemu_img("convert", "-U", "-O", "raw", image, raw)
        return "needs_recovery" in run("dumpe2fs", "-h", raw).stdout
    finally:
        raw.unlink()


@pytest.fixture
def fs_vm(site, vm):
    def make(name, **options):
        return vm([ext4_disk(site.work / "fs" / name)], agent=True, **options)
    return make


def agent_connected(site, one):
    state = site.host.xml(one.name).find("devices/channel/target").get("state")
    return state == "connected"


def test_quiesced(site, fs_vm):
    one = fs_vm("ok", guest=True, cmdline="agentfs=vda")
    wait_for(lambda: agent_connected(site, one), 20, "the guest agent is connected")
    base = one.chain()[0]
    one.snap("plain", options=["--quiesce", "no"])
    assert needs_recovery(base, site.work.path), "without freezing the journal was to be in use"
    top = one.chain()[-1]
    wait_for(lambda: site.rest.json("GET", f"/vms/{one.id}").get("fqdn") == "guest.example.org", 20, "the guest says its name")
    assert [each["name"] for each in items(site.rest.json("GET", "/vms?search=fqdn%3Dguest.*"), "vm")] == [one.name]
    one.snap("frozen", options=["--quiesce", "require"])
    assert not needs_recovery(top, site.work.path)
    one.guest.heard("FROZEN 0", 5)
    one.guest.heard("THAWED 0", 5)
    keeps_frozen(site, one)


def said(one, pattern):
    """How often its guest has said that."""
    return sum(bool(re.search(pattern, line)) for line in one.guest.said())


def keeps_frozen(site, one):
    """A user has frozen its file systems: snapshots leave them so, also of a new agent."""
    frozen, thawed = said(one, "FROZEN 0"), said(one, "THAWED 0")
    site.rest.json("POST", f"/vms/{one.id}/freezefilesystems", {})
    assert site.rest.json("GET", f"/vms/{one.id}")["frozen"] is True
    top = one.chain()[-1]
    one.snap("while", options=["--quiesce", "require"])
    assert not needs_recovery(top, site.work.path)
    site.agent.restart()
    site.wait_ready()
    one.snap("later", options=["--quiesce", "require"])
    assert site.rest.json("GET", f"/vms/{one.id}")["frozen"] is True
    site.cli("vm", "thaw", one.name)
    assert "frozen" not in site.rest.json("GET", f"/vms/{one.id}")
    assert (said(one, "FROZEN 0"), said(one, "THAWED 0")) == (frozen + 1, thawed + 1)
    site.cli("vm", "freeze", one.name)
    assert site.rest.json("GET", f"/vms/{one.id}")["frozen"] is True
    site.host.virsh("reset", one.name)  # the same QEMU; as if its guest had rebooted
    wait_for(lambda: "frozen" not in site.rest.json("GET", f"/vms/{one.id}"), 20, "it is not taken for frozen any more")


def test_quiesce_without_agent(site, vm):
    """auto falls back, require fails and leaves nothing."""
    one = vm()
    one.snap("auto", options=["--quiesce", "auto"])
    before = one.files()
    failed = site.cli("snapshot", "create", one.name, "must", "--quiesce", "require", code=None)
    assert failed.code in (1, 4) and "agent" in failed.err
    assert one.names() == ["auto"] and one.files() == before


@pytest.fixture
def impatient(site):
    """An agent that gives a guest two seconds to freeze its file systems."""
    patient = site.agent.conf.read_text()
    site.agent.conf.write_text(patient.replace("[agent]\n", "[agent]\nquiesce_budget_s=2\n"))
    site.agent.restart()
    site.wait_ready()
    yield
    site.agent.conf.write_text(patient)
    site.agent.restart()
    site.wait_ready()


@pytest.mark.usefixtures("impatient")
def test_quiesce_with_a_deaf_agent(site, fs_vm):
    one = fs_vm("deaf", guest=True, cmdline="agentfs=vda deaf")
    wait_for(lambda: agent_connected(site, one), 20, "the guest agent is connected")
    one.snap("auto", options=["--quiesce", "auto"])
    before = one.files()
    failed = site.cli("snapshot", "create", one.name, "must", "--quiesce", "require", code=None)
    assert failed.code in (1, 4) and "agent" in failed.err
    assert one.names() == ["auto"] and one.files() == before


# ---- failing

@pytest.fixture
def small_disk(site):
    """A tiny file system of its own, which the host sees as well."""
    made = []

    def make(name, size):
        path = site.work / "small" / name
        path.mkdir(parents=True)
        image = site.work / f"{name}.img"
        run("truncate", "-s", size, image)
        run("mkfs.ext4", "-q", "-F", "-m", "0", image)
        # mounted in the host's namespaces too: they were split from ours before
        run("mount", "-o", "loop", image, path)
        made.append(path)
        device = run("findmnt", "-n", "-o", "SOURCE", path).stdout.strip()
        run(LVHOST, "exec", site.host.name, "mount", device, path,
            env={**os.environ, "LVROOT": str(site.host.root)})
        return path

    yield make
    for path in made:
        run(LVHOST, "exec", site.host.name, "umount", "-l", path, check=False,
            env={**os.environ, "LVROOT": str(site.host.root)})
        try:
            wait_for(lambda: run("umount", path, check=False).returncode == 0, 10, f"nobody uses {path}")
        except TimeoutError:
            run("umount", "-l", path)
            raise


def fill_up(path):
    with open(path / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


@pytest.mark.parametrize("running", [True, False], ids=["up", "down"])
def test_full_disk_leaves_nothing(site, vm, small_disk, running):
    path = small_disk(f"full{running:d}", "24M")
    (path / "lost+found").rmdir()
    qemu_img("create", "-q", "-f", "qcow2", path / "a.qcow2", "16M")
    one = vm([Disk(path=str(path / "a.qcow2"))], start=running)
    one.directory.mkdir(exist_ok=True)
    fill_up(path)
    before = sorted(f.name for f in path.iterdir())
    failed = site.cli("snapshot", "create", one.name, "s1", code=None)
    assert failed.code in (1, 4) and re.search("space|full", failed.err), failed
    assert one.names() == []
    assert sorted(f.name for f in path.iterdir()) == before
    assert one.chain() == [str(path / "a.qcow2")]
    (path / "ballast").unlink()
    one.snap("s2")
    assert one.names() == ["s2"]
    one.delete("s2")
    site.host.remove(one.name)


def test_second_disk_fails_nothing_stays(site, vm):
    """The second disk's directory cannot be written: the first disk keeps its old leaf."""
    other = site.work / "readonly"
    other.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", other / "b.qcow2", "16M")
    one = vm([Disk(), Disk(path=str(other / "b.qcow2"))])
    before = one.files()
    run("chattr", "+i", other)
    try:
        failed = site.cli("snapshot", "create", one.name, "s1", code=None)
        assert failed.code in (1, 4) and str(other) in failed.err, failed
    finally:
        run("chattr", "-i", other)
    assert one.names() == [] and one.files() == before
    assert [len(one.chain(t)) for t in ("vda", "vdb")] == [1, 1]
    one.wait_status("up")
    shutil.rmtree(other / ".livemerge", ignore_errors=True)
