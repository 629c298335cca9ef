# SPDX-License-Identifier: LGPL-2.1-or-later
"""Chains of volumes, written once by qemu-io, and VMs that have copies of them: ours with our snapshots, and
peers'. On storage that shares blocks a copy takes no time and no room."""

import json
import os
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from lm import BUILD, Disk, make_domain, qemu_img, run
from places import drop_caches

PIECE = 256  # MiB: QEMU takes a buffer of that size


@dataclass
class Layer:
    """A volume to be written. writes: (first MiB, how many, byte pattern; 0 = zeros without blocks)."""
    writes: list = field(default_factory=list)
    size: str = "4G"
    format: str = "qcow2"
    commands: list = field(default_factory=list)  # more for qemu-io

    def script(self):
        lines = []
        for first, count, pattern in self.writes:
            for at in range(first, first + count, PIECE):
                kind = f"-P {pattern}" if pattern else "-z"
                lines.append(f"write -q {kind} {at}M {min(PIECE, first + count - at)}M")
        return lines + self.commands


def scattered(pieces, seed, area, pattern, step=1):
    """qemu-io commands for so many pieces of 64 KiB all over the first AREA MiB, in no order; step 2: no two of
    them are neighbours."""
    places = random.Random(seed).sample(range(0, area * 16, step), pieces)
    return [f"write -q -P {pattern} {place << 16} 64k" for place in places]


def qemu_io(path, fmt, commands, timeout=600):
    if commands:
        subprocess.run(["qemu-io", "-t", "none", "-n", "-f", fmt, str(path)], input="\n".join([*commands, "quit\n"]),
                       text=True, check=True, stdout=subprocess.DEVNULL, timeout=timeout)


class Chain:
    """The volumes in place.layers, base first."""

    def __init__(self, place, name, layers):
        self.place, self.layers = place, layers
        self.directory = place.layers / name
        self.directory.mkdir()
        self.paths = [str(self.directory / f"layer{i}") for i in range(len(layers))]
        for i, layer in enumerate(layers):
            below = ["-b", f"layer{i - 1}", "-F", layers[i - 1].format] if i else []
            qemu_img("create", "-q", "-f", layer.format, *below, self.paths[i], layer.size)
            qemu_io(self.paths[i], layer.format, layer.script())
        place.sync()

    def put(self, files):
        """Puts copies of the volumes in the place of these files, which become the chain. Who looks meanwhile sees
        the old or the new file, each whole."""
        for i, file in enumerate(files):
            new = f"{file}.new"
            self.place.copy(self.paths[i], new)
            if i:
                qemu_img("rebase", "-u", "-f", "qcow2", "-b", Path(files[i - 1]).name, "-F", self.layers[i - 1].format,
                         new)
            os.replace(new, file)

    def remove(self):
        run("rm", "-rf", self.directory)

    # ---- VMs with a copy

    def ours(self, rig, name, start=True):
        """With snapshots s1, s2, ... below all layers but the first."""
        directory = self.place.domain / name
        directory.mkdir()
        base = directory / f"{name}.{self.layers[0].format}"
        self.place.copy(self.paths[0], base)
        vm = rig.site.vm(name, [Disk(path=str(base), format=self.layers[0].format)], directory=directory, start=False)
        vm.snap(*(f"s{i}" for i in range(1, len(self.layers))))
        self.put(vm.chain())
        if start:
            rig.site.host.virsh("start", name)
            vm.wait_status("up")
        drop_caches()
        return vm

    def peers(self, rig, name, start=True):
        """A VM of the other host, with libvirt's own snapshots s1, s2, ... Returns the chain."""
        directory = self.place.peer / name
        directory.mkdir()
        base = directory / f"{name}.base"
        self.place.copy(self.paths[0], base)
        make_domain(rig.peer, name, directory, [Disk(path=str(base), format=self.layers[0].format)], guest=False,
                    start=False)
        for i in range(1, len(self.layers)):
            rig.peer.virsh("snapshot-create-as", name, f"s{i}", "--disk-only")
        chain = rig.peer.chain(name, "vda")
        self.put(chain)
        if start:
            rig.peer.virsh("start", name)
        drop_caches()
        return chain


def tool(*argv):
    """tests/bench/qcow2_tool.c"""
    return json.loads(run(BUILD / "tests/unit/qcow2_tool", *argv, timeout=600).stdout)


def share_calls(chain):
    """How many calls one new volume for the whole chain takes."""
    new = chain.directory / "new"
    try:
        return tool("build", new, "share", *chain.paths)["share_calls"]
    finally:
        new.unlink(missing_ok=True)
