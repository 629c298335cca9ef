// SPDX-License-Identifier: LGPL-2.1-or-later
// The drawing of a delete: each disk's chain before and after, what merges into what, and while it
// goes on, how far it is.
import { Progress } from "@patternfly/react-core";
import type { ReactNode } from "react";
import type { JobDisk } from "../api/types";
import { shortened } from "../model/chain";
import type { Box, DiskDrawing, Segment } from "../model/chain";
import { bytes, milliseconds } from "../model/format";
import { t } from "../texts";

/** after: what it will be, of which nothing more is to be said. */
function fateText(box: Box, done: boolean, after: boolean): string | undefined {
  if (after || box.fate === "stays") return undefined;
  return (done ? t.remove.fateDone : t.remove.fate)[box.fate];
}

function VolumeBox({ box, done, after }: { box: Box; done: boolean; after: boolean }) {
  const fate = done && box.fate === "goes" ? "lm-gone" : "";
  const text = fateText(box, done, after);
  return (
    <li className={`lm-volume lm-${box.fate} ${fate}`} title={box.path}>
      <span className="lm-file">{box.file || t.remove.newVolume}</span>
      <span className="lm-bytes">{bytes(box.bytes)}</span>
      <span className="lm-owners">
        {box.names.map((name, i) => (
          <span key={i} className={box.gone.includes(name) ? "lm-struck" : undefined}>{name}</span>
        ))}
        {box.leaf && <span className="lm-leaf">{t.remove.leaf}</span>}
        {box.shared && <span className="lm-leaf">{t.remove.shared}</span>}
      </span>
      {text !== undefined && <span className="lm-fate">{text}</span>}
    </li>
  );
}

function Stack({ boxes, ends, done, after = false }: { boxes: Box[]; ends: number; done: boolean; after?: boolean }) {
  const { head, hidden, tail } = shortened(boxes, ends);
  const row = (box: Box, i: number) => <VolumeBox key={`${box.id}${i}`} box={box} done={done} after={after} />;
  return (
    <ul className="lm-stack" aria-label={after ? t.remove.after : t.remove.before}>
      {head.map(row)}
      {hidden > 0 && <li className="lm-hidden">{t.remove.hidden(hidden)}</li>}
      {tail.map(row)}
    </ul>
  );
}

function phaseText(disk: JobDisk): string {
  if (disk.status !== "started" || !disk.phase) return (t.job as unknown as Record<string, string>)[disk.status] ?? disk.status;
  return t.job.phases[disk.phase] ?? disk.phase;
}

function percentOf(disk: JobDisk): number {
  if (disk.status === "finished") return 100;
  return disk.bytes_total ? Math.min(99, Math.floor((100 * (disk.bytes_copied ?? 0)) / disk.bytes_total)) : 0;
}

/** Between before and after: the strategy, and how far it is. */
function Between({ segment, disk }: { segment: Segment; disk?: JobDisk }) {
  if (!segment.run) return <span className="lm-same" aria-hidden="true">=</span>;
  return (
    <div className="lm-between">
      <span className="lm-strategy">{disk?.strategy ?? segment.run.strategy}</span>
      <span className="lm-arrow" aria-hidden="true">⟶</span>
      {disk && (
        <Progress value={percentOf(disk)} title={phaseText(disk)} size="sm"
          variant={disk.status === "failed" ? "danger" : disk.status === "finished" ? "success" : undefined}
          label={disk.status === "finished" ? bytes(disk.bytes_copied) : t.job.of(bytes(disk.bytes_copied), bytes(disk.bytes_total))} />
      )}
      {(disk?.pauses ?? []).map((pause, i) => (
        <span key={i} className="lm-pause">{t.job.pause(pause.kind)}: {milliseconds(pause.milliseconds)}</span>
      ))}
    </div>
  );
}

export function Chains({ drawings, disks, children }: { drawings: DiskDrawing[]; disks?: JobDisk[]; children?: (diskId: string) => ReactNode }) {
  return (
    <>
      {drawings.map((drawing) => {
        const disk = disks?.find((d) => d.id === drawing.diskId);
        const done = disk?.status === "finished";
        return (
          <section key={drawing.diskId} className="lm-drawing" aria-label={t.remove.chain(drawing.name)}>
            <h3>{t.remove.disk(drawing.name)}</h3>
            <div className="lm-segments">
              <span className="lm-caption">{t.remove.before}</span>
              <span />
              <span className="lm-caption">{t.remove.after}</span>
              {drawing.segments.map((segment, i) => (
                <div key={i} className={`lm-segment${segment.run ? " lm-run" : ""}`}>
                  <Stack boxes={segment.before} ends={segment.run ? 3 : 1} done={done} />
                  <Between segment={segment} disk={disk} />
                  <Stack boxes={segment.after} ends={segment.run ? 3 : 1} done={done} after />
                </div>
              ))}
            </div>
            {children?.(drawing.diskId)}
          </section>
        );
      })}
    </>
  );
}
