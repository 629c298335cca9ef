// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import { bandwidthWrong, nameWrong, pathWrong } from "./check";

const cases: [(text: string) => string | undefined, string[], string[]][] = [
  [nameWrong, ["a", "before update", "<script>alert(1)</script>", "ü".repeat(127), "x".repeat(255)], ["", "   ", "a\nb", "a\u0000", "\u0085", "x".repeat(256), "ü".repeat(128)]],
  [bandwidthWrong, ["0", "100", "1000000"], ["", "-1", "1.5", "1e3", "abc", "1000001", "99999999999"]],
  [pathWrong, ["", "/srv/images"], ["srv", "./x", "/a\u0000b"]],
];
test.each(cases)("%o", (wrong, good, bad) => {
  for (const text of good) expect(wrong(text), text).toBeUndefined();
  for (const text of bad) expect(wrong(text), JSON.stringify(text)).toBeTypeOf("string");
});
