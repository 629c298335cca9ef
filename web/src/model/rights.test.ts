// SPDX-License-Identifier: LGPL-2.1-or-later
import { expect, test } from "vitest";
import type { Session } from "../api/types";
import { roleOn, roleTooLow } from "./rights";

const pat: Session = { user: "pat@internal", name: "pat", role: "viewer", vm_roles: { vm_role: [{ vm: { id: "a" }, role: "operator" }, { vm: { id: "b" }, role: "none" }] } };

test("the higher role counts", () => {
  expect(roleOn(pat, "a")).toBe("operator");
  expect(roleOn(pat, "b")).toBe("viewer");
  expect(roleOn(pat)).toBe("viewer");
  expect(roleOn({ ...pat, role: "administrator" }, "a")).toBe("administrator");
});

test("what is refused says both roles; who is not known is not refused", () => {
  expect(roleTooLow(pat, "operator", "a")).toBeUndefined();
  expect(roleTooLow(pat, "operator", "b")).toMatch(/Viewer.*Operator/);
  expect(roleTooLow(pat, "administrator", "a")).toMatch(/Administrator/);
  expect(roleTooLow(undefined, "administrator")).toBeUndefined();
});
