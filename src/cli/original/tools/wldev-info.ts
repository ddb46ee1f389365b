/** @module `wldev-info`: prints the superblock of a log device. */
import { openLogDevice } from "../../files/lib/log-range.ts";
import { superblockLines } from "../../files/lib/log-text.ts";
import { withReadable } from "../../files/lib/spooled.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wldev-info",
  description: "wldev-info: show the superblock of a log device",
  options: { v: { kind: "flag", help: "accepted, without effect" } },
  params: [{ name: "LDEV", help: "log device" }],
  async run({ args, tool, print }) {
    await withReadable(tool, args.param(0), async (file) => {
      print(superblockLines((await openLogDevice(tool, file)).superblock));
    });
    return 0;
  },
});
