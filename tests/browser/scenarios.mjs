// SPDX-License-Identifier: LGPL-2.1-or-later
// What a person does with the page, against the real manager, agent and libvirtd.

import { KIB, choose, closed, firstView, greyed, possible, refusedUnderPointer, refusedWith, toSnapshots } from "./steps.mjs";

const SCRIPT_LIMIT = 400 * KIB;
/** Tables measure themselves when they have been drawn. */
const LAYOUT_MS = 10_000;
const EVIL = '<script>alert("x")</script> & "co"';

/** Nothing is too wide: neither the page nor a table, nor what is in an open dialog; and no row of a table lies over the next one. */
async function fits(scene, where) {
  let over;
  await scene.until(() => `${where} fits: ${over}`, async () => {
    over = await scene.page.evaluate(() => {
      const boxes = [document.documentElement, ...document.querySelectorAll('[role="dialog"], .pf-v6-c-modal-box__body, .lm-grid')];
      const wide = Math.max(...boxes.map((box) => box.scrollWidth - box.clientWidth));
      const high = [...document.querySelectorAll(".lm-data > .lm-cell")]
        .filter((cell) => cell.getBoundingClientRect().height > cell.parentElement.getBoundingClientRect().height + 1).map((cell) => cell.innerText);
      return [...(wide > 0 ? [`${wide} pixels too wide`] : []), ...(high.length > 0 ? [`higher than their rows: ${high.join("; ")}`] : [])].join(", ");
    });
    return over === "";
  }, LAYOUT_MS);
}

/** The first view, its size and time; every page in light and dark, on a phone and on a large screen. */
export async function look(scene) {
  const { page, args } = scene;
  const sizes = new Map();
  page.on("response", async (response) => {
    if (response.url().endsWith(".js")) sizes.set(response.url(), Number(response.headers()["content-length"]));
    if (!response.url().startsWith(args.url)) throw new Error(`fetched from elsewhere: ${response.url()}`);
  });
  const time = await firstView(scene, async () => {
    await scene.goto();
    await scene.seen(scene.row(args.vm));
  });
  const bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  if (!(bytes > 0 && bytes < SCRIPT_LIMIT)) throw new Error(`${bytes} bytes of script`);

  const views = [["/vms", args.vm], [`/vms/${args.id}/general`, "Virtual CPUs"], [`/vms/${args.id}/disks`, "Storage domain"],
    [`/vms/${args.id}/snapshots`, "you are here"], [`/vms/${args.id}/jobs`, args.snapshot], [`/vms/${args.id}/events`, args.snapshot], ["/storage", args.directory], ["/doctor", "Doctor"], ["/users", "Add user"]];
  for (const dark of [false, true]) {
    await scene.open({ dark });
    for (const [hash, text] of views) {
      await scene.goto(hash);
      await scene.seen(scene.page.getByText(text, { exact: false }).locator("visible=true"));
      await scene.accessible(`${hash}${dark ? " in the dark" : ""}`);
    }
  }
  await scene.goto(`/vms/${args.id}/snapshots`);
  await scene.seen(scene.row(args.snapshot));
  await scene.picture("dark");
  for (const [width, height] of [[360, 640], [1280, 800], [3840, 2160]]) {
    await scene.open({ width, height });
    for (const [hash, text] of views) {
      await scene.goto(hash);
      await scene.seen(scene.page.getByText(text, { exact: false }).locator("visible=true"));
      await fits(scene, `${hash} at ${width} pixels`);
    }
    await toSnapshots(scene, args.id);
    await scene.seen(scene.row(args.snapshot));
    await scene.picture(`width-${width}`);
    if (width > 1000) continue;
    await scene.seen(scene.row(args.snapshot).getByText(/now|ago/)); // below the name: it has no column there
    await scene.accessible("the snapshots on a phone");
    await choose(scene, args.snapshot);
    for (const verb of ["Create", "Clone", "Delete"]) {
      await possible(scene, verb);
      await scene.button(verb).click();
      await scene.seen(scene.dialog().getByText(verb === "Delete" ? "Space at the peak" : "vda"));
      await fits(scene, `the dialog ${verb} at ${width} pixels`);
      await scene.page.keyboard.press("Escape");
      await closed(scene);
    }
  }
  await lost(scene);
  await quiet(scene);
  return { script_bytes: bytes, first_view_ms: time };
}

