/** @module `wdiff-full`: makes a wdiff of a full image. */
import { diffFromImage } from "../../../diff/from-image.ts";
import { withInput, withOutput } from "../../files/lib/paths.ts";
import { carvedIo } from "../../files/lib/tool.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wdiff-full",
  description: "wdiff-full: convert a full image to a wdiff",
  options: {
    i: { kind: "text", help: "image path, - for stdin", default: "-" },
    o: { kind: "text", help: "output path, - for stdout", default: "-" },
    ios: { kind: "int", help: "size of an IO", default: "64K" },
    indexed: { kind: "flag", help: "make an indexed wdiff" },
  },
  params: [],
  async run({ args, tool }) {
    await withInput(tool.platform.disk, args.text("i"), (input) =>
      withOutput(tool.platform, args.text("o"), { overwrite: true }, (output) =>
        diffFromImage(carvedIo(tool.platform), tool.platform.memory, input, output, {
          kind: args.flag("indexed") ? "indexed" : "sorted",
          ioLb: Math.floor(args.int("ios") / 512),
          signal: tool.signal,
        }),
      ),
    );
    return 0;
  },
});
