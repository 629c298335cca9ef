// SPDX-License-Identifier: LGPL-2.1-or-later
// The snapshots of a VM as rows of a tree, drawn like a version history: a straight line stays in one
// column, only a branch takes another. What the server says is not trusted to be a tree.
import type { Snapshot } from "../api/types";

export interface TreeRow {
  snapshot: Snapshot;
  /** column of the row's own dot */
  column: number;
  /** columns in which a line passes this row from above to below, without touching it */
  passing: number[];
  /** does the line of its own column come from above, and go on below? */
  above: boolean;
  below: boolean;
  /** columns of branches that leave the dot downwards to the right */
  forks: number[];
  active: boolean;
}

const isActive = (s: Snapshot): boolean => s.snapshot_type === "active";

function byDate(a: Snapshot, b: Snapshot): number {
  if (isActive(a) !== isActive(b)) return isActive(a) ? 1 : -1;
  return (a.date ?? "").localeCompare(b.date ?? "") || a.id.localeCompare(b.id);
}

/** Its parent, unless that is missing or stands below it. */
function parents(list: Snapshot[]): Map<string, string> {
  const known = new Set(list.map((s) => s.id));
  const found = new Map<string, string>();
  for (const s of list) {
    const parent = s.parent?.id;
    if (!parent || !known.has(parent) || parent === s.id) continue;
    let above: string | undefined = parent;
    while (above !== undefined && above !== s.id) above = found.get(above);
    if (above === undefined) found.set(s.id, parent);
  }
  return found;
}

/** Oldest first; "you are here" is the last of its line. */
export function treeRows(snapshots: Snapshot[]): TreeRow[] {
  const list = [...snapshots].sort(byDate);
  const parent = parents(list);
  const children = new Map<string, Snapshot[]>();
  for (const s of list) {
    const above = parent.get(s.id);
    if (above !== undefined) children.set(above, [...(children.get(above) ?? []), s]);
  }
  const here = new Set<string>();
  for (let at = list.find(isActive)?.id; at !== undefined; at = parent.get(at)) here.add(at);
  const roots = list.filter((s) => !parent.has(s.id));

  const rows: TreeRow[] = [];
  let columns = 0;
  /* a stack, because a chain of a thousand must not be a depth of calls */
  const stack: { snapshot: Snapshot; column: number; above: boolean }[] = [];
  for (const root of roots.reverse()) stack.push({ snapshot: root, column: -1, above: false });
  const open = new Set<number>();
  while (stack.length > 0) {
    const { snapshot, column: wanted, above } = stack.pop()!;
    const column = wanted >= 0 ? wanted : columns++;
    open.delete(column);
    const passing = [...open];
    const below = children.get(snapshot.id) ?? [];
    /* the line that leads to the active one goes straight on, and is drawn last */
    const main = below.find((s) => here.has(s.id)) ?? below[below.length - 1];
    const branches = below.filter((s) => s !== main);
    const forks: number[] = [];
    if (main) {
      stack.push({ snapshot: main, column, above: true });
      open.add(column);
    }
    for (const branch of branches.reverse()) {
      const free = columns++;
      forks.push(free);
      open.add(free);
      stack.push({ snapshot: branch, column: free, above: true });
    }
    rows.push({ snapshot, column, passing, above, below: main !== undefined, forks, active: isActive(snapshot) });
  }
  return rows;
}
