# SPDX-License-Identifier: LGPL-2.1-or-later
"""Going back: preview, commit, undo and restore, on real VMs."""

import re

import pytest

from lm import items, pattern_is
from lm.guest import verify_acked


def refused(site, *words, code=4):
    """What the command line says to it."""
    return site.cli(*words, code=code).err


def post(site, path, body=None, status=200):
    return site.rest.json("POST", f"/vms/{path}", body if body is not None else {}, status=status)


def holds(one, count):
    """The leaf has what was written up to that layer, and nothing newer."""
    leaf = one.chain()[-1]
    return [pattern_is(leaf, f"{i}M", "1M", i + 1) for i in range(4)] == [i < count for i in range(4)]


@pytest.fixture
def layered(site, vm):
    """Off, with snapshots a, b, c; MiB 0 to 3 were written, one before each and one after."""
    one = vm().layers("a", "b", "c")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    return one


def statuses(site, one):
    listed = items(site.rest.json("GET", f"/vms/{one.id}/snapshots"), "snapshot")
    return {s["description"]: (s["snapshot_type"], s["snapshot_status"]) for s in listed}


def test_undo(site, layered):
    one, before = layered, layered.chain()
    active = one.active()["id"]
    site.cli("snapshot", "preview", one.name, "a")
    assert holds(one, 1) and one.chain()[:-1] == before[:1]
    assert statuses(site, one) == {"Active VM": ("active", "ok"), "Active VM before the preview": ("preview", "ok"),
                                   "a": ("regular", "in_preview"), "b": ("regular", "ok"), "c": ("regular", "ok")}
    listed = items(site.rest.json("GET", f"/vms/{one.id}/snapshots"), "snapshot")
    assert [s["id"] for s in listed if s["snapshot_type"] == "preview"] == [active], "oVirt keeps its id"
    disk = items(site.rest.json("GET", f"/vms/{one.id}/diskattachments?follow=disk"), "disk_attachment")[0]["disk"]
    assert [b["path"] for b in items(disk, "branches", "branch")] == before[1:], "what stands beside is told"
    assert before[-1] in site.cli("vm", "show", one.name).out
    # while it lasts
    assert "snapshot 'a' is being previewed" in refused(site, "snapshot", "create", one.name, "d")
    assert "snapshot 'a' is being previewed" in refused(site, "snapshot", "delete", one.name, "b", "-y")
    assert "snapshot 'a' is being previewed" in refused(site, "snapshot", "preview", one.name, "b")
    site.cli("doctor", one.name)  # finds nothing
    site.host.virsh("start", one.name)
    one.wait_status("up")
    site.host.write(one.name, 0, "5M", "1M", 77)
    assert "shut it down" in refused(site, "snapshot", "undo", one.name, "-y")
    assert "shut it down" in refused(site, "snapshot", "commit", one.name, "-y")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    site.cli("snapshot", "undo", one.name, "-y")
    assert one.chain() == before and one.active()["id"] == active
    one.expect_layers(4)
    site.cli("doctor", one.name)


def test_commit(site, layered):
    one = layered
    site.cli("snapshot", "preview", one.name, "b")
    site.host.virsh("start", one.name)
    one.wait_status("up")
    site.host.write(one.name, 0, "5M", "1M", 77)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    site.cli("snapshot", "commit", one.name, "-y")
    assert one.names() == ["a", "b"]
    assert holds(one, 2) and pattern_is(one.chain()[-1], "5M", "1M", 77)
    one.expect_layers(2)
    site.cli("doctor", one.name)
    # it is a line like any other
    one.snap("d")
    one.delete("b")
    assert one.names() == ["a", "d"] and holds(one, 2)


def test_restore_as_scripts_do(site, layered):
    """What Ansible's module sends; one answer when all is done."""
    one = layered
    snapshot = one.snapshots()["a"]["id"]
    done = post(site, f"{one.id}/snapshots/{snapshot}/restore")
    assert done["status"] == "complete"
    assert one.names() == ["a"] and one.snapshots()["a"]["id"] == snapshot
    one.expect_layers(1)
    events = {e["code"] for e in items(site.rest.json("GET", "/events"), "event") if e.get("vm", {}).get("id") == one.id}
    assert {47, 100} <= events


def test_faults(site, layered):
    one = layered
    post(site, f"{one.id}/commitsnapshot", status=400)
    post(site, f"{one.id}/undosnapshot", status=400)
    post(site, f"{one.id}/previewsnapshot", status=400)
    post(site, f"{one.id}/previewsnapshot", {"snapshot": {"id": one.active()["id"]}}, status=400)
    post(site, f"{one.id}/previewsnapshot", {"snapshot": {"id": one.id}}, status=400)
    post(site, f"{one.id}/snapshots/{one.id}/restore", status=404)
    site.host.virsh("start", one.name)
    one.wait_status("up")
    post(site, f"{one.id}/previewsnapshot", {"snapshot": {"id": one.snapshots()["a"]["id"]}}, status=409)
    assert len(one.chain()) == 4


