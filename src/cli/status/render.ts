/** @module The status of volumes for people: a table of 80 columns, then what is wrong and what runs. */
import type { Lag } from "../../fleet/protection.ts";
import { progressLine } from "../progress.ts";
import { formatSize } from "../text/size.ts";
import { renderTable } from "../text/table.ts";
import { formatAge, formatTime, withLocalTimes } from "../text/time.ts";
import { type FleetStatus, runningJobs, type ServerReport, type VolumeRow } from "./collect.ts";

/** Shorter actions come and go all the time. */
const longActionMs = 5000;

const columns = [
  { title: "VOLUME" },
  { title: "PROTECTED" },
  { title: "NEWEST POINT" },
  { title: "AGE", align: "right" },
  { title: "TO PROXY", align: "right" },
  { title: "TO ARCHIVE", align: "right" },
  { title: "LOG", align: "right" },
  { title: "WINDOW", align: "right" },
] as const;

/** Renders everything. */
export function renderStatus({ rows, reports, nowMs }: FleetStatus): string {
  let text = "";
  if (rows.length === 0) text += "no volumes; put one under backup with: walb init vol0 --device vol0\n";
  else text += renderTable(columns, rows.map(cells));
  for (const { volume, reasons, warnings } of rows) {
    for (const reason of reasons) text += `${volume}: ${reason}\n`;
    for (const warning of warnings) text += `${volume}: warning: ${warning}\n`;
  }
  for (const { server, error } of reports) {
    // The path of a volume may tell it already; a server on no path counts for the exit code, too.
    if (error !== undefined && !text.includes(error.message)) text += `${server.name}: ${error.message}\n`;
  }
  for (const { server, security } of reports) {
    if (security !== "insecure") continue;
    text += `${server.name}: warning: it runs with --insecure: whoever reaches ${server.address} can read and delete backups\n`;
  }
  for (const report of reports) text += running(report, nowMs);
  return withLocalTimes(text);
}

function cells({ volume, isProtected, measure }: VolumeRow): string[] {
  const { newest, ageMs, windowMs, toProxy, toArchive, logUsage } = measure;
  return [
    volume,
    isProtected === null ? "-" : isProtected ? "yes" : "NO",
    newest === undefined ? "-" : formatTime(newest.timeMs),
    ageMs === undefined ? "-" : formatAge(ageMs),
    lag(toProxy),
    lag(toArchive),
    logUsage === undefined ? "-" : logUsage > 1 ? "overflowed" : `${Math.floor(logUsage * 100)}%`,
    windowMs === undefined ? "-" : formatAge(windowMs),
  ];
}

/** A snapshot is on its way for so long although nothing was written behind it. */
const snapshotSentMs = 5_000;

function lag(value: Lag | undefined): string {
  if (value === undefined) return "-";
  return value.bytes === 0 && value.ms < snapshotSentMs ? "0B" : `${formatSize(value.bytes)} ${formatAge(value.ms)}`;
}

/** Jobs with their progress, and actions that have been going on for a while. */
function running(report: ServerReport, nowMs: number): string {
  const jobs = runningJobs(report);
  let text = jobs.map((job) => `${report.server.name}: running: ${progressLine(job)}\n`).join("");
  for (const { volume, running: actions } of report.volumes) {
    if (jobs.some((job) => job.volume === volume)) continue;
    for (const { action, beganMs } of actions) {
      if (beganMs === undefined || nowMs - beganMs < longActionMs) continue;
      text += `${report.server.name}: running: ${action} of ${volume} for ${formatAge(nowMs - beganMs)}\n`;
    }
  }
  return text;
}
