/** @module `wdiff-redo`: applies a wdiff to a device. */
import type { DiffStats } from "../../../diff/types.ts";
import { redoDiff } from "../../files/lib/diff-ops.ts";
import { withFile } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wdiff-redo",
  description: "wdiff-redo: apply a wdiff to a device",
  options: {
    i: { kind: "text", help: "wdiff path, - for stdin", default: "-" },
    d: { kind: "flag", help: "issue discards for discard records" },
    z: { kind: "flag", help: "write zeroes for discard records" },
    v: { kind: "flag", help: "accepted, without effect" },
  },
  params: [{ name: "DEVICE", help: "device or file to write" }],
  async run({ args, tool, print }) {
    const discard = args.flag("z") ? "zero" : args.flag("d") ? "passdown" : "ignore";
    const { input, output } = await withFile(tool.platform.disk, args.param(0), "write", (image) =>
      redoDiff(tool, args.text("i"), image, {
        discard,
        onIgnored: (addressLb, blocksLb) => print(`Failed to redo: ${addressLb} ${blocksLb} Discard`),
      }),
    );
    print(`Input statistics:\n${ioLines(input)}`);
    print(`Output statistics:\n${ioLines(output)}`);
    return 0;
  },
});

function ioLines(stats: DiffStats): string {
  const { normalRecords, discardRecords, zeroRecords } = stats;
  return [
    `nIoTotal:     ${normalRecords + discardRecords + zeroRecords}`,
    `  nIoNormal:  ${normalRecords}`,
    `  nIoDiscard: ${discardRecords}`,
    `  nIoAllZero: ${zeroRecords}`,
    `nBlocks:      ${stats.normalLb + stats.discardLb + stats.zeroLb}`,
  ].join("\n");
}
