/** @module The rows of a transfer or recoding as items of a batch table: written straight into it, since there are very many. */
import { type ErrorPlace, WalbError } from "../../errors.ts";
import { allRows, chooseRows, type RecordColumns } from "../../native/columns.ts";
import { errnoError } from "../../native/errno.ts";
import { endOfFile, ItemF64, ItemU32, itemBytes, itemF64, itemU32 } from "../../native/layout.ts";
import type { JobResult } from "../../native/pool.ts";
import type { Table } from "../../native/tables.ts";
import type { BadTransfer, RecodeRows, TransferRows } from "../disk.ts";

/** Largest stored or expanded image. */
const imageBytesMax = 64 * 1024 * 1024;

/** Puts rows one behind the other. @throws WalbError `internal` for numbers that no file has, or too many rows. */
export class ItemRows implements TransferRows, RecodeRows {
  readonly #table: Table;
  readonly #descriptors: readonly number[];
  readonly #count: number;
  #row = 0;

  /** @param descriptors of the sources; they stay open until the job is done. */
  constructor(table: Table, descriptors: readonly number[], count: number) {
    this.#table = table;
    this.#descriptors = descriptors;
    this.#count = count;
  }

  /** @param last the place in the file; what to do with it, when it is recoded. */
  put(
    source: number,
    storedOffset: number,
    storedBytes: number,
    codec: number,
    checksum: number,
    decodedBytes: number,
    sliceOffset: number,
    sliceBytes: number,
    last: number,
  ): void {
    const descriptor = this.#descriptors[source];
    const isInside =
      storedOffset >= 0 &&
      last >= 0 &&
      sliceOffset >= 0 &&
      sliceBytes >= 0 &&
      sliceOffset + sliceBytes <= decodedBytes &&
      storedBytes >= 0 &&
      storedBytes <= imageBytesMax &&
      decodedBytes <= imageBytesMax &&
      Number.isSafeInteger(storedOffset + storedBytes) &&
      Number.isSafeInteger(last + sliceBytes);
    if (!isInside || descriptor === undefined || this.#row >= this.#count) {
      throw new WalbError("internal", { what: `row ${this.#row} of a transfer lies in no file` });
    }
    const { f64, u32 } = this.#table;
    const at = this.#row * itemF64;
    f64[at + ItemF64.source] = storedOffset;
    f64[at + ItemF64.sourceSize] = storedBytes;
    f64[at + ItemF64.target] = descriptor;
    f64[at + ItemF64.targetSize] = decodedBytes;
    f64[at + ItemF64.sliceOffset] = sliceOffset;
    f64[at + ItemF64.sliceSize] = sliceBytes;
    f64[at + ItemF64.fileOffset] = last;
    u32[this.#row * itemU32 + ItemU32.code] = codec;
    u32[this.#row * itemU32 + ItemU32.word] = checksum;
    this.#row++;
  }

  putRecords(columns: RecordColumns, from: number, end: number): void {
    const limits = { ...allRows, imageBytesMax };
    const files = Int32Array.from(this.#descriptors);
    const { rows, to } = chooseRows(columns, from, end, limits, files);
    if (to !== end || rows > this.#count - this.#row) {
      throw new WalbError("internal", { what: `records ${from} to ${end} do not fit into a transfer` });
    }
    chooseRows(columns, from, end, limits, files, this.#table.address + this.#row * itemBytes);
    this.#row += rows;
  }

  /** Adds a row without file. */
  putEmpty(): void {
    if (this.#row >= this.#count) throw new WalbError("internal", { what: "too many rows of a transfer" });
    this.#table.f64.fill(0, this.#row * itemF64, (this.#row + 1) * itemF64);
    this.#table.f64[this.#row * itemF64 + ItemF64.target] = -1;
    this.#row++;
  }

  /** @throws WalbError `internal` when rows are missing: what is there instead is of another job. */
  checkFull(): void {
    if (this.#row === this.#count) return;
    throw new WalbError("internal", { what: `a transfer got ${this.#row} of its ${this.#count} rows` });
  }

  /** The first row whose image was not good, after the job. */
  firstBad(): BadTransfer | undefined {
    const { u32 } = this.#table;
    for (let row = 0; row < this.#count; row++) {
      const code = u32[row * itemU32 + ItemU32.code]!;
      if (code !== 0) return { row, code };
    }
    return undefined;
  }

  /** Which source a row has. */
  sourceOf(row: number): number {
    return this.#descriptors.indexOf(this.#table.f64[row * itemF64 + ItemF64.target] ?? -1);
  }

  /** What a job that failed could not read: the stored bytes of a row. */
  storedAt(row: number): { readonly offsetBytes: number; readonly sizeBytes: number } {
    const at = row * itemF64;
    const [offsetBytes = 0, sizeBytes = 0] = [
      this.#table.f64[at + ItemF64.source],
      this.#table.f64[at + ItemF64.sourceSize],
    ];
    return { offsetBytes, sizeBytes };
  }
}

/** The error for a job that could not read the stored bytes of a row. */
export function readFailure(file: string, rows: ItemRows, row: number, result: number): WalbError {
  const { offsetBytes, sizeBytes } = rows.storedAt(row);
  return failure(`read of ${sizeBytes} stored bytes`, { file, offsetBytes }, result);
}

/** The error for a job whose write failed, which left where that was in its table. */
export function writeFailure(file: string, { f64 }: Table, { result, result2 }: JobResult): WalbError {
  if (result2 !== -1) return failure("write", { file }, result);
  const place = { file, offsetBytes: f64[ItemF64.fileOffset]! };
  return failure(`write of ${f64[ItemF64.sliceSize]!} bytes`, place, result);
}

/** The error for a job of many pieces, which it did one after the other. */
export function manyFailure(
  what: "read" | "write",
  file: string,
  pieces: readonly { readonly offsetBytes: number; readonly sizeBytes: number }[],
  { result, result2: doneBytes }: JobResult,
): WalbError {
  let endBytes = 0;
  for (const { offsetBytes, sizeBytes } of pieces) {
    endBytes += sizeBytes;
    if (endBytes > doneBytes) return failure(`${what} of ${sizeBytes} bytes`, { file, offsetBytes }, result);
  }
  return failure(`${pieces.length} ${what}s`, { file }, result);
}

function failure(what: string, where: ErrorPlace, result: number): WalbError {
  if (result !== endOfFile) return errnoError(what, -result, where);
  return new WalbError("io", {
    what: `${what} ended early: the file or device ends there`,
    where,
    hint: "check that it was not truncated or detached",
  });
}
