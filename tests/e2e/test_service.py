# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd and its neighbours read of us, and what we tell systemd: units, the user and the directories that they
need, readiness, and who may open the sockets."""

import grp
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys

import pytest

from lm import BUILD, REPO, Agent, Manager, Rest, WorkDir, run, wait_for
from lm.programs import program

UNITS = ("livemerge-agent", "livemerge-manager")
NOBODY = pwd.getpwnam("nobody")
GROUP = "games"  # one that Debian has, and root is not in


@pytest.fixture
def work():
    directory = WorkDir()
    yield directory
    directory.remove()


# ---- what is installed

def unit_text(name):
    """As it is installed, but for the place of the programs: those that were built."""
    text = (BUILD / "packaging" / f"{name}.service").read_text()
    assert text.count("\nExecStart=") == 1
    return re.sub(r"(?<=\nExecStart=)\S*/", f"{program(name).rpartition('/')[0]}/", text)


@pytest.fixture
def units(work):
    paths = [work / f"{name}.service" for name in UNITS]
    for name, path in zip(UNITS, paths):
        path.write_text(unit_text(name))
    return paths


def test_units_are_right(units):
    done = run("systemd-analyze", "verify", "--man=no", *units)
    assert not done.stdout + done.stderr, done


@pytest.mark.parametrize("name,most", [("livemerge-agent", 50), ("livemerge-manager", 15)])
def test_units_are_confined(units, name, most):
    """The figure of systemd's own review, in tenths: 100 is a service without any rule."""
    done = run("systemd-analyze", "security", "--offline=true", f"--threshold={most}", units[UNITS.index(name)], check=False)
    assert done.returncode == 0, done.stdout


def test_units_say_when_they_are_ready():
    for name in UNITS:
        text = unit_text(name)
        for line in ("Type=notify", "Restart=always", "StateDirectoryMode=0700", "NoNewPrivileges=yes"):
            assert f"\n{line}\n" in text, f"{name}: {line}"
    assert "\nUser=livemerge\n" in unit_text("livemerge-manager")
    assert "\nKillMode=process\n" in unit_text("livemerge-agent"), "the storage daemon of a merge must outlive it"


def test_user_and_directories(work):
    """sysusers.d and tmpfiles.d, on a root directory of its own: the unit's user is there, and cannot remove the
    agent's socket out of the directory that both share."""
    root = work / "root"
    for kind in ("sysusers", "tmpfiles"):
        (root / f"usr/lib/{kind}.d").mkdir(parents=True)
        shutil.copy(REPO / f"packaging/systemd/livemerge.{kind}", root / f"usr/lib/{kind}.d/livemerge.conf")
    (root / "etc").mkdir()
    for name in ("passwd", "group"):
        (root / "etc" / name).write_text({"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n"}[name])
    run("systemd-sysusers", f"--root={root}")
    user = next(line.split(":") for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("livemerge:"))
    assert user[5] == "/var/lib/livemerge" and user[6].endswith("nologin") and 0 < int(user[2]) < 1000
    run("systemd-tmpfiles", "--create", "--prefix=/run/livemerge", "--prefix=/var/lib/livemerge", f"--root={root}")
    shared, state = (root / "run/livemerge").stat(), (root / "var/lib/livemerge").stat()
    assert shared.st_mode & 0o7777 == 0o1775 and (shared.st_uid, shared.st_gid) == (0, int(user[3]))
    assert state.st_mode & 0o7777 == 0o755 and state.st_uid == 0


