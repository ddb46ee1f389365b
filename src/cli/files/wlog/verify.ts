/** @module `walb wlog verify FILE…` */
import { exitCodes } from "../../../errors.ts";
import { defineVerb } from "../../verb.ts";
import { lenientFlags, toolFlags, withLines } from "../common.ts";
import type { LogCounts } from "../lib/log-text.ts";
import { withInput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";
import { showWlog } from "../lib/wlog-show.ts";

export const verb = defineVerb({
  summary: "Checks wlogs with all their data, and tells every record that is damaged",
  positionals: [{ name: "FILE", help: "wlog, - for standard input (default)", isVariadic: true }],
  flags: { ...lenientFlags, ...toolFlags },
  examples: ["walb wlog verify vol0.wlog", "walb wlog verify *.wlog --json"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    let bad = 0;
    await withTool(io, "verify", flags, (tool) =>
      withLines(io, flags.json, async (lines) => {
        for (const path of args.length === 0 ? ["-"] : args) {
          const badBefore = bad;
          let ends: LogCounts | undefined;
          await withInput(tool.platform.disk, path, (input) =>
            showWlog(tool, input, {
              checkData: true,
              lenient: flags.lenient,
              onBadData: (_pack, error) => {
                bad += 1;
                lines.line({ type: "damage", ...error.toJSON() }, () => error.message);
              },
              onEnd: (counts) => {
                ends = counts;
              },
            }),
          );
          const isGood = bad === badBefore;
          const text = `${path}: ${isGood ? "good" : "damaged"}, ${ends?.packs} packs, ${ends?.records} records`;
          lines.line({ type: "file", file: path, isGood, ...ends }, () => text);
        }
      }),
    );
    return bad === 0 ? exitCodes.done : exitCodes.damaged;
  },
});
