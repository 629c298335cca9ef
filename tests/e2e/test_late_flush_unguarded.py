# SPDX-License-Identifier: LGPL-2.1-or-later
"""H13 on a host without livemerge's hook: nobody refuses the start while the agent is dead. What the VM reads then is compared
with the volume that holds all."""

import os

import pytest

from lm import Site, wait_for
from lm.late_flush import died_after_commit


@pytest.fixture(scope="module")
def site():
    whole = Site()
    whole.host.guard = None
    with whole:
        yield whole


@pytest.fixture(name="started", params=["whole", "torn"])
def started_without_the_agent(request, site, vm):
    one, torn = vm(), request.param == "torn"
    with died_after_commit(site, one, torn) as (job, top):
        assert one.virsh_start().returncode == 0
        site.agent.start()
        yield one, job, top, torn


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
