# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM without a guest for the crash tests: every acknowledged write is logged, the instant of every snapshot
is known, and everything that a user could see of it is compared with that."""

import dataclasses
import os
import random
import re

from .guest import Lost, check_image, verify_acked
from .host import Disk, image_chain, qemu_img
from .programs import items
from .qmp import BLOCK, Log, Qmp, Write
from .util import run, wait_for

MOST_LAYERS = 7  # a VM with more is given up for a new one
OURS = re.compile(r"lease\.(lock|json)|(domain|rates)\.json|vms|vms/[0-9a-f-]+\.(json|lock)|trash")


class Subject:
    """Lives through many cases, as long as all of them end well."""

    guest = False

    def __init__(self, site, name, *, disks=1, mib=8, runs=True):
        self.site, self.name, self.disks, self.mib, self.runs = site, name, disks, mib, runs
        self.vm = site.vm(name, [Disk(f"{mib}M") for _ in range(disks)], start=runs, guest=self.guest, monitor=True)
        self.log = Log(disks, mib << 20)
        self.qmp = Qmp(site.host, name)
        self.marks = {}     # of each snapshot: the instants between which it was taken
        self.unusable = set()  # snapshots that a merge which was given up may have changed
        self.fixed_by = None  # a job of the doctor
        self.lost_ids = []    # of the snapshots whose names went with the manifest
        self.made = 0       # snapshots so far
        self.leaks = False  # a QEMU was killed: clusters that nobody uses may be left
        self.may_forget = False  # libvirtd was killed, and may not know of a pivot
        self.forgotten = False   # and does not: it will until the VM is off
        self.random = random.Random(name)

    @property
    def targets(self):
        return [f"vd{chr(ord('a') + i)}" for i in range(self.disks)]

    # ---- deeds

    def write(self, disk, offset, length):
        """One write, flushed; logged when it was acknowledged."""
        byte = 1 + len(self.log) % 255
        words = (f"write -P {byte} {offset} {length}", "flush")
        if self.runs:
            self.qmp.io(disk, *words)
        else:
            commands = [word for line in words for word in ("-c", line)]
            run("qemu-io", "-f", "qcow2", *commands, self.leaves()[self.targets[disk]])
        self.log.writes.append(Write(disk, offset, length, byte))

    def write_some(self):
        """On each disk a few blocks, whole clusters and parts."""
        for disk in range(self.disks):
            for length in (BLOCK, 16 * BLOCK):
                self.write(disk, self.random.randrange(self.log.size // length) * length, length)

    def write_if_it_runs(self):
        """Nobody writes while it is suspended."""
        if self.runs and self.qmp.runs():
            self.write_some()

    def snap(self, *options):
        """Another snapshot; its name."""
        self.made += 1
        name, first = f"s{self.made}", len(self.log)
        self.vm.snap(name, options=options)
        self.marks[name] = (first, len(self.log))
        return name

    def layers(self, count, *options):
        """At least so many snapshots, each with data of its own, and data in the leaf."""
        while len(self.marks) < count:
            self.write_some()
            self.snap(*options)
        self.write_some()

    def processes(self):
        """Ids of its QEMUs, of which there is never more than one."""
        return run("pgrep", "-f", "--", f"-uuid {self.vm.id}", check=False).stdout.split()

    def is_worn(self):
        return len(self.marks) > MOST_LAYERS or bool(self.unusable) or self.forgotten

    def power_on(self):
        """Once the start guard and QEMU's locks let it; a VM that is suspended by us is waited for."""
        def runs():
            state = self.site.host.state(self.name)
            if state == "shut off":
                self.site.host.virsh("start", self.name)
            return state == "running" and self.qmp.runs()  # libvirt may not have noticed yet that it died

        if self.runs and not self.qmp.runs():
            wait_for(runs, 60, f"VM {self.name} runs again", every=0.1)

    def power_off(self):
        self.site.host.virsh("destroy", self.name)

    # ---- what is true

    def leaves(self, inactive=False):
        """{target: file that the VM writes}. A libvirtd that was killed in a pivot may show the old leaf until the VM
        is off (docs/merge.md); then QEMU is believed."""
        disks = self.site.host.xml(self.name, inactive).findall("devices/disk")
        told = {disk.find("target").get("dev"): disk.find("source").get("file") for disk in disks}
        if inactive or not self.may_forget or not self.qmp.runs():
            return told
        real = self.qmp.leaves()
        found = {target: real[f"virtio-disk{i}"] for i, target in enumerate(told)}
        self.forgotten |= found != told
        return found

    def chains(self):
        return [image_chain(leaf) for leaf in self.leaves().values()]

    def _content(self, paths):
        """What a guest would read of each disk whose leaf is the path."""
        raw = self.site.work / f"{self.name}.raw"
        found = []
        for path in paths:
            qemu_img("convert", "-U", "-O", "raw", path, raw)
            found.append(bytearray(raw.read_bytes()))
        raw.unlink()
        return found

    def check_content(self, chains):
        """Every acknowledged write is there and nothing else; each snapshot holds one instant, the same on all
        disks. Its instant is known from then on."""
        leaf = self._content([chain[-1] for chain in chains])
        now = len(self.log)
        assert self.log.instant(leaf, now, now) is not None, \
            f"LOST of {now} acknowledged writes of {self.name}: {self.log.difference(leaf, now)}"
        for number, (name, (first, last)) in enumerate(list(self.marks.items())):
            if name in self.unusable:
                continue
            found = self._content([chain[number] for chain in chains])
            instant = self.log.instant(found, first, last)
            assert instant is not None, f"LOST: snapshot {name} of {self.name} holds no instant from write {first} " \
                                        f"to {last}: {self.log.difference(found, last)}"
            self.marks[name] = (instant, instant)

    def check_list(self, chains):
        """The snapshots are listed, all of them good; each has its volume, and its memory if it says so."""
        snapshots = self.vm.snapshots()
        assert list(snapshots) == list(self.marks), f"{list(snapshots)} are listed, not {list(self.marks)}"
        bad = [s for name, s in snapshots.items() if name not in self.unusable and
               (s["snapshot_status"] != "ok" or s.get("unusable"))]
        assert not bad, f"not as good as they were: {bad}"
        for chain in chains:
            assert len(chain) == len(self.marks) + 1, f"snapshots {list(self.marks)}, but the chain is {chain}"
        memory = [f for f in self.vm.files() if f.endswith(".memory")]
        assert len(memory) == sum(s["persist_memorystate"] for s in snapshots.values()), memory

    def check_files(self, chains, kept="undo"):
        """All volumes are clean; libvirt's two definitions agree; nothing else lies about but what is kept for
        a person."""
        wanted = {path for chain in chains for path in chain}
        for path in wanted:
            check_image(path, self.leaks, share=self.runs)
        inactive, live = self.leaves(inactive=True), [chain[-1] for chain in chains]
        assert list(inactive.values()) == live, f"the definition is stale: {inactive}, and the VM runs on {live}"
        self._sweep()
        wait_for(lambda: not self._debris(wanted, kept), 10, f"no debris is left: {self._debris(wanted, kept)}")

    def _sweep(self):
        """A manifest that was just being written stays, lest another writes it; the agent removes it when it is
        old and the agent starts again. So it is made old."""
        found = list((self.vm.directory / ".livemerge").rglob("*.livemerge-tmp"))
        for file in found:
            os.utime(file, (0, 0))
        if found:
            self.site.agent.restart()
            self.site.wait_ready()

    def _debris(self, wanted, kept):
        notes = self.vm.directory / ".livemerge"
        left = [f for f in self.vm.files() if f not in wanted and not f.endswith(".memory")]
        names = {str(f.relative_to(notes)) for f in notes.rglob("*")}
        return left + [name for name in names if not OURS.fullmatch(name) and not re.match(kept, name)]

    def check_doctor(self, ignored=()):
        """Nothing is wrong, and no operation is left that the manager has not acknowledged."""
        def looks():
            said = self.site.cli("doctor", self.name, "--json", code=None).json
            return None if items(said, "busy_vms", "vm") else said

        said = wait_for(looks, 30, f"no operation of VM {self.name} is left", every=0.1)
        found = [f for f in items(said, "findings", "finding") if f["class"] not in ignored]
        assert not found, f"the doctor found: {found}"


