# SPDX-License-Identifier: LGPL-2.1-or-later
"""Another VM uses a volume of a chain, in a way that livemerge does not manage: from another directory, by a name that
is no plain path, as a CD-ROM. What it reads stays, whatever is deleted."""

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
             "<target dev='hda' bus='ide'/><readonly/></disk>",
    "cdrom-raw": f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{SOURCE}"
                 "<target dev='hda' bus='ide'/><readonly/></disk>",
    "definition": "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{user}'/>"
                  f"<backingStore type='file'><format type='qcow2'/>{SOURCE}<backingStore/></backingStore>"
                  "<target dev='vda' bus='virtio'/></disk>",
}


@pytest.fixture(scope="module", params=["xfs", None], ids=["shares", "copies"])
def site(request):
    with Site(request.param) as whole:
        yield whole


def content(site, path):
    raw = site.work / "content.raw"
    run("qemu-img", "convert", "-U", "-O", "raw", path, raw)
    return raw.read_bytes()


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("how", [*BACKING, *WHOLE])
def test_another_vm_uses_it(site, vm, how, state):  # pylint: disable=redefined-outer-name
    one = vm().layers("s1", "s2")
    if state == "down":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    used = one.chain()[1]
    directory = site.work / f"users-{how}-{state}"
    directory.mkdir()
    user = directory / "user.qcow2"
    if how in BACKING:
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", BACKING[how](used), "-F", "qcow2", user)
    else:
        run("qemu-img", "create", "-q", "-f", "qcow2", user, "64M")
    disk = Disk(path=str(user)) if how in BACKING else Disk(xml=WHOLE[how].format(path=used, user=user))
    other = vm([disk], start=False)
    read = user if how in BACKING else used
    before = content(site, read)
    for name in ("s1", "s2"):
        done = site.cli("snapshot", "delete", one.name, name, "-y", code=None)
        assert done.code == 0 or other.name in done.err, done
        assert os.path.exists(used), f"{used}, which {other.name} uses, was deleted with {name}"
    assert content(site, read) == before
    if state == "up":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    assert all(content(site, one.chain()[-1])[i << 20] == i + 1 for i in range(3))
