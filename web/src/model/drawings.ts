// SPDX-License-Identifier: LGPL-2.1-or-later
// Drawings of the deletes that were begun in this tab, by job: they outlive a reload of the page, not the session.
import type { DiskDrawing } from "./chain";

const PREFIX = "livemerge-drawing-";
const KEPT = 20;
const drawings = new Map<string, DiskDrawing[]>();

function keys(): string[] {
  return Array.from({ length: sessionStorage.length }, (_, i) => sessionStorage.key(i) ?? "").filter((key) => key.startsWith(PREFIX));
}

export function keepDrawing(job: string, drawing: DiskDrawing[]): void {
  drawings.set(job, drawing);
  try {
    if (keys().length >= KEPT) for (const key of keys()) sessionStorage.removeItem(key);
    sessionStorage.setItem(PREFIX + job, JSON.stringify(drawing));
  } catch {
    /* a browser that keeps nothing, or has no room: it is there until the page is closed */
  }
}

export function drawingOf(job: string): DiskDrawing[] | undefined {
  const known = drawings.get(job);
  if (known) return known;
  try {
    const kept = sessionStorage.getItem(PREFIX + job);
    if (kept === null) return undefined;
    const read = JSON.parse(kept) as DiskDrawing[];
    drawings.set(job, read);
    return read;
  } catch {
    return undefined;
  }
}

export function forgetDrawings(): void {
  drawings.clear();
  try {
    for (const key of keys()) sessionStorage.removeItem(key);
  } catch {
    /* then nothing was kept */
  }
}
