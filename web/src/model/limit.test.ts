// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import type { PlanRun } from "../api/types";
import { secondsUnder } from "./limit";

const run = (disk: string, mib: number): PlanRun => ({ disk: { id: disk }, bytes_written: mib * 1024 * 1024 }) as PlanRun;

test.each([
  [0, 3, 3],
  [10, 3, 6] /* the slower disk, its runs one after another */,
  [1000, 3, 3],
  [10, undefined, undefined],
])("a limit of %d MiB/s", (limit, told, wanted) => {
  expect(secondsUnder(limit, told, [run("a", 40), run("a", 20), run("b", 50)])).toBe(wanted);
});
