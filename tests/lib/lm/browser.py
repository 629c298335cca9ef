# SPDX-License-Identifier: LGPL-2.1-or-later
"""The web page in Debian's Chromium: scenarios of tests/browser/scenarios.mjs, which ask back for what is to be done to
the host."""

import json
import random
import shutil
import socket
import subprocess

from .util import BUILD, REPO

OUT = BUILD / "browser"


def missing():
    """Why there can be no browser test here; None = there can."""
    if not shutil.which("node"):
        return "no Node.js: the manager is built without its page"
    if not (REPO / "web/node_modules/playwright-core").exists():
        return "web/node_modules is missing: tools/install-web.sh"
    return None


def free_port():
    """One that stays free while a manager restarts: the kernel gives none of these to whoever asks for any, and to no
    connection that begins here, not even to one that looks for the manager itself."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port of a hundred between 20000 and 32000 is free")


class Browser:
    """One Chromium for several scenarios."""

    def __init__(self):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["node", str(REPO / "tests/browser/main.mjs"), str(OUT)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)

    def _say(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def play(self, scenario, args, deeds=None):
        """Plays it to its end and returns what it gives. deeds: {name: function} that it may ask for."""
        self._say({"scenario": scenario, "args": args})
        for line in self.process.stdout:
            told = json.loads(line)
            if "failed" in told:
                raise AssertionError(f"{scenario}: {told['failed']}")
            if "done" in told:
                return told["result"]
            self._say({"answer": deeds[told["ask"]](*told["args"])})
        raise AssertionError(f"{scenario}: the browser's program ended with {self.process.wait(10)}")

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
