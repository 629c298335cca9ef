# SPDX-License-Identifier: LGPL-2.1-or-later
"""The check before old volumes go: what is alike passes, and a difference, made on purpose between the merge
and its check, keeps every old volume, fails the job, and sets the new volumes aside."""

import os
import signal
import time
from pathlib import Path

import pytest

from lm import Disk, Site, Wire, check_image, flip_data, pattern_is, qemu_img, wait_for

MIB = 1 << 20


@pytest.fixture(scope="module", params=["xfs", "ext4"])
def site(request):
    """An installation whose volumes lie on a file system of that type: one can share blocks, one cannot."""
    whole = Site(request.param)
    whole.shares = request.param == "xfs"
    with whole:
        yield whole


@pytest.fixture
def wire(site):  # pylint: disable=redefined-outer-name
    return Wire(site)


@pytest.fixture
def forward(site):  # pylint: disable=redefined-outer-name
    """The strategy that builds new volumes there."""
    return "graft" if site.shares else "copy"


def switch_off(site, one):  # pylint: disable=redefined-outer-name
    site.host.virsh("destroy", one.name)
    one.wait_status("down")


# ---- alike

def compared(result):
    return result["bytes_compared"] + result["bytes_same_blocks"]


@pytest.mark.parametrize("verify", ["extents", "full", "none"])
@pytest.mark.parametrize("state", ["up", "off"])
@pytest.mark.parametrize("what", ["forward", "internal", "leaf"])
def test_alike(site, vm, wire, forward, what, state, verify):
    # pylint: disable=redefined-outer-name,too-many-arguments,too-many-positional-arguments
    one = vm().layers("s1", "s2", "s3")
    if state == "off":
        switch_off(site, one)
    strategy = {"forward": forward, "internal": "commit" if state == "up" else "cold-commit",
                "leaf": "commit-active" if state == "up" else "cold-commit"}[what]
    base, top = (1, 2) if what == "internal" else (1, 3)
    if strategy == "commit-active" and verify == "full":
        op = wire.begin_merge(one, base, top, strategy, verify=verify)
        last = wire.wait_end(op, "failed")
        assert last["error"]["code"] == "refused" and "extents" in last["error"]["message"], last
        assert len(one.chain()) == 4
        one.expect_layers(4)
        return
    op = wire.begin_merge(one, base, top, strategy, verify=verify)
    result = wire.wait_end(op)["result"]
    assert result["strategy"] == strategy
    assert result["verified"] == ("job" if strategy == "commit-active" and verify != "none" else verify)
    if verify == "full":
        assert compared(result) >= 2 * MIB, result
    assert "mismatch" not in result
    for path in result["volumes_left"]:
        Path(path).unlink()
    assert len(one.chain()) == 4 - (top - base)
    one.expect_layers(4)


def test_guest_writes_all_the_while(site, vm, wire, forward):  # pylint: disable=redefined-outer-name
    one = vm([Disk("256M"), Disk("256M")], guest=True)
    for disk in ("vda", "vdb"):
        one.guest.start_stream(disk, pace_us=500)
    for name in ("s1", "s2", "s3"):
        one.guest.wait_acked(200)
        one.snap(name)
    one.guest.wait_acked(200)
    ops = [wire.begin_merge(one, 1, 2, "commit", "vda", verify="full"),
           wire.begin_merge(one, 0, 3, forward, "vdb", verify="full")]
    for op in ops:
        result = wire.wait_end(op)["result"]
        assert result["verified"] == "full" and compared(result) > MIB, result
        for path in result["volumes_left"]:
            Path(path).unlink()
    one.guest.wait_acked(200)
    assert len(one.chain("vda")) == 3 and len(one.chain("vdb")) == 1
    assert one.power_off_and_verify() > 1000


def test_resized_on_the_way(site, vm, wire, forward):  # pylint: disable=redefined-outer-name
    """A disk that grew after its snapshots is no difference, in whichever layer it grew."""
    one = vm([Disk("64M")]).layers("s1", "s2")
    site.host.virsh("blockresize", one.name, "vda", "128M")
    site.host.write(one.name, 0, "100M", "1M", 50)
    for base, top, strategy in ((0, 1, "commit"), (0, 1, forward)):
        op = wire.begin_merge(one, base, top, strategy, verify="full")
        result = wire.wait_end(op)["result"]
        assert result["verified"] == "full"
        for path in result["volumes_left"]:
            Path(path).unlink()
    one.expect_layers(3)
    assert pattern_is(one.chain()[-1], "100M", "1M", 50, share=True)


