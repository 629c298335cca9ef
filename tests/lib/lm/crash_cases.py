# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which crashes are tried: flow x fault point x victim."""

import re

from .crash import Case
from .crash_flows import FLOWS
from .util import REPO

NOT_PASSED = {}  # point that no flow here passes: why

# Passed by the sample's flows, and somebody is killed there in make test-crash alone: the sample has their neighbours.
NOT_SAMPLED = ("agent.space.before-hold", "agent.verify.before", "flow.before-save", "qcow2-build-sync",
               "qcow2-build-write")

# What make test does: points of each flow; the victims take turns, unless one is given (POINT=VICTIM).
SAMPLE = {
    "create": ("agent.snapshot.before-switch", "agent.snapshot.before-create", "agent.snapshot.after-switch",
               "agent.snapshot.before-manifest", "flow.after-call"),
    "create-memory": ("agent.snapshot.before-switch", "agent.snapshot.after-switch"),
    "create-off": ("agent.snapshot.before-switch", "manifest.before-rename"),
    "commit": ("agent.merge.before-record", "agent.merge.before-start", "agent.merge.after-start",
               "agent.merge.settled", "manifest.after-rename"),
    "commit-active": ("agent.merge.after-start", "agent.pivot.before-suspend", "agent.pivot.suspended",
                      "agent.pivot.before-manifest", "agent.pivot.after-manifest", "flow.before-call"),
    "all": ("agent.delete.before-unlink", "volume.after-trash", "manager:steps.after-save"),
    "memory": ("agent.delete.after-unlink", "flow.after-save"),
    "copy": ("qcow2-build-copy", "qcow2-build-create", "agent.pivot.before-manifest"),
    "graft": ("qcow2-build-share", "qcow2-build-rename", "agent.pivot.suspended"),
    "graft-sealed": ("agent.graft.before-seal", "agent.graft.after-seal", "agent.graft.built",
                     "agent.merge.after-start", "agent.pivot.before-suspend"),
    "cold-commit": ("agent.merge.after-start=daemon", "agent.cold.before-redefine", "agent.cold.after-redefine",
                    "agent.cold.after-manifest", "volume.before-trash"),
    "cold-graft": ("agent.graft.built", "qcow2-build-sync-folder", "agent.cold.after-redefine"),
    "cold-copy": ("qcow2-build-size", "steps.after-save"),
    "preview": ("agent.preview.before-create", "agent.preview.before-manifest", "agent.preview.after-manifest",
                "agent.preview.after-define"),
    "preview-undo": ("agent.branch.before-manifest", "agent.branch.after-manifest", "agent.branch.after-define"),
    "preview-commit": ("agent.branch.after-manifest", "volume.before-trash"),
    "restore": ("flow.after-call", "agent.branch.before-manifest"),
    "clone": ("agent.clone.before-build", "agent.clone.built", "agent.clone.before-manifest", "agent.clone.after-define"),
    "cancel-clone": ("agent.clone.before-define",),
    "remove": ("agent.remove.recorded", "agent.remove.before-undefine", "agent.remove.after-undefine",
               "agent.remove.before-forget"),
    "start": ("agent.power.before-start", "agent.power.started"),
    "stop": (),
    "shutdown": ("agent.power.asked",),
    "suspend": ("agent.power.before-ask",),
    "reboot": (),
    "reset": (),
    "rename": ("manifest.before-rename", "steps.before-save"),
    "doctor": ("agent.doctor.kept", "agent.doctor.mended"),
    "undo": ("steps.after-save",),
    "undo-record": ("agent.doctor.undo-manifest",),
    "cancel": ("agent.merge.after-start", "agent.pivot.before-suspend"),
    "cancel-graft": ("agent.graft.after-seal", "agent.graft.built"),
    "differs": ("agent.verify.differs", "agent.verify.set-aside", "agent.graft.before-unseal",
                "agent.graft.before-remove-seal"),
    "hold": ("agent.space.held", "agent.space.before-release"),
    "adopt": ("agent.doctor.kept", "agent.doctor.mended"),
    "import-adopt": ("agent.import.before-adopt",),
    "import-forget": ("agent.import.before-forget",),
    "guest-create": ("agent.snapshot.after-switch",),
    "guest-commit": ("agent.merge.after-start",),
    "guest-commit-active": ("agent.pivot.suspended", "agent.pivot.before-manifest"),
    "guest-graft": ("agent.pivot.before-suspend",),
}


