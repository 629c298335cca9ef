# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs made out of others, and VMs removed: on real ones, on storage that shares blocks."""

import os
import re
from pathlib import Path

import pytest

from lm import Site, image_chain, items, pattern_is, qemu_img, run, wait_for
from lm.guest import check_image, verify_acked


@pytest.fixture(scope="module")
def site():
    with Site("xfs") as whole:
        yield whole


def clone_of(site, name):
    """The new VM as the manager shows it."""
    return next(vm for vm in items(site.rest.json("GET", "/vms"), "vm") if vm["name"] == name)


def holds(leaf, count, share=False):
    """It has what was written up to that layer, and nothing newer."""
    return [pattern_is(leaf, f"{i}M", "1M", i + 1, share) for i in range(4)] == [i < count for i in range(4)]


def shares_blocks(site, one, other):
    """Have the two files blocks in common?"""
    def blocks(path):
        rows = run("filefrag", "-b1", "-e", path).stdout.splitlines()
        return set(re.findall(r"^ *\d+: +\d+\.\. +\d+: +(\d+)", "\n".join(rows), re.M))

    assert site.file_systems["v"] == "xfs"
    run("sync", "-f", one)
    return bool(blocks(one) & blocks(other))


def codes(site, vm_id):
    return {e["code"] for e in items(site.rest.json("GET", "/events"), "event") if e.get("vm", {}).get("id") == vm_id}


def remove(site, name, *options):
    return site.cli("vm", "remove", name, "-y", *options)


def remove_code(site, name, *options, code=4):
    return site.cli("vm", "remove", name, "-y", *options, code=code)


def test_from_snapshot_of_a_running_vm(site, vm):
    """As oVirt's clients do it; the guest writes on, the clone runs beside it and has what was then."""
    one = vm(disks=2, guest=True)
    one.guest.start_stream("vda")
    site.host.write(one.name, 1, "0", "1M", 7)
    one.snap("then")
    site.host.write(one.name, 1, "0", "1M", 8)
    made = site.rest.json("POST", "/vms", {"name": "twin", "cluster": {"name": "Default"}, "template": {"name": "Blank"},
                                           "snapshots": {"snapshot": [{"id": one.snapshots()["then"]["id"]}]}}, status=201)
    assert made["status"] == "image_locked" and site.rest.json("GET", f"/vms/{made['id']}")["name"] == "twin"
    job = one.wait_job(made["job"]["id"])
    assert job["clone"]["id"] == made["id"] and job["progress"]["percent"] == 100
    twin = clone_of(site, "twin")
    assert (twin["id"], twin["status"]) == (made["id"], "down")
    assert [s["snapshot_type"] for s in items(site.rest.json("GET", f"/vms/{twin['id']}/snapshots"), "snapshot")] == ["active"]
    leaves = [site.host.leaf("twin", disk) for disk in ("vda", "vdb")]
    assert all(image_chain(leaf) == [leaf] for leaf in leaves)
    for leaf in leaves:
        check_image(leaf)
    assert pattern_is(leaves[1], "0", "1M", 7)
    one.guest.wait_acked(100)
    site.host.virsh("start", "twin")
    wait_for(lambda: clone_of(site, "twin")["status"] == "up", 20, "the clone is up")
    assert site.host.run_path(f"{one.name}.serial.twin").exists(), "its serial line is its own"
    site.host.virsh("destroy", "twin")
    wait_for(lambda: clone_of(site, "twin")["status"] == "down", 20, "the clone is off")
    assert pattern_is(one.chain("vdb")[-1], "0", "1M", 8, share=True)
    assert codes(site, one.id) >= {37, 53}
    one.delete("then")  # nothing stands on it
    remove(site, "twin")
    stream = one.guest.stop_stream("vda")
    site.host.virsh("destroy", one.name)
    verify_acked(one.chain()[-1], stream, site.work.path)
    assert set(one.files()) == {*one.chain("vda"), *one.chain("vdb")}


def test_as_it_is_now(site, vm):
    one = vm(disks=1).layers("a", "b")
    refusal = site.rest.json("POST", f"/vms/{one.id}/clone", {"vm": {"name": "copy"}}, status=409)
    assert refusal["fault"]["key"] == "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN", refusal
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    for name, strategy, shared in (("shared", "auto", True), ("copied", "copy", False)):
        done = site.rest.json("POST", f"/vms/{one.id}/clone", {"vm": {"name": name}, "strategy": strategy, "async": False})
        assert done["status"] == "complete" and clone_of(site, name)["status"] == "down"
        leaf = site.host.leaf(name, "vda")
        assert holds(leaf, 3) and image_chain(leaf) == [leaf]
        check_image(leaf)
        assert shares_blocks(site, one.chain()[0], leaf) == shared
        remove(site, name)
    one.expect_layers(3)
    assert one.names() == ["a", "b"]


