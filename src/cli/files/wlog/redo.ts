/** @module `walb wlog redo IMAGE` */
import { asChoice, optionOr } from "../../flags.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { inputFlags, lenientFlags, tell, toolFlags } from "../common.ts";
import { redoWlog } from "../lib/log-apply.ts";
import { withFile, withInput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Replays wlogs onto an image or block device that is as it was when they begin",
  description: "Several wlogs may follow one another in the input, when each begins where the one before ends.",
  positionals: [{ name: "IMAGE", help: "existing file or block device; a file grows as needed", isRequired: true }],
  flags: {
    discard: optionOr("POLICY", "discards: zero, passdown or ignore", asChoice(["zero", "passdown", "ignore"]), "zero"),
    ...inputFlags,
    ...lenientFlags,
    ...toolFlags,
  },
  examples: ["walb wlog redo vol0.img --input vol0.wlog", "walb wlog cat vol0.log | walb wlog redo vol0.img"],
  exits: { 5: "damaged; what is before the damage was replayed" },
  async run({ flags, args, io }) {
    const counts = await withTool(io, "redo", flags, (tool) =>
      withInput(tool.platform.disk, flags.input, (input) =>
        withFile(tool.platform.disk, args[0]!, "write", (image) => redoWlog(tool, input, image, flags)),
      ),
    );
    const text = `replayed lsid ${counts.beginLsid} to ${counts.endLsid}: wrote ${formatSize(512 * counts.written.lb)}`;
    tell(flags, io, { image: args[0], ...counts }, text);
    return 0;
  },
});
