// SPDX-License-Identifier: LGPL-2.1-or-later
// Pages and their deeds: many VMs, power, doctor, storage, users.
import { choose, closed, firstView, greyed, possible, refusedWith, refusesInput, scrollsSmoothly, toSnapshots, viewed } from "./steps.mjs";

/** A thousand VMs, which a real manager has: only what is in sight exists. */
export async function scale(scene) {
  const { page, args } = scene;
  let packed = 0;
  page.on("response", (response) => {
    if (response.url().includes("/api/vms?")) packed = Number(response.headers()["content-length"]);
  });
  const time = await firstView(scene, async () => {
    await scene.goto();
    await scene.seen(scene.row("machine-1"));
  });
  await scene.seen(page.getByText(`${args.count.toLocaleString("en")} VMs`));
  const scrolled = await scrollsSmoothly(scene);
  await scene.seen(scene.row("machine-999"));

  const first = async (what, name) => scene.until(`${name} is the first by ${what}`, async () => (await page.locator('[aria-rowindex="2"]').innerText()).startsWith(name));
  for (const [what, once, twice] of [["Name", "machine-999", "machine-0"], ["Snapshots", "machine-0", "machine-7"], ["Chain", "machine-0", "machine-7"], ["Data in chains", "machine-0", "machine-7"]])
    for (const name of [once, twice]) {
      await scene.button(what).click();
      await first(what, name);
    }
  const search = page.getByPlaceholder("Search by name");
  for (const [words, found] of [["machine-7 down", "36 VMs"], ["UP a machine-99", "6 VMs"], ["nobody", "0 VMs"]]) {
    await search.fill(words);
    await scene.seen(page.getByText(found, { exact: true }));
  }
  await scene.seen(page.getByText("Nothing matches"));
  return { first_view_ms: time, ...scrolled, vms: args.count, list_bytes: packed };
}

/** For `make bench`: how long the views of many VMs and of a deep chain take in a browser that has kept nothing of the page. */
export async function views(scene) {
  const times = { list: [], chain: [] };
  for (let n = 0; n < scene.args.times; n++) {
    await scene.open();
    times.list.push(await viewed(scene, async () => {
      await scene.goto();
      await scene.seen(scene.row("machine-1"));
    }));
    await scene.open();
    times.chain.push(await viewed(scene, async () => {
      await toSnapshots(scene, scene.args.deep);
      await scene.seen(scene.row("nightly 0"));
    }));
  }
  return times;
}

