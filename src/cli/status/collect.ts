/** @module Asks the servers of the fleet for `walb status`, and puts together what they say of each volume. */
import type { ArchiveVolume } from "../../control/archive-schemas.ts";
import { commonCommands, type ServerInfo } from "../../control/common.ts";
import type { JobInfo } from "../../control/job.ts";
import type { ProxyVolume } from "../../control/proxy.ts";
import type { StorageVolume } from "../../control/storage.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import type { Fleet, FleetServer } from "../../fleet/fleet.ts";
import {
  type AgeLimits,
  type Heard,
  judgeProtection,
  measurePath,
  type PathMeasure,
  type Protection,
  troublesOf,
  type VolumePath,
} from "../../fleet/protection.ts";
import { Client } from "../../http/client.ts";
import { type ClientFlagValues, callOptions, loadFleet } from "../common.ts";
import { archiveClient, archivesOf, namedServer, proxyClient, storageClient } from "../servers.ts";
import type { Io } from "../verb.ts";

const defaultTimeoutMs = 10_000;
/** After an idle time the first write needs about a second to be shipped. */
const lookAgainMs = 2500;

/** What one server said. */
export interface ServerReport {
  readonly server: FleetServer;
  readonly volumes: readonly (StorageVolume | ProxyVolume | ArchiveVolume)[];
  readonly jobs: readonly JobInfo[];
  /** How its connections are protected. */
  readonly security?: ServerInfo["security"];
  readonly error?: WalbError;
}

/** One volume: what was said, the numbers, the verdict. */
export interface VolumeRow extends VolumePath, Omit<Protection, "isProtected" | "isOnlyLate"> {
  /** null: one server alone cannot say. */
  readonly isProtected: boolean | null;
  readonly measure: PathMeasure;
}

/** Everything at one moment. */
export interface FleetStatus {
  readonly rows: readonly VolumeRow[];
  readonly reports: readonly ServerReport[];
  readonly nowMs: number;
}

/** Asks and judges. @throws WalbError when no server answers, `not-found` when none has the volume. */
export async function collectStatus(
  flags: ClientFlagValues,
  io: Io,
  only: string | undefined,
  limits: AgeLimits,
): Promise<FleetStatus> {
  const fleet = loadFleet(flags, io);
  const named = flags.server === undefined ? undefined : await namedServer(flags, io, flags.server);
  const servers = named === undefined ? fleet.servers : [named];
  const look = async (): Promise<FleetStatus & { readonly isOnlyLate: boolean }> => {
    const reports = await Promise.all(servers.map((server) => ask(server, flags, io)));
    const failed = reports.find((report) => report.error !== undefined);
    if (failed?.error !== undefined && reports.every((report) => report.error !== undefined)) throw failed.error;
    const names = new Set(reports.flatMap((report) => report.volumes.map(({ volume }) => volume)));
    if (named === undefined) for (const name of Object.keys(fleet.volumes)) names.add(name);
    if (only !== undefined && !names.has(only)) {
      throw new WalbError("not-found", {
        what: "no server has this volume",
        where: { volume: only },
        hint: names.size === 0 ? "there is none yet" : `volumes: ${[...names].sort().join(", ")}`,
      });
    }
    const nowMs = io.nowMs();
    const judged = [...names]
      .filter((name) => only === undefined || name === only)
      .sort()
      .map((name) => judge(pathOf(name, fleet, reports, named), named, limits, nowMs));
    const rows = judged.map(({ row }) => row);
    return { rows, reports, nowMs, isOnlyLate: judged.some((entry) => entry.isOnlyLate) };
  };
  const first = await look();
  if (!first.isOnlyLate) return first;
  await Bun.sleep(lookAgainMs);
  return look();
}

/** What a status is as JSON. */
export function statusValue({ rows, reports, nowMs }: FleetStatus): object {
  return {
    nowMs,
    volumes: rows,
    servers: reports.map(({ server, security, error }) => ({
      ...server,
      isReachable: error === undefined,
      ...(security === undefined ? {} : { security }),
      ...(error === undefined ? {} : { error: error.toJSON() }),
    })),
    jobs: reports.flatMap((report) => runningJobs(report)),
  };
}

/** The jobs that run at a server. */
export function runningJobs(report: ServerReport): JobInfo[] {
  return report.jobs.filter((job) => job.state === "running");
}

async function ask(server: FleetServer, flags: ClientFlagValues, io: Io): Promise<ServerReport> {
  const options = { timeoutMs: defaultTimeoutMs, ...callOptions(flags, io) };
  const volumes = async (): Promise<ServerReport["volumes"]> => {
    // The clients of the three roles have no type in common.
    if (server.role === "storage") return (await storageClient(server).call("status", {}, options)).volumes;
    if (server.role === "proxy") return (await proxyClient(server).call("status", {}, options)).volumes;
    return (await archiveClient(server).call("status", {}, options)).volumes;
  };
  try {
    const client = new Client(server, commonCommands);
    const [found, jobs, { security }] = await Promise.all([
      volumes(),
      client.jobs(options),
      client.call("version", {}, options),
    ]);
    return { server, volumes: found, jobs, security };
  } catch (error) {
    if (io.signal.aborted) throw asWalbError(error);
    return { server, volumes: [], jobs: [], error: asWalbError(error) };
  }
}

function judge(
  path: VolumePath,
  named: FleetServer | undefined,
  limits: AgeLimits,
  nowMs: number,
): { row: VolumeRow; isOnlyLate: boolean } {
  const measure = measurePath(path, nowMs);
  if (named !== undefined)
    return {
      row: { ...path, isProtected: null, reasons: [], warnings: troublesOf(path), measure },
      isOnlyLate: false,
    };
  const { isOnlyLate, ...verdict } = judgeProtection(path, limits, nowMs);
  return { row: { ...path, ...verdict, measure }, isOnlyLate };
}

function pathOf(
  volume: string,
  fleet: Fleet,
  reports: readonly ServerReport[],
  named: FleetServer | undefined,
): VolumePath {
  const heard = <Status>({ server, volumes, error }: ServerReport): Heard<Status> => {
    const status = volumes.find((candidate) => candidate.volume === volume && candidate.state !== "Clear");
    return {
      server: server.name,
      ...(status === undefined ? {} : { status: status as Status }),
      ...(error === undefined ? {} : { error: error.message }),
    };
  };
  const ofRole = (role: string): ServerReport[] => reports.filter(({ server }) => server.role === role);
  const storages = ofRole("storage").map(heard<StorageVolume>);
  // The file may say which one has it; else the one that has it; else one that might.
  const owner = fleet.volumes[volume]?.storage;
  const storage =
    storages.find(({ server }) => server === owner) ??
    storages.find(({ status }) => status !== undefined) ??
    storages[0];
  const hasArchive = named === undefined && fleet.servers.some(({ role }) => role === "archive");
  const names = hasArchive
    ? archivesOf(fleet, volume).map(({ name }) => name)
    : named === undefined
      ? []
      : [named.name];
  const [primary, ...replicas] = names.flatMap((name) =>
    ofRole("archive")
      .filter(({ server }) => server.name === name)
      .map(heard<ArchiveVolume>),
  );
  return { volume, storage, proxies: ofRole("proxy").map(heard<ProxyVolume>), primary, replicas };
}
