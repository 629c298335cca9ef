# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans: what a delete would do is told before, changes nothing, and comes true."""


import pytest

from lm import Disk, Site, items, qemu_img

NAMES = ["s1", "s2", "s3"]
MIB = 1 << 20
DATA = 16  # MiB that the layers of a disk hold, each beside the other
COSTS = {"bytes_read", "bytes_written", "space_peak", "space_freed", "seconds", "pauses", "pause_ms"}


def filled(one, disks=1, data=DATA):
    """Snapshots s1 to s3; four layers that hold so many MiB each, at places of their own."""
    for i, name in enumerate([*NAMES, None]):
        for disk in range(disks):
            one.site.host.write(one.name, disk, f"{i * data}M", f"{data}M", i + 1)
        if name:
            one.snap(name)
    return one


def make(vm, disks=1, data=DATA, **options):
    return filled(vm([Disk(f"{data * 5}M") for _ in range(disks)], **options), disks, data)


def plan(one, *names, options=(), code=0):
    return one.site.cli("plan", one.name, *names, "--json", *options, code=code).json


def runs(document):
    return items(document, "runs", "run")


def near(told, wanted, what):
    assert abs(told - wanted) <= max(wanted * 0.01, 128 << 10), f"{what}: {told} is not {wanted} within 1 %"


def stop(one):
    one.site.host.virsh("destroy", one.name)
    one.wait_status("down")


def used(one):
    return sum((one.directory / path).stat().st_blocks * 512 for path in one.files())


# ---- what is shown


def test_table_json_and_rest_agree(site, vm):
    one = make(vm, 2)
    told = plan(one, "s1", "s3")
    assert told["possible"] and told["exact"] and told["wanted"] == "auto" and told["verify"] == "extents"
    assert set(told["totals"]) == COSTS
    assert [run["disk"]["name"] for run in runs(told)] == ["vda", "vda", "vdb", "vdb"] or len(runs(told)) == 2
    for run in runs(told):
        assert COSTS <= set(run) and run["exact"], run
        chain = one.chain(run["disk"]["name"])
        paths = [volume["path"] for volume in items(run, "volumes", "volume")]
        assert paths == chain[chain.index(paths[0]):chain.index(paths[-1]) + 1]
        options = items(run, "options", "option")
        assert options[0]["strategy"] == run["strategy"] and options[0]["possible"], options
        assert all(option["possible"] or option["why"] for option in options), options
    for key in ("bytes_written", "space_freed", "pauses"):
        assert told["totals"][key] == sum(run[key] for run in runs(told)), key

    ids = [{"id": one.snapshots()[name]["id"]} for name in ("s1", "s3")]
    body = {"snapshots": {"snapshot": ids}, "dry_run": True}
    rest = site.rest.json("POST", f"/vms/{one.id}/removesnapshots", body)
    assert {**rest, "totals": None, "runs": None} == {**told, "totals": None, "runs": None}
    assert [run["strategy"] for run in runs(rest)] == [run["strategy"] for run in runs(told)]
    one_id = ids[0]["id"]
    single = site.rest.json("DELETE", f"/vms/{one.id}/snapshots/{one_id}?dry_run=true&disk=vdb")
    assert {run["disk"]["name"] for run in runs(single)} == {"vdb"}

    text = site.cli("plan", one.name, "s1", "s3").out
    assert all(word in text for word in ("DISK", "STRATEGY", "vda", "vdb", "total", " ← ")) or " <- " in text, text
    assert "Not possible" not in text
    assert len(text.splitlines()) == 1 + len(runs(told)) + 1, text
    assert site.cli("snapshot", "delete", one.name, "s1", "s3", "--dry-run").out.splitlines()[0] == \
        text.splitlines()[0]
    everything = site.cli("plan", one.name, "s1", "--all-options").out
    assert all(word in everything for word in ("commit", "graft", "copy", "chosen")), everything


def test_xml(site, vm):
    one = make(vm)
    body = (f'<action><snapshots><snapshot id="{one.snapshots()["s1"]["id"]}"/></snapshots>'
            "<dry_run>true</dry_run></action>")
    status, _, text = site.rest("POST", f"/vms/{one.id}/removesnapshots", body, accept="application/xml",
                                content_type="application/xml")
    assert status == 200 and "<plan>" in text, text
    for part in ("<possible>true</possible>", "<runs><run><disk ", "<volumes><volume id=", "<options><option>"):
        assert part in text, text


def test_nothing_is_changed(site, vm):
    one = make(vm, 2)

    def all_of_it():
        manifests = {str(p): p.read_bytes() for p in (one.directory / ".livemerge").rglob("*.json")}
        return (one.snapshots(), one.chain("vda"), one.chain("vdb"), manifests,
                {path: (one.directory / path).stat().st_mtime_ns for path in one.files()[:-2]},
                [event["id"] for event in items(site.rest.json("GET", "/events"), "event")],
                [job["id"] for job in items(site.rest.json("GET", "/jobs"), "job")])

    before = all_of_it()
    assert before[3], "a manifest was expected"
    for names in (["s1"], ["s3"], ["s1", "s3"], NAMES):
        for options in ([], ["--strategy", "copy"], ["--verify", "full"], ["--disk", "vdb"], ["--all-options"]):
            assert plan(one, *names, options=options, code=None)["runs"]
        site.cli("snapshot", "delete", one.name, *names, "-n")
    plan(one, "s1", options=["--strategy", "cold-commit"], code=1)
    assert all_of_it() == before
    one.delete(*NAMES)  # and nothing is held


