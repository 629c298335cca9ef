// SPDX-License-Identifier: LGPL-2.1-or-later
// What the page knows, kept fresh by the manager's stream of events. Components say which document they
// show; whoever hears of a change says which documents it concerns. No document is asked for again without
// a reason: a change, a stream that came back, or, while there is no stream, ten seconds.
import { useEffect, useSyncExternalStore } from "react";
import { api } from "./api/api";
import { ROOT, call, watchAnswers } from "./api/http";
import type { Fault } from "./api/http";
import { forgetDrawings } from "./model/drawings";
import { nextLookMs } from "./model/pace";
import type { Event, Host, Job, Ref, Session, Vm } from "./api/types";

type Load<T> = (signal: AbortSignal) => Promise<T>;
interface Entry {
  data?: unknown;
  error?: Fault;
  load: Load<unknown>;
  topics: string[];
  users: Set<() => void>;
  running?: AbortController;
  again: boolean;
  view: View<unknown>;
  asked: number;
}
export interface View<T> {
  data: T | undefined;
  error: Fault | undefined;
  /** fulfilled when there is an answer, whatever it is */
  reload: () => Promise<void>;
}

/** Changes come in bursts: a document is asked for again at most this often. */
const PACE_MS = 250;
const SLOW_MS = 10_000;
const entries = new Map<string, Entry>();

function publish(entry: Entry): void {
  entry.view = { data: entry.data, error: entry.error, reload: entry.view.reload };
  for (const user of entry.users) user();
}

async function run(entry: Entry): Promise<void> {
  if (entry.running) {
    entry.again = true;
    return;
  }
  const control = new AbortController();
  entry.running = control;
  entry.asked = Date.now();
  try {
    const data = await entry.load(control.signal);
    entry.data = data;
    entry.error = undefined;
  } catch (error) {
    if (control.signal.aborted) return;
    entry.error = error as Fault;
    if (entry.error.gone) entry.data = undefined;
  } finally {
    entry.running = undefined;
  }
  publish(entry);
  if (entry.again) {
    entry.again = false;
    setTimeout(() => void run(entry), PACE_MS);
  }
}

function refresh(entry: Entry): void {
  if (entry.users.size === 0) {
    entry.asked = 0;
    return;
  }
  const wait = entry.asked + PACE_MS - Date.now();
  if (wait <= 0) void run(entry);
  else if (!entry.again) {
    entry.again = true;
    setTimeout(() => {
      entry.again = false;
      void run(entry);
    }, wait);
  }
}

export function changed(...topics: string[]): void {
  for (const entry of entries.values()) if (entry.topics.some((t) => topics.includes(t))) refresh(entry);
}

export function changedAll(): void {
  for (const entry of entries.values()) refresh(entry);
}

const NOTHING: View<never> = { data: undefined, error: undefined, reload: () => Promise.resolve() };

/** key: null = nothing to ask for. */
export function useLive<T>(key: string | null, topics: string[], load: Load<T>): View<T> {
  let entry = key !== null ? entries.get(key) : undefined;
  if (key !== null && !entry) {
    const made: Entry = { load, topics, users: new Set(), again: false, asked: 0, view: NOTHING };
    made.view = { data: undefined, error: undefined, reload: () => run(made) };
    entries.set(key, made);
    entry = made;
  }
  if (entry) entry.load = load;
  const subscribe = (tell: () => void): (() => void) => {
    entry?.users.add(tell);
    return () => entry?.users.delete(tell);
  };
  const view = useSyncExternalStore(subscribe, () => entry?.view ?? NOTHING) as View<T>;
  useEffect(() => {
    if (entry && (entry.asked === 0 || state.value.kind !== "live")) refresh(entry);
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the entry of a key is always the same
  }, [key]);
  return view;
}

