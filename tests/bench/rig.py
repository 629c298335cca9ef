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

from lm import Disk, Host, Site, items, make_domain, run, wait_for

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

    def row(self):
        row = asdict(self)
        row["pass"] = row.pop("good")
        row["ratio"] = round(self.value / self.peer_value, 3) if self.peer_value else None
        for key in ("value", "peer_value"):
            row[key] = round(row[key], 4) if row[key] is not None else None
        keys = ["name", "value", "unit", "peer", "peer_value", "ratio", "target", "pass"]
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


class Rig:
    """Both hosts. self.site is ours, self.peer the host for virsh."""

    def __init__(self):
        self.site = Site()
        self.peer = Host("P", self.site.work / "p")
        self.completions = None

    def up(self):
        self.site.up()
        self.peer.up()
        self.completions = Completions(self.site.host)
        return self

    def down(self):
        if self.completions is not None:
            self.completions.stop()
        self.peer.down()
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

    def drop(self, *names):
        """VMs of both hosts, with their files."""
        for vm in [vm for vm in self.site.vms if vm.name in names]:
            vm.remove()
            self.site.vms.remove(vm)
        for name in names:
            self.peer.remove(name)
            run("rm", "-rf", self.site.work / "copy" / name)
        wait_for(lambda: not {vm["name"] for vm in items(self.site.rest.json("GET", "/vms"), "vm")}
                 & set(names), 20, f"the manager forgot {names}")


def save(figures, path):
    path.write_text(json.dumps([figure.row() for figure in figures], indent=1) + "\n")
