// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import type { Snapshot } from "../api/types";
import { treeRows } from "./tree";

function snap(id: string, parent?: string, type = "regular"): Snapshot {
  return { id, description: id, snapshot_status: "ok", snapshot_type: type, date: `2026-01-0${id.length}T00:00:00Z`, ...(parent && { parent: { id: parent } }) };
}
const order = (list: Snapshot[]): string => treeRows(list).map((r) => `${r.snapshot.id}@${r.column}`).join(" ");

test("a line is one column, with the active one last", () => {
  const rows = treeRows([snap("here", "ccc", "active"), snap("a"), snap("bb", "a"), snap("ccc", "bb")]);
  expect(rows.map((r) => r.snapshot.id)).toEqual(["a", "bb", "ccc", "here"]);
  expect(rows.every((r) => r.column === 0 && r.forks.length === 0)).toBe(true);
  expect(rows[0]).toMatchObject({ above: false, below: true });
  expect(rows[3]).toMatchObject({ above: true, below: false, active: true });
});

test("the line of the active one goes straight on, a branch takes a column", () => {
  const rows = treeRows([snap("here", "a", "active"), snap("a"), snap("bb", "a"), snap("ccc", "bb")]);
  expect(rows[0]!.snapshot.id).toBe("a");
  expect(rows[0]!.forks).toEqual([1]);
  expect(order([snap("here", "a", "active"), snap("a"), snap("bb", "a"), snap("ccc", "bb")])).toBe("a@0 bb@1 ccc@1 here@0");
  expect(rows[1]!.passing).toEqual([0]);
});

test("what the server says is not trusted: loops and parents that are missing", () => {
  expect(treeRows([snap("a", "a")]).length).toBe(1);
  expect(treeRows([snap("a", "bb"), snap("bb", "a")]).map((r) => r.snapshot.id).sort()).toEqual(["a", "bb"]);
  expect(treeRows([snap("a", "gone"), snap("here", "a", "active")]).map((r) => r.column)).toEqual([0, 0]);
  expect(treeRows([])).toEqual([]);
});

test("a chain of two thousand is no depth of calls", () => {
  const list = Array.from({ length: 2000 }, (_, i): Snapshot => ({ ...snap("x"), id: `s${i}`, date: String(i).padStart(5, "0"), ...(i > 0 && { parent: { id: `s${i - 1}` } }) }));
  expect(treeRows(list).length).toBe(2000);
});
