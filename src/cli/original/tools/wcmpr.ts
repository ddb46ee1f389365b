/** @module `wcmpr`: compresses a file in units, or expands such a file. */

import { parseCompressOption } from "../../../native/compress-option.ts";
import { withInput, withOutput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";
import { compressUnits, expandUnits } from "../wcmpr.ts";

export const tool = defineOriginal({
  name: "wcmpr",
  description: "wcmpr: compress or decompress a file in units",
  options: {
    m: { kind: "text", help: "compression: none, snappy, gzip, lzma, lz4, zstd", default: "snappy" },
    c: { kind: "int", help: "accepted, without effect: all cores are used", default: "1" },
    s: { kind: "int", help: "unit size", default: "1M" },
    l: { kind: "int", help: "compression level", default: "0" },
    d: { kind: "flag", help: "decompress" },
  },
  params: [
    { name: "SRC", help: "input path, - for stdin", default: "-", isOptional: true },
    { name: "DST", help: "output path, - for stdout", default: "-", isOptional: true },
  ],
  async run({ args, tool }) {
    const option = parseCompressOption(`${args.text("m")}:${args.int("l")}`, "m");
    await withInput(tool.platform.disk, args.param(0), (input) =>
      withOutput(tool.platform, args.param(1), { overwrite: true }, (output) =>
        args.flag("d") ? expandUnits(tool, input, output) : compressUnits(tool, input, output, option, args.int("s")),
      ),
    );
    return 0;
  },
});
