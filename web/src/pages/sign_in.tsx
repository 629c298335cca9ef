// SPDX-License-Identifier: LGPL-2.1-or-later
import { Alert, Form, Title } from "@patternfly/react-core";
import { useState } from "react";
import { api } from "../api/api";
import { signedIn, state, useStore } from "../live";
import { ActionButton } from "../parts/action";
import { Field } from "../parts/field";
import { faultText } from "../parts/toasts";
import { t } from "../texts";

export function SignIn() {
  const connection = useStore(state);
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [fault, setFault] = useState<string>();
  const [busy, setBusy] = useState(false);
  const act = async (): Promise<void> => {
    setBusy(true);
    setFault(undefined);
    try {
      await api.signIn(user, password);
      signedIn();
    } catch (error) {
      setFault(faultText(error));
      setBusy(false);
    }
  };
  return (
    <main className="lm-sign-in">
      <Title headingLevel="h1">{t.signIn.title}</Title>
      <Form onSubmit={(event) => { event.preventDefault(); if (user && password && !busy) void act(); }}>
        {!fault && connection.kind === "signed-out" && connection.ended && <Alert isInline variant="info" title={t.signIn.ended} />}
        {fault && <Alert isInline variant="danger" title={fault} />}
        <Field id="user" label={t.signIn.user} value={user} onChange={setUser} required first autoComplete="username" />
        <Field id="password" label={t.signIn.password} value={password} onChange={setPassword} type="password" required autoComplete="current-password" />
        <ActionButton variant="primary" submits={{}} wide busy={busy} why={user && password ? undefined : t.signIn.needed}>{t.signIn.ok}</ActionButton>
      </Form>
    </main>
  );
}
