#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# build-page.sh [BUILD]: the web page (web/) into BUILD/page, for meson to put into the manager: its
# files, each also packed by gzip and brotli, and page.gresource.xml, which lists them. Needs Node.js
# 20.19 or later with npm; without them, or if the packages of web/package-lock.json cannot be had,
# it says so, and the manager is built without its page. --list: only makes sure that there is a list.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" != --list ] || { list_only=1; shift; }
out=$(realpath -m "${1:-build}")/page
list=$out/page.gresource.xml
mkdir -p "$out"

without() {
    echo "The web page is not built: $1. Everything else is." >&2
    grep -qs '<file' "$list" || echo '<gresources><gresource prefix="/page"/></gresources>' >"$list"
    exit 0
}

if [ -n "${list_only:-}" ]; then
    [ -f "$list" ] || echo '<gresources><gresource prefix="/page"/></gresources>' >"$list"
    exit 0
fi
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    without "there is no Node.js with npm"
fi
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' ||
    without "Node.js is $(node --version), 20.19 or later is needed"

sum=$(find web -path web/node_modules -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
[ "$sum" != "$(cat "$out/.sum" 2>/dev/null)" ] || exit 0
tools/install-web.sh || without "npm could not fetch the packages of web/package-lock.json"
cd web
node_modules/.bin/vite build --logLevel warn --emptyOutDir --outDir "$out/files" || exit 1
node pack.mjs "$out"
echo "$sum" >"$out/.sum"
