# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest that writes (tests/lib/guest/gw.c), and the proof that nothing it wrote is lost."""

import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .host import qemu_img
from .util import GUEST, PATIENCE, REPO, run, wait_for


def build_guest():
    """Kernel and initrd into build/guest; nothing to do if they are there."""
    run(REPO / "tests" / "lib" / "guest" / "build.sh", GUEST, timeout=300)


class Lost(AssertionError):
    """Acknowledged writes are not in the image; count blocks of them."""

    def __init__(self, text, count):
        super().__init__(text)
        self.count = count


@dataclass
class Stream:
    """Numbered writes to one disk; acked counts those that the guest knows to be done."""
    disk: str
    blocks: int
    seed: int
    running: bool = True
    acked: int = 0
    failed: int = 0
    last: float = 0.0         # when the last acknowledgement came
    longest_gap: float = 0.0  # seconds between two, as seen from here
    longest_write: float = 0.0  # seconds, as the guest measured it; known after stop()


class Guest:
    """Talks to the writer of a running VM. Reads all the while in a thread, so that the guest
    is never held up by a full serial line."""

    def __init__(self, host, vm, timeout=60):
        self.vm = vm
        self.streams = {}
        self._path = str(host.run_path(f"{vm}.serial"))
        self._news = threading.Condition()
        self._said = []  # everything but acknowledgements
        self._socket = None
        self.connect(timeout)

    def connect(self, timeout=60):
        """Connects, and waits until the guest answers. Again after the VM was restarted."""
        self.close()
        end = time.monotonic() + timeout * PATIENCE

        def try_connect():
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(self._path)
            except OSError:
                sock.close()
                raise
            return sock

        self._socket = wait_for(try_connect, 20, f"VM {self.vm} has its serial line {self._path}")
        threading.Thread(target=self._listen, args=(self._socket,), daemon=True).start()
        while True:
            try:
                return self._ask("t", 1)  # what was said before it booted is lost: again
            except TimeoutError:
                if time.monotonic() > end:
                    raise

    def close(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _listen(self, sock):
        rest = b""
        while True:
            try:
                data = sock.recv(65536)
            except OSError:
                return
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            now = time.monotonic()
            with self._news:
                for line in lines:
                    self._hear(line.decode("latin1").strip(), now)
                self._news.notify_all()

    def _hear(self, line, now):
        word = line.split(" ")
        stream = self.streams.get(word[1]) if len(word) > 2 else None
        if word[0] == "A" and stream is not None:
            stream.acked = int(word[2]) + 1
            if stream.last:
                stream.longest_gap = max(stream.longest_gap, now - stream.last)
            stream.last = now
        elif word[0] == "E" and stream is not None:
            stream.failed += 1
        else:
            self._said.append(line)

    def heard(self, pattern, timeout, since=0):
        """Waits for a line that matches; returns it."""
        return self._await_line(pattern, timeout * PATIENCE, since)

    def _await_line(self, pattern, timeout, since):
        end = time.monotonic() + timeout
        at = since
        with self._news:
            while True:
                for line in self._said[at:]:
                    if re.search(pattern, line):
                        return line
                at = len(self._said)
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"guest {self.vm} did not say {pattern!r} in {timeout} s; "
                                       f"its last words: {self._said[-5:]}")
                self._news.wait(left)

    def said(self):
        """All its lines so far."""
        with self._news:
            return list(self._said)

    def command(self, line, timeout=60):
        """Sends a command (see gw.c), returns the answer."""
        return self._ask(line, timeout * PATIENCE)

    def _ask(self, line, timeout):
        since = len(self._said)
        self._socket.sendall((line + "\n").encode())
        # the stop answers in a form of its own
        wanted = " ".join(line.split()[:2]) if line.startswith("x ") else line
        return self._await_line(f"^R {re.escape(wanted)}( |$)", timeout, since)

    def _must(self, line, timeout=60):
        answer = self.command(line, timeout)
        if " ok" not in answer:
            raise AssertionError(f"guest {self.vm}: {answer}")
        return answer

    def fill(self, disk, offset_kib, length_kib, seed, seq=0):
        """Writes the pattern."""
        self._must(f"w {disk} {offset_kib} {length_kib} {seed} {seq}")

    def compare(self, disk, offset_kib, length_kib, seed, seq=0):
        """Fails unless the pattern is there."""
        self._must(f"c {disk} {offset_kib} {length_kib} {seed} {seq}")

    def hash(self, disk):
        return self.command(f"h {disk}").split()[3]

    def start_stream(self, disk, mib=16, pace_us=1000, seed=None):
        """Begins to write all over the first MIB of the disk; pace_us between two writes, 0 = as
        fast as it can."""
        self.streams[disk] = Stream(disk, mib * 256, seed if seed is not None else 1 + ord(disk[-1]))
        return self.resume_stream(disk, pace_us)

    def resume_stream(self, disk, pace_us=1000):
        """Goes on with a stopped stream, where it was."""
        stream = self.streams[disk]
        stream.running, stream.last, stream.longest_gap = True, 0.0, 0.0
        before = stream.acked
        self._must(f"s {disk} {stream.blocks} {stream.seed} {pace_us} {before}")
        wait_for(lambda: stream.acked > before, 20, f"guest {self.vm} writes to {disk}")
        return stream

    def pace(self, disk, pace_us):
        self._must(f"u {disk} {pace_us}")

    def stop_stream(self, disk):
        """After this every write of the stream is acknowledged and counted."""
        answer = self.command(f"x {disk}", timeout=60)
        match = re.search(r"seq=(\d+) longest_us=(\d+)", answer)
        if match is None:
            raise AssertionError(f"guest {self.vm}: {answer}")
        stream = self.streams[disk]
        stream.running = False
        stream.longest_write = int(match[2]) / 1e6
        if stream.failed or stream.acked != int(match[1]):
            raise AssertionError(f"guest {self.vm} wrote {match[1]} blocks to {disk}, acknowledged "
                                 f"{stream.acked}, {stream.failed} failed")
        return stream

    def acked(self):
        """Acknowledged writes of all streams."""
        return sum(stream.acked for stream in self.streams.values())

    def wait_acked(self, more, timeout=30):
        """Waits until each running stream got that many more writes done: the guest is alive."""
        goal = {disk: s.acked + more for disk, s in self.streams.items() if s.running}
        wait_for(lambda: all(self.streams[d].acked >= n for d, n in goal.items()), timeout,
                 f"guest {self.vm} wrote {more} more blocks")


