# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a backup brings back is older than the world: nothing that has ended is done again, nothing is shown that is not."""

import os
import shutil
import signal

import pytest

from lm import items, wait_for


@pytest.fixture(autouse=True)
def everything_runs_again(site):
    yield
    site.mend()


def is_stopped(daemon):
    with open(f"/proc/{daemon.pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


def newest_job(site):
    return items(site.rest.json("GET", "/jobs"), "job")[0]


def bring_back(daemon, copy):
    daemon.stop()
    state = daemon.directory / "state"
    shutil.rmtree(state)
    shutil.copytree(copy, state)
    daemon.start()


def test_job_that_has_ended_is_not_done_again(site, vm):
    """A backup was made just when a user powered a VM off. It was started since; then the backup is brought back."""
    one = vm()
    copy = site.work / "copy"
    site.manager.restart(faults="flow.before-call=stop@1")
    site.wait_ready()
    one.wait_status("up")
    with site.cli.spawn("vm", "stop", one.name, "-y") as asked:
        wait_for(lambda: is_stopped(site.manager), 20, "the manager is about to ask the agent")
        shutil.copytree(site.manager.directory / "state", copy)
        os.kill(site.manager.pid, signal.SIGCONT)
        assert asked.wait(60) == 0
    one.wait_status("down")
    site.cli("vm", "start", one.name)
    bring_back(site.manager, copy)
    site.wait_ready()
    wait_for(lambda: newest_job(site)["status"] != "started", 40, "the job ends")
    assert newest_job(site)["status"] == "failed" and "has ended already" in newest_job(site)["error"], newest_job(site)
    assert site.host.state(one.name) == "running"
