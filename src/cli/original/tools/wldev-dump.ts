/** @module `wldev-dump`: the raw blocks of a range of lsids. */
import { fileOutput } from "../../../log/wlogfile.ts";
import { openLogDevice } from "../../files/lib/log-range.ts";
import { dumpLog } from "../../files/lib/log-search.ts";
import { withOutput } from "../../files/lib/paths.ts";
import { withReadable } from "../../files/lib/spooled.ts";
import { parseOriginalInt } from "../options.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wldev-dump",
  description: "wldev-dump: dump a range of lsids of a log device as it is",
  options: {
    o: { kind: "text", help: "output path, - for stdout", default: "-" },
    noaio: { kind: "flag", help: "accepted, without effect" },
  },
  params: [
    { name: "LDEV", help: "log device" },
    { name: "BGN", help: "begin lsid" },
    { name: "END", help: "end lsid" },
  ],
  async run({ args, tool }) {
    const range = {
      fromLsid: parseOriginalInt(args.param(1), "BGN"),
      toLsid: parseOriginalInt(args.param(2), "END"),
    };
    await withReadable(tool, args.param(0), async (file) => {
      const device = await openLogDevice(tool, file);
      await withOutput(tool.platform, args.text("o"), { overwrite: true }, (output) => {
        const out = fileOutput(output);
        return dumpLog(tool, device, range, (blocks) => out.write([blocks]));
      });
    });
    return 0;
  },
});
