# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a careless or hostile client may send; and full disks under the daemons' own files."""

import os
import re
import socket
from pathlib import Path

import pytest

from lm import Agent, Cli, Disk, Manager, pattern_is, qemu_img, run, wait_for
from lm.host import LVHOST
from lm.played import PlayedSite, vm_document
from lm.programs import program

NIL = "00000000-0000-0000-0000-000000000000"
JSON = "application/json"
XML = "application/xml"


@pytest.fixture(scope="module")
def still(site):
    one = site.vm("still")
    one.layers("s1", "s2")
    yield one
    one.remove()


def deep_xml(levels):
    return "<a>" * levels + "</a>" * levels


def deep_json(levels):
    return '{"a":' * levels + "1" + "}" * levels


BILLION_LAUGHS = """<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>
<snapshot><description>&b;&b;&b;</description></snapshot>"""
EXTERNAL = """<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<snapshot><description>&a;</description></snapshot>"""

BODIES = [  # name, content type, body, wanted status
    ("json-cut-off", JSON, '{"description": "x"', 400),
    ("json-rubbish", JSON, "\x00\x01\x02", 400),
    ("json-array", JSON, "[1,2]", 400),
    ("json-deep", JSON, deep_json(10000), 400),
    ("json-no-name", JSON, "{}", 400),
    ("json-empty-name", JSON, '{"description": ""}', 400),
    ("json-control-character", JSON, '{"description": "a\\u0007b"}', 400),
    ("json-nul", JSON, '{"description": "a\\u0000b"}', 400),
    ("json-4k-name", JSON, '{"description": "%s"}' % ("x" * 4096), 400),
    ("json-twice", JSON, '{"description": "a"} {"description": "b"}', 400),
    ("xml-cut-off", XML, "<snapshot><description>x", 400),
    ("xml-rubbish", XML, "<<<>>>", 400),
    ("xml-other-root", XML, "<vm><name>x</name></vm>", 400),
    ("xml-entities", XML, BILLION_LAUGHS, 400),
    ("xml-external-entity", XML, EXTERNAL, 400),
    ("xml-deep", XML, deep_xml(10000), 400),
    ("too-large", JSON, '{"description": "%s"}' % ("x" * (2 << 20)), 413),
    ("other-type", "text/plain", "description=x", 415),
    ("unknown-disk", JSON, '{"description": "x", "disk_attachments": {"disk_attachment": [{"disk": {"id": "%s"}}]}}' % NIL, 400),
]


