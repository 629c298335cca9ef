// SPDX-License-Identifier: LGPL-2.1-or-later
// Pages and their deeds: many VMs, power, doctor, storage, users.
import { choose, closed, firstView, greyed, possible, refusedWith, refusesInput, toSnapshots } from "./steps.mjs";

/** A thousand VMs and a chain of two hundred: only what is in sight exists. The documents are made up here. */
export async function scale(scene) {
  const { page } = scene;
  const vms = Array.from({ length: 1000 }, (_, i) => ({ id: `vm-${i}`, name: `machine-${i}`, status: i % 3 ? "up" : "down", snapshot_count: i, chain_depth: 3, chain_bytes: i * 1e6 }));
  const layers = Array.from({ length: 200 }, (_, i) => ({
    id: `s-${i}`, description: `layer ${i}`, snapshot_type: "regular", snapshot_status: "ok", date: new Date(1.7e12 + i * 1e6).toISOString(), size: 1e6,
    ...(i > 0 && { parent: { id: `s-${i - 1}` } }),
  }));
  const active = { id: "active", description: "Active VM", snapshot_type: "active", snapshot_status: "ok", parent: { id: "s-199" } };
  // by a fetch of their own: to intercept requests would cost more than to answer them
  await page.addInitScript((made) => {
    const real = window.fetch.bind(window);
    window.fetch = async (url, wish) => {
      const text = made[String(url).replace(/\?.*$/, "")];
      return text ? new Response(text, { status: 200 }) : real(url, wish);
    };
  }, {
    "/ovirt-engine/api/vms": JSON.stringify({ vm: vms }),
    "/ovirt-engine/api/vms/vm-7": JSON.stringify(vms[7]),
    "/ovirt-engine/api/vms/vm-7/snapshots": JSON.stringify({ snapshot: [active, ...layers] }),
  });
  const time = await firstView(scene, async () => {
    await scene.goto();
    await scene.seen(scene.row("machine-1"));
  });
  const few = async (what) => {
    const rows = await page.locator("[data-row]").count();
    if (rows < 5 || rows > 80) throw new Error(`${rows} rows of ${what} exist`);
  };
  await few("the list");
  await page.getByRole("table").evaluate((table) => table.scrollTo(0, table.scrollHeight));
  await scene.seen(scene.row("machine-999"));
  await few("the end of the list");
  await page.getByRole("button", { name: "Snapshots" }).click();
  await page.getByRole("button", { name: "Snapshots" }).click();
  await scene.seen(scene.row("machine-999"));
  await page.getByPlaceholder("Search by name").fill("machine-7 down");
  await scene.seen(page.getByText("36 VMs"));
  await page.getByPlaceholder("Search by name").fill("nobody");
  await scene.seen(page.getByText("Nothing matches"));
  await scene.goto("/vms/vm-7/snapshots");
  await scene.seen(scene.row("layer 0"));
  await few("the chain");
  await page.getByRole("table").evaluate((table) => table.scrollTo(0, table.scrollHeight));
  await scene.seen(scene.row("you are here"));
  return { first_view_ms: time, vms: vms.length };
}

/** Power of a VM, Restore, a finding that is mended, and what an import would find. */
export async function deeds(scene) {
  const { page, args, ask } = scene;
  const heading = page.locator(".lm-title").first();
  const press = async (verb) => {
    await possible(scene, verb);
    await scene.button(verb).click();
  };
  await scene.goto(`/vms/${args.id}/general`);
  await scene.seen(scene.button("Start"));
  await refusedWith(scene, "Suspend", "");
  await press("Start");
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
  await scene.accessible("mending");
  await scene.picture("mend");
  await scene.dialog().getByRole("button", { name: "Close", exact: true }).last().click();
  await closed(scene);
  await scene.away(card.getByText("foreign-overlay"));
  await scene.goto(`/vms/${args.id}/snapshots`);
  await scene.seen(scene.row("outside"));

  await scene.goto("/storage");
  await scene.seen(scene.row(args.directory));
  const cells = await scene.row(args.directory).first().innerText();
  if ((cells.match(/\d (MiB|GiB|TiB)/g) ?? []).length < 2) throw new Error(`free and total are not told: ${cells}`);
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
