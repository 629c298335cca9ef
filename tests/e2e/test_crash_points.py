# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of agent, manager, libvirtd, QEMU, and of all at once, at the fault points of every flow: afterwards
the VM is as before the flow or as after it, with every acknowledged write. `make test-crash` does them all
(LM_CRASH=all); here is a sample of every flow, point and victim."""

import dataclasses
import json
import os
import time

import pytest

from lm import Site
from lm.crash import Crash, Missed
from lm.crash_cases import cases_of, not_passed, sample, without_case
from lm.crash_flows import FLOWS
from lm.subject import GuestSubject, Subject
from lm.util import BUILD

MODE = os.environ.get("LM_CRASH", "sample")  # discover, all, everything: see tests/crash/run
RESULTS = BUILD / "crash"
RAN = set()  # cases, by this process
BY_NAME = {flow.name: flow for flow in FLOWS}


@pytest.fixture(scope="module")
def site():
    """An installation on XFS, so that graft can be had too. All points that are passed are noted."""
    whole = Site("xfs")
    os.environ["LIVEMERGE_FAULT_TRACE"] = str(whole.work / "trace")
    try:
        with whole:
            yield whole
    finally:
        del os.environ["LIVEMERGE_FAULT_TRACE"]


class Subjects:
    """A VM for each flow; a new one after a case that went wrong."""

    def __init__(self, site):  # pylint: disable=redefined-outer-name
        self.site, self.made, self.kept = site, 0, {}

    def take(self, flow):
        subject = self.kept.pop(flow.name, None)
        if subject is not None and not subject.is_worn():
            subject.power_on()
            return subject
        if subject is not None:
            subject.vm.remove()
        self.made += 1
        kind = GuestSubject if flow.guest else Subject
        return kind(self.site, f"c{self.made}", disks=flow.disks, mib=flow.mib, runs=flow.runs)

    def give_back(self, flow, subject):
        self.kept[flow.name] = subject


@pytest.fixture(scope="module")
def subjects(site):  # pylint: disable=redefined-outer-name
    return Subjects(site)


def heal(site):  # pylint: disable=redefined-outer-name
    """After a case that went wrong: whatever stands at a point, and whatever does not start, is begun anew."""
    for daemon in (site.agent, site.manager):
        if daemon.runs():
            daemon.kill9()
    (site.work / "v" / "ballast").unlink(missing_ok=True)
    site.host.down(purge=False)
    site.host.up()
    site.mend()


def perform(site, subjects, flow, case=None):  # pylint: disable=redefined-outer-name
    """Runs a case (None: the flow alone, for its points) on a VM that was used before, if it was left well.
    Returns the figures for the summary, and the points."""
    began = time.monotonic()
    subject = subjects.take(flow)
    try:
        flow.prepare(subject)
        crash = Crash(site, flow, subject, case)
        crash.times["prepare"] = round(time.monotonic() - began, 2)
        points = crash.trace(site.work / f"trace-{flow.name}") if case is None else crash.run()
    except BaseException:
        heal(site)
        subject.vm.remove()
        raise
    subjects.give_back(flow, subject)
    return {"writes": len(subject.log), "times": crash.times}, points


def cases():
    """Those of this run; those of make test-crash follow from what "discover" found."""
    if MODE == "discover":
        return []
    if MODE == "sample":
        return sample()
    found = []
    for flow in FLOWS:
        file = RESULTS / f"{flow.name}.points"
        if file.exists():
            found += cases_of(flow, json.loads(file.read_text(encoding="utf-8")), MODE == "everything")
    done = passed_before()
    return [case for case in found if str(case) not in done]


def passed_before():
    """Cases of a run that was stopped and goes on. As each of pytest's processes must see it: noted by the runner."""
    file = RESULTS / "passed"
    return set(file.read_text(encoding="utf-8").split()) if file.exists() else set()


def note(asked, case, outcome, seconds, text="", figures=None):
    """A line for the summary of tests/crash/run. asked: the case as it was to be."""
    if MODE == "sample" and "LM_CRASH_NOTE" not in os.environ:
        return
    RESULTS.mkdir(exist_ok=True)
    line = json.dumps({**dataclasses.asdict(case), "asked": str(asked), "outcome": outcome, "writes": 0,
                       "seconds": round(seconds, 2), "text": text, **(figures or {})})
    with open(RESULTS / "results", "a", encoding="utf-8") as file:
        file.write(line + "\n")


if MODE == "discover":
    @pytest.mark.parametrize("flow", FLOWS, ids=[flow.name for flow in FLOWS])
    def test_points(site, subjects, flow):  # pylint: disable=redefined-outer-name
        """The flow, undisturbed; which points it passes is what the others stand on."""
        _, points = perform(site, subjects, flow)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{flow.name}.points").write_text(json.dumps(points, indent=1), encoding="utf-8")


def perform_some(site, subjects, case):  # pylint: disable=redefined-outer-name
    """A call that is tried again is saved once more: a flow does not pass a general point equally often each time. So
    a passing that did not come is tried as the one before. Returns the case that it was, and its figures."""
    while True:
        try:
            return case, perform(site, subjects, BY_NAME[case.flow], case)[0]
        except Missed:
            if case.nth == 1:
                raise
            case = dataclasses.replace(case, nth=case.nth - 1)


def test_every_point_has_a_case():
    assert not without_case(), "fault points that are not in SAMPLE (crash_cases.py)"


@pytest.mark.parametrize("case", cases(), ids=str)
def test_crash(site, subjects, case):  # pylint: disable=redefined-outer-name
    RAN.add(case)
    asked, began = case, time.monotonic()
    try:
        case, figures = perform_some(site, subjects, case)
    except KeyboardInterrupt:
        raise  # the run was stopped: nothing is known of this case
    except BaseException as error:
        note(asked, case, "failed", time.monotonic() - began, str(error)[:4000])
        raise
    note(asked, case, "passed", time.monotonic() - began, figures=figures)


if MODE == "sample":  # tests/crash/run looks by itself
    def test_every_point_is_passed(site):  # pylint: disable=redefined-outer-name
        """A fault point that no flow passes proves nothing."""
        if len(RAN) < len(sample()):
            pytest.skip("not all cases were run here")
        passed = (site.work / "trace").read_text(encoding="utf-8").split()
        never = not_passed(passed)
        assert not never, f"no flow of crash_flows.py passes {never}; add one, or the reason to NOT_PASSED"
