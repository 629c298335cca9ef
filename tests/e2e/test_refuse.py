# SPDX-License-Identifier: LGPL-2.1-or-later
"""Refusals: what would be dangerous or makes no sense is answered with the right exit code and a reason
that names the thing, and changes nothing."""

import pytest

from lm import Cli, Disk, qemu_img, wait_for

NAME_4K = "x" * 4096


@pytest.fixture(scope="module")
def still(site):
    """A VM with two snapshots that nothing here may change."""
    one = site.vm("still")
    one.layers("s1", "s2")
    yield one
    one.remove()


@pytest.mark.parametrize("words,code,told", [
    (["snapshot", "list", "nosuchvm"], 3, "nosuchvm"),
    (["vm", "show", "nosuchvm"], 3, "nosuchvm"),
    (["snapshot", "show", "still", "nosuch"], 3, "nosuch"),
    (["snapshot", "delete", "still", "nosuch", "-y"], 3, "nosuch"),
    (["snapshot", "delete", "still", "s1", "nosuch", "-y"], 3, "nosuch"),
    (["snapshot", "rename", "still", "nosuch", "new"], 3, "nosuch"),
    (["snapshot", "delete", "still", "s1", "-y", "--disk", "vdz"], 3, "vdz"),
    (["snapshot", "create", "still", "s3", "--disk", "vdz"], 3, "vdz"),
    (["snapshot", "delete", "still", "s1", "-y", "--strategy", "magic"], 2, "magic"),
    (["snapshot", "delete", "still", "s1", "-y", "--bandwidth", "-3"], 2, "bandwidth"),
    (["snapshot", "delete", "still", "s1", "-y", "--bandwidth", "many"], 2, "bandwidth"),
    (["snapshot", "delete", "still", "s1"], 2, "-y"),
    (["snapshot", "create", "still", "s3", "--quiesce", "maybe"], 2, "maybe"),
    (["snapshot", "create", "still", ""], 2, "name"),
    (["snapshot", "create", "still", "a\nb"], 2, "name"),
    (["snapshot", "create", "still", "a\x1b[31mb"], 2, "name"),
    (["snapshot", "create", "still", NAME_4K], 2, "name"),
    (["snapshot", "rename", "still", "s1", "a\tb"], 2, "name"),
    (["snapshot", "rename", "still", "s1", NAME_4K], 2, "name"),
    (["snapshot", "frobnicate", "still"], 2, "frobnicate"),
    (["snapshot", "list"], 2, "VM"),
    (["job", "show", "00000000-0000-0000-0000-000000000000"], 3, "00000000"),
    (["job", "cancel", "nosuchjob"], 3, "nosuchjob"),
], ids=lambda value: None if not isinstance(value, list) else "-".join(value)[:40].encode("unicode_escape").decode())
def test_cli_refuses(site, still, words, code, told):
    before = (still.snapshots(), still.files(), still.chain())
    refused = site.cli(*words, code=code)
    assert told in refused.err and refused.out == "", refused
    assert "\x1b" not in refused.err
    assert (still.snapshots(), still.files(), still.chain()) == before


def test_a_path_as_a_name_is_only_a_name(site, vm):
    one = vm()
    site.cli("snapshot", "create", one.name, "../../etc/passwd")
    assert one.names() == ["../../etc/passwd"]
    assert all(path.startswith(str(one.directory)) for path in one.files() + one.chain())
    assert "/etc/" not in "".join(one.files())
    one.delete("../../etc/passwd")
    assert len(one.chain()) == 1


def test_a_snapshot_named_twice_is_deleted_once(vm):
    one = vm().layers("s1")
    one.delete("s1", "s1")
    one.expect_layers(2)


def test_deleting_the_active_one(site, still):
    active = still.active()
    site.cli("snapshot", "delete", still.name, active["id"], "-y", code=4)
    status, _, text = site.rest("DELETE", f"/vms/{still.id}/snapshots/{active['id']}")
    assert status == 409 and "ctive" in text
    assert still.names() == ["s1", "s2"]


def test_shared_base(site, vm):
    """Another VM stands on the base: nothing may be merged into it. With the other gone it works. (What else
    can be done meanwhile is in test_plan.py.)"""
    one = vm().layers("s1", "s2")
    base = one.chain()[0]
    clone = one.directory / "clone.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", clone)
    other = vm([Disk(path=str(clone))], start=False)
    refused = site.cli("snapshot", "delete", one.name, "s1", "-y", "--strategy", "commit", code=4)
    assert other.name in refused.err or "clone.qcow2" in refused.err, refused
    assert one.names() == ["s1", "s2"] and len(one.chain()) == 3
    site.host.remove(other.name)
    clone.unlink()
    wait_for(lambda: other.document() is None, 10, "the other VM is gone")
    one.delete("s1")
    one.expect_layers(3)


