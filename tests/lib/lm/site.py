# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole installation for tests: private host, agent, manager, and VMs with snapshots."""

import contextlib
import os
import re
import shutil
import subprocess
import types

from .guest import Guest, build_guest, check_image, verify_acked
from .host import Host, make_domain
from .programs import Agent, Cli, Manager, Rest, items
from .util import BUILD, WorkDir, leftovers, run, threads_of, wait_for


MKFS = {"xfs": ["-m", "reflink=1"], "btrfs": [], "ext4": ["-m", "0"]}


def pattern_is(image, offset, length, pattern, share=False):
    """Does the image (with its backing chain) hold this byte pattern there?"""
    out = run("qemu-io", "-r", *(["-U"] if share else []), "-f", "qcow2", "-c",
              f"read -P {pattern} {offset} {length}", image, check=False)
    return out.returncode == 0 and "failed" not in out.stdout + out.stderr


class Site:
    """Everything of one test module lies below one directory, self.work. With a file system ("xfs",
    "btrfs", "ext4") the volumes lie on one of that kind and size, on a loop device. beside: {directory in self.work:
    kind} of further ones."""

    def __init__(self, file_system=None, size="2G", beside=None):
        build_guest()
        self.work = WorkDir()
        self.size = size
        self.file_systems = {**({"v": file_system} if file_system else {}), **(beside or {})}
        self.host = Host("A", self.work / "h")
        self.agent = Agent(self.work / "agent", self.host.uri)
        if os.environ.get("LM_GUARD", "1") == "1":  # 0: libvirt asks nobody before it starts a VM
            self.host.guard = self.agent
        self.manager = Manager(self.work / "manager", {"A": self.agent.address})
        self.cli = Cli(self.manager.address)
        self.rest = Rest(self.manager.socket)
        self.vms = []

    def up(self):
        for name, kind in self.file_systems.items():
            self._mount(name, kind)
        self.host.up()
        self.agent.start()
        self.manager.start()
        self.wait_ready()
        return self

    def down(self):
        """Ends all, and fails if a daemon did not end cleanly."""
        problems = []
        for daemon in (self.manager, self.agent):
            try:
                daemon.stop()
            except (AssertionError, TimeoutError) as error:
                problems.append(str(error))
        self.host.down()
        if self.file_systems:
            problems += [line for line in leftovers(self.work.path) if "mounted" not in line]
        for name in self.file_systems:
            self._unmount(self.work / name)
        problems += leftovers(self.work.path)
        self.work.remove()
        assert not problems, "\n".join(problems)

    def __enter__(self):
        try:
            return self.up()
        except BaseException:
            self.down()
            raise

    def __exit__(self, *_why):
        self.down()

    def _mount(self, name, kind):
        image, where = self.work / f"{name}.img", self.work / name
        where.mkdir()
        run("truncate", "-s", self.size, image)
        run(f"mkfs.{kind}", "-q", *MKFS[kind], image)
        run("mount", "-o", "loop", image, where)

    @staticmethod
    def _unmount(where):
        """A process that was just killed may hold it for a moment."""
        wait_for(lambda: not where.is_mount() or run("umount", where), 10, f"{where} is not in use any more")

    def wait_ready(self):
        """Until the manager has an agent that has a libvirtd."""
        wait_for(lambda: items(self.rest.json("GET", "/hosts"), "host")[0]["status"] == "up", 20,
                 lambda: f"host A is up; the agent said:\n{self.agent.tail()}\n{self._threads()}")

    def _threads(self):
        """Of who could hold up the others; and whether libvirtd answers."""
        pids = {"agent": self.agent.pid, "manager": self.manager.pid}
        if self._libvirtd_runs():
            pids["libvirtd"] = self.host.libvirtd_pid()
        try:
            answer = self.host.virsh("list", "--all", timeout=5)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            answer = str(error)
        return "\n".join([*(f"{name} {pid}:\n{threads_of(pid)}" for name, pid in pids.items()), "virsh list:", answer])

    def mend(self):
        """After a test that killed something: all three run again, without fault points."""
        if not self._libvirtd_runs():
            self.host.start()
        for daemon in (self.agent, self.manager):
            if daemon.process is not None and daemon.process.poll() is not None:
                daemon.process = None
            if daemon.process is None:
                daemon.start()
        self.wait_ready()

    def _libvirtd_runs(self):
        try:
            return bool(self.host.libvirtd_pid())
        except RuntimeError:
            return False

    def vm(self, name, disks=1, directory=None, **options):
        """A new VM in a directory of its own; the manager knows it when this returns. Without a
        guest it has nothing to boot and is quick. Options as for make_domain()."""
        vm = Vm(self, name)
        if directory is not None:
            vm.directory = directory
        self.vms.append(vm)
        options.setdefault("guest", False)
        vm.id = make_domain(self.host, name, vm.directory, disks, **options)
        wanted = "down" if not options.get("start", True) else "paused" if options.get("paused") else "up"
        vm.wait_status(wanted)
        if options["guest"] and wanted == "up":
            vm.guest = Guest(self.host, name)
        return vm

    def logs(self):
        return (f"--- agent ({self.agent.log})\n{self.agent.tail(60)}\n"
                f"--- manager ({self.manager.log})\n{self.manager.tail(60)}")

    def keep_logs(self, test):
        """Where the logs lie when the site is gone: a directory for each test that failed."""
        kept = BUILD / "failed" / re.sub(r"[^\w.-]+", "_", test)
        kept.mkdir(parents=True, exist_ok=True)
        libvirtd = self.host.directory / "log" / "libvirtd.log"
        for name, log in (("agent", self.agent.log), ("manager", self.manager.log), ("libvirtd", libvirtd)):
            if log.exists():
                shutil.copyfile(log, kept / f"{name}.log")
        return kept


