#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# install-deps.sh [build|demo|test|check|all]: installs from Debian's packages what building,
# demonstrating, testing and checking need (each includes "build"; the default is build). Says and
# does nothing if all is there. Never enables or starts a service: libvirt comes without its
# system service (libvirt-daemon, not libvirt-daemon-system).
set -euo pipefail

build=(build-essential pkg-config meson ninja-build libglib2.0-dev libvirt-dev libmicrohttpd-dev
    libgnutls28-dev libcurl4-gnutls-dev libjansson-dev libxml2-dev libsqlite3-dev libsystemd-dev liburing-dev
    libcrypt-dev libpam0g-dev zlib1g-dev libzstd-dev)
# a private libvirtd with QEMU, and what the test guest is made of
lab=(libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils busybox-static
    cpio lz4 python3 iproute2 procps util-linux)
test=(systemd systemd-container curl python3-pytest python3-pytest-xdist python3-jsonschema e2fsprogs xfsprogs btrfs-progs clang libclang-rt-dev jq libxml2-utils openssl spin wrk chromium libgovirt-dev)
check=(clang-format clang-tidy clang cppcheck codespell shellcheck jq)

case ${1:-build} in
build) wanted=("${build[@]}") ;;
demo) wanted=("${build[@]}" "${lab[@]}") ;;
test) wanted=("${build[@]}" "${lab[@]}" "${test[@]}") ;;
check) wanted=("${build[@]}" "${check[@]}") ;;
all) wanted=("${build[@]}" "${lab[@]}" "${test[@]}" "${check[@]}") ;;
*)
    echo "usage: $0 [build|demo|test|check|all]" >&2
    exit 2
    ;;
esac

installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p')
missing=()
for package in "${wanted[@]}"; do
    grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "Please install these packages (as root): ${missing[*]}" >&2
    exit 1
fi
echo "Installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
