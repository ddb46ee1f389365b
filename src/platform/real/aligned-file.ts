/** @module An open file whose reads and writes must lie at certain offsets and memory: direct ones, those of block devices. */
import { WalbError } from "../../errors.ts";
import type { Memory } from "../../native/memory.ts";
import type { JobRunner } from "../../native/pool.ts";
import { checkRange } from "../../units.ts";
import { OpenFile } from "./open-file.ts";

/** An open file that knows its alignment. */
export class AlignedFile extends OpenFile {
  /** Of offsets, sizes and memory; 1 is none. */
  readonly alignmentBytes: number;

  constructor(
    runner: JobRunner,
    opened: {
      readonly fd: number;
      readonly path: string;
      readonly closesAtOnce: boolean;
      readonly alignmentBytes: number;
    },
  ) {
    super(runner, opened);
    this.alignmentBytes = opened.alignmentBytes;
  }

  /** @returns the bytes of all pieces, which follow each other in the file. @throws WalbError as {@link check}. */
  protected checkPieces(what: string, offsetBytes: number, pieces: readonly Memory[]): number {
    let size = 0;
    for (const piece of pieces) {
      this.check(what, offsetBytes + size, piece.sizeBytes, piece.address);
      size += piece.sizeBytes;
    }
    return size;
  }

  /** @throws WalbError `internal` when a range cannot be, or is not aligned. */
  protected check(what: string, offsetBytes: number, sizeBytes: number, address: number): void {
    checkRange(offsetBytes, 0, Number.MAX_SAFE_INTEGER, "offset");
    checkRange(offsetBytes + sizeBytes, 0, Number.MAX_SAFE_INTEGER, "end of the range");
    const unit = this.alignmentBytes;
    if (unit === 1 || (offsetBytes % unit === 0 && sizeBytes % unit === 0 && address % unit === 0)) return;
    throw new WalbError("internal", {
      what: `direct ${what} of ${sizeBytes} bytes at memory 0x${address.toString(16)} is not aligned to ${unit}`,
      where: this.place(offsetBytes),
    });
  }
}
