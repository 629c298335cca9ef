// SPDX-License-Identifier: LGPL-2.1-or-later
import react from "@vitejs/plugin-react";
import { loadEnv } from "vite";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const manager = loadEnv("", ".", "LIVEMERGE_").LIVEMERGE_URL ?? "http://127.0.0.1:8443";

/** early.ts stands before all else in the head, and is run as soon as it is there. */
const early: Plugin = {
  name: "livemerge-early",
  transformIndexHtml: {
    order: "post",
    handler: (_html, { bundle, server }) => {
      const chunk = Object.values(bundle ?? {}).find((one) => one.type === "chunk" && one.name === "early");
      const src = server ? "/src/early.ts" : `/${chunk!.fileName}`;
      return [{ tag: "script", attrs: { type: "module", async: true, src }, injectTo: "head-prepend" as const }];
    },
  },
};

export default defineConfig({
  plugins: [react(), early],
  build: {
    target: "es2022",
    // the page's policy allows no data: in styles and scripts
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // one style sheet and one script: the page is a single first view
    cssCodeSplit: false,
    chunkSizeWarningLimit: 2000,
    rolldownOptions: { input: { index: "index.html", early: "src/early.ts" } },
  },
  // npm run dev: the page from here, the API of a manager on loopback
  server: {
    proxy: { "/ovirt-engine": { target: manager, secure: false } },
  },
  // a test machine may be busy, and slow
  test: { include: ["src/**/*.test.ts", "*.test.mjs"], testTimeout: 60_000, hookTimeout: 60_000 },
});
