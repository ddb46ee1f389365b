/** @module The status of volumes as a Nagios plugin says it: one line with performance data, exit codes 0 to 3. */
import type { AgeLimits } from "../../fleet/protection.ts";
import type { FleetStatus, VolumeRow } from "./collect.ts";

/** Exit codes of plugins. */
const nagiosExits = { ok: 0, warning: 1, critical: 2, unknown: 3 } as const;

/** What a plugin prints, and its exit code. */
export interface NagiosResult {
  readonly text: string;
  readonly exit: number;
}

/** A volume that is not protected is critical, anything else that is wrong a warning. */
export function nagiosStatus({ rows, reports }: FleetStatus, limits: AgeLimits): NagiosResult {
  const bad = rows.filter((row) => row.isProtected !== true);
  const troubled = rows.filter((row) => row.isProtected === true && row.warnings.length > 0);
  const silent = reports.filter((report) => report.error !== undefined);
  if (rows.length === 0) return unknownStatus("there are no volumes");
  const perf = rows.flatMap((row) => performance(row, limits)).join(" ");
  const data = perf === "" ? "" : ` | ${perf}`;
  if (bad.length > 0) {
    const why = bad.map(({ volume, reasons }) => `${volume}: ${reasons.join(", ")}`).join("; ");
    return { text: line(`CRITICAL - ${bad.length} of ${rows.length} not protected: ${why}`, data), exit: 2 };
  }
  if (troubled.length > 0) {
    const why = troubled.map(({ volume, warnings }) => `${volume}: ${warnings.join(", ")}`).join("; ");
    return { text: line(`WARNING - ${why}`, data), exit: 1 };
  }
  if (silent.length > 0) {
    const why = silent.map(({ error }) => error?.message ?? "").join("; ");
    return { text: line(`WARNING - ${why}`, data), exit: 1 };
  }
  const count = rows.length === 1 ? `${rows[0]?.volume} is` : `${rows.length} volumes are`;
  return { text: line(`OK - ${count} protected`, data), exit: 0 };
}

/** Nothing can be said. */
export function unknownStatus(why: string): NagiosResult {
  return { text: line(`UNKNOWN - ${why}`, ""), exit: nagiosExits.unknown };
}

/** A bar would begin the performance data, a line end the long output. */
function line(text: string, data: string): string {
  return `WALB ${text.replace(/[|\r\n]+/g, " ")}${data}\n`;
}

function performance({ volume, measure }: VolumeRow, limits: AgeLimits): string[] {
  const { ageMs, toProxy, toArchive, logUsage } = measure;
  const seconds = (ms: number): string => (ms / 1000).toFixed(0);
  const age = ageMs === undefined ? [] : [`'${volume} age'=${seconds(ageMs)}s;;;0`];
  const lags = [toProxy, toArchive].filter((lag) => lag !== undefined);
  const lagBytes = lags.reduce((sum, { bytes }) => sum + bytes, 0);
  const lagMs = Math.max(0, ...lags.map(({ ms }) => ms));
  const bounds = `${seconds(limits.warningMs)};${seconds(limits.criticalMs)}`;
  return [
    ...age,
    ...(lags.length === 0
      ? []
      : [`'${volume} lag'=${seconds(lagMs)}s;${bounds};0`, `'${volume} waiting'=${lagBytes}B`]),
    ...(logUsage === undefined ? [] : [`'${volume} log'=${(logUsage * 100).toFixed(1)}%;80;100;0;100`]),
  ];
}
