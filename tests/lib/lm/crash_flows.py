# SPDX-License-Identifier: LGPL-2.1-or-later
"""The flows that are crashed: what is asked for, on which VM, and what it leaves when it ends well."""

import contextlib
import os
import shutil
import signal
import sqlite3
import time
import uuid
from dataclasses import dataclass, field
from typing import Callable, Optional

from .crash import VICTIMS, is_stopped
from .host import flip_data
from .manifest import edited_manifest
from .programs import items
from .util import run, wait_for

COLD_VICTIMS = ("agent", "manager", "libvirtd", "all")


# ---- what the user asks for: words of the command line

def create(*options):
    def words(subject):
        return ("snapshot", "create", subject.name, f"s{subject.made + 1}", "--no-wait", *options)
    return words


def delete(strategy, *which, options=()):
    """which: indexes of snapshots, oldest first; none: all."""
    def words(subject):
        names = list(subject.marks)
        doomed = [names[i] for i in which] or names
        return ("snapshot", "delete", subject.name, *doomed, "-y", "--no-wait", "--strategy", strategy, *options)
    words.which = which
    return words


def rename(subject):
    return ("snapshot", "rename", subject.name, list(subject.marks)[0], f"r{subject.made}-{len(subject.log)}")


def fix(subject):
    return ("doctor", subject.name, "--fix", "-y", "--no-wait")


def undo(subject):
    return ("doctor", subject.name, "--undo", subject.fixed_by, "--no-wait")


def preview(subject):
    return ("snapshot", "preview", subject.name, list(subject.marks)[0], "--no-wait")


def end_preview(verb):
    def words(subject):
        return ("snapshot", verb, subject.name, "-y", "--no-wait")
    return words


def restore(subject):
    return ("snapshot", "restore", subject.name, list(subject.marks)[0], "-y", "--no-wait")


def clone(subject):
    return ("vm", "clone", subject.name, twin(subject), "--snapshot", list(subject.marks)[0], "--no-wait")


def remove_twin(subject):
    return ("vm", "remove", twin(subject), "-y", "--no-wait")


def import_storage(subject):
    return ("storage", "import", str(subject.vm.directory), "--no-wait")


import_storage.which = (-1,)  # which snapshot's delete it ends, if one was under way


def power(verb):
    def words(subject):
        return ("vm", verb, subject.name, "--no-wait")
    return words


def twin(subject):
    return f"{subject.name}-twin"


# ---- what is so when it has ended; before, nothing has changed

def created(crash, done):
    if done:
        crash.subject.made += 1
        crash.subject.marks[f"s{crash.subject.made}"] = (crash.first, len(crash.subject.log))


def deleted(crash, done):
    names = list(crash.subject.marks)
    for i in crash.flow.words.which or range(len(names)):
        if done:
            del crash.subject.marks[names[i]]


def renamed(crash, done):
    marks = crash.subject.marks
    if done:
        new = crash.client.args[-1]
        crash.subject.marks = {new if i == 0 else name: mark for i, (name, mark) in enumerate(marks.items())}


def mended(crash, done):
    assert done, f"the doctor gave up: {crash.client.communicate()}"


def undone(diagnosis, mended_by):
    """What was wrong is wrong again, unless one of those was killed (None: nobody) after whose return the agent may mend it."""
    def ended(crash, done):
        assert done, f"the doctor gave up: {crash.client.communicate()}"
        found = items(crash.site.cli("doctor", crash.subject.name, "--json", code=None).json, "findings", "finding")
        may_be_mended = (crash.case and crash.case.victim) in mended_by
        assert [f["class"] for f in found] == [diagnosis] or (may_be_mended and not found), found
        fixed = crash.site.cli("doctor", crash.subject.name, "--fix", "-y", "--class", diagnosis, code=None)
        assert fixed.code == 0, fixed
        assert not items(crash.site.cli("doctor", crash.subject.name, "--json").json, "findings", "finding"), fixed
    return ended


def previewed(crash, done):
    """It can be undone, and then nothing has been."""
    if done:
        crash.site.cli("snapshot", "undo", crash.subject.name, "-y")