@pytest.mark.parametrize("state", ["up", "off"])
def test_content_that_cannot_be_read(site, vm, state):  # pylint: disable=redefined-outer-name
    """Full is refused before anything begins, by the plan, with the reason."""
    path = site.work / "v" / f"extended-{state}" / "disk.qcow2"
    path.parent.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", "-o", "extended_l2=on", path, "64M")
    one = vm([Disk(path=str(path))], directory=path.parent).layers("s1", "s2")
    if state == "off":
        switch_off(site, one)
    for asked in (("plan", one.name, "s1"), ("snapshot", "delete", one.name, "s1", "-y")):
        refused = site.cli(*asked, "--verify", "full", code=None)
        assert refused.code != 0, refused
        for words in (str(path), "extended L2", "extents"):
            assert words in refused.out + refused.err, refused
    assert one.names() == ["s1", "s2"] and "merge of VM" not in site.agent.tail(3)
    one.delete("s1")
    one.expect_layers(3)


# ---- a difference

def stopped(pid):
    state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    return state == "T"


class Meddle:
    """Stops the agent just before it compares, and lets it go on."""

    def __init__(self, wire, point="agent.verify.before"):
        self.site = wire.site
        wire.restart_agent(f"{point}=stop@1")

    def __enter__(self):
        wait_for(lambda: stopped(self.site.agent.pid), 60, "the agent has stopped before its check")
        return self

    def __exit__(self, *_):
        os.kill(self.site.agent.pid, signal.SIGCONT)


def drop_cluster(path, guest_mib):
    """Takes a cluster of the guest's disk out of the map of a volume (with clusters of 64 KiB)."""
    with open(path, "r+b") as file:
        file.seek(40)
        l1 = int.from_bytes(file.read(8), "big")
        number = guest_mib * MIB >> 16
        file.seek(l1 + (number >> 13) * 8)
        l2 = int.from_bytes(file.read(8), "big") & 0x00fffffffffffe00
        file.seek(l2 + (number & 0x1fff) * 8)
        file.write(bytes(8))


def kept_in_trash(one, op):
    return sorted((one.directory / ".livemerge" / "trash").glob(f"keep.{op}.*"))


@pytest.mark.parametrize("verify,spoil", [("full", flip_data), ("extents", drop_cluster)],
                         ids=["data-full", "map-extents"])
@pytest.mark.parametrize("state", ["up", "off"])
@pytest.mark.parametrize("sealed", [False, True], ids=["", "sealed"])
def test_new_volume_differs(site, vm, wire, forward, verify, spoil, state, sealed):
    # pylint: disable=redefined-outer-name,too-many-arguments,too-many-positional-arguments
    if sealed and (not site.shares or state == "off"):
        pytest.skip("only graft seals, of a VM that runs")
    one = vm([Disk("256M")]).layers("s1", "s2", "s3")
    if sealed:
        site.host.write(one.name, 0, "100M", "32M", 9)
    if state == "off":
        switch_off(site, one)
    chain = one.chain()
    meddle = Meddle(wire)
    op = wire.begin_merge(one, 1, 3, forward, verify=verify)
    with meddle:
        new = [path for path in one.files() if path not in chain and "seal" not in path]
        top = next(path for path in new if os.path.getsize(path) > MIB)
        spoil(top, 2)
    last = wire.wait_end(op, "failed")
    site.mend()
    assert last["error"]["code"] == "corrupt" and last["result"]["mismatch"] is True, last
    at = f"byte {2 * MIB + (4096 if verify == 'full' else 0)} "
    for words in (one.name, "vda", top, at, ".livemerge/trash/keep.", "nothing was changed"):
        assert words in last["error"]["message"], last["error"]["message"]
    assert [Path(path).name.split(".", 3)[-1] for path in map(str, kept_in_trash(one, op))] == [Path(top).name]
    assert one.chain() == chain
    one.expect_layers(4)
    if sealed:
        assert pattern_is(one.chain()[-1], "100M", "32M", 9, share=True)
    op = wire.begin_merge(one, 1, 3, forward, verify=verify)  # and again, undisturbed
    for path in wire.wait_end(op)["result"]["volumes_left"]:
        Path(path).unlink()
    one.expect_layers(4)


