// SPDX-License-Identifier: LGPL-2.1-or-later
// Numbers and times as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(n: number | undefined): string {
  if (n === undefined || !Number.isFinite(n)) return "–";
  const sign = n < 0 ? "−" : "";
  let value = Math.abs(n);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${sign}${Number(value.toFixed(digits))} ${UNITS[unit]}`;
}

export function seconds(s: number | undefined): string {
  if (s === undefined || !Number.isFinite(s) || s < 0) return "–";
  if (s < 1) return `${Number((Math.max(s, 0.01)).toFixed(2))} s`;
  if (s < 10) return `${Number(s.toFixed(1))} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Number((s / 3600).toFixed(1))} h`;
  return `${Math.round(s / 86400)} d`;
}

export function milliseconds(ms: number | undefined): string {
  if (ms === undefined || !Number.isFinite(ms)) return "–";
  return ms >= 1000 ? seconds(ms / 1000) : `${ms >= 10 ? Math.round(ms) : Number(ms.toFixed(1))} ms`;
}

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31557600], ["month", 2629800], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60],
];

export function ago(date: string | undefined, now: number): string {
  const then = date ? Date.parse(date) : NaN;
  if (Number.isNaN(then)) return "–";
  const s = (then - now) / 1000;
  for (const [unit, size] of STEPS) if (Math.abs(s) >= size) return RELATIVE.format(Math.trunc(s / size), unit);
  return "just now";
}

const ABSOLUTE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
export function exact(date: string | undefined): string {
  const then = date ? Date.parse(date) : NaN;
  return Number.isNaN(then) ? "–" : ABSOLUTE.format(then);
}

export function fileName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
