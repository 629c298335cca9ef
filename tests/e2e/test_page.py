# SPDX-License-Identifier: LGPL-2.1-or-later
"""The web page in Chromium, against the real manager, agent and libvirtd (tests/browser has the scenarios)."""

import http.client
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from lm import REPO, Site, pattern_is, wait_for
from lm.browser import Browser, free_port, missing
from lm.manifest import edited_manifest
from lm.played import PlayedSite, vm_document

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


USER, PASSWORD = "pat", "a good long password"


@pytest.fixture(scope="module")
def site():
    """Its manager has the same port after a restart, as one on a real host."""
    whole = Site()
    whole.port = free_port()
    conf = whole.manager.conf.read_text().replace("127.0.0.1:0", f"127.0.0.1:{whole.port}")
    whole.manager.conf.write_text(conf)
    with whole:
        whole.rest.json("POST", "/users", {"user_name": USER, "role": "administrator", "password": PASSWORD}, status=201)
        yield whole


@pytest.fixture(scope="module")
def browser():
    one = Browser()
    yield one
    one.close()


def about(site, vm, **more):
    return {"url": f"http://127.0.0.1:{site.port}", "vm": vm.name, "id": vm.id, "directory": str(vm.directory),
            "user": USER, "password": PASSWORD, **more}


