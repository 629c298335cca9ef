# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts with the same directories. Somebody else migrates a VM while a job of it is under way: the job loses
nothing, says what happened, and does not hold the VM for ever."""

import os
import signal

import pytest

from lm import items, pattern_is, run, two_hosts, wait_for
from lm.crash import is_stopped


@pytest.fixture(scope="module")
def site():
    with two_hosts() as both:
        yield both


@pytest.fixture(autouse=True)
def everything_runs_again(site):
    yield
    os.kill(site.agent.pid, signal.SIGCONT)
    site.agent.restart()
    site.wait_ready()


def migrate(site, one):
    run("virsh", "-q", "-c", site.host.uri, "migrate", "--live", "--persistent", "--undefinesource", "--p2p", "--unsafe",
        one.name, site.other.host.uri, "--migrateuri", f"unix://{site.work.path}/{one.name}.mig")


def begin(site, one, words):
    asked = site.cli("snapshot", *words, "--no-wait", "--json")
    return asked.json["id"] if words[0] == "delete" else asked.json["job"]["id"]


@pytest.mark.parametrize("point, words", [
    ("snapshot.after-switch", ("create", "VM", "s3")),
    ("merge.before-record", ("delete", "VM", "s2", "-y", "--strategy", "commit")),
])
def test_migrated_by_somebody_else(site, vm, point, words):
    one = vm().layers("s1", "s2")
    site.agent.restart(faults=f"agent.{point}=stop@1")
    site.wait_ready()
    one.wait_status("up")
    job = begin(site, one, [one.name if word == "VM" else word for word in words])
    wait_for(lambda: is_stopped(site.agent), 20, f"the agent stops at {point}")
    migrate(site, one)
    os.kill(site.agent.pid, signal.SIGCONT)
    done = one.wait_job(job, "failed", 90)
    assert "moved from host 'A' to host 'B'" in done["error"], done
    # what is left of it is told, and can be put right where the VM is now
    site.cli("doctor", one.name, "--fix", "-y", code=None)
    found = items(site.cli("doctor", one.name, "--json", code=None).json, "findings", "finding")
    assert not found, found
    assert {"s1", "s2"} <= set(one.names())
    one.delete(*one.names())
    leaf = site.other.host.leaf(one.name, "vda")
    assert site.other.host.chain(one.name, "vda") == [leaf] and one.files() == [leaf]
    assert all(pattern_is(leaf, f"{i}M", "1M", i + 1, share=True) for i in range(3))
    site.other.host.remove(one.name)
