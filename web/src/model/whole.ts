// SPDX-License-Identifier: LGPL-2.1-or-later
// What is known beforehand of deeds on a whole VM: what a clone is made of, and what goes with a VM that is
// removed. The host looks again before it begins.
import type { DiskAttachment, StorageDomain, Volume } from "../api/types";

/** share, copy; unknown: the storage has not told what it can. */
export type Way = "share" | "copy" | "unknown";

export interface ClonePart {
  id: string;
  name: string;
  /** of the chain up to the snapshot: at most as much is copied or shared */
  bytes: number;
  /** why the clone does not have this disk */
  without?: "unmanaged" | "not-held";
  why?: string;
}

export interface CloneCost {
  parts: ClonePart[];
  bytes: number;
  way: Way;
  /** room on the storage that has least beside what would be copied there; undefined: not told */
  missing?: { path: string; free: number; needed: number };
}

const folder = (path: string): string => path.slice(0, path.lastIndexOf("/"));
const sum = (volumes: Volume[]): number => volumes.reduce((all, v) => all + (v.allocated ?? 0), 0);
const chainOf = (a: DiskAttachment): Volume[] => a.disk.volumes?.volume ?? [];
const why = (a: DiskAttachment): string | undefined => a.disk.unmanaged ?? a.unmanaged;

/** The volumes, base first, that the new volume reads as; none: the snapshot does not hold this disk. */
function upTo(volumes: Volume[], snapshot: string | undefined): Volume[] {
  if (snapshot === undefined) return volumes;
  const top = volumes.findIndex((v) => (v.snapshots?.snapshot ?? []).some((s) => s.id === snapshot));
  return volumes.slice(0, top + 1);
}

function partOf(a: DiskAttachment, snapshot: string | undefined): { part: ClonePart; top?: Volume } {
  const chain = why(a) === undefined ? upTo(chainOf(a), snapshot) : [];
  const without = why(a) !== undefined ? "unmanaged" : chain.length === 0 ? "not-held" : undefined;
  return { part: { id: a.id, name: a.disk.target, bytes: sum(chain), without, why: why(a) }, top: chain[chain.length - 1] };
}

/** All disks are shared, or all are copied. */
export function cloneCost(disks: DiskAttachment[], domains: StorageDomain[], snapshot: string | undefined, strategy: string): CloneCost {
  const found = disks.filter((a) => !a.read_only).map((a) => partOf(a, snapshot));
  const parts = found.map((f) => f.part);
  const places = new Map<string, number>();
  for (const { part, top } of found) if (top) places.set(folder(top.path), (places.get(folder(top.path)) ?? 0) + part.bytes);
  const of = (path: string): StorageDomain | undefined => domains.find((d) => (d.storage?.path ?? d.name) === path);
  const can = [...places.keys()].map((path) => of(path)?.shares_blocks);
  const way: Way = strategy === "copy" || can.includes(false) ? "copy" : can.includes(undefined) ? "unknown" : "share";
  const cost: CloneCost = { parts, bytes: parts.reduce((all, p) => all + p.bytes, 0), way };
  if (way === "copy")
    for (const [path, needed] of places) {
      const free = of(path)?.available;
      if (free !== undefined && free < needed) cost.missing = { path, free, needed };
    }
  return cost;
}

export interface Removal {
  /** they go, of each disk the leaf first */
  goes: Volume[];
  bytes: number;
  /** others stand on them, or on what stands on them */
  stays: Volume[];
  /** not the VM's alone: names of disks */
  leftAlone: string[];
}

/** From the leaf down to the first volume on which another VM stands. */
export function removalOf(disks: DiskAttachment[]): Removal {
  const goes: Volume[] = [];
  const stays: Volume[] = [];
  const leftAlone: string[] = [];
  for (const a of disks) {
    if (a.read_only || why(a) !== undefined) {
      leftAlone.push(a.disk.target);
      continue;
    }
    let needed = false;
    for (const volume of [...chainOf(a)].reverse()) {
      needed ||= volume.used_by !== undefined;
      (needed ? stays : goes).push(volume);
    }
  }
  return { goes, bytes: sum(goes), stays, leftAlone };
}
