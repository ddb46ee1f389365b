/** @module Compute over the shim: batches in the job pool, or the same C functions at once on the calling thread. */
import { WalbError } from "../errors.ts";
import { checkRange } from "../units.ts";
import {
  Codec,
  type CodecItem,
  type CompressOption,
  type Compute,
  codecNames,
  type DecodeItem,
  type Encoded,
  type Expanded,
  type ExpandItem,
  type FrameItem,
  maxEncodedBytes,
  type VerifyItem,
} from "./codec.ts";
import {
  type ChosenRows,
  chooseRows,
  type PackPlace,
  type ParsedPacks,
  parsePacks,
  type RecordColumns,
  type RowLimits,
} from "./columns.ts";
import { EncodedF64, ExpandedF64, ItemF64, ItemU32, itemBytes, itemF64, itemU32, JobFlag, Op } from "./layout.ts";
import type { Memory } from "./memory.ts";
import { createInlineRunner, type JobPool, type JobRunner } from "./pool.ts";
import { shim } from "./shim.ts";
import { putSource, putTarget, type Table, withItems, withTable } from "./tables.ts";

/** Checks codec and level. @throws WalbError `bad-parameter`: levels are 0..9, zstd takes up to 19. */
export function checkCompressOption(option: CompressOption): void {
  const name = codecNames[option.codec];
  const levelMax = option.codec === Codec.zstd ? 19 : 9;
  if (name === undefined || !Number.isInteger(option.level) || option.level < 0 || option.level > levelMax) {
    throw new WalbError("bad-parameter", {
      what: `compression ${name ?? option.codec} level ${option.level} does not exist`,
      hint: "levels are 0 (default) to 9, for zstd to 19; for example zstd:3",
    });
  }
}

/** Writes item `index` of an encode batch; `isAlways` also asks for room for every codec's output. */
export function putEncode(
  table: Table,
  index: number,
  source: Memory,
  target: Memory | undefined,
  option: CompressOption,
  isAlways: boolean,
): void {
  const needed = isAlways && option.codec !== Codec.none ? maxEncodedBytes(source.sizeBytes) : source.sizeBytes;
  const room = target?.sizeBytes ?? 0;
  if (room < needed && option.codec !== Codec.none) {
    throw new WalbError("internal", { what: `an encode target has ${room} bytes, but needs ${needed}` });
  }
  putSource(table, index, source);
  putTarget(table, index, target?.address ?? 0, room);
  table.u32[index * itemU32 + ItemU32.code] = option.codec;
  table.u32[index * itemU32 + ItemU32.word] = option.level;
}

/** Reads the results of an encode batch. */
export function takeEncoded(table: Table, count: number): Encoded[] {
  const all: Encoded[] = [];
  for (let i = 0; i < count; i++) {
    const storedBytes = table.f64[i * itemF64 + EncodedF64.storedBytes] ?? 0;
    const codec = toCodec(table.f64[i * itemF64 + EncodedF64.codec] ?? 0);
    const isZero = table.u32[i * itemU32 + ItemU32.code] === 1;
    if (storedBytes < 0) throw new WalbError("internal", { what: "a codec has no memory to compress with" });
    all.push({ isZero, codec, storedBytes, checksum: table.u32[i * itemU32 + ItemU32.word] ?? 0 });
  }
  return all;
}

/** One result byte an item. */
export function takeCodes(table: Table, count: number): Uint8Array {
  const codes = new Uint8Array(count);
  for (let i = 0; i < count; i++) codes[i] = table.u32[i * itemU32 + ItemU32.code] ?? 0;
  return codes;
}

function toCodec(value: number): Codec {
  for (const codec of Object.values(Codec)) if (codec === value) return codec;
  throw new WalbError("internal", { what: `the shim answered codec ${value}` });
}

class ShimCompute implements Compute {
  readonly #runner: JobRunner;

  constructor(runner: JobRunner) {
    this.#runner = runner;
  }

  encode(items: readonly CodecItem[], option: CompressOption): Promise<Encoded[]> {
    return this.#encode(items, option, false);
  }

  encodeAlways(items: readonly CodecItem[], option: CompressOption): Promise<Encoded[]> {
    return this.#encode(items, option, true);
  }

