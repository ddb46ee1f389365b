/**
 * @module Receives a log from a storage as a durable diff.
 *
 * Order: file complete → fsync → final name → rows for every archive (one transaction) → Ack. What breaks off before
 * leaves nothing behind and is sent again by the storage.
 */

import { commitDiffFile } from "../diff/commit.ts";
import { type ConvertOptions, IndexedDiffWriter } from "../diff/convert.ts";
import { type DiffIo, defaultMaxIoLb, type LogIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { PackBatch } from "../log/batch.ts";
import type { DiskFile } from "../platform/disk.ts";
import { diffFileName } from "../snapshot/filename.ts";
import { lbBytes, mib } from "../units.ts";
import type { LogSink } from "../wire/log-receive.ts";
import type { ReceivedLog, WlogRequest } from "../wire/wlog-transfer.ts";
import { judgeSpace, type SpaceClaims } from "./space.ts";
import type { DiffRow, NewDiff } from "./store.ts";
import type { ProxyVolume } from "./volume.ts";

/** Temporary files of receptions; removed at start. */
export const temporaryPrefix = "receiving-";

/** What was written is synced each time so much more has come, so that the last sync, which the storage waits for, is short. */
const syncBytes = 32 * mib;

/** A log being received. */
export class Reception implements LogSink {
  readonly #volume: ProxyVolume;
  readonly #request: WlogRequest;
  readonly #file: DiskFile;
  readonly #writer: IndexedDiffWriter;
  /** Conversions under way, in order; a failure is thrown at the next step. */
  readonly #adding = new Set<Promise<void>>();
  readonly #unclaim: () => void;
  #failure: unknown;
  /** The sync under way, and how much had been written when it began. */
  #syncing: Promise<void> | undefined;
  #syncedBytes = 0;
  /** Log received: the lsids it begins and ends at. */
  #firstLsid: number | undefined;
  #endLsid = 0;

  private constructor(
    volume: ProxyVolume,
    request: WlogRequest,
    file: DiskFile,
    writer: IndexedDiffWriter,
    claims: SpaceClaims,
  ) {
    this.#volume = volume;
    this.#request = request;
    this.#file = file;
    this.#writer = writer;
    this.#unclaim = claims.add(this);
  }

  /** Bytes of the log that was announced and has not come. */
  get restBytes(): number {
    return this.#request.logSizePb * this.#request.pbsBytes - this.#receivedPb * this.#request.pbsBytes;
  }

  get #receivedPb(): number {
    return this.#firstLsid === undefined ? 0 : this.#endLsid - this.#firstLsid;
  }

  /** Makes room and the temporary file. @throws WalbError `no-space` before anything is accepted. */
  static async begin(volume: ProxyVolume, request: WlogRequest, io: DiffIo, claims: SpaceClaims): Promise<Reception> {
    await checkSpace(volume, request.logSizePb * request.pbsBytes, claims);
    const directory = volume.diffDirectory(request.uuid);
    await io.disk.makeDirectory(directory);
    const suffix = Array.from(volume.platform.random.bytes(6), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const path = `${directory}/${temporaryPrefix}${suffix}.tmp`;
    let file: DiskFile | undefined;
    try {
      file = await io.disk.open(path, { mode: "create" });
      const options: ConvertOptions = { uuid: Buffer.from(request.uuid, "hex"), sizeLb: request.sizeLb };
      const writer = await IndexedDiffWriter.create(io, file, options);
      return new Reception(volume, request, file, writer, claims);
    } catch (error) {
      await discard(volume, file, path);
      throw error;
    }
  }

  write(batch: PackBatch): void {
    if (this.#failure !== undefined) {
      batch.release();
      throw this.#failure;
    }
    this.#firstLsid ??= batch.parts[0]?.header.lsid;
    this.#endLsid = batch.endLsid;
    if (this.#receivedPb > this.#request.logSizePb) {
      batch.release();
      // Room was made for so much and no more.
      this.#failure = new WalbError("protocol", {
        what: `${this.#receivedPb} blocks of log came, but ${this.#request.logSizePb} were announced`,
        where: { volume: this.#volume.name, field: "maxLogSizePb" },
      });
      throw this.#failure;
    }
    const adding = this.#writer
      .add(iosOf(batch))
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        batch.release();
        this.#adding.delete(adding);
        this.#syncWritten();
      });
    this.#adding.add(adding);
  }

  #syncWritten(): void {
    const { dataBytes } = this.#writer;
    if (this.#syncing !== undefined || dataBytes - this.#syncedBytes < syncBytes) return;
    this.#syncedBytes = dataBytes;
    this.#syncing = this.#file
      .sync()
      .catch((error: unknown) => {
        // The system tells a lost write to one sync only.
        this.#failure ??= error;
      })
      .finally(() => {
        this.#syncing = undefined;
      });
  }

  async abandon(error: unknown): Promise<void> {
    await this.#giveUp();
    this.#volume.log.info("a log was not received completely; the storage sends it again", { error });
  }

  /** Makes the diff durable and registers it for every archive. Cleans up when it fails. */
  async commit(received: ReceivedLog): Promise<void> {
    const { platform, store } = this.#volume;
    const { uuid, sizeLb } = this.#request;
    const meta = received.diff;
    const diff = {
      fileName: diffFileName(meta),
      uuid,
      fromGid: meta.from.gidB,
      toGid: meta.to.gidB,
      isMergeable: meta.isMergeable,
      timestampS: meta.timestampS,
      receivedMs: platform.clock.nowMs(),
    };
    try {
      await Promise.all(this.#adding);
      await this.#syncing;
      if (this.#failure !== undefined) throw this.#failure;
      const known = store.find(diff);
      // Sent again because its Ack was lost: what is here already is as good, and may be on its way to an archive.
      if (known !== undefined && (await this.#isWhole(known))) {
        await this.#giveUp();
        store.noteReceived(diff.receivedMs, sizeLb);
        return;
      }
      await this.#writer.finish();
      this.#unclaim();
      const sizeBytes = await this.#file.size();
      await commitDiffFile(platform.disk, this.#file, this.#volume.pathOf(diff));
      await this.#register({ ...diff, sizeBytes });
    } catch (error) {
      await this.#giveUp();
      throw asWalbError(error, { volume: this.#volume.name });
    }
  }

  async #register(diff: NewDiff): Promise<void> {
    const { store, platform } = this.#volume;
    try {
      const { replaced } = store.addDiff(diff, this.#request.sizeLb);
      if (replaced !== undefined) await this.#volume.removeFiles([replaced]);
    } catch (error) {
      // Without a row it would only be adopted at the next start; nothing was acknowledged.
      if (store.find(diff) === undefined) {
        await platform.disk.remove(this.#volume.pathOf(diff)).catch(() => undefined);
      }
      throw error;
    }
  }

  async #isWhole(diff: DiffRow): Promise<boolean> {
    const info = await this.#volume.platform.disk.info(this.#volume.pathOf(diff));
    return info?.kind === "file" && info.sizeBytes === diff.sizeBytes;
  }

  async #giveUp(): Promise<void> {
    this.#unclaim();
    await Promise.all(this.#adding);
    await this.#syncing;
    await this.#writer.abandon();
    await discard(this.#volume, this.#file, this.#file.path);
  }
}

async function checkSpace(volume: ProxyVolume, logBytes: number, claims: SpaceClaims): Promise<void> {
  const space = await volume.platform.disk.freeSpace(volume.directory);
  const place = { host: volume.settings.nodeId, volume: volume.name, file: volume.directory };
  const refusal = judgeSpace(space, logBytes, claims.restBytes, place);
  if (refusal !== undefined) throw refusal;
}

/** Closes and removes a temporary file; a failure costs only space until the next start. */
async function discard(volume: ProxyVolume, file: DiskFile | undefined, path: string): Promise<void> {
  try {
    await file?.close();
    await volume.platform.disk.remove(path);
  } catch (error) {
    volume.log.warn("a temporary file could not be removed", { file: path, error });
  }
}

/** The writes of a batch. Long ones are cut where records will be, so that none is compressed twice. */
function iosOf(batch: PackBatch): LogIo[] {
  const ios: LogIo[] = [];
  for (const part of batch.parts) {
    for (let i = 0; i < part.data.length; i += 1) {
      const { kind, offsetLb, sizeLb } = part.header.records[part.firstRecord + i]!;
      const data = part.data[i];
      const stored = part.stored?.[i];
      if (kind === "discard") ios.push({ offsetLb, sizeLb, kind });
      if (kind !== "data" || data === undefined) continue;
      if (sizeLb <= defaultMaxIoLb) {
        ios.push({ offsetLb, sizeLb, kind, data, stored });
        continue;
      }
      for (let at = offsetLb; at < offsetLb + sizeLb; ) {
        const end = Math.min(offsetLb + sizeLb, at - (at % defaultMaxIoLb) + defaultMaxIoLb);
        const slice = data.slice((at - offsetLb) * lbBytes, (end - at) * lbBytes);
        ios.push({ offsetLb: at, sizeLb: end - at, kind, data: slice });
        at = end;
      }
    }
  }
  return ios;
}