def test_documents_are_whole(work):
    """What is installed leads to nothing that is not, and man(1) has nothing to complain of."""
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", work / "root")
    documents = list((work / "root").rglob("share/doc/livemerge/**/*.md"))
    assert "people.md" in [document.name for document in documents]
    for document in documents:
        for link in re.findall(r"\]\(([^)#]+)", document.read_text()):
            assert "://" in link or (document.parent / link).exists(), f"{document}: {link}"
    manual, = (work / "root").rglob("man1/livemerge.1")
    if shutil.which("man"):
        done = run("man", "--warnings", "-l", manual, env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
        assert not done.stderr, done.stderr
        assert "snapshot delete deletes snapshots" in done.stdout, done.stdout


# ---- systemd itself

class Machine:
    """A container that boots Debian's systemd into nothing but our two services: this machine's root directory, with
    what `make install` puts there above it, and a network of its own. What is written goes to memory."""

    def __init__(self, directory):
        self.directory, self.root = directory, directory / "root"
        self.process = self.leader = None
        for name in ("memory", "root"):
            (directory / name).mkdir()

    def up(self):
        memory = self.directory / "memory"
        run("mount", "-t", "tmpfs", "machine", memory)
        for name in ("upper", "work"):
            (memory / name).mkdir()
        run("mount", "-t", "overlay", "machine", "-o", f"lowerdir=/,upperdir={memory}/upper,workdir={memory}/work", self.root)
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", self.root)
        (self.root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")  # or it would enable all services
        (self.root / "etc/systemd/system/only-livemerge.target").write_text(
            "[Unit]\nRequires=sysinit.target dbus.socket\nAfter=sysinit.target\n"
            "Wants=livemerge-agent.service livemerge-manager.service\n")
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["systemd-nspawn", "--boot", "-D", self.root, "--register=no", "--keep-unit", "--private-network", "--quiet",
             f"--machine=lm-{os.getpid()}", "--console=pipe", "systemd.unit=only-livemerge.target"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # its children before that one set the container up, and are gone in a moment
        self.leader = wait_for(lambda: run("pgrep", "-x", "-P", self.process.pid, "systemd").stdout.split()[0], 30, "it begins")
        wait_for(lambda: self("systemctl", "is-system-running", check=False) in ("starting", "running", "degraded"), 60,
                 "systemd has booted")
        return self

    def __call__(self, *command, check=True):
        return run("nsenter", "-t", self.leader, "-m", "-p", "-n", "-i", "-u", *command, check=check).stdout.strip()

    def unit(self, name, *properties):
        text = self("systemctl", "show", *(f"-p{each}" for each in properties), name)
        return [dict(line.split("=", 1) for line in text.splitlines())[each] for each in properties]

    def wait_active(self, name):
        try:
            wait_for(lambda: self.unit(name, "ActiveState", "SubState") == ["active", "running"], 90, f"{name} is active")
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self('journalctl', '--no-pager', '-b', '-u', name, check=False)}") from None

    def down(self):
        if self.process is not None:
            self.process.terminate()  # as a power button
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for name in ("root", "memory"):
            run("umount", "-l", self.directory / name, check=False)


@pytest.fixture
def machine(work):
    one = Machine(work.path)
    try:
        try:
            one.up()
        except (RuntimeError, TimeoutError) as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        yield one
    finally:
        one.down()


def test_under_systemd(machine):
    """Both come up as they are installed, as their users and with all that their units forbid; they talk to each other,
    sign nobody in yet, come back when they are killed, and end when they are told to."""
    for name in UNITS:
        machine.wait_active(name)
        assert machine.unit(name, "NRestarts") == ["0"], machine("journalctl", "--no-pager", "-b", "-u", name)
    assert machine("stat", "-c", "%a %U %G", "/run/livemerge/manager.sock", "/run/livemerge/agent.sock").splitlines() == [
        "660 livemerge livemerge", "660 root livemerge"]
    pid, = machine.unit("livemerge-manager", "MainPID")
    assert machine("ps", "-o", "user=", "-p", pid) == "livemerge"
    assert "Listening on https://127.0.0.1:8443" in machine.unit("livemerge-manager", "StatusText")[0]
    assert "livemerge user passwd admin" in machine("journalctl", "--no-pager", "-b", "-u", "livemerge-manager")
    livemerge = "/usr/local/bin/livemerge"
    assert "admin" in machine(livemerge, "user", "list")
    api = ("curl", "-sS", "--unix-socket", "/run/livemerge/manager.sock", "-H", "Accept: application/json")
    wait_for(lambda: json.loads(machine(*api, "http://x/ovirt-engine/api/hosts"))["host"][0].get("status"), 60, "the host is known")
    assert machine("curl", "-sS", "--cacert", "/var/lib/livemerge/manager/ca.pem", "-o", "/dev/null", "-w", "%{http_code}",
                   "https://127.0.0.1:8443/ovirt-engine/api") == "401"
    for name in UNITS:
        machine("systemctl", "kill", "--kill-whom=main", "-sKILL", name)
        wait_for(lambda name=name: machine.unit(name, "NRestarts", "ActiveState") == ["1", "active"], 60, f"{name} is back")
    assert "admin" in wait_for(lambda: machine(livemerge, "user", "list"), 60, "the manager answers again")
    for name in reversed(UNITS):
        machine("systemctl", "stop", name)
        assert machine.unit(name, "ActiveState", "Result") == ["inactive", "success"]


# ---- readiness

class Notices:
    """The socket on which systemd waits for READY=1."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)
        self.environment = {"NOTIFY_SOCKET": str(path)}

    def next(self):
        return self.socket.recv(4096).decode().splitlines()

    def nothing_more(self):
        self.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.socket.recv(4096)


@pytest.fixture
def notices(work):
    one = Notices(work / "notify")
    yield one
    one.socket.close()


def make(work, kind):
    """One that has nobody to talk to: neither libvirt nor an agent is needed to be ready."""
    if kind == "agent":
        return Agent(work / kind, f"qemu+unix:///system?socket={work / 'nobody'}")
    return Manager(work / kind, {"A": f"unix:{work / 'nobody'}"})


@pytest.mark.parametrize("kind", ["agent", "manager"])
def test_ready_and_stopping(work, notices, kind):
    """READY comes when the socket can be connected to, not before; and STOPPING when it ends."""
    daemon = make(work, kind)
    daemon.launch(env=notices.environment)
    try:
        told = notices.next()
        assert "READY=1" in told
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(daemon.socket))
        if kind == "manager":
            status = next(line for line in told if line.startswith("STATUS="))
            port = int(re.search(r"http://127\.0\.0\.1:(\d+)", status)[1])
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
    finally:
        daemon.stop()
    assert notices.next() == ["STOPPING=1"]
    notices.nothing_more()


@pytest.mark.parametrize("kind", ["agent", "manager"])
def test_never_ready(work, notices, kind):
    """What cannot listen ends with a reason, and never says that it is ready."""
    daemon = make(work, kind)
    daemon.socket.mkdir()
    daemon.launch(env=notices.environment)
    assert daemon.wait_dead(20) == 1
    assert str(daemon.socket) in daemon.tail()
    notices.nothing_more()


def test_first_start_says_how_to_sign_in(work):
    manager = make(work, "manager").start()
    try:
        wait_for(lambda: "livemerge user passwd admin" in manager.log.read_text(), 10, "it says how to set the password")
        Rest(manager.socket).json("PUT", "/users/admin", {"password": "correct horse battery"})
        manager.restart()
        wait_for(lambda: b"listening on" in manager.log.read_bytes()[manager.log_from:], 10, "it listens")
        assert b"user passwd admin" not in manager.log.read_bytes()[manager.log_from:]
    finally:
        manager.stop()


# ---- the sockets

ASK = """
import http.client, socket, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])
one = Unix("localhost")
one.request(sys.argv[2], sys.argv[3], headers={"Accept": "application/json"})
print(one.getresponse().status)
"""


def ask_as(daemon, method, path, group=None):
    """The status that somebody gets who is not root; None = he may not even connect."""
    gid = NOBODY.pw_gid if group is None else grp.getgrnam(group).gr_gid
    done = subprocess.run(["setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={gid}", "--clear-groups", sys.executable, "-c", ASK,
                           str(daemon.socket), method, path], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode == 0:
        return int(done.stdout)
    assert "PermissionError" in done.stderr, done
    return None


def set_up(daemon, **options):
    """The configuration with these options of the daemon's own section in it."""
    text, section = daemon.conf.read_text(), f"[{daemon.name.removeprefix('livemerge-')}]\n"
    daemon.conf.write_text(text.replace(section, section + "".join(f"{k}={v}\n" for k, v in options.items())))
    daemon.directory.chmod(0o755)
    return daemon.start()


