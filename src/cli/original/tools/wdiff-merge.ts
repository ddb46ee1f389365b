/** @module `wdiff-merge`: merges wdiffs. */
import { emptyStats, formatStats } from "../../../diff/stats.ts";
import { parseCompressOption } from "../../../native/compress-option.ts";
import { mergeDiffs } from "../../files/lib/diff-ops.ts";
import { withOutput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wdiff-merge",
  description: "wdiff-merge: merge wdiffs into a sorted one",
  options: {
    i: { kind: "texts", help: "wdiff paths, the oldest first", isRequired: true },
    o: { kind: "text", help: "output path, - for stdout", default: "-" },
    x: { kind: "int", help: "max IO size in bytes, 0 for no limit", default: "0" },
    cmpr: { kind: "text", help: "compression type:level:threads", default: "snappy:0:1" },
    stat: { kind: "flag", help: "print statistics to stderr" },
  },
  params: [],
  async run({ args, tool, printError }) {
    const compress = parseCompressOption(args.text("cmpr"), "cmpr");
    const { input } = await withOutput(tool.platform, args.text("o"), { overwrite: true }, (output) =>
      mergeDiffs(tool, args.texts("i"), output, {
        maxIoLb: Math.floor(args.int("x") / 512),
        compress,
        recompress: true,
        // The original writes its header before it knows the inputs.
        uuid: new Uint8Array(16),
      }),
    );
    if (args.flag("stat")) {
      printError(`mergeIn  ${formatStats(input)}`);
      printError(`mergeOut ${formatStats(emptyStats())}`);
      printError(`mergeMemUsage ${Math.ceil(tool.platform.memory.leasedBytes / 1024)}KiB`);
    }
    return 0;
  },
});
