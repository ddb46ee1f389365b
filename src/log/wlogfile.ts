/**
 * @module Reading and writing wlog files and streams: header, packs, end block. Source: `docs/formats.md`, wlog file.
 */
import { WalbError } from "../errors.ts";
import type { Compute } from "../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { mib } from "../units.ts";
import type { PackBatch, PackPart } from "./batch.ts";
import { encodeEndBlock, nextPackLsid, recordDataPb } from "./pack.ts";
import { type PackSource, type ScanStop, scanPacks, scanStopError } from "./scan.ts";
import { decodeWlogHeader, encodeWlogHeader, type WlogHeader, wlogHeaderBytes } from "./wlogheader.ts";

/** A sequential input: a file, or a pipe. */
export interface WlogInput {
  /** For messages. */
  readonly name: string;
  /** Fills `target`; the answer is less than its size only at the end of the input, 0 when nothing is left. */
  read(target: Memory): Promise<number>;
  /** Passes over bytes without reading them; the answer is less only at the end. Not there for a pipe. */
  skip?(sizeBytes: number): number;
}

/** A sequential output. */
export interface WlogOutput {
  /** Writes the pieces one behind the other. The memory may be reused when it resolves. */
  write(pieces: readonly Memory[]): Promise<void>;
}

/** A file from an offset on as input. */
export async function fileInput(file: DiskFile, offsetBytes = 0): Promise<WlogInput> {
  const sizeBytes = await file.size();
  let at = offsetBytes;
  return {
    name: file.path,
    read: async (target) => {
      const takeBytes = Math.max(0, Math.min(target.sizeBytes, sizeBytes - at));
      if (takeBytes > 0) await file.read(at, target.slice(0, takeBytes));
      at += takeBytes;
      return takeBytes;
    },
  };
}

const gatherPiecesMax = 1024;

/** A file from an offset on as output. */
export function fileOutput(file: DiskFile, offsetBytes = 0): WlogOutput {
  let at = offsetBytes;
  return {
    write: async (pieces) => {
      for (let i = 0; i < pieces.length; i += gatherPiecesMax) {
        const some = pieces.slice(i, i + gatherPiecesMax);
        await file.writeGather(at, some);
        for (const piece of some) at += piece.sizeBytes;
      }
    },
  };
}

/** How a wlog ended: with its end block, or at the end of the input between two packs. */
export type WlogEnd = { readonly endLsid: number; readonly hasEndBlock: boolean };

/**
 * Reads one or several concatenated wlogs. Use: `nextHeader()`, then all of `packs()`, then `nextHeader()` again until
 * it is undefined.
 */
export class WlogReader {
  readonly #input: WlogInput;
  readonly #pool: MemoryPool;
  readonly #compute: Compute;
  /** Bytes read behind an end block, to be served first. */
  #pushedBack: Uint8Array = new Uint8Array(0);
  #offsetBytes = 0;
  #header: WlogHeader | undefined;
  /** Where its packs begin, and where they are read from on. */
  #startBytes = 0;
  #fromLsid = 0;
  readonly #chunkBytes: number | undefined;

  /** @param chunkBytes read at once; default 1 MiB. */
  constructor(input: WlogInput, pool: MemoryPool, compute: Compute, chunkBytes?: number) {
    this.#chunkBytes = chunkBytes;
    this.#input = input;
    this.#pool = pool;
    this.#compute = compute;
  }

  /** Bytes of the input before what is read next: behind a header, where its first pack begins. */
  get offsetBytes(): number {
    return this.#offsetBytes;
  }

