// SPDX-License-Identifier: LGPL-2.1-or-later
// Every text that a person reads or hears stands in texts.ts.
import ts from "typescript";
import { expect, test } from "vitest";

const files = import.meta.glob<string>("./**/*.tsx", { query: "?raw", import: "default", eager: true });
/** attributes that are read out or shown */
const READ = new Set(["aria-label", "alt", "title", "label", "placeholder", "content", "toggleText", "description", "titleText", "hint", "text", "help", "ok"]);
const isText = (text: string): boolean => /[A-Za-z]{2}/.test(text);

function textsIn(name: string, source: string): string[] {
  const found: string[] = [];
  const file = ts.createSourceFile(name, source, ts.ScriptTarget.Latest, true, ts.ScriptKind.TSX);
  const look = (node: ts.Node): void => {
    if (ts.isJsxText(node) && isText(node.text)) found.push(`${name}: ${node.text.trim()}`);
    if (ts.isJsxAttribute(node) && READ.has(node.name.getText()) && node.initializer && ts.isStringLiteral(node.initializer) && isText(node.initializer.text))
      found.push(`${name}: ${node.getText()}`);
    ts.forEachChild(node, look);
  };
  look(file);
  return found;
}

test("there are no texts in the components", () => {
  expect(Object.keys(files).length).toBeGreaterThan(20);
  expect(Object.entries(files).flatMap(([name, source]) => textsIn(name, source))).toEqual([]);
  expect(textsIn("x.tsx", "<p title='Hello'>World</p>")).toEqual(["x.tsx: title='Hello'", "x.tsx: World"]);
});
