#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make bench: how fast deletes are, against virsh on copies of the same chains in the same run; how
long guests stand still; what the daemons take when idle. Prints a table and writes
build/bench.json. Wants a machine that does nothing else. The exit status is 1 if a target is missed.

    bench.py [NAME...]     only some of: internal leaf eight small idle"""

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from idle import idle  # noqa: E402  pylint: disable=wrong-import-position
from latency import small_deletes  # noqa: E402  pylint: disable=wrong-import-position
import merges  # noqa: E402  pylint: disable=wrong-import-position
from rig import Rig, save, say  # noqa: E402  pylint: disable=wrong-import-position
from lm import BUILD  # noqa: E402  pylint: disable=wrong-import-position

MEASUREMENTS = {
    "internal": merges.internal_delete,
    "leaf": merges.leaf_delete,
    "eight": merges.eight_at_once,
    "small": small_deletes,
    "idle": idle,
}


def measure(rig, names):
    figures = []
    for name in names:
        began = time.monotonic()
        say(f"{name} ...")
        more = MEASUREMENTS[name](rig)
        figures += more if isinstance(more, list) else [more]
        say(f"  took {time.monotonic() - began:.0f} s")
    return figures


def table(figures):
    say(f"\n{'':<64}{'livemerge':>13}{'peer':>10}{'ratio':>8}  {'target':<18}")
    for figure in figures:
        row = figure.row()
        peer = f"{row['peer_value']:.2f} {row['unit']}" if row["peer"] else "-"
        ratio = f"{row['ratio']:.2f}" if row["peer"] else "-"
        say(f"{row['name']:<64}{row['value']:>10.2f} {row['unit']:<2}{peer:>10}{ratio:>8}  "
            f"{row['target']:<18}{'ok' if row['pass'] else 'MISSED'}")
        if row["peer"]:
            say(f"    against {row['peer']}")


def main():
    names = sys.argv[1:] or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        sys.exit(f"no measurement {', '.join(unknown)}; there are: {' '.join(MEASUREMENTS)}")
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(1))
    rig = Rig()
    try:
        figures = measure(rig.up(), names)
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
