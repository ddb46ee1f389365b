/**
 * @module Receives a diff: its packs go verbatim into a temporary sorted file, which is thrown away unless all are good.
 *
 * Order: file complete → manifest, when its log is new → fsync → final name → fsync of the directory → row → Ack. What breaks off before leaves nothing
 * behind and is sent again.
 */
import { type AppendFile, createAppendFile } from "../diff/append.ts";
import { commitDiffFile } from "../diff/commit.ts";
import { packHeaderBytes } from "../diff/format.ts";
import { SortedDiffWriter } from "../diff/sorted.ts";
import { countRecords } from "../diff/stats.ts";
import type { DiffIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { diffFileName } from "../snapshot/filename.ts";
import type { DiffMeta } from "../snapshot/types.ts";
import { mib } from "../units.ts";
import type { PackSink, ReceivedPack } from "../wire/pack-stream.ts";
import type { WdiffRequest } from "../wire/wdiff-transfer.ts";
import { keptBehind } from "./plan.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Temporary files of receptions; removed at start. */
export const receivingPrefix = "receiving-";
/** Kept free beyond what a diff needs, for databases and manifests. */
const spareBytes = 16 * mib;

/** @throws WalbError `no-space` when a file of `dataBytes` would not leave enough room. */
export async function requireSpace(volume: ArchiveVolume, io: DiffIo, dataBytes: number, what: string): Promise<void> {
  const { freeBytes } = await io.disk.freeSpace(volume.directory);
  const neededBytes = dataBytes + spareBytes;
  if (freeBytes >= neededBytes) return;
  throw new WalbError("no-space", {
    what: `the archive has ${Math.floor(freeBytes / mib)} MiB free, but needs ${Math.ceil(neededBytes / mib)} MiB to take ${what}`,
    where: { host: volume.settings.nodeId, volume: volume.name, file: volume.directory },
    hint: "make room on the archive's file system: apply or merge diffs, or grow it",
  });
}

/** Packs behind the one being written: more would only lie in memory that the next ones of the network would come into. */
const packsWaitingMax = 1;

/** Packs that come over the wire and become a sorted file under a temporary name. */
export class ReceivedFile {
  readonly #volume: ArchiveVolume;
  readonly #file: AppendFile;
  readonly #writer: SortedDiffWriter;
  readonly #jobs = new Set<Promise<void>>();
  #unsyncedBytes = 0;
  #failure: unknown;

  private constructor(volume: ArchiveVolume, file: AppendFile, writer: SortedDiffWriter) {
    this.#volume = volume;
    this.#file = file;
    this.#writer = writer;
  }

  /**
   * Makes the temporary file for `dataBytes`, for which there is space.
   * @param what for the error. @throws WalbError `no-space` as {@link requireSpace}.
   */
  static async createFor(
    volume: ArchiveVolume,
    io: DiffIo,
    uuid: string,
    dataBytes: number,
    what: string,
  ): Promise<ReceivedFile> {
    // At once: a sender waits for both.
    const [room, made] = await Promise.allSettled([
      requireSpace(volume, io, dataBytes, what),
      ReceivedFile.create(volume, io, uuid, dataBytes),
    ]);
    if (room.status === "rejected") {
      if (made.status === "fulfilled") await made.value.discard();
      throw room.reason;
    }
    if (made.status === "rejected") throw made.reason;
    return made.value;
  }

  /** Makes the temporary file. @param expectedBytes about how much will come; 0 when the sender does not know. */
  static async create(volume: ArchiveVolume, io: DiffIo, uuid: string, expectedBytes: number): Promise<ReceivedFile> {
    const sizeBytes = expectedBytes === 0 ? Number.POSITIVE_INFINITY : expectedBytes;
    const file = await createAppendFile(io.disk, volume.temporaryPath(receivingPrefix), io.memory, sizeBytes);
    try {
      const writer = await SortedDiffWriter.create(io, file, Buffer.from(uuid, "hex"));
      return new ReceivedFile(volume, file, writer);
    } catch (error) {
      await discardFile(volume, file);
      throw error;
    }
  }

  /** Resolves when the next pack may come. */
  async write(pack: ReceivedPack): Promise<void> {
    if (this.#failure !== undefined) {
      pack.release();
      throw this.#failure;
    }
    const { memory, records } = pack;
    const stats = countRecords(records, 0, records.count);
    stats.dataBytes = memory.sizeBytes - packHeaderBytes;
    const startLb = records.addressLb[0] ?? this.#writer.endLb;
    const last = records.count - 1;
    const endLb = last < 0 ? this.#writer.endLb : records.addressLb[last]! + records.blocksLb[last]!;
    this.#start(
      this.#writer.appendPack({ memory, startLb, endLb, stats }).finally(() => pack.release()),
      memory.sizeBytes,
    );
    while (this.#jobs.size > packsWaitingMax) await Promise.race(this.#jobs);
  }

  /** All packs came and are good: ends the file. @returns its size, and what applying it writes. */
  async complete(): Promise<{ readonly sizeBytes: number; readonly contentLb: number }> {
    const stats = await this.#writer.finish();
    // The end is written while the disk still writes the last packs.
    this.#follow(this.#file.writeRest?.() ?? Promise.resolve());
    await Promise.all(this.#jobs);
    if (this.#failure !== undefined) throw this.#failure;
    return { sizeBytes: await this.#file.size(), contentLb: stats.normalLb };
  }

  /** Makes the complete file durable, under its own name. */
  async commit(fileName: string): Promise<void> {
    await commitDiffFile(this.#volume.platform.disk, this.#file, this.#volume.pathOf(fileName));
  }

  /** Makes what was written so far durable; more may come. */
  sync(): Promise<void> {
    return this.#file.sync();
  }

  /** Waits for what is under way and removes the temporary file. Never throws. */
  async discard(): Promise<void> {
    await Promise.all(this.#jobs);
    await discardFile(this.#volume, this.#file);
  }

  #start(work: Promise<void>, bytes: number): void {
    this.#follow(work);
    this.#unsyncedBytes += bytes;
    if (this.#unsyncedBytes < this.#volume.settings.fsyncIntervalBytes) return;
    this.#unsyncedBytes = 0;
    this.#follow(this.#file.sync());
  }

  #follow(work: Promise<void>): void {
    const job: Promise<void> = work
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#jobs.delete(job));
    this.#jobs.add(job);
  }
}

/** A diff being received. */
export class DiffReception implements PackSink {
  readonly #volume: ArchiveVolume;
  readonly #uuid: string;
  readonly #diff: DiffMeta;
  readonly #file: ReceivedFile;

  private constructor(volume: ArchiveVolume, uuid: string, diff: DiffMeta, file: ReceivedFile) {
    this.#volume = volume;
    this.#uuid = uuid;
    this.#diff = diff;
    this.#file = file;
  }

  /** Makes room and the temporary file. @throws WalbError `no-space` before anything is accepted. */
  static async begin(volume: ArchiveVolume, request: WdiffRequest, io: DiffIo): Promise<DiffReception> {
    const { dataSizeBytes } = request.diff;
    const diff = keptBehind(request.diff, volume.latest().from);
    const file = await ReceivedFile.createFor(volume, io, request.uuid, dataSizeBytes, "this diff");
    return new DiffReception(volume, request.uuid, diff, file);
  }

  write(pack: ReceivedPack): Promise<void> {
    return this.#file.write(pack);
  }

  /** Makes the diff durable and registers it. */
  async finish(): Promise<void> {
    const volume = this.#volume;
    const { platform, store } = volume;
    const { sizeBytes, contentLb } = await this.#file.complete();
    const meta = { ...this.#diff, dataSizeBytes: sizeBytes };
    const fileName = diffFileName(meta);
    const uuid = this.#uuid;
    await announceLog(volume, uuid);
    await this.#file.commit(fileName);
    const before = store.set;
    const replaced = await registerFile(volume, fileName, () =>
      store.addReceivedDiff({ fileName, meta, uuid, contentLb }, platform.clock.nowMs()),
    );
    volume.added(before, meta);
    if (replaced !== undefined && replaced.fileName !== fileName) await volume.removeDiffFiles([replaced]);
  }

  async abandon(error: unknown): Promise<void> {
    await this.#file.discard();
    this.#volume.setTrouble(asWalbError(error, { step: "receiving a diff" }));
    this.#volume.log.warn("a diff was not received completely; it is sent again", { error });
  }
}

/**
 * Names the log of a diff in the manifest before its file has its name: a start that finds the file without its row, or
 * without a database, knows by the manifest alone that it belongs here.
 */
export async function announceLog(volume: ArchiveVolume, uuid: string): Promise<void> {
  const { store } = volume;
  if (store.namesLog(uuid)) return;
  const { diffUuids, ...rest } = store.manifest();
  await volume.saveManifest({ ...rest, diffUuids: [...diffUuids, uuid].sort() });
}

/**
 * Makes the row of a diff whose file has its name. Where that fails, on a full disk for one, the file goes again: it would
 * only take space, under a name that may not come a second time.
 */
export async function registerFile<T>(volume: ArchiveVolume, fileName: string, register: () => T): Promise<T> {
  volume.pins.keep(fileName);
  try {
    return register();
  } catch (error) {
    // It may have taken the place of one that has a row.
    if (!volume.store.diffs.some((diff) => diff.fileName === fileName)) {
      await volume.removeFile(fileName);
    }
    throw error;
  }
}

/** Closes and removes a temporary file. Never throws. */
export async function discardFile(volume: ArchiveVolume, file: AppendFile): Promise<void> {
  try {
    await file.close();
    await volume.platform.disk.remove(file.path);
  } catch (error) {
    volume.log.warn("a temporary file could not be removed", { file: file.path, error });
  }
}