def test_foreign_block_job(site, vm):
    one = vm().layers("s1", "s2")
    site.host.write(one.name, 0, "8M", "32M", 9)
    site.host.virsh("blockcommit", one.name, "vda", "--active", "--bandwidth", "1")
    refused = site.cli("snapshot", "delete", one.name, "s1", "-y", code=4)
    assert "vda" in refused.err and "job" in refused.err, refused
    site.host.virsh("blockjob", one.name, "vda", "--abort")
    wait_for(lambda: site.cli("snapshot", "delete", one.name, "s1", "-y", code=None).code == 0, 20,
             "the delete is done when the foreign job is gone")
    assert one.names() == ["s2"]


BACKUP = """<domainbackup mode='pull'><server transport='unix' socket='{at}/backup.nbd'/><disks>
<disk name='vda' backup='yes' type='file'><scratch file='{at}/scratch.qcow2'/></disk></disks></domainbackup>"""


def test_backup(site, vm):
    """Somebody else's backup is told before anything is tried, and when it is; it is not waited for."""
    one = vm().layers("s1", "s2")
    order = site.work / "backup.xml"
    order.write_text(BACKUP.format(at=site.work.path))
    site.host.virsh("backup-begin", one.name, str(order))
    refused = site.cli("snapshot", "delete", one.name, "s1", "-y", code=4)
    assert "backup" in refused.err and "blockjob" not in refused.err, refused
    shown = site.rest.json("GET", f"/vms/{one.id}?operations=true")
    assert shown["foreign_job"] == "backup"
    taken = next(o for o in shown["operations"]["operation"] if o["name"] == "create_snapshot")
    assert (taken["possible"], taken["key"]) == (False, "ACTION_TYPE_FAILED_VM_IS_DURING_BACKUP"), taken
    assert "backup" in taken["why"]
    site.host.virsh("domjobabort", one.name)
    wait_for(lambda: "foreign_job" not in site.rest.json("GET", f"/vms/{one.id}"), 10, "its end is heard of")
    one.delete("s1")
    assert one.names() == ["s2"]


def test_named(site, vm):
    """PUT, and what virsh changes is seen."""
    one = vm().layers("s1")
    path = f"/vms/{one.id}"
    assert site.rest.json("PUT", path, {"description": "of eggs", "comment": "a shop"})["description"] == "of eggs"
    assert (site.host.virsh("desc", one.name), site.host.virsh("desc", one.name, "--title")) == ("of eggs", "a shop")
    site.host.virsh("desc", one.name, "of ham")
    wait_for(lambda: site.rest.json("GET", path)["description"] == "of ham", 10, "virsh's description is seen")
    status, _, text = site.rest("PUT", path, {"name": "other"})
    assert status == 409 and "it is not off" in text
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    named = site.rest.json("PUT", path, {"name": "other"})
    assert named["name"] == "other" and named["creation_time"] <= named["start_time"] < named["stop_time"]
    host = site.rest.json("GET", "/hosts")["host"][0]
    assert host["memory"] > 1 << 26 and host["cpu"]["topology"]["cores"] > 0 and host["libvirt_version"]["major"] >= 9
    assert site.host.virsh("domuuid", "other") == one.id
    site.cli("vm", "rename", "other", one.name)
    site.host.virsh("start", one.name)
    one.wait_status("up")
    one.delete("s1")


def test_saved_vm(site, vm):
    """The saved memory belongs to the present leaves."""
    one = vm().layers("s1")
    site.host.virsh("managedsave", one.name)
    one.wait_status("suspended")
    assert "suspended" in site.cli("snapshot", "delete", one.name, "s1", "-y", code=4).err
    assert "suspended" in site.cli("snapshot", "create", one.name, "s2", code=4).err
    site.host.virsh("managedsave-remove", one.name)
    one.wait_status("down", 30)  # libvirt tells nobody of that
    one.delete("s1")


def test_chain_is_full(site, vm):
    """libvirt's limit of 200 layers: refused before anything is made, with the number."""
    directory = site.work / "deep"
    directory.mkdir()
    below = None
    for i in range(199):
        path = directory / f"{i:03}.qcow2"
        backing = ["-u", "-b", below.name, "-F", "qcow2"] if below else []
        qemu_img("create", "-q", "-f", "qcow2", *backing, path, "16M")
        below = path
    one = vm([Disk(path=str(below))])
    failed = None
    for i in range(4):
        result = site.cli("snapshot", "create", one.name, f"s{i}", code=None)
        if result.code != 0:
            failed = result
            break
    assert failed is not None and failed.code in (1, 4) and "200" in failed.err, failed
    assert len(one.chain()) <= 200
    one.wait_status("up")


def test_agent_is_away(site, vm):
    """No answer from the host: said so, nothing is guessed, and it works when the host is back."""
    one = vm().layers("s1")
    site.agent.stop()
    try:
        wait_for(lambda: one.document()["status"] == "unknown", 40, "the VM's state is unknown")
        away = site.cli("snapshot", "create", one.name, "s2", code=None)
        assert away.code in (1, 4) and "answer" in away.err, away
    finally:
        site.agent.start()
    site.wait_ready()
    one.wait_status("up")
    one.snap("s2")
    assert one.names() == ["s1", "s2"]


def test_manager_is_away(site):
    away = Cli("unix:/nonexistent/socket")("vm", "list", code=None)
    assert away.code == 1 and "/nonexistent/socket" in away.err
