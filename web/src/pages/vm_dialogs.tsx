// SPDX-License-Identifier: LGPL-2.1-or-later
// A new VM out of a snapshot or of one that is off; and a VM that goes. Both tell beforehand what will be done.
import { Alert, Checkbox, FormGroup, FormSelect, FormSelectOption } from "@patternfly/react-core";
import { useState } from "react";
import { api } from "../api/api";
import type { Snapshot, Vm, Volume } from "../api/types";
import { changed, me, useLive, useStore, vmChanged } from "../live";
import { shortened } from "../model/chain";
import { nameWrong } from "../model/check";
import { bytes } from "../model/format";
import { roleTooLow } from "../model/rights";
import { cloneCost, removalOf } from "../model/whole";
import type { CloneCost, ClonePart } from "../model/whole";
import { go } from "../nav";
import { ActionButton, whyNot } from "../parts/action";
import { Dialog } from "../parts/dialog";
import { Field } from "../parts/field";
import { showJob } from "../parts/job";
import { faultText } from "../parts/toasts";
import { t } from "../texts";

interface Props {
  vm: Vm;
  onClose: () => void;
}

const STRATEGIES: [string, string][] = [["auto", t.clone.auto], ["share", t.clone.share], ["copy", t.clone.copy]];

/** A clone is a new VM: it needs the role for all of them. */
export function whyNoClone(operations: Vm["operations"], verb: "clone" | "clone_vm"): string | undefined {
  return roleTooLow(me.value, "operator") ?? whyNot(operations, verb);
}

function partText(part: ClonePart): string {
  if (part.without === "unmanaged") return t.clone.without(part.why ?? "");
  return part.without === "not-held" ? t.clone.notHeld : bytes(part.bytes);
}

function Cost({ cost, strategy }: { cost: CloneCost; strategy: string }) {
  return (
    <>
      <p>{cost.way === "share" ? t.clone.willShare(bytes(cost.bytes)) : cost.way === "copy" ? t.clone.willCopy(bytes(cost.bytes)) : t.clone.mayEither(bytes(cost.bytes))}</p>
      <ul className="lm-volumes">
        {cost.parts.map((part) => <li key={part.id}>{part.name}: <span className="lm-bytes">{partText(part)}</span></li>)}
      </ul>
      {strategy === "share" && cost.way === "copy" && <Alert isInline variant="warning" title={t.clone.cannotShare} />}
      {cost.missing && <Alert isInline variant="warning" title={t.clone.noRoom(cost.missing.path, bytes(cost.missing.free), bytes(cost.missing.needed))} />}
    </>
  );
}

/** snapshot: none = the VM, which is off, as it is now. */
export function CloneDialog({ vm, snapshot, onClose }: Props & { snapshot?: Snapshot }) {
  const disks = useLive(`disks ${vm.id}`, [`vm:${vm.id}`], (signal) => api.disks(vm.id, signal));
  const domains = useLive("domains", ["storage"], api.storage);
  const [name, setName] = useState("");
  const [strategy, setStrategy] = useState("auto");
  const fault = disks.error ?? domains.error;
  const begin = async (): Promise<void> => {
    const { job } = await api.clone(vm.id, name, snapshot?.id, strategy);
    changed("vms", `vm:${vm.id}`);
    onClose();
    showJob(job?.id);
  };
  return (
    <Dialog title={t.clone.title(vm.name, snapshot?.description)} ok={t.clone.ok} blocked={nameWrong(name)} onOk={begin} onClose={onClose}>
      <div className="pf-v6-c-form">
        <p>{snapshot ? t.clone.ofSnapshot(snapshot.description, vm.name) : t.clone.ofVm(vm.name)} {t.clone.body}</p>
        <Field id="name" label={t.clone.name} value={name} onChange={setName} required first wrong={nameWrong(name)} help={t.create.nameHelp} />
        <FormGroup label={t.clone.data} fieldId="strategy">
          <FormSelect id="strategy" value={strategy} onChange={(_e, value) => setStrategy(value)}>
            {STRATEGIES.map(([value, label]) => <FormSelectOption key={value} value={value} label={label} />)}
          </FormSelect>
        </FormGroup>
        {fault && <Alert isInline variant="danger" title={faultText(fault)} />}
        {disks.data && domains.data && <Cost cost={cloneCost(disks.data, domains.data, snapshot?.id, strategy)} strategy={strategy} />}
      </div>
    </Dialog>
  );
}

