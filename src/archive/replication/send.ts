/** @module The sending end of a replication: brings another archive up to date with this one, in one conversation. */
import { planMerge } from "../../diff/merge.ts";
import { mergedPacks } from "../../diff/output.ts";
import type { DiffPack } from "../../diff/types.ts";
import { baseImage } from "../../image/image.ts";
import type { DiskFile } from "../../platform/disk.ts";
import { mergeAll } from "../../snapshot/algebra.ts";
import type { ReplicationStep } from "../../snapshot/replicate.ts";
import { oldestCleanState } from "../../snapshot/restore.ts";
import { snapshotText } from "../../snapshot/text.ts";
import type { ArchiveState, DiffMeta } from "../../snapshot/types.ts";
import { lbBytes } from "../../units.ts";
import type { EncodedBulk } from "../../wire/bulk-stream.ts";
import { hashSeed } from "../../wire/hash-sync.ts";
import type { CompressConfig } from "../../wire/meta.ts";
import type { ReplClient, ReplFullRequest, ReplResyncRequest, ReplTurn } from "../../wire/repl-sync.ts";
import { scanBulks } from "../../wire/source/bulks.ts";
import { ImageComparer } from "../../wire/source/compare.ts";
import type { JobContext } from "../apply.ts";
import { openRound } from "../diffs.ts";
import type { ArchiveMemory } from "../memory.ts";
import { SnapshotImage } from "../scan.ts";
import type { ArchiveVolume } from "../volume.ts";
import { Held } from "./held.ts";
import { planTurn, type TurnLimits } from "./plan.ts";

/** Batches of a merge prepared ahead: restores share the memory. */
const batchesMax = 2;

/** How to send. */
export interface SendOptions {
  readonly allowResync: boolean;
  readonly compress: CompressConfig;
  readonly bulkLb: number;
  readonly limits: Omit<TurnLimits, "keptGids">;
}

/** What was sent. */
export interface SentCounts {
  isFull: boolean;
  isResync: boolean;
  hashCount: number;
  diffCount: number;
}

/** One conversation's sender. */
export class ReplicaSender implements ReplClient {
  readonly volume: string;
  readonly archiveUuid: string;
  readonly allowResync: boolean;
  readonly counts: SentCounts = { isFull: false, isResync: false, hashCount: 0, diffCount: 0 };
  /** Where the peer was when it was last heard of. */
  peer: ArchiveState | undefined;
  readonly #volume: ArchiveVolume;
  readonly #memory: ArchiveMemory;
  readonly #options: SendOptions;
  readonly #context: JobContext;
  /** What the step under way has open. */
  readonly #step = new Held();
  #image: DiskFile | undefined;
  #comparer: ImageComparer | undefined;

  constructor(volume: ArchiveVolume, memory: ArchiveMemory, options: SendOptions, context: JobContext) {
    this.volume = volume.name;
    volume.requireBase();
    this.archiveUuid = volume.store.archiveUuid!;
    this.allowResync = options.allowResync;
    this.#volume = volume;
    this.#memory = memory;
    this.#options = options;
    this.#context = context;
  }

  accepted(): void {
    this.#context.accepted?.();
  }

