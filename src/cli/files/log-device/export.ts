/** @module `walb log-device export LOG` */
import { fileOutput } from "../../../log/wlogfile.ts";
import { toggle } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { outputFlags, rangeFlags, rangeValues, tell, toolFlags } from "../common.ts";
import { exportLog } from "../lib/log-device.ts";
import { openLogDevice, strayRemark } from "../lib/log-range.ts";
import { withOutput } from "../lib/paths.ts";
import { withReadable } from "../lib/spooled.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Writes the log of a log device as a wlog file or stream",
  description: "A last pack that was not written whole is cut before its first bad record.",
  positionals: [{ name: "LOG", help: "block device, or file, of the log", isRequired: true }],
  flags: {
    "whole-packs": toggle("leave out a last pack that was not written whole"),
    ...rangeFlags,
    ...outputFlags,
    ...toolFlags,
  },
  examples: [
    "walb log-device export vol0.log --output vol0.wlog",
    "walb log-device export vol0.log | walb wlog to-wdiff --output vol0.wdiff",
  ],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const result = await withTool(io, "export", flags, (tool) =>
      withReadable(tool, args[0]!, async (file) => {
        const device = await openLogDevice(tool, file);
        return withOutput(tool.platform, flags.output, flags, (output) =>
          exportLog(tool, device, fileOutput(output), { ...rangeValues(flags), noShrink: flags["whole-packs"] }),
        );
      }),
    );
    const cut = result.isShrunk ? "; the last one was cut" : "";
    const text = `wrote lsid ${result.beginLsid} to ${result.endLsid}: ${result.packs} packs${cut}`;
    if (result.strayLsid !== undefined && !flags.quiet) {
      io.err(`${strayRemark(args[0]!, result.endLsid, result.strayLsid)}\n`);
    }
    tell(flags, io, { log: args[0], output: flags.output, ...result }, text);
    return 0;
  },
});
