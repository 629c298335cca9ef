// SPDX-License-Identifier: LGPL-2.1-or-later
// Alerts that somebody has dismissed here: they stay among the events, for everybody else, too.
import type { Event } from "../api/types";
import { Store } from "../live";

const KEY = "livemerge-alerts-dismissed";
const SEVERE = new Set(["alert", "error", "warning"]);

function stored(): number {
  try {
    return Number(window.localStorage.getItem(KEY)) || 0;
  } catch {
    return 0; /* a browser that keeps nothing */
  }
}

/** index of the last event that was there then */
export const dismissed = new Store<number>(stored());

export function dismissAll(told: Event[]): void {
  const last = told[0]?.index ?? 0;
  try {
    window.localStorage.setItem(KEY, String(last));
  } catch {
    /* then it holds until the page is closed */
  }
  dismissed.set(last);
}

/** told: the newest first. A manager with a new database counts from 1 again: then nothing of it was dismissed. */
export function alertsOf(told: Event[], until: number): Event[] {
  const since = until > (told[0]?.index ?? 0) ? 0 : until;
  return told.filter((event) => event.index > since && SEVERE.has(event.severity));
}
