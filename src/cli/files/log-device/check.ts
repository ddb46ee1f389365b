/** @module `walb log-device check LOG` */
import { defineVerb } from "../../verb.ts";
import { tell, toolFlags } from "../common.ts";
import { checkLogDevice } from "../lib/log-device.ts";
import { openLogDevice } from "../lib/log-range.ts";
import { withReadable } from "../lib/spooled.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Reads a log with all its data and checks every checksum",
  description:
    "What is older than the last checkpoint must be whole. Behind it the log may end in a pack that was not written whole: normal after a crash.",
  positionals: [{ name: "LOG", help: "block device, or file, of the log", isRequired: true }],
  flags: toolFlags,
  examples: ["walb log-device check vol0.log"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const check = await withTool(io, "check", flags, (tool) =>
      withReadable(tool, args[0]!, async (file) => checkLogDevice(tool, await openLogDevice(tool, file))),
    );
    const torn = check.isTorn ? "; its last pack was not written whole and will be cut by redo" : "";
    const stray = check.strayLsid === undefined ? "" : `; leftovers of a crash behind its end, at ${check.strayLsid}`;
    const text = `good: ${check.packs} packs from lsid ${check.oldestLsid} to ${check.endLsid}${torn}${stray}`;
    tell(flags, io, { log: args[0], ...check }, text);
    return 0;
  },
});
