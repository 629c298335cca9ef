# SPDX-License-Identifier: LGPL-2.1-or-later
"""A storage that is thinly provisioned and full for a moment: what the kernel has taken of a merge it cannot write, and
says so once. QEMU 7.2 tells nobody that it could not flush the base of an internal commit."""

import subprocess
from pathlib import Path

import pytest

from lm import Disk, Site, pattern_is, run, wait_for

MIB = 1 << 20


class ThinSite(Site):
    """The file system's image is sparse, on a smaller one (self.thin). XFS tries to write its own blocks until there is
    room again, and its log has all of its room (mkfs writes it): only data are lost. ext4's journal would be aborted."""

    @property
    def thin(self):
        return self.work / "thin"

    def _mount(self, name, kind):
        image, where = self.thin / "image", self.work / name
        self.thin.mkdir()
        where.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=480M", "none", self.thin)
        run("truncate", "-s", self.size, image)
        run("mkfs.xfs", "-q", "-K", image)
        run("mount", "-o", "loop", image, where)

    def down(self):
        run("umount", "-l", self.thin)
        super().down()

    def fill(self, room):
        """All but so much. Returns the file that does it."""
        file = self.thin / "full"
        subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=1M"], stderr=subprocess.DEVNULL, check=False)
        with open(file, "r+b") as opened:
            opened.truncate(file.stat().st_size - room)
        return file


@pytest.fixture(scope="module")
def site():
    with ThinSite("xfs", "1G") as whole:
        yield whole


def ended(one, job):
    return one.job(job)["status"] != "started"


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("tables", ["metadata", "off"])
def test_full_for_a_moment(site, vm, tables, state):  # pylint: disable=redefined-outer-name
    """With all tables there before nothing but data is missing, which the tables do not tell."""
    directory = site.work / "v" / f"{state}-{tables}"
    directory.mkdir()
    path = directory / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"preallocation={tables}", path, "256M")
    one = vm([Disk(xml=f"""<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='writeback'/>
<source file='{path}'/><target dev='vda' bus='virtio'/></disk>""")])
    for offset, length, pattern, snapshot in ((1, 4, 1, "s1"), (20, 40, 2, "s2"), (100, 1, 3, None)):
        site.host.write(one.name, 0, f"{offset}M", f"{length}M", pattern)
        if snapshot is not None:
            one.snap(snapshot)
    if state == "down":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    run("sync")
    full = site.fill(8 * MIB)
    job = one.begin_delete("s1", options=("--strategy", "commit"))
    wait_for(lambda: "has reached the storage" in site.agent.tail(400) or ended(one, job), 60, "it is full")
    full.unlink()
    if state == "up":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    wait_for(lambda: ended(one, job), 60, lambda: f"the job ends: {one.job(job)}")
    run("sync")
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    leaf = one.chain()[-1]
    for offset, length, pattern in ((1, 4, 1), (20, 40, 2), (100, 1, 3)):
        assert pattern_is(leaf, f"{offset}M", f"{length}M", pattern), f"{one.chain()}: {offset} MiB"
