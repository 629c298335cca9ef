// SPDX-License-Identifier: LGPL-2.1-or-later
// One VM: its tabs.
import {
  Alert, Breadcrumb, BreadcrumbItem, DescriptionList, DescriptionListDescription, DescriptionListGroup, DescriptionListTerm, Title,
} from "@patternfly/react-core";
import { api } from "../api/api";
import type { DiskAttachment, Vm, Volume } from "../api/types";
import { PAST, events, jobs, useLive, useStore } from "../live";
import { shortened } from "../model/chain";
import { bytes, fileName } from "../model/format";
import { together } from "../model/past";
import { to } from "../nav";
import { VmStatus } from "../parts/marks";
import { EventList, JobList } from "../parts/lists";
import { PowerButtons } from "../parts/power";
import { Empty, Shown } from "../parts/view";
import { t } from "../texts";
import { Snapshots } from "./snapshots";
import { VmButtons } from "./vm_dialogs";

const TABS = ["general", "disks", "snapshots", "jobs", "events"] as const;
type TabKey = (typeof TABS)[number];

function General({ vm }: { vm: Vm }) {
  const top = vm.cpu?.topology;
  const items: [string, React.ReactNode][] = [
    [t.vms.name, vm.name],
    [t.vms.status, <VmStatus key="s" status={vm.status} detail={vm.status_detail} />],
    [t.vm.detail, vm.status_detail],
    [t.vms.host, vm.host?.name],
    [t.vm.memory, bytes(vm.memory)],
    [t.vm.cpus, (top?.sockets ?? 1) * (top?.cores ?? 1) * (top?.threads ?? 1)],
    [t.vms.snapshots, vm.snapshot_count],
    [t.vms.depth, vm.chain_depth],
    [t.vms.data, bytes(vm.chain_bytes)],
    [t.vm.id, vm.id],
  ];
  return (
    <div className="lm-fill">
      {vm.unmanaged && <Alert isInline variant="warning" title={t.vm.unmanaged}>{vm.unmanaged}</Alert>}
      <PowerButtons vm={vm} />
      <VmButtons vm={vm} />
      <DescriptionList isHorizontal isCompact columnModifier={{ default: "1Col", lg: "2Col" }}>
        {items.filter(([, value]) => value !== undefined).map(([term, value]) => (
          <DescriptionListGroup key={term}>
            <DescriptionListTerm>{term}</DescriptionListTerm>
            <DescriptionListDescription>{value}</DescriptionListDescription>
          </DescriptionListGroup>
        ))}
      </DescriptionList>
    </div>
  );
}

function VolumeList({ volumes }: { volumes: Volume[] }) {
  const { head, hidden, tail } = shortened(volumes, 4);
  const row = (v: Volume) => (
    <li key={v.id} title={v.path}>
      <span className="lm-file">{fileName(v.path)}</span> <span className="lm-bytes">{v.format}, {bytes(v.allocated)}</span>
    </li>
  );
  return (
    <ol className="lm-volumes">
      {head.map(row)}
      {hidden > 0 && <li className="lm-hidden">{t.remove.hidden(hidden)}</li>}
      {tail.map(row)}
    </ol>
  );
}

function DiskCard({ attachment: a }: { attachment: DiskAttachment }) {
  const volumes = a.disk.volumes?.volume ?? [];
  const items: [string, React.ReactNode][] = [
    [t.disks.bus, `${a.interface ?? ""} ${a.logical_name ?? ""}${a.bootable ? `, ${t.disks.boot}` : ""}`],
    [t.disks.size, bytes(a.disk.provisioned_size)],
    [t.disks.allocated, bytes(a.disk.total_size)],
    [t.disks.domain, a.disk.storage_domains?.storage_domain?.[0]?.name],
    [t.disks.chain, volumes.length > 0 ? <VolumeList key="v" volumes={volumes} /> : undefined],
  ];
  return (
    <section className="lm-card">
      <h2>{a.disk.target} <small>{t.disks.volumes(volumes.length)}</small></h2>
      {a.disk.unmanaged && <Alert isInline isPlain variant="warning" title={`${t.disks.unmanaged}: ${a.disk.unmanaged}`} />}
      <DescriptionList isHorizontal isCompact>
        {items.filter(([, value]) => value !== undefined).map(([term, value]) => (
          <DescriptionListGroup key={term}>
            <DescriptionListTerm>{term}</DescriptionListTerm>
            <DescriptionListDescription>{value}</DescriptionListDescription>
          </DescriptionListGroup>
        ))}
      </DescriptionList>
    </section>
  );
}

