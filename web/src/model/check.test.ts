// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import { bandwidthWrong, nameWrong, passwordWrong, pathWrong, userWrong } from "./check";

const cases: [(text: string) => string | undefined, string[], string[]][] = [
  [nameWrong, ["a", "before update", "<script>alert(1)</script>", "ü".repeat(127), "x".repeat(255)], ["", "   ", "a\nb", "a\u0000", "\u0085", "x".repeat(256), "ü".repeat(128)]],
  [bandwidthWrong, ["0", "100", "1000000"], ["", "-1", "1.5", "1e3", "abc", "1000001", "99999999999"]],
  [pathWrong, ["", "/srv/images"], ["srv", "./x", "/a\u0000b"]],
];
test.each(cases)("%o", (wrong, good, bad) => {
  for (const text of good) expect(wrong(text), text).toBeUndefined();
  for (const text of bad) expect(wrong(text), JSON.stringify(text)).toBeTypeOf("string");
});

test("users and passwords", () => {
  for (const good of ["pat", "pat.x-y_z", "a".repeat(64)]) expect(userWrong(good)).toBeUndefined();
  for (const bad of ["", "a b", "<b>", "ü", "a@internal", "a".repeat(65), "../x"]) expect(userWrong(bad)).toBeDefined();
  expect(passwordWrong("1234567")).toBeDefined();
  expect(passwordWrong("üüüü")).toBeUndefined();
  expect(passwordWrong("x".repeat(256))).toBeDefined();
});
