// SPDX-License-Identifier: LGPL-2.1-or-later
// node pack.mjs DIR: trims the style sheet that Vite has left in DIR/files, packs all, and lists it in DIR/page.gresource.xml.
import { createHash } from "node:crypto";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { trim } from "./trim.mjs";

const out = process.argv[2];
const files = join(out, "files");
const names = () => readdirSync(files, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name).slice(files.length + 1)).sort();
const text = (name) => readFileSync(join(files, name), "utf8");
const remove = (name) => rmSync(join(files, name));

/** Its new name tells of its content, as all names below assets/ do. DIR/dropped.json is for the tests. */
function trimStyle() {
  const found = names();
  const style = found.find((name) => name.endsWith(".css"));
  const { css, dropped } = trim(text(style), found.filter((name) => name.endsWith(".js")).map(text).join("\n"));
  const trimmed = `assets/style-${createHash("sha256").update(css).digest("base64url").slice(0, 8)}.css`;
  remove(style);
  writeFileSync(join(files, trimmed), css);
  writeFileSync(join(files, "index.html"), text("index.html").replaceAll(style, trimmed));
  writeFileSync(join(out, "dropped.json"), `${JSON.stringify(dropped)}\n`);
}

/** What only the whole sheet named. */
function removeUnnamed() {
  const naming = names().filter((name) => /\.(css|js|html)$/.test(name)).map(text).join("\n");
  for (const name of names()) if (name.startsWith("assets/") && !naming.includes(name.slice("assets/".length))) remove(name);
}

for (const name of names()) if (/\.(br|gz|map)$/.test(name)) remove(name);
trimStyle();
removeUnnamed();
const rows = names();
for (const name of [...rows]) {
  if (!/\.(js|css|html|svg)$/.test(name)) continue;
  const plain = readFileSync(join(files, name));
  writeFileSync(join(files, `${name}.gz`), gzipSync(plain, { level: 9 }));
  writeFileSync(
    join(files, `${name}.br`),
    brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length } }),
  );
  rows.push(`${name}.gz`, `${name}.br`);
}
writeFileSync(
  join(out, "page.gresource.xml"),
  `<gresources><gresource prefix="/page">\n${rows.sort().map((row) => `<file>${row}</file>\n`).join("")}</gresource></gresources>\n`,
);