def verify_acked(image, stream, scratch, share=False):
    """Every acknowledged write of the stream must be in the image (the leaf; QEMU follows the
    chain). share: a VM has the image open; then the stream must have been stopped. Returns how
    many blocks were compared."""
    raw = Path(scratch) / f".verify-{os.getpid()}-{threading.get_ident()}.raw"
    try:
        qemu_img("convert", *(["-U"] if share else []), "-O", "raw", str(image), str(raw))
        done = run(GUEST / "check", raw, stream.seed, stream.blocks, stream.acked, check=False)
    finally:
        raw.unlink(missing_ok=True)
    if done.returncode != 0:
        count = re.search(r"lost=(\d+)", done.stdout)
        raise Lost(f"{image}: of {stream.acked} acknowledged writes to {stream.disk} some are lost:\n"
                   f"{done.stdout}{done.stderr}", int(count[1]) if count else -1)
    return int(re.search(r"ok=(\d+)", done.stdout)[1])


def check_image(path, leaks=False, share=False):
    """qemu-img check of one layer: no error and, unless QEMU itself was killed while it allocated, no leaked
    cluster (exit 3: space that nobody uses, no harm to data). share: a VM has it open, and flushed all."""
    done = qemu_img("check", *(["-U"] if share else []), str(path), check=False)
    if done.returncode not in ((0, 3) if leaks else (0,)):
        raise AssertionError(f"qemu-img check {path}: exit {done.returncode}\n{done.stdout}{done.stderr}")