/** An address of nothing says so, under a heading, with a way back. */
async function lost(scene) {
  scene.allow(/status of 404/);
  await scene.open();
  for (const [hash, says] of [["/nowhere", "There is no such page."], ["/vms/nobody/general", "This is not here any more."]]) {
    await scene.goto(hash);
    await scene.seen(scene.page.getByRole("heading", { level: 1 }).filter({ hasText: says }));
    await scene.page.getByRole("main").getByRole("link", { name: "Virtual machines" }).click();
    await scene.seen(scene.row(scene.args.vm));
  }
}

/** Where nothing happens, nothing is asked for more often than every ten seconds: a minute of the page's own time. */
async function quiet(scene) {
  await scene.open();
  const { page, args } = scene;
  await page.clock.install();
  const all = [];
  page.on("request", (request) => all.push(new URL(request.url()).pathname));
  await toSnapshots(scene, args.id);
  await scene.seen(scene.row(args.snapshot));
  const before = all.length;
  await page.clock.runFor(60_000);
  const jobs = all.filter((path) => path.endsWith("/api/jobs")).length;
  if (jobs !== 1) throw new Error(`the stream was opened once, and the jobs before it were asked for ${jobs} times`);
  const asked = all.slice(before);
  const often = [...new Set(asked)].map((path) => `${path}: ${asked.filter((one) => one === path).length}`).filter((row) => Number(row.split(": ")[1]) > 6);
  if (asked.length === 0 || often.length > 0) throw new Error(`asked for in a minute: ${asked.length}; more than six times: ${often.join(", ")}`);
}

