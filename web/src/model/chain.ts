// SPDX-License-Identifier: LGPL-2.1-or-later
// What the drawing of a delete shows of one disk: its chain before, and what becomes of each part of it.
import type { Disk, Plan, PlanRun, Volume } from "../api/types";
import { fileName } from "./format";

export type Fate =
  | "stays" /* as it is */
  | "target" /* what others are merged into */
  | "goes" /* merged into another, then deleted */
  | "kept"; /* leaves the chain, but others stand on it */

export interface Box {
  id: string;
  /** empty: a new volume, whose name is not known yet */
  file: string;
  path: string;
  bytes: number;
  names: string[];
  /** of the snapshots that own it, the ones that are deleted */
  gone: string[];
  leaf: boolean;
  shared: boolean;
  fate: Fate;
}

/** Neighbouring volumes that have the same to come: one run of the plan, or nothing. */
export interface Segment {
  run?: PlanRun;
  before: Box[];
  after: Box[];
}

export interface DiskDrawing {
  diskId: string;
  name: string;
  /** the leaf's first, as a chain is drawn */
  segments: Segment[];
}

/** Graft and copy write a new volume, the others merge into the base of the run. */
export function makesNewVolume(strategy: string): boolean {
  return strategy === "graft" || strategy === "copy";
}

function fateOf(volume: Volume, run: PlanRun | undefined): Fate {
  if (!run) return "stays";
  if (run.kept?.includes(volume.path)) return "kept";
  if (makesNewVolume(run.strategy)) return "goes";
  return run.volumes[0]?.id === volume.id ? "target" : "goes";
}

function boxOf(volume: Volume, leaf: boolean, run: PlanRun | undefined, gone: Set<string>): Box {
  const owners = volume.snapshots?.snapshot ?? [];
  return {
    id: volume.id,
    file: fileName(volume.path),
    path: volume.path,
    bytes: volume.allocated ?? 0,
    names: owners.map((s) => s.description),
    gone: owners.filter((s) => gone.has(s.id)).map((s) => s.description),
    leaf,
    shared: volume.used_by !== undefined,
    fate: fateOf(volume, run),
  };
}

/** parts, base first, become one volume. */
function merged(parts: Box[], run: PlanRun): Box {
  const top = parts[parts.length - 1]!;
  if (parts.length === 1 && makesNewVolume(run.strategy)) return { ...top, file: "", fate: "target", gone: [] };
  return {
    ...top,
    file: makesNewVolume(run.strategy) ? "" : parts[0]!.file,
    bytes: parts.reduce((sum, box) => sum + box.bytes, 0),
    names: top.names.filter((name) => !top.gone.includes(name)),
    gone: [],
    shared: false,
    fate: "target",
  };
}

/** With graft and copy a boundary inside of the run may stay: then it becomes several volumes. */
function afterRun(before: Box[], run: PlanRun): Box[] {
  const boxes: Box[] = [];
  let parts: Box[] = [];
  const removed = run.remove ?? [];
  before.forEach((box, i) => {
    parts.push(box);
    const stays = makesNewVolume(run.strategy) && removed.length > 0 && !removed.includes(box.id);
    if (i < before.length - 1 && !stays) return;
    boxes.push(merged(parts, run));
    parts = [];
  });
  return boxes;
}

export function drawDisk(disk: Disk, runs: PlanRun[], gone: Set<string>): DiskDrawing {
  const volumes = disk.volumes?.volume ?? [];
  const segments: Segment[] = [];
  volumes.forEach((volume, i) => {
    const run = runs.find((r) => r.volumes.some((v) => v.id === volume.id));
    const last = segments[segments.length - 1];
    const box = boxOf(volume, i === volumes.length - 1, run, gone);
    if (last && last.run === run) last.before.push(box);
    else segments.push({ run, before: [box], after: [] });
  });
  for (const segment of segments) {
    segment.after = segment.run ? afterRun(segment.before, segment.run) : [...segment.before];
    segment.before.reverse();
    segment.after.reverse();
  }
  return { diskId: disk.id, name: disk.target, segments: segments.reverse() };
}

export function drawPlan(plan: Plan, disks: Disk[], gone: Set<string>): DiskDrawing[] {
  const runs = plan.runs?.run ?? [];
  return disks
    .filter((disk) => runs.some((run) => run.disk.id === disk.id))
    .map((disk) => drawDisk(disk, runs.filter((run) => run.disk.id === disk.id), gone));
}

/** A long stack in short: its ends, and how many are hidden between them. */
export function shortened<T>(list: T[], ends: number): { head: T[]; hidden: number; tail: T[] } {
  if (list.length <= 2 * ends + 1) return { head: list, hidden: 0, tail: [] };
  return { head: list.slice(0, ends), hidden: list.length - 2 * ends, tail: list.slice(-ends) };
}
