# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many requests the manager answers, how late, and what memory it takes: 100 VMs with 10 snapshots each, asked
for by wrk on loopback, with TLS and without; and what 1,000 open streams of events cost. The manager is the real
one; its agent is played here, since nothing of what is measured asks it for anything."""

import json
import os
import re
import resource
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from idle import resident_mib
from lm.played import PlayedSite, vm_document
from rig import Figure, say

VMS = 100
SNAPSHOTS = 10
STREAMS = 1000
API = "/ovirt-engine/api"
SECONDS = 8
MILLION = 1_000_000


class Stand(PlayedSite):
    """With what wrk and others need to ask it."""

    def __init__(self, tls):
        super().__init__([vm_document(number, SNAPSHOTS) for number in range(VMS)], tls)
        self.vms = [vm["id"] for vm in self.agent.vms]
        self.ca = self.work / "manager/state/ca.pem"
        self.context = ssl.create_default_context(cafile=str(self.ca)) if tls else None
        self.token = self.sign_in()

    def sign_in(self, password=PlayedSite.password):
        """A token; None: refused."""
        form = urllib.parse.urlencode({"grant_type": "password", "scope": "ovirt-app-api", "username": self.user,
                                       "password": password})
        try:
            with urllib.request.urlopen(f"{self.url}/ovirt-engine/sso/oauth/token", form.encode(), timeout=60,
                                        context=self.context) as answer:
                return json.load(answer)["access_token"]
        except urllib.error.HTTPError:
            return None

    def cpu(self):
        """Seconds of a processor that the manager has used."""
        fields = Path(f"/proc/{self.manager.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(stand, path, connections, seconds=SECONDS, headers=()):
    """(requests, requests a second, p99 in ms)"""
    url = stand.url + API + path
    words = ["wrk", "--latency", "-t", "1", "-c", str(connections), "-d", f"{seconds}s"]
    for header in (f"Authorization: Bearer {stand.token}", *headers):
        words += ["-H", header]
    out = subprocess.run([*words, url], capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", out)
    if bad:
        raise AssertionError(f"{url}: {bad[0]}")
    late, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", out).groups()
    return (int(re.search(r"(\d+) requests in", out)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
            float(late) * {"us": 0.001, "ms": 1, "s": 1000}[unit])


def one_vm(stand, how):
    used = stand.cpu()
    requests, rate, late = wrk(stand, f"/vms/{stand.vms[7]}", 50)
    per_core = requests / (stand.cpu() - used)
    say(f"  vms/ID, {how}: {rate:.0f} requests a second, {per_core:.0f} for each second of a processor, p99 {late:.1f} ms")
    return Figure(f"GET vms/ID, {how}, 50 connections, requests a second a core", per_core, "/s", ">= 5000 /s",
                  per_core >= 5000)


def all_vms(stand, how):
    """Packed, as browsers and oVirt's SDK ask for it. For who wants it as it is, 370 KB a request, the memory of the
    machine and AES on both sides are the limit: told, without a target of its own."""
    ask = ["Accept: application/json"]
    _, rate, late = wrk(stand, "/vms", 50, headers=ask)
    say(f"  vms, {how}, not packed: {rate:.0f} requests a second, p99 {late:.1f} ms")
    _, rate, late = wrk(stand, "/vms", 50, headers=[*ask, "Accept-Encoding: gzip"])
    say(f"  vms, {how}, gzip: {rate:.0f} requests a second, p99 {late:.1f} ms")
    return Figure(f"GET vms ({VMS} VMs), {how}, gzip, 50 connections, p99", late, "ms", "< 20 ms", late < 20)


def at_rest_mib(pid):
    """Resident memory, once it has given back what a rush took: that is done a second after the last answer."""
    size = resident_mib(pid)
    while True:
        time.sleep(2)
        before, size = size, resident_mib(pid)
        if size > before - 0.1:
            return size


def a_million(stand):
    """Resident memory after that many requests, and by how much the last half has added to it."""
    paths = [f"/vms/{vm}?follow=snapshots&n={at}" for at, vm in enumerate(stand.vms[:5])]
    done, half, at = 0, None, 0
    while done < MILLION:
        done += wrk(stand, paths[at % len(paths)] if at % 16 else "/vms", 50, seconds=5)[0]
        at += 1
        if half is None and done >= MILLION / 2:
            half = at_rest_mib(stand.manager.pid)
    size = at_rest_mib(stand.manager.pid)
    say(f"  {done} requests: {size:.1f} MiB, at half of them {half:.1f} MiB")
    return [Figure("livemerge-manager, resident, after a million requests", size, "MiB", "< 100 MiB", size < 100),
            Figure("livemerge-manager, growth in the second half of them", size - half, "MiB", "< 2 MiB", size - half < 2)]


def sign_ins(stand):
    """What others notice of eight clients that do nothing but sign in."""
    over, done = threading.Event(), []

    def keep_signing_in():
        while not over.is_set():
            done.append(stand.sign_in())

    threads = [threading.Thread(target=keep_signing_in) for _ in range(8)]
    path = f"/vms/{stand.vms[7]}"
    _, alone, _ = wrk(stand, path, 10)
    for thread in threads:
        thread.start()
    _, rate, late = wrk(stand, path, 10)
    over.set()
    for thread in threads:
        thread.join()
    good = sum(token is not None for token in done)
    say(f"  {good} of {len(done)} sign-ins meanwhile: {rate:.0f} requests a second, {alone:.0f} without, p99 {late:.1f} ms")
    return Figure("GET vms/ID while 8 clients sign in all the time, p99", late, "ms", "< 50 ms", late < 50 and good > 0)


def open_stream(stand):
    port = int(stand.url.rsplit(":", 1)[1])
    sock = socket.create_connection(("127.0.0.1", port))
    if stand.context is not None:
        sock = stand.context.wrap_socket(sock, server_hostname="127.0.0.1")
    sock.sendall(f"GET {API}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
                 f"Authorization: Bearer {stand.token}\r\n\r\n".encode())
    return sock


def streams(stand, how):
    """All are told of something, and what they cost while they are open."""
    before = resident_mib(stand.manager.pid)
    opened = [open_stream(stand) for _ in range(STREAMS)]
    for sock in opened:
        sock.settimeout(20)
        text = b""
        while b"event: open" not in text:
            text += sock.recv(4096)
    stand.rest.json("POST", f"/vms/{stand.vms[0]}/snapshots", {"description": "x", "persist_memorystate": False},
                    status=201)
    for sock in opened:
        text = b""
        while b"event: event" not in text:
            text += sock.recv(4096)
    took = resident_mib(stand.manager.pid) - before
    threads = len(os.listdir(f"/proc/{stand.manager.pid}/task"))
    say(f"  {STREAMS} streams, {how}: {took:.1f} MiB, {threads} threads in all")
    for sock in opened:
        sock.close()
    return Figure(f"{STREAMS} open streams of events, {how}, memory", took, "MiB", "< 64 MiB", took < 64)


def api(_rig):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    figures = []
    for how, tls in (("plain", False), ("TLS", True)):
        stand = Stand(tls)
        try:
            # the streams first: what later answers have used and given back would hide what they cost
            figures += [streams(stand, how), one_vm(stand, how), all_vms(stand, how)]
            if not tls:
                figures += [sign_ins(stand), *a_million(stand)]
        finally:
            stand.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return figures


if __name__ == "__main__":
    for figure in api(None):
        say(figure)
