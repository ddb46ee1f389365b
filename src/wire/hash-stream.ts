/**
 * @module The stream of a hash comparison: the holder of the old image sends a hash per bulk, the holder of the new image
 * sends back what differs.
 *
 * ```
 * old>  ( 00 Next, raw[16] hash )*  01 End | 02 Error
 * new>  03 Dummy for every hash, before any pack of it;  00 Next, v64 packBytes, raw pack;  at last 01 End
 * ```
 * Both directions flow at the same time. Nothing is acknowledged inside.
 */
import { asWalbError } from "../errors.ts";
import { lbBytes, mib } from "../units.ts";
import { guarded } from "./guarded.ts";
import {
  type OutgoingPack,
  PackReceiver,
  type PackReceiverOptions,
  type PackSink,
  sendPack,
  unexpectedControl,
} from "./pack-stream.ts";
import type { Decoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { StreamControl } from "./words.ts";

/** Bytes of one hash, MurmurHash3 x64 128. */
export const hashBytes = 16;
/** Most hashes, and most bytes of their bulks, answered before they are compared: bounds how long the other side hears
 * nothing, also when the new image is read at a low rate. */
const hashesPerBatchMax = 16;
const batchBytesMax = 4 * mib;
/** Hashes on their way that were not answered yet: bounds how far the reading of the old image runs ahead, and keeps the
 * socket from filling, so that a slow peer does not look like a dead one. */
const hashesAheadMax = 4096;

/** What is compared. */
export interface HashRange {
  readonly sizeLb: number;
  readonly bulkLb: number;
}

/** Packs in order, all at once or one by one: then the next one is asked for when the one before was sent. */
export type DuePacks = Promise<readonly OutgoingPack[]> | AsyncIterable<OutgoingPack>;

/** Compares hashes of the old image with the new one. */
export interface HashComparer {
  /** Hashes of bulks `firstBulk`, `firstBulk + 1`, …, 16 bytes each. @returns packs that are due to be sent. */
  compare(firstBulk: number, hashes: Uint8Array): DuePacks;
  /** All hashes came. @returns the last packs. */
  finish(): DuePacks;
}

/** Number of bulks, and so of hashes. */
function bulkCount(range: HashRange): number {
  return Math.ceil(range.sizeLb / range.bulkLb);
}

/**
 * The old image's end: sends hashes, receives packs, and has the sink make them durable.
 * @param hashes pieces of 16 · n bytes, in order, together one hash per bulk.
 */
export async function sendHashes(
  stream: WireStream,
  range: HashRange,
  hashes: AsyncIterable<Uint8Array>,
  options: PackReceiverOptions,
  sink: PackSink,
): Promise<void> {
  // The first failure of one direction closes the stream, so that the other one ends too.
  const stop = (error: unknown): never => {
    const failure = asWalbError(error, { peer: stream.peerName });
    stream.close(failure);
    throw failure;
  };
  const window = new HashWindow();
  const sending = writeHashes(stream, range, hashes, window).catch(stop);
  const receiving = readPacks(stream, range, options, sink, window)
    .catch(stop)
    .finally(() => window.end());
  const [sent, received] = await Promise.allSettled([sending, receiving]);
  const failed = sent.status === "rejected" ? sent : received.status === "rejected" ? received : undefined;
  if (failed !== undefined) {
    const failure = stream.failure ?? asWalbError(failed.reason);
    await sink.abandon(failure);
    throw failure;
  }
  await guarded(sink, () => sink.finish());
}

/** How many hashes were sent and not answered. */
class HashWindow {
  #sentCount = 0;
  #answeredCount = 0;
  #isOver = false;
  #wake: (() => void) | undefined;

  sent(): void {
    this.#sentCount += 1;
  }

  /** The peer has read a hash. */
  answered(): void {
    this.#answeredCount += 1;
    if (this.#sentCount - this.#answeredCount <= hashesAheadMax / 2) this.#wake?.();
  }

  get answeredCount(): number {
    return this.#answeredCount;
  }

  get isFull(): boolean {
    return this.#sentCount - this.#answeredCount >= hashesAheadMax && !this.#isOver;
  }

  /** Resolves when half of the window is free; the reader, who has the deadline, ends it otherwise. */
  async room(): Promise<void> {
    while (this.isFull) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Nothing is answered any more: nobody waits from here on. */
  end(): void {
    this.#isOver = true;
    this.#wake?.();
  }
}

async function writeHashes(
  stream: WireStream,
  range: HashRange,
  hashes: AsyncIterable<Uint8Array>,
  window: HashWindow,
): Promise<void> {
  const expected = bulkCount(range);
  let count = 0;
  try {
    for await (const piece of hashes) {
      for (let at = 0; at + hashBytes <= piece.length; at += hashBytes) {
        stream.put((encoder) => encoder.u8(StreamControl.next).raw(piece.subarray(at, at + hashBytes)));
        window.sent();
        if (window.isFull) {
          await stream.flush("sending hashes");
          await window.room();
        } else if (stream.isFlushDue) await stream.flush("sending hashes");
      }
      count += piece.length / hashBytes;
      await stream.flush("sending hashes");
    }
    if (count !== expected) {
      throw stream.protocolError("sending hashes", `${count} hashes were made, but the volume has ${expected} bulks`);
    }
  } catch (error) {
    if (stream.failure === undefined) {
      stream.put((encoder) => encoder.u8(StreamControl.error));
      await stream.flush("sending the error");
    }
    throw error;
  }
  stream.put((encoder) => encoder.u8(StreamControl.end));
  await stream.flush("sending the end of the hashes");
}

async function readPacks(
  stream: WireStream,
  range: HashRange,
  options: PackReceiverOptions,
  sink: PackSink,
  window: HashWindow,
): Promise<void> {
  const receiver = new PackReceiver(stream, options, sink);
  // The original sends exactly one per hash; a peer that sends them for ever must end.
  let dummiesLeft = 4 * bulkCount(range) + 1024;
  const control = (decoder: Decoder): number => decoder.u8();
  try {
    for (;;) {
      const byte = stream.poll(control) ?? (await stream.read("the differences", control, stream.commitDeadlineMs));
      if (byte === StreamControl.end) {
        // Each hash is answered before its bulk is compared: an end before that would pass off old data as new.
        if (window.answeredCount >= bulkCount(range)) break;
        throw stream.protocolError(
          "the differences",
          `they ended after ${window.answeredCount} of ${bulkCount(range)} bulks were compared`,
        );
      }
      if (byte === StreamControl.dummy) {
        window.answered();
        dummiesLeft -= 1;
        if (dummiesLeft < 0)
          throw stream.protocolError("the differences", "more Dummy bytes came than hashes were sent");
      } else if (byte === StreamControl.next) {
        await receiver.receive();
      } else {
        throw unexpectedControl(stream, "the differences", byte);
      }
    }
    await receiver.drain();
  } catch (error) {
    await receiver.cancel(error);
    throw error;
  }
}

/** The new image's end: answers every hash, sends what differs. */
export async function compareHashes(stream: WireStream, range: HashRange, comparer: HashComparer): Promise<void> {
  const expected = bulkCount(range);
  const bulkBytes = range.bulkLb * lbBytes;
  const hashesPerBatch = Math.max(1, Math.min(hashesPerBatchMax, Math.floor(batchBytesMax / bulkBytes)));
  const batch = new Uint8Array(hashesPerBatch * hashBytes);
  let control = 0;
  let count = 0;
  let inBatch = 0;
  const unit = (decoder: Decoder): true => {
    const byte = decoder.u8();
    if (byte === StreamControl.next) batch.set(decoder.raw(hashBytes), inBatch * hashBytes);
    control = byte;
    return true;
  };
  for (;;) {
    inBatch = 0;
    if (stream.poll(unit) === undefined) await stream.read("the hashes", unit, stream.commitDeadlineMs);
    while (control === StreamControl.next) {
      inBatch += 1;
      stream.put((encoder) => encoder.u8(StreamControl.dummy));
      if (inBatch === hashesPerBatch || stream.poll(unit) === undefined) break;
    }
    if (count + inBatch > expected) {
      throw stream.protocolError("the hashes", `more than ${expected} hashes came, one per bulk was expected`);
    }
    if (inBatch > 0) {
      await stream.flush("answering hashes");
      await sendAll(stream, comparer.compare(count, batch.slice(0, inBatch * hashBytes)));
      count += inBatch;
    }
    if (control !== StreamControl.next) break;
  }
  if (control !== StreamControl.end) throw unexpectedControl(stream, "the hashes", control);
  if (count !== expected) {
    throw stream.protocolError("the hashes", `only ${count} hashes came, but the volume has ${expected} bulks`);
  }
  await sendAll(stream, comparer.finish());
  stream.put((encoder) => encoder.u8(StreamControl.end));
  await stream.flush("sending the end of the differences");
}

/** Sends packs in order; on failure the rest is given back. */
async function sendAll(stream: WireStream, due: DuePacks): Promise<void> {
  if (Symbol.asyncIterator in due) {
    for await (const pack of due) await sendPack(stream, pack);
    return;
  }
  const packs = await due;
  let sent = 0;
  try {
    for (const pack of packs) {
      sent += 1;
      await sendPack(stream, pack);
    }
  } finally {
    for (const pack of packs.slice(sent)) pack.release();
  }
}
