// SPDX-License-Identifier: LGPL-2.1-or-later
// What a person does with the page, against the real manager, agent and libvirtd.

const KIB = 1024;
const SCRIPT_LIMIT = 400 * KIB;
const FIRST_VIEW_MS = 1000;
const EVIL = '<script>alert("x")</script> & "co"';

// ---- what several scenarios do

async function toSnapshots(scene, vm) {
  await scene.goto(`/vms/${vm}/snapshots`);
  await scene.seen(scene.button("Create"));
}

async function choose(scene, ...names) {
  for (const name of names) await scene.page.getByLabel(`Select ${name}`, { exact: true }).check();
}

/** Greyed, and says why when it has the focus. */
async function refusedWith(scene, name, reason) {
  const button = scene.button(name);
  if ((await button.getAttribute("aria-disabled")) !== "true") throw new Error(`${name} is not greyed`);
  await button.focus();
  await scene.seen(scene.page.getByRole("tooltip").filter({ hasText: reason }));
  await button.blur();
  await scene.away(scene.page.getByRole("tooltip"));
}

async function closed(scene) {
  await scene.away(scene.dialog());
}

// ---- scenarios

/** The first view, its size and time; every page in light and dark, on a phone and on a large screen. */
export async function look(scene) {
  const { page, args } = scene;
  const sizes = new Map();
  page.on("response", async (response) => {
    if (response.url().endsWith(".js")) sizes.set(response.url(), Number(response.headers()["content-length"]));
    if (!response.url().startsWith(args.url)) throw new Error(`fetched from elsewhere: ${response.url()}`);
  });
  const times = [];
  for (let i = 0; i < 3; i++) {
    await page.goto("about:blank");
    await scene.goto();
    await scene.seen(scene.row(args.vm));
    times.push(await page.evaluate(() => performance.now()));
  }
  const bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  if (!(bytes > 0 && bytes < SCRIPT_LIMIT)) throw new Error(`${bytes} bytes of script`);
  if (Math.min(...times) > FIRST_VIEW_MS) throw new Error(`the first view took ${times} ms`);

  for (const dark of [false, true]) {
    await scene.open({ dark });
    for (const [hash, text] of [["/vms", args.vm], [`/vms/${args.id}/general`, "Virtual CPUs"], [`/vms/${args.id}/disks`, "Storage domain"],
      [`/vms/${args.id}/snapshots`, "you are here"], [`/vms/${args.id}/jobs`, args.snapshot], [`/vms/${args.id}/events`, args.snapshot], ["/storage", args.directory], ["/doctor", "Doctor"]]) {
      await scene.goto(hash);
      await scene.seen(scene.page.getByText(text, { exact: false }).locator("visible=true"));
      await scene.accessible(`${hash}${dark ? " in the dark" : ""}`);
    }
  }
  await scene.goto(`/vms/${args.id}/snapshots`);
  await scene.seen(scene.row(args.snapshot));
  await scene.picture("dark");
  for (const [width, height] of [[360, 640], [3840, 2160]]) {
    await scene.open({ width, height });
    await toSnapshots(scene, args.id);
    await scene.seen(scene.row(args.snapshot));
    const over = await scene.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (over > 0) throw new Error(`at ${width} pixels the page is ${over} too wide`);
    await scene.picture(`width-${width}`);
  }
  return { script_bytes: bytes, first_view_ms: Math.min(...times) };
}