/** Each is told by the open dialog at one moment or another: what goes on does not wait for who looks for one after another. */
async function toldMeanwhile(scene, wanted) {
  const missing = new Map(Object.entries(wanted));
  await scene.until(() => `it is told: ${[...missing.keys()].join(", ")}`, async () => {
    const text = await scene.dialog().innerText();
    for (const [what, pattern] of missing) if (pattern.test(text)) missing.delete(what);
    return missing.size === 0;
  });
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
  await refusedUnderPointer(scene, "Delete", "Select at least one snapshot");

  // create, with every wrong input first
  await scene.button("Create").click();
  const name = scene.dialog().getByLabel("Name");
  const ok = scene.dialog().getByRole("button", { name: "Create", exact: true });
  for (const [text, wrong] of [["   ", "A name is needed"], ["x".repeat(256), "At most 255 characters"], ["ü".repeat(128), "At most 255 characters"], ["a\tb", "No line breaks or control"]]) {
    await name.fill(text);
    await scene.seen(scene.dialog().getByText(wrong).locator("visible=true"));
    if (!(await ok.isDisabled())) throw new Error(`a name '${text.slice(0, 10)}' can be sent`);
  }
  await name.fill(EVIL);
  for (const box of await scene.dialog().getByRole("checkbox", { name: /^vd/ }).all()) await box.uncheck();
  // without disks the configuration alone is kept: no memory belongs to it, and no guest that stands still
  await scene.seen(scene.dialog().getByText("the VM's configuration alone"));
  if (!(await scene.dialog().getByLabel("Save the memory of the VM").isDisabled()) || !(await scene.dialog().getByLabel("Guest's file systems").isDisabled()))
    throw new Error("without a disk, memory or a frozen guest can be asked for");
  for (const box of await scene.dialog().getByRole("checkbox", { name: /^vd/ }).all()) await box.check();
  // freezing is asked for, and this guest has no agent: refused, and the dialog says so
  scene.allow(/status of (400|409|500)/);
  await scene.dialog().getByLabel("Guest's file systems").selectOption("require");
  await ok.click();
  await scene.seen(scene.dialog().getByRole("heading", { name: /Danger alert/ }));
  await scene.dialog().getByLabel("Guest's file systems").selectOption("auto");
  await scene.dialog().getByLabel("Save the memory of the VM").check();
  await scene.seen(scene.dialog().getByText(/^96\.?\d* MiB at once\. .* up to 128 MiB in all/));
  await scene.accessible("the dialog Create");
  await scene.picture("create");
  await name.press("Enter");
  await closed(scene);
  await scene.seen(scene.row(EVIL));
  await scene.seen(page.getByText("has been completed").locator("visible=true"));

  // rename it
  await scene.until("it is no longer locked", async () => (await scene.row(EVIL).getByText("locked").count()) === 0);
  await choose(scene, EVIL);
  await possible(scene, "Rename");
  await scene.button("Rename").click();
  await scene.dialog().getByLabel("Name").fill("later & <b>better</b>");
  await scene.dialog().getByRole("button", { name: "Rename", exact: true }).click();
  await closed(scene);
  await scene.seen(scene.row("later & <b>better</b>"));
  for (const text of ["memory", "crash-consistent", /^(just now|\d+ \w+ ago)$/, /\d{4}, \d+:\d\d:\d\d/, /^[\d.]+ [KM]iB$/]) await scene.seen(scene.row("later &").getByText(text));
  await scene.picture("snapshots");

  // the plan
  await page.getByLabel("Select later", { exact: false }).uncheck();
  await choose(scene, ...args.snapshots);
  await scene.button("Delete").click();
  await scene.seen(scene.dialog().getByText("Space at the peak"));
  await scene.seen(scene.dialog().getByRole("region", { name: "Chain of disk vda" }));
  const drawing = scene.dialog().getByRole("region", { name: "Chain of disk vda" });
  for (const text of ["merged, then deleted", "takes in the others", "leaf"]) await scene.seen(drawing.getByText(text));
  const begin = scene.dialog().getByRole("button", { name: "Delete", exact: true });
  for (const wrong of ["fast", "-1", "1.5", "1000001"]) {
    await scene.dialog().getByLabel("Limit").fill(wrong);
    await scene.seen(scene.dialog().getByText("A whole number from 0 to 1000000"));
    if (!(await begin.isDisabled())) throw new Error(`a limit of ${wrong} can be sent`);
  }
  await scene.dialog().getByLabel("Strategy").selectOption("graft");
  await scene.seen(scene.dialog().getByText("This delete is not possible"));
  if (!(await begin.isDisabled())) throw new Error("an impossible delete can be begun");
  await scene.dialog().getByLabel("Strategy").selectOption("auto");
  await scene.away(scene.dialog().getByText("This delete is not possible"));
  await scene.dialog().getByLabel("Limit").fill("2"); // some seconds: what goes on must be seen
  const time = scene.dialog().locator("dl > div").filter({ has: page.locator("dt", { hasText: /^Time$/ }) });
  await scene.seen(time.getByText(/^≤? ?(([6-9]|\d\d)(\.\d)? s|\d+ min.*)$/)); // the limit counts; the guest has written the more, the slower all is here
  await scene.dialog().getByRole("button", { name: "Alternatives" }).first().click();
  await scene.seen(scene.dialog().getByText("not possible:"));
  await scene.dialog().getByRole("button", { name: "Alternatives" }).first().click();
  await scene.accessible("the plan");
  await scene.picture("plan", { height: 1000, top: true });

  // live, in the same drawing
  await begin.click();
  await scene.seen(scene.dialog().getByRole("button", { name: "Cancel job" }));
  await toldMeanwhile(scene, {
    "the bytes go up": /[1-9][\d.]* [KM]iB of [1-9]/, "rate and remaining time": /Rate\s+[\d.]+ [KM]iB\/s\s+Remaining\s+[\d.]+ (s|min)/,
    "the phase": /^(copying|moving data|merging|checking)$/m,
  });
  await scene.picture("progress");
  await scene.seen(scene.dialog().getByRole("table", { name: /Outcome: vda/ }));
  await scene.seen(scene.dialog().getByText("Finished").first());
  await scene.seen(drawing.getByText("deleted", { exact: true }));
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

  // and after a reload the drawing is still there
  await page.reload();
  await scene.seen(scene.row("later & <b>better</b>"));
  await scene.button("Tasks").click();
  await page.getByRole("region", { name: "Tasks and events" }).getByRole("button", { name: /^Removing 3/ }).first().click();
  await scene.seen(drawing);
  await page.keyboard.press("Escape");
  await closed(scene);

  // the last one, which the VM writes above: it is switched in the end, and the pause of that is told
  await choose(scene, "later & <b>better</b>");
  await possible(scene, "Delete");
  await scene.button("Delete").click();
  await scene.dialog().getByLabel("Strategy").selectOption("commit-active");
  await scene.until("it can be begun", async () => !(await begin.isDisabled()));
  await begin.click();
  await scene.seen(scene.dialog().getByText("Finished").first());
  await scene.seen(drawing.getByText(/^Pause \(\w+\): [\d.]+ m?s$/));
  await scene.seen(scene.dialog().getByRole("table", { name: /Outcome: vda/ }).getByRole("row", { name: /Pauses of the guest/ }).getByText(/^[1-9] × about/));
}

