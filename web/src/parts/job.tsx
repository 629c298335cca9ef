// SPDX-License-Identifier: LGPL-2.1-or-later
// One job: how far it is, in the drawing of its plan if there is one, and what came of it beside what was planned.
import { Alert, Button, DescriptionList, DescriptionListDescription, DescriptionListGroup, DescriptionListTerm, Modal, ModalBody, ModalFooter, ModalHeader, Progress } from "@patternfly/react-core";
import { useEffect, useState } from "react";
import { api } from "../api/api";
import type { Finding, Job, JobDisk } from "../api/types";
import { jobTold, jobs, me, sessionStore, useStore } from "../live";
import type { DiskDrawing } from "../model/chain";
import { drawingOf } from "../model/drawings";
import { bytes, milliseconds, seconds } from "../model/format";
import { roleTooLow } from "../model/rights";
import { to } from "../nav";
import { t } from "../texts";
import { ActionButton } from "./action";
import { Chains } from "./chains";
import { focusSoon, useFocusBack } from "./focus";
import { JobStatus } from "./marks";
import { StaleNote } from "./stale";
import { toastFault } from "./toasts";

/** The job whose dialog is open, whatever page is: some take away or leave the page on which they were begun. */
const shown = sessionStore<string | undefined>(undefined);
export function showJob(id: string | undefined): void {
  shown.set(id);
}

export function useJob(id: string): Job | undefined {
  const all = useStore(jobs);
  const known = all.has(id);
  useEffect(() => {
    if (!known) api.job(id).then(jobTold, toastFault);
  }, [id, known]);
  return all.get(id);
}

function Row({ name, planned, outcome }: { name: string; planned: string; outcome: string }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{planned}</td>
      <td>{outcome}</td>
    </tr>
  );
}

function Comparison({ disk }: { disk: JobDisk }) {
  const { plan, outcome } = disk;
  if (!plan) return null;
  const or = (has: unknown, text: string): string => (has === undefined ? t.common.unknown : text);
  return (
    <table className="lm-compare" aria-label={`${t.job.outcome}: ${disk.name}`}>
      <thead>
        <tr>
          <th scope="col">{disk.name}</th>
          <th scope="col">{t.job.planned}</th>
          <th scope="col">{t.job.outcome}</th>
        </tr>
      </thead>
      <tbody>
        <Row name={t.remove.strategy} planned={plan.strategy ?? ""} outcome={outcome?.strategy ?? t.common.unknown} />
        <Row name={t.job.moved} planned={bytes(plan.bytes_written)} outcome={bytes(outcome?.bytes_written)} />
        {outcome?.bytes_shared ? <Row name={t.job.shared} planned={t.common.unknown} outcome={bytes(outcome.bytes_shared)} /> : null}
        <Row name={t.remove.time} planned={seconds(plan.seconds)} outcome={or(outcome, seconds(outcome?.seconds))} />
        <Row name={t.remove.pauses} planned={t.remove.pausesValue(plan.pauses ?? 0, milliseconds(plan.pause_ms))}
          outcome={or(outcome, t.remove.pausesValue(outcome?.pauses ?? 0, milliseconds(outcome?.pause_ms)))} />
        <Row name={t.job.verified} planned={t.common.unknown} outcome={outcome?.verified ?? t.common.unknown} />
      </tbody>
    </table>
  );
}

function Figures({ job }: { job: Job }) {
  const p = job.progress;
  const items: [string, string][] = [
    [t.job.done, t.job.of(bytes(p?.bytes_done), bytes(p?.bytes_total))],
    [t.job.rate, p?.rate ? `${bytes(p.rate)}/s` : t.common.unknown],
    [t.job.eta, p?.eta !== undefined && p.eta > 0 ? seconds(p.eta) : t.common.unknown],
  ];
  return (
    <DescriptionList isHorizontal isCompact columnModifier={{ default: "1Col", md: "3Col" }}>
      {items.map(([term, value]) => (
        <DescriptionListGroup key={term}>
          <DescriptionListTerm>{term}</DescriptionListTerm>
          <DescriptionListDescription>{value}</DescriptionListDescription>
        </DescriptionListGroup>
      ))}
    </DescriptionList>
  );
}

/** How long it took; undefined = it has not ended. */
export function took(job: Job): string | undefined {
  if (!job.start_time || !job.end_time) return undefined;
  return seconds((Date.parse(job.end_time) - Date.parse(job.start_time)) / 1000);
}

