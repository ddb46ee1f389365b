/** @module `walb image diff A B` */
import { exitCodes } from "../../../errors.ts";
import { compareImages } from "../../../image/compare.ts";
import { asSize, optionOr, toggle } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { tellingFlags, toolFlags, withLines } from "../common.ts";
import { withInput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

const plain = { isFromEnvironment: false } as const;

export const verb = defineVerb({
  summary: "Compares two images block by block",
  positionals: [
    { name: "A", help: "file or block device, - for standard input", isRequired: true },
    { name: "B", help: "the other", isRequired: true },
  ],
  flags: {
    "block-size": optionOr("SIZE", "compare in blocks of this size", asSize, "512", plain),
    blocks: toggle("every block that differs"),
    ...toolFlags,
  },
  examples: ["walb image diff vol0.img restored.img", "walb image diff a.img b.img --blocks"],
  exits: { 1: "they differ" },
  async run({ flags, args, io }) {
    const result = await withTool(io, "diff", flags, (tool) =>
      withLines(io, flags.json, (lines) =>
        withInput(tool.platform.disk, args[0]!, (a) =>
          withInput(tool.platform.disk, args[1]!, async (b) => {
            const compared = await tellingFlags({ blockBytes: "block-size" }, () =>
              compareImages(tool.platform, a, b, {
                blockBytes: flags["block-size"],
                signal: tool.signal,
                onProgress: (doneBytes) => tool.progress(doneBytes, a.sizeBytes),
                onDifference: ({ block }) => {
                  if (flags.blocks) lines.line({ type: "block", block }, () => `block ${block} differs`);
                },
              }),
            );
            const { differing, blocks } = compared;
            const text = differing === 0 ? `equal: ${blocks} blocks` : `${differing} of ${blocks} blocks differ`;
            lines.line({ type: "result", ...compared }, () => text);
            return compared;
          }),
        ),
      ),
    );
    return result.differing === 0 ? exitCodes.done : exitCodes.failed;
  },
});
