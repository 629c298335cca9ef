// SPDX-License-Identifier: LGPL-2.1-or-later
// The keyboard goes back to where it was when a dialog closes. PatternFly does so only for a dialog that opens on the
// page itself: not for one that follows another, nor if what opened it has gone meanwhile.
import { useEffect, useState } from "react";

export const MAIN = "main";
const DIALOG = '[role="dialog"]';

/** What had the focus before the first of the dialogs that follow each other. */
let opener: HTMLElement | undefined;

function remember(): void {
  const now = document.activeElement;
  if (!(now instanceof HTMLElement) || now === document.body || now.closest(DIALOG)) return;
  /* a menu's item goes with its menu: the button that opened it stays */
  const menu = now.closest('[role="menu"]') ? document.querySelector('.pf-v6-c-menu-toggle[aria-expanded="true"]') : null;
  opener = menu instanceof HTMLElement ? menu : now;
}

/** Nothing has the focus, so the keyboard would begin at the top of the document. */
const isLost = (): boolean => document.activeElement === null || document.activeElement === document.body;

export function focusMain(): void {
  if (isLost()) document.getElementById(MAIN)?.focus({ preventScroll: true });
}

/** What had the focus may be gone in a moment: then it is in the open dialog, or on the page. */
export function focusSoon(): void {
  setTimeout(() => {
    if (!isLost()) return;
    const open = [...document.querySelectorAll<HTMLElement>(DIALOG)].at(-1);
    if (open) open.querySelector<HTMLElement>('button:not([aria-disabled="true"], :disabled)')?.focus();
    else focusMain();
  });
}

function giveBack(): void {
  if (!isLost() || document.querySelector(DIALOG)) return;
  if (opener?.isConnected) opener.focus({ preventScroll: true });
  focusMain();
}

/** For each dialog. */
export function useFocusBack(): void {
  useState(remember); // as it is first drawn: later the dialog has the focus
  useEffect(() => () => void setTimeout(giveBack), []);
}
