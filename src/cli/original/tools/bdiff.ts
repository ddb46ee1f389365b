/** @module `bdiff`: compares two images block by block. */
import { compareImages } from "../../../image/compare.ts";
import { withInput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "bdiff",
  description: "bdiff: compare two files or devices block by block",
  options: {
    b: { kind: "int", help: "block size", default: "512" },
    l: { kind: "int", help: "bytes in a line", default: "32" },
    d: { kind: "flag", help: "show where bytes differ" },
    v: { kind: "flag", help: "show the blocks that differ" },
  },
  params: [
    { name: "FILE1", help: "one" },
    { name: "FILE2", help: "the other" },
  ],
  async run({ args, tool, print }) {
    const lineBytes = Math.max(1, args.int("l"));
    const { disk } = tool.platform;
    const result = await withInput(disk, args.param(0), (a) =>
      withInput(disk, args.param(1), (b) =>
        compareImages(tool.platform, a, b, {
          blockBytes: args.int("b"),
          signal: tool.signal,
          onDifference: (block) => {
            if (!args.flag("v")) return;
            print(`block ${block.block} differ`);
            for (const line of hexLines(block.a, lineBytes)) print(line);
            print("---");
            for (const line of hexLines(block.b, lineBytes)) print(line);
            if (args.flag("d")) for (const line of mapLines(block.a, block.b, lineBytes)) print(line);
          },
        }),
      ),
    );
    print(`${result.differing}/${result.blocks} differs`);
    return result.differing === 0 ? 0 : 1;
  },
});

function hexLines(bytes: Uint8Array, lineBytes: number): string[] {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += lineBytes) lines.push(bytes.subarray(at, at + lineBytes).toHex());
  return lines;
}

function mapLines(a: Uint8Array, b: Uint8Array, lineBytes: number): string[] {
  const lines: string[] = [];
  for (let at = 0; at < Math.max(a.length, b.length); at += lineBytes) {
    let line = "";
    for (let i = at; i < Math.min(at + lineBytes, Math.max(a.length, b.length)); i += 1) {
      line += a[i] === b[i] ? "__" : "XX";
    }
    lines.push(line);
  }
  return lines;
}
