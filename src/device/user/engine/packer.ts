/**
 * @module Group commit, the planning half: everything queued becomes packs, and the packs become gather writes.
 */
import { assert } from "../../../errors.ts";
import { PackBuilder } from "../../../log/builder.ts";
import { walbChecksum } from "../../../log/checksum.ts";
import { ceilPb, lsidOffsetBytes, maxRecordLb } from "../../../log/geometry.ts";
import type { Lease, Memory } from "../../../native/memory.ts";
import type { PlacedSum } from "../../../platform/disk.ts";
import { kib, lbBytes, mib } from "../../../units.ts";
import type { EngineCore, PendingWrite, WriteRequest } from "./core.ts";
import type { Fifo } from "./fifo.ts";
import { batchPacksMax, batchPiecesMax } from "./options.ts";

const batchBytesMax = 8 * mib;
/** Checksums of so many bytes of a batch are made on the spot: a job would cost more. */
const inlineChecksumBytes = 256 * kib;

/** Pieces that lie one behind the other in the log store. */
export interface GatherWrite {
  readonly offsetBytes: number;
  readonly pieces: Memory[];
  endBytes: number;
}

/** Packs that are written together. */
export interface LogBatch {
  readonly slot: Memory;
  readonly startLsid: number;
  endLsid: number;
  /** Header blocks, to be sealed when all checksums are in. */
  readonly headers: Memory[];
  readonly gathers: GatherWrite[];
  /** Data whose checksum is to be made, and where in which header it goes. */
  readonly deferred: PlacedSum[];
  readonly writes: PendingWrite[];
}

/** Why packing stopped before the queue was empty. */
export type Stall = "full-batch" | "ring" | "unsynced" | "preparing" | undefined;

/** The outcome of one packing round. */
export interface Packed {
  readonly batch: LogBatch | undefined;
  readonly stall: Stall;
  /** Taken out of the queue because the log is full and the policy is to stop. */
  readonly refused: PendingWrite[];
}

/** Data of one pack. */
function maxPackPbOf(core: EngineCore): number {
  return Math.max(1, Math.floor(Math.min(core.settings.maxPackBytes, mib) / core.ring.pbsBytes));
}

/**
 * Largest record the engine writes. Four of them fit into the ring, so that header, padding and data always do once
 * the ring has been checkpointed.
 */
export function maxPieceLbOf(core: EngineCore): number {
  const lbPerPb = core.ring.pbsBytes / lbBytes;
  const piecePb = Math.min(maxPackPbOf(core), Math.floor(core.ring.ringSizePb / 4), Math.floor(maxRecordLb / lbPerPb));
  return piecePb * lbPerPb;
}

/** Cuts a request into pieces of at most `pieceLb`, in order of their place. */
export function cutRequest(
  request: WriteRequest,
  offsetLb: number,
  pieceLb: number,
  pbsBytes: number,
  take: (write: PendingWrite) => void,
): void {
  const { source, sizeLb: totalLb, pieceCount } = request;
  for (let i = 0; i < pieceCount; i += 1) {
    const atLb = i * pieceLb;
    const sizeLb = Math.min(pieceLb, totalLb - atLb);
    take({
      request,
      offsetLb: offsetLb + atLb,
      sizeLb,
      memory: source === undefined ? undefined : pieceOf(source, atLb, sizeLb, pbsBytes),
      startLsid: Number.POSITIVE_INFINITY,
      endLsid: Number.POSITIVE_INFINITY,
    });
  }
}

/** The memory of one piece, up to the end of its last block. */
function pieceOf(source: Lease, atLb: number, sizeLb: number, pbsBytes: number): Memory {
  const spaceBytes = ceilPb(sizeLb, pbsBytes) * pbsBytes;
  if (atLb === 0 && spaceBytes === source.sizeBytes) return source;
  return source.slice(atLb * lbBytes, spaceBytes);
}

/** Packs writes of the queue; advances `latest`. */
export class Packer {
  readonly #core: EngineCore;
  readonly #builder: PackBuilder;
  readonly #windowPb: number;
  readonly #zeroChecksum: number;
  readonly #packsMax: number;
  readonly #writesMax: number;

  /** For the log as it is now: a reset needs a new packer. */
  constructor(core: EngineCore) {
    this.#core = core;
    this.#builder = new PackBuilder(core.ring, maxPackPbOf(core));
    this.#windowPb = Math.floor(core.settings.unsyncedWindowBytes / core.ring.pbsBytes);
    this.#packsMax = Math.min(core.settings.maxBatchPacks, batchPacksMax);
    this.#writesMax = Math.min(core.settings.maxBatchWrites, batchPiecesMax);
    this.#zeroChecksum = walbChecksum(new Uint8Array(lbBytes), core.ring.salt);
  }

