# SPDX-License-Identifier: LGPL-2.1-or-later
"""H13: QEMU ends an internal commit by rewriting the header above, and flushes what it copied into the base only then. It
dies in between: the base is as it was, and the headers say that all is merged."""

import json
import os

import pytest

from lm import pattern_is, run, wait_for
from lm.crash import kill9
from lm.late_flush import backing, died_after_commit

GUARDED = True


@pytest.fixture(name="torn")
def torn_commit(site, vm):
    """The VM is off, its agent dead, and what the delete of s2 had copied is lost."""
    one = vm()
    with died_after_commit(site, one, torn=True) as (job, top):
        yield one, job, top


def is_right(site, one, job, status):
    one.wait_job(job)
    one.wait_status(status)
    assert one.names() == ["s1", "s3"] and len(one.chain()) == 3
    assert set(one.files()) == set(one.chain()), "files were left behind"
    one.expect_layers(4)
    site.cli("doctor", one.name)


def test_start_is_refused_without_the_agent(site, torn):
    one, job, top = torn
    refused = one.virsh_start()
    assert refused.returncode != 0 and "flushed" in refused.stderr, refused.stderr
    assert os.path.exists(top)
    site.agent.start()
    is_right(site, one, job, "down")


def test_started_as_soon_as_the_agent_is_back(site, torn):
    one, job, _ = torn
    site.agent.start()
    wait_for(lambda: one.virsh_start().returncode == 0, 20, "the VM starts")
    is_right(site, one, job, "up")


def lose_journal(site):
    journal = site.agent.directory / "state" / "journal.db"
    for path in (journal, journal.with_name(journal.name + "-wal")):
        if path.exists():
            path.write_bytes(bytes(byte ^ 0x5a for byte in path.read_bytes()))
    site.agent.start()
    site.wait_ready()


def test_the_journal_is_lost_too(site, torn):
    """Nobody but the manifest knows of the merge: the volume that holds all stays, the start is refused and says what
    helps, and that puts the header back."""
    one, job, top = torn
    leaf, base = one.chain()[-1], backing(one.chain()[-1])
    lose_journal(site)
    told = one.wait_job(job, "failed")
    assert "journal was lost" in json.dumps(told), told
    assert os.path.exists(top)
    refused = one.virsh_start()
    assert refused.returncode != 0 and "--class leftover-record" in refused.stderr, refused.stderr
    found = site.cli("doctor", one.name, code=None).out
    assert "leftover-record" in found and top in found, found
    imported = site.cli("storage", "import", str(one.directory), code=None).out
    assert "leftover-record" in imported, imported
    assert os.path.exists(top) and backing(leaf) == base
    fixed = json.loads(site.cli("doctor", one.name, "--fix", "-y", "--class", "leftover-record", "--json").out)
    assert backing(leaf) == top, fixed
    one.expect_layers(4)
    assert one.virsh_start().returncode == 0
    one.wait_status("up")
    one.delete("s2")
    assert one.names() == ["s1", "s3"] and set(one.files()) == set(one.chain())
    one.expect_layers(4)


def test_the_base_is_not_written_once_the_job_has_ended(site, vm):
    """What the agent believes of a QEMU that lives: its image locks."""
    one = vm().layers("s1", "s2", "s3")
    base = one.chain()[1]
    one.delete("s2", options=("--strategy", "commit"))
    assert run("qemu-img", "info", base, check=False).returncode == 0, f"{base} is still open for writing"
    one.expect_layers(4)


def test_a_base_that_was_left_open(site, vm):
    """After an active commit that was cancelled QEMU keeps its base open for writing, and flushes nothing at the end of
    the next one: it is asked to, before anything is deleted."""
    one = vm()
    for i, name in enumerate(("s1", "s2", None)):
        site.host.write(one.name, 0, f"{20 * i + 1}M", "10M", i + 1)
        if name is not None:
            one.snap(name)
    site.host.virsh("blockcommit", one.name, "vda", "--active", "--bytes", "--bandwidth", "1")
    site.host.virsh("blockjob", one.name, "vda", "--abort")
    site.host.write(one.name, 0, "45M", "1M", 9)
    one.delete("s1", options=("--strategy", "commit", "--verify", "none"))
    kill9(site.host.qemu_pid(one.name))
    one.wait_status("down")
    assert one.names() == ["s2"] and len(one.chain()) == 2
    for offset, length, pattern in ((1, 10, 1), (21, 10, 2), (41, 4, 3), (45, 1, 9)):
        assert pattern_is(one.chain()[-1], f"{offset}M", f"{length}M", pattern), f"{offset} MiB"
