# SPDX-License-Identifier: LGPL-2.1-or-later
"""oVirt's clients: libgovirt itself, and the Python SDK and the Ansible collection as they were seen on the wire
(headers, bodies, order, polls). What their modules read is looked at, in XML as they read it."""

import os
import re
import subprocess
import xml.etree.ElementTree as ET

import pytest

from lm.display import give_display
from lm.util import BUILD, wait_for

GOVIRT = BUILD / "tests" / "clients" / "govirt_client"


def tcp_port(site):
    return re.findall(r"listening on http://127\.0\.0\.1:(\d+)", site.manager.log.read_text())[-1]


def test_libgovirt(site, vm):
    one = vm(start=False)
    give_display(site, one)
    site.rest.json("POST", "/users", {"user_name": "viewer@internal", "role": "administrator"}, 201)
    site.rest.json("PUT", "/users/viewer", {"password": "correct horse battery"})
    done = subprocess.run([GOVIRT, f"127.0.0.1:{tcp_port(site)}", one.name], capture_output=True, text=True, timeout=60,
                          check=False, env={**os.environ, "GOVIRT_DISABLE_HTTPS": "1",
                                             "LM_USER": "viewer@internal", "LM_PASSWORD": "correct horse battery"})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.split("\n")
    assert [line for line in lines if line.startswith("state")] == ["state down", "state up", "state down"]
    _, address, port, ticket, expiry = next(line for line in lines if line.startswith("display")).split()
    assert address == "127.0.0.1" and int(port) >= 5900 and len(ticket) == 8 and expiry == "120"


def test_ticket_is_the_displays_password(site, vm):
    one = vm(start=False)
    give_display(site, one)
    assert "display" in site.rest.json("POST", f"/vms/{one.id}/ticket", {}, status=409)["fault"]["detail"]
    site.cli("vm", "start", one.name)
    console = site.rest.json("GET", f"/vms/{one.id}/graphicsconsoles")["graphics_console"][0]
    assert console["id"] == "766e63" and console["protocol"] == "vnc" and console["port"] >= 5900
    site.rest.json("POST", f"/vms/{one.id}/ticket", {"ticket": {"value": "sesame12", "expiry": 60}})
    graphics = site.host.virsh("dumpxml", one.name, "--security-info")
    assert "passwd='sesame12'" in graphics and "passwdValidTo='20" in graphics
    file = site.rest.json("POST", console["href"].replace(site.rest.prefix, "") + "/remoteviewerconnectionfile", {})
    text = file["remote_viewer_connection_file"]
    assert text.startswith("[virt-viewer]\n") and f"port={console['port']}\n" in text
    site.rest.json("POST", f"/vms/{one.id}/ticket", {"ticket": {"value": "longer than eight"}}, status=400)


# ---- the SDK's requests

class Sdk:
    """As ovirtsdk4 sends them: XML, its headers, and its rules for status codes and content types."""

    HEADERS = {"Version": "4", "User-Agent": "PythonSDK/4.6.3"}

    def __init__(self, site):
        self.site = site

    def __call__(self, method, path, body=None, headers=None):
        status, got, text = self.site.rest(method, path, body, accept="application/xml",
                                           content_type="application/xml", headers={**self.HEADERS, **(headers or {})})
        assert re.match(r"^(application|text)/xml(;.*)?$", got.get("Content-Type", "")), got
        good = (200,) if method != "POST" else (200, 201, 202)
        if status not in good:
            raise SdkError(status, ET.fromstring(text))
        return ET.fromstring(text)

    def vm_by_name(self, name, all_content="false"):
        found = self("GET", f"/vms?all_content={all_content}&search=name%3D%22{name}%22")
        assert found.tag == "vms"
        return found.find("vm")

    def poll(self, path, tag, wanted):
        """Ansible's wait: the first look at once, and an object that is there must stay there."""
        return wait_for(lambda: self("GET", path).find(tag).text == wanted, 60, f"{path}: {tag} is {wanted}")


class SdkError(Exception):
    def __init__(self, status, fault):
        assert fault.tag in ("fault", "action")
        fault = fault.find("fault") if fault.tag == "action" else fault
        assert fault.find("reason").text
        super().__init__(f"{status}: {fault.find('detail').text}")
        self.status = status


@pytest.fixture
def sdk(site):
    return Sdk(site)