def test_into_another_storage_domain(site, vm):
    """On another file system, where no block can be shared: copied, and a VM like any other."""
    one = vm(disks=1).layers("a", "b")
    other = site.work / "elsewhere"
    other.mkdir()
    site.cli("storage", "import", other)
    domain = next(d for d in items(site.rest.json("GET", "/storagedomains"), "storage_domain") if d["name"] == str(other))
    disk_id = items(site.rest.json("GET", f"/vms/{one.id}/diskattachments"), "disk_attachment")[0]["id"]
    ask = {"name": "far", "snapshots": {"snapshot": [{"id": one.snapshots()["a"]["id"]}]}, "disk_attachments": {
        "disk_attachment": [{"disk": {"id": disk_id, "storage_domains": {"storage_domain": [{"id": domain["id"]}]}}}]}}
    refused = site.rest.json("POST", "/vms", {**ask, "strategy": "share"}, status=501)
    assert "another file system" in refused["detail"], refused
    made = site.rest.json("POST", "/vms", ask, status=201)
    one.wait_job(made["job"]["id"])
    leaf = site.host.leaf("far", "vda")
    assert Path(leaf).parent == other and image_chain(leaf) == [leaf] and holds(leaf, 1)
    check_image(leaf)
    disk, = items(site.rest.json("GET", f"/vms/{made['id']}/diskattachments?follow=disk"), "disk_attachment")
    assert [d["id"] for d in items(disk["disk"]["storage_domains"], "storage_domain")] == [domain["id"]]
    site.host.virsh("start", "far")
    wait_for(lambda: clone_of(site, "far")["status"] == "up", 20, "the clone is up")
    site.host.virsh("destroy", "far")
    wait_for(lambda: clone_of(site, "far")["status"] == "down", 20, "the clone is off")
    remove(site, "far")
    assert [f.name for f in other.iterdir() if f.is_file()] == []
    one.expect_layers(3)


def test_refusals(site, vm):
    one = vm(disks=1).layers("a")
    snapshot = {"snapshot": [{"id": one.snapshots()["a"]["id"]}]}
    post = site.rest.json
    assert "name" in post("POST", "/vms", {"snapshots": snapshot}, status=400)["detail"]
    assert "snapshots" in post("POST", "/vms", {"name": "x"}, status=400)["detail"]
    post("POST", "/vms", {"name": "x", "snapshots": {"snapshot": [{"id": one.id}]}}, status=400)
    post("POST", "/vms", {"name": one.name, "snapshots": snapshot}, status=409)
    post("POST", "/vms", {"name": "a/b", "snapshots": snapshot}, status=400)
    post("POST", "/vms", {"name": "x", "snapshots": snapshot, "strategy": "teleport"}, status=400)
    post("POST", "/vms", {"name": "x", "snapshots": {"snapshot": [{"id": one.active()["id"]}]}}, status=409)
    post("POST", f"/vms/{one.id}/clone", {"vm": {"name": "x"}, "storage_domain": {"id": one.id}}, status=404)
    ballast = site.work / "v" / "ballast"
    free = os.statvfs(ballast.parent)
    run("fallocate", "-l", free.f_bavail * free.f_frsize - (2 << 20), ballast)
    try:
        full = post("POST", "/vms", {"name": "x", "snapshots": snapshot, "strategy": "copy"}, status=507)
        assert "not enough room" in full["detail"], full
    finally:
        ballast.unlink()
    assert one.names() == ["a"] and [v["name"] for v in items(post("GET", "/vms"), "vm")] == [one.name]


def test_remove(site, vm):
    one = vm(disks=2).layers("a", disks=2)
    refused = site.cli("vm", "remove", one.name, "-y", code=4)
    assert "shut it down first" in refused.err, refused.err
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    assert "snapshots" in remove_code(site, one.name, "--keep-disks").err
    base, leaf = one.chain()
    other = one.directory / "other.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", leaf, "-F", "qcow2", str(other))
    assert str(other) in remove_code(site, one.name, code=1).err, "a file stands on its leaf"
    other.unlink()
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", str(other))
    done = site.rest.json("DELETE", f"/vms/{one.id}?async=false")
    job = site.rest.json("GET", f"/jobs/{done['job']['id']}")
    assert [kept["path"] for kept in items(job, "kept", "volume")] == [base], job
    assert sorted(one.files()) == sorted([base, str(other)])
    site.rest.json("GET", f"/vms/{one.id}", status=404)
    assert one.name not in site.host.virsh("list", "--all", "--name").split()
    assert codes(site, one.id) >= {113}
