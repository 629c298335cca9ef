# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens to VMs behind our back is seen by events, within two seconds; on a busy machine some of it may come later."""

import os
import shutil
import signal
import time

import pytest

from lm import items, wait_for
from lm.util import run

SOON = 2.0


@pytest.fixture
def seen():
    """seen("what", predicate) waits for it; in the end most of it must have been seen soon. Who only asked libvirt every ten
    seconds would have seen most of it late."""
    took = {}

    def wait(what, predicate):
        began = time.monotonic()
        wait_for(predicate, 15, what)
        took[what] = round(time.monotonic() - began, 2)

    yield wait
    assert sorted(took.values())[len(took) // 2] < SOON, took


def test_define_start_stop_undefine(site, vm, seen):
    one = vm(start=False)  # returns when it is shown; here is how long each change takes
    host = site.host

    def shows(status):
        return lambda: one.document()["status"] == status

    host.virsh("start", one.name)
    seen("a started VM is shown as up", shows("up"))
    host.virsh("suspend", one.name)
    seen("a suspended VM is shown as paused", shows("paused"))
    host.virsh("resume", one.name)
    seen("a resumed VM is shown as up", shows("up"))
    host.virsh("destroy", one.name)
    seen("a stopped VM is shown as down", shows("down"))
    host.virsh("undefine", one.name)
    seen("an undefined VM is gone", lambda: one.document() is None)
    assert site.cli("vm", "show", one.name, code=3).err


def test_defined_is_seen(site, vm, seen):
    one = vm(start=False)
    xml = site.host.virsh("dumpxml", "--inactive", one.name)
    path = site.work / "again.xml"
    path.write_text(xml)
    for turn in range(3):
        site.host.virsh("undefine", one.name)
        seen(f"an undefined VM is gone, {turn}", lambda: one.document() is None)
        site.host.virsh("define", path)
        seen(f"a defined VM is shown, {turn}", lambda: one.document() is not None)


def test_renamed_and_defined_anew(site, vm, seen):
    """The same VM under another name, and another one under its id."""
    one, other = vm(start=False), vm(start=False)

    def shown():
        return {each["id"]: each["name"] for each in items(site.rest.json("GET", "/vms"), "vm")}

    first = one.name
    one.name = f"{first}-renamed"
    site.host.virsh("domrename", first, one.name)
    seen("the new name is shown", lambda: shown().get(one.id) == one.name)
    xml = site.host.virsh("dumpxml", "--inactive", other.name)
    site.host.virsh("undefine", other.name)
    seen("the undefined one is gone", lambda: other.id not in shown())
    path = site.work / "anew.xml"
    path.write_text(xml.replace(f"<name>{other.name}</name>", "<name>anew</name>"))
    other.name = "anew"
    site.host.virsh("define", path)
    seen("the id is another VM's", lambda: shown().get(other.id) == "anew")
    other.snap("s1")
    assert other.names() == ["s1"]


def test_many_at_once(site, vm, seen):
    vms = [vm(start=False) for _ in range(6)]
    for turn, (verb, status) in enumerate([("start", "up"), ("destroy", "down"), ("start", "up")]):
        for one in vms:
            site.host.virsh(verb, one.name)
        seen(f"all six are {status}, {turn}", lambda wanted=status: all(one.document()["status"] == wanted for one in vms))


def test_libvirtd_restarts(site, vm):
    """VMs are followed again after libvirtd was away, and what changed meanwhile is seen."""
    one, two = vm(), vm()
    site.host.kill9()
    site.host.start()
    site.wait_ready()
    one.wait_status("up")
    site.host.virsh("destroy", two.name)
    two.wait_status("down")
    one.snap("s1")
    assert one.names() == ["s1"]


def test_libvirt_has_lost_a_vm_that_runs(site, vm):
    """A libvirtd that was killed right after a pivot can refuse its own status file, and takes the VM for off: it
    is not believed, and nothing is merged under the QEMU that writes. On a host without hooks a start by hand is
    refused by QEMU's own locks."""
    one = vm().layers("s1", "s2")
    old = one.chain()
    qemu, status = site.host.qemu_pid(one.name), site.host.run_path(f"libvirt/qemu/{one.name}.xml")
    hooks, aside = site.host.directory / "etc" / "hooks", site.work / "hooks"
    site.host.kill9()
    status.unlink()
    if hooks.exists():
        shutil.move(hooks, aside)
    try:
        site.host.start()
        refused = run("virsh", "-c", site.host.uri, "start", one.name, check=False)
        assert refused.returncode != 0 and "lock" in refused.stderr, refused
    finally:
        if aside.exists():
            shutil.move(aside, hooks)
    assert run("pgrep", "-f", "--", f"-uuid {one.id}").stdout.split() == [str(qemu)], "there are never two"
    site.wait_ready()
    assert site.host.state(one.name) == "shut off", "libvirt was to have lost it"
    one.wait_status("unknown", 15)
    refused = site.cli("snapshot", "delete", one.name, "s1", "-y", code=4)
    assert "its QEMU runs" in refused.err, refused
    assert "its QEMU runs" in site.cli("snapshot", "create", one.name, "now", code=4).err
    assert "its QEMU runs" in str(site.cli("doctor", one.name, "--json", code=None).json), "nothing is judged by that"
    os.kill(qemu, signal.SIGKILL)
    one.wait_status("down", 30)
    assert one.chain() == old and one.names() == ["s1", "s2"]
    one.delete("s1", "s2")
    one.expect_layers(3)


def test_events_are_told(site, vm):
    one = vm()
    one.snap("told")
    one.delete("told")
    events = site.cli.json("event", "list", "--max", "20")["event"]
    mine = [e for e in events if e.get("vm", {}).get("id") == one.id]
    codes = [e["code"] for e in reversed(mine)]
    assert codes.pop(0) == 32, f"the VM was started: {mine}"
    assert codes[:2] == [45, 68], f"creating was to be told first: {mine}"
    assert codes[-2:] == [342, 356], f"removing was to be told last: {mine}"
    assert any("told" in e["description"] and one.name in e["description"] for e in mine)


def test_follow_prints_as_it_happens(site, vm):
    one = vm()
    follower = site.cli.spawn("event", "follow", "--json", "--timeout", "20")
    try:
        # from now on: wait until it listens by letting it see something
        one.snap("a")
        line = follower.stdout.readline()
        assert one.name in line, line
    finally:
        follower.kill()
        follower.communicate()
