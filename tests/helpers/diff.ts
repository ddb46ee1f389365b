/** @module Helpers of the diff tests: a byte model, naive overlays straight from the definition, small diff files. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { IndexedDiffWriter, SortedDiffConverter } from "../../src/diff/convert.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { mergedPacks } from "../../src/diff/output.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { type DiffIo, type DiffStats, type LogIo, RecordKind } from "../../src/diff/types.ts";
import type { CompressOption } from "../../src/native/codec.ts";
import { createPlatform } from "../../src/platform/real/index.ts";

/** One real platform for all diff tests of a process. */
export const platform = createPlatform({ memoryBudgetBytes: 256 * 1024 * 1024, threads: 2 });
export const io: DiffIo = platform;

/** Directory of golden files, or undefined with a reason printed. */
export function vectorsDirectory(): string | undefined {
  const path = process.env.WALB_VECTORS;
  if (path !== undefined && existsSync(join(path, "MANIFEST.md"))) return path;
  console.log("golden files are skipped: WALB_VECTORS does not name a directory with them");
  return undefined;
}

/** An IO of a model: `id` decides the content of normal data. */
export interface ModelIo {
  readonly addressLb: number;
  readonly blocksLb: number;
  readonly kind: RecordKind;
  readonly id: number;
}

/** Content of block `index` of the IO `id`; even ids compress well, odd ones do not. Never all zero. */
export function fillBlock(target: Uint8Array, id: number, index: number): void {
  if (id % 2 === 0) {
    target.fill(1 + (id % 255));
    target[0] = index & 0xff;
    target[1] = (index >> 8) & 0xff;
    target[2] = id & 0xff;
    target[3] = (id >> 8) & 0xff;
    return;
  }
  let state = (id * 2654435761 + index * 40503 + 1) >>> 0;
  for (let i = 0; i < target.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    target[i] = state >>> 24;
  }
}

/** All data of an IO. */
export function dataOf({ blocksLb, kind, id }: ModelIo): Uint8Array {
  const data = new Uint8Array(blocksLb * 512);
  if (kind === RecordKind.normal) {
    for (let i = 0; i < blocksLb; i++) fillBlock(data.subarray(i * 512, i * 512 + 512), id, i);
  }
  return data;
}

/** Applies IOs to a byte image, one after the other. */
export function applyToBytes(image: Uint8Array, ios: readonly ModelIo[], ignoreDiscards = false): void {
  for (const one of ios) {
    if (one.kind === RecordKind.discard && ignoreDiscards) continue;
    image.set(dataOf(one), one.addressLb * 512);
  }
}

/** A piece of an IO as the definitions speak of it. */
export interface ModelPiece {
  readonly addressLb: number;
  readonly blocksLb: number;
  readonly id: number;
  readonly offsetLb: number;
}

/** The overlay of the sorted kind, literally: cut away what overlaps, insert, cut to the maximal size. */
export function naiveOverlay(ios: readonly ModelIo[], maxIoLb: number): ModelPiece[] {
  let pieces: ModelPiece[] = [];
  for (const { addressLb, blocksLb, id } of ios) {
    pieces = pieces.flatMap((piece) => remainders(piece, addressLb, addressLb + blocksLb));
    const max = maxIoLb === 0 ? blocksLb : maxIoLb;
    for (let done = 0; done < blocksLb; done += max) {
      pieces.push({ addressLb: addressLb + done, blocksLb: Math.min(max, blocksLb - done), id, offsetLb: done });
    }
  }
  return pieces.sort((a, b) => a.addressLb - b.addressLb);
}

/** The overlay of the indexed kind, literally. */
export function naiveIndexOverlay(ios: readonly ModelIo[], maxIoLb: number): ModelPiece[] {
  let pieces: ModelPiece[] = [];
  for (const { addressLb, blocksLb, id } of ios) {
    for (const part of naiveSplit({ addressLb, blocksLb, id, offsetLb: 0 }, maxIoLb)) {
      const end = part.addressLb + part.blocksLb;
      pieces = pieces.flatMap((piece) => {
        const left = remainders(piece, part.addressLb, end);
        return left.length === 1 && left[0] === piece ? [piece] : left.flatMap((rest) => naiveSplit(rest, maxIoLb));
      });
      pieces.push(part);
    }
  }
  return pieces.sort((a, b) => a.addressLb - b.addressLb);
}