class GuestSubject(Subject):
    """With a guest that writes all the while: an instant is how many writes it knows to be done. For one case:
    in the end it is off."""

    guest = True

    def __init__(self, site, name, **options):
        super().__init__(site, name, **options)
        self.log = self
        self.stream = self.vm.guest.start_stream("vda", mib=self.mib)

    def __len__(self):
        return self.stream.acked

    def write_some(self):
        """Nothing, once the guest that wrote has died."""
        self.vm.guest.wait_acked(20)

    def is_worn(self):
        return True

    def power_on(self):
        """The guest that then boots does not write any more."""
        lives = self.qmp.runs()
        super().power_on()
        if not lives and self.leaks:
            self.stream.running = False
            self.vm.guest.connect()

    def power_off(self):
        """Of what the guest writes just then some may be there, though it was not acknowledged."""
        self.stream.running = False
        self.leaks = True
        super().power_off()

    def check_content(self, chains):
        if self.stream.running:
            self.vm.guest.stop_stream("vda")
        self.site.host.virsh("destroy", self.name)
        self.runs = False
        self.vm.wait_status("down")
        for number, (_, (first, _)) in enumerate(self.marks.items()):
            self._verify(chains[0][number], first)
        self._verify(chains[0][-1], self.stream.acked)

    def _verify(self, image, acked):
        try:
            verify_acked(image, dataclasses.replace(self.stream, acked=acked), self.site.work.path)
        except Lost as error:
            raise AssertionError(f"LOST: {error}") from None
