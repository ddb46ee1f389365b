/** @module `walb wdiff merge FILE…` */
import { toggle } from "../../flags.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { blocksOf, diffOutputFlags, lenientFlags, outputFlags, tell, toolFlags } from "../common.ts";
import { mergeDiffs } from "../lib/diff-ops.ts";
import { withOutput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Merges wdiffs, the oldest first, into one sorted wdiff",
  description: "Data that no other diff cuts is passed on as it is stored.",
  positionals: [
    { name: "FILE", help: "sorted and indexed wdiffs, the oldest first", isRequired: true, isVariadic: true },
  ],
  flags: {
    recompress: toggle("compress all data anew with --compress, where it has another codec"),
    ...diffOutputFlags,
    ...outputFlags,
    ...lenientFlags,
    ...toolFlags,
  },
  examples: ["walb wdiff merge a.wdiff b.wdiff c.wdiff --output abc.wdiff"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const result = await withTool(io, "merge", flags, (tool) =>
      withOutput(tool.platform, flags.output, flags, (output) =>
        mergeDiffs(tool, args, output, {
          maxIoLb: blocksOf(flags["max-io"], "max-io"),
          compress: flags.compress,
          recompress: flags.recompress,
          lenient: flags.lenient,
        }),
      ),
    );
    const { input, output } = result;
    const text = `merged ${input.files} diffs: ${formatSize(input.dataBytes)} to ${formatSize(output.dataBytes)} of data`;
    tell(flags, io, { files: args, ...result, outputFile: flags.output }, text);
    return 0;
  },
});
