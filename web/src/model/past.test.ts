// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import { together } from "./past";

test("what was told comes first, and in its place what was asked for is not shown", () => {
  const told = [{ id: "3", is: "new" }, { id: "2", is: "new" }];
  const asked = [{ id: "2", is: "old" }, { id: "1", is: "old" }];
  expect(together(told, asked, (one) => one.id).map((one) => one.id + one.is)).toEqual(["3new", "2new", "1old"]);
  expect(together([], asked, (one) => one.id)).toEqual(asked);
});