  /** The base image as it is, in the middle of an apply too: the diffs for that follow. */
  async full(): Promise<ReplFullRequest> {
    const { store, images, name } = this.#volume;
    const { bulkLb, compress } = this.#options;
    const image = await images.open(baseImage(name), "read");
    this.#image = image;
    this.#step.push(() => image.close());
    this.counts.isFull = true;
    return { sizeLb: store.sizeLb, bulkLb, base: this.#volume.requireBase(), uuid: store.logUuid!, compress };
  }

  async *bulks(startLb: number): AsyncGenerator<EncodedBulk, void> {
    const { bulkLb, compress } = this.#options;
    const { sizeLb } = this.#volume.store;
    let doneLb = startLb;
    const scan = scanBulks({ ...this.#scan(), file: this.#image!, startLb, sizeLb, bulkLb, compress });
    for await (const bulk of scan) {
      yield bulk;
      doneLb = Math.min(sizeLb, doneLb + bulkLb);
      this.#progress("copying the base image", doneLb, sizeLb);
    }
  }

  async resync(): Promise<Omit<ReplResyncRequest, "archiveUuid">> {
    const { store } = this.#volume;
    const { bulkLb, compress } = this.#options;
    const { state, diffs } = oldestCleanState(store.set, this.#volume.requireBase());
    const seed = hashSeed(state.timestampS);
    await this.#openComparer(diffs, seed, "comparing the images for a resync");
    this.counts.isResync = true;
    const { sizeLb } = store;
    return { sizeLb, bulkLb, base: state, uuid: store.logUuid!, compress, hashSeed: seed };
  }

  resyncComparer(): ImageComparer {
    return this.#comparer!;
  }

  async next(latest: ArchiveState): Promise<ReplTurn> {
    await this.#step.release();
    this.#context.signal.throwIfAborted();
    this.peer = latest;
    const { store } = this.#volume;
    const keptGids = [...store.labels.keys()];
    const limits = { ...this.#options.limits, keptGids };
    const step = planTurn(store.set, this.#volume.requireBase(), latest.from, limits);
    if (step.kind === "none") return { kind: "stop" };
    return step.kind === "hash" ? this.#hash(step) : this.#diff(step.diffs);
  }

  /** Closes what is open. Idempotent. */
  close(): Promise<void> {
    return this.#step.release();
  }

  async #hash(step: Extract<ReplicationStep, { kind: "hash" }>): Promise<ReplTurn> {
    const { store } = this.#volume;
    const { bulkLb, compress } = this.#options;
    const seed = hashSeed(step.diff.timestampS);
    await this.#openComparer(step.diffs, seed, `comparing the images at ${snapshotText(step.state.from)}`);
    this.counts.hashCount += 1;
    const request = { sizeLb: store.sizeLb, bulkLb, diff: step.diff, uuid: store.logUuid!, compress, hashSeed: seed };
    return { kind: "hash", request, comparer: () => this.#comparer! };
  }

  async #diff(diffs: readonly DiffMeta[]): Promise<ReplTurn> {
    const { store } = this.#volume;
    const { signal } = this.#context;
    const choose = (countMax: number) => diffs.slice(0, countMax).map((meta) => store.diff(meta));
    const round = (await openRound(this.#volume, this.#memory.working, choose, signal))!;
    this.#step.push(() => round.close());
    const [first] = round.metas;
    const diff = round.metas.length === 1 ? first! : mergeAll(round.metas);
    const uuid = Buffer.from(round.open.uuid).toString("hex");
    this.counts.diffCount += 1;
    const packs = (): AsyncGenerator<DiffPack, unknown> =>
      mergedPacks(this.#memory.working, round.open, planMerge(round.open.records, { joinSlices: true }), {
        compress: this.#options.compress,
        signal,
        inFlightMax: batchesMax,
        onProgress: ({ doneLb, totalLb }) => this.#progress(`sending diffs up to gid ${diff.to.gidB}`, doneLb, totalLb),
      });
    return { kind: "diff", request: { sizeLb: store.sizeLb, uuid, diff }, packs };
  }

  async #openComparer(diffs: readonly DiffMeta[], seed: number, step: string): Promise<void> {
    const { sizeLb } = this.#volume.store;
    const { bulkLb, compress } = this.#options;
    const image = await SnapshotImage.open(this.#volume, this.#memory, { diffs, sizeLb, bulkLb }, this.#context.signal);
    this.#step.push(() => image.close());
    const progress = (doneLb: number): void => this.#progress(step, doneLb, sizeLb);
    const { compute } = this.#memory.working;
    const comparer = await ImageComparer.open({
      ...this.#scan(),
      file: image,
      compute,
      sizeLb,
      bulkLb,
      compress,
      seed,
      progress,
    });
    this.#step.push(() => comparer.close());
    this.#comparer = comparer;
  }

  #scan() {
    const { clock } = this.#volume.platform;
    return { pool: this.#memory.bulks, clock, rateBytesPerS: () => 0, signal: this.#context.signal };
  }

  #progress(step: string, doneLb: number, totalLb: number): void {
    this.#context.progress({ doneBytes: doneLb * lbBytes, totalBytes: totalLb * lbBytes, step });
  }
}
