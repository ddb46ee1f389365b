/** @module `walb wdiff from-image [IMAGE]` */
import { diffFromImage } from "../../../diff/from-image.ts";
import { asSize, optionOr, toggle } from "../../flags.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { blocksOf, diffOutputFlags, outputFlags, tell, toolFlags } from "../common.ts";
import { withInput, withOutput } from "../lib/paths.ts";
import { carvedIo, withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Makes a wdiff of a full image",
  positionals: [{ name: "IMAGE", help: "file or block device, - for standard input (default)" }],
  flags: {
    indexed: toggle("an indexed wdiff instead of a sorted one"),
    "io-size": optionOr("SIZE", "size of a record", asSize, "64K"),
    compress: diffOutputFlags.compress,
    ...outputFlags,
    ...toolFlags,
  },
  examples: ["walb wdiff from-image vol0.img --output vol0.wdiff"],
  async run({ flags, args, io }) {
    const stats = await withTool(io, "from-image", flags, (tool) =>
      withInput(tool.platform.disk, args[0] ?? "-", (input) =>
        withOutput(tool.platform, flags.output, flags, (output) =>
          diffFromImage(carvedIo(tool.platform), tool.platform.memory, input, output, {
            kind: flags.indexed ? "indexed" : "sorted",
            ioLb: blocksOf(flags["io-size"], "io-size"),
            compress: flags.compress,
            signal: tool.signal,
            onProgress: (doneBytes) => tool.progress(doneBytes, input.sizeBytes),
          }),
        ),
      ),
    );
    const text = `${stats.normalRecords} records with ${formatSize(stats.dataBytes)} of data, ${stats.zeroRecords} of zeroes`;
    tell(flags, io, { output: flags.output, stats }, text);
    return 0;
  },
});
