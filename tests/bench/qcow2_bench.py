#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""qcow2_bench.py QCOW2_TOOL: building merged volumes against `qemu-img commit`, cold, on loop-mounted
XFS and btrfs; reading headers against `qemu-img info`. Needs root, some 12 GiB in $TMPDIR.

Everything is mounted in a mount namespace of its own, which goes away with the program."""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20


def run(*argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, argv))}: {done.stderr}")
    return done.stdout


def tool(*argv):
    return json.loads(run(TOOL, *argv))


def io(path, commands):
    """qemu-io reads its commands from standard input."""
    text = "\n".join(commands) + "\nquit\n"
    subprocess.run(["qemu-io", "-t", "unsafe", "-f", "qcow2", path], input=text, text=True, check=True,
                   stdout=subprocess.DEVNULL)


def create(path, size, backing=None):
    run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", backing, "-F", "qcow2"] if backing else []), path, size)


def scattered(folder):
    """2 GiB in 64 KiB pieces, in three layers, written in random order: no two lie side by side for
    the guest, but in the files they do."""
    rng = random.Random(1)
    places = rng.sample(range(0, 4 * 1024 * 16, 2), 32768)
    for n, part in enumerate((places[:10923], places[10923:21846], places[21846:])):
        create(f"{folder}/v{n}", "8G", f"v{n-1}" if n else None)
        io(f"{folder}/v{n}", [f"write -q -P {n + 1} {p << 16} 64k" for p in part])


def apart(folder):
    """The same, and in the files too no two pieces lie side by side: every second one is overwritten
    in the layer above, so that each needs a call of its own."""
    for n in range(3):
        create(f"{folder}/v{n}", "8G", f"v{n-1}" if n else None)
    rng = random.Random(2)
    places = list(range(16384))
    io(f"{folder}/v0", [f"write -q -P 1 {p << 17} 128k" for p in places])
    rng.shuffle(places)
    io(f"{folder}/v1", [f"write -q -P 2 {p << 17} 64k" for p in places])


def sequential(folder):
    for n in range(3):
        create(f"{folder}/v{n}", "8G", f"v{n-1}" if n else None)
        io(f"{folder}/v{n}", [f"write -q -P {n + 1} {n * 1024 + m}M 256M" for m in range(0, 1024, 256)])


def commit(folder):
    """qemu-img commit of the upper layers into a copy of the base, that is: of both, one pass each at best."""
    for n in range(3):
        run("cp", "--reflink=always", f"{folder}/v{n}", f"{folder}/c{n}")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "c0", "-F", "qcow2", f"{folder}/c1")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "c1", "-F", "qcow2", f"{folder}/c2")
    os.sync()
    drop_caches()
    begin = time.monotonic()
    run("qemu-img", "commit", "-q", "-d", "-f", "qcow2", "-b", "c0", f"{folder}/c2")
    fd = os.open(f"{folder}/c0", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return time.monotonic() - begin


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")


def measure(kind, shape, folder, want):
    layers = [f"{folder}/v{n}" for n in range(3)]
    shape(folder)
    runs = []
    for _ in range(3): # the middle one counts: a loop device is at the mercy of the disk below
        if runs:
            os.unlink(f"{folder}/new")
        os.sync()
        drop_caches()
        runs.append(tool("build", f"{folder}/new", "share", *layers))
    built = sorted(runs, key=lambda r: r["seconds"])[1]
    check = tool("check", f"{folder}/new")
    same = tool("same", f"{folder}/new", *layers)
    run("qemu-img", "check", "-q", "-f", "qcow2", f"{folder}/new")
    theirs = commit(folder)
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", f"{folder}/c0", f"{folder}/new")
    ratio = theirs / built["seconds"]
    calls = built["share_calls"]
    print(f"{kind:6} {shape.__name__:11} ours {built['seconds']:7.3f} s, qemu-img commit {theirs:7.3f} s: "
          f"{ratio:6.1f} x ({f"wanted {want}" if want else "no target"}); {calls} share calls, {built['seconds'] / max(calls, 1) * 1e6:.1f} us each, "
          f"{built['shared'] >> 20} MiB shared, {built['written'] >> 10} KiB written; "
          f"check {check['seconds']:.3f} s, same map {same['seconds']:.3f} s")
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    return {"fs": kind, "shape": shape.__name__, "ours": built, "qemu_img_commit": theirs, "ratio": ratio,
            "wanted": want, "met": ratio >= want}


def headers(folder):
    create(f"{folder}/0", "10G")
    for n in range(1, 10000):
        shutil.copyfile(f"{folder}/0", f"{folder}/{n}")
        if n % 2:
            with open(f"{folder}/{n}", "r+b") as f: # a backing name in the header, by hand
                f.seek(8)
                f.write((512).to_bytes(8, "big") + (4).to_bytes(4, "big"))
                f.seek(512)
                f.write(b"base")
    tool("headers", folder)
    ours = tool("headers", folder)
    begin = time.monotonic()
    for n in range(50):
        run("qemu-img", "info", "-U", f"{folder}/{n * 2}")
    theirs = (time.monotonic() - begin) * 200
    print(f"headers of {ours['volumes']} volumes: {ours['seconds']:.3f} s (wanted under 1), qemu-img info "
          f"{theirs:.0f} s: {theirs / ours['seconds']:.0f} x")
    return {"headers": ours, "qemu_img_info": theirs}


def main():
    results = []
    with tempfile.TemporaryDirectory() as root:
        for kind, options in (("xfs", ["-q", "-m", "reflink=1"]), ("btrfs", ["-q"])):
            image, folder = f"{root}/{kind}.img", f"{root}/{kind}"
            os.mkdir(folder)
            run("truncate", "-s", "24G", image)
            run(f"mkfs.{kind}", *options, image)
            run("mount", "-o", "loop", image, folder)
            try:
                results.append(measure(kind, scattered, folder, 8))
                results.append(measure(kind, apart, folder, 0))
                results.append(measure(kind, sequential, folder, 100))
                if kind == "xfs":
                    results.append(headers(folder))
            finally:
                run("umount", folder)
            os.unlink(image)
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if "QCOW2_BENCH_INSIDE" not in os.environ:
        os.environ["QCOW2_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, "-B", *sys.argv])
    TOOL = os.path.abspath(sys.argv[1])
    main()
