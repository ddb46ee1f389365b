/**
 * @module Checks the stored data that a merge uses: file by file and in the order of the records, so that each file is read
 * from its beginning to its end. What is compressed is expanded, too: the checksum is of the compressed bytes, and says
 * nothing of what a failing memory made of them before.
 */
import { Codec, type DecodeItem, type VerifyItem } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import type { PlacedRead } from "../platform/disk.ts";
import { alignUp, lbBytes, mib } from "../units.ts";
import { batchBytesMax, sameImage } from "./images.ts";
import { damagedImage, leaseBatch } from "./load.ts";
import type { MergePlan } from "./merge.ts";
import type { RecordIndex } from "./record-index.ts";
import type { DiffSet } from "./set.ts";
import { imageBytesMax } from "./transfer.ts";
import { checkAborted, DiffFileKind, type DiffIo, type DiffProgress, RecordKind } from "./types.ts";
import { inOrder } from "./window.ts";

/** Records of one job. */
const rowsMax = 4096;
/** Stored bytes of one job: few enough that the threads end together. */
const jobBytesMax = 8 * mib;
const inFlightMax = 4;
const placeAlignment = 64;

/** How to check. */
export interface CheckOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DiffProgress) => void;
}

/** Reads all stored data that a plan uses and checks it. @throws WalbError `damaged` naming file, offset and record. */
export async function checkPlan(io: DiffIo, set: DiffSet, plan: MergePlan, options: CheckOptions = {}): Promise<void> {
  const { records, totalLb } = plan;
  const usedLb = plan.isWhole ? records.blocksLb : usedOf(plan);
  let next = 0;
  const start = (): Promise<number> | undefined => {
    checkAborted(options.signal, "checking diffs");
    const rows: number[] = [];
    const images = new SharedImages(set);
    let bytes = 0;
    let partLb = 0;
    for (; next < records.count; next++) {
      const blocksLb = usedLb[next]!;
      if (blocksLb === 0) continue;
      if (records.kind[next] === RecordKind.normal) {
        const isOther = rows.length > 0 && records.source[next] !== records.source[rows[0]!];
        if (isOther || rows.length >= rowsMax) break;
        if (images.isNew(next)) {
          const storedBytes = records.storedBytes[next]!;
          if (rows.length > 0 && bytes + storedBytes > jobBytesMax) break;
          rows.push(next);
          images.add(next);
          bytes += storedBytes;
        }
      }
      partLb += blocksLb;
    }
    return partLb > 0 ? checkRows(io, set, rows).then(() => partLb) : undefined;
  };
  let doneLb = 0;
  for await (const partLb of inOrder(start, inFlightMax, () => undefined)) {
    doneLb += partLb;
    options.onProgress?.({ doneLb, totalLb });
  }
}

/** How many blocks of each record the pieces use. */
function usedOf({ records, pieces }: MergePlan): Uint32Array {
  const usedLb = new Uint32Array(records.count);
  for (let i = 0; i < pieces.count; i++) usedLb[pieces.record[i]!]! += pieces.blocksLb[i]!;
  return usedLb;
}

/** Images of one job. Only records of an indexed diff have one image together: what is left of an IO around later ones. */
class SharedImages {
  readonly #set: DiffSet;
  readonly #recordByOffset = new Map<number, number>();

  constructor(set: DiffSet) {
    this.#set = set;
  }

  isNew(record: number): boolean {
    const { records } = this.#set;
    const known = this.#recordByOffset.get(records.dataOffset[record]!);
    return known === undefined || !sameImage(records, known, record);
  }

  add(record: number): void {
    const { records, sources } = this.#set;
    if (sources[records.source[record]!]?.kind !== DiffFileKind.indexed) return;
    this.#recordByOffset.set(records.dataOffset[record]!, record);
  }
}

/** Checks the images of some records of one file. */
async function checkRows(io: DiffIo, set: DiffSet, rows: readonly number[]): Promise<void> {
  if (rows.length === 0) return;
  const { records } = set;
  // A large image takes memory that is accounted for.
  const isLarge = rows.some(
    (record) => records.storedBytes[record]! > imageBytesMax || expandedBytes(records, record) > imageBytesMax,
  );
  const answer = isLarge ? undefined : await set.checkStored(rows);
  if (answer === undefined) {
    await checkInMemory(io, set, rows);
  } else if (answer.bad !== undefined) {
    throw damagedImage(set, rows[answer.bad.row]!, answer.bad.code);
  }
}

/** What a record's image becomes in memory; 0 when it is stored as it is. */
function expandedBytes(records: RecordIndex, record: number): number {
  return records.codec[record] === Codec.none ? 0 : records.imageLb[record]! * lbBytes;
}

/** The same with memory of the pool, a part of the records at a time. */
async function checkInMemory(io: DiffIo, set: DiffSet, rows: readonly number[]): Promise<void> {
  const { records } = set;
  const bytesMax = Math.min(batchBytesMax, Math.floor(io.memory.budgetBytes / 8));
  for (let from = 0, to = 0; from < rows.length; from = to) {
    let bytes = 0;
    for (; to < rows.length; to++) {
      const record = rows[to]!;
      const storedEnd = alignUp(bytes, placeAlignment) + records.storedBytes[record]!;
      const withNext = alignUp(storedEnd, placeAlignment) + expandedBytes(records, record);
      if (withNext > bytesMax && to > from) break;
      bytes = withNext;
    }
    await checkPart(io, set, records, rows.slice(from, to), bytes);
  }
}

async function checkPart(
  io: DiffIo,
  set: DiffSet,
  records: RecordIndex,
  rows: readonly number[],
  bytes: number,
): Promise<void> {
  const lease = await leaseBatch(io, bytes);
  try {
    let at = 0;
    const place = (sizeBytes: number): Memory => {
      const memory = lease.slice(alignUp(at, placeAlignment), sizeBytes);
      at = alignUp(at, placeAlignment) + sizeBytes;
      return memory;
    };
    const reads: PlacedRead[] = [];
    const [raw, packed]: [VerifyItem[], DecodeItem[]] = [[], []];
    const [rawRows, packedRows]: [number[], number[]] = [[], []];
    for (const record of rows) {
      const source = place(records.storedBytes[record]!);
      reads.push({ offsetBytes: records.dataOffset[record]!, target: source });
      const checksum = records.checksum[record]!;
      const sizeBytes = expandedBytes(records, record);
      if (sizeBytes === 0) {
        raw.push({ source, salt: 0, checksum });
        rawRows.push(record);
      } else {
        packed.push({ source, codec: records.codec[record]! as Codec, checksum, target: place(sizeBytes) });
        packedRows.push(record);
      }
    }
    await set.readMany(records.source[rows[0]!]!, reads);
    if (raw.length > 0) {
      const results = await io.compute.verify(raw);
      for (const [i, record] of rawRows.entries()) if (results[i] !== 1) throw damagedImage(set, record, 1);
    }
    if (packed.length > 0) {
      const results = await io.compute.decode(packed);
      for (const [i, record] of packedRows.entries()) {
        if (results[i] !== 0) throw damagedImage(set, record, results[i]!);
      }
    }
  } finally {
    lease.release();
  }
}
