// SPDX-License-Identifier: LGPL-2.1-or-later
// The small dialogs of the Snapshots tab.
import { useState } from "react";
import { api } from "../api/api";
import type { Snapshot, Vm } from "../api/types";
import { changed } from "../live";
import { nameWrong } from "../model/check";
import { Dialog } from "../parts/dialog";
import { Field } from "../parts/field";
import { t } from "../texts";

export type Deed = "preview" | "commit" | "undo" | "restore";

interface Props {
  vm: Vm;
  snapshot: Snapshot;
  onClose: () => void;
}

export function RenameDialog({ vm, snapshot, onClose }: Props) {
  const [name, setName] = useState(snapshot.description);
  const rename = async (): Promise<void> => {
    await api.renameSnapshot(vm.id, snapshot.id, name);
    changed(`vm:${vm.id}`);
    onClose();
  };
  return (
    <Dialog title={t.rename.title(snapshot.description)} ok={t.rename.ok} onOk={rename} onClose={onClose}
      blocked={nameWrong(name) ?? (name === snapshot.description ? t.rename.same : undefined)}>
      <Field id="name" label={t.create.name} value={name} onChange={setName} required first wrong={nameWrong(name)} help={t.create.nameHelp} />
    </Dialog>
  );
}

export function ConfirmDialog({ deed, vm, snapshot, onClose }: Props & { deed: Deed }) {
  const texts = t.confirm[deed];
  const act = async (): Promise<void> => {
    await (deed === "preview" ? api.preview(vm.id, snapshot.id)
      : deed === "commit" ? api.commit(vm.id)
      : deed === "undo" ? api.undo(vm.id)
      : api.restore(vm.id, snapshot.id));
    changed(`vm:${vm.id}`);
    onClose();
  };
  return (
    <Dialog title={texts.title(snapshot.description)} ok={texts.ok} danger={deed !== "preview"} onOk={act} onClose={onClose}>
      <p>{snapshot.configuration_only ? t.confirmAlone[deed] : texts.body}</p>
    </Dialog>
  );
}
