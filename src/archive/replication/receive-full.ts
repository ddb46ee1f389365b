/**
 * @module Receives a full replication. What breaks off goes on where it was durable, when the same image is sent again.
 *
 * Order: row of the archive's uuid and the image's state → data → fdatasync → row of how far → … → fdatasync → manifest →
 * row Archived, without the other → Ack.
 */
import { baseImage, type EmptyContent } from "../../image/image.ts";
import { lbBytes } from "../../units.ts";
import type { BulkSink, ReceivedBulk } from "../../wire/bulk-stream.ts";
import type { ReplFullRequest } from "../../wire/repl-sync.ts";
import { forgetBaseHashes } from "../base-hashes.ts";
import { resumeLb } from "../full-copy.ts";
import { commitBase, requireGid } from "../full-sync.ts";
import { ImageWriter } from "../image-writer.ts";
import { finishReset } from "../reconcile.ts";
import type { ArchiveVolume } from "../volume.ts";

/** A full replication being received. */
export class FullReception implements BulkSink {
  readonly #volume: ArchiveVolume;
  readonly #request: ReplFullRequest;
  readonly #archiveUuid: string;
  readonly #writer: ImageWriter;
  readonly #ended: () => Promise<void>;
  /** Where the copy begins. */
  readonly startLb: number;

  private constructor(
    volume: ArchiveVolume,
    request: ReplFullRequest,
    archiveUuid: string,
    startLb: number,
    writer: ImageWriter,
    ended: () => Promise<void>,
  ) {
    this.#volume = volume;
    this.#request = request;
    this.#archiveUuid = archiveUuid;
    this.startLb = startLb;
    this.#writer = writer;
    this.#ended = ended;
  }

  /** Makes the image ready. @param ended called once, when all is over. */
  static async begin(
    volume: ArchiveVolume,
    request: ReplFullRequest,
    archiveUuid: string,
    ended: () => Promise<void>,
  ): Promise<FullReception> {
    const { store, images, name } = volume;
    const { sizeLb, bulkLb, base, compress } = request;
    requireGid(base.to ?? base.from);
    if (store.isResetting) await finishReset(volume);
    await forgetBaseHashes(volume);
    const totalBytes = sizeLb * lbBytes;
    const copy = { archiveUuid, base, sizeLb };
    const startLb = (await images.exists(baseImage(name))) ? resumeLb(store.fullCopy.get(), copy, bulkLb) : 0;
    // Where a copy goes on, anything may have been written behind its durable part.
    let content: EmptyContent = "anything";
    if (startLb === 0) {
      store.fullCopy.clear();
      content = await images.createEmpty(name, totalBytes);
    } else if ((await images.sizeBytes(baseImage(name))) < totalBytes) {
      await images.grow(baseImage(name), totalBytes);
    }
    store.fullCopy.set({ ...copy, doneLb: startLb });
    const image = await images.open(baseImage(name), "write");
    const onDurable = (doneLb: number): void => store.fullCopy.set({ ...copy, doneLb });
    const what = "full replication";
    const writer = new ImageWriter(volume, { image, content, startLb, sizeLb, codec: compress.codec, what, onDurable });
    return new FullReception(volume, request, archiveUuid, startLb, writer, ended);
  }

  write(bulk: ReceivedBulk): Promise<void> {
    return this.#writer.write(bulk);
  }

  async finish(): Promise<void> {
    const { sizeLb, uuid: logUuid, base } = this.#request;
    await this.#writer.finish();
    await this.#writer.close();
    const lastSyncMs = this.#volume.platform.clock.nowMs();
    await commitBase(this.#volume, { sizeLb, logUuid, archiveUuid: this.#archiveUuid, base, lastSyncMs });
    this.#volume.log.info("full replication received", { gid: base.from.gidB, startLb: this.startLb });
    await this.#ended();
  }

  async abandon(_error: unknown): Promise<void> {
    await this.#writer.keep();
    await this.#ended();
  }
}
