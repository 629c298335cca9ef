# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dirty bitmaps, as backup programs make them: after a delete the next incremental backup holds all that was written
since the checkpoint, or the delete was refused."""

import json

import pytest

from lm import run, wait_for

SETS = [["s1"], ["s2"], ["s1", "s2"]]


def checkpoint(site, one, name):
    file = site.work / "checkpoint.xml"
    file.write_text(f"<domaincheckpoint><name>{name}</name></domaincheckpoint>")
    site.host.virsh("checkpoint-create", one.name, str(file))


def backed_up(site, one, since):
    """MiB of the guest's disk that an incremental backup holds."""
    target, file = one.directory / "backup.img", site.work / "backup.xml"
    file.write_text(f"<domainbackup><incremental>{since}</incremental><disks><disk name='vda' type='file'>"
                    f"<driver type='qcow2'/><target file='{target}'/></disk></disks></domainbackup>")
    site.host.virsh("backup-begin", one.name, str(file))
    wait_for(lambda: "None" in site.host.virsh("domjobinfo", one.name), 30, "the backup has ended")
    rows = json.loads(run("qemu-img", "map", "-U", "--output=json", target).stdout)
    target.unlink()
    return {mib for row in rows if row["data"]
            for mib in range(row["start"] >> 20, (row["start"] + row["length"] - 1 >> 20) + 1)}


def written_since(site, vm):
    """50 MiB to the volume of s2, 51 to the leaf, after the checkpoint c1."""
    one = vm().layers("s1")
    checkpoint(site, one, "c1")
    site.host.write(one.name, 0, "50M", "64k", 50)
    one.snap("s2")
    checkpoint(site, one, "c2")
    site.host.write(one.name, 0, "51M", "64k", 51)
    return one


@pytest.mark.parametrize("doomed", SETS, ids="+".join)
def test_while_it_runs(site, vm, doomed):
    one = written_since(site, vm)
    one.delete(*doomed)
    assert {50, 51} <= backed_up(site, one, "c1")


@pytest.mark.parametrize("doomed", SETS, ids="+".join)
def test_while_it_is_off(site, vm, doomed):
    """libvirt is not there to carry them over."""
    one = written_since(site, vm)
    site.host.virsh("destroy", one.name, "--graceful")
    one.wait_status("down")
    before = one.chain()
    refused = site.cli("snapshot", "delete", one.name, *doomed, "-y", code=None)
    assert refused.code == 4 and "bitmaps" in refused.err, f"what was to be backed up is forgotten: {refused}"
    assert one.chain() == before
    one.virsh_start(check=True)
    one.wait_status("up")
    one.delete(*doomed)
    assert {50, 51} <= backed_up(site, one, "c1")


def test_as_it_is_powered_off(site, vm):
    """What began as it ran is not gone on with."""
    one = written_since(site, vm)
    site.host.write(one.name, 0, "16M", "32M", 9)
    before = one.chain()
    job = one.begin_delete("s2", options=("--strategy", "commit", "--bandwidth", "1"))
    wait_for(lambda: site.host.virsh("blockjob", one.name, "vda", check=False), 10, "the merge runs")
    site.host.virsh("destroy", one.name, "--graceful")
    wait_for(lambda: one.job(job)["status"] != "started", 60, lambda: f"the job ends: {one.job(job)}")
    if one.job(job)["status"] == "finished":  # it was faster
        return
    assert one.chain() == before and "bitmaps" in str(one.job(job))
    one.virsh_start(check=True)
    one.wait_status("up")
    one.delete("s2")
    assert {50, 51} <= backed_up(site, one, "c1")
