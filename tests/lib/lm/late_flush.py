# SPDX-License-Identifier: LGPL-2.1-or-later
"""H13, made: QEMU and the agent die as an internal commit has ended, perhaps before its base is flushed."""

import os
import shutil
import signal
from contextlib import contextmanager

from .util import run, wait_for


def backing(path):
    return run("qemu-img", "info", "-U", path).stdout.partition("(actual path: ")[2].partition(")")[0]


@contextmanager
def died_after_commit(site, one, torn):
    """The delete of s2, of s1 to s3: the job, and the volume that holds all. The VM is off and the agent dead; torn: what
    was copied into the base is lost."""
    base, top, leaf = one.layers("s1", "s2", "s3").chain()[1:4]
    kept = site.work / "base as it was"
    shutil.copyfile(base, kept)
    site.agent.restart(faults="agent.merge.after-start=die@1")
    site.wait_ready()
    job = one.begin_delete("s2", options=("--strategy", "commit"))
    site.agent.wait_dead()
    wait_for(lambda: backing(leaf) == base, 20, f"the header of {leaf} names {base}")
    wait_for(lambda: not site.host.virsh("blockjob", one.name, "vda", check=False).strip(), 20, "the job has ended")
    os.kill(site.host.qemu_pid(one.name), signal.SIGKILL)
    wait_for(lambda: site.host.state(one.name) == "shut off", 20, "libvirt has seen it")
    if torn:
        shutil.copyfile(kept, base)
    try:
        yield job, top
    finally:
        kept.unlink()
        site.mend()
