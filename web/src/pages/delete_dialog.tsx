// SPDX-License-Identifier: LGPL-2.1-or-later
// Delete: the plan first, then, in the same drawing, what is done.
import {
  Alert, Bullseye, Button, DescriptionList, DescriptionListDescription, DescriptionListGroup, DescriptionListTerm,
  ExpandableSection, Form, FormGroup, FormSelect, FormSelectOption, Modal, ModalBody, ModalFooter, ModalHeader, Spinner,
} from "@patternfly/react-core";
import { useEffect, useState } from "react";
import { api } from "../api/api";
import { Fault } from "../api/http";
import type { Costs, Disk, Plan, PlanRun, Snapshot, Vm } from "../api/types";
import { drawPlan } from "../model/chain";
import type { DiskDrawing } from "../model/chain";
import { bandwidthWrong } from "../model/check";
import { keepDrawing } from "../model/drawings";
import { bytes, milliseconds, seconds } from "../model/format";
import { secondsUnder } from "../model/limit";
import { ActionButton } from "../parts/action";
import { Chains } from "../parts/chains";
import { Field } from "../parts/field";
import { useFocusBack } from "../parts/focus";
import { JobBody, JobButtons, useJob } from "../parts/job";
import { StaleNote } from "../parts/stale";
import { faultText } from "../parts/toasts";
import { t } from "../texts";

const STRATEGIES = ["auto", "graft", "commit", "commit-active", "copy", "cold-commit"];
const VERIFY: [string, string][] = [["extents", t.remove.verifyExtents], ["full", t.remove.verifyFull], ["none", t.remove.verifyNone]];

interface Props {
  vm: Vm;
  snapshots: Snapshot[];
  onClose: () => void;
}

interface Planned {
  plan: Plan;
  drawing: DiskDrawing[];
}

function usePlan(vm: Vm, snapshots: Snapshot[], strategy: string): { planned?: Planned; fault?: unknown; again: () => void } {
  const [result, setResult] = useState<{ of: string; planned?: Planned; fault?: unknown }>({ of: "" });
  const [round, setRound] = useState(0);
  const ids = snapshots.map((s) => s.id).join(" ");
  const asked = `${vm.id} ${strategy} ${round} ${ids}`;
  useEffect(() => {
    const control = new AbortController();
    const wanted = ids.split(" ");
    Promise.all([api.plan(vm.id, wanted, strategy, control.signal), api.disks(vm.id, control.signal)]).then(
      ([plan, attachments]) => {
        const disks: Disk[] = attachments.map((a) => a.disk);
        setResult({ of: asked, planned: { plan, drawing: drawPlan(plan, disks, new Set(wanted)) } });
      },
      (fault: unknown) => {
        if (!control.signal.aborted) setResult({ of: asked, fault });
      },
    );
    return () => control.abort();
  }, [vm.id, ids, strategy, asked]);
  const { planned, fault } = result.of === asked ? result : {};
  return { planned, fault, again: () => setRound(round + 1) };
}

function costItems(c: Costs): [string, string][] {
  return [
    [t.remove.read, bytes(c.bytes_read)],
    [t.remove.written, bytes(c.bytes_written)],
    [t.remove.peak, bytes(c.space_peak)],
    [t.remove.freed, bytes(c.space_freed)],
    [t.remove.time, seconds(c.seconds)],
    [t.remove.pauses, t.remove.pausesValue(c.pauses ?? 0, milliseconds(c.pause_ms))],
  ];
}

function Totals({ plan, limit }: { plan: Plan; limit: number }) {
  const totals = { ...plan.totals, seconds: secondsUnder(limit, plan.totals.seconds, plan.runs?.run ?? []) };
  return (
    <>
      <DescriptionList isCompact columnModifier={{ default: "2Col", md: "3Col" }} aria-label={t.remove.plan}>
        {costItems(totals).map(([term, value]) => (
          <DescriptionListGroup key={term}>
            <DescriptionListTerm>{term}</DescriptionListTerm>
            <DescriptionListDescription>{plan.exact ? value : value.replace(/^(?=[\d])/, "≤ ")}</DescriptionListDescription>
          </DescriptionListGroup>
        ))}
      </DescriptionList>
      {!plan.exact && <p className="lm-note">{t.remove.upper}</p>}
    </>
  );
}

