// SPDX-License-Identifier: LGPL-2.1-or-later
// Whole VMs: cloned and removed; a life by keyboard alone; a real chain of many layers.
import { choose, closed, firstView, possible, refusedWith, refusesInput, scrollsSmoothly, toSnapshots } from "./steps.mjs";

const job = {
  async ended(scene) {
    await scene.seen(scene.dialog().getByText("Finished"));
  },
  async close(scene) {
    await scene.dialog().getByRole("button", { name: "Close", exact: true }).last().click();
    await closed(scene);
  },
};

/** A clone of a snapshot while the VM runs, of a VM that is off; each is removed again: with its disks, and without. */
export async function clones(scene) {
  const { page, args } = scene;
  scene.allow(/status of (400|404|409|501)/);
  const ok = (name) => scene.dialog().getByRole("button", { name, exact: true });

  // of a VM that runs only a snapshot can be cloned
  await scene.goto(`/vms/${args.id}/general`);
  await refusedWith(scene, "Clone", "snapshot");
  await refusedWith(scene, "Remove VM", "not off");
  await toSnapshots(scene, args.id);
  await refusedWith(scene, "Clone", "Select one snapshot");
  await choose(scene, args.snapshot);
  await possible(scene, "Clone");
  await scene.button("Clone").click();
  await scene.seen(scene.dialog().getByText(/Up to [\d.]+ [KM]iB are copied/));
  await scene.accessible("the dialog Clone");
  await scene.dialog().locator("#name").fill(args.twin);
  await scene.picture("clone");
  const name = await refusesInput(scene, "name", "Clone", [["  ", "A name is needed"], ["x".repeat(256), "At most 255"]]);
  await name.fill(args.off.name); // there is one already
  await ok("Clone").click();
  await scene.seen(scene.dialog().getByRole("heading", { name: /Danger alert/ }));
  await scene.dialog().getByLabel("Data").selectOption("share");
  await scene.seen(scene.dialog().getByText("This storage cannot share blocks between files"));
  await name.fill(args.twin);
  await ok("Clone").click();
  await scene.seen(scene.dialog().getByText(/cannot share blocks between files; /)); // the host's own word
  await scene.dialog().getByLabel("Data").selectOption("auto");
  await scene.away(scene.dialog().getByText("This storage cannot share blocks between files: it will be refused"));
  await ok("Clone").click();
  await job.ended(scene);
  await scene.accessible("a clone was made");
  await scene.dialog().getByRole("link", { name: args.twin, exact: true }).click();
  await closed(scene);
  await scene.seen(page.getByRole("heading", { name: args.twin, exact: true }));
  await scene.seen(page.locator(".lm-title").getByText("Down"));

  // the clone goes, but its disk stays; only its name does it
  await possible(scene, "Remove VM");
  await scene.button("Remove VM").click();
  await scene.seen(scene.dialog().getByRole("list", { name: "These files stay" }).getByText(`${args.stem}-vda`));
  const typed = await refusesInput(scene, "typed", "Remove VM", [[args.vm, "This is not the name"], [`${args.twin} `, "This is not the name"]]);
  await typed.fill(args.twin);
  await ok("Remove VM").click();
  await job.ended(scene);
  await job.close(scene);
  await scene.seen(scene.row(args.vm));
  await scene.until("the clone is gone", async () => (await scene.row(args.twin).count()) === 0);

  // one that is off as it is now; and it goes, with all that it has
  await scene.goto(`/vms/${args.off.id}/general`);
  await possible(scene, "Clone");
  await scene.button("Clone").click();
  await scene.dialog().locator("#name").fill(args.twin);
  await scene.seen(scene.dialog().getByText(`${args.off.name} cannot be started until that is done`));
  await ok("Clone").click();
  await job.ended(scene);
  await job.close(scene);
  await possible(scene, "Remove VM");
  await scene.button("Remove VM").click();
  await scene.seen(scene.dialog().getByText("2 files with"));
  await scene.seen(scene.dialog().getByText("and 1 snapshot are deleted"));
  if (!(await scene.dialog().getByLabel("Delete its disks, too").isDisabled())) throw new Error("disks with snapshots can be kept");
  await scene.dialog().locator("#typed").fill(args.off.name);
  await scene.accessible("the dialog Remove VM");
  await scene.picture("remove");
  await ok("Remove VM").click();
  await job.ended(scene);
  await scene.seen(scene.dialog().getByRole("region", { name: "Deleted files" }).getByText("vda"));
  await scene.accessible("a VM was removed");
  await job.close(scene);
  await scene.until("it is gone", async () => (await page.getByRole("link", { name: args.off.name, exact: true }).count()) === 0);
  await scene.seen(scene.row(args.twin));
}

