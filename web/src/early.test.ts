// SPDX-License-Identifier: LGPL-2.1-or-later
import { afterEach, expect, test, vi } from "vitest";
import { api } from "./api/api";
import { call } from "./api/http";
import { begin, firstPaths } from "./early";

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** A browser at that address, whose server answers so; what is asked for. */
function browserAt(hash: string, answer = (url: string): Promise<Response> => Promise.resolve(new Response(JSON.stringify({ url })))): string[] {
  const asked: string[] = [];
  vi.stubGlobal("window", { location: { hash } });
  vi.stubGlobal("fetch", (url: string) => {
    asked.push(url);
    return answer(url);
  });
  begin();
  return asked;
}

test.each([
  ["", [() => api.vms()]],
  ["#/vms", [() => api.vms()]],
  ["#/vms/a%2Fb", [() => api.vm("a/b")]],
  ["#/vms/a/snapshots", [() => api.vm("a"), () => api.snapshots("a")]],
  ["#/vms/a/disks", [() => api.vm("a"), () => api.disks("a")]],
  ["#/vms/a/events", [() => api.vm("a")]],
  ["#/storage", []],
])("what the page at '%s' asks for first has been asked for early, and once", async (hash, wishes) => {
  const asked = browserAt(hash);
  const early = [...asked];
  expect(early).toHaveLength(1 + wishes.length);
  await Promise.all([api.session(), ...wishes.map((wish) => wish())]);
  expect(asked).toEqual(early);
  await Promise.all([api.session(), ...wishes.map((wish) => wish())]); // what is asked for again is asked for
  expect(asked).toHaveLength(2 * early.length);
});

test("an early answer is for who comes soon: later it is old", async () => {
  vi.useFakeTimers();
  const asked = browserAt("#/vms");
  vi.advanceTimersByTime(60_000);
  await api.vms();
  expect(asked).toHaveLength(3);
});

test("when nobody is signed in, what else was answered so is not taken after signing in", async () => {
  let signedIn = false;
  const asked = browserAt("#/vms", () => Promise.resolve(new Response("{}", { status: signedIn ? 200 : 401 })));
  await expect(api.session()).rejects.toMatchObject({ signedOut: true });
  signedIn = true;
  await api.vms();
  expect(asked).toHaveLength(3);
});

test("what could not be asked early is a fault of who takes it, and who writes takes none", async () => {
  const asked = browserAt("#/vms", () => Promise.reject(new TypeError("refused")));
  await expect(api.vms()).rejects.toMatchObject({ noAnswer: true });
  await expect(call("/session", { method: "DELETE" })).rejects.toMatchObject({ noAnswer: true });
  expect(asked).toHaveLength(3);
});

test("an address that is none asks for nothing that breaks", () => {
  expect(firstPaths("#/vms/%")).toEqual(["/vms/%?operations=true"]);
  expect(firstPaths("#//vms//")).toEqual(["/vms?brief=true"]);
});
