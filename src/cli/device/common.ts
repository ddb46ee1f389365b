/** @module What the verbs of `walb device` share: finding the daemon's control socket, showing devices. */
import { resolve } from "node:path";
import { KernelAdmin } from "../../device/kernel/admin.ts";
import { isKernelDevice } from "../../device/kernel/sysfs.ts";
import type { DeviceAdmin } from "../../device/user/control/admin.ts";
import { controlSocketPath, deviceControlClient } from "../../device/user/control/client.ts";
import { type VolumeReport, volumeNameSchema } from "../../device/user/control/schema.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import type { Platform } from "../../platform/platform.ts";
import { defaultDataDir } from "../daemon/common.ts";
import { asDuration, asPath, option, optionOr, toggle } from "../flags.ts";
import { withPlatform } from "../platform.ts";
import { formatSize } from "../text/size.ts";
import { renderTable } from "../text/table.ts";
import type { Io } from "../verb.ts";
import { tuningLines } from "./tuning.ts";

export const deviceFlags = {
  json: toggle("one JSON value on stdout instead of text; fields may be added"),
  quiet: toggle("no remarks", { alias: "q" }),
  kernel: toggle("a device of the kernel driver, /dev/walb/NAME, instead of the device daemon's"),
  "device-data": optionOr("DIR", "data directory of the walb device daemon", asPath, defaultDataDir("device")),
  "device-socket": option("PATH", "control socket of that daemon; default: the one in its data directory", asPath),
  timeout: option("TIME", "give up after this time", asDuration),
};

/** Which devices are meant, and how long to wait for them. */
export interface DeviceFlagValues {
  readonly kernel: boolean;
  readonly "device-data": string;
  /** Counts more than the data directory. */
  readonly "device-socket": string | undefined;
  readonly timeout: number | undefined;
}

/** Does work on the devices of the daemon, or of the kernel driver. @throws WalbError `unreachable`, `timed-out`. */
export function withDevices<Result>(
  flags: DeviceFlagValues,
  io: Io,
  work: (admin: DeviceAdmin) => Promise<Result>,
): Promise<Result> {
  return withPlatform(io, async (platform) => {
    const timeLimit = Promise.withResolvers<never>();
    const expired = (): void =>
      timeLimit.reject(new WalbError("timed-out", { what: "the device daemon has not answered in time" }));
    const timer = flags.timeout === undefined ? undefined : platform.clock.timer(flags.timeout, expired);
    try {
      const run = flags.kernel ? work(new KernelAdmin(platform)) : withDaemon(platform, flags, io, work);
      return await Promise.race([run, timeLimit.promise]);
    } catch (error) {
      throw await withKernelHint(platform, flags, asWalbError(error));
    } finally {
      timer?.cancel();
    }
  });
}

/** Every device of this host, and what went wrong with a part of them. @throws when there is nothing to show. */
export function listDevices(
  flags: DeviceFlagValues,
  io: Io,
): Promise<{ readonly devices: VolumeReport[]; readonly failure: WalbError | undefined }> {
  return withPlatform(io, async (platform) => {
    const devices = platform.kernel === undefined ? [] : await new KernelAdmin(platform).list();
    if (flags.kernel) return { devices, failure: undefined };
    try {
      const ofDaemon = await withDevices(flags, { ...io, platform }, (admin) => admin.list());
      return { devices: [...ofDaemon, ...devices], failure: undefined };
    } catch (error) {
      if (devices.length === 0) throw error;
      return { devices, failure: asWalbError(error) };
    }
  });
}

async function withDaemon<Result>(
  platform: Platform,
  flags: DeviceFlagValues,
  io: Io,
  work: (admin: DeviceAdmin) => Promise<Result>,
): Promise<Result> {
  const { "device-data": data, "device-socket": socket } = flags;
  const path = socket === undefined ? controlSocketPath(resolve(io.cwd, data)) : resolve(io.cwd, socket);
  const client = await deviceControlClient(platform, path);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/** A device that the daemon does not know may be one of the kernel driver. */
async function withKernelHint(platform: Platform, flags: DeviceFlagValues, error: WalbError): Promise<WalbError> {
  const { volume } = error.where;
  if (flags.kernel || error.code !== "not-found" || volume === undefined || platform.kernel === undefined) return error;
  if (!(await isKernelDevice(platform.kernel, volume))) return error;
  return new WalbError("not-found", {
    what: error.what,
    where: error.where,
    hint: `the kernel driver has one of this name: add --kernel`,
  });
}

/** A name of a device. @throws WalbError `usage`. */
export function asDeviceName(text: string): string {
  if (volumeNameSchema.safeParse(text).success) return text;
  throw new WalbError("usage", {
    what: `${JSON.stringify(text)} is not a device name`,
    hint: text.startsWith("/dev/walb/")
      ? `a device of the kernel driver is meant with: ${text.slice("/dev/walb/".length)} --kernel`
      : "write 1 to 25 letters, digits, dots, underscores or dashes: vol0",
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
    { title: "DEVICE" },
  ] as const;
  return renderTable(
    columns,
    reports.map((report) => [
      report.name,
      report.status?.isOverflow === true ? `${report.state}, log overflowed` : report.state,
      formatSize(report.sizeBytes),
      logUsage(report),
      report.overflow,
      report.path === undefined ? String(report.connections) : "-",
      report.path === undefined ? String(report.watchers) : "-",
      report.path ?? report.uris[0] ?? report.reason ?? "",
    ]),
  );
}

/** Everything about one device. */
export function renderDevice(report: VolumeReport): string {
  const lines: [string, string][] = [
    ["name", report.name],
    ["state", report.state],
    ...(report.reason === undefined ? [] : ([["reason", report.reason]] as [string, string][])),
    ...(report.hint === undefined ? [] : ([["next step", report.hint]] as [string, string][])),
    ["size", `${formatSize(report.sizeBytes)} (${report.sizeBytes} bytes)`],
    ["data", report.dataPath],
    ["log", `${report.logPath}, ${logUsage(report)} used`],
    ["when the log is full", report.overflow],
    ...tuningLines(report.tuning ?? {}),
    ...usersOf(report),
  ];
  if (report.info !== undefined) lines.push(["log uuid", report.info.uuid], ["block size", `${report.info.pbsBytes}`]);
  if (report.status !== undefined) {
    lines.push(["log overflowed", report.status.isOverflow ? "yes" : "no"]);
    for (const [name, lsid] of Object.entries(report.status.lsids)) lines.push([`lsid ${name}`, String(lsid)]);
  }
  for (const uri of report.uris) lines.push(["uri", uri]);
  return lines.map(([label, text]) => `${`${label}:`.padEnd(22)}${text}\n`).join("");
}

/** The driver does not tell who uses its devices. */
function usersOf(report: VolumeReport): [string, string][] {
  if (report.path !== undefined) return [["device", report.path]];
  return [
    ["open by", `${report.connections} NBD clients`],
    ["watched by", `${report.watchers} storages`],
  ];
}

function logUsage(report: VolumeReport): string {
  if (report.logUsagePb === undefined || !report.logCapacityPb) return "-";
  return `${((report.logUsagePb / report.logCapacityPb) * 100).toFixed(1)}%`;
}
