/**
 * @module The stream of sorted diff packs, as wdiff-transfer, hash backup and replication use it.
 *
 * ```
 * ( 00 Next, v64 packBytes, raw pack )*  01 End        03 Dummy between units where the protocol allows it
 * ```
 * Every pack is verified: header checksum and rules, and ascending records inside the volume over the whole stream, before
 * it is delivered; data checksums before the stream counts as complete.
 */
import { fileHeaderBytes, packDataMax, packHeaderBytes, parsePackHeader } from "../diff/format.ts";
import { RecordIndex } from "../diff/record-index.ts";
import { RecordKind } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import type { Compute, VerifyItem } from "../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import { InOrder } from "./pipeline.ts";
import type { Decoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { StreamControl } from "./words.ts";

/** Packs verified at the same time. */
const inFlightMax = 4;
/** Files that packs go to are written in such pages; a pack lies in its first one as it will there. */
const pageBytes = 4096;
/** Records without data are not held longer than the check of their pack. */
const packRecordsRoom = 128;

/** A pack to send: all its bytes, in one piece or several (header, then data as it lies in files). */
export interface OutgoingPack {
  /** In one piece. */
  readonly memory?: Memory;
  /** Or in several, together at most 4096 + 32 MiB. */
  readonly pieces?: readonly Memory[];
  /** Called exactly once, when the socket has taken the pack. */
  release(): void;
}

/** A pack whose header is good; its data is checked while it is written. */
export interface ReceivedPack {
  /** Header and data, verbatim. In its first page it lies as it will in a file of all packs of the stream, so that it can
   * be written from where it is. */
  readonly memory: Memory;
  /** Its records; `dataOffset` counts from the start of `memory`, `source` is 0. */
  readonly records: RecordIndex;
  /** Gives the memory back, exactly once. */
  release(): void;
}

/** Takes the packs of a stream. */
export interface PackSink {
  /** Takes over one pack, in address order. What is made of it counts when `finish` is called, and not before: until then
   * data that does not match its checksum may be in it. */
  write(pack: ReceivedPack): void | Promise<void>;
  /** The stream is complete and all of it good: resolves when it is durable. */
  finish(): Promise<void>;
  /** The stream broke: resolves when every lease is back. Must not throw. */
  abandon(error: unknown): Promise<void>;
}

/** What receiving packs needs. */
export interface PackReceiverOptions {
  /** Its budget bounds the packs in flight; one of 64 MiB must fit. */
  readonly pool: MemoryPool;
  readonly compute: Compute;
  /** Records must end by it: the size of the volume. */
  readonly limitLb: number;
}

/** Sends one pack as a unit. */
export async function sendPack(stream: WireStream, pack: OutgoingPack): Promise<number> {
  try {
    const pieces = pack.pieces ?? (pack.memory === undefined ? [] : [pack.memory]);
    let sizeBytes = 0;
    for (const piece of pieces) sizeBytes += piece.sizeBytes;
    stream.put((encoder) => encoder.u8(StreamControl.next).u64(sizeBytes));
    for (const piece of pieces) {
      if (stream.tryPutBulk(piece.bytes)) {
        if (stream.isFlushDue) await stream.flush("sending a pack");
      } else {
        await stream.sendBulk(piece.bytes, "sending a pack");
      }
    }
    return sizeBytes;
  } finally {
    pack.release();
  }
}

/** Sends all packs and End; the Ack is the enclosing protocol's. @returns bytes of the packs. */
export async function sendPacks(stream: WireStream, packs: AsyncIterable<OutgoingPack>): Promise<number> {
  let totalBytes = 0;
  for await (const pack of packs) totalBytes += await sendPack(stream, pack);
  stream.put((encoder) => encoder.u8(StreamControl.end));
  await stream.flush("sending the end of the packs");
  return totalBytes;
}

/** Receives packs one after the other and delivers them in order, each while its data is verified. */
export class PackReceiver {
  readonly #stream: WireStream;
  readonly #options: PackReceiverOptions;
  readonly #pipeline: InOrder<ReceivedPack>;
  /** Of packs whose data is being checked; none rejects. */
  readonly #checks = new Set<Promise<void>>();
  /** Why the data of a pack is not good. */
  #badData: { readonly error: unknown } | undefined;
  #endLb = 0;
  /** Where the next pack is in a file of all of them. */
  #fileOffset = fileHeaderBytes;

  constructor(stream: WireStream, options: PackReceiverOptions, sink: PackSink) {
    this.#stream = stream;
    this.#options = options;
    this.#pipeline = new InOrder<ReceivedPack>({
      inFlightMax,
      deliver: (pack) => sink.write(pack),
      drop: (pack) => pack.release(),
    });
  }

  /** Receives the pack behind a Next byte. */
  async receive(): Promise<void> {
    const stream = this.#stream;
    const size = (decoder: Decoder): number => decoder.size("pack size", packHeaderBytes + packDataMax);
    const sizeBytes = stream.poll(size) ?? (await stream.read("the size of a pack", size));
    if (sizeBytes < packHeaderBytes) {
      throw stream.protocolError("the size of a pack", `a pack of ${sizeBytes} bytes is shorter than its header`);
    }
    await this.#pipeline.room();
    this.#requireGood();
    const { pool } = this.#options;
    const placeBytes = this.#fileOffset % pageBytes;
    const leaseBytes = placeBytes + sizeBytes;
    const lease = pool.tryLease(leaseBytes) ?? (await pool.lease(leaseBytes));
    this.#fileOffset += sizeBytes;
    const memory = lease.slice(placeBytes, sizeBytes);
    let records: RecordIndex;
    try {
      await stream.readMemory(memory, "a pack");
      records = this.#parse(memory);
    } catch (error) {
      lease.release();
      throw error;
    }
    this.#push(memory, records, lease);
  }

  /** The memory is given back when it was both written and verified. */
  #push(memory: Memory, records: RecordIndex, lease: Lease): void {
    let uses = 2;
    const used = (): void => {
      uses -= 1;
      if (uses === 0) lease.release();
    };
    const check: Promise<void> = this.#verify(memory, records)
      .catch((error: unknown) => {
        this.#badData ??= { error };
      })
      .finally(() => {
        used();
        this.#checks.delete(check);
      });
    this.#checks.add(check);
    this.#pipeline.push({ memory, records, release: used }, Promise.resolve());
  }

  /** Waits until every pack was delivered and is good. @throws the first failure. */
  async drain(): Promise<void> {
    await this.#pipeline.drain();
    await Promise.all(this.#checks);
    this.#requireGood();
  }

  #requireGood(): void {
    if (this.#badData !== undefined) throw this.#badData.error;
  }

  /** Gives back what was not delivered. */
  async cancel(error: unknown): Promise<void> {
    await this.#pipeline.cancel(error);
    await Promise.all(this.#checks);
  }

  #parse(memory: Memory): RecordIndex {
    const records = new RecordIndex(packRecordsRoom, packRecordsRoom);
    const info = parsePackHeader(
      memory.bytes.subarray(0, packHeaderBytes),
      this.#options.compute,
      records,
      0,
      packHeaderBytes,
      this.#endLb,
      this.#options.limitLb,
      { peer: this.#stream.peerName },
    );
    if (info.isEnd) throw this.#bad("an end pack may not be sent", "flags");
    if (packHeaderBytes + info.dataBytes !== memory.sizeBytes) {
      throw this.#bad(`a pack of ${memory.sizeBytes} bytes has ${info.dataBytes} bytes of data`, "total_size");
    }
    this.#endLb = info.endLb;
    return records;
  }

  async #verify(memory: Memory, records: RecordIndex): Promise<void> {
    const items: VerifyItem[] = [];
    for (let i = 0; i < records.count; i++) {
      if (records.kind[i] !== RecordKind.normal) continue;
      items.push({
        source: memory.slice(records.dataOffset[i]!, records.storedBytes[i]!),
        salt: 0,
        checksum: records.checksum[i]!,
      });
    }
    if (items.length === 0) return;
    const good = await this.#options.compute.verify(items);
    if (good.includes(0)) throw this.#bad("the data of a record does not match its checksum", "checksum");
  }

  #bad(what: string, field: string): WalbError {
    return new WalbError("bad-format", {
      what,
      where: { peer: this.#stream.peerName, field },
      hint: "the diff was damaged on its way or at the sender: it will be sent again",
    });
  }
}

/** Receives all packs up to End and has the sink make them durable; the Ack is the enclosing protocol's. */
export async function receivePacks(stream: WireStream, options: PackReceiverOptions, sink: PackSink): Promise<void> {
  const receiver = new PackReceiver(stream, options, sink);
  const control = (decoder: Decoder): number => decoder.u8();
  try {
    for (;;) {
      const byte = stream.poll(control) ?? (await stream.read("the next pack", control, stream.commitDeadlineMs));
      if (byte === StreamControl.end) break;
      if (byte !== StreamControl.next) throw unexpectedControl(stream, "the next pack", byte);
      await receiver.receive();
    }
    await receiver.drain();
    await sink.finish();
  } catch (error) {
    await receiver.cancel(error);
    await sink.abandon(error);
    throw error;
  }
}

/** The error for a control byte that may not come here; Error means that the peer failed. */
export function unexpectedControl(stream: WireStream, step: string, byte: number): WalbError {
  return byte === StreamControl.error
    ? stream.protocolError(step, "the peer failed and ended the stream with an error")
    : stream.protocolError(step, `control byte ${byte} is not allowed here`);
}