/** Puts one VM's new document into the list, instead of asking for a thousand. */
async function patchVm(id: string): Promise<void> {
  changed(`vm:${id}`);
  const list = entries.get("vms");
  if (!list?.data || list.users.size === 0) {
    if (list) list.asked = 0;
    return;
  }
  try {
    const vm = await api.vm(id);
    const all = list.data as Vm[];
    list.data = all.some((v) => v.id === vm.id) ? all.map((v) => (v.id === vm.id ? vm : v)) : [...all, vm];
  } catch (error) {
    if ((error as Fault).gone) list.data = (list.data as Vm[]).filter((v) => v.id !== id);
  }
  publish(list);
}

const waiting = new Set<string>();
const MANY = 20;
export function vmChanged(id: string): void {
  if (waiting.size === 0)
    setTimeout(() => {
      const ids = [...waiting];
      waiting.clear();
      if (ids.length > MANY) changed("vms", ...ids.map((i) => `vm:${i}`));
      else for (const one of ids) void patchVm(one);
    }, PACE_MS);
  waiting.add(id);
}

// ---- a small store: a value and who wants to hear of it

export class Store<T> {
  private users = new Set<() => void>();
  constructor(public value: T) {}
  set(value: T): void {
    this.value = value;
    for (const user of this.users) user();
  }
  subscribe = (tell: () => void): (() => void) => {
    this.users.add(tell);
    return () => this.users.delete(tell);
  };
}
const ofSession: (() => void)[] = [];
/** One whose value is forgotten with the session. */
export function sessionStore<T>(none: T): Store<T> {
  const store = new Store(none);
  ofSession.push(() => store.set(none));
  return store;
}
export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, () => store.value);
}

// ---- jobs and events: told by the stream itself

export const jobs = new Store<Map<string, Job>>(new Map());
export const events = new Store<Event[]>([]);
const KEPT_EVENTS = 500;

export function jobTold(job: Job): void {
  const known = jobs.value.get(job.id);
  if (known && (known.end_time || (known.rev ?? 0) > (job.rev ?? 0)) && !job.end_time) return;
  jobs.set(new Map(jobs.value).set(job.id, job));
  if (job.vm && (!known || (job.end_time && !known.end_time))) vmChanged(job.vm.id);
}

type Hearer = (event: Event) => void;
const hearers = new Set<Hearer>();
/** Events that come from now on. */
export function onEvent(hearer: Hearer): () => void {
  hearers.add(hearer);
  return () => hearers.delete(hearer);
}

/** Documents of the past: who shows one hears of what comes, so it is asked for again only when it is shown again. */
export const PAST = "past";
function pastIsOver(): void {
  for (const entry of entries.values()) if (entry.users.size === 0 && entry.topics.includes(PAST)) entry.asked = 0;
}

function eventTold(event: Event): void {
  if (events.value.some((e) => e.index === event.index)) return;
  pastIsOver();
  events.set([event, ...events.value].slice(0, KEPT_EVENTS));
  if (event.vm) vmChanged(event.vm.id);
  for (const hearer of hearers) hearer(event);
}

async function loadPast(): Promise<void> {
  const [jobList, eventList] = await Promise.all([api.jobs(), api.events()]);
  jobs.set(new Map(jobList.map((j) => [j.id, j])));
  const newer = events.value.filter((e) => e.index > (eventList[0]?.index ?? -1));
  events.set([...newer, ...eventList]);
}

// ---- the stream

export type Connection =
  | { kind: "connecting" }
  | { kind: "live" }
  | { kind: "stale"; since: number }
  | { kind: "signed-out"; /** it was not the user who ended the session */ ended?: boolean };
export const state = new Store<Connection>({ kind: "connecting" });

let source: EventSource | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;
/** looks in vain since the last answer */
let vain = 0;

function lost(): void {
  if (state.value.kind === "live" || state.value.kind === "connecting") state.set({ kind: "stale", since: Date.now() });
}

function heard(name: string, told: (doc: unknown) => void): void {
  source?.addEventListener(name, (message: MessageEvent<string>) => told(JSON.parse(message.data)));
}

/** Who has signed in, and so what is greyed. */
export const me = new Store<Session | undefined>(undefined);

function opened(): void {
  vain = 0;
  state.set({ kind: "live" });
  changedAll();
  void loadPast().catch(lostAndLook);
  void lookAtHosts().catch(lostAndLook);
}

