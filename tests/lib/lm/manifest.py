# SPDX-License-Identifier: LGPL-2.1-or-later
"""A manifest that somebody else has written."""

import hashlib
import json
from contextlib import contextmanager


@contextmanager
def edited_manifest(site, one):
    """What it says of the VM, to be changed; without the agent."""
    file = one.directory / ".livemerge" / "vms" / f"{one.id}.json"
    site.agent.stop()
    stored = json.loads(file.read_text(encoding="utf-8"))
    yield stored["vm"]
    text = json.dumps(stored["vm"], separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    stored["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(stored), encoding="utf-8")
    site.agent.start()
    site.wait_ready()
