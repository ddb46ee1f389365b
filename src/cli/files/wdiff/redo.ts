/** @module `walb wdiff redo IMAGE [FILE…]` */
import { lbBytes } from "../../../units.ts";
import { asChoice, optionOr } from "../../flags.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { lenientFlags, tell, toolFlags } from "../common.ts";
import { redoDiff, redoDiffs } from "../lib/diff-ops.ts";
import { withFile } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Applies wdiffs, the oldest first, to an image or block device",
  positionals: [
    { name: "IMAGE", help: "existing file or block device; a file grows as needed", isRequired: true },
    {
      name: "FILE",
      help: "wdiffs, the oldest first; - for standard input (default)",
      isVariadic: true,
    },
  ],
  flags: {
    discard: optionOr("POLICY", "discards: zero, passdown or ignore", asChoice(["zero", "passdown", "ignore"]), "zero"),
    ...lenientFlags,
    ...toolFlags,
  },
  examples: [
    "walb wdiff redo vol0.img a.wdiff b.wdiff",
    "walb wlog to-wdiff --input vol0.wlog | walb wdiff redo vol0.img",
  ],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const image = args[0]!;
    const files = args.length === 1 ? ["-"] : args.slice(1);
    const written = await withTool(io, "redo", flags, (tool) =>
      withFile(tool.platform.disk, image, "write", async (file) => {
        if (files[0] === "-" && files.length === 1) {
          const { input, output } = await redoDiff(tool, "-", file, flags);
          const zeroedLb = output.zeroLb + output.discardLb;
          return { input, writtenLb: output.normalLb, zeroedLb, ignoredLb: input.discardLb - output.discardLb };
        }
        const { input, applied } = await redoDiffs(tool, files, file, flags);
        return { input, ...applied };
      }),
    );
    const sizes = `wrote ${formatSize(written.writtenLb * lbBytes)}, zeroed ${formatSize(written.zeroedLb * lbBytes)}`;
    tell(flags, io, { image, files, ...written }, `applied ${files.length} diffs: ${sizes}`);
    return 0;
  },
});
