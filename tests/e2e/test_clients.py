# SPDX-License-Identifier: LGPL-2.1-or-later
"""oVirt's clients: libgovirt itself, and the Python SDK and the Ansible collection as they were seen on the wire
(headers, bodies, order, polls). What their modules read is looked at, in XML as they read it."""

import http.client
import json
import os
import re
import subprocess
import urllib.parse
import xml.etree.ElementTree as ET

import pytest

from lm.display import give_display
from lm.util import BUILD, wait_for

GOVIRT = BUILD / "tests" / "clients" / "govirt_client"
PASSWORD = "correct horse & battery"


def sso(site, path, **form):
    """Of the manager's TCP address, as the SDK sends it; (status, document)."""
    connection = http.client.HTTPConnection("127.0.0.1", site.manager.port, timeout=30)
    connection.request("POST", path, urllib.parse.urlencode(form),
                       {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text)


def get_token(site, password=PASSWORD):
    return sso(site, "/ovirt-engine/sso/oauth/token", grant_type="password", scope="ovirt-app-api",
               username="viewer@internal", password=password)


@pytest.fixture
def person(site):
    site.rest.json("POST", "/users", {"user_name": "viewer@internal", "role": "administrator"}, 201)
    site.rest.json("PUT", "/users/viewer", {"password": PASSWORD})
    yield
    site.rest.json("DELETE", "/users/viewer")


def test_libgovirt(site, vm, person):  # pylint: disable=redefined-outer-name,unused-argument
    """A client with a password, which it sends when it is asked for it, then one with a token."""
    one = vm(start=False)
    give_display(site, one)
    token = get_token(site)[1]["access_token"]
    for secret in ({"LM_USER": "viewer@internal", "LM_PASSWORD": PASSWORD}, {"LM_TOKEN": token}):
        done = subprocess.run([GOVIRT, f"127.0.0.1:{site.manager.port}", one.name], capture_output=True, text=True, timeout=60,
                              check=False, env={**os.environ, "GOVIRT_DISABLE_HTTPS": "1", **secret})
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.split("\n")
        assert [line for line in lines if line.startswith("state")] == ["state down", "state up", "state down"]
        _, address, port, ticket, expiry = next(line for line in lines if line.startswith("display")).split()
        assert address == "127.0.0.1" and int(port) >= 5900 and len(ticket) == 8 and expiry == "120"


def test_ansible_auth(site, person):  # pylint: disable=redefined-outer-name,unused-argument
    """ovirt_auth: present, absent; a password that is wrong."""
    status, refused = get_token(site, "wrong")
    assert status == 400 and refused["error_code"] == "access_denied" and refused["error"]
    status, signed_in = get_token(site)
    assert status == 200 and isinstance(signed_in["exp"], str) and signed_in["token_type"] == "bearer"
    bearer = {"Authorization": "Bearer " + signed_in["access_token"]}
    assert site.rest("GET", "", headers=bearer)[0] == 200
    assert sso(site, "/ovirt-engine/services/sso-logout", scope="ovirt-app-api", token=signed_in["access_token"]) == (200, {})
    assert site.rest("GET", "", headers=bearer)[0] == 401


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


def test_everything_linked_is_there(site, sdk, vm):
    """From the root to the last link, as the SDK's follow_link() would: what a document names can be got, has an id and
    an href, no empty texts (libgovirt), and its actions can be posted to."""
    one = vm(disks=2).snap("s1", "s2")
    one.delete("s1")
    past = tuple(site.rest.prefix + each for each in ("/events", "/jobs"))  # they name what is gone by now, too
    seen, left, actions = set(), [(site.rest.prefix, "")], set()
    while left:
        href, origin = left.pop()
        if href in seen or "{" in href:
            continue
        seen.add(href)
        assert href.startswith(site.rest.prefix), (href, origin)
        try:
            root = sdk("GET", href.removeprefix(site.rest.prefix))
        except SdkError as error:
            assert error.status == 404 and origin.startswith(past), f"{href} of {origin}: {error}"
            continue
        for each in root.iter():
            assert len(each) or (each.text or "").strip() or each.tag not in ("name", "description", "status"), (href, each.tag)
            assert each.get("href") is None or each.get("id") or each.get("rel"), (href, each.tag)
        verbs = {link.get("href") for block in root.iter("actions") for link in block}
        actions |= verbs
        left += [(each.get("href"), href) for each in root.iter() if each.get("href") and each.get("href") not in verbs]
    assert len(seen) > 100
    for href in actions:
        headers = site.rest("OPTIONS", href.removeprefix(site.rest.prefix))[1]
        assert "POST" in headers["Allow"], (href, headers)


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


@pytest.mark.parametrize("start", [True, False])
def test_memory_is_not_mentioned(sdk, vm, start):
    """Both clients leave persist_memorystate out unless they are told: the memory is saved if there is any."""
    one = vm(start=start)
    made = sdk("POST", f"/vms/{one.id}/snapshots", "<snapshot><description>s</description></snapshot>")
    path = f"/vms/{one.id}/snapshots/{made.get('id')}"
    sdk.poll(path, "snapshot_status", "ok")
    assert sdk("GET", path).find("persist_memorystate").text == ("true" if start else "false")


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


def test_ansible_restore(sdk, vm):
    """ovirt_snapshot restore, and of one that is being previewed; ovirt_snapshot_info."""
    one = vm(start=False)
    one.snap("s", "t")
    vm_href = f"/vms/{sdk.vm_by_name(one.name).get('id')}"
    found = [s for s in sdk("GET", vm_href + "/snapshots?follow=") if s.find("description").text == "s"]
    path = f"{vm_href}/snapshots/{found[0].get('id')}"
    assert sdk("GET", path).find("snapshot_status").text == "ok"
    # others send the whole document
    whole = ET.tostring(sdk("GET", path), encoding="unicode")
    done = sdk("POST", vm_href + "/previewsnapshot", "<action><async>false</async><restore_memory>true</restore_memory>"
                                                     f"{whole}</action>")
    assert done.find("status").text == "complete"
    assert sdk("GET", path).find("snapshot_status").text == "in_preview"
    sdk("POST", vm_href + "/commitsnapshot", "<action><async>false</async></action>")
    sdk.poll(path, "snapshot_status", "ok")
    sdk("POST", path + "/restore", "<action><restore_memory>false</restore_memory></action>")
    sdk.poll(path, "snapshot_status", "ok")
    sdk.poll(vm_href, "status", "down")
    assert [s.find("description").text for s in sdk("GET", vm_href + "/snapshots")] == ["Active VM", "s"]


def test_ansible_clone(sdk, vm):
    """ovirt_vm: one that is not there is made of a snapshot of another one, by its name and description; and absent.
    The document is the one that the SDK's vms_service().add() prints."""
    one = vm(start=False)
    one.snap("golden", options=[])
    assert sdk.vm_by_name("twin", all_content="true") is None
    blank = sdk("GET", "/templates/00000000-0000-0000-0000-000000000000")
    assert blank.find("version/version_number").text == "1"
    assert sdk("GET", "/clusters?search=name%3D%22Default%22").find("cluster").get("id")
    source = sdk.vm_by_name(one.name)
    snapshots = sdk("GET", f"/vms/{source.get('id')}/snapshots")
    snapshot, = (each for each in snapshots if each.find("description").text == "golden")
    assert sdk("GET", f"/clusters/{source.find('cluster').get('id')}").find("name").text == "Default"
    made = sdk("POST", "/vms?clone=false&clone_permissions=false",
               f"<vm><cluster><name>Default</name></cluster><name>twin</name><snapshots><snapshot id=\"{snapshot.get('id')}\"/>"
               f"</snapshots><template id=\"{blank.get('id')}\"/></vm>")
    href = f"/vms/{made.get('id')}"
    assert made.tag == "vm" and made.find("name").text == "twin" and made.find("cluster").get("id")
    sdk.poll(href, "status", "down")
    assert sdk("GET", href + "/numanodes").tag == "vm_numa_nodes"
    found = sdk.vm_by_name("twin", all_content="true")
    assert found.get("id") == made.get("id") and found.find("memory").text == source.find("memory").text
    disks = [sdk("GET", f"/vms/{each}/diskattachments")[0].get("id") for each in (source.get("id"), made.get("id"))]
    assert disks[0] != disks[1] and sdk("GET", f"/disks/{disks[1]}").find("status").text == "ok"
    with pytest.raises(SdkError) as again:
        sdk("POST", "/vms", f"<vm><name>twin</name><snapshots><snapshot id=\"{snapshot.get('id')}\"/></snapshots></vm>")
    assert again.value.status == 409
    assert sdk("DELETE", href).find("status").text == "complete"
    wait_for(lambda: sdk.site.rest("GET", href)[0] == 404, 60, "the clone is gone")
    assert sdk.vm_by_name("twin") is None


def test_ansible_job(sdk):
    """ovirt_job: started with steps, one of them failed, finished."""
    made = sdk("POST", "/jobs", "<job><auto_cleared>true</auto_cleared><description>backing up</description>"
                                "<external>true</external><status>started</status></job>")
    job = f"/jobs/{made.get('id')}"
    for name in ("copying", "checking"):
        sdk("POST", job + "/steps", f"<step><description>{name}</description><external>true</external>"
                                    f"<job id=\"{made.get('id')}\"/><status>started</status><type>unknown</type></step>")
    first = sdk("GET", job + "/steps")[0]
    sdk("POST", f"{job}/steps/{first.get('id')}/end", "<action><succeeded>false</succeeded></action>")
    listed = [each for each in sdk("GET", "/jobs") if each.find("description").text == "backing up"]
    assert listed[0].find("status").text == "started" and listed[0].find("external").text == "true"
    assert sdk("POST", job + "/end", "<action><succeeded>true</succeeded></action>").find("status").text == "complete"
    assert sdk("GET", job).find("status").text == "finished"
    assert [step.find("status").text for step in sdk("GET", job + "/steps")] == ["failed", "finished"]
    option = sdk("GET", "/options/LiveMergeEnabled?version=general")
    assert option.find("values/system_option_value/value").text == "true"


def test_ansible_infos(sdk, vm):
    """ovirt_disk, ovirt_disk_info, ovirt_event_info, ovirt_job, ovirt_*_info."""
    one = vm()
    disk = sdk("GET", "/disks?search=vm_names%3D%22" + one.name + "%22").find("disk")
    for tag in ("name", "provisioned_size", "shareable", "propagate_errors", "wipe_after_delete"):
        assert disk.find(tag) is not None, tag
    domain = sdk("GET", "/storagedomains/" + disk.find("storage_domains/storage_domain").get("id"))
    assert domain.find("type").text == "data" and domain.find("status") is None, "attached: its data center says it"
    center = domain.find("data_centers/data_center").get("id")
    assert sdk("GET", f"/datacenters/{center}/storagedomains/{domain.get('id')}").find("status").text == "active"
    assert sdk("GET", f"/storagedomains/{domain.get('id')}/vms?unregistered=true").find("vm") is None
    host = sdk("GET", "/hosts?all_content=false&follow=&search=name%3D*").find("host")
    cluster = sdk("GET", f"/clusters/{host.find('cluster').get('id')}")
    assert cluster.find("version/major").text == "4", "ovirt_host_info: cluster_version"
    assert sdk("GET", "/vms?follow=snapshots,disk_attachments.disk&search=name%3D" + one.name).find(
        "vm/disk_attachments/disk_attachment/disk/name").text
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
