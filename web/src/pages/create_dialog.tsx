// SPDX-License-Identifier: LGPL-2.1-or-later
import { Alert, Checkbox, FormGroup, FormSelect, FormSelectOption, HelperText, HelperTextItem } from "@patternfly/react-core";
import { useState } from "react";
import { api } from "../api/api";
import type { DiskAttachment, Vm } from "../api/types";
import { changed, useLive } from "../live";
import { nameWrong } from "../model/check";
import { bytes } from "../model/format";
import { whyNot } from "../parts/action";
import { Dialog } from "../parts/dialog";
import { Field } from "../parts/field";
import { toast } from "../parts/toasts";
import { t } from "../texts";

/** qcow2's header and first tables */
const NEW_VOLUME_BYTES = 200 * 1024;

function Disks({ list, out, onChange }: { list: DiskAttachment[]; out: Set<string>; onChange: (out: Set<string>) => void }) {
  return (
    <FormGroup role="group" label={t.create.disks} fieldId="disks">
      {list.map((a) => (
        <Checkbox key={a.id} id={`disk-${a.id}`} label={`${a.disk.target}, ${bytes(a.disk.provisioned_size)}`} description={a.disk.unmanaged}
          isDisabled={a.disk.unmanaged !== undefined} isChecked={a.disk.unmanaged === undefined && !out.has(a.id)}
          onChange={(_e, on) => {
            const next = new Set(out);
            if (on) next.delete(a.id);
            else next.add(a.id);
            onChange(next);
          }} />
      ))}
    </FormGroup>
  );
}

export function CreateDialog({ vm, onClose }: { vm: Vm; onClose: () => void }) {
  const disks = useLive(`disks ${vm.id}`, [`vm:${vm.id}`], (signal) => api.disks(vm.id, signal));
  const [name, setName] = useState("");
  const [out, setOut] = useState(new Set<string>());
  const [memory, setMemory] = useState(false);
  const [quiesce, setQuiesce] = useState("auto");
  const usable = (disks.data ?? []).filter((a) => a.disk.unmanaged === undefined);
  const chosen = usable.filter((a) => !out.has(a.id));
  const alone = disks.data !== undefined && chosen.length === 0;
  const noMemory = alone ? t.create.aloneNoMemory : whyNot(vm.operations, "create_snapshot_with_memory") ?? (vm.status === "down" ? t.create.memoryOff : undefined);
  const most = chosen.reduce((sum, a) => sum + (a.disk.provisioned_size ?? 0), 0);
  const begin = async (): Promise<void> => {
    await api.createSnapshot(vm.id, {
      description: name,
      persist_memorystate: memory && !noMemory,
      quiesce: alone ? "no" : quiesce,
      ...(chosen.length < usable.length && { disks: chosen.map((a) => a.id) }),
    });
    changed(`vm:${vm.id}`);
    toast("info", t.create.done(name));
    onClose();
  };
  return (
    <Dialog title={t.create.title(vm.name)} ok={t.create.ok} onOk={begin} onClose={onClose}
      blocked={nameWrong(name) ?? (alone && usable.length === 0 ? t.create.nothing : undefined)}>
      <div className="pf-v6-c-form">
        <Field id="name" label={t.create.name} value={name} onChange={setName} required first wrong={nameWrong(name)} help={t.create.nameHelp} />
        {disks.error && <Alert isInline variant="danger" title={disks.error.message} />}
        <Disks list={disks.data ?? []} out={out} onChange={setOut} />
        {alone && (
          <HelperText aria-live="polite"><HelperTextItem variant="warning">{t.create.alone}</HelperTextItem></HelperText>
        )}
        <Checkbox id="memory" label={t.create.memory} isChecked={memory && !noMemory} isDisabled={noMemory !== undefined}
          description={noMemory ?? t.create.memoryHelp(bytes(vm.memory))} onChange={(_e, on) => setMemory(on)} />
        <FormGroup label={t.create.quiesce} fieldId="quiesce">
          <FormSelect id="quiesce" value={alone ? "no" : quiesce} isDisabled={alone} onChange={(_e, value) => setQuiesce(value)}>
            <FormSelectOption value="auto" label={t.create.quiesceAuto} />
            <FormSelectOption value="no" label={t.create.quiesceNo} />
            <FormSelectOption value="require" label={t.create.quiesceRequire} />
          </FormSelect>
        </FormGroup>
        <FormGroup label={t.create.space}>
          <p>{alone ? t.create.aloneSpace : t.create.spaceBody(bytes(chosen.length * NEW_VOLUME_BYTES + (memory && !noMemory ? (vm.memory ?? 0) : 0)), bytes(most))}</p>
        </FormGroup>
      </div>
    </Dialog>
  );
}
