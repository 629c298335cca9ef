// SPDX-License-Identifier: LGPL-2.1-or-later
// Small signs of state.
import { Label } from "@patternfly/react-core";
import type { ComponentProps } from "react";
import { t } from "../texts";
import { Tip } from "./tip";

type Status = ComponentProps<typeof Label>["status"];

const VM_MARKS: Record<string, { sign: string; kind: string }> = {
  up: { sign: "▲", kind: "good" },
  down: { sign: "▼", kind: "off" },
  paused: { sign: "❚❚", kind: "warn" },
  suspended: { sign: "☾", kind: "off" },
  unknown: { sign: "?", kind: "warn" },
};

export function VmStatus({ status, detail }: { status: string; detail?: string }) {
  const mark = VM_MARKS[status] ?? { sign: "…", kind: "busy" };
  return (
    <span className="lm-status" title={detail}>
      <span aria-hidden="true" className={`lm-sign lm-${mark.kind}`}>{mark.sign}</span>
      {t.status[status] ?? status}
    </span>
  );
}

export function Mark({ text, hint, status, color }: { text: string; hint: string; status?: Status; color?: ComponentProps<typeof Label>["color"] }) {
  return (
    <Tip text={hint}>
      {(come) => (
        <Label isCompact variant="outline" {...(status ? { status } : { color: color ?? "grey" })} tabIndex={0} {...come}>
          {text}
        </Label>
      )}
    </Tip>
  );
}

const JOB_STATUS: Record<string, Status> = { finished: "success", failed: "danger", aborted: "warning", paused: "warning", started: "info" };
export function JobStatus({ status }: { status: string }) {
  const text = (t.job as unknown as Record<string, string>)[status] ?? status;
  const kind = JOB_STATUS[status];
  return <Label isCompact {...(kind ? { status: kind } : {})}>{text}</Label>;
}

const SEVERITY: Record<string, Status> = { warning: "warning", error: "danger", alert: "danger" };
export function Severity({ severity }: { severity: string }) {
  const kind = SEVERITY[severity];
  return <Label isCompact {...(kind ? { status: kind } : {})}>{t.severity[severity] ?? severity}</Label>;
}
