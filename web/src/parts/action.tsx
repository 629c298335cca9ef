// SPDX-License-Identifier: LGPL-2.1-or-later
// A button for one operation: greyed with the server's own reason, which hover and focus show.
import { Button, Tooltip } from "@patternfly/react-core";
import type { ReactNode } from "react";
import type { Operation, Vm } from "../api/types";
import { me } from "../live";
import { roleTooLow } from "../model/rights";

type Operations = { operation?: Operation[] } | undefined;

/** The same for a VM or one of its snapshots, of who has signed in: the frame draws all anew when that changes. */
export function whyNotFor(vm: Vm, operations: Operations, name: string): string | undefined {
  return roleTooLow(me.value, "operator", vm.id) ?? whyNot(operations, name);
}

/** Why it cannot be done; undefined = it can. What a server does not tell is tried: it answers with its reason. */
export function whyNot(operations: Operations, name: string): string | undefined {
  const found = operations?.operation?.find((o) => o.name === name);
  if (!found || found.possible) return undefined;
  const why = found.why ?? found.code ?? "";
  return found.help ? `${sentence(why)} ${sentence(found.help)}` : sentence(why);
}

function sentence(text: string): string {
  const big = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(big) ? big : `${big}.`;
}

interface Props {
  why?: string;
  onClick: () => void;
  children: ReactNode;
  variant?: "primary" | "secondary" | "danger" | "tertiary" | "plain" | "link";
  icon?: ReactNode;
  label?: string;
  busy?: boolean;
}

export function ActionButton({ why, onClick, children, variant = "secondary", icon, label, busy }: Props) {
  /* always with its tooltip: without one it would be another button, and lose the focus when it turns grey */
  return (
    <Tooltip content={why ?? ""} entryDelay={100} trigger={why !== undefined ? "mouseenter focus" : "manual"}>
      <Button variant={variant} icon={icon} aria-label={label} isLoading={busy} isAriaDisabled={why !== undefined || busy}
        onClick={onClick} size={variant === "plain" ? "sm" : "default"}>
        {children}
      </Button>
    </Tooltip>
  );
}
