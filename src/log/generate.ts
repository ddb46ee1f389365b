/**
 * @module Generated workloads: a seeded wlog of writes, discards, zeroes and padding, for tests and benchmarks.
 *
 * The parameters are those of the original's generator. The same options and seed give the same bytes.
 */
import { WalbError } from "../errors.ts";
import type { MemoryPool } from "../native/memory.ts";
import { checkRange, kib, lbBytes, mib } from "../units.ts";
import { walbChecksum } from "./checksum.ts";
import { SeededRandom } from "./generate-random.ts";
import { ceilPb, isUsablePbs, maxDiscardLb, maxPackDataPb, maxRecordLb, maxRecordsPerPack } from "./geometry.ts";
import { isLsid, wholeLsid } from "./lsid.ts";
import { encodeEndBlock, encodePackHeader, type LogPackHeader, type LogRecord, type LogRecordKind } from "./pack.ts";
import { hexOf } from "./superblock.ts";
import type { WlogOutput } from "./wlogfile.ts";
import { encodeWlogHeader, type WlogHeader, wlogHeaderBytes } from "./wlogheader.ts";

/**
 * What data looks like: `sparse` 8 random bytes in each block of zeroes, `random` incompressible, `half` half of each
 * block random and half one repeated byte.
 */
export type GeneratedContent = "sparse" | "random" | "half";

/** A workload. Sizes are bytes, multiples of 512. */
export interface GenerateOptions {
  /** Size of the volume; default 16 MiB. */
  readonly deviceBytes?: number;
  /** Physical block size, 512 to 4096; default 512. */
  readonly pbsBytes?: number;
  /** Sizes of writes; default 512 to 32 KiB. At most 65535 · 512. */
  readonly minIoBytes?: number;
  readonly maxIoBytes?: number;
  /** Sizes of discards; default 512 to 64 MiB, cut to the volume. */
  readonly minDiscardBytes?: number;
  readonly maxDiscardBytes?: number;
  /** Largest pack, header included; default 16 MiB, at most 32 MiB. The first record of a pack is always taken. */
  readonly maxPackBytes?: number;
  /** The log ends with the pack that brings it to this size; default 1 MiB. */
  readonly logBytes?: number;
  /** lsid of the first pack; default 0. */
  readonly beginLsid?: number;
  /** What lsids are counted from; default 0. */
  readonly lsidBase?: bigint;
  /** Some packs get a padding record; default true. */
  readonly padding?: boolean;
  /** One record in eight is a discard; default true. */
  readonly discard?: boolean;
  /** One write in eight is all zero; default true. */
  readonly allZero?: boolean;
  /** Default `sparse`. */
  readonly content?: GeneratedContent;
  /** Where writes go; default `random`. `sequential` starts at 0 and wraps at the end. */
  readonly order?: "random" | "sequential";
  /** Salt and uuid of the log; default from the seed. */
  readonly salt?: number;
  readonly uuid?: string;
}

/** What was generated. */
export interface GeneratedWlog {
  readonly header: WlogHeader;
  readonly endLsid: number;
  readonly packs: number;
  readonly records: number;
  readonly writtenLb: number;
  readonly discardedLb: number;
  /** Size of the file. */
  readonly sizeBytes: number;
}

/** One pack, whole, in memory of the caller: a header PB, then the data of its records. */
export interface GeneratedPack {
  readonly header: LogPackHeader;
  readonly sizeBytes: number;
}

const fractionDiscard = 1 / 8;
const fractionZero = 1 / 8;
const fractionPadding = 1 / 8;
const packBytesMaxLimit = 32 * mib;
/** Bytes that no reader may look at: slack behind a write, padding. */
const filler = 0xa5;

/** Makes the packs of a workload one after the other. */
export class WlogGenerator {
  readonly header: WlogHeader;
  /** No pack is larger: what {@link next} needs as room. */
  readonly packBytesMax: number;
  readonly #random: SeededRandom;
  readonly #options: Required<Omit<GenerateOptions, "salt" | "uuid">>;
  readonly #packPbMax: number;
  #lsid: number;
  #logBytes = wlogHeaderBytes;
  #nextLb = 0;
  packs = 0;
  records = 0;
  writtenLb = 0;
  discardedLb = 0;

