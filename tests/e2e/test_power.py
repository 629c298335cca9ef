# SPDX-License-Identifier: LGPL-2.1-or-later
"""Starting, stopping, suspending real VMs, by REST and by the CLI; also while a snapshot is being deleted."""

from lm import items, wait_for


def event_codes(site, vm):
    return [event["code"] for event in items(site.rest.json("GET", "/events?max=200"), "event")
            if event.get("vm", {}).get("id") == vm.id]


def act(site, vm, verb, body=None, status=200):
    return site.rest.json("POST", f"/vms/{vm.id}/{verb}", {"async": False, **(body or {})}, status=status)


def test_on_and_off(site, vm):
    one = vm(start=False)
    assert act(site, one, "start", {"pause": True})["status"] == "complete"
    assert site.host.state(one.name) == "paused" and one.document()["status"] == "paused"
    assert act(site, one, "start")["status"] == "complete"
    assert site.host.state(one.name) == "running" and one.document()["status"] == "up"
    pid = site.host.qemu_pid(one.name)
    assert act(site, one, "reset")["status"] == "complete"
    assert site.host.qemu_pid(one.name) == pid
    act(site, one, "start", status=409)
    assert act(site, one, "stop")["status"] == "complete"
    assert site.host.state(one.name) == "shut off" and one.document()["status"] == "down"
    fault = act(site, one, "stop", status=409)["fault"]
    assert one.name in fault["detail"]
    codes = event_codes(site, one)
    assert {150, 153, 32, 33, 61, 56} <= {int(code) for code in codes}, codes


def test_suspend_keeps_the_guest(site, vm):
    one = vm(guest=True)
    one.guest.start_stream("vda", pace_us=2000)
    one.guest.wait_acked(20)
    site.cli("vm", "suspend", one.name)
    assert one.document()["status"] == "suspended"
    site.cli("vm", "start", one.name)
    one.wait_status("up")
    one.guest.close()
    one.guest.connect()  # the serial line of the new QEMU
    one.guest.wait_acked(20)  # further ones: it goes on where it was
    assert one.power_off_and_verify() >= 40


def test_saved_memory_is_thrown_away_by_stop_alone(site, vm):
    one = vm()
    site.cli("vm", "suspend", one.name)
    site.cli("vm", "shutdown", one.name, code=None)
    assert one.document()["status"] == "suspended"
    site.cli("vm", "stop", one.name)
    one.wait_status("down")


def test_shutdown_waits_and_can_be_ended(site, vm):
    """This guest obeys no ACPI."""
    one = vm(guest=True)
    waiting = site.cli.spawn("vm", "shutdown", one.name)
    one.wait_status("powering_down")
    assert site.host.state(one.name) == "running"
    wait_for(lambda: site.cli("snapshot", "create", one.name, "meanwhile", code=None).code == 0, 30,
             "it is free once its guest was asked")
    site.cli("vm", "stop", one.name)
    assert waiting.wait(80) == 0
    one.wait_status("down")


def test_beside_a_merge(site, vm):
    """Off, on again, and off in the middle of a delete: it goes on in each life."""
    one = vm(disks=1)
    for number, name in enumerate(("a", "b")):
        site.host.write(one.name, 0, f"{number * 8}M", "8M", number + 1)
        one.snap(name)
    job = site.cli("snapshot", "delete", one.name, "a", "-y", "--no-wait", "--bandwidth", "1",
                   "--strategy", "commit").out.strip()
    wait_for(lambda: site.rest.json("GET", f"/jobs/{job}")["progress"]["bytes_done"] > 0, 20, "it copies")
    assert act(site, one, "stop")["status"] == "complete"
    assert act(site, one, "start")["status"] == "complete"
    one.wait_status("up")
    assert act(site, one, "stop")["status"] == "complete"
    site.cli("job", "watch", job)
    assert one.names() == ["b"]
    assert act(site, one, "start")["status"] == "complete"


def test_nothing_stops_the_guest_beside_a_commit(site, vm):
    """QEMU may die of that (H12): neither beside our own nor beside virsh's, on whichever disk."""
    one = vm(disks=2)
    for number, name in enumerate(("a", "b")):
        site.host.write(one.name, 1, f"{number * 16}M", "16M", number + 1)
        one.snap(name)
    pid = site.host.qemu_pid(one.name)
    job = one.begin_delete("a", options=["--disk", "vdb", "--bandwidth", "1", "--strategy", "commit"])
    wait_for(lambda: site.rest.json("GET", f"/jobs/{job}")["progress"]["bytes_done"] > 0, 20, "it copies")
    for words in (["vm", "suspend", one.name], ["snapshot", "create", one.name, "m", "--memory", "--disk", "vda"]):
        assert job in site.cli(*words, code=4).err
    site.cli("job", "cancel", job)
    wait_for(lambda: site.rest.json("GET", f"/jobs/{job}")["status"] != "started", 20, "it is cancelled")

    leaf, middle, base = reversed(one.chain("vdb"))
    site.host.virsh("blockcommit", one.name, "vdb", "--base", base, "--top", middle, "--bandwidth", "1")
    for words in (["vm", "suspend", one.name], ["snapshot", "create", one.name, "m", "--memory", "--disk", "vda"]):
        assert "blockjob" in site.cli(*words, code=4).err
    fault = act(site, one, "suspend", status=409)["fault"]
    assert "vdb" in fault["detail"]
    assert (site.host.qemu_pid(one.name), site.host.state(one.name)) == (pid, "running")
    site.cli("snapshot", "create", one.name, "c", "--disk", "vda")  # stops nobody
    site.host.virsh("blockjob", one.name, "vdb", "--abort")
    site.cli("vm", "suspend", one.name)
    assert leaf in one.chain("vdb")
