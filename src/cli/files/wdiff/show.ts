/** @module `walb wdiff show FILE…` */
import { addStats, emptyStats } from "../../../diff/stats.ts";
import { toggle } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { toolFlags, withLines } from "../common.ts";
import { diffHeaderLines, diffRecordLine, diffStatLines } from "../lib/diff-text.ts";
import { walkDiff } from "../lib/diff-walk.ts";
import { withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Shows wdiffs: header, counts, records; checks their data",
  positionals: [{ name: "FILE", help: "wdiff; - for standard input", isRequired: true, isVariadic: true }],
  flags: {
    records: toggle("every record"),
    check: toggle("read the data too and check its checksums"),
    ...toolFlags,
  },
  examples: ["walb wdiff show vol0.wdiff", "walb wdiff show vol0.wdiff --records --check"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    await withTool(io, "show", flags, (tool) =>
      withLines(io, flags.json, async (lines) => {
        const all = emptyStats();
        for (const path of args) {
          const stats = await walkDiff(tool, path, {
            checkData: flags.check,
            onHeader: (header) => lines.line({ type: "header", file: path, ...header }, () => diffHeaderLines(header)),
            onRecord: (record, fault) => {
              if (!flags.records && fault === undefined) return;
              const damage = fault === undefined ? {} : { damage: fault.error.toJSON() };
              lines.line({ type: "record", ...record, ...damage }, () => diffRecordLine(record, fault));
            },
          });
          addStats(all, { ...stats, files: 1 });
        }
        lines.line({ type: "counts", ...all }, () => diffStatLines(all));
      }),
    );
    return 0;
  },
});
