// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import { nextLookMs } from "./pace";

test("a manager that is away is looked for soon at first, and never more often than every ten seconds after a while", () => {
  expect([0, 1, 2, 3, 4].map(nextLookMs)).toEqual([500, 500, 1000, 2000, 4000]);
  expect([6, 60, 6000].map(nextLookMs)).toEqual([10_000, 10_000, 10_000]);
});
