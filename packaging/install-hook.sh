#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# install-hook.sh SBINDIR HOOKSDIR: the last step of an installation, run by meson.
set -eu
exec "${DESTDIR:-}$1/livemerge-agent" --hooks-dir "${DESTDIR:-}$2" --install-hook
