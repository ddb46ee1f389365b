/**
 * @module A full backup: the archive gets a copy of the whole volume while it is written to; the log of that time makes
 * the copy consistent afterwards.
 *
 * Order: archive accepts → log reset → log shipping begins → copy → explicit snapshot → archive commits → Target.
 */
import type { ProgressReport } from "../control/job.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { addressText } from "../platform/net.ts";
import { lbBytes } from "../units.ts";
import { runFullSync } from "../wire/full-sync.ts";
import { connectWire } from "../wire/handshake.ts";
import { refusedError } from "../wire/words.ts";
import { scanBulks } from "./scan.ts";
import type { StorageVolume } from "./volume.ts";

/** What a full backup needs from the role. */
export interface FullBackupParts {
  readonly pool: MemoryPool;
  readonly bulkLb: number;
  readonly rateBytesPerS: () => number;
  readonly signal: AbortSignal;
  readonly progress: (report: ProgressReport) => void;
  /** Begins to ship the log of the volume. */
  readonly follow: () => void;
  /** Ends shipping after a failure. */
  readonly unfollow: () => Promise<void>;
  /** Ships at once what is there: the snapshot that ends the copy. */
  readonly kick: () => void;
}

/** What a full backup was. */
export interface FullBackupResult {
  readonly gid: bigint;
  readonly scannedBytes: number;
  readonly sentBytes: number;
}

/** Runs the backup; the volume is in FullSync meanwhile, and a Target afterwards. */
export async function fullBackup(volume: StorageVolume, parts: FullBackupParts): Promise<FullBackupResult> {
  volume.machine.requireNotStopping("take a full backup");
  const transition = volume.machine.begin(["SyncReady"], "FullSync", "take a full backup");
  try {
    const result = await copyToArchive(volume, parts);
    volume.store.setState("Target");
    transition.commit("Target");
    volume.log.info("full backup done", { gid: result.gid, sentBytes: result.sentBytes });
    return result;
  } catch (error) {
    await parts.unfollow();
    transition.rollback();
    const cause = asWalbError(error, { volume: volume.name });
    const failure = new WalbError(cause.code, {
      what: `the full backup failed: ${cause.what}`,
      where: cause.where,
      hint: cause.hint ?? `the volume is as before: walb backup ${volume.name} tries again`,
    });
    // Who cancelled knows why; nothing is wrong with the volume.
    if (parts.signal.aborted) volume.clearTrouble();
    else volume.setTrouble(failure);
    throw failure;
  }
}

async function copyToArchive(volume: StorageVolume, parts: FullBackupParts): Promise<FullBackupResult> {
  const { platform, settings } = volume;
  const info = await volume.device.info();
  const totalBytes = info.sizeLb * lbBytes;
  parts.progress({ doneBytes: 0, totalBytes, step: "asking the archive" });
  const { stream } = await connectWire(platform.net, settings.archive, {
    clock: platform.clock,
    clientId: settings.nodeId,
    protocol: "dirty-full-sync3",
    deadlineMs: settings.socketTimeoutMs,
  });
  const abort = (): void => stream.close(new WalbError("cancelled", { what: "the backup was cancelled" }));
  parts.signal.addEventListener("abort", abort);
  let data: DiskFile | undefined;
  let gid = 0n;
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
    const answer = await runFullSync(stream, request, {
      async accepted() {
        await volume.resetLog(0n);
        return volume.store.logUuid!;
      },
      bulks() {
        parts.follow();
        return scanBulks({
          file,
          pool: parts.pool,
          clock: platform.clock,
          sizeLb: info.sizeLb,
          bulkLb: parts.bulkLb,
          compress: settings.compress,
          rateBytesPerS: parts.rateBytesPerS,
          signal: parts.signal,
        });
      },
      async snapshot() {
        parts.progress({ doneBytes: totalBytes, totalBytes, step: "taking the snapshot that ends the copy" });
        const point = await volume.takeSnapshot(false);
        gid = point.gid;
        parts.kick();
        return { gidB: 0n, gidE: gid };
      },
      progress: (doneLb) => parts.progress({ doneBytes: doneLb * lbBytes, totalBytes, step: "copying the volume" }),
    });
    if (answer.kind !== "accept") {
      throw refusedError(addressText(settings.archive), "the full backup", answer);
    }
    return { gid, scannedBytes: totalBytes, sentBytes: stream.writtenBytes };
  } catch (error) {
    parts.signal.throwIfAborted();
    throw error;
  } finally {
    parts.signal.removeEventListener("abort", abort);
    stream.close();
    await data?.close();
  }
}
