# SPDX-License-Identifier: LGPL-2.1-or-later
"""ext4, where nothing can be shared: what `auto` takes, against every strategy forced by hand."""

from dataclasses import dataclass

from chains import Chain, Layer, scattered
from lm import items
from rig import Figure, say

ROUNDS = 2
MORE_ROUNDS = 6  # at most, where something seems to have been quicker: is it so, or was the machine busy?
FORCED = ["commit", "commit-active", "cold-commit", "copy"]
LIMIT = 1.1


@dataclass
class Shape:
    name: str
    layers: list
    delete: list  # numbers of snapshots; snapshot i lies below layer i
    off: bool = False


def piled(count, mib):
    """Layers that all rewrite the same."""
    return [Layer([(0, mib, i + 1)]) for i in range(count)]


def side_by_side(count, mib):
    return [Layer([(i * mib, mib, i + 1)]) for i in range(count)]


def shapes():
    big, half, small = [(0, 1024, 1)], [(0, 512, 1)], [(0, 32, 1)]
    above = [(1024, 512, 2)]
    return [
        Shape("big base, small leaf", [Layer(big), Layer([(1024, 384, 2)])], [1]),
        Shape("small base, big leaf", [Layer(small), Layer([(64, 1024, 2)])], [1]),
        Shape("small base, big middle, small leaf", [Layer(small), Layer([(64, 1024, 2)]), Layer([(0, 16, 3)])],
              [1, 2]),
        Shape("small base, big internal layer", [Layer(small), Layer([(64, 1024, 2)]), Layer([(0, 16, 3)])], [1]),
        Shape("big base, internal layer", [Layer(big), Layer(above), Layer([(0, 16, 3)])], [1]),
        Shape("all overlap, leaf too", piled(3, 640), [1, 2]),
        Shape("leaf rewrites half of the base", [Layer(big), Layer([(256, 512, 2)])], [1]),
        Shape("eight layers rewrite the same", piled(8, 512), list(range(1, 8))),
        Shape("six layers side by side", side_by_side(6, 192), list(range(1, 6))),
        Shape("grown twice", [Layer(half, "1G"), Layer([(600, 384, 2)], "2G"), Layer([(1500, 384, 3)], "4G")], [1, 2]),
        Shape("raw base", [Layer(half, format="raw"), Layer([(512, 640, 2)])], [1]),
        Shape("64 KiB pieces all over", [Layer(half), Layer(commands=scattered(4096, 3, 4096, 2))], [1]),
        Shape("zeros above data", [Layer(big), Layer([(0, 512, 0), (1024, 448, 2)])], [1]),
        Shape("two runs", [Layer(half), Layer([(512, 512, 2)]), Layer(small), Layer([(1024, 512, 4)])], [1, 3]),
        Shape("VM off: big base, small leaf", [Layer(big), Layer(above)], [1], off=True),
        Shape("VM off: small base, big layers", [Layer(small), *piled(3, 640)], [1, 2, 3], off=True),
    ]


def planned(rig, vm, names, way):
    """What the delete would be: ("commit", ...) run by run; None if it is refused."""
    plan = rig.site.cli("snapshot", "delete", vm.name, *names, "--dry-run", "--json", "--strategy", way, code=None).json
    return tuple(run["strategy"] for run in items(plan, "runs", "run")) if plan["possible"] else None


class Runs:
    """Everything that can be done with one shape, each some times on a fresh copy."""

    def __init__(self, rig, number, shape):
        self.rig, self.shape = rig, shape
        self.place = rig.places["ext4"]
        self.names = [f"s{i}" for i in shape.delete]
        self.seconds = {}    # strategies, run by run: [seconds]
        self.floors = {}     # the same: (seconds, of what)
        self.chosen = set()  # those that auto took; what it has learned meanwhile may change its mind
        chain = Chain(self.place, f"shape{number}", shape.layers)
        for turn in range(MORE_ROUNDS):
            if turn < ROUNDS or self.ratio() > LIMIT:
                self._turn(chain, f"shape{number}", turn)
        chain.remove()
        self.place.trim()

    def _turn(self, chain, name, turn):
        vm = self._copy(chain, name)
        wanted, ways = planned(self.rig, vm, self.names, "auto"), {}
        assert wanted is not None, f"{self.shape.name}: auto is refused"
        for way in [*FORCED, "auto"]:  # several words may mean the same
            ways.setdefault(planned(self.rig, vm, self.names, way), way)
        ways.pop(None, None)
        for strategies in list(ways)[::1 if turn % 2 == 0 else -1]:
            done = self._run(vm or self._copy(chain, name), ways[strategies])
            vm = None
            if strategies == wanted:
                self.chosen.add(done.strategies)

    def _copy(self, chain, name):
        return chain.ours(self.rig, name, start=not self.shape.off)

    def _run(self, vm, way):
        done = self.rig.delete(vm, *self.names, options=("--strategy", way), what=f"{self.shape.name}: {way}")
        assert done.job is not None, done.why
        self.seconds.setdefault(done.strategies, []).append(done.seconds)
        plans = [disk["plan"] for disk in items(done.job, "disks", "disk")]
        self.floors[done.strategies] = self.place.floor_of_moving(sum(plan["bytes_read"] for plan in plans),
                                                                  sum(plan["bytes_written"] for plan in plans),
                                                                  done.pauses)
        self.rig.drop(vm.name)
        return done

    def verdict(self):
        """(what auto took and its seconds, what was best and its seconds)"""
        best = {strategies: min(seconds) for strategies, seconds in self.seconds.items()}
        auto, winner = max(self.chosen, key=best.get), min(best, key=best.get)
        return auto, best[auto], winner, best[winner]

    def ratio(self):
        _, seconds, _, best = self.verdict()
        return seconds / best

    def line(self):
        auto, seconds, _, best = self.verdict()
        others = ", ".join(f"{strategies} {min(times):.2f} s" for strategies, times in self.seconds.items()
                           if strategies != auto)
        return f"  {self.shape.name:<36}{auto:<22}{seconds:>6.2f} s  {seconds / best:.2f} x  of: {others or '-'}"

    def figure(self):
        auto, seconds, winner, best = self.verdict()
        return Figure(f"ext4, {self.shape.name}: auto takes {auto}", seconds, "s", f"<= {LIMIT} x",
                      seconds <= LIMIT * best, f"the best: {winner}", best,
                      *min(self.floors.values()))


def choice(rig):
    """The first is not counted: rates of the storage are learned by it."""
    every = []
    for number, shape in enumerate([Shape("(learning)", [Layer([(0, 512, 1)]), Layer([(0, 512, 2)])], [1]),
                                    Shape("(learning, VM off)", [Layer([(0, 512, 1)]), Layer([(0, 512, 2)])], [1],
                                          off=True), *shapes()]):
        every.append(Runs(rig, number, shape))
        say(every[-1].line())
    return [runs.figure() for runs in every[2:]]
