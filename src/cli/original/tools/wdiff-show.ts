/** @module `wdiff-show`: prints wdiffs. */
import { addStats, emptyStats } from "../../../diff/stats.ts";
import { badPackLines, diffHeaderLines, diffRecordLine, diffStatLines } from "../../files/lib/diff-text.ts";
import { walkDiff } from "../../files/lib/diff-walk.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wdiff-show",
  description: "wdiff-show: show the content of wdiffs",
  options: {
    search: { kind: "flag", help: "show only records that hold the address of -addr" },
    addr: { kind: "int", help: "address in blocks", default: "0" },
    stat: { kind: "flag", help: "show statistics" },
    nohead: { kind: "flag", help: "do not show headers" },
    norec: { kind: "flag", help: "do not show records, but bad ones" },
    csum: { kind: "flag", help: "check the checksums of data" },
  },
  params: [{ name: "WDIFF", help: "wdiff paths", isVariadic: true }],
  async run({ args, tool, print, logError }) {
    const address = args.bigint("addr");
    const isSearch = args.flag("search");
    const stats = emptyStats();
    for (const path of args.params) {
      let isToldInOutput = false;
      try {
        const own = await walkDiff(tool, path, {
          checkData: args.flag("csum"),
          onHeader: (header) => {
            if (!args.flag("nohead")) print(diffHeaderLines(header));
          },
          onRecord: (record, fault) => {
            isToldInOutput ||= fault !== undefined;
            if (fault === undefined && args.flag("norec")) return;
            const end = record.addressLb + BigInt(record.blocksLb);
            if (isSearch && (address < record.addressLb || address >= end)) return;
            print(diffRecordLine(record, fault));
          },
          onBadPack: (pack) => {
            isToldInOutput = true;
            print(badPackLines(pack));
          },
        });
        addStats(stats, own);
      } catch (error) {
        if (!isToldInOutput) throw error;
        if (args.flag("debug")) logError(String(error));
        return 1;
      }
    }
    if (args.flag("stat")) print(diffStatLines(stats));
    return 0;
  },
});
