/** @module {@link Disk.recode} as a job of the pool. */
import { WalbError } from "../../errors.ts";
import type { Codec } from "../../native/codec.ts";
import { checkCompressOption } from "../../native/compute.ts";
import { ItemF64, ItemU32, itemF64, itemU32, JobFlag, Op, Recode } from "../../native/layout.ts";
import type { Memory } from "../../native/memory.ts";
import type { JobRunner } from "../../native/pool.ts";
import { withItems } from "../../native/tables.ts";
import type { BadTransfer, DiskFile, RecodeOptions, RecodeRows, TakeRecoded } from "../disk.ts";
import { descriptorOf } from "./file.ts";
import { ItemRows, readFailure } from "./transfer-rows.ts";

/** As {@link Disk.recode}. The caller keeps the sources open. */
export async function recodeImages(
  runner: JobRunner,
  sources: readonly DiskFile[],
  count: number,
  fill: (rows: RecodeRows) => void,
  target: Memory,
  options: RecodeOptions,
  take: TakeRecoded,
): Promise<BadTransfer | undefined> {
  const { compress, packRecords, isVerified } = options;
  checkCompressOption(compress);
  return await withItems(count, async (table) => {
    const rows = new ItemRows(table, sources.map(descriptorOf), count);
    fill(rows);
    rows.checkFull();
    const { result, result2 } = await runner.run({
      op: Op.recode,
      count,
      flags: isVerified ? JobFlag.verified : 0,
      table: table.address,
      address: target.address,
      size: target.sizeBytes,
      offset: compress.codec + 256 * compress.level,
      extra: packRecords,
    });
    if (result < 0) {
      const file = result2 > 0 ? sources[rows.sourceOf(result2 - 1)] : undefined;
      if (file === undefined) throw new WalbError("internal", { what: `recoding failed with ${result}` });
      throw readFailure(file.path, rows, result2 - 1, result);
    }
    const bad = rows.firstBad();
    if (bad !== undefined) return bad;
    const { f64, u32 } = table;
    for (let row = 0; row < count; row++) {
      const at = row * itemF64;
      const codec = f64[at + ItemF64.sliceSize]! as Codec;
      const isZero = f64[at + ItemF64.fileOffset] === Recode.zero;
      take(row, f64[at + ItemF64.sliceOffset]!, codec, u32[row * itemU32 + ItemU32.word]!, isZero);
    }
    return undefined;
  });
}
