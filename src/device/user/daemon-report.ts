/** @module What a device daemon tells of a volume. */
import { WalbError } from "../../errors.ts";
import type { RedoResult } from "../../log/redo.ts";
import { type Address, addressText } from "../../platform/net.ts";
import { lbBytes } from "../../units.ts";
import type { VolumeReport } from "./control/schema.ts";
import type { VolumeConfig } from "./daemon-config.ts";
import { boundTuning } from "./daemon-tuning.ts";
import type { WriteAheadEngine } from "./engine.ts";

/** A volume of the daemon: running, failed, or stopped, which is neither engine nor failure. */
export interface Volume {
  readonly name: string;
  /** Undefined when the file could not be understood. */
  config: VolumeConfig | undefined;
  engine: WriteAheadEngine | undefined;
  /** The daemon has yet to open it, or is at it. */
  isStarting: boolean;
  failure: WalbError | undefined;
  unwatch: () => void;
}

/** Who uses a volume, and where. */
export interface VolumeUse {
  connectionsOf(name: string): number;
  watchersOf(name: string): number;
  addresses(): readonly Address[];
  /** NBD over TCP takes TLS only. */
  readonly isTcpTls: boolean;
}

/** What a report needs to know of the daemon. */
export interface ReportSurroundings {
  /** Makes paths of the configuration absolute. */
  resolve(path: string): string;
  /** What a volume may have pending at most. */
  readonly pendingBudgetBytes: number;
}

export function reportOf(volume: Volume, use: VolumeUse, surroundings: ReportSurroundings): VolumeReport {
  const { resolve, pendingBudgetBytes } = surroundings;
  const { name, engine, config, failure } = volume;
  const info = engine?.deviceInfo();
  const status = engine?.deviceStatus();
  const reason = failure?.message ?? status?.readOnlyReason;
  const hint = failure?.hint ?? nextStep(volume);
  return {
    name,
    state: stateOf(volume),
    ...(reason === undefined ? {} : { reason }),
    ...(hint === undefined ? {} : { hint }),
    sizeBytes: info === undefined ? (config?.sizeBytes ?? 0) : info.sizeLb * lbBytes,
    overflow: config?.overflow ?? "keep-writing",
    ...(config?.tuning === undefined ? {} : { tuning: boundTuning(config.tuning, pendingBudgetBytes) }),
    dataPath: config === undefined ? "" : resolve(config.dataPath),
    logPath: config === undefined ? "" : resolve(config.logPath),
    connections: use.connectionsOf(name),
    watchers: use.watchersOf(name),
    uris: engine === undefined ? [] : use.addresses().map((address) => nbdUri(address, name, use.isTcpTls)),
    ...(info === undefined ? {} : { info, logCapacityPb: info.ringSizePb }),
    ...(status === undefined ? {} : { status, logUsagePb: status.lsids.latest - status.lsids.oldest }),
  };
}

/** What a redo had to give up, if anything: it cannot tell whether that was durable once. */
export function lossOf(redone: RedoResult, volume: string, logPath: string): WalbError | undefined {
  const { droppedPackCount, stop, superblock } = redone;
  if (droppedPackCount === 0) return undefined;
  const why = stop.kind === "data" ? `the data of record ${stop.recordIndex} is damaged` : "no log pack begins there";
  return new WalbError("damaged", {
    what: `the log was redone up to lsid ${superblock.writtenLsid} (${why}); ${droppedPackCount} log packs behind that were given up`,
    where: { volume, file: logPath },
    hint: "after a power failure these are writes that were not flushed; otherwise the log is damaged, and what was written last is lost: check its disk and the content of the volume",
  });
}

/** The error of a volume that could not be opened, with the way back in its hint. */
export function withWayBack(error: WalbError, name: string): WalbError {
  const command = `walb device start ${name}`;
  const { code, what, where, cause, hint = "remove the cause" } = error;
  if (hint.includes(command)) return error;
  return new WalbError(code, {
    what,
    where,
    hint: `${hint}; then: ${command}`,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** What is to be done about the state of a volume, if anything. */
export function nextStep(volume: Volume): string | undefined {
  const start = `walb device start ${volume.name}`;
  switch (stateOf(volume)) {
    case "starting":
      return "wait until its log is redone; when that takes long, look at the disks below";
    case "stopped":
      return start;
    case "read-only":
      return `repair its store, or make room on it, then redo the log: ${start}`;
    case "frozen":
      return `walb device melt ${volume.name}`;
    default:
      return undefined;
  }
}

function stateOf(volume: Volume): VolumeReport["state"] {
  if (volume.engine === undefined) {
    if (volume.isStarting) return "starting";
    return volume.failure === undefined ? "stopped" : "failed";
  }
  if (volume.engine.readOnlyReason !== undefined) return "read-only";
  return volume.engine.isFrozen ? "frozen" : "running";
}

/** Where a client reaches a volume, as libnbd and qemu take it. */
function nbdUri(address: Address, name: string, isTcpTls: boolean): string {
  return address.kind === "unix"
    ? `nbd+unix:///${encodeURIComponent(name)}?socket=${encodeURIComponent(address.path)}`
    : `${isTcpTls ? "nbds" : "nbd"}://${addressText(address)}/${encodeURIComponent(name)}`;
}

/** Why a volume cannot be started whose creation or deletion was interrupted. */
export function halfDone(name: string, state: "creating" | "deleting"): WalbError {
  return new WalbError("state", {
    what: `the volume is half ${state === "creating" ? "made" : "deleted"}`,
    where: { volume: name },
    hint: `delete what is left of it: walb device delete ${name}`,
  });
}

/** A volume that the daemon has yet to open. */
export function startingVolume(config: VolumeConfig): Volume {
  const { name } = config;
  return { name, config, isStarting: true, failure: undefined, engine: undefined, unwatch: () => undefined };
}

/** A volume that could not be opened. */
export function failedVolume(name: string, error: WalbError, config?: VolumeConfig): Volume {
  const failure = withWayBack(error, name);
  return { name, config, failure, isStarting: false, engine: undefined, unwatch: () => undefined };
}
