/** @module `walb image cat BASE [FILE…]` */
import { asSize, option } from "../../flags.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { blocksOf, lenientFlags, outputFlags, tell, toolFlags } from "../common.ts";
import { catImage } from "../lib/diff-ops.ts";
import { withOutput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Writes what a base image with wdiffs over it reads as; nothing is changed",
  positionals: [
    { name: "BASE", help: "base image", isRequired: true },
    { name: "FILE", help: "wdiffs, the oldest first", isVariadic: true },
  ],
  flags: {
    size: option("SIZE", "size of the image; default that of the base", asSize, { isFromEnvironment: false }),
    ...outputFlags,
    ...lenientFlags,
    ...toolFlags,
  },
  examples: [
    "walb image cat base.img a.wdiff b.wdiff --output vol0.img",
    "walb image cat base.img a.wdiff | sha256sum",
  ],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const result = await withTool(io, "cat", flags, (tool) =>
      withOutput(tool.platform, flags.output, flags, (output) =>
        catImage(tool, args[0]!, args.slice(1), output, {
          lenient: flags.lenient,
          ...(flags.size === undefined ? {} : { sizeLb: blocksOf(flags.size, "size") }),
        }),
      ),
    );
    const text = `wrote ${formatSize(result.sizeBytes)}, ${args.length - 1} diffs over the base`;
    tell(flags, io, { output: flags.output, ...result }, text);
    return 0;
  },
});
