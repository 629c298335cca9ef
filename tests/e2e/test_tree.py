# SPDX-License-Identifier: LGPL-2.1-or-later
"""Listing, showing and renaming snapshots, by CLI and REST, in JSON and XML."""

import re
import xml.etree.ElementTree as ET

import pytest

from lm import items


def test_tree_of_a_chain(site, vm):
    one = vm().snap("first", "second", "third")
    listed = items(site.cli.json("snapshot", "list", one.name), "snapshot")
    assert [s["snapshot_type"] for s in listed] == ["active"] + ["regular"] * 3
    assert [s["description"] for s in listed] == ["Active VM", "first", "second", "third"]
    regular = one.snapshots()
    assert "parent" not in regular["first"]
    assert regular["second"]["parent"]["id"] == regular["first"]["id"]
    assert one.active()["parent"]["id"] == regular["third"]["id"]
    dates = [s["date"] for s in regular.values()]
    assert dates == sorted(dates) and all(re.search(r"(Z|[+-]\d\d:\d\d)$", d) for d in dates)

    text = site.cli("snapshot", "list", one.name).out
    order = [text.index(word) for word in ("first", "second", "third", "you are here")]
    assert order == sorted(order), text


def test_show_one(site, vm):
    one = vm().snap("first")
    shown = site.cli.json("snapshot", "show", one.name, "first")
    assert shown["id"] == one.snapshots()["first"]["id"]
    assert site.cli.json("snapshot", "show", one.name, shown["id"][:8])["id"] == shown["id"]
    assert "first" in site.cli("snapshot", "show", one.name, "first").out


def test_the_active_one_has_no_vm_and_no_links(site, vm):
    """libgovirt and Ansible rely on it."""
    one = vm().snap("first")
    assert "vm" not in one.active() and "link" not in one.active()
    assert one.snapshots()["first"]["vm"]["id"] == one.id


def test_rename(site, vm):
    one = vm().snap("first", "second")
    site.cli("snapshot", "rename", one.name, "first", "Ünïcode – with spaces & <signs>")
    assert one.names() == ["Ünïcode – with spaces & <signs>", "second"]
    site.agent.restart()
    site.wait_ready()
    one.wait_status("up")
    assert one.names() == ["Ünïcode – with spaces & <signs>", "second"]


def test_same_name_twice_is_told_apart_by_id(site, vm):
    """oVirt's descriptions need not be unique; a name that fits two is not guessed."""
    one = vm().snap("same", "same")
    ids = [s["id"] for s in items(site.cli.json("snapshot", "list", one.name), "snapshot")
           if s["snapshot_type"] == "regular"]
    unclear = site.cli("snapshot", "delete", one.name, "same", "-y", code=2)
    assert ids[0][:8] in unclear.err and ids[1][:8] in unclear.err
    one.delete(ids[0])
    assert list(one.snapshots().values())[0]["id"] == ids[1]


def test_xml(site, vm):
    one = vm().snap("first")
    status, headers, text = site.rest("GET", f"/vms/{one.id}/snapshots", accept="application/xml")
    assert status == 200 and headers["Content-Type"].startswith("application/xml")
    root = ET.fromstring(text)
    assert root.tag == "snapshots" and len(root.findall("snapshot")) == 2
    for snapshot in root:
        assert snapshot.get("id") and snapshot.get("href").startswith("/ovirt-engine/api/vms/")
        assert snapshot.findtext("snapshot_status") == "ok"


def test_rest_create_and_delete_as_the_sdk_does(site, vm):
    one = vm()
    body = "<snapshot><description>by sdk</description><persist_memorystate>false</persist_memorystate></snapshot>"
    status, _, text = site.rest("POST", f"/vms/{one.id}/snapshots", body, accept="application/xml",
                                content_type="application/xml")
    assert status in (201, 202), text
    created = ET.fromstring(text)
    path = f"/vms/{one.id}/snapshots/{created.get('id')}"
    assert site.rest("GET", path)[0] == 200, "a created object must be there at once"
    one.site.cli("job", "watch", site.rest.json("GET", "/jobs")["job"][0]["id"])
    assert site.rest.json("GET", path)["snapshot_status"] == "ok"
    status, _, text = site.rest("DELETE", path, accept="application/xml")
    assert status == 200 and ET.fromstring(text).findtext("status") == "complete"
    site.cli("job", "watch", site.rest.json("GET", "/jobs")["job"][0]["id"])
    assert site.rest("GET", path)[0] == 404


@pytest.mark.parametrize("path", ["", "/", "/vms", "/disks", "/jobs", "/events", "/hosts", "/clusters",
                                  "/datacenters", "/storagedomains"])
@pytest.mark.parametrize("accept", ["application/xml", "application/json"])
def test_every_collection_answers(site, path, accept):
    status, headers, text = site.rest("GET", path, accept=accept)
    assert status == 200 and headers["Content-Type"].startswith(accept) and text
