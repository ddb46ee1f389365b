/** @module `checksum`: walb checksums of an image. */
import { imageChecksum, imageChecksums } from "../../../image/hash.ts";
import { withInput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "checksum",
  description: "checksum: walb checksum of a file, device or stdin",
  options: {
    salt: { kind: "int", help: "salt", default: "0" },
    bulk: { kind: "int", help: "size of the pieces; 0: one checksum of all", default: "0" },
    hex: { kind: "flag", help: "hexadecimal" },
  },
  params: [{ name: "FILE", help: "file or device, - for stdin", default: "-", isOptional: true }],
  async run({ args, tool, print }) {
    const salt = args.int("salt");
    const bulkBytes = args.int("bulk");
    const text = (sum: number): string => (args.flag("hex") ? sum.toString(16).padStart(8, "0") : String(sum));
    await withInput(tool.platform.disk, args.param(0), async (input) => {
      const options = { signal: tool.signal };
      if (bulkBytes === 0) {
        print(text(await imageChecksum(tool.platform, input, salt, options)));
        return;
      }
      let number = 0;
      for await (const sum of imageChecksums(tool.platform, input, salt, bulkBytes, options)) {
        print(`${number}\t${text(sum)}`);
        number += 1;
      }
    });
    return 0;
  },
});
