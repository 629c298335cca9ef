// SPDX-License-Identifier: LGPL-2.1-or-later
// The Snapshots tab: the tree with "you are here", and what can be done, for the selection.
import { Checkbox, Toolbar, ToolbarContent, ToolbarGroup, ToolbarItem } from "@patternfly/react-core";
import { useMemo, useState } from "react";
import { api } from "../api/api";
import type { Snapshot, Vm } from "../api/types";
import { useLive } from "../live";
import { bytes, exact } from "../model/format";
import { treeRows } from "../model/tree";
import type { TreeRow } from "../model/tree";
import { ActionButton, whyNotFor } from "../parts/action";
import { Grid } from "../parts/grid";
import type { Column } from "../parts/grid";
import { Mark } from "../parts/marks";
import { usePhone } from "../parts/phone";
import { Tip } from "../parts/tip";
import { TreeLines } from "../parts/tree";
import { Empty, Shown, When } from "../parts/view";
import { t } from "../texts";
import { CreateDialog } from "./create_dialog";
import { DeleteDialog } from "./delete_dialog";
import { ConfirmDialog, RenameDialog } from "./snapshot_dialogs";
import type { Deed } from "./snapshot_dialogs";
import { CloneDialog, whyNoClone } from "./vm_dialogs";

const ROW = 48;
type Open = { kind: "create" } | { kind: "delete" | "rename" | "clone" | Deed; on: Snapshot[] } | null;

function Marks({ s }: { s: Snapshot }) {
  if (s.snapshot_type !== "regular") return null;
  return (
    <span className="lm-marks">
      {s.unusable && <Mark status="danger" text={t.snapshots.unusable} hint={t.snapshots.unusableHint} />}
      {s.snapshot_status === "locked" && <Mark status="info" text={t.snapshots.locked} hint={t.snapshots.lockedHint} />}
      {s.snapshot_status === "in_preview" && <Mark status="custom" text={t.snapshots.inPreview} hint={t.snapshots.inPreview} />}
      {s.persist_memorystate && <Mark color="purple" text={t.snapshots.memory} hint={t.snapshots.memoryHint} />}
      {s.configuration_only ? (
        <Mark color="blue" text={t.snapshots.alone} hint={t.snapshots.aloneHint} />
      ) : s.quiesced ? (
        <Mark color="green" text={t.snapshots.quiesced} hint={t.snapshots.quiescedHint} />
      ) : (
        <Mark text={t.snapshots.crash} hint={t.snapshots.crashHint} />
      )}
    </span>
  );
}

function Name({ row }: { row: TreeRow }) {
  const s = row.snapshot;
  if (row.active)
    return (
      <span>
        <strong>{t.snapshots.active}</strong> <span className="lm-here-text">◂ {t.snapshots.here}</span>
      </span>
    );
  if (s.snapshot_type === "preview") return <em>{t.snapshots.active} {t.snapshots.preview}</em>;
  return (
    <span className="lm-stacked">
      <Tip text={s.comment ? `${s.description}: ${s.comment}` : s.description} delay={600}>
        {(come) => <span {...come} className="lm-name">{s.description}</span>}
      </Tip>
      <Short s={s} />
    </span>
  );
}

/** For a phone: when it was taken, and what must not be overlooked. */
function Short({ s }: { s: Snapshot }) {
  const phone = usePhone();
  const marks = [s.unusable && t.snapshots.unusable, s.snapshot_status === "locked" && t.snapshots.locked, s.snapshot_status === "in_preview" && t.snapshots.inPreview, s.persist_memorystate && t.snapshots.memory, s.configuration_only && t.snapshots.alone];
  return phone && <span className="lm-small"><When date={s.date} />{marks.filter(Boolean).map((mark) => ` · ${String(mark)}`).join("")}</span>;
}

function columnsOf(rows: TreeRow[], chosen: Set<string>, choose: (ids: Set<string>) => void): Column<TreeRow>[] {
  const width = Math.max(...rows.map((r) => Math.max(r.column, ...r.passing, ...r.forks))) + 1;
  const regular = rows.filter((r) => r.snapshot.snapshot_type === "regular").map((r) => r.snapshot.id);
  const toggle = (id: string, on: boolean): void => {
    const next = new Set(chosen);
    if (on) next.add(id);
    else next.delete(id);
    choose(next);
  };
  return [
    {
      key: "choose", width: "2.5rem",
      label: (
        <Checkbox id="choose-all" aria-label={t.snapshots.selectAll} isChecked={regular.length > 0 && regular.every((id) => chosen.has(id))}
          onChange={(_e, on) => choose(new Set(on ? regular : []))} />
      ),
      render: ({ snapshot: s }) =>
        s.snapshot_type === "regular" ? (
          <Checkbox id={`choose-${s.id}`} aria-label={t.snapshots.select(s.description)} isChecked={chosen.has(s.id)} onChange={(_e, on) => toggle(s.id, on)} />
        ) : null,
    },
    {
      key: "name", label: t.snapshots.name, width: "minmax(9rem, 3fr)",
      render: (row) => (
        <span className="lm-tree-cell">
          <TreeLines row={row} columns={width} height={ROW} />
          <Name row={row} />
        </span>
      ),
    },
    {
      key: "date", label: t.snapshots.date, width: "minmax(8rem, 2fr)", drop: 1,
      render: ({ snapshot: s, active }) =>
        active || s.snapshot_type !== "regular" ? null : (
          <span className="lm-two">
            <When date={s.date} />
            <small>{exact(s.date)}</small>
          </span>
        ),
    },
    { key: "size", label: t.snapshots.size, width: "6rem", numeric: true, render: ({ snapshot: s }) => bytes(s.size) },
    { key: "marks", label: t.snapshots.marks, width: "minmax(10rem, 2fr)", drop: 1, render: ({ snapshot: s }) => <Marks s={s} /> },
  ];
}