/** A snapshot is created, renamed, planned, deleted while the guest writes, and the outcome is shown. */
export async function life(scene) {
  const { page, args } = scene;
  await scene.goto();
  await scene.seen(scene.row(args.vm));
  await scene.picture("vms");
  await page.getByRole("link", { name: args.vm, exact: true }).click();
  await scene.seen(scene.row("you are here"));
  await refusedWith(scene, "Delete", "Select at least one snapshot");

  // create, with every wrong input first
  await scene.button("Create").click();
  const name = scene.dialog().getByLabel("Name");
  const ok = scene.dialog().getByRole("button", { name: "Create", exact: true });
  for (const [text, wrong] of [["   ", "A name is needed"], ["x".repeat(256), "At most 255 characters"], ["ü".repeat(128), "At most 255 characters"]]) {
    await name.fill(text);
    await scene.seen(scene.dialog().getByText(wrong).locator("visible=true"));
    if (!(await ok.isDisabled())) throw new Error(`a name '${text.slice(0, 10)}' can be sent`);
  }
  await name.fill(EVIL);
  for (const box of await scene.dialog().getByRole("checkbox", { name: /^vd/ }).all()) await box.uncheck();
  await scene.seen(scene.dialog().getByText("Select at least one disk"));
  for (const box of await scene.dialog().getByRole("checkbox", { name: /^vd/ }).all()) await box.check();
  await scene.accessible("the dialog Create");
  await scene.picture("create");
  await name.press("Enter");
  await closed(scene);
  await scene.seen(scene.row(EVIL));
  await scene.seen(page.getByText("has been completed").locator("visible=true"));

  // rename it
  await scene.until("it is no longer locked", async () => (await scene.row(EVIL).getByText("locked").count()) === 0);
  await choose(scene, EVIL);
  await scene.until("Rename is possible", async () => (await scene.button("Rename").getAttribute("aria-disabled")) !== "true");
  await scene.button("Rename").click();
  await scene.dialog().getByLabel("Name").fill("later & <b>better</b>");
  await scene.dialog().getByRole("button", { name: "Rename", exact: true }).click();
  await closed(scene);
  await scene.seen(scene.row("later & <b>better</b>"));
  await scene.picture("snapshots");

  // the plan
  await page.getByLabel("Select later", { exact: false }).uncheck();
  await choose(scene, ...args.snapshots);
  await scene.button("Delete").click();
  await scene.seen(scene.dialog().getByText("Space at the peak"));
  await scene.seen(scene.dialog().getByRole("region", { name: "Chain of disk vda" }));
  await scene.dialog().getByLabel("Limit").fill("fast");
  await scene.seen(scene.dialog().getByText("A whole number from 0 to 1000000"));
  await scene.dialog().getByLabel("Strategy").selectOption("graft");
  await scene.seen(scene.dialog().getByText("This delete is not possible"));
  if (!(await scene.dialog().getByRole("button", { name: "Delete", exact: true }).isDisabled())) throw new Error("an impossible delete can be begun");
  await scene.dialog().getByLabel("Strategy").selectOption("auto");
  await scene.away(scene.dialog().getByText("This delete is not possible"));
  await scene.dialog().getByLabel("Limit").fill("8");
  await scene.dialog().getByRole("button", { name: "Alternatives" }).first().click();
  await scene.seen(scene.dialog().getByText("not possible:"));
  await scene.dialog().getByRole("button", { name: "Alternatives" }).first().click();
  await scene.accessible("the plan");
  await scene.picture("plan");

  // live, in the same drawing
  await scene.dialog().getByRole("button", { name: "Delete", exact: true }).click();
  await scene.seen(scene.dialog().getByRole("button", { name: "Cancel job" }));
  await scene.until("the bytes go up", async () => /[1-9][\d.]* [KM]iB of [1-9]/.test(await scene.dialog().innerText()));
  await scene.picture("progress");
  await scene.seen(scene.dialog().getByRole("table", { name: /Outcome: vda/ }));
  await scene.seen(scene.dialog().getByText("Finished").first());
  await scene.accessible("the outcome");
  await scene.picture("outcome");
  await scene.dialog().getByRole("button", { name: "Close", exact: true }).last().click();
  await closed(scene);
  for (const gone of args.snapshots) await scene.away(scene.row(gone));
  await scene.seen(scene.row("later & <b>better</b>"));

  // the bar knows it, too
  await scene.button("Tasks").click();
  await scene.seen(page.getByRole("region", { name: "Tasks and events" }).getByText("Finished"));
  await scene.accessible("the bar");
}

/** A job is cancelled; meanwhile the VM says why nothing else can be done. All with the keyboard. */
export async function cancel(scene) {
  const { page, args } = scene;
  await toSnapshots(scene, args.id);
  await scene.page.getByLabel(`Select ${args.snapshot}`, { exact: true }).focus();
  await page.keyboard.press("Space");
  await scene.button("Delete").focus();
  await page.keyboard.press("Enter");
  await scene.seen(scene.dialog().getByText("Space at the peak"));
  await scene.dialog().getByLabel("Limit").focus();
  await page.keyboard.press("Control+A");
  await page.keyboard.type("1"); // 32 MiB: time enough
  await scene.dialog().getByRole("button", { name: "Delete", exact: true }).focus();
  await page.keyboard.press("Enter");
  await scene.seen(scene.button("Run in background"));
  await page.keyboard.press("Escape");
  await closed(scene);
  await scene.until("Create is greyed", async () => (await scene.button("Create").getAttribute("aria-disabled")) === "true");
  await refusedWith(scene, "Create", "held by job");
  await scene.button("Tasks").focus();
  await page.keyboard.press("Enter");
  await page.getByRole("region", { name: "Tasks and events" }).getByRole("button", { name: new RegExp(args.snapshot) }).first().press("Enter");
  await scene.dialog().getByRole("button", { name: "Cancel job" }).press("Enter");
  await scene.seen(page.getByText("Cancel this job?"));
  await scene.dialog().getByRole("button", { name: "Cancel job" }).press("Enter");
  await scene.seen(scene.dialog().getByText("Cancelled").first());
  await scene.dialog().getByRole("button", { name: "Close", exact: true }).last().press("Enter");
  await scene.until("Create is possible again", async () => (await scene.button("Create").getAttribute("aria-disabled")) !== "true");
}

