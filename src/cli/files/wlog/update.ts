/** @module `walb wlog update FILE` */
import { wholeLsid } from "../../../log/lsid.ts";
import { asInt, option } from "../../flags.ts";
import { defineVerb } from "../../verb.ts";
import { asLsid, asUuid, tell, toolFlags } from "../common.ts";
import { wlogHeaderLine } from "../lib/log-text.ts";
import { withFile } from "../lib/paths.ts";
import { withTool } from "../lib/tool.ts";
import { updateWlog } from "../lib/wlog-update.ts";

const plain = { isFromEnvironment: false } as const;

export const verb = defineVerb({
  summary: "Changes the header of a wlog file; its packs stay as they are",
  description: "For repair and tests: packs are checked with the salt of the header, and must begin where it says.",
  positionals: [{ name: "FILE", help: "wlog file", isRequired: true }],
  flags: {
    begin: option("LSID", "lsid of the first pack", asLsid, plain),
    end: option("LSID", "lsid at which it may end at the latest", asLsid, plain),
    salt: option("NUMBER", "salt of the checksums", asInt(0, 0xffff_ffff), plain),
    uuid: option("UUID", "uuid of the log device", asUuid, plain),
    ...toolFlags,
  },
  examples: ["walb wlog update vol0.wlog --uuid 0123456789abcdef0123456789abcdef"],
  exits: { 5: "damaged" },
  async run({ flags, args, io }) {
    const { lsidBase, ...header } = await withTool(io, "update", flags, (tool) =>
      withFile(tool.platform.disk, args[0]!, "write", (file) =>
        updateWlog(tool, file, {
          ...(flags.begin === undefined ? {} : { beginLsid: flags.begin }),
          ...(flags.end === undefined ? {} : { endLsid: flags.end }),
          ...(flags.salt === undefined ? {} : { salt: flags.salt }),
          ...(flags.uuid === undefined ? {} : { uuid: flags.uuid }),
        }),
      ),
    );
    const told = { file: args[0], ...header, beginLsid: wholeLsid(header.beginLsid, lsidBase) };
    tell(flags, io, told, wlogHeaderLine({ ...header, ...(lsidBase === undefined ? {} : { lsidBase }) }));
    return 0;
  },
});
