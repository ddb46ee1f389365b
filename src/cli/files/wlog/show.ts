/** @module `walb wlog show [FILE…]` */
import { wholeLsid } from "../../../log/lsid.ts";
import { toggle } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { lenientFlags, rangeFlags, rangeValues, toolFlags, withLines } from "../common.ts";
import { logCountLines, packLines, packValue, wlogHeaderLine } from "../lib/log-text.ts";
import { withInput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";
import { showWlog } from "../lib/wlog-show.ts";

export const verb = defineVerb({
  summary: "Shows wlogs: header, counts, packs",
  positionals: [{ name: "FILE", help: "wlog, - for standard input (default)", isVariadic: true }],
  flags: {
    packs: toggle("every pack with its records"),
    ...rangeFlags,
    ...lenientFlags,
    ...toolFlags,
  },
  examples: ["walb wlog show vol0.wlog", "walb wlog show vol0.wlog --packs --from 1000"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    await withTool(io, "show", flags, (tool) =>
      withLines(io, flags.json, async (lines) => {
        for (const path of args.length === 0 ? ["-"] : args) {
          await withInput(tool.platform.disk, path, (input) =>
            showWlog(tool, input, {
              ...rangeValues(flags),
              lenient: flags.lenient,
              onHeader: ({ lsidBase = 0n, ...header }) => {
                const told = { ...header, beginLsid: wholeLsid(header.beginLsid, lsidBase) };
                lines.line({ type: "header", file: path, ...told }, () => wlogHeaderLine({ ...header, lsidBase }));
              },
              onPack: ({ header, lsidBase, checksum }) => {
                if (!flags.packs) return;
                const told = { type: "pack", checksum, ...packValue(header, lsidBase) };
                lines.line(told, () => packLines(header, checksum, lsidBase));
              },
              onEnd: (counts) => lines.line({ type: "counts", ...counts }, () => logCountLines(counts)),
            }),
          );
        }
      }),
    );
    return 0;
  },
});
