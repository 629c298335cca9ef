# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes to the disks of a VM without a guest, through a QEMU monitor of our own, so that they go on while
libvirtd is dead; and the log of those that were acknowledged, to compare with."""

import json
import socket
from dataclasses import dataclass

from .util import PATIENCE

BLOCK = 4096


def file_of(name):
    """QEMU describes a node whose backing file is another one than its header names."""
    return json.loads(name[len("json:"):])["file"]["filename"] if name.startswith("json:") else name


class Qmp:
    """The monitor that make_domain(monitor=True) gives a VM. One connection a command: QEMU may have
    died and been born again since the last."""

    def __init__(self, host, vm):
        self.path = str(host.run_path(f"{vm}.qmp"))

    def __call__(self, *commands, timeout=30):
        """Runs commands (name, or (name, arguments)) one after another; returns the last answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout * PATIENCE)
            sock.connect(self.path)
            file = sock.makefile("rw", encoding="utf-8")
            answer = json.loads(file.readline())
            for command in ("qmp_capabilities", *commands):
                name, arguments = command if isinstance(command, tuple) else (command, {})
                file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                file.flush()
                answer = self._answer(file, name)
            return answer

    @staticmethod
    def _answer(file, name):
        while True:
            said = json.loads(file.readline())
            if "error" in said:
                raise RuntimeError(f"{name}: {said['error']}")
            if "return" in said:
                return said["return"]

    def runs(self):
        """Is there a QEMU whose guest could write now?"""
        try:
            return self("query-status")["running"]
        except (OSError, ValueError):
            return False

    def leaves(self):
        """{"virtio-disk0": file of the leaf}."""
        return {block["qdev"].split("/")[3]: file_of(block["inserted"]["file"]) for block in self("query-block")
                if block.get("qdev", "").startswith("/machine/peripheral/virtio-disk")}

    def io(self, disk, *commands):
        """qemu-io's commands on a disk, as its device would do them."""
        device = f"/machine/peripheral/virtio-disk{disk}/virtio-backend"
        lines = [("human-monitor-command", {"command-line": f'qemu-io -d {device} "{command}"'})
                 for command in commands]
        out = self(*lines)
        if "rror" in out:
            raise RuntimeError(f"qemu-io {commands} on disk {disk}: {out}")


@dataclass(frozen=True)
class Write:
    """One that was flushed and acknowledged."""
    disk: int
    offset: int
    length: int
    byte: int


class Log:
    """All acknowledged writes of a VM, in order. len() is an instant: what came before it."""

    def __init__(self, disks, size):
        self.disks, self.size = disks, size
        self.writes = []

    def __len__(self):
        return len(self.writes)

    def images(self, count):
        """What the disks hold after so many writes."""
        images = [bytearray(self.size) for _ in range(self.disks)]
        for write in self.writes[:count]:
            self._apply(images, write)
        return images

    @staticmethod
    def _apply(images, write):
        end = write.offset + write.length
        images[write.disk][write.offset:end] = bytes([write.byte]) * write.length

    def instant(self, found, first, last):
        """At which instant from first to last the disks held exactly what was found; None: at none."""
        images = self.images(first)
        for count in range(first, last + 1):
            if images == found:
                return count
            if count < last:
                self._apply(images, self.writes[count])
        return None

    def difference(self, found, count):
        """Words about where the found images are not what they were at that instant."""
        for disk, (have, want) in enumerate(zip(found, self.images(count))):
            for at in range(0, self.size, BLOCK):
                if have[at:at + BLOCK] != want[at:at + BLOCK]:
                    return f"disk {disk}, byte {at}: there is {have[at]}, {want[at]} was written"
        return "no difference"
