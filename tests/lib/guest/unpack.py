#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""unpack.py BZIMAGE OUT: the kernel as the processor runs it. To unpack itself costs an emulated one most of a second at
every boot; QEMU starts the ELF file inside by the PVH protocol. A kernel that is packed otherwise than by lz4 stays as it is."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

LZ4 = b"\x02\x21\x4c\x18"  # the legacy frame, which kernels use


def payload(image):
    """The boot protocol's payload_offset and payload_length (x86/boot.rst), behind the sectors of the set-up."""
    offset, length = struct.unpack_from("<II", image, 0x248)
    at = ((image[0x1f1] or 4) + 1) * 512 + offset
    return image[at:at + length - 4]  # its unpacked size stands behind it


def main(source, out):
    image = Path(source).read_bytes()
    packed = payload(image)
    if packed[:4] != LZ4:
        shutil.copy(source, out)
        return
    done = subprocess.run(["lz4", "-dc"], input=packed, capture_output=True, check=False)
    if done.returncode == 0 and done.stdout[:4] == b"\x7fELF":
        Path(out).write_bytes(done.stdout)
    else:
        shutil.copy(source, out)


main(*sys.argv[1:])
