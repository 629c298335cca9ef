// SPDX-License-Identifier: LGPL-2.1-or-later
// What several scenarios do.

export const KIB = 1024;
const HOPELESS_MS = 10_000;
const VIEWS = 8;

/** Milliseconds from nothing to what open() waits for. */
export async function viewed(scene, open) {
  await scene.page.goto("about:blank");
  await open();
  return scene.page.evaluate(() => performance.now());
}

/** {first, best} of a few; the first with nothing of the page kept by the browser. A test machine may be slow and busy: here only what is hopeless
 * fails; that a view takes less than a second is for `make bench` to show. */
export async function firstView(scene, open) {
  const times = [];
  do times.push(await viewed(scene, open));
  while (times.at(-1) > HOPELESS_MS && times.length < VIEWS);
  if (times.at(-1) > HOPELESS_MS) throw new Error(`the first view took ${times} ms`);
  return { first: Math.round(times[0]), best: Math.round(times.at(-1)) };
}

export async function toSnapshots(scene, vm) {
  await scene.goto(`/vms/${vm}/snapshots`);
  await scene.seen(scene.button("Create"));
}

export async function choose(scene, ...names) {
  for (const name of names) await scene.page.getByLabel(`Select ${name}`, { exact: true }).check();
}

/** Greyed, and says why when it has the focus. */
export async function refusedWith(scene, name, reason) {
  const button = scene.button(name);
  await greyed(scene, name);
  await button.focus();
  await scene.seen(scene.page.getByRole("tooltip").filter({ hasText: reason }));
  await scene.page.mouse.move(0, 0); // it may lie there since what was clicked last
  await button.blur();
  await scene.away(scene.page.getByRole("tooltip"));
}

/** The same for the pointer. */
export async function refusedUnderPointer(scene, name, reason) {
  await greyed(scene, name);
  await scene.button(name).hover();
  await scene.seen(scene.page.getByRole("tooltip").filter({ hasText: reason }));
  await scene.page.mouse.move(0, 0);
  await scene.away(scene.page.getByRole("tooltip"));
}

/** From one end of a table to the other, half a screen at a time, without stutter: what the page computes for a step is measured, not
 * frames, which come late on a busy machine. Only what is in sight exists. */
export async function scrollsSmoothly(scene, limit = 50) {
  const { page } = scene;
  const session = await scene.context.newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const computed = async () => (await session.send("Performance.getMetrics")).metrics.find((one) => one.name === "TaskDuration").value * 1000;
  const before = await computed();
  const steps = await page.getByRole("table").evaluate(async (table) => {
    let count = 0;
    for (let top = 0; top < table.scrollHeight; top += table.clientHeight / 2, count++) {
      table.scrollTo(0, top);
      await new Promise((done) => requestAnimationFrame(done));
    }
    return count;
  });
  const step = ((await computed()) - before) / steps;
  await session.detach();
  if (!(step > 0 && step < limit)) throw new Error(`scrolling half a screen takes ${step} ms of computing (${steps} steps)`);
  const rows = await page.locator("[data-row]").count();
  if (rows < 5 || rows > 80) throw new Error(`${rows} rows exist`);
  return { step_ms: Number(step.toFixed(1)), steps };
}

export async function closed(scene) {
  await scene.away(scene.dialog());
}

/** The server's answer is that it can be done now. */
export async function possible(scene, name) {
  await scene.until(`${name} is possible`, async () => (await scene.button(name).getAttribute("aria-disabled")) !== "true");
}

export async function greyed(scene, name) {
  await scene.until(`${name} is greyed`, async () => (await scene.button(name).getAttribute("aria-disabled")) === "true");
}

/** Fills a field with each wrong value: it says so, and the deed cannot be sent. */
export async function refusesInput(scene, id, ok, wrongs) {
  const field = scene.dialog().locator(`#${id}`);
  for (const [text, says] of wrongs) {
    await field.fill(text);
    await scene.seen(scene.dialog().getByText(says).locator("visible=true"));
    if (!(await scene.dialog().getByRole("button", { name: ok, exact: true }).isDisabled())) throw new Error(`'${text.slice(0, 20)}' can be sent as ${id}`);
  }
  return field;
}
