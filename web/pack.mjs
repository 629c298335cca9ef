// SPDX-License-Identifier: LGPL-2.1-or-later
// node pack.mjs DIR: packs what Vite has left in DIR/files, and lists it all in DIR/page.gresource.xml.
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const out = process.argv[2];
const files = join(out, "files");
const rows = [];

for (const entry of readdirSync(files, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile()) continue;
  const path = join(entry.parentPath, entry.name);
  const name = path.slice(files.length + 1);
  if (/\.(br|gz)$/.test(name)) continue;
  if (/\.map$/.test(name)) {
    rmSync(path);
    continue;
  }
  rows.push(name);
  if (!/\.(js|css|html|svg)$/.test(name)) continue;
  const plain = readFileSync(path);
  writeFileSync(`${path}.gz`, gzipSync(plain, { level: 9 }));
  writeFileSync(
    `${path}.br`,
    brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length } }),
  );
  rows.push(`${name}.gz`, `${name}.br`);
}
writeFileSync(
  join(out, "page.gresource.xml"),
  `<gresources><gresource prefix="/page">\n${rows.sort().map((row) => `<file>${row}</file>\n`).join("")}</gresource></gresources>\n`,
);