function remainders(piece: ModelPiece, start: number, end: number): ModelPiece[] {
  const pieceEnd = piece.addressLb + piece.blocksLb;
  if (pieceEnd <= start || piece.addressLb >= end) return [piece];
  const left: ModelPiece[] = [];
  if (piece.addressLb < start) left.push({ ...piece, blocksLb: start - piece.addressLb });
  if (pieceEnd > end) {
    left.push({
      ...piece,
      addressLb: end,
      blocksLb: pieceEnd - end,
      offsetLb: piece.offsetLb + (end - piece.addressLb),
    });
  }
  return left;
}

function naiveSplit(piece: ModelPiece, maxIoLb: number): ModelPiece[] {
  const parts: ModelPiece[] = [];
  let { addressLb, blocksLb: left, offsetLb } = piece;
  let max = 1;
  while (max * 2 <= maxIoLb) max *= 2;
  while (left > 0) {
    let size = 2 ** 31;
    while (addressLb % size !== 0) size /= 2;
    while (size > left) size /= 2;
    if (maxIoLb > 0) size = Math.min(size, max);
    parts.push({ ...piece, addressLb, blocksLb: size, offsetLb });
    addressLb += size;
    offsetLb += size;
    left -= size;
  }
  return parts;
}

export interface DiffFileOptions {
  readonly kind: "sorted" | "indexed";
  readonly maxIoLb?: number;
  readonly compress?: CompressOption;
  /** IOs given in one call. */
  readonly chunk?: number;
}

export const testUuid = Uint8Array.from({ length: 16 }, (_, i) => i);

/** Writes a diff from IOs through the converters; overlapping calls of `add` included. */
export async function writeDiff(path: string, ios: readonly ModelIo[], options: DiffFileOptions): Promise<DiffStats> {
  const { maxIoLb, compress } = options;
  const convert = {
    uuid: testUuid,
    ...(maxIoLb === undefined ? {} : { maxIoLb }),
    ...(compress === undefined ? {} : { compress }),
  };
  const file = await io.disk.open(path, { mode: "create" });
  const spool = options.kind === "sorted" ? await io.disk.open(`${path}.spool`, { mode: "create" }) : undefined;
  try {
    const writer =
      spool === undefined
        ? await IndexedDiffWriter.create(io, file, convert)
        : new SortedDiffConverter(io, spool, convert);
    const chunk = options.chunk ?? 7;
    const jobs: Promise<void>[] = [];
    for (let i = 0; i < ios.length; i += chunk) jobs.push(addIos(writer, ios.slice(i, i + chunk)));
    await Promise.all(jobs);
    return await (writer instanceof IndexedDiffWriter ? writer.finish() : writer.finish(file));
  } finally {
    await file.close();
    await spool?.close();
    await io.disk.remove(`${path}.spool`);
  }
}

async function addIos(writer: IndexedDiffWriter | SortedDiffConverter, ios: readonly ModelIo[]): Promise<void> {
  const total = ios.reduce((sum, one) => sum + (one.kind === RecordKind.discard ? 0 : one.blocksLb * 512), 0);
  const lease = io.memory.tryLease(Math.max(1, total));
  if (lease === undefined) throw new Error("the test's memory is too small");
  let at = 0;
  const logIos: LogIo[] = ios.map((one) => {
    const { addressLb: offsetLb, blocksLb: sizeLb } = one;
    if (one.kind === RecordKind.discard) return { offsetLb, sizeLb, kind: "discard" };
    const data = lease.slice(at, sizeLb * 512);
    at += sizeLb * 512;
    data.bytes.set(dataOf(one));
    return { offsetLb, sizeLb, kind: "data", data };
  });
  try {
    await writer.add(logIos);
  } finally {
    lease.bytes.fill(0xee);
    lease.release();
  }
}

/** A record of a file as listings show it. */
export interface Listed {
  readonly addressLb: number;
  readonly blocksLb: number;
  readonly kind: number;
}

/** Records of diff files, in index order. */
export async function listRecords(path: string): Promise<Listed[]> {
  const set = await openDiffSet(io, [path]);
  try {
    const { records } = set;
    return Array.from({ length: records.count }, (_, i) => ({
      addressLb: records.addressLb[i]!,
      blocksLb: records.blocksLb[i]!,
      kind: records.kind[i]!,
    }));
  } finally {
    await set.close();
  }
}

/** Writes the packs of a merge one behind the other, as they come over the wire. */
export async function packsOf(paths: readonly string[], recompress?: CompressOption): Promise<Uint8Array[]> {
  const set = await openDiffSet(io, paths);
  const packs: Uint8Array[] = [];
  try {
    const options = recompress === undefined ? {} : { compress: recompress, recompressAll: true };
    for await (const pack of mergedPacks(io, set, planMerge(set.records), options)) {
      packs.push(pack.memory.bytes.slice());
      pack.release();
    }
  } finally {
    await set.close();
  }
  return packs;
}
