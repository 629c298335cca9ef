# SPDX-License-Identifier: LGPL-2.1-or-later
"""XFS and btrfs, nothing runs: a new volume for three layers, by our library and by the delete of a VM that is off,
against `qemu-img commit` into a copy of the base."""

import os

from chains import Chain, Layer, scattered, tool
from lm import pattern_is, qemu_img
from places import drop_caches
from rig import Figure, median, say, timed

ROUNDS = 3


def spread(place):
    """2 GiB in 64 KiB pieces, in three layers, written in random order: no two lie side by side for the guest, but
    in the files they do."""
    all_pieces = scattered(32768, 1, 4096, 1, step=2)
    return Chain(place, "spread", [Layer(size="8G", commands=all_pieces[i * 10923:(i + 1) * 10923]) for i in range(3)])


def apart(place):
    """The same, and in the files too no two pieces lie side by side: every second one was overwritten in the layer
    above."""
    below = [f"write -q -P 1 {at << 17} 128k" for at in range(16384)]
    return Chain(place, "apart", [Layer(size="8G", commands=below),
                                  Layer(size="8G", commands=scattered(16384, 2, 2048, 2, step=2)), Layer(size="8G")])


def sequential(place):
    return Chain(place, "sequential", [Layer([(i * 1024, 1024, i + 1)], "8G") for i in range(3)])


# On btrfs each write past the page cache became an extent of its own, also where they lie side by side in the file
# and one share call takes many: extents.
#          name                              chain  extents  times faster, wanted
SHAPES = [("2 GiB in 32,768 pieces all over", spread, 32768, 8),
          ("2 GiB in pieces, apart in the files too", apart, 32768, 0),  # the worst there is; nothing was promised
          ("3 GiB sequential", sequential, 24, 100)]


def commit(chain):
    """Of both upper layers at once into a copy of the base. It ends durably, as ours does."""
    copies = [f"{path}.copy" for path in chain.paths]
    chain.put(copies)
    drop_caches()

    def work():
        qemu_img("commit", "-q", "-d", "-f", "qcow2", "-b", os.path.basename(copies[0]), copies[2])
        fd = os.open(copies[0], os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    return timed(work), copies


def library(chain):
    """The middle one of some builds; a loop device is at the mercy of the disk below."""
    new, runs = f"{chain.directory}/new", []
    for _ in range(ROUNDS):
        if runs:
            os.unlink(new)
        drop_caches()
        runs.append(tool("build", new, "share", *chain.paths))
    tool("check", new)
    tool("same", new, *chain.paths)
    qemu_img("check", "-q", "-f", "qcow2", new)
    return sorted(runs, key=lambda run: run["seconds"])[ROUNDS // 2], new


def off(rig, chain, kind, name):
    """The same through livemerge; returns its seconds, at the client and in the agent."""
    seconds, engine = [], []
    for number in range(ROUNDS):
        vm = chain.ours(rig, f"off{kind}{name}{number}", start=False)
        done = rig.delete(vm, "s1", "s2")
        assert done.job is not None, done.why
        assert len(vm.chain()) == 1, vm.chain()
        seconds.append(done.seconds)
        engine.append(done.engine)
        say(f"    VM off, {done.strategies}: {done.seconds:.3f} s at the client, {done.engine:.3f} s in the agent")
        if name == "sequential":
            assert pattern_is(vm.chain()[0], "3056M", "16M", 3), f"{vm.chain()[0]} lost data"
        rig.drop(vm.name)
    return median(seconds), median(engine)


def figures(rig, place, title, shape, extents, wanted):
    chain = shape(place)
    built, new = library(chain)
    theirs, copies = commit(chain)
    qemu_img("compare", "-q", "-f", "qcow2", "-F", "qcow2", copies[0], new)
    for path in [*copies, new]:
        os.unlink(path)
    calls, mine = built["share_calls"], built["seconds"]
    say(f"  {place.kind}, {title}: build {mine:.3f} s, qemu-img commit {theirs:.2f} s; {calls} share calls, "
        f"{built['shared'] >> 20} MiB shared, {built['written'] >> 10} KiB written")
    client, engine = off(rig, chain, place.kind, shape.__name__)
    chain.remove()
    place.trim()
    floor = place.floor_of_sharing(extents if place.kind == "btrfs" else calls)
    # qemu-img merges, as the agent does; a client's delete also plans, keeps records and takes the old volumes away
    rows = [("build", mine, wanted), ("delete, in the agent", engine, wanted), ("at the client", client, 0)]
    return [Figure(f"{place.kind}, cold, {title}: {what}", value, "s", f">= {least} x faster" if least else "",
                   theirs / value >= least, "qemu-img commit", theirs, *floor) for what, value, least in rows]


def cold(rig):
    return [figure for kind in ("xfs", "btrfs") for shape in SHAPES
            for figure in figures(rig, rig.places[kind], *shape)]
