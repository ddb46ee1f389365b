/** @module `walb status`: is every volume protected, and if not, why not. */
import type { ArchiveVolume } from "../../control/archive.ts";
import type { JobInfo } from "../../control/job.ts";
import type { ProxyVolume } from "../../control/proxy.ts";
import type { StorageVolume } from "../../control/storage.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import type { FleetServer } from "../../fleet/fleet.ts";
import { type Heard, judgeProtection, type Protection, type VolumePath } from "../../fleet/protection.ts";
import { type ClientFlagValues, callOptions, clientFlags, loadFleet, print } from "../common.ts";
import { asVolume } from "../flags.ts";
import { progressLine } from "../progress.ts";
import { archiveClient, namedServer, proxyClient, storageClient } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { renderTable } from "../text/table.ts";
import { formatDuration, formatTime } from "../text/time.ts";
import { defineVerb, type Io } from "../verb.ts";

const defaultTimeoutMs = 10_000;

/** What one server said. */
interface ServerReport {
  readonly server: FleetServer;
  readonly volumes: readonly (StorageVolume | ProxyVolume | ArchiveVolume)[];
  readonly jobs: readonly JobInfo[];
  readonly error?: WalbError;
}

export const verb = defineVerb({
  summary: "Says of each volume whether it is protected and why not, its newest restorable point, lag and log usage",
  positionals: [{ name: "VOL", help: "only this volume" }],
  flags: clientFlags,
  examples: ["walb status", "walb status vol0 --json", "walb status --server a0"],
  exits: { 1: "a volume is not protected" },
  async run({ flags, args, io }) {
    const only = args[0] === undefined ? undefined : asVolume(args[0]);
    const fleet = loadFleet(flags, io);
    const servers = flags.server === undefined ? fleet.servers : [await namedServer(flags, io, flags.server)];
    const reports = await Promise.all(servers.map((server) => ask(server, flags, io)));
    const failed = reports.find((report) => report.error !== undefined);
    if (failed?.error !== undefined && reports.every((report) => report.error !== undefined)) throw failed.error;
    const names = new Set(reports.flatMap((report) => report.volumes.map((volume) => volume.volume)));
    for (const name of Object.keys(fleet.volumes)) if (flags.server === undefined) names.add(name);
    if (only !== undefined && !names.has(only)) {
      throw new WalbError("not-found", { what: "no server has this volume", where: { volume: only } });
    }
    const paths = [...names].filter((name) => only === undefined || name === only).sort();
    const rows = paths.map((name) => rowOf(name, reports));
    const jobs = reports.flatMap((report) => report.jobs.filter((job) => job.state === "running"));
    const value = {
      volumes: rows,
      servers: reports.map(({ server, error }) => ({
        ...server,
        isReachable: error === undefined,
        ...(error === undefined ? {} : { error: error.toJSON() }),
      })),
      jobs,
    };
    print(flags, io, value, render(rows, reports, jobs, io));
    // One server alone cannot say whether a volume is protected.
    const isGood = flags.server !== undefined || rows.every((row) => row.isProtected);
    return isGood && failed === undefined ? 0 : 1;
  },
});

async function ask(server: FleetServer, flags: ClientFlagValues, io: Io): Promise<ServerReport> {
  const options = { timeoutMs: defaultTimeoutMs, ...callOptions(flags, io) };
  try {
    if (server.role === "storage") {
      const client = storageClient(server);
      const [status, jobs] = await Promise.all([client.call("status", {}, options), client.jobs(options)]);
      return { server, volumes: status.volumes, jobs };
    }
    if (server.role === "proxy") {
      const client = proxyClient(server);
      const [status, jobs] = await Promise.all([client.call("status", {}, options), client.jobs(options)]);
      return { server, volumes: status.volumes, jobs };
    }
    const client = archiveClient(server);
    const [status, jobs] = await Promise.all([client.call("status", {}, options), client.jobs(options)]);
    return { server, volumes: status.volumes, jobs };
  } catch (error) {
    return { server, volumes: [], jobs: [], error: asWalbError(error) };
  }
}

type Row = VolumePath & Protection;

function rowOf(volume: string, reports: readonly ServerReport[]): Row {
  const heard = <Status>(role: string): Heard<Status>[] =>
    reports
      .filter((report) => report.server.role === role)
      .map(({ server, volumes, error }) => {
        const status = volumes.find((candidate) => candidate.volume === volume && candidate.state !== "Clear");
        return {
          server: server.name,
          ...(status === undefined ? {} : { status: status as Status }),
          ...(error === undefined ? {} : { error: error.message }),
        };
      });
  const storages = heard<StorageVolume>("storage");
  const storage = storages.find((candidate) => candidate.status !== undefined) ?? storages[0];
  const path = { volume, storage, proxies: heard<ProxyVolume>("proxy"), archives: heard<ArchiveVolume>("archive") };
  return { ...path, ...judgeProtection(path) };
}

function render(rows: readonly Row[], reports: readonly ServerReport[], jobs: readonly JobInfo[], io: Io): string {
  let text = "";
  if (rows.length === 0) text += "no volumes; put one under backup with: walb init vol0 --device vol0\n";
  else {
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
    text += renderTable(
      columns,
      rows.map((row) => cells(row, io.nowMs())),
    );
  }
  for (const row of rows) for (const reason of row.reasons) text += `${row.volume}: ${reason}\n`;
  for (const { server, error } of reports) if (error !== undefined) text += `${server.name}: ${error.message}\n`;
  for (const job of jobs) text += `running: ${progressLine(job, false)}\n`;
  return text;
}

function cells(row: Row, nowMs: number): string[] {
  const archive = row.archives.find(({ status }) => status?.newestPoint !== undefined)?.status;
  const [newest, oldest] = [archive?.newestPoint, archive?.oldestPoint];
  const storage = row.storage?.status;
  const waiting = row.proxies.flatMap(({ status }) => status?.archives ?? []);
  const waitingBytes = waiting.reduce((sum, entry) => sum + entry.pendingBytes, 0);
  const waitingMs = Math.max(0, ...waiting.map((entry) => entry.lagMs ?? 0));
  const usage =
    storage?.logUsagePb === undefined || !storage.logCapacityPb
      ? "-"
      : `${Math.round((storage.logUsagePb / storage.logCapacityPb) * 100)}%`;
  return [
    row.volume,
    row.isProtected ? "yes" : "NO",
    newest === undefined ? "-" : formatTime(newest.timeMs),
    newest === undefined ? "-" : formatDuration(Math.max(0, nowMs - newest.timeMs)),
    storage?.lagBytes === undefined ? "-" : lag(storage.lagBytes, storage.lagMs ?? 0),
    waiting.length === 0 ? "-" : lag(waitingBytes, waitingMs),
    usage,
    newest === undefined || oldest === undefined ? "-" : formatDuration(newest.timeMs - oldest.timeMs),
  ];
}

function lag(bytes: number, ms: number): string {
  return bytes === 0 ? "0B" : `${formatSize(bytes)} ${formatDuration(ms)}`;
}
