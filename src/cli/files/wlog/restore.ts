/** @module `walb wlog restore LOG` */
import { WalbError } from "../../../errors.ts";
import { asSize, option, optionOr, toggle } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { blocksOf, inputFlags, lenientFlags, rangeFlags, rangeValues, tell, toolFlags } from "../common.ts";
import { openLogDevice } from "../lib/log-range.ts";
import { restoreWlog } from "../lib/log-restore.ts";
import { withFile } from "../lib/paths.ts";
import { withRereadable } from "../lib/spooled.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Writes a wlog back into a log device, as if it had just been written there",
  description:
    "The log device must be formatted with the block size of the wlog; its uuid and salt become those of the wlog, and what its log held is lost.",
  positionals: [{ name: "LOG", help: "block device, or file, of the log", isRequired: true }],
  flags: {
    shift: optionOr("LSIDS", "add this to all lsids", asShift, "0"),
    size: option("SIZE", "size of the volume; default that of the log device", asSize, { isFromEnvironment: false }),
    verify: toggle("read everything back"),
    overwrite: toggle("the log holds packs: lose them"),
    ...inputFlags,
    ...rangeFlags,
    ...lenientFlags,
    ...toolFlags,
  },
  examples: ["walb wlog restore vol0.log --input vol0.wlog --verify"],
  exits: { 5: "the wlog is damaged, or what was restored does not read back" },
  async run({ flags, args, io }) {
    const restored = await withTool(io, "restore", flags, (tool) =>
      withRereadable(tool, flags.input, (input) =>
        withFile(tool.platform.disk, args[0]!, "write", async (file) => {
          const device = await openLogDevice(tool, file);
          const { oldestLsid, writtenLsid } = device.superblock;
          if (writtenLsid > oldestLsid && !flags.overwrite) {
            throw new WalbError("already-exists", {
              what: `its log holds lsid ${oldestLsid} to ${writtenLsid}`,
              where: { file: file.path },
              hint: "add --overwrite to lose it",
            });
          }
          return restoreWlog(tool, input, device, {
            ...rangeValues(flags),
            shiftLsid: flags.shift,
            verify: flags.verify,
            lenient: flags.lenient,
            ...(flags.size === undefined ? {} : { deviceSizeLb: blocksOf(flags.size, "size") }),
          });
        }),
      ),
    );
    const { beginLsid, endLsid, wlogBeginLsid, wlogEndLsid } = restored;
    const text = `restored lsid ${wlogBeginLsid} to ${wlogEndLsid} of the wlog as ${beginLsid} to ${endLsid}`;
    tell(flags, io, { log: args[0], ...restored }, text);
    return 0;
  },
});

function asShift(text: string): bigint {
  if (/^-?\d{1,20}$/.test(text)) return BigInt(text);
  throw new WalbError("usage", { what: `${JSON.stringify(text)} is not a number of lsids`, hint: "e.g. 1988 or -100" });
}
