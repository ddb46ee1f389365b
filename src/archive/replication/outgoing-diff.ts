/** @module A diff, or several merged on their way, to be sent to another archive; opened before it is asked for. */
import { planMerge } from "../../diff/merge.ts";
import { mergedPacks } from "../../diff/output.ts";
import type { DiffIo, DiffPack, DiffProgress } from "../../diff/types.ts";
import type { CompressOption } from "../../native/codec.ts";
import { mergeAll } from "../../snapshot/algebra.ts";
import type { DiffMeta } from "../../snapshot/types.ts";
import { openRound, type Round } from "../diffs.ts";
import type { ArchiveVolume } from "../volume.ts";

/** Batches of a merge prepared ahead: restores share the memory. */
const batchesMax = 2;

type Packs = AsyncGenerator<DiffPack, unknown>;

/** How to send. */
export interface OutgoingOptions {
  readonly compress: CompressOption;
  readonly signal: AbortSignal;
  readonly progress: (progress: DiffProgress) => void;
  /** The packs were all taken, but not acknowledged yet. */
  readonly sent: () => void;
}

/** Open until {@link close}. */
export class OutgoingDiff {
  /** What the packs together are. */
  readonly diff: DiffMeta;
  /** Of its log, 32 hex digits. */
  readonly uuid: string;
  readonly #round: Round;
  readonly #packs: Packs;
  readonly #sent: () => void;
  #first: Promise<IteratorResult<DiffPack, unknown>> | undefined;
  #closed: Promise<void> | undefined;

  private constructor(round: Round, packs: Packs, sent: () => void) {
    const [first] = round.metas;
    this.diff = round.metas.length === 1 ? first! : mergeAll(round.metas);
    this.uuid = Buffer.from(round.open.uuid).toString("hex");
    this.#round = round;
    this.#packs = packs;
    this.#sent = sent;
  }

  /** Opens as many of the diffs as memory allows. @throws WalbError `damaged` saying which points a damaged one costs. */
  static async open(
    volume: ArchiveVolume,
    io: DiffIo,
    diffs: readonly DiffMeta[],
    { compress, signal, progress, sent }: OutgoingOptions,
  ): Promise<OutgoingDiff> {
    const choose = (countMax: number) => diffs.slice(0, countMax).map((meta) => volume.store.diff(meta));
    const round = (await openRound(volume, io, choose, signal))!;
    const plan = planMerge(round.open.records, { joinSlices: true });
    const how = { compress, signal, inFlightMax: batchesMax, onProgress: progress };
    return new OutgoingDiff(round, mergedPacks(io, round.open, plan, how), sent);
  }

  /** Makes the first packs already. */
  begin(): void {
    this.#first ??= this.#packs.next();
    // The failure is met when the pack is asked for.
    this.#first.catch(() => undefined);
  }

  /** Once. The files are closed behind the last one. */
  async *packs(): AsyncGenerator<DiffPack, void> {
    const first = this.#first ?? this.#packs.next();
    this.#first = undefined;
    try {
      for (let pack = await first; pack.done !== true; pack = await this.#packs.next()) yield pack.value;
      this.#sent();
    } finally {
      void this.close().catch(() => undefined);
    }
  }

  /** Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    const first = await this.#first?.catch(() => undefined);
    if (first?.done === false) first.value.release();
    await this.#packs.return(undefined);
    await this.#round.close();
  }
}
