// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import { ago, bytes, fileName, milliseconds, seconds } from "./format";

test.each([
  [undefined, "–"], [NaN, "–"], [0, "0 B"], [1023, "1023 B"], [1024, "1 KiB"], [1536, "1.5 KiB"], [10.25 * 1024, "10.3 KiB"],
  [64 * 2 ** 20, "64 MiB"], [-(2 ** 30), "−1 GiB"], [999.9 * 2 ** 20, "1000 MiB"], [5 * 2 ** 50, "5 PiB"], [2 ** 62, "4096 PiB"],
])("bytes %s", (n, text) => expect(bytes(n)).toBe(text));

test.each([[undefined, "–"], [-1, "–"], [0, "0.01 s"], [0.4, "0.4 s"], [3.25, "3.3 s"], [42, "42 s"], [600, "10 min"], [7200, "2 h"], [86400 * 3, "3 d"]])(
  "seconds %s", (n, text) => expect(seconds(n)).toBe(text));

test.each([[0.44, "0.4 ms"], [30, "30 ms"], [1500, "1.5 s"], [undefined, "–"]])("milliseconds %s", (n, text) => expect(milliseconds(n)).toBe(text));

test("ago says how long, and survives what is no date", () => {
  const now = Date.parse("2026-01-31T12:00:00Z");
  expect(ago("2026-01-31T11:59:40Z", now)).toBe("just now");
  expect(ago("2026-01-31T11:00:00Z", now)).toBe("1 hour ago");
  expect(ago("2026-01-29T11:00:00Z", now)).toBe("2 days ago");
  expect(ago("nonsense", now)).toBe("–");
  expect(ago(undefined, now)).toBe("–");
});

test("fileName", () => expect(fileName("/srv/images/web1.qcow2")).toBe("web1.qcow2"));
