#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The packages of web/package-lock.json into web/node_modules, if others are there or none.
set -euo pipefail
cd "$(dirname "$0")/../web"
sum=$(sha256sum package-lock.json)
[ "$sum" != "$(cat node_modules/.sum 2>/dev/null)" ] || exit 0
echo "Installing the web page's packages" >&2
npm ci --no-audit --no-fund --loglevel=error >&2
echo "$sum" >node_modules/.sum
