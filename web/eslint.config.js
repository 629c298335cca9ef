// SPDX-License-Identifier: LGPL-2.1-or-later
import js from "@eslint/js";
import a11y from "eslint-plugin-jsx-a11y";
import hooks from "eslint-plugin-react-hooks";
import ts from "typescript-eslint";

export default ts.config(
  { ignores: ["node_modules", "dist"] },
  {
    files: ["src/**/*.{ts,tsx}", "vite.config.ts"],
    extends: [js.configs.recommended, ts.configs.strictTypeChecked, hooks.configs.flat.recommended, a11y.flatConfigs.strict],
    languageOptions: { parserOptions: { projectService: true } },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      // numbers are what most texts are made of
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // with noUncheckedIndexedAccess, "!" is how an index says that it was looked at
      "@typescript-eslint/no-non-null-assertion": "off",
      // it speaks of React's compiler, which is not used here
      "react-hooks/incompatible-library": "off",
      // a dialog's first field has the focus, as PatternFly's own dialogs do it
      "jsx-a11y/no-autofocus": ["error", { ignoreNonDOM: true }],
      // what scrolls must be reached by the keyboard
      "jsx-a11y/no-noninteractive-tabindex": ["error", { tags: [], roles: ["region", "table", "tabpanel"], allowExpressionValues: true }],
    },
  },
);
