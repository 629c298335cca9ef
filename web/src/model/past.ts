// SPDX-License-Identifier: LGPL-2.1-or-later
/** What was told lately, and what was asked for, which goes back farther: each once, what was told as it is now. */
export function together<T>(told: T[], asked: T[], key: (one: T) => string): T[] {
  const known = new Set(told.map(key));
  return [...told, ...asked.filter((one) => !known.has(key(one)))];
}
