# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the daemons take while nothing happens."""

import time
from pathlib import Path

from lm import wait_for
from rig import Figure, say

VMS = 20
CALM = 65  # s: what is kept for a minute in case somebody asks again is forgotten by then
WINDOW = 29  # s: what happens every 10 s happens in it three times at most
# The agent polls nothing; libvirt's keepalive, every 20 s, wakes its event thread four times (timer, write, read,
# timer), which is not ours to change.
WAKEUPS = {"livemerge-agent": 8, "livemerge-manager": 3}
LOOK_EVERY = 0.2  # s: a thread that sleeps several times between two looks woke up once
LIMITS = {"livemerge-agent": 20, "livemerge-manager": 40}  # MiB


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS")


def effort(pid):
    """({thread: nanoseconds on a processor}, {thread: times it went to sleep}) so far."""
    used, sleeps = {}, {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        used[task.name] = int((task / "schedstat").read_text(encoding="ascii").split()[0])
        for line in (task / "status").read_text(encoding="ascii").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                sleeps[task.name] = int(line.split()[1])
    return used, sleeps


def wakeups(pid):
    """How often each thread woke up while we looked, and nanoseconds on a processor of all."""
    woken = {}
    first, before = effort(pid)
    for _ in range(int(WINDOW / LOOK_EVERY)):
        time.sleep(LOOK_EVERY)
        last, after = effort(pid)
        for task in after:
            woken[task] = woken.get(task, 0) + (after[task] != before.get(task, 0))
        before = after
    return woken, sum(last[task] - first.get(task, 0) for task in last)


def watch(daemon):
    """Figures of a daemon that has nothing to do."""
    name = daemon.name
    size = resident_mib(daemon.pid)
    woken, used = wakeups(daemon.pid)
    percent = used / 1e9 / WINDOW * 100
    busiest = max(woken.values())
    say(f"  {name}: {size:.1f} MiB, {percent:.3f} % of a processor; wakeups of its threads in {WINDOW} s: "
        f"{' '.join(str(n) for n in sorted(woken.values(), reverse=True) if n)}")
    return [Figure(f"{name}, resident, idle with {VMS} VMs", size, "MiB", f"< {LIMITS[name]} MiB",
                   size < LIMITS[name]),
            Figure(f"{name}, processor, idle with {VMS} VMs", percent, "%", "<= 0.1 %", percent <= 0.1),
            Figure(f"{name}, wakeups of its busiest thread in {WINDOW} s", busiest, "",
                   f"<= {WAKEUPS[name]}", busiest <= WAKEUPS[name])]


def idle(rig):
    """Half of the VMs run. The daemons are those that did all the work before."""
    from concurrent.futures import ThreadPoolExecutor  # pylint: disable=import-outside-toplevel

    for number in range(VMS):
        rig.vm(f"idle{number}", "16M", start=number % 2 == 0).snap("one")
    daemons = (rig.site.agent, rig.site.manager)
    wait_for(lambda: len(rig.site.vms) == VMS, 10, "all VMs are there")
    time.sleep(CALM)
    with ThreadPoolExecutor(len(daemons)) as pool:
        return [figure for figures in pool.map(watch, daemons) for figure in figures]
