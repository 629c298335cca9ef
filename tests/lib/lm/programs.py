# SPDX-License-Identifier: LGPL-2.1-or-later
"""The three programs as built: agent and manager as daemons of a test, the CLI, and plain REST."""

import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .util import BUILD, PATIENCE, wait_for

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def program(name):
    path = BUILD / "src" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not built; run make")
    return str(path)


class Daemon:
    """A program that listens on a unix socket in its directory. May be killed and started again."""

    name = None

    def __init__(self, directory, keep=False):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.socket = self.directory / "socket"
        self.conf = self.directory / "conf"
        self.log = self.directory / "log"
        self.keep = keep
        self.log_from = 0  # where the log of this life begins
        self.process = None

    @property
    def address(self):
        return f"unix:{self.socket}"

    @property
    def program(self):
        return program(self.name)

    def start(self, faults=None, env=None):
        """Starts it and waits until it answers. faults: e.g. "agent.merge.before-start=die@1"."""
        self.launch(faults, env)
        wait_for(self._answers_or_died, 20, f"{self.name} listens on {self.socket}")
        return self

    def launch(self, faults=None, env=None):
        """Starts it without waiting."""
        assert self.process is None, f"{self.name} runs already"
        environment = {**os.environ, "LIVEMERGE_DEBUG": "1"}
        environment.pop("NOTIFY_SOCKET", None)
        environment.update(env or {})
        if faults:
            environment["LIVEMERGE_FAULTS"] = faults
        with open(self.log, "ab") as log:
            self.log_from = log.tell()
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [program(self.name), "--config", str(self.conf)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=environment, start_new_session=True,
                preexec_fn=None if self.keep else _die_with_parent)

    def _answers_or_died(self):
        if self.process.poll() is not None:
            code, self.process = self.process.returncode, None
            raise SystemExit(f"{self.name} ended with {code}:\n{self.tail()}")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.socket))
        return True

    @property
    def pid(self):
        return self.process.pid

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def wait_dead(self, timeout=60):
        """Waits until it died (of a fault point)."""
        timeout *= PATIENCE
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} did not die in {timeout} s:\n{self.tail()}") from None
        self.process = None
        return code

    def kill9(self):
        self.process.kill()
        return self.wait_dead(10)

    def stop(self, timeout=10):
        """SIGTERM; returns how many seconds it took to end, and fails if it did not end cleanly."""
        if self.process is None:
            return 0.0
        began = time.monotonic()
        self.process.terminate()
        try:
            code = self.wait_dead(timeout)
        except TimeoutError:
            self.kill9()
            raise
        if code != 0:
            raise AssertionError(f"{self.name} ended with {code} after SIGTERM:\n{self.tail()}")
        return time.monotonic() - began

    def restart(self, faults=None):
        self.stop()
        return self.start(faults)

    def tail(self, lines=30):
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"


class Agent(Daemon):
    """storage: {name: directory}; every disk of a test lies below one of them."""

    name = "livemerge-agent"

    def __init__(self, directory, libvirt_uri, storage=None, keep=False):
        super().__init__(directory, keep)
        domains = "".join(f"\n[storage {name}]\npath={path}\n" for name, path in (storage or {}).items())
        self.conf.write_text(f"[agent]\nstate_dir={self.directory}/state\nlisten={self.address}\n"
                             f"\n[libvirt]\nuri={libvirt_uri}\n{domains}")


class Manager(Daemon):
    """hosts: {name: address of the agent}."""

    name = "livemerge-manager"

    def __init__(self, directory, hosts, keep=False):
        super().__init__(directory, keep)
        agents = "".join(f"\n[host {name}]\naddress={address}\n" for name, address in hosts.items())
        self.conf.write_text(f"[manager]\nstate_dir={self.directory}/state\nlisten=127.0.0.1:0\n"
                             f"tls=no\nsocket={self.socket}\n{agents}")

    @property
    def port(self):
        """Of the TCP address of its present life; it is logged a moment after the local socket answers."""
        def said():
            log = self.log.read_bytes()[self.log_from:].decode()
            return re.search(r"listening on https?://\S+?:(\d+) ", log)

        return int(wait_for(said, 10, "the manager says its port")[1])


