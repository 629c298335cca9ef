// SPDX-License-Identifier: LGPL-2.1-or-later
const SOON_MS = 500;
const SELDOM_MS = 10_000;

/** How long to wait before a manager that is away is looked for again, after so many looks in vain. */
export function nextLookMs(vain: number): number {
  return Math.min(SOON_MS * 2 ** Math.max(0, vain - 1), SELDOM_MS);
}
