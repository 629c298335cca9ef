// SPDX-License-Identifier: LGPL-2.1-or-later
// Jobs and events as lists, on a VM's page and in the bar at the bottom.
import { Button, Progress } from "@patternfly/react-core";
import { useState } from "react";
import type { Event, Job } from "../api/types";
import { to } from "../nav";
import { t } from "../texts";
import { Grid } from "./grid";
import type { Column } from "./grid";
import { JobDialog, took } from "./job";
import { JobStatus, Severity } from "./marks";
import { Empty, When } from "./view";

const ROW = 40;

const newestFirst = (a: Job, b: Job): number => Number(a.end_time !== undefined) - Number(b.end_time !== undefined) || (b.start_time ?? "").localeCompare(a.start_time ?? "");

export function JobList({ jobs, maxHeight }: { jobs: Job[]; maxHeight?: string }) {
  const [shown, show] = useState<string>();
  const columns: Column<Job>[] = [
    { key: "description", label: t.job.description, width: "minmax(10rem, 3fr)", render: (job) => <Button variant="link" isInline className="lm-name" title={job.description} onClick={() => show(job.id)}>{job.description}</Button> },
    { key: "status", label: t.job.status, width: "7rem", render: (job) => <JobStatus status={job.attention ? "paused" : job.status} /> },
    {
      key: "progress", label: t.job.progress, width: "minmax(8rem, 2fr)", drop: 1,
      render: (job) => job.end_time ? (job.error ? <span className="lm-name" title={job.error}>{job.error}</span> : null) : <Progress size="sm" value={job.progress?.percent ?? 0} aria-label={job.description} />,
    },
    { key: "start", label: t.job.start, width: "8rem", drop: 1, render: (job) => <When date={job.start_time} /> },
    { key: "took", label: t.job.took, width: "5rem", drop: 2, numeric: true, render: (job) => took(job) ?? t.common.unknown },
  ];
  return (
    <>
      {jobs.length === 0 ? <Empty title={t.job.none} /> : (
        <Grid label={t.tasks.tasks} rows={[...jobs].sort(newestFirst)} columns={columns} rowKey={(job) => job.id} rowHeight={ROW} maxHeight={maxHeight} />
      )}
      {shown !== undefined && <JobDialog id={shown} onClose={() => show(undefined)} />}
    </>
  );
}

const EVENT_COLUMNS: Column<Event>[] = [
  { key: "severity", label: t.events.severity, width: "6.5rem", render: (e) => <Severity severity={e.severity} /> },
  {
    key: "text", label: t.events.text, width: "minmax(12rem, 5fr)",
    render: (e) => e.vm ? <a className="lm-name" href={to("vms", e.vm.id, "events")} title={e.description}>{e.description}</a> : <span className="lm-name" title={e.description}>{e.description}</span>,
  },
  { key: "user", label: t.events.user, width: "minmax(6rem, 1fr)", drop: 2, render: (e) => <span className="lm-name">{e.user?.name ?? ""}</span> },
  { key: "time", label: t.events.time, width: "8.5rem", drop: 1, render: (e) => <When date={e.time} /> },
];

export function EventList({ events, maxHeight, none = t.events.none }: { events: Event[]; maxHeight?: string; none?: string }) {
  if (events.length === 0) return <Empty title={none} />;
  return <Grid label={t.events.text} rows={events} columns={EVENT_COLUMNS} rowKey={(e) => e.id} rowHeight={ROW} maxHeight={maxHeight} />;
}
