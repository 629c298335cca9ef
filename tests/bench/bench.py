#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make bench: how fast deletes are, against QEMU's and libvirt's own ways on copies of the same
chains in the same run, on loop-mounted XFS, btrfs and ext4; how right plans are; how long guests stand
still; what the daemons take when idle; how many requests the API answers; how soon the page is seen. Prints a table
and writes build/bench.json. Wants a machine that does nothing else, root, and 50 GiB in /var/tmp. The exit status is 1 if a target is missed.

    bench.py [NAME...]     only some of: headers graft cold choice plan internal leaf eight small idle api page

The floor of a row is what no program could undercut there: share calls times the measured cost of one, or
bytes by the measured rate of the disk, and the pauses of the guest."""

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

# pylint: disable=wrong-import-position
from api import api  # noqa: E402
from choice import choice  # noqa: E402
from cold import cold  # noqa: E402
from grafts import graft  # noqa: E402
from headers import headers  # noqa: E402
from idle import idle  # noqa: E402
from latency import small_deletes  # noqa: E402
import merges  # noqa: E402
from places import in_own_namespace  # noqa: E402
from plans import estimates, planning  # noqa: E402
from rig import Rig, save, say  # noqa: E402
from views import views  # noqa: E402
from lm import BUILD  # noqa: E402

#   name        what                     file systems
MEASUREMENTS = {
    "headers":  (headers,                ["xfs"]),
    "graft":    (graft,                  ["xfs"]),
    "cold":     (cold,                   ["xfs", "btrfs"]),
    "choice":   (choice,                 ["ext4"]),
    "plan":     (planning,               ["xfs"]),
    "internal": (merges.internal_delete, []),
    "leaf":     (merges.leaf_delete,     []),
    "eight":    (merges.eight_at_once,   []),
    "small":    (small_deletes,          []),
    "idle":     (idle,                   []),
    "api":      (api,                    []),
    "page":     (views,                  []),
}


def measure(rig, names):
    figures = []
    for name in names:
        began = time.monotonic()
        say(f"{name} ...")
        more = MEASUREMENTS[name][0](rig)
        figures += more if isinstance(more, list) else [more]
        say(f"  took {time.monotonic() - began:.0f} s")
    return figures


def table(figures):
    say(f"\n{'':<72}{'livemerge':>14}{'peer':>11}{'ratio':>8}{'floor':>11}{'x floor':>9}  {'target':<18}")
    for row in (figure.row() for figure in figures):
        peer = f"{row['peer_value']:.2f} {row['unit']}" if row["peer"] else "-"
        ratio = f"{row['ratio']:.3f}" if row["peer"] else "-"
        floor = f"{row['floor']:.4f} {row['unit']}" if row["floor"] else "-"
        times = f"{row['times_floor']:.1f} x" if row["floor"] else "-"
        value = f"{row['value']:.{3 if row['value'] < 10 else 1}f} {row['unit']}"
        say(f"{row['name']:<72}{value:>14}{peer:>11}{ratio:>8}{floor:>11}{times:>9}  "
            f"{row['target']:<18}{'ok' if row['pass'] else 'MISSED'}")
        if row["peer"]:
            faster = f"; {row['peer_value'] / row['value']:.1f} x faster" if row["value"] < row["peer_value"] else ""
            say(f"    against {row['peer']}{faster}{f'; floor: ' + row['floor_of'] if row['floor_of'] else ''}")


def main():
    names = sys.argv[1:] or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        sys.exit(f"no measurement {', '.join(unknown)}; there are: {' '.join(MEASUREMENTS)}")
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(1))
    in_own_namespace()
    rig = Rig(sorted({kind for name in names for kind in MEASUREMENTS[name][1]}))
    try:
        figures = measure(rig.up(), names)
        if rig.jobs:
            figures += estimates(rig)
    except Exception:
        say(rig.site.logs())
        raise
    finally:
        rig.down()
    table(figures)
    save(figures, BUILD / "bench.json")
    say(f"\nwritten to {BUILD / 'bench.json'}")
    return 0 if all(figure.good for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
