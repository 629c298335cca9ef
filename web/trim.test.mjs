// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import { isDead, trim } from "./trim.mjs";

test.each([
  [".gone", true],
  [".a .gone > .b", true],
  [".a:not(.gone)", false],
  [":root:where(.gone)", true],
  [":root:where(.a, .gone)", false],
  [":is(.gone, .gone .b) .a", true],
  [".a:has(.gone)", true],
  [".a:not(:where(.gone, .b))", false],
  [".gone-not", false],
])("of '%s' it is %s that it never meets anything", (selector, dead) => {
  expect(isDead(selector, [/^gone$/])).toBe(dead);
});

const SHEET = `
:root { --read: var(--by-read); --by-read: 1px; --unread: var(--by-unread); --by-unread: 2px; --by-script: 3px }
:root:where(.pf-v6-theme-felt) { --read: 4px }
.a, .pf-v6-c-drawer { margin: var(--read) }
@media (min-width: 1px) { .pf-m-gap-on-md { padding: 0 } }
@keyframes spin { from { rotate: 0deg } to { rotate: 90deg } }
`;

test("what meets nothing goes, and then what nobody reads", () => {
  const { css, dropped } = trim(SHEET, 'x = "--by-script"');
  expect(dropped).toEqual([":root:where(.pf-v6-theme-felt)", ".pf-v6-c-drawer", ".pf-m-gap-on-md"]);
  expect(css).toMatch(/^\s*:root { --read: var\(--by-read\); --by-read: 1px; --by-script: 3px }\s*\.a { margin: var\(--read\) }\s*@keyframes spin/);
});