/** A preview and back, and forward: the branch becomes the line. Of a VM that runs it is refused with the reason. */
export async function back(scene) {
  const { page, args } = scene;
  const confirm = async (verb) => {
    await scene.button(verb).click();
    await scene.dialog().getByRole("button", { name: verb, exact: true }).click();
    await closed(scene);
  };
  await toSnapshots(scene, args.running);
  await choose(scene, "first");
  await refusedWith(scene, "Preview", "not off");

  await toSnapshots(scene, args.id);
  await choose(scene, "first");
  await confirm("Preview");
  await scene.seen(scene.row("first").getByText("in preview"));
  await scene.seen(scene.row("before the preview"));
  await scene.accessible("a preview");
  await scene.until("Create is greyed", async () => (await scene.button("Create").getAttribute("aria-disabled")) === "true");
  await confirm("Undo");
  await scene.away(scene.row("before the preview"));
  await scene.seen(scene.row("second"));

  await scene.until("Preview is possible", async () => (await scene.button("Preview").getAttribute("aria-disabled")) !== "true");
  await confirm("Preview");
  await scene.seen(scene.row("first").getByText("in preview"));
  await scene.until("Commit is possible", async () => (await scene.button("Commit").getAttribute("aria-disabled")) !== "true");
  await confirm("Commit");
  await scene.away(scene.row("second"));
  await scene.seen(scene.row("first"));
  await page.getByRole("link", { name: "Virtual machines" }).first().click();
  await scene.seen(scene.row(args.vm));
}

/** The manager restarts, the agent is away, a VM goes while its dialog is open. */
export async function trouble(scene) {
  const { page, args, ask } = scene;
  scene.allow(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_CONNECTION_CLOSED|status of (404|400|502|503|504)/);
  await toSnapshots(scene, args.id);
  await scene.seen(scene.row(args.snapshot));

  await ask("stop manager");
  await scene.seen(page.getByText("No connection to the manager"));
  await scene.seen(scene.row(args.snapshot)); // what was known stays
  await scene.picture("stale");
  await ask("start manager");
  await scene.away(page.getByText("No connection to the manager"));
  await ask("take snapshot", "while away");
  await scene.seen(scene.row("while away")); // without a reload

  await ask("stop agent");
  await scene.seen(page.getByText("Host A does not answer"));
  await scene.until("Create is greyed", async () => (await scene.button("Create").getAttribute("aria-disabled")) === "true");
  await refusedWith(scene, "Create", "host");
  await ask("start agent");
  await scene.away(page.getByText("Host A does not answer"));
  await scene.until("Create is possible again", async () => (await scene.button("Create").getAttribute("aria-disabled")) !== "true");

  await scene.button("Create").click();
  await scene.dialog().getByLabel("Name").fill("too late");
  await ask("remove vm");
  await scene.dialog().getByRole("button", { name: "Create", exact: true }).click();
  await scene.seen(scene.dialog().getByRole("heading", { name: /Danger alert/ }));
  await page.keyboard.press("Escape");
  await scene.seen(page.getByText("This is not here any more."));
  await page.getByRole("link", { name: "Virtual machines" }).first().click();
  await scene.until("the list does not have it", async () => (await scene.row(args.vm).count()) === 0);
}

/** Signing in with what is wrong and right; the end of the session; nothing of it is seen after. */
export async function session(scene) {
  const { args } = scene;
  await scene.open({ signedIn: false });
  const { page } = scene;
  scene.allow(/status of (400|401|429)/);
  await scene.goto();
  const enter = async (user, password) => {
    await page.getByLabel("User").fill(user);
    await page.getByLabel("Password").fill(password);
    await page.keyboard.press("Enter");
  };
  await enter("<b>nobody</b>", "x");
  await scene.seen(page.getByRole("heading", { name: /Danger alert/ }));
  await scene.accessible("the sign-in");
  await enter(args.user, args.password);
  await scene.seen(scene.row(args.vm));
  // it ends somewhere else: the page learns it at its next request
  await scene.context.clearCookies();
  await page.getByRole("link", { name: args.vm, exact: true }).click();
  await scene.seen(page.getByLabel("Password"));
  await enter(args.user, args.password);
  await scene.seen(scene.button("Create"));
  await scene.button("Sign out").click();
  await scene.seen(page.getByLabel("Password"));
  if ((await page.locator("body").innerText()).includes(args.vm)) throw new Error("something of the session is still seen");
}

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
  const times = [];
  for (let i = 0; i < 3; i++) {
    await page.goto("about:blank");
    await scene.goto();
    await scene.seen(scene.row("machine-1"));
    times.push(await page.evaluate(() => performance.now()));
  }
  if (Math.min(...times) > FIRST_VIEW_MS) throw new Error(`a thousand VMs took ${times} ms`);
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
  return { first_view_ms: Math.min(...times), vms: vms.length };
}
