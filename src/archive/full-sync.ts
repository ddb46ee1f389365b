/**
 * @module Receives a full backup: bulks are decoded and written to a fresh sparse image, several at once.
 *
 * Order: image made → data → fdatasync → Ack → manifest → row Archived → Ack. What breaks off before leaves the volume
 * SyncReady, and the next backup begins with an empty image again.
 */
import { asWalbError, WalbError } from "../errors.ts";
import { baseImage } from "../image/image.ts";
import type { Codec } from "../native/codec.ts";
import type { DecodedWrite, DiskFile } from "../platform/disk.ts";
import type { Snapshot } from "../snapshot/types.ts";
import { lbBytes } from "../units.ts";
import type { BulkSink, ReceivedBulk } from "../wire/bulk-stream.ts";
import type { BackupRequest } from "../wire/full-sync.ts";
import { finishReset } from "./reconcile.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Small bulks are written together up to this size, so that a job moves enough. */
const jobBytes = 256 * 1024;
const jobsInFlightMax = 8;

type DataBulk = Extract<ReceivedBulk, { kind: "data" }>;

/** A full backup being received. */
export class FullSync implements BulkSink {
  readonly #volume: ArchiveVolume;
  readonly #request: BackupRequest;
  readonly #image: DiskFile;
  readonly #jobs = new Set<Promise<void>>();
  #batch: DataBulk[] = [];
  #batchBytes = 0;
  #unsyncedBytes = 0;
  #failure: unknown;

  private constructor(volume: ArchiveVolume, request: BackupRequest, image: DiskFile) {
    this.#volume = volume;
    this.#request = request;
    this.#image = image;
  }

  /** Makes the empty image. */
  static async begin(volume: ArchiveVolume, request: BackupRequest): Promise<FullSync> {
    const totalBytes = request.sizeLb * lbBytes;
    // A reset that broke off would otherwise be finished by the next start: with this backup as its victim.
    if (volume.store.isResetting) await finishReset(volume);
    await volume.images.createEmpty(volume.name, totalBytes);
    const image = await volume.images.open(baseImage(volume.name), "write");
    volume.syncProgress = { doneBytes: 0, totalBytes };
    return new FullSync(volume, request, image);
  }

  async write(bulk: ReceivedBulk): Promise<void> {
    if (this.#failure !== undefined) {
      if (bulk.kind === "data") bulk.release();
      throw this.#failure;
    }
    // The image is fresh: what is not written reads back as zeroes.
    if (bulk.kind === "data") {
      this.#batch.push(bulk);
      this.#batchBytes += bulk.sizeLb * lbBytes;
    }
    const doneBytes = (bulk.offsetLb + bulk.sizeLb) * lbBytes;
    const totalBytes = this.#request.sizeLb * lbBytes;
    this.#volume.syncProgress = { doneBytes, totalBytes };
    if (this.#batchBytes >= jobBytes) this.#flush();
    while (this.#jobs.size >= jobsInFlightMax) await Promise.race(this.#jobs);
  }

  async finish(): Promise<void> {
    this.#flush();
    await Promise.all(this.#jobs);
    if (this.#failure !== undefined) throw this.#failure;
    await this.#image.sync();
    await this.#image.close();
  }

  async abandon(_error: unknown): Promise<void> {
    for (const bulk of this.#batch) bulk.release();
    this.#batch = [];
    await this.close();
  }

  /** Waits for what is under way and closes the image. Idempotent; never throws. */
  async close(): Promise<void> {
    await Promise.all(this.#jobs);
    this.#volume.syncProgress = undefined;
    try {
      await this.#image.close();
    } catch (error) {
      this.#volume.log.warn("the image could not be closed", { error });
    }
  }

  /** Makes the image the base of the volume. @throws WalbError when that could not be made durable. */
  async commit(snapshot: Snapshot, logUuid: string): Promise<void> {
    const { store, platform } = this.#volume;
    if (snapshot.gidE > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new WalbError("out-of-range", { what: `the snapshot has gid ${snapshot.gidE}`, where: { field: "gidE" } });
    }
    const backup = {
      sizeLb: this.#request.sizeLb,
      logUuid,
      archiveUuid: Buffer.from(platform.random.bytes(16)).toString("hex"),
      base: { from: snapshot, timestampS: this.#request.timestampS },
      lastSyncMs: platform.clock.nowMs(),
    };
    // The image is durable, so a manifest that is ahead of the row says nothing wrong.
    const uuids = { diffUuids: [logUuid], labels: [], colds: [] };
    await this.#volume.saveManifest({ ...store.manifest(), ...backup, ...uuids, state: "Archived" });
    store.commitFullBackup(backup);
  }

  #flush(): void {
    const bulks = this.#batch;
    if (bulks.length === 0) return;
    this.#batch = [];
    this.#unsyncedBytes += this.#batchBytes;
    this.#batchBytes = 0;
    this.#start(this.#writeBulks(bulks));
    if (this.#unsyncedBytes < this.#volume.settings.fsyncIntervalBytes) return;
    this.#unsyncedBytes = 0;
    this.#start(this.#image.sync());
  }

  #start(work: Promise<void>): void {
    const job: Promise<void> = work
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#jobs.delete(job));
    this.#jobs.add(job);
  }

  async #writeBulks(bulks: readonly DataBulk[]): Promise<void> {
    const codec: Codec = this.#request.compress.codec;
    const items = bulks.map((bulk): DecodedWrite => {
      const sizeBytes = bulk.sizeLb * lbBytes;
      const { data: source, checksum } = bulk;
      const whole = { decodedBytes: sizeBytes, sliceOffsetBytes: 0, sliceBytes: sizeBytes };
      return { source, codec, checksum, ...whole, fileOffsetBytes: bulk.offsetLb * lbBytes };
    });
    try {
      const results = await this.#image.writeDecoded(items);
      const bad = results.findIndex((result) => result !== 0);
      if (bad < 0) return;
      throw new WalbError("damaged", {
        what: `the bulk at ${bulks[bad]!.offsetLb} LB came damaged: ${results[bad] === 1 ? "its checksum is wrong" : "it does not expand to its size"}`,
        hint: "check the network and the storage's memory, then take the backup again",
      });
    } catch (error) {
      throw asWalbError(error, { volume: this.#volume.name, step: "full backup" });
    } finally {
      for (const bulk of bulks) bulk.release();
    }
  }
}