// ---- by keyboard alone

const FARTHEST = 120;
/** How an element looks, with its frame: what must change when it has the focus. */
const LOOK = (element) =>
  [element, element.parentElement].flatMap((one) => [null, "::before", "::after"].map((part) => {
    const s = getComputedStyle(one, part);
    return [s.outlineStyle, s.outlineWidth, s.outlineColor, s.boxShadow, s.borderColor, s.borderWidth, s.backgroundColor, s.textDecorationLine].join();
  })).join("\n");

/** Tab until it has the focus, which must be seen. */
async function tabTo(scene, locator, key = "Tab") {
  const { page } = scene;
  await scene.seen(locator);
  // a dialog takes the focus when it has been drawn, also from what has just got it
  await scene.until("an open dialog has taken the focus", () => page.evaluate(() => {
    const open = [...document.querySelectorAll('[role="dialog"]')].at(-1);
    return open === undefined || open.contains(document.activeElement) || document.activeElement === document.body;
  }));
  const target = locator.first();
  const has = () => target.evaluate((element) => element === document.activeElement);
  if (await has()) return;
  const before = await target.evaluate(LOOK);
  for (let i = 0; i < FARTHEST; i++) {
    await page.keyboard.press(key);
    if (!(await has())) continue;
    await scene.until(`the focus on ${locator} is seen`, async () => (await target.evaluate(LOOK)) !== before);
    return;
  }
  throw new Error(`the keyboard does not reach ${locator}`);
}

async function press(scene, locator, key = "Enter") {
  await tabTo(scene, locator);
  await scene.page.keyboard.press(key);
}

/** The dialog has closed, and the keyboard is where it was. */
async function backOn(scene, locator) {
  await closed(scene);
  await scene.focused(locator);
}

