/**
 * @module Receives a hash backup: sends the hashes of the newest image, base and diffs together, and makes one diff of what
 * comes back. All points stay.
 *
 * Order: packs → file complete → manifest → fsync, final name, fsync of the directory → row with diff and log uuid → Ack.
 * What breaks off before leaves the volume as it was. A crash behind the final name is finished at the next start.
 */
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import { diffFileName } from "../snapshot/filename.ts";
import { timestampMaxS } from "../snapshot/time.ts";
import { type DiffMeta, diffMeta, isClean, type Snapshot } from "../snapshot/types.ts";
import { lbBytes } from "../units.ts";
import type { BackupRequest } from "../wire/full-sync.ts";
import { hashBytes } from "../wire/hash-stream.ts";
import { hashSeed } from "../wire/hash-sync.ts";
import type { PackSink, ReceivedPack } from "../wire/pack-stream.ts";
import { ReceivedFile, requireSpace } from "./receive.ts";
import { type ScanMemory, SnapshotImage } from "./scan.ts";
import type { ArchiveVolume } from "./volume.ts";
import { requireDirectory } from "./volume-directory.ts";

/** What makes of the newest snapshot the one of a hash backup. Source: `docs/diff-algebra.md`, hash backup. */
function hashBackupDiff(latest: Snapshot, to: Snapshot, timestampS: number, dataSizeBytes: number): DiffMeta {
  // A clean snapshot stays restorable: nothing may be merged into the diff that leads to it.
  const isMergeable = !isClean(latest);
  return diffMeta({ from: latest, to, isMergeable, isCompared: false, timestampS, dataSizeBytes });
}

/** A hash backup being received. */
export class HashSync implements PackSink {
  readonly #volume: ArchiveVolume;
  readonly #io: DiffIo;
  readonly #request: BackupRequest;
  readonly #image: SnapshotImage;
  readonly #latest: Snapshot;
  /** The snapshot to tell the storage: behind it are gids that no diff here has. */
  readonly told: Snapshot;
  #uuid = "";
  #file: ReceivedFile | undefined;
  #complete: { readonly sizeBytes: number; readonly contentLb: number } | undefined;

  private constructor(
    volume: ArchiveVolume,
    io: DiffIo,
    request: BackupRequest,
    image: SnapshotImage,
    latest: Snapshot,
    told: Snapshot,
  ) {
    this.#volume = volume;
    this.#io = io;
    this.#request = request;
    this.#image = image;
    this.#latest = latest;
    this.told = told;
  }

  /** Opens the newest image. @throws WalbError `no-space`, `damaged`, `out-of-range`. */
  static async begin(
    volume: ArchiveVolume,
    memory: ScanMemory & { readonly receiving: DiffIo },
    request: BackupRequest,
    signal: AbortSignal,
  ): Promise<HashSync> {
    const { sizeLb, bulkLb, timestampS } = request;
    if (timestampS > timestampMaxS) {
      throw new WalbError("out-of-range", { what: `the time ${timestampS} cannot be`, where: { field: "curTime" } });
    }
    await requireDirectory(volume);
    await requireSpace(volume, memory.receiving, 0, "a hash backup");
    const { from: latest } = volume.latest();
    const { gidMax } = volume.store;
    // Where a diff in between is lost, others lie behind it that can never be reached: their gids must not come again.
    const told = { gidB: latest.gidB, gidE: gidMax > latest.gidE ? gidMax : latest.gidE };
    const image = await SnapshotImage.open(volume, memory, { sizeLb, bulkLb }, signal);
    volume.syncProgress = { doneBytes: 0, totalBytes: sizeLb * lbBytes };
    return new HashSync(volume, memory.receiving, request, image, latest, told);
  }

  /** Makes the file for what differs. @param uuid of the storage's new log. */
  async open(uuid: string): Promise<void> {
    this.#uuid = uuid;
    this.#file = await ReceivedFile.create(this.#volume, this.#io, uuid, this.#request.sizeLb * lbBytes);
  }

  /** Hashes of the newest image. */
  async *hashes(signal: AbortSignal): AsyncGenerator<Uint8Array, void> {
    const { sizeLb, bulkLb, timestampS } = this.#request;
    const totalBytes = sizeLb * lbBytes;
    let doneBytes = 0;
    for await (const piece of this.#image.hashes(hashSeed(timestampS), signal)) {
      yield piece;
      doneBytes = Math.min(totalBytes, doneBytes + (piece.length / hashBytes) * bulkLb * lbBytes);
      this.#volume.syncProgress = { doneBytes, totalBytes };
    }
  }

  write(pack: ReceivedPack): Promise<void> {
    return this.#file!.write(pack);
  }

  async finish(): Promise<void> {
    this.#complete = await this.#file!.complete();
    await this.#file!.sync();
  }

  async abandon(_error: unknown): Promise<void> {
    await this.close();
  }

  /** Makes the diff part of the volume. @throws WalbError when that could not be made durable; then it is no part. */
  async commit(to: Snapshot): Promise<void> {
    const { store, platform, pins } = this.#volume;
    if (to.gidE > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new WalbError("out-of-range", { what: `the snapshot has gid ${to.gidE}`, where: { field: "gidE" } });
    }
    if (isClean(to)) {
      throw new WalbError("protocol", {
        what: `the snapshot ${to.gidB} of a hash backup cannot be one moment: the volume was written to meanwhile`,
        where: { field: "gidE" },
      });
    }
    const { sizeBytes, contentLb } = this.#complete!;
    const meta = hashBackupDiff(this.#latest, to, this.#request.timestampS, sizeBytes);
    const fileName = diffFileName(meta);
    const uuid = this.#uuid;
    const lastSyncMs = platform.clock.nowMs();
    // A start that finds the file without its row knows by the manifest what it is.
    const { diffUuids, ...rest } = store.manifest();
    const uuids = [...new Set([...diffUuids, uuid])].sort();
    await this.#volume.saveManifest({ ...rest, logUuid: uuid, diffUuids: uuids, lastSyncMs });
    try {
      await this.#file!.commit(fileName);
      pins.keep(fileName);
      store.commitHashBackup({ fileName, meta, uuid, contentLb }, lastSyncMs);
      this.#file = undefined;
    } catch (error) {
      await this.#undo(fileName);
      throw error;
    }
    await this.#volume.saveManifest();
  }

  /** Lets go of everything; what was not committed is removed. Idempotent; never throws. */
  async close(): Promise<void> {
    this.#volume.syncProgress = undefined;
    const file = this.#file;
    this.#file = undefined;
    await file?.discard();
    try {
      await this.#image.close();
    } catch (error) {
      this.#volume.log.warn("the image could not be closed", { error });
    }
  }

  async #undo(fileName: string): Promise<void> {
    try {
      await this.#volume.platform.disk.remove(this.#volume.pathOf(fileName));
      await this.#volume.saveManifest();
    } catch (error) {
      this.#volume.log.warn("a diff that is no part of the volume could not be removed", { file: fileName, error });
    }
  }
}
