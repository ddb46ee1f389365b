/** @module The hash of a whole volume at a snapshot (bhash). */
import { lbBytes } from "../units.ts";
import { defaultBulkLb } from "../wire/grammar.ts";
import type { JobContext } from "./apply.ts";
import { type ScanMemory, SnapshotImage } from "./scan.ts";
import type { ArchiveVolume } from "./volume.ts";

/** What to hash. */
export interface HashRequest {
  readonly gid?: bigint | undefined;
  readonly bulkLb?: number | undefined;
  readonly sizeLb?: number | undefined;
}

/** The hash of a volume's content at a snapshot. */
export async function hashVolume(
  volume: ArchiveVolume,
  memory: ScanMemory,
  request: HashRequest,
  { signal, progress }: JobContext,
): Promise<{ readonly gid?: bigint; readonly hash: string; readonly sizeLb: number; readonly bulkLb: number }> {
  const bulkLb = request.bulkLb ?? defaultBulkLb;
  const sizeLb = request.sizeLb ?? volume.store.sizeLb;
  const gid = request.gid === undefined ? {} : { gid: request.gid };
  const image = await SnapshotImage.open(volume, memory, { ...gid, sizeLb, bulkLb }, signal);
  try {
    const totalBytes = sizeLb * lbBytes;
    const hash = await image.hash(signal, (doneBytes) => progress({ doneBytes, totalBytes, step: "hashing" }));
    return { ...gid, hash: Buffer.from(hash).toString("hex"), sizeLb, bulkLb };
  } finally {
    await image.close();
  }
}
