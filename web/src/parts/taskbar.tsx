// SPDX-License-Identifier: LGPL-2.1-or-later
// The bar at the bottom: what runs, and what needs somebody, as in oVirt.
import { Button, Label, Tab, Tabs, TabTitleText } from "@patternfly/react-core";
import { useState } from "react";
import type { Event } from "../api/types";
import { events, jobs, useStore } from "../live";
import { t } from "../texts";
import { alertsOf, dismissAll, dismissed } from "./alerts";
import { focusSoon } from "./focus";
import { EventList, JobList } from "./lists";

function Alerts({ alerts, onDismiss }: { alerts: Event[]; onDismiss: () => void }) {
  return (
    <>
      {alerts.length > 0 && (
        <p className="lm-line lm-note">
          <Button variant="link" isInline onClick={onDismiss}>{t.tasks.dismiss}</Button> {t.tasks.dismissHint}
        </p>
      )}
      <EventList events={alerts} maxHeight="30vh" none={t.tasks.noAlerts} />
    </>
  );
}

export function TaskBar() {
  const [open, setOpen] = useState(false);
  const [tab, setTab] = useState<string | number>("tasks");
  const all = [...useStore(jobs).values()];
  const told = useStore(events);
  const running = all.filter((job) => job.end_time === undefined);
  const alerts = alertsOf(told, useStore(dismissed));
  const last = running[0];
  return (
    <section className="lm-bar" aria-label={t.tasks.bar}>
      <div className="lm-bar-line">
        <Button variant="plain" aria-expanded={open} aria-label={open ? t.tasks.shut : t.tasks.open} onClick={() => setOpen(!open)}>
          <span aria-hidden="true">{open ? "▾" : "▴"}</span>
        </Button>
        <Button variant="link" isInline onClick={() => { setTab("tasks"); setOpen(true); }}>{t.tasks.tasks}</Button>
        <Label isCompact {...(running.length > 0 ? { status: "info" as const } : {})}>{running.length > 0 ? t.tasks.running(running.length) : t.tasks.none}</Label>
        <Button variant="link" isInline onClick={() => { setTab("alerts"); setOpen(true); }}>{t.tasks.alerts}</Button>
        <Label isCompact {...(alerts.length > 0 ? { status: "warning" as const } : {})}>{alerts.length}</Label>
        <span className="lm-bar-last">{last ? `${last.description}: ${last.progress?.percent ?? 0} %` : (told[0]?.description ?? "")}</span>
      </div>
      {open && (
        <div className="lm-bar-body">
          <Tabs activeKey={tab} onSelect={(_e, key) => setTab(key)} aria-label={t.tasks.bar}>
            <Tab eventKey="tasks" title={<TabTitleText>{t.tasks.tasks}</TabTitleText>}><JobList jobs={all} maxHeight="30vh" /></Tab>
            <Tab eventKey="alerts" title={<TabTitleText>{t.tasks.alerts}</TabTitleText>}><Alerts alerts={alerts} onDismiss={() => { dismissAll(told); focusSoon(); }} /></Tab>
            <Tab eventKey="events" title={<TabTitleText>{t.tasks.events}</TabTitleText>}><EventList events={told} maxHeight="30vh" /></Tab>
          </Tabs>
        </div>
      )}
    </section>
  );
}
