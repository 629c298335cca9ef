# SPDX-License-Identifier: LGPL-2.1-or-later
"""How soon the web page shows something, in Debian's Chromium."""

from lm.browser import Browser
from lm.played import PlayedSite, vm_document
from rig import Figure, median, say

VMS, LAYERS, TIMES = 1000, 200, 7
LIMIT = 1  # s


def views(_rig):
    """From nothing, with nothing of the page kept by the browser: the list of many VMs, the snapshots of a deep chain."""
    vms = [vm_document(i, 1 + i % 5, "up" if i % 3 else "down", "machine-") for i in range(VMS - 1)]
    site, browser = PlayedSite([*vms, vm_document(VMS, LAYERS - 1, name="deep")]), Browser()
    try:
        deep = site.agent.vms[-1]["id"]
        told = browser.play("views", {"url": site.url, "user": site.user, "password": site.password, "times": TIMES,
                                      "deep": deep})
    finally:
        browser.close()
        site.close()
    figures = []
    for what, key in ((f"list of {VMS} VMs", "list"), (f"a chain of {LAYERS} volumes", "chain")):
        say(f"  {what}: {', '.join(f'{ms / 1000:.2f}' for ms in told[key])} s")
        usual = median(told[key]) / 1000
        figures.append(Figure(f"page, {what}: the first view, median of {TIMES}", usual, "s", f"< {LIMIT} s",
                              usual < LIMIT))
    return figures
