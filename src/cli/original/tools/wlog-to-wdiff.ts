/** @module `wlog-to-wdiff`: converts wlogs to a wdiff. */
import { defaultCompress } from "../../../diff/types.ts";
import { convertWlog } from "../../files/lib/log-convert.ts";
import { withInput, withOutput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-to-wdiff",
  description: "wlog-to-wdiff: convert wlogs to a wdiff",
  options: {
    i: { kind: "text", help: "wlog path, - for stdin", default: "-" },
    o: { kind: "text", help: "wdiff path, - for stdout", default: "-" },
    x: { kind: "int", help: "max IO size in bytes, 0 for no limit", default: "1M" },
    indexed: { kind: "flag", help: "make an indexed wdiff" },
  },
  params: [],
  async run({ args, tool, printError }) {
    const converted = await withInput(tool.platform.disk, args.text("i"), (input) =>
      withOutput(tool.platform, args.text("o"), { overwrite: true }, (output) =>
        convertWlog(tool, input, output, {
          kind: args.flag("indexed") ? "indexed" : "sorted",
          maxIoLb: Math.floor(args.int("x") / 512),
          compress: defaultCompress,
          lenient: true,
          allowEmpty: true,
        }),
      ),
    );
    if (converted.uuid !== undefined) printError(`converted until lsid ${converted.endLsid}`);
    return 0;
  },
});
