/** @module One restore, from the image it begins with to the target in its place. */
import { dirname } from "node:path";
import { applyDiffs } from "../diff/apply.ts";
import { type MergePlan, planMerge } from "../diff/merge.ts";
import { checkAborted, type DiffIo } from "../diff/types.ts";
import { VirtualImage } from "../diff/virtual.ts";
import { copyImage } from "../image/copy.ts";
import { type CloneMethod, type CopyContent, type CopyOptions, type ImageId, snapshotImage } from "../image/image.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import type { DiffSet } from "../snapshot/diffset.ts";
import { restoreRound } from "../snapshot/restore.ts";
import type { ArchiveState, DiffMeta } from "../snapshot/types.ts";
import { lbBytes } from "../units.ts";
import type { JobContext } from "./apply.ts";
import { requireBaseImage } from "./base-image.ts";
import { imageToStartFrom, keepCold } from "./cold.ts";
import type { Cold } from "./colds.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { openRound, type Round } from "./diffs.ts";
import type { ArchiveMemory } from "./memory.ts";
import { removePartial } from "./partials.ts";
import { advanced, planStart } from "./plan.ts";
import { alreadyThere, openDevice, type RestoreTarget } from "./target.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Memory of a restore. */
export type RestoreMemory = Pick<ArchiveMemory, "working" | "bulks">;

/** Where to: a file, a device, or an image the archive keeps. */
export type Target = RestoreTarget | { readonly kind: "image"; readonly path: string; readonly image: ImageId };

/** What a restore did. */
export interface Done {
  readonly bytes: number;
  readonly method: CloneMethod | "device";
}

/** One restore. The base image does not change while it runs: no apply runs beside it. */
export class RestoreRun {
  readonly #volume: ArchiveVolume;
  readonly #io: DiffIo;
  /** For what is read of the image with the diffs over it, which takes its own memory from `io`. */
  readonly #targets: MemoryPool;
  readonly #gid: bigint;
  readonly #context: JobContext;
  /** The image it begins with, and its state. */
  readonly #source: ImageId;
  readonly #base: ArchiveState;
  readonly #set: DiffSet;
  /** Files of the diffs as they are now; a merge beside the restore does not take them away. */
  readonly #diffs = new Map<DiffMeta, StoredDiff>();
  readonly #letGo: () => Promise<void>;
  /** All diffs, open, when they are one round. */
  #onlyRound: { readonly round: Round; readonly plan: MergePlan } | undefined;
  /** Of the base image, so far. */
  #copiedBytes = 0;

  constructor(volume: ArchiveVolume, memory: RestoreMemory, gid: bigint, context: JobContext) {
    const { store } = volume;
    this.#volume = volume;
    this.#io = memory.working;
    this.#targets = memory.bulks;
    this.#gid = gid;
    this.#context = context;
    const { cold, state } = planStart(store.set, volume.requireBase(), store.colds.all, gid);
    this.#base = state;
    this.#source = imageToStartFrom(volume, cold);
    this.#set = store.set;
    for (const meta of restoreRound(store.set, this.#base, gid)) this.#diffs.set(meta, store.diff(meta));
    this.#letGo = volume.pins.hold([...this.#diffs.values()].map((diff) => diff.fileName));
  }

  /** The image that the restore begins at. */
  get source(): ImageId {
    return this.#source;
  }

  /** Lets go of the files. */
  async end(): Promise<void> {
    const kept = this.#onlyRound;
    this.#onlyRound = undefined;
    await kept?.round.close();
    await this.#letGo();
  }

  /** What the diffs write, from their indexes alone; finds damaged ones too. */
  async countDiffBytes(): Promise<number> {
    let bytes = 0;
    await this.#rounds(async (plan) => {
      bytes += plan.stats.normalLb * lbBytes;
      return undefined;
    });
    return bytes;
  }