/** The server's reason, or that the selection does not fit. */
function whyNotOne(vm: Vm, chosen: Snapshot[], verb: string): string | undefined {
  return chosen.length === 1 ? whyNotFor(vm, chosen[0]!.operations, verb) : t.snapshots.needsOne;
}
function whyNotAll(vm: Vm, chosen: Snapshot[], verb: string): string | undefined {
  if (chosen.length === 0) return t.snapshots.needsSome;
  for (const s of chosen) {
    const why = whyNotFor(vm, s.operations, verb);
    if (why) return `${s.description}: ${why}`;
  }
  return undefined;
}

function Tools({ vm, chosen, previewed, open }: { vm: Vm; chosen: Snapshot[]; previewed?: Snapshot; open: (what: Open) => void }) {
  const one = (kind: "rename" | Deed, verb: string, text: string) => (
    <ToolbarItem>
      <ActionButton why={whyNotOne(vm, chosen, verb)} onClick={() => open({ kind, on: chosen })}>{text}</ActionButton>
    </ToolbarItem>
  );
  const ofPreview = (kind: "commit" | "undo", text: string) => (
    <ToolbarItem>
      <ActionButton why={whyNotFor(vm, vm.operations, kind) ?? (previewed ? undefined : t.snapshots.noPreview)} onClick={() => previewed && open({ kind, on: [previewed] })}>{text}</ActionButton>
    </ToolbarItem>
  );
  return (
    <Toolbar inset={{ default: "insetNone" }}>
      <ToolbarContent rowWrap={{ default: "wrap" }}>
        <ToolbarGroup variant="action-group" rowWrap={{ default: "wrap" }}>
          <ToolbarItem>
            <ActionButton variant="primary" why={whyNotFor(vm, vm.operations, "create_snapshot")} onClick={() => open({ kind: "create" })}>{t.snapshots.create}</ActionButton>
          </ToolbarItem>
          {one("preview", "preview", t.snapshots.previewVerb)}
          {ofPreview("commit", t.snapshots.commit)}
          {ofPreview("undo", t.snapshots.undo)}
          {one("restore", "restore", t.snapshots.restore)}
          <ToolbarItem>
            <ActionButton why={chosen.length === 1 ? whyNoClone(chosen[0]!.operations, "clone") : t.snapshots.needsOne} onClick={() => open({ kind: "clone", on: chosen })}>{t.clone.verb}</ActionButton>
          </ToolbarItem>
          {one("rename", "rename_snapshot", t.snapshots.rename)}
          <ToolbarItem>
            <ActionButton variant="danger" why={whyNotAll(vm, chosen, "plan")} onClick={() => open({ kind: "delete", on: chosen })}>{t.snapshots.remove}</ActionButton>
          </ToolbarItem>
        </ToolbarGroup>
      </ToolbarContent>
    </Toolbar>
  );
}

function Dialogs({ vm, open, onClose }: { vm: Vm; open: Open; onClose: () => void }) {
  if (!open) return null;
  if (open.kind === "create") return <CreateDialog vm={vm} onClose={onClose} />;
  const first = open.on[0]!;
  if (open.kind === "delete") return <DeleteDialog vm={vm} snapshots={open.on} onClose={onClose} />;
  if (open.kind === "rename") return <RenameDialog vm={vm} snapshot={first} onClose={onClose} />;
  if (open.kind === "clone") return <CloneDialog vm={vm} snapshot={first} onClose={onClose} />;
  return <ConfirmDialog deed={open.kind} vm={vm} snapshot={first} onClose={onClose} />;
}

function List({ vm, snapshots, open }: { vm: Vm; snapshots: Snapshot[]; open: (what: Open) => void }) {
  const [chosen, choose] = useState(new Set<string>());
  const rows = useMemo(() => treeRows(snapshots), [snapshots]);
  const selected = snapshots.filter((s) => chosen.has(s.id));
  const columns = columnsOf(rows, chosen, choose);
  const count = snapshots.filter((s) => s.snapshot_type === "regular").length;
  return (
    <>
      <Tools vm={vm} chosen={selected} open={open} previewed={snapshots.find((s) => s.snapshot_status === "in_preview")} />
      {count === 0 ? (
        <Empty title={t.snapshots.none}>
          <p>{t.snapshots.noneBody}</p>
          <ActionButton variant="link" why={whyNotFor(vm, vm.operations, "create_snapshot")} onClick={() => open({ kind: "create" })}>{t.snapshots.createFirst}</ActionButton>
        </Empty>
      ) : (
        <>
          <p className="lm-note" aria-live="polite">{selected.length > 0 ? t.common.selected(selected.length) : t.snapshots.count(count)}</p>
          <Grid label={t.snapshots.tree} rows={rows} columns={columns} rowKey={(r) => r.snapshot.id} rowHeight={ROW} isMarked={(r) => chosen.has(r.snapshot.id)} />
        </>
      )}
    </>
  );
}

export function Snapshots({ vm }: { vm: Vm }) {
  const view = useLive(`snapshots ${vm.id}`, [`vm:${vm.id}`], (signal) => api.snapshots(vm.id, signal));
  const [open, setOpen] = useState<Open>(null);
  return (
    <>
      <Shown view={view}>{(snapshots) => <List vm={vm} snapshots={snapshots} open={setOpen} />}</Shown>
      <Dialogs vm={vm} open={open} onClose={() => setOpen(null)} />
    </>
  );
}