def fetch(site, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        connection.request(headers.pop("method", "GET"), path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_files(site):
    """Types, tags, packing and policy of what is served; and nothing else is."""
    status, headers, body = fetch(site, "/")
    assert status == 200 and body.startswith(b"<!doctype html>")
    assert headers["Content-Type"] == "text/html; charset=utf-8" and headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
    assert b"<script>" not in body and b"<style" not in body and b"://" not in body.replace(b"http://www.w3.org/", b"")
    assert fetch(site, "/", **{"If-None-Match": headers["ETag"]})[0] == 304
    scripts = [part.split(b'"')[0].decode() for part in body.split(b'src="')[1:]]
    early, script = scripts  # what asks for the first documents comes before what shows them, and is next to nothing
    assert early.startswith("/assets/early-") and len(fetch(site, early)[2]) < 2048
    sizes = {}
    for coding in ("identity", "gzip", "br", "br;q=0, gzip"):
        status, headers, packed = fetch(site, script, **{"Accept-Encoding": coding})
        assert status == 200 and headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert "immutable" in headers["Cache-Control"] and headers["Vary"] == "Accept-Encoding"
        sizes[coding] = (headers.get("Content-Encoding"), len(packed))
    assert [sizes[c][0] for c in sizes] == [None, "gzip", "br", "gzip"]
    assert sizes["br"][1] < sizes["gzip"][1] < 400 * 1024 < sizes["identity"][1]
    assert fetch(site, "/", method="POST")[0] == 405
    for nothing in (script + ".br", "/assets/../index.html", "/nothing"):  # the API's: it asks who one is first
        assert fetch(site, nothing)[0] == 401


def test_build_without_node(tmp_path):
    """It says so, and all else can be built."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("dirname", "realpath", "mkdir", "grep"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = subprocess.run([REPO / "tools/build-page.sh", tmp_path / "build"], env={"PATH": str(tools)}, capture_output=True, text=True,
                          check=True)
    assert "The web page is not built: there is no Node.js with npm. Everything else is." in done.stderr
    assert "<file" not in (tmp_path / "build/page/page.gresource.xml").read_text(encoding="utf-8")


def test_session(site, vm, browser):
    browser.play("session", about(site, vm(1).layers("first"), snapshot="first"), {
        "end sessions": lambda: site.rest.json("DELETE", f"/users/{USER}/sessions") and None})


def test_look(site, vm, browser):
    one = vm(2).layers("first")
    told = browser.play("look", about(site, one, snapshot="first"))
    print(told)


def test_create_plan_delete(site, vm, browser):
    one = vm(2, guest=True)
    for disk in ("vda", "vdb"):
        one.guest.fill(disk, 40 << 10, 4 << 10, seed=1)
        one.guest.start_stream(disk, pace_us=2000)
    one.snap("before update")
    one.guest.fill("vda", 40 << 10, 4 << 10, seed=2)
    one.snap("after update")
    one.guest.fill("vda", 40 << 10, 4 << 10, seed=3)
    one.snap("nightly")
    browser.play("life", about(site, one, snapshots=["before update", "after update", "nightly"]))
    assert one.names() == []
    assert one.power_off_and_verify() > 0


def test_cancel_by_keyboard(site, vm, browser):
    one = vm(1)
    for i, name in enumerate(("first", "second")):
        site.host.write(one.name, 0, "0", "32M", i + 1)
        one.snap(name)
    browser.play("cancel", about(site, one, snapshot="first"))
    assert one.names() == ["first", "second"]


def test_preview_undo_commit(site, vm, browser):
    running, one = vm(1), vm(1, start=False)
    running.snap("first")
    one.snap("first", "second")
    browser.play("back", about(site, one, running=running.id))
    assert one.names() == ["first"]
    site.host.virsh("start", one.name)
    one.wait_status("up")


def test_deeds(site, vm, browser):
    """Power, Restore, Mend and Import."""
    one = vm(1, start=False)
    one.snap("first", "second")
    deeds = {
        "start vm": lambda: site.host.virsh("start", one.name) and None,
        "snapshot from outside": lambda: site.host.virsh(
            "snapshot-create-as", one.name, "outside", "--disk-only", "--no-metadata") and None,
    }
    browser.play("deeds", about(site, one), deeds)
    assert one.names() == ["first", "outside"]


def test_users(site, vm, browser):
    one = vm(1, start=False)
    one.snap("first")
    browser.play("users", about(site, one))
    assert [u["name"] for u in site.rest.json("GET", "/users")["user"]] == ["admin", USER]


def test_clone_and_remove(site, vm, browser):
    one, off = vm(1), vm(1, start=False)
    site.host.write(one.name, 0, "0", "8M", 1)
    one.snap("first")
    off.snap("old")
    twin, stem = f"{off.name}-<b>twin&", f"{off.name}--b-twin-"  # files have no such letters
    try:
        browser.play("clones", about(site, one, snapshot="first", twin=twin, stem=stem, off={"id": off.id, "name": off.name}))
        names = site.host.virsh("list", "--all", "--name").split()
        assert twin in names and off.name not in names
        kept = list(one.directory.glob(f"{stem}-vda*"))
        assert len(kept) == 1 and pattern_is(kept[0], "0", "8M", 1), "the disk of the clone that was removed alone"
        assert [p.name for p in off.directory.iterdir() if p.is_file() and not p.name.startswith(f"{stem}-vda")] == []
    finally:
        site.host.remove(twin)


def test_by_keyboard_alone(site, vm, browser):
    one = vm(1, start=False)
    one.snap("first", "second")
    try:
        browser.play("keyboard", about(site, one, twin=f"{one.name}-twin"))
        assert one.names() == ["first", "second"]
    finally:
        site.host.remove(f"{one.name}-twin")


def test_trouble(site, vm, browser):
    one = vm(1).layers("first")
    for i, name in enumerate(("middle", "last")):
        site.host.write(one.name, 0, "8M", "24M", i + 1)
        one.snap(name)
    deeds = {
        "stop manager": site.manager.stop, "start manager": lambda: site.manager.start() and None,
        "stop agent": site.agent.stop,
        "start agent": lambda: site.agent.start() and site.wait_ready(),
        "take snapshot": lambda name: one.snap(name) and None, "remove vm": one.remove,
    }
    browser.play("trouble", about(site, one, snapshot="first", middle="middle"), deeds)


def test_greyed_under_the_focus(site, vm, browser):
    one = vm(1).layers("first")
    browser.play("greyedKeeps", about(site, one), {
        "stop agent": site.agent.stop, "start agent": lambda: site.agent.start() and site.wait_ready()})
    assert one.names() == ["first"]


def test_low_window(site, vm, browser):
    browser.play("low", about(site, vm(1).layers("first")))


def test_slow_network(site, vm, browser):
    one = vm(1).layers("first")
    browser.play("slow", about(site, one, snapshot="first"))
    assert one.names() == ["first"]


def deepen(site, one, count):
    """Snapshots up to that many, as if they had been taken one after another: that would take a minute. one is off and
    has two of them."""
    below, leaf = [Path(path) for path in one.chain()[-2:]]
    template = leaf.read_bytes()
    with edited_manifest(site, one) as vm:
        disk = vm["disks"][0]
        for i in range(len(vm["snapshots"]), count):
            last, path = vm["snapshots"][-1], leaf.with_name(f"{one.name}-vda.{i:08x}.qcow2")
            top = disk["volumes"][-1]
            path.write_bytes(template.replace(below.name.encode(), Path(top["path"]).name.encode()))
            vm["snapshots"].append({**last, "id": str(uuid.uuid4()), "name": f"layer {i:03}", "parent": last["id"],
                                    "disks": [{**last["disks"][0], "volume_id": top["id"]}]})
            disk["volumes"].append({**top, "id": str(uuid.uuid4()), "path": str(path)})
        xml = one.directory / "deeper.xml"
        xml.write_text(site.host.virsh("dumpxml", one.name).replace(str(leaf), disk["volumes"][-1]["path"]),
                       encoding="utf-8")
        site.host.virsh("define", str(xml))
        xml.unlink()
    wait_for(lambda: len(one.names()) == count, 20, f"VM {one.name} has {count} snapshots")


def test_real_chain_of_many_layers(site, vm, browser):
    """As deep as a chain may be: 200 volumes."""
    one, count = vm(1, start=False), 199
    one.snap("layer 000", "layer 001")
    deepen(site, one, count)
    told = browser.play("layers", about(site, one, first="layer 000", count=count))
    print(told)
    site.cli("doctor", one.name)
    assert len(one.chain()) == count + 1


def test_many(browser):
    """A real manager that is told of a thousand VMs."""
    count = 1000
    many = PlayedSite([vm_document(i, 15 if i == 7 else min(i, 1 + i % 5), "up" if i % 3 else "down", "machine-")
                       for i in range(count)])
    try:
        told = browser.play("scale", {"url": many.url, "user": many.user, "password": many.password, "count": count})
        print(told)
    finally:
        many.close()