function Disks({ vm }: { vm: Vm }) {
  const view = useLive(`disks ${vm.id}`, [`vm:${vm.id}`], (signal) => api.disks(vm.id, signal));
  return (
    <Shown view={view}>
      {(list) =>
        list.length === 0 ? <Empty title={t.disks.none} /> : <div className="lm-cards" tabIndex={0} role="region" aria-label={t.vm.tabs.disks}>{list.map((a) => <DiskCard key={a.id} attachment={a} />)}</div>
      }
    </Shown>
  );
}

function VmJobs({ vm }: { vm: Vm }) {
  const told = [...useStore(jobs).values()].filter((job) => job.vm?.id === vm.id);
  const view = useLive(`jobs ${vm.id}`, [PAST], (signal) => api.vmJobs(vm.id, signal));
  return <Shown view={view}>{(asked) => <JobList jobs={together(told, asked, (job) => job.id)} />}</Shown>;
}

function VmEvents({ vm }: { vm: Vm }) {
  const told = useStore(events).filter((event) => event.vm?.id === vm.id);
  const view = useLive(`events ${vm.id}`, [PAST], (signal) => api.vmEvents(vm.id, signal));
  return <Shown view={view}>{(asked) => <EventList events={together(told, asked, (event) => event.id)} />}</Shown>;
}

function Body({ vm, tab }: { vm: Vm; tab: TabKey }) {
  switch (tab) {
    case "general": return <General vm={vm} />;
    case "disks": return <Disks vm={vm} />;
    case "snapshots": return <Snapshots key={vm.id} vm={vm} />;
    case "jobs": return <VmJobs vm={vm} />;
    case "events": return <VmEvents vm={vm} />;
  }
}

/** Each tab is a page with an address: links, in the form of tabs. */
function TabLinks({ id, vm, tab }: { id: string; vm: Vm; tab: TabKey }) {
  return (
    <nav className="pf-v6-c-tabs" aria-label={vm.name}>
      <ul className="pf-v6-c-tabs__list">
        {TABS.map((key) => (
          <li key={key} className={`pf-v6-c-tabs__item${key === tab ? " pf-m-current" : ""}`}>
            <a className="pf-v6-c-tabs__link" href={to("vms", id, key)} aria-current={key === tab ? "page" : undefined}>
              <span className="pf-v6-c-tabs__item-text">{t.vm.tabs[key]}</span>
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

export function VmPage({ id, tab: wanted }: { id: string; tab?: string }) {
  const view = useLive(`vm ${id}`, [`vm:${id}`], (signal) => api.vm(id, signal));
  const tab: TabKey = TABS.find((one) => one === wanted) ?? "general";
  return (
    <>
      <Breadcrumb>
        <BreadcrumbItem to={to("vms")}>{t.vms.title}</BreadcrumbItem>
        <BreadcrumbItem isActive>{view.data?.name ?? id}</BreadcrumbItem>
      </Breadcrumb>
      <Shown view={view} heading="h1">
        {(vm) => (
          <>
            <div className="lm-title">
              <Title headingLevel="h1" className="lm-name">{vm.name}</Title>
              <VmStatus status={vm.status} detail={vm.status_detail} />
            </div>
            <TabLinks id={id} vm={vm} tab={tab} />
            <Body vm={vm} tab={tab} />
          </>
        )}
      </Shown>
    </>
  );
}