  /** Packs as much as fits into one batch. */
  pack(queue: Fifo<PendingWrite>, slot: Memory): Packed {
    const { lsids, ring, preparingLsid } = this.#core;
    const refused: PendingWrite[] = [];
    const batch: LogBatch = {
      slot,
      startLsid: lsids.latest,
      endLsid: lsids.latest,
      headers: [],
      gathers: [],
      deferred: [],
      writes: [],
    };
    let stall: Stall;
    let isOpen = false;
    let pieceCount = 0;
    let batchBytes = 0;
    while (queue.length > 0) {
      const write = queue.peek()!;
      const { request } = write;
      const isFull = pieceCount >= batchPiecesMax || batch.writes.length >= this.#writesMax;
      if (isFull || batchBytes >= batchBytesMax) {
        stall = "full-batch";
        break;
      }
      const dataPb = request.kind === "discard" ? 0 : ceilPb(write.sizeLb, ring.pbsBytes);
      const endLsid = isOpen ? this.#builder.endLsid : batch.endLsid;
      if (!request.isAdmitted && this.#isFull(write, endLsid)) {
        for (let i = 0; i < request.pieceCount; i += 1) refused.push(queue.shift()!);
        continue;
      }
      request.isAdmitted = true;
      // A new header, padding shorter than the data, and the data.
      const worstEndLsid = endLsid + 1 + 2 * dataPb;
      if (worstEndLsid > lsids.prevWritten + ring.ringSizePb) {
        stall = "ring";
        break;
      }
      if (worstEndLsid > lsids.permanent + this.#windowPb && endLsid > lsids.permanent) {
        stall = "unsynced";
        break;
      }
      if (worstEndLsid > preparingLsid) {
        stall = "preparing";
        break;
      }
      const isInline = batchBytes + write.sizeLb * lbBytes <= inlineChecksumBytes;
      if (!isOpen || !this.#add(batch, write, isInline)) {
        if (isOpen) this.#close(batch);
        isOpen = false;
        if (batch.headers.length >= this.#packsMax) {
          stall = "full-batch";
          break;
        }
        this.#open(batch);
        isOpen = true;
        pieceCount += 1;
        assert(this.#add(batch, write, isInline), "a new pack takes at least one record");
      }
      write.startLsid = this.#builder.lsid;
      batch.writes.push(write);
      queue.shift();
      batchBytes += dataPb * ring.pbsBytes;
      pieceCount += 1;
    }
    if (isOpen) this.#close(batch);
    if (batch.headers.length === 0) return { batch: undefined, stall, refused };
    // `completed` and `permanent` move by whole batches.
    for (const write of batch.writes) write.endLsid = batch.endLsid;
    lsids.latest = batch.endLsid;
    return { batch, stall, refused };
  }

  #isFull(write: PendingWrite, endLsid: number): boolean {
    const { settings, ring, lsids } = this.#core;
    if (settings.overflow !== "stop") return false;
    const { request } = write;
    const isData = request.kind !== "discard";
    const dataPb = isData ? ceilPb(request.sizeLb, ring.pbsBytes) : 0;
    const paddingPb = isData ? ceilPb(write.sizeLb, ring.pbsBytes) : 0;
    return endLsid + dataPb + paddingPb + request.pieceCount + 1 > lsids.oldest + ring.ringSizePb;
  }

  #open(batch: LogBatch): void {
    const { ring } = this.#core;
    const memory = batch.slot.slice(batch.headers.length * ring.pbsBytes, ring.pbsBytes);
    this.#builder.begin(memory.bytes, batch.endLsid);
    batch.headers.push(memory);
    this.#place(batch, batch.endLsid, memory);
  }

  #close(batch: LogBatch): void {
    this.#builder.end();
    batch.endLsid = this.#builder.endLsid;
  }

  #add(batch: LogBatch, write: PendingWrite, isInline: boolean): boolean {
    const builder = this.#builder;
    const { ring, parts } = this.#core;
    const { request, memory, offsetLb, sizeLb } = write;
    if (request.kind === "discard") return builder.addDiscard(offsetLb, sizeLb);
    const lsid = builder.addData(offsetLb, sizeLb, this.#zeroChecksum);
    if (lsid < 0) return false;
    if (memory === undefined) {
      this.#placeZeroes(batch, lsid, ceilPb(sizeLb, ring.pbsBytes) * ring.pbsBytes);
      return true;
    }
    this.#place(batch, lsid, memory);
    const offsetBytes = builder.checksumOffset(builder.recordCount - 1);
    const sizeBytes = sizeLb * lbBytes;
    const data = memory.sizeBytes === sizeBytes ? memory : memory.slice(0, sizeBytes);
    if (isInline) builder.view.setUint32(offsetBytes, parts.compute.checksumNow(data.bytes, ring.salt), true);
    else batch.deferred.push({ block: batch.headers.at(-1)!, offsetBytes, data });
    return true;
  }

  #placeZeroes(batch: LogBatch, lsid: number, sizeBytes: number): void {
    const { ring, memory } = this.#core;
    const { zeroes } = memory;
    for (let atBytes = 0; atBytes < sizeBytes; atBytes += zeroes.sizeBytes) {
      const piece = zeroes.slice(0, Math.min(zeroes.sizeBytes, sizeBytes - atBytes));
      this.#place(batch, lsid + atBytes / ring.pbsBytes, piece);
    }
  }

  #place(batch: LogBatch, lsid: number, memory: Memory): void {
    const offsetBytes = lsidOffsetBytes(this.#core.ring, lsid);
    let gather = batch.gathers.at(-1);
    if (gather === undefined || gather.endBytes !== offsetBytes) {
      gather = { offsetBytes, pieces: [], endBytes: offsetBytes };
      batch.gathers.push(gather);
    }
    gather.pieces.push(memory);
    gather.endBytes += memory.sizeBytes;
  }
}
