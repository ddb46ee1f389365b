/**
 * @module Receives a resync: this archive's backups of a volume are replaced by another's. Nothing of the old is touched
 * before all of the new is durable, its newest state too.
 *
 * What differs from the base image is collected in a file, and the diffs behind it in a directory, while all old points
 * stay restorable. When the sender is through: state Resync, running work ended → manifest → row of the new base, rows of
 * the new diffs, row of the file, without the old ones → **decided** → Ack. Then, in the background, see `finish-resync.ts`.
 */
import type { DiffIo } from "../../diff/types.ts";
import { DiffSet } from "../../snapshot/diffset.ts";
import { diffFileName } from "../../snapshot/filename.ts";
import { latestBehind, latestState } from "../../snapshot/select.ts";
import type { ArchiveState, DiffMeta } from "../../snapshot/types.ts";
import { lbBytes } from "../../units.ts";
import { hashBytes } from "../../wire/hash-stream.ts";
import type { PackSink, ReceivedPack } from "../../wire/pack-stream.ts";
import type { ReplResyncRequest } from "../../wire/repl-sync.ts";
import type { StoredDiff } from "../diff-rows.ts";
import { verifyPlan } from "../diffs.ts";
import { requireGid } from "../full-sync.ts";
import type { ArchiveMemory } from "../memory.ts";
import { ReceivedFile, requireSpace } from "../receive.ts";
import { SnapshotImage } from "../scan.ts";
import type { ArchiveVolume } from "../volume.ts";
import { removeStaged, resyncFileName, stagedName, withPending } from "./finish-resync.ts";

const what = "a resync, which keeps the old backups until the new are complete";

/** A resync being received; itself takes what differs. */
export class ResyncReception implements PackSink {
  readonly #volume: ArchiveVolume;
  readonly #memory: ArchiveMemory;
  readonly #request: ReplResyncRequest;
  readonly #signal: AbortSignal;
  #image: SnapshotImage | undefined;
  #file: ReceivedFile | undefined;
  #isCompared = false;
  #set = DiffSet.empty;
  #latest: ArchiveState;
  readonly #diffs: StoredDiff[] = [];

  private constructor(
    volume: ArchiveVolume,
    memory: ArchiveMemory,
    request: ReplResyncRequest,
    signal: AbortSignal,
    image: SnapshotImage,
  ) {
    this.#volume = volume;
    this.#memory = memory;
    this.#request = request;
    this.#latest = latestState(this.#set, request.base);
    this.#signal = signal;
    this.#image = image;
  }

  /** Opens the image to compare with. @throws WalbError `no-space`. */
  static async begin(
    volume: ArchiveVolume,
    memory: ArchiveMemory,
    request: ReplResyncRequest,
    signal: AbortSignal,
  ): Promise<ResyncReception> {
    requireGid(request.base.to ?? request.base.from);
    await requireSpace(volume, memory.receiving, 0, what);
    await removeStaged(volume);
    await volume.platform.disk.makeDirectory(volume.pathOf(stagedName));
    const { sizeLb, bulkLb } = request;
    const image = await SnapshotImage.open(volume, memory, { diffs: [], sizeLb, bulkLb }, signal);
    const reception = new ResyncReception(volume, memory, request, signal, image);
    try {
      reception.#file = await ReceivedFile.create(volume, memory.receiving, request.uuid, sizeLb * lbBytes);
      volume.syncProgress = { doneBytes: 0, totalBytes: sizeLb * lbBytes };
      return reception;
    } catch (error) {
      await reception.discard();
      throw error;
    }
  }

  /** Whether all that differs is here, so that diffs may follow. */
  get isCompared(): boolean {
    return this.#isCompared;
  }

  /** The newest state of what came so far. */
  get latest(): ArchiveState {
    return this.#latest;
  }

  /** Hashes of the base image as it is. */
  async *hashes(): AsyncGenerator<Uint8Array, void> {
    const { sizeLb, bulkLb, hashSeed } = this.#request;
    const totalBytes = sizeLb * lbBytes;
    let doneBytes = 0;
    for await (const piece of this.#image!.hashes(hashSeed, this.#signal)) {
      yield piece;
      doneBytes = Math.min(totalBytes, doneBytes + (piece.length / hashBytes) * bulkLb * lbBytes);
      this.#volume.syncProgress = { doneBytes, totalBytes };
    }
  }

  write(pack: ReceivedPack): Promise<void> {
    return this.#file!.write(pack);
  }

  /** All that differs is here: makes it durable, and reads it back. */
  async finish(): Promise<void> {
    const file = this.#file!;
    await file.complete();
    await file.commit(resyncFileName);
    this.#file = undefined;
    const { working } = this.#memory;
    // It is going to be written over the only image: what cannot be read must show before.
    await withPending(this.#volume, working, (open, plan) => {
      const round = { metas: [], open, close: () => Promise.resolve() };
      return verifyPlan(this.#volume, working, round, plan, this.#signal, () => undefined);
    });
    await this.#closeImage();
    this.#isCompared = true;
  }

  async abandon(_error: unknown): Promise<void> {
    await this.discard();
  }

  /** Where a diff behind what came so far goes. @param diff see `keptDiff`. */
  async stage(diff: DiffMeta, uuid: string, io: DiffIo): Promise<PackSink> {
    const file = await ReceivedFile.createFor(this.#volume, io, uuid, diff.dataSizeBytes, what);
    return {
      write: (pack) => file.write(pack),
      abandon: () => file.discard(),
      finish: async () => {
        const { sizeBytes, contentLb } = await file.complete();
        const meta = { ...diff, dataSizeBytes: sizeBytes };
        const fileName = diffFileName(meta);
        await file.commit(`${stagedName}/${fileName}`);
        this.#set = this.#set.add(meta);
        this.#latest = latestBehind(this.#set, this.#latest, meta) ?? latestState(this.#set, this.#request.base);
        this.#diffs.push({ fileName, meta, uuid, contentLb });
      },
    };
  }

  /** Replaces the old backups by what came. From here on a start goes on, see `finishResync`. */
  async decide(): Promise<void> {
    const { store, platform } = this.#volume;
    const { sizeLb, uuid, archiveUuid, base } = this.#request;
    const backup = { sizeLb, logUuid: uuid, archiveUuid, base, lastSyncMs: platform.clock.nowMs() };
    const diffUuids = [...new Set([uuid, ...this.#diffs.map((diff) => diff.uuid)])].sort();
    const rest = {
      diffUuids,
      labels: [],
      colds: [],
      resyncFile: resyncFileName,
      retiredUuids: [],
      knownUuids: diffUuids,
    };
    await this.#volume.saveManifest({ ...store.manifest(), ...backup, ...rest, state: "Archived" });
    try {
      store.commitResync(backup, this.#diffs, resyncFileName);
    } catch (error) {
      await this.#volume.saveManifest();
      throw error;
    }
  }

  /** Lets go of everything that is not decided. Idempotent; never throws. */
  async discard(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.discard();
    await this.#closeImage();
    if (this.#volume.store.resyncFile === undefined) await removeStaged(this.#volume);
  }

  async #closeImage(): Promise<void> {
    const image = this.#image;
    this.#image = undefined;
    this.#volume.syncProgress = undefined;
    try {
      await image?.close();
    } catch (error) {
      this.#volume.log.warn("the image could not be closed", { error });
    }
  }
}
