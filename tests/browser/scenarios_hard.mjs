// SPDX-License-Identifier: LGPL-2.1-or-later
// The page for who has only the keyboard while things change, a window that is low, and a network or manager that is slow and fails.
import { closed, greyed, possible, toSnapshots } from "./steps.mjs";

const API = "**/ovirt-engine/api";

/** Greyed, with the focus that it had, and saying why: to the eye, and to a screen reader. */
async function greyedUnderFocus(scene, button, reason) {
  await scene.until("it is greyed", async () => (await button.getAttribute("aria-disabled")) === "true");
  await scene.focused(button);
  await scene.seen(scene.page.getByRole("tooltip").filter({ hasText: reason }));
  const described = await button.evaluate((one) => document.getElementById(one.getAttribute("aria-describedby"))?.textContent ?? "");
  if (!reason.test(described)) throw new Error(`a screen reader is told '${described}'`);
}

/** What turns grey while it has the focus says why, and keeps it: a button of a page, those of dialogs, of the sign-in. */
export async function greyedKeeps(scene) {
  const { page, args, ask } = scene;
  const { keyboard: keys } = page;
  scene.allow(/status of (401|409|502|503|504)/);
  await toSnapshots(scene, args.id);
  await possible(scene, "Create");
  const create = scene.button("Create");
  await create.focus();
  await ask("stop agent");
  await greyedUnderFocus(scene, create, /host/i);
  await scene.accessible("a greyed button with the focus");
  await keys.press("Enter");
  if ((await scene.dialog().count()) > 0) throw new Error("what is greyed opens a dialog");
  await ask("start agent");
  await possible(scene, "Create");
  await scene.away(page.getByRole("tooltip"));
  await scene.focused(create);

  await keys.press("Enter");
  const ok = scene.dialog().locator('button[type="submit"]'); // while it is sent its name is another one
  await scene.seen(ok);
  await scene.focused(scene.dialog().locator("#name"));
  await ok.focus();
  await greyedUnderFocus(scene, ok, /A name is needed/);
  await keys.press("Enter");
  await scene.dialog().locator("#name").fill("refused");
  await scene.until("it can be sent", async () => (await ok.getAttribute("aria-disabled")) !== "true");
  // while it is sent, and when that has failed, the keyboard is where it was
  let sent = 0;
  let answer;
  await page.route(`${API}/vms/*/snapshots`, (route) => {
    sent++;
    answer = () => route.fulfill({ status: 503, contentType: "application/json", body: '{"detail":"[not now]","reason":"Operation Failed"}' });
  });
  await ok.focus();
  await keys.press("Enter");
  await scene.until("it is being sent", () => answer !== undefined);
  await scene.until("and greyed", async () => (await ok.getAttribute("aria-disabled")) === "true");
  await keys.press("Enter");
  await scene.focused(ok);
  await answer();
  await scene.seen(scene.dialog().getByText("not now"));
  await scene.focused(ok);
  if (sent !== 1) throw new Error(`it was sent ${sent} times`);
  await page.unroute(`${API}/vms/*/snapshots`);
  await keys.press("Escape");
  await closed(scene);
  await scene.focused(create);

  // of the sign-in, too; who went there knows that the session is over
  await scene.button(`Signed in as ${args.user}`).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  const signIn = scene.button("Sign in");
  await scene.seen(signIn);
  if ((await page.getByText("The session has ended").count()) > 0) throw new Error("who has signed out is told that the session has ended");
  await signIn.focus();
  await greyedUnderFocus(scene, signIn, /User and password are needed/);
}

