/** @module The table, its notes, and the same as JSON. */
import { renderTable } from "../../../src/cli/text/table.ts";
import type { Row } from "./bench.ts";

const columns = [
  { title: "PATH" },
  { title: "RATE", align: "right" },
  { title: "BESIDE", align: "right" },
  { title: "RATIO", align: "right" },
  { title: "CPU S/GIB", align: "right" },
  { title: "PEAK MIB" },
] as const;

function rateText(rate: number, unit: Row["unit"]): string {
  if (unit === "ms") return `${rate < 10 ? rate.toFixed(1) : rate.toFixed(0)} ms`;
  if (unit === "IOPS") return `${(rate / 1000).toFixed(1)}k IOPS`;
  return `${rate < 100 ? rate.toFixed(1) : rate.toFixed(0)} ${unit}`;
}

function peakText(peakMib: Row["peakMib"]): string {
  const entries = Object.entries(peakMib ?? {});
  if (entries.length === 0) return "-";
  if (entries.length === 1) return entries[0]![1].toFixed(0);
  return entries.map(([name, mib]) => `${name} ${mib.toFixed(0)}`).join(", ");
}

function cellsOf({ path, rate, unit, beside, cpuSPerGib, peakMib }: Row): string[] {
  return [
    path,
    rateText(rate, unit),
    beside === undefined ? "-" : `${beside.name} ${rateText(beside.rate, unit)}`,
    beside === undefined ? "-" : (rate / beside.rate).toFixed(2),
    cpuSPerGib === undefined ? "-" : cpuSPerGib.toFixed(2),
    peakText(peakMib),
  ];
}

/** The table of all rows, then what there is to say about some. */
export function renderReport(rows: readonly Row[]): string {
  const notes = rows.flatMap(({ path, note }) => (note === undefined ? [] : [`  ${path}: ${note}\n`]));
  return renderTable(columns, rows.map(cellsOf)) + (notes.length === 0 ? "" : `\nnotes:\n${notes.join("")}`);
}
