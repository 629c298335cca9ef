// SPDX-License-Identifier: LGPL-2.1-or-later
// A button for one operation: greyed with the server's own reason, which hover and focus show.
import { Button } from "@patternfly/react-core";
import { useId } from "react";
import type { ReactNode } from "react";
import type { Operation, Vm } from "../api/types";
import { me } from "../live";
import { roleTooLow } from "../model/rights";
import { Tip } from "./tip";

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
  /** why it cannot be done now: it is greyed, keeps the focus if it has it, and says why */
  why?: string;
  onClick?: () => void;
  children: ReactNode;
  variant?: "primary" | "secondary" | "danger" | "tertiary" | "plain" | "link";
  icon?: ReactNode;
  label?: string;
  busy?: boolean;
  /** of a form: sends it */
  submits?: { form?: string };
  wide?: boolean;
}

/** Never disabled in the browser's sense, which takes the focus away and keeps the reason from who has only the keyboard. */
export function ActionButton({ why, onClick, children, variant = "secondary", icon, label, busy, submits, wide }: Props) {
  const id = useId();
  return (
    <>
      <Tip text={why} delay={100} describes={false}>
        {(come) => (
          <Button {...come} variant={variant} icon={icon} aria-label={label} isLoading={busy} isAriaDisabled={why !== undefined || busy} isBlock={wide}
            aria-describedby={why !== undefined ? id : undefined} onClick={onClick} size={variant === "plain" ? "sm" : "default"}
            {...(submits && { type: "submit" as const, form: submits.form })}>
            {children}
          </Button>
        )}
      </Tip>
      {why !== undefined && <span id={id} hidden>{why}</span>}
    </>
  );
}
