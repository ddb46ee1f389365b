/** @module `walb log-device show LOG` */
import { toggle } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { rangeFlags, rangeValues, toolFlags, withLines } from "../common.ts";
import { showLogDevice } from "../lib/log-device.ts";
import { openLogDevice, strayRemark } from "../lib/log-range.ts";
import { logCountLines, packLines, packValue, superblockFields, superblockLines } from "../lib/log-text.ts";
import { withReadable } from "../lib/spooled.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Shows the superblock of a log, counts of what it holds, and its packs",
  positionals: [{ name: "LOG", help: "block device, or file, of the log", isRequired: true }],
  flags: { packs: toggle("every pack with its records"), ...rangeFlags, ...toolFlags },
  examples: ["walb log-device show vol0.log", "walb log-device show vol0.log --packs --json"],
  exits: { 5: "the superblock, or a pack that was applied already, is damaged" },
  async run({ flags, args, io }) {
    await withTool(io, "show", flags, (tool) =>
      withLines(io, flags.json, (lines) =>
        withReadable(tool, args[0]!, async (file) => {
          const device = await openLogDevice(tool, file);
          const { superblock } = device;
          lines.line({ type: "superblock", ...superblockFields(superblock) }, () => superblockLines(superblock));
          const range = rangeValues(flags);
          const { lsidBase = 0n } = superblock;
          const { counts, damage, strayLsid } = await showLogDevice(tool, device, range, (header, checksum) => {
            if (!flags.packs) return;
            const told = { type: "pack", checksum, ...packValue(header, lsidBase) };
            lines.line(told, () => packLines(header, checksum, lsidBase));
          });
          lines.line({ type: "counts", ...counts, strayLsid }, () => logCountLines(counts));
          if (damage !== undefined) throw damage;
          if (strayLsid !== undefined && !flags.quiet) {
            io.err(`${strayRemark(args[0]!, counts.reallyEndLsid, strayLsid)}\n`);
          }
        }),
      ),
    );
    return 0;
  },
});
