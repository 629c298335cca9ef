// SPDX-License-Identifier: LGPL-2.1-or-later
// What concerns whoever has signed in: the own password and sessions, and signing out.
import { Dropdown, DropdownItem, DropdownList, MenuToggle } from "@patternfly/react-core";
import { useState } from "react";
import { me, signOut, useStore } from "../live";
import { SessionsDialog } from "../pages/sessions_dialog";
import { OwnPasswordDialog } from "../pages/user_dialogs";
import { t } from "../texts";
import { toastFault } from "./toasts";

export function OwnMenu() {
  const session = useStore(me);
  const [open, setOpen] = useState(false);
  const [opened, setOpened] = useState<"password" | "sessions">();
  const close = (): void => setOpened(undefined);
  return (
    <>
      <Dropdown isOpen={open} onOpenChange={setOpen} onSelect={() => setOpen(false)} shouldFocusToggleOnSelect shouldFocusFirstItemOnOpen popperProps={{ position: "right", appendTo: () => document.body }}
        toggle={(ref) => (
          <MenuToggle ref={ref} variant="plainText" isExpanded={open} aria-label={t.own.menu(session?.name ?? "")} onClick={() => setOpen(!open)}>
            {session?.name}
          </MenuToggle>
        )}>
        <DropdownList>
          {session?.passwords === "own" && <DropdownItem onClick={() => setOpened("password")}>{t.own.password}</DropdownItem>}
          {session?.name && <DropdownItem onClick={() => setOpened("sessions")}>{t.own.sessions}</DropdownItem>}
          <DropdownItem onClick={() => void signOut().catch(toastFault)}>{t.signIn.out}</DropdownItem>
        </DropdownList>
      </Dropdown>
      {opened === "password" && session && <OwnPasswordDialog session={session} onClose={close} />}
      {opened === "sessions" && session && <SessionsDialog name={session.name} onClose={close} />}
    </>
  );
}
