# SPDX-License-Identifier: LGPL-2.1-or-later
"""The doctor on a real libvirt: what virsh and others do to a VM behind our back is found, explained,
mended and taken back; a VM that is well gives nothing, also while a merge runs."""

import re
import time
from pathlib import Path

import pytest

from lm import Disk, items, pattern_is, run, wait_for

GRACE_S = 31  # doctor_grace_s


def make(path):
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    return path


def findings(site, vm, code=1, classes=()):
    """{class: finding}; the exit code says whether there are any."""
    options = [word for name in classes for word in ("--class", name)]
    document = site.cli("doctor", vm.name, "--json", *options, code=code).json
    listed = items(document, "findings", "finding")
    assert all(f["text"] and ("fix" in f or "help" in f or f["severity"] == "error") for f in listed)
    return {f["class"]: f for f in listed}


def fix(site, vm, *classes, code=0):
    """What became of each finding, and the job."""
    options = [word for name in classes for word in ("--class", name)]
    jobs = items(site.cli("doctor", vm.name, "--fix", "-y", "--json", *options, code=code).json, "job")
    return {f["class"]: f["state"] for f in items(jobs[0], "findings", "finding")}, jobs[0]["id"]


def healthy(site, vm):
    assert not findings(site, vm, code=0)


def test_healthy_also_while_merging(site, vm):
    one = vm(2).layers("one", "two", disks=2)
    healthy(site, one)
    job = one.begin_delete("one", options=["--strategy", "commit", "--bandwidth", "1"])
    for _ in range(5):
        assert not findings(site, one, code=None)
    busy = site.cli("doctor", one.name, "--json", code=None).json
    assert one.job(job)["status"] != "started" or items(busy, "busy_vms", "vm")[0]["name"] == one.name
    one.wait_job(job)
    wait_for(lambda: not items(site.cli("doctor", "--json", code=None).json, "busy_vms", "vm"), 10, "the doctor looks again")
    healthy(site, one)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    healthy(site, one)
    one.expect_layers(3, disks=2)


@pytest.mark.parametrize("metadata", [False, True], ids=["bare", "with-metadata"])
def test_virsh_snapshot_is_adopted(site, vm, metadata):
    """It becomes a snapshot like any other, with libvirt's name, date and description, and can be deleted; what
    libvirt keeps of it then goes, too."""
    one = vm(2).layers("first", disks=2)
    site.host.virsh("snapshot-create-as", one.name, "nightly", "before the update", "--disk-only",
                    *([] if metadata else ["--no-metadata"]))
    for disk in range(2):
        site.host.write(one.name, disk, "2M", "1M", 3)
    found = findings(site, one)
    assert "foreign-overlay" in found
    assert ("libvirt's snapshot 'nightly'" in found["foreign-overlay"]["text"]) == metadata
    states, job = fix(site, one, "foreign-overlay")
    assert states == {"foreign-overlay": "mended"}
    assert one.names() == ["first", "nightly"]
    nightly = one.snapshots()["nightly"]
    assert nightly.get("comment") == ("before the update" if metadata else None)
    if metadata:  # with libvirt's date, to the second
        made = re.search(r"<creationTime>(\d+)<", site.host.virsh("snapshot-dumpxml", one.name, "nightly"))
        assert nightly["date"] == time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(int(made[1])))
    assert "foreign-overlay" not in findings(site, one)  # libvirt named the old leaf absolutely

    assert "2 of it undone" in site.cli("doctor", one.name, "--undo", job).err
    assert one.names() == ["first"]
    assert "Nothing was left to undo" in site.cli("doctor", one.name, "--undo", job).err
    assert "foreign-overlay" in findings(site, one)
    fix(site, one, "foreign-overlay")

    one.delete("nightly")
    assert "nightly" not in site.host.virsh("snapshot-list", one.name, "--name")
    healthy(site, one)
    one.expect_layers(3, disks=2)


def test_virsh_snapshots_in_a_row(site, vm):
    """Several with metadata are adopted in one go; deleting one in the middle leaves libvirt's records of the others,
    whose tree libvirt mends itself."""
    one = vm(1)
    for name in ("a", "b", "c"):
        site.host.virsh("snapshot-create-as", one.name, name, f"text of {name}", "--disk-only")
    fix(site, one, "foreign-overlay")
    assert one.names() == ["a", "b", "c"]
    one.delete("b")
    assert site.host.virsh("snapshot-list", one.name, "--name").split() == ["a", "c"]
    assert [s["comment"] for s in one.snapshots().values()] == ["text of a", "text of c"]
    assert not {"foreign-overlay", "libvirt-snapshot"} & set(findings(site, one, code=None))
    site.cli("snapshot", "delete", one.name, "a", "c", "-y")
    assert site.host.virsh("snapshot-list", one.name, "--name").split() == []
    assert len(one.chain()) == 1


def test_record_that_no_longer_fits(site, vm):
    """Somebody merged libvirt's snapshot away: its record is found, goes, and comes back on undo."""
    one = vm(1)
    site.host.virsh("snapshot-create-as", one.name, "old", "--disk-only")
    leaf = one.chain()[-1]
    site.host.virsh("blockcommit", one.name, "vda", "--active", "--pivot", "--wait")
    one.directory.joinpath(leaf).unlink()
    found = findings(site, one)
    assert set(found) == {"libvirt-snapshot"}, found
    states, job = fix(site, one)
    assert states == {"libvirt-snapshot": "mended"}
    assert "old" not in site.host.virsh("snapshot-list", one.name, "--name")
    site.cli("doctor", one.name, "--undo", job)
    assert "old" in site.host.virsh("snapshot-list", one.name, "--name")
    fix(site, one)
    healthy(site, one)


