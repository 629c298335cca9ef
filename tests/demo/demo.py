#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make demo: snapshots of a running VM are taken and deleted while it writes, and nothing is lost.

A private libvirtd, a small guest that writes numbered blocks to two disks as fast as it can, an
agent and a manager; three snapshots; three deletes; each followed by a proof that every
write which the guest knows to be done is there. KEEP=1 leaves it all running."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from lm import (  # noqa: E402  pylint: disable=wrong-import-position
    REPO, Agent, Cli, Disk, Guest, Host, Lost, Manager, WorkDir, build_guest, check_image, items,
    leftovers, make_domain, verify_acked, wait_for)
from lm.programs import program  # noqa: E402  pylint: disable=wrong-import-position

DISKS = ["vda", "vdb"]
MIB = 1024  # KiB
LAYER_MIB = 24  # written between two snapshots, besides the stream


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


@dataclass
class Row:
    """One delete, for the table at the end."""
    what: str
    strategies: set = field(default_factory=set)
    copied: int = 0
    seconds: float = 0.0
    pause: float = 0.0
    acked: int = 0
    slowest: float = 0.0
    lost: int = 0


class Demo:
    def __init__(self, keep):
        self.keep = keep
        self.work = WorkDir(keep)
        self.host = Host("demo", self.work / "h", keep)
        self.agent = Agent(self.work / "agent", self.host.uri, keep=keep)
        self.manager = Manager(self.work / "manager", {"local": self.agent.address}, keep)
        self.cli = Cli(self.manager.address)
        self.guest = None
        self.rows = []

    def prepare(self):
        step("A host with its own libvirtd, a guest with two disks, agent and manager")
        build_guest()
        self.host.up()
        make_domain(self.host, "demo", self.work / "images", [Disk("256M"), Disk("256M")])
        self.agent.start()
        self.manager.start()
        self.guest = Guest(self.host, "demo")
        for disk in DISKS:
            self.guest.fill(disk, 64 * MIB, LAYER_MIB * MIB, seed=7)
            self.guest.start_stream(disk, pace_us=0)
        wait_for(lambda: self.cli("vm", "show", "demo", code=None).code == 0, 20,
                 "the manager knows the VM")
        say(self.cli("vm", "list").out.rstrip())
        say("The guest writes numbered blocks to both disks, without pause, from here to the end.")

    def snapshots(self):
        step("Three snapshots")
        for i, name in enumerate(["before-update", "after-update", "nightly"]):
            self.guest.wait_acked(200)
            self.cli("snapshot", "create", "demo", name)
            for disk in DISKS:  # rewritten in part in each layer
                self.guest.fill(disk, (64 + 12 * i) * MIB, LAYER_MIB * MIB, seed=8 + i)
        self.guest.wait_acked(200)
        say(self.cli("snapshot", "list", "demo").out.rstrip())

    def delete(self, what, *names):
        """Deletes, with the CLI's own progress on the terminal, and proves that nothing is lost."""
        step(f"Deleting {what}: {', '.join(names)}")
        row = Row(what)
        before = self.guest.acked()
        words = [program("livemerge"), "--connect", self.cli.address, "snapshot", "delete", "demo",
                 *names, "-y", "--json"]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, timeout=90)
        if done.returncode != 0:
            raise RuntimeError(f"livemerge exit {done.returncode}\n{done.stdout}\n{self.agent.tail()}")
        row.acked = self.guest.acked() - before
        self.fill_in(row, done.stdout)
        self.verify(row)
        self.rows.append(row)
        say(self.cli("snapshot", "list", "demo").out.rstrip())

    @staticmethod
    def fill_in(row, job_text):
        for disk in items(json.loads(job_text), "disks", "disk"):
            row.strategies.add(disk["strategy"])
            row.copied += disk["bytes_copied"]
            row.seconds = max(row.seconds, disk["seconds"])
            for pause in items(disk, "pauses", "pause"):
                row.pause = max(row.pause, pause["milliseconds"])

    def verify(self, row):
        """Stops the streams for a moment: what is acknowledged is then exactly known."""
        for disk in DISKS:
            stream = self.guest.stop_stream(disk)
            row.slowest = max(row.slowest, stream.longest_write)
            try:
                checked = verify_acked(self.host.leaf("demo", disk), stream, self.work.path, share=True)
                say(f"{disk}: {stream.acked} acknowledged writes in {checked} blocks, all there")
            except Lost as lost:
                say(str(lost))
                row.lost += lost.count
        for disk in DISKS:
            self.guest.resume_stream(disk, 0)

    def final_check(self):
        """The VM is switched off; what is left must be one clean file a disk with all the data."""
        step("Power off, and a last look at the images")
        leaves = {disk: self.host.chain("demo", disk) for disk in DISKS}
        for disk in DISKS:
            self.guest.stop_stream(disk)
            self.guest.compare(disk, 88 * MIB, LAYER_MIB * MIB, seed=10)
        self.host.virsh("destroy", "demo")
        for disk, chain in leaves.items():
            if len(chain) != 1:
                raise AssertionError(f"{disk} still has {len(chain)} volumes: {chain}")
            check_image(chain[-1])
            verify_acked(chain[-1], self.guest.streams[disk], self.work.path)
            say(f"{disk}: one volume, qemu-img check is content, every acknowledged write is there")
        left = [f.name for f in (self.work / "images").iterdir() if f.is_file()]
        if len(left) != len(DISKS):
            raise AssertionError(f"files were left behind: {left}")

    def summary(self):
        step("Summary")
        say(f"{'delete':<22}{'strategy':<16}{'moved':>10}{'seconds':>9}{'longest pause':>15}"
            f"{'writes acked':>14}{'slowest':>10}{'lost':>6}")
        for row in self.rows:
            say(f"{row.what:<22}{', '.join(sorted(row.strategies)):<16}{row.copied / 2**20:>6.1f} MiB"
                f"{row.seconds:>9.2f}{row.pause:>12.1f} ms{row.acked:>14}{row.slowest * 1000:>7.0f} ms"
                f"{row.lost:>6}")
        return sum(row.lost for row in self.rows)

    def stop(self):
        """Ends everything; returns what refused to go."""
        problems = []
        for daemon in (self.manager, self.agent):
            try:
                daemon.stop()
            except Exception as error:  # pylint: disable=broad-except
                problems.append(str(error))
        self.host.down()
        problems += leftovers(self.work.path)
        self.work.remove()
        if self.work.path.exists():
            problems.append(f"still there: {self.work.path}")
        return problems

    def leave(self):
        """KEEP=1: how to use what was left running, and how to end it."""
        stop = self.work / "stop"
        stop.write_text(f"""#!/bin/sh
# those that run now: somebody may have killed and started them
pkill -f '^[^ ]*/livemerge-(manager|agent) --config {self.work.path}/'
LVROOT={self.host.root} {REPO}/tests/lib/lvhost down demo purge
rm -rf {self.work.path}
""")
        stop.chmod(0o755)
        say(f"""
It is left running. The guest goes on writing. Try:

    export LIVEMERGE_CONNECT={self.manager.address}
    PATH=$PATH:{REPO}/build/src
    livemerge vm list
    livemerge snapshot create demo mine
    livemerge snapshot list demo
    livemerge snapshot delete demo mine
    virsh -c '{self.host.uri}' list

Kill what you like, and start it again:

    {program("livemerge-agent")} --config {self.agent.conf} >>{self.agent.log} 2>&1 &
    {program("livemerge-manager")} --config {self.manager.conf} >>{self.manager.log} 2>&1 &

Logs: {self.agent.log}, {self.manager.log}
To end it: {stop}""")


def show(demo):
    demo.prepare()
    demo.snapshots()
    demo.delete("internal", "before-update")
    demo.delete("next to the leaf", "nightly")
    demo.delete("the rest", "after-update")
    if not demo.keep:
        demo.final_check()
    return demo.summary()


def main():
    began = time.monotonic()
    demo = Demo(os.environ.get("KEEP", "") not in ("", "0"))
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(1))
    good = False
    problems = []
    try:
        good = show(demo) == 0
    except Exception as error:  # pylint: disable=broad-except
        say(f"\nThe demonstration failed: {error}\n\nThe agent's last words:\n{demo.agent.tail()}"
            f"\n\nThe manager's:\n{demo.manager.tail()}")
    finally:
        if good and demo.keep:
            demo.leave()
        else:
            problems = demo.stop()
    for problem in problems:
        say(problem)
    if good and not problems:
        say(f"\nNothing was lost. {time.monotonic() - began:.0f} seconds."
            + ("" if demo.keep else " Nothing is left running."))
    return 0 if good and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
