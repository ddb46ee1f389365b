/**
 * @module The virtual image: a base image with diffs laid over it, read as if they had been applied.
 *
 * Built once from the indexes; reads go to the base and to the stored images in parallel. All-zero and discarded ranges
 * read as zeroes, and so does what lies beyond the end of the base.
 */
import { WalbError } from "../errors.ts";
import type { Memory } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { alignDown, alignUp, checkRange, lbBytes } from "../units.ts";
import { ImageCache } from "./cache.ts";
import { batchBytesMax, batchEnd, planImages, sliceOf } from "./images.ts";
import { checkImages, expandedOf, leaseBatch, readImages } from "./load.ts";
import type { MergePlan } from "./merge.ts";
import type { DiffSet } from "./set.ts";
import { type DiffIo, RecordKind } from "./types.ts";
import { settleAll } from "./window.ts";

/** Base ranges closer than this are read at once; what the diffs cover in between is read and written over. */
const baseGapMax = 64 * 1024;

/** A base image and the diffs over it. The base and the set are the caller's to close. */
export class VirtualImage {
  readonly sizeBytes: number;
  readonly #io: DiffIo;
  readonly #set: DiffSet;
  readonly #plan: MergePlan;
  readonly #base: DiskFile;
  readonly #baseBytes: number;
  readonly #cache: ImageCache;
  /** Data of the base that was found last: many pieces may lie in it. */
  #baseHeld = { startBytes: 0, endBytes: 0 };

  private constructor(io: DiffIo, set: DiffSet, plan: MergePlan, base: DiskFile, baseBytes: number, sizeBytes: number) {
    this.#io = io;
    this.#set = set;
    this.#plan = plan;
    this.#base = base;
    this.#baseBytes = baseBytes;
    this.#cache = new ImageCache(plan.records);
    this.sizeBytes = sizeBytes;
  }

  /**
   * @param options.sizeLb size of the volume at the point in time; the base may be smaller (then it reads as zeroes
   * behind its end) or larger. @throws WalbError `out-of-range` when a record ends beyond it.
   */
  static async open(
    io: DiffIo,
    set: DiffSet,
    plan: MergePlan,
    base: DiskFile,
    options: { readonly sizeLb: number },
  ): Promise<VirtualImage> {
    checkRange(options.sizeLb, 0, 2 ** 44, "sizeLb");
    if (plan.endLb > options.sizeLb) {
      throw new WalbError("out-of-range", {
        what: `the diffs reach block ${plan.endLb}, beyond the ${options.sizeLb} blocks of the volume`,
        where: { file: base.path, field: "io_address" },
        hint: "check that the diffs belong to this volume",
      });
    }
    if (lbBytes % base.alignmentBytes !== 0) {
      throw new WalbError("bad-parameter", {
        what: `the base can only be read in multiples of ${base.alignmentBytes} bytes, diffs have blocks of 512`,
        where: { file: base.path },
        hint: "open the base without direct I/O",
      });
    }
    const baseBytes = await base.size();
    return new VirtualImage(io, set, plan, base, baseBytes - (baseBytes % lbBytes), options.sizeLb * lbBytes);
  }

  /**
   * Fills `target` from `offsetBytes`; both the offset and the size are multiples of 512. Reads may run concurrently.
   * For sequential reading use 1 MiB or more at a time. The target must not be leased from the pool in the image's
   * `io`, or readers could wait for each other: give the image a carved one. @throws WalbError `out-of-range` outside the image, `damaged`.
   */
  async read(offsetBytes: number, target: Memory): Promise<void> {
    const sizeBytes = target.sizeBytes;
    if (offsetBytes % lbBytes !== 0 || sizeBytes % lbBytes !== 0) {
      throw new WalbError("bad-parameter", { what: `a read of ${sizeBytes} bytes at ${offsetBytes} is not in blocks` });
    }
    checkRange(offsetBytes, 0, this.sizeBytes - sizeBytes, "offsetBytes");
    const { pieces } = this.#plan;
    const startLb = offsetBytes / lbBytes;
    const endLb = startLb + sizeBytes / lbBytes;
    const from = this.#firstPieceEndingAfter(startLb);
    let to = from;
    while (to < pieces.count && pieces.addressLb[to]! < endLb) to++;
    // The base is read while the images are; they are laid over it when it is there.
    const base = this.#readBase(startLb, endLb, from, to, target);
    base.catch(() => undefined);
    try {
      await this.#readPieces(startLb, endLb, from, to, target, base);
    } finally {
      await base;
    }
  }

