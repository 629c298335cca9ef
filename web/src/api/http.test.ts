// SPDX-License-Identifier: LGPL-2.1-or-later
import { afterEach, expect, test, vi } from "vitest";
import { Fault, call, faultOf, watchAnswers } from "./http";

afterEach(() => vi.unstubAllGlobals());

test.each([
  [409, '{"detail":"[VM \'web\' is locked]","reason":"Operation Failed","code":"busy","help":"wait"}', "VM 'web' is locked", "busy"],
  [409, '{"fault":{"detail":"[no]","code":"refused"},"status":"failed"}', "no", "refused"],
  [400, '{"reason":"Incomplete parameters"}', "Incomplete parameters", ""],
  [502, "<html>Bad gateway</html>", "HTTP 502", ""],
])("a fault of status %d", (status, text, message, code) => {
  expect(faultOf(status, text)).toMatchObject({ status, message, code });
});

test("a change is sent as JSON, whatever it says", async () => {
  const seen: [string, RequestInit][] = [];
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    seen.push([url, init]);
    return Promise.resolve(new Response("{}"));
  });
  await call("/vms");
  await call("/vms/a/snapshots", { method: "POST", body: { description: "<b>" } });
  const headers = seen.map(([, init]) => init.headers as Record<string, string>);
  expect(headers[0]).toEqual({ Accept: "application/json" });
  expect(headers[1]).toMatchObject({ "X-Livemerge": "1", "Content-Type": "application/json" });
  expect(seen[1]![1].body).toBe('{"description":"<b>"}');
});

test("no answer is told to who watches, and so is the end of the session", async () => {
  const told: (number | null)[] = [];
  const stop = watchAnswers((fault) => told.push(fault?.status ?? null));
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("refused")));
  await expect(call("/vms")).rejects.toMatchObject({ noAnswer: true });
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("{}", { status: 401 })));
  await expect(call("/vms")).rejects.toBeInstanceOf(Fault);
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("{}")));
  await call("/vms");
  stop();
  expect(told).toEqual([0, 401, null]);
});