  async #encode(items: readonly CodecItem[], option: CompressOption, isAlways: boolean): Promise<Encoded[]> {
    checkCompressOption(option);
    const flags = isAlways ? JobFlag.always : 0;
    return await withItems(items.length, async (table) => {
      items.forEach((item, i) => {
        putEncode(table, i, item.source, item.target, option, isAlways);
      });
      await this.#runner.run({ op: Op.encode, count: items.length, table: table.address, flags });
      return takeEncoded(table, items.length);
    });
  }

  async decode(items: readonly DecodeItem[]): Promise<Uint8Array> {
    return await withItems(items.length, async (table) => {
      items.forEach((item, i) => {
        putSource(table, i, item.source);
        putTarget(table, i, item.target.address, item.target.sizeBytes);
        table.u32[i * itemU32 + ItemU32.code] = item.codec;
        table.u32[i * itemU32 + ItemU32.word] = item.checksum;
      });
      await this.#runner.run({ op: Op.decode, count: items.length, table: table.address });
      return takeCodes(table, items.length);
    });
  }

  async expand(items: readonly ExpandItem[]): Promise<Expanded[]> {
    return await withItems(items.length, async (table) => {
      items.forEach((item, i) => {
        putSource(table, i, item.source);
        putTarget(table, i, item.target.address, item.target.sizeBytes);
        table.u32[i * itemU32 + ItemU32.code] = item.codec;
      });
      await this.#runner.run({ op: Op.expand, count: items.length, table: table.address });
      return items.map((_, i) => ({
        isGood: table.u32[i * itemU32 + ItemU32.code] === 0,
        isZero: table.f64[i * itemF64 + ExpandedF64.isZero] === 1,
        checksum: table.u32[i * itemU32 + ItemU32.word] ?? 0,
        storedChecksum: table.f64[i * itemF64 + ExpandedF64.storedChecksum] ?? 0,
      }));
    });
  }

  async frame(items: readonly FrameItem[], target: Memory): Promise<number> {
    return await withItems(items.length, async (table) => {
      items.forEach(({ memory, sizeBytes }, i) => {
        if (memory === undefined) {
          table.f64[i * itemF64 + ItemF64.source] = 0;
          table.f64[i * itemF64 + ItemF64.sourceSize] = sizeBytes;
        } else {
          putSource(table, i, memory);
        }
      });
      const { address, sizeBytes: size } = target;
      const job = { op: Op.frame, count: items.length, table: table.address, address, size };
      const { result } = await this.#runner.run(job);
      if (result < 0) throw new WalbError("internal", { what: `${items.length} units do not fit ${size} bytes` });
      return result;
    });
  }

  async verify(items: readonly VerifyItem[]): Promise<Uint8Array> {
    return await withItems(items.length, async (table) => {
      items.forEach((item, i) => {
        putSource(table, i, item.source);
        table.u32[i * itemU32 + ItemU32.code] = item.salt;
        table.u32[i * itemU32 + ItemU32.word] = item.checksum;
      });
      await this.#runner.run({ op: Op.verify, count: items.length, table: table.address });
      return takeCodes(table, items.length);
    });
  }

  async checksums(items: readonly Memory[], salt: number): Promise<Uint32Array> {
    checkRange(salt, 0, 0xffff_ffff, "salt");
    return await withItems(items.length, async (table) => {
      items.forEach((item, i) => {
        putSource(table, i, item);
      });
      await this.#runner.run({ op: Op.checksum, count: items.length, table: table.address, extra: salt });
      return Uint32Array.from(items, (_, i) => table.u32[i * itemU32 + ItemU32.word] ?? 0);
    });
  }

  async hashes(items: readonly Memory[], seed: number): Promise<Uint8Array> {
    checkRange(seed, 0, 0xffff_ffff, "seed");
    return await withItems(items.length, async (table) => {
      items.forEach((item, i) => {
        putSource(table, i, item);
      });
      await this.#runner.run({ op: Op.hash, count: items.length, table: table.address, extra: seed });
      const hashes = new Uint8Array(16 * items.length);
      for (let i = 0; i < items.length; i++) {
        hashes.set(table.bytes.subarray(i * itemBytes, i * itemBytes + 16), 16 * i);
      }
      return hashes;
    });
  }

  async hashZeroes(sizeBytes: number, firstSeed: number, count: number): Promise<Uint8Array> {
    checkRange(sizeBytes, 0, 2 ** 40, "sizeBytes");
    checkRange(firstSeed, 0, 0xffff_ffff, "seed");
    checkRange(count, 0, 0xffff_ffff, "count");
    return await withTable(16, async (table) => {
      const job = { op: Op.hashZeroes, count, size: sizeBytes, extra: firstSeed, table: table.address };
      await this.#runner.run(job);
      return table.bytes.slice(0, 16);
    });
  }

  checksumNow(memory: Uint8Array, salt: number): number {
    if (memory.byteLength === 0) return (2 ** 32 - (salt >>> 0)) >>> 0;
    return shim.checksum(memory, salt);
  }

  isZeroNow(memory: Uint8Array): boolean {
    return memory.byteLength > 0 && shim.isZero(memory);
  }

  parsePacksNow(headers: Uint8Array, packs: number, columns: RecordColumns, place: PackPlace): ParsedPacks {
    return parsePacks(headers, packs, columns, place);
  }

  chooseRowsNow(columns: RecordColumns, from: number, end: number, limits: RowLimits): ChosenRows {
    return chooseRows(columns, from, end, limits);
  }
}

/** Compute whose batches are jobs of a pool. */
export function createPoolCompute(pool: JobPool): Compute {
  return new ShimCompute(pool);
}

/** Compute without threads: every call is done when it returns its (resolved) promise. For the simulator and tests. */
export function createInlineCompute(): Compute {
  return new ShimCompute(createInlineRunner());
}
