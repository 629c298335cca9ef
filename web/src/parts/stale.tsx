// SPDX-License-Identifier: LGPL-2.1-or-later
// What is old is shown as old: nobody should act on it unknowingly. Also in dialogs, which cover the page.
import { Alert } from "@patternfly/react-core";
import { state, useStore } from "../live";
import { t } from "../texts";

export function StaleNote() {
  const connection = useStore(state);
  if (connection.kind !== "stale") return null;
  return <Alert isInline variant="danger" title={t.stale.title}>{t.stale.body(new Date(connection.since).toLocaleTimeString())}</Alert>;
}
