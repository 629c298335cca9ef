# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host with a libvirtd of its own (tests/lib/lvhost), and domains on it."""

import json
import os
import subprocess
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from .util import GUEST, REPO, run, wait_for

LVHOST = REPO / "tests" / "lib" / "lvhost"


def qemu_img(*args, check=True):
    return run("qemu-img", *args, check=check)


class Host:
    """Starts down. Dies with this process, unless keep is given."""

    def __init__(self, name, root, keep=False):
        self.name = name
        self.root = Path(root)
        self.keep = keep
        self.guard = None   # the agent (programs.Agent) whose start guard libvirt asks; None = no guard
        self._leash = None  # lvhost ends the host when the other end of this pipe is gone

    @property
    def directory(self):
        return self.root / self.name

    @property
    def uri(self):
        return f"qemu+unix:///system?socket={self.directory}/run/libvirt/libvirt-sock"

    def _lvhost(self, *args, stdin=subprocess.DEVNULL, **env):
        return run(LVHOST, args[0], self.name, *args[1:], stdin=stdin,
                   env={**os.environ, "LVROOT": str(self.root), **env}).stdout.strip()

    def up(self):
        """Boots the host; after down() this is a boot after a power loss."""
        guard = {} if self.guard is None else {"LVGUARD": self.guard.program,
                                               "LVGUARDCONF": str(self.guard.conf)}
        if self.keep:
            self._lvhost("up", **guard)
            return self
        reading, self._leash = os.pipe()
        try:
            self._lvhost("up", stdin=reading, LVWATCH="1", **guard)
        finally:
            os.close(reading)
        return self

    def down(self, purge=True):
        """Power loss: libvirtd and every QEMU die at once."""
        self._lvhost("down", *(["purge"] if purge else []))
        if self._leash is not None:
            os.close(self._leash)
            self._leash = None

    def start(self):
        self._lvhost("start")

    def stop(self):
        self._lvhost("stop")

    def kill9(self):
        """Kills libvirtd; the QEMUs live on. start() brings it back."""
        self._lvhost("kill9")

    def libvirtd_pid(self):
        return int(self._lvhost("lpid"))

    def qemu_pid(self, vm):
        return int(self._lvhost("qpid", vm))

    def run_path(self, name):
        """Where a file that the host sees as /run/NAME is seen from outside."""
        return self.directory / "run" / name

    def virsh(self, *args, check=True, timeout=60):
        done = run("virsh", "-q", "-c", self.uri, *args, check=check, timeout=timeout)
        return done.stdout.strip()

    def hmp(self, vm, command):
        """A command for QEMU's human monitor."""
        return self.virsh("qemu-monitor-command", vm, "--hmp", command)

    def write(self, vm, disk_number, offset, length, pattern):
        """Writes to a disk past the guest, and flushes, so that the file shows it; works on a
        running and a paused VM. Offset and length as qemu-io wants them ("1M"), pattern 0 to 255."""
        disk = f"qemu-io -d /machine/peripheral/virtio-disk{disk_number}/virtio-backend"
        for command in (f"write -P {pattern} {offset} {length}", "flush"):
            out = self.hmp(vm, f'{disk} "{command}"')
            if "rror" in out:
                raise RuntimeError(f"{command} on disk {disk_number} of {vm}: {out}")

    def state(self, vm):
        return self.virsh("domstate", vm)

    def xml(self, vm, inactive=False):
        return ET.fromstring(self.virsh("dumpxml", vm, *(["--inactive"] if inactive else [])))

    def leaf(self, vm, target, inactive=False):
        """The file that the VM writes, as libvirt knows it."""
        for disk in self.xml(vm, inactive).findall("devices/disk"):
            if disk.find("target").get("dev") == target:
                source = disk.find("source")
                return source.get("file") or source.get("dev")
        raise KeyError(f"VM {vm} has no disk {target}")

    def chain(self, vm, target, inactive=False):
        """Files from base to leaf, by the headers."""
        return image_chain(self.leaf(vm, target, inactive))

    def remove(self, vm):
        """Ends and forgets a VM, whatever state it is in."""
        self.virsh("destroy", vm, check=False)
        self.virsh("undefine", vm, "--managed-save", "--snapshots-metadata",
                   "--checkpoints-metadata", check=False)


def image_chain(leaf):
    """Files from base to leaf, by the qcow2 headers."""
    info = json.loads(qemu_img("info", "-U", "--backing-chain", "--output=json", leaf).stdout)
    return [layer["filename"] for layer in reversed(info)]


