#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# promtool.sh DIR: prints where promtool is. Debian's package would start a Prometheus, so it is only
# unpacked, into DIR.
set -euo pipefail
if command -v promtool; then exit; fi
dir=$1
if [ ! -x "$dir/usr/bin/promtool" ]; then
    mkdir -p "$dir"
    cd "$dir"
    apt-get -qq download prometheus >&2
    dpkg -x prometheus_*.deb .
    rm prometheus_*.deb
fi
echo "$dir/usr/bin/promtool"