  /**
   * The next range at or after `fromLb` that the diffs cover, neighbours joined; undefined when none follows. With
   * `DiskFile.nextData` of the base it tells where the image may hold data.
   */
  nextCovered(fromLb: number): { readonly startLb: number; readonly endLb: number } | undefined {
    const { pieces } = this.#plan;
    let i = this.#firstPieceEndingAfter(fromLb);
    if (i >= pieces.count) return undefined;
    const startLb = Math.max(fromLb, pieces.addressLb[i]!);
    let endLb = pieces.addressLb[i]! + pieces.blocksLb[i]!;
    for (i++; i < pieces.count && pieces.addressLb[i] === endLb; i++) endLb += pieces.blocksLb[i]!;
    return { startLb, endLb };
  }

  /** Where the diffs have data next, at or after `fromLb`; Infinity when nowhere. What they zero or discard is not data. */
  nextDataOfDiffsLb(fromLb: number): number {
    const { pieces, records } = this.#plan;
    let i = this.#firstPieceEndingAfter(fromLb);
    while (i < pieces.count && records.kind[pieces.record[i]!] !== RecordKind.normal) i++;
    return i < pieces.count ? Math.max(fromLb, pieces.addressLb[i]!) : Number.POSITIVE_INFINITY;
  }

  /** Where the next range that the diffs cover begins, at or after `fromLb`; Infinity when none follows. */
  nextCoveredLb(fromLb: number): number {
    const { pieces } = this.#plan;
    const i = this.#firstPieceEndingAfter(fromLb);
    return i < pieces.count ? Math.max(fromLb, pieces.addressLb[i]!) : Number.POSITIVE_INFINITY;
  }

  /**
   * The next range at or after `offsetBytes`, a multiple of 512, that may hold data; undefined when all that follows
   * reads as zeroes. What lies before it does. Whole blocks; costs no reading of data.
   */
  async nextData(offsetBytes: number): Promise<{ readonly startBytes: number; readonly endBytes: number } | undefined> {
    const { pieces, records } = this.#plan;
    let atLb = offsetBytes / lbBytes;
    for (let i = this.#firstPieceEndingAfter(atLb); ; i++) {
      const pieceLb = i < pieces.count ? pieces.addressLb[i]! : Number.POSITIVE_INFINITY;
      if (atLb < pieceLb) {
        const held = await this.#nextOfBase(atLb * lbBytes);
        if (held !== undefined && held.startBytes < pieceLb * lbBytes) {
          return { startBytes: held.startBytes, endBytes: Math.min(held.endBytes, pieceLb * lbBytes) };
        }
        if (i >= pieces.count) return undefined;
      }
      const endLb = pieceLb + pieces.blocksLb[i]!;
      if (records.kind[pieces.record[i]!] === RecordKind.normal) {
        return { startBytes: Math.max(atLb, pieceLb) * lbBytes, endBytes: endLb * lbBytes };
      }
      atLb = endLb;
    }
  }

