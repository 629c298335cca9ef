#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# build.sh DIR: makes the test guest in DIR: linux (Debian's cloud kernel, only unpacked, never
# installed), initrd (busybox and our writer) and check (the verifier, for this machine).
# Does nothing if they are there and made from what is here now.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

exec 9>"$out/.lock" # two test runs may start at once
flock 9
stamp=$(cat "$here"/* /bin/busybox | sha256sum)
if [ -s "$out/linux" ] && [ -s "$out/initrd" ] && [ "$(cat "$out/.stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1
}

fetch_kernel() {
    local package
    package=$(kernel_package)
    if [ -z "$package" ]; then
        apt-get -qq update
        package=$(kernel_package)
    fi
    [ -n "$package" ] || { echo "build.sh: apt knows no linux-image-cloud-amd64" >&2; exit 1; }
    cd "$work"
    # an index that is older than the mirror names files that are gone
    apt-get -qq download "$package" 2>"$work/apt.log" ||
        { apt-get -qq update && apt-get -qq download "$package"; } || { cat "$work/apt.log" >&2; exit 1; }
    dpkg-deb -x ./*.deb "$work/kernel"
    rm -rf "$out/kernel"
    mkdir "$out/kernel"
    for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk virtio_console; do
        find "$work/kernel/lib/modules" -name $module.ko -exec cp {} "$out/kernel/" \;
    done
    strip -g "$out"/kernel/*.ko
    "$here/unpack.py" "$work"/kernel/boot/vmlinuz-* "$work/linux"
    mv "$work/linux" "$out/linux"
}

[ -s "$out/linux" ] || fetch_kernel
mkdir -p "$work"/root/{bin,lib,proc,sys,dev}
cp /bin/busybox "$work/root/bin/"
cp "$here/init" "$work/root/"
cp "$out"/kernel/*.ko "$work/root/lib/"
gcc -O2 -Wall -D_GNU_SOURCE -static -pthread -o "$work/root/bin/gw" "$here/gw.c"
gcc -O2 -Wall -D_GNU_SOURCE -static -o "$work/root/bin/ga" "$here/ga.c"
strip "$work/root/bin/gw" "$work/root/bin/ga"
gcc -O2 -Wall -D_GNU_SOURCE -o "$out/check" "$here/check.c"
(cd "$work/root" && find . | cpio --quiet -o -H newc) >"$work/initrd" # not packed: see unpack.py
mv "$work/initrd" "$out/initrd"
echo "$stamp" >"$out/.stamp"
