/** @module `bhash`: hashes an image. */
import { limitInput, skipInput, toolHashes } from "../../../image/hash.ts";
import { withInput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "bhash",
  description: "bhash: hash of a file, device or stdin (SipHash-2-4, 128 bits)",
  options: {
    ios: { kind: "int", help: "accepted, without effect on the hash", default: "64K" },
    off: { kind: "int", help: "start, in bytes", default: "0" },
    size: { kind: "int", help: "size, in bytes; default: to the end" },
    chunk: { kind: "int", help: "size of the pieces to hash; 0: one hash of all", default: "0" },
    "scan-sleep-pct": { kind: "int", help: "accepted, without effect", default: "0" },
    aio: { kind: "flag", help: "accepted, without effect" },
  },
  params: [{ name: "PATH", help: "file or device, - for stdin", default: "-", isOptional: true }],
  async run({ args, tool, print }) {
    const offsetBytes = args.int("off");
    const sizeBytes = args.optionalInt("size");
    const path = args.param(0);
    const isPipe = path === "-";
    await withInput(
      tool.platform.disk,
      path,
      async (input) => {
        if (isPipe && offsetBytes > 0) await skipInput(tool.platform, input, offsetBytes);
        const limited = sizeBytes === undefined ? input : limitInput(input, sizeBytes);
        const chunkBytes = args.int("chunk");
        for await (const piece of toolHashes(tool.platform, limited, chunkBytes, { signal: tool.signal })) {
          const at = Math.floor((offsetBytes + piece.startBytes) / 512);
          print(chunkBytes === 0 ? piece.hash : `${at.toString(16).padStart(16, "0")}\t${piece.hash}`);
        }
      },
      isPipe ? 0 : offsetBytes,
    );
    return 0;
  },
});
