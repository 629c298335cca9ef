# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the measurements take place: an installation of ours with its host, and a second host where
nothing of ours runs, on which virsh does the same to copies of the same chains."""

import json
import os
import re
import signal
import statistics
import subprocess
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lm import Agent, Disk, Host, Site, items, make_domain, run, wait_for
from places import Place, Written

GIB = 1024  # MiB
PIECE = 64  # MiB written at a time: QEMU takes a buffer of that size


def say(text):
    print(text, flush=True)


@dataclass
class Figure:
    """A row of build/bench.json; of the peer nothing is known where there is none to compare with."""
    name: str
    value: float
    unit: str
    target: str
    good: bool
    peer: str = None
    peer_value: float = None
    floor: float = None  # what no program could undercut here
    floor_of: str = None

    def row(self):
        row = asdict(self)
        row["pass"] = row.pop("good")
        row["ratio"] = round(self.value / self.peer_value, 4) if self.peer_value else None
        row["times_floor"] = round(self.value / self.floor, 2) if self.floor else None
        for key in ("value", "peer_value", "floor"):
            row[key] = round(row[key], 6) if row[key] is not None else None
        keys = ["name", "value", "unit", "peer", "peer_value", "ratio", "floor", "floor_of", "times_floor", "target",
                "pass"]
        return {key: row[key] for key in keys}


def percentile(values, percent):
    """The value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def median(values):
    return statistics.median(values)


def timed(work):
    """Seconds that work() took."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


class Completions:
    """Listens to QEMU telling that a block job is complete, with QEMU's own clock."""

    def __init__(self, host):
        self._heard = []  # (VM, seconds since the epoch)
        self._news = threading.Condition()
        self._virsh = subprocess.Popen(  # pylint: disable=consider-using-with
            ["stdbuf", "-oL", "virsh", "-c", host.uri, "qemu-monitor-event", "--loop",
             "--event", "BLOCK_JOB_COMPLETED"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self._virsh.stdout:
            match = re.match(r"event BLOCK_JOB_COMPLETED at (\d+\.\d+) for domain '?([^':]+)", line)
            if match:
                with self._news:
                    self._heard.append((match[2], float(match[1])))
                    self._news.notify_all()

    def last(self, vm, since, timeout=10):
        """When the VM's last job after that time was complete."""
        def times():
            return [at for name, at in self._heard if name == vm and at >= since]

        with self._news:
            if not self._news.wait_for(times, timeout):
                raise TimeoutError(f"QEMU of VM {vm} told of no completed job in {timeout} s")
            return max(times())

    def stop(self):
        self._virsh.send_signal(signal.SIGINT)
        self._virsh.wait(10)


def settle(directory):
    """Nothing is left to be written back that would slow down who comes first."""
    os.sync()
    for path in Path(directory).iterdir():
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def fill(host, vm, mib, pattern):
    """Writes the first MIB of the disk."""
    for offset in range(0, mib, PIECE):
        piece = min(PIECE, mib - offset)
        host.hmp(vm, 'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend '
                     f'"write -P {pattern} {offset}M {piece}M"')
    host.hmp(vm, 'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "flush"')


@dataclass
class Deleted:
    """How a delete went. job is None if it was refused: why."""
    began: float    # seconds since the epoch
    seconds: float  # that the command took
    job: dict
    device: int     # bytes written to the file system's device meanwhile, if it is one of ours
    processes: int  # bytes written by agent and QEMU
    why: str = None

    @property
    def engine(self):
        """Seconds that the agent needed for the merges, which of several disks are side by side."""
        return max((disk.get("seconds", 0) for disk in items(self.job, "disks", "disk")), default=0)

    @property
    def pauses(self):
        return sum(pauses_of(self.job)) / 1000

    @property
    def strategies(self):
        return "+".join(dict.fromkeys(disk.get("strategy", "?") for disk in items(self.job, "disks", "disk")))


class Rig:
    """Both hosts. self.site is ours, self.peer the host for virsh. kinds: of file systems, self.places."""

    def __init__(self, kinds=()):
        self.site = Site()
        self.peer = Host("P", self.site.work / "p")
        self.completions = None
        self.places = {kind: Place(kind, self.site.work.path) for kind in kinds}
        self.jobs = []  # (where, what, document, bytes written to the device or None): every delete

    def up(self):
        for place in self.places.values():  # the hosts see only what is mounted before them
            place.mount()
        self.site.agent = Agent(self.site.work / "agent", self.site.host.uri,
                                {kind: place.domain for kind, place in self.places.items()}
                                | {"plain": self.site.work / "v"})
        (self.site.work / "v").mkdir()
        self.site.up()
        self.peer.up()
        self.completions = Completions(self.site.host)
        return self

    def down(self):
        if self.completions is not None:
            self.completions.stop()
        self.peer.down()
        for daemon in (self.site.manager, self.site.agent):
            daemon.stop()
        self.site.host.down()
        for place in self.places.values():
            place.umount()
        self.site.down()

    def vm(self, name, size="64M", **options):
        return self.site.vm(name, [Disk(size)], **options)

    def copy_to_peer(self, vm):
        """The same chain under a VM of the same name on the other host; its directory is returned."""
        leaf = Path(vm.chain()[-1])
        directory = self.site.work / "copy" / vm.name
        directory.mkdir(parents=True)
        run("cp", "--sparse=auto", *vm.files(), directory)
        make_domain(self.peer, vm.name, directory, [Disk(path=str(directory / leaf.name))], guest=False)
        settle(vm.directory)
        settle(directory)
        return directory

    def delete(self, vm, *names, options=(), what=None):
        """Deletes by the command line, and keeps what was planned and what came of it."""
        place = next((place for place in self.places.values() if place.root in Path(vm.directory).parents), None)
        pids = [self.site.agent.pid]
        if self.site.host.state(vm.name) == "running":
            pids.append(self.site.host.qemu_pid(vm.name))
        with Written(place, *pids) as written:
            since, began = time.time(), time.monotonic()
            done = self.site.cli("snapshot", "delete", vm.name, *names, "-y", "--json", *options, code=None,
                                 timeout=300)
            seconds = time.monotonic() - began
        if done.code == 4:
            return Deleted(since, seconds, None, 0, 0, done.err.strip())
        assert done.code == 0, f"{done}\n{self.site.logs()}"
        self.note(place, what or f"{vm.name} {' '.join(names)}", done.json, written.device)
        return Deleted(since, seconds, done.json, written.device, written.processes)

    def note(self, place, what, job, device=None):
        self.jobs.append((place.kind if place is not None else "plain", what, job, device))

    def drop(self, *names):
        """VMs of both hosts, with their files."""
        for vm in [vm for vm in self.site.vms if vm.name in names]:
            vm.remove()
            self.site.vms.remove(vm)
        for name in names:
            self.peer.remove(name)
            run("rm", "-rf", self.site.work / "copy" / name, *(place.peer / name for place in self.places.values()))
        wait_for(lambda: not {vm["name"] for vm in items(self.site.rest.json("GET", "/vms"), "vm")}
                 & set(names), 20, f"the manager forgot {names}")


def pauses_of(job):
    return [pause["milliseconds"] for disk in items(job, "disks", "disk")
            for pause in items(disk, "pauses", "pause")]


def save(figures, path):
    path.write_text(json.dumps([figure.row() for figure in figures], indent=1) + "\n")
