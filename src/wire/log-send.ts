/**
 * @module The sender of a log stream: pack headers and record data, each compressed with snappy where that is smaller.
 *
 * ```
 * per pack:  00 Next, CD(header)   per record with data:  00 Next, CD(data)      at last 01 End
 * CD = v32 compressedBytes (0: stored), v32 originalBytes, raw
 * ```
 */
import type { PackBatch } from "../log/batch.ts";
import { recordDataPb } from "../log/pack.ts";
import { Codec, type CodecItem, type Compute, type Encoded, maxFramedBytes } from "../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import { mib } from "../units.ts";
import { InOrder } from "./pipeline.ts";
import { snappyZeros } from "./snappy-zero.ts";
import type { WireStream } from "./stream.ts";
import { StreamControl } from "./words.ts";

/** Source bytes that one compression job takes. */
const groupBytes = mib;
/** Groups compressed or waiting to be sent at the same time. */
const inFlightMax = 4;

/** What sending a log needs. */
export interface LogSenderOptions {
  /** Memory for compressed data: a pool of its own, so that batches of the reader never wait for it and it for them. */
  readonly pool: MemoryPool;
  readonly compute: Compute;
  readonly pbsBytes: number;
}

/** A header or the data of a record; without memory it is padding of zeroes. */
interface Piece {
  readonly memory: Memory | undefined;
  readonly sizeBytes: number;
}

/** Pieces that one job compresses and lays out as they are sent, and what holds their memory. */
interface Group {
  readonly pieces: readonly Piece[];
  readonly target: Lease;
  readonly batch: BatchHold;
  encoded: readonly Encoded[];
  /** Bytes of the target that are ready to be sent; undefined for a lone large piece, which lies where it is. */
  framedBytes: number | undefined;
}

/** Releases a batch when its last group is gone. */
class BatchHold {
  readonly #batch: PackBatch;
  #holders = 1;

  constructor(batch: PackBatch) {
    this.#batch = batch;
  }

  add(): void {
    this.#holders += 1;
  }

  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#batch.release();
  }
}

/** Sends all batches and End. The diff and the Ack are the enclosing protocol's. */
export async function sendLog(
  stream: WireStream,
  batches: AsyncIterable<PackBatch>,
  options: LogSenderOptions,
): Promise<void> {
  const pipeline = new InOrder<Group>({
    inFlightMax,
    deliver: (group) => sendGroup(stream, group),
    drop: releaseGroup,
  });
  try {
    for await (const batch of batches) {
      const hold = new BatchHold(batch);
      try {
        for (const pieces of groupsOf(batch, options.pbsBytes)) {
          await pipeline.room();
          await startGroup(pieces, hold, pipeline, options);
        }
      } finally {
        hold.release();
      }
    }
    await pipeline.drain();
  } catch (error) {
    await pipeline.cancel(error);
    throw error;
  }
  stream.put((encoder) => encoder.u8(StreamControl.end));
  await stream.flush("sending the end of the log");
}

async function startGroup(
  pieces: readonly Piece[],
  batch: BatchHold,
  pipeline: InOrder<Group>,
  { pool, compute }: LogSenderOptions,
): Promise<void> {
  const isFramed = pieces.every((piece) => piece.sizeBytes <= groupBytes);
  let sizeBytes = 0;
  for (const piece of pieces) {
    if (isFramed) sizeBytes += maxFramedBytes(piece.sizeBytes);
    else if (piece.memory !== undefined) sizeBytes += piece.sizeBytes;
  }
  const target = pool.tryLease(Math.max(sizeBytes, 1)) ?? (await pool.lease(Math.max(sizeBytes, 1)));
  const items: CodecItem[] = [];
  let at = 0;
  for (const { memory, sizeBytes: pieceBytes } of pieces) {
    if (memory === undefined || isFramed) continue;
    items.push({ source: memory, target: target.slice(at, pieceBytes) });
    at += pieceBytes;
  }
  const group: Group = { pieces, target, batch, encoded: [], framedBytes: undefined };
  batch.add();
  const encode = async (): Promise<void> => {
    if (isFramed) group.framedBytes = await compute.frame(pieces, target);
    if (items.length > 0) group.encoded = await compute.encode(items, { codec: Codec.snappy, level: 0 });
  };
  pipeline.push(group, encode());
}

/** Cuts a batch into groups of about 1 MiB. */
function* groupsOf(batch: PackBatch, pbsBytes: number): Generator<Piece[]> {
  let pieces: Piece[] = [];
  let sizeBytes = 0;
  for (const piece of piecesOf(batch, pbsBytes)) {
    if (pieces.length > 0 && sizeBytes + piece.sizeBytes > groupBytes) {
      yield pieces;
      pieces = [];
      sizeBytes = 0;
    }
    pieces.push(piece);
    sizeBytes += piece.sizeBytes;
  }
  if (pieces.length > 0) yield pieces;
}

/** Headers and data in the order of the wire; discards have no data. */
function* piecesOf(batch: PackBatch, pbsBytes: number): Generator<Piece> {
  for (const part of batch.parts) {
    if (part.headerMemory !== undefined) yield { memory: part.headerMemory, sizeBytes: part.headerMemory.sizeBytes };
    for (let i = 0; i < part.data.length; i++) {
      const sizeBytes = recordDataPb(part.header.records[part.firstRecord + i]!, pbsBytes) * pbsBytes;
      if (sizeBytes > 0) yield { memory: part.data[i], sizeBytes };
    }
  }
}

async function sendGroup(stream: WireStream, group: Group): Promise<void> {
  try {
    if (group.framedBytes !== undefined) {
      await stream.sendBulk(group.target.bytes.subarray(0, group.framedBytes), "sending the log");
      return;
    }
    let item = 0;
    let at = 0;
    for (const piece of group.pieces) {
      let payload: Uint8Array | undefined;
      if (piece.memory === undefined) {
        payload = zeroPayload(piece.sizeBytes);
      } else {
        const encoded = group.encoded[item]!;
        if (encoded.isZero) payload = zeroPayload(piece.sizeBytes);
        else if (encoded.codec !== Codec.none) payload = group.target.bytes.subarray(at, at + encoded.storedBytes);
        item += 1;
        at += piece.sizeBytes;
      }
      const isStored = payload === undefined || payload.length >= piece.sizeBytes;
      const bytes = isStored ? (piece.memory?.bytes ?? new Uint8Array(piece.sizeBytes)) : payload!;
      stream.put((encoder) =>
        encoder
          .u8(StreamControl.next)
          .u32(isStored ? 0 : bytes.length)
          .u32(piece.sizeBytes),
      );
      if (stream.tryPutBulk(bytes)) {
        if (stream.isFlushDue) await stream.flush("sending the log");
      } else {
        await stream.sendBulk(bytes, "sending the log");
      }
    }
  } finally {
    releaseGroup(group);
  }
}

let lastZeros = { sizeBytes: 0, payload: snappyZeros(0) };

/** Compressed zeroes; the last size is kept, since logs repeat sizes. */
function zeroPayload(sizeBytes: number): Uint8Array {
  if (lastZeros.sizeBytes !== sizeBytes) lastZeros = { sizeBytes, payload: snappyZeros(sizeBytes) };
  return lastZeros.payload;
}

function releaseGroup(group: Group): void {
  group.target.release();
  group.batch.release();
}
