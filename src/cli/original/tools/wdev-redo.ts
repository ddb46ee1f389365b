/** @module `wdev-redo`: brings a data device up to the end of its log device. */
import { redoLog } from "../../../log/redo.ts";
import { openLogDevice, toldLsid } from "../../files/lib/log-range.ts";
import { withFile } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wdev-redo",
  description: "wdev-redo: replay a log device on its data device; discarded ranges become zero",
  options: {
    d: { kind: "flag", help: "accepted: discards are always replayed" },
    z: { kind: "flag", help: "accepted: discards are always replayed" },
    noaio: { kind: "flag", help: "accepted, without effect" },
    v: { kind: "flag", help: "verbose" },
  },
  params: [
    { name: "LDEV", help: "log device" },
    { name: "DDEV", help: "data device" },
  ],
  async run({ args, tool, print }) {
    const { disk, memory, compute } = tool.platform;
    await withFile(disk, args.param(0), "write", (log) =>
      withFile(disk, args.param(1), "write", async (data) => {
        const device = await openLogDevice(tool, log);
        const { superblock } = device;
        const result = await redoLog({ log, data, superblock, pool: memory, compute });
        const [from, to] = [superblock.writtenLsid, result.superblock.writtenLsid];
        print(`Applied lsid range [${toldLsid(device, from)}, ${toldLsid(device, to)})`);
        if (args.flag("v")) print(`nrPacks ${result.packCount}`);
        print(`isShrinked ${result.isShrunk ? 1 : 0}`);
      }),
    );
    return 0;
  },
});