def preview_ended(verb):
    def ended(crash, done):
        if not done:  # it was not accepted
            crash.site.cli("snapshot", verb, crash.subject.name, "-y")
    return ended


def twin_is_gone(crash):
    """Nothing is left of it: no definition, no manifest, and (check_files()) no volume."""
    assert twin(crash.subject) not in crash.site.host.virsh("list", "--all", "--name").split()
    for manifest in (crash.subject.vm.directory / ".livemerge" / "vms").glob("*.json"):
        assert twin(crash.subject) not in manifest.read_text(encoding="utf-8"), manifest


def cloned(crash, done):
    """It holds what the snapshot does; and goes away again."""
    subject = crash.subject
    if done:
        leaves = [disk.find("source").get("file") for disk in crash.site.host.xml(twin(subject)).findall("devices/disk")]
        for leaf, chain in zip(leaves, subject.chains()):
            run("qemu-img", "compare", "-q", "-U", leaf, chain[0])
        crash.site.cli("vm", "remove", twin(subject), "-y")
    twin_is_gone(crash)


def twin_removed(crash, done):
    if not done:  # it was not accepted
        crash.site.cli("vm", "remove", twin(crash.subject), "-y")
    twin_is_gone(crash)


def cut(subject):
    """What came after the first snapshot is gone."""
    name, (instant, _) = next(iter(subject.marks.items()))
    subject.marks = {name: (instant, instant)}
    del subject.log.writes[instant:]


def restored(crash, done):
    if done:
        cut(crash.subject)


def started(crash, done):
    """It runs, once, and keeps what it writes. Then it is off again, as the flow found it."""
    subject, case = crash.subject, crash.case
    if done and (case is None or case.victim != "all" or case.point.startswith("agent.power")):  # else it had run
        wait_for(subject.qmp.runs, 20, f"VM {subject.name} runs")
    if crash.site.host.state(subject.name) != "shut off":
        assert len(subject.processes()) == 1, f"QEMUs of VM {subject.name}: {subject.processes()}"
        subject.runs = True
        subject.write_some()
        subject.runs = False
        crash.site.host.virsh("destroy", subject.name)
    subject.vm.wait_status("down")


def stopped(crash, done):
    """It is off, and stays so until somebody starts it."""
    assert not done or crash.site.host.state(crash.subject.name) == "shut off"
    crash.subject.power_on()
    crash.subject.vm.wait_status("up")


def suspended(crash, done):
    """It goes on where it was."""
    if done:
        crash.subject.vm.wait_status("suspended")
        assert not crash.subject.processes()
        crash.site.cli("vm", "start", crash.subject.name)
    stopped(crash, False)


def rebooted(crash, done):
    """In the same QEMU, if nobody killed that."""
    if done and (crash.case is None or crash.case.victim != "all"):
        assert crash.subject.processes() == crash.ran, f"{crash.ran} ran"
    stopped(crash, False)


def guest_obeys(crash):
    """It powers itself off when it is asked to, be it that the question came twice."""
    wait_for(lambda: crash.jobs() or crash.client.poll() is not None, 20, "the job is there, or was refused")
    if not crash.jobs():
        return
    wait_for(lambda: crash.jobs()[0]["status"] != "started" or crash.jobs()[0].get("step") == "off", 60,
             f"VM {crash.subject.name} has been asked to shut down")
    if crash.subject.qmp.runs():
        crash.subject.qmp("quit")


def import_again(crash, done):
    if not done:  # the manager died before it had written it down
        crash.site.cli("storage", "import", crash.subject.vm.directory)


def adopted_by_import(crash, done):
    """With the manifest went the names; nothing else."""
    import_again(crash, done)
    marks = crash.subject.marks
    crash.subject.marks = {f"recovered {i[:8]}": mark for i, mark in zip(crash.subject.lost_ids, marks.values())}


def ended_by_import(crash, done):
    import_again(crash, done)
    deleted(crash, True)


def cancelled(crash, done):
    """What was cancelled in time has left everything as it was, but restore points that had been begun upon."""
    if done:
        deleted(crash, done)
    elif crash.flow.name == "cancel":
        crash.subject.unusable.add(list(crash.subject.marks)[-1])