  async to(target: Target, point: Cold, overwrite: boolean): Promise<Done> {
    // Indexes are read first: a damaged diff shows before hours of copying.
    await this.countDiffBytes();
    // A copy of what is too short would read as zeroes there.
    if (this.#source.kind === "base") await requireBaseImage(this.#volume);
    if (target.kind === "image") return this.#toImage(target.image, point);
    return target.kind === "file" ? this.#toFile(target, overwrite) : this.#toDevice(target);
  }

  /** An image appears under its name only when it is complete, too. */
  async #toImage(target: ImageId, point: Cold): Promise<Done> {
    const { images, name, sizeBytes } = this.#volume;
    const { signal } = this.#context;
    const restoring = snapshotImage(name, "restoring", point.gid);
    await images.remove(restoring);
    try {
      const laid = this.#laid();
      const options = { sizeBytes, signal, onProgress: this.#onCopied, ...laid.options };
      const method = await images.clone(this.#source, restoring, options);
      const { allocatedBytes = this.#copiedBytes } = (await this.#io.disk.info(images.pathOf(restoring))) ?? {};
      const diffBytes = laid.isLaid() ? 0 : await this.#applyOver(() => images.open(restoring, "overlay"));
      if (point.gid > this.#volume.requireBase().from.gidB) await keepCold(this.#volume, restoring, point);
      checkAborted(signal, "the restore");
      await images.remove(target);
      await images.rename(restoring, target);
      // Holes are not written.
      const copiedBytes = method === "copy" ? Math.min(allocatedBytes, this.#copiedBytes) : 0;
      return { bytes: diffBytes + copiedBytes, method };
    } catch (error) {
      await images.remove(restoring).catch((failure: unknown) => {
        this.#volume.log.warn("an incomplete restore could not be removed", { gid: point.gid, error: failure });
      });
      throw error;
    }
  }

  async #toFile(target: Extract<RestoreTarget, { kind: "file" }>, overwrite: boolean): Promise<Done> {
    const { images, sizeBytes } = this.#volume;
    const { disk } = this.#io;
    const { signal } = this.#context;
    // Nobody else writes under this name.
    await disk.remove(target.partialPath);
    this.#volume.store.partials.tryAdd(target.partialPath);
    try {
      const laid = this.#laid();
      const options = { signal, onProgress: this.#onCopied, ...laid.options };
      const method = await images.cloneToFile(this.#source, target.partialPath, options);
      const allocated = (await disk.info(target.partialPath))?.allocatedBytes ?? this.#copiedBytes;
      let diffBytes = 0;
      if (!laid.isLaid()) {
        // Through the page cache: many small writes into holes of a new file are several times as fast.
        diffBytes = await this.#applyOver(async () => {
          const file = await disk.open(target.partialPath, { mode: "write" });
          if ((await file.size()) !== sizeBytes) await file.truncate(sizeBytes);
          return file;
        });
      }
      checkAborted(signal, "the restore");
      if (!overwrite && (await disk.info(target.path)) !== undefined) throw alreadyThere(target.path);
      await disk.rename(target.partialPath, target.path);
      await disk.syncDirectory(dirname(target.path));
      this.#volume.store.partials.tryDelete(target.partialPath);
      return { bytes: diffBytes + (method === "copy" ? Math.min(allocated, this.#copiedBytes) : 0), method };
    } catch (error) {
      await removePartial(this.#volume, target.partialPath);
      throw error;
    }
  }

  async #toDevice(target: Extract<RestoreTarget, { kind: "device" }>): Promise<Done> {
    const { images, sizeBytes } = this.#volume;
    const device = await openDevice(this.#io.disk, target.path);
    try {
      const image = await images.open(this.#source, "read");
      let copiedBytes: number;
      try {
        const { options, isLaid } = this.#laid();
        const content = await options.content?.(image);
        copiedBytes = await copyImage({
          from: content ?? image,
          to: device,
          sizeBytes,
          memory: content?.memory ?? this.#io.memory,
          signal: this.#context.signal,
          throttle: options.throttle,
          onProgress: (doneBytes) => this.#onCopied(doneBytes, sizeBytes),
        });
        if (!isLaid()) copiedBytes += await this.#applyTo(device);
      } finally {
        await image.close();
      }
      await device.sync();
      return { bytes: copiedBytes, method: "device" };
    } finally {
      await device.close();
    }
  }

  /**
   * Has copies be of the base image with the diffs laid over it, so that each byte is written once, where data is copied and
   * all diffs are one round. Discards that are to be ignored let the base be seen: that is for the diffs on top.
   */
  #laid(): { readonly options: Pick<CopyOptions, "content" | "throttle">; isLaid(): boolean } {
    const round = this.#onlyRound;
    const { store, settings, rates } = this.#volume;
    if (round === undefined || settings.discard === "ignore") return { options: {}, isLaid: () => false };
    let isLaid = false;
    const content = async (base: DiskFile): Promise<CopyContent> => {
      isLaid = true;
      const { open } = round.round;
      const image = await VirtualImage.open(this.#io, open, round.plan, base, { sizeLb: store.sizeLb });
      return {
        memory: this.#targets,
        size: async () => image.sizeBytes,
        nextData: (offsetBytes) => image.nextData(offsetBytes),
        read: (offsetBytes, target) => image.read(offsetBytes, target),
      };
    };
    const throttle = (bytes: number): Promise<void> => rates.restore.take(bytes, this.#context.signal);
    return { options: { content, throttle }, isLaid: () => isLaid };
  }

  readonly #onCopied = (doneBytes: number, totalBytes: number): void => {
    this.#copiedBytes = doneBytes;
    this.#context.progress({ doneBytes, totalBytes, step: "copying the base image" });
  };

  /** Writes the diffs over a copy of the base image that was made, durably. @returns bytes written. */
  async #applyOver(open: () => Promise<DiskFile>): Promise<number> {
    const file = await open();
    try {
      const bytes = await this.#applyTo(file);
      await file.sync();
      return bytes;
    } finally {
      await file.close();
    }
  }

  /** Writes the diffs over a copy of the base image. @returns bytes written. */
  async #applyTo(file: DiskFile): Promise<number> {
    let bytes = 0;
    await this.#rounds(async (plan, open) => {
      const totalBytes = plan.totalLb * lbBytes;
      const result = await applyDiffs(this.#io, open, plan, file, {
        sizeLb: this.#volume.store.sizeLb,
        discard: this.#volume.settings.discard,
        signal: this.#context.signal,
        throttle: (size) => this.#volume.rates.restore.take(size, this.#context.signal),
        onProgress: ({ doneLb }) =>
          this.#context.progress({ doneBytes: doneLb * lbBytes, totalBytes, step: "applying the diffs" }),
      });
      bytes += result.writtenLb * lbBytes;
    });
    return bytes;
  }

  /**
   * Goes through the diffs to the point, a round after the other. Nearly always there is but one: it stays open, so that
   * the indexes of thousands of diffs are read once.
   */
  async #rounds(work: (plan: MergePlan, open: Round["open"]) => Promise<void>): Promise<void> {
    const kept = this.#onlyRound;
    if (kept !== undefined) return work(kept.plan, kept.round.open);
    let state = this.#base;
    for (;;) {
      const isFirst = state === this.#base;
      const round = await this.#openRound(state);
      if (round === undefined) return;
      let isKept = false;
      try {
        const plan = planMerge(round.open.records);
        await work(plan, round.open);
        state = advanced(state, round.metas);
        isKept = isFirst && round.metas.length === this.#diffs.size;
        if (isKept) this.#onlyRound = { round, plan };
      } finally {
        if (!isKept) await round.close();
      }
      if (isKept) return;
    }
  }

  #openRound(state: ArchiveState): Promise<Round | undefined> {
    const choose = (countMax: number) =>
      restoreRound(this.#set, state, this.#gid, countMax).map((meta) => this.#diffs.get(meta)!);
    return openRound(this.#volume, this.#io, choose, this.#context.signal);
  }

  /** Every checksum was right. */
  allGood(): void {
    this.#volume.clearDamage([...this.#diffs.values()].map((diff) => diff.fileName));
  }
}