/** A job is cancelled; meanwhile the VM says why nothing else can be done. All with the keyboard. */
export async function cancel(scene) {
  const { page, args } = scene;
  await toSnapshots(scene, args.id);
  await scene.page.getByLabel(`Select ${args.snapshot}`, { exact: true }).press("Space");
  await possible(scene, "Delete");
  await scene.button("Delete").press("Enter");
  await scene.seen(scene.dialog().getByText("Space at the peak"));
  await scene.dialog().getByLabel("Limit").press("Control+A");
  await page.keyboard.type("1"); // 32 MiB: time enough
  await scene.until("the limit is typed", async () => (await scene.dialog().getByLabel("Limit").inputValue()) === "1");
  await scene.dialog().getByRole("button", { name: "Delete", exact: true }).press("Enter");
  await scene.seen(scene.button("Run in background"));
  await page.keyboard.press("Escape");
  await closed(scene);
  await greyed(scene, "Create");
  await refusedWith(scene, "Create", "held by job");
  await scene.button("Tasks").press("Enter");
  await page.getByRole("region", { name: "Tasks and events" }).getByRole("button", { name: new RegExp(args.snapshot) }).first().press("Enter");
  await scene.dialog().getByRole("button", { name: "Cancel job" }).press("Enter");
  await scene.seen(page.getByText("Cancel this job?"));
  await scene.dialog().getByRole("button", { name: "Cancel job" }).press("Enter");
  await scene.seen(scene.dialog().getByText("Cancelled").first());
  await scene.dialog().getByRole("button", { name: "Close", exact: true }).last().press("Enter");
  await possible(scene, "Create");
  await scene.button("Hide tasks and events").press("Enter");
  await scene.seen(scene.row(args.snapshot).getByText("unusable")); // its volume had been changed already
  await refusedWith(scene, "Preview", "");
  await possible(scene, "Delete");
}

