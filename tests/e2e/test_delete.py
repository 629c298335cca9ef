# SPDX-License-Identifier: LGPL-2.1-or-later
"""Deleting snapshots: each strategy, each state of the VM, one and many; nothing the guest wrote is
lost, nothing but the wanted chain stays, and the job tells what was done."""

import itertools
import time

import pytest

from lm import items, pattern_is, wait_for

NAMES = ["s1", "s2", "s3", "s4"]


def report(job, disks=1):
    """Checks the job's account of each disk; returns it."""
    accounts = items(job, "disks", "disk")
    assert job["status"] == "finished" and len(accounts) == disks, job
    for disk in accounts:
        assert disk["bytes_copied"] >= 0 and disk["seconds"] >= 0, disk
        assert items(disk, "volumes_removed", "volume"), disk
        for pause in items(disk, "pauses", "pause"):
            assert pause["kind"] and 0 <= pause["milliseconds"] < 20000, pause
    return accounts


def strategies(job, disks=1):
    return {disk["strategy"] for disk in report(job, disks)}


# Which of four snapshots are deleted, by state of the VM: what is left and how it was done.
SETS = [
    (["s1"], "internal"), (["s2"], "internal"), (["s4"], "leaf"), (["s1", "s2", "s3"], "internal"),
    (["s2", "s3", "s4"], "leaf"), (["s1", "s2", "s3", "s4"], "leaf"), (["s1", "s3"], "internal"),
    (["s2", "s4"], "mixed"), (["s1", "s4"], "mixed"),
]


@pytest.mark.parametrize("state", ["up", "paused", "down"])
@pytest.mark.parametrize("doomed,where", SETS, ids=["+".join(row[0]) for row in SETS])
def test_any_set_in_any_state(site, vm, doomed, where, state):
    one = vm(2, paused=state == "paused")
    one.layers(*NAMES, disks=2)
    if state == "down":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    job = one.delete(*doomed)
    used = set(itertools.chain(*(s.split(", ") for s in strategies(job, 2))))
    wanted = {"internal": {"commit"}, "leaf": {"commit-active"}, "mixed": {"commit", "commit-active"}}[where]
    if state == "down":
        wanted = {"cold-commit", "copy"}  # with so few data one copy can be quicker than several commits
    assert used <= wanted, f"{used} was not to be used for {doomed}"

    assert one.names() == [name for name in NAMES if name not in doomed]
    for target in ("vda", "vdb"):
        assert len(one.chain(target)) == 5 - len(doomed)
        assert site.host.leaf(one.name, target) == site.host.leaf(one.name, target, inactive=True)
    one.wait_status(state)  # paused stays paused, up is up again
    one.expect_layers(5, disks=2)
    if state != "down":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    one.expect_layers(5, disks=2)
    site.host.virsh("start", one.name)  # and it starts on what is left
    one.wait_status("up")


def test_kept_snapshots_keep_their_content(site, vm):
    """Of s1..s4 s2 is deleted: s1, s3 and s4 still show what was there when they were taken."""
    one = vm().layers(*NAMES)
    one.delete("s2")
    for name, volume, count in (("s1", 0, 1), ("s3", 1, 3), ("s4", 2, 4)):
        image = one.chain()[volume]
        for i in range(count):
            assert pattern_is(image, f"{i}M", "1M", i + 1, share=True), f"{name} lost MiB {i}"
        assert pattern_is(image, f"{count}M", "1M", 0, share=True), f"{name} shows the future"


# ---- with a guest that writes

@pytest.mark.parametrize("doomed,options", [
    (["s1"], []), (["s3"], []), (["s1", "s2", "s3"], []), (["s3"], ["--strategy", "copy"]),
    (["s1", "s2", "s3"], ["--strategy", "copy"]),
], ids=["internal", "leaf", "all", "copy-leaf", "copy-all"])
def test_while_the_guest_writes(site, vm, doomed, options):
    one = vm(2, guest=True)
    for disk in ("vda", "vdb"):
        one.guest.start_stream(disk, pace_us=0)
    for name in ("s1", "s2", "s3"):
        one.guest.wait_acked(150)
        one.snap(name)
    one.guest.wait_acked(150)
    job = one.delete(*doomed, options=options)
    report(job, 2)
    if "copy" in options:
        assert strategies(job, 2) == {"copy"}
    one.guest.wait_acked(150)
    assert one.names() == [n for n in ("s1", "s2", "s3") if n not in doomed]
    assert one.power_off_and_verify() > 1000


def test_one_after_the_other_until_none_is_left(site, vm):
    one = vm(guest=True)
    one.guest.start_stream("vda", pace_us=0)
    for i in range(6):
        one.snap(f"s{i}")
        one.guest.wait_acked(50)
    for i in (2, 5, 0, 3, 1, 4):
        one.delete(f"s{i}")
        one.guest.wait_acked(20)
    assert one.names() == [] and len(one.chain()) == 1
    one.power_off_and_verify()


def test_pauses_are_told_and_short(site, vm):
    one = vm(guest=True)
    one.guest.start_stream("vda", pace_us=500)
    one.snap("s1")
    one.guest.wait_acked(100)
    pauses = items(report(one.delete("s1"))[0], "pauses", "pause")
    assert pauses, "a pivot suspends the guest; its pause was to be told"
    assert max(p["milliseconds"] for p in pauses) < 1000
    one.power_off_and_verify()