def redefine(site, one, change):
    xml = site.host.virsh("dumpxml", one.name, "--inactive")
    path = site.work / "changed.xml"
    path.write_text(change(xml), encoding="utf-8")
    site.host.virsh("define", str(path))


def test_stale_definition(site, vm):
    """Somebody defined the running VM from an old file."""
    one = vm(1).layers("first")
    leaf, base = one.chain()[-1], one.chain()[0]
    redefine(site, one, lambda xml: xml.replace(leaf, base))
    assert site.host.leaf(one.name, "vda", inactive=True) == base
    found = findings(site, one)
    assert set(found) == {"stale-definition"}, found
    assert base in found["stale-definition"]["text"]
    states, job = fix(site, one)
    assert states == {"stale-definition": "mended"}
    assert site.host.leaf(one.name, "vda", inactive=True) == leaf
    healthy(site, one)
    site.cli("doctor", one.name, "--undo", job)
    assert set(findings(site, one)) == {"stale-definition"}
    fix(site, one)
    one.expect_layers(2)


def test_stale_backing_in_definition(site, vm):
    """libvirt believes the definition and not the headers: facts/libvirt H4."""
    one = vm(1).layers("first", "second")
    _, middle, leaf = one.chain()
    wrong = f"<backingStore type='file'><format type='qcow2'/><source file='{leaf}x'/><backingStore/></backingStore>"
    redefine(site, one, lambda xml: re.sub(rf"(<source file='{re.escape(leaf)}'[^>]*/>)", rf"\1{wrong}", xml))
    found = findings(site, one)
    assert set(found) == {"stale-definition"}, found
    assert fix(site, one)[0] == {"stale-definition": "mended"}
    assert "<backingStore" not in site.host.virsh("dumpxml", one.name, "--inactive")
    healthy(site, one)
    assert one.chain()[1] == middle


def test_leftover_block_job(site, vm):
    """A commit that somebody began and left alone: only on demand is it ended, and what it may have
    changed is said to be unusable."""
    one = vm(1).layers("first")
    base, leaf = one.chain()
    site.host.virsh("blockcommit", one.name, "vda", "--active")
    found = findings(site, one)
    assert set(found) == {"foreign-job"}, found
    assert found["foreign-job"]["can_fix"] == "asked"
    assert base in found["foreign-job"]["text"]
    site.cli("doctor", one.name, "--fix", "-y", code=1)
    assert set(findings(site, one)) == {"foreign-job"}
    assert fix(site, one, "foreign-job")[0] == {"foreign-job": "mended"}
    assert "<mirror" not in site.host.virsh("dumpxml", one.name)
    healthy(site, one)
    assert one.chain() == [base, leaf]
    assert one.snapshots()["first"]["snapshot_status"] != "ok" or "unusable" in str(one.snapshots()["first"])
    one.delete("first")
    assert pattern_is(one.chain()[-1], "0", "1M", 1, share=True)
    assert pattern_is(one.chain()[-1], "1M", "1M", 2, share=True)


def test_broken_chain_is_only_explained(site, vm):
    """A VM that is off whose backing file was moved away."""
    one = vm(1, start=False)
    one.snap("first")
    base = one.chain()[0]
    aside = one.directory.parent / "aside.qcow2"
    one.directory.joinpath(base).rename(aside)
    found = findings(site, one)
    assert set(found) == {"missing-parent"}, found
    assert found["missing-parent"]["can_fix"] == "no" and base in found["missing-parent"]["text"]
    text = site.cli("doctor", one.name, code=1).out
    assert "missing-parent" in text and "rebase" in text
    aside.rename(base)
    healthy(site, one)


def test_asks_first_and_refuses_nonsense(site, vm):
    one = vm(1)
    assert "-y" in site.cli("doctor", one.name, "--fix", code=2).err
    site.cli("doctor", "no-such-vm", code=3)
    site.cli("doctor", one.name, "--class", "headache", code=2)
    site.cli("doctor", one.name, "--undo", "nonsense", code=2)
    site.rest.json("POST", f"/vms/{one.id}/doctor", {"classes": {"class": [{"name": "headache"}]}}, status=400)


def test_preview_over_two_storage_domains(site, vm):
    """What a preview has left of the second disk is known to the manifest in the other domain alone, whichever of them
    the agent knew first."""
    folder = site.work / "v" / "seconds"
    folder.mkdir(parents=True)
    vm([Disk(path=make(folder / "other.qcow2"))])  # so that it is a domain before the VM has its own
    one = vm([Disk(), Disk(path=make(folder / "data.qcow2"))])
    one.snap("first")
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    old = one.chain("vdb")[-1]
    site.cli("snapshot", "preview", one.name, "first")
    assert one.chain("vdb")[-1] != old
    wait_for(lambda: time.time() - Path(old).stat().st_ctime > GRACE_S, GRACE_S + 10, "the files are old enough to be judged")
    listed = items(site.cli("doctor", "--json", code=None).json, "findings", "finding")
    assert not [f for f in listed if f.get("file") == str(old)], listed
    healthy(site, one)
    site.cli("snapshot", "undo", one.name, "-y")
    assert one.chain("vdb")[-1] == old
