/** @module `wlog-analyze`: how much of what is written is overwritten. */
import { withInput } from "../../files/lib/paths.ts";
import { showWlog, WriteAnalysis } from "../../files/lib/wlog-show.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-analyze",
  description: "wlog-analyze: count written and overwritten blocks of wlogs",
  options: {
    b: { kind: "int", help: "block size", default: "512" },
    v: { kind: "flag", help: "accepted, without effect" },
  },
  params: [{ name: "WLOG", help: "wlog paths, - for stdin", isVariadic: true }],
  async run({ args, tool, print }) {
    const analysis = new WriteAnalysis(Math.max(1, args.int("b")));
    for (const path of args.params) {
      await withInput(tool.platform.disk, path, (input) =>
        showWlog(tool, input, { lenient: true, onPack: (pack) => analysis.add(pack) }),
      );
    }
    print(`block size: ${analysis.blockBytes}`);
    print(`number of written blocks: ${analysis.writtenBlocks}`);
    print(`number of changed blocks: ${analysis.changedBlocks}`);
    print(`overwritten rate: ${analysis.overwrittenRate.toFixed(2)}`);
    return 0;
  },
});