def points_of_the_source():
    found = set()
    for file in (REPO / "src").rglob("*.c"):
        found.update(re.findall(r'fault_point\("([^"]+)"', file.read_text(encoding="utf-8")))
    return found


def not_passed(passed):
    """Points of the source that were passed by no flow and have no reason for it."""
    return sorted(points_of_the_source() - set(passed) - set(NOT_PASSED))


def without_case():
    """Points of the source that nobody has thought of when they were made: a row of SAMPLE, and if need be a flow."""
    named = {point.split(":")[-1].partition("=")[0] for points in SAMPLE.values() for point in points}
    return sorted(points_of_the_source() - named - set(NOT_SAMPLED) - set(NOT_PASSED))


def sample():
    """At least 60 cases; the same every time."""
    cases = []
    for flow in FLOWS:
        for row in SAMPLE[flow.name]:
            turn = len(cases)
            point, _, victim = row.partition("=")
            others = [victim for victim in flow.victims if victim != "daemon"]
            cases.append(Case(flow.name, point, 1, victim or others[turn % len(others)], turn % 2 == 1))
    return cases


def is_general(point):
    """Passed at many moments of a flow, so that one of them is not all there is to know."""
    return point.split(":")[-1].startswith(("flow.", "steps.", "manifest.", "qcow2-"))


def moments(point, times, often):
    """Which passings of a point are tried with another victim each."""
    wanted = (1, (times + 1) // 2, times) if often and is_general(point) else (1, times)
    return sorted(set(wanted)) if often else [wanted[-1] if is_general(point) else 1]


def cases_of(flow, points, everything=False):
    """points: what Crash.trace() gave. The victims take turns; at the points of their own of most flows everybody
    dies. everything: everybody dies at every passing of every point."""
    cases = []

    def victims(point, nth):
        """A storage daemon can be killed only where one works."""
        first, last = points.get("daemon", {}).get(point, (1, 0))
        lives = first <= nth <= last
        return [victim for victim in flow.victims if victim != "daemon" or lives]

    named = [(point if process == "agent" or point.startswith("flow.") else f"manager:{point}", times)
             for process in ("agent", "manager") for point, times in points[process].items()
             if not flow.only or point.startswith(tuple(flow.only.split()))]
    for point, times in named:
        if everything:
            rows = [(n, victim) for n in range(1, times + 1) for victim in victims(point, n)]
        elif point.startswith(flow.own) or (flow.often and not is_general(point)):
            rows = [(1 + i % times, victim) for i, victim in enumerate(flow.victims)]
            rows = [(n, victim) for n, victim in rows if victim in victims(point, n)]
        else:
            rows = [(n, victims(point, n)[(len(cases) + i) % len(victims(point, n))])
                    for i, n in enumerate(moments(point, times, flow.often))]
        cases += [Case(flow.name, point, n, victim, (len(cases) + i) % 2 == 1) for i, (n, victim) in enumerate(rows)]
    return cases


def never_tried(points_of_flows):
    """["POINT VICTIM"]: who could be killed at a point in some flow, and is in none. A storage daemon works only in one
    flow, and in the middle of it. points_of_flows: {flow: what Crash.trace() gave}."""
    could, are = set(), set()
    for flow in FLOWS:
        for case in cases_of(flow, points_of_flows.get(flow.name, {"agent": {}, "manager": {}})):
            point = case.point.split(":")[-1]
            are.add(f"{point} {case.victim}")
            could.update(f"{point} {victim}" for victim in flow.victims if victim != "daemon")
    return sorted(could - are)
