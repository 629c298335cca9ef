# SPDX-License-Identifier: LGPL-2.1-or-later
"""One crash: a flow is stopped at a fault point of the agent or the manager, somebody is killed there (kill -9),
all that died is started again, and then everything must be as before the flow or as after it."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from .programs import items
from .util import wait_for

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
        self.stopped = None  # the daemon that stands at the point

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
        self._start(lambda _: None)
        self._begin()
        self._wait_stopped()
        self.subject.write_if_it_runs()
        if self.flow.at_point:
            self.flow.at_point(self)
        getattr(self, f"_kill_{self.case.victim}")()
        self._recover()
        self._check()

    def trace(self, path):
        """The flow without a crash, checked; the points that it passes: {process: {point: times}}."""
        self._start(lambda daemon: {"LIVEMERGE_FAULT_TRACE": f"{path}.{daemon.name}"})
        passed = self._lines(path)
        self._begin()
        self._wait_ended()
        ended = self._lines(path)
        self._check()
        return {process: self._count(ended[process][len(passed[process]):]) for process in ended}

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

    def jobs(self):
        """Those that the flow has begun: one, or none if it was not accepted."""
        jobs = items(self.site.rest.json("GET", "/jobs", timeout=2), "job")
        return [job for job in jobs if job["id"] not in self.jobs_before]

    def _begin(self):
        self.jobs_before = {job["id"] for job in self.jobs()}
        self.first = len(self.subject.log)
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
        self.subject.write_if_it_runs()  # the VM lives on
        self._go_on()

    def _kill_qemu(self):
        kill9(self.site.host.qemu_pid(self.subject.name))
        self.subject.leaks = True
        self._go_on()

    def _kill_daemon(self):
        """qemu-storage-daemon, where one works; else as soon as one does after that point."""
        working = storage_daemons(self.site.agent)
        self._go_on()
        if not working:
            working = wait_for(lambda: storage_daemons(self.site.agent) or (self._ended() and ["none"]), 60,
                               "a qemu-storage-daemon works, or the job has ended", every=0.001)
        if working == ["none"]:
            raise Missed(f"{self.case}: no qemu-storage-daemon works from there on")
        for pid in working:
            kill9(pid)
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
        if self.case.victim in ("libvirtd", "all"):
            {"libvirtd": self.site.host.start, "all": self.site.host.up}[self.case.victim]()
        for daemon in (self.site.agent, self.site.manager):
            if not daemon.runs():
                daemon.start()
        self.site.wait_ready()
        if not self.case.late:
            self.subject.power_on()
        self._wait_ended()
        self.subject.power_on()

    def _wait_ended(self):
        if self.flow.recovered:
            self.flow.recovered(self)
        wait_for(self._ended, 90, f"the job of {self.flow.name} ends", every=0.05)

    def _check(self):
        subject = self.subject
        subject.vm.wait_status("up" if subject.runs else "down")
        jobs = self.jobs()
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
