/** @module `walb wlog analyze [FILE…]` */
import { asSize, optionOr } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { blocksOf, lenientFlags, tell, toolFlags } from "../common.ts";
import { withInput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";
import { showWlog, WriteAnalysis } from "../lib/wlog-show.ts";

export const verb = defineVerb({
  summary: "Tells how much of what wlogs write is overwritten in them",
  positionals: [{ name: "FILE", help: "wlogs, - for standard input (default)", isVariadic: true }],
  flags: {
    "block-size": optionOr("SIZE", "count in blocks of this size", asSize, "512", { isFromEnvironment: false }),
    ...lenientFlags,
    ...toolFlags,
  },
  examples: ["walb wlog analyze vol0.wlog", "walb wlog analyze --block-size 4K *.wlog"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const analysis = new WriteAnalysis(Math.max(1, blocksOf(flags["block-size"], "block-size")) * 512);
    await withTool(io, "analyze", flags, async (tool) => {
      for (const path of args.length === 0 ? ["-"] : args) {
        await withInput(tool.platform.disk, path, (input) =>
          showWlog(tool, input, { lenient: flags.lenient, onPack: (pack) => analysis.add(pack) }),
        );
      }
    });
    const { blockBytes, writtenBlocks, changedBlocks, overwrittenRate } = analysis;
    const text = `${writtenBlocks} blocks of ${blockBytes} bytes written, ${changedBlocks} changed, ${(100 * overwrittenRate).toFixed(0)}% overwritten`;
    tell(flags, io, { blockBytes, writtenBlocks, changedBlocks, overwrittenRate }, text);
    return 0;
  },
});
