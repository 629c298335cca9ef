#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Includes go only downwards. Prints every #include "FOLDER/..." that does not, and exits 1.

The table is design in one place: what a folder may use besides itself. What is not named in it
(a new folder) is an error, so that somebody decides where it stands."""

import re
import sys
from pathlib import Path

BELOW = {
    "base": [],
    "model": ["base"],
    "qcow2": ["base", "model"],
    "storage": ["base", "model", "qcow2"],
    "hypervisor": ["base", "model"],
    "hook": ["base", "model", "qcow2", "storage", "hypervisor"],
    "database": ["base"],
    "store": ["base", "model", "database"],
    "http": ["base"],
    "wire": ["base", "model", "http"],
    "agent": ["base", "model", "database", "qcow2", "storage", "hypervisor", "http", "wire"],
    "flow": ["base", "model", "http", "wire", "store"],
    "people": ["base", "model", "store"],
    "page": ["base", "http"],
    "api": ["base", "model", "http", "wire", "store", "people", "flow", "page"],
    "cli": ["base", "model", "http"],
}
# The programs: each may use what the folder named beside it may, and that folder.
PROGRAMS = {"livemerge-agent.c": "agent", "livemerge-hook.c": "hook", "livemerge-manager.c": "api", "livemerge.c": "cli"}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def folder_of(path, src):
    """The folder whose rules hold for a file; None if nobody wrote a rule."""
    parts = path.relative_to(src).parts
    return parts[0] if len(parts) > 1 else PROGRAMS.get(parts[0])


def wrong_includes(path, src):
    """Lines to print about one file."""
    folder = folder_of(path, src)
    if folder not in BELOW:
        yield f"{path}: no rule for this folder; add it to tools/check_layers.py"
        return
    text = path.read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        target = match[1]
        line = text.count("\n", 0, match.start()) + 1
        if "/" not in target:
            yield f'{path}:{line}: "{target}": write it with its folder'
        elif ".." in target:
            yield f'{path}:{line}: "{target}": no relative includes'
        elif target.split("/")[0] not in BELOW[folder] + [folder]:
            yield f'{path}:{line}: {folder} must not include "{target}"'


def main():
    src = Path(__file__).resolve().parent.parent / "src"
    wrong = [line for path in sorted(src.rglob("*.[ch]")) for line in wrong_includes(path, src)]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
