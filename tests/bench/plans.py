# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a plan takes, and how right plans were."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from chains import Layer, qemu_io
from latency import snapshot_ids
from lm import Disk, Rest, items
from places import MIB, drop_caches
from rig import Figure, median, say

DISKS = 8
VOLUMES = 40
ROUNDS = 15
SMALL = 64 * MIB    # jobs that moved less say nothing about rates
LONG = 2            # s


# ---- how long it takes

def many_volumes(rig):
    """A running VM of 8 disks; each volume has 4 MiB of data in four places of its own."""
    vm = rig.site.vm("plan", [Disk("20G") for _ in range(DISKS)], directory=rig.places["xfs"].domain / "plan",
                     start=False)
    for number in range(1, VOLUMES):
        vm.snap(f"s{number}")
    for disk in range(DISKS):
        for number, volume in enumerate(vm.chain(f"vd{chr(ord('a') + disk)}")):
            places = [((number * 37 + part * 5000) % 20000, 1, number + 1) for part in range(4)]
            qemu_io(volume, "qcow2", Layer(places).script())
    rig.site.host.virsh("start", vm.name)
    vm.wait_status("up")
    return vm


def epoch_of(manager):
    """The agent listens to who knows it."""
    with closing(sqlite3.connect(f"file:{manager.directory}/state/manager.db?mode=ro", uri=True)) as store:
        return store.execute("SELECT value FROM note WHERE name = 'epoch'").fetchone()[0]


def processor_ms(daemons):
    """Of each, so far."""
    times = []
    for daemon in daemons:
        fields = Path(f"/proc/{daemon.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        times.append((int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK"))
    return times


def milliseconds(work, *daemons):
    work()  # warm
    times, used = [], processor_ms(daemons)
    for _ in range(ROUNDS):
        began = time.monotonic()
        work()
        times.append((time.monotonic() - began) * 1000)
    used = [f"{d.name} {(after - before) / ROUNDS:.0f} ms"
            for d, before, after in zip(daemons, used, processor_ms(daemons))]
    say(f"    {', '.join(f'{t:.1f}' for t in sorted(times))} ms; of a processor: {', '.join(used)}")
    return median(times)


def planning(rig):
    vm = many_volumes(rig)
    ids = list(snapshot_ids(rig.site, vm).values())
    agent = Rest(rig.site.agent.socket)
    epoch = {"Livemerge-Epoch": str(epoch_of(rig.site.manager))}
    figures = []
    for what, chosen in (("all snapshots", ids), ("one snapshot", ids[VOLUMES // 2:VOLUMES // 2 + 1])):
        body = {"snapshots": {"snapshot": [{"id": i} for i in chosen]}, "dry_run": True}
        api = milliseconds(lambda body=body: rig.site.rest.json("POST", f"/vms/{vm.id}/removesnapshots", body),
                           rig.site.agent, rig.site.manager)
        alone = milliseconds(lambda chosen=chosen: agent.json("POST", f"//v1/vms/{vm.id}/plan", {"snapshots": chosen},
                                                              headers=epoch), rig.site.agent)
        name = f"plan, {DISKS} disks of {VOLUMES} volumes, {what}, warm"
        figures += [Figure(f"{name}: API", api, "ms", "< 50 ms", api < 50),
                    Figure(f"{name}: agent", alone, "ms", "< 50 ms", alone < 50)]
    drop_caches()
    began = time.monotonic()
    agent.json("POST", f"//v1/vms/{vm.id}/plan", {"snapshots": ids}, headers=epoch)
    say(f"    cold: {(time.monotonic() - began) * 1000:.0f} ms")
    rig.drop(vm.name)
    return figures


# ---- how right they were

class Estimate:
    """What was planned for a disk of a job, and what came of it."""

    def __init__(self, where, what, disk, device):
        plan, outcome = disk["plan"], disk["outcome"]
        self.where, self.what, self.strategy, self.device = where, what, outcome.get("strategy", "?"), device
        self.bytes, self.moved = plan.get("bytes_written", 0), outcome.get("bytes_written", 0)
        self.seconds, self.taken = plan.get("seconds", 0), outcome.get("seconds", 0)
        self.first = False  # the first of its kind on this storage: its rate was a guess

    @property
    def bytes_off(self):
        """percent"""
        return abs(self.bytes - self.moved) / max(self.moved, 1) * 100

    @property
    def seconds_off(self):
        """factor"""
        small, large = sorted((max(self.seconds, 1e-3), max(self.taken, 1e-3)))
        return large / small

    def line(self):
        device = f"{self.device / MIB:>9.1f}" if self.device else f"{'':>9}"
        return (f"  {self.where:<6} {self.what[:44]:<44} {self.strategy:<14} {self.bytes / MIB:>9.1f} "
                f"{self.moved / MIB:>9.1f} {self.bytes_off:>6.2f} % {device}  {self.seconds:>7.2f} {self.taken:>7.2f} "
                f"{self.seconds_off:>6.2f} x{' (a first: the rate was a guess)' if self.first else ''}")


def collect(jobs):
    """In the order of the jobs. The first of its kind on a storage domain has nobody to learn from."""
    known, found = set(), []
    for where, what, job, device in jobs:
        disks = [disk for disk in items(job, "disks", "disk") if "plan" in disk and "outcome" in disk]
        of_job = [Estimate(where, what, disk, device if len(disks) == 1 else None) for disk in disks]
        for estimate in of_job:
            estimate.first = (where, estimate.strategy) not in known
        known |= {(where, estimate.strategy) for estimate in of_job if estimate.taken >= 0.1}
        found += of_job
    return found


def estimates(rig):
    """Over all deletes of this run, so it comes last."""
    found = collect(rig.jobs)
    moving = [e for e in found if e.moved >= SMALL]
    long = [e for e in found if e.taken > LONG and not e.first]
    if not moving and not long:
        return []
    say(f"\n  plan and outcome; disk: what was written to the device in all\n  {'':<66}{'plan MiB':>9} {'MiB':>9} "
        f"{'off':>8} {'disk MiB':>9}  {'plan s':>7} {'s':>7} {'off':>8}")
    for estimate in sorted(found, key=lambda e: -e.taken):
        if estimate.moved >= SMALL or estimate.taken >= LONG:
            say(estimate.line())
    untold = [job for _, _, job, _ in rig.jobs if not any("plan" in disk for disk in items(job, "disks", "disk"))]
    if untold:
        say(f"  {len(untold)} of {len(rig.jobs)} jobs tell of no plan")
    rows = [("bytes moved, worst", [e.bytes_off for e in moving], "%", "<= 1 %", lambda v: v <= 1),
            (f"seconds of jobs over {LONG} s, worst", [e.seconds_off for e in long], "x", "<= 2 x", lambda v: v <= 2)]
    return [Figure(f"estimates: {what} of {len(values)}", max(values), unit, target, good(max(values)))
            for what, values, unit, target, good in rows if values]
