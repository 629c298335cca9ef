# SPDX-License-Identifier: LGPL-2.1-or-later
"""One crash: a flow is stopped at a fault point of the agent or the manager, somebody is killed there (kill -9),
all that died is started again, and then everything must be as before the flow or as after it."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .programs import items
from .util import wait_for

DAEMON_WORKS = ("agent.merge.after-start", "agent.verify.before")  # from the first of them on, until the second
VICTIMS = ("agent", "manager", "libvirtd", "qemu", "all")


class Missed(Exception):
    """The flow ended and did not pass the point."""


@dataclass(frozen=True)
class Case:
    """Who dies at which passing of which point of a flow. late: the VM is started again only when the job has
    ended, not at once."""
    flow: str
    point: str
    nth: int
    victim: str
    late: bool = False

    def __str__(self):
        return f"{self.flow}-{self.point}@{self.nth}-{self.victim}{'-late' if self.late else ''}"

    @property
    def process(self):
        """Whose point it is: a point of the engine that both have says it ("manager:steps.after-save")."""
        return "manager" if self.point.startswith(("flow.", "manager:")) else "agent"

    @property
    def fault(self):
        return f"{self.point.split(':')[-1]}=stop@{self.nth}"


def is_stopped(process):
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] == "T"


def kill9(pid):
    """Returns when it is dead, be it a zombie."""
    def dead():
        try:
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] in "ZX"
        except OSError:
            return True

    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_for(dead, 20, f"process {pid} is dead")


def storage_daemons(agent):
    """Process ids of the qemu-storage-daemons of an agent, which may have outlived it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"qemu-storage-daemon") and str(agent.directory).encode() in b" ".join(words):
            found.append(int(entry.parent.name))
    return found


