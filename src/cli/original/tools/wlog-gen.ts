/** @module `wlog-gen`: generates a wlog with random content. */
import { generateWlog } from "../../../log/generate.ts";
import { innerLsid, lsidBaseOf } from "../../../log/lsid.ts";
import { fileOutput } from "../../../log/wlogfile.ts";
import { withOutput } from "../../files/lib/paths.ts";
import { parseOriginalInt } from "../options.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-gen",
  description: "wlog-gen: generate a random wlog",
  options: {
    s: { kind: "int", help: "device size", default: "16M" },
    minIoSize: { kind: "int", help: "minimum IO size", default: "512" },
    maxIoSize: { kind: "int", help: "maximum IO size", default: "32K" },
    minDiscardSize: { kind: "int", help: "minimum discard size", default: "512" },
    maxDiscardSize: { kind: "int", help: "maximum discard size", default: "64M" },
    b: { kind: "int", help: "physical block size", default: "512" },
    maxPackSize: { kind: "int", help: "maximum pack size", default: "16M" },
    z: { kind: "int", help: "log size", default: "1M" },
    lsid: { kind: "int", help: "lsid of the first pack", default: "0" },
    nopadding: { kind: "flag", help: "no padding" },
    nodiscard: { kind: "flag", help: "no discards" },
    noallzero: { kind: "flag", help: "no IOs of zeroes" },
    rand: { kind: "flag", help: "fill data with random bytes" },
    o: { kind: "text", help: "output path, - for stdout", default: "-" },
  },
  params: [],
  async run({ args, tool, io }) {
    const { WALB_SEED } = io.env;
    const seed =
      WALB_SEED === undefined ? tool.platform.random.u32() : Number(parseOriginalInt(WALB_SEED, "WALB_SEED"));
    const deviceBytes = args.int("s");
    const beginLsid = args.bigint("lsid");
    await withOutput(tool.platform, args.text("o"), { overwrite: true }, (output) =>
      generateWlog(
        fileOutput(output),
        tool.platform.memory,
        {
          deviceBytes,
          pbsBytes: args.int("b"),
          minIoBytes: args.int("minIoSize"),
          maxIoBytes: args.int("maxIoSize"),
          minDiscardBytes: args.int("minDiscardSize"),
          maxDiscardBytes: args.int("maxDiscardSize"),
          maxPackBytes: args.int("maxPackSize"),
          logBytes: args.int("z"),
          beginLsid: innerLsid(beginLsid, lsidBaseOf(beginLsid)),
          lsidBase: lsidBaseOf(beginLsid),
          padding: !args.flag("nopadding"),
          discard: !args.flag("nodiscard"),
          allZero: !args.flag("noallzero"),
          content: args.flag("rand") ? "random" : "sparse",
        },
        seed,
        { signal: tool.signal },
      ),
    );
    return 0;
  },
});
