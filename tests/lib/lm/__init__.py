# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the end to end tests and the demonstration stand on: a private host with libvirtd, a
guest that writes, the three programs."""

from .util import BUILD, REPO, WorkDir, leftovers, run, wait_for
from .host import Disk, Host, domain_xml, ext4_disk, flip_data, image_chain, make_domain, qemu_img
from .guest import Guest, Lost, Stream, build_guest, check_image, verify_acked
from .site import Site, Vm, pattern_is, two_hosts
from .wire import Wire
from .programs import Agent, Cli, Manager, Rest, items, lasting

__all__ = [
    "BUILD", "REPO", "WorkDir", "leftovers", "run", "wait_for",
    "Disk", "Host", "domain_xml", "ext4_disk", "flip_data", "image_chain", "make_domain", "qemu_img",
    "Guest", "Lost", "Stream", "build_guest", "check_image", "verify_acked",
    "Agent", "Cli", "Manager", "Rest", "items", "lasting",
    "Site", "Vm", "Wire", "pattern_is", "two_hosts",
]
