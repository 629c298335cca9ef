// SPDX-License-Identifier: LGPL-2.1-or-later
// Users and their roles, for the administrator.
import { Alert, Button, Title, Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core";
import { useState } from "react";
import { api } from "../api/api";
import type { User } from "../api/types";
import { me, useLive, useStore } from "../live";
import { roleTooLow } from "../model/rights";
import { Grid, sorted } from "../parts/grid";
import type { Column, Sort } from "../parts/grid";
import { usePhone } from "../parts/phone";
import { Empty, Shown, When } from "../parts/view";
import { t } from "../texts";
import { SessionsDialog } from "./sessions_dialog";
import { AddDialog, PasswordDialog, RemoveDialog, RolesDialog } from "./user_dialogs";

type Deed = "roles" | "password" | "sessions" | "remove";
type Open = { kind: "add" } | { kind: Deed; user: User } | null;

const rolesOf = (user: User): string =>
  (user.vm_roles?.vm_role ?? []).map((one) => `${one.vm.name ?? one.vm.id}: ${t.users.roles[one.role] ?? one.role}`).join(", ");

/** On a phone with the role, which has no column there. */
function Name({ user, own }: { user: User; own: string | undefined }) {
  const phone = usePhone();
  return (
    <span className="lm-stacked">
      <span className="lm-name">{user.name}{user.name === own && ` (${t.users.you})`}</span>
      {phone && <span className="lm-small">{t.users.roles[user.role] ?? user.role}</span>}
    </span>
  );
}

function columnsOf(own: string | undefined, open: (what: Open) => void): Column<User>[] {
  const button = (kind: Deed, user: User, text: string, label = `${text}: ${user.name}`) => (
    <Button variant="link" isInline isDanger={kind === "remove"} aria-label={label} onClick={() => open({ kind, user })}>{text}</Button>
  );
  return [
    { key: "name", label: t.users.name, width: "minmax(5rem, 2fr)", sort: (u) => u.name, render: (u) => <Name user={u} own={own} /> },
    { key: "role", label: t.users.role, width: "minmax(6.5rem, 1fr)", drop: 1, sort: (u) => u.role, render: (u) => t.users.roles[u.role] ?? u.role },
    { key: "vms", label: t.users.vmRolesShort, width: "minmax(7rem, 2fr)", drop: 1, sort: rolesOf, render: (u) => <span className="lm-name" title={rolesOf(u)}>{rolesOf(u)}</span> },
    { key: "password", label: t.users.password, width: "6rem", drop: 2, render: (u) => (u.has_password ? t.users.yes : t.users.no) },
    { key: "tokens", label: t.users.tokens, width: "5.5rem", drop: 2, numeric: true, sort: (u) => u.tokens ?? 0, render: (u) => (u.tokens ? button("sessions", u, String(u.tokens), t.users.tokensOf(u.name, u.tokens)) : 0) },
    { key: "changed", label: t.users.changed, width: "7rem", drop: 2, sort: (u) => u.changed ?? "", render: (u) => <When date={u.changed} /> },
    {
      key: "actions", label: <span className="pf-v6-screen-reader">{t.common.actions}</span>, width: "13rem",
      render: (u) => (
        <span className="lm-marks">
          {button("roles", u, t.users.change)} {button("password", u, t.users.password)} {button("remove", u, t.users.remove)}
        </span>
      ),
    },
  ];
}

function List({ users, open }: { users: User[]; open: (what: Open) => void }) {
  const [sort, setSort] = useState<Sort>({ key: "name", down: false });
  const columns = columnsOf(useStore(me)?.name, open);
  if (users.length === 0) return <Empty title={t.users.empty} />;
  return <Grid label={t.users.title} rows={sorted(users, columns, sort)} columns={columns} rowKey={(u) => u.id} rowHeight={44} sort={sort} onSort={setSort} />;
}

function Dialogs({ open, onClose }: { open: Open; onClose: () => void }) {
  if (!open) return null;
  switch (open.kind) {
    case "add": return <AddDialog onClose={onClose} />;
    case "roles": return <RolesDialog user={open.user} onClose={onClose} />;
    case "password": return <PasswordDialog user={open.user} onClose={onClose} />;
    case "sessions": return <SessionsDialog name={open.user.name} onClose={onClose} />;
    case "remove": return <RemoveDialog user={open.user} onClose={onClose} />;
  }
}

export function Users() {
  const refused = roleTooLow(useStore(me), "administrator");
  const view = useLive(refused ? null : "users", ["users"], api.users);
  const [open, setOpen] = useState<Open>(null);
  return (
    <>
      <Title headingLevel="h1">{t.users.title}</Title>
      {refused ? <Alert isInline variant="warning" title={t.users.needsAdministrator}>{refused}</Alert> : (
        <>
          <Toolbar inset={{ default: "insetNone" }}>
            <ToolbarContent>
              <ToolbarItem><Button variant="primary" onClick={() => setOpen({ kind: "add" })}>{t.users.add}</Button></ToolbarItem>
            </ToolbarContent>
          </Toolbar>
          <Shown view={view}>{(users) => <List users={users} open={setOpen} />}</Shown>
        </>
      )}
      <Dialogs open={open} onClose={() => setOpen(null)} />
    </>
  );
}
