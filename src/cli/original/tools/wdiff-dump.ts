/** @module `wdiff-dump`: extracts a range of blocks from a wdiff. */
import { dumpDiff } from "../../files/lib/diff-ops.ts";
import { withOutput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wdiff-dump",
  description: "wdiff-dump: dump a range of blocks of a wdiff",
  options: {},
  params: [
    { name: "ADDR", help: "address in blocks" },
    { name: "SIZE", help: "number of blocks" },
    { name: "WDIFF", help: "wdiff path" },
    { name: "OUT", help: "output path" },
  ],
  async run({ args, tool, printError }) {
    const range = { addressLb: args.intParam(0), sizeLb: args.intParam(1) };
    const heldLb = await withOutput(tool.platform, args.param(3), { overwrite: true }, (output) =>
      dumpDiff(tool, args.param(2), range, output),
    );
    printError(`dumped ${heldLb} of ${range.sizeLb} blocks`);
    return 0;
  },
});
