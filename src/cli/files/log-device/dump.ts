/** @module `walb log-device dump LOG` */
import { fileOutput } from "../../../log/wlogfile.ts";
import { required } from "../../flags.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { asLsid, outputFlags, tell, toolFlags } from "../common.ts";
import { openLogDevice } from "../lib/log-range.ts";
import { dumpLog } from "../lib/log-search.ts";
import { withOutput } from "../lib/paths.ts";
import { withReadable } from "../lib/spooled.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Writes the blocks of a range of lsids as they are, whatever they hold",
  positionals: [{ name: "LOG", help: "block device, or file, of the log; - for standard input", isRequired: true }],
  flags: {
    from: required("LSID", "first lsid", asLsid),
    to: required("LSID", "up to this lsid, without it", asLsid),
    ...outputFlags,
    ...toolFlags,
  },
  examples: ["walb log-device dump vol0.log --from 1234 --to 1235 --output header.bin"],
  async run({ flags, args, io }) {
    const sizeBytes = await withTool(io, "dump", flags, (tool) =>
      withReadable(tool, args[0]!, async (file) => {
        const device = await openLogDevice(tool, file);
        return withOutput(tool.platform, flags.output, flags, (output) => {
          const out = fileOutput(output);
          return dumpLog(tool, device, { fromLsid: flags.from, toLsid: flags.to }, (blocks) => out.write([blocks]));
        });
      }),
    );
    const told = { log: args[0], output: flags.output, fromLsid: flags.from, toLsid: flags.to, sizeBytes };
    tell(flags, io, told, `wrote ${formatSize(sizeBytes)}`);
    return 0;
  },
});
