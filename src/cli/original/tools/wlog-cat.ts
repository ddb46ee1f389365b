/** @module `wlog-cat`: extracts the log of a log device. */
import { fileOutput } from "../../../log/wlogfile.ts";
import { u64Max } from "../../../units.ts";
import { exportLog } from "../../files/lib/log-device.ts";
import { openLogDevice, strayRemark } from "../../files/lib/log-range.ts";
import { withOutput } from "../../files/lib/paths.ts";
import { withReadable } from "../../files/lib/spooled.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-cat",
  description: "wlog-cat: extract a wlog from a log device",
  options: {
    o: { kind: "text", help: "output path, - for stdout", default: "-" },
    b: { kind: "int", help: "begin lsid", default: "0" },
    e: { kind: "int", help: "end lsid" },
    noaio: { kind: "flag", help: "accepted, without effect" },
    s: { kind: "flag", help: "do not shrink the last pack" },
    v: { kind: "flag", help: "verbose" },
    f: { kind: "flag", help: "accepted, without effect" },
  },
  params: [{ name: "LDEV", help: "log device" }],
  async run({ args, tool, printError, logError }) {
    const toLsid = args.lsid("e");
    const result = await withReadable(tool, args.param(0), async (file) => {
      const device = await openLogDevice(tool, file);
      return withOutput(tool.platform, args.text("o"), { overwrite: true }, (output) =>
        exportLog(tool, device, fileOutput(output), {
          fromLsid: args.lsid("b") ?? u64Max,
          ...(toLsid === undefined ? {} : { toLsid }),
          noShrink: args.flag("s"),
        }),
      );
    });
    const { endLsid, strayLsid } = result;
    if (strayLsid !== undefined) logError(strayRemark(args.param(0), endLsid, strayLsid));
    if (args.flag("v")) printError(`lsid range [${result.beginLsid}, ${result.endLsid}) packs ${result.packs}`);
    return 0;
  },
});
