# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long the guest stands still in a pivot, and how late a client hears of the end."""

import time

from lm import items
from rig import Figure, pauses_of, percentile, say

ROUNDS = 50


def watch(rest, job_id):
    """Follows a job as the CLI does, by long polls. Returns its last document and when it came."""
    rev = -1
    while True:
        job = rest.json("GET", f"/jobs/{job_id}?wait=30&rev={rev}")
        now = time.time()
        if job["status"] != "started":
            assert job["status"] == "finished", job
            return job, now
        rev = job["rev"]


def snapshot_ids(site, vm):
    listed = items(site.rest.json("GET", f"/vms/{vm.id}/snapshots"), "snapshot")
    return {s["description"]: s["id"] for s in listed if s["snapshot_type"] == "regular"}


def take(site, vm, name):
    """A snapshot, and a MiB written above it."""
    answer = site.rest.json("POST", f"/vms/{vm.id}/snapshots", {"description": name, "persist_memorystate": False}, status=201)
    watch(site.rest, answer["job"]["id"])
    site.host.write(vm.name, 0, "0", "1M", 7)


def delete(rig, vm, name):
    """Returns the job, and how many seconds after QEMU's completion a client had its end."""
    rest = rig.site.rest
    body = {"snapshots": {"snapshot": [{"id": snapshot_ids(rig.site, vm)[name]}]}}
    began = time.time()
    job, heard = watch(rest, rest.json("POST", f"/vms/{vm.id}/removesnapshots", body)["job"]["id"])
    rig.note(None, f"{vm.name} {name}", job)
    return job, heard - rig.completions.last(vm.name, began)


def summary(name, values, target):
    """Figures of milliseconds, half of them and nearly all."""
    half, most = percentile(values, 50), percentile(values, 99)
    return [Figure(f"{name}, p50", half, "ms", f"< {target} ms", half < target),
            Figure(f"{name}, p99 of {len(values)}", most, "ms", f"< {target} ms", most < target)]


def small_deletes(rig):
    """Each round deletes a snapshot in the middle and then the one next to the leaf."""
    vm = rig.vm("small")
    pauses, internal, leaf = [], [], []
    for number in range(ROUNDS):
        take(rig.site, vm, f"a{number}")
        take(rig.site, vm, f"b{number}")
        _, late = delete(rig, vm, f"a{number}")
        internal.append(late * 1000)
        job, late = delete(rig, vm, f"b{number}")
        leaf.append(late * 1000)
        assert pauses_of(job), f"the job tells of no pause: {job}"
        pauses.append(max(pauses_of(job)))
    rig.drop(vm.name)
    for name, values in {"pause": pauses, "event to end, internal": internal,
                         "event to end, leaf": leaf}.items():
        shares = ", ".join(f"p{p} {percentile(values, p):.1f}" for p in (1, 10, 50, 90, 99))
        say(f"  {name}: {shares} ms")
    return [*summary("longest guest pause of an idle pivot", pauses, 60),
            *summary("QEMU's event to the finished job at a client", internal + leaf, 50)]