/** Sign-in, create, delete with its plan, preview and undo, clone, another theme, sign-out: no mouse. */
export async function keyboard(scene) {
  const { args } = scene;
  await scene.open({ signedIn: false });
  scene.allow(/status of 401/);
  const { page } = scene;
  const { keyboard: keys } = page;
  const inDialog = (name) => scene.dialog().getByRole("button", { name, exact: true });
  await scene.goto();
  await scene.focused(page.getByLabel("User"));
  await keys.type(args.user);
  await keys.press("Tab");
  await keys.type(args.password);
  await keys.press("Enter");

  // the menu of a VM, which asks what can be done when it is opened
  await press(scene, scene.button(`Power: ${args.vm}`));
  const item = (name) => page.getByRole("menuitem", { name });
  await scene.seen(item(/^Suspend .*not running/));
  await keys.press("ArrowDown");
  await scene.focused(item(/^Start/));
  await keys.press("ArrowDown");
  await scene.focused(item(/^Suspend/)); // greyed, and can be read
  await keys.press("Escape");
  await scene.focused(scene.button(`Power: ${args.vm}`));
  await scene.away(item(/^Start/));
  await press(scene, page.getByRole("link", { name: args.vm, exact: true }));

  await possible(scene, "Create");
  await press(scene, scene.button("Create"));
  await scene.focused(scene.dialog().locator("#name"));
  await keys.type("by keys");
  await keys.press("Enter");
  await backOn(scene, scene.button("Create"));
  await scene.until("it was taken", async () => (await scene.row("by keys").count()) > 0 && (await scene.row("by keys").getByText("locked").count()) === 0);

  await press(scene, page.getByLabel("Select by keys", { exact: true }), "Space");
  await possible(scene, "Delete");
  await press(scene, scene.button("Delete"));
  await scene.seen(scene.dialog().getByText("Space at the peak"));
  await tabTo(scene, scene.dialog().getByLabel("Check before old volumes go"));
  await keys.press("ArrowDown"); // a list, by arrows
  await scene.until("the check is another one", async () => (await scene.dialog().getByLabel("Check before old volumes go").inputValue()) === "full");
  await keys.press("Escape");
  await backOn(scene, scene.button("Delete"));
  await keys.press("Enter");
  await scene.seen(scene.dialog().getByText("Space at the peak"));
  await press(scene, inDialog("Delete"));
  await scene.seen(scene.dialog().getByText("Finished").first());
  await press(scene, inDialog("Close").last());
  await backOn(scene, scene.button("Delete"));
  await scene.away(scene.row("by keys"));

  await press(scene, page.getByLabel("Select first", { exact: true }), "Space");
  for (const verb of ["Preview", "Undo"]) {
    await possible(scene, verb);
    await press(scene, scene.button(verb));
    await press(scene, inDialog(verb));
    await backOn(scene, scene.button(verb));
  }
  await scene.away(scene.row("before the preview"));

  await possible(scene, "Clone");
  await press(scene, scene.button("Clone"));
  await scene.focused(scene.dialog().locator("#name"));
  await keys.type(args.twin);
  await keys.press("Enter");
  await job.ended(scene);
  await press(scene, inDialog("Close").last());
  await backOn(scene, scene.button("Clone"));

  // another theme, which stays
  const isDark = () => page.evaluate(() => document.documentElement.classList.contains("pf-v6-theme-dark"));
  await press(scene, scene.button("Dark theme"));
  await scene.until("it is dark", isDark);
  await page.reload();
  await scene.seen(scene.row("first"));
  if (!(await isDark())) throw new Error("the theme did not outlive a reload");
  await press(scene, scene.button("Light theme"));
  await scene.until("it is light", async () => !(await isDark()));

  await press(scene, scene.button(`Signed in as ${args.user}`));
  // the menu gives its first item the focus a moment after it is seen: an arrow pressed before that is lost
  for (const item of ["Change password", "Sessions", "Sign out"]) {
    if (item !== "Change password") await keys.press("ArrowDown");
    await scene.focused(page.getByRole("menuitem", { name: item }));
  }
  await keys.press("Enter");
  await scene.seen(page.getByLabel("Password"));
}

// ---- a real chain

/** A chain of many layers as it is: the first view, the end of it, the plan of a delete of all of them. */
export async function layers(scene) {
  const { page, args } = scene;
  const time = await firstView(scene, async () => {
    await toSnapshots(scene, args.id);
    await scene.seen(scene.row(args.first));
  });
  const scrolled = await scrollsSmoothly(scene);
  await scene.seen(scene.row("you are here"));
  await page.getByLabel("Select all").check();
  await possible(scene, "Delete");
  await scene.button("Delete").click();
  await scene.seen(scene.dialog().getByText("Space at the peak"));
  await scene.seen(scene.dialog().getByText("more volumes"));
  await scene.accessible("the plan of many layers");
  await page.keyboard.press("Escape");
  await closed(scene);
  await scene.goto(`/vms/${args.id}/disks`);
  await scene.seen(page.getByText(`${args.count + 1} volumes`));
  return { first_view_ms: time, ...scrolled, layers: args.count };
}
