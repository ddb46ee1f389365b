/**
 * @module The stream of a full copy: every bulk of a volume in ascending order, all-zero ones as a single byte.
 *
 * ```
 * per bulk:  v64 0                                  all zero
 *            v64 storedBytes, v32 checksum, raw     anything else, always the codec's output
 * then the receiver makes it durable and sends an Ack
 * ```
 */
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import { checkRange, lbBytes } from "../units.ts";
import type { Decoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { ackWord } from "./words.ts";

/** Largest bulk, 4 MiB, as the grammar of parameters allows. */
export const bulkLbMax = 8192;
/** Largest volume that can be named, 8 PiB. */
export const volumeLbMax = 2 ** 44;

/** Zero bulks in a row before others get their turn: those of a sparse volume come by the million, and wait for nothing. */
const zeroesAtOnceMax = 65_536;

/** Which part of a volume goes over, in which bulks. */
export interface BulkRange {
  /** First LB; above 0 when a copy is resumed. */
  readonly startLb: number;
  readonly sizeLb: number;
  readonly bulkLb: number;
}

/** A bulk as the sender gives it, in ascending order without gaps. */
export type EncodedBulk =
  | { readonly kind: "zero" }
  | {
      readonly kind: "data";
      /** The codec's output; the whole bulk with codec none. */
      readonly data: Memory;
      /** walb checksum of `data`, salt 0. */
      readonly checksum: number;
      /** Called exactly once, when the socket has taken the data. */
      release(): void;
    };

/** A bulk as the receiver gets it. */
export type ReceivedBulk =
  | { readonly kind: "zero"; readonly offsetLb: number; readonly sizeLb: number }
  | {
      readonly kind: "data";
      readonly offsetLb: number;
      readonly sizeLb: number;
      /** Stored bytes, not verified yet: decode checks `checksum` (salt 0) and expands to `sizeLb` · 512 bytes. */
      readonly data: Memory;
      readonly checksum: number;
      /** Gives the memory back, exactly once. */
      release(): void;
    };

/** Takes the bulks of a copy. */
export interface BulkSink {
  /** Takes over one bulk, in ascending order. Decode and write may go on after it returns; a failure of an earlier bulk
   * is thrown here or by `finish`. */
  write(bulk: ReceivedBulk): void | Promise<void>;
  /** All bulks came: resolves when they are durable. The Ack follows. */
  finish(): Promise<void>;
  /** The stream broke: resolves when every lease is back. Must not throw. */
  abandon(error: unknown): Promise<void>;
}

/** Sends all bulks and waits for the Ack. `progress` is told the LB sent so far. */
export async function sendBulks(
  stream: WireStream,
  range: BulkRange,
  bulks: AsyncIterable<EncodedBulk>,
  progress?: (doneLb: number) => void,
): Promise<void> {
  let offsetLb = range.startLb;
  let zeroes = 0;
  for await (const bulk of bulks) {
    if (bulk.kind === "zero" && ++zeroes % zeroesAtOnceMax === 0) await stream.clock.sleep(0);
    try {
      checkRange(offsetLb, range.startLb, range.sizeLb - 1, "bulk offset");
      const step = `sending the bulk at ${offsetLb} LB`;
      if (bulk.kind === "zero") {
        stream.put((encoder) => encoder.u8(0));
        if (stream.isFlushDue) await stream.flush(step);
      } else {
        stream.put((encoder) => encoder.u64(bulk.data.sizeBytes).u32(bulk.checksum));
        await stream.sendBulk(bulk.data.bytes, step);
      }
    } finally {
      if (bulk.kind === "data") bulk.release();
    }
    offsetLb = Math.min(offsetLb + range.bulkLb, range.sizeLb);
    progress?.(offsetLb);
  }
  checkRange(offsetLb, range.sizeLb, range.sizeLb, "end of the bulks");
  await stream.flush("sending the last bulk");
  await stream.readAck("the Ack of the full copy", stream.commitDeadlineMs);
}

/**
 * Receives all bulks, and sends the Ack when the sink has made them durable.
 * @param pool gives the memory of stored bulks: its budget bounds how many are in flight.
 */
export async function receiveBulks(
  stream: WireStream,
  range: BulkRange,
  pool: MemoryPool,
  sink: BulkSink,
): Promise<void> {
  let zeroes = 0;
  try {
    for (let offsetLb = range.startLb; offsetLb < range.sizeLb; offsetLb += range.bulkLb) {
      const sizeLb = Math.min(range.bulkLb, range.sizeLb - offsetLb);
      const bulk = await receiveBulk(stream, offsetLb, sizeLb, pool);
      if (bulk.kind === "zero" && ++zeroes % zeroesAtOnceMax === 0) await stream.clock.sleep(0);
      const taken = sink.write(bulk);
      if (taken !== undefined) await taken;
    }
    await sink.finish();
  } catch (error) {
    await sink.abandon(error);
    throw error;
  }
  stream.put((encoder) => encoder.u32(ackWord));
  await stream.flush("sending the Ack of the full copy");
}

async function receiveBulk(
  stream: WireStream,
  offsetLb: number,
  sizeLb: number,
  pool: MemoryPool,
): Promise<ReceivedBulk> {
  const step = `the bulk at ${offsetLb} LB`;
  // No codec of ours or of the original exceeds this; the sender has no other way to say "stored".
  const storedBytesMax = 2 * sizeLb * lbBytes + 4096;
  let storedBytes = 0;
  let checksum = 0;
  const header = (decoder: Decoder): true => {
    storedBytes = decoder.size("bulk size", storedBytesMax);
    checksum = storedBytes === 0 ? 0 : decoder.u32("bulk checksum");
    return true;
  };
  if (stream.poll(header) === undefined) await stream.read(step, header);
  if (storedBytes === 0) return { kind: "zero", offsetLb, sizeLb };
  const lease: Lease = pool.tryLease(storedBytes) ?? (await pool.lease(storedBytes));
  try {
    const data = lease.slice(0, storedBytes);
    await stream.readMemory(data, step);
    return { kind: "data", offsetLb, sizeLb, data, checksum, release: () => lease.release() };
  } catch (error) {
    lease.release();
    throw error;
  }
}
