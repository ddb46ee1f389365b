/** @module `search-invalid-logpack`: goes through a log device and tells every pack that is bad. */
import { openLogDevice } from "../../files/lib/log-range.ts";
import { damageText, searchDamage } from "../../files/lib/log-search.ts";
import { withReadable } from "../../files/lib/spooled.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "search-invalid-logpack",
  description: "search-invalid-logpack: find invalid log packs in a log device",
  options: {
    bgn: { kind: "int", help: "begin lsid", default: "0" },
    end: { kind: "int", help: "end lsid" },
    f: { kind: "flag", help: "accepted, without effect" },
    head: { kind: "flag", help: "only headers" },
  },
  params: [{ name: "WLDEV", help: "log device" }],
  async run({ args, tool, print }) {
    const toLsid = args.lsid("end");
    const range = { fromLsid: args.bigint("bgn"), ...(toLsid === undefined ? {} : { toLsid }) };
    const found = await withReadable(tool, args.param(0), async (file) =>
      searchDamage(tool, await openLogDevice(tool, file), range, (damage) => {
        if (damage.kind === "header" || !args.flag("head")) print(damageText(damage));
      }),
    );
    print(`nrPacks ${found.packs} nrInvalid ${found.damaged} lsid [${found.fromLsid}, ${found.limitLsid})`);
    return 0;
  },
});
