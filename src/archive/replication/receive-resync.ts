/**
 * @module Receives a resync: this archive's backups of a volume are replaced by another's. Nothing of the old is touched
 * before the new state is durable.
 *
 * What differs from the base image is collected in a file, while all points stay restorable. Order: file complete → fsync,
 * name, fsync of the directory → file read back and checked → state Resync, running work ended → manifest → row of the
 * new base and of the file, without the old diffs → **the new state is durable** → file written over the image → fdatasync
 * → files of the old diffs removed → row without the file → file removed. A start that finds the row goes on from there.
 */
import { applyDiffs } from "../../diff/apply.ts";
import { type MergePlan, planMerge } from "../../diff/merge.ts";
import { type DiffSet as OpenDiffs, openDiffSet } from "../../diff/set.ts";
import type { DiffIo } from "../../diff/types.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import { baseImage } from "../../image/image.ts";
import { diffFileSuffix } from "../../snapshot/filename.ts";
import { lbBytes } from "../../units.ts";
import { hashBytes } from "../../wire/hash-stream.ts";
import type { PackSink, ReceivedPack } from "../../wire/pack-stream.ts";
import type { ReplResyncRequest } from "../../wire/repl-sync.ts";
import { verifyPlan } from "../diffs.ts";
import { requireGid } from "../full-sync.ts";
import type { ArchiveMemory } from "../memory.ts";
import { ReceivedFile, requireSpace } from "../receive.ts";
import { SnapshotImage } from "../scan.ts";
import type { ArchiveVolume } from "../volume.ts";

/** Holds what a decided resync writes to the image. */
export const resyncFileName = "resync.pending";

/** Enters the state in which nothing may use the image, from the one of receiving; waits for what does. */
export type TakeImage = () => Promise<void>;

/** A resync being received. */
export class ResyncReception implements PackSink {
  readonly #volume: ArchiveVolume;
  readonly #memory: ArchiveMemory;
  readonly #request: ReplResyncRequest;
  readonly #signal: AbortSignal;
  readonly #image: SnapshotImage;
  readonly #takeImage: TakeImage;
  readonly #ended: () => Promise<void>;
  #file: ReceivedFile | undefined;

  private constructor(
    volume: ArchiveVolume,
    memory: ArchiveMemory,
    request: ReplResyncRequest,
    signal: AbortSignal,
    image: SnapshotImage,
    takeImage: TakeImage,
    ended: () => Promise<void>,
  ) {
    this.#volume = volume;
    this.#memory = memory;
    this.#request = request;
    this.#signal = signal;
    this.#image = image;
    this.#takeImage = takeImage;
    this.#ended = ended;
  }

  /** @param ended called once, when all is over. @throws WalbError `no-space`. */
  static async begin(
    volume: ArchiveVolume,
    memory: ArchiveMemory,
    request: ReplResyncRequest,
    signal: AbortSignal,
    takeImage: TakeImage,
    ended: () => Promise<void>,
  ): Promise<ResyncReception> {
    requireGid(request.base.to ?? request.base.from);
    await requireSpace(volume, memory.receiving, 0, "a resync, which keeps the old backups until the new are complete");
    const { sizeLb, bulkLb } = request;
    const image = await SnapshotImage.open(volume, memory, { diffs: [], sizeLb, bulkLb }, signal);
    const reception = new ResyncReception(volume, memory, request, signal, image, takeImage, ended);
    try {
      reception.#file = await ReceivedFile.create(volume, memory.receiving, request.uuid);
      volume.syncProgress = { doneBytes: 0, totalBytes: sizeLb * lbBytes };
      return reception;
    } catch (error) {
      await image.close();
      throw error;
    }
  }

  /** Hashes of the base image as it is. */
  async *hashes(): AsyncGenerator<Uint8Array, void> {
    const { sizeLb, bulkLb, hashSeed } = this.#request;
    const totalBytes = sizeLb * lbBytes;
    let doneBytes = 0;
    for await (const piece of this.#image.hashes(hashSeed, this.#signal)) {
      yield piece;
      doneBytes = Math.min(totalBytes, doneBytes + (piece.length / hashBytes) * bulkLb * lbBytes);
      this.#volume.syncProgress = { doneBytes, totalBytes };
    }
  }

  write(pack: ReceivedPack): void {
    this.#file!.write(pack);
  }

