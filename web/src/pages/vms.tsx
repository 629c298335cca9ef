// SPDX-License-Identifier: LGPL-2.1-or-later
// The list of VMs.
import { SearchInput, Title, Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core";
import { useMemo, useState } from "react";
import { api } from "../api/api";
import type { Vm } from "../api/types";
import { useLive } from "../live";
import { bytes } from "../model/format";
import { to } from "../nav";
import { Grid, sorted } from "../parts/grid";
import type { Column, Sort } from "../parts/grid";
import { Mark, VmStatus } from "../parts/marks";
import { usePhone } from "../parts/phone";
import { PowerMenu } from "../parts/power";
import { Empty, Shown } from "../parts/view";
import { t } from "../texts";

const ROW = 44;

/** Layers that no snapshot tells of. */
const isDeep = (vm: Vm): boolean => vm.snapshot_count !== undefined && (vm.chain_depth ?? 0) > vm.snapshot_count + 1;

function Warnings({ vm }: { vm: Vm }) {
  return (
    <span className="lm-marks">
      {vm.has_illegal_images && <Mark status="danger" text={t.snapshots.unusable} hint={`${vm.name} ${t.vms.unusable}`} />}
      {isDeep(vm) && <Mark text={t.vms.deep} hint={t.vms.deepHint(vm.chain_depth ?? 0, vm.snapshot_count ?? 0)} />}
      {vm.unmanaged && <Mark status="warning" text={t.vm.unmanaged} hint={vm.unmanaged} />}
      {vm.status === "unknown" && <Mark status="warning" text={t.status.unknown ?? ""} hint={vm.status_detail ?? t.hosts.silentBody} />}
    </span>
  );
}

/** On a phone with what has no column there. */
function Name({ vm }: { vm: Vm }) {
  const phone = usePhone();
  const rest = [vm.host?.name, vm.snapshot_count !== undefined && t.snapshots.count(vm.snapshot_count), vm.has_illegal_images && t.snapshots.unusable, vm.unmanaged && t.vm.unmanaged];
  return (
    <span className="lm-stacked">
      <a className="lm-name" title={vm.name} href={to("vms", vm.id, "snapshots")}>{vm.name}</a>
      {phone && <span className="lm-small">{rest.filter(Boolean).join(" · ")}</span>}
    </span>
  );
}

const COLUMNS: Column<Vm>[] = [
  { key: "name", label: t.vms.name, width: "minmax(8rem, 6fr)", sort: (vm) => vm.name, render: (vm) => <Name vm={vm} /> },
  { key: "status", label: t.vms.status, width: "minmax(6.5rem, 1fr)", sort: (vm) => vm.status, render: (vm) => <VmStatus status={vm.status} detail={vm.status_detail} /> },
  { key: "host", label: t.vms.host, width: "minmax(4rem, 1fr)", drop: 1, sort: (vm) => vm.host?.name ?? "", render: (vm) => vm.host?.name ?? t.common.unknown },
  { key: "snapshots", label: t.vms.snapshots, width: "5.5rem", drop: 1, numeric: true, sort: (vm) => vm.snapshot_count ?? 0, render: (vm) => vm.snapshot_count ?? t.common.unknown },
  { key: "depth", label: <span title={t.vms.depthHint}>{t.vms.depth}</span>, width: "5rem", drop: 2, numeric: true, sort: (vm) => vm.chain_depth ?? 0, render: (vm) => vm.chain_depth ?? t.common.unknown },
  { key: "data", label: t.vms.data, width: "7rem", drop: 2, numeric: true, sort: (vm) => vm.chain_bytes ?? 0, render: (vm) => bytes(vm.chain_bytes) },
  { key: "warnings", label: t.vms.warnings, width: "minmax(6rem, 1fr)", drop: 2, sort: (vm) => 4 * Number(vm.has_illegal_images ?? false) + 2 * Number(vm.unmanaged !== undefined) + Number(isDeep(vm)), render: (vm) => <Warnings vm={vm} /> },
  { key: "power", label: <span className="pf-v6-screen-reader">{t.common.actions}</span>, width: "3rem", render: (vm) => <PowerMenu vm={vm} /> },
];

export function matches(vm: Vm, words: string): boolean {
  const text = `${vm.name} ${vm.host?.name ?? ""} ${t.status[vm.status] ?? vm.status}`.toLowerCase();
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function List({ vms }: { vms: Vm[] }) {
  const [words, setWords] = useState("");
  const [sort, setSort] = useState<Sort>({ key: "name", down: false });
  const rows = useMemo(() => sorted(vms.filter((vm) => matches(vm, words)), COLUMNS, sort), [vms, words, sort]);
  if (vms.length === 0) return <Empty title={t.vms.empty}>{t.vms.emptyBody}</Empty>;
  return (
    <>
      <Toolbar inset={{ default: "insetNone" }}>
        <ToolbarContent>
          <ToolbarItem>
            <SearchInput className="lm-search" aria-label={t.vms.search} placeholder={t.vms.search} value={words} onChange={(_e, value) => setWords(value)} onClear={() => setWords("")} />
          </ToolbarItem>
          <ToolbarItem alignSelf="center">
            <span aria-live="polite">{t.vms.count(rows.length)}</span>
          </ToolbarItem>
        </ToolbarContent>
      </Toolbar>
      <Grid label={t.vms.title} rows={rows} columns={COLUMNS} rowKey={(vm) => vm.id} rowHeight={ROW} sort={sort} onSort={setSort} />
    </>
  );
}

export function Vms() {
  const view = useLive("vms", ["vms"], api.vms);
  return (
    <>
      <Title headingLevel="h1">{t.vms.title}</Title>
      <Shown view={view}>{(vms) => <List vms={vms} />}</Shown>
    </>
  );
}