def flip_data(path, guest_mib):
    """Other data at a place of the guest's disk, in one volume."""
    rows = json.loads(qemu_img("map", "-U", "--output=json", path).stdout)
    row = next(row for row in rows if row["start"] <= guest_mib << 20 < row["start"] + row["length"])
    assert row["data"] and row["depth"] == 0, row
    with open(path, "r+b") as file:
        file.seek(row["offset"] + (guest_mib << 20) - row["start"] + 4096)
        file.write(b"something else")


@dataclass
class Disk:
    """A disk of make_domain(). With neither path nor xml a file DIRECTORY/NAME-TARGET.FORMAT of
    that size is made."""
    size: str = "64M"
    format: str = "qcow2"
    path: str = None       # exists already
    xml: str = None        # the whole <disk> instead
    error_policy: str = "stop"

    def to_xml(self, target):
        if self.xml is not None:
            return self.xml
        kind, attribute = ("block", "dev") if str(self.path).startswith("/dev/") else ("file", "file")
        return f"""<disk type='{kind}' device='disk'>
 <driver name='qemu' type='{self.format}' cache='none' error_policy='{self.error_policy}' discard='unmap'/>
 <source {attribute}='{self.path}'/><target dev='{target}' bus='virtio'/></disk>"""


def ext4_disk(directory):
    """A disk with a file system on it, for a guest with agentfs=vda."""
    directory = Path(directory)
    directory.mkdir(parents=True)
    raw = directory / "fs.raw"
    run("truncate", "-s", "32M", raw)
    run("mkfs.ext4", "-q", "-F", raw)
    qemu_img("convert", "-O", "qcow2", raw, directory / "fs.qcow2")
    raw.unlink()
    return Disk(path=str(directory / "fs.qcow2"))


AGENT_CHANNEL = """<controller type='virtio-serial'/>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""


def monitor_xml(name):
    """A second monitor of QEMU at /run/NAME.qmp of the host (qmp.py), which libvirt knows nothing of."""
    return f"""<commandline xmlns="http://libvirt.org/schemas/domain/qemu/1.0">
<arg value='-qmp'/><arg value='unix:/run/{name}.qmp,server=on,wait=off'/></commandline>"""


# What a boot in an emulated processor spends a third of its time with, for nothing.
LEFT_OUT = "cryptomgr.notests initcall_blacklist=init_kprobe_trace,load_system_certificate_list"


def domain_xml(name, disks, *, guest=True, memory=None, cmdline="", agent=False, monitor=False, vm_id=None):
    """XML of a domain. guest: boots our writer, which listens on /run/NAME.serial of the host; without,
    the VM has nothing to boot and is there for its disks alone."""
    disk_xml = "\n".join(disk.to_xml(f"vd{chr(ord('a') + i)}") for i, disk in enumerate(disks))
    boot = serial = ""
    if guest:
        boot = f"""<kernel>{GUEST}/linux</kernel><initrd>{GUEST}/initrd</initrd>
<cmdline>console=ttyS0 rdinit=/init quiet mitigations=off nokaslr {LEFT_OUT} {cmdline}</cmdline>"""
        serial = f"""<serial type='unix'><source mode='bind' path='/run/{name}.serial'/>
<log file='/run/{name}.log' append='on'/></serial>"""
    return f"""<domain type='qemu'><name>{name}</name><uuid>{vm_id or uuid.uuid4()}</uuid>
<memory unit='MiB'>{memory or (96 if guest else 32)}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os>
<features><acpi/></features><on_poweroff>destroy</on_poweroff>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
{disk_xml}
<controller type='usb' model='none'/><memballoon model='none'/>
{serial}{AGENT_CHANNEL if agent else ""}
</devices>{monitor_xml(name) if monitor else ""}</domain>"""


def make_domain(host, name, directory, disks=1, *, start=True, paused=False, **options):
    """Makes the disks (a number, or a list of Disk) in the directory, defines the domain, and
    starts it unless told not to. Returns the VM's id. Further options as for domain_xml()."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if isinstance(disks, int):
        disks = [Disk() for _ in range(disks)]
    for i, disk in enumerate(disks):
        if disk.path is None and disk.xml is None:
            disk.path = str(directory / f"{name}-vd{chr(ord('a') + i)}.{disk.format}")
            qemu_img("create", "-q", "-f", disk.format, disk.path, disk.size)
    file = directory / f".{name}.xml"
    file.write_text(domain_xml(name, disks, **options))
    host.virsh("define", str(file))
    file.unlink()
    if start:
        host.virsh("start", name, *(["--paused"] if paused else []))
        wait_for(lambda: host.state(name) == ("paused" if paused else "running"), 20, f"VM {name} runs")
    return host.virsh("domuuid", name)
