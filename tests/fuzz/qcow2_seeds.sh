#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes a small corpus of qcow2 images for the fuzz targets tests/fuzz/qcow2_fuzz.c (reading) and
# tests/fuzz/qcow2_build_fuzz.c (building, checking, comparing).
# Needs qemu-img and qemu-io. tests/fuzz/run calls it.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
mkdir -p "$1"
cd "$1"

make() {
    name=$1
    size=$2
    shift 2
    qemu-img create -q -f qcow2 "$@" "$name" "$size"
}

make empty 64k -o cluster_size=512
make one-sector 512 -o cluster_size=512
make b 64k -o cluster_size=512
make overlay 64k -o cluster_size=512 -b b -F qcow2
make overlay-raw 64k -o cluster_size=1k -b b -F raw
make no-format 64k -o cluster_size=512 -b b -F qcow2
printf '\0\0\0\0' | dd of=no-format bs=1 seek=112 conv=notrunc status=none # ends the extensions
make old 64k -o cluster_size=512,compat=0.10 -b b -F qcow2
make data 64k -o cluster_size=512
qemu-io -f qcow2 -c 'write 0 4k' -c 'write -z 8k 4k' -c 'write -z -u 16k 4k' -c 'discard 0 1k' data >/dev/null
make packed 64k -o cluster_size=4k
qemu-io -f qcow2 -c 'write -c 0 4k' -c 'write 8k 4k' packed >/dev/null
make zstd 64k -o cluster_size=4k,compression_type=zstd
qemu-io -f qcow2 -c 'write -c 0 4k' -c 'write -c -P 7 4k 4k' zstd >/dev/null
yes 'this goes into little space' | head -c 20k >text
qemu-img convert -c -f raw -O qcow2 -o cluster_size=512 text converted
rm text
make subclusters 256k -o cluster_size=16k,extended_l2=on
qemu-io -f qcow2 -c 'write 512 1k' -c 'write -z 16k 1k' subclusters >/dev/null
make bitmap 64k -o cluster_size=512
qemu-img bitmap --add -g 512 bitmap bits
make snapshot 64k -o cluster_size=512
qemu-img snapshot -c inside snapshot
# The target's own image is "a", beside a good "b" and a FIFO "f"
make loop 64k -o cluster_size=512 -u -b a -F qcow2
make fifo 64k -o cluster_size=512 -u -b f -F raw
make outside 64k -o cluster_size=512 -u -b /dev/null -F raw
make dots 64k -o cluster_size=512 -u -b ../shm/b -F raw
make protocol 64k -o cluster_size=512 -u -b nbd://localhost/x -F raw
make wide 1G -o cluster_size=4k,refcount_bits=64
