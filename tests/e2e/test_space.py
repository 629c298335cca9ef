# SPDX-License-Identifier: LGPL-2.1-or-later
"""A merge that copies never fills its storage: at the reserve it stands still and says so; it goes on when
there is room again or somebody says so, and can be cancelled. On a small file system of its own."""

import errno
import os
import signal
import time

import pytest

from lm import Disk, Site, Wire, image_chain, items, pattern_is, qemu_img, run, wait_for
from lm.crash import is_stopped

MIB = 1 << 20
SIZE = 1024 * MIB
DATA = 200  # MiB to be moved
RATE = 40 * MIB  # a second, where a limit is wanted


@pytest.fixture(scope="module")
def site():
    """An installation whose volumes lie on an ext4 of 1 GiB."""
    with Site("ext4", SIZE) as whole:
        yield whole


class Small:
    """The file system, and how full it is."""

    def __init__(self, site):
        self.path = site.work / "v"
        self.ballast = self.path / "ballast"

    def free(self):
        st = os.statvfs(self.path)
        return st.f_bavail * st.f_frsize

    def reserve(self):
        st = os.statvfs(self.path)
        return st.f_blocks * st.f_frsize // 20

    def leave(self, free, alone=True):
        """Takes or gives back space until so much is free. A merge may be taking space meanwhile (alone=False: then it
        may be less soon): what is free is asked again where the rest is gone before it was taken."""
        have = self.ballast.stat().st_size if self.ballast.exists() else 0
        self.ballast.touch()
        if have + self.free() - free < have:
            os.truncate(self.ballast, have + self.free() - free)
        else:
            wait_for(lambda: self._take(have, free), 10, f"a file takes all but {free} bytes")
        wait_for(lambda: self.free() < free + 8 * MIB and (not alone or self.free() > free - 8 * MIB), 10,
                 lambda: f"{free} bytes are free, not {self.free()}")

    def _take(self, have, free):
        with open(self.ballast, "r+b") as f:
            try:
                os.posix_fallocate(f.fileno(), have, max(self.free() - free, 1))
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
                os.ftruncate(f.fileno(), have)  # what it had begun to take
                return False
        return True

    def at_rest(self):
        """What is free once the round that was begun has ended: half a second long it has been the same."""
        seen = []

        def same():
            seen.append(self.free())
            return len(seen) > 5 and max(seen[-6:]) - min(seen[-6:]) < MIB

        wait_for(same, 20, "nothing is written any more", every=0.1)
        return seen[-1]

    def give_back(self):
        self.ballast.unlink(missing_ok=True)


@pytest.fixture
def small(site):  # pylint: disable=redefined-outer-name
    fs = Small(site)
    yield fs
    fs.give_back()


@pytest.fixture
def wire(site):  # pylint: disable=redefined-outer-name
    return Wire(site)


def three_layers(site, vm, **options):  # pylint: disable=redefined-outer-name
    """base (nothing) <- s1's volume with DATA MiB <- leaf. Merging the two lower ones moves DATA MiB."""
    one = vm([Disk("512M")], **options)
    one.snap("s1")
    site.host.write(one.name, 0, "0", f"{DATA}M", 7)
    one.snap("s2")
    site.host.write(one.name, 0, "300M", "1M", 8)
    return one


def has_all(one, share=True):
    leaf = one.chain()[-1]
    return pattern_is(leaf, "0", f"{DATA}M", 7, share) and pattern_is(leaf, "300M", "1M", 8, share)


STRATEGIES = [("commit", 0, 1), ("commit-active", 0, 2), ("copy", 0, 2), ("cold-commit", 0, 1), ("cold-commit", 0, 2)]
IDS = ["commit", "commit-active", "copy", "cold", "cold-leaf"]