# ---- what happens meanwhile

def cancel(crash):
    job, = crash.jobs(30)
    crash.site.cli("job", "cancel", job["id"], "--no-wait", code=None)  # refused, if it is past that


def spoil_what_is_built(crash):
    """The agent stands before it compares; a new volume gets other data."""
    agent = crash.site.agent
    wait_for(lambda: is_stopped(agent), 60, "the agent has stopped before its check")
    chain = set(crash.subject.chains()[0])
    new = [path for path in crash.subject.vm.files() if path not in chain]
    flip_data(max(new, key=lambda path: os.stat(path).st_blocks), 2)
    os.kill(agent.pid, signal.SIGCONT)


def ballast(crash):
    return crash.site.work / "v" / "ballast"


def fill_storage(crash):
    """Somebody takes all but half of the reserve while data move. For the last point: and gives it back."""
    st = os.statvfs(crash.site.work / "v")
    job = wait_for(crash.jobs, 20, "the job is there")[0]["id"]
    wait_for(lambda: crash.subject.vm.job(job).get("progress", {}).get("bytes_done"), 30, "data move")
    run("fallocate", "-l", (st.f_bavail - st.f_blocks // 40) * st.f_frsize, ballast(crash))
    if crash.case is None or crash.case.point == "agent.space.before-release":
        wait_for(lambda: "attention" in crash.subject.vm.job(job), 30, "the job has paused")
        give_back(crash)


def give_back(crash):
    ballast(crash).unlink(missing_ok=True)


# ---- what spoils a VM

def redefine(subject, change):
    """Somebody defined the VM anew."""
    file = subject.site.work / f"{subject.name}.xml"
    file.write_text(change(subject.site.host.virsh("dumpxml", subject.name, "--inactive")), encoding="utf-8")
    subject.site.host.virsh("define", str(file))


def old_leaf_is_defined(subject):
    base, *_, leaf = subject.chains()[0]
    redefine(subject, lambda xml: xml.replace(leaf, base))


def fixed_already(subject):
    old_leaf_is_defined(subject)
    jobs = subject.site.cli("doctor", subject.name, "--fix", "-y", "--json").json
    subject.fixed_by = items(jobs, "job")[0]["id"]


def record_is_mended(subject):
    """Another agent began something, and nobody knows it any more: the agent mends that as it starts."""
    undo = subject.vm.directory / ".livemerge" / "undo"
    before = set(undo.glob("*"))
    with edited_manifest(subject.site, subject.vm) as vm:
        vm["operations"] = [{"id": str(uuid.uuid4()), "kind": "snapshot-create"}]
    made = wait_for(lambda: set(undo.glob("*")) - before, 20, "the agent has mended the record")
    subject.fixed_by = made.pop().name
    subject.vm.wait_status("up")


def previews(subject):
    """And writes what nobody will miss."""
    subject.site.cli("snapshot", "preview", subject.name, list(subject.marks)[0])
    run("qemu-io", "-f", "qcow2", "-c", "write -P 200 0 64k", subject.leaves()["vda"])


def previews_and_goes_on(subject):
    """What is written from now on is to stay."""
    subject.site.cli("snapshot", "preview", subject.name, list(subject.marks)[0])
    cut(subject)
    subject.write_some()


def manifest_is_lost(subject):
    site = subject.site
    subject.lost_ids = [snapshot["id"] for snapshot in subject.vm.snapshots().values()]
    site.agent.stop()
    shutil.rmtree(subject.vm.directory / ".livemerge")
    site.agent.start()
    site.wait_ready()


def manager_is_lost(subject):
    """In the middle of a delete: merged, the old volumes are still there. A new one begins with nothing."""
    site = subject.site
    site.manager.restart(faults="flow.before-call=die@2")
    site.wait_ready()
    subject.vm.wait_status("up")
    client = site.cli.spawn(*delete("auto", *import_storage.which)(subject))
    site.manager.wait_dead(30)
    client.communicate()
    state = site.manager.directory / "state"
    with contextlib.closing(sqlite3.connect(state / "manager.db")) as db:
        epoch = int(db.execute("SELECT value FROM note WHERE name = 'epoch'").fetchone()[0])
    for file in state.glob("manager.db*"):
        file.unlink()
    # one that was begun more often than once a second here would be obeyed only on demand (--take-over)
    wait_for(lambda: time.time() > epoch + 1, 60, "the clock has passed the lost manager's epoch")
    site.manager.start()
    site.wait_ready()


def has_a_twin(subject):
    subject.site.cli("vm", "clone", subject.name, twin(subject), "--snapshot", list(subject.marks)[0])


def virsh_takes_a_snapshot(subject):
    """The doctor is to adopt it under its name."""
    subject.made += 1
    subject.site.host.virsh("snapshot-create-as", subject.name, f"s{subject.made}", "--disk-only", "--no-metadata")


def adopted(crash, done):
    mended(crash, done)
    crash.subject.marks[f"s{crash.subject.made}"] = (crash.first, crash.first)


@dataclass(frozen=True)
class Flow:
    """words(subject): what is asked for; ended(crash, done): what then is so."""
    name: str
    words: Callable
    ended: Callable
    layers: int = 2          # snapshots that it needs
    disks: int = 1
    mib: int = 8
    runs: bool = True
    guest: bool = False      # one boots, and writes all the while
    leaf_mib: int = 0        # so much in the leaf: graft seals one with more than 4 MiB
    options: tuple = ()      # of its snapshots
    may_fail: bool = False
    often: bool = False      # every victim at every point; else one victim a point, in turn
    own: tuple = ()          # prefixes of its own points: every victim there, all the same
    keeps: str = "undo"      # what may be left in .livemerge, to be looked at by a person
    ignored: tuple = ()      # what the doctor finds all the same
    faults: str = ""         # further ones
    spoil: Optional[Callable] = None      # (subject), before it begins
    meddle: Optional[Callable] = None     # (crash), when it has begun
    at_point: Optional[Callable] = None   # (crash), while it stands there
    recovered: Optional[Callable] = None  # (crash), when all run again
    victims: tuple = field(default=VICTIMS)
    saves_memory: bool = False
    power: bool = False      # it starts or stops the VM: nobody else does until it has ended
    only: str = ""           # prefixes of the points that are meant, if not all

    def prepare(self, subject):
        """The subject as the flow wants it."""
        subject.layers(self.layers, *self.options)
        if self.leaf_mib:
            subject.write(0, 0, self.leaf_mib << 20)
        if self.spoil:
            self.spoil(subject)


FLOWS = [
    Flow("create", create(), created, layers=1, disks=2, may_fail=True, often=True),
    Flow("create-memory", create("--memory"), created, layers=0, may_fail=True, saves_memory=True),
    Flow("create-off", create(), created, layers=1, disks=2, runs=False, victims=COLD_VICTIMS),
    Flow("commit", delete("commit", 0), deleted, disks=2, often=True),
    Flow("commit-active", delete("commit-active", -1), deleted, disks=2, often=True),
    Flow("all", delete("auto"), deleted, disks=2),
    Flow("memory", delete("auto", 0), deleted, layers=1, options=("--memory",)),
    Flow("copy", delete("copy", -1), deleted,
         own=("qcow2-build-copy", "qcow2-build-create", "qcow2-build-sync-folder")),
    Flow("graft", delete("graft", -1), deleted),
    Flow("graft-sealed", delete("graft", 0), deleted, mib=8, leaf_mib=6, often=True),
    Flow("cold-commit", delete("cold-commit", -1), deleted, runs=False, victims=(*COLD_VICTIMS, "daemon"), often=True),
    Flow("cold-graft", delete("graft", -1), deleted, runs=False, victims=COLD_VICTIMS),
    Flow("cold-copy", delete("copy", 0), deleted, runs=False, victims=COLD_VICTIMS),
    Flow("preview", preview, previewed, disks=2, runs=False, victims=COLD_VICTIMS, often=True),
    Flow("preview-undo", end_preview("undo"), preview_ended("undo"), spoil=previews, runs=False,
         victims=COLD_VICTIMS, own=("agent.branch",)),
    Flow("preview-commit", end_preview("commit"), preview_ended("commit"), spoil=previews_and_goes_on, runs=False,
         victims=COLD_VICTIMS, own=("agent.branch",)),
    Flow("restore", restore, restored, layers=3, runs=False, victims=COLD_VICTIMS, own=("agent.branch",)),
    Flow("clone", clone, cloned, disks=2, often=True),
    Flow("cancel-clone", clone, cloned, may_fail=True, at_point=cancel, only="agent.clone"),
    Flow("remove", remove_twin, twin_removed, disks=2, spoil=has_a_twin, only="agent.remove agent.delete volume.",
         often=True),
    Flow("start", power("start"), started, runs=False, power=True, victims=COLD_VICTIMS, own=("agent.power",)),
    Flow("stop", power("stop"), stopped, power=True, victims=COLD_VICTIMS, own=("agent.power",)),
    Flow("shutdown", power("shutdown"), stopped, recovered=guest_obeys, power=True, victims=COLD_VICTIMS,
         own=("agent.power",), only="agent.power"),
    Flow("suspend", power("suspend"), suspended, may_fail=True, saves_memory=True, power=True, victims=COLD_VICTIMS,
         own=("agent.power",)),
    Flow("reboot", power("reboot"), rebooted, power=True, victims=COLD_VICTIMS, own=("agent.power",),
         only="agent.power"),
    Flow("reset", power("reset"), rebooted, power=True, victims=COLD_VICTIMS, own=("agent.power",),
         only="agent.power"),
    Flow("rename", rename, renamed, layers=2),
    Flow("doctor", fix, mended, spoil=old_leaf_is_defined, own=("agent.doctor",)),
    # no VM is started from an old leaf; an agent that looks at a VM that runs puts its records right, and it looks when
    # it likes, with nobody killed (None), too
    Flow("undo", undo, undone("stale-definition", ("qemu", "all")), spoil=fixed_already),
    Flow("undo-record", undo, undone("leftover-record", (None, *VICTIMS)), spoil=record_is_mended, only="agent.doctor",
         own=("agent.doctor",)),
    Flow("cancel", delete("commit-active", -1), cancelled, may_fail=True, leaf_mib=6,
         at_point=cancel, only="agent.merge agent.pivot manifest."),
    Flow("cancel-graft", delete("graft", -1), cancelled, may_fail=True, leaf_mib=6, at_point=cancel,
         only="agent.merge agent.graft agent.pivot qcow2-build-share"),
    Flow("differs", delete("graft", -1, options=("--verify", "full")), deleted, may_fail=True, leaf_mib=6,
         own=("agent.verify", "agent.graft"), faults="agent.verify.before=stop@1", meddle=spoil_what_is_built,
         keeps="undo|trash/keep",
         only="agent.verify.differs agent.verify.set-aside agent.graft.before-unseal agent.graft.before-remove-seal"),
    Flow("hold", delete("commit-active", -1, options=("--bandwidth", "10")), deleted, mib=64, leaf_mib=48,
         meddle=fill_storage, recovered=give_back, only="agent.space", own=("agent.space",)),
    Flow("adopt", fix, adopted, layers=1, spoil=virsh_takes_a_snapshot, ignored=("absolute-path",)),
    Flow("import-adopt", import_storage, adopted_by_import, spoil=manifest_is_lost, own=("agent.import",)),
    Flow("import-forget", import_storage, ended_by_import, spoil=manager_is_lost, own=("agent.import",)),
    Flow("guest-create", create(), created, layers=1, guest=True, mib=16, may_fail=True, only="agent.snapshot"),
    Flow("guest-commit", delete("commit", 0), deleted, guest=True, mib=16, only="agent.merge"),
    Flow("guest-commit-active", delete("commit-active", -1), deleted, guest=True, mib=16,
         only="agent.merge.after-start agent.pivot"),
    Flow("guest-graft", delete("graft", -1), deleted, guest=True, mib=16,
         only="agent.graft agent.merge.after-start agent.pivot"),
]
