/**
 * @module Receives a full backup: bulks are decoded and written to a fresh sparse image, several at once.
 *
 * Order: image made → data → fdatasync → Ack → manifest → row Archived → Ack. What breaks off before leaves the volume
 * SyncReady, and the next backup begins with an empty image again.
 */
import { WalbError } from "../errors.ts";
import { baseImage } from "../image/image.ts";
import type { Snapshot } from "../snapshot/types.ts";
import { lbBytes } from "../units.ts";
import type { BulkSink, ReceivedBulk } from "../wire/bulk-stream.ts";
import type { BackupRequest } from "../wire/full-sync.ts";
import { forgetBaseHashes } from "./base-hashes.ts";
import { ImageWriter } from "./image-writer.ts";
import { finishReset } from "./reconcile.ts";
import type { FullBackup } from "./store.ts";
import type { ArchiveVolume } from "./volume.ts";
import { requireDirectory } from "./volume-directory.ts";

/** A full backup being received. */
export class FullSync implements BulkSink {
  readonly #volume: ArchiveVolume;
  readonly #request: BackupRequest;
  readonly #writer: ImageWriter;

  private constructor(volume: ArchiveVolume, request: BackupRequest, writer: ImageWriter) {
    this.#volume = volume;
    this.#request = request;
    this.#writer = writer;
  }

  /** Makes the empty image. */
  static async begin(volume: ArchiveVolume, request: BackupRequest): Promise<FullSync> {
    const { sizeLb, compress } = request;
    await requireDirectory(volume);
    // A reset that broke off would otherwise be finished by the next start: with this backup as its victim.
    if (volume.store.isResetting) await finishReset(volume);
    // Nor may a replication go on in an image that is another's now.
    volume.store.fullCopy.clear();
    await forgetBaseHashes(volume);
    const content = await volume.images.createEmpty(volume.name, sizeLb * lbBytes);
    const image = await volume.images.open(baseImage(volume.name), "write");
    const copy = { image, content, startLb: 0, sizeLb, codec: compress.codec, what: "full backup" };
    return new FullSync(volume, request, new ImageWriter(volume, copy));
  }

  write(bulk: ReceivedBulk): Promise<void> {
    return this.#writer.write(bulk);
  }

  finish(): Promise<void> {
    return this.#writer.finish();
  }

  abandon(error: unknown): Promise<void> {
    return this.#writer.abandon(error);
  }

  /** Waits for what is under way and closes the image. Idempotent; never throws. */
  close(): Promise<void> {
    return this.#writer.close();
  }

  /** Makes the image the base of the volume. @throws WalbError when that could not be made durable. */
  async commit(snapshot: Snapshot, logUuid: string): Promise<void> {
    const { platform } = this.#volume;
    const { sizeLb, timestampS } = this.#request;
    await commitBase(this.#volume, {
      sizeLb,
      logUuid,
      archiveUuid: Buffer.from(platform.random.bytes(16)).toString("hex"),
      base: { from: snapshot, timestampS },
      lastSyncMs: platform.clock.nowMs(),
    });
  }
}

/** Makes a durable image the base of a volume without backups. */
export async function commitBase(volume: ArchiveVolume, backup: FullBackup): Promise<void> {
  const { store } = volume;
  requireGid(backup.base.to ?? backup.base.from);
  // The image is durable, so a manifest that is ahead of the row says nothing wrong.
  const uuids = { diffUuids: [backup.logUuid], labels: [], colds: [], retiredUuids: [], knownUuids: [] };
  await volume.saveManifest({ ...store.manifest(), ...backup, ...uuids, state: "Archived" });
  store.commitFullBackup(backup);
}

/** @throws WalbError `out-of-range` for a gid that can neither be stored nor shown. */
export function requireGid(snapshot: Snapshot): void {
  if (snapshot.gidE <= BigInt(Number.MAX_SAFE_INTEGER)) return;
  throw new WalbError("out-of-range", { what: `the snapshot has gid ${snapshot.gidE}`, where: { field: "gidE" } });
}
