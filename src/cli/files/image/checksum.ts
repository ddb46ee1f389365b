/** @module `walb image checksum [PATH]` */
import { WalbError } from "../../../errors.ts";
import { imageChecksum, imageChecksums } from "../../../image/hash.ts";
import { asSize, optionOr } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { toolFlags, withLines } from "../common.ts";
import { hex32 } from "../lib/log-text.ts";
import { withInput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

const plain = { isFromEnvironment: false } as const;

export const verb = defineVerb({
  summary: "Tells walb checksums of an image, in hex",
  positionals: [{ name: "PATH", help: "file or block device, - for standard input (default)" }],
  flags: {
    salt: optionOr("NUMBER", "salt, decimal or 0x…", asSalt, "0", plain),
    chunk: optionOr("SIZE", "a checksum of every piece of this size; 0: of all", asSize, "0"),
    ...toolFlags,
  },
  examples: ["walb image checksum vol0.img", "walb image checksum vol0.img --chunk 64K --salt 0x12345678"],
  async run({ flags, args, io }) {
    await withTool(io, "checksum", flags, (tool) =>
      withLines(io, flags.json, (lines) =>
        withInput(tool.platform.disk, args[0] ?? "-", async (input) => {
          const onProgress = (doneBytes: number): void => tool.progress(doneBytes, input.sizeBytes);
          const options = { signal: tool.signal, onProgress };
          if (flags.chunk === 0) {
            const checksum = await imageChecksum(tool.platform, input, flags.salt, options);
            lines.line({ checksum }, () => hex32(checksum));
            return;
          }
          let chunk = 0;
          for await (const checksum of imageChecksums(tool.platform, input, flags.salt, flags.chunk, options)) {
            const number = chunk;
            lines.line({ chunk, checksum }, () => `${number}\t${hex32(checksum)}`);
            chunk += 1;
          }
        }),
      ),
    );
    return 0;
  },
});

function asSalt(text: string): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (value <= 0xffff_ffff) return value;
  throw new WalbError("usage", { what: `${JSON.stringify(text)} is not a 32-bit number`, hint: "e.g. 0x12345678" });
}