@pytest.mark.parametrize("content_type,body,status", [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_bad_body(site, still, content_type, body, status):
    before = (still.snapshots(), still.files())
    got, _, text = site.rest("POST", f"/vms/{still.id}/snapshots", body, content_type=content_type)
    assert got == status, text
    assert "detail" in text or "reason" in text, f"no fault was told: {text!r}"
    assert "root:" not in text, "a file of the machine was shown"
    assert (still.snapshots(), still.files()) == before


@pytest.mark.parametrize("method,path,status", [
    ("GET", f"/vms/{NIL}", 404), ("GET", "/vms/None", 404), ("GET", "/vms/..%2f..%2fetc", 404),
    ("GET", f"/vms/{NIL}/snapshots", 404), ("GET", "/nosuch", 404), ("GET", "//nosuch", 404),
    ("DELETE", f"/vms/{NIL}/snapshots/{NIL}", 404), ("POST", f"/vms/{NIL}/snapshots", 404),
    ("PATCH", "/vms", 405), ("DELETE", "/vms", 405), ("PUT", "/jobs", 405),
    ("GET", f"/jobs/{NIL}", 404), ("GET", "/events/999999", 404), ("GET", "/events/x", 404),
    ("GET", "/vms?search=nosuchfield%3D1", 400), ("GET", "/vms?max=x", 400), ("GET", "/events?from=-x", 400),
    ("GET", "/vms/" + "x" * 5000, (400, 404, 414)),
])
def test_bad_path(site, method, path, status):
    got, _, text = site.rest(method, path, '{"description": "x"}' if method == "POST" else None,
                             content_type=JSON if method == "POST" else None)
    assert got in (status if isinstance(status, tuple) else (status,)), text


def test_follow_that_multiplies():
    """Each VM with all VMs of its host, of its cluster: refused before it takes the memory, not after."""
    many = PlayedSite([vm_document(number, 10) for number in range(200)])
    try:
        for path, wanted in (("/vms?follow=snapshots.disks,disk_attachments.disk", 200), ("/vms?follow=host.vms", 400),
                             ("/vms?follow=cluster.hosts.vms", 400), ("/disks?follow=vms.host.vms", 400)):
            got, _, text = many.rest("GET", path, timeout=60)
            assert got == wanted, text[:500]
            assert wanted == 200 or "ask for less" in text
        status = Path(f"/proc/{many.manager.pid}/status").read_text(encoding="utf-8")
        assert int(re.search(r"VmHWM:\s+(\d+)", status)[1]) < 400 << 10, status
    finally:
        many.close()


def test_snapshot_named_none(site, still):
    """Ansible asks it before every create."""
    assert site.rest("GET", f"/vms/{still.id}/snapshots/None")[0] == 404


@pytest.mark.parametrize("body", [
    {"snapshots": {"snapshot": []}}, {"snapshots": {"snapshot": [{"id": NIL}]}}, {"snapshots": 3}, {},
    {"snapshots": {"snapshot": [{"name": "s1"}]}},
])
def test_bad_set_to_delete(site, still, body):
    got, _, text = site.rest("POST", f"/vms/{still.id}/removesnapshots", body)
    assert got == 400, text
    assert still.names() == ["s1", "s2"]


@pytest.mark.parametrize("extra", [{"strategy": "magic"}, {"bandwidth": -1}, {"bandwidth": "x"}, {"strategy": 3},
                                   {"disk": {"id": NIL}}])
def test_bad_way_to_delete(site, still, extra):
    body = {"snapshots": {"snapshot": [{"id": still.snapshots()["s1"]["id"]}]}, **extra}
    got, _, text = site.rest("POST", f"/vms/{still.id}/removesnapshots", body)
    assert got == 400, text
    assert still.names() == ["s1", "s2"]


RAW = [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"A" * 100000,
       b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
       b"POST /ovirt-engine/api/vms HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
       b"POST /ovirt-engine/api/vms HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"]


@pytest.mark.parametrize("data", RAW, ids=range(len(RAW)))
@pytest.mark.parametrize("daemon", ["agent", "manager"])
def test_not_http(site, daemon, data):
    """Whatever comes, the daemon goes on."""
    one = getattr(site, daemon)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)  # it may wait for more
        sock.connect(str(one.socket))
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError:
            pass
    assert one.runs()
    assert site.rest("GET", "")[0] == 200


# ---- a second daemon on the same state

def second(daemon, kind, *args):
    """Starts another one with the first one's state directory, and returns what it said."""
    other = kind(daemon.directory.parent / f"second-{daemon.directory.name}", *args)
    text = daemon.conf.read_text().replace(str(daemon.socket), str(other.socket))
    other.conf.write_text(text)
    other.launch()
    try:
        code = other.wait_dead(10)
    finally:
        if other.process is not None:
            other.kill9()
    return code, other.tail()


def test_second_agent(site):
    code, said = second(site.agent, Agent, site.host.uri)
    assert code == 1 and str(site.agent.directory / "state") in said, said
    assert str(site.agent.pid) in said, f"who holds it was not told: {said}"
    site.wait_ready()


def test_second_manager(site):
    code, said = second(site.manager, Manager, {"A": site.agent.address})
    assert code == 1 and str(site.manager.directory / "state") in said, said
    assert site.rest("GET", "")[0] == 200


@pytest.mark.parametrize("daemon", ["agent", "manager"])
@pytest.mark.parametrize("text,told", [
    ("[agnet]\nx=1\n", "agnet"), ("[{group}]\nstate_dri=/x\n", "state_dri"),
    ("rubbish", "rubbish"), ("[{group}]\nlisten=1.2.3.4:99999999\n", "listen"),
    ("[people]\npassword=ldap\n", "people"),
])
def test_bad_configuration(site, daemon, text, told):
    conf = site.work / "bad.conf"
    conf.write_text(text.replace("{group}", daemon))
    done = run(program(f"livemerge-{daemon}"), "--config", conf, "--check-config", check=False, timeout=10)
    assert done.returncode == 2 or done.returncode == 1
    assert told in done.stderr, done.stderr


@pytest.mark.parametrize("daemon,text,told", [
    ("agent", "[agent]\nstate_dir=var\n", "[agent] state_dir: 'var' is no absolute path"),
    ("agent", "[agent]\nlisten=127.0.0.1:99999\n", "[agent] listen: '127.0.0.1:99999'"),
    ("agent", "[agent]\nlisten=unix:run\n", "[agent] listen: 'unix:run'"),
    ("manager", "[host a]\naddress=unix:/x\n[host b]\naddress=unix:/x\n", "[host b] address: 'unix:/x' is that of host 'a'"),
    ("manager", "[host a]\naddress=https://x:1\nca=/nowhere/ca.pem\n", "[host a] ca: /nowhere/ca.pem: No such file"),
    ("manager", "[manager]\ntls_cert=/nowhere/c.pem\ntls_key=/nowhere/k.pem\n", "[manager] tls_cert: /nowhere/c.pem: No such file"),
])
def test_configuration_that_would_not_start(site, daemon, text, told):
    """What would keep the daemon from starting, or would make it see each VM twice, is told by the check."""
    conf = site.work / "bad.conf"
    conf.write_text(text)
    done = run(program(f"livemerge-{daemon}"), "--config", conf, "--check-config", check=False, timeout=10)
    assert done.returncode == 1 and told in done.stderr, done


@pytest.mark.parametrize("daemon", ["agent", "manager"])
def test_check_config_of_a_good_one(site, daemon):
    one = getattr(site, daemon)
    run(program(one.name), "--config", one.conf, "--check-config", timeout=10)


# ---- a full disk under the daemons' own files

@pytest.fixture
def small_state(site):
    """A tiny file system for a state directory."""
    path = site.work / "tiny"
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=600k", "tiny", path)
    yield path
    run("umount", "-l", path)
    path.rmdir()


def fill_up(path):
    with open(path / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 512)
        except OSError:
            pass


@pytest.mark.parametrize("daemon", ["agent", "manager"])
def test_full_state_directory(site, vm, small_state, daemon):
    """Neither daemon begins what it cannot write down; with room again it works. Uses a pair of its
    own, on the same libvirtd, while the site's own stands still."""
    one = vm().layers("s1", "s2")
    for each in (site.manager, site.agent):
        each.stop()
    agent = Agent(site.work / "a2", site.host.uri)
    manager = Manager(site.work / "m2", {"A": agent.address})
    full = agent if daemon == "agent" else manager
    full.conf.write_text(full.conf.read_text().replace(f"state_dir={full.directory}/state", f"state_dir={small_state}"))
    try:
        agent.start()
        manager.start()
        cli = Cli(manager.address)
        wait_for(lambda: one.name in cli("vm", "list").out and
                 cli("snapshot", "list", one.name).out.count("s1") == 1, 20, "the VM is known")
        fill_up(small_state)
        before = (one.files(), one.chain())
        failed = None
        for i in range(200):  # SQLite may have room in its files for a while
            result = cli("snapshot", "rename", one.name, "s1", f"s1-{i}", "--timeout", "3", code=None)
            if result.code != 0:
                failed = result
                break
            cli("snapshot", "rename", one.name, f"s1-{i}", "s1", code=None)
        assert failed is not None, "it never noticed that the disk is full"
        assert (one.files(), one.chain()) == before
        (small_state / "ballast").unlink()
        wait_for(lambda: cli("snapshot", "create", one.name, "after", code=None).code == 0, 40, "it works again")
    finally:
        for each in (manager, agent):
            if each.process is not None:
                each.kill9()
        for each in (site.agent, site.manager):
            each.start()
        site.wait_ready()


def test_full_disk_under_the_manifest(site, vm):
    """A delete without room is refused, waits or fails; the VM and its data are as they
    were, and with room again the delete is done."""
    path = site.work / "full"
    path.mkdir()
    image = site.work / "full.img"
    run("truncate", "-s", "40M", image)
    run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    run("mount", "-o", "loop", image, path)
    env = {**os.environ, "LVROOT": str(site.host.root)}
    device = run("findmnt", "-n", "-o", "SOURCE", path).stdout.strip()
    run(LVHOST, "exec", site.host.name, "mount", device, path, env=env)
    try:
        qemu_img("create", "-q", "-f", "qcow2", path / "a.qcow2", "16M")
        one = vm([Disk(path=str(path / "a.qcow2"))])
        one.layers("s1", "s2")
        fill_up(path)
        client = site.cli.spawn("snapshot", "delete", one.name, "s1", "-y", "--timeout", "6")
        client.communicate(timeout=60)
        assert client.returncode in (0, 1, 4, 5)
        for i in range(3):
            assert pattern_is(one.chain()[-1], f"{i}M", "1M", i + 1, share=True)
        (path / "ballast").unlink()
        if "s1" in one.names():
            wait_for(lambda: "s1" not in one.names() or
                     site.cli("snapshot", "delete", one.name, "s1", "-y", code=None).code == 0, 60, "it is done at last")
        assert one.names() == ["s2"] and len(one.chain()) == 2
        for i in range(3):
            assert pattern_is(one.chain()[-1], f"{i}M", "1M", i + 1, share=True)
        one.remove()
    finally:
        run(LVHOST, "exec", site.host.name, "umount", "-l", path, env=env, check=False)
        run("umount", "-l", path)
