/**
 * @module Volume directories of the original's storage daemon: device path, state, uuid, delivered point, pending
 * snapshots. Source: `docs/formats.md`, per-volume metadata files.
 */
import type { MemoryPool } from "../native/memory.ts";
import type { Random } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import { u64Max } from "../units.ts";
import { type LsidGid, putLsidGid, takeLsidGid } from "../wire/meta.ts";
import { encoded } from "../wire/serializer.ts";
import { badFile, decodeFile, readValue, takeWord, writeValue } from "./files.ts";
import { QueueFile, queueFileBytesMax } from "./queue.ts";

/** States that the original's storage daemon stores. */
const legacyStorageStates = ["SyncReady", "Stopped", "Target", "Standby"] as const;
export type LegacyStorageState = (typeof legacyStorageStates)[number];

/** A volume of the original's storage daemon. */
export interface LegacyStorageVolume {
  /** Path of the walb device, like `/dev/walb/vol0`. */
  readonly devicePath: string;
  readonly state: LegacyStorageState;
  /** uuid of the log at the last reset, 32 hex digits; all zero before the first. */
  readonly uuid: string;
  /** Everything before this point of the log has been delivered; lsid unset before the first reset. */
  readonly done: LsidGid;
  /** Snapshots not yet delivered, newest first; may hold some that `done` has passed already. */
  readonly queue: readonly LsidGid[];
}

/** What reading needs of the platform. */
export interface LegacyReadParts {
  readonly disk: Disk;
  readonly memory: MemoryPool;
}

/**
 * Reads a volume directory of the original's storage daemon.
 * @throws WalbError `locked` when the original still runs on it, `not-found`, `bad-format` naming file and field.
 */
export async function readLegacyStorageVolume(parts: LegacyReadParts, directory: string): Promise<LegacyStorageVolume> {
  const { disk } = parts;
  const devicePath = await readValue(disk, `${directory}/path`, "path", (decoder) => decoder.string("path", 4096));
  if (!devicePath.startsWith("/") || devicePath.includes("\0")) {
    throw badFile(`${directory}/path`, "path", `is "${devicePath.slice(0, 80)}", which is no absolute path`);
  }
  const state = await readValue(disk, `${directory}/state`, "state", (decoder) =>
    takeWord(decoder, "state", legacyStorageStates),
  );
  const uuid = await readValue(disk, `${directory}/uuid`, "uuid", (decoder) => decoder.uuid());
  const done = await readValue(disk, `${directory}/done`, "done", (decoder) => takeLsidGid(decoder, "done"));
  const queue = await readQueue(parts, `${directory}/queue`);
  const volume = { devicePath, state, uuid, done, queue };
  checkLegacyStorageVolume(volume, directory);
  return volume;
}

/** Reads the pending snapshots of a queue file, newest first. @throws WalbError as {@link readLegacyStorageVolume}. */
async function readQueue(parts: LegacyReadParts, path: string): Promise<LsidGid[]> {
  // The original holds this lock as long as it runs.
  const file = await parts.disk.open(path, { mode: "read", lock: true });
  try {
    const sizeBytes = await file.size();
    if (sizeBytes > queueFileBytesMax) throw badFile(path, "file size", `is ${sizeBytes}, which no queue file has`);
    const lease = await parts.memory.lease(sizeBytes);
    try {
      if (sizeBytes > 0) await file.read(0, lease);
      return decodeQueue(lease.bytes, path);
    } finally {
      lease.release();
    }
  } finally {
    await file.close();
  }
}

/** Pending snapshots of the bytes of a queue file, newest first. @throws WalbError `bad-format`. */
export function decodeQueue(bytes: Uint8Array, path: string): LsidGid[] {
  const records = QueueFile.decode(bytes, path).records();
  const queue = records.map((data, i) =>
    decodeFile(data, path, `record[${i}]`, (decoder) => takeLsidGid(decoder, `record[${i}]`)),
  );
  queue.forEach((record, i) => {
    const newer = queue[i - 1];
    if (record.lsid === undefined) throw badFile(path, `record[${i}].lsid`, "is unset");
    if (newer === undefined) return;
    if (record.gid >= newer.gid) throw badFile(path, `record[${i}].gid`, `is ${record.gid}, not below ${newer.gid}`);
    if (newer.lsid !== undefined && record.lsid > newer.lsid) {
      throw badFile(path, `record[${i}].lsid`, `is ${record.lsid}, above ${newer.lsid} of a newer one`);
    }
  });
  return queue;
}

/** The bytes of a queue file with these snapshots, newest first. */
export function encodeQueue(queue: readonly LsidGid[], salt: number): Uint8Array {
  const file = QueueFile.create(salt);
  for (const record of queue) file.pushBack(encoded((encoder) => putLsidGid(encoder, record)));
  return file.bytes();
}

/** Writes a volume directory as the original has it, `state` last. @throws WalbError `bad-format` for what cannot be. */
export async function writeLegacyStorageVolume(
  disk: Disk,
  random: Random,
  directory: string,
  volume: LegacyStorageVolume,
): Promise<void> {
  checkLegacyStorageVolume(volume, directory);
  await disk.makeDirectory(directory);
  await writeValue(disk, `${directory}/path`, (encoder) => encoder.string(volume.devicePath));
  await writeValue(disk, `${directory}/uuid`, (encoder) => encoder.uuid(volume.uuid));
  await writeValue(disk, `${directory}/done`, (encoder) => putLsidGid(encoder, volume.done));
  await disk.writeSmall(`${directory}/queue`, encodeQueue(volume.queue, random.u32()));
  await writeValue(disk, `${directory}/state`, (encoder) => encoder.string(volume.state));
}

function checkLegacyStorageVolume(volume: LegacyStorageVolume, directory: string): void {
  const { done, state, queue } = volume;
  const file = `${directory}/done`;
  if ((done.lsid === undefined) !== (done.gid === u64Max)) {
    throw badFile(file, "done", `has lsid ${done.lsid ?? "unset"} and gid ${done.gid}: only one of them is unset`);
  }
  if (done.lsid === undefined && (state === "Target" || queue.length > 0)) {
    throw badFile(file, "done", `is unset, though the volume is ${state} with ${queue.length} pending snapshots`);
  }
}
