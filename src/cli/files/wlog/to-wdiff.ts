/** @module `walb wlog to-wdiff` */
import { toggle } from "../../flags.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { blocksOf, diffOutputFlags, inputFlags, lenientFlags, outputFlags, tell, toolFlags } from "../common.ts";
import { convertWlog } from "../lib/log-convert.ts";
import { withInput, withOutput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Converts wlogs to a wdiff, in which every block is there once",
  description: "Several wlogs may follow one another in the input, when each begins where the one before ends.",
  flags: {
    indexed: toggle("an indexed wdiff instead of a sorted one"),
    ...diffOutputFlags,
    ...inputFlags,
    ...outputFlags,
    ...lenientFlags,
    ...toolFlags,
  },
  examples: [
    "walb wlog to-wdiff --input vol0.wlog --output vol0.wdiff",
    "walb wlog cat vol0.log | walb wlog to-wdiff --indexed --output vol0.wdiff",
  ],
  exits: { 5: "damaged" },
  async run({ flags, io }) {
    const converted = await withTool(io, "to-wdiff", flags, (tool) =>
      withInput(tool.platform.disk, flags.input, (input) =>
        withOutput(tool.platform, flags.output, flags, (output) =>
          convertWlog(tool, input, output, {
            kind: flags.indexed ? "indexed" : "sorted",
            maxIoLb: blocksOf(flags["max-io"], "max-io"),
            compress: flags.compress,
            lenient: flags.lenient,
          }),
        ),
      ),
    );
    const { beginLsid, endLsid, stats } = converted;
    const text = `converted lsid ${beginLsid} to ${endLsid}: ${formatSize(stats.dataBytes)} of data`;
    tell(flags, io, { output: flags.output, ...converted }, text);
    return 0;
  },
});
