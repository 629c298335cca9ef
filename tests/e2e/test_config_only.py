# SPDX-License-Identifier: LGPL-2.1-or-later
"""Snapshots of the configuration alone: the definition goes back, the disks go on as they are."""

import pytest

from lm import items, pattern_is
from test_import import lose_manager

def memory_of(site, one):
    """MiB, as libvirt defines them."""
    return int(site.host.xml(one.name, inactive=True).findtext("memory")) // 1024


def set_memory(site, one, mib):
    site.host.virsh("setmaxmem", one.name, f"{mib}M", "--config")
    site.host.virsh("setmem", one.name, f"{mib}M", "--config")


def act(site, one, verb, body=None, status=200):
    return site.rest.json("POST", f"/vms/{one.id}/{verb}", body or {}, status=status)


def documents(site, one):
    return {s["description"]: s for s in items(site.rest.json("GET", f"/vms/{one.id}/snapshots"), "snapshot")}


def take(site, one, name, form):
    """As a script that knows oVirt does."""
    if form == "xml":
        body = f"<snapshot><description>{name}</description><disk_attachments/></snapshot>"
        made = site.rest.json("POST", f"/vms/{one.id}/snapshots", body, status=201, content_type="application/xml")
    else:
        body = {"description": name, "disk_attachments": {"disk_attachment": []}}
        made = site.rest.json("POST", f"/vms/{one.id}/snapshots", body, status=201)
    site.cli("job", "watch", made["job"]["id"])
    return made


@pytest.mark.parametrize("form", ["xml", "json"])
def test_whole_life(site, vm, form):
    one = vm(2).layers("disks", disks=2)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    chain, then = one.chain(), memory_of(site, one)
    made = take(site, one, "config", form)
    assert made["configuration_only"] and not made["persist_memorystate"] and made["snapshot_status"] == "locked"
    shown = documents(site, one)["config"]
    assert shown["configuration_only"] and shown["snapshot_status"] == "ok" and shown["size"] == 0, shown
    assert shown["parent"]["id"] == documents(site, one)["disks"]["id"]
    assert items(site.rest.json("GET", f"/vms/{one.id}/snapshots/{shown['id']}/disks"), "disk") == []
    assert one.chain() == chain, "no volume is made"
    assert "configuration only" in site.cli("snapshot", "list", one.name).out
    site.cli("doctor", one.name)

    set_memory(site, one, then + 16)
    assert "holds the configuration alone, and nothing of disk vda" in site.cli("snapshot", "preview", one.name, "config", "--disk", "vda", code=1).err
    act(site, one, "previewsnapshot", {"snapshot": {"id": shown["id"]}})
    assert memory_of(site, one) == then and one.chain() == chain
    listed = items(site.rest.json("GET", f"/vms/{one.id}/snapshots"), "snapshot")
    assert len({s["id"] for s in listed}) == len(listed) == 4, "what it was before is listed, too"
    assert documents(site, one)["config"]["snapshot_status"] == "in_preview"
    site.cli("doctor", one.name)
    site.host.virsh("start", one.name)
    one.wait_status("up")
    site.host.write(one.name, 0, "5M", "1M", 77)
    site.host.virsh("destroy", one.name)
    one.wait_status("down")
    act(site, one, "undosnapshot")
    assert memory_of(site, one) == then + 16 and one.chain() == chain
    assert pattern_is(chain[-1], "5M", "1M", 77), "what the guest wrote stays"

    act(site, one, "previewsnapshot", {"snapshot": {"id": shown["id"]}})
    act(site, one, "commitsnapshot")
    assert memory_of(site, one) == then and one.names() == ["disks", "config"] and one.chain() == chain
    set_memory(site, one, then + 16)
    act(site, one, f"snapshots/{shown['id']}/restore")
    assert memory_of(site, one) == then and one.chain() == chain
    site.cli("doctor", one.name)

    plan = site.cli("plan", one.name, "config", "--json").json
    assert items(plan, "runs", "run") == [] and plan["possible"], plan
    assert "holds the configuration alone" in site.cli("plan", one.name, "config", "--disk", "vda", code=2).err
    site.cli("snapshot", "delete", one.name, "config", "-y")
    assert one.names() == ["disks"] and one.chain() == chain
    site.cli("doctor", one.name)


def test_of_a_running_one(site, vm):
    """Neither the guest nor its disks notice; deleted with one that has disks."""
    one = vm(1).layers("a", "b")
    chain = one.chain()
    site.cli("snapshot", "create", one.name, "config", "--config-only")
    one.snap("c")
    assert one.names() == ["a", "b", "config", "c"] and one.chain()[:-1] == chain
    assert documents(site, one)["c"]["parent"]["id"] == documents(site, one)["config"]["id"]
    clone = site.cli("vm", "clone", one.name, f"{one.name}-twin", "--snapshot", "config", code=4).err
    assert "holds the configuration alone" in clone
    site.cli("snapshot", "delete", one.name, "config", "b", "-y")
    assert one.names() == ["a", "c"]
    assert documents(site, one)["c"]["parent"]["id"] == documents(site, one)["a"]["id"]
    site.cli("doctor", one.name)


def test_refused(site, vm):
    one = vm(1)
    for body, says in (({"persist_memorystate": True}, "persist_memorystate"), ({"quiesce": "require"}, "quiesce")):
        fault = site.rest.json("POST", f"/vms/{one.id}/snapshots",
                               {"description": "x", "disk_attachments": {}, **body}, status=400)
        assert says in fault["detail"], fault
    assert one.names() == []
    assert "--config-only takes no disk" in site.cli("snapshot", "create", one.name, "x", "--config-only", "--memory", code=2).err


def test_lost_manager(site, vm):
    """It is in the manifest: found again as it was, and nothing is to be forgotten."""
    one = vm(1).layers("a")
    site.cli("snapshot", "create", one.name, "config", "--config-only")
    before = site.cli("snapshot", "list", one.name, "--json").out
    lose_manager(site)
    one.wait_status("up")
    done = site.cli("storage", "import", "--json").json
    mine = next(v for v in items(done, "vms", "vm") if v["name"] == one.name)
    assert "job" not in mine, done
    assert not [d for d in items(done, "doubts", "doubt") if d.get("vm", {}).get("name") == one.name], done
    assert site.cli("snapshot", "list", one.name, "--json").out == before
    site.cli("doctor", one.name)
