// SPDX-License-Identifier: LGPL-2.1-or-later
// Where the page is: what stands behind "#" in the address, so that back, forward and bookmarks work.
import { useSyncExternalStore } from "react";

function here(): string {
  return window.location.hash.replace(/^#/, "") || "/vms";
}

function subscribe(tell: () => void): () => void {
  window.addEventListener("hashchange", tell);
  return () => window.removeEventListener("hashchange", tell);
}

export function useWords(): string[] {
  const path = useSyncExternalStore(subscribe, here);
  return path.split("/").filter((word) => word !== "").map(decoded);
}

function decoded(word: string): string {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
}

export function to(...words: string[]): string {
  return `#/${words.map(encodeURIComponent).join("/")}`;
}

export function go(...words: string[]): void {
  window.location.hash = to(...words);
}