@pytest.mark.parametrize("kind,path", [("agent", "/v1/host"), ("manager", "/ovirt-engine/api/vms")])
def test_socket_of_a_group(work, kind, path):
    daemon = set_up(make(work, kind), group=GROUP)
    try:
        about = daemon.socket.stat()
        assert about.st_mode & 0o777 == 0o660 and (about.st_uid, about.st_gid) == (0, grp.getgrnam(GROUP).gr_gid)
        assert ask_as(daemon, "GET", path) is None
        assert ask_as(daemon, "GET", path, GROUP) is not None
    finally:
        daemon.stop()


@pytest.mark.parametrize("kind", ["agent", "manager"])
def test_socket_without_the_group(work, kind):
    """There is no such group on this machine: root alone, and it says so."""
    daemon = set_up(make(work, kind), group="nosuchgroup")
    try:
        assert daemon.socket.stat().st_mode & 0o777 == 0o600
        assert ask_as(daemon, "GET", "/", GROUP) is None
    finally:
        daemon.stop()


@pytest.mark.parametrize("role,read,write", [("viewer", 200, 403), ("administrator", 200, 200)])
def test_role_of_the_group(work, role, read, write):
    manager = set_up(make(work, "manager"), group=GROUP, group_role=role)
    try:
        Rest(manager.socket).json("POST", "/users", {"user_name": "eve", "role": "viewer"}, 201)
        assert ask_as(manager, "GET", "/ovirt-engine/api/vms", GROUP) == read
        assert ask_as(manager, "DELETE", "/ovirt-engine/api/users/eve", GROUP) == write
        told = Rest(manager.socket).json("GET", "/events?max=1")["event"][0]
        assert told["user"]["name"] == f"uid-{NOBODY.pw_uid}@local", json.dumps(told)
    finally:
        manager.stop()


def test_what_is_kept_is_for_the_daemon_alone(work):
    manager = make(work, "manager")
    manager.conf.write_text(manager.conf.read_text().replace("tls=no\n", ""))
    os.umask(0)  # and not because of the umask of who starts it
    manager.start()
    os.umask(0o022)
    try:
        state = manager.directory / "state"
        assert state.stat().st_mode & 0o777 == 0o700
        for path in state.iterdir():
            if path.name not in ("ca.pem", "cert.pem"):
                assert path.stat().st_mode & 0o077 == 0, path
    finally:
        manager.stop()
