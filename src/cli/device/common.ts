/** @module What the verbs of `walb device` share: finding the daemon's control socket, showing devices. */
import { resolve } from "node:path";
import { controlSocketPath, type DeviceControlClient, deviceControlClient } from "../../device/user/control/client.ts";
import { type VolumeReport, volumeNameSchema } from "../../device/user/control/schema.ts";
import { WalbError } from "../../errors.ts";
import { closePlatform, createPlatform } from "../../platform/real/index.ts";
import { defaultDataDir } from "../daemon/common.ts";
import { asDuration, asPath, option, optionOr, toggle } from "../flags.ts";
import { formatSize } from "../text/size.ts";
import { renderTable } from "../text/table.ts";
import type { Io } from "../verb.ts";

export const deviceFlags = {
  json: toggle("one JSON value on stdout instead of text; fields may be added"),
  quiet: toggle("no remarks", { alias: "q" }),
  "device-data": optionOr("DIR", "data directory of the walb device daemon", asPath, defaultDataDir("device")),
  timeout: option("TIME", "give up after this time", asDuration),
};

/** Connects to the daemon, does the work, and closes. @throws WalbError `unreachable`, `timed-out`. */
export async function withDevices<Result>(
  flags: { readonly "device-data": string; readonly timeout: number | undefined },
  io: Io,
  work: (client: DeviceControlClient) => Promise<Result>,
): Promise<Result> {
  const dataDir = resolve(io.cwd, flags["device-data"]);
  const platform = createPlatform();
  const timeLimit = Promise.withResolvers<never>();
  const timer =
    flags.timeout === undefined
      ? undefined
      : platform.clock.timer(flags.timeout, () =>
          timeLimit.reject(new WalbError("timed-out", { what: "the device daemon has not answered in time" })),
        );
  try {
    const run = async (): Promise<Result> => {
      const client = await deviceControlClient(platform, controlSocketPath(dataDir));
      try {
        return await work(client);
      } finally {
        await client.close();
      }
    };
    return await Promise.race([run(), timeLimit.promise]);
  } finally {
    timer?.cancel();
    await closePlatform(platform);
  }
}

/** A name of a device. @throws WalbError `usage`. */
export function asDeviceName(text: string): string {
  if (volumeNameSchema.safeParse(text).success) return text;
  throw new WalbError("usage", {
    what: `${JSON.stringify(text)} is not a device name`,
    hint: "write 1 to 25 letters, digits, dots, underscores or dashes: vol0",
  });
}

/** A table of devices. */
export function renderDevices(reports: readonly VolumeReport[]): string {
  const columns = [
    { title: "NAME" },
    { title: "STATE" },
    { title: "SIZE", align: "right" },
    { title: "LOG", align: "right" },
    { title: "OVERFLOW" },
    { title: "OPEN", align: "right" },
    { title: "WATCHED", align: "right" },
    { title: "URI" },
  ] as const;
  return renderTable(
    columns,
    reports.map((report) => [
      report.name,
      report.status?.isOverflow === true ? `${report.state}, log overflowed` : report.state,
      formatSize(report.sizeBytes),
      logUsage(report),
      report.overflow,
      String(report.connections),
      String(report.watchers),
      report.uris[0] ?? report.reason ?? "",
    ]),
  );
}

/** Everything about one device. */
export function renderDevice(report: VolumeReport): string {
  const lines: [string, string][] = [
    ["name", report.name],
    ["state", report.state],
    ...(report.reason === undefined ? [] : ([["reason", report.reason]] as [string, string][])),
    ["size", `${formatSize(report.sizeBytes)} (${report.sizeBytes} bytes)`],
    ["data", report.dataPath],
    ["log", `${report.logPath}, ${logUsage(report)} used`],
    ["when the log is full", report.overflow],
    ["open by", `${report.connections} NBD clients`],
    ["watched by", `${report.watchers} storages`],
  ];
  if (report.info !== undefined) lines.push(["log uuid", report.info.uuid], ["block size", `${report.info.pbsBytes}`]);
  if (report.status !== undefined) {
    lines.push(["log overflowed", report.status.isOverflow ? "yes" : "no"]);
    for (const [name, lsid] of Object.entries(report.status.lsids)) lines.push([`lsid ${name}`, String(lsid)]);
  }
  for (const uri of report.uris) lines.push(["uri", uri]);
  return lines.map(([label, text]) => `${`${label}:`.padEnd(22)}${text}\n`).join("");
}

function logUsage(report: VolumeReport): string {
  if (report.logUsagePb === undefined || !report.logCapacityPb) return "-";
  return `${((report.logUsagePb / report.logCapacityPb) * 100).toFixed(1)}%`;
}
