# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that exist already are taken as they are; what cannot be managed is listed with the reason."""

import hashlib
import json
import struct

import pytest

from lm import Disk, items, pattern_is, qemu_img

NETWORK_DISK = """<disk type='network' device='disk'><driver name='qemu' type='raw'/>
<source protocol='nbd' name='x'><host name='localhost' port='10809'/></source>
<target dev='vda' bus='virtio'/></disk>"""


def make(path, size="16M", backing=None, backing_format="qcow2", options=()):
    """A qcow2 file; with backing it may name what is not there."""
    extra = ["-u", "-b", str(backing), "-F", backing_format] if backing else []
    path.parent.mkdir(parents=True, exist_ok=True)
    qemu_img("create", "-q", "-f", "qcow2", *extra, *options, path, size)
    return path


def loop(directory):
    make(directory / "a.qcow2", backing="b.qcow2")
    return make(directory / "b.qcow2", backing="a.qcow2")


def itself(directory):
    return make(directory / "a.qcow2", backing="a.qcow2")


def too_deep(directory):
    below = make(directory / "000.qcow2")
    for i in range(1, 202):
        below = make(directory / f"{i:03}.qcow2", backing=below.name)
    return below


def backing_outside(directory):
    make(directory.parent / "elsewhere" / "base.qcow2")
    return make(directory / "a.qcow2", backing="../elsewhere/base.qcow2")


def backing_absolute_outside(_directory):
    return make(_directory / "a.qcow2", backing="/etc/passwd", backing_format="raw")


def json_backing(directory):
    base = make(directory / "base.qcow2")
    name = "json:" + json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(base)}})
    return make(directory / "a.qcow2", backing=name)


def external_data(directory):
    return make(directory / "a.qcow2", options=["-o", f"data_file={directory}/data.raw"])


def l1_outside(directory):
    path = make(directory / "a.qcow2")
    with open(path, "r+b") as file:
        file.seek(40)  # l1_table_offset
        file.write(struct.pack(">Q", 1 << 40))
    return path


def no_magic(directory):
    path = directory / "a.qcow2"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0" * 65536)
    return path


def missing(directory):
    directory.mkdir(parents=True)
    return directory / "gone.qcow2"


def missing_backing(directory):
    return make(directory / "a.qcow2", backing="gone.qcow2")


UNMANAGEABLE = [  # how to make it, words that the reason must hold
    (loop, ["loop"]),
    (itself, ["loop"]),
    (too_deep, ["200"]),
    (backing_outside, ["elsewhere"]),
    (backing_absolute_outside, ["/etc/passwd"]),
    (json_backing, ["json:"]),
    (external_data, ["data"]),
    (l1_outside, ["l1_table_offset"]),
    (no_magic, ["qcow2"]),
    (missing, ["gone.qcow2"]),
    (missing_backing, ["gone.qcow2"]),
]


def digest(directory):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest()
            for f in directory.iterdir() if f.is_file()}


@pytest.mark.parametrize("build,words", UNMANAGEABLE, ids=[row[0].__name__ for row in UNMANAGEABLE])
def test_unmanageable_is_listed_with_the_reason(site, vm, build, words):
    directory = site.work / "bad" / build.__name__
    leaf = build(directory)
    before = digest(directory)
    one = vm([Disk(path=str(leaf))], start=False)

    reason = one.document().get("unmanaged", "")
    for word in words:
        assert word in reason, f"the reason does not tell: {reason!r}"
    assert "vda" in reason or leaf.name in reason, f"the reason names no disk: {reason!r}"

    refused = site.cli("snapshot", "create", one.name, "s1", code=4)
    assert words[0] in refused.err and one.name in refused.err
    assert digest(directory) == before, "something was touched"


def test_network_disk(site, vm):
    one = vm([Disk(xml=NETWORK_DISK)], start=False)
    assert "network" in one.document()["unmanaged"]
    assert "network" in site.cli("snapshot", "create", one.name, "s1", code=4).err


def test_raw_is_managed(site, vm):
    one = vm([Disk(format="raw")])
    assert "unmanaged" not in one.document()
    one.layers("s1")
    one.expect_layers(2)
    one.delete("s1")
    assert one.chain() == [f"{one.directory}/{one.name}-vda.raw"]


def test_disks_and_volumes_are_shown(site, vm):
    one = vm(2)
    one.layers("s1")
    attachments = items(site.rest.json("GET", f"/vms/{one.id}/diskattachments"), "disk_attachment")
    assert len(attachments) == 2
    for attachment in attachments:
        disk = site.rest.json("GET", f"/disks/{attachment['disk']['id']}")
        assert disk["provisioned_size"] == 64 << 20
        assert disk["format"] == "cow" and disk["status"] == "ok"
        volumes = items(disk, "volumes", "volume")
        target = "vda" if volumes[0]["path"].endswith("-vda.qcow2") else "vdb"
        assert [volume["path"] for volume in volumes] == one.chain(target)


def volume_ids(site, one):
    """(disk id, [volume ids]) of each disk"""
    attachments = items(site.rest.json("GET", f"/vms/{one.id}/diskattachments"), "disk_attachment")
    disks = [site.rest.json("GET", f"/disks/{a['disk']['id']}") for a in attachments]
    return [(disk["id"], [v["id"] for v in items(disk, "volumes", "volume")]) for disk in disks]


def test_ids_stay_across_restarts(site, vm):
    one = vm(2)
    one.layers("s1", "s2", disks=2)
    before = (volume_ids(site, one), {name: s["id"] for name, s in one.snapshots().items()})
    site.agent.restart()
    site.manager.restart()
    site.wait_ready()
    one.wait_status("up")
    assert (volume_ids(site, one), {name: s["id"] for name, s in one.snapshots().items()}) == before


def test_existing_chain_is_adopted_in_place(site, vm):
    """Layers that others made: no snapshots of ours, but a managed disk, and ours go on top."""
    directory = site.work / "adopted"
    base = make(directory / "base.qcow2", size="64M")
    leaf = make(directory / "leaf.qcow2", size="64M", backing=base.name)
    one = vm([Disk(path=str(leaf))])
    assert "unmanaged" not in one.document()
    assert one.names() == []
    site.host.write(one.name, 0, "0", "1M", 1)
    one.snap("s1")
    site.host.write(one.name, 0, "1M", "1M", 2)
    assert one.chain()[:2] == [str(base), str(leaf)]
    one.delete("s1")
    assert one.chain() == [str(base), str(leaf)]
    assert pattern_is(leaf, "0", "1M", 1, share=True) and pattern_is(leaf, "1M", "1M", 2, share=True)


def test_a_bad_disk_does_not_hide_a_good_one(site, vm):
    other = make(site.work / "mixed" / "b.qcow2", backing="gone.qcow2")
    good = make(site.work / "mixed" / "a.qcow2")
    one = vm([Disk(path=str(good)), Disk(path=str(other))], start=False)
    assert "unmanaged" not in one.document()
    disks = [site.rest.json("GET", f"/disks/{a['disk']['id']}")
             for a in items(site.rest.json("GET", f"/vms/{one.id}/diskattachments"), "disk_attachment")]
    reasons = [disk.get("unmanaged") for disk in disks]
    assert reasons[0] is None and "gone.qcow2" in reasons[1]
