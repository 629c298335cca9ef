# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which crashes are tried: flow x fault point x victim."""

import re

from .crash import Case
from .crash_flows import FLOWS
from .util import REPO

NOT_PASSED = {}  # point that no flow here passes: why

# What make test does: points of each flow; the victims take turns.
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
    "cold-commit": ("agent.merge.after-start", "agent.cold.before-redefine", "agent.cold.after-redefine",
                    "agent.cold.after-manifest", "volume.before-trash"),
    "cold-graft": ("agent.graft.built", "qcow2-build-sync-folder", "agent.cold.after-redefine"),
    "cold-copy": ("qcow2-build-size", "steps.after-save"),
    "preview": ("agent.preview.before-create", "agent.preview.before-manifest", "agent.preview.after-manifest",
                "agent.preview.after-define"),
    "preview-undo": ("agent.branch.before-manifest", "agent.branch.after-manifest", "agent.branch.after-define"),
    "preview-commit": ("agent.branch.after-manifest", "volume.before-trash"),
    "restore": ("flow.after-call", "agent.branch.before-manifest"),
    "rename": ("manifest.before-rename", "steps.before-save"),
    "doctor": ("agent.doctor.kept", "agent.doctor.mended"),
    "undo": ("steps.after-save",),
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


def sample():
    """At least 60 cases; the same every time."""
    cases = []
    for flow in FLOWS:
        for point in SAMPLE[flow.name]:
            turn = len(cases)
            cases.append(Case(flow.name, point, 1, flow.victims[turn % len(flow.victims)], turn % 2 == 1))
    return cases


def is_general(point):
    """Passed at many moments of a flow, so that one of them is not all there is to know."""
    return point.split(":")[-1].startswith(("flow.", "steps.", "manifest.", "qcow2-"))


def moments(point, times, often):
    """Which passings of a point are tried with another victim each."""
    wanted = (1, (times + 1) // 2, times) if often and is_general(point) else (1, times)
    return sorted(set(wanted)) if often else [wanted[-1] if is_general(point) else 1]


def cases_of(flow, points, everything=False):
    """points: what Crash.trace() gave. The victims take turns; at the points of their own of the main flows
    everybody dies. everything: everybody dies at every passing of every point."""
    cases = []
    named = [(point if process == "agent" or point.startswith("flow.") else f"manager:{point}", times)
             for process in ("agent", "manager") for point, times in points[process].items()
             if not flow.only or point.startswith(tuple(flow.only.split()))]
    for point, times in named:
        if everything:
            rows = [(n, victim) for n in range(1, times + 1) for victim in flow.victims]
        elif flow.often and not is_general(point):
            rows = [(1 + i % times, victim) for i, victim in enumerate(flow.victims)]
        else:
            rows = [(n, flow.victims[(len(cases) + i) % len(flow.victims)])
                    for i, n in enumerate(moments(point, times, flow.often))]
        cases += [Case(flow.name, point, n, victim, (len(cases) + i) % 2 == 1) for i, (n, victim) in enumerate(rows)]
    return cases
