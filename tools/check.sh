#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# check.sh [NAME...]: all checks of the source, or those named: format layers cppcheck tidy spelling
# shell web local. Each says what is wrong; the exit status is 1 if any found something. The tree
# must be configured in build/ (make does that).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

failed=()
files() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do if [ -f "$f" ]; then echo "$f"; fi; done; }
c_files() { files '*.c' '*.h'; }

check_format() { c_files | xargs clang-format --dry-run -Werror; }

check_layers() { tools/check_layers.py; }

check_cppcheck() {
    cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --library=gtk --library=posix --library=tools/cppcheck-livemerge.cfg \
        --enable=warning,performance,portability --suppressions-list=tools/cppcheck.suppress \
        -I . -I src -j 2 src
}

check_tidy() {
    # only what the build compiles; the flags come from it. gcc's own flags are unknown to clang.
    jq -r '.[].file' build/compile_commands.json | sort -u | while read -r f; do (cd build && realpath "$f"); done |
        grep "/src/" | xargs -P 2 -n 4 clang-tidy -p build --quiet --warnings-as-errors='*' \
            --extra-arg=-Wno-unknown-warning-option 2>&1 |
        grep -v -E '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header-filter' 
    return "${PIPESTATUS[4]}"
}

check_spelling() {
    files '*.c' '*.h' '*.py' '*.sh' '*.md' '*.1' '*.8' '*.5' Makefile | xargs codespell --ignore-words=tools/spelling.ignore
}

check_shell() {
    files | while read -r f; do
        if head -c 64 "$f" | head -1 | grep -qaE '^#!.*\b(ba)?sh$'; then echo "$f"; fi
    done | xargs shellcheck
}

check_web() {
    if [ ! -d web/node_modules ]; then echo "The web page is not checked: it was not built."; return 0; fi
    (cd web && node_modules/.bin/tsc --noEmit && node_modules/.bin/eslint --max-warnings=0 .)
}

# What works only on the machine of whoever wrote it.
check_local() {
    ! files | grep -v -x tools/check.sh |
        xargs grep -nE '(^|[^A-Za-z0-9_.])/(work|home|root)/[a-z]|/var/tmp/lvlab|(proxy|mirror|registry|artifactory|nexus)\.[a-z0-9-]+\.(internal|local|corp|lan)'
}

for check in "${@:-format layers cppcheck tidy spelling shell web local}"; do
    for name in $check; do
        echo "== $name"
        "check_$name" || failed+=("$name")
    done
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "These checks found something: ${failed[*]}"
    exit 1
fi
echo "All checks passed."
