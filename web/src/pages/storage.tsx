// SPDX-License-Identifier: LGPL-2.1-or-later
// Storage domains, what of the disks lies on them, and taking over after a manager was lost.
import { Alert, Checkbox, Title, Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core";
import { useState } from "react";
import { api } from "../api/api";
import type { Disk, ImportReport, StorageDomain } from "../api/types";
import { changedAll, me, useLive, useStore } from "../live";
import { pathWrong } from "../model/check";
import { bytes } from "../model/format";
import { roleTooLow } from "../model/rights";
import { ActionButton } from "../parts/action";
import { Dialog } from "../parts/dialog";
import { Field } from "../parts/field";
import { Grid } from "../parts/grid";
import type { Column } from "../parts/grid";
import { toast } from "../parts/toasts";
import { Empty, Shown } from "../parts/view";
import { t } from "../texts";

interface Row {
  domain: StorageDomain;
  disks: number;
  volumes: number;
  bytes: number;
}

function count(domains: StorageDomain[], disks: Disk[]): Row[] {
  return domains.map((domain) => {
    const path = domain.storage?.path ?? domain.name;
    const here = (file: string): boolean => file.slice(0, file.lastIndexOf("/")) === path;
    const volumes = new Map(disks.flatMap((d) => d.volumes?.volume ?? []).filter((v) => here(v.path)).map((v) => [v.path, v.allocated ?? 0]));
    return {
      domain,
      disks: disks.filter((d) => (d.volumes?.volume ?? []).some((v) => here(v.path))).length,
      volumes: volumes.size,
      bytes: [...volumes.values()].reduce((sum, b) => sum + b, 0),
    };
  });
}

const COLUMNS: Column<Row>[] = [
  { key: "path", label: t.storage.path, width: "minmax(8rem, 6fr)", render: (r) => <span className="lm-name lm-path" title={r.domain.storage?.path}><bdi>{r.domain.storage?.path ?? r.domain.name}</bdi></span> },
  { key: "disks", label: t.storage.disks, width: "3.5rem", drop: 1, numeric: true, render: (r) => r.disks },
  { key: "volumes", label: t.storage.volumes, width: "4.5rem", drop: 1, numeric: true, render: (r) => r.volumes },
  { key: "data", label: t.vms.data, width: "7rem", drop: 1, numeric: true, render: (r) => bytes(r.bytes) },
  { key: "free", label: t.storage.free, width: "5rem", numeric: true, render: (r) => bytes(r.domain.available) },
  { key: "total", label: t.storage.total, width: "5rem", drop: 1, numeric: true, render: (r) => bytes(r.domain.used === undefined ? undefined : r.domain.used + (r.domain.available ?? 0)) },
  { key: "sharing", label: <span title={t.storage.sharingHint}>{t.storage.sharing}</span>, width: "7rem", drop: 2, render: (r) => (r.domain.shares_blocks === undefined ? t.common.unknown : r.domain.shares_blocks ? t.common.yes : t.common.no) },
  { key: "holder", label: <span title={t.storage.holderHint}>{t.storage.holder}</span>, width: "minmax(5rem, 1fr)", drop: 2, render: (r) => <span className="lm-name" title={r.domain.holder}>{r.domain.holder ?? t.common.unknown}</span> },
];

function Found({ report }: { report: ImportReport }) {
  const doubts = report.doubts?.doubt ?? [];
  return (
    <>
      <Alert isInline variant="info" title={t.storage.found(report.totals?.vm_count ?? 0, report.totals?.snapshot_count ?? 0)} className="lm-gap">
        {(report.vms?.vm ?? []).map((vm) => vm.name).join(", ")}
      </Alert>
      {doubts.length > 0 && (
        <Alert isInline variant="warning" title={t.storage.doubts}>
          <ul>{doubts.map((d, i) => <li key={i}>{d.vm?.name ?? d.file}: {d.why} <code>{d.command}</code></li>)}</ul>
        </Alert>
      )}
    </>
  );
}

function ImportDialog({ onClose }: { onClose: () => void }) {
  const [path, setPath] = useState("");
  const [takeOver, setTakeOver] = useState(false);
  const [report, setReport] = useState<ImportReport>();
  const act = async (): Promise<void> => {
    const answer = await api.importStorage(path, report === undefined, takeOver);
    if (report === undefined) {
      setReport(answer);
      return;
    }
    toast("success", t.storage.done);
    changedAll();
    onClose();
  };
  return (
    <Dialog key={report ? "import" : "look"} title={t.storage.importTitle} ok={report ? t.storage.doImport : t.storage.look} blocked={pathWrong(path)} onOk={act} onClose={onClose}>
      <p className="lm-gap">{t.storage.importBody}</p>
      <div className="pf-v6-c-form">
        <Field id="path" label={t.storage.importPath} value={path} onChange={(value) => { setPath(value); setReport(undefined); }} wrong={pathWrong(path)} first />
        <Checkbox id="take-over" label={t.storage.takeOver} isChecked={takeOver} onChange={(_e, on) => { setTakeOver(on); setReport(undefined); }} />
      </div>
      {report && <Found report={report} />}
    </Dialog>
  );
}

export function Storage() {
  const view = useLive("storage", ["storage", "vms"], async (signal) => count(await api.storage(signal), await api.allDisks(signal)));
  const [imports, setImports] = useState(false);
  return (
    <>
      <Title headingLevel="h1">{t.storage.title}</Title>
      <Toolbar inset={{ default: "insetNone" }}>
        <ToolbarContent>
          <ToolbarItem><ActionButton why={roleTooLow(useStore(me), "administrator")} onClick={() => setImports(true)}>{t.storage.import}</ActionButton></ToolbarItem>
        </ToolbarContent>
      </Toolbar>
      <Shown view={view}>
        {(rows) => rows.length === 0 ? <Empty title={t.storage.empty} /> : <Grid label={t.storage.title} rows={rows} columns={COLUMNS} rowKey={(r) => r.domain.id} rowHeight={44} />}
      </Shown>
      {imports && <ImportDialog onClose={() => setImports(false)} />}
    </>
  );
}
