# SPDX-License-Identifier: LGPL-2.1-or-later
"""XFS, a running VM: three layers of sequential data, both snapshots deleted. No data move, so ten times the data
take as long."""

from chains import Chain, Layer, share_calls
from lm import pattern_is
from rig import GIB, Figure, median, say, timed

ROUNDS = 7
ROUNDS_OF_PEERS = 2
LAYERS = 3


def layers_of(gib):
    """Each holds so many GiB of its own, one after another."""
    return [Layer([(i * gib * GIB, gib * GIB, i + 1)], f"{LAYERS * gib + 1}G") for i in range(LAYERS)]


def check(leaf, gib):
    for i in range(LAYERS):
        last = (i + 1) * gib * GIB - 16
        assert pattern_is(leaf, f"{last}M", "16M", i + 1, share=True), f"{leaf} lost data of layer {i}"


def our_delete(rig, chain, gib, name):
    vm = chain.ours(rig, name)
    done = rig.delete(vm, "s1", "s2")
    assert done.job is not None, done.why
    assert len(vm.chain()) == 1, vm.chain()
    check(vm.chain()[-1], gib)
    say(f"  {LAYERS} layers of {gib} GiB, {done.strategies}: {done.seconds:.3f} s at the client, "
        f"{done.engine:.3f} s in the agent, of which pauses {done.pauses * 1000:.0f} ms; "
        f"{done.device / 1e6:.1f} MB written to the device, {done.processes / 1e6:.1f} MB by agent and QEMU")
    rig.drop(name)
    return done


def ours(rig, chains):
    """Our delete on copies of each chain, in turns: so both sizes meet the same machine. By size in GiB."""
    rounds = {gib: [] for gib in chains}
    for number in range(ROUNDS):
        for gib, chain in chains.items():
            rounds[gib].append(our_delete(rig, chain, gib, f"graft{gib}x{number}"))
    return rounds


def blockcommit(rig, chain, gib, name):
    files = chain.peers(rig, name)
    seconds = timed(lambda: rig.peer.virsh("blockcommit", name, "vda", "--base", files[0], "--active", "--pivot",
                                           "--wait", timeout=300))
    check(rig.peer.leaf(name, "vda"), gib)
    return seconds


def one_by_one(rig, chain, gib, name):
    chain.peers(rig, name)

    def delete():
        for i in range(1, LAYERS):
            rig.peer.virsh("snapshot-delete", name, f"s{i}", timeout=300)

    seconds = timed(delete)
    check(rig.peer.leaf(name, "vda"), gib)
    return seconds


def best_peer(rig, chain, gib):
    """(name, median seconds) of the faster of both."""
    ways = {"virsh blockcommit --active --pivot": blockcommit, "virsh snapshot-delete, one by one": one_by_one}
    found = {}
    for way, run in ways.items():
        rounds = []
        for number in range(ROUNDS_OF_PEERS):
            rounds.append(run(rig, chain, gib, f"peer{number}"))
            rig.drop(f"peer{number}")
        say(f"  {way}: {', '.join(f'{s:.2f} s' for s in rounds)}")
        found[way] = min(rounds)
    way = min(found, key=found.get)
    return way, found[way]


def graft(rig):
    place = rig.places["xfs"]
    chains = {gib: Chain(place, f"graft{gib}", layers_of(gib)) for gib in (1, 10)}
    place.sync()
    rounds = ours(rig, chains)
    small, big = rounds[1], rounds[10]
    calls, big_calls = share_calls(chains[1]), share_calls(chains[10])
    chains[10].remove()
    peer, theirs = best_peer(rig, chains[1], 1)
    chains[1].remove()
    place.trim()

    client, agent = (median([getattr(done, what) for done in small]) for what in ("seconds", "engine"))
    # each with the delete beside it: the machine's mood changes more in a minute than the size does
    longer = median([much.seconds / little.seconds for much, little in zip(big, small)])
    floor = place.floor_of_sharing(calls, median([done.pauses for done in small]))
    big_floor = place.floor_of_sharing(big_calls, median([done.pauses for done in big]))
    most = max(max(done.device, done.processes) for done in small) / (LAYERS * GIB << 20) * 100
    name = f"XFS, VM runs, {LAYERS} x 1 GiB, both snapshots"
    return [Figure(f"{name}: at the client", client, "s", "<= 0.2 s", client <= 0.2, peer, theirs, *floor),
            Figure(f"{name}: in the agent", agent, "s", "<= 0.2 s", agent <= 0.2, peer, theirs, *floor),
            Figure(f"{name}: how much faster", theirs / client, "x", ">= 25 x", theirs / client >= 25),
            Figure(f"{name}: written, of the data", most, "%", "< 1 %", most < 1),
            Figure("XFS, VM runs, the same with ten times the data", median([done.seconds for done in big]), "s",
                   "", True, "one time the data", client, *big_floor),
            Figure("    how much longer, each against the one beside it", longer, "x", "<= 1.2 x", longer <= 1.2)]