  /** @param seed a safe integer. @throws WalbError `bad-parameter` or `out-of-range` naming the option. */
  constructor(options: GenerateOptions, seed: number) {
    checkRange(seed, 0, Number.MAX_SAFE_INTEGER, "seed");
    this.#options = checkOptions(options);
    const { pbsBytes, beginLsid, maxIoBytes, maxPackBytes } = this.#options;
    this.#random = new SeededRandom(seed);
    const salt = options.salt ?? this.#random.u32();
    const uuid = options.uuid ?? hexOf(this.#random.bytes(16));
    this.header = { pbsBytes, salt, uuid, beginLsid, endLsid: undefined, lsidBase: this.#options.lsidBase };
    this.#packPbMax = Math.min(maxPackDataPb, Math.max(1, Math.floor(maxPackBytes / pbsBytes) - 1));
    this.packBytesMax = (1 + Math.max(this.#packPbMax, ceilPb(maxIoBytes / lbBytes, pbsBytes))) * pbsBytes;
    this.#lsid = beginLsid;
  }

  /** lsid behind the last pack. */
  get endLsid(): number {
    return this.#lsid;
  }

  /** Bytes of the file with what was generated so far and an end block. */
  get sizeBytes(): number {
    return this.#logBytes + this.#options.pbsBytes;
  }

  /** Writes the next pack to the start of `target` (4-byte aligned, `packBytesMax` long); undefined at the end. */
  next(target: Uint8Array): GeneratedPack | undefined {
    const { pbsBytes, logBytes } = this.#options;
    if (this.#logBytes >= logBytes) return undefined;
    const records: LogRecord[] = [];
    const recordCount = this.#random.between(1, maxRecordsPerPack(pbsBytes));
    const paddingAt =
      this.#options.padding && this.#random.chance(fractionPadding) ? this.#random.below(recordCount) : -1;
    let dataPb = 0;
    for (let i = 0; i < recordCount; i += 1) {
      const { kind, offsetLb, sizeLb } = this.#plan(i === paddingAt);
      const needPb = kind === "discard" ? 0 : ceilPb(sizeLb, pbsBytes);
      if (i > 0 && dataPb + needPb > this.#packPbMax) break;
      const lsid = this.#lsid + 1 + dataPb;
      let checksum = 0;
      if (kind !== "discard") {
        const space = target.subarray((1 + dataPb) * pbsBytes, (1 + dataPb + needPb) * pbsBytes);
        const data = kind === "padding" ? space.subarray(0, 0) : space.subarray(0, sizeLb * lbBytes);
        space.fill(filler, data.length);
        if (kind === "data") {
          this.#fill(data);
          checksum = walbChecksum(data, this.header.salt);
        }
      }
      records.push({ kind, checksum, offsetLb, sizeLb, lsid });
      dataPb += needPb;
      if (kind === "data") this.writtenLb += sizeLb;
      if (kind === "discard") this.discardedLb += sizeLb;
      if (this.#logBytes + (1 + dataPb) * pbsBytes >= logBytes) break;
    }
    const header: LogPackHeader = { lsid: this.#lsid, totalDataPb: dataPb, records };
    const block = target.subarray(0, pbsBytes);
    encodePackHeader(header, pbsBytes, this.header.salt, block, this.#options.lsidBase);
    const sizeBytes = (1 + dataPb) * pbsBytes;
    this.#lsid += 1 + dataPb;
    this.#logBytes += sizeBytes;
    this.packs += 1;
    this.records += records.length;
    return { header, sizeBytes };
  }

  #plan(isPadding: boolean): { kind: LogRecordKind; offsetLb: number; sizeLb: number } {
    const options = this.#options;
    const deviceLb = Math.floor(options.deviceBytes / lbBytes);
    if (isPadding) {
      const lbPerPb = options.pbsBytes / lbBytes;
      const maxPb = Math.max(1, Math.floor(options.maxIoBytes / options.pbsBytes));
      return { kind: "padding", offsetLb: 0, sizeLb: this.#random.between(0, maxPb) * lbPerPb };
    }
    if (options.discard && this.#random.chance(fractionDiscard)) {
      const max = Math.min(options.maxDiscardBytes / lbBytes, deviceLb, maxDiscardLb);
      const sizeLb = this.#random.between(Math.min(options.minDiscardBytes / lbBytes, max), max);
      return { kind: "discard", offsetLb: this.#random.between(0, deviceLb - sizeLb), sizeLb };
    }
    const sizeLb = this.#random.between(options.minIoBytes / lbBytes, options.maxIoBytes / lbBytes);
    if (options.order === "random") {
      return { kind: "data", offsetLb: this.#random.between(0, deviceLb - sizeLb), sizeLb };
    }
    const offsetLb = this.#nextLb + sizeLb > deviceLb ? 0 : this.#nextLb;
    this.#nextLb = offsetLb + sizeLb;
    return { kind: "data", offsetLb, sizeLb };
  }

  #fill(data: Uint8Array): void {
    const random = this.#random;
    const { content } = this.#options;
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
    if (this.#options.allZero && random.chance(fractionZero)) {
      data.fill(0);
    } else if (content === "random") {
      random.fill(words);
    } else {
      const wordsPerLb = lbBytes / 4;
      const randomWords = content === "half" ? wordsPerLb / 2 : 2;
      for (let at = 0; at < words.length; at += wordsPerLb) {
        for (let i = 0; i < randomWords; i += 1) words[at + i] = random.u32();
        // A block that is meant to have data must not be zero by chance.
        words[at] = words[at]! | 1;
        words.fill(content === "half" ? (random.u32() & 0xff) * 0x0101_0101 : 0, at + randomWords, at + wordsPerLb);
      }
    }
  }
}

/**
 * Writes a generated wlog: header, packs, end block. One lease of the pool holds a pack at a time.
 * @param run `onProgress` hears the bytes written so far.
 * @throws WalbError `bad-parameter`, `out-of-range`, `cancelled`; errors of the output.
 */
export async function generateWlog(
  output: WlogOutput,
  pool: MemoryPool,
  options: GenerateOptions,
  seed: number,
  run: { readonly signal?: AbortSignal; readonly onProgress?: (doneBytes: number) => void } = {},
): Promise<GeneratedWlog> {
  const generator = new WlogGenerator(options, seed);
  const lease = await pool.lease(Math.max(generator.packBytesMax, wlogHeaderBytes));
  try {
    lease.bytes.set(encodeWlogHeader(generator.header));
    await output.write([lease.slice(0, wlogHeaderBytes)]);
    for (;;) {
      if (run.signal?.aborted === true) {
        throw new WalbError("cancelled", { what: "generating a log was cancelled", cause: run.signal.reason });
      }
      const pack = generator.next(lease.bytes);
      if (pack === undefined) break;
      await output.write([lease.slice(0, pack.sizeBytes)]);
      run.onProgress?.(generator.sizeBytes);
    }
    const { pbsBytes, salt } = generator.header;
    lease.bytes.set(encodeEndBlock(pbsBytes, salt));
    await output.write([lease.slice(0, pbsBytes)]);
  } finally {
    lease.release();
  }
  return resultOf(generator);
}

/** A whole generated wlog in memory, for small ones; `onPack` sees each pack with its bytes. */
export function generateWlogBytes(
  options: GenerateOptions,
  seed: number,
  onPack?: (header: LogPackHeader, bytes: Uint8Array) => void,
): { readonly bytes: Uint8Array; readonly wlog: GeneratedWlog } {
  const generator = new WlogGenerator(options, seed);
  const pieces: Uint8Array[] = [encodeWlogHeader(generator.header)];
  const target = new Uint8Array(generator.packBytesMax);
  for (let pack = generator.next(target); pack !== undefined; pack = generator.next(target)) {
    const bytes = target.slice(0, pack.sizeBytes);
    onPack?.(pack.header, bytes);
    pieces.push(bytes);
  }
  const { pbsBytes, salt } = generator.header;
  pieces.push(encodeEndBlock(pbsBytes, salt));
  const bytes = new Uint8Array(generator.sizeBytes);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return { bytes, wlog: resultOf(generator) };
}

function resultOf(generator: WlogGenerator): GeneratedWlog {
  const { header, endLsid, packs, records, writtenLb, discardedLb, sizeBytes } = generator;
  return { header, endLsid, packs, records, writtenLb, discardedLb, sizeBytes };
}

function checkOptions(options: GenerateOptions): Required<Omit<GenerateOptions, "salt" | "uuid">> {
  const full = {
    deviceBytes: options.deviceBytes ?? 16 * mib,
    pbsBytes: options.pbsBytes ?? 512,
    minIoBytes: options.minIoBytes ?? Math.min(512, options.maxIoBytes ?? 512),
    maxIoBytes:
      options.maxIoBytes ?? Math.max(Math.min(32 * kib, options.deviceBytes ?? 32 * kib), options.minIoBytes ?? 0),
    minDiscardBytes: options.minDiscardBytes ?? Math.min(512, options.maxDiscardBytes ?? 512),
    maxDiscardBytes: options.maxDiscardBytes ?? Math.max(64 * mib, options.minDiscardBytes ?? 0),
    maxPackBytes: options.maxPackBytes ?? 16 * mib,
    logBytes: options.logBytes ?? mib,
    beginLsid: options.beginLsid ?? 0,
    lsidBase: options.lsidBase ?? 0n,
    padding: options.padding ?? true,
    discard: options.discard ?? true,
    allZero: options.allZero ?? true,
    content: options.content ?? "sparse",
    order: options.order ?? "random",
  } as const;
  if (!isUsablePbs(full.pbsBytes)) {
    throw new WalbError("bad-parameter", {
      what: `a physical block size of ${full.pbsBytes} bytes is not supported`,
      where: { field: "pbsBytes" },
      hint: "use 512 or 4096",
    });
  }
  checkRange(full.deviceBytes, lbBytes, Number.MAX_SAFE_INTEGER, "deviceBytes");
  checkRange(full.logBytes, 0, Number.MAX_SAFE_INTEGER, "logBytes");
  checkRange(full.maxPackBytes, full.pbsBytes, packBytesMaxLimit, "maxPackBytes");
  // lsids must stay exact up to the end of the log.
  checkRange(full.beginLsid, 0, Number.MAX_SAFE_INTEGER - Math.ceil(full.logBytes / 512) - 2 ** 20, "beginLsid");
  if (!isLsid(wholeLsid(full.beginLsid + Math.ceil(full.logBytes / 512) + 2 ** 20, full.lsidBase))) {
    const what = `a log of ${full.logBytes} bytes from lsid ${wholeLsid(full.beginLsid, full.lsidBase)} on ends beyond all lsids`;
    throw new WalbError("out-of-range", { what, where: { field: "beginLsid" } });
  }
  const ioMax = Math.min(maxRecordLb * lbBytes, full.deviceBytes);
  checkSizes(full.minIoBytes, full.maxIoBytes, ioMax, "IoBytes");
  checkSizes(full.minDiscardBytes, full.maxDiscardBytes, maxDiscardLb * lbBytes, "DiscardBytes");
  if (options.salt !== undefined) checkRange(options.salt, 0, 0xffff_ffff, "salt");
  return full;
}

function checkSizes(min: number, max: number, limit: number, name: string): void {
  checkRange(max, lbBytes, limit, `max${name}`);
  checkRange(min, lbBytes, max, `min${name}`);
  for (const [value, field] of [
    [min, `min${name}`],
    [max, `max${name}`],
  ] as const) {
    if (value % lbBytes !== 0) {
      throw new WalbError("bad-parameter", {
        what: `${field} is ${value}, which is no multiple of ${lbBytes}`,
        where: { field },
      });
    }
  }
}
