/** @module `walb wdiff verify FILE…` */
import { verifyDiff } from "../../../diff/verify.ts";
import { asWalbError, exitCodes } from "../../../errors.ts";
import { lbBytes } from "../../../units.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { lenientFlags, toolFlags, withLines } from "../common.ts";
import { withSeekableDiffs } from "../lib/spooled.ts";
import { withTool } from "../lib/tool.ts";

const damageCodes = ["damaged", "bad-format"];

export const verb = defineVerb({
  summary: "Checks wdiffs: every rule of the format, every checksum, and that all data expands",
  positionals: [{ name: "FILE", help: "wdiff, - for standard input (default)", isVariadic: true }],
  flags: { ...lenientFlags, ...toolFlags },
  examples: ["walb wdiff verify vol0.wdiff", "walb wdiff verify *.wdiff --json"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    let bad = 0;
    await withTool(io, "verify", flags, (tool) =>
      withLines(io, flags.json, async (lines) => {
        for (const path of args.length === 0 ? ["-"] : args) {
          try {
            const stats = await withSeekableDiffs(tool, [path], ([seekable]) =>
              verifyDiff(tool.platform, seekable!, {
                lenient: flags.lenient,
                signal: tool.signal,
                onProgress: ({ doneLb, totalLb }) => tool.progress(doneLb * lbBytes, totalLb * lbBytes),
              }),
            );
            const records = stats.normalRecords + stats.zeroRecords + stats.discardRecords;
            const text = `${path}: good, ${records} records, ${formatSize(stats.dataBytes)} of data`;
            lines.line({ type: "file", file: path, isGood: true, ...stats }, () => text);
          } catch (thrown) {
            const error = asWalbError(thrown, { file: path });
            if (!damageCodes.includes(error.code)) throw error;
            bad += 1;
            lines.line(
              { type: "file", file: path, isGood: false, damage: error.toJSON() },
              () => `${error.message}: damaged`,
            );
          }
        }
      }),
    );
    return bad === 0 ? exitCodes.done : exitCodes.damaged;
  },
});
