# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long deletes take, from the command to its end, against virsh on a copy of the same chain."""

from pathlib import Path

from lm import pattern_is
from rig import GIB, Figure, Rig, fill, median, say, settle, timed

ROUNDS = 3
ROUNDS_OF_EIGHT = 2
SNAPSHOTS = 8
REWRITTEN = 256  # MiB


def in_turn(number, ours, theirs):
    """Runs both; who goes first changes from round to round. Returns the seconds of each; ours() tells its own."""
    if number % 2 == 0:
        mine = ours()
        return mine, timed(theirs)
    other = timed(theirs)
    return ours(), other


def ours_timed(rig, vm, *names):
    """Deletes, and says how the seconds divide: until QEMU told of the end, and from there."""
    done = rig.delete(vm, *names)
    told = rig.completions.last(vm.name, done.began) - done.began
    say(f"  {vm.name}, {done.strategies}: {told:.2f} s until QEMU is done, {done.seconds - told:.2f} s after")
    return done.seconds


def one_of_a_gib(rig: Rig, internal):
    """A chain whose snapshot "old" is below 1 GiB of data, which the delete moves into it: from a
    layer in the middle, or from the leaf."""
    kind = "internal" if internal else "leaf"
    ours, theirs = [], []
    for number in range(ROUNDS):
        name = f"{kind}{number}"
        vm = rig.vm(name, "2G").snap("old")
        fill(rig.site.host, name, GIB, 7 + number)
        if internal:
            vm.snap("new")
            fill(rig.site.host, name, 1, 99)
        directory = rig.copy_to_peer(vm)
        chain = [str(directory / Path(path).name) for path in vm.chain()]
        virsh = ["blockcommit", name, "vda", "--base", chain[0], "--wait"]
        virsh += ["--top", chain[1]] if internal else ["--active", "--pivot"]
        mine, other = in_turn(number, lambda vm=vm: ours_timed(rig, vm, "old"),
                              lambda virsh=virsh: rig.peer.virsh(*virsh, timeout=120))
        say(f"  {kind} delete of 1 GiB: {mine:.2f} s, virsh blockcommit {other:.2f} s")
        ours.append(mine)
        theirs.append(other)
        for image in (vm.chain()[-1], rig.peer.leaf(name, "vda")):
            assert pattern_is(image, "1000M", "24M", 7 + number, share=True), f"{image} lost data"
        assert len(vm.chain()) == len(chain) - 1, vm.chain()
        rig.drop(name)
    mine, other = median(ours), median(theirs)
    return Figure(f"{kind} delete of 1 GiB", mine, "s", "<= 1.05 x + 0.2 s", mine <= 1.05 * other + 0.2,
                  "virsh blockcommit" + ("" if internal else " --active --pivot"), other)


def internal_delete(rig):
    return one_of_a_gib(rig, True)


def leaf_delete(rig):
    return one_of_a_gib(rig, False)


def delete_one_by_one(peer, name):
    for i in range(1, SNAPSHOTS + 1):
        peer.virsh("snapshot-delete", name, f"s{i}", timeout=120)


def eight_at_once(rig: Rig):
    """libvirt's own delete needs libvirt's own record of the snapshots, so its chain is not
    copied: the same is written between the same snapshots, taken by virsh."""
    ours, theirs = [], []
    for number in range(ROUNDS_OF_EIGHT):
        name = f"eight{number}"
        vm = rig.vm(name, "512M")
        directory = rig.copy_to_peer(vm)
        for i in range(SNAPSHOTS + 1):
            fill(rig.site.host, name, REWRITTEN, 10 + i)
            fill(rig.peer, name, REWRITTEN, 10 + i)
            if i < SNAPSHOTS:
                vm.snap(f"s{i + 1}")
                rig.peer.virsh("snapshot-create-as", name, f"s{i + 1}", "--disk-only")
        settle(vm.directory)
        settle(directory)
        names = [f"s{i + 1}" for i in range(SNAPSHOTS)]
        mine, other = in_turn(number, lambda vm=vm, names=names: ours_timed(rig, vm, *names),
                              lambda name=name: delete_one_by_one(rig.peer, name))
        say(f"  eight snapshots: {mine:.2f} s, virsh snapshot-delete one by one {other:.2f} s")
        ours.append(mine)
        theirs.append(other)
        assert len(vm.chain()) == 1 and not vm.names(), vm.chain()
        for image in (vm.chain()[-1], rig.peer.leaf(name, "vda")):
            assert pattern_is(image, "0", "256M", 10 + SNAPSHOTS, share=True), f"{image} lost data"
        rig.drop(name)
    mine, other = median(ours), median(theirs)
    return Figure("eight snapshots of 256 MiB in one delete", mine, "s", "5 x faster",
                  mine * 5 <= other, "virsh snapshot-delete, one by one", other)

