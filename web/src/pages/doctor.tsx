// SPDX-License-Identifier: LGPL-2.1-or-later
// What the doctor found, by VM, and mending what can be mended without risk.
import { Alert, Label, Title, Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core";
import { useState } from "react";
import { api } from "../api/api";
import type { Doctor as Report, Finding } from "../api/types";
import { me, useLive, useStore } from "../live";
import { bytes } from "../model/format";
import { roleTooLow } from "../model/rights";
import { to } from "../nav";
import { ActionButton } from "../parts/action";
import { Severity } from "../parts/marks";
import { JobDialog } from "../parts/job";
import { toastFault } from "../parts/toasts";
import { Again, Empty, Shown } from "../parts/view";
import { t } from "../texts";

function Row({ finding: f }: { finding: Finding }) {
  return (
    <tr>
      <td><Severity severity={f.severity === "notice" ? "normal" : f.severity} /></td>
      <td><Label isCompact variant="outline">{f.class}</Label></td>
      <td>
        {f.text}
        {f.file && <div className="lm-file">{f.file}</div>}
      </td>
      <td>{f.fix ?? f.help ?? ""}</td>
    </tr>
  );
}

/** Findings of a VM, or of none ("" as name). */
function group(findings: Finding[]): [string, Finding[]][] {
  const groups = new Map<string, Finding[]>();
  for (const f of findings) groups.set(f.vm?.id ?? "", [...(groups.get(f.vm?.id ?? "") ?? []), f]);
  return [...groups];
}

function VmFindings({ id, findings, onJob }: { id: string; findings: Finding[]; onJob: (job: string) => void }) {
  const [busy, setBusy] = useState(false);
  const refused = roleTooLow(useStore(me), "administrator");
  const name = findings[0]?.vm?.name ?? findings[0]?.host ?? "";
  const mendable = id !== "" && findings.some((f) => f.can_fix === "yes");
  const mend = async (): Promise<void> => {
    setBusy(true);
    try {
      const job = (await api.mend(id, [])).job?.id;
      if (job) onJob(job);
    } catch (error) {
      toastFault(error);
    }
    setBusy(false);
  };
  return (
    <section className="lm-card">
      <div className="lm-title">
        <h2>{id ? <a href={to("vms", id, "snapshots")}>{name}</a> : name}</h2>
        {mendable && <ActionButton busy={busy} why={refused} onClick={() => void mend()}>{t.doctor.mend}</ActionButton>}
      </div>
      <div className="lm-scroll" role="region" tabIndex={0} aria-label={`${t.doctor.title}: ${name}`}>
        <table className="lm-compare lm-wide">
          <thead>
            <tr>
              <th scope="col">{t.events.severity}</th>
              <th scope="col">{t.doctor.class}</th>
              <th scope="col">{t.doctor.text}</th>
              <th scope="col">{t.doctor.fix}</th>
            </tr>
          </thead>
          <tbody>{findings.map((f, i) => <Row key={i} finding={f} />)}</tbody>
        </table>
      </div>
    </section>
  );
}

function Unread({ report }: { report: Report }) {
  const rows = [
    ...(report.busy_vms?.vm ?? []).map((vm) => `${vm.name}: ${vm.why ?? ""}`),
    ...(report.silent_hosts?.host ?? []).map((h) => `${h.name}: ${h.why ?? ""}`),
    ...(report.unread?.storage ?? []).map((s) => `${s.host} ${s.path}: ${s.why ?? ""}`),
  ];
  if (rows.length === 0) return null;
  return (
    <Alert isInline variant="warning" title={t.doctor.unread}>
      <ul>{rows.map((row) => <li key={row}>{row}</li>)}</ul>
    </Alert>
  );
}

export function Doctor() {
  const view = useLive("doctor", ["doctor"], api.doctor);
  const [job, setJob] = useState<string>();
  return (
    <>
      <Title headingLevel="h1">{t.doctor.title}</Title>
      <Toolbar inset={{ default: "insetNone" }}>
        <ToolbarContent>
          <ToolbarItem><Again view={view} variant="secondary">{t.doctor.again}</Again></ToolbarItem>
        </ToolbarContent>
      </Toolbar>
      <Shown view={view}>
        {(report) => (
          <>
            <Unread report={report} />
            {(report.findings?.finding ?? []).length === 0 ? <Empty title={t.doctor.healthy}>{t.doctor.healthyBody}</Empty>
              : group(report.findings?.finding ?? []).map(([id, findings]) => <VmFindings key={id} id={id} findings={findings} onJob={setJob} />)}
            {(report.kept?.files ?? 0) > 0 && <p className="lm-note">{t.doctor.kept(report.kept?.files ?? 0, bytes(report.kept?.bytes))}</p>}
          </>
        )}
      </Shown>
      {job !== undefined && <JobDialog id={job} onClose={() => { setJob(undefined); void view.reload(); }} />}
    </>
  );
}
