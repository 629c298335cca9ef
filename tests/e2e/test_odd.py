# SPDX-License-Identifier: LGPL-2.1-or-later
"""What nobody plans: names with odd characters, everybody killed again while all recover, a doctor while a merge
runs, agents that start together, or before libvirt."""

import os
import random
import signal
import time
from xml.sax.saxutils import quoteattr

import pytest

from lm import Agent, Disk, qemu_img, wait_for


@pytest.fixture(autouse=True)
def everything_runs_again(site):
    yield
    site.mend()


def healthy(site, one):
    wait_for(lambda: "Nothing wrong" in site.cli("doctor", one.name, code=None).err, 20,
             lambda: f"the doctor finds nothing: {site.cli('doctor', one.name, code=None)}")


def merging(site, vm, bandwidth):
    """A VM of which a snapshot is deleted, 24 MiB slowly: the job's id."""
    one = vm(1).layers("one", "two")
    site.host.write(one.name, 0, "16M", "24M", 9)
    job = one.begin_delete("two", options=["--bandwidth", bandwidth])
    wait_for(lambda: site.host.virsh("blockjob", one.name, "vda", check=False), 10, "the merge runs")
    return one, job


NAMES = ["nbd:a,b", "100%41 it's \"quoted\" & <tagged>", "json:{}", "-$(id) [x]*\\ünï"]


@pytest.mark.parametrize("runs", [True, False], ids=["runs", "off"])
@pytest.mark.parametrize("name", NAMES)
def test_name_of_a_file(site, vm, name, runs):
    directory = site.work / "v" / f"{runs} {name}"
    path = directory / f"{name}.qcow2"
    directory.mkdir(parents=True)
    qemu_img("create", "-q", "-f", "qcow2", str(path), "64M")
    one = vm([Disk(xml="<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>"
                       f"<source file={quoteattr(str(path))}/><target dev='vda' bus='virtio'/></disk>")],
             directory=directory).layers("one", "two", "three")
    if not runs:
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    one.delete("two")
    one.delete("one", "three")
    one.expect_layers(4)
    if not runs:
        site.host.virsh("start", one.name)
        one.wait_status("up")
    healthy(site, one)
    one.expect_layers(4)


def kill_everybody(site, one, luck):
    victims = [site.manager.kill9, site.agent.kill9, site.host.kill9]
    if site.host.state(one.name) != "shut off" and luck.random() < 0.3:
        qemu = site.host.qemu_pid(one.name)
        victims.append(lambda: os.kill(qemu, signal.SIGKILL))
    luck.shuffle(victims)
    for kill in victims:
        kill()


def start_everybody(site, luck):
    starts = [site.host.start, site.agent.start, site.manager.start]
    luck.shuffle(starts)
    for start in starts:
        start()


@pytest.mark.parametrize("seed", range(1, 1 + int(os.environ.get("LM_ODD_SEEDS", "4"))))
def test_killed_again_while_all_recover(site, vm, seed):
    luck = random.Random(seed)
    names = ["one", "two", "three", "four"]
    one = vm(2).layers(*names, disks=2)
    gone = luck.sample(names, luck.choice([1, 2, 3]))
    if luck.random() < 0.25:
        site.host.virsh("destroy", one.name)
        one.wait_status("down")
    job = one.begin_delete(*gone, options=luck.choice([[], ["--bandwidth", "1"], ["--strategy", "commit"]]))
    for longest in (1, 1.5, 1.5)[:luck.choice([2, 3])]:
        time.sleep(luck.random() ** 2 * longest)  # any moment is one
        kill_everybody(site, one, luck)
        start_everybody(site, luck)
    site.wait_ready()
    one.wait_job(job, timeout=90)
    assert one.names() == [name for name in names if name not in gone]
    healthy(site, one)
    one.expect_layers(5, disks=2)


def test_doctor_while_a_merge_runs(site, vm):
    one, job = merging(site, vm, 1)
    for words in ([one.name], [], [one.name, "--class", "foreign-job", "--class", "orphan-volume"]):
        assert "is under way" in site.cli("doctor", *words, "--fix", "-y", code=1).err
    assert "held" in site.cli("doctor", one.name, "--undo", job, code=4).err
    site.cli("job", "cancel", job)
    one.wait_job(job, "aborted")
    one.delete("two")
    healthy(site, one)
    one.expect_layers(3)


def test_two_agents_start_at_once(site, vm):
    """On the same state and the same socket: one of them stays, whichever, and all goes on."""
    one = vm(1).layers("one")
    for number in range(4):
        site.agent.kill9()
        other = Agent(site.work / f"agent-{number}", site.host.uri)
        other.conf.write_text(site.agent.conf.read_text())
        pair = [site.agent, other]
        for agent in pair:
            agent.launch()
        wait_for(lambda p=pair: sum(agent.runs() for agent in p) == 1, 10, "one of them has given up")
        site.wait_ready()
        if other.runs():
            other.stop()
        site.mend()
    one.delete("one")
    healthy(site, one)
    one.expect_layers(2)


def test_agent_starts_before_libvirtd(site, vm):
    one, job = merging(site, vm, 4)
    site.agent.kill9()
    site.host.kill9()
    site.agent.start()
    wait_for(lambda: "is libvirtd running?" in site.cli("doctor", one.name, code=1).err, 20,
             lambda: f"the doctor says why it cannot look: {site.cli('doctor', one.name, code=1)}")
    site.host.start()
    site.wait_ready()
    one.wait_job(job)
    healthy(site, one)
    one.expect_layers(3)