export function JobBody({ job, drawing, titled }: { job: Job; drawing?: DiskDrawing[]; /** the dialog's title is the description */ titled?: boolean }) {
  const disks = job.disks?.disk ?? [];
  const ended = job.end_time !== undefined;
  const drawn = new Set(drawing?.map((one) => one.diskId));
  const time = took(job);
  return (
    <div className="lm-job">
      <StaleNote />
      <p className="lm-line">
        <JobStatus status={job.status} /> {!titled && <span>{job.description}</span>}
        {time !== undefined && <span className="lm-note">{t.job.tookTime(time)}</span>}
      </p>
      {!ended && <Progress value={job.progress?.percent ?? 0} aria-label={t.job.progress} measureLocation="outside" />}
      {!ended && (job.progress?.bytes_total ?? 0) > 0 && <Figures job={job} />}
      {job.error && <Alert isInline variant="danger" title={job.error} />}
      {job.attention && <Alert isInline variant="warning" title={job.attention} />}
      {!ended && job.waiting_for && <Alert isInline variant="info" title={`${t.job.waitsFor}: ${job.waiting_for}`} />}
      {drawing && <Chains drawings={drawing} disks={disks}>{(id) => ended && disks.filter((disk) => disk.id === id).map((disk) => <Comparison key={id} disk={disk} />)}</Chains>}
      {ended && <Result job={job} />}
      {ended && disks.filter((disk) => !drawn.has(disk.id)).map((disk) => <Comparison key={disk.id} disk={disk} />)}
      {!drawing && !ended && disks.map((disk) => (
        <Progress key={disk.id} size="sm" title={t.remove.disk(disk.name)}
          value={disk.bytes_total ? Math.floor((100 * (disk.bytes_copied ?? 0)) / disk.bytes_total) : 0} />
      ))}
    </div>
  );
}

const fateOf = (f: Finding): string => `${f.state === "left" ? `${t.doctor.left}: ${f.why ?? ""}` : t.doctor.gone}. ${f.text}`;

/** What came of it, if that is more than that it is done. */
function Result({ job }: { job: Job }) {
  const lists: [string, string[]][] = [
    [t.clone.leftOut, job.left_out?.reason ?? []],
    [t.doctor.result, (job.findings?.finding ?? []).map(fateOf)],
    [t.removeVm.removed, job.volumes_removed?.volume ?? []],
    [t.removeVm.kept, (job.kept?.volume ?? []).map((v) => `${v.path}: ${v.why ?? ""}`)],
  ];
  return (
    <>
      {job.clone && <p>{t.clone.made}: <a href={to("vms", job.clone.id, "general")} onClick={() => showJob(undefined)}>{job.clone.name ?? job.clone.id}</a></p>}
      {job.configuration_kept && <Alert isInline variant="warning" title={t.job.configurationKept}>{job.configuration_kept}</Alert>}
      {lists.filter(([, rows]) => rows.length > 0).map(([title, rows]) => (
        <section key={title} aria-label={title}>
          <h3>{title}</h3>
          <ul className="lm-volumes">{rows.map((row) => <li key={row} className="lm-file">{row}</li>)}</ul>
        </section>
      ))}
    </>
  );
}

/** In the footer of the job's dialog. It asks in its place: a dialog above a dialog would hide both from screen readers. */
export function JobButtons({ job }: { job: Job }) {
  const [asks, setAsks] = useState(false);
  const refused = roleTooLow(useStore(me), "operator", job.vm?.id);
  const ended = job.end_time !== undefined;
  useEffect(focusSoon, [asks, ended]); // these buttons come and go
  if (ended) return null;
  const cancel = (): void => {
    setAsks(false);
    void api.cancelJob(job.id).catch(toastFault);
  };
  if (asks)
    return (
      <Alert isInline variant="warning" title={t.job.cancelTitle} className="lm-asks"
        actionLinks={
          <>
            <Button variant="danger" autoFocus onClick={cancel}>{t.job.cancel}</Button>
            <Button variant="link" onClick={() => setAsks(false)}>{t.job.keep}</Button>
          </>
        }>
        {t.job.cancelBody}
      </Alert>
    );
  return (
    <>
      {job.attention && (
        <ActionButton variant="primary" why={refused} onClick={() => void api.resumeJob(job.id).catch(toastFault)}>{t.job.resume}</ActionButton>
      )}
      <ActionButton variant="danger" why={refused} onClick={() => setAsks(true)}>{t.job.cancel}</ActionButton>
    </>
  );
}

export function JobDialog({ id, onClose }: { id: string; onClose: () => void }) {
  useFocusBack();
  const job = useJob(id);
  return (
    <Modal isOpen onClose={onClose} variant="large" aria-labelledby="lm-job-title">
      <ModalHeader title={job?.description ?? t.job.title} labelId="lm-job-title" />
      <ModalBody tabIndex={0} aria-label={t.job.progress}>{job ? <JobBody job={job} drawing={drawingOf(id)} titled /> : t.common.loading}</ModalBody>
      <ModalFooter>
        {job && <JobButtons job={job} />}
        <Button variant="secondary" onClick={onClose}>{job?.end_time ? t.common.close : t.job.background}</Button>
      </ModalFooter>
    </Modal>
  );
}

export function ShownJob() {
  const id = useStore(shown);
  return id !== undefined && <JobDialog key={id} id={id} onClose={() => showJob(undefined)} />;
}
