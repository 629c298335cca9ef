# SPDX-License-Identifier: LGPL-2.1-or-later
"""Talks to the agent as the manager does, past the manager: for tests of what only the agent knows."""

import http.client
import json
import socket
import sqlite3
import uuid

from .util import PATIENCE, wait_for


class Wire:
    """The agent of a Site. Calls carry the manager's epoch, so the manager is not locked out."""

    def __init__(self, site):
        self.site = site

    def _epoch(self):
        with sqlite3.connect(f"file:{self.site.manager.directory}/state/manager.db?mode=ro", uri=True) as db:
            return db.execute("SELECT value FROM note WHERE name='epoch'").fetchone()[0]

    def __call__(self, method, path, body=None, status=200, timeout=30):
        timeout *= PATIENCE
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        try:
            connection.sock.connect(str(self.site.agent.socket))
            connection.request(method, f"/v1{path}", json.dumps(body) if body is not None else None,
                               {"Livemerge-Epoch": str(self._epoch()), "Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if status is not None and answer.status != status:
            raise AssertionError(f"{method} {path}: status {answer.status}, {status} was expected\n{text}")
        return json.loads(text) if text else None

    def restart_agent(self, faults=None):
        """Without the manager, which would end what it did not begin; site.mend() brings it back. The agent
        knows its VMs when this returns."""
        self.site.manager.stop()
        if self.site.agent.process is not None:
            self.site.agent.stop()
        self.site.agent.start(faults)
        wait_for(lambda: self("GET", "/vms")["vms"] is not None, 20, "the agent knows its VMs")

    def disk(self, vm, target="vda"):
        """The disk of a VM (tests' Vm), looked at afresh."""
        disks = self("GET", f"/vms/{vm.id}?fresh=1")["disks"]
        return next(disk for disk in disks if disk["target"] == target)

    def begin_merge(self, vm, base, top, strategy="auto", target="vda", **parameters):
        """Merges volumes base..top (numbers in the chain) of a disk; returns the operation's id."""
        disk = self.disk(vm, target)
        volumes = disk["volumes"]
        op = str(uuid.uuid4())
        self("POST", "/operations", {
            "id": op, "kind": "merge", "vm_id": vm.id, "disk_id": disk["id"], "base": volumes[base]["id"],
            "top": volumes[top]["id"], "strategy": strategy,
            "remove": [volume["id"] for volume in volumes[base:top]], **parameters})
        return op

    def operation(self, op):
        return self("GET", f"/operations/{op}")

    def wait_end(self, op, state="done", timeout=60):
        """The operation once it has ended in that state (None = any); acknowledged."""
        def ended():
            now = self.operation(op)
            return now if now["state"] != "running" else None

        try:
            last = wait_for(ended, timeout, f"operation {op} ends", every=0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.operation(op)}\n{self.site.logs()}") from None
        assert state in (None, last["state"]), f"{state} was expected:\n{last}\n{self.site.logs()}"
        self("POST", f"/operations/{op}/ack", {})
        return last

    def wait_attention(self, op, timeout=60):
        """Until the operation has paused itself; its text."""
        def attention():
            now = self.operation(op)
            assert now["state"] == "running", now
            return now.get("attention")

        found = wait_for(attention, timeout, f"operation {op} pauses", every=0.05)
        assert found["kind"] == "space", found
        return found["message"]