  /** Data of the base at or after an offset, in whole blocks. */
  async #nextOfBase(offsetBytes: number): Promise<{ startBytes: number; endBytes: number } | undefined> {
    if (offsetBytes >= this.#baseBytes) return undefined;
    if (this.#baseHeld.startBytes <= offsetBytes && offsetBytes < this.#baseHeld.endBytes) {
      return { startBytes: offsetBytes, endBytes: this.#baseHeld.endBytes };
    }
    const held = await this.#base.nextData(offsetBytes);
    if (held === undefined || held.startBytes >= this.#baseBytes) return undefined;
    const startBytes = Math.max(offsetBytes, alignDown(held.startBytes, lbBytes));
    this.#baseHeld = { startBytes, endBytes: Math.min(this.#baseBytes, alignUp(held.endBytes, lbBytes)) };
    return this.#baseHeld;
  }

  #firstPieceEndingAfter(addressLb: number): number {
    const { pieces } = this.#plan;
    let low = 0;
    let high = pieces.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (pieces.addressLb[middle]! + pieces.blocksLb[middle]! > addressLb) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Reads what the pieces leave uncovered; may leave base data where they cover. */
  async #readBase(startLb: number, endLb: number, from: number, to: number, target: Memory): Promise<void> {
    const { pieces } = this.#plan;
    const gapMaxLb = baseGapMax / lbBytes;
    const reads: Promise<void>[] = [];
    let runStart = -1;
    let runEnd = -1;
    const flush = (): void => {
      if (runStart >= 0) reads.push(this.#readBaseRange(startLb, runStart, runEnd, target));
    };
    const addGap = (gapStart: number, gapEnd: number): void => {
      if (gapStart >= gapEnd) return;
      if (runStart >= 0 && gapStart - runEnd <= gapMaxLb) {
        runEnd = gapEnd;
        return;
      }
      flush();
      runStart = gapStart;
      runEnd = gapEnd;
    };
    let at = startLb;
    for (let i = from; i < to; i++) {
      addGap(at, pieces.addressLb[i]!);
      at = pieces.addressLb[i]! + pieces.blocksLb[i]!;
    }
    addGap(at, endLb);
    flush();
    await settleAll(reads);
  }

  async #readBaseRange(startLb: number, runStart: number, runEnd: number, target: Memory): Promise<void> {
    const offset = runStart * lbBytes;
    const sizeBytes = (runEnd - runStart) * lbBytes;
    const part = target.slice((runStart - startLb) * lbBytes, sizeBytes);
    const readable = Math.max(0, Math.min(sizeBytes, this.#baseBytes - offset));
    if (readable < sizeBytes) part.bytes.fill(0, readable);
    if (readable > 0) await this.#base.read(offset, part.slice(0, readable));
  }

  /** Lays the pieces [from, to) over the target, a bounded batch after the other. */
  async #readPieces(
    startLb: number,
    endLb: number,
    from: number,
    to: number,
    target: Memory,
    base: Promise<void>,
  ): Promise<void> {
    const { records, pieces } = this.#plan;
    const bytesMax = Math.min(batchBytesMax, Math.floor(this.#io.memory.budgetBytes / 8));
    const costOf = (piece: number, isNewImage: boolean): number => {
      if (!isNewImage) return 0;
      const record = pieces.record[piece]!;
      return records.storedBytes[record]! + records.imageLb[record]! * lbBytes;
    };
    for (let next = from; next < to; ) {
      const cached = this.#cache.get(pieces.record[next]!);
      if (cached !== undefined) {
        await base;
        this.#lay(startLb, endLb, next, cached, target);
        next++;
        continue;
      }
      const first = next;
      next = Math.min(to, batchEnd(records, pieces, first, bytesMax, costOf));
      const plan = planImages(records, pieces, first, next, 0, () => true);
      const lease = plan.images.length > 0 ? await leaseBatch(this.#io, plan.endOffset) : undefined;
      try {
        if (lease !== undefined) {
          await readImages(this.#set, plan, lease);
          await checkImages(this.#io, this.#set, plan, lease, true);
        }
        await base;
        for (let i = first; i < next; i++) {
          const image = plan.imageOfPiece[i - first]!;
          if (lease === undefined || image < 0) {
            this.#lay(startLb, endLb, i, undefined, target);
            continue;
          }
          const expanded = expandedOf(records, plan, image, lease).bytes;
          this.#lay(startLb, endLb, i, expanded, target);
          this.#cache.offer(pieces.record[i]!, expanded, target.sizeBytes);
        }
      } finally {
        lease?.release();
      }
    }
  }

  /** Lays the part of piece `i` that is asked for over the target: from its expanded image, or zeroes. */
  #lay(startLb: number, endLb: number, i: number, expanded: Uint8Array | undefined, target: Memory): void {
    const { records, pieces } = this.#plan;
    const pieceLb = pieces.addressLb[i]!;
    const partStart = Math.max(startLb, pieceLb);
    const partEnd = Math.min(endLb, pieceLb + pieces.blocksLb[i]!);
    const targetAt = (partStart - startLb) * lbBytes;
    const sizeBytes = (partEnd - partStart) * lbBytes;
    if (expanded === undefined) {
      target.bytes.fill(0, targetAt, targetAt + sizeBytes);
      return;
    }
    const sliceAt = (sliceOf(records, pieces, i) + (partStart - pieceLb)) * lbBytes;
    target.bytes.set(expanded.subarray(sliceAt, sliceAt + sizeBytes), targetAt);
  }
}
