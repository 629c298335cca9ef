// SPDX-License-Identifier: LGPL-2.1-or-later
// Who may what, as docs/people.md has it: the higher of the role for all and the role for one VM counts.
import type { Session } from "../api/types";
import { t } from "../texts";

export const ROLES = ["none", "viewer", "operator", "administrator"] as const;
export type Role = (typeof ROLES)[number];
/** The role of one VM is never administrator. */
export const VM_ROLES = ["viewer", "operator"] as const;

const rank = (role: string | undefined): number => ROLES.indexOf((role ?? "none") as Role);

export function roleOn(session: Session | undefined, vm?: string): string | undefined {
  if (!session) return undefined;
  const own = vm === undefined ? undefined : session.vm_roles?.vm_role?.find((one) => one.vm.id === vm)?.role;
  return rank(own) > rank(session.role) ? own : session.role;
}

/** Why the role is not enough; undefined = it is, or who asks is not known yet (the server has the last word). */
export function roleTooLow(session: Session | undefined, needed: Role, vm?: string): string | undefined {
  const role = roleOn(session, vm);
  return role === undefined || rank(role) >= rank(needed) ? undefined : t.users.tooLow(t.users.roles[role] ?? role, t.users.roles[needed] ?? needed);
}