function Alternatives({ run }: { run: PlanRun }) {
  return (
    <ExpandableSection toggleText={t.remove.why} className="lm-why">
      <div className="lm-scroll" tabIndex={0} role="region" aria-label={t.remove.why}>
        <table className="lm-compare">
          <thead>
            <tr>
              <th scope="col">{t.remove.strategy}</th>
              {costItems({}).map(([term]) => <th scope="col" key={term}>{term}</th>)}
            </tr>
          </thead>
          <tbody>
            {run.options.map((option) => (
              <tr key={option.strategy} className={option.strategy === run.strategy ? "lm-chosen" : undefined}>
                <th scope="row">{option.strategy}</th>
                {option.possible ? (
                  costItems(option).map(([term, value]) => <td key={term}>{value}</td>)
                ) : (
                  <td colSpan={6}>{t.remove.notPossible}: {option.why}</td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </ExpandableSection>
  );
}

interface Choice {
  strategy: string;
  verify: string;
  bandwidth: string;
}

function Choices({ choice, onChange }: { choice: Choice; onChange: (choice: Choice) => void }) {
  return (
    <Form className="lm-choices" onSubmit={(event) => event.preventDefault()}>
      <FormGroup label={t.remove.strategy} fieldId="strategy">
        <FormSelect id="strategy" value={choice.strategy} onChange={(_e, strategy) => onChange({ ...choice, strategy })}>
          {STRATEGIES.map((s) => <FormSelectOption key={s} value={s} label={s === "auto" ? t.remove.auto : (t.remove.strategies[s] ?? s)} />)}
        </FormSelect>
      </FormGroup>
      <FormGroup label={t.remove.verify} fieldId="verify">
        <FormSelect id="verify" value={choice.verify} onChange={(_e, verify) => onChange({ ...choice, verify })}>
          {VERIFY.map(([value, label]) => <FormSelectOption key={value} value={value} label={label} />)}
        </FormSelect>
      </FormGroup>
      <Field id="bandwidth" label={t.remove.bandwidth} value={choice.bandwidth} help={t.remove.bandwidthUnit}
        wrong={bandwidthWrong(choice.bandwidth)} onChange={(bandwidth) => onChange({ ...choice, bandwidth })} />
    </Form>
  );
}

function PlanBody({ planned, limit }: { planned: Planned; limit: number }) {
  const runs = planned.plan.runs?.run ?? [];
  return (
    <>
      {!planned.plan.possible && <Alert isInline variant="danger" title={t.remove.blocked}>{planned.plan.why}</Alert>}
      <Totals plan={planned.plan} limit={limit} />
      <Chains drawings={planned.drawing}>
        {(diskId) => runs.filter((r) => r.disk.id === diskId).map((run, i) => <Alternatives key={i} run={run} />)}
      </Chains>
    </>
  );
}

function Doing({ id, drawing, title, onClose }: { id: string; drawing: DiskDrawing[]; title: string; onClose: () => void }) {
  const job = useJob(id);
  return (
    <Modal isOpen onClose={onClose} variant="large" aria-labelledby="lm-delete-title">
      <ModalHeader title={title} labelId="lm-delete-title" />
      <ModalBody tabIndex={0} aria-label={t.job.progress}>{job ? <JobBody job={job} drawing={drawing} /> : <Bullseye><Spinner aria-label={t.common.loading} /></Bullseye>}</ModalBody>
      <ModalFooter>
        {job && <JobButtons job={job} />}
        <Button variant={job?.end_time ? "primary" : "secondary"} onClick={onClose}>{job?.end_time ? t.common.close : t.job.background}</Button>
      </ModalFooter>
    </Modal>
  );
}

export function DeleteDialog({ vm, snapshots, onClose }: Props) {
  useFocusBack();
  const [choice, setChoice] = useState<Choice>({ strategy: "auto", verify: "extents", bandwidth: "0" });
  const { planned, fault, again } = usePlan(vm, snapshots, choice.strategy);
  const [begun, setBegun] = useState<{ id: string; drawing: DiskDrawing[] }>();
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<unknown>();
  const title = t.remove.title(snapshots.length, vm.name);
  const begin = async (): Promise<void> => {
    if (!planned) return;
    setBusy(true);
    setRefused(undefined);
    try {
      const answer = await api.removeSnapshots(vm.id, snapshots.map((s) => s.id), choice.strategy, choice.verify, Number(choice.bandwidth));
      const id = answer.job?.id ?? "";
      keepDrawing(id, planned.drawing);
      setBegun({ id, drawing: planned.drawing });
    } catch (error) {
      setRefused(error);
      setBusy(false);
    }
  };
  if (begun) return <Doing id={begun.id} drawing={begun.drawing} title={title} onClose={onClose} />;
  const limit = bandwidthWrong(choice.bandwidth);
  const why = !planned ? (fault !== undefined ? faultText(fault) : t.remove.planning) : !planned.plan.possible ? `${t.remove.blocked}. ${planned.plan.why ?? ""}` : limit && `${t.remove.bandwidth}: ${limit}`;
  return (
    <Modal isOpen onClose={onClose} variant="large" aria-labelledby="lm-delete-title">
      <ModalHeader title={title} labelId="lm-delete-title" description={snapshots.map((s) => s.description).join(", ")} />
      <ModalBody tabIndex={0} aria-label={t.remove.plan}>
        <StaleNote />
        <Choices choice={choice} onChange={setChoice} />
        {refused !== undefined && <Alert isInline variant="danger" title={faultText(refused)} />}
        {fault !== undefined && (
          <Alert isInline variant="danger" title={faultText(fault)}
            actionLinks={fault instanceof Fault && fault.gone ? undefined : <Button variant="link" onClick={again}>{t.common.retry}</Button>} />
        )}
        {planned ? <PlanBody planned={planned} limit={limit !== undefined ? 0 : Number(choice.bandwidth)} /> : fault === undefined && <Bullseye><Spinner aria-label={t.remove.planning} /></Bullseye>}
      </ModalBody>
      <ModalFooter>
        <ActionButton variant="danger" onClick={() => void begin()} busy={busy} why={why}>{t.remove.ok}</ActionButton>
        <Button variant="link" onClick={onClose}>{t.common.cancel}</Button>
      </ModalFooter>
    </Modal>
  );
}