def test_old_line_does_not_start(site, layered):
    """virsh is given the leaf of before the preview: the start is refused, and the definition corrected."""
    one, old = layered, layered.chain()[-1]
    site.cli("snapshot", "preview", one.name, "b")
    tried = one.chain()[-1]
    file = site.work / "stale.xml"
    file.write_text(site.host.virsh("dumpxml", one.name, "--inactive").replace(tried, old), encoding="utf-8")
    site.agent.stop()  # it would correct it at once; the hook judges alone
    site.host.virsh("define", str(file))
    done = site.host.virsh("start", one.name, check=False)
    assert site.host.state(one.name) == "shut off", done
    site.agent.start()
    site.wait_ready()
    one.wait_status("down")
    site.host.virsh("start", one.name)
    assert one.chain()[-1] == tried


def test_lost_manager(site, layered):
    """A manager without a memory finds a preview as it was, and can end it."""
    one = layered
    site.cli("snapshot", "preview", one.name, "a")
    before = statuses(site, one)
    site.manager.stop()
    for file in (site.manager.directory / "state").glob("manager.db*"):
        file.unlink()
    site.manager.start()
    site.wait_ready()
    site.cli("storage", "import", str(one.directory), "--take-over", "-y")
    assert statuses(site, one) == before
    site.cli("snapshot", "undo", one.name, "-y")
    one.expect_layers(4)


def test_guest_sees_it(site, vm):
    """A booted guest reads what was there, and its new writes are thrown away."""
    one = vm(guest=True)
    one.guest.fill("vda", 0, 4096, seed=1)
    one.snap("first")
    one.guest.fill("vda", 0, 4096, seed=2)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    site.cli("snapshot", "preview", one.name, "first")
    site.host.virsh("start", one.name)
    one.guest.connect()
    one.guest.compare("vda", 0, 4096, seed=1)
    one.guest.fill("vda", 0, 2048, seed=3)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    site.cli("snapshot", "undo", one.name, "-y")
    site.host.virsh("start", one.name)
    one.guest.connect()
    one.guest.compare("vda", 0, 4096, seed=2)
    site.cli("doctor", one.name)


def test_configuration(site, vm):
    """Memory, CPUs and devices go back with the disks; undo brings back what they were."""
    one = vm(start=False)
    before = (one.document()["memory"], site.host.virsh("vcpucount", one.name, "--maximum", "--config").strip())
    assert before[1] == "1"
    one.snap("small")
    site.host.virsh("setvcpus", one.name, "3", "--maximum", "--config")
    site.host.virsh("setmaxmem", one.name, "96M", "--config")
    site.host.virsh("setmem", one.name, "96M", "--config")
    one.snap("large")

    def now():
        xml = site.host.virsh("dumpxml", one.name, "--inactive")
        return re.search(r">(\d+)</memory>", xml).group(1), re.search(r"<vcpu[^>]*>(\d+)<", xml).group(1)

    large = now()
    assert large == (str(96 << 10), "3")
    site.cli("snapshot", "preview", one.name, "small")
    small = now()
    assert small[1] == "1" and small[0] != large[0] and one.document()["memory"] == before[0]
    site.cli("snapshot", "undo", one.name, "-y")
    assert now() == large
    site.cli("snapshot", "restore", one.name, "small", "-y")
    assert now() == small and one.names() == ["small"]
    site.cli("vm", "start", one.name)
    site.host.virsh("destroy", one.name)


def test_memory(site, vm):
    """The guest goes on at the instant of the snapshot, in the middle of what it did: nobody tells it to."""
    one = vm(guest=True)
    stream = one.guest.start_stream("vda")
    one.guest.wait_acked(50)
    one.snap("first", options=["--memory"])
    one.guest.wait_acked(300)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    site.cli("snapshot", "preview", one.name, "first", "--memory")
    site.cli("vm", "start", one.name)
    stream.acked = 0
    one.guest.connect()
    one.guest.wait_acked(20)
    one.guest.stop_stream("vda")
    assert site.host.leaf(one.name, "vda") == site.host.leaf(one.name, "vda", inactive=True)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    verify_acked(one.chain()[-1], stream, site.work.path)
    site.cli("doctor", one.name)
    site.cli("snapshot", "undo", one.name, "-y")
    assert one.names() == ["first"]
