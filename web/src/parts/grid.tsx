// SPDX-License-Identifier: LGPL-2.1-or-later
// A table of which only the rows in sight exist: a thousand VMs or a chain of two hundred cost what twenty do.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import type { ReactNode } from "react";
import { t } from "../texts";

export interface Column<T> {
  key: string;
  label: ReactNode;
  /** of a grid's column, e.g. "minmax(8rem, 2fr)" */
  width: string;
  render: (row: T, index: number) => ReactNode;
  /** what is sorted by; none = not sortable */
  sort?: (row: T) => string | number;
  /** goes first when there is little room: 1 on a phone, 2 also on a tablet */
  drop?: 1 | 2;
  name?: string;
  numeric?: boolean;
}

export interface Sort {
  key: string;
  down: boolean;
}

/** Made once: localeCompare() with options makes one for each of ten thousand comparisons. */
const ORDER = new Intl.Collator(undefined, { numeric: true });

export function sorted<T>(rows: T[], columns: Column<T>[], sort: Sort): T[] {
  const by = columns.find((c) => c.key === sort.key)?.sort;
  if (!by) return rows;
  const sign = sort.down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const x = by(a);
    const y = by(b);
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * ORDER.compare(String(x), String(y));
  });
}

/** of the table's head with its frame: a short table is as high as it is, a long one never less than some rows */
const HEAD = 43;

interface Props<T> {
  label: string;
  rows: T[];
  columns: Column<T>[];
  rowKey: (row: T) => string;
  rowHeight: number;
  sort?: Sort;
  onSort?: (sort: Sort) => void;
  isMarked?: (row: T) => boolean;
  /** grows with its rows up to this; none = fills its container */
  maxHeight?: string;
}

export function Grid<T>({ label, rows, columns, rowKey, rowHeight, sort, onSort, isMarked, maxHeight }: Props<T>) {
  const box = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => box.current,
    estimateSize: () => rowHeight,
    overscan: 12,
    getItemKey: (i) => (rows[i] ? rowKey(rows[i]) : i),
    initialRect: { width: 1000, height: 700 },
  });
  const template = (least: 0 | 1 | 2): string =>
    columns.filter((c) => !c.drop || c.drop > 2 - least).map((c) => c.width).join(" ");
  const vars = { "--lm-all": columns.map((c) => c.width).join(" "), "--lm-tablet": columns.filter((c) => c.drop !== 2).map((c) => c.width).join(" "), "--lm-phone": template(0) } as React.CSSProperties;
  const cell = (c: Column<T>): string => `lm-cell${c.drop ? ` lm-drop-${c.drop}` : ""}${c.numeric ? " lm-numeric" : ""}`;
  return (
    <div className="lm-grid" ref={box} role="table" aria-label={label} aria-rowcount={rows.length + 1} tabIndex={0}
      style={maxHeight ? { ...vars, maxHeight, flex: "none" } : { ...vars, ...(rows.length > 0 && { minHeight: `min(8rem, ${virtual.getTotalSize() + HEAD}px)` }) }}>
      <div role="rowgroup" className="lm-head">
        <div role="row" aria-rowindex={1} className="lm-row">
          {columns.map((c) => (
            <div key={c.key} role="columnheader" className={cell(c)}
              aria-sort={sort?.key === c.key ? (sort.down ? "descending" : "ascending") : undefined}>
              {c.sort && onSort ? (
                <button type="button" className="lm-sort" onClick={() => { onSort({ key: c.key, down: sort?.key === c.key && !sort.down }); virtual.scrollToOffset(0); }}>
                  {c.label}
                  <span aria-hidden="true">{sort?.key === c.key ? (sort.down ? " ▾" : " ▴") : ""}</span>
                </button>
              ) : (
                c.label
              )}
            </div>
          ))}
        </div>
      </div>
      <div role="rowgroup" className="lm-body" style={{ height: virtual.getTotalSize() }}>
        {virtual.getVirtualItems().map((item) => {
          const row = rows[item.index];
          if (row === undefined) return null;
          return (
            <div key={item.key} role="row" aria-rowindex={item.index + 2} data-row={rowKey(row)}
              className={`lm-row lm-data${isMarked?.(row) ? " lm-marked" : ""}`}
              style={{ height: rowHeight, transform: `translateY(${item.start}px)` }}>
              {columns.map((c) => (
                <div key={c.key} role="cell" className={cell(c)}>
                  {c.render(row, item.index)}
                </div>
              ))}
            </div>
          );
        })}
      </div>
      {rows.length === 0 && <p className="lm-nothing">{t.common.nothingMatches}</p>}
    </div>
  );
}