def test_ansible_vm(sdk, vm):
    """ovirt_vm: running, again running (nothing to do), stopped; ovirt_vm_info."""
    one = vm(start=False)
    found = sdk.vm_by_name(one.name, all_content="true")
    href = f"/vms/{found.get('id')}"
    assert found.find("status").text == "down"
    cluster = found.find("cluster")
    assert sdk("GET", f"/clusters/{cluster.get('id')}").find("name").text == "Default"
    for _ in range(2):
        assert sdk("GET", href + "/numanodes").tag == "vm_numa_nodes"
    assert found.find("cpu/topology/cores").text and found.find("os/boot/devices/device").text == "hd"
    for absent in ("instance_type", "lease", "quota"):
        assert found.find(absent) is None, "it would be followed"
    action = sdk("POST", href + "/start", "<action/>")
    assert action.find("status").text == "complete" and action.find("job").get("id")
    sdk.poll(href, "status", "up")
    assert sdk("GET", href).find("host").get("id")
    with pytest.raises(SdkError) as refused:
        sdk("POST", href + "/start", "<action/>")
    assert refused.value.status == 409
    sdk("POST", href + "/stop", "<action><force>true</force></action>")
    sdk.poll(href, "status", "down")
    info = sdk("GET", f"/vms?all_content=false&case_sensitive=true&follow=&search=name%3D{one.name}&max=5")
    assert [each.find("name").text for each in info] == [one.name]


def test_ansible_snapshot(sdk, vm):
    """ovirt_snapshot: present, info, absent, and absent of what is not there."""
    one = vm()
    href = f"/vms/{sdk.vm_by_name(one.name).get('id')}/snapshots"
    with pytest.raises(SdkError) as missing:
        sdk("GET", href + "/None")
    assert missing.value.status == 404
    made = sdk("POST", href, "<snapshot><description>s</description>"
                             "<persist_memorystate>false</persist_memorystate></snapshot>")
    path = f"{href}/{made.get('id')}"
    assert made.find("snapshot_status").text in ("locked", "ok") and made.find("snapshot_type").text == "regular"
    sdk.poll(path, "snapshot_status", "ok")
    listed = sdk("GET", href + "?follow=")
    assert [each.find("description").text for each in listed] == ["Active VM", "s"]
    assert listed[1].find("vm/name").text == one.name and listed[1].find("date").text.endswith("Z")
    assert listed[0].find("vm") is None
    assert sdk("DELETE", path + "?async=true").tag == "action"

    def is_gone():
        try:
            sdk("GET", path)
        except SdkError as error:
            return error.status == 404
        return False

    wait_for(is_gone, 60, "the snapshot is gone")
    assert [each.find("snapshot_type").text for each in sdk("GET", href)] == ["active"]


def test_ansible_infos(sdk, vm):
    """ovirt_disk, ovirt_disk_info, ovirt_event_info, ovirt_job, ovirt_*_info."""
    one = vm()
    disk = sdk("GET", "/disks?search=vm_names%3D%22" + one.name + "%22").find("disk")
    for tag in ("name", "provisioned_size", "shareable", "propagate_errors", "wipe_after_delete"):
        assert disk.find(tag) is not None, tag
    domain = sdk("GET", "/storagedomains/" + disk.find("storage_domains/storage_domain").get("id"))
    assert domain.find("type").text == "data"
    attached = sdk("GET", f"/vms/{one.id}/diskattachments/{disk.get('id')}")
    assert attached.find("disk").get("id") == disk.get("id")
    one.snap("s", options=[])
    newest = sdk("GET", "/events?max=1").find("event")
    assert newest.find("code").text == "68" and newest.find("vm").get("id") == one.id
    later = sdk("GET", f"/events?case_sensitive=true&follow=&max=10&search=&from={newest.get('id')}")
    assert later.tag == "events" and later.find("event") is None
    job = sdk("GET", "/jobs?search=correlation_id%3D" + newest.find("correlation_id").text).find("job")
    assert job.find("status").text == "finished"
    assert sdk("GET", f"/jobs/{job.get('id')}/steps").tag == "steps"
    for path, tag in (("/hosts", "host"), ("/clusters", "cluster"), ("/datacenters", "data_center"), ("/templates", "template")):
        assert sdk("GET", path + "?follow=&search=name%3D*").find(tag).find("name").text
    with pytest.raises(SdkError) as wrong:
        sdk("GET", "/vms?search=wheels%3D4")
    assert wrong.value.status == 400
