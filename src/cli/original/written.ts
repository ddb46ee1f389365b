/** @module What a recipe wrote, looked up on the device it was written to. */
import type { DiskFile } from "../../platform/disk.ts";
import { lbBytes, mib } from "../../units.ts";
import type { Tool } from "../files/lib/tool.ts";
import type { RecipeIo } from "./recipe.ts";

/** Prints an `OK` or `NG` line for each IO, with the checksum of what is there. @returns how many are not good. */
export async function checkWritten(
  tool: Tool,
  file: DiskFile,
  recipe: readonly RecipeIo[],
  print: (line: string) => void,
): Promise<number> {
  const { memory, compute } = tool.platform;
  let bad = 0;
  const lease = await memory.lease(mib);
  try {
    for (const { offsetLb, sizeLb, checksum } of recipe) {
      let running = 0;
      let found = 0;
      for (let done = 0; done < sizeLb * lbBytes; done += mib) {
        const data = lease.slice(0, Math.min(mib, sizeLb * lbBytes - done));
        await file.read(offsetLb * lbBytes + done, data);
        found = compute.checksumNow(data.bytes, running);
        // The checksum is the negated sum, so that the next part goes on from there.
        running = -found >>> 0;
      }
      if (found !== checksum) bad += 1;
      const hex = (sum: number): string => sum.toString(16).padStart(8, "0");
      print(`${found === checksum ? "OK" : "NG"} ${offsetLb} ${sizeLb} ${hex(checksum)} ${hex(found)}`);
    }
  } finally {
    lease.release();
  }
  return bad;
}