class Crash:
    """The run of a case with a flow of crash_flows.py on a subject."""

    def __init__(self, site, flow, subject, case=None):
        self.site, self.flow, self.subject, self.case = site, flow, subject, case
        self.jobs_before = set()
        self.client = None
        self.first = 0      # instant at which the flow began
        self.ran = []       # process ids of the VM's QEMU then
        self.stopped = None  # the daemon that stands at the point
        self.times = {}      # what took how many seconds

    def run(self):
        """Raises Missed, or what is wrong."""
        try:
            self._run()
        except Missed:
            raise
        except Exception as error:
            raise AssertionError(f"crash {self.case} ({self.case.fault} of the {self.case.process}; {self.case.victim} "
                                 f"was killed): {error}\n{self.site.logs()}") from error

    def _run(self):
        with self._timed("start"):
            self._start(lambda _: None)
        with self._timed("to the point"):
            self._begin()
            self._wait_stopped()
            self._write()
            if self.flow.at_point:
                self.flow.at_point(self)
        with self._timed("kill"):
            getattr(self, f"_kill_{self.case.victim}")()
        self._recover()
        with self._timed("check"):
            self._check()

    @contextlib.contextmanager
    def _timed(self, what):
        began = time.monotonic()
        yield
        self.times[what] = round(self.times.get(what, 0) + time.monotonic() - began, 2)

    def trace(self, path):
        """The flow without a crash, checked; the points that it passes: {process: {point: times}}, and as "daemon" at which
        passings of the agent's a qemu-storage-daemon works: {point: [first, last]}."""
        self._start(lambda daemon: {"LIVEMERGE_FAULT_TRACE": f"{path}.{daemon.name}"})
        passed = self._lines(path)
        self._begin()
        self._wait_ended()
        ended = self._lines(path)
        self._check()
        new = {process: ended[process][len(passed[process]):] for process in ended}
        points = {process: self._count(lines) for process, lines in new.items()}
        if "daemon" in self.flow.victims:
            begin, end = (new["agent"].index(point) for point in DAEMON_WORKS)
            before, until = self._count(new["agent"][:begin]), self._count(new["agent"][:end])
            points["daemon"] = {point: [before.get(point, 0) + 1, last] for point, last in until.items()}
        return points

    def _lines(self, path):
        return {daemon.name.split("-")[1]: Path(f"{path}.{daemon.name}").read_text(encoding="utf-8").split()
                for daemon in (self.site.agent, self.site.manager)}

    @staticmethod
    def _count(lines):
        return {point: lines.count(point) for point in sorted(set(lines))}

    # ---- to the point

    def _start(self, env):
        """Agent and manager with the fault points of flow and case; one that has none stays as it is."""
        for daemon in (self.site.agent, self.site.manager):
            faults = [self.flow.faults] if daemon is self.site.agent and self.flow.faults else []
            if self.case and self.process is daemon:
                faults.append(self.case.fault)
            if faults or env(daemon):
                daemon.stop()
                daemon.start(",".join(faults), env(daemon))
        self.site.wait_ready()
        self.subject.vm.wait_status("up" if self.subject.runs else "down")

    @property
    def process(self):
        """The daemon that is to stop."""
        return getattr(self.site, self.case.process)

    def jobs(self, timeout=0.5):
        """Those that the flow has begun: one, or none if it was not accepted. Asked again and again of a manager that may just
        have been stopped: it does not wait long."""
        jobs = items(self.site.rest.json("GET", "/jobs", timeout=timeout), "job")
        return [job for job in jobs if job["id"] not in self.jobs_before]

    def _begin(self):
        self.jobs_before = {job["id"] for job in self.jobs(30)}
        self.first = len(self.subject.log)
        self.ran = self.subject.processes()
        self.client = self.site.cli.spawn(*self.flow.words(self.subject))
        if self.flow.meddle:
            self.flow.meddle(self)

    def _ended(self):
        return self.client.poll() is not None and all(job["status"] != "started" for job in self.jobs())

    def _wait_stopped(self):
        daemon = self.process

        def there():
            return is_stopped(daemon) or (self._ended() and not is_stopped(daemon) and "missed")

        if wait_for(there, 60, f"{daemon.name} stops at {self.case.fault}", every=0.01) == "missed":
            raise Missed(f"{self.case}: {self.client.communicate()}")
        self.stopped = daemon

    def _write(self):
        """Not while the flow itself may end QEMU in the middle of it. QEMU 7.2 falls over a write past the guest in the
        instant in which a VM's memory has been saved."""
        if not self.flow.power:
            self.subject.write_if_it_runs()

    # ---- who dies

    def _go_on(self):
        if self.stopped.runs():
            os.kill(self.stopped.pid, signal.SIGCONT)

    def _kill_agent(self):
        self.site.agent.kill9()
        self._go_on()

    def _kill_manager(self):
        self.site.manager.kill9()
        self._go_on()

    def _kill_libvirtd(self):
        self.site.host.kill9()
        self.subject.may_forget = True
        self._write()  # the VM lives on
        self._go_on()

    def _kill_qemu(self):
        kill9(self.site.host.qemu_pid(self.subject.name))
        self.subject.leaks = True
        self._go_on()

    def _kill_daemon(self):
        working = storage_daemons(self.site.agent)
        assert working, "no qemu-storage-daemon works there"
        for pid in working:
            kill9(pid)
        self._go_on()
        self.subject.leaks = True

    def _kill_all(self):
        """As if the host had lost its power, and the manager's too."""
        self.site.agent.kill9()
        self.site.manager.kill9()
        for pid in storage_daemons(self.site.agent):
            kill9(pid)
        self.site.host.down(purge=False)
        self.subject.leaks = True

    # ---- and afterwards

    def _recover(self):
        with self._timed("come back"):
            if self.case.victim in ("libvirtd", "all"):
                {"libvirtd": self.site.host.start, "all": self.site.host.up}[self.case.victim]()
            for daemon in (self.site.agent, self.site.manager):
                if not daemon.runs():
                    daemon.start()
            self.site.wait_ready()
        with self._timed("end"):
            others = not self.flow.power  # whether the VM runs is what that flow is about
            if others and not self.case.late:
                self.subject.power_on()
            self._wait_ended()
            if others:
                self.subject.power_on()

    def _wait_ended(self):
        if self.flow.recovered:
            self.flow.recovered(self)
        wait_for(lambda: self._ended() or self._do_what_helps(), 90, f"the job of {self.flow.name} ends", every=0.05)

    def _do_what_helps(self):
        """A libvirtd that was killed in the very moment of a switch may know the old leaf only; the job says what helps
        (docs/merge.md)."""
        if (self.case and self.case.victim == "libvirtd" and self.subject.processes() == self.ran
                and any("power the VM off" in job.get("waiting_for", "") for job in self.jobs())):
            self.subject.power_off()
        return False

    def _check(self):
        subject = self.subject
        if not self.flow.power:
            subject.vm.wait_status("up" if subject.runs else "down")
        jobs = self.jobs(30)
        assert len(jobs) <= 1, f"one job was expected: {jobs}"
        done = bool(jobs) and jobs[0]["status"] == "finished"
        assert done or self.flow.may_fail or not jobs, f"the job failed: {jobs}"
        said = self.client.communicate()
        assert jobs or self.client.returncode != 0, f"it was accepted and there is no job: {said}"
        self.flow.ended(self, done)
        subject.write_some()
        chains = subject.chains()
        subject.check_content(chains)
        subject.check_list(chains)
        subject.check_files(chains, self.flow.keeps)
        subject.check_doctor(self.flow.ignored)
        wait_for(lambda: not storage_daemons(self.site.agent), 10, "no qemu-storage-daemon is left")
