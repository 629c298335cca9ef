#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""man_page.py PAGE.md VERSION: the manual as man(1) reads it, on standard output.

It knows what docs/livemerge.1.md uses of Markdown: headings, paragraphs, indented lines that stay as they are,
definitions (": " below a term), tables, and **bold**, *emphasis* and `code`."""

import re
import sys
from pathlib import Path


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def inline(text):
    """The pieces of a line in their fonts: what stands in `code` is not looked into."""
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*|\*[^* ][^*]*\*)", text)
    out = []
    for part in parts:
        if part.startswith("`") and len(part) > 1:
            out.append(f"\\fB{escape(part[1:-1])}\\fR")
        elif part.startswith("**") and len(part) > 4:
            out.append(f"\\fB{escape(part[2:-2])}\\fR")
        elif part.startswith("*") and len(part) > 2:
            out.append(f"\\fI{escape(part[1:-1])}\\fR")
        else:
            out.append(escape(part) if not out else escape(part).removeprefix("\\&"))
    return "".join(out)


def joined(lines):
    return inline(" ".join(line.strip() for line in lines))


def table(lines):
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    for first, *others in rows[2:]:
        yield from (".TP", f"\\fB{escape(first)}\\fR", joined(others))


def block(lines):
    """A block is what stands between two empty lines."""
    first = lines[0]
    if first.startswith("# "):
        return
    if first.startswith("## "):
        yield f".SH {escape(first[3:].upper())}"
    elif first.startswith("    "):
        yield from (".PP", ".nf", ".RS 4")
        yield from (escape(line[4:]) for line in lines)
        yield from (".RE", ".fi")
    elif first.startswith("|"):
        yield from table(lines)
    elif len(lines) > 1 and lines[1].startswith(": "):
        yield from (".TP", inline(first), joined([lines[1][2:], *lines[2:]]))
    else:
        yield from (".PP", joined(lines))


def blocks(text):
    """Indented blocks with an empty line between them are one."""
    found = [part.split("\n") for part in re.split(r"\n\n+", text.strip("\n"))]
    merged = []
    for lines in found:
        if merged and lines[0].startswith("    ") and merged[-1][0].startswith("    "):
            merged[-1] += ["", *lines]
        else:
            merged.append(lines)
    return merged


def page(text, version):
    name, section = re.match(r"# (\S+)\((\d)\)", text).groups()
    yield f'.TH {name.upper()} {section} "" "livemerge {version}"'
    yield ".ad l"
    for lines in blocks(text):
        yield from block(lines)


if __name__ == "__main__":
    print("\n".join(page(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2])))
