# SPDX-License-Identifier: LGPL-2.1-or-later
"""End to end: the three real programs, a real libvirtd, real QEMUs. One installation a module, one VM
a test in its own directory, so modules may run in processes beside each other."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from lm import Site  # noqa: E402  pylint: disable=wrong-import-position

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def site(request):
    """A private host with agent and manager. GUARDED in a module: its libvirt asks the agent before it starts a VM,
    whatever the run was told of others."""
    whole = Site()
    if getattr(request.module, "GUARDED", False):
        whole.host.guard = whole.agent
    with whole:
        yield whole


@pytest.fixture
def vm(site):  # pylint: disable=redefined-outer-name
    """Makes VMs: vm(), vm(disks=2, guest=True) ... They go away after the test."""
    made = []

    def make(disks=1, **options):
        made.append(site.vm(f"vm{next(_numbers)}", disks, **options))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what the daemons said last; all that they and libvirtd said is kept."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and hasattr(item.funcargs.get("site"), "keep_logs"):
        site = item.funcargs["site"]  # pylint: disable=redefined-outer-name
        report.sections.append(("daemons", f"{site.logs()}\nall of it: {site.keep_logs(item.nodeid)}"))


# In this order, before all others: in the end everybody would wait for one of them.
LONGEST = ("test_crash_points", "test_verify", "test_start_guard", "test_crash", "test_space", "test_graft", "test_page")


def pytest_collection_modifyitems(items):
    """Modules that take longest begin first; within a module nothing changes."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
