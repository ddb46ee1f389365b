/**
 * @module Receives a log from a storage as a durable diff.
 *
 * Order: file complete → fsync → final name → rows for every archive (one transaction) → Ack. What breaks off before
 * leaves nothing behind and is sent again by the storage.
 */

import { commitDiffFile } from "../diff/commit.ts";
import { type ConvertOptions, IndexedDiffWriter } from "../diff/convert.ts";
import type { DiffIo, LogIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { PackBatch } from "../log/batch.ts";
import type { DiskFile } from "../platform/disk.ts";
import { diffFileName } from "../snapshot/filename.ts";
import { mib } from "../units.ts";
import type { LogSink } from "../wire/log-receive.ts";
import type { ReceivedLog, WlogRequest } from "../wire/wlog-transfer.ts";
import type { ProxyVolume } from "./volume.ts";

/** Temporary files of receptions; removed at start. */
export const temporaryPrefix = "receiving-";
/** Kept free beyond what a log needs. */
const spareBytes = mib;
/** Below this share of free space new logs are refused, so that deliveries can go on and make room. */
const freeShareMin = 0.02;

/** A log being received. */
export class Reception implements LogSink {
  readonly #volume: ProxyVolume;
  readonly #request: WlogRequest;
  readonly #file: DiskFile;
  readonly #writer: IndexedDiffWriter;
  /** Conversions under way, in order; a failure is thrown at the next step. */
  readonly #adding = new Set<Promise<void>>();
  #failure: unknown;

  private constructor(volume: ProxyVolume, request: WlogRequest, file: DiskFile, writer: IndexedDiffWriter) {
    this.#volume = volume;
    this.#request = request;
    this.#file = file;
    this.#writer = writer;
  }

  /** Makes room and the temporary file. @throws WalbError `no-space` before anything is accepted. */
  static async begin(volume: ProxyVolume, request: WlogRequest, io: DiffIo): Promise<Reception> {
    await checkSpace(volume, request);
    const directory = volume.diffDirectory(request.uuid);
    await io.disk.makeDirectory(directory);
    const suffix = Array.from(volume.platform.random.bytes(6), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const file = await io.disk.open(`${directory}/${temporaryPrefix}${suffix}.tmp`, { mode: "create" });
    try {
      const options: ConvertOptions = { uuid: Buffer.from(request.uuid, "hex"), sizeLb: request.sizeLb };
      return new Reception(volume, request, file, await IndexedDiffWriter.create(io, file, options));
    } catch (error) {
      await discard(volume, file);
      throw error;
    }
  }

  write(batch: PackBatch): void {
    if (this.#failure !== undefined) {
      batch.release();
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
      });
    this.#adding.add(adding);
  }

  async abandon(error: unknown): Promise<void> {
    await Promise.all(this.#adding);
    await this.#writer.abandon();
    await discard(this.#volume, this.#file);
    this.#volume.log.info("a log was not received completely; the storage sends it again", { error });
  }

  /** Makes the diff durable and registers it for every archive. */
  async commit(received: ReceivedLog): Promise<void> {
    const { platform, store } = this.#volume;
    try {
      await Promise.all(this.#adding);
      if (this.#failure !== undefined) throw this.#failure;
      await this.#writer.finish();
    } catch (error) {
      await this.abandon(error);
      throw asWalbError(error, { volume: this.#volume.name });
    }
    const { uuid } = this.#request;
    const sizeBytes = await this.#file.size();
    const meta = received.diff;
    const fileName = diffFileName(meta);
    await commitDiffFile(platform.disk, this.#file, this.#volume.pathOf({ uuid, fileName }));
    const { replaced } = store.addDiff(
      {
        fileName,
        uuid,
        fromGid: meta.from.gidB,
        toGid: meta.to.gidB,
        isMergeable: meta.isMergeable,
        timestampS: meta.timestampS,
        sizeBytes,
        receivedMs: platform.clock.nowMs(),
      },
      this.#request.sizeLb,
    );
    if (replaced !== undefined) await this.#volume.removeFiles([replaced]);
  }
}

async function checkSpace(volume: ProxyVolume, request: WlogRequest): Promise<void> {
  const { freeBytes, totalBytes } = await volume.platform.disk.freeSpace(volume.directory);
  const neededBytes = request.logSizePb * request.pbsBytes + spareBytes + totalBytes * freeShareMin;
  if (freeBytes >= neededBytes) return;
  throw new WalbError("no-space", {
    what: `the proxy has ${Math.floor(freeBytes / mib)} MiB free, but needs ${Math.ceil(neededBytes / mib)} MiB to take this log`,
    where: { host: volume.settings.nodeId, volume: volume.name, file: volume.directory },
    hint: "make room on the proxy's file system, or bring the archive back that diffs wait for: walb status",
  });
}

async function discard(volume: ProxyVolume, file: DiskFile): Promise<void> {
  try {
    await file.close();
    await volume.platform.disk.remove(file.path);
  } catch (error) {
    volume.log.warn("a temporary file could not be removed", { file: file.path, error });
  }
}

function iosOf(batch: PackBatch): LogIo[] {
  const ios: LogIo[] = [];
  for (const part of batch.parts) {
    for (let i = 0; i < part.data.length; i += 1) {
      const record = part.header.records[part.firstRecord + i]!;
      const { offsetLb, sizeLb } = record;
      const data = part.data[i];
      if (record.kind === "discard") ios.push({ offsetLb, sizeLb, kind: "discard" });
      else if (record.kind === "data" && data !== undefined) ios.push({ offsetLb, sizeLb, kind: "data", data });
    }
  }
  return ios;
}
