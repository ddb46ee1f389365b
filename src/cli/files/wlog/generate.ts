/** @module `walb wlog generate` */
import { generateWlog } from "../../../log/generate.ts";
import { innerLsid, lsidBaseOf } from "../../../log/lsid.ts";
import { fileOutput } from "../../../log/wlogfile.ts";
import { asChoice, asInt, asSize, option, optionOr, toggle } from "../../flags.ts";
import { formatSize } from "../../text/size.ts";
import { defineVerb } from "../../verb.ts";
import { asLsid, outputFlags, tell, tellingFlags, toolFlags } from "../common.ts";
import { withOutput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

const plain = { isFromEnvironment: false } as const;

const flagOfField = {
  deviceBytes: "size",
  pbsBytes: "block-size",
  minIoBytes: "min-io",
  maxIoBytes: "max-io",
  minDiscardBytes: "min-discard",
  maxDiscardBytes: "max-discard",
  maxPackBytes: "max-pack",
  logBytes: "log-size",
  beginLsid: "lsid",
};

export const verb = defineVerb({
  summary: "Makes a wlog of random writes and discards, for tests and benchmarks",
  description: "The same options and seed give the same bytes.",
  flags: {
    seed: option("NUMBER", "seed; default random, and told", asInt(0, Number.MAX_SAFE_INTEGER)),
    size: optionOr("SIZE", "size of the volume", asSize, "16M", plain),
    "log-size": optionOr("SIZE", "size of the wlog, about", asSize, "1M"),
    "block-size": optionOr("BYTES", "physical block size: 512, 1024, 2048 or 4096", asInt(512, 4096), "512", plain),
    "min-io": optionOr("SIZE", "smallest write", asSize, "512"),
    "max-io": optionOr("SIZE", "largest write", asSize, "32K"),
    "min-discard": optionOr("SIZE", "smallest discard", asSize, "512"),
    "max-discard": optionOr("SIZE", "largest discard", asSize, "64M"),
    "max-pack": optionOr("SIZE", "largest pack", asSize, "16M"),
    lsid: optionOr("LSID", "lsid of the first pack", asLsid, "0"),
    content: optionOr("KIND", "data: sparse, random or half", asChoice(["sparse", "random", "half"]), "sparse"),
    order: optionOr("KIND", "writes: random or sequential", asChoice(["random", "sequential"]), "random"),
    "without-padding": toggle("no padding records"),
    "without-discard": toggle("no discards"),
    "without-zeroes": toggle("no writes of zeroes"),
    ...outputFlags,
    ...toolFlags,
  },
  examples: ["walb wlog generate --seed 1 --log-size 1G --output test.wlog"],
  async run({ flags, io }) {
    const result = await withTool(io, "generate", flags, async (tool) => {
      const { platform } = tool;
      const seed = flags.seed ?? platform.random.u32();
      const options = {
        deviceBytes: flags.size,
        pbsBytes: flags["block-size"],
        minIoBytes: flags["min-io"],
        maxIoBytes: flags["max-io"],
        minDiscardBytes: flags["min-discard"],
        maxDiscardBytes: flags["max-discard"],
        maxPackBytes: flags["max-pack"],
        logBytes: flags["log-size"],
        beginLsid: innerLsid(flags.lsid, lsidBaseOf(flags.lsid)),
        lsidBase: lsidBaseOf(flags.lsid),
        padding: !flags["without-padding"],
        discard: !flags["without-discard"],
        allZero: !flags["without-zeroes"],
        content: flags.content,
        order: flags.order,
      };
      const wlog = await tellingFlags(flagOfField, () =>
        withOutput(platform, flags.output, flags, (output) =>
          generateWlog(fileOutput(output), platform.memory, options, seed, {
            signal: tool.signal,
            onProgress: (doneBytes) => tool.progress(doneBytes, flags["log-size"]),
          }),
        ),
      );
      return { seed, ...wlog };
    });
    const text = `generated ${formatSize(result.sizeBytes)}: ${result.packs} packs, ${result.records} records, seed ${result.seed}`;
    tell(flags, io, { output: flags.output, ...result }, text);
    return 0;
  },
});
