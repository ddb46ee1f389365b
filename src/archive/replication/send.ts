/** @module The sending end of a replication: brings another archive up to date with this one, in one conversation. */
import type { DiskFile } from "../../platform/disk.ts";
import { apply, canApply } from "../../snapshot/algebra.ts";
import { type ReplicationStep, type ReplicationWay, replicationWay } from "../../snapshot/replicate.ts";
import { oldestCleanState } from "../../snapshot/restore.ts";
import { snapshotText } from "../../snapshot/text.ts";
import type { ArchiveState, DiffMeta, Snapshot } from "../../snapshot/types.ts";
import { lbBytes, mib } from "../../units.ts";
import type { EncodedBulk } from "../../wire/bulk-stream.ts";
import { hashSeed } from "../../wire/hash-sync.ts";
import type { CompressConfig } from "../../wire/meta.ts";
import type { ReplClient, ReplFullRequest, ReplResyncRequest, ReplTurn } from "../../wire/repl-sync.ts";
import { scanBulks } from "../../wire/source/bulks.ts";
import { ImageComparer } from "../../wire/source/compare.ts";
import type { JobContext } from "../apply.ts";
import { openBase } from "../base-image.ts";
import type { ArchiveMemory } from "../memory.ts";
import { SnapshotImage } from "../scan.ts";
import type { ArchiveVolume } from "../volume.ts";
import { Held } from "./held.ts";
import { OutgoingDiff } from "./outgoing-diff.ts";
import { planTurn, type TurnLimits } from "./plan.ts";

/** Most data of what is opened before it is due. */
const aheadBytesMax = 16 * mib;

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

/** What will be due when the peer has got what it was sent. */
interface Ahead {
  readonly diffs: readonly DiffMeta[];
  /** Its failure is met when it is due. */
  readonly outgoing: Promise<OutgoingDiff>;
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
  #way: ReplicationWay | undefined;
  #ahead: Ahead | undefined;

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
    const { store } = this.#volume;
    const { bulkLb, compress } = this.#options;
    const image = await openBase(this.#volume, "read");
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
    const step = this.#plan(latest.from);
    if (step.kind === "diff") return this.#diff(step.diffs);
    await this.#dropAhead();
    return step.kind === "none" ? { kind: "stop" } : this.#hash(step);
  }

  /** Closes what is open. Idempotent. */
  async close(): Promise<void> {
    await this.#dropAhead();
    await this.#step.release();
  }

  #plan(peer: Snapshot): ReplicationStep {
    const { store } = this.#volume;
    this.#way = replicationWay(store.set, this.#volume.requireBase(), peer, this.#way);
    return planTurn(this.#way, { ...this.#options.limits, keptGids: [...store.labels.keys()] });
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
    const { sizeLb } = this.#volume.store;
    const outgoing = (await this.#takeAhead(diffs)) ?? (await this.#open(diffs));
    this.#step.push(() => outgoing.close());
    const { diff, uuid } = outgoing;
    this.counts.diffCount += 1;
    return { kind: "diff", request: { sizeLb, uuid, diff }, packs: () => outgoing.packs() };
  }

  async #open(diffs: readonly DiffMeta[]): Promise<OutgoingDiff> {
    const { compress } = this.#options;
    const { signal } = this.#context;
    const gid = diffs.at(-1)!.to.gidB;
    const outgoing = await OutgoingDiff.open(this.#volume, this.#memory.working, diffs, {
      compress,
      signal,
      progress: ({ doneLb, totalLb }) => this.#progress(`sending diffs up to gid ${gid}`, doneLb, totalLb),
      sent: () => this.#lookAhead(outgoing.diff),
    });
    return outgoing;
  }

  /** While the peer makes `sent` durable, opens what follows. */
  #lookAhead(sent: DiffMeta): void {
    const diffs = this.#dueBehind(sent);
    // More takes long to send, beside which opening it does not count, and its index may be large.
    if (diffs.length === 0 || sizeOf(diffs) > aheadBytesMax) return;
    const outgoing = this.#open(diffs);
    outgoing.then(
      (opened) => opened.begin(),
      () => undefined,
    );
    this.#ahead = { diffs, outgoing };
  }

  /** The diffs that will be due when the peer has `sent`; none when it will be something else. */
  #dueBehind(sent: DiffMeta): readonly DiffMeta[] {
    const { from } = this.peer!;
    if (this.#context.signal.aborted || !canApply(from, sent)) return [];
    try {
      const step = this.#plan(apply(from, sent));
      return step.kind === "diff" ? step.diffs : [];
    } catch {
      // What cannot be planned is told when it is due.
      return [];
    }
  }

  /** What was opened ahead, when that is what is due. */
  async #takeAhead(diffs: readonly DiffMeta[]): Promise<OutgoingDiff | undefined> {
    const ahead = this.#ahead;
    if (ahead?.diffs.length === diffs.length && ahead.diffs.every((diff, i) => diff === diffs[i])) {
      this.#ahead = undefined;
      return ahead.outgoing;
    }
    await this.#dropAhead();
    return undefined;
  }

  async #dropAhead(): Promise<void> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    await (await ahead?.outgoing.catch(() => undefined))?.close();
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

function sizeOf(diffs: readonly DiffMeta[]): number {
  return diffs.reduce((sum, { dataSizeBytes }) => sum + dataSizeBytes, 0);
}
