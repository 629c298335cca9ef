# SPDX-License-Identifier: LGPL-2.1-or-later
"""File systems on loop devices, what can be had from them at best, and what is written to them.

They are mounted in the mount namespace of this program alone (in_own_namespace()), and the file below has no
name any more: however the program ends, mounts, loop devices and space go with it."""

import fcntl
import mmap
import os
import struct
import sys
import time
from functools import cached_property
from pathlib import Path

from lm import run

MIB = 1 << 20
FICLONERANGE = 0x4020940D
DIRECT_IO = os.environ.get("LM_BENCH_LOOP", "direct")  # "cached": through the page cache of the host below

# size: of the sparse file below
KINDS = {
    "xfs": ("80G", ["mkfs.xfs", "-q", "-m", "reflink=1"]),
    "btrfs": ("40G", ["mkfs.btrfs", "-q"]),
    "ext4": ("24G", ["mkfs.ext4", "-q", "-N", "8192", "-E", "lazy_itable_init=0,lazy_journal_init=0"]),
}


def in_own_namespace():
    """Starts this program again where its mounts are its own."""
    if os.environ.get("LM_BENCH_NAMESPACE") != str(os.getpid()):
        os.environ["LM_BENCH_NAMESPACE"] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, "-B", *sys.argv])


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")


class Place:
    """One such file system: domain/ is a storage domain of the agent, peer/ for virsh's copies, layers/ for what
    both are copied from."""

    def __init__(self, kind, work):
        self.kind = kind
        self.root = Path(work) / kind
        self.domain, self.peer, self.layers = (self.root / name for name in ("domain", "peer", "layers"))
        self.shares = kind != "ext4"
        self._device = None

    def mount(self):
        size, mkfs = KINDS[self.kind]
        image = self.root.with_suffix(".img")
        self.root.mkdir()
        try:
            run("truncate", "-s", size, image)
            run(*mkfs, image)
            device = run("losetup", "--find", "--show", f"--direct-io={'on' if DIRECT_IO == 'direct' else 'off'}",
                         image).stdout.strip()
            try:
                run("mount", "-o", "noatime", device, self.root)
            finally:
                run("losetup", "--detach", device)  # it goes when it is unmounted
        finally:
            image.unlink(missing_ok=True)
        self._device = device
        for directory in (self.domain, self.peer, self.layers):
            directory.mkdir()
        return self

    def umount(self):
        if self._device is not None:
            run("umount", self.root)
            self._device = None

    def sync(self):
        run("sync", "-f", self.root)

    def trim(self):
        """What was deleted takes no room below any more."""
        run("fstrim", self.root)

    def copy(self, source, dest):
        run("cp", *(["--reflink=always"] if self.shares else []), source, dest)

    def written(self):
        """Bytes written to the device so far; everything that waits is written first."""
        self.sync()
        fields = Path(f"/sys/block/{Path(self._device).name}/stat").read_text(encoding="ascii").split()
        return int(fields[6]) * 512

    # ---- the physical floor

    @cached_property
    def share_cost(self):
        """Seconds of one FICLONERANGE of 64 KiB, which makes an extent of its own; mean of many."""
        if not self.shares:
            return 0.0
        calls, piece = 4096, 64 << 10
        source, dest = self.root / "share-source", self.root / "share-dest"
        try:
            with open(source, "wb") as out:
                for _ in range(2 * calls * piece // MIB):
                    out.write(b"\xa5" * MIB)
                os.fsync(out.fileno())
            with open(source, "rb") as old, open(dest, "wb") as new:
                began = time.monotonic()
                for at in range(calls):
                    fcntl.ioctl(new, FICLONERANGE, struct.pack("qQQQ", old.fileno(), 2 * at * piece, piece, at * piece))
                return (time.monotonic() - began) / calls
        finally:
            source.unlink(missing_ok=True)
            dest.unlink(missing_ok=True)

    @cached_property
    def file_cost(self):
        """Seconds that a new file of 1 MiB needs to be there for good; the middle one of some."""
        times = []
        directory = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for number in range(9):
                file = self.root / f"durable{number}"
                began = time.monotonic()
                with open(file, "wb") as out:
                    out.write(b"\xa5" * MIB)
                    os.fsync(out.fileno())
                os.fsync(directory)
                times.append(time.monotonic() - began)
                file.unlink()
        finally:
            os.close(directory)
        return sorted(times)[len(times) // 2]

    @cached_property
    def rates(self):
        """(bytes read, bytes written a second), past the page cache, best of three."""
        file, size = self.root / "rate", 512 * MIB
        buffer = mmap.mmap(-1, 8 * MIB)
        buffer.write(b"\x5a" * len(buffer))
        read = write = 0.0
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
        try:
            for _ in range(3):
                os.ftruncate(fd, 0)
                began = time.monotonic()
                for at in range(0, size, len(buffer)):
                    os.pwritev(fd, [buffer], at)
                os.fsync(fd)
                middle = time.monotonic()
                for at in range(0, size, len(buffer)):
                    os.preadv(fd, [buffer], at)
                write = max(write, size / (middle - began))
                read = max(read, size / (time.monotonic() - middle))
        finally:
            os.close(fd)
            file.unlink()
        return read, write

    def floor_of_sharing(self, calls, pauses=0.0):
        """(seconds, of what) of one new volume."""
        text = (f"{calls} extents to share, {self.share_cost * 1e6:.1f} us each, a new file "
                f"{self.file_cost * 1e3:.1f} ms")
        return (calls * self.share_cost + self.file_cost + pauses,
                text + (f", pauses {pauses * 1e3:.0f} ms" if pauses else ""))

    def floor_of_moving(self, read, written, pauses=0.0):
        """(seconds, of what); for a disk that reads and writes at the same time, each at its best."""
        rate_read, rate_write = self.rates
        return (max(read / rate_read, written / rate_write) + pauses,
                f"{read >> 20} MiB read at {rate_read / 1e6:.0f} MB/s beside {written >> 20} MiB written at "
                f"{rate_write / 1e6:.0f} MB/s")


def process_written(pid):
    for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no write_bytes")


class Written:
    """with Written(place, pid...) as written: ...: bytes that reached the file system meanwhile (place may be None),
    and bytes that these processes wrote (to whatever file)."""

    def __init__(self, place, *pids):
        self._place, self._pids = place, pids
        self.device = self.processes = 0

    def _look(self):
        return (self._place.written() if self._place is not None else 0), sum(process_written(p) for p in self._pids)

    def __enter__(self):
        device, processes = self._look()
        self.device, self.processes = -device, -processes
        return self

    def __exit__(self, *_):
        device, processes = self._look()
        self.device += device
        self.processes += processes
