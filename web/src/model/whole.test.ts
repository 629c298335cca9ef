// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import type { DiskAttachment, StorageDomain, Volume } from "../api/types";
import { cloneCost, removalOf } from "./whole";

const volume = (name: string, allocated: number, owner?: string, used_by?: string): Volume => ({
  id: name, path: `/srv/${name}.qcow2`, allocated, ...(owner && { snapshots: { snapshot: [{ id: owner, description: owner }] } }), ...(used_by && { used_by }),
});
const attachment = (target: string, volumes: Volume[], more: Partial<DiskAttachment> = {}): DiskAttachment => ({
  id: target, ...more, disk: { id: target, name: target, target, status: "ok", volumes: { volume: volumes } },
});
const domain = (shares_blocks: boolean | undefined, available?: number): StorageDomain => ({ id: "d", name: "d", shares_blocks, available, storage: { path: "/srv" } });

const two = [attachment("vda", [volume("a0", 10, "s0"), volume("a1", 20, "s1"), volume("a2", 40)]), attachment("vdb", [volume("b0", 5, "s1"), volume("b1", 7)])];

test("a clone of a snapshot reads up to its volumes, of a VM up to the leaf", () => {
  expect(cloneCost(two, [domain(false)], "s1", "auto").bytes).toBe(35);
  expect(cloneCost(two, [domain(false)], undefined, "auto").bytes).toBe(82);
});

test("a disk that the snapshot does not hold, or that is not managed, is told as left out; one that is only read is none of it", () => {
  const cost = cloneCost([...two, attachment("vdc", [], { unmanaged: "raw device" }), attachment("sda", [volume("cd", 99)], { read_only: true })], [domain(true)], "s0", "auto");
  expect(cost.parts.map((p) => [p.name, p.bytes, p.without])).toEqual([["vda", 10, undefined], ["vdb", 0, "not-held"], ["vdc", 0, "unmanaged"]]);
  expect(cost.parts[2]!.why).toBe("raw device");
});

test("blocks are shared where all storage can, unless a copy is asked for", () => {
  expect(cloneCost(two, [domain(true)], "s1", "auto").way).toBe("share");
  expect(cloneCost(two, [domain(true)], "s1", "copy").way).toBe("copy");
  expect(cloneCost(two, [domain(false)], "s1", "auto").way).toBe("copy");
  expect(cloneCost(two, [domain(undefined)], "s1", "auto").way).toBe("unknown");
  expect(cloneCost(two, [], "s1", "share").way).toBe("unknown");
});

test("room that is missing is told before, and only for a copy", () => {
  expect(cloneCost(two, [domain(false, 34)], "s1", "auto").missing).toEqual({ path: "/srv", free: 34, needed: 35 });
  expect(cloneCost(two, [domain(false, 35)], "s1", "auto").missing).toBeUndefined();
  expect(cloneCost(two, [domain(true, 0)], "s1", "auto").missing).toBeUndefined();
});

test("a removal takes volumes from the leaf down to the one that others stand on", () => {
  const shared = attachment("vda", [volume("base", 100), volume("golden", 50, "s0", "another"), volume("top", 7)]);
  const removal = removalOf([shared, attachment("vdb", [volume("b0", 1)]), attachment("sda", [volume("cd", 9)], { read_only: true })]);
  expect(removal.goes.map((v) => v.id)).toEqual(["top", "b0"]);
  expect(removal.stays.map((v) => v.id)).toEqual(["golden", "base"]);
  expect([removal.bytes, removal.leftAlone]).toEqual([8, ["sda"]]);
});
