/** @module `virt-full-cat`: an image with wdiffs over it. */
import { formatStats } from "../../../diff/stats.ts";
import { catImage } from "../../files/lib/diff-ops.ts";
import { withOutput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "virt-full-cat",
  description: "virt-full-cat: write a base image with wdiffs applied",
  options: {
    i: { kind: "text", help: "base image", isRequired: true },
    o: { kind: "text", help: "output path, - for stdout", default: "-" },
    d: { kind: "texts", help: "wdiff paths, the oldest first" },
    b: { kind: "int", help: "buffer size", default: "128K" },
    stat: { kind: "flag", help: "print statistics to stderr" },
  },
  params: [],
  async run({ args, tool, printError }) {
    const bulkBytes = Math.max(512, Math.min(16 * 1024 * 1024, args.int("b") - (args.int("b") % 512)));
    const { stats } = await withOutput(tool.platform, args.text("o"), { overwrite: true }, (output) =>
      // Small buffers were a matter of memory; reading is done in at least 1 MiB.
      catImage(tool, args.text("i"), args.texts("d"), output, { bulkBytes: Math.max(bulkBytes, 1024 * 1024) }),
    );
    if (args.flag("stat")) printError(`mergeIn  ${formatStats(stats)}`);
    return 0;
  },
});
