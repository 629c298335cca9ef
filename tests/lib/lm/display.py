# SPDX-License-Identifier: LGPL-2.1-or-later
"""A display for a VM."""

from lm.util import wait_for

VNC = """<graphics type='vnc' port='-1' autoport='yes' passwd='x' passwdValidTo='1970-01-01T00:00:01'>
<listen type='address' address='127.0.0.1'/></graphics>"""


def give_display(site, one):
    xml = site.host.virsh("dumpxml", one.name, "--inactive")
    file = site.work / f"{one.name}.xml"
    file.write_text(xml.replace("</devices>", VNC + "</devices>"))
    site.host.virsh("define", str(file))
    file.unlink()
    wait_for(lambda: site.rest.json("GET", f"/vms/{one.id}/graphicsconsoles").get("graphics_console"), 10,
             "the manager knows of the display")
