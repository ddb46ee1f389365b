/** @module Random data written to devices for tests of backups, told as a recipe. */
import { WalbError } from "../../errors.ts";
import { SeededRandom } from "../../log/generate-random.ts";
import type { Memory } from "../../native/memory.ts";
import type { DiskFile } from "../../platform/disk.ts";
import { checkRange, lbBytes } from "../../units.ts";
import type { Tool } from "../files/lib/tool.ts";
import type { RecipeIo } from "./recipe.ts";

/** What to write: a range, in writes of random sizes that do not overlap. Everything in bytes, multiples of a block. */
export interface RandomWriteOptions {
  readonly blockBytes: number;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly ioMinBytes: number;
  readonly ioMaxBytes: number;
  /** Write this byte instead of random ones. */
  readonly fillByte?: number;
}

/** The range of a device: what is not given goes to its end. @throws WalbError `out-of-range`. */
export async function deviceRange(
  file: DiskFile,
  blockBytes: number,
  offsetBytes: number,
  sizeBytes: number | undefined,
): Promise<{ offsetBytes: number; sizeBytes: number }> {
  const deviceBytes = await file.size();
  const size = sizeBytes ?? Math.max(0, deviceBytes - offsetBytes - ((deviceBytes - offsetBytes) % blockBytes));
  if (offsetBytes + size > deviceBytes) {
    throw new WalbError("out-of-range", {
      what: `the range ends at byte ${offsetBytes + size}, beyond the ${deviceBytes} that are there`,
      where: { file: file.path, field: "size" },
    });
  }
  return { offsetBytes, sizeBytes: size };
}

/** Writes and syncs. @param onWrite hears each write, in the order of the device. */
export async function writeRandom(
  tool: Tool,
  file: DiskFile,
  options: RandomWriteOptions,
  onWrite: (io: RecipeIo) => void,
): Promise<void> {
  const { memory, compute, random } = tool.platform;
  const { blockBytes, offsetBytes, ioMinBytes, ioMaxBytes, fillByte } = options;
  checkRange(blockBytes % lbBytes, 0, 0, "block size modulo 512");
  checkRange(ioMinBytes, blockBytes, ioMaxBytes, "smallest write");
  const endBytes = offsetBytes + options.sizeBytes;
  const dice = new SeededRandom(random.u32());
  const lease = await memory.lease(ioMaxBytes);
  try {
    for (let at = offsetBytes; at < endBytes; ) {
      if (tool.signal.aborted) throw new WalbError("cancelled", { what: "writing was cancelled" });
      const blocks = dice.between(ioMinBytes / blockBytes, ioMaxBytes / blockBytes);
      const data = lease.slice(0, Math.min(blocks * blockBytes, endBytes - at));
      fill(data, dice, fillByte);
      await file.write(at, data);
      const checksum = compute.checksumNow(data.bytes, 0);
      onWrite({ offsetLb: at / lbBytes, sizeLb: data.sizeBytes / lbBytes, checksum });
      at += data.sizeBytes;
      tool.progress(at - offsetBytes, options.sizeBytes);
    }
    await file.sync();
  } finally {
    lease.release();
  }
}

/** Fills memory with random words, or with one byte. */
export function fill(data: Memory, dice: SeededRandom, byte?: number): void {
  if (byte !== undefined) data.bytes.fill(byte);
  else dice.fill(new Uint32Array(data.bytes.buffer, data.bytes.byteOffset, data.sizeBytes / 4));
}
