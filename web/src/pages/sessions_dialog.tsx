// SPDX-License-Identifier: LGPL-2.1-or-later
// Where a user is signed in, and ending it: for oneself, and for the administrator.
import { Alert, Button } from "@patternfly/react-core";
import { useEffect, useState } from "react";
import { api } from "../api/api";
import type { UserSession } from "../api/types";
import { changed, useLive } from "../live";
import { Dialog } from "../parts/dialog";
import { focusSoon } from "../parts/focus";
import { faultText, toast } from "../parts/toasts";
import { Shown, When } from "../parts/view";
import { t } from "../texts";

function Row({ session, onEnd }: { session: UserSession; onEnd: () => void }) {
  return (
    <li className="lm-session" data-session={session.id}>
      <span>
        <strong>{t.sessions.kinds[session.kind] ?? session.kind}</strong> {session.address && t.sessions.from(session.address)}
        <span className="lm-note">
          {t.sessions.used} <When date={session.last_used} />{session.current && ` · ${t.sessions.current}`}
        </span>
      </span>
      {!session.current && <Button variant="link" isInline isDanger aria-label={t.sessions.endOf(session.id)} onClick={onEnd}>{t.sessions.end}</Button>}
    </li>
  );
}

export function SessionsDialog({ name, onClose }: { name: string; onClose: () => void }) {
  const view = useLive(`sessions:${name}`, ["users"], (signal) => api.sessions(name, signal));
  const [fault, setFault] = useState<string>();
  const others = (view.data ?? []).filter((one) => !one.current);
  useEffect(focusSoon, [view.data]); // who ended one was on its button
  const end = (id: string): void => {
    setFault(undefined);
    api.endSession(name, id).then(() => changed("users"), (error: unknown) => setFault(faultText(error)));
  };
  const endAll = async (): Promise<void> => {
    await api.endSessions(name);
    changed("users");
    toast("success", t.sessions.ended(name));
    onClose();
  };
  return (
    <Dialog title={t.sessions.of(name)} ok={t.sessions.endOthers} danger blocked={others.length === 0 ? t.sessions.noOthers : undefined} onOk={endAll} onClose={onClose}>
      <Shown view={view}>
        {(sessions) => (sessions.length === 0 ? <p>{t.sessions.none}</p> : (
          <ul className="lm-sessions">{sessions.map((one) => <Row key={one.id} session={one} onEnd={() => end(one.id)} />)}</ul>
        ))}
      </Shown>
      {fault && <Alert isInline variant="danger" title={fault} className="lm-gap" />}
    </Dialog>
  );
}
