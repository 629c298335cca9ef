// SPDX-License-Identifier: LGPL-2.1-or-later
// PatternFly's style sheet is for all that its components can be. What the page never is goes: themes, components, sizes; and then
// custom properties that nobody reads. pack.mjs does it when the page is built; the look is the same, and tests/browser asks of each
// selector that went whether it would have met anything.
import postcss from "postcss";

/** Classes that no element of the page ever has. */
const NEVER = [
  // themes: only the dark one is ever chosen
  /^pf-v6-theme-(high-contrast|felt|glass)$/, /^pf-v6-m-(legacy-font|no-motion|thinking|ai-indicator|dir-ltr|dir-rtl|mirror-inline-rtl)$/,
  // the font of icons: PatternFly's React draws them
  /^pf-v6-pficon/,
  // components of which others are made in some forms, and not in those of this page
  /^pf-v6-c-(avatar|card|compass|drawer|label-group|pagination|panel|popover)(__|$)/,
  // otherwise at some widths of the window: only columns of description lists are
  /^pf-m-(?!(1|2|3)-col-on-(md|lg)$).*-on-(sm|md|lg|xl|2xl)$/, /^pf-m-no-plain-on-glass$/, /-on-glass$/,
];

function splitTop(list) {
  const parts = [""];
  let depth = 0;
  for (const c of list) {
    depth += Number(c === "(") - Number(c === ")");
    if (c === "," && depth === 0) parts.push("");
    else parts[parts.length - 1] += c;
  }
  return parts;
}

function closing(text, open) {
  let depth = 0;
  for (let i = open; i < text.length; i++) {
    depth += Number(text[i] === "(") - Number(text[i] === ")");
    if (depth === 0) return i;
  }
  return text.length - 1;
}

/** Can it never meet an element? */
export function isDead(selector, never = NEVER) {
  let plain = "";
  for (let i = 0; i < selector.length; i++) {
    if (selector[i] !== "(") {
      plain += selector[i];
      continue;
    }
    const end = closing(selector, i);
    const inside = selector.slice(i + 1, end);
    if (/:(where|is|has)$/.test(plain) && splitTop(inside).every((one) => isDead(one, never))) return true;
    plain += "()"; // :not() asks for what is not there
    i = end;
  }
  return [...plain.matchAll(/\.([\w-]+)/g)].some(([, name]) => never.some((pattern) => pattern.test(name)));
}

const namesIn = (text) => text.match(/--[\w-]+/g) ?? [];

function dropSelectors(root, dropped) {
  root.walkRules((rule) => {
    if (rule.parent?.type === "atrule" && /keyframes$/.test(rule.parent.name)) return;
    const kept = rule.selectors.filter((one) => !isDead(one));
    if (kept.length === rule.selectors.length) return;
    dropped.push(...rule.selectors.filter((one) => isDead(one)));
    if (kept.length > 0) rule.selectors = kept;
    else rule.remove();
  });
}

/** What is read by a declaration that counts, by others that are read, or by a script. */
function dropUnread(root, scripts) {
  const made = new Map();
  const wanted = namesIn(scripts);
  root.walkDecls((decl) => {
    if (!decl.prop.startsWith("--")) wanted.push(...namesIn(decl.value));
    else made.set(decl.prop, [...(made.get(decl.prop) ?? []), ...namesIn(decl.value)]);
  });
  root.walkAtRules((rule) => { wanted.push(...namesIn(rule.params)); });
  const read = new Set();
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    if (read.has(name)) continue;
    read.add(name);
    wanted.push(...(made.get(name) ?? []));
  }
  root.walkDecls((decl) => {
    if (decl.prop.startsWith("--") && !read.has(decl.prop)) decl.remove();
  });
}

function dropEmpty(root) {
  root.walkRules((rule) => { if (rule.nodes.length === 0) rule.remove(); });
  for (let again = true; again; ) {
    again = false;
    root.walkAtRules((rule) => {
      if (rule.nodes?.length !== 0 || rule.name === "layer") return;
      rule.remove();
      again = true;
    });
  }
}

/** The sheet as the page needs it, and the selectors that went. scripts: all that may read a custom property. */
export function trim(css, scripts) {
  const root = postcss.parse(css);
  const dropped = [];
  root.walkAtRules("font-face", (face) => {
    if (/pficon/.test(face.toString())) face.remove();
  });
  dropSelectors(root, dropped);
  dropUnread(root, scripts);
  dropEmpty(root);
  return { css: root.toString(), dropped: [...new Set(dropped)] };
}