@pytest.mark.parametrize("point", ["agent.verify.differs", "agent.verify.set-aside"])
def test_agent_dies_at_a_difference(site, vm, wire, forward, point):
    # pylint: disable=redefined-outer-name,too-many-arguments,too-many-positional-arguments
    one = vm().layers("s1", "s2")
    chain = one.chain()
    wire.restart_agent(f"agent.verify.before=stop@1,{point}=die@1")
    op = wire.begin_merge(one, 0, 2, forward, verify="full")
    wait_for(lambda: stopped(site.agent.pid), 60, "the agent has stopped before its check")
    top, = [path for path in one.files() if path not in chain and os.path.getsize(path) > MIB]
    flip_data(top, 1)
    os.kill(site.agent.pid, signal.SIGCONT)
    site.agent.wait_dead()
    wire.restart_agent()
    last = wire.wait_end(op, None)
    site.mend()
    # what was spoiled may have been built again after the first death; else it is set aside
    if last["state"] == "failed":
        assert last["error"]["code"] == "corrupt" and len(kept_in_trash(one, op)) == 1
        assert one.chain() == chain
    else:
        for path in last["result"]["volumes_left"]:
            Path(path).unlink()
    one.expect_layers(3)


@pytest.mark.parametrize("state", ["up", "off"])
def test_merged_base_differs(site, vm, wire, state):  # pylint: disable=redefined-outer-name
    """An internal commit: the chain is merged already, but nothing is deleted."""
    one = vm().layers("s1", "s2", "s3")
    if state == "off":
        switch_off(site, one)
    chain = one.chain()
    meddle = Meddle(wire)
    op = wire.begin_merge(one, 0, 2, "auto", verify="full")
    with meddle:
        flip_data(chain[0], 2)
    last = wire.wait_end(op, "failed")
    site.mend()
    assert last["error"]["code"] == "corrupt" and last["result"]["mismatch"] is True, last
    for words in (one.name, "vda", *chain[:3], "byte 2101248 "):
        assert words in last["error"]["message"], last["error"]["message"]
    assert not last["result"].get("volumes_left")
    assert one.chain() == [chain[0], chain[3]]
    assert set(one.files()) == set(chain)
    check_image(chain[2])
    assert pattern_is(chain[2], "2M", "1M", 3, share=True), "what was right is still there"
    assert wire.disk(one)["volumes"][0]["path"] == chain[0]


def test_cold_leaf_differs(site, vm, wire):  # pylint: disable=redefined-outer-name
    """The definition is not switched: the VM starts on its old leaf, which covers what was spoiled."""
    one = vm().layers("s1", "s2")
    switch_off(site, one)
    chain = one.chain()
    meddle = Meddle(wire)
    op = wire.begin_merge(one, 0, 2, "auto", verify="full")
    with meddle:
        flip_data(chain[0], 2)
    last = wire.wait_end(op, "failed")
    site.mend()
    assert last["error"]["code"] == "corrupt" and last["result"]["mismatch"] is True, last
    assert one.chain() == chain and set(one.files()) == set(chain)
    site.host.virsh("start", one.name)
    one.wait_status("up")
    one.expect_layers(3)


# ---- while it compares

def test_killed_and_cancelled(site, vm, wire, forward):  # pylint: disable=redefined-outer-name
    """Killed in its check the agent begins it again; a cancel ends it at once."""
    one = vm([Disk("1G")])
    site.host.write(one.name, 0, "0", "300M", 1)
    one.snap("s1")
    site.host.write(one.name, 0, "100M", "1M", 2)
    chain = one.chain()
    wire.restart_agent("agent.verify.before=die@1")
    op = wire.begin_merge(one, 0, 1, forward, verify="full")
    site.agent.wait_dead()
    site.agent.launch("agent.verify.before=stop@1")  # it may stop before it answers
    wait_for(lambda: stopped(site.agent.pid), 60, "the agent has stopped before its check")
    os.kill(site.agent.pid, signal.SIGCONT)
    began = time.monotonic()
    wire("POST", f"/operations/{op}/cancel", {})
    last = wire.wait_end(op, None)
    took = time.monotonic() - began
    site.mend()
    if last["state"] == "cancelled":
        assert took < 10, f"the cancel took {took} s"
        assert one.chain() == chain and set(one.files()) == set(chain)
    else:  # it was faster
        for path in last["result"]["volumes_left"]:
            Path(path).unlink()
    assert pattern_is(one.chain()[-1], "0", "100M", 1, share=True)
    assert pattern_is(one.chain()[-1], "100M", "1M", 2, share=True)
