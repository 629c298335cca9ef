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

async function saysWhy(scene, name, reason, come, go) {
  const tooltip = scene.page.getByRole("tooltip");
  await greyed(scene, name);
  await come();
  await scene.seen(tooltip.filter({ hasText: reason }));
  await go();
  await scene.away(tooltip);
}

/** Greyed, and says why when it has the focus. */
export async function refusedWith(scene, name, reason) {
  const button = scene.button(name);
  await scene.page.mouse.move(0, 0); // it may lie there since what was clicked last
  await saysWhy(scene, name, reason, () => button.focus(), () => button.blur());
}

/** The same for the pointer. */
export async function refusedUnderPointer(scene, name, reason) {
  await saysWhy(scene, name, reason, () => scene.button(name).hover(), () => scene.page.mouse.move(0, 0));
}

const ROUNDS = 3;
/** Milliseconds that a quick machine takes for layOut(). */
const LAY_OUT_MS = 10;

/** Something to lay out that is the same everywhere: how quick is this machine just now? */
function layOut() {
  const box = document.createElement("div");
  box.style.cssText = "position: absolute; visibility: hidden; width: 300px";
  for (let i = 0; i < 500; i++) {
    const line = document.createElement("p");
    line.textContent = `${i} words to be laid out in two lines or more`;
    box.append(line);
  }
  document.body.append(box);
  box.getBoundingClientRect();
  box.remove();
}

async function scrollThrough(table) {
  let count = 0;
  for (let top = 0; top < table.scrollHeight; top += table.clientHeight / 2, count++) {
    table.scrollTo(0, top);
    await new Promise((done) => requestAnimationFrame(done));
  }
  return count;
}

/** From one end of a table to the other, half a screen at a time, without stutter: what the page computes for a step is measured, not
 * frames, which come late on a busy machine; in units of a quick machine, and the best of some rounds. Only what is in sight exists. */
export async function scrollsSmoothly(scene, limit = 50) {
  const { page } = scene;
  const session = await scene.context.newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const now = async () => (await session.send("Performance.getMetrics")).metrics.find((one) => one.name === "TaskDuration").value * 1000;
  const computed = async (deed) => {
    const before = await now();
    const count = await deed();
    return { ms: ((await now()) - before) / count, count };
  };
  const told = [];
  let best = Infinity;
  for (let round = 0; round < ROUNDS && !(best < limit); round++) {
    const machine = await computed(async () => {
      for (let i = 0; i < 10; i++) await page.evaluate(layOut);
      return 10;
    });
    const step = await computed(() => page.getByRole("table").evaluate(scrollThrough));
    const slowness = Math.max(1, machine.ms / LAY_OUT_MS);
    told.push(`${step.ms.toFixed(1)} ms in ${step.count} steps, on a machine ${slowness.toFixed(1)} times as slow as a quick one`);
    best = Math.min(best, step.ms / slowness);
  }
  await session.detach();
  if (!(best > 0 && best < limit)) throw new Error(`scrolling half a screen takes too much computing: ${told.join("; ")}`);
  let rows;
  await scene.until(() => `only rows in sight exist: ${rows}`, async () => {
    rows = await page.locator("[data-row]").count();
    return rows >= 5 && rows <= 80;
  });
  return { step_ms: Number(best.toFixed(1)), rounds: told };
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