  async finish(): Promise<void> {
    const volume = this.#volume;
    const { store, platform } = volume;
    const { sizeLb, uuid: logUuid, archiveUuid, base } = this.#request;
    const file = this.#file!;
    await file.complete();
    await file.commit(resyncFileName);
    this.#file = undefined;
    try {
      const { working } = this.#memory;
      await withPending(volume, working, (open, plan) => {
        const round = { metas: [], open, close: () => Promise.resolve() };
        return verifyPlan(volume, working, round, plan, this.#signal, () => undefined);
      });
      // Open, it would keep a part of an image that is being changed.
      await this.#close();
      await this.#takeImage();
      const backup = { sizeLb, logUuid, archiveUuid, base, lastSyncMs: platform.clock.nowMs() };
      const rest = { diffUuids: [logUuid], labels: [], resyncFile: resyncFileName };
      await volume.saveManifest({ ...store.manifest(), ...backup, ...rest, state: "Archived" });
      try {
        store.commitResync(backup, resyncFileName);
      } catch (error) {
        await volume.saveManifest();
        throw error;
      }
    } catch (error) {
      if (store.resyncFile === undefined) await removePending(volume);
      throw error;
    }
    await finishResync(volume, this.#memory.working);
    volume.clearTrouble();
    volume.log.info("resync received", { gid: base.from.gidB });
    await this.#ended();
  }

  async abandon(_error: unknown): Promise<void> {
    await this.#file?.discard();
    this.#file = undefined;
    await this.#close();
    await this.#ended();
  }

  async #close(): Promise<void> {
    this.#volume.syncProgress = undefined;
    try {
      await this.#image.close();
    } catch (error) {
      this.#volume.log.warn("the image could not be closed", { error });
    }
  }
}

/** Writes a decided resync to the image, and removes what it replaces. May be repeated at any point. */
export async function finishResync(volume: ArchiveVolume, io: DiffIo, signal?: AbortSignal): Promise<void> {
  const { store, images, name, sizeBytes } = volume;
  const { disk } = volume.platform;
  if (store.resyncFile === undefined) return;
  if ((await disk.info(volume.pathOf(store.resyncFile))) === undefined) {
    throw new WalbError("damaged", {
      what: "the file of a resync is missing, and the base image may be written in part",
      where: { volume: name, file: volume.pathOf(store.resyncFile) },
      hint: `reset the volume and replicate it again: walb stop ${name}, walb reset ${name}`,
    });
  }
  if ((await images.sizeBytes(baseImage(name))) < sizeBytes) await images.grow(baseImage(name), sizeBytes);
  const image = await images.open(baseImage(name), "write");
  try {
    await withPending(volume, io, async (open, plan) => {
      await applyDiffs(io, open, plan, image, {
        sizeLb: store.sizeLb,
        discard: "zero",
        ...(signal === undefined ? {} : { signal }),
        onProgress: ({ doneLb, totalLb }) => {
          volume.syncProgress = { doneBytes: doneLb * lbBytes, totalBytes: totalLb * lbBytes };
        },
      });
    });
    // A volume that grows later reads zeroes there.
    const imageBytes = await image.size();
    if (imageBytes > sizeBytes) await image.zero(sizeBytes, imageBytes - sizeBytes);
    await image.sync();
  } finally {
    volume.syncProgress = undefined;
    await image.close();
  }
  // Points that were kept as images are those of the old backups; restored images are their owner's.
  for (const id of await images.list(name)) {
    if (id.kind === "cold" || id.kind === "promoting") await images.remove(id);
  }
  for (const fileName of await disk.list(volume.directory)) {
    if (fileName.endsWith(diffFileSuffix)) await disk.remove(volume.pathOf(fileName));
  }
  await disk.syncDirectory(volume.directory);
  store.endResync();
  await volume.saveManifest();
  await removePending(volume);
}

/** At start: finishes a resync that is decided, beside the other volumes; then goes on with `ready`. */
export function resumeResync(volume: ArchiveVolume, io: DiffIo, ready: () => Promise<void>): void {
  const { machine, log } = volume;
  const transition = machine.begin([machine.state], "Resync", "finish a resync");
  volume.inBackground(async (signal) => {
    try {
      log.info("a resync goes on where it broke off");
      await finishResync(volume, io, signal);
      await ready();
      transition.commit("Archived");
    } catch (error) {
      const failure = asWalbError(error, { step: "finishing a resync" });
      volume.setTrouble(failure);
      log.error("a resync cannot be finished; the next start tries again", { error: failure });
    }
  });
}

/** Removes the file of a resync that was not decided, or is done. */
export async function removePending(volume: ArchiveVolume): Promise<void> {
  try {
    await volume.platform.disk.remove(volume.pathOf(resyncFileName));
  } catch (error) {
    volume.log.warn("the file of a resync could not be removed", { error: asWalbError(error) });
  }
}

async function withPending(
  volume: ArchiveVolume,
  io: DiffIo,
  work: (open: OpenDiffs, plan: MergePlan) => Promise<void>,
): Promise<void> {
  const open = await openDiffSet(io, [volume.pathOf(resyncFileName)]);
  try {
    await work(open, planMerge(open.records));
  } finally {
    await open.close();
  }
}
