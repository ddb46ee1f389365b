/**
 * @module The receiver of a log stream: units are read in batches, expanded and summed up in the pool, and delivered as
 * packs in log order.
 *
 * Checked: header by every rule of `log/pack.ts`, size of each datum, addresses inside the volume, lsids that follow each
 * other, checksum of each datum.
 */

import { asWalbError, WalbError } from "../errors.ts";
import type { PackBatch, PackPart, StoredData } from "../log/batch.ts";
import { ceilPb, maxRecordLb } from "../log/geometry.ts";
import { decodePackHeader, type LogPackHeader, nextPackLsid, recordDataPb } from "../log/pack.ts";
import { Codec, type Compute, type Expanded, type VerifyItem } from "../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import { alignUp, lbBytes, mib } from "../units.ts";
import { unexpectedControl } from "./pack-stream.ts";
import { InOrder } from "./pipeline.ts";
import type { Decoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { StreamControl } from "./words.ts";

/** Memory of an ordinary batch; a larger unit gets one of its own. */
const batchBytes = 2 * mib;
/** A batch with this much is delivered when nothing more is buffered. */
const eagerBytes = mib;
const inFlightMax = 4;

/** What receiving a log needs. */
export interface LogReceiverOptions {
  /** Its budget bounds the batches in flight; one of 64 MiB must fit. */
  readonly pool: MemoryPool;
  readonly compute: Compute;
  /** 512 or 4096. */
  readonly pbsBytes: number;
  readonly salt: number;
  /** Size of the volume: records must end by it. */
  readonly sizeLb: number;
}

/** Takes the packs of a log. */
export interface LogSink {
  /** Takes over one batch, in log order. */
  write(batch: PackBatch): void | Promise<void>;
  /** The stream broke: resolves when every lease is back. Must not throw. */
  abandon(error: unknown): Promise<void>;
}

/** A unit of the stream inside its batch. */
interface Unit {
  /** The expanded bytes. */
  readonly data: Memory;
  /** Compressed bytes to expand, undefined when the data came stored. */
  readonly stored: Memory | undefined;
  /** What expanding told. */
  expanded?: Expanded;
}

interface UnitBatch {
  readonly lease: Lease;
  readonly units: Unit[];
}

/** Receives packs up to End. @returns lsid behind the last pack, undefined when the log was empty. */
export async function receiveLog(
  stream: WireStream,
  options: LogReceiverOptions,
  sink: LogSink,
): Promise<{ endLsid: number | undefined; packs: number; logPb: number }> {
  const assembler = new PackAssembler(stream.peerName, options);
  const pipeline = new InOrder<UnitBatch>({
    inFlightMax,
    deliver: (batch) => deliver(batch, assembler, options, sink),
    drop: (batch) => batch.lease.release(),
  });
  try {
    const reader = new UnitReader(stream, options);
    for (;;) {
      await pipeline.room();
      const batch = await reader.next();
      if (batch === undefined) break;
      pipeline.push(batch, expand(batch, options.compute, stream.peerName));
    }
    await pipeline.drain();
    assembler.end();
  } catch (error) {
    await pipeline.cancel(error);
    await sink.abandon(error);
    throw error;
  }
  return { endLsid: assembler.endLsid, packs: assembler.packs, logPb: assembler.logPb };
}

/** Reads units into batches: expanded data grows from the front of a lease, compressed bytes from its end. */
class UnitReader {
  readonly #stream: WireStream;
  readonly #pool: MemoryPool;
  readonly #pbsBytes: number;
  readonly #unitBytesMax: number;
  #control: number = StreamControl.next;
  #compressedBytes = 0;
  #originalBytes = 0;
  /** True when a unit's sizes were read, but its bytes were not: it opens the next batch. */
  #isPending = false;

  constructor(stream: WireStream, options: LogReceiverOptions) {
    this.#stream = stream;
    this.#pool = options.pool;
    this.#pbsBytes = options.pbsBytes;
    this.#unitBytesMax = ceilPb(maxRecordLb, options.pbsBytes) * options.pbsBytes;
  }

  /** The next batch, undefined at End. */
  async next(): Promise<UnitBatch | undefined> {
    if (!this.#isPending && !(await this.#readSizes())) return undefined;
    const neededBytes = this.#neededBytes();
    const leaseBytes = Math.max(batchBytes, neededBytes);
    const lease = this.#pool.tryLease(leaseBytes) ?? (await this.#pool.lease(leaseBytes));
    try {
      return await this.#fill({ lease, units: [] }, leaseBytes);
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  async #fill(batch: UnitBatch, leaseBytes: number): Promise<UnitBatch> {
    let front = 0;
    let back = leaseBytes;
    this.#isPending = true;
    for (;;) {
      if (front + this.#neededBytes() > back) return batch;
      this.#isPending = false;
      const data = batch.lease.slice(front, this.#originalBytes);
      front += this.#originalBytes;
      if (this.#compressedBytes === 0) {
        if (!this.#stream.tryReadInto(data.bytes)) await this.#stream.readMemory(data, "the log");
        batch.units.push({ data, stored: undefined });
      } else {
        back -= alignUp(this.#compressedBytes, 8);
        const stored = batch.lease.slice(back, this.#compressedBytes);
        if (!this.#stream.tryReadInto(stored.bytes)) await this.#stream.readMemory(stored, "the log");
        batch.units.push({ data, stored });
      }
      if (front >= eagerBytes && !this.#stream.hasBuffered) return batch;
      if (!(await this.#readSizes())) return batch;
      this.#isPending = true;
    }
  }

  #neededBytes(): number {
    return this.#originalBytes + alignUp(this.#compressedBytes, 8);
  }

  /** Reads the control byte and sizes of a unit; false at End, which stays the answer from then on. */
  async #readSizes(): Promise<boolean> {
    if (this.#control === StreamControl.end) return false;
    const stream = this.#stream;
    if (stream.poll(this.#decode) === undefined) await stream.read("the log", this.#decode, stream.commitDeadlineMs);
    if (this.#control === StreamControl.end) return false;
    if (this.#control !== StreamControl.next) throw unexpectedControl(stream, "the log", this.#control);
    if (this.#originalBytes === 0 || this.#originalBytes % this.#pbsBytes !== 0) {
      throw stream.protocolError("the log", `a unit of ${this.#originalBytes} bytes is not whole physical blocks`);
    }
    if (this.#originalBytes > this.#unitBytesMax) {
      throw stream.protocolError("the log", `a unit of ${this.#originalBytes} bytes, above ${this.#unitBytesMax}`);
    }
    if (this.#compressedBytes >= this.#originalBytes) {
      throw stream.protocolError("the log", `${this.#originalBytes} bytes compressed to ${this.#compressedBytes}`);
    }
    return true;
  }

  readonly #decode = (decoder: Decoder): true => {
    const control = decoder.u8();
    if (control === StreamControl.next) {
      this.#compressedBytes = decoder.u32("compressed size");
      this.#originalBytes = decoder.u32("original size");
    }
    this.#control = control;
    return true;
  };
}

/** Expands the units of a batch in one job, which tells their checksums as well. */
async function expand(batch: UnitBatch, compute: Compute, peer: string): Promise<void> {
  const { units } = batch;
  const results = await compute.expand(
    units.map(({ data, stored }) => ({
      source: stored ?? data,
      codec: stored === undefined ? Codec.none : Codec.snappy,
      target: data,
    })),
  );
  for (const [i, unit] of units.entries()) {
    const result = results[i]!;
    if (result.isGood) {
      unit.expanded = result;
      continue;
    }
    throw new WalbError("bad-format", {
      what: `compressed log data does not expand to ${unit.data.sizeBytes} bytes`,
      where: { peer, field: "compressed data" },
    });
  }
}

async function deliver(
  batch: UnitBatch,
  assembler: PackAssembler,
  options: LogReceiverOptions,
  sink: LogSink,
): Promise<void> {
  let parts: PackPart[];
  try {
    const items: VerifyItem[] = [];
    parts = assembler.assemble(batch.units, items);
    if (items.length > 0 && (await options.compute.verify(items)).includes(0)) {
      throw assembler.badData();
    }
  } catch (error) {
    batch.lease.release();
    throw asWalbError(error);
  }
  const { lease } = batch;
  const endLsid = assembler.endLsid ?? parts[0]?.header.lsid ?? 0;
  await sink.write({ parts, endLsid, release: () => lease.release() });
}

/** Puts units together to packs, across batches. */
class PackAssembler {
  /** lsid behind the last whole pack. */
  endLsid: number | undefined;
  packs = 0;
  /** Log PB of the whole packs, headers included. */
  logPb = 0;
  readonly #peer: string;
  readonly #options: LogReceiverOptions;
  #header: LogPackHeader | undefined;
  #nextRecord = 0;

  constructor(peer: string, options: LogReceiverOptions) {
    this.#peer = peer;
    this.#options = options;
  }

  /** The parts that the units make; appends what must be verified. */
  assemble(units: readonly Unit[], items: VerifyItem[]): PackPart[] {
    const parts: PackPart[] = [];
    let data: (Memory | undefined)[] = [];
    let stored: (StoredData | undefined)[] = [];
    let headerMemory: Memory | undefined;
    let firstRecord = this.#nextRecord;
    const cut = (): void => {
      const header = this.#header;
      if (header === undefined) return;
      const isLast = this.#nextRecord === header.records.length;
      if (headerMemory !== undefined || data.length > 0)
        parts.push({ header, headerMemory, firstRecord, data, stored, isLast });
      data = [];
      stored = [];
      headerMemory = undefined;
      firstRecord = this.#nextRecord;
      if (isLast) this.#endPack(header);
    };
    const skipWithoutData = (header: LogPackHeader): void => {
      for (;;) {
        const record = header.records[this.#nextRecord];
        if (record === undefined || recordDataPb(record, this.#options.pbsBytes) > 0) break;
        data.push(undefined);
        stored.push(undefined);
        this.#nextRecord += 1;
      }
      if (this.#nextRecord === header.records.length) cut();
    };
    for (const unit of units) {
      const header = this.#header;
      if (header === undefined) {
        const opened = this.#open(unit.data);
        headerMemory = unit.data;
        firstRecord = 0;
        skipWithoutData(opened);
      } else {
        const taken = this.#takeData(header, unit, items);
        data.push(taken.data);
        stored.push(taken.stored);
        skipWithoutData(header);
      }
    }
    cut();
    return parts;
  }

  /** @throws when the log ended inside a pack. */
  end(): void {
    if (this.#header === undefined) return;
    throw this.bad(`the log ended inside the pack at lsid ${this.#header.lsid}`, "records");
  }

  bad(what: string, field: string): WalbError {
    return new WalbError("bad-format", {
      what,
      where: { peer: this.#peer, field },
      hint: "the log was damaged on its way or at the sender: it will be sent again",
    });
  }

  #open(block: Memory): LogPackHeader {
    const { pbsBytes, salt, sizeLb } = this.#options;
    if (block.sizeBytes !== pbsBytes) {
      throw this.bad(`a pack header of ${block.sizeBytes} bytes, but a block has ${pbsBytes}`, "header");
    }
    const expectedLsid = this.endLsid === undefined ? {} : { expectedLsid: this.endLsid };
    const header = decodePackHeader(block.bytes, { pbsBytes, salt, ...expectedLsid });
    if (header.records.length === 0) throw this.bad(`the pack at lsid ${header.lsid} has no records`, "n_records");
    for (const record of header.records) {
      if (record.kind !== "padding" && record.offsetLb + record.sizeLb > sizeLb) {
        throw this.bad(
          `a record at ${record.offsetLb} with ${record.sizeLb} blocks ends beyond the volume of ${sizeLb}`,
          "offset",
        );
      }
    }
    this.#header = header;
    this.#nextRecord = 0;
    return header;
  }

  /** The data of the next record, and what of it can be stored as it came. Checks its checksum, or asks for it. */
  #takeData(
    header: LogPackHeader,
    { data, stored, expanded }: Unit,
    items: VerifyItem[],
  ): { readonly data: Memory | undefined; readonly stored: StoredData | undefined } {
    const { pbsBytes, salt } = this.#options;
    const record = header.records[this.#nextRecord]!;
    const sizeBytes = recordDataPb(record, pbsBytes) * pbsBytes;
    if (data.sizeBytes !== sizeBytes) {
      throw this.bad(`the data of a record has ${data.sizeBytes} bytes instead of ${sizeBytes}`, "data size");
    }
    this.#nextRecord += 1;
    if (record.kind === "padding") return { data: undefined, stored: undefined };
    const usedBytes = record.sizeLb * lbBytes;
    if (usedBytes < sizeBytes || expanded === undefined) {
      // What pads the last block does not count.
      items.push({ source: data.slice(0, usedBytes), salt, checksum: record.checksum });
      return { data, stored: undefined };
    }
    if ((expanded.checksum - salt) >>> 0 !== record.checksum) throw this.badData();
    const codec = stored === undefined ? Codec.none : Codec.snappy;
    const image = { memory: stored ?? data, codec, checksum: expanded.storedChecksum, isZero: expanded.isZero };
    return { data, stored: image };
  }

  badData(): WalbError {
    return this.bad("the data of a log record does not match its checksum", "checksum");
  }

  #endPack(header: LogPackHeader): void {
    this.endLsid = nextPackLsid(header);
    this.packs += 1;
    this.logPb += 1 + header.totalDataPb;
    this.#header = undefined;
    this.#nextRecord = 0;
  }
}
