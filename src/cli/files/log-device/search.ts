/** @module `walb log-device search LOG [LSID…]` */
import { exitCodes } from "../../../errors.ts";
import { defineVerb } from "../../verb.ts";
import { asLsid, rangeFlags, rangeValues, toolFlags, withLines } from "../common.ts";
import { openLogDevice } from "../lib/log-range.ts";
import { damageText, findHeaders, searchDamage } from "../lib/log-search.ts";
import { withReadable } from "../lib/spooled.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Looks through a damaged log: tells every bad pack, or where the headers of lsids lie",
  description:
    "Without LSID all of the log is gone through, and on behind what is damaged. With them all of the ring is.",
  positionals: [
    { name: "LOG", help: "block device, or file, of the log; - for standard input", isRequired: true },
    { name: "LSID", help: "look for the headers of these packs", isVariadic: true },
  ],
  flags: { ...rangeFlags, ...toolFlags },
  examples: ["walb log-device search vol0.log", "walb log-device search vol0.log 1234 5678 --json"],
  exits: { 5: "a pack is damaged" },
  async run({ flags, args, io }) {
    const lsids = new Set(args.slice(1).map(asLsid));
    return withTool(io, "search", flags, (tool) =>
      withLines(io, flags.json, (lines) =>
        withReadable(tool, args[0]!, async (file) => {
          const device = await openLogDevice(tool, file);
          if (lsids.size > 0) {
            await findHeaders(tool, device, lsids, (found) => {
              const { addressPb, lsid, isValid } = found;
              const text = `lsid ${lsid} at block ${addressPb}: ${isValid ? "good" : "damaged"}`;
              lines.line({ type: "header", ...found }, () => text);
            });
            return exitCodes.done;
          }
          const search = await searchDamage(tool, device, rangeValues(flags), (damage) =>
            lines.line({ type: "damage", ...damage }, () => damageText(damage)),
          );
          const { fromLsid, limitLsid, packs, damaged } = search;
          const text = `lsid ${fromLsid} to ${limitLsid}: ${packs} packs, ${damaged} faults`;
          lines.line({ type: "counts", ...search }, () => text);
          return damaged === 0 ? exitCodes.done : exitCodes.damaged;
        }),
      ),
    );
  },
});
