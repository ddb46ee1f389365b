/** @module `verify_wldev`: looks up the writes of a recipe in a log device. */

import { u64Max } from "../../../units.ts";
import { checkLogDevice } from "../../files/lib/log-device.ts";
import { openLogDevice, toldLsid } from "../../files/lib/log-range.ts";
import { withInput } from "../../files/lib/paths.ts";
import { withReadable } from "../../files/lib/spooled.ts";
import { parseRecipe, RecipeCheck } from "../recipe.ts";
import { readText } from "../text.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "verify_wldev",
  description: "verify_wldev: check that a log device holds the IOs of a recipe",
  options: {
    b: { kind: "int", help: "begin lsid", default: "0" },
    e: { kind: "int", help: "end lsid" },
    r: { kind: "text", help: "recipe path, - for stdin", default: "-" },
    noaio: { kind: "flag", help: "accepted, without effect" },
  },
  params: [{ name: "WLDEV", help: "log device" }],
  async run({ args, tool, print }) {
    const { disk } = tool.platform;
    const fromLsid = args.lsid("b") ?? u64Max;
    const toLsid = args.lsid("e") ?? u64Max;
    const text = await withInput(disk, args.text("r"), (input) => readText(tool.platform, input));
    const check = new RecipeCheck(parseRecipe(text, args.text("r")), (bad) => print(`NG ${bad}`));
    await withReadable(tool, args.param(0), async (file) => {
      const device = await openLogDevice(tool, file);
      await checkLogDevice(tool, device, (header) => {
        const lsid = toldLsid(device, header.lsid);
        if (lsid >= fromLsid && lsid < toLsid) check.add(header, device.superblock.salt, device.superblock.lsidBase);
      });
    });
    check.end();
    return check.bad === 0 ? 0 : 1;
  },
});