/** Power of a VM, Restore, a finding that is mended, and what an import would find. */
export async function deeds(scene) {
  const { page, args, ask } = scene;
  const heading = page.locator(".lm-title").first();
  const press = async (verb) => {
    await possible(scene, verb);
    await scene.button(verb).click();
  };
  // from the list: what cannot be done says why, what can is done
  await scene.goto();
  await scene.button(`Power: ${args.vm}`).click();
  const item = (name) => page.getByRole("menuitem", { name });
  await scene.seen(item(/^Suspend .*not running/)); // with its reason
  if ((await item(/^Suspend/).getAttribute("aria-disabled")) !== "true") throw new Error("a VM that is off can be suspended");
  await scene.accessible("the menu of a VM");
  await item(/^Start/).click();
  await scene.seen(scene.row(args.vm).getByText("Up"));
  await scene.goto(`/vms/${args.id}/general`);
  await refusedWith(scene, "Start", "");
  await scene.seen(heading.getByText("Up"));
  await press("Suspend");
  await scene.seen(heading.getByText("Suspended"));
  await press("Start");
  await scene.seen(heading.getByText("Up"));
  await press("Power off");
  await scene.accessible("the question before Power off");
  await scene.dialog().getByRole("button", { name: "Power off", exact: true }).click();
  await closed(scene);
  await scene.seen(heading.getByText("Down"));

  await toSnapshots(scene, args.id);
  await choose(scene, "second");
  await possible(scene, "Rename");
  await scene.button("Rename").click();
  await refusesInput(scene, "name", "Rename", [["  ", "A name is needed"], ["x".repeat(256), "At most 255"]]);
  await page.keyboard.press("Escape");
  await closed(scene);
  await page.getByLabel("Select second", { exact: true }).uncheck();
  await choose(scene, "first");
  await possible(scene, "Restore");
  await scene.button("Restore").click();
  await scene.dialog().getByRole("button", { name: "Restore", exact: true }).click();
  await closed(scene);
  await scene.away(scene.row("second"));
  await scene.seen(scene.row("first"));

  await ask("start vm");
  await ask("snapshot from outside");
  await scene.goto("/doctor");
  const card = page.locator(".lm-card").filter({ hasText: args.vm });
  await scene.seen(card.getByText("foreign-overlay"));
  await card.getByRole("button", { name: "Mend" }).click();
  await scene.seen(scene.dialog().getByText("Finished"));
  await scene.seen(scene.dialog().getByRole("region", { name: "What became of it" }).getByText(/^Mended\. .*outside/));
  await scene.accessible("mending");
  await scene.picture("mend");
  await scene.dialog().getByRole("button", { name: "Close", exact: true }).last().click();
  await closed(scene);
  await scene.away(card.getByText("foreign-overlay"));
  await scene.goto(`/vms/${args.id}/snapshots`);
  await scene.seen(scene.row("outside"));

  await scene.goto("/storage");
  await scene.seen(scene.row(args.directory));
  let cells; // what a storage does not tell in three seconds is told later
  await scene.until(() => `free and total are told, and whether blocks can be shared: ${cells}`, async () => {
    cells = await scene.row(args.directory).first().innerText();
    return (cells.match(/\d (MiB|GiB|TiB)/g) ?? []).length >= 2 && /^(yes|no)$/m.test(cells);
  });
  await scene.picture("storage");
  await scene.button("Import").click();
  const path = await refusesInput(scene, "path", "Look", [["images", "An absolute path"], ["../x", "An absolute path"]]);
  scene.allow(/status of (400|404)/);
  await path.fill("/nowhere/<script>");
  await scene.dialog().getByRole("button", { name: "Look", exact: true }).click();
  await scene.seen(scene.dialog().getByRole("heading", { name: /Danger alert/ }));
  await path.fill("");
  await scene.dialog().getByRole("button", { name: "Look", exact: true }).click();
  await scene.seen(scene.dialog().getByRole("heading", { name: /VM/ }));
  await scene.accessible("the import");
  await scene.dialog().getByRole("button", { name: "Import", exact: true }).click();
  await closed(scene);
  await alerts(scene);
}

/** An alert as it happens: a toast, the bar's list; dismissed it stays among the events. */
async function alerts(scene) {
  const { page, args } = scene;
  const text = "<b>Backup</b> of everything has failed";
  const bar = page.getByRole("region", { name: "Tasks and events" });
  await scene.context.request.post(`${args.url}/ovirt-engine/api/events`, {
    data: { custom_id: 7, description: text, origin: "test", severity: "alert" }, headers: { "X-Livemerge": "1", "Content-Type": "application/json" },
  });
  await scene.seen(page.locator(".pf-v6-c-alert-group.pf-m-toast").getByText(text));
  await scene.button("Alerts").click();
  await scene.seen(bar.getByRole("table").getByText(text));
  await scene.accessible("the alerts");
  await bar.getByRole("button", { name: "Dismiss all" }).click();
  await scene.seen(bar.getByText("No alerts"));
  await page.reload();
  await scene.button("Alerts").click();
  await scene.seen(bar.getByText("No alerts"));
  await bar.getByRole("tab", { name: "Events" }).click();
  await scene.seen(bar.getByRole("table").getByText(text));
}