# ---- one disk only

def test_one_disk_of_a_snapshot(site, vm):
    """The snapshot stays, with the other disk; deleting it then is the rest."""
    one = vm(2).layers("s1", disks=2)
    one.delete("s1", options=["--disk", "vda"])
    assert one.names() == ["s1"]
    assert [len(one.chain(t)) for t in ("vda", "vdb")] == [1, 2]
    one.delete("s1")
    assert one.names() == []
    one.expect_layers(2, disks=2)


# ---- speed limit, progress, cancel

@pytest.fixture
def slow(site, vm):
    """A VM with 48 MiB to commit at 4 MiB/s: time to look at it."""
    def make(disks=1):
        one = vm(disks).snap("s1", "s2")
        for disk in range(disks):
            site.host.write(one.name, disk, "0", "48M", 7)
        one.snap("s3")
        return one
    return make


LIMIT = ["--bandwidth", "4"]


def test_bandwidth_and_progress(site, slow):
    one = slow()
    began = time.monotonic()
    job_id = one.begin_delete("s2", options=LIMIT)
    seen = []

    def done():
        job = one.job(job_id)
        if job["status"] == "started" and job.get("progress"):
            seen.append(job["progress"])
        return job["status"] != "started"

    wait_for(done, 60, "the delete ends", every=0.1)
    job = one.wait_job(job_id)
    took = time.monotonic() - began
    assert took > 3, f"48 MiB at 4 MiB/s took only {took:.1f} s"
    done_bytes = [p["bytes_done"] for p in seen]
    assert done_bytes == sorted(done_bytes), "progress went backwards"
    assert len(set(done_bytes)) > 3, f"no progress was seen: {seen}"
    assert all(0 <= p["percent"] <= 100 for p in seen)
    assert report(job)[0]["bytes_copied"] >= 32 << 20
    assert job["progress"]["percent"] == 100


@pytest.mark.parametrize("name", ["s2", "s3"], ids=["internal", "leaf"])
def test_cancel(site, slow, name):
    one = slow()
    site.host.write(one.name, 0, "0", "48M", 8)  # the leaf as well
    job_id = one.begin_delete(name, options=LIMIT)
    wait_for(lambda: one.job(job_id).get("progress", {}).get("bytes_done", 0) > 0, 20, "it has begun")
    site.cli("job", "cancel", job_id)
    one.wait_job(job_id, "aborted", timeout=20)
    assert name in one.names(), "a cancelled delete deletes nothing"
    assert "locked" not in [s["snapshot_status"] for s in one.snapshots().values()]
    assert pattern_is(one.chain()[-1], "0", "48M", 8, share=True)
    assert len(one.chain()) == 4
    one.delete(name)  # and again, to the end
    assert pattern_is(one.chain()[-1], "0", "48M", 8, share=True)
    assert set(one.files()) == set(one.chain())


def test_two_disks_at_the_same_time(site, slow):
    one = slow(2)
    began = time.monotonic()
    job = one.delete("s2", options=LIMIT)
    both = time.monotonic() - began
    times = [disk["seconds"] for disk in report(job, 2)]
    assert both < sum(times) * 0.8, f"{both:.1f} s in all, {times} each: one waited for the other"


def test_wait_can_be_given_up(site, slow):
    """Exit 5, and the job goes on."""
    one = slow()
    gave_up = site.cli("snapshot", "delete", one.name, "s2", "-y", *LIMIT, "--timeout", "1", code=5)
    job_id = site.rest.json("GET", "/jobs")["job"][0]["id"]
    assert job_id in gave_up.err
    site.cli("job", "watch", job_id)
    assert one.names() == ["s1", "s3"]


def test_vm_is_locked_meanwhile(site, slow):
    """A second operation is refused with exit 4; it says what holds the VM and what frees it."""
    one = slow()
    job_id = one.begin_delete("s2", options=LIMIT)
    assert one.snapshots()["s2"]["snapshot_status"] == "locked"
    for words in (["snapshot", "create", one.name, "s9"], ["snapshot", "delete", one.name, "s1", "-y"]):
        refused = site.cli(*words, code=4)
        assert job_id[:8] in refused.err and "job cancel" in refused.err, refused
    one.wait_job(job_id)
    one.snap("s9")


def test_vm_may_stop_meanwhile(site, slow):
    """The merge is done all the same (on the stopped VM), or says why not; no data is lost."""
    one = slow()
    job_id = one.begin_delete("s2", options=LIMIT)
    wait_for(lambda: one.job(job_id).get("progress", {}).get("bytes_done", 0) > 0, 20, "it has begun")
    site.host.virsh("destroy", one.name)
    wait_for(lambda: one.job(job_id)["status"] != "started", 60, "the job ends")
    if one.job(job_id)["status"] == "failed":
        assert one.job(job_id).get("error"), "a failure without a reason"
        assert one.names() == ["s1", "s2", "s3"]
        one.wait_status("down")
        one.delete("s2")
    assert one.names() == ["s1", "s3"]
    assert pattern_is(one.chain()[-1], "0", "48M", 7)
    assert set(one.files()) == set(one.chain())