@pytest.mark.parametrize("strategy,base,top", STRATEGIES, ids=IDS)
def test_pauses_at_the_reserve(site, vm, small, wire, strategy, base, top):
    # pylint: disable=redefined-outer-name,too-many-arguments,too-many-positional-arguments
    one = three_layers(site, vm)
    if strategy == "cold-commit":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    small.leave(small.reserve() + 80 * MIB)
    op = wire.begin_merge(one, base, top, strategy, bandwidth=RATE)
    text = wire.wait_attention(op)
    assert "vda" in text and str(small.path) in text and "job resume" in text, text
    assert wire.operation(op)["progress"]["phase"] == "paused"
    before = small.at_rest()
    assert 0 < before < small.reserve() + MIB
    time.sleep(2)  # nothing is waited for: nothing must happen
    assert abs(small.free() - before) < MIB, "it goes on copying"
    assert wire.operation(op)["attention"]

    small.give_back()
    result = wire.wait_end(op)["result"]
    assert result["strategy"] == strategy
    assert len(one.chain()) == 3 - (top - base)
    assert has_all(one, share=strategy != "cold-commit")


def test_a_person_says_go_on(site, vm, small, wire):  # pylint: disable=redefined-outer-name
    """It goes on below the reserve, but not to the end: half of what is left stays."""
    one = three_layers(site, vm)
    small.leave(small.reserve() + 80 * MIB)
    op = wire.begin_merge(one, 0, 1, "commit", bandwidth=RATE // 2)
    wire.wait_attention(op)
    first = small.free()
    wire("POST", f"/operations/{op}/resume", {})
    wait_for(lambda: small.free() < first - 8 * MIB, 10, "it copies on")
    wire.wait_attention(op)
    assert small.free() > first // 8
    small.give_back()
    wire.wait_end(op)
    assert has_all(one) and len(one.chain()) == 2


@pytest.mark.parametrize("strategy,base,top", STRATEGIES, ids=IDS)
def test_cancel_while_it_stands(site, vm, small, wire, strategy, base, top):
    # pylint: disable=redefined-outer-name,too-many-arguments,too-many-positional-arguments
    one = three_layers(site, vm)
    if strategy == "cold-commit":
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    chain = one.chain()
    small.leave(small.reserve() + 80 * MIB)
    op = wire.begin_merge(one, base, top, strategy, bandwidth=RATE)
    wire.wait_attention(op)
    wire("POST", f"/operations/{op}/cancel", {})
    last = wire.wait_end(op, "cancelled", timeout=10)
    assert "attention" not in last
    assert one.chain() == chain and set(chain) == set(one.files())
    assert has_all(one, share=strategy != "cold-commit")


@pytest.mark.parametrize("point", [None, "agent.space.before-hold", "agent.space.held"])
def test_survives_the_agent(site, vm, small, wire, point):  # pylint: disable=redefined-outer-name
    one = three_layers(site, vm)
    small.leave(small.reserve() + 80 * MIB)
    wire.restart_agent(f"{point}=die@1" if point is not None else None)
    op = wire.begin_merge(one, 0, 1, "commit", bandwidth=RATE)
    if point is None:
        wire.wait_attention(op)
        site.agent.kill9()
    else:
        site.agent.wait_dead()
    wire.restart_agent()
    wire.wait_attention(op)
    before = small.at_rest()
    time.sleep(1)
    assert abs(small.free() - before) < MIB, "it goes on copying"
    small.give_back()
    wire.wait_end(op)
    site.mend()
    assert has_all(one) and len(one.chain()) == 2


def test_little_room_from_the_start(site, vm, small, wire):  # pylint: disable=redefined-outer-name
    """Where less than the reserve is free before it begins, a merge that needs little is not held up: it is
    what frees space."""
    one = vm([Disk("512M")])
    site.host.write(one.name, 0, "0", "100M", 1)
    one.snap("s1")
    site.host.write(one.name, 0, "0", "100M", 2)  # all of it where the base has clusters
    one.snap("s2")
    small.leave(small.reserve() - 20 * MIB)
    op = wire.begin_merge(one, 0, 1, "commit")
    wire.wait_end(op)
    assert pattern_is(one.chain()[-1], "0", "100M", 2, share=True)
    assert len(one.chain()) == 2


def test_full_all_the_same(site, vm, small, wire):  # pylint: disable=redefined-outer-name
    """Somebody else takes the last byte: the job fails, says why, and nothing is lost."""
    one = three_layers(site, vm)
    chain = one.chain()
    site.manager.stop()
    op = wire.begin_merge(one, 0, 1, "commit", bandwidth=RATE)
    wait_for(lambda: wire.operation(op)["progress"]["bytes_done"] > 0, 20, "it copies")
    site.agent.kill9()  # so that nobody holds it
    small.leave(4 * MIB)
    leaf = one.chain()[-1]
    wait_for(lambda: site.host.virsh("blockjob", one.name, "vda", "--info") == "", 30, "QEMU gives up")
    wire.restart_agent()
    last = wire.wait_end(op, "failed")
    small.give_back()
    site.mend()
    assert last["error"]["code"] in ("hypervisor", "no-space"), last
    assert image_chain(leaf) == chain
    assert has_all(one)
    qemu_img("check", "-U", leaf)


def test_seen_and_resumed_by_the_manager(site, vm, small):  # pylint: disable=redefined-outer-name
    """A job of the manager shows why it has paused, and goes on by the command that it names."""
    one = three_layers(site, vm)
    job = one.begin_delete("s1", options=("--bandwidth", 10, "--strategy", "commit"))  # 20 s
    full = small.free()
    wait_for(lambda: small.free() < full - 8 * MIB, 30, "it copies")
    small.leave(small.reserve() // 2, alone=False)  # somebody else takes it
    wait_for(lambda: "attention" in one.job(job), 30, "the job shows that it has paused")
    assert "nearly full" in one.job(job)["attention"] and one.job(job)["status"] == "started"
    small.leave(small.reserve() + 40 * MIB)  # too little to go on by itself
    site.cli("job", "resume", job)
    small.give_back()
    one.wait_job(job)
    assert has_all(one) and len(one.chain()) == 2


def test_clone_pauses(site, vm, small):  # pylint: disable=redefined-outer-name
    """Somebody else fills the storage after a clone has begun: it stands still, also after its agent died."""
    one = three_layers(site, vm)
    site.agent.restart(faults="agent.clone.before-build=stop@1")
    site.wait_ready()
    one.wait_status("up")
    made = site.rest.json("POST", "/vms", {
        "name": "twin", "strategy": "copy", "snapshots": {"snapshot": [{"id": one.snapshots()["s2"]["id"]}]}}, status=201)
    job = made["job"]["id"]
    wait_for(lambda: is_stopped(site.agent), 30, "the agent stops before it copies")
    small.leave(small.reserve() + 80 * MIB)
    os.kill(site.agent.pid, signal.SIGCONT)
    wait_for(lambda: "nearly full" in one.job(job).get("attention", ""), 30, "the job shows that it has paused")
    assert small.reserve() // 2 < small.free() < small.reserve() + 8 * MIB
    site.agent.kill9()
    site.agent.start("agent.clone.before-build=stop@1")
    wait_for(lambda: is_stopped(site.agent), 30, "the agent begins again")
    assert small.free() > small.reserve() + 60 * MIB, "what was copied is removed first"
    os.kill(site.agent.pid, signal.SIGCONT)
    wait_for(lambda: small.free() < small.reserve() + 20 * MIB and "nearly full" in one.job(job).get("attention", ""), 30,
             "it stands still again")
    before = small.at_rest()
    time.sleep(1)  # nothing is waited for: nothing must happen
    assert abs(small.free() - before) < MIB, "it goes on copying"
    small.give_back()
    one.wait_job(job)
    leaf = site.host.leaf("twin", "vda")
    assert pattern_is(leaf, "0", f"{DATA}M", 7) and has_all(one)
    codes = [e["code"] for e in items(site.rest.json("GET", "/events"), "event")]
    assert 30001 in codes and 30002 in codes, codes
    site.cli("vm", "remove", "twin", "-y")


def test_refused_before_it_begins(site, vm, small):  # pylint: disable=redefined-outer-name
    """What would fill the storage is refused with the number of bytes."""
    one = three_layers(site, vm)
    chain = one.chain()
    small.leave(small.reserve() + 60 * MIB)
    refused = site.cli("snapshot", "delete", one.name, "s1", "-y", "--strategy", "commit", code=None)
    assert refused.code != 0 and "MiB" in refused.err, refused
    assert one.chain() == chain and has_all(one) and "s1" in one.names()
