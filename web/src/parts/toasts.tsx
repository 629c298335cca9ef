// SPDX-License-Identifier: LGPL-2.1-or-later
import { Alert, AlertActionCloseButton, AlertGroup } from "@patternfly/react-core";
import { useEffect } from "react";
import { Fault } from "../api/http";
import { onEvent, sessionStore, useStore } from "../live";
import { t } from "../texts";
import { focusSoon } from "./focus";

type Kind = "success" | "danger" | "warning" | "info";
interface Toast {
  id: number;
  kind: Kind;
  title: string;
  body?: string;
}
const KEPT = 5;
const LIFE_MS = 8000;
const toasts = sessionStore<Toast[]>([]);
let last = 0;

export function toast(kind: Kind, title: string, body?: string): void {
  toasts.set([...toasts.value, { id: ++last, kind, title, body }].slice(-KEPT));
}

/** What a fault says, with what helps. */
export function faultText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error instanceof Fault && error.help ? `${error.message} – ${error.help}` : error.message;
}

export function toastFault(error: unknown): void {
  toast("danger", t.common.failed, faultText(error));
}

const KINDS: Record<string, Kind> = { error: "danger", alert: "danger", warning: "warning" };

/** Begins and routine steps are in the list below; a toast is for what ended or went wrong. */
const ENDED = new Set([53, 113, 68, 356, 71, 94, 95, 100, 651, 30002, 30006]);

export function Toasts() {
  const list = useStore(toasts);
  useEffect(
    () =>
      onEvent((event) => {
        const kind = KINDS[event.severity] ?? (ENDED.has(event.code) ? "success" : undefined);
        if (kind) toast(kind, event.description);
      }),
    [],
  );
  const remove = (id: number) => toasts.set(toasts.value.filter((one) => one.id !== id));
  return (
    <AlertGroup isToast isLiveRegion>
      {list.map((one) => (
        <Alert key={one.id} variant={one.kind} title={one.title} timeout={one.kind === "danger" ? false : LIFE_MS}
          onTimeout={() => remove(one.id)} actionClose={<AlertActionCloseButton onClose={() => { remove(one.id); focusSoon(); }} />}>
          {one.body}
        </Alert>
      ))}
    </AlertGroup>
  );
}
