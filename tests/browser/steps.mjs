// SPDX-License-Identifier: LGPL-2.1-or-later
// What several scenarios do.

export const KIB = 1024;
const FIRST_VIEW_MS = 1000;
const VIEWS = 8;

/** Milliseconds from nothing to what open() waits for. A busy machine has many tries: that it can be done so fast is what counts. */
export async function firstView(scene, open) {
  const times = [];
  do {
    await scene.page.goto("about:blank");
    await open();
    times.push(await scene.page.evaluate(() => performance.now()));
  } while (times.at(-1) > FIRST_VIEW_MS && times.length < VIEWS);
  if (times.at(-1) > FIRST_VIEW_MS) throw new Error(`the first view took ${times} ms`);
  return times.at(-1);
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
  await button.blur();
  await scene.away(scene.page.getByRole("tooltip"));
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