  /** The next wlog's header; undefined at the end of the input. @throws WalbError `bad-format`, `damaged`. */
  async nextHeader(): Promise<WlogHeader | undefined> {
    const lease = await this.#pool.lease(wlogHeaderBytes);
    try {
      const startBytes = this.#offsetBytes;
      const gotBytes = await this.#read(lease.slice(0, wlogHeaderBytes));
      if (gotBytes === 0) return undefined;
      if (gotBytes < wlogHeaderBytes) {
        const what = `the input ends inside a wlog header, after ${gotBytes} bytes`;
        throw new WalbError("damaged", { what, where: { file: this.#input.name, offsetBytes: startBytes } });
      }
      this.#header = decodeWlogHeader(lease.bytes.subarray(0, wlogHeaderBytes), this.#input.name, startBytes);
      this.#startBytes = this.#offsetBytes;
      this.#fromLsid = this.#header.beginLsid;
      return this.#header;
    } finally {
      lease.release();
    }
  }

  /** Leaves out the packs of the current wlog before `lsid`, where a pack begins. Nothing was read of them yet. */
  skipTo(lsid: number): void {
    const header = this.#header;
    const { skip } = this.#input;
    if (header === undefined || skip === undefined)
      throw new WalbError("internal", { what: "a wlog cannot be skipped" });
    const sizeBytes = (lsid - this.#fromLsid) * header.pbsBytes;
    const pushedBytes = Math.min(this.#pushedBack.length, sizeBytes);
    this.#pushedBack = this.#pushedBack.subarray(pushedBytes);
    skip(sizeBytes - pushedBytes);
    this.#offsetBytes += sizeBytes;
    this.#fromLsid = lsid;
  }

  /**
   * The packs of the current wlog; its return value says how it ended.
   * @throws WalbError `damaged` at a bad header, bad data, a pack that does not follow the one before, or an end
   * inside a pack; what is before has been delivered.
   */
  async *packs(signal?: AbortSignal): AsyncGenerator<PackBatch, WlogEnd, undefined> {
    const header = this.#header;
    if (header === undefined) throw new WalbError("internal", { what: "a wlog is read before its header" });
    this.#header = undefined;
    const source = this.#source(header);
    const stop: ScanStop = yield* scanPacks({
      source,
      pool: this.#pool,
      compute: this.#compute,
      fromLsid: this.#fromLsid,
      limitLsid: Number.MAX_SAFE_INTEGER,
      ...(this.#chunkBytes === undefined ? {} : { chunkBytes: this.#chunkBytes }),
      signal,
    });
    if (stop.kind === "end-block") {
      this.#pushedBack = stop.rest;
      this.#offsetBytes -= stop.rest.length;
      return { endLsid: stop.lsid, hasEndBlock: true };
    }
    if (stop.kind === "end-of-input" && !stop.isMidPack) return { endLsid: stop.lsid, hasEndBlock: false };
    throw scanStopError(stop, source);
  }

  #source(header: WlogHeader): PackSource {
    const startBytes = this.#startBytes;
    let atLsid = this.#fromLsid;
    return {
      pbsBytes: header.pbsBytes,
      salt: header.salt,
      lsidBase: header.lsidBase ?? 0n,
      read: async (lsid, target) => {
        // Padding in front of `lsid` is in the stream, but nobody needs it.
        while (atLsid < lsid) {
          const skip = target.slice(0, Math.min(target.sizeBytes, (lsid - atLsid) * header.pbsBytes));
          if ((await this.#read(skip)) < skip.sizeBytes) return 0;
          atLsid += skip.sizeBytes / header.pbsBytes;
        }
        const gotBytes = await this.#read(target);
        atLsid += Math.ceil(gotBytes / header.pbsBytes);
        return gotBytes;
      },
      place: (lsid) => ({
        file: this.#input.name,
        offsetBytes: startBytes + (lsid - header.beginLsid) * header.pbsBytes,
      }),
      contiguousPb: () => Number.MAX_SAFE_INTEGER,
    };
  }

  async #read(target: Memory): Promise<number> {
    const pushedBytes = Math.min(this.#pushedBack.length, target.sizeBytes);
    if (pushedBytes > 0) {
      target.bytes.set(this.#pushedBack.subarray(0, pushedBytes));
      this.#pushedBack = this.#pushedBack.subarray(pushedBytes);
    }
    const restBytes = target.sizeBytes - pushedBytes;
    const gotBytes = restBytes === 0 ? 0 : await this.#input.read(target.slice(pushedBytes, restBytes));
    this.#offsetBytes += pushedBytes + gotBytes;
    return pushedBytes + gotBytes;
  }
}

/** Fills `target`, whole PB, with what lies at an lsid of the log that is written out. */
export type ReadPadding = (lsid: number, target: Memory) => Promise<void>;

/** Writes a wlog: construct, `begin()`, `write()` batches, `finish()`. */
export class WlogWriter {
  readonly #output: WlogOutput;
  readonly #header: WlogHeader;
  readonly #pool: MemoryPool;
  readonly #readPadding: ReadPadding | undefined;
  #lease: Lease | undefined;
  #lsid: number;
  #isMidPack = false;

  /** @param readPadding where the content of padding is, which nothing checks; without it padding becomes zeroes. */
  constructor(output: WlogOutput, header: WlogHeader, pool: MemoryPool, readPadding?: ReadPadding) {
    this.#output = output;
    this.#readPadding = readPadding;
    this.#header = header;
    this.#pool = pool;
    this.#lsid = header.beginLsid;
  }

  /** lsid behind the last pack written. */
  get endLsid(): number {
    return this.#lsid;
  }

  async begin(): Promise<void> {
    this.#lease = await this.#pool.lease(mib);
    await this.#writeBlock(encodeWlogHeader(this.#header));
    this.#lease.bytes.fill(0);
  }

  /** Writes the packs of a batch. The caller releases the batch afterwards. */
  async write(batch: PackBatch): Promise<void> {
    const pieces: Memory[] = [];
    for (const part of batch.parts) await this.#addPart(part, pieces);
    await this.#output.write(pieces);
  }

  /** Writes the end block. The output is not synced. */
  async finish(): Promise<void> {
    if (this.#isMidPack) throw new WalbError("internal", { what: "a wlog is finished inside a pack" });
    await this.#writeBlock(encodeEndBlock(this.#header.pbsBytes, this.#header.salt));
    this.release();
  }

  /** Gives the memory back; after `finish` it is done already. */
  release(): void {
    this.#lease?.release();
    this.#lease = undefined;
  }

  async #addPart(part: PackPart, pieces: Memory[]): Promise<void> {
    const { pbsBytes } = this.#header;
    if (part.header.lsid !== this.#lsid || (part.headerMemory === undefined) !== this.#isMidPack) {
      const what = `log pack ${part.header.lsid} is written where ${this.#lsid} is due`;
      throw new WalbError("internal", { what });
    }
    if (part.headerMemory !== undefined) pieces.push(part.headerMemory);
    for (const [i, memory] of part.data.entries()) {
      const record = part.header.records[part.firstRecord + i]!;
      const sizeBytes = recordDataPb(record, pbsBytes) * pbsBytes;
      if (memory !== undefined) pieces.push(memory);
      else if (record.kind === "padding" && this.#readPadding === undefined) this.#addZeroes(sizeBytes, pieces);
      else if (record.kind === "padding") await this.#copyPadding(record.lsid, sizeBytes, pieces);
    }
    this.#isMidPack = !part.isLast;
    if (part.isLast) this.#lsid = nextPackLsid(part.header);
  }

  /** Writes what is before the padding, and the padding. */
  async #copyPadding(lsid: number, sizeBytes: number, pieces: Memory[]): Promise<void> {
    await this.#output.write(pieces.splice(0));
    const lease = this.#lease!;
    for (let done = 0; done < sizeBytes; done += lease.sizeBytes) {
      const part = lease.slice(0, Math.min(lease.sizeBytes, sizeBytes - done));
      await this.#readPadding!(lsid + done / this.#header.pbsBytes, part);
      await this.#output.write([part]);
    }
  }

  #addZeroes(sizeBytes: number, pieces: Memory[]): void {
    const zeroes = this.#lease!;
    for (let rest = sizeBytes; rest > 0; rest -= zeroes.sizeBytes) {
      pieces.push(zeroes.slice(0, Math.min(rest, zeroes.sizeBytes)));
    }
  }

  async #writeBlock(block: Uint8Array): Promise<void> {
    const memory = this.#lease!.slice(0, block.length);
    memory.bytes.set(block);
    await this.#output.write([memory]);
  }
}
