// SPDX-License-Identifier: LGPL-2.1-or-later
// What stands in the place of a document that is not there yet, or not any more.
import { Alert, Bullseye, EmptyState, EmptyStateActions, EmptyStateBody, EmptyStateFooter, Spinner } from "@patternfly/react-core";
import { useEffect, useState } from "react";
import type { ReactNode } from "react";
import type { View } from "../live";
import { ago, exact } from "../model/format";
import { t } from "../texts";
import { ActionButton } from "./action";
import { focusSoon } from "./focus";
import { faultText } from "./toasts";

/** Asks again, shows that it does, and does not take the keyboard with it when it is not needed any more. */
export function Again<T>({ view, variant, children = t.common.retry }: { view: View<T>; variant: "primary" | "secondary" | "link"; children?: ReactNode }) {
  const [busy, setBusy] = useState(false);
  const again = async (): Promise<void> => {
    setBusy(true);
    await view.reload();
    setBusy(false);
    focusSoon();
  };
  return <ActionButton variant={variant} busy={busy} onClick={() => void again()}>{children}</ActionButton>;
}

/** Old data with a fault is still shown, with the fault above it. */
export function Shown<T>({ view, children, heading = "h2" }: { view: View<T>; children: (data: T) => ReactNode; heading?: "h1" | "h2" }) {
  if (view.data === undefined && view.error)
    return (
      <EmptyState titleText={view.error.gone ? t.common.notFound : t.common.failed} status="danger" headingLevel={heading}>
        <EmptyStateBody>{faultText(view.error)}</EmptyStateBody>
        <EmptyStateFooter>
          <EmptyStateActions>
            <Again view={view} variant="primary" />
          </EmptyStateActions>
        </EmptyStateFooter>
      </EmptyState>
    );
  if (view.data === undefined)
    return (
      <Bullseye>
        <Spinner aria-label={t.common.loading} />
      </Bullseye>
    );
  return (
    <>
      {view.error && !view.error.noAnswer && <Alert isInline variant="danger" title={faultText(view.error)} actionLinks={<Again view={view} variant="link" />} />}
      {children(view.data)}
    </>
  );
}

const TICK_MS = 20_000;
export function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}

export function When({ date }: { date: string | undefined }) {
  const now = useNow();
  return date ? (
    <time dateTime={date} title={exact(date)}>
      {ago(date, now)}
    </time>
  ) : (
    <>{t.common.unknown}</>
  );
}

export function Empty({ title, children, heading = "h2" }: { title: string; children?: ReactNode; heading?: "h1" | "h2" }) {
  return (
    <EmptyState titleText={title} headingLevel={heading} variant="sm">
      {children && <EmptyStateBody>{children}</EmptyStateBody>}
    </EmptyState>
  );
}
