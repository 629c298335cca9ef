// SPDX-License-Identifier: LGPL-2.1-or-later
// A limit makes a merge as slow as it says: the server's time knows nothing of it.
import type { PlanRun } from "../api/types";

const MIB = 1024 * 1024;

/** Disks go on beside each other, the runs of one after another. limit: MiB/s of each disk, 0 = none. */
export function secondsUnder(limit: number, told: number | undefined, runs: PlanRun[]): number | undefined {
  if (told === undefined || !(limit > 0)) return told;
  const disks = new Map<string, number>();
  for (const run of runs) disks.set(run.disk.id, (disks.get(run.disk.id) ?? 0) + (run.bytes_written ?? 0));
  return Math.max(told, ...[...disks.values()].map((bytes) => bytes / (limit * MIB)));
}
