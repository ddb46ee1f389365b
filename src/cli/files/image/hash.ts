/** @module `walb image hash [PATH]` */
import { blockHash, limitInput, skipInput, toolHashes } from "../../../image/hash.ts";
import { lbBytes } from "../../../units.ts";
import { asChoice, asSize, option, optionOr } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { tellingFlags, toolFlags, withLines } from "../common.ts";
import { withInput } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";

const plain = { isFromEnvironment: false } as const;

export const verb = defineVerb({
  summary: "Hashes an image",
  description:
    "stream: one running hash of all, or of every --chunk. blocks: the hash the archive gives for a snapshot, which depends on --block-size.",
  positionals: [{ name: "PATH", help: "file or block device, - for standard input (default)" }],
  flags: {
    kind: optionOr("KIND", "stream or blocks", asChoice(["stream", "blocks"]), "stream"),
    "block-size": optionOr("SIZE", "size of the blocks of kind blocks, up to 4M", asSize, "64K", plain),
    chunk: optionOr("SIZE", "a hash of every piece of this size; 0: of all", asSize, "0"),
    offset: optionOr("SIZE", "begin here", asSize, "0"),
    size: option("SIZE", "only this much", asSize, plain),
    ...toolFlags,
  },
  examples: [
    "walb image hash vol0.img",
    "walb image hash /dev/vg/vol0 --chunk 1G",
    "walb image hash vol0.img --kind blocks",
  ],
  async run({ flags, args, io }) {
    const path = args[0] ?? "-";
    const isPipe = path === "-";
    await withTool(io, "hash", flags, (tool) =>
      withLines(io, flags.json, (lines) =>
        withInput(
          tool.platform.disk,
          path,
          async (input) => {
            const { platform, signal } = tool;
            if (isPipe && flags.offset > 0) await skipInput(platform, input, flags.offset);
            const limited = flags.size === undefined ? input : limitInput(input, flags.size);
            const onProgress = (doneBytes: number): void => tool.progress(doneBytes, flags.size ?? input.sizeBytes);
            if (flags.kind === "blocks") {
              const hash = await tellingFlags({ bulkBytes: "block-size" }, () =>
                blockHash(platform, limited, flags["block-size"], { signal, onProgress }),
              );
              lines.line({ hash, blockBytes: flags["block-size"] }, () => hash);
              return;
            }
            for await (const piece of toolHashes(platform, limited, flags.chunk, { signal, onProgress })) {
              const startBytes = flags.offset + piece.startBytes;
              const at = Math.floor(startBytes / lbBytes)
                .toString(16)
                .padStart(16, "0");
              lines.line({ ...piece, startBytes }, () => (flags.chunk === 0 ? piece.hash : `${at}\t${piece.hash}`));
            }
          },
          isPipe ? 0 : flags.offset,
        ),
      ),
    );
    return 0;
  },
});
