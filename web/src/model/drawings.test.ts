// SPDX-License-Identifier: LGPL-2.1-or-later
import { beforeEach, expect, test, vi } from "vitest";
import type { DiskDrawing } from "./chain";

const drawing: DiskDrawing[] = [{ diskId: "d", name: "vda", segments: [] }];
let kept: Map<string, string>;
let room = true;

beforeEach(() => {
  kept = new Map();
  room = true;
  vi.resetModules();
  vi.stubGlobal("sessionStorage", {
    get length() { return kept.size; },
    key: (i: number) => [...kept.keys()][i] ?? null,
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => { if (!room) throw new Error("full"); kept.set(key, value); },
    removeItem: (key: string) => kept.delete(key),
  });
});

test("a drawing outlives a reload, not the session", async () => {
  (await import("./drawings")).keepDrawing("j", drawing);
  vi.resetModules();
  const again = await import("./drawings");
  expect(again.drawingOf("j")).toEqual(drawing);
  again.forgetDrawings();
  expect([again.drawingOf("j"), kept.size]).toEqual([undefined, 0]);
});

test("what others keep stays; of ours, no more than some", async () => {
  kept.set("another", "1");
  const { keepDrawing, drawingOf } = await import("./drawings");
  for (let i = 0; i < 50; i++) keepDrawing(`j${i}`, drawing);
  expect(kept.size).toBeLessThan(25);
  expect([kept.get("another"), drawingOf("j49")]).toEqual(["1", drawing]);
});

test("without room, or with nonsense in it, it is as if there were none", async () => {
  const { keepDrawing, drawingOf } = await import("./drawings");
  room = false;
  keepDrawing("j", drawing);
  expect(drawingOf("j")).toEqual(drawing);
  kept.set("livemerge-drawing-x", "{");
  expect(drawingOf("x")).toBeUndefined();
});