/** 1280 × 800 at 400 %: all can be reached, in one direction, and what is shown is more than frames. */
export async function low(scene) {
  const { args } = scene;
  await scene.open({ width: 320, height: 200 });
  const { page } = scene;
  const LEAST = 120;
  const room = (selector) => page.evaluate((one) => {
    const inner = [...document.querySelectorAll(".lm-page, .pf-v6-c-page__main, .pf-v6-c-modal-box, .pf-v6-c-modal-box__body")]
      .filter((element) => element.contains(document.querySelector(one)) && getComputedStyle(element).overflowY !== "visible").map((element) => element.clientHeight);
    return Math.min(innerHeight, ...inner);
  }, selector);
  const views = [["/vms", "1 VM", ".lm-grid"], [`/vms/${args.id}/snapshots`, "you are here", ".lm-grid"], [`/vms/${args.id}/general`, "Virtual CPUs", ".lm-fill"],
    ["/storage", "Storage", ".lm-page"], ["/users", "Add user", ".lm-page"]];
  for (const [hash, , selector] of views) {
    await scene.goto(hash);
    await scene.seen(page.locator(selector));
    const seen = await room(selector);
    if (seen < LEAST) throw new Error(`${hash}: ${seen} of 200 pixels are left for what it shows`);
    const [end, bar] = await page.evaluate(() => [document.querySelector(".lm-page").lastElementChild, document.querySelector(".lm-bar")].map((one) => one.getBoundingClientRect()));
    if (end.bottom > bar.top) throw new Error(`${hash}: the bar lies over what is shown, ${end.bottom - bar.top} pixels of it`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) throw new Error(`${hash} is ${wide} pixels too wide`);
  }
  await toSnapshots(scene, args.id);
  await possible(scene, "Create");
  await scene.button("Create").click();
  await scene.seen(scene.dialog().locator("#memory"));
  const seen = await room(".pf-v6-c-modal-box__body");
  if (seen < LEAST) throw new Error(`the dialog: ${seen} of 200 pixels are left for its fields`);
  await scene.dialog().locator("#name").fill("low");
  await scene.dialog().getByRole("button", { name: "Create", exact: true }).scrollIntoViewIfNeeded();
  await scene.accessible("a dialog in a low window");
  await scene.picture("low");
  await page.keyboard.press("Escape");
  await closed(scene);
}

const SLOW_MS = 2000;

/** Every answer comes late, some are failures, and the session ends in the middle of a dialog. */
export async function slow(scene) {
  const { page, args } = scene;
  scene.allow(/status of (401|503)/);
  const failing = new Map();
  const isSlow = ({ pathname }) => pathname === "/session" || (pathname.startsWith("/ovirt-engine/api") && !pathname.endsWith("/events/stream"));
  await scene.context.route(isSlow, async (route) => {
    await new Promise((done) => setTimeout(done, SLOW_MS)); // the network's own time
    const key = `${route.request().method()} ${new URL(route.request().url()).pathname}`;
    const left = failing.get(key) ?? 0;
    failing.set(key, left - 1);
    const answered = left > 0 ? route.fulfill({ status: 503, contentType: "application/json", body: '{"detail":"[busy just now]","reason":"Operation Failed"}' }) : route.continue();
    await answered.catch(() => undefined); // the page may have gone on
  });
  // a first view that fails says so; asking again shows that it does, and gives the keyboard back to the page
  failing.set("GET /ovirt-engine/api/vms", 1);
  failing.set("GET /session", Infinity); // nothing else asks again
  await scene.goto();
  const again = scene.button("Try again");
  await scene.seen(again);
  await scene.seen(page.getByText("busy just now"));
  await again.focus();
  await page.keyboard.press("Enter");
  await scene.seen(scene.row(args.vm));
  await scene.until("the keyboard is on the page", () => page.evaluate(() => document.activeElement?.id === "main"));
  failing.set("GET /session", 0);
  await scene.seen(scene.button(`Signed in as ${args.user}`)); // the session is asked for again, too

  await toSnapshots(scene, args.id);
  await possible(scene, "Create");
  await scene.button("Create").click();
  await scene.dialog().getByLabel("Name").fill("too late");
  await scene.context.clearCookies();
  await page.keyboard.press("Enter");
  await scene.seen(page.getByText("The session has ended; sign in again"));
  await scene.accessible("the end of a session");
  await scene.focused(page.getByLabel("User"));
  // signing in succeeds, and what comes after it fails once
  failing.set("GET /session", 1);
  await page.getByLabel("User").fill(args.user);
  await page.getByLabel("Password").fill(args.password);
  await page.keyboard.press("Enter");
  await scene.seen(scene.row(args.snapshot)); // where it was
  await greyed(scene, "Rename");
  if ((await scene.row("too late").count()) > 0) throw new Error("what was refused was done");
}