/** Users: added, changed, seen through their own eyes, removed. */
export async function users(scene) {
  const { page, args } = scene;
  scene.allow(/status of (400|401|403|409)/);
  await scene.goto("/users");
  await scene.seen(scene.row(args.user));
  await scene.accessible("the users");
  await scene.button("Add user").click();
  const name = await refusesInput(scene, "name", "Add user", [["<script>", "Letters, digits"], ["a b", "Letters, digits"], ["x".repeat(65), "Letters, digits"]]);
  await name.fill(args.user); // there is one already
  const add = scene.dialog().getByRole("button", { name: "Add user", exact: true });
  await add.click();
  await scene.seen(scene.dialog().getByRole("heading", { name: /Danger alert/ }));
  await name.fill("robin");
  await refusesInput(scene, "new-password", "Add user", [["short", "8 to 255 bytes"], ["x".repeat(256), "8 to 255 bytes"]]);
  await scene.dialog().locator("#new-password").fill("robin's password");
  await refusesInput(scene, "new-password-again", "Add user", [["another", "not the same"]]);
  await scene.dialog().locator("#new-password-again").fill("robin's password");
  await scene.dialog().getByLabel("Role", { exact: true }).selectOption("none");
  await scene.accessible("the dialog Add user");
  await add.click();
  await closed(scene);
  await scene.seen(scene.row("robin").getByText("None", { exact: true }));

  await scene.button("Roles: robin").click();
  await scene.dialog().getByLabel("Add a VM", { exact: true }).selectOption(args.id);
  await scene.dialog().getByLabel(`Role for ${args.vm}`, { exact: true }).selectOption("viewer");
  await scene.picture("roles");
  await scene.dialog().getByRole("button", { name: "Save", exact: true }).click();
  await closed(scene);
  await scene.seen(scene.row("robin").getByText(`${args.vm}: Viewer`));
  await scene.button("Password: robin").click();
  await refusesInput(scene, "new-password", "Save", [["short", "8 to 255 bytes"]]);
  for (const id of ["#new-password", "#new-password-again"]) await scene.dialog().locator(id).fill("another password");
  await scene.dialog().getByRole("button", { name: "Save", exact: true }).click();
  await closed(scene);
  await scene.picture("users");

  // through robin's eyes: one VM, nothing to be done with it, no users
  const admin = scene.args;
  scene.args = { ...admin, user: "robin", password: "another password" };
  await scene.open();
  await scene.goto();
  await scene.seen(scene.row(admin.vm));
  if ((await scene.page.locator("[data-row]").count()) !== 1) throw new Error("robin sees more than one VM");
  await toSnapshots(scene, admin.id);
  await greyed(scene, "Create");
  await refusedWith(scene, "Create", "Your role is Viewer");
  await scene.away(scene.page.getByRole("link", { name: "Users" }));

  // robin's own password
  await scene.button("Signed in as robin").click();
  await scene.page.getByRole("menuitem", { name: "Change password" }).click();
  await scene.dialog().locator("#old-password").fill("a wrong password");
  await refusesInput(scene, "new-password", "Save", [["short", "8 to 255 bytes"], ["a wrong password", "It is the present one"]]);
  for (const id of ["#new-password", "#new-password-again"]) await scene.dialog().locator(id).fill("robin's third password");
  await scene.accessible("the dialog Change password");
  await scene.dialog().getByRole("button", { name: "Save", exact: true }).click();
  await scene.seen(scene.dialog().getByRole("heading", { name: /Danger alert/ }));
  await scene.dialog().locator("#old-password").fill(scene.args.password);
  await scene.dialog().getByRole("button", { name: "Save", exact: true }).click();
  await closed(scene);
  await toSnapshots(scene, admin.id); // this session goes on
  scene.args = { ...scene.args, password: "robin's third password" };
  await scene.open(); // and the new password is the one that counts
  await scene.goto("/users");
  await scene.seen(scene.page.getByText("Only an administrator sees users."));
  // where robin is signed in: here, and where the password was changed
  await scene.button("Signed in as robin").click();
  await scene.page.getByRole("menuitem", { name: "Sessions" }).click();
  await scene.until("two sessions, one of them this one", async () => (await scene.dialog().locator("[data-session]").count()) === 2 && (await scene.dialog().getByText("this one").count()) === 1);
  await scene.accessible("the dialog Sessions");
  await scene.dialog().getByRole("button", { name: /^End session/ }).click();
  await scene.until("one session", async () => (await scene.dialog().locator("[data-session]").count()) === 1);
  await scene.page.keyboard.press("Escape");
  await closed(scene);
  scene.args = admin;
  await scene.open();
  await scene.goto("/users");
  await scene.button("Sessions of robin: 1").click();
  await scene.dialog().getByRole("button", { name: "End all others", exact: true }).click();
  await closed(scene);
  await scene.away(scene.button("Sessions of robin: 1"));
  await scene.button("Remove: robin").click();
  await scene.dialog().getByRole("button", { name: "Remove", exact: true }).click();
  await closed(scene);
  await scene.until("robin is gone", async () => (await scene.row("robin").count()) === 0);
}