function lostAndLook(): void {
  lost();
  if (state.value.kind === "stale") lookLater();
}

/** Is the manager there again? A plain request tells sooner, and without noise, than a stream. */
async function look(): Promise<void> {
  clearTimeout(timer);
  source?.close();
  source = undefined;
  try {
    await call("/");
    connect();
  } catch (error) {
    if ((error as Fault).signedOut) return;
    lostAndLook();
  }
}

/** Soon at first, for a manager that restarts is back in a moment; then seldom. */
function lookLater(): void {
  clearTimeout(timer);
  timer = setTimeout(() => void look(), nextLookMs(vain++));
}

function openStream(): void {
  source = new EventSource(`${ROOT}/events/stream`);
  // the stream's own first message: the browser's "open" has the same name, and tells no more than that there is an answer
  source.addEventListener("open", (event) => { if (event instanceof MessageEvent) opened(); });
  source.addEventListener("error", () => {
    lost();
    timer = setTimeout(() => void look(), 500);
  });
  heard("event", (event) => eventTold(event as Event));
  heard("job", (job) => jobTold(job as Job));
  heard("vm", (vm) => {
    vmChanged((vm as Ref).id);
    hostsLater(); // when a host falls silent, its VMs become unknown
  });
}

/** Whoever sees only some VMs has no stream here: the page asks, every ten seconds, and so learns of another role, too. */
const seesAll = (session: Session): boolean => session.role !== "none";

export function connect(): void {
  clearTimeout(timer);
  source?.close();
  source = undefined;
  api.session().then(
    (session) => {
      me.set(session);
      if (seesAll(session)) openStream();
      else opened();
    },
    (error: unknown) => {
      if ((error as Fault).signedOut) return;
      lostAndLook();
    },
  );
}

/** Nothing of a session may be seen after it. */
function forgetAll(): void {
  clearTimeout(timer);
  source?.close();
  source = undefined;
  for (const entry of entries.values()) entry.running?.abort();
  entries.clear();
  jobs.set(new Map());
  events.set([]);
  for (const forget of ofSession) forget();
  forgetDrawings();
  hosts.set([]);
  me.set(undefined);
}

let leaving = false;
export async function signOut(): Promise<void> {
  await api.signOut();
  leaving = true;
  await api.session().catch(() => undefined); // the answer says that nobody is signed in
}

/** Somebody has signed in: what follows may fail as at any other time. */
export function signedIn(): void {
  state.set({ kind: "connecting" });
  connect();
}

watchAnswers((fault) => {
  if (fault?.signedOut) {
    if (state.value.kind === "signed-out") return;
    const ended = me.value !== undefined && !leaving;
    leaving = false;
    forgetAll();
    state.set({ kind: "signed-out", ended });
    return;
  }
  if (fault?.noAnswer && state.value.kind === "live") {
    lost();
    void look();
  }
});

/** The stream does not tell of hosts: whether their agents answer decides what can be done with their VMs. */
export const hosts = new Store<Host[]>([]);
async function lookAtHosts(): Promise<void> {
  const list = await api.hosts();
  const states = (all: Host[]): string => JSON.stringify(all.map((h) => [h.id, h.status, h.status_detail]));
  if (states(list) === states(hosts.value)) return;
  const first = hosts.value.length === 0;
  hosts.set(list);
  if (!first) changedAll();
}

const HOSTS_PACE_MS = 2000;
let hostsTimer: ReturnType<typeof setTimeout> | undefined;
/** Soon, and once for many changes. */
function hostsLater(): void {
  hostsTimer ??= setTimeout(() => {
    hostsTimer = undefined;
    if (state.value.kind === "live") void lookAtHosts().catch(() => undefined);
  }, HOSTS_PACE_MS);
}

/** Nothing is asked for more often than this without a reason. */
setInterval(() => {
  if (state.value.kind === "live" && me.value && !seesAll(me.value)) opened();
  else if (state.value.kind === "live") void lookAtHosts().catch(() => undefined); /* a fault is told to who watches */
}, SLOW_MS);