const SHOWN_ENDS = 4;
function Files({ volumes, label }: { volumes: Volume[]; label: string }) {
  const { head, hidden, tail } = shortened(volumes, SHOWN_ENDS);
  const row = (v: Volume) => (
    <li key={v.id}>
      <span className="lm-file">{v.path}</span> <span className="lm-bytes">{bytes(v.allocated)}</span>
      {v.used_by !== undefined && <span className="lm-leaf"> {t.removeVm.usedBy(v.used_by)}</span>}
    </li>
  );
  return (
    <ul className="lm-volumes" aria-label={label}>
      {head.map(row)}
      {hidden > 0 && <li className="lm-hidden">{t.removeVm.more(hidden)}</li>}
      {tail.map(row)}
    </ul>
  );
}

/** What goes and what stays, in words and files. */
function WhatGoes({ vm, withDisks }: { vm: Vm; withDisks: boolean }) {
  const disks = useLive(`disks ${vm.id}`, [`vm:${vm.id}`], (signal) => api.disks(vm.id, signal));
  if (disks.error) return <Alert isInline variant="danger" title={faultText(disks.error)} />;
  if (!disks.data) return <p>{t.common.loading}</p>;
  const { goes, bytes: size, stays, leftAlone } = removalOf(disks.data);
  if (!withDisks) return <><p>{t.removeVm.stays(goes.length + stays.length)}</p><Files volumes={[...goes, ...stays]} label={t.removeVm.staysLabel} /></>;
  return (
    <>
      <Alert isInline variant="warning" title={t.removeVm.goes(goes.length, bytes(size), vm.snapshot_count ?? 0)} />
      <Files volumes={goes} label={t.removeVm.goesLabel} />
      {stays.length > 0 && <><p>{t.removeVm.shared(stays.length)}</p><Files volumes={stays} label={t.removeVm.staysLabel} /></>}
      {leftAlone.length > 0 && <p>{t.removeVm.leftAlone(leftAlone.join(", "))}</p>}
    </>
  );
}

function RemoveDialog({ vm, onClose }: Props) {
  const snapshots = vm.snapshot_count ?? 0;
  const [disksGo, setDisksGo] = useState(false);
  const [typed, setTyped] = useState("");
  const withDisks = disksGo || snapshots > 0;
  const begin = async (): Promise<void> => {
    const { job } = await api.removeVm(vm.id, !withDisks);
    vmChanged(vm.id);
    onClose();
    go("vms");
    showJob(job?.id);
  };
  const wrong = typed === vm.name ? undefined : t.removeVm.typeWrong;
  return (
    <Dialog title={t.removeVm.title(vm.name)} ok={t.removeVm.ok} danger blocked={wrong} onOk={begin} onClose={onClose}>
      <div className="pf-v6-c-form">
        <p>{t.removeVm.body}</p>
        <Checkbox id="disks-go" label={t.removeVm.disksGo} isChecked={withDisks} isDisabled={snapshots > 0}
          description={snapshots > 0 ? t.removeVm.mustGo(snapshots) : undefined} onChange={(_e, on) => setDisksGo(on)} />
        <WhatGoes vm={vm} withDisks={withDisks} />
        <Field id="typed" label={t.removeVm.type(vm.name)} value={typed} onChange={setTyped} required first wrong={wrong} />
      </div>
    </Dialog>
  );
}

export function VmButtons({ vm }: { vm: Vm }) {
  const [open, setOpen] = useState<"clone" | "remove">();
  const tooLow = roleTooLow(useStore(me), "administrator");
  const close = (): void => setOpen(undefined);
  return (
    <div className="lm-power">
      <ActionButton why={whyNoClone(vm.operations, "clone_vm")} onClick={() => setOpen("clone")}>{t.clone.verb}</ActionButton>
      <ActionButton variant="danger" why={tooLow ?? whyNot(vm.operations, "remove")} onClick={() => setOpen("remove")}>{t.removeVm.verb}</ActionButton>
      {open === "clone" && <CloneDialog vm={vm} onClose={close} />}
      {open === "remove" && <RemoveDialog vm={vm} onClose={close} />}
    </div>
  );
}
