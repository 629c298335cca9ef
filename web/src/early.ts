// SPDX-License-Identifier: LGPL-2.1-or-later
// A script of its own, there long before the page's: asks meanwhile for what the page will ask for first. It imports nothing, or it
// would wait for it. Each answer is taken once, by api/http.ts.

/** Of the API, for what stands behind "#": as api/api.ts has them, which a test compares. */
export function firstPaths(hash: string): string[] {
  const [page = "vms", id, tab] = hash.replace(/^#/, "").split("/").filter((word) => word !== "");
  if (page !== "vms") return [];
  if (id === undefined) return ["/vms?brief=true"];
  const vm = `/vms/${id}`;
  const parts: Record<string, string> = { snapshots: `${vm}/snapshots?operations=true`, disks: `${vm}/diskattachments?follow=disk` };
  const part = tab === undefined ? undefined : parts[tab];
  return [`${vm}?operations=true`, ...(part === undefined ? [] : [part])];
}

export interface Early {
  began: number;
  answers: Map<string, Promise<Response>>;
}

declare global {
  interface Window {
    livemergeEarly?: Early;
  }
}

function ask(url: string): Promise<Response> {
  const answer = fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" });
  answer.catch(() => undefined); // who takes it is told; nobody may
  return answer;
}

export function begin(): void {
  const urls = ["/session", ...firstPaths(window.location.hash).map((path) => `/ovirt-engine/api${path}`)];
  window.livemergeEarly = { began: Date.now(), answers: new Map(urls.map((url) => [url, ask(url)])) };
}

if (typeof window !== "undefined") begin();
