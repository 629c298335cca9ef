// SPDX-License-Identifier: LGPL-2.1-or-later
// One request, and what can become of it: the document, a fault of the server, or no answer at all.

export const ROOT = "/ovirt-engine/api";

export class Fault extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string,
    readonly help?: string,
    readonly jobId?: string,
  ) {
    super(message);
  }
  get noAnswer(): boolean {
    return this.status === 0;
  }
  get signedOut(): boolean {
    return this.status === 401;
  }
  get gone(): boolean {
    return this.status === 404;
  }
}

interface FaultDocument {
  detail?: string;
  reason?: string;
  code?: string;
  why?: string;
  help?: string;
  job?: { id?: string };
  fault?: FaultDocument;
}

/** "[…]" is oVirt's form of a detail. */
function plain(detail: string): string {
  return detail.startsWith("[") && detail.endsWith("]") ? detail.slice(1, -1) : detail;
}

export function faultOf(status: number, text: string): Fault {
  let doc: FaultDocument = {};
  try {
    doc = JSON.parse(text) as FaultDocument;
  } catch {
    /* a proxy's page, or nothing: the status says what there is to say */
  }
  const fault = doc.fault ?? doc;
  const message = fault.detail ? plain(fault.detail) : (fault.reason ?? `HTTP ${status}`);
  return new Fault(status, message, fault.code ?? "", fault.help, fault.job?.id);
}

type Watcher = (fault: Fault | null) => void;
const watchers = new Set<Watcher>();
/** Told of every answer: null, or the fault that says that the manager is away, or the session over. */
export function watchAnswers(watcher: Watcher): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}
function tell(fault: Fault | null): void {
  for (const watcher of watchers) watcher(fault);
}

export interface Wish {
  method?: string;
  body?: unknown;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

/** After that, what early.ts was answered is old: the page has hung, or the network. */
const EARLY_MS = 30_000;
/** What early.ts has asked for before this script was there: each is taken once. */
function begun(method: string, url: string): Promise<Response> | undefined {
  const early = typeof window === "undefined" ? undefined : window.livemergeEarly;
  if (!early || method !== "GET") return undefined;
  const answer = early.answers.get(url);
  early.answers.delete(url);
  return Date.now() - early.began < EARLY_MS ? answer : undefined;
}

export async function call<T>(path: string, wish: Wish = {}): Promise<T> {
  const method = wish.method ?? "GET";
  const headers: Record<string, string> = { Accept: "application/json", ...wish.headers };
  if (method !== "GET") headers["X-Livemerge"] = "1"; // what other sites cannot send: a cookie alone may only read
  if (wish.body !== undefined) headers["Content-Type"] = "application/json";
  let answer: Response;
  let text: string;
  const url = path.startsWith("/session") ? path : ROOT + path;
  try {
    answer = await (begun(method, url) ?? fetch(url, {
      method,
      headers,
      body: wish.body !== undefined ? JSON.stringify(wish.body) : undefined,
      signal: wish.signal ?? null,
      credentials: "same-origin",
      cache: "no-store",
    }));
    text = await answer.text();
    wish.signal?.throwIfAborted(); // an early one does not hear of it
  } catch (error) {
    if (wish.signal?.aborted) throw error;
    const fault = new Fault(0, "The manager does not answer.", "unreachable");
    tell(fault);
    throw fault;
  }
  if (!answer.ok) {
    const fault = faultOf(answer.status, text);
    if (fault.signedOut && typeof window !== "undefined") window.livemergeEarly = undefined; // the others were answered so, too
    tell(fault.signedOut ? fault : null);
    throw fault;
  }
  tell(null);
  return (text ? JSON.parse(text) : {}) as T;
}
