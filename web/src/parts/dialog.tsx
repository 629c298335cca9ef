// SPDX-License-Identifier: LGPL-2.1-or-later
// A dialog whose deed may fail: the fault is shown inside it, and it stays open.
import { Alert, Button, Modal, ModalBody, ModalFooter, ModalHeader } from "@patternfly/react-core";
import { useState } from "react";
import type { ReactNode } from "react";
import { t } from "../texts";
import { ActionButton } from "./action";
import { useFocusBack } from "./focus";
import { StaleNote } from "./stale";
import { faultText } from "./toasts";

interface Props {
  title: string;
  ok: string;
  danger?: boolean;
  /** why the deed cannot be begun */
  blocked?: string;
  onOk: () => Promise<void>;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
}

export function Dialog({ title, ok, danger, blocked, onOk, onClose, children, wide }: Props) {
  useFocusBack();
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<string>();
  const act = async (): Promise<void> => {
    if (busy || blocked !== undefined) return;
    setBusy(true);
    setFault(undefined);
    try {
      await onOk();
    } catch (error) {
      setFault(faultText(error));
      setBusy(false);
    }
  };
  return (
    <Modal isOpen onClose={onClose} variant={wide ? "large" : "small"} aria-labelledby="lm-dialog-title" className="lm-dialog">
      <ModalHeader title={title} labelId="lm-dialog-title" />
      <ModalBody>
        <StaleNote />
        <form id="lm-dialog-form" noValidate onSubmit={(event) => { event.preventDefault(); void act(); }}>
          {children}
        </form>
        {fault && <Alert isInline variant="danger" title={fault} className="lm-gap" />}
      </ModalBody>
      <ModalFooter>
        <ActionButton variant={danger ? "danger" : "primary"} submits={{ form: "lm-dialog-form" }} busy={busy} why={blocked}>{ok}</ActionButton>
        <Button variant="link" onClick={onClose}>{t.common.cancel}</Button>
      </ModalFooter>
    </Modal>
  );
}
