/** @module `wlog-show`: prints wlogs. */

import { u64Max } from "../../../units.ts";
import { logCountLines, packLines, recordLine, wlogHeaderLine } from "../../files/lib/log-text.ts";
import { withInput } from "../../files/lib/paths.ts";
import { showWlog } from "../../files/lib/wlog-show.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-show",
  description: "wlog-show: show the content of a wlog",
  options: {
    b: { kind: "int", help: "begin lsid", default: "0" },
    e: { kind: "int", help: "end lsid" },
    head: { kind: "flag", help: "show the header" },
    pack: { kind: "flag", help: "show the packs" },
    stat: { kind: "flag", help: "show the statistics" },
    none: { kind: "flag", help: "show nothing" },
    validate: { kind: "flag", help: "check the data" },
  },
  params: [{ name: "WLOG", help: "wlog path, - for stdin", default: "-", isOptional: true }],
  async run({ args, tool, print, logError }) {
    const isAll = !args.flag("head") && !args.flag("pack") && !args.flag("stat") && !args.flag("none");
    const checkData = args.flag("validate");
    const fromLsid = args.lsid("b") ?? u64Max;
    const toLsid = args.lsid("e");
    let badData = 0;
    await withInput(tool.platform.disk, args.param(0), (input) =>
      showWlog(tool, input, {
        fromLsid,
        ...(toLsid === undefined ? {} : { toLsid }),
        checkData,
        lenient: true,
        concatenated: false,
        onHeader: (header) => {
          if (isAll || args.flag("head")) print(wlogHeaderLine(header));
        },
        onPack: ({ header, lsidBase, checksum }) => {
          if (isAll || args.flag("pack")) print(packLines(header, checksum, lsidBase));
        },
        onBadData: ({ header, lsidBase, badData: bad }, error) => {
          for (const { recordIndex, checksum } of bad) {
            if (error.what.includes(`record ${recordIndex} at`)) {
              logError(
                `NG:${recordLine(header, header.records[recordIndex]!, lsidBase)}:${checksum.toString(16).padStart(8, "0")}`,
              );
            }
          }
          badData += 1;
        },
        onEnd: (counts) => {
          if (isAll || args.flag("stat")) print(logCountLines(counts));
        },
      }),
    );
    // The original ends with 0 after bad data; a script that validates wants to know.
    return badData > 0 ? 1 : 0;
  },
});
