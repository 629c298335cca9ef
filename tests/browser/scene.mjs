// SPDX-License-Identifier: LGPL-2.1-or-later
// One page of a scenario: what is common to all of them. An error of the page's own script, a refused
// resource or a breach of its policy fails the scenario.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
/** Only says how late a failure is told: a test machine may be slow and busy. */
const PATIENCE_MS = 60_000;
/** The page's processor is so many times as slow: shows what a scenario takes for granted. */
const SLOW = Number(process.env.LIVEMERGE_TEST_SLOW ?? 1);
/** Of a selector: what is there only now and then, or is no element. */
const PASSING = /::[\w-]+|:(hover|focus|focus-visible|focus-within|active|visited|placeholder-shown|before|after)\b(?!\()/g;

export class Scene {
  constructor(browser, name, args, out, ask) {
    Object.assign(this, { browser, name, args, out, ask, errors: [], allowed: [] });
  }

  async open({ width = 1280, height = 800, dark = false, signedIn = true } = {}) {
    await this.context?.close();
    this.context = await this.browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light", reducedMotion: "reduce", ignoreHTTPSErrors: true });
    const { url, user, password } = this.args;
    if (signedIn) {
      const answer = await this.context.request.post(`${url}/session`, { data: { username: user, password }, headers: { "X-Livemerge": "1" } });
      if (!answer.ok()) throw new Error(`signing in: ${answer.status()} ${await answer.text()}`);
    }
    this.page = await this.context.newPage();
    this.page.setDefaultTimeout(PATIENCE_MS);
    if (SLOW > 1) await (await this.context.newCDPSession(this.page)).send("Emulation.setCPUThrottlingRate", { rate: SLOW });
    this.page.on("pageerror", (error) => this.errors.push(`${error}`));
    this.page.on("console", (message) => message.type() === "error" && this.errors.push(message.text()));
    this.page.on("dialog", (dialog) => {
      this.errors.push(`a name ran as a script: ${dialog.message()}`);
      void dialog.dismiss();
    });
  }

  /** The style sheet that is served is PatternFly's without what meets nothing on this page (web/trim.mjs): is it so? */
  async styled(where) {
    this.dropped ??= JSON.parse(readFileSync(join(this.out, "..", "page", "dropped.json"), "utf8")).map((one) => one.replace(PASSING, ""));
    const met = await this.page.evaluate((dropped) => dropped.filter((one) => {
      try {
        return document.querySelector(one) !== null;
      } catch {
        return false; // nothing is left of it but what passes
      }
    }), [...new Set(this.dropped)]);
    if (met.length > 0) throw new Error(`${where} has what web/trim.mjs takes for never there: ${met.slice(0, 10).join("; ")}`);
  }

  /** Errors that this scenario makes on purpose, such as a manager that is away. */
  allow(...patterns) {
    this.allowed.push(...patterns);
  }

  async goto(hash = "/vms") {
    await this.page.goto(`${this.args.url}/#${hash}`);
  }

  async close() {
    await this.styled("the end");
    await this.context.close();
    const bad = this.errors.filter((text) => !this.allowed.some((pattern) => pattern.test(text)));
    if (bad.length > 0) throw new Error(`the page complained:\n${bad.join("\n")}`);
  }

  /** For a failure: the page as a picture, and what it had to say. */
  async lastWords() {
    const file = join(this.out, `failed-${this.name}.png`);
    try {
      await this.page.screenshot({ path: file });
      const text = await this.page.locator("body").innerText();
      await this.context.close();
      return `picture: ${file}\npage's errors: ${this.errors.join("; ") || "none"}\npage's text:\n${text.slice(0, 3000)}`;
    } catch (error) {
      return `no picture: ${error}`;
    }
  }

  async picture(name, { height, top } = {}) {
    const size = this.page.viewportSize();
    if (height) await this.page.setViewportSize({ ...size, height });
    await this.page.mouse.move(0, 0);
    if (top) await this.page.locator(".pf-v6-c-modal-box__body").evaluate((body) => body.scrollTo(0, 0));
    // toasts come and go: a picture of the documents has none
    const show = (visibility) => this.page.evaluate((how) => {
      for (const group of document.querySelectorAll(".pf-v6-c-alert-group.pf-m-toast")) group.style.visibility = how;
    }, visibility);
    await this.styled(name);
    await show("hidden");
    await this.page.screenshot({ path: join(this.out, `${name}.png`) });
    await show("");
    if (height) await this.page.setViewportSize(size);
  }

  button(name) {
    return this.page.getByRole("button", { name, exact: true });
  }

  dialog() {
    return this.page.getByRole("dialog");
  }

  row(text) {
    return this.page.locator("[data-row]").filter({ hasText: text });
  }

  /** Keys go there now: what has just been drawn may get the focus a moment later, and a key before that is lost. */
  async focused(locator) {
    await this.until(`${locator} has the focus`, () => locator.evaluateAll((found) => found.length > 0 && found[0] === document.activeElement));
  }

  async seen(locator) {
    await locator.first().waitFor({ state: "visible" });
  }

  async away(locator) {
    await locator.first().waitFor({ state: "detached" });
  }

  /** Until it holds; a condition of the page, not a length of time. */
  async until(what, condition, patience = PATIENCE_MS) {
    const end = Date.now() + patience;
    for (;;) {
      if (await condition()) return;
      if (Date.now() > end) throw new Error(`in vain: ${typeof what === "function" ? what() : what}`);
      await this.page.evaluate(() => new Promise((done) => requestAnimationFrame(() => done(undefined))));
    }
  }

  /** No serious finding of axe-core. In a world of its own: the page's policy lets no script in. */
  async accessible(where) {
    await this.styled(where);
    const session = await this.context.newCDPSession(this.page);
    const { frameTree } = await session.send("Page.getFrameTree");
    const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
    const run = async (expression) => {
      const answer = await session.send("Runtime.evaluate", { expression, contextId: executionContextId, awaitPromise: true, returnByValue: true });
      if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception?.description ?? "axe-core failed");
      return answer.result.value;
    };
    await run(AXE);
    const found = await run(
      "axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')" +
        ".map((v) => v.id + ': ' + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + ' ' + (n.any[0]?.message ?? n.all[0]?.message ?? '')).join(' | ')))",
    );
    await session.detach();
    if (found.length > 0) throw new Error(`${where} is not accessible:\n${found.join("\n")}`);
  }
}
