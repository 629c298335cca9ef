// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import type { Disk, PlanRun } from "../api/types";
import { drawDisk, shortened } from "./chain";

/** volumes v0 (base) … vN (leaf); snapshot si owns vi */
function disk(count: number): Disk {
  const volume = Array.from({ length: count }, (_, i) => ({
    id: `v${i}`, path: `/srv/v${i}.qcow2`, allocated: 10 * (i + 1), ...(i < count - 1 && { snapshots: { snapshot: [{ id: `s${i}`, description: `S${i}` }] } }),
  }));
  return { id: "d", name: "web_vda", target: "vda", status: "ok", volumes: { volume } };
}
function run(strategy: string, from: number, to: number, more: Partial<PlanRun> = {}): PlanRun {
  const volumes = Array.from({ length: to - from + 1 }, (_, i) => ({ id: `v${from + i}`, path: `/srv/v${from + i}.qcow2` }));
  return { disk: { id: "d" }, base: `v${from}`, top: `v${to}`, has_leaf: false, strategy, exact: true, volumes, options: [], ...more };
}
const files = (boxes: { file: string }[]): string[] => boxes.map((b) => b.file);

test("a commit merges a run into its base, what is beside it stays", () => {
  const drawing = drawDisk(disk(4), [run("commit", 1, 2)], new Set(["s1"]));
  expect(drawing.segments.map((s) => files(s.before))).toEqual([["v3.qcow2"], ["v2.qcow2", "v1.qcow2"], ["v0.qcow2"]]);
  const [leaf, merged, base] = drawing.segments;
  expect(files(merged!.after)).toEqual(["v1.qcow2"]);
  expect(merged!.after[0]).toMatchObject({ names: ["S2"], bytes: 50, fate: "target" });
  expect(merged!.before.map((b) => b.fate)).toEqual(["goes", "target"]);
  expect(merged!.before[1]!.gone).toEqual(["S1"]);
  expect(leaf!.after).toEqual(leaf!.before);
  expect(base!.before[0]!.fate).toBe("stays");
});

test("an active commit of all leaves one volume, which is the leaf", () => {
  const drawing = drawDisk(disk(3), [run("commit-active", 0, 2, { has_leaf: true })], new Set(["s0", "s1"]));
  expect(drawing.segments.length).toBe(1);
  expect(drawing.segments[0]!.after).toMatchObject([{ file: "v0.qcow2", leaf: true, names: [] }]);
});

test("graft writes new volumes, and boundaries inside may stay", () => {
  const drawing = drawDisk(disk(4), [run("graft", 0, 3, { has_leaf: true, remove: ["v0", "v2"] })], new Set(["s0", "s2"]));
  const [only] = drawing.segments;
  expect(only!.after.length).toBe(2);
  expect(files(only!.after)).toEqual(["", ""]);
  expect(only!.after[1]!.names).toEqual(["S1"]);
  expect(only!.before.every((b) => b.fate === "goes")).toBe(true);
});

test("volumes that others stand on are kept", () => {
  const drawing = drawDisk(disk(2), [run("graft", 0, 1, { kept: ["/srv/v0.qcow2"] })], new Set(["s0"]));
  expect(drawing.segments[0]!.before.map((b) => b.fate)).toEqual(["goes", "kept"]);
});

test("a long stack is shortened to its ends", () => {
  expect(shortened([1, 2, 3], 1)).toEqual({ head: [1, 2, 3], hidden: 0, tail: [] });
  expect(shortened(Array.from({ length: 200 }, (_, i) => i), 3)).toEqual({ head: [0, 1, 2], hidden: 194, tail: [197, 198, 199] });
});
