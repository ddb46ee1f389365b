/** @module `wlog-restore`: writes a wlog from standard input into a log device. */

import { u64Max } from "../../../units.ts";
import { openLogDevice } from "../../files/lib/log-range.ts";
import { restoreWlog } from "../../files/lib/log-restore.ts";
import { lsidText, packLine } from "../../files/lib/log-text.ts";
import { withFile } from "../../files/lib/paths.ts";
import { withRereadable } from "../../files/lib/spooled.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-restore",
  description: "wlog-restore: restore a wlog from stdin to a log device",
  options: {
    b: { kind: "int", help: "begin lsid", default: "0" },
    e: { kind: "int", help: "end lsid" },
    d: { kind: "int", help: "lsid difference", default: "0" },
    i: { kind: "int", help: "lsid to make invalid" },
    s: { kind: "int", help: "size of the volume in bytes; 0: that of the superblock", default: "0" },
    verify: { kind: "flag", help: "read back what was written" },
    v: { kind: "flag", help: "verbose" },
  },
  params: [{ name: "LDEV", help: "log device" }],
  async run({ args, tool, print }) {
    const fromLsid = args.lsid("b") ?? u64Max;
    const toLsid = args.lsid("e");
    const invalidLsid = args.lsid("i");
    const sizeBytes = args.int("s");
    const shiftLsid = args.bigint("d");
    print(`Try to restore lsid range [${fromLsid}, ${lsidText(toLsid)})`);
    const restored = await withRereadable(tool, "-", (input) =>
      withFile(tool.platform.disk, args.param(0), "write", async (file) =>
        restoreWlog(tool, input, await openLogDevice(tool, file), {
          fromLsid,
          ...(toLsid === undefined ? {} : { toLsid }),
          shiftLsid,
          ...(invalidLsid === undefined ? {} : { invalidLsid }),
          ...(sizeBytes === 0 ? {} : { deviceSizeLb: Math.floor(sizeBytes / 512) }),
          verify: args.flag("verify"),
          lenient: true,
          onPack: (header, lsidBase) => {
            if (args.flag("v")) print(packLine(header, 0, lsidBase));
          },
        }),
      ),
    );
    const { wlogBeginLsid, wlogEndLsid, beginLsid, endLsid, shiftStart, shiftEnd } = restored;
    if (shiftStart !== 0n) print(`Lsid map ${wlogBeginLsid} to ${beginLsid} (diff ${shiftStart})`);
    print(`Restored lsid range [${beginLsid}, ${endLsid}]`);
    print(`Wlog lsid range [${wlogBeginLsid}, ${wlogEndLsid}]`);
    print(`Lsid diff start ${shiftStart} end ${shiftEnd}`);
    return 0;
  },
});
