/** @module Small text inputs of the original's tools: lists, recipes. */
import type { DiffInput } from "../../diff/stream.ts";
import { WalbError } from "../../errors.ts";
import type { Platform } from "../../platform/platform.ts";
import { mib } from "../../units.ts";

const textBytesMax = 256 * mib;

/** Reads all of an input as text. @throws WalbError `out-of-range` above 256 MiB. */
export async function readText(platform: Platform, input: DiffInput): Promise<string> {
  const lease = await platform.memory.lease(mib);
  const decoder = new TextDecoder();
  let text = "";
  let sizeBytes = 0;
  try {
    for (;;) {
      const gotBytes = await input.read(lease);
      if (gotBytes === 0) break;
      sizeBytes += gotBytes;
      if (sizeBytes > textBytesMax) {
        throw new WalbError("out-of-range", { what: "the text is above 256 MiB", where: { file: input.name } });
      }
      text += decoder.decode(lease.bytes.slice(0, gotBytes), { stream: true });
    }
  } finally {
    lease.release();
  }
  return text + decoder.decode();
}