def lasting(document):
    """Of a VM, all but the times that a manager knows of what it saw itself, and how large its files were when the
    agent looked last: what the guest writes is told by no event, so that any look may find more."""
    kept = {name: value for name, value in document.items() if name not in ("creation_time", "stop_time")}
    return kept | {"chain_bytes": int(document["chain_bytes"]) > 0}


def items(document, *names):
    """Members of a collection inside a document: items(job, "disks", "disk"). They stand one level
    deeper ({"disks": {"disk": [...]}}), as in oVirt's JSON."""
    for name in names:
        document = document.get(name, {}) if isinstance(document, dict) else document
    return document or []


@dataclass
class Result:
    """How a run of the CLI ended."""
    command: str
    code: int
    out: str
    err: str

    @property
    def json(self):
        try:
            return json.loads(self.out)
        except json.JSONDecodeError as error:
            raise AssertionError(f"{self.command}: not JSON ({error}):\n{self.out}\n{self.err}") from None

    def __str__(self):
        out = self.out if len(self.out) < 1500 else self.out[:1500] + "...\n"
        return f"{self.command}: exit {self.code}\n{self.err}{out}"


class Cli:
    """livemerge --connect ADDRESS ..."""

    def __init__(self, address):
        self.address = address

    def __call__(self, *args, timeout=90, code=0):
        """Runs it; fails unless it exits with that code (None = any)."""
        words = [program("livemerge"), "--connect", self.address, *(str(a) for a in args)]
        timeout *= PATIENCE
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False,
                                  stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as late:
            raise TimeoutError(f"livemerge {' '.join(words[3:])} did not end in {timeout} s; "
                               f"it said {late.stdout!r} {late.stderr!r}") from None
        result = Result("livemerge " + " ".join(words[3:]), done.returncode, done.stdout, done.stderr)
        if code is not None and result.code != code:
            raise AssertionError(f"exit {code} was expected\n{result}")
        return result

    def json(self, *args, **options):
        return self(*args, "--json", **options).json

    def spawn(self, *args, **options):
        """Starts it and does not wait; returns the process."""
        words = [program("livemerge"), "--connect", self.address, *(str(a) for a in args)]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, text=True,
                                preexec_fn=_die_with_parent,
                                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout * PATIENCE)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Rest:
    """Plain requests to the manager's local socket."""

    prefix = "/ovirt-engine/api"

    def __init__(self, socket_path):
        self.socket_path = socket_path

    def __call__(self, method, path, body=None, accept="application/json", content_type=None,
                 headers=None, timeout=30):
        """Returns (status, headers, body as text). path: below /ovirt-engine/api, or from the root
        if it begins with //. A dict as body is sent as JSON."""
        if isinstance(body, dict):
            body, content_type = json.dumps(body), "application/json"
        connection = _UnixConnection(self.socket_path, timeout)
        try:
            connection.request(method, path[1:] if path.startswith("//") else self.prefix + path, body,
                               {"Accept": accept, **({"Content-Type": content_type} if content_type else {}),
                                **(headers or {})})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def first_line(self, path, accept, timeout=30):
        """Status, headers and the first line of an answer that has no end."""
        connection = _UnixConnection(self.socket_path, timeout)
        try:
            connection.request("GET", self.prefix + path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.readline().decode()
        finally:
            connection.close()

    def json(self, method, path, body=None, status=200, **options):
        got, _, text = self(method, path, body, **options)
        if got != status:
            raise AssertionError(f"{method} {path}: status {got}, {status} was expected\n{text}")
        return json.loads(text) if text else None
