# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody uses a volume of a chain, in a way that livemerge does not manage: from another directory, by a name that
is no plain path, as a CD-ROM, as a volume of a libvirt pool; and it may be the same VM. What is read there stays,
whatever is deleted."""

import json
import os

import pytest

from lm import Disk, Site, run

BACKING = {
    "outside": lambda path: path,
    "json": lambda path: "json:" + json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": path}}),
    "json-flat": lambda path: "json:" + json.dumps({"driver": "qcow2", "file.filename": path}),
    "file": lambda path: f"file:{path}",
}
SOURCE = "<source file='{path}'/>"
WHOLE = {
    "cdrom": f"<disk type='file' device='cdrom'><driver name='qemu' type='qcow2'/>{SOURCE}"
             "<target dev='hdc' bus='ide'/><readonly/></disk>",
    "cdrom-raw": f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{SOURCE}"
                 "<target dev='hdc' bus='ide'/><readonly/></disk>",
    "definition": "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{user}'/>"
                  f"<backingStore type='file'><format type='qcow2'/>{SOURCE}<backingStore/></backingStore>"
                  "<target dev='vda' bus='virtio'/></disk>",
}
# By name in a pool: the volume itself, or one that stands on it. A pool that is not active can be started at any time.
POOLED = {
    "pool": lambda used, user: used,
    "pool-stands": lambda used, user: user,
    "pool-inactive": lambda used, user: used,
}


@pytest.fixture(scope="module", params=["xfs", None], ids=["shares", "copies"])
def site(request):
    with Site(request.param) as whole:
        yield whole


def content(site, path):
    raw = site.work / "content.raw"
    run("qemu-img", "convert", "-U", "-O", "raw", path, raw)
    return raw.read_bytes()


def pooled(site, name, path, active, target="vda"):
    """A disk that names the file as a volume of a pool."""
    site.host.virsh("pool-define-as", name, "dir", "--target", os.path.dirname(path))
    if active:
        site.host.virsh("pool-start", name)
    return (f"<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='{name}' "
            f"volume='{os.path.basename(path)}'/><target dev='{target}' bus='virtio'/></disk>")


def layers(site, vm, state):
    one = vm().layers("s1", "s2")
    if state == "down":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    return one


def standing_on(site, name, used=None, backing=None):
    """An image in a directory of its own."""
    directory = site.work / f"users-{name}"
    directory.mkdir()
    user = directory / "user.qcow2"
    on = ["-b", backing or used, "-F", "qcow2"] if backing or used else []
    run("qemu-img", "create", "-q", "-f", "qcow2", *on, user, *([] if on else ["64M"]))
    return user


def expect_kept(site, one, used, read, user):
    """Whatever is deleted: what is read stays, and nothing of the VM is lost."""
    before = content(site, read)
    for name in ("s1", "s2"):
        done = site.cli("snapshot", "delete", one.name, name, "-y", code=None)
        assert done.code == 0 or user in done.err, done
        assert os.path.exists(used), f"{used}, which is used by {user}, was deleted with {name}"
    assert content(site, read) == before
    if site.host.state(one.name) != "shut off":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    assert all(content(site, one.chain()[-1])[i << 20] == i + 1 for i in range(3))


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("how", [*BACKING, *WHOLE, *POOLED])
def test_another_vm_uses_it(site, vm, how, state):  # pylint: disable=redefined-outer-name
    one = layers(site, vm, state)
    used = one.chain()[1]
    user = standing_on(site, f"{how}-{state}", used=used if how == "pool-stands" else None,
                       backing=BACKING[how](used) if how in BACKING else None)
    if how in POOLED:
        path = str(POOLED[how](used, user))
        disk = Disk(xml=pooled(site, f"{how}-{state}", path, how != "pool-inactive"))
    else:
        disk = Disk(path=str(user)) if how in BACKING else Disk(xml=WHOLE[how].format(path=used, user=user))
    other = vm([disk], start=False)
    expect_kept(site, one, used, user if how in BACKING or how == "pool-stands" else used, other.name)


def attach(site, one, xml, *options):
    file = site.work / "disk.xml"
    file.write_text(xml)
    site.host.virsh("attach-device", one.name, str(file), *options)


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("how", ["itself", "stands"])
def test_a_vm_that_runs_will_use_it(site, vm, how, state):  # pylint: disable=redefined-outer-name
    """From its next start on: only its definition says so."""
    one = layers(site, vm, state)
    used = one.chain()[1]
    other = vm()
    user = standing_on(site, f"next-{how}-{state}", used) if how == "stands" else used
    attach(site, other, f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{user}'/>"
                        "<target dev='vdb' bus='virtio'/></disk>", "--config")
    expect_kept(site, one, used, user, other.name)


OWN = "<disk type='{type}' device='{device}'><driver name='qemu' type='{format}'/>{source}<target dev='{target}' " \
      "bus='{bus}'/><readonly/></disk>"


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("how", ["cdrom", "cdrom-stands", "disk", "stands", "pool"])
def test_the_same_vm_uses_it(site, vm, how, state):  # pylint: disable=redefined-outer-name
    """Another disk of it, which reads what the volume was once."""
    one = layers(site, vm, "down")
    used = one.chain()[1]
    path = standing_on(site, f"same-{how}-{state}", used) if "stands" in how else used
    if how == "pool":
        xml = pooled(site, f"same-{state}", path, True, "vdb").replace("</disk>", "<readonly/></disk>")
    else:
        device, target, bus = ("cdrom", "hdc", "ide") if "cdrom" in how else ("disk", "vdb", "virtio")
        xml = OWN.format(type="file", device=device, format="qcow2", source=SOURCE.format(path=path), target=target, bus=bus)
    attach(site, one, xml, "--config")
    if state == "up":
        site.host.virsh("start", one.name)
        one.wait_status("up")
    expect_kept(site, one, used, path, one.name)


def test_it_is_not_used_any_more(site, vm):  # pylint: disable=redefined-outer-name
    """Nobody is told when a disk is detached from a VM that is off."""
    one = layers(site, vm, "down")
    xml = WHOLE["cdrom"].format(path=one.chain()[1])
    other = vm([Disk(xml=xml)], start=False)
    options = ("-y", "--strategy", "commit")
    assert other.name in site.cli("snapshot", "delete", one.name, "s1", *options, code=4).err
    site.host.virsh("detach-disk", other.name, "hdc", "--config")
    site.cli("snapshot", "delete", one.name, "s1", *options)
    one.expect_layers(3)
