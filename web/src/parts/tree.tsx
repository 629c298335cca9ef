// SPDX-License-Identifier: LGPL-2.1-or-later
// The lines of the snapshot tree beside one row.
import type { TreeRow } from "../model/tree";

const STEP = 16;
const x = (column: number): number => 10 + column * STEP;

export function TreeLines({ row, columns, height }: { row: TreeRow; columns: number; height: number }) {
  const middle = height / 2;
  const at = x(row.column);
  return (
    <svg width={x(columns - 1) + 10} height={height} aria-hidden="true" className="lm-tree">
      {row.passing.map((c) => <line key={c} x1={x(c)} x2={x(c)} y1={0} y2={height} />)}
      {row.above && <line x1={at} x2={at} y1={0} y2={middle} />}
      {row.below && <line x1={at} x2={at} y1={middle} y2={height} />}
      {row.forks.map((c) => <path key={c} d={`M${at} ${middle} C ${x(c)} ${middle}, ${x(c)} ${middle}, ${x(c)} ${height}`} />)}
      {row.active ? <rect x={at - 6} y={middle - 6} width={12} height={12} rx={2} className="lm-here" /> : <circle cx={at} cy={middle} r={5} />}
    </svg>
  );
}