# ---- what comes true


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("doomed", [["s1"], ["s3"], ["s1", "s3"], NAMES], ids="+".join)
def test_it_comes_true(vm, doomed, state):
    one = make(vm, 2)
    if state == "down":
        stop(one)
    told = plan(one, *doomed)
    before = used(one)
    job = one.delete(*doomed)
    for disk in items(job, "disks", "disk"):
        planned, done = disk["plan"], disk["outcome"]
        mine = [run for run in runs(told) if run["disk"]["id"] == disk["id"]]
        for key in ("bytes_written", "pauses"):
            assert planned[key] == sum(run[key] for run in mine), (key, disk)
        assert done["strategy"] == planned["strategy"], disk
        # of a leaf that the VM writes on, nothing but QEMU's own word can be had
        by_job = {"job"} if "commit-active" in done["strategy"] else set()
        assert set(done["verified"].split(", ")) <= {"extents"} | by_job and done["seconds"] >= 0, disk
        near(done["bytes_written"], planned["bytes_written"], f"written to {disk['name']}")
        assert done["pauses"] == planned["pauses"], disk
    freed = before - used(one)
    assert abs(freed - told["totals"]["space_freed"]) < 2 * MIB, (freed, told["totals"])


def test_a_job_shows_both(site, vm):
    one = make(vm)
    done = site.cli("snapshot", "delete", one.name, "s1", "-y")
    job = items(site.rest.json("GET", "/jobs"), "job")[0]
    shown = site.cli("job", "show", job["id"]).out
    for text in (done.out, shown):
        assert "planned" in text and "done" in text and "CHECKED" in text, text


# ---- what is in the way


def test_shared_base(site, vm):
    """A file that nobody told us of stands on the base: commits are out, and the plan says why."""
    one = make(vm)
    base, clone = one.chain()[0], one.directory / "clone.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", clone)
    told = plan(one, "s1", options=["--strategy", "commit"], code=1)
    assert not told["possible"] and "clone.qcow2" in told["why"] and told["code"] == "refused", told
    shown = site.cli("plan", one.name, "s1", "--strategy", "commit", code=1)
    assert "Not possible: " in shown.out and "clone.qcow2" in shown.out, shown
    refused = site.cli("snapshot", "delete", one.name, "s1", "-y", "--strategy", "commit", code=4)
    assert "clone.qcow2" in refused.err, refused
    free = plan(one, "s1", code=None)
    if free["possible"]:  # by new volumes, which leave the base alone
        assert {run["strategy"] for run in runs(free)} <= {"graft", "copy"}, free
        assert base in [path for run in runs(free) for path in items(run, "kept", "path")], free
    clone.unlink()
    assert plan(one, "s1", options=["--strategy", "commit"])["possible"]


@pytest.mark.parametrize("strategy,state,doomed", [
    ("cold-commit", "up", "s1"), ("commit-active", "down", "s3"), ("commit-active", "up", "s1"),
])
def test_forced_strategies_that_do_not_fit(site, vm, strategy, state, doomed):
    one = make(vm)
    if state == "down":
        stop(one)
    told = plan(one, doomed, options=["--strategy", strategy], code=1)
    assert not told["possible"] and "vda" in told["why"], told
    refused = site.cli("snapshot", "delete", one.name, doomed, "-y", "--strategy", strategy, code=4)
    assert told["why"] in refused.err, (told, refused)
    assert one.names() == NAMES
    assert plan(one, doomed)["possible"]


def test_what_is_no_plan(site, vm):
    one = make(vm)
    for words, code, part in ((["nosuch"], 3, "nosuch"), (["s1", "--disk", "vdz"], 3, "vdz"),
                              (["s1", "--strategy", "magic"], 2, "magic"),
                              (["s1", "--verify", "maybe"], 2, "maybe")):
        refused = site.cli("plan", one.name, *words, code=code)
        assert part in refused.err and refused.out == "", refused
    for query in ("dry_run=maybe", "verify=maybe"):
        status, _, text = site.rest("DELETE", f"/vms/{one.id}/snapshots/{one.snapshots()['s1']['id']}?{query}")
        assert status == 400 and "'maybe'" in text, text
    site.host.virsh("managedsave", one.name)
    one.wait_status("suspended")
    assert "suspended" in site.cli("plan", one.name, "s1", code=4).err
    assert one.names() == NAMES


# ---- storage that shares blocks


@pytest.fixture(scope="module")
def sharing():
    """An installation whose volumes lie on an XFS with shared blocks."""
    with Site("xfs") as whole:
        yield whole


@pytest.mark.parametrize("state", ["up", "down"])
def test_auto_takes_graft(sharing, state):  # pylint: disable=redefined-outer-name
    data = 64
    one = sharing.vm(f"graft-{state}", [Disk(f"{data * 5}M")])
    try:
        filled(one, data=data)
        if state == "down":
            stop(one)
        told = plan(one, "s1", "s2")
        run, = runs(told)
        assert told["possible"] and told["exact"] and run["strategy"] == "graft", told
        assert run["bytes_written"] < data * MIB / 8 or state == "up", run  # the leaf may be copied
        others = {o["strategy"]: o for o in items(run, "options", "option")}
        commit = others["commit" if state == "up" else "cold-commit"]
        assert commit["possible"] and commit["seconds"] > run["seconds"], others
        disk, = items(one.delete("s1", "s2"), "disks", "disk")
        assert disk["outcome"]["strategy"] == "graft" and disk["outcome"]["bytes_shared"] >= 2 * data * MIB, disk
        near(disk["outcome"]["bytes_written"], disk["plan"]["bytes_written"], "written")
        assert one.names() == ["s3"] and len(one.chain()) == 2
    finally:
        one.remove()
