/** @module `walb wdiff dump FILE` */
import { asInt, required } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { outputFlags, tell, toolFlags } from "../common.ts";
import { dumpDiff } from "../lib/diff-ops.ts";
import { withOutput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

const asBlocks = asInt(0, 2 ** 44 - 1);

export const verb = defineVerb({
  summary: "Copies the blocks of a range out of a wdiff; what it does not hold is zero",
  positionals: [{ name: "FILE", help: "wdiff", isRequired: true }],
  flags: {
    address: required("BLOCK", "first block, of 512 bytes", asBlocks),
    blocks: required("COUNT", "number of blocks", asBlocks),
    ...outputFlags,
    ...toolFlags,
  },
  examples: ["walb wdiff dump vol0.wdiff --address 1024 --blocks 32 --output part.bin"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const range = { addressLb: flags.address, sizeLb: flags.blocks };
    const heldLb = await withTool(io, "dump", flags, (tool) =>
      withOutput(tool.platform, flags.output, flags, (output) => dumpDiff(tool, args[0]!, range, output)),
    );
    const text = `the diff holds ${heldLb} of the ${flags.blocks} blocks`;
    tell(flags, io, { output: flags.output, ...range, heldLb }, text);
    return 0;
  },
});
