/** @module `walb log-device format LOG` */
import { WalbError } from "../../../errors.ts";
import { formatLogDevice } from "../../../log/format.ts";
import type { Superblock } from "../../../log/superblock.ts";
import { lbBytes } from "../../../units.ts";
import { asInt, asPath, asSize, asText, option, optionOr, toggle } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { blocksOf, tell, toolFlags } from "../common.ts";
import { superblockFields, superblockLines } from "../lib/log-text.ts";
import { partialBegins, partialEnds } from "../lib/partial.ts";
import { withFile } from "../lib/paths.ts";
import { type Tool, withTool } from "../lib/tool.ts";

export const verb = defineVerb({
  summary: "Makes an empty log on a block device or file",
  positionals: [{ name: "LOG", help: "block device, or file, of the log", isRequired: true }],
  flags: {
    data: option("PATH", "data device or file: the volume has its size", asPath, { isFromEnvironment: false }),
    size: option("SIZE", "size of the volume, without --data", asSize, { isFromEnvironment: false }),
    create: option("SIZE", "make the log as a new file of this size", asSize),
    name: optionOr("NAME", "name of the device, up to 31 bytes", asText, ""),
    "block-size": option("BYTES", "physical block size; default that of the device", asInt(512, 4096)),
    zero: toggle("also make everything in the log read as zeroes"),
    overwrite: toggle("write over what the device or file holds"),
    ...toolFlags,
  },
  examples: [
    "walb log-device format vol0.log --create 64M --data vol0.img --name vol0",
    "walb log-device format /dev/vg/vol0-log --data /dev/vg/vol0 --name vol0 --overwrite",
  ],
  async run({ flags, args, io }) {
    const path = args[0]!;
    const superblock = await withTool(io, "format", flags, async (tool) => {
      const deviceSizeLb = await volumeSizeLb(tool, flags.data, flags.size);
      if (flags.create === undefined && !flags.overwrite) await checkEmpty(tool, path);
      const format = (): Promise<Superblock> =>
        withFile(tool.platform.disk, path, "write", (file) =>
          formatLogDevice(
            file,
            {
              name: flags.name,
              pbsBytes: flags["block-size"] ?? file.physicalBlockBytes,
              deviceSizeLb,
              discard: flags.zero,
            },
            tool.platform,
          ),
        );
      return flags.create === undefined ? format() : inNewFile(tool, path, flags.create, format);
    });
    tell(flags, io, { log: path, ...superblockFields(superblock) }, superblockLines(superblock));
    return 0;
  },
});

async function volumeSizeLb(tool: Tool, data: string | undefined, size: number | undefined): Promise<number> {
  if ((data === undefined) === (size === undefined)) {
    throw new WalbError("usage", {
      what: "the size of the volume is needed: give --data or --size",
      where: { field: "size" },
    });
  }
  if (size !== undefined) return blocksOf(size, "size");
  const info = await tool.platform.disk.info(data!);
  if (info === undefined) throw new WalbError("not-found", { what: "it is not there", where: { file: data! } });
  return Math.floor(info.sizeBytes / lbBytes);
}

/** Makes a file for `work`, which is not left when that fails. */
async function inNewFile<R>(tool: Tool, path: string, sizeBytes: number, work: () => Promise<R>): Promise<R> {
  const { disk } = tool.platform;
  const file = await disk.open(path, { mode: "create" });
  partialBegins(path);
  try {
    try {
      await file.truncate(sizeBytes);
      await file.sync();
    } finally {
      await file.close();
    }
    return await work();
  } catch (error) {
    await disk.remove(path);
    throw error;
  } finally {
    partialEnds(path);
  }
}

/** @throws WalbError `already-exists` when the first blocks are not all zero. */
async function checkEmpty(tool: Tool, path: string): Promise<void> {
  const { disk, memory, compute } = tool.platform;
  const isEmpty = await withFile(disk, path, "read", async (file) => {
    const lease = await memory.lease(65536);
    try {
      const head = lease.slice(0, Math.min(65536, await file.size()));
      await file.read(0, head);
      return head.sizeBytes === 0 || compute.isZeroNow(head.bytes);
    } finally {
      lease.release();
    }
  });
  if (isEmpty) return;
  throw new WalbError("already-exists", {
    what: "it holds data",
    where: { file: path },
    hint: "add --overwrite to lose it and make a log there",
  });
}
