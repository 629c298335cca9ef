// SPDX-License-Identifier: LGPL-2.1-or-later
// Plays scenarios in Debian's Chromium for tests/lib/lm/browser.py: one line of JSON a scenario comes in,
// {"scenario", "args"}; out go {"ask", "args"} (something to be done to the host; the answer is a line that comes
// in), and at the end {"done", "result"} or {"failed"}.
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { Scene } from "./scene.mjs";
import * as life from "./scenarios.mjs";
import * as hard from "./scenarios_hard.mjs";
import * as pages from "./scenarios_pages.mjs";
import * as whole from "./scenarios_whole.mjs";

const { chromium } = createRequire(new URL("../../web/package.json", import.meta.url))("playwright-core");
// no connections of Chromium's own: a test machine may have no network
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const [out] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => {
  const { value, done } = await lines.next();
  return done ? null : JSON.parse(value);
};
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const ask = async (what, ...args) => {
  say({ ask: what, args });
  return (await next()).answer;
};

/** What hangs is told with its picture, before CI ends all. */
const LONGEST_MS = 15 * 60_000;
async function soon(promise) {
  promise.catch(() => undefined); // it may fail when nobody listens any more
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`it has not ended in ${LONGEST_MS / 60_000} minutes`)), LONGEST_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const scenarios = { ...life, ...hard, ...pages, ...whole };
const browser = await chromium.launch({ timeout: 120_000, executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
for (let wish = await next(); wish !== null; wish = await next()) {
  const scene = new Scene(browser, wish.scenario, wish.args, out, ask);
  try {
    await scene.open();
    const result = await soon(scenarios[wish.scenario](scene));
    await scene.close();
    say({ done: true, result: result ?? null });
  } catch (error) {
    say({ failed: `${error.stack ?? error}\n${await scene.lastWords()}` });
  }
}
await browser.close();
