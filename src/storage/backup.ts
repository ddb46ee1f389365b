/**
 * @module What full and hash backups have in common: the transition around them, the conversation with the archive, what
 * a failure leaves behind.
 */
import type { ProgressReport } from "../control/job.ts";
import type { DeviceInfo } from "../device/device.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { Compute } from "../native/codec.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { addressText } from "../platform/net.ts";
import { lbBytes } from "../units.ts";
import type { BackupRequest } from "../wire/full-sync.ts";
import { connectWire } from "../wire/handshake.ts";
import type { WireStream } from "../wire/stream.ts";
import { type Answer, ProtocolName, refusedError } from "../wire/words.ts";
import type { StorageVolume } from "./volume.ts";

/** What a backup needs from the role. */
export interface BackupParts {
  readonly pool: MemoryPool;
  readonly compute: Compute;
  readonly bulkLb: number;
  readonly rateBytesPerS: () => number;
  readonly signal: AbortSignal;
  readonly progress: (report: ProgressReport) => void;
  /** The archive takes the backup. */
  readonly accepted: () => void;
  /** Begins to ship the log of the volume. */
  readonly follow: () => void;
  /** Ends shipping after a failure. */
  readonly unfollow: () => Promise<void>;
  /** Ships at once what is there: the snapshot that ends the scan. */
  readonly kick: () => void;
}

/** What a backup was. */
export interface BackupResult {
  readonly gid: bigint;
  readonly scannedBytes: number;
  readonly sentBytes: number;
}

/** The kinds of backups: how people call one, its state, its protocol. */
export const backupKinds = {
  full: { text: "full backup", state: "FullSync", protocol: ProtocolName.fullSync },
  hash: { text: "hash backup", state: "HashSync", protocol: ProtocolName.hashSync },
} as const;
type BackupKind = (typeof backupKinds)[keyof typeof backupKinds];

/** What a backup works with. */
export interface BackupScene {
  /** Connects to the archive; called once, when all is there that could make the archive wait. */
  connect(): Promise<WireStream>;
  readonly info: DeviceInfo;
  /** The data device. */
  readonly file: DiskFile;
  readonly request: BackupRequest;
}

/** What a conversation brought. */
export interface BackupOutcome {
  readonly answer: Answer;
  /** Of the snapshot that ends the backup. */
  readonly gid: bigint;
}

/**
 * Runs a backup: the volume is in its state meanwhile, and a Target afterwards. After a failure it is SyncReady as before,
 * and the backup can be taken again.
 */
export async function runBackup(
  volume: StorageVolume,
  parts: BackupParts,
  kind: BackupKind,
  converse: (scene: BackupScene) => Promise<BackupOutcome>,
): Promise<BackupResult> {
  volume.machine.requireNotStopping(`take a ${kind.text}`);
  const transition = volume.machine.begin(["SyncReady"], kind.state, `take a ${kind.text}`);
  try {
    const result = await withArchive(volume, parts, kind, converse);
    volume.store.setState("Target");
    transition.commit("Target");
    volume.clearTrouble();
    volume.log.info(`${kind.text} done`, { gid: result.gid, sentBytes: result.sentBytes });
    return result;
  } catch (error) {
    await parts.unfollow();
    transition.rollback();
    const cause = asWalbError(error, { volume: volume.name });
    const failure = new WalbError(cause.code, {
      what: `the ${kind.text} failed: ${cause.what}`,
      where: cause.where,
      hint: cause.hint ?? `the volume is as before; try again: walb backup ${volume.name}`,
    });
    // Who cancelled knows why; nothing is wrong with the volume.
    if (parts.signal.aborted) volume.clearTrouble();
    else volume.setTrouble(failure);
    throw failure;
  }
}

async function withArchive(
  volume: StorageVolume,
  parts: BackupParts,
  kind: BackupKind,
  converse: (scene: BackupScene) => Promise<BackupOutcome>,
): Promise<BackupResult> {
  const { platform, settings } = volume;
  const info = await volume.device.info();
  const totalBytes = info.sizeLb * lbBytes;
  let stream: WireStream | undefined;
  const abort = (): void => stream?.close(new WalbError("cancelled", { what: "the backup was cancelled" }));
  parts.signal.addEventListener("abort", abort);
  const connect = async (): Promise<WireStream> => {
    parts.progress({ doneBytes: 0, totalBytes, step: "asking the archive" });
    const connected = await connectWire(platform.net, settings.archive, {
      clock: platform.clock,
      clientId: settings.nodeId,
      protocol: kind.protocol,
      deadlineMs: settings.socketTimeoutMs,
    });
    stream = connected.stream;
    parts.signal.throwIfAborted();
    return stream;
  };
  let data: DiskFile | undefined;
  try {
    parts.signal.throwIfAborted();
    const file = await volume.device.openData();
    data = file;
    const request = {
      hostType: "storage",
      volume: volume.name,
      sizeLb: info.sizeLb,
      timestampS: volume.nowS(),
      bulkLb: parts.bulkLb,
      compress: { ...settings.compress, cpuCount: 1 },
    };
    const { answer, gid } = await converse({ connect, info, file, request });
    if (answer.kind !== "accept") throw refusedError(addressText(settings.archive), `the ${kind.text}`, answer);
    return { gid, scannedBytes: totalBytes, sentBytes: stream?.writtenBytes ?? 0 };
  } catch (error) {
    parts.signal.throwIfAborted();
    throw error;
  } finally {
    parts.signal.removeEventListener("abort", abort);
    stream?.close();
    await data?.close();
  }
}
