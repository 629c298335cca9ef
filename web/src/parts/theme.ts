// SPDX-License-Identifier: LGPL-2.1-or-later
// Dark or light: as the system has it, until the user says otherwise.
import { Store } from "../live";

const KEY = "livemerge-theme";
const CLASS = "pf-v6-theme-dark";

function stored(): string | null {
  try {
    return window.localStorage.getItem(KEY);
  } catch {
    return null; /* a browser that keeps nothing: the system decides */
  }
}

const system = window.matchMedia("(prefers-color-scheme: dark)");
export const dark = new Store<boolean>(stored() ? stored() === "dark" : system.matches);

export function applyTheme(): void {
  document.documentElement.classList.toggle(CLASS, dark.value);
}

export function setDark(on: boolean): void {
  try {
    window.localStorage.setItem(KEY, on ? "dark" : "light");
  } catch {
    /* then it holds until the page is closed */
  }
  dark.set(on);
  applyTheme();
}

system.addEventListener("change", (event) => {
  if (stored()) return;
  dark.set(event.matches);
  applyTheme();
});
