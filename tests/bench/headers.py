# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading the headers and backing links of many volumes."""

from pathlib import Path

from chains import tool
from lm import qemu_img, run
from rig import Figure, median, timed

VOLUMES = 10000
CHAIN = 10
SAMPLE = 100
NAME_AT = 512


def make(directory):
    """Chains of ten: a backing name goes into the header by hand."""
    first = directory / "0"
    qemu_img("create", "-q", "-f", "qcow2", first, "10G")
    empty = first.read_bytes()
    for number in range(VOLUMES):
        volume = bytearray(empty)
        if number % CHAIN:
            name = str(number - 1).encode()
            volume[8:20] = NAME_AT.to_bytes(8, "big") + len(name).to_bytes(4, "big")
            volume[NAME_AT:NAME_AT + len(name)] = name
        (directory / str(number)).write_bytes(volume)


def headers(rig):
    directory = Path(rig.places["xfs"].layers) / "headers"
    directory.mkdir()
    make(directory)
    rig.places["xfs"].sync()
    tool("headers", directory)  # warm
    runs = [tool("headers", directory) for _ in range(5)]
    assert all(run["volumes"] == VOLUMES and run["links"] == VOLUMES * (CHAIN - 1) // CHAIN for run in runs), runs
    sample = [directory / str(number) for number in range(0, VOLUMES, VOLUMES // SAMPLE)]
    theirs = timed(lambda: [qemu_img("info", "-U", volume) for volume in sample]) * VOLUMES / SAMPLE
    run("rm", "-rf", directory)
    mine = median([run["seconds"] for run in runs])
    return Figure(f"headers and backing links of {VOLUMES:,} volumes, warm", mine, "s", "< 1 s", mine < 1,
                  f"qemu-img info ({SAMPLE} of them were run, times {VOLUMES // SAMPLE})", theirs,
                  median([run["floor"] for run in runs]), "open, one read of 4 KiB, close, of each")
