#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes a small corpus of bodies for tests/fuzz/api_body_fuzz.c: the first byte is the medium
# (2 = XML, 3 = JSON, both with any root; 0 = XML whose root is action). tests/fuzz/run calls it.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
mkdir -p "$1"
cd "$1"

printf '\000<action><async>false</async></action>' >action
printf '\000<action/>' >nothing
printf '\002<?xml version="1.0"?><snapshot id="1"><description>x &amp; y</description></snapshot>' >snapshot
printf '\002<action><snapshots><snapshot id="a"/><snapshot id="b"/></snapshots><bandwidth>7</bandwidth></action>' >list
printf '\002<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d SYSTEM "file:///etc/passwd">]><a>&b;&d;</a>' >entities
printf '\002<a xmlns:x="y" x:id="1"><![CDATA[<]]><!-- --><?p i?>&#7;</a>' >parts
printf '\002\357\273\277<a>\303\244</a>' >bom
printf '\002\377\376<\000a\000/\000>\000' >utf16
printf '\003{"description": "x", "persist_memorystate": false}' >new
printf '\003{"snapshots": {"snapshot": [{"id": "a"}, {"id": "b"}]}, "bandwidth": 1.5e3, "dry_run": null}' >remove
printf '\003{"a": [[{"b": -0, "c": "\\ud83d\\ude00\\u0007"}]], "d": 9223372036854775807}' >numbers
printf '\003{"a": 1, "a": 2}' >twice