class Vm:
    """A VM under test."""

    def __init__(self, site, name):
        self.site = site
        self.name = name
        self.id = None
        self.directory = site.work / "v" / name
        self.guest = None

    # ---- what the manager says

    def document(self):
        """From the collection, as somebody who does not know the id would find it."""
        for vm in items(self.site.rest.json("GET", "/vms"), "vm"):
            if vm["name"] == self.name:
                return vm
        return None

    def wait_status(self, status, timeout=10):
        def has_it():
            document = self.document()
            return document is not None and document["status"] == status

        try:
            return wait_for(has_it, timeout, f"the manager shows VM {self.name} as {status}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.document()}") from None

    def snapshots(self):
        """{name: document} of the regular snapshots, oldest first."""
        listed = items(self.site.cli.json("snapshot", "list", self.name), "snapshot")
        return {s["description"]: s for s in listed if s["snapshot_type"] == "regular"}

    def names(self):
        return list(self.snapshots())

    def active(self):
        listed = items(self.site.cli.json("snapshot", "list", self.name), "snapshot")
        found = [s for s in listed if s["snapshot_type"] == "active"]
        assert len(found) == 1, f"one active snapshot was expected: {listed}"
        return found[0]

    # ---- deeds

    def virsh_start(self, check=False):
        """virsh starts it; what it says, of a refusal too."""
        return run("virsh", "-q", "-c", self.site.host.uri, "start", self.name, check=check)

    def snap(self, *names, options=()):
        for name in names:
            self.site.cli("snapshot", "create", self.name, name, *options)
        return self

    def layers(self, *names, disks=1):
        """Snapshots, each after another MiB was written: MiB i of each disk holds pattern i+1, up
        to one more in the leaf."""
        for i, name in enumerate(names):
            self._write_layer(i, disks)
            self.snap(name)
        self._write_layer(len(names), disks)
        return self

    def _write_layer(self, i, disks):
        for disk in range(disks):
            self.site.host.write(self.name, disk, f"{i}M", "1M", i + 1)

    def delete(self, *names, options=(), code=0, timeout=90):
        """Deletes and waits; returns the job's document (of a failed one too)."""
        done = self.site.cli("snapshot", "delete", self.name, *names, "-y", "--json", *options,
                             code=code, timeout=timeout)
        return done.json if code in (0, 1) and done.out else done

    def begin_delete(self, *names, options=()):
        """Begins it; returns the job's id."""
        return self.site.cli("snapshot", "delete", self.name, *names, "-y", "--no-wait", "--json",
                             *options).json["id"]

    def job(self, job_id):
        return self.site.rest.json("GET", f"/jobs/{job_id}")

    def wait_job(self, job_id, status="finished", timeout=60):
        """Waits until the job ended as said."""
        def ended():
            return self.job(job_id)["status"] != "started"

        try:
            wait_for(ended, timeout, f"job {job_id} of VM {self.name} ends", every=0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.job(job_id)}\n{self.site.logs()}") from None
        job = self.job(job_id)
        assert job["status"] == status, f"{status} was expected:\n{job}\n{self.site.logs()}"
        return job

    # ---- what is true below

    def chain(self, target="vda"):
        """File names of the chain, base first, as libvirt and the headers say."""
        return self.site.host.chain(self.name, target)

    def files(self):
        """Every file of the VM's directory, sorted."""
        return sorted(str(f) for f in self.directory.iterdir() if f.is_file())

    def expect_layers(self, count, disks=1):
        """The content that layers() wrote with count-1 snapshots is all there; and what is on disk is
        just the chains. For a VM that runs or not; the images are checked when it does not."""
        running = self.site.host.state(self.name) != "shut off"
        wanted = set()
        for disk in range(disks):
            chain = self.chain(f"vd{chr(ord('a') + disk)}")
            wanted.update(chain)
            for i in range(count):
                assert pattern_is(chain[-1], f"{i}M", "1M", i + 1, share=running), \
                    f"{chain[-1]}: MiB {i} is not what was written"
            if not running:
                for path in chain:
                    check_image(path)
        assert set(self.files()) == wanted, f"files beside the chains: {set(self.files()) ^ wanted}"

    def power_off_and_verify(self, leaks=False):
        """Ends the guest's streams, then the VM; every acknowledged write must be in the images,
        which must be clean, and nothing else may lie in the directory. Returns how many writes
        were acknowledged."""
        streams = self.guest.streams
        for disk, stream in streams.items():
            if stream.running:
                self.guest.stop_stream(disk)
        if self.site.host.state(self.name) != "shut off":
            self.site.host.virsh("destroy", self.name)
        wanted = set()
        for disk, stream in streams.items():
            chain = self.chain(disk)
            wanted.update(chain)
            for path in chain:
                check_image(path, leaks)
            verify_acked(chain[-1], stream, self.site.work.path)
        assert wanted <= set(self.files()), f"chain outside of {self.directory}: {wanted}"
        left = [f for f in set(self.files()) - wanted if not re.search(r"\.(xml|iso)$", f)]
        assert not left, f"files beside the chains: {left}"
        return self.guest.acked()

    def remove(self):
        if self.guest is not None:
            self.guest.close()
        self.site.host.remove(self.name)
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def two_hosts():
    """A site with a second host, B, which has the same directories and an agent: site.other.host, site.other.agent."""
    whole = Site()
    other = types.SimpleNamespace(host=Host("B", whole.work / "h2"), agent=None)
    other.agent = Agent(whole.work / "agent2", other.host.uri)
    other.host.guard = other.agent
    whole.other = other
    Manager(whole.manager.directory, {"A": whole.agent.address, "B": other.agent.address})  # its configuration
    try:
        other.host.up()
        other.agent.start()
        yield whole.up()
    finally:
        other.agent.stop()
        other.host.down()
        whole.down()
