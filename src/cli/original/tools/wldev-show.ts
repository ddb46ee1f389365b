/** @module `wldev-show`: prints the packs of a log device. */
import { innerLsid } from "../../../log/lsid.ts";
import { u64Max } from "../../../units.ts";
import { showLogDevice } from "../../files/lib/log-device.ts";
import { openLogDevice, strayRemark, toldLsid } from "../../files/lib/log-range.ts";
import { logCountLines, packLines, superblockLines, wlogHeaderLine } from "../../files/lib/log-text.ts";
import { withReadable } from "../../files/lib/spooled.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wldev-show",
  description: "wldev-show: show the log packs of a log device",
  options: {
    b: { kind: "int", help: "begin lsid", default: "0" },
    e: { kind: "int", help: "end lsid" },
    super: { kind: "flag", help: "show the superblock" },
    head: { kind: "flag", help: "show the header" },
    pack: { kind: "flag", help: "show the packs" },
    stat: { kind: "flag", help: "show the statistics" },
    noaio: { kind: "flag", help: "accepted, without effect" },
    f: { kind: "flag", help: "accepted, without effect" },
    search: { kind: "flag", help: "show only packs with records that meet -addr and -iosize" },
    addr: { kind: "int", help: "address in blocks", default: "0" },
    iosize: { kind: "int", help: "number of blocks", default: "1" },
  },
  params: [{ name: "WLDEV", help: "log device" }],
  async run({ args, tool, print, logError }) {
    const isAll = !args.flag("super") && !args.flag("head") && !args.flag("pack") && !args.flag("stat");
    const addressLb = args.int("addr");
    const endLb = addressLb + args.int("iosize");
    const toLsid = args.lsid("e");
    await withReadable(tool, args.param(0), async (file) => {
      const device = await openLogDevice(tool, file);
      const { superblock } = device;
      if (args.flag("super")) print(superblockLines(superblock));
      const { lsidBase = 0n } = superblock;
      const beginLsid = Math.max(innerLsid(args.lsid("b") ?? u64Max, lsidBase), superblock.oldestLsid);
      if (isAll || args.flag("head")) print(wlogHeaderLine({ ...superblock, beginLsid, endLsid: toLsid }));
      const range = { fromLsid: toldLsid(device, beginLsid), ...(toLsid === undefined ? {} : { toLsid }) };
      const { counts, damage, strayLsid } = await showLogDevice(tool, device, range, (header, checksum) => {
        if (!isAll && !args.flag("pack")) return;
        const isMet = header.records.some(
          ({ kind, offsetLb, sizeLb }) => kind !== "padding" && offsetLb < endLb && addressLb < offsetLb + sizeLb,
        );
        if (!args.flag("search") || isMet) print(packLines(header, checksum, lsidBase));
      });
      if (isAll || args.flag("stat")) print(logCountLines(counts));
      if (damage !== undefined) throw damage;
      if (strayLsid !== undefined) logError(strayRemark(args.param(0), counts.reallyEndLsid, strayLsid));
    });
    return 0;
  },
});
