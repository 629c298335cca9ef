# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small things: where the build is, running commands, waiting for something to be true."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("LM_BUILD", REPO / "build"))
GUEST = REPO / "build" / "guest"
# Limits are written for a quiet machine, and a test passes as soon as what it waits for is there: they only say how late a
# failure is told. So a machine that is busy and several times as slow gets so many times as long.
PATIENCE = 4


def run(*command, check=True, timeout=120, **options):
    """Runs a command and returns what it finished as, text captured. With check, a failure is an
    error that shows what the command said."""
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout * PATIENCE,
                          check=False, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_for(predicate, timeout, what, every=0.02):
    """Calls predicate() until it returns something true, which is returned. Exceptions of the
    predicate count as "not yet". what: "VM x is up", for the message of the failure, or what makes it then."""
    timeout *= PATIENCE
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            last = predicate()
            if last:
                return last
        except Exception as error:  # pylint: disable=broad-except
            last = error
        if time.monotonic() >= end:
            words = what() if callable(what) else what
            raise TimeoutError(f"waited {timeout} s in vain until {words}; last seen: {last!r}")
        time.sleep(every)


def threads_of(pid):
    """What the threads of a process wait for in the kernel, a line each."""
    lines = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        try:
            name = (task / "comm").read_text(encoding="utf-8").strip()
            state = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            lines.append(f"  {task.name} {name}: {state} {(task / 'wchan').read_text(encoding='utf-8')} "
                         f"syscall {(task / 'syscall').read_text(encoding='utf-8').split()[0]}")
        except OSError:
            pass
    return "\n".join(lines)


def leftovers(path):
    """What still runs or is mounted below a directory, as lines; processes are killed."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(entry.parent.name)
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(path) in command and pid != os.getpid():
                found.append(f"still running: {pid} {command}")
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    return found + [f"still mounted: {line}" for line in mounts if str(path) in line]


class WorkDir:
    """A directory that goes away at the end. Under /var/tmp: QEMU's cache=none needs a real file
    system, and the path is short because sockets lie in it."""

    def __init__(self, keep=False):
        self.path = Path(tempfile.mkdtemp(prefix="lm-", dir="/var/tmp"))
        self.path.chmod(0o711)
        self.keep = keep

    def __truediv__(self, name):
        return self.path / name

    def remove(self):
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)
