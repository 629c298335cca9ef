# SPDX-License-Identifier: LGPL-2.1-or-later
"""H13 on a host without livemerge's hook: nobody refuses the start while the agent is dead. What the VM reads then is compared
with the volume that holds all."""

import os
import shutil
import signal

import pytest

from lm import Site, run, wait_for


@pytest.fixture(scope="module")
def site():
    whole = Site()
    whole.host.guard = None
    try:
        yield whole.up()
    finally:
        whole.down()


def backing(path):
    return run("qemu-img", "info", "-U", path).stdout.partition("(actual path: ")[2].partition(")")[0]


@pytest.fixture(name="started", params=["whole", "torn"])
def started_without_the_agent(request, site, vm):
    """QEMU died as its commit had ended, perhaps before all was flushed; the VM was started before the agent."""
    one = vm().layers("s1", "s2", "s3")
    chain = one.chain()
    base, top, leaf = chain[1:4]
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
    if request.param == "torn":
        shutil.copyfile(kept, base)
    assert one.virsh_start().returncode == 0
    site.agent.start()
    yield one, job, top, request.param == "torn"
    kept.unlink()
    site.mend()


def test_compared(site, started):
    one, job, top, torn = started
    if torn:
        wait_for(lambda: "it reads old data" in str(one.job(job)), 30, "the job says what is wrong")
        told = str(one.job(job))
        assert os.path.exists(top) and f"virsh shutdown {one.name}" in told, told
        site.host.virsh("destroy", one.name)
    one.wait_job(job)
    one.wait_status("down" if torn else "up")
    assert one.names() == ["s1", "s3"] and len(one.chain()) == 3
    assert set(one.files()) == set(one.chain()), "files were left behind"
    one.expect_layers(4)
