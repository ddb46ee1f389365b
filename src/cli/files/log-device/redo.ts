/** @module `walb log-device redo LOG DATA` */
import { redoLog } from "../../../log/redo.ts";
import { toggle } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { tell, toolFlags } from "../common.ts";
import { checkLogDevice } from "../lib/log-device.ts";
import { openLogDevice, toldLsid } from "../lib/log-range.ts";
import { withFile } from "../lib/paths.ts";
import { type Tool, withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Brings a data device up to the end of its log, after a crash",
  description: "May be repeated: the outcome is the same. Discarded ranges read back as zeroes.",
  positionals: [
    { name: "LOG", help: "block device, or file, of the log", isRequired: true },
    { name: "DATA", help: "block device, or file, of the data", isRequired: true },
  ],
  flags: { "dry-run": toggle("only say what would be replayed"), ...toolFlags },
  examples: ["walb log-device redo vol0.log vol0.img"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const [log, data] = [args[0]!, args[1]!];
    if (flags["dry-run"]) {
      const plan = await withTool(io, "redo", flags, (tool) => checkOnly(tool, log));
      const text = `would replay lsid ${plan.fromLsid} to ${plan.endLsid} of ${log} to ${data}`;
      tell(flags, io, { isDryRun: true, log, data, ...plan }, text);
      return 0;
    }
    const done = await withTool(io, "redo", flags, (tool) =>
      withFile(tool.platform.disk, log, "write", (logFile) =>
        withFile(tool.platform.disk, data, "write", async (dataFile) => {
          const device = await openLogDevice(tool, logFile);
          const { superblock } = device;
          const { memory: pool, compute } = tool.platform;
          const result = await redoLog({ log: logFile, data: dataFile, superblock, pool, compute });
          const { packCount, isShrunk, staleHeaderCount } = result;
          return {
            fromLsid: toldLsid(device, superblock.writtenLsid),
            endLsid: toldLsid(device, result.superblock.writtenLsid),
            packs: packCount,
            isShrunk,
            staleHeaders: staleHeaderCount,
          };
        }),
      ),
    );
    const cut = done.isShrunk ? "; the last one was cut" : "";
    const cleared = done.staleHeaders === 0 ? "" : `; cleared ${done.staleHeaders} leftovers of a crash behind its end`;
    const text = `replayed lsid ${done.fromLsid} to ${done.endLsid}: ${done.packs} packs${cut}${cleared}`;
    tell(flags, io, { log, data, ...done }, text);
    return 0;
  },
});

async function checkOnly(tool: Tool, log: string): Promise<{ fromLsid: bigint; endLsid: bigint }> {
  return withFile(tool.platform.disk, log, "read", async (file) => {
    const { writtenLsid, endLsid } = await checkLogDevice(tool, await openLogDevice(tool, file));
    return { fromLsid: writtenLsid, endLsid };
  });
}
