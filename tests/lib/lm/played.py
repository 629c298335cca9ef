# SPDX-License-Identifier: LGPL-2.1-or-later
"""An agent that is only played: it tells a real manager of many VMs, and does nothing."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

from .programs import Manager, Rest, items
from .util import WorkDir, wait_for


def vm_document(number, snapshots=10, state="up", name="web"):
    """As the agent tells of it."""
    vm = f"{number:08x}-0000-4000-8000-000000000000"

    def identity(kind, at):
        return f"{number:08x}-{kind:04x}-4000-8000-{at:012x}"

    volumes = [{"id": identity(1, at), "path": f"/srv/images/{name}{number}.{at}.qcow2", "format": "qcow2",
                "virtual_size": 10 << 30, "allocated": (at + 1) << 20} for at in range(snapshots + 1)]
    taken = [{"id": identity(2, at), "name": f"nightly {at}", "date": 1700000000000 + at * 86400000,
              "disks": [{"disk_id": identity(3, 0), "volume_id": identity(1, at)}]} for at in range(snapshots)]
    return {"id": vm, "name": f"{name}{number}", "state": state, "memory": 2 << 30, "vcpus": 2,
            **({"instance": f"{number}:1"} if state == "up" else {}),
            "disks": [{"id": identity(3, 0), "target": "vda", "volumes": volumes}], "snapshots": taken}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass

    def address_string(self):
        return "manager"

    def _events(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        while not self.server.over.is_set():
            self.wfile.write(b'{"event":"alive"}\n')
            self.wfile.flush()
            self.server.over.wait(10)
        self.close_connection = True

    def do_GET(self):  # pylint: disable=invalid-name
        path = self.path.split("?")[0]
        if path == "/v1/events":
            self._events()
            return
        vms = self.server.vms
        answers = {"/v1/hello": {"name": "played", "version": "0", "agent_id": "a" * 8 + "-0000-4000-8000-" + "0" * 12,
                                 "connected": True},
                   "/v1/vms": {"vms": vms}, "/v1/operations": {"operations": []}}
        one = next((vm for vm in vms if path == f"/v1/vms/{vm['id']}"), None)
        body = json.dumps(answers.get(path, one)).encode()
        self.send_response(200 if body != b"null" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class PlayedAgent(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens at once, on a unix socket, until it is closed."""

    daemon_threads = True

    def __init__(self, path, vms):
        super().__init__(str(path), _Handler)
        self.vms = vms
        self.over = threading.Event()
        self.address = f"unix:{path}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.over.set()
        self.shutdown()
        self.server_close()


class PlayedSite:
    """A real manager that listens on loopback and was told of these VMs, and one user of it, an administrator."""

    user, password = "pat", "correct horse battery"

    def __init__(self, vms, tls=False):
        self.work = WorkDir()
        self.agent = PlayedAgent(self.work / "agent", vms)
        self.manager = Manager(self.work / "manager", {"A": self.agent.address})
        try:
            if tls:
                self.manager.conf.write_text(self.manager.conf.read_text().replace("tls=no", "tls=yes"))
            self.manager.start()
            self.rest = Rest(self.manager.socket)
            running = sum(vm["state"] == "up" for vm in vms)
            wait_for(lambda: len(items(self.rest.json("GET", "/vms?search=status%3Dup"), "vm")) == running and
                     len(items(self.rest.json("GET", "/vms"), "vm")) == len(vms), 20, "the manager knows all VMs")
            self.rest.json("POST", "/users", {"user_name": self.user, "role": "administrator", "password": self.password},
                           status=201)
            self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.manager.port}"
        except BaseException:
            self.close()
            raise

    def close(self):
        self.agent.over.set()
        self.manager.stop()
        self.agent.close()
        self.work.remove()