/** A preview and back, and forward: the branch becomes the line. Of a VM that runs it is refused with the reason. */
export async function back(scene) {
  const { page, args } = scene;
  const confirm = async (verb) => {
    await possible(scene, verb);
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
  await greyed(scene, "Create");
  await confirm("Undo");
  await scene.away(scene.row("before the preview"));
  await scene.seen(scene.row("second"));

  await confirm("Preview");
  await scene.seen(scene.row("first").getByText("in preview"));
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
  await choose(scene, args.middle);
  await possible(scene, "Delete");
  await scene.button("Delete").click();
  await scene.seen(scene.dialog().getByText("Space at the peak"));
  await scene.dialog().getByLabel("Limit").fill("4"); // 24 MiB: it goes on while the manager is away
  await scene.dialog().getByRole("button", { name: "Delete", exact: true }).click();
  await toldMeanwhile(scene, { "the bytes go up": /[1-9][\d.]* [KM]iB of [1-9]/ });
  const stale = page.getByText("No connection to the manager");
  await ask("stop manager");
  await scene.seen(scene.dialog().getByText("No connection to the manager"));
  await scene.accessible("a stale dialog");
  await page.keyboard.press("Escape");
  await closed(scene);
  await scene.seen(stale);
  await scene.seen(scene.row(args.snapshot)); // what was known stays
  await scene.picture("stale");
  await scene.button("Tasks").click();
  await page.getByRole("region", { name: "Tasks and events" }).getByRole("button", { name: new RegExp(args.middle) }).first().click();
  const drawing = scene.dialog().getByRole("region", { name: "Chain of disk vda" });
  await scene.seen(drawing);
  await ask("start manager");
  await scene.away(stale);
  await scene.seen(scene.dialog().getByRole("table", { name: /Outcome: vda/ })); // it ends in the same drawing
  await scene.seen(scene.dialog().getByText("Finished").first());
  await scene.seen(drawing.getByText("deleted", { exact: true }));
  await page.keyboard.press("Escape");
  await closed(scene);
  await scene.button("Hide tasks and events").click();
  await scene.away(scene.row(args.middle));
  await ask("take snapshot", "while away");
  await scene.seen(scene.row("while away")); // without a reload

  await ask("stop agent");
  await scene.seen(page.getByText("Host A does not answer"));
  await greyed(scene, "Create");
  await refusedWith(scene, "Create", "host");
  await ask("start agent");
  await scene.away(page.getByText("Host A does not answer"));
  await possible(scene, "Create");

  await scene.button("Create").click();
  await scene.dialog().getByLabel("Name").fill("too late");
  await ask("remove vm");
  // The stream may tell the page before or after the click: the dialog says that it failed, or is gone.
  const gone = page.getByText("This is not here any more.");
  const refused = scene.dialog().getByRole("heading", { name: /Danger alert/ });
  await scene.dialog().getByRole("button", { name: "Create", exact: true }).click({ timeout: 2000 }).catch(() => undefined);
  await scene.until("the dialog or the page says it", async () => (await gone.count()) + (await refused.count()) > 0);
  await page.keyboard.press("Escape");
  await scene.seen(gone);
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
  await scene.until("nothing can be sent", () => scene.button("Sign in").isDisabled());
  await enter("<b>nobody</b>", "x");
  await scene.seen(page.getByRole("heading", { name: /Danger alert/ }));
  await scene.accessible("the sign-in");
  await enter(args.user, args.password);
  await scene.seen(scene.row(args.vm));
  // an alert, which stays until it is closed, and an open dialog
  await scene.context.request.post(`${args.url}/ovirt-engine/api/events`, {
    data: { custom_id: 8, description: "it burns", origin: "test", severity: "alert" }, headers: { "X-Livemerge": "1", "Content-Type": "application/json" },
  });
  const toast = page.locator(".pf-v6-c-alert-group.pf-m-toast").getByText("it burns");
  await scene.seen(toast);
  await scene.button("Tasks").click();
  await page.getByRole("region", { name: "Tasks and events" }).getByRole("button", { name: new RegExp(args.snapshot) }).first().click();
  await scene.seen(scene.dialog());
  // somebody ends it: the page knows at once, by its stream
  await scene.ask("end sessions");
  await scene.seen(page.getByLabel("Password"));
  if ((await page.locator("body").innerText()).includes(args.vm)) throw new Error("what was there before is still seen");
  await enter(args.user, args.password);
  await scene.seen(scene.row(args.vm));
  if ((await toast.count()) + (await scene.dialog().count()) > 0) throw new Error("what an earlier session had opened is there again");
  // it expires: the page learns it at its next request, which may be one of its own
  await scene.context.clearCookies();
  await page.getByRole("link", { name: args.vm, exact: true }).click({ timeout: 3000 }).catch(() => undefined);
  await scene.seen(page.getByLabel("Password"));
  await enter(args.user, args.password);
  // the VM's own page when the click came first, or the list: both name the VM
  await scene.seen(page.getByText(args.vm, { exact: true }));
  await scene.button(`Signed in as ${args.user}`).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await scene.seen(page.getByLabel("Password"));
  if ((await page.locator("body").innerText()).includes(args.vm)) throw new Error("something of the session is still seen");
}
